package awsbackend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// StartTask implements [task.Service]: it sends StartThingRegistrationTask once.
//
// AWS declares no error of its own for a second task while one runs. When a start is refused with
// InvalidRequestException or LimitExceededException, the tasks in progress and those being cancelled are listed: if
// there is one, the error matches [task.ErrTaskRunning] and its text has that task's id beside AWS's own words. So does
// the next refusal in the same words when there is none any more, as the task may have ended while it was looked for. A
// refusal whose text is about the request's own members stays [task.ErrInvalidRequest]. Needs iam:PassRole on the role.
func (b *Backend) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	const op = "StartThingRegistrationTask"
	if err := checkStart(in); err != nil {
		return "", fmt.Errorf("%s: not sent: %w", op, err)
	}
	out, err := once(ctx, b, op, b.iot.StartThingRegistrationTask, &iot.StartThingRegistrationTaskInput{
		TemplateBody:    aws.String(in.TemplateBody),
		InputFileBucket: aws.String(in.InputFileBucket),
		InputFileKey:    aws.String(in.InputFileKey),
		RoleArn:         aws.String(in.RoleARN),
	})
	if err != nil {
		return "", b.explainRunning(ctx, err)
	}
	return task.ID(aws.ToString(out.TaskId)), nil
}

// checkStart refuses what the service would, so that its InvalidRequestException can be trusted to mean something else.
func checkStart(in *task.StartInput) error {
	if in == nil {
		return &task.InputError{Member: "input", Problem: "is nil"}
	}
	if err := checkTemplate(in.TemplateBody); err != nil {
		return err
	}
	for _, m := range []struct{ name, value string }{
		{"inputFileBucket", in.InputFileBucket}, {"inputFileKey", in.InputFileKey}, {"roleArn", in.RoleARN},
	} {
		if m.value == "" {
			return &task.InputError{Member: m.name, Problem: "is empty"}
		}
	}
	return nil
}

// aboutInput is how AWS begins a message about a part of the request. Then no other task is the reason, and waiting
// for one that happens to run would not help.
var aboutInput = regexp.MustCompile(`^([0-9]+ validation errors? detected|Invalid registration template)\b`)

// explainRunning finds out whether a refused start means that another task is in progress. AWS words this with a
// general code, so the list of tasks is asked.
func (b *Backend) explainRunning(ctx context.Context, err error) error {
	e, ok := errors.AsType[*task.Error](err)
	if !ok || !task.Refused(err) || e.Code != "InvalidRequestException" && e.Code != "LimitExceededException" ||
		aboutInput.MatchString(e.Message) {
		return err
	}
	running, status, listErr := b.runningTask(ctx)
	if listErr != nil {
		return err
	}
	known := *e
	known.Kind = task.ErrTaskRunning
	words := e.Code + ": " + e.Message
	if running != "" {
		b.occupied.Store(&words)
		return fmt.Errorf("registration task %s is %s, and AWS runs one at a time in an account: wait for it or stop it: %w",
			running, status, &known)
	}
	// Once only: words that are about something else must not be waited on for ever.
	if last := b.occupied.Swap(nil); last != nil && *last == words {
		return fmt.Errorf("AWS answered that another registration task is in progress, which seems to have ended since: try again: %w",
			&known)
	}
	return err
}

// runningTask returns a task that takes the account's only place, "" if there is none. A task that is being cancelled
// takes it, too.
func (b *Backend) runningTask(ctx context.Context) (task.ID, task.Status, error) {
	for _, status := range []task.Status{task.InProgress, task.Cancelling} {
		for id, err := range task.List(ctx, b, status) {
			return id, status, err
		}
	}
	return "", "", nil
}

// DescribeTask implements [task.Service] with DescribeThingRegistrationTask.
func (b *Backend) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	const op = "DescribeThingRegistrationTask"
	if err := checkID(op, id); err != nil {
		return nil, err
	}
	out, err := call(ctx, b, b.iot.DescribeThingRegistrationTask, &iot.DescribeThingRegistrationTaskInput{TaskId: aws.String(string(id))})
	if err != nil {
		return nil, err
	}
	d := &task.Description{
		ID:              task.ID(aws.ToString(out.TaskId)),
		Status:          task.Status(out.Status),
		Message:         aws.ToString(out.Message),
		Succeeded:       int(out.SuccessCount),
		Failed:          int(out.FailureCount),
		Percent:         int(out.PercentageProgress),
		Created:         instant(out.CreationDate),
		LastModified:    instant(out.LastModifiedDate),
		TemplateBody:    aws.ToString(out.TemplateBody),
		InputFileBucket: aws.ToString(out.InputFileBucket),
		InputFileKey:    aws.ToString(out.InputFileKey),
		RoleARN:         aws.ToString(out.RoleArn),
	}
	if d.ID == "" {
		d.ID = id
	}
	return d, nil
}

// checkTemplate refuses what is no template: empty, too long, not JSON.
func checkTemplate(body string) error {
	switch n := utf8.RuneCountInString(body); {
	case n == 0:
		return &task.InputError{Member: "templateBody", Problem: "is empty"}
	case n > rule.TemplateBody:
		return &task.InputError{Member: "templateBody",
			Problem: fmt.Sprintf("is %d characters long, AWS allows %d", n, rule.TemplateBody)}
	}
	if err := json.Unmarshal([]byte(body), new(json.RawMessage)); err != nil {
		return &task.InputError{Member: "templateBody", Problem: "is not JSON: " + err.Error(), Err: err}
	}
	return nil
}

// checkID answers for ids that AWS would not take as one, or would take as the address of another operation.
func checkID(op string, id task.ID) error {
	if n := utf8.RuneCountInString(string(id)); n == 0 || n > 40 {
		return fmt.Errorf("%s: %w: a task id has 1 to 40 characters, this one has %d", op, task.ErrNotFound, n)
	}
	return nil
}

// instant reads an optional time.
func instant(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// ListTasks implements [task.Service] with ListThingRegistrationTasks. A nil input lists the first page of all.
func (b *Backend) ListTasks(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
	const op = "ListThingRegistrationTasks"
	if in == nil {
		in = &task.ListInput{}
	}
	if in.MaxResults < 0 || in.MaxResults > 250 {
		return nil, fmt.Errorf("%s: not sent: %w", op, &task.InputError{Member: "maxResults",
			Problem: fmt.Sprintf("is %d, AWS allows 1 to 250", in.MaxResults)})
	}
	req := &iot.ListThingRegistrationTasksInput{Status: types.Status(in.Status)}
	if in.Token != "" {
		req.NextToken = aws.String(in.Token)
	}
	if in.MaxResults > 0 {
		req.MaxResults = aws.Int32(int32(in.MaxResults))
	}
	out, err := call(ctx, b, b.iot.ListThingRegistrationTasks, req)
	if err != nil {
		return nil, err
	}
	page := &task.TaskPage{NextToken: aws.ToString(out.NextToken)}
	for _, id := range out.TaskIds {
		page.IDs = append(page.IDs, task.ID(id))
	}
	return page, nil
}

// ListReports implements [task.Service] with ListThingRegistrationTaskReports.
//
// That operation declares no not-found error. A first page that is empty or refused as an invalid request is therefore
// followed by one DescribeThingRegistrationTask, which finds out whether the task is unknown or has no reports.
func (b *Backend) ListReports(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
	const op = "ListThingRegistrationTaskReports"
	if err := checkID(op, id); err != nil {
		return nil, err
	}
	req := &iot.ListThingRegistrationTaskReportsInput{TaskId: aws.String(string(id)), ReportType: types.ReportType(kind)}
	if token != "" {
		req.NextToken = aws.String(token)
	}
	out, err := call(ctx, b, b.iot.ListThingRegistrationTaskReports, req, withoutBodyLog)
	if err != nil {
		if token == "" && errors.Is(err, task.ErrInvalidRequest) {
			if gone := b.gone(ctx, op, id); gone != nil {
				return nil, gone
			}
		}
		return nil, err
	}
	page := &task.ReportPage{NextToken: aws.ToString(out.NextToken)}
	for _, link := range out.ResourceLinks {
		page.Links = append(page.Links, task.NewLink(link))
	}
	if token == "" && len(page.Links) == 0 && page.NextToken == "" {
		if gone := b.gone(ctx, op, id); gone != nil {
			return nil, gone
		}
	}
	return page, nil
}

// gone returns the not-found error of a task, nil if there is such a task or nothing is known of it.
func (b *Backend) gone(ctx context.Context, op string, id task.ID) error {
	if _, err := b.DescribeTask(ctx, id); errors.Is(err, task.ErrNotFound) {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// withoutBodyLog keeps the SDK's own log from showing an answer's body: it holds presigned links.
func withoutBodyLog(o *iot.Options) {
	if o.ClientLogMode.IsResponseWithBody() {
		o.ClientLogMode.ClearResponseWithBody()
		o.ClientLogMode |= aws.LogResponse
	}
}

// StopTask implements [task.Service] with StopThingRegistrationTask.
func (b *Backend) StopTask(ctx context.Context, id task.ID) error {
	const op = "StopThingRegistrationTask"
	if err := checkID(op, id); err != nil {
		return err
	}
	if _, err := call(ctx, b, b.iot.StopThingRegistrationTask, &iot.StopThingRegistrationTaskInput{TaskId: aws.String(string(id))}); err != nil {
		return err
	}
	return nil
}

// RegisterThing implements [task.Registrar]: it registers one device with RegisterThing, sent once. The caller's own
// permissions apply, not those of a service role: iot:RegisterThing and what the template makes it do. AWS takes 10
// calls a second by default.
//
// A refusal that matches [task.ErrRegistrationFailed] or [task.ErrConflict] can come after the certificate was made;
// read the device back before it is registered again.
func (b *Backend) RegisterThing(ctx context.Context, in *task.RegisterInput) (*task.Registration, error) {
	const op = "RegisterThing"
	if in == nil {
		return nil, fmt.Errorf("%s: not sent: %w", op, &task.InputError{Member: "input", Problem: "is nil"})
	}
	if err := checkTemplate(in.TemplateBody); err != nil {
		return nil, fmt.Errorf("%s: not sent: %w", op, err)
	}
	out, err := once(ctx, b, op, b.iot.RegisterThing, &iot.RegisterThingInput{
		TemplateBody: aws.String(in.TemplateBody),
		Parameters:   maps.Clone(in.Parameters),
	})
	if err != nil {
		return nil, err
	}
	return &task.Registration{CertificatePEM: aws.ToString(out.CertificatePem), ARNs: task.ARNs(out.ResourceArns)}, nil
}
