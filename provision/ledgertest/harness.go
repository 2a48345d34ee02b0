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
	// Open makes an empty ledger, a new one with each call. It is required.
	Open func(ctx context.Context) (provision.Ledger, error)
	// Reopen closes a ledger that Open or Reopen returned, and opens again what it left. Nil is for ledgers that keep nothing
	// when they are closed; the cases of durability are left out then.
	Reopen func(ctx context.Context, ledger provision.Ledger) (provision.Ledger, error)
}

// Case is one promise, and how it is tried.
type Case struct {
	Name        string // such as "apply/atomic"
	Explanation string // the rule, as the doc comments have it, and what depends on it
	Durable     bool   // the case needs Harness.Reopen

	try func(t *trial)
}

// rule is a row of the tables: a case's name, its explanation, and how it is tried on a new ledger.
type rule struct {
	name, explanation string
	try               func(t *trial)
}

// Cases lists all cases, in the order in which they are best looked at when several fail.
func Cases() []Case {
	var list []Case
	add := func(durable bool, rules ...rule) {
		for _, r := range rules {
			list = append(list, Case{r.name, r.explanation, durable, r.try})
		}
	}
	add(false, slices.Concat(recordCases, applyCases, deviceCases, findCases, listCases, contextCases, concurrentCases)...)
	add(true, durableCases...)
	return list
}

// Check tries a case on new ledgers. The error holds what was seen, and explains the rule. Check gives up when the context
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
	t := &trial{ctx: ctx, harness: h}
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
	t.new()
	c.try(t)
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

// trial is one run of a case, on a ledger of its own. Its methods end the case when something is not as it should be: they
// panic with a failure, which Case.run recovers. So a case calls them from its own goroutine only.
type trial struct {
	ctx     context.Context
	harness Harness
	l       provision.Ledger
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

// new goes on with a new ledger.
func (t *trial) new() {
	var err error
	t.l, err = t.harness.Open(t.ctx)
	t.ok(err, "opening a ledger")
	t.open = append(t.open, t.l)
}

func (t *trial) reopen() {
	again, err := t.harness.Reopen(t.ctx, t.l)
	t.ok(err, "opening the ledger again")
	t.open[slices.Index(t.open, t.l)], t.l = again, again
}

func (t *trial) apply(c provision.Change) { t.ok(t.l.Apply(t.ctx, c), "Apply") }

func (t *trial) add(list ...*provision.DeviceRecord) { t.apply(provision.Change{Add: list}) }

func (t *trial) replace(list ...*provision.DeviceRecord) { t.apply(provision.Change{Devices: list}) }

// refused applies a change that must not go through, and sees that the ledger is as it was.
func (t *trial) refused(c provision.Change, why string) {
	before := t.state()
	if err := t.l.Apply(t.ctx, c); err == nil {
		t.failf("Apply took a change with %s", why)
	}
	t.equal(before, t.state(), "after a change that was refused because of "+why)
}

func (t *trial) run() *provision.RunRecord {
	r, err := t.l.Run(t.ctx)
	t.ok(err, "Run")
	return r
}

func (t *trial) parts() []*provision.PartRecord {
	list, err := t.l.Parts(t.ctx)
	t.ok(err, "Parts")
	return list
}

func (t *trial) orphans() []*provision.Orphan {
	list, err := t.l.Orphans(t.ctx)
	t.ok(err, "Orphans")
	return list
}

// devices reads what a filter lets through.
func (t *trial) devices(f provision.DeviceFilter) []*provision.DeviceRecord {
	var list []*provision.DeviceRecord
	for d, err := range t.l.Devices(t.ctx, f) {
		t.ok(err, "Devices")
		if d == nil {
			t.failf("Devices yielded neither a device nor an error")
		}
		list = append(list, d)
	}
	return list
}

func (t *trial) seqs(f provision.DeviceFilter) []int64 {
	list := []int64{}
	for _, d := range t.devices(f) {
		list = append(list, d.Seq)
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

func (t *trial) state() state {
	s := state{Devices: t.devices(provision.DeviceFilter{}), Parts: t.parts(), Orphans: t.orphans()}
	if r, err := t.l.Run(t.ctx); !errors.Is(err, provision.ErrNoRun) {
		t.ok(err, "Run")
		s.Run = r
	}
	return s
}
