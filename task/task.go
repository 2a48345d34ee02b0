package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
)

// Task is one registration task of a backend. It holds no state beyond the task's ID, so it is safe for concurrent
// use and any number of them may be attached to the same task.
type Task struct {
	backend Backend
	id      ID
}

// Start checks the input against AWS's rules, starts a registration task and returns it.
//
// Input that AWS would refuse is an [*InputError] and is not sent. For any error of which [Refused] is false the
// task may have been started all the same: look for it by its InputFileKey with [List] and [Task.Describe] before
// starting again. [ErrTaskRunning] means that another task of the account is in progress; AWS runs one at a time.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_StartThingRegistrationTask.html
func Start(ctx context.Context, b Backend, in *StartInput) (*Task, error) {
	const doing = "start registration task"
	if in == nil {
		return nil, fmt.Errorf("%s: %w", doing, &InputError{Member: "input", Problem: "is nil"})
	}
	what := fmt.Sprintf("%s over s3://%s/%s", doing, in.InputFileBucket, in.InputFileKey)
	if err := in.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: not sent: %w", what, wait.ContextError(ctx))
	}
	input := *in // the backend may keep or change its argument, the caller's stays
	id, err := b.StartTask(ctx, &input)
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) && Refused(err):
		// The context's cause can be a refusal of another request, which would pass for one of this.
		return nil, fmt.Errorf("%s: %w: %w", what, ErrOutcomeUnknown, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if id == "" {
		return nil, fmt.Errorf("%s: the service accepted it but returned no task id: %w", what, ErrOutcomeUnknown)
	}
	return Attach(b, id), nil
}

// check returns an *InputError for the first member that breaks a rule of AWS.
func (in *StartInput) check() error {
	body := in.TemplateBody
	switch n := utf8.RuneCountInString(body); {
	case body == "":
		return &InputError{Member: "templateBody", Problem: "is empty"}
	case n > rule.TemplateBody:
		return &InputError{Member: "templateBody",
			Problem: fmt.Sprintf("is %d characters long, AWS allows %d", n, rule.TemplateBody)}
	case !json.Valid([]byte(body)):
		problem := "is not JSON"
		var err error
		if err = json.Unmarshal([]byte(body), new(any)); err != nil {
			problem += ": " + err.Error()
		}
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			problem += fmt.Sprintf(" (at byte %d)", syntax.Offset)
		}
		return &InputError{Member: "templateBody", Problem: problem, Err: err}
	}
	if err := rule.Bucket.Check(in.InputFileBucket); err != nil {
		return &InputError{Member: "inputFileBucket", Problem: err.Error(), Err: err}
	}
	if err := rule.ObjectKey.Check(in.InputFileKey); err != nil {
		return &InputError{Member: "inputFileKey", Problem: err.Error(), Err: err}
	}
	const least, most = 20, 2048
	if n := utf8.RuneCountInString(in.RoleARN); n < least || n > most {
		return &InputError{Member: "roleArn",
			Problem: fmt.Sprintf("is %d characters long, AWS wants %d to %d", n, least, most)}
	}
	return nil
}

// Attach returns the task with the given id without asking the service for it. [Task.Describe] finds out whether it
// exists.
func Attach(b Backend, id ID) *Task { return &Task{b, id} }

// ID returns the id the service gave the task.
func (t *Task) ID() ID { return t.id }

// Describe returns the task as the service sees it now. It returns [ErrNotFound] when the account has no such task:
// AWS forgets a task 30 days after its end.
func (t *Task) Describe(ctx context.Context) (*Description, error) {
	d, err := t.describe(ctx)
	if err != nil {
		return nil, t.failed("describe", err)
	}
	return d, nil
}

func (t *Task) describe(ctx context.Context) (*Description, error) {
	if err := t.checkID(); err != nil {
		return nil, err
	}
	d, err := t.backend.DescribeTask(ctx, t.id)
	if err == nil && d == nil {
		err = errors.New("the backend returned neither a description nor an error")
	}
	return d, err
}

// Stop asks the service to cancel the task. It returns when the service has accepted this, which is before the task
// has ended: [Task.Wait] then returns an error that matches [ErrTaskCancelled]. Lines that are registered stay
// registered and are in the reports. Stopping a task that has ended changes nothing.
func (t *Task) Stop(ctx context.Context) error {
	if err := t.checkID(); err != nil {
		return t.failed("stop", err)
	}
	if err := t.backend.StopTask(ctx, t.id); err != nil {
		return t.failed("stop", err)
	}
	return nil
}

// checkID refuses an empty id: in AWS's addresses it would name the collection of all tasks.
func (t *Task) checkID() error {
	if t.id == "" {
		return &InputError{Member: "taskId", Problem: "is empty"}
	}
	return nil
}

func (t *Task) failed(doing string, err error) error {
	return fmt.Errorf("%s registration task %s: %w", doing, t.id, err)
}

// List yields the ids of the account's tasks in the given status, or of all when it is empty, over all pages and in the
// service's own order. Pages that repeat, a thousand in a row that bring no new id, and more than a million tasks, which no
// account can have, end in an error.
func List(ctx context.Context, s Service, status Status) iter.Seq2[ID, error] {
	return func(yield func(ID, error) bool) {
		in := ListInput{Status: status}
		var loop tokenLoop
		seen, idle := map[ID]struct{}{}, 0
		for {
			page, err := s.ListTasks(ctx, new(in))
			if err == nil && page == nil {
				err = errors.New("the backend returned neither a page nor an error")
			}
			if err != nil {
				yield("", fmt.Errorf("list registration tasks: %w", err))
				return
			}
			idle++
			for _, id := range page.IDs {
				if _, again := seen[id]; !again {
					seen[id], idle = struct{}{}, 0
				}
				if !yield(id, nil) {
					return
				}
			}
			if page.NextToken == "" {
				return
			}
			switch {
			case loop.repeats(page.NextToken):
				err = errTokenLoop
			case idle >= maxIdlePages:
				err = errIdlePages
			case len(seen) > maxTasks:
				err = errManyTasks
			}
			if err != nil {
				yield("", fmt.Errorf("list registration tasks: %w", err))
				return
			}
			in.Token = page.NextToken
		}
	}
}

var errTokenLoop = errors.New("the service's page tokens go round in a circle")

// tokenLoop notices, with constant memory, that a service's page tokens repeat: Brent's way of finding a cycle.
type tokenLoop struct {
	mark        string
	steps, span int
}

// repeats reports whether token was seen before. A cycle is found at the latest after three times its length.
func (l *tokenLoop) repeats(token string) bool {
	if l.span > 0 && token == l.mark {
		return true
	}
	l.steps++
	if l.steps >= l.span {
		l.mark, l.steps, l.span = token, 0, max(1, 2*l.span)
	}
	return false
}
