package fleet_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// forgotten gives the sites new ledgers and keys: the accounts have what an earlier fleet registered.
func (w *world) forgotten(t *testing.T) {
	w.durable(t)
	w.keys = keystore.Memory()
	for _, site := range regions[:2] {
		w.change(site, func(o *provision.Options) {
			if _, makes := o.Credential.(*provision.MakeCSR); makes {
				o.Credential = &provision.MakeCSR{Store: w.keys}
			}
		})
	}
}

func TestEverySiteLooksAtItsOwnAccountAsItsOptionsSay(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	w.complete(t, spread(3, 2))
	w.forgotten(t)
	w.change(regions[1], func(o *provision.Options) { o.Existing = provision.ReplaceExisting })
	f := w.fleet(t)
	report, err := f.Check(t.Context(), spread(6, 2))
	require.NoError(t, err)
	assert.False(t, report.OK())
	assert.EqualValues(t, 2, report.Refused)
	for i, name := range []string{"device-00001", "device-00003"} {
		assert.Equal(t, regions[0], report.Refusals[i].Site)
		assert.Equal(t, name, report.Refusals[i].Name)
		assert.Equal(t, provision.CauseExists, report.Refusals[i].Cause)
	}
	for site, n := range map[string]int64{regions[0]: 2, regions[1]: 1} {
		of := report.Sites[site]
		assert.Equal(t, n, of.Certified, site)
		assert.Equal(t, n, of.Things, site)
		require.Len(t, of.Existing, int(n), site)
		assert.NotEmpty(t, of.Existing[0].Existing[0].Created, site)
		assert.False(t, of.NotLooked, site)
	}
	assert.Equal(t, "device-00002", report.Sites[regions[1]].Existing[0].Name)

	summary, err := f.Run(t.Context(), spread(6, 2))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 6)
	assert.EqualValues(t, 2, summary.Causes[provision.CauseExists])
	assert.EqualValues(t, 4, summary.Provisioned)
	assert.Equal(t, 3, w.fakes[regions[1]].Counts().Certificates, "the old one was replaced")
	assert.Equal(t, 3, w.fakes[regions[0]].Counts().Certificates, "and refused here")

	w.change(regions[0], func(o *provision.Options) { o.Existing = provision.ReplaceExisting })
	f = w.fleet(t)
	summary, err = f.Retry(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 6, summary.Provisioned)
	w.requireOnce(t, results(t, f))
}

func TestADryRunRefusesARecordOnceThatExistsAndIsAnotherSites(t *testing.T) {
	w := givenWorld(t)
	shared, own := csrFor(t, "serial-1"), csrFor(t, "serial-2")
	w.complete(t, provision.Devices(withCSR("b", regions[1], own)))
	for _, existing := range []provision.Existing{provision.RefuseExisting, provision.TakeOverExisting} {
		w.forgotten(t)
		w.change(regions[1], func(o *provision.Options) { o.Existing = existing })
		report, err := w.fleet(t).Check(t.Context(), provision.Devices(withCSR("a", regions[0], shared),
			withCSR("b", regions[1], shared), withCSR("c", regions[1], csrFor(t, "c"))))
		require.NoError(t, err)
		assert.EqualValues(t, 1, report.Refused, existing)
		require.Len(t, report.Refusals, 1, existing)
		assert.Equal(t, "b", report.Refusals[0].Name)
		assert.Contains(t, report.Refusals[0].Message, `a device of site "eu-west-1" has the same public key`)
		assert.Len(t, report.Sites[regions[1]].Samples, 1, "of c alone")

		report, err = w.fleet(t).Check(t.Context(), provision.Devices(withCSR("a", regions[0], shared), withCSR("b", regions[1], own)))
		require.NoError(t, err)
		assert.Equal(t, existing == provision.TakeOverExisting, report.OK(), existing)
	}
}
