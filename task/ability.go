package task

import (
	"context"
	"iter"
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
)

// Unwrapper is implemented by a Backend that wraps another one, so that [As] can find the abilities of the inner one.
type Unwrapper interface {
	Unwrap() Backend
}

// As finds an optional ability of a backend: the backend itself if it has type T, else the nearest one it wraps.
//
//	if who, ok := task.As[task.Identifier](backend); ok { … }
func As[T any](b Backend) (T, bool) {
	for b != nil {
		if t, ok := b.(T); ok {
			return t, true
		}
		u, ok := b.(Unwrapper)
		if !ok {
			break
		}
		b = u.Unwrap()
	}
	var zero T
	return zero, false
}

// Identity is the account a backend works in.
type Identity struct {
	Partition string // aws, aws-cn, aws-us-gov, aws-eusc, aws-iso or aws-iso-b, -e, -f
	Account   string // 12 digits
	Region    string // such as eu-central-1
	Fake      bool   // true when no real certificate comes from here
}

// Identifier is the ability to name the account: AWS's GetCallerIdentity.
type Identifier interface {
	// Identity returns account, region and partition. It must have those of the ARNs that the backend's tasks report.
	Identity(ctx context.Context) (*Identity, error)
}

// Notifier is the ability to report what a backend tries again by itself, so that a service that cannot be reached is
// noticed at once, and not only when all attempts have failed.
type Notifier interface {
	// Notify calls f after each request that got no answer: a refused connection, a time-out, a connection that broke. host
	// is where it was sent, and err has no part of a presigned link. f is called from the goroutine of the request, by
	// several at once, until stop is called; a call in progress may end after that. Other callers' f are called, too.
	Notify(f func(host string, err error)) (stop func())
}

// Endpointer is the ability to name the host that devices connect to: AWS's DescribeEndpoint for iot:Data-ATS.
type Endpointer interface {
	// DataEndpoint returns the host. The answer must be a host name without scheme, port and path.
	DataEndpoint(ctx context.Context) (string, error)
}

// RootLister is the ability to name the certificate authorities that devices trust where they connect: those that AWS
// lists as "CA certificates for server authentication".
type RootLister interface {
	// RootCAs returns the root certificates, the one to try first at the beginning. endpoint is what
	// [Endpointer].DataEndpoint has returned. The answer must be CA certificates in PEM and nothing else. It is empty if the
	// backend does not know which hold for this endpoint.
	RootCAs(ctx context.Context, endpoint string) (pem []byte, err error)
}

// RegisterInput is one device for [Registrar].
type RegisterInput struct {
	TemplateBody string            // the same template a task takes
	Parameters   map[string]string // a value for each of its parameters
}

// Registration is what the service made of one device.
type Registration struct {
	CertificatePEM string
	ARNs           ARNs
}

// Registrar is the ability to register a single device without a task: AWS's RegisterThing.
type Registrar interface {
	// RegisterThing registers the device and returns its certificate. The certificate returned must be for the key of
	// the request. As with StartTask, a request must be sent at most once, an explicit throttle apart, and an error
	// that is not [Refused] leaves its effect open.
	RegisterThing(ctx context.Context, in *RegisterInput) (*Registration, error)
}

// Device is a thing as the account holds it.
type Device struct {
	ThingName     string
	ThingARN      string
	ThingTypeName string
	Attributes    map[string]string
	BillingGroup  string
	ThingGroups   []string
	Certificates  []Certificate // every certificate attached to the thing
}

// Certificate is a device certificate as the account holds it.
type Certificate struct {
	ID       string // lower-case hex SHA-256 of the certificate's DER
	ARN      string
	PEM      string
	Status   string // ACTIVE, INACTIVE, REVOKED, …
	Created  time.Time
	Policies []string // names of the policies attached to it
}

// DeviceReader is the ability to read one thing back with its certificates: AWS's DescribeThing, ListThingPrincipals
// and DescribeCertificate.
type DeviceReader interface {
	// ReadDevice returns the thing as it is now. It must return [ErrNotFound] when there is no such thing, and
	// otherwise every certificate attached to it, with its policies and the PEM that its registration reported.
	ReadDevice(ctx context.Context, thingName string) (*Device, error)
}

// ThingFinder is the ability to ask whether a thing exists, in one request: AWS's DescribeThing, of which it takes 350 a
// second by default. A run asks for each device before it sends it.
type ThingFinder interface {
	// HasThing reports whether the account has a thing of this name. It must return an error, and never false, when that
	// could not be found out.
	HasThing(ctx context.Context, thingName string) (bool, error)
}

// Remover is the ability to undo a registration, one step at a time. A step whose answer was lost can be done again: for
// what is gone already it is nil. None of them takes away what somebody else uses; it returns the users instead.
type Remover interface {
	// RetireCertificate detaches a certificate from a thing. When no other thing has it, it also deactivates it, detaches
	// its policies and deletes it. It must return the names of the other things, of which the certificate then stays as it
	// is; none means that the certificate is gone. The thing and the policies stay.
	RetireCertificate(ctx context.Context, thingName, certificateID string) (others []string, err error)
	// RemoveThing deletes a thing to which nothing is attached. It must leave one with certificates or other principals as
	// it is, and return their ARNs; none means that the thing is gone.
	RemoveThing(ctx context.Context, thingName string) (principals []string, err error)
	// RemovePolicy deletes a policy that has the document and is attached to nothing. It must leave one with targets as it
	// is, and return their ARNs; none means that the policy is gone. It must return [ErrConflict] for a policy with another
	// document, and leave it. A policy that somebody has edited, so that it has several versions, stays as well, with the
	// same error.
	RemovePolicy(ctx context.Context, policyName, document string) (targets []string, err error)
}

// BucketEnsurer is the ability to make the backend's bucket.
type BucketEnsurer interface {
	// EnsureBucket makes the bucket if it does not exist yet, private and in the task's region. It must leave a bucket
	// that is there, and what is in it, as it is.
	EnsureBucket(ctx context.Context) error
}

// RoleInput describes the service role a task needs.
type RoleInput struct {
	Name         string // role name, 1 to 64 characters of A-Z a-z 0-9 + = , . @ _ -
	SourceGuard  bool   // let only tasks of this account assume it (condition aws:SourceAccount)
	KMSKeyARN    string // also allow kms:Decrypt with this key; empty for none
	ObjectPrefix string // limit s3:GetObject to keys with this prefix; empty for the backend's own prefix
	// RegisterWithoutCA also allows iot:RegisterCertificateWithoutCA, which AWS's policy for registration lacks. Templates
	// with a CertificatePem and no CACertificatePem need it where the CA is not registered in the account.
	RegisterWithoutCA bool
}

// RoleEnsurer is the ability to make the service role.
type RoleEnsurer interface {
	// EnsureRole makes the role exactly as AWS's walkthrough does, or brings an existing one to that state. It must be
	// idempotent, return the role's ARN, and wait until a task can be started with it.
	EnsureRole(ctx context.Context, in *RoleInput) (roleARN string, err error)
}

// PreflightInput is what a task is about to be started with.
type PreflightInput struct {
	TemplateBody string
	RoleARN      string
	// ThingTypes, ThingGroups, BillingGroups and Policies are the names that the template and its rows refer to and
	// that must exist beforehand: the service makes none of them.
	ThingTypes, ThingGroups, BillingGroups, Policies []string
	// Connect asks whether one of Policies, or a policy that a group of ThingGroups or a parent of one carries, lets devices
	// connect: the template has certificates and no document of its own that does.
	Connect bool
	// CACertificatePEM is the certificate of the CA that all certificates of the lines are of; empty if that is not known or
	// there are none.
	CACertificatePEM string
}

// Preflighter is the ability to check, changing nothing, that a task can run.
type Preflighter interface {
	// Preflight returns one finding for each question. Rule is a stable name, such as bucket-region or thing-type, and
	// Resource what was looked at, such as the type's name. [finding.Error] means that a task would fail,
	// [finding.Warning] that it would work and a person should look at something, [finding.Unknown] that reading was
	// denied. A thing type that does not exist must not be reported as OK, and every finding except an OK must have in
	// Message what to do. The findings about the names of the input must have the rules thing-type, thing-group,
	// billing-group and policy, and the name as Resource. An error means that checking itself failed.
	Preflight(ctx context.Context, in *PreflightInput) (finding.List, error)
}

// PolicyReader is the ability to read what devices may do: AWS's GetPolicy and ListAttachedPolicies.
type PolicyReader interface {
	// ReadPolicy must return the document of the policy's default version, or [ErrNotFound] when there is no such policy.
	ReadPolicy(ctx context.Context, policyName string) (document string, err error)
	// GroupPolicies returns the names of the policies that things have from a thing group: its own, and those of the groups
	// above it. It must return [ErrNotFound], and not an empty list, when there is no such group.
	GroupPolicies(ctx context.Context, groupName string) (policyNames []string, err error)
}

// CertificateLister is the ability to look through the account's certificates: how a run finds one that was issued for
// a line that failed later, and one that somebody else put on the thing of a device meanwhile.
type CertificateLister interface {
	// ListCertificates must yield every certificate created at since or later once, newest first, without their PEM and
	// policies, and none that is older. The error is terminal and last.
	ListCertificates(ctx context.Context, since time.Time) iter.Seq2[*Certificate, error]
	// ReadCertificate must return the certificate with its PEM and policies, or [ErrNotFound] when the account has none
	// of that id.
	ReadCertificate(ctx context.Context, certificateID string) (*Certificate, error)
	// CertificateThings must return the names of all things that the certificate is attached to, none if it is gone, and an
	// error, never none, when that could not be found out. On AWS it is one request, ListPrincipalThings, unless there are
	// many things.
	CertificateThings(ctx context.Context, certificateARN string) (thingNames []string, err error)
}
