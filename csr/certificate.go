package csr

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

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
		if block.Type != "CERTIFICATE" {
			continue
		}
		if info := p256KeyInfo(block.Bytes); info != nil {
			return sha256.Sum256(info), nil
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return [32]byte{}, fmt.Errorf("the certificate cannot be read: %w", err)
		}
		if k, ok := cert.PublicKey.(*rsa.PublicKey); ok {
			// A certificate that exists may have a key that is too short for any new request.
			return sha256.Sum256(rsaKeyInfo(k)), nil
		}
		return PublicKeySHA256(cert.PublicKey)
	}
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
