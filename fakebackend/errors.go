package fakebackend

import (
	"context"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/task"
)

// AWS's error codes, as the fake uses them.
const (
	codeInvalidRequest      = "InvalidRequestException"
	codeNotFound            = "ResourceNotFoundException"
	codeAlreadyExists       = "ResourceAlreadyExistsException"
	codeThrottling          = "ThrottlingException"
	codeUnauthorized        = "UnauthorizedException"
	codeInternalFailure     = "InternalFailureException"
	codeUnavailable         = "ServiceUnavailableException"
	codeLimitExceeded       = "LimitExceededException"
	codeMalformedPolicy     = "MalformedPolicyException"
	codeDeleteConflict      = "DeleteConflictException"
	codeVersionConflict     = "VersionConflictException"
	codeVersionsLimit       = "VersionsLimitExceededException"
	codeConflictingUpdate   = "ConflictingResourceUpdateException"
	codeRegistrationFailure = "ResourceRegistrationFailureException"
	codeCertificateConflict = "CertificateConflictException"
	codeCertificateState    = "CertificateStateException"
	codeCertificateInvalid  = "CertificateValidationException"
	codeRegistrationCode    = "RegistrationCodeValidationException"
	codeTransferConflict    = "TransferConflictException"
	codeAccessDenied        = "AccessDeniedException"

	// codeResourceConflicts is named in AWS's documentation of OverrideSettings, but is no exception of the API. It
	// can only show up as text in a report.
	codeResourceConflicts = "ResourceConflictsException"
)

// statusOf holds the HTTP status of an error code; a code that is not here has 400.
var statusOf = map[string]int{
	codeUnauthorized:        401,
	codeAccessDenied:        403,
	codeNotFound:            404,
	codeCertificateState:    406,
	codeAlreadyExists:       409,
	codeDeleteConflict:      409,
	codeVersionConflict:     409,
	codeVersionsLimit:       409,
	codeConflictingUpdate:   409,
	codeCertificateConflict: 409,
	codeTransferConflict:    409,
	codeResourceConflicts:   409,
	codeLimitExceeded:       410,
	codeInternalFailure:     500,
	codeUnavailable:         503,

	// of S3
	"NoSuchBucket": 404, "NoSuchKey": 404, "AccessDenied": 403, "BucketAlreadyOwnedByYou": 409, "BucketAlreadyExists": 409,
	"SlowDown": 503, "InternalError": 500,
}

// refuse makes the error of a request in AWS's form. The operation's name is added by whoever answers the caller.
func refuse(code, format string, args ...any) *task.Error {
	status, ok := statusOf[code]
	if !ok {
		status = 400
	}
	return &task.Error{Code: code, Status: status, Message: fmt.Sprintf(format, args...), Kind: task.KindOfCode(code)}
}

// interrupted is the error of a request whose context ended before it had any effect.
func interrupted(ctx context.Context, op string) error {
	return fmt.Errorf("fakebackend: %s: %w", op, context.Cause(ctx))
}

// lost is the error of a request whose answer was dropped.
func lost(op, what string) error {
	return fmt.Errorf("fakebackend: %s: %s: %w", op, what, task.ErrOutcomeUnknown)
}

// withResource adds the resource that is in the way.
func withResource(err *task.Error, id, arn string) *task.Error {
	err.Err = &wire.ExistingResource{ID: id, ARN: arn}
	return err
}
