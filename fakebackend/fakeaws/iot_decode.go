package fakeaws

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/given"
)

// decodeError is a request that does not fit the operation's shape at all, which AWS answers before it looks at any
// constraint.
type decodeError struct{ message string }

func (e *decodeError) Error() string { return e.message }

func decodeFailure(format string, args ...any) error {
	return &decodeError{fmt.Sprintf(format, args...)}
}

// decodeIoT fills the input of an operation from a request. AWS's member names count as they are written, so, unlike
// encoding/json, another case is another (unknown) member. Unknown members are passed over, as AWS does. It also says
// which string members were there and empty, since the input cannot.
func (r *iotRoute) decode(body []byte, labels map[string]string, q url.Values, h http.Header) (any, given.Empty, error) {
	in, empty := reflect.New(r.input), given.Empty{}
	if err := r.decodeBody(body, in.Elem(), empty); err != nil {
		return nil, nil, err
	}
	for _, m := range r.members {
		var value string
		var ok bool
		switch m.place {
		case inPath:
			value, ok = labels[m.wire]
		case inQuery:
			ok = q.Has(m.wire)
			value = q.Get(m.wire)
		case inHeader:
			value = h.Get(m.wire)
			ok = value != ""
		}
		if !ok {
			continue
		}
		if value == "" {
			empty[m.name] = true
		}
		if err := setText(in.Elem(), m.name, value); err != nil {
			return nil, nil, err
		}
	}
	return in.Interface(), empty, nil
}

func (r *iotRoute) decodeBody(body []byte, in reflect.Value, empty given.Empty) error {
	if len(strings.TrimSpace(string(body))) == 0 {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return decodeFailure("The request body is not JSON: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return decodeFailure("The request body goes on after its JSON value")
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return decodeFailure("The request body must be a JSON object")
	}
	for _, m := range r.members {
		delete(object, m.name) // what belongs in the path, the query or a header counts there only
	}
	return assign(in, object, "", empty)
}

// fieldsOf gives the fields of a struct by their JSON names.
func fieldsOf(t reflect.Type) map[string]int {
	out := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" && t.Field(i).IsExported() {
			out[name] = i
		}
	}
	return out
}

// assign puts a JSON value into a Go value, and the path of every empty string into empty. Paths have the form of AWS's
// messages, such as tags.1.member.key. null leaves a member absent.
func assign(to reflect.Value, from any, path string, empty given.Empty) error {
	if from == nil {
		return nil
	}
	wrong := func(want string) error {
		return decodeFailure("The member %q must be %s, not %s", path, want, kindOfJSON(from))
	}
	switch to.Kind() {
	case reflect.Pointer:
		to.Set(reflect.New(to.Type().Elem()))
		return assign(to.Elem(), from, path, empty)
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
			if err := assign(to.Index(i), item, fmt.Sprintf("%s.%d.member", path, i+1), empty); err != nil {
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
			if err := assign(value, item, path+"."+key, empty); err != nil {
				return err
			}
			to.SetMapIndex(reflect.ValueOf(key), value)
		}
	case reflect.Struct:
		object, ok := from.(map[string]any)
		if !ok {
			return wrong("an object")
		}
		fields := fieldsOf(to.Type())
		for name, item := range object {
			if i, ok := fields[name]; ok {
				if err := assign(to.Field(i), item, strings.TrimPrefix(path+"."+lowerFirst(name), "."), empty); err != nil {
					return err
				}
			}
		}
	default:
		return wrong("something else")
	}
	return nil
}

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

// setText puts the text of a path, query or header member into the input.
func setText(in reflect.Value, name, value string) error {
	i, ok := fieldsOf(in.Type())[name]
	if !ok {
		return nil
	}
	to := in.Field(i)
	if to.Kind() == reflect.Pointer {
		to.Set(reflect.New(to.Type().Elem()))
		to = to.Elem()
	}
	switch to.Kind() {
	case reflect.String:
		to.SetString(value)
	case reflect.Bool:
		switch value {
		case "true", "false":
			to.SetBool(value == "true")
		default:
			return decodeFailure("The member %q must be true or false, not %q", name, value)
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(value, 10, to.Type().Bits())
		if err != nil {
			return decodeFailure("The member %q must be a whole number, not %q", name, value)
		}
		to.SetInt(n)
	}
	return nil
}
