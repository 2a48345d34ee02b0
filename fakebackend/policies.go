package fakebackend

import (
	"context"
	"fmt"
	"strconv"
	"time"

	policydoc "github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Policies: CreatePolicy, GetPolicy, ListPolicies, DeletePolicy, CreatePolicyVersion, GetPolicyVersion,
// ListPolicyVersions, SetDefaultPolicyVersion, DeletePolicyVersion.
//
// Models: documents that must be JSON policies of at most 2,048 characters; up to five versions; deletion refused while
// a policy is in use. Not modelled: what a policy lets a device do, the check of single actions
// and resources.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreatePolicy.html

// CreatePolicyInput is the request of CreatePolicy.
type CreatePolicyInput struct {
	PolicyName     string `json:"policyName"`
	PolicyDocument string `json:"policyDocument"`
	Tags           []Tag  `json:"tags,omitempty"`
}

// CreatePolicyOutput is the answer to CreatePolicy.
type CreatePolicyOutput struct {
	PolicyName      string `json:"policyName"`
	PolicyARN       string `json:"policyArn"`
	PolicyDocument  string `json:"policyDocument"`
	PolicyVersionID string `json:"policyVersionId"`
}

// CreatePolicy makes a policy.
func (b *IoT) CreatePolicy(ctx context.Context, in *CreatePolicyInput) (*CreatePolicyOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("policyName", in.PolicyName, shapePolicyName)
		c.need("policyDocument", in.PolicyDocument, shapePolicyDocument)
		c.tags(in.Tags)
	}
	return invoke(ctx, b, "CreatePolicy", "", check, func(now time.Time) (*CreatePolicyOutput, *task.Error) {
		if old, ok := b.st.policies.get(in.PolicyName); ok {
			err := refuse(codeAlreadyExists, "Policy cannot be created - name already exists (name=%s)", in.PolicyName)
			return nil, withResource(err, old.name, b.policyARN(old))
		}
		p, err := b.newPolicy(in.PolicyName, in.PolicyDocument, now)
		if err != nil {
			return nil, err
		}
		b.setTags(b.policyARN(p), in.Tags)
		return &CreatePolicyOutput{p.name, b.policyARN(p), in.PolicyDocument, "1"}, nil
	})
}

// PolicyInput names a policy: the request of GetPolicy, DeletePolicy and ListPolicyVersions.
type PolicyInput struct {
	PolicyName string `json:"policyName"`
}

// GetPolicyOutput is the answer to GetPolicy.
type GetPolicyOutput struct {
	PolicyName       string    `json:"policyName"`
	PolicyARN        string    `json:"policyArn"`
	PolicyDocument   string    `json:"policyDocument"`
	DefaultVersionID string    `json:"defaultVersionId"`
	CreationDate     time.Time `json:"creationDate"`
	LastModifiedDate time.Time `json:"lastModifiedDate"`
	GenerationID     string    `json:"generationId"`
}

func (in *PolicyInput) check(c *checker) { c.need("policyName", in.PolicyName, shapePolicyName) }

// GetPolicy reads a policy with the document of its default version.
func (b *IoT) GetPolicy(ctx context.Context, in *PolicyInput) (*GetPolicyOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, "GetPolicy", "", in.check, func(time.Time) (*GetPolicyOutput, *task.Error) {
		p, err := b.findPolicy(in.PolicyName)
		if err != nil {
			return nil, err
		}
		return &GetPolicyOutput{
			PolicyName: p.name, PolicyARN: b.policyARN(p), PolicyDocument: p.document(), DefaultVersionID: strconv.Itoa(p.standard),
			CreationDate: p.created, LastModifiedDate: p.modified, GenerationID: b.policyGeneration(p),
		}, nil
	})
}

// ListPoliciesInput is the request of ListPolicies.
type ListPoliciesInput struct {
	Marker         string `json:"marker,omitempty"`
	PageSize       *int32 `json:"pageSize,omitempty"`
	AscendingOrder bool   `json:"ascendingOrder,omitempty"`
}

// ListPoliciesOutput is the answer to ListPolicies and to the other lists of policies.
type ListPoliciesOutput struct {
	Policies   []PolicySummary `json:"policies"`
	NextMarker string          `json:"nextMarker,omitempty"`
}

// PolicySummary is a policy in a list.
type PolicySummary struct {
	PolicyName string `json:"policyName"`
	PolicyARN  string `json:"policyArn"`
}

// ListPolicies lists policies, newest first unless asked for the ascending order.
func (b *IoT) ListPolicies(ctx context.Context, in *ListPoliciesInput) (*ListPoliciesOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.may("marker", in.Marker, shapeMarker)
		c.page("pageSize", in.PageSize)
	}
	return invoke(ctx, b, "ListPolicies", "", check, func(time.Time) (*ListPoliciesOutput, *task.Error) {
		from, err := numberOf(in.Marker, "marker")
		if err != nil {
			return nil, err
		}
		rows := b.st.policies.before(from)
		if in.AscendingOrder {
			rows = b.st.policies.after(from)
		}
		page, next := pageOf(rows, b.size(in.PageSize))
		return &ListPoliciesOutput{b.summaries(page), next}, nil
	})
}

// DeletePolicyOutput is the answer to DeletePolicy.
type DeletePolicyOutput struct{}

// DeletePolicy removes a policy that is attached to nothing and has one version.
func (b *IoT) DeletePolicy(ctx context.Context, in *PolicyInput) (*DeletePolicyOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, "DeletePolicy", "", in.check, func(time.Time) (*DeletePolicyOutput, *task.Error) {
		p, err := b.findPolicy(in.PolicyName)
		switch {
		case err != nil:
			return nil, err
		case p.attached > 0:
			return nil, refuse(codeDeleteConflict, "The policy cannot be deleted as the policy is attached to one or more principals (name=%s)", p.name)
		case len(p.versions) > 1:
			return nil, refuse(codeDeleteConflict, "Cannot delete the policy because it has one or more policy versions attached to it (name=%s)", p.name)
		}
		b.st.policies.remove(p.name)
		delete(b.st.tags, b.policyARN(p))
		return &DeletePolicyOutput{}, nil
	})
}

// CreatePolicyVersionInput is the request of CreatePolicyVersion.
type CreatePolicyVersionInput struct {
	PolicyName     string `json:"policyName"`
	PolicyDocument string `json:"policyDocument"`
	SetAsDefault   bool   `json:"setAsDefault,omitempty"`
}

// CreatePolicyVersionOutput is the answer to CreatePolicyVersion.
type CreatePolicyVersionOutput struct {
	PolicyARN        string `json:"policyArn"`
	PolicyDocument   string `json:"policyDocument"`
	PolicyVersionID  string `json:"policyVersionId"`
	IsDefaultVersion bool   `json:"isDefaultVersion"`
}

// policyVersions is how many versions a policy can have.
const policyVersions = 5

// CreatePolicyVersion adds a version to a policy.
func (b *IoT) CreatePolicyVersion(ctx context.Context, in *CreatePolicyVersionInput) (*CreatePolicyVersionOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("policyName", in.PolicyName, shapePolicyName)
		c.need("policyDocument", in.PolicyDocument, shapePolicyDocument)
	}
	return invoke(ctx, b, "CreatePolicyVersion", "", check, func(now time.Time) (*CreatePolicyVersionOutput, *task.Error) {
		p, err := b.findPolicy(in.PolicyName)
		if err != nil {
			return nil, err
		}
		if err := checkPolicyDocument(in.PolicyDocument); err != nil {
			return nil, err
		}
		if len(p.versions) >= policyVersions {
			return nil, refuse(codeVersionsLimit, "The policy %s already has the maximum number of versions (%d)", p.name, policyVersions)
		}
		p.next++
		p.versions = append(p.versions, policyVersion{p.next, in.PolicyDocument, stamp(now)})
		p.modified = stamp(now)
		if in.SetAsDefault {
			p.standard = p.next
		}
		return &CreatePolicyVersionOutput{b.policyARN(p), in.PolicyDocument, strconv.Itoa(p.next), in.SetAsDefault}, nil
	})
}

// PolicyVersionInput names a version of a policy: the request of GetPolicyVersion, SetDefaultPolicyVersion and
// DeletePolicyVersion.
type PolicyVersionInput struct {
	PolicyName      string `json:"policyName"`
	PolicyVersionID string `json:"policyVersionId"`
}

func (in *PolicyVersionInput) check(c *checker) {
	c.need("policyName", in.PolicyName, shapePolicyName)
	c.need("policyVersionId", in.PolicyVersionID, shapeVersionID)
}

// GetPolicyVersionOutput is the answer to GetPolicyVersion.
type GetPolicyVersionOutput struct {
	PolicyARN        string    `json:"policyArn"`
	PolicyName       string    `json:"policyName"`
	PolicyDocument   string    `json:"policyDocument"`
	PolicyVersionID  string    `json:"policyVersionId"`
	IsDefaultVersion bool      `json:"isDefaultVersion"`
	CreationDate     time.Time `json:"creationDate"`
	LastModifiedDate time.Time `json:"lastModifiedDate"`
	GenerationID     string    `json:"generationId"`
}

// GetPolicyVersion reads one version of a policy.
func (b *IoT) GetPolicyVersion(ctx context.Context, in *PolicyVersionInput) (*GetPolicyVersionOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, "GetPolicyVersion", "", in.check, func(time.Time) (*GetPolicyVersionOutput, *task.Error) {
		p, v, err := b.findVersion(in)
		if err != nil {
			return nil, err
		}
		return &GetPolicyVersionOutput{
			PolicyARN: b.policyARN(p), PolicyName: p.name, PolicyDocument: v.document, PolicyVersionID: strconv.Itoa(v.id),
			IsDefaultVersion: v.id == p.standard, CreationDate: v.created, LastModifiedDate: v.created, GenerationID: b.policyGeneration(p),
		}, nil
	})
}

// ListPolicyVersionsOutput is the answer to ListPolicyVersions.
type ListPolicyVersionsOutput struct {
	PolicyVersions []PolicyVersion `json:"policyVersions"`
}

// PolicyVersion is a version in the answer to ListPolicyVersions.
type PolicyVersion struct {
	VersionID        string    `json:"versionId"`
	IsDefaultVersion bool      `json:"isDefaultVersion"`
	CreateDate       time.Time `json:"createDate"`
}

// ListPolicyVersions lists the versions of a policy, oldest first.
func (b *IoT) ListPolicyVersions(ctx context.Context, in *PolicyInput) (*ListPolicyVersionsOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, "ListPolicyVersions", "", in.check, func(time.Time) (*ListPolicyVersionsOutput, *task.Error) {
		p, err := b.findPolicy(in.PolicyName)
		if err != nil {
			return nil, err
		}
		out := &ListPolicyVersionsOutput{}
		for _, v := range p.versions {
			out.PolicyVersions = append(out.PolicyVersions, PolicyVersion{strconv.Itoa(v.id), v.id == p.standard, v.created})
		}
		return out, nil
	})
}

// SetDefaultPolicyVersionOutput is the answer to SetDefaultPolicyVersion.
type SetDefaultPolicyVersionOutput struct{}

// SetDefaultPolicyVersion makes a version the one that counts.
func (b *IoT) SetDefaultPolicyVersion(ctx context.Context, in *PolicyVersionInput) (*SetDefaultPolicyVersionOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, "SetDefaultPolicyVersion", "", in.check, func(now time.Time) (*SetDefaultPolicyVersionOutput, *task.Error) {
		p, v, err := b.findVersion(in)
		if err != nil {
			return nil, err
		}
		p.standard, p.modified = v.id, stamp(now)
		return &SetDefaultPolicyVersionOutput{}, nil
	})
}

// DeletePolicyVersionOutput is the answer to DeletePolicyVersion.
type DeletePolicyVersionOutput struct{}

// DeletePolicyVersion removes a version that is not the default one.
func (b *IoT) DeletePolicyVersion(ctx context.Context, in *PolicyVersionInput) (*DeletePolicyVersionOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, "DeletePolicyVersion", "", in.check, func(time.Time) (*DeletePolicyVersionOutput, *task.Error) {
		p, v, err := b.findVersion(in)
		if err != nil {
			return nil, err
		}
		if v.id == p.standard {
			return nil, refuse(codeInvalidRequest, "Cannot delete the default version of a policy")
		}
		for i := range p.versions {
			if p.versions[i].id == v.id {
				p.versions = append(p.versions[:i:i], p.versions[i+1:]...)
				break
			}
		}
		return &DeletePolicyVersionOutput{}, nil
	})
}

func (b *IoT) findPolicy(name string) (*policy, *task.Error) {
	p, ok := b.st.policies.get(name)
	if !ok {
		return nil, refuse(codeNotFound, "Policy not found (name=%s)", name)
	}
	return p, nil
}

func (b *IoT) findVersion(in *PolicyVersionInput) (*policy, *policyVersion, *task.Error) {
	p, err := b.findPolicy(in.PolicyName)
	if err != nil {
		return nil, nil, err
	}
	id, _ := strconv.Atoi(in.PolicyVersionID)
	v := p.version(id)
	if v == nil {
		return nil, nil, refuse(codeNotFound, "Policy version not found (name=%s, version=%s)", p.name, in.PolicyVersionID)
	}
	return p, v, nil
}

// newPolicy makes a policy whose name is free.
func (b *IoT) newPolicy(name, document string, now time.Time) (*policy, *task.Error) {
	if err := checkPolicyDocument(document); err != nil {
		return nil, err
	}
	p := &policy{name: name, created: stamp(now), modified: stamp(now), standard: 1, next: 1}
	p.versions = []policyVersion{{1, document, stamp(now)}}
	b.st.policies.add(name, p)
	return p, nil
}

func (p *policy) document() string { return p.version(p.standard).document }

// policyGeneration is the generation id of a policy: 64 hex digits that change with every version.
func (b *IoT) policyGeneration(p *policy) string {
	return fmt.Sprintf("%x", b.digest("policy "+strconv.Itoa(p.next), p.number()))
}

func (b *IoT) summaries(policies []*policy) []PolicySummary {
	out := make([]PolicySummary, 0, len(policies))
	for _, p := range policies {
		out = append(out, PolicySummary{p.name, b.policyARN(p)})
	}
	return out
}

// checkPolicyDocument refuses what cannot be a device's policy: what is not JSON, does not follow the grammar of policies,
// has a statement without resources, or more characters than AWS takes, white space not counted. Members that policies do
// not have, or twice, are accepted: what AWS IoT makes of them is not documented.
func checkPolicyDocument(document string) *task.Error {
	d, problems := policydoc.Parse(document)
	for _, p := range problems {
		if p.Kind != policydoc.UnknownMember && p.Kind != policydoc.RepeatedMember {
			return refuse(codeMalformedPolicy, "Policy document is malformed: %s", p.Message)
		}
	}
	for i := range d.Statements {
		if s := &d.Statements[i]; len(s.Resources) == 0 && len(s.NotResources) == 0 {
			return refuse(codeMalformedPolicy, "Policy document is malformed: statement %d has no Resource", i+1)
		}
	}
	if n := policydoc.Size(document); n > rule.PolicyDocument {
		return refuse(codeMalformedPolicy, "The policy document has %d characters without white space. The maximum is %d", n, rule.PolicyDocument)
	}
	return nil
}
