package task_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

// plainLines cuts a report into lines the simple way, as the fuzz targets compare with.
func plainLines(report []byte) (lines [][]byte) {
	report = bytes.TrimPrefix(report, []byte("\xef\xbb\xbf"))
	for line := range bytes.SplitSeq(report, []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(bytes.Trim(line, " \t\r")) > 0 {
			lines = append(lines, line)
		}
	}
	return lines
}

// plainObject decodes a line with encoding/json; nil when it is not an object. A number may be larger than a float64.
func plainObject(line []byte) map[string]any {
	if !bytes.HasPrefix(bytes.TrimLeft(line, " \t\r"), []byte("{")) {
		return nil
	}
	var object map[string]any
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if !json.Valid(line) || d.Decode(&object) != nil {
		return nil
	}
	return object
}

// isSyntax reports whether err says that the line is not a JSON object.
func isSyntax(fault *task.FormatError) bool { return fault != nil && fault.Syntax }

func fuzzSeeds(f *testing.F) {
	f.Add(resultsReport(2))
	f.Add([]byte(resultLine(1) + `{"lineNumber":2,"errorMessage":"Thing type not found"}` + "\r\n\n"))
	f.Add([]byte("\xef\xbb\xbf" + `{"lineNumber":"3","certificatePem":"a\nb","resourceArns":{"thing":"x","n":1}}`))
	f.Add([]byte(`{"errorCode":"Throttling\u0045xception","errorMessage":"\ud83d\ude00 \ud83d \u00e9 \/"}`))
	f.Add([]byte(`{"response":{"CertificatePem":"a"},"response":null,"CertificatePem":"b"}` + "\n[1]\n{}\n{\"a\":-0.5e+3}\n"))
	f.Add([]byte("{\"x\":\"\xff\xc3\",\"\xff\":[[[{}]]],\"lineNumber\":1e2}\n{\"lineNumber\":02}\n{]\n\"\n"))
	f.Add([]byte(`{"":1` + strings.Repeat("3", 400) + "}\n"))
}

// FuzzReadResults checks that a line is accepted when encoding/json accepts it, that the values are those of
// encoding/json, and that a result written as a report line reads back as the same result.
func FuzzReadResults(f *testing.F) {
	fuzzSeeds(f)
	f.Fuzz(func(t *testing.T, report []byte) {
		lines := plainLines(report)
		n := 0
		for r, err := range task.ReadResults(bytes.NewReader(report)) {
			require.NoError(t, err)
			require.Less(t, n, len(lines), "more items than lines")
			line := lines[n]
			n++
			require.Equal(t, string(line), string(r.Raw))
			object := plainObject(line)
			require.Equal(t, object == nil, isSyntax(r.Malformed), "%q: %v", line, r.Malformed)
			if object == nil {
				continue
			}
			response, _ := object["response"].(map[string]any)
			require.Equal(t, firstText(response["CertificatePem"], response["certificatePem"],
				object["CertificatePem"], object["certificatePem"]), r.CertificatePEM, "%q", line)
			require.True(t, maps.Equal(firstARNs(response["ResourceArns"], response["resourceArns"],
				object["ResourceArns"], object["resourceArns"]), r.ARNs), "%q: %v", line, r.ARNs)
			if text, ok := object["lineNumber"].(json.Number); ok {
				number, err := text.Float64()
				if err == nil && number == float64(int64(number)) && number >= 0 && number < 1<<53 {
					require.Equal(t, int64(number), r.Line, "%q", line)
				}
			}
			again := rewritten(t, r)
			require.Equal(t, r.Line, again.Line)
			require.Equal(t, r.CertificatePEM, again.CertificatePEM)
			require.True(t, maps.Equal(r.ARNs, again.ARNs))
		}
		assert.Equal(t, len(lines), n)
	})
}

// rewritten writes a result as AWS does and reads that.
func rewritten(t *testing.T, r *task.Result) *task.Result {
	line, err := json.Marshal(map[string]any{
		"lineNumber": r.Line,
		"response":   map[string]any{"CertificatePem": r.CertificatePEM, "ResourceArns": r.ARNs},
	})
	require.NoError(t, err)
	for again, err := range task.ReadResults(bytes.NewReader(line)) {
		require.NoError(t, err)
		return again
	}
	t.Fatal("a written line was not read")
	return nil
}

func firstText(values ...any) string {
	for _, v := range values {
		if s, _ := v.(string); s != "" {
			return s
		}
	}
	return ""
}

func firstARNs(values ...any) task.ARNs {
	for _, v := range values {
		arns := task.ARNs{}
		object, _ := v.(map[string]any)
		for name, arn := range object {
			if s, ok := arn.(string); ok {
				arns[name] = s
			}
		}
		if len(arns) > 0 {
			return arns
		}
	}
	return nil
}

// FuzzReadErrors is FuzzReadResults for the other report.
func FuzzReadErrors(f *testing.F) {
	fuzzSeeds(f)
	f.Fuzz(func(t *testing.T, report []byte) {
		lines := plainLines(report)
		n := 0
		for e, err := range task.ReadErrors(bytes.NewReader(report)) {
			require.NoError(t, err)
			require.Less(t, n, len(lines), "more items than lines")
			line := lines[n]
			n++
			_ = e.Error()
			object := plainObject(line)
			require.Equal(t, object == nil, isSyntax(e.Malformed), "%q: %v", line, e.Malformed)
			if object == nil {
				continue
			}
			require.Equal(t, firstText(object["errorMessage"]), e.Message, "%q", line)
			require.Equal(t, firstText(object["errorCode"]), e.Code, "%q", line)

			written, err := json.Marshal(map[string]any{"lineNumber": e.Line, "errorMessage": e.Message, "errorCode": e.Code})
			require.NoError(t, err)
			for again, err := range task.ReadErrors(bytes.NewReader(written)) {
				require.NoError(t, err)
				require.Equal(t, []any{e.Line, e.Message, e.Code}, []any{again.Line, again.Message, again.Code})
			}
		}
		assert.Equal(t, len(lines), n)
	})
}
