package fakebackend_test

import (
	"context"
	"encoding/json"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

func addFault(t testing.TB, fake *fakebackend.Backend, f fakebackend.Fault) int {
	t.Helper()
	id, err := fake.AddFault(f)
	require.NoError(t, err)
	return id
}

func startInput(t testing.TB, fake *fakebackend.Backend, role string) *task.StartInput {
	t.Helper()
	upload(t, fake, "devices.json", row(t, "device", "1")+"\n")
	return &task.StartInput{TemplateBody: walkthrough(t), InputFileBucket: "iotfleet-fake", InputFileKey: "devices.json", RoleARN: role}
}

func TestAFaultStrikesTheNthMatchingRequestAsOftenAsItSays(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	id := addFault(t, fake, fakebackend.Fault{Operation: "CreateThing", Thing: "b", Nth: 2, Times: 2, Do: fakebackend.Throttle})
	var failed []int
	for call := range 5 {
		_, err := api(fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("a")})
		require.NoError(t, err)
		if _, err := api(fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("b")}); err != nil {
			require.Equal(t, "ThrottlingException", codeOf(err))
			failed = append(failed, call)
		}
	}
	assert.Equal(t, []int{1, 2}, failed)
	assert.Equal(t, 2, fake.FaultHits(id))
	assert.Equal(t, 5, fake.Faults()[0].Seen)
	assert.True(t, new(fake.Faults()[0]).Spent())
	fake.RemoveFault(id)
	assert.Empty(t, fake.Faults())
}

func TestAFaultOfAThingStrikesHoweverARequestNamesTheThing(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	addFault(t, fake, fakebackend.Fault{Thing: "a", Do: fakebackend.Fail, Code: "ServiceUnavailableException", Times: -1})
	for _, name := range []string{"a", "b"} {
		_, described := api(fake).DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name})
		_, added := api(fake).AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{
			ThingArn: new("arn:aws:iot:us-east-1:123456789012:thing/" + name), ThingGroupName: new("g"),
		})
		_, registered := fake.RegisterThing(ctx, &task.RegisterInput{TemplateBody: "{}", Parameters: map[string]string{"ThingName": name}})
		for _, err := range []error{described, added, registered} {
			require.Error(t, err)
			assert.Equal(t, name == "a", codeOf(err) == "ServiceUnavailableException", "%s: %v", name, err)
		}
	}
}

func TestTheAnswerOfAStartCanBeLostBeforeAndAfterItsEffect(t *testing.T) {
	for effect, tasks := range map[fakebackend.Effect]int{fakebackend.DropBefore: 0, fakebackend.DropAfter: 1} {
		fake, role := newFake(t, fakebackend.Options{})
		in := startInput(t, fake, role)
		addFault(t, fake, fakebackend.Fault{Operation: "StartThingRegistrationTask", Do: effect})
		_, err := fake.StartTask(t.Context(), in)
		require.ErrorIs(t, err, task.ErrOutcomeUnknown)
		assert.False(t, task.Refused(err))
		assert.Equal(t, tasks, fake.Counts().Tasks, "%s", effect)
	}
}

func TestTheAnswerIsLostWhateverItIs(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	id := start(t, fake, role, walkthrough(t), row(t, "device", "1"))
	page, err := fake.ListReports(ctx, id, task.ResultsReport, "")
	require.NoError(t, err)
	for name, request := range map[string]struct {
		operation string
		do        func() error
	}{
		"a thing that is not there": {"DescribeThing", func() error {
			_, err := fake.ReadDevice(ctx, "nobody")
			return err
		}},
		"a request that breaks the model": {"RegisterThing", func() error {
			_, err := fake.RegisterThing(ctx, nil)
			return err
		}},
		"a report": {"GetObject", func() error {
			_, err := fake.Open(ctx, page.Links[0], 0)
			return err
		}},
		"a link that leads nowhere": {"GetObject", func() error {
			_, err := fake.Open(ctx, task.NewLink("https://example.com/"), 0)
			return err
		}},
		"a body with another digest": {"PutObject", func() error {
			_, err := fake.Upload(ctx, &task.UploadInput{Key: "k", Size: 1})
			return err
		}},
		"a role without a name": {"CreateRole", func() error {
			_, err := fake.EnsureRole(ctx, nil)
			return err
		}},
	} {
		fault := addFault(t, fake, fakebackend.Fault{Operation: request.operation, Do: fakebackend.DropAfter})
		require.ErrorIs(t, request.do(), task.ErrOutcomeUnknown, name)
		assert.Equal(t, 1, fake.FaultHits(fault), name)
	}
}

func TestARequestCanFailWithAnyCode(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	in := startInput(t, fake, role)
	addFault(t, fake, fakebackend.Fault{Do: fakebackend.Fail, Code: "ServiceUnavailableException", Message: "away", Operation: "StartThingRegistrationTask"})
	_, err := fake.StartTask(t.Context(), in)
	require.ErrorIs(t, err, task.ErrUnavailable)
	assert.EqualError(t, err, "StartThingRegistrationTask: ServiceUnavailableException: away")
	_, err = fake.StartTask(t.Context(), in)
	require.NoError(t, err, "a fault strikes once unless told otherwise")
}

func TestARequestCanBeDelayedOrHangUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, err := fakebackend.New(fakebackend.Options{})
		require.NoError(t, err)
		addFault(t, fake, fakebackend.Fault{Operation: "ListThingRegistrationTasks", Do: fakebackend.Delay, Delay: time.Minute})
		addFault(t, fake, fakebackend.Fault{Operation: "ListThingRegistrationTasks", Do: fakebackend.Hang, Nth: 1})
		began := time.Now()
		_, err = fake.ListTasks(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, time.Minute, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		done := make(chan error)
		go func() {
			_, err := fake.ListTasks(ctx, nil)
			done <- err
		}()
		synctest.Wait()
		_, err = fake.DataEndpoint(t.Context())
		require.NoError(t, err, "a request that hangs holds nobody up")
		require.ErrorIs(t, <-done, context.DeadlineExceeded)
		assert.Equal(t, time.Minute+time.Hour, time.Since(began))
	})
}

func TestAReportCanBeCutShortAndReadOnFromThere(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	id := start(t, fake, role, walkthrough(t), rows(t, 5)...)
	page, err := fake.ListReports(t.Context(), id, task.ResultsReport, "")
	require.NoError(t, err)
	read := func(offset int64) ([]byte, error) {
		body, err := fake.Open(t.Context(), page.Links[0], offset)
		require.NoError(t, err)
		return io.ReadAll(body)
	}
	whole, err := read(0)
	require.NoError(t, err)
	addFault(t, fake, fakebackend.Fault{Operation: "GetObject", Do: fakebackend.Truncate, Bytes: 1000})
	first, err := read(0)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Len(t, first, 1000)
	rest, err := read(1000)
	require.NoError(t, err)
	assert.Equal(t, string(whole), string(first)+string(rest))
	end, err := read(int64(len(whole)))
	require.NoError(t, err)
	assert.Empty(t, end)

	addFault(t, fake, fakebackend.Fault{Operation: "GetObject", Do: fakebackend.Expire})
	_, err = fake.Open(t.Context(), page.Links[0], 0)
	require.ErrorIs(t, err, task.ErrLinkExpired)

	body, err := fake.Open(t.Context(), page.Links[0], 0)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	_, err = body.Read(make([]byte, 10))
	assert.ErrorContains(t, err, "closed", "as the body of an HTTP answer")
}

// TestALineCanFailAtEachOfItsSteps looks at what is left behind: what earlier steps made, and nothing of later ones.
func TestALineCanFailAtEachOfItsSteps(t *testing.T) {
	left := map[fakebackend.Step]fakebackend.Counts{
		fakebackend.StepParse:             {},
		fakebackend.StepCertificate:       {},
		fakebackend.StepThing:             {Certificates: 1},
		fakebackend.StepBillingGroup:      {Certificates: 1, Things: 1},
		fakebackend.StepThingGroups:       {Certificates: 1, Things: 1},
		fakebackend.StepPolicy:            {Certificates: 1, Things: 1},
		fakebackend.StepAttachPolicy:      {Certificates: 1, Things: 1, Policies: 1},
		fakebackend.StepAttachCertificate: {Certificates: 1, Things: 1, Policies: 1},
		fakebackend.StepActivate:          {Certificates: 1, Things: 1, Policies: 1},
		fakebackend.StepReport:            {Certificates: 1, Things: 1, Policies: 1},
	}
	require.Len(t, left, len(fakebackend.Steps()))
	for _, undo := range []bool{false, true} {
		for _, step := range fakebackend.Steps() {
			fake, role := newFake(t, fakebackend.Options{UndoFailedLines: undo})
			fault := addFault(t, fake, fakebackend.Fault{Line: 1, Step: step, Do: fakebackend.Fail, Code: "ThrottlingException", Message: "Rate exceeded"})
			id := start(t, fake, role, walkthrough(t), row(t, "device", "1"))
			lines := failures(t, fake, id)
			require.Len(t, lines, 1, step)
			assert.Contains(t, lines[0].ErrorMessage, "Rate exceeded (Service: AWSIot; Status Code: 400; Error Code: ThrottlingException)")
			assert.Equal(t, 1, fake.FaultHits(fault))
			want := left[step]
			if undo {
				want = fakebackend.Counts{}
			}
			want.Tasks = 1
			assert.Equal(t, want, fake.Counts(), "%s, undo %v", step, undo)
			for c := range fake.Certificates() {
				assert.Equal(t, step == fakebackend.StepReport, c.Status == "ACTIVE", "%s", step)
				attached := step == fakebackend.StepAttachCertificate || step == fakebackend.StepActivate || step == fakebackend.StepReport
				assert.Equal(t, attached, len(c.Policies) == 1, "%s", step)
			}
			if device, ok := fake.Thing("device"); ok {
				assert.Equal(t, step == fakebackend.StepActivate || step == fakebackend.StepReport, len(device.Certificates) == 1, "%s", step)
			}
		}
	}
}

func TestALineOfAThingCanFail(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	addFault(t, fake, fakebackend.Fault{Thing: "device-0003", Step: fakebackend.StepThing, Times: -1, Do: fakebackend.Throttle})
	id := start(t, fake, role, walkthrough(t), rows(t, 5)...)
	lines := failures(t, fake, id)
	require.Len(t, lines, 1)
	assert.EqualValues(t, 3, lines[0].LineNumber)
}

func TestALineThatHangsHoldsItsTaskUpUntilTheFaultIsRemoved(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1})
	fault := addFault(t, fake, fakebackend.Fault{Line: 3, Do: fakebackend.Hang})
	id := start(t, fake, role, walkthrough(t), rows(t, 5)...)
	fake.Advance(time.Hour)
	d := describe(t, fake, id)
	assert.Equal(t, task.InProgress, d.Status)
	assert.Equal(t, 2, d.Succeeded)
	assert.Equal(t, 1, fake.FaultHits(fault), "looking again is not another hit")
	fake.RemoveFault(fault)
	assert.Equal(t, 5, describe(t, fake, id).Succeeded)
}

func TestALineThatIsDelayedPutsOffThoseAfterIt(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1})
	addFault(t, fake, fakebackend.Fault{Line: 3, Do: fakebackend.Delay, Delay: 10 * time.Second})
	id := start(t, fake, role, walkthrough(t), rows(t, 5)...)
	for _, c := range []struct {
		at   time.Duration
		done int
	}{{3 * time.Second, 2}, {12 * time.Second, 2}, {13 * time.Second, 3}, {15 * time.Second, 5}} {
		fake.SetTime(monday.Add(c.at))
		assert.Equal(t, c.done, describe(t, fake, id).Succeeded, "at %v", c.at)
	}
}

func TestDelaysOfLinesAddUp(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1})
	addFault(t, fake, fakebackend.Fault{Line: 1, Do: fakebackend.Delay, Delay: 10 * time.Second})
	addFault(t, fake, fakebackend.Fault{Line: 3, Do: fakebackend.Delay, Delay: 20 * time.Second})
	id := start(t, fake, role, walkthrough(t), rows(t, 3)...)
	fake.SetTime(monday.Add(33*time.Second - time.Millisecond))
	assert.Equal(t, 2, describe(t, fake, id).Succeeded)
	fake.SetTime(monday.Add(33 * time.Second))
	assert.Equal(t, 3, describe(t, fake, id).Succeeded)
}

func TestALineFaultOfAThingStrikesOnceTheNameIsKnown(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	fault := addFault(t, fake, fakebackend.Fault{Line: 2, Thing: "device-0002", Do: fakebackend.Fail, Message: "struck", Times: -1})
	addFault(t, fake, fakebackend.Fault{Line: 3, Thing: "device-0001", Do: fakebackend.Fail}) // never both
	failed := failures(t, fake, start(t, fake, role, walkthrough(t), rows(t, 3)...))
	require.Len(t, failed, 1)
	assert.EqualValues(t, 2, failed[0].LineNumber)
	assert.Contains(t, failed[0].ErrorMessage, "struck")
	assert.Equal(t, 1, fake.FaultHits(fault))
	assert.Equal(t, 2, fake.Counts().Certificates, "before anything was made")
}

func TestAFaultThatCannotBeIsRefused(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	for _, f := range []fakebackend.Fault{
		{}, {Do: "explode"}, {Do: fakebackend.Truncate, Operation: "PutObject"}, {Do: fakebackend.Expire}, {Do: fakebackend.Fail, Step: "lunch"},
		{Do: fakebackend.DropAfter, Line: 1}, {Do: fakebackend.Fail, Nth: -1}, {Do: fakebackend.Delay, Step: fakebackend.StepThing},
		{Do: fakebackend.Hang, Line: 1, Thing: "x"}, {Do: fakebackend.Fail, Operation: "ListUsers"},
	} {
		_, err := fake.AddFault(f)
		assert.Error(t, err, "%+v", f)
	}
	_, err := fake.AddFault(fakebackend.Fault{Do: fakebackend.Fail, Operation: "startThingRegistrationTask"})
	assert.ErrorContains(t, err, "the names nearest to it are StartThingRegistrationTask, ")
	assert.Empty(t, fake.Faults())
}

func TestAFaultIsTheSameAfterJSON(t *testing.T) {
	f := fakebackend.Fault{Operation: "CreateThing", Thing: "a", Nth: 2, Times: -1, Do: fakebackend.Delay, Delay: 1500 * time.Millisecond}
	raw, err := json.Marshal(f)
	require.NoError(t, err)
	assert.JSONEq(t, `{"operation":"CreateThing","thing":"a","nth":2,"times":-1,"do":"delay","delay":"1.5s"}`, string(raw))
	var back fakebackend.Fault
	require.NoError(t, json.Unmarshal(raw, &back))
	assert.Equal(t, f, back)
	require.Error(t, json.Unmarshal([]byte(`{"do":"delay","delay":"soon"}`), &back))
}

// FuzzFault reads arbitrary JSON as a fault: what can be read comes back the same when it is written and read again.
func FuzzFault(f *testing.F) {
	f.Add([]byte(`{"operation":"CreateThing","do":"delay","delay":"1.5s","times":-1}`))
	f.Add([]byte(`{"line":3,"step":"thing","do":"fail","code":"ThrottlingException","status":429}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var first, second fakebackend.Fault
		if json.Unmarshal(raw, &first) != nil {
			return
		}
		written, err := json.Marshal(first)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(written, &second))
		require.Equal(t, first, second)
	})
}
