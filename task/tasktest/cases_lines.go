package tasktest

import (
	"errors"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// lineFault is a fault of one line, and what the line has done by then.
type lineFault struct {
	name                                    string
	fault                                   Fault
	certificate, thing, policy, attachedToo bool
	why                                     string
}

var lineFaults = []lineFault{
	{name: "lines/untouched", fault: FailLineBeforeCertificate,
		why: "A line that failed before its first step must look like any other refused one."},
	{name: "lines/certificate-made", fault: FailLineAfterCertificate, certificate: true,
		why: "The account now holds a certificate that no report names; a device registered again on top of that has two."},
	{name: "lines/thing-made", fault: FailLineAfterThing, certificate: true, thing: true,
		why: "The thing is there without a certificate, and reads as registered to whoever looks at the thing alone."},
	{name: "lines/policies-attached", fault: FailLineAfterPolicies, certificate: true, thing: true, policy: true,
		why: "The certificate can act although no report names it."},
	{name: "lines/certificate-attached", fault: FailLineAfterAttachment, certificate: true, thing: true, policy: true, attachedToo: true,
		why: "The device is complete except for the status of its certificate, and yet reported as refused."},
	{name: "lines/all-made", fault: FailLineAfterAll, certificate: true, thing: true, policy: true, attachedToo: true,
		why: "Nothing but reading the device back tells that it can work."},
}

// lineCases are about a line that fails at one of its steps: what it made until then stays, and none of it may be lost
// from sight.
func lineCases() []Case {
	const lines = "RESULTS those that were registered, ERRORS those that were refused."
	var cases []Case
	for _, f := range lineFaults {
		cases = append(cases, Case{f.name, quoted("ListReports", lines, f.why), f.check})
	}
	return cases
}

// check registers four devices, of which the second fails on its way.
func (f lineFault) check(b *bench) {
	lift := b.inject(f.fault)
	defer lift()
	before := b.all("", 0)
	devices := b.newDevices(4)
	object := b.upload(devices)
	t := b.start(object)
	d := b.ended(t)
	if d.Succeeded != 3 || d.Failed != 1 {
		b.Failf("of four lines with one that fails %d were registered and %d refused", d.Succeeded, d.Failed)
	}
	if tasks := b.tasksOver(object, before); len(tasks) != 1 {
		b.Failf("%d tasks work on the data file", len(tasks))
	}
	failed := devices[failingLine-1]
	others := append(devices[:failingLine-1:failingLine-1], devices[failingLine:]...)
	b.registered(t, others)
	refused := b.refusals(t)
	if len(refused) != 1 {
		b.Failf("ERRORS has %d lines for the one that was refused", len(refused))
	}
	if e := refused[0]; e.Line != 0 && e.Line != failingLine {
		b.Failf("the ERRORS line for line %d is %s", failingLine, e.Raw)
	}
	f.readBack(b, failed)
	f.certificates(b, d.Created, failed, others)
}

// readBack looks for the thing of the failed line, as far as the backend can do that.
func (f lineFault) readBack(b *bench, failed device) {
	reader, ok := task.As[task.DeviceReader](b.backend)
	if !ok {
		return
	}
	got, err := reader.ReadDevice(b.ctx, failed.name)
	if !f.thing {
		b.Is(err, task.ErrNotFound, "ReadDevice of a thing that was never made")
		return
	}
	b.OK(err, "ReadDevice of a thing whose line failed later")
	want := 0
	if f.attachedToo {
		want = 1
	}
	if len(got.Certificates) != want {
		b.Failf("ReadDevice returned %d certificates, and %d is attached to the thing", len(got.Certificates), want)
	}
	for _, c := range got.Certificates {
		if key, err := certificateKey(c.PEM); err != nil || string(key) != string(failed.key) {
			b.Failf("ReadDevice returned a certificate for another key than the device's: %s", said(err))
		}
	}
}

// certificates looks through those the task made, as far as the backend can do that: one for the key of each device,
// the failed one's included if it came that far.
func (f lineFault) certificates(b *bench, since time.Time, failed device, others []device) {
	lister, ok := task.As[task.CertificateLister](b.backend)
	if !ok {
		return
	}
	made := map[string]int{} // by key
	policies := -1           // of the failed line's certificate
	for c, err := range lister.ListCertificates(b.ctx, since.Add(-time.Second)) {
		b.OK(err, "ListCertificates")
		read, err := lister.ReadCertificate(b.ctx, c.ID)
		if errors.Is(err, task.ErrNotFound) {
			continue // somebody else's, removed since
		}
		b.OK(err, "ReadCertificate of a listed one")
		if key, err := certificateKey(read.PEM); err == nil {
			made[string(key)]++
			if string(key) == string(failed.key) {
				policies = len(read.Policies)
			}
		}
	}
	for _, d := range others {
		if n := made[string(d.key)]; n != 1 {
			b.Failf("the account holds %d certificates for the key of %s, which was registered once", n, d.name)
		}
	}
	want := 0
	if f.certificate {
		want = 1
	}
	if n := made[string(failed.key)]; n != want {
		b.Failf("the account shows %d certificates for the key of the failed line, which made %d", n, want)
	}
	if f.certificate && (policies > 0) != f.policy {
		b.Failf("the certificate of the failed line is read with %d policies; that the line came to attach its own is %t", policies, f.policy)
	}
}
