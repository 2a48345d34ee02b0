package awsbackend_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// seePolicies makes a policy for each document, and a group parent/child whose parent carries policy "connect".
func seePolicies(t *testing.T, w *world, documents map[string]string) {
	t.Helper()
	api := iot.NewFromConfig(fakeaws.Config(w.fake))
	for name, document := range documents {
		_, err := api.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document})
		require.NoError(t, err)
	}
	parent, err := api.CreateThingGroup(t.Context(), &iot.CreateThingGroupInput{ThingGroupName: new("parent"), ThingGroupProperties: &types.ThingGroupProperties{}})
	require.NoError(t, err)
	_, err = api.CreateThingGroup(t.Context(), &iot.CreateThingGroupInput{ThingGroupName: new("child"), ParentGroupName: new("parent")})
	require.NoError(t, err)
	_, err = api.CreateThingGroup(t.Context(), &iot.CreateThingGroupInput{ThingGroupName: new("bare")})
	require.NoError(t, err)
	_, err = api.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: new("connect"), Target: parent.ThingGroupArn})
	require.NoError(t, err)
}

func TestPreflightLooksForThePolicyThatLetsDevicesConnectAlsoOnTheirGroups(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		who, err := w.backend.Identity(t.Context())
		require.NoError(t, err)
		seePolicies(t, w, map[string]string{
			"connect": string(template.OwnTopics(who.Partition, who.Region, who.Account)),
			"publish": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"*"}]}`,
		})
		for _, tc := range []struct {
			in   task.PreflightInput
			want map[string]finding.Severity
		}{
			{task.PreflightInput{Policies: []string{"publish"}}, map[string]finding.Severity{}},
			{task.PreflightInput{Policies: []string{"publish", "connect"}, ThingGroups: []string{"bare"}, Connect: true}, map[string]finding.Severity{"": finding.OK}},
			{task.PreflightInput{Policies: []string{"publish"}, Connect: true}, map[string]finding.Severity{"": finding.Warning}},
			{task.PreflightInput{ThingGroups: []string{"child"}, Connect: true}, map[string]finding.Severity{"child": finding.OK}},
			{task.PreflightInput{ThingGroups: []string{"bare", "parent"}, Policies: []string{"publish"}, Connect: true},
				map[string]finding.Severity{"bare": finding.Warning, "parent": finding.OK}},
		} {
			for name, backend := range map[string]task.Preflighter{"awsbackend": w.backend, "fakebackend": w.fake} {
				list, err := backend.Preflight(t.Context(), &tc.in)
				require.NoError(t, err)
				got := map[string]finding.Severity{}
				for _, f := range list {
					if f.Rule == awsbackend.CheckConnect {
						got[f.Resource] = f.Severity
						assert.NotEmpty(t, f.Message)
					}
				}
				assert.Equal(t, tc.want, got, "%s: %+v", name, tc.in)
			}
		}
	})
}

func TestPoliciesAreReadWithThoseOfAGroupAndItsParents(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const first = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`
		const second = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:Connect","Resource":"*"}]}`
		seePolicies(t, w, map[string]string{"connect": first, "own": first})
		api := iot.NewFromConfig(fakeaws.Config(w.fake))
		_, err := api.CreatePolicyVersion(t.Context(), &iot.CreatePolicyVersionInput{PolicyName: new("own"), PolicyDocument: new(second), SetAsDefault: true})
		require.NoError(t, err)
		child, err := api.DescribeThingGroup(t.Context(), &iot.DescribeThingGroupInput{ThingGroupName: new("child")})
		require.NoError(t, err)
		_, err = api.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: new("own"), Target: child.ThingGroupArn})
		require.NoError(t, err)
		for name, backend := range map[string]task.PolicyReader{"awsbackend": w.backend, "fakebackend": w.fake} {
			document, err := backend.ReadPolicy(t.Context(), "own")
			require.NoError(t, err, name)
			assert.Equal(t, second, document, name)
			names, err := backend.GroupPolicies(t.Context(), "child")
			require.NoError(t, err, name)
			assert.Equal(t, []string{"own", "connect"}, names, name)
			names, err = backend.GroupPolicies(t.Context(), "bare")
			require.NoError(t, err, name)
			assert.Empty(t, names, name)
			_, err = backend.ReadPolicy(t.Context(), "none")
			assert.ErrorIs(t, err, task.ErrNotFound, name)
			_, err = backend.GroupPolicies(t.Context(), "none")
			assert.ErrorIs(t, err, task.ErrNotFound, name)
		}
	})
}

func TestPreflightReadsTheDocumentOfAPolicyThatTheTemplateNames(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		who, err := w.backend.Identity(t.Context())
		require.NoError(t, err)
		seePolicies(t, w, map[string]string{
			"connect":   string(template.OwnTopics(who.Partition, who.Region, who.Account)),
			"elsewhere": string(template.OwnTopics(who.Partition, who.Region, "999988887777")),
			"typo":      `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:recieve"],"Resource":"*"}]}`,
		})
		for name, backend := range map[string]task.Preflighter{"awsbackend": w.backend, "fakebackend": w.fake} {
			list, err := backend.Preflight(t.Context(), &task.PreflightInput{Policies: []string{"connect", "elsewhere", "typo"}})
			require.NoError(t, err)
			warnings := map[string]string{}
			for _, f := range list.AtLeast(finding.Warning) {
				if f.Rule == awsbackend.CheckPolicy {
					warnings[f.Resource] += f.Message
				}
			}
			require.Len(t, warnings, 2, name)
			assert.Contains(t, warnings["elsewhere"], "the account 999988887777; this is "+who.Account, name)
			assert.Contains(t, warnings["typo"], "did you mean iot:Receive?", name)
		}
	})
}

func TestAPolicyForAnotherPlaceIsNotMade(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		who, err := w.backend.Identity(t.Context())
		require.NoError(t, err)
		for name, backend := range map[string]task.ResourceEnsurer{"awsbackend": w.backend, "fakebackend": w.fake} {
			err := backend.EnsureResources(t.Context(), &task.ResourcesInput{ThingTypes: []string{"pump-" + name},
				Policies: map[string]string{"p": string(template.OwnTopics(who.Partition, "sa-east-1", who.Account))}})
			require.ErrorIs(t, err, task.ErrInvalidRequest, name)
			assert.ErrorContains(t, err, "the region sa-east-1; this is "+who.Region, name)
			list, err := w.backend.Preflight(t.Context(), &task.PreflightInput{ThingTypes: []string{"pump-" + name}})
			require.NoError(t, err)
			assert.Error(t, list.Err(), "%s: nothing was made before", name)
			require.NoError(t, backend.EnsureResources(t.Context(), &task.ResourcesInput{
				Policies: map[string]string{"p": string(template.OwnTopics(who.Partition, who.Region, who.Account))}}), name)
		}
	})
}
