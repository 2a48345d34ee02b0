package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/seed1ff6f450/iotfleet/internal/suitetest"
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
	return suitetest.Check(ctx, c.Name, c.Explanation, func() error { return c.run(ctx, h) })
}

func (c Case) run(ctx context.Context, h Harness) error {
	t := &trial{ctx: ctx, harness: h}
	err := suitetest.Try(func() { t.new(); c.try(t) })
	for _, l := range t.open {
		if e := l.Close(); err == nil && e != nil {
			err = fmt.Errorf("closing the ledger: %w", e)
		}
	}
	return err
}

// Run tries every case as a subtest. open is called once for each.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, c := range Cases() {
		suitetest.Run(t, c.Name, func(ctx context.Context, t *testing.T) error {
			h := open(t)
			if c.Durable && h.Reopen == nil {
				t.Skip("this ledger keeps nothing when it is closed")
			}
			return c.Check(ctx, h)
		})
	}
}

// trial is one run of a case, on a ledger of its own.
type trial struct {
	suitetest.Trial
	ctx     context.Context
	harness Harness
	l       provision.Ledger
	open    []provision.Ledger
}

// equal compares anything, times as instants, nil and empty alike.
func (t *trial) equal(want, got any, what string) {
	if d := diff(want, got); d != "" {
		t.Failf("%s: %s", what, d)
	}
}

// new goes on with a new ledger.
func (t *trial) new() {
	var err error
	t.l, err = t.harness.Open(t.ctx)
	t.OK(err, "opening a ledger")
	t.open = append(t.open, t.l)
}

func (t *trial) reopen() {
	again, err := t.harness.Reopen(t.ctx, t.l)
	t.OK(err, "opening the ledger again")
	t.open[slices.Index(t.open, t.l)], t.l = again, again
}

func (t *trial) apply(c provision.Change) { t.OK(t.l.Apply(t.ctx, c), "Apply") }

func (t *trial) add(list ...*provision.DeviceRecord) { t.apply(provision.Change{Add: list}) }

func (t *trial) replace(list ...*provision.DeviceRecord) { t.apply(provision.Change{Devices: list}) }

// refused applies a change that must not go through, and sees that the ledger is as it was.
func (t *trial) refused(c provision.Change, why string) {
	before := t.state()
	if err := t.l.Apply(t.ctx, c); err == nil {
		t.Failf("Apply took a change with %s", why)
	}
	t.equal(before, t.state(), "after a change that was refused because of "+why)
}

func (t *trial) run() *provision.RunRecord {
	r, err := t.l.Run(t.ctx)
	t.OK(err, "Run")
	return r
}

func (t *trial) parts() []*provision.PartRecord {
	list, err := t.l.Parts(t.ctx)
	t.OK(err, "Parts")
	return list
}

func (t *trial) orphans() []*provision.Orphan {
	list, err := t.l.Orphans(t.ctx)
	t.OK(err, "Orphans")
	return list
}

// devices reads what a filter lets through.
func (t *trial) devices(f provision.DeviceFilter) []*provision.DeviceRecord {
	var list []*provision.DeviceRecord
	for d, err := range t.l.Devices(t.ctx, f) {
		t.OK(err, "Devices")
		if d == nil {
			t.Failf("Devices yielded neither a device nor an error")
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
		t.OK(err, "Run")
		s.Run = r
	}
	return s
}
