package provision_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestALookThatFailsStopsTheRunAndIsNoAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		fault fakebackend.Fault
		want  error
		text  string
	}{
		"denied": {fakebackend.Fault{Operation: "DescribeThing", Do: fakebackend.Fail, Code: "AccessDeniedException", Status: 403, Times: -1},
			task.ErrAccessDenied, "unchecked"},
		"throttled": {fakebackend.Fault{Operation: "DescribeThing", Do: fakebackend.Throttle, Times: -1}, task.ErrThrottled, "call it again"},
		"certificates denied": {fakebackend.Fault{Operation: "ListThingPrincipals", Do: fakebackend.Fail, Code: "AccessDeniedException", Status: 403, Times: -1},
			task.ErrAccessDenied, "iot:ListThingPrincipals"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, old := firstRun(t, 2)
				id := w.fault(t, c.fault)
				w2 := w.again(t, provision.RefuseExisting)
				_, err := w2.run(t).Run(t.Context(), rows(2))
				require.ErrorIs(t, err, c.want)
				require.ErrorContains(t, err, c.text)
				assert.Equal(t, 1, tasksOf(w.fake))
				w.fake.RemoveFault(id)
				run := w2.run(t)
				_, err = run.Run(t.Context(), rows(2))
				require.ErrorIs(t, err, provision.ErrIncomplete)
				requireRefused(t, results(t, run), old)
			})
		})
	}
}

func TestAPassingThrottleOfALookIsWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, old := firstRun(t, 2)
		w.fault(t, fakebackend.Fault{Operation: "DescribeThing", Do: fakebackend.Throttle, Times: 3})
		run := w.again(t, provision.RefuseExisting).run(t)
		_, err := run.Run(t.Context(), rows(2))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		requireRefused(t, results(t, run), old)
	})
}

// countedLooks counts the questions whether a thing exists.
type countedLooks struct {
	*fakebackend.Backend
	n atomic.Int64
}

func (c *countedLooks) HasThing(ctx context.Context, name string) (bool, error) {
	c.n.Add(1)
	return c.Backend.HasThing(ctx, name)
}

func TestWhatWasLookedForIsLookedForAgainOnlyAfterAnInterruption(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	looks := &countedLooks{Backend: w.fake}
	w.opts.Backend, w.opts.PartLines = looks, 4
	_, err := w.fake.AddFault(fakebackend.Fault{
		Operation: "StartThingRegistrationTask", Times: 1, Do: fakebackend.Fail, Code: "UnauthorizedException", Status: 401,
	})
	require.NoError(t, err)
	_, err = w.run(t).Run(t.Context(), rows(4))
	require.Error(t, err)
	require.Equal(t, int64(4), looks.n.Load())
	run := w.run(t)
	for range 2 {
		_, err = run.Run(t.Context(), rows(4))
		require.NoError(t, err)
	}
	assert.Equal(t, int64(8), looks.n.Load())
	w.requireWorking(t, results(t, run))
}

// TestADeviceIsLookedForOnceAndOnceMoreBeforeALateStart has keys so slow that each part takes only some of the devices that
// were looked for, and that somebody else could register them meanwhile; and keys that are ready while the run's own tasks
// keep others out.
func TestADeviceIsLookedForOnceAndOnceMoreBeforeALateStart(t *testing.T) {
	for name, c := range map[string]struct {
		each  time.Duration // a key's time on one of two cores
		parts int           // at least
		looks int64
	}{
		"slow keys": {400 * time.Millisecond, 4, 2 * 900},
		"fast keys": {30 * time.Microsecond, 2, 900},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := slowService(t, c.each)
				looks := &countedLooks{Backend: w.fake}
				w.opts.Backend, w.opts.Output = looks, nil
				run := w.complete(t, rows(900))
				parts := map[int]bool{}
				for _, r := range results(t, run) {
					parts[r.Part] = true
				}
				require.GreaterOrEqual(t, len(parts), c.parts)
				assert.Equal(t, c.looks, looks.n.Load())
			})
		})
	}
}

func TestAPartThatWasPreparedWithoutANetworkIsLookedAtBeforeItIsSent(t *testing.T) {
	for name, existing := range map[string]int{"one": 1, "all": 3, "none": 0} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.durable(t)
			var old []*provision.Result
			if existing > 0 {
				w, old = firstRun(t, existing)
			}
			tasks := tasksOf(w.fake)
			w2 := w.again(t, provision.RefuseExisting)
			looks := &countedLooks{Backend: w.fake}
			w2.opts.Backend = looks
			_, err := w2.run(t).Prepare(t.Context(), rows(3))
			require.NoError(t, err)
			require.Zero(t, looks.n.Load(), "Prepare needs no network")
			require.NoError(t, w2.run(t).Submit(t.Context()))
			require.Equal(t, int64(3), looks.n.Load())
			run := w2.run(t)
			summary, err := run.Collect(t.Context())
			got := results(t, run)
			if existing > 0 {
				require.ErrorIs(t, err, provision.ErrIncomplete)
				requireRefused(t, got[:existing], old)
				w.requireOneCertificateEach(t, "device-1")
			} else {
				require.NoError(t, err)
			}
			w2.requireWorking(t, got[existing:])
			want := tasks + 1
			if existing == 3 {
				want = tasks
			}
			assert.Equal(t, want, tasksOf(w.fake))
			assert.Zero(t, summary.NotLooked)

			w2.opts.Existing = provision.ReplaceExisting // and the refused ones can still be sent
			run = w2.run(t)
			_, err = run.Retry(t.Context())
			require.NoError(t, err)
			w2.requireWorking(t, results(t, run))
		})
	}
}

// TestALookKeepsToTheQuotas measures in virtual time what a look takes: a request for each name, and where things exist
// as much as AWS's quota of ten a second for reading them takes.
func TestALookKeepsToTheQuotas(t *testing.T) {
	for _, c := range []struct {
		existing, devices int
		least, most       time.Duration
	}{
		{0, 3500, 9 * time.Second, 11 * time.Second},
		{300, 300, 29 * time.Second, 32 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			if c.existing > 0 {
				w, _ = firstRun(t, c.existing)
			}
			w2 := w.again(t, provision.RefuseExisting)
			w2.opts.Look = provision.LookRates{Things: 350, Certificates: 10}
			w2.opts.Backend = farAway{w.fake, 60 * time.Millisecond}
			began := time.Now()
			report, err := w2.run(t).Check(t.Context(), rows(c.devices))
			require.NoError(t, err)
			assert.EqualValues(t, c.existing, report.Certified)
			took := time.Since(began)
			assert.GreaterOrEqual(t, took, c.least)
			assert.LessOrEqual(t, took, c.most)
		})
	}
}
