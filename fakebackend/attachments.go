package fakebackend

import (
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// What is attached to what: AttachThingPrincipal, DetachThingPrincipal, ListThingPrincipals and V2, ListPrincipalThings
// and V2, AttachPolicy, DetachPolicy, ListAttachedPolicies, ListTargetsForPolicy, and the older AttachPrincipalPolicy,
// DetachPrincipalPolicy, ListPrincipalPolicies, ListPolicyPrincipals.
//
// Models: certificates as principals; certificates and thing groups as targets of policies; exclusive attachments.
// Not modelled: Amazon Cognito identities, and the seconds that AWS takes to detach.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_AttachThingPrincipal.html

var attachmentOperations = []*operation{
	operationOf("AttachThingPrincipal", "PUT /things/{thingName}/principals", (*account).attachThingPrincipal),
	operationOf("DetachThingPrincipal", "DELETE /things/{thingName}/principals", (*account).detachThingPrincipal),
	listOf("ListThingPrincipals", "GET /things/{thingName}/principals", "principals", (*account).listThingPrincipals),
	listOf("ListThingPrincipalsV2", "GET /things/{thingName}/principals-v2", "thingPrincipalObjects", (*account).listThingPrincipalsV2),
	listOf("ListPrincipalThings", "GET /principals/things", "things", (*account).listPrincipalThings),
	listOf("ListPrincipalThingsV2", "GET /principals/things-v2", "principalThingObjects", (*account).listPrincipalThingsV2),
	operationOf("AttachPolicy", "PUT /target-policies/{policyName}", (*account).attachPolicy),
	operationOf("DetachPolicy", "POST /target-policies/{policyName}", (*account).detachPolicy),
	operationOf("AttachPrincipalPolicy", "PUT /principal-policies/{policyName}", (*account).attachPrincipalPolicy),
	operationOf("DetachPrincipalPolicy", "DELETE /principal-policies/{policyName}", (*account).detachPrincipalPolicy),
	listOf("ListAttachedPolicies", "POST /attached-policies/{target}", "policies", (*account).listAttachedPolicies),
	listOf("ListPrincipalPolicies", "GET /principal-policies", "policies", (*account).listPrincipalPolicies),
	listOf("ListTargetsForPolicy", "POST /policy-targets/{policyName}", "targets", (*account).listTargetsForPolicy),
	listOf("ListPolicyPrincipals", "GET /policy-principals", "principals", (*account).listPolicyPrincipals),
}

// The types of attachment between a thing and a principal.
const (
	exclusiveThing    = "EXCLUSIVE_THING"
	nonExclusiveThing = "NON_EXCLUSIVE_THING"
)

type attachThingPrincipalInput struct {
	ThingName          string `path:"thingName" is:"ThingName"`
	Principal          string `header:"principal=x-amzn-principal" required:"true"`
	ThingPrincipalType string `query:"thingPrincipalType" is:"ThingPrincipalType"`
}

// attachThingPrincipal attaches a certificate, named by its ARN, to a thing.
func (b *account) attachThingPrincipal(_ time.Time, in *attachThingPrincipalInput) (*nothing, *task.Error) {
	t, err := b.findThing(in.ThingName)
	if err != nil {
		return nil, err
	}
	c, err := b.principal(in.Principal)
	if err != nil {
		return nil, err
	}
	_, err = b.attachCertificate(t, c, in.ThingPrincipalType == exclusiveThing)
	return nil, err
}

type detachThingPrincipalInput struct {
	ThingName string `path:"thingName" is:"ThingName"`
	Principal string `header:"principal=x-amzn-principal" required:"true"`
}

// detachThingPrincipal takes a certificate off a thing. It is no error when it is not attached.
func (b *account) detachThingPrincipal(_ time.Time, in *detachThingPrincipalInput) (*nothing, *task.Error) {
	t, err := b.findThing(in.ThingName)
	if err != nil {
		return nil, err
	}
	c, err := b.principal(in.Principal)
	if err != nil {
		return nil, err
	}
	b.detachCertificate(t, c)
	return nil, nil
}

type listThingPrincipalsInput struct {
	ThingName string `path:"thingName" is:"ThingName"`
	byToken
}

// principalsOf returns the certificates attached to a thing.
func (b *account) principalsOf(thingName string) ([]*certificate, *task.Error) {
	t, ok := b.st.things.get(thingName)
	if !ok {
		return nil, refuse(codeNotFound, "Failed to list principals for thing %s because the thing does not exist in your account", thingName)
	}
	return t.certificates, nil
}

// listThingPrincipals lists the ARNs of the certificates attached to a thing.
func (b *account) listThingPrincipals(in *listThingPrincipalsInput, p *page) ([]string, *task.Error) {
	certificates, err := b.principalsOf(in.ThingName)
	if err != nil {
		return nil, err
	}
	return itemsOf(p, certificates, b.certificateARN), nil
}

type listThingPrincipalsV2Input struct {
	ThingName string `path:"thingName" is:"ThingName"`
	byToken
	ThingPrincipalType string `query:"thingPrincipalType" is:"ThingPrincipalType"`
}

// thingPrincipalObject is a principal attached to a thing.
type thingPrincipalObject struct {
	Principal          string `json:"principal"`
	ThingPrincipalType string `json:"thingPrincipalType"`
}

// listThingPrincipalsV2 lists the certificates attached to a thing, with how each is attached.
func (b *account) listThingPrincipalsV2(in *listThingPrincipalsV2Input, p *page) ([]thingPrincipalObject, *task.Error) {
	certificates, err := b.principalsOf(in.ThingName)
	if err != nil {
		return nil, err
	}
	var attached []thingPrincipalObject
	for _, c := range certificates {
		if in.ThingPrincipalType == "" || in.ThingPrincipalType == c.attachment() {
			attached = append(attached, thingPrincipalObject{b.certificateARN(c), c.attachment()})
		}
	}
	return itemsOf(p, attached, func(o thingPrincipalObject) thingPrincipalObject { return o }), nil
}

type listPrincipalThingsInput struct {
	Principal string `header:"principal=x-amzn-principal" required:"true"`
	byToken
}

// listPrincipalThings lists the names of the things that a certificate is attached to.
func (b *account) listPrincipalThings(in *listPrincipalThingsInput, p *page) ([]string, *task.Error) {
	c, err := b.principal(in.Principal)
	if err != nil {
		return nil, err
	}
	return itemsOf(p, c.things, func(t *thing) string { return t.name }), nil
}

type listPrincipalThingsV2Input struct {
	Principal string `header:"principal=x-amzn-principal" required:"true"`
	byToken
	ThingPrincipalType string `query:"thingPrincipalType" is:"ThingPrincipalType"`
}

// principalThingObject is a thing that a principal is attached to.
type principalThingObject struct {
	ThingName          string `json:"thingName"`
	ThingPrincipalType string `json:"thingPrincipalType"`
}

// listPrincipalThingsV2 lists the things that a certificate is attached to, with how it is.
func (b *account) listPrincipalThingsV2(in *listPrincipalThingsV2Input, p *page) ([]principalThingObject, *task.Error) {
	c, err := b.principal(in.Principal)
	if err != nil {
		return nil, err
	}
	things := c.things
	if in.ThingPrincipalType != "" && in.ThingPrincipalType != c.attachment() {
		things = nil
	}
	return itemsOf(p, things, func(t *thing) principalThingObject { return principalThingObject{t.name, c.attachment()} }), nil
}

// policyTarget is the request of AttachPolicy and DetachPolicy.
type policyTarget struct {
	PolicyName string `path:"policyName" is:"PolicyName"`
	Target     string `json:"target" required:"true"`
}

// attachPolicy attaches a policy to a certificate or a thing group, named by its ARN.
func (b *account) attachPolicy(_ time.Time, in *policyTarget) (*nothing, *task.Error) {
	p, to, err := b.policyAndTarget(in.PolicyName, in.Target)
	if err == nil {
		_, err = b.attachPolicyTo(p, to)
	}
	return nil, err
}

// detachPolicy takes a policy off a certificate or a thing group.
func (b *account) detachPolicy(_ time.Time, in *policyTarget) (*nothing, *task.Error) {
	p, to, err := b.policyAndTarget(in.PolicyName, in.Target)
	if err == nil {
		b.detachPolicyFrom(p, to)
	}
	return nil, err
}

// policyPrincipal is the request of AttachPrincipalPolicy and DetachPrincipalPolicy.
type policyPrincipal struct {
	PolicyName string `path:"policyName" is:"PolicyName"`
	Principal  string `header:"principal=x-amzn-iot-principal" required:"true"`
}

// attachPrincipalPolicy is the older form of AttachPolicy.
func (b *account) attachPrincipalPolicy(now time.Time, in *policyPrincipal) (*nothing, *task.Error) {
	return b.attachPolicy(now, &policyTarget{in.PolicyName, in.Principal})
}

// detachPrincipalPolicy is the older form of DetachPolicy.
func (b *account) detachPrincipalPolicy(now time.Time, in *policyPrincipal) (*nothing, *task.Error) {
	return b.detachPolicy(now, &policyTarget{in.PolicyName, in.Principal})
}

func (b *account) policyAndTarget(policyName, target string) (*policy, *[]*policy, *task.Error) {
	p, err := b.findPolicy(policyName)
	if err != nil {
		return nil, nil, err
	}
	to, err := b.target(target)
	return p, to, err
}

type listAttachedPoliciesInput struct {
	Target    string `path:"target"`
	Recursive bool   `query:"recursive"`
	byMarker
}

// listAttachedPolicies lists the policies attached to a certificate or a thing group; recursively, also those of the
// groups above it.
func (b *account) listAttachedPolicies(in *listAttachedPoliciesInput, p *page) ([]policySummary, *task.Error) {
	to, err := b.target(in.Target)
	if err != nil {
		return nil, err
	}
	attached := slices.Clone(*to)
	if g := b.groupOfARN(in.Target); g != nil && in.Recursive {
		for g = g.parent; g != nil; g = g.parent {
			for _, above := range g.policies {
				if !slices.Contains(attached, above) {
					attached = append(attached, above)
				}
			}
		}
	}
	return itemsOf(p, attached, b.policySummary), nil
}

type listPrincipalPoliciesInput struct {
	Principal string `header:"principal=x-amzn-iot-principal" required:"true"`
	byMarker
	AscendingOrder bool `query:"ascendingOrder=isAscendingOrder"`
}

// listPrincipalPolicies is the older form of ListAttachedPolicies.
func (b *account) listPrincipalPolicies(in *listPrincipalPoliciesInput, p *page) ([]policySummary, *task.Error) {
	to, err := b.target(in.Principal)
	if err != nil {
		return nil, err
	}
	attached := slices.Clone(*to)
	if !in.AscendingOrder {
		slices.Reverse(attached)
	}
	return itemsOf(p, attached, b.policySummary), nil
}

type listTargetsForPolicyInput struct {
	PolicyName string `path:"policyName" is:"PolicyName"`
	byMarker
}

// listTargetsForPolicy lists the ARNs a policy is attached to: certificates in the order they were made, and then thing
// groups.
func (b *account) listTargetsForPolicy(in *listTargetsForPolicyInput, p *page) ([]string, *task.Error) {
	pol, ok := b.st.policies.get(in.PolicyName)
	if !ok {
		return nil, refuse(codeNotFound, "Policy not found")
	}
	return b.targetsOf(pol, p, true), nil
}

type listPolicyPrincipalsInput struct {
	PolicyName string `header:"policyName=x-amzn-iot-policy" is:"PolicyName" required:"true"`
	byMarker
	AscendingOrder bool `query:"ascendingOrder=isAscendingOrder"`
}

// listPolicyPrincipals is the older form of ListTargetsForPolicy; it knows certificates only, and lists them oldest
// first. A policy that does not exist has none, and is no error.
func (b *account) listPolicyPrincipals(in *listPolicyPrincipalsInput, p *page) ([]string, *task.Error) {
	pol, ok := b.st.policies.get(in.PolicyName)
	if !ok {
		return nil, nil
	}
	return b.targetsOf(pol, p, false), nil
}

// groupNumbers is added to a group's number to make it come after all certificates.
const groupNumbers = 1 << 62

func (b *account) targetsOf(pol *policy, p *page, groups bool) (targets []string) {
	last, from := uint64(0), p.from
	full := func(arn string, number uint64) bool {
		if len(targets) == p.size {
			p.next = token(last)
			return true
		}
		targets, last = append(targets, arn), number
		return false
	}
	if from < groupNumbers {
		for c := range b.st.certificates.after(from) {
			if slices.Contains(c.policies, pol) && full(b.certificateARN(c), c.number()) {
				return targets
			}
		}
		from = groupNumbers
	}
	if groups {
		for g := range b.st.thingGroups.after(from - groupNumbers) {
			if slices.Contains(g.policies, pol) && full(b.thingGroupARN(g), groupNumbers+g.number()) {
				return targets
			}
		}
	}
	return targets
}

func (c *certificate) attachment() string {
	if c.exclusive {
		return exclusiveThing
	}
	return nonExclusiveThing
}

// attachCertificate attaches a certificate to a thing; twice is no error.
func (b *account) attachCertificate(t *thing, c *certificate, exclusive bool) (added bool, err *task.Error) {
	if slices.Contains(t.certificates, c) {
		return false, nil
	}
	if len(c.things) > 0 && (exclusive || c.exclusive) {
		return false, refuse(codeInvalidRequest, "The principal %s is attached to another thing and one of the attachments is %s",
			b.certificateARN(c), exclusiveThing)
	}
	t.certificates = append(t.certificates, c)
	c.things = append(c.things, t)
	c.exclusive = exclusive
	return true, nil
}

func (b *account) detachCertificate(t *thing, c *certificate) {
	t.certificates = without(t.certificates, c)
	c.things = without(c.things, t)
	if len(c.things) == 0 {
		c.exclusive = false
	}
}

// attachPolicyTo attaches a policy to a target's policies; twice is no error.
func (b *account) attachPolicyTo(p *policy, to *[]*policy) (added bool, err *task.Error) {
	if slices.Contains(*to, p) {
		return false, nil
	}
	if len(*to) >= rule.PoliciesPerPrincipal {
		return false, refuse(codeLimitExceeded, "The maximum number of policies on a principal is %d", rule.PoliciesPerPrincipal)
	}
	*to = append(*to, p)
	p.attached++
	return true, nil
}

func (b *account) detachPolicyFrom(p *policy, from *[]*policy) {
	if slices.Contains(*from, p) {
		*from = without(*from, p)
		p.attached--
	}
}

// without returns list less v, in a slice of its own: readers of the old one are not disturbed.
func without[T comparable](list []T, v T) []T {
	i := slices.Index(list, v)
	if i < 0 {
		return list
	}
	return append(list[:i:i], list[i+1:]...)
}

// principal finds the certificate an ARN names.
func (b *account) principal(arn string) (*certificate, *task.Error) {
	if id, ok := strings.CutPrefix(arn, b.arnPrefix+"cert/"); ok {
		if key, ok := parseCertificateID(id); ok {
			if c, ok := b.st.certificates.get(key); ok {
				return c, nil
			}
		}
		return nil, refuse(codeNotFound, "The certificate given in the principal does not exist.")
	}
	return nil, refuse(codeInvalidRequest, "Invalid principal: %s", restjson.Cut(arn))
}

// target finds the list of policies of the certificate or thing group that an ARN names.
func (b *account) target(arn string) (*[]*policy, *task.Error) {
	if name, ok := strings.CutPrefix(arn, b.arnPrefix+"thinggroup/"); ok {
		g, err := b.findThingGroup(name)
		if err != nil {
			return nil, err
		}
		return &g.policies, nil
	}
	c, err := b.principal(arn)
	if err != nil {
		return nil, err
	}
	return &c.policies, nil
}

func (b *account) groupOfARN(arn string) *thingGroup {
	name, _ := strings.CutPrefix(arn, b.arnPrefix+"thinggroup/")
	g, _ := b.st.thingGroups.get(name)
	return g
}
