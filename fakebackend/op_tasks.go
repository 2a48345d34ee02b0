package fakebackend

import (
	"context"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// DescribeThingRegistrationTask, ListThingRegistrationTasks, StopThingRegistrationTask.
//
// Models: counts and percentage that move with the clock; tasks that are forgotten 30 days after they ended; stopping by
// way of Cancelling. Not modelled: a task that AWS itself breaks off.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_DescribeThingRegistrationTask.html

const (
	opDescribeTask = "DescribeThingRegistrationTask"
	opListTasks    = "ListThingRegistrationTasks"
	opStopTask     = "StopThingRegistrationTask"
)

// ThingRegistrationTaskInput names a task: the request of DescribeThingRegistrationTask and StopThingRegistrationTask.
type ThingRegistrationTaskInput struct {
	TaskID string `json:"taskId"`
}

func (in *ThingRegistrationTaskInput) check(c *checker) { c.need("taskId", in.TaskID, shapeTaskID) }

// DescribeThingRegistrationTaskOutput is the answer to DescribeThingRegistrationTask.
type DescribeThingRegistrationTaskOutput struct {
	TaskID             string    `json:"taskId"`
	CreationDate       time.Time `json:"creationDate"`
	LastModifiedDate   time.Time `json:"lastModifiedDate"`
	TemplateBody       string    `json:"templateBody"`
	InputFileBucket    string    `json:"inputFileBucket"`
	InputFileKey       string    `json:"inputFileKey"`
	RoleARN            string    `json:"roleArn"`
	Status             string    `json:"status"`
	Message            string    `json:"message,omitempty"`
	SuccessCount       int32     `json:"successCount"`
	FailureCount       int32     `json:"failureCount"`
	PercentageProgress int32     `json:"percentageProgress"`
}

// DescribeThingRegistrationTask tells how a task stands.
func (b *IoT) DescribeThingRegistrationTask(ctx context.Context, in *ThingRegistrationTaskInput) (*DescribeThingRegistrationTaskOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, opDescribeTask, "", in.check, func(time.Time) (*DescribeThingRegistrationTaskOutput, *task.Error) {
		r, err := b.findTask(in.TaskID)
		if err != nil {
			return nil, err
		}
		return &DescribeThingRegistrationTaskOutput{
			TaskID: r.id, CreationDate: stamp(r.created), LastModifiedDate: stamp(r.modified), TemplateBody: r.templateBody,
			InputFileBucket: r.bucket, InputFileKey: r.key, RoleARN: r.roleARN, Status: string(r.status), Message: cutMessage(r.message),
			SuccessCount: int32(r.succeeded.n), FailureCount: int32(len(r.failed)), PercentageProgress: int32(b.percent(r)),
		}, nil
	})
}

// percent is how much of a task is done. 100 means that all of it is.
func (b *IoT) percent(r *registration) int64 {
	switch {
	case r.status == task.Completed:
		return 100
	case r.total == 0:
		return 0
	}
	p := r.next * 100 / r.total
	return p - p%int64(b.opts.PercentStep)
}

// cutMessage keeps a task's message within the 2,048 characters of the model.
func cutMessage(s string) string {
	const most = 2048
	if len(s) > most {
		s = string([]rune(s)[:min(most, len([]rune(s)))])
	}
	return s
}

func (b *IoT) findTask(id string) (*registration, *task.Error) {
	r, ok := b.st.tasks.get(id)
	if !ok {
		return nil, refuse(codeNotFound, "Task %s not found", cutValue(id))
	}
	return r, nil
}

// ListThingRegistrationTasksInput is the request of ListThingRegistrationTasks.
type ListThingRegistrationTasksInput struct {
	NextToken  string `json:"nextToken,omitempty"`
	MaxResults *int32 `json:"maxResults,omitempty"`
	Status     string `json:"status,omitempty"`
}

// ListThingRegistrationTasksOutput is the answer to ListThingRegistrationTasks.
type ListThingRegistrationTasksOutput struct {
	TaskIDs   []string `json:"taskIds"`
	NextToken string   `json:"nextToken,omitempty"`
}

// ListThingRegistrationTasks lists task ids, newest first.
func (b *IoT) ListThingRegistrationTasks(ctx context.Context, in *ListThingRegistrationTasksInput) (*ListThingRegistrationTasksOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.page("maxResults", in.MaxResults)
		c.oneOf("status", in.Status, string(task.InProgress), string(task.Completed), string(task.Failed), string(task.Cancelled), string(task.Cancelling))
	}
	return invoke(ctx, b, opListTasks, "", check, func(time.Time) (*ListThingRegistrationTasksOutput, *task.Error) {
		from, err := numberOf(in.NextToken, "nextToken")
		if err != nil {
			return nil, err
		}
		rows := b.st.tasks.before(from)
		if b.opts.OldestFirst {
			rows = b.st.tasks.after(from)
		}
		page, next := pageOf(filter(rows, func(r *registration) bool {
			return in.Status == "" || in.Status == string(r.status)
		}), b.size(in.MaxResults))
		out := &ListThingRegistrationTasksOutput{TaskIDs: make([]string, 0, len(page)), NextToken: next}
		for _, r := range page {
			out.TaskIDs = append(out.TaskIDs, r.id)
		}
		return out, nil
	})
}

// StopThingRegistrationTaskOutput is the answer to StopThingRegistrationTask.
type StopThingRegistrationTaskOutput struct{}

// StopThingRegistrationTask asks a task to stop. Lines that are done stay done.
func (b *IoT) StopThingRegistrationTask(ctx context.Context, in *ThingRegistrationTaskInput) (*StopThingRegistrationTaskOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, opStopTask, "", in.check, func(now time.Time) (*StopThingRegistrationTaskOutput, *task.Error) {
		r, err := b.findTask(in.TaskID)
		if err != nil {
			return nil, err
		}
		switch {
		case r.status.Done():
			if b.opts.StopEndedCode != "" {
				return nil, refuse(b.opts.StopEndedCode, "Task %s has ended as %s", r.id, r.status)
			}
		case r.stopped.IsZero():
			r.stopped, r.modified, r.status = now, now, task.Cancelling
			if b.opts.StopDelay == 0 {
				b.end(r, task.Cancelled, "", now)
			}
		}
		return &StopThingRegistrationTaskOutput{}, nil
	})
}

// DescribeTask returns a task as it is now. See [task.Service].
func (b *Backend) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	out, err := b.DescribeThingRegistrationTask(ctx, &ThingRegistrationTaskInput{string(id)})
	if err != nil {
		return nil, err
	}
	return &task.Description{
		ID: task.ID(out.TaskID), Status: task.Status(out.Status), Message: out.Message,
		Succeeded: int(out.SuccessCount), Failed: int(out.FailureCount), Percent: int(out.PercentageProgress),
		Created: out.CreationDate, LastModified: out.LastModifiedDate, TemplateBody: out.TemplateBody,
		InputFileBucket: out.InputFileBucket, InputFileKey: out.InputFileKey, RoleARN: out.RoleARN,
	}, nil
}

// ListTasks returns one page of task ids. See [task.Service].
func (b *Backend) ListTasks(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
	in = orZero(in)
	list := &ListThingRegistrationTasksInput{NextToken: in.Token, Status: string(in.Status)}
	if in.MaxResults != 0 {
		list.MaxResults = new(int32(in.MaxResults))
	}
	out, err := b.ListThingRegistrationTasks(ctx, list)
	if err != nil {
		return nil, err
	}
	page := &task.TaskPage{NextToken: out.NextToken}
	for _, id := range out.TaskIDs {
		page.IDs = append(page.IDs, task.ID(id))
	}
	return page, nil
}

// StopTask asks a task to stop. See [task.Service].
func (b *Backend) StopTask(ctx context.Context, id task.ID) error {
	_, err := b.StopThingRegistrationTask(ctx, &ThingRegistrationTaskInput{string(id)})
	return err
}
