package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed1ff6f450/iotfleet/provision"
)

func (t *trial) counts(ctx context.Context, l provision.Ledger, want provision.Counts, what string) {
	got, err := l.Counts(ctx)
	t.ok(err, "Counts")
	for v, n := range got.Verdicts { // a verdict that no device has may be there or not
		if n == 0 {
			delete(got.Verdicts, v)
		}
	}
	for v, n := range got.Causes {
		if n == 0 {
			delete(got.Causes, v)
		}
	}
	t.equal(want, *got, what)
}

// listCases: counts, parts and orphans.
var listCases = []Case{
	{
		Name: "counts/verdicts-and-causes",
		Explanation: "Counts returns the number of devices by verdict, and of those that are Failed by cause. They add up to " +
			"all devices, always: a run's verdict on itself is made of them.",
		try: func(ctx context.Context, t *trial) {
			l := t.new(ctx)
			t.counts(ctx, l, provision.Counts{}, "counts of an empty ledger")
			list := mixed()
			t.apply(ctx, l, provision.Change{Add: list})
			t.counts(ctx, l, counted(list), "counts of added devices")
			for i, d := range list {
				switch i % 3 {
				case 0:
					d.Verdict, d.Cause = provision.Failed, provision.CauseNone
				case 1:
					d.Verdict = provision.Provisioned // and keeps a cause, which does not count
				}
			}
			t.apply(ctx, l, provision.Change{Devices: list})
			t.counts(ctx, l, counted(list), "counts of replaced devices")
		},
	},
	{
		Name:        "parts/order",
		Explanation: "Parts returns all parts in order of Number, each once, however often and in which order they were applied.",
		try: func(ctx context.Context, t *trial) {
			l := t.new(ctx)
			for i, n := range []int{3, 12, 1, 3, 100, 2, 12, 1} {
				t.apply(ctx, l, provision.Change{Part: &provision.PartRecord{Number: n, Attempt: i}})
			}
			got, err := l.Parts(ctx)
			t.ok(err, "Parts")
			t.equal([]*provision.PartRecord{
				{Number: 1, Attempt: 7}, {Number: 2, Attempt: 5}, {Number: 3, Attempt: 3}, {Number: 12, Attempt: 6}, {Number: 100, Attempt: 4},
			}, got, "parts")
		},
	},
	{
		Name: "orphans/order",
		Explanation: "Orphans returns all orphans in the order they were first applied; one that is replaced keeps its place, " +
			"so the list of what has to be removed does not jump while it is worked off.",
		try: func(ctx context.Context, t *trial) {
			l := t.new(ctx)
			orphan := func(id string, seq int64) *provision.Orphan { return &provision.Orphan{CertificateID: id, Seq: seq} }
			t.apply(ctx, l, provision.Change{Orphans: []*provision.Orphan{orphan("c", 1), orphan("a", 2)}})
			t.apply(ctx, l, provision.Change{Orphans: []*provision.Orphan{orphan("d", 3)}})
			t.apply(ctx, l, provision.Change{Orphans: []*provision.Orphan{orphan("c", 4), orphan("b", 5), orphan("d", 6)}})
			t.apply(ctx, l, provision.Change{Orphans: []*provision.Orphan{orphan("e", 7), orphan("a", 8)}})
			got, err := l.Orphans(ctx)
			t.ok(err, "Orphans")
			t.equal([]*provision.Orphan{orphan("c", 4), orphan("a", 8), orphan("d", 6), orphan("b", 5), orphan("e", 7)}, got, "orphans")
		},
	},
}

func counted(list []*provision.DeviceRecord) provision.Counts {
	c := provision.Counts{Verdicts: map[provision.Verdict]int64{}, Causes: map[provision.Cause]int64{}}
	for _, d := range list {
		c.Verdicts[d.Verdict]++
		if d.Verdict == provision.Failed {
			c.Causes[d.Cause]++
		}
	}
	return c
}

// contextCases: one for each method.
var contextCases = func() []Case {
	methods := []struct {
		name string
		call func(context.Context, provision.Ledger) error
	}{
		{"Run", func(ctx context.Context, l provision.Ledger) error { _, err := l.Run(ctx); return err }},
		{"Apply", func(ctx context.Context, l provision.Ledger) error { return l.Apply(ctx, everything(3)) }},
		{"FindNames", func(ctx context.Context, l provision.Ledger) error {
			_, err := l.FindNames(ctx, []string{"device-1"})
			return err
		}},
		{"FindMatches", func(ctx context.Context, l provision.Ledger) error {
			_, err := l.FindMatches(ctx, []provision.Match{"key:00"})
			return err
		}},
		{"FindCertificates", func(ctx context.Context, l provision.Ledger) error {
			_, err := l.FindCertificates(ctx, []string{"certificate"})
			return err
		}},
		{"Counts", func(ctx context.Context, l provision.Ledger) error { _, err := l.Counts(ctx); return err }},
		{"Parts", func(ctx context.Context, l provision.Ledger) error { _, err := l.Parts(ctx); return err }},
		{"Orphans", func(ctx context.Context, l provision.Ledger) error { _, err := l.Orphans(ctx); return err }},
	}
	var list []Case
	for _, m := range methods {
		list = append(list, Case{
			Name: "cancelled/" + m.name,
			Explanation: "Every method honours its context: " + m.name + " fails when the context has ended, with the " +
				"context's cause, and leaves the ledger as it is.",
			try: func(ctx context.Context, t *trial) {
				l := t.begun(ctx)
				before := t.state(ctx, l)
				reason := errors.New("the operator went home")
				ended, cancel := context.WithCancelCause(ctx)
				cancel(reason)
				if err := m.call(ended, l); !errors.Is(err, reason) {
					t.failf("%s with a cancelled context: error %v, want one for %q", m.name, err, reason)
				}
				t.equal(before, t.state(ctx, l), "after the call")
				t.ok(m.call(ctx, l), m.name+" with a context that goes on")
			},
		})
	}
	return list
}()

// concurrentCases: many callers at once.
var concurrentCases = []Case{
	{
		Name: "concurrent/atomic",
		Explanation: "A Ledger must be safe for concurrent use, and Apply makes all of a change or nothing of it, also in the " +
			"eyes of somebody who reads at the same time.",
		try: func(ctx context.Context, t *trial) {
			const pairs, rounds = 8, 25
			l := t.new(ctx)
			t.apply(ctx, l, provision.Change{Add: devices(1, 2*pairs, nil)})
			var (
				writers, readers sync.WaitGroup
				mu               sync.Mutex
				first            error
			)
			report := func(err error) {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
			}
			over := make(chan struct{})
			for p := range int64(pairs) {
				writers.Go(func() {
					for i := range rounds {
						v := allVerdicts[(i+int(p))%len(allVerdicts)]
						both := devices(2*p+1, 2*p+2, func(d *provision.DeviceRecord) { d.Verdict, d.Attempts = v, i+1 })
						part := &provision.PartRecord{Number: int(p)*rounds + i + 1}
						if err := l.Apply(ctx, provision.Change{Devices: both, Part: part}); err != nil {
							report(fmt.Errorf("apply: %w", err))
							return
						}
					}
				})
			}
			for range 3 {
				readers.Go(func() {
					for {
						select {
						case <-over:
							return
						default:
						}
						if err := readAtOnce(ctx, l, 2*pairs); err != nil {
							report(err)
							return
						}
					}
				})
			}
			writers.Wait()
			close(over)
			readers.Wait()
			t.ok(first, "with many callers at once")
			for _, d := range t.devices(ctx, l, provision.DeviceFilter{}) {
				t.equal(rounds, d.Attempts, fmt.Sprintf("attempts of device %d", d.Seq))
			}
			parts, err := l.Parts(ctx)
			t.ok(err, "Parts")
			t.equal(pairs*rounds, len(parts), "number of parts")
		},
	},
	{
		Name:        "concurrent/add",
		Explanation: "A Ledger must be safe for concurrent use: of two that add the same numbers at once, one is refused.",
		try: func(ctx context.Context, t *trial) {
			const rounds, callers = 10, 4
			l := t.new(ctx)
			for r := range int64(rounds) {
				var (
					wg   sync.WaitGroup
					mu   sync.Mutex
					took int
				)
				for range callers {
					wg.Go(func() {
						if err := l.Apply(ctx, provision.Change{Add: devices(3*r+1, 3*r+3, nil)}); err == nil {
							mu.Lock()
							defer mu.Unlock()
							took++
						}
					})
				}
				wg.Wait()
				t.equal(1, took, "number of callers that could add the same devices")
			}
			t.equal(int64(3*rounds), int64(len(t.seqs(ctx, l, provision.DeviceFilter{}))), "number of devices")
		},
	},
}

// readAtOnce reads while others write pairs of devices; what it sees must be as between two changes.
func readAtOnce(ctx context.Context, l provision.Ledger, devices int64) error {
	c, err := l.Counts(ctx)
	if err != nil {
		return fmt.Errorf("counts: %w", err)
	}
	if c.Total() != devices {
		return fmt.Errorf("counts add up to %d of %d devices", c.Total(), devices)
	}
	for v, n := range c.Verdicts {
		if n%2 != 0 {
			return fmt.Errorf("%d devices are %s, but every change sets two of them: half a change was seen", n, v)
		}
	}
	last := int64(0)
	for d, err := range l.Devices(ctx, provision.DeviceFilter{}) {
		if err != nil {
			return fmt.Errorf("devices: %w", err)
		}
		if d.Seq != last+1 {
			return fmt.Errorf("device %d follows device %d", d.Seq, last)
		}
		last = d.Seq
	}
	if last != devices {
		return fmt.Errorf("devices yielded %d of %d", last, devices)
	}
	for _, err := range []error{second(l.Parts(ctx)), second(l.Orphans(ctx)), second(l.FindNames(ctx, []string{"device-1"}))} {
		if err != nil {
			return err
		}
	}
	return nil
}

func second[T any](_ T, err error) error { return err }

// durableCases: closing and opening again.
var durableCases = []Case{
	{
		Name:        "durable/everything",
		Explanation: "What a Ledger has returned nil for is durable: closed and opened again it holds everything, to the last field.",
		Durable:     true,
		try: func(ctx context.Context, t *trial) {
			l := t.begun(ctx)
			t.apply(ctx, l, whole())
			t.apply(ctx, l, provision.Change{Add: devices(5, 1500, nil), Orphans: []*provision.Orphan{{CertificateID: "certificate-0", Why: "later"}}})
			before := t.state(ctx, l)
			for range 3 {
				l = t.reopen(ctx, l)
				t.equal(before, t.state(ctx, l), "after opening it again")
				found, err := l.FindNames(ctx, []string{"device-5", "device-1500", "nobody"})
				t.ok(err, "FindNames")
				t.equal(map[string]int64{"device-5": 5, "device-1500": 1500}, found, "names after opening it again")
			}
		},
	},
	{
		Name:        "durable/goes-on",
		Explanation: "Seq must go on from the last one without a gap, also after the ledger was closed and opened again.",
		Durable:     true,
		try: func(ctx context.Context, t *trial) {
			l := t.reopen(ctx, t.new(ctx))
			t.equal(state{}, t.state(ctx, l), "an empty ledger, opened again")
			for i := range int64(4) {
				t.refused(ctx, l, provision.Change{Add: devices(3*i+2, 3*i+2, nil)}, "a gap")
				t.apply(ctx, l, everything(3*i))
				before := t.state(ctx, l)
				t.refused(ctx, l, provision.Change{Run: &provision.RunRecord{ID: "x"}, Part: &provision.PartRecord{}}, "part 0")
				l = t.reopen(ctx, l)
				t.equal(before, t.state(ctx, l), "after a refused change and opening it again")
			}
		},
	},
}
