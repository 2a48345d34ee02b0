package awsbackend

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"
)

// wire stands in for the network: it answers each operation by name, keeps what was sent, and works in a synctest
// bubble. The SDK above it is the real one.
type wire struct {
	t       testing.TB
	mu      sync.Mutex
	answers map[string]func(*request) *http.Response // nil: the connection breaks
	sent    []*request
}

type request struct {
	*http.Request
	op   string
	body string
	nth  int // of this operation, from 1
}

// reply is an answer with header lines given as pairs. A success without any has AWS's request id.
func reply(status int, body string, header ...string) func(*request) *http.Response {
	if status == 200 && header == nil {
		header = []string{"X-Amzn-RequestId", "req-1"}
	}
	return func(*request) *http.Response { return response(status, body, header...) }
}

func response(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// exception is a refusal of AWS IoT.
func exception(status int, code, message string) func(*request) *http.Response {
	return reply(status, fmt.Sprintf(`{"message":%q,"traceId":"t"}`, message),
		"X-Amzn-ErrorType", code+":", "X-Amzn-RequestId", "req-1", "Content-Type", "application/json")
}

// xmlError is a refusal of S3.
func xmlError(status int, code, message string, header ...string) func(*request) *http.Response {
	return reply(status, fmt.Sprintf(`<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message><RequestId>req-2</RequestId></Error>`, code, message),
		append([]string{"X-Amz-Request-Id", "req-2"}, header...)...)
}

// head is S3's answer to a HEAD request: without a body.
func head(status int, header ...string) func(*request) *http.Response {
	return reply(status, "", append([]string{"X-Amz-Request-Id", "req-4"}, header...)...)
}

// queryError is a refusal of IAM or STS.
func queryError(status int, code, message string) func(*request) *http.Response {
	return reply(status, fmt.Sprintf(`<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>req-3</RequestId></ErrorResponse>`, code, message))
}

// query is an answer of IAM or STS.
func query(op, result string) func(*request) *http.Response {
	return reply(200, fmt.Sprintf(`<%[1]sResponse><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>`, op, result))
}

// inTurn gives one answer after the other, and the last for ever.
func inTurn(answers ...func(*request) *http.Response) func(*request) *http.Response {
	return func(r *request) *http.Response { return answers[min(r.nth, len(answers))-1](r) }
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	req := &request{Request: r, op: r.Header.Get("X-Test-Operation")}
	if req.op == "" {
		req.op = "GET"
	}
	if r.Body != nil {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		req.body = string(data)
	}
	w.mu.Lock()
	w.sent = append(w.sent, req)
	for _, s := range w.sent {
		if s.op == req.op {
			req.nth++
		}
	}
	answer := w.answers[req.op]
	w.mu.Unlock()
	if r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	if answer == nil {
		w.t.Errorf("%s was sent, which this test does not expect: %s %s", req.op, r.Method, r.URL.Path)
		return nil, fmt.Errorf("unexpected %s", req.op)
	}
	resp := answer(req)
	if resp == nil {
		return nil, io.ErrUnexpectedEOF
	}
	resp.Request = r
	return resp, nil
}

// ops are the operations sent so far, in order.
func (w *wire) ops() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ops []string
	for _, r := range w.sent {
		ops = append(ops, r.op)
	}
	return ops
}

func (w *wire) count(op string) (n int) {
	for _, o := range w.ops() {
		if o == op {
			n++
		}
	}
	return n
}

func (w *wire) last(op string) *request {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range slices.Backward(w.sent) {
		if r.op == op {
			return r
		}
	}
	w.t.Fatalf("%s was not sent", op)
	return nil
}

type answers = map[string]func(*request) *http.Response

// testConfig is what a program would load, with a header that names each operation for the tests' servers.
func testConfig(transport http.RoundTripper) aws.Config {
	return aws.Config{
		Region: "eu-central-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}, nil
		}),
		HTTPClient: &http.Client{Transport: transport},
		APIOptions: []func(*middleware.Stack) error{func(stack *middleware.Stack) error {
			return stack.Build.Add(middleware.BuildMiddlewareFunc("test.operation", func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (
				middleware.BuildOutput, middleware.Metadata, error,
			) {
				in.Request.(*smithyhttp.Request).Header.Set("X-Test-Operation", awsmiddleware.GetOperationName(ctx))
				return next.HandleBuild(ctx, in)
			}), middleware.After)
		}},
	}
}

// onWire makes a backend on bucket fleet-bucket, prefix in/, whose network answers as given.
func onWire(t testing.TB, a answers) (*Backend, *wire) {
	t.Helper()
	return onWireWith(t, Options{Bucket: "fleet-bucket", Prefix: "in"}, a)
}

func onWireWith(t testing.TB, opts Options, a answers) (*Backend, *wire) {
	t.Helper()
	w := &wire{t: t, answers: a}
	b, err := New(testConfig(w), opts)
	require.NoError(t, err)
	return b, w
}

const caller1 = "arn:aws:sts::123456789012:assumed-role/Factory/line-7"

// knownCaller is what STS says of the tests' credentials.
var knownCaller = query("GetCallerIdentity", "<Arn>"+caller1+"</Arn><UserId>AROA:line-7</UserId><Account>123456789012</Account>")

// body is a seekable body with a position of its own.
func bodyOf(s string) *bytes.Reader { return bytes.NewReader([]byte(s)) }

type httpResponse = http.Response

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
