// Package suitetest is what the conformance suites of this module have in common: how a check ends, and how a case is
// tried within a context and as a subtest.
package suitetest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"testing"
	"time"
)

// failure ends a check: [Try] recovers it. So checks need no error of their own, and run without a testing.T.
type failure struct{ err error }

// Trial is one run of a check. Its methods end the check, so they are called from its own goroutine only.
type Trial struct{}

// End ends the check with an error.
func (Trial) End(err error) { panic(failure{err}) }

// Failf ends the check with what was seen.
func (t Trial) Failf(format string, args ...any) { t.End(fmt.Errorf(format, args...)) }

// OK ends the check with err, if there is one. doing words what was tried.
func (t Trial) OK(err error, doing ...string) {
	for _, d := range doing {
		if err != nil {
			err = fmt.Errorf("%s: %w", d, err)
		}
	}
	if err != nil {
		t.End(err)
	}
}

// Is ends the check unless err, which came of doing something, wraps what it should be.
func (t Trial) Is(err, want error, doing string) {
	if !errors.Is(err, want) {
		t.Failf("%s: want an error that wraps %q, got %v", doing, want, err)
	}
}

// Try runs a check and returns what it ended with. A panic, such as that of what is tried, becomes an error.
func Try(check func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			err = p.err
		default:
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	check()
	return nil
}

// Check runs a case. Its error has the case's name and the rule. When the context ends, Check gives up; what hangs then is
// left hanging.
func Check(ctx context.Context, name, rule string, run func() error) error {
	done := make(chan error, 1)
	go func() { done <- run() }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("the case did not end: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("%s: %w\nThe rule: %s", name, err, rule)
	}
	return nil
}

// limit is how long a case may take within Run: far longer than any needs, shorter than the patience of go test.
const limit = time.Minute

// Run tries a case as a subtest.
func Run(t *testing.T, name string, check func(ctx context.Context, t *testing.T) error) {
	t.Run(name, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		if err := check(ctx, t); err != nil {
			t.Error(err)
		}
	})
}
