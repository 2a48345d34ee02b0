package awsbackend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// call sends a request with an AWS client and returns its failure as one of this library's errors. So it
// does with an answer that lacks what AWS always sends. send is the client's method.
func call[In, Out, Opts any](
	ctx context.Context, b *Backend, send func(context.Context, *In, ...func(*Opts)) (*Out, error), in *In, opts ...func(*Opts),
) (*Out, error) {
	out, err := send(ctx, in, opts...)
	if err != nil {
		return nil, b.fault(ctx, err)
	}
	if err := checkMembers(out); err != nil {
		return nil, err
	}
	return out, nil
}

// codeOf returns the service's error code, "" if err is no answer of a service.
func codeOf(err error) string {
	if e, ok := errors.AsType[*task.Error](err); ok {
		return e.Code
	}
	return ""
}

// What stands at one thing, certificate or role is limited by quotas of ten to some hundred, and AWS's pages hold 25 and
// more. So many pages of them mean that the listing has no end, and so do many in a row that hold nothing.
const (
	maxPages     = 10_000
	maxIdlePages = 1000
)

// pages asks for page after page, at most most of them. A page returns how many items it holds. A token that comes back
// as it went would ask for ever, so it ends in an error, as do pages that bring nothing.
func pages(op string, most int, page func(token *string) (items int, next *string, err error)) error {
	var token *string
	idle := 0
	for n := 1; ; n++ {
		items, next, err := page(token)
		if err != nil || aws.ToString(next) == "" {
			return err
		}
		if idle++; items > 0 {
			idle = 0
		}
		switch {
		case aws.ToString(next) == aws.ToString(token):
			return fmt.Errorf("%s: %w: the same page token came twice", op, task.ErrUnavailable)
		case n >= most:
			return fmt.Errorf("%s: the listing did not end in %d pages", op, n)
		case idle >= maxIdlePages:
			return fmt.Errorf("%s: %d pages in a row hold nothing", op, idle)
		}
		token = next
	}
}

// await repeats a request until AWS has spread a change that was just made, with growing delays. The request returns
// again while its error means that this takes more time; after about 30 s that error is returned.
func (b *Backend) await(ctx context.Context, what string, request func() (again bool, err error)) error {
	return b.awaitLonger(ctx, what, 8, request)
}

// awaitLonger is await with another number of attempts: from the fifth on, 8 s lie between them.
func (b *Backend) awaitLonger(ctx context.Context, what string, attempts int, request func() (again bool, err error)) error {
	backoff := wait.Backoff{First: 500 * time.Millisecond, Max: 8 * time.Second, Attempts: attempts}
	for {
		again, err := request()
		if !again || err == nil {
			return err
		}
		delay, more := backoff.Next()
		if !more {
			return fmt.Errorf("still so after %d attempts: %w", backoff.Failed(), err)
		}
		b.log.DebugContext(ctx, "waiting for AWS to spread a change", "for", what, "delay", delay)
		if stop := wait.Sleep(ctx, delay); stop != nil {
			return fmt.Errorf("%w: %w", stop, err)
		}
	}
}

// notVisible is about something that was made and is not seen yet. That it is not found would mean something else.
func notVisible(what string, err error) error {
	return fmt.Errorf("%w: %s is not visible yet, try again in a minute: %s", task.ErrUnavailable, what, err.Error())
}
