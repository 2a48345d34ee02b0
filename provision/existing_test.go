package provision_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// again is the same account as another run sees it that knows nothing of the first: another ledger, place for keys and
// output.
func (w *world) again(t *testing.T, existing provision.Existing) *world {
	next := &world{fake: w.fake, keys: keystore.Memory(), out: &memoryOutput{}, opts: w.opts}
	next.opts.Credential, next.opts.Output, next.opts.Observe = &provision.MakeCSR{Store: next.keys}, next.out, nil
	next.opts.Existing = existing
	next.durable(t)
	return next
}

// firstRun provisions n devices and returns their world and results.
func firstRun(t *testing.T, n int) (*world, []*provision.Result) {
	t.Helper()
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.complete(t, rows(n))
	return w, results(t, run)
}

// requireRefused checks that devices were not sent because of the certificates they have.
func requireRefused(t *testing.T, got, old []*provision.Result) {
	t.Helper()
	require.Len(t, got, len(old))
	for i, r := range got {
		require.Equal(t, provision.Failed, r.Verdict, r.Message)
		assert.Equal(t, provision.CauseExists, r.Cause)
		assert.Zero(t, r.Attempts)
		require.Len(t, r.Existing, 1)
		assert.Equal(t, old[i].CertificateID, r.Existing[0].ID)
		assert.Equal(t, old[i].CertificateARN, r.Existing[0].ARN)
		assert.Contains(t, r.Message, old[i].CertificateID)
		assert.Contains(t, r.Message, r.Existing[0].Created.UTC().Format(time.RFC3339), "the message tells how old it is")
		assert.Contains(t, r.Message, "Options.Existing")
	}
}

func tasksOf(fake *fakebackend.Backend) (n int) {
	for range fake.Tasks() {
		n++
	}
	return n
}

func TestTheSameListWithANewLedgerIsRefused(t *testing.T) {
	w, old := firstRun(t, 3)
	w2 := w.again(t, provision.RefuseExisting)
	run := w2.run(t)
	for range 2 {
		summary, err := run.Run(t.Context(), rows(3))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.Equal(t, int64(3), summary.Causes[provision.CauseExists])
		requireRefused(t, results(t, run), old)
	}
	w.requireOneCertificateEach(t, "device-1", "device-2", "device-3")
	assert.Equal(t, 1, tasksOf(w.fake), "nothing was sent")
	_, err := w2.keys.Get(t.Context(), "device-1")
	assert.ErrorIs(t, err, keystore.ErrNotFound, "no key was made for a device that is not sent")
	w.requireWorking(t, results(t, w.run(t)))

	// Called again by whoever has decided, the refused ones are sent.
	w2.opts.Existing = provision.ReplaceExisting
	run = w2.run(t)
	_, err = run.Retry(t.Context())
	require.NoError(t, err)
	w2.requireWorking(t, results(t, run))
}

func TestOnlyTheDevicesThatHaveACertificateAreRefused(t *testing.T) {
	w, old := firstRun(t, 2)
	w2 := w.again(t, provision.RefuseExisting)
	var seen []provision.EventExisting
	w2.opts.Observe = func(e provision.Event) {
		if e, ok := e.(provision.EventExisting); ok {
			seen = append(seen, e)
		}
	}
	run := w2.run(t)
	_, err := run.Run(t.Context(), rows(5))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	got := results(t, run)
	requireRefused(t, got[:2], old)
	w2.requireWorking(t, got[2:])
	assert.Equal(t, []provision.EventExisting{{Looked: 5, Things: 2, Certified: 2, Failed: 2}}, seen)
	parts, err := w2.opts.Ledger.Parts(t.Context())
	require.NoError(t, err)
	require.Len(t, parts, 1)
	assert.Equal(t, 3, parts[0].Lines)
	assert.False(t, parts[0].Looked.IsZero())
}

func TestASecondCertificateIsAddedOnlyOnDemandAndNamesTheFirst(t *testing.T) {
	w, old := firstRun(t, 2)
	for mode, notLooked := range map[provision.Existing]int64{provision.AddToExisting: 0, provision.UncheckedExisting: 2} {
		w2 := w.again(t, mode)
		run := w2.run(t)
		summary, err := run.Run(t.Context(), rows(2))
		require.NoError(t, err)
		assert.Equal(t, notLooked, summary.NotLooked)
		if notLooked > 0 {
			assert.Contains(t, summary.String(), "2 devices sent without looking")
		}
		for i, r := range results(t, run) {
			assert.Equal(t, notLooked == 0, r.ThingExisted)
			if notLooked == 0 {
				ids := map[string]bool{}
				for _, c := range r.Existing {
					assert.False(t, c.Replace)
					ids[c.ID] = true
				}
				assert.True(t, ids[old[i].CertificateID], "the other is named: %v", r.Existing)
				assert.False(t, ids[r.CertificateID])
			}
		}
	}
	dev, err := w.fake.ReadDevice(t.Context(), "device-1")
	require.NoError(t, err)
	assert.Len(t, dev.Certificates, 3)
}

func TestAReplacedCertificateGoesOutOfServiceOnceTheNewOneIsDelivered(t *testing.T) {
	w, old := firstRun(t, 2)
	// The second one's is on another thing, too.
	client := awsIoT(w.fake)
	_, err := client.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("twin")})
	require.NoError(t, err)
	_, err = client.AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: new("twin"), Principal: &old[1].CertificateARN})
	require.NoError(t, err)

	w2 := w.again(t, provision.ReplaceExisting)
	output := w2.opts.Output
	w2.opts.Output = unsynced{output}
	_, err = w2.run(t).Run(t.Context(), rows(2))
	require.ErrorIs(t, err, errDisk)
	for _, r := range old {
		c, err := w.fake.ReadCertificate(t.Context(), r.CertificateID)
		require.NoError(t, err)
		assert.Equal(t, "ACTIVE", c.Status, "as long as the new one is not durable in the output, the old one works")
	}

	// An interruption in between is made good by the next call.
	w2.opts.Output = output
	denied := w.fault(t, fakebackend.Fault{Operation: "DetachThingPrincipal", Nth: 2, Times: -1, Do: fakebackend.Fail, Code: "AccessDeniedException", Status: 403})
	_, err = w2.run(t).Run(t.Context(), rows(2))
	require.ErrorIs(t, err, task.ErrAccessDenied)
	require.ErrorContains(t, err, "still in service")
	w.fake.RemoveFault(denied)
	run := w2.run(t)
	_, err = run.Run(t.Context(), rows(2))
	require.NoError(t, err)
	got := results(t, run)
	w2.requireWorking(t, got)
	for i, r := range got {
		require.Len(t, r.Existing, 1)
		assert.Equal(t, old[i].CertificateID, r.Existing[0].ID)
		assert.False(t, r.Existing[0].Retired.IsZero())
	}
	_, err = w.fake.ReadCertificate(t.Context(), old[0].CertificateID)
	require.ErrorIs(t, err, task.ErrNotFound)
	shared, err := w.fake.ReadCertificate(t.Context(), old[1].CertificateID)
	require.NoError(t, err)
	assert.Equal(t, "ACTIVE", shared.Status, "another thing has it")
}

// unsynced is an output that takes everything and makes nothing durable.
type unsynced struct{ provision.Output }

func (unsynced) Sync(context.Context) error { return errDisk }

func TestARunWhoseLedgerWasLostTakesItsDevicesOver(t *testing.T) {
	w, old := firstRun(t, 3)
	w2 := w.again(t, provision.TakeOverExisting)
	w2.keys = w.keys // the keys were not lost
	w2.opts.Credential = &provision.MakeCSR{Store: w.keys}
	run := w2.run(t)
	_, err := run.Run(t.Context(), rows(4))
	require.NoError(t, err)
	got := results(t, run)
	w2.requireWorking(t, got)
	for i, r := range got[:3] {
		assert.Equal(t, old[i].CertificateID, r.CertificateID)
		assert.Zero(t, r.Attempts, "nothing was sent")
		assert.Empty(t, r.Existing)
	}
	assert.Equal(t, 2, tasksOf(w.fake), "the fourth was registered")

	t.Run("with other keys", func(t *testing.T) {
		for name, store := range map[string]keystore.Store{"of its own": keystore.Memory(), "that it can't see": allYes{keystore.Memory()}} {
			w3 := w.again(t, provision.TakeOverExisting)
			w3.opts.Credential = &provision.MakeCSR{Store: store}
			run := w3.run(t)
			_, err := run.Run(t.Context(), rows(3))
			require.ErrorIs(t, err, provision.ErrIncomplete, name)
			requireRefused(t, results(t, run), old)
		}
	})
	t.Run("a key of another run and no certificate", func(t *testing.T) {
		w4 := w.again(t, provision.TakeOverExisting)
		w4.opts.Credential = &provision.MakeCSR{Store: w.keys}
		_, err := w.fake.RetireCertificate(t.Context(), "device-1", old[0].CertificateID)
		require.NoError(t, err)
		run := w4.run(t)
		report, err := run.Check(t.Context(), rows(2))
		require.NoError(t, err)
		require.Len(t, report.Refusals, 1, "the dry run knows it")
		assert.Equal(t, provision.CauseKey, report.Refusals[0].Cause)
		assert.NoError(t, report.Findings.Err())
		_, err = run.Run(t.Context(), rows(2))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		got := results(t, run)
		assert.Equal(t, provision.CauseKey, got[0].Cause)
		assert.Equal(t, provision.Provisioned, got[1].Verdict, "one such device does not keep the others from being taken over")
	})
}

// allYes is a store that confirms every key, as one that keeps nothing does.
type allYes struct{ keystore.Store }

func (allYes) Verify(context.Context, string, [32]byte) error { return nil }

// TestARunThatWasSetBackDoesNotTakeItsOwnCertificateForAStrangers has a ledger of an earlier moment, when nothing was sent.
func TestARunThatWasSetBackDoesNotTakeItsOwnCertificateForAStrangers(t *testing.T) {
	w, old := firstRun(t, 3)
	before := provision.NewMemoryLedger()
	record, err := w.opts.Ledger.Run(t.Context())
	require.NoError(t, err)
	record.Finished = time.Time{}
	change := provision.Change{Run: record}
	for _, r := range old {
		d := new(provision.DeviceRecord)
		d.Seq, d.Name, d.Row, d.Source, d.Verdict = r.Seq, r.Name, r.Row, r.Source, provision.Waiting
		change.Add = append(change.Add, d)
	}
	require.NoError(t, before.Apply(t.Context(), change))
	w.opts.Ledger = before
	run := w.complete(t, rows(3))
	got := results(t, run)
	w.requireWorking(t, got)
	assert.Equal(t, old[0].CertificateID, got[0].CertificateID)
	assert.Equal(t, 1, tasksOf(w.fake))
}

func TestAThingWithoutAnActiveCertificateIsSent(t *testing.T) {
	w, old := firstRun(t, 1)
	client := awsIoT(w.fake)
	_, err := client.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: &old[0].CertificateID, NewStatus: types.CertificateStatusInactive})
	require.NoError(t, err)
	_, err = client.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("device-2"), AttributePayload: &types.AttributePayload{Attributes: map[string]string{}}})
	require.NoError(t, err)
	w2 := w.again(t, provision.RefuseExisting)
	run := w2.run(t)
	_, _ = run.Run(t.Context(), rows(3))
	got := results(t, run)
	for _, r := range got {
		assert.NotEqual(t, provision.CauseExists, r.Cause)
		assert.Equal(t, 1, r.Attempts, "%s was sent", r.Name)
		assert.Empty(t, r.Existing)
	}
	assert.Equal(t, []bool{true, true, false}, []bool{got[0].ThingExisted, got[1].ThingExisted, got[2].ThingExisted})
}

func TestWrongSettingsOfTheLookAreRefused(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	for text, change := range map[string]func(*provision.Options){
		"Options.Existing is": func(o *provision.Options) { o.Existing = "maybe" },
		"can't be negative":   func(o *provision.Options) { o.Look.Things = -1 },
		"task.ThingFinder": func(o *provision.Options) { // it would send what it is to take over
			o.Existing, o.Backend = provision.TakeOverExisting, struct{ task.Backend }{w.fake}
		},
		"task.Remover": func(o *provision.Options) {
			o.Existing, o.Backend = provision.ReplaceExisting, struct{ task.Backend }{w.fake}
		},
	} {
		opts := w.opts
		change(&opts)
		_, err := provision.New(opts)
		require.ErrorContains(t, err, text)
	}
}
