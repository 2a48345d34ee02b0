package fakebackend

import (
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/lenientx509"
	policydoc "github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/task"
)

// What devices may do: TestAuthorization and GetEffectivePolicies.
//
// Models: the default versions of the policies of a certificate, and of the groups of the thing it connects as, with
// their parents; what a certificate and a thing lend to policy variables; exclusive attachments. Not modelled: Amazon
// Cognito identities.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_TestAuthorization.html

var authorizationOperations = []*operation{
	operationOf("TestAuthorization", "POST /test-authorization", (*account).testAuthorization),
	operationOf("GetEffectivePolicies", "POST /effective-policies", (*account).getEffectivePolicies),
}

type testAuthorizationInput struct {
	AuthInfos         []authInfo `json:"authInfos" required:"true"`
	ClientID          string     `query:"clientId"`
	Principal         string     `json:"principal"`
	PolicyNamesToAdd  []string   `json:"policyNamesToAdd" is:"PolicyName"`
	PolicyNamesToSkip []string   `json:"policyNamesToSkip" is:"PolicyName"`
}

// authInfo is one question: an action on resources.
type authInfo struct {
	ActionType string   `json:"actionType" is:"ActionType"`
	Resources  []string `json:"resources" required:"true"`
}

// authInfos is how many questions a request may ask.
const authInfos = 10

type testAuthorizationOutput struct {
	AuthResults []authResult `json:"authResults"`
}

type authResult struct {
	AuthInfo             authInfo    `json:"authInfo"`
	Allowed              policyList  `json:"allowed"`
	Denied               authDenials `json:"denied"`
	AuthDecision         string      `json:"authDecision"`
	MissingContextValues []string    `json:"missingContextValues"`
}

type policyList struct {
	Policies []policySummary `json:"policies"`
}

// authDenials are the policies that deny a request, and those that neither allow nor deny it.
type authDenials struct {
	ImplicitDeny policyList `json:"implicitDeny"`
	ExplicitDeny policyList `json:"explicitDeny"`
}

// testAuthorization decides about requests of a principal as the policies have it.
func (b *account) testAuthorization(_ time.Time, in *testAuthorizationInput) (*testAuthorizationOutput, *task.Error) {
	if len(in.AuthInfos) == 0 || len(in.AuthInfos) > authInfos {
		return nil, refuse(codeInvalidRequest, "authInfos must have between 1 and %d items", authInfos)
	}
	device := b.device(nil, nil, in.ClientID)
	var policies []*policy
	switch c, g, err := b.principalOrGroup(in.Principal); {
	case in.Principal == "" && len(in.PolicyNamesToAdd) == 0:
		return nil, refuse(codeInvalidRequest, "A principal must be given")
	case in.Principal == "":
	case err != nil:
		return nil, err
	case g != nil:
		policies = withParents(nil, g)
	default:
		t := c.thingOf(in.ClientID)
		device, policies = b.device(c, t, in.ClientID), c.effective(t)
	}
	for _, name := range in.PolicyNamesToSkip {
		p, err := b.findPolicy(name)
		if err != nil {
			return nil, err
		}
		policies = without(policies, p)
	}
	for _, name := range in.PolicyNamesToAdd {
		p, err := b.findPolicy(name)
		if err != nil {
			return nil, err
		}
		policies = addPolicies(policies, p)
	}
	out := &testAuthorizationOutput{}
	connection := policydoc.NewConnection(device)
	for _, info := range in.AuthInfos {
		out.AuthResults = append(out.AuthResults, b.authorize(connection, info, policies))
	}
	return out, nil
}

// actionTypes are the actions that TestAuthorization knows, by their names there.
var actionTypes = map[string]string{
	"PUBLISH": "iot:Publish", "SUBSCRIBE": "iot:Subscribe", "RECEIVE": "iot:Receive", "CONNECT": "iot:Connect",
}

// authorize answers one question. Every resource must be allowed, and none denied.
func (b *account) authorize(connection *policydoc.Connection, info authInfo, policies []*policy) authResult {
	result := authResult{
		AuthInfo: info, AuthDecision: "ALLOWED", MissingContextValues: []string{}, Allowed: policyList{[]policySummary{}},
		Denied: authDenials{policyList{[]policySummary{}}, policyList{[]policySummary{}}},
	}
	documents := make([]*policydoc.Document, len(policies))
	for i, p := range policies {
		documents[i] = p.compiled()
	}
	if len(info.Resources) == 0 {
		result.AuthDecision = "IMPLICIT_DENY"
	}
	allows, denies := make([]bool, len(policies)), make([]bool, len(policies))
	for _, resource := range info.Resources {
		r := policydoc.Request{Action: actionTypes[info.ActionType], Resource: resource, Context: connection}
		for i, d := range documents {
			one := policydoc.Evaluate(r, d)
			allows[i], denies[i] = allows[i] || one.Allowed(), denies[i] || one.Denied()
		}
		switch all := policydoc.Evaluate(r, documents...); {
		case all.Denied():
			result.AuthDecision = "EXPLICIT_DENY"
		case !all.Allowed() && result.AuthDecision == "ALLOWED":
			result.AuthDecision = "IMPLICIT_DENY"
		}
		for _, key := range policydoc.Missing(r, documents...) {
			if !slices.Contains(result.MissingContextValues, key) {
				result.MissingContextValues = append(result.MissingContextValues, key)
			}
		}
	}
	for i, p := range policies {
		list := &result.Denied.ImplicitDeny
		switch {
		case denies[i]:
			list = &result.Denied.ExplicitDeny
		case allows[i]:
			list = &result.Allowed
		}
		list.Policies = append(list.Policies, b.policySummary(p))
	}
	return result
}

type getEffectivePoliciesInput struct {
	Principal string `json:"principal"`
	ThingName string `query:"thingName" is:"ThingName"`
}

type getEffectivePoliciesOutput struct {
	EffectivePolicies []effectivePolicy `json:"effectivePolicies"`
}

type effectivePolicy struct {
	PolicyName     string `json:"policyName"`
	PolicyARN      string `json:"policyArn"`
	PolicyDocument string `json:"policyDocument"`
}

// getEffectivePolicies lists the policies of a certificate or a thing group, those of the groups of a thing, or both.
func (b *account) getEffectivePolicies(_ time.Time, in *getEffectivePoliciesInput) (*getEffectivePoliciesOutput, *task.Error) {
	if in.Principal == "" && in.ThingName == "" {
		return nil, refuse(codeInvalidRequest, "A principal or the name of a thing must be given")
	}
	var policies []*policy
	if in.Principal != "" {
		c, g, err := b.principalOrGroup(in.Principal)
		switch {
		case err != nil:
			return nil, err
		case g != nil:
			policies = withParents(nil, g)
		default:
			policies = c.effective(nil)
		}
	}
	if in.ThingName != "" {
		t, err := b.findThing(in.ThingName)
		if err != nil {
			return nil, err
		}
		for _, g := range t.groups {
			policies = withParents(policies, g)
		}
	}
	out := &getEffectivePoliciesOutput{EffectivePolicies: []effectivePolicy{}}
	for _, p := range policies {
		out.EffectivePolicies = append(out.EffectivePolicies, effectivePolicy{p.name, b.policyARN(p), p.document()})
	}
	return out, nil
}

// principalOrGroup finds the certificate or the thing group that an ARN names.
func (b *account) principalOrGroup(arn string) (*certificate, *thingGroup, *task.Error) {
	if name, ok := strings.CutPrefix(arn, b.arnPrefix+"thinggroup/"); ok {
		g, err := b.findThingGroup(name)
		return nil, g, err
	}
	c, err := b.principal(arn)
	return c, nil, err
}

// thingOf returns the thing that a connection is for: the one that the certificate is attached to exclusively, or the one
// of those it is attached to that has the client id for its name; nil for none.
func (c *certificate) thingOf(clientID string) *thing {
	for _, t := range c.things {
		if c.exclusive || t.name == clientID {
			return t
		}
	}
	return nil
}

// effective returns the policies of the certificate, and those of the groups that the thing is in and of their parents,
// each once. The thing may be nil.
func (c *certificate) effective(t *thing) []*policy {
	policies := slices.Clone(c.policies)
	if t != nil {
		for _, g := range t.groups {
			policies = withParents(policies, g)
		}
	}
	return policies
}

// withParents adds the policies of a group and of those above it.
func withParents(policies []*policy, g *thingGroup) []*policy {
	for ; g != nil; g = g.parent {
		policies = addPolicies(policies, g.policies...)
	}
	return policies
}

func addPolicies(policies []*policy, more ...*policy) []*policy {
	for _, p := range more {
		if !slices.Contains(policies, p) {
			policies = append(policies, p)
		}
	}
	return policies
}

// device is what policies see of a connection. The certificate and the thing may be nil.
func (b *account) device(c *certificate, t *thing, clientID string) policydoc.Device {
	d := policydoc.Device{Partition: b.partition().Name, Region: b.opts.Region, Account: b.opts.Account, ClientID: clientID}
	if t != nil {
		d.Thing = &policydoc.Thing{Name: t.name, Type: t.typeName(), Attributes: t.attributeMap()}
	}
	if c != nil {
		d.Certificate, _, _ = lenientx509.Certificate(c.der) // what can't be read has no variables
	}
	return d
}

// compiled returns the document of the default version, ready for decisions.
func (p *policy) compiled() *policydoc.Document {
	if p.parsed == nil || p.parsedVersion != p.standard {
		p.parsed, _ = policydoc.Parse(p.document())
		p.parsedVersion = p.standard
	}
	return p.parsed
}
