package datafile_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/finding"
)

func readCSV(t *testing.T, text string, opts *datafile.CSVOptions) []datafile.Row {
	t.Helper()
	var out []datafile.Row
	for row, err := range datafile.ReadCSV(strings.NewReader(text), opts) {
		require.NoError(t, err)
		out = append(out, row)
	}
	return out
}

func TestReadCSVKnowsWhereEveryRowBegins(t *testing.T) {
	text := "\ufeffThingName, SerialNumber ,CSR\r\n" +
		"\r\n" +
		"device-one,001,\"-----BEGIN\r\nMIIB, \"\"x\"\"\r\n-----END\r\n\"\r\n" +
		",,\r\n" +
		" device-two , 002,"
	recs := readCSV(t, text, nil)
	require.Len(t, recs, 2)
	one, two := recs[0], recs[1]
	require.NoError(t, one.Err)
	require.NoError(t, two.Err)
	assert.Equal(t, map[string]string{"ThingName": "device-one", "SerialNumber": "001", "CSR": "-----BEGIN\nMIIB, \"x\"\n-----END\n"}, one.Values)
	assert.Equal(t, map[string]string{"ThingName": " device-two ", "SerialNumber": " 002"}, two.Values, "values are kept byte by byte")
	assert.Equal(t, []string{"ThingName", "SerialNumber", "CSR"}, one.Columns())

	assert.Equal(t, []int64{1, 3, int64(strings.Index(text, "device-one"))}, []int64{one.Number, one.Line, one.Offset})
	assert.Equal(t, []int64{2, 8, int64(strings.Index(text, " device-two"))}, []int64{two.Number, two.Line, two.Offset})

	// A row keeps its values when the next is read.
	one.Values["ThingName"] = "changed"
	assert.Equal(t, " device-two ", two.Values["ThingName"])
	assert.Equal(t, "001", one.Values["SerialNumber"])
}

func TestReadCSVTellsABadRowAndKeepsTheGoodOnes(t *testing.T) {
	cases := []struct {
		name   string
		bad    string // rows between first and last
		rules  []finding.Rule
		line   int64 // of the first problem
		column int
		field  string
		says   string
	}{
		{"too few values", "x\n", []finding.Rule{datafile.ErrValueCount}, 3, 1, "", "1 values for 2 columns"},
		{"too many values", "x,y,z\n", []finding.Rule{datafile.ErrValueCount}, 3, 1, "", "must be in quotes"},
		{"too few values over lines", "\"x\ny\"\n", []finding.Rule{datafile.ErrValueCount}, 3, 1, "", "on to line 4"},
		{"two stray quotes", "x,\"y\nin between,1\nz\",3\n", []finding.Rule{datafile.ErrValueCount}, 3, 1, "", "on to line 5, so if a quote is there by mistake"},
		{"a quote within a value", "x,5\" pipe\n", []finding.Rule{datafile.ErrQuote}, 3, 4, "B", "double those inside"},
		{"a space before the quote", "x, \"y\"\n", []finding.Rule{datafile.ErrQuote}, 3, 4, "B", ""},
		{"text after the closing quote", "\"x\"y,z\n", []finding.Rule{datafile.ErrQuote}, 3, 3, "A", "more text follows"},
		{"a quote that closes late", "x,\"y\ngood,1\nz\",\"u\"v\n", []finding.Rule{datafile.ErrQuote, "", datafile.ErrQuote}, 5, 6, "", "more text follows"},
		{"a quote that swallows a quoted row", "x,\"y\ngood,\"1\"\n", []finding.Rule{datafile.ErrQuote, ""}, 4, 6, "B", "begins on line 3, column 3"},
		{"a quote that never closes", "x,\"y\n", []finding.Rule{datafile.ErrQuote}, 3, 3, "B", "not closed before the input ends"},
		{"a NUL byte", "x,y\x00z\n", []finding.Rule{datafile.ErrNUL}, 3, 4, "B", "NUL"},
		{"Latin-1", "x,ger\xe4t\n", []finding.Rule{datafile.ErrInvalidUTF8}, 3, 6, "B", "UTF-8"},
		{"Latin-1 in a later line", "x,\"a\nb\xe4\"\n", []finding.Rule{datafile.ErrInvalidUTF8}, 4, 2, "B", "UTF-8"},
		{"too long a line", "x," + strings.Repeat("y", datafile.MaxLine) + "\n", []finding.Rule{datafile.ErrLineTooLong}, 3, 1, "B", "262144"},
		{"too long a line by two values", strings.Repeat("x", datafile.MaxLine/2) + "," + strings.Repeat("y", datafile.MaxLine/2) + "\n", []finding.Rule{datafile.ErrLineTooLong}, 3, 1, "A", "262144"},
		{"too long a row", "x,\"" + strings.Repeat(strings.Repeat("y", 99_999)+"\n", 3) + "\"\n",
			[]finding.Rule{datafile.ErrQuote, datafile.ErrValueCount, datafile.ErrValueCount, datafile.ErrQuote}, 3, 3, "B", "not closed within"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			text := "A,B\nfirst,1\n" + c.bad + "last,2\n"
			recs := readCSV(t, text, nil)
			require.Len(t, recs, len(c.rules)+2)
			assert.Equal(t, map[string]string{"A": "first", "B": "1"}, recs[0].Values)
			assert.Equal(t, map[string]string{"A": "last", "B": "2"}, recs[len(recs)-1].Values)
			assert.Equal(t, int64(len(text)-len("last,2\n")), recs[len(recs)-1].Offset)
			for i, rule := range c.rules {
				rec := recs[i+1]
				assert.Equal(t, int64(i+2), rec.Number)
				if rule == "" {
					require.NoError(t, rec.Err)
					assert.Equal(t, "good", rec.Values["A"])
					continue
				}
				assert.Nil(t, rec.Values)
				problemOf(t, rec.Err, rule)
			}
			p := problemOf(t, recs[1].Err, c.rules[0])
			assert.Equal(t, int64(2), p.Row)
			assert.Equal(t, c.line, p.Line)
			assert.Equal(t, c.column, p.Column)
			if c.field != "" {
				assert.Equal(t, c.field, p.Parameter)
			}
			lines := strings.SplitAfter(text, "\n")
			assert.Equal(t, int64(len(strings.Join(lines[:c.line-1], ""))+c.column-1), p.Offset)
			assert.Contains(t, p.Error(), c.says)
			assert.Contains(t, p.Error(), fmt.Sprintf("row 2 (line %d, column %d)", c.line, c.column))
			assert.Less(t, len(p.Error()), 300)
		})
	}
}

func TestReadCSVDoesNotTakeAPieceOfABrokenValueForADevice(t *testing.T) {
	recs := readCSV(t, "CSR\ngood-1\n\"-----BEGIN\nMIIB\n-----END\"oops\ngood-2\n", nil)
	var values []string
	for _, rec := range recs {
		if rec.Err == nil {
			values = append(values, rec.Values["CSR"])
		} else {
			problemOf(t, rec.Err, datafile.ErrQuote)
		}
	}
	assert.Equal(t, []string{"good-1", "good-2"}, values)
	assert.Len(t, recs, 5)
}

func TestReadCSVRefusesAHeaderWithoutAMeaning(t *testing.T) {
	cases := []struct {
		name, text string
		opts       *datafile.CSVOptions
		rule       finding.Rule
		line       int64
		column     int
		says       string
	}{
		{"a name twice", "A,B,A\n", nil, datafile.ErrHeader, 1, 5, "columns 1 and 3"},
		{"a name twice but for spaces", "A,\"A \"\n", nil, datafile.ErrHeader, 1, 3, "columns 1 and 2"},
		{"no name", "\nA,,B\n", nil, datafile.ErrHeader, 2, 3, "column 2 has no name"},
		{"a name of spaces", "A,  \n", nil, datafile.ErrHeader, 1, 3, "column 2 has no name"},
		{"another separator", "A;B\n1;2\n", nil, datafile.ErrSeparator, 1, 1, "set CSVOptions.Comma"},
		{"bad quotes", "A,B\"\n", nil, datafile.ErrQuote, 1, 4, "quote"},
		{"not UTF-8", "A,B\xff\n", nil, datafile.ErrInvalidUTF8, 1, 4, ""},
		{"a NUL byte", "Ab,\x00\n", nil, datafile.ErrNUL, 1, 4, ""},
		{"lines that end in carriage returns alone", "A,B\r1,2\r3,4\r", nil, datafile.ErrHeader, 1, 4, "tr '\\r' '\\n'"},
		{"the same in quotes", "\"A\",\"B\"\r\"1\",\"2\"\r", nil, datafile.ErrHeader, 1, 8, "carriage return"},
		{"the same, behind a name of two lines", "\"A\nB\",C\r1,2\r", nil, datafile.ErrHeader, 2, 5, "carriage return"},
		{"the same, and long", "A\r" + strings.Repeat("1\r", datafile.MaxLine), nil, datafile.ErrHeader, 1, 2, "carriage return"},
		{"too long", strings.Repeat("A", datafile.MaxLine+1), nil, datafile.ErrLineTooLong, 1, 1, ""},
		{"UTF-16", "\xff\xfeA\x00,\x00B\x00\n\x00", nil, datafile.ErrEncoding, 1, 1, "iconv"},
		{"renamed to the same", "A,B\n", &datafile.CSVOptions{Rename: map[string]string{"A": "B"}}, datafile.ErrHeader, 1, 3, "same name"},
		{"renamed to nothing", "A,B\n", &datafile.CSVOptions{Rename: map[string]string{"A": ""}}, datafile.ErrColumns, 0, 0, "empty name"},
		{"renamed from nowhere", "Serial,B\n", &datafile.CSVOptions{Rename: map[string]string{"serial": "S"}}, datafile.ErrHeader, 1, 0, `did you mean "Serial"?`},
		{"column missing", "ThingName,B\n", &datafile.CSVOptions{Columns: []string{"thingname"}}, datafile.ErrHeader, 1, 0, `did you mean "ThingName"?`},
		{"column asked for twice", "A,B\n", &datafile.CSVOptions{Columns: []string{"A", "A"}}, datafile.ErrColumns, 0, 0, "twice"},
		{"comma is a quote", "A\n", &datafile.CSVOptions{Comma: '"'}, datafile.ErrColumns, 0, 0, "semicolon"},
		{"comma just beyond ASCII", "A\n", &datafile.CSVOptions{Comma: 0x80}, datafile.ErrColumns, 0, 0, "semicolon"},
		{"comma is no ASCII", "A\n", &datafile.CSVOptions{Comma: '→'}, datafile.ErrColumns, 0, 0, "semicolon"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			for rec, err := range datafile.ReadCSV(strings.NewReader(c.text), c.opts) {
				calls++
				assert.Zero(t, rec)
				p := problemOf(t, err, c.rule)
				assert.Equal(t, []int64{c.line, int64(c.column)}, []int64{p.Line, int64(p.Column)}, p.Error())
				assert.Contains(t, p.Error(), c.says)
			}
			assert.Equal(t, 1, calls, "the error comes once, and nothing after it")
		})
	}
	for _, empty := range []string{"", "\n", "\ufeff", "\r\n\r\n"} {
		assert.Empty(t, readCSV(t, empty, nil))
	}
}

func TestReadCSVOptionsShapeTheRow(t *testing.T) {
	cases := []struct {
		name, text string
		opts       datafile.CSVOptions
		want       map[string]string
	}{
		{"semicolons", "A;B\n1;2,5\n", datafile.CSVOptions{Comma: ';'}, map[string]string{"A": "1", "B": "2,5"}},
		{"a byte order mark twice", "\ufeff\ufeffA,B\n1,2\n", datafile.CSVOptions{}, map[string]string{"A": "1", "B": "2"}},
		{"tabs", "A\tB\n1\t2 \n", datafile.CSVOptions{Comma: '\t'}, map[string]string{"A": "1", "B": "2 "}},
		{"a comma on purpose", "A;B\n1;2\n", datafile.CSVOptions{Comma: ','}, map[string]string{"A;B": "1;2"}},
		{"rename", "Serial No.,Name\n1,2\n", datafile.CSVOptions{Rename: map[string]string{"Serial No.": "SerialNumber"}},
			map[string]string{"SerialNumber": "1", "Name": "2"}},
		{"swap", "A,B\n1,2\n", datafile.CSVOptions{Rename: map[string]string{"A": "B", "B": "A"}}, map[string]string{"B": "1", "A": "2"}},
		{"select", "A,B,C\n1,2,3\n", datafile.CSVOptions{Columns: []string{"C", "A"}}, map[string]string{"A": "1", "C": "3"}},
		{"trim", "A,B\n\" 1\u00a0\",\t2\n", datafile.CSVOptions{TrimSpace: true}, map[string]string{"A": "1", "B": "2"}},
		{"trim rows of spaces", "A,B\n \n , \n1,2\n\t,\u00a0\n", datafile.CSVOptions{TrimSpace: true}, map[string]string{"A": "1", "B": "2"}},
		{"empty values", "A,B,C\n,2,\" \"\n", datafile.CSVOptions{}, map[string]string{"B": "2", "C": " "}},
		{"empty values once trimmed", "A,B,C\n,2,\" \"\n", datafile.CSVOptions{TrimSpace: true}, map[string]string{"B": "2"}},
		{"keep empty", "A,B,C\n,2,\" \"\n", datafile.CSVOptions{KeepEmpty: true, TrimSpace: true}, map[string]string{"A": "", "B": "2", "C": ""}},
		{"a line that names the separator", "sep=;\r\nA;B\r\n1;2,5\r\n", datafile.CSVOptions{}, map[string]string{"A": "1", "B": "2,5"}},
		{"the same behind a mark, with a tab", "\ufeffSEP=\t\nA\tB\n1\t2\n", datafile.CSVOptions{}, map[string]string{"A": "1", "B": "2"}},
		{"the same as a spreadsheet saves it", "\"sep=,\"\nA,B\n1,2\n", datafile.CSVOptions{}, map[string]string{"A": "1", "B": "2"}},
		{"the same against the option", "sep=,\nA;B\n1;2\n", datafile.CSVOptions{Comma: ';'}, map[string]string{"A": "1", "B": "2"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := fmt.Sprint(c.opts)
			recs := readCSV(t, c.text, &c.opts)
			require.Len(t, recs, 1)
			require.NoError(t, recs[0].Err)
			assert.Equal(t, c.want, recs[0].Values)
			assert.Equal(t, before, fmt.Sprint(c.opts))
			columns := recs[0].Columns()
			for name := range maps.Keys(c.want) {
				assert.Contains(t, columns, name)
			}
		})
	}
}

func TestReadCSVErrorOfTheInputIsTerminalAndLast(t *testing.T) {
	broken := errors.New("connection reset")
	for _, tail := range []string{"c", "\"c\nd", ""} {
		in := io.MultiReader(strings.NewReader("A\na\nb\n"+tail), iotest.ErrReader(broken))
		var values []string
		var last error
		for rec, err := range datafile.ReadCSV(in, nil) {
			require.NoError(t, last, "the error must come last")
			if last = err; err == nil {
				require.NoError(t, rec.Err)
				values = append(values, rec.Values["A"])
			}
		}
		assert.ErrorIs(t, last, broken)
		assert.Equal(t, []string{"a", "b"}, values, "what broke off is no row")
	}
}

func TestReadCSVCanBeLeft(t *testing.T) {
	in := strings.NewReader("A\n" + strings.Repeat("x\n", 1_000_000))
	for _, err := range datafile.ReadCSV(in, nil) {
		require.NoError(t, err)
		break
	}
	assert.Greater(t, in.Len(), 1_500_000, "the rest is not read")
}

func TestReadCSVLosesNothingBehindSeveralBrokenQuotes(t *testing.T) {
	var text strings.Builder
	text.WriteString("A,B\n")
	want := map[string]string{}
	good, bad := 0, 0
	for i := range 9000 { // three times what a row may hold
		name, filler := fmt.Sprintf("device-%d", i), strings.Repeat("x", 70+i%20)
		switch {
		case i%2300 == 7:
			fmt.Fprintf(&text, "%s,\"%s\n", name, filler)
			bad++
			continue
		case i%500 == 0 && i > 7500:
			filler += "\n" + filler
			fmt.Fprintf(&text, "%s,\"%s\"\r\n", name, filler)
		default:
			fmt.Fprintf(&text, "%s,%s\n", name, filler)
		}
		want[name] = filler
	}
	for _, rec := range readCSV(t, text.String(), nil) {
		if rec.Err != nil {
			bad--
			continue
		}
		good++
		require.Equal(t, want[rec.Values["A"]], rec.Values["B"])
		require.True(t, strings.HasPrefix(text.String()[rec.Offset:], rec.Values["A"]+","))
	}
	assert.Equal(t, len(want), good)
	assert.Zero(t, bad)
}
