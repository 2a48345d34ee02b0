package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

func mustParse(t testing.TB, text string) *policy.Document {
	t.Helper()
	d, problems := policy.Parse(text)
	require.Empty(t, problems, text)
	return d
}

// document is one of the current version.
func document(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func allow(members string) string { return `{"Effect":"Allow",` + members + `}` }
func deny(members string) string  { return `{"Effect":"Deny",` + members + `}` }

func one(key, value string) policy.Values { return policy.Values{key: {value}} }

func TestActionsAndResourcesMatchWithWildcards(t *testing.T) {
	for _, c := range []struct {
		members, action, resource string
		want                      bool
	}{
		{`"Action":"s3:GetObject","Resource":"*"`, "s3:GetObject", "arn:aws:s3:::b/k", true},
		{`"Action":"S3:getobject","Resource":"*"`, "s3:GetObject", "arn:aws:s3:::b/k", true},
		{`"Action":"s3:GetObject","Resource":"*"`, "s3:PutObject", "arn:aws:s3:::b/k", false},
		{`"Action":"s3:GetObject","Resource":"*"`, "s3:GetObjects", "arn:aws:s3:::b/k", false},
		{`"Action":"s3:GetObject","Resource":"*"`, "", "arn:aws:s3:::b/k", false},
		{`"Action":"s3:Get*","Resource":"*"`, "s3:GetObject", "x", true},
		{`"Action":"s3:Get?bject","Resource":"*"`, "s3:GetObject", "x", true},
		{`"Action":"s3:Get?","Resource":"*"`, "s3:GetObject", "x", false},
		{`"Action":"*","Resource":"*"`, "iot:CreateThing", "x", true},
		{`"Action":["iot:*","s3:GetObject"],"Resource":["arn:aws:s3:::fleet/runs/*"]`, "s3:GetObject", "arn:aws:s3:::fleet/runs/a/b", true},
		{`"Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet/runs/*"`, "s3:GetObject", "arn:aws:s3:::fleet/other", false},
		{`"Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet/runs/*"`, "s3:GetObject", "arn:aws:s3:::fleet/RUNS/a", false},
		{`"Action":"s3:GetObject","Resource":"arn:aws:s3:::f?eet/*"`, "s3:GetObject", "arn:aws:s3:::fleet/a", true},
		{`"Action":"s3:GetObject","Resource":"arn:aws:s3:::f?eet/*"`, "s3:GetObject", "arn:aws:s3:::fléet/a", false},
		{`"Action":"s3:GetObject","Resource":"arn:aws:s3:::fl?et/*"`, "s3:GetObject", "arn:aws:s3:::flüet/a", true},
		{`"Action":"iot:*","Resource":"arn:aws:iot:*:thing/a"`, "iot:CreateThing", "arn:aws:iot:us-east-1:1:thing/a", true},
		{`"NotAction":"iam:*","Resource":"*"`, "s3:GetObject", "x", true},
		{`"NotAction":"s3:*","Resource":"*"`, "s3:GetObject", "x", false},
		{`"Action":"s3:*","NotResource":"arn:aws:s3:::secret/*"`, "s3:GetObject", "arn:aws:s3:::open/a", true},
		{`"Action":"s3:*","NotResource":"arn:aws:s3:::secret/*"`, "s3:GetObject", "arn:aws:s3:::secret/a", false},
	} {
		d := policy.Evaluate(policy.Request{Action: c.action, Resource: c.resource}, mustParse(t, document(allow(c.members))))
		assert.Equal(t, c.want, d.Allowed(), "%s: %s on %s", c.members, c.action, c.resource)
	}
}

func TestADenialWinsInWhicheverPolicyItStands(t *testing.T) {
	all := mustParse(t, document(allow(`"Action":"s3:*","Resource":"*"`)))
	some := mustParse(t, document(allow(`"Action":"s3:*","Resource":"arn:aws:s3:::fleet/*"`),
		`{"Sid":"Secret","Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::fleet/secret/*"}`))
	ask := func(action, resource string) policy.Decision {
		return policy.Evaluate(policy.Request{Action: action, Resource: resource}, all, some)
	}

	secret := ask("s3:GetObject", "arn:aws:s3:::fleet/secret/a")
	assert.True(t, secret.Denied())
	assert.Equal(t, 1, secret.Policy)
	assert.Same(t, &some.Statements[1], secret.Statement)
	assert.Equal(t, "statement 2 (Sid Secret) of policy 2 denies it", secret.String())

	open := ask("s3:GetObject", "arn:aws:s3:::fleet/a")
	assert.True(t, open.Allowed())
	assert.Equal(t, "statement 1 of policy 1 allows it", open.String())

	other := ask("iot:CreateThing", "*")
	assert.Equal(t, policy.Decision{}, other, "an implicit denial names nothing")
	assert.Equal(t, "no statement allows it", other.String())
	assert.Equal(t, policy.Decision{}, policy.Evaluate(policy.Request{Action: "iot:CreateThing"}), "and so does having no policy")
}

func TestPrincipals(t *testing.T) {
	for _, c := range []struct {
		principal, who string
		want           bool
	}{
		{`{"Service":"iot.amazonaws.com"}`, "iot.amazonaws.com", true},
		{`{"Service":["ec2.amazonaws.com","iot.amazonaws.com"]}`, "iot.amazonaws.com", true},
		{`{"Service":"ec2.amazonaws.com"}`, "iot.amazonaws.com", false},
		{`"*"`, "iot.amazonaws.com", true},
		{`{"AWS":"*"}`, "iot.amazonaws.com", true}, // documented as the same
		{`{"AWS":"123456789012"}`, "arn:aws:iam::123456789012:user/me", true},
		{`{"AWS":"123456789012"}`, "iot.amazonaws.com", false},
		{`{"AWS":"arn:aws:iam::123456789012:root"}`, "arn:aws:iam::123456789012:user/me", true},
		{`{"AWS":"arn:aws:iam::123456789012:user/you"}`, "arn:aws:iam::123456789012:user/me", false},
		{`{"AWS":"arn:aws:iam::999999999999:root"}`, "arn:aws:iam::123456789012:user/me", false},
	} {
		d := mustParse(t, document(allow(`"Principal":`+c.principal+`,"Action":"sts:AssumeRole"`)))
		got := policy.Evaluate(policy.Request{Principal: c.who, Action: "sts:AssumeRole"}, d)
		assert.Equal(t, c.want, got.Allowed(), "%s %s", c.principal, c.who)
		d = mustParse(t, document(allow(`"NotPrincipal":`+c.principal+`,"Action":"sts:AssumeRole"`)))
		got = policy.Evaluate(policy.Request{Principal: c.who, Action: "sts:AssumeRole"}, d)
		assert.Equal(t, !c.want, got.Allowed(), "not %s %s", c.principal, c.who)
	}
}

// The tables of https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
// and …/reference_policies_condition-single-vs-multi-valued-context-keys.html.
func TestConditions(t *testing.T) {
	context := policy.Values{
		"aws:SourceAccount": {"123456789012"}, "aws:SourceArn": {"arn:aws:iot:us-east-1:123456789012:task/7"}, "aws:SecureTransport": {"true"},
		"aws:SourceIp": {"10.1.2.3"}, "six": {"2001:db8::1"}, "mapped": {"::ffff:10.1.2.3"}, "iot:ConnectAttributes": {"PersistentConnect", "LastWill"},
		"Empty": {""}, "star": {"*"},
	}
	for _, c := range []struct {
		condition string
		want      bool
	}{
		{`"StringEquals":{"aws:SourceAccount":"123456789012"}`, true},
		{`"StringEquals":{"AWS:sourceaccount":"123456789012"}`, true},
		{`"StringEquals":{"aws:SourceAccount":["1","123456789012"]}`, true},
		{`"StringEquals":{"aws:SourceAccount":"12345678901?"}`, false},
		{`"StringEquals":{"aws:SourceAccount":"999999999999"}`, false},
		{`"StringEquals":{"aws:Missing":"x"}`, false},
		{`"StringEquals":{"Empty":""}`, true},
		{`"StringEquals":{"star":"${*}"}`, true},
		{`"StringEqualsIfExists":{"aws:Missing":"x"}`, true},
		{`"StringEqualsIfExists":{"aws:SourceAccount":"x"}`, false},
		{`"StringNotEquals":{"aws:SourceAccount":"999999999999"}`, true},
		{`"StringNotEquals":{"aws:SourceAccount":["1","123456789012"]}`, false},
		{`"StringNotEquals":{"aws:Missing":"x"}`, true},
		{`"StringEqualsIgnoreCase":{"aws:SecureTransport":"TRUE"}`, true},
		{`"StringEqualsIgnoreCase":{"aws:SecureTransport":"TRUES"}`, false},
		{`"StringNotEqualsIgnoreCase":{"aws:SecureTransport":"TRUE"}`, false},
		{`"StringLike":{"aws:SourceAccount":"1234*"}`, true},
		{`"StringLike":{"aws:SourceAccount":"1234"}`, false},
		{`"StringNotLike":{"aws:SourceAccount":"1234*"}`, false},
		{`"ArnLike":{"aws:SourceArn":"arn:aws:iot:*:123456789012:*"}`, true},
		{`"ArnEquals":{"aws:SourceArn":"arn:aws:iot:us-east-1:123456789012:task/*"}`, true},
		{`"ArnLike":{"aws:SourceArn":"arn:aws:*:task/7"}`, false},
		{`"ArnLike":{"aws:SourceArn":"arn:aws:iot:*"}`, false},
		{`"ArnLike":{"aws:SourceArn":"arn:aws:iot?us-east-1:123456789012:task/7"}`, false},
		{`"ArnLike":{"aws:SourceArn":"arn:aws:iot:us-east-?:123456789012:task/?"}`, true},
		{`"ArnLike":{"aws:SourceArn":"${aws:SourceArn}"}`, true},
		{`"ArnNotLike":{"aws:SourceArn":"arn:aws:iot:eu-*:*:*"}`, true},
		{`"ArnLike":{"aws:SourceAccount":"*"}`, false},
		{`"Bool":{"aws:SecureTransport":"true"}`, true},
		{`"Bool":{"aws:SecureTransport":true}`, true},
		{`"Bool":{"aws:SecureTransport":"false"}`, false},
		{`"Null":{"aws:Missing":"true"}`, true},
		{`"Null":{"aws:SourceAccount":"true"}`, false},
		{`"Null":{"aws:SourceAccount":false}`, true},
		{`"IpAddress":{"aws:SourceIp":["192.168.0.0/16","10.0.0.0/8"]}`, true},
		{`"IpAddress":{"aws:SourceIp":"10.1.2.4"}`, false},
		{`"IpAddress":{"aws:SourceIp":"10.1.2.3"}`, true},
		{`"IpAddress":{"mapped":"10.0.0.0/8"}`, true},
		{`"IpAddress":{"six":"2001:db8::/32"}`, true},
		{`"IpAddress":{"six":"10.0.0.0/8"}`, false},
		{`"IpAddress":{"aws:SourceAccount":"0.0.0.0/0"}`, false},
		{`"IpAddress":{"aws:SourceIp":"office"}`, false},
		{`"NotIpAddress":{"aws:SourceIp":"10.1.2.3"}`, false},
		{`"NotIpAddress":{"aws:SourceIp":"10.2.0.0/16"}`, true},
		{`"ForAllValues:StringEquals":{"iot:ConnectAttributes":["LastWill","PersistentConnect","Other"]}`, true},
		{`"ForAllValues:StringEquals":{"iot:ConnectAttributes":["PersistentConnect"]}`, false},
		{`"ForAnyValue:StringEquals":{"iot:ConnectAttributes":["PersistentConnect"]}`, true},
		{`"ForAnyValue:StringEquals":{"iot:ConnectAttributes":["Other"]}`, false},
		{`"ForAllValues:StringNotEquals":{"iot:ConnectAttributes":["PersistentConnect"]}`, false},
		{`"ForAllValues:StringNotEquals":{"iot:ConnectAttributes":["Other"]}`, true},
		{`"ForAnyValue:StringNotEquals":{"iot:ConnectAttributes":["PersistentConnect"]}`, true},
		{`"ForAllValues:StringEquals":{"aws:Missing":"x"}`, true},
		{`"ForAnyValue:StringEquals":{"aws:Missing":"x"}`, false},
		{`"ForAnyValue:StringNotEquals":{"aws:Missing":"x"}`, false},
		{`"ForAnyValue:StringEqualsIfExists":{"aws:Missing":"x"}`, false},
		{`"ForAllValues:StringNotEquals":{"aws:Missing":"x"}`, true},
		{`"ForAnyValue:StringNotEquals":{"aws:SourceAccount":"1"}`, true},
		{`"ForAnyValue:StringLike":{"aws:SourceAccount":"1*"}`, true},
		{`"StringEquals":{"aws:SourceAccount":"123456789012"},"Bool":{"aws:SecureTransport":"false"}`, false},
		{`"StringEquals":{"aws:SourceAccount":"123456789012","aws:SecureTransport":"false"}`, false},
		{`"StringEquals":{"aws:SourceAccount":"123456789012","aws:SecureTransport":"true"}`, true},
		// No key has a number, a date or bytes.
		{`"NumericLessThan":{"aws:Missing":11}`, false},
		{`"NumericNotEquals":{"aws:Missing":"10"}`, true},
		{`"NumericEquals":{"aws:SourceArn":"10"}`, false},
		{`"DateGreaterThanIfExists":{"aws:CurrentTime":"2026-01-01"}`, true},
		{`"BinaryEquals":{"aws:Missing":"QQ=="}`, false},
	} {
		d := mustParse(t, document(allow(`"Action":"sts:AssumeRole","Resource":"*","Condition":{`+c.condition+`}`)))
		got := policy.Evaluate(policy.Request{Action: "sts:AssumeRole", Resource: "x", Context: context}, d)
		assert.Equal(t, c.want, got.Allowed(), c.condition)
	}
}

func TestVariablesStandForValuesOfTheRequest(t *testing.T) {
	const arn = "arn:aws:iot:us-east-1:1:client/"
	client := func(name string) string {
		return document(allow(`"Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/` + name + `"`))
	}
	ask := func(document, thing, resource string) bool {
		context := policy.Values{}
		if thing != "" {
			context["iot:Connection.Thing.ThingName"] = []string{thing}
		}
		return policy.Evaluate(policy.Request{Action: "iot:Connect", Resource: resource, Context: context}, mustParse(t, document)).Allowed()
	}
	name := client("${iot:Connection.Thing.ThingName}")
	assert.True(t, ask(name, "device-1", arn+"device-1"))
	assert.False(t, ask(name, "device-1", arn+"device-2"))
	assert.False(t, ask(name, "device-1", arn+"device-11"))
	assert.False(t, ask(name, "", arn), "a variable without a value matches nothing")
	assert.False(t, ask(name, "*", arn+"device-2"), "a value is no wildcard")
	assert.True(t, ask(name, "*", arn+"*"))
	assert.True(t, ask(client("${iot:connection.thing.thingname}"), "device-1", arn+"device-1"), "case of keys does not count")
	assert.True(t, ask(client("a-${iot:Connection.Thing.ThingName}-*"), "b", arn+"a-b-c"))

	old := strings.Replace(name, "2012-10-17", "2008-10-17", 1)
	assert.False(t, ask(old, "device-1", arn+"device-1"), "the older language has no variables")
	assert.True(t, ask(old, "device-1", arn+"${iot:Connection.Thing.ThingName}"))

	assert.True(t, ask(client("${*}${?}${$}"), "", arn+"*?$"))
	assert.False(t, ask(client("${*}"), "", arn+"x"))
	assert.True(t, ask(client("${iot:Connection.Thing.ThingName, 'none'}"), "", arn+"none"))
	assert.True(t, ask(client("${unclosed"), "", arn+"${unclosed"))
}

func TestAVariableWithoutAValueMakesItsStatementMatchNothing(t *testing.T) {
	request := policy.Request{Action: "iot:Publish", Resource: "arn:aws:iot:us-east-1:1:topic/a", Context: one("iot:ClientId", "a")}
	for _, members := range []string{
		`"Action":"iot:Publish","Resource":"arn:aws:iot:us-east-1:1:topic/*${missing}"`,
		`"Action":"iot:Publish","NotResource":"arn:aws:iot:us-east-1:1:topic/${missing}"`,
		`"Action":"iot:Publish","Resource":"*","Condition":{"StringEquals":{"iot:ClientId":"${missing}"}}`,
		`"Action":"iot:Publish","Resource":"*","Condition":{"StringNotEquals":{"iot:ClientId":"${missing}"}}`,
		`"Action":"iot:Publish","Resource":"*","Condition":{"StringNotLike":{"iot:ClientId":["b","${missing}*"]}}`,
	} {
		assert.Equal(t, policy.Decision{}, policy.Evaluate(request, mustParse(t, document(allow(members)))), members)
		both := mustParse(t, document(allow(`"Action":"*","Resource":"*"`), deny(members)))
		assert.True(t, policy.Evaluate(request, both).Allowed(), members)
	}
	others := document(allow(`"Action":"iot:Publish","Resource":["arn:aws:iot:us-east-1:1:topic/${missing}","arn:aws:iot:us-east-1:1:topic/a"]`))
	assert.True(t, policy.Evaluate(request, mustParse(t, others)).Allowed(), "its other resources match all the same")
	several := policy.Request{Action: "iot:Publish", Resource: "arn:aws:iot:us-east-1:1:topic/a", Context: policy.Values{"k": {"a", "b"}}}
	assert.False(t, policy.Evaluate(several, mustParse(t, document(allow(`"Action":"*","Resource":"*${k}"`)))).Allowed(), "nor has a key with several values one")
}

func TestWhatDependsOnUnknownKeysIsUndecided(t *testing.T) {
	const object = "arn:aws:s3:::fleet-bucket/in/part-1.json"
	guarded := `"Condition":{"StringEquals":{"aws:SourceAccount":"123456789012"}}`
	secure := `"Condition":{"Bool":{"aws:SecureTransport":"true"}}`
	for name, c := range map[string]struct {
		statements []string
		want       string
	}{
		"known to hold":                         {[]string{allow(`"Action":"s3:*","Resource":"*",` + guarded)}, "allowed"},
		"known not to hold":                     {[]string{allow(`"Action":"s3:*","Resource":"*",` + strings.Replace(guarded, "12345", "99999", 1))}, "nothing"},
		"unknown":                               {[]string{allow(`"Action":"s3:*","Resource":"*",` + secure)}, "undecided"},
		"unknown, another action":               {[]string{allow(`"Action":"iot:*","Resource":"*",` + secure)}, "nothing"},
		"unknown denial":                        {[]string{deny(`"Action":"s3:*","Resource":"*",` + secure), allow(`"Action":"*","Resource":"*"`)}, "undecided"},
		"unknown denial of what is not allowed": {[]string{deny(`"Action":"s3:*","Resource":"*",` + secure)}, "nothing"},
		"denial for sure":                       {[]string{allow(`"Action":"s3:*","Resource":"*",` + secure), deny(`"Action":"s3:*","Resource":"*"`)}, "denied"},
		"allowed either way":                    {[]string{allow(`"Action":"s3:*","Resource":"*",` + secure), allow(`"Action":"s3:*","Resource":"*"`)}, "allowed"},
		"variable":                              {[]string{allow(`"Action":"s3:*","Resource":"arn:aws:s3:::fleet-bucket/${aws:userid}/*"`)}, "undecided"},
		"variable elsewhere":                    {[]string{allow(`"Action":"s3:*","Resource":"arn:aws:s3:::home/${aws:userid}/*"`)}, "nothing"},
		"variable with default":                 {[]string{allow(`"Action":"s3:*","Resource":"arn:aws:s3:::fleet-bucket/${team, 'out'}/*"`)}, "undecided"},
		"not a variable":                        {[]string{allow(`"Action":"s3:*","NotResource":"arn:aws:s3:::fleet-bucket/${team}/*"`)}, "undecided"},
	} {
		r := policy.Request{Action: "s3:GetObject", Resource: object, Context: one("aws:SourceAccount", "123456789012"), Partial: true}
		d := policy.Evaluate(r, mustParse(t, document(c.statements...)))
		got := "nothing"
		switch {
		case d.Undecided:
			got = "undecided"
			assert.Contains(t, d.String(), " may ")
		case d.Allowed():
			got = "allowed"
		case d.Denied():
			got = "denied"
		}
		assert.Equal(t, c.want, got, name)
		if d.Undecided {
			assert.False(t, d.Allowed() || d.Denied(), name)
		}
	}
}

func ExampleEvaluate() {
	doc, problems := policy.Parse(`{
		"Version": "2012-10-17",
		"Statement": [
			{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/devices/${iot:Connection.Thing.ThingName}/*"},
			{"Sid": "NoCommands", "Effect": "Deny", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/*/commands"}
		]
	}`)
	if len(problems) > 0 {
		fmt.Println(problems[0])
		return
	}
	device := policy.Values{"iot:Connection.Thing.ThingName": {"pump-1"}}
	for _, topic := range []string{"devices/pump-1/state", "devices/pump-2/state", "devices/pump-1/commands"} {
		r := policy.Request{Action: "iot:Publish", Resource: "arn:aws:iot:eu-central-1:123456789012:topic/" + topic, Context: device}
		fmt.Println(topic, policy.Evaluate(r, doc))
	}
	// Output:
	// devices/pump-1/state statement 1 of policy 1 allows it
	// devices/pump-2/state no statement allows it
	// devices/pump-1/commands statement 2 (Sid NoCommands) of policy 1 denies it
}
