package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
)

var errDead = errors.New("the process has died")

// life ends after a number of changes to ledgers; then the whole process is dead.
type life struct {
	left  atomic.Int64
	death context.CancelCauseFunc
}

func (l *life) spend() error {
	if l.left.Add(-1) < 0 {
		l.death(errDead)
		return errDead
	}
	return nil
}

// mortal is a ledger of a process that dies: changes fail, before or after they have their effect.
type mortal struct {
	provision.Ledger
	life  *life
	after bool
}

func (m *mortal) Apply(ctx context.Context, c provision.Change) error {
	if m.after && m.life.left.CompareAndSwap(1, 0) {
		_ = m.Ledger.Apply(ctx, c)
		return m.life.spend()
	}
	if err := m.life.spend(); err != nil {
		return err
	}
	return m.Ledger.Apply(ctx, c)
}

// mortalBackend takes no request of a dead process.
type mortalBackend struct {
	task.Backend
	life *life
}

func (m *mortalBackend) Unwrap() task.Backend { return m.Backend }

func (m *mortalBackend) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	if m.life.left.Load() < 0 {
		return "", errDead
	}
	return m.Backend.StartTask(ctx, in)
}

func TestAFleetGoesOnAfterTheWholeProcessDiedAnywhere(t *testing.T) {
	const devices = 24
	input := func() iter.Seq2[provision.Device, error] {
		return edited(spread(devices, 3), func(n int, d *provision.Device) {
			switch n {
			case 7:
				d.Row["Region"] = "nowhere"
			case 20: // the name of a device of another site
				d.Row["ThingName"] = "device-00003"
			}
		})
	}
	deaths := 0
	for _, after := range []bool{false, true} {
		for changes := int64(1); ; changes++ {
			lived := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 3, fakebackend.Options{Rate: 5})
				w.durable(t)
				for name := range w.opts.Sites {
					w.change(name, func(o *provision.Options) { o.PartLines = 4 })
				}
				whole := w.opts
				ctx, death := context.WithCancelCause(t.Context())
				l := &life{death: death}
				l.left.Store(changes)
				w.opts.Ledger = &mortal{whole.Ledger, l, after}
				w.opts.Sites = map[string]provision.Options{}
				for name, o := range whole.Sites {
					o.Ledger, o.Backend = &mortal{o.Ledger, l, after}, &mortalBackend{o.Backend, l}
					w.opts.Sites[name] = o
				}
				_, err := w.fleet(t).Run(ctx, input())
				require.Error(t, err)
				lived = l.left.Load() >= 0
				death(nil)

				w.opts = whole
				f := w.fleet(t)
				summary, err := f.Run(t.Context(), input())
				require.ErrorIs(t, err, provision.ErrIncomplete, "two devices were refused")
				requireAddsUp(t, summary, devices)
				require.EqualValues(t, devices-2, summary.Provisioned, "after %d changes: %v", changes, err)
				all := results(t, f)
				require.Len(t, all, devices)
				w.requireOnce(t, all)
			})
			if lived {
				break
			}
			deaths++
		}
	}
	t.Logf("died at %d places", deaths)
	assert.Greater(t, deaths, 50)
}

// brokenLedger fails its changes after some of them.
type brokenLedger struct {
	provision.Ledger
	good atomic.Int64
	read error // what reading devices gives, too
}

func (b *brokenLedger) Apply(ctx context.Context, c provision.Change) error {
	if b.good.Add(-1) < 0 {
		return errors.New("the disk is full")
	}
	return b.Ledger.Apply(ctx, c)
}

func (b *brokenLedger) FindNames(ctx context.Context, names []string) (map[string]int64, error) {
	if b.read != nil {
		return nil, b.read
	}
	return b.Ledger.FindNames(ctx, names)
}

func (b *brokenLedger) Devices(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
	if b.read != nil {
		return func(yield func(*provision.DeviceRecord, error) bool) { yield(nil, b.read) }
	}
	return b.Ledger.Devices(ctx, f)
}

func TestASiteWhoseLedgerFailsIsDrainedAndReported(t *testing.T) {
	for _, good := range []int64{0, 1, 2} { // before anything, after the run's record, after the first 1,000 devices
		t.Run(fmt.Sprintf("after %d changes", good), func(t *testing.T) {
			w := newWorld(t, 2, fakebackend.Options{})
			w.durable(t)
			bad, other := regions[0], regions[1]
			sound := w.opts.Sites[bad].Ledger
			ledger := &brokenLedger{Ledger: sound}
			ledger.good.Store(good)
			w.change(bad, func(o *provision.Options) { o.Ledger = ledger })
			input := func() iter.Seq2[provision.Device, error] {
				return edited(spread(1500, 1), func(n int, d *provision.Device) {
					if n%50 == 0 {
						d.Row["Region"] = other
					}
				})
			}
			summary, err := w.fleet(t).Run(t.Context(), input())
			var failed *fleet.SiteError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, bad, failed.Site)
			assert.ErrorContains(t, err, "the disk is full")
			requireAddsUp(t, summary, 1500)
			assert.EqualValues(t, 30, summary.Sites[other].Provisioned)
			assert.EqualValues(t, 1470, summary.Pending)
			assert.Empty(t, things(t, w.fakes[bad]))

			w.change(bad, func(o *provision.Options) { o.Ledger = sound })
			f := w.fleet(t)
			for _, again := range []func(context.Context) (*fleet.Summary, error){
				f.Retry, f.Reconcile, func(ctx context.Context) (*fleet.Summary, error) { return f.Run(ctx, nil) },
			} {
				summary, err := again(t.Context())
				require.ErrorAs(t, err, &failed, "devices that never reached the site must not be forgotten")
				assert.Equal(t, bad, failed.Site)
				assert.ErrorContains(t, err, "give the devices to Run again")
				assert.Empty(t, things(t, w.fakes[bad]), "half of a site's input must not be sent as if it were all")
				requireAddsUp(t, summary, 1500)
				assert.EqualValues(t, 1470, summary.Pending)
			}
			summary, err = f.Run(t.Context(), input())
			require.NoError(t, err)
			assert.EqualValues(t, 1500, summary.Provisioned)
		})
	}
}

func TestASiteWhoseLedgerCannotBeReadHoldsOnlyThoseThatMightTakeItsDevices(t *testing.T) {
	w := newWorld(t, 3, fakebackend.Options{})
	w.durable(t)
	bad, done, open := regions[0], regions[1], regions[2]
	sound := map[string]provision.Ledger{}
	for name, o := range w.opts.Sites {
		sound[name] = o.Ledger
	}
	damage := func(name string, l *brokenLedger) {
		l.Ledger = sound[name]
		w.change(name, func(o *provision.Options) { o.Ledger = l })
	}
	input := func() iter.Seq2[provision.Device, error] { return spread(9, 3) }
	damage(open, &brokenLedger{}) // takes nothing
	summary, err := w.fleet(t).Run(t.Context(), input())
	require.Error(t, err)
	assert.EqualValues(t, 6, summary.Provisioned)

	unreadable := &brokenLedger{read: errors.New("the file is damaged")}
	unreadable.good.Store(1000)
	damage(bad, unreadable)
	damage(open, &brokenLedger{})
	w.change(open, func(o *provision.Options) { o.Ledger = sound[open] })
	summary, err = w.fleet(t).Run(t.Context(), input())
	var failed *fleet.Error
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Sites, 2)
	assert.ErrorContains(t, err, `takes no further devices while the ledger of site "eu-west-1" can't be read`)
	assert.EqualValues(t, 3, summary.Sites[done].Provisioned)
	assert.Empty(t, things(t, w.fakes[open]))
	requireAddsUp(t, summary, 9)

	w.change(bad, func(o *provision.Options) { o.Ledger = sound[bad] })
	w.complete(t, input())
}

// A new fleet whose first site can't even be read must not keep the others waiting.
func TestAnUnreadableLedgerOfANewFleetCostsItsSiteOnly(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	w.change(regions[0], func(o *provision.Options) {
		o.Ledger = &brokenLedger{Ledger: o.Ledger, read: errors.New("the file is damaged")}
	})
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), spread(10, 2))
	require.ErrorContains(t, err, "the file is damaged")
	requireAddsUp(t, summary, 10)
	assert.EqualValues(t, 5, summary.Provisioned)
	told := 0
	var last error
	for r, err := range f.Results(t.Context()) {
		require.NoError(t, last, "the error is terminal and last")
		if last = err; err == nil {
			assert.Equal(t, regions[1], r.Site)
			told++
		}
	}
	assert.Equal(t, 5, told, "the other site's devices are told all the same")
	var failed *fleet.SiteError
	require.ErrorAs(t, last, &failed)
	assert.Equal(t, regions[0], failed.Site)
}

func TestAFleetOnSQLiteIsWhereItWasWhenItIsOpenedAgain(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	dir := t.TempDir()
	parts := map[string]string{regions[0]: t.TempDir(), regions[1]: t.TempDir()}
	open := func() (closeAll func()) {
		var closers []func() error
		ledger := func(name string) provision.Ledger {
			l, err := sqliteledger.Open(t.Context(), filepath.Join(dir, name+".db"), nil)
			require.NoError(t, err)
			closers = append(closers, l.Close)
			return l
		}
		w.opts.Ledger = ledger("fleet")
		for name, parts := range parts {
			w.change(name, func(o *provision.Options) { o.Ledger, o.PartDir = ledger(name), parts })
		}
		return func() {
			for _, c := range closers {
				require.NoError(t, c())
			}
		}
	}
	closeAll := open()
	w.incomplete(t, provision.Devices(device("one", regions[0]), device("two", regions[1]), device("three", "")))
	closeAll()
	closeAll = open()
	defer closeAll()
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 3)
	assert.EqualValues(t, 2, summary.Provisioned)
	assert.EqualValues(t, 1, summary.Refused)
	w.requireOnce(t, results(t, f))
	_, err = f.Run(t.Context(), provision.Devices(device("one", regions[1]), device("two", regions[1]), device("three", "")))
	require.ErrorIs(t, err, provision.ErrInputChanged)
}

func taskCount(t *testing.T, fake *fakebackend.Backend) int {
	t.Helper()
	n := 0
	for _, err := range task.List(t.Context(), fake, "") {
		require.NoError(t, err)
		n++
	}
	return n
}

func TestADeviceWhoseRouteChangedIsRefusedBeforeAnythingIsSent(t *testing.T) {
	moved := func(devices iter.Seq2[provision.Device, error]) iter.Seq2[provision.Device, error] {
		return edited(devices, func(n int, d *provision.Device) {
			if n == 3 {
				d.Row["Region"] = regions[1] // it was eu-west-1
			}
		})
	}
	for name, durable := range map[string]bool{"in one process": false, "in another process": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2, fakebackend.Options{})
			if durable {
				w.durable(t)
			}
			f := w.complete(t, spread(8, 2))
			if durable {
				f = w.fleet(t)
			}
			_, err := f.Run(t.Context(), moved(spread(8, 2)))
			require.ErrorIs(t, err, provision.ErrInputChanged)
			assert.ErrorContains(t, err, `device "device-00003" (record 3) went to site "eu-west-1" when the run was started, and is routed to site "us-east-1" now`)
			w.requireOnce(t, results(t, f))
			assert.Equal(t, 1, taskCount(t, w.fakes[regions[1]]))
			_, err = f.Run(t.Context(), spread(8, 2))
			require.NoError(t, err, "the unchanged input is as good as before")
		})
	}
	t.Run("to a site that has taken none yet", func(t *testing.T) {
		// The hard case: eu-west-1 is done, and us-east-1 would take whatever comes.
		w := newWorld(t, 2, fakebackend.Options{})
		w.durable(t)
		sound := w.opts.Sites[regions[1]].Ledger
		w.change(regions[1], func(o *provision.Options) { o.Ledger = &brokenLedger{Ledger: o.Ledger} })
		summary, err := w.fleet(t).Run(t.Context(), spread(8, 2))
		require.Error(t, err)
		require.EqualValues(t, 4, summary.Provisioned)
		w.change(regions[1], func(o *provision.Options) { o.Ledger = sound })
		f := w.fleet(t)
		_, err = f.Run(t.Context(), moved(spread(8, 2)))
		require.ErrorIs(t, err, provision.ErrInputChanged)
		assert.Empty(t, things(t, w.fakes[regions[1]]), "nothing may be sent")
	})
	t.Run("to nowhere and back", func(t *testing.T) {
		w := newWorld(t, 2, fakebackend.Options{})
		w.durable(t)
		lost := func() iter.Seq2[provision.Device, error] {
			return edited(spread(8, 2), func(n int, d *provision.Device) {
				if n == 3 {
					d.Row["Region"] = ""
				}
			})
		}
		w.incomplete(t, lost())
		_, err := w.fleet(t).Run(t.Context(), spread(8, 2))
		require.ErrorIs(t, err, provision.ErrInputChanged)
		assert.ErrorContains(t, err, "was refused before")
		f := w.fleet(t)
		_, err = f.Run(t.Context(), edited(lost(), func(n int, d *provision.Device) {
			if n == 4 {
				d.Row["Region"] = ""
			}
		}))
		require.ErrorIs(t, err, provision.ErrInputChanged)
		assert.ErrorContains(t, err, "was not refused before")
		_, err = f.Run(t.Context(), lost())
		require.ErrorIs(t, err, provision.ErrIncomplete)
		all := results(t, f)
		require.Len(t, all, 8)
		w.requireOnce(t, all)
	})
}

func TestAChangedRowIsRefusedByItsSiteAlone(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	w.complete(t, spread(8, 2))
	summary, err := w.fleet(t).Run(t.Context(), edited(spread(8, 2), func(n int, d *provision.Device) {
		if n == 3 {
			d.Row["SerialNumber"] = "other"
		}
	}))
	require.ErrorIs(t, err, provision.ErrInputChanged)
	var failed *fleet.Error
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Sites, 1)
	assert.Equal(t, "eu-west-1", failed.Sites[0].Site)
	assert.ErrorContains(t, failed.Sites[0], "differs first in SerialNumber")
	requireAddsUp(t, summary, 8)
}
