package fakebackend

import (
	"context"
	"fmt"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// ListThingRegistrationTaskReports.
//
// Models: several files, presigned links that expire, files of the lines done so far while a task runs. Not modelled: the
// time AWS takes to write a report (see Options.ReportDelay) and links that end early with the session that signed them.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_ListThingRegistrationTaskReports.html

const opListReports = "ListThingRegistrationTaskReports"

// ListThingRegistrationTaskReportsInput is the request of ListThingRegistrationTaskReports.
type ListThingRegistrationTaskReportsInput struct {
	TaskID     string `json:"taskId"`
	ReportType string `json:"reportType"`
	NextToken  string `json:"nextToken,omitempty"`
	MaxResults *int32 `json:"maxResults,omitempty"`
}

// ListThingRegistrationTaskReportsOutput is the answer to ListThingRegistrationTaskReports.
type ListThingRegistrationTaskReportsOutput struct {
	ResourceLinks ReportLinks `json:"resourceLinks"`
	ReportType    string      `json:"reportType"`
	NextToken     string      `json:"nextToken,omitempty"`
}

// ReportLinks are presigned links. They show in no print, log or JSON; see [task.Link].
type ReportLinks []task.Link

// ListThingRegistrationTaskReports lists the links to a task's report files.
func (b *IoT) ListThingRegistrationTaskReports(ctx context.Context, in *ListThingRegistrationTaskReportsInput) (*ListThingRegistrationTaskReportsOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("taskId", in.TaskID, shapeTaskID)
		c.given("reportType", in.ReportType)
		c.oneOf("reportType", in.ReportType, string(task.ErrorsReport), string(task.ResultsReport))
		c.page("maxResults", in.MaxResults)
	}
	return invoke(ctx, b, opListReports, "", check, func(now time.Time) (*ListThingRegistrationTaskReportsOutput, *task.Error) {
		r, ok := b.st.tasks.get(in.TaskID)
		if !ok {
			return nil, refuse(b.opts.UnknownTaskReportsCode, "Task %s not found", cutValue(in.TaskID))
		}
		from, err := numberOf(in.NextToken, "nextToken")
		if err != nil {
			return nil, err
		}
		out := &ListThingRegistrationTaskReportsOutput{ResourceLinks: ReportLinks{}, ReportType: in.ReportType}
		kind := task.ReportType(in.ReportType)
		files := uint64(b.reportFiles(r, kind, now))
		size := uint64(b.size(in.MaxResults))
		for n := from; n < files && n < from+size; n++ {
			link, err := b.keys.Load().links.Presign("", b.reportBucket(), b.reportKey(r, kind, int(n)), now, b.opts.LinkLife)
			if err != nil {
				return nil, refuse(codeInternalFailure, "%v", err)
			}
			out.ResourceLinks = append(out.ResourceLinks, task.NewLink(link))
		}
		if from+size < files {
			out.NextToken = token(from + size)
		}
		return out, nil
	})
}

// reportFiles is how many files a report has now.
func (b *IoT) reportFiles(r *registration, kind task.ReportType, now time.Time) int {
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
func (b *IoT) reportBucket() string { return "aws-iot-btp-prod-" + b.opts.Region }

// reportKey is the key of a report's nth file, counting from 0: as in AWS's walkthrough for results.
func (b *IoT) reportKey(r *registration, kind task.ReportType, n int) string {
	return fmt.Sprintf("%s/%s/%s/%s-%d", b.opts.Account, r.id, reportFolder(kind), r.id, n+1)
}

func reportFolder(kind task.ReportType) string {
	if kind == task.ResultsReport {
		return "successful"
	}
	return "failed"
}

// ListReports returns one page of links to a task's report files. See [task.Service].
func (b *Backend) ListReports(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
	out, err := b.ListThingRegistrationTaskReports(ctx, &ListThingRegistrationTaskReportsInput{
		TaskID: string(id), ReportType: string(kind), NextToken: token,
	})
	if err != nil {
		return nil, err
	}
	return &task.ReportPage{Links: out.ResourceLinks, NextToken: out.NextToken}, nil
}
