package jsonline_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
)

// decode reads the next value as encoding/json does with UseNumber.
func decode(r *jsonline.Reader) any {
	switch r.Peek() {
	case jsonline.Object:
		out := map[string]any{}
		r.Open()
		for name, ok := r.Member(); ok; name, ok = r.Member() {
			out[r.Text(name)] = decode(r)
		}
		return out
	case jsonline.Array:
		out := []any{}
		r.Open()
		for r.Element() {
			out = append(out, decode(r))
		}
		return out
	}
	switch v := r.Value(); v.Kind {
	case jsonline.String:
		return r.Text(v)
	case jsonline.Number:
		return json.Number(r.Raw(v))
	case jsonline.True, jsonline.False:
		return v.Kind == jsonline.True
	}
	return nil
}

// FuzzReader checks that a Reader accepts what encoding/json accepts, with the same values, whether a text is read
// value by value or as one, that the place of an error lies in the text, and that a string can be written and read.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		`{"a":"b","a":[1,-0.5e+3,true,false,null,{}],"":""}`, ` [ ] `, `"\ud83d\ude00\ud83d\u00e9\/\b\f\n\r\t\"\\"`, "\"\xff\xc3\"", "\"1234567\x85\"",
		`{"a":1,}`, `[1 2]`, `[01]`, `[1.]`, `{"a" 1}`, `{a:1}`, `[tru]`, `truex`, `"abcdefgh`, "\"abcdefgh\n\"", `"\x"`, `"\u12g4"`, `"\`, `{} {}`, `[`, `[,]`, ``, "[\x00]", `-`, `nullnull`,
		" \t{ \"a\" : [ 1 , { } ,\r\n[ ] ] , \"b\"\t: \"c\" } ", `"\u`, `"\u00`, `["\`, `"\u00e`,
		strings.Repeat("[", 200) + strings.Repeat("]", 200),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		valid := json.Valid(text)
		if valid {
			require.NoError(t, d.Decode(&want))
		}
		whole := jsonline.NewReader(text, 10_000)
		v := whole.Value()
		whole.Close()
		require.Equal(t, valid, whole.Err() == nil, "%q: %v", text, whole.Err())
		parts := jsonline.NewReader(text, 10_000)
		got := decode(&parts)
		parts.Close()
		require.Equal(t, whole.Err(), parts.Err())
		if e := whole.Err(); e != nil {
			require.LessOrEqual(t, e.Offset, len(text))
			require.Equal(t, e.Offset == len(text), e.AtEnd)
			require.NotEmpty(t, e.Message)
			require.Zero(t, parts.Value())
			return
		}
		require.Equal(t, want, got)
		require.Equal(t, string(bytes.Trim(text, " \t\r\n")), string(text[v.Start:v.End]))
		if s, ok := got.(string); ok {
			quoted, invalid := jsonline.AppendString(nil, s)
			require.Equal(t, -1, invalid)
			var again string
			require.NoError(t, json.Unmarshal(quoted, &again))
			require.Equal(t, s, again)
		}
	})
}

func TestAnErrorNamesThePlaceAndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		text    string
		at      int
		fault   jsonline.Fault
		message string
		hint    string
	}{
		{`{"a": }`, 6, jsonline.WantValue, "found '}' where a value should be", ""},
		{`{"a":`, 5, jsonline.WantValue, "the text ends where a value should be", ""},
		{`{"a":abc}`, 5, jsonline.WantValue, "found 'a'", "double quotes around text"},
		{`[truest]`, 1, jsonline.WantValue, "found 't'", "double quotes around text"},
		{`[None]`, 1, jsonline.WantValue, "found 'N'", "true, false and null"},
		{`[+1]`, 1, jsonline.WantValue, "found '+'", "no such number"},
		{"[\u00a01]", 1, jsonline.WantValue, `found '\u00a0'`, "kind of space"},
		{"\ufeff[]", 0, jsonline.WantValue, `found '\ufeff'`, "byte order mark"},
		{`[“x”]`, 1, jsonline.WantValue, "found '“'", "typographic"},
		{`{a:1}`, 1, jsonline.WantName, "found 'a' where a member's name should be", "double quotes around names"},
		{`{'a':1}`, 1, jsonline.WantName, `found '\''`, "double quotes"},
		{`{// x`, 1, jsonline.WantName, `found '/'`, "no comments"},
		{`{"a" 1}`, 5, jsonline.WantColon, `found '1' where the colon after "a" should be`, ""},
		{`{"a":1;`, 6, jsonline.WantCommaOrBrace, "found ';' where a comma or } should be", ""},
		{`[1`, 2, jsonline.WantCommaOrBracket, "the text ends where a comma or ] should be", ""},
		{`{"a":1 "b":2}`, 6, jsonline.MissingComma, `a comma is missing before '"'`, "add a comma"},
		{`{"a":1 ,  }`, 7, jsonline.ExtraComma, "a comma before the closing bracket", "remove"},
		{`["a”]`, 1, jsonline.OpenString, "no closing quote", "typographic"},
		{`["a`, 1, jsonline.OpenString, "no closing quote", ""},
		{"[\"a\tb\"]", 3, jsonline.ControlCharacter, `the control character '\t'`, ""},
		{"[\"a\nb\"]", 3, jsonline.ControlCharacter, "a line break inside a string", `\n`},
		{"[\"a”,\nb\"]", 7, jsonline.ControlCharacter, "a line break inside a string", "typographic"},
		{`["a\d"]`, 3, jsonline.BadEscape, `\d is not an escape`, `\\`},
		{`["a\u12x4"]`, 3, jsonline.BadEscape, "four hexadecimal digits", ""},
		{`["a\`, 3, jsonline.BadEscape, "ends after a backslash", ""},
		{`[-01]`, 1, jsonline.BadNumber, "cannot begin with 0", "serial number"},
		{`[1.e5]`, 1, jsonline.BadNumber, "not a number", "serial number"},
		{`[0x1]`, 1, jsonline.BadNumber, "not a number", ""},
		{`[[[[1]]]]`, 3, jsonline.TooDeep, "nested deeper than 3 levels", ""},
		{`[] {}`, 3, jsonline.TextAfter, "'{' after the end", ""},
	} {
		r := jsonline.NewReader([]byte(c.text), 3)
		r.Value()
		r.Close()
		e := r.Err()
		require.NotNil(t, e, c.text)
		assert.Equal(t, []any{c.at, c.fault}, []any{e.Offset, e.Fault}, c.text)
		assert.Contains(t, e.Message, c.message, c.text)
		assert.Contains(t, e.Hint, c.hint, c.text)
		assert.Equal(t, c.hint == "", e.Hint == "" || c.text == `[0x1]`, "%s: %s", c.text, e.Hint)
	}
}

func TestAnErrorQuotesNothingOfAPrivateKey(t *testing.T) {
	r := jsonline.NewReader([]byte(`{"-----BEGIN EC PRIVATE KEY-----\nsecret" 1}`), 3)
	r.Value()
	assert.Equal(t, "found '1' where the colon after [private key] should be", r.Err().Error())
}

func TestTheFirstErrorStays(t *testing.T) {
	r := jsonline.NewReader([]byte(`{"a":x}`), 3)
	assert.Zero(t, r.Value())
	first := r.Err()
	require.NotNil(t, first)
	assert.Zero(t, r.Value())
	r.Open()
	_, ok := r.Member()
	assert.False(t, ok)
	assert.False(t, r.Element())
	r.Close()
	assert.Same(t, first, r.Err())
}

func TestDepthIsThatOfOneValueInAnother(t *testing.T) {
	r := jsonline.NewReader([]byte(`[[[]],[[]],[{}],{"a":[]}]`), 3)
	r.Value()
	r.Close()
	assert.Nil(t, r.Err())
}

func TestHalfASurrogatePairIsFoundInTheText(t *testing.T) {
	for text, want := range map[string]int{
		`["x"]`: -1, `["\ud83d\ude00"]`: -1, `["\\\ud83d"]`: 4, `["\ud83d\ude00é\ude00\ud83d"]`: 16, `["\ud83dx\ude00"]`: 2, `["\ud83d\u0041"]`: 2,
	} {
		r := jsonline.NewReader([]byte(text), 3)
		r.Open()
		require.True(t, r.Element())
		v := r.Value()
		var b strings.Builder
		assert.Equal(t, want, r.WriteText(&b, v), text)
		assert.Equal(t, b.String(), r.Text(v))
		assert.True(t, utf8.ValidString(b.String()))
	}
}

func TestInvalidUTF8IsFoundAtItsFirstByte(t *testing.T) {
	for text, want := range map[string]int{"": -1, "aé\ufffd": -1, "é\xff": 2, "12345678\x85": 8, "1234567\x85": 7, "\ufffd\xc3": 3, "\xed\xa0\x80": 0} {
		assert.Equal(t, want, jsonline.InvalidUTF8([]byte(text)), "%q", text)
		quoted, invalid := jsonline.AppendString(nil, text)
		assert.Equal(t, want, invalid, "%q", text)
		assert.Equal(t, `"`+text+`"`, string(quoted))
	}
}
