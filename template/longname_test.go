package template_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/template"
)

// crowded is a template with a name of some length and many members below it, in a policy document, among what AWS does
// not document, and in a mapping.
func crowded(name, members int) []byte {
	var below strings.Builder
	for i := range members {
		fmt.Fprintf(&below, `,"m%d":{"a":["x"]}`, i)
	}
	inside := fmt.Sprintf(`{"%s":{%s}}`, strings.Repeat("n", name), below.String()[1:])
	return fmt.Appendf(nil, `{"Parameters": {"ThingName": {"Type": "String"}}, "Metadata": %s, "Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": %s}}}}`, inside, inside)
}

// Parsing takes memory in proportion to the text. A pointer that is written out at each step takes the name's length
// for each member below it: 600 MB here.
func TestALongNameCostsWhatItsTextCosts(t *testing.T) {
	src := crowded(300_000, 1000)
	allocated := func(work func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		work()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	var tm *template.Template
	parsing := allocated(func() {
		var err error
		tm, err = template.Parse(src)
		require.NoError(t, err)
	})
	assert.Less(t, parsing/uint64(len(src)), uint64(40), "bytes of memory for each byte of text")
	checking := allocated(func() { assert.NotEmpty(t, tm.Check(template.Bulk)) })
	assert.Less(t, checking/uint64(len(src)), uint64(150), "bytes of memory for each byte of text")
	for _, f := range tm.Check(template.Bulk) {
		assert.Less(t, len(f.Error()), 1500, "a finding is for reading")
	}
	_, err := template.Parse([]byte(`{"` + strings.Repeat("n", 300_000) + `": 1, "Resources": {"` + strings.Repeat("ü", 300_000) + `": {"Type": "x"}}}`))
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 3000)
}

// BenchmarkParseALongName reports the time as a multiple of that for a text of the same length with short names.
func BenchmarkParseALongName(b *testing.B) {
	long := crowded(300_000, 1000)
	short := crowded(10, 1000)
	short = append(short, []byte(strings.Repeat(" ", len(long)-len(short)))...)
	var took [2]time.Duration
	for b.Loop() {
		for i, src := range [][]byte{short, long} {
			began := time.Now()
			if _, err := template.Parse(src); err != nil {
				b.Fatal(err)
			}
			took[i] += time.Since(began)
		}
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "×short")
}

func TestParseNamesEverySlipAtOnce(t *testing.T) {
	_, err := template.Parse([]byte(`{
		"parameters": {"ThingName": {"type": "String"}, "Serial": "String"},
		"resources": {
			"thing": {"type": "AWS::IoT::thing", "properties": {"thingName": {"Ref": "ThingName"}, "BillingGroup": {"Fn::GetAtt": ["a", "b"]}}},
			"certificate": {"Type": "AWS::IoT::Certificate"},
			"other": {"Type": "AWS::S3::Bucket", "Properties": {}},
			"policy": {"Type": 7, "Properties": {"policyname": "p"}}}}`))
	require.Error(t, err)
	for _, want := range []string{
		`there is no "parameters" in a template; did you mean "Parameters"?`, `there is no "type" in a parameter`, "Serial must be an object",
		`there is no "resources" in a template`, `there is no "type" in a resource`, `there is no "properties" in a resource`,
		`a template cannot make a "AWS::IoT::thing"`, `there is no "thingName" in the properties of AWS::IoT::Thing`, "Fn::GetAtt",
		`resource "certificate" has no Properties`, `a template cannot make a "AWS::S3::Bucket"`, "Type must be a string",
	} {
		assert.ErrorContains(t, err, want)
	}
	assert.ErrorContains(t, err, "12 errors:")
	assert.ErrorIs(t, err, template.ErrSyntax)

	_, err = template.Parse([]byte(`{"Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"thingname": "a"}}}}`))
	var one *finding.Finding
	require.ErrorAs(t, err, &one)
	assert.Equal(t, "/Resources/thing/Properties/thingname", one.Pointer)
	assert.NotContains(t, err.Error(), "errors:", "a single one stands alone")

	_, err = template.Parse([]byte(`{"Parameters": {"x": {"Type": "String"}` + manyWrong(500) + `}}`))
	assert.ErrorContains(t, err, "100 errors:", "a file with more is something else")
}

func manyWrong(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"p%d":{"type":"String"}`, i)
	}
	return b.String()
}
