package provision

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// pauser waits longer from time to time: one second at first, a minute at most, each with jitter so that several
// programs do not ask in step.
type pauser struct{ n int }

func (p *pauser) wait(ctx context.Context) error { return p.waitOr(ctx, nil) }

// waitOr waits, but not beyond the moment when enough is closed.
func (p *pauser) waitOr(ctx context.Context, enough <-chan struct{}) error {
	d := min(time.Second<<min(p.n, 6), time.Minute)
	p.n++
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-enough:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
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
		if werr := pause.wait(ctx); werr != nil {
			return errors.Join(werr, err)
		}
	}
}
