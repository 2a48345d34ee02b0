package task_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

func goodInput() *task.StartInput {
	return &task.StartInput{
		TemplateBody: `{"Resources":{}}`, InputFileBucket: "factory-bucket", InputFileKey: "fleet/run-1/part-0.json",
		RoleARN: "arn:aws:iam::123456789012:role/bulk",
	}
}

func TestStartRefusesWhatAWSWouldRefuseAndDoesNotAsk(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*task.StartInput)
		member string
	}{
		"no template":            {func(in *task.StartInput) { in.TemplateBody = "" }, "templateBody"},
		"template too long":      {func(in *task.StartInput) { in.TemplateBody = `"` + strings.Repeat("é", 10239) + `"` }, "templateBody"},
		"template not JSON":      {func(in *task.StartInput) { in.TemplateBody = `{"Resources":` }, "templateBody"},
		"no bucket":              {func(in *task.StartInput) { in.InputFileBucket = "" }, "inputFileBucket"},
		"bucket with a space":    {func(in *task.StartInput) { in.InputFileBucket = "my bucket" }, "inputFileBucket"},
		"no key":                 {func(in *task.StartInput) { in.InputFileKey = "" }, "inputFileKey"},
		"key with a space":       {func(in *task.StartInput) { in.InputFileKey = "a b.json" }, "inputFileKey"},
		"key too long":           {func(in *task.StartInput) { in.InputFileKey = strings.Repeat("k", 1025) }, "inputFileKey"},
		"no role":                {func(in *task.StartInput) { in.RoleARN = "" }, "roleArn"},
		"role's name, not ARN":   {func(in *task.StartInput) { in.RoleARN = "bulk" }, "roleArn"},
		"role ARN is over 2,048": {func(in *task.StartInput) { in.RoleARN += strings.Repeat("r", 2048) }, "roleArn"},
	} {
		t.Run(name, func(t *testing.T) {
			in := goodInput()
			c.change(in)
			_, err := task.Start(t.Context(), &script{}, in)
			input, ok := errors.AsType[*task.InputError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, c.member, input.Member)
			assert.ErrorIs(t, err, task.ErrInvalidRequest)
			assert.True(t, task.Refused(err), "nothing was sent")
			assert.NotErrorIs(t, err, errUnscripted)
		})
	}
	_, err := task.Start(t.Context(), &script{}, nil)
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	assert.True(t, task.Refused(err))
}

func TestStartTakesEveryLengthThatAWSTakes(t *testing.T) {
	b := &script{start: func(*task.StartInput) (task.ID, error) { return "t-1", nil }}
	for n, taken := range map[int]bool{19: false, 20: true, 2048: true, 2049: false} {
		in := goodInput()
		in.RoleARN = "arn:aws:iam::1:role/" + strings.Repeat("r", 2048)
		in.RoleARN = in.RoleARN[:n]
		_, err := task.Start(t.Context(), b, in)
		assert.Equal(t, taken, err == nil, "%d characters: %v", n, err)
	}
}

func TestATemplateThatIsNotJSONIsRefusedWithThePlaceOfTheFault(t *testing.T) {
	in := goodInput()
	in.TemplateBody = `{"Resources":}`
	_, err := task.Start(t.Context(), &script{}, in)
	assert.ErrorContains(t, err, "(at byte 14)")
}

func TestStartErrorsOfRulesKeepTheViolation(t *testing.T) {
	in := goodInput()
	in.InputFileKey = "a b.json"
	_, err := task.Start(t.Context(), &script{}, in)
	v, ok := errors.AsType[*rule.Violation](err)
	require.True(t, ok)
	assert.Equal(t, 1, v.Offset)
}

func TestStartCountsCharactersNotBytes(t *testing.T) {
	in := goodInput()
	in.TemplateBody = `"` + strings.Repeat("é", 10238) + `"`
	b := &script{start: func(*task.StartInput) (task.ID, error) { return "t-1", nil }}
	started, err := task.Start(t.Context(), b, in)
	require.NoError(t, err)
	assert.EqualValues(t, "t-1", started.ID())
}

func TestStartHandsTheInputOnByteForByteAndKeepsTheCallers(t *testing.T) {
	in := goodInput()
	b := &script{start: func(got *task.StartInput) (task.ID, error) {
		assert.Equal(t, goodInput(), got)
		got.InputFileKey = "changed"
		return "t-1", nil
	}}
	got, err := task.Start(t.Context(), b, in)
	require.NoError(t, err)
	assert.Equal(t, task.ID("t-1"), got.ID())
	assert.Equal(t, goodInput(), in)
}

func TestStartSaysOverWhichFileAndWrapsTheBackendsError(t *testing.T) {
	busy := &task.Error{Op: "StartThingRegistrationTask", Code: "LimitExceededException", Message: "one at a time", Status: 410, Kind: task.ErrTaskRunning}
	_, err := task.Start(t.Context(), &script{start: func(*task.StartInput) (task.ID, error) { return "", busy }}, goodInput())
	require.ErrorIs(t, err, task.ErrTaskRunning)
	assert.EqualError(t, err, "start registration task over s3://factory-bucket/fleet/run-1/part-0.json: "+
		"StartThingRegistrationTask: LimitExceededException: one at a time")
	assert.True(t, task.Refused(err))
}

func TestWhyTheContextEndedDoesNotPassForARefusal(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	refused := &task.Error{Op: "PutObject", Code: "AccessDenied", Status: 403, Kind: task.ErrAccessDenied}
	_, err := task.Start(ctx, &script{start: func(*task.StartInput) (task.ID, error) {
		cancel(fmt.Errorf("another request: %w", refused))
		return "", fmt.Errorf("StartThingRegistrationTask: %w", context.Cause(ctx))
	}}, goodInput())
	require.ErrorIs(t, err, context.Cause(ctx))
	require.ErrorIs(t, err, task.ErrOutcomeUnknown)
	assert.False(t, task.Refused(err), "the task may have been started")
}

func TestStartWithoutATaskIDIsAnOpenOutcome(t *testing.T) {
	_, err := task.Start(t.Context(), &script{start: func(*task.StartInput) (task.ID, error) { return "", nil }}, goodInput())
	require.ErrorIs(t, err, task.ErrOutcomeUnknown)
	assert.False(t, task.Refused(err))
}

func TestStartIsNotSentOnceTheContextIsDone(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("power cut")
	cancel(why)
	_, err := task.Start(ctx, &script{}, goodInput())
	require.ErrorIs(t, err, why)
	assert.NotErrorIs(t, err, errUnscripted)
}

func TestErrorsNameTheTaskAndWhatWasBeingDone(t *testing.T) {
	gone := &task.Error{Op: "X", Code: "ResourceNotFoundException", Status: 404, Kind: task.ErrNotFound}
	b := &script{
		describe: func(int) (*task.Description, error) { return nil, gone },
		stop:     func(task.ID) error { return gone },
	}
	it := task.Attach(b, "eacb0860")
	_, err := it.Describe(t.Context())
	require.ErrorIs(t, err, task.ErrNotFound)
	assert.EqualError(t, err, "describe registration task eacb0860: X: ResourceNotFoundException")
	err = it.Stop(t.Context())
	require.ErrorIs(t, err, task.ErrNotFound)
	assert.EqualError(t, err, "stop registration task eacb0860: X: ResourceNotFoundException")
}

func TestATaskWithoutAnIDIsNotAskedFor(t *testing.T) {
	it := task.Attach(&script{}, "")
	_, err := it.Describe(t.Context())
	assert.ErrorIs(t, err, task.ErrInvalidRequest)
	assert.ErrorIs(t, it.Stop(t.Context()), task.ErrInvalidRequest)
	_, err = it.Wait(t.Context(), nil)
	assert.ErrorIs(t, err, task.ErrInvalidRequest)
	_, err = numbers(it.Results(t.Context()))
	assert.ErrorIs(t, err, task.ErrInvalidRequest)
}

func TestABackendThatReturnsNothingIsAnErrorNotAPanic(t *testing.T) {
	b := &script{
		describe: func(int) (*task.Description, error) { return nil, nil },
		list:     func(*task.ListInput) (*task.TaskPage, error) { return nil, nil },
	}
	_, err := task.Attach(b, "t-1").Describe(t.Context())
	require.Error(t, err)
	var last error
	for _, err := range task.List(t.Context(), b, "") {
		last = err
	}
	require.Error(t, last)
	b.describe = ended(1, 0)
	b.reports = func(int, task.ReportType, string) (*task.ReportPage, error) { return nil, nil }
	_, err = numbers(task.Attach(b, "t-1").Results(t.Context()))
	require.Error(t, err)
}

func TestListYieldsEveryPageAndPassesTheStatusOn(t *testing.T) {
	b := &script{list: func(in *task.ListInput) (*task.TaskPage, error) {
		require.Equal(t, task.Completed, in.Status)
		switch in.Token {
		case "":
			return &task.TaskPage{IDs: []task.ID{"c", "b"}, NextToken: "2"}, nil
		case "2":
			return &task.TaskPage{NextToken: "3"}, nil // an empty page is not the last one
		}
		return &task.TaskPage{IDs: []task.ID{"a"}}, nil
	}}
	var ids []task.ID
	for id, err := range task.List(t.Context(), b, task.Completed) {
		require.NoError(t, err)
		ids = append(ids, id)
	}
	assert.Equal(t, []task.ID{"c", "b", "a"}, ids)
}

func TestListEndsWithTheFirstError(t *testing.T) {
	calls := 0
	b := &script{list: func(*task.ListInput) (*task.TaskPage, error) {
		if calls++; calls == 2 {
			return nil, errors.New("boom")
		}
		return &task.TaskPage{IDs: []task.ID{"a"}, NextToken: "2"}, nil
	}}
	var got []string
	for id, err := range task.List(t.Context(), b, "") {
		got = append(got, fmt.Sprint(id, err))
	}
	assert.Equal(t, []string{"a<nil>", "list registration tasks: boom"}, got)
}

func TestListNoticesPageTokensThatGoRoundInACircle(t *testing.T) {
	calls := 0
	b := &script{list: func(*task.ListInput) (*task.TaskPage, error) {
		calls++
		return &task.TaskPage{NextToken: fmt.Sprint(calls % 2)}, nil
	}}
	var errs []error
	for _, err := range task.List(t.Context(), b, "") {
		errs = append(errs, err)
	}
	require.Len(t, errs, 1, "a listing that is not whole must not end as if it were")
	assert.ErrorContains(t, errs[0], "circle")
	assert.Less(t, calls, 20)
}

func TestOnlyThreeStatusesAreDone(t *testing.T) {
	for status, done := range map[task.Status]bool{
		task.InProgress: false, task.Cancelling: false, "": false, "Paused": false,
		task.Completed: true, task.Failed: true, task.Cancelled: true,
	} {
		assert.Equal(t, done, status.Done(), status)
	}
}
