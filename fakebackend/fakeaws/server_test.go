package fakeaws_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
)

// clients are the AWS SDK's clients of one fake.
type clients struct {
	iot    *iot.Client
	s3     *s3.Client
	iam    *iam.Client
	sts    *sts.Client
	config aws.Config

	http    *http.Client // reaches the fake
	url     string       // of the fake
	handler *fakeaws.Handler
	server  *fakeaws.Server // nil in process
}

// assertAs asserts that an error of a type is in err's chain.
func assertAs[E error](t testing.TB, err error) (E, bool) {
	t.Helper()
	e, ok := errors.AsType[E](err)
	assert.True(t, ok, "%v is no %T", err, e)
	return e, ok
}

func newBackend(t testing.TB, opts fakebackend.Options) *fakebackend.Backend {
	t.Helper()
	b, err := fakebackend.New(opts)
	require.NoError(t, err)
	return b
}

// connect makes clients of a started server. They make one attempt: the SDK's own retries would hide what the fake
// does.
func connect(server *fakeaws.Server) *clients {
	config := aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), HTTPClient: server.Client(), RetryMaxAttempts: 1,
		Credentials:                credentials.NewStaticCredentialsProvider("AKIATEST", "secret", ""),
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}
	return &clients{iot: iot.NewFromConfig(config), s3: s3.NewFromConfig(config), iam: iam.NewFromConfig(config),
		sts: sts.NewFromConfig(config), config: config, http: server.Client(), url: server.URL, handler: server.Handler, server: server}
}

func serve(t testing.TB, backend fakebackend.Options, opts fakeaws.Options) *clients {
	t.Helper()
	server, err := fakeaws.NewServer(newBackend(t, backend), opts)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return connect(server)
}

const (
	trust      = `{"Version":"2012-10-17","Statement":[{"Sid":"","Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	readFleet  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::fleet/*"]}]}`
	registrar  = "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"
	taskRole   = "arn:aws:iam::123456789012:role/registration"
	fleetRules = `{"Parameters":{"ThingName":{"Type":"String"},"SerialNumber":{"Type":"String"},"CSR":{"Type":"String"}},"Resources":{` +
		`"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"AttributePayload":{"version":"v1","serialNumber":{"Ref":"SerialNumber"}}}},` +
		`"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"ACTIVE"}},` +
		`"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":"{\"Version\": \"2012-10-17\",\"Statement\": [{\"Effect\": \"Allow\",\"Action\": [\"iot:Publish\"],\"Resource\": [\"*\"]}]}"}}}}`
)

// newLine is a line of a data file with a key and a request of its own.
func newLine(t testing.TB, name string) (line string, key *ecdsa.PrivateKey) {
	t.Helper()
	key = certtest.Key()
	out, err := json.Marshal(map[string]string{"ThingName": name, "SerialNumber": "1", "CSR": certtest.Request(key, pkix.Name{CommonName: name})})
	require.NoError(t, err)
	return string(out) + "\n", key
}

// setUp makes the walkthrough's bucket and role.
func (c *clients) setUp(ctx context.Context, t testing.TB) {
	t.Helper()
	in := &s3.CreateBucketInput{Bucket: aws.String("fleet")}
	if c.config.Region != "us-east-1" {
		in.CreateBucketConfiguration = &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(c.config.Region)}
	}
	_, err := c.s3.CreateBucket(ctx, in)
	require.NoError(t, err)
	_, err = c.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("registration"), AssumeRolePolicyDocument: aws.String(trust)})
	require.NoError(t, err)
	_, err = c.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String("registration"), PolicyName: aws.String("read"), PolicyDocument: aws.String(readFleet)})
	require.NoError(t, err)
	_, err = c.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: aws.String("registration"), PolicyArn: aws.String(registrar)})
	require.NoError(t, err)
}

func (c *clients) upload(ctx context.Context, t testing.TB, key, body string) {
	t.Helper()
	_, err := c.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("fleet"), Key: aws.String(key), Body: strings.NewReader(body)})
	require.NoError(t, err)
}

func (c *clients) start(ctx context.Context, key string) (string, error) {
	out, err := c.iot.StartThingRegistrationTask(ctx, &iot.StartThingRegistrationTaskInput{
		TemplateBody: aws.String(fleetRules), InputFileBucket: aws.String("fleet"), InputFileKey: aws.String(key), RoleArn: aws.String(taskRole),
	})
	if err != nil {
		return "", err
	}
	return *out.TaskId, nil
}

// reports lists the links of a task's report.
func (c *clients) reports(ctx context.Context, t testing.TB, id string, kind iottypes.ReportType) []string {
	t.Helper()
	var links []string
	pages := iot.NewListThingRegistrationTaskReportsPaginator(c.iot, &iot.ListThingRegistrationTaskReportsInput{TaskId: &id, ReportType: kind})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		links = append(links, page.ResourceLinks...)
	}
	return links
}

// walkthrough does AWS's walkthrough through the SDK, from nothing to certificates that verify.
func walkthrough(ctx context.Context, t *testing.T, c *clients) {
	c.setUp(ctx, t)
	var file strings.Builder
	keys := map[string]*ecdsa.PrivateKey{}
	for _, name := range []string{"device-one", "device-two", "device-three"} {
		line, key := newLine(t, name)
		file.WriteString(line)
		keys[name] = key
	}
	c.upload(ctx, t, "bulk-provisioning-data.json", file.String())
	id, err := c.start(ctx, "bulk-provisioning-data.json")
	require.NoError(t, err)
	list, err := c.iot.ListThingRegistrationTasks(ctx, &iot.ListThingRegistrationTasksInput{})
	require.NoError(t, err)
	assert.Equal(t, []string{id}, list.TaskIds)
	about, err := c.iot.DescribeThingRegistrationTask(ctx, &iot.DescribeThingRegistrationTaskInput{TaskId: &id})
	require.NoError(t, err)
	require.Equal(t, iottypes.StatusCompleted, about.Status)
	assert.EqualValues(t, 3, about.SuccessCount)
	assert.Zero(t, about.FailureCount)
	assert.EqualValues(t, 100, about.PercentageProgress)
	assert.Equal(t, fleetRules, *about.TemplateBody)
	assert.False(t, about.CreationDate.IsZero())

	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(get(t, c, c.url+"/_fake/ca.pem")))
	links := c.reports(ctx, t, id, iottypes.ReportTypeResults)
	require.NotEmpty(t, links)
	for _, link := range links {
		assert.True(t, strings.HasPrefix(link, c.url+"/"), "the link leads to the server that gave it")
		for line := range strings.Lines(string(get(t, c, link))) {
			var result struct {
				Response struct {
					CertificatePem string
					ResourceArns   map[string]string
				}
			}
			require.NoError(t, json.Unmarshal([]byte(line), &result))
			block, _ := pem.Decode([]byte(result.Response.CertificatePem))
			cert, err := x509.ParseCertificate(block.Bytes)
			require.NoError(t, err)
			assert.True(t, keys[cert.Subject.CommonName].PublicKey.Equal(cert.PublicKey))
			delete(keys, cert.Subject.CommonName)
			_, err = cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: *about.CreationDate, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			assert.NoError(t, err)
		}
	}
	assert.Empty(t, keys, "every device has its certificate")
	assert.Empty(t, c.reports(ctx, t, id, iottypes.ReportTypeErrors))

	principals, err := c.iot.ListThingPrincipals(ctx, &iot.ListThingPrincipalsInput{ThingName: aws.String("device-two")})
	require.NoError(t, err)
	require.Len(t, principals.Principals, 1)
	policies, err := c.iot.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: &principals.Principals[0]})
	require.NoError(t, err, "an ARN with a slash is one segment of the path")
	assert.Len(t, policies.Policies, 1)
	who, err := c.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	require.NoError(t, err)
	assert.Equal(t, "123456789012", *who.Account)
}

func get(t testing.TB, c *clients, url string) []byte {
	t.Helper()
	answer, err := c.http.Get(url)
	require.NoError(t, err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode, "%s", raw)
	return raw
}

func TestTheWalkthroughRunsThroughTheSDKOverHTTP(t *testing.T) {
	walkthrough(t.Context(), t, serve(t, fakebackend.Options{}, fakeaws.Options{}))
}

func TestTheWalkthroughRunsThroughTheSDKWithSignaturesChecked(t *testing.T) {
	walkthrough(t.Context(), t, serve(t, fakebackend.Options{}, fakeaws.Options{Credentials: map[string]string{"AKIATEST": "secret"}}))
}

func TestTheWalkthroughRunsThroughTheSDKOverHTTPS(t *testing.T) {
	for _, opts := range []fakeaws.Options{{}, {Credentials: map[string]string{"AKIATEST": "secret"}}} {
		server := fakeaws.NewUnstartedServer(newBackend(t, fakebackend.Options{}), opts)
		require.NoError(t, server.StartTLS())
		t.Cleanup(server.Close)
		assert.True(t, strings.HasPrefix(server.URL, "https://"))
		walkthrough(t.Context(), t, connect(server))
	}
}

func TestATaskTakesItsTimeInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inProcess(newBackend(t, fakebackend.Options{Rate: 2}), oneAttempt)
		c.setUp(t.Context(), t)
		var file strings.Builder
		for i := range 10 {
			line, _ := newLine(t, fmt.Sprintf("device-%d", i))
			file.WriteString(line)
		}
		c.upload(t.Context(), t, "k", file.String())
		id, err := c.start(t.Context(), "k")
		require.NoError(t, err)
		describe := func() *iot.DescribeThingRegistrationTaskOutput {
			out, err := c.iot.DescribeThingRegistrationTask(t.Context(), &iot.DescribeThingRegistrationTaskInput{TaskId: &id})
			require.NoError(t, err)
			return out
		}
		time.Sleep(2100 * time.Millisecond)
		half := describe()
		assert.Equal(t, iottypes.StatusInProgress, half.Status)
		assert.EqualValues(t, 4, half.SuccessCount)
		_, err = c.start(t.Context(), "k")
		assert.ErrorContains(t, err, "InvalidRequestException", "one task at a time")
		time.Sleep(3 * time.Second)
		assert.Equal(t, iottypes.StatusCompleted, describe().Status)

		link := c.reports(t.Context(), t, id, iottypes.ReportTypeResults)[0]
		time.Sleep(24*time.Hour + time.Second)
		answer, err := c.http.Get(link)
		require.NoError(t, err)
		defer answer.Body.Close()
		raw, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		assert.Equal(t, http.StatusForbidden, answer.StatusCode)
		assert.Contains(t, string(raw), "<Code>AccessDenied</Code><Message>Request has expired</Message>")
	})
}

func TestCloseEndsHungRequestsAndWaitsForTheirHandlers(t *testing.T) {
	for operation, call := range map[string]func(context.Context, *clients) error{
		"ListThings": func(ctx context.Context, c *clients) error {
			_, err := c.iot.ListThings(ctx, &iot.ListThingsInput{})
			return err
		},
		"PutObject": func(ctx context.Context, c *clients) error { // hangs before its body is read
			_, err := c.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("iotfleet-fake"), Key: aws.String("k"), Body: strings.NewReader("body")})
			return err
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			backend := newBackend(t, fakebackend.Options{})
			var log strings.Builder
			server := fakeaws.NewUnstartedServer(backend, fakeaws.Options{Logger: newLogger(&log)})
			pipe := newPipeListener()
			server.Listener = pipe
			require.NoError(t, server.Start())
			server.Client().Transport = &http.Transport{DialContext: pipe.dial}
			c := connect(server)
			_, err := backend.AddFault(fakebackend.Fault{Operation: operation, Do: fakebackend.Hang})
			require.NoError(t, err)
			done := make(chan error, 1)
			go func() { done <- call(t.Context(), c) }()
			synctest.Wait()
			assert.Empty(t, log.String())
			server.Close()
			assert.Contains(t, log.String(), "operation="+operation, "the handler has returned")
			assert.Error(t, <-done)
			server.Close()
			_, err = server.Client().Get(server.URL)
			assert.Error(t, err, "a closed server accepts nothing")
		})
	}
}

func TestAServerThatIsNotStartedCanBeClosed(t *testing.T) {
	server := fakeaws.NewUnstartedServer(newBackend(t, fakebackend.Options{}), fakeaws.Options{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server.Listener = listener
	server.Close()
	_, err = listener.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestAServerStartsOnce(t *testing.T) {
	server, err := fakeaws.NewServer(newBackend(t, fakebackend.Options{}), fakeaws.Options{})
	require.NoError(t, err)
	defer server.Close()
	assert.ErrorContains(t, server.Start(), "started already")
}

func TestAServerThatListensEverywhereNamesAnAddressThatClientsTake(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0"} {
		for name, start := range map[string]func(*fakeaws.Server) error{"http": (*fakeaws.Server).Start, "https": (*fakeaws.Server).StartTLS} {
			listener, err := net.Listen("tcp", address)
			require.NoError(t, err)
			server := fakeaws.NewUnstartedServer(newBackend(t, fakebackend.Options{}), fakeaws.Options{})
			server.Listener = listener
			require.NoError(t, start(server))
			defer server.Close()
			_, port, err := net.SplitHostPort(listener.Addr().String())
			require.NoError(t, err)
			assert.Equal(t, name+"://127.0.0.1:"+port, server.URL, address)
			answer, err := server.Client().Get(server.URL + "/_fake/ca.pem")
			require.NoError(t, err)
			answer.Body.Close()
			assert.Equal(t, http.StatusOK, answer.StatusCode)
		}
	}
}
