package provision_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// deliveredFolders is a run over n devices whose keys and credentials are in folders.
func deliveredFolders(t *testing.T, n int) *world {
	t.Helper()
	w := folderWorld(t, fakebackend.Options{})
	w.durable(t)
	w.complete(t, rows(n))
	return w
}

// moveDeliveryAway moves what was delivered for a device out of its folder, as the message of a refusal asks for.
func (w *world) moveDeliveryAway(t *testing.T, device string) {
	t.Helper()
	for _, name := range []string{"certificate.pem", "thing.json"} {
		require.NoError(t, os.Remove(filepath.Join(w.folder.Path(device), name)))
	}
}

func requireDeliveredBefore(t *testing.T, r *provision.Result) {
	t.Helper()
	require.NotNil(t, r)
	require.Equal(t, provision.Failed, r.Verdict, r.Message)
	assert.Equal(t, provision.CauseExists, r.Cause)
	assert.Contains(t, r.Message, "certificate.pem")
	assert.Contains(t, r.Message, "Move the earlier one away")
}

func TestABoardWhoseKeyIsLostIsNotSentWhileTheOutputHoldsItsCertificate(t *testing.T) {
	for _, existing := range []provision.Existing{provision.AddToExisting, provision.ReplaceExisting} {
		w := folderWorld(t, fakebackend.Options{})
		w.durable(t)
		w.opts.Credential = &provision.MakeCSR{Store: keystore.Memory()}
		w.complete(t, rows(1))
		w.keys = keystore.Memory()
		w.opts.Credential, w.opts.Existing = &provision.MakeCSR{Store: w.keys}, existing
		run := w.run(t)
		board := provision.Device{Row: results(t, run)[0].Row}
		for range 2 {
			res, err := run.Register(t.Context(), board)
			require.Error(t, err)
			requireDeliveredBefore(t, res)
			assert.Equal(t, 1, w.fake.Counts().Certificates, "nothing was sent")
			_, err = run.Run(t.Context(), nil)
			require.ErrorIs(t, err, provision.ErrIncomplete, "the run is not stopped")
			assert.Equal(t, provision.NoKey, results(t, run)[0].Verdict)
		}
		w.moveDeliveryAway(t, "device-1")
		_, err := run.Register(t.Context(), board)
		require.NoError(t, err)
		got := results(t, run)[0]
		assert.Equal(t, provision.Provisioned, got.Verdict)
		assert.Equal(t, got.CertificatePEM, w.handedOver(t, "device-1"))
	}
}

func TestARemovedDeviceIsNotMadeAgainWhileTheOutputHoldsItsCertificate(t *testing.T) {
	w := deliveredFolders(t, 3)
	run := w.run(t)
	_, err := run.Remove(t.Context(), all)
	require.NoError(t, err)
	w.moveDeliveryAway(t, "device-2")
	_, err = run.Amend(t.Context(), rows(3))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	list := results(t, run)
	requireDeliveredBefore(t, list[0])
	requireDeliveredBefore(t, list[2])
	w.requireWorking(t, list[1:2])
	assert.Equal(t, 1, w.fake.Counts().Certificates)

	w.moveDeliveryAway(t, "device-1")
	w.moveDeliveryAway(t, "device-3")
	_, err = run.Retry(t.Context())
	require.NoError(t, err)
	w.requireWorking(t, results(t, run))
	assert.Equal(t, 3, w.fake.Counts().Certificates, "each has one")
}

func TestWhatWasPreparedIsNotSentWhileTheOutputHoldsItsCertificate(t *testing.T) {
	w := deliveredFolders(t, 2)
	_, err := w.run(t).Remove(t.Context(), all)
	require.NoError(t, err)
	w.moveDeliveryAway(t, "device-1")
	w.opts.Credential = &provision.MakeCSR{Store: keystore.Memory()}
	w.durable(t)
	run := w.run(t)
	_, err = run.Prepare(t.Context(), rows(2))
	require.NoError(t, err)
	require.NoError(t, run.Submit(t.Context()))
	_, err = run.Collect(t.Context())
	require.ErrorIs(t, err, provision.ErrIncomplete)
	list := results(t, run)
	assert.Equal(t, provision.Provisioned, list[0].Verdict)
	requireDeliveredBefore(t, list[1])
	assert.Equal(t, 1, w.fake.Counts().Certificates)
}

func TestADeviceWhoseOutputIsTakenNamesTheCertificatesThatItsThingHas(t *testing.T) {
	w := deliveredFolders(t, 1)
	first := results(t, w.run(t))[0]
	w.opts.Credential, w.opts.Existing = &provision.MakeCSR{Store: keystore.Memory()}, provision.ReplaceExisting
	w.durable(t)
	run := w.incomplete(t, rows(1))
	got := results(t, run)[0]
	requireDeliveredBefore(t, got)
	assert.Contains(t, got.Message, first.CertificateID)
	assert.Equal(t, 1, activeCertificates(t, w.fake, "device-1"), "the first one stays")
}
