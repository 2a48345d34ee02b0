package provision

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestFailuresAreSortedByWhatHasToBeDone(t *testing.T) {
	for _, c := range []struct {
		code, text string
		want       Cause
	}{
		// Texts that users of AWS met, and texts of other tools that follow AWS's.
		{"", "Invalid registration template. Cannot resolve reference value: {Ref=ThingName}", CauseInvalidTemplate},
		{"InvalidRequestException", "Invalid registration template. Cannot resolve reference value: {Ref=SerialNumber}", CauseInvalidTemplate},
		{"", "Invalid registration template. Neither policyName nor policyDocument is present in the Template.", CauseInvalidTemplate},
		{"ResourceRegistrationFailureException", "Thing type not found", CauseTypeMissing},
		{"", "Thing Type 123456789012:sensor not found", CauseTypeMissing},
		{"", "Thing dev-1 already exists in account with different attributes", CauseConflict},
		{"", "Can not create new thing with depreated thing type:sensor", CauseTypeMissing},
		{"", "Policy cannot be created - name already exists (name=fleet)", CauseConflict},
		{"", "Thing Group lamps already exists in current account with different properties", CauseConflict},
		// The service's codes in the text, as the SDK words them.
		{"", "Rate exceeded (Service: AWSIot; Status Code: 429; Error Code: ThrottlingException)", CauseThrottled},
		{"", "Thing Type 1:x not found (Service: AWSIot; Status Code: 404; Error Code: ResourceNotFoundException)", CauseTypeMissing},
		{"", "Thing group lamps not found", CauseGroupMissing},
		{"", "Billing group lamps not found", CauseGroupMissing},
		{"", "Policy not found (name=fleet)", CausePolicyMissing},
		{"", "User: arn:aws:sts::1:assumed-role/r/iot is not authorized to perform: iot:CreateThing on resource: *", CauseRole},
		{"", "The certificate signing request has no line breaks (Service: AWSIot; Status Code: 400; Error Code: InvalidRequestException)", CauseCSRRefused},
		{"", "1 validation error detected: Value 'a b' at 'thingName' failed to satisfy constraint: Member must satisfy regular expression pattern", CauseInvalidValue},
		{"", "The maximum number of policies on a principal is 10", CauseQuota},
		{"", "The certificate is already provisioned or registered: 0123", CauseConflict},
		{"", "Internal Failure (Service: AWSIot; Status Code: 500; Error Code: InternalFailureException)", CauseService},
		// A code decides when the text does not.
		{"ThrottlingException", "", CauseThrottled},
		{"LimitExceededException", "too much", CauseQuota},
		{"UnauthorizedException", "no", CauseRole},
		{"ResourceAlreadyExistsException", "it is there", CauseConflict},
		{"InternalFailureException", "oops", CauseService},
		// What is in a name decides nothing.
		{"", "Thing throttle-valve-7 already exists in account with different attributes", CauseConflict},
		{"", "Thing policy-7 already exists in account with different attributes", CauseConflict},
		{"", "Thing Type 1:throttled not found", CauseTypeMissing},
		{"", "something new", CauseOther},
		{"", "", CauseOther},
	} {
		assert.Equal(t, c.want, classifyFailure(c.code, c.text), "%s: %s", c.code, c.text)
	}
}

func TestOnlyCausesThatCanPassAreRetryable(t *testing.T) {
	for cause, want := range map[Cause]bool{
		CauseThrottled: true, CauseTypeMissing: true, CauseRole: true, CauseTask: true, CauseQuota: true,
		CauseService: true, CauseKey: true, CauseGroupMissing: true, CausePolicyMissing: true,
		CauseNone: false, CauseInvalidRecord: false, CauseDuplicate: false, CauseCSRRefused: false,
		CauseConflict: false, CauseInvalidTemplate: false, CauseInvalidValue: false, CauseCertificate: false,
		CauseOther: false,
	} {
		assert.Equal(t, want, cause.Retryable(), string(cause))
	}
}
