package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// Harness makes the ledgers that the cases try.
type Harness struct {
	// Open gives an empty ledger, a new one with each call. It is required.
	Open func(ctx context.Context) (provision.Ledger, error)
	// Reopen closes a ledger that Open or Reopen gave, and opens again what it left. Nil is for ledgers that keep nothing
	// when they are closed; the cases of durability are left out then.
	Reopen func(ctx context.Context, ledger provision.Ledger) (provision.Ledger, error)
}

// Case is one promise, and how it is tried.
type Case struct {
	Name        string // such as "apply/atomic"
	Explanation string // the rule, as the doc comments have it, and what depends on it
	Durable     bool   // the case needs Harness.Reopen

	try func(ctx context.Context, t *trial)
}

// Cases lists all cases, in the order in which they are best looked at when several fail.
func Cases() []Case {
	return slices.Concat(recordCases, applyCases, deviceCases, findCases, listCases, contextCases, concurrentCases, durableCases)
}

// Check tries a case on new ledgers. The error says what was seen, and explains the rule. Check gives up when the context
// ends; what hangs then is left hanging.
func (c Case) Check(ctx context.Context, h Harness) error {
	if h.Open == nil {
		return errors.New("ledgertest: the Harness has no Open")
	}
	if c.Durable && h.Reopen == nil {
		return fmt.Errorf("ledgertest: case %s needs a Harness with Reopen", c.Name)
	}
	done := make(chan error, 1)
	go func() { done <- c.run(ctx, h) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("the case did not end: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("%s: %w\nThe rule: %s", c.Name, err, c.Explanation)
	}
	return nil
}

func (c Case) run(ctx context.Context, h Harness) (err error) {
	t := &trial{harness: h}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.err
		default:
			panic(r)
		}
		for _, l := range t.open {
			if e := l.Close(); err == nil && e != nil {
				err = fmt.Errorf("closing the ledger: %w", e)
			}
		}
	}()
	c.try(ctx, t)
	return nil
}

// limit is how long a case may take within Run: far longer than any needs, shorter than the patience of go test.
const limit = time.Minute

// Run tries every case as a subtest. open is called once for each.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			h := open(t)
			if c.Durable && h.Reopen == nil {
				t.Skip("this ledger keeps nothing when it is closed")
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if err := c.Check(ctx, h); err != nil {
				t.Error(err)
			}
		})
	}
}

// trial is one run of a case. Its methods end the case when something is not as it should be: they panic with a failure,
// which Case.run recovers.
type trial struct {
	harness Harness
	open    []provision.Ledger
}

type failure struct{ err error }

func (t *trial) failf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func (t *trial) ok(err error, doing string) {
	if err != nil {
		t.failf("%s: %w", doing, err)
	}
}

// equal compares anything, times as instants, nil and empty alike.
func (t *trial) equal(want, got any, what string) {
	if d := diff(want, got); d != "" {
		t.failf("%s: %s", what, d)
	}
}

func (t *trial) new(ctx context.Context) provision.Ledger {
	l, err := t.harness.Open(ctx)
	t.ok(err, "opening a ledger")
	t.open = append(t.open, l)
	return l
}

func (t *trial) reopen(ctx context.Context, l provision.Ledger) provision.Ledger {
	again, err := t.harness.Reopen(ctx, l)
	t.ok(err, "opening the ledger again")
	t.open[slices.Index(t.open, l)] = again
	return again
}

func (t *trial) apply(ctx context.Context, l provision.Ledger, c provision.Change) {
	t.ok(l.Apply(ctx, c), "Apply")
}

// refused applies a change that must not go through, and sees that the ledger is as it was.
func (t *trial) refused(ctx context.Context, l provision.Ledger, c provision.Change, why string) {
	before := t.state(ctx, l)
	if err := l.Apply(ctx, c); err == nil {
		t.failf("Apply took a change with %s", why)
	}
	t.equal(before, t.state(ctx, l), "after a change that was refused because of "+why)
}

// devices reads what a filter lets through.
func (t *trial) devices(ctx context.Context, l provision.Ledger, f provision.DeviceFilter) []*provision.DeviceRecord {
	var list []*provision.DeviceRecord
	for d, err := range l.Devices(ctx, f) {
		t.ok(err, "Devices")
		if d == nil {
			t.failf("Devices yielded neither a device nor an error")
		}
		list = append(list, d)
	}
	return list
}

func (t *trial) seqs(ctx context.Context, l provision.Ledger, f provision.DeviceFilter) []int64 {
	return seqsOf(t.devices(ctx, l, f))
}

func seqsOf(devices []*provision.DeviceRecord) []int64 {
	list := make([]int64, len(devices))
	for i, d := range devices {
		list[i] = d.Seq
	}
	return list
}

// state is everything that a ledger holds.
type state struct {
	Run     *provision.RunRecord
	Devices []*provision.DeviceRecord
	Parts   []*provision.PartRecord
	Orphans []*provision.Orphan
}

func (t *trial) state(ctx context.Context, l provision.Ledger) state {
	var (
		s   state
		err error
	)
	if s.Run, err = l.Run(ctx); !errors.Is(err, provision.ErrNoRun) {
		t.ok(err, "Run")
	} else {
		s.Run = nil
	}
	s.Devices = t.devices(ctx, l, provision.DeviceFilter{})
	s.Parts, err = l.Parts(ctx)
	t.ok(err, "Parts")
	s.Orphans, err = l.Orphans(ctx)
	t.ok(err, "Orphans")
	return s
}
