package provision_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// countingOutput counts deliveries and what was made durable, and fails where it is told to.
type countingOutput struct {
	names, durable    []string
	failAt, failSyncs int
}

func (o *countingOutput) Deliver(_ context.Context, d *provision.Delivery) error {
	if o.names = append(o.names, d.ThingName); len(o.names) == o.failAt {
		return errors.New("the label printer is out of paper")
	}
	return nil
}

func (o *countingOutput) Sync(context.Context) error {
	if o.failSyncs--; o.failSyncs == 0 {
		return errors.New("the disk is full")
	}
	o.durable = append([]string(nil), o.names...)
	return nil
}

func TestDeliverWritesTheSameFilesAsTheRunDid(t *testing.T) {
	w := folderWorld(t, fakebackend.Options{})
	w.durable(t)
	w.complete(t, rows(3))

	again, err := keystore.OpenFolder(filepath.Join(t.TempDir(), "keys"), nil)
	require.NoError(t, err)
	n, err := w.run(t).Deliver(t.Context(), provision.Folder(again))
	require.NoError(t, err)
	assert.EqualValues(t, 3, n)
	for i := range 3 {
		name := fmt.Sprintf("device-%d", i+1)
		for _, file := range []string{"certificate.pem", "thing.json"} {
			want, err := os.ReadFile(filepath.Join(w.folder.Path(name), file))
			require.NoError(t, err)
			got, err := os.ReadFile(filepath.Join(again.Path(name), file))
			require.NoError(t, err)
			assert.Equal(t, string(want), string(got), "%s of %s", file, name)
		}
	}
}

func TestDeliverLeavesOutWhatIsNotProvisioned(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	_, err := w.run(t).Run(t.Context(), provision.Rows(
		map[string]string{"ThingName": "good", "SerialNumber": "1"},
		map[string]string{"ThingName": "not a name", "SerialNumber": "2"},
	))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	var out countingOutput
	n, err := w.run(t).Deliver(t.Context(), &out)
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	assert.Equal(t, []string{"good"}, out.durable)
}

func TestDeliverCountsOnlyWhatIsDurable(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Credential, w.opts.Output = &provision.MakeCSR{Store: discardKeys{}}, nil
	w.complete(t, rows(1200))

	n, err := w.run(t).Deliver(t.Context(), &countingOutput{failAt: 1001})
	require.ErrorContains(t, err, `device "device-1001": the label printer is out of paper`)
	assert.EqualValues(t, 1000, n, "the output was synced after each 500")

	n, err = w.run(t).Deliver(t.Context(), &countingOutput{failSyncs: 2})
	require.ErrorContains(t, err, "the disk is full")
	assert.EqualValues(t, 500, n)

	var out countingOutput
	n, err = w.run(t).Deliver(t.Context(), &out)
	require.NoError(t, err)
	assert.EqualValues(t, 1200, n)
	assert.Len(t, out.durable, 1200, "the last ones, too")
}

func TestDeliverRefusesALedgerWithoutARunAndAnotherAccount(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	_, err := w.run(t).Deliver(t.Context(), &countingOutput{})
	require.ErrorIs(t, err, provision.ErrNoRun)
	_, err = w.opts.Ledger.Run(t.Context())
	require.ErrorIs(t, err, provision.ErrNoRun, "looking must not begin a run")

	w.complete(t, rows(1))
	w.opts.Backend, err = fakebackend.New(fakebackend.Options{Account: "999999999999"})
	require.NoError(t, err)
	_, err = w.run(t).Deliver(t.Context(), &countingOutput{})
	assert.ErrorIs(t, err, provision.ErrElsewhere)
}
