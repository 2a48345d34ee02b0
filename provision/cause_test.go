package provision_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/provision"
)

func TestFailuresAreSortedByWhatHasToBeDone(t *testing.T) {
	for _, c := range []struct {
		code, text string
		want       provision.Cause
	}{
		// Texts that users of AWS met, and texts of other tools that follow AWS's.
		{"", "Invalid registration template. Cannot resolve reference value: {Ref=ThingName}", provision.CauseInvalidTemplate},
		{"InvalidRequestException", "Invalid registration template. Cannot resolve reference value: {Ref=SerialNumber}", provision.CauseInvalidTemplate},
		{"", "Invalid registration template. Neither policyName nor policyDocument is present in the Template.", provision.CauseInvalidTemplate},
		{"ResourceRegistrationFailureException", "Thing type not found", provision.CauseTypeMissing},
		{"", "Thing Type 123456789012:sensor not found", provision.CauseTypeMissing},
		{"", "Thing dev-1 already exists in account with different attributes", provision.CauseConflict},
		{"", "Can not create new thing with depreated thing type:sensor", provision.CauseTypeMissing},
		{"", "Policy cannot be created - name already exists (name=fleet)", provision.CauseConflict},
		{"", "Thing Group lamps already exists in current account with different properties", provision.CauseConflict},
		// The service's codes in the text, as the SDK words them.
		{"", "Rate exceeded (Service: AWSIot; Status Code: 429; Error Code: ThrottlingException)", provision.CauseThrottled},
		{"", "Thing Type 1:x not found (Service: AWSIot; Status Code: 404; Error Code: ResourceNotFoundException)", provision.CauseTypeMissing},
		{"", "Thing group lamps not found", provision.CauseGroupMissing},
		{"", "Billing group lamps not found", provision.CauseGroupMissing},
		{"", "Policy not found (name=fleet)", provision.CausePolicyMissing},
		{"", "User: arn:aws:sts::1:assumed-role/r/iot is not authorized to perform: iot:CreateThing on resource: *", provision.CauseRole},
		{"", "The certificate signing request has no line breaks (Service: AWSIot; Status Code: 400; Error Code: InvalidRequestException)", provision.CauseCSRRefused},
		{"", "1 validation error detected: Value 'a b' at 'thingName' failed to satisfy constraint: Member must satisfy regular expression pattern", provision.CauseInvalidValue},
		{"", "The maximum number of policies on a principal is 10", provision.CauseQuota},
		{"", "The certificate is already provisioned or registered: 0123", provision.CauseConflict},
		{"", "Internal Failure (Service: AWSIot; Status Code: 500; Error Code: InternalFailureException)", provision.CauseService},
		// A code decides when the text does not.
		{"ThrottlingException", "", provision.CauseThrottled},
		{"LimitExceededException", "too much", provision.CauseQuota},
		{"UnauthorizedException", "no", provision.CauseRole},
		{"ResourceAlreadyExistsException", "it is there", provision.CauseConflict},
		{"InternalFailureException", "oops", provision.CauseService},
		// What is in a name decides nothing.
		{"", "Thing throttle-valve-7 already exists in account with different attributes", provision.CauseConflict},
		{"", "Thing policy-7 already exists in account with different attributes", provision.CauseConflict},
		{"", "Thing Type 1:throttled not found", provision.CauseTypeMissing},
		{"", "something new", provision.CauseOther},
		{"", "", provision.CauseOther},
	} {
		assert.Equal(t, c.want, provision.ClassifyFailure(c.code, c.text), "%s: %s", c.code, c.text)
	}
}

func TestOnlyCausesThatCanPassAreRetryable(t *testing.T) {
	for cause, want := range map[provision.Cause]bool{
		provision.CauseThrottled: true, provision.CauseTypeMissing: true, provision.CauseRole: true, provision.CauseTask: true, provision.CauseQuota: true,
		provision.CauseService: true, provision.CauseKey: true, provision.CauseGroupMissing: true, provision.CausePolicyMissing: true,
		provision.CauseNone: false, provision.CauseInvalidRecord: false, provision.CauseDuplicate: false, provision.CauseCSRRefused: false,
		provision.CauseConflict: false, provision.CauseInvalidTemplate: false, provision.CauseInvalidValue: false, provision.CauseCertificate: false,
		provision.CauseOther: false,
	} {
		assert.Equal(t, want, cause.Retryable(), string(cause))
	}
}
