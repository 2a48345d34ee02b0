package fleet_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
)

// shelf is an output that keeps the names of the devices that were made durable, and fails for one of them.
type shelf struct {
	names, durable []string
	fail           string
}

func (o *shelf) Deliver(_ context.Context, d *provision.Delivery) error {
	if d.ThingName == o.fail {
		return errors.New("the shelf is full")
	}
	o.names = append(o.names, d.Region+" "+d.ThingName)
	return nil
}

func (o *shelf) Sync(context.Context) error {
	o.durable = slices.Clone(o.names)
	return nil
}

func TestDeliverHandsOverTheDevicesOfEverySite(t *testing.T) {
	w := newWorld(t, 3, fakebackend.Options{})
	w.durable(t)
	_, err := w.fleet(t).Deliver(t.Context(), &shelf{})
	require.ErrorIs(t, err, provision.ErrNoRun)
	_, err = w.fleet(t).Deliver(t.Context(), nil)
	require.ErrorContains(t, err, "missing")
	w.complete(t, spread(5, 2))
	out := &shelf{}
	n, err := w.fleet(t).Deliver(t.Context(), out)
	require.NoError(t, err)
	assert.EqualValues(t, 5, n)
	assert.ElementsMatch(t, []string{"eu-west-1 device-00001", "eu-west-1 device-00003", "eu-west-1 device-00005",
		"us-east-1 device-00002", "us-east-1 device-00004"}, out.durable)

	out = &shelf{fail: "device-00003"}
	n, err = w.fleet(t).Deliver(t.Context(), out)
	require.ErrorContains(t, err, `site "eu-west-1": handing over the credential of device "device-00003": the shelf is full`)
	assert.EqualValues(t, 2, n, "one site's failure costs the other nothing")
	assert.Contains(t, out.durable, "us-east-1 device-00004")
}

func TestOrphansAreFoundAndRemovedAtEverySite(t *testing.T) {
	w := newWorld(t, 3, fakebackend.Options{})
	w.durable(t)
	for _, site := range regions[:2] { // a line that fails after its certificate was issued
		w.fault(t, site, fakebackend.Fault{Step: fakebackend.StepThing, Do: fakebackend.Fail, Line: 2})
	}
	denied, err := w.fakes[regions[0]].AddFault(fakebackend.Fault{
		Operation: "ListCertificates", Do: fakebackend.Fail, Code: "AccessDeniedException", Status: 403, Times: -1,
	})
	require.NoError(t, err)
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), spread(9, 3))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.Equal(t, 1, summary.Orphans)
	assert.Zero(t, summary.OrphansLooked, "nobody has looked at the first site")
	var blind *fleet.SiteError
	require.ErrorAs(t, summary.OrphansError, &blind)
	assert.Equal(t, regions[0], blind.Site)
	assert.Len(t, summary.Tasks, 3)
	w.fakes[regions[0]].RemoveFault(denied)
	_, err = f.FindOrphans(t.Context())
	require.NoError(t, err)
	summary, err = f.Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.ErrorContains(t, err, "2 certificates that no device uses")
	require.NoError(t, summary.OrphansError)
	assert.NotZero(t, summary.OrphansLooked)
	for _, site := range summary.Sites {
		assert.False(t, site.OrphansLooked.Before(summary.OrphansLooked))
	}
	f = w.fleet(t)
	orphans, err := f.FindOrphans(t.Context())
	require.NoError(t, err)
	require.Len(t, orphans, 2)
	assert.Equal(t, []string{"eu-west-1", "us-east-1"}, []string{orphans[0].Site, orphans[1].Site})
	assert.Equal(t, "device-00004", orphans[0].Name)

	whole := w.opts.Sites[regions[0]]
	w.change(regions[0], func(o *provision.Options) { o.Backend = reportless{o.Backend, w.fakes[regions[0]]} })
	f = w.fleet(t)
	orphans, err = f.FindOrphans(t.Context())
	var at *fleet.SiteError
	require.ErrorAs(t, err, &at)
	assert.Equal(t, regions[0], at.Site)
	require.Len(t, orphans, 1, "what the others found is told")
	n, err := f.RemoveOrphans(t.Context())
	require.ErrorAs(t, err, &at)
	assert.Equal(t, 1, n)
	w.opts.Sites[regions[0]] = whole
	n, err = w.fleet(t).RemoveOrphans(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	for _, site := range regions[:2] {
		assert.Equal(t, 2, w.fakes[site].Counts().Certificates, site)
	}
}

func TestACancelledCallIsToldOfEverySite(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	f := w.incomplete(t, broken())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"Register":    func() error { _, err := f.Register(ctx, device("late", regions[0])); return err },
		"Amend":       func() error { _, err := f.Amend(ctx, mended(t, f, nil)); return err },
		"Retry":       func() error { _, err := f.Retry(ctx); return err },
		"Reconcile":   func() error { _, err := f.Reconcile(ctx); return err },
		"Deliver":     func() error { _, err := f.Deliver(ctx, &shelf{}); return err },
		"FindOrphans": func() error { _, err := f.FindOrphans(ctx); return err },
	} {
		require.ErrorIs(t, call(), context.Canceled, name)
	}
	assert.Equal(t, []string{"a"}, things(t, w.fakes[regions[0]]))
}
