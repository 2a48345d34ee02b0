package datafile_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/finding"
)

// jsonRow reads a line with encoding/json alone. ok is false for what Read has to refuse. known is false where
// encoding/json cannot tell: it reads half a surrogate pair as U+FFFD.
func jsonRow(line []byte) (row map[string]string, ok, known bool) {
	if !utf8.Valid(line) || !json.Valid(line) {
		return nil, false, true
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	if t, _ := dec.Token(); t != json.Delim('{') {
		return nil, false, true
	}
	row = map[string]string{}
	for dec.More() {
		key, _ := dec.Token()
		value, _ := dec.Token()
		if _, twice := row[key.(string)]; twice {
			return nil, false, true
		}
		var text string
		switch v := value.(type) {
		case string:
			text = v
		case json.Number:
			text = v.String()
		case bool:
			text = map[bool]string{true: "true", false: "false"}[v]
		default:
			return nil, false, true
		}
		row[key.(string)] = text
		if strings.Contains(key.(string)+text, "\ufffd") {
			if bytes.Contains(line, []byte("\ufffd")) || bytes.Contains(bytes.ToLower(line), []byte(`\ufffd`)) {
				return nil, false, false
			}
			return nil, false, true // it came from half a surrogate pair
		}
	}
	return row, true, true
}

func byLength(a, b string) int { return len(a) - len(b) }

// FuzzRead checks that Read takes exactly the lines that encoding/json and its own documentation allow, with
// encoding/json's values, and that what it read comes back the same when written and read again.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"{\"ThingName\": \"device-one\", \"SerialNumber\": \"001\", \"CSR\": \"-----BEGIN\\nMIIB\\n\"}\n",
		"\ufeff{\"A\":\"1\"}\r\n\r\n {\"B\" : -1.5e+10 , \"C\":true}",
		"{\"A\":\"\\u00e9\\ud83d\\ude00\\/\\b\\f\\r\\t\\\\\\\"\"}\n{\"A\":\"\\ud800\"}\n",
		"[1]\nnull\n\"x\"\n{\"A\":null}\n{\"A\":{}}\n{\"A\":\"1\",\"A\":\"2\"}\n{}\n{\"A\":01}",
		"{\"A\":\"\xff\"}\n{\"ab\xc3\xa9defgh\":\"日本\",\"\":\"\"}\n{\"A\":\"1\",}\n{\"A\":\"1\"} x\n",
		"\xff\xfe{\x00\n\x00", "{\x00", "{\"A\":tru}\n{\"A\":-}\n{\"A\":1.}\n{\"A\":1e}\n{\"A\":0x1}\n{\"A\":\"a\x01b\"}\n{\"A\":\"\\x\"}\n{\"A\":\"\\u12g4\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var rows []map[string]string
		text := bytes.TrimPrefix(data, []byte("\ufeff"))
		lines := bytes.Split(text, []byte("\n"))
		for i := range lines {
			lines[i] = bytes.TrimSuffix(lines[i], []byte("\r"))
		}
		for line, err := range datafile.Read(bytes.NewReader(data)) {
			if err != nil {
				problemOf(t, err, datafile.ErrEncoding)
				return
			}
			want := lines[line.Line-1]
			require.Equal(t, string(want), string(data[line.Offset:][:len(want)]))
			lines[line.Line-1] = nil
			row, ok, known := jsonRow(want)
			if known {
				require.Equal(t, ok, line.Err == nil, "%q: %v", want, line.Err)
			}
			if line.Err != nil {
				p := problemOf(t, line.Err, line.Err.(*finding.Finding).Rule)
				require.NotZero(t, p.Column)
				require.LessOrEqual(t, p.Column, len(want)+1)
				if p.Rule == datafile.ErrSyntax {
					require.False(t, json.Valid(want))
				}
				continue
			}
			if known {
				require.Equal(t, row, line.Values)
			}
			rows = append(rows, line.Values)
		}
		for _, rest := range lines {
			require.Empty(t, bytes.Trim(rest, " \t\r"), "a line that is not blank was passed over")
		}
		for _, row := range rows {
			columns := slices.Sorted(maps.Keys(row))
			var out bytes.Buffer
			w := datafile.NewWriter(&out, columns...)
			if err := w.WriteRow(row); err != nil {
				// A line may have what a data file should not: no columns, an empty name, a private key.
				rule := err.(*finding.Finding).Rule
				require.Contains(t, []finding.Rule{datafile.ErrColumns, datafile.ErrPrivateKey, datafile.ErrLineTooLong}, rule)
				if rule == datafile.ErrColumns {
					require.True(t, len(row) == 0 || columns[0] == "" || len(slices.MaxFunc(columns, byLength)) > 2048)
				}
				continue
			}
			require.NoError(t, w.Close())
			require.True(t, json.Valid(out.Bytes()))
			again := readAll(t, &out)
			require.Len(t, again, 1)
			require.NoError(t, again[0].Err)
			require.Equal(t, row, again[0].Values)
		}
	})
}

// FuzzReadCSV checks that ReadCSV reads without complaint exactly what encoding/csv does and its own documentation
// allows, with encoding/csv's values, and that what it read comes back the same when written and read again.
func FuzzReadCSV(f *testing.F) {
	for _, seed := range []string{
		"ThingName,SerialNumber,CSR\ndevice-one,001,\"-----BEGIN\nMIIB\n\"\n",
		"\ufeffA;B\r\n\r\n1;\"2\"\"\r\n3\"\r\n;\r\n4;5",
		"A\tB\n1\t2 \n3\n\"x\"y\tz\n4\t\"5\n6\t7\n",
		"A\n\"a\nb\nc\"d\ne\n", "A,A\n", "A,\n", "\xff\xfeA\x00", "A,B\n1,\xff\n2,\x00\n3, \"4\"\n", "A,B\n\"\r\r\n\",\r\n\"", "A\n\"\"\n\"", "A,B\r1,2\r", "\r\n\"A\r\"\r\n1", "\"A\nB\",C\r1,2\r3,4\r", "\ufeff\ufeff\n0", "sep=;\nA;B\n1;2\n",
	} {
		f.Add([]byte(seed), uint8(0))
		f.Add([]byte(seed), uint8(1))
		f.Add([]byte(seed), uint8(2))
	}
	f.Fuzz(func(t *testing.T, data []byte, comma uint8) {
		opts := &datafile.CSVOptions{Comma: rune(",;\t"[comma%3])}
		columns, rows, clean, readErr := csvRows(t, data, opts)

		if strings.Contains(strings.ToLower(string(data)), "sep=") { // which encoding/csv takes for a header
			return
		}
		theirs := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
		theirs.Comma, theirs.FieldsPerRecord = opts.Comma, -1
		all, err := theirs.ReadAll()
		acceptable := err == nil && utf8.Valid(data) && !bytes.Contains(data, []byte{0})
		if len(all) > 0 && acceptable {
			header := all[0]
			for i := range header {
				acceptable = acceptable && !strings.Contains(header[i], "\r")
				header[i] = strings.TrimFunc(header[i], func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
				acceptable = acceptable && header[i] != "" && !slices.Contains(header[:i], header[i])
			}
			all = slices.DeleteFunc(all[1:], func(row []string) bool { return strings.Join(row, "") == "" })
			for _, row := range all {
				acceptable = acceptable && len(row) == len(header)
			}
			if acceptable && len(all) > 0 {
				require.Equal(t, header, columns)
			}
		}
		if readErr != nil {
			require.False(t, acceptable, "%v", readErr)
			return
		}
		require.Equal(t, acceptable, clean, "encoding/csv: %v", err)
		if clean {
			require.Len(t, rows, len(all))
			for i := range rows {
				require.Equal(t, all[i], rows[i])
			}
		}
		if len(rows) == 0 {
			return
		}
		// What encoding/csv writes it cannot read back when a value has CR LF in it: it reads that as LF.
		var out bytes.Buffer
		w := csv.NewWriter(&out)
		w.Comma = opts.Comma
		require.NoError(t, w.Write(columns))
		for _, row := range rows {
			require.NoError(t, w.Write(row))
		}
		w.Flush()
		if bytes.Contains(out.Bytes(), []byte("\r\n")) {
			return
		}
		again, same, clean, readErr := csvRows(t, out.Bytes(), opts)
		require.NoError(t, readErr)
		require.True(t, clean)
		require.Equal(t, columns, again)
		require.Equal(t, rows, same)
	})
}

// csvRows reads CSV and returns the good rows as encoding/csv would, and whether all were good.
func csvRows(t *testing.T, data []byte, opts *datafile.CSVOptions) (columns []string, rows [][]string, clean bool, err error) {
	clean = true
	var line int64
	for rec, err := range datafile.ReadCSV(io.MultiReader(bytes.NewReader(data)), opts) {
		if err != nil {
			_ = problemOf(t, err, err.(*finding.Finding).Rule)
			return columns, rows, false, err
		}
		require.Greater(t, rec.Line, line, "rows come in order")
		line = rec.Line
		if rec.Err != nil {
			p := problemOf(t, rec.Err, rec.Err.(*finding.Finding).Rule)
			require.GreaterOrEqual(t, p.Line, rec.Line)
			require.LessOrEqual(t, p.Offset, int64(len(data)))
			clean = false
			continue
		}
		columns = rec.Columns()
		row := make([]string, len(columns))
		for i, name := range columns {
			row[i] = rec.Values[name]
		}
		rows = append(rows, row)
	}
	return columns, rows, clean, nil
}
