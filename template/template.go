package template

import "encoding/json"

// Kind is the use a template is meant for. It decides which rules [Template.Check] applies.
type Kind string

// The uses of a template. The zero Kind counts as Bulk.
const (
	Bulk  Kind = "bulk"  // a registration task, or RegisterThing for a single device: the certificate comes in any form
	JITP  Kind = "JITP"  // just-in-time provisioning: the template sits with a CA, parameters come from the certificate
	Fleet Kind = "fleet" // fleet provisioning: the template is a named resource that devices call with a claim
)

// Template is a provisioning template: what AWS IoT creates for each device, with holes that a device's row fills.
//
// Build one as a literal, or read one with [Parse]. A Template must not be changed while another goroutine uses it.
type Template struct {
	// Parameters declares the holes. A row has a value for each.
	Parameters Parameters
	// Mappings are constant tables for [FindInMap]. Documented for fleet provisioning only.
	Mappings Mappings
	// Resources are the thing, the certificate and the policies, by logical name. AWS's reports repeat the names.
	Resources Resources
	// DeviceConfiguration is sent to the device by fleet provisioning. It allows no nesting.
	DeviceConfiguration Object
	// Extra holds the members at the top of a parsed template that AWS does not document.
	Extra Extra

	src *source // where the template was parsed from; nil when it was built in Go
}

// Extra holds members that AWS does not document, as JSON text by name. They are kept when a template is written.
type Extra map[string]json.RawMessage

// Parameters are the declared parameters, by name.
type Parameters map[string]Parameter

// Strings declares parameters of type String without defaults.
func Strings(names ...string) Parameters {
	p := make(Parameters, len(names))
	for _, n := range names {
		p[n] = Parameter{}
	}
	return p
}

// Parameter declares one parameter. Its zero value is a String without a default: a row must give a value.
type Parameter struct {
	// Type is "String", or empty for the same. AWS documents no other type.
	Type string
	// Default is used when a row has no value. AWS wants a constant: Default: Literal("WA").
	Default Value
	// Extra holds members that AWS does not document, such as CloudFormation's AllowedValues. AWS ignores them.
	Extra Extra

	untyped bool // parsed without a Type
}

// Mappings are tables of constants: table, first key, second key, value. Values are literals; neither parameters nor
// functions may stand here.
type Mappings map[string]map[string]map[string]Value

// Resources are the resources by logical name, which is free to choose and unique in the template.
type Resources map[string]Resource

// Resource is a [Thing], a [Certificate] or a [Policy].
type Resource interface{ resource() }

// Thing is the registry entry of the device: AWS::IoT::Thing.
//
// The thing type, the groups and the billing group must exist beforehand; AWS creates none of them.
type Thing struct {
	// ThingName is the device's name in the registry, 1 to 128 characters of [a-zA-Z0-9:_-].
	ThingName Value
	// AttributePayload holds the thing's attributes, value by name: at most 3, or 50 when the thing has a type. AWS wants
	// them flat, without the nesting of its CreateThing API. Values may hold letters, digits and _.,@/:#=[]- up to 800
	// characters, so no space.
	AttributePayload Object
	// ThingTypeName is the name of an existing thing type.
	ThingTypeName Value
	// ThingGroups is a List of at most 10 names of existing groups.
	ThingGroups Value
	// BillingGroup is the name of an existing billing group.
	BillingGroup Value
	// PackageVersions names software package versions: one string or a List of them.
	PackageVersions Value
	// OverrideSettings is what AWS does with a thing that exists already.
	OverrideSettings ThingOverrides
	// ExtraProperties and Extra hold members that AWS does not document, inside and beside Properties.
	ExtraProperties, Extra Extra
}

// Certificate is the device's certificate: AWS::IoT::Certificate. Exactly one of CertificateSigningRequest,
// CertificatePEM and CertificateID is set. Fleet and JITP templates must use CertificateID.
type Certificate struct {
	// CertificateSigningRequest is a CSR in PEM, at most 4,096 characters. AWS issues the certificate.
	CertificateSigningRequest Value
	// CertificatePEM is a certificate that another CA than AWS's has signed. Where that CA is not registered in the account, the
	// service's role needs iot:RegisterCertificateWithoutCA.
	CertificatePEM Value
	// CACertificatePEM is that CA's certificate. The CA must then be registered in the account; AWS needs it when several of
	// those that are have the same subject.
	CACertificatePEM Value
	// CertificateID is the id of a certificate that the account holds already.
	CertificateID Value
	// Status is [Active] (what AWS takes when it is absent) or [Inactive]; case does not matter.
	Status Value
	// ThingPrincipalType is [ExclusiveThing] or [NonExclusiveThing]. AWS shows it in a fleet template; whether templates of
	// the other kinds may have it is not documented.
	ThingPrincipalType Value
	// OverrideSettings is what AWS does with a certificate that exists already.
	OverrideSettings CertificateOverrides
	// ExtraProperties and Extra hold members that AWS does not document, inside and beside Properties.
	ExtraProperties, Extra Extra
}

// Policy is an AWS IoT policy that is attached to the certificate: AWS::IoT::Policy. It has a name or a document,
// not both.
type Policy struct {
	// PolicyName is the name of an existing AWS IoT policy (not an IAM policy).
	PolicyName Value
	// PolicyDocument is the policy itself: a [Literal] of JSON text (see [OwnTopics]), or an Object. AWS names the
	// policy after a hash of the document, so devices with the same document share one policy.
	PolicyDocument Value
	// ExtraProperties and Extra hold members that AWS does not document, inside and beside Properties.
	ExtraProperties, Extra Extra
}

func (Thing) resource()       {}
func (Certificate) resource() {}
func (Policy) resource()      {}

// The types of resources.
const (
	typeThing       = "AWS::IoT::Thing"
	typeCertificate = "AWS::IoT::Certificate"
	typePolicy      = "AWS::IoT::Policy"
)

// Override is what AWS does when a resource exists already and differs from the template. The zero Override leaves it
// to AWS, which does not document what it does then.
type Override string

// What can be done with an existing resource.
const (
	DoNothing Override = "DO_NOTHING"
	Replace   Override = "REPLACE"
	Fail      Override = "FAIL"  // ends the line with a conflict
	Merge     Override = "MERGE" // for attributes and groups only
)

// ThingOverrides are the OverrideSettings of a [Thing].
type ThingOverrides struct {
	AttributePayload Override // any
	ThingTypeName    Override // any but Merge
	ThingGroups      Override // any
	Extra            Extra
}

// CertificateOverrides are the OverrideSettings of a [Certificate].
type CertificateOverrides struct {
	Status Override // any but Merge
	Extra  Extra
}

// normal returns the resource as a value, so that a literal may hold &Thing{…} too; nil for a nil pointer.
func normal(r Resource) Resource {
	switch r := r.(type) {
	case *Thing:
		if r != nil {
			return *r
		}
	case *Certificate:
		if r != nil {
			return *r
		}
	case *Policy:
		if r != nil {
			return *r
		}
	default:
		return r
	}
	return nil
}

// property is one property of a resource as the rest of the package walks over it.
type property struct {
	name  string
	value Value
}

// properties lists a resource's type and the properties it has, in AWS's order.
func properties(r Resource) (typ string, props []property) {
	switch r := normal(r).(type) {
	case Thing:
		typ = typeThing
		var attributes Value
		if r.AttributePayload != nil {
			attributes = r.AttributePayload
		}
		props = []property{
			{"ThingName", r.ThingName}, {"AttributePayload", attributes}, {"ThingTypeName", r.ThingTypeName},
			{"ThingGroups", r.ThingGroups}, {"BillingGroup", r.BillingGroup}, {"PackageVersions", r.PackageVersions},
		}
	case Certificate:
		typ = typeCertificate
		props = []property{
			{"CertificateSigningRequest", r.CertificateSigningRequest}, {"CertificatePem", r.CertificatePEM},
			{"CACertificatePem", r.CACertificatePEM}, {"CertificateId", r.CertificateID}, {"Status", r.Status},
			{"ThingPrincipalType", r.ThingPrincipalType},
		}
	case Policy:
		typ = typePolicy
		props = []property{{"PolicyName", r.PolicyName}, {"PolicyDocument", r.PolicyDocument}}
	}
	kept := props[:0]
	for _, p := range props {
		if p.value != nil {
			kept = append(kept, p)
		}
	}
	return typ, kept
}

// extras returns the undocumented members of a resource.
func extras(r Resource) (properties, beside Extra) {
	switch r := normal(r).(type) {
	case Thing:
		return r.ExtraProperties, r.Extra
	case Certificate:
		return r.ExtraProperties, r.Extra
	case Policy:
		return r.ExtraProperties, r.Extra
	}
	return nil, nil
}
