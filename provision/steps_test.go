package provision_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

func TestAStoppedRunGoesOnWhereItWasStopped(t *testing.T) {
	for name, mode := range map[string]provision.StopMode{"finish the part": provision.FinishPart, "cancel the task": provision.CancelTask} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{Rate: 1})
				w.durable(t)
				w.opts.PartLines, w.opts.Wait = 10, task.WaitOptions{MinDelay: time.Second, MaxDelay: time.Second}
				var run *provision.Run
				w.opts.Observe = func(e provision.Event) {
					if p, ok := e.(provision.EventTaskProgress); ok && p.Part == 2 && p.Description.Succeeded >= 3 && p.Description.Status == task.InProgress {
						run.Stop(mode)
					}
				}
				run = w.run(t)
				summary, err := run.Run(t.Context(), rows(40))
				require.ErrorIs(t, err, provision.ErrStopped)
				assert.Positive(t, summary.Pending)
				if mode == provision.FinishPart {
					assert.EqualValues(t, 20, summary.Provisioned)
				} else {
					assert.Less(t, summary.Provisioned, int64(20))
					assert.Greater(t, summary.Provisioned, int64(10))
				}
				w.opts.Observe = nil
				run = w.run(t)
				_, err = run.Run(t.Context(), nil)
				if mode == provision.CancelTask { // lines that were not reached are Failed until they are tried again
					require.ErrorIs(t, err, provision.ErrIncomplete)
					_, err = run.Retry(t.Context())
				}
				require.NoError(t, err)
				w.requireWorking(t, results(t, run))
			})
		})
	}
}

func TestACancelledContextLeavesARunThatResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 1})
		w.durable(t)
		w.opts.PartLines, w.opts.Wait = 10, task.WaitOptions{MinDelay: time.Second, MaxDelay: time.Second}
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupted := errors.New("somebody pressed Ctrl-C")
		w.opts.Observe = func(e provision.Event) {
			if p, ok := e.(provision.EventTaskProgress); ok && p.Part == 2 && p.Description.Succeeded >= 3 {
				cancel(interrupted)
			}
		}
		_, err := w.run(t).Run(ctx, rows(30))
		require.ErrorIs(t, err, interrupted)
		w.opts.Observe = nil
		run := w.complete(t, rows(30))
		assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 3, "no part may be registered twice")
		w.requireWorking(t, results(t, run))
	})
}

func TestPrepareWithoutAFolderForItsPartFilesIsRefusedBeforeAKeyIsMade(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	store := keystore.Memory()
	w.opts.PartDir, w.opts.Credential = "", &provision.MakeCSR{Store: store}
	_, err := w.run(t).Prepare(t.Context(), provision.Rows(map[string]string{"ThingName": "a", "SerialNumber": "1"}))
	require.ErrorContains(t, err, "Options.PartDir")
	_, err = store.Get(t.Context(), "a")
	assert.ErrorIs(t, err, keystore.ErrNotFound)
}

func TestPrepareSubmitAndCollectAreTheRunInThreeSteps(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.PartLines = 4
	offline := w.opts
	offline.Backend = unreachable{}
	run, err := provision.New(offline)
	require.NoError(t, err)
	summary, err := run.Prepare(t.Context(), rows(10))
	require.NoError(t, err, "Prepare must not need the backend")
	assert.EqualValues(t, 10, summary.Pending)
	files, err := filepath.Glob(filepath.Join(w.opts.PartDir, "*.json"))
	require.NoError(t, err)
	assert.Len(t, files, 3)

	online := w.opts
	online.Credential = &provision.MakeCSR{Store: noKeys{}} // the keys are on the other machine
	run, err = provision.New(online)
	require.NoError(t, err)
	require.NoError(t, run.Submit(t.Context()))
	require.NoError(t, run.Submit(t.Context()), "a second Submit must find nothing to do")
	assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 3)

	run = w.run(t)
	summary, err = run.Collect(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 10, summary.Provisioned)
	w.requireWorking(t, results(t, run))
}

func TestReconcileSettlesWhatTheReportsLeftOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		// The reports are empty, and the backend can't read devices back: everything stays unknown.
		w.opts.Backend = blind{shuffled{w.fake, func([]string) []string { return nil }}}
		summary, err := w.run(t).Run(t.Context(), rows(5))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.EqualValues(t, 5, summary.Unknown)

		w.removeDevice(t, "device-4")
		w.opts.Backend = w.fake
		run := w.run(t)
		summary, err = run.Reconcile(t.Context())
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.EqualValues(t, 4, summary.Provisioned)
		all := results(t, run)
		assert.Equal(t, provision.Failed, all[3].Verdict)
		assert.True(t, all[3].Cause.Retryable())
		_, err = run.Retry(t.Context())
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
	})
}

func TestADeviceWhoseCertificateHasNoPolicyIsNotCalledProvisioned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		w.opts.Backend = blind{shuffled{w.fake, func([]string) []string { return nil }}}
		w.incomplete(t, rows(2))
		cert := must(w.fake.ReadDevice(t.Context(), "device-2")).Certificates[0]
		must(awsIoT(w.fake).DetachPolicy(t.Context(), &iot.DetachPolicyInput{PolicyName: new(cert.Policies[0]), Target: new(cert.ARN)}))

		w.opts.Backend = w.fake
		run := w.run(t)
		_, err := run.Reconcile(t.Context())
		require.ErrorIs(t, err, provision.ErrIncomplete)
		all := results(t, run)
		assert.Equal(t, provision.Provisioned, all[0].Verdict)
		assert.Equal(t, provision.Failed, all[1].Verdict)
	})
}

func TestRegisterAddsASingleDeviceToTheRun(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.complete(t, rows(3))
	run := w.run(t)
	board := provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}}
	res, err := run.Register(t.Context(), board)
	require.NoError(t, err)
	assert.Equal(t, provision.Provisioned, res.Verdict)
	again, err := w.run(t).Register(t.Context(), board)
	require.NoError(t, err)
	assert.Equal(t, res.CertificateID, again.CertificateID, "a second call must not register it again")
	run = w.run(t)
	summary, err := run.Run(t.Context(), rows(3))
	require.NoError(t, err, "the input is still the input")
	assert.EqualValues(t, 4, summary.Provisioned)
	w.requireWorking(t, results(t, run))
}

func TestRegisterReadsBackWhenItsAnswerIsLost(t *testing.T) {
	for _, effect := range []bool{true, false} {
		t.Run(fmt.Sprintf("effect=%v", effect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.durable(t)
				w.opts.Backend = &lossyRegister{w.fake, effect}
				board := provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}}
				res, err := w.run(t).Register(t.Context(), board)
				if effect {
					require.NoError(t, err, "the account is read back at once")
				} else {
					require.Error(t, err)
					assert.Equal(t, provision.Unknown, res.Verdict, "the request may still take effect")
				}
				w.opts.Backend = w.fake
				run := w.run(t)
				res, err = run.Register(t.Context(), board)
				require.NoError(t, err)
				assert.Equal(t, provision.Provisioned, res.Verdict)
				w.requireWorking(t, results(t, run))
			})
		})
	}
}

type lossyRegister struct {
	*fakebackend.Backend
	effect bool
}

func (l *lossyRegister) RegisterThing(ctx context.Context, in *task.RegisterInput) (*task.Registration, error) {
	if l.effect {
		if _, err := l.Backend.RegisterThing(ctx, in); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("connection reset: %w", task.ErrOutcomeUnknown)
}

func TestAdoptTakesOverATaskStartedByHand(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	var file bytes.Buffer
	gen := csr.Generator{}
	var devices []csr.Device
	for i := range 3 {
		devices = append(devices, csr.Device{Name: fmt.Sprintf("hand-%d", i)})
	}
	enc := json.NewEncoder(&file)
	for res, err := range gen.All(t.Context(), func(yield func(csr.Device, error) bool) {
		for _, d := range devices {
			if !yield(d, nil) {
				return
			}
		}
	}) {
		require.NoError(t, err)
		require.NoError(t, enc.Encode(map[string]string{"ThingName": res.Device.Name, "SerialNumber": "7", "CSR": res.Request.PEM()}))
	}
	body, err := w.opts.Template.Body()
	require.NoError(t, err)
	_, err = w.fake.Upload(t.Context(), upload("hand.json", file.String()))
	require.NoError(t, err)
	id, err := w.fake.StartTask(t.Context(), &task.StartInput{TemplateBody: body, InputFileBucket: "iotfleet-fake", InputFileKey: "hand.json", RoleARN: w.opts.RoleARN})
	require.NoError(t, err)

	w.durable(t)
	run := w.run(t)
	require.NoError(t, run.Adopt(t.Context(), id, bytes.NewReader(file.Bytes())))
	summary, err := run.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.EqualValues(t, 3, summary.Provisioned)
	assert.Equal(t, []task.ID{id}, summary.Tasks)
	assert.NotEmpty(t, w.handedOver(t, "hand-1"))
}

func TestAdoptOfATaskThatTheServiceDoesNotKnowChangesNothing(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	err := w.run(t).Adopt(t.Context(), "no-such-task", strings.NewReader(`{"ThingName":"a","SerialNumber":"1","CSR":"x"}`+"\n"))
	require.ErrorIs(t, err, task.ErrNotFound)
	parts, err := w.opts.Ledger.Parts(t.Context())
	require.NoError(t, err)
	assert.Empty(t, parts)
	counts, err := w.opts.Ledger.Counts(t.Context())
	require.NoError(t, err)
	assert.Zero(t, counts.Total())
}

// typed is a template with a thing type from the row, so that a line can fail at AWS.
func typed(t *testing.T) *template.Template {
	tmpl, err := template.Parse([]byte(`{"Parameters":{"ThingName":{"Type":"String"},"Type":{"Type":"String"},"CSR":{"Type":"String"}},
		"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"ThingTypeName":{"Ref":"Type"}}},
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"ACTIVE"}},
		"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:Connect\",\"Resource\":\"*\"}]}"}}}}`))
	require.NoError(t, err)
	return tmpl
}

func ofType(name, typ string) provision.Device {
	return provision.Device{Row: map[string]string{"ThingName": name, "Type": typ}}
}

func TestRetrySendsFailedDevicesAgainWithTheSameKey(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Template, w.opts.SkipPreflight = typed(t), true
	run := w.incomplete(t, provision.Devices(ofType("a", "late"), ofType("b", "late")))
	before, err := w.keys.Get(t.Context(), "a")
	require.NoError(t, err)
	_, err = awsIoT(w.fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: new("late")})
	require.NoError(t, err)
	summary, err := run.Retry(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 2, summary.Provisioned)
	after, err := w.keys.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, before.Request.PEM(), after.Request.PEM())
	for _, r := range results(t, run) {
		assert.Equal(t, 2, r.Attempts)
	}
}

func TestMendedFailuresCompleteTheRun(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Template = typed(t)
	_, err := awsIoT(w.fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: new("sensor")})
	require.NoError(t, err)
	run := w.run(t)
	input := []provision.Device{ofType("a", "sensor"), ofType("b", "sensr"), ofType("a", "sensor"), ofType("d d", "sensor"), ofType("e", "sensor")}
	_, err = run.Run(t.Context(), provision.Devices(input...))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	dir := t.TempDir()
	require.NoError(t, run.WriteManifest(t.Context(), dir))
	text, err := os.ReadFile(filepath.Join(dir, "failures.csv"))
	require.NoError(t, err)
	assert.Equal(t, 4, strings.Count(string(text), "\n"), "a header and three failures:\n%s", text)
	mended := strings.NewReplacer("sensr", "sensor", "d d", "d-d", ",a,", ",c,").Replace(string(text))

	run = w.run(t)
	summary, err := run.Amend(t.Context(), provision.FromCSV(strings.NewReader(mended), "failures.csv", nil))
	require.NoError(t, err)
	assert.EqualValues(t, 5, summary.Provisioned)
	w.requireWorking(t, results(t, run))
	_, err = w.run(t).Run(t.Context(), provision.Devices(input...))
	require.NoError(t, err, "the first input is still the run's input")

	require.NoError(t, run.WriteManifest(t.Context(), dir))
	var record provision.Manifest
	data, err := os.ReadFile(filepath.Join(dir, "run.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &record))
	assert.EqualValues(t, 5, record.Total)
	assert.EqualValues(t, 5, record.Verdicts[provision.Provisioned])
	assert.True(t, record.Fake)
	assert.Len(t, record.Parts, 2)
	assert.NotNil(t, record.Finished)
}

func TestOrphansAreFoundAndRemovedOnRequest(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Template, w.opts.SkipPreflight = typed(t), true
	run := w.incomplete(t, provision.Devices(ofType("a", "late")))
	orphans, err := run.FindOrphans(t.Context())
	require.NoError(t, err)
	left := countCertificates(t, w.fake)
	assert.Len(t, orphans, left, "what the failed line left must be found")

	_, err = awsIoT(w.fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: new("late")})
	require.NoError(t, err)
	_, err = run.Retry(t.Context())
	require.NoError(t, err)
	_, err = run.FindOrphans(t.Context())
	require.NoError(t, err)
	n, err := run.RemoveOrphans(t.Context())
	require.NoError(t, err)
	assert.Equal(t, left, n)
	assert.Equal(t, 1, countCertificates(t, w.fake))
	w.requireWorking(t, results(t, run))
}

func countCertificates(t *testing.T, b task.Backend) int {
	lister, ok := task.As[task.CertificateLister](b)
	require.True(t, ok)
	n := 0
	for _, err := range lister.ListCertificates(t.Context(), since) {
		require.NoError(t, err)
		n++
	}
	return n
}
