package provision_test

import (
	"context"
	"reflect"
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

// copyLedger copies a ledger without its orphans as it is now, while others may be writing: a copy counts once it was read
// twice.
func copyLedger(ctx context.Context, from provision.Ledger) (provision.Ledger, error) {
	var last []provision.Change
	for {
		now, err := contents(ctx, from)
		if err != nil {
			return nil, err
		}
		if !reflect.DeepEqual(now, last) {
			last = now
			continue
		}
		now[0].Orphans = nil
		to := provision.NewMemoryLedger()
		return to, applyAll(ctx, to, now)
	}
}

// restoredAt runs 30 devices in parts of ten to their end, and brings back a copy of the ledger that was made when a part
// was uploaded.
func restoredAt(t *testing.T, w *world, part int) {
	t.Helper()
	w.durable(t)
	w.opts.PartLines = 10
	var old provision.Ledger
	observe := w.opts.Observe
	w.opts.Observe = func(e provision.Event) {
		if e, ok := e.(provision.EventPartReady); ok && e.Part == part {
			var err error
			old, err = copyLedger(t.Context(), w.opts.Ledger)
			assert.NoError(t, err)
		}
		observe(e)
	}
	w.complete(t, rows(30))
	require.NotNil(t, old)
	w.opts.Observe, w.opts.Ledger = observe, old
}

func TestALedgerFromBeforeAStartFindsItsTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 10})
		restoredAt(t, w, 3)
		before := len(slices.Collect(taskIDs(t, w.fake)))
		w.requireWorking(t, results(t, w.complete(t, rows(30))))
		assert.Len(t, slices.Collect(taskIDs(t, w.fake)), before, "no device is sent twice")
	})
}

// TestALedgerFromBeforeAPartWasMade brings back a copy that does not know two parts, whose tasks have ended.
func TestALedgerFromBeforeAPartWasMade(t *testing.T) {
	t.Run("the look finds what they have registered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{Rate: 10})
			restoredAt(t, w, 1)
			before := len(slices.Collect(taskIDs(t, w.fake)))
			w.requireWorking(t, results(t, w.complete(t, rows(30))))
			assert.Equal(t, 30, w.fake.Counts().Certificates)
			assert.Len(t, slices.Collect(taskIDs(t, w.fake)), before)
		})
	})
	t.Run("it is refused where nobody looks", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{Rate: 10})
			w.opts.Existing = provision.UncheckedExisting
			restoredAt(t, w, 1)
			w.opts.PartLines = 7 // the same parts would be the same files, on which the tasks are found
			before := len(slices.Collect(taskIDs(t, w.fake)))
			for range 2 {
				_, err := w.run(t).Run(t.Context(), rows(30))
				require.ErrorIs(t, err, provision.ErrOldLedger)
				assert.ErrorContains(t, err, "bring the newest one back")
				assert.Len(t, slices.Collect(taskIDs(t, w.fake)), before)
			}
		})
	})
}

// TestATaskThatTheLedgerDoesNotKnowIsWaitedFor brings back a ledger from before the first part was made, while its task is
// in progress: the devices that it has yet to register are not sent in another part.
func TestATaskThatTheLedgerDoesNotKnowIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 1})
		w.durable(t)
		w.opts.PartLines = 6
		var old provision.Ledger
		observe := w.opts.Observe
		ctx, crash := context.WithCancel(t.Context())
		w.opts.Observe = func(e provision.Event) {
			switch e.(type) {
			case provision.EventSpooled:
				var err error
				old, err = copyLedger(t.Context(), w.opts.Ledger)
				assert.NoError(t, err)
			case provision.EventTaskStarted:
				time.AfterFunc(3*time.Second, crash)
			}
			observe(e)
		}
		_, err := w.run(t).Run(ctx, rows(13))
		require.ErrorIs(t, err, context.Canceled)
		w.opts.Observe, w.opts.Ledger = observe, old
		w.requireWorking(t, results(t, w.complete(t, rows(13))))
		assert.Equal(t, 13, w.fake.Counts().Certificates, "each device has one")
	})
}

// listings counts how often the tasks are listed, and refuses it if that is wanted.
type listings struct {
	task.Backend
	n      int
	refuse bool
}

func (l *listings) Unwrap() task.Backend { return l.Backend }

func (l *listings) ListTasks(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
	if l.refuse {
		return nil, &task.Error{Op: "ListThingRegistrationTasks", Code: "AccessDeniedException", Status: 403, Kind: task.ErrAccessDenied}
	}
	l.n++
	return l.Backend.ListTasks(ctx, in)
}

func TestTheTasksAreListedOnceForAllPartsThatWereLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 10})
		w.durable(t)
		w.opts.PartLines = 10
		list := &listings{Backend: w.fake, refuse: true}
		w.opts.Backend = list
		_, err := w.run(t).Prepare(t.Context(), rows(30))
		require.NoError(t, err)
		err = w.run(t).Submit(t.Context())
		require.ErrorIs(t, err, provision.ErrStartUnknown, "not being able to look is no proof that there is none")
		require.ErrorIs(t, err, task.ErrAccessDenied)
		assert.Empty(t, slices.Collect(taskIDs(t, w.fake)))

		list.refuse = false
		require.NoError(t, w.run(t).Submit(t.Context()))
		assert.Equal(t, 1, list.n)
		run := w.run(t)
		_, err = run.Collect(t.Context())
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
	})
}

func TestARunThatWasNeverInterruptedListsNoTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 10})
		w.opts.PartLines = 10
		list := &listings{Backend: w.fake}
		w.opts.Backend = list
		w.complete(t, rows(30))
		assert.Zero(t, list.n)
	})
}

// TestALedgerThatWasSetBackTakesNoDeviceItsCertificate restores a ledger from when a device had failed. It was sent once
// more since, and works: its certificate looks like one that no device uses.
func TestALedgerThatWasSetBackTakesNoDeviceItsCertificate(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.fault(t, fakebackend.Fault{Thing: "device-1", Step: fakebackend.StepAttachCertificate, Do: fakebackend.Fail, Times: 1})
	run := w.incomplete(t, rows(1))
	old, err := copyLedger(t.Context(), w.opts.Ledger)
	require.NoError(t, err)
	n, err := run.RemoveOrphans(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, n, "what the first attempt left")
	_, err = run.Retry(t.Context())
	require.NoError(t, err)
	w.requireWorking(t, results(t, run))

	w.opts.Ledger = old
	run = w.run(t)
	_, err = run.FindOrphans(t.Context())
	require.NoError(t, err)
	n, err = run.RemoveOrphans(t.Context())
	require.ErrorContains(t, err, `recorded as an orphan of device "device-1": the device is registered with it, complete`)
	assert.Zero(t, n)
	assert.Equal(t, 1, activeCertificates(t, w.fake, "device-1"))
	_, err = run.Retry(t.Context())
	require.NoError(t, err)
	w.requireWorking(t, results(t, run))
	summary, err := run.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.Zero(t, summary.Orphans)
}

// TestAPartThatIsMadeOnceMoreTakesItsTask brings back a ledger from before the first part was made. Its task was cancelled
// before it registered anything, so the account shows nothing of the devices; the same keys give the same file.
func TestAPartThatIsMadeOnceMoreTakesItsTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 1, StartDelay: time.Minute})
		w.durable(t)
		var old provision.Ledger
		observe := w.opts.Observe
		w.opts.Observe = func(e provision.Event) {
			switch e := e.(type) {
			case provision.EventSpooled:
				var err error
				old, err = copyLedger(t.Context(), w.opts.Ledger)
				assert.NoError(t, err)
			case provision.EventTaskStarted:
				assert.NoError(t, w.fake.StopTask(t.Context(), e.Task))
			}
			observe(e)
		}
		w.incomplete(t, rows(3))
		require.NotNil(t, old)
		w.opts.Observe, w.opts.Ledger = observe, old
		run := w.incomplete(t, rows(3))
		assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1, "it is not started a second time")
		_, err := run.Retry(t.Context())
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
	})
}
