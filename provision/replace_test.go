package provision_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// activeCertificates is how many ACTIVE certificates a thing has.
func activeCertificates(t *testing.T, fake *fakebackend.Backend, thing string) (n int) {
	t.Helper()
	d, ok := fake.Thing(thing)
	require.True(t, ok, thing)
	for _, c := range d.Certificates {
		if c.Status == "ACTIVE" {
			n++
		}
	}
	return n
}

// TestARunThatHasNotReplacedYetIsNotComplete interrupts a run between the new certificates and the end of the old ones, and
// calls it again without the option.
func TestARunThatHasNotReplacedYetIsNotComplete(t *testing.T) {
	w, _ := firstRun(t, 2)
	w2 := w.again(t, provision.ReplaceExisting)
	denied := w.fault(t, fakebackend.Fault{Operation: "DetachThingPrincipal", Times: -1, Do: fakebackend.Fail, Code: "AccessDeniedException", Status: 403})
	_, err := w2.run(t).Run(t.Context(), rows(2))
	require.ErrorIs(t, err, task.ErrAccessDenied)
	w.fake.RemoveFault(denied)
	kept, err := w2.run(t).Summary(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 2, kept.NotReplaced)
	assert.Zero(t, kept.Replaced)
	manifest, err := w2.run(t).Manifest(t.Context())
	require.NoError(t, err)
	assert.Equal(t, [2]int64{0, 2}, [2]int64{manifest.Replaced, manifest.NotReplaced})
	assert.Equal(t, 2, activeCertificates(t, w.fake, "device-1"), "asking for the summary changes nothing")

	for _, mode := range []provision.Existing{provision.RefuseExisting, provision.AddToExisting} {
		w2.opts.Existing = mode
		summary, err := w2.run(t).Run(t.Context(), rows(2))
		assert.Equal(t, int64(2), summary.NotReplaced, mode)
		assert.Contains(t, summary.String(), "; 2 devices with the certificate, too, that was to be replaced", mode)
		assert.Equal(t, 2, activeCertificates(t, w.fake, "device-1"), "only a call with ReplaceExisting takes one out of service")
		if mode == provision.AddToExisting {
			require.NoError(t, err, "whoever wants both has them")
			continue
		}
		require.ErrorIs(t, err, provision.ErrIncomplete)
	}
	w2.opts.Existing = provision.ReplaceExisting
	run := w2.run(t)
	summary, err := run.Run(t.Context(), rows(2))
	require.NoError(t, err)
	assert.Zero(t, summary.NotReplaced)
	assert.EqualValues(t, 2, summary.Replaced)
	assert.Contains(t, summary.String(), "; 2 older certificates replaced")
	manifest, err = run.Manifest(t.Context())
	require.NoError(t, err)
	assert.Equal(t, [2]int64{2, 0}, [2]int64{manifest.Replaced, manifest.NotReplaced})
	w2.requireWorking(t, results(t, run))
}

func TestACertificateThatCantBeReplacedKeepsNoOtherInService(t *testing.T) {
	w, _ := firstRun(t, 3)
	w2 := w.again(t, provision.ReplaceExisting)
	refuses := true
	w2.opts.Backend = &brokenRemover{w.fake, func(_, name string) error {
		if refuses && name == "device-1" {
			return task.ErrConflict
		}
		return nil
	}}
	run := w2.run(t)
	summary, err := run.Run(t.Context(), rows(3))
	require.ErrorIs(t, err, task.ErrConflict)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.ErrorContains(t, err, `device "device-1" is provisioned, and the certificate`)
	require.NotNil(t, summary)
	assert.Equal(t, int64(1), summary.NotReplaced)
	w2.requireWorking(t, results(t, run)[1:])

	refuses = false
	_, err = run.Run(t.Context(), nil)
	require.NoError(t, err)
	w2.requireWorking(t, results(t, run))
}
