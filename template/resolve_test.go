package template_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/template"
)

func compiled(t testing.TB, src string, opts template.CompileOptions) *template.Program {
	t.Helper()
	tm, err := template.Parse([]byte(src))
	require.NoError(t, err)
	p, err := tm.Compile(opts)
	require.NoError(t, err)
	return p
}

func TestResolveGivesWhatTheWalkthroughsRowCreates(t *testing.T) {
	p, err := template.Walkthrough().Compile(template.CompileOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{"CSR", "SerialNumber", "ThingName"}, p.Parameters())
	assert.Equal(t, []string{"CSR", "SerialNumber", "ThingName"}, p.Required())
	got, err := p.Resolve(map[string]string{"ThingName": "device-one", "SerialNumber": "001", "CSR": "pem", "unused": "x"})
	require.NoError(t, err)
	assert.Equal(t, &template.Resolution{
		Things: []template.ThingSpec{{
			LogicalName: "thing", ThingName: "device-one", Attributes: map[string]string{"version": "v1", "serialNumber": "001"},
		}},
		Certificate: &template.CertificateSpec{LogicalName: "certificate", CertificateSigningRequest: "pem", Status: "ACTIVE"},
		Policies: []template.PolicySpec{{
			LogicalName:    "policy",
			PolicyDocument: `{"Version": "2012-10-17","Statement": [{"Effect": "Allow","Action": ["iot:Publish"],"Resource": ["*"]}]}`,
		}},
	}, got)
}

func TestResolveFillsAFleetTemplateWithEveryFunction(t *testing.T) {
	src, err := os.ReadFile("testdata/wild/fleet-with-tables.json")
	require.NoError(t, err)
	p := compiled(t, string(src), template.CompileOptions{Kind: template.Fleet})
	got, err := p.Resolve(map[string]string{"SerialNumber": `P4-"7"`, "DeviceLocation": "Lyon", "AWS::IoT::Certificate::Id": "abc"})
	require.NoError(t, err)
	assert.Equal(t, &template.Resolution{
		Things: []template.ThingSpec{{
			LogicalName: "Pump", ThingName: `Pump_P4-"7"`, ThingTypeName: "pump-Lyon", ThingGroups: []string{"v1-things", "Lyon"},
			Attributes:   map[string]string{"version": "v1", "serialNumber": `P4-"7"`, "family": "P4"},
			BillingGroup: "bill-Lyon", OverrideAttributes: template.Merge, OverrideType: template.Replace, OverrideGroups: template.DoNothing,
		}},
		Certificate: &template.CertificateSpec{LogicalName: "Cert", CertificateID: "abc", Status: "ACTIVE", OverrideStatus: template.Replace},
		Policies: []template.PolicySpec{{LogicalName: "Rights", PolicyDocument: `{"Statement":[` +
			`{"Action":["iot:Connect"],"Effect":"Allow","Resource":["arn:aws:iot:eu-central-1:123456789012:client/Pump_P4-\"7\""]},` +
			`{"Action":"iot:Publish","Effect":"Allow","Resource":["east","west"]}],"Version":"2012-10-17"}`}},
		DeviceConfiguration: map[string]string{
			"FallbackUrl": "https://www.example.com/fallback", "LocationUrl": "https://lyon.example.com",
		},
	}, got)
}

// value compiles a single value, as the thing's billing group.
func value(t *testing.T, v template.Value, row map[string]string) (string, error) {
	t.Helper()
	tm := &template.Template{
		Mappings:   template.Mappings{"T": {"a": {"b": template.Literal("found"), "list": template.Literals("x", "y"), "n": template.JSON("4")}}},
		Parameters: template.Parameters{"D": {Default: template.Literal("dflt")}},
		Resources:  template.Resources{"t": template.Thing{ThingName: template.Literal("t"), BillingGroup: v}},
	}
	p, err := tm.Compile(template.CompileOptions{AllowFunctions: true})
	if err != nil {
		return "", err
	}
	r, err := p.Resolve(row)
	if err != nil {
		return "", err
	}
	return r.Things[0].BillingGroup, nil
}

func TestFunctionsGiveWhatTheyShould(t *testing.T) {
	row := map[string]string{"P": "a-b-c", "Empty": "", "I": "1"}
	lit, ref := func(s string) template.Value { return template.Literal(s) }, func(s string) template.Value { return template.Ref(s) }
	for name, tc := range map[string]struct {
		value template.Value
		want  string
	}{
		"ref":                        {ref("P"), "a-b-c"},
		"default":                    {ref("D"), "dflt"},
		"an empty string is a value": {ref("Empty"), ""},
		"number":                     {template.JSON("1.50"), "1.50"},
		"boolean":                    {template.JSON("true"), "true"},
		"join":                       {template.Join("/", lit("x"), ref("P"), lit("")), "x/a-b-c/"},
		"join without delimiter":     {template.Join("", lit("x"), ref("D")), "xdflt"},
		"join of nothing":            {template.Join(","), ""},
		"join of a split":            {template.JoinList("+", template.Split("-", ref("P"))), "a+b+c"},
		"join of a mapped list":      {template.JoinList("+", template.FindInMap(lit("T"), lit("a"), lit("list"))), "x+y"},
		"select":                     {template.Select(2, template.Split("-", ref("P"))), "c"},
		"select of a list":           {template.Select(0, template.List{ref("D"), lit("z")}), "dflt"},
		"select by a parameter":      {template.Call{Function: "Fn::Select", Args: template.List{ref("I"), template.Split("-", ref("P"))}}, "b"},
		"find":                       {template.FindInMap(lit("T"), lit("a"), lit("b")), "found"},
		"find a number":              {template.FindInMap(lit("T"), lit("a"), lit("n")), "4"},
		"sub":                        {template.Sub("<${P}|${D}>"), "<a-b-c|dflt>"},
		"sub with its own variables": {template.Sub("${v}${ P }", template.Object{"v": template.Join("", lit("1"), ref("I"))}), "11a-b-c"},
		"sub prefers its own":        {template.Sub("${P}", template.Object{"P": lit("own")}), "own"},
		"sub keeps what is escaped":  {template.Sub("${!P}$P{P}${"), "${P}$P{P}${"},
		"functions in JSON text":     {template.JSON(`{"Fn::Join": ["", ["a", {"Ref": "I"}]]}`), "a1"},
	} {
		got, err := value(t, tc.value, row)
		require.NoError(t, err, name)
		assert.Equal(t, tc.want, got, name)
	}
}

func TestAFunctionWithoutAResultIsAnErrorAtItsPlace(t *testing.T) {
	lit := func(s string) template.Value { return template.Literal(s) }
	const at = "/Resources/t/Properties/BillingGroup/"
	for name, tc := range map[string]struct {
		value   template.Value
		pointer string
		message string
	}{
		"beyond the end":       {template.Select(3, template.Split("-", template.Ref("P"))), at + "Fn::Select", "index 3 of a list of 3"},
		"before the start":     {template.Select(-1, template.Literals("a")), at + "Fn::Select", "index -1"},
		"index not a number":   {template.Call{Function: "Fn::Select", Args: template.List{template.Ref("P"), template.Literals("a")}}, at + "Fn::Select", `"a-b-c" is not a number`},
		"nothing in the map":   {template.FindInMap(lit("T"), template.Ref("P"), lit("b")), at + "Fn::FindInMap", `"a-b-c"`},
		"list for a string":    {template.FindInMap(lit("T"), lit("a"), lit("list")), at + "Fn::FindInMap", "a list where a string"},
		"string for a list":    {template.JoinList("", template.FindInMap(lit("T"), lit("a"), lit("b"))), at + "Fn::Join/1/Fn::FindInMap", "a string where a list"},
		"split at nothing":     {template.Select(0, template.Split("", template.Ref("P"))), at + "Fn::Select/1/Fn::Split", "delimiter is empty"},
		"private key as index": {template.Call{Function: "Fn::Select", Args: template.List{template.Ref("K"), template.Literals("a")}}, at + "Fn::Select", "[private key]"},
	} {
		_, err := value(t, tc.value, map[string]string{"P": "a-b-c", "K": "-----BEGIN PRIVATE KEY-----\nMIIB"})
		var e *finding.Finding
		require.ErrorAs(t, err, &e, name)
		assert.ErrorIs(t, err, template.ErrFunction, name)
		assert.NotErrorIs(t, err, template.ErrMissingParameter, name)
		assert.Equal(t, tc.pointer, e.Pointer, name)
		assert.Contains(t, e.Error(), tc.message, name)
		assert.NotContains(t, e.Error(), "MIIB", name)
		assert.True(t, strings.HasPrefix(template.AWSMessage(err), "Invalid registration template. "), name)
	}
}

func TestAMissingParameterIsNamedWithItsPlaceAndInAWSsWords(t *testing.T) {
	p, err := template.Walkthrough().Compile(template.CompileOptions{})
	require.NoError(t, err)
	full := map[string]string{"ThingName": "a", "SerialNumber": "b", "CSR": "c"}
	for parameter, pointer := range map[string]string{
		"ThingName":    "/Resources/thing/Properties/ThingName/Ref",
		"SerialNumber": "/Resources/thing/Properties/AttributePayload/serialNumber/Ref",
		"CSR":          "/Resources/certificate/Properties/CertificateSigningRequest/Ref",
	} {
		row := map[string]string{}
		for name, v := range full {
			if name != parameter {
				row[name] = v
			}
		}
		_, err := p.Resolve(row)
		var e *finding.Finding
		require.ErrorAs(t, err, &e)
		assert.ErrorIs(t, err, template.ErrMissingParameter)
		assert.Equal(t, parameter, e.Parameter)
		assert.Equal(t, pointer, e.Pointer)
		assert.Contains(t, err.Error(), parameter)
		assert.Contains(t, err.Error(), pointer)
		assert.Equal(t, "Invalid registration template. Cannot resolve reference value: {Ref="+parameter+"}", template.AWSMessage(err))
	}
	_, err = p.Resolve(nil)
	assert.ErrorIs(t, err, template.ErrMissingParameter)
}

func TestAnEmptyStringIsAValueUnlessTheOptionSaysOtherwise(t *testing.T) {
	src := good{parameters: `, "Group": {"Type": "String", "Default": "standard"}`, thing: `, "BillingGroup": {"Ref": "Group"}`}.String()
	row := map[string]string{"ThingName": "a", "CSR": "c", "Group": ""}

	p := compiled(t, src, template.CompileOptions{})
	assert.Equal(t, []string{"CSR", "ThingName"}, p.Required())
	got, err := p.Resolve(row)
	require.NoError(t, err)
	assert.Empty(t, got.Things[0].BillingGroup)

	p = compiled(t, src, template.CompileOptions{EmptyIsMissing: true})
	got, err = p.Resolve(row)
	require.NoError(t, err)
	assert.Equal(t, "standard", got.Things[0].BillingGroup)
	row["CSR"] = ""
	_, err = p.Resolve(row)
	assert.ErrorIs(t, err, template.ErrMissingParameter)
}

func TestUndeclaredParametersAreFilledFromTheRow(t *testing.T) {
	p := compiled(t, `{"Resources": {"t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Undeclared"}}}}}`, template.CompileOptions{})
	assert.Equal(t, []string{"Undeclared"}, p.Required())
	got, err := p.Resolve(map[string]string{"Undeclared": "x"})
	require.NoError(t, err)
	assert.Equal(t, "x", got.Things[0].ThingName)
}

func TestStatusIsReadInAnyCaseAndGivenInUpperCase(t *testing.T) {
	for written, want := range map[string]string{
		`, "Status": "Active"`: "ACTIVE", `, "Status": "inactive"`: "INACTIVE", ``: "ACTIVE", `, "Status": null`: "ACTIVE",
		`, "Status": {"Ref": "S"}`: "INACTIVE",
	} {
		p := compiled(t, good{certificate: written}.String(), template.CompileOptions{})
		got, err := p.Resolve(map[string]string{"ThingName": "a", "CSR": "c", "S": "InActive"})
		require.NoError(t, err)
		assert.Equal(t, want, got.Certificate.Status, written)
	}
	p := compiled(t, good{certificate: `, "Status": {"Ref": "S"}`}.String(), template.CompileOptions{})
	_, err := p.Resolve(map[string]string{"ThingName": "a", "CSR": "c", "S": "REVOKED"})
	assert.ErrorIs(t, err, finding.Rule("certificate-status"))
}

func TestANullAttributeIsAbsentLikeAnyNullProperty(t *testing.T) {
	tm, err := template.Parse([]byte(good{attributes: `, "place": null`}.String()))
	require.NoError(t, err)
	require.NoError(t, tm.Check(template.Bulk).Err(), "a warning only")
	p, err := tm.Compile(template.CompileOptions{})
	require.NoError(t, err)
	got, err := p.Resolve(map[string]string{"ThingName": "a", "CSR": "c"})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"version": "v1"}, got.Things[0].Attributes)
}

func TestPackageVersionsAreOneStringOrAListHoweverTheyAreMade(t *testing.T) {
	const tables = `, "Mappings": {"T": {"a": {"one": "fw:1", "many": ["fw:1", "app:2"]}}}`
	for written, want := range map[string][]string{
		`"fw:1"`:                                     {"fw:1"},
		`{"Ref": "ThingName"}`:                       {"a-b"},
		`["fw:1", {"Ref": "ThingName"}]`:             {"fw:1", "a-b"},
		`{"Fn::Join": [":", ["fw", "1"]]}`:           {"fw:1"},
		`{"Fn::Sub": "fw:${ThingName}"}`:             {"fw:a-b"},
		`{"Fn::Split": ["-", {"Ref": "ThingName"}]}`: {"a", "b"},
		`{"Fn::FindInMap": ["T", "a", "one"]}`:       {"fw:1"},
		`{"Fn::FindInMap": ["T", "a", "many"]}`:      {"fw:1", "app:2"},
	} {
		src := good{thing: `, "PackageVersions": ` + written, top: tables}.String()
		tm, err := template.Parse([]byte(src))
		require.NoError(t, err)
		assert.NoError(t, tm.Check(template.Bulk).Err(), written)
		p, err := tm.Compile(template.CompileOptions{AllowFunctions: true})
		require.NoError(t, err, written)
		got, err := p.Resolve(map[string]string{"ThingName": "a-b", "CSR": "c"})
		require.NoError(t, err, written)
		assert.Equal(t, want, got.Things[0].PackageVersions, written)
	}
	p := compiled(t, good{thing: `, "PackageVersions": {"Ref": "P"}`}.String(), template.CompileOptions{})
	_, err := p.Resolve(map[string]string{"ThingName": "a", "CSR": "c"})
	e, ok := errors.AsType[*finding.Finding](err)
	require.True(t, ok)
	assert.Equal(t, "/Resources/thing/Properties/PackageVersions/Ref", e.Pointer, "the place in the template as it is written")
}

func TestSeveralThingsAndPoliciesComeInTheOrderOfTheirLogicalNames(t *testing.T) {
	p := compiled(t, good{resources: `, "a thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "second", "PackageVersions": "fw:1"}},
		"zz": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "z"}}`}.String(), template.CompileOptions{})
	got, err := p.Resolve(map[string]string{"ThingName": "first", "CSR": "c"})
	require.NoError(t, err)
	require.Len(t, got.Things, 2)
	assert.Equal(t, "second", got.Things[0].ThingName)
	assert.Equal(t, []string{"fw:1"}, got.Things[0].PackageVersions)
	assert.Equal(t, "first", got.Things[1].ThingName)
	require.Len(t, got.Policies, 2)
	assert.Equal(t, "z", got.Policies[1].PolicyName)
}

func TestCompileRefusesWhatNoRowCanBeResolvedWith(t *testing.T) {
	for _, tc := range broken {
		wants := slices.Contains([]finding.Rule{
			"no-resources", "value-shape", "parameter-default", "function-shape", "function-undocumented", "function-in-mappings",
			"thing-name-missing", "several-certificates", "certificate-form", "certificate-status", "policy-source", "override-value",
		}, tc.rule) && tc.severity == finding.Error || tc.rule == "function-undocumented"
		if tc.rule == "override-value" && strings.HasSuffix(tc.pointer, "ThingGroups") {
			wants = false // a setting that is not a string is ignored
		}
		if !wants {
			continue
		}
		tm, err := template.Parse([]byte(tc.src))
		require.NoError(t, err)
		_, err = tm.Compile(template.CompileOptions{Kind: tc.kind})
		var e *finding.Finding
		require.ErrorAs(t, err, &e, "%s", tc.src)
		assert.Equal(t, tc.rule, e.Rule)
		assert.Equal(t, tc.pointer, e.Pointer)
		assert.Contains(t, e.Error(), e.Message)
		if tc.rule == "policy-source" && strings.Contains(e.Message, "neither") {
			assert.Equal(t, "Invalid registration template. Neither policyName nor policyDocument is present in the Template.", template.AWSMessage(err))
		}
	}
}

func TestFunctionsInABulkTemplateNeedTheOption(t *testing.T) {
	src := good{thing: `, "BillingGroup": {"Fn::Join": ["-", ["a", {"Ref": "ThingName"}]]}`}.String()
	tm, err := template.Parse([]byte(src))
	require.NoError(t, err)
	for _, kind := range []template.Kind{template.Bulk, template.JITP} {
		_, err = tm.Compile(template.CompileOptions{Kind: kind})
		assert.ErrorContains(t, err, "AllowFunctions")
		_, err = tm.Compile(template.CompileOptions{Kind: kind, AllowFunctions: true})
		assert.NoError(t, err)
	}
	_, err = tm.Compile(template.CompileOptions{Kind: template.Fleet})
	assert.NoError(t, err)
}

func TestAProgramServesManyGoroutinesAndOutlivesChangesOfTheTemplate(t *testing.T) {
	tm := template.Walkthrough()
	p, err := tm.Compile(template.CompileOptions{})
	require.NoError(t, err)
	delete(tm.Resources, "thing")
	tm.Parameters["ThingName"] = template.Parameter{Default: template.Literal("x")}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			name := strings.Repeat("n", g+1)
			for range 200 {
				r, err := p.Resolve(map[string]string{"ThingName": name, "SerialNumber": name, "CSR": name})
				if err != nil {
					t.Error(err)
					return
				}
				assert.Equal(t, name, r.Things[0].ThingName)
				r.Things[0].Attributes["version"] = name // a result is the caller's own
			}
		})
	}
	wg.Wait()
	r, err := p.Resolve(map[string]string{"ThingName": "a", "SerialNumber": "b", "CSR": "c"})
	require.NoError(t, err)
	assert.Equal(t, "v1", r.Things[0].Attributes["version"])
}

func TestParametersReturnsASliceOfItsOwn(t *testing.T) {
	p := compiled(t, good{}.String(), template.CompileOptions{})
	names := p.Parameters()
	names[0] = "changed"
	assert.Equal(t, []string{"CSR", "ThingName"}, p.Parameters(), "the caller got its own slice")
}
