package fakebackend_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/task"
)

// claimPolicy is the policy that AWS's developer guide gives a claim certificate, for the template "fleet".
const claimPolicy = `{"Version":"2012-10-17","Statement":[
  {"Effect":"Allow","Action":["iot:Connect"],"Resource":"*"},
  {"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":[
    "arn:aws:iot:us-east-1:123456789012:topic/$aws/certificates/create/*",
    "arn:aws:iot:us-east-1:123456789012:topic/$aws/provisioning-templates/fleet/provision/*"]},
  {"Effect":"Allow","Action":"iot:Subscribe","Resource":[
    "arn:aws:iot:us-east-1:123456789012:topicfilter/$aws/certificates/create/*",
    "arn:aws:iot:us-east-1:123456789012:topicfilter/$aws/provisioning-templates/fleet/provision/*"]}]}`

// claims is a fake with a fleet template and a claim certificate.
type claims struct {
	fake    *fakebackend.Backend
	account wire.Account
	role    string
	claim   []byte // the claim certificate, in DER
}

func newClaims(t testing.TB, opts fakebackend.Options) *claims {
	t.Helper()
	fake, role := newFake(t, opts)
	c := &claims{fake: fake, account: wire.Of(fake), role: role}
	in := iot.CreateProvisioningTemplateInput{TemplateName: new("fleet"), TemplateBody: new(fleetTemplate), ProvisioningRoleArn: &role, Enabled: new(true)}
	if opts.Hooks != nil {
		in.PreProvisioningHook = &types.ProvisioningHook{TargetArn: new(hookARN)}
	}
	createTemplate(t, fake, in)
	c.claim = c.newClaim(t)
	return c
}

// newClaim makes another claim certificate.
func (c *claims) newClaim(t testing.TB) []byte {
	t.Helper()
	ctx, client := t.Context(), api(c.fake)
	made, err := client.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: new(csrOf(key, "claim")), SetAsActive: true})
	require.NoError(t, err)
	_, _ = client.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new("claim"), PolicyDocument: new(claimPolicy)}) // it may exist
	_, err = client.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: new("claim"), Target: made.CertificateArn})
	require.NoError(t, err)
	return derOf(t, *made.CertificatePem)
}

// admit connects a device.
func admit(t testing.TB, account wire.Account, der []byte, clientID string) wire.Device {
	t.Helper()
	d, err := account.Admit(t.Context(), wire.Hello{Chain: [][]byte{der}, ClientID: clientID, Protocol: wire.ProtocolMQTT, ServerName: account.Endpoint()})
	require.NoError(t, err)
	return d
}

func (c *claims) connect(t testing.TB, clientID string) wire.Device {
	return admit(t, c.account, c.claim, clientID)
}

// own gets a certificate for the shared key.
func (c *claims) own(t testing.TB, d wire.Device) *wire.Issued {
	t.Helper()
	issued, err := c.account.CreateCertificateFromCSR(t.Context(), d, csrOf(key, "device"))
	require.NoError(t, err)
	return issued
}

func (c *claims) provision(ctx context.Context, d wire.Device, token, serial string) (*wire.Provisioned, error) {
	return c.account.ProvisionThing(ctx, d, "fleet", token, map[string]string{"SerialNumber": serial, "DeviceLocation": "Seattle"})
}

// active are the ids of the ACTIVE certificates of a thing.
func (c *claims) active(t testing.TB, thing string) (ids []string) {
	t.Helper()
	principals, err := api(c.fake).ListThingPrincipals(t.Context(), &iot.ListThingPrincipalsInput{ThingName: &thing})
	if codeOf(err) == "ResourceNotFoundException" {
		return nil
	}
	require.NoError(t, err)
	for _, arn := range principals.Principals {
		id := task.ResourceName(arn)
		if c.status(t, id) == "ACTIVE" {
			ids = append(ids, id)
		}
	}
	return ids
}

// status is a certificate's status; "" if there is none.
func (c *claims) status(t testing.TB, id string) string {
	t.Helper()
	got, err := api(c.fake).DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &id})
	if err != nil {
		require.Equal(t, "ResourceNotFoundException", codeOf(err))
		return ""
	}
	return string(got.CertificateDescription.Status)
}

// requireClaimError checks the answer to a device.
func requireClaimError(t testing.TB, err error, status int, code, text string) {
	t.Helper()
	refusal, ok := errors.AsType[*wire.ClaimError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, []any{status, code}, []any{refusal.Status, refusal.Code}, "%v", err)
	require.Contains(t, refusal.Error(), text)
}

func TestADeviceGetsItsOwnCertificateByAClaim(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	d := c.connect(t, "device-1")
	issued, err := c.account.CreateKeysAndCertificate(t.Context(), d)
	require.NoError(t, err)
	require.Equal(t, "PENDING_ACTIVATION", c.status(t, issued.CertificateID))
	pair, err := tls.X509KeyPair([]byte(issued.CertificatePEM), []byte(issued.PrivateKey.Reveal()))
	require.NoError(t, err, "the key belongs to the certificate")
	assert.IsType(t, (*rsa.PrivateKey)(nil), pair.PrivateKey)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v", issued, issued, *issued), string(must(json.Marshal(issued)))} {
		assert.NotContains(t, text, "RSA PRIVATE KEY")
		assert.NotContains(t, text, issued.Token.Reveal())
	}
	_, err = c.account.Admit(t.Context(), wire.Hello{Chain: pair.Certificate, ClientID: "claimed-1", Protocol: wire.ProtocolMQTT})
	require.ErrorContains(t, err, "PENDING_ACTIVATION")

	made, err := c.provision(t.Context(), d, issued.Token.Reveal(), "1")
	require.NoError(t, err)
	assert.Equal(t, &wire.Provisioned{ThingName: "claimed-1", DeviceConfiguration: map[string]string{
		"FallbackUrl": "https://www.example.com/test-site", "LocationUrl": "https://example.aws"}}, made)
	assert.Equal(t, []string{issued.CertificateID}, c.active(t, "claimed-1"))
	own := admit(t, c.account, pair.Certificate[0], "claimed-1")
	assert.Equal(t, "claimed-1", own.ThingName())
	assert.True(t, own.Allows("iot:Publish", "dt/claimed-1"))
	thing, err := api(c.fake).DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: new("claimed-1")})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"location": "Seattle"}, thing.Attributes)

	c.fake.Advance(2 * time.Hour)
	assert.Equal(t, "ACTIVE", c.status(t, issued.CertificateID), "a certificate that was provisioned outlives its token")
	var kinds []string
	for _, e := range eventsSoFar(t, c.fake) {
		kinds = append(kinds, e.Kind)
		assert.Equal(t, issued.CertificateID, e.CertificateID, e.Kind)
		assert.NotContains(t, e.Text, issued.Token.Reveal())
	}
	assert.Equal(t, []string{"issued", "refused", "provisioned"}, kinds)
}

// A template that fails at its last step has activated the certificate, which an operator may deactivate before the
// device asks once more.
func TestAClaimDoesNotActivateWhatAnOperatorHasDeactivated(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	d := c.connect(t, "device-1")
	issued := c.own(t, d)
	addFault(t, c.fake, fakebackend.Fault{Step: fakebackend.StepReport, Do: fakebackend.Fail})
	_, err := c.provision(t.Context(), d, issued.Token.Reveal(), "1")
	require.Error(t, err)
	require.Equal(t, "ACTIVE", c.status(t, issued.CertificateID))
	_, err = api(c.fake).UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: &issued.CertificateID, NewStatus: "INACTIVE"})
	require.NoError(t, err)
	_, err = c.provision(t.Context(), d, issued.Token.Reveal(), "1")
	require.NoError(t, err)
	require.Equal(t, "INACTIVE", c.status(t, issued.CertificateID))
}

// A device whose answer is lost does not know what was done, and the events do.
func TestEventsTellWhatAClaimHasDoneThoughItsAnswerWasLost(t *testing.T) {
	for effect, done := range map[fakebackend.Effect][]string{
		fakebackend.DropBefore: {"refused", "issued", "refused"},
		fakebackend.DropAfter:  {"issued", "refused", "issued", "provisioned", "refused"},
	} {
		c := newClaims(t, fakebackend.Options{})
		d := c.connect(t, "device-1")
		for _, operation := range []string{"ClaimCreateCertificateFromCsr", "ClaimRegisterThing"} {
			_, err := c.fake.AddFault(fakebackend.Fault{Operation: operation, Do: effect})
			require.NoError(t, err)
		}
		_, err := c.account.CreateCertificateFromCSR(t.Context(), d, csrOf(key, "device"))
		require.ErrorIs(t, err, task.ErrOutcomeUnknown)
		_, err = c.provision(t.Context(), d, c.own(t, d).Token.Reveal(), "1")
		require.ErrorIs(t, err, task.ErrOutcomeUnknown)
		var kinds []string
		for _, e := range eventsSoFar(t, c.fake) {
			kinds = append(kinds, e.Kind)
			if e.Kind == fakebackend.EventRefused {
				assert.Equal(t, wire.Faulty, e.Reason)
			}
		}
		assert.Equal(t, done, kinds, "%s", effect)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestADeviceKeepsItsKeyToItselfWithASigningRequest(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	d := c.connect(t, "device-1")
	issued := c.own(t, d)
	assert.Empty(t, issued.PrivateKey.Reveal())
	cert, err := x509.ParseCertificate(derOf(t, issued.CertificatePEM))
	require.NoError(t, err)
	assert.True(t, key.PublicKey.Equal(cert.PublicKey.(*ecdsa.PublicKey)))
	assert.NotEqual(t, issued.CertificateID, c.own(t, d).CertificateID, "another one each time")
	_, err = c.account.CreateCertificateFromCSR(t.Context(), d, "nonsense")
	requireClaimError(t, err, 400, "InvalidParameters", "")
	_, err = c.account.CreateCertificateFromCSR(t.Context(), d, "")
	requireClaimError(t, err, 400, "InvalidParameters", "certificateSigningRequest")
}

func TestAnOwnershipTokenIsGoodForItsClaimAndAnHour(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	ctx := t.Context()
	d := c.connect(t, "device-1")
	issued := c.own(t, d)
	token := issued.Token.Reveal()
	const invalid = "InvalidCertificateOwnershipToken"
	_, err := c.provision(ctx, d, "", "1")
	requireClaimError(t, err, 400, invalid, "Certificate ownership token cannot be empty.")
	first := "A"
	if token[0] == 'A' {
		first = "B"
	}
	for _, bad := range []string{"x", token[:len(token)-4], token + "AAAA", first + token[1:], strings.Repeat("A", len(token))} {
		_, err = c.provision(ctx, d, bad, "1")
		requireClaimError(t, err, 400, invalid, "invalid")
	}
	_, err = c.provision(ctx, admit(t, c.account, c.newClaim(t), "device-1"), token, "1")
	requireClaimError(t, err, 400, invalid, "invalid")
	assert.Nil(t, c.active(t, "claimed-1"), "none of these has made anything")

	again := c.connect(t, "device-1") // the device has lost its connection
	_, err = c.provision(ctx, again, token, "1")
	require.NoError(t, err)
	_, err = c.provision(ctx, again, token, "1")
	require.NoError(t, err, "and the answer; it asks once more")
	assert.Equal(t, []string{issued.CertificateID}, c.active(t, "claimed-1"))

	for _, status := range []types.CertificateStatus{types.CertificateStatusInactive, types.CertificateStatusRevoked} {
		_, err = api(c.fake).UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &issued.CertificateID, NewStatus: status})
		require.NoError(t, err)
		_, err = c.provision(ctx, again, token, "1")
		assert.Equal(t, status == types.CertificateStatusRevoked, err != nil, "%v", err)
		assert.Equal(t, string(status), c.status(t, issued.CertificateID), "a token brings no certificate back")
	}

	late := c.own(t, d)
	c.fake.Advance(59 * time.Minute)
	assert.Equal(t, "PENDING_ACTIVATION", c.status(t, late.CertificateID))
	require.NoError(t, c.fake.Restore(c.fake.Snapshot()))
	d = c.connect(t, "device-1")
	c.fake.Advance(time.Minute)
	_, err = c.provision(ctx, d, late.Token.Reveal(), "2")
	requireClaimError(t, err, 400, invalid, "expired")
	assert.Empty(t, c.status(t, late.CertificateID), "a certificate that nobody has provisioned is deleted")
	_, err = c.provision(ctx, d, token, "1")
	requireClaimError(t, err, 400, invalid, "expired")

	other := newClaims(t, fakebackend.Options{Seed: []byte("of another account")})
	d = other.connect(t, "device-1")
	_, err = other.provision(ctx, d, c.own(t, c.connect(t, "device-1")).Token.Reveal(), "1")
	requireClaimError(t, err, 400, invalid, "invalid")
	token = other.own(t, d).Token.Reveal()
	other.fake.Reset()
	_, err = other.provision(ctx, d, token, "1")
	requireClaimError(t, err, 403, "AccessDenied", "is not active")
}

func TestAClaimedCertificateIsKeptOnceItIsActiveAndAttachedToSomething(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	ctx, client := t.Context(), api(c.fake)
	d := c.connect(t, "device-1")
	kept, bare, deleted := c.own(t, d), c.own(t, d), c.own(t, d)
	for _, id := range []string{kept.CertificateID, bare.CertificateID} {
		_, err := client.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: types.CertificateStatusActive})
		require.NoError(t, err)
	}
	_, err := client.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: new("claim"), Target: new("arn:aws:iot:us-east-1:123456789012:cert/" + kept.CertificateID)})
	require.NoError(t, err)
	_, err = client.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &deleted.CertificateID, NewStatus: types.CertificateStatusInactive})
	require.NoError(t, err)
	_, err = client.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: &deleted.CertificateID})
	require.NoError(t, err)
	_, err = c.provision(ctx, d, deleted.Token.Reveal(), "1")
	requireClaimError(t, err, 400, "InvalidCertificateOwnershipToken", "expired")
	c.fake.Advance(time.Hour)
	assert.Equal(t, "ACTIVE", c.status(t, kept.CertificateID))
	assert.Empty(t, c.status(t, bare.CertificateID))
}

func TestAnOwnershipTokenCanBeForOneUse(t *testing.T) {
	c := newClaims(t, fakebackend.Options{TokensOnce: true})
	d := c.connect(t, "device-1")
	token := c.own(t, d).Token.Reveal()
	_, err := c.account.ProvisionThing(t.Context(), d, "fleet", token, map[string]string{"SerialNumber": "1"})
	requireClaimError(t, err, 400, "InvalidParameters", "Cannot resolve reference value: DeviceLocation")
	_, err = c.provision(t.Context(), d, token, "1")
	require.NoError(t, err, "a failure does not use it up")
	_, err = c.provision(t.Context(), d, token, "1")
	requireClaimError(t, err, 400, "InvalidCertificateOwnershipToken", "has been used")
	require.NoError(t, c.fake.Restore(c.fake.Snapshot()))
	_, err = c.provision(t.Context(), c.connect(t, "device-1"), token, "1")
	requireClaimError(t, err, 400, "InvalidCertificateOwnershipToken", "has been used")
}

func TestATemplateProvisionsOnlyWhatItMay(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	ctx, client := t.Context(), api(c.fake)
	d := c.connect(t, "device-1")
	issued := c.own(t, d)
	token := issued.Token.Reveal()
	other := c.own(t, d)
	provision := func(name string, parameters map[string]string) error {
		_, err := c.account.ProvisionThing(ctx, d, name, token, parameters)
		return err
	}
	requireClaimError(t, provision("nothing", nil), 404, "ResourceNotFound", "nothing does not exist")
	createTemplate(t, c.fake, iot.CreateProvisioningTemplateInput{TemplateName: new("jitp"), TemplateBody: new(jitpTemplate), ProvisioningRoleArn: &c.role,
		Type: types.TemplateTypeJitp, Enabled: new(true)})
	requireClaimError(t, provision("jitp", nil), 400, "InvalidParameters", "is of type JITP")
	createTemplate(t, c.fake, iot.CreateProvisioningTemplateInput{TemplateName: new("off"), TemplateBody: new(fleetTemplate), ProvisioningRoleArn: &c.role})
	requireClaimError(t, provision("off", nil), 400, "InvalidParameters", "not enabled")
	createTemplate(t, c.fake, iot.CreateProvisioningTemplateInput{TemplateName: new("role"), TemplateBody: new(fleetTemplate),
		ProvisioningRoleArn: new("arn:aws:iam::123456789012:role/nobody"), Enabled: new(true)})
	requireClaimError(t, provision("role", nil), 403, "AccessDenied", "nobody")
	requireClaimError(t, provision("fleet", map[string]string{"SerialNumber": "1", "DeviceLocation": strings.Repeat("x", 4097)}), 400, "InvalidParameters", "4096")
	requireClaimError(t, provision("fleet", map[string]string{"SerialNumber": "1", "DeviceLocation": "Mars"}), 400, "InvalidParameters", "Mars")
	require.NoError(t, wire.Of(c.fake).Services().IAM.DetachRolePolicy("registration", "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"))
	requireClaimError(t, provision("fleet", map[string]string{"SerialNumber": "1", "DeviceLocation": "Seattle"}), 403, "AccessDenied", "is not authorized to perform")
	require.Equal(t, "PENDING_ACTIVATION", c.status(t, issued.CertificateID), "what has failed can be tried again")
	require.NoError(t, wire.Of(c.fake).Services().IAM.AttachRolePolicy("registration", "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"))

	require.NoError(t, provision("fleet", map[string]string{"SerialNumber": "1", "DeviceLocation": "Seattle", "AWS::IoT::Certificate::Id": other.CertificateID}))
	assert.Equal(t, []string{issued.CertificateID}, c.active(t, "claimed-1"), "a device cannot name a certificate that is not its own")
	requireClaimError(t, provision("fleet", map[string]string{"SerialNumber": "a b", "DeviceLocation": "Seattle"}), 400, "InvalidParameters", "claimed-a b")

	_, err := client.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: new(d.CertificateID()), NewStatus: types.CertificateStatusInactive})
	require.NoError(t, err)
	_, err = c.account.CreateKeysAndCertificate(ctx, d)
	requireClaimError(t, err, 403, "AccessDenied", "not active")
}

func TestAThingThatExistsGetsASecondCertificate(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	d := c.connect(t, "device-1")
	for n := 1; n <= 2; n++ {
		_, err := c.provision(t.Context(), d, c.own(t, d).Token.Reveal(), "1")
		require.NoError(t, err)
		assert.Len(t, c.active(t, "claimed-1"), n, "a template detaches no certificate; a hook can refuse the device")
	}
}

func TestAFleetTemplateAttachesExclusively(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	ctx := t.Context()
	_, err := api(c.fake).CreateProvisioningTemplateVersion(ctx, &iot.CreateProvisioningTemplateVersionInput{TemplateName: new("fleet"), SetAsDefault: true,
		TemplateBody: new(strings.Replace(fleetTemplate, `"Status": "Active"`, `"Status": "INACTIVE", "ThingPrincipalType": "EXCLUSIVE_THING"`, 1))})
	require.NoError(t, err)
	d := c.connect(t, "device-1")
	issued := c.own(t, d)
	_, err = c.provision(ctx, d, issued.Token.Reveal(), "1")
	require.NoError(t, err)
	principals, err := api(c.fake).ListThingPrincipalsV2(ctx, &iot.ListThingPrincipalsV2Input{ThingName: new("claimed-1")})
	require.NoError(t, err)
	assert.Equal(t, types.ThingPrincipalTypeExclusiveThing, principals.ThingPrincipalObjects[0].ThingPrincipalType)
	c.fake.Advance(2 * time.Hour)
	assert.Equal(t, "INACTIVE", c.status(t, issued.CertificateID), "as the template has it")
}

func TestATemporaryClaimProvisionsForFiveMinutes(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	ctx := t.Context()
	made, err := api(c.fake).CreateProvisioningClaim(ctx, &iot.CreateProvisioningClaimInput{TemplateName: new("fleet")})
	require.NoError(t, err)
	assert.Equal(t, monday.Add(5*time.Minute), *made.Expiration)
	pair, err := tls.X509KeyPair([]byte(*made.CertificatePem), []byte(*made.KeyPair.PrivateKey))
	require.NoError(t, err)
	assert.Equal(t, *made.Expiration, pair.Leaf.NotAfter)
	list, err := api(c.fake).ListCertificates(ctx, nil)
	require.NoError(t, err)
	assert.Len(t, list.Certificates, 1, "it is in no list")
	require.NoError(t, c.fake.Restore(c.fake.Snapshot()))

	d := admit(t, c.account, pair.Certificate[0], "any")
	assert.True(t, d.Allows("iot:Publish", "$aws/certificates/create-from-csr/cbor"))
	assert.True(t, d.Allows("iot:Subscribe", "$aws/provisioning-templates/fleet/provision/json/accepted"))
	assert.False(t, d.Allows("iot:Publish", "$aws/provisioning-templates/other/provision/json"))
	assert.False(t, d.Allows("iot:Publish", "$aws/provisioning-templates/fleet/other"))
	assert.False(t, d.Allows("iot:Publish", "dt/x"))
	_, err = c.provision(ctx, d, c.own(t, d).Token.Reveal(), "1")
	require.NoError(t, err)
	c.fake.Advance(5 * time.Minute)
	_, err = c.account.CreateKeysAndCertificate(ctx, d)
	requireClaimError(t, err, 403, "AccessDenied", "not active")
	assert.False(t, d.Active())
	_, err = api(c.fake).CreateProvisioningClaim(ctx, &iot.CreateProvisioningClaimInput{TemplateName: new("nothing")})
	assert.Equal(t, "ResourceNotFoundException", codeOf(err))
}

func TestAHookDecidesAboutADevice(t *testing.T) {
	var asked *fakebackend.HookRequest
	answer := func() (*fakebackend.HookAnswer, error) { return &fakebackend.HookAnswer{AllowProvisioning: true}, nil }
	c := newClaims(t, fakebackend.Options{Hooks: map[string]fakebackend.ProvisioningHook{
		hookARN: func(_ context.Context, in *fakebackend.HookRequest) (*fakebackend.HookAnswer, error) {
			asked = in
			return answer()
		},
	}})
	ctx := t.Context()
	d := c.connect(t, "device-1")
	issued := c.own(t, d)
	_, err := c.provision(ctx, d, "bad", "1")
	requireClaimError(t, err, 400, "InvalidCertificateOwnershipToken", "")
	assert.Nil(t, asked, "it is asked about devices that could be provisioned")

	answer = func() (*fakebackend.HookAnswer, error) { return &fakebackend.HookAnswer{}, nil }
	_, err = c.provision(ctx, d, issued.Token.Reveal(), "1")
	requireClaimError(t, err, 403, "AccessDenied", "does not allow")
	assert.Equal(t, &fakebackend.HookRequest{
		ClaimCertificateID: d.CertificateID(), CertificateID: issued.CertificateID, CertificatePEM: issued.CertificatePEM,
		TemplateARN: "arn:aws:iot:us-east-1:123456789012:provisioningtemplate/fleet", ClientID: "device-1",
		Parameters: map[string]string{"SerialNumber": "1", "DeviceLocation": "Seattle"},
	}, asked)
	assert.Empty(t, c.active(t, "claimed-1"))
	answer = func() (*fakebackend.HookAnswer, error) { return nil, errors.New("database is gone") }
	_, err = c.provision(ctx, d, issued.Token.Reveal(), "1")
	requireClaimError(t, err, 403, "AccessDenied", "database is gone")
	refusal, _ := errors.AsType[*wire.ClaimError](err)
	assert.NotContains(t, refusal.Message, "database", "the device does not learn why")

	answer = func() (*fakebackend.HookAnswer, error) {
		return &fakebackend.HookAnswer{AllowProvisioning: true, ParameterOverrides: map[string]string{"DeviceLocation": "Berlin", "SerialNumber": "7",
			"AWS::IoT::Certificate::Id": strings.Repeat("0", 64)}}, nil
	}
	made, err := c.provision(ctx, d, issued.Token.Reveal(), "1")
	require.NoError(t, err)
	assert.Equal(t, "claimed-7", made.ThingName)
	assert.Equal(t, "https://example.eu", made.DeviceConfiguration["LocationUrl"])
	assert.Equal(t, []string{issued.CertificateID}, c.active(t, "claimed-7"))

	answer = func() (*fakebackend.HookAnswer, error) { // the account changes while the hook thinks
		_, err := api(c.fake).UpdateProvisioningTemplate(ctx, &iot.UpdateProvisioningTemplateInput{TemplateName: new("fleet"), Enabled: new(false)})
		return &fakebackend.HookAnswer{AllowProvisioning: true}, err
	}
	_, err = c.provision(ctx, d, c.own(t, d).Token.Reveal(), "8")
	requireClaimError(t, err, 400, "InvalidParameters", "not enabled")
}

func TestAHookThatIsSlowOrMissingRefusesTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClaims(t, fakebackend.Options{Hooks: map[string]fakebackend.ProvisioningHook{
			hookARN: func(context.Context, *fakebackend.HookRequest) (*fakebackend.HookAnswer, error) {
				time.Sleep(6 * time.Second)
				return &fakebackend.HookAnswer{AllowProvisioning: true}, nil
			},
		}})
		d := c.connect(t, "device-1")
		token := c.own(t, d).Token.Reveal()
		begun := time.Now()
		_, err := c.provision(t.Context(), d, token, "1")
		requireClaimError(t, err, 403, "AccessDenied", "did not answer within 5s")
		assert.Equal(t, 5*time.Second, time.Since(begun))
		gone, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.provision(gone, d, token, "1")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = api(c.fake).UpdateProvisioningTemplate(t.Context(), &iot.UpdateProvisioningTemplateInput{TemplateName: new("fleet"),
			PreProvisioningHook: &types.ProvisioningHook{TargetArn: new(hookARN + "2")}})
		require.NoError(t, err)
		_, err = c.provision(t.Context(), d, token, "1")
		requireClaimError(t, err, 403, "AccessDenied", hookARN+"2 is not among Options.Hooks")
		assert.Empty(t, c.active(t, "claimed-1"))
		time.Sleep(time.Minute) // until the hooks that came too late have ended
	})
}

func TestAHookCanBeAProgramAtAnAddress(t *testing.T) {
	var asked map[string]any
	answer := func(http.ResponseWriter) {}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodPost, r.Method)
		body, _ := io.ReadAll(r.Body)
		assert.NoError(t, json.Unmarshal(body, &asked))
		answer(w)
	}))
	defer server.Close()
	c := newClaims(t, fakebackend.Options{Hooks: map[string]fakebackend.ProvisioningHook{hookARN: fakebackend.HTTPHook(server.Client(), server.URL)}})
	d := c.connect(t, "device-1")
	issued := c.own(t, d)
	for text, broken := range map[string]func(http.ResponseWriter){
		"status 500": func(w http.ResponseWriter) { w.WriteHeader(500) },
		"status 302": func(w http.ResponseWriter) {
			w.Header().Set("Location", "/")
			w.WriteHeader(302)
		},
		"not what a hook": func(w http.ResponseWriter) { fmt.Fprint(w, "no JSON") },
		"does not allow":  func(w http.ResponseWriter) { fmt.Fprint(w, "{}") },
		"the error Unhandl": func(w http.ResponseWriter) {
			w.Header().Set("X-Amz-Function-Error", "Unhandled")
			fmt.Fprint(w, `{"allowProvisioning":true}`)
		},
		"it is too long": func(w http.ResponseWriter) { fmt.Fprint(w, `{"allowProvisioning":true}`, strings.Repeat(" ", 6<<20)) },
	} {
		answer = broken
		_, err := c.provision(t.Context(), d, issued.Token.Reveal(), "1")
		requireClaimError(t, err, 403, "AccessDenied", strings.TrimPrefix(text, "it is "))
	}
	answer = func(w http.ResponseWriter) {
		fmt.Fprint(w, `{"allowProvisioning": true, "parameterOverrides": {"DeviceLocation": "Berlin"}}`)
	}
	made, err := c.provision(t.Context(), d, issued.Token.Reveal(), "1")
	require.NoError(t, err)
	assert.Equal(t, "https://example.eu", made.DeviceConfiguration["LocationUrl"])
	assert.Equal(t, map[string]any{
		"claimCertificateId": d.CertificateID(), "certificateId": issued.CertificateID, "certificatePem": issued.CertificatePEM,
		"templateArn": "arn:aws:iot:us-east-1:123456789012:provisioningtemplate/fleet", "clientId": "device-1",
		"parameters": map[string]any{"SerialNumber": "1", "DeviceLocation": "Seattle"},
	}, asked)
}

func TestFaultsStrikeClaims(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	ctx := t.Context()
	d := c.connect(t, "device-1")
	addFault(t, c.fake, fakebackend.Fault{Operation: "ClaimCreateKeysAndCertificate", Do: fakebackend.Throttle})
	_, err := c.account.CreateKeysAndCertificate(ctx, d)
	requireClaimError(t, err, 429, "Throttling", "Rate exceeded")
	addFault(t, c.fake, fakebackend.Fault{Operation: "ClaimCreateCertificateFromCsr", Thing: "device-1", Do: fakebackend.Fail, Code: "InvalidCsr", Status: 400, Message: "no"})
	_, err = c.account.CreateCertificateFromCSR(ctx, d, csrOf(key, "device"))
	requireClaimError(t, err, 400, "InvalidCsr", "no")
	addFault(t, c.fake, fakebackend.Fault{Operation: "ClaimCreateCertificateFromCsr", Do: fakebackend.DropBefore})
	_, err = c.account.CreateCertificateFromCSR(ctx, d, csrOf(key, "device"))
	require.ErrorIs(t, err, task.ErrOutcomeUnknown)
	issued := c.own(t, d)
	addFault(t, c.fake, fakebackend.Fault{Step: fakebackend.StepActivate, Thing: "claimed-1", Do: fakebackend.Fail})
	_, err = c.provision(ctx, d, issued.Token.Reveal(), "1")
	requireClaimError(t, err, 500, "InternalFailure", "")
	assert.Empty(t, c.active(t, "claimed-1"), "the thing is there, and its certificate waits")
	addFault(t, c.fake, fakebackend.Fault{Operation: "ClaimRegisterThing", Do: fakebackend.DropAfter})
	_, err = c.provision(ctx, d, issued.Token.Reveal(), "1")
	require.ErrorIs(t, err, task.ErrOutcomeUnknown)
	assert.Equal(t, []string{issued.CertificateID}, c.active(t, "claimed-1"))
	_, err = c.provision(ctx, d, issued.Token.Reveal(), "1")
	require.NoError(t, err)
	assert.Equal(t, []string{issued.CertificateID}, c.active(t, "claimed-1"))
}

// A device that repeats what was cut, with what it holds already, ends with one certificate, wherever the cut was.
func TestADeviceThatIsCutOffAndAsksAgainHasOneCertificate(t *testing.T) {
	operations := []string{"ClaimCreateCertificateFromCsr", "ClaimRegisterThing"}
	for _, op := range operations {
		for _, effect := range []fakebackend.Effect{fakebackend.DropBefore, fakebackend.DropAfter} {
			for times := 1; times <= 3; times++ {
				t.Run(fmt.Sprint(op, effect, times), func(t *testing.T) {
					c := newClaims(t, fakebackend.Options{})
					addFault(t, c.fake, fakebackend.Fault{Operation: op, Do: effect, Times: times})
					var issued *wire.Issued
					var made *wire.Provisioned
					for made == nil {
						d := c.connect(t, "device-1")
						if issued == nil {
							var err error
							if issued, err = c.account.CreateCertificateFromCSR(t.Context(), d, csrOf(key, "device")); err != nil {
								continue
							}
						}
						made, _ = c.provision(t.Context(), d, issued.Token.Reveal(), "1")
					}
					c.fake.Advance(2 * time.Hour)
					assert.Equal(t, []string{issued.CertificateID}, c.active(t, "claimed-1"))
					list, err := api(c.fake).ListCertificates(t.Context(), nil)
					require.NoError(t, err)
					assert.Len(t, list.Certificates, 2, "the claim's and the device's: those that nobody got are deleted")
				})
			}
		}
	}
}

func TestManyDevicesClaimAtOnce(t *testing.T) {
	c := newClaims(t, fakebackend.Options{})
	d := c.connect(t, "factory")
	csr := csrOf(key, "device")
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			issued, err := c.account.CreateCertificateFromCSR(t.Context(), d, csr)
			if !assert.NoError(t, err) {
				return
			}
			made, err := c.provision(t.Context(), d, issued.Token.Reveal(), fmt.Sprint(i))
			if assert.NoError(t, err) {
				assert.Equal(t, fmt.Sprint("claimed-", i), made.ThingName)
				assert.Equal(t, []string{issued.CertificateID}, c.active(t, made.ThingName))
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 200, c.fake.Counts().Things)
}
