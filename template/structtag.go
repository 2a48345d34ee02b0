package template

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// ParametersOf returns the parameters that a device described by the struct type T has, so that one Go type makes both
// the template's parameters and, with [RowOf], its rows:
//
//	type Device struct {
//		ThingName string
//		Serial    string `iot:"SerialNumber"`
//		Location  string `iot:",default=WA"`
//		Batch     int    `iot:"-"`
//	}
//
// A parameter is named after its field, or by the first part of the field's iot tag; "-" leaves the field out. Parts
// after a comma are options: omitempty leaves a zero value out of the row; default=… declares a Default, which is used
// when the field is zero, and takes the rest of the tag. Pointers that are nil are left out of the row; use one where
// an empty value has to be told from none. Embedded structs count as if their fields stood in T.
//
// Fields are strings, booleans, numbers, types with a MarshalText method, and pointers to those. Others are an error,
// as are two fields of one name and unknown options. T must be a struct or a pointer to one.
func ParametersOf[T any]() (Parameters, error) {
	fields, err := fieldsOf(reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	params := make(Parameters, len(fields))
	for _, f := range fields {
		p := Parameter{}
		if f.hasDefault {
			p.Default = Literal(f.def)
		}
		params[f.name] = p
	}
	return params, nil
}

// RowOf returns the row of one device: the values of its fields by the names that [ParametersOf] returns. Numbers are
// written in decimal, booleans as true and false.
func RowOf[T any](device T) (map[string]string, error) {
	fields, err := fieldsOf(reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	v := reflect.ValueOf(device)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil, fmt.Errorf("template: the %v is nil", v.Type())
		}
		v = v.Elem()
	}
	row := make(map[string]string, len(fields))
	for _, f := range fields {
		field, ok := reach(v, f.index)
		if !ok || (f.omitEmpty || f.hasDefault) && !f.pointer && field.IsZero() {
			continue
		}
		if row[f.name], err = textOf(field); err != nil {
			return nil, fmt.Errorf("template: field %s of %v: %w", f.path, v.Type(), err)
		}
	}
	return row, nil
}

// structField is a field of a device's struct.
type structField struct {
	name, path, def       string
	index                 []int
	hasDefault, omitEmpty bool
	pointer               bool // what a pointer holds is given, zero or not
}

func fieldsOf(t reflect.Type) ([]structField, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("template: %v is not a struct", t)
	}
	var fields []structField
	byName := map[string]string{}
	// types on the way down guard against a struct that embeds a pointer to itself.
	var walk func(t reflect.Type, index []int, path string, above []reflect.Type) error
	walk = func(t reflect.Type, index []int, path string, above []reflect.Type) error {
		for i := range t.NumField() {
			sf := t.Field(i)
			at := append(append([]int(nil), index...), i)
			name := path + sf.Name
			f, skip, err := tagOf(sf)
			switch {
			case err != nil:
				return fmt.Errorf("template: field %s of %v: %w", name, t, err)
			case skip:
				continue
			}
			inner := sf.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if sf.Anonymous && inner.Kind() == reflect.Struct && !isText(inner) && sf.Tag.Get("iot") == "" {
				if slices.Contains(above, inner) {
					return fmt.Errorf("template: field %s of %v embeds itself", name, t)
				}
				if !sf.IsExported() && sf.Type.Kind() == reflect.Pointer {
					return fmt.Errorf("template: field %s of %v: an embedded pointer to an unexported type cannot be read", name, t)
				}
				if err := walk(inner, at, name+".", append(above, inner)); err != nil {
					return err
				}
				continue
			}
			if !sf.IsExported() {
				if sf.Tag.Get("iot") != "" {
					return fmt.Errorf("template: field %s of %v has a tag but is not exported", name, t)
				}
				continue
			}
			if !supported(inner) {
				return fmt.Errorf("template: field %s of %v is a %v, which is no value of a row: use a string, a number, a boolean "+
					"or a type with MarshalText, or leave the field out with `iot:\"-\"`", name, t, sf.Type)
			}
			if other, taken := byName[f.name]; taken {
				return fmt.Errorf("template: fields %s and %s of %v are both named %q", other, name, t, f.name)
			}
			byName[f.name] = name
			f.index, f.path, f.pointer = at, name, sf.Type.Kind() == reflect.Pointer
			fields = append(fields, f)
		}
		return nil
	}
	if err := walk(t, nil, "", []reflect.Type{t}); err != nil {
		return nil, err
	}
	return fields, nil
}

func tagOf(sf reflect.StructField) (f structField, skip bool, err error) {
	tag := sf.Tag.Get("iot")
	if tag == "-" {
		return f, true, nil
	}
	name, options, more := strings.Cut(tag, ",")
	if f.name = name; name == "" {
		f.name = sf.Name
	}
	for more {
		if f.def, f.hasDefault = strings.CutPrefix(options, "default="); f.hasDefault {
			return f, false, nil
		}
		f.def = ""
		var option string
		switch option, options, more = strings.Cut(options, ","); option {
		case "omitempty":
			f.omitEmpty = true
		default:
			return f, false, fmt.Errorf("the iot tag has an unknown option %q: there are omitempty and default=…", option)
		}
	}
	return f, false, nil
}

// reach follows an index through embedded pointers; ok is false when one of them, or the field itself, is nil.
func reach(v reflect.Value, index []int) (field reflect.Value, ok bool) {
	for _, i := range index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, false
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return v, false
		}
		return v.Elem(), true
	}
	return v, true
}

var textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()

func isText(t reflect.Type) bool {
	return t.Implements(textMarshaler) || reflect.PointerTo(t).Implements(textMarshaler)
}

func supported(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	}
	return t.Kind() != reflect.Interface && isText(t)
}

func textOf(v reflect.Value) (string, error) {
	if isText(v.Type()) {
		if !v.Type().Implements(textMarshaler) && !v.CanAddr() {
			p := reflect.New(v.Type())
			p.Elem().Set(v)
			v = p.Elem()
		}
		if !v.Type().Implements(textMarshaler) {
			v = v.Addr()
		}
		if !v.CanInterface() {
			return "", fmt.Errorf("%v cannot be read", v.Type())
		}
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return string(text), err
	}
	switch v.Kind() {
	case reflect.String:
		return v.String(), nil
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10), nil
	}
	return strconv.FormatFloat(v.Float(), 'f', -1, v.Type().Bits()), nil
}
