package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

const here = "arn:aws:iot:us-east-1:123456789012:"

// allowing is a document with one statement.
func allowing(actions, resources string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":` + actions + `,"Resource":` + resources + `}]}`
}

func readDocument(t *testing.T, text string) *policy.Document {
	t.Helper()
	d, problems := policy.Parse(text)
	require.Empty(t, problems, text)
	return d
}

func TestEachFaultThatKeepsAPolicyFromItsEffectIsNamed(t *testing.T) {
	on := func(resource string) string { return allowing(`"iot:Connect"`, `"`+here+resource+`"`) }
	under := func(condition string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":` + condition + `}]}`
	}
	for _, tc := range []struct {
		document string
		kind     policy.Kind
		meant    string
		message  string
	}{
		{allowing(`"iot:recieve"`, `"*"`), policy.UnknownAction, "iot:Receive", `AWS documents no action "iot:recieve" for devices`},
		{allowing(`["iot:Connect","Publish"]`, `"*"`), policy.UnknownAction, "iot:Publish", ""},
		{allowing(`"mqtt:Connect"`, `"*"`), policy.UnknownAction, "iot:Connect", ""},
		{allowing(`"iot.Connect"`, `"*"`), policy.UnknownAction, "iot:Connect", ""},
		{allowing(`"iot:DescribeEndpoint"`, `"*"`), policy.UnknownAction, "", ""},
		{allowing(`"sns:Publish"`, `"*"`), policy.UnknownAction, "", ""},
		{allowing(`"iot:Publsh*"`, `"*"`), policy.UnknownAction, "", ""},
		{`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","NotAction":"iot:Conect","Resource":"*"}]}`, policy.UnknownAction, "iot:Connect", ""},

		{on("client/${iot:Connection.ThingName}"), policy.UnknownVariable, "iot:Connection.Thing.ThingName", `there is no variable "${iot:Connection.ThingName}"`},
		{on("client/${iot:ThingName}"), policy.UnknownVariable, "iot:Connection.Thing.ThingName", ""},
		{on("client/${iot:Client}"), policy.UnknownVariable, "iot:ClientId", ""},
		{on("client/${iot:Connection.Thing.Attribute[a]}"), policy.UnknownVariable, "iot:Connection.Thing.Attributes[name]", ""},
		{on("client/${iot:Certificate.CommonName}"), policy.UnknownVariable, "iot:Certificate.Subject.CommonName", ""},
		{on("client/${iot:Something}"), policy.UnknownVariable, "", ""},
		{on("client/${ThingName}"), policy.UnknownVariable, "iot:Connection.Thing.ThingName", "placeholder"},
		{on("client/${DEVICE}"), policy.UnknownVariable, "", "placeholder"},
		{on("client/${AWS::StackName}"), policy.UnknownVariable, "", "CloudFormation"},
		{on("client/${aws:SourceIP2}"), policy.UnknownVariable, "aws:SourceIp", ""},
		{on("client/${iot:ClientId"), policy.UnknownVariable, "", "} is missing"},
		{on("client/$iot:ClientId"), policy.UnknownVariable, "", "plain text"},
		{on("client/{iot:Connection.Thing.ThingName}"), policy.UnknownVariable, "", "plain text"},
		{under(`{"StringEquals":{"iot:Connection.ThingTypeName":"a"}}`), policy.UnknownVariable, "iot:Connection.Thing.ThingTypeName", `condition key "iot:Connection.ThingTypeName"`},
		{under(`{"StringEquals":{"iot:ClientId":"${iot:Thing}"}}`), policy.UnknownVariable, "", `variable "${iot:Thing}"`},

		{allowing(`"iot:Subscribe"`, `"`+here+`topic/a"`), policy.WrongResource, "", "iot:Subscribe acts on resources of the type topicfilter/"},
		{allowing(`"iot:Publish"`, `"`+here+`topicfilter/a"`), policy.WrongResource, "", "iot:Publish acts on resources of the type topic/"},
		{allowing(`["iot:Receive","iot:Publish"]`, `["`+here+`topicfilter/a"]`), policy.WrongResource, "", "iot:Receive acts on"},
		{allowing(`["iot:Connect","iot:Publish"]`, `"`+here+`topic/a"`), policy.WrongResource, "", "iot:Connect acts on resources of the type client/"},
		{allowing(`"iot:GetThingShadow"`, `"`+here+`topic/$aws/things/a/shadow/get"`), policy.WrongResource, "", "thing/"},
		{allowing(`"iot:Subscribe"`, `["`+here+`topicfilter/a","`+here+`topic/a"]`), policy.UnusedResource, "", "topic/a"},
		{on("clients/a"), policy.WrongResource, "client/", ""},
		{allowing(`"iot:Publish"`, `"`+here+`topics/a"`), policy.WrongResource, "topic/", ""},
		{allowing(`"iot:Connect"`, `"client/a"`), policy.WrongResource, "", "no ARN"},
		{allowing(`"iot:Connect"`, `""`), policy.WrongResource, "", "empty"},
		{allowing(`"iot:Connect"`, `"arn:aws:us-east-1:123456789012:client/a"`), policy.WrongResource, "", "not a whole ARN"},
		{allowing(`"iot:Connect"`, `"arn:aws:iotdata:us-east-1:123456789012:client/a"`), policy.WrongResource, "", `the service "iotdata"`},

		{allowing(`"iot:Publish"`, `"`+here+`topic/a/+/b"`), policy.TopicWildcard, "", "write * for any characters"},
		{allowing(`"iot:Receive"`, `"`+here+`topic/#"`), policy.TopicWildcard, "", ""},

		{allowing(`"iot:Connect"`, `"arn:aws:iot:REGION:123456789012:client/a"`), policy.Placeholder, "", `"REGION" for its region`},
		{allowing(`"iot:Connect"`, `"arn:aws:iot:us-east-1:ACCOUNT_ID:client/a"`), policy.Placeholder, "", `"ACCOUNT_ID" for its account`},
		{allowing(`"iot:Connect"`, `"arn:aws:iot:${AWS_REGION}:123456789012:client/a"`), policy.Placeholder, "", `"${AWS_REGION}" for its region`},
		{allowing(`"iot:Connect"`, `"arn:${AWS::Partition}:iot:us-east-1:123456789012:client/a"`), policy.Placeholder, "", "partition"},
		{allowing(`"iot:Connect"`, `"arn:aws:iot:<region>:123456789012:client/a"`), policy.Placeholder, "", ""},
		{allowing(`"iot:Connect"`, `"arn:aws:iot:us-east-1::client/a"`), policy.Placeholder, "", "has no account"},
		{allowing(`"iot:Connect"`, `"arn:aws:iot::123456789012:client/a"`), policy.Placeholder, "", "has no region"},
		{allowing(`"iot:Connect"`, `"arn:aws:iot:us-east-1:12345:client/a"`), policy.Placeholder, "", "12345"},
	} {
		problems := readDocument(t, tc.document).CheckDevice()
		found := false
		for _, p := range problems {
			if p.Kind == tc.kind && p.Meant == tc.meant && strings.Contains(p.Message, tc.message) {
				found = true
				assert.Contains(t, p.Message, "statement 1 of the policy: ")
				assert.Equal(t, p.Meant != "", strings.Contains(p.Message, "did you mean "+p.Meant+"?"))
			}
		}
		assert.True(t, found, "%s: %s (meant %q, %q) is missing from %v", tc.document, tc.kind, tc.meant, tc.message, problems)
	}
}

func TestAllFaultsOfAPolicyAreReportedAtOnceAndAPlaceholderOnce(t *testing.T) {
	const elsewhere = "arn:aws:iot:REGION:ACCOUNT:"
	d := readDocument(t, `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"`+elsewhere+`client/${iot:Connection.ThingName}"},
		{"Effect":"Allow","Action":"iot:Subscribe","Resource":"`+elsewhere+`topic/a/+"},
		{"Effect":"Allow","Action":"iot:recieve","Resource":"`+elsewhere+`topic/a"}]}`)
	kinds := map[policy.Kind]int{}
	for _, p := range d.CheckDevice() {
		kinds[p.Kind]++
	}
	assert.Equal(t, map[policy.Kind]int{
		policy.Placeholder: 2, policy.UnknownVariable: 1, policy.WrongResource: 1, policy.TopicWildcard: 1, policy.UnknownAction: 1,
	}, kinds)
}

// The shapes of policies that AWS publishes for devices. None has a fault.
func TestPoliciesAsAWSPublishesThemHaveNoFault(t *testing.T) {
	for source, document := range map[string]string{
		"thing-policy-variables": allowing(`["iot:Connect"]`, `["`+here+`client/${iot:Connection.Thing.ThingName}"]`),
		"basic-policy-variables": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Publish"],"Resource":["` + here +
			`topic/my/topic/${iot:ClientId}"],"Condition":{"IpAddress":{"aws:SourceIp":"123.45.167.89"}}}]}`,
		"cert-policy-variables": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Publish"],"Resource":["` + here +
			`topic/${iot:Certificate.Subject.Country.1}/${iot:CertificateId}"],"Condition":{"ForAnyValue:StringEquals":
			{"iot:Certificate.Subject.Organization.List":["Example Corp"]}}}]}`,
		"certificate-policy-examples": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Publish"],"Resource":"` + here +
			`topic/${iot:Connection.Thing.Attributes[attributeName]}/*","Condition":{"StringEquals":{"iot:Connection.Thing.Attributes[a]":"b",
			"iot:Connection.Thing.ThingTypeName":"t"},"Bool":{"iot:Connection.Thing.IsAttached":"true"}}}]}`,
		"connect-policy, persistent session and last will": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect"],
			"Resource":"*","Condition":{"ForAllValues:StringEquals":{"iot:ConnectAttributes":["PersistentConnect","LastWill"]},
			"ArnEquals":{"iot:LastWillTopic":"arn:aws:iot:us-east-1:123456789012:topic/last"}}}]}`,
		"pub-sub-policy, several types of resources": allowing(`["iot:Publish","iot:Subscribe","iot:Receive"]`,
			`["`+here+`topic/${iot:ClientId}/*","`+here+`topicfilter/${iot:ClientId}/+/#"]`),
		"provision-wo-cert, claim": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect"],"Resource":"*"},
			{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":["` + here + `topic/$aws/certificates/create/*"]},
			{"Effect":"Allow","Action":"iot:Subscribe","Resource":["` + here + `topicfilter/$aws/certificates/create/*"]}]}`,
		"iot-data-plane-jobs":        allowing(`["iotjobsdata:DescribeJobExecution","iotjobsdata:UpdateJobExecution"]`, `"`+here+`thing/a"`),
		"basic-jobs-example":         allowing(`["iot:DescribeJobExecution","iot:UpdateJobExecution"]`, `"`+here+`topic/$aws/things/a/jobs/*"`),
		"cognito identities":         allowing(`"iot:Connect"`, `"`+here+`client/${cognito-identity.amazonaws.com:sub}"`),
		"authorizing-direct-aws":     allowing(`"iot:AssumeRoleWithCertificate"`, `"`+here+`rolealias/thermostat"`),
		"Greengrass, minimal policy": allowing(`["iot:Connect","iot:Publish","iot:Subscribe","iot:Receive","greengrass:*"]`, `["*"]`),
		"AWS CDK sample, any place":  allowing(`["iot:Connect"]`, `["arn:aws:iot:*:*:client/${iot:ClientId}"]`),
		"console, everything":        allowing(`"iot:*"`, `"arn:aws:iot:us-east-1:123456789012:*"`),
		"sts-like default":           allowing(`"iot:Connect"`, `"`+here+`client/${iot:ClientId, 'none'}"`),
		"special characters":         allowing(`"iot:Publish"`, `"`+here+`topic/${*}/${?}/${$}"`),
		"deny on all clients but":    `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:Connect","NotResource":"` + here + `client/a"}]}`,
		"other partitions":           allowing(`"iot:Connect"`, `["arn:aws-cn:iot:cn-north-1:123456789012:client/a","arn:aws-us-gov:iot:us-gov-west-1:123456789012:client/a"]`),
	} {
		assert.Empty(t, readDocument(t, document).CheckDevice(), source)
	}
}

func TestWhatIsNotKnownYetIsNotJudged(t *testing.T) {
	for _, document := range []string{
		allowing(`"`+policy.Hole+`"`, `"`+here+`topic/a"`),
		allowing(`"iot:Connect"`, `"`+policy.Hole+`"`),
		allowing(`"iot:Connect"`, `"`+here+policy.Hole+`"`),
		allowing(`"iot:Connect"`, `"arn:aws:iot:`+policy.Hole+`:`+policy.Hole+`:client/${iot:ClientId}"`),
		allowing(`"iot:Subscribe"`, `"`+here+`topic`+policy.Hole+`/a"`),
		allowing(`"iot:Connect"`, `"`+here+`client/${`+policy.Hole+`}"`),
	} {
		d := readDocument(t, document)
		assert.Empty(t, d.CheckDevice(), document)
		assert.Empty(t, d.CheckPlace("aws", "us-east-1", "123456789012"), document)
	}
}

func TestAStatementForAnotherPlaceHasNoEffectHere(t *testing.T) {
	for resources, want := range map[string]string{
		`"arn:aws:iot:us-east-1:111122223333:client/a"`:  "",
		`"arn:aws:iot:*:*:client/a"`:                     "",
		`"arn:aws:iot:us-*:1111????3333:client/a"`:       "",
		`"arn:aws*:iot:us-east-1:111122223333:client/a"`: "",
		`"*"`: "",
		`"arn:aws:iot:REGION:111122223333:client/a"`:                                                    "", // CheckDevice's
		`["arn:aws:iot:eu-west-1:111122223333:client/a","arn:aws:iot:us-east-1:111122223333:client/a"]`: "", // a policy for two regions
		`"arn:aws:iot:eu-west-1:111122223333:client/a"`:                                                 "the region eu-west-1; this is us-east-1",
		`"arn:aws:iot:eu-*:111122223333:client/a"`:                                                      "the region eu-*",
		`"arn:aws:iot:us-east-1:222222222222:client/a"`:                                                 "the account 222222222222; this is 111122223333",
		`"arn:aws:iot:us-east-1:123456789012:client/a"`:                                                 "the account 123456789012, which AWS's examples have; this is 111122223333",
		`"arn:aws-cn:iot:us-east-1:111122223333:client/a"`:                                              "the partition aws-cn; this is aws",
		`["arn:aws:iot:eu-west-1:111122223333:topic/a","arn:aws:iot:eu-west-2:111122223333:topic/a"]`:   "the region eu-west-1",
	} {
		problems := readDocument(t, allowing(`["iot:Connect","iot:Publish"]`, resources)).CheckPlace("aws", "us-east-1", "111122223333")
		if want == "" {
			assert.Empty(t, problems, resources)
			continue
		}
		require.Len(t, problems, 1, resources)
		assert.Equal(t, policy.Elsewhere, problems[0].Kind)
		assert.Contains(t, problems[0].Message, "statement 1 of the policy has no effect here")
		assert.Contains(t, problems[0].Message, want)
	}
}

func FuzzCheckDevice(f *testing.F) {
	f.Add(allowing(`"iot:recieve"`, `"arn:aws:iot:${AWS::Region}:<account>:topic/+/${iot:ClientId"`))
	f.Add(allowing(`["iot:*"]`, `["arn:aws:iot","a"]`))
	f.Fuzz(func(t *testing.T, text string) {
		d, _ := policy.Parse(text)
		for _, p := range append(d.CheckDevice(), d.CheckPlace("aws", "us-east-1", "111122223333")...) {
			if p.Kind == "" || p.Message == "" {
				t.Fatalf("%+v", p)
			}
		}
		d.Connects()
		d.AllowsEverything()
	})
}
