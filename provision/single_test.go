package provision_test

import (
	"context"
	"errors"
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
