package iam

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.UTC)

const (
	roleARN      = "arn:aws:iam::123456789012:role/registration"
	registration = "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"
	readFleet    = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject"],"Resource":["arn:aws:s3:::fleet/*"]}]}`
)

func newStore(t testing.TB) *Store {
	t.Helper()
	s := NewStore("aws", "123456789012")
	_, err := s.CreateRole(NewRole{Name: "registration", Trust: walkthroughTrust}, now)
	require.NoError(t, err)
	return s
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestTheWalkthroughsRoleMayReadTheFileAndRegisterThings(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.PutRolePolicy("registration", "read", readFleet))
	require.NoError(t, s.AttachRolePolicy("registration", registration))
	session, err := s.Assume(roleARN, "iot.amazonaws.com", nil)
	require.NoError(t, err)
	assert.True(t, session.Allows("s3:GetObject", "arn:aws:s3:::fleet/devices.json"))
	assert.False(t, session.Allows("s3:GetObject", "arn:aws:s3:::other/devices.json"))
	assert.False(t, session.Allows("s3:PutObject", "arn:aws:s3:::fleet/devices.json"))
	assert.Len(t, ThingsRegistrationActions, 30)
	for _, action := range ThingsRegistrationActions {
		assert.True(t, session.Allows(action, "*"), action)
	}
	assert.False(t, session.Allows("iot:RegisterCertificateWithoutCA", "*"))

	// What the session may do was settled when the role was assumed.
	require.NoError(t, s.DeleteRolePolicy("registration", "read"))
	assert.True(t, session.Allows("s3:GetObject", "arn:aws:s3:::fleet/devices.json"))
	later, err := s.Assume(roleARN, "iot.amazonaws.com", nil)
	require.NoError(t, err)
	assert.False(t, later.Allows("s3:GetObject", "arn:aws:s3:::fleet/devices.json"))
}

func TestADenialInOnePolicyBeatsThePermissionInAnother(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.AttachRolePolicy("registration", "arn:aws:iam::aws:policy/AmazonS3FullAccess"))
	require.NoError(t, s.PutRolePolicy("registration", "deny", strings.Replace(readFleet, "Allow", "Deny", 1)))
	session, err := s.Assume(roleARN, "iot.amazonaws.com", nil)
	require.NoError(t, err)
	assert.False(t, session.Allows("s3:GetObject", "arn:aws:s3:::fleet/a"))
	assert.True(t, session.Allows("s3:GetObject", "arn:aws:s3:::other/a"))
}

func TestOnlyWhomTheTrustPolicyNamesMayAssumeTheRole(t *testing.T) {
	s := newStore(t)
	_, err := s.Assume(roleARN, "ec2.amazonaws.com", nil)
	assert.Equal(t, "AccessDenied", codeOf(err))
	_, err = s.Assume(roleARN+"s", "iot.amazonaws.com", nil)
	assert.Equal(t, "NoSuchEntity", codeOf(err))
	guarded := strings.Replace(walkthroughTrust, `"Action"`, `"Condition":{"StringEquals":{"aws:SourceAccount":"123456789012"}},"Action"`, 1)
	require.NoError(t, s.UpdateAssumeRolePolicy("registration", guarded))
	_, err = s.Assume(roleARN, "iot.amazonaws.com", nil)
	assert.Equal(t, "AccessDenied", codeOf(err))
	_, err = s.Assume(roleARN, "iot.amazonaws.com", map[string]string{"aws:SourceAccount": "123456789012"})
	assert.NoError(t, err)
}

func TestARoleComesBackAsItWasMade(t *testing.T) {
	s := NewStore("aws-cn", "123456789012")
	made, err := s.CreateRole(NewRole{Name: "Reg.istration", Path: "/factory/", Trust: walkthroughTrust, Description: "d", MaxSession: 2 * time.Hour,
		Tags: []Tag{{"line", "7"}}}, now)
	require.NoError(t, err)
	assert.Equal(t, "arn:aws-cn:iam::123456789012:role/factory/Reg.istration", made.ARN)
	assert.Regexp(t, `^AROA[A-Z2-7]{17}$`, made.ID)
	assert.Equal(t, now.Truncate(time.Second), made.Created)
	made.Tags[0].Value = "changed by the caller"
	got, err := s.GetRole("reg.ISTRATION")
	require.NoError(t, err, "names differ by more than case")
	assert.Equal(t, []Tag{{"line", "7"}}, got.Tags)
	assert.Equal(t, walkthroughTrust, got.Trust)
	_, err = s.CreateRole(NewRole{Name: "REG.istration", Trust: walkthroughTrust}, now)
	assert.EqualError(t, err, "EntityAlreadyExists: Role with name REG.istration already exists.")
	assert.Len(t, s.Roles("/factory/"), 1)
	assert.Empty(t, s.Roles("/office/"))

	require.NoError(t, s.UpdateRole("Reg.istration", new("new"), 3*time.Hour))
	require.NoError(t, s.TagRole("Reg.istration", []Tag{{"LINE", "8"}, {"more", ""}}))
	require.NoError(t, s.UntagRole("Reg.istration", []string{"MORE", "none"}))
	got, err = s.GetRole("Reg.istration")
	require.NoError(t, err)
	assert.Equal(t, []Tag{{"LINE", "8"}}, got.Tags)
	assert.Equal(t, "new", got.Description)
	assert.Equal(t, 3*time.Hour, got.MaxSession)
}

func TestARoleThatIAMWouldRefuseIsRefused(t *testing.T) {
	s := newStore(t)
	long := strings.Repeat(" ", 5000)
	for name, c := range map[string]struct {
		in   NewRole
		code string
	}{
		"no name":             {NewRole{Trust: walkthroughTrust}, "ValidationError"},
		"a slash in the name": {NewRole{Name: "a/b", Trust: walkthroughTrust}, "ValidationError"},
		"a long name":         {NewRole{Name: strings.Repeat("a", 65), Trust: walkthroughTrust}, "ValidationError"},
		"a bad path":          {NewRole{Name: "a", Path: "factory", Trust: walkthroughTrust}, "ValidationError"},
		"no trust":            {NewRole{Name: "a"}, "MalformedPolicyDocument"},
		"trust with resource": {NewRole{Name: "a", Trust: strings.Replace(walkthroughTrust, `"Action"`, `"Resource":"*","Action"`, 1)}, "MalformedPolicyDocument"},
		"trust in nobody":     {NewRole{Name: "a", Trust: document("Allow", `"Action":"sts:AssumeRole"`)}, "MalformedPolicyDocument"},
		"another action":      {NewRole{Name: "a", Trust: strings.Replace(walkthroughTrust, "sts:AssumeRole", "s3:GetObject", 1)}, "MalformedPolicyDocument"},
		"a long trust":        {NewRole{Name: "a", Trust: strings.Replace(walkthroughTrust, `"Sid": ""`, `"Sid": "`+strings.Repeat("a", 2048)+`"`, 1)}, "LimitExceeded"},
		"a tag twice":         {NewRole{Name: "a", Trust: walkthroughTrust, Tags: []Tag{{"a", ""}, {"A", ""}}}, "InvalidInput"},
	} {
		_, err := s.CreateRole(c.in, now)
		assert.Equal(t, c.code, codeOf(err), name)
	}
	_, err := s.CreateRole(NewRole{Name: "spacious", Trust: walkthroughTrust + long}, now)
	assert.NoError(t, err, "white space does not count")
}

func TestARoleHasFiftyTagsAtMost(t *testing.T) {
	s := newStore(t)
	many := func(prefix string) (out []Tag) {
		for i := range 30 {
			out = append(out, Tag{fmt.Sprint(prefix, i), ""})
		}
		return out
	}
	require.NoError(t, s.TagRole("registration", many("a")))
	assert.EqualError(t, s.TagRole("registration", many("b")), "LimitExceeded: Cannot exceed quota for TagsPerRole: 50")
	require.NoError(t, s.TagRole("registration", many("A")), "the same keys again")
	got, err := s.GetRole("registration")
	require.NoError(t, err)
	assert.Equal(t, many("A"), got.Tags)
}

func TestInlinePolicies(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.PutRolePolicy("registration", "b", readFleet))
	require.NoError(t, s.PutRolePolicy("registration", "a", readFleet))
	names, err := s.ListRolePolicies("registration")
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, names)
	text, err := s.GetRolePolicy("registration", "a")
	require.NoError(t, err)
	assert.Equal(t, readFleet, text)

	assert.Equal(t, "MalformedPolicyDocument", codeOf(s.PutRolePolicy("registration", "c", walkthroughTrust)), "it names a principal")
	assert.Equal(t, "MalformedPolicyDocument", codeOf(s.PutRolePolicy("registration", "c", document("Allow", `"Principal":"*","Action":"s3:*","Resource":"*"`))), "it names a principal")
	assert.Equal(t, "MalformedPolicyDocument", codeOf(s.PutRolePolicy("registration", "c", document("Allow", `"Action":"s3:*"`))), "it names no resource")
	assert.Equal(t, "ValidationError", codeOf(s.PutRolePolicy("registration", "c d", readFleet)))
	assert.Equal(t, "NoSuchEntity", codeOf(s.PutRolePolicy("none", "c", readFleet)))
	big := document("Allow", `"Action":"s3:*","Resource":"arn:aws:s3:::`+strings.Repeat("x", 10240)+`"`)
	assert.Equal(t, "LimitExceeded", codeOf(s.PutRolePolicy("registration", "c", big)))

	assert.Equal(t, "DeleteConflict", codeOf(s.DeleteRole("registration")))
	require.NoError(t, s.DeleteRolePolicy("registration", "a"))
	require.NoError(t, s.DeleteRolePolicy("registration", "b"))
	assert.Equal(t, "NoSuchEntity", codeOf(s.DeleteRolePolicy("registration", "b")))
	_, err = s.GetRolePolicy("registration", "b")
	assert.Equal(t, "NoSuchEntity", codeOf(err))
	require.NoError(t, s.DeleteRole("registration"))
	_, err = s.GetRole("registration")
	assert.EqualError(t, err, "NoSuchEntity: The role with name registration cannot be found.")
}

func TestManagedPolicies(t *testing.T) {
	s := newStore(t)
	mine, err := s.CreatePolicy(NewPolicy{Name: "mine", Path: "/factory/", Document: readFleet}, now)
	require.NoError(t, err)
	assert.Equal(t, "arn:aws:iam::123456789012:policy/factory/mine", mine.ARN)
	_, err = s.CreatePolicy(NewPolicy{Name: "MINE", Document: readFleet}, now)
	assert.Equal(t, "EntityAlreadyExists", codeOf(err))
	assert.Len(t, s.state.Policies, 1)

	for range 2 {
		require.NoError(t, s.AttachRolePolicy("registration", registration), "attaching twice is no error")
	}
	require.NoError(t, s.AttachRolePolicy("registration", mine.ARN))
	assert.Equal(t, "NoSuchEntity", codeOf(s.AttachRolePolicy("registration", "arn:aws:iam::aws:policy/None")))
	assert.Equal(t, "NoSuchEntity", codeOf(s.AttachRolePolicy("registration", "arn:aws-cn:iam::aws:policy/AmazonS3FullAccess")), "another partition")
	attached, err := s.ListAttachedRolePolicies("registration", "")
	require.NoError(t, err)
	assert.Equal(t, []AttachedPolicy{{"AWSIoTThingsRegistration", registration}, {"mine", mine.ARN}}, attached)
	attached, err = s.ListAttachedRolePolicies("registration", "/service-role/")
	require.NoError(t, err)
	assert.Equal(t, []AttachedPolicy{{"AWSIoTThingsRegistration", registration}}, attached)

	got, n, err := s.GetPolicy(mine.ARN)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, readFleet, got.Document())
	v2, _, err := s.CreatePolicyVersion(mine.ARN, strings.Replace(readFleet, "fleet", "depot", 1), true, now)
	require.NoError(t, err)
	assert.Equal(t, "v2", v2.ID)
	_, inForce, err := s.GetPolicyVersion(mine.ARN, "v1")
	require.NoError(t, err)
	assert.False(t, inForce)
	session, err := s.Assume(roleARN, "iot.amazonaws.com", nil)
	require.NoError(t, err)
	assert.True(t, session.Allows("s3:GetObject", "arn:aws:s3:::depot/a"))
	assert.False(t, session.Allows("s3:GetObject", "arn:aws:s3:::fleet/a"))

	assert.Equal(t, "DeleteConflict", codeOf(s.DeletePolicy(mine.ARN)), "it is attached")
	assert.Equal(t, "DeleteConflict", codeOf(s.DeleteRole("registration")), "policies are attached")
	require.NoError(t, s.DetachRolePolicy("registration", mine.ARN))
	assert.Equal(t, "NoSuchEntity", codeOf(s.DetachRolePolicy("registration", mine.ARN)))
	assert.Equal(t, "DeleteConflict", codeOf(s.DeletePolicy(mine.ARN)), "it has two versions")
	_, version, err := s.GetPolicyVersion(registration, "v1")
	require.NoError(t, err)
	assert.True(t, version)
}

func TestARoleTakesTenManagedPolicies(t *testing.T) {
	s := newStore(t)
	for i := range 11 {
		p, err := s.CreatePolicy(NewPolicy{Name: fmt.Sprintf("p%d", i), Document: readFleet}, now)
		require.NoError(t, err)
		err = s.AttachRolePolicy("registration", p.ARN)
		if i < 10 {
			assert.NoError(t, err)
		} else {
			assert.Equal(t, "LimitExceeded", codeOf(err))
		}
	}
}

func TestEveryPolicyOfAWSIsAValidDocument(t *testing.T) {
	s := NewStore("aws-us-gov", "123456789012")
	for resource, document := range awsPolicies {
		assert.NoError(t, checkManaged(document), resource)
		p, _, err := s.GetPolicy("arn:aws-us-gov:iam::aws:policy" + resource)
		require.NoError(t, err)
		assert.Equal(t, resource, p.Path+p.Name)
		assert.Len(t, p.ID, 21)
	}
}

func TestASnapshotComesBackWhateverHappenedSince(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.PutRolePolicy("registration", "read", readFleet))
	before := s.Snapshot()
	require.NoError(t, s.DeleteRolePolicy("registration", "read"))
	require.NoError(t, s.DeleteRole("registration"))
	for range 2 {
		s.Restore(before)
		names, err := s.ListRolePolicies("registration")
		require.NoError(t, err)
		assert.Equal(t, []string{"read"}, names)
		require.NoError(t, s.DeleteRolePolicy("registration", "read"))
	}
	first, err := NewStore("aws", "123456789012").CreateRole(NewRole{Name: "registration", Trust: walkthroughTrust}, now)
	require.NoError(t, err)
	assert.Equal(t, first.ID, before.Roles["registration"].ID, "ids follow from what was made before")
	s.Restore(State{})
	assert.Empty(t, s.Roles(""))
	assert.False(t, slices.Contains(ThingsRegistrationActions, "iot:RegisterCertificateWithoutCA"))
}
