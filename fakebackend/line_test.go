package fakebackend_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestABadLineFailsAlone(t *testing.T) {
	long := `{"ThingName":"` + strings.Repeat("x", 256<<10) + `"}`
	weak := "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
	for _, c := range []struct{ name, bad, want string }{
		{"blank", "", "empty"},
		{"spaces", "   ", "empty"},
		{"not JSON", "{", "not a JSON object"},
		{"an array", `["a"]`, "not a JSON object"},
		{"null", "null", "null"},
		{"two values", `{} {}`, "not a JSON object"},
		{"a byte order mark", "\ufeff{}", "byte order mark"},
		{"CRLF", `{"ThingName":"x"}` + "\r", "carriage return"},
		{"an object as a value", `{"ThingName":{"a":"b"}}`, `the value of "ThingName" is an object`},
		{"null as a value", `{"ThingName":null}`, `the value of "ThingName" is null`},
		{"too long", long, "too long: 262160 bytes"},
		{"a string", `"{}"`, "not a JSON object"},
		{"a comma too many", `{"ThingName":"x",}`, "not a JSON object of strings: byte 16: a comma before the closing bracket"},
		{"a missing parameter", `{"ThingName":"x","CSR":"y"}`, "Invalid registration template. Cannot resolve reference value: {Ref=SerialNumber}"},
		{"a thing name with a space", line(t, map[string]string{"ThingName": "a b", "SerialNumber": "1", "CSR": csrOf(key, "x")}),
			"1 validation error detected: Value 'a b' at 'thingName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+"},
		{"an attribute value with a space", line(t, map[string]string{"ThingName": "x", "SerialNumber": "1 2", "CSR": csrOf(key, "x")}),
			"Map value must satisfy constraint: [Member must have length less than or equal to 800, Member must have length greater than or equal to 0," +
				` Member must satisfy regular expression pattern: [a-zA-Z0-9_.,@/:#=\[\]-]*]`},
		{"no CSR at all", `{"ThingName":"x","SerialNumber":"1","CSR":"hello"}`, "InvalidRequestException"},
		{"a broken CSR", line(t, map[string]string{"ThingName": "x", "SerialNumber": "1", "CSR": weak}), "InvalidRequestException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake, role := newFake(t, fakebackend.Options{})
			id := start(t, fake, role, walkthrough(t), row(t, "before", "1"), c.bad, row(t, "after", "2"))
			d := describe(t, fake, id)
			assert.Equal(t, task.Completed, d.Status)
			assert.Equal(t, 2, d.Succeeded)
			assert.Equal(t, 1, d.Failed)
			lines := failures(t, fake, id)
			require.Len(t, lines, 1)
			assert.EqualValues(t, 2, lines[0].LineNumber)
			assert.Contains(t, lines[0].ErrorMessage, c.want)
			_, ok := fake.Thing("after")
			assert.True(t, ok)
		})
	}
}

func TestALineMayBeAsLongAsAWSAllowsAndTheLastNeedsNoNewline(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	short := row(t, "device", "1")
	longest := strings.Repeat(" ", 256<<10-len(short)) + short
	id := startFile(t, fake, role, walkthrough(t), longest+"\n"+row(t, "last", "2"))
	assert.Equal(t, 2, describe(t, fake, id).Succeeded)
}

func TestNumbersAndUndeclaredMembersOfALineAreTaken(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	text := strings.Replace(row(t, "device", "4711"), `"4711"`, `4711,"Other":{"a":1}`, 1)
	text = strings.Replace(text, `,"Other":{"a":1}`, `,"Other":"x"`, 1)
	id := start(t, fake, role, walkthrough(t), text)
	require.Equal(t, 1, describe(t, fake, id).Succeeded)
	device, _ := fake.Thing("device")
	assert.Equal(t, "4711", device.Attributes["serialNumber"])
}

func TestLenientLinesPassOverWhatEditorsLeave(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{LenientLines: true})
	id := startFile(t, fake, role, walkthrough(t), "\ufeff"+row(t, "one", "1")+"\r\n"+row(t, "two", "2")+"\r\n")
	assert.Equal(t, 2, describe(t, fake, id).Succeeded)
}

func TestLenientLinesPassOverBlankLinesWithoutReportingThem(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{LenientLines: true})
	id := startFile(t, fake, role, walkthrough(t), "\ufeff\r\n"+row(t, "one", "1")+"\n\n \t\n"+row(t, "two", "2")+"\n\n")
	d := describe(t, fake, id)
	assert.Equal(t, []any{task.Completed, 2, 0, 100}, []any{d.Status, d.Succeeded, d.Failed, d.Percent})
	lines := results(t, fake, id)
	require.Len(t, lines, 2)
	assert.Equal(t, []int64{2, 5}, []int64{lines[0].LineNumber, lines[1].LineNumber})
	assert.Empty(t, failures(t, fake, id))
}

func TestTheSameFileTwiceGivesEachThingASecondCertificate(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	text := row(t, "device", "1")
	id := start(t, fake, role, walkthrough(t), text, text)
	lines := results(t, fake, id)
	require.Len(t, lines, 2)
	assert.NotEqual(t, lines[0].Response.CertificatePem, lines[1].Response.CertificatePem)
	device, _ := fake.Thing("device")
	assert.Len(t, device.Certificates, 2)
}

func TestAnEmptyFileIsATaskWithNothingToDo(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	d := describe(t, fake, startFile(t, fake, role, walkthrough(t), ""))
	assert.Equal(t, task.Completed, d.Status)
	assert.Zero(t, d.Succeeded+d.Failed)
	assert.Equal(t, 100, d.Percent)
}

// FuzzDataFile runs arbitrary bytes as a data file: nothing panics, every line ends as one line of one report, in
// order.
func FuzzDataFile(f *testing.F) {
	good := row(f, "device", "1")
	f.Add([]byte(good + "\n" + good))
	f.Add([]byte("\n\n{}\r\n\xef\xbb\xbf{}"))
	f.Add([]byte(`{"ThingName":"a","SerialNumber":1e3,"CSR":"x"}`))
	f.Add([]byte("\x00\xff{\"ThingName\":\"\\ud800\"}\nnull\n[]\n\"\""))
	body := walkthrough(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		fake, role := newFake(t, fakebackend.Options{LinesPerReport: 2})
		id := startFile(t, fake, role, body, string(file))
		d := describe(t, fake, id)
		lines := bytes.Count(file, []byte("\n"))
		if len(file) > 0 && file[len(file)-1] != '\n' {
			lines++
		}
		require.Equal(t, task.Completed, d.Status)
		require.Equal(t, lines, d.Succeeded+d.Failed)
		good, bad := results(t, fake, id), failures(t, fake, id)
		require.Len(t, good, d.Succeeded)
		require.Len(t, bad, d.Failed)
		seen := make([]bool, lines+1)
		last := [2]int64{}
		for i, report := range [][]reportLine{good, bad} {
			for _, l := range report {
				require.Greater(t, l.LineNumber, last[i], "lines of a report are in order")
				last[i] = l.LineNumber
				require.False(t, seen[l.LineNumber], "a line is in one report only")
				seen[l.LineNumber] = true
			}
		}
	})
}
