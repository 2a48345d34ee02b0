package provision_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestALostTaskIsFoundInWhateverOrderTheServiceListsTasks(t *testing.T) {
	for _, oldestFirst := range []bool{false, true} {
		t.Run(fmt.Sprint("oldest first: ", oldestFirst), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{OldestFirst: oldestFirst, PageSize: 2})
				for i := range 20 { // tasks of days gone by
					startForeign(t, w, fmt.Sprintf("old-%d.json", i))
					time.Sleep(time.Hour)
				}
				w.opts.Backend = &lossyStart{Backend: w.fake, effect: true, lose: 1}
				w.requireWorking(t, results(t, w.complete(t, rows(3))))
				assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 21)
			})
		})
	}
}

func startForeign(t *testing.T, w *world, key string) {
	t.Helper()
	_, err := w.fake.Upload(t.Context(), upload(key, "{}\n"))
	require.NoError(t, err)
	body, err := w.opts.Template.Body()
	require.NoError(t, err)
	_, err = w.fake.StartTask(t.Context(), &task.StartInput{TemplateBody: body, InputFileBucket: "iotfleet-fake", InputFileKey: key, RoleARN: w.opts.RoleARN})
	require.NoError(t, err)
}

func TestATaskOfOurOwnThatShowsUpLateIsNotTakenForAForeignOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 0.01})
		w.opts.SettleWindow = time.Minute
		// The request takes effect long after its answer was given up.
		late := &lateStart{Backend: w.fake}
		w.opts.Backend = late
		w.requireWorking(t, results(t, w.complete(t, rows(2))))
		assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1)
		assert.GreaterOrEqual(t, late.waited, w.opts.SettleWindow, "nothing is sent while the first request may have its effect")
	})
}

// lateStart loses the first answer, and lets the request through at the moment when a second one is sent.
type lateStart struct {
	task.Backend
	first  *task.StartInput
	at     time.Time
	waited time.Duration // from the first request to the second
}

func (l *lateStart) Unwrap() task.Backend { return l.Backend }

func (l *lateStart) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	if l.first == nil {
		l.first, l.at = in, time.Now()
		return "", fmt.Errorf("connection reset: %w", task.ErrOutcomeUnknown)
	}
	if l.waited == 0 {
		l.waited = time.Since(l.at)
		if _, err := l.Backend.StartTask(ctx, l.first); err != nil {
			return "", err
		}
	}
	return l.Backend.StartTask(ctx, in)
}

func TestATaskOfOurOwnThatShowsUpLateIsNotStartedAgainWhenItCouldNotBeSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 3})
		w.opts.SettleWindow = time.Minute
		// By the time the tasks in progress can be listed again, it has ended.
		late := &unlisted{lateStart: lateStart{Backend: w.fake}}
		w.opts.Backend = late
		w.requireWorking(t, results(t, w.complete(t, rows(2))))
		assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1)
		assert.GreaterOrEqual(t, late.waited, w.opts.SettleWindow)
		assert.True(t, late.asked, "the throttle must have hit")
	})
}

// unlisted is throttled once when it is asked what is in progress.
type unlisted struct {
	lateStart
	asked bool
}

func (u *unlisted) ListTasks(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
	if in.Status == task.InProgress && !u.asked {
		u.asked = true
		return nil, &task.Error{Op: "ListThingRegistrationTasks", Code: "ThrottlingException", Status: 429, Kind: task.ErrThrottled}
	}
	return u.lateStart.ListTasks(ctx, in)
}

func TestAServiceThatStartsNothingEndsTheRunWhichGoesOnLater(t *testing.T) {
	for name, f := range map[string]fakebackend.Fault{
		"it fails":     {Do: fakebackend.Fail, Code: "InternalFailureException"},
		"it throttles": {Do: fakebackend.Throttle},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.durable(t)
				f.Operation, f.Times = "StartThingRegistrationTask", -1
				id := w.fault(t, f)
				ctx, cancel := context.WithTimeout(t.Context(), 18*time.Hour)
				defer cancel()
				_, err := w.run(t).Run(ctx, rows(2))
				require.ErrorContains(t, err, "no task was started in 1h")
				_, ok := errors.AsType[*task.Error](err)
				assert.True(t, ok, "what the service says is in the error: %v", err)
				w.fake.RemoveFault(id)
				w.requireWorking(t, results(t, w.complete(t, rows(2))))
			})
		})
	}
}

func TestTheErrorAboutAForeignTaskSaysWhoseItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 0.01})
		w.opts.Foreign = provision.FailOnForeign
		startForeign(t, w, "somebody/else.json")
		_, err := w.run(t).Run(t.Context(), rows(1))
		require.ErrorIs(t, err, task.ErrTaskRunning)
		assert.ErrorContains(t, err, "s3://iotfleet-fake/somebody/else.json")
		assert.ErrorContains(t, err, w.opts.RoleARN)

		w.opts.Foreign = provision.WaitForForeign
		_, err = w.run(t).Run(t.Context(), func(yield func(provision.Device, error) bool) {
			yield(provision.Device{Row: map[string]string{"ThingName": "another", "SerialNumber": "1"}}, nil)
		})
		require.NoError(t, err)
		i := slices.IndexFunc(w.events, func(e provision.Event) bool { _, ok := e.(provision.EventTaskWaiting); return ok })
		require.GreaterOrEqual(t, i, 0)
		assert.Equal(t, "somebody/else.json", w.events[i].(provision.EventTaskWaiting).Other.InputFileKey)
	})
}

func TestStopEndsTheWaitForAForeignTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 0.0001})
		w.durable(t)
		startForeign(t, w, "long.json")
		run := w.run(t)
		w.opts.Observe = nil
		began := time.Now()
		go func() {
			time.Sleep(90 * time.Second)
			run.Stop(provision.FinishPart)
		}()
		_, err := run.Run(t.Context(), rows(3))
		require.ErrorIs(t, err, provision.ErrStopped)
		assert.Less(t, time.Since(began), 2*time.Minute)
		parts, err := w.opts.Ledger.Parts(t.Context())
		require.NoError(t, err)
		assert.Equal(t, provision.PartUploaded, parts[0].State, "whoever goes on need not look for a task")
		time.Sleep(4 * time.Hour)
		_, err = run.Run(t.Context(), rows(3))
		require.NoError(t, err, "Stop is obeyed once")
		w.requireWorking(t, results(t, run))
	})
}

func TestSubmitCanBeStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 1})
		w.durable(t)
		w.opts.PartLines = 4
		run := w.run(t)
		_, err := run.Prepare(t.Context(), rows(12))
		require.NoError(t, err)
		go func() {
			time.Sleep(2 * time.Second)
			run.Stop(provision.FinishPart)
		}()
		require.ErrorIs(t, run.Submit(t.Context()), provision.ErrStopped)
		assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1)
		require.NoError(t, run.Submit(t.Context()))
		_, err = run.Collect(t.Context())
		require.NoError(t, err)
	})
}

func TestACancelThatIsRefusedEndsTheRunWithItsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 0.1})
		w.durable(t)
		w.fault(t, fakebackend.Fault{Operation: "StopThingRegistrationTask", Do: fakebackend.Fail, Code: "UnauthorizedException", Times: -1})
		run := w.run(t)
		go func() {
			time.Sleep(10 * time.Second)
			run.Stop(provision.CancelTask)
		}()
		_, err := run.Run(t.Context(), rows(10))
		require.ErrorIs(t, err, task.ErrAccessDenied)
		assert.ErrorContains(t, err, "cancelling it")
		run = w.run(t)
		_, err = run.Run(t.Context(), nil)
		require.NoError(t, err, "the task went on")
		w.requireWorking(t, results(t, run))
	})
}

func TestADeviceIsNotTakenFromAPartThatIsStillRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := typedWorld(t, fakebackend.Options{})
		w.durable(t)
		input := provision.Devices(ofType("a", "late"), ofType("b", "known"))
		w.incomplete(t, input)
		// As if the process had died between the verdict of "a" and the end of its part.
		w.opts.Ledger = edited(t, w, nil, func(p *provision.PartRecord) { p.State = provision.PartEnded }, func(d *provision.DeviceRecord) {
			if d.Name == "b" {
				d.Verdict, d.CertificateID, d.CertificateARN, d.CertificatePEM = provision.Submitted, "", "", ""
			}
		})
		_, err := awsIoT(w.fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: new("late")})
		require.NoError(t, err)
		// And once more: before the part is settled, whatever comes behind it.
		ledger := w.opts.Ledger
		w.opts.Ledger = &failsAt{Ledger: ledger, step: func(c provision.Change) bool {
			if c.Part == nil || c.Part.State != provision.PartCollected {
				return false
			}
			time.Sleep(time.Minute) // whatever else there is to do gets done
			return true
		}}
		_, err = w.run(t).Retry(t.Context())
		require.ErrorIs(t, err, errDisk)
		w.opts.Ledger = ledger
		run := w.run(t)
		_, err = run.Retry(t.Context())
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
		parts, err := w.opts.Ledger.Parts(t.Context())
		require.NoError(t, err)
		for _, p := range parts {
			assert.Equal(t, provision.PartCollected, p.State)
		}
	})
}

func TestRetryUsesWhatAFailedLineLeftAndRegistersNothingTwice(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	// Everything was made for device-2, and then the service reported a failure all the same.
	w.fault(t, fakebackend.Fault{Thing: "device-2", Step: fakebackend.StepReport, Do: fakebackend.Fail, Message: "Internal Failure"})
	run := w.run(t)
	summary, err := run.Run(t.Context(), rows(3))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.EqualValues(t, 1, summary.Causes[provision.CauseService])
	summary, err = run.Retry(t.Context())
	require.NoError(t, err)
	assert.Len(t, summary.Tasks, 1, "nothing had to be sent")
	assert.Equal(t, 3, w.fake.Counts().Certificates)
	w.requireWorking(t, results(t, run))
}

func TestARegisterThatDiedIsSettledByTheNextRun(t *testing.T) {
	for _, effect := range []bool{true, false} {
		t.Run(fmt.Sprintf("effect=%v", effect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.durable(t)
				w.complete(t, rows(2))
				board := provision.Device{Row: map[string]string{"ThingName": "swapped", "SerialNumber": "900"}}
				ctx, cancel := context.WithCancelCause(t.Context())
				dying := &dyingRegister{Backend: w.fake, effect: effect, die: func() { cancel(errProcessDied) }}
				w.opts.Backend = dying
				ledger := w.opts.Ledger
				w.opts.Ledger = &deadAfter{Ledger: ledger, ctx: ctx}
				_, err := w.run(t).Register(ctx, board)
				require.ErrorIs(t, err, errProcessDied)

				w.opts.Backend, w.opts.Ledger = w.fake, ledger
				run := w.run(t)
				summary, err := run.Run(t.Context(), rows(2))
				if !effect {
					require.ErrorIs(t, err, provision.ErrIncomplete)
					assert.Zero(t, summary.Pending, "it must not hang about for ever")
					_, err = run.Retry(t.Context())
				}
				require.NoError(t, err)
				w.requireWorking(t, results(t, run))
			})
		})
	}
}

type dyingRegister struct {
	*fakebackend.Backend
	effect bool
	die    func()
}

func (d *dyingRegister) RegisterThing(ctx context.Context, in *task.RegisterInput) (*task.Registration, error) {
	if d.effect {
		if _, err := d.Backend.RegisterThing(ctx, in); err != nil {
			return nil, err
		}
	}
	d.die()
	return nil, fmt.Errorf("%w: %w", task.ErrOutcomeUnknown, errProcessDied)
}

// deadAfter is a ledger that a dead process can't reach any more.
type deadAfter struct {
	provision.Ledger
	ctx context.Context
}

func (l *deadAfter) Apply(ctx context.Context, c provision.Change) error {
	if err := context.Cause(l.ctx); err != nil {
		return err
	}
	return l.Ledger.Apply(ctx, c)
}

func TestAnUnreadableRecordThatWasMendedIsStillPartOfTheFirstInput(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	input := provision.Devices(
		provision.Device{Row: map[string]string{"ThingName": "one", "SerialNumber": "1"}},
		provision.Device{Err: errors.New("line 3: quotes are not closed")},
	)
	run := w.incomplete(t, input)
	_, err := run.Amend(t.Context(), provision.Devices(provision.Device{Seq: 2, Row: map[string]string{"ThingName": "two", "SerialNumber": "2"}}))
	require.NoError(t, err)
	w.complete(t, input)
}

func TestARenamedDeviceFreesItsNameAndLeavesNoOrphanUnseen(t *testing.T) {
	w := typedWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.incomplete(t, provision.Devices(ofType("a", "gone"), ofType("b", "known"), ofType("a", "known")))
	left := countCertificates(t, w.fake) - 1
	require.Positive(t, left, "the refused line must have left something for this test to mean anything")
	summary, err := run.Amend(t.Context(), provision.Devices(
		provision.Device{Seq: 1, Row: map[string]string{"ThingName": "c", "Type": "known"}},
		provision.Device{Seq: 3, Row: map[string]string{"ThingName": "a", "Type": "known"}},
	))
	require.NoError(t, err)
	assert.Equal(t, left, summary.Orphans, "what the old name's key left is recorded before the key is given up")
	n, err := run.RemoveOrphans(t.Context())
	require.NoError(t, err)
	assert.Equal(t, left, n)
	w.requireWorking(t, results(t, run))
	assert.Equal(t, 3, countCertificates(t, w.fake))
}

func TestNoCertificateIsCalledAnOrphanWhileItsDeviceIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		w.opts.Backend = blind{shuffled{w.fake, func([]string) []string { return nil }}}
		w.incomplete(t, rows(3))
		w.opts.Backend = w.fake
		run := w.run(t)
		orphans, err := run.FindOrphans(t.Context())
		require.NoError(t, err)
		assert.Empty(t, orphans, "they are the certificates of devices that are Unknown")
		_, err = run.Reconcile(t.Context())
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
	})
}

func TestAnAdoptThatWasInterruptedGoesOn(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	var file bytes.Buffer
	enc := json.NewEncoder(&file)
	for i := range 3 {
		name := fmt.Sprintf("hand-%d", i)
		require.NoError(t, enc.Encode(map[string]string{"ThingName": name, "SerialNumber": "7", "CSR": madeElsewhere(t, name).PEM()}))
	}
	body, err := w.opts.Template.Body()
	require.NoError(t, err)
	_, err = w.fake.Upload(t.Context(), upload("hand.json", file.String()))
	require.NoError(t, err)
	id, err := w.fake.StartTask(t.Context(), &task.StartInput{TemplateBody: body, InputFileBucket: "iotfleet-fake", InputFileKey: "hand.json", RoleARN: w.opts.RoleARN})
	require.NoError(t, err)
	_, err = task.Attach(w.fake, id).Wait(t.Context(), nil)
	require.NoError(t, err)
	w.durable(t)
	ledger := w.opts.Ledger
	w.opts.Ledger = &failsAt{Ledger: ledger, step: func(c provision.Change) bool { return c.Part != nil }}
	require.ErrorIs(t, w.run(t).Adopt(t.Context(), id, bytes.NewReader(file.Bytes())), errDisk)
	w.opts.Ledger = ledger
	run := w.run(t)
	lines := strings.SplitAfter(file.String(), "\n")
	err = run.Adopt(t.Context(), id, strings.NewReader(lines[1]+lines[0]+lines[2]))
	require.ErrorIs(t, err, provision.ErrInputChanged)
	require.NoError(t, run.Adopt(t.Context(), id, bytes.NewReader(file.Bytes())))
	require.NoError(t, run.Adopt(t.Context(), id, bytes.NewReader(file.Bytes())), "a second time does nothing")
	summary, err := run.Run(t.Context(), nil)
	require.NoError(t, err)
	assert.EqualValues(t, 3, summary.Provisioned)

	w.durable(t)
	err = w.run(t).Adopt(t.Context(), id, strings.NewReader(lines[0]))
	require.ErrorContains(t, err, "it is another file")
}

type failsAt struct {
	provision.Ledger
	step func(provision.Change) bool
}

func (l *failsAt) Apply(ctx context.Context, c provision.Change) error {
	if l.step(c) {
		return errDisk
	}
	return l.Ledger.Apply(ctx, c)
}

func TestATaskThatIsNotSeenAtOnceIsGivenTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 1})
		id := w.fault(t, fakebackend.Fault{Operation: "DescribeThingRegistrationTask", Do: fakebackend.Fail, Code: "ResourceNotFoundException", Times: 4})
		run := w.complete(t, rows(5))
		assert.Equal(t, 4, w.fake.FaultHits(id))
		w.requireWorking(t, results(t, run))
		assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1)
	})
}

func TestATaskThatIsNotSeenOnceMoreAfterHoursIsStillWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 0.001})
		began := time.Now()
		w.opts.Backend = &invisible{Backend: w.fake, at: []time.Time{began, began.Add(2 * time.Hour)}}
		run := w.complete(t, rows(20))
		assert.Greater(t, time.Since(began), 5*time.Hour)
		w.requireWorking(t, results(t, run))
	})
}

// invisible does not know its task for one answer at each of some times.
type invisible struct {
	task.Backend
	at []time.Time
}

func (b *invisible) Unwrap() task.Backend { return b.Backend }

func (b *invisible) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	if len(b.at) > 0 && !time.Now().Before(b.at[0]) {
		b.at = b.at[1:]
		return nil, &task.Error{Op: "DescribeThingRegistrationTask", Code: "ResourceNotFoundException", Status: 404, Kind: task.ErrNotFound}
	}
	return b.Backend.DescribeTask(ctx, id)
}

// wrongID answers the first start with an id that is not that of the part's task, as something between here and the
// service could.
type wrongID struct {
	task.Backend
	id     task.ID
	starts bool // the start has its effect
	done   bool
}

func (b *wrongID) Unwrap() task.Backend { return b.Backend }

func (b *wrongID) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	if b.done {
		return b.Backend.StartTask(ctx, in)
	}
	b.done = true
	if b.starts {
		if _, err := b.Backend.StartTask(ctx, in); err != nil {
			return "", err
		}
	}
	return b.id, nil
}

func TestAnIDThatIsNotThePartsTaskIsNotBelieved(t *testing.T) {
	for _, known := range []bool{true, false} {
		for _, starts := range []bool{true, false} {
			t.Run(fmt.Sprintf("known %v, started %v", known, starts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, fakebackend.Options{Rate: 0.01}) // it works far longer than the settle window
					earlier := w.run(t)
					_, err := earlier.Run(t.Context(), provision.Devices(provision.Device{Row: map[string]string{"ThingName": "other", "SerialNumber": "other"}}))
					require.NoError(t, err)
					wrong := &wrongID{Backend: w.fake, id: "69ba4899-9cfb-47d8-9edb-741ebba1f22d", starts: starts}
					if known {
						for wrong.id = range taskIDs(t, w.fake) {
							break
						}
					}
					w.opts.Backend = wrong
					w.durable(t)
					summary, err := w.run(t).Run(t.Context(), rows(5))
					if starts {
						require.NoError(t, err, "the part's task is found by its data file")
						assert.NotContains(t, summary.Tasks, wrong.id)
					} else {
						require.ErrorIs(t, err, provision.ErrIncomplete)
						assert.Equal(t, map[provision.Cause]int64{provision.CauseTask: 5}, summary.Causes)
						_, err = w.run(t).Retry(t.Context())
						require.NoError(t, err)
					}
					w.requireWorking(t, results(t, w.run(t)))
					assert.Equal(t, 6, w.fake.Counts().Certificates)
				})
			})
		}
	}
}

func TestAHalfSpooledRunIsNeverComplete(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	broken := errors.New("the file server is gone")
	_, err := w.run(t).Run(t.Context(), func(yield func(provision.Device, error) bool) {
		for d, err := range rows(2000) {
			if !yield(d, err) {
				return
			}
		}
		yield(provision.Device{}, broken)
	})
	require.ErrorIs(t, err, broken)
	for name, call := range map[string]func(*provision.Run) (*provision.Summary, error){
		"Retry":     func(r *provision.Run) (*provision.Summary, error) { return r.Retry(t.Context()) },
		"Reconcile": func(r *provision.Run) (*provision.Summary, error) { return r.Reconcile(t.Context()) },
		"Collect":   func(r *provision.Run) (*provision.Summary, error) { return r.Collect(t.Context()) },
	} {
		_, err := call(w.run(t))
		assert.ErrorIs(t, err, provision.ErrIncomplete, name)
	}
	w.complete(t, rows(2001))
}

// slowStart has the effect of a start and then answers nothing until the context ends. The second upload is refused
// meanwhile.
type slowStart struct {
	task.Backend
	uploads atomic.Int32
	started chan struct{}
}

func (s *slowStart) Unwrap() task.Backend { return s.Backend }

func (s *slowStart) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	if _, err := s.Backend.StartTask(ctx, in); err != nil {
		return "", err
	}
	close(s.started)
	<-ctx.Done()
	return "", fmt.Errorf("StartThingRegistrationTask: %w", context.Cause(ctx))
}

func (s *slowStart) Upload(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
	if s.uploads.Add(1) == 1 {
		return s.Backend.Upload(ctx, in)
	}
	<-s.started
	return nil, &task.Error{Op: "PutObject", Code: "AccessDenied", Status: 403, Kind: task.ErrAccessDenied}
}

func TestARefusedUploadDoesNotPassForARefusedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		w.opts.PartLines = 2
		w.opts.Backend = &slowStart{Backend: w.fake, started: make(chan struct{})}
		_, err := w.run(t).Run(t.Context(), rows(4))
		require.ErrorIs(t, err, task.ErrAccessDenied)
		assert.ErrorContains(t, err, "uploading part 2")
		w.opts.Backend = w.fake
		w.requireWorking(t, results(t, w.complete(t, rows(4))))
		assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 2, "one task for each part")
	})
}

func TestWhyTheCallersContextEndedIsInTheErrorAndStartsNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		slow := &slowStart{Backend: w.fake, started: make(chan struct{})}
		w.opts.Backend = slow
		ctx, cancel := context.WithCancelCause(t.Context())
		refused := &task.Error{Op: "PutItem", Code: "ThrottlingException", Status: 400, Kind: task.ErrThrottled}
		go func() {
			<-slow.started
			cancel(fmt.Errorf("another part of the program: %w", refused))
		}()
		_, err := w.run(t).Run(ctx, rows(2))
		require.ErrorIs(t, err, context.Cause(ctx))
		w.opts.Backend = w.fake
		w.requireWorking(t, results(t, w.complete(t, rows(2))))
		assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1)
	})
}
