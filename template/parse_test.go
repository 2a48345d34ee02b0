package template_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/template"
)

var update = flag.Bool("update", false, "write the golden files anew")

// decoded is the meaning of a JSON text, with numbers as they were written.
func decoded(t testing.TB, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v), "%s", text)
	return v
}

// unwrapped takes a template out of what it may be packed in, independently of the code under test.
func unwrapped(t testing.TB, text []byte) []byte {
	t.Helper()
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	for {
		switch v := decoded(t, text).(type) {
		case string:
			text = []byte(v)
			continue
		case map[string]any:
			if inner, ok := v["templateBody"].(string); ok && v["Resources"] == nil {
				text = []byte(inner)
				continue
			}
		}
		return text
	}
}

func TestTemplatesInTheWildParseKeepTheirMeaningAndAreChecked(t *testing.T) {
	files, err := filepath.Glob("testdata/wild/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			require.NoError(t, err)
			tm, err := template.Parse(src)
			require.NoError(t, err)

			body, err := tm.Body()
			require.NoError(t, err)
			assert.Equal(t, decoded(t, unwrapped(t, src)), decoded(t, []byte(body)), "the meaning changed")
			again, err := template.Parse([]byte(body))
			require.NoError(t, err)
			body2, err := again.Body()
			require.NoError(t, err)
			assert.Equal(t, body, body2, "the body is not stable")

			var out strings.Builder
			for _, kind := range []template.Kind{template.Bulk, template.JITP, template.Fleet} {
				fmt.Fprintf(&out, "as a %s template:\n%s\n", kind, tm.Check(kind))
				if _, err := tm.Compile(template.CompileOptions{Kind: kind}); err != nil {
					fmt.Fprintf(&out, "does not compile: %v\n", err)
				}
				out.WriteString("\n")
			}
			golden := strings.TrimSuffix(file, ".json") + ".check"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(out.String()), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), out.String())
		})
	}
}

func TestWalkthroughIsTheTemplateOfTheWalkthrough(t *testing.T) {
	src, err := os.ReadFile("testdata/walkthrough.json")
	require.NoError(t, err)
	body, err := template.Walkthrough().Body()
	require.NoError(t, err)
	assert.Equal(t, decoded(t, src), decoded(t, []byte(body)))
}

const thingPrefix = `{"Resources": {"t": {"Type": "AWS::IoT::Thing", "Properties": `

func TestParseErrorsNameThePlaceAndWhatWasMeant(t *testing.T) {
	for name, tc := range map[string]struct {
		src          string
		line, column int
		pointer      string
		message      string
		hint         string
	}{
		"lower-case property":                    {thingPrefix + `{"thingname": "x"}}}}`, 1, 64, "/Resources/t/Properties/thingname", `no "thingname"`, `"ThingName"`},
		"mistyped property":                      {thingPrefix + `{"ThingNmae": "x"}}}}`, 1, 64, "/Resources/t/Properties/ThingNmae", `no "ThingNmae"`, `"ThingName"`},
		"snake case":                             {thingPrefix + `{"ThingName": "x", "thing_groups": []}}}}`, 1, 82, "/Resources/t/Properties/thing_groups", `no "thing_groups"`, `"ThingGroups"`},
		"lower-case section":                     {"{\n \"resources\": {}}", 2, 2, "/resources", `no "resources"`, `"Resources"`},
		"singular section":                       {`{"Parameter": {}, "Resources": {}}`, 1, 2, "/Parameter", `no "Parameter"`, `"Parameters"`},
		"lower-case type":                        {`{"Parameters": {"a": {"type": "String"}}}`, 1, 23, "/Parameters/a/type", `no "type"`, `"Type"`},
		"parameter as a string":                  {`{"Parameters": {"a": "String"}}`, 1, 22, "/Parameters/a", "a must be an object, this is a string", `{"Type": "String"}`},
		"unknown function":                       {thingPrefix + `{"ThingName": {"Fn::GetAtt": ["a", "b"]}}}}}`, 1, 78, "/Resources/t/Properties/ThingName/Fn::GetAtt", `no function "Fn::GetAtt"`, "CloudFormation"},
		"other unknown function":                 {thingPrefix + `{"ThingName": {"Fn::If": ["a", "b", "c"]}}}}}`, 1, 78, "/Resources/t/Properties/ThingName/Fn::If", `no function "Fn::If"`, "as a parameter"},
		"function in another case":               {thingPrefix + `{"ThingName": {"FN::join": ["", []]}}}}}`, 1, 78, "/Resources/t/Properties/ThingName/FN::join", `no function "FN::join"`, `"Fn::Join"`},
		"function with one colon":                {thingPrefix + `{"ThingName": {"Fn:Sub": "x"}}}}}`, 1, 78, "/Resources/t/Properties/ThingName/Fn:Sub", `no function "Fn:Sub"`, `"Fn::Sub"`},
		"ref in lower case":                      {thingPrefix + `{"ThingName": {"ref": "x"}}}}}`, 1, 78, "/Resources/t/Properties/ThingName/ref", `no function "ref"`, `{"Ref": "Name"}`},
		"ref to a placeholder":                   {thingPrefix + `{"ThingName": {"Ref": "{{ThingName}}"}}}}}`, 1, 78, "/Resources/t/Properties/ThingName/Ref", `"{{ThingName}}" is not`, `{"Ref": "ThingName"}`},
		"ref to a shell variable":                {thingPrefix + `{"ThingName": {"Ref": "${ThingName}"}}}}}`, 1, 78, "/Resources/t/Properties/ThingName/Ref", `"${ThingName}" is not`, `{"Ref": "ThingName"}`},
		"ref with a space":                       {thingPrefix + `{"ThingName": {"Ref": " ThingName"}}}}}`, 1, 78, "/Resources/t/Properties/ThingName/Ref", "spaces", `{"Ref": "ThingName"}`},
		"type in another case":                   {`{"Resources": {"t": {"Type": "AWS::IoT::thing", "Properties": {}}}}`, 1, 30, "/Resources/t/Type", "cannot make", `"AWS::IoT::Thing"`},
		"type of another service":                {`{"Resources": {"t": {"Type": "AWS::S3::Bucket", "Properties": {}}}}`, 1, 30, "/Resources/t/Type", "AWS::S3::Bucket", ""},
		"no type":                                {`{"Resources": {"t": {"Properties": {}}}}`, 1, 16, "/Resources/t", "no Type", ""},
		"no properties":                          {`{"Resources": {"t": {"Type": "AWS::IoT::Thing"}}}`, 1, 16, "/Resources/t", "no Properties", ""},
		"attributes as a list":                   {thingPrefix + `{"AttributePayload": []}}}}`, 1, 84, "/Resources/t/Properties/AttributePayload", "must be an object, this is a list", `{"name": "value"}`},
		"flat mapping":                           {`{"Mappings": {"T": {"a": "b"}}}`, 1, 26, "/Mappings/T/a", "must be an object", "two levels"},
		"missing comma":                          {"{\"Parameters\": {}\n\"Resources\": {}}", 1, 18, "", "a comma is missing", "add a comma"},
		"comma too many":                         {`{"Resources": {},}`, 1, 17, "", "a comma before", "remove"},
		"typographic quotes":                     {"{\n  “Resources”: {}}", 2, 3, "", "'“'", "typographic quotes"},
		"typographic closing quote":              {`{"Type": "a”}`, 1, 10, "/Type", "no closing quote", "typographic quotes"},
		"typographic quote at the end of a line": {"{\n\"a\": \"x”,\n\"b\": 1}", 2, 10, "/a", "a line break inside a string", "typographic quotes"},
		"typographic value":                      {`{"Type": “a"}`, 1, 10, "/Type", "'“'", "typographic quotes"},
		"single quotes":                          {`{'Resources': {}}`, 1, 2, "", "'\\''", "double quotes"},
		"comment":                                {"{\n// ours\n\"Resources\": {}}", 2, 1, "", "'/'", "no comments"},
		"python constant":                        {`{"a": None}`, 1, 7, "/a", "'N'", "true, false and null"},
		"yaml":                                   {"Parameters:\n  ThingName:\n", 1, 1, "", "'P'", "YAML"},
		"yaml document":                          {"---\nParameters:\n", 1, 1, "", "'-'", "YAML"},
		"the wrong file":                         {"-----BEGIN EC PRIVATE KEY-----\nMHcCAQ==\n", 1, 1, "", "PEM", "file of the provisioning template"},
		"yaml short form":                        {`{"a": !Ref b}`, 1, 7, "/a", "'!'", `{"Ref": "Name"}`},
		"unquoted name":                          {`{Resources: {}}`, 1, 2, "", "'R'", "double quotes around names"},
		"bare placeholder":                       {`{"a": {{b}}}`, 1, 8, "/a", "'{'", "outer braces"},
		"line break in a string":                 {"{\"a\": \"x\ny\"}", 1, 9, "/a", "a line break inside a string", `\n`},
		"cut off":                                {`{"Resources": {"t": `, 1, 21, "/Resources/t", "ends", "complete"},
		"cut off in a list":                      {`{"Resources": ["t"`, 1, 19, "/Resources", "ends", "complete"},
		"two documents":                          {`{"Resources": {}} {}`, 1, 19, "", "after the end", "one document"},
		"bracket too many":                       {`{"Resources": {}}}`, 1, 18, "", "after the end", "closing bracket too many"},
		"bad escape":                             {`{"a": "\d"}`, 1, 8, "/a", "escape", `\\`},
		"leading zero":                           {`{"a": 007}`, 1, 7, "/a", "number", "quotes around a serial number"},
		"not a number":                           {`{"a": NaN}`, 1, 7, "/a", "'N'", "no such number"},
		"empty":                                  {" \r\n", 2, 1, "", "empty", ""},
		"a list":                                 {`[]`, 1, 1, "", "this is a list", ""},
		"an empty string":                        {`{"templateBody": "\"\""}`, 1, 19, "", "empty", ""},
		"latin 1":                                {"{\"a\": \"\xe4\"}", 1, 8, "", "UTF-8", "UTF-8"},
		"in a wrapped template":                  {"{\n \"templateBody\": \"{\\n  \\\"resources\\\": {}}\"}", 2, 24, "/resources", `no "resources"`, `"Resources"`},
		"too deep":                               {strings.Repeat(`{"a":`, 101), 1, 501, strings.Repeat("/a", 100), "nested deeper", ""},
		"umlauts before the place":               {`{"Grüße": x}`, 1, 11, "/Grüße", "'x'", "quotes"},
	} {
		t.Run(name, func(t *testing.T) {
			tm, err := template.Parse([]byte(tc.src))
			assert.Nil(t, tm)
			e, ok := errors.AsType[*finding.Finding](err)
			require.True(t, ok, "%v", err)
			assert.Equal(t, [2]int{tc.line, tc.column}, [2]int{int(e.Line), e.Column}, "line and column of: %v", e)
			assert.Equal(t, tc.pointer, e.Pointer)
			assert.Contains(t, e.Message, tc.message)
			_, hint, _ := strings.Cut(e.Message, "; ")
			if tc.hint == "" {
				assert.Empty(t, hint)
			}
			assert.Contains(t, hint, tc.hint)
			assert.ErrorIs(t, err, template.ErrSyntax)
			assert.Contains(t, err.Error(), fmt.Sprintf("line %d, column %d", tc.line, tc.column))
			// The byte offset and the line and column are the same place.
			before := tc.src[:e.Offset]
			assert.Equal(t, tc.line, 1+strings.Count(before, "\n"))
			assert.Equal(t, tc.column, 1+len([]rune(before[strings.LastIndexByte(before, '\n')+1:])))
		})
	}
}

func TestColumnsAreCountedInCharactersHoweverLongTheLine(t *testing.T) {
	for _, bom := range []string{"", "\ufeff"} {
		for n := 1000; n < 1060; n++ {
			src := bom + "{\r\n\"a\": \"" + strings.Repeat("ä", n) + "\",\n\"b\": \"" + strings.Repeat("€x", n) + "\", !}"
			_, err := template.Parse([]byte(src))
			e, ok := errors.AsType[*finding.Finding](err)
			require.True(t, ok)
			assert.Equal(t, [2]int{3, 2*n + 10}, [2]int{int(e.Line), e.Column}, "%d", n)
			assert.Equal(t, byte('!'), src[e.Offset])
		}
		_, err := template.Parse([]byte(bom + "x"))
		e, ok := errors.AsType[*finding.Finding](err)
		require.True(t, ok)
		assert.Equal(t, [2]int{1, 1}, [2]int{int(e.Line), e.Column}, "a byte order mark is no character")
	}
}

func TestParseAcceptsWhatIsOddButHarmless(t *testing.T) {
	for name, src := range map[string]string{
		"attribute called ref":          thingPrefix + `{"ThingName": "x", "AttributePayload": {"ref": "y"}}}}}`,
		"members without a name":        `{"": 1, "Parameters": {"a": {"": "String"}}, "Resources": {"t": {"": 2, "Type": "AWS::IoT::Thing", "Properties": {"": 3}, "OverrideSettings": {"": 4}}}}`,
		"both spellings":                thingPrefix + `{"ThingName": "x", "thingname": "y"}}}}`,
		"names that are logical only":   `{"Resources": {"ThingName/~x": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "p"}}}}`,
		"an attribute called thingname": thingPrefix + `{"ThingName": "x", "AttributePayload": {"thingname": "y", "Fn": "z"}}}}}`,
		"surrogates":                    thingPrefix + `{"ThingName": "\ud83d\ude00 \ud800 \u00e4"}}}}`,
		"numbers of any size":           thingPrefix + `{"ThingName": 1e999, "Big": 123456789012345678901234567890, "Small": -0.10, "Powers": [1e5, 1E+2, 1.5e-7]}}}}`,
	} {
		tm, err := template.Parse([]byte(src))
		require.NoError(t, err, name)
		body, err := tm.Body()
		require.NoError(t, err, name)
		assert.Equal(t, decoded(t, []byte(src)), decoded(t, []byte(body)), name)
	}
}

func TestParseDoesNotKeepOrChangeTheCallersBytes(t *testing.T) {
	src := []byte(good{thing: `, "BillingGroup": "a b"`}.String())
	before := bytes.Clone(src)
	tm, err := template.Parse(src)
	require.NoError(t, err)
	assert.Equal(t, before, src)
	want, wantBody := tm.Check(template.Bulk), must(tm.Body())
	for i := range src {
		src[i] = 'x'
	}
	assert.Equal(t, want, tm.Check(template.Bulk))
	assert.Equal(t, wantBody, must(tm.Body()))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestParseErrorsQuoteNothingOfAPrivateKey(t *testing.T) {
	const key = `-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIsecret`
	for _, src := range []string{
		`{"ThingName": "a", "` + key + `"}`,
		`{"Resources": {"t": {"Type": "` + key + `", "Properties": {}}}}`,
		thingPrefix + `{"ThingName": {"Ref": " ` + key + `"}}}}}`,
		thingPrefix + `{"ThingName": {"Ref": "${` + key + `"}}}}}`,
	} {
		_, err := template.Parse([]byte(src))
		require.ErrorContains(t, err, "[private key]", src)
		assert.NotContains(t, err.Error(), "secret")
	}
}

func TestATemplateIsWrittenInAWSsFormAsAValueToo(t *testing.T) {
	body, err := template.Walkthrough().Body()
	require.NoError(t, err)
	out, err := json.Marshal(struct{ Template template.Template }{*template.Walkthrough()})
	require.NoError(t, err)
	assert.JSONEq(t, `{"Template": `+body+`}`, string(out))
}

func TestATemplateInsideALargerDocumentIsReadByEncodingJSON(t *testing.T) {
	var request struct{ TemplateBody template.Template }
	require.NoError(t, json.Unmarshal([]byte(`{"templateBody": `+good{}.String()+`}`), &request))
	assert.Contains(t, request.TemplateBody.Resources, "thing")
	out, err := json.Marshal(&request.TemplateBody)
	require.NoError(t, err)
	assert.Equal(t, decoded(t, []byte(good{}.String())), decoded(t, out))
	assert.Error(t, json.Unmarshal([]byte(`{"templateBody": {"resources": {}}}`), &request))
}
