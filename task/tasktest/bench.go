package tasktest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/internal/suitetest"
	"github.com/seed1ff6f450/iotfleet/task"
)

// bench is where one case works: its backend, and what it has to put away afterwards.
type bench struct {
	suitetest.Trial
	ctx     context.Context
	harness Harness
	backend task.Backend
	tasks   []*task.Task
	devices []device
}

// skip ends the case without a verdict.
func (b *bench) skip(format string, args ...any) { b.End(&SkipError{fmt.Sprintf(format, args...)}) }

// device is one line of a data file.
type device struct {
	name   string
	csr    string
	key    []byte // SubjectPublicKeyInfo, DER
	refuse bool   // the name breaks AWS's rule, so that the line is refused
}

// template is the provisioning template of all cases. Its logical names are not those of AWS's examples, and its white
// space and its letters outside ASCII show whether a backend keeps it as it is.
const template = "{\r\n" +
	"  \"Parameters\": {\"ThingName\": {\"Type\": \"String\"}, \"CSR\": {\"Type\": \"String\"}},\n" +
	"\t\"Resources\": {\n" +
	"    \"appliance\": {\"Type\": \"AWS::IoT::Thing\", \"Properties\": {\"ThingName\": {\"Ref\": \"ThingName\"},  " +
	"\"AttributePayload\": {\"line\": \"tasktest\"}}},\n" +
	"    \"identité\": {\"Type\": \"AWS::IoT::Certificate\", \"Properties\": {\"CertificateSigningRequest\": {\"Ref\": \"CSR\"}, " +
	"\"Status\": \"ACTIVE\"}},\n" +
	"    \"rule\": {\"Type\": \"AWS::IoT::Policy\", \"Properties\": {\"PolicyDocument\": \"{\\\"Version\\\":\\\"2012-10-17\\\"," +
	"\\\"Statement\\\":[{\\\"Effect\\\":\\\"Allow\\\",\\\"Action\\\":\\\"iot:Connect\\\",\\\"Resource\\\":\\\"*\\\"}]}\"}}\n" +
	"  }\n}\n"

// token returns a name no other run has used.
func token() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// newDevices makes n devices with keys of their own.
func (b *bench) newDevices(n int) []device {
	run := token()
	made := make([]device, n)
	for i := range made {
		key := certtest.Key()
		public, err := x509.MarshalPKIXPublicKey(key.Public())
		b.OK(err)
		name := fmt.Sprintf("tasktest-%s-%d", run, i+1)
		made[i] = device{name: name, csr: certtest.Request(key, pkix.Name{CommonName: name}), key: public}
	}
	b.devices = append(b.devices, made...)
	return made
}

// spoil changes the name of every second device into one that AWS refuses.
func spoil(devices []device) {
	for i := range devices {
		if i%2 == 1 {
			devices[i].name, devices[i].refuse = "name with spaces "+devices[i].name, true
		}
	}
}

// dataFile writes the devices as a data file.
func dataFile(devices []device) []byte {
	var b bytes.Buffer
	for _, d := range devices {
		line, err := json.Marshal(map[string]string{"ThingName": d.name, "CSR": d.csr})
		if err != nil {
			panic(err) // strings always marshal
		}
		b.Write(append(line, '\n'))
	}
	return b.Bytes()
}

// input describes an upload of data under key.
func input(key string, data []byte) *task.UploadInput {
	return &task.UploadInput{Key: key, Body: bytes.NewReader(data), Size: int64(len(data)), SHA256: sha256.Sum256(data)}
}

func newKey() string { return "tasktest/" + token() + ".json" }

// upload stores the devices under a new key.
func (b *bench) upload(devices []device) *task.Object { return b.put(newKey(), devices) }

// put stores the devices under a key.
func (b *bench) put(key string, devices []device) *task.Object {
	object, err := b.backend.Upload(b.ctx, input(key, dataFile(devices)))
	b.OK(err, "backend.Upload of a good file")
	if object == nil {
		b.Failf("backend.Upload of a good file returned neither an object nor an error")
	}
	return object
}

func (b *bench) startInput(object *task.Object) *task.StartInput {
	return &task.StartInput{TemplateBody: template, InputFileBucket: object.Bucket, InputFileKey: object.Key, RoleARN: b.harness.RoleARN()}
}

// start starts a task over the object. A task that another case left behind may take a while to go.
func (b *bench) start(object *task.Object) *task.Task {
	for attempt := 0; ; attempt++ {
		t, err := task.Start(b.ctx, b.backend, b.startInput(object))
		if err == nil {
			b.tasks = append(b.tasks, t)
			return t
		}
		const most = 10
		if !errors.Is(err, task.ErrTaskRunning) || attempt == most {
			b.OK(err)
		}
		b.pause(time.Second)
	}
}

// begin uploads the devices and starts a task over them.
func (b *bench) begin(devices []device) *task.Task { return b.start(b.upload(devices)) }

// run registers the devices and waits for the end of the task, which must be Completed.
func (b *bench) run(devices []device) (*task.Task, *task.Description) {
	t := b.begin(devices)
	d, err := t.Wait(b.ctx, b.waiting(nil))
	b.OK(err)
	return t, d
}

// runSome makes n devices and runs a task over them.
func (b *bench) runSome(n int) ([]device, *task.Task, *task.Description) {
	devices := b.newDevices(n)
	t, d := b.run(devices)
	return devices, t, d
}

// beginLong starts a task that stays in progress for a while.
func (b *bench) beginLong() ([]device, *task.Task) {
	lines := 40
	if p, ok := b.harness.(Pacer); ok {
		lines = p.LinesInProgress()
	}
	devices := b.newDevices(lines)
	return devices, b.begin(devices)
}

// ended waits for the end of a task, however it ends.
func (b *bench) ended(t *task.Task) *task.Description {
	d, err := t.Wait(b.ctx, b.waiting(nil))
	if d == nil || !d.Status.Done() {
		b.OK(err)
	}
	return d
}

// describe returns the task as it is now.
func (b *bench) describe(t *task.Task) *task.Description {
	d, err := t.Describe(b.ctx)
	b.OK(err)
	return d
}

// waiting looks more often than the defaults do: the tasks here are short.
func (b *bench) waiting(progress func(*task.Description)) *task.WaitOptions {
	return &task.WaitOptions{MinDelay: 100 * time.Millisecond, MaxDelay: 2 * time.Second, Progress: progress}
}

// pause waits for d.
func (b *bench) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.ctx.Done():
		b.OK(context.Cause(b.ctx))
	}
}

// results reads the RESULTS report.
func (b *bench) results(t *task.Task) (all []*task.Result) {
	for r, err := range t.Results(b.ctx) {
		b.OK(err)
		if r.Malformed != nil {
			b.OK(r.Malformed)
		}
		all = append(all, r)
	}
	return all
}

// refusals reads the ERRORS report, each line of which must have a message.
func (b *bench) refusals(t *task.Task) (all []*task.LineError) {
	for e, err := range t.Errors(b.ctx) {
		b.OK(err)
		if e.Malformed != nil {
			b.OK(e.Malformed)
		}
		if e.Message == "" {
			b.Failf("the ERRORS line %s has no message", e.Raw)
		}
		all = append(all, e)
	}
	return all
}

// registered reads the RESULTS report and checks that it has one certificate for the key of each of the devices and
// nothing else.
func (b *bench) registered(t *task.Task, devices []device) {
	missing := map[string]string{} // name by public key
	for _, d := range devices {
		missing[string(d.key)] = d.name
	}
	seen := map[string]bool{}
	for _, r := range b.results(t) {
		key, err := certificateKey(r.CertificatePEM)
		name, ok := missing[string(key)]
		switch {
		case err != nil:
			b.Failf("RESULTS line %d: %w", r.Line, err)
		case seen[string(key)]:
			b.Failf("RESULTS has two lines for the key of one device (%s)", r.ARNs.Thing())
		case !ok:
			b.Failf("RESULTS has a certificate for a key that no line asked for (%s)", r.ARNs.Thing())
		case task.ResourceName(r.ARNs.Thing()) != name:
			b.Failf("RESULTS has the certificate of %s beside the thing %q", name, r.ARNs.Thing())
		}
		seen[string(key)] = true
		delete(missing, string(key))
	}
	for _, name := range missing {
		b.Failf("RESULTS lacks %d of %d registered lines, such as that of %s", len(missing), len(devices), name)
	}
}

// certificateKey returns the SubjectPublicKeyInfo of a certificate.
func certificateKey(text string) ([]byte, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM block of a certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate does not parse: %w", err)
	}
	return certificate.RawSubjectPublicKeyInfo, nil
}

// all lists all tasks in a status, page by page. It does not trust the token to become empty.
func (b *bench) all(status task.Status, pageSize int) (ids []task.ID) {
	in := task.ListInput{Status: status, MaxResults: pageSize}
	tokens := map[string]bool{}
	for empty := 0; ; {
		page, err := b.backend.ListTasks(b.ctx, new(in))
		b.OK(err, "ListTasks")
		if pageSize > 0 && len(page.IDs) > pageSize {
			b.Failf("ListTasks returned %d ids for a MaxResults of %d", len(page.IDs), pageSize)
		}
		ids = append(ids, page.IDs...)
		if page.NextToken == "" {
			return ids
		}
		if empty++; len(page.IDs) > 0 {
			empty = 0
		}
		const most = 100
		if tokens[page.NextToken] || empty > most {
			b.Failf("ListTasks never comes to a last page")
		}
		tokens[page.NextToken] = true
		in.Token = page.NextToken
	}
}

// tasksOver returns the tasks over a data file among those that are not in before.
func (b *bench) tasksOver(object *task.Object, before []task.ID) (found []*task.Task) {
	for _, id := range b.all("", 0) {
		if slices.Contains(before, id) {
			continue
		}
		d, err := b.backend.DescribeTask(b.ctx, id)
		b.OK(err, "DescribeTask of the listed task "+string(id))
		if d.InputFileKey == object.Key && d.InputFileBucket == object.Bucket {
			found = append(found, task.Attach(b.backend, id))
		}
	}
	b.tasks = append(b.tasks, found...)
	return found
}

// links lists the links of all pages of a report.
func (b *bench) links(t *task.Task, kind task.ReportType) (links []task.Link) {
	tokens := map[string]bool{}
	for token := ""; ; {
		page, err := b.backend.ListReports(b.ctx, t.ID(), kind, token)
		b.OK(err, "ListReports")
		links = append(links, page.Links...)
		if page.NextToken == "" {
			return links
		}
		if token = page.NextToken; tokens[token] {
			b.Failf("ListReports never comes to a last page")
		}
		tokens[token] = true
	}
}

// read reads what a link leads to from an offset to its end.
func (b *bench) read(link task.Link, offset int64) []byte {
	data, err := b.tryRead(link, offset)
	b.OK(err)
	return data
}

func (b *bench) tryRead(link task.Link, offset int64) ([]byte, error) {
	body, err := b.backend.Open(b.ctx, link, offset)
	if err != nil {
		return nil, fmt.Errorf("backend.Open at byte %d: %w", offset, err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		return data, fmt.Errorf("read from byte %d: %w", offset, err)
	}
	return data, nil
}

// said returns words for an answer that should have been an error and may be none.
func said(err error) string {
	if err == nil {
		return "no error"
	}
	return fmt.Sprintf("the error %q", err)
}

// inject arranges for a fault, or skips the case when that cannot be done.
func (b *bench) inject(fault Fault) (lift func()) {
	f, ok := b.harness.(Faulter)
	if !ok {
		b.skip("the harness is no Faulter, so it cannot %s", fault)
	}
	lift, err := f.Inject(fault)
	if errors.Is(err, errors.ErrUnsupported) {
		b.skip("the harness cannot %s", fault)
	}
	b.OK(err)
	return lift
}

// close ends the tasks of the case and removes its devices. A failure to do so matters only to a case that passed.
func (b *bench) close(failed bool) error {
	const limit = 2 * time.Minute
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), limit)
	defer cancel()
	var errs []error
	for _, t := range b.tasks {
		d, err := t.Describe(ctx)
		if err == nil && d.Status.Done() {
			continue
		}
		_ = t.Stop(ctx) // it may have ended by itself; the wait tells
		d, err = t.Wait(ctx, b.waiting(nil))
		if err != nil && (d == nil || !d.Status.Done()) {
			errs = append(errs, fmt.Errorf("put away task %s: %w", t.ID(), err))
		}
	}
	for _, d := range b.devices {
		if err := b.remove(ctx, d.name); err != nil {
			errs = append(errs, fmt.Errorf("remove device %s: %w", d.name, err))
		}
	}
	if failed {
		return nil
	}
	return errors.Join(errs...)
}

// remove removes a thing with its certificates, where the backend can.
func (b *bench) remove(ctx context.Context, thing string) error {
	remover, ok := task.As[task.Remover](b.backend)
	reader, reads := task.As[task.DeviceReader](b.backend)
	if !ok || !reads {
		return nil
	}
	got, err := reader.ReadDevice(ctx, thing)
	if errors.Is(err, task.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, c := range got.Certificates {
		if _, err := remover.RetireCertificate(ctx, thing, c.ID); err != nil {
			return err
		}
	}
	_, err = remover.RemoveThing(ctx, thing)
	return err
}
