package awsbackend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// AccessDeniedError holds which permission is missing, and who lacks it. It matches [task.ErrAccessDenied]; the
// service's own words are in the [*task.Error] it wraps.
//
// If the service does not name them, Action is the one that the refused operation needs and Principal is the caller
// according to STS. Both may then differ from what the service checked.
type AccessDeniedError struct {
	Action    string // such as iot:StartThingRegistrationTask or iam:PassRole
	Principal string // ARN of the user or role that lacks it; empty when nobody knows
	Resource  string // what it was asked for; empty when the service does not name it
	Err       error  // the *task.Error
}

// Error names action, principal and resource, and has the service's answer.
func (e *AccessDeniedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "missing permission %s", e.Action)
	if e.Principal != "" {
		fmt.Fprintf(&b, " for %s", e.Principal)
	}
	if e.Resource != "" {
		fmt.Fprintf(&b, " on %s", e.Resource)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

// Unwrap returns the *task.Error.
func (e *AccessDeniedError) Unwrap() error { return e.Err }

// denials are AWS's codes for a missing permission, as opposed to credentials that are not valid.
var denials = map[string]bool{
	"AccessDenied":          true,
	"AccessDeniedException": true,
	headDenied:              true,
	"ForbiddenException":    true,
	"NotAuthorized":         true,
	"UnauthorizedException": true,
}

// notAuthorized is how AWS words a missing permission. Only details are taken from it, never the kind of error.
var notAuthorized = regexp.MustCompile(`(arn:\S+) is not authorized to perform: ([A-Za-z0-9-]+:[A-Za-z0-9*]+)(?: on resource: (\S+))?`)

// errCredentials marks requests that were never sent, so that nothing follows from them about what they ask for.
var errCredentials = errors.New("the credentials cannot be had")

// isDenied reports whether AWS refused a request for want of a permission.
func isDenied(err error) bool {
	return errors.Is(err, task.ErrAccessDenied) && !errors.Is(err, errCredentials) && !errors.Is(err, errNotAccepted)
}

// fault turns what an AWS client returned for a failed operation into one of this library's errors.
//
// An answer of the service becomes a *task.Error. Without an answer the error wraps the context's cause if the context
// is done, else task.ErrNotService if something other than AWS answered, else task.ErrUnavailable if the network or the
// service's answer is at fault.
func (b *Backend) fault(ctx context.Context, err error) error {
	service, op := "", "request"
	if e, ok := errors.AsType[*smithy.OperationError](err); ok {
		service, op = e.Service(), e.Operation()
	}
	withoutBody(err)
	if endedWith(ctx, err) {
		return fmt.Errorf("%s: %w", op, wait.ContextError(ctx))
	}
	api, answered := errors.AsType[smithy.APIError](err)
	if source := credentialsSource(op, err); source != "" && (answered || statusOf(err) >= 300) {
		return fmt.Errorf("%s: not sent: %w: %w", op, errCredentials, credentialsError(source, api, err))
	}
	if c, ok := errors.AsType[*credentialsFailure](err); ok && ctx.Err() == nil && !isNetwork(c.err) {
		none := &task.Error{Op: "GetCredentials", Code: "NoCredentials", Message: c.err.Error(), Kind: task.ErrAccessDenied, Err: c.err}
		return fmt.Errorf("%s: not sent: %w: %w", op, errCredentials, none)
	}
	switch {
	case answered:
		return b.refusal(ctx, service, op, api, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, wait.ContextError(ctx))
	case errors.Is(err, task.ErrNotService):
		return fmt.Errorf("%s: %w", op, err)
	case isDistrust(err): // on the way to credentials, which have a client of their own
		return fmt.Errorf("%s: %w: %w", op, task.ErrNotService, err)
	case statusOf(err) >= 300:
		return &task.Error{Op: op, Code: http.StatusText(statusOf(err)), Message: "the answer is not in AWS's form",
			Status: statusOf(err), Kind: kindWithoutCode(service, statusOf(err), ""), Err: err}
	case isNetwork(err):
		return fmt.Errorf("%s: %w: no usable answer: %w", op, task.ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

// credentials marks the errors of a source of credentials that has none: a session is over, there is no profile. They
// are no answer of a service, so they have no code.
type credentials struct{ aws.CredentialsProvider }

func (c credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	value, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		err = &credentialsFailure{err}
	}
	return value, err
}

// IsCredentialsProvider lets the SDK recognise what is wrapped.
func (c credentials) IsCredentialsProvider(target aws.CredentialsProvider) bool {
	return aws.IsCredentialsProvider(c.CredentialsProvider, target)
}

type credentialsFailure struct{ err error }

func (e *credentialsFailure) Error() string { return e.err.Error() }
func (e *credentialsFailure) Unwrap() error { return e.err }

// credentialsSource returns the operation that was to get credentials for op and failed, "" if it is op itself that
// failed. The SDK asks STS, IAM Identity Center, or the metadata service of an instance or a container. What they
// answer means nothing for op: a role that is not found is not a thing that is not found.
func credentialsSource(op string, err error) (source string) {
	ours := false // err comes from the SDK, and is about op
	for e, ok := errors.AsType[*smithy.OperationError](err); ok; e, ok = errors.AsType[*smithy.OperationError](e.Err) {
		if e.Operation() == op {
			ours = true
		} else {
			source = e.Operation()
		}
	}
	if ours && source == "" && statusOf(err) == 0 {
		return "GetCredentials" // a container's: the answer to a request of the SDK's always has a status
	}
	return source
}

// credentialsError makes the *task.Error of an answer about credentials. Waiting can help or it cannot; every other
// distinction is another service's.
func credentialsError(source string, api smithy.APIError, err error) error {
	e := &task.Error{Op: source, Status: statusOf(err), Err: err}
	if s, ok := api.(interface{ HTTPStatusCode() int }); ok && e.Status == 0 {
		e.Status = s.HTTPStatusCode()
	}
	if api != nil {
		e.Code, e.Message = api.ErrorCode(), api.ErrorMessage()
		e.Kind = task.KindOfCode(e.Code)
	}
	e.Code = cmp.Or(e.Code, http.StatusText(e.Status)) // a container's service need not send one
	if e.Kind == nil {
		e.Kind = kindOfStatus(e.Status)
	}
	if errors.Is(e.Kind, task.ErrThrottled) || errors.Is(e.Kind, task.ErrUnavailable) {
		return e
	}
	e.Kind = task.ErrAccessDenied
	if denied := deniedInWords(e); denied != nil {
		return denied
	}
	return e
}

// deniedInWords makes an *AccessDeniedError of a message that names what is missing, nil of any other.
func deniedInWords(e *task.Error) *AccessDeniedError {
	m := notAuthorized.FindStringSubmatch(e.Message)
	if m == nil {
		return nil
	}
	// S3 puts the resource in quotes; others end their sentence with it.
	return &AccessDeniedError{Principal: m[1], Action: m[2], Resource: strings.Trim(m[3], `".,;`), Err: e}
}

// refusal makes the *task.Error of an answer, inside an *AccessDeniedError if a permission is missing.
func (b *Backend) refusal(ctx context.Context, service, op string, api smithy.APIError, err error) error {
	e := &task.Error{
		Op: op, Code: api.ErrorCode(), Message: api.ErrorMessage(),
		Kind: task.KindOfCode(api.ErrorCode()), Err: err,
	}
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && answer.Response != nil {
		e.Status = answer.HTTPStatusCode()
		e.RequestID = requestID(answer.Response.Header)
	}
	switch {
	case e.Kind != nil:
	case codeless(e.Code):
		e.Kind = kindWithoutCode(service, e.Status, e.RequestID)
		if errors.Is(e.Kind, task.ErrNotService) {
			e.Message = notFromAWS
		}
	default:
		e.Kind = kindOfStatus(e.Status)
	}
	if why := refusedCredentials(e); why != "" {
		return fmt.Errorf("%w: %s: %w", errNotAccepted, why, e)
	}
	if !errors.Is(e.Kind, task.ErrAccessDenied) || !(denials[e.Code] || task.KindOfCode(e.Code) == nil) {
		return e
	}
	if denied := deniedInWords(e); denied != nil {
		return denied
	}
	denied := &AccessDeniedError{Action: actionOf(service, op), Err: e}
	if op != "GetCallerIdentity" {
		denied.Principal = b.callerARN(ctx)
	}
	return denied
}

// statusOf returns the HTTP status of the answer behind err, 0 if there was none.
func statusOf(err error) int {
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && answer.Response != nil {
		return answer.HTTPStatusCode()
	}
	return 0
}

// noCode is the SDK's code for an answer that has none.
const noCode = "UnknownError"

// codeless reports whether an answer to op had no error code of AWS's: the SDK then sets one of its own.
func codeless(code string) bool { return code == "" || code == noCode || code == headDenied }

// headDenied is the SDK's code for status 403 to a HEAD request to S3, whose answer has no body and hence no code.
const headDenied = "Forbidden"

const notFromAWS = "the answer has neither an error code nor a request id of AWS's, so a proxy or a firewall sent it in AWS's place"

// kindWithoutCode is for answers without a code. Those without AWS's request id AWS did not write, and status 404 of them
// proves nothing about a thing, a task or a role: taken for AWS's, it would have a device registered again. Only S3
// answers with a request id alone, to HEAD requests.
func kindWithoutCode(service string, status int, requestID string) error {
	switch {
	case status == http.StatusNotFound && service != s3.ServiceID && requestID != "":
		return task.ErrUnavailable
	case requestID == "" && status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout:
		return task.ErrNotService
	}
	return kindOfStatus(status)
}

// kindOfStatus is for answers without a known code: of S3 to HEAD requests, and of what stands between us and AWS.
func kindOfStatus(status int) error {
	switch {
	case status == http.StatusMovedPermanently:
		return task.ErrWrongRegion
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return task.ErrAccessDenied
	case status == http.StatusNotFound:
		return task.ErrNotFound
	case status == http.StatusConflict:
		return task.ErrConflict
	case status == http.StatusTooManyRequests:
		return task.ErrThrottled
	case status == http.StatusRequestTimeout, status >= 500:
		return task.ErrUnavailable
	case status == http.StatusBadRequest, status == http.StatusRequestedRangeNotSatisfiable:
		return task.ErrInvalidRequest
	}
	return nil
}

// isPage reports whether an answer is a web page. Servers that imitate AWS may leave a web framework's content type on
// answers without a body, but send a request id as AWS does.
func isPage(h http.Header) bool {
	return strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "text/html") && requestID(h) == ""
}

// requestID reads the id under each of the names that AWS services use.
func requestID(h http.Header) string {
	for _, name := range []string{"X-Amzn-RequestId", "X-Amz-Request-Id", "X-Amz-RequestId"} {
		if id := h.Get(name); id != "" {
			return id
		}
	}
	return ""
}

// actions are the permissions whose names differ from the operation's.
var actions = map[string]string{
	"HeadBucket":           "s3:ListBucket",
	"GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
	"PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
}

func actionOf(service, op string) string {
	if action, ok := actions[op]; ok {
		return action
	}
	return strings.ToLower(service) + ":" + op
}

// isNetwork reports whether err, which is no answer of the service, is about the way to it or about an answer that
// cannot be read, rather than about credentials or input.
func isNetwork(err error) bool {
	if _, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok
}

// endedWith reports whether err is that ctx has ended. Then it carries the cause of that end, which can hold anything:
// also AWS's answer to another request, which must not pass for its answer to this one.
func endedWith(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Cause(ctx))
}

// withoutBody drops the copy of the answer's beginning that an error of decoding carries: it can hold presigned links
// and certificates.
func withoutBody(err error) {
	for bad, ok := errors.AsType[*smithy.DeserializationError](err); ok; bad, ok = errors.AsType[*smithy.DeserializationError](bad.Err) {
		bad.Snapshot = nil
	}
}
