package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Body returns the template as the string AWS takes for templateBody: compact JSON, the same for the same template. It
// fails when that is longer than the 10,240 characters AWS takes, and when a value cannot be written, naming its place.
func (t *Template) Body() (string, error) {
	b, err := t.MarshalJSON()
	if err != nil {
		return "", err
	}
	if n := utf8.RuneCount(b); n > rule.TemplateBody {
		return "", fmt.Errorf("template: the body is %d characters long, AWS allows %d: shorten policy documents or "+
			"attach an existing policy by PolicyName", n, rule.TemplateBody)
	}
	return string(b), nil
}

// MarshalJSON writes the template in AWS's form, whatever its length. What [Parse] read comes back with the same
// meaning, members that AWS does not document included.
func (t Template) MarshalJSON() ([]byte, error) {
	w := &writer{}
	w.open('{')
	if t.Parameters != nil {
		w.key("Parameters")
		w.parameters(t.Parameters, pointerTo("/Parameters"))
	}
	if t.Mappings != nil {
		w.key("Mappings")
		w.mappings(t.Mappings, pointerTo("/Mappings"))
	}
	if t.Resources != nil {
		w.key("Resources")
		w.open('{')
		for _, name := range sortedKeys(t.Resources) {
			w.key(name)
			w.resource(t.Resources[name], pointerTo("/Resources").child(name))
		}
		w.close('}')
	}
	if t.DeviceConfiguration != nil {
		w.key("DeviceConfiguration")
		w.value(t.DeviceConfiguration, pointerTo("/DeviceConfiguration"))
	}
	w.extra(t.Extra, pointer{}, func(name string) bool {
		return name == "Parameters" && t.Parameters != nil || name == "Mappings" && t.Mappings != nil ||
			name == "Resources" && t.Resources != nil || name == "DeviceConfiguration" && t.DeviceConfiguration != nil
	})
	w.close('}')
	if w.err != nil {
		return nil, w.err
	}
	return w.b.Bytes(), nil
}

// UnmarshalJSON is [Parse] for a template inside a larger document.
func (t *Template) UnmarshalJSON(data []byte) error {
	parsed, err := Parse(data)
	if err != nil {
		return err
	}
	*t = *parsed
	return nil
}

// writer writes compact JSON. Its error sticks.
type writer struct {
	b     bytes.Buffer
	comma bool
	err   error
}

func (w *writer) open(c byte)  { w.item(); w.b.WriteByte(c); w.comma = false }
func (w *writer) close(c byte) { w.b.WriteByte(c); w.comma = true }

func (w *writer) item() {
	if w.comma {
		w.b.WriteByte(',')
	}
	w.comma = true
}

func (w *writer) key(name string) { w.string(name); w.b.WriteByte(':'); w.comma = false }

func (w *writer) string(s string) { w.item(); w.b.WriteString(quote(s)) }

func (w *writer) fail(at pointer, format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("template: %s: %s", at, fmt.Sprintf(format, args...))
	}
}

// raw writes JSON text without its white space.
func (w *writer) raw(text []byte, at pointer) {
	w.item()
	before := w.b.Len()
	if err := json.Compact(&w.b, text); err != nil {
		w.b.Truncate(before)
		w.fail(at, "not JSON: %v", err)
	}
}

// quote writes a JSON string without the escaping that encoding/json does for HTML.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string cannot fail
	return strings.TrimSuffix(b.String(), "\n")
}

func (w *writer) value(v Value, at pointer) {
	switch v := v.(type) {
	case Literal:
		w.string(string(v))
	case Ref:
		w.open('{')
		w.key(fnRef)
		w.string(string(v))
		w.close('}')
	case Call:
		w.open('{')
		w.key(v.Function)
		w.value(v.Args, at.child(v.Function))
		w.close('}')
	case List:
		w.open('[')
		for i, e := range v {
			w.value(e, at.index(i))
		}
		w.close(']')
	case Object:
		w.open('{')
		for _, k := range sortedKeys(v) {
			w.key(k)
			w.value(v[k], at.child(k))
		}
		w.close('}')
	case JSON:
		w.raw([]byte(v), at)
	default:
		w.string("")
		w.fail(at, "no value (nil)")
	}
}

// extra writes undocumented members. One that a documented member has taken the place of is left out.
func (w *writer) extra(x Extra, at pointer, taken func(string) bool) {
	for _, name := range sortedKeys(x) {
		if !taken(name) {
			w.key(name)
			w.raw(x[name], at.child(name))
		}
	}
}

func (w *writer) parameters(ps Parameters, at pointer) {
	w.open('{')
	for _, name := range sortedKeys(ps) {
		p := ps[name]
		w.key(name)
		w.open('{')
		hasType := !p.untyped || p.Type != ""
		if hasType {
			w.key("Type")
			w.string(p.typeName())
		}
		if p.Default != nil {
			w.key("Default")
			w.value(p.Default, at.child(name).child("Default"))
		}
		w.extra(p.Extra, at.child(name), func(n string) bool {
			return n == "Type" && hasType || n == "Default" && p.Default != nil
		})
		w.close('}')
	}
	w.close('}')
}

func (p Parameter) typeName() string {
	if p.Type == "" {
		return "String"
	}
	return p.Type
}

func (w *writer) mappings(m Mappings, at pointer) {
	w.open('{')
	for _, table := range sortedKeys(m) {
		w.key(table)
		w.open('{')
		for _, k1 := range sortedKeys(m[table]) {
			w.key(k1)
			w.open('{')
			for _, k2 := range sortedKeys(m[table][k1]) {
				w.key(k2)
				w.value(m[table][k1][k2], at.child(table).child(k1).child(k2))
			}
			w.close('}')
		}
		w.close('}')
	}
	w.close('}')
}

func (w *writer) resource(r Resource, at pointer) {
	typ, props := properties(r)
	if typ == "" {
		w.string("")
		w.fail(at, "no resource (nil)")
		return
	}
	w.open('{')
	w.key("Type")
	w.string(typ)
	w.key("Properties")
	w.open('{')
	inside := map[string]bool{}
	for _, p := range props {
		inside[p.name] = true
		w.key(p.name)
		w.value(p.value, at.child("Properties").child(p.name))
	}
	extraProperties, beside := extras(r)
	w.extra(extraProperties, at.child("Properties"), func(n string) bool { return inside[n] })
	w.close('}')
	taken := map[string]bool{"Type": true, "Properties": true}
	if settings, x, present := overrides(r); present {
		taken["OverrideSettings"] = true
		at := at.child("OverrideSettings")
		w.key("OverrideSettings")
		w.open('{')
		set := map[string]bool{}
		for _, s := range settings {
			if s.value != "" {
				set[s.name] = true
				w.key(s.name)
				w.string(string(s.value))
			}
		}
		w.extra(x, at, func(n string) bool { return set[n] })
		w.close('}')
	}
	w.extra(beside, at, func(n string) bool { return taken[n] })
	w.close('}')
}

// override is one of a resource's OverrideSettings.
type override struct {
	name  string
	value Override
	merge bool // MERGE is allowed
}

func overrides(r Resource) (settings []override, x Extra, present bool) {
	switch r := normal(r).(type) {
	case Thing:
		o := r.OverrideSettings
		settings = []override{
			{"AttributePayload", o.AttributePayload, true}, {"ThingTypeName", o.ThingTypeName, false},
			{"ThingGroups", o.ThingGroups, true},
		}
		x = o.Extra
	case Certificate:
		settings = []override{{"Status", r.OverrideSettings.Status, false}}
		x = r.OverrideSettings.Extra
	}
	for _, s := range settings {
		present = present || s.value != ""
	}
	return settings, x, present || x != nil
}
