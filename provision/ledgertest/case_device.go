package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seed1ff6f450/iotfleet/provision"
)

var (
	allVerdicts = []provision.Verdict{provision.Waiting, provision.Submitted, provision.Provisioned, provision.NoKey, provision.Failed, provision.Unknown, provision.Issued}
	someCauses  = []provision.Cause{provision.CauseNone, provision.CauseThrottled, provision.CauseDuplicate}
)

// mixed are devices with all combinations of verdicts, causes and parts, well shuffled.
func mixed() []*provision.DeviceRecord {
	return devices(1, 90, func(d *provision.DeviceRecord) {
		d.Verdict = allVerdicts[int(d.Seq*5)%len(allVerdicts)]
		d.Cause = someCauses[int(d.Seq*11/5%3)]
		d.Part = int(d.Seq * 13 / 15 % 3)
		d.Attempts = int(d.Seq % 2)
		switch d.Seq % 9 {
		case 0:
			d.Existing = []provision.ExistingCertificate{{ID: fmt.Sprintf("%064d", d.Seq)}}
		case 1:
			d.Existing = []provision.ExistingCertificate{}
		}
		d.Name = fmt.Sprintf("device-%d", d.Seq%40) // some have a duplicate or two
	})
}

// expected is what a filter lets through, worked out the plain way.
func expected(list []*provision.DeviceRecord, f provision.DeviceFilter) []int64 {
	out := []int64{}
	for _, d := range list {
		if (len(f.Verdicts) == 0 || slices.Contains(f.Verdicts, d.Verdict)) && (len(f.Causes) == 0 || slices.Contains(f.Causes, d.Cause)) &&
			(f.Part == 0 || f.Part == d.Part) && (!f.Existing || len(d.Existing) > 0) && (f.Name == "" || f.Name == d.Name) && d.Seq > f.AfterSeq && (f.Limit == 0 || len(out) < f.Limit) {
			out = append(out, d.Seq)
		}
	}
	return out
}

func (t *trial) filters(filters ...provision.DeviceFilter) {
	list := mixed()
	t.add(list...)
	for _, f := range filters {
		t.equal(expected(list, f), t.seqs(f), fmt.Sprintf("Seq of the devices let through by %+v", f))
	}
}

// deviceCases: reading devices.
var deviceCases = []rule{
	{"devices/order", "Devices yields devices in order of Seq, also after some were replaced. The order is that of the input, " +
		"which a run that goes on compares with it.", func(t *trial) {
		t.add(devices(1, 20, nil)...)
		for _, seq := range []int64{7, 3, 20, 1} {
			t.apply(provision.Change{Devices: []*provision.DeviceRecord{device(seq, func(d *provision.DeviceRecord) {
				d.Name, d.Verdict = fmt.Sprintf("a-%d", seq), provision.Failed
			})}})
		}
		for _, f := range []provision.DeviceFilter{{}, {Verdicts: []provision.Verdict{provision.Waiting, provision.Failed}}} {
			got := t.seqs(f)
			if len(got) != 20 || !slices.IsSorted(got) {
				t.Failf("Seq of 20 devices let through by %+v: %v", f, got)
			}
		}
	}},
	{"devices/all", "Zero members of a DeviceFilter choose all.", func(t *trial) {
		t.equal([]int64{}, t.seqs(provision.DeviceFilter{}), "an empty ledger")
		t.filters(provision.DeviceFilter{}, provision.DeviceFilter{Verdicts: []provision.Verdict{}, Causes: []provision.Cause{}})
	}},
	{"devices/verdicts", "DeviceFilter.Verdicts chooses devices that have one of the verdicts.", func(t *trial) {
		filters := []provision.DeviceFilter{{Verdicts: []provision.Verdict{provision.Failed, provision.Failed, "no-such-verdict"}}}
		for i := range 1 << len(allVerdicts) {
			f := provision.DeviceFilter{}
			for k, v := range allVerdicts {
				if i&(1<<k) != 0 {
					f.Verdicts = append([]provision.Verdict{v}, f.Verdicts...)
				}
			}
			filters = append(filters, f)
		}
		t.filters(filters...)
	}},
	{"devices/causes", "DeviceFilter.Causes chooses devices that have one of the causes; CauseNone is one of them.", func(t *trial) {
		t.filters(
			provision.DeviceFilter{Causes: []provision.Cause{provision.CauseNone}},
			provision.DeviceFilter{Causes: []provision.Cause{provision.CauseThrottled}},
			provision.DeviceFilter{Causes: []provision.Cause{provision.CauseDuplicate, provision.CauseNone}},
			provision.DeviceFilter{Causes: []provision.Cause{provision.CauseOther}})
	}},
	{"devices/name", "DeviceFilter.Name chooses devices of that name, byte for byte and all of them: also duplicates, and those " +
		"that were refused.", func(t *trial) {
		t.filters(provision.DeviceFilter{Name: "device-7"}, provision.DeviceFilter{Name: "device-39"},
			provision.DeviceFilter{Name: "Device-7"}, provision.DeviceFilter{Name: "nobody"})
	}},
	{"devices/part", "DeviceFilter.Part chooses devices that were last sent in that part.", func(t *trial) {
		t.filters(provision.DeviceFilter{Part: 1}, provision.DeviceFilter{Part: 2}, provision.DeviceFilter{Part: 9})
	}},
	{"devices/existing", "DeviceFilter.Existing chooses devices with certificates in Existing.", func(t *trial) {
		t.filters(provision.DeviceFilter{Existing: true}, provision.DeviceFilter{Existing: true, AfterSeq: 30, Limit: 2})
	}},
	{"devices/after-and-limit", "DeviceFilter.AfterSeq chooses devices behind that one; DeviceFilter.Limit ends the sequence after so many.", func(t *trial) {
		var filters []provision.DeviceFilter
		for _, after := range []int64{0, 1, 89, 90, 91, 1 << 60} {
			for _, limit := range []int{0, 1, 2, 89, 90, 1000} {
				filters = append(filters, provision.DeviceFilter{AfterSeq: after, Limit: limit})
			}
		}
		t.filters(filters...)
	}},
	{"devices/combined", "A device is let through if every member of the filter lets it through; Limit counts those that are.", func(t *trial) {
		var filters []provision.DeviceFilter
		for _, verdicts := range [][]provision.Verdict{nil, {provision.Failed}, {provision.Waiting, provision.Failed, provision.Unknown}} {
			for _, causes := range [][]provision.Cause{nil, {provision.CauseNone}, {provision.CauseThrottled, provision.CauseDuplicate}} {
				for _, part := range []int{0, 2} {
					for _, after := range []int64{0, 30} {
						for _, limit := range []int{0, 1, 3} {
							f := provision.DeviceFilter{Verdicts: verdicts, Causes: causes, Part: part, AfterSeq: after, Limit: limit}
							named := f
							named.Name = "device-7"
							existing := f
							existing.Existing = true
							filters = append(filters, f, named, existing)
						}
					}
				}
			}
		}
		t.filters(filters...)
	}},
	{"devices/many", "Devices yields all devices that the filter lets through, however many there are and however far apart: a " +
		"ledger that reads them by the page must neither lose nor repeat one between two pages.", func(t *trial) {
		const n = 4000
		list := devices(1, n, func(d *provision.DeviceRecord) {
			d.Verdict, d.Cause, d.Part = allVerdicts[d.Seq%3], someCauses[d.Seq%2], int(d.Seq%7%2)
			if d.Seq > n/2 {
				d.Verdict = provision.Failed
			}
		})
		t.add(list...)
		for _, f := range []provision.DeviceFilter{
			{}, {Limit: 3333, AfterSeq: 100}, {Part: 1}, {Causes: someCauses[1:]}, {Verdicts: allVerdicts[1:2]}, {Verdicts: allVerdicts[1:4]},
			{Verdicts: allVerdicts[:3], Limit: 1999}, {Verdicts: allVerdicts[2:4], Causes: someCauses[:1], Limit: 1500, AfterSeq: 10},
		} {
			t.equal(expected(list, f), t.seqs(f), fmt.Sprintf("Seq of the devices let through by %+v", f))
		}
	}},
	{"devices/again", "The sequence of Devices is not for one use: it can be read twice, and yields what is there each time.", func(t *trial) {
		t.add(devices(1, 3, nil)...)
		seq := t.l.Devices(t.ctx, provision.DeviceFilter{Limit: 5})
		for _, want := range []int{3, 5} {
			n := 0
			for _, err := range seq {
				t.OK(err, "Devices")
				n++
			}
			t.equal(want, n, "number of devices")
			t.apply(provision.Change{Add: devices(4, int64(4*(5-n)), nil)})
		}
	}},
	{"devices/break", "A caller may stop reading at any device; nothing of the sequence stays behind, and the ledger goes on. " +
		"Two sequences can be read at once.", func(t *trial) {
		t.add(devices(1, 30, nil)...)
		for i := range 30 {
			n := 0
			for d, err := range t.l.Devices(t.ctx, provision.DeviceFilter{}) {
				t.OK(err, "Devices")
				for inner, err := range t.l.Devices(t.ctx, provision.DeviceFilter{AfterSeq: d.Seq}) {
					t.OK(err, "Devices within Devices")
					t.equal(d.Seq+1, inner.Seq, "Seq of the next device")
					break
				}
				if n++; n > i {
					break
				}
			}
			t.replace(devices(1, 30, nil)...)
		}
	}},
	{"devices/change-while-reading", "The ledger may be changed while the sequence is read, also by whoever reads it; a device is yielded at " +
		"most once, and those that are let through all the time are all yielded.", func(t *trial) {
		// The number is odd and larger than any page.
		const n = 2501
		for _, f := range []provision.DeviceFilter{
			{}, {Part: 1}, {Verdicts: allVerdicts}, {Verdicts: []provision.Verdict{provision.Waiting, provision.Submitted}},
			{Verdicts: []provision.Verdict{provision.Waiting}}, // what was read is not let through any more
		} {
			t.new()
			t.add(devices(1, n, func(d *provision.DeviceRecord) { d.Part = 1 })...)
			last, added := int64(0), int64(0)
			for d, err := range t.l.Devices(t.ctx, f) {
				t.OK(err, "Devices")
				if d.Seq <= last {
					t.Failf("device %d was yielded after device %d", d.Seq, last)
				}
				if d.Seq != last+1 {
					t.Failf("device %d was left out", last+1)
				}
				last = d.Seq
				if d.Seq > n {
					continue // one of those added meanwhile
				}
				if d.Seq%40 != 1 && d.Seq != n {
					continue
				}
				// The device read moves to where it could be met again; the last one stays, but changes.
				d.Verdict = provision.Submitted
				end := device(n, func(d *provision.DeviceRecord) { d.Part, d.Message = 1, fmt.Sprint(last) })
				c := provision.Change{Devices: []*provision.DeviceRecord{d, end}}
				if d.Seq == n {
					c.Devices = c.Devices[:1]
				}
				if d.Seq%400 == 1 {
					added++
					c.Add = devices(n+added, n+added, nil)
				}
				t.apply(c)
			}
			if last < n {
				t.Failf("the sequence ended after %d of %d devices", last, n)
			}
		}
	}},
	{"devices/cancelled", "The error of Devices is terminal and last. Cancellation is such an error: it is yielded, never " +
		"swallowed, or a caller would take a part of the devices for all of them.", func(t *trial) {
		const n = 1200
		t.add(devices(1, n, nil)...)
		reason := errors.New("the operator went home")
		for _, after := range []int{0, 1, 500, 1100} {
			ctx, cancel := context.WithCancelCause(t.ctx)
			if after == 0 {
				cancel(reason)
			}
			read, failed := 0, error(nil)
			for d, err := range t.l.Devices(ctx, provision.DeviceFilter{}) {
				if failed != nil {
					t.Failf("after its error, Devices yielded %v and error %v", d, err)
				}
				if failed = err; err != nil {
					if d != nil {
						t.Failf("Devices yielded device %d and an error", d.Seq)
					}
					continue
				}
				if read++; read == after {
					cancel(reason)
				}
			}
			if !errors.Is(failed, reason) {
				t.Failf("cancelled after %d of %d devices, Devices yielded %d and error %v; want an error for %q", after, n, read, failed, reason)
			}
			cancel(nil)
		}
	}},
}
