package task

import "strings"

// KindOfCode returns the Err sentinel that an AWS error code belongs to, nil when the code is not known. It is the one
// table behind [Error].Kind, for IoT, S3, IAM, STS and KMS together.
//
// A code may have the form of the X-Amzn-ErrorType header: a namespace up to "#" and whatever follows ":" are
// ignored. Case matters.
//
// [ErrTaskRunning] and [ErrLinkExpired] have no code of their own: AWS uses a general one for both, and only the caller
// of the operation knows which it is.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/CommonErrors.html and
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func KindOfCode(code string) error {
	if i := strings.LastIndexByte(code, '#'); i >= 0 {
		code = code[i+1:]
	}
	code, _, _ = strings.Cut(code, ":")
	return kinds[code]
}

// kinds maps the codes of AWS to the kinds of errors. Codes are grouped by the service that sends them; a code shared by
// several services is listed with the first of them.
var kinds = map[string]error{
	// AWS IoT: the exceptions that the operations of bulk registration and of the registry declare.
	"CertificateConflictException":         ErrConflict,
	"CertificateStateException":            ErrConflict,
	"CertificateValidationException":       ErrInvalidRequest,
	"ConflictException":                    ErrConflict,
	"ConflictingResourceUpdateException":   ErrConflict,
	"DeleteConflictException":              ErrConflict,
	"InternalException":                    ErrUnavailable,
	"InternalFailureException":             ErrUnavailable,
	"InternalServerException":              ErrUnavailable,
	"InvalidRequestException":              ErrInvalidRequest,
	"LimitExceededException":               ErrLimitExceeded,
	"MalformedPolicyException":             ErrInvalidRequest,
	"RegistrationCodeValidationException":  ErrInvalidRequest,
	"ResourceAlreadyExistsException":       ErrConflict,
	"ResourceNotFoundException":            ErrNotFound,
	"ResourceRegistrationFailureException": ErrRegistrationFailed,
	"ServiceQuotaExceededException":        ErrLimitExceeded,
	"ServiceUnavailableException":          ErrUnavailable,
	"TaskAlreadyExistsException":           ErrConflict,
	"ThrottlingException":                  ErrThrottled,
	"TransferAlreadyCompletedException":    ErrConflict,
	"TransferConflictException":            ErrConflict,
	"UnauthorizedException":                ErrAccessDenied,
	"ValidationException":                  ErrInvalidRequest,
	"VersionConflictException":             ErrConflict,
	"VersionsLimitExceededException":       ErrLimitExceeded,

	// Common to all services: who is asking, how often, and in what form.
	"AccessDenied":                        ErrAccessDenied,
	"AccessDeniedException":               ErrAccessDenied,
	"BandwidthLimitExceeded":              ErrThrottled,
	"ExpiredToken":                        ErrAccessDenied,
	"ExpiredTokenException":               ErrAccessDenied,
	"ForbiddenException":                  ErrAccessDenied,
	"IncompleteSignature":                 ErrAccessDenied,
	"IncompleteSignatureException":        ErrAccessDenied,
	"InternalFailure":                     ErrUnavailable,
	"InvalidAction":                       ErrInvalidRequest,
	"InvalidClientTokenId":                ErrAccessDenied,
	"InvalidParameterCombination":         ErrInvalidRequest,
	"InvalidParameterException":           ErrInvalidRequest,
	"InvalidParameterValue":               ErrInvalidRequest,
	"InvalidSignatureException":           ErrAccessDenied,
	"MalformedQueryString":                ErrInvalidRequest,
	"MissingAction":                       ErrInvalidRequest,
	"MissingAuthenticationToken":          ErrAccessDenied,
	"MissingAuthenticationTokenException": ErrAccessDenied,
	"MissingParameter":                    ErrInvalidRequest,
	"NotAuthorized":                       ErrAccessDenied,
	"OptInRequired":                       ErrAccessDenied,
	"PriorRequestNotComplete":             ErrThrottled,
	"RequestExpired":                      ErrAccessDenied,
	"RequestLimitExceeded":                ErrThrottled,
	"RequestThrottled":                    ErrThrottled,
	"RequestThrottledException":           ErrThrottled,
	"RequestTimeoutException":             ErrUnavailable,
	"SerializationException":              ErrInvalidRequest,
	"ServiceFailure":                      ErrUnavailable,
	"ServiceUnavailable":                  ErrUnavailable,
	"Throttling":                          ErrThrottled,
	"ThrottledException":                  ErrThrottled,
	"TooManyRequestsException":            ErrThrottled,
	"UnknownOperationException":           ErrInvalidRequest,
	"UnrecognizedClientException":         ErrAccessDenied,
	"ValidationError":                     ErrInvalidRequest,

	// S3.
	"AccountProblem":                     ErrAccessDenied,
	"AllAccessDisabled":                  ErrAccessDenied,
	"AuthorizationHeaderMalformed":       ErrWrongRegion,
	"AuthorizationQueryParametersError":  ErrAccessDenied,
	"BadDigest":                          ErrChecksum,
	"BucketAlreadyExists":                ErrConflict,
	"BucketAlreadyOwnedByYou":            ErrConflict,
	"BucketNotEmpty":                     ErrConflict,
	"CrossLocationLoggingProhibited":     ErrWrongRegion,
	"EntityTooLarge":                     ErrInvalidRequest,
	"EntityTooSmall":                     ErrInvalidRequest,
	"IllegalLocationConstraintException": ErrWrongRegion,
	"IncompleteBody":                     ErrChecksum,
	"InternalError":                      ErrUnavailable,
	"InvalidAccessKeyId":                 ErrAccessDenied,
	"InvalidArgument":                    ErrInvalidRequest,
	"InvalidBucketName":                  ErrInvalidRequest,
	"InvalidDigest":                      ErrChecksum,
	"InvalidLocationConstraint":          ErrWrongRegion,
	"InvalidObjectState":                 ErrConflict,
	"InvalidPart":                        ErrInvalidRequest,
	"InvalidPartOrder":                   ErrInvalidRequest,
	"InvalidRange":                       ErrInvalidRequest,
	"InvalidRequest":                     ErrInvalidRequest,
	"InvalidSecurity":                    ErrAccessDenied,
	"InvalidToken":                       ErrAccessDenied,
	"KeyTooLongError":                    ErrInvalidRequest,
	"MalformedXML":                       ErrInvalidRequest,
	"MethodNotAllowed":                   ErrInvalidRequest,
	"MissingContentLength":               ErrInvalidRequest,
	"MissingSecurityHeader":              ErrInvalidRequest,
	"NoSuchBucket":                       ErrNotFound,
	"NoSuchKey":                          ErrNotFound,
	"NoSuchUpload":                       ErrNotFound,
	"NoSuchVersion":                      ErrNotFound,
	"NotFound":                           ErrNotFound, // what a HEAD request, which has no body, is turned into
	"NotSignedUp":                        ErrAccessDenied,
	"OperationAborted":                   ErrConflict,
	"PermanentRedirect":                  ErrWrongRegion,
	"PreconditionFailed":                 ErrConflict,
	"ConditionalRequestConflict":         ErrConflict,
	"RequestTimeTooSkewed":               ErrAccessDenied,
	"RequestTimeout":                     ErrUnavailable,
	"SignatureDoesNotMatch":              ErrAccessDenied,
	"SlowDown":                           ErrThrottled,
	"TemporaryRedirect":                  ErrUnavailable,
	"TokenRefreshRequired":               ErrAccessDenied,
	"TooManyBuckets":                     ErrLimitExceeded,
	"XAmzContentChecksumMismatch":        ErrChecksum,
	"XAmzContentSHA256Mismatch":          ErrChecksum,

	// IAM and STS.
	"ConcurrentModification":        ErrConflict,
	"DeleteConflict":                ErrConflict,
	"EntityAlreadyExists":           ErrConflict,
	"EntityTemporarilyUnmodifiable": ErrConflict,
	"IDPCommunicationError":         ErrUnavailable,
	"InvalidInput":                  ErrInvalidRequest,
	"LimitExceeded":                 ErrLimitExceeded,
	"MalformedPolicyDocument":       ErrInvalidRequest,
	"NoSuchEntity":                  ErrNotFound,
	"PackedPolicyTooLarge":          ErrInvalidRequest,
	"PolicyNotAttachable":           ErrInvalidRequest,
	"RegionDisabledException":       ErrAccessDenied,
	"UnmodifiableEntity":            ErrConflict,

	// KMS, as S3 passes it on when an object is encrypted with a key.
	"KMS.DisabledException":        ErrAccessDenied,
	"KMS.InvalidKeyUsage":          ErrInvalidRequest,
	"KMS.InvalidStateException":    ErrConflict,
	"KMS.KMSInvalidStateException": ErrConflict,
	"KMS.NotFoundException":        ErrNotFound,
}
