package task

import (
	"errors"
	"fmt"
	"strings"
)

// The taxonomy of errors. Match them with errors.Is; the service's own words are in the [*Error] beside them.
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

// Error gives operation, code and message.
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
	return b.String()
}

// Unwrap gives both the sentinel and the cause to errors.Is and errors.As.
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

// Refused reports whether err is the service's own definite refusal, so that the request is known to have had no
// effect. Errors of the network, of the context, and failures on the service's side (status 500 and above) are not.
func Refused(err error) bool {
	if errors.Is(err, ErrOutcomeUnknown) {
		return false
	}
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status < 500 && !errors.Is(err, ErrUnavailable)
}
