package tasktest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
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

	"github.com/seed1ff6f450/iotfleet/task"
)

// bench is where one case works: its backend, and what it has to put away afterwards.
type bench struct {
	ctx     context.Context
	harness Harness
	backend task.Backend
	tasks   []*task.Task
	devices []device
}

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
func (b *bench) newDevices(n int) ([]device, error) {
	run := token()
	made := make([]device, n)
	for i := range made {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make a key: %w", err)
		}
		name := fmt.Sprintf("tasktest-%s-%d", run, i+1)
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
		if err != nil {
			return nil, fmt.Errorf("make a certificate signing request: %w", err)
		}
		public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("encode a public key: %w", err)
		}
		csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		made[i] = device{name: name, csr: string(csr), key: public}
	}
	b.devices = append(b.devices, made...)
	return made, nil
}

// spoil gives every second device a name that AWS refuses.
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
func (b *bench) upload(devices []device) (*task.Object, error) {
	object, err := b.backend.Upload(b.ctx, input(newKey(), dataFile(devices)))
	if err == nil && object == nil {
		err = errors.New("neither an object nor an error")
	}
	if err != nil {
		return nil, fmt.Errorf("backend.Upload of a good file: %w", err)
	}
	return object, nil
}

func (b *bench) startInput(object *task.Object) *task.StartInput {
	return &task.StartInput{TemplateBody: template, InputFileBucket: object.Bucket, InputFileKey: object.Key, RoleARN: b.harness.RoleARN()}
}

// start starts a task over the object. A task that another case left behind may take a while to go.
func (b *bench) start(object *task.Object) (*task.Task, error) {
	for attempt := 0; ; attempt++ {
		t, err := task.Start(b.ctx, b.backend, b.startInput(object))
		if err == nil {
			b.tasks = append(b.tasks, t)
			return t, nil
		}
		const most = 10
		if !errors.Is(err, task.ErrTaskRunning) || attempt == most {
			return nil, err
		}
		if err := b.pause(time.Second); err != nil {
			return nil, err
		}
	}
}

// begin uploads the devices and starts a task over them.
func (b *bench) begin(devices []device) (*task.Task, error) {
	object, err := b.upload(devices)
	if err != nil {
		return nil, err
	}
	return b.start(object)
}

// run registers the devices and waits for the end of the task, which must be Completed.
func (b *bench) run(devices []device) (*task.Task, *task.Description, error) {
	t, err := b.begin(devices)
	if err != nil {
		return nil, nil, err
	}
	d, err := t.Wait(b.ctx, b.waiting(nil))
	return t, d, err
}

// runSome makes n devices and runs a task over them.
func (b *bench) runSome(n int) ([]device, *task.Task, *task.Description, error) {
	devices, err := b.newDevices(n)
	if err != nil {
		return nil, nil, nil, err
	}
	t, d, err := b.run(devices)
	return devices, t, d, err
}

// beginLong starts a task that stays in progress for a while.
func (b *bench) beginLong() ([]device, *task.Task, error) {
	lines := 40
	if p, ok := b.harness.(Pacer); ok {
		lines = p.LinesInProgress()
	}
	devices, err := b.newDevices(lines)
	if err != nil {
		return nil, nil, err
	}
	t, err := b.begin(devices)
	return devices, t, err
}

// waiting looks more often than the defaults do: the tasks here are short.
func (b *bench) waiting(progress func(*task.Description)) *task.WaitOptions {
	return &task.WaitOptions{MinDelay: 100 * time.Millisecond, MaxDelay: 2 * time.Second, Progress: progress}
}

// pause waits for d.
func (b *bench) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

// registered reads the RESULTS report and checks that it has one certificate for the key of each of the devices and
// nothing else.
func (b *bench) registered(t *task.Task, devices []device) error {
	missing := map[string]string{} // name by public key
	for _, d := range devices {
		missing[string(d.key)] = d.name
	}
	seen := map[string]bool{}
	for r, err := range t.Results(b.ctx) {
		if err != nil {
			return err
		}
		if r.Malformed != nil {
			return r.Malformed
		}
		key, err := certificateKey(r.CertificatePEM)
		if err != nil {
			return fmt.Errorf("RESULTS line %d: %w", r.Line, err)
		}
		name, ok := missing[string(key)]
		switch {
		case seen[string(key)]:
			return fmt.Errorf("RESULTS has two lines for the key of one device (%s)", r.ARNs.Thing())
		case !ok:
			return fmt.Errorf("RESULTS has a certificate for a key that no line asked for (%s)", r.ARNs.Thing())
		case task.ResourceName(r.ARNs.Thing()) != name:
			return fmt.Errorf("RESULTS has the certificate of %s beside the thing %q", name, r.ARNs.Thing())
		}
		seen[string(key)] = true
		delete(missing, string(key))
	}
	for _, name := range missing {
		return fmt.Errorf("RESULTS lacks %d of %d registered lines, such as that of %s", len(missing), len(devices), name)
	}
	return nil
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
func (b *bench) all(status task.Status, pageSize int) (ids []task.ID, err error) {
	in := task.ListInput{Status: status, MaxResults: pageSize}
	tokens := map[string]bool{}
	for empty := 0; ; {
		page, err := b.backend.ListTasks(b.ctx, new(in))
		if err != nil {
			return nil, fmt.Errorf("ListTasks: %w", err)
		}
		if pageSize > 0 && len(page.IDs) > pageSize {
			return nil, fmt.Errorf("ListTasks gave %d ids for a MaxResults of %d", len(page.IDs), pageSize)
		}
		ids = append(ids, page.IDs...)
		if page.NextToken == "" {
			return ids, nil
		}
		if empty++; len(page.IDs) > 0 {
			empty = 0
		}
		const most = 100
		if tokens[page.NextToken] || empty > most {
			return nil, errors.New("ListTasks never comes to a last page")
		}
		tokens[page.NextToken] = true
		in.Token = page.NextToken
	}
}

// tasksOver counts the tasks over a data file among those that are not in before.
func (b *bench) tasksOver(object *task.Object, before []task.ID) (found []*task.Task, err error) {
	ids, err := b.all("", 0)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if slices.Contains(before, id) {
			continue
		}
		d, err := b.backend.DescribeTask(b.ctx, id)
		if err != nil {
			return nil, fmt.Errorf("DescribeTask of the listed task %s: %w", id, err)
		}
		if d.InputFileKey == object.Key && d.InputFileBucket == object.Bucket {
			found = append(found, task.Attach(b.backend, id))
		}
	}
	b.tasks = append(b.tasks, found...)
	return found, nil
}

// links lists the links of all pages of a report.
func (b *bench) links(t *task.Task, kind task.ReportType) (links []task.Link, err error) {
	tokens := map[string]bool{}
	for token := ""; ; {
		page, err := b.backend.ListReports(b.ctx, t.ID(), kind, token)
		if err != nil {
			return nil, fmt.Errorf("ListReports: %w", err)
		}
		links = append(links, page.Links...)
		if page.NextToken == "" {
			return links, nil
		}
		if token = page.NextToken; tokens[token] {
			return nil, errors.New("ListReports never comes to a last page")
		}
		tokens[token] = true
	}
}

// read opens a link at an offset and reads it to its end.
func (b *bench) read(link task.Link, offset int64) ([]byte, error) {
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

// said words an answer that should have been an error and may be none.
func said(err error) string {
	if err == nil {
		return "no error"
	}
	return fmt.Sprintf("the error %q", err)
}

// inject arranges for a fault, or gives a SkipError when that cannot be done.
func (b *bench) inject(fault Fault) (lift func(), err error) {
	f, ok := b.harness.(Faulter)
	if !ok {
		return nil, &SkipError{fmt.Sprintf("the harness is no Faulter, so it cannot %s", fault)}
	}
	lift, err = f.Inject(fault)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, &SkipError{fmt.Sprintf("the harness cannot %s", fault)}
	}
	return lift, err
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
	if remover, ok := task.As[task.DeviceRemover](b.backend); ok {
		for _, d := range b.devices {
			if err := remover.RemoveDevice(ctx, d.name); err != nil {
				errs = append(errs, fmt.Errorf("remove device %s: %w", d.name, err))
			}
		}
	}
	if failed {
		return nil
	}
	return errors.Join(errs...)
}
