package provision_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// TestTwoRunsOfOneListAtTheSameTimeMakeOneCertificateEach begins a list twice. Both runs look while no thing exists, and the
// second waits for the tasks of the first.
func TestTwoRunsOfOneListAtTheSameTimeMakeOneCertificateEach(t *testing.T) {
	for name, mode := range map[string]provision.Existing{"refuse": provision.RefuseExisting, "replace": provision.ReplaceExisting} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{Rate: 1, StartDelay: 5 * time.Second})
				w.durable(t)
				w.opts.PartLines, w.opts.Existing = 3, mode // parts of three, so that others are ready while the first one waits
				first, second := w.run(t), w.again(t, mode).run(t)
				done := make(chan error, 2)
				go func() { _, err := first.Run(t.Context(), rows(9)); done <- err }()
				go func() { _, err := second.Run(t.Context(), rows(9)); done <- err }()
				for range 2 {
					if err := <-done; err != nil {
						require.ErrorIs(t, err, provision.ErrIncomplete)
					}
				}
				for d := range w.fake.Things() {
					assert.Equal(t, 1, activeCertificates(t, w.fake, d.ThingName), d.ThingName)
				}
			})
		})
	}
}

// TestTwoRunsWithSlowKeysMakeOneCertificateEach has runs that look at more devices than they have keys for soon, so that a
// whole task of the other one can begin and end between a look and the task.
func TestTwoRunsWithSlowKeysMakeOneCertificateEach(t *testing.T) {
	for later := time.Duration(0); later < time.Minute; later += 7 * time.Second {
		t.Run(later.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := slowService(t, 400*time.Millisecond)
				w.durable(t)
				w2 := w.again(t, provision.RefuseExisting)
				w2.opts.Credential = &provision.MakeCSR{Store: keystore.Memory(), Keys: slowSource(400 * time.Millisecond), Workers: 2}
				first, second := w.run(t), w2.run(t)
				done := make(chan error, 2)
				go func() { _, err := first.Run(t.Context(), rows(400)); done <- err }()
				go func() {
					time.Sleep(later)
					_, err := second.Run(t.Context(), rows(400))
					done <- err
				}()
				for range 2 {
					if err := <-done; err != nil {
						require.ErrorIs(t, err, provision.ErrIncomplete)
					}
				}
				twice := 0
				for d := range w.fake.Things() {
					if activeCertificates(t, w.fake, d.ThingName) != 1 {
						twice++
					}
				}
				assert.Zero(t, twice, "things with two certificates")
			})
		})
	}
}

// noUpload is a backend whose bucket can't be reached.
type noUpload struct{ *fakebackend.Backend }

func (noUpload) Upload(context.Context, *task.UploadInput) (*task.Object, error) {
	return nil, task.ErrAccessDenied
}

// TestARunThatGoesOnLaterLooksAgain interrupts a run after it has looked and before it has started its task. Another run
// registers the devices meanwhile.
func TestARunThatGoesOnLaterLooksAgain(t *testing.T) {
	for _, state := range []provision.PartState{provision.PartWritten, provision.PartUploaded} {
		for _, taken := range []int{1, 3} {
			w := newWorld(t, fakebackend.Options{})
			w.durable(t)
			if state == provision.PartWritten {
				w.opts.Backend = noUpload{w.fake}
			}
			_, err := w.fake.AddFault(fakebackend.Fault{
				Operation: "StartThingRegistrationTask", Times: 1, Do: fakebackend.Fail, Code: "UnauthorizedException", Status: 401,
			})
			require.NoError(t, err)
			_, err = w.run(t).Run(t.Context(), rows(3))
			require.Error(t, err)
			w.fake.ClearFaults()
			parts, err := w.opts.Ledger.Parts(t.Context())
			require.NoError(t, err)
			require.Equal(t, state, parts[0].State)
			w.opts.Backend = w.fake

			other := w.again(t, provision.RefuseExisting).run(t)
			_, err = other.Run(t.Context(), rows(taken))
			require.NoError(t, err)
			run := w.run(t)
			_, err = run.Run(t.Context(), rows(3))
			require.ErrorIs(t, err, provision.ErrIncomplete, state)
			got := results(t, run)
			requireRefused(t, got[:taken], results(t, other))
			w.requireWorking(t, got[taken:])
			w.requireOneCertificateEach(t, "device-1")

			w.opts.Existing = provision.ReplaceExisting
			run = w.run(t)
			_, err = run.Retry(t.Context())
			require.NoError(t, err)
			w.requireWorking(t, results(t, run))
		}
	}
}

// TestAnOutputIsUsedByOneStageAtATime has devices that are taken over while the reports of others are read.
func TestAnOutputIsUsedByOneStageAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 10})
		keys := keystore.Memory()
		w.durable(t)
		w.opts.Credential = &provision.MakeCSR{Store: keys}
		list := make([]provision.Device, 0, 60)
		for d := range rows(60) {
			list = append(list, d)
		}
		w.complete(t, provision.Devices(list[40:]...))
		w2 := w.again(t, provision.TakeOverExisting)
		out := &exclusiveOutput{Output: w2.opts.Output}
		w2.opts.Credential, w2.opts.Output, w2.opts.PartLines = &provision.MakeCSR{Store: keys}, out, 10
		_, err := w2.run(t).Run(t.Context(), provision.Devices(list...))
		require.NoError(t, err)
		assert.False(t, out.shared.Load(), "a Sync answers for all that was taken since the last, so two stages must not share one")
	})
}

// exclusiveOutput is slow to make anything durable, and notices when it is used meanwhile.
type exclusiveOutput struct {
	provision.Output
	inSync, shared atomic.Bool
}

func (o *exclusiveOutput) Deliver(ctx context.Context, d *provision.Delivery) error {
	if o.inSync.Load() {
		o.shared.Store(true)
	}
	return o.Output.Deliver(ctx, d)
}

func (o *exclusiveOutput) Sync(ctx context.Context) error {
	if o.inSync.Swap(true) {
		o.shared.Store(true)
	}
	defer o.inSync.Store(false)
	time.Sleep(time.Second) // as a slow disk
	return o.Output.Sync(ctx)
}

// TestAThingThatSomebodyMadeWhileARunWasInterruptedIsNotTheRuns: a part that was written and never sent has made nothing.
func TestAThingThatSomebodyMadeWhileARunWasInterruptedIsNotTheRuns(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Backend = noUpload{w.fake}
	_, err := w.run(t).Run(t.Context(), rows(2))
	require.Error(t, err)
	w.opts.Backend = w.fake
	name := "device-1"
	_, err = awsIoT(w.fake).CreateThing(t.Context(), &iot.CreateThingInput{
		ThingName: &name, AttributePayload: &types.AttributePayload{Attributes: map[string]string{"version": "v1", "serialNumber": "001"}}})
	require.NoError(t, err)
	run := w.run(t)
	_, _ = run.Run(t.Context(), rows(2))
	got := results(t, run)
	require.True(t, got[0].ThingExisted, got[0].Name)
	report, err := run.Remove(t.Context(), provision.RemoveOptions{All: true})
	require.NoError(t, err)
	_, ok := w.fake.Thing(name)
	assert.True(t, ok, "it is somebody else's: %+v", report)
}
