package ledgertest_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/ledgertest"
)

// broken is a memory ledger with one thing wrong: a function that is not nil stands in for the method.
type broken struct {
	provision.Ledger
	run          func() (*provision.RunRecord, error)
	apply        func(context.Context, provision.Change) error
	devices      func(context.Context, provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error]
	names        func([]string) (map[string]int64, error)
	matches      func([]provision.Match) (map[provision.Match]int64, error)
	certificates func([]string) (map[string]int64, error)
	counts       func() (*provision.Counts, error)
	parts        func() ([]*provision.PartRecord, error)
	orphans      func() ([]*provision.Orphan, error)
}

func (b *broken) Run(ctx context.Context) (*provision.RunRecord, error) {
	if b.run != nil {
		return b.run()
	}
	return b.Ledger.Run(ctx)
}

func (b *broken) Apply(ctx context.Context, c provision.Change) error {
	if b.apply != nil {
		return b.apply(ctx, c)
	}
	return b.Ledger.Apply(ctx, c)
}

func (b *broken) Devices(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
	if b.devices != nil {
		return b.devices(ctx, f)
	}
	return b.Ledger.Devices(ctx, f)
}

func (b *broken) FindNames(ctx context.Context, names []string) (map[string]int64, error) {
	if b.names != nil {
		return b.names(names)
	}
	return b.Ledger.FindNames(ctx, names)
}

func (b *broken) FindMatches(ctx context.Context, m []provision.Match) (map[provision.Match]int64, error) {
	if b.matches != nil {
		return b.matches(m)
	}
	return b.Ledger.FindMatches(ctx, m)
}

func (b *broken) FindCertificates(ctx context.Context, ids []string) (map[string]int64, error) {
	if b.certificates != nil {
		return b.certificates(ids)
	}
	return b.Ledger.FindCertificates(ctx, ids)
}

func (b *broken) Counts(ctx context.Context) (*provision.Counts, error) {
	if b.counts != nil {
		return b.counts()
	}
	return b.Ledger.Counts(ctx)
}

func (b *broken) Parts(ctx context.Context) ([]*provision.PartRecord, error) {
	if b.parts != nil {
		return b.parts()
	}
	return b.Ledger.Parts(ctx)
}

func (b *broken) Orphans(ctx context.Context) ([]*provision.Orphan, error) {
	if b.orphans != nil {
		return b.orphans()
	}
	return b.Ledger.Orphans(ctx)
}

// breakage makes a good ledger bad.
type breakage func(b *broken)

// bg is the context of the good ledger below a broken one that does not honour its own.
var bg = context.Background()

// filtered breaks the filter.
func filtered(change func(*provision.DeviceFilter)) breakage {
	return func(b *broken) {
		b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
			change(&f)
			return b.Ledger.Devices(ctx, f)
		}
	}
}

// changed breaks what is stored.
func changed(change func(*provision.Change)) breakage {
	return func(b *broken) {
		b.apply = func(ctx context.Context, c provision.Change) error {
			c = deepCopy(c)
			change(&c)
			return b.Ledger.Apply(ctx, c)
		}
	}
}

// forgiving breaks a check: what it is told to repair is not refused.
func forgiving(repair func(b *broken, c *provision.Change)) breakage {
	return func(b *broken) {
		b.apply = func(ctx context.Context, c provision.Change) error {
			err := b.Ledger.Apply(ctx, c)
			if err == nil || ctx.Err() != nil {
				return err
			}
			c = deepCopy(c)
			repair(b, &c)
			return b.Ledger.Apply(ctx, c)
		}
	}
}

// halves breaks atomicity: a change is made step by step.
func halves(b *broken) {
	b.apply = func(ctx context.Context, c provision.Change) error {
		for _, step := range []provision.Change{{Run: c.Run}, {Add: c.Add}, {Orphans: c.Orphans}, {Part: c.Part}} {
			if err := b.Ledger.Apply(ctx, step); err != nil {
				return err
			}
		}
		for _, d := range c.Devices {
			if err := b.Ledger.Apply(ctx, provision.Change{Devices: []*provision.DeviceRecord{d}}); err != nil {
				return err
			}
		}
		return nil
	}
}

// index breaks FindNames and FindMatches alike.
func index(change func(b *broken, keys []string) map[string]int64) breakage {
	return func(b *broken) {
		b.names = func(keys []string) (map[string]int64, error) { return change(b, keys), nil }
		b.matches = func(list []provision.Match) (map[provision.Match]int64, error) {
			var keys []string
			for _, m := range list {
				keys = append(keys, string(m))
			}
			out := map[provision.Match]int64{}
			for k, v := range change(b, keys) {
				out[provision.Match(k)] = v
			}
			return out, nil
		}
	}
}

// scan is an index made by looking at all devices; holds says which count.
func scan(holds func(*provision.DeviceRecord) bool, last bool) func(b *broken, keys []string) map[string]int64 {
	return func(b *broken, keys []string) map[string]int64 {
		out := map[string]int64{}
		for d, err := range b.Ledger.Devices(bg, provision.DeviceFilter{}) {
			if err != nil {
				panic(err)
			}
			for _, k := range []string{d.Name, string(d.Match)} {
				if _, ok := out[k]; slices.Contains(keys, k) && k != "" && holds(d) && (!ok || last) {
					out[k] = d.Seq
				}
			}
		}
		return out
	}
}

func held(d *provision.DeviceRecord) bool {
	return d.Verdict != provision.Failed || d.Attempts > 0
}

// remembering breaks an index: keys that devices once had stay in it.
func remembering(b *broken) {
	ever := map[string]int64{}
	b.apply = func(ctx context.Context, c provision.Change) error {
		for _, d := range slices.Concat(c.Add, c.Devices) {
			for _, k := range []string{d.Name, string(d.Match), d.CertificateID} {
				if _, ok := ever[k]; !ok && k != "" {
					ever[k] = d.Seq
				}
			}
		}
		return b.Ledger.Apply(ctx, c)
	}
	find := func(keys []string) map[string]int64 {
		out := map[string]int64{}
		for _, k := range keys {
			if seq, ok := ever[k]; ok {
				out[k] = seq
			}
		}
		return out
	}
	index(func(_ *broken, keys []string) map[string]int64 { return find(keys) })(b)
	b.certificates = func(keys []string) (map[string]int64, error) { return find(keys), nil }
}

// onKeys breaks an index by what it is asked for.
func onKeys(change func(keys []string) []string) breakage {
	return func(b *broken) {
		b.names = func(keys []string) (map[string]int64, error) { return b.Ledger.FindNames(bg, change(keys)) }
		b.matches = func(list []provision.Match) (map[provision.Match]int64, error) {
			var keys []string
			for _, m := range list {
				keys = append(keys, string(m))
			}
			var out []provision.Match
			for _, k := range change(keys) {
				out = append(out, provision.Match(k))
			}
			return b.Ledger.FindMatches(bg, out)
		}
	}
}

// deaf breaks cancellation: the method goes on without its context.
var deaf = map[string]breakage{
	"Run": func(b *broken) { b.run = func() (*provision.RunRecord, error) { return b.Ledger.Run(bg) } },
	"Apply": func(b *broken) {
		b.apply = func(_ context.Context, c provision.Change) error { return b.Ledger.Apply(bg, c) }
	},
	"FindNames": func(b *broken) {
		b.names = func(k []string) (map[string]int64, error) { return b.Ledger.FindNames(bg, k) }
	},
	"FindMatches": func(b *broken) {
		b.matches = func(k []provision.Match) (map[provision.Match]int64, error) { return b.Ledger.FindMatches(bg, k) }
	},
	"FindCertificates": func(b *broken) {
		b.certificates = func(k []string) (map[string]int64, error) { return b.Ledger.FindCertificates(bg, k) }
	},
	"Counts":  func(b *broken) { b.counts = func() (*provision.Counts, error) { return b.Ledger.Counts(bg) } },
	"Parts":   func(b *broken) { b.parts = func() ([]*provision.PartRecord, error) { return b.Ledger.Parts(bg) } },
	"Orphans": func(b *broken) { b.orphans = func() ([]*provision.Orphan, error) { return b.Ledger.Orphans(bg) } },
}

// breakages has, for each case, ledgers that break its promise.
var breakages = map[string][]breakage{
	"record/none": {func(b *broken) {
		b.run = func() (*provision.RunRecord, error) {
			r, err := b.Ledger.Run(bg)
			if errors.Is(err, provision.ErrNoRun) {
				return &provision.RunRecord{}, nil
			}
			return r, err
		}
	}},
	"record/run":             {changed(func(c *provision.Change) { c.Run = nil })},
	"record/device-added":    {changed(func(c *provision.Change) { each(c.Add, func(d *provision.DeviceRecord) { d.Policies = nil }) })},
	"record/device-replaced": {changed(func(c *provision.Change) { c.Devices = nil }), keeping},
	"record/input-stays": {changed(func(c *provision.Change) { c.InputStays = false }), changed(func(c *provision.Change) {
		if c.InputStays {
			c.Devices = nil
		}
	})},
	"record/part":   {changed(func(c *provision.Change) { c.Part = nil })},
	"record/orphan": {changed(func(c *provision.Change) { c.Orphans = nil })},
	"record/times": {
		changed(func(c *provision.Change) {
			each(c.Add, func(d *provision.DeviceRecord) { d.Updated = d.Updated.Truncate(time.Microsecond) })
		}),
		changed(func(c *provision.Change) {
			if c.Run != nil && c.Run.Created.IsZero() {
				c.Run.Created = time.Unix(0, 0)
			}
		}),
	},
	"record/original": {changed(func(c *provision.Change) {
		each(c.Add, func(d *provision.DeviceRecord) {
			if len(d.Original) == 0 {
				d.Original = nil
			}
		})
	})},
	"record/strings": {
		changed(func(c *provision.Change) {
			each(c.Add, func(d *provision.DeviceRecord) { d.Name = strings.ToValidUTF8(d.Name, "\ufffd") })
		}),
		changed(func(c *provision.Change) {
			each(c.Add, func(d *provision.DeviceRecord) {
				for k, v := range d.Row {
					d.Row[k], _, _ = strings.Cut(v, "\x00")
				}
			})
		}),
		changed(func(c *provision.Change) {
			each(c.Devices, func(d *provision.DeviceRecord) { d.Message = d.Message[:min(len(d.Message), 1<<16)] })
		}),
	},
	"record/numbers": {changed(func(c *provision.Change) {
		each(c.Add, func(d *provision.DeviceRecord) { d.Line = int64(float64(d.Line)) })
	}), changed(func(c *provision.Change) {
		if c.Part != nil {
			c.Part.Bytes = int64(int32(c.Part.Bytes))
		}
	})},

	"apply/whole": {
		changed(func(c *provision.Change) { c.Orphans = nil }),
		changed(func(c *provision.Change) {
			if c.Run != nil && c.Part != nil {
				c.Part = nil
			}
		}),
	},
	"apply/empty": {changed(func(c *provision.Change) {
		if c.Part == nil {
			c.Part = &provision.PartRecord{Number: 7}
		}
	})},
	"apply/gap": {halves, forgiving(func(b *broken, c *provision.Change) {
		n := int64(count(b))
		each(c.Add, func(d *provision.DeviceRecord) { n++; d.Seq = n })
	})},
	"apply/remove": {func(b *broken) { // removes nothing
		b.apply = func(ctx context.Context, c provision.Change) error {
			c.RemoveFrom = 0
			return b.Ledger.Apply(ctx, c)
		}
	}, func(b *broken) { // takes any number
		b.apply = func(ctx context.Context, c provision.Change) error {
			if c.RemoveFrom < 0 || c.RemoveFrom > int64(count(b))+1 {
				c.RemoveFrom = 0
			}
			return b.Ledger.Apply(ctx, c)
		}
	}, func(b *broken) { // knows the names of what was removed
		b.names = func(names []string) (map[string]int64, error) {
			found, err := b.Ledger.FindNames(bg, names)
			if slices.Contains(names, "device-2") && err == nil {
				found["device-2"] = 2
			}
			return found, err
		}
	}},
	"apply/missing": {halves, forgiving(func(b *broken, c *provision.Change) {
		n := int64(count(b))
		c.Devices = slices.DeleteFunc(c.Devices, func(d *provision.DeviceRecord) bool { return d.Seq < 1 || d.Seq > n })
	})},
	"apply/part-number": {halves, forgiving(func(_ *broken, c *provision.Change) { c.Part = nil })},
	"apply/twice":       {changed(func(c *provision.Change) { slices.Reverse(c.Devices) }), changed(func(c *provision.Change) { slices.Reverse(c.Orphans) })},
	"apply/many":        {changed(func(c *provision.Change) { c.Devices = c.Devices[:min(len(c.Devices), 4096)] })},
	"copy/in":           {sharing},
	"copy/out":          {sharing},

	"devices/order":    {reversed},
	"devices/all":      {filtered(func(f *provision.DeviceFilter) { f.Limit = min(max(f.Limit, 50), 50) })},
	"devices/verdicts": {filtered(func(f *provision.DeviceFilter) { f.Verdicts = f.Verdicts[:min(len(f.Verdicts), 1)] }), repeating},
	"devices/causes": {
		filtered(func(f *provision.DeviceFilter) { f.Causes = nil }),
		filtered(func(f *provision.DeviceFilter) {
			if len(f.Causes) == 1 && f.Causes[0] == provision.CauseNone {
				f.Causes = nil
			}
		}),
	},
	"devices/name": {
		filtered(func(f *provision.DeviceFilter) { f.Name = "" }),
		filtered(func(f *provision.DeviceFilter) { f.Name = strings.ToLower(f.Name) }),
		filtered(func(f *provision.DeviceFilter) {
			if f.Name != "" {
				f.Limit = 1
			}
		}),
	},
	"devices/part":     {filtered(func(f *provision.DeviceFilter) { f.Part = 0 })},
	"devices/existing": {filtered(func(f *provision.DeviceFilter) { f.Existing = false })},
	"devices/after-and-limit": {
		filtered(func(f *provision.DeviceFilter) { f.AfterSeq = max(0, f.AfterSeq-1) }),
		filtered(func(f *provision.DeviceFilter) { f.Limit = 0 }),
	},
	"devices/combined": {filtered(func(f *provision.DeviceFilter) {
		if len(f.Verdicts) > 0 && f.Part > 0 {
			f.Causes = nil
		}
	})},
	"devices/many": {badPages, filtered(func(f *provision.DeviceFilter) { f.Limit = min(max(f.Limit, 3900), 3900) })},
	"devices/again": {func(b *broken) {
		b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
			list, err := collect(b.Ledger.Devices(ctx, f))
			return yieldAll(list, err)
		}
	}},
	"devices/break": {stuckAfterBreak},
	"devices/change-while-reading": {
		func(b *broken) { // takes the devices as they were at the beginning of the page, and pages by position
			b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
				return func(yield func(*provision.DeviceRecord, error) bool) {
					for at := 0; ; at += 100 {
						list, err := collect(b.Ledger.Devices(ctx, f))
						for _, d := range list[min(at, len(list)):min(at+100, len(list))] {
							if !yield(d, err) {
								return
							}
						}
						if at >= len(list) {
							return
						}
					}
				}
			}
		}, lockedWhileReading,
	},
	"devices/cancelled": {
		func(b *broken) {
			b.devices = func(_ context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
				return b.Ledger.Devices(bg, f)
			}
		},
		func(b *broken) { // cancellation swallowed
			b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
				return func(yield func(*provision.DeviceRecord, error) bool) {
					for d, err := range b.Ledger.Devices(ctx, f) {
						if err != nil || !yield(d, nil) {
							return
						}
					}
				}
			}
		},
		func(b *broken) { // the error twice
			b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
				return func(yield func(*provision.DeviceRecord, error) bool) {
					for d, err := range b.Ledger.Devices(ctx, f) {
						if !yield(d, err) || err != nil && !yield(d, err) {
							return
						}
					}
				}
			}
		},
	},

	"names/first":         {index(scan(held, true)), onKeys(lower)},
	"names/empty":         {findsEmpty},
	"names/refused":       {index(scan(func(*provision.DeviceRecord) bool { return true }, false)), index(scan(func(d *provision.DeviceRecord) bool { return d.Verdict != provision.Failed }, false))},
	"names/every-verdict": {index(scan(func(d *provision.DeviceRecord) bool { return d.Verdict == provision.Waiting }, false)), index(scan(func(d *provision.DeviceRecord) bool { return d.Attempts > 0 }, false))},
	"names/changed":       {remembering},
	"names/many":          {onKeys(func(k []string) []string { return k[:min(len(k), 1000)] })},
	"names/odd":           {onKeys(valid)},
	"certificates/found": {func(b *broken) {
		b.certificates = func(ids []string) (map[string]int64, error) {
			m, err := b.Ledger.FindCertificates(bg, ids)
			maps.DeleteFunc(m, func(_ string, seq int64) bool { return seq%5 != 2 }) // only those that are Provisioned
			return m, err
		}
	}},
	"certificates/changed": {remembering},

	"counts/verdicts-and-causes": {
		func(b *broken) {
			b.counts = func() (*provision.Counts, error) {
				c, err := b.Ledger.Counts(bg)
				if c != nil {
					delete(c.Verdicts, provision.Unknown)
				}
				return c, err
			}
		},
		func(b *broken) { // causes of all devices
			b.counts = func() (*provision.Counts, error) {
				c, err := b.Ledger.Counts(bg)
				list, _ := collect(b.Ledger.Devices(bg, provision.DeviceFilter{}))
				clear(c.Causes)
				for _, d := range list {
					c.Causes[d.Cause]++
				}
				return c, err
			}
		},
	},
	"parts/order": {func(b *broken) {
		b.parts = func() ([]*provision.PartRecord, error) {
			list, err := b.Ledger.Parts(bg)
			slices.SortFunc(list, func(x, y *provision.PartRecord) int { return x.Attempt - y.Attempt })
			return list, err
		}
	}},
	"orphans/used": {changed(func(c *provision.Change) { // forgets none
		for _, d := range slices.Concat(c.Add, c.Devices) {
			d.CertificateID = ""
		}
	}), func(b *broken) { // forgets those of earlier changes only
		b.apply = func(ctx context.Context, c provision.Change) error {
			late := c.Orphans
			c.Orphans = nil
			if err := b.Ledger.Apply(ctx, c); err != nil {
				return err
			}
			return b.Ledger.Apply(ctx, provision.Change{Orphans: late})
		}
	}, func(b *broken) { // takes none for one
		b.apply = func(ctx context.Context, c provision.Change) error {
			for _, d := range slices.Concat(c.Add, c.Devices) {
				if d.CertificateID == "" {
					d.CertificateID = "a"
				}
			}
			return b.Ledger.Apply(ctx, c)
		}
	}},
	"orphans/order": {func(b *broken) {
		b.orphans = func() ([]*provision.Orphan, error) {
			list, err := b.Ledger.Orphans(bg)
			slices.SortFunc(list, func(x, y *provision.Orphan) int { return strings.Compare(x.CertificateID, y.CertificateID) })
			return list, err
		}
	}, func(b *broken) { // in the order they were last applied
		b.orphans = func() ([]*provision.Orphan, error) {
			list, err := b.Ledger.Orphans(bg)
			slices.SortFunc(list, func(x, y *provision.Orphan) int { return int(x.Seq - y.Seq) })
			return list, err
		}
	}},
	"concurrent/atomic": {halvesSeen},
	"concurrent/add": {func(b *broken) { // looks first, and changes later
		b.apply = func(ctx context.Context, c provision.Change) error {
			if n := int64(count(b)); len(c.Add) > 0 && c.Add[0].Seq != n+1 {
				return errors.New("not the next one")
			}
			return nil
		}
	}},
	"durable/everything": {func(*broken) {}},
	"durable/goes-on":    {func(*broken) {}},
}

func TestEveryCaseFailsOnALedgerThatBreaksItsPromise(t *testing.T) {
	for name, b := range deaf {
		breakages["cancelled/"+name] = []breakage{b}
	}
	for name, list := range breakages {
		if key, ok := strings.CutPrefix(name, "names/"); ok {
			breakages["matches/"+key] = list // both indexes are broken alike
		}
	}
	for _, c := range ledgertest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			require.NotEmpty(t, breakages[c.Name], "no ledger is known that breaks this case")
			for i, brk := range breakages[c.Name] {
				// A ledger that hangs is a broken one too; the time is only spent on those.
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if i == 0 && c.Name == "devices/break" || i == 1 && c.Name == "devices/change-while-reading" {
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
				}
				err := c.Check(ctx, harness(brk))
				cancel()
				require.Error(t, err, "ledger %d passed", i)
				assert.Contains(t, err.Error(), c.Name)
				assert.Contains(t, err.Error(), c.Explanation)
			}
		})
	}
	for name := range breakages {
		assert.True(t, slices.ContainsFunc(ledgertest.Cases(), func(c ledgertest.Case) bool { return c.Name == name }), "there is no case %s", name)
	}
}

// harness makes broken ledgers. Opened again, they have forgotten everything.
func harness(brk breakage) ledgertest.Harness {
	open := func(context.Context) (provision.Ledger, error) {
		b := &broken{Ledger: provision.NewMemoryLedger()}
		brk(b)
		return b, nil
	}
	return ledgertest.Harness{Open: open, Reopen: func(ctx context.Context, _ provision.Ledger) (provision.Ledger, error) { return open(ctx) }}
}

func TestAFieldThatIsNotStoredFailsTheSuite(t *testing.T) {
	lose := func(t *testing.T, record any, of func(*provision.Change) []reflect.Value) {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(record)) {
			if f.Anonymous || slices.Contains([]string{"Seq", "Number", "CertificateID"}, f.Name) {
				continue
			}
			t.Run(f.Name, func(t *testing.T) {
				h := harness(changed(func(c *provision.Change) {
					for _, v := range of(c) {
						v.Elem().FieldByIndex(f.Index).SetZero()
					}
				}))
				var failed []string
				for _, c := range ledgertest.Cases() {
					if strings.HasPrefix(c.Name, "record/") && c.Check(t.Context(), h) != nil {
						failed = append(failed, c.Name)
					}
				}
				assert.NotEmpty(t, failed)
			})
		}
	}
	t.Run("run", func(t *testing.T) {
		lose(t, provision.RunRecord{}, func(c *provision.Change) []reflect.Value { return values(c.Run) })
	})
	t.Run("device added", func(t *testing.T) {
		lose(t, provision.DeviceRecord{}, func(c *provision.Change) []reflect.Value { return values(c.Add...) })
	})
	t.Run("device replaced", func(t *testing.T) {
		lose(t, provision.DeviceRecord{}, func(c *provision.Change) []reflect.Value { return values(c.Devices...) })
	})
	t.Run("part", func(t *testing.T) {
		lose(t, provision.PartRecord{}, func(c *provision.Change) []reflect.Value { return values(c.Part) })
	})
	t.Run("orphan", func(t *testing.T) {
		lose(t, provision.Orphan{}, func(c *provision.Change) []reflect.Value { return values(c.Orphans...) })
	})
}
