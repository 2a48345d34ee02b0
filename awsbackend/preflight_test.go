package awsbackend

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ready answers a preflight in which nothing is wrong.
func ready() (answers, *iamState) {
	docs, _ := RoleDocuments(inRegion, "", "fleet-bucket", &task.RoleInput{Name: "fleet-registration", ObjectPrefix: "in/"})
	state := &iamState{trust: walkthroughTrust, created: time.Now(), inline: map[string]string{docs.PolicyName: docs.Policy}, attached: []string{managedARN}}
	a := state.answers()
	a[listOp] = noneRunning
	a["HeadBucket"] = bucketHere
	a["GetPublicAccessBlock"] = reply(200, `<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>
		<BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>`)
	a["DescribeThingType"] = reply(200, `{"thingTypeName":"sensor","thingTypeMetadata":{"deprecated":false}}`)
	a["DescribeThingGroup"] = reply(200, `{"thingGroupName":"line-7"}`)
	a["DescribeBillingGroup"] = reply(200, `{"billingGroupName":"plant"}`)
	iamPolicy := a["GetPolicy"]
	a["GetPolicy"] = func(r *request) *http.Response { // IoT and IAM both have an operation of this name
		if r.Method == http.MethodGet {
			return response(200, `{"policyName":"device"}`)
		}
		return iamPolicy(r)
	}
	return a, state
}

var preflightInput = &task.PreflightInput{
	TemplateBody: `{"Resources":{}}`, RoleARN: roleARN,
	ThingTypes: []string{"sensor"}, ThingGroups: []string{"line-7"}, BillingGroups: []string{"plant"}, Policies: []string{"device"},
}

func findings(t *testing.T, b *Backend, in *task.PreflightInput) map[finding.Rule]finding.Finding {
	t.Helper()
	list, err := b.Preflight(t.Context(), in)
	require.NoError(t, err)
	byCheck := map[finding.Rule]finding.Finding{}
	for _, f := range list {
		byCheck[f.Rule] = f
	}
	return byCheck
}

func TestAPreflightWithNothingWrongIsAllOK(t *testing.T) {
	a, _ := ready()
	b, w := onWire(t, a)
	list, err := b.Preflight(t.Context(), preflightInput)
	require.NoError(t, err)
	var checks []finding.Rule
	for _, f := range list {
		assert.Equal(t, finding.OK, f.Severity, "%s: %s", f.Rule, f.Message)
		checks = append(checks, f.Rule)
	}
	assert.Equal(t, []finding.Rule{CheckTemplate, CheckEndpoint, CheckTaskRunning, CheckBucket, CheckBucketRegion, CheckBucketPublic,
		CheckRole, CheckRoleTrust, CheckRoleRead, CheckRoleRegistration, CheckThingType, CheckThingGroup, CheckBillingGroup, CheckPolicy}, checks)
	for _, op := range w.ops() {
		assert.True(t, strings.HasPrefix(op, "Get") || strings.HasPrefix(op, "List") || strings.HasPrefix(op, "Describe") || op == "HeadBucket", op)
	}
}

func TestPreflightFindsEveryARNThatIsNotOfARole(t *testing.T) {
	for arn, text := range map[string]string{
		"":                          "not the ARN of a role",
		"fleet-registration":        "not the ARN of a role",
		"arn:aws:iam::123456789012": "not the ARN of a role",
		"xxx:aws:iam::123456789012:role/fleet-registration":    "not the ARN of a role",
		"arn:aws:sts::123456789012:role/fleet-registration":    "not the ARN of a role",
		"arn:aws:iam::123456789012:user/fleet-registration":    "not the ARN of a role",
		"arn:aws:iam::999999999999:role/fleet-registration":    "account 999999999999",
		"arn:aws-cn:iam::123456789012:role/fleet-registration": "aws-cn account",
	} {
		t.Run(arn, func(t *testing.T) {
			a, _ := ready()
			b, _ := onWire(t, a)
			in := *preflightInput
			in.RoleARN = arn
			found := findings(t, b, &in)[CheckRole]
			assert.Equal(t, finding.Error, found.Severity)
			assert.Contains(t, found.Message, text)
		})
	}
}

func TestPreflightFindsWhatWouldFail(t *testing.T) {
	iotMissing := missing
	for name, c := range map[string]struct {
		change func(answers, *iamState, *task.PreflightInput)
		check  finding.Rule
		result finding.Severity
		detail string
	}{
		"template too long": {func(_ answers, _ *iamState, in *task.PreflightInput) { in.TemplateBody = strings.Repeat(" ", 10241) },
			CheckTemplate, finding.Error, "10241"},
		"the fake": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			for op, answer := range a {
				a[op] = marked(answer)
			}
		}, CheckEndpoint, finding.Warning, "fake"},
		"credentials": {func(a answers, _ *iamState, in *task.PreflightInput) {
			a["GetCallerIdentity"] = queryError(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
		}, CheckEndpoint, finding.Error, "does not accept the credentials"},
		"task running": {func(a answers, _ *iamState, _ *task.PreflightInput) { a[listOp] = reply(200, `{"taskIds":["t-9"]}`) },
			CheckTaskRunning, finding.Warning, "t-9"},
		"no bucket": {func(a answers, _ *iamState, _ *task.PreflightInput) { a["HeadBucket"] = noBucket },
			CheckBucket, finding.Error, "EnsureBucket"},
		"bucket elsewhere": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			a["HeadBucket"] = reply(301, "", "X-Amz-Bucket-Region", "us-west-2")
			a["GetPublicAccessBlock"] = xmlError(301, "PermanentRedirect", "elsewhere")
		}, CheckBucketRegion, finding.Error, "us-west-2"},
		"bucket hidden": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			a["HeadBucket"], a["GetBucketLocation"] = head(403, "X-Amz-Bucket-Region", inRegion), denied
		}, CheckBucket, finding.Unknown, "s3:ListBucket"},
		"bucket open": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			a["GetPublicAccessBlock"] = xmlError(404, "NoSuchPublicAccessBlockConfiguration", "none")
		}, CheckBucketPublic, finding.Warning, "PutPublicAccessBlock"},
		"bucket half open": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			a["GetPublicAccessBlock"] = reply(200, `<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>`)
		}, CheckBucketPublic, finding.Warning, "all public access"},
		"no role": {func(_ answers, s *iamState, _ *task.PreflightInput) { s.trust = "" },
			CheckRole, finding.Error, "EnsureRole"},
		"role unreadable": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			a["GetRole"] = queryError(403, "AccessDenied", "no")
		},
			CheckRole, finding.Unknown, "iam:GetRole"},
		"role of another account": {func(_ answers, _ *iamState, in *task.PreflightInput) { in.RoleARN = "arn:aws:iam::999999999999:role/r" },
			CheckRole, finding.Error, "999999999999"},
		"role with a path": {func(_ answers, _ *iamState, in *task.PreflightInput) {
			in.RoleARN = "arn:aws:iam::123456789012:role/path/fleet-registration"
		},
			CheckRole, finding.Error, roleARN},
		"no ARN": {func(_ answers, _ *iamState, in *task.PreflightInput) { in.RoleARN = "fleet-registration" },
			CheckRole, finding.Error, "not the ARN of a role"},
		"trusts another": {func(_ answers, s *iamState, _ *task.PreflightInput) {
			s.trust = strings.Replace(walkthroughTrust, "iot.", "lambda.", 1)
		}, CheckRoleTrust, finding.Error, "EnsureRole"},
		"trust with a condition": {func(_ answers, s *iamState, _ *task.PreflightInput) {
			s.trust = strings.Replace(walkthroughTrust, `"Action"`, `"Condition":{"ArnLike":{"aws:SourceArn":"x"}},"Action"`, 1)
		}, CheckRoleTrust, finding.Unknown, "conditions"},
		"guarded for this account": {func(_ answers, s *iamState, _ *task.PreflightInput) {
			s.trust = strings.Replace(walkthroughTrust, `"Action"`, `"Condition":{"StringEquals":{"aws:SourceAccount":"123456789012"}},"Action"`, 1)
		}, CheckRoleTrust, finding.OK, "may assume it"},
		"cannot read the bucket": {func(_ answers, s *iamState, _ *task.PreflightInput) { clear(s.inline) },
			CheckRoleRead, finding.Error, "s3:GetObject"},
		"reading is denied": {func(_ answers, s *iamState, _ *task.PreflightInput) {
			s.inline["deny"] = `{"Statement":{"Effect":"Deny","Action":"s3:*","Resource":"*"}}`
		}, CheckRoleRead, finding.Error, "denies"},
		"policies unreadable": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			a["ListRolePolicies"] = queryError(403, "AccessDenied", "no")
		}, CheckRoleRead, finding.Unknown, "iam:ListRolePolicies"},
		"cannot register": {func(_ answers, s *iamState, _ *task.PreflightInput) { s.attached = nil },
			CheckRoleRegistration, finding.Error, "AWSIoTThingsRegistration is not attached"},
		"registers by a policy of its own": {func(_ answers, s *iamState, _ *task.PreflightInput) {
			s.attached, s.inline["all"] = nil, `{"Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`
		}, CheckRoleRegistration, finding.OK, ""},
		"registers certain things only": {func(_ answers, s *iamState, _ *task.PreflightInput) {
			s.attached, s.inline["some"] = nil, `{"Statement":{"Effect":"Allow","Action":"iot:*","Resource":"arn:aws:iot:eu-central-1:123456789012:*"}}`
		}, CheckRoleRegistration, finding.Unknown, "certain resources only: iot:AttachPolicy"},
		"certain things only, and nothing for policies": {func(_ answers, s *iamState, _ *task.PreflightInput) {
			s.attached, s.inline["some"] = nil, `{"Statement":{"Effect":"Allow","NotAction":["iot:AttachPolicy"],"Resource":"arn:aws:iot:eu-central-1:123456789012:*"}}`
		}, CheckRoleRegistration, finding.Error, "not allowed otherwise: iot:AttachPolicy"},
		"trust with a denial under a condition": {func(_ answers, s *iamState, _ *task.PreflightInput) {
			s.trust = strings.Replace(walkthroughTrust, `"Statement": [`, `"Statement": [{"Effect":"Deny","Principal":{"Service":"iot.amazonaws.com"},
				"Action":"sts:AssumeRole","Condition":{"ArnNotLike":{"aws:SourceArn":"arn:aws:iot:*:999999999999:*"}}},`, 1)
		}, CheckRoleTrust, finding.Unknown, "conditions"},
		"trust with a denial for all accounts except another": {func(_ answers, s *iamState, _ *task.PreflightInput) {
			s.trust = strings.Replace(walkthroughTrust, `"Statement": [`, `"Statement": [{"Effect":"Deny","Principal":{"Service":"iot.amazonaws.com"},
				"Action":"sts:AssumeRole","Condition":{"StringNotEquals":{"aws:SourceAccount":"999999999999"}}},`, 1)
		}, CheckRoleTrust, finding.Error, "does not let"},
		"trust with a denial for everyone": {func(_ answers, s *iamState, _ *task.PreflightInput) {
			s.trust = strings.Replace(walkthroughTrust, `"Statement": [`, `"Statement": [{"Effect":"Deny","Principal":"*","Action":"sts:*"},`, 1)
		}, CheckRoleTrust, finding.Error, "does not let"},
		"AWS's own policy may not be read": {func(a answers, _ *iamState, in *task.PreflightInput) {
			in.Policies = nil
			a["GetPolicy"] = queryError(403, "AccessDenied", "no")
		}, CheckRoleRegistration, finding.OK, ""},
		"certificates without a CA": {func(_ answers, _ *iamState, in *task.PreflightInput) {
			in.TemplateBody = `{"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificatePem":{"Ref":"Pem"}}}}}`
		}, CheckRoleRegistration, finding.Warning, "iot:RegisterCertificateWithoutCA"},
		"no thing type":    {func(a answers, _ *iamState, _ *task.PreflightInput) { a["DescribeThingType"] = iotMissing }, CheckThingType, finding.Error, "make it first"},
		"no thing group":   {func(a answers, _ *iamState, _ *task.PreflightInput) { a["DescribeThingGroup"] = iotMissing }, CheckThingGroup, finding.Error, "make it first"},
		"no billing group": {func(a answers, _ *iamState, _ *task.PreflightInput) { a["DescribeBillingGroup"] = iotMissing }, CheckBillingGroup, finding.Error, "make it first"},
		"thing type deprecated": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			a["DescribeThingType"] = reply(200, `{"thingTypeName":"sensor","thingTypeMetadata":{"deprecated":true}}`)
		}, CheckThingType, finding.Error, "deprecated"},
		"dynamic group": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			a["DescribeThingGroup"] = reply(200, `{"thingGroupName":"g","queryString":"attributes.x:1"}`)
		}, CheckThingGroup, finding.Error, "dynamic"},
		"bad type name": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			a["DescribeThingType"] = exception(400, "InvalidRequestException", "1 validation error")
		}, CheckThingType, finding.Error, "validation"},
		"type may not be read": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			a["DescribeThingType"] = exception(403, "AccessDeniedException", "")
		}, CheckThingType, finding.Unknown, "iot:DescribeThingType"},
		"no policy": {func(a answers, _ *iamState, _ *task.PreflightInput) {
			iam := a["GetPolicy"]
			a["GetPolicy"] = func(r *request) *http.Response {
				if r.Method == http.MethodGet {
					return missing(r)
				}
				return iam(r)
			}
		}, CheckPolicy, finding.Error, "an IAM policy does not count"},
	} {
		t.Run(name, func(t *testing.T) {
			a, state := ready()
			in := *preflightInput
			c.change(a, state, &in)
			b, _ := onWire(t, a)
			f := findings(t, b, &in)
			require.Contains(t, f, c.check)
			assert.Equal(t, c.result, f[c.check].Severity, f[c.check].Message)
			assert.Contains(t, f[c.check].Message, c.detail)
		})
	}
}

func TestPreflightChecksTheKMSKey(t *testing.T) {
	const key = "arn:aws:kms:eu-central-1:123456789012:key/1234"
	for id, want := range map[string]finding.Severity{key: finding.Error, "alias/fleet": finding.Unknown} {
		a, _ := ready()
		b, _ := onWireWith(t, Options{Bucket: "fleet-bucket", Prefix: "in", KMSKeyID: id}, a)
		assert.Equal(t, want, findings(t, b, preflightInput)[CheckRoleDecrypt].Severity)
	}
}

func TestPoliciesThatMayNotBeReadLeaveEveryCheckOfThemOpen(t *testing.T) {
	a, _ := ready()
	a["ListRolePolicies"] = queryError(403, "AccessDenied", "no")
	b, _ := onWireWith(t, Options{Bucket: "fleet-bucket", KMSKeyID: "arn:aws:kms:eu-central-1:123456789012:key/1234"}, a)
	f := findings(t, b, preflightInput)
	for _, check := range []finding.Rule{CheckRoleRead, CheckRoleDecrypt, CheckRoleRegistration} {
		assert.Equal(t, finding.Unknown, f[check].Severity, check)
		assert.Contains(t, f[check].Message, "iam:ListRolePolicies", check)
	}
}

func TestABucketElsewhereIsNotSaidToBeListable(t *testing.T) {
	a, _ := ready()
	a["HeadBucket"] = head(403, "X-Amz-Bucket-Region", "us-west-2")
	a["GetPublicAccessBlock"] = xmlError(301, "PermanentRedirect", "elsewhere")
	b, _ := onWire(t, a)
	assert.Equal(t, "exists", findings(t, b, preflightInput)[CheckBucket].Message)
}

func TestPreflightAsksForEachNameOnce(t *testing.T) {
	a, _ := ready()
	b, w := onWire(t, a)
	in := *preflightInput
	in.ThingTypes = []string{"b", "", "a", "b", "a"}
	list, err := b.Preflight(t.Context(), &in)
	require.NoError(t, err)
	var types []string
	for _, f := range list {
		if f.Rule == CheckThingType {
			types = append(types, f.Resource)
		}
	}
	assert.Equal(t, []string{"a", "b"}, types)
	assert.Equal(t, 2, w.count("DescribeThingType"))
	assert.Equal(t, []string{"b", "", "a", "b", "a"}, in.ThingTypes, "the caller's list stays as it is")
}

func TestAPreflightThatCannotReachAWSIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, _ := ready()
		a["DescribeThingGroup"] = func(*request) *http.Response { return nil }
		b, _ := onWire(t, a)
		list, err := b.Preflight(t.Context(), preflightInput)
		require.ErrorIs(t, err, task.ErrUnavailable)
		assert.True(t, slices.ContainsFunc(list, func(f finding.Finding) bool { return f.Rule == CheckThingType }), "what was found until then is given")
		_, err = b.Preflight(t.Context(), nil)
		require.ErrorIs(t, err, task.ErrInvalidRequest)
	})
}
