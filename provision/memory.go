package provision

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
)

// NewMemoryLedger makes a ledger that lives as long as the process. A run on it cannot be resumed after a crash, so it
// suits tests, trials and fleets small enough to start over. It costs about 1 KB a device and the row's own size.
func NewMemoryLedger() Ledger {
	return &memoryLedger{parts: map[int]*PartRecord{}}
}

type memoryLedger struct {
	mu      sync.Mutex
	run     *RunRecord
	devices []*DeviceRecord // devices[i] has Seq i+1; a record in here is never changed, only replaced
	parts   map[int]*PartRecord
	orphans []*Orphan

	named        index[string] // every device
	names        index[string] // those that stand for their name
	matches      index[Match]
	certificates index[string]
}

func (l *memoryLedger) Run(ctx context.Context) (*RunRecord, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == nil {
		return nil, ErrNoRun
	}
	return new(*l.run), context.Cause(ctx)
}

func (l *memoryLedger) Apply(ctx context.Context, c Change) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last := int64(len(l.devices))
	if c.RemoveFrom < 0 || c.RemoveFrom > last+1 {
		return fmt.Errorf("ledger: devices are to be removed from number %d, the ledger holds 1 to %d", c.RemoveFrom, last)
	}
	if c.RemoveFrom > 0 {
		last = c.RemoveFrom - 1
	}
	for i, d := range c.Add {
		if want := last + int64(i) + 1; d.Seq != want {
			return fmt.Errorf("ledger: device %q has number %d, the next one is %d", d.Name, d.Seq, want)
		}
	}
	for _, d := range c.Devices {
		if d.Seq < 1 || d.Seq > last {
			return fmt.Errorf("ledger: there is no device number %d (%q)", d.Seq, d.Name)
		}
	}
	if c.Part != nil && c.Part.Number < 1 {
		return errors.New("ledger: parts are numbered from 1")
	}
	if c.Run != nil {
		l.run = new(*c.Run)
	}
	for _, d := range l.devices[last:] {
		l.forget(d)
	}
	clear(l.devices[last:])
	l.devices = l.devices[:last]
	for _, d := range c.Add {
		l.devices = append(l.devices, nil)
		l.put(d)
	}
	for _, d := range c.Devices {
		if c.InputStays {
			old := l.devices[d.Seq-1]
			d = new(*d)
			d.Name, d.Source, d.Row, d.Original, d.Meta = old.Name, old.Source, old.Row, old.Original, old.Meta
		}
		l.put(d)
	}
	if c.Part != nil {
		l.parts[c.Part.Number] = new(*c.Part)
	}
	for _, o := range c.Orphans {
		i := slices.IndexFunc(l.orphans, func(k *Orphan) bool { return k.CertificateID == o.CertificateID })
		if i < 0 {
			l.orphans = append(l.orphans, new(*o))
		} else {
			l.orphans[i] = new(*o)
		}
	}
	l.forgetUsed(c)
	return nil
}

// forgetUsed forgets the orphans whose certificate a device of the change has.
func (l *memoryLedger) forgetUsed(c Change) {
	if len(l.orphans) == 0 {
		return
	}
	used := map[string]bool{}
	for _, devices := range [][]*DeviceRecord{c.Add, c.Devices} {
		for _, d := range devices {
			used[d.CertificateID] = d.CertificateID != ""
		}
	}
	l.orphans = slices.DeleteFunc(l.orphans, func(o *Orphan) bool { return used[o.CertificateID] })
}

func (l *memoryLedger) put(d *DeviceRecord) {
	if old := l.devices[d.Seq-1]; old != nil {
		l.forget(old)
	}
	if holdsKeys(d) {
		l.names.add(d.Name, d.Seq)
		l.matches.add(d.Match, d.Seq)
	}
	l.named.add(d.Name, d.Seq)
	l.certificates.add(d.CertificateID, d.Seq)
	l.devices[d.Seq-1] = copyDevice(d)
}

// forget takes a device out of the indexes.
func (l *memoryLedger) forget(d *DeviceRecord) {
	if holdsKeys(d) {
		l.names.remove(d.Name, d.Seq)
		l.matches.remove(d.Match, d.Seq)
	}
	l.named.remove(d.Name, d.Seq)
	l.certificates.remove(d.CertificateID, d.Seq)
}

// holdsKeys reports whether a device stands for its name and its match: one that was refused before it was sent does
// not.
func holdsKeys(d *DeviceRecord) bool { return d.Verdict != Failed || d.Attempts > 0 }

// index finds the first device that has a key. Nearly every key has one device, so further ones are kept apart.
type index[K ~string] struct {
	first map[K]int64
	more  map[K][]int64 // in no order
}

func (x *index[K]) add(key K, seq int64) {
	if key == "" {
		return
	}
	if x.first == nil {
		x.first, x.more = map[K]int64{}, map[K][]int64{}
	}
	first, ok := x.first[key]
	switch {
	case !ok:
		x.first[key] = seq
	case seq < first:
		x.first[key] = seq
		x.more[key] = append(x.more[key], first)
	default:
		x.more[key] = append(x.more[key], seq)
	}
}

// remove takes away what add put in.
func (x *index[K]) remove(key K, seq int64) {
	if key == "" {
		return
	}
	more := x.more[key]
	switch {
	case x.first[key] != seq:
		more = slices.DeleteFunc(more, func(s int64) bool { return s == seq })
	case len(more) == 0:
		delete(x.first, key)
	default:
		next := slices.Min(more)
		x.first[key] = next
		more = slices.DeleteFunc(more, func(s int64) bool { return s == next })
	}
	if len(more) == 0 {
		delete(x.more, key)
	} else {
		x.more[key] = more
	}
}

func (x *index[K]) find(keys []K) map[K]int64 {
	found := map[K]int64{}
	for _, k := range keys {
		if seq, ok := x.first[k]; ok {
			found[k] = seq
		}
	}
	return found
}

func copyDevice(d *DeviceRecord) *DeviceRecord {
	c := new(*d)
	c.Row, c.Original, c.Meta = maps.Clone(d.Row), maps.Clone(d.Original), maps.Clone(d.Meta)
	c.Policies, c.Existing = slices.Clone(d.Policies), slices.Clone(d.Existing)
	return c
}

func (l *memoryLedger) Devices(ctx context.Context, f DeviceFilter) iter.Seq2[*DeviceRecord, error] {
	return func(yield func(*DeviceRecord, error) bool) {
		n := 0
		from := max(f.AfterSeq, 0)
		if f.Name != "" {
			l.mu.Lock()
			first, ok := l.named.first[f.Name]
			l.mu.Unlock()
			if !ok {
				return
			}
			from = max(from, first-1)
		}
		for i := from; f.Limit == 0 || n < f.Limit; i++ {
			if err := context.Cause(ctx); err != nil {
				yield(nil, err)
				return
			}
			l.mu.Lock()
			if i >= int64(len(l.devices)) {
				l.mu.Unlock()
				return
			}
			d := l.devices[i]
			l.mu.Unlock()
			if !f.lets(d) {
				continue
			}
			n++
			if !yield(copyDevice(d), nil) {
				return
			}
		}
	}
}

func (f DeviceFilter) lets(d *DeviceRecord) bool {
	return (f.Name == "" || f.Name == d.Name) && (len(f.Verdicts) == 0 || slices.Contains(f.Verdicts, d.Verdict)) &&
		(len(f.Causes) == 0 || slices.Contains(f.Causes, d.Cause)) && (f.Part == 0 || d.Part == f.Part) &&
		(!f.Existing || len(d.Existing) > 0)
}

func (l *memoryLedger) FindNames(ctx context.Context, names []string) (map[string]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names.find(names), context.Cause(ctx)
}

func (l *memoryLedger) FindMatches(ctx context.Context, matches []Match) (map[Match]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.matches.find(matches), context.Cause(ctx)
}

func (l *memoryLedger) FindCertificates(ctx context.Context, ids []string) (map[string]int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.certificates.find(ids), context.Cause(ctx)
}

func (l *memoryLedger) Counts(ctx context.Context) (*Counts, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &Counts{Verdicts: map[Verdict]int64{}, Causes: map[Cause]int64{}}
	for _, d := range l.devices {
		c.Verdicts[d.Verdict]++
		if d.Verdict == Failed {
			c.Causes[d.Cause]++
		}
	}
	return c, context.Cause(ctx)
}

func (l *memoryLedger) Parts(ctx context.Context) ([]*PartRecord, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*PartRecord
	for _, n := range slices.Sorted(maps.Keys(l.parts)) {
		out = append(out, new(*l.parts[n]))
	}
	return out, context.Cause(ctx)
}

func (l *memoryLedger) Orphans(ctx context.Context) ([]*Orphan, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*Orphan
	for _, o := range l.orphans {
		out = append(out, new(*o))
	}
	return out, context.Cause(ctx)
}

func (l *memoryLedger) Close() error { return nil }
