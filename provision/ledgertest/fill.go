package ledgertest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// leaf is a field of a record, or of a struct within it, that holds a value.
type leaf struct {
	name  string
	index []int
}

// leaves lists the fields of a record's type, so that a field added to it later is tried without anybody thinking of it.
func leaves(t reflect.Type) []leaf {
	var list []leaf
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous || !f.IsExported() {
			continue
		}
		if f.Type.Kind() != reflect.Struct || f.Type == reflect.TypeFor[time.Time]() {
			list = append(list, leaf{f.Name, f.Index})
			continue
		}
		for _, in := range leaves(f.Type) {
			list = append(list, leaf{f.Name + "." + in.name, slices.Concat(f.Index, in.index)})
		}
	}
	return list
}

// filled makes a record with all of its leaves filled, each with a value of its own for each n.
func filled[R any](n int) *R {
	r := new(R)
	for i, f := range leaves(reflect.TypeFor[R]()) {
		fill(reflect.ValueOf(r).Elem().FieldByIndex(f.index), f.name, n*100+i+1)
	}
	return r
}

// fill gives a field a value that is not zero.
func fill(v reflect.Value, name string, n int) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		// Nanoseconds, and not in UTC: an instant must come back as the same instant.
		v.Set(reflect.ValueOf(time.Date(2026, 11, 23, 8, 15, n, 987654321, time.FixedZone("", 3600))))
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprintf("%s-%d", name, n))
	case v.CanInt():
		v.SetInt(int64(n))
	case v.CanUint():
		v.SetUint(uint64(n))
	case v.CanFloat():
		v.SetFloat(float64(n) + 0.25)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), name, n)
		fill(v.Index(1), name, n+1)
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, name+"-key", n+i)
			fill(value, name+"-value", n+i)
			v.SetMapIndex(key, value)
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name, n)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), v.Type().Field(i).Name, n)
		}
	default:
		panic(fmt.Sprintf("ledgertest cannot fill field %s of type %s: teach it in fill.go", name, v.Type()))
	}
}

// device makes a record as a run would.
func device(seq int64, change func(*provision.DeviceRecord)) *provision.DeviceRecord {
	d := new(provision.DeviceRecord)
	d.Seq, d.Name, d.Verdict = seq, fmt.Sprintf("device-%d", seq), provision.Waiting
	d.Row = map[string]string{"ThingName": d.Name, "SerialNumber": fmt.Sprintf("%06d", seq)}
	if change != nil {
		change(d)
	}
	return d
}

// devices makes records from one Seq up to and including another.
func devices(from, to int64, change func(*provision.DeviceRecord)) []*provision.DeviceRecord {
	var list []*provision.DeviceRecord
	for seq := from; seq <= to; seq++ {
		list = append(list, device(seq, change))
	}
	return list
}

// diff returns where two values differ first, or "".
func diff(want, got any) string { return diffValue("", reflect.ValueOf(want), reflect.ValueOf(got)) }

func diffValue(path string, want, got reflect.Value) string {
	at := strings.TrimPrefix(path, ".")
	if at != "" {
		at += ": "
	}
	if !want.IsValid() || !got.IsValid() || want.Type() != got.Type() {
		return fmt.Sprintf("%swant %v, got %v", at, want, got)
	}
	if w, ok := want.Interface().(time.Time); ok {
		if g := got.Interface().(time.Time); !w.Equal(g) || w.IsZero() != g.IsZero() {
			return fmt.Sprintf("%swant %s, got %s", at, w.Format(time.RFC3339Nano), g.Format(time.RFC3339Nano))
		}
		return ""
	}
	switch want.Kind() {
	case reflect.Pointer:
		if want.IsNil() != got.IsNil() {
			return fmt.Sprintf("%swant nil: %t, got nil: %t", at, want.IsNil(), got.IsNil())
		}
		if want.IsNil() {
			return ""
		}
		return diffValue(path, want.Elem(), got.Elem())
	case reflect.Struct:
		for i := range want.NumField() {
			if d := diffValue(path+"."+want.Type().Field(i).Name, want.Field(i), got.Field(i)); d != "" {
				return d
			}
		}
		return ""
	case reflect.Slice:
		for i := range min(want.Len(), got.Len()) {
			if d := diffValue(fmt.Sprintf("%s[%d]", path, i), want.Index(i), got.Index(i)); d != "" {
				return d
			}
		}
		if want.Len() != got.Len() {
			return fmt.Sprintf("%swant %d items, got %d", at, want.Len(), got.Len())
		}
		return ""
	case reflect.Map:
		for _, k := range want.MapKeys() {
			g := got.MapIndex(k)
			if !g.IsValid() {
				return fmt.Sprintf("%s%s is missing", at, clip(k))
			}
			if d := diffValue(fmt.Sprintf("%s[%s]", path, clip(k)), want.MapIndex(k), g); d != "" {
				return d
			}
		}
		for _, k := range got.MapKeys() {
			if !want.MapIndex(k).IsValid() {
				return fmt.Sprintf("%s%s should not be there", at, clip(k))
			}
		}
		return ""
	}
	if !want.Equal(got) {
		return fmt.Sprintf("%swant %s, got %s", at, clip(want), clip(got))
	}
	return ""
}

// clip shows a value, but not a whole megabyte of it.
func clip(v reflect.Value) string {
	s := fmt.Sprintf("%#v", v.Interface())
	if len(s) > 120 {
		return fmt.Sprintf("%s… (%d characters)", s[:120], len(s))
	}
	return s
}
