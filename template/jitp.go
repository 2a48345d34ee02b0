package template

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"slices"
)

const (
	pseudoPrefix = "AWS::IoT::Certificate::"
	pseudoID     = pseudoPrefix + "Id" // AWS's own, so that every certificate has it
)

// pseudoFields ties the pseudo-parameters to the attributes of a certificate's subject.
var pseudoFields = []struct {
	name string
	oid  asn1.ObjectIdentifier
}{
	{"Country", asn1.ObjectIdentifier{2, 5, 4, 6}},
	{"Organization", asn1.ObjectIdentifier{2, 5, 4, 10}},
	{"OrganizationalUnit", asn1.ObjectIdentifier{2, 5, 4, 11}},
	{"DistinguishedNameQualifier", asn1.ObjectIdentifier{2, 5, 4, 46}},
	{"StateName", asn1.ObjectIdentifier{2, 5, 4, 8}},
	{"CommonName", asn1.ObjectIdentifier{2, 5, 4, 3}},
	{"SerialNumber", asn1.ObjectIdentifier{2, 5, 4, 5}},
}

var pseudoParameters = func() []string {
	names := make([]string, 0, len(pseudoFields)+1)
	for _, f := range pseudoFields {
		names = append(names, pseudoPrefix+f.name)
	}
	return append(names, pseudoID)
}()

// PseudoParameters returns the names that AWS fills from a device's certificate in just-in-time provisioning, such as
// AWS::IoT::Certificate::CommonName. A JITP template declares those it uses under Parameters. AWS provisions no device
// whose certificate lacks one that is declared without a Default, whether it is used or not.
//
// See https://docs.aws.amazon.com/iot/latest/developerguide/jit-provisioning.html.
func PseudoParameters() []string { return slices.Clone(pseudoParameters) }

// CertificateRow returns the row that AWS makes of a device's certificate in just-in-time provisioning, so that a JITP
// template can be tried with [Program.Resolve]. An attribute that the subject lacks is absent from the row; of one that
// it has several times the first is taken. SerialNumber is the attribute of the subject, not the certificate's own
// number; Id is the certificate id, the SHA-256 of the certificate in lower-case hexadecimal digits.
func CertificateRow(cert *x509.Certificate) map[string]string {
	row := map[string]string{}
	for _, f := range pseudoFields {
		for _, attribute := range cert.Subject.Names {
			if value, ok := attribute.Value.(string); ok && attribute.Type.Equal(f.oid) {
				row[pseudoPrefix+f.name] = value
				break
			}
		}
	}
	id := sha256.Sum256(cert.Raw)
	row[pseudoID] = hex.EncodeToString(id[:])
	return row
}
