package awsbackend

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/smithy-go/middleware"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// once sends a request that has no client token: StartThingRegistrationTask or RegisterThing. If its answer is lost,
// nobody can tell whether it had its effect, and to repeat it would start a second task or make a second certificate.
// So it is repeated only after a throttle of AWS's, which means that nothing was done. Every other failure is returned:
//
//   - as it is, if AWS refused the request (see definite), or if there were no credentials to send it with;
//   - with "nothing was sent", if no connection was made;
//   - as task.ErrOutcomeUnknown in all other cases.
func once[In, Out any](
	ctx context.Context, b *Backend, op string, send func(context.Context, *In, ...func(*iot.Options)) (*Out, error), in *In,
) (*Out, error) {
	backoff := wait.Backoff{First: time.Second, Attempts: 5} // after a throttle: 1, 2, 4 and 8 s
	for {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: not sent: %w", op, wait.ContextError(ctx))
		}
		var a attempt
		out, err := call(ctx, b, send, in, a.options)
		switch {
		case err == nil:
			return out, nil
		case endedWith(ctx, err):
			return nil, a.unanswered(op, err)
		case errors.Is(err, errCredentials) && a.surelyNotSent(): // what their source answered is no answer to this request
		case !definite(err):
			if e, ok := errors.AsType[*task.Error](err); ok && errors.Is(e.Kind, task.ErrThrottled) && !a.surelyNotSent() {
				e.Kind = task.ErrUnavailable // a proxy's throttle does not mean that nothing was done
			}
			return nil, a.unanswered(op, err)
		}
		if !errors.Is(err, task.ErrThrottled) {
			return nil, err
		}
		delay, more := backoff.Next()
		if !more {
			return nil, fmt.Errorf("%d times: %w", backoff.Failed(), err)
		}
		b.log.InfoContext(ctx, "throttled, trying again", "operation", op, "attempt", backoff.Failed(), "delay", delay)
		if stop := wait.Sleep(ctx, delay); stop != nil {
			return nil, fmt.Errorf("not sent again after a throttle: %w: %w", stop, err)
		}
	}
}

// attempt watches how far one request got on its way.
type attempt struct {
	sent      atomic.Bool // the request was handed to the HTTP client
	traced    atomic.Bool // the HTTP client reports its connections
	connected atomic.Bool // it had a connection for the request
}

// options makes the IoT client send a request once and lets the attempt watch it.
func (a *attempt) options(o *iot.Options) {
	o.Retryer = aws.NopRetryer{}
	o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("iotfleet.sent", a.handOver), middleware.After)
	})
}

func (a *attempt) handOver(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
	middleware.DeserializeOutput, middleware.Metadata, error,
) {
	a.sent.Store(true)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { a.traced.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { a.connected.Store(true) },
	})
	return next.HandleDeserialize(ctx, in)
}

// surelyNotSent reports that no byte of the request can have reached the service.
func (a *attempt) surelyNotSent() bool {
	return !a.sent.Load() || a.traced.Load() && !a.connected.Load()
}

// unanswered is the error of a request without a usable answer: either nothing was sent, or its outcome is unknown.
func (a *attempt) unanswered(op string, err error) error {
	if a.surelyNotSent() {
		return fmt.Errorf("nothing was sent: %w", err)
	}
	return fmt.Errorf("%w: %s was sent, and may have been carried out: %w", task.ErrOutcomeUnknown, op, err)
}

// definite reports whether err is a refusal of AWS's own, so that nothing was done: a status of the 400s with AWS's
// request id and an error code. A proxy can put a page, a redirect or a throttle of its own in place of the answer to a
// request that AWS has carried out.
func definite(err error) bool {
	e, ok := errors.AsType[*task.Error](err)
	return ok && e.Status >= 400 && e.Status < 500 && e.RequestID != "" && e.Code != "" && e.Code != noCode &&
		!errors.Is(e.Kind, task.ErrUnavailable)
}
