package fakeaws_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
)

// fleetOfOne is an account with the thing pump-1 of the type pump, whose certificate has the policy own; the thing is in
// the group line, below the group site, which have the policies line and site.
type fleetOfOne struct {
	*iot.Client
	t                *testing.T
	certificate, arn string
}

func newFleetOfOne(t *testing.T) *fleetOfOne {
	client := iot.NewFromConfig(fakeaws.Config(must(fakebackend.New(fakebackend.Options{}))))
	f := &fleetOfOne{Client: client, t: t, arn: "arn:aws:iot:us-east-1:123456789012:"}
	ctx := t.Context()
	f.policy("own", `{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
		{"Effect":"Allow","Action":["iot:Publish"],"Resource":"arn:aws:iot:us-east-1:*:topic/own/${iot:Connection.Thing.ThingName}"}`)
	f.policy("line", `{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:us-east-1:*:topic/line/${iot:Connection.Thing.Attributes[line]}/*"}`)
	f.policy("site", `{"Effect":"Deny","Action":"iot:Publish","Resource":"arn:aws:iot:us-east-1:*:topic/*/secret",
		"Condition":{"StringEquals":{"iot:Connection.Thing.ThingTypeName":"pump"}}}`)
	_, err := client.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("pump")})
	require.NoError(t, err)
	_, err = client.CreateThing(ctx, &iot.CreateThingInput{ThingName: new("pump-1"), ThingTypeName: new("pump"),
		AttributePayload: &types.AttributePayload{Attributes: map[string]string{"line": "4"}}})
	require.NoError(t, err)
	_, err = client.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new("site")})
	require.NoError(t, err)
	_, err = client.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new("line"), ParentGroupName: new("site")})
	require.NoError(t, err)
	_, err = client.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: new("pump-1"), ThingGroupName: new("line")})
	require.NoError(t, err)
	cert, err := client.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	f.certificate = *cert.CertificateArn
	f.attach("own", f.certificate)
	f.attach("line", f.arn+"thinggroup/line")
	f.attach("site", f.arn+"thinggroup/site")
	f.belong("")
	return f
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (f *fleetOfOne) policy(name, statements string) {
	_, err := f.CreatePolicy(f.t.Context(), &iot.CreatePolicyInput{PolicyName: &name,
		PolicyDocument: new(`{"Version":"2012-10-17","Statement":[` + statements + `]}`)})
	require.NoError(f.t, err)
}

func (f *fleetOfOne) attach(name, target string) {
	_, err := f.AttachPolicy(f.t.Context(), &iot.AttachPolicyInput{PolicyName: &name, Target: &target})
	require.NoError(f.t, err)
}

// belong attaches the certificate to the thing.
func (f *fleetOfOne) belong(how types.ThingPrincipalType) {
	_, err := f.AttachThingPrincipal(f.t.Context(), &iot.AttachThingPrincipalInput{ThingName: new("pump-1"), Principal: &f.certificate, ThingPrincipalType: how})
	require.NoError(f.t, err)
}

// ask returns the answer to one question.
func (f *fleetOfOne) ask(in *iot.TestAuthorizationInput, action types.ActionType, resources ...string) types.AuthResult {
	for i := range resources {
		resources[i] = f.arn + resources[i]
	}
	in.AuthInfos = []types.AuthInfo{{ActionType: action, Resources: resources}}
	out, err := f.TestAuthorization(f.t.Context(), in)
	require.NoError(f.t, err)
	require.Len(f.t, out.AuthResults, 1)
	assert.Equal(f.t, resources, out.AuthResults[0].AuthInfo.Resources)
	return out.AuthResults[0]
}

func names(policies []types.Policy) []string {
	out := []string{}
	for _, p := range policies {
		out = append(out, *p.PolicyName)
	}
	return out
}

func TestAuthorizationFollowsThePoliciesOfCertificateThingAndGroups(t *testing.T) {
	f := newFleetOfOne(t)
	as := func(clientID string) *iot.TestAuthorizationInput {
		return &iot.TestAuthorizationInput{Principal: &f.certificate, ClientId: &clientID}
	}
	got := f.ask(as("pump-1"), types.ActionTypePublish, "topic/own/pump-1")
	assert.Equal(t, types.AuthDecisionAllowed, got.AuthDecision)
	assert.Equal(t, []string{"own"}, names(got.Allowed.Policies))
	assert.Equal(t, []string{"line", "site"}, names(got.Denied.ImplicitDeny.Policies))
	assert.Empty(t, got.MissingContextValues)

	got = f.ask(as("pump-1"), types.ActionTypePublish, "topic/line/4/state")
	assert.Equal(t, types.AuthDecisionAllowed, got.AuthDecision)
	assert.Equal(t, []string{"line"}, names(got.Allowed.Policies))

	got = f.ask(as("pump-1"), types.ActionTypePublish, "topic/line/4/secret")
	assert.Equal(t, types.AuthDecisionExplicitDeny, got.AuthDecision, "by the policy of the group above")
	assert.Equal(t, []string{"site"}, names(got.Denied.ExplicitDeny.Policies))
	assert.Equal(t, []string{"line"}, names(got.Allowed.Policies))

	got = f.ask(as("pump-1"), types.ActionTypePublish, "topic/own/pump-1", "topic/own/pump-2")
	assert.Equal(t, types.AuthDecisionImplicitDeny, got.AuthDecision, "every resource must be allowed")
	got = f.ask(as("pump-1"), types.ActionTypeSubscribe, "topicfilter/own/pump-1")
	assert.Equal(t, types.AuthDecisionImplicitDeny, got.AuthDecision)

	// Another client id is not the thing: no variables, no policies of its groups.
	got = f.ask(as("other"), types.ActionTypePublish, "topic/own/pump-1")
	assert.Equal(t, types.AuthDecisionImplicitDeny, got.AuthDecision)
	assert.Equal(t, []string{"own"}, names(got.Denied.ImplicitDeny.Policies))
	assert.Equal(t, []string{"iot:Connection.Thing.ThingName"}, got.MissingContextValues)
	assert.Equal(t, types.AuthDecisionAllowed, f.ask(as("other"), types.ActionTypeConnect, "client/other").AuthDecision)

	without := as("pump-1")
	without.PolicyNamesToSkip = []string{"site"}
	assert.Equal(t, types.AuthDecisionAllowed, f.ask(without, types.ActionTypePublish, "topic/line/4/secret").AuthDecision)
	f.policy("more", `{"Effect":"Allow","Action":"iot:*","Resource":"*"}`)
	with := as("pump-1")
	with.PolicyNamesToAdd = []string{"more"}
	assert.Equal(t, types.AuthDecisionAllowed, f.ask(with, types.ActionTypeReceive, "topic/any").AuthDecision)

	group := &iot.TestAuthorizationInput{Principal: new(f.arn + "thinggroup/line"), ClientId: new("pump-1")}
	got = f.ask(group, types.ActionTypePublish, "topic/line/4/state")
	assert.Equal(t, []string{"line", "site"}, names(got.Denied.ImplicitDeny.Policies), "a group has no thing")
}

func TestAuthorizationKnowsTheThingOfAnExclusiveAttachment(t *testing.T) {
	f := newFleetOfOne(t)
	_, err := f.DetachThingPrincipal(t.Context(), &iot.DetachThingPrincipalInput{ThingName: new("pump-1"), Principal: &f.certificate})
	require.NoError(t, err)
	as := func() *iot.TestAuthorizationInput {
		return &iot.TestAuthorizationInput{Principal: &f.certificate, ClientId: new("any-client")}
	}
	assert.Equal(t, types.AuthDecisionImplicitDeny, f.ask(as(), types.ActionTypePublish, "topic/own/pump-1").AuthDecision)
	f.belong(types.ThingPrincipalTypeExclusiveThing)
	assert.Equal(t, types.AuthDecisionAllowed, f.ask(as(), types.ActionTypePublish, "topic/own/pump-1").AuthDecision)
	assert.Equal(t, types.AuthDecisionExplicitDeny, f.ask(as(), types.ActionTypePublish, "topic/line/4/secret").AuthDecision)
}

func TestAuthorizationReadsTheDefaultVersion(t *testing.T) {
	f := newFleetOfOne(t)
	in := func() *iot.TestAuthorizationInput {
		return &iot.TestAuthorizationInput{Principal: &f.certificate, ClientId: new("pump-1")}
	}
	decision := func() types.AuthDecision { return f.ask(in(), types.ActionTypeConnect, "client/pump-1").AuthDecision }
	require.Equal(t, types.AuthDecisionAllowed, decision())
	version, err := f.CreatePolicyVersion(t.Context(), &iot.CreatePolicyVersionInput{PolicyName: new("own"),
		PolicyDocument: new(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:*","Resource":"*"}]}`)})
	require.NoError(t, err)
	assert.Equal(t, types.AuthDecisionAllowed, decision(), "not the default")
	_, err = f.SetDefaultPolicyVersion(t.Context(), &iot.SetDefaultPolicyVersionInput{PolicyName: new("own"), PolicyVersionId: version.PolicyVersionId})
	require.NoError(t, err)
	assert.Equal(t, types.AuthDecisionExplicitDeny, decision())
}

func TestEffectivePoliciesAreThoseOfCertificateAndGroups(t *testing.T) {
	f := newFleetOfOne(t)
	list := func(in *iot.GetEffectivePoliciesInput) []string {
		out, err := f.GetEffectivePolicies(t.Context(), in)
		require.NoError(t, err)
		names := []string{}
		for _, p := range out.EffectivePolicies {
			names = append(names, *p.PolicyName)
			assert.Equal(t, f.arn+"policy/"+*p.PolicyName, *p.PolicyArn)
			assert.Contains(t, *p.PolicyDocument, "Statement")
		}
		return names
	}
	assert.Equal(t, []string{"own"}, list(&iot.GetEffectivePoliciesInput{Principal: &f.certificate}))
	assert.Equal(t, []string{"line", "site"}, list(&iot.GetEffectivePoliciesInput{ThingName: new("pump-1")}))
	f.attach("site", f.certificate)
	assert.Equal(t, []string{"own", "site", "line"}, list(&iot.GetEffectivePoliciesInput{Principal: &f.certificate, ThingName: new("pump-1")}))
	assert.Equal(t, []string{"line", "site"}, list(&iot.GetEffectivePoliciesInput{Principal: new(f.arn + "thinggroup/line")}))
}

func TestAuthorizationRefusesWhatIsWrong(t *testing.T) {
	f := newFleetOfOne(t)
	info := []types.AuthInfo{{ActionType: types.ActionTypeConnect, Resources: []string{"*"}}}
	for name, in := range map[string]*iot.TestAuthorizationInput{
		"principal must be given": {AuthInfos: info},
		"Invalid principal":       {AuthInfos: info, Principal: new("us-east-1:cognito")},
		"between 1 and 10":        {AuthInfos: append(make([]types.AuthInfo, 0), info[0], info[0], info[0], info[0], info[0], info[0], info[0], info[0], info[0], info[0], info[0]), Principal: &f.certificate},
		"enum value set":          {AuthInfos: []types.AuthInfo{{ActionType: "SHADOW", Resources: []string{"*"}}}, Principal: &f.certificate},
		"Policy not found":        {AuthInfos: info, Principal: &f.certificate, PolicyNamesToAdd: []string{"none"}},
		"Thing group":             {AuthInfos: info, Principal: new(f.arn + "thinggroup/none")},
	} {
		_, err := f.TestAuthorization(t.Context(), in)
		assert.ErrorContains(t, err, name)
	}
	_, err := f.GetEffectivePolicies(t.Context(), &iot.GetEffectivePoliciesInput{})
	assert.ErrorContains(t, err, "must be given")
	_, err = f.GetEffectivePolicies(t.Context(), &iot.GetEffectivePoliciesInput{ThingName: new("none")})
	var missing *types.ResourceNotFoundException
	assert.ErrorAs(t, err, &missing)
}
