package iam

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const walkthroughTrust = `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "",
      "Effect": "Allow",
      "Principal": { "Service": "iot.amazonaws.com" },
      "Action": "sts:AssumeRole"
    }
  ]
}`

func mustParse(t testing.TB, document string) *Document {
	t.Helper()
	d, err := Parse(document)
	require.NoError(t, err, document)
	return d
}

// policy is a document of one statement with these members besides its effect.
func policy(effect, members string) string {
	return `{"Version":"2012-10-17","Statement":{"Effect":"` + effect + `",` + members + `}}`
}

func TestActionsAndResourcesMatchWithWildcards(t *testing.T) {
	for _, c := range []struct {
		members, action, resource string
		want                      Decision
	}{
		{`"Action":"s3:GetObject","Resource":"*"`, "s3:GetObject", "arn:aws:s3:::b/k", Allow},
		{`"Action":"S3:getobject","Resource":"*"`, "s3:GetObject", "arn:aws:s3:::b/k", Allow},
		{`"Action":"s3:GetObject","Resource":"*"`, "s3:PutObject", "arn:aws:s3:::b/k", None},
		{`"Action":"s3:Get*","Resource":"*"`, "s3:GetObject", "x", Allow},
		{`"Action":"s3:Get?bject","Resource":"*"`, "s3:GetObject", "x", Allow},
		{`"Action":"s3:Get?","Resource":"*"`, "s3:GetObject", "x", None},
		{`"Action":"*","Resource":"*"`, "iot:CreateThing", "x", Allow},
		{`"Action":["iot:*","s3:GetObject"],"Resource":["arn:aws:s3:::fleet/runs/*"]`, "s3:GetObject", "arn:aws:s3:::fleet/runs/a/b", Allow},
		{`"Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet/runs/*"`, "s3:GetObject", "arn:aws:s3:::fleet/other", None},
		{`"Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet/runs/*"`, "s3:GetObject", "arn:aws:s3:::fleet/RUNS/a", None},
		{`"Action":"s3:GetObject","Resource":"arn:aws:s3:::f?eet/*"`, "s3:GetObject", "arn:aws:s3:::fleet/a", Allow},
		{`"NotAction":"iam:*","Resource":"*"`, "s3:GetObject", "x", Allow},
		{`"NotAction":"s3:*","Resource":"*"`, "s3:GetObject", "x", None},
		{`"Action":"s3:*","NotResource":"arn:aws:s3:::secret/*"`, "s3:GetObject", "arn:aws:s3:::open/a", Allow},
		{`"Action":"s3:*","NotResource":"arn:aws:s3:::secret/*"`, "s3:GetObject", "arn:aws:s3:::secret/a", None},
	} {
		got := mustParse(t, policy("Allow", c.members)).Evaluate(Request{Action: c.action, Resource: c.resource})
		assert.Equal(t, c.want, got, "%s: %s on %s", c.members, c.action, c.resource)
	}
}

func TestADenialBeatsEveryPermission(t *testing.T) {
	d := mustParse(t, `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"s3:*","Resource":"*"},
		{"Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::fleet/secret/*"},
		{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::fleet/*"}]}`)
	assert.Equal(t, Deny, d.Evaluate(Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::fleet/secret/a"}))
	assert.Equal(t, Allow, d.Evaluate(Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::fleet/a"}))
	assert.Equal(t, None, d.Evaluate(Request{Action: "iot:CreateThing", Resource: "*"}))
}

func TestPrincipals(t *testing.T) {
	for _, c := range []struct {
		principal, who string
		want           Decision
	}{
		{`{"Service":"iot.amazonaws.com"}`, "iot.amazonaws.com", Allow},
		{`{"Service":["ec2.amazonaws.com","iot.amazonaws.com"]}`, "iot.amazonaws.com", Allow},
		{`{"Service":"ec2.amazonaws.com"}`, "iot.amazonaws.com", None},
		{`{"AWS":"*"}`, "iot.amazonaws.com", None},
		{`"*"`, "iot.amazonaws.com", Allow},
		{`{"AWS":"123456789012"}`, "arn:aws:iam::123456789012:user/me", Allow},
		{`{"AWS":"arn:aws:iam::123456789012:root"}`, "arn:aws:iam::123456789012:user/me", Allow},
		{`{"AWS":"arn:aws:iam::123456789012:user/you"}`, "arn:aws:iam::123456789012:user/me", None},
		{`{"AWS":"arn:aws:iam::999999999999:root"}`, "arn:aws:iam::123456789012:user/me", None},
	} {
		d := mustParse(t, policy("Allow", `"Principal":`+c.principal+`,"Action":"sts:AssumeRole"`))
		assert.Equal(t, c.want, d.Evaluate(Request{Principal: c.who, Action: "sts:AssumeRole"}), "%s %s", c.principal, c.who)
	}
	d := mustParse(t, policy("Allow", `"NotPrincipal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"`))
	assert.Equal(t, None, d.Evaluate(Request{Principal: "iot.amazonaws.com", Action: "sts:AssumeRole"}))
}

func TestConditions(t *testing.T) {
	context := map[string]string{
		"aws:SourceAccount": "123456789012", "aws:SourceArn": "arn:aws:iot:us-east-1:123456789012:task/7", "aws:SecureTransport": "true",
		"s3:max-keys": "10", "aws:CurrentTime": "2026-03-04T05:06:07Z", "aws:SourceIp": "10.1.2.3",
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
		{`"StringEqualsIfExists":{"aws:Missing":"x"}`, true},
		{`"StringNotEquals":{"aws:SourceAccount":"999999999999"}`, true},
		{`"StringNotEquals":{"aws:SourceAccount":["1","123456789012"]}`, false},
		{`"StringNotEquals":{"aws:Missing":"x"}`, true},
		{`"StringEqualsIgnoreCase":{"aws:SecureTransport":"TRUE"}`, true},
		{`"StringLike":{"aws:SourceAccount":"1234*"}`, true},
		{`"StringLike":{"aws:SourceAccount":"1234"}`, false},
		{`"StringNotLike":{"aws:SourceAccount":"1234*"}`, false},
		{`"ArnLike":{"aws:SourceArn":"arn:aws:iot:*:123456789012:*"}`, true},
		{`"ArnEquals":{"aws:SourceArn":"arn:aws:iot:us-east-1:123456789012:task/*"}`, true},
		{`"ArnLike":{"aws:SourceArn":"arn:aws:*:task/7"}`, false},
		{`"ArnNotLike":{"aws:SourceArn":"arn:aws:iot:eu-*:*:*"}`, true},
		{`"ArnLike":{"aws:SourceAccount":"*"}`, false},
		{`"Bool":{"aws:SecureTransport":"true"}`, true},
		{`"Bool":{"aws:SecureTransport":true}`, true},
		{`"Bool":{"aws:SecureTransport":"false"}`, false},
		{`"Null":{"aws:Missing":"true"}`, true},
		{`"Null":{"aws:SourceAccount":"true"}`, false},
		{`"Null":{"aws:SourceAccount":false}`, true},
		{`"NumericLessThan":{"s3:max-keys":11}`, true},
		{`"NumericLessThanEquals":{"s3:max-keys":"10"}`, true},
		{`"NumericGreaterThan":{"s3:max-keys":"10"}`, false},
		{`"NumericNotEquals":{"s3:max-keys":"10"}`, false},
		{`"NumericEquals":{"aws:SourceArn":"10"}`, false},
		{`"DateGreaterThan":{"aws:CurrentTime":"2026-01-01"}`, true},
		{`"DateLessThan":{"aws:CurrentTime":"2026-03-04T05:06:07Z"}`, false},
		{`"IpAddress":{"aws:SourceIp":["192.168.0.0/16","10.0.0.0/8"]}`, true},
		{`"NotIpAddress":{"aws:SourceIp":"10.1.2.3"}`, false},
		{`"ForAllValues:StringEquals":{"aws:Missing":"x"}`, true},
		{`"ForAnyValue:StringEquals":{"aws:Missing":"x"}`, false},
		{`"ForAnyValue:StringNotEquals":{"aws:Missing":"x"}`, false},
		{`"ForAnyValue:StringEqualsIfExists":{"aws:Missing":"x"}`, false},
		{`"ForAllValues:StringNotEquals":{"aws:Missing":"x"}`, true},
		{`"ForAnyValue:StringNotEquals":{"aws:SourceAccount":"1"}`, true},
		{`"ForAnyValue:StringLike":{"aws:SourceAccount":"1*"}`, true},
		{`"StringEquals":{"aws:SourceAccount":"123456789012"},"Bool":{"aws:SecureTransport":"false"}`, false},
		{`"StringEquals":{"aws:SourceAccount":"123456789012","aws:SecureTransport":"false"}`, false},
	} {
		d := mustParse(t, policy("Allow", `"Action":"sts:AssumeRole","Resource":"*","Condition":{`+c.condition+`}`))
		want := None
		if c.want {
			want = Allow
		}
		assert.Equal(t, want, d.Evaluate(Request{Action: "sts:AssumeRole", Resource: "x", Context: context}), c.condition)
	}
}

func TestVariablesStandForValuesOfTheContext(t *testing.T) {
	document := policy("Allow", `"Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"`)
	evaluate := func(document, thing, resource string) Decision {
		context := map[string]string{}
		if thing != "" {
			context["iot:Connection.Thing.ThingName"] = thing
		}
		return mustParse(t, document).Evaluate(Request{Action: "iot:Connect", Resource: resource, Context: context})
	}
	assert.Equal(t, Allow, evaluate(document, "device-1", "arn:aws:iot:us-east-1:1:client/device-1"))
	assert.Equal(t, None, evaluate(document, "device-1", "arn:aws:iot:us-east-1:1:client/device-2"))
	assert.Equal(t, None, evaluate(document, "", "arn:aws:iot:us-east-1:1:client/"), "a missing variable matches nothing")
	assert.Equal(t, None, evaluate(document, "*", "arn:aws:iot:us-east-1:1:client/device-2"), "a value is no wildcard")
	old := strings.Replace(document, "2012-10-17", "2008-10-17", 1)
	assert.Equal(t, None, evaluate(old, "device-1", "arn:aws:iot:us-east-1:1:client/device-1"))
	assert.Equal(t, Allow, evaluate(old, "device-1", "arn:aws:iot:us-east-1:1:client/${iot:Connection.Thing.ThingName}"))
	star := policy("Allow", `"Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${*}"`)
	assert.Equal(t, Allow, evaluate(star, "", "arn:aws:iot:us-east-1:1:client/*"))
	assert.Equal(t, None, evaluate(star, "", "arn:aws:iot:us-east-1:1:client/x"))
	fallback := policy("Allow", `"Action":"iot:Connect","Resource":"arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName, 'none'}"`)
	assert.Equal(t, Allow, evaluate(fallback, "", "arn:aws:iot:us-east-1:1:client/none"))
}

func TestADocumentThatIAMWouldRefuseIsRefused(t *testing.T) {
	good := `"Action":"s3:GetObject","Resource":"*"`
	for document, want := range map[string]string{
		``:                         "This policy contains invalid Json",
		`{`:                        "This policy contains invalid Json",
		`{"Statement":[]}`:         "Syntax errors in policy: there is no statement.",
		`[]`:                       "Syntax errors in policy: there is no object",
		`{} {}`:                    "This policy contains invalid Json",
		`{"version":"2012-10-17"}`: `Syntax errors in policy: there is no element "version"`,
		`{"Version":"2020-01-01","Statement":{}}`:                                                            `Syntax errors in policy: the version "2020-01-01" is neither 2012-10-17 nor 2008-10-17.`,
		`{"Statement":{"Effect":"allow",` + good + `}}`:                                                      `Syntax errors in policy: the effect is "allow", not Allow or Deny (statement 1)`,
		policy("Allow", `"Action":"s3:GetObject","Resource":"fleet/*"`):                                      `Resource fleet/* must be in ARN format or "*". (statement 1)`,
		policy("Allow", `"Action":"GetObject","Resource":"*"`):                                               "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc. (statement 1)",
		policy("Allow", `"Resource":"*"`):                                                                    "Policy statement must contain actions. (statement 1)",
		policy("Allow", `"Action":[1],"Resource":"*"`):                                                       "Syntax errors in policy: Action is neither a string nor a list of strings (statement 1)",
		policy("Allow", `"Action":null,"Resource":"*"`):                                                      "Syntax errors in policy: Action is neither a string nor a list of strings (statement 1)",
		policy("Allow", `"Action":"s3:*","NotAction":"s3:*"`):                                                "Syntax errors in policy: Action and NotAction exclude each other (statement 1)",
		policy("Allow", good+`,"Resources":"*"`):                                                             `Syntax errors in policy: there is no element "Resources" (statement 1)`,
		policy("Allow", good+`,"Resource":"*"`):                                                              `Syntax errors in policy: the element "Resource" occurs twice (statement 1)`,
		policy("Allow", good+`,"Principal":"iot.amazonaws.com"`):                                             `Invalid principal in policy: "iot.amazonaws.com" (statement 1)`,
		policy("Allow", good+`,"Principal":{"service":"x"}`):                                                 `Invalid principal in policy: "service" (statement 1)`,
		policy("Allow", good+`,"Condition":{"StringMatches":{"a":"b"}}`):                                     "Invalid Condition type : StringMatches (statement 1)",
		policy("Allow", good+`,"Condition":{"StringEquals":{"a":[]}}`):                                       "Syntax errors in policy: condition StringEquals a has no value (statement 1)",
		policy("Allow", good+`,"Condition":{"StringEquals":{"a":{}}}`):                                       "Syntax errors in policy: the values of condition StringEquals a are not strings (statement 1)",
		policy("Allow", good+`,"Condition":[]`):                                                              "Syntax errors in policy: Condition is not an object of operators and keys (statement 1)",
		`{"Statement":[{"Sid":"a","Effect":"Allow",` + good + `},{"Sid":"a","Effect":"Deny",` + good + `}]}`: "Statement IDs (SID) in a single policy must be unique.",
	} {
		_, err := Parse(document)
		var refusal *Error
		require.ErrorAs(t, err, &refusal, document)
		assert.Equal(t, "MalformedPolicyDocument", refusal.Code)
		assert.Equal(t, 400, refusal.Status)
		assert.Equal(t, want, refusal.Message, document)
	}
}

// FuzzParse checks that what parses is JSON, always decides, and that a denial of everything added to it wins.
func FuzzParse(f *testing.F) {
	f.Add(walkthroughTrust, "s3:GetObject", "arn:aws:s3:::b/k", "v")
	f.Add(policy("Allow", `"Action":"s3:*","Resource":"arn:${aws:a}*?","Condition":{"ForAllValues:StringLikeIfExists":{"aws:a":["${aws:a}","*"]},"DateLessThan":{"aws:a":"1"}}`), "s3:GetObject", "arn:*", "2026-01-01")
	f.Add(policy("Deny", `"NotAction":"*","NotResource":"*","Principal":{"AWS":"123456789012"}`), "a", "b", `\*`)
	f.Fuzz(func(t *testing.T, document, action, resource, value string) {
		d, err := Parse(document)
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("%T", err)
			}
			return
		}
		if !json.Valid([]byte(document)) {
			t.Fatal("it is no JSON")
		}
		r := Request{Principal: "iot.amazonaws.com", Action: action, Resource: resource, Context: map[string]string{"aws:a": value, "aws:SourceArn": value}}
		first := d.Evaluate(r)
		if again := d.Evaluate(r); again != first {
			t.Fatal("it decides one way and then another")
		}
		with := &Document{Version: d.Version, Statements: append(append([]Statement{}, d.Statements...), Statement{Effect: DenyEffect, Action: []string{"*"}})}
		if with.Evaluate(r) != Deny {
			t.Fatal("a denial did not win")
		}
	})
}

// FuzzGlob checks the matcher against one that is too simple to be wrong.
func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "axxbyc")
	f.Add("**", "")
	f.Add(`*\*\`, "**")
	f.Add("?\xff*ä", "ä\xfe\xffä")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 12 || len(s) > 12 {
			return
		}
		if got, want := glob(pattern, s, false), slowGlob([]rune(pattern), []rune(s)); got != want {
			t.Fatalf("glob(%q, %q) = %v", pattern, s, got)
		}
		if !glob(quoteGlob.Replace(s), s, false) {
			t.Fatalf("%q quoted does not match itself", s)
		}
	})
}

func slowGlob(p, s []rune) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == '*':
		return slowGlob(p[1:], s) || len(s) > 0 && slowGlob(p, s[1:])
	case p[0] == '\\':
		return len(p) > 1 && len(s) > 0 && p[1] == s[0] && slowGlob(p[2:], s[1:])
	}
	return len(s) > 0 && (p[0] == '?' || p[0] == s[0]) && slowGlob(p[1:], s[1:])
}

func ExampleDocument_Evaluate() {
	trust, err := Parse(`{
		"Version": "2012-10-17",
		"Statement": {
			"Effect": "Allow",
			"Principal": {"Service": "iot.amazonaws.com"},
			"Action": "sts:AssumeRole",
			"Condition": {"StringEquals": {"aws:SourceAccount": "123456789012"}}
		}
	}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, account := range []string{"123456789012", "999999999999"} {
		fmt.Println(trust.Evaluate(Request{Principal: "iot.amazonaws.com", Action: "sts:AssumeRole", Context: map[string]string{"aws:SourceAccount": account}}))
	}
	// Output:
	// Allow
	// None
}
