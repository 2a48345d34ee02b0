package task

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// The kinds of errors. Match them with errors.Is; the service's own words are in the [*Error] beside them.
var (
	// ErrInvalidRequest: the request breaks a rule of the service. Repeating it cannot help.
	ErrInvalidRequest = errors.New("invalid request")
	// ErrThrottled: the account's rate was exceeded and nothing was done. Try again later.
	ErrThrottled = errors.New("throttled")
	// ErrAccessDenied: the caller or the role lacks a permission, or its credentials are not valid.
	ErrAccessDenied = errors.New("access denied")
	// ErrNotFound: there is no such task, object, thing, certificate or policy.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a resource exists already, or is in a state that does not allow the request.
	ErrConflict = errors.New("conflict")
	// ErrLimitExceeded: a quota of the account is used up.
	ErrLimitExceeded = errors.New("limit exceeded")
	// ErrUnavailable: the service failed on its side. Try again later.
	ErrUnavailable = errors.New("service unavailable")
	// ErrNotService: something other than the service answered, such as a login page, or a peer whose certificate nobody
	// here trusts. Repeating the request cannot help; mend the way to the service.
	ErrNotService = errors.New("this is not the service")
	// ErrRegistrationFailed: RegisterThing understood the request and could not register the device.
	ErrRegistrationFailed = errors.New("registration failed")
	// ErrTaskRunning: StartTask was refused because another task of the account is in progress.
	ErrTaskRunning = errors.New("another registration task is in progress")
	// ErrLinkExpired: a report link is no longer accepted. List the reports again.
	ErrLinkExpired = errors.New("report link expired")
	// ErrChecksum: bytes differ from the digest or the length that was announced for them.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrWrongRegion: the bucket is not in the region of the IoT endpoint.
	ErrWrongRegion = errors.New("bucket in another region")
	// ErrOutcomeUnknown: the request may have had its effect although no answer came.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrTaskFailed: the task ended as Failed. The [*WaitError] around it has the service's message.
	ErrTaskFailed = errors.New("registration task failed")
	// ErrTaskCancelled: the task ended as Cancelled.
	ErrTaskCancelled = errors.New("registration task was cancelled")
)

// Error is the service's refusal or failure of one request, in its own words.
type Error struct {
	Op        string // the service's name of the operation, such as StartThingRegistrationTask or PutObject
	Code      string // the service's error code, verbatim
	Message   string // the service's text, verbatim
	Status    int    // the HTTP status, 0 if there was none
	RequestID string // what the service's support asks for; may be empty
	Kind      error  // the Err sentinel this code belongs to; nil if none does
	Err       error  // the cause as the client library returned it; may be nil
}

// Error returns operation, code and message.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		fmt.Fprintf(&b, "%s: ", e.Op)
	}
	b.WriteString(e.Code)
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " (request %s)", e.RequestID)
	}
	return rule.Visible(b.String())
}

// Unwrap returns the sentinel and the cause.
func (e *Error) Unwrap() []error {
	switch {
	case e.Kind != nil && e.Err != nil:
		return []error{e.Kind, e.Err}
	case e.Kind != nil:
		return []error{e.Kind}
	case e.Err != nil:
		return []error{e.Err}
	}
	return nil
}

// InputError names the member of a request that breaks a rule of AWS, and the rule. The request was not sent. It
// matches [ErrInvalidRequest], and [Refused] is true of it.
type InputError struct {
	Member  string // AWS's name of the member, such as templateBody
	Problem string // the rule and how the value breaks it
	Err     error  // the cause, such as a violated pattern; may be nil
}

// Error names the member and the rule.
func (e *InputError) Error() string { return e.Member + ": " + e.Problem }

// Unwrap returns ErrInvalidRequest and the cause.
func (e *InputError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrInvalidRequest}
	}
	return []error{ErrInvalidRequest, e.Err}
}

// WaitError is the error of [Task.Wait]: the task has not ended as Completed. Either it has ended otherwise, and the
// error matches [ErrTaskFailed] or [ErrTaskCancelled]; or the wait has ended before the task, which goes on: attach to
// it again by its ID. Last.Status.Done tells these two cases from each other.
type WaitError struct {
	ID       ID
	Last     *Description // the last state that was read; nil if none was
	Failures int          // how often in a row the state could not be read; 0 for any other reason
	Err      error        // ErrTaskFailed, ErrTaskCancelled, the last failure, or the end of the context with its cause
}

// Error returns the task, the last known state with its counts, and the service's message or the cause.
func (e *WaitError) Error() string {
	d := e.Last
	switch {
	case d == nil:
		return fmt.Sprintf("wait for registration task %s (state not known): %s", e.ID, e.cause())
	case !d.Status.Done():
		return fmt.Sprintf("wait for registration task %s (last seen %s at %d%%, %d registered and %d refused): %s",
			e.ID, d.Status, d.Percent, d.Succeeded, d.Failed, e.cause())
	}
	how := "failed"
	if d.Status == Cancelled {
		how = "was cancelled"
	}
	text := fmt.Sprintf("registration task %s %s with %s registered and %d refused", e.ID, how, rule.Count(d.Succeeded, "line"), d.Failed)
	if d.Message != "" {
		text += ": " + rule.Visible(d.Message)
	}
	return text
}

func (e *WaitError) cause() string {
	if e.Failures > 1 {
		return fmt.Sprintf("describe failed %d times in a row, last: %v", e.Failures, e.Err)
	}
	return fmt.Sprint(e.Err)
}

// Unwrap returns Err.
func (e *WaitError) Unwrap() error { return e.Err }

// IncompleteReportError is the error of a report that holds another number of lines than the task counted. It was read
// to its end, or to a thousand lines more than twice the task's. The lines that were yielded before it are good; what
// is missing has to be read back from the registry.
type IncompleteReportError struct {
	ID     ID
	Report ReportType
	Got    int // lines in the report files, malformed ones included
	Want   int // the task's own count: Succeeded or Failed
}

// Error returns the task, the report and both counts.
func (e *IncompleteReportError) Error() string {
	return fmt.Sprintf("%s report of registration task %s holds %s, the task counted %d: "+
		"read the report again later, or read the devices back from the registry", e.Report, e.ID, rule.Count(e.Got, "line"), e.Want)
}

// Refused reports whether err is a definite refusal, so that the request is known to have had no effect: the service's
// own refusal, an [*InputError] from before it was sent, or [ErrNotService] without [ErrOutcomeUnknown], where nothing
// reached the service. Errors of the network, of the context, and failures on the service's side (status 500 and above)
// are not.
func Refused(err error) bool {
	if errors.Is(err, ErrOutcomeUnknown) {
		return false
	}
	if _, ok := errors.AsType[*InputError](err); ok || errors.Is(err, ErrNotService) {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status < 500 && !errors.Is(err, ErrUnavailable)
}
