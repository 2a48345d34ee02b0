package datafile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/finding"
)

// readAll reads every row of a data file.
func readAll(t *testing.T, r io.Reader) []datafile.Row {
	t.Helper()
	var out []datafile.Row
	for row, err := range datafile.Read(r) {
		require.NoError(t, err)
		out = append(out, row)
	}
	return out
}

func TestReadReadsWhatWriterWrote(t *testing.T) {
	rows := []map[string]string{
		{"ThingName": "device-one", "SerialNumber": "001", "CSR": csrText},
		{"ThingName": "", "SerialNumber": "\x00\x1f\u2028\"\\/\b\f\t\r", "CSR": "日本語 \U0001F600"},
	}
	var file bytes.Buffer
	w := datafile.NewWriter(&file, "ThingName", "SerialNumber", "CSR")
	for _, row := range rows {
		require.NoError(t, w.WriteRow(row))
	}
	require.NoError(t, w.Close())
	got := readAll(t, &file)
	require.Len(t, got, 2)
	for i, row := range got {
		require.NoError(t, row.Err)
		assert.Equal(t, rows[i], row.Values)
		assert.Equal(t, int64(i+1), row.Number)
		assert.Equal(t, int64(i+1), row.Line)
	}
}

func TestReadTakesWhatPeoplesScriptsWrite(t *testing.T) {
	text := "\ufeff{\"A\":\"1\"}\r\n" + // byte order mark, CRLF
		"\n \t\r\n" + // blank lines
		" { \"A\" : \"2\" ,\t\"B\":\"x\" } \n" +
		"{\"B\":\"caf\\u00e9 \\ud83d\\ude00\\/\",\"\\u0041\":\"3\"}\n" +
		"{}\n" +
		"{\"A\":4.50,\"B\":true,\"C\":-1E+2,\"D\":\"s\",\"E\":false,\"F\":0,\"G\":2e5}" // no newline
	lines := readAll(t, iotest.OneByteReader(strings.NewReader(text)))
	require.Len(t, lines, 5)
	want := []map[string]string{
		{"A": "1"}, {"A": "2", "B": "x"}, {"A": "3", "B": "café 😀/"}, {},
		{"A": "4.50", "B": "true", "C": "-1E+2", "D": "s", "E": "false", "F": "0", "G": "2e5"},
	}
	numbers := []int64{1, 4, 5, 6, 7}
	for i, row := range lines {
		require.NoError(t, row.Err)
		assert.Equal(t, want[i], row.Values)
		assert.Equal(t, []int64{int64(i + 1), numbers[i]}, []int64{row.Number, row.Line})
		assert.Equal(t, numbers[i], int64(1+strings.Count(text[:row.Offset], "\n")))
	}
	assert.Equal(t, int64(3), lines[0].Offset, "the byte order mark is not part of the line")
}

func TestReadRefusesABadLineAndReadsOn(t *testing.T) {
	long := `{"A":"` + strings.Repeat("x", datafile.MaxLine) + `"}`
	cases := []struct {
		name   string
		line   string
		rule   finding.Rule
		column int
		field  string
		says   string
	}{
		{"a list", `[{"A":"1"}]`, datafile.ErrNotObject, 1, "", "no brackets"},
		{"a string", `"A"`, datafile.ErrNotObject, 1, "", "ReadCSV"},
		{"null alone", ` null`, datafile.ErrNotObject, 2, "", "object"},
		{"text", `ThingName,SerialNumber`, datafile.ErrSyntax, 1, "", `'T' where {`},
		{"pretty-printed", `{`, datafile.ErrSyntax, 2, "", "on one line"},
		{"two objects", `{"A":"1"}{"A":"2"}`, datafile.ErrSyntax, 10, "", "one object"},
		{"trailing comma", `{"A":"1",}`, datafile.ErrSyntax, 9, "", "remove the comma"},
		{"a comma missing", `{"A":"1" "B":"2"}`, datafile.ErrSyntax, 9, "", "a comma is missing"},
		{"another character for a comma", `{"A":"1"; "B":"2"}`, datafile.ErrSyntax, 9, "", "a comma or }"},
		{"a colon missing", `{"A" "1"}`, datafile.ErrSyntax, 6, "", `the colon after "A"`},
		{"no quotes around the name", `{A:"1"}`, datafile.ErrSyntax, 2, "", "double quotes around names"},
		{"single quotes", `{'A':'1'}`, datafile.ErrSyntax, 2, "", "use double quotes"},
		{"a word processor's quotes", `{"CSR": “MIIB”}`, datafile.ErrSyntax, 9, "CSR", "use the plain"},
		{"a value without quotes", `{"A":abc}`, datafile.ErrSyntax, 6, "A", "double quotes around text"},
		{"a number with a leading zero", `{"A":001}`, datafile.ErrSyntax, 6, "A", "begin with 0"},
		{"half a number", `{"A":1.}`, datafile.ErrSyntax, 6, "A", "not a number"},
		{"half an exponent", `{"A":1e+}`, datafile.ErrSyntax, 6, "A", "not a number"},
		{"a lone minus", `{"A":-}`, datafile.ErrSyntax, 6, "A", "not a number"},
		{"a raw tab in a value", "{\"A\":\"a\tb\"}", datafile.ErrSyntax, 8, "A", "control character '\\t'"},
		{"a string that does not end", `{"A":"-----BEGIN`, datafile.ErrSyntax, 6, "A", `written as \n`},
		{"a backslash at the end", `{"A":"x\`, datafile.ErrSyntax, 8, "A", "backslash"},
		{"an unknown escape", `{"A":"C:\dir"}`, datafile.ErrSyntax, 9, "A", `\d is not an escape`},
		{"a short \\u", `{"A":"\u12"}`, datafile.ErrSyntax, 7, "A", "four hexadecimal"},
		{"half a surrogate pair", `{"A":"\ud800x"}`, datafile.ErrInvalidUTF8, 7, "A", "surrogate"},
		{"half a pair and no escape", `{"A":"\ud800xude00"}`, datafile.ErrInvalidUTF8, 7, "A", "surrogate"},
		{"half a pair and a short \\u", `{"A":"\ud800\ude`, datafile.ErrSyntax, 13, "A", "four hexadecimal"},
		{"two first halves", `{"A":"\ud800\ud800"}`, datafile.ErrInvalidUTF8, 7, "A", "surrogate"},
		{"invalid UTF-8 in a value", "{\"A\":\"abcdefgh\xff\"}", datafile.ErrInvalidUTF8, 15, "A", "not UTF-8"},
		{"invalid UTF-8 in a name", "{\"\xe9\":\"1\"}", datafile.ErrInvalidUTF8, 3, "", "not UTF-8"},
		{"invalid UTF-8 elsewhere", "{\"A\":\"1\"\xe9}", datafile.ErrInvalidUTF8, 9, "", "0xe9"},
		{"a repeated parameter", `{"A":"1","B":"2","\u0041":"3"}`, datafile.ErrRepeated, 18, "A", "twice"},
		{"a nested object", `{"A":{"B":"1"}}`, datafile.ErrNested, 6, "A", "strings"},
		{"a list as value", `{"A":["1"]}`, datafile.ErrNested, 6, "A", "strings"},
		{"null", `{"A":null}`, datafile.ErrNull, 6, "A", "leave the parameter out"},
		{"no value", `{"A":}`, datafile.ErrSyntax, 6, "A", "value"},
		{"nothing after the colon", `{"A":`, datafile.ErrSyntax, 6, "A", "a value"},
		{"too long", long, datafile.ErrLineTooLong, 6, "A", "262144"},
		{"far too long", strings.Repeat(long, 9), datafile.ErrLineTooLong, 6, "A", "262144"},
		{"too long by its first member", `{"A":"` + strings.Repeat("x", datafile.MaxLine-10) + `","Bcdef":"2"}`, datafile.ErrLineTooLong, 6, "A", "262144"},
		{"too long and no object", strings.Repeat("x", datafile.MaxLine+1), datafile.ErrLineTooLong, 1, "", "262144"},
	}
	for _, c := range cases {
		for _, ending := range []string{"\n", "\r\n"} {
			t.Run(fmt.Sprintf("%s %q", c.name, ending), func(t *testing.T) {
				text := `{"A":"first"}` + ending + ending + c.line + ending + `{"A":"last"}`
				lines := readAll(t, strings.NewReader(text))
				require.Len(t, lines, 3)
				assert.Equal(t, map[string]string{"A": "first"}, lines[0].Values)
				assert.Equal(t, map[string]string{"A": "last"}, lines[2].Values)
				assert.Equal(t, int64(4), lines[2].Line)
				assert.Equal(t, int64(len(text)-len(`{"A":"last"}`)), lines[2].Offset)

				bad := lines[1]
				assert.Nil(t, bad.Values)
				p := problemOf(t, bad.Err, c.rule)
				assert.Equal(t, int64(2), p.Row)
				assert.Equal(t, int64(3), p.Line)
				assert.Equal(t, c.column, p.Column)
				assert.Equal(t, bad.Offset+int64(c.column-1), p.Offset)
				assert.Equal(t, c.field, p.Parameter)
				assert.Contains(t, p.Error(), c.says)
				assert.Contains(t, p.Error(), fmt.Sprintf("row 2 (line 3, column %d): ", c.column))
				assert.Less(t, len(p.Error()), 300)
			})
		}
	}
}

func TestReadJSONShapesTheRows(t *testing.T) {
	const line = `{"ThingName":"a","serial":7,"on":true,"Group":"","place":{"lat":[1.5,null]},"note":null}`
	for _, c := range []struct {
		name string
		opts datafile.JSONOptions
		want map[string]string
	}{
		{"renamed and selected", datafile.JSONOptions{Rename: map[string]string{"serial": "SerialNumber"}, Columns: []string{"ThingName", "SerialNumber", "on", "Group"}},
			map[string]string{"ThingName": "a", "SerialNumber": "7", "on": "true"}},
		{"with what is empty", datafile.JSONOptions{Columns: []string{"Group"}, KeepEmpty: true}, map[string]string{"Group": ""}},
	} {
		for row, err := range datafile.ReadJSON(strings.NewReader(line), &c.opts) {
			require.NoError(t, err)
			require.NoError(t, row.Err)
			assert.Equal(t, c.want, row.Values, c.name)
		}
	}
	for text, rule := range map[string]finding.Rule{
		`{"A":"1","B":"2"}`: datafile.ErrRepeated, `{"A":"","B":"2"}`: datafile.ErrRepeated, line: datafile.ErrNested, `{"A":"1","C":[}`: datafile.ErrSyntax,
	} {
		for row, err := range datafile.ReadJSON(strings.NewReader(text), &datafile.JSONOptions{Rename: map[string]string{"B": "A"}}) {
			require.NoError(t, err)
			if rule == datafile.ErrSyntax {
				rule = datafile.ErrNested
			}
			problemOf(t, row.Err, rule)
		}
		for row := range datafile.ReadJSON(strings.NewReader(text), &datafile.JSONOptions{Columns: []string{"A"}}) {
			assert.Equal(t, text == `{"A":"1","C":[}`, row.Err != nil, "%s: what is left out is read over, and must be JSON", text)
		}
	}
}

func TestReadTakesALineOfExactlyTheLimit(t *testing.T) {
	fits := `{"A":"` + strings.Repeat("x", datafile.MaxLine-len(`{"A":""}`)) + `"}`
	require.Len(t, fits, datafile.MaxLine)
	for _, begin := range []string{"", "\ufeff"} {
		for _, ending := range []string{"", "\n", "\r\n"} {
			lines := readAll(t, strings.NewReader(begin+fits+ending))
			require.Len(t, lines, 1)
			assert.NoError(t, lines[0].Err)
			lines = readAll(t, strings.NewReader(begin+fits+" "+ending))
			require.Len(t, lines, 1)
			problemOf(t, lines[0].Err, datafile.ErrLineTooLong)
		}
	}
}

func TestReadRecognisesOtherEncodings(t *testing.T) {
	for name, text := range map[string]string{
		"UTF-16, little-endian": "\xff\xfe{\x00\"\x00A\x00\n\x00",
		"UTF-16, big-endian":    "\xfe\xff\x00{\x00\"",
		"without a byte order":  "{\x00\"\x00A\x00",
		"gzip":                  "\x1f\x8b\x08\x00",
		"ZIP":                   "PK\x03\x04xyz",
	} {
		for row, err := range datafile.Read(strings.NewReader(text)) {
			assert.Zero(t, row)
			assert.ErrorContains(t, problemOf(t, err, datafile.ErrEncoding), name)
		}
	}
}

func TestReadErrorOfTheInputIsTerminalAndLast(t *testing.T) {
	broken := errors.New("connection reset")
	in := io.MultiReader(strings.NewReader("{\"A\":\"1\"}\nnot json\n{\"A\":\"2\"}\n{\"A\":\"3"), iotest.ErrReader(broken))
	var good, bad int
	var last error
	for line, err := range datafile.Read(in) {
		require.NoError(t, last, "the error must come last")
		switch {
		case err != nil:
			last = err
			assert.Zero(t, line)
		case line.Err != nil:
			bad++
		default:
			good++
		}
	}
	assert.ErrorIs(t, last, broken)
	assert.ErrorContains(t, last, "line 4")
	assert.Equal(t, 2, good, "the line that broke off is no line")
	assert.Equal(t, 1, bad)
}

func TestReadCanBeLeft(t *testing.T) {
	in := strings.NewReader(strings.Repeat("{\"A\":\"1\"}\n", 100_000))
	for row, err := range datafile.Read(in) {
		require.NoError(t, err)
		assert.Equal(t, "1", row.Values["A"])
		break
	}
	assert.Positive(t, in.Len(), "the rest is left unread")
}

// repeat is an endless input.
type repeat struct {
	text string
	at   int
	left int64
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) {
		k := copy(p[n:], r.text[r.at:])
		r.at = (r.at + k) % len(r.text)
		n += k
	}
	r.left -= int64(n)
	return n, nil
}

// heapGrowth returns by how much the live heap at its fullest exceeds what it was, looked at every so many steps.
func heapGrowth(steps func(look func())) int64 {
	live := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	var most int64
	steps(func() { most = max(most, live()-before) })
	return most
}

func TestReadersMemoryDoesNotGrowWithTheInput(t *testing.T) {
	const size = 8 << 20
	inputs := map[string]string{
		"one line without end":      "x",
		"short lines":               `{"ThingName":"device","CSR":"` + strings.Repeat("MIIB", 100) + "\"}\n",
		"a different name each":     strings.Repeat("{\"A\":\"1\"}\n", 3) + "{\"B\":\"1\",\"C\":\"2\"}\n",
		"lines just over the limit": strings.Repeat("y", datafile.MaxLine+1) + "\n",
		"a quote that never closes": "a,b\n\"" + strings.Repeat(strings.Repeat("c", 99)+"\n", 2000),
		"nothing but quoted breaks": "a,\"" + strings.Repeat("\n", 300_000),
		"only blank lines":          "\n",
		"a stray quote each line":   "a,\"" + strings.Repeat("b", 50) + "\n",
	}
	for name, text := range inputs {
		t.Run(name, func(t *testing.T) {
			assert.Less(t, heapGrowth(func(look func()) {
				n := 0
				for _, err := range datafile.Read(&repeat{text: text, left: size}) {
					require.NoError(t, err)
					if n++; n == 1 || n%50_000 == 0 {
						look()
					}
				}
				look()
			}), int64(2<<20))
			assert.Less(t, heapGrowth(func(look func()) {
				n := 0
				for _, err := range datafile.ReadCSV(io.MultiReader(strings.NewReader("h1,h2\n"), &repeat{text: text, left: size}), nil) {
					require.NoError(t, err)
					if n++; n == 1 || n%500_000 == 0 {
						look()
					}
				}
				look()
			}), int64(12<<20))
		})
	}
}
