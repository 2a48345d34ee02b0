package tasktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/suitetest"
)

// Case is the check of one promise.
type Case struct {
	// Name is short and stable, such as start/running.
	Name string
	// Explanation quotes the promise from the documentation of package task, and adds what a breach would do to a
	// user.
	Explanation string

	check func(*bench)
}

// timeLimit bounds one case; the longest wait for a task of a few dozen lines.
const timeLimit = 10 * time.Minute

// Check runs the case. It returns nil when the promise is kept, a [*SkipError] when that could not be found out, and
// otherwise what was seen instead. It leaves no task in progress.
func (c Case) Check(ctx context.Context, h Harness) error {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	b := &bench{ctx: ctx, harness: h, backend: h.Backend()}
	err := suitetest.Try(func() { c.check(b) })
	return errors.Join(err, b.close(err != nil))
}

// Cases returns all cases, in the order of the interfaces they are about.
func Cases() []Case {
	return slices.Concat(backendCases(), startCases(), describeCases(), listCases(), reportCases(), lineCases(), stopCases(),
		uploadCases(), openCases(), abilityCases(), removeCases())
}

// Run runs every case as a subtest on a harness of its own and prints the explanation of each one that fails. A harness
// may register its clean-up with t.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			err := c.Check(t.Context(), newHarness(t))
			if err == nil {
				return
			}
			if skip, ok := errors.AsType[*SkipError](err); ok {
				t.Skip(skip.Reason)
			}
			t.Errorf("%v\n\nThe promise: %s", err, c.Explanation)
		})
	}
}

// quoted makes an explanation of the documented sentence and its reason.
func quoted(where, sentence, why string) string {
	return fmt.Sprintf("%s: “%s” %s", where, sentence, why)
}
