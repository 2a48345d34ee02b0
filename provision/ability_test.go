package provision_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// embedding is a step that wraps MakeCSR by embedding it.
type embedding struct{ *provision.MakeCSR }

// wrapping is a step that wraps another one and leads to it.
type wrapping struct{ provision.Credential }

func (w wrapping) Unwrap() provision.Credential { return w.Credential }

var wrapped = map[string]func(*provision.MakeCSR) provision.Credential{
	"embedded": func(m *provision.MakeCSR) provision.Credential { return embedding{m} },
	"Unwrap":   func(m *provision.MakeCSR) provision.Credential { return wrapping{m} },
	"twice":    func(m *provision.MakeCSR) provision.Credential { return wrapping{wrapping{embedding{m}}} },
}

func TestAWrappedStepMakesNoNewKeysOnAMachineWithoutThem(t *testing.T) {
	for name, wrap := range wrapped {
		t.Run(name, func(t *testing.T) {
			w, files := prepared(t)
			require.NoError(t, os.Remove(files[1]))
			empty, err := keystore.OpenFolder(filepath.Join(t.TempDir(), "keys"), nil)
			require.NoError(t, err)
			w.opts.Credential = wrap(&provision.MakeCSR{Store: empty})
			_, err = w.run(t).Run(t.Context(), nil)
			require.ErrorIs(t, err, keystore.ErrNotFound)
			assert.ErrorContains(t, err, `the key of device "device-5"`)
			for device, err := range empty.Devices(t.Context()) {
				t.Errorf("a key was made for %s (%v)", device, err)
			}
		})
	}
}

func TestAWrappedStepLeavesTheKeysOfAnotherRun(t *testing.T) {
	for name, wrap := range wrapped {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.opts.Credential = wrap(w.opts.Credential.(*provision.MakeCSR))
			w.complete(t, rows(1))
			_, err := w.run(t).Run(t.Context(), rows(1))
			require.ErrorIs(t, err, keystore.ErrExists)
			assert.Equal(t, 1, w.fake.Counts().Certificates)
		})
	}
}

func TestAWrappedStepWithoutAStoreIsRefusedByNew(t *testing.T) {
	steps := maps.Clone(wrapped)
	steps["no step inside"] = func(*provision.MakeCSR) provision.Credential { return embedding{} }
	for name, wrap := range steps {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.opts.Credential = wrap(&provision.MakeCSR{})
			_, err := provision.New(w.opts)
			require.EqualError(t, err, "provision: MakeCSR.Store is missing; "+
				"a key that is kept nowhere is lost (keystore.None() is for keys that are kept elsewhere)")
		})
	}
}

func TestAWrappedStepChecksRowsAndRecognisesLines(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Credential = wrapping{&provision.GivenCSR{}}
	report, err := w.run(t).Check(t.Context(), provision.Rows(map[string]string{"ThingName": "a", "SerialNumber": "1", "CSR": "none"}))
	require.NoError(t, err)
	require.Len(t, report.Refusals, 1)
	assert.Equal(t, provision.CauseCSRRefused, report.Refusals[0].Cause)
}

// unable is a step that can't recognise lines that were made elsewhere.
type unable struct{ provision.Credential }

func TestAdoptRefusesAStepThatCannotRecogniseLines(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	startForeign(t, w, "by-hand.json")
	var id task.ID
	for id = range taskIDs(t, w.fake) {
	}
	w.opts.Credential = unable{w.opts.Credential}
	err := w.run(t).Adopt(t.Context(), id, nil)
	assert.ErrorContains(t, err, "LineMatcher")
}

func TestAWayToTreatForeignTasksThatThereIsNotIsRefusedByNew(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	for foreign, text := range map[provision.ForeignTask]string{
		provision.WaitForForeign: "", provision.FailOnForeign: "", "wait": `provision: Options.Foreign is "wait"`,
	} {
		w.opts.Foreign = foreign
		_, err := provision.New(w.opts)
		if text == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, text)
		}
	}
}
