package task_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// endless is a body without an end: the text over and over.
func endless(text string) io.ReadCloser { return io.NopCloser(&loopText{text: text}) }

type loopText struct {
	text string
	at   int
}

func (r *loopText) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.text[r.at%len(r.text)]
		r.at++
	}
	return len(p), nil
}

func TestAListOfTasksWithoutAnEndIsAnError(t *testing.T) {
	for name, ids := range map[string][]task.ID{"empty pages": nil, "the same page under a new token": {"t-1", "t-2"}} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			b := &script{list: func(*task.ListInput) (*task.TaskPage, error) {
				asked++
				return &task.TaskPage{IDs: ids, NextToken: fmt.Sprint("token-", asked)}, nil
			}}
			var last error
			for _, err := range task.List(t.Context(), b, "") {
				last = err
			}
			require.ErrorContains(t, last, "1000 pages in a row brought nothing new")
			assert.LessOrEqual(t, asked, 1001)
		})
	}
}

func TestAReportWithoutAnEndIsNotReadForEver(t *testing.T) {
	const lines = 3
	one := func(_ int, _ task.ReportType, _ string) (*task.ReportPage, error) {
		return &task.ReportPage{Links: []task.Link{task.NewLink("l")}}, nil
	}
	fresh := func(links ...string) func(int, task.ReportType, string) (*task.ReportPage, error) {
		return func(call int, _ task.ReportType, _ string) (*task.ReportPage, error) {
			page := &task.ReportPage{NextToken: fmt.Sprint("token-", call)}
			for _, l := range links {
				page.Links = append(page.Links, task.NewLink(l))
			}
			return page, nil
		}
	}
	opens := func(text string) func(context.Context, int, string, int64) (io.ReadCloser, error) {
		return func(context.Context, int, string, int64) (io.ReadCloser, error) { return endless(text), nil }
	}
	nothing := func(context.Context, int, string, int64) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("")), nil
	}
	for name, c := range map[string]struct {
		reports func(int, task.ReportType, string) (*task.ReportPage, error)
		open    func(context.Context, int, string, int64) (io.ReadCloser, error)
		text    string
		read    int // lines at most
	}{
		"lines":        {one, opens(resultLine(1)), "1007 lines", 2*lines + 1000},
		"damaged ones": {one, opens("no JSON\n"), "1007 lines", 2*lines + 1000},
		"blank lines":  {one, opens("\n"), "bytes came without a line", 0},
		"one line":     {one, opens("x"), "bytes came without a line", 0},
		"empty pages":  {fresh(), nil, "1000 pages in a row", 0},
		"empty files":  {fresh("a", "b"), nothing, "more files than the task has lines", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := &script{describe: ended(lines, 0), reports: c.reports, open: c.open}
			read, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
			require.ErrorContains(t, err, c.text)
			assert.Len(t, read, c.read)
		})
	}
}

func TestAReportThatHoldsEveryLineTwiceIsReadWhole(t *testing.T) {
	const lines = 2000
	s := shelf{pages: [][]string{{resultLines(1, lines), resultLines(1, lines)}}}
	b := &script{describe: ended(lines, 0), reports: s.list, open: s.open}
	read, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
	short, ok := errors.AsType[*task.IncompleteReportError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, []int{2 * lines, lines}, []int{short.Got, short.Want})
	assert.Len(t, read, 2*lines)
}

func TestAReportOfATaskThatGoesOnGrowsWithItsCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lines = 3000
		s := shelf{pages: [][]string{{resultLines(1, lines)}}}
		describe := func(call int) (*task.Description, error) {
			d := &task.Description{ID: "t-1", Status: task.InProgress}
			if call > 1 {
				d.Succeeded = lines
			}
			return d, nil
		}
		b := &script{describe: describe, reports: s.list, open: s.open}
		read, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		require.NoError(t, err)
		assert.Len(t, read, lines)
		assert.Equal(t, 2, b.described)
	})
}
