package provision_test

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// fullDisk is an output that takes nothing.
type fullDisk struct{}

func (fullDisk) Deliver(context.Context, *provision.Delivery) error { return errors.New("disk full") }
func (fullDisk) Sync(context.Context) error                         { return nil }

func TestASingleDeviceIsNotProvisionedBeforeItIsHandedOver(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	output := w.opts.Output
	w.opts.Backend, w.opts.Output = &lossyRegister{w.fake, true}, fullDisk{}
	board := provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}}
	res, err := w.run(t).Register(t.Context(), board)
	require.Error(t, err)
	assert.Equal(t, provision.Unknown, res.Verdict)

	w.opts.Backend, w.opts.Output = w.fake, output
	run := w.run(t)
	res, err = run.Register(t.Context(), board)
	require.NoError(t, err)
	assert.Equal(t, provision.Provisioned, res.Verdict)
	w.requireWorking(t, results(t, run))
}

// unreadable is a ledger that has lost its devices.
type unreadable struct{ provision.Ledger }

func (unreadable) Devices(context.Context, provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
	return func(yield func(*provision.DeviceRecord, error) bool) { yield(nil, errors.New("bad sector")) }
}

func TestRegisterWithALedgerThatCannotBeReadSaysSo(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	_, err := w.run(t).Run(t.Context(), rows(1))
	require.NoError(t, err)
	w.opts.Ledger = unreadable{w.opts.Ledger}
	res, err := w.run(t).Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}})
	require.ErrorContains(t, err, "bad sector")
	assert.Nil(t, res)
}
