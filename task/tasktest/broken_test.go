package tasktest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/task/tasktest"
)

// breakage breaks one promise of a backend and, as far as that is possible, keeps the others.
type breakage struct {
	promise string // name of the case that defends it
	how     string
	wrap    func(b task.Backend) task.Backend
}

var errOdd = errors.New("something odd")

// breakages has at least one backend for every case. Those of the abilities are in broken_ability_test.go.
var breakages = slices.Concat(brokenBackends, brokenStarts, brokenTasks, brokenReports, brokenLines, brokenUploads, brokenReads, brokenAbilities)

func TestEveryBrokenPromiseIsFoundByItsCase(t *testing.T) {
	cases := map[string]tasktest.Case{}
	for _, c := range tasktest.Cases() {
		cases[c.Name] = c
	}
	for _, broken := range breakages {
		t.Run(broken.promise+"/"+broken.how, func(t *testing.T) {
			c, ok := cases[broken.promise]
			require.True(t, ok, "no such case")
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				err := c.Check(t.Context(), f.wrapped(broken.wrap(f.backend)))
				require.Error(t, err, "the case passes a backend that breaks: %s", c.Explanation)
				_, skipped := errors.AsType[*tasktest.SkipError](err)
				assert.False(t, skipped, "the case was skipped: %v", err)
			})
		})
	}
}

func TestEveryCaseHasABackendThatBreaksIt(t *testing.T) {
	broken := map[string]bool{}
	for _, b := range breakages {
		broken[b.promise] = true
	}
	for _, c := range tasktest.Cases() {
		assert.True(t, broken[c.Name], "nothing shows that %s can fail", c.Name)
	}
}

var brokenBackends = []breakage{
	{"backend/concurrent", "answers go to the wrong caller", func(b task.Backend) task.Backend {
		var mu sync.Mutex
		var last task.ID
		return &hooks{Backend: b, describe: func(ctx context.Context, id task.ID) (*task.Description, error) {
			mu.Lock()
			last = id
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			return b.DescribeTask(ctx, last)
		}}
	}},
	{"backend/context", "StartTask does not look at it", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, start: func(ctx context.Context, in *task.StartInput) (task.ID, error) {
			return b.StartTask(context.WithoutCancel(ctx), in)
		}}
	}},
	{"backend/context", "StartTask starts all the same", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, start: func(ctx context.Context, in *task.StartInput) (task.ID, error) {
			id, err := b.StartTask(context.WithoutCancel(ctx), in)
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			return id, err
		}}
	}},
	{"backend/context", "DescribeTask does not look at it", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, describe: func(ctx context.Context, id task.ID) (*task.Description, error) {
			return b.DescribeTask(context.WithoutCancel(ctx), id)
		}}
	}},
	{"backend/context", "ListTasks loses the cause", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, list: func(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return b.ListTasks(ctx, in)
		}}
	}},
	{"backend/context", "ListReports does not look at it", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, reports: func(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
			return b.ListReports(context.WithoutCancel(ctx), id, kind, token)
		}}
	}},
	{"backend/context", "StopTask does not look at it", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, stop: func(ctx context.Context, id task.ID) error { return b.StopTask(context.WithoutCancel(ctx), id) }}
	}},
	{"backend/context", "Upload does not look at it", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, upload: func(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
			return b.Upload(context.WithoutCancel(ctx), in)
		}}
	}},
	{"backend/context", "Open does not look at it", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, open: func(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
			return b.Open(context.WithoutCancel(ctx), link, offset)
		}}
	}},
	{"backend/deadline", "comes back late", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, describe: func(ctx context.Context, id task.ID) (*task.Description, error) {
			d, err := b.DescribeTask(ctx, id)
			if ctx.Err() != nil {
				time.Sleep(time.Minute)
			}
			return d, err
		}}
	}},
	{"backend/deadline", "loses the cause", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, describe: func(ctx context.Context, id task.ID) (*task.Description, error) {
			d, err := b.DescribeTask(ctx, id)
			if ctx.Err() != nil {
				err = errors.New("request timed out")
			}
			return d, err
		}}
	}},
	{"backend/errors", "only a sentinel", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, describe: func(ctx context.Context, id task.ID) (*task.Description, error) {
			d, err := b.DescribeTask(ctx, id)
			if errors.Is(err, task.ErrNotFound) {
				err = task.ErrNotFound
			}
			return d, err
		}}
	}},
	{"backend/errors", "no code", unknownTasks(&task.Error{Op: "DescribeThingRegistrationTask", Status: 404, Kind: task.ErrNotFound})},
	{"backend/errors", "no operation", unknownTasks(&task.Error{Code: "ResourceNotFoundException", Status: 404, Kind: task.ErrNotFound})},
	{"backend/errors", "a status as of a failure", unknownTasks(
		&task.Error{Op: "DescribeThingRegistrationTask", Code: "ResourceNotFoundException", Status: 500, Kind: task.ErrNotFound})},
	{"backend/errors", "no kind", unknownTasks(
		&task.Error{Op: "DescribeThingRegistrationTask", Code: "ResourceNotFoundException", Status: 404})},
}

// unknownTasks has an error of its own for tasks that DescribeTask does not find.
func unknownTasks(instead error) func(b task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		return &hooks{Backend: b, describe: func(ctx context.Context, id task.ID) (*task.Description, error) {
			d, err := b.DescribeTask(ctx, id)
			if errors.Is(err, task.ErrNotFound) {
				err = instead
			}
			return d, err
		}}
	}
}

// startErrors changes the errors of StartTask.
func startErrors(change func(error) error) func(b task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		return &hooks{Backend: b, start: func(ctx context.Context, in *task.StartInput) (task.ID, error) {
			id, err := b.StartTask(ctx, in)
			if err != nil {
				err = change(err)
			}
			return id, err
		}}
	}
}

// startInputs changes what StartTask is asked for.
func startInputs(change func(in *task.StartInput)) func(b task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		return &hooks{Backend: b, start: func(ctx context.Context, in *task.StartInput) (task.ID, error) {
			changed := *in
			change(&changed)
			return b.StartTask(ctx, &changed)
		}}
	}
}

// soundTemplate is one that every backend takes.
const soundTemplate = `{"Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "x"}}}}`

// noAnswerNoError takes a lost answer for a good one.
func noAnswerNoError(b task.Backend) task.Backend {
	return startErrors(func(err error) error {
		if !task.Refused(err) {
			return nil
		}
		return err
	})(b)
}

var brokenStarts = []breakage{
	{"start/once", "sends again when no answer came, and is refused because of the first", startErrors(func(err error) error {
		if !task.Refused(err) {
			return &task.Error{Op: "StartThingRegistrationTask", Code: "InvalidRequestException", Status: 400, Kind: task.ErrTaskRunning}
		}
		return err
	})},
	{"start/once", "gives no error when no answer came", noAnswerNoError},
	{"start/once", "waits for the first one to end and sends again", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, start: func(ctx context.Context, in *task.StartInput) (task.ID, error) {
			id, err := b.StartTask(ctx, in)
			if err != nil && !task.Refused(err) {
				time.Sleep(time.Minute)
				id, err = b.StartTask(ctx, in)
			}
			return id, err
		}}
	}},
	{"start/lost-before", "gives no error when no answer came", noAnswerNoError},
	{"start/lost-before", "calls a lost answer a refusal", startErrors(func(err error) error {
		if !task.Refused(err) {
			return &task.Error{Op: "StartThingRegistrationTask", Code: "RequestError", Status: 400}
		}
		return err
	})},
	{"start/slow", "loses the cause", startErrors(func(err error) error {
		if !task.Refused(err) {
			return errOdd
		}
		return err
	})},
	{"start/slow", "calls a lost answer a refusal", startErrors(func(err error) error {
		if !task.Refused(err) {
			return &task.Error{Op: "StartThingRegistrationTask", Code: "RequestCanceled", Status: 400, Err: err}
		}
		return err
	})},
	{"start/slow", "comes back late", startErrors(func(err error) error {
		time.Sleep(time.Minute)
		return err
	})},
	{"start/slow", "starts two tasks at once", func(b task.Backend) task.Backend {
		unanswered := func(err error) bool { return err != nil && !task.Refused(err) }
		return another(unanswered)(another(unanswered)(b))
	}},
	{"start/throttled", "does not say what it was", startErrors(func(err error) error {
		if errors.Is(err, task.ErrThrottled) {
			return errOdd
		}
		return err
	})},
	{"start/throttled", "starts all the same", another(func(err error) bool { return errors.Is(err, task.ErrThrottled) })},
	{"start/throttled", "calls the outcome unknown", startErrors(func(err error) error {
		if errors.Is(err, task.ErrThrottled) {
			return errors.Join(task.ErrOutcomeUnknown, err)
		}
		return err
	})},
	{"start/running", "another kind", startErrors(func(err error) error {
		if errors.Is(err, task.ErrTaskRunning) {
			return &task.Error{Op: "StartThingRegistrationTask", Code: "LimitExceededException", Status: 410, Kind: task.ErrLimitExceeded}
		}
		return err
	})},
	{"start/running", "no error", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, start: func(ctx context.Context, in *task.StartInput) (task.ID, error) {
			id, err := b.StartTask(ctx, in)
			if errors.Is(err, task.ErrTaskRunning) {
				page, err := b.ListTasks(ctx, &task.ListInput{Status: task.InProgress})
				if err != nil {
					return "", err
				}
				return page.IDs[0], nil
			}
			return id, err
		}}
	}},
	{"start/stopping", "another kind once it is stopped", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, start: func(ctx context.Context, in *task.StartInput) (task.ID, error) {
			id, err := b.StartTask(ctx, in)
			if page, listErr := b.ListTasks(ctx, &task.ListInput{Status: task.Cancelling}); err != nil && listErr == nil && len(page.IDs) > 0 {
				err = &task.Error{Op: "StartThingRegistrationTask", Code: "InvalidRequestException", Status: 400, Kind: task.ErrInvalidRequest}
			}
			return id, err
		}}
	}},
	{"start/bad-template", "takes what is not JSON", startInputs(func(in *task.StartInput) {
		if in.TemplateBody != "" && !json.Valid([]byte(in.TemplateBody)) {
			in.TemplateBody = soundTemplate
		}
	})},
	{"start/bad-template", "takes an empty one", startInputs(func(in *task.StartInput) {
		if in.TemplateBody == "" {
			in.TemplateBody = soundTemplate
		}
	})},
	{"start/bad-template", "takes a long one", startInputs(func(in *task.StartInput) {
		if len(in.TemplateBody) > 10240 {
			in.TemplateBody = strings.TrimSpace(in.TemplateBody)
		}
	})},
	{"start/missing-member", "has a role of its own", startInputs(func(in *task.StartInput) {
		if in.RoleARN == "" {
			in.RoleARN = fakeRole
		}
	})},
	{"start/missing-member", "another kind", startErrors(func(err error) error {
		if errors.Is(err, task.ErrInvalidRequest) {
			return &task.Error{Op: "StartThingRegistrationTask", Code: "InternalFailureException", Status: 500, Kind: task.ErrUnavailable}
		}
		return err
	})},
	{"start/refusal-leaves-nothing", "starts and refuses", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, start: func(ctx context.Context, in *task.StartInput) (task.ID, error) {
			id, err := b.StartTask(ctx, in)
			if errors.Is(err, task.ErrInvalidRequest) {
				sound := *in
				sound.TemplateBody = soundTemplate
				if _, err := b.StartTask(ctx, &sound); err != nil {
					return "", err
				}
			}
			return id, err
		}}
	}},
}

// listed changes the pages of ListTasks, and what is asked for before.
func listed(ask func(in *task.ListInput), change func(in task.ListInput, page *task.TaskPage)) func(b task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		return &hooks{Backend: b, list: func(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
			asked := *in
			if ask != nil {
				ask(&asked)
			}
			page, err := b.ListTasks(ctx, &asked)
			if err == nil && change != nil {
				change(*in, page)
			}
			return page, err
		}}
	}
}

// describing changes the descriptions of a backend.
func describing(change func(d *task.Description)) func(b task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return described(b, change) }
}

var brokenTasks = []breakage{
	{"describe/unknown", "another kind", unknownTasks(
		&task.Error{Op: "DescribeThingRegistrationTask", Code: "InvalidRequestException", Status: 400, Kind: task.ErrInvalidRequest})},
	{"describe/echo", "the key changes", describing(func(d *task.Description) { d.InputFileKey = "/" + d.InputFileKey })},
	{"describe/echo", "the bucket is left out", describing(func(d *task.Description) { d.InputFileBucket = "" })},
	{"describe/echo", "the role is its name", describing(func(d *task.Description) { _, d.RoleARN, _ = strings.Cut(d.RoleARN, "/") })},
	{"describe/echo", "the template's lines end otherwise", describing(func(d *task.Description) {
		d.TemplateBody = strings.ReplaceAll(d.TemplateBody, "\r\n", "\n")
	})},
	{"describe/echo", "the id is left out", describing(func(d *task.Description) { d.ID = "" })},
	{"describe/counts-never-fall", "every second count is old", func(b task.Backend) task.Backend {
		calls := 0
		return described(b, func(d *task.Description) {
			if calls++; calls%2 == 1 {
				d.Succeeded = 0
			}
		})
	}},
	{"describe/counts-within-lines", "an empty line behind the last counts", describing(func(d *task.Description) {
		if d.Status.Done() {
			d.Failed++
		}
	})},
	{"describe/counts-within-lines", "counts each line twice while it runs", describing(func(d *task.Description) {
		if !d.Status.Done() {
			d.Succeeded, d.Failed = 2*d.Succeeded+12, 2*d.Failed
		}
	})},
	{"describe/counts-within-lines", "leaves the last line out", describing(func(d *task.Description) {
		if d.Status.Done() {
			d.Failed--
		}
	})},
	{"describe/percent", "begins below nothing", describing(func(d *task.Description) {
		if !d.Status.Done() {
			d.Percent -= 100
		}
	})},
	{"describe/percent", "over the top while it runs", describing(func(d *task.Description) {
		if !d.Status.Done() {
			d.Percent += 101
		}
	})},
	{"describe/percent", "rounds down", describing(func(d *task.Description) { d.Percent = min(d.Percent, 99) })},
	{"describe/percent", "over the top", describing(func(d *task.Description) { d.Percent += 5 })},
	{"describe/ended-stays", "the date is that of the look", describing(func(d *task.Description) { d.LastModified = time.Now() })},
	{"describe/ended-stays", "forgets its counts", func(b task.Backend) task.Backend {
		seen := map[task.ID]int{}
		return described(b, func(d *task.Description) {
			if d.Status.Done() {
				if seen[d.ID]++; seen[d.ID] > 2 {
					d.Succeeded = 0
				}
			}
		})
	}},
	{"list/at-once", "shows a task later", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, list: func(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
			page, err := b.ListTasks(ctx, in)
			if err == nil {
				page.IDs = slices.DeleteFunc(page.IDs, func(id task.ID) bool {
					d, err := b.DescribeTask(ctx, id)
					return err == nil && time.Since(d.Created) < 5*time.Second
				})
			}
			return page, err
		}}
	}},
	{"list/each-once", "the next page begins with the last of this", func(b task.Backend) task.Backend {
		var last task.ID
		return listed(nil, func(in task.ListInput, page *task.TaskPage) {
			if in.Token != "" {
				page.IDs = append([]task.ID{last}, page.IDs...)
			}
			if len(page.IDs) > 0 {
				last = page.IDs[len(page.IDs)-1]
			}
		})(b)
	}},
	{"list/each-once", "the first of each page is lost", listed(nil, func(in task.ListInput, page *task.TaskPage) {
		if in.Token != "" {
			page.IDs = page.IDs[1:]
		}
	})},
	{"list/last-page", "the last page has the token of itself", func(b task.Backend) task.Backend {
		return listed(func(in *task.ListInput) { in.Token = strings.TrimPrefix(in.Token, "again ") },
			func(in task.ListInput, page *task.TaskPage) {
				if page.NextToken == "" {
					page.NextToken = "again " + strings.TrimPrefix(in.Token, "again ")
				}
			})(b)
	}},
	{"list/last-page", "empty pages follow without an end", listed(
		func(in *task.ListInput) {
			if strings.HasSuffix(in.Token, "+") {
				in.Token = "task-1" // behind the oldest
			}
		},
		func(in task.ListInput, page *task.TaskPage) {
			if page.NextToken == "" {
				page.NextToken = in.Token + "+"
			}
		})},
	{"list/page-size", "has a size of its own", listed(func(in *task.ListInput) { in.MaxResults = 250 }, nil)},
	{"list/status", "lists all", listed(func(in *task.ListInput) { in.Status = "" }, nil)},
	{"list/status", "lists none", listed(nil, func(in task.ListInput, page *task.TaskPage) {
		if in.Status == task.Completed {
			page.IDs = nil
		}
	})},
	{"stop/unknown", "no error", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, stop: func(ctx context.Context, id task.ID) error { _ = b.StopTask(ctx, id); return nil }}
	}},
	{"stop/cancelled", "does nothing", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, stop: func(context.Context, task.ID) error { return nil }}
	}},
	{"stop/cancelled", "never ends", describing(func(d *task.Description) {
		if d.Status == task.Cancelled {
			d.Status = task.Cancelling
		}
	})},
	{"stop/cancelled", "ends as failed", describing(func(d *task.Description) {
		if d.Status == task.Cancelled {
			d.Status = task.Failed
		}
	})},
	{"stop/keeps-lines", "a stopped task has no reports", func(b task.Backend) task.Backend {
		return &hooks{Backend: b, reports: func(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
			d, err := b.DescribeTask(ctx, id)
			if err == nil && d.Status == task.Cancelled {
				return &task.ReportPage{}, nil
			}
			return b.ListReports(ctx, id, kind, token)
		}}
	}},
	{"stop/keeps-lines", "takes the lines back", func(b task.Backend) task.Backend {
		return described(b, func(d *task.Description) {
			if d.Status == task.Cancelled {
				d.Succeeded = 0
			}
		})
	}},
	{"stop/ended", "cancels what has ended", func(b task.Backend) task.Backend {
		stopped := map[task.ID]bool{}
		inner := described(b, func(d *task.Description) {
			if stopped[d.ID] {
				d.Status = task.Cancelled
			}
		})
		return &hooks{Backend: inner, stop: func(ctx context.Context, id task.ID) error { stopped[id] = true; return b.StopTask(ctx, id) }}
	}},
}
