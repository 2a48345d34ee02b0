package tasktest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
		{"register/key", quoted("Registrar", "The certificate returned must be for the key of the request.",
			"A certificate for another key is of no use to the device, which is found out in the field."), checkRegister},
		{"register/once", quoted("Registrar", register, "A request that is sent again gives the device a second certificate."), checkRegisterOnce},
		{"device/read", quoted("DeviceReader", read, "What a lost answer left behind is settled by reading it."), checkReadDevice},
		{"device/every-certificate", quoted("DeviceReader", read, "A second certificate that is not shown is one that nobody takes out of service."), checkReadEvery},
		{"device/unknown", quoted("DeviceReader", read, "Only a device that is surely not there may be registered again."), checkReadUnknown},
		{"certificate/remove", quoted("CertificateRemover", "It must return nil when the certificate is gone already.",
			"A clean-up that was interrupted is run again."), checkRemoveCertificate},
		{"certificate/list", quoted("ListCertificates", "ListCertificates must yield every certificate created at since or later once, newest first, without their PEM and policies, and none that is older.",
			"A certificate that was issued for a line that failed later is found by nothing else."), checkListCertificates},
		{"certificate/read", quoted("ReadCertificate", "ReadCertificate must return the certificate with its PEM and policies, or [ErrNotFound] when the account has none of that id.",
			"Only its PEM says whose key a certificate is for."), checkReadCertificate},
		{"device/remove", quoted("DeviceRemover", "It must return nil when there is no such thing.",
			"A clean-up that was interrupted is run again."), checkRemoveDevice},
		{"bucket/ensure", quoted("BucketEnsurer", "It must leave a bucket that is there, and what is in it, as it is.",
			"It is called before every run; data files and settings of the bucket are other people's work."), checkEnsureBucket},
		{"role/ensure", quoted("RoleEnsurer", "It must be idempotent, return the role's ARN, and wait until a task can be started with it.",
			"A role that cannot be assumed yet fails the whole task."), checkEnsureRole},
		{"preflight/findings", quoted("Preflighter", "A thing type that does not exist must not be reported as OK, and every finding except an OK must have in Detail what to do.",
			"A task over a missing type completes with every line refused."), checkPreflight},
	}
}

// ability returns an ability of the backend, or a SkipError when it has none of the kind.
func ability[T any](b *bench, name string) (T, error) {
	t, ok := task.As[T](b.backend)
	if !ok {
		return t, &SkipError{"the backend is no " + name}
	}
	return t, nil
}

func checkIdentity(b *bench) error {
	who, err := ability[task.Identifier](b, "Identifier")
	if err != nil {
		return err
	}
	id, err := who.Identity(b.ctx)
	if err != nil {
		return fmt.Errorf("backend.Identity: %w", err)
	}
	_, t, _, err := b.runSome(1)
	if err != nil {
		return err
	}
	prefix := fmt.Sprintf("arn:%s:iot:%s:%s:", id.Partition, id.Region, id.Account)
	for r, err := range t.Results(b.ctx) {
		if err != nil {
			return err
		}
		for name, arn := range r.ARNs {
			if !strings.HasPrefix(arn, prefix) {
				return fmt.Errorf("backend.Identity is %+v and the ARN of %q is %s", *id, name, arn)
			}
		}
	}
	return nil
}

func checkEndpoint(b *bench) error {
	e, err := ability[task.Endpointer](b, "Endpointer")
	if err != nil {
		return err
	}
	host, err := e.DataEndpoint(b.ctx)
	if err == nil && (host == "" || strings.ContainsAny(host, ":/ ")) {
		err = fmt.Errorf("DataEndpoint is %q", host)
	}
	return err
}

func registration(d device) *task.RegisterInput {
	return &task.RegisterInput{TemplateBody: template, Parameters: map[string]string{"ThingName": d.name, "CSR": d.csr}}
}

func checkRegister(b *bench) error {
	r, err := ability[task.Registrar](b, "Registrar")
	if err != nil {
		return err
	}
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	got, err := r.RegisterThing(b.ctx, registration(devices[0]))
	if err != nil {
		return fmt.Errorf("RegisterThing: %w", err)
	}
	key, err := certificateKey(got.CertificatePEM)
	switch {
	case err != nil:
		return fmt.Errorf("RegisterThing: %w", err)
	case string(key) != string(devices[0].key):
		return errors.New("RegisterThing returned a certificate for another key")
	case task.ResourceName(got.ARNs.Thing()) != devices[0].name:
		return fmt.Errorf("RegisterThing of %s returned the thing %q", devices[0].name, got.ARNs.Thing())
	}
	devices[0].name = "name with spaces"
	if _, err := r.RegisterThing(b.ctx, registration(devices[0])); !task.Refused(err) {
		return fmt.Errorf("RegisterThing of a name with spaces gave %s, of which Refused is false", said(err))
	}
	return nil
}

func checkRegisterOnce(b *bench) error {
	r, err := ability[task.Registrar](b, "Registrar")
	if err != nil {
		return err
	}
	reader, err := ability[task.DeviceReader](b, "DeviceReader")
	if err != nil {
		return err
	}
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	lift, err := b.inject(DropRegisterAfter)
	if err != nil {
		return err
	}
	_, registerErr := r.RegisterThing(b.ctx, registration(devices[0]))
	lift()
	if registerErr == nil || task.Refused(registerErr) {
		return fmt.Errorf("RegisterThing whose answer was lost gave %s, which must say that the outcome is open", said(registerErr))
	}
	got, err := reader.ReadDevice(b.ctx, devices[0].name)
	if err == nil && len(got.Certificates) != 1 {
		err = fmt.Errorf("RegisterThing whose answer was lost made %d certificates; the request was sent once, so one was expected", len(got.Certificates))
	}
	return err
}

// readBack registers a device by a task and reads it.
func (b *bench) readBack(reader task.DeviceReader) (device, *task.Result, *task.Device, error) {
	devices, t, _, err := b.runSome(1)
	if err != nil {
		return device{}, nil, nil, err
	}
	var result *task.Result
	for r, err := range t.Results(b.ctx) {
		if err != nil {
			return device{}, nil, nil, err
		}
		result = r
	}
	if result == nil {
		return device{}, nil, nil, errors.New("the RESULTS report of a task that registered a line is empty")
	}
	got, err := reader.ReadDevice(b.ctx, devices[0].name)
	if err != nil {
		err = fmt.Errorf("ReadDevice of a registered device: %w", err)
	}
	return devices[0], result, got, err
}

func checkReadDevice(b *bench) error {
	reader, err := ability[task.DeviceReader](b, "DeviceReader")
	if err != nil {
		return err
	}
	dev, result, got, err := b.readBack(reader)
	if err != nil {
		return err
	}
	if got.ThingName != dev.name || got.ThingARN != result.ARNs.Thing() || got.Attributes["line"] != "tasktest" {
		return fmt.Errorf("ReadDevice of %s gave the thing %q, %s, with attributes %v", dev.name, got.ThingName, got.ThingARN, got.Attributes)
	}
	if len(got.Certificates) != 1 {
		return fmt.Errorf("ReadDevice of a device registered once gave %d certificates", len(got.Certificates))
	}
	want, _ := pem.Decode([]byte(result.CertificatePEM))
	cert := got.Certificates[0]
	have, _ := pem.Decode([]byte(cert.PEM))
	if want == nil || have == nil || string(want.Bytes) != string(have.Bytes) {
		return errors.New("ReadDevice gave another certificate than the report")
	}
	digest := sha256.Sum256(want.Bytes)
	if cert.ID != hex.EncodeToString(digest[:]) || cert.ARN != result.ARNs.Certificate() || cert.Status != "ACTIVE" {
		return fmt.Errorf("ReadDevice gave the certificate id %s, ARN %s and status %s; the certificate's digest is %x, its ARN in the report %s and its status ACTIVE",
			cert.ID, cert.ARN, cert.Status, digest, result.ARNs.Certificate())
	}
	if err := hasPolicy(&cert, result.ARNs); err != nil {
		return fmt.Errorf("ReadDevice: %w", err)
	}
	return nil
}

// hasPolicy checks that a certificate that was read has the one policy of the template: the one that the report names,
// if it names any.
func hasPolicy(read *task.Certificate, arns task.ARNs) error {
	for _, arn := range arns.Policies() {
		if name := task.ResourceName(arn); !slices.Contains(read.Policies, name) {
			return fmt.Errorf("the policy %s was attached to certificate %s, which is read with the policies %q", name, read.ID, read.Policies)
		}
	}
	if len(read.Policies) != 1 {
		return fmt.Errorf("one policy was attached to certificate %s, which is read with the policies %q", read.ID, read.Policies)
	}
	return nil
}

func checkReadEvery(b *bench) error {
	reader, err := ability[task.DeviceReader](b, "DeviceReader")
	if err != nil {
		return err
	}
	devices, err := b.newDevices(2)
	if err != nil {
		return err
	}
	name := devices[0].name
	devices[1].name = name // two keys, one thing
	t, d, err := b.run(devices)
	if err != nil {
		return err
	}
	if d.Succeeded == 1 && d.Failed == 1 {
		return &SkipError{"the service does not register a thing that is there"}
	}
	if err := b.registered(t, devices); err != nil {
		return err
	}
	got, err := reader.ReadDevice(b.ctx, name)
	if err != nil {
		return fmt.Errorf("ReadDevice of a device registered twice: %w", err)
	}
	read := map[string]bool{}
	for _, c := range got.Certificates {
		key, err := certificateKey(c.PEM)
		if err != nil {
			return fmt.Errorf("ReadDevice: %w", err)
		}
		read[string(key)] = true
	}
	if len(got.Certificates) != 2 || !read[string(devices[0].key)] || !read[string(devices[1].key)] {
		return fmt.Errorf("two certificates are attached to the thing and ReadDevice gave %d for %d of their keys", len(got.Certificates), len(read))
	}
	return nil
}

func checkReadUnknown(b *bench) error {
	reader, err := ability[task.DeviceReader](b, "DeviceReader")
	if err != nil {
		return err
	}
	if _, err := reader.ReadDevice(b.ctx, "tasktest-nobody-"+token()); !errors.Is(err, task.ErrNotFound) {
		return fmt.Errorf("ReadDevice of an unknown thing gave %s, which is not ErrNotFound", said(err))
	}
	return nil
}

func checkRemoveCertificate(b *bench) error {
	remover, err := ability[task.CertificateRemover](b, "CertificateRemover")
	if err != nil {
		return err
	}
	reader, err := ability[task.DeviceReader](b, "DeviceReader")
	if err != nil {
		return err
	}
	dev, _, got, err := b.readBack(reader)
	if err != nil {
		return err
	}
	for _, cert := range got.Certificates {
		for range 2 {
			if err := remover.RemoveCertificate(b.ctx, cert.ID); err != nil {
				return fmt.Errorf("RemoveCertificate: %w", err)
			}
		}
	}
	got, err = reader.ReadDevice(b.ctx, dev.name)
	if err != nil {
		return fmt.Errorf("ReadDevice of a thing whose certificate was removed: %w", err)
	}
	if len(got.Certificates) > 0 {
		return fmt.Errorf("certificate %s was removed and is still attached", got.Certificates[0].ID)
	}
	return nil
}

// reported registers a device and returns its certificate's id and DER as the report has them, and the ARNs beside it.
func (b *bench) reported() (id string, der []byte, arns task.ARNs, d *task.Description, err error) {
	_, t, d, err := b.runSome(1)
	if err != nil {
		return "", nil, nil, nil, err
	}
	for r, err := range t.Results(b.ctx) {
		if err != nil {
			return "", nil, nil, nil, err
		}
		block, _ := pem.Decode([]byte(r.CertificatePEM))
		if block == nil {
			return "", nil, nil, nil, errors.New("the RESULTS line has no certificate")
		}
		return task.ResourceName(r.ARNs.Certificate()), block.Bytes, r.ARNs, d, nil
	}
	return "", nil, nil, nil, errors.New("the RESULTS report of a task that registered a line is empty")
}

func checkListCertificates(b *bench) error {
	lister, err := ability[task.CertificateLister](b, "CertificateLister")
	if err != nil {
		return err
	}
	id, _, _, d, err := b.reported()
	if err != nil {
		return err
	}
	if err := b.pause(1100 * time.Millisecond); err != nil { // the service may count in seconds
		return err
	}
	newer, _, _, _, err := b.reported()
	if err != nil {
		return err
	}
	var last, created time.Time
	times := map[string]int{}
	since := d.Created.Add(-time.Second)
	for c, err := range lister.ListCertificates(b.ctx, since) {
		switch {
		case err != nil:
			return fmt.Errorf("ListCertificates: %w", err)
		case c.PEM != "" || len(c.Policies) > 0:
			return fmt.Errorf("ListCertificates gave %s with its PEM or policies", c.ID)
		case c.Created.Before(since):
			return fmt.Errorf("ListCertificates since %v gave one of %v", since, c.Created)
		case !last.IsZero() && c.Created.After(last):
			return fmt.Errorf("ListCertificates gave one of %v behind one of %v", c.Created, last)
		}
		last = c.Created
		times[c.ID]++
		if c.ID == newer {
			created = c.Created
		}
	}
	if times[id] != 1 || times[newer] != 1 {
		return fmt.Errorf("two certificates were issued since and ListCertificates gave one %d times and the other %d times", times[id], times[newer])
	}
	for c, err := range lister.ListCertificates(b.ctx, created) {
		if err != nil {
			return fmt.Errorf("ListCertificates: %w", err)
		}
		if c.ID == id {
			return fmt.Errorf("ListCertificates since %v gave an older one", created)
		}
	}
	return nil
}

func checkReadCertificate(b *bench) error {
	lister, err := ability[task.CertificateLister](b, "CertificateLister")
	if err != nil {
		return err
	}
	id, der, arns, _, err := b.reported()
	if err != nil {
		return err
	}
	got, err := lister.ReadCertificate(b.ctx, id)
	if err != nil {
		return fmt.Errorf("ReadCertificate: %w", err)
	}
	block, _ := pem.Decode([]byte(got.PEM))
	if got.ID != id || block == nil || string(block.Bytes) != string(der) {
		return fmt.Errorf("ReadCertificate of %s gave %s and another certificate than the report", id, got.ID)
	}
	if err := hasPolicy(got, arns); err != nil {
		return fmt.Errorf("ReadCertificate: %w", err)
	}
	if _, err := lister.ReadCertificate(b.ctx, strings.Repeat("0", len(id))); !errors.Is(err, task.ErrNotFound) {
		return fmt.Errorf("ReadCertificate of an unknown certificate gave %s, which is not ErrNotFound", said(err))
	}
	return nil
}

func checkRemoveDevice(b *bench) error {
	remover, err := ability[task.DeviceRemover](b, "DeviceRemover")
	if err != nil {
		return err
	}
	devices, _, _, err := b.runSome(1)
	if err != nil {
		return err
	}
	for range 2 {
		if err := remover.RemoveDevice(b.ctx, devices[0].name); err != nil {
			return fmt.Errorf("RemoveDevice: %w", err)
		}
	}
	reader, err := ability[task.DeviceReader](b, "DeviceReader")
	if err != nil {
		return nil // nothing to check it by
	}
	if _, err := reader.ReadDevice(b.ctx, devices[0].name); !errors.Is(err, task.ErrNotFound) {
		return fmt.Errorf("ReadDevice of a removed device gave %s, which is not ErrNotFound", said(err))
	}
	return nil
}

func checkEnsureBucket(b *bench) error {
	bucket, err := ability[task.BucketEnsurer](b, "BucketEnsurer")
	if err != nil {
		return err
	}
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	object, err := b.upload(devices)
	if err != nil {
		return err
	}
	for range 2 {
		if err := bucket.EnsureBucket(b.ctx); err != nil {
			return fmt.Errorf("EnsureBucket of a bucket that is there: %w", err)
		}
	}
	t, _, err := b.runOver(object)
	if err != nil {
		return err
	}
	return b.registered(t, devices)
}

func checkEnsureRole(b *bench) error {
	role, err := ability[task.RoleEnsurer](b, "RoleEnsurer")
	if err != nil {
		return err
	}
	in := &task.RoleInput{Name: "iotfleet-tasktest"}
	arn, err := role.EnsureRole(b.ctx, in)
	if err != nil {
		return fmt.Errorf("EnsureRole: %w", err)
	}
	again, err := role.EnsureRole(b.ctx, in)
	if err != nil {
		return fmt.Errorf("EnsureRole of a role that is there: %w", err)
	}
	if again != arn {
		return fmt.Errorf("EnsureRole returned %s and, called again, %s", arn, again)
	}
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	b.harness = withRole{b.harness, arn}
	t, _, err := b.run(devices)
	if err != nil {
		return fmt.Errorf("a task with the role that EnsureRole made: %w", err)
	}
	return b.registered(t, devices)
}

// withRole is a harness with another role.
type withRole struct {
	Harness
	arn string
}

func (w withRole) RoleARN() string { return w.arn }

func checkPreflight(b *bench) error {
	p, err := ability[task.Preflighter](b, "Preflighter")
	if err != nil {
		return err
	}
	missing := "tasktest-no-type-" + token()
	findings, err := p.Preflight(b.ctx, &task.PreflightInput{TemplateBody: template, RoleARN: b.harness.RoleARN(), ThingTypes: []string{missing}})
	if err != nil {
		return fmt.Errorf("backend.Preflight: %w", err)
	}
	reported := false
	for _, f := range findings {
		switch f.Result {
		case task.FindingOK, task.FindingProblem, task.FindingUnknown, task.FindingAdvisory:
		default:
			return fmt.Errorf("the finding %+v has a result of its own making", f)
		}
		if f.Check == "" || f.Detail == "" && f.Result != task.FindingOK {
			return fmt.Errorf("the finding %+v lacks its check or what to do", f)
		}
		if f.Subject == missing {
			reported = true
			if f.Result == task.FindingOK {
				return fmt.Errorf("the thing type %s does not exist and the finding is %+v", missing, f)
			}
		} else if f.Result == task.FindingProblem {
			return fmt.Errorf("the harness is ready for tasks and the finding is %+v", f)
		}
	}
	if !reported {
		return fmt.Errorf("backend.Preflight says nothing about the thing type %s, which does not exist", missing)
	}
	return nil
}
