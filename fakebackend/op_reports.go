package fakebackend

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/task"
)

// ListThingRegistrationTaskReports.
//
// Models: several files, presigned links that expire, files of the lines done so far while a task runs. Not modelled:
// the time AWS takes to write a report (see Options.ReportDelay) and links that end early with the session that signed
// them.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_ListThingRegistrationTaskReports.html

var reportOperations = []*operation{
	listOf("ListThingRegistrationTaskReports", "GET /thing-registration-tasks/{taskId}/reports", "resourceLinks",
		(*account).listThingRegistrationTaskReports),
}

type listThingRegistrationTaskReportsInput struct {
	TaskID     string `path:"taskId" is:"TaskId"`
	ReportType string `query:"reportType" is:"ReportType" required:"true"`
	byToken
}

// listThingRegistrationTaskReports lists the links to a task's report files.
func (b *account) listThingRegistrationTaskReports(in *listThingRegistrationTaskReportsInput, p *page) ([]task.Link, *task.Error) {
	r, ok := b.st.tasks.get(in.TaskID)
	if !ok {
		return nil, refuse(b.opts.UnknownTaskReportsCode, "Task %s not found", restjson.Cut(in.TaskID))
	}
	kind := task.ReportType(in.ReportType)
	files := make([]int, b.reportFiles(r, kind, p.now))
	for n := range files {
		files[n] = n
	}
	var failed error
	links := itemsOf(p, files, func(n int) task.Link {
		link, err := b.keys.Load().links.Presign("", b.reportBucket(), b.reportKey(r, kind, n), p.now, b.opts.LinkLife)
		failed = errors.Join(failed, err)
		return task.NewLink(link)
	})
	if failed != nil {
		return nil, refuse(codeInternalFailure, "%v", failed)
	}
	p.beside = map[string]any{"reportType": in.ReportType}
	return links, nil
}

// reportFiles is how many files a report has now.
func (b *account) reportFiles(r *registration, kind task.ReportType, now time.Time) int {
	switch {
	case b.opts.NoReportsWhenCancelled && !r.stopped.IsZero():
		return 0
	case b.opts.ReportDelay > 0 && (r.ended.IsZero() || now.Before(r.ended.Add(b.opts.ReportDelay))):
		return 0
	case kind == task.ResultsReport:
		return len(r.succeeded.files)
	}
	return (len(r.failed) + b.opts.LinesPerReport - 1) / b.opts.LinesPerReport
}

// reportBucket is the bucket of AWS's that links lead to.
func (b *account) reportBucket() string { return "aws-iot-btp-prod-" + b.opts.Region }

// reportKey is the key of a report's nth file, counting from 0: as in AWS's walkthrough for results.
func (b *account) reportKey(r *registration, kind task.ReportType, n int) string {
	return fmt.Sprintf("%s/%s/%s/%s-%d", b.opts.Account, r.id, reportFolder(kind), r.id, n+1)
}

func reportFolder(kind task.ReportType) string {
	if kind == task.ResultsReport {
		return "successful"
	}
	return "failed"
}
