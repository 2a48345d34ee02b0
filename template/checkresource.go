package template

import (
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

func (c *checker) resources() {
	at := pointerTo("/Resources")
	if len(c.t.Resources) == 0 {
		c.add(ruleNoResources, finding.Error, at, "the template has no Resources: it would create nothing")
		return
	}
	var things, certificates, policies int
	for _, name := range sortedKeys(c.t.Resources) {
		at := at.child(name)
		switch r := normal(c.t.Resources[name]).(type) {
		case Thing:
			if things++; things > 1 {
				c.add(ruleThings, finding.Warning, at, "a second thing; AWS documents one for a template")
			}
			c.thing(r, at)
		case Certificate:
			if certificates++; certificates > 1 {
				c.add(ruleCertificates, finding.Error, at, "a second certificate; a device gets one")
			}
			c.certificate(r, at)
		case Policy:
			policies++
			c.policy(r, at)
		default:
			c.add(ruleValueShape, finding.Error, at, "the resource is nil")
			continue
		}
		c.settings(c.t.Resources[name], at)
	}
	if things == 0 {
		severity := finding.Note // AWS's own examples of fleet templates do without
		if c.kind == Bulk {
			severity = finding.Warning
		}
		c.add(ruleNoThing, severity, at, "the template registers no thing")
	}
	if policies > rule.PoliciesPerPrincipal {
		c.fault(policyCountFault(policies), at)
	}
	switch {
	case certificates == 0 && policies > 0:
		c.add(rulePolicyCertificate, finding.Warning, at, "the template has policies and no certificate to attach them to")
	case certificates > 0 && policies == 0 && c.grouped:
		c.add(ruleNoPolicy, finding.Note, at, "the certificate gets no policy of its own: %s", fromGroup)
	case certificates > 0 && policies == 0:
		c.add(ruleNoPolicy, finding.Warning, at, "the certificate gets no policy: the device could not even connect")
	case certificates > 0 && c.denied != (pointer{}):
		c.add(rulePolicyNoConnect, finding.Warning, c.denied, "the policy denies iot:Connect to every client, which wins over any policy that "+
			"allows it: the device cannot connect")
	case certificates > 0 && !c.granted && c.grouped:
		c.add(rulePolicyNoConnect, finding.Note, c.firstPolicy(), "no policy of the template allows iot:Connect for a client (arn:…:client/…): %s", fromGroup)
	case certificates > 0 && !c.granted:
		c.add(rulePolicyNoConnect, finding.Warning, c.firstPolicy(), "no policy allows iot:Connect for a client (arn:…:client/…): "+
			"the device cannot connect; see OwnTopics for a policy that lets it")
	}
}

// fromGroup is what a device needs whose template has no policy that lets it connect.
const fromGroup = "the device can connect only if a policy that allows it is attached to one of its thing groups, or to a parent of one"

func (c *checker) firstPolicy() pointer {
	for _, name := range sortedKeys(c.t.Resources) {
		if p, ok := normal(c.t.Resources[name]).(Policy); ok && p.PolicyDocument != nil {
			return pointerTo("/Resources").child(name).child("Properties").child("PolicyDocument")
		}
	}
	return pointerTo("/Resources")
}

// present notes and drops a null.
func (c *checker) present(v Value, at pointer) bool {
	if v != nil && isNull(v) {
		c.add(ruleNull, finding.Warning, at, "the property is null; leave it out")
		return false
	}
	return v != nil
}

// property checks a property that is a string.
func (c *checker) property(props pointer, name string, v Value) {
	if at := props.child(name); c.present(v, at) {
		c.value(v, at, name)
	}
}

func (c *checker) thing(t Thing, at pointer) {
	props := at.child("Properties")
	if t.ThingName == nil || isNull(t.ThingName) {
		c.add(ruleThingNameMissing, finding.Error, at, "the thing has no ThingName")
	} else {
		c.property(props, "ThingName", t.ThingName)
		if c.constant(t.ThingName) {
			c.add(ruleConstantName, finding.Warning, props.child("ThingName"),
				"the name is the same for every device; refer to a parameter so that each gets its own")
		}
	}
	c.property(props, "ThingTypeName", t.ThingTypeName)
	c.property(props, "BillingGroup", t.BillingGroup)
	attributes := props.child("AttributePayload")
	hasType := t.ThingTypeName != nil && !isNull(t.ThingTypeName)
	for _, f := range checkAttributeCount(len(t.AttributePayload), hasType) {
		c.fault(f, attributes)
	}
	for _, name := range sortedKeys(t.AttributePayload) {
		v, at := t.AttributePayload[name], attributes.child(name)
		if isFunction(name) && len(t.AttributePayload) == 1 {
			c.add(ruleAttributeShape, finding.Error, at, "AttributePayload itself cannot be a function: give each attribute its own")
			continue
		}
		if err := rule.AttributeName.Check(name); err != nil {
			c.add(ruleAttributeName, finding.Error, at, "%v", err)
		}
		switch expand(v).(type) {
		case Object, List:
			hint := "attributes are strings"
			if strings.EqualFold(name, "attributes") || strings.EqualFold(name, "attributePayload") {
				hint = "this nesting belongs to the CreateThing API; here the attributes stand directly in AttributePayload"
			}
			c.add(ruleAttributeShape, finding.Error, at, "attribute %s is not a string: %s", rule.Quote(name), hint)
		default:
			if c.present(v, at) {
				c.value(v, at, "AttributePayload")
			}
		}
	}
	c.groups(t.ThingGroups, props.child("ThingGroups"))
	if at := props.child("PackageVersions"); c.present(t.PackageVersions, at) {
		c.calls(t.PackageVersions, at)
		if _, err := c.compiler.namedList(t.PackageVersions, at, true); err != nil {
			c.fail(err)
		}
	}
}

func (c *checker) groups(v Value, at pointer) {
	if !c.present(v, at) {
		return
	}
	c.calls(v, at)
	written, isList := expand(v).(List)
	c.grouped = c.grouped || !isList || len(written) > 0
	if !isList {
		l, err := c.compiler.namedList(v, at, false)
		if err != nil {
			c.fail(err)
			return
		}
		row, partial := c.standIn(l.from, "x")
		if _, err := l.list.evalList(row); err != nil && !partial {
			c.noResult(err, l.from)
		}
		return
	}
	var constants []string
	for i, e := range written {
		c.value(e, at.index(i), "ThingGroups")
		if text, ok := scalar(e); ok {
			constants = append(constants, text)
		} else {
			constants = append(constants, "\x00"+at.index(i).String()) // not known: unlike any other
		}
	}
	for _, f := range checkGroups(constants) {
		c.fault(f, at)
	}
}

// constant reports whether a value is the same for every device.
func (c *checker) constant(v Value) bool {
	constant := true
	walkRefs(v, pointer{}, func(string, pointer) { constant = false })
	return constant
}

func (c *checker) certificate(cert Certificate, at pointer) {
	props := at.child("Properties")
	forms := 0
	for _, form := range []property{
		{"CertificateSigningRequest", cert.CertificateSigningRequest}, {"CertificatePem", cert.CertificatePEM},
		{"CertificateId", cert.CertificateID},
	} {
		if form.value == nil || isNull(form.value) {
			continue
		}
		forms++
		if c.kind != Bulk && form.name != "CertificateId" {
			c.add(ruleCertificateKind, finding.Error, props.child(form.name), "a %s template must use CertificateId, not %s", c.kind, form.name)
		}
		if c.constant(form.value) {
			c.add(ruleConstantCredential, finding.Warning, props.child(form.name),
				"%s is the same for every device: all would share one key", form.name)
		}
	}
	if forms != 1 {
		c.add(ruleCertificateForm, finding.Error, at, "%s", formMessage(forms))
	}
	if cert.CACertificatePEM != nil && cert.CertificatePEM == nil {
		c.add(ruleCertificateCA, finding.Warning, props.child("CACertificatePem"), "CACertificatePem has an effect together with CertificatePem only")
	}
	for _, p := range []property{
		{"CertificateSigningRequest", cert.CertificateSigningRequest}, {"CertificatePem", cert.CertificatePEM},
		{"CACertificatePem", cert.CACertificatePEM}, {"CertificateId", cert.CertificateID}, {"Status", cert.Status},
		{"ThingPrincipalType", cert.ThingPrincipalType},
	} {
		c.property(props, p.name, p.value)
	}
	if cert.ThingPrincipalType != nil && c.kind != Fleet {
		c.add(ruleThingPrincipal, finding.Warning, props.child("ThingPrincipalType"), "AWS shows ThingPrincipalType in a fleet template only, "+
			"this is a %s template: it may have no effect, and the certificate then belongs to the thing as NON_EXCLUSIVE_THING", c.kind)
	}
	if text, ok := scalar(cert.Status); ok && isStatus(text) {
		if text != strings.ToUpper(text) {
			c.add(ruleStatusCase, finding.Note, props.child("Status"), "AWS documents the status as %s", strings.ToUpper(text))
		}
		if strings.EqualFold(text, string(Inactive)) {
			c.add(ruleStatusInactive, finding.Note, props.child("Status"), "the device cannot connect until its certificate is activated")
		}
	}
}

func (c *checker) policy(p Policy, at pointer) {
	props := at.child("Properties")
	sources := 0
	for _, v := range []Value{p.PolicyName, p.PolicyDocument} {
		if v != nil && !isNull(v) && !isEmpty(v) {
			sources++
		}
	}
	if sources != 1 {
		c.add(rulePolicySource, finding.Error, at, "%s", sourceMessage(sources))
		c.granted = true // what was meant is not known
	}
	for _, source := range []property{{"PolicyName", p.PolicyName}, {"PolicyDocument", p.PolicyDocument}} {
		if isEmpty(source.value) {
			c.add(rulePolicySource, finding.Warning, props.child(source.name), "%s is empty, which AWS takes for absent; %s", source.name, unset)
		}
	}
	if p.PolicyName != nil && !isEmpty(p.PolicyName) {
		c.granted = true // what it allows is in the account
		c.property(props, "PolicyName", p.PolicyName)
	}
	docAt := props.child("PolicyDocument")
	if isEmpty(p.PolicyDocument) || !c.present(p.PolicyDocument, docAt) {
		return
	}
	c.calls(p.PolicyDocument, docAt)
	if _, isObject := expand(p.PolicyDocument).(Object); isObject && c.kind != Fleet {
		c.add(rulePolicyObject, finding.Warning, docAt, "AWS documents the document of a %s template as a string of JSON", c.kind)
	}
	e, err := c.compiler.document(p.PolicyDocument, docAt)
	if err != nil {
		c.granted = true // not known
		c.fail(err)
		return
	}
	row, partial := c.standIn(e.from, policy.Hole)
	text, err := e.expr.eval(row)
	if err != nil {
		c.granted = true // not known
		if !partial {
			c.noResult(err, e.from)
		}
		return
	}
	d, faults := checkDocument(text)
	unreadable := hasUnreadable(faults)
	for _, f := range faults {
		switch {
		case partial && f.rule == rulePolicySize:
			f.severity = finding.Warning
			f.message = "with a single character for each parameter: " + f.message
		case partial && unreadable:
			continue // a value may be what is missing
		case !partial && len(e.from) > 0:
			f.severity = finding.Warning
			f.message = "with the default: " + f.message
		}
		c.fault(f, docAt)
	}
	if unreadable {
		c.granted = true // not known
		return
	}
	c.connection(e, d, docAt)
	if d.AllowsEverything() {
		c.add(rulePolicyEverything, finding.Warning, docAt, "the policy allows everything on everything; limit Resource to what the device needs")
	}
}

// connection notes what a policy document decides about connecting. Where a row can change that, it is not held against
// the document: d is the document with a stand-in that names nothing, and is compared with one that takes all.
func (c *checker) connection(e *namedExpr, d *policy.Document, at pointer) {
	allowed, denied := d.Connects()
	if row, partial := c.standIn(e.from, "*"); partial {
		text, err := e.expr.eval(row)
		other, faults := checkDocument(text)
		if err != nil || hasUnreadable(faults) {
			c.granted = true // not known
			return
		}
		otherAllowed, otherDenied := other.Connects()
		allowed, denied = allowed || otherAllowed, denied && otherDenied
	}
	c.granted = c.granted || allowed
	if denied && c.denied == (pointer{}) {
		c.denied = at
	}
}

// hasUnreadable reports whether the faults of a policy document keep it from being understood.
func hasUnreadable(faults []fault) bool {
	return slices.ContainsFunc(faults, func(f fault) bool { return f.severity == finding.Error && f.rule != rulePolicySize })
}

// settings checks OverrideSettings and what AWS does not document about a resource.
func (c *checker) settings(r Resource, at pointer) {
	typ, props := properties(r)
	has := map[string]bool{}
	for _, p := range props {
		has[p.name] = true
	}
	inside, beside := extras(r)
	settings, more, _ := overrides(r)
	place := at.child("OverrideSettings")
	for _, s := range settings {
		if !validOverride(s) {
			c.add(ruleOverrideValue, finding.Error, place.child(s.name), "%s", overrideMessage(s))
		}
		// A certificate has a status by default.
		if s.value != "" && !has[s.name] && s.name != "Status" {
			c.add(ruleOverrideWithoutUse, finding.Note, place.child(s.name), "the resource has no %s to override with", s.name)
		}
	}
	for _, name := range sortedKeys(more) {
		if slices.Contains(overrideNames[typ], name) && string(more[name]) != "null" {
			c.add(ruleOverrideValue, finding.Error, place.child(name), "an override setting is a constant string")
			continue
		}
		c.extra(Extra{name: more[name]}, place, ruleOverrideUndefined, "AWS does not document an override setting %s for "+typ)
	}
	for _, name := range sortedKeys(inside) {
		if name == "OverrideSettings" {
			c.add(ruleOverrideMisplaced, finding.Warning, at.child("Properties").child(name),
				"OverrideSettings has no effect inside Properties; put it beside")
			continue
		}
		c.extra(Extra{name: inside[name]}, at.child("Properties"), ruleUnknownProp, "AWS does not document the property %s of "+typ)
	}
	for _, name := range sortedKeys(beside) {
		if name == "OverrideSettings" && typ == typePolicy {
			c.add(ruleOverrideUndefined, finding.Warning, place, "AWS documents no OverrideSettings for a policy")
			continue
		}
		c.extra(Extra{name: beside[name]}, at, ruleUnknown, "AWS does not document %s in a resource")
	}
}
