package fakeaws_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
)

// inProcess makes clients that reach the account without a socket. Signatures are checked.
func inProcess(backend *fakebackend.Backend, change ...func(*aws.Config)) *clients {
	return clientsOf(fakeaws.NewHandler(backend, fakeaws.Options{Credentials: map[string]string{"AKIATEST": "secret"}}), change...)
}

func clientsOf(handler *fakeaws.Handler, change ...func(*aws.Config)) *clients {
	config := handler.Config()
	for _, f := range change {
		f(&config)
	}
	return &clients{iot: iot.NewFromConfig(config), s3: s3.NewFromConfig(config), iam: iam.NewFromConfig(config),
		sts: sts.NewFromConfig(config), config: config, http: config.HTTPClient.(*http.Client), url: *config.BaseEndpoint, handler: handler}
}

func oneAttempt(c *aws.Config) { c.RetryMaxAttempts = 1 }

// Inside a bubble a goroutine that outlives its request would be a deadlock, which fails the test.
func TestTheWalkthroughRunsInProcess(t *testing.T) {
	for _, region := range []string{"us-east-1", "eu-central-1"} {
		t.Run(region, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				walkthrough(t.Context(), t, inProcess(newBackend(t, fakebackend.Options{Region: region})))
			})
		})
	}
}

func TestAConfigOfNoOptionsTakesAnyAccessKey(t *testing.T) {
	config := fakeaws.Config(newBackend(t, fakebackend.Options{Region: "eu-west-1"}))
	assert.Equal(t, "eu-west-1", config.Region)
	config.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIAOTHER", SecretAccessKey: "other"}, nil
	})
	_, err := iot.NewFromConfig(config).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("d")})
	assert.NoError(t, err)
}

func TestSignaturesOfTheConfigAreChecked(t *testing.T) {
	c := inProcess(newBackend(t, fakebackend.Options{}), oneAttempt, func(c *aws.Config) {
		c.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "another"}, nil
		})
	})
	_, err := c.iot.ListThings(t.Context(), &iot.ListThingsInput{})
	assert.ErrorContains(t, err, "InvalidSignatureException")
}

func TestADroppedConnectionIsATransportErrorInProcess(t *testing.T) {
	for effect, made := range map[fakebackend.Effect]bool{fakebackend.DropBefore: false, fakebackend.DropAfter: true} {
		synctest.Test(t, func(t *testing.T) {
			backend := newBackend(t, fakebackend.Options{})
			c := inProcess(backend, oneAttempt)
			for _, operation := range []string{"CreateThing", "CreateRole", "PutObject"} {
				_, err := backend.AddFault(fakebackend.Fault{Operation: operation, Do: effect})
				require.NoError(t, err)
			}
			var connected, wrote bool
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn:      func(httptrace.GotConnInfo) { connected = true },
				WroteRequest: func(i httptrace.WroteRequestInfo) { wrote = i.Err == nil },
			})
			_, err := c.iot.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("d")})
			sent, ok := assertAs[*smithyhttp.RequestSendError](t, err)
			assert.True(t, ok && sent.ConnectionError())
			assert.True(t, connected, "the trace tells that the request may have arrived")
			assert.True(t, wrote)
			_, exists := backend.Thing("d")
			assert.Equal(t, made, exists, effect)

			_, err = c.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("r"), AssumeRolePolicyDocument: aws.String(trust)})
			assertAs[*smithyhttp.RequestSendError](t, err)
			_, err = c.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("iotfleet-fake"), Key: aws.String("k"), Body: strings.NewReader("body")})
			assertAs[*smithyhttp.RequestSendError](t, err)
			_, err = c.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("iotfleet-fake"), Key: aws.String("k")})
			assert.Equal(t, made, err == nil, effect)
		})
	}
}

func TestARequestThatIsCancelledEndsInProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := newBackend(t, fakebackend.Options{})
		c := inProcess(backend)
		_, err := backend.AddFault(fakebackend.Fault{Operation: "ListThings", Do: fakebackend.Hang})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = c.iot.ListThings(ctx, &iot.ListThingsInput{})
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		before, cancelled := context.WithCancel(t.Context())
		cancelled()
		_, err = c.iot.ListThings(before, &iot.ListThingsInput{})
		assert.ErrorIs(t, err, context.Canceled)
	})
}

// aReport registers one device and returns the link of its report.
func aReport(t *testing.T, c *clients) string {
	t.Helper()
	c.setUp(t.Context(), t)
	line, _ := newLine(t, "device")
	c.upload(t.Context(), t, "k", line)
	id, err := c.start(t.Context(), "k")
	require.NoError(t, err)
	links := c.reports(t.Context(), t, id, iottypes.ReportTypeResults)
	require.Len(t, links, 1)
	return links[0]
}

func TestAReportThatEndsTooSoonEndsSoInProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := newBackend(t, fakebackend.Options{})
		c := inProcess(backend)
		link := aReport(t, c)
		_, err := backend.AddFault(fakebackend.Fault{Operation: "GetObject", Do: fakebackend.Truncate, Bytes: 100})
		require.NoError(t, err)
		answer, err := c.http.Get(link)
		require.NoError(t, err, "the headers arrive")
		assert.Greater(t, answer.ContentLength, int64(100))
		raw, err := io.ReadAll(answer.Body)
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Len(t, raw, 100)
		require.NoError(t, answer.Body.Close())

		answer, err = c.http.Get(link)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close(), "closing it unread releases the handler")
	})
}

func TestClientsAreAcceptedWhereverTheClockOfTheAccountIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := newBackend(t, fakebackend.Options{})
		c := inProcess(backend, oneAttempt)
		link := aReport(t, c)
		for _, move := range []func(){
			func() { backend.Advance(25 * time.Hour) },
			func() { backend.SetTime(time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)) },
			func() { backend.SetTime(time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)) },
		} {
			move()
			for range 2 { // a client that believed the clock is another's would sign the second request for it
				_, err := c.iot.ListThings(t.Context(), &iot.ListThingsInput{})
				require.NoError(t, err)
				_, err = c.s3.ListBuckets(t.Context(), &s3.ListBucketsInput{})
				require.NoError(t, err)
			}
			answer, err := c.http.Get(link)
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
			assert.Equal(t, http.StatusForbidden, answer.StatusCode, "links are good by the account's clock")
		}
	})
}

func TestTheWaitsOfARetryGoByTheClockOfTheAccount(t *testing.T) {
	frozen := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	throttled := func(t *testing.T, stop bool) (machine, account time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			backend := newBackend(t, fakebackend.Options{})
			if stop {
				backend.SetTime(frozen)
			}
			_, err := backend.AddFault(fakebackend.Fault{Operation: "ListThings", Do: fakebackend.Throttle, Times: 2})
			require.NoError(t, err)
			start, before := time.Now(), backend.Now()
			_, err = inProcess(backend).iot.ListThings(t.Context(), &iot.ListThingsInput{})
			require.NoError(t, err, "the third attempt succeeds")
			machine, account = time.Since(start), backend.Now().Sub(before)
		})
		return machine, account
	}
	machine, account := throttled(t, true)
	assert.Zero(t, machine, "a stopped clock is not waited for")
	assert.Equal(t, 3*time.Second, account, "it is moved by 1 s and by 2 s")
	machine, account = throttled(t, false)
	assert.Positive(t, machine)
	assert.Equal(t, machine, account, "a clock that runs passes the time itself")
}
