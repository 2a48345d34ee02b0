package provision_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// slowEffect loses the answer to the first start, which takes effect some time later, whatever is asked in between.
type slowEffect struct {
	task.Backend
	after time.Duration
	asked []time.Time
}

func (s *slowEffect) Unwrap() task.Backend { return s.Backend }

func (s *slowEffect) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	if s.asked = append(s.asked, time.Now()); len(s.asked) > 1 {
		return s.Backend.StartTask(ctx, in)
	}
	late := *in
	time.AfterFunc(s.after, func() { _, _ = s.Backend.StartTask(context.WithoutCancel(ctx), &late) })
	return "", fmt.Errorf("connection reset: %w", task.ErrOutcomeUnknown)
}

func TestAStartThatTakesEffectWithinTheSettleWindowIsNotSentAgain(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 30 * time.Second, 115 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.opts.SettleWindow = 2 * time.Minute
				slow := &slowEffect{Backend: w.fake, after: after}
				w.opts.Backend = slow
				run := w.complete(t, rows(3))
				time.Sleep(10 * time.Minute) // whatever is still on its way arrives
				assert.Len(t, slow.asked, 1)
				assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1)
				assert.Equal(t, 3, w.fake.Counts().Certificates, "one for each device")
				w.requireWorking(t, results(t, run))
			})
		})
	}
}

// throttlingProxy puts a throttle of its own in place of the answers to the first requests, which are carried out.
type throttlingProxy struct {
	*fakebackend.Backend
	starts, registers int
}

func (p *throttlingProxy) replace() error {
	return fmt.Errorf("%w: %w", task.ErrOutcomeUnknown, &task.Error{Code: "UnknownError", Status: 429, Kind: task.ErrThrottled})
}

func (p *throttlingProxy) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	id, err := p.Backend.StartTask(ctx, in)
	if p.starts++; p.starts == 1 && err == nil {
		return "", p.replace()
	}
	return id, err
}

func (p *throttlingProxy) RegisterThing(ctx context.Context, in *task.RegisterInput) (*task.Registration, error) {
	reg, err := p.Backend.RegisterThing(ctx, in)
	if p.registers++; p.registers == 1 && err == nil {
		return nil, p.replace()
	}
	return reg, err
}

func TestAProxysThrottleIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		proxy := &throttlingProxy{Backend: w.fake}
		w.opts.Backend = proxy
		run := w.complete(t, rows(3))
		res, err := run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}})
		require.NoError(t, err)
		assert.Equal(t, provision.Provisioned, res.Verdict)
		assert.Equal(t, 1, proxy.starts)
		assert.Equal(t, 1, proxy.registers)
		assert.Equal(t, 4, w.fake.Counts().Certificates, "one for each device")
	})
}
