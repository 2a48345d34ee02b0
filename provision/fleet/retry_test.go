package fleet_test

import (
	"context"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestStopEndsEverySiteAndALaterCallGoesOn(t *testing.T) {
	for _, mode := range []provision.StopMode{provision.FinishPart, provision.CancelTask} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2, fakebackend.Options{Rate: 1})
			for name := range w.opts.Sites {
				w.change(name, func(o *provision.Options) { o.PartLines = 10 })
			}
			// eu-west-1 has one part, is done when the fleet is stopped, and has a device to retry; us-east-1 has four parts.
			w.fault(t, regions[0], fakebackend.Fault{Do: fakebackend.Fail, Step: fakebackend.StepThing, Line: 2})
			input := func() iter.Seq2[provision.Device, error] {
				return edited(spread(50, 1), func(n int, d *provision.Device) {
					if n > 10 {
						d.Row["Region"] = regions[1]
					}
				})
			}
			f := w.fleet(t)
			stop := time.AfterFunc(15*time.Second, func() { f.Stop(mode) })
			defer stop.Stop()
			summary, err := f.Run(t.Context(), input())
			require.ErrorIs(t, err, provision.ErrStopped)
			requireAddsUp(t, summary, 50)
			assert.Less(t, summary.Took, 25*time.Second)
			assert.EqualValues(t, 9, summary.Sites[regions[0]].Provisioned)
			assert.Positive(t, summary.Pending)

			summary, err = f.Retry(t.Context())
			require.NoError(t, err, "the stop was for the first call, at every site")
			assert.EqualValues(t, 50, summary.Provisioned)
			w.requireOnce(t, results(t, f))
		})
	}
}

func TestRetrySendsWhatFailedAtEverySiteAgain(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	for _, site := range regions[:2] {
		w.fault(t, site, fakebackend.Fault{Step: fakebackend.StepThing, Do: fakebackend.Fail, Code: "InternalFailureException", Line: 2})
	}
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), spread(10, 2))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 10)
	assert.EqualValues(t, 2, summary.Causes[provision.CauseService])
	var failed *fleet.Error
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Sites, 2)
	f = w.fleet(t)
	summary, err = f.Retry(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 10, summary.Provisioned)
}

func TestReconcileSettlesWhatIsUnknownAtEverySite(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	whole := w.opts.Sites
	w.opts.Sites = map[string]provision.Options{}
	for name, o := range whole {
		o.Backend = reportless{o.Backend, w.fakes[name]}
		w.opts.Sites[name] = o
	}
	summary, err := w.fleet(t).Run(t.Context(), spread(10, 2))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 10)
	require.EqualValues(t, 10, summary.Unknown)
	_, err = w.fleet(t).Reconcile(t.Context())
	require.ErrorContains(t, err, "can't read devices back")
	w.opts.Sites = whole
	f := w.fleet(t)
	summary, err = f.Reconcile(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 10, summary.Provisioned)
	w.requireOnce(t, results(t, f))
}

// reportless is a backend without reports that tells who it is and nothing else.
type reportless struct {
	task.Backend
	who task.Identifier
}

func (b reportless) Identity(ctx context.Context) (*task.Identity, error) { return b.who.Identity(ctx) }

func (b reportless) ListReports(context.Context, task.ID, task.ReportType, string) (*task.ReportPage, error) {
	return nil, &task.Error{Op: "ListThingRegistrationTaskReports", Code: "ResourceNotFoundException", Kind: task.ErrNotFound}
}
