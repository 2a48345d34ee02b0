package task

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// scan reads one line of a report in a single pass. It accepts what encoding/json accepts and notes where the values of
// the known members are; they are decoded afterwards, so that of a member that occurs twice the last one counts, as
// with encoding/json.
//
// It is written by hand because reading reports is where a run of a million devices spends its own time: the line is
// looked at once, and only what is wanted is copied.
type scan struct {
	text []byte
	pos  int

	lineNumber, errorMessage, errorCode span
	pem, arns                           [2]span // at the top, in both spellings
	inPEM, inARNs                       [2]span // inside "response"

	problem string // the first thing found wrong
	at      int    // where
	syntax  bool   // it is not JSON, or not an object
}

// span is the place of a value, quotes included. The zero span is an absent member: no value starts at 0.
type span struct{ start, end int }

// member is a value with the name to complain under.
type member struct {
	span
	name string
}

// The two spellings of a member: as in AWS's reports, and as in the answer of RegisterThing.
const (
	upper = iota // CertificatePem, ResourceArns
	lower        // certificatePem, resourceArns
)

// maxDepth is how deep values may nest, the figure of encoding/json.
const maxDepth = 10000

// line scans a line. It returns false when that is not a JSON object.
func (s *scan) line(l line) bool {
	if l.tooLong {
		s.complain(0, fmt.Sprintf("the line is longer than %d bytes", maxReportLine))
		s.syntax = true
		return false
	}
	s.text = l.text
	ok := s.top()
	if !ok {
		s.syntax = true
	}
	return ok
}

// complain notes a problem; the first one counts.
func (s *scan) complain(at int, problem string) bool {
	if s.problem == "" {
		s.problem, s.at = problem, at
	}
	return false
}

// fault returns what was found wrong as an error, nil if nothing was.
func (s *scan) fault(l line, file int) error {
	if s.problem == "" {
		return nil
	}
	return &FormatError{File: file, Line: l.number, Offset: l.offset + int64(s.at), Problem: s.problem, Syntax: s.syntax}
}

func (s *scan) top() bool {
	s.space()
	if s.pos < len(s.text) && s.text[s.pos] != '{' {
		start := s.pos
		if !s.value(1) {
			return false
		}
		return s.complain(start, "is not a JSON object")
	}
	if !s.object(1, s.topMember) {
		return false
	}
	s.space()
	if s.pos < len(s.text) {
		return s.complain(s.pos, "has text behind the JSON object")
	}
	return true
}

// topMember scans the value of one member of the line and notes it.
func (s *scan) topMember(name []byte, depth int) bool {
	s.space()
	if string(name) == "response" {
		s.inPEM, s.inARNs = [2]span{}, [2]span{}
		if s.pos < len(s.text) && s.text[s.pos] == '{' {
			return s.object(depth, s.responseMember)
		}
		start := s.pos
		if !s.value(depth) {
			return false
		}
		if string(s.text[start:s.pos]) != "null" {
			s.complain(start, "response is not an object")
		}
		return true
	}
	start := s.pos
	if !s.value(depth) {
		return false
	}
	here := span{start, s.pos}
	switch string(name) {
	case "lineNumber":
		s.lineNumber = here
	case "errorMessage":
		s.errorMessage = here
	case "errorCode":
		s.errorCode = here
	default:
		note(&s.pem, &s.arns, name, here)
	}
	return true
}

func (s *scan) responseMember(name []byte, depth int) bool {
	s.space()
	start := s.pos
	if !s.value(depth) {
		return false
	}
	note(&s.inPEM, &s.inARNs, name, span{start, s.pos})
	return true
}

func note(pem, arns *[2]span, name []byte, here span) {
	switch string(name) {
	case "CertificatePem":
		pem[upper] = here
	case "certificatePem":
		pem[lower] = here
	case "ResourceArns":
		arns[upper] = here
	case "resourceArns":
		arns[lower] = here
	}
}

// object scans an object at the given depth. each is called behind the colon of every member and scans its value; when it
// is nil the values are skipped.
func (s *scan) object(depth int, each func(name []byte, depth int) bool) bool {
	if !s.enter(depth) {
		return false
	}
	s.space()
	if s.skip('}') {
		return true
	}
	for {
		s.space()
		start := s.pos
		if s.pos >= len(s.text) || s.text[s.pos] != '"' {
			return s.unexpected("the name of a member")
		}
		plain, ok := s.str()
		if !ok {
			return false
		}
		name := s.text[start+1 : s.pos-1]
		if !plain {
			name = []byte(unquote(name))
		}
		s.space()
		if !s.skip(':') {
			return s.unexpected(`":"`)
		}
		if each == nil {
			ok = s.value(depth + 1)
		} else {
			ok = each(name, depth+1)
		}
		if !ok {
			return false
		}
		s.space()
		if s.skip('}') {
			return true
		}
		if !s.skip(',') {
			return s.unexpected(`"," or "}"`)
		}
	}
}

// enter steps over the bracket of an object or array.
func (s *scan) enter(depth int) bool {
	if depth > maxDepth {
		return s.complain(s.pos, fmt.Sprintf("nests deeper than %d levels", maxDepth))
	}
	s.pos++
	return true
}

// value scans any value, which would stand at the given depth if it were an object or array.
func (s *scan) value(depth int) bool {
	s.space()
	if s.pos >= len(s.text) {
		return s.unexpected("a value")
	}
	switch c := s.text[s.pos]; {
	case c == '"':
		_, ok := s.str()
		return ok
	case c == '{':
		return s.object(depth, nil)
	case c == '[':
		return s.array(depth)
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if rest := s.text[s.pos:]; len(rest) >= len(word) && string(rest[:len(word)]) == word {
			s.pos += len(word)
			return true
		}
	}
	return s.unexpected("a value")
}

func (s *scan) array(depth int) bool {
	if !s.enter(depth) {
		return false
	}
	s.space()
	if s.skip(']') {
		return true
	}
	for {
		if !s.value(depth + 1) {
			return false
		}
		s.space()
		if s.skip(']') {
			return true
		}
		if !s.skip(',') {
			return s.unexpected(`"," or "]"`)
		}
	}
}

func (s *scan) number() bool {
	s.skip('-')
	if !s.skip('0') && !s.digits() {
		return s.unexpected("a digit")
	}
	if s.skip('.') && !s.digits() {
		return s.unexpected("a digit")
	}
	if s.skip('e') || s.skip('E') {
		if !s.skip('+') {
			s.skip('-')
		}
		if !s.digits() {
			return s.unexpected("a digit")
		}
	}
	return true
}

func (s *scan) digits() bool {
	start := s.pos
	for s.pos < len(s.text) && s.text[s.pos] >= '0' && s.text[s.pos] <= '9' {
		s.pos++
	}
	return s.pos > start
}

// Constants of a search through eight bytes at once.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// ordinary returns how many bytes at the start of text are neither a quote, a backslash nor a control character. It
// looks at eight bytes at a time, as nearly all of a report is the inside of long strings.
func ordinary(text []byte) int {
	i := 0
	for ; i+8 <= len(text); i += 8 {
		w := binary.LittleEndian.Uint64(text[i:])
		quote, back := w^(ones*'"'), w^(ones*'\\')
		// A byte's top bit is set where w is below 0x20, or where quote or back is zero. Bits above the first hit may be
		// false ones; only the first counts.
		hit := ((w - ones*0x20) &^ w) | ((quote - ones) &^ quote) | ((back - ones) &^ back)
		if hit &= highs; hit != 0 {
			return i + bits.TrailingZeros64(hit)/8
		}
	}
	for ; i < len(text); i++ {
		if c := text[i]; c < 0x20 || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// str scans a string, quotes included. plain is true when it has no escapes; it may still not be UTF-8.
func (s *scan) str() (plain, ok bool) {
	text, plain := s.text, true
	for i := s.pos + 1; ; i++ {
		i += ordinary(text[i:])
		if i >= len(text) {
			s.pos = len(text)
			return false, s.unexpected("the end of a string")
		}
		switch c := text[i]; c {
		case '"':
			s.pos = i + 1
			return plain, true
		case '\\':
			plain = false
			i++
			if i >= len(text) {
				break
			}
			switch text[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if _, ok := hex4(text[i+1:]); !ok {
					return false, s.complain(i-1, `\u is not followed by four hexadecimal digits`)
				}
				i += 4
			default:
				return false, s.complain(i-1, fmt.Sprintf("unknown escape \\%c", rune(text[i])))
			}
		default:
			return false, s.complain(i, fmt.Sprintf("control character %#U in a string", rune(c)))
		}
		if i >= len(text) {
			s.pos = len(text)
			return false, s.unexpected("the end of a string")
		}
	}
}

func (s *scan) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// skip steps over c if it comes next.
func (s *scan) skip(c byte) bool {
	if s.pos < len(s.text) && s.text[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

func (s *scan) unexpected(wanted string) bool {
	if s.pos >= len(s.text) {
		return s.complain(len(s.text), "ends where "+wanted+" should follow")
	}
	r, _ := utf8.DecodeRune(s.text[s.pos:])
	return s.complain(s.pos, fmt.Sprintf("has %q where %s should follow", r, wanted))
}

// hex4 reads the four digits of a \u escape.
func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for i := range 4 {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
