package fakebackend_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/task"
)

// codeOf is the AWS error code inside err, "" if there is none.
func codeOf(err error) string {
	if e, ok := errors.AsType[*task.Error](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// codes runs calls in order and gathers their error codes.
type codes struct{ got []string }

func (c *codes) add(_ any, err error) { c.got = append(c.got, codeOf(err)) }

func TestAThingGoesThroughItsLifeAsInAWS(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	attributes := func(kv ...string) *types.AttributePayload {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return &types.AttributePayload{Attributes: m}
	}
	var c codes
	c.add(api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new("a"), AttributePayload: attributes("x", "1")}))
	c.add(api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new("a"), AttributePayload: attributes("x", "1")}))
	c.add(api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new("a"), AttributePayload: attributes("x", "2")}))
	c.add(api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new("b"), ThingTypeName: new("none")}))
	c.add(api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new("b"), AttributePayload: attributes("1", "", "2", "", "3", "", "4", "")}))
	c.add(api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new("a b")}))
	c.add(api(fake).UpdateThing(ctx, &iot.UpdateThingInput{ThingName: new("a"), ExpectedVersion: new(int64(7))}))
	c.add(api(fake).UpdateThing(ctx, &iot.UpdateThingInput{ThingName: new("a"), AttributePayload: &types.AttributePayload{
		Merge: true, Attributes: map[string]string{"y": "2", "x": ""}}}))
	assert.Equal(t, []string{"", "", "ResourceAlreadyExistsException", "ResourceNotFoundException", "InvalidRequestException",
		"InvalidRequestException", "VersionConflictException", ""}, c.got)

	thing, err := api(fake).DescribeThing(ctx, &iot.DescribeThingInput{ThingName: new("a")})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"y": "2"}, thing.Attributes, "an empty value removes an attribute")
	assert.EqualValues(t, 2, thing.Version)
	assert.Equal(t, "a", *thing.DefaultClientId)
	assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, *thing.ThingId)

	c = codes{}
	c.add(api(fake).DeleteThing(ctx, &iot.DeleteThingInput{ThingName: new("a")}))
	c.add(api(fake).DeleteThing(ctx, &iot.DeleteThingInput{ThingName: new("a")}))
	c.add(api(fake).DescribeThing(ctx, &iot.DescribeThingInput{ThingName: new("a")}))
	assert.Equal(t, []string{"", "", "ResourceNotFoundException"}, c.got)
}

func TestListsComeInPagesThatStayStableWhileThingsComeAndGo(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	for i := range 100 {
		_, err := api(fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new(fmt.Sprintf("t%03d", i))})
		require.NoError(t, err)
	}
	var names []string
	for token := ""; ; {
		page, err := api(fake).ListThings(t.Context(), &iot.ListThingsInput{MaxResults: new(int32(10)), NextToken: optional(token)})
		require.NoError(t, err)
		for _, thing := range page.Things {
			names = append(names, *thing.ThingName)
		}
		if token = aws.ToString(page.NextToken); token == "" {
			break
		}
		// Everything seen so far goes away.
		for _, thing := range page.Things {
			_, err := api(fake).DeleteThing(t.Context(), &iot.DeleteThingInput{ThingName: thing.ThingName})
			require.NoError(t, err)
		}
	}
	require.Len(t, names, 100, "a full last page has no token")
	assert.Equal(t, "t000", names[0])
	assert.Equal(t, "t099", names[99])

	_, err := api(fake).ListThings(t.Context(), &iot.ListThingsInput{MaxResults: new(int32(251))})
	require.ErrorContains(t, err, "1 validation error detected: Value '251' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 250")
	_, err = api(fake).ListThings(t.Context(), &iot.ListThingsInput{NextToken: new("nonsense")})
	assert.Equal(t, "InvalidRequestException", codeOf(err))
}

func TestTypesGroupsAndBillingGroupsKeepTheirRules(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	var c codes
	c.add(api(fake).CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("kind")}))
	c.add(api(fake).CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("kind")}))
	c.add(api(fake).DeprecateThingType(ctx, &iot.DeprecateThingTypeInput{ThingTypeName: new("kind")}))
	c.add(api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new("a"), ThingTypeName: new("kind")}))
	c.add(api(fake).DeleteThingType(ctx, &iot.DeleteThingTypeInput{ThingTypeName: new("kind")}))
	fake.Advance(5 * time.Minute)
	c.add(api(fake).DeleteThingType(ctx, &iot.DeleteThingTypeInput{ThingTypeName: new("kind")}))
	assert.Equal(t, []string{"", "ResourceAlreadyExistsException", "", "InvalidRequestException", "InvalidRequestException", ""}, c.got)

	c = codes{}
	c.add(api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new("a")}))
	parent := ""
	for i := range 8 {
		name := fmt.Sprint("level", i)
		_, err := api(fake).CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new(name), ParentGroupName: optional(parent)})
		assert.Equal(t, i == 7, err != nil, "a hierarchy is seven groups deep: %v", err)
		parent = name
	}
	add := func(group string) {
		c.add(api(fake).AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: new("a"), ThingGroupName: new(group)}))
	}
	add("level6")
	add("level6")
	add("level0")
	add("nowhere")
	for i := range 10 {
		_, err := api(fake).CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new(fmt.Sprint("g", i))})
		require.NoError(t, err)
		add(fmt.Sprint("g", i))
	}
	assert.Equal(t, []string{"", "", "", "InvalidRequestException", "ResourceNotFoundException", "", "", "", "", "", "", "", "", "", "LimitExceededException"}, c.got)
	_, err := api(fake).UpdateThingGroupsForThing(ctx, &iot.UpdateThingGroupsForThingInput{ThingGroupsToAdd: []string{"level6"}})
	assert.ErrorContains(t, err, "InvalidRequestException: The name of the thing must be given", "the model does not require it, so this is no violation of it")
	deep, err := api(fake).ListThingsInThingGroup(ctx, &iot.ListThingsInThingGroupInput{ThingGroupName: new("level0"), Recursive: true})
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, deep.Things)
	group, err := api(fake).DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: new("level2")})
	require.NoError(t, err)
	assert.Equal(t, "level1", *group.ThingGroupMetadata.ParentGroupName)
	assert.Len(t, group.ThingGroupMetadata.RootToParentThingGroups, 2)

	c = codes{}
	c.add(api(fake).CreateBillingGroup(ctx, &iot.CreateBillingGroupInput{BillingGroupName: new("one")}))
	c.add(api(fake).CreateBillingGroup(ctx, &iot.CreateBillingGroupInput{BillingGroupName: new("two")}))
	for _, name := range []string{"one", "one", "two"} {
		c.add(api(fake).AddThingToBillingGroup(ctx, &iot.AddThingToBillingGroupInput{ThingName: new("a"), BillingGroupName: new(name)}))
	}
	assert.Equal(t, []string{"", "", "", "", "InvalidRequestException"}, c.got)
	c = codes{}
	c.add(api(fake).DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: new("level0")}))
	c.add(api(fake).DeleteThingGroup(ctx, &iot.DeleteThingGroupInput{ThingGroupName: new("level6")}))
	c.add(api(fake).DeleteBillingGroup(ctx, &iot.DeleteBillingGroupInput{BillingGroupName: new("one")}))
	assert.Equal(t, []string{"InvalidRequestException", "", ""}, c.got)
	device, _ := fake.Thing("a")
	assert.Empty(t, device.BillingGroup)
	assert.NotContains(t, device.ThingGroups, "level6")
}

const allowConnect = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`

func TestAPolicyKeepsItsVersionsAndItsTargets(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	var c codes
	c.add(api(fake).CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(allowConnect)}))
	c.add(api(fake).CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(allowConnect)}))
	c.add(api(fake).CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new("q"), PolicyDocument: new("{")}))
	c.add(api(fake).CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new("q"), PolicyDocument: new(`{"Version":"2012-10-17"}`)}))
	c.add(api(fake).CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new("q"), PolicyDocument: new(strings.Replace(allowConnect, "*", strings.Repeat("x", 2048), 1))}))
	for range 5 {
		c.add(api(fake).CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: new("p"), PolicyDocument: new(allowConnect), SetAsDefault: true}))
	}
	c.add(api(fake).DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: new("p"), PolicyVersionId: new("5")}))
	c.add(api(fake).DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: new("p"), PolicyVersionId: new("1")}))
	c.add(api(fake).GetPolicyVersion(ctx, &iot.GetPolicyVersionInput{PolicyName: new("p"), PolicyVersionId: new("1")}))
	assert.Equal(t, []string{"", "ResourceAlreadyExistsException", "MalformedPolicyException", "MalformedPolicyException", "MalformedPolicyException",
		"", "", "", "", "VersionsLimitExceededException", "InvalidRequestException", "", "ResourceNotFoundException"}, c.got)
	_, err := api(fake).CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new("p"), PolicyDocument: new(allowConnect)})
	existing, ok := errors.AsType[*types.ResourceAlreadyExistsException](err)
	require.True(t, ok)
	assert.Equal(t, "arn:aws:iot:us-east-1:123456789012:policy/p", *existing.ResourceArn)

	var targets []string
	for i := range 5 {
		made, err := api(fake).CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: new(csrOf(key, fmt.Sprint(i)))})
		require.NoError(t, err)
		targets = append(targets, *made.CertificateArn)
	}
	_, err = api(fake).CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new("g")})
	require.NoError(t, err)
	targets = append(targets, "arn:aws:iot:us-east-1:123456789012:thinggroup/g")
	for _, arn := range targets {
		_, err := api(fake).AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: new("p"), Target: new(arn)})
		require.NoError(t, err)
	}
	var listed []string
	for marker := ""; ; {
		page, err := api(fake).ListTargetsForPolicy(ctx, &iot.ListTargetsForPolicyInput{PolicyName: new("p"), Marker: optional(marker), PageSize: new(int32(2))})
		require.NoError(t, err)
		listed = append(listed, page.Targets...)
		if marker = aws.ToString(page.NextMarker); marker == "" {
			break
		}
	}
	assert.Equal(t, targets, listed)
	_, err = api(fake).DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: new("p")})
	assert.Equal(t, "DeleteConflictException", codeOf(err))
}

func TestACertificateIsTakenOutOfUseInTheRightOrder(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	id := start(t, fake, role, walkthrough(t), row(t, "device", "1"))
	arn := results(t, fake, id)[0].Response.ResourceARNs.Certificate()
	certificate := task.ResourceName(arn)
	var c codes
	c.add(api(fake).DeleteThing(ctx, &iot.DeleteThingInput{ThingName: new("device")}))
	c.add(api(fake).DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: new(certificate)}))
	c.add(api(fake).UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: new(certificate), NewStatus: "INACTIVE"}))
	c.add(api(fake).DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: new(certificate)}))
	c.add(api(fake).DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: new("device"), Principal: new(arn)}))
	c.add(api(fake).DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: new(certificate)}))
	c.add(api(fake).DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: new(certificate), ForceDelete: true}))
	c.add(api(fake).DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: new(certificate)}))
	c.add(api(fake).DeleteThing(ctx, &iot.DeleteThingInput{ThingName: new("device")}))
	assert.Equal(t, []string{"InvalidRequestException", "CertificateStateException", "", "DeleteConflictException", "", "DeleteConflictException", "",
		"ResourceNotFoundException", ""}, c.got)
	assert.Len(t, results(t, fake, id), 1, "a report does not change")
}

func TestDescribeCertificateShowsWhatAWSShows(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	fake.SetTime(monday.Add(1234567 * time.Microsecond))
	made, err := api(fake).CreateCertificateFromCsr(t.Context(), &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: new(csrOf(key, "x")), SetAsActive: true})
	require.NoError(t, err)
	out, err := api(fake).DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: new(strings.ToUpper(*made.CertificateId))})
	require.NoError(t, err)
	d := out.CertificateDescription
	assert.Equal(t, made.CertificatePem, d.CertificatePem)
	assert.EqualValues(t, "ACTIVE", d.Status)
	assert.Equal(t, "123456789012", *d.OwnedBy)
	assert.EqualValues(t, 1, *d.CustomerVersion)
	assert.Equal(t, monday.Add(1234*time.Millisecond), *d.CreationDate)
	assert.Equal(t, monday.Add(-119*time.Second), *d.Validity.NotBefore)
	assert.Equal(t, time.Unix(2524607999, 0).UTC(), *d.Validity.NotAfter)
	assert.NotNil(t, d.TransferData)
}

func TestAnExclusiveAttachmentAllowsNoOther(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	made, err := api(fake).CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: new(csrOf(key, "x"))})
	require.NoError(t, err)
	for _, name := range []string{"a", "b"} {
		_, err := api(fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new(name)})
		require.NoError(t, err)
	}
	var c codes
	c.add(api(fake).AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: new("a"), Principal: made.CertificateArn, ThingPrincipalType: "EXCLUSIVE_THING"}))
	c.add(api(fake).AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: new("b"), Principal: made.CertificateArn}))
	c.add(api(fake).AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: new("b"), Principal: new("arn:aws:iot:us-east-1:123456789012:cert/" + strings.Repeat("0", 64))}))
	c.add(api(fake).AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: new("b"), Principal: new("me")}))
	assert.Equal(t, []string{"", "InvalidRequestException", "ResourceNotFoundException", "InvalidRequestException"}, c.got)
	v2, err := api(fake).ListThingPrincipalsV2(ctx, &iot.ListThingPrincipalsV2Input{ThingName: new("a")})
	require.NoError(t, err)
	assert.Equal(t, []types.ThingPrincipalObject{{Principal: made.CertificateArn, ThingPrincipalType: "EXCLUSIVE_THING"}}, v2.ThingPrincipalObjects)
	things, err := api(fake).ListPrincipalThingsV2(ctx, &iot.ListPrincipalThingsV2Input{Principal: made.CertificateArn, ThingPrincipalType: "NON_EXCLUSIVE_THING"})
	require.NoError(t, err)
	assert.Empty(t, things.PrincipalThingObjects)
}

// ownCA makes a CA of the customer's own, and a function that signs with it.
func ownCA() (caPEM string, sign func(cn string) string) {
	hour := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = monday.Add(-time.Hour), monday.Add(time.Hour) }
	ca := certtest.NewCA(key, hour)
	return certtest.PEM(ca.Certificate), func(cn string) string {
		return certtest.PEM(ca.Sign(key.Public(), hour, func(c *x509.Certificate) { c.Subject.CommonName = cn }))
	}
}

func TestCertificatesOfTheCustomersOwnCAAreRegistered(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	caPEM, sign := ownCA()
	var c codes
	c.add(api(fake).RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: new(sign("early"))}))
	c.add(api(fake).RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: new(caPEM), VerificationCertificate: new(sign("wrong"))}))
	code, err := api(fake).GetRegistrationCode(ctx, nil)
	require.NoError(t, err)
	ca, err := api(fake).RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: new(caPEM), VerificationCertificate: new(sign(*code.RegistrationCode))})
	require.NoError(t, err)
	one := sign("one")
	c.add(api(fake).RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: new(one)}))
	c.add(api(fake).UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: ca.CertificateId, NewStatus: "ACTIVE"}))
	active := &iot.RegisterCertificateInput{CertificatePem: new(one), SetAsActive: new(true)} //nolint:staticcheck // deprecated; older clients send it
	c.add(api(fake).RegisterCertificate(ctx, active))
	c.add(api(fake).RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: new(one)}))
	c.add(api(fake).DeleteCACertificate(ctx, &iot.DeleteCACertificateInput{CertificateId: ca.CertificateId}))
	assert.Equal(t, []string{"CertificateValidationException", "RegistrationCodeValidationException", "CertificateValidationException", "", "",
		"ResourceAlreadyExistsException", "CertificateStateException"}, c.got)
	byCA, err := api(fake).ListCertificatesByCA(ctx, &iot.ListCertificatesByCAInput{CaCertificateId: ca.CertificateId})
	require.NoError(t, err)
	assert.Len(t, byCA.Certificates, 1)

	body := `{"Parameters":{"N":{"Type":"String"},"PEM":{"Type":"String"}},"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"N"}}},` +
		`"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificatePem":{"Ref":"PEM"}}}}}`
	two := sign("two")
	id := start(t, fake, role, body, line(t, map[string]string{"N": "two", "PEM": two}), line(t, map[string]string{"N": "again", "PEM": two}))
	lines := results(t, fake, id)
	require.Len(t, lines, 1)
	assert.Equal(t, two, lines[0].Response.CertificatePem)
	assert.Contains(t, failures(t, fake, id)[0].ErrorMessage, "already")
}

func TestACAThatIsNotActiveStandsInTheWayOfItsOwnRegistrationsOnly(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	old, sign := ownCA()
	renewed, _ := ownCA() // the same key and subject
	var ids []string
	for _, ca := range []string{old, renewed} {
		out, err := api(fake).RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: new(ca), CertificateMode: "SNI_ONLY"})
		require.NoError(t, err)
		ids = append(ids, *out.CertificateId)
	}
	_, err := api(fake).RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: new(sign("one"))})
	require.ErrorContains(t, err, "is not active")
	_, err = api(fake).RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: new(sign("two"))})
	require.NoError(t, err, "no CA is asked for")
	_, err = api(fake).UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: new(ids[1]), NewStatus: "ACTIVE"})
	require.NoError(t, err)
	three, err := api(fake).RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: new(sign("three"))})
	require.NoError(t, err, "the renewed CA is active")
	got, err := api(fake).DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: three.CertificateId})
	require.NoError(t, err)
	assert.Equal(t, ids[1], *got.CertificateDescription.CaCertificateId)
}

func TestTheFakeSharesNoMemoryWithItsCallers(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	row := map[string]string{"ThingName": "device", "SerialNumber": "1", "CSR": csrOf(key, "device")}
	_, err := fake.RegisterThing(ctx, &task.RegisterInput{TemplateBody: walkthrough(t), Parameters: row})
	require.NoError(t, err)
	row["SerialNumber"] = "spoiled"
	spoil := func(d *task.Device) {
		d.Attributes["serialNumber"], d.Certificates[0].Policies[0] = "spoiled", "spoiled"
	}
	before := fake.Snapshot()
	seen, _ := fake.Thing("device")
	spoil(seen)
	read, err := fake.ReadDevice(ctx, "device")
	require.NoError(t, err)
	spoil(read)
	for range 2 {
		device, _ := fake.Thing("device")
		assert.Equal(t, "1", device.Attributes["serialNumber"])
		assert.NotEqual(t, "spoiled", device.Certificates[0].Policies[0])
		remove(t, fake, "device")
		require.NoError(t, fake.Restore(before), "what happens to the fake does not change a snapshot")
	}
}

func TestTagsBelongToResourcesThatExist(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	_, err := api(fake).CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("kind"), Tags: []types.Tag{{Key: new("a"), Value: new("1")}}})
	require.NoError(t, err)
	arn := "arn:aws:iot:us-east-1:123456789012:thingtype/kind"
	var c codes
	c.add(api(fake).TagResource(ctx, &iot.TagResourceInput{ResourceArn: new(arn), Tags: []types.Tag{{Key: new("b"), Value: new("2")}, {Key: new("a"), Value: new("3")}}}))
	c.add(api(fake).TagResource(ctx, &iot.TagResourceInput{ResourceArn: new(arn + "x"), Tags: []types.Tag{}}))
	c.got = append(c.got, refused(t, fake, "POST", "/tags", `{"resourceArn":"`+arn+`"}`))
	tags, err := api(fake).ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: new(arn)})
	require.NoError(t, err)
	assert.Equal(t, []types.Tag{{Key: new("a"), Value: new("3")}, {Key: new("b"), Value: new("2")}}, tags.Tags)
	c.add(api(fake).UntagResource(ctx, &iot.UntagResourceInput{ResourceArn: new(arn), TagKeys: []string{"a", "b"}}))
	assert.Equal(t, []string{"", "ResourceNotFoundException", "InvalidRequestException", ""}, c.got)
}

func TestTheKeyOfCreateKeysAndCertificateFitsIt(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	out, err := api(fake).CreateKeysAndCertificate(t.Context(), nil)
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(*out.KeyPair.PrivateKey))
	private, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	require.NoError(t, err)
	block, _ = pem.Decode([]byte(*out.CertificatePem))
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	assert.True(t, private.PublicKey.Equal(cert.PublicKey))
}
