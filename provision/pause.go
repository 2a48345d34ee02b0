package provision

import (
	"context"
	"errors"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// pauser waits between requests of one kind: a second at first, twice as long each time, a minute at most.
type pauser struct{ backoff wait.Backoff }

func (p *pauser) wait(ctx context.Context) error { return p.waitOr(ctx, nil) }

// waitOr waits, but not beyond the moment when enough is closed.
func (p *pauser) waitOr(ctx context.Context, enough <-chan struct{}) error {
	p.backoff.First, p.backoff.Max = time.Second, time.Minute
	d, _ := p.backoff.Next()
	return wait.SleepOr(ctx, d, enough)
}

// attempts is how often a request is sent that the service throttles, in some two minutes.
const attempts = 8

// retry repeats a request that is safe to repeat while the service is throttling or failing on its side.
func retry(ctx context.Context, request func() error) error {
	var pause pauser
	for i := 1; ; i++ {
		err := request()
		again := errors.Is(err, task.ErrThrottled) || errors.Is(err, task.ErrUnavailable) || errors.Is(err, task.ErrOutcomeUnknown)
		if err == nil || !again || i == attempts {
			return err
		}
		if ended := pause.wait(ctx); ended != nil {
			return errors.Join(ended, err)
		}
	}
}

// isThrottle reports whether the service has refused a request because of the account's rates, so that nothing was done. A
// throttle that a proxy put in place of the answer leaves the outcome unknown.
func isThrottle(err error) bool { return errors.Is(err, task.ErrThrottled) && task.Refused(err) }
