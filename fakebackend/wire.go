package fakebackend

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

// What package fakeaws needs to serve the account over HTTP.

// Wire is the account's other services. Its types are internal to this module: only package fakeaws can use them.
type Wire struct {
	IAM   *iam.Store
	S3    *s3.Store
	Links *s3.Signer // signs and checks report links
	Now   time.Time  // the fake's time
}

// Wire returns the account's other services, for package fakeaws.
func (b *IoT) Wire() Wire {
	return Wire{b.roles, b.objects, b.keys.Load().links, b.clock.now()}
}

// Strike is what a fault leaves to be done about a request that was let through.
type Strike struct {
	DropAfter bool  // lose the answer once the request has had its effect
	Expire    bool  // refuse the link as expired
	Truncate  int64 // end the body after so many bytes of the object; -1 for not at all
}

// Request applies the faults to a request that package fakeaws answers itself, such as PutObject or CreateRole. The error
// is the [*task.Error] to answer with, or wraps [task.ErrOutcomeUnknown] when the connection is to be dropped, or the
// context's cause.
func (b *IoT) Request(ctx context.Context, op, subject string) (Strike, error) {
	s, err := b.faults.request(ctx, op, subject)
	return Strike{s.dropAfter, s.expire, s.truncate}, err
}

// Pass moves a clock that is stopped by d, and reports whether it is stopped.
func (b *IoT) Pass(d time.Duration) bool { return b.clock.pass(d) }

// OpenReport reads a report file by its bucket and key, as it is now. It reports false when there is no such file; the
// signature of a link is for the caller to check.
func (b *IoT) OpenReport(ctx context.Context, bucket, key string) (r io.ReadSeeker, ok bool, err error) {
	if bucket != b.reportBucket() {
		return nil, false, nil
	}
	if _, err := b.enter(ctx, opGetObject); err != nil {
		return nil, false, err
	}
	write, ok := b.findReport(bucket, key)
	b.leave()
	if !ok {
		return nil, false, nil
	}
	var w bytes.Buffer
	write(&w)
	return bytes.NewReader(w.Bytes()), true, nil
}
