package restjson

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
)

// Place is where a member stands in a request.
type Place string

// The places of members.
const (
	Path   Place = "path"
	Query  Place = "query"
	Header Place = "header"
	Body   Place = "json"
)

// Member is a member of an operation's input.
type Member struct {
	Name  string // in the API model, and in a JSON body
	Wire  string // in the path, the query or the headers
	Place Place
	// Required members must be present.
	Required bool

	field field
}

// Operation is one operation of a service. It does not change.
type Operation struct {
	Name    string
	Method  string
	Path    string // such as /things/{thingName}
	Members []Member

	input    reflect.Type
	segments []string // of the path
	checked  []field  // the members that have constraints
}

// New makes an operation from its name, its method and path ("POST /things/{thingName}"), its input struct and the
// shapes that the struct's tags name. It panics when they contradict each other, since that is a slip in the program.
func New(name, request string, input reflect.Type, shapes map[string]Shape) *Operation {
	method, path, ok := strings.Cut(request, " ")
	if !ok || !strings.HasPrefix(path, "/") {
		panic(fmt.Sprintf("restjson: %s: %q is not a method and a path", name, request))
	}
	o := &Operation{Name: name, Method: method, Path: path, input: input, segments: strings.Split(path[1:], "/")}
	for _, f := range fieldsOf(input, shapes) {
		o.Members = append(o.Members, Member{f.name, f.wire, f.place, f.required, f})
		if f.constrained() {
			o.checked = append(o.checked, f)
		}
	}
	for _, s := range o.segments {
		if wire, ok := labelOf(s); ok && o.memberAt(Path, wire) == nil {
			panic(fmt.Sprintf("restjson: %s: no member of the input is the label %s", name, s))
		}
	}
	for _, m := range o.Members {
		if m.Place == Path && !strings.Contains(path, "{"+m.Wire+"}") {
			panic(fmt.Sprintf("restjson: %s: the path has no label {%s}", name, m.Wire))
		}
	}
	return o
}

func (o *Operation) memberAt(place Place, wire string) *Member {
	for i := range o.Members {
		if m := &o.Members[i]; m.Place == place && m.Wire == wire {
			return m
		}
	}
	return nil
}

// Member returns the field of an input that holds a member, and false when the operation has none of that name.
func (o *Operation) Member(in any, name string) (reflect.Value, bool) {
	for i := range o.Members {
		if o.Members[i].Name == name {
			return reflect.ValueOf(in).Elem().FieldByIndex(o.Members[i].field.index), true
		}
	}
	return reflect.Value{}, false
}

// NewInput returns an input with every member absent.
func (o *Operation) NewInput() any { return reflect.New(o.input).Interface() }

// field is what the tags of a struct field state.
type field struct {
	name     string // of the member
	wire     string
	place    Place
	index    []int
	required bool
	shape    *Shape // of the value, of a list's items, of a map's values
	key      *Shape // of a map's keys
	within   []field
}

func (f *field) constrained() bool {
	if f.required || f.shape != nil || f.key != nil {
		return true
	}
	for i := range f.within {
		if f.within[i].constrained() {
			return true
		}
	}
	return false
}

// fieldsOf reads the tags of a struct, those of embedded structs included.
func fieldsOf(t reflect.Type, shapes map[string]Shape) []field {
	var out []field
	for _, sf := range reflect.VisibleFields(t) {
		if sf.Anonymous {
			continue
		}
		f, ok := read(sf)
		if !ok {
			panic(fmt.Sprintf("restjson: the field %s of %s has none of the tags path, query, header and json", sf.Name, t))
		}
		if names := sf.Tag.Get("is"); names != "" {
			if key, value, isMap := strings.Cut(names, ","); isMap {
				f.key, names = shapeNamed(shapes, key), value
			}
			f.shape = shapeNamed(shapes, names)
		}
		elem := sf.Type
		for elem.Kind() == reflect.Pointer || elem.Kind() == reflect.Slice {
			elem = elem.Elem()
		}
		if elem.Kind() == reflect.Struct {
			f.within = fieldsOf(elem, shapes)
		}
		out = append(out, f)
	}
	return out
}

func shapeNamed(shapes map[string]Shape, name string) *Shape {
	s, ok := shapes[name]
	if !ok {
		panic(fmt.Sprintf("restjson: there is no shape %q", name))
	}
	return &s
}

// read reads the place and the names of a field.
func read(sf reflect.StructField) (field, bool) {
	for _, place := range []Place{Path, Query, Header, Body} {
		tag, ok := sf.Tag.Lookup(string(place))
		if !ok {
			continue
		}
		if place == Body {
			tag, _, _ = strings.Cut(tag, ",")
		}
		name, wire, other := strings.Cut(tag, "=")
		if !other {
			wire = name
		}
		if place == Header {
			wire = http.CanonicalHeaderKey(wire)
		}
		return field{
			name: name, wire: wire, place: place, index: sf.Index,
			required: place == Path || sf.Tag.Get("required") == "true",
		}, true
	}
	return field{}, false
}

func labelOf(segment string) (string, bool) {
	if len(segment) > 2 && segment[0] == '{' {
		return segment[1 : len(segment)-1], true
	}
	return "", false
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
