package template_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/template"
)

func certificateOf(t *testing.T, subject pkix.Name) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(99), Subject: subject, NotBefore: now, NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert
}

func TestACertificatesSubjectFillsThePseudoParameters(t *testing.T) {
	cert := certificateOf(t, pkix.Name{
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
	_, err = p.Resolve(template.CertificateRow(certificateOf(t, pkix.Name{CommonName: "x"})))
	assert.ErrorIs(t, err, template.ErrMissingParameter)
	_, err = p.Resolve(template.CertificateRow(certificateOf(t, pkix.Name{Country: []string{"FR"}})))
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
