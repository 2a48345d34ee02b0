package template

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// This file reads JSON into a tree that remembers where everything stood. encoding/json gives offsets of tokens but
// says nothing about duplicate members, and its messages do not help with what people get wrong in templates.

const maxDepth = 100 // nesting; a template needs about ten levels

type kind byte

const (
	kindString kind = iota
	kindNumber
	kindBool
	kindNull
	kindArray
	kindObject
)

func (k kind) String() string {
	return [...]string{"a string", "a number", "a boolean", "null", "a list", "an object"}[k]
}

// node is a JSON value. Offsets are those of the file the user has, also when the template was a string within it.
type node struct {
	kind    kind
	offset  int
	text    string // decoded for a string; as written for a number, a boolean and null
	elems   []*node
	members []member       // a duplicate member's last value, at the first one's place, as most readers understand it
	dups    []member       // the duplicates that were overruled
	index   map[string]int // places of members by key; only when there are many
}

type member struct {
	key    string
	offset int // of the key
	value  *node
}

// find returns the place of a member; -1 when there is none.
func (n *node) find(key string) int {
	if n.index != nil {
		if i, ok := n.index[key]; ok {
			return i
		}
		return -1
	}
	for i := range n.members {
		if n.members[i].key == key {
			return i
		}
	}
	return -1
}

func (n *node) get(key string) *node {
	if i := n.find(key); i >= 0 {
		return n.members[i].value
	}
	return nil
}

// put adds a member. A later one of the same key takes the earlier one's place.
func (n *node) put(m member) {
	const many = 16
	if i := n.find(m.key); i >= 0 {
		n.dups = append(n.dups, n.members[i])
		n.members[i] = m
		return
	}
	n.members = append(n.members, m)
	switch {
	case n.index != nil:
		n.index[m.key] = len(n.members) - 1
	case len(n.members) > many:
		n.index = make(map[string]int)
		for i := range n.members {
			n.index[n.members[i].key] = i
		}
	}
}

type reader struct {
	src *source
	in  []byte
	i   int
}

// readJSON reads one JSON document with nothing after it.
func readJSON(src *source) (*node, *SyntaxError) {
	r := &reader{src: src, in: src.text}
	if i := invalidUTF8(r.in); i >= 0 {
		return nil, r.fail(i, "", "the text is not valid UTF-8", "save the file as UTF-8")
	}
	if bytes.HasPrefix(r.in, []byte(byteOrderMark)) {
		r.i = len(byteOrderMark)
	}
	r.space()
	if r.i == len(r.in) {
		return nil, r.fail(r.i, "", "the document is empty", "")
	}
	n, err := r.value("", 0)
	if err != nil {
		return nil, err
	}
	if r.space(); r.i < len(r.in) {
		return nil, r.fail(r.i, "", fmt.Sprintf("%s after the end of the document", r.found()), extraHint(r.in[r.i]))
	}
	return n, nil
}

func extraHint(c byte) string {
	switch c {
	case '}', ']':
		return "there is one closing bracket too many, or one closed too early"
	case '{':
		return "a template file holds one document; a data file is something else"
	}
	return ""
}

func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

func (r *reader) fail(i int, p pointer, message, hint string) *SyntaxError {
	return newSyntaxError(r.src, r.src.at(i), p, message, hint)
}

func (r *reader) space() {
	for r.i < len(r.in) && (r.in[r.i] == ' ' || r.in[r.i] == '\t' || r.in[r.i] == '\n' || r.in[r.i] == '\r') {
		r.i++
	}
}

// found describes what stands at the current place, for messages.
func (r *reader) found() string {
	if r.i >= len(r.in) {
		return "the end of the text"
	}
	c, _ := utf8.DecodeRune(r.in[r.i:])
	return fmt.Sprintf("%q", c)
}

func (r *reader) value(p pointer, depth int) (*node, *SyntaxError) {
	if depth > maxDepth {
		return nil, r.fail(r.i, p, fmt.Sprintf("nested deeper than %d levels", maxDepth), "")
	}
	if r.i >= len(r.in) {
		return nil, r.fail(r.i, p, "the text ends where a value should be", "is the file complete?")
	}
	n := &node{offset: r.src.at(r.i)}
	start := r.i
	switch c := r.in[r.i]; {
	case c == '"':
		text, err := r.string(p, nil)
		n.kind, n.text = kindString, text
		return n, err
	case c == '{':
		return n, r.object(n, p, depth)
	case c == '[':
		return n, r.array(n, p, depth)
	case c == '-' || (c >= '0' && c <= '9'):
		n.kind = kindNumber
		switch rest := string(r.in[start:min(len(r.in), start+5)]); {
		case rest == "-----":
			return nil, r.fail(start, p, "this is PEM, a certificate or a key, and no template", "give the file of the provisioning template")
		case strings.HasPrefix(rest, "---"):
			return nil, r.fail(start, p, "'-' where a value should be", "AWS takes a template as JSON; this looks like another format, such as YAML")
		}
		if !r.number() {
			return nil, r.fail(start, p, "this number is not written as JSON wants it",
				"numbers have no leading zeros; put quotes around a serial number")
		}
		n.text = string(r.in[start:r.i])
		return n, nil
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(r.in[r.i:], []byte(word)) && !r.letterAt(r.i+len(word)) {
			r.i += len(word)
			n.kind, n.text = kindBool, word
			if word == "null" {
				n.kind = kindNull
			}
			return n, nil
		}
	}
	return nil, r.fail(r.i, p, fmt.Sprintf("%s where a value should be", r.found()), r.slip(depth))
}

func (r *reader) letterAt(i int) bool {
	return i < len(r.in) && (r.in[i]|0x20 >= 'a' && r.in[i]|0x20 <= 'z' || r.in[i] == '_')
}

func (r *reader) object(n *node, p pointer, depth int) *SyntaxError {
	n.kind = kindObject
	r.i++
	r.space()
	if r.i < len(r.in) && r.in[r.i] == '}' {
		r.i++
		return nil
	}
	for {
		if r.i >= len(r.in) || r.in[r.i] != '"' {
			return r.fail(r.i, p, fmt.Sprintf("%s where a member's name should be", r.found()), r.nameHint())
		}
		keyAt := r.i
		key, err := r.string(p, nil)
		if err != nil {
			return err
		}
		r.space()
		if r.i >= len(r.in) || r.in[r.i] != ':' {
			return r.fail(r.i, p, fmt.Sprintf("%s where the colon after %s should be", r.found(), rule.Quote(key)), r.slip(depth))
		}
		r.i++
		r.space()
		v, err := r.value(p.child(key), depth+1)
		if err != nil {
			return err
		}
		n.put(member{key, r.src.at(keyAt), v})
		if done, err := r.separator('}', p); done || err != nil {
			return err
		}
	}
}

func (r *reader) array(n *node, p pointer, depth int) *SyntaxError {
	n.kind = kindArray
	r.i++
	r.space()
	if r.i < len(r.in) && r.in[r.i] == ']' {
		r.i++
		return nil
	}
	for {
		v, err := r.value(p.index(len(n.elems)), depth+1)
		if err != nil {
			return err
		}
		n.elems = append(n.elems, v)
		if done, err := r.separator(']', p); done || err != nil {
			return err
		}
	}
}

// separator reads a comma, or the closing bracket.
func (r *reader) separator(closing byte, p pointer) (done bool, err *SyntaxError) {
	end := r.i // just behind the value: where a missing comma belongs
	r.space()
	if r.i >= len(r.in) {
		return false, r.fail(r.i, p, fmt.Sprintf("the text ends before the closing %q", closing), "is the file complete?")
	}
	switch c := r.in[r.i]; c {
	case closing:
		r.i++
		return true, nil
	case ',':
		comma := r.i
		r.i++
		r.space()
		if r.i < len(r.in) && r.in[r.i] == closing {
			return false, r.fail(comma, p, fmt.Sprintf("a comma before the closing %q", closing), "remove the comma")
		}
		return false, nil
	case '"', '{', '[', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 't', 'f', 'n':
		return false, r.fail(end, p, fmt.Sprintf("a comma is missing before %s", r.found()), "add a comma here")
	}
	return false, r.fail(r.i, p, fmt.Sprintf("%s where a comma or %q should be", r.found(), closing), r.slip(1))
}

const typographic = `typographic quotes do not work in JSON; use the plain " (web pages and word processors replace it)`

// slip guesses what was meant by a character that no JSON value starts with.
func (r *reader) slip(depth int) string {
	rest := string(r.in[r.i:min(len(r.in), r.i+12)])
	switch {
	case rest == "":
		return "is the file complete?"
	case hasAnyPrefix(rest, "“", "”", "„", "‟", "«", "»"):
		return typographic
	case hasAnyPrefix(rest, "'", "‘", "’", "`"):
		return `use double quotes: "`
	case hasAnyPrefix(rest, "//", "/*", "#"):
		return "JSON has no comments; remove it"
	case hasAnyPrefix(rest, "True", "False", "None", "TRUE", "FALSE", "NULL", "Null"):
		return "JSON writes true, false and null"
	case hasAnyPrefix(rest, "NaN", "Infinity", "+", "."):
		return "JSON has no such number"
	case strings.HasPrefix(rest, "!"):
		return `short forms such as !Ref are YAML; write {"Ref": "Name"}`
	case hasAnyPrefix(rest, "{{", "<", "$", "*"):
		return "is this a placeholder that was to be replaced?"
	case r.letterAt(r.i) && depth == 0:
		return "AWS takes a template as JSON; this looks like another format, such as YAML"
	case r.letterAt(r.i):
		return `put double quotes around text: "…"`
	}
	return ""
}

func (r *reader) nameHint() string {
	if r.letterAt(r.i) {
		return `put double quotes around names: "Type"`
	}
	if r.i < len(r.in) && r.in[r.i] == '{' {
		return "{{…}} marks text to be replaced in AWS's documentation; remove the outer braces"
	}
	return r.slip(1)
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func (r *reader) number() bool {
	digits := func() bool {
		start := r.i
		for r.i < len(r.in) && r.in[r.i] >= '0' && r.in[r.i] <= '9' {
			r.i++
		}
		return r.i > start
	}
	if r.in[r.i] == '-' {
		r.i++
	}
	if r.i < len(r.in) && r.in[r.i] == '0' {
		r.i++
	} else if !digits() {
		return false
	}
	if r.i < len(r.in) && r.in[r.i] == '.' {
		r.i++
		if !digits() {
			return false
		}
	}
	if r.i < len(r.in) && r.in[r.i]|0x20 == 'e' {
		r.i++
		if r.i < len(r.in) && (r.in[r.i] == '+' || r.in[r.i] == '-') {
			r.i++
		}
		if !digits() {
			return false
		}
	}
	return r.i >= len(r.in) || !(r.in[r.i] >= '0' && r.in[r.i] <= '9') && !r.letterAt(r.i)
}

// string reads a string and decodes it. With places it also notes where each decoded byte came from.
func (r *reader) string(p pointer, places *[]int32) (string, *SyntaxError) {
	start := r.i
	r.i++
	var b strings.Builder
	for {
		from := r.i
		for r.i < len(r.in) && r.in[r.i] != '"' && r.in[r.i] != '\\' && r.in[r.i] >= 0x20 {
			r.i++
		}
		b.Write(r.in[from:r.i])
		if places != nil {
			for k := from; k < r.i; k++ {
				*places = append(*places, int32(r.src.at(k)))
			}
		}
		if r.i >= len(r.in) {
			hint := "is the file complete?"
			if bytes.ContainsAny(r.in[start:], "“”") {
				hint = typographic
			}
			return "", r.fail(start, p, "this string has no closing quote", hint)
		}
		switch r.in[r.i] {
		case '"':
			r.i++
			return b.String(), nil
		case '\\':
			from := r.i
			c, ok := r.escape()
			if !ok {
				return "", r.fail(from, p, "an escape that JSON does not have", `a backslash itself is written \\`)
			}
			b.WriteRune(c)
			for range utf8.RuneLen(c) {
				if places != nil {
					*places = append(*places, int32(r.src.at(from)))
				}
			}
		default:
			what, hint := fmt.Sprintf("control character %#02x inside a string", r.in[r.i]), ""
			if r.in[r.i] == '\n' || r.in[r.i] == '\r' {
				what, hint = "a line break inside a string",
					`write line breaks of a PEM or a policy as \n; or the closing quote is missing`
				if bytes.ContainsAny(r.in[start:r.i], "“”") {
					hint = typographic
				}
			}
			return "", r.fail(r.i, p, what, hint)
		}
	}
}

// escape reads one escape sequence, a surrogate pair counting as one.
func (r *reader) escape() (rune, bool) {
	if r.i+1 >= len(r.in) {
		return 0, false
	}
	c := r.in[r.i+1]
	r.i += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		u, ok := r.hex4(r.i)
		if !ok {
			return 0, false
		}
		r.i += 4
		if utf16.IsSurrogate(u) {
			if r.i+1 < len(r.in) && r.in[r.i] == '\\' && r.in[r.i+1] == 'u' {
				if low, ok := r.hex4(r.i + 2); ok {
					if c := utf16.DecodeRune(u, low); c != utf8.RuneError {
						r.i += 6
						return c, true
					}
				}
			}
			return utf8.RuneError, true
		}
		return u, true
	}
	return 0, false
}

func (r *reader) hex4(i int) (rune, bool) {
	if i+4 > len(r.in) {
		return 0, false
	}
	u, err := strconv.ParseUint(string(r.in[i:i+4]), 16, 32)
	return rune(u), err == nil && r.in[i] != '+' && r.in[i] != '-'
}
