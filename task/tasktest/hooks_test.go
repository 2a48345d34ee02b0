package tasktest_test

import (
	"context"
	"crypto/rand"
	"io"

	"github.com/seed1ff6f450/iotfleet/task"
)

// hooks is a backend around another one that does some things otherwise. A nil hook leaves a method as it is; what the
// inner backend can do beyond the interface is found through Unwrap.
type hooks struct {
	task.Backend
	start    func(context.Context, *task.StartInput) (task.ID, error)
	describe func(context.Context, task.ID) (*task.Description, error)
	list     func(context.Context, *task.ListInput) (*task.TaskPage, error)
	reports  func(context.Context, task.ID, task.ReportType, string) (*task.ReportPage, error)
	stop     func(context.Context, task.ID) error
	upload   func(context.Context, *task.UploadInput) (*task.Object, error)
	open     func(context.Context, task.Link, int64) (io.ReadCloser, error)
}

func (h *hooks) Unwrap() task.Backend { return h.Backend }

func (h *hooks) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	if h.start != nil {
		return h.start(ctx, in)
	}
	return h.Backend.StartTask(ctx, in)
}

func (h *hooks) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	if h.describe != nil {
		return h.describe(ctx, id)
	}
	return h.Backend.DescribeTask(ctx, id)
}

func (h *hooks) ListTasks(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
	if h.list != nil {
		return h.list(ctx, in)
	}
	return h.Backend.ListTasks(ctx, in)
}

func (h *hooks) ListReports(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
	if h.reports != nil {
		return h.reports(ctx, id, kind, token)
	}
	return h.Backend.ListReports(ctx, id, kind, token)
}

func (h *hooks) StopTask(ctx context.Context, id task.ID) error {
	if h.stop != nil {
		return h.stop(ctx, id)
	}
	return h.Backend.StopTask(ctx, id)
}

func (h *hooks) Upload(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
	if h.upload != nil {
		return h.upload(ctx, in)
	}
	return h.Backend.Upload(ctx, in)
}

func (h *hooks) Open(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
	if h.open != nil {
		return h.open(ctx, link, offset)
	}
	return h.Backend.Open(ctx, link, offset)
}

// described changes the descriptions of a backend.
func described(b task.Backend, change func(d *task.Description)) task.Backend {
	return &hooks{Backend: b, describe: func(ctx context.Context, id task.ID) (*task.Description, error) {
		d, err := b.DescribeTask(ctx, id)
		if err == nil {
			change(d)
		}
		return d, err
	}}
}

// another lets a backend have one more task on the data file of a start with an error, or none, for which after is true.
func another(after func(err error) bool) func(b task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		var made task.Description
		return &hooks{
			Backend: b,
			start: func(ctx context.Context, in *task.StartInput) (task.ID, error) {
				id, err := b.StartTask(ctx, in)
				if after(err) {
					made = task.Description{ID: task.ID(rand.Text()), Status: task.Completed, InputFileBucket: in.InputFileBucket, InputFileKey: in.InputFileKey}
				}
				return id, err
			},
			list: func(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
				page, err := b.ListTasks(ctx, in)
				if err == nil && made.ID != "" && in.Token == "" && (in.Status == "" || in.Status == made.Status) {
					page.IDs = append(page.IDs, made.ID)
				}
				return page, err
			},
			describe: func(ctx context.Context, id task.ID) (*task.Description, error) {
				if id == made.ID {
					return new(made), nil
				}
				return b.DescribeTask(ctx, id)
			},
		}
	}
}
