package template

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// CompileOptions is how a template is going to be used. The zero value is for bulk registration.
type CompileOptions struct {
	// Kind is the use. In a fleet template intrinsic functions are always allowed.
	Kind Kind
	// AllowFunctions lets templates of the other kinds use Mappings and intrinsic functions too. AWS documents them
	// for fleet provisioning only, so they are refused by default rather than left to chance.
	AllowFunctions bool
	// EmptyIsMissing treats an empty string in a row like a value that is not there: the Default is used, or the row
	// is refused. By default an empty string is a value.
	EmptyIsMissing bool
}

// Program is a compiled template: [Program.Resolve] tells what AWS creates for a row. It is safe for concurrent use and
// does not change when the template it was made from does.
type Program struct {
	things         []thingProgram
	certificate    *certificateProgram
	policies       []policyProgram
	device         []namedExpr
	parameters     []string
	required       []string
	unused         []string // of required, those that nothing refers to: just-in-time provisioning demands them all the same
	known          map[string]bool
	kind           Kind
	emptyIsMissing bool
}

type namedExpr struct {
	name string
	expr expr
	at   pointer
	from []string // the parameters the value comes from
}

type namedList struct {
	list listExpr
	at   pointer
	from []string
}

type thingProgram struct {
	logicalName                                      string
	name, typ, billing                               *namedExpr // name is never nil
	attributes                                       []namedExpr
	groups, packages                                 *namedList
	overrideAttributes, overrideType, overrideGroups Override
	at                                               pointer
}

type certificateProgram struct {
	logicalName             string
	csr, pem, ca, id, state *namedExpr
	attachment              *namedExpr // ThingPrincipalType
	override                Override
}

type policyProgram struct {
	logicalName    string
	name, document *namedExpr
	at             pointer
	fixed          bool    // the document is the same for every device
	faults         []fault // what AWS refuses it for, then
}

// Compile checks the shape of the template once, so that many rows can be resolved fast. It refuses, with a
// [*finding.Finding], what no row could be resolved with; [Template.Check] finds that and much more.
func (t *Template) Compile(opts CompileOptions) (*Program, error) {
	c := &compiler{t: t, opts: opts, functions: opts.AllowFunctions || opts.Kind == Fleet}
	p, err := c.program()
	if err != nil {
		if f, ok := errors.AsType[*finding.Finding](err); ok {
			t.src.place(f)
		}
		return nil, fmt.Errorf("template: %w", err)
	}
	return p, nil
}

type compiler struct {
	t         *Template
	opts      CompileOptions
	functions bool
	tables    map[string]map[string]map[string]leaf
	defaults  map[string]string
	referred  map[string]bool
}

func (c *compiler) program() (*Program, error) {
	t := c.t
	if len(t.Resources) == 0 {
		return nil, fail(ruleNoResources, pointerTo("/Resources"), "the template has no Resources: it would create nothing")
	}
	c.referred = map[string]bool{}
	c.defaults = map[string]string{}
	for _, name := range sortedKeys(t.Parameters) {
		if d := t.Parameters[name].Default; d != nil && !isNull(d) {
			text, ok := scalar(d)
			if !ok {
				return nil, fail(ruleParameterDefault, pointerTo("/Parameters").child(name).child("Default"),
					"a Default must be a constant string")
			}
			c.defaults[name] = text
		}
	}
	if err := c.mappings(); err != nil {
		return nil, err
	}
	p := &Program{emptyIsMissing: c.opts.EmptyIsMissing, kind: cmp.Or(c.opts.Kind, Bulk), known: map[string]bool{}}
	for _, name := range sortedKeys(t.Resources) {
		if err := c.resource(p, name, pointerTo("/Resources").child(name)); err != nil {
			return nil, err
		}
	}
	for _, name := range sortedKeys(t.DeviceConfiguration) {
		e, err := c.named(name, t.DeviceConfiguration[name], pointerTo("/DeviceConfiguration").child(name))
		if err != nil {
			return nil, err
		}
		p.device = append(p.device, *e)
	}
	for _, name := range sortedKeys(t.Parameters) {
		p.known[name] = true
		if p.kind == JITP && !c.referred[name] && c.demanded(name) {
			p.unused = append(p.unused, name)
		}
	}
	p.required = slices.Clone(p.unused)
	for name := range c.referred {
		p.known[name] = true
		if _, ok := c.defaults[name]; !ok {
			p.required = append(p.required, name)
		}
	}
	slices.Sort(p.required)
	p.parameters = sortedKeys(p.known)
	return p, nil
}

// demanded reports whether a declared parameter of a JITP template must be in the certificate, used or not.
func (c *compiler) demanded(name string) bool {
	_, hasDefault := c.defaults[name]
	return !hasDefault && name != pseudoID
}

func (c *compiler) mappings() error {
	c.tables = map[string]map[string]map[string]leaf{}
	if len(c.t.Mappings) > 0 && !c.functions {
		return fail(ruleSection, pointerTo("/Mappings"), "AWS documents Mappings for fleet templates only; "+
			"CompileOptions.AllowFunctions permits them")
	}
	for table, firsts := range c.t.Mappings {
		c.tables[table] = map[string]map[string]leaf{}
		for first, seconds := range firsts {
			leaves := map[string]leaf{}
			c.tables[table][first] = leaves
			for second, v := range seconds {
				at := pointerTo("/Mappings").child(table).child(first).child(second)
				l := leaf{}
				var ok bool
				if list, isList := expand(v).(List); isList {
					l.isList = true
					for i, e := range list {
						text, isText := scalar(e)
						if !isText {
							return fail(ruleFunctionInMappings, at.index(i), "Mappings can hold constants only")
						}
						l.list = append(l.list, text)
					}
				} else if l.text, ok = scalar(v); !ok {
					return fail(ruleFunctionInMappings, at, "Mappings can hold constants only")
				}
				leaves[second] = l
			}
		}
	}
	return nil
}

func (c *compiler) resource(p *Program, name string, at pointer) error {
	props := at.child("Properties")
	var failed error
	// one compiles a property; of a nil value it returns nil.
	one := func(property string, v Value) *namedExpr {
		if v == nil || isNull(v) || failed != nil {
			return nil
		}
		var e *namedExpr
		e, failed = c.named(property, v, props.child(property))
		return e
	}
	many := func(property string, v Value, single bool) *namedList {
		if v == nil || isNull(v) || failed != nil {
			return nil
		}
		var l *namedList
		l, failed = c.namedList(v, props.child(property), single)
		return l
	}
	switch r := normal(c.t.Resources[name]).(type) {
	case Thing:
		th := thingProgram{
			logicalName: name, at: at,
			name: one("ThingName", r.ThingName), typ: one("ThingTypeName", r.ThingTypeName),
			groups: many("ThingGroups", r.ThingGroups, false), billing: one("BillingGroup", r.BillingGroup),
			packages:           many("PackageVersions", r.PackageVersions, true),
			overrideAttributes: r.OverrideSettings.AttributePayload, overrideType: r.OverrideSettings.ThingTypeName,
			overrideGroups: r.OverrideSettings.ThingGroups,
		}
		if th.name == nil && failed == nil {
			return fail(ruleThingNameMissing, at, "the thing has no ThingName")
		}
		for _, a := range sortedKeys(r.AttributePayload) {
			if failed != nil {
				break
			}
			if isNull(r.AttributePayload[a]) {
				continue
			}
			var e *namedExpr
			if e, failed = c.named(a, r.AttributePayload[a], props.child("AttributePayload").child(a)); e != nil {
				th.attributes = append(th.attributes, *e)
			}
		}
		p.things = append(p.things, th)
	case Certificate:
		if p.certificate != nil {
			return fail(ruleCertificates, at, "the template has a certificate already (%s): a device gets one",
				rule.Quote(p.certificate.logicalName))
		}
		p.certificate = &certificateProgram{
			logicalName: name,
			csr:         one("CertificateSigningRequest", r.CertificateSigningRequest), pem: one("CertificatePem", r.CertificatePEM),
			ca: one("CACertificatePem", r.CACertificatePEM), id: one("CertificateId", r.CertificateID),
			state: one("Status", r.Status), attachment: one("ThingPrincipalType", r.ThingPrincipalType),
			override: r.OverrideSettings.Status,
		}
		if failed == nil {
			if n := countSet(p.certificate.csr, p.certificate.pem, p.certificate.id); n != 1 {
				return fail(ruleCertificateForm, at, "%s", formMessage(n))
			}
			if s := p.certificate.state; s != nil && len(s.from) == 0 {
				if text, err := s.expr.eval(nil); err == nil && !isStatus(text) {
					return fail(ruleCertificateStatus, s.at, "%s", statusMessage(text))
				}
			}
		}
	case Policy:
		pol := policyProgram{logicalName: name, at: at}
		if !isEmpty(r.PolicyName) {
			pol.name = one("PolicyName", r.PolicyName)
		}
		if r.PolicyDocument != nil && !isNull(r.PolicyDocument) && !isEmpty(r.PolicyDocument) && failed == nil {
			pol.document, failed = c.document(r.PolicyDocument, props.child("PolicyDocument"))
		}
		if failed == nil && countSet(pol.name, pol.document) != 1 {
			return fail(rulePolicySource, at, "%s", sourceMessage(countSet(pol.name, pol.document)))
		}
		if d := pol.document; d != nil && len(d.from) == 0 {
			if text, err := d.expr.eval(nil); err == nil {
				pol.fixed = true
				pol.faults = slices.DeleteFunc(checkValue("PolicyDocument", text), func(f fault) bool { return f.severity != finding.Error })
			}
		}
		p.policies = append(p.policies, pol)
	default:
		return fail(ruleValueShape, at, "the resource is nil")
	}
	if failed != nil {
		return failed
	}
	settings, _, _ := overrides(c.t.Resources[name])
	for _, s := range settings {
		if !validOverride(s) {
			return fail(ruleOverrideValue, at.child("OverrideSettings").child(s.name), "%s", overrideMessage(s))
		}
	}
	return nil
}

func countSet(exprs ...*namedExpr) int {
	n := 0
	for _, e := range exprs {
		if e != nil {
			n++
		}
	}
	return n
}

func formMessage(n int) string {
	const forms = "CertificateSigningRequest, CertificatePem or CertificateId"
	if n == 0 {
		return "the certificate has no source: give one of " + forms
	}
	return fmt.Sprintf("the certificate has %d sources: give only one of %s", n, forms)
}

func sourceMessage(n int) string {
	if n == 0 {
		return neitherSource + " is present: give one of them; an empty one counts as absent"
	}
	return "both PolicyName and PolicyDocument are present: give only one of them"
}

func isStatus(s string) bool {
	return strings.EqualFold(s, string(Active)) || strings.EqualFold(s, string(Inactive))
}

func statusMessage(s string) string {
	return fmt.Sprintf("Status is %s: AWS takes ACTIVE and INACTIVE", rule.Quote(s))
}

func validOverride(s override) bool {
	switch s.value {
	case "", DoNothing, Replace, Fail:
		return true
	case Merge:
		return s.merge
	}
	return false
}

func overrideMessage(s override) string {
	choice := "DO_NOTHING, REPLACE or FAIL"
	if s.merge {
		choice = "DO_NOTHING, REPLACE, FAIL or MERGE"
	}
	return fmt.Sprintf("OverrideSettings for %s cannot be %s: AWS takes %s", s.name, rule.Quote(string(s.value)), choice)
}
