package template_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/template"
)

const (
	pseudo        = "AWS::IoT::Certificate::"
	publishOnly   = `"{ \"Version\": \"2012-10-17\", \"Statement\": [{ \"Effect\": \"Allow\", \"Action\":[\"iot:Publish\"], \"Resource\": [\"arn:aws:iot:us-east-1:123456789012:topic/foo/bar\"] }] }"`
	ownID         = `"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "` + pseudo + `Id"}, "Status": "ACTIVE"}}`
	namedPolicy   = `"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "p"}}`
	declaresThing = `"Parameters": {"ThingName": {"Type": "String"}}`
)

// published has the shapes of templates that AWS, and tools that are used with it, publish, with what there is to say
// about each: nothing, unless the sample has a fault.
var published = []struct {
	source string
	kind   template.Kind
	rules  []finding.Rule // Warning or Error
	src    string
}{
	{"developer guide, provision-template, bulk", template.Bulk, []finding.Rule{"policy-no-connect"}, `{
		"Parameters": {"ThingName": {"Type": "String"}, "SerialNumber": {"Type": "String"}, "Location": {"Type": "String", "Default": "WA"}, "CSR": {"Type": "String"}},
		"Resources": {
			"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}, "AttributePayload": {"version": "v1", "serialNumber": {"Ref": "SerialNumber"}, "location": {"Ref": "Location"}}, "ThingTypeName": "lightBulb-versionA"}},
			"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"}},
			"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": ` + publishOnly + `}}}}`},
	{"the same with groups", template.Bulk, nil, `{
		"Parameters": {"ThingName": {"Type": "String"}, "CSR": {"Type": "String"}},
		"Resources": {
			"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}, "ThingGroups": ["v1-lightbulbs", "WA"]}, "OverrideSettings": {"ThingGroups": "DO_NOTHING"}},
			"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"}},
			"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": ` + publishOnly + `}}}}`},
	{"developer guide, jit-provisioning", template.JITP, nil, `{
		"Parameters": {"` + pseudo + `CommonName": {"Type": "String"}, "` + pseudo + `SerialNumber": {"Type": "String"}, "` + pseudo + `Country": {"Type": "String"}, "` + pseudo + `Id": {"Type": "String"}},
		"Resources": {
			"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "` + pseudo + `CommonName"}, "AttributePayload": {"version": "v1", "serialNumber": {"Ref": "` + pseudo + `SerialNumber"}},
				"ThingTypeName": "lightBulb-versionA", "ThingGroups": ["v1-lightbulbs", {"Ref": "` + pseudo + `Country"}]},
				"OverrideSettings": {"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "ThingGroups": "DO_NOTHING"}}, ` + ownID + `,
			"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": ` + publishOnly + `}}}}`},
	{"developer guide, provision-wo-cert, fleet", template.Fleet, []finding.Rule{"parameter-undeclared"}, `{
		"Parameters": {"DeviceLocation": {"Type": "String"}},
		"Mappings": {"LocationTable": {"Seattle": {"LocationUrl": "https://example.aws"}}},
		"Resources": {
			"thing": {"Type": "AWS::IoT::Thing", "Properties": {"AttributePayload": {"version": "v1", "serialNumber": "serialNumber"},
				"ThingName": {"Fn::Join": ["", ["ThingPrefix_", {"Ref": "SerialNumber"}]]}, "ThingGroups": ["widgets", "WA"], "BillingGroup": "BillingGroup"},
				"OverrideSettings": {"AttributePayload": "MERGE", "ThingGroups": "DO_NOTHING"}},
			"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "` + pseudo + `Id"}, "Status": "Active", "ThingPrincipalType": "EXCLUSIVE_THING"}},
			"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["iot:Publish"], "Resource": ["arn:aws:iot:us-east-1:504350838278:topic/foo/bar"]}]}}}},
		"DeviceConfiguration": {"FallbackUrl": "https://www.example.com/test-site", "LocationUrl": {"Fn::FindInMap": ["LocationTable", {"Ref": "DeviceLocation"}, "LocationUrl"]}}}`},
	{"lamassuiot connector", template.JITP, nil, `{
		"Parameters": {"` + pseudo + `CommonName": {"Type": "String"}},
		"Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "` + pseudo + `CommonName"}, "ThingGroups": ["LAMASSU"]}}, ` + ownID + `, ` + namedPolicy + `}}`},
	{"terraform provider example", template.Fleet, nil, `{
		"Parameters": {"SerialNumber": {"Type": "String"}},
		"Resources": {"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "` + pseudo + `Id"}, "Status": "Active"}},
			"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}}}, ` + namedPolicy + `}}`},
	{"terraform provider example, without a thing", template.Fleet, nil, `{"Resources": {"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "` + pseudo + `Id"}, "Status": "Active"}}, ` + namedPolicy + `}}`},
	{"Nordic asset tracker: the group carries the policy", template.JITP, nil, `{
		"Parameters": {"` + pseudo + `CommonName": {"Type": "String"}, "` + pseudo + `Id": {"Type": "String"}},
		"Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "` + pseudo + `CommonName"}, "ThingGroups": ["Things"]}}, ` + ownID + `}}`},
	{"aws-iot-jitp-sample-scripts: declares what its certificates do not have", template.JITP, []finding.Rule{"parameter-unused"}, `{
		"Parameters": {"` + pseudo + `CommonName": {"Type": "String"}, "` + pseudo + `SerialNumber": {"Type": "String"}, "` + pseudo + `Id": {"Type": "String"}},
		"Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "` + pseudo + `CommonName"}}}, ` + ownID + `, ` + namedPolicy + `}}`},
	{"device-management workshop: an unset variable of the shell", template.Bulk, []finding.Rule{"policy-source", "policy-source"}, `{` + declaresThing + `,
		"Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
			"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "ThingName"}}},
			"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": ""}}}}`},
}

func TestTemplatesAsTheyArePublishedDrawNoFalseWarning(t *testing.T) {
	for _, tc := range published {
		tm, err := template.Parse([]byte(tc.src))
		require.NoError(t, err, tc.source)
		var rules []finding.Rule
		for _, f := range tm.Check(tc.kind).AtLeast(finding.Warning) {
			rules = append(rules, f.Rule)
		}
		assert.Equal(t, tc.rules, rules, "%s:\n%s", tc.source, tm.Check(tc.kind))
	}
}

// containsWord reports whether a text has a word, in the plural too.
func containsWord(text, word string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(text, func(r rune) bool { return r < 'A' }), func(w string) bool { return strings.TrimSuffix(w, "s") == word })
}

func TestARuleSpeaksOfTheKindOfTemplateItIsAbout(t *testing.T) {
	for _, tc := range published {
		tm, err := template.Parse([]byte(tc.src))
		require.NoError(t, err)
		for _, kind := range []template.Kind{template.Bulk, template.JITP, template.Fleet} {
			for _, f := range tm.Check(kind) {
				assert.True(t, kind == template.Bulk || !containsWord(f.Message, "row"), "%s: %s", kind, f.Message)
				assert.True(t, kind == template.Bulk || !containsWord(f.Message, "bulk"), "%s: %s", kind, f.Message)
			}
			p, err := tm.Compile(template.CompileOptions{Kind: kind, AllowFunctions: true})
			if err != nil {
				continue
			}
			for _, f := range p.CheckRow(nil) {
				assert.True(t, kind == template.Bulk || !containsWord(f.Message, "row"), "%s: %s", kind, f.Message)
			}
		}
	}
}

func TestAPolicyOfAnEmptyNameIsNone(t *testing.T) {
	tm, err := template.Parse([]byte(`{` + declaresThing + `, "Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": {"Ref": "Policy"}}}}}`))
	require.NoError(t, err)
	p, err := tm.Compile(template.CompileOptions{})
	require.NoError(t, err)
	_, err = p.Resolve(map[string]string{"ThingName": "a", "Policy": ""})
	require.ErrorIs(t, err, finding.Rule("policy-source"))
	assert.Equal(t, "Invalid registration template. Neither policyName nor policyDocument is present in the Template.", template.AWSMessage(err))
	tm.Resources["policy"] = template.Policy{PolicyName: template.Literal("")}
	_, err = tm.Compile(template.CompileOptions{})
	require.ErrorIs(t, err, finding.Rule("policy-source"))
	assert.Equal(t, "Invalid registration template. Neither policyName nor policyDocument is present in the Template.", template.AWSMessage(err))
	tm.Resources["policy"] = template.Policy{PolicyName: template.Literal(""), PolicyDocument: template.OwnTopics("aws", "us-east-1", "111122223333")}
	p, err = tm.Compile(template.CompileOptions{})
	require.NoError(t, err)
	res, err := p.Resolve(map[string]string{"ThingName": "a"})
	require.NoError(t, err)
	assert.Empty(t, res.Policies[0].PolicyName)
	assert.NotEmpty(t, res.Policies[0].PolicyDocument)
}

func TestADevicesPoliciesAreComparedWithThePlaceItIsRegisteredIn(t *testing.T) {
	tm := template.FromCSR(template.Policy{PolicyDocument: template.OwnTopics("aws", "eu-central-1", "123456789012")})
	tm.Resources["named"] = template.Policy{PolicyName: template.Literal("p")}
	p, err := tm.Compile(template.CompileOptions{})
	require.NoError(t, err)
	res, err := p.Resolve(map[string]string{"ThingName": "a", "CSR": pemCSR})
	require.NoError(t, err)
	assert.Empty(t, res.CheckPlace("aws", "eu-central-1", "123456789012"))
	assert.Empty(t, res.CheckPlace("", "", ""))
	found := res.CheckPlace("aws", "eu-central-1", "111122223333")
	require.Len(t, found, 3, "one for each statement")
	assert.Equal(t, finding.Rule("policy-elsewhere"), found[0].Rule)
	assert.Equal(t, finding.Warning, found[0].Severity)
	assert.Equal(t, "/Resources/policy/Properties/PolicyDocument", found[0].Pointer)
	assert.Contains(t, found[0].Message, "the account 123456789012, which AWS's examples have; this is 111122223333")
	assert.True(t, res.AllowsConnect())
	res.Policies = res.Policies[:0]
	assert.False(t, res.AllowsConnect())
	res.Policies = append(res.Policies, template.PolicySpec{PolicyDocument: statements(`{"Effect":"Deny","Action":"iot:*","Resource":"*"}`)},
		template.PolicySpec{PolicyDocument: string(template.OwnTopics("aws", "eu-central-1", "123456789012"))})
	assert.False(t, res.AllowsConnect(), "a denial wins")
}
