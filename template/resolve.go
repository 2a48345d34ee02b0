package template

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Resolution is what AWS creates for one row.
type Resolution struct {
	Things              []ThingSpec
	Certificate         *CertificateSpec // nil when the template has none
	Policies            []PolicySpec
	DeviceConfiguration map[string]string // nil when the template has none
}

// ThingSpec is a thing to be registered.
type ThingSpec struct {
	LogicalName     string // the resource's name in the template and in AWS's report
	ThingName       string
	Attributes      map[string]string // nil when the template has no AttributePayload
	ThingTypeName   string
	ThingGroups     []string
	BillingGroup    string
	PackageVersions []string

	// What to do about a thing that exists already.
	OverrideAttributes, OverrideType, OverrideGroups Override
}

// CertificateSpec is a certificate to be issued, registered or attached. Exactly one of CertificateSigningRequest,
// CertificatePEM and CertificateID is what the template uses.
type CertificateSpec struct {
	LogicalName               string
	CertificateSigningRequest string
	CertificatePEM            string
	CACertificatePEM          string
	CertificateID             string
	Status                    string   // ACTIVE or INACTIVE, in upper case
	ThingPrincipalType        string   // EXCLUSIVE_THING or NON_EXCLUSIVE_THING; empty when the template leaves it to AWS
	OverrideStatus            Override // what to do about a certificate that exists already
}

// PolicySpec is a policy to be attached: an existing one by name, or one made from a document.
type PolicySpec struct {
	LogicalName    string
	PolicyName     string
	PolicyDocument string // JSON text
}

// Parameters returns the names of all parameters, sorted: those declared, and those that are only referred to, which
// AWS fills from a row as well.
func (p *Program) Parameters() []string { return slices.Clone(p.parameters) }

// Required returns the names of the parameters that every row must give a value for, sorted: those that are used and
// have no Default, and in a JITP template all that are declared and have none.
func (p *Program) Required() []string { return slices.Clone(p.required) }

// Resolve fills the template from a row: parameter name to value. Members of the row that the template does not use are
// ignored, as AWS does. For a row that lacks a value the error has a [*finding.Finding] that names the parameter and
// the place in the template; see [ErrMissingParameter] and [ErrFunction].
//
// Resolve does not check values against AWS's patterns: [Program.CheckRow] does.
func (p *Program) Resolve(row map[string]string) (*Resolution, error) {
	out, err := p.resolve(row)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	return out, nil
}

func (p *Program) resolve(row map[string]string) (*Resolution, error) {
	// Nearly every template has one thing, one certificate and a policy: one allocation holds them.
	var all struct {
		Resolution
		thing       [1]ThingSpec
		certificate CertificateSpec
		policy      [1]PolicySpec
	}
	out := &all
	if len(p.things) == 1 {
		out.Things = out.thing[:]
	} else if len(p.things) > 1 {
		out.Things = make([]ThingSpec, len(p.things))
	}
	for _, name := range p.unused {
		if v, ok := row[name]; !ok || v == "" && p.emptyIsMissing {
			return nil, missing(name, p.kind, pointerTo("/Parameters").child(name))
		}
	}
	for i := range p.things {
		if err := p.things[i].resolve(row, &out.Things[i]); err != nil {
			return nil, err
		}
	}
	if p.certificate != nil {
		out.Certificate = &out.certificate
		if err := p.certificate.resolve(row, out.Certificate); err != nil {
			return nil, err
		}
	}
	if len(p.policies) == 1 {
		out.Policies = out.policy[:]
	} else if len(p.policies) > 1 {
		out.Policies = make([]PolicySpec, len(p.policies))
	}
	for i := range p.policies {
		if err := p.policies[i].resolve(row, &out.Policies[i]); err != nil {
			return nil, err
		}
	}
	if p.device != nil {
		out.DeviceConfiguration = make(map[string]string, len(p.device))
		if err := evalAll(row, p.device, out.DeviceConfiguration); err != nil {
			return nil, err
		}
	}
	return &out.Resolution, nil
}

// eval evaluates a property; one that is absent is "".
func (e *namedExpr) eval(row map[string]string, into *string) (err error) {
	if e != nil {
		*into, err = e.expr.eval(row)
	}
	return err
}

func (l *namedList) eval(row map[string]string, into *[]string) (err error) {
	if l != nil {
		*into, err = l.list.evalList(row)
	}
	return err
}

func evalAll(row map[string]string, from []namedExpr, into map[string]string) error {
	for i := range from {
		s, err := from[i].expr.eval(row)
		if err != nil {
			return err
		}
		into[from[i].name] = s
	}
	return nil
}

func (t *thingProgram) resolve(row map[string]string, out *ThingSpec) error {
	out.LogicalName = t.logicalName
	out.OverrideAttributes, out.OverrideType, out.OverrideGroups = t.overrideAttributes, t.overrideType, t.overrideGroups
	if err := t.name.eval(row, &out.ThingName); err != nil {
		return err
	}
	if t.attributes != nil {
		out.Attributes = make(map[string]string, len(t.attributes))
		if err := evalAll(row, t.attributes, out.Attributes); err != nil {
			return err
		}
	}
	if err := t.typ.eval(row, &out.ThingTypeName); err != nil {
		return err
	}
	if err := t.groups.eval(row, &out.ThingGroups); err != nil {
		return err
	}
	if err := t.billing.eval(row, &out.BillingGroup); err != nil {
		return err
	}
	return t.packages.eval(row, &out.PackageVersions)
}

func (c *certificateProgram) resolve(row map[string]string, out *CertificateSpec) error {
	out.LogicalName, out.OverrideStatus = c.logicalName, c.override
	if err := c.csr.eval(row, &out.CertificateSigningRequest); err != nil {
		return err
	}
	if err := c.pem.eval(row, &out.CertificatePEM); err != nil {
		return err
	}
	if err := c.ca.eval(row, &out.CACertificatePEM); err != nil {
		return err
	}
	if err := c.id.eval(row, &out.CertificateID); err != nil {
		return err
	}
	if err := c.attachment.eval(row, &out.ThingPrincipalType); err != nil {
		return err
	}
	out.Status = string(Active)
	if err := c.state.eval(row, &out.Status); err != nil {
		return err
	}
	if out.Status != string(Active) {
		if !isStatus(out.Status) {
			return fail(ruleCertificateStatus, c.state.at, "%s", statusMessage(out.Status))
		}
		out.Status = strings.ToUpper(out.Status)
	}
	return nil
}

func (p *policyProgram) resolve(row map[string]string, out *PolicySpec) error {
	out.LogicalName = p.logicalName
	if err := p.name.eval(row, &out.PolicyName); err != nil {
		return err
	}
	if err := p.document.eval(row, &out.PolicyDocument); err != nil {
		return err
	}
	if out.PolicyName == "" && out.PolicyDocument == "" {
		f := fail(rulePolicySource, p.at, "%s", sourceMessage(0))
		if e := cmp.Or(p.name, p.document); len(e.from) > 0 {
			f.Parameter = e.from[0]
		}
		return f
	}
	return nil
}
