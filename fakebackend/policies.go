package fakebackend

import (
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
// a policy is in use. What a policy lets a device do is in authorization.go. Not modelled: the check of single actions and
// resources.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreatePolicy.html

var policyOperations = []*operation{
	operationOf("CreatePolicy", "POST /policies/{policyName}", (*account).createPolicy),
	operationOf("GetPolicy", "GET /policies/{policyName}", (*account).getPolicy),
	listOf("ListPolicies", "GET /policies", "policies", (*account).listPolicies),
	operationOf("DeletePolicy", "DELETE /policies/{policyName}", (*account).deletePolicy),
	operationOf("CreatePolicyVersion", "POST /policies/{policyName}/version", (*account).createPolicyVersion),
	operationOf("GetPolicyVersion", "GET /policies/{policyName}/version/{policyVersionId}", (*account).getPolicyVersion),
	operationOf("ListPolicyVersions", "GET /policies/{policyName}/version", (*account).listPolicyVersions),
	operationOf("SetDefaultPolicyVersion", "PATCH /policies/{policyName}/version/{policyVersionId}", (*account).setDefaultPolicyVersion),
	operationOf("DeletePolicyVersion", "DELETE /policies/{policyName}/version/{policyVersionId}", (*account).deletePolicyVersion),
}

type createPolicyInput struct {
	PolicyName     string `path:"policyName" is:"PolicyName"`
	PolicyDocument string `json:"policyDocument" is:"PolicyDocument" required:"true"`
	Tags           []tag  `json:"tags"`
}

type createPolicyOutput struct {
	PolicyName      string `json:"policyName"`
	PolicyARN       string `json:"policyArn"`
	PolicyDocument  string `json:"policyDocument"`
	PolicyVersionID string `json:"policyVersionId"`
}

// createPolicy makes a policy.
func (b *account) createPolicy(now time.Time, in *createPolicyInput) (*createPolicyOutput, *task.Error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if old, ok := b.st.policies.get(in.PolicyName); ok {
		err := refuse(codeAlreadyExists, "Policy cannot be created - name already exists (name=%s)", in.PolicyName)
		return nil, withResource(err, old.name, b.policyARN(old))
	}
	p, err := b.newPolicy(in.PolicyName, in.PolicyDocument, now)
	if err != nil {
		return nil, err
	}
	b.setTags(b.policyARN(p), in.Tags)
	return &createPolicyOutput{p.name, b.policyARN(p), in.PolicyDocument, "1"}, nil
}

// policyInput names a policy: the request of GetPolicy, DeletePolicy and ListPolicyVersions.
type policyInput struct {
	PolicyName string `path:"policyName" is:"PolicyName"`
}

type getPolicyOutput struct {
	PolicyName       string    `json:"policyName"`
	PolicyARN        string    `json:"policyArn"`
	PolicyDocument   string    `json:"policyDocument"`
	DefaultVersionID string    `json:"defaultVersionId"`
	CreationDate     time.Time `json:"creationDate"`
	LastModifiedDate time.Time `json:"lastModifiedDate"`
	GenerationID     string    `json:"generationId"`
}

// getPolicy reads a policy with the document of its default version.
func (b *account) getPolicy(_ time.Time, in *policyInput) (*getPolicyOutput, *task.Error) {
	p, err := b.findPolicy(in.PolicyName)
	if err != nil {
		return nil, err
	}
	return &getPolicyOutput{
		PolicyName: p.name, PolicyARN: b.policyARN(p), PolicyDocument: p.document(), DefaultVersionID: strconv.Itoa(p.standard),
		CreationDate: p.created, LastModifiedDate: p.modified, GenerationID: b.policyGeneration(p),
	}, nil
}

type listPoliciesInput struct {
	byMarker
	AscendingOrder bool `query:"ascendingOrder=isAscendingOrder"`
}

// policySummary is a policy in a list.
type policySummary struct {
	PolicyName string `json:"policyName"`
	PolicyARN  string `json:"policyArn"`
}

// listPolicies lists policies, newest first unless asked for the ascending order.
func (b *account) listPolicies(in *listPoliciesInput, p *page) ([]policySummary, *task.Error) {
	return rowsOf(p, inOrder(&b.st.policies, p, in.AscendingOrder), b.policySummary), nil
}

// deletePolicy removes a policy that is attached to nothing and has one version.
func (b *account) deletePolicy(_ time.Time, in *policyInput) (*nothing, *task.Error) {
	p, err := b.findPolicy(in.PolicyName)
	switch {
	case err != nil:
		return nil, err
	case p.attached > 0:
		return nil, refuse(codeDeleteConflict, "The policy cannot be deleted as the policy is attached to one or more principals (name=%s)", p.name)
	case len(p.versions) > 1:
		return nil, refuse(codeDeleteConflict, "The policy cannot be deleted as versions other than than default version exist (name=%s)", p.name)
	}
	b.st.policies.remove(p.name)
	delete(b.st.tags, b.policyARN(p))
	return nil, nil
}

type createPolicyVersionInput struct {
	PolicyName     string `path:"policyName" is:"PolicyName"`
	PolicyDocument string `json:"policyDocument" is:"PolicyDocument" required:"true"`
	SetAsDefault   bool   `query:"setAsDefault"`
}

type createPolicyVersionOutput struct {
	PolicyARN        string `json:"policyArn"`
	PolicyDocument   string `json:"policyDocument"`
	PolicyVersionID  string `json:"policyVersionId"`
	IsDefaultVersion bool   `json:"isDefaultVersion"`
}

// policyVersions is how many versions a policy can have.
const policyVersions = 5

// createPolicyVersion adds a version to a policy.
func (b *account) createPolicyVersion(now time.Time, in *createPolicyVersionInput) (*createPolicyVersionOutput, *task.Error) {
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
	return &createPolicyVersionOutput{b.policyARN(p), in.PolicyDocument, strconv.Itoa(p.next), in.SetAsDefault}, nil
}

// policyVersionInput names a version of a policy: the request of GetPolicyVersion, SetDefaultPolicyVersion and
// DeletePolicyVersion.
type policyVersionInput struct {
	PolicyName      string `path:"policyName" is:"PolicyName"`
	PolicyVersionID string `path:"policyVersionId" is:"PolicyVersionId"`
}

type getPolicyVersionOutput struct {
	PolicyARN        string    `json:"policyArn"`
	PolicyName       string    `json:"policyName"`
	PolicyDocument   string    `json:"policyDocument"`
	PolicyVersionID  string    `json:"policyVersionId"`
	IsDefaultVersion bool      `json:"isDefaultVersion"`
	CreationDate     time.Time `json:"creationDate"`
	LastModifiedDate time.Time `json:"lastModifiedDate"`
	GenerationID     string    `json:"generationId"`
}

// getPolicyVersion reads one version of a policy.
func (b *account) getPolicyVersion(_ time.Time, in *policyVersionInput) (*getPolicyVersionOutput, *task.Error) {
	p, v, err := b.findVersion(in)
	if err != nil {
		return nil, err
	}
	return &getPolicyVersionOutput{
		PolicyARN: b.policyARN(p), PolicyName: p.name, PolicyDocument: v.document, PolicyVersionID: strconv.Itoa(v.id),
		IsDefaultVersion: v.id == p.standard, CreationDate: v.created, LastModifiedDate: v.created, GenerationID: b.policyGeneration(p),
	}, nil
}

type listPolicyVersionsOutput struct {
	PolicyVersions []policyVersionSummary `json:"policyVersions"`
}

// policyVersionSummary is a version in the answer to ListPolicyVersions.
type policyVersionSummary struct {
	VersionID        string    `json:"versionId"`
	IsDefaultVersion bool      `json:"isDefaultVersion"`
	CreateDate       time.Time `json:"createDate"`
}

// listPolicyVersions lists the versions of a policy, oldest first.
func (b *account) listPolicyVersions(_ time.Time, in *policyInput) (*listPolicyVersionsOutput, *task.Error) {
	p, err := b.findPolicy(in.PolicyName)
	if err != nil {
		return nil, err
	}
	out := &listPolicyVersionsOutput{}
	for _, v := range p.versions {
		out.PolicyVersions = append(out.PolicyVersions, policyVersionSummary{strconv.Itoa(v.id), v.id == p.standard, v.created})
	}
	return out, nil
}

// setDefaultPolicyVersion makes a version the one that counts.
func (b *account) setDefaultPolicyVersion(now time.Time, in *policyVersionInput) (*nothing, *task.Error) {
	p, v, err := b.findVersion(in)
	if err != nil {
		return nil, err
	}
	p.standard, p.modified = v.id, stamp(now)
	return nil, nil
}

// deletePolicyVersion removes a version that is not the default one.
func (b *account) deletePolicyVersion(_ time.Time, in *policyVersionInput) (*nothing, *task.Error) {
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
	return nil, nil
}

func (b *account) findPolicy(name string) (*policy, *task.Error) {
	p, ok := b.st.policies.get(name)
	if !ok {
		return nil, refuse(codeNotFound, "Policy not found (name=%s)", name)
	}
	return p, nil
}

func (b *account) findVersion(in *policyVersionInput) (*policy, *policyVersion, *task.Error) {
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
func (b *account) newPolicy(name, document string, now time.Time) (*policy, *task.Error) {
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
func (b *account) policyGeneration(p *policy) string {
	return fmt.Sprintf("%x", b.digest("policy "+strconv.Itoa(p.next), p.number()))
}

func (b *account) policySummary(p *policy) policySummary {
	return policySummary{p.name, b.policyARN(p)}
}

// checkPolicyDocument refuses what cannot be a device's policy: what is not JSON, does not follow the grammar of
// policies, has a statement without resources, or more characters than AWS takes, white space not counted. Members that
// policies do not have, or twice, are accepted: what AWS IoT makes of them is not documented.
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
