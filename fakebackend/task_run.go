package fakebackend

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// registration is a registration task.
//
// Its progress is a pure function of when it was started, of the clock, of its lines, of the rate and of the faults:
// nothing runs beside the callers. Line i is due at begin + shift + (i+1)/rate, and whoever next takes the turn does
// the lines that are due, in order, each at the time it was due. So the state seen at a given time is the same however
// often anybody looked before.
type registration struct {
	mark
	id           string
	templateBody string
	bucket, key  string
	roleARN      string
	status       task.Status
	message      string
	created      time.Time
	modified     time.Time
	ended        time.Time // zero until Done
	stopped      time.Time // zero unless Stop was called

	shift     time.Duration // by which faults have put off the lines from here on
	met       map[int]bool  // faults that the next line has met already
	total     int64         // lines in the data file
	next      int64         // lines done
	succeeded resultLog
	failed    []failedLine

	// What follows is dropped when the task ends. The data file is kept as it was when the task started.
	failure string // why it will fail once it begins; "" if it will not
	file    dataSource
	input   *lineReader
	program *template.Program
	session *iam.Session
	shared  *outcomeRest // of the line before, which most lines share
}

// How long a task may run, and how long it and its reports are kept after it ended.
const (
	taskLife      = 30 * day
	taskRetention = 30 * day
)

// failedLine is a line that was refused.
type failedLine struct {
	line    int64
	code    string
	message string
}

// settle brings the account up to now: it does the lines that are due, ends what is to end, and forgets what is too
// old. The caller holds the turn.
func (b *account) settle(ctx context.Context, now time.Time) error {
	if r := b.st.running; r != nil {
		if err := b.progress(ctx, r, now); err != nil {
			return err
		}
	}
	for r := range b.st.tasks.all() {
		// Tasks end in the order they were started, since only one runs at a time.
		if r.ended.IsZero() || now.Before(r.ended.Add(taskRetention)) {
			break
		}
		b.st.tasks.remove(r.id)
	}
	b.forgetClaims(now)
	return nil
}

// begin is when the first line is started.
func (b *account) begin(r *registration) time.Time { return r.created.Add(b.opts.StartDelay) }

// due is when the next line is done.
func (b *account) due(r *registration) time.Time {
	at := b.begin(r).Add(r.shift)
	if b.opts.Rate > 0 {
		since := float64(r.next+1) / b.opts.Rate * float64(time.Second)
		at = at.Add(time.Duration(min(since, math.MaxInt64/2)))
	}
	return at
}

// progress does the lines of a task that are due. When the context ends in the middle, what was done stays done, and
// the next to look goes on from there.
func (b *account) progress(ctx context.Context, r *registration, now time.Time) error {
	overdue := r.created.Add(taskLife)
	for {
		if !r.stopped.IsZero() {
			if at := r.stopped.Add(b.opts.StopDelay); !now.Before(at) {
				b.end(r, task.Cancelled, "", at)
			}
			return nil
		}
		if r.failure != "" {
			if at := b.begin(r); !now.Before(at) {
				b.end(r, task.Failed, r.failure, at)
			}
			return nil
		}
		if r.next >= r.total {
			at := r.modified
			if r.total == 0 {
				if at = b.begin(r); now.Before(at) {
					return nil
				}
			}
			b.end(r, task.Completed, "", at)
			return nil
		}
		var held hold
		at := b.due(r)
		if !now.Before(at) && at.Before(overdue) {
			if r.met == nil {
				r.met = make(map[int]bool)
			}
			if held = b.faults.hold(r.next+1, r.met); held.wait > 0 {
				r.shift += held.wait
				continue
			}
			if held.end != "" {
				b.end(r, task.Failed, held.end, at)
				return nil
			}
		}
		if held.hang || !at.Before(overdue) {
			if !now.Before(overdue) {
				b.end(r, task.Failed, "The task did not finish in time and was ended.", overdue)
			}
			return nil
		}
		if now.Before(at) {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		clear(r.met)
		b.doLine(r, at)
	}
}

// end sets a task's final status.
func (b *account) end(r *registration, status task.Status, message string, at time.Time) {
	r.status, r.message, r.ended = status, message, at
	r.modified = at
	r.file, r.input, r.program, r.session, r.shared, r.met = nil, nil, nil, nil, nil, nil
	r.failure = ""
	b.st.running = nil
	b.events.add(Event{Time: at, Kind: EventTaskEnded, TaskID: r.id, Text: r.summary()})
}

// summary tells how a task has ended.
func (r *registration) summary() string {
	text := fmt.Sprintf("%s: %d of %d lines registered, %d failed", r.status, r.succeeded.n, r.total, len(r.failed))
	if r.message != "" {
		text += "; " + r.message
	}
	if len(r.failed) > 0 {
		text += fmt.Sprintf("; line %d: %s", r.failed[0].line, r.failed[0].message)
	}
	return text
}

// doLine does the next line of a task, at the time it is due. Whatever is wrong with a line fails that line alone.
func (b *account) doLine(r *registration, at time.Time) {
	line, lineErr := r.input.next()
	b.changed = true
	r.next++
	r.modified = at
	if lineErr == nil && b.opts.LenientLines && line.Blank() {
		return // a blank line is in no report and no count
	}
	var made outcome
	if lineErr == nil {
		made, lineErr = b.registerLine(r, line, at)
	}
	if lineErr != nil {
		r.failed = append(r.failed, failedLine{r.next, lineErr.Code, lineErr.Message})
		return
	}
	r.succeeded.add(r.next, made, b.opts.LinesPerReport)
}

// registerLine reads one line and registers its device.
func (b *account) registerLine(r *registration, line jsonline.Line, at time.Time) (outcome, *task.Error) {
	if err := b.faults.line(StepParse, r.next, ""); err != nil {
		return outcome{}, err
	}
	row, err := parseLine(line, b.opts.LenientLines)
	if err != nil {
		return outcome{}, err
	}
	w := worker{b: b, at: at, task: r.id, line: r.next, session: r.session, shared: &r.shared}
	return w.register(r.program, row)
}
