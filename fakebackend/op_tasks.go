package fakebackend

import (
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/task"
)

// DescribeThingRegistrationTask, ListThingRegistrationTasks, StopThingRegistrationTask.
//
// Models: counts and percentage that move with the clock; tasks that are forgotten 30 days after they ended; stopping
// by way of Cancelling. Not modelled: a task that AWS itself breaks off.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_DescribeThingRegistrationTask.html

var taskOperations = []*operation{
	operationOf("DescribeThingRegistrationTask", "GET /thing-registration-tasks/{taskId}", (*account).describeThingRegistrationTask),
	listOf("ListThingRegistrationTasks", "GET /thing-registration-tasks", "taskIds", (*account).listThingRegistrationTasks),
	operationOf("StopThingRegistrationTask", "PUT /thing-registration-tasks/{taskId}/cancel", (*account).stopThingRegistrationTask),
}

// thingRegistrationTaskInput names a task: the request of DescribeThingRegistrationTask and StopThingRegistrationTask.
type thingRegistrationTaskInput struct {
	TaskID string `path:"taskId" is:"TaskId"`
}

type describeThingRegistrationTaskOutput struct {
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

// describeThingRegistrationTask reads how a task stands.
func (b *account) describeThingRegistrationTask(_ time.Time, in *thingRegistrationTaskInput) (*describeThingRegistrationTaskOutput, *task.Error) {
	r, err := b.findTask(in.TaskID)
	if err != nil {
		return nil, err
	}
	return b.described(r), nil
}

func (b *account) described(r *registration) *describeThingRegistrationTaskOutput {
	return &describeThingRegistrationTaskOutput{
		TaskID: r.id, CreationDate: stamp(r.created), LastModifiedDate: stamp(r.modified), TemplateBody: r.templateBody,
		InputFileBucket: r.bucket, InputFileKey: r.key, RoleARN: r.roleARN, Status: string(r.status), Message: cutMessage(r.message),
		SuccessCount: int32(r.succeeded.n), FailureCount: int32(len(r.failed)), PercentageProgress: int32(percent(r)),
	}
}

// percent is how much of a task is done. 100 means that all of it is.
func percent(r *registration) int64 {
	switch {
	case r.status == task.Completed:
		return 100
	case r.total == 0:
		return 0
	}
	return r.next * 100 / r.total
}

// cutMessage keeps a task's message within the 2,048 characters of the model.
func cutMessage(s string) string {
	const most = 2048
	if len(s) > most {
		s = string([]rune(s)[:min(most, len([]rune(s)))])
	}
	return s
}

func (b *account) findTask(id string) (*registration, *task.Error) {
	r, ok := b.st.tasks.get(id)
	if !ok {
		return nil, refuse(codeNotFound, "Task %s not found", restjson.Cut(id))
	}
	return r, nil
}

type listThingRegistrationTasksInput struct {
	byToken
	Status string `query:"status" is:"TaskStatus"`
}

// listThingRegistrationTasks lists task ids, newest first.
func (b *account) listThingRegistrationTasks(in *listThingRegistrationTasksInput, p *page) ([]string, *task.Error) {
	rows := filter(inOrder(&b.st.tasks, p, b.opts.OldestFirst), func(r *registration) bool {
		return in.Status == "" || in.Status == string(r.status)
	})
	return rowsOf(p, rows, func(r *registration) string { return r.id }), nil
}

// stopThingRegistrationTask asks a task to stop. Lines that are done stay done.
func (b *account) stopThingRegistrationTask(now time.Time, in *thingRegistrationTaskInput) (*nothing, *task.Error) {
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
	return nil, nil
}
