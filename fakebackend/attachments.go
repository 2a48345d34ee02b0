package fakebackend

import (
	"context"
	"slices"
	"strings"
	"time"

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

// The types of attachment between a thing and a principal.
const (
	ExclusiveThing    = "EXCLUSIVE_THING"
	NonExclusiveThing = "NON_EXCLUSIVE_THING"
)

// AttachThingPrincipalInput is the request of AttachThingPrincipal.
type AttachThingPrincipalInput struct {
	ThingName          string `json:"thingName"`
	Principal          string `json:"principal"`
	ThingPrincipalType string `json:"thingPrincipalType,omitempty"`
}

// AttachThingPrincipalOutput is the answer to AttachThingPrincipal.
type AttachThingPrincipalOutput struct{}

// AttachThingPrincipal attaches a certificate, named by its ARN, to a thing.
func (b *IoT) AttachThingPrincipal(ctx context.Context, in *AttachThingPrincipalInput) (*AttachThingPrincipalOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingName", in.ThingName, shapeThingName)
		c.need("principal", in.Principal, shapeAny)
		c.oneOf("thingPrincipalType", in.ThingPrincipalType, ExclusiveThing, NonExclusiveThing)
	}
	return invoke(ctx, b, "AttachThingPrincipal", in.ThingName, check, func(time.Time) (*AttachThingPrincipalOutput, *task.Error) {
		t, err := b.findThing(in.ThingName)
		if err != nil {
			return nil, err
		}
		c, err := b.principal(in.Principal)
		if err != nil {
			return nil, err
		}
		_, err = b.attachCertificate(t, c, in.ThingPrincipalType == ExclusiveThing)
		return &AttachThingPrincipalOutput{}, err
	})
}

// DetachThingPrincipalInput is the request of DetachThingPrincipal.
type DetachThingPrincipalInput struct {
	ThingName string `json:"thingName"`
	Principal string `json:"principal"`
}

// DetachThingPrincipalOutput is the answer to DetachThingPrincipal.
type DetachThingPrincipalOutput struct{}

// DetachThingPrincipal takes a certificate off a thing. It is no error when it is not attached.
func (b *IoT) DetachThingPrincipal(ctx context.Context, in *DetachThingPrincipalInput) (*DetachThingPrincipalOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingName", in.ThingName, shapeThingName)
		c.need("principal", in.Principal, shapeAny)
	}
	return invoke(ctx, b, "DetachThingPrincipal", in.ThingName, check, func(time.Time) (*DetachThingPrincipalOutput, *task.Error) {
		t, err := b.findThing(in.ThingName)
		if err != nil {
			return nil, err
		}
		c, err := b.principal(in.Principal)
		if err != nil {
			return nil, err
		}
		b.detachCertificate(t, c)
		return &DetachThingPrincipalOutput{}, nil
	})
}

// ListThingPrincipalsInput is the request of ListThingPrincipals.
type ListThingPrincipalsInput struct {
	ThingName  string `json:"thingName"`
	NextToken  string `json:"nextToken,omitempty"`
	MaxResults *int32 `json:"maxResults,omitempty"`
}

// ListThingPrincipalsOutput is the answer to ListThingPrincipals.
type ListThingPrincipalsOutput struct {
	Principals []string `json:"principals"`
	NextToken  string   `json:"nextToken,omitempty"`
}

// ListThingPrincipals lists the ARNs of the certificates attached to a thing.
func (b *IoT) ListThingPrincipals(ctx context.Context, in *ListThingPrincipalsInput) (*ListThingPrincipalsOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingName", in.ThingName, shapeThingName)
		c.page("maxResults", in.MaxResults)
	}
	return invoke(ctx, b, "ListThingPrincipals", in.ThingName, check, func(time.Time) (*ListThingPrincipalsOutput, *task.Error) {
		t, err := b.findThing(in.ThingName)
		if err != nil {
			return nil, err
		}
		page, next, err := slicePage(t.certificates, in.NextToken, "nextToken", b.size(in.MaxResults))
		if err != nil {
			return nil, err
		}
		out := &ListThingPrincipalsOutput{Principals: make([]string, 0, len(page)), NextToken: next}
		for _, c := range page {
			out.Principals = append(out.Principals, b.certificateARN(c))
		}
		return out, nil
	})
}

// ListThingPrincipalsV2Input is the request of ListThingPrincipalsV2.
type ListThingPrincipalsV2Input struct {
	ThingName          string `json:"thingName"`
	NextToken          string `json:"nextToken,omitempty"`
	MaxResults         *int32 `json:"maxResults,omitempty"`
	ThingPrincipalType string `json:"thingPrincipalType,omitempty"`
}

// ListThingPrincipalsV2Output is the answer to ListThingPrincipalsV2.
type ListThingPrincipalsV2Output struct {
	ThingPrincipalObjects []ThingPrincipalObject `json:"thingPrincipalObjects"`
	NextToken             string                 `json:"nextToken,omitempty"`
}

// ThingPrincipalObject is a principal attached to a thing.
type ThingPrincipalObject struct {
	Principal          string `json:"principal"`
	ThingPrincipalType string `json:"thingPrincipalType"`
}

// ListThingPrincipalsV2 lists the certificates attached to a thing, with how each is attached.
func (b *IoT) ListThingPrincipalsV2(ctx context.Context, in *ListThingPrincipalsV2Input) (*ListThingPrincipalsV2Output, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingName", in.ThingName, shapeThingName)
		c.page("maxResults", in.MaxResults)
		c.oneOf("thingPrincipalType", in.ThingPrincipalType, ExclusiveThing, NonExclusiveThing)
	}
	return invoke(ctx, b, "ListThingPrincipalsV2", in.ThingName, check, func(time.Time) (*ListThingPrincipalsV2Output, *task.Error) {
		t, err := b.findThing(in.ThingName)
		if err != nil {
			return nil, err
		}
		var all []ThingPrincipalObject
		for _, c := range t.certificates {
			if in.ThingPrincipalType == "" || in.ThingPrincipalType == c.attachment() {
				all = append(all, ThingPrincipalObject{b.certificateARN(c), c.attachment()})
			}
		}
		page, next, err := slicePage(all, in.NextToken, "nextToken", b.size(in.MaxResults))
		return &ListThingPrincipalsV2Output{page, next}, err
	})
}

// ListPrincipalThingsInput is the request of ListPrincipalThings.
type ListPrincipalThingsInput struct {
	Principal  string `json:"principal"`
	NextToken  string `json:"nextToken,omitempty"`
	MaxResults *int32 `json:"maxResults,omitempty"`
}

// ListPrincipalThingsOutput is the answer to ListPrincipalThings.
type ListPrincipalThingsOutput struct {
	Things    []string `json:"things"`
	NextToken string   `json:"nextToken,omitempty"`
}

// ListPrincipalThings lists the names of the things that a certificate is attached to.
func (b *IoT) ListPrincipalThings(ctx context.Context, in *ListPrincipalThingsInput) (*ListPrincipalThingsOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("principal", in.Principal, shapeAny)
		c.page("maxResults", in.MaxResults)
	}
	return invoke(ctx, b, "ListPrincipalThings", "", check, func(time.Time) (*ListPrincipalThingsOutput, *task.Error) {
		c, err := b.principal(in.Principal)
		if err != nil {
			return nil, err
		}
		page, next, err := slicePage(c.things, in.NextToken, "nextToken", b.size(in.MaxResults))
		if err != nil {
			return nil, err
		}
		out := &ListPrincipalThingsOutput{Things: make([]string, 0, len(page)), NextToken: next}
		for _, t := range page {
			out.Things = append(out.Things, t.name)
		}
		return out, nil
	})
}

// ListPrincipalThingsV2Input is the request of ListPrincipalThingsV2.
type ListPrincipalThingsV2Input struct {
	Principal          string `json:"principal"`
	NextToken          string `json:"nextToken,omitempty"`
	MaxResults         *int32 `json:"maxResults,omitempty"`
	ThingPrincipalType string `json:"thingPrincipalType,omitempty"`
}

// ListPrincipalThingsV2Output is the answer to ListPrincipalThingsV2.
type ListPrincipalThingsV2Output struct {
	PrincipalThingObjects []PrincipalThingObject `json:"principalThingObjects"`
	NextToken             string                 `json:"nextToken,omitempty"`
}

// PrincipalThingObject is a thing that a principal is attached to.
type PrincipalThingObject struct {
	ThingName          string `json:"thingName"`
	ThingPrincipalType string `json:"thingPrincipalType"`
}

// ListPrincipalThingsV2 lists the things that a certificate is attached to, with how it is.
func (b *IoT) ListPrincipalThingsV2(ctx context.Context, in *ListPrincipalThingsV2Input) (*ListPrincipalThingsV2Output, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("principal", in.Principal, shapeAny)
		c.page("maxResults", in.MaxResults)
		c.oneOf("thingPrincipalType", in.ThingPrincipalType, ExclusiveThing, NonExclusiveThing)
	}
	return invoke(ctx, b, "ListPrincipalThingsV2", "", check, func(time.Time) (*ListPrincipalThingsV2Output, *task.Error) {
		c, err := b.principal(in.Principal)
		if err != nil {
			return nil, err
		}
		var all []PrincipalThingObject
		for _, t := range c.things {
			if in.ThingPrincipalType == "" || in.ThingPrincipalType == c.attachment() {
				all = append(all, PrincipalThingObject{t.name, c.attachment()})
			}
		}
		page, next, err := slicePage(all, in.NextToken, "nextToken", b.size(in.MaxResults))
		return &ListPrincipalThingsV2Output{page, next}, err
	})
}

// AttachPolicyInput is the request of AttachPolicy and DetachPolicy.
type AttachPolicyInput struct {
	PolicyName string `json:"policyName"`
	Target     string `json:"target"`
}

func (in *AttachPolicyInput) check(c *checker) {
	c.need("policyName", in.PolicyName, shapePolicyName)
	c.need("target", in.Target, shapeAny)
}

// AttachPolicyOutput is the answer to AttachPolicy and DetachPolicy.
type AttachPolicyOutput struct{}

// AttachPolicy attaches a policy to a certificate or a thing group, named by its ARN.
func (b *IoT) AttachPolicy(ctx context.Context, in *AttachPolicyInput) (*AttachPolicyOutput, error) {
	in = orZero(in)
	return b.attachOrDetachPolicy(ctx, "AttachPolicy", in, in.check, true)
}

// DetachPolicy takes a policy off a certificate or a thing group.
func (b *IoT) DetachPolicy(ctx context.Context, in *AttachPolicyInput) (*AttachPolicyOutput, error) {
	in = orZero(in)
	return b.attachOrDetachPolicy(ctx, "DetachPolicy", in, in.check, false)
}

// PrincipalPolicyInput is the request of AttachPrincipalPolicy and DetachPrincipalPolicy.
type PrincipalPolicyInput struct {
	PolicyName string `json:"policyName"`
	Principal  string `json:"principal"`
}

func (in *PrincipalPolicyInput) check(c *checker) {
	c.need("policyName", in.PolicyName, shapePolicyName)
	c.need("principal", in.Principal, shapeAny)
}

// AttachPrincipalPolicy is the older form of AttachPolicy.
func (b *IoT) AttachPrincipalPolicy(ctx context.Context, in *PrincipalPolicyInput) (*AttachPolicyOutput, error) {
	in = orZero(in)
	return b.attachOrDetachPolicy(ctx, "AttachPrincipalPolicy", &AttachPolicyInput{in.PolicyName, in.Principal}, in.check, true)
}

// DetachPrincipalPolicy is the older form of DetachPolicy.
func (b *IoT) DetachPrincipalPolicy(ctx context.Context, in *PrincipalPolicyInput) (*AttachPolicyOutput, error) {
	in = orZero(in)
	return b.attachOrDetachPolicy(ctx, "DetachPrincipalPolicy", &AttachPolicyInput{in.PolicyName, in.Principal}, in.check, false)
}

func (b *IoT) attachOrDetachPolicy(ctx context.Context, op string, in *AttachPolicyInput, check func(*checker), attach bool) (*AttachPolicyOutput, error) {
	return invoke(ctx, b, op, "", check, func(time.Time) (*AttachPolicyOutput, *task.Error) {
		p, err := b.findPolicy(in.PolicyName)
		if err != nil {
			return nil, err
		}
		to, err := b.target(in.Target)
		if err != nil {
			return nil, err
		}
		if attach {
			_, err = b.attachPolicyTo(p, to)
		} else {
			b.detachPolicyFrom(p, to)
		}
		return &AttachPolicyOutput{}, err
	})
}

// ListAttachedPoliciesInput is the request of ListAttachedPolicies.
type ListAttachedPoliciesInput struct {
	Target    string `json:"target"`
	Recursive bool   `json:"recursive,omitempty"`
	Marker    string `json:"marker,omitempty"`
	PageSize  *int32 `json:"pageSize,omitempty"`
}

// ListAttachedPolicies lists the policies attached to a certificate or a thing group; recursively, also those of the
// groups above it.
func (b *IoT) ListAttachedPolicies(ctx context.Context, in *ListAttachedPoliciesInput) (*ListPoliciesOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("target", in.Target, shapeAny)
		c.may("marker", in.Marker, shapeMarker)
		c.page("pageSize", in.PageSize)
	}
	return invoke(ctx, b, "ListAttachedPolicies", "", check, func(time.Time) (*ListPoliciesOutput, *task.Error) {
		to, err := b.target(in.Target)
		if err != nil {
			return nil, err
		}
		all := slices.Clone(*to)
		if g := b.groupOfARN(in.Target); g != nil && in.Recursive {
			for g = g.parent; g != nil; g = g.parent {
				for _, p := range g.policies {
					if !slices.Contains(all, p) {
						all = append(all, p)
					}
				}
			}
		}
		page, next, err := slicePage(all, in.Marker, "marker", b.size(in.PageSize))
		return &ListPoliciesOutput{b.summaries(page), next}, err
	})
}

// ListPrincipalPoliciesInput is the request of ListPrincipalPolicies.
type ListPrincipalPoliciesInput struct {
	Principal      string `json:"principal"`
	Marker         string `json:"marker,omitempty"`
	PageSize       *int32 `json:"pageSize,omitempty"`
	AscendingOrder bool   `json:"ascendingOrder,omitempty"`
}

// ListPrincipalPolicies is the older form of ListAttachedPolicies.
func (b *IoT) ListPrincipalPolicies(ctx context.Context, in *ListPrincipalPoliciesInput) (*ListPoliciesOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("principal", in.Principal, shapeAny)
		c.may("marker", in.Marker, shapeMarker)
		c.page("pageSize", in.PageSize)
	}
	return invoke(ctx, b, "ListPrincipalPolicies", "", check, func(time.Time) (*ListPoliciesOutput, *task.Error) {
		to, err := b.target(in.Principal)
		if err != nil {
			return nil, err
		}
		all := slices.Clone(*to)
		if !in.AscendingOrder {
			slices.Reverse(all)
		}
		page, next, err := slicePage(all, in.Marker, "marker", b.size(in.PageSize))
		return &ListPoliciesOutput{b.summaries(page), next}, err
	})
}

// ListTargetsForPolicyInput is the request of ListTargetsForPolicy.
type ListTargetsForPolicyInput struct {
	PolicyName string `json:"policyName"`
	Marker     string `json:"marker,omitempty"`
	PageSize   *int32 `json:"pageSize,omitempty"`
}

// ListTargetsForPolicyOutput is the answer to ListTargetsForPolicy.
type ListTargetsForPolicyOutput struct {
	Targets    []string `json:"targets"`
	NextMarker string   `json:"nextMarker,omitempty"`
}

// ListTargetsForPolicy lists the ARNs a policy is attached to: certificates in the order they were made, and then thing
// groups.
func (b *IoT) ListTargetsForPolicy(ctx context.Context, in *ListTargetsForPolicyInput) (*ListTargetsForPolicyOutput, error) {
	in = orZero(in)
	targets, next, err := b.listTargets(ctx, "ListTargetsForPolicy", in, true)
	if err != nil {
		return nil, err
	}
	return &ListTargetsForPolicyOutput{targets, next}, nil
}

// ListPolicyPrincipalsInput is the request of ListPolicyPrincipals.
type ListPolicyPrincipalsInput struct {
	PolicyName     string `json:"policyName"`
	Marker         string `json:"marker,omitempty"`
	PageSize       *int32 `json:"pageSize,omitempty"`
	AscendingOrder bool   `json:"ascendingOrder,omitempty"`
}

// ListPolicyPrincipalsOutput is the answer to ListPolicyPrincipals.
type ListPolicyPrincipalsOutput struct {
	Principals []string `json:"principals"`
	NextMarker string   `json:"nextMarker,omitempty"`
}

// ListPolicyPrincipals is the older form of ListTargetsForPolicy; it knows certificates only, and gives them oldest first.
func (b *IoT) ListPolicyPrincipals(ctx context.Context, in *ListPolicyPrincipalsInput) (*ListPolicyPrincipalsOutput, error) {
	in = orZero(in)
	principals, next, err := b.listTargets(ctx, "ListPolicyPrincipals", &ListTargetsForPolicyInput{in.PolicyName, in.Marker, in.PageSize}, false)
	if err != nil {
		return nil, err
	}
	return &ListPolicyPrincipalsOutput{principals, next}, nil
}

// groupNumbers is added to a group's number to make it come after all certificates.
const groupNumbers = 1 << 62

func (b *IoT) listTargets(ctx context.Context, op string, in *ListTargetsForPolicyInput, groups bool) (targets []string, next string, err error) {
	check := func(c *checker) {
		c.need("policyName", in.PolicyName, shapePolicyName)
		c.may("marker", in.Marker, shapeMarker)
		c.page("pageSize", in.PageSize)
	}
	type answer struct {
		targets []string
		next    string
	}
	out, err := invoke(ctx, b, op, "", check, func(time.Time) (answer, *task.Error) {
		p, err := b.findPolicy(in.PolicyName)
		if err != nil {
			return answer{}, err
		}
		from, err := numberOf(in.Marker, "marker")
		if err != nil {
			return answer{}, err
		}
		size := b.size(in.PageSize)
		a := answer{targets: make([]string, 0, min(size, p.attached))}
		last := uint64(0)
		full := func(arn string, number uint64) bool {
			if len(a.targets) == size {
				a.next = token(last)
				return true
			}
			a.targets, last = append(a.targets, arn), number
			return false
		}
		if from < groupNumbers {
			for c := range b.st.certificates.after(from) {
				if slices.Contains(c.policies, p) && full(b.certificateARN(c), c.number()) {
					return a, nil
				}
			}
			from = groupNumbers
		}
		if groups {
			for g := range b.st.thingGroups.after(from - groupNumbers) {
				if slices.Contains(g.policies, p) && full(b.thingGroupARN(g), groupNumbers+g.number()) {
					return a, nil
				}
			}
		}
		return a, nil
	})
	return out.targets, out.next, err
}

func (c *certificate) attachment() string {
	if c.exclusive {
		return ExclusiveThing
	}
	return NonExclusiveThing
}

// attachCertificate attaches a certificate to a thing; twice is no error.
func (b *IoT) attachCertificate(t *thing, c *certificate, exclusive bool) (added bool, err *task.Error) {
	if slices.Contains(t.certificates, c) {
		return false, nil
	}
	if len(c.things) > 0 && (exclusive || c.exclusive) {
		return false, refuse(codeInvalidRequest, "The principal %s is attached to another thing and one of the attachments is %s",
			b.certificateARN(c), ExclusiveThing)
	}
	t.certificates = append(t.certificates, c)
	c.things = append(c.things, t)
	c.exclusive = exclusive
	return true, nil
}

func (b *IoT) detachCertificate(t *thing, c *certificate) {
	t.certificates = without(t.certificates, c)
	c.things = without(c.things, t)
	if len(c.things) == 0 {
		c.exclusive = false
	}
}

// attachPolicyTo attaches a policy to a target's policies; twice is no error.
func (b *IoT) attachPolicyTo(p *policy, to *[]*policy) (added bool, err *task.Error) {
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

func (b *IoT) detachPolicyFrom(p *policy, from *[]*policy) {
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
func (b *IoT) principal(arn string) (*certificate, *task.Error) {
	if id, ok := strings.CutPrefix(arn, b.arnPrefix+"cert/"); ok {
		if key, ok := parseCertificateID(id); ok {
			if c, ok := b.st.certificates.get(key); ok {
				return c, nil
			}
		}
		return nil, refuse(codeNotFound, "The certificate given in the principal does not exist.")
	}
	return nil, refuse(codeInvalidRequest, "Invalid principal: %s", cutValue(arn))
}

// target finds the list of policies of the certificate or thing group that an ARN names.
func (b *IoT) target(arn string) (*[]*policy, *task.Error) {
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

func (b *IoT) groupOfARN(arn string) *thingGroup {
	name, _ := strings.CutPrefix(arn, b.arnPrefix+"thinggroup/")
	g, _ := b.st.thingGroups.get(name)
	return g
}
