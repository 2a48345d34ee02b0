package csr

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/lenientx509"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
)

const certificateLabel = "CERTIFICATE"

// Certificate is a certificate that was made elsewhere. The bytes in it (Raw and the others) are those handed in, also
// where they are odd.
type Certificate struct {
	*x509.Certificate
	// Notes tells what is odd about it, although it is no reason to refuse it, a sentence each. Most have none.
	Notes []string
}

// PEM returns the certificate in PEM, as it was handed in otherwise.
func (c *Certificate) PEM() string { return encodePEM(c.Raw) }

func encodePEM(der []byte) string {
	return string(appendPEM(make([]byte, 0, pemLen(certificateLabel, len(der))), certificateLabel, der))
}

// ParseCertificates reads the certificates in what was handed over, each once, in the forms that [Parse] reads requests
// in; public keys among them are passed over. It verifies nothing. A negative serial number, characters that a
// PrintableString may not hold and an RSA key without the NULL of its algorithm are no reason to refuse a certificate: it
// is returned as it is, with Notes.
//
// What is no certificate, or a damaged one, is an [ErrNotCertificate], a text with a private key an [ErrPrivateKey].
// ParseCertificates is safe for concurrent use and keeps no reference to data.
func ParseCertificates(data []byte) ([]*Certificate, error) { return parseCertificates(data, false) }

// ParseCertificatesLenient reads what [ParseCertificates] reads, and lets the service decide about a control character in
// a name, a compressed point, and extensions that can't be read: such a certificate is returned without Extensions and
// what follows from them, IsCA for instance. Notes names each.
func ParseCertificatesLenient(data []byte) ([]*Certificate, error) {
	return parseCertificates(data, true)
}

func parseCertificates(data []byte, lenient bool) ([]*Certificate, error) {
	list, err := certificateForm.blocks(data)
	if err != nil {
		return nil, err
	}
	var certs []*Certificate
	for i, b := range list {
		switch b.label {
		case "", certificateLabel, "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
		case "PUBLIC KEY", "RSA PUBLIC KEY", "EC PARAMETERS":
			if i+1 < len(list) || len(certs) > 0 {
				continue
			}
			return nil, certificateForm.not("this is a public key; give the certificate that was issued for it")
		case requestLabel, "NEW CERTIFICATE REQUEST":
			return nil, certificateForm.not("this is a certificate signing request; give the certificate that was issued for it")
		default:
			return nil, certificateForm.not("it holds a PEM block that is %s; give the certificate", quotedLabel(b.label))
		}
		cert, err := parseCertificate(b.der, lenient)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(certs, func(c *Certificate) bool { return c.Equal(cert.Certificate) }) {
			certs = append(certs, cert)
		}
	}
	return certs, nil
}

func parseCertificate(der []byte, lenient bool) (*Certificate, error) {
	cert, odd, err := lenientx509.Certificate(der)
	switch {
	case err == nil:
	case privatekey.IsDER(der):
		return nil, certificateForm.exposed()
	default:
		if n, ok := announcedLen(der); ok && n > len(der) {
			return nil, certificateForm.not("it was cut short: %d bytes of %d are there", len(der), n)
		}
		if _, _, other := lenientx509.Request(der); other == nil {
			return nil, certificateForm.not("this is a certificate signing request; give the certificate that was issued for it")
		}
		return nil, certificateForm.not("%s", strings.TrimPrefix(err.Error(), "x509: "))
	}
	c := &Certificate{Certificate: cert}
	for _, oddity := range odd {
		if oddity.Broken && !lenient {
			return nil, certificateForm.not("%s", oddity.Text)
		}
		c.Notes = append(c.Notes, oddity.Text)
	}
	return c, nil
}

// CertificateKeySHA256 returns the SHA-256 of the public key of the first certificate in a PEM text. It equals
// [Request.PublicKeySHA256] of the request the certificate was issued for: it depends on the key alone and not on how
// the certificate spells it, for an issuer may encode it anew. Of a certificate with a P-256 key it reads only what it
// must to find the key: that nothing else in it is damaged is for the caller to know.
func CertificateKeySHA256(certificatePEM []byte) ([32]byte, error) {
	for rest := certificatePEM; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return [32]byte{}, fmt.Errorf("no PEM block CERTIFICATE in the %d bytes given", len(certificatePEM))
		}
		if block.Type != certificateLabel {
			continue
		}
		if info := p256KeyInfo(block.Bytes); info != nil {
			return sha256.Sum256(info), nil
		}
		cert, _, err := lenientx509.Certificate(block.Bytes)
		if err != nil {
			return [32]byte{}, fmt.Errorf("the certificate cannot be read: %w", err)
		}
		return (&Certificate{Certificate: cert}).PublicKeySHA256()
	}
}

// PublicKeySHA256 returns what [CertificateKeySHA256] returns for the certificate.
func (c *Certificate) PublicKeySHA256() ([32]byte, error) {
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok {
		// A certificate that exists may have a key that is too short for any new request.
		return sha256.Sum256(rsaKeyInfo(k)), nil
	}
	return PublicKeySHA256(c.PublicKey)
}

// p256Prefix begins the SubjectPublicKeyInfo of every P-256 key whose point is not compressed: all of it but the point.
var p256Prefix = wrapPublicKey(p256DER.algorithm, append([]byte{4}, make([]byte, 64)...))[:27]

const p256InfoLen = 27 + 64

// p256KeyInfo finds the SubjectPublicKeyInfo of a certificate if it is that of a P-256 key, and returns nil if it is
// not or anything else is unusual. It takes a tenth of the time of x509.ParseCertificate: a run reads every
// certificate.
func p256KeyInfo(der []byte) []byte {
	certificate, rest := element(der, tagSequence)
	if certificate == nil || len(rest) > 0 {
		return nil
	}
	tbs, rest := element(certificate, tagSequence)
	_, rest = element(rest, tagSequence) // the algorithm of the signature
	signature, rest := element(rest, tagBitString)
	if tbs == nil || signature == nil || len(rest) > 0 {
		return nil
	}
	const tagVersion, tagInteger = 0xa0, 2
	if _, after := element(tbs, tagVersion); after != nil {
		tbs = after
	}
	// Serial number, algorithm, issuer, validity, subject.
	for _, tag := range []byte{tagInteger, tagSequence, tagSequence, tagSequence, tagSequence} {
		_, tbs = element(tbs, tag)
	}
	if _, after := element(tbs, tagSequence); after == nil || len(tbs)-len(after) != p256InfoLen || !bytes.HasPrefix(tbs, p256Prefix) {
		return nil
	}
	return tbs[:p256InfoLen]
}

// element splits DER behind its first element, which must have the tag. Both results are nil if it is not there whole.
func element(der []byte, tag byte) (content, rest []byte) {
	n, ok := announcedLen(der)
	if !ok || der[0] != tag || n > len(der) {
		return nil, nil
	}
	header := 2
	if der[1] >= 0x80 {
		header += int(der[1] & 0x7f)
	}
	return der[header:n:n], der[n:]
}
