package provision_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// brokenSync is an output whose nth Sync fails.
type brokenSync struct {
	provision.Output
	nth, syncs int
}

func (o *brokenSync) Sync(ctx context.Context) error {
	if o.syncs++; o.syncs == o.nth {
		return errDisk
	}
	return o.Output.Sync(ctx)
}

// TestAnOutputThatFailsWithinALargePartEndsTheRunAndNothingIsLost has a part of more devices than are handed over at
// once, so that the failure comes while its report is still read.
func TestAnOutputThatFailsWithinALargePartEndsTheRunAndNothingIsLost(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	broken := &brokenSync{Output: w.opts.Output, nth: 1}
	w.opts.Output = broken
	_, err := w.run(t).Prepare(t.Context(), rows(600))
	require.NoError(t, err)
	_, err = w.run(t).Run(t.Context(), nil)
	require.ErrorIs(t, err, errDisk)
	assert.Equal(t, 1, broken.syncs, "nothing is handed over after it")
	summary, err := w.run(t).Run(t.Context(), nil)
	require.NoError(t, err)
	assert.EqualValues(t, 600, summary.Provisioned)
	assert.Len(t, summary.Tasks, 1)
	w.requireWorking(t, results(t, w.run(t)))
}
