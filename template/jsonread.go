package template

import (
	"bytes"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
)

// This file reads JSON into a tree that remembers where everything stood and which members occurred twice.

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

var kindOf = map[jsonline.Kind]kind{
	jsonline.String: kindString, jsonline.Number: kindNumber, jsonline.True: kindBool, jsonline.False: kindBool,
	jsonline.Null: kindNull,
}

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

// each calls visit for n and each value within it, with its place.
func (n *node) each(at pointer, visit func(n *node, at pointer)) {
	visit(n, at)
	for i, e := range n.elems {
		e.each(at.index(i), visit)
	}
	for _, m := range n.members {
		m.value.each(at.child(m.key), visit)
	}
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

// reader makes a tree of what a jsonline.Reader reads.
type reader struct {
	jsonline.Reader
	src  *source
	mark int // length of the byte order mark
}

// at translates a place in what is read into one in the file.
func (r *reader) at(i int) int { return r.src.at(r.mark + i) }

// readJSON reads one JSON document with nothing after it.
func readJSON(src *source) (*node, *finding.Finding) {
	if i := jsonline.InvalidUTF8(src.text); i >= 0 {
		return nil, syntaxError(src, src.at(i), pointer{}, "the text is not valid UTF-8", "save the file as UTF-8")
	}
	text := bytes.TrimPrefix(src.text, []byte(byteOrderMark))
	r := &reader{jsonline.NewReader(text, maxDepth), src, len(src.text) - len(text)}
	if r.Peek() == 0 && r.Offset() == len(text) {
		return nil, syntaxError(src, r.at(len(text)), pointer{}, "the document is empty", "")
	}
	n, err := r.value(pointer{})
	if err != nil {
		return nil, err
	}
	if r.Close(); r.Err() != nil {
		return nil, r.fail(pointer{})
	}
	return n, nil
}

// fail makes a finding of what the jsonline.Reader found wrong, with hints for templates.
func (r *reader) fail(p pointer) *finding.Finding {
	e := *r.Err()
	rest := string(r.src.text[r.mark+e.Offset:])
	const notJSON = "AWS takes a template as JSON; this looks like another format, such as YAML"
	switch {
	case e.AtEnd || e.Fault == jsonline.OpenString && e.Hint == "":
		e.Hint = "is the file complete?"
	case strings.HasPrefix(rest, "-----"):
		e.Message, e.Hint = "this is PEM, a certificate or a key, and no template", "give the file of the provisioning template"
	case strings.HasPrefix(rest, "---"):
		e.Message, e.Hint = "found '-' where a value should be", notJSON
	case p == (pointer{}) && e.Fault == jsonline.WantValue && isLetter(rest[0]):
		e.Hint = notJSON
	case e.Fault == jsonline.WantName && rest[0] == '{':
		e.Hint = "{{…}} marks text to be replaced in AWS's documentation; remove the outer braces"
	case e.Fault == jsonline.TextAfter && rest[0] == '{':
		e.Hint = "a template file holds one document; a data file is something else"
	case e.Fault == jsonline.TextAfter && strings.Contains("}]", rest[:1]):
		e.Hint = "there is one closing bracket too many, or one closed too early"
	case rest[0] == '!':
		e.Hint = `short forms such as !Ref are YAML; write {"Ref": "Name"}`
	case strings.HasPrefix(rest, "{{") || strings.Contains("<$*", rest[:1]):
		e.Hint = "is this a placeholder that was to be replaced?"
	}
	return syntaxError(r.src, r.at(e.Offset), p, e.Message, e.Hint)
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func (r *reader) value(p pointer) (*node, *finding.Finding) {
	n := &node{}
	switch r.Peek() {
	case jsonline.Object:
		n.kind, n.offset = kindObject, r.at(r.Offset())
		return n, r.object(n, p)
	case jsonline.Array:
		n.kind, n.offset = kindArray, r.at(r.Offset())
		for r.Open(); r.Element(); {
			e, err := r.value(p.index(len(n.elems)))
			if err != nil {
				return nil, err
			}
			n.elems = append(n.elems, e)
		}
	default:
		v := r.Value()
		n.kind, n.offset = kindOf[v.Kind], r.at(v.Start)
		if r.Err() == nil {
			n.text = r.Text(v)
		}
	}
	if r.Err() != nil {
		return nil, r.fail(p)
	}
	return n, nil
}

func (r *reader) object(n *node, p pointer) *finding.Finding {
	r.Open()
	for name, ok := r.Member(); ok; name, ok = r.Member() {
		key := r.Text(name)
		v, err := r.value(p.child(key))
		if err != nil {
			return err
		}
		n.put(member{key, r.at(name.Start), v})
	}
	if r.Err() != nil {
		return r.fail(p)
	}
	return nil
}

// places returns, for each byte of a string's text, the place in the file it was read from.
func (s *source) places(str jsonline.Value) []int32 {
	out := []int32{}
	for i := str.Start + 1; i < str.End-1; {
		size, length := 1, 1
		if s.text[i] == '\\' {
			var c rune
			c, size = jsonline.Unescape(s.text[i:])
			length = len(string(c)) // U+FFFD for half a surrogate pair
		}
		for range length {
			out = append(out, int32(s.at(i)))
		}
		i += size
	}
	return out
}
