package fakebackend_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
)

// fleetTemplate is a template for provisioning by claim, in the shape of the one in AWS's developer guide.
const fleetTemplate = `{
  "Parameters": {"SerialNumber": {"Type": "String"}, "DeviceLocation": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
  "Mappings": {"LocationTable": {"Seattle": {"LocationUrl": "https://example.aws"}, "Berlin": {"LocationUrl": "https://example.eu"}}},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing",
      "Properties": {"ThingName": {"Fn::Join": ["", ["claimed-", {"Ref": "SerialNumber"}]]}, "AttributePayload": {"location": {"Ref": "DeviceLocation"}}},
      "OverrideSettings": {"AttributePayload": "MERGE"}},
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17",
      "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]}}}
  },
  "DeviceConfiguration": {"FallbackUrl": "https://www.example.com/test-site",
    "LocationUrl": {"Fn::FindInMap": ["LocationTable", {"Ref": "DeviceLocation"}, "LocationUrl"]}}
}`

// jitpTemplate is a template for just-in-time provisioning.
const jitpTemplate = `{
  "Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}}},
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}}
  }
}`

const hookARN = "arn:aws:lambda:us-east-1:123456789012:function:allow"

func createTemplate(t testing.TB, fake *fakebackend.Backend, in iot.CreateProvisioningTemplateInput) *iot.CreateProvisioningTemplateOutput {
	t.Helper()
	out, err := api(fake).CreateProvisioningTemplate(t.Context(), &in)
	require.NoError(t, err)
	return out
}

func TestAProvisioningTemplateGoesThroughItsLife(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	ctx, client := t.Context(), api(fake)
	made := createTemplate(t, fake, iot.CreateProvisioningTemplateInput{
		TemplateName: new("fleet"), Description: new("by claim"), TemplateBody: new(fleetTemplate), ProvisioningRoleArn: &role, Enabled: new(true),
		PreProvisioningHook: &types.ProvisioningHook{TargetArn: new(hookARN)}, Tags: []types.Tag{{Key: new("line"), Value: new("1")}},
	})
	assert.Equal(t, "arn:aws:iot:us-east-1:123456789012:provisioningtemplate/fleet", *made.TemplateArn)
	assert.EqualValues(t, 1, *made.DefaultVersionId)
	fake.Advance(time.Minute)
	second, err := client.CreateProvisioningTemplateVersion(ctx, &iot.CreateProvisioningTemplateVersionInput{
		TemplateName: new("fleet"), TemplateBody: new(strings.ReplaceAll(fleetTemplate, "claimed-", "second-"))})
	require.NoError(t, err)
	assert.EqualValues(t, 2, *second.VersionId)
	assert.False(t, second.IsDefaultVersion)

	got, err := client.DescribeProvisioningTemplate(ctx, &iot.DescribeProvisioningTemplateInput{TemplateName: new("fleet")})
	require.NoError(t, err)
	assert.Equal(t, fleetTemplate, *got.TemplateBody, "the body of the default version")
	assert.Equal(t, types.TemplateTypeFleetProvisioning, got.Type)
	assert.Equal(t, types.ProvisioningHook{PayloadVersion: new("2020-04-01"), TargetArn: new(hookARN)}, *got.PreProvisioningHook)
	assert.Equal(t, monday, *got.CreationDate)
	assert.Equal(t, monday.Add(time.Minute), *got.LastModifiedDate)

	_, err = client.UpdateProvisioningTemplate(ctx, &iot.UpdateProvisioningTemplateInput{
		TemplateName: new("fleet"), DefaultVersionId: new(int32(2)), RemovePreProvisioningHook: new(true), Description: new("")})
	require.NoError(t, err)
	require.NoError(t, fake.Restore(fake.Snapshot()))
	got, err = client.DescribeProvisioningTemplate(ctx, &iot.DescribeProvisioningTemplateInput{TemplateName: new("fleet")})
	require.NoError(t, err)
	assert.Contains(t, *got.TemplateBody, "second-")
	assert.Equal(t, new(true), got.Enabled, "what is not given stays")
	assert.Nil(t, got.PreProvisioningHook)
	assert.Nil(t, got.Description)

	version, err := client.DescribeProvisioningTemplateVersion(ctx, &iot.DescribeProvisioningTemplateVersionInput{TemplateName: new("fleet"), VersionId: new(int32(1))})
	require.NoError(t, err)
	assert.Equal(t, fleetTemplate, *version.TemplateBody)
	assert.False(t, version.IsDefaultVersion)
	versions, err := client.ListProvisioningTemplateVersions(ctx, &iot.ListProvisioningTemplateVersionsInput{TemplateName: new("fleet"), MaxResults: new(int32(1))})
	require.NoError(t, err)
	require.NotNil(t, versions.NextToken)
	versions, err = client.ListProvisioningTemplateVersions(ctx, &iot.ListProvisioningTemplateVersionsInput{TemplateName: new("fleet"), NextToken: versions.NextToken})
	require.NoError(t, err)
	require.Len(t, versions.Versions, 1)
	assert.True(t, versions.Versions[0].IsDefaultVersion)

	list, err := client.ListProvisioningTemplates(ctx, nil)
	require.NoError(t, err)
	require.Len(t, list.Templates, 1)
	assert.Equal(t, "fleet", *list.Templates[0].TemplateName)
	tags, err := client.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: made.TemplateArn})
	require.NoError(t, err)
	assert.Len(t, tags.Tags, 1)

	var c codes
	c.add(client.DeleteProvisioningTemplate(ctx, &iot.DeleteProvisioningTemplateInput{TemplateName: new("fleet")}))
	c.add(client.DeleteProvisioningTemplateVersion(ctx, &iot.DeleteProvisioningTemplateVersionInput{TemplateName: new("fleet"), VersionId: new(int32(2))}))
	c.add(client.DeleteProvisioningTemplateVersion(ctx, &iot.DeleteProvisioningTemplateVersionInput{TemplateName: new("fleet"), VersionId: new(int32(1))}))
	c.add(client.DeleteProvisioningTemplateVersion(ctx, &iot.DeleteProvisioningTemplateVersionInput{TemplateName: new("fleet"), VersionId: new(int32(1))}))
	c.add(client.DeleteProvisioningTemplate(ctx, &iot.DeleteProvisioningTemplateInput{TemplateName: new("fleet")}))
	c.add(client.DescribeProvisioningTemplate(ctx, &iot.DescribeProvisioningTemplateInput{TemplateName: new("fleet")}))
	c.add(client.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: made.TemplateArn}))
	assert.Equal(t, []string{"DeleteConflictException", "DeleteConflictException", "", "ResourceNotFoundException", "",
		"ResourceNotFoundException", "ResourceNotFoundException"}, c.got)
}

func TestATemplateThatCannotWorkIsRefusedWhenItIsMade(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	ctx, client := t.Context(), api(fake)
	createTemplate(t, fake, iot.CreateProvisioningTemplateInput{TemplateName: new("taken"), TemplateBody: new(jitpTemplate), ProvisioningRoleArn: &role,
		Type: types.TemplateTypeJitp})
	for name, in := range map[string]iot.CreateProvisioningTemplateInput{
		"ResourceAlreadyExistsException: The provisioning template taken": {TemplateName: new("taken"), TemplateBody: new(fleetTemplate)},
		"Invalid registration template.":                                  {TemplateBody: new(`{"Resources":`)},
		"it would create nothing":                                         {TemplateBody: new(`{"Resources":{}}`)},
		"A certificate must be given by its CertificateId":                {TemplateBody: new(walkthrough(t))},
		"supported for templates of type FLEET_PROVISIONING only": {TemplateBody: new(jitpTemplate), Type: types.TemplateTypeJitp,
			PreProvisioningHook: &types.ProvisioningHook{TargetArn: new(hookARN)}},
		"documents Mappings for fleet templates only": {TemplateBody: new(fleetTemplate), Type: types.TemplateTypeJitp},
		"the ARN of a Lambda function, not arn:aws:sns:us-east-1:123456789012:topic": {TemplateBody: new(fleetTemplate),
			PreProvisioningHook: &types.ProvisioningHook{TargetArn: new("arn:aws:sns:us-east-1:123456789012:topic")}},
		"the payload version of a pre-provisioning hook is 2020-04-01": {TemplateBody: new(fleetTemplate),
			PreProvisioningHook: &types.ProvisioningHook{TargetArn: new(hookARN), PayloadVersion: new("2019-01-01")}},
		"Value 'a b' at 'templateName' failed to satisfy constraint": {TemplateName: new("a b"), TemplateBody: new(fleetTemplate)},
	} {
		if in.TemplateName == nil {
			in.TemplateName = new("new")
		}
		in.ProvisioningRoleArn = &role
		_, err := client.CreateProvisioningTemplate(ctx, &in)
		if assert.Error(t, err, name) {
			assert.Contains(t, strings.ToLower(err.Error()), strings.ToLower(name))
		}
	}
	for i := 2; i <= 6; i++ {
		_, err := client.CreateProvisioningTemplateVersion(ctx, &iot.CreateProvisioningTemplateVersionInput{TemplateName: new("taken"), TemplateBody: new(jitpTemplate)})
		assert.Equal(t, map[bool]string{true: "VersionsLimitExceededException"}[i > 5], codeOf(err), "version %d", i)
	}
	for i := range 256 {
		_, err := client.CreateProvisioningTemplate(ctx, &iot.CreateProvisioningTemplateInput{
			TemplateName: new(fmt.Sprint("t", i)), TemplateBody: new(jitpTemplate), ProvisioningRoleArn: &role})
		assert.Equal(t, map[bool]string{true: "LimitExceededException"}[i > 254], codeOf(err), "template %d", i)
	}
}
