package awsbackend

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	startOp = "StartThingRegistrationTask"
	listOp  = "ListThingRegistrationTasks"
)

var (
	startInput = &task.StartInput{TemplateBody: `{}`, InputFileBucket: "fleet-bucket", InputFileKey: "in/part-1.json",
		RoleARN: "arn:aws:iam::123456789012:role/fleet-registration"}
	registerInput = &task.RegisterInput{TemplateBody: `{}`, Parameters: map[string]string{"ThingName": "d1"}}
	noneRunning   = reply(200, `{"taskIds":[]}`)
)

func TestStartTaskSendsItsInputAndReturnsTheTaskID(t *testing.T) {
	b, w := onWire(t, answers{startOp: reply(200, `{"taskId":"5d111206-093c-4ab3-1234-b2f14b0c208d"}`)})
	id, err := b.StartTask(t.Context(), startInput)
	require.NoError(t, err)
	assert.Equal(t, task.ID("5d111206-093c-4ab3-1234-b2f14b0c208d"), id)
	assert.JSONEq(t, `{"templateBody":"{}","inputFileBucket":"fleet-bucket","inputFileKey":"in/part-1.json",
		"roleArn":"arn:aws:iam::123456789012:role/fleet-registration"}`, w.last(startOp).body)
}

func TestALostAnswerIsSentOnceAndItsOutcomeIsUnknown(t *testing.T) {
	for name, answer := range map[string]func(*request) *http.Response{
		"connection breaks":           func(*request) *http.Response { return nil },
		"internal failure":            exception(500, "InternalFailureException", "oops"),
		"service unavailable":         exception(503, "ServiceUnavailableException", "later"),
		"a client's code, status 500": exception(500, "ConflictException", "oops"),
		"a proxy's bad gateway":       reply(502, "<html>bad gateway</html>", "Content-Type", "text/html"),
		"a proxy's gateway timeout":   reply(504, ""),
		"a proxy lost patience":       reply(408, ""),
		"a proxy lost its client":     reply(499, ""),
		"success that is no JSON":     reply(200, `{"taskId":`),
		"a proxy's 403 page":          reply(403, "<html>Forbidden</html>", "Content-Type", "text/html"),
		"a proxy's 403":               reply(403, "Forbidden", "Content-Type", "text/plain"),
		"a proxy's 400 page":          reply(400, "<html>Bad Request</html>", "Content-Type", "text/html"),
		"a proxy's 404":               reply(404, ""),
		"a proxy's redirect":          reply(307, "", "Location", "https://login.example/"),
		"a proxy's throttle":          reply(429, "<html>slow down</html>", "Content-Type", "text/html"),
		"a throttle without an id":    reply(429, `{"message":"slow"}`, "X-Amzn-ErrorType", "ThrottlingException:"),
		"a refusal without an id":     reply(400, `{"message":"no"}`, "X-Amzn-ErrorType", "InvalidRequestException:"),
		"a refusal without a code":    reply(403, `{"message":"no"}`, "X-Amzn-RequestId", "req-1"),
		"a login page":                reply(200, `{"taskId":"1"}`, "Content-Type", "text/html"),
	} {
		t.Run(name, func(t *testing.T) {
			b, w := onWire(t, answers{startOp: answer, "RegisterThing": answer, "GetCallerIdentity": knownCaller})
			_, err := b.StartTask(t.Context(), startInput)
			require.ErrorIs(t, err, task.ErrOutcomeUnknown)
			require.NotErrorIs(t, err, task.ErrThrottled, "which means that nothing was done")
			assert.False(t, task.Refused(err))
			assert.Equal(t, 1, w.count(startOp), "sent once")

			_, err = b.RegisterThing(t.Context(), registerInput)
			require.ErrorIs(t, err, task.ErrOutcomeUnknown)
			require.NotErrorIs(t, err, task.ErrThrottled)
			assert.Equal(t, 1, w.count("RegisterThing"), "sent once")
		})
	}
}

func TestASuccessWithoutATaskIDHasAnUnknownOutcome(t *testing.T) {
	b, _ := onWire(t, answers{startOp: reply(200, `{}`)})
	_, err := b.StartTask(t.Context(), startInput)
	require.ErrorIs(t, err, task.ErrOutcomeUnknown)
}

func TestRetriesOfTheConfigDoNotRepeatAStart(t *testing.T) {
	stubborn := func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = 9
			o.Retryables = []retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(error) aws.Ternary { return aws.TrueTernary })}
		})
	}
	for name, change := range map[string]func(*aws.Config){
		"many attempts":    func(c *aws.Config) { c.RetryMaxAttempts = 9 },
		"adaptive":         func(c *aws.Config) { c.RetryMaxAttempts, c.RetryMode = 9, aws.RetryModeAdaptive },
		"a custom retryer": func(c *aws.Config) { c.RetryMaxAttempts, c.Retryer = 9, stubborn },
	} {
		broken := func(*request) *http.Response { return nil }
		for what, answer := range map[string]func(*request) *http.Response{"500": exception(500, "InternalFailureException", "oops"), "dropped": broken} {
			w := &wire{t: t, answers: answers{startOp: answer, "RegisterThing": answer}}
			cfg := testConfig(w)
			change(&cfg)
			b, err := New(cfg, Options{Bucket: "fleet-bucket"})
			require.NoError(t, err)
			_, err = b.StartTask(t.Context(), startInput)
			require.ErrorIs(t, err, task.ErrOutcomeUnknown, "%s, %s", name, what)
			_, err = b.RegisterThing(t.Context(), registerInput)
			require.ErrorIs(t, err, task.ErrOutcomeUnknown, "%s, %s", name, what)
			assert.Equal(t, []string{startOp, "RegisterThing"}, w.ops(), "%s, %s", name, what)
		}
	}
}

func TestADefiniteRefusalIsRefusedAndSentOnce(t *testing.T) {
	for _, c := range []struct {
		code   string
		status int
		kind   error
	}{
		{"InvalidRequestException", 400, task.ErrInvalidRequest},
		{"UnauthorizedException", 401, task.ErrAccessDenied},
		{"LimitExceededException", 410, task.ErrLimitExceeded},
		{"ExpiredTokenException", 403, task.ErrAccessDenied},
	} {
		t.Run(c.code, func(t *testing.T) {
			b, w := onWire(t, answers{startOp: exception(c.status, c.code, "no"), listOp: noneRunning, "GetCallerIdentity": knownCaller})
			_, err := b.StartTask(t.Context(), startInput)
			require.ErrorIs(t, err, c.kind)
			assert.True(t, task.Refused(err), "%v", err)
			assert.NotErrorIs(t, err, task.ErrOutcomeUnknown)
			assert.Equal(t, 1, w.count(startOp))
			e, ok := errors.AsType[*task.Error](err)
			require.True(t, ok)
			assert.Equal(t, []any{startOp, c.code, "no", c.status, "req-1"}, []any{e.Op, e.Code, e.Message, e.Status, e.RequestID})
		})
	}
}

func TestAThrottledStartIsSentAgainUntilItPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := onWire(t, answers{startOp: inTurn(exception(400, "ThrottlingException", "Rate exceeded"),
			exception(429, "TooManyRequestsException", "slow"), reply(200, `{"taskId":"id-1"}`))})
		begin := time.Now()
		id, err := b.StartTask(t.Context(), startInput)
		require.NoError(t, err)
		assert.Equal(t, task.ID("id-1"), id)
		assert.Equal(t, 3, w.count(startOp))
		assert.InDelta(t, 3, time.Since(begin).Seconds(), 0.31, "1 s and 2 s, a tenth more or less")
	})
}

func TestAThrottleIsGivenUpAfterFiveTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := onWire(t, answers{"RegisterThing": exception(400, "ThrottlingException", "Rate exceeded")})
		begin := time.Now()
		_, err := b.RegisterThing(t.Context(), registerInput)
		require.ErrorIs(t, err, task.ErrThrottled)
		assert.True(t, task.Refused(err), "nothing was done")
		assert.Equal(t, 5, w.count("RegisterThing"))
		assert.InDelta(t, 15, time.Since(begin).Seconds(), 1.6)
	})
}

func TestTheContextEndsTheWaitAfterAThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := onWire(t, answers{startOp: exception(400, "ThrottlingException", "Rate exceeded")})
		cause := errors.New("shift is over")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, cause)
		defer cancel()
		_, err := b.StartTask(ctx, startInput)
		require.ErrorIs(t, err, cause)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.NotErrorIs(t, err, task.ErrOutcomeUnknown, "every attempt was answered")
		assert.Equal(t, 2, w.count(startOp))
	})
}

func TestAContextThatEndsAfterSendingLeavesTheOutcomeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("operator gave up")
		ctx, cancel := context.WithCancelCause(t.Context())
		transport := roundTrip(func(r *http.Request) (*http.Response, error) {
			time.AfterFunc(time.Second, func() { cancel(cause) })
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		b, err := New(testConfig(transport), Options{})
		require.NoError(t, err)
		_, err = b.StartTask(ctx, startInput)
		require.ErrorIs(t, err, task.ErrOutcomeUnknown)
		require.ErrorIs(t, err, cause)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestWhatAWSSaidToAnotherRequestIsNotItsAnswerToThisOne(t *testing.T) {
	for name, code := range map[string]string{"a refusal": "AccessDenied", "a throttle": "SlowDown"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				other, _ := onWire(t, answers{"PutObject": xmlError(403, code, "no"), "HeadBucket": bucketHere, "GetCallerIdentity": knownCaller})
				_, why := other.Upload(t.Context(), uploadOf("k", "x"))
				_, ok := errors.AsType[smithy.APIError](why)
				require.True(t, ok, "%v", why)

				ctx, cancel := context.WithCancelCause(t.Context())
				sent := 0
				b, err := New(testConfig(roundTrip(func(r *http.Request) (*http.Response, error) {
					sent++
					cancel(why)
					<-r.Context().Done()
					return nil, context.Cause(r.Context()) // as net/http does
				})), Options{})
				require.NoError(t, err)
				_, err = b.StartTask(ctx, startInput)
				require.ErrorIs(t, err, task.ErrOutcomeUnknown)
				require.ErrorIs(t, err, why)
				assert.False(t, task.Refused(err))
				assert.Equal(t, 1, sent)
			})
		})
	}
}

func TestAContextThatIsDoneSendsNothing(t *testing.T) {
	b, w := onWire(t, nil)
	cause := errors.New("stopped before")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	_, err := b.StartTask(ctx, startInput)
	require.ErrorIs(t, err, cause)
	assert.NotErrorIs(t, err, task.ErrOutcomeUnknown)
	assert.Empty(t, w.ops())
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// overNetwork is a backend on a real connection to a server.
func overNetwork(t *testing.T, endpoint string, client *http.Client) *Backend {
	cfg := testConfig(nil)
	cfg.HTTPClient = client
	cfg.BaseEndpoint = aws.String(endpoint)
	b, err := New(cfg, Options{Bucket: "fleet-bucket"})
	require.NoError(t, err)
	return b
}

func TestAConnectionThatNeverCameAboutMeansNothingWasSent(t *testing.T) {
	// Nothing listens on port 1. A port that was free a moment ago may be another program's by now.
	b := overNetwork(t, "http://127.0.0.1:1", &http.Client{})
	_, err := b.StartTask(t.Context(), startInput)
	require.ErrorIs(t, err, task.ErrUnavailable)
	assert.NotErrorIs(t, err, task.ErrOutcomeUnknown)
	assert.ErrorContains(t, err, "nothing was sent")

	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	server.Config.ErrorLog = discardLog
	b = overNetwork(t, server.URL, &http.Client{}) // which does not know the server's authority
	_, err = b.StartTask(t.Context(), startInput)
	require.Error(t, err)
	assert.NotErrorIs(t, err, task.ErrOutcomeUnknown, "the handshake failed before any request")
}

func TestAConnectionThatDropsAfterTheEffectGetsOneRequest(t *testing.T) {
	var started atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet { // warms the connection up, so that Start meets a used one
			w.Write([]byte(`{"taskId":"x","status":"InProgress"}`))
			return
		}
		started.Add(1)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}))
	defer server.Close()
	b := overNetwork(t, server.URL, server.Client())
	_, err := b.DescribeTask(t.Context(), "x")
	require.NoError(t, err)
	_, err = b.StartTask(t.Context(), startInput)
	require.ErrorIs(t, err, task.ErrOutcomeUnknown)
	assert.Equal(t, int32(1), started.Load())
}

func TestASlowAnswerPastTheDeadlineHasAnUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := slowServer(t)
		defer stop()
		b := overNetwork(t, "http://fake.test", client)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := b.StartTask(ctx, startInput)
		require.ErrorIs(t, err, task.ErrOutcomeUnknown)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// slowServer reads requests and answers none, over pipes that a synctest bubble can follow.
func slowServer(t *testing.T) (*http.Client, func()) {
	t.Helper()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			r := bufio.NewReader(far)
			if _, err := http.ReadRequest(r); err != nil {
				t.Errorf("read the request: %v", err)
			}
			for { // until the client hangs up
				if _, err := r.ReadByte(); err != nil {
					return
				}
			}
		}()
		return near, nil
	}}
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

// httpClient is an HTTP client of another make than net/http, which reports nothing of its connections.
type httpClient func(*http.Request) (*http.Response, error)

func (f httpClient) Do(r *http.Request) (*http.Response, error) { return f(r) }

func TestAClientThatDoesNotReportItsConnectionsLeavesTheOutcomeUnknown(t *testing.T) {
	cfg := testConfig(nil)
	cfg.HTTPClient = httpClient(func(*http.Request) (*http.Response, error) { return nil, errors.New("broken") })
	b, err := New(cfg, Options{})
	require.NoError(t, err)
	_, err = b.StartTask(t.Context(), startInput)
	require.ErrorIs(t, err, task.ErrOutcomeUnknown)
}

func TestAnErrorOfTheTransportIsNoRefusalWhateverItsForm(t *testing.T) {
	cfg := testConfig(nil)
	cfg.HTTPClient = httpClient(func(*http.Request) (*http.Response, error) {
		return nil, &smithy.GenericAPIError{Code: "AccessDenied", Message: "said to another request"}
	})
	b, err := New(cfg, Options{})
	require.NoError(t, err)
	_, err = b.StartTask(t.Context(), startInput)
	require.ErrorIs(t, err, task.ErrOutcomeUnknown)
	assert.False(t, task.Refused(err))
}

func TestThrottledCredentialsAreAskedForAgainAndTheRequestIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{t: t, answers: answers{startOp: reply(200, `{"taskId":"id-1"}`)}}
		cfg := testConfig(w)
		inner, asked := cfg.Credentials, 0
		cfg.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			if asked++; asked == 1 {
				return aws.Credentials{}, &smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole",
					Err: &smithy.GenericAPIError{Code: "Throttling", Message: "Rate exceeded"}}
			}
			return inner.Retrieve(ctx)
		})
		b, err := New(cfg, Options{})
		require.NoError(t, err)
		id, err := b.StartTask(t.Context(), startInput)
		require.NoError(t, err)
		assert.Equal(t, task.ID("id-1"), id)
		assert.Equal(t, []string{startOp}, w.ops())
	})
}
