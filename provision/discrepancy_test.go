package provision_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// linkless lists no report.
type linkless struct{ task.Backend }

func (b linkless) Unwrap() task.Backend { return b.Backend }

func (linkless) ListReports(context.Context, task.ID, task.ReportType, string) (*task.ReportPage, error) {
	return &task.ReportPage{}, nil
}

// undercounting reports of a task that has ended only that so many lines are done, until it is asked once more after the
// given time.
type undercounting struct {
	task.Backend
	lines int
	lasts time.Duration
	since time.Time
}

func (b *undercounting) Unwrap() task.Backend { return b.Backend }

func (b *undercounting) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	d, err := b.Backend.DescribeTask(ctx, id)
	if err != nil || !d.Status.Done() {
		return d, err
	}
	if b.since.IsZero() {
		b.since = time.Now()
	}
	if time.Since(b.since) < b.lasts {
		d.Succeeded = min(d.Succeeded, b.lines)
	}
	return d, nil
}

// cut keeps so many lines of a report.
func cut(n int) func([]string) []string {
	return func(lines []string) []string { return lines[:min(n, len(lines))] }
}

func discrepancies(w *world) (told []provision.EventDiscrepancy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e, ok := e.(provision.EventDiscrepancy); ok {
			told = append(told, e)
		}
	}
	return told
}

func TestReportsOfAnotherFormAreToldAndTheDevicesReadBack(t *testing.T) {
	for name, c := range map[string]struct {
		backend func(task.Backend) task.Backend
		problem string
		waits   bool // the reports are read again, for that may help
	}{
		"CSV": {func(b task.Backend) task.Backend {
			return shuffled{b, func(lines []string) []string {
				for i := range lines {
					lines[i] = "device-1,arn:aws:iot\n"
				}
				return append([]string{"thingName,thingArn\n"}, lines...)
			}}
		}, "not in AWS's form", false},
		"a page": {func(b task.Backend) task.Backend {
			return shuffled{b, func([]string) []string { return []string{"<!DOCTYPE html>\n", "<html>log in</html>\n"} }}
		}, "a web page", false},
		"no links":        {func(b task.Backend) task.Backend { return linkless{b} }, "is empty or has no links", true},
		"two lines short": {func(b task.Backend) task.Backend { return shuffled{b, cut(3)} }, "holds 3 lines, the task counted 5", true},
		"a line is broken": {func(b task.Backend) task.Backend {
			return shuffled{b, func(l []string) []string { l[1] = "{\n"; return l }}
		}, "1 line of the reports can't be read", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.durable(t)
				w.opts.Backend = c.backend(w.fake)
				began := time.Now()
				run := w.run(t)
				summary, err := run.Run(t.Context(), rows(5))
				require.NoError(t, err)
				w.requireWorking(t, results(t, run))

				told := discrepancies(w)
				require.NotEmpty(t, told)
				for _, e := range told {
					assert.Contains(t, e.Problem, c.problem)
					assert.Equal(t, 1, e.Part)
					assert.NotEmpty(t, e.Task)
				}
				assert.Zero(t, told[len(told)-1].Until, "and that the devices are read back")
				assert.Equal(t, c.waits, !told[0].Until.IsZero())
				assert.Len(t, told, map[bool]int{false: 1, true: 2}[c.waits])
				if !c.waits {
					assert.Less(t, time.Since(began), 3*time.Minute)
				}
				require.Len(t, summary.Discrepancies, 1)
				assert.Contains(t, summary.Discrepancies[0], c.problem)
				assert.Contains(t, summary.String(), c.problem)
				m, err := run.Manifest(t.Context())
				require.NoError(t, err)
				assert.Contains(t, m.Parts[0].Discrepancy, c.problem)
			})
		})
	}
}

func TestADeviceThatIsNotFoundIsToldWhatWasWrongWithTheReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := typedWorld(t, fakebackend.Options{})
		w.durable(t)
		w.opts.Backend = shuffled{w.fake, func(lines []string) []string {
			for i := range lines {
				lines[i] = "a,b\n"
			}
			return append(lines, "c,d\n")
		}}
		run := w.incomplete(t, provision.Devices(ofType("a", "known"), ofType("b", "gone")))
		all := results(t, run)
		assert.Equal(t, provision.Provisioned, all[0].Verdict)
		assert.Equal(t, provision.CauseTask, all[1].Cause)
		assert.Contains(t, all[1].Message, "not in AWS's form")
		assert.Contains(t, all[1].Message, `"a,b`)
		assert.NotContains(t, all[1].Message, "the task counted", "the count is a consequence")
	})
}

func TestATaskThatIsCompletedTooEarlyIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		w.opts.Backend = &undercounting{Backend: shuffledUntil{w.fake, time.Now().Add(4 * time.Minute), cut(1)}, lines: 1, lasts: 4 * time.Minute}
		run := w.run(t)
		summary, err := run.Run(t.Context(), rows(8))
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
		assert.Empty(t, summary.Discrepancies, "in the end all was there")
		told := discrepancies(w)
		require.NotEmpty(t, told)
		assert.Contains(t, told[0].Problem, "has counted 1 registered and 0 refused of 8 lines")
		assert.False(t, told[0].Until.IsZero())
		m, err := run.Manifest(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 8, m.Parts[0].Succeeded)
	})
}

func TestATaskThatStaysCompletedTooEarlyIsGivenUpAndItsDevicesAreReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		w.opts.Backend = &undercounting{Backend: shuffled{w.fake, cut(1)}, lines: 1, lasts: 24 * time.Hour}
		began := time.Now()
		run := w.run(t)
		summary, err := run.Run(t.Context(), rows(8))
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
		assert.Less(t, time.Since(began), 20*time.Minute)
		require.Len(t, summary.Discrepancies, 1)
		assert.Contains(t, summary.Discrepancies[0], "1 registered and 0 refused of 8 lines")
	})
}

// shuffledUntil edits reports until a moment.
type shuffledUntil struct {
	task.Backend
	until time.Time
	edit  func([]string) []string
}

func (s shuffledUntil) Unwrap() task.Backend { return s.Backend }

func (s shuffledUntil) Open(ctx context.Context, l task.Link, offset int64) (io.ReadCloser, error) {
	if time.Now().After(s.until) {
		return s.Backend.Open(ctx, l, offset)
	}
	return shuffled{s.Backend, s.edit}.Open(ctx, l, offset)
}

func TestTheTextOfADiscrepancyIsSafeToPrint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.opts.Backend = shuffled{w.fake, func([]string) []string { return []string{"\x1b[2J3 of 3 devices provisioned\n"} }}
		w.complete(t, rows(1))
		for _, e := range discrepancies(w) {
			assert.False(t, strings.ContainsAny(e.Problem, "\x1b\n"), "%q", e.Problem)
		}
		assert.NotEmpty(t, discrepancies(w))
	})
}

// refusedLinks refuses every link to a report.
type refusedLinks struct{ task.Backend }

func (b refusedLinks) Unwrap() task.Backend { return b.Backend }

func (refusedLinks) Open(context.Context, task.Link, int64) (io.ReadCloser, error) {
	return nil, &task.Error{Op: "GetObject", Code: "AccessDenied", Status: 403, Kind: task.ErrAccessDenied}
}

func TestReportsWhoseLinksAreRefusedStopTheRunAndLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		w.opts.Backend = refusedLinks{w.fake}
		_, err := w.run(t).Run(t.Context(), rows(3))
		require.ErrorIs(t, err, task.ErrAccessDenied)
		for _, what := range []string{"reading the results", "part 1, task", "30 days", "call it again"} {
			assert.ErrorContains(t, err, what)
		}
		w.opts.Backend = w.fake
		w.requireWorking(t, results(t, w.complete(t, rows(3))))
	})
}
