package provision_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/csr/keystore/sqlitekeys"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// whenStarted calls do once, when the first task of the world has been started.
func (w *world) whenStarted(do func()) {
	var once sync.Once
	observe := w.opts.Observe
	w.opts.Observe = func(e provision.Event) {
		observe(e)
		if _, ok := e.(provision.EventTaskStarted); ok {
			once.Do(do)
		}
	}
}

// requireNoKey checks that the devices of these names, and no others, are NoKey, in everything that tells.
func (w *world) requireNoKey(t *testing.T, summary *provision.Summary, err error, names ...string) {
	t.Helper()
	require.ErrorIs(t, err, provision.ErrIncomplete)
	require.ErrorContains(t, err, "without their private key")
	require.Equal(t, int64(len(names)), summary.NoKey)
	require.Equal(t, summary.Total-summary.NoKey, summary.Provisioned)
	run := w.run(t)
	var got []string
	for _, r := range results(t, run) {
		if r.Verdict == provision.Provisioned {
			continue
		}
		got = append(got, r.Name)
		require.Equal(t, provision.NoKey, r.Verdict)
		assert.Equal(t, provision.CauseKeyLost, r.Cause)
		assert.Contains(t, r.Message, r.Name)
		assert.Contains(t, r.Message, r.CertificateID)
	}
	require.Equal(t, names, got)
	var failures strings.Builder
	require.NoError(t, run.WriteFailures(t.Context(), &failures))
	assert.Equal(t, len(names), strings.Count(failures.String(), "key-lost"))
	var out countingOutput
	n, err := run.Deliver(t.Context(), &out)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	require.ErrorContains(t, err, names[0])
	assert.Equal(t, summary.Provisioned, n, "the others are delivered")
	for _, name := range names {
		assert.NotContains(t, out.names, name)
	}
}

func TestTwoKeyFoldersThatWereExchangedDuringTheTaskGetNoCertificates(t *testing.T) {
	w := folderWorld(t, fakebackend.Options{})
	w.durable(t)
	exchange := func() {
		one, two, aside := w.folder.Path("device-1"), w.folder.Path("device-2"), filepath.Join(t.TempDir(), "aside")
		require.NoError(t, os.Rename(one, aside))
		require.NoError(t, os.Rename(two, one))
		require.NoError(t, os.Rename(aside, two))
	}
	w.whenStarted(exchange)
	summary, err := w.run(t).Run(t.Context(), rows(3))
	w.requireNoKey(t, summary, err, "device-1", "device-2")
	assert.Empty(t, w.handedOver(t, "device-1"), "no certificate is written beside another device's key")

	exchange()
	run := w.run(t)
	_, err = run.Run(t.Context(), nil)
	require.NoError(t, err, "with the right keys back, the same devices are provisioned")
	w.requireWorking(t, results(t, run))
}

func TestARunConfirmsOnlyDevicesWhoseKeysAreStillThere(t *testing.T) {
	ways := map[string]func(*world, *testing.T) (*provision.Summary, error){
		"Run": func(w *world, t *testing.T) (*provision.Summary, error) { return w.run(t).Run(t.Context(), rows(3)) },
		"Reconcile": func(w *world, t *testing.T) (*provision.Summary, error) {
			return w.run(t).Reconcile(t.Context())
		},
		"Collect": func(w *world, t *testing.T) (*provision.Summary, error) { return w.run(t).Collect(t.Context()) },
		"Retry":   func(w *world, t *testing.T) (*provision.Summary, error) { return w.run(t).Retry(t.Context()) },
		"Amend": func(w *world, t *testing.T) (*provision.Summary, error) {
			return w.run(t).Amend(t.Context(), provision.Devices())
		},
	}
	for name, confirm := range ways {
		t.Run(name, func(t *testing.T) {
			w := folderWorld(t, fakebackend.Options{})
			w.durable(t)
			w.complete(t, rows(3))
			mounted, aside := w.folder.Path("device-2"), filepath.Join(t.TempDir(), "aside")
			require.NoError(t, os.Rename(mounted, aside))
			summary, err := confirm(w, t)
			w.requireNoKey(t, summary, err, "device-2")
			_, err = w.run(t).Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "device-2", "SerialNumber": "002"}})
			require.ErrorContains(t, err, "no-key", "nor does Register send it again")
			_, err = confirm(w, t)
			require.ErrorIs(t, err, provision.ErrIncomplete, "however often it is asked")

			require.NoError(t, os.Rename(aside, mounted))
			run := w.run(t)
			_, err = confirm(w, t)
			require.NoError(t, err)
			w.requireWorking(t, results(t, run))
		})
	}
}

func TestDeliverAsksForKeysThatCameBack(t *testing.T) {
	w := folderWorld(t, fakebackend.Options{})
	w.durable(t)
	w.whenStarted(func() { require.NoError(t, os.Rename(w.folder.Path("device-1"), w.folder.Path("away"))) })
	summary, err := w.run(t).Run(t.Context(), rows(2))
	w.requireNoKey(t, summary, err, "device-1")
	require.NoError(t, os.Rename(w.folder.Path("away"), w.folder.Path("device-1")))
	var out countingOutput
	n, err := w.run(t).Deliver(t.Context(), &out)
	require.NoError(t, err)
	assert.EqualValues(t, 2, n)
	assert.Equal(t, []string{"device-1", "device-2"}, out.durable)
	w.requireWorking(t, results(t, w.run(t)))
}

func TestAKeyDatabaseRestoredFromAnOlderCopyIsNoticed(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	path := filepath.Join(t.TempDir(), "keys.db")
	open := func() *sqlitekeys.Store {
		keys, err := sqlitekeys.Open(t.Context(), path, nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = keys.Close() })
		w.keys, w.opts.Credential = keys, &provision.MakeCSR{Store: keys}
		return keys
	}
	restore := func(data []byte) {
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
	keys := open()
	w.complete(t, rows(2))
	require.NoError(t, keys.Close())
	older, err := os.ReadFile(path)
	require.NoError(t, err)
	keys = open()
	_, err = w.run(t).Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "device-3", "SerialNumber": "003"}})
	require.NoError(t, err)
	require.NoError(t, keys.Close())
	newer, err := os.ReadFile(path)
	require.NoError(t, err)

	restore(older)
	keys = open()
	summary, err := w.run(t).Run(t.Context(), nil)
	w.requireNoKey(t, summary, err, "device-3")
	require.NoError(t, keys.Close())

	restore(newer)
	open()
	w.complete(t, nil)
}

// askedStore fails or counts what is asked of it.
type askedStore struct {
	keystore.Store
	err error
}

func (s askedStore) Verify(ctx context.Context, device string, digest [32]byte) error {
	if s.err != nil {
		return s.err
	}
	return s.Store.Verify(ctx, device, digest)
}

func TestAStoreThatCannotBeAskedStopsTheRunAndSaysNothingAboutTheKeys(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Credential = &provision.MakeCSR{Store: askedStore{w.keys, errors.New("the HSM does not answer")}}
	_, err := w.run(t).Run(t.Context(), rows(2))
	require.ErrorContains(t, err, "the HSM does not answer")
	require.ErrorContains(t, err, "device-")
	require.NotErrorIs(t, err, provision.ErrIncomplete)
	for _, r := range results(t, w.run(t)) {
		assert.Equal(t, provision.Submitted, r.Verdict)
	}
	w.opts.Credential = &provision.MakeCSR{Store: w.keys}
	w.requireWorking(t, results(t, w.complete(t, nil)))
}

func TestASingleDeviceWhoseKeyIsLostIsNotProvisioned(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Credential = &provision.MakeCSR{Store: askedStore{w.keys, keystore.ErrOtherKey}}
	board := provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}}
	res, err := w.run(t).Register(t.Context(), board)
	require.ErrorContains(t, err, "no-key")
	assert.Equal(t, provision.NoKey, res.Verdict)
	assert.Empty(t, w.handedOver(t, "swapped"))
	w.opts.Credential = &provision.MakeCSR{Store: w.keys}
	run := w.run(t)
	_, err = run.Register(t.Context(), board)
	require.NoError(t, err)
	w.requireWorking(t, results(t, run))
}
