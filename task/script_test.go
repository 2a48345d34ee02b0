package task_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/seed1ff6f450/iotfleet/task"
)

// script is a backend that answers as a test tells it to. A nil function means that the call must not happen.
type script struct {
	start    func(*task.StartInput) (task.ID, error)
	describe func(call int) (*task.Description, error)
	list     func(*task.ListInput) (*task.TaskPage, error)
	reports  func(call int, kind task.ReportType, token string) (*task.ReportPage, error)
	stop     func(task.ID) error
	open     func(ctx context.Context, call int, link string, offset int64) (io.ReadCloser, error)

	mu                            sync.Mutex
	described, reported, openings int
}

var errUnscripted = errors.New("the test did not expect this call")

func (s *script) count(n *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
	return *n
}

func (s *script) StartTask(_ context.Context, in *task.StartInput) (task.ID, error) {
	if s.start == nil {
		return "", errUnscripted
	}
	return s.start(in)
}

func (s *script) DescribeTask(ctx context.Context, _ task.ID) (*task.Description, error) {
	if s.describe == nil {
		return nil, errUnscripted
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return s.describe(s.count(&s.described))
}

func (s *script) ListTasks(_ context.Context, in *task.ListInput) (*task.TaskPage, error) {
	if s.list == nil {
		return nil, errUnscripted
	}
	return s.list(in)
}

func (s *script) ListReports(_ context.Context, _ task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
	if s.reports == nil {
		return nil, errUnscripted
	}
	return s.reports(s.count(&s.reported), kind, token)
}

func (s *script) StopTask(_ context.Context, id task.ID) error {
	if s.stop == nil {
		return errUnscripted
	}
	return s.stop(id)
}

func (s *script) Upload(context.Context, *task.UploadInput) (*task.Object, error) {
	return nil, errUnscripted
}

func (s *script) Open(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
	if s.open == nil {
		return nil, errUnscripted
	}
	return s.open(ctx, s.count(&s.openings), link.URL(), offset)
}

// ended describes a completed task with these counts, whatever the call.
func ended(succeeded, failed int) func(int) (*task.Description, error) {
	return func(int) (*task.Description, error) {
		return &task.Description{ID: "t-1", Status: task.Completed, Succeeded: succeeded, Failed: failed, Percent: 100}, nil
	}
}

// shelf is a report of several pages of several files. A link is "page/place/generation".
type shelf struct {
	pages      [][]string // file contents by page
	generation int        // links of other generations have expired
	opened     int        // bodies opened
	closed     int        // bodies closed
}

func (s *shelf) list(_ int, _ task.ReportType, token string) (*task.ReportPage, error) {
	page := 0
	if token != "" {
		page, _ = strconv.Atoi(strings.TrimPrefix(token, "page-"))
	}
	out := &task.ReportPage{}
	if page >= len(s.pages) {
		return out, nil
	}
	for place := range s.pages[page] {
		out.Links = append(out.Links, task.NewLink(fmt.Sprintf("%d/%d/%d", page, place, s.generation)))
	}
	if page+1 < len(s.pages) {
		out.NextToken = fmt.Sprintf("page-%d", page+1)
	}
	return out, nil
}

func (s *shelf) open(_ context.Context, _ int, link string, offset int64) (io.ReadCloser, error) {
	var page, place, generation int
	if _, err := fmt.Sscanf(link, "%d/%d/%d", &page, &place, &generation); err != nil {
		return nil, err
	}
	if generation != s.generation {
		return nil, &task.Error{Op: "GetObject", Code: "AccessDenied", Message: "Request has expired", Status: 403, Kind: task.ErrLinkExpired}
	}
	s.opened++
	return &shelfBody{strings.NewReader(s.pages[page][place][offset:]), s}, nil
}

type shelfBody struct {
	io.Reader
	shelf *shelf
}

func (b *shelfBody) Close() error { b.shelf.closed++; return nil }

// cutAfter gives n bytes and then fails with err instead of going on.
func cutAfter(body io.ReadCloser, n int64, err error) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(body, n), failing{err}), body}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// resultLine is line n of a RESULTS report.
func resultLine(n int) string {
	return fmt.Sprintf(`{"lineNumber":%d,"response":{"CertificatePem":"pem %d\n","ResourceArns":{"thing":"arn:aws:iot:us-east-1:123456789012:thing/d%d"}}}`+"\n", n, n, n)
}

// resultLines are lines from first to last.
func resultLines(first, last int) string {
	var b bytes.Buffer
	for n := first; n <= last; n++ {
		b.WriteString(resultLine(n))
	}
	return b.String()
}

// numbers drains results to their line numbers and the terminal error.
func numbers(results func(func(*task.Result, error) bool)) (lines []int64, err error) {
	for r, e := range results {
		if e != nil {
			if err != nil {
				panic("a second terminal error")
			}
			err = e
			continue
		}
		if err != nil {
			panic("an item behind the terminal error")
		}
		lines = append(lines, r.Line)
	}
	return lines, err
}
