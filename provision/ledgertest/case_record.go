package ledgertest

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// recordCases: what goes in comes out.
var recordCases = []rule{
	{"record/none", "Run returns the run's record, or ErrNoRun. A new ledger has no run, whatever else was put into it; " +
		"a run tells by this error whether it starts or goes on.", func(t *trial) {
		t.equal(state{}, t.state(), "a new ledger")
		for _, c := range []provision.Change{{}, {Add: devices(1, 2, nil)}, {Part: &provision.PartRecord{Number: 1}}} {
			t.apply(c)
			if r, err := t.l.Run(t.ctx); !errors.Is(err, provision.ErrNoRun) {
				t.Failf("Run of a ledger without a run: got %v and error %v, want ErrNoRun", r, err)
			}
		}
	}},
	{"record/run", "Change.Run creates or replaces the run's record, every field of it. A field that is lost makes a " +
		"resumed run another one.", func(t *trial) {
		for _, r := range variants[provision.RunRecord]() {
			t.apply(provision.Change{Run: r})
			t.equal(r, t.run(), "the run's record")
		}
	}},
	{"record/device-added", "Change.Add appends devices, every field of their records. A device's certificate, its ARNs and AWS's " +
		"text are nowhere else.", func(t *trial) {
		want := deviceVariants()
		t.add(want...)
		t.equal(want, t.devices(provision.DeviceFilter{}), "devices")
	}},
	{"record/device-replaced", "Change.Devices replaces devices by Seq: every field, also one that is zero in the new record.", func(t *trial) {
		want := deviceVariants()
		n := int64(len(want))
		for i := range n {
			full := filled[provision.DeviceRecord](50 + int(i))
			full.Seq = i + 1
			t.add(full)
		}
		t.replace(want...)
		t.equal(want, t.devices(provision.DeviceFilter{}), "devices")
	}},
	{"record/input-stays", "Change.InputStays leaves the Name, Source, Row, Original and Meta of Devices as the ledger has them, whatever " +
		"the records hold. Every other field is replaced, also by one that is zero.", func(t *trial) {
		given, want := deviceVariants(), deviceVariants()
		held := map[string]int64{}
		for i, w := range want {
			full := filled[provision.DeviceRecord](50 + i)
			full.Seq = w.Seq
			t.add(full)
			w.Name, w.Source, w.Row, w.Original, w.Meta = full.Name, full.Source, full.Row, full.Original, full.Meta
			held[full.Name] = w.Seq
		}
		t.apply(provision.Change{Devices: given, InputStays: true})
		t.equal(want, t.devices(provision.DeviceFilter{}), "devices")
		t.found(names, held, "names that are held", slices.Collect(maps.Keys(held))...)
	}},
	{"record/part", "Change.Part creates or replaces a part by Number, every field of it. What a part record lacks, a run " +
		"that goes on has to guess.", func(t *trial) {
		var want []*provision.PartRecord
		for i, p := range variants[provision.PartRecord]() {
			p.Number = i + 1
			want = append(want, p)
			full := filled[provision.PartRecord](i + 50)
			full.Number = p.Number
			t.apply(provision.Change{Part: full})
			t.apply(provision.Change{Part: p})
		}
		t.equal(want, t.parts(), "parts")
	}},
	{"record/orphan", "Change.Orphans creates or replaces orphans by CertificateID, every field of them.", func(t *trial) {
		want := variants[provision.Orphan]()
		for i, o := range want {
			o.CertificateID = fmt.Sprintf("certificate-%d", i)
			full := filled[provision.Orphan](i + 50)
			full.CertificateID = o.CertificateID
			t.apply(provision.Change{Orphans: []*provision.Orphan{full}})
		}
		t.apply(provision.Change{Orphans: want})
		t.equal(want, t.orphans(), "orphans")
	}},
	{"record/times", "What a record holds comes back as it was: times are the same instant to the nanosecond, whatever " +
		"their zone, and the zero time stays zero. \"Not yet\" is a zero time.", func(t *trial) {
		for i, at := range []time.Time{
			{},
			time.Unix(0, 0),
			time.Unix(0, 1),
			time.Date(2026, 11, 23, 8, 15, 0, 999999999, time.UTC),
			time.Date(2026, 11, 23, 8, 15, 0, 1, time.FixedZone("CET", 3600)),
			time.Date(2026, 11, 23, 0, 0, 0, 0, time.FixedZone("", -11*3600-30*60)),
			time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
			time.Date(1899, 12, 31, 23, 59, 59, 0, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		} {
			d := device(int64(i+1), func(d *provision.DeviceRecord) { d.Updated = at })
			t.apply(provision.Change{Run: &provision.RunRecord{Created: at}, Add: []*provision.DeviceRecord{d}})
			t.equal([]*provision.DeviceRecord{d}, t.devices(provision.DeviceFilter{AfterSeq: d.Seq - 1}), "a device")
			t.equal(at, t.run().Created, "Created")
		}
	}},
	{"record/original", "DeviceRecord.Original is the row as the input had it, if it was mended since; nil otherwise. So nil stays " +
		"nil, and a row without values is no nil.", func(t *trial) {
		empty := device(2, nil)
		empty.Original = map[string]string{}
		t.add(device(1, nil), empty, device(3, nil))
		for _, d := range t.devices(provision.DeviceFilter{}) {
			if isNil, want := d.Original == nil, d.Seq != 2; isNil != want {
				t.Failf("device %d: Original is nil: %t, want %t", d.Seq, isNil, want)
			}
		}
	}},
	{"record/strings", "What a record holds comes back as it was, byte for byte: a record of the input that is not valid is in " +
		"the ledger too, and a run that goes on compares it with the input. Row, Original and Policies are UTF-8.", func(t *trial) {
		var want []*provision.DeviceRecord
		for i, s := range oddStrings {
			d := new(provision.DeviceRecord)
			for _, f := range leaves(reflect.TypeFor[provision.DeviceRecord]()) {
				if v := reflect.ValueOf(d).Elem().FieldByIndex(f.index); v.Kind() == reflect.String {
					v.SetString(s)
				}
			}
			d.Seq = int64(i + 1)
			u := strings.ToValidUTF8(s, "\ufffd") // rows and names of policies are UTF-8
			d.Row = map[string]string{u: u, "plain": "plain", u + "+": u}
			d.Original = map[string]string{u: "plain"}
			d.Policies = []string{u, "plain", u}
			want = append(want, d)
			r := &provision.RunRecord{ID: s, RoleARN: s}
			p := &provision.PartRecord{Number: i + 1, File: s, Message: s}
			o := &provision.Orphan{CertificateID: fmt.Sprint(i) + s, Why: s}
			t.apply(provision.Change{Run: r, Add: []*provision.DeviceRecord{d}, Part: p, Orphans: []*provision.Orphan{o}})
			got := t.state()
			t.equal(want, got.Devices, "devices")
			t.equal(r, got.Run, "the run")
			t.equal(p, got.Parts[len(got.Parts)-1], "the part")
			t.equal(o, got.Orphans[len(got.Orphans)-1], "the orphan")
		}
		t.replace(want...)
		t.equal(want, t.devices(provision.DeviceFilter{}), "devices, replaced by themselves")
	}},
	{"record/numbers", "What a record holds comes back as it was: numbers are not rounded and not cut.", func(t *trial) {
		for i, n := range []int64{1 << 31, 1<<53 + 1, math.MaxInt64} {
			d := device(int64(i+1), func(d *provision.DeviceRecord) { d.Line = n })
			r := &provision.RunRecord{Total: n}
			p := &provision.PartRecord{Number: 1, Bytes: n, CredentialsTook: time.Duration(n)}
			t.apply(provision.Change{Run: r, Add: []*provision.DeviceRecord{d}, Part: p})
			got := t.state()
			t.equal(r, got.Run, "the run")
			t.equal(d, got.Devices[i], "the device")
			t.equal([]*provision.PartRecord{p}, got.Parts, "the part")
		}
	}},
}

// oddStrings are what ends up in records when files are read that nobody checked.
var oddStrings = []string{
	"NUL\x00inside", "\x00", "not UTF-8 \xff\xfe\xc3", "\xed\xa0\x80", "'; DROP TABLE devices; --", `"quoted" \ back`,
	"line\r\nbreak\ttab", " spaces ", "\ufeffmark", "größe 設備 🏭", "%d%s{}[]$1?", "null", "0", "\u2028<&>",
	strings.Repeat("long\x00\xff", 20_000),
}

// variants are records of which each has one field that is not zero, one that has all, and one that has none.
func variants[R any]() []*R {
	list := []*R{filled[R](1)}
	for i, f := range leaves(reflect.TypeFor[R]()) {
		r := new(R)
		fill(reflect.ValueOf(r).Elem().FieldByIndex(f.index), f.name, i+2)
		list = append(list, r)
	}
	return append(list, new(R))
}

func deviceVariants() []*provision.DeviceRecord {
	list := variants[provision.DeviceRecord]()
	for i, d := range list {
		d.Seq = int64(i + 1)
	}
	return list
}
