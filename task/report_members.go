package task

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// present reports whether the member was there with a value other than null.
func (s *scan) present(v span) bool { return v.end > 0 && string(s.text[v.start:v.end]) != "null" }

// stringOf decodes a member that should be a string; "" when it is absent or something else.
func (s *scan) stringOf(m member) string {
	if !s.present(m.span) {
		return ""
	}
	if s.text[m.start] != '"' {
		s.complain(m.start, m.name+" is not a string")
		return ""
	}
	return unquote(s.text[m.start+1 : m.end-1])
}

// firstString decodes the first of the members that holds text.
func (s *scan) firstString(members ...member) string {
	for _, m := range members {
		if text := s.stringOf(m); text != "" {
			return text
		}
	}
	return ""
}

// firstARNs decodes the first of the members that holds an ARN.
func (s *scan) firstARNs(members ...member) ARNs {
	for _, m := range members {
		if arns := s.arnsOf(m); len(arns) > 0 {
			return arns
		}
	}
	return nil
}

// arnsOf decodes a member that should be an object of strings. It leaves out what is not a string.
func (s *scan) arnsOf(m member) ARNs {
	if !s.present(m.span) {
		return nil
	}
	if s.text[m.start] != '{' {
		s.complain(m.start, m.name+" is not an object")
		return nil
	}
	const usual = 3 // thing, certificate, policy
	arns := make(ARNs, usual)
	text := string(s.text[m.start:m.end]) // values that need no decoding are cut from this one copy
	plain := strings.IndexByte(text, '\\') < 0 && utf8.ValidString(text)
	inner := scan{text: s.text[:m.end], pos: m.start}
	inner.object(1, func(name []byte, _ int) bool {
		inner.space()
		start := inner.pos
		if !inner.value(1) {
			return false
		}
		key := validUTF8(string(name))
		if s.text[start] != '"' {
			delete(arns, key)
			s.complain(start, fmt.Sprintf("%s holds something other than a string under %q", m.name, key))
			return true
		}
		if plain {
			arns[key] = text[start+1-m.start : inner.pos-1-m.start]
			return true
		}
		arns[key] = unquote(s.text[start+1 : inner.pos-1])
		return true
	})
	return arns
}

// integer decodes the number of a line, written as a number or as a string of digits; 0 when it is absent.
func (s *scan) integer(m member) int64 {
	if !s.present(m.span) {
		return 0
	}
	digits := string(s.text[m.start:m.end])
	quoted := digits[0] == '"'
	if quoted {
		digits = strings.TrimSpace(unquote(s.text[m.start+1 : m.end-1]))
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil && !quoted { // 3.0 and 3e0 are the same number to JSON
		const exact = 1 << 53
		f, ferr := strconv.ParseFloat(digits, 64)
		if ferr == nil && f == math.Trunc(f) && math.Abs(f) <= exact {
			n, err = int64(f), nil
		}
	}
	if err != nil || n < 0 {
		s.complain(m.start, m.name+" is not the number of a line")
		return 0
	}
	return n
}

// unquote resolves the escapes of a scanned string without its quotes. As in encoding/json, half a surrogate pair and
// each byte that is not UTF-8 become U+FFFD. The result shares no memory with s.
func unquote(s []byte) string {
	next := bytes.IndexByte(s, '\\')
	if next < 0 {
		return validUTF8(string(s))
	}
	var b strings.Builder
	b.Grow(len(s)) // an escape is never shorter than what it stands for
	for ; next >= 0; next = bytes.IndexByte(s, '\\') {
		b.Write(s[:next])
		c := s[next+1]
		s = s[next+2:]
		switch c {
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			r, _ := hex4(s)
			s = s[4:]
			if utf16.IsSurrogate(r) {
				r, s = surrogate(r, s)
			}
			b.WriteRune(r)
		default: // quote, backslash, slash
			b.WriteByte(c)
		}
	}
	b.Write(s)
	return validUTF8(b.String())
}

// surrogate joins r with a second half that stands at the start of rest.
func surrogate(r rune, rest []byte) (rune, []byte) {
	if len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
		second, _ := hex4(rest[2:])
		if joined := utf16.DecodeRune(r, second); joined != utf8.RuneError {
			return joined, rest[6:]
		}
	}
	return utf8.RuneError, rest
}

func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}
