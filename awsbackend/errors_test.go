package awsbackend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var discardLog = log.New(io.Discard, "", 0)

// exceptions are the exception types of the IoT model. The first test of this file compares them with the package.
var exceptions = []smithy.APIError{
	&types.CertificateConflictException{}, &types.CertificateStateException{}, &types.CertificateValidationException{},
	&types.ConflictException{}, &types.ConflictingResourceUpdateException{}, &types.DeleteConflictException{},
	&types.IndexNotReadyException{}, &types.InternalException{}, &types.InternalFailureException{},
	&types.InternalServerException{}, &types.InvalidAggregationException{}, &types.InvalidQueryException{},
	&types.InvalidRequestException{}, &types.InvalidResponseException{}, &types.InvalidStateTransitionException{},
	&types.LimitExceededException{}, &types.MalformedPolicyException{}, &types.NotConfiguredException{},
	&types.RegistrationCodeValidationException{}, &types.ResourceAlreadyExistsException{}, &types.ResourceNotFoundException{},
	&types.ResourceRegistrationFailureException{}, &types.ServiceQuotaExceededException{}, &types.ServiceUnavailableException{},
	&types.SqlParseException{}, &types.TaskAlreadyExistsException{}, &types.ThrottlingException{},
	&types.TransferAlreadyCompletedException{}, &types.TransferConflictException{}, &types.UnauthorizedException{},
	&types.ValidationException{}, &types.VersionConflictException{}, &types.VersionsLimitExceededException{},
}

func TestTheListOfExceptionsIsThatOfTheSDK(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/iot/types").Output()
	require.NoError(t, err)
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "errors.go"))
	require.NoError(t, err)
	var want, got []string
	for _, m := range regexp.MustCompile(`(?m)^func \(e \*(\w+)\) ErrorCode\(\)`).FindAllSubmatch(source, -1) {
		want = append(want, string(m[1]))
	}
	for _, e := range exceptions {
		got = append(got, strings.TrimPrefix(fmt.Sprintf("%T", e), "*types."))
	}
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, want, got, "exceptions, above, must list every exception of the model")
}

// The kinds of the exceptions that no operation of this package declares: they come by their HTTP status.
var byStatus = []string{"IndexNotReadyException", "InvalidAggregationException", "InvalidQueryException", "InvalidResponseException",
	"InvalidStateTransitionException", "NotConfiguredException", "SqlParseException"}

func TestEveryExceptionOfTheModelArrivesWithItsKind(t *testing.T) {
	for _, e := range exceptions {
		code := e.ErrorCode()
		t.Run(code, func(t *testing.T) {
			status := 400
			if e.ErrorFault() == smithy.FaultServer {
				status = 500
			}
			w := &wire{t: t, answers: answers{"DescribeThing": exception(status, code, "what AWS says"), "GetCallerIdentity": knownCaller}}
			cfg := testConfig(w)
			cfg.RetryMaxAttempts = 1
			b, err := New(cfg, Options{})
			require.NoError(t, err)
			_, err = b.ReadDevice(t.Context(), "d1")
			got, ok := errors.AsType[*task.Error](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, []any{"DescribeThing", code, "what AWS says", status, "req-1"},
				[]any{got.Op, got.Code, got.Message, got.Status, got.RequestID})
			want := task.KindOfCode(code)
			if slices.Contains(byStatus, code) {
				require.NoError(t, want, "it is in the table now: take it off this list")
				want = task.ErrInvalidRequest
			}
			require.Error(t, want, "the table of codes does not know it")
			assert.ErrorIs(t, err, want)
			api, ok := errors.AsType[smithy.APIError](err)
			require.True(t, ok, "the SDK's error stays reachable")
			assert.Equal(t, code, api.ErrorCode())
		})
	}
}

func TestAnUndeclaredExceptionIsKnownByItsCode(t *testing.T) {
	// ListThingRegistrationTasks declares no such error, so the SDK gives it without a type.
	b, _ := onWire(t, answers{listOp: exception(404, "ResourceNotFoundException", "none")})
	_, err := b.ListTasks(t.Context(), nil)
	require.ErrorIs(t, err, task.ErrNotFound)
}

func TestAccessDeniedNamesActionPrincipalAndResource(t *testing.T) {
	for name, c := range map[string]struct {
		code, message               string
		action, principal, resource string
		asksSTS                     bool
	}{
		"as AWS words it": {"AccessDeniedException",
			"User: arn:aws:iam::123456789012:user/jo is not authorized to perform: iot:StartThingRegistrationTask on resource: arn:aws:iot:eu-central-1:123456789012:* because no identity-based policy allows the iot:StartThingRegistrationTask action",
			"iot:StartThingRegistrationTask", "arn:aws:iam::123456789012:user/jo", "arn:aws:iot:eu-central-1:123456789012:*", false},
		"pass role": {"AccessDeniedException",
			"User: arn:aws:sts::123456789012:assumed-role/F/s is not authorized to perform: iam:PassRole on resource: arn:aws:iam::123456789012:role/fleet-registration",
			"iam:PassRole", "arn:aws:sts::123456789012:assumed-role/F/s", "arn:aws:iam::123456789012:role/fleet-registration", false},
		"as S3 words it": {"AccessDenied",
			`User: arn:aws:iam::123456789012:user/jo is not authorized to perform: s3:PutObject on resource: "arn:aws:s3:::fleet-bucket/in/part-1.json" because no identity-based policy allows the s3:PutObject action`,
			"s3:PutObject", "arn:aws:iam::123456789012:user/jo", "arn:aws:s3:::fleet-bucket/in/part-1.json", false},
		"without words": {"UnauthorizedException", "", "iot:StartThingRegistrationTask", caller1, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			b, w := onWire(t, answers{startOp: exception(403, c.code, c.message), "GetCallerIdentity": knownCaller})
			_, err := b.StartTask(t.Context(), startInput)
			require.ErrorIs(t, err, task.ErrAccessDenied)
			assert.True(t, task.Refused(err))
			denied, ok := errors.AsType[*AccessDeniedError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, []string{c.action, c.principal, c.resource}, []string{denied.Action, denied.Principal, denied.Resource})
			assert.ErrorContains(t, err, "missing permission "+c.action+" for "+c.principal)
			assert.Equal(t, c.asksSTS, w.count("GetCallerIdentity") == 1)
		})
	}
}

func TestTheDerivedActionIsThePermissionsName(t *testing.T) {
	b, _ := onWire(t, answers{"HeadBucket": head(403), "GetBucketLocation": denied, "GetCallerIdentity": knownCaller})
	err := b.EnsureBucket(t.Context())
	denied, ok := errors.AsType[*AccessDeniedError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, "s3:ListBucket", denied.Action)
	assert.Equal(t, caller1, denied.Principal)
}

func TestSTSThatCannotBeReachedHoldsUpNoError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		transport := roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("X-Test-Operation") != "GetCallerIdentity" {
				return exception(403, "AccessDeniedException", "")(nil), nil
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		b, err := New(testConfig(transport), Options{})
		require.NoError(t, err)
		begin := time.Now()
		for range 3 {
			_, err = b.ReadDevice(t.Context(), "d1")
			denied, ok := errors.AsType[*AccessDeniedError](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, []string{"iot:DescribeThing", ""}, []string{denied.Action, denied.Principal})
		}
		assert.Equal(t, 5*time.Second, time.Since(begin), "it is asked once, and not for long")
	})
}

// A blocked request, a wrong secret key and a clock that is off are no missing permission, also where the answer has no
// body: the reason is asked for.
func TestARefusedHeadIsExplained(t *testing.T) {
	for name, c := range map[string]struct {
		head, location func(*request) *http.Response
		kind           error
		text           string
	}{
		"secret key": {head(403), xmlError(403, "SignatureDoesNotMatch", "no"), task.ErrAccessDenied, "their secret access key is not the one of the access key id"},
		"key id":     {head(403), xmlError(403, "InvalidAccessKeyId", "no"), task.ErrAccessDenied, "their access key id is unknown, deleted or deactivated"},
		"session":    {head(400), xmlError(400, "ExpiredToken", "no"), task.ErrAccessDenied, "their session is over"},
		"proxy":      {reply(403, ""), nil, task.ErrNotService, "a proxy or a firewall sent it"},
	} {
		t.Run(name, func(t *testing.T) {
			for what, call := range map[string]func(*Backend) error{
				"EnsureBucket": func(b *Backend) error { return b.EnsureBucket(t.Context()) },
				"Upload":       func(b *Backend) error { _, err := b.Upload(t.Context(), uploadOf("k", "x")); return err },
			} {
				b, _ := onWire(t, answers{"HeadBucket": c.head, "GetBucketLocation": c.location, "GetCallerIdentity": knownCaller})
				err := call(b)
				require.ErrorIs(t, err, c.kind, what)
				assert.ErrorContains(t, err, c.text, what)
				assert.NotContains(t, err.Error(), "missing permission", what)
				assert.NotContains(t, err.Error(), "another account", what)
			}
		})
	}
}

func TestAClockThatIsOffIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for ahead, text := range map[time.Duration]string{40 * time.Minute: "40m0s ahead of AWS's", -time.Hour: "1h0m0s behind AWS's"} {
			date := time.Now().Add(-ahead).UTC().Format(http.TimeFormat)
			w := &wire{t: t, answers: answers{"DescribeThing": reply(403, `{"message":"Signature expired"}`,
				"X-Amzn-ErrorType", "InvalidSignatureException:", "X-Amzn-RequestId", "req-1", "Date", date)}}
			cfg := testConfig(w)
			cfg.RetryMaxAttempts = 1
			b, err := New(cfg, Options{})
			require.NoError(t, err)
			_, err = b.ReadDevice(t.Context(), "d1")
			require.ErrorIs(t, err, task.ErrAccessDenied)
			assert.ErrorContains(t, err, text)
		}
	})
}

// The SDK corrects its clock by an answer with a code, which one to HEAD has not.
func TestAHeadIsSentAgainWithTheClockCorrected(t *testing.T) {
	b, w := onWire(t, answers{"HeadBucket": inTurn(head(403), bucketHere),
		"GetBucketLocation": reply(200, "<LocationConstraint>"+inRegion+"</LocationConstraint>"), "GetCallerIdentity": knownCaller})
	require.NoError(t, b.EnsureBucket(t.Context()))
	assert.Equal(t, []string{"HeadBucket", "GetCallerIdentity", "GetBucketLocation", "HeadBucket"}, w.ops())
}

func TestBadCredentialsAreNoMissingPermission(t *testing.T) {
	for _, code := range []string{"UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException"} {
		b, w := onWire(t, answers{startOp: exception(403, code, "The security token included in the request is invalid")})
		_, err := b.StartTask(t.Context(), startInput)
		require.ErrorIs(t, err, task.ErrAccessDenied)
		_, missing := errors.AsType[*AccessDeniedError](err)
		assert.False(t, missing, "%s: %v", code, err)
		assert.Equal(t, []string{startOp}, w.ops())
	}
}

func TestAnErrorBeforeSendingSaysSo(t *testing.T) {
	cfg := testConfig(&wire{t: t})
	cfg.Credentials = failingCredentials{}
	b, err := New(cfg, Options{})
	require.NoError(t, err)
	_, err = b.StartTask(t.Context(), startInput)
	require.ErrorIs(t, err, errNoCredentials)
	assert.NotErrorIs(t, err, task.ErrOutcomeUnknown)
	assert.NotErrorIs(t, err, task.ErrUnavailable, "waiting does not bring credentials")
	require.ErrorIs(t, err, task.ErrAccessDenied)
	assert.True(t, task.Refused(err), "nothing was started for certain")
	_, err = b.RegisterThing(t.Context(), registerInput)
	assert.True(t, task.Refused(err))
	_, err = b.ReadDevice(t.Context(), "d1")
	require.ErrorIs(t, err, task.ErrAccessDenied)
	assert.ErrorContains(t, err, "the credentials cannot be had: GetCredentials: NoCredentials: no credentials in this shell")
}

func TestAnAnonymousCallerStaysOne(t *testing.T) {
	w := &wire{t: t, answers: answers{endpointOp: dataEndpoint}}
	cfg := testConfig(w)
	cfg.Credentials = aws.AnonymousCredentials{}
	b, err := New(cfg, Options{})
	require.NoError(t, err)
	_, err = b.DataEndpoint(t.Context())
	require.NoError(t, err)
	assert.Empty(t, w.last(endpointOp).Header.Get("Authorization"))
}

func TestAnAnswerThatIsNotAWSIsToldByItsStatus(t *testing.T) {
	for status, kind := range map[int]error{401: task.ErrNotService, 403: task.ErrNotService, 407: task.ErrNotService, 404: task.ErrNotService, 429: task.ErrThrottled, 503: task.ErrUnavailable} {
		for page, code := range map[string]string{"<html>proxy</html>": http.StatusText(status), "": "UnknownError", "{}": "UnknownError"} {
			w := &wire{t: t, answers: answers{"DescribeThing": reply(status, page), "ListThingPrincipals": reply(status, page), "GetCallerIdentity": knownCaller}}
			cfg := testConfig(w)
			cfg.RetryMaxAttempts = 1
			b, err := New(cfg, Options{})
			require.NoError(t, err)
			_, err = b.ReadDevice(t.Context(), "d1")
			require.ErrorIs(t, err, kind)
			assert.NotErrorIs(t, err, task.ErrNotFound, "only AWS knows that a device is not there")
			e, ok := errors.AsType[*task.Error](err)
			require.True(t, ok)
			assert.Equal(t, status, e.Status)
			assert.Equal(t, code, e.Code)
			_, err = b.RemoveThing(t.Context(), "d1")
			require.Error(t, err)
		}
	}
}

func TestAPageThatClaimsSuccessIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		page := reply(200, "<!DOCTYPE html><html><body>Please sign in</body></html>", "Content-Type", "text/html; charset=utf-8")
		for name, c := range map[string]struct {
			answers answers
			call    func(*Backend) error
		}{
			"StopTask": {answers{"StopThingRegistrationTask": page}, func(b *Backend) error { return b.StopTask(t.Context(), "id-1") }},
			"Upload": {answers{"HeadBucket": bucketHere, "PutObject": page}, func(b *Backend) error {
				_, err := b.Upload(t.Context(), uploadOf("part-1.json", "{}"))
				return err
			}},
			"the bucket's region": {answers{"HeadBucket": page}, func(b *Backend) error {
				_, err := b.Upload(t.Context(), uploadOf("part-1.json", "{}"))
				return err
			}},
			"EnsureBucket": {answers{"HeadBucket": page}, func(b *Backend) error { return b.EnsureBucket(t.Context()) }},
			"DeleteThing": {answers{"ListThingPrincipals": reply(200, `{"principals":[]}`), "DeleteThing": page},
				func(b *Backend) error {
					_, err := b.RemoveThing(t.Context(), "d1")
					return err
				}},
			"Open": {answers{"GET": page}, func(b *Backend) error {
				_, err := b.Open(t.Context(), task.NewLink(secretLink), 0)
				return err
			}},
		} {
			b, w := onWire(t, c.answers)
			began := time.Now()
			err := c.call(b)
			require.ErrorIs(t, err, task.ErrNotService, name)
			assert.NotErrorIs(t, err, task.ErrUnavailable, name)
			assert.ErrorContains(t, err, "a proxy or a login page is in the way", name)
			assert.Zero(t, time.Since(began), "%s: not asked again", name)
			assert.Len(t, w.ops(), len(c.answers), name)
			assert.NotErrorIs(t, err, task.ErrWrongRegion, name)
		}
	})
}

func TestAnAnswerWithARequestIDIsNoPage(t *testing.T) {
	b, _ := onWire(t, answers{"StopThingRegistrationTask": reply(200, "", "Content-Type", "text/html; charset=utf-8", "X-Amzn-Requestid", "1")})
	require.NoError(t, b.StopTask(t.Context(), "id-1"))
}

func TestAPageDoesNotTellTheFakeFromAWS(t *testing.T) {
	w := &wire{t: t, answers: answers{listOp: reply(502, "<html>bad gateway</html>", "Content-Type", "text/html"),
		"GetCallerIdentity": marked(knownCaller), endpointOp: marked(dataEndpoint)}}
	cfg := testConfig(w)
	cfg.RetryMaxAttempts = 1
	b, err := New(cfg, Options{})
	require.NoError(t, err)
	_, err = b.ListTasks(t.Context(), nil)
	require.ErrorIs(t, err, task.ErrUnavailable)
	who, err := b.Identity(t.Context())
	require.NoError(t, err, "the page is nobody's answer")
	assert.True(t, who.Fake)
}

// fromRole are credentials that come from STS, which answers as given.
func fromRole(t *testing.T, answer func(*request) *http.Response) aws.CredentialsProvider {
	cfg := testConfig(&wire{t: t, answers: answers{"AssumeRole": answer}})
	cfg.RetryMaxAttempts = 1
	return stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), "arn:aws:iam::123456789012:role/Factory")
}

// fromInstance are credentials of an instance whose role was taken away, as its metadata service says it: without a
// code.
type fromInstance struct{}

func (fromInstance) Retrieve(context.Context) (c aws.Credentials, err error) {
	none := &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: response(404, "")}, Err: errors.New("request to EC2 IMDS failed")}
	return c, &smithy.OperationError{ServiceID: "ec2imds", OperationName: "GetMetadata", Err: none}
}

// fromContainer are credentials of a container, whose metadata service answers as given.
func fromContainer(t *testing.T, answer func(*request) *http.Response) aws.CredentialsProvider {
	return endpointcreds.New("http://169.254.170.23/v1/credentials", func(o *endpointcreds.Options) {
		o.HTTPClient = &http.Client{Transport: &wire{t: t, answers: answers{"GET": answer}}}
		o.Retryer = aws.NopRetryer{}
	})
}

func TestWhatIsSaidAboutCredentialsIsNotSaidAboutTheRequest(t *testing.T) {
	for name, c := range map[string]struct {
		credentials aws.CredentialsProvider
		op, code    string
		kind        error
	}{
		"a role that is gone":          {fromRole(t, queryError(404, "ResourceNotFoundException", "no such role")), "AssumeRole", "ResourceNotFoundException", task.ErrAccessDenied},
		"a session that is over":       {fromRole(t, queryError(401, "UnauthorizedException", "Session token not found or invalid")), "AssumeRole", "UnauthorizedException", task.ErrAccessDenied},
		"an instance without its role": {fromInstance{}, "GetMetadata", "Not Found", task.ErrAccessDenied},
		"a container without its role": {fromContainer(t, reply(404, `{"code":"ResourceNotFoundException","message":"no association"}`, "Content-Type", "application/json")),
			"GetCredentials", "ResourceNotFoundException", task.ErrAccessDenied},
		"a container's service that fails": {fromContainer(t, reply(500, "later")), "GetCredentials", "Internal Server Error", task.ErrUnavailable},
		"a service that fails":             {fromRole(t, queryError(503, "ServiceUnavailable", "later")), "AssumeRole", "ServiceUnavailable", task.ErrUnavailable},
		"a service that throttles":         {fromRole(t, queryError(400, "Throttling", "slow")), "AssumeRole", "Throttling", task.ErrThrottled},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := &wire{t: t}
				cfg := testConfig(w)
				cfg.Credentials, cfg.RetryMaxAttempts = c.credentials, 1
				b, err := New(cfg, Options{})
				require.NoError(t, err)

				_, err = b.ReadDevice(t.Context(), "d1")
				require.ErrorIs(t, err, c.kind)
				assert.NotErrorIs(t, err, task.ErrNotFound, "nothing was asked about the device, and who takes it for missing registers it again")
				_, gone := b.RemoveThing(t.Context(), "d1")
				require.Error(t, gone, "what nobody looked for is not gone")
				_, missing := errors.AsType[*AccessDeniedError](err)
				assert.False(t, missing, "no permission of the device's operation is missing: %v", err)
				e, ok := errors.AsType[*task.Error](err)
				require.True(t, ok, "%v", err)
				assert.Equal(t, []string{c.op, c.code}, []string{e.Op, e.Code})

				_, err = b.StartTask(t.Context(), startInput)
				require.ErrorIs(t, err, c.kind)
				assert.NotErrorIs(t, err, task.ErrOutcomeUnknown, "nothing was sent")
				assert.Empty(t, w.ops())
			})
		})
	}
}

func TestARoleThatMayNotBeAssumedNamesThatPermission(t *testing.T) {
	cfg := testConfig(&wire{t: t})
	cfg.Credentials = fromRole(t, queryError(403, "AccessDenied",
		"User: arn:aws:iam::123456789012:user/jo is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::123456789012:role/Factory"))
	b, err := New(cfg, Options{})
	require.NoError(t, err)
	_, err = b.StartTask(t.Context(), startInput)
	denied, ok := errors.AsType[*AccessDeniedError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, []string{"sts:AssumeRole", "arn:aws:iam::123456789012:user/jo"}, []string{denied.Action, denied.Principal})
}

var errNoCredentials = errors.New("no credentials in this shell")

type failingCredentials struct{}

func (failingCredentials) Retrieve(context.Context) (c aws.Credentials, err error) {
	return c, errNoCredentials
}
