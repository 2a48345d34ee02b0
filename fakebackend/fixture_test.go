package fakebackend_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// monday is the time at which frozen fakes start.
var monday = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

// newFake makes a fake whose clock stands still, with a role that tasks can use.
func newFake(t testing.TB, opts fakebackend.Options) (fake *fakebackend.Backend, roleARN string) {
	t.Helper()
	if opts.Seed == nil {
		opts.Seed = []byte("test")
	}
	fake, err := fakebackend.New(opts)
	require.NoError(t, err)
	fake.SetTime(monday)
	roleARN, err = fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration"})
	require.NoError(t, err)
	return fake, roleARN
}

// config is the fake as an SDK sees it. Nothing is tried a second time.
func config(fake *fakebackend.Backend) aws.Config {
	cfg := fakeaws.Config(fake)
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return cfg
}

// api is the fake's AWS IoT.
func api(fake *fakebackend.Backend) *iot.Client { return iot.NewFromConfig(config(fake)) }

// optional is nil for "".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// refused sends a request to AWS IoT that no SDK would send, and returns the code of the refusal.
func refused(t testing.TB, fake *fakebackend.Backend, method, path, body string) string {
	t.Helper()
	answer := httptest.NewRecorder()
	request := httptest.NewRequest(method, path, strings.NewReader(body)).WithContext(t.Context())
	fakeaws.NewHandler(fake, fakeaws.Options{AllowUnsigned: true}).ServeHTTP(answer, request)
	return strings.TrimSuffix(answer.Header().Get("X-Amzn-Errortype"), ":")
}

// key is a P-256 key that all tests share, since making keys is not what they test.
var key = certtest.Key()

func csrOf(k *ecdsa.PrivateKey, cn string) string {
	return certtest.Request(k, pkix.Name{CommonName: cn, Organization: []string{"MyOrg"}})
}

// row is one line of the walkthrough's data file.
func row(t testing.TB, name, serial string) string {
	t.Helper()
	return line(t, map[string]string{"ThingName": name, "SerialNumber": serial, "CSR": csrOf(key, name)})
}

func line(t testing.TB, row map[string]string) string {
	t.Helper()
	raw, err := json.Marshal(row)
	require.NoError(t, err)
	return string(raw)
}

// rows are n lines for things named device-0001 and so on.
func rows(t testing.TB, n int) []string {
	t.Helper()
	csr := csrOf(key, "device")
	out := make([]string, n)
	for i := range out {
		out[i] = line(t, map[string]string{"ThingName": fmt.Sprintf("device-%04d", i+1), "SerialNumber": fmt.Sprint(i + 1), "CSR": csr})
	}
	return out
}

// walkthrough is the template of AWS's walkthrough.
func walkthrough(t testing.TB) string {
	t.Helper()
	body, err := template.Walkthrough().Body()
	require.NoError(t, err)
	return body
}

// start uploads a data file and starts a task on it.
func start(t testing.TB, fake *fakebackend.Backend, role, body string, lines ...string) task.ID {
	t.Helper()
	return startFile(t, fake, role, body, strings.Join(lines, "\n")+"\n")
}

func startFile(t testing.TB, fake *fakebackend.Backend, role, body, file string) task.ID {
	t.Helper()
	upload(t, fake, "devices.json", file)
	id, err := fake.StartTask(t.Context(), &task.StartInput{
		TemplateBody: body, InputFileBucket: fake.Options().Bucket, InputFileKey: "devices.json", RoleARN: role,
	})
	require.NoError(t, err)
	return id
}

func upload(t testing.TB, fake *fakebackend.Backend, key, file string) {
	t.Helper()
	_, err := fake.Upload(t.Context(), &task.UploadInput{
		Key: key, Body: strings.NewReader(file), Size: int64(len(file)), SHA256: sha256.Sum256([]byte(file)),
	})
	require.NoError(t, err)
}

func describe(t testing.TB, fake *fakebackend.Backend, id task.ID) *task.Description {
	t.Helper()
	d, err := fake.DescribeTask(t.Context(), id)
	require.NoError(t, err)
	return d
}

// reportLine is a line of either report.
type reportLine struct {
	LineNumber   int64
	ErrorCode    string
	ErrorMessage string
	Response     struct {
		CertificatePem string
		ResourceARNs   task.ARNs
	}
}

// report reads a whole report, over all pages and links, and says how many files it has.
func report(t testing.TB, fake *fakebackend.Backend, id task.ID, kind task.ReportType) (lines []reportLine, files int) {
	t.Helper()
	for token := ""; ; {
		page, err := fake.ListReports(t.Context(), id, kind, token)
		require.NoError(t, err)
		for _, link := range page.Links {
			files++
			body, err := fake.Open(t.Context(), link, 0)
			require.NoError(t, err)
			raw, err := io.ReadAll(body)
			require.NoError(t, err)
			require.NoError(t, body.Close())
			require.True(t, strings.HasSuffix(string(raw), "\n"), "a report ends in a newline")
			for one := range strings.Lines(string(raw)) {
				var l reportLine
				require.NoError(t, json.Unmarshal([]byte(one), &l))
				lines = append(lines, l)
			}
		}
		if token = page.NextToken; token == "" {
			return lines, files
		}
	}
}

func results(t testing.TB, fake *fakebackend.Backend, id task.ID) []reportLine {
	lines, _ := report(t, fake, id, task.ResultsReport)
	return lines
}

func failures(t testing.TB, fake *fakebackend.Backend, id task.ID) []reportLine {
	lines, _ := report(t, fake, id, task.ErrorsReport)
	return lines
}
