package tasktest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
)

func removeCases() []Case {
	const again = "A removal that was interrupted is done again."
	return []Case{
		{"certificate/retire", quoted("RetireCertificate", "A step whose answer was lost can be done again: for what is gone already it is nil.",
			again), checkRetire},
		{"certificate/shared", quoted("RetireCertificate", "It must return the names of the other things, of which the certificate then stays as it is; none means that the certificate is gone.",
			"A device that works would be cut off."), checkRetireShared},
		{"thing/remove", quoted("RemoveThing", "It must leave one with certificates or other principals as it is, and return their ARNs; none means that the thing is gone.",
			"The device with that certificate would be cut off from its thing. "+again), checkRemoveThing},
		{"policy/remove", quoted("RemovePolicy", "It must leave one with targets as it is, and return their ARNs; none means that the policy is gone.",
			"The devices with that policy would be cut off. "+again), checkRemovePolicy},
		{"policy/other", quoted("RemovePolicy", "It must return [ErrConflict] for a policy with another document, and leave it.",
			"It is somebody else's."), checkRemovePolicy},
	}
}

// retire takes a certificate away from a thing and checks which others are reported.
func (b *bench) retire(remover task.Remover, thing, certificate string, others ...string) {
	got, err := remover.RetireCertificate(b.ctx, thing, certificate)
	b.OK(err, "RetireCertificate")
	if !slices.Equal(got, others) {
		b.Failf("RetireCertificate from %s returned the other things %q; these have it: %q", thing, got, others)
	}
}

// attached reads how many certificates a thing has.
func (b *bench) attached(reader task.DeviceReader, thing string) int {
	got, err := reader.ReadDevice(b.ctx, thing)
	b.OK(err, "ReadDevice of "+thing)
	return len(got.Certificates)
}

func checkRetire(b *bench) {
	remover, reader := ability[task.Remover](b, "Remover"), ability[task.DeviceReader](b, "DeviceReader")
	dev, _, got := b.readBack(reader)
	for _, cert := range got.Certificates {
		for range 2 {
			b.retire(remover, dev.name, cert.ID)
		}
	}
	if n := b.attached(reader, dev.name); n > 0 {
		b.Failf("the certificate of %s was retired and %d are still attached", dev.name, n)
	}
	if lister, ok := task.As[task.CertificateLister](b.backend); ok {
		_, err := lister.ReadCertificate(b.ctx, got.Certificates[0].ID)
		b.Is(err, task.ErrNotFound, "ReadCertificate of one that was retired")
	}
}

// sharing is a template that puts a certificate that is there on one more thing.
const sharing = `{"Parameters": {"ThingName": {"Type": "String"}, "CertificateId": {"Type": "String"}}, "Resources": {
	"appliance": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
	"identité": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "CertificateId"}, "Status": "ACTIVE"}}}}`

func checkRetireShared(b *bench) {
	remover, reader := ability[task.Remover](b, "Remover"), ability[task.DeviceReader](b, "DeviceReader")
	r := ability[task.Registrar](b, "Registrar")
	first, _, got := b.readBack(reader)
	id := got.Certificates[0].ID
	second := b.newDevices(1)[0]
	_, err := r.RegisterThing(b.ctx, &task.RegisterInput{TemplateBody: sharing, Parameters: map[string]string{"ThingName": second.name, "CertificateId": id}})
	b.OK(err, "RegisterThing with a certificate that is there")
	for range 2 {
		b.retire(remover, first.name, id, second.name)
	}
	if n := b.attached(reader, first.name); n > 0 {
		b.Failf("the certificate of %s was retired and is still attached", first.name)
	}
	kept, err := reader.ReadDevice(b.ctx, second.name)
	b.OK(err)
	if len(kept.Certificates) != 1 || kept.Certificates[0].Status != "ACTIVE" || len(kept.Certificates[0].Policies) != 1 {
		b.Failf("the certificate is on %s, too, and was retired from %s: it should stay as it is, and %s has %+v", second.name, first.name, second.name, kept.Certificates)
	}
	b.retire(remover, second.name, id)
	if n := b.attached(reader, second.name); n > 0 {
		b.Failf("the certificate was retired from both its things and is still attached to %s", second.name)
	}
}

func checkRemoveThing(b *bench) {
	remover, reader := ability[task.Remover](b, "Remover"), ability[task.DeviceReader](b, "DeviceReader")
	dev, _, got := b.readBack(reader)
	cert := got.Certificates[0]
	left, err := remover.RemoveThing(b.ctx, dev.name)
	b.OK(err, "RemoveThing of a thing with a certificate")
	if !slices.Equal(left, []string{cert.ARN}) {
		b.Failf("RemoveThing of a thing with the certificate %s returned the principals %q", cert.ARN, left)
	}
	if n := b.attached(reader, dev.name); n != 1 {
		b.Failf("RemoveThing of a thing with a certificate left %d of them", n)
	}
	b.retire(remover, dev.name, cert.ID)
	for range 2 {
		left, err := remover.RemoveThing(b.ctx, dev.name)
		b.OK(err, "RemoveThing")
		if len(left) > 0 {
			b.Failf("RemoveThing of a thing without certificates returned the principals %q", left)
		}
	}
	_, err = reader.ReadDevice(b.ctx, dev.name)
	b.Is(err, task.ErrNotFound, "ReadDevice of a thing that was removed")
}

func checkRemovePolicy(b *bench) {
	remover, reader := ability[task.Remover](b, "Remover"), ability[task.DeviceReader](b, "DeviceReader")
	r := ability[task.Registrar](b, "Registrar")
	devices := b.newDevices(2)
	policy := ""
	var certs []task.Certificate
	client := "arn:aws:iot:*:*:client/" + devices[0].name // in a policy that nobody else has
	own := strings.Replace(template, `\"*\"`, `\"`+client+`\"`, 1)
	document := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":%q}]}`, client)
	for _, d := range devices {
		in := registration(d)
		in.TemplateBody = own
		_, err := r.RegisterThing(b.ctx, in)
		b.OK(err, "RegisterThing")
		got, err := reader.ReadDevice(b.ctx, d.name)
		b.OK(err)
		certs = append(certs, got.Certificates[0])
		policy = got.Certificates[0].Policies[0]
	}
	for i := range certs {
		var want []string
		for _, c := range certs[i:] {
			want = append(want, c.ARN)
		}
		left, err := remover.RemovePolicy(b.ctx, policy, document)
		b.OK(err, "RemovePolicy of an attached policy")
		slices.Sort(left)
		slices.Sort(want)
		if !slices.Equal(left, want) {
			b.Failf("RemovePolicy of a policy that is attached to %q returned the targets %q", want, left)
		}
		b.retire(remover, devices[i].name, certs[i].ID)
		b.resourcesAre(finding.OK, &task.PreflightInput{Policies: []string{policy}})
	}
	_, err := remover.RemovePolicy(b.ctx, policy, strings.Replace(document, "Connect", "Publish", 1))
	b.Is(err, task.ErrConflict, "RemovePolicy of a policy with another document")
	b.resourcesAre(finding.OK, &task.PreflightInput{Policies: []string{policy}})
	for range 2 {
		left, err := remover.RemovePolicy(b.ctx, policy, document)
		b.OK(err, "RemovePolicy")
		if len(left) > 0 {
			b.Failf("RemovePolicy of a policy without targets returned the targets %q", left)
		}
	}
	b.resourcesAre(finding.Error, &task.PreflightInput{Policies: []string{policy}})
}
