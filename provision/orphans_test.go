package provision_test

import (
	"context"
	"iter"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// lateFailure is a run with one device, whose line failed when all had been made.
func lateFailure(t *testing.T) (*world, *provision.Run) {
	t.Helper()
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	_, err := w.fake.AddFault(fakebackend.Fault{Thing: "device-1", Step: fakebackend.StepReport, Do: fakebackend.Fail})
	require.NoError(t, err)
	run := w.run(t)
	_, err = run.Run(t.Context(), rows(1))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	return w, run
}

func TestAnOrphanThatWasFoundBeforeStaysAsItWasRecorded(t *testing.T) {
	w, run := lateFailure(t)
	first, err := run.FindOrphans(t.Context())
	require.NoError(t, err)
	require.Len(t, first, 1)
	first[0].Why = "what was seen of it first"
	require.NoError(t, w.opts.Ledger.Apply(t.Context(), provision.Change{Orphans: first}))
	again, err := run.FindOrphans(t.Context())
	require.NoError(t, err)
	assert.Equal(t, first, again)
}

// endlessLister is an account whose list of certificates has no end.
type endlessLister struct{ task.Backend }

func (l endlessLister) Unwrap() task.Backend { return l.Backend }

func (endlessLister) ListCertificates(context.Context, time.Time) iter.Seq2[*task.Certificate, error] {
	return func(yield func(*task.Certificate, error) bool) {
		for i := 0; yield(&task.Certificate{ID: strconv.Itoa(i)}, nil); i++ {
		}
	}
}

func (endlessLister) ReadCertificate(context.Context, string) (*task.Certificate, error) {
	return nil, task.ErrNotFound
}

func TestAListOfCertificatesWithoutAnEndIsAnError(t *testing.T) {
	w, _ := lateFailure(t)
	w.opts.Backend = endlessLister{w.fake}
	_, err := w.run(t).FindOrphans(t.Context())
	require.ErrorContains(t, err, "the listing has no end")
}

func TestACertificateThatADeviceHasComeToUseIsNoLongerCountedAsAnOrphan(t *testing.T) {
	_, run := lateFailure(t)
	orphans, err := run.FindOrphans(t.Context())
	require.NoError(t, err)
	require.Len(t, orphans, 1)
	summary, err := run.Retry(t.Context())
	require.NoError(t, err)
	assert.Equal(t, orphans[0].CertificateID, results(t, run)[0].CertificateID, "what exists is used")
	assert.Zero(t, summary.Orphans)
	record, err := run.Manifest(t.Context())
	require.NoError(t, err)
	assert.Zero(t, record.Orphans)
	n, err := run.RemoveOrphans(t.Context())
	require.ErrorContains(t, err, "it is kept")
	assert.Zero(t, n)
}
