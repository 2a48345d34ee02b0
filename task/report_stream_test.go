package task_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

// upTo is the line numbers 1 to n.
func upTo(n int) (out []int64) {
	for i := range n {
		out = append(out, int64(i+1))
	}
	return out
}

func TestResultsReadEveryFileOfEveryPageInOrder(t *testing.T) {
	s := &shelf{pages: [][]string{{resultLines(1, 2), resultLine(3)}, {}, {"", resultLines(4, 6)}}}
	b := &script{describe: ended(6, 0), reports: s.list, open: s.open}
	for range 2 { // each range reads anew
		lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		require.NoError(t, err)
		assert.Equal(t, upTo(6), lines)
	}
	assert.Equal(t, s.opened, s.closed, "every body is closed")
}

func TestErrorsAskForTheOtherReportAndCompareWithFailed(t *testing.T) {
	s := &shelf{pages: [][]string{{`{"lineNumber":1,"errorMessage":"no"}` + "\n"}}}
	b := &script{describe: ended(9, 1), open: s.open, reports: func(call int, kind task.ReportType, token string) (*task.ReportPage, error) {
		require.Equal(t, task.ErrorsReport, kind)
		return s.list(call, kind, token)
	}}
	var got []*task.LineError
	for e, err := range task.Attach(b, "t-1").Errors(t.Context()) {
		require.NoError(t, err)
		got = append(got, e)
	}
	require.Len(t, got, 1)
	assert.EqualError(t, got[0], "line 1: no")
}

func TestADroppedConnectionIsOpenedAgainAtTheSameByte(t *testing.T) {
	report := resultLines(1, 3)
	for _, drop := range []error{io.ErrUnexpectedEOF, errors.New("stream reset by peer"), &net.OpError{Op: "read", Err: errors.New("reset")}} {
		synctest.Test(t, func(t *testing.T) {
			for cut := range int64(len(report)) {
				s := &shelf{pages: [][]string{{report}}}
				b := &script{describe: ended(3, 0), reports: s.list}
				b.open = func(ctx context.Context, call int, link string, offset int64) (io.ReadCloser, error) {
					body, err := s.open(ctx, call, link, offset)
					if call == 1 {
						return cutAfter(body, cut, drop), err
					}
					assert.Equal(t, cut, offset)
					return body, err
				}
				lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
				require.NoError(t, err)
				require.Equal(t, upTo(3), lines, "cut at byte %d", cut)
				require.Equal(t, 2, s.closed)
			}
		})
	}
}

func TestAConnectionThatDropsWithItsLastBytesIsOpenedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{pages: [][]string{{resultLines(1, 3)}}}
		b := &script{describe: ended(3, 0), reports: s.list}
		b.open = func(ctx context.Context, call int, link string, offset int64) (io.ReadCloser, error) {
			body, err := s.open(ctx, call, link, offset)
			if call == 1 {
				cut := cutAfter(body, 50, io.ErrUnexpectedEOF)
				return struct {
					io.Reader
					io.Closer
				}{iotest.DataErrReader(cut), cut}, err
			}
			return body, err
		}
		start := time.Now()
		lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		require.NoError(t, err)
		assert.Equal(t, upTo(3), lines)
		assert.Equal(t, 2, b.openings)
		assert.Zero(t, time.Since(start), "there was progress, so nothing is waited for")
		assert.Equal(t, s.opened, s.closed)
	})
}

func TestAConnectionThatKeepsDroppingGoesOnAsLongAsThereIsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{pages: [][]string{{resultLines(1, 20)}}}
		b := &script{describe: ended(20, 0), reports: s.list}
		b.open = func(ctx context.Context, call int, link string, offset int64) (io.ReadCloser, error) {
			body, err := s.open(ctx, call, link, offset)
			return cutAfter(body, 10, io.ErrUnexpectedEOF), err
		}
		lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "at the end of the file no byte can come any more")
		assert.Equal(t, upTo(20), lines)
		assert.ErrorContains(t, err, "file 1")
	})
}

func TestAConnectionThatNeverGivesAByteIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{pages: [][]string{{resultLines(1, 2)}, {resultLine(3)}}}
		b := &script{describe: ended(3, 0), reports: s.list}
		refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		b.open = func(ctx context.Context, call int, link string, offset int64) (io.ReadCloser, error) {
			if link[0] == '1' {
				return nil, refused
			}
			return s.open(ctx, call, link, offset)
		}
		lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		assert.Equal(t, upTo(2), lines, "what was read stays good")
		require.ErrorIs(t, err, refused)
		assert.ErrorContains(t, err, "gave up after 8 attempts")
		assert.ErrorContains(t, err, "RESULTS report of registration task t-1")
		assert.Equal(t, 9, b.openings)
	})
}

func TestAnExpiredLinkIsListedAgainAndReadingGoesOnAtTheSameByteOfTheSameFile(t *testing.T) {
	report := [][]string{{resultLines(1, 2), resultLines(3, 4)}, {resultLines(5, 6), resultLines(7, 9)}}
	for name, tokensExpire := range map[string]bool{"page tokens last": false, "page tokens end with the links": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for cut := range int64(len(resultLine(7))) {
					s := &shelf{pages: report}
					tokens := "fresh"
					b := &script{describe: ended(9, 0)}
					b.reports = func(call int, kind task.ReportType, token string) (*task.ReportPage, error) {
						if tokensExpire && token != "" && tokens == "stale" {
							return nil, &task.Error{Code: "InvalidRequestException", Status: 400, Kind: task.ErrInvalidRequest}
						}
						if token == "" {
							tokens = "fresh"
						}
						return s.list(call, kind, token)
					}
					b.open = func(ctx context.Context, call int, link string, offset int64) (io.ReadCloser, error) {
						body, err := s.open(ctx, call, link, offset)
						if call == 4 { // the last file: the connection drops, and by then every link has expired
							s.generation++
							tokens = "stale"
							return cutAfter(body, cut, io.ErrUnexpectedEOF), err
						}
						return body, err
					}
					lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
					require.NoError(t, err)
					require.Equal(t, upTo(9), lines, "cut at byte %d", cut)
				}
			})
		})
	}
}

func TestAfterAWalkFromTheFirstPageTheNewTokenOfThePageIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{pages: [][]string{{resultLine(1)}, {resultLine(2)}, {resultLine(3)}}}
		b := &script{describe: ended(3, 0)}
		series := "old" // of tokens; those of another series are refused
		var asked []string
		b.reports = func(call int, kind task.ReportType, token string) (*task.ReportPage, error) {
			asked = append(asked, token)
			of, rest, _ := strings.Cut(token, "/")
			if token != "" && of != series {
				return nil, &task.Error{Code: "InvalidRequestException", Status: 400, Kind: task.ErrInvalidRequest}
			}
			page, err := s.list(call, kind, rest)
			if page.NextToken != "" {
				page.NextToken = series + "/" + page.NextToken
			}
			return page, err
		}
		b.open = func(ctx context.Context, call int, link string, offset int64) (io.ReadCloser, error) {
			switch call {
			case 3: // the last file: its link and every token have expired
				s.generation++
				series = "new"
			case 4: // its new link has expired too
				s.generation++
			}
			return s.open(ctx, call, link, offset)
		}
		lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		require.NoError(t, err)
		assert.Equal(t, upTo(3), lines)
		assert.Equal(t, []string{
			"", "old/page-1", "old/page-2", // on the way there
			"old/page-2", "", "new/page-1", "new/page-2", // refused, and so from the first page on
			"new/page-2", // good as it is
		}, asked)
	})
}

func TestLinksThatHaveExpiredBetweenFilesAreListedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{pages: [][]string{{resultLine(1), resultLine(2)}, {resultLine(3)}}}
		b := &script{describe: ended(3, 0), reports: s.list, open: s.open}
		var lines []int64
		for r, err := range task.Attach(b, "t-1").Results(t.Context()) {
			require.NoError(t, err)
			lines = append(lines, r.Line)
			s.generation++ // while the consumer takes its time
		}
		assert.Equal(t, upTo(3), lines)
	})
}

func TestALinkThatIsNeverAcceptedIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{pages: [][]string{{resultLine(1)}}}
		b := &script{describe: ended(1, 0), open: s.open}
		b.reports = func(call int, kind task.ReportType, token string) (*task.ReportPage, error) {
			page, err := s.list(call, kind, token)
			s.generation++ // expired as soon as it is given
			return page, err
		}
		lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		assert.Empty(t, lines)
		require.ErrorIs(t, err, task.ErrLinkExpired)
	})
}

func TestAFileThatANewListNoLongerHasIsAnError(t *testing.T) {
	for name, after := range map[string][][]string{
		"fewer links": {{resultLine(1)}, {}},
		"fewer pages": {{resultLine(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{pages: [][]string{{resultLine(1)}, {resultLine(2)}}}
				b := &script{describe: ended(2, 0), reports: s.list}
				b.open = func(ctx context.Context, call int, link string, offset int64) (io.ReadCloser, error) {
					if call == 2 {
						s.pages, s.generation = after, s.generation+1
					}
					return s.open(ctx, call, link, offset)
				}
				lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
				assert.Equal(t, upTo(1), lines)
				require.Error(t, err)
				assert.ErrorContains(t, err, "page 2")
			})
		})
	}
}

func TestAReportThatIsStillEmptyAfterTheEndIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		full := &shelf{pages: [][]string{{resultLine(1)}, {resultLine(2)}}}
		empty := &shelf{pages: [][]string{{}}}
		b := &script{describe: ended(2, 0), open: full.open}
		b.reports = func(call int, kind task.ReportType, token string) (*task.ReportPage, error) {
			if time.Since(start) < 40*time.Second {
				return empty.list(call, kind, token)
			}
			return full.list(call, kind, token)
		}
		lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		require.NoError(t, err)
		assert.Equal(t, upTo(2), lines)
	})
}

func TestALastFileThatComesLateIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &shelf{pages: [][]string{{resultLine(1)}}}
		b := &script{describe: ended(2, 0), open: s.open}
		b.reports = func(call int, kind task.ReportType, token string) (*task.ReportPage, error) {
			if time.Since(start) > 5*time.Second {
				s.pages = [][]string{{resultLine(1), resultLine(2)}}
			}
			return s.list(call, kind, token)
		}
		lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		require.NoError(t, err)
		assert.Equal(t, upTo(2), lines)
	})
}

func TestAnEmptyReportOfAnEndedTaskThatExpectsNoneIsFine(t *testing.T) {
	s := &shelf{pages: [][]string{{}}}
	b := &script{describe: ended(0, 3), reports: s.list}
	lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
	require.NoError(t, err)
	assert.Empty(t, lines)
	assert.Equal(t, 1, b.reported)
}

func TestAReportThatDiffersFromTheTasksCountIsIncomplete(t *testing.T) {
	for name, c := range map[string]struct {
		report    string
		want, got int
	}{
		"nothing":  {"", 2, 0},
		"too few":  {resultLines(1, 2), 3, 2},
		"too many": {resultLines(1, 3), 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &shelf{pages: [][]string{{c.report}}}
				b := &script{describe: ended(c.want, 0), reports: s.list, open: s.open}
				lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
				assert.Len(t, lines, c.got, "the lines there are come first")
				incomplete, ok := errors.AsType[*task.IncompleteReportError](err)
				require.True(t, ok, "%v", err)
				assert.Equal(t, task.IncompleteReportError{ID: "t-1", Report: task.ResultsReport, Got: c.got, Want: c.want}, *incomplete)
				assert.ErrorContains(t, err, "t-1")
			})
		})
	}
}

func TestAMalformedLineCountsAsALine(t *testing.T) {
	s := &shelf{pages: [][]string{{resultLine(1) + "oops\n" + resultLine(3)}}}
	b := &script{describe: ended(3, 0), reports: s.list, open: s.open}
	bad := 0
	for r, err := range task.Attach(b, "t-1").Results(t.Context()) {
		require.NoError(t, err)
		if r.Malformed != nil {
			bad++
			fault := r.Malformed
			require.NotNil(t, fault)
			assert.Equal(t, 1, fault.File)
			assert.ErrorContains(t, r.Malformed, "report file 1, line 2")
		}
	}
	assert.Equal(t, 1, bad)
}

func TestTheReportOfARunningTaskIsReadWithoutComparingCounts(t *testing.T) {
	s := &shelf{pages: [][]string{{resultLine(1)}}}
	b := &script{reports: s.list, open: s.open, describe: func(int) (*task.Description, error) {
		return &task.Description{Status: task.InProgress, Succeeded: 5}, nil
	}}
	lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
	require.NoError(t, err)
	assert.Equal(t, upTo(1), lines)
}

func TestPageTokensThatGoRoundInACircleAreNoticed(t *testing.T) {
	for _, length := range []int{1, 2, 3, 7, 100} {
		calls := 0
		b := &script{describe: ended(1, 0), reports: func(int, task.ReportType, string) (*task.ReportPage, error) {
			calls++
			return &task.ReportPage{NextToken: fmt.Sprint(calls % length)}, nil
		}}
		_, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		require.ErrorContains(t, err, "circle")
		assert.Less(t, calls, 5*length+5)
	}
}

func TestBreakingOutOfResultsClosesTheFile(t *testing.T) {
	s := &shelf{pages: [][]string{{resultLines(1, 2), resultLine(3)}}}
	b := &script{describe: ended(3, 0), reports: s.list, open: s.open}
	for _, err := range task.Attach(b, "t-1").Results(t.Context()) {
		require.NoError(t, err)
		break
	}
	assert.Equal(t, 1, s.opened)
	assert.Equal(t, 1, s.closed)
}

func TestTheEndOfTheContextIsYieldedAsTheLastError(t *testing.T) {
	shift := errors.New("the shift is over")
	t.Run("between items", func(t *testing.T) {
		s := &shelf{pages: [][]string{{resultLine(1), resultLine(2)}}}
		b := &script{describe: ended(2, 0), reports: s.list, open: s.open}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		var last error
		for r, err := range task.Attach(b, "t-1").Results(ctx) {
			if last = err; r != nil {
				cancel(shift)
			}
		}
		require.ErrorIs(t, last, shift)
		assert.ErrorIs(t, last, context.Canceled)
		assert.Equal(t, s.opened, s.closed)
	})
	t.Run("while waiting for a report", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &shelf{pages: [][]string{{}}}
			b := &script{describe: ended(2, 0), reports: s.list}
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(10*time.Second, func() { cancel(shift) })
			start := time.Now()
			_, err := numbers(task.Attach(b, "t-1").Results(ctx))
			require.ErrorIs(t, err, shift)
			assert.Equal(t, 10*time.Second, time.Since(start))
		})
	})
	t.Run("before the start", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(shift)
		_, err := numbers(task.Attach(&script{describe: ended(1, 0)}, "t-1").Results(ctx))
		require.ErrorIs(t, err, shift)
	})
}

func TestPassingFailuresOfListAndDescribeAreRepeatedAndOthersAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{pages: [][]string{{resultLine(1)}}}
		throttled := &task.Error{Code: "ThrottlingException", Status: 400, Kind: task.ErrThrottled}
		b := &script{open: s.open}
		b.describe = func(call int) (*task.Description, error) {
			if call < 5 {
				return nil, throttled
			}
			return ended(1, 0)(call)
		}
		b.reports = func(call int, kind task.ReportType, token string) (*task.ReportPage, error) {
			if call < 5 {
				return nil, throttled
			}
			return s.list(call, kind, token)
		}
		lines, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
		require.NoError(t, err)
		assert.Equal(t, upTo(1), lines)
	})
	denied := &task.Error{Code: "AccessDenied", Status: 403, Kind: task.ErrAccessDenied}
	b := &script{describe: ended(1, 0), reports: func(int, task.ReportType, string) (*task.ReportPage, error) { return nil, denied }}
	_, err := numbers(task.Attach(b, "t-1").Results(t.Context()))
	require.ErrorIs(t, err, task.ErrAccessDenied)
	assert.Equal(t, 1, b.reported)
}
