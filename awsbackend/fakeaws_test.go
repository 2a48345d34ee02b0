package awsbackend_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/task/tasktest"
)

// The account of the fake, whose keys the server knows, so that every signature is checked.
const (
	accessKey = "AKIDEXAMPLE"
	secretKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	fakeRate  = 40 // lines a second
)

// world is the fake behind AWS's wire protocols, and awsbackend in front of them.
type world struct {
	fake     *fakebackend.Backend
	handler  *fakeaws.Handler
	config   aws.Config
	backend  *awsbackend.Backend
	role     string
	realTime bool
}

// reach makes a configuration whose clients reach the handler.
type reach func(*testing.T, *fakeaws.Handler) aws.Config

// inProcess needs no socket.
func inProcess(_ *testing.T, h *fakeaws.Handler) aws.Config { return h.Config() }

// over returns a reach through a server's socket.
func over(start func(*fakeaws.Server) error) reach {
	return func(t *testing.T, h *fakeaws.Handler) aws.Config {
		t.Helper()
		server := fakeaws.NewUnstartedServer(h.Backend(), fakeaws.Options{})
		server.Handler = h
		require.NoError(t, start(server))
		t.Cleanup(server.Close)
		cfg := h.Config()
		cfg.BaseEndpoint, cfg.HTTPClient = aws.String(server.URL), server.Client()
		return cfg
	}
}

// newWorld makes an account that is reached in the given way. The bucket and the role are made over the wire.
func newWorld(t *testing.T, opts awsbackend.Options, to reach) *world {
	t.Helper()
	fake, err := fakebackend.New(fakebackend.Options{NoBucket: true, Rate: fakeRate, StopDelay: 100 * time.Millisecond,
		LinesPerReport: 3, PageSize: 2, Region: "eu-central-1"})
	require.NoError(t, err)
	handler := fakeaws.NewHandler(fake, fakeaws.Options{Credentials: map[string]string{accessKey: secretKey}})
	w := &world{fake: fake, handler: handler, config: to(t, handler), realTime: true}
	w.backend, err = awsbackend.New(w.config, opts)
	require.NoError(t, err)
	require.NoError(t, w.backend.EnsureBucket(t.Context()))
	w.role, err = w.backend.EnsureRole(t.Context(), &task.RoleInput{Name: "fleet-registration", SourceGuard: true})
	require.NoError(t, err)
	return w
}

func (w *world) Backend() task.Backend { return w.backend }
func (w *world) RoleARN() string       { return w.role }
func (w *world) LinesInProgress() int  { return fakeRate + fakeRate/2 }

func (w *world) Inject(fault tasktest.Fault) (func(), error) {
	const forEver = -1
	var f fakebackend.Fault
	switch fault {
	case tasktest.ThrottleStart:
		if w.realTime {
			return nil, fmt.Errorf("throttling takes 15 s; the world in virtual time has it: %w", errors.ErrUnsupported)
		}
		f = fakebackend.Fault{Operation: "StartThingRegistrationTask", Do: fakebackend.Throttle, Times: forEver}
	case tasktest.DropStartBefore:
		f = fakebackend.Fault{Operation: "StartThingRegistrationTask", Do: fakebackend.DropBefore, Times: forEver}
	case tasktest.DropStartAfter:
		f = fakebackend.Fault{Operation: "StartThingRegistrationTask", Do: fakebackend.DropAfter, Times: forEver}
	case tasktest.HangStart:
		f = fakebackend.Fault{Operation: "StartThingRegistrationTask", Do: fakebackend.Hang, Times: forEver}
	case tasktest.DropRegisterAfter:
		f = fakebackend.Fault{Operation: "RegisterThing", Do: fakebackend.DropAfter, Times: forEver}
	case tasktest.FailUpload:
		f = fakebackend.Fault{Operation: "PutObject", Do: fakebackend.Fail, Code: "ServiceUnavailable", Status: 503, Times: forEver}
	case tasktest.TruncateReports:
		f = fakebackend.Fault{Operation: "GetObject", Do: fakebackend.Truncate, Bytes: 100, Times: forEver}
	case tasktest.TruncateReportsOnce:
		f = fakebackend.Fault{Operation: "GetObject", Do: fakebackend.Truncate, Bytes: 100, Times: 1}
	case tasktest.HangDescribe:
		f = fakebackend.Fault{Operation: "DescribeThingRegistrationTask", Do: fakebackend.Hang, Times: forEver}
	case tasktest.ExpireLinks:
		w.fake.Advance(w.fake.Options().LinkLife + time.Second)
		return func() {}, nil
	default:
		step, ok := lineSteps[fault]
		if !ok {
			return nil, fmt.Errorf("fault %q: %w", fault, errors.ErrUnsupported)
		}
		f = fakebackend.Fault{Line: 2, Step: step, Do: fakebackend.Fail, Times: forEver}
	}
	id, err := w.fake.AddFault(f)
	if err != nil {
		return nil, err
	}
	return func() { w.fake.RemoveFault(id) }, nil
}

// lineSteps are the steps of the second line that fail.
var lineSteps = map[tasktest.Fault]fakebackend.Step{
	tasktest.FailLineBeforeCertificate: fakebackend.StepCertificate,
	tasktest.FailLineAfterCertificate:  fakebackend.StepThing,
	tasktest.FailLineAfterThing:        fakebackend.StepPolicy,
	tasktest.FailLineAfterPolicies:     fakebackend.StepAttachCertificate,
	tasktest.FailLineAfterAttachment:   fakebackend.StepActivate,
	tasktest.FailLineAfterAll:          fakebackend.StepReport,
}

var fleetBucket = awsbackend.Options{Bucket: "fleet-bucket", Prefix: "registration"}

func TestThePromisesOfTaskAreKeptOverHTTP(t *testing.T) {
	t.Parallel()
	tasktest.Run(t, func(t *testing.T) tasktest.Harness { return newWorld(t, fleetBucket, over((*fakeaws.Server).Start)) })
}

func TestThePromisesOfTaskAreKeptInProcessAndInVirtualTime(t *testing.T) {
	for _, c := range tasktest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				err := c.Check(t.Context(), w)
				if skip, ok := errors.AsType[*tasktest.SkipError](err); ok {
					t.Skip(skip.Reason)
				}
				assert.NoError(t, err, c.Explanation)
			})
		})
	}
}

// inBubble runs a test in virtual time and in process.
func inBubble(t *testing.T, f func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fleetBucket, inProcess)
		w.realTime = false
		f(t, w)
	})
}

func TestTheWholeWayOverTheWireEndsWithCertificates(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		who, err := w.backend.Identity(ctx)
		require.NoError(t, err)
		assert.Equal(t, &task.Identity{Partition: "aws", Account: w.fake.Options().Account, Region: "eu-central-1", Fake: true}, who)

		run := registerOver(t, w, "line-1", 20)
		assert.Equal(t, task.Completed, run.description.Status)
		assert.Equal(t, 20, run.description.Succeeded)
		assert.Len(t, run.results, 20)
		for _, r := range run.results {
			require.Nil(t, r.Malformed)
			assert.Contains(t, r.CertificatePEM, "BEGIN CERTIFICATE")
		}

		device, err := w.backend.ReadDevice(ctx, "line-1-0")
		require.NoError(t, err)
		require.Len(t, device.Certificates, 1)
		inFake, ok := w.fake.Thing("line-1-0")
		require.True(t, ok)
		assert.Equal(t, inFake.Certificates[0].PEM, device.Certificates[0].PEM, "what is read over the wire is what the fake holds")
	})
}

// TestTheFakeAndAWSAgreeOnThePartitionOfARegion makes a role over the wire in every partition: its ARNs come from this
// package, and are looked up by the fake.
func TestTheFakeAndAWSAgreeOnThePartitionOfARegion(t *testing.T) {
	for region, want := range map[string]string{
		"eu-central-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "eusc-de-east-1": "aws-eusc", "us-iso-east-1": "aws-iso",
		"us-isob-east-1": "aws-iso-b", "eu-isoe-west-1": "aws-iso-e", "us-isof-south-1": "aws-iso-f",
	} {
		fake, err := fakebackend.New(fakebackend.Options{Region: region})
		require.NoError(t, err)
		cfg := fakeaws.NewHandler(fake, fakeaws.Options{Credentials: map[string]string{accessKey: secretKey}}).Config()
		backend, err := awsbackend.New(cfg, awsbackend.Options{Bucket: fake.Options().Bucket})
		require.NoError(t, err)

		overWire, err := backend.Identity(t.Context())
		require.NoError(t, err)
		inFake, err := fake.Identity(t.Context())
		require.NoError(t, err)
		assert.Equal(t, &task.Identity{Partition: want, Account: "123456789012", Region: region, Fake: true}, overWire)
		assert.Equal(t, inFake, overWire)
		arn, err := backend.EnsureRole(t.Context(), &task.RoleInput{Name: "over-wire"})
		require.NoError(t, err)
		assert.Equal(t, "arn:"+want+":iam::123456789012:role/over-wire", arn)
		host, err := backend.DataEndpoint(t.Context())
		require.NoError(t, err)
		assert.True(t, strings.HasSuffix(host, "."+region+"."+partition.Of(region).DNSSuffix), host)
	}
}

func TestAnExpiredLinkIsListedAgainOverTheWire(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		run := registerOver(t, w, "late", 4)
		page, err := w.backend.ListReports(t.Context(), run.task.ID(), task.ResultsReport, "")
		require.NoError(t, err)
		w.fake.Advance(25 * time.Hour)
		_, err = w.backend.Open(t.Context(), page.Links[0], 0)
		require.ErrorIs(t, err, task.ErrLinkExpired)
		var n int
		for r, err := range run.task.Results(t.Context()) {
			require.NoError(t, err)
			require.Nil(t, r.Malformed)
			n++
		}
		assert.Equal(t, 4, n)
	})
}

func TestABucketOfAnotherRegionIsRefusedOverTheWire(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		far := w.config.Copy()
		far.Region = "us-west-2"
		_, err := s3.NewFromConfig(far).CreateBucket(t.Context(), &s3.CreateBucketInput{
			Bucket: new("far-bucket"), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: "us-west-2"},
		})
		require.NoError(t, err)
		b, err := awsbackend.New(w.config, awsbackend.Options{Bucket: "far-bucket"})
		require.NoError(t, err)
		_, err = b.Upload(t.Context(), dataFile("k", "x"))
		require.ErrorIs(t, err, task.ErrWrongRegion)
		assert.ErrorContains(t, err, "us-west-2")
		assert.ErrorContains(t, err, "eu-central-1")
		require.ErrorIs(t, b.EnsureBucket(t.Context()), task.ErrWrongRegion)
	})
}

func TestPreflightOverTheWireFindsWhatIsMissing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		in := &task.PreflightInput{
			TemplateBody: walkthroughTemplate, RoleARN: w.role, ThingTypes: []string{"no-such-type"}, ThingGroups: []string{"no-such-group"},
			BillingGroups: []string{"no-such-billing-group"}, Policies: []string{"no-such-policy"},
		}
		list, err := w.backend.Preflight(t.Context(), in)
		require.NoError(t, err)
		got := map[finding.Rule]finding.Severity{}
		for _, f := range list {
			got[f.Rule] = f.Severity
		}
		assert.Equal(t, map[finding.Rule]finding.Severity{
			awsbackend.CheckTemplate: finding.OK, awsbackend.CheckEndpoint: finding.Warning, awsbackend.CheckTaskRunning: finding.OK,
			awsbackend.CheckBucket: finding.OK, awsbackend.CheckBucketRegion: finding.OK, awsbackend.CheckBucketPublic: finding.OK,
			awsbackend.CheckRole: finding.OK, awsbackend.CheckRoleTrust: finding.OK, awsbackend.CheckRoleRead: finding.OK,
			awsbackend.CheckRoleRegistration: finding.OK, awsbackend.CheckThingType: finding.Error, awsbackend.CheckThingGroup: finding.Error,
			awsbackend.CheckBillingGroup: finding.Error, awsbackend.CheckPolicy: finding.Error,
		}, got, "%+v", list)

		list, err = w.fake.Preflight(t.Context(), in)
		require.NoError(t, err)
		for _, f := range list {
			assert.Contains(t, got, f.Rule, "the fake in process has a check of another name")
		}
	})
}

func TestSetUpTwiceChangesNothingOverTheWire(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		require.NoError(t, w.backend.EnsureBucket(t.Context()))
		before := writes(w)
		again, err := w.backend.EnsureRole(t.Context(), &task.RoleInput{Name: "fleet-registration", SourceGuard: true})
		require.NoError(t, err)
		assert.Equal(t, w.role, again)
		assert.Equal(t, before, writes(w))
	})
}

// writes counts what changed buckets and roles so far.
func writes(w *world) int {
	n := 0
	for _, c := range w.handler.Calls() {
		switch c.Operation {
		case "CreateBucket", "PutPublicAccessBlock", "CreateRole", "UpdateAssumeRolePolicy", "PutRolePolicy", "AttachRolePolicy":
			n += c.Count
		}
	}
	return n
}

func TestALostStartStartsOneTaskOverTheWire(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		object, err := w.backend.Upload(t.Context(), dataFile("lost", "{\"ThingName\":\"d\",\"SerialNumber\":\"1\",\"CSR\":\"x\"}\n"))
		require.NoError(t, err)
		restore, err := w.Inject(tasktest.DropStartAfter)
		require.NoError(t, err)
		in := &task.StartInput{TemplateBody: walkthroughTemplate, InputFileBucket: object.Bucket, InputFileKey: object.Key, RoleARN: w.role}
		_, err = w.backend.StartTask(t.Context(), in)
		require.ErrorIs(t, err, task.ErrOutcomeUnknown)
		restore()
		var tasks []*task.Description
		for d := range w.fake.Tasks() {
			tasks = append(tasks, d)
		}
		require.Len(t, tasks, 1)
		assert.Equal(t, object.Key, tasks[0].InputFileKey, "by which the task is found again")
	})
}

// middleman forwards every request and puts an answer of its own in place of AWS's to those of one path.
type middleman struct {
	inner  aws.HTTPClient
	path   string
	answer http.Response
	sent   int
}

func (m *middleman) Do(r *http.Request) (*http.Response, error) {
	resp, err := m.inner.Do(r)
	if err != nil || r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, m.path) {
		return resp, err
	}
	m.sent++
	resp.Body.Close()
	forged := m.answer
	forged.Proto, forged.ProtoMajor, forged.ProtoMinor, forged.Request = "HTTP/1.1", 1, 1, r
	forged.Body, forged.ContentLength = io.NopCloser(strings.NewReader("<html>no</html>")), 15
	return &forged, nil
}

func TestAnAnswerInPlaceOfAWSsLeavesTheOutcomeUnknown(t *testing.T) {
	html, plain := http.Header{"Content-Type": {"text/html"}}, http.Header{"Content-Type": {"text/plain"}}
	for name, answer := range map[string]http.Response{
		"403 page":  {StatusCode: http.StatusForbidden, Header: html},
		"403 plain": {StatusCode: http.StatusForbidden, Header: plain},
		"400 page":  {StatusCode: http.StatusBadRequest, Header: html},
		"307":       {StatusCode: http.StatusTemporaryRedirect, Header: http.Header{"Location": {"https://login.example/"}}},
		"429 page":  {StatusCode: http.StatusTooManyRequests, Header: html},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				cfg := w.config
				between := &middleman{inner: cfg.HTTPClient, path: "/thing", answer: answer} // of tasks and of single things
				cfg.HTTPClient = between
				b, err := awsbackend.New(cfg, fleetBucket)
				require.NoError(t, err)
				row := fmt.Sprintf("{\"ThingName\":\"d\",\"SerialNumber\":\"1\",\"CSR\":%q}\n", deviceCSR())
				object, err := b.Upload(t.Context(), dataFile("replaced", row))
				require.NoError(t, err)

				_, err = b.StartTask(t.Context(), &task.StartInput{
					TemplateBody: walkthroughTemplate, InputFileBucket: object.Bucket, InputFileKey: object.Key, RoleARN: w.role})
				require.ErrorIs(t, err, task.ErrOutcomeUnknown)
				assert.False(t, task.Refused(err))
				started := 0
				for range w.fake.Tasks() {
					started++
				}
				assert.Equal(t, 1, started, "AWS did start it")

				_, err = b.RegisterThing(t.Context(), &task.RegisterInput{TemplateBody: walkthroughTemplate,
					Parameters: map[string]string{"ThingName": "single", "SerialNumber": "2", "CSR": deviceCSR()}})
				require.ErrorIs(t, err, task.ErrOutcomeUnknown)
				assert.False(t, task.Refused(err))
				device, err := b.ReadDevice(t.Context(), "single")
				require.NoError(t, err)
				assert.Len(t, device.Certificates, 1, "AWS did register it")
				assert.Equal(t, 2, between.sent, "each was sent once")
			})
		})
	}
}

// deviceCSR is a request for a new key.
func deviceCSR() string { return certtest.Request(certtest.Key(), pkix.Name{CommonName: "d"}) }

func TestManyBackendsShareOneServer(t *testing.T) {
	w := newWorld(t, fleetBucket, over((*fakeaws.Server).Start))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			b, err := awsbackend.New(w.config, fleetBucket)
			if !assert.NoError(t, err) {
				return
			}
			content := fmt.Sprintf("{\"ThingName\":\"d%d\"}\n", i)
			object, err := b.Upload(t.Context(), dataFile(fmt.Sprintf("part-%d", i), content))
			if assert.NoError(t, err) {
				assert.Equal(t, fmt.Sprintf("registration/part-%d", i), object.Key)
			}
			who, err := b.Identity(t.Context())
			if assert.NoError(t, err) {
				assert.True(t, who.Fake)
			}
		})
	}
	wg.Wait()
}

func TestReportsComeOverHTTPSFromAServerOnlyTheConfigKnows(t *testing.T) {
	w := newWorld(t, fleetBucket, over((*fakeaws.Server).StartTLS))
	run := registerOver(t, w, "tls", 4)
	assert.Len(t, run.results, 4, "links are opened with the config's HTTP client, which trusts the server")
	cfg := w.config
	cfg.HTTPClient = &http.Client{}
	stranger, err := awsbackend.New(cfg, awsbackend.Options{})
	require.NoError(t, err)
	page, err := w.backend.ListReports(t.Context(), run.task.ID(), task.ResultsReport, "")
	require.NoError(t, err)
	_, err = stranger.Open(t.Context(), page.Links[0], 0)
	require.ErrorIs(t, err, task.ErrNotService, "another client does not")
}

// finished is a task that has ended.
type finished struct {
	task        *task.Task
	description *task.Description
	results     []*task.Result
}

// registerOver registers devices prefix-0 to prefix-(n-1) from data file to results.
func registerOver(t *testing.T, w *world, prefix string, n int) *finished {
	t.Helper()
	ctx := t.Context()
	var file bytes.Buffer
	data := datafile.NewWriter(&file, "ThingName", "SerialNumber", "CSR")
	for i := range n {
		require.NoError(t, data.Write(fmt.Sprintf("%s-%d", prefix, i), fmt.Sprint(i), deviceCSR()))
	}
	require.NoError(t, data.Close())
	object, err := w.backend.Upload(ctx, dataFile(prefix+".json", file.String()))
	require.NoError(t, err)
	run := &finished{}
	run.task, err = task.Start(ctx, w.backend, &task.StartInput{
		TemplateBody: walkthroughTemplate, InputFileBucket: object.Bucket, InputFileKey: object.Key, RoleARN: w.role})
	require.NoError(t, err)
	run.description, err = run.task.Wait(ctx, &task.WaitOptions{MinDelay: 50 * time.Millisecond})
	require.NoError(t, err)
	for r, err := range run.task.Results(ctx) {
		require.NoError(t, err)
		run.results = append(run.results, r)
	}
	return run
}

func dataFile(key, content string) *task.UploadInput {
	return &task.UploadInput{Key: key, Body: strings.NewReader(content), Size: int64(len(content)), SHA256: sha256.Sum256([]byte(content))}
}

const walkthroughTemplate = `{
  "Parameters": {"ThingName": {"Type": "String"}, "SerialNumber": {"Type": "String"}, "CSR": {"Type": "String"}},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"},
      "AttributePayload": {"version": "v1", "serialNumber": {"Ref": "SerialNumber"}}}},
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"}},
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument":
      "{\"Version\": \"2012-10-17\",\"Statement\": [{\"Effect\": \"Allow\",\"Action\": [\"iot:Publish\"],\"Resource\": [\"*\"]}]}"}}
  }
}`

// The SDK corrects a clock that is off by what the first refusal shows, also where it was a HEAD request's. A wrong secret
// key is not blamed on the clock.
func TestAClockThatIsOffIsCorrected(t *testing.T) {
	fake, err := fakebackend.New(fakebackend.Options{NoBucket: true})
	require.NoError(t, err)
	for _, skew := range []time.Duration{40 * time.Minute, -40 * time.Minute} {
		h := fakeaws.NewHandler(fake, fakeaws.Options{Credentials: map[string]string{accessKey: secretKey}, ClockSkew: skew})
		b, err := awsbackend.New(h.Config(), awsbackend.Options{Bucket: "fleet-skewed"})
		require.NoError(t, err)
		require.NoError(t, b.EnsureBucket(t.Context()))

		wrong := h.Config()
		wrong.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: "another"}, nil
		})
		b, err = awsbackend.New(wrong, awsbackend.Options{Bucket: "fleet-new"})
		require.NoError(t, err)
		for _, call := range []func() error{
			func() error { return b.EnsureBucket(t.Context()) },
			func() error { _, err := b.Identity(t.Context()); return err },
		} {
			err := call()
			require.ErrorIs(t, err, task.ErrAccessDenied)
			assert.ErrorContains(t, err, "their secret access key is not the one of the access key id")
			assert.NotContains(t, err.Error(), "missing permission")
		}
	}
}
