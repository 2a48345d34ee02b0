package provision_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

var all = provision.RemoveOptions{All: true, UncheckedThings: true, Rate: 1000}

// trialRun is a run of n devices that is over.
func trialRun(t *testing.T, n int) (*world, *provision.Run) {
	t.Helper()
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.complete(t, rows(n))
	return w, run
}

func TestATrialRunIsUndone(t *testing.T) {
	w, run := trialRun(t, 5)
	report, err := run.Remove(t.Context(), all)
	require.NoError(t, err)
	assert.EqualValues(t, 5, report.Removed)
	assert.Zero(t, report.ThingsKept)
	counts := w.fake.Counts()
	assert.Zero(t, counts.Things+counts.Certificates)
	for _, r := range results(t, run) {
		assert.Equal(t, provision.Removed, r.Verdict)
		assert.NotEmpty(t, r.CertificateID, "whose it was can be asked later")
		assert.Empty(t, r.Message)
	}

	// Whoever asks is told what is true, and nothing is sent again.
	tasks := counts.Tasks
	for name, call := range map[string]func() (*provision.Summary, error){
		"Run":       func() (*provision.Summary, error) { return run.Run(t.Context(), nil) },
		"Retry":     func() (*provision.Summary, error) { return run.Retry(t.Context()) },
		"Reconcile": func() (*provision.Summary, error) { return run.Reconcile(t.Context()) },
	} {
		summary, err := call()
		require.ErrorIs(t, err, provision.ErrIncomplete, name)
		assert.ErrorContains(t, err, "0 of 5 devices provisioned, 5 removed", name)
		assert.EqualValues(t, 5, summary.Removed, name)
		assert.Zero(t, summary.Pending, name)
	}
	assert.Equal(t, tasks, w.fake.Counts().Tasks)
	n, err := run.Deliver(t.Context(), &memoryOutput{})
	require.NoError(t, err)
	assert.Zero(t, n)

	report, err = run.Remove(t.Context(), all)
	require.NoError(t, err, "again")
	assert.Zero(t, report.Removed)
}

func TestAThingThatARefusedLineMadeIsRemovedWithItsDevice(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.fault(t, fakebackend.Fault{Step: fakebackend.StepActivate, Do: fakebackend.Fail, Message: "Internal Failure"})
	run := w.incomplete(t, rows(3))
	require.Equal(t, 3, w.fake.Counts().Things, "the refused line has made its thing")
	_, err := run.Retry(t.Context())
	require.NoError(t, err)
	report, err := run.Remove(t.Context(), provision.RemoveOptions{All: true})
	require.NoError(t, err)
	assert.Zero(t, report.ThingsKept)
	assert.Zero(t, w.fake.Counts().Things)
}

// unsyncable is a step whose keys do not become durable.
type unsyncable struct{ *provision.MakeCSR }

func (unsyncable) Sync(context.Context) error { return errors.New("disk full") }

// TestAThingThatARefusedLineMadeIsRemovedAlsoIfPrepareSentItAgain has a Retry fail before it makes a part, so that Prepare, which
// looks at nothing, makes the part in which the device is sent again.
func TestAThingThatARefusedLineMadeIsRemovedAlsoIfPrepareSentItAgain(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.fault(t, fakebackend.Fault{Step: fakebackend.StepActivate, Do: fakebackend.Fail, Message: "Internal Failure"})
	run := w.run(t)
	steps := func() error {
		if _, err := run.Prepare(t.Context(), rows(3)); err != nil {
			return err
		}
		if err := run.Submit(t.Context()); err != nil {
			return err
		}
		_, err := run.Collect(t.Context())
		return err
	}
	require.ErrorIs(t, steps(), provision.ErrIncomplete)
	require.Equal(t, 3, w.fake.Counts().Things, "the refused line has made its thing")
	whole := w.opts.Credential
	w.opts.Credential = unsyncable{whole.(*provision.MakeCSR)}
	_, err := w.run(t).Retry(t.Context())
	require.ErrorContains(t, err, "disk full")
	w.opts.Credential = whole
	require.NoError(t, steps())
	report, err := run.Remove(t.Context(), provision.RemoveOptions{All: true})
	require.NoError(t, err)
	assert.Zero(t, report.ThingsKept)
	assert.Zero(t, w.fake.Counts().Things)
}

func TestARemovedDeviceIsMadeAgainOnRequest(t *testing.T) {
	w, run := trialRun(t, 3)
	_, err := run.Remove(t.Context(), all)
	require.NoError(t, err)
	_, err = run.Register(t.Context(), provision.Device{Row: results(t, run)[0].Row})
	require.ErrorContains(t, err, "another credential was handed over before", "an output never replaces one silently")
	w.out = &memoryOutput{}
	w.opts.Output = w.out
	run = w.run(t)
	_, err = run.Register(t.Context(), provision.Device{Row: results(t, run)[0].Row})
	require.NoError(t, err)
	_, err = run.Amend(t.Context(), rows(3))
	require.NoError(t, err)
	w.requireWorking(t, results(t, run))
	assert.Equal(t, 3, w.fake.Counts().Certificates, "each has one")
}

func TestSomeDevicesAreRemovedByName(t *testing.T) {
	w, run := trialRun(t, 3)
	_, err := run.Remove(t.Context(), provision.RemoveOptions{Names: []string{"device-2", "nobody"}})
	require.ErrorContains(t, err, `no device "nobody"; nothing was removed`)
	assert.Equal(t, 3, w.fake.Counts().Certificates)
	_, err = run.Remove(t.Context(), provision.RemoveOptions{})
	require.ErrorContains(t, err, "set one of")
	report, err := run.Remove(t.Context(), provision.RemoveOptions{Names: []string{"device-2"}, UncheckedThings: true})
	require.NoError(t, err)
	assert.EqualValues(t, 1, report.Removed)
	list := results(t, run)
	assert.Equal(t, provision.Removed, list[1].Verdict)
	w.requireWorking(t, []*provision.Result{list[0], list[2]})
	report, err = run.Remove(t.Context(), provision.RemoveOptions{Choose: func(r *provision.Result) bool { return r.Seq == 3 }})
	require.NoError(t, err)
	assert.EqualValues(t, 1, report.Removed)
	assert.Equal(t, 1, w.fake.Counts().Certificates)
}

func TestWhatTheRunDidNotMakeIsKept(t *testing.T) {
	w, run := trialRun(t, 3)
	// Thing 1 has somebody else's certificate, certificate 2 is on another thing, and nobody looked whether thing 3 existed.
	foreign, err := awsIoT(w.fake).CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	_, err = awsIoT(w.fake).AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: new("device-1"), Principal: foreign.CertificateArn})
	require.NoError(t, err)
	_, err = awsIoT(w.fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("other")})
	require.NoError(t, err)
	shared := results(t, run)[1].CertificateARN
	_, err = awsIoT(w.fake).AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: new("other"), Principal: &shared})
	require.NoError(t, err)

	report, err := run.Remove(t.Context(), provision.RemoveOptions{Names: []string{"device-1", "device-2"}, UncheckedThings: true})
	require.NoError(t, err)
	assert.EqualValues(t, 2, report.Removed)
	assert.EqualValues(t, 1, report.ThingsKept)
	list := results(t, run)
	assert.Contains(t, list[0].Message, *foreign.CertificateArn)
	assert.Contains(t, list[1].Message, "it is detached, and on other things, too: other", "what stays is told")
	thing, ok := w.fake.Thing("device-1")
	require.True(t, ok)
	require.Len(t, thing.Certificates, 1)
	assert.Equal(t, *foreign.CertificateId, thing.Certificates[0].ID)
	assert.Equal(t, "ACTIVE", thing.Certificates[0].Status)
	other, _ := w.fake.Thing("other")
	require.Len(t, other.Certificates, 1)
	assert.Equal(t, "ACTIVE", other.Certificates[0].Status, "it is only detached")

	d, err := deviceRecord(t, w, 3)
	require.NoError(t, err)
	d.ThingExisted = true
	require.NoError(t, w.opts.Ledger.Apply(t.Context(), provision.Change{Devices: []*provision.DeviceRecord{d}}))
	_, err = run.Remove(t.Context(), all)
	require.NoError(t, err)
	assert.Contains(t, results(t, run)[2].Message, "existed before the run")
	thing, ok = w.fake.Thing("device-3")
	require.True(t, ok)
	assert.Empty(t, thing.Certificates)
}

func deviceRecord(t *testing.T, w *world, seq int64) (*provision.DeviceRecord, error) {
	for d, err := range w.opts.Ledger.Devices(t.Context(), provision.DeviceFilter{AfterSeq: seq - 1, Limit: 1}) {
		return d, err
	}
	return nil, errors.New("no such device")
}

func TestAThingOfWhichNothingIsKnownIsKept(t *testing.T) {
	w, run := trialRun(t, 1)
	d, err := deviceRecord(t, w, 1)
	require.NoError(t, err)
	parts, err := w.opts.Ledger.Parts(t.Context())
	require.NoError(t, err)
	parts[d.Part-1].Looked = time.Time{}
	require.NoError(t, w.opts.Ledger.Apply(t.Context(), provision.Change{Part: parts[d.Part-1]}))
	_, err = run.Remove(t.Context(), provision.RemoveOptions{All: true})
	require.NoError(t, err)
	assert.Contains(t, results(t, run)[0].Message, "is not recorded")
	_, ok := w.fake.Thing("device-1")
	assert.True(t, ok)
}

// brokenRemover is a backend whose removals fail at a request.
type brokenRemover struct {
	task.Backend
	fail func(op, name string) error
}

func (b *brokenRemover) Unwrap() task.Backend { return b.Backend }

func (b *brokenRemover) do(op, name string, call func(task.Remover) ([]string, error)) ([]string, error) {
	if err := b.fail(op, name); err != nil {
		return nil, err
	}
	return call(b.Backend.(task.Remover))
}

func (b *brokenRemover) RetireCertificate(ctx context.Context, thing, id string) ([]string, error) {
	return b.do("certificate", thing, func(r task.Remover) ([]string, error) { return r.RetireCertificate(ctx, thing, id) })
}

func (b *brokenRemover) RemoveThing(ctx context.Context, name string) ([]string, error) {
	return b.do("thing", name, func(r task.Remover) ([]string, error) { return r.RemoveThing(ctx, name) })
}

func (b *brokenRemover) RemovePolicy(ctx context.Context, name, document string) ([]string, error) {
	return b.do("policy", name, func(r task.Remover) ([]string, error) { return r.RemovePolicy(ctx, name, document) })
}

func TestARemovalThatWasInterruptedGoesOn(t *testing.T) {
	for _, op := range []string{"certificate", "thing"} {
		w, _ := trialRun(t, 3)
		broken := &brokenRemover{w.fake, func(at, name string) error {
			if at == op && name == "device-2" {
				return task.ErrAccessDenied
			}
			return nil
		}}
		w.opts.Backend = broken
		run := w.run(t)
		_, err := run.Remove(t.Context(), all)
		require.ErrorIs(t, err, task.ErrAccessDenied, op)
		assert.ErrorContains(t, err, "device-2")
		assert.Equal(t, provision.Removing, results(t, run)[1].Verdict, op)
		summary, err := run.Run(t.Context(), nil)
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.Positive(t, summary.Removing)
		assert.ErrorContains(t, err, "being removed")
		_, err = run.Register(t.Context(), provision.Device{Row: results(t, run)[1].Row})
		require.ErrorContains(t, err, "call Remove again")

		w.opts.Backend = w.fake
		run = w.run(t)
		_, err = run.Remove(t.Context(), all)
		require.NoError(t, err)
		assert.Zero(t, w.fake.Counts().Things+w.fake.Counts().Certificates, op)
		for _, r := range results(t, run) {
			assert.Equal(t, provision.Removed, r.Verdict)
		}
	}
}

func TestTheRefusalOfOneDeviceKeepsNoOtherFromBeingRemoved(t *testing.T) {
	w, _ := trialRun(t, 3)
	w.opts.Backend = &brokenRemover{w.fake, func(at, name string) error {
		if at == "certificate" && name == "device-2" {
			return task.ErrConflict
		}
		return nil
	}}
	run := w.run(t)
	report, err := run.Remove(t.Context(), all)
	require.ErrorIs(t, err, task.ErrConflict)
	assert.ErrorContains(t, err, `removing device "device-2"`)
	assert.EqualValues(t, 2, report.Removed)
	assert.Contains(t, results(t, run)[1].Message, "call Remove again")
}

func TestThePolicyOfADocumentGoesWithTheLastDeviceThatUsesIt(t *testing.T) {
	w, run := trialRun(t, 3)
	require.Equal(t, 1, w.fake.Counts().Policies)
	report, err := run.Remove(t.Context(), provision.RemoveOptions{Names: []string{"device-1"}})
	require.NoError(t, err)
	assert.Len(t, report.PoliciesKept, 1)
	assert.Equal(t, 1, w.fake.Counts().Policies)
	report, err = run.Remove(t.Context(), all)
	require.NoError(t, err)
	assert.Len(t, report.Policies, 1)
	assert.Zero(t, w.fake.Counts().Policies)
}

func TestAFailedDeviceIsRemovedWithItsOrphans(t *testing.T) {
	w, run := lateFailure(t)
	require.Equal(t, 1, w.fake.Counts().Certificates)
	report, err := run.Remove(t.Context(), all)
	require.NoError(t, err)
	assert.EqualValues(t, 1, report.Removed)
	assert.Zero(t, w.fake.Counts().Certificates+w.fake.Counts().Things)
	summary, err := run.Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.Zero(t, summary.Orphans)
}

// TestAThingWithoutACertificateIsKeptIfItExistedBefore has a template that makes things alone, of which one is there.
func TestAThingWithoutACertificateIsKeptIfItExistedBefore(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	_, err := awsIoT(w.fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("one")})
	require.NoError(t, err)
	w.opts.Template, w.opts.Credential = formTemplate(t, ""), provision.NoCertificate{}
	run := w.complete(t, provision.Rows(map[string]string{"ThingName": "one"}, map[string]string{"ThingName": "two"}))
	report, err := run.Remove(t.Context(), all)
	require.NoError(t, err)
	assert.Equal(t, int64(1), report.ThingsKept)
	_, ok := w.fake.Thing("one")
	assert.True(t, ok, "it existed before the run")
	_, ok = w.fake.Thing("two")
	assert.False(t, ok)
}

func TestAThingThatWasKeptIsRemovedByALaterCall(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Existing = provision.UncheckedExisting
	run := w.complete(t, rows(2))
	_, err := run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "late", "SerialNumber": "9"}})
	require.NoError(t, err)
	report, err := run.Remove(t.Context(), provision.RemoveOptions{All: true, Rate: 1000})
	require.NoError(t, err)
	assert.Equal(t, [2]int64{3, 3}, [2]int64{report.Removed, report.ThingsKept})
	assert.Contains(t, results(t, run)[2].Message, "UncheckedThings")
	report, err = run.Remove(t.Context(), all)
	require.NoError(t, err)
	assert.Equal(t, [2]int64{0, 0}, [2]int64{report.Removed, report.ThingsKept}, "they were removed before")
	assert.Zero(t, w.fake.Counts().Things)
	for _, r := range results(t, run) {
		assert.Empty(t, r.Message)
	}
}

func TestWhatIsKnownOfAThingOutlastsACallThatDoesNotLook(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	_, err := awsIoT(w.fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("one")})
	require.NoError(t, err)
	w.opts.Template, w.opts.Credential = formTemplate(t, "CertificateSigningRequest"), &provision.MakeCSR{Store: w.keys}
	w.fault(t, fakebackend.Fault{Thing: "one", Step: fakebackend.StepCertificate, Do: fakebackend.Fail, Times: 1})
	w.incomplete(t, provision.Rows(map[string]string{"ThingName": "one"}))
	w.opts.Existing = provision.UncheckedExisting
	run := w.run(t)
	_, err = run.Retry(t.Context())
	require.NoError(t, err)
	_, err = run.Remove(t.Context(), all)
	require.NoError(t, err)
	_, ok := w.fake.Thing("one")
	assert.True(t, ok, "the run has seen that it existed before")
}
