package fleet_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestCheckFindsWhatEverySiteAndTheFleetWouldRefuseAndChangesNothing(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	f := w.fleet(t)
	report, err := f.Check(t.Context(), spread(5, 2))
	require.NoError(t, err)
	assert.True(t, report.OK())
	assert.EqualValues(t, 5, report.Devices)
	assert.EqualValues(t, 3, report.Sites[regions[0]].Devices)
	assert.NotEmpty(t, report.Sites[regions[1]].Samples)
	report, err = f.Check(t.Context(), spread(2, 1))
	require.NoError(t, err)
	assert.True(t, report.OK(), "a site without devices is nothing wrong with a fleet")
	report, err = f.Check(t.Context(), provision.Devices())
	require.NoError(t, err)
	assert.False(t, report.OK(), "a fleet without any is")

	report, err = f.Check(t.Context(), broken())
	require.NoError(t, err)
	assert.False(t, report.OK())
	assert.EqualValues(t, 6, report.Devices)
	assert.EqualValues(t, 4, report.Refused)
	require.Len(t, report.Refusals, 4)
	for i, want := range []struct {
		site, name string
		cause      provision.Cause
		text       string
	}{
		{"", "e", fleet.CauseNoRoute, `record 5 of the input: there is no site "mars"`},
		{"", "a", provision.CauseDuplicate, `record 6 of the input: record 1, which goes to site "eu-west-1", has the same thing name`},
		{regions[0], "b 1", provision.CauseInvalidRecord, "b 1"},
		{regions[1], "d 1", provision.CauseInvalidRecord, "d 1"},
	} {
		r := report.Refusals[i]
		assert.Equal(t, want.site, r.Site)
		assert.Equal(t, want.name, r.Name)
		assert.Equal(t, want.cause, r.Cause)
		assert.Contains(t, r.Message, want.text)
	}
	summary, err := f.Run(t.Context(), broken())
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.Equal(t, report.Refused, summary.Failed, "as the run does")
	w.requireOnce(t, results(t, f))

	w = newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	_, err = w.fleet(t).Check(t.Context(), spread(5, 2))
	require.NoError(t, err)
	_, err = w.opts.Ledger.Run(t.Context())
	require.ErrorIs(t, err, provision.ErrNoRun)
	_, err = w.opts.Sites[regions[0]].Ledger.Run(t.Context())
	require.ErrorIs(t, err, provision.ErrNoRun)
}

func TestCheckCountsEveryRefusedRecordAndKeepsAHundred(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	report, err := w.fleet(t).Check(t.Context(), edited(spread(300, 2), func(n int, d *provision.Device) {
		if n <= 60 {
			d.Row["Region"] = "mars"
		} else {
			d.Row["ThingName"] += " "
		}
	}))
	require.NoError(t, err)
	assert.EqualValues(t, 300, report.Refused)
	assert.Len(t, report.Refusals, 100)
}

func TestCheckLooksAtKeysAcrossSites(t *testing.T) {
	w := givenWorld(t)
	shared := csrFor(t, "serial-1")
	f := w.fleet(t)
	// The key is at the first site once, at the second twice; and once in a record that is refused for another reason.
	report, err := f.Check(t.Context(), provision.Devices(withCSR("a", regions[0], shared), withCSR("b", regions[1], shared),
		withCSR("c", regions[1], shared), withCSR("d", regions[1], csrFor(t, "d")), withCSR("e e", regions[1], shared)))
	require.NoError(t, err)
	assert.EqualValues(t, 3, report.Refused)
	of := report.Sites[regions[1]]
	assert.EqualValues(t, 3, of.Refused)
	require.Len(t, of.Refusals, 3)
	named := map[string]provision.Result{}
	for _, r := range of.Refusals {
		named[r.Name] = r
	}
	assert.Contains(t, named["b"].Message, `a device of site "eu-west-1" has the same public key`)
	assert.EqualValues(t, 1, named["b"].Seq)
	assert.EqualValues(t, 2, named["c"].Seq)
	report, err = f.Check(t.Context(), provision.Devices(withCSR("a", regions[1], shared)))
	require.NoError(t, err)
	assert.True(t, report.OK(), "what one Check saw is nothing to the next")
	summary, err := f.Run(t.Context(), provision.Devices(withCSR("a", regions[1], shared)))
	require.NoError(t, err, "nor to a run")
	assert.EqualValues(t, 1, summary.Provisioned)
}

func TestARecordIsRefusedOnceWhateverIsWrongWithIt(t *testing.T) {
	w := givenWorld(t)
	shared := csrFor(t, "c")
	report, err := w.fleet(t).Check(t.Context(), provision.Devices(withCSR("a", regions[0], csrFor(t, "a")),
		withCSR("b", regions[1], csrFor(t, "a,CN=c")), // the names of a and c
		withCSR("c", regions[1], csrFor(t, "c")), withCSR("d", regions[1], csrFor(t, "c"))))
	require.NoError(t, err)
	assert.EqualValues(t, 2, report.Refused, "b and d")
	f := w.fleet(t)
	_, err = f.Check(t.Context(), provision.Devices(withCSR("a", regions[0], shared), withCSR("b", regions[1], shared)))
	require.NoError(t, err)
	summary, err := f.Run(t.Context(), provision.Devices(withCSR("c", regions[1], csrFor(t, "e")), withCSR("e", regions[1], csrFor(t, "e"))))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.EqualValues(t, 1, summary.Failed, "a run after a dry run looks at names as any other")
}

// blindfold is a backend whose account can't be looked at, or that has findings about it.
type blindfold struct {
	*fakebackend.Backend
	err      error
	findings finding.List
}

func (b blindfold) Preflight(context.Context, *task.PreflightInput) (finding.List, error) {
	return b.findings, b.err
}

func TestCheckTellsWhichSiteItCouldNotLookAt(t *testing.T) {
	w := newWorld(t, 3, fakebackend.Options{})
	w.change(regions[0], func(o *provision.Options) {
		o.Backend = blindfold{Backend: w.fakes[regions[0]], err: errors.New("the network is down")}
	})
	w.change(regions[2], func(o *provision.Options) {
		o.Backend = blindfold{Backend: w.fakes[regions[2]], findings: finding.List{{Severity: finding.Error, Message: "the role is gone"}}}
	})
	report, err := w.fleet(t).Check(t.Context(), spread(4, 2))
	require.ErrorContains(t, err, `site "eu-west-1": checking the AWS side: the network is down`)
	require.NotNil(t, report)
	assert.NotContains(t, report.Sites, regions[0])
	assert.EqualValues(t, 2, report.Sites[regions[1]].Devices)
	assert.False(t, report.OK(), "the role is gone at the third site")

	w = newWorld(t, 2, fakebackend.Options{})
	w.change(regions[1], func(o *provision.Options) { o.Backend = twin{w.fakes[regions[0]]} })
	_, err = w.fleet(t).Check(t.Context(), spread(4, 2))
	require.ErrorIs(t, err, fleet.ErrSameAccount)

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errDead)
	_, err = newWorld(t, 2, fakebackend.Options{}).fleet(t).Check(ctx, spread(4, 2))
	require.ErrorIs(t, err, errDead)
	_, err = w.fleet(t).Check(t.Context(), nil)
	require.ErrorContains(t, err, "missing")
}

func TestCheckIsNotWellIfASitesDevicesMayNotDoWhatIsAsked(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	site := w.opts.Sites[regions[1]]
	site.May = []string{"publish:a"}
	w.opts.Sites[regions[1]] = site
	report, err := w.fleet(t).Check(t.Context(), spread(5, 2))
	require.NoError(t, err)
	assert.False(t, report.OK(), "the walkthrough's devices can't connect")
	assert.False(t, report.Sites[regions[1]].May.OK())
	assert.True(t, report.Sites[regions[0]].OK(), "nothing was asked there")
}
