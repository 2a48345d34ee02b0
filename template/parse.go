package template

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// ErrSyntax is the rule of every error of [Parse].
const ErrSyntax finding.Rule = "template-syntax"

func syntaxError(src *source, offset int, p pointer, message, hint string) *finding.Finding {
	if hint != "" {
		message += "; " + hint
	}
	line, column := src.lineColumn(offset)
	return &finding.Finding{
		Rule: ErrSyntax, Severity: finding.Error, Message: message,
		Pointer: p.String(), Line: int64(line), Column: column, Offset: int64(offset),
	}
}

// Parse reads a provisioning template as AWS would: members that AWS does not document, undeclared parameters, CRLF
// and a UTF-8 byte order mark are accepted. So is a template inside another document: {"templateBody": "…"}, as
// requests and answers of the API hold it, or a JSON string. [Template.Check] reports what is doubtful.
//
// What is refused is what cannot be a template, and slips that AWS would ignore and that would register devices
// without what was meant, such as thingname for ThingName. The error has a [*finding.Finding] for each, up to 100, with
// the place and, for a likely slip, what was probably meant. Of text that is not JSON only the first fault is found.
func Parse(src []byte) (*Template, error) {
	s, err := unwrap(newSource(src))
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	p := &parser{src: s}
	t := p.template(s.root)
	if err := p.faults.Err(); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	// The tree knows all offsets. Lines and columns need the file, which is the caller's.
	s.file, s.text, s.offsets = bytes.Clone(src), nil, nil
	s.count()
	t.src = s
	return t, nil
}

// unwrap reads the document and, while it is a wrapper, what it holds.
func unwrap(s *source) (*source, error) {
	for range 4 {
		root, err := readJSON(s)
		if err != nil {
			return nil, err
		}
		s.root = root
		inner := root
		if root.kind == kindObject && root.get("Resources") == nil {
			for _, key := range []string{"templateBody", "TemplateBody", "template-body"} {
				if v := root.get(key); v != nil {
					inner = v
				}
			}
		}
		switch inner.kind {
		case kindObject:
			s.wrapped = s.wrapped || inner != root
			s.root = inner
			return s, nil
		case kindString:
			s = s.inside(inner)
		default:
			return nil, syntaxError(s, inner.offset, pointer{}, fmt.Sprintf("a template is a JSON object, this is %s", inner.kind), "")
		}
	}
	return nil, syntaxError(s, 0, pointer{}, "a JSON string in a JSON string, several times over", "encode the template once")
}

// inside makes a source of what a string holds, with places in the file the user has.
func (s *source) inside(n *node) *source {
	// The node knows its place in the file; find the same place in the text it was read from.
	start := n.offset
	if s.offsets != nil {
		for start = 0; start < len(s.offsets) && int(s.offsets[start]) != n.offset; {
			start++
		}
	}
	r := jsonline.NewReader(s.text[start:], maxDepth)
	str := r.Value() // it was read without an error before
	str.Start, str.End = start, start+str.End
	return &source{file: s.file, text: []byte(n.text), offsets: s.places(str), start: n.offset, wrapped: true}
}

// parser turns the tree into a Template. What follows a fault is read as if it were not there, so that all are found.
type parser struct {
	src    *source
	faults finding.List
}

const mostFaults = 100 // a file with more is something else

func (p *parser) fail(offset int, at pointer, hint, format string, args ...any) {
	if len(p.faults) < mostFaults {
		p.faults = append(p.faults, *syntaxError(p.src, offset, at, fmt.Sprintf(format, args...), hint))
	}
}

func (p *parser) template(root *node) *Template {
	t := &Template{}
	p.members(root, pointer{}, "in a template", []string{"Parameters", "Mappings", "Resources", "DeviceConfiguration"}, &t.Extra,
		func(m member, at pointer) {
			if !p.want(m.value, at, kindObject, "") {
				return
			}
			switch m.key {
			case "Parameters":
				t.Parameters = p.parameters(m.value, at)
			case "Mappings":
				t.Mappings = p.mappings(m.value, at)
			case "Resources":
				t.Resources = p.resources(m.value, at)
			case "DeviceConfiguration":
				t.DeviceConfiguration = p.object(m.value, at)
			}
		})
	return t
}

// members sorts the members of an object into known ones, which take gets, and the rest, which go to extra. A null
// counts as absent and is kept in extra. A name that differs from an absent known one only in spelling is refused.
func (p *parser) members(n *node, at pointer, where string, known []string, extra *Extra, take func(m member, at pointer)) {
	keep := func(m member) {
		if *extra == nil {
			*extra = Extra{}
		}
		(*extra)[m.key] = rawOf(m.value)
	}
	for _, m := range n.members {
		mAt := at.child(m.key)
		switch meant := slipOf(m.key, known); {
		case meant == "", meant == m.key && m.value.kind == kindNull:
			keep(m)
		case meant == m.key:
			take(m, mAt)
		case n.get(meant) == nil:
			p.fail(m.offset, mAt, fmt.Sprintf("did you mean %q? AWS ignores names it does not know, and case matters", meant),
				"there is no %s %s", rule.Quote(m.key), where)
			take(member{meant, m.offset, m.value}, mAt)
		default:
			keep(m)
		}
	}
}

// want checks the kind of a value.
func (p *parser) want(n *node, at pointer, k kind, hint string) bool {
	if n.kind == k {
		return true
	}
	name := at.name()
	if len(name) > 64 {
		name = rule.Quote(name)
	}
	p.fail(n.offset, at, hint, "%s must be %s, this is %s", name, k, n.kind)
	return false
}

func (p *parser) parameters(n *node, at pointer) Parameters {
	ps := make(Parameters, len(n.members))
	for _, m := range n.members {
		at := at.child(m.key)
		if !p.want(m.value, at, kindObject, `declare a parameter as {"Type": "String"}`) {
			continue
		}
		param := Parameter{untyped: true}
		p.members(m.value, at, "in a parameter", []string{"Type", "Default"}, &param.Extra, func(m member, at pointer) {
			if m.key == "Default" {
				param.Default = p.value(m.value, at)
			} else if p.want(m.value, at, kindString, `the type is "String"`) {
				param.Type, param.untyped = m.value.text, false
				if param.Type == "" {
					p.fail(m.value.offset, at, `the type is "String"`, "the parameter's type is empty")
				}
			}
		})
		ps[m.key] = param
	}
	return ps
}

func (p *parser) mappings(n *node, at pointer) Mappings {
	const hint = `a mapping has two levels: {"Table": {"first key": {"second key": "value"}}}`
	tables := make(Mappings, len(n.members))
	for _, m := range n.members {
		at := at.child(m.key)
		if !p.want(m.value, at, kindObject, hint) {
			continue
		}
		table := make(map[string]map[string]Value, len(m.value.members))
		for _, m := range m.value.members {
			at := at.child(m.key)
			if !p.want(m.value, at, kindObject, hint) {
				continue
			}
			table[m.key] = p.object(m.value, at)
		}
		tables[m.key] = table
	}
	return tables
}

func (p *parser) resources(n *node, at pointer) Resources {
	rs := make(Resources, len(n.members))
	for _, m := range n.members {
		if r := p.resource(m, at.child(m.key)); r != nil {
			rs[m.key] = r
		}
	}
	return rs
}

var resourceTypes = []string{typeThing, typeCertificate, typePolicy}

var propertyNames = map[string][]string{
	typeThing:       {"ThingName", "AttributePayload", "ThingTypeName", "ThingGroups", "BillingGroup", "PackageVersions"},
	typeCertificate: {"CertificateSigningRequest", "CertificatePem", "CACertificatePem", "CertificateId", "Status", "ThingPrincipalType"},
	typePolicy:      {"PolicyName", "PolicyDocument"},
}

func (p *parser) resource(m member, at pointer) Resource {
	n := m.value
	if !p.want(n, at, kindObject, "") {
		return nil
	}
	var (
		typ, props, settings *node
		beside, inside       Extra
		hasType, hasProps    bool
	)
	p.members(n, at, "in a resource", []string{"Type", "Properties", "OverrideSettings"}, &beside, func(m member, at pointer) {
		switch m.key {
		case "Type":
			if hasType = true; p.want(m.value, at, kindString, "") {
				typ = m.value
			}
		case "Properties":
			if hasProps = true; p.want(m.value, at, kindObject, "") {
				props = m.value
			}
		case "OverrideSettings":
			if p.want(m.value, at, kindObject, "") {
				settings = m.value
			}
		}
	})
	switch {
	case typ == nil && hasType, props == nil && hasProps: // it was said why
		return nil
	case typ == nil:
		p.fail(m.offset, at, "", "resource %s has no Type: %s", rule.Quote(m.key), oneOf(resourceTypes))
		return nil
	case propertyNames[typ.text] == nil:
		hint := ""
		meant := slipOf(typ.text, resourceTypes)
		if meant != "" {
			hint = fmt.Sprintf("did you mean %q?", meant)
		}
		p.fail(typ.offset, at.child("Type"), hint, "a template cannot make a %s, only %s", rule.Quote(typ.text), oneOf(resourceTypes))
		if meant == "" || props == nil {
			return nil
		}
		typ = &node{kind: kindString, offset: typ.offset, text: meant}
	case props == nil:
		p.fail(m.offset, at, "", "resource %s has no Properties", rule.Quote(m.key))
		return nil
	}
	values := map[string]Value{}
	var attributes Object
	p.members(props, at.child("Properties"), "in the properties of "+typ.text, propertyNames[typ.text], &inside,
		func(m member, at pointer) {
			if m.key != "AttributePayload" {
				values[m.key] = p.value(m.value, at)
			} else if p.want(m.value, at, kindObject, `attributes are written as {"name": "value"}`) {
				attributes = p.object(m.value, at)
			}
		})
	set, more := p.overrides(typ.text, settings, at.child("OverrideSettings"))
	if typ.text == typePolicy && settings != nil {
		if beside == nil {
			beside = Extra{}
		}
		beside["OverrideSettings"] = rawOf(settings) // not documented for policies
	}
	switch typ.text {
	case typeThing:
		return Thing{
			ThingName: values["ThingName"], AttributePayload: attributes, ThingTypeName: values["ThingTypeName"],
			ThingGroups: values["ThingGroups"], BillingGroup: values["BillingGroup"], PackageVersions: values["PackageVersions"],
			OverrideSettings: ThingOverrides{
				AttributePayload: set["AttributePayload"], ThingTypeName: set["ThingTypeName"], ThingGroups: set["ThingGroups"],
				Extra: more,
			},
			ExtraProperties: inside, Extra: beside,
		}
	case typeCertificate:
		return Certificate{
			CertificateSigningRequest: values["CertificateSigningRequest"], CertificatePEM: values["CertificatePem"],
			CACertificatePEM: values["CACertificatePem"], CertificateID: values["CertificateId"], Status: values["Status"],
			ThingPrincipalType: values["ThingPrincipalType"],
			OverrideSettings:   CertificateOverrides{Status: set["Status"], Extra: more},
			ExtraProperties:    inside, Extra: beside,
		}
	}
	return Policy{
		PolicyName: values["PolicyName"], PolicyDocument: values["PolicyDocument"], ExtraProperties: inside, Extra: beside,
	}
}

var overrideNames = map[string][]string{
	typeThing:       {"AttributePayload", "ThingTypeName", "ThingGroups"},
	typeCertificate: {"Status"},
}

func (p *parser) overrides(typ string, n *node, at pointer) (set map[string]Override, extra Extra) {
	if n == nil || overrideNames[typ] == nil {
		return nil, nil
	}
	set = map[string]Override{}
	extra = Extra{}
	p.members(n, at, "in OverrideSettings of "+typ, overrideNames[typ], &extra, func(m member, at pointer) {
		if m.value.kind == kindString && m.value.text != "" {
			set[m.key] = Override(m.value.text)
		} else {
			extra[m.key] = rawOf(m.value)
		}
	})
	if len(extra) == 0 && len(set) > 0 {
		extra = nil
	}
	return set, extra
}

func (p *parser) object(n *node, at pointer) Object {
	o := make(Object, len(n.members))
	for _, m := range n.members {
		o[m.key] = p.value(m.value, at.child(m.key))
	}
	return o
}

// value converts a value after looking for slips in the functions within.
func (p *parser) value(n *node, at pointer) Value {
	if functions := p.functions(n, at); !functions && (n.kind == kindObject) {
		return JSON(rawOf(n)) // such as a policy document: keep its order
	}
	return valueOf(n)
}

// functions reports whether there is a function within n, and refuses what looks like one but is not.
func (p *parser) functions(n *node, at pointer) bool {
	found := false
	for i, e := range n.elems {
		found = p.functions(e, at.index(i)) || found
	}
	for _, m := range n.members {
		found = p.functions(m.value, at.child(m.key)) || found
	}
	if n.kind != kindObject || len(n.members) != 1 {
		return found
	}
	m := n.members[0]
	at = at.child(m.key)
	if message, hint := functionSlip(m); message != "" {
		p.fail(m.offset, at, hint, "%s", message)
	}
	return found || isFunction(m.key)
}

// valueOf converts without complaint: what is not a function by its name is an object.
func valueOf(n *node) Value {
	switch n.kind {
	case kindString:
		return Literal(n.text)
	case kindArray:
		list := make(List, len(n.elems))
		for i, e := range n.elems {
			list[i] = valueOf(e)
		}
		return list
	case kindObject:
		if len(n.members) == 1 && isFunction(n.members[0].key) {
			m := n.members[0]
			if m.key == fnRef && m.value.kind == kindString {
				return Ref(m.value.text)
			}
			return Call{m.key, valueOf(m.value)}
		}
		o := make(Object, len(n.members))
		for _, m := range n.members {
			o[m.key] = valueOf(m.value)
		}
		return o
	}
	return JSON(n.text)
}

// rawOf writes a tree back as compact JSON, in the order it was read.
func rawOf(n *node) json.RawMessage {
	w := &writer{}
	w.node(n)
	return w.b.Bytes()
}

func (w *writer) node(n *node) {
	switch n.kind {
	case kindString:
		w.string(n.text)
	case kindArray:
		w.open('[')
		for _, e := range n.elems {
			w.node(e)
		}
		w.close(']')
	case kindObject:
		w.open('{')
		for _, m := range n.members {
			w.key(m.key)
			w.node(m.value)
		}
		w.close('}')
	default:
		w.item()
		w.b.WriteString(n.text)
	}
}

// Wrapped reports whether the template was parsed from inside another JSON document, so that the file itself is not
// what AWS takes: send what [Template.Body] returns.
func (t *Template) Wrapped() bool { return t.src != nil && t.src.wrapped }
