package restjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Object is an output whose members are not the fields of a struct.
type Object interface{ Members() map[string]any }

// Encode writes an operation's output as AWS's JSON: times as seconds since 1970 with their milliseconds as a fraction,
// absent members left out, no output as {}. The function replaces values that must not be written as they are; it
// reports false for all others. A [Secret] is written in the open: it is what the caller asked for.
func Encode(out any, replace func(v any) (text string, ok bool, err error)) ([]byte, error) {
	tree, err := encoder{replace}.plain(reflect.ValueOf(out))
	if err != nil {
		return nil, err
	}
	if tree == nil {
		tree = map[string]any{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

type encoder struct {
	replace func(v any) (string, bool, error)
}

// plain turns a value into maps, lists and scalars.
func (e encoder) plain(v reflect.Value) (any, error) {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, nil
	}
	if v.IsValid() && v.CanInterface() {
		switch value := v.Interface().(type) {
		case time.Time:
			return epochSeconds(value), nil
		case Secret:
			return value.Reveal(), nil
		case Object:
			return e.plain(reflect.ValueOf(value.Members()))
		}
		if text, ok, err := e.replace(v.Interface()); ok || err != nil {
			return text, err
		}
	}
	switch v.Kind() {
	case reflect.Invalid:
		return nil, nil
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil, nil
		}
		return e.plain(v.Elem())
	case reflect.Struct:
		out := map[string]any{}
		return out, e.members(v, out)
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			item, err := e.plain(v.Index(i))
			if err != nil {
				return nil, err
			}
			out[i] = item
		}
		return out, nil
	case reflect.Map:
		out := make(map[string]any, v.Len())
		for key, value := range v.Seq2() {
			item, err := e.plain(value)
			if err != nil {
				return nil, err
			}
			out[key.String()] = item
		}
		return out, nil
	}
	return v.Interface(), nil
}

// members writes the fields of a struct that have a json tag, those of embedded structs included.
func (e encoder) members(v reflect.Value, out map[string]any) error {
	for i := range v.NumField() {
		field := v.Field(i)
		if v.Type().Field(i).Anonymous {
			if err := e.members(field, out); err != nil {
				return err
			}
			continue
		}
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "" || name == "-" || strings.Contains(options, "omitempty") && isEmpty(field) {
			continue
		}
		if t, ok := field.Interface().(time.Time); ok && t.IsZero() {
			continue
		}
		item, err := e.plain(field)
		if err != nil {
			return err
		}
		if item != nil {
			out[name] = item
		}
	}
	return nil
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

// epochSeconds writes a time as AWS IoT does, such as 1511202602.898.
func epochSeconds(t time.Time) json.Number {
	text := strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return json.Number(text)
}
