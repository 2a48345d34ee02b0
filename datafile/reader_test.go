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
)

// readLines reads everything; Raw is cloned.
func readLines(t *testing.T, r io.Reader) []datafile.Line {
	t.Helper()
	var out []datafile.Line
	for line, err := range datafile.NewReader(r).All() {
		require.NoError(t, err)
		line.Raw = bytes.Clone(line.Raw)
		out = append(out, line)
	}
	return out
}

func TestReaderReadsWhatWriterWrote(t *testing.T) {
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
	lines := readLines(t, &file)
	require.Len(t, lines, 2)
	for i, line := range lines {
		require.NoError(t, line.Err)
		assert.Equal(t, rows[i], line.Row)
		assert.Equal(t, int64(i+1), line.Number)
		assert.Empty(t, line.NotStrings)
	}
}

func TestReaderTakesWhatPeoplesScriptsWrite(t *testing.T) {
	text := "\ufeff{\"A\":\"1\"}\r\n" + // byte order mark, CRLF
		"\n \t\r\n" + // blank lines
		" { \"A\" : \"2\" ,\t\"B\":\"x\" } \n" +
		"{\"B\":\"caf\\u00e9 \\ud83d\\ude00\\/\",\"\\u0041\":\"3\"}\n" +
		"{}\n" +
		"{\"A\":4.50,\"B\":true,\"C\":-1E+2,\"D\":\"s\",\"E\":false,\"F\":0,\"G\":2e5}" // no newline
	lines := readLines(t, iotest.OneByteReader(strings.NewReader(text)))
	require.Len(t, lines, 5)
	want := []map[string]string{
		{"A": "1"}, {"A": "2", "B": "x"}, {"A": "3", "B": "café 😀/"}, {},
		{"A": "4.50", "B": "true", "C": "-1E+2", "D": "s", "E": "false", "F": "0", "G": "2e5"},
	}
	numbers := []int64{1, 4, 5, 6, 7}
	for i, line := range lines {
		require.NoError(t, line.Err)
		assert.Equal(t, want[i], line.Row)
		assert.Equal(t, numbers[i], line.Number)
		assert.True(t, strings.HasPrefix(text[line.Offset:], string(line.Raw)), "offset %d is not where %q is", line.Offset, line.Raw)
		assert.NotContains(t, string(line.Raw), "\r")
	}
	assert.Equal(t, int64(3), lines[0].Offset, "the byte order mark is not part of the line")
	assert.Equal(t, []string{"A", "B", "C", "E", "F", "G"}, lines[4].NotStrings)
}

func TestReaderRefusesABadLineAndReadsOn(t *testing.T) {
	long := `{"A":"` + strings.Repeat("x", datafile.MaxLine) + `"}`
	cases := []struct {
		name   string
		line   string
		rule   datafile.Rule
		column int
		field  string
		says   string
	}{
		{"a list", `[{"A":"1"}]`, datafile.ErrNotObject, 1, "", "no brackets"},
		{"a string", `"A"`, datafile.ErrNotObject, 1, "", "FromCSV"},
		{"null alone", ` null`, datafile.ErrNotObject, 2, "", "object"},
		{"text", `ThingName,SerialNumber`, datafile.ErrSyntax, 1, "", `'T' where {`},
		{"pretty-printed", `{`, datafile.ErrSyntax, 2, "", "on one line"},
		{"two objects", `{"A":"1"}{"A":"2"}`, datafile.ErrSyntax, 10, "", "one object"},
		{"trailing comma", `{"A":"1",}`, datafile.ErrSyntax, 10, "", "a comma too many"},
		{"a comma missing", `{"A":"1" "B":"2"}`, datafile.ErrSyntax, 10, "", "a comma or }"},
		{"a colon missing", `{"A" "1"}`, datafile.ErrSyntax, 6, "", `a colon after the name "A"`},
		{"no quotes around the name", `{A:"1"}`, datafile.ErrSyntax, 2, "", "name in double quotes"},
		{"single quotes", `{'A':'1'}`, datafile.ErrSyntax, 2, "", "plain double quote"},
		{"a word processor's quotes", `{"CSR": “MIIB”}`, datafile.ErrSyntax, 9, "CSR", "plain double quote"},
		{"a value without quotes", `{"A":abc}`, datafile.ErrSyntax, 6, "A", "value in double quotes"},
		{"a number with a leading zero", `{"A":001}`, datafile.ErrSyntax, 6, "A", "begin with 0"},
		{"half a number", `{"A":1.}`, datafile.ErrSyntax, 8, "A", "not a number"},
		{"half an exponent", `{"A":1e+}`, datafile.ErrSyntax, 9, "A", "not a number"},
		{"a lone minus", `{"A":-}`, datafile.ErrSyntax, 7, "A", "not a number"},
		{"a raw tab in a value", "{\"A\":\"a\tb\"}", datafile.ErrSyntax, 8, "A", "control character '\\t'"},
		{"a string that does not end", `{"A":"-----BEGIN`, datafile.ErrSyntax, 6, "A", `written as \n`},
		{"a backslash at the end", `{"A":"x\`, datafile.ErrSyntax, 8, "A", "backslash"},
		{"an unknown escape", `{"A":"C:\dir"}`, datafile.ErrSyntax, 9, "A", `\d is not an escape`},
		{"a short \\u", `{"A":"\u12"}`, datafile.ErrSyntax, 7, "A", "four hexadecimal"},
		{"half a surrogate pair", `{"A":"\ud800x"}`, datafile.ErrInvalidUTF8, 7, "A", "surrogate"},
		{"half a pair and no escape", `{"A":"\ud800xude00"}`, datafile.ErrInvalidUTF8, 7, "A", "surrogate"},
		{"half a pair and a short \\u", `{"A":"\ud800\ude`, datafile.ErrInvalidUTF8, 7, "A", "surrogate"},
		{"two first halves", `{"A":"\ud800\ud800"}`, datafile.ErrInvalidUTF8, 7, "A", "surrogate"},
		{"invalid UTF-8 in a value", "{\"A\":\"abcdefgh\xff\"}", datafile.ErrInvalidUTF8, 15, "A", "not UTF-8"},
		{"invalid UTF-8 in a name", "{\"\xe9\":\"1\"}", datafile.ErrInvalidUTF8, 3, "", "not UTF-8"},
		{"invalid UTF-8 elsewhere", "{\"A\":\"1\"\xe9}", datafile.ErrInvalidUTF8, 9, "", "0xe9"},
		{"a repeated parameter", `{"A":"1","B":"2","\u0041":"3"}`, datafile.ErrRepeated, 18, "A", "twice"},
		{"a nested object", `{"A":{"B":"1"}}`, datafile.ErrNested, 6, "A", "strings"},
		{"a list as value", `{"A":["1"]}`, datafile.ErrNested, 6, "A", "strings"},
		{"null", `{"A":null}`, datafile.ErrNull, 6, "A", "leave the parameter out"},
		{"no value", `{"A":}`, datafile.ErrSyntax, 6, "A", "value"},
		{"nothing after the colon", `{"A":`, datafile.ErrSyntax, 6, "", "a value"},
		{"too long", long, datafile.ErrLineTooLong, 1, "", "262144"},
		{"far too long", strings.Repeat(long, 9), datafile.ErrLineTooLong, 1, "", "262144"},
	}
	for _, c := range cases {
		for _, ending := range []string{"\n", "\r\n"} {
			t.Run(fmt.Sprintf("%s %q", c.name, ending), func(t *testing.T) {
				text := `{"A":"first"}` + ending + ending + c.line + ending + `{"A":"last"}`
				lines := readLines(t, strings.NewReader(text))
				require.Len(t, lines, 3)
				assert.Equal(t, map[string]string{"A": "first"}, lines[0].Row)
				assert.Equal(t, map[string]string{"A": "last"}, lines[2].Row)
				assert.Equal(t, int64(4), lines[2].Number)
				assert.Equal(t, int64(len(text)-len(`{"A":"last"}`)), lines[2].Offset)

				bad := lines[1]
				assert.Nil(t, bad.Row)
				assert.Equal(t, c.line[:min(len(c.line), datafile.MaxLine)], string(bad.Raw))
				p := problemOf(t, bad.Err, c.rule)
				assert.Equal(t, int64(2), p.Row)
				assert.Equal(t, int64(3), p.Line)
				assert.Equal(t, c.column, p.Column)
				assert.Equal(t, bad.Offset+int64(c.column-1), p.Offset)
				assert.Equal(t, c.field, p.Name)
				assert.Contains(t, p.Error(), c.says)
				assert.Contains(t, p.Error(), fmt.Sprintf("row 2 (line 3, column %d): ", c.column))
				assert.Less(t, len(p.Error()), 300)
			})
		}
	}
}

func TestReaderTakesALineOfExactlyTheLimit(t *testing.T) {
	fits := `{"A":"` + strings.Repeat("x", datafile.MaxLine-len(`{"A":""}`)) + `"}`
	require.Len(t, fits, datafile.MaxLine)
	for _, begin := range []string{"", "\ufeff"} {
		for _, ending := range []string{"", "\n", "\r\n"} {
			lines := readLines(t, strings.NewReader(begin+fits+ending))
			require.Len(t, lines, 1)
			assert.NoError(t, lines[0].Err)
			lines = readLines(t, strings.NewReader(begin+fits+" "+ending))
			require.Len(t, lines, 1)
			problemOf(t, lines[0].Err, datafile.ErrLineTooLong)
		}
	}
}

func TestReaderRecognisesOtherEncodings(t *testing.T) {
	for name, text := range map[string]string{
		"UTF-16, little-endian": "\xff\xfe{\x00\"\x00A\x00\n\x00",
		"UTF-16, big-endian":    "\xfe\xff\x00{\x00\"",
		"without a byte order":  "{\x00\"\x00A\x00",
		"gzip":                  "\x1f\x8b\x08\x00",
		"ZIP":                   "PK\x03\x04xyz",
	} {
		line, err := datafile.NewReader(strings.NewReader(text)).Read()
		assert.Zero(t, line)
		assert.ErrorContains(t, problemOf(t, err, datafile.ErrEncoding), name)
	}
}

func TestReaderErrorOfTheInputIsTerminalAndLast(t *testing.T) {
	broken := errors.New("connection reset")
	in := io.MultiReader(strings.NewReader("{\"A\":\"1\"}\nnot json\n{\"A\":\"2\"}\n{\"A\":\"3"), iotest.ErrReader(broken))
	r := datafile.NewReader(in)
	var good, bad int
	var last error
	for line, err := range r.All() {
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
	_, err := r.Read()
	assert.Equal(t, last, err)
}

func TestReaderCanBeLeftAndGoesOn(t *testing.T) {
	r := datafile.NewReader(strings.NewReader("{\"A\":\"1\"}\n{\"A\":\"2\"}\n"))
	for line, err := range r.All() {
		require.NoError(t, err)
		assert.Equal(t, "1", line.Row["A"])
		break
	}
	line, err := r.Read()
	require.NoError(t, err)
	assert.Equal(t, "2", line.Row["A"])
	for range 2 {
		_, err = r.Read()
		assert.Equal(t, io.EOF, err)
	}
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
				for _, err := range datafile.NewReader(&repeat{text: text, left: size}).All() {
					require.NoError(t, err)
					if n++; n == 1 || n%50_000 == 0 {
						look()
					}
				}
				look()
			}), int64(2<<20))
			assert.Less(t, heapGrowth(func(look func()) {
				n := 0
				for _, err := range datafile.FromCSV(io.MultiReader(strings.NewReader("h1,h2\n"), &repeat{text: text, left: size}), nil) {
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
