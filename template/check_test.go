package template_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/template"
)

// good is a bulk template that Check has nothing to say about, with places to put something wrong.
type good struct {
	top, parameters, thing, attributes, beside, certificate, policy, resources string
	thingName, form, document                                                  string
}

func (g good) String() string {
	or := func(s, standard string) string {
		if s == "" {
			return standard
		}
		return s
	}
	return `{
  "Parameters": {"ThingName": {"Type": "String"}, "CSR": {"Type": "String"}` + g.parameters + `},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {
      ` + or(g.thingName, `"ThingName": {"Ref": "ThingName"}`) + g.thing + `,
      "AttributePayload": {"version": "v1"` + g.attributes + `}}` + g.beside + `},
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
      ` + or(g.form, `"CertificateSigningRequest": {"Ref": "CSR"}`) + g.certificate + `}},
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {
      ` + or(g.document, `"PolicyDocument": "{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"iot:Connect\",\"Resource\":\"arn:aws:iot:us-east-1:123456789012:client/*\"}}"`) + g.policy + `}}` + g.resources + `
  }` + g.top + `
}`
}

func policyDocument(text string) string { return fmt.Sprintf(`"PolicyDocument": %q`, text) }

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `, "a%d": "x"`, i)
	}
	return b.String()
}

// broken has a template for each rule, that breaks it.
var broken = []struct {
	rule     finding.Rule
	kind     template.Kind
	severity finding.Severity
	pointer  string
	src      string
}{
	{"wrapped", template.Bulk, finding.Note, "", fmt.Sprintf(`{"templateBody": %q}`, good{})},
	{"body-length", template.Bulk, finding.Error, "", good{top: `, "Description": "` + strings.Repeat("x", 10240) + `"`}.String()},
	{"duplicate-key", template.Bulk, finding.Warning, "/Resources/thing/Properties/AttributePayload/version", good{attributes: `, "version": "v2"`}.String()},
	{"unknown-member", template.Bulk, finding.Warning, "/Description", good{top: `, "Description": "our fleet"`}.String()},
	{"unknown-member", template.Bulk, finding.Warning, "/Resources/thing/DependsOn", good{beside: `, "DependsOn": "policy"`}.String()},
	{"unknown-property", template.Bulk, finding.Warning, "/Resources/thing/Properties/Tags", good{thing: `, "Tags": []`}.String()},
	{"null-member", template.Bulk, finding.Warning, "/Resources/thing/Properties/BillingGroup", good{thing: `, "BillingGroup": null`}.String()},
	{"no-resources", template.Bulk, finding.Error, "/Resources", `{"Resources": {}}`},
	{"no-resources", template.Bulk, finding.Error, "/Resources", `{}`},
	{"section-undocumented", template.Bulk, finding.Warning, "/Mappings", good{top: `, "Mappings": {}`}.String()},
	{"section-undocumented", template.JITP, finding.Warning, "/DeviceConfiguration", good{top: `, "DeviceConfiguration": {}`}.String()},
	{"value-shape", template.Bulk, finding.Error, "/Resources/thing/Properties/BillingGroup", good{thing: `, "BillingGroup": ["a"]`}.String()},
	{"value-shape", template.Bulk, finding.Error, "/Resources/thing/Properties/ThingGroups", good{thing: `, "ThingGroups": "a"`}.String()},
	{"value-shape", template.Bulk, finding.Error, "/Resources/thing/Properties/ThingGroups", good{thing: `, "ThingGroups": {"Ref": "CSR"}`}.String()},
	{"device-configuration", template.Fleet, finding.Error, "/DeviceConfiguration/urls", good{top: `, "DeviceConfiguration": {"urls": {"a": "b"}}`}.String()},

	{"parameter-undeclared", template.Bulk, finding.Warning, "/Resources/thing/Properties/BillingGroup/Ref", good{thing: `, "BillingGroup": {"Ref": "Group"}`}.String()},
	{"parameter-undeclared", template.JITP, finding.Warning, "/Resources/thing/Properties/BillingGroup/Ref", good{thing: `, "BillingGroup": {"Ref": "AWS::IoT::Certificate::Country"}`}.String()},
	{"parameter-undeclared", template.JITP, finding.Error, "/Resources/thing/Properties/BillingGroup/Ref", good{thing: `, "BillingGroup": {"Ref": "Group"}`}.String()},
	{"parameter-unfilled", template.JITP, finding.Error, "/Resources/thing/Properties/ThingName/Ref", good{}.String()},
	{"parameter-unused", template.Bulk, finding.Warning, "/Parameters/Serial", good{parameters: `, "Serial": {"Type": "String"}`}.String()},
	{"parameter-type", template.Bulk, finding.Warning, "/Parameters/Serial/Type", good{parameters: `, "Serial": {"Type": "Number"}`}.String()},
	{"parameter-type", template.Bulk, finding.Warning, "/Parameters/Serial", good{parameters: `, "Serial": {}`}.String()},
	{"parameter-member", template.Bulk, finding.Warning, "/Parameters/Serial/AllowedValues", good{parameters: `, "Serial": {"Type": "String", "AllowedValues": ["a"]}`}.String()},
	{"parameter-default", template.Bulk, finding.Error, "/Parameters/Serial/Default", good{parameters: `, "Serial": {"Type": "String", "Default": ["a"]}`}.String()},
	{"parameter-default", template.Bulk, finding.Warning, "/Parameters/Serial/Default", good{parameters: `, "Serial": {"Type": "String", "Default": 7}`}.String()},
	{"parameter-name", template.Bulk, finding.Error, "/Parameters/", good{parameters: `, "": {"Type": "String"}`}.String()},
	{"ref-resource", template.Bulk, finding.Error, "/Resources/thing/Properties/BillingGroup/Ref", good{thing: `, "BillingGroup": {"Ref": "policy"}`}.String()},
	{"ref-pseudo", template.Bulk, finding.Error, "/Resources/thing/Properties/BillingGroup/Ref", good{thing: `, "BillingGroup": {"Ref": "AWS::Region"}`}.String()},
	{"ref-pseudo", template.Bulk, finding.Warning, "/Resources/thing/Properties/BillingGroup/Ref", good{thing: `, "BillingGroup": {"Ref": "AWS::IoT::Certificate::Country"}`}.String()},
	{"ref-pseudo", template.JITP, finding.Error, "/Resources/thing/Properties/BillingGroup/Ref", good{thing: `, "BillingGroup": {"Ref": "AWS::IoT::Certificate::Colour"}`}.String()},
	{"ref-pseudo", template.Fleet, finding.Warning, "/Resources/thing/Properties/BillingGroup/Ref", good{thing: `, "BillingGroup": {"Ref": "AWS::IoT::Certificate::Country"}`}.String()},
	{"reference-cycle", template.Bulk, finding.Error, "/Parameters/A", good{parameters: `, "A": {"Default": {"Ref": "B"}}, "B": {"Default": {"Ref": "A"}}`}.String()},
	{"reference-cycle", template.Bulk, finding.Error, "/Resources/thing", good{thing: `, "BillingGroup": {"Ref": "thing"}`}.String()},

	{"function-shape", template.Fleet, finding.Error, "/Resources/thing/Properties/BillingGroup/Fn::Join", good{thing: `, "BillingGroup": {"Fn::Join": ["a", "b", "c"]}`}.String()},
	{"function-shape", template.Bulk, finding.Error, "/Resources/thing/Properties/BillingGroup/Ref", good{thing: `, "BillingGroup": {"Ref": ["CSR"]}`}.String()},
	{"function-shape", template.Fleet, finding.Warning, "/Resources/policy/Properties/PolicyDocument/Fn::Sub", good{document: `"PolicyDocument": {"Fn::Sub": ["{\"Version\": \"2012-10-17\"}"]}`}.String()},
	{"function-shape", template.Fleet, finding.Error, "/Resources/thing/Properties/BillingGroup/Fn::Split", good{thing: `, "BillingGroup": {"Fn::Split": ["-", "a-b"]}`}.String()},
	{"function-result", template.Fleet, finding.Warning, "/Resources/thing/Properties/BillingGroup/Fn::FindInMap", good{parameters: `, "Site": {"Type": "String", "Default": "unset"}`, thing: `, "BillingGroup": {"Fn::FindInMap": ["Sites", {"Ref": "Site"}, "group"]}`, top: `, "Mappings": {"Sites": {"ulm": {"group": "g"}}}`}.String()},
	{"function-result", template.Fleet, finding.Error, "/Resources/thing/Properties/BillingGroup/Fn::Select", good{thing: `, "BillingGroup": {"Fn::Select": [2, ["a", "b"]]}`}.String()},
	{"function-result", template.Fleet, finding.Error, "/Resources/policy/Properties/PolicyDocument/Fn::Select", good{document: `"PolicyDocument": {"Fn::Select": [1, ["{}"]]}`}.String()},
	{"function-undocumented", template.Bulk, finding.Warning, "/Resources/thing/Properties/BillingGroup/Fn::Join", good{thing: `, "BillingGroup": {"Fn::Join": ["-", ["a", "b"]]}`}.String()},
	{"function-in-mappings", template.Fleet, finding.Error, "/Mappings/T/a/b", good{top: `, "Mappings": {"T": {"a": {"b": {"Ref": "CSR"}}}}`}.String()},
	{"function-siblings", template.Bulk, finding.Error, "/Resources/thing/Properties/BillingGroup/Ref", good{thing: `, "BillingGroup": {"Ref": "CSR", "and": "more"}`}.String()},
	{"function-siblings", template.Bulk, finding.Error, "/Resources/policy/Properties/PolicyDocument/Statement/0/Resource/Ref", good{document: `"PolicyDocument": {"Statement": [{"Resource": {"Ref": "CSR", "and": "more"}}]}`}.String()},
	{"mapping-missing", template.Fleet, finding.Error, "/Resources/thing/Properties/BillingGroup/Fn::FindInMap/0", good{thing: `, "BillingGroup": {"Fn::FindInMap": ["Nope", {"Ref": "ThingName"}, "x"]}`}.String()},
	{"mapping-unused", template.Fleet, finding.Warning, "/Mappings/T", good{top: `, "Mappings": {"T": {"a": {"b": "c"}}}`}.String()},
	{"sub-variable", template.Fleet, finding.Warning, "/Resources/policy/Properties/PolicyDocument/Fn::Sub", good{document: `"PolicyDocument": {"Fn::Sub": "client/${iot:ClientId}"}`}.String()},

	{"no-thing", template.Fleet, finding.Note, "/Resources", `{"Resources": {"p": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "p"}}}}`},
	{"no-thing", template.Bulk, finding.Warning, "/Resources", `{"Resources": {"p": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "p"}}}}`},
	{"several-things", template.Bulk, finding.Warning, "/Resources/thing2", good{resources: `, "thing2": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "CSR"}}}`}.String()},
	{"thing-name-missing", template.Bulk, finding.Error, "/Resources/thing", good{thingName: `"BillingGroup": "b"`}.String()},
	{"constant-thing-name", template.Bulk, finding.Warning, "/Resources/thing/Properties/ThingName", good{thingName: `"ThingName": "device"`}.String()},
	{"attribute-shape", template.Bulk, finding.Error, "/Resources/thing/Properties/AttributePayload/attributes", good{attributes: `, "attributes": {"a": "b"}`}.String()},
	{"attribute-count", template.Bulk, finding.Error, "/Resources/thing/Properties/AttributePayload", good{attributes: manyAttributes(3)}.String()},
	{"attribute-count", template.Bulk, finding.Error, "/Resources/thing/Properties/AttributePayload", good{thing: `, "ThingTypeName": "t"`, attributes: manyAttributes(50)}.String()},
	{"group-count", template.Bulk, finding.Error, "/Resources/thing/Properties/ThingGroups", good{thing: `, "ThingGroups": ["a","b","c","d","e","f","g","h","i","j","k"]`}.String()},
	{"group-repeated", template.Bulk, finding.Warning, "/Resources/thing/Properties/ThingGroups", good{thing: `, "ThingGroups": ["a","a"]`}.String()},

	{"several-certificates", template.Bulk, finding.Error, "/Resources/zweites", good{resources: `, "zweites": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "CSR"}}}`}.String()},
	{"certificate-form", template.Bulk, finding.Error, "/Resources/certificate", good{certificate: `, "CertificateId": {"Ref": "CSR"}`}.String()},
	{"certificate-form", template.Bulk, finding.Error, "/Resources/certificate", good{form: `"Status": "ACTIVE"`}.String()},
	{"certificate-kind", template.Fleet, finding.Error, "/Resources/certificate/Properties/CertificateSigningRequest", good{}.String()},
	{"certificate-kind", template.JITP, finding.Error, "/Resources/certificate/Properties/CertificateSigningRequest", good{}.String()},
	{"certificate-ca", template.Bulk, finding.Warning, "/Resources/certificate/Properties/CACertificatePem", good{certificate: `, "CACertificatePem": {"Ref": "CSR"}`}.String()},
	{"certificate-status", template.Bulk, finding.Error, "/Resources/certificate/Properties/Status", good{certificate: `, "Status": "PENDING"`}.String()},
	{"status-case", template.Bulk, finding.Note, "/Resources/certificate/Properties/Status", good{certificate: `, "Status": "Active"`}.String()},
	{"status-inactive", template.Bulk, finding.Note, "/Resources/certificate/Properties/Status", good{certificate: `, "Status": "INACTIVE"`}.String()},
	{"constant-credential", template.Bulk, finding.Warning, "/Resources/certificate/Properties/CertificateId", good{form: `"CertificateId": "` + strings.Repeat("a", 64) + `"`}.String()},

	{"thing-principal-type", template.Fleet, finding.Error, "/Resources/certificate/Properties/ThingPrincipalType", good{certificate: `, "ThingPrincipalType": "EXCLUSIVE"`}.String()},
	{"thing-principal-type", template.Bulk, finding.Warning, "/Resources/certificate/Properties/ThingPrincipalType", good{certificate: `, "ThingPrincipalType": "EXCLUSIVE_THING"`}.String()},
	{"policy-source", template.Bulk, finding.Error, "/Resources/policy", good{policy: `, "PolicyName": "p"`}.String()},
	{"policy-source", template.Bulk, finding.Error, "/Resources/q", good{resources: `, "q": {"Type": "AWS::IoT::Policy", "Properties": {}}`}.String()},
	{"policy-source", template.Bulk, finding.Error, "/Resources/policy", good{document: `"PolicyName": ""`}.String()},
	{"policy-source", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyName", good{document: `"PolicyName": ""`}.String()},
	{"policy-source", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyName", good{policy: `, "PolicyName": ""`}.String()},
	{"policy-source", template.Bulk, finding.Error, "/Resources/policy", good{document: `"PolicyDocument": ""`}.String()},
	{"policy-count", template.Bulk, finding.Error, "/Resources", good{resources: morePolicies(10)}.String()},
	{"policy-without-certificate", template.Bulk, finding.Warning, "/Resources", `{"Resources": {"p": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "p"}}}}`},
	{"no-policy", template.Bulk, finding.Note, "/Resources", `{"Resources": {"c": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "Id"}}}, "t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Id"}, "ThingGroups": ["pumps"]}}}}`},
	{"no-policy", template.Bulk, finding.Warning, "/Resources", `{"Resources": {"c": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "Id"}}}, "t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Id"}, "ThingGroups": []}}}}`},
	{"policy-no-connect", template.JITP, finding.Note, "/Resources/policy/Properties/PolicyDocument", good{thing: `, "ThingGroups": ["pumps"]`, document: policyDocument(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["iot:Publish"], "Resource": ["*"]}]}`)}.String()},
	{"policy-no-connect", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{thing: `, "ThingGroups": ["pumps"]`, document: policyDocument(`{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": ["iot:Connect"], "Resource": ["*"]}]}`)}.String()},
	{"no-policy", template.Bulk, finding.Warning, "/Resources", `{"Resources": {"c": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "Id"}}}}}`},
	{"policy-document-json", template.Bulk, finding.Error, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(`{“Version”: "2012-10-17"}`)}.String()},
	{"policy-document-shape", template.Bulk, finding.Error, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(`{"Version": "2012-10-17"}`)}.String()},
	{"policy-document-shape", template.Bulk, finding.Error, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(`{"Version": "2012-10-17", "Statement": [{"Effect": "allow", "Action": "iot:*", "Resource": "x"}]}`)}.String()},
	{"policy-document-shape", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(`{"Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "x"}]}`)}.String()},
	{"policy-document-size", template.Bulk, finding.Error, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "` + strings.Repeat("x", 2048) + `"}]}`)}.String()},
	{"policy-document-object", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: `"PolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "x"}]}`}.String()},
	{"policy-no-connect", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["iot:Publish"], "Resource": ["*"]}]}`)}.String()},
	{"policy-allows-everything", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}`)}.String()},

	{"policy-action", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(statements(`{"Effect":"Allow","Action":"iot:recieve","Resource":"*"}`))}.String()},
	{"policy-action", template.Fleet, finding.Note, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(statements(`{"Effect":"Allow","Action":"iot:DescribeEndpoint","Resource":"*"}`))}.String()},
	{"policy-variable", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(statements(`{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:us-east-1:123456789012:client/${iot:Connection.ThingName}"}`))}.String()},
	{"policy-resource", template.JITP, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(statements(`{"Effect":"Allow","Action":"iot:Subscribe","Resource":"arn:aws:iot:us-east-1:123456789012:topic/a"}`))}.String()},
	{"policy-topic-wildcard", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(statements(`{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:us-east-1:123456789012:topic/+/a"}`))}.String()},
	{"policy-placeholder", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(statements(`{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:REGION:123456789012:client/a"}`))}.String()},
	{"policy-placeholder", template.Fleet, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: `"PolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": {"Fn::Join": ["", ["arn:aws:iot:us-east-1::client/", {"Ref": "ThingName"}]]}}]}`}.String()},
	{"policy-allows-everything", template.Bulk, finding.Warning, "/Resources/policy/Properties/PolicyDocument", good{document: policyDocument(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "NotAction": "iot:Publish", "Resource": ["arn:aws:iot:us-east-1:123456789012:*"]}]}`)}.String()},

	{"override-value", template.Bulk, finding.Error, "/Resources/thing/OverrideSettings/ThingTypeName", good{beside: `, "OverrideSettings": {"ThingTypeName": "MERGE"}`}.String()},
	{"override-value", template.Bulk, finding.Error, "/Resources/thing/OverrideSettings/ThingGroups", good{beside: `, "OverrideSettings": {"ThingGroups": {"Ref": "CSR"}}`}.String()},
	{"override-undocumented", template.Bulk, finding.Warning, "/Resources/thing/OverrideSettings/BillingGroup", good{beside: `, "OverrideSettings": {"BillingGroup": "REPLACE"}`}.String()},
	{"override-undocumented", template.Bulk, finding.Warning, "/Resources/q/OverrideSettings", good{resources: `, "q": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "q"}, "OverrideSettings": {}}`}.String()},
	{"override-misplaced", template.Bulk, finding.Warning, "/Resources/thing/Properties/OverrideSettings", good{thing: `, "OverrideSettings": {"ThingGroups": "FAIL"}`}.String()},
	{"override-without-use", template.Bulk, finding.Note, "/Resources/thing/OverrideSettings/ThingGroups", good{beside: `, "OverrideSettings": {"ThingGroups": "FAIL"}`}.String()},

	{"thing-name", template.Bulk, finding.Error, "/Resources/thing/Properties/ThingName", good{thingName: `"ThingName": "device 1"`}.String()},
	{"thing-name", template.Fleet, finding.Error, "/Resources/thing/Properties/ThingName", good{thingName: `"ThingName": {"Fn::Join": [" ", ["device", {"Ref": "ThingName"}]]}`}.String()},
	{"thing-type-name", template.Bulk, finding.Error, "/Resources/thing/Properties/ThingTypeName", good{thing: `, "ThingTypeName": "my.type"`}.String()},
	{"thing-group-name", template.Bulk, finding.Error, "/Resources/thing/Properties/ThingGroups/1", good{thing: `, "ThingGroups": ["a", ""]`}.String()},
	{"billing-group-name", template.Bulk, finding.Error, "/Resources/thing/Properties/BillingGroup", good{thing: `, "BillingGroup": "a/b"`}.String()},
	{"attribute-name", template.Bulk, finding.Error, "/Resources/thing/Properties/AttributePayload/serial number", good{attributes: `, "serial number": "1"`}.String()},
	{"attribute-value", template.Bulk, finding.Error, "/Resources/thing/Properties/AttributePayload/place", good{attributes: `, "place": "New York"`}.String()},
	{"attribute-value", template.Bulk, finding.Warning, "/Resources/thing/Properties/AttributePayload/place", good{parameters: `, "Place": {"Type": "String", "Default": "New York"}`, attributes: `, "place": {"Ref": "Place"}`}.String()},
	{"policy-name", template.Bulk, finding.Error, "/Resources/policy/Properties/PolicyName", good{document: `"PolicyName": "my policy"`}.String()},
	{"certificate-id", template.Bulk, finding.Error, "/Resources/certificate/Properties/CertificateId", good{form: `"CertificateId": "abc"`}.String()},
	{"csr", template.Bulk, finding.Error, "/Resources/certificate/Properties/CertificateSigningRequest", good{form: `"CertificateSigningRequest": "CSR"`}.String()},
	{"certificate-pem", template.Bulk, finding.Error, "/Resources/certificate/Properties/CertificatePem", good{form: `"CertificatePem": "x"`}.String()},
	{"private-key", template.Bulk, finding.Error, "/Resources/certificate/Properties/CertificateSigningRequest", good{form: `"CertificateSigningRequest": "-----BEGIN CERTIFICATE REQUEST-----\n-----BEGIN PRIVATE KEY-----"`}.String()},
	{"private-key", template.Bulk, finding.Error, "/Parameters/Key/Default", good{parameters: `, "Key": {"Type": "String", "Default": "-----BEGIN EC PRIVATE KEY-----"}`}.String()},
	{"private-key", template.Fleet, finding.Error, "/Mappings/T/a/b", good{top: `, "Mappings": {"T": {"a": {"b": "-----BEGIN PRIVATE KEY-----"}}}`}.String()},
	{"private-key", template.Bulk, finding.Error, "/Resources/policy/Properties/PolicyDocument", good{document: `"PolicyDocument": "-----BEGIN PRIVATE KEY-----"`}.String()},
	{"private-key", template.Bulk, finding.Error, "/Resources/thing/Properties/PackageVersions", good{thing: `, "PackageVersions": "-----BEGIN PRIVATE KEY-----"`}.String()},
	{"private-key", template.Fleet, finding.Error, "/DeviceConfiguration/key/Fn::Join/1/0", good{top: `, "DeviceConfiguration": {"key": {"Fn::Join": ["", ["-----BEGIN PRIVATE KEY-----", {"Ref": "CSR"}]]}}`}.String()},
	{"private-key", template.Bulk, finding.Error, "/Metadata/key", good{top: `, "Metadata": {"key": "-----BEGIN PRIVATE KEY-----"}`}.String()},
	{"private-key", template.Fleet, finding.Error, "/DeviceConfiguration/key", good{top: `, "DeviceConfiguration": {"key": "-----BEGIN RSA PRIVATE KEY-----"}`}.String()},
}

func morePolicies(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `, "p%d": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "p%d"}}`, i, i)
	}
	return b.String()
}

func TestCheckFindsEachFaultWhereItIsAndPointsIntoTheText(t *testing.T) {
	for _, tc := range broken {
		t.Run(string(tc.rule), func(t *testing.T) {
			tm, err := template.Parse([]byte(tc.src))
			require.NoError(t, err)
			issues := tm.Check(tc.kind)
			i := slices.IndexFunc(issues, func(i finding.Finding) bool { return i.Rule == tc.rule && i.Pointer == tc.pointer })
			require.GreaterOrEqual(t, i, 0, "%s at %s is missing from:\n%s", tc.rule, tc.pointer, issues)
			assert.Equal(t, tc.severity, issues[i].Severity)
			assert.NotEmpty(t, issues[i].Message)
			if key := tc.pointer[strings.LastIndexByte(tc.pointer, '/')+1:]; tc.pointer != "" && issues[i].Line > 0 {
				// The place is that of the member's name, or of the element in a list.
				at := tc.src[issues[i].Offset:]
				assert.True(t, strings.HasPrefix(at, `"`+key+`"`) || isIndex(key), "offset points at %.20q", at)
				assert.Equal(t, 1+strings.Count(tc.src[:issues[i].Offset], "\n"), int(issues[i].Line))
			}
		})
	}
}

func isIndex(s string) bool { return strings.Trim(s, "0123456789") == "" }

func TestCheckSaysNothingAboutAGoodTemplate(t *testing.T) {
	tm, err := template.Parse([]byte(good{}.String()))
	require.NoError(t, err)
	assert.Empty(t, tm.Check(template.Bulk))
	assert.NoError(t, tm.Check(template.Bulk).Err())
}

func TestEveryRuleIsListedExplainedAndProvoked(t *testing.T) {
	// Of rows: see CheckRow; of an account: see CheckPlace.
	provoked := map[finding.Rule]bool{"missing-parameter": true, "unknown-parameter": true, "policy-elsewhere": true}
	for _, tc := range broken {
		provoked[tc.rule] = true
	}
	listed := map[finding.Rule]template.RuleDoc{}
	for _, r := range template.Rules() {
		assert.NotContains(t, listed, r.Rule, "listed twice")
		assert.NotEmpty(t, r.Explanation, r.Rule)
		assert.True(t, provoked[r.Rule], "no template in this test breaks %s", r.Rule)
		listed[r.Rule] = r
	}
	for _, tc := range broken {
		require.Contains(t, listed, tc.rule)
		assert.True(t, tc.severity != finding.Error || listed[tc.rule].Severity.AtLeast(finding.Warning), tc.rule)
	}
}

func TestWalkthroughsOwnTemplateDrawsOnlyTheWarningThatItsDevicesCannotConnect(t *testing.T) {
	issues := template.Walkthrough().Check(template.Bulk)
	require.Len(t, issues, 1)
	assert.Equal(t, finding.Rule("policy-no-connect"), issues[0].Rule)
	assert.Equal(t, finding.Warning, issues[0].Severity)
	assert.Zero(t, issues[0].Line, "a template built in Go has no text")
	assert.NoError(t, issues.Err())
}

func TestReadyTemplatesDrawNoIssueAtAll(t *testing.T) {
	policy := template.Policy{PolicyDocument: template.OwnTopics("aws", "eu-central-1", "123456789012")}
	named := template.Policy{PolicyName: template.Literal("sensors")}
	for name, tm := range map[string]*template.Template{
		"CSR": template.FromCSR(policy, "SerialNumber"), "CSR, policy by name": template.FromCSR(named),
		"PEM": template.FromCertificatePEM(policy, "SerialNumber"), "own CA": template.FromOwnCA(policy, "SerialNumber"),
		"id":   template.FromCertificateID(policy),
		"none": template.WithoutCertificate("a", "b", "c"),
	} {
		assert.Empty(t, tm.Check(template.Bulk), name)
		_, err := tm.Compile(template.CompileOptions{})
		assert.NoError(t, err, name)
	}
	assert.Empty(t, template.FromCertificateID(policy).Check(template.Fleet))
	for _, i := range template.FromCertificateID(policy).Check(template.JITP) {
		assert.Equal(t, finding.Rule("parameter-unfilled"), i.Rule, "its rows hold what just-in-time provisioning has not: %v", i)
	}
}

func TestWhatIsWrongWithAPolicyDocumentIsSaidInThePolicysOwnWords(t *testing.T) {
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":[` + s + `]}` }
	for _, tc := range []struct {
		document string
		severity finding.Severity
		message  string
	}{
		{statement(`{"effect":"Allow","Action":"iot:Connect","Resource":"x"}`), finding.Warning, `statement 1 of the policy has "effect", which AWS does not document for policies; did you mean "Effect"?`},
		{statement(`{"effect":"Allow","Action":"iot:Connect","Resource":"x"}`), finding.Error, `statement 1 of the policy has no Effect: it must be Allow or Deny`},
		{statement(`{"Effect":"Allow","Action":"iot:Connect","Resource":"x","condition":{}}`), finding.Warning, `did you mean "Condition"?`},
		{statement(`{"Effect":["Allow"],"Action":"iot:Connect","Resource":"x"}`), finding.Error, `statement 1 of the policy has the Effect "": it must be Allow or Deny`},
		{statement(`{"Effect":"Allow","Action":"iot:Connect","Resource":"x"},{"Effect":"Allow","Action":7,"Resource":"x"}`), finding.Error, "statement 2 of the policy: Action must be a string or a list of strings, here is a number"},
		{statement(`{"Effect":"Allow","Action":"iot:Connect","Resource":["x",{"a":1}]}`), finding.Error, "statement 1 of the policy: Resource must be a string or a list of strings, here is an object"},
		{statement(`{"Effect":"Allow","Action":null,"Resource":"x"}`), finding.Error, "statement 1 of the policy has no Action"},
		{statement(`{"Effect":"Allow","Action":[],"Resource":"x"}`), finding.Error, "statement 1 of the policy has no Action"},
		{statement(`{"Effect":"Allow","Action":"iot:Connect"}`), finding.Error, "statement 1 of the policy has no Resource"},
		{statement(`{"Effect":"Deny","Effect":"Allow","Action":"iot:Connect","Resource":"x"}`), finding.Warning, `statement 1 of the policy has "Effect" twice; the last one counts`},
		{statement(`"iot:Connect"`), finding.Error, "statement 1 of the policy must be an object, this is a string"},
		{`{"Version":"2012-10-17","Statement":"iot:Connect"}`, finding.Error, "the Statement of the policy must be an object, this is a string"},
		{`{"Version":"2012-10-17","statement":[]}`, finding.Error, "the policy document has no Statement"},
		{`{"Version":"2012-10-17","statement":[]}`, finding.Warning, `did you mean "Statement"?`},
		{`{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"x"}}`, finding.Warning, `the Version of the policy document is "2008-10-17"; AWS IoT uses "2012-10-17"`},
		{statement(`{"Effect":"Allow","Action":"iot:Connect","Resource":"x","Principal":"*"}`), finding.Warning, "statement 1 of the policy has a principal"},
		{statement(`{"Effect":"Allow","Action":"iot:Connect","Resource":"x","Condition":{"StringMatches":{"iot:ClientId":"x"}}}`), finding.Error, `unknown operator "StringMatches"`},
		{`["iot:Connect"]`, finding.Error, "must be a JSON object, this is a list"},
	} {
		tm, err := template.Parse([]byte(good{document: policyDocument(tc.document)}.String()))
		require.NoError(t, err)
		issues := tm.Check(template.Bulk)
		assert.True(t, slices.ContainsFunc(issues, func(i finding.Finding) bool {
			return i.Severity == tc.severity && strings.Contains(i.Message, tc.message)
		}), "%q is missing from:\n%s", tc.message, issues)
		assert.NotContains(t, issues.String(), "policy-no-connect", "a policy that cannot be read is not judged: %s", tc.document)
	}
}

func TestAPolicyWithHolesIsJudgedByWhatStandsAroundThem(t *testing.T) {
	find := func(src string, rule finding.Rule) (found finding.List) {
		tm, err := template.Parse([]byte(src))
		require.NoError(t, err)
		for _, i := range tm.Check(template.Fleet) {
			if i.Rule == rule {
				found = append(found, i)
			}
		}
		return found
	}
	publish := good{document: `"PolicyDocument": {"Statement": {"Effect": "Allow", "Action": "iot:Publish", "Resource": {"Ref": "ThingName"}}}`}.String()
	assert.Len(t, find(publish, "policy-no-connect"), 1)
	assert.Len(t, find(publish, "policy-document-shape"), 1, "there is no Version")

	long := good{document: `"PolicyDocument": {"Fn::Sub": "{\"Statement\": ${Statements}, \"Id\": \"` + strings.Repeat("x", 2048) + `\"}"}`}.String()
	size := find(long, "policy-document-size")
	require.Len(t, size, 1)
	assert.Equal(t, finding.Warning, size[0].Severity)
	assert.Contains(t, size[0].Message, "with a single character for each parameter")
	assert.Empty(t, find(long, "policy-document-json"), "a row's value may make it JSON")

	byDefault := good{parameters: `, "Document": {"Type": "String", "Default": "{}"}`, document: `"PolicyDocument": {"Ref": "Document"}`}.String()
	shape := find(byDefault, "policy-document-shape")
	require.NotEmpty(t, shape)
	for _, i := range shape {
		assert.Equal(t, finding.Warning, i.Severity, "a row can bring a better one")
		assert.Contains(t, i.Message, "with the default")
	}
}

func TestWhatAParameterBringsIntoAPolicyIsNotJudged(t *testing.T) {
	src := good{document: `"PolicyDocument": {"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": {"Ref": "ThingName"}, "Resource": {"Ref": "CSR"}},
		{"Effect": "Allow", "Action": "iot:Connect", "Resource": {"Fn::Join": ["", ["arn:aws:iot:", {"Ref": "ThingName"}, ":", {"Ref": "CSR"}, ":client/a"]]}}]}`,
		form: `"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}`}.String()
	tm, err := template.Parse([]byte(src))
	require.NoError(t, err)
	assert.Empty(t, tm.Check(template.Fleet))
}

func TestAConstantThatLooksLikeAPlaceholderOrIsEmptyIsAskedAbout(t *testing.T) {
	for value, hint := range map[string]string{
		"$IOT_POLICY": "placeholder", "${policy}": "placeholder", "<policy>": "placeholder", "{{policy}}": "placeholder", "%POLICY%": "placeholder",
		"a b": "",
	} {
		tm, err := template.Parse([]byte(good{document: `"PolicyName": "` + value + `"`, thing: `, "BillingGroup": "` + value + `"`}.String()))
		require.NoError(t, err)
		issues := tm.Check(template.Bulk).AtLeast(finding.Error)
		require.Len(t, issues, 2, value)
		for _, i := range issues {
			assert.Equal(t, hint != "", strings.Contains(i.Message, "is it a placeholder that was to be filled in?"), i.Message)
		}
	}
	tm, err := template.Parse([]byte(good{thing: `, "BillingGroup": ""`}.String()))
	require.NoError(t, err)
	assert.ErrorContains(t, tm.Check(template.Bulk).Err(), "was a variable of the shell not set?")
}

func TestErrKeepsOnlyErrorsAndListsThemAll(t *testing.T) {
	src := good{thing: `, "BillingGroup": "a b", "ThingTypeName": "c d"`, top: `, "Description": ""`}.String()
	tm, err := template.Parse([]byte(src))
	require.NoError(t, err)
	err = tm.Check(template.Bulk).Err()
	assert.ErrorIs(t, err, finding.Rule("billing-group-name"))
	assert.ErrorIs(t, err, finding.Rule("thing-type-name"))
	assert.NotErrorIs(t, err, finding.Rule("unknown-member"))
	assert.Contains(t, err.Error(), "2 errors:")
}

func TestCheckAndCompileAndBodyOfHalfBuiltTemplatesDoNotPanic(t *testing.T) {
	var noThing *template.Thing
	for _, tm := range []*template.Template{
		{},
		{Resources: template.Resources{"x": nil}},
		{Resources: template.Resources{"x": noThing}},
		{Resources: template.Resources{"x": &template.Thing{ThingName: template.List{nil}}}},
		{Resources: template.Resources{"x": template.Policy{PolicyDocument: template.Object{"a": nil}}}},
		{Resources: template.Resources{"x": template.Policy{PolicyDocument: template.JSON("{")}}},
		{Resources: template.Resources{"x": template.Thing{ThingName: template.Call{Function: "Fn::Nope"}}}},
		{Resources: template.Resources{"x": template.Thing{ThingName: template.Call{Function: "Fn::Join"}}}},
		{Parameters: template.Parameters{"p": {Default: template.JSON("")}}, Mappings: template.Mappings{"t": {"a": {"b": nil}}}},
	} {
		for _, kind := range []template.Kind{template.Bulk, template.JITP, template.Fleet} {
			require.NotPanics(t, func() {
				assert.Error(t, tm.Check(kind).Err(), "%v", tm)
				_, err := tm.Compile(template.CompileOptions{Kind: kind})
				assert.Error(t, err)
				_, _ = tm.Body()
			})
		}
	}
}
