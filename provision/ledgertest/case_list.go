package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// counts reads the counts. A verdict or cause that no device has may be there or not.
func (t *trial) counts() *provision.Counts {
	c, err := t.l.Counts(t.ctx)
	t.OK(err, "Counts")
	maps.DeleteFunc(c.Verdicts, func(_ provision.Verdict, n int64) bool { return n == 0 })
	maps.DeleteFunc(c.Causes, func(_ provision.Cause, n int64) bool { return n == 0 })
	return c
}

// listCases: counts, parts and orphans.
var listCases = []rule{
	{"counts/verdicts-and-causes", "Counts returns the number of devices by verdict, and of those that are Failed by cause. They add up to " +
		"all devices, always: a run's verdict on itself is made of them.", func(t *trial) {
		t.equal(&provision.Counts{}, t.counts(), "counts of an empty ledger")
		list := mixed()
		t.add(list...)
		t.equal(counted(list), t.counts(), "counts of added devices")
		for i, d := range list {
			switch i % 3 {
			case 0:
				d.Verdict, d.Cause = provision.Failed, provision.CauseNone
			case 1:
				d.Verdict = provision.Provisioned // and keeps a cause, which does not count
			}
		}
		t.replace(list...)
		t.equal(counted(list), t.counts(), "counts of replaced devices")
	}},
	{"parts/order", "Parts returns all parts in order of Number, each once, however often and in which order they were applied.", func(t *trial) {
		for i, n := range []int{3, 12, 1, 3, 100, 2, 12, 1} {
			t.apply(provision.Change{Part: &provision.PartRecord{Number: n, Attempt: i}})
		}
		got := t.parts()
		t.equal([]*provision.PartRecord{
			{Number: 1, Attempt: 7}, {Number: 2, Attempt: 5}, {Number: 3, Attempt: 3}, {Number: 12, Attempt: 6}, {Number: 100, Attempt: 4},
		}, got, "parts")
	}},
	{"orphans/used", "Orphans whose certificate a device of Add or Devices has are forgotten, whenever they were applied. One that stays " +
		"is removed from the account, and with it the certificate of a device that works.", func(t *trial) {
		orphan := func(id string) *provision.Orphan { return &provision.Orphan{CertificateID: id} }
		t.apply(provision.Change{Orphans: []*provision.Orphan{orphan("a"), orphan("b"), orphan("c"), orphan("d"), orphan("")}})
		has := func(id string) func(*provision.DeviceRecord) {
			return func(d *provision.DeviceRecord) { d.CertificateID = id }
		}
		t.apply(provision.Change{Add: slices.Concat(devices(1, 1, has("b")), devices(2, 3, nil))})
		t.equal([]*provision.Orphan{orphan("a"), orphan("c"), orphan("d"), orphan("")}, t.orphans(), "orphans, when an added device has one's certificate")
		t.apply(provision.Change{Devices: devices(2, 2, has("c")), Orphans: []*provision.Orphan{orphan("c"), orphan("e")}})
		t.equal([]*provision.Orphan{orphan("a"), orphan("d"), orphan(""), orphan("e")}, t.orphans(), "orphans, when a changed device has one's certificate")
	}},
	{"orphans/order", "Orphans returns all orphans in the order they were first applied; one that is replaced keeps its place, " +
		"so the list of what has to be removed does not jump while it is worked off.", func(t *trial) {
		orphan := func(id string, seq int64) *provision.Orphan { return &provision.Orphan{CertificateID: id, Seq: seq} }
		t.apply(provision.Change{Orphans: []*provision.Orphan{orphan("c", 1), orphan("a", 2)}})
		t.apply(provision.Change{Orphans: []*provision.Orphan{orphan("d", 3)}})
		t.apply(provision.Change{Orphans: []*provision.Orphan{orphan("c", 4), orphan("b", 5), orphan("d", 6)}})
		t.apply(provision.Change{Orphans: []*provision.Orphan{orphan("e", 7), orphan("a", 8)}})
		t.equal([]*provision.Orphan{orphan("c", 4), orphan("a", 8), orphan("d", 6), orphan("b", 5), orphan("e", 7)}, t.orphans(), "orphans")
	}},
}

func counted(list []*provision.DeviceRecord) *provision.Counts {
	c := &provision.Counts{Verdicts: map[provision.Verdict]int64{}, Causes: map[provision.Cause]int64{}}
	for _, d := range list {
		c.Verdicts[d.Verdict]++
		if d.Verdict == provision.Failed {
			c.Causes[d.Cause]++
		}
	}
	return c
}

// contextCases: one for each method.
var contextCases = func() []rule {
	methods := []struct {
		name string
		call func(context.Context, provision.Ledger) error
	}{
		{"Run", func(ctx context.Context, l provision.Ledger) error { return errorOf(l.Run(ctx)) }},
		{"Apply", func(ctx context.Context, l provision.Ledger) error { return l.Apply(ctx, everything(3)) }},
		{"FindNames", func(ctx context.Context, l provision.Ledger) error {
			return errorOf(l.FindNames(ctx, []string{"device-1"}))
		}},
		{"FindMatches", func(ctx context.Context, l provision.Ledger) error {
			return errorOf(l.FindMatches(ctx, []provision.Match{"key:00"}))
		}},
		{"FindCertificates", func(ctx context.Context, l provision.Ledger) error {
			return errorOf(l.FindCertificates(ctx, []string{"certificate"}))
		}},
		{"Counts", func(ctx context.Context, l provision.Ledger) error { return errorOf(l.Counts(ctx)) }},
		{"Parts", func(ctx context.Context, l provision.Ledger) error { return errorOf(l.Parts(ctx)) }},
		{"Orphans", func(ctx context.Context, l provision.Ledger) error { return errorOf(l.Orphans(ctx)) }},
	}
	var list []rule
	for _, m := range methods {
		list = append(list, rule{"cancelled/" + m.name, "Every method honours its context: " + m.name + " fails when the context has ended, with the " +
			"context's cause, and leaves the ledger as it is.", func(t *trial) {
			t.begin()
			before := t.state()
			reason := errors.New("the operator went home")
			ended, cancel := context.WithCancelCause(t.ctx)
			cancel(reason)
			if err := m.call(ended, t.l); !errors.Is(err, reason) {
				t.Failf("%s with a cancelled context: error %v, want one for %q", m.name, err, reason)
			}
			t.equal(before, t.state(), "after the call")
			t.OK(m.call(t.ctx, t.l), m.name+" with a context that goes on")
		}})
	}
	return list
}()

// concurrentCases: many callers at once.
var concurrentCases = []rule{
	{"concurrent/atomic", "A Ledger must be safe for concurrent use, and Apply makes all of a change or nothing of it, also in the " +
		"eyes of somebody who reads at the same time.", func(t *trial) {
		const pairs, rounds = 8, 25
		t.add(devices(1, 2*pairs, nil)...)
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
					if err := t.l.Apply(t.ctx, provision.Change{Devices: both, Part: part}); err != nil {
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
					if err := readAtOnce(t.ctx, t.l, 2*pairs); err != nil {
						report(err)
						return
					}
				}
			})
		}
		writers.Wait()
		close(over)
		readers.Wait()
		t.OK(first, "with many callers at once")
		for _, d := range t.devices(provision.DeviceFilter{}) {
			t.equal(rounds, d.Attempts, fmt.Sprintf("attempts of device %d", d.Seq))
		}
		parts := t.parts()
		t.equal(pairs*rounds, len(parts), "number of parts")
	}},
	{"concurrent/add", "A Ledger must be safe for concurrent use: of two that add the same numbers at once, one is refused.", func(t *trial) {
		const rounds, callers = 10, 4
		for r := range int64(rounds) {
			var (
				wg   sync.WaitGroup
				mu   sync.Mutex
				took int
			)
			for range callers {
				wg.Go(func() {
					if err := t.l.Apply(t.ctx, provision.Change{Add: devices(3*r+1, 3*r+3, nil)}); err == nil {
						mu.Lock()
						defer mu.Unlock()
						took++
					}
				})
			}
			wg.Wait()
			t.equal(1, took, "number of callers that could add the same devices")
		}
		t.equal(int64(3*rounds), int64(len(t.seqs(provision.DeviceFilter{}))), "number of devices")
	}},
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
	for _, err := range []error{errorOf(l.Parts(ctx)), errorOf(l.Orphans(ctx)), errorOf(l.FindNames(ctx, []string{"device-1"}))} {
		if err != nil {
			return err
		}
	}
	return nil
}

func errorOf[T any](_ T, err error) error { return err }

// durableCases: closing and opening again.
var durableCases = []rule{
	{"durable/everything", "What a Ledger has returned nil for is durable: closed and opened again it holds everything, to the last field.", func(t *trial) {
		t.begin()
		t.apply(whole())
		t.apply(provision.Change{Add: devices(5, 1500, nil), Orphans: []*provision.Orphan{{CertificateID: "certificate-0", Why: "later"}}})
		before := t.state()
		for range 3 {
			t.reopen()
			t.equal(before, t.state(), "after opening it again")
			t.found(names, map[string]int64{"device-5": 5, "device-1500": 1500}, "names after opening it again", "device-5", "device-1500", "nobody")
		}
	}},
	{"durable/goes-on", "Seq must go on from the last one without a gap, also after the ledger was closed and opened again.", func(t *trial) {
		t.reopen()
		t.equal(state{}, t.state(), "an empty ledger, opened again")
		for i := range int64(4) {
			t.refused(provision.Change{Add: devices(3*i+2, 3*i+2, nil)}, "a gap")
			t.apply(everything(3 * i))
			before := t.state()
			t.refused(provision.Change{Run: &provision.RunRecord{ID: "x"}, Part: &provision.PartRecord{}}, "part 0")
			t.reopen()
			t.equal(before, t.state(), "after a refused change and opening it again")
		}
	}},
}
