package fakebackend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestProgressFollowsTheClockAndTheRate(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 2, StartDelay: 5 * time.Second})
	id := start(t, fake, role, walkthrough(t), rows(t, 10)...)
	for _, step := range []struct {
		at      time.Duration
		done    int
		percent int
		status  task.Status
	}{
		{0, 0, 0, task.InProgress},
		{5 * time.Second, 0, 0, task.InProgress},
		{5499 * time.Millisecond, 0, 0, task.InProgress},
		{5500 * time.Millisecond, 1, 10, task.InProgress},
		{7 * time.Second, 4, 40, task.InProgress},
		{9999 * time.Millisecond, 9, 90, task.InProgress},
		{10 * time.Second, 10, 100, task.Completed},
		{time.Hour, 10, 100, task.Completed},
	} {
		fake.SetTime(monday.Add(step.at))
		d := describe(t, fake, id)
		assert.Equal(t, step.done, d.Succeeded, "at %v", step.at)
		assert.Equal(t, step.percent, d.Percent, "at %v", step.at)
		assert.Equal(t, step.status, d.Status, "at %v", step.at)
		assert.Len(t, results(t, fake, id), step.done, "the report holds the lines that are done")
	}
	assert.Equal(t, monday.Add(10*time.Second), describe(t, fake, id).LastModified, "a task ends when its last line is done, not when somebody looks")
}

func TestTheStateDoesNotDependOnHowOftenItIsLookedAt(t *testing.T) {
	var states []string
	for _, every := range []time.Duration{time.Hour, 700 * time.Millisecond, time.Millisecond * 130} {
		fake, role := newFake(t, fakebackend.Options{Rate: 3, StartDelay: time.Second})
		_, err := fake.AddFault(fakebackend.Fault{Do: fakebackend.Delay, Line: 4, Delay: 1500 * time.Millisecond})
		require.NoError(t, err)
		_, err = fake.AddFault(fakebackend.Fault{Do: fakebackend.Fail, Step: fakebackend.StepThing, Nth: 3})
		require.NoError(t, err)
		id := start(t, fake, role, walkthrough(t), fixedRows...)
		for end := monday.Add(10 * time.Second); fake.Now().Before(end); {
			fake.SetTime(minTime(fake.Now().Add(every), end))
			describe(t, fake, id)
		}
		state, err := fake.StateJSON()
		require.NoError(t, err)
		states = append(states, string(state))
	}
	assert.Equal(t, states[0], states[1])
	assert.Equal(t, states[0], states[2])
}

// fixedRows have one CSR, so that a seeded fake makes the same certificates of them each time.
var fixedRows = func() (out []string) {
	csr := csrOf(key, "fixed")
	for i := range 8 {
		raw, err := json.Marshal(map[string]string{"ThingName": fmt.Sprintf("fixed-%d", i), "SerialNumber": "1", "CSR": csr})
		if err != nil {
			panic(err)
		}
		out = append(out, string(raw))
	}
	return out
}()

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func TestTimePassesByItselfInASynctestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, err := fakebackend.New(fakebackend.Options{Rate: 1})
		require.NoError(t, err)
		role, err := fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration"})
		require.NoError(t, err)
		id := start(t, fake, role, walkthrough(t), rows(t, 3)...)
		time.Sleep(2500 * time.Millisecond)
		assert.Equal(t, 2, describe(t, fake, id).Succeeded)
		time.Sleep(500 * time.Millisecond)
		assert.Equal(t, task.Completed, describe(t, fake, id).Status)
	})
}

func TestOnlyOneTaskRunsAtATime(t *testing.T) {
	for _, c := range []struct{ set, want string }{{"", "InvalidRequestException"}, {"LimitExceededException", "LimitExceededException"}} {
		fake, role := newFake(t, fakebackend.Options{Rate: 1, RunningTaskCode: c.set, StopDelay: 2 * time.Second})
		first := start(t, fake, role, walkthrough(t), rows(t, 2)...)
		again := &task.StartInput{TemplateBody: walkthrough(t), InputFileBucket: fake.Options().Bucket, InputFileKey: "devices.json", RoleARN: role}
		_, err := fake.StartTask(t.Context(), again)
		require.ErrorIs(t, err, task.ErrTaskRunning)
		assert.True(t, task.Refused(err))
		assert.ErrorContains(t, err, c.want)
		assert.ErrorContains(t, err, string(first))
		assert.Equal(t, 1, fake.Counts().Tasks, "a refusal leaves no task behind")

		require.NoError(t, fake.StopTask(t.Context(), first))
		_, err = fake.StartTask(t.Context(), again)
		require.ErrorIs(t, err, task.ErrTaskRunning, "a task that is being cancelled still runs")
		fake.Advance(2 * time.Second)
		second, err := fake.StartTask(t.Context(), again)
		require.NoError(t, err)
		page, err := fake.ListTasks(t.Context(), &task.ListInput{})
		require.NoError(t, err)
		assert.Equal(t, []task.ID{second, first}, page.IDs, "newest first")
	}
}

func TestAStoppedTaskKeepsWhatWasDone(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1, StopDelay: 3 * time.Second})
	id := start(t, fake, role, walkthrough(t), rows(t, 10)...)
	fake.Advance(4 * time.Second)
	require.NoError(t, fake.StopTask(t.Context(), id))
	stopping := describe(t, fake, id)
	assert.Equal(t, task.Cancelling, stopping.Status)
	assert.WithinDuration(t, fake.Now(), stopping.LastModified, time.Second/2)
	fake.Advance(time.Second)
	require.NoError(t, fake.StopTask(t.Context(), id), "stopping twice is no error")
	fake.Advance(2 * time.Second)
	d := describe(t, fake, id)
	assert.Equal(t, task.Cancelled, d.Status)
	assert.Equal(t, 4, d.Succeeded)
	assert.Len(t, results(t, fake, id), 4)
	assert.Equal(t, 4, fake.Counts().Things)
	fake.Advance(time.Hour)
	require.NoError(t, fake.StopTask(t.Context(), id))
	assert.Equal(t, d, describe(t, fake, id), "a task that has ended does not change")
}

func TestATaskIsEndedAfterThirtyDaysAndForgottenThirtyDaysLater(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1e-9})
	id := start(t, fake, role, walkthrough(t), rows(t, 1)...)
	const month = 30 * 24 * time.Hour
	fake.Advance(month - 1)
	assert.Equal(t, task.InProgress, describe(t, fake, id).Status)
	fake.Advance(1)
	d := describe(t, fake, id)
	assert.Equal(t, task.Failed, d.Status)
	assert.NotEmpty(t, d.Message)
	fake.Advance(month - 1)
	describe(t, fake, id)
	fake.Advance(1)
	_, err := fake.DescribeTask(t.Context(), id)
	require.ErrorIs(t, err, task.ErrNotFound)
	_, err = fake.ListReports(t.Context(), id, task.ResultsReport, "")
	require.ErrorIs(t, err, task.ErrNotFound)
	page, err := fake.ListTasks(t.Context(), &task.ListInput{})
	require.NoError(t, err)
	assert.Empty(t, page.IDs)
}

func TestAnyNumberOfTasksIsForgottenAtOnce(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	for range 70 {
		id := startFile(t, fake, role, walkthrough(t), "")
		require.Equal(t, task.Completed, describe(t, fake, id).Status)
	}
	fake.Advance(15 * 24 * time.Hour)
	young := start(t, fake, role, walkthrough(t), rows(t, 1)...)
	require.Equal(t, task.Completed, describe(t, fake, young).Status)
	fake.Advance(15 * 24 * time.Hour)
	page, err := fake.ListTasks(t.Context(), &task.ListInput{})
	require.NoError(t, err)
	assert.Equal(t, []task.ID{young}, page.IDs)
}

func TestReportsComeInSeveralFilesBehindSeveralPages(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{LinesPerReport: 3, PageSize: 2})
	lines := rows(t, 20)
	for i := 0; i < 20; i += 2 {
		lines[i] = "not JSON"
	}
	id := start(t, fake, role, walkthrough(t), lines...)
	good, files := report(t, fake, id, task.ResultsReport)
	assert.Equal(t, 4, files)
	bad, files := report(t, fake, id, task.ErrorsReport)
	assert.Equal(t, 4, files)
	last, err := api(fake).ListThingRegistrationTaskReports(t.Context(), &iot.ListThingRegistrationTaskReportsInput{
		TaskId: new(string(id)), ReportType: "RESULTS", MaxResults: new(int32(4)),
	})
	require.NoError(t, err)
	assert.Len(t, last.ResourceLinks, 4)
	assert.Empty(t, last.NextToken, "a full last page has none")
	require.Len(t, good, 10)
	require.Len(t, bad, 10)
	for i := range 10 {
		assert.EqualValues(t, 2*i+2, good[i].LineNumber)
		assert.EqualValues(t, 2*i+1, bad[i].LineNumber)
		assert.NotEmpty(t, bad[i].ErrorMessage)
	}
}

func TestALinkIsGoodForADayAndThenListedAgain(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	id := start(t, fake, role, walkthrough(t), rows(t, 1)...)
	link := func() task.Link {
		page, err := fake.ListReports(t.Context(), id, task.ResultsReport, "")
		require.NoError(t, err)
		require.Len(t, page.Links, 1)
		return page.Links[0]
	}
	first := link()
	assert.True(t, strings.HasPrefix(first.URL(), fmt.Sprintf(
		"https://aws-iot-btp-prod-us-east-1.s3.amazonaws.com/123456789012/%s/successful/%s-1?", id, id)), first.URL())
	assert.Contains(t, first.URL(), "X-Amz-Expires=86400")
	fake.Advance(24*time.Hour - time.Second)
	body, err := fake.Open(t.Context(), first, 0)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	fake.Advance(2 * time.Second)
	_, err = fake.Open(t.Context(), first, 0)
	require.ErrorIs(t, err, task.ErrLinkExpired)
	assert.NotContains(t, err.Error(), "X-Amz-Signature")
	_, err = fake.Open(t.Context(), task.NewLink(strings.Replace(link().URL(), "X-Amz-Signature=", "X-Amz-Signature=0", 1)), 0)
	require.ErrorIs(t, err, task.ErrLinkExpired, "a link that was changed is refused")
	_, err = fake.Open(t.Context(), link(), 0)
	require.NoError(t, err)
}

func TestReportsCanBeHeldBackUntilTheTaskHasEnded(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1, ReportDelay: 2 * time.Second})
	id := start(t, fake, role, walkthrough(t), rows(t, 3)...)
	for _, c := range []struct {
		after time.Duration
		files int
	}{{2 * time.Second, 0}, {2 * time.Second, 0}, {time.Second, 1}} {
		fake.Advance(c.after)
		page, err := fake.ListReports(t.Context(), id, task.ResultsReport, "")
		require.NoError(t, err)
		assert.Len(t, page.Links, c.files)
	}
}

func TestAnInterruptedLookGoesOnWhereItStopped(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1000})
	id := start(t, fake, role, walkthrough(t), rows(t, 2000)...)
	fake.Advance(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := fake.DescribeTask(ctx, id)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	d := describe(t, fake, id)
	assert.Equal(t, 2000, d.Succeeded)
	assert.Equal(t, 2000, fake.Counts().Certificates, "no line was done twice")
	assert.Equal(t, monday.Add(2*time.Second), d.LastModified)
}
