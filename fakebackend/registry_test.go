package fakebackend_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// codeOf is the AWS error code inside err, "" if there is none.
func codeOf(err error) string {
	if e, ok := errors.AsType[*task.Error](err); ok {
		return e.Code
	}
	return ""
}

// codes runs calls in order and gathers their error codes.
type codes struct{ got []string }

func (c *codes) add(_ any, err error) { c.got = append(c.got, codeOf(err)) }

func TestAThingGoesThroughItsLifeAsInAWS(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	attributes := func(kv ...string) *fakebackend.AttributePayload {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return &fakebackend.AttributePayload{Attributes: m}
	}
	var c codes
	c.add(fake.CreateThing(ctx, &fakebackend.CreateThingInput{ThingName: "a", AttributePayload: attributes("x", "1")}))
	c.add(fake.CreateThing(ctx, &fakebackend.CreateThingInput{ThingName: "a", AttributePayload: attributes("x", "1")}))
	c.add(fake.CreateThing(ctx, &fakebackend.CreateThingInput{ThingName: "a", AttributePayload: attributes("x", "2")}))
	c.add(fake.CreateThing(ctx, &fakebackend.CreateThingInput{ThingName: "b", ThingTypeName: "none"}))
	c.add(fake.CreateThing(ctx, &fakebackend.CreateThingInput{ThingName: "b", AttributePayload: attributes("1", "", "2", "", "3", "", "4", "")}))
	c.add(fake.CreateThing(ctx, &fakebackend.CreateThingInput{}))
	c.add(fake.UpdateThing(ctx, &fakebackend.UpdateThingInput{ThingName: "a", ExpectedVersion: new(int64(7))}))
	c.add(fake.UpdateThing(ctx, &fakebackend.UpdateThingInput{ThingName: "a", AttributePayload: &fakebackend.AttributePayload{
		Merge: true, Attributes: map[string]string{"y": "2", "x": ""}}}))
	assert.Equal(t, []string{"", "", "ResourceAlreadyExistsException", "ResourceNotFoundException", "InvalidRequestException",
		"InvalidRequestException", "VersionConflictException", ""}, c.got)

	thing, err := fake.DescribeThing(ctx, &fakebackend.DescribeThingInput{ThingName: "a"})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"y": "2"}, thing.Attributes, "an empty value removes an attribute")
	assert.EqualValues(t, 2, thing.Version)
	assert.Equal(t, "a", thing.DefaultClientID)
	assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, thing.ThingID)

	c = codes{}
	c.add(fake.DeleteThing(ctx, &fakebackend.DeleteThingInput{ThingName: "a"}))
	c.add(fake.DeleteThing(ctx, &fakebackend.DeleteThingInput{ThingName: "a"}))
	c.add(fake.DescribeThing(ctx, &fakebackend.DescribeThingInput{ThingName: "a"}))
	assert.Equal(t, []string{"", "", "ResourceNotFoundException"}, c.got)
}

func TestListsComeInPagesThatStayStableWhileThingsComeAndGo(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	for i := range 100 {
		_, err := fake.CreateThing(t.Context(), &fakebackend.CreateThingInput{ThingName: fmt.Sprintf("t%03d", i)})
		require.NoError(t, err)
	}
	var names []string
	for token := ""; ; {
		page, err := fake.ListThings(t.Context(), &fakebackend.ListThingsInput{MaxResults: new(int32(10)), NextToken: token})
		require.NoError(t, err)
		for _, thing := range page.Things {
			names = append(names, thing.ThingName)
		}
		if token = page.NextToken; token == "" {
			break
		}
		// Everything seen so far goes away.
		for _, thing := range page.Things {
			_, err := fake.DeleteThing(t.Context(), &fakebackend.DeleteThingInput{ThingName: thing.ThingName})
			require.NoError(t, err)
		}
	}
	require.Len(t, names, 100, "a full last page has no token")
	assert.Equal(t, "t000", names[0])
	assert.Equal(t, "t099", names[99])

	_, err := fake.ListThings(t.Context(), &fakebackend.ListThingsInput{MaxResults: new(int32(251))})
	require.ErrorContains(t, err, "1 validation error detected: Value '251' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 250")
	_, err = fake.ListThings(t.Context(), &fakebackend.ListThingsInput{NextToken: "nonsense"})
	assert.Equal(t, "InvalidRequestException", codeOf(err))
}

func TestTypesGroupsAndBillingGroupsKeepTheirRules(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	var c codes
	c.add(fake.CreateThingType(ctx, &fakebackend.CreateThingTypeInput{ThingTypeName: "kind"}))
	c.add(fake.CreateThingType(ctx, &fakebackend.CreateThingTypeInput{ThingTypeName: "kind"}))
	c.add(fake.DeprecateThingType(ctx, &fakebackend.DeprecateThingTypeInput{ThingTypeName: "kind"}))
	c.add(fake.CreateThing(ctx, &fakebackend.CreateThingInput{ThingName: "a", ThingTypeName: "kind"}))
	c.add(fake.DeleteThingType(ctx, &fakebackend.DeleteThingTypeInput{ThingTypeName: "kind"}))
	fake.Advance(5 * time.Minute)
	c.add(fake.DeleteThingType(ctx, &fakebackend.DeleteThingTypeInput{ThingTypeName: "kind"}))
	assert.Equal(t, []string{"", "ResourceAlreadyExistsException", "", "InvalidRequestException", "InvalidRequestException", ""}, c.got)

	c = codes{}
	c.add(fake.CreateThing(ctx, &fakebackend.CreateThingInput{ThingName: "a"}))
	parent := ""
	for i := range 8 {
		name := fmt.Sprint("level", i)
		_, err := fake.CreateThingGroup(ctx, &fakebackend.CreateThingGroupInput{ThingGroupName: name, ParentGroupName: parent})
		assert.Equal(t, i == 7, err != nil, "a hierarchy is seven groups deep: %v", err)
		parent = name
	}
	add := func(group string) {
		c.add(fake.AddThingToThingGroup(ctx, &fakebackend.ThingGroupMemberInput{ThingName: "a", ThingGroupName: group}))
	}
	add("level6")
	add("level6")
	add("level0")
	add("nowhere")
	for i := range 10 {
		_, err := fake.CreateThingGroup(ctx, &fakebackend.CreateThingGroupInput{ThingGroupName: fmt.Sprint("g", i)})
		require.NoError(t, err)
		add(fmt.Sprint("g", i))
	}
	assert.Equal(t, []string{"", "", "", "InvalidRequestException", "ResourceNotFoundException", "", "", "", "", "", "", "", "", "", "LimitExceededException"}, c.got)
	_, err := fake.UpdateThingGroupsForThing(ctx, &fakebackend.UpdateThingGroupsForThingInput{ThingGroupsToAdd: []string{"level6"}})
	assert.ErrorContains(t, err, "InvalidRequestException: The name of the thing must be given", "the model does not require it, so this is no violation of it")
	deep, err := fake.ListThingsInThingGroup(ctx, &fakebackend.ListThingsInThingGroupInput{ThingGroupName: "level0", Recursive: true})
	require.NoError(t, err)
	assert.Equal(t, []string{"a"}, deep.Things)
	group, err := fake.DescribeThingGroup(ctx, &fakebackend.DescribeThingGroupInput{ThingGroupName: "level2"})
	require.NoError(t, err)
	assert.Equal(t, "level1", group.ThingGroupMetadata.ParentGroupName)
	assert.Len(t, group.ThingGroupMetadata.RootToParentThingGroups, 2)

	c = codes{}
	c.add(fake.CreateBillingGroup(ctx, &fakebackend.CreateBillingGroupInput{BillingGroupName: "one"}))
	c.add(fake.CreateBillingGroup(ctx, &fakebackend.CreateBillingGroupInput{BillingGroupName: "two"}))
	for _, name := range []string{"one", "one", "two"} {
		c.add(fake.AddThingToBillingGroup(ctx, &fakebackend.BillingGroupMemberInput{ThingName: "a", BillingGroupName: name}))
	}
	assert.Equal(t, []string{"", "", "", "", "InvalidRequestException"}, c.got)
	c = codes{}
	c.add(fake.DeleteThingGroup(ctx, &fakebackend.DeleteThingGroupInput{ThingGroupName: "level0"}))
	c.add(fake.DeleteThingGroup(ctx, &fakebackend.DeleteThingGroupInput{ThingGroupName: "level6"}))
	c.add(fake.DeleteBillingGroup(ctx, &fakebackend.DeleteBillingGroupInput{BillingGroupName: "one"}))
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
	c.add(fake.CreatePolicy(ctx, &fakebackend.CreatePolicyInput{PolicyName: "p", PolicyDocument: allowConnect}))
	c.add(fake.CreatePolicy(ctx, &fakebackend.CreatePolicyInput{PolicyName: "p", PolicyDocument: allowConnect}))
	c.add(fake.CreatePolicy(ctx, &fakebackend.CreatePolicyInput{PolicyName: "q", PolicyDocument: "{"}))
	c.add(fake.CreatePolicy(ctx, &fakebackend.CreatePolicyInput{PolicyName: "q", PolicyDocument: `{"Version":"2012-10-17"}`}))
	c.add(fake.CreatePolicy(ctx, &fakebackend.CreatePolicyInput{PolicyName: "q", PolicyDocument: strings.Replace(allowConnect, "*", strings.Repeat("x", 2048), 1)}))
	for range 5 {
		c.add(fake.CreatePolicyVersion(ctx, &fakebackend.CreatePolicyVersionInput{PolicyName: "p", PolicyDocument: allowConnect, SetAsDefault: true}))
	}
	c.add(fake.DeletePolicyVersion(ctx, &fakebackend.PolicyVersionInput{PolicyName: "p", PolicyVersionID: "5"}))
	c.add(fake.DeletePolicyVersion(ctx, &fakebackend.PolicyVersionInput{PolicyName: "p", PolicyVersionID: "1"}))
	c.add(fake.GetPolicyVersion(ctx, &fakebackend.PolicyVersionInput{PolicyName: "p", PolicyVersionID: "1"}))
	assert.Equal(t, []string{"", "ResourceAlreadyExistsException", "MalformedPolicyException", "MalformedPolicyException", "MalformedPolicyException",
		"", "", "", "", "VersionsLimitExceededException", "InvalidRequestException", "", "ResourceNotFoundException"}, c.got)
	_, err := fake.CreatePolicy(ctx, &fakebackend.CreatePolicyInput{PolicyName: "p", PolicyDocument: allowConnect})
	existing, ok := errors.AsType[*fakebackend.ExistingResource](err)
	require.True(t, ok)
	assert.Equal(t, "arn:aws:iot:us-east-1:123456789012:policy/p", existing.ARN)

	var targets []string
	for i := range 5 {
		made, err := fake.CreateCertificateFromCsr(ctx, &fakebackend.CreateCertificateFromCsrInput{CertificateSigningRequest: csrOf(t, key, fmt.Sprint(i))})
		require.NoError(t, err)
		targets = append(targets, made.CertificateARN)
	}
	_, err = fake.CreateThingGroup(ctx, &fakebackend.CreateThingGroupInput{ThingGroupName: "g"})
	require.NoError(t, err)
	targets = append(targets, "arn:aws:iot:us-east-1:123456789012:thinggroup/g")
	for _, arn := range targets {
		_, err := fake.AttachPolicy(ctx, &fakebackend.AttachPolicyInput{PolicyName: "p", Target: arn})
		require.NoError(t, err)
	}
	var listed []string
	for marker := ""; ; {
		page, err := fake.ListTargetsForPolicy(ctx, &fakebackend.ListTargetsForPolicyInput{PolicyName: "p", Marker: marker, PageSize: new(int32(2))})
		require.NoError(t, err)
		listed = append(listed, page.Targets...)
		if marker = page.NextMarker; marker == "" {
			break
		}
	}
	assert.Equal(t, targets, listed)
	_, err = fake.DeletePolicy(ctx, &fakebackend.PolicyInput{PolicyName: "p"})
	assert.Equal(t, "DeleteConflictException", codeOf(err))
}

func TestACertificateIsTakenOutOfUseInTheRightOrder(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	id := start(t, fake, role, walkthrough(t), row(t, "device", "1"))
	arn := results(t, fake, id)[0].Response.ResourceARNs.Certificate()
	certificate := task.ResourceName(arn)
	var c codes
	c.add(fake.DeleteThing(ctx, &fakebackend.DeleteThingInput{ThingName: "device"}))
	c.add(fake.DeleteCertificate(ctx, &fakebackend.DeleteCertificateInput{CertificateID: certificate}))
	c.add(fake.UpdateCertificate(ctx, &fakebackend.UpdateCertificateInput{CertificateID: certificate, NewStatus: "INACTIVE"}))
	c.add(fake.DeleteCertificate(ctx, &fakebackend.DeleteCertificateInput{CertificateID: certificate}))
	c.add(fake.DetachThingPrincipal(ctx, &fakebackend.DetachThingPrincipalInput{ThingName: "device", Principal: arn}))
	c.add(fake.DeleteCertificate(ctx, &fakebackend.DeleteCertificateInput{CertificateID: certificate}))
	c.add(fake.DeleteCertificate(ctx, &fakebackend.DeleteCertificateInput{CertificateID: certificate, ForceDelete: true}))
	c.add(fake.DescribeCertificate(ctx, &fakebackend.DescribeCertificateInput{CertificateID: certificate}))
	c.add(fake.DeleteThing(ctx, &fakebackend.DeleteThingInput{ThingName: "device"}))
	assert.Equal(t, []string{"InvalidRequestException", "CertificateStateException", "", "DeleteConflictException", "", "DeleteConflictException", "",
		"ResourceNotFoundException", ""}, c.got)
	assert.Len(t, results(t, fake, id), 1, "a report does not change")
}

func TestDescribeCertificateShowsWhatAWSShows(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	fake.SetTime(monday.Add(1234567 * time.Microsecond))
	made, err := fake.CreateCertificateFromCsr(t.Context(), &fakebackend.CreateCertificateFromCsrInput{CertificateSigningRequest: csrOf(t, key, "x"), SetAsActive: true})
	require.NoError(t, err)
	out, err := fake.DescribeCertificate(t.Context(), &fakebackend.DescribeCertificateInput{CertificateID: strings.ToUpper(made.CertificateID)})
	require.NoError(t, err)
	d := out.CertificateDescription
	assert.Equal(t, made.CertificatePem, d.CertificatePem)
	assert.Equal(t, "ACTIVE", d.Status)
	assert.Equal(t, "123456789012", d.OwnedBy)
	assert.EqualValues(t, 1, d.CustomerVersion)
	assert.Equal(t, monday.Add(1234*time.Millisecond), d.CreationDate)
	assert.Equal(t, monday.Add(-119*time.Second), d.Validity.NotBefore)
	assert.Equal(t, time.Unix(2524607999, 0).UTC(), d.Validity.NotAfter)
	assert.NotNil(t, d.TransferData)
}

func TestAnExclusiveAttachmentAllowsNoOther(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	made, err := fake.CreateCertificateFromCsr(ctx, &fakebackend.CreateCertificateFromCsrInput{CertificateSigningRequest: csrOf(t, key, "x")})
	require.NoError(t, err)
	for _, name := range []string{"a", "b"} {
		_, err := fake.CreateThing(ctx, &fakebackend.CreateThingInput{ThingName: name})
		require.NoError(t, err)
	}
	var c codes
	c.add(fake.AttachThingPrincipal(ctx, &fakebackend.AttachThingPrincipalInput{ThingName: "a", Principal: made.CertificateARN, ThingPrincipalType: "EXCLUSIVE_THING"}))
	c.add(fake.AttachThingPrincipal(ctx, &fakebackend.AttachThingPrincipalInput{ThingName: "b", Principal: made.CertificateARN}))
	c.add(fake.AttachThingPrincipal(ctx, &fakebackend.AttachThingPrincipalInput{ThingName: "b", Principal: "arn:aws:iot:us-east-1:123456789012:cert/" + strings.Repeat("0", 64)}))
	c.add(fake.AttachThingPrincipal(ctx, &fakebackend.AttachThingPrincipalInput{ThingName: "b", Principal: "me"}))
	assert.Equal(t, []string{"", "InvalidRequestException", "ResourceNotFoundException", "InvalidRequestException"}, c.got)
	v2, err := fake.ListThingPrincipalsV2(ctx, &fakebackend.ListThingPrincipalsV2Input{ThingName: "a"})
	require.NoError(t, err)
	assert.Equal(t, []fakebackend.ThingPrincipalObject{{Principal: made.CertificateARN, ThingPrincipalType: "EXCLUSIVE_THING"}}, v2.ThingPrincipalObjects)
	things, err := fake.ListPrincipalThingsV2(ctx, &fakebackend.ListPrincipalThingsV2Input{Principal: made.CertificateARN, ThingPrincipalType: "NON_EXCLUSIVE_THING"})
	require.NoError(t, err)
	assert.Empty(t, things.PrincipalThingObjects)
}

// ownCA makes a CA of the customer's own, and a function that signs with it.
func ownCA(t *testing.T) (caPEM string, sign func(cn string) string) {
	t.Helper()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Own CA"}, NotBefore: monday.Add(-time.Hour), NotAfter: monday.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	issue := func(template *x509.Certificate) string {
		der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), key)
		require.NoError(t, err)
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	serial := int64(1)
	return issue(ca), func(cn string) string {
		serial++
		return issue(&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, NotBefore: monday, NotAfter: monday.Add(time.Hour)})
	}
}

func TestCertificatesOfTheCustomersOwnCAAreRegistered(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	caPEM, sign := ownCA(t)
	var c codes
	c.add(fake.RegisterCertificate(ctx, &fakebackend.RegisterCertificateInput{CertificatePem: sign("early")}))
	c.add(fake.RegisterCACertificate(ctx, &fakebackend.RegisterCACertificateInput{CACertificate: caPEM, VerificationCertificate: sign("wrong")}))
	code, err := fake.GetRegistrationCode(ctx, nil)
	require.NoError(t, err)
	ca, err := fake.RegisterCACertificate(ctx, &fakebackend.RegisterCACertificateInput{CACertificate: caPEM, VerificationCertificate: sign(code.RegistrationCode)})
	require.NoError(t, err)
	one := sign("one")
	c.add(fake.RegisterCertificate(ctx, &fakebackend.RegisterCertificateInput{CertificatePem: one}))
	c.add(fake.UpdateCACertificate(ctx, &fakebackend.UpdateCACertificateInput{CertificateID: ca.CertificateID, NewStatus: "ACTIVE"}))
	c.add(fake.RegisterCertificate(ctx, &fakebackend.RegisterCertificateInput{CertificatePem: one, SetAsActive: true}))
	c.add(fake.RegisterCertificate(ctx, &fakebackend.RegisterCertificateInput{CertificatePem: one}))
	c.add(fake.DeleteCACertificate(ctx, &fakebackend.CACertificateInput{CertificateID: ca.CertificateID}))
	assert.Equal(t, []string{"CertificateValidationException", "RegistrationCodeValidationException", "CertificateValidationException", "", "",
		"ResourceAlreadyExistsException", "CertificateStateException"}, c.got)
	byCA, err := fake.ListCertificatesByCA(ctx, &fakebackend.ListCertificatesByCAInput{CaCertificateID: ca.CertificateID})
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
	old, sign := ownCA(t)
	renewed, _ := ownCA(t) // the same key and subject
	var ids []string
	for _, ca := range []string{old, renewed} {
		out, err := fake.RegisterCACertificate(ctx, &fakebackend.RegisterCACertificateInput{CACertificate: ca, CertificateMode: "SNI_ONLY"})
		require.NoError(t, err)
		ids = append(ids, out.CertificateID)
	}
	_, err := fake.RegisterCertificate(ctx, &fakebackend.RegisterCertificateInput{CertificatePem: sign("one")})
	require.ErrorContains(t, err, "is not active")
	_, err = fake.RegisterCertificateWithoutCA(ctx, &fakebackend.RegisterCertificateWithoutCAInput{CertificatePem: sign("two")})
	require.NoError(t, err, "no CA is asked for")
	_, err = fake.UpdateCACertificate(ctx, &fakebackend.UpdateCACertificateInput{CertificateID: ids[1], NewStatus: "ACTIVE"})
	require.NoError(t, err)
	three, err := fake.RegisterCertificate(ctx, &fakebackend.RegisterCertificateInput{CertificatePem: sign("three")})
	require.NoError(t, err, "the renewed CA is active")
	got, err := fake.DescribeCertificate(ctx, &fakebackend.DescribeCertificateInput{CertificateID: three.CertificateID})
	require.NoError(t, err)
	assert.Equal(t, ids[1], got.CertificateDescription.CaCertificateID)
}

func TestTheFakeSharesNoMemoryWithItsCallers(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	properties := &fakebackend.ThingTypeProperties{
		SearchableAttributes: []string{"model"},
		Mqtt5Configuration:   &fakebackend.Mqtt5Configuration{PropagatingAttributes: []fakebackend.PropagatingAttribute{{UserPropertyKey: "model"}}},
	}
	spoil := func(p *fakebackend.ThingTypeProperties) {
		p.SearchableAttributes[0], p.Mqtt5Configuration.PropagatingAttributes[0].UserPropertyKey = "spoiled", "spoiled"
	}
	kind := func() *fakebackend.ThingTypeProperties {
		out, err := fake.DescribeThingType(ctx, &fakebackend.DescribeThingTypeInput{ThingTypeName: "kind"})
		require.NoError(t, err)
		return out.ThingTypeProperties
	}
	_, err := fake.CreateThingType(ctx, &fakebackend.CreateThingTypeInput{ThingTypeName: "kind", ThingTypeProperties: properties})
	require.NoError(t, err)
	spoil(properties)
	spoil(kind())
	listed, err := fake.ListThingTypes(ctx, nil)
	require.NoError(t, err)
	spoil(listed.ThingTypes[0].ThingTypeProperties)
	assert.Equal(t, "model", kind().SearchableAttributes[0])
	assert.Equal(t, "model", kind().Mqtt5Configuration.PropagatingAttributes[0].UserPropertyKey)

	caPEM, _ := ownCA(t)
	config := &fakebackend.RegistrationConfig{RoleARN: "arn:aws:iam::123456789012:role/jitp"}
	ca, err := fake.RegisterCACertificate(ctx, &fakebackend.RegisterCACertificateInput{CACertificate: caPEM, CertificateMode: "SNI_ONLY", RegistrationConfig: config})
	require.NoError(t, err)
	config.RoleARN = "spoiled"
	for range 2 {
		out, err := fake.DescribeCACertificate(ctx, &fakebackend.CACertificateInput{CertificateID: ca.CertificateID})
		require.NoError(t, err)
		assert.Equal(t, "arn:aws:iam::123456789012:role/jitp", out.RegistrationConfig.RoleARN)
		out.RegistrationConfig.RoleARN = "spoiled"
	}

	managed := "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
	role := fakebackend.Role{Name: "reader", ManagedPolicies: []string{managed, managed, "arn:aws:iam::aws:policy/AWSIoTFullAccess"}}
	_, err = fake.PutRole(role)
	require.NoError(t, err)
	assert.Equal(t, []string{managed, managed, "arn:aws:iam::aws:policy/AWSIoTFullAccess"}, role.ManagedPolicies)
}

func TestTagsBelongToResourcesThatExist(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	_, err := fake.CreateThingType(ctx, &fakebackend.CreateThingTypeInput{ThingTypeName: "kind", Tags: []fakebackend.Tag{{Key: "a", Value: "1"}}})
	require.NoError(t, err)
	arn := "arn:aws:iot:us-east-1:123456789012:thingtype/kind"
	var c codes
	c.add(fake.TagResource(ctx, &fakebackend.TagResourceInput{ResourceARN: arn, Tags: []fakebackend.Tag{{Key: "b", Value: "2"}, {Key: "a", Value: "3"}}}))
	c.add(fake.TagResource(ctx, &fakebackend.TagResourceInput{ResourceARN: arn + "x", Tags: []fakebackend.Tag{}}))
	c.add(fake.TagResource(ctx, &fakebackend.TagResourceInput{ResourceARN: arn}))
	tags, err := fake.ListTagsForResource(ctx, &fakebackend.ListTagsForResourceInput{ResourceARN: arn})
	require.NoError(t, err)
	assert.Equal(t, []fakebackend.Tag{{Key: "a", Value: "3"}, {Key: "b", Value: "2"}}, tags.Tags)
	c.add(fake.UntagResource(ctx, &fakebackend.UntagResourceInput{ResourceARN: arn, TagKeys: []string{"a", "b"}}))
	assert.Equal(t, []string{"", "ResourceNotFoundException", "InvalidRequestException", ""}, c.got)
}

func TestTheKeyOfCreateKeysAndCertificateFitsAndHidesItself(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	out, err := fake.CreateKeysAndCertificate(t.Context(), nil)
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(out.KeyPair.PrivateKey()))
	private, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	require.NoError(t, err)
	block, _ = pem.Decode([]byte(out.CertificatePem))
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	assert.True(t, private.PublicKey.Equal(cert.PublicKey))
	for _, format := range []string{"%v", "%+v", "%#v"} {
		assert.NotContains(t, fmt.Sprintf(format, *out), "PRIVATE KEY")
		assert.NotContains(t, fmt.Sprintf(format, *out.KeyPair), "PRIVATE KEY")
	}
}
