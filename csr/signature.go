package csr

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1" // ParseLenient verifies what is signed with it
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
)

const (
	hashAdvice = "sign it with SHA-256, SHA-384 or SHA-512 (openssl req -sha256)"
	pssAdvice  = "sign it with SHA-256 and without PSS (openssl req -sha256, no rsa_padding_mode), or with a salt as long as the hash"

	oidSHA1 = "1.3.14.3.2.26"
	oidPSS  = "1.2.840.113549.1.1.10"
)

// hashes are those that a signature can be verified with, by the object identifiers of signatures and, for RSA-PSS, of
// hashes.
var hashes = map[string]crypto.Hash{
	"1.2.840.113549.1.1.5": crypto.SHA1, "1.3.14.3.2.29": crypto.SHA1, "1.2.840.10045.4.1": crypto.SHA1, oidSHA1: crypto.SHA1,
	"1.2.840.113549.1.1.14": crypto.SHA224, "1.2.840.10045.4.3.1": crypto.SHA224, "2.16.840.1.101.3.4.2.4": crypto.SHA224,
	"1.2.840.113549.1.1.11": crypto.SHA256, "1.2.840.10045.4.3.2": crypto.SHA256, "2.16.840.1.101.3.4.2.1": crypto.SHA256,
	"1.2.840.113549.1.1.12": crypto.SHA384, "1.2.840.10045.4.3.3": crypto.SHA384, "2.16.840.1.101.3.4.2.2": crypto.SHA384,
	"1.2.840.113549.1.1.13": crypto.SHA512, "1.2.840.10045.4.3.4": crypto.SHA512, "2.16.840.1.101.3.4.2.3": crypto.SHA512,
}

// signatureHash returns the hash of a signature's algorithm, 0 for one that is not known here.
func signatureHash(a algorithmOutline) crypto.Hash {
	if a.Algorithm.String() != oidPSS {
		return hashes[a.Algorithm.String()]
	}
	var p struct {
		Hash algorithmOutline `asn1:"explicit,tag:0,optional"`
	}
	if _, err := asn1.Unmarshal(a.Parameters.FullBytes, &p); err != nil {
		return 0
	}
	if p.Hash.Algorithm == nil {
		return crypto.SHA1 // the default of RFC 4055
	}
	return hashes[p.Hash.Algorithm.String()]
}

// checkSignatureKind refuses weak hashes. What else is not supported, crypto/x509 finds.
func checkSignatureKind(a algorithmOutline) error {
	switch a.Algorithm.String() {
	case "1.2.840.10040.4.3", "1.3.14.3.2.27": // DSA
		return fmt.Errorf("%w: it is signed with SHA-1; %s", ErrSignatureAlgorithm, hashAdvice)
	case "1.2.840.113549.1.1.4", "1.2.840.113549.1.1.2", "1.3.14.3.2.3":
		return fmt.Errorf("%w: it is signed with MD5 or MD2; %s", ErrSignatureAlgorithm, hashAdvice)
	}
	if h := signatureHash(a); h == crypto.SHA1 || h == crypto.SHA224 {
		return fmt.Errorf("%w: it is signed with %s; %s", ErrSignatureAlgorithm, h, hashAdvice)
	}
	return nil
}

// verify checks the signature over the bytes of the request as they are.
func (c *checker) verify(request *x509.CertificateRequest, algorithm algorithmOutline) error {
	if request.SignatureAlgorithm != x509.UnknownSignatureAlgorithm && request.CheckSignature() == nil {
		return nil
	}
	changed := fmt.Errorf("%w: the request was changed after it was signed, or signed with another key than it names; make it again", ErrSignature)
	hash := signatureHash(algorithm)
	unknown := request.SignatureAlgorithm == x509.UnknownSignatureAlgorithm
	if unknown && !(c.lenient && hash.Available()) {
		return unknownAlgorithmError(algorithm)
	}
	if !hash.Available() {
		return changed
	}
	h := hash.New()
	h.Write(request.RawTBSCertificateRequest)
	digest := h.Sum(nil)
	switch key := request.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(key, digest, request.Signature) {
			return nil // with a hash that crypto/x509 does not know, noted by now
		}
		if odd := oddECDSA(key, digest, request.Signature); odd != "" {
			return c.refuse(fmt.Errorf("%w: %s; crypto/x509, openssl and Java do not take it", ErrSignature, odd))
		}
	case *rsa.PublicKey:
		if !unknown {
			break
		}
		if rsa.VerifyPKCS1v15(key, hash, digest, request.Signature) == nil {
			return nil
		}
		if algorithm.Algorithm.String() == oidPSS && rsa.VerifyPSS(key, hash, digest, request.Signature, nil) == nil {
			return c.refuse(unknownAlgorithmError(algorithm))
		}
	}
	return changed
}

func unknownAlgorithmError(a algorithmOutline) error {
	advice := hashAdvice
	if a.Algorithm.String() == oidPSS {
		advice = pssAdvice
	}
	return fmt.Errorf("%w: %s with its parameters; %s", ErrSignatureAlgorithm, objectName(a.Algorithm), advice)
}

// oddECDSA reports how a signature is written that is valid, and empty if it is not valid.
func oddECDSA(key *ecdsa.PublicKey, digest, signature []byte) string {
	size := (key.Params().BitSize + 7) / 8
	if len(signature) == 2*size {
		r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
		if ecdsa.Verify(key, digest, r, s) {
			return fmt.Sprintf("its ECDSA signature is r and s alone, %d bytes, where a SEQUENCE of two INTEGERs in DER belongs", 2*size)
		}
	}
	content, rest := element(signature, tagSequence)
	r, content := element(content, tagInteger)
	s, content := element(content, tagInteger)
	if r == nil || s == nil || len(content) > 0 || len(rest) > 0 {
		return ""
	}
	if ecdsa.Verify(key, digest, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)) {
		return "r or s of its ECDSA signature is written as a negative number, or with needless zeros, in DER"
	}
	return ""
}
