// Package certtest makes keys, requests and certificates for tests. What cannot be made is a fault of the test: it panics.
package certtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Key makes a P-256 key.
func Key() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// Request makes a request for a key, in PEM.
func Request(key crypto.Signer, subject pkix.Name) string {
	der := must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key))
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// PEM writes a certificate as a PEM block.
func PEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// SelfSigned makes a certificate that its own key has signed: of a device, valid from half a year ago for a year, as
// changes leave it.
func SelfSigned(key crypto.Signer, changes ...func(*x509.Certificate)) *x509.Certificate {
	of := template(changes)
	return sign(of, of, key.Public(), key)
}

// CA is an authority of the user's own.
type CA struct {
	*x509.Certificate
	Key crypto.Signer
}

// NewCA makes an authority for a key, valid from half a year ago for ten years, as changes leave it.
func NewCA(key crypto.Signer, changes ...func(*x509.Certificate)) *CA {
	authority := func(of *x509.Certificate) {
		of.Subject, of.NotAfter = pkix.Name{CommonName: "Our CA"}, of.NotBefore.AddDate(10, 0, 0)
		of.IsCA, of.BasicConstraintsValid, of.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	return &CA{SelfSigned(key, append([]func(*x509.Certificate){authority}, changes...)...), key}
}

// Sign makes a certificate for a public key: of a device, valid from half a year ago for a year, as changes leave it.
func (ca *CA) Sign(public crypto.PublicKey, changes ...func(*x509.Certificate)) *x509.Certificate {
	return sign(template(changes), ca.Certificate, public, ca.Key)
}

func template(changes []func(*x509.Certificate)) *x509.Certificate {
	from := time.Now().AddDate(0, -6, 0)
	of := &x509.Certificate{
		SerialNumber: must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))), Subject: pkix.Name{CommonName: "device"},
		NotBefore: from, NotAfter: from.AddDate(1, 0, 0),
	}
	for _, change := range changes {
		if change != nil {
			change(of)
		}
	}
	return of
}

func sign(of, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, of, parent, public, by))))
}
