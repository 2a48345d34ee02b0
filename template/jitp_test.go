package template_test

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/template"
)

func certificateOf(subject pkix.Name) *x509.Certificate {
	return certtest.SelfSigned(certtest.Key(), func(c *x509.Certificate) { c.Subject = subject })
}

func TestACertificatesSubjectFillsThePseudoParameters(t *testing.T) {
	cert := certificateOf(pkix.Name{
		Country: []string{"DE"}, Organization: []string{"Acme"}, OrganizationalUnit: []string{"Pumps", "Pumps of the north"}, Province: []string{"Hessen"},
		CommonName: "pump-1", SerialNumber: "4711",
		ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 46}, Value: "q"}},
	})
	id := sha256.Sum256(cert.Raw)
	const p = "AWS::IoT::Certificate::"
	row := template.CertificateRow(cert)
	assert.Equal(t, map[string]string{
		p + "Country": "DE", p + "Organization": "Acme", p + "OrganizationalUnit": "Pumps", p + "DistinguishedNameQualifier": "q",
		p + "StateName": "Hessen", p + "CommonName": "pump-1", p + "SerialNumber": "4711", p + "Id": hex.EncodeToString(id[:]),
	}, row)
	for _, name := range template.PseudoParameters() {
		assert.Contains(t, row, name)
	}
	assert.Len(t, template.PseudoParameters(), len(row))
}

func TestACertificateWithoutANeededAttributeIsRefused(t *testing.T) {
	tm := &template.Template{
		Parameters: template.Strings("AWS::IoT::Certificate::Country", "AWS::IoT::Certificate::Id"),
		Resources: template.Resources{
			"thing": template.Thing{
				ThingName:        template.Ref("AWS::IoT::Certificate::Id"),
				AttributePayload: template.Object{"country": template.Ref("AWS::IoT::Certificate::Country")},
			},
			"certificate": template.Certificate{CertificateID: template.Ref("AWS::IoT::Certificate::Id")},
			"policy":      template.Policy{PolicyName: template.Literal("p")},
		},
	}
	assert.Empty(t, tm.Check(template.JITP))
	p, err := tm.Compile(template.CompileOptions{Kind: template.JITP})
	require.NoError(t, err)
	_, err = p.Resolve(template.CertificateRow(certificateOf(pkix.Name{CommonName: "x"})))
	assert.ErrorIs(t, err, template.ErrMissingParameter)
	_, err = p.Resolve(template.CertificateRow(certificateOf(pkix.Name{Country: []string{"FR"}})))
	assert.NoError(t, err)
}

func TestInJustInTimeProvisioningOnlyADefaultFillsAnotherParameter(t *testing.T) {
	const id = "AWS::IoT::Certificate::Id"
	tm := &template.Template{
		Parameters: template.Parameters{id: {}, "Site": {}},
		Resources: template.Resources{
			"thing":       template.Thing{ThingName: template.Ref(id), BillingGroup: template.Ref("Site")},
			"certificate": template.Certificate{CertificateID: template.Ref(id)},
			"policy":      template.Policy{PolicyName: template.Literal("p")},
		},
	}
	issues := tm.Check(template.JITP)
	require.Len(t, issues, 1)
	assert.Equal(t, finding.Rule("parameter-unfilled"), issues[0].Rule)
	assert.Equal(t, "/Resources/thing/Properties/BillingGroup/Ref", issues[0].Pointer)
	assert.Contains(t, issues[0].Message, `"Site"`)
	assert.Empty(t, tm.Check(template.Fleet), "a device gives its own parameters there")
	tm.Parameters["Site"] = template.Parameter{Default: template.Literal("ulm")}
	assert.Empty(t, tm.Check(template.JITP))
}

func TestEveryDeclaredParameterMustBeInTheCertificateUsedOrNot(t *testing.T) {
	const id, country = "AWS::IoT::Certificate::Id", "AWS::IoT::Certificate::Country"
	tm := &template.Template{
		Parameters: template.Strings(id, country),
		Resources: template.Resources{
			"thing":       template.Thing{ThingName: template.Ref(id)},
			"certificate": template.Certificate{CertificateID: template.Ref(id)},
			"policy":      template.Policy{PolicyName: template.Literal("p")},
		},
	}
	issues := tm.Check(template.JITP)
	require.Len(t, issues, 1)
	assert.Equal(t, finding.Rule("parameter-unused"), issues[0].Rule)
	assert.Contains(t, issues[0].Message, "a device whose certificate lacks it is not provisioned")
	assert.NotContains(t, tm.Check(template.Bulk).String(), "provisioned")

	p, err := tm.Compile(template.CompileOptions{Kind: template.JITP})
	require.NoError(t, err)
	assert.Equal(t, []string{country, id}, p.Required())
	row := template.CertificateRow(certificateOf(pkix.Name{CommonName: "x"}))
	_, err = p.Resolve(row)
	require.ErrorIs(t, err, template.ErrMissingParameter)
	assert.ErrorContains(t, err, "the subject of the certificate has no Country")
	found := p.CheckRow(row)
	require.Len(t, found, 1)
	assert.ErrorIs(t, &found[0], template.ErrMissingParameter)
	assert.Equal(t, "/Parameters/"+country, found[0].Pointer)

	full := template.CertificateRow(certificateOf(pkix.Name{CommonName: "x", Country: []string{"FR"}, Organization: []string{"Acme"}}))
	assert.Empty(t, p.CheckRow(full), "attributes that the template does not use are no fault")
	_, err = p.Resolve(full)
	assert.NoError(t, err)
	bulk, err := tm.Compile(template.CompileOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{id}, bulk.Required())

	tm.Parameters[country] = template.Parameter{Default: template.Literal("none")}
	p, err = tm.Compile(template.CompileOptions{Kind: template.JITP})
	require.NoError(t, err)
	assert.Empty(t, p.CheckRow(row))
}

func TestAClaimedDeviceHasItsCertificatesIDWhetherTheTemplateUsesItOrNot(t *testing.T) {
	p := compiled(t, `{"Parameters": {"Serial": {"Type": "String"}}, "Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Serial"}}}}}`,
		template.CompileOptions{Kind: template.Fleet})
	assert.Empty(t, p.CheckRow(map[string]string{"Serial": "a", "AWS::IoT::Certificate::Id": "b"}))
	found := p.CheckRow(map[string]string{"AWS::IoT::Certificate::Country": "b"})
	require.Len(t, found, 2)
	assert.Contains(t, found[0].Message+found[1].Message, "the device gives it when it calls RegisterThing")
}
