package provision_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
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
	w.fault(t, fakebackend.Fault{Thing: "device-1", Step: fakebackend.StepReport, Do: fakebackend.Fail})
	run := w.incomplete(t, rows(1))
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

func (endlessLister) CertificateThings(context.Context, string) ([]string, error) { return nil, nil }

func TestAListOfCertificatesWithoutAnEndIsAnError(t *testing.T) {
	w, _ := lateFailure(t)
	w.opts.Backend = endlessLister{w.fake}
	_, err := w.run(t).FindOrphans(t.Context())
	require.ErrorContains(t, err, "the listing has no end")
}

func TestACertificateThatADeviceHasComeToUseIsNoOrphanAnyMore(t *testing.T) {
	w, run := lateFailure(t)
	orphans, err := run.FindOrphans(t.Context())
	require.NoError(t, err)
	require.Len(t, orphans, 1)
	summary, err := run.Retry(t.Context())
	require.NoError(t, err)
	assert.Equal(t, orphans[0].CertificateID, results(t, run)[0].CertificateID, "what exists is used")
	assert.Zero(t, summary.Orphans)
	left, err := w.opts.Ledger.Orphans(t.Context())
	require.NoError(t, err)
	assert.Empty(t, left, "it has left the ledger")
	n, err := run.RemoveOrphans(t.Context())
	require.NoError(t, err)
	assert.Zero(t, n)
	w.requireWorking(t, results(t, run))
}

// TestARunWithFailedLinesLooksForItsOrphans: "0 orphans" is only said by somebody who looked.
func TestARunWithFailedLinesLooksForItsOrphans(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.fault(t, fakebackend.Fault{Thing: "device-1", Step: fakebackend.StepReport, Do: fakebackend.Fail})
	lists := &countingLister{Backend: w.fake}
	w.opts.Backend = lists
	run := w.run(t)
	began := time.Now()
	summary, err := run.Run(t.Context(), rows(3))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.Equal(t, 1, summary.Orphans, "what the failed line left")
	require.NoError(t, summary.OrphansError)
	assert.WithinRange(t, summary.OrphansLooked, began, time.Now())
	record, err := run.Manifest(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, *record.Orphans)
	assert.True(t, summary.OrphansLooked.Equal(*record.OrphansLooked))

	summary, err = run.Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.False(t, summary.OrphansLooked.IsZero())
	assert.Equal(t, 1, lists.lists, "nothing was sent since, so the account is not looked through again")
}

// countingLister counts how often certificates are listed, and can fail.
type countingLister struct {
	task.Backend
	lists int
	err   error
}

func (l *countingLister) Unwrap() task.Backend { return l.Backend }

func (l *countingLister) ListCertificates(ctx context.Context, since time.Time) iter.Seq2[*task.Certificate, error] {
	l.lists++
	if l.err != nil {
		return func(yield func(*task.Certificate, error) bool) { yield(nil, l.err) }
	}
	return l.Backend.(task.CertificateLister).ListCertificates(ctx, since)
}

func (l *countingLister) ReadCertificate(ctx context.Context, id string) (*task.Certificate, error) {
	return l.Backend.(task.CertificateLister).ReadCertificate(ctx, id)
}

func (l *countingLister) CertificateThings(ctx context.Context, arn string) ([]string, error) {
	return l.Backend.(task.CertificateLister).CertificateThings(ctx, arn)
}

func TestZeroOrphansIsNotSaidWhereNobodyLooked(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.run(t)
	summary, err := run.Run(t.Context(), rows(2))
	require.NoError(t, err)
	assert.True(t, summary.OrphansLooked.IsZero(), "every line went through")
	dir := t.TempDir()
	require.NoError(t, run.WriteManifest(t.Context(), dir))
	text, err := os.ReadFile(filepath.Join(dir, "run.json"))
	require.NoError(t, err)
	assert.NotContains(t, string(text), "orphans")

	_, err = run.FindOrphans(t.Context())
	require.NoError(t, err)
	require.NoError(t, run.WriteManifest(t.Context(), dir))
	text, err = os.ReadFile(filepath.Join(dir, "run.json"))
	require.NoError(t, err)
	assert.Contains(t, string(text), `"orphans": 0`)
	assert.Contains(t, string(text), `"orphansLooked"`)

	summary, err = run.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.False(t, summary.OrphansLooked.IsZero(), "it is in the ledger")
	_, err = run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "late", "SerialNumber": "9"}})
	require.NoError(t, err)
	summary, err = run.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.True(t, summary.OrphansLooked.IsZero(), "a device was sent since")
	_, err = run.FindOrphans(t.Context())
	require.NoError(t, err)
	record, err := w.opts.Ledger.Run(t.Context())
	require.NoError(t, err)
	assert.False(t, record.OrphansLooked.IsZero())
}

func TestADeviceThatIsSentAgainMakesTheLookForOrphansStale(t *testing.T) {
	w, run := lateFailure(t)
	w.fake.ClearFaults()
	w.removeDevice(t, "device-1")
	summary, err := run.Retry(t.Context())
	require.NoError(t, err)
	assert.True(t, summary.OrphansLooked.IsZero())
}

func TestALookForOrphansThatFailedHidesNothing(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.fault(t, fakebackend.Fault{Thing: "device-1", Step: fakebackend.StepReport, Do: fakebackend.Fail})
	w.opts.Backend = &countingLister{Backend: w.fake, err: task.ErrAccessDenied}
	run := w.run(t)
	summary, err := run.Run(t.Context(), rows(3))
	e, ok := errors.AsType[*provision.IncompleteError](err)
	require.True(t, ok, "%v", err)
	assert.Same(t, summary, e.Summary)
	assert.EqualValues(t, 2, summary.Provisioned)
	require.ErrorIs(t, summary.OrphansError, task.ErrAccessDenied)
	assert.True(t, summary.OrphansLooked.IsZero())
	assert.ErrorContains(t, err, "2 of 3 devices provisioned, 1 failed; causes: service 1; looking through the certificates that were made since it began failed")
	record, err := w.opts.Ledger.Run(t.Context())
	require.NoError(t, err)
	assert.False(t, record.Finished.IsZero(), "the run is over all the same")
}

func TestTheLookAtTheEndOfARunReadsNoMoreThanTheRunCanHaveCaused(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.fault(t, fakebackend.Fault{Thing: "device-1", Step: fakebackend.StepReport, Do: fakebackend.Fail})
	crowd := &crowded{Backend: w.fake}
	w.opts.Backend = crowd
	run := w.run(t)
	summary, err := run.Run(t.Context(), rows(1))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	require.ErrorContains(t, summary.OrphansError, "FindOrphans looks at all")
	assert.Less(t, crowd.read, 1500)
	crowd.read = 0
	_, err = run.FindOrphans(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 5000, crowd.read)
}

// crowded is an account in which others make many certificates, each of which has to be read.
type crowded struct {
	task.Backend
	read int
}

func (c *crowded) Unwrap() task.Backend { return c.Backend }

func (c *crowded) ListCertificates(_ context.Context, since time.Time) iter.Seq2[*task.Certificate, error] {
	return func(yield func(*task.Certificate, error) bool) {
		for i := range 5000 {
			if !yield(&task.Certificate{ID: strconv.Itoa(i), Created: since.Add(time.Hour)}, nil) {
				return
			}
		}
	}
}

func (c *crowded) ReadCertificate(context.Context, string) (*task.Certificate, error) {
	c.read++
	return nil, task.ErrNotFound
}

func (c *crowded) CertificateThings(context.Context, string) ([]string, error) { return nil, nil }

// TestOrphansAreFoundWhateverThisMachinesClockShows: the service's clock is behind this machine's, or ahead of it.
func TestOrphansAreFoundWhateverThisMachinesClockShows(t *testing.T) {
	for _, ahead := range []time.Duration{20 * time.Minute, 50 * time.Hour, -20 * time.Minute, -50 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.durable(t)
			w.fake.Advance(-ahead)
			w.fault(t, fakebackend.Fault{Thing: "device-1", Step: fakebackend.StepReport, Do: fakebackend.Fail})
			run := w.run(t)
			summary, err := run.Run(t.Context(), rows(2))
			require.ErrorIs(t, err, provision.ErrIncomplete)
			require.NoError(t, summary.OrphansError)
			assert.Equal(t, 1, summary.Orphans)
			found, err := run.FindOrphans(t.Context())
			require.NoError(t, err)
			assert.Len(t, found, 1)
		})
	}
}

func TestARunOfSingleDevicesFindsItsOrphansThoughNoTaskTellsTheServicesTime(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.fake.Advance(-20 * time.Hour)
	w.fault(t, fakebackend.Fault{Thing: "late", Step: fakebackend.StepPolicy, Do: fakebackend.Fail, Code: "ResourceRegistrationFailureException"})
	run := w.run(t)
	_, err := run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "late", "SerialNumber": "9"}})
	require.Error(t, err)
	found, err := run.FindOrphans(t.Context())
	require.NoError(t, err)
	assert.Len(t, found, countCertificates(t, w.fake))
	assert.NotEmpty(t, found)
}

// listless is a backend that reads devices and can't list certificates.
type listless struct {
	task.Backend
	task.DeviceReader
	task.Identifier
}

func TestTheCertificateOfARecordThatIsChangedIsRecordedBeforeItIsSentAgain(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.fault(t, fakebackend.Fault{Thing: "device-1", Step: fakebackend.StepReport, Do: fakebackend.Fail})
	w.opts.Backend = listless{w.fake, w.fake, w.fake}
	run := w.incomplete(t, rows(1))
	left, ok := w.fake.Thing("device-1")
	require.True(t, ok)
	require.Len(t, left.Certificates, 1, "all was made, and reported as failed")

	w.fake.ClearFaults()
	row := results(t, run)[0].Row
	row["SerialNumber"] = "another"
	_, _ = run.Amend(t.Context(), provision.Rows(row))
	orphans, err := w.opts.Ledger.Orphans(t.Context())
	require.NoError(t, err)
	require.Len(t, orphans, 1)
	assert.Equal(t, left.Certificates[0].ID, orphans[0].CertificateID)
}

func TestAmendReturnsWhatIsWrongWithTheMendedRecords(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.complete(t, rows(1))
	unreadable := errors.New("the file is cut off")
	_, err := run.Amend(t.Context(), func(yield func(provision.Device, error) bool) { yield(provision.Device{}, unreadable) })
	require.ErrorIs(t, err, unreadable)
}
