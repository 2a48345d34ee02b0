package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// regions name the sites of tests after where they are.
var regions = []string{"eu-west-1", "us-east-1", "ap-south-1", "sa-east-1"}

// world is several fake accounts with a site each, and what outlives a program.
type world struct {
	fakes map[string]*fakebackend.Backend
	keys  keystore.Store
	opts  fleet.Options

	mu     sync.Mutex
	events map[string][]provision.Event
	ended  map[string]time.Duration // when each site's last part was collected, from the beginning
	began  time.Time
}

// newWorld makes n sites whose fakes have the given options.
func newWorld(t *testing.T, n int, fake fakebackend.Options) *world {
	t.Helper()
	w := &world{
		fakes: map[string]*fakebackend.Backend{}, keys: keystore.Memory(),
		events: map[string][]provision.Event{}, ended: map[string]time.Duration{}, began: time.Now(),
	}
	w.opts = fleet.Options{Route: fleet.ByColumn("Region"), Sites: map[string]provision.Options{}, SpoolDir: t.TempDir()}
	for _, name := range regions[:n] {
		fake.Region = name
		w.addSite(t, name, fake)
	}
	w.opts.Observe = func(site string, e provision.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events[site] = append(w.events[site], e)
		if _, ok := e.(provision.EventPartCollected); ok {
			w.ended[site] = time.Since(w.began)
		}
	}
	return w
}

func (w *world) addSite(t *testing.T, name string, opts fakebackend.Options) {
	t.Helper()
	fake, err := fakebackend.New(opts)
	require.NoError(t, err)
	role, err := fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration"})
	require.NoError(t, err)
	w.fakes[name] = fake
	w.opts.Sites[name] = provision.Options{
		Backend: fake, Template: template.Walkthrough(), RoleARN: role,
		Credential: &provision.MakeCSR{Store: w.keys},
	}
}

// change edits a site's options.
func (w *world) change(name string, edit func(*provision.Options)) {
	opts := w.opts.Sites[name]
	edit(&opts)
	w.opts.Sites[name] = opts
}

// durable gives the world ledgers and folders for parts that outlive a Fleet.
func (w *world) durable(t *testing.T) {
	w.opts.Ledger = provision.NewMemoryLedger()
	for name := range w.opts.Sites {
		w.change(name, func(o *provision.Options) { o.Ledger, o.PartDir = provision.NewMemoryLedger(), t.TempDir() })
	}
}

func (w *world) fleet(t *testing.T) *fleet.Fleet {
	t.Helper()
	f, err := fleet.New(w.opts)
	require.NoError(t, err)
	return f
}

// complete makes a run of devices, which must all be provisioned.
func (w *world) complete(t *testing.T, devices iter.Seq2[provision.Device, error]) *fleet.Fleet {
	t.Helper()
	f := w.fleet(t)
	_, err := f.Run(t.Context(), devices)
	require.NoError(t, err)
	return f
}

// incomplete makes a run of devices, of which some must not be provisioned.
func (w *world) incomplete(t *testing.T, devices iter.Seq2[provision.Device, error]) *fleet.Fleet {
	t.Helper()
	f := w.fleet(t)
	_, err := f.Run(t.Context(), devices)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	return f
}

func (w *world) fault(t *testing.T, site string, f fakebackend.Fault) {
	t.Helper()
	_, err := w.fakes[site].AddFault(f)
	require.NoError(t, err)
}

// device makes a row for a site.
func device(name, region string) provision.Device {
	return provision.Device{Row: map[string]string{"ThingName": name, "SerialNumber": "s-" + name, "Region": region}}
}

// spread makes n devices, dealt to the first sites in turn.
func spread(n, sites int) iter.Seq2[provision.Device, error] {
	return func(yield func(provision.Device, error) bool) {
		for i := range n {
			if !yield(device(fmt.Sprintf("device-%05d", i+1), regions[i%sites]), nil) {
				return
			}
		}
	}
}

// edited passes devices through edit.
func edited(devices iter.Seq2[provision.Device, error], edit func(n int, d *provision.Device)) iter.Seq2[provision.Device, error] {
	return func(yield func(provision.Device, error) bool) {
		n := 0
		for d, err := range devices {
			n++
			edit(n, &d)
			if !yield(d, err) {
				return
			}
		}
	}
}

func results(t *testing.T, f *fleet.Fleet) []*fleet.Result {
	t.Helper()
	var out []*fleet.Result
	for r, err := range f.Results(t.Context()) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

// things yields the names of the things an account has.
func things(t *testing.T, fake *fakebackend.Backend) []string {
	t.Helper()
	var names []string
	for thing := range fake.Things() {
		names = append(names, thing.ThingName)
	}
	slices.Sort(names)
	return names
}

// requireOnce checks that every provisioned device has one thing with one certificate at its own site, that no account
// has a thing which is not a device of its site, and that the certificate is for the key in the folder.
func (w *world) requireOnce(t *testing.T, all []*fleet.Result) {
	t.Helper()
	want := map[string][]string{}
	for _, r := range all {
		if r.Verdict != provision.Provisioned {
			continue
		}
		want[r.Site] = append(want[r.Site], r.Name)
		dev, err := w.fakes[r.Site].ReadDevice(t.Context(), r.Name)
		require.NoError(t, err, "%s at %s", r.Name, r.Site)
		require.Len(t, dev.Certificates, 1, "%s must have exactly one certificate", r.Name)
		require.Equal(t, r.CertificateID, dev.Certificates[0].ID)
		assert.Equal(t, "ACTIVE", dev.Certificates[0].Status)
		rec, err := w.keys.Get(t.Context(), r.Name)
		require.NoError(t, err, "the key of %s", r.Name)
		digest, err := csr.CertificateKeySHA256([]byte(r.CertificatePEM))
		require.NoError(t, err)
		require.Equal(t, rec.Request.PublicKeySHA256(), digest, "the certificate of %s is for another key", r.Name)
	}
	for site, fake := range w.fakes {
		slices.Sort(want[site])
		require.Equal(t, want[site], things(t, fake), "things at %s", site)
	}
}

// requireAddsUp checks that the counts of a summary add up to each other, to its sites' and to n records.
func requireAddsUp(t *testing.T, s *fleet.Summary, n int) {
	t.Helper()
	require.EqualValues(t, n, s.Total)
	require.Equal(t, s.Total, s.Provisioned+s.NoKey+s.Failed+s.Unknown+s.Removed+s.Removing+s.Pending)
	sum := s.Refused
	for _, site := range s.Sites {
		require.Equal(t, site.Total, site.Provisioned+site.NoKey+site.Failed+site.Unknown+site.Removed+site.Removing+site.Pending)
		sum += site.Total
	}
	require.LessOrEqual(t, sum, s.Total)
	var causes int64
	for _, k := range s.Causes {
		causes += k
	}
	require.Equal(t, s.Failed, causes)
}

func TestEveryDeviceIsProvisionedAtItsOwnSite(t *testing.T) {
	w := newWorld(t, 3, fakebackend.Options{})
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), spread(31, 3))
	require.NoError(t, err)
	requireAddsUp(t, summary, 31)
	assert.EqualValues(t, 31, summary.Provisioned)
	assert.True(t, summary.Fake)
	assert.Equal(t, []string{"ap-south-1", "eu-west-1", "us-east-1"}, slices.Sorted(maps.Keys(summary.Sites)))
	assert.EqualValues(t, 11, summary.Sites["eu-west-1"].Provisioned)
	all := results(t, f)
	require.Len(t, all, 31)
	w.requireOnce(t, all)
	for _, r := range all {
		assert.Contains(t, r.ThingARN, ":"+r.Site+":", "the device's region must be its site's")
	}
	for _, site := range regions[:3] {
		assert.NotEmpty(t, w.events[site])
	}
	records, err := f.Manifests(t.Context())
	require.NoError(t, err)
	require.Len(t, records, 3)
	assert.EqualValues(t, 10, records["us-east-1"].Total)
	assert.Equal(t, "us-east-1", records["us-east-1"].Region)
}

func TestASiteWithoutDevicesIsNoFailureButAFleetWithoutIs(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	summary, err := w.fleet(t).Run(t.Context(), spread(3, 1))
	require.NoError(t, err)
	requireAddsUp(t, summary, 3)
	assert.Zero(t, summary.Sites["us-east-1"].Total)

	summary, err = w.fleet(t).Run(t.Context(), spread(0, 1))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.ErrorContains(t, err, "the input held no device")
	requireAddsUp(t, summary, 0)
}

func TestNewRefusesOptionsThatCannotWork(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(t *testing.T, w *world)
		text string
	}{
		"no route":              {func(_ *testing.T, w *world) { w.opts.Route = fleet.Route{} }, "Options.Route is missing"},
		"no sites":              {func(_ *testing.T, w *world) { w.opts.Sites = nil }, "Options.Sites is empty"},
		"a site without a name": {func(_ *testing.T, w *world) { w.opts.Sites[""] = w.opts.Sites["us-east-1"] }, "empty name"},
		"a site that could not run": {func(_ *testing.T, w *world) {
			w.change("us-east-1", func(o *provision.Options) { o.RoleARN = "" })
		}, `site "us-east-1": provision: Options.RoleARN is missing`},
		"keys kept nowhere": {func(_ *testing.T, w *world) {
			w.change("us-east-1", func(o *provision.Options) { o.Credential = &provision.MakeCSR{} })
		}, `site "us-east-1": provision: MakeCSR.Store is missing`},
		"one backend twice": {func(_ *testing.T, w *world) {
			w.change("us-east-1", func(o *provision.Options) { o.Backend = w.fakes["eu-west-1"] })
		}, "they have the same backend"},
		"a ledger at some sites": {func(t *testing.T, w *world) {
			w.change("us-east-1", func(o *provision.Options) { o.Ledger, o.PartDir = provision.NewMemoryLedger(), t.TempDir() })
		}, "1 of 2 sites have a ledger"},
		"no ledger of the fleet":   {func(t *testing.T, w *world) { w.durable(t); w.opts.Ledger = nil }, "Options.Ledger is missing"},
		"the fleet's ledger alone": {func(_ *testing.T, w *world) { w.opts.Ledger = provision.NewMemoryLedger() }, "its sites have none"},
		"one ledger at two sites": {func(t *testing.T, w *world) {
			w.durable(t)
			w.change("us-east-1", func(o *provision.Options) { o.Ledger = w.opts.Sites["eu-west-1"].Ledger })
		}, `sites "eu-west-1" and "us-east-1" have the same ledger`},
		"the fleet's ledger at a site": {func(t *testing.T, w *world) {
			w.durable(t)
			w.change("us-east-1", func(o *provision.Options) { o.Ledger = w.opts.Ledger })
		}, `site "us-east-1" has the fleet's own ledger`},
		"one folder of parts at two sites": {func(t *testing.T, w *world) {
			w.durable(t)
			w.change("us-east-1", func(o *provision.Options) { o.PartDir = w.opts.Sites["eu-west-1"].PartDir + "/." })
		}, "the same PartDir"},
		"turns with sites that do not wait": {func(_ *testing.T, w *world) {
			w.opts.TakeTurns = true
			w.change("us-east-1", func(o *provision.Options) { o.Foreign = provision.FailOnForeign })
		}, "FailOnForeign"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2, fakebackend.Options{})
			c.edit(t, w)
			_, err := fleet.New(w.opts)
			require.Error(t, err)
			assert.ErrorContains(t, err, c.text)
		})
	}
}

func TestTheFleetsLedgerBelongsToItsSites(t *testing.T) {
	w := newWorld(t, 3, fakebackend.Options{})
	w.durable(t)
	w.complete(t, spread(6, 3))
	delete(w.opts.Sites, "ap-south-1")
	_, err := w.fleet(t).Check(t.Context(), spread(4, 2))
	require.ErrorIs(t, err, provision.ErrElsewhere, "a dry run finds it as well")
	_, err = w.fleet(t).Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrElsewhere)
	assert.ErrorContains(t, err, `"eu-west-1", "us-east-1"`)
}

// twin is a second backend object for the account and region of another.
type twin struct{ task.Backend }

func (b twin) Unwrap() task.Backend { return b.Backend }

func TestTwoSitesOfOneAccountAndRegionAreRefusedOrTakeTurns(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.change("us-east-1", func(o *provision.Options) {
		o.Backend, o.RoleARN = twin{w.fakes["eu-west-1"]}, w.opts.Sites["eu-west-1"].RoleARN
	})
	w.fakes = map[string]*fakebackend.Backend{"eu-west-1": w.fakes["eu-west-1"]}
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), spread(10, 2))
	require.ErrorIs(t, err, fleet.ErrSameAccount)
	requireAddsUp(t, summary, 10)
	assert.EqualValues(t, 5, summary.Provisioned, "the site that was first works")
	assert.EqualValues(t, 5, summary.Pending)
	var failed *fleet.Error
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Sites, 1)
	assert.ErrorContains(t, failed.Sites[0], "account 123456789012, region eu-west-1")

	w = newWorld(t, 2, fakebackend.Options{})
	w.change("us-east-1", func(o *provision.Options) {
		o.Backend, o.RoleARN = w.fakes["eu-west-1"], w.opts.Sites["eu-west-1"].RoleARN
	})
	w.opts.TakeTurns = true
	summary, err = w.fleet(t).Run(t.Context(), spread(10, 2))
	require.NoError(t, err)
	assert.EqualValues(t, 10, summary.Provisioned)
	assert.Len(t, things(t, w.fakes["eu-west-1"]), 10)
	assert.Empty(t, things(t, w.fakes["us-east-1"]))
}

func TestAnErrorOfTheInputStopsEverySiteBeforeItSends(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	torn := errors.New("the disk is gone")
	f := w.fleet(t)
	_, err := f.Run(t.Context(), func(yield func(provision.Device, error) bool) {
		for d, err := range spread(1600, 2) {
			if !yield(d, err) {
				return
			}
		}
		yield(provision.Device{}, torn)
	})
	require.ErrorIs(t, err, torn)
	assert.ErrorContains(t, err, "after 1600 records")
	var failed *fleet.Error
	require.ErrorAs(t, err, &failed)
	assert.Empty(t, failed.Sites, "no site is to blame")
	assert.Empty(t, things(t, w.fakes["eu-west-1"]))
	assert.Empty(t, things(t, w.fakes["us-east-1"]))

	_, err = f.Retry(t.Context())
	require.Error(t, err, "half an input must not be taken for all of it")
	summary, err := f.Run(t.Context(), spread(1600, 2))
	require.NoError(t, err)
	assert.EqualValues(t, 1600, summary.Provisioned)
}

func TestACancelledContextEndsTheCallAndIsTold(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	summary, err := w.fleet(t).Run(ctx, edited(spread(100, 2), func(n int, _ *provision.Device) {
		if n == 50 {
			cancel(stop)
		}
	}))
	require.ErrorIs(t, err, stop)
	assert.Zero(t, summary.Provisioned)
}

func TestAPanicOfTheRouteIsNotSwallowedAndLeavesNothingBehind(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.opts.Route = fleet.ByFunc(func(d provision.Device) (string, error) {
		if d.Row["ThingName"] == "device-00003" {
			panic("a route with a fault")
		}
		return d.Row["Region"], nil
	})
	assert.PanicsWithValue(t, "a route with a fault", func() { _, _ = w.fleet(t).Run(t.Context(), spread(10, 2)) })
	assert.Empty(t, things(t, w.fakes["eu-west-1"]))
}

func TestAPanicAtOneSiteIsRaisedOnTheCallerAfterTheOthersHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, fakebackend.Options{Rate: 10})
		w.durable(t)
		faulty := true
		observe := w.opts.Observe
		w.opts.Observe = func(site string, e provision.Event) {
			observe(site, e)
			if _, ready := e.(provision.EventPartReady); ready && faulty && site == "eu-west-1" {
				panic("an observer with a fault")
			}
		}
		f := w.fleet(t)
		func() {
			defer func() {
				err, ok := recover().(error)
				require.True(t, ok)
				assert.ErrorContains(t, err, "an observer with a fault")
				assert.ErrorContains(t, err, "fleet_test.go", "with its stack")
			}()
			_, _ = f.Run(t.Context(), spread(30, 3))
		}()
		faulty = false
		_, err := f.Run(t.Context(), spread(30, 3))
		require.NoError(t, err)
		w.requireOnce(t, results(t, f))
	})
}

// ownStep is a credential step of the user's own.
type ownStep struct{ *provision.MakeCSR }

func TestAStepOfTheUsersOwnIsAskedForKeysOfAnotherRun(t *testing.T) {
	w := newWorld(t, 1, fakebackend.Options{})
	w.durable(t)
	w.change(regions[0], func(o *provision.Options) { o.Credential = ownStep{&provision.MakeCSR{Store: w.keys}} })
	input := provision.Rows(map[string]string{"ThingName": "device-1", "SerialNumber": "1", "Region": regions[0]})
	w.complete(t, input)
	w.durable(t)
	for range 3 {
		_, err := w.fleet(t).Run(t.Context(), input)
		require.ErrorIs(t, err, keystore.ErrExists)
	}
	assert.Equal(t, 1, w.fakes[regions[0]].Counts().Certificates)
}
