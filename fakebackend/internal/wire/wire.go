// Package wire is the way into a fake account for the packages that serve it over a protocol, fakeaws and fakegateway. What
// they need of the account is no user's, so it is no part of package fakebackend's API.
//
// A Backend of package fakebackend embeds a [Hook]. The hook's one method is not exported, so nobody sees it, and yet a
// Backend has it; [Of] asks for it. So there is no registration and no variable that somebody else could set.
package wire

import (
	"context"
	"io"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

// Account is a fake account as a server of a protocol sees it. It is safe for concurrent use.
type Account interface {
	// Operations are the operations of AWS IoT, sorted by name.
	Operations() []*restjson.Operation
	// Router finds the operation of AWS IoT that a request names.
	Router() *restjson.Router
	// Do does an operation of AWS IoT: the faults set for it, the constraints of its input, then what it does. The input
	// and the members that are present and empty are those that the operation's Decode returned. The errors are those of
	// Request.
	Do(ctx context.Context, o *restjson.Operation, in any, empty restjson.Empty) (out any, err error)
	// Services returns the account's other services, as they are now.
	Services() Services
	// Request applies the faults to a request that the server answers itself, such as PutObject or CreateRole. The
	// error is the *task.Error to answer with, or wraps task.ErrOutcomeUnknown when the connection is to be dropped, or
	// the context's cause.
	Request(ctx context.Context, operation, thing string) (Strike, error)
	// OpenReport returns a report file by its bucket and key, as it is now, and false when there is no such file. The
	// caller checks the signature of the link.
	OpenReport(ctx context.Context, bucket, key string) (io.ReadSeeker, bool, error)
	// Pass moves a clock that is stopped by d, and reports whether it is stopped.
	Pass(d time.Duration) bool

	Devices
}

// Services are the services of an account beside AWS IoT.
type Services struct {
	IAM   *iam.Store
	S3    *s3.Store
	Links *s3.Signer // signs and checks report links
	Now   time.Time  // the fake's time
}

// Strike is what a fault leaves to be done about a request that was let through.
type Strike struct {
	DropAfter bool  // lose the answer once the request has had its effect
	Expire    bool  // refuse the link as expired
	Truncate  int64 // end the body after so many bytes of the object; -1 for not at all
}

// ExistingResource is the cause inside a ResourceAlreadyExistsException that names the resource in the way, which AWS
// adds to its answer. Find it with errors.As.
type ExistingResource struct {
	ID  string // the resource's id or name
	ARN string
}

// Error names the resource.
func (e *ExistingResource) Error() string { return "the resource is " + e.ARN }

// Hook is what a Backend embeds to be found by [Of].
type Hook struct{ account Account }

// NewHook returns the hook of an account.
func NewHook(a Account) Hook { return Hook{a} }

func (h Hook) inner() Account { return h.account }

// Of returns the account behind a *fakebackend.Backend.
func Of(backend interface{ inner() Account }) Account { return backend.inner() }
