package tasktest_test

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
	"fmt"
	"io"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/task/tasktest"
)

// reference is a small backend that keeps every promise, for the suite to be tried on. A task's lines take time, and
// are worked on whenever somebody looks.
type reference struct {
	mu           sync.Mutex
	objects      map[string][]byte
	tasks        []*referenceTask // oldest first
	things       map[string]*task.Device
	certificates []task.Certificate // those attached to no thing too
	roles        map[string]bool
	resources    map[string]string // policies with their documents, groups with their parents, types; by name
	issuer       *x509.Certificate
	key          *ecdsa.PrivateKey
	cas          map[string]task.CA // by their PEM
	faults       map[tasktest.Fault]bool
	secret       string
	epoch        int // links of earlier epochs have expired
}

type referenceTask struct {
	task.Description
	lines   []string
	stopped time.Time
	results []string
	errors  []string
}

const (
	referenceAccount = "arn:aws:iot:eu-west-1:123456789012:"
	referenceRole    = "arn:aws:iam::123456789012:role/bulk"
	linesASecond     = 40
	linesPerFile     = 2
	linksPerPage     = 2
	stopTakes        = 300 * time.Millisecond
)

func newReference() *reference {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return &reference{
		objects: map[string][]byte{}, things: map[string]*task.Device{}, roles: map[string]bool{referenceRole: true},
		resources: map[string]string{},
		issuer:    &x509.Certificate{Subject: pkix.Name{CommonName: "reference"}}, key: key, secret: rand.Text(), faults: map[tasktest.Fault]bool{},
	}
}

func (r *reference) Backend() task.Backend { return r }
func (r *reference) RoleARN() string       { return referenceRole }
func (r *reference) LinesInProgress() int  { return 2 * linesASecond }

func (r *reference) Inject(f tasktest.Fault) (lift func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f == tasktest.ExpireLinks {
		r.epoch++
	}
	r.faults[f] = true
	return func() { r.mu.Lock(); defer r.mu.Unlock(); delete(r.faults, f) }, nil
}

// enter begins a call. The lock is held when it returns nil.
func (r *reference) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return fmt.Errorf("reference: %w", context.Cause(ctx))
	}
	r.mu.Lock()
	for _, t := range r.tasks {
		r.work(t)
	}
	return nil
}

func refuse(code, message string) error {
	return &task.Error{Op: "Reference", Code: code, Message: message, Status: 400, Kind: task.KindOfCode(code)}
}

var errDropped = fmt.Errorf("reference: connection closed: %w", io.ErrUnexpectedEOF)

func (r *reference) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	if err := r.enter(ctx); err != nil {
		return "", err
	}
	defer r.mu.Unlock()
	if r.faults[tasktest.ThrottleStart] {
		return "", refuse("ThrottlingException", "Rate exceeded")
	}
	if r.faults[tasktest.DropStartBefore] {
		return "", errDropped
	}
	if n := utf8.RuneCountInString(in.TemplateBody); n == 0 || n > 10240 || !json.Valid([]byte(in.TemplateBody)) ||
		in.InputFileBucket == "" || in.InputFileKey == "" || in.RoleARN == "" {
		return "", refuse("InvalidRequestException", "invalid input")
	}
	for _, t := range r.tasks {
		if !t.Status.Done() {
			return "", &task.Error{Op: "Reference", Code: "LimitExceededException", Status: 410, Kind: task.ErrTaskRunning}
		}
	}
	t := &referenceTask{Description: task.Description{
		ID: task.ID(fmt.Sprintf("task-%d", len(r.tasks)+1)), Status: task.InProgress, Created: time.Now(), LastModified: time.Now(),
		TemplateBody: in.TemplateBody, InputFileBucket: in.InputFileBucket, InputFileKey: in.InputFileKey, RoleARN: in.RoleARN,
	}}
	data, ok := r.objects[in.InputFileBucket+"/"+in.InputFileKey]
	switch {
	case !ok || !r.roles[in.RoleARN]:
		t.Status, t.Message = task.Failed, "cannot read the data file"
	case len(data) > 0:
		t.lines = strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	}
	r.tasks = append(r.tasks, t)
	if r.faults[tasktest.DropStartAfter] {
		return "", errDropped
	}
	if r.faults[tasktest.HangStart] {
		r.mu.Unlock()
		<-ctx.Done()
		r.mu.Lock()
		return "", context.Cause(ctx)
	}
	return t.ID, nil
}

// work registers the lines whose time has come.
func (r *reference) work(t *referenceTask) {
	if t.Status.Done() {
		return
	}
	now := time.Now()
	if t.Status == task.Cancelling {
		if end := t.stopped.Add(stopTakes); !now.Before(end) {
			t.Status, t.LastModified = task.Cancelled, end
		}
		return
	}
	due := min(len(t.lines), int(now.Sub(t.Created)*linesASecond/time.Second))
	for n := t.Succeeded + t.Failed; n < due; n++ {
		t.LastModified = t.Created.Add(time.Duration(n+1) * time.Second / linesASecond)
		var row map[string]string
		registration, err := (*task.Registration)(nil), json.Unmarshal([]byte(t.lines[n]), &row)
		if err == nil {
			registration, err = r.register(row, n+1)
		}
		if err != nil {
			t.Failed++
			t.errors = append(t.errors, encode(map[string]any{"lineNumber": n + 1, "errorMessage": err.Error()}))
			continue
		}
		t.Succeeded++
		t.results = append(t.results, encode(map[string]any{"lineNumber": n + 1, "response": map[string]any{
			"CertificatePem": registration.CertificatePEM, "ResourceArns": registration.ARNs}}))
	}
	if due == len(t.lines) {
		t.Status, t.Percent = task.Completed, 100
	} else {
		t.Percent = 100 * due / len(t.lines)
	}
}

func encode(v any) string {
	line, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(line) + "\n"
}

var goodName = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

// fails reports whether a line is to fail at this point.
func (r *reference) fails(line int, at tasktest.Fault) error {
	const failing = 2
	if line == failing && r.faults[at] {
		return refuse("InternalFailureException", "the fault "+string(at))
	}
	return nil
}

// register makes a certificate and a thing and attaches one to the other. line is 0 for a device without a task.
func (r *reference) register(row map[string]string, line int) (*task.Registration, error) {
	name := row["ThingName"]
	if !goodName.MatchString(name) {
		return nil, refuse("InvalidRequestException", "thing name "+name)
	}
	block, _ := pem.Decode([]byte(row["CSR"]))
	if block == nil {
		return nil, refuse("InvalidRequestException", "CSR is not PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, refuse("InvalidRequestException", err.Error())
	}
	if err := r.fails(line, tasktest.FailLineBeforeCertificate); err != nil {
		return nil, err
	}
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159))
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, Subject: csr.Subject}, r.issuer, csr.PublicKey, r.key)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(der)
	id := hex.EncodeToString(digest[:])
	cert := task.Certificate{ID: id, ARN: referenceAccount + "cert/" + id, Status: "INACTIVE", Created: time.Now(),
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	r.certificates = append(r.certificates, cert)
	if err := r.fails(line, tasktest.FailLineAfterCertificate); err != nil {
		return nil, err
	}
	if r.things[name] == nil {
		r.things[name] = &task.Device{ThingName: name, ThingARN: referenceAccount + "thing/" + name, Attributes: map[string]string{"line": "tasktest"}}
	}
	if err := r.fails(line, tasktest.FailLineAfterThing); err != nil {
		return nil, err
	}
	cert.Policies = []string{"rule-1"}
	r.resources["rule-1"] = ""
	r.certificates[len(r.certificates)-1] = cert
	if err := r.fails(line, tasktest.FailLineAfterPolicies); err != nil {
		return nil, err
	}
	r.things[name].Certificates = append(r.things[name].Certificates, cert)
	if err := r.fails(line, tasktest.FailLineAfterAttachment); err != nil {
		return nil, err
	}
	attached := r.things[name].Certificates
	attached[len(attached)-1].Status, r.certificates[len(r.certificates)-1].Status = "ACTIVE", "ACTIVE"
	if err := r.fails(line, tasktest.FailLineAfterAll); err != nil {
		return nil, err
	}
	return &task.Registration{CertificatePEM: cert.PEM, ARNs: task.ARNs{
		"appliance": r.things[name].ThingARN, "identité": cert.ARN, "rule": referenceAccount + "policy/rule-1"}}, nil
}

func (r *reference) find(id task.ID) (*referenceTask, error) {
	for _, t := range r.tasks {
		if t.ID == id {
			return t, nil
		}
	}
	return nil, refuse("ResourceNotFoundException", "no task "+string(id))
}

func (r *reference) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	if r.faults[tasktest.HangDescribe] {
		r.mu.Unlock()
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	defer r.mu.Unlock()
	t, err := r.find(id)
	if err != nil {
		return nil, err
	}
	return new(t.Description), nil
}

func (r *reference) ListTasks(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	size := in.MaxResults
	if size == 0 {
		size = 2
	}
	page := &task.TaskPage{}
	passed := in.Token == ""
	for _, t := range slices.Backward(r.tasks) {
		if !passed {
			passed = string(t.ID) == in.Token
			continue
		}
		if in.Status != "" && t.Status != in.Status {
			continue
		}
		if len(page.IDs) == size {
			page.NextToken = string(page.IDs[size-1])
			break
		}
		page.IDs = append(page.IDs, t.ID)
	}
	return page, nil
}

func (r *reference) ListReports(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	t, err := r.find(id)
	if err != nil {
		return nil, err
	}
	var first int
	_, _ = fmt.Sscanf(token, "from-%d", &first)
	page := &task.ReportPage{}
	for n := first; n*linesPerFile < len(t.report(kind)); n++ {
		if len(page.Links) == linksPerPage {
			page.NextToken = fmt.Sprintf("from-%d", n)
			break
		}
		page.Links = append(page.Links, r.sign(fmt.Sprintf("ref://%s/%s/%d/%d/", id, kind, n, r.epoch)))
	}
	return page, nil
}

func (t *referenceTask) report(kind task.ReportType) []string {
	if kind == task.ErrorsReport {
		return t.errors
	}
	return t.results
}

func (r *reference) sign(url string) task.Link {
	digest := sha256.Sum256([]byte(url + r.secret))
	return task.NewLink(url + hex.EncodeToString(digest[:]))
}

func (r *reference) StopTask(ctx context.Context, id task.ID) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	defer r.mu.Unlock()
	t, err := r.find(id)
	if err == nil && t.Status == task.InProgress {
		t.Status, t.stopped, t.LastModified = task.Cancelling, time.Now(), time.Now()
	}
	return err
}

func (r *reference) Upload(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if r.faults[tasktest.FailUpload] {
		return nil, &task.Error{Op: "PutObject", Code: "ServiceUnavailable", Status: 503, Kind: task.ErrUnavailable}
	}
	data, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != in.Size || sha256.Sum256(data) != in.SHA256 {
		return nil, refuse("BadDigest", "the body differs from its digest")
	}
	r.objects["bucket/in/"+in.Key] = data
	return &task.Object{Bucket: "bucket", Key: "in/" + in.Key, Size: in.Size, SHA256: in.SHA256}, nil
}

func (r *reference) Open(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	var n, epoch int
	parts := strings.Split(link.URL(), "/")
	if len(parts) != 7 || r.sign(strings.Join(parts[:6], "/")+"/").URL() != link.URL() {
		return nil, &task.Error{Op: "GetObject", Code: "SignatureDoesNotMatch", Status: 403, Kind: task.ErrLinkExpired}
	}
	_, _ = fmt.Sscan(parts[4]+" "+parts[5], &n, &epoch)
	if epoch < r.epoch {
		return nil, &task.Error{Op: "GetObject", Code: "AccessDenied", Message: "Request has expired", Status: 403, Kind: task.ErrLinkExpired}
	}
	t, err := r.find(task.ID(parts[2]))
	if err != nil {
		return nil, err
	}
	lines := t.report(task.ReportType(parts[3]))
	data := []byte(strings.Join(lines[n*linesPerFile:min(len(lines), (n+1)*linesPerFile)], ""))
	body := io.Reader(bytes.NewReader(data[offset:]))
	if r.faults[tasktest.TruncateReports] || r.faults[tasktest.TruncateReportsOnce] {
		delete(r.faults, tasktest.TruncateReportsOnce)
		body = io.MultiReader(io.LimitReader(body, max(0, 1000-offset)), ending{io.ErrUnexpectedEOF})
	}
	return &referenceBody{ctx, body}, nil
}

// ending is a reader that has nothing but an error.
type ending struct{ err error }

func (e ending) Read([]byte) (int, error) { return 0, e.err }

type referenceBody struct {
	ctx  context.Context
	body io.Reader
}

func (b *referenceBody) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.body.Read(p)
}

func (b *referenceBody) Close() error { return nil }
