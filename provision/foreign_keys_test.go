package provision_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// anotherRun provisions devices into the world's store of keys and gives the world a fresh ledger afterwards.
func (w *world) anotherRun(t *testing.T, n int) {
	w.durable(t)
	w.complete(t, rows(n))
	w.durable(t)
}

func (w *world) requireOneCertificateEach(t *testing.T, names ...string) {
	for _, name := range names {
		dev, err := w.fake.ReadDevice(t.Context(), name)
		require.NoError(t, err)
		assert.Len(t, dev.Certificates, 1, name)
	}
}

func TestKeysOfAnotherRunAreRefusedHoweverOftenTheRunIsCalled(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.anotherRun(t, 2)
	for range 3 {
		_, err := w.run(t).Run(t.Context(), rows(3))
		require.ErrorIs(t, err, keystore.ErrExists)
		require.ErrorContains(t, err, "device-1")
	}
	w.requireOneCertificateEach(t, "device-1", "device-2")
	_, err := w.keys.Get(t.Context(), "device-3")
	assert.ErrorIs(t, err, keystore.ErrNotFound, "no key is made beside those of another run")
}

func TestPrepareNamesTheCallThatTakesDevicesOver(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.anotherRun(t, 2)
	w.opts.Existing = provision.TakeOverExisting
	run := w.run(t)
	_, err := run.Prepare(t.Context(), rows(2))
	require.ErrorIs(t, err, keystore.ErrExists)
	require.ErrorContains(t, err, "call Run")
	require.NotContains(t, err.Error(), "Options.Existing", "which is set already")
	_, err = run.Run(t.Context(), rows(2))
	require.NoError(t, err)
	w.requireWorking(t, results(t, run))
}

func TestRegisterRefusesTheKeyOfAnotherRun(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.anotherRun(t, 2)
	swapped := provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}}
	taken := provision.Device{Row: map[string]string{"ThingName": "device-1", "SerialNumber": "001"}}
	w.opts.Credential.(*provision.MakeCSR).Store = keystore.Memory()
	w.complete(t, provision.Devices(swapped))
	w.opts.Credential.(*provision.MakeCSR).Store = w.keys
	for range 3 {
		_, err := w.run(t).Register(t.Context(), taken)
		require.ErrorIs(t, err, keystore.ErrExists)
	}
	w.requireOneCertificateEach(t, "device-1")
}

func TestAMendedNameDoesNotTakeTheKeyOfAnotherRun(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.anotherRun(t, 1) // device-1
	bad := provision.Device{Row: map[string]string{"ThingName": "not a name", "SerialNumber": "1"}}
	good := provision.Device{Row: map[string]string{"ThingName": "device-9", "SerialNumber": "9"}}
	w.incomplete(t, provision.Devices(bad, good))
	mended := provision.Device{Seq: 1, Row: map[string]string{"ThingName": "device-1", "SerialNumber": "1"}}
	for range 2 {
		_, err := w.run(t).Amend(t.Context(), provision.Devices(mended))
		require.ErrorIs(t, err, keystore.ErrExists)
	}
	w.requireOneCertificateEach(t, "device-1", "device-9")

	mended.Row["ThingName"] = "device-2"
	_, err := w.run(t).Amend(t.Context(), provision.Devices(mended))
	require.NoError(t, err)
	w.requireOneCertificateEach(t, "device-1", "device-2", "device-9")
}

func TestANameThatWasRefusedAsItCameIsNotTheRunsOwn(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.anotherRun(t, 1) // device-1
	record := func(name, serial string) provision.Device {
		return provision.Device{Seq: 1, Row: map[string]string{"ThingName": name, "SerialNumber": serial}}
	}
	run := w.incomplete(t, provision.Devices(record("device-1", "not valid"), record("device-9", "9")))
	_, err := run.Amend(t.Context(), provision.Devices(record("device-2", "not valid")))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	_, err = run.Amend(t.Context(), provision.Devices(record("device-1", "1")))
	require.ErrorIs(t, err, keystore.ErrExists)
	w.requireOneCertificateEach(t, "device-1", "device-9")
}

func TestAMendedNameThatAnotherDeviceHasIsADuplicateAndNoKeyOfAnotherRun(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	record := func(name string) provision.Device {
		return provision.Device{Seq: 2, Row: map[string]string{"ThingName": name, "SerialNumber": "9"}}
	}
	run := w.incomplete(t, provision.Devices(record("device-1"), record("not a name")))
	_, err := run.Register(t.Context(), record("swapped"))
	require.NoError(t, err)
	_, err = run.Amend(t.Context(), provision.Devices(record("swapped")))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	mended := results(t, run)[1]
	assert.Equal(t, provision.CauseDuplicate, mended.Cause)
	assert.Contains(t, mended.Message, "record 3 has the same thing name")
	w.requireOneCertificateEach(t, "device-1", "swapped")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// lateStore lets something happen between the first look for a key and whatever follows.
type lateStore struct {
	keystore.Store
	once *sync.Once
	then func()
}

func (s lateStore) Get(ctx context.Context, device string) (keystore.Record, error) {
	rec, err := s.Store.Get(ctx, device)
	s.once.Do(s.then)
	return rec, err
}

func TestOfTwoRunsOnOneKeyStoreTheSecondNeverTakesTheKeysOfTheFirst(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	first := w.run(t)
	w.durable(t) // the second run has a ledger of its own, the same list and the same keys
	w.opts.Credential = &provision.MakeCSR{Store: lateStore{w.keys, new(sync.Once), func() {
		_, err := first.Run(t.Context(), rows(2))
		require.NoError(t, err)
	}}}
	for range 3 {
		_, err := w.run(t).Run(t.Context(), rows(2))
		require.ErrorIs(t, err, keystore.ErrExists)
	}
	w.requireOneCertificateEach(t, "device-1", "device-2")
	w.requireWorking(t, results(t, first))
}
