package task_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

func TestEveryCodeBelongsToItsKind(t *testing.T) {
	for kind, codes := range map[error][]string{
		task.ErrInvalidRequest: {"InvalidRequestException", "CertificateValidationException", "MalformedPolicyException",
			"RegistrationCodeValidationException", "MalformedPolicyDocument", "InvalidBucketName", "ValidationError", "UnknownOperationException"},
		task.ErrThrottled: {"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"},
		task.ErrAccessDenied: {"UnauthorizedException", "AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException",
			"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "UnrecognizedClientException", "RequestTimeTooSkewed"},
		task.ErrNotFound: {"ResourceNotFoundException", "NoSuchBucket", "NoSuchKey", "NoSuchEntity", "NotFound"},
		task.ErrConflict: {"ResourceAlreadyExistsException", "CertificateConflictException", "CertificateStateException",
			"ConflictingResourceUpdateException", "EntityAlreadyExists", "BucketAlreadyOwnedByYou", "DeleteConflict"},
		task.ErrLimitExceeded:      {"LimitExceededException", "LimitExceeded", "TooManyBuckets"},
		task.ErrUnavailable:        {"InternalFailureException", "ServiceUnavailableException", "InternalError", "ServiceUnavailable", "RequestTimeout"},
		task.ErrRegistrationFailed: {"ResourceRegistrationFailureException"},
		task.ErrChecksum:           {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"},
		task.ErrWrongRegion:        {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"},
	} {
		for _, code := range codes {
			assert.Equal(t, kind, task.KindOfCode(code), code)
		}
	}
}

func TestACodeIsFoundAsItStandsInAHeader(t *testing.T) {
	assert.Equal(t, task.ErrNotFound, task.KindOfCode("ResourceNotFoundException:"))
	assert.Equal(t, task.ErrNotFound, task.KindOfCode("com.amazonaws.iot#ResourceNotFoundException:http://internal.amazon.com/"))
	for _, unknown := range []string{"", ":", "#", "resourcenotfoundexception", "NotACode"} {
		assert.NoError(t, task.KindOfCode(unknown), unknown)
	}
}

func TestAnErrorGivesItsKindItsCauseAndTheServicesWords(t *testing.T) {
	cause := errors.New("operation error IoT")
	err := fmt.Errorf("start: %w", &task.Error{Op: "StartThingRegistrationTask", Code: "ThrottlingException", Message: "Rate exceeded",
		Status: 400, RequestID: "r-1", Kind: task.ErrThrottled, Err: cause})
	assert.ErrorIs(t, err, task.ErrThrottled)
	assert.ErrorIs(t, err, cause)
	assert.NotErrorIs(t, err, task.ErrNotFound)
	e, ok := errors.AsType[*task.Error](err)
	require.True(t, ok)
	assert.Equal(t, "ThrottlingException", e.Code)
	assert.EqualError(t, err, "start: StartThingRegistrationTask: ThrottlingException: Rate exceeded (request r-1)")

	assert.ErrorIs(t, &task.Error{Err: cause}, cause)
	assert.ErrorIs(t, &task.Error{Kind: task.ErrConflict}, task.ErrConflict)
	assert.NotErrorIs(t, &task.Error{Code: "Odd"}, task.ErrConflict)
}

func TestRefusedIsTrueOnlyOfADefiniteNo(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nil":                      {nil, false},
		"a client error":           {&task.Error{Code: "InvalidRequestException", Status: 400, Kind: task.ErrInvalidRequest}, true},
		"a client error, wrapped":  {fmt.Errorf("x: %w", &task.Error{Status: 401}), true},
		"a throttle":               {&task.Error{Status: 400, Kind: task.ErrThrottled}, true},
		"an unheard code":          {&task.Error{Code: "Odd", Status: 418}, true},
		"never sent":               {&task.InputError{Member: "roleArn"}, true},
		"status 500":               {&task.Error{Status: 500}, false},
		"status 503":               {&task.Error{Status: 503, Kind: task.ErrUnavailable}, false},
		"unavailable, no status":   {&task.Error{Kind: task.ErrUnavailable}, false},
		"RequestTimeout of S3":     {&task.Error{Code: "RequestTimeout", Status: 400, Kind: task.KindOfCode("RequestTimeout")}, false},
		"outcome unknown":          {fmt.Errorf("%w: %w", task.ErrOutcomeUnknown, &task.Error{Status: 400}), false},
		"somebody else answered":   {fmt.Errorf("x: %w", task.ErrNotService), true},
		"somebody else, after it":  {fmt.Errorf("%w: %w", task.ErrOutcomeUnknown, task.ErrNotService), false},
		"a bare sentinel":          {task.ErrInvalidRequest, false},
		"the network":              {io.ErrUnexpectedEOF, false},
		"the context":              {context.Canceled, false},
		"deadline, with no answer": {fmt.Errorf("x: %w", context.DeadlineExceeded), false},
	} {
		assert.Equal(t, c.want, task.Refused(c.err), name)
	}
}

func TestTheErrorTextsSayWhatToDoOrWhere(t *testing.T) {
	assert.EqualError(t, &task.IncompleteReportError{ID: "t-1", Report: task.ErrorsReport, Got: 1, Want: 2},
		"ERRORS report of registration task t-1 holds 1 line, the task counted 2: read the report again later, or read the devices back from the registry")
	assert.EqualError(t, &task.WaitError{ID: "t-1", Last: &task.Description{Status: task.Failed, Succeeded: 1, Failed: 2, Message: "why"}},
		"registration task t-1 failed with 1 line registered and 2 refused: why")
	assert.EqualError(t, &task.WaitError{ID: "t-1", Last: &task.Description{Status: task.Cancelled}},
		"registration task t-1 was cancelled with 0 lines registered and 0 refused")
	assert.EqualError(t, &task.WaitError{ID: "t-1", Err: context.Canceled},
		"wait for registration task t-1 (state not known): context canceled")
	assert.EqualError(t, &task.FormatError{File: 2, Line: 3, Offset: 40, Problem: "is odd"}, "report file 2, line 3 (byte 40): is odd")
	assert.EqualError(t, &task.LineError{Line: 3}, "line 3: refused without a message")
	assert.EqualError(t, &task.LineError{Code: "C"}, "C")
	assert.EqualError(t, &task.LineError{Code: "C", Message: "m"}, "C: m")
	fault := &task.FormatError{Line: 1, Problem: "is not JSON"}
	assert.EqualError(t, &task.LineError{Malformed: fault}, "report line 1 (byte 0): is not JSON")
	assert.ErrorIs(t, &task.LineError{Malformed: fault}, fault)
}
