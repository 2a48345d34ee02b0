package ledgertest

import (
	"context"
	"fmt"
	"slices"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// index is a way to find devices by a key.
type index struct {
	name, method string
	set          func(d *provision.DeviceRecord, key string)
	find         func(l provision.Ledger, ctx context.Context, keys []string) (map[string]int64, error)
}

var (
	names = index{"names", "FindNames", func(d *provision.DeviceRecord, s string) { d.Name = s }, provision.Ledger.FindNames}

	certificates = index{"certificates", "FindCertificates", func(d *provision.DeviceRecord, s string) { d.CertificateID = s },
		provision.Ledger.FindCertificates}

	matches = index{"matches", "FindMatches", func(d *provision.DeviceRecord, s string) { d.Match = provision.Match(s) },
		func(l provision.Ledger, ctx context.Context, keys []string) (map[string]int64, error) {
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
		}}
)

func (t *trial) find(x index, keys ...string) map[string]int64 {
	got, err := x.find(t.l, t.ctx, keys)
	t.OK(err, x.method)
	return got
}

func (t *trial) found(x index, want map[string]int64, what string, keys ...string) {
	t.equal(want, t.find(x, keys...), what)
}

// findCases are those of both indexes that refused devices are not in, and those of certificates.
var findCases = slices.Concat(indexCases(names), indexCases(matches), certificateCases)

func indexCases(x index) []rule {
	with := func(seq int64, key string, change func(*provision.DeviceRecord)) *provision.DeviceRecord {
		return device(seq, func(d *provision.DeviceRecord) {
			if x.set(d, key); change != nil {
				change(d)
			}
		})
	}
	refused := func(d *provision.DeviceRecord) { d.Verdict, d.Cause = provision.Failed, provision.CauseInvalidRecord }
	return []rule{
		{x.name + "/first", x.method + " returns, for those of the keys that the run has, the first Seq that has it. Duplicates " +
			"are found by it before anything is sent.", func(t *trial) {
			t.add(with(1, "a", nil), with(2, "b", nil), with(3, "a", nil), with(4, "B", nil), with(5, "a ", nil))
			t.found(x, map[string]int64{"a": 1, "b": 2}, "some of the keys", "a", "b", "no such key", "a", "A", "%")
			t.found(x, map[string]int64{"B": 4, "a ": 5}, "the other keys", "B", "a ")
			t.found(x, map[string]int64{}, "no key")
			t.new()
			t.found(x, map[string]int64{}, "a key in an empty ledger", "a")
		}},
		{x.name + "/empty", "A device without a key has none: the empty one is never found. Two devices without are no duplicates.", func(t *trial) {
			t.add(with(1, "", nil), with(2, "", nil), with(3, "a", nil))
			t.found(x, map[string]int64{"a": 3}, "the empty key and another", "", "a")
		}},
		{x.name + "/refused", x.method + ": devices that were refused before they were sent (Failed with no attempts) hold no key. " +
			"A good record may follow a bad one of the same name; one that was sent and failed is in AWS all the same.", func(t *trial) {
			sent := func(d *provision.DeviceRecord) { d.Verdict, d.Attempts = provision.Failed, 1 }
			t.add(with(1, "a", refused), with(2, "b", refused), with(3, "a", nil), with(4, "c", sent), with(5, "c", nil))
			t.found(x, map[string]int64{"a": 3, "c": 4}, "keys of refused and other devices", "a", "b", "c")
			// A key could not be made, the second in line moves up; the run is tried again, and the first is back.
			t.replace(with(4, "c", refused))
			t.found(x, map[string]int64{"a": 3, "c": 5}, "keys after a device was refused", "a", "b", "c")
			t.replace(with(4, "c", nil), with(2, "b", nil), with(1, "a", sent))
			t.found(x, map[string]int64{"a": 1, "b": 2, "c": 4}, "keys after devices were queued again", "a", "b", "c")
		}},
		{x.name + "/every-verdict", x.method + " finds a device whatever became of it. Those refused before they were sent are not found.", func(t *trial) {
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
			t.add(add...)
			t.found(x, want, "devices of every verdict", keys...)
		}},
		{x.name + "/changed", x.method + " knows the keys that devices have, not those they had: a mended record may bring another.", func(t *trial) {
			t.add(with(1, "", nil), with(2, "a", nil), with(3, "a", nil))
			t.replace(with(1, "b", nil))
			t.found(x, map[string]int64{"a": 2, "b": 1}, "keys after one was set", "a", "b")
			t.replace(with(2, "c", nil), with(1, "b", nil))
			t.found(x, map[string]int64{"a": 3, "b": 1, "c": 2}, "keys after one was changed", "a", "b", "c")
			t.replace(with(3, "", nil), with(1, "a", nil))
			t.found(x, map[string]int64{"a": 1, "c": 2}, "keys after one was taken away", "a", "b", "c")
		}},
		{x.name + "/many", x.method + " takes as many keys as there are, and finds each of them.", func(t *trial) {
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
			t.add(add...)
			t.found(x, want, "very many keys", append(keys, keys...)...)
		}},
		{x.name + "/odd", x.method + " compares keys byte for byte, whatever is in them.", func(t *trial) {
			want := map[string]int64{}
			for i, s := range oddStrings {
				want[s] = int64(i + 1)
				t.add(with(int64(i+1), s, nil))
			}
			t.found(x, want, "odd keys", slices.Clone(oddStrings)...)
			t.found(x, map[string]int64{}, "keys that are like the odd ones", "NUL", "NUL\x00", "line", "not UTF-8 \ufffd\ufffd\ufffd", "mark")
		}},
	}
}

var certificateCases = []rule{
	{"certificates/found", "FindCertificates returns, for those of the certificate ids that a device of the run has, that device's " +
		"Seq, whatever its verdict. What is not found may be an orphan, and be deleted.", func(t *trial) {
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
		t.add(add...)
		t.found(certificates, want, "certificates", keys...)
		t.found(certificates, map[string]int64{}, "no certificates")
	}},
	{"certificates/changed", "FindCertificates knows the certificates that devices have, not those they had.", func(t *trial) {
		with := func(seq int64, id string) *provision.DeviceRecord {
			return device(seq, func(d *provision.DeviceRecord) { d.CertificateID = id })
		}
		t.add(with(1, ""), with(2, "a"), with(3, "b"), with(4, "d"))
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
			t.replace(step.change...)
			t.found(certificates, step.want, "certificates", "a", "b", "c", "d", "e")
		}
	}},
}
