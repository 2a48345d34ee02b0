package datafile_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"iter"
	"maps"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/template"
)

func newChecker(t *testing.T, opts *datafile.CheckerOptions) *datafile.Checker {
	t.Helper()
	c, err := datafile.NewChecker(template.Walkthrough(), opts)
	require.NoError(t, err)
	return c
}

func TestCheckerFindsWhatAWSWouldRefuse(t *testing.T) {
	good := map[string]string{"ThingName": "device-one", "SerialNumber": "001", "CSR": csrText}
	assert.Empty(t, newChecker(t, nil).Check(good))
	cases := []struct {
		name  string
		row   map[string]string // laid over the good one; "-" takes away
		rule  datafile.Rule
		field string
		says  string
	}{
		{"missing", map[string]string{"SerialNumber": "-"}, datafile.ErrMissing, "SerialNumber", ""},
		{"misspelt", map[string]string{"SerialNumber": "-", "serial_number": "1"}, datafile.ErrMissing, "SerialNumber", `did you mean "serial_number"?`},
		{"unknown", map[string]string{"Serialnumber": "1"}, datafile.ErrUnknown, "Serialnumber", `did you mean "SerialNumber"?`},
		{"a space in the name", map[string]string{"ThingName": "device one"}, "thing-name", "ThingName", "' '"},
		{"no name", map[string]string{"ThingName": ""}, "thing-name", "ThingName", "0 characters"},
		{"a long name", map[string]string{"ThingName": strings.Repeat("x", 129)}, "thing-name", "ThingName", "128"},
		{"an attribute AWS does not take", map[string]string{"SerialNumber": "№ 1"}, "attribute-value", "SerialNumber", ""},
		{"no CSR", map[string]string{"CSR": "MIIB"}, "csr", "CSR", ""},
		{"invalid UTF-8", map[string]string{"CSR": csrText + "\xff"}, datafile.ErrInvalidUTF8, "CSR", "byte 76"},
		{"too long", map[string]string{"CSR": csrText + strings.Repeat("\n", datafile.MaxLine/2)}, datafile.ErrLineTooLong, "CSR", "262144"},
		{"a private key", map[string]string{"CSR": "-----BEGIN PRIVATE KEY-----\nSECRET\n"}, datafile.ErrPrivateKey, "CSR", ""},
		{"a private key in the wrong column", map[string]string{"ThingName": "-----BEGIN PRIVATE KEY-----\nSECRET\n"}, datafile.ErrPrivateKey, "ThingName", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			row := map[string]string{}
			for _, m := range []map[string]string{good, c.row} {
				maps.Copy(row, m)
			}
			for k, v := range row {
				if v == "-" {
					delete(row, k)
				}
			}
			problems := newChecker(t, nil).Check(row)
			require.Error(t, problems.Err())
			var found bool
			for _, p := range problems {
				assert.NotContains(t, p.Error(), "SECRET")
				assert.False(t, p.Warning)
				if p.Rule == c.rule {
					found = true
					assert.Equal(t, c.field, p.Name)
					assert.Contains(t, p.Error(), c.says)
					assert.ErrorIs(t, problems.Err(), c.rule)
				}
			}
			assert.True(t, found, "%v", problems.Err())
			// What the Checker lets through by length and encoding, the Writer does too.
			w := datafile.NewWriter(io.Discard, "ThingName", "SerialNumber", "CSR")
			if errors.Is(problems.Err(), datafile.ErrLineTooLong) {
				assert.ErrorIs(t, w.WriteRow(row), datafile.ErrLineTooLong)
			}
		})
	}
}

func TestCheckerAgreesWithWriterOnTheLengthOfALine(t *testing.T) {
	c := newChecker(t, nil)
	row := map[string]string{"ThingName": "a\"\x01", "SerialNumber": "é\n\u2028", "CSR": csrText + "\x1f\\"}
	var out bytes.Buffer
	w := datafile.NewWriter(&out, "ThingName", "SerialNumber", "CSR")
	require.NoError(t, w.WriteRow(row))
	room := datafile.MaxLine - int(w.Bytes()-1)
	for add, tooLong := range map[int]bool{room: false, room + 1: true} {
		row["CSR"] = csrText + "\x1f\\" + strings.Repeat("x", add)
		assert.Equal(t, tooLong, errors.Is(c.Check(row).Err(), datafile.ErrLineTooLong))
		assert.Equal(t, tooLong, errors.Is(w.WriteRow(row), datafile.ErrLineTooLong))
	}
}

func TestCheckerReportsEveryProblemOfARow(t *testing.T) {
	row := map[string]string{"ThingName": "a b", "Serial": "1", "CSR": "x\xffy"}
	err := newChecker(t, nil).Check(row).Err()
	for _, rule := range []datafile.Rule{"thing-name", datafile.ErrMissing, datafile.ErrUnknown, "csr", datafile.ErrInvalidUTF8} {
		assert.ErrorIs(t, err, rule)
	}
	p, ok := errors.AsType[*datafile.Problem](err)
	assert.True(t, ok)
	assert.NotNil(t, p)
	assert.Equal(t, err.Error(), newChecker(t, nil).Check(row).Err().Error(), "the order is always the same")
}

func TestCheckerCanLetUnknownColumnsPass(t *testing.T) {
	row := map[string]string{"ThingName": "a", "SerialNumber": "1", "CSR": csrText, "Box": "7"}
	problems := newChecker(t, &datafile.CheckerOptions{AllowUnknown: true}).Check(row)
	require.NoError(t, problems.Err())
	require.Len(t, problems.Warnings(), 1)
	assert.Equal(t, "Box", problems.Warnings()[0].Name)
	problems = newChecker(t, nil).Check(row)
	assert.ErrorIs(t, problems.Err(), datafile.ErrUnknown)
	assert.Empty(t, problems.Warnings())
}

func TestCheckerNeedsATemplateThatCanWork(t *testing.T) {
	_, err := datafile.NewChecker(nil, nil)
	assert.ErrorContains(t, err, "template")
	_, err = datafile.NewChecker(&template.Template{}, nil)
	require.Error(t, err)
	_, ok := errors.AsType[*template.CompileError](err)
	assert.True(t, ok)
}

func TestCheckerTellsWhereInTheDataFileAProblemIs(t *testing.T) {
	text := `{"ThingName":"one","SerialNumber":1,"CSR":"` + strings.ReplaceAll(csrText, "\n", `\n`) + "\"}\n" +
		"\n" +
		"not json\n" +
		`{"ThingName":"one","SerialNumber":"a b","CSR":"` + strings.ReplaceAll(csrText, "\n", `\n`) + "\"}\n"
	var lines []datafile.Line
	for line, err := range newChecker(t, nil).Lines(datafile.NewReader(strings.NewReader(text)).All()) {
		require.NoError(t, err)
		lines = append(lines, line)
	}
	require.Len(t, lines, 3)

	require.NoError(t, lines[0].Err)
	require.Len(t, lines[0].Problems, 1)
	assert.Equal(t, datafile.ErrNotString, lines[0].Problems[0].Rule)
	assert.True(t, lines[0].Problems[0].Warning)

	assert.Equal(t, datafile.Problems{lines[1].Err.(*datafile.Problem)}, lines[1].Problems)

	require.Len(t, lines[2].Problems, 2)
	assert.NotNil(t, lines[2].Row, "the row stays, for a better message or a repair")
	p := lines[2].Problems[0]
	assert.Equal(t, datafile.Rule("attribute-value"), p.Rule)
	assert.Equal(t, []int64{3, 4, int64(strings.LastIndex(text, `{"ThingName"`))}, []int64{p.Row, p.Line, p.Offset})
	p = lines[2].Problems[1]
	assert.Equal(t, datafile.ErrDuplicateThing, p.Rule)
	assert.Equal(t, "ThingName", p.Name)
	assert.Contains(t, p.Detail, `line 1 has the same thing name, "one"`)
}

func TestCheckerTellsWhereInTheCSVAProblemIs(t *testing.T) {
	text := "SerialNumber,CSR,ThingName\n" +
		"1,\"" + csrText + "\",one\n" +
		"2\n" +
		"3,\"" + csrText + "\",one\n" +
		"4,\"" + csrText + "\",t w o\n"
	var recs []datafile.Record
	for rec, err := range newChecker(t, nil).Records(datafile.FromCSV(strings.NewReader(text), nil)) {
		require.NoError(t, err)
		recs = append(recs, rec)
	}
	require.Len(t, recs, 4)
	assert.Empty(t, recs[0].Problems)
	assert.NoError(t, recs[0].Err)
	problemOf(t, recs[1].Err, datafile.ErrValueCount)
	assert.Len(t, recs[1].Problems, 1)

	p := problemOf(t, recs[2].Err, datafile.ErrDuplicateThing)
	assert.Contains(t, p.Detail, "row 1 ")
	assert.Equal(t, []int64{3, 10, 3}, []int64{p.Row, p.Line, int64(p.Column)})
	assert.True(t, strings.HasPrefix(text[p.Offset:], "one\n4,"))

	p = problemOf(t, recs[3].Err, "thing-name")
	assert.True(t, strings.HasPrefix(text[p.Offset:], "t w o"))
	assert.Equal(t, `row 4 (line 14, column 3): parameter "ThingName": `, p.Error()[:len(`row 4 (line 14, column 3): parameter "ThingName": `)])
}

// rows makes records without a text behind them.
func rows(rows ...map[string]string) iter.Seq2[datafile.Record, error] {
	return func(yield func(datafile.Record, error) bool) {
		for i, row := range rows {
			if !yield(datafile.Record{Row: int64(i + 1), Values: row}, nil) {
				return
			}
		}
	}
}

func TestCheckerNamesTheParameterThatMadeADuplicateName(t *testing.T) {
	tmpl, err := template.Parse([]byte(`{
		"Parameters": {"A": {"Type": "String"}, "Serial": {"Type": "String"}, "Group": {"Type": "String", "Default": "g"}},
		"Resources": {"t": {"Type": "AWS::IoT::Thing", "Properties": {
			"ThingName": {"Fn::Join": ["-", ["dev", {"Ref": "Serial"}]]}, "AttributePayload": {"a": {"Ref": "A"}}}}}}`))
	require.NoError(t, err)
	c, err := datafile.NewChecker(tmpl, &datafile.CheckerOptions{Compile: template.CompileOptions{AllowFunctions: true}})
	require.NoError(t, err)
	var got []error
	for rec, err := range c.Records(rows(
		map[string]string{"A": "1", "Serial": "1"}, map[string]string{"A": "1", "Serial": "1"}, map[string]string{"A": "1", "Serial": "2"},
	)) {
		require.NoError(t, err)
		got = append(got, rec.Err)
	}
	p := problemOf(t, got[1], datafile.ErrDuplicateThing)
	assert.Equal(t, "Serial", p.Name)
	assert.Contains(t, p.Detail, `"dev-1"`)
	assert.NoError(t, got[2])
}

func TestCheckerFindsAKeyThatTwoDevicesShare(t *testing.T) {
	row := func(name, key string) map[string]string {
		return map[string]string{"ThingName": name, "SerialNumber": "1", "CSR": csrText + key}
	}
	list := []map[string]string{row("a", "k1"), row("b", "k2"), row("c", "k1"), row("d", "broken"), row("a", "k3")}
	opts := &datafile.CheckerOptions{PublicKey: func(row map[string]string) ([32]byte, error) {
		if strings.HasSuffix(row["CSR"], "broken") {
			return [32]byte{}, io.ErrUnexpectedEOF
		}
		return sha256.Sum256([]byte(row["CSR"])), nil
	}}
	var got []error
	for rec, err := range newChecker(t, opts).Records(rows(list...)) {
		require.NoError(t, err)
		got = append(got, rec.Err)
	}
	require.Len(t, got, 5)
	assert.NoError(t, got[0])
	assert.NoError(t, got[1])
	assert.Contains(t, problemOf(t, got[2], datafile.ErrDuplicateKey).Detail, "row 1 ")
	problemOf(t, got[3], datafile.ErrKey)
	assert.ErrorIs(t, got[3], io.ErrUnexpectedEOF)
	problemOf(t, got[4], datafile.ErrDuplicateThing)

	opts.AllowDuplicates = true
	for rec, err := range newChecker(t, opts).Records(rows(list...)) {
		require.NoError(t, err)
		assert.NoError(t, rec.Err)
	}
}

func TestCheckerPassesTheEndOfTheInputOnAndCanBeLeft(t *testing.T) {
	broken := errors.New("connection reset")
	c := newChecker(t, nil)
	in := func() io.Reader { return io.MultiReader(strings.NewReader("A\n1\n"), iotest.ErrReader(broken)) }
	var last error
	for _, err := range c.Records(datafile.FromCSV(in(), nil)) {
		last = err
	}
	assert.ErrorIs(t, last, broken)
	for _, err := range c.Lines(datafile.NewReader(in()).All()) {
		last = err
	}
	assert.ErrorIs(t, last, broken)
	for range c.Records(datafile.FromCSV(in(), nil)) {
		break
	}
	for range c.Lines(datafile.NewReader(in()).All()) {
		break
	}
}

func TestProblemSaysWhereAndWhatAndMatchesItsRule(t *testing.T) {
	cause := io.ErrUnexpectedEOF
	cases := map[string]*datafile.Problem{
		`row 3 (line 7, column 2): parameter "A": broken [json-syntax]`: {Row: 3, Line: 7, Column: 2, Name: "A", Detail: "broken", Rule: datafile.ErrSyntax},
		`row 3 (line 7): broken [json-syntax]`:                          {Row: 3, Line: 7, Detail: "broken", Rule: datafile.ErrSyntax},
		`line 7, column 2: broken [json-syntax]`:                        {Row: 7, Line: 7, Column: 2, Detail: "broken", Rule: datafile.ErrSyntax},
		`line 7: broken [json-syntax]`:                                  {Line: 7, Detail: "broken", Rule: datafile.ErrSyntax},
		`row 7: broken [json-syntax]`:                                   {Row: 7, Detail: "broken", Rule: datafile.ErrSyntax, Err: cause},
		`broken [json-syntax]`:                                          {Detail: "broken", Rule: datafile.ErrSyntax},
	}
	for text, p := range cases {
		assert.EqualError(t, p, text)
		assert.ErrorIs(t, p, datafile.ErrSyntax)
		assert.NotErrorIs(t, p, datafile.ErrQuote)
		assert.Equal(t, p.Err != nil, errors.Is(p, cause))
	}
}

func TestCheckerQuotesNothingOfAPrivateKeyInAStream(t *testing.T) {
	row := map[string]string{"ThingName": "-----BEGIN PRIVATE KEY-----\nSECRET\n", "SerialNumber": "1", "CSR": csrText}
	opts := &datafile.CheckerOptions{PublicKey: func(row map[string]string) ([32]byte, error) {
		return [32]byte{}, errors.New("not a key: " + row["ThingName"])
	}}
	n := 0
	for rec, err := range newChecker(t, opts).Records(rows(row, row)) {
		n++
		require.NoError(t, err)
		assert.ErrorIs(t, rec.Err, datafile.ErrPrivateKey)
		assert.NotContains(t, rec.Err.Error(), "SECRET")
	}
	assert.Equal(t, 2, n)
}
