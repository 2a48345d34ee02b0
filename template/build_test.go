package template_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/template"
)

func TestATemplateBuiltInGoWithEverythingSurvivesParsing(t *testing.T) {
	built := &template.Template{
		Parameters: template.Parameters{"P": {}, "Site": {Default: template.Literal("Ulm")}, "Q": {Extra: template.Extra{"Description": json.RawMessage(`"q"`)}}},
		Mappings:   template.Mappings{"T": {"a": {"b": template.Literal("c"), "n": template.JSON("1.0"), "l": template.Literals("x")}}},
		Resources: template.Resources{
			"thing": &template.Thing{
				ThingName: template.Join("-", template.Literal("<&>"), template.Ref("P")), ThingTypeName: template.Sub("${P}"),
				AttributePayload: template.Object{"a": template.Select(1, template.Split(",", template.Ref("P"))), "n": template.JSON(" 12 ")},
				ThingGroups:      template.List{template.Ref("P"), template.Ref("Q")}, BillingGroup: template.FindInMap(template.Literal("T"), template.Literal("a"), template.Literal("b")),
				PackageVersions:  template.Literals("fw:1"),
				OverrideSettings: template.ThingOverrides{AttributePayload: template.Merge, ThingTypeName: template.Fail, ThingGroups: template.DoNothing},
			},
			"certificate": template.Certificate{
				CertificatePEM: template.Ref("P"), CACertificatePEM: template.Ref("Q"), Status: template.Inactive,
				OverrideSettings: template.CertificateOverrides{Status: template.Replace},
				ExtraProperties:  template.Extra{"More": json.RawMessage("{ }")}, Extra: template.Extra{"DependsOn": json.RawMessage(`"thing"`)},
			},
			"policy": &template.Policy{PolicyDocument: template.Object{"Statement": template.List{template.Object{"Resource": template.Ref("Site")}}}},
		},
		DeviceConfiguration: template.Object{"Url": template.Ref("Site")},
		Extra:               template.Extra{"Version": json.RawMessage("1")},
	}
	body, err := built.Body()
	require.NoError(t, err)
	assert.NotContains(t, body, "\\u003c", "no escaping that nobody asked for")
	parsed, err := template.Parse([]byte(body))
	require.NoError(t, err)
	again, err := parsed.Body()
	require.NoError(t, err)
	assert.Equal(t, body, again)
	assert.Equal(t, template.Parameter{Type: "String", Default: template.Literal("Ulm")}, parsed.Parameters["Site"])
	assert.Equal(t, "Fn::Join", parsed.Resources["thing"].(template.Thing).ThingName.(template.Call).Function)

	// Both make the same of a row.
	row := map[string]string{"P": "a,b", "Q": "q"}
	var got [2]*template.Resolution
	for i, tm := range []*template.Template{built, parsed} {
		p, err := tm.Compile(template.CompileOptions{AllowFunctions: true})
		require.NoError(t, err)
		got[i], err = p.Resolve(row)
		require.NoError(t, err)
	}
	assert.Equal(t, got[0], got[1])
	assert.Equal(t, map[string]string{"a": "b", "n": "12"}, got[0].Things[0].Attributes)
	assert.Equal(t, []string{"a,b", "q"}, got[0].Things[0].ThingGroups)
	assert.Equal(t, `{"Statement":[{"Resource":"Ulm"}]}`, got[0].Policies[0].PolicyDocument)
	assert.Equal(t, template.CertificateSpec{
		LogicalName: "certificate", CertificatePEM: "a,b", CACertificatePEM: "q", Status: "INACTIVE", OverrideStatus: template.Replace,
	}, *got[0].Certificate)
}

func TestAnObjectOfAPolicyDocumentMayHoldAnyJSONAndFunctionsAnywhere(t *testing.T) {
	const document = `{"n": 1.50, "t": true, "z": null, "s": "a\"b", "list": [{"Fn::Sub": "x${P}"}, [], {}, {"Ref": "P"}],
		"split": {"Fn::Split": [",", {"Ref": "P"}]}, "one": {"Fn::FindInMap": ["T", "a", "b"]}, "many": {"Fn::FindInMap": ["T", "a", "l"]}}`
	p := compiled(t, good{document: `"PolicyDocument": ` + document, top: `, "Mappings": {"T": {"a": {"b": "c", "l": ["d", "e"]}}}`}.String(),
		template.CompileOptions{AllowFunctions: true})
	r, err := p.Resolve(map[string]string{"ThingName": "t", "CSR": "c", "P": `1,"2`})
	require.NoError(t, err)
	assert.Equal(t, decoded(t, []byte(`{"n": 1.50, "t": true, "z": null, "s": "a\"b", "list": ["x1,\"2", [], {}, "1,\"2"],
		"split": ["1", "\"2"], "one": "c", "many": ["d", "e"]}`)), decoded(t, []byte(r.Policies[0].PolicyDocument)))
}

func TestAConstantPolicyDocumentKeepsTheOrderItWasWrittenIn(t *testing.T) {
	p := compiled(t, good{document: `"PolicyDocument": {"Version": "2012-10-17", "Statement": [ {"b": 1, "a": 2} ]}`}.String(), template.CompileOptions{})
	r, err := p.Resolve(map[string]string{"ThingName": "t", "CSR": "c"})
	require.NoError(t, err)
	assert.Equal(t, `{"Version":"2012-10-17","Statement":[{"b":1,"a":2}]}`, r.Policies[0].PolicyDocument)
}

func TestBodyIsRefusedBeyondAWSsLimitAndNotBefore(t *testing.T) {
	tm := template.WithoutCertificate()
	short, err := tm.Body()
	require.NoError(t, err)
	pad := func(n int) template.Extra { // ,"D":"…" takes 7 characters and what is in it; each ä is two bytes
		return template.Extra{"D": json.RawMessage(`"` + strings.Repeat("ä", n-len(short)-7) + `"`)}
	}
	tm.Extra = pad(10240)
	body, err := tm.Body()
	require.NoError(t, err)
	assert.Len(t, []rune(body), 10240)
	tm.Extra = pad(10240 + 1)
	_, err = tm.Body()
	assert.ErrorContains(t, err, "10241 characters long, AWS allows 10240")
}

func TestAnUndocumentedMemberNeverStandsBesideADocumentedOneOfItsName(t *testing.T) {
	raw := template.Extra{"x": json.RawMessage("1")}
	for _, name := range []string{
		"Parameters", "Mappings", "Resources", "DeviceConfiguration", "Type", "Default", "Properties", "OverrideSettings", "ThingName", "ThingGroups",
	} {
		raw[name] = json.RawMessage("null")
	}
	body, err := (&template.Template{
		Parameters: template.Parameters{"p": {Default: template.Literal("d"), Extra: raw}},
		Mappings:   template.Mappings{}, DeviceConfiguration: template.Object{}, Extra: raw,
		Resources: template.Resources{"t": template.Thing{
			ThingName: template.Ref("p"), ThingGroups: template.Literals("g"), ExtraProperties: raw, Extra: raw,
			OverrideSettings: template.ThingOverrides{ThingGroups: template.Fail, Extra: raw},
		}},
	}).Body()
	require.NoError(t, err)
	tm, err := template.Parse([]byte(body))
	require.NoError(t, err)
	for _, i := range tm.Check(template.Fleet) {
		assert.NotEqual(t, "duplicate-key", i.Rule, "%v", i)
	}
	assert.Equal(t, 5, strings.Count(body, `"x":1`), "what has a name of its own is kept")
}

func TestWhatCannotBeWrittenIsNamedWithItsPlace(t *testing.T) {
	for want, tm := range map[string]*template.Template{
		"/Resources/t/Properties/ThingGroups/1":     {Resources: template.Resources{"t": template.Thing{ThingGroups: template.List{template.Ref("a"), nil}}}},
		"/Resources/t/Properties/BillingGroup":      {Resources: template.Resources{"t": template.Thing{BillingGroup: template.JSON("{")}}},
		"/Resources/t":                              {Resources: template.Resources{"t": nil}},
		"/Resources/t/Properties/X":                 {Resources: template.Resources{"t": template.Thing{ExtraProperties: template.Extra{"X": nil}}}},
		"/Mappings/a/b/c":                           {Mappings: template.Mappings{"a": {"b": {"c": nil}}}},
		"/Parameters/p/Default":                     {Parameters: template.Parameters{"p": {Default: template.JSON("x")}}},
		"/Resources/t/Properties/ThingName/Fn::Sub": {Resources: template.Resources{"t": template.Thing{ThingName: template.Call{Function: "Fn::Sub"}}}},
	} {
		_, err := tm.Body()
		assert.ErrorContains(t, err, "template: "+want+": ")
	}
}

func TestFunctionsInTheWrongFormAreRefusedWithTheRightOne(t *testing.T) {
	for src, form := range map[string]string{
		`{"Fn::Join": "a"}`:                           `["delimiter", [`,
		`{"Fn::Join": ["a", "b"]}`:                    "a list is wanted",
		`{"Fn::Join": [["a"], ["b"]]}`:                "a list stands where a string",
		`{"Fn::Join": ["", {"Ref": "x"}]}`:            `[{"Ref": "x"}]`,
		`{"Fn::Join": ["", {"Fn::Sub": "x"}]}`:        "returns a string where a list",
		`{"Fn::Select": [0]}`:                         `[index, [`,
		`{"Fn::Select": [[], []]}`:                    "a list stands where a string",
		`{"Fn::Split": ["a"]}`:                        `["delimiter", "text"]`,
		`{"Fn::Split": ["a", "b"]}`:                   "take one value with Fn::Select",
		`{"Fn::FindInMap": ["a", "b"]}`:               `["Map", "first key", "second key"]`,
		`{"Fn::FindInMap": ["a", {}, "b"]}`:           "an object stands",
		`{"Fn::Sub": 1}`:                              "",
		`{"Fn::Sub": []}`:                             `"text ${Name}"`,
		`{"Fn::Sub": [["a"]]}`:                        `"text ${Name}"`,
		`{"Fn::Sub": ["a", "b"]}`:                     `"text ${Name}"`,
		`{"Fn::Sub": ["${a}", {"a": ["b"], "c": 1}]}`: "a list stands where a string",
		`{"Fn::Sub": {"a": "b"}}`:                     `"text ${Name}"`,
		`{"Ref": 1}`:                                  `{"Ref": "Name"}`,
		`{"Ref": "a", "Fn::Join": []}`:                "an object stands",
	} {
		tm, err := template.Parse([]byte(good{thing: `, "BillingGroup": ` + src}.String()))
		require.NoError(t, err, src)
		_, err = tm.Compile(template.CompileOptions{AllowFunctions: true})
		if form == "" {
			assert.NoError(t, err, src)
			continue
		}
		assert.ErrorContains(t, err, form, src)
		assert.Error(t, tm.Check(template.Fleet).Err(), src)
	}
}

func TestPoliciesThatLetADeviceConnectAreRecognised(t *testing.T) {
	for text, connects := range map[string]bool{
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Con*","Resource":"x"}]}`:                                                            true,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Publish","IOT:connect"],"Resource":"x"}]}`:                                         true,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":["iot:Publish"],"Resource":"x"}}`:                                                      true,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":["iot:Connect"],"Resource":"x"}}`:                                                      false,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:ConnectX","Resource":"x"}]}`:                                                        false,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:Connect","Resource":"*"},{"Effect":"Allow","Action":"iot:Publish","Resource":"a"}]}`: false,
		string(template.OwnTopics("aws-cn", "cn-north-1", "123456789012")):                                                                                        true,
	} {
		issues := about(template.FromCSR(template.Policy{PolicyDocument: template.Literal(text)}), "policy-no-connect")
		if connects {
			assert.Empty(t, issues, text)
		} else {
			assert.Len(t, issues, 1, text)
		}
	}
}

// about returns what Check finds by one rule.
func about(tm *template.Template, rule finding.Rule) finding.List {
	return slices.DeleteFunc(tm.Check(template.Bulk), func(f finding.Finding) bool { return f.Rule != rule })
}

// statements makes a policy document of statements of JSON.
func statements(list ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(list, ",") + `]}`
}

func TestAPolicyLetsADeviceConnectOnlyForAClientAndWithoutADeny(t *testing.T) {
	const arn = "arn:aws:iot:us-east-1:123456789012:"
	const allow = `{"Effect":"Allow","Action":["iot:Connect","iot:Publish"],"Resource":"` + arn + `client/a"}`
	on := func(resource string) string {
		return `{"Effect":"Allow","Action":"iot:Connect","Resource":` + resource + `}`
	}
	deny := func(rest string) string { return statements(allow, `{"Effect":"Deny",`+rest+`}`) }
	for text, connects := range map[string]bool{
		statements(on(`"` + arn + `client/${iot:Connection.Thing.ThingName}"`)):                              true,
		statements(on(`"` + arn + `${iot:ClientId}"`)):                                                       true,
		statements(on(`"` + arn + `cl*"`)):                                                                   true,
		statements(on(`"` + arn + `topic/a"`)):                                                               false,
		statements(on(`["` + arn + `topic/*","` + arn + `topicfilter/client/*"]`)):                           false,
		statements(on(`["` + arn + `topic/*","` + arn + `client/*"]`)):                                       true,
		statements(on(`"arn:aws:iot:*"`)):                                                                    true,
		statements(`{"Effect":"Allow","Action":"iot:Con*","NotResource":"` + arn + `topic/a"}`):              true,
		statements(`{"Effect":"Allow","Action":"iot:Connect","NotResource":"` + arn + `client/*"}`):          false,
		deny(`"Action":"iot:*","Resource":"*"`):                                                              false,
		deny(`"Action":["iot:Connect"],"Resource":["x","` + arn + `client/*"]`):                              false,
		deny(`"NotAction":"iot:Publish","Resource":"` + arn + `*"`):                                          false,
		deny(`"NotAction":"iot:Connect","Resource":"*"`):                                                     true,
		deny(`"Action":"iot:Connect","Resource":"` + arn + `client/b*"`):                                     true,
		deny(`"Action":"iot:Publish","Resource":"*"`):                                                        true,
		deny(`"Action":"*","Resource":"*","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"false"}}`): true,
		deny(`"Action":"*","Resource":"*","Condition":{}`):                                                   false,
	} {
		issues := about(template.FromCSR(template.Policy{PolicyDocument: template.Literal(text)}), "policy-no-connect")
		if connects {
			assert.Empty(t, issues, text)
		} else if assert.Len(t, issues, 1, text) {
			assert.Equal(t, strings.Contains(text, "Deny"), strings.Contains(issues[0].Message, "denies iot:Connect to every client"), text)
		}
	}
}

func TestADenyWinsOverWhateverAnotherPolicyAllows(t *testing.T) {
	tm := template.FromCSR(template.Policy{PolicyName: template.Literal("existing")})
	tm.Resources["zz"] = template.Policy{PolicyDocument: template.Literal(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"iot:Connect","Resource":"*"}}`)}
	issues := tm.Check(template.Bulk)
	require.Len(t, issues, 1)
	assert.Equal(t, finding.Rule("policy-no-connect"), issues[0].Rule)
	assert.Equal(t, "/Resources/zz/Properties/PolicyDocument", issues[0].Pointer, "the policy that denies")
}

func TestWhatARowSaysAboutConnectingIsNotGuessed(t *testing.T) {
	statement := func(effect string, action, resource template.Value) template.Object {
		return template.Object{"Effect": template.Literal(effect), "Action": action, "Resource": resource}
	}
	document := func(list ...template.Value) template.Policy {
		return template.Policy{PolicyDocument: template.Object{"Version": template.Literal("2012-10-17"), "Statement": template.List(list)}}
	}
	everyone, publish := template.Literal("*"), template.Literal("iot:Publish")
	connect := statement("Allow", template.Literal("iot:Connect"), everyone)
	for name, tc := range map[string]struct {
		policy template.Policy
		warns  bool
	}{
		"the action is the row's":               {document(statement("Allow", template.Ref("A"), everyone)), false},
		"the resource is the row's":             {document(statement("Allow", template.Literal("iot:Connect"), template.Ref("R"))), false},
		"a row cannot help":                     {document(statement("Allow", publish, template.Ref("R"))), true},
		"the denied action is the row's":        {document(connect, statement("Deny", template.Ref("A"), everyone)), false},
		"the denied resource is the row's":      {document(connect, statement("Deny", template.Literal("iot:Connect"), template.Ref("R"))), false},
		"what is not denied is the row's":       {document(connect, template.Object{"Effect": template.Literal("Deny"), "NotAction": template.Ref("A"), "Resource": everyone}), false},
		"denied, whatever the row says":         {document(connect, statement("Deny", template.Literal("iot:*"), everyone), statement("Allow", publish, template.Ref("R"))), true},
		"a default that a row need not replace": {document(statement("Allow", template.Ref("D"), everyone)), true},
	} {
		tm := template.FromCertificateID(tc.policy)
		tm.Parameters["A"], tm.Parameters["R"] = template.Parameter{}, template.Parameter{}
		tm.Parameters["D"] = template.Parameter{Default: publish}
		warned := slices.ContainsFunc(tm.Check(template.Fleet), func(i finding.Finding) bool { return i.Rule == "policy-no-connect" })
		assert.Equal(t, tc.warns, warned, name)
	}
}

func TestAPolicyThatAllowsEverythingIsRecognisedHoweverItIsWritten(t *testing.T) {
	for rest, everything := range map[string]bool{
		`"Action":"*","Resource":"*"`:                                                 true,
		`"Action":["iot:Publish","iot:*"],"Resource":["x","arn:aws:iot:*"]`:           true,
		`"Action":"iot:*","Resource":"arn:aws:iot:us-east-1:123456789012:*"`:          true,
		`"Action":"iot:*","Resource":"arn:aws:iot:*:*:*"`:                             true,
		`"NotAction":"iot:Publish","Resource":"*"`:                                    true,
		`"NotAction":["iot:*"],"Resource":"*"`:                                        false,
		`"Action":"iot:*","NotResource":"arn:aws:iot:us-east-1:123456789012:topic/a"`: true,
		`"Action":"iot:*","NotResource":["*"]`:                                        false,
		`"Action":"iot:*","Resource":"arn:aws:iot:us-east-1:123456789012:topic/*"`:    false,
		`"Action":"iot:C*","Resource":"*"`:                                            false,
	} {
		text := statements(`{"Effect":"Allow",` + rest + `}`)
		issues := template.FromCSR(template.Policy{PolicyDocument: template.Literal(text)}).Check(template.Bulk)
		found := slices.ContainsFunc(issues, func(i finding.Finding) bool { return i.Rule == "policy-allows-everything" })
		assert.Equal(t, everything, found, text)
	}
}

func TestAPolicyThatDependsOnTheRowIsNotJudgedByWhatCannotBeSeen(t *testing.T) {
	for _, document := range []template.Value{
		template.Ref("Document"),
		template.Sub(`{"Version":"2012-10-17","Statement":${Statements}}`),
		template.FindInMap(template.Literal("Policies"), template.Ref("Kind"), template.Literal("document")),
	} {
		tm := template.FromCertificateID(template.Policy{PolicyDocument: document})
		tm.Mappings = template.Mappings{"Policies": {"a": {"document": template.Literal("{}")}}}
		for _, i := range tm.Check(template.Fleet) {
			assert.NotContains(t, i.Rule, "policy-", "%v", i)
		}
	}
}
