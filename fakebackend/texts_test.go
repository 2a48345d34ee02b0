package fakebackend_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
)

// Some clients look for these texts to know whether to wait and try again.
func TestRefusalsHaveTheTextsThatWereSeenFromAWS(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx, client := t.Context(), api(fake)
	allow := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`
	_, err := client.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("LightBulb")})
	require.NoError(t, err)
	_, err = client.DeprecateThingType(ctx, &iot.DeprecateThingTypeInput{ThingTypeName: new("LightBulb")})
	require.NoError(t, err)
	_, err = client.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new("fleet"), PolicyDocument: new(allow)})
	require.NoError(t, err)
	_, err = client.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: new("fleet"), PolicyDocument: new(allow)})
	require.NoError(t, err)
	_, sign := ownCA()
	pem := sign("one")
	made, err := client.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: new(pem), Status: "ACTIVE"})
	require.NoError(t, err)

	for text, call := range map[string]func() error{
		"InvalidRequestException: Cannot delete thing type : LightBulb. Please wait for 5 minutes after deprecation and then retry": func() error {
			_, err := client.DeleteThingType(ctx, &iot.DeleteThingTypeInput{ThingTypeName: new("LightBulb")})
			return err
		},
		"ResourceNotFoundException: Failed to list principals for thing xxx because the thing does not exist in your account": func() error {
			_, err := client.ListThingPrincipals(ctx, &iot.ListThingPrincipalsInput{ThingName: new("xxx")})
			return err
		},
		"CertificateStateException: Certificate must be deactivated (not ACTIVE) before deletion. Id: " + *made.CertificateId: func() error {
			_, err := client.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: made.CertificateId})
			return err
		},
		"ResourceAlreadyExistsException: The certificate is already provisioned or registered": func() error {
			_, err := client.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: new(pem)})
			return err
		},
		"CertificateStateException: Not allowed to register certificate with PENDING_ACTIVATION status": func() error {
			_, err := client.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: new(sign("two")), Status: "PENDING_ACTIVATION"})
			return err
		},
		"DeleteConflictException: The policy cannot be deleted as versions other than than default version exist": func() error {
			_, err := client.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: new("fleet")})
			return err
		},
		"ResourceNotFoundException: Policy not found": func() error {
			_, err := client.ListTargetsForPolicy(ctx, &iot.ListTargetsForPolicyInput{PolicyName: new("nothing")})
			return err
		},
	} {
		require.ErrorContains(t, call(), text)
	}
	_, err = client.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: new(pem)})
	assert.Equal(t, "ResourceAlreadyExistsException", codeOf(err), "although no CA of it is registered")
	principals, err := client.ListPolicyPrincipals(ctx, &iot.ListPolicyPrincipalsInput{PolicyName: new("nothing")}) //nolint:staticcheck // older clients call it
	require.NoError(t, err)
	assert.Empty(t, principals.Principals)
}

func TestACertificateHasTheModeOfItsRegistration(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx, client := t.Context(), api(fake)
	mode := func(id *string) string {
		out, err := client.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: id})
		require.NoError(t, err)
		return string(out.CertificateDescription.CertificateMode)
	}
	caPEM, sign := ownCA()
	alone, err := client.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: new(sign("alone"))})
	require.NoError(t, err)
	_, err = client.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: new(caPEM), CertificateMode: "SNI_ONLY", SetAsActive: true})
	require.NoError(t, err)
	under, err := client.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: new(sign("under"))})
	require.NoError(t, err)
	own, err := client.CreateCertificateFromCsr(ctx, &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: new(csrOf(key, "own"))})
	require.NoError(t, err)
	require.NoError(t, fake.Restore(fake.Snapshot()))
	assert.Equal(t, []string{"SNI_ONLY", "SNI_ONLY", "DEFAULT"}, []string{mode(alone.CertificateId), mode(under.CertificateId), mode(own.CertificateId)})
	listed, err := client.ListCertificates(ctx, &iot.ListCertificatesInput{AscendingOrder: true})
	require.NoError(t, err)
	assert.Equal(t, "SNI_ONLY", string(listed.Certificates[0].CertificateMode))
}
