package tasktest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/suitetest"
	"github.com/seed1ff6f450/iotfleet/task"
)

func abilityCases() []Case {
	const read = "It must return [ErrNotFound] when there is no such thing, and otherwise every certificate attached to it, with its policies and the PEM that its registration reported."
	const register = "As with StartTask, a request must be sent at most once, an explicit throttle apart, and an error that is not [Refused] leaves its effect open."
	return []Case{
		{"identity/arns", quoted("Identifier", "It must have those of the ARNs that the backend's tasks report.",
			"A run is tied to its account by them and refuses to go on in another."), checkIdentity},
		{"endpoint/host", quoted("Endpointer", "The answer must be a host name without scheme, port and path.",
			"It is written into the firmware of devices."), checkEndpoint},
		{"endpoint/roots", quoted("RootLister", "The answer must be CA certificates in PEM and nothing else.",
			"Firmware takes the file as it is, and trusts whatever is in it."), checkRoots},
		{"register/key", quoted("Registrar", "The certificate returned must be for the key of the request.",
			"A certificate for another key is of no use to the device, which is found out in the field."), checkRegister},
		{"register/once", quoted("Registrar", register, "A request that is sent again gives the device a second certificate."), checkRegisterOnce},
		{"device/read", quoted("DeviceReader", read, "What a lost answer left behind is settled by reading it."), checkReadDevice},
		{"device/every-certificate", quoted("DeviceReader", read, "A second certificate that is not shown is one that nobody takes out of service."), checkReadEvery},
		{"device/unknown", quoted("DeviceReader", read, "Only a device that is surely not there may be registered again."), checkReadUnknown},
		{"thing/has", quoted("ThingFinder", "It must return an error, and never false, when that could not be found out.",
			"A device is sent under a name that is free; where it is taken, it would get a second certificate."), checkHasThing},
		{"certificate/list", quoted("ListCertificates", "ListCertificates must yield every certificate created at since or later once, newest first, without their PEM and policies, and none that is older.",
			"A certificate that was issued for a line that failed later is found by nothing else."), checkListCertificates},
		{"certificate/read", quoted("ReadCertificate", "ReadCertificate must return the certificate with its PEM and policies, or [ErrNotFound] when the account has none of that id.",
			"Only its PEM shows whose key a certificate is for."), checkReadCertificate},
		{"certificate/things", quoted("CertificateThings", "CertificateThings must return the names of all things that the certificate is attached to, none if it is gone, and an error, never none, when that could not be found out.",
			"A device with two certificates would go unnoticed."), checkCertificateThings},
		{"bucket/ensure", quoted("BucketEnsurer", "It must leave a bucket that is there, and what is in it, as it is.",
			"It is called before every run; data files and settings of the bucket are other people's work."), checkEnsureBucket},
		{"role/ensure", quoted("RoleEnsurer", "It must be idempotent, return the role's ARN, and wait until a task can be started with it.",
			"A role that cannot be assumed yet fails the whole task."), checkEnsureRole},
		{"resources/ensure", quoted("EnsureResources", "It must leave those that exist as they are, and return nil only when a task can refer to all of them. It must return [ErrInvalidRequest], before it makes anything, for a policy that does not exist and has no document. It must return [ErrConflict] for a policy that exists with another document, and for a group that exists under another parent.",
			"A template that names what is not there has every line refused, and a policy that was made up or changed decides what devices may do."), checkEnsureResources},
		{"policy/read", quoted("ReadPolicy", "ReadPolicy must return the document of the policy's default version, or [ErrNotFound] when there is no such policy.",
			"A dry run tells from it what devices may do; an empty document would say that they may do nothing."), checkReadPolicy},
		{"policy/group", quoted("GroupPolicies", "It must return [ErrNotFound], and not an empty list, when there is no such group.",
			"A device of a group whose policies are not known may be denied what its own allow."), checkGroupPolicies},
		{"ca/unknown", quoted("ReadCA", "It must return [ErrNotFound] when the account does not have it.",
			"A run tells from it whether every line would fail."), checkUnknownCA},
		{"ca/ensure", quoted("EnsureCA", "It must be idempotent, leave one that is registered as it is, and return [ErrConflict] for one that [CAInput.Suits] refuses.",
			"A CA that somebody deactivated was deactivated for a reason."), checkEnsureCA},
		{"preflight/findings", quoted("Preflighter", "A thing type that does not exist must not be reported as OK, and every finding except an OK must have in Message what to do. The findings about the names of the input must have the rules thing-type, thing-group, billing-group and policy, and the name as Resource.",
			"A task over a missing type completes with every line refused."), checkPreflight},
	}
}

// ability returns an ability of the backend, or skips the case when it has none of the kind.
func ability[T any](b *bench, name string) T {
	t, ok := task.As[T](b.backend)
	if !ok {
		b.skip("the backend is no %s", name)
	}
	return t
}

func checkIdentity(b *bench) {
	who := ability[task.Identifier](b, "Identifier")
	id, err := who.Identity(b.ctx)
	b.OK(err, "backend.Identity")
	_, t, _ := b.runSome(1)
	prefix := fmt.Sprintf("arn:%s:iot:%s:%s:", id.Partition, id.Region, id.Account)
	for _, r := range b.results(t) {
		for name, arn := range r.ARNs {
			if !strings.HasPrefix(arn, prefix) {
				b.Failf("backend.Identity is %+v and the ARN of %q is %s", *id, name, arn)
			}
		}
	}
}

func checkEndpoint(b *bench) {
	e := ability[task.Endpointer](b, "Endpointer")
	host, err := e.DataEndpoint(b.ctx)
	b.OK(err, "DataEndpoint")
	if host == "" || strings.ContainsAny(host, ":/ ") {
		b.Failf("DataEndpoint is %q", host)
	}
}

func checkRoots(b *bench) {
	e := ability[task.Endpointer](b, "Endpointer")
	lister := ability[task.RootLister](b, "RootLister")
	host, err := e.DataEndpoint(b.ctx)
	b.OK(err, "DataEndpoint")
	roots, err := lister.RootCAs(b.ctx, host)
	b.OK(err, "RootCAs")
	if len(roots) == 0 {
		b.skip("the backend does not know the roots of %s", host)
	}
	b.OK(rule.CheckRoots(roots), "RootCAs")
}

func registration(d device) *task.RegisterInput {
	return &task.RegisterInput{TemplateBody: template, Parameters: map[string]string{"ThingName": d.name, "CSR": d.csr}}
}

func checkRegister(b *bench) {
	r := ability[task.Registrar](b, "Registrar")
	devices := b.newDevices(1)
	got, err := r.RegisterThing(b.ctx, registration(devices[0]))
	b.OK(err, "RegisterThing")
	key, err := certificateKey(got.CertificatePEM)
	b.OK(err, "RegisterThing")
	switch {
	case string(key) != string(devices[0].key):
		b.Failf("RegisterThing returned a certificate for another key")
	case task.ResourceName(got.ARNs.Thing()) != devices[0].name:
		b.Failf("RegisterThing of %s returned the thing %q", devices[0].name, got.ARNs.Thing())
	}
	devices[0].name = "name with spaces"
	if _, err := r.RegisterThing(b.ctx, registration(devices[0])); !task.Refused(err) {
		b.Failf("RegisterThing of a name with spaces returned %s, of which Refused is false", said(err))
	}
}

func checkRegisterOnce(b *bench) {
	r := ability[task.Registrar](b, "Registrar")
	reader := ability[task.DeviceReader](b, "DeviceReader")
	devices := b.newDevices(1)
	lift := b.inject(DropRegisterAfter)
	_, registerErr := r.RegisterThing(b.ctx, registration(devices[0]))
	lift()
	if registerErr == nil || task.Refused(registerErr) {
		b.Failf("RegisterThing whose answer was lost returned %s, which must say that the outcome is open", said(registerErr))
	}
	got, err := reader.ReadDevice(b.ctx, devices[0].name)
	b.OK(err)
	if len(got.Certificates) != 1 {
		b.Failf("RegisterThing whose answer was lost made %d certificates; the request was sent once, so one was expected", len(got.Certificates))
	}
}

// reported registers a device by a task and returns the line of its RESULTS report.
func (b *bench) reported() (device, *task.Result, *task.Description) {
	devices, t, d := b.runSome(1)
	results := b.results(t)
	if len(results) == 0 {
		b.Failf("the RESULTS report of a task that registered a line is empty")
	}
	return devices[0], results[0], d
}

// readBack registers a device by a task and reads it.
func (b *bench) readBack(reader task.DeviceReader) (device, *task.Result, *task.Device) {
	dev, result, _ := b.reported()
	got, err := reader.ReadDevice(b.ctx, dev.name)
	b.OK(err, "ReadDevice of a registered device")
	return dev, result, got
}

// sameCertificate reports whether two PEM texts hold the same certificate.
func sameCertificate(a, b string) bool {
	x, _ := pem.Decode([]byte(a))
	y, _ := pem.Decode([]byte(b))
	return x != nil && y != nil && string(x.Bytes) == string(y.Bytes)
}

func checkReadDevice(b *bench) {
	reader := ability[task.DeviceReader](b, "DeviceReader")
	dev, result, got := b.readBack(reader)
	if got.ThingName != dev.name || got.ThingARN != result.ARNs.Thing() || got.Attributes["line"] != "tasktest" {
		b.Failf("ReadDevice of %s returned the thing %q, %s, with attributes %v", dev.name, got.ThingName, got.ThingARN, got.Attributes)
	}
	if len(got.Certificates) != 1 {
		b.Failf("ReadDevice of a device registered once returned %d certificates", len(got.Certificates))
	}
	cert := got.Certificates[0]
	if !sameCertificate(cert.PEM, result.CertificatePEM) {
		b.Failf("ReadDevice returned another certificate than the report has")
	}
	block, _ := pem.Decode([]byte(cert.PEM))
	digest := sha256.Sum256(block.Bytes)
	if cert.ID != hex.EncodeToString(digest[:]) || cert.ARN != result.ARNs.Certificate() || cert.Status != "ACTIVE" {
		b.Failf("ReadDevice returned the certificate id %s, ARN %s and status %s; the certificate's digest is %x, its ARN in the report %s and its status ACTIVE",
			cert.ID, cert.ARN, cert.Status, digest, result.ARNs.Certificate())
	}
	b.hasPolicy("ReadDevice", &cert, result.ARNs)
}

// hasPolicy checks that a certificate that was read has the one policy of the template: the one that the report names,
// if it names any.
func (b *bench) hasPolicy(method string, read *task.Certificate, arns task.ARNs) {
	for _, arn := range arns.Policies() {
		if name := task.ResourceName(arn); !slices.Contains(read.Policies, name) {
			b.Failf("the policy %s was attached to certificate %s, which %s returned with the policies %q", name, read.ID, method, read.Policies)
		}
	}
	if len(read.Policies) != 1 {
		b.Failf("one policy was attached to certificate %s, which %s returned with the policies %q", read.ID, method, read.Policies)
	}
}

func checkReadEvery(b *bench) {
	reader := ability[task.DeviceReader](b, "DeviceReader")
	devices := b.newDevices(2)
	name := devices[0].name
	devices[1].name = name // two keys, one thing
	t, d := b.run(devices)
	if d.Succeeded == 1 && d.Failed == 1 {
		b.skip("the service does not register a thing that is there")
	}
	b.registered(t, devices)
	got, err := reader.ReadDevice(b.ctx, name)
	b.OK(err, "ReadDevice of a device registered twice")
	read := map[string]bool{}
	for _, c := range got.Certificates {
		key, err := certificateKey(c.PEM)
		if err != nil {
			b.Failf("ReadDevice: %w", err)
		}
		read[string(key)] = true
	}
	if len(got.Certificates) != 2 || !read[string(devices[0].key)] || !read[string(devices[1].key)] {
		b.Failf("two certificates are attached to the thing and ReadDevice returned %d for %d of their keys", len(got.Certificates), len(read))
	}
}

func checkReadUnknown(b *bench) {
	reader := ability[task.DeviceReader](b, "DeviceReader")
	_, err := reader.ReadDevice(b.ctx, "tasktest-nobody-"+token())
	b.Is(err, task.ErrNotFound, "ReadDevice of an unknown thing")
}

func checkHasThing(b *bench) {
	finder := ability[task.ThingFinder](b, "ThingFinder")
	devices, _, _ := b.runSome(1)
	for name, want := range map[string]bool{devices[0].name: true, "tasktest-nobody-" + token(): false} {
		got, err := finder.HasThing(b.ctx, name)
		b.OK(err, "HasThing")
		if got != want {
			b.Failf("HasThing of %s returned %t and must return %t", name, got, want)
		}
	}
	ended, cancel := context.WithCancel(b.ctx)
	cancel()
	if got, err := finder.HasThing(ended, "tasktest-nobody-"+token()); err == nil {
		b.Failf("HasThing returned %t and no error although its context had ended, so nothing was found out", got)
	}
}

func checkListCertificates(b *bench) {
	lister := ability[task.CertificateLister](b, "CertificateLister")
	_, first, d := b.reported()
	b.pause(1100 * time.Millisecond) // the service may count in seconds
	_, second, _ := b.reported()
	id, newer := task.ResourceName(first.ARNs.Certificate()), task.ResourceName(second.ARNs.Certificate())
	var last, created time.Time
	times := map[string]int{}
	since := d.Created.Add(-time.Second)
	for c, err := range lister.ListCertificates(b.ctx, since) {
		b.OK(err, "ListCertificates")
		switch {
		case c.PEM != "" || len(c.Policies) > 0:
			b.Failf("ListCertificates returned %s with its PEM or policies", c.ID)
		case c.Created.Before(since):
			b.Failf("ListCertificates since %v returned one of %v", since, c.Created)
		case !last.IsZero() && c.Created.After(last):
			b.Failf("ListCertificates returned one of %v behind one of %v", c.Created, last)
		}
		last = c.Created
		times[c.ID]++
		if c.ID == newer {
			created = c.Created
		}
	}
	if times[id] != 1 || times[newer] != 1 {
		b.Failf("two certificates were issued since and ListCertificates returned one %d times and the other %d times", times[id], times[newer])
	}
	for c, err := range lister.ListCertificates(b.ctx, created) {
		if err != nil {
			b.Failf("ListCertificates: %w", err)
		}
		if c.ID == id {
			b.Failf("ListCertificates since %v returned an older one", created)
		}
	}
}

func checkReadCertificate(b *bench) {
	lister := ability[task.CertificateLister](b, "CertificateLister")
	_, result, _ := b.reported()
	id := task.ResourceName(result.ARNs.Certificate())
	got, err := lister.ReadCertificate(b.ctx, id)
	b.OK(err, "ReadCertificate")
	if got.ID != id || !sameCertificate(got.PEM, result.CertificatePEM) {
		b.Failf("ReadCertificate of %s returned %s and another certificate than the report has", id, got.ID)
	}
	b.hasPolicy("ReadCertificate", got, result.ARNs)
	_, err = lister.ReadCertificate(b.ctx, strings.Repeat("0", len(id)))
	b.Is(err, task.ErrNotFound, "ReadCertificate of an unknown certificate")
}

func checkCertificateThings(b *bench) {
	lister, registrar := ability[task.CertificateLister](b, "CertificateLister"), ability[task.Registrar](b, "Registrar")
	first, result, _ := b.reported()
	second := b.newDevices(1)[0].name
	arn := result.ARNs.Certificate()
	in := &task.RegisterInput{TemplateBody: sharing, Parameters: map[string]string{"ThingName": second, "CertificateId": task.ResourceName(arn)}}
	_, err := registrar.RegisterThing(b.ctx, in)
	b.OK(err, "RegisterThing with a certificate that is there")
	id := task.ResourceName(arn)
	for arn, want := range map[string][]string{arn: {first.name, second}, strings.Replace(arn, id, strings.Repeat("0", len(id)), 1): nil} {
		got, err := lister.CertificateThings(b.ctx, arn)
		b.OK(err, "CertificateThings")
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			b.Failf("CertificateThings of %s returned %q, and it is on %q", arn, got, want)
		}
	}
	ended, cancel := context.WithCancel(b.ctx)
	cancel()
	if got, err := lister.CertificateThings(ended, arn); err == nil {
		b.Failf("CertificateThings returned %q and no error although its context had ended, so nothing was found out", got)
	}
}

func checkEnsureBucket(b *bench) {
	bucket := ability[task.BucketEnsurer](b, "BucketEnsurer")
	devices := b.newDevices(1)
	object := b.upload(devices)
	for range 2 {
		b.OK(bucket.EnsureBucket(b.ctx), "EnsureBucket of a bucket that is there")
	}
	t, _ := b.runOver(object)
	b.registered(t, devices)
}

func checkEnsureRole(b *bench) {
	role := ability[task.RoleEnsurer](b, "RoleEnsurer")
	in := &task.RoleInput{Name: "iotfleet-tasktest"}
	arn, err := role.EnsureRole(b.ctx, in)
	b.OK(err, "EnsureRole")
	again, err := role.EnsureRole(b.ctx, in)
	b.OK(err, "EnsureRole of a role that is there")
	if again != arn {
		b.Failf("EnsureRole returned %s and, called again, %s", arn, again)
	}
	devices := b.newDevices(1)
	b.harness = withRole{b.harness, arn}
	b.OK(suitetest.Try(func() {
		t, _ := b.run(devices)
		b.registered(t, devices)
	}), "a task with the role that EnsureRole made")
}

func checkEnsureResources(b *bench) {
	account := ability[task.ResourceEnsurer](b, "ResourceEnsurer")
	prefix := "tasktest-" + token()
	doc := func(effect string) string {
		return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":%q,"Action":"iot:Connect","Resource":"*"}]}`, effect)
	}
	group, child, kind, billing, policy := prefix+"-group", prefix+"-child", prefix+"-type", prefix+"-billing", prefix+"-policy"
	unsettled := &task.ResourcesInput{ThingTypes: []string{kind}, Policies: map[string]string{policy: ""}}
	b.Is(account.EnsureResources(b.ctx, unsettled), task.ErrInvalidRequest, "EnsureResources of a policy without a document")
	b.resourcesAre(finding.Error, &task.PreflightInput{ThingTypes: []string{kind}, Policies: []string{policy}})
	in := &task.ResourcesInput{
		ThingTypes: []string{kind}, BillingGroups: []string{billing}, Policies: map[string]string{policy: doc("Allow")},
		ThingGroups: []task.ThingGroup{{Name: child, Parent: group}, {Name: group}},
	}
	for range 2 {
		b.OK(account.EnsureResources(b.ctx, in), "EnsureResources")
	}
	b.OK(account.EnsureResources(b.ctx, unsettled), "EnsureResources of a policy that is there, without a document")
	b.resourcesAre(finding.OK, &task.PreflightInput{ThingTypes: []string{kind}, ThingGroups: []string{group, child},
		BillingGroups: []string{billing}, Policies: []string{policy}})
	other := &task.ResourcesInput{Policies: map[string]string{policy: doc("Deny")}}
	b.Is(account.EnsureResources(b.ctx, other), task.ErrConflict, "EnsureResources of a policy that has another document")
	moved := &task.ResourcesInput{ThingGroups: []task.ThingGroup{{Name: group, Parent: child}}}
	b.Is(account.EnsureResources(b.ctx, moved), task.ErrConflict, "EnsureResources of a group that has another parent")
	b.OK(account.EnsureResources(b.ctx, in), "EnsureResources after a conflict")
}

func checkReadPolicy(b *bench) {
	reader, account := ability[task.PolicyReader](b, "PolicyReader"), ability[task.ResourceEnsurer](b, "ResourceEnsurer")
	policy := "tasktest-" + token() + "-policy"
	const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`
	b.OK(account.EnsureResources(b.ctx, &task.ResourcesInput{Policies: map[string]string{policy: document}}), "EnsureResources")
	got, err := reader.ReadPolicy(b.ctx, policy)
	b.OK(err, "ReadPolicy")
	if got != document {
		b.Failf("ReadPolicy returned %q, and the policy was made with the document %q", got, document)
	}
	_, err = reader.ReadPolicy(b.ctx, policy+"-nobody")
	b.Is(err, task.ErrNotFound, "ReadPolicy of a policy that does not exist")
}

func checkGroupPolicies(b *bench) {
	reader, account := ability[task.PolicyReader](b, "PolicyReader"), ability[task.ResourceEnsurer](b, "ResourceEnsurer")
	group := "tasktest-" + token() + "-group"
	b.OK(account.EnsureResources(b.ctx, &task.ResourcesInput{ThingGroups: []task.ThingGroup{{Name: group}}}), "EnsureResources")
	names, err := reader.GroupPolicies(b.ctx, group)
	b.OK(err, "GroupPolicies")
	if len(names) > 0 {
		b.Failf("GroupPolicies returned %q for a group that has no policy", names)
	}
	_, err = reader.GroupPolicies(b.ctx, group+"-nobody")
	b.Is(err, task.ErrNotFound, "GroupPolicies of a group that does not exist")
}

// resourcesAre checks the findings about the named resources, if the backend has any.
func (b *bench) resourcesAre(want finding.Severity, in *task.PreflightInput) {
	p, ok := task.As[task.Preflighter](b.backend)
	if !ok {
		return
	}
	in.TemplateBody, in.RoleARN = template, b.harness.RoleARN()
	findings, err := p.Preflight(b.ctx, in)
	b.OK(err, "backend.Preflight")
	for _, name := range slices.Concat(in.ThingTypes, in.ThingGroups, in.BillingGroups, in.Policies) {
		for _, f := range findings {
			if f.Resource == name && f.Severity != want {
				b.Failf("the finding about %s should be %q and is %+v", name, want, f)
			}
		}
	}
}

// withRole is a harness with another role.
type withRole struct {
	Harness
	arn string
}

func (w withRole) RoleARN() string { return w.arn }

func checkPreflight(b *bench) {
	p := ability[task.Preflighter](b, "Preflighter")
	id := token()
	none := map[string]finding.Rule{
		"tasktest-no-type-" + id: "thing-type", "tasktest-no-group-" + id: "thing-group",
		"tasktest-no-billing-" + id: "billing-group", "tasktest-no-policy-" + id: "policy",
	}
	findings, err := p.Preflight(b.ctx, &task.PreflightInput{
		TemplateBody: template, RoleARN: b.harness.RoleARN(), ThingTypes: []string{"tasktest-no-type-" + id},
		ThingGroups: []string{"tasktest-no-group-" + id}, BillingGroups: []string{"tasktest-no-billing-" + id},
		Policies: []string{"tasktest-no-policy-" + id},
	})
	b.OK(err, "backend.Preflight")
	reported := map[string]bool{}
	for _, f := range findings {
		switch f.Severity {
		case finding.OK, finding.Error, finding.Unknown, finding.Warning:
		default:
			b.Failf("the finding %+v has a severity that no preflight has", f)
		}
		if f.Rule == "" || f.Message == "" && f.Severity != finding.OK {
			b.Failf("the finding %+v lacks its rule or what to do", f)
		}
		if rule, ok := none[f.Resource]; ok {
			reported[f.Resource] = true
			if f.Severity == finding.OK || f.Rule != rule {
				b.Failf("%s does not exist, its rule is %s, and the finding is %+v", f.Resource, rule, f)
			}
		} else if f.Severity == finding.Error {
			b.Failf("the harness is ready for tasks and the finding is %+v", f)
		}
	}
	for name := range none {
		if !reported[name] {
			b.Failf("backend.Preflight returns no finding about %s, which does not exist", name)
		}
	}
}
