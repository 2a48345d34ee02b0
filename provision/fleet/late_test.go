package fleet_test

import (
	"errors"
	"maps"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
)

// requireRefused checks a device that was refused before anything was sent or kept.
func (w *world) requireRefused(t *testing.T, res *fleet.Result, err error, cause provision.Cause, text string) {
	t.Helper()
	require.ErrorContains(t, err, text)
	require.NotNil(t, res)
	assert.Equal(t, provision.Failed, res.Verdict)
	assert.Equal(t, cause, res.Cause)
	assert.Contains(t, res.Message, text)
	assert.Empty(t, res.Site)
	assert.Zero(t, res.Seq)
}

func TestALateDeviceIsRegisteredAtItsSiteUnlessAnotherHasItsName(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	w.complete(t, spread(4, 2))
	f := w.fleet(t) // a new process
	res, err := f.Register(t.Context(), device("late", regions[1]))
	require.NoError(t, err)
	assert.Equal(t, regions[1], res.Site)
	assert.Equal(t, provision.Provisioned, res.Verdict)
	assert.Contains(t, res.ThingARN, ":us-east-1:")
	again, err := f.Register(t.Context(), device("late", regions[1]))
	require.NoError(t, err)
	assert.Equal(t, res.CertificateID, again.CertificateID)

	res, err = f.Register(t.Context(), device("device-00001", regions[1]))
	w.requireRefused(t, res, err, provision.CauseDuplicate, `site "eu-west-1" has a device "device-00001"`)
	res, err = f.Register(t.Context(), device("late", regions[0]))
	w.requireRefused(t, res, err, provision.CauseDuplicate, `site "us-east-1" has a device "late"`)
	res, err = f.Register(t.Context(), device("lost", "mars"))
	w.requireRefused(t, res, err, fleet.CauseNoRoute, `there is no site "mars"`)
	res, err = f.Register(t.Context(), device("has space", regions[0]))
	var at *fleet.SiteError
	require.ErrorAs(t, err, &at)
	assert.Equal(t, regions[0], at.Site)
	assert.Equal(t, provision.CauseInvalidRecord, res.Cause)

	n, err := f.Deliver(t.Context(), &shelf{})
	require.NoError(t, err)
	assert.EqualValues(t, 5, n)
	summary, err := f.Run(t.Context(), spread(4, 2))
	require.NoError(t, err, "the list is as good as before")
	requireAddsUp(t, summary, 5)
	w.requireOnce(t, results(t, f))
}

func TestDevicesMayBeRegisteredBeforeTheFleetHasItsList(t *testing.T) {
	w := newWorld(t, 3, fakebackend.Options{})
	w.durable(t)
	f := w.fleet(t)
	for _, d := range []provision.Device{device("early", regions[1]), device("device-00001", regions[0]), device("device-00003", regions[1])} {
		_, err := f.Register(t.Context(), d)
		require.NoError(t, err)
	}
	n, err := f.Deliver(t.Context(), &shelf{})
	require.NoError(t, err, "that the third site has no run yet is nothing wrong")
	assert.EqualValues(t, 3, n)
	_, err = f.Run(t.Context(), nil)
	require.ErrorContains(t, err, "give the devices to Run again")
	_, err = f.Retry(t.Context())
	require.Error(t, err, "a fleet without its list is not over")
	for range 2 { // of the four, the first is the early one, and the third is at the other site by now
		f = w.fleet(t)
		summary, err := f.Run(t.Context(), spread(4, 2))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		requireAddsUp(t, summary, 6)
		assert.EqualValues(t, 5, summary.Provisioned)
		assert.EqualValues(t, 1, summary.Causes[provision.CauseDuplicate])
		assert.Zero(t, summary.Refused)
		all := results(t, f)
		w.requireOnce(t, all)
		var failed []*fleet.Result
		for _, r := range all {
			if r.Verdict == provision.Failed {
				failed = append(failed, r)
			}
		}
		require.Len(t, failed, 1)
		assert.Equal(t, regions[0], failed[0].Site, "its site keeps it, so that Amend can mend it")
		assert.Equal(t, "device-00003", failed[0].Name)
		assert.Contains(t, failed[0].Message, `site "us-east-1" has a device "device-00003"`)
	}
	summary, err := f.Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 6)
}

func TestNoDeviceIsRegisteredWhilePartOfAFleetsListIsMissing(t *testing.T) {
	for name, spoil := range map[string]func(*world){
		"at a site": func(w *world) {
			w.change(regions[1], func(o *provision.Options) { o.Ledger = &brokenLedger{Ledger: o.Ledger} })
		},
		"in the fleet's ledger": func(w *world) {
			l := &brokenLedger{Ledger: w.opts.Ledger}
			l.good.Store(2) // its record, and those refused
			w.opts.Ledger = l
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2, fakebackend.Options{})
			w.durable(t)
			sound := w.opts
			sites := map[string]provision.Options{}
			maps.Copy(sites, w.opts.Sites)
			spoil(w)
			input := edited(spread(5, 2), func(n int, d *provision.Device) {
				if n == 5 {
					d.Row["Region"] = "nowhere"
				}
			})
			_, err := w.fleet(t).Run(t.Context(), input)
			require.ErrorContains(t, err, "the disk is full")
			w.opts = sound
			w.opts.Sites = sites
			before := len(things(t, w.fakes[regions[0]]))
			f := w.fleet(t)
			_, err = f.Register(t.Context(), device("device-00002", regions[0])) // which belongs to the site that lacks it
			require.ErrorContains(t, err, "part of the list")
			assert.Len(t, things(t, w.fakes[regions[0]]), before)
			summary, err := f.Run(t.Context(), input)
			require.ErrorIs(t, err, provision.ErrIncomplete)
			assert.EqualValues(t, 4, summary.Provisioned)
			w.requireOnce(t, results(t, f))
		})
	}
}

func TestNoDeviceIsRegisteredWhileTheListWasCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, fakebackend.Options{})
		w.durable(t)
		f := w.fleet(t)
		torn := errors.New("the disk is gone")
		_, err := f.Run(t.Context(), func(yield func(provision.Device, error) bool) {
			for d, err := range spread(1500, 1) {
				if !yield(d, err) {
					return
				}
			}
			synctest.Wait() // the first site has 1,000 of them by now
			yield(provision.Device{}, torn)
		})
		require.ErrorIs(t, err, torn)
		_, err = f.Register(t.Context(), device("device-01400", regions[1]))
		require.ErrorContains(t, err, "part of the list")
		assert.Empty(t, things(t, w.fakes[regions[1]]))
	})
}

func TestARecordHoldsItsNameOnceItWasSent(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	w.fault(t, regions[0], fakebackend.Fault{Step: fakebackend.StepThing, Do: fakebackend.Fail, Line: 1})
	f := w.incomplete(t, provision.Devices(device("sent", regions[0]), device("not sent", regions[0])))
	res, err := f.Register(t.Context(), device("sent", regions[1])) // whose certificate may exist
	w.requireRefused(t, res, err, provision.CauseDuplicate, `site "eu-west-1" has a device "sent"`)

	w = newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	w.change(regions[1], func(o *provision.Options) { o.Credential = &provision.MakeCSR{Store: w.keys, Keys: noSigner{}} })
	f = w.fleet(t)
	_, err = f.Register(t.Context(), device("device-00001", regions[1]))
	require.ErrorContains(t, err, "no key today")
	summary, err := f.Run(t.Context(), spread(3, 1))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 4)
	assert.EqualValues(t, 3, summary.Provisioned, "what was never sent keeps no other site from its device")
	assert.NotContains(t, err.Error(), "as well")
}

func TestADeviceThatIsAheadOfAMissingListIsNotCountedForIt(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	_, err := w.fleet(t).Register(t.Context(), device("early", regions[0]))
	require.NoError(t, err)
	sound := w.opts.Sites[regions[0]].Ledger
	w.change(regions[0], func(o *provision.Options) { o.Ledger = &brokenLedger{Ledger: sound} })
	_, err = w.fleet(t).Run(t.Context(), spread(3, 1))
	require.ErrorContains(t, err, "the disk is full")
	w.change(regions[0], func(o *provision.Options) { o.Ledger = sound })
	summary, err := w.fleet(t).Run(t.Context(), nil)
	require.ErrorContains(t, err, "3 devices yet to reach their site")
	requireAddsUp(t, summary, 4)
	assert.EqualValues(t, 3, summary.Pending)
}

func TestALateDeviceIsNotSentWhileALedgerThatMayHaveItCannotBeRead(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	w.complete(t, spread(4, 2))
	w.change(regions[0], func(o *provision.Options) {
		o.Ledger = &brokenLedger{Ledger: o.Ledger, read: errors.New("the file is damaged")}
	})
	_, err := w.fleet(t).Register(t.Context(), device("device-00001", regions[1]))
	require.ErrorContains(t, err, `reading the ledger of site "eu-west-1"`)
	assert.NotContains(t, things(t, w.fakes[regions[1]]), "device-00001")
}

// A name that two sites have been given by different programs must be told, and must not stop the fleet with an untrue
// word about the list.
func TestANameThatAnotherProgramBroughtToASecondSiteIsTold(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	// With a key store for both, the other program would have been refused.
	w.change(regions[1], func(o *provision.Options) { o.Credential = &provision.MakeCSR{Store: keystore.Memory()} })
	w.complete(t, spread(4, 2))
	run, err := provision.New(w.opts.Sites[regions[1]])
	require.NoError(t, err)
	_, err = run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "device-00001", "SerialNumber": "9"}})
	require.NoError(t, err)
	f := w.fleet(t)
	for name, call := range map[string]func() error{
		"the list": func() error { _, err := f.Run(t.Context(), spread(4, 2)); return err },
		"nil":      func() error { _, err := f.Run(t.Context(), nil); return err },
		"Retry":    func() error { _, err := f.Retry(t.Context()); return err },
	} {
		err := call()
		require.ErrorContains(t, err, `site "us-east-1": device "device-00001" is at site "eu-west-1" as well`, name)
		require.NotErrorIs(t, err, provision.ErrInputChanged, name)
	}
}

// csrFor makes a request with a common name.
func csrFor(t *testing.T, cn string) string {
	t.Helper()
	signer := certtest.Key()
	subject, err := csr.ParseSubject("CN=" + cn)
	require.NoError(t, err)
	req, err := csr.Create(signer, subject)
	require.NoError(t, err)
	return req.PEM()
}

func withCSR(name, region, request string) provision.Device {
	d := device(name, region)
	d.Row["CSR"] = request
	return d
}

// givenWorld is two sites whose devices come with their requests.
func givenWorld(t *testing.T) *world {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	for name := range w.opts.Sites {
		w.change(name, func(o *provision.Options) { o.Credential = &provision.GivenCSR{} })
	}
	return w
}

func TestTheRequestOfAnotherSitesDeviceIsRefused(t *testing.T) {
	w := givenWorld(t)
	// The requests of a and b were exchanged.
	list := provision.Devices(withCSR("a", regions[0], csrFor(t, "b")), withCSR("b", regions[1], csrFor(t, "a")),
		withCSR("c", regions[0], csrFor(t, "c")), withCSR("d", regions[1], csrFor(t, "other")))
	check, err := w.fleet(t).Check(t.Context(), list)
	require.NoError(t, err)
	assert.EqualValues(t, 2, check.Refused, "as the run does")
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), list)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 4)
	assert.EqualValues(t, 2, summary.Causes[provision.CauseInvalidRecord])
	for _, r := range results(t, f) {
		if r.Name == "a" || r.Name == "b" {
			assert.Contains(t, r.Message, "it comes with the request or certificate of", r.Name)
		}
	}
	assert.Equal(t, []string{"c"}, things(t, w.fakes[regions[0]]))
	assert.Equal(t, []string{"d"}, things(t, w.fakes[regions[1]]))

	f = w.fleet(t)
	res, err := f.Register(t.Context(), withCSR("late", regions[0], csrFor(t, "d")))
	require.ErrorContains(t, err, `the request or certificate of "d", a device of site "us-east-1"`)
	assert.Equal(t, provision.CauseInvalidRecord, res.Cause)
	_, err = f.Register(t.Context(), withCSR("later", regions[0], csrFor(t, "b"))) // which was refused itself
	require.ErrorContains(t, err, `the request or certificate of "b", a device of site "us-east-1"`)
	assert.Equal(t, []string{"c"}, things(t, w.fakes[regions[0]]))
}

func TestTheKeyOfAnotherSitesDeviceIsRefusedOfALateDevice(t *testing.T) {
	w := givenWorld(t)
	shared := csrFor(t, "serial-1")
	w.complete(t, provision.Devices(withCSR("a", regions[0], shared), withCSR("b", regions[1], csrFor(t, "b"))))
	res, err := w.fleet(t).Register(t.Context(), withCSR("late", regions[1], shared))
	require.ErrorContains(t, err, `a device of site "eu-west-1" has the same public key`)
	assert.Equal(t, provision.CauseDuplicate, res.Cause)
	assert.Equal(t, []string{"b"}, things(t, w.fakes[regions[1]]))
}
