package fakeaws_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
)

func TestRolesAreShownAsIAMShowsThem(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	ctx := t.Context()
	tags := []iamtypes.Tag{{Key: new("a"), Value: new("b")}}
	made, err := c.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(trust), MaxSessionDuration: aws.Int32(7200), Tags: tags})
	require.NoError(t, err)
	assert.Nil(t, made.Role.MaxSessionDuration)
	assert.Nil(t, made.Role.RoleLastUsed)
	got, err := c.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: new("r")})
	require.NoError(t, err)
	assert.Equal(t, int32(7200), *got.Role.MaxSessionDuration)
	assert.NotNil(t, got.Role.RoleLastUsed)
	assert.Len(t, got.Role.Tags, 1)
	list, err := c.iam.ListRoles(ctx, nil)
	require.NoError(t, err)
	assert.Empty(t, list.Roles[0].Tags)
	assert.Nil(t, list.Roles[0].RoleLastUsed)
	_, err = c.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: new("s"), AssumeRolePolicyDocument: new(trust), PermissionsBoundary: new(registrar)})
	assert.Equal(t, "NotImplemented", codeOf(err), "it would be allowed more than the caller believes")
	for _, key := range []string{"aws:x", "AWS:x"} {
		_, err = c.iam.TagRole(ctx, &iam.TagRoleInput{RoleName: new("r"), Tags: []iamtypes.Tag{{Key: new(key), Value: new("")}}})
		assert.Equal(t, "InvalidInput", codeOf(err))
		_, err = c.iot.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("kind"), Tags: []iottypes.Tag{{Key: new(key), Value: new("")}}})
		assert.Equal(t, "InvalidRequestException", codeOf(err))
	}
}

func TestManagedPoliciesOfAWSsSamplesCanBeAttachedInEveryPartition(t *testing.T) {
	for region, partition := range map[string]string{"us-east-1": "aws", "eusc-de-east-1": "aws-eusc", "cn-north-1": "aws-cn"} {
		c := serve(t, fakebackend.Options{Region: region}, fakeaws.Options{})
		_, err := c.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: new("r"), AssumeRolePolicyDocument: new(trust)})
		require.NoError(t, err)
		for _, name := range []string{"service-role/AWSIoTThingsRegistration", "service-role/AWSIoTLogging", "service-role/AWSIoTRuleActions"} {
			_, err := c.iam.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: new("r"), PolicyArn: new("arn:" + partition + ":iam::aws:policy/" + name)})
			require.NoError(t, err, name)
		}
		_, err = c.iam.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: new("r"), PolicyArn: new("longpolicynamebutnoarn")})
		require.ErrorContains(t, err, "ValidationError: Invalid ARN:  Could not be parsed!")
	}
}

func TestManagedPoliciesAreReadAsStrictlyAsIAMReadsThem(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	create := func(version, action, resource string) error {
		_, err := c.iam.CreatePolicy(t.Context(), &iam.CreatePolicyInput{PolicyName: new("p"),
			PolicyDocument: new(`{` + version + `"Statement":{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}}`)})
		return err
	}
	const now = `"Version":"2012-10-17",`
	for _, r := range []struct{ version, action, resource, text string }{
		{"", "s3:GetObject", "*", "Policy document must be version 2012-10-17 or greater."},
		{`"Version":"2008-10-17",`, "s3:GetObject", "*", "Policy document must be version 2012-10-17 or greater."},
		{now, "s3:Get:Object", "*", "Actions/Condition can contain only one colon."},
		{now, "a a:GetObject", "*", "Vendor a a is not valid"},
		{now, "s3:GetObject", "arn:aws:s3::b/*", "The policy failed legacy parsing"},
		{now, "s3:GetObject", "arn:aws", "Resource vendor must be fully qualified and cannot contain regexes."},
		{now, "s3:GetObject", "arn:error:s3:::b", `Partition "error" is not valid for resource "arn:error:s3:::b".`},
		{now, "s3:GetObject", "arn:aws:s3:us-east-1::b", "Resource arn:aws:s3:us-east-1::b can not contain region information."},
		{now, "iam:GetRole", "arn:aws:iam:us-east-1::role/r", "IAM resource arn:aws:iam:us-east-1::role/r cannot contain region information."},
	} {
		err := create(r.version, r.action, r.resource)
		require.ErrorContains(t, err, "MalformedPolicyDocument", r.text)
		require.ErrorContains(t, err, r.text)
	}
	for _, resource := range []string{"*", "arn:aws:s3:::b/*", "arn:*:s3:::b", "arn:aws:s3:us-east-1:111122223333:accesspoint/a", "arn:aws:iot:*:*:*"} {
		require.NoError(t, create(now, "s3:GetObject", resource), resource)
		_, err := c.iam.DeletePolicy(t.Context(), &iam.DeletePolicyInput{PolicyArn: new("arn:aws:iam::123456789012:policy/p")})
		require.NoError(t, err)
	}
}
