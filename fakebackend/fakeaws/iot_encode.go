package fakeaws

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// encodeIoT writes an operation's output as AWS's JSON: timestamps as seconds since 1970 with their milliseconds as a
// fraction, absent members left out. Links and private keys, which redact themselves elsewhere, are what the caller asked
// for here; link gives the address a link is to have.
func encodeIoT(out any, link func(task.Link) (string, error)) ([]byte, error) {
	tree, err := plain(reflect.ValueOf(out), link)
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

// plain turns a value into maps, lists and scalars.
func plain(v reflect.Value, link func(task.Link) (string, error)) (any, error) {
	switch value := valueOf(v).(type) {
	case time.Time:
		return epochSeconds(value), nil
	case task.Link:
		return link(value)
	case fakebackend.KeyPair:
		return map[string]any{"PublicKey": value.PublicKey, "PrivateKey": value.PrivateKey()}, nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil, nil
		}
		return plain(v.Elem(), link)
	case reflect.Struct:
		out := map[string]any{}
		for i := range v.NumField() {
			name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if name == "" || name == "-" {
				continue
			}
			field := v.Field(i)
			if strings.Contains(options, "omitempty") && isEmpty(field) {
				continue
			}
			if t, ok := valueOf(field).(time.Time); ok && t.IsZero() {
				continue
			}
			item, err := plain(field, link)
			if err != nil {
				return nil, err
			}
			if item != nil {
				out[name] = item
			}
		}
		return out, nil
	case reflect.Slice:
		out := make([]any, v.Len())
		for i := range out {
			item, err := plain(v.Index(i), link)
			if err != nil {
				return nil, err
			}
			out[i] = item
		}
		return out, nil
	case reflect.Map:
		out := make(map[string]any, v.Len())
		for key, value := range v.Seq2() {
			item, err := plain(value, link)
			if err != nil {
				return nil, err
			}
			out[key.String()] = item
		}
		return out, nil
	}
	return valueOf(v), nil
}

func valueOf(v reflect.Value) any {
	if !v.IsValid() || !v.CanInterface() {
		return nil
	}
	return v.Interface()
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
	ms := t.UnixMilli()
	text := strconv.FormatFloat(float64(ms)/1000, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return json.Number(text)
}
