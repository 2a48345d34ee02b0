package awsbackend

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	describeOp = "DescribeThingRegistrationTask"
	reportsOp  = "ListThingRegistrationTaskReports"
)

func TestAStartRefusedWhileAnotherTaskRunsSaysWhichOne(t *testing.T) {
	for _, code := range []string{"InvalidRequestException", "LimitExceededException"} {
		b, w := onWire(t, answers{startOp: exception(400, code, "AWS's own words"), listOp: reply(200, `{"taskIds":["running-1"]}`)})
		_, err := b.StartTask(t.Context(), startInput)
		require.ErrorIs(t, err, task.ErrTaskRunning)
		assert.NotErrorIs(t, err, task.ErrInvalidRequest)
		assert.True(t, task.Refused(err))
		assert.ErrorContains(t, err, "running-1")
		assert.ErrorContains(t, err, "AWS's own words")
		assert.Equal(t, "InProgress", w.last(listOp).URL.Query().Get("status"))
	}
}

// listing answers with the ids of each status, as AWS filters them, behind an empty first page.
func listing(ids map[string]string) func(*request) *httpResponse {
	return func(r *request) *httpResponse {
		query := r.URL.Query()
		if query.Get("nextToken") == "" {
			return response(200, `{"taskIds":[],"nextToken":"2"}`)
		}
		return response(200, `{"taskIds":[`+ids[query.Get("status")]+`]}`)
	}
}

func TestATaskOnALaterPageAndOneThatIsBeingCancelledRunToo(t *testing.T) {
	for status, id := range map[string]string{"InProgress": "running-1", "Cancelling": "stopping-1"} {
		list := listing(map[string]string{status: `"` + id + `"`})
		b, _ := onWire(t, answers{startOp: exception(400, "InvalidRequestException", "AWS's own words"), listOp: list})
		_, err := b.StartTask(t.Context(), startInput)
		require.ErrorIs(t, err, task.ErrTaskRunning, status)
		assert.ErrorContains(t, err, id+" is "+status)

		a, _ := ready()
		a[listOp] = list
		b, _ = onWire(t, a)
		found := findings(t, b, preflightInput)[CheckTaskRunning]
		assert.Equal(t, []any{finding.Warning, id}, []any{found.Severity, found.Resource})
	}
}

func TestARefusalOfTheRequestItselfIsNotBlamedOnARunningTask(t *testing.T) {
	for _, message := range []string{
		"1 validation error detected: Value 'x' at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20",
		"2 validation errors detected: Value 'x' at 'roleArn' failed to satisfy constraint: …",
		"Invalid registration template. Cannot resolve reference value: {Ref=Serial}",
	} {
		b, _ := onWire(t, answers{startOp: exception(400, "InvalidRequestException", message), listOp: reply(200, `{"taskIds":["running-1"]}`)})
		_, err := b.StartTask(t.Context(), startInput)
		require.ErrorIs(t, err, task.ErrInvalidRequest, message)
		assert.NotErrorIs(t, err, task.ErrTaskRunning, "waiting for the other task would not help: %s", message)
	}
}

func TestAnOpenOutcomeIsNotTakenForARefusalBecauseATaskRuns(t *testing.T) {
	// The task in progress may be the very one that this request started.
	b, _ := onWire(t, answers{startOp: exception(500, "InvalidRequestException", "?"), listOp: reply(200, `{"taskIds":["running-1"]}`)})
	_, err := b.StartTask(t.Context(), startInput)
	require.ErrorIs(t, err, task.ErrOutcomeUnknown)
	assert.NotErrorIs(t, err, task.ErrTaskRunning)
}

func TestAStartRefusedWhileNoTaskRunsIsWhatAWSSays(t *testing.T) {
	for name, list := range map[string]func(*request) *httpResponse{
		"none runs":       noneRunning,
		"nobody can tell": exception(403, "AccessDeniedException", "no"),
	} {
		b, _ := onWire(t, answers{startOp: exception(400, "InvalidRequestException", "bad role"), listOp: list, "GetCallerIdentity": knownCaller})
		_, err := b.StartTask(t.Context(), startInput)
		require.ErrorIs(t, err, task.ErrInvalidRequest, name)
		assert.NotErrorIs(t, err, task.ErrTaskRunning, name)
	}
}

func TestATaskThatEndsWhileItIsLookedForStillExplainsTheRefusal(t *testing.T) {
	running, none := reply(200, `{"taskIds":["running-1"]}`), noneRunning
	b, w := onWire(t, answers{
		startOp: inTurn(exception(400, "InvalidRequestException", "one at a time"), exception(400, "InvalidRequestException", "one at a time"),
			exception(400, "InvalidRequestException", "one at a time"), exception(400, "InvalidRequestException", "one at a time"),
			exception(400, "InvalidRequestException", "bad role")),
		listOp: inTurn(running, none, none, none, none, running, none, none),
	})
	for n, want := range []error{
		task.ErrTaskRunning,    // found
		task.ErrTaskRunning,    // in the same words, though it is not found any more
		task.ErrInvalidRequest, // again: nobody may wait for ever
		task.ErrTaskRunning,    // found
		task.ErrInvalidRequest, // in other words
	} {
		_, err := b.StartTask(t.Context(), startInput)
		require.ErrorIs(t, err, want, "start %d", n+1)
		assert.True(t, task.Refused(err))
		assert.Equal(t, n+1, w.count(startOp), "each is sent once")
	}
}

func TestInputThatAWSWouldRefuseIsNotSent(t *testing.T) {
	b, w := onWire(t, nil)
	change := func(f func(*task.StartInput)) *task.StartInput {
		in := *startInput
		f(&in)
		return &in
	}
	for member, in := range map[string]*task.StartInput{
		"input":           nil,
		"templateBody":    change(func(in *task.StartInput) { in.TemplateBody = "" }),
		"not JSON":        change(func(in *task.StartInput) { in.TemplateBody = "{" }),
		"10240":           change(func(in *task.StartInput) { in.TemplateBody = `"` + strings.Repeat("é", 10239) + `"` }),
		"inputFileBucket": change(func(in *task.StartInput) { in.InputFileBucket = "" }),
		"inputFileKey":    change(func(in *task.StartInput) { in.InputFileKey = "" }),
		"roleArn":         change(func(in *task.StartInput) { in.RoleARN = "" }),
	} {
		_, err := b.StartTask(t.Context(), in)
		require.ErrorIs(t, err, task.ErrInvalidRequest, member)
		assert.True(t, task.Refused(err), member)
		assert.ErrorContains(t, err, member)
	}
	_, err := b.RegisterThing(t.Context(), nil)
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	_, err = b.ListTasks(t.Context(), &task.ListInput{MaxResults: 251})
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	assert.Empty(t, w.ops())
}

func TestATemplateOfExactlyTheLimitIsSent(t *testing.T) {
	b, w := onWire(t, answers{startOp: reply(200, `{"taskId":"id"}`)})
	in := *startInput
	in.TemplateBody = `"` + strings.Repeat("é", 10238) + `"`
	id, err := b.StartTask(t.Context(), &in)
	require.NoError(t, err)
	assert.EqualValues(t, "id", id)
	var sent struct{ TemplateBody string }
	require.NoError(t, json.Unmarshal([]byte(w.last(startOp).body), &sent))
	assert.Equal(t, in.TemplateBody, sent.TemplateBody)
}

func TestDescribeTaskGivesEveryMember(t *testing.T) {
	b, w := onWire(t, answers{describeOp: reply(200, `{"status":"Completed","successCount":3,"creationDate":1511202602.898,
		"templateBody":"{}","lastModifiedDate":1511202604.694,"roleArn":"arn:aws:iam::123456789012:role/r","inputFileKey":"k",
		"inputFileBucket":"my_bucket","taskId":"5d111206","failureCount":2,"percentageProgress":100,"message":"done"}`)})
	d, err := b.DescribeTask(t.Context(), "5d111206")
	require.NoError(t, err)
	assert.Equal(t, &task.Description{
		ID: "5d111206", Status: task.Completed, Message: "done", Succeeded: 3, Failed: 2, Percent: 100,
		Created: d.Created, LastModified: d.LastModified, TemplateBody: "{}", InputFileBucket: "my_bucket", InputFileKey: "k",
		RoleARN: "arn:aws:iam::123456789012:role/r",
	}, d)
	assert.Equal(t, time.UnixMilli(1511202602898).UTC(), d.Created.UTC().Round(time.Millisecond))
	assert.Equal(t, time.UnixMilli(1511202604694).UTC(), d.LastModified.UTC().Round(time.Millisecond))
	assert.Equal(t, "/thing-registration-tasks/5d111206", w.last(describeOp).URL.Path)
}

func TestADescriptionOfLittleIsNoPanic(t *testing.T) {
	b, _ := onWire(t, answers{describeOp: reply(200, `{"taskId":"id-1","status":"InProgress"}`)})
	d, err := b.DescribeTask(t.Context(), "id-1")
	require.NoError(t, err)
	assert.Equal(t, &task.Description{ID: "id-1", Status: task.InProgress}, d)
}

func TestWhatIsNoTaskIDIsNotFoundUnasked(t *testing.T) {
	b, w := onWire(t, nil)
	for _, id := range []task.ID{"", task.ID(strings.Repeat("x", 41))} {
		_, err := b.DescribeTask(t.Context(), id)
		require.ErrorIs(t, err, task.ErrNotFound)
		_, err = b.ListReports(t.Context(), id, task.ResultsReport, "")
		require.ErrorIs(t, err, task.ErrNotFound)
		require.ErrorIs(t, b.StopTask(t.Context(), id), task.ErrNotFound)
	}
	assert.Empty(t, w.ops())
}

func TestListTasksPassesStatusSizeAndToken(t *testing.T) {
	b, w := onWire(t, answers{listOp: reply(200, `{"taskIds":["b","a"],"nextToken":"t2"}`)})
	page, err := b.ListTasks(t.Context(), &task.ListInput{Status: task.Failed, MaxResults: 250, Token: "t1"})
	require.NoError(t, err)
	assert.Equal(t, &task.TaskPage{IDs: []task.ID{"b", "a"}, NextToken: "t2"}, page)
	assert.Equal(t, "maxResults=250&nextToken=t1&status=Failed", w.last(listOp).URL.Query().Encode())
	_, err = b.ListTasks(t.Context(), nil)
	require.NoError(t, err)
	assert.Empty(t, w.last(listOp).URL.RawQuery)
}

func TestListReportsGivesLinksAndToken(t *testing.T) {
	b, w := onWire(t, answers{reportsOp: reply(200, `{"resourceLinks":["https://a","https://b"],"reportType":"ERRORS","nextToken":"n"}`)})
	page, err := b.ListReports(t.Context(), "id-1", task.ErrorsReport, "m")
	require.NoError(t, err)
	assert.Equal(t, "n", page.NextToken)
	assert.Equal(t, []string{"https://a", "https://b"}, []string{page.Links[0].URL(), page.Links[1].URL()})
	assert.Equal(t, "nextToken=m&reportType=ERRORS", w.last(reportsOp).URL.Query().Encode())
}

func TestReportsOfAnUnknownTaskAreNotFoundHoweverAWSSaysIt(t *testing.T) {
	unknown := exception(404, "ResourceNotFoundException", "no such task")
	for name, answer := range map[string]func(*request) *httpResponse{
		"not found": unknown, "invalid request": exception(400, "InvalidRequestException", "?"), "an empty list": reply(200, `{"resourceLinks":[]}`),
	} {
		b, _ := onWire(t, answers{reportsOp: answer, describeOp: unknown})
		_, err := b.ListReports(t.Context(), "id-1", task.ResultsReport, "")
		require.ErrorIs(t, err, task.ErrNotFound, name)
	}
}

func TestATaskWithoutReportsHasAnEmptyPage(t *testing.T) {
	b, _ := onWire(t, answers{reportsOp: reply(200, `{}`), describeOp: reply(200, `{"taskId":"id-1","status":"InProgress"}`)})
	page, err := b.ListReports(t.Context(), "id-1", task.ResultsReport, "")
	require.NoError(t, err)
	assert.Empty(t, page.Links)
}

func TestStopTaskAsksToCancel(t *testing.T) {
	b, w := onWire(t, answers{"StopThingRegistrationTask": inTurn(reply(200, `{}`), exception(404, "ResourceNotFoundException", "none"))})
	require.NoError(t, b.StopTask(t.Context(), "id-1"))
	assert.Equal(t, "PUT /thing-registration-tasks/id-1/cancel", w.last("StopThingRegistrationTask").Method+" "+w.last("StopThingRegistrationTask").URL.Path)
	require.ErrorIs(t, b.StopTask(t.Context(), "id-1"), task.ErrNotFound)
}

func TestRegisterThingReturnsCertificateAndARNs(t *testing.T) {
	b, w := onWire(t, answers{"RegisterThing": inTurn(
		reply(200, `{"certificatePem":"-----BEGIN","resourceArns":{"thing":"arn:aws:iot:eu-central-1:123456789012:thing/d1"}}`),
		exception(400, "ResourceRegistrationFailureException", "Thing type not found"))})
	r, err := b.RegisterThing(t.Context(), registerInput)
	require.NoError(t, err)
	assert.Equal(t, "-----BEGIN", r.CertificatePEM)
	assert.Equal(t, "d1", task.ResourceName(r.ARNs.Thing()))
	assert.JSONEq(t, `{"templateBody":"{}","parameters":{"ThingName":"d1"}}`, w.last("RegisterThing").body)
	_, err = b.RegisterThing(t.Context(), registerInput)
	require.ErrorIs(t, err, task.ErrRegistrationFailed)
	assert.True(t, task.Refused(err))
}

func TestReadsAreRepeatedAsTheConfigSays(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, w := onWire(t, answers{describeOp: inTurn(exception(500, "InternalFailureException", "oops"),
			exception(400, "ThrottlingException", "slow"), reply(200, `{"taskId":"id-1","status":"InProgress"}`))})
		_, err := b.DescribeTask(t.Context(), "id-1")
		require.NoError(t, err)
		assert.Equal(t, 3, w.count(describeOp))
	})
}
