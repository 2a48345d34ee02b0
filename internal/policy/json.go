package policy

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// node is a JSON value that knows where it stood.
type node struct {
	kind    kind
	offset  int
	text    string // decoded for a string; as written for a number and a boolean
	elems   []*node
	members []member       // of a repeated member the last value
	twice   []member       // the values that were overruled
	places  map[string]int // of members by name
}

type member struct {
	name   string
	offset int // of the name
	value  *node
}

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

// get returns a member's value; nil if the object has none of that name, or null. Names count to the letter.
func (n *node) get(name string) *node {
	for i := range n.members {
		if n.members[i].name == name && n.members[i].value.kind != kindNull {
			return n.members[i].value
		}
	}
	return nil
}

// readJSON reads one JSON value with nothing after it. The error is encoding/json's, and offset is where it was
// noticed.
func readJSON(text string) (root *node, offset int, err error) {
	if err := json.Unmarshal([]byte(text), new(json.RawMessage)); err != nil {
		if e, ok := errors.AsType[*json.SyntaxError](err); ok && e.Offset > 0 {
			return nil, int(e.Offset) - 1, err
		}
		return nil, len(text), err
	}
	r := &jsonReader{text: text, dec: json.NewDecoder(strings.NewReader(text))}
	r.dec.UseNumber()
	root, err = r.value()
	return root, int(r.dec.InputOffset()), err
}

// jsonReader makes a tree of text that is known to be JSON.
type jsonReader struct {
	text string
	dec  *json.Decoder
}

// next returns the next token and where it begins.
func (r *jsonReader) next() (json.Token, int, error) {
	offset := int(r.dec.InputOffset())
	for offset < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[offset]) >= 0 {
		offset++
	}
	token, err := r.dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return token, offset, err
}

func (r *jsonReader) value() (*node, error) {
	token, offset, err := r.next()
	if err != nil {
		return nil, err
	}
	n := &node{offset: offset}
	switch t := token.(type) {
	case string:
		n.kind, n.text = kindString, t
	case json.Number:
		n.kind, n.text = kindNumber, t.String()
	case bool:
		n.kind, n.text = kindBool, "false"
		if t {
			n.text = "true"
		}
	case nil:
		n.kind = kindNull
	case json.Delim:
		n.kind = kindArray
		if t == '{' {
			n.kind = kindObject
		}
		for r.dec.More() {
			if err := r.element(n); err != nil {
				return nil, err
			}
		}
		_, _, err = r.next() // the closing bracket
	}
	return n, err
}

func (r *jsonReader) element(n *node) error {
	m := member{}
	if n.kind == kindObject {
		token, offset, err := r.next()
		if err != nil {
			return err
		}
		m.name, _ = token.(string)
		m.offset = offset
	}
	var err error
	if m.value, err = r.value(); err != nil {
		return err
	}
	if n.kind == kindArray {
		n.elems = append(n.elems, m.value)
		return nil
	}
	if i, ok := n.places[m.name]; ok {
		n.twice = append(n.twice, n.members[i])
		n.members[i] = m
		return nil
	}
	if n.places == nil {
		n.places = map[string]int{}
	}
	n.places[m.name] = len(n.members)
	n.members = append(n.members, m)
	return nil
}
