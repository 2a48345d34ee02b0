package provision_test

import (
	"iter"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// TestRequestsOfAnotherRunAreNotTakenForThisOnes has a list of requests that another run has registered: the keys are the
// same, and a run that only goes by them would take that run's certificates for its own, or double them.
func TestRequestsOfAnotherRunAreNotTakenForThisOnes(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Credential = &provision.GivenCSR{}
	w.durable(t)
	list := []provision.Device{board(t, "one", ""), board(t, "two", "")}
	first := w.run(t)
	_, err := first.Run(t.Context(), provision.Devices(list...))
	require.NoError(t, err)
	old := results(t, first)
	for name, send := range map[string]func(*provision.Run) error{
		"Run": func(run *provision.Run) error {
			_, err := run.Run(t.Context(), provision.Devices(list...))
			return err
		},
		"Prepare": func(run *provision.Run) error {
			_, err := run.Prepare(t.Context(), provision.Devices(list...))
			require.NoError(t, err)
			require.NoError(t, run.Submit(t.Context()))
			_, err = run.Collect(t.Context())
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w2 := w.again(t, provision.RefuseExisting)
			w2.opts.Credential = w.opts.Credential
			run := w2.run(t)
			require.ErrorIs(t, send(run), provision.ErrIncomplete)
			requireRefused(t, results(t, run), old)

			w3 := w.again(t, provision.TakeOverExisting)
			w3.opts.Credential = w.opts.Credential
			run = w3.run(t)
			require.NoError(t, send(run))
			for i, r := range results(t, run) {
				assert.Equal(t, old[i].CertificateID, r.CertificateID)
				assert.Equal(t, old[i].CertificatePEM, w3.handedOver(t, r.Name))
			}
			assert.Equal(t, 1, tasksOf(w.fake))
		})
	}
}

func TestABoardThatWasSwappedIsNotTakenForTheOneBefore(t *testing.T) {
	start := func(t *testing.T) (w *world, old *provision.Result) {
		w = newWorld(t, fakebackend.Options{})
		w.opts.Credential = &provision.GivenCSR{}
		w.durable(t)
		run := w.complete(t, provision.Devices(board(t, "pump", "first")))
		return w, results(t, run)[0]
	}
	t.Run("in the same run", func(t *testing.T) {
		w, old := start(t)
		list := provision.Devices(provision.Device{Row: old.Row})
		next := board(t, "pump", "second")
		for _, mode := range []provision.Existing{provision.RefuseExisting, provision.TakeOverExisting, provision.UncheckedExisting} {
			w.opts.Existing = mode
			run := w.run(t)
			res, err := run.Register(t.Context(), next)
			require.ErrorContains(t, err, old.CertificateID, mode)
			assert.Equal(t, provision.CauseExists, res.Cause)
			assert.Empty(t, res.CertificateID, "the certificate of the board before is of no use to this one")
			assert.Equal(t, old.CertificateID, results(t, run)[0].CertificateID, "and the board before stays what it is")
			res, err = run.Register(t.Context(), provision.Device{Row: old.Row})
			require.NoError(t, err)
			assert.Equal(t, old.CertificateID, res.CertificateID)
		}
		w.opts.Existing = provision.ReplaceExisting
		w.opts.Output = nil
		run := w.run(t)
		res, err := run.Register(t.Context(), next)
		require.NoError(t, err)
		w.requireForRequest(t, res)
		assert.Equal(t, old.CertificateID, res.Existing[0].ID)
		w.requireOneCertificateEach(t, "pump")
		again, err := run.Register(t.Context(), next)
		require.NoError(t, err)
		assert.Equal(t, res.CertificateID, again.CertificateID)
		_, err = run.Run(t.Context(), list)
		require.NoError(t, err, "the run still takes the list it began with")
	})
	t.Run("in another run", func(t *testing.T) {
		w, old := start(t)
		w2 := w.again(t, provision.RefuseExisting)
		w2.opts.Credential = &provision.GivenCSR{}
		res, err := w2.run(t).Register(t.Context(), board(t, "pump", "second"))
		require.ErrorContains(t, err, old.CertificateID)
		assert.Equal(t, provision.CauseExists, res.Cause)
		w.requireOneCertificateEach(t, "pump")
		w2.opts.Existing = provision.ReplaceExisting
		next := board(t, "pump", "third")
		_, err = w2.run(t).Register(t.Context(), next)
		require.NoError(t, err)
		w.requireOneCertificateEach(t, "pump")
	})
	t.Run("whose key was lost", func(t *testing.T) {
		w, old := firstRun(t, 1)
		w.keys = keystore.Memory()
		w.opts.Credential, w.opts.Output = &provision.MakeCSR{Store: w.keys}, nil
		one := provision.Device{Row: old[0].Row}
		_, err := w.run(t).Register(t.Context(), one)
		require.ErrorContains(t, err, "no-key")
		w.opts.Existing = provision.ReplaceExisting
		run := w.run(t)
		_, err = run.Register(t.Context(), one)
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
	})
	t.Run("whose key is still there", func(t *testing.T) {
		w, old := firstRun(t, 1)
		w.opts.Existing = provision.ReplaceExisting
		row := map[string]string{"ThingName": old[0].Name, "SerialNumber": "999"}
		_, err := w.run(t).Register(t.Context(), provision.Device{Row: row})
		require.ErrorContains(t, err, "move that key away", "two boards must not have one key")
		w.requireOneCertificateEach(t, "device-1")
	})
}

func TestASwappedBoardThatIsRefusedLeavesTheOneBefore(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Credential, w.opts.Output = &provision.GivenCSR{}, nil
	w.durable(t)
	w.complete(t, provision.Devices(board(t, "pump", "first")))
	w.opts.Existing = provision.ReplaceExisting
	w.fault(t, fakebackend.Fault{Operation: "RegisterThing", Do: fakebackend.Fail, Code: "ExpiredTokenException", Message: "expired"})
	run := w.run(t)
	before := results(t, run)[0]
	res, err := run.Register(t.Context(), board(t, "pump", "second"))
	require.ErrorIs(t, err, task.ErrAccessDenied)
	assert.Equal(t, before, res)
	assert.Equal(t, before, results(t, run)[0])
	w.requireOneCertificateEach(t, "pump")
}

// TestALostAnswerOfASwappedBoardIsSettledWithTheNewOne loses the answer to RegisterThing, before and after its effect, while
// the new board takes the place of the one before.
func TestALostAnswerOfASwappedBoardIsSettledWithTheNewOne(t *testing.T) {
	for _, effect := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.opts.Credential, w.opts.Output = &provision.GivenCSR{}, nil
			w.durable(t)
			w.complete(t, provision.Devices(board(t, "pump", "first")))
			old := results(t, w.run(t))[0]
			w.opts.Existing, w.opts.Backend = provision.ReplaceExisting, &lossyRegister{w.fake, effect}
			next := board(t, "pump", "second")
			res, _ := w.run(t).Register(t.Context(), next)
			assert.NotEqual(t, old.CertificateID, res.CertificateID)
			w.opts.Backend = w.fake
			run := w.run(t)
			_, err := run.Register(t.Context(), next)
			require.NoError(t, err)
			_, err = run.Run(t.Context(), nil)
			require.NoError(t, err)
			got := results(t, run)[0]
			w.requireForRequest(t, got)
			assert.Equal(t, old.CertificateID, got.Existing[0].ID)
			assert.False(t, got.Existing[0].Retired.IsZero())
			w.requireOneCertificateEach(t, "pump")
		})
	}
}

func TestAMendedRecordIsLookedForToo(t *testing.T) {
	w, old := firstRun(t, 1)
	w2 := w.again(t, provision.RefuseExisting)
	run := w2.run(t)
	_, err := run.Run(t.Context(), provision.Rows(map[string]string{"ThingName": "bad name", "SerialNumber": "001"}))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	mended := provision.Device{Seq: 1, Row: old[0].Row}
	_, err = run.Amend(t.Context(), provision.Devices(mended))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireRefused(t, results(t, run), old)
	w2.opts.Existing = provision.AddToExisting
	run = w2.run(t)
	_, err = run.Amend(t.Context(), provision.Devices(mended))
	require.NoError(t, err)
	assert.Equal(t, old[0].CertificateID, results(t, run)[0].Existing[0].ID)
}

// board is a device with a request of its own, made elsewhere.
func board(t *testing.T, thing, serial string) provision.Device {
	t.Helper()
	return provision.Device{Row: map[string]string{"ThingName": thing, "SerialNumber": "1", "CSR": madeElsewhere(t, thing+" "+serial).PEM()}}
}

// requireForRequest checks that a certificate carries the key of the request in its row.
func (w *world) requireForRequest(t *testing.T, r *provision.Result) {
	t.Helper()
	digest, err := csrKey(r.Row["CSR"])
	require.NoError(t, err)
	got, err := csr.CertificateKeySHA256([]byte(r.CertificatePEM))
	require.NoError(t, err)
	assert.Equal(t, digest, got)
}

func TestACertificateThatIsGivenAgainIsNoSecondOne(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Template, w.opts.Credential = formTemplate(t, "CertificateSigningRequest"), &provision.MakeCSR{Store: w.keys, Parameter: "CertificateSigningRequest"}
	first := w.run(t)
	_, err := first.Run(t.Context(), provision.Rows(map[string]string{"ThingName": "device-1"}, map[string]string{"ThingName": "other"}))
	require.NoError(t, err)
	old := results(t, first)
	w2 := w.again(t, provision.RefuseExisting)
	w2.opts.Template, w2.opts.Credential = formTemplate(t, "CertificateId"), &provision.GivenCertificateID{}
	run := w2.run(t)
	_, err = run.Run(t.Context(), provision.Devices(provision.Device{Row: map[string]string{"ThingName": "device-1", "CertificateId": old[0].CertificateID}}))
	got := results(t, run)
	require.NoError(t, err, got[0].Message)
	assert.Empty(t, got[0].Existing)
	w.requireOneCertificateEach(t, "device-1")

	w3 := w.again(t, provision.RefuseExisting)
	w3.opts.Template, w3.opts.Credential = w2.opts.Template, w2.opts.Credential
	run = w3.run(t)
	_, err = run.Run(t.Context(), provision.Devices(provision.Device{Row: map[string]string{"ThingName": "other", "CertificateId": old[0].CertificateID}}))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.Equal(t, provision.CauseExists, results(t, run)[0].Cause, "another certificate than the one it has")
}

// TestARenewedCertificateOfOnesOwnCAIsAnotherOne gives a device a second certificate for the same key, and the first again.
func TestARenewedCertificateOfOnesOwnCAIsAnotherOne(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	ca := newOwnCA()
	ca.register(t, w.fake)
	w.opts.Template, w.opts.Credential = formTemplate(t, "CertificatePem"), &provision.GivenCertificate{}
	w.durable(t)
	first := ca.sign("pump")
	second := certtest.PEM(ca.Sign(certificate(t, first).PublicKey))
	device := func(text string) iter.Seq2[provision.Device, error] {
		return provision.Rows(map[string]string{"ThingName": "pump", "CertificatePem": text})
	}
	run := w.complete(t, device(first))
	old := results(t, run)
	for _, c := range []struct {
		text string
		mode provision.Existing
		want provision.Cause
	}{
		{first, provision.RefuseExisting, provision.CauseExists},
		{first, provision.TakeOverExisting, provision.CauseNone},
		{first, provision.ReplaceExisting, provision.CauseNone}, // it is there already
		{second, provision.RefuseExisting, provision.CauseExists},
		{second, provision.TakeOverExisting, provision.CauseExists}, // the device has the second one
		{second, provision.ReplaceExisting, provision.CauseNone},
	} {
		w2 := w.again(t, c.mode)
		w2.opts.Credential = w.opts.Credential
		run := w2.run(t)
		_, err := run.Run(t.Context(), device(c.text))
		got := results(t, run)[0]
		require.Equal(t, c.want, got.Cause, got.Message)
		assert.Equal(t, c.want == provision.CauseNone, err == nil)
		w.requireOneCertificateEach(t, "pump")
		if c.mode == provision.ReplaceExisting && c.text != first {
			assert.Equal(t, old[0].CertificateID, got.Existing[0].ID)
		}
	}
}

func csrKey(text string) ([32]byte, error) {
	req, err := csr.Parse([]byte(text))
	if err != nil {
		return [32]byte{}, err
	}
	return req.PublicKeySHA256(), nil
}
