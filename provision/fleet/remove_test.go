package fleet_test

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
	"github.com/seed1ff6f450/iotfleet/task"
)

// everything is what to remove after a trial.
var everything = provision.RemoveOptions{All: true, UncheckedThings: true, Rate: 1000}

func named(names ...string) provision.RemoveOptions {
	return provision.RemoveOptions{Names: names, UncheckedThings: true, Rate: 1000}
}

// trial is a fleet of two sites, a third one without devices, whose four devices are registered.
func trial(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 3, fakebackend.Options{})
	w.durable(t)
	_, err := w.fleet(t).Remove(t.Context(), everything)
	require.ErrorIs(t, err, provision.ErrNoRun)
	w.complete(t, spread(4, 2))
	return w
}

func TestATrialIsUndoneAtEverySite(t *testing.T) {
	w := trial(t)
	f := w.fleet(t)
	reports, err := f.Remove(t.Context(), everything)
	require.NoError(t, err)
	for _, site := range regions[:2] {
		require.NotNil(t, reports[site])
		assert.EqualValues(t, 2, reports[site].Removed)
		assert.Len(t, reports[site].Policies, 1)
		counts := w.fakes[site].Counts()
		assert.Zero(t, counts.Things+counts.Certificates+counts.Policies)
	}
	for name, call := range map[string]func() (*fleet.Summary, error){
		"Run":   func() (*fleet.Summary, error) { return f.Run(t.Context(), spread(4, 2)) },
		"Retry": func() (*fleet.Summary, error) { return f.Retry(t.Context()) },
	} {
		summary, err := call()
		require.ErrorIs(t, err, provision.ErrIncomplete, name)
		assert.ErrorContains(t, err, "0 of 4 devices provisioned, 4 removed", name)
		requireAddsUp(t, summary, 4)
		assert.EqualValues(t, 4, summary.Removed, name)
	}
	reports, err = f.Remove(t.Context(), everything)
	require.NoError(t, err)
	assert.Zero(t, reports[regions[0]].Removed, "there is nothing left")
}

func TestDevicesAreRemovedByNameAtTheirSites(t *testing.T) {
	w := trial(t)
	f := w.fleet(t)
	_, err := f.Remove(t.Context(), named("device-00001", "device-00002", "nobody"))
	require.ErrorContains(t, err, `no site has sent a device "nobody"; nothing was removed`)
	_, err = f.Remove(t.Context(), named("device-00001"), regions[1])
	require.ErrorContains(t, err, `no site has sent a device "device-00001" at us-east-1`)
	_, err = f.Remove(t.Context(), named("device-00001"), "mars")
	require.ErrorContains(t, err, `there is no site "mars"`)
	_, err = f.Remove(t.Context(), provision.RemoveOptions{})
	require.ErrorContains(t, err, "set one of")
	w.requireOnce(t, results(t, f))

	reports, err := f.Remove(t.Context(), named("device-00001", "device-00002"))
	require.NoError(t, err)
	require.Len(t, reports, 2)
	assert.Equal(t, []string{"device-00003"}, things(t, w.fakes[regions[0]]))
	assert.Equal(t, []string{"device-00004"}, things(t, w.fakes[regions[1]]))
	reports, err = f.Remove(t.Context(), named("device-00002", "device-00003"))
	require.NoError(t, err, "one of them is gone already")
	assert.EqualValues(t, 1, reports[regions[0]].Removed)
	assert.Zero(t, reports[regions[1]].Removed)
	w.requireOnce(t, results(t, f))
}

func TestTheDevicesOfOneSiteAreRemoved(t *testing.T) {
	w := trial(t)
	f := w.fleet(t)
	reports, err := f.Remove(t.Context(), everything, regions[1])
	require.NoError(t, err)
	require.Len(t, reports, 1)
	assert.EqualValues(t, 2, reports[regions[1]].Removed)
	busy := false // two sites that ask at once would be a race
	reports, err = f.Remove(t.Context(), provision.RemoveOptions{Rate: 1000, Choose: func(r *provision.Result) bool {
		assert.False(t, busy)
		busy = true
		defer func() { busy = false }()
		return r.Name == "device-00003"
	}})
	require.NoError(t, err)
	require.Len(t, reports, 3, "every site was asked")
	assert.EqualValues(t, 1, reports[regions[0]].Removed)
	w.requireOnce(t, results(t, f))
}

// obstinate is a backend whose removals go through a hook.
type obstinate struct {
	*fakebackend.Backend
	before func(thing string) error
}

func (b obstinate) RetireCertificate(ctx context.Context, thing, id string) ([]string, error) {
	if err := b.before(thing); err != nil {
		return nil, err
	}
	return b.Backend.RetireCertificate(ctx, thing, id)
}

func TestASiteThatRemovesNothingKeepsNoOtherFromIt(t *testing.T) {
	w := trial(t)
	w.change(regions[0], func(o *provision.Options) {
		o.Backend = obstinate{w.fakes[regions[0]], func(string) error { return task.ErrAccessDenied }}
	})
	f := w.fleet(t)
	reports, err := f.Remove(t.Context(), everything)
	var at *fleet.SiteError
	require.ErrorAs(t, err, &at)
	assert.Equal(t, regions[0], at.Site)
	require.ErrorIs(t, err, task.ErrAccessDenied)
	assert.Zero(t, reports[regions[0]].Removed)
	assert.EqualValues(t, 2, reports[regions[1]].Removed)
	summary, err := f.Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 4)
	assert.EqualValues(t, 2, summary.Removing)
	assert.ErrorContains(t, err, "2 removed, 2 being removed")
	_, err = f.Register(t.Context(), device("device-00003", regions[1]))
	require.ErrorContains(t, err, `site "eu-west-1" has a device "device-00003"`, "whose removal is not over")

	// While a ledger can't be read, the names that are known go all the same.
	w = trial(t)
	whole := w.opts.Sites[regions[0]]
	w.change(regions[0], func(o *provision.Options) {
		o.Ledger = &brokenLedger{Ledger: o.Ledger, read: errors.New("the file is damaged")}
	})
	reports, err = w.fleet(t).Remove(t.Context(), named("device-00001", "device-00002"))
	require.ErrorAs(t, err, &at)
	assert.Equal(t, regions[0], at.Site)
	require.ErrorContains(t, err, "the file is damaged")
	require.Len(t, reports, 1)
	assert.EqualValues(t, 1, reports[regions[1]].Removed)
	w.opts.Sites[regions[0]] = whole
	_, err = w.fleet(t).Remove(t.Context(), named("device-00001", "device-00002"))
	require.NoError(t, err)
}

func TestARemovalThatWasCancelledGoesOn(t *testing.T) {
	w := trial(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, site := range regions[:2] {
		w.change(site, func(o *provision.Options) {
			o.Backend = obstinate{w.fakes[site], func(string) error {
				cancel()
				return nil
			}}
		})
	}
	_, err := w.fleet(t).Remove(ctx, everything)
	require.ErrorIs(t, err, context.Canceled)
	f := w.fleet(t)
	_, err = f.Remove(t.Context(), everything)
	require.NoError(t, err)
	for _, site := range regions[:2] {
		assert.Zero(t, w.fakes[site].Counts().Things+w.fakes[site].Counts().Certificates)
	}
	summary, err := f.Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.EqualValues(t, 4, summary.Removed)
}

func TestADeviceThatIsAtTwoSitesIsRemovedFromTheOneThatIsNamed(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	w.change(regions[1], func(o *provision.Options) { o.Credential = &provision.MakeCSR{Store: keystore.Memory()} })
	w.complete(t, spread(4, 2))
	run, err := provision.New(w.opts.Sites[regions[1]])
	require.NoError(t, err)
	_, err = run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "device-00001", "SerialNumber": "9"}})
	require.NoError(t, err)
	f := w.fleet(t)
	_, err = f.Run(t.Context(), nil)
	require.ErrorContains(t, err, "Fleet.Remove")
	_, err = f.Remove(t.Context(), named("device-00001"))
	require.ErrorContains(t, err, `device "device-00001" is at sites "eu-west-1", "us-east-1": name the one`)
	assert.Contains(t, things(t, w.fakes[regions[1]]), "device-00001")
	_, err = f.Remove(t.Context(), named("device-00001"), regions[1])
	require.NoError(t, err)
	summary, err := f.Run(t.Context(), spread(4, 2))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.NotContains(t, err.Error(), "as well", "it was done as advised")
	requireAddsUp(t, summary, 5)
	assert.EqualValues(t, 4, summary.Provisioned)
	reports, err := f.Remove(t.Context(), named("device-00001"))
	require.NoError(t, err, "it is at one site only")
	assert.EqualValues(t, 1, reports[regions[0]].Removed)
}

func TestARemovedDeviceCanGoToAnotherSiteAndThenNotBack(t *testing.T) {
	w := givenWorld(t)
	request := csrFor(t, "serial-1")
	list := func() iter.Seq2[provision.Device, error] {
		return provision.Devices(withCSR("a", regions[0], request), withCSR("b", regions[1], csrFor(t, "b")))
	}
	whole := list()
	f := w.complete(t, whole)
	res, err := f.Register(t.Context(), withCSR("a", regions[1], request))
	w.requireRefused(t, res, err, provision.CauseDuplicate, "remove it there first (Fleet.Remove)")
	_, err = f.Remove(t.Context(), named("a"))
	require.NoError(t, err)
	res, err = f.Register(t.Context(), withCSR("a", regions[1], request))
	require.NoError(t, err, "neither its name nor its key is the first site's")
	assert.Equal(t, regions[1], res.Site)
	for name, f := range map[string]*fleet.Fleet{"in this process": f, "in another": w.fleet(t)} {
		res, err = f.Register(t.Context(), withCSR("a", regions[0], request))
		w.requireRefused(t, res, err, provision.CauseDuplicate, `site "us-east-1" has a device "a"`)
		summary, err := f.Amend(t.Context(), provision.Devices(withCSR("a", regions[0], request)))
		require.ErrorContains(t, err, `site "us-east-1" has a device "a"`, name)
		requireAddsUp(t, summary, 3)
		assert.Empty(t, things(t, w.fakes[regions[0]]), name)
	}
	assert.Equal(t, []string{"a", "b"}, things(t, w.fakes[regions[1]]))
}
