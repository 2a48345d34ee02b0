package jsonline

import (
	"bytes"
	"unicode/utf8"
)

// Kind is what a value is, by its first character.
type Kind byte

// The kinds of values. The zero Kind is no value.
const (
	String Kind = '"'
	Number Kind = '0'
	True   Kind = 't'
	False  Kind = 'f'
	Null   Kind = 'n'
	Object Kind = '{'
	Array  Kind = '['
)

// Value is the place of a value in the text, the quotes of a string included. The zero Value is no value.
type Value struct {
	Start, End int
	Kind       Kind
	Escaped    bool // a string has escapes
	NonASCII   bool // a string has bytes outside ASCII; they need not be UTF-8
}

// Reader walks over the JSON of a text:
//
//	r := jsonline.NewReader(text, 100)
//	if r.Peek() == jsonline.Object {
//		r.Open()
//		for name, ok := r.Member(); ok; name, ok = r.Member() {
//			v := r.Value()
//			…
//		}
//	}
//	if r.Close(); r.Err() != nil { … }
//
// It accepts the texts that encoding/json accepts, reads each byte once and copies nothing. Repeated members and bytes
// that are not UTF-8 are left to the caller. The first error stays: every method after it does nothing and returns
// zero values.
type Reader struct {
	text  []byte
	pos   int
	fresh bool // pos is behind an opening bracket
	depth int
	max   int
	err   *SyntaxError
}

// NewReader returns a Reader of text, which it does not change. Objects and arrays may nest as deep as maxDepth.
func NewReader(text []byte, maxDepth int) Reader { return Reader{text: text, max: maxDepth} }

// Err returns what was found wrong, nil if nothing was.
func (r *Reader) Err() *SyntaxError { return r.err }

// Offset returns the place in the text up to which it has been read. Behind [Reader.Peek] it is that of the next value.
func (r *Reader) Offset() int { return r.pos }

// Raw returns the text of a value as it is written, of a string the part between the quotes.
func (r *Reader) Raw(v Value) []byte {
	if v.Kind == String {
		return r.text[v.Start+1 : v.End-1]
	}
	return r.text[v.Start:v.End]
}

// Peek returns the kind of the value that comes next; 0 if none does.
func (r *Reader) Peek() Kind {
	if r.err != nil {
		return 0
	}
	r.space()
	switch c := r.next(); c {
	case '"', '{', '[':
		return Kind(c)
	case 't':
		return r.word(True, "true")
	case 'f':
		return r.word(False, "false")
	case 'n':
		return r.word(Null, "null")
	case '-':
		return Number
	default:
		if isDigit(c) {
			return Number
		}
	}
	return 0
}

func (r *Reader) word(k Kind, word string) Kind {
	if bytes.HasPrefix(r.text[r.pos:], []byte(word)) && !isLetterAt(r.text, r.pos+len(word)) {
		return k
	}
	return 0
}

// Value reads the next value, with all that is in it.
func (r *Reader) Value() Value {
	kind, start := r.Peek(), r.pos
	switch kind {
	case String:
		return r.string()
	case Number:
		r.number()
	case True, Null:
		r.pos += len("true")
	case False:
		r.pos += len("false")
	case Object:
		r.Open()
		for _, ok := r.Member(); ok; _, ok = r.Member() {
			r.Value()
		}
	case Array:
		r.Open()
		for r.Element() {
			r.Value()
		}
	default:
		r.fail(WantValue, r.pos)
	}
	if r.err != nil {
		return Value{}
	}
	return Value{Start: start, End: r.pos, Kind: kind}
}

// Open steps into the object or array that comes next.
func (r *Reader) Open() {
	switch r.Peek() {
	case Object, Array:
		if r.depth++; r.depth > r.max {
			r.fail(TooDeep, r.pos)
			return
		}
		r.pos++
		r.fresh = true
	default:
		r.fail(WantValue, r.pos)
	}
}

// Member steps to the value of the next member of an object and returns the member's name. It returns false behind the
// last member, having left the object, and at an error.
func (r *Reader) Member() (name Value, ok bool) {
	if !r.item('}') {
		return Value{}, false
	}
	if r.next() != '"' {
		r.fail(WantName, r.pos)
		return Value{}, false
	}
	name = r.string()
	if r.space(); r.next() != ':' {
		r.failAfter(name)
		return Value{}, false
	}
	r.pos++
	return name, true
}

// Element steps to the next element of an array. It returns false behind the last one, having left the array, and at
// an error.
func (r *Reader) Element() bool { return r.item(']') }

// item steps over the comma before an item, or over the closing bracket.
func (r *Reader) item(closing byte) bool {
	if r.err != nil {
		return false
	}
	end := r.pos // where a missing comma belongs
	r.space()
	c := r.next()
	if c == closing {
		r.pos++
		r.depth--
		r.fresh = false
		return false
	}
	if r.fresh {
		r.fresh = false
		return true
	}
	switch {
	case c == ',':
		comma := r.pos
		r.pos++
		if r.space(); r.next() == closing {
			r.fail(ExtraComma, comma)
		}
	case r.Peek() != 0:
		r.fail(MissingComma, end)
	case closing == '}':
		r.fail(WantCommaOrBrace, r.pos)
	default:
		r.fail(WantCommaOrBracket, r.pos)
	}
	return r.err == nil
}

// Close checks that nothing but white space follows.
func (r *Reader) Close() {
	if r.space(); r.err == nil && r.pos < len(r.text) {
		r.fail(TextAfter, r.pos)
	}
}

func (r *Reader) space() {
	for r.pos < len(r.text) {
		switch r.text[r.pos] {
		case ' ', '\t', '\r', '\n':
			r.pos++
		default:
			return
		}
	}
}

// next returns the next byte without reading it; 0 at the end.
func (r *Reader) next() byte {
	if r.pos < len(r.text) {
		return r.text[r.pos]
	}
	return 0
}

// skip reads c if it comes next.
func (r *Reader) skip(c byte) bool {
	if r.pos < len(r.text) && r.text[r.pos] == c {
		r.pos++
		return true
	}
	return false
}

func (r *Reader) digits() bool {
	start := r.pos
	for isDigit(r.next()) {
		r.pos++
	}
	return r.pos > start
}

func (r *Reader) number() {
	start := r.pos
	r.skip('-')
	ok := r.skip('0') || r.digits()
	if ok && r.skip('.') {
		ok = r.digits()
	}
	if ok && (r.skip('e') || r.skip('E')) {
		if !r.skip('+') {
			r.skip('-')
		}
		ok = r.digits()
	}
	if !ok || isDigit(r.next()) || isLetterAt(r.text, r.pos) {
		r.fail(BadNumber, start)
	}
}

// string reads a string and checks its escapes.
func (r *Reader) string() Value {
	v := Value{Start: r.pos, Kind: String}
	for i := r.pos + 1; ; {
		i += plain(r.text[i:])
		switch {
		case i >= len(r.text):
			r.fail(OpenString, v.Start)
			return Value{}
		case r.text[i] == '"':
			r.pos = i + 1
			v.End = r.pos
			return v
		case r.text[i] == '\\':
			_, n := Unescape(r.text[i:])
			if n == 0 {
				r.fail(BadEscape, i)
				return Value{}
			}
			v.Escaped = true
			i += n
		case r.text[i] >= utf8.RuneSelf:
			v.NonASCII = true
			i++
		default:
			r.fail(ControlCharacter, i)
			return Value{}
		}
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetterAt(text []byte, i int) bool {
	return i < len(text) && (text[i]|0x20 >= 'a' && text[i]|0x20 <= 'z' || text[i] == '_')
}
