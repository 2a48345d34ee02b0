package task

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
)

// reportLag is how long a report may stay behind the task's own counts before it is called incomplete: the list of
// links has been seen empty for a while after a task had ended.
const reportLag = time.Minute

// Results yields every line of the task's RESULTS report: the lines that were registered, over all pages and files.
//
// The report may be read at any time. Once the task has ended the number of lines is compared with its Succeeded count;
// a report that is still short a minute after it was first read to its end is an [*IncompleteReportError], the last
// thing yielded. While the task runs there is no such check: read it again after [Task.Wait].
//
// A link that has expired is asked for again and reading goes on at the same byte; a connection that drops is opened
// again at the same byte, until eight attempts in a row gave no byte. Memory is bounded by the longest line (1 MiB).
// A report that has more than twice the lines of the task and a thousand, more files than that, or 16 MiB without a line
// is not read to its end. A line that cannot be read is an item with Malformed set. See "Iterators" in the package
// documentation for the rest.
func (t *Task) Results(ctx context.Context) iter.Seq2[*Result, error] {
	return readTaskReport(ctx, t, ResultsReport, parseResult)
}

// Errors yields every line of the task's ERRORS report: the lines that were refused. It compares with the task's Failed
// count and otherwise works as [Task.Results] does.
func (t *Task) Errors(ctx context.Context) iter.Seq2[*LineError, error] {
	return readTaskReport(ctx, t, ErrorsReport, parseLineError)
}

func readTaskReport[T any](ctx context.Context, t *Task, kind ReportType, parse parser[T]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := streamReport(ctx, t, kind, parse, yield)
		if err == nil {
			return
		}
		if _, ok := errors.AsType[*IncompleteReportError](err); !ok { // whose text has all of this
			err = fmt.Errorf("read %s report of registration task %s: %w", kind, t.id, err)
		}
		var none T
		yield(none, err)
	}
}

// streamReport yields every line and returns what kept it from the end; nil when the consumer has broken off.
func streamReport[T any](ctx context.Context, t *Task, kind ReportType, parse parser[T], yield func(T, error) bool) error {
	d, err := retried(ctx, func() (*Description, error) { return t.describe(ctx) })
	if err != nil {
		return fmt.Errorf("describe the task: %w", err)
	}
	want := counted(d, kind)
	files := reportFiles{task: t, kind: kind, most: mostLines(d)}
	got := 0
	var broken error // why the report is not read to its end
	count := func(item T, err error) bool {
		if got++; got > files.most {
			if broken = files.recount(ctx, d, got); broken != nil {
				return false
			}
		}
		files.lineAt = files.offset
		return yield(item, err)
	}
	for {
		more, err := files.next(ctx)
		if err == nil && !more && d.Status.Done() && got < want {
			more, err = files.appear(ctx)
		}
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if goOn, err := files.read(ctx, func(r io.Reader, file int) (bool, error) {
			return parseLines(jsonline.NewLines(r, maxReportLine), file, parse, count)
		}); err != nil || !goOn {
			return cmp.Or(err, broken)
		}
	}
	if d.Status.Done() && got != want {
		return &IncompleteReportError{ID: t.id, Report: kind, Got: got, Want: want}
	}
	return nil
}

// reportFiles walks over the files of a report: every link of every page. A file is known by its page and its place on
// it, since the service lists the same files in the same order each time.
type reportFiles struct {
	task *Task
	kind ReportType
	loop tokenLoop

	listed bool   // page was asked for
	page   int    // 0-based number of the current page
	token  string // that gave it
	links  []Link // its links
	after  string // token of the page behind it
	taken  int    // links of the page that were taken; the last of them is the current file
	file   int    // 1-based number of the current file over all pages

	most   int   // lines that are read, and files, since each holds a line
	idle   int   // pages without a link in a row
	offset int64 // bytes of the current file that were read
	lineAt int64 // where in it the last line was yielded
}

// recount looks once more at a task whose report has more lines than it can have by the counts of d. They have grown if
// the task is running; else the error is an [*IncompleteReportError].
func (f *reportFiles) recount(ctx context.Context, d *Description, got int) error {
	if !d.Status.Done() {
		now, err := retried(ctx, func() (*Description, error) { return f.task.describe(ctx) })
		if err != nil {
			return fmt.Errorf("describe the task: %w", err)
		}
		if f.most = mostLines(now); got <= f.most {
			return nil
		}
		d = now
	}
	return &IncompleteReportError{ID: f.task.id, Report: f.kind, Got: got, Want: counted(d, f.kind)}
}

// counted returns how many lines the service has counted for a report.
func counted(d *Description, kind ReportType) int {
	if kind == ErrorsReport {
		return d.Failed
	}
	return d.Succeeded
}

// next goes to the next file. It returns false behind the last one.
func (f *reportFiles) next(ctx context.Context) (bool, error) {
	for {
		if !f.listed {
			if err := f.list(ctx); err != nil {
				return false, err
			}
		}
		if f.taken < len(f.links) {
			if f.file >= f.most {
				return false, fmt.Errorf("list report links: page %d: %w", f.page+1, errManyFiles)
			}
			f.taken++
			f.file++
			f.idle, f.offset, f.lineAt = 0, 0, 0
			return true, nil
		}
		if f.after == "" {
			return false, nil
		}
		if f.loop.repeats(f.after) {
			return false, fmt.Errorf("list report links: page %d: %w", f.page+1, errTokenLoop)
		}
		if f.idle++; f.idle >= maxIdlePages {
			return false, fmt.Errorf("list report links: page %d: %w", f.page+1, errIdlePages)
		}
		f.page, f.token, f.listed, f.taken = f.page+1, f.after, false, 0
	}
}

// appear waits until a file turns up behind the last one and goes to it. It returns false when none did in time.
func (f *reportFiles) appear(ctx context.Context) (bool, error) {
	deadline := time.Now().Add(reportLag)
	backoff := wait.Backoff{First: 200 * time.Millisecond, Max: 10 * time.Second}
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return false, nil
		}
		delay, _ := backoff.Next()
		if err := wait.Sleep(ctx, min(left, delay)); err != nil {
			return false, err
		}
		if err := f.list(ctx); err != nil {
			return false, err
		}
		if more, err := f.next(ctx); more || err != nil {
			return more, err
		}
	}
}

// list asks for the current page, for the first time or again.
func (f *reportFiles) list(ctx context.Context) error {
	page, err := f.fetch(ctx, f.token)
	if err != nil && f.listed && f.page > 0 && ctx.Err() == nil {
		// The page's token may have ended with its links: come to the page from the first one.
		page, err = f.walk(ctx)
	}
	if err != nil {
		return fmt.Errorf("list report links: page %d: %w", f.page+1, err)
	}
	f.listed, f.links, f.after = true, page.Links, page.NextToken
	return nil
}

func (f *reportFiles) fetch(ctx context.Context, token string) (*ReportPage, error) {
	return retried(ctx, func() (*ReportPage, error) {
		page, err := f.task.backend.ListReports(ctx, f.task.id, f.kind, token)
		if err == nil && page == nil {
			err = errors.New("the backend returned neither a page nor an error")
		}
		return page, err
	})
}

// walk fetches the current page by way of all before it.
func (f *reportFiles) walk(ctx context.Context) (*ReportPage, error) {
	page, token := (*ReportPage)(nil), ""
	for n := range f.page + 1 {
		if n > 0 && token == "" {
			return nil, fmt.Errorf("the report had more than %d pages before and has only %d now", f.page, n)
		}
		next, err := f.fetch(ctx, token)
		if err != nil {
			return nil, err
		}
		page = next
		f.token, token = token, page.NextToken
	}
	return page, nil
}

// read opens the current file and hands it to f as one stream, whatever happens to links and connections below.
func (f *reportFiles) read(ctx context.Context, use func(r io.Reader, file int) (bool, error)) (bool, error) {
	body := &reportBody{ctx: ctx, files: f, backoff: newBackoff()}
	defer body.close()
	goOn, err := use(body, f.file)
	if err != nil {
		return true, fmt.Errorf("file %d, byte %d: %w", f.file, body.offset, err)
	}
	return goOn, nil
}

// link returns the current file's link.
func (f *reportFiles) link() (Link, error) {
	if f.taken > len(f.links) {
		return Link{}, fmt.Errorf("the link expired and the new list has only %d links on page %d, not the %d it had",
			len(f.links), f.page+1, f.taken)
	}
	return f.links[f.taken-1], nil
}

// reportBody reads one report file to its end over as many connections and links as that takes.
type reportBody struct {
	ctx     context.Context
	files   *reportFiles
	open    io.ReadCloser // nil between connections
	offset  int64         // bytes read so far
	backoff *wait.Backoff
}

// Read returns every byte of the file once, in order.
func (b *reportBody) Read(p []byte) (int, error) {
	for {
		if b.ctx.Err() != nil {
			return 0, wait.ContextError(b.ctx)
		}
		if b.offset-b.files.lineAt > maxLineGap {
			return 0, errNoLines
		}
		n, err := b.try(p)
		b.offset += int64(n)
		b.files.offset = b.offset
		if n > 0 {
			b.backoff.Reset()
			if err != nil && err != io.EOF {
				b.close() // the next Read opens again behind what came
				err = nil
			}
			return n, err
		}
		if err == nil || err == io.EOF {
			return 0, err
		}
		b.close()
		if err := b.recover(err); err != nil {
			return 0, err
		}
	}
}

// try reads once, from a new connection if there is none.
func (b *reportBody) try(p []byte) (int, error) {
	if b.open == nil {
		link, err := b.files.link()
		if err != nil {
			return 0, err
		}
		open, err := b.files.task.backend.Open(b.ctx, link, b.offset)
		if err != nil {
			return 0, err
		}
		b.open = open
		n, err := open.Read(p)
		return n, dropped(err)
	}
	n, err := b.open.Read(p)
	return n, dropped(err)
}

// recover waits, and lists the links again if that is what is needed, so that the next try may succeed. It returns an
// error when no try can.
func (b *reportBody) recover(err error) error {
	expired := errors.Is(err, ErrLinkExpired)
	if !expired && !transient(err) && b.ctx.Err() == nil {
		return err
	}
	if err := pause(b.ctx, b.backoff, err); err != nil {
		return err
	}
	if expired {
		return b.files.list(b.ctx)
	}
	return nil
}

func (b *reportBody) close() {
	if b.open != nil {
		_ = b.open.Close() // everything wanted from it has been read
		b.open = nil
	}
}

// dropped marks an error in the middle of a body as worth another connection: whatever words the transport has for it,
// the service had already agreed to send the file.
func dropped(err error) error {
	if err == nil || err == io.EOF || permanent(err) || transient(err) {
		return err
	}
	return fmt.Errorf("%w: connection lost: %w", ErrUnavailable, err)
}
