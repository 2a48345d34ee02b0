package ledgertest_test

import (
	"context"
	"iter"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// keeping breaks replacement: a field that is empty in the new record keeps its old value.
func keeping(b *broken) {
	b.apply = func(ctx context.Context, c provision.Change) error {
		c = deepCopy(c)
		for _, d := range c.Devices {
			for old := range b.Ledger.Devices(ctx, provision.DeviceFilter{AfterSeq: d.Seq - 1, Limit: 1}) {
				if d.Message == "" {
					d.Message = old.Message
				}
			}
		}
		return b.Ledger.Apply(ctx, c)
	}
}

// sharing breaks copying: the records of the caller are those of the ledger, on the way in and on the way out.
func sharing(b *broken) {
	records := map[int64]*provision.DeviceRecord{}
	b.apply = func(ctx context.Context, c provision.Change) error {
		if err := b.Ledger.Apply(ctx, c); err != nil {
			return err
		}
		for _, d := range slices.Concat(c.Add, c.Devices) {
			records[d.Seq] = d
		}
		return nil
	}
	b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
		return func(yield func(*provision.DeviceRecord, error) bool) {
			for d, err := range b.Ledger.Devices(ctx, f) {
				if err != nil {
					yield(nil, err)
					return
				}
				if !yield(records[d.Seq], nil) {
					return
				}
			}
		}
	}
}

// reversed breaks the order.
func reversed(b *broken) {
	b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
		list, err := collect(b.Ledger.Devices(ctx, f))
		slices.Reverse(list)
		return yieldAll(list, err)
	}
}

// repeating yields a device once for each time its verdict is in the filter.
func repeating(b *broken) {
	b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
		return func(yield func(*provision.DeviceRecord, error) bool) {
			for d, err := range b.Ledger.Devices(ctx, f) {
				for _, v := range f.Verdicts {
					if (err != nil || v == d.Verdict) && !yield(d, err) {
						return
					}
				}
				if len(f.Verdicts) == 0 && !yield(d, err) {
					return
				}
			}
		}
	}
}

// badPages takes the number of devices read for the number of the last one.
func badPages(b *broken) {
	b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
		return func(yield func(*provision.DeviceRecord, error) bool) {
			const page = 500
			for left := f.Limit; ; {
				p := f
				if p.Limit = page; f.Limit > 0 {
					p.Limit = min(page, left)
				}
				list, err := collect(b.Ledger.Devices(ctx, p))
				for _, d := range list {
					if !yield(d, err) {
						return
					}
				}
				if left -= len(list); len(list) < page || left == 0 {
					return
				}
				f.AfterSeq += int64(len(list))
			}
		}
	}
}

// lockedWhileReading holds the ledger as long as its devices are read: who changes it meanwhile waits for ever.
func lockedWhileReading(b *broken) {
	var mu sync.Mutex
	b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
		return func(yield func(*provision.DeviceRecord, error) bool) {
			mu.Lock()
			defer mu.Unlock()
			b.Ledger.Devices(ctx, f)(yield)
		}
	}
	b.apply = func(ctx context.Context, c provision.Change) error {
		mu.Lock()
		defer mu.Unlock()
		return b.Ledger.Apply(ctx, c)
	}
}

// stuckAfterBreak gives its lock back only when the devices were read to the end.
func stuckAfterBreak(b *broken) {
	var mu sync.Mutex
	b.devices = func(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
		return func(yield func(*provision.DeviceRecord, error) bool) {
			mu.Lock()
			for d, err := range b.Ledger.Devices(ctx, f) {
				if !yield(d, err) {
					return
				}
			}
			mu.Unlock()
		}
	}
	b.apply = func(ctx context.Context, c provision.Change) error {
		mu.Lock()
		defer mu.Unlock()
		return b.Ledger.Apply(ctx, c)
	}
}

// findsEmpty takes the empty key for one.
func findsEmpty(b *broken) {
	find := func(name bool) map[string]int64 {
		out := map[string]int64{}
		for d := range b.Ledger.Devices(bg, provision.DeviceFilter{}) {
			key := d.Name
			if !name {
				key = string(d.Match)
			}
			if _, ok := out[key]; !ok {
				out[key] = d.Seq
			}
		}
		return out
	}
	b.names = func([]string) (map[string]int64, error) { return find(true), nil }
	b.matches = func([]provision.Match) (map[provision.Match]int64, error) {
		out := map[provision.Match]int64{}
		for k, v := range find(false) {
			out[provision.Match(k)] = v
		}
		return out, nil
	}
}

// halvesSeen makes a change of two devices in two steps, and waits between them until somebody has looked.
func halvesSeen(b *broken) {
	var looks atomic.Int64
	b.counts = func() (*provision.Counts, error) {
		defer looks.Add(1)
		return b.Ledger.Counts(bg)
	}
	b.apply = func(ctx context.Context, c provision.Change) error {
		if len(c.Devices) != 2 {
			return b.Ledger.Apply(ctx, c)
		}
		if err := b.Ledger.Apply(ctx, provision.Change{Devices: c.Devices[:1], Part: c.Part}); err != nil {
			return err
		}
		for from := looks.Load(); looks.Load() < from+4 && ctx.Err() == nil; {
			runtime.Gosched()
		}
		return b.Ledger.Apply(ctx, provision.Change{Devices: c.Devices[1:]})
	}
}

func values[R any](records ...*R) []reflect.Value {
	var list []reflect.Value
	for _, r := range records {
		if r != nil {
			list = append(list, reflect.ValueOf(r))
		}
	}
	return list
}

func each(list []*provision.DeviceRecord, change func(*provision.DeviceRecord)) {
	for _, d := range list {
		change(d)
	}
}

func count(b *broken) int {
	list, _ := collect(b.Ledger.Devices(bg, provision.DeviceFilter{}))
	return len(list)
}

func collect(seq iter.Seq2[*provision.DeviceRecord, error]) (list []*provision.DeviceRecord, err error) {
	for d, err := range seq {
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

func yieldAll(list []*provision.DeviceRecord, err error) iter.Seq2[*provision.DeviceRecord, error] {
	return func(yield func(*provision.DeviceRecord, error) bool) {
		for _, d := range list {
			if !yield(d, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func lower(keys []string) []string {
	keys = slices.Clone(keys)
	for i := range keys {
		keys[i] = strings.ToLower(keys[i])
	}
	return keys
}

func valid(keys []string) []string {
	keys = slices.Clone(keys)
	for i := range keys {
		keys[i] = strings.ToValidUTF8(keys[i], "\ufffd")
	}
	return keys
}

func deepCopy(c provision.Change) provision.Change {
	if c.Run != nil {
		c.Run = new(*c.Run)
	}
	if c.Part != nil {
		c.Part = new(*c.Part)
	}
	device := func(list []*provision.DeviceRecord) []*provision.DeviceRecord {
		list = slices.Clone(list)
		for i, d := range list {
			list[i] = new(*d)
			list[i].Row, list[i].Original, list[i].Policies = maps.Clone(d.Row), maps.Clone(d.Original), slices.Clone(d.Policies)
		}
		return list
	}
	c.Add, c.Devices = device(c.Add), device(c.Devices)
	c.Orphans = slices.Clone(c.Orphans)
	for i, o := range c.Orphans {
		c.Orphans[i] = new(*o)
	}
	return c
}
