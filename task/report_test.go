package task_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

// readAll reads a RESULTS report that must not fail as a whole.
func readAll(t *testing.T, report string) []*task.Result {
	t.Helper()
	var out []*task.Result
	for r, err := range task.ReadResults(strings.NewReader(report)) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

func readAllErrors(t *testing.T, report string) []*task.LineError {
	t.Helper()
	var out []*task.LineError
	for e, err := range task.ReadErrors(strings.NewReader(report)) {
		require.NoError(t, err)
		out = append(out, e)
	}
	return out
}

func TestAResultIsReadInEveryShapeSeen(t *testing.T) {
	const pem = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n"
	arns := task.ARNs{"thing": "arn:aws:iot:eu-west-1:123456789012:thing/d1", "certificate": "arn:aws:iot:eu-west-1:123456789012:cert/00"}
	const jsonPEM, jsonARNs = `"-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n"`,
		`{"thing":"arn:aws:iot:eu-west-1:123456789012:thing/d1","certificate":"arn:aws:iot:eu-west-1:123456789012:cert/00"}`
	for name, line := range map[string]string{
		"as reports have it":            `{"lineNumber": 7, "response": {"CertificatePem": ` + jsonPEM + `, "ResourceArns": ` + jsonARNs + `}}`,
		"response as RegisterThing":     `{"lineNumber":7,"response":{"certificatePem":` + jsonPEM + `,"resourceArns":` + jsonARNs + `}}`,
		"at the top":                    `{"CertificatePem":` + jsonPEM + `,"ResourceArns":` + jsonARNs + `,"lineNumber":7}`,
		"at the top, as RegisterThing":  `{"certificatePem":` + jsonPEM + `,"resourceArns":` + jsonARNs + `,"lineNumber":7}`,
		"number as a string":            `{"lineNumber":"7","response":{"CertificatePem":` + jsonPEM + `,"ResourceArns":` + jsonARNs + `}}`,
		"number with a fraction of 0":   `{"lineNumber":7.0,"response":{"CertificatePem":` + jsonPEM + `,"ResourceArns":` + jsonARNs + `}}`,
		"unknown members":               `{"x":[1,{"lineNumber":9}],"lineNumber":7,"response":{"y":null,"CertificatePem":` + jsonPEM + `,"ResourceArns":` + jsonARNs + `}}`,
		"white space":                   " \t{ \"lineNumber\" : 7 , \"response\" : { \"CertificatePem\" : " + jsonPEM + " , \"ResourceArns\" : " + jsonARNs + " } } \t",
		"escaped names":                 `{"l\u0069neNumber":7,"response":{"Certificate\u0050em":` + jsonPEM + `,"ResourceArns":` + jsonARNs + `}}`,
		"of a repeated member the last": `{"lineNumber":1,"response":{"CertificatePem":"x"},"lineNumber":7,"response":{"CertificatePem":` + jsonPEM + `,"ResourceArns":` + jsonARNs + `}}`,
		"response before the top":       `{"CertificatePem":"x","lineNumber":7,"response":{"CertificatePem":` + jsonPEM + `,"ResourceArns":` + jsonARNs + `}}`,
		"null is absent":                `{"CertificatePem":` + jsonPEM + `,"lineNumber":7,"response":{"CertificatePem":null,"ResourceArns":` + jsonARNs + `}}`,
		"escapes of another writer":     `{"lineNumber":7,"response":{"CertificatePem":` + strings.ReplaceAll(jsonPEM, "-----B", `\u002d----B`) + `,"ResourceArns":` + strings.ReplaceAll(jsonARNs, "/", `\/`) + `}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got := readAll(t, line+"\n")
			require.Len(t, got, 1)
			assert.Nil(t, got[0].Malformed)
			assert.EqualValues(t, 7, got[0].Line)
			assert.Equal(t, pem, got[0].CertificatePEM)
			assert.Equal(t, arns, got[0].ARNs)
			assert.Equal(t, line, string(got[0].Raw), "the line is kept as it came")
		})
	}
}

func TestAnErrorLineIsReadInEveryShapeSeen(t *testing.T) {
	got := readAllErrors(t, `{"lineNumber": 2, "errorMessage": "Thing type not found"}
{"lineNumber": "3", "errorCode": "ResourceAlreadyExistsException", "errorMessage": "Thing x \"already\" exists", "offset": 17}
{"errorMessage": "no number"}
`)
	require.Len(t, got, 3)
	for _, e := range got {
		assert.Nil(t, e.Malformed)
	}
	assert.EqualValues(t, 2, got[0].Line)
	assert.Equal(t, "Thing type not found", got[0].Message)
	assert.Equal(t, "line 2: Thing type not found", got[0].Error())
	assert.EqualValues(t, 3, got[1].Line)
	assert.Equal(t, `Thing x "already" exists`, got[1].Message)
	assert.ErrorIs(t, got[1], task.ErrConflict, "the code says what kind of error it is")
	assert.Contains(t, string(got[1].Raw), `"offset": 17`)
	assert.Zero(t, got[2].Line)
	assert.Equal(t, "no number", got[2].Error())
}

func TestLineEndsMarksAndBlankLinesDoNotMatter(t *testing.T) {
	one, two := strings.TrimSpace(resultLine(1)), strings.TrimSpace(resultLine(2))
	for name, report := range map[string]string{
		"newline":            one + "\n" + two + "\n",
		"no newline at end":  one + "\n" + two,
		"CRLF":               one + "\r\n" + two + "\r\n",
		"CR at the end":      one + "\r\n" + two + "\r",
		"byte order mark":    "\xef\xbb\xbf" + one + "\n" + two + "\n",
		"blank lines":        "\n\n" + one + "\n \t\r\n\n" + two + "\n\n",
		"mark and blank":     "\xef\xbb\xbf\n" + one + "\n" + two + "\n",
		"spaces at the ends": "  " + one + "  \n\t" + two + "\t\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(report), oneByte{strings.NewReader(report)}} {
				var lines []int64
				for got, err := range task.ReadResults(r) {
					require.NoError(t, err)
					require.Nil(t, got.Malformed)
					lines = append(lines, got.Line)
				}
				assert.Equal(t, []int64{1, 2}, lines)
			}
		})
	}
	assert.Empty(t, readAll(t, ""))
	assert.Empty(t, readAll(t, "\xef\xbb\xbf"))
}

// oneByte gives one byte at a time, and its last one together with io.EOF.
type oneByte struct{ r *strings.Reader }

func (o oneByte) Read(p []byte) (int, error) {
	n, err := o.r.Read(p[:min(1, len(p))])
	if err == nil && o.r.Len() == 0 {
		err = io.EOF
	}
	return n, err
}

func TestABadLineIsAnItemWithItsPlaceAndTheGoodOnesAreKept(t *testing.T) {
	for name, bad := range map[string]struct {
		line    string
		syntax  bool
		offset  int64 // in the line
		problem string
	}{
		"cut off":             {`{"lineNumber": 2, "response": {"Cert`, true, 31, "no closing quote"},
		"not JSON":            {`Internal Server Error`, true, 0, `found 'I'`},
		"an array":            {`[{"lineNumber":2}]`, true, 0, "not a JSON object"},
		"two objects":         {`{"lineNumber":2}{}`, true, 16, "after the end"},
		"control character":   {"{\"lineNumber\":2,\"x\":\"a\tb\"}", true, 22, `the control character '\t'`},
		"unknown escape":      {`{"x":"\q"}`, true, 6, `\q`},
		"bad unicode escape":  {`{"x":"\u12g4"}`, true, 6, "hexadecimal"},
		"leading zero":        {`{"lineNumber":02}`, true, 14, "cannot begin with 0"},
		"trailing comma":      {`{"lineNumber":2,}`, true, 15, "a comma before the closing bracket"},
		"number is a list":    {`{"lineNumber":[2],"response":{"CertificatePem":"p"}}`, false, 14, "number of a line"},
		"number is too big":   {`{"lineNumber":99999999999999999999,"response":{"CertificatePem":"p"}}`, false, 14, "number of a line"},
		"number is negative":  {`{"lineNumber":-2,"response":{"CertificatePem":"p"}}`, false, 14, "number of a line"},
		"certificate is 1":    {`{"response":{"CertificatePem":1,"ResourceArns":{"a":"b"}}}`, false, 30, "response.CertificatePem is not a string"},
		"ARNs are a list":     {`{"response":{"CertificatePem":"p","ResourceArns":[]}}`, false, 49, "ResourceArns is not an object"},
		"an ARN is a number":  {`{"response":{"CertificatePem":"p","ResourceArns":{"thing":1}}}`, false, 58, `under "thing"`},
		"response is a text":  {`{"response":"x","CertificatePem":"p"}`, false, 12, "response is not an object"},
		"nothing known in it": {`{"lineNumber":2,"outcome":"fine"}`, false, 0, "neither a certificate nor ARNs"},
	} {
		t.Run(name, func(t *testing.T) {
			before := resultLine(1)
			got := readAll(t, before+bad.line+"\r\n"+resultLine(3))
			require.Len(t, got, 3)
			assert.EqualValues(t, 1, got[0].Line)
			assert.EqualValues(t, 3, got[2].Line)
			assert.Nil(t, got[0].Malformed)
			assert.Nil(t, got[2].Malformed)

			fault := got[1].Malformed
			require.NotNil(t, fault)
			assert.EqualValues(t, 2, fault.Line)
			assert.Equal(t, int64(len(before))+bad.offset, fault.Offset)
			assert.Equal(t, bad.syntax, fault.Syntax)
			assert.Contains(t, fault.Error(), bad.problem)
			assert.Contains(t, fault.Error(), "line 2")
			assert.Equal(t, bad.line, string(got[1].Raw))
		})
	}
}

func TestWhatCanBeReadOfABadLineIsKept(t *testing.T) {
	got := readAll(t, `{"lineNumber":[], "response":{"CertificatePem":"pem","ResourceArns":{"a":1,"thing":"arn"}}`+"\n")
	require.Len(t, got, 1)
	require.NotNil(t, got[0].Malformed)
	assert.Equal(t, "pem", got[0].CertificatePEM)
	assert.Equal(t, task.ARNs{"thing": "arn"}, got[0].ARNs)
}

func TestALineOverTheLimitIsAnItemErrorAndTheNextOneIsRead(t *testing.T) {
	const limit = 1 << 20
	pad := func(n int) string { // a good line of n bytes
		head, tail := `{"lineNumber":2,"response":{"CertificatePem":"`, `"}}`
		return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
	}
	for name, c := range map[string]struct {
		line string
		ok   bool
	}{
		"at the limit":              {pad(limit), true},
		"at the limit with CR":      {pad(limit) + "\r", true},
		"one over":                  {pad(limit + 1), false},
		"two over":                  {pad(limit + 2), false},
		"far over, many buffers on": {pad(5*limit + 12345), false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, after := range []string{"\n" + resultLine(3), "\n", ""} {
				got := readAll(t, resultLine(1)+c.line+after)
				require.GreaterOrEqual(t, len(got), 2)
				if c.ok {
					require.Nil(t, got[1].Malformed)
					assert.EqualValues(t, 2, got[1].Line)
				} else {
					fault := got[1].Malformed
					require.NotNil(t, fault)
					assert.True(t, fault.Syntax)
					assert.EqualValues(t, 2, fault.Line)
					assert.Contains(t, fault.Problem, "1048576 bytes")
					assert.Equal(t, c.line[:limit], string(got[1].Raw))
				}
				if len(after) > 1 {
					require.Len(t, got, 3)
					assert.Nil(t, got[2].Malformed)
					assert.EqualValues(t, 3, got[2].Line)
				}
			}
		})
	}
}

func TestAReadersErrorEndsTheReportBehindTheWholeLines(t *testing.T) {
	boom := errors.New("disk on fire")
	r := io.MultiReader(strings.NewReader(resultLines(1, 2)+`{"lineNumber":3`), failing{boom})
	lines, err := numbers(task.ReadResults(r))
	assert.Equal(t, []int64{1, 2}, lines)
	require.ErrorIs(t, err, boom)
	assert.ErrorContains(t, err, "after line 2")
}

func TestAnEndOfFileThatIsWrappedIsNotTheEndOfTheReport(t *testing.T) {
	broken := fmt.Errorf("proxy closed the connection: %w", io.EOF)
	var lines int
	var last error
	for r, err := range task.ReadResults(io.MultiReader(strings.NewReader(resultLine(1)+resultLine(2)[:20]), failing{broken})) {
		if last = err; r != nil {
			lines++
		}
	}
	require.ErrorIs(t, last, broken)
	assert.Equal(t, 1, lines, "the line that was cut is not given out")
}

var reportMiB = flag.Int("report-mib", 40, "size of the report of TestAReportNeedsConstantMemory")

func TestAReportNeedsConstantMemory(t *testing.T) {
	line := resultsReport(1)
	lines := *reportMiB << 20 / len(line)
	report := &repeated{text: line, times: lines}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n, most := 0, uint64(0)
	for _, err := range task.ReadResults(report) {
		require.NoError(t, err)
		if n++; n%5000 == 1 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
	}
	assert.Equal(t, lines, n)
	held := int64(most) - int64(before.HeapAlloc)
	t.Logf("at most %d KiB held while reading %d lines, %d MiB", held>>10, lines, lines*len(line)>>20)
	assert.Less(t, held, int64(2<<20))
}

// repeated is a reader over the same text many times.
type repeated struct {
	text       []byte
	times, pos int
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.times == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.text[r.pos:])
	if r.pos += n; r.pos == len(r.text) {
		r.pos, r.times = 0, r.times-1
	}
	return n, nil
}

func TestTextIsDecodedAsEncodingJSONDoes(t *testing.T) {
	for _, text := range []string{
		`"plain"`, `""`, `"\"\\\/\b\f\n\r\t"`, `"\u00e9\u20ac"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`, `"\ud83d\ud83d\ude00"`,
		`"\ude00\ud83d"`, `"\ud83d\n"`, `"\ud83d\u0041"`, "\"\xff\xfe\"", "\"a\xc3\"", "\"\xed\xa0\x80\"", `"é€😀"`, `"\u0000"`, "\"\x7f\"",
	} {
		var want string
		require.NoError(t, json.Unmarshal([]byte(text), &want), text)
		got := readAllErrors(t, `{"errorCode":"c","errorMessage":`+text+`}`)
		require.Len(t, got, 1)
		require.Nil(t, got[0].Malformed, text)
		assert.Equal(t, want, got[0].Message, text)
	}
}

func TestABrokenOffLoopReadsNoFurther(t *testing.T) {
	r := bytes.NewReader(resultsReport(1000))
	for _, err := range task.ReadResults(r) {
		require.NoError(t, err)
		break
	}
	assert.Positive(t, r.Len(), "the rest is left unread")
}
