package provision_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// fullDisk is an output that takes nothing.
type fullDisk struct{}

func (fullDisk) Deliver(context.Context, *provision.Delivery) error { return errors.New("disk full") }
func (fullDisk) Sync(context.Context) error                         { return nil }

func TestASingleDeviceIsNotProvisionedBeforeItIsHandedOver(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	output := w.opts.Output
	w.opts.Backend, w.opts.Output = &lossyRegister{w.fake, true}, fullDisk{}
	board := provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}}
	res, err := w.run(t).Register(t.Context(), board)
	require.Error(t, err)
	assert.Equal(t, provision.Unknown, res.Verdict)

	w.opts.Backend, w.opts.Output = w.fake, output
	run := w.run(t)
	res, err = run.Register(t.Context(), board)
	require.NoError(t, err)
	assert.Equal(t, provision.Provisioned, res.Verdict)
	w.requireWorking(t, results(t, run))
}

// unreadable is a ledger that has lost its devices.
type unreadable struct{ provision.Ledger }

func (unreadable) Devices(context.Context, provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
	return func(yield func(*provision.DeviceRecord, error) bool) { yield(nil, errors.New("bad sector")) }
}

func TestRegisterWithALedgerThatCannotBeReadSaysSo(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.complete(t, rows(1))
	w.opts.Ledger = unreadable{w.opts.Ledger}
	res, err := w.run(t).Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}})
	require.ErrorContains(t, err, "bad sector")
	assert.Nil(t, res)
}

func TestRegisterTakesARecordItCannotNameForNoOtherDevice(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.complete(t, rows(2))
	for name, row := range map[string]map[string]string{
		"without a name":        {"SerialNumber": "900"},
		"with an invalid value": {"ThingName": "device-1", "SerialNumber": "9 9"},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := run.Register(t.Context(), provision.Device{Row: row})
			require.ErrorContains(t, err, "is failed")
			assert.Equal(t, provision.CauseInvalidRecord, res.Cause)
			assert.Empty(t, res.CertificateID)
		})
	}
	assert.Len(t, results(t, run), 2)
}

func TestADeviceIsNotBlamedForTheCredentialsOfWhoeverRegistersIt(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.complete(t, rows(2))
	board := provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}}
	fail := func(f fakebackend.Fault) {
		f.Operation, f.Do = "RegisterThing", fakebackend.Fail
		w.fault(t, f)
	}
	expired := fakebackend.Fault{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}
	fail(expired)
	res, err := w.run(t).Register(t.Context(), board)
	require.ErrorIs(t, err, task.ErrAccessDenied)
	assert.ErrorContains(t, err, "security token")
	assert.Equal(t, provision.Waiting, res.Verdict)
	assert.Zero(t, res.Attempts)

	fail(fakebackend.Fault{Code: "ResourceRegistrationFailureException", Message: "the type is gone"})
	_, err = w.run(t).Register(t.Context(), board)
	require.ErrorContains(t, err, "the type is gone")
	fail(expired)
	_, err = w.run(t).Register(t.Context(), board)
	require.ErrorIs(t, err, task.ErrAccessDenied)
	run := w.run(t)
	last := results(t, run)[2]
	assert.Equal(t, provision.Failed, last.Verdict)
	assert.Equal(t, "the type is gone", last.Message, "what was said of the device stands")
	assert.Equal(t, 1, last.Attempts)

	_, err = run.Register(t.Context(), board)
	require.NoError(t, err)
	w.requireWorking(t, results(t, run))
}

func TestRegisterGivesUpAThrottleThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		id := w.fault(t, fakebackend.Fault{Operation: "RegisterThing", Do: fakebackend.Throttle, Times: -1})
		board := provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}}
		began := time.Now()
		res, err := w.run(t).Register(t.Context(), board)
		require.Error(t, err)
		assert.Equal(t, provision.CauseThrottled, res.Cause)
		assert.Less(t, time.Since(began), 5*time.Minute)
		w.fake.RemoveFault(id)
		run := w.run(t)
		_, err = run.Register(t.Context(), board)
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
	})
}

// lateRegister loses the answers to its first requests, each of which takes effect half a minute later.
type lateRegister struct {
	*fakebackend.Backend
	lose int
}

func (l *lateRegister) RegisterThing(ctx context.Context, in *task.RegisterInput) (*task.Registration, error) {
	if l.lose == 0 {
		return l.Backend.RegisterThing(ctx, in)
	}
	l.lose--
	go func() {
		time.Sleep(30 * time.Second)
		_, _ = l.Backend.RegisterThing(context.WithoutCancel(ctx), in)
	}()
	return nil, fmt.Errorf("connection reset: %w", task.ErrOutcomeUnknown)
}

func TestADeviceWhoseRequestTakesEffectLateIsNotRegisteredTwice(t *testing.T) {
	board := provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}}
	for name, next := range map[string]func(context.Context, *provision.Run) error{
		"Register":  func(ctx context.Context, run *provision.Run) error { _, err := run.Register(ctx, board); return err },
		"Run":       func(ctx context.Context, run *provision.Run) error { _, err := run.Run(ctx, rows(1)); return err },
		"Reconcile": func(ctx context.Context, run *provision.Run) error { _, err := run.Reconcile(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.durable(t)
				w.opts.Backend = &lateRegister{Backend: w.fake, lose: 1}
				w.complete(t, rows(1))
				res, err := w.run(t).Register(t.Context(), board)
				require.Error(t, err)
				require.Equal(t, provision.Unknown, res.Verdict)
				run := w.run(t)
				require.NoError(t, next(t.Context(), run))
				time.Sleep(time.Hour)
				w.requireOneCertificateEach(t, "swapped")
				w.requireWorking(t, results(t, run))
			})
		})
	}
}

func TestARunWorksForOneCallAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 1})
		w.durable(t)
		run := w.run(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := run.Run(t.Context(), rows(20))
			assert.NoError(t, err)
		})
		time.Sleep(5 * time.Second)
		for name, call := range map[string]func() error{
			"Run":           func() error { _, err := run.Run(t.Context(), rows(20)); return err },
			"Prepare":       func() error { _, err := run.Prepare(t.Context(), rows(20)); return err },
			"Submit":        func() error { return run.Submit(t.Context()) },
			"Collect":       func() error { _, err := run.Collect(t.Context()); return err },
			"Retry":         func() error { _, err := run.Retry(t.Context()); return err },
			"Reconcile":     func() error { _, err := run.Reconcile(t.Context()); return err },
			"Amend":         func() error { _, err := run.Amend(t.Context(), rows(1)); return err },
			"Adopt":         func() error { return run.Adopt(t.Context(), "t", strings.NewReader("")) },
			"Register":      func() error { _, err := run.Register(t.Context(), provision.Device{}); return err },
			"FindOrphans":   func() error { _, err := run.FindOrphans(t.Context()); return err },
			"RemoveOrphans": func() error { _, err := run.RemoveOrphans(t.Context()); return err },
			"Deliver":       func() error { _, err := run.Deliver(t.Context(), w.opts.Output); return err },
		} {
			assert.ErrorContains(t, call(), "at work for another call", name)
		}
		wg.Wait()
		w.requireWorking(t, results(t, run))
		assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1)
	})
}

func TestWhatIsMissingIsAnErrorAndNoPanic(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	run := w.run(t)
	_, err := run.Check(t.Context(), nil)
	require.Error(t, err)
	_, err = run.Run(t.Context(), nil)
	require.Error(t, err)
	_, err = run.Amend(t.Context(), nil)
	require.Error(t, err)
	_, err = run.Deliver(t.Context(), nil)
	require.Error(t, err)
}

func TestARefusedRecordNeverStandsForADeviceThatIsRegisteredByItself(t *testing.T) {
	w := typedWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.SkipPreflight = true
	run := w.incomplete(t, provision.Devices(ofType("a", "gone"), ofType("a", "known")))
	mended := ofType("b", "known")
	mended.Seq = 1
	_, err := run.Amend(t.Context(), provision.Devices(mended))
	require.ErrorIs(t, err, provision.ErrIncomplete, "record 2 is still a duplicate")
	res, err := run.Register(t.Context(), ofType("a", "known"))
	require.NoError(t, err)
	assert.EqualValues(t, 3, res.Seq, "it is a record of its own")
	all := results(t, run)
	require.Len(t, all, 3)
	assert.Equal(t, provision.CauseDuplicate, all[1].Cause)
	w.requireWorking(t, []*provision.Result{all[0], all[2]})
}

// TestABoardThatWasSwappedIsNotGivenTheOldOnesCertificate has a board with another serial number in the place of one whose key
// was made here, and is still in the store.
func TestABoardThatWasSwappedIsNotGivenTheOldOnesCertificate(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.run(t)
	board := func(serial string) provision.Device {
		return provision.Device{Row: map[string]string{"ThingName": "line-1", "SerialNumber": serial}}
	}
	old, err := run.Register(t.Context(), board("1"))
	require.NoError(t, err)
	for range 2 {
		_, err = run.Register(t.Context(), board("2"))
		require.ErrorContains(t, err, old.CertificateID)
		require.ErrorContains(t, err, "Options.Existing")
	}
	again, err := run.Register(t.Context(), board("1"))
	require.NoError(t, err)
	assert.Equal(t, old.CertificateID, again.CertificateID, "the board before stays what it was")
}
