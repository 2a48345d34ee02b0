package provision_test

import (
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// grouped is the template of a fleet whose policy its group carries.
const grouped = `{
	"Parameters": {"ThingName": {"Type": "String"}, "CSR": {"Type": "String"}},
	"Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}, "ThingGroups": ["pumps"]}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"}}}}`

func TestAFleetWhoseGroupCarriesThePolicyIsProvisionedWithoutAWarning(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	tm, err := template.Parse([]byte(grouped))
	require.NoError(t, err)
	w.opts.Template = tm
	require.NoError(t, w.fake.EnsureResources(t.Context(), &task.ResourcesInput{ThingGroups: []task.ThingGroup{{Name: "pumps"}}}))
	who, err := w.fake.Identity(t.Context())
	require.NoError(t, err)
	devices := provision.Rows(map[string]string{"ThingName": "pump-1"}, map[string]string{"ThingName": "pump-2"})

	report, err := w.run(t).Check(t.Context(), devices)
	require.NoError(t, err)
	require.True(t, report.OK())
	assert.Contains(t, report.Findings.AtLeast(finding.Warning).String(), "no policy of the group pumps", "the group has none yet")

	api := awsIoT(w.fake)
	_, err = api.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: new("pumps"),
		PolicyDocument: new(string(template.OwnTopics(who.Partition, who.Region, who.Account)))})
	require.NoError(t, err)
	group, err := api.DescribeThingGroup(t.Context(), &iot.DescribeThingGroupInput{ThingGroupName: new("pumps")})
	require.NoError(t, err)
	_, err = api.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: new("pumps"), Target: group.ThingGroupArn})
	require.NoError(t, err)

	report, err = w.run(t).Check(t.Context(), devices)
	require.NoError(t, err)
	assert.True(t, report.OK())
	assert.Empty(t, report.Findings.AtLeast(finding.Warning))
	assert.Contains(t, report.Findings.String(), "its policy pumps lets devices connect")

	summary, err := w.run(t).Run(t.Context(), devices)
	require.NoError(t, err)
	assert.EqualValues(t, 2, summary.Provisioned)

	// What the device gets in the end: a certificate without a policy of its own, in a thing whose group lets it connect.
	device, err := w.fake.ReadDevice(t.Context(), "pump-1")
	require.NoError(t, err)
	require.Len(t, device.Certificates, 1)
	assert.Empty(t, device.Certificates[0].Policies)
	groups, err := api.ListThingGroupsForThing(t.Context(), &iot.ListThingGroupsForThingInput{ThingName: new("pump-1")})
	require.NoError(t, err)
	require.Equal(t, []types.GroupNameAndArn{{GroupName: new("pumps"), GroupArn: group.ThingGroupArn}}, groups.ThingGroups)
	attached, err := api.GetPolicy(t.Context(), &iot.GetPolicyInput{PolicyName: new("pumps")})
	require.NoError(t, err)
	document, problems := policy.Parse(*attached.PolicyDocument)
	require.Empty(t, problems)
	decision := policy.Evaluate(policy.Request{
		Action: "iot:Connect", Resource: "arn:aws:iot:" + who.Region + ":" + who.Account + ":client/pump-1",
		Context: policy.Values{"iot:Connection.Thing.ThingName": {"pump-1"}},
	}, document)
	assert.True(t, decision.Allowed(), decision.String())
}

func TestTheDryRunFindsAPolicyForAnotherAccountInTheTemplateAndInTheRows(t *testing.T) {
	w := newWorld(t, fakebackend.Options{Account: "111122224444"})
	elsewhere := template.OwnTopics("aws", "us-east-1", "123456789012")
	w.opts.Template = template.FromCSR(template.Policy{PolicyDocument: elsewhere})
	report, err := w.run(t).Check(t.Context(), provision.Rows(map[string]string{"ThingName": "a"}, map[string]string{"ThingName": "b"}))
	require.NoError(t, err)
	assert.True(t, report.OK(), "AWS takes it")
	found := map[finding.Rule]int{}
	for _, f := range report.Findings.AtLeast(finding.Warning) {
		found[f.Rule]++
	}
	assert.Equal(t, map[finding.Rule]int{"policy-elsewhere": 3}, found, "each statement once: %v", report.Findings)

	w = newWorld(t, fakebackend.Options{Account: "111122224444"})
	tm := template.FromCSR(template.Policy{PolicyDocument: template.Ref("Policy")})
	tm.Parameters["Policy"] = template.Parameter{}
	w.opts.Template = tm
	row := func(name, account string) map[string]string {
		return map[string]string{"ThingName": name, "Policy": string(template.OwnTopics("aws", "us-east-1", account))}
	}
	report, err = w.run(t).Check(t.Context(), provision.Rows(row("a", "111122224444"), row("b", "999988887777"), row("c", "999988887777")))
	require.NoError(t, err)
	text, err := json.Marshal(report.Findings.AtLeast(finding.Warning))
	require.NoError(t, err)
	assert.Contains(t, string(text), "the account 999988887777; this is 111122224444")
	assert.Len(t, report.Findings.AtLeast(finding.Warning), 3, string(text))
}
