package restjson

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Shape is what the API model demands of a string or a number.
type Shape struct {
	Min, Max int               // characters of a string, or the range of a number; Max 0 is no limit
	Pattern  string            // of a string, as published; "" for any
	Match    func(string) bool // reports whether a string has the pattern
	Enum     []string          // the values there are; nil for any
}

// Checker gathers the constraints that a request breaks, in AWS's words. Its zero value is ready.
type Checker struct {
	failures []string
	empty    Empty
}

// Check holds an input against the constraints of its members. A string that is "" was left out unless it is in empty.
// The result is AWS's message, "" when every constraint is kept.
func (o *Operation) Check(in any, empty Empty) string {
	c := Checker{empty: empty}
	v := reflect.ValueOf(in).Elem()
	for i := range o.checked {
		f := &o.checked[i]
		c.field(f, v.FieldByIndex(f.index), lowerFirst(f.name))
	}
	return c.Message()
}

// field checks one member and what is inside it.
func (c *Checker) field(f *field, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		c.text(path, v.String(), f.shape, f.required)
	case reflect.Pointer:
		switch {
		case v.IsNil() && f.required:
			c.absent(path)
		case v.IsNil():
		case v.Elem().Kind() == reflect.Struct:
			c.within(f, v.Elem(), path)
		case f.shape != nil && v.Elem().CanInt():
			c.number(path, v.Elem().Int(), f.shape)
		}
	case reflect.Struct:
		c.within(f, v, path)
	case reflect.Slice:
		if v.IsNil() && f.required {
			c.absent(path)
		}
		if f.shape != nil {
			c.items(path, v, f.shape)
		}
		if len(f.within) > 0 {
			for i := range v.Len() {
				c.within(f, v.Index(i), itemPath(path, i))
			}
		}
	case reflect.Map:
		if m, ok := v.Interface().(map[string]string); ok && f.shape != nil {
			c.Map(path, m, *f.key, *f.shape)
		}
	}
}

func (c *Checker) within(f *field, v reflect.Value, path string) {
	for i := range f.within {
		inner := &f.within[i]
		c.field(inner, v.FieldByIndex(inner.index), path+"."+lowerFirst(inner.name))
	}
}

func (c *Checker) fail(value, member, constraint string) {
	c.failures = append(c.failures, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", value, member, constraint))
}

func (c *Checker) absent(member string) { c.fail("null", member, "Member must not be null") }

// Need demands that a string is present and has the given shape.
func (c *Checker) Need(member, value string, s Shape) { c.text(member, value, &s, true) }

// May demands the shape of a string that can be left out.
func (c *Checker) May(member, value string, s Shape) { c.text(member, value, &s, false) }

func (c *Checker) text(member, value string, s *Shape, required bool) {
	if value == "" && !c.empty[member] {
		if required {
			c.absent(member)
		}
		return
	}
	if s == nil {
		return
	}
	for _, constraint := range s.broken(value) {
		c.fail("'"+Cut(value)+"'", member, constraint)
	}
}

func (c *Checker) number(member string, n int64, s *Shape) {
	value := "'" + strconv.FormatInt(n, 10) + "'"
	if n < int64(s.Min) {
		c.fail(value, member, "Member must have value greater than or equal to "+strconv.Itoa(s.Min))
	}
	if n > int64(s.Max) {
		c.fail(value, member, "Member must have value less than or equal to "+strconv.Itoa(s.Max))
	}
}

// items demands the shape of each string of a list, which AWS words as one failure of the list.
func (c *Checker) items(member string, list reflect.Value, s *Shape) {
	items := make([]string, list.Len())
	for i := range items {
		items[i] = list.Index(i).String()
	}
	if slices.ContainsFunc(items, func(item string) bool { return len(s.broken(item)) > 0 }) {
		c.fail("'"+Cut("["+strings.Join(items, ", ")+"]")+"'", member, "Member must satisfy constraint: "+s.all())
	}
}

// Map demands the shapes of a map's keys and values. AWS words the two differently from other members.
func (c *Checker) Map(member string, m map[string]string, key, value Shape) {
	for k := range m {
		if len(key.broken(k)) > 0 {
			c.fail("'"+Cut(formatMap(m))+"'", member, "Map keys must satisfy constraint: "+key.all())
			break
		}
	}
	for _, v := range m {
		if len(value.broken(v)) > 0 {
			c.fail("'"+Cut(formatMap(m))+"'", member, "Map value must satisfy constraint: "+value.all())
			break
		}
	}
}

// Message is AWS's message about everything that was wrong; "" if nothing was.
func (c *Checker) Message() string {
	switch n := len(c.failures); n {
	case 0:
		return ""
	case 1:
		return "1 validation error detected: " + c.failures[0]
	default:
		return fmt.Sprintf("%d validation errors detected: %s", n, strings.Join(c.failures, "; "))
	}
}

// broken lists the constraints of its shape that a string breaks, in AWS's words and order.
func (s *Shape) broken(value string) []string {
	var out []string
	if s.Enum != nil && !slices.Contains(s.Enum, value) {
		out = append(out, "Member must satisfy enum value set: ["+strings.Join(s.Enum, ", ")+"]")
	}
	if s.Match != nil && !s.Match(value) {
		out = append(out, "Member must satisfy regular expression pattern: "+s.Pattern)
	}
	n := len(value)
	if s.Max > 0 && n > s.Max || n < s.Min {
		n = utf8.RuneCountInString(value)
	}
	if n < s.Min {
		out = append(out, "Member must have length greater than or equal to "+strconv.Itoa(s.Min))
	}
	if s.Max > 0 && n > s.Max {
		out = append(out, "Member must have length less than or equal to "+strconv.Itoa(s.Max))
	}
	return out
}

// all lists every constraint of a shape, kept or not, as AWS does for the parts of a map or a list.
func (s *Shape) all() string {
	var out []string
	if s.Max > 0 {
		out = append(out, "Member must have length less than or equal to "+strconv.Itoa(s.Max),
			"Member must have length greater than or equal to "+strconv.Itoa(s.Min))
	}
	if s.Pattern != "" {
		out = append(out, "Member must satisfy regular expression pattern: "+s.Pattern)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// formatMap writes a map as AWS's messages do.
func formatMap(m map[string]string) string {
	pairs := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, k+"="+m[k])
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// Cut keeps an error message short when the value in it is not: it ends a value at 256 bytes.
func Cut(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
