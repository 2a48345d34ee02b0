package template

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// CheckRow finds everything that would make AWS refuse a row, without asking AWS: missing values, names and values
// outside AWS's patterns and limits, a CSR or a policy document that is none. It returns nil for a good row. Whether a
// thing type, a group or a policy exists it cannot know.
//
// A finding has the Parameter whose value is at fault, unless the value is a constant of the template or a count is
// wrong, and the Pointer to the place that the value was for. A Message quotes at most 64 bytes of a
// value and nothing of a private key.
func (p *Program) CheckRow(row map[string]string) finding.List {
	c := &rowChecker{p: p, row: row}
	for _, name := range sortedKeys(row) {
		switch {
		case privatekey.In(row[name]):
			c.out = append(c.out, finding.Finding{
				Rule: rulePrivateKey, Severity: finding.Error, Parameter: name, Message: privateKeyMessage,
			})
		case !p.known[name] && !p.filled(name):
			c.out = append(c.out, finding.Finding{
				Rule: ruleUnknownParameter, Severity: finding.Warning, Parameter: name,
				Message: "the template does not use this value, AWS ignores it" + didYouMean(name, p.parameters),
			})
		}
	}
	for _, i := range c.out {
		if i.Rule == rulePrivateKey {
			return c.out // no other message may quote it
		}
	}
	for _, name := range p.unused {
		c.complete([]string{name}, pointerTo("/Parameters").child(name))
	}
	for i := range p.things {
		c.thing(&p.things[i])
	}
	if cert := p.certificate; cert != nil {
		c.value("CertificateSigningRequest", cert.csr)
		c.value("CertificatePem", cert.pem)
		c.value("CACertificatePem", cert.ca)
		c.value("CertificateId", cert.id)
		c.value("Status", cert.state)
		c.value("ThingPrincipalType", cert.attachment)
	}
	for i := range p.policies {
		pol := &p.policies[i]
		c.value("PolicyName", pol.name)
		if !pol.fixed {
			c.value("PolicyDocument", pol.document)
		}
		for _, f := range pol.faults {
			c.add(f, pol.document.at, nil)
		}
	}
	if n := len(p.policies); n > rule.PoliciesPerPrincipal {
		c.add(policyCountFault(n), pointerTo("/Resources"), nil)
	}
	for i := range p.device {
		c.eval(&p.device[i])
	}
	return c.out
}

// filled reports whether AWS gives a device this parameter whether the template has it or not.
func (p *Program) filled(name string) bool {
	return p.kind == JITP && slices.Contains(pseudoParameters, name) || p.kind == Fleet && name == pseudoID
}

func policyCountFault(n int) fault {
	return fault{rulePolicyCount, finding.Error,
		fmt.Sprintf("%d policies; AWS attaches at most %d to a certificate", n, rule.PoliciesPerPrincipal), nil}
}

func didYouMean(name string, known []string) string {
	const most = 200 // names worth comparing
	if len(known) > most {
		return ""
	}
	if meant := slipOf(name, known); meant != "" && meant != name {
		return fmt.Sprintf("; did you mean %s?", rule.Quote(meant))
	}
	return ""
}

type rowChecker struct {
	p       *Program
	row     map[string]string
	out     finding.List
	missing map[string]bool
}

func (c *rowChecker) add(f fault, at pointer, from []string) {
	i := finding.Finding{Rule: f.rule, Severity: f.severity, Pointer: at.String(), Message: f.message, Err: f.err}
	if len(from) > 0 {
		i.Parameter = from[0]
	}
	if len(from) > 1 {
		i.Message += fmt.Sprintf(" (made from %s)", strings.Join(from, ", "))
	}
	c.out = append(c.out, i)
}

// complete reports whether the row has all the parameters, and notes each that it has not, once.
func (c *rowChecker) complete(from []string, at pointer) bool {
	ok := true
	for _, name := range from {
		v, given := c.row[name]
		if given && (v != "" || !c.p.emptyIsMissing) || !slices.Contains(c.p.required, name) {
			continue
		}
		if ok = false; c.missing[name] {
			continue
		}
		if c.missing == nil {
			c.missing = map[string]bool{}
		}
		c.missing[name] = true
		c.add(fault{ruleMissingParameter, finding.Error, missing(name, c.p.kind, at).Message, nil}, at, []string{name})
	}
	return ok
}

// failed notes why a value could not be evaluated although its parameters are there.
func (c *rowChecker) failed(err error, from []string) {
	if e, ok := errors.AsType[*finding.Finding](err); ok {
		c.add(fault{ruleFunctionResult, finding.Error, e.Message, nil}, pointerTo(e.Pointer), from)
	}
}

func (c *rowChecker) eval(e *namedExpr) (string, bool) {
	if e == nil || !c.complete(e.from, e.at) {
		return "", false
	}
	s, err := e.expr.eval(c.row)
	if err != nil {
		c.failed(err, e.from)
	}
	return s, err == nil
}

func (c *rowChecker) value(property string, e *namedExpr) {
	if s, ok := c.eval(e); ok {
		for _, f := range checkValue(property, s) {
			c.add(f, e.at, e.from)
		}
	}
}

func (c *rowChecker) thing(t *thingProgram) {
	c.value("ThingName", t.name)
	c.value("ThingTypeName", t.typ)
	c.value("BillingGroup", t.billing)
	for i := range t.attributes {
		a := &t.attributes[i]
		if err := rule.AttributeName.Check(a.name); err != nil {
			c.add(fault{ruleAttributeName, finding.Error, err.Error(), err}, a.at, nil)
		}
		c.value("AttributePayload", a)
	}
	for _, f := range checkAttributeCount(len(t.attributes), t.typ != nil) {
		c.add(f, t.at.child("Properties").child("AttributePayload"), nil)
	}
	if groups, ok := c.list(t.groups); ok {
		for _, g := range groups {
			for _, f := range checkValue("ThingGroups", g) {
				c.add(f, t.groups.at, t.groups.from)
			}
		}
		for _, f := range checkGroups(groups) {
			c.add(f, t.groups.at, t.groups.from)
		}
	}
	c.list(t.packages)
}

func (c *rowChecker) list(l *namedList) ([]string, bool) {
	if l == nil || !c.complete(l.from, l.at) {
		return nil, false
	}
	list, err := l.list.evalList(c.row)
	if err != nil {
		c.failed(err, l.from)
	}
	return list, err == nil
}
