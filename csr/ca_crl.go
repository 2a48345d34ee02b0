package csr

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

const crlLabel = "X509 CRL"

// RevocationList returns a CRL of the CA in PEM, for whoever else trusts the CA: AWS IoT reads none, and goes by the status
// that a certificate has in the account. previous is the CRL before it, in PEM, whose entries it goes on with; empty for
// none. Each revoked certificate needs its SerialNumber and RevocationTime. The next CRL is due at nextUpdate.
//
// A CA whose certificate has key usages without cRLSign can't sign one, and a previous CRL of another CA is not taken: both
// are an [ErrCA].
func (c *CA) RevocationList(previous string, revoked []x509.RevocationListEntry, nextUpdate time.Time) (string, error) {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: nextUpdate}
	if previous != "" {
		old, err := parseCRL(previous)
		if err == nil {
			err = old.CheckSignatureFrom(c.certificate)
		}
		if err != nil {
			return "", fmt.Errorf("%w: the previous CRL is none of %s: %w", ErrCA, rule.Quote(c.certificate.Subject.String()), err)
		}
		list.RevokedCertificateEntries = old.RevokedCertificateEntries
		if old.Number != nil {
			list.Number.Add(old.Number, list.Number)
		}
	}
	listed := map[string]bool{}
	list.RevokedCertificateEntries = slices.DeleteFunc(append(list.RevokedCertificateEntries, revoked...), func(e x509.RevocationListEntry) bool {
		serial := e.SerialNumber.String()
		again := listed[serial]
		listed[serial] = true
		return again
	})
	// crypto/x509 demands two extensions that many CAs lack, such as those made with openssl req -x509. Without key usages a
	// key may do everything (RFC 5280, 4.2.1.3); the identifier is the one that the certificates of such a CA have.
	issuer := *c.certificate
	if issuer.KeyUsage == 0 {
		issuer.KeyUsage = x509.KeyUsageCRLSign
	}
	if len(issuer.SubjectKeyId) == 0 {
		id := keyID(c.info)
		issuer.SubjectKeyId = id[:]
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, c.signer)
	if err != nil {
		return "", fmt.Errorf("%w: sign a CRL: %w", ErrCA, err)
	}
	return string(appendPEM(make([]byte, 0, pemLen(crlLabel, len(der))), crlLabel, der)), nil
}

func parseCRL(text string) (*x509.RevocationList, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != crlLabel {
		return nil, errors.New("it is no PEM block " + crlLabel)
	}
	return x509.ParseRevocationList(block.Bytes)
}
