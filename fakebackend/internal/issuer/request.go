package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/lenientx509"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Refusal is why AWS would not issue a certificate for a request. Its text begins with AWS's own words.
type Refusal struct {
	Message string // what AWS answers: "CSR violates constraints", or a validation error
	Reason  string // what is wrong with this request; empty when Message has it all
}

// Error returns AWS's words and then the reason.
func (r *Refusal) Error() string {
	if r.Reason == "" {
		return r.Message
	}
	return r.Message + ": " + r.Reason
}

func refuse(format string, args ...any) *Refusal {
	return &Refusal{Message: "CSR violates constraints", Reason: fmt.Sprintf(format, args...)}
}

// parseRequest reads a request. Its error is a *[Refusal] when AWS would not issue a certificate for it.
func parseRequest(csr string) (*x509.CertificateRequest, error) {
	// Every character takes at least one byte, so most requests are cleared without counting.
	if len(csr) > rule.CSR && utf8.RuneCountInString(csr) > rule.CSR {
		return nil, &Refusal{Message: fmt.Sprintf("1 validation error detected: Value %s at 'certificateSigningRequest' failed to"+
			" satisfy constraint: Member must have length less than or equal to %d", rule.Quote(csr), rule.CSR)}
	}
	if csr == "" {
		return nil, &Refusal{Message: "1 validation error detected: Value '' at 'certificateSigningRequest' failed to" +
			" satisfy constraint: Member must have length greater than or equal to 1"}
	}
	raw, err := decodePEM(csr, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if err != nil {
		return nil, refuse("%v", err)
	}
	request, odd, err := lenientx509.Request(raw)
	if err != nil {
		return nil, refuse("it is not a PKCS#10 request: %v", err)
	}
	for _, oddity := range odd {
		if oddity.Broken {
			return nil, refuse("%s", oddity.Text)
		}
	}
	switch key := request.PublicKey.(type) {
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < 2048 {
			return nil, refuse("its RSA key has %d bits; 2048 are the least", n)
		}
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
		default:
			return nil, refuse("its key is on curve %s; P-256, P-384 and P-521 are taken", key.Curve.Params().Name)
		}
	default:
		return nil, refuse("its key is neither RSA nor ECDSA but %v", request.PublicKeyAlgorithm)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, refuse("it is not signed by its own key: %v", err)
	}
	return request, nil
}

// ParseCertificate reads one certificate in PEM, with or without its line breaks. Text before and after is ignored.
func ParseCertificate(text string) (*x509.Certificate, error) {
	raw, err := decodePEM(text, "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, _, err := lenientx509.Certificate(raw)
	return cert, err
}

// decodePEM finds the first block of one of the labels. encoding/pem wants each boundary on a line of its own; requests
// come to AWS with their line breaks lost, so this decoder only wants the boundaries.
func decodePEM(text string, labels ...string) ([]byte, error) {
	for _, label := range labels {
		_, rest, ok := strings.Cut(text, "-----BEGIN "+label+"-----")
		if !ok {
			continue
		}
		body, _, ok := strings.Cut(rest, "-----END "+label+"-----")
		if !ok {
			return nil, fmt.Errorf("the PEM block has no END %s boundary", label)
		}
		// The decoder passes over line ends by itself, and faster; other white space is rare.
		if strings.Contains(body, " ") || strings.Contains(body, "\t") {
			body = dropSpace(body)
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(body)
		if err != nil {
			return nil, errors.New("the PEM block is not base64")
		}
		return raw, nil
	}
	return nil, fmt.Errorf("there is no PEM block BEGIN %s", labels[0])
}

func dropSpace(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n':
			return -1
		}
		return r
	}, s)
}
