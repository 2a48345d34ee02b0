package template_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/template"
)

const pemCSR = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"

// everything refers to a parameter in every place that has a rule.
const everything = `{"Resources": {
  "t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Name"}, "ThingTypeName": {"Ref": "Type"}, "BillingGroup": {"Ref": "Billing"},
    "ThingGroups": [{"Ref": "Group1"}, {"Ref": "Group2"}], "AttributePayload": {"serial": {"Ref": "Serial"}}}},
  "c": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": {"Ref": "Status"}}},
  "p": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": {"Ref": "Policy"}}},
  "q": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Ref": "Document"}}}
}}`

func goodRow() map[string]string {
	return map[string]string{
		"Name": "device-1", "Type": "sensor", "Billing": "b", "Group1": "g1", "Group2": "g2", "Serial": "00:1", "CSR": pemCSR,
		"Status": "active", "Policy": "p", "Document": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`,
	}
}

func TestCheckRowFindsEachBadValueAndNamesParameterPlaceAndRule(t *testing.T) {
	p := compiled(t, everything, template.CompileOptions{})
	require.Empty(t, p.CheckRow(goodRow()))
	for _, tc := range []struct {
		parameter, value string
		rule             finding.Rule
		pointer          string
	}{
		{"Name", "device.1", "thing-name", "/Resources/t/Properties/ThingName"},
		{"Name", "", "thing-name", "/Resources/t/Properties/ThingName"},
		{"Name", strings.Repeat("x", 129), "thing-name", "/Resources/t/Properties/ThingName"},
		{"Type", "", "thing-type-name", "/Resources/t/Properties/ThingTypeName"},
		{"Billing", "b b", "billing-group-name", "/Resources/t/Properties/BillingGroup"},
		{"Serial", "München", "attribute-value", "/Resources/t/Properties/AttributePayload/serial"},
		{"Serial", strings.Repeat("x", 801), "attribute-value", "/Resources/t/Properties/AttributePayload/serial"},
		{"Group1", "", "thing-group-name", "/Resources/t/Properties/ThingGroups"},
		{"Group1", "g2", "group-repeated", "/Resources/t/Properties/ThingGroups"},
		{"CSR", "", "csr", "/Resources/c/Properties/CertificateSigningRequest"},
		{"CSR", pemCSR + strings.Repeat("x", 4096), "csr", "/Resources/c/Properties/CertificateSigningRequest"},
		{"CSR", "-----BEGIN CERTIFICATE-----", "csr", "/Resources/c/Properties/CertificateSigningRequest"},
		{"Status", "REVOKED", "certificate-status", "/Resources/c/Properties/Status"},
		{"Policy", "my policy", "policy-name", "/Resources/p/Properties/PolicyName"},
		{"Document", "{", "policy-document-json", "/Resources/q/Properties/PolicyDocument"},
		{"Document", "{}", "policy-document-shape", "/Resources/q/Properties/PolicyDocument"},
		{"Nonsense", "x", "unknown-parameter", ""},
	} {
		row := goodRow()
		row[tc.parameter] = tc.value
		issues := p.CheckRow(row)
		require.NotEmpty(t, issues, "%s=%.20q", tc.parameter, tc.value)
		i := issues[0]
		assert.Equal(t, tc.rule, i.Rule, "%s=%.20q", tc.parameter, tc.value)
		assert.Equal(t, tc.pointer, i.Pointer)
		assert.Equal(t, tc.parameter, i.Parameter)
		assert.Contains(t, i.Error(), tc.rule)
		assert.Contains(t, i.Error(), tc.parameter)
		assert.Less(t, len(i.Error()), 500, "a message does not quote long values")
	}
}

func TestCheckRowReportsEveryMissingParameterOnce(t *testing.T) {
	p := compiled(t, everything, template.CompileOptions{})
	var missing []string
	for _, i := range p.CheckRow(nil) {
		assert.Equal(t, finding.Rule("missing-parameter"), i.Rule)
		assert.ErrorIs(t, &i, template.ErrMissingParameter)
		assert.NotEmpty(t, i.Pointer)
		missing = append(missing, i.Parameter)
	}
	assert.ElementsMatch(t, p.Required(), missing)
}

func TestCheckRowAgreesWithResolveAboutWhatIsMissing(t *testing.T) {
	p := compiled(t, good{parameters: `, "D": {"Type": "String", "Default": "x"}`, thing: `, "BillingGroup": {"Ref": "D"}`}.String(),
		template.CompileOptions{EmptyIsMissing: true})
	row := map[string]string{"ThingName": "a", "CSR": pemCSR, "D": ""}
	assert.Empty(t, p.CheckRow(row))
	row["ThingName"] = ""
	issues := p.CheckRow(row)
	require.Len(t, issues, 1)
	assert.Equal(t, finding.Rule("missing-parameter"), issues[0].Rule)
}

func TestAPrivateKeyInARowIsReportedAndNeverQuoted(t *testing.T) {
	const key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIsecret\n-----END EC PRIVATE KEY-----\n"
	p := compiled(t, everything, template.CompileOptions{})
	for parameter := range goodRow() {
		row := maps.Clone(goodRow())
		row[parameter] = key
		issues := p.CheckRow(row)
		require.Len(t, issues, 1, parameter)
		assert.Equal(t, finding.Rule("private-key"), issues[0].Rule)
		assert.Equal(t, parameter, issues[0].Parameter)
		assert.NotContains(t, issues[0].Error(), "secret")
	}
}

func TestCheckRowChecksConstantsAndCountsOfTheTemplateToo(t *testing.T) {
	row := map[string]string{"ThingName": "a", "CSR": pemCSR}
	for rule, src := range map[finding.Rule]string{
		"attribute-count":      good{attributes: manyAttributes(3)}.String(),
		"attribute-name":       good{attributes: `, "a b": "c"`}.String(),
		"billing-group-name":   good{thing: `, "BillingGroup": "a b"`}.String(),
		"policy-count":         good{resources: morePolicies(10)}.String(),
		"policy-document-json": good{resources: `, "q": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": "{"}}`}.String(),
		"group-count":          good{thing: `, "ThingGroups": ["a","b","c","d","e","f","g","h","i","j","k"]`}.String(),
	} {
		issues := compiled(t, src, template.CompileOptions{}).CheckRow(row)
		require.Len(t, issues, 1, rule)
		assert.Equal(t, rule, issues[0].Rule)
		assert.Empty(t, issues[0].Parameter, rule)
	}
}

func TestCheckRowNamesAllParametersOfAComposedValue(t *testing.T) {
	p := compiled(t, good{thing: `, "BillingGroup": {"Fn::Join": [" ", [{"Ref": "ThingName"}, {"Ref": "B"}]]}`}.String(),
		template.CompileOptions{AllowFunctions: true})
	issues := p.CheckRow(map[string]string{"ThingName": "a", "CSR": pemCSR, "B": "c"})
	require.Len(t, issues, 1)
	assert.Equal(t, "B", issues[0].Parameter)
	assert.Contains(t, issues[0].Message, "made from B, ThingName")
}

func TestCheckRowReportsAFunctionThatHasNoResultForTheRow(t *testing.T) {
	p := compiled(t, good{thing: `, "BillingGroup": {"Fn::Select": [1, {"Fn::Split": ["-", {"Ref": "ThingName"}]}]},
		"ThingGroups": {"Fn::FindInMap": ["T", {"Ref": "ThingName"}, "groups"]}`, top: `, "Mappings": {"T": {"a-b": {"groups": ["g"]}}}`}.String(),
		template.CompileOptions{AllowFunctions: true})
	assert.Empty(t, p.CheckRow(map[string]string{"ThingName": "a-b", "CSR": pemCSR}))
	issues := p.CheckRow(map[string]string{"ThingName": "a", "CSR": pemCSR})
	require.Len(t, issues, 2)
	for i, pointer := range []string{"BillingGroup/Fn::Select", "ThingGroups/Fn::FindInMap"} {
		assert.Equal(t, finding.Rule("function-result"), issues[i].Rule)
		assert.Equal(t, "ThingName", issues[i].Parameter)
		assert.Equal(t, "/Resources/thing/Properties/"+pointer, issues[i].Pointer)
		assert.ErrorIs(t, &issues[i], template.ErrFunction)
	}
}
