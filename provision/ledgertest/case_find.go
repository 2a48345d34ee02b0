package ledgertest

import (
	"context"
	"fmt"
	"slices"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// index is what names and matches have in common.
type index struct {
	set  func(*provision.DeviceRecord, string)
	find func(context.Context, provision.Ledger, ...string) (map[string]int64, error)
}

var indexes = map[string]index{
	"names": {
		set: func(d *provision.DeviceRecord, s string) { d.Name = s },
		find: func(ctx context.Context, l provision.Ledger, keys ...string) (map[string]int64, error) {
			return l.FindNames(ctx, keys)
		},
	},
	"matches": {
		set: func(d *provision.DeviceRecord, s string) { d.Match = provision.Match(s) },
		find: func(ctx context.Context, l provision.Ledger, keys ...string) (map[string]int64, error) {
			list := make([]provision.Match, len(keys))
			for i, k := range keys {
				list[i] = provision.Match(k)
			}
			found, err := l.FindMatches(ctx, list)
			out := make(map[string]int64, len(found))
			for k, v := range found {
				out[string(k)] = v
			}
			return out, err
		},
	},
}

func (t *trial) found(ctx context.Context, l provision.Ledger, x index, want map[string]int64, what string, keys ...string) {
	got, err := x.find(ctx, l, keys...)
	t.ok(err, "finding "+what)
	t.equal(want, got, what)
}

// findCases are those of both indexes and those of certificates.
var findCases = func() []Case {
	var list []Case
	for _, name := range []string{"names", "matches"} {
		list = append(list, indexCases(name, indexes[name])...)
	}
	return append(list, certificateCases...)
}()

func indexCases(name string, x index) []Case {
	method := map[string]string{"names": "FindNames", "matches": "FindMatches"}[name]
	with := func(seq int64, key string, change func(*provision.DeviceRecord)) *provision.DeviceRecord {
		return device(seq, func(d *provision.DeviceRecord) {
			if x.set(d, key); change != nil {
				change(d)
			}
		})
	}
	refused := func(d *provision.DeviceRecord) { d.Verdict, d.Cause = provision.Failed, provision.CauseInvalidRecord }
	replace := func(ctx context.Context, t *trial, l provision.Ledger, list ...*provision.DeviceRecord) {
		t.apply(ctx, l, provision.Change{Devices: list})
	}
	return []Case{
		{
			Name: name + "/first",
			Explanation: method + " returns, for those of the keys that the run has, the first Seq that has it. Duplicates " +
				"are found by it before anything is sent.",
			try: func(ctx context.Context, t *trial) {
				l := t.new(ctx)
				t.apply(ctx, l, provision.Change{Add: []*provision.DeviceRecord{
					with(1, "a", nil), with(2, "b", nil), with(3, "a", nil), with(4, "B", nil), with(5, "a ", nil),
				}})
				t.found(ctx, l, x, map[string]int64{"a": 1, "b": 2}, "some of the keys", "a", "b", "no such key", "a", "A", "%")
				t.found(ctx, l, x, map[string]int64{"B": 4, "a ": 5}, "the other keys", "B", "a ")
				t.found(ctx, l, x, map[string]int64{}, "no key")
				t.found(ctx, t.new(ctx), x, map[string]int64{}, "a key in an empty ledger", "a")
			},
		},
		{
			Name:        name + "/empty",
			Explanation: "A device without a key has none: the empty one is never found. Two devices without are no duplicates.",
			try: func(ctx context.Context, t *trial) {
				l := t.new(ctx)
				t.apply(ctx, l, provision.Change{Add: []*provision.DeviceRecord{with(1, "", nil), with(2, "", nil), with(3, "a", nil)}})
				t.found(ctx, l, x, map[string]int64{"a": 3}, "the empty key and another", "", "a")
			},
		},
		{
			Name: name + "/refused",
			Explanation: method + ": devices that were refused before they were sent (Failed with no attempts) hold no key. " +
				"A good record may follow a bad one of the same name; one that was sent and failed is in AWS all the same.",
			try: func(ctx context.Context, t *trial) {
				l := t.new(ctx)
				sent := func(d *provision.DeviceRecord) { d.Verdict, d.Attempts = provision.Failed, 1 }
				t.apply(ctx, l, provision.Change{Add: []*provision.DeviceRecord{
					with(1, "a", refused), with(2, "b", refused), with(3, "a", nil), with(4, "c", sent), with(5, "c", nil),
				}})
				t.found(ctx, l, x, map[string]int64{"a": 3, "c": 4}, "keys of refused and other devices", "a", "b", "c")
				// A key could not be made, the second in line moves up; the run is tried again, and the first is back.
				replace(ctx, t, l, with(4, "c", refused))
				t.found(ctx, l, x, map[string]int64{"a": 3, "c": 5}, "keys after a device was refused", "a", "b", "c")
				replace(ctx, t, l, with(4, "c", nil), with(2, "b", nil), with(1, "a", sent))
				t.found(ctx, l, x, map[string]int64{"a": 1, "b": 2, "c": 4}, "keys after devices were queued again", "a", "b", "c")
			},
		},
		{
			Name:        name + "/every-verdict",
			Explanation: method + " finds a device whatever became of it. Those refused before they were sent are not found.",
			try: func(ctx context.Context, t *trial) {
				l := t.new(ctx)
				want := map[string]int64{}
				var (
					keys []string
					add  []*provision.DeviceRecord
				)
				for i, v := range allVerdicts {
					for attempts := range 2 {
						seq := int64(2*i + attempts + 1)
						key := fmt.Sprintf("%s-%d", v, attempts)
						keys, add = append(keys, key), append(add, with(seq, key, func(d *provision.DeviceRecord) { d.Verdict, d.Attempts = v, attempts }))
						if v != provision.Failed || attempts > 0 {
							want[key] = seq
						}
					}
				}
				t.apply(ctx, l, provision.Change{Add: add})
				t.found(ctx, l, x, want, "devices of every verdict", keys...)
			},
		},
		{
			Name:        name + "/changed",
			Explanation: method + " knows the keys that devices have, not those they had: a mended record may bring another.",
			try: func(ctx context.Context, t *trial) {
				l := t.new(ctx)
				t.apply(ctx, l, provision.Change{Add: []*provision.DeviceRecord{with(1, "", nil), with(2, "a", nil), with(3, "a", nil)}})
				replace(ctx, t, l, with(1, "b", nil))
				t.found(ctx, l, x, map[string]int64{"a": 2, "b": 1}, "keys after one was set", "a", "b")
				replace(ctx, t, l, with(2, "c", nil), with(1, "b", nil))
				t.found(ctx, l, x, map[string]int64{"a": 3, "b": 1, "c": 2}, "keys after one was changed", "a", "b", "c")
				replace(ctx, t, l, with(3, "", nil), with(1, "a", nil))
				t.found(ctx, l, x, map[string]int64{"a": 1, "c": 2}, "keys after one was taken away", "a", "b", "c")
			},
		},
		{
			Name:        name + "/many",
			Explanation: method + " takes as many keys as there are, and finds each of them.",
			try: func(ctx context.Context, t *trial) {
				l := t.new(ctx)
				const n = 3000
				var (
					keys []string
					add  []*provision.DeviceRecord
				)
				want := map[string]int64{}
				for seq := int64(1); seq <= n; seq++ {
					key := fmt.Sprintf("key-%d", seq)
					add, want[key] = append(add, with(seq, key, nil)), seq
					keys = append(keys, key, fmt.Sprintf("other-%d", seq))
				}
				t.apply(ctx, l, provision.Change{Add: add})
				t.found(ctx, l, x, want, "very many keys", append(keys, keys...)...)
			},
		},
		{
			Name:        name + "/odd",
			Explanation: method + " compares keys byte for byte, whatever is in them.",
			try: func(ctx context.Context, t *trial) {
				l := t.new(ctx)
				want := map[string]int64{}
				for i, s := range oddStrings {
					want[s] = int64(i + 1)
					t.apply(ctx, l, provision.Change{Add: []*provision.DeviceRecord{with(int64(i+1), s, nil)}})
				}
				t.found(ctx, l, x, want, "odd keys", slices.Clone(oddStrings)...)
				t.found(ctx, l, x, map[string]int64{}, "keys that are like the odd ones", "NUL", "NUL\x00", "line", "not UTF-8 \ufffd\ufffd\ufffd", "mark")
			},
		},
	}
}

var certificateCases = []Case{
	{
		Name: "certificates/found",
		Explanation: "FindCertificates returns, for those of the certificate ids that a device of the run has, that device's " +
			"Seq, whatever its verdict. What is not found may be an orphan, and be deleted.",
		try: func(ctx context.Context, t *trial) {
			l := t.new(ctx)
			var add []*provision.DeviceRecord
			want := map[string]int64{}
			keys := []string{"", "no such certificate"}
			for seq := int64(1); seq <= 2000; seq++ {
				add = append(add, device(seq, func(d *provision.DeviceRecord) {
					d.Verdict, d.Attempts = allVerdicts[seq%5], int(seq%2)
					if seq%4 != 0 {
						d.CertificateID = fmt.Sprintf("certificate-%d", seq)
						want[d.CertificateID] = seq
					}
				}))
				keys = append(keys, fmt.Sprintf("certificate-%d", seq))
			}
			t.apply(ctx, l, provision.Change{Add: add})
			got, err := l.FindCertificates(ctx, keys)
			t.ok(err, "FindCertificates")
			t.equal(want, got, "certificates")
			got, err = l.FindCertificates(ctx, nil)
			t.ok(err, "FindCertificates")
			t.equal(map[string]int64{}, got, "no certificates")
		},
	},
	{
		Name:        "certificates/changed",
		Explanation: "FindCertificates knows the certificates that devices have, not those they had.",
		try: func(ctx context.Context, t *trial) {
			l := t.new(ctx)
			with := func(seq int64, id string) *provision.DeviceRecord {
				return device(seq, func(d *provision.DeviceRecord) { d.CertificateID = id })
			}
			t.apply(ctx, l, provision.Change{Add: []*provision.DeviceRecord{with(1, ""), with(2, "a"), with(3, "b"), with(4, "d")}})
			for _, step := range []struct {
				change []*provision.DeviceRecord
				want   map[string]int64
			}{
				{nil, map[string]int64{"a": 2, "b": 3, "d": 4}},
				{[]*provision.DeviceRecord{with(1, "c")}, map[string]int64{"a": 2, "b": 3, "c": 1, "d": 4}},
				{[]*provision.DeviceRecord{with(2, "e")}, map[string]int64{"e": 2, "b": 3, "c": 1, "d": 4}},
				{[]*provision.DeviceRecord{with(3, "")}, map[string]int64{"e": 2, "c": 1, "d": 4}},
				// One takes over what another gives up, in either order.
				{[]*provision.DeviceRecord{with(1, "d"), with(4, "")}, map[string]int64{"e": 2, "d": 1}},
				{[]*provision.DeviceRecord{with(2, ""), with(3, "e")}, map[string]int64{"e": 3, "d": 1}},
			} {
				t.apply(ctx, l, provision.Change{Devices: step.change})
				got, err := l.FindCertificates(ctx, []string{"a", "b", "c", "d", "e"})
				t.ok(err, "FindCertificates")
				t.equal(step.want, got, "certificates")
			}
		},
	},
}
