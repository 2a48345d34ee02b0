package ledgertest

import (
	"fmt"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// everything is a change to a ledger of n devices that touches all there is.
func everything(n int64) provision.Change {
	return provision.Change{
		Run:     &provision.RunRecord{ID: fmt.Sprintf("run-%d", n), Total: n},
		Add:     devices(n+1, n+3, nil),
		Devices: devices(1, min(n, 2), func(d *provision.DeviceRecord) { d.Verdict, d.Attempts = provision.Submitted, int(n) }),
		Part:    &provision.PartRecord{Number: int(n) + 1, Lines: int(n)},
		Orphans: []*provision.Orphan{{CertificateID: fmt.Sprintf("certificate-%d", n)}, {CertificateID: "certificate", Seq: n}},
	}
}

// begin puts three devices and one of everything else into the ledger.
func (t *trial) begin() { t.apply(everything(0)) }

// applyCases: a change is made as a whole, and records are copied.
var applyCases = []rule{
	{"apply/whole", "Apply makes all of a change: the run, devices that are added, devices that are replaced, a part and " +
		"orphans. What it has returned nil for is there for the next call.", func(t *trial) {
		t.begin()
		c := everything(3)
		t.apply(c)
		t.equal(state{
			Run:     c.Run,
			Devices: append(append(c.Devices, device(3, nil)), c.Add...),
			Parts:   []*provision.PartRecord{{Number: 1}, c.Part},
			Orphans: []*provision.Orphan{{CertificateID: "certificate-0"}, c.Orphans[1], c.Orphans[0]},
		}, t.state(), "after two changes")
	}},
	{"apply/empty", "Apply makes all of a change; of a change with nothing in it that is nothing.", func(t *trial) {
		t.begin()
		before := t.state()
		t.apply(provision.Change{})
		t.apply(provision.Change{Add: []*provision.DeviceRecord{}, Devices: []*provision.DeviceRecord{}, Orphans: []*provision.Orphan{}})
		t.equal(before, t.state(), "after an empty change")
	}},
	{"apply/gap", "In Change.Add, Seq must go on from the last one without a gap. A change with a gap, a number that is " +
		"taken, or another order is refused, and nothing of it is made.", func(t *trial) {
		t.begin() // the next is 4
		for name, seqs := range map[string][]int64{
			"a gap": {5}, "a gap after a good one": {4, 6}, "a taken number": {3}, "a number twice": {4, 4},
			"the wrong order": {5, 4}, "number 0": {0}, "a negative number": {-1}, "number 1 again": {1, 2, 3, 4},
		} {
			c := everything(3)
			c.Add = nil
			for _, seq := range seqs {
				c.Add = append(c.Add, device(seq, nil))
			}
			t.refused(c, name)
		}
		t.apply(everything(3)) // and the ledger goes on
		t.equal([]int64{1, 2, 3, 4, 5, 6}, t.seqs(provision.DeviceFilter{}), "Seq of the devices")

		t.new()
		t.refused(provision.Change{Add: devices(2, 3, nil)}, "a gap at the beginning")
		t.refused(provision.Change{Add: devices(0, 1, nil)}, "number 0 at the beginning")
	}},
	{"apply/remove", "Change.RemoveFrom removes the devices with this Seq and all after it, before others are added; they hold no " +
		"names and no matches any more. A number that is not there, the next one apart, is refused.", func(t *trial) {
		t.begin()
		for _, from := range []int64{-1, 5, 1 << 40} {
			c := everything(3)
			c.RemoveFrom = from
			t.refused(c, fmt.Sprintf("devices to be removed from number %d", from))
		}
		t.refused(provision.Change{RemoveFrom: 2, Devices: devices(2, 2, nil)}, "a replacement for a device that is removed")
		other := device(2, func(d *provision.DeviceRecord) { d.Name, d.Match = "another", "key:1" })
		t.apply(provision.Change{RemoveFrom: 2, Add: []*provision.DeviceRecord{other}})
		t.equal([]*provision.DeviceRecord{device(1, nil), other}, t.state().Devices, "devices")
		found, err := t.l.FindNames(t.ctx, []string{"device-1", "device-2", "device-3", "another"})
		t.OK(err, "FindNames")
		t.equal(map[string]int64{"device-1": 1, "another": 2}, found, "names that are held")
		t.apply(provision.Change{RemoveFrom: 3, Add: devices(3, 3, nil)})
		t.apply(provision.Change{RemoveFrom: 1})
		t.equal(0, len(t.seqs(provision.DeviceFilter{})), "devices, when all are removed")
		t.apply(provision.Change{Add: devices(1, 2, nil)})
	}},
	{"apply/missing", "Change.Devices replaces devices by Seq; each must be there. If one is not, nothing of the change is made.", func(t *trial) {
		t.begin()
		for _, seq := range []int64{0, -1, 9, 1 << 40} {
			c := everything(3)
			c.Devices = append(c.Devices, device(seq, nil))
			t.refused(c, fmt.Sprintf("a replacement for device %d, which is not there,", seq))
			c.Devices[0], c.Devices[2] = c.Devices[2], c.Devices[0]
			t.refused(c, fmt.Sprintf("a replacement for device %d, which is not there, as the first", seq))
		}
		t.apply(everything(3))
	}},
	{"apply/part-number", "A part's Number is 1 or more. Otherwise nothing of the change is made.", func(t *trial) {
		t.begin()
		for _, n := range []int{0, -1} {
			c := everything(3)
			c.Part.Number = n
			t.refused(c, fmt.Sprintf("part %d", n))
		}
		t.apply(everything(3))
	}},
	{"apply/twice", "Change.Devices replaces devices by Seq, Change.Orphans orphans by CertificateID: of two for the same, the last stays.", func(t *trial) {
		t.begin()
		a, b := device(2, nil), device(2, nil)
		a.Message, b.Message = "first", "second"
		x, y := &provision.Orphan{CertificateID: "x", Why: "first"}, &provision.Orphan{CertificateID: "x", Why: "second"}
		t.apply(provision.Change{Devices: []*provision.DeviceRecord{a, b}, Orphans: []*provision.Orphan{x, y}})
		s := t.state()
		t.equal([]*provision.DeviceRecord{device(1, nil), b, device(3, nil)}, s.Devices, "devices")
		t.equal([]*provision.Orphan{{CertificateID: "certificate-0"}, {CertificateID: "certificate"}, y}, s.Orphans, "orphans")
	}},
	{"apply/many", "Apply makes all of a change, however many devices it has.", func(t *trial) {
		const n = 5000
		add := devices(1, n, nil)
		t.add(add...)
		t.equal(add, t.devices(provision.DeviceFilter{}), "added devices")
		change := devices(1, n, func(d *provision.DeviceRecord) { d.Verdict, d.Part = provision.Submitted, 1 })
		t.replace(change...)
		t.equal(change, t.devices(provision.DeviceFilter{}), "replaced devices")
	}},
	{"copy/in", "Records are copied in: changing one after Apply changes nothing in the ledger.", func(t *trial) {
		t.begin()
		given, want := whole(), whole()
		t.apply(given)
		spoil(given.Run, given.Add, given.Devices, []*provision.PartRecord{given.Part}, given.Orphans)
		t.equalWhole(want)
	}},
	{"copy/out", "Records are copied out: changing one that a call returned changes nothing in the ledger.", func(t *trial) {
		t.begin()
		want := whole()
		t.apply(whole())
		s := t.state()
		spoil(s.Run, s.Devices, nil, s.Parts, s.Orphans)
		clear(s.Parts)
		clear(s.Orphans)
		t.equalWhole(want)

		counts := t.counts()
		counts.Verdicts["Verdict-1"], counts.Causes["Cause-1"] = 7, 7
		t.equal(int64(4), t.counts().Total(), "the number of devices after a caller changed a Counts")

		found := t.find(names, "device-3", "device-9")
		found["device-9"] = 9 // callers add the names of their own batch
		found["device-3"] = 9
		t.equal(map[string]int64{"device-3": 3}, t.find(names, "device-3", "device-9"), "FindNames after a caller changed its answer")
	}},
}

// whole is a change to a begun ledger with every field filled.
func whole() provision.Change {
	add, replace, part := filled[provision.DeviceRecord](4), filled[provision.DeviceRecord](1), filled[provision.PartRecord](1)
	add.Seq, replace.Seq, part.Number = 4, 1, 2
	return provision.Change{
		Run: filled[provision.RunRecord](1), Add: []*provision.DeviceRecord{add}, Devices: []*provision.DeviceRecord{replace},
		Part: part, Orphans: []*provision.Orphan{filled[provision.Orphan](1)},
	}
}

func (t *trial) equalWhole(c provision.Change) {
	s := t.state()
	t.equal(c.Run, s.Run, "the run")
	t.equal([]*provision.DeviceRecord{c.Devices[0], device(2, nil), device(3, nil), c.Add[0]}, s.Devices, "devices")
	t.equal(c.Part, s.Parts[1], "the part")
	t.equal(c.Orphans[0], s.Orphans[2], "the orphan")
}

// spoil changes records in every way that a caller could.
func spoil(run *provision.RunRecord, a, b []*provision.DeviceRecord, parts []*provision.PartRecord, orphans []*provision.Orphan) {
	*run = provision.RunRecord{ID: "spoiled"}
	for _, d := range append(a, b...) {
		for k := range d.Row {
			d.Row[k] = "spoiled"
		}
		if d.Row != nil {
			d.Row["new"] = "spoiled"
		}
		for i := range d.Policies {
			d.Policies[i] = "spoiled"
		}
		d.Name, d.Verdict, d.Message = "spoiled", provision.Unknown, "spoiled"
	}
	for _, p := range parts {
		*p = provision.PartRecord{Number: p.Number, State: "spoiled"}
	}
	for _, o := range orphans {
		*o = provision.Orphan{CertificateID: o.CertificateID, Why: "spoiled"}
	}
}
