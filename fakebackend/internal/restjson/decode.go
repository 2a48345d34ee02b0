package restjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
)

// Request is what a client sent for an operation that a [Router] found.
type Request struct {
	Labels map[string]string
	Query  url.Values
	Header http.Header
	Body   []byte
}

// Empty is a set of string members that are present and empty, by their paths in AWS's messages, such as thingName or
// tags.1.member.key.
type Empty map[string]bool

// DecodeError is a request that does not have the form of the operation's input. AWS answers it before it looks at any
// constraint.
type DecodeError struct{ Message string }

// Error returns the message.
func (e *DecodeError) Error() string { return e.Message }

func malformed(format string, args ...any) error { return &DecodeError{fmt.Sprintf(format, args...)} }

// Decode reads the input of an operation from a request: a pointer to the input struct, and the members that are
// present and empty. Member names count as they are written: another case is another member. Members that the input
// does not have, or has in another place, are ignored, as AWS ignores them. An error is a [*DecodeError].
func (o *Operation) Decode(r Request) (in any, empty Empty, err error) {
	v, empty := reflect.New(o.input), Empty{}
	object, err := readObject(r.Body)
	if err != nil {
		return nil, nil, err
	}
	for i := range o.Members {
		m := &o.Members[i]
		to := v.Elem().FieldByIndex(m.field.index)
		var value string
		var ok bool
		switch m.Place {
		case Body:
			if err := assign(to, object[m.Name], &m.field, lowerFirst(m.Name), empty); err != nil {
				return nil, nil, err
			}
			continue
		case Path:
			value, ok = r.Labels[m.Wire]
		case Query:
			value, ok = r.Query.Get(m.Wire), r.Query.Has(m.Wire)
		case Header:
			value = r.Header.Get(m.Wire)
			ok = value != ""
		}
		if !ok {
			continue
		}
		if value == "" {
			empty[m.Name] = true
		}
		if err := setText(to, m.Name, value); err != nil {
			return nil, nil, err
		}
	}
	return v.Interface(), empty, nil
}

// readObject reads a body; one that is blank is an object without members.
func readObject(body []byte) (map[string]any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, malformed("The request body is not JSON: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, malformed("The request body goes on after its JSON value")
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, malformed("The request body must be a JSON object")
	}
	return object, nil
}

// assign puts a JSON value into a Go value, and the path of every empty string into empty. null leaves a member absent.
func assign(to reflect.Value, from any, f *field, path string, empty Empty) error {
	if from == nil {
		return nil
	}
	wrong := func(want string) error {
		return malformed("The member %q must be %s, not %s", path, want, kindOfJSON(from))
	}
	switch to.Kind() {
	case reflect.Pointer:
		to.Set(reflect.New(to.Type().Elem()))
		return assign(to.Elem(), from, f, path, empty)
	case reflect.String:
		s, ok := from.(string)
		if !ok {
			return wrong("a string")
		}
		if s == "" {
			empty[path] = true
		}
		to.SetString(s)
	case reflect.Bool:
		b, ok := from.(bool)
		if !ok {
			return wrong("a boolean")
		}
		to.SetBool(b)
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, ok := from.(json.Number)
		if !ok {
			return wrong("a whole number")
		}
		i, err := strconv.ParseInt(n.String(), 10, to.Type().Bits())
		if err != nil {
			return wrong("a whole number")
		}
		to.SetInt(i)
	case reflect.Slice:
		list, ok := from.([]any)
		if !ok {
			return wrong("a list")
		}
		to.Set(reflect.MakeSlice(to.Type(), len(list), len(list)))
		for i, item := range list {
			if err := assign(to.Index(i), item, f, itemPath(path, i), empty); err != nil {
				return err
			}
		}
	case reflect.Map:
		object, ok := from.(map[string]any)
		if !ok {
			return wrong("an object")
		}
		to.Set(reflect.MakeMapWithSize(to.Type(), len(object)))
		for key, item := range object {
			value := reflect.New(to.Type().Elem()).Elem()
			if err := assign(value, item, f, path+"."+key, empty); err != nil {
				return err
			}
			to.SetMapIndex(reflect.ValueOf(key), value)
		}
	case reflect.Struct:
		object, ok := from.(map[string]any)
		if !ok {
			return wrong("an object")
		}
		for i := range f.within {
			inner := &f.within[i]
			if err := assign(to.FieldByIndex(inner.index), object[inner.name], inner, path+"."+lowerFirst(inner.name), empty); err != nil {
				return err
			}
		}
	default:
		return wrong("something else")
	}
	return nil
}

// itemPath is the path of a list's item, counted from 1, in AWS's messages.
func itemPath(list string, i int) string { return list + "." + strconv.Itoa(i+1) + ".member" }

func kindOfJSON(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case []any:
		return "a list"
	}
	return "an object"
}

// setText puts the text of a path, query or header member into its field.
func setText(to reflect.Value, name, value string) error {
	if to.Kind() == reflect.Pointer {
		to.Set(reflect.New(to.Type().Elem()))
		to = to.Elem()
	}
	switch to.Kind() {
	case reflect.Bool:
		if value != "true" && value != "false" {
			return malformed("The member %q must be true or false, not %q", name, value)
		}
		to.SetBool(value == "true")
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(value, 10, to.Type().Bits())
		if err != nil {
			return malformed("The member %q must be a whole number, not %q", name, value)
		}
		to.SetInt(n)
	default:
		to.SetString(value)
	}
	return nil
}
