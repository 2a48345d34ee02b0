package jsonline

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Fault is how a text differs from JSON.
type Fault int

// The faults, with the place that the error names.
const (
	WantValue          Fault = iota + 1 // something else, or the end of the text, stands where a value should
	WantName                            // where the name of a member should
	WantColon                           // where the colon after a name should
	WantCommaOrBrace                    // behind a member
	WantCommaOrBracket                  // behind an element
	MissingComma                        // the place behind the value that the comma should follow
	ExtraComma                          // the comma before a closing bracket
	OpenString                          // the opening quote of a string that does not end
	ControlCharacter                    // a control character in a string, line breaks included
	BadEscape                           // the backslash
	BadNumber                           // the first character of the number
	TooDeep                             // the opening bracket
	TextAfter                           // what follows the value
)

// SyntaxError is where and how a text differs from JSON.
type SyntaxError struct {
	Offset  int // in the text, in bytes from 0
	Fault   Fault
	AtEnd   bool   // the text ends at Offset
	Message string // what stands there
	Hint    string // what to do, where the slip is a known one
}

// Error returns the message and the hint.
func (e *SyntaxError) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "; " + e.Hint
}

// failAfter notes that no colon follows a name. It keeps an earlier error.
func (r *Reader) failAfter(name Value) {
	if r.err == nil {
		r.fail(WantColon, r.pos)
		r.err.Message = r.found("the colon after " + rule.Quote(r.Text(name)))
	}
}

// fail notes an error unless there is one already.
func (r *Reader) fail(f Fault, at int) {
	if r.err != nil {
		return
	}
	rest := r.text[at:]
	e := &SyntaxError{Offset: at, Fault: f, AtEnd: len(rest) == 0}
	r.pos, r.err = at, e
	switch f {
	case WantValue:
		e.Message, e.Hint = r.found("a value"), slip(rest, `put double quotes around text: "…"`)
	case WantName:
		e.Message, e.Hint = r.found("a member's name"), slip(rest, `put double quotes around names: "Name"`)
	case WantColon:
		e.Hint = slip(rest, "")
	case WantCommaOrBrace:
		e.Message, e.Hint = r.found("a comma or }"), slip(rest, "")
	case WantCommaOrBracket:
		e.Message, e.Hint = r.found("a comma or ]"), slip(rest, "")
	case MissingComma:
		next, _ := utf8.DecodeRune(bytes.TrimLeft(rest, " \t\r\n"))
		e.Message, e.Hint = fmt.Sprintf("a comma is missing before %q", next), "add a comma here"
	case ExtraComma:
		e.Message, e.Hint = "a comma before the closing bracket", "remove the comma"
	case OpenString:
		e.Message = "this string has no closing quote"
		if bytes.ContainsAny(rest, "“”") {
			e.Hint = typographic
		}
	case ControlCharacter:
		e.Message = fmt.Sprintf("the control character %q must be escaped within a string", rest[0])
		if rest[0] == '\n' || rest[0] == '\r' {
			e.Message, e.Hint = "a line break inside a string", `write it as \n; or the closing quote is missing`
			start := bytes.LastIndexByte(r.text[:at], '"')
			if bytes.ContainsAny(r.text[start+1:at], "“”") {
				e.Hint = typographic
			}
		}
	case BadEscape:
		switch c, _ := utf8.DecodeRune(rest[1:]); {
		case len(rest) == 1:
			e.Message = "the text ends after a backslash"
		case c == 'u':
			e.Message = `\u needs four hexadecimal digits`
		default:
			e.Message, e.Hint = fmt.Sprintf(`\%c is not an escape of JSON`, c), `a backslash itself is written \\`
		}
	case BadNumber:
		e.Message, e.Hint = "not a number as JSON writes one", "put double quotes around a serial number"
		if digits := bytes.TrimPrefix(rest, []byte{'-'}); len(digits) > 1 && digits[0] == '0' && isDigit(digits[1]) {
			e.Message = "a number cannot begin with 0"
		}
	case TooDeep:
		e.Message = fmt.Sprintf("nested deeper than %d levels", r.max)
	case TextAfter:
		next, _ := utf8.DecodeRune(rest)
		e.Message = fmt.Sprintf("%q after the end of the value", next)
	}
}

// found describes what stands at the current place instead of what should.
func (r *Reader) found(want string) string {
	if r.pos == len(r.text) {
		return "the text ends where " + want + " should be"
	}
	c, _ := utf8.DecodeRune(r.text[r.pos:])
	return fmt.Sprintf("found %q where %s should be", c, want)
}

const typographic = `typographic quotes do not work in JSON; use the plain " (web pages and word processors replace it)`

// slip guesses what was meant by characters that cannot stand where they do. word is the answer to a letter.
func slip(rest []byte, word string) string {
	for _, s := range []struct{ starts, hint string }{
		{"“ ” „ ‟ « »", typographic},
		{"' ‘ ’ `", `use double quotes: "`},
		{"// /* #", "JSON has no comments; remove it"},
		{"True False None TRUE FALSE NULL Null", "JSON writes true, false and null"},
		{"NaN Infinity + .", "JSON has no such number"},
		{"\u00a0 \u200b \u3000", "it is a kind of space that JSON does not know"},
		{byteOrderMark, "a byte order mark may only begin the file; remove it"},
	} {
		for start := range strings.SplitSeq(s.starts, " ") {
			if bytes.HasPrefix(rest, []byte(start)) {
				return s.hint
			}
		}
	}
	if isLetterAt(rest, 0) {
		return word
	}
	return ""
}
