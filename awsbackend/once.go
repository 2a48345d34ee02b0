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

// once sends a request that has no client token: StartThingRegistrationTask or RegisterThing. It is sent again only
// after an answer that says it was throttled. Any other failure is returned as it stands if the service refused, as
// nothing sent if no connection was made, and else as task.ErrOutcomeUnknown.
func once[T any](ctx context.Context, b *Backend, op string, send func(oneAttempt func(*iot.Options)) (T, error)) (T, error) {
	var none T
	backoff := wait.Backoff{First: time.Second, Attempts: 5} // after a throttle: 1, 2, 4 and 8 s
	for {
		if ctx.Err() != nil {
			return none, fmt.Errorf("%s: not sent: %w", op, wait.ContextError(ctx))
		}
		var a attempt
		out, err := send(a.options)
		if err == nil {
			return out, nil
		}
		err = b.fault(ctx, "iot", op, err)
		switch {
		case endedWith(ctx, err):
			return none, a.unanswered(op, err)
		case !errors.Is(err, task.ErrThrottled):
			return none, a.outcome(op, err)
		}
		delay, more := backoff.Next()
		if !more {
			return none, fmt.Errorf("%d times: %w", backoff.Failed(), err)
		}
		b.log.InfoContext(ctx, "throttled, trying again", "operation", op, "attempt", backoff.Failed(), "delay", delay)
		if stop := wait.Sleep(ctx, delay); stop != nil {
			return none, fmt.Errorf("not sent again after a throttle: %w: %w", stop, err)
		}
	}
}

// attempt watches how far one request got on its way.
type attempt struct {
	watched   atomic.Bool // the SDK ran our middleware: what follows is known
	sent      atomic.Bool // the request was handed to the HTTP client
	traced    atomic.Bool // the HTTP client tells about its connections
	connected atomic.Bool // it had a connection for the request
}

// options makes an IoT client send a request once and tell the attempt about it.
func (a *attempt) options(o *iot.Options) {
	o.Retryer = aws.NopRetryer{}
	o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
		if err := stack.Initialize.Add(middleware.InitializeMiddlewareFunc("iotfleet.watch", a.watch), middleware.Before); err != nil {
			return err
		}
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("iotfleet.sent", a.handOver), middleware.After)
	})
}

func (a *attempt) watch(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
	middleware.InitializeOutput, middleware.Metadata, error,
) {
	a.watched.Store(true)
	return next.HandleInitialize(ctx, in)
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
	return a.watched.Load() && (!a.sent.Load() || a.traced.Load() && !a.connected.Load())
}

// outcome says of a failed request whether it may have had its effect.
func (a *attempt) outcome(op string, err error) error {
	if e, answered := errors.AsType[*task.Error](err); answered && definite(e) {
		return err
	}
	return a.unanswered(op, err)
}

// unanswered is the outcome of a request that AWS gave no answer to, as far as one can tell.
func (a *attempt) unanswered(op string, err error) error {
	if a.surelyNotSent() {
		return fmt.Errorf("nothing was sent: %w", err)
	}
	return fmt.Errorf("%w: %s was sent, and may have been carried out: %w", task.ErrOutcomeUnknown, op, err)
}

// definite reports whether an answer says that nothing was done.
func definite(e *task.Error) bool {
	if errors.Is(e.Kind, task.ErrUnavailable) || e.Status >= 500 {
		return false
	}
	// A proxy that lost its client says so with 499; a 2xx is a success that could not be understood.
	return e.Status != 499 && (e.Status < 200 || e.Status > 299)
}
