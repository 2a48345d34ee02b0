package fakebackend

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/issuer"
)

// stateJSON is an account as one JSON document, for people and for tests in other languages. The members have the names
// that AWS's answers have, where AWS has one.
type stateJSON struct {
	Now           time.Time                              `json:"now"` // the fake's clock
	Account       string                                 `json:"account"`
	Region        string                                 `json:"region"`
	Fake          bool                                   `json:"fake"`   // true
	Counts        Counts                                 `json:"counts"` // of things, certificates, policies and tasks
	Tasks         []*describeThingRegistrationTaskOutput `json:"tasks"`  // oldest first, as all lists
	Things        []thingJSON                            `json:"things"`
	Certificates  []certificateJSON                      `json:"certificates"`
	CAs           []caJSON                               `json:"caCertificates"`
	Policies      []policyJSON                           `json:"policies"`
	ThingTypes    []thingTypeJSON                        `json:"thingTypes"`
	ThingGroups   []thingGroupJSON                       `json:"thingGroups"`
	BillingGroups []billingGroupJSON                     `json:"billingGroups"`
	Templates     []templateJSON                         `json:"provisioningTemplates"`
	Claims        []claimJSON                            `json:"provisioningClaims"` // of CreateProvisioningClaim, until they expire
	Roles         []roleJSON                             `json:"roles"`              // by name
	Faults        []FaultStatus                          `json:"faults"`
}

type (
	thingJSON struct {
		ThingName        string            `json:"thingName"`
		ThingARN         string            `json:"thingArn"`
		ThingTypeName    string            `json:"thingTypeName,omitempty"`
		Attributes       map[string]string `json:"attributes"`
		BillingGroupName string            `json:"billingGroupName,omitempty"`
		ThingGroupNames  []string          `json:"thingGroupNames"`
		CertificateIDs   []string          `json:"certificateIds"`
	}
	certificateJSON struct {
		CertificateID   string    `json:"certificateId"`
		CertificateARN  string    `json:"certificateArn"`
		CertificatePEM  string    `json:"certificatePem"`
		CertificateMode string    `json:"certificateMode"`
		Status          string    `json:"status"`
		CreationDate    time.Time `json:"creationDate"`
		PolicyNames     []string  `json:"policyNames"`
		ThingNames      []string  `json:"thingNames"`
	}
	caJSON struct {
		CertificateID          string    `json:"certificateId"`
		CertificateARN         string    `json:"certificateArn"`
		CertificatePEM         string    `json:"certificatePem"`
		CertificateMode        string    `json:"certificateMode"`
		Status                 string    `json:"status"`
		AutoRegistrationStatus string    `json:"autoRegistrationStatus"`
		TemplateName           string    `json:"templateName,omitempty"` // of its registrationConfig
		TemplateBody           string    `json:"templateBody,omitempty"`
		RoleARN                string    `json:"roleArn,omitempty"`
		CreationDate           time.Time `json:"creationDate"`
	}
	policyJSON struct {
		PolicyName     string `json:"policyName"`
		PolicyARN      string `json:"policyArn"`
		PolicyDocument string `json:"policyDocument"` // of the default version
		Targets        int    `json:"targets"`        // certificates and thing groups it is attached to
	}
	thingTypeJSON struct {
		ThingTypeName string    `json:"thingTypeName"`
		ThingTypeARN  string    `json:"thingTypeArn"`
		Deprecated    bool      `json:"deprecated"`
		CreationDate  time.Time `json:"creationDate"`
	}
	thingGroupJSON struct {
		GroupName       string            `json:"groupName"`
		GroupARN        string            `json:"groupArn"`
		ParentGroupName string            `json:"parentGroupName,omitempty"`
		Attributes      map[string]string `json:"attributes"`
		PolicyNames     []string          `json:"policyNames"`
	}
	billingGroupJSON struct {
		BillingGroupName string `json:"billingGroupName"`
		BillingGroupARN  string `json:"billingGroupArn"`
	}
	templateJSON struct {
		TemplateName        string    `json:"templateName"`
		TemplateARN         string    `json:"templateArn"`
		Type                string    `json:"type"`
		Enabled             bool      `json:"enabled"`
		ProvisioningRoleARN string    `json:"provisioningRoleArn"`
		HookTargetARN       string    `json:"hookTargetArn,omitempty"` // of the pre-provisioning hook
		DefaultVersionID    int32     `json:"defaultVersionId"`
		TemplateBody        string    `json:"templateBody"` // of the default version
		CreationDate        time.Time `json:"creationDate"`
	}
	claimJSON struct {
		CertificateID  string    `json:"certificateId"`
		CertificatePEM string    `json:"certificatePem"`
		TemplateName   string    `json:"templateName"`
		Expiration     time.Time `json:"expiration"`
	}
	roleJSON struct {
		RoleName           string   `json:"roleName"`
		RoleARN            string   `json:"roleArn"`
		TrustPolicy        string   `json:"trustPolicy"`
		InlinePolicyNames  []string `json:"inlinePolicyNames"`
		AttachedPolicyARNs []string `json:"attachedPolicyArns"`
	}
)

// StateJSON writes the account as one JSON document, for people to look at and for tests in other languages: the members
// now, account, region, fake, counts, tasks, things, certificates, caCertificates, policies, thingTypes, thingGroups,
// billingGroups, provisioningTemplates, provisioningClaims, roles and faults. All names begin in lower case and are AWS's
// own, such as thingName and certificateId; a list is [] when it is empty, and a string that is not set is left out. All
// of it is of one moment, the faults excepted. It holds no private key and no link.
func (b *Backend) StateJSON() ([]byte, error) {
	state := look(b, b.stateJSON)
	state.Faults = append([]FaultStatus{}, b.Faults()...)
	return json.MarshalIndent(state, "", "  ")
}

func (b *Backend) stateJSON(now time.Time) *stateJSON {
	st := &b.st
	s := &stateJSON{
		Now: now, Account: b.opts.Account, Region: b.opts.Region, Fake: true,
		Counts: Counts{st.things.len(), st.certificates.len(), st.policies.len(), st.tasks.len()},
		Tasks:  []*describeThingRegistrationTaskOutput{}, Things: []thingJSON{}, Certificates: []certificateJSON{}, CAs: []caJSON{},
		Policies: []policyJSON{}, ThingTypes: []thingTypeJSON{}, ThingGroups: []thingGroupJSON{}, BillingGroups: []billingGroupJSON{},
		Templates: []templateJSON{}, Claims: []claimJSON{}, Roles: []roleJSON{},
	}
	for r := range st.tasks.all() {
		s.Tasks = append(s.Tasks, b.described(r))
	}
	for t := range st.things.all() {
		s.Things = append(s.Things, thingJSON{
			t.name, b.thingARN(t), t.typeName(), attributesJSON(t.attributes), t.billingName(),
			names(t.groups, func(g *thingGroup) string { return g.name }), names(t.certificates, func(c *certificate) string { return c.id.String() }),
		})
	}
	for c := range st.certificates.all() {
		s.Certificates = append(s.Certificates, certificateJSON{
			c.id.String(), b.certificateARN(c), c.pem(), c.mode(), c.status.String(), time.UnixMilli(c.created).UTC(),
			names(c.policies, policyName), names(c.things, func(t *thing) string { return t.name }),
		})
	}
	for c := range st.cas.all() {
		config := c.config
		if config == nil {
			config = &registrationConfig{}
		}
		s.CAs = append(s.CAs, caJSON{c.id.String(), b.caARN(c), issuer.EncodePEM(c.der), c.mode, c.status(), c.autoStatus(), config.TemplateName,
			config.TemplateBody, config.RoleARN, c.created})
	}
	for p := range st.policies.all() {
		s.Policies = append(s.Policies, policyJSON{p.name, b.policyARN(p), p.document(), p.attached})
	}
	for t := range st.thingTypes.all() {
		s.ThingTypes = append(s.ThingTypes, thingTypeJSON{t.name, b.thingTypeARN(t), !t.deprecated.IsZero(), t.created})
	}
	for g := range st.thingGroups.all() {
		out := thingGroupJSON{GroupName: g.name, GroupARN: b.thingGroupARN(g), Attributes: attributesJSON(g.attributes), PolicyNames: names(g.policies, policyName)}
		if g.parent != nil {
			out.ParentGroupName = g.parent.name
		}
		s.ThingGroups = append(s.ThingGroups, out)
	}
	for g := range st.billingGroups.all() {
		s.BillingGroups = append(s.BillingGroups, billingGroupJSON{g.name, b.billingGroupARN(g)})
	}
	for t := range st.templates.all() {
		out := templateJSON{TemplateName: t.name, TemplateARN: b.templateARN(t), Type: t.kind, Enabled: t.enabled, ProvisioningRoleARN: t.role,
			DefaultVersionID: t.standard, TemplateBody: t.version(t.standard).body, CreationDate: t.created}
		if t.hook != nil {
			out.HookTargetARN = t.hook.TargetARN
		}
		s.Templates = append(s.Templates, out)
	}
	for c := range st.claims.all() {
		s.Claims = append(s.Claims, claimJSON{c.certificate.id.String(), c.certificate.pem(), c.template, c.expires})
	}
	for _, r := range b.roles.Roles("/") {
		s.Roles = append(s.Roles, roleJSON{r.Name, r.ARN, r.Trust, append([]string{}, slices.Sorted(maps.Keys(r.Inline))...), append([]string{}, r.Attached...)})
	}
	return s
}

// names are the names of what a list holds; never nil.
func names[T any](list []T, name func(T) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = name(v)
	}
	return out
}

func policyName(p *policy) string { return p.name }

// attributesJSON are attributes as a map that is never nil.
func attributesJSON(list []attribute) map[string]string {
	out := make(map[string]string, len(list))
	for _, a := range list {
		out[a.name] = a.value
	}
	return out
}
