package template

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Value is anything a property of a template can hold: a [Literal], a [Ref], a [Call] of an intrinsic function, a
// [List], an [Object], or [JSON] for the rest (numbers, booleans, null).
//
// A nil Value in a struct field means that the member is absent.
type Value interface{ value() }

// Literal is a string constant, such as Literal("v1"). It becomes a JSON string.
type Literal string

// Ref is the value of a parameter: Ref("ThingName") becomes {"Ref": "ThingName"}. The value comes from the device's
// row; when the row has none, from the parameter's Default.
type Ref string

// Call is a use of an intrinsic function: {"Fn::Join": ["-", [ … ]]}. Make one with [Join], [Select], [Split],
// [FindInMap] or [Sub].
//
// AWS documents the intrinsic functions for fleet provisioning templates only. Whether a bulk template may use them is
// not documented: [Template.Check] warns and [Template.Compile] refuses them there, unless told otherwise.
type Call struct {
	Function string // Join, Select, Split, FindInMap or Sub, with "Fn::" before it
	Args     Value  // the argument as it stands in JSON, usually a List
}

// List is an ordered list of values. It becomes a JSON array.
type List []Value

// Object is a set of named values. It becomes a JSON object with its keys sorted.
type Object map[string]Value

// JSON is a piece of JSON text that is kept as it is: a number, a boolean, null, or a whole document without
// functions. Text that is not valid JSON makes [Template.Body] fail.
type JSON string

func (Literal) value() {}
func (Ref) value()     {}
func (Call) value()    {}
func (List) value()    {}
func (Object) value()  {}
func (JSON) value()    {}

// The states a certificate can be registered in.
const (
	Active   = Literal("ACTIVE")   // the device can connect at once; this is AWS's default
	Inactive = Literal("INACTIVE") // the device can connect only after someone has activated the certificate
)

// How a certificate can belong to its thing.
const (
	ExclusiveThing    = Literal("EXCLUSIVE_THING")     // to this thing alone: the device may connect under any client id
	NonExclusiveThing = Literal("NON_EXCLUSIVE_THING") // to others too, the client id decides which; this is AWS's default
)

// The names of the intrinsic functions.
const (
	fnRef       = "Ref"
	fnJoin      = "Fn::Join"
	fnSelect    = "Fn::Select"
	fnSplit     = "Fn::Split"
	fnFindInMap = "Fn::FindInMap"
	fnSub       = "Fn::Sub"
)

var functionNames = []string{fnJoin, fnSelect, fnSplit, fnFindInMap, fnSub}

// Join strings values together with a delimiter between them: Join("-", Literal("dev"), Ref("SerialNumber")).
// An empty delimiter just concatenates.
func Join(delimiter string, values ...Value) Call {
	return Call{fnJoin, List{Literal(delimiter), List(values)}}
}

// JoinList is [Join] over a list made by another function, such as [Split].
func JoinList(delimiter string, list Value) Call {
	return Call{fnJoin, List{Literal(delimiter), list}}
}

// Select takes one value from a list, counted from 0. AWS does not check the index beforehand: one that is out of
// range fails the device.
func Select(index int, list Value) Call {
	return Call{fnSelect, List{JSON(strconv.Itoa(index)), list}}
}

// Split cuts a string at every delimiter. It makes a list, for [Select] or [JoinList].
func Split(delimiter string, s Value) Call {
	return Call{fnSplit, List{Literal(delimiter), s}}
}

// FindInMap looks a value up in [Mappings]: map, first key, second key.
func FindInMap(mapping, key1, key2 Value) Call {
	return Call{fnFindInMap, List{mapping, key1, key2}}
}

// Sub replaces each ${Name} of text by the value of that name: one of vars, else the parameter. ${!Name} stands for
// the text ${Name} itself. It takes at most one set of vars; more are merged, the last winning.
func Sub(text string, vars ...Object) Call {
	if len(vars) == 0 {
		return Call{fnSub, Literal(text)}
	}
	all := Object{}
	for _, v := range vars {
		maps.Copy(all, v)
	}
	return Call{fnSub, List{Literal(text), all}}
}

// Literals makes a List of constants: Literals("line-1", "eu").
func Literals(values ...string) List {
	list := make(List, len(values))
	for i, v := range values {
		list[i] = Literal(v)
	}
	return list
}

// scalar returns the text of a constant that AWS can take for a string: a literal, a number or a boolean.
func scalar(v Value) (string, bool) {
	switch v := v.(type) {
	case Literal:
		return string(v), true
	case JSON:
		s := strings.TrimSpace(string(v))
		switch {
		case s == "", s == "null", s[0] == '{', s[0] == '[':
			return "", false
		case s[0] == '"':
			var text string
			if json.Unmarshal([]byte(s), &text) != nil {
				return "", false
			}
			return text, true
		}
		return s, json.Valid([]byte(s))
	}
	return "", false
}

func isNull(v Value) bool {
	j, ok := v.(JSON)
	return ok && strings.TrimSpace(string(j)) == "null"
}

// isEmpty reports whether a value is an empty string.
func isEmpty(v Value) bool {
	text, ok := scalar(v)
	return ok && text == ""
}

// expand turns JSON text that holds an array or an object into List and Object, with the functions in it, so that the
// rest of the package sees one form. Anything else comes back as it is.
func expand(v Value) Value {
	j, ok := v.(JSON)
	if !ok {
		return v
	}
	s := strings.TrimSpace(string(j))
	if s == "" || (s[0] != '[' && s[0] != '{') {
		return v
	}
	n, err := readJSON(newSource([]byte(s)))
	if err != nil {
		return v
	}
	return valueOf(n)
}

// walk calls visit for v and each value within it, with its place: outermost first, in a fixed order. They are expanded.
func walk(v Value, at pointer, visit func(v Value, at pointer)) {
	v = expand(v)
	visit(v, at)
	switch v := v.(type) {
	case List:
		for i, e := range v {
			walk(e, at.index(i), visit)
		}
	case Object:
		for _, k := range sortedKeys(v) {
			walk(v[k], at.child(k), visit)
		}
	case Call:
		walk(v.Args, at.child(v.Function), visit)
	}
}

// walkRefs calls yield for each Ref and each Fn::Sub variable in v with its place.
func walkRefs(v Value, at pointer, yield func(name string, at pointer)) {
	walk(v, at, func(v Value, at pointer) {
		switch v := v.(type) {
		case Ref:
			yield(string(v), at.child(fnRef))
		case Call:
			if v.Function != fnSub {
				return
			}
			text, vars, textAt := subArgs(v.Args, at.child(fnSub))
			for _, p := range parseSub(text) {
				if _, own := vars[p.name]; p.name != "" && !own {
					yield(p.name, textAt)
				}
			}
		}
	})
}

// walkCalls calls yield for each function call in v with its place.
func walkCalls(v Value, at pointer, yield func(c Call, at pointer)) {
	walk(v, at, func(v Value, at pointer) {
		if call, ok := v.(Call); ok {
			yield(call, at.child(call.Function))
		}
	})
}

// subArgs takes the argument of Fn::Sub apart: the text, its own variables, and the place of the text.
func subArgs(args Value, at pointer) (text string, vars Object, textAt pointer) {
	switch args := expand(args).(type) {
	case Literal:
		return string(args), nil, at
	case List:
		if len(args) > 0 {
			text, _ = scalar(args[0])
		}
		if len(args) > 1 {
			vars, _ = expand(args[1]).(Object)
		}
		return text, vars, at.index(0)
	}
	return "", nil, at
}

// subPart is a piece of the text of Fn::Sub: constant text, or the name of a variable.
type subPart struct{ text, name string }

// parseSub cuts the text of Fn::Sub at its variables. A "${" without "}" is constant text.
func parseSub(text string) []subPart {
	var parts []subPart
	for text != "" {
		before, rest, found := strings.Cut(text, "${")
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return append(parts, subPart{text: text})
		}
		if before != "" {
			parts = append(parts, subPart{text: before})
		}
		switch {
		case strings.HasPrefix(name, "!"):
			parts = append(parts, subPart{text: "${" + name[1:] + "}"})
		case strings.TrimSpace(name) == "":
			parts = append(parts, subPart{text: "${" + name + "}"})
		default:
			parts = append(parts, subPart{name: strings.TrimSpace(name)})
		}
		text = after
	}
	return parts
}

// pointer is a JSON pointer (RFC 6901) under construction. A step down costs the same however long the names above it
// are: the text is made when it is needed. The zero pointer is the whole document.
type pointer struct{ last *step }

// step is one step down in a pointer: a member, an element, or, at the top, a pointer that is text already.
type step struct {
	up   *step
	kind stepKind
	text string // a member's name, or the text
	n    int    // an element's index
}

type stepKind byte

const (
	stepMember stepKind = iota
	stepElement
	stepText
)

func pointerTo(text string) pointer {
	if text == "" {
		return pointer{}
	}
	return pointer{&step{kind: stepText, text: text}}
}

func (p pointer) child(key string) pointer { return pointer{&step{p.last, stepMember, key, 0}} }
func (p pointer) index(i int) pointer      { return pointer{&step{p.last, stepElement, "", i}} }

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// String returns the pointer's text.
func (p pointer) String() string {
	var steps []*step
	for s := p.last; s != nil; s = s.up {
		steps = append(steps, s)
	}
	var b strings.Builder
	for _, s := range slices.Backward(steps) {
		switch s.kind {
		case stepMember:
			b.WriteString("/" + pointerEscaper.Replace(s.text))
		case stepElement:
			b.WriteString("/" + strconv.Itoa(s.n))
		case stepText:
			b.WriteString(s.text)
		}
	}
	return b.String()
}

// name is the last member's name, or the index.
func (p pointer) name() string {
	switch {
	case p.last == nil:
		return ""
	case p.last.kind == stepElement:
		return strconv.Itoa(p.last.n)
	}
	return p.last.text
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
