package fakebackend_test

import (
	"cmp"
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestAStartThatBreaksTheModelIsRefusedInAWSsWords(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	good := task.StartInput{TemplateBody: walkthrough(t), InputFileBucket: "iotfleet-fake", InputFileKey: "devices.json", RoleARN: role}
	for _, c := range []struct {
		name   string
		change func(*task.StartInput)
		want   string
	}{
		{"no template", func(in *task.StartInput) { in.TemplateBody = "" },
			"1 validation error detected: Value null at 'templateBody' failed to satisfy constraint: Member must not be null"},
		{"template too long", func(in *task.StartInput) { in.TemplateBody = "{}" + strings.Repeat(" ", 10239) },
			"at 'templateBody' failed to satisfy constraint: Member must have length less than or equal to 10240"},
		{"template not JSON", func(in *task.StartInput) { in.TemplateBody = "{" }, "Invalid registration template."},
		{"template not a template", func(in *task.StartInput) { in.TemplateBody = `[]` }, "Invalid registration template."},
		{"bad bucket", func(in *task.StartInput) { in.InputFileBucket = "a b" },
			"1 validation error detected: Value 'a b' at 'inputFileBucket' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9._-]+"},
		{"bad key", func(in *task.StartInput) { in.InputFileKey = "a key" }, "at 'inputFileKey' failed to satisfy constraint: Member must satisfy regular expression pattern"},
		{"short role", func(in *task.StartInput) { in.RoleARN = "arn" }, "at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20"},
		{"several", func(in *task.StartInput) { in.InputFileBucket, in.RoleARN = "", "" }, "2 validation errors detected: "},
	} {
		in := good
		c.change(&in)
		_, err := fake.StartTask(t.Context(), &in)
		require.ErrorIs(t, err, task.ErrInvalidRequest, c.name)
		assert.ErrorContains(t, err, c.want, c.name)
		assert.True(t, task.Refused(err), c.name)
	}
	_, err := fake.StartTask(t.Context(), nil)
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	assert.Zero(t, fake.Counts().Tasks)
}

const everything = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`

func TestABadRoleOrDataFileFailsTheTaskOrIsRefusedAsTheOptionSays(t *testing.T) {
	cases := []struct {
		name    string
		prepare func(t *testing.T, fake *fakebackend.Backend, in *task.StartInput)
		want    string
	}{
		{"no such role", func(_ *testing.T, _ *fakebackend.Backend, in *task.StartInput) {
			in.RoleARN = "arn:aws:iam::123456789012:role/nobody"
		}, "cannot assume the role arn:aws:iam::123456789012:role/nobody"},
		{"a role that trusts another service", func(t *testing.T, fake *fakebackend.Backend, in *task.StartInput) {
			in.RoleARN = putRole(t, fake, role{name: "lambda", service: "lambda.amazonaws.com"})
		}, "cannot assume the role"},
		{"a role that cannot read the bucket", func(t *testing.T, fake *fakebackend.Backend, in *task.StartInput) {
			in.RoleARN = putRole(t, fake, role{name: "blind", managed: registration})
		}, "is not authorized to perform: s3:GetObject on resource: arn:aws:s3:::iotfleet-fake/devices.json"},
		{"a missing bucket", func(t *testing.T, fake *fakebackend.Backend, in *task.StartInput) {
			in.InputFileBucket = "no-such-bucket"
		}, "NoSuchBucket"},
		{"a missing object", func(_ *testing.T, _ *fakebackend.Backend, in *task.StartInput) { in.InputFileKey = "other.json" }, "NoSuchKey"},
		{"a bucket in another region", func(t *testing.T, fake *fakebackend.Backend, in *task.StartInput) {
			far := config(fake)
			far.Region = "eu-central-1"
			client := s3.NewFromConfig(far)
			_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{
				Bucket: new("far-away"), CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: "eu-central-1"},
			})
			require.NoError(t, err)
			_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: new("far-away"), Key: new("devices.json"), Body: strings.NewReader("{}")})
			require.NoError(t, err)
			in.InputFileBucket = "far-away"
		}, "eu-central-1"},
	}
	for _, c := range cases {
		for _, refuse := range []bool{false, true} {
			opts := fakebackend.Options{}
			if refuse {
				opts.BadRole, opts.BadInput = fakebackend.RefuseStart, fakebackend.RefuseStart
			}
			fake, _ := newFake(t, opts)
			upload(t, fake, "devices.json", row(t, "device", "1")+"\n")
			in := &task.StartInput{TemplateBody: walkthrough(t), InputFileBucket: "iotfleet-fake", InputFileKey: "devices.json"}
			in.RoleARN = putRole(t, fake, role{name: "mighty", inline: map[string]string{"all": everything}})
			c.prepare(t, fake, in)
			id, err := fake.StartTask(t.Context(), in)
			if refuse {
				require.ErrorIs(t, err, task.ErrInvalidRequest, c.name)
				assert.ErrorContains(t, err, c.want, c.name)
				continue
			}
			require.NoError(t, err, c.name)
			d := describe(t, fake, id)
			assert.Equal(t, task.Failed, d.Status, c.name)
			assert.Contains(t, d.Message, c.want, c.name)
			assert.Zero(t, d.Succeeded+d.Failed, c.name)
			assert.Zero(t, fake.Counts().Things, c.name)
		}
	}
}

const registration = "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"

// role is a role that a test needs. IAM's own operations make it.
type role struct {
	name    string
	service string // that may assume it; "" for AWS IoT
	inline  map[string]string
	managed string
}

func putRole(t testing.TB, fake *fakebackend.Backend, r role) (arn string) {
	t.Helper()
	client := iam.NewFromConfig(config(fake))
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + cmp.Or(r.service, "iot.amazonaws.com") +
		`"},"Action":"sts:AssumeRole"}]}`
	made, err := client.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &r.name, AssumeRolePolicyDocument: &trust})
	require.NoError(t, err)
	for name, text := range r.inline {
		_, err := client.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: &r.name, PolicyName: &name, PolicyDocument: &text})
		require.NoError(t, err)
	}
	if r.managed != "" {
		_, err := client.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: &r.name, PolicyArn: &r.managed})
		require.NoError(t, err)
	}
	return *made.Role.Arn
}

// TestALineFailsWhenTheRoleLacksAnActionItNeeds takes each action away in turn.
func TestALineFailsWhenTheRoleLacksAnActionItNeeds(t *testing.T) {
	for action, resource := range map[string]string{
		"iot:CreateCertificateFromCsr": "*",
		"iot:CreateThing":              "arn:aws:iot:us-east-1:123456789012:thing/device",
		"iot:CreatePolicy":             "arn:aws:iot:us-east-1:123456789012:policy/",
		"iot:AttachPolicy":             "arn:aws:iot:us-east-1:123456789012:cert/",
		"iot:AttachThingPrincipal":     "arn:aws:iot:us-east-1:123456789012:thing/device",
		"iot:UpdateCertificate":        "arn:aws:iot:us-east-1:123456789012:cert/",
	} {
		fake, _ := newFake(t, fakebackend.Options{})
		weak := putRole(t, fake, role{name: "weak", inline: map[string]string{
			"all":  everything,
			"deny": `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"` + action + `","Resource":"*"}}`,
		}})
		id := start(t, fake, weak, walkthrough(t), row(t, "device", "1"))
		d := describe(t, fake, id)
		assert.Equal(t, task.Completed, d.Status, action)
		assert.Equal(t, 1, d.Failed, action)
		lines := failures(t, fake, id)
		require.Len(t, lines, 1)
		assert.Contains(t, lines[0].ErrorMessage, "User: arn:aws:sts::123456789012:assumed-role/weak/", action)
		assert.Contains(t, lines[0].ErrorMessage, "is not authorized to perform: "+action+" on resource: "+resource, action)
	}
}

func TestTheRegistrationPolicyIsEnoughForALineButNotForAnUnknownCA(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	signed := string(fake.CA()) // a certificate whose CA, itself, is not registered
	body := `{"Parameters":{"PEM":{"Type":"String"}},"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificatePem":{"Ref":"PEM"}}}}}`
	id := start(t, fake, role, body, line(t, map[string]string{"PEM": signed}))
	lines := failures(t, fake, id)
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0].ErrorMessage, "iot:RegisterCertificateWithoutCA")
}

func TestTheDataFileIsTheOneOfTheStart(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1})
	id := start(t, fake, role, walkthrough(t), rows(t, 3)...)
	fake.Advance(1500 * 1e6)
	upload(t, fake, "devices.json", "something else\n")
	_, err := s3.NewFromConfig(config(fake)).DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: new("iotfleet-fake"), Key: new("devices.json")})
	require.NoError(t, err)
	fake.Advance(5e9)
	assert.Equal(t, 3, describe(t, fake, id).Succeeded)
}

func TestATemplateInsideAnotherDocumentIsRefusedAlthoughPackageTemplateReadsIt(t *testing.T) {
	body := walkthrough(t)
	request, err := json.Marshal(map[string]string{"templateBody": body})
	require.NoError(t, err)
	quoted, err := json.Marshal(body)
	require.NoError(t, err)
	for _, wrapped := range []string{string(request), string(quoted)} {
		fake, role := newFake(t, fakebackend.Options{})
		upload(t, fake, "devices.json", row(t, "device", "1"))
		_, err := fake.StartTask(t.Context(), &task.StartInput{
			TemplateBody: wrapped, InputFileBucket: fake.Options().Bucket, InputFileKey: "devices.json", RoleARN: role,
		})
		require.ErrorIs(t, err, task.ErrInvalidRequest)
		_, err = fake.RegisterThing(t.Context(), &task.RegisterInput{TemplateBody: wrapped, Parameters: map[string]string{
			"ThingName": "device", "SerialNumber": "1", "CSR": csrOf(key, "device"),
		}})
		require.ErrorIs(t, err, task.ErrInvalidRequest)
		assert.Zero(t, fake.Counts())
	}
}
