package csr

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Request is a certificate signing request (PKCS #10) that was checked: its signature is valid and its key is one that
// AWS IoT takes. It comes from [Create], [Parse] or [Generator], does not change, and is safe for concurrent use. As
// JSON it is its PEM.
type Request struct {
	der       []byte
	info      []byte // SubjectPublicKeyInfo, as this library writes it
	subject   []byte // Name, part of der
	public    crypto.PublicKey
	algorithm Algorithm
	notes     []string
}

const requestLabel = "CERTIFICATE REQUEST"

// DER returns a copy of the request's bytes.
func (r *Request) DER() []byte { return bytes.Clone(r.der) }

// PEM returns the request in PEM, with lines of 64 characters and a newline at the end. It is at most 4,096 characters
// long. This is the value of a template's CSR parameter.
func (r *Request) PEM() string { return string(r.pem()) }

func (r *Request) pem() []byte {
	return appendPEM(make([]byte, 0, pemLen(requestLabel, len(r.der))), requestLabel, r.der)
}

// PublicKey returns the key the certificate will be for: a *ecdsa.PublicKey or *rsa.PublicKey.
func (r *Request) PublicKey() crypto.PublicKey { return r.public }

// PublicKeySHA256 returns the SHA-256 of the key's SubjectPublicKeyInfo in DER. The certificate that is issued has the
// same one, see [CertificateKeySHA256]; it is what ties an answer to its device.
func (r *Request) PublicKeySHA256() [32]byte { return sha256.Sum256(r.info) }

// Algorithm names the kind of key. A foreign RSA key may have another length than [Algorithms] lists: "rsa2560".
func (r *Request) Algorithm() Algorithm { return r.algorithm }

// Notes returns what is odd about a request that was made elsewhere, although it is no reason to refuse it, a sentence
// each: `its subject has "_" in a PrintableString`. Other programs may refuse the request for it. Most have none.
func (r *Request) Notes() []string { return slices.Clone(r.notes) }

// Subject returns the subject's attributes in order. Of a foreign request, a relative name of several attributes is
// given as one attribute after another, a value that is no string as # and the hex of its DER, and a type without a
// short name as its object identifier.
func (r *Request) Subject() Subject {
	var rdns []asn1.RawValue
	if rest, err := asn1.Unmarshal(r.subject, &rdns); err != nil || len(rest) > 0 {
		return nil // cannot happen: the subject was parsed when the request was checked
	}
	var s Subject
	for _, rdn := range rdns {
		for rest := rdn.Bytes; len(rest) > 0; {
			var pair struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue
			}
			var err error
			if rest, err = asn1.Unmarshal(rest, &pair); err != nil {
				return s
			}
			s = append(s, Attribute{Type: attributeName(pair.Type), Value: attributeText(pair.Value)})
		}
	}
	return s
}

func attributeName(oid asn1.ObjectIdentifier) string {
	dotted := oid.String()
	if name, ok := attributeNames[dotted]; ok {
		return name
	}
	return dotted
}

func attributeText(v asn1.RawValue) string {
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, asn1.TagT61String, asn1.TagBMPString:
		var s string
		if _, err := asn1.Unmarshal(v.FullBytes, &s); err == nil {
			return s
		}
		if v.Tag != asn1.TagBMPString { // characters that the type does not allow
			return latin1(v.Bytes)
		}
	}
	return "#" + hex.EncodeToString(v.FullBytes)
}

// latin1 returns text as it is if it is UTF-8, else as ISO 8859-1.
func latin1(text []byte) string {
	if utf8.Valid(text) {
		return string(text)
	}
	runes := make([]rune, len(text))
	for i, c := range text {
		runes[i] = rune(c)
	}
	return string(runes)
}

// Matches reports whether pub is the request's key. Use it to tell whether a private key belongs to the request.
func (r *Request) Matches(pub crypto.PublicKey) bool {
	info, err := publicKeyInfo(pub)
	return err == nil && bytes.Equal(info, r.info)
}

// String describes the request in a line, without its bytes: subject, kind of key, and the first digits of the key's
// SHA-256.
func (r *Request) String() string {
	if r == nil || r.der == nil {
		return "no certificate signing request"
	}
	sum := r.PublicKeySHA256()
	return fmt.Sprintf("CSR %s (%s, key sha256 %x…)", r.Subject(), r.algorithm, sum[:6])
}

// MarshalText returns the request in PEM.
func (r *Request) MarshalText() ([]byte, error) {
	if r.der == nil {
		return nil, fmt.Errorf("%w: it is empty", ErrNotCSR)
	}
	return r.pem(), nil
}

// UnmarshalText reads what [Parse] reads, with the same checks.
func (r *Request) UnmarshalText(text []byte) error {
	parsed, err := Parse(text)
	if err != nil {
		return err
	}
	*r = *parsed
	return nil
}

// Create makes a request for the signer's key, signed with SHA-256 (P-256, RSA), SHA-384 (P-384) or SHA-512 (P-521) and
// without attributes: AWS IoT does not take extensions over. The signature is verified before the request is returned.
//
// A subject out of bounds is a [*SubjectError], a key that AWS IoT does not take one of the errors of [Parse], a
// request of more than 4,096 characters an [ErrTooLong].
func Create(signer crypto.Signer, subject Subject) (*Request, error) {
	if signer == nil {
		return nil, fmt.Errorf("%w: the signer is nil", ErrKey)
	}
	name, err := subject.DER()
	if err != nil {
		return nil, err
	}
	return create(signer, name, false)
}

// create makes a request for an encoded subject. With own, the key was made here a moment ago and its signature is not
// looked at again.
func create(signer crypto.Signer, name []byte, own bool) (*Request, error) {
	public := signer.Public()
	algorithm, err := keyAlgorithm(public)
	if err != nil {
		return nil, err
	}
	info, err := publicKeyInfo(public)
	if err != nil {
		return nil, err
	}

	// CertificationRequestInfo: version 0, subject, key, and [0] for no attributes.
	content := 3 + len(name) + len(info) + 2
	tbs := make([]byte, 0, elementLen(content))
	tbs = appendHeader(tbs, tagSequence, content)
	tbs = append(tbs, tagInteger, 1, 0)
	tbs = append(tbs, name...)
	tbs = append(tbs, info...)
	tbs = append(tbs, 0xa0, 0)

	signatureAlgorithm, signature, err := sign(signer, public, tbs, own)
	if err != nil {
		return nil, err
	}
	der := signed(tbs, signatureAlgorithm, signature)
	start := len(der) - elementLen(1+len(signature)) - len(signatureAlgorithm) - len(tbs) + headerLen(content) + 3
	if err := checkLength(len(der)); err != nil {
		return nil, err
	}
	return &Request{
		der:       der,
		subject:   der[start : start+len(name)],
		info:      der[start+len(name) : start+len(name)+len(info)],
		public:    public,
		algorithm: algorithm,
	}, nil
}

// signed puts what was signed and its signature together.
func signed(tbs, algorithm, signature []byte) []byte {
	outer := len(tbs) + len(algorithm) + elementLen(1+len(signature))
	der := make([]byte, 0, elementLen(outer))
	der = appendHeader(der, tagSequence, outer)
	der = append(der, tbs...)
	der = append(der, algorithm...)
	der = appendHeader(der, tagBitString, 1+len(signature))
	der = append(der, 0)
	return append(der, signature...)
}

func checkLength(der int) error {
	if n := pemLen(requestLabel, der); n > rule.CSR {
		return fmt.Errorf("%w: it has %d characters as PEM, AWS IoT takes %d; shorten the subject or leave out attributes", ErrTooLong, n, rule.CSR)
	}
	return nil
}

// sign returns the AlgorithmIdentifier and the signature over tbs.
func sign(signer crypto.Signer, public crypto.PublicKey, tbs []byte, own bool) (algorithm, signature []byte, err error) {
	hash := crypto.SHA256
	algorithm = sha256RSASigned
	if k, ok := public.(*ecdsa.PublicKey); ok {
		curve := curveOf(k.Curve)
		hash, algorithm = curve.hash, curve.signature
	}
	digest := sum(hash, tbs)
	switch key := signer.(type) {
	case *ecdsa.PrivateKey:
		signature, err = ecdsa.SignASN1(rand.Reader, key, digest)
	case *rsa.PrivateKey:
		// Package rsa verifies each signature it makes, against faults, so there is nothing left to check.
		own = true
		signature, err = rsa.SignPKCS1v15(nil, key, hash, digest)
	default:
		signature, err = crypto.SignMessage(signer, rand.Reader, tbs, hash)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	if own {
		return algorithm, signature, nil
	}
	return algorithm, signature, verify(public, hash, digest, signature)
}

func verify(public crypto.PublicKey, hash crypto.Hash, digest, signature []byte) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(k, digest, signature) {
			return nil
		}
		if len(signature) == 2*curveOf(k.Curve).size {
			return fmt.Errorf("%w: the signer returned %d bytes, which look like r and s side by side; "+
				"wrap it so that it returns the ASN.1 form", ErrSignature, len(signature))
		}
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(k, hash, digest, signature) == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: the signer's signature does not fit its own public key; check that it holds the key that it names", ErrSignature)
}

func sum(hash crypto.Hash, data []byte) []byte {
	switch hash {
	case crypto.SHA384:
		d := sha512.Sum384(data)
		return d[:]
	case crypto.SHA512:
		d := sha512.Sum512(data)
		return d[:]
	}
	d := sha256.Sum256(data)
	return d[:]
}

// PublicKeySHA256 returns the SHA-256 of a public key's SubjectPublicKeyInfo in DER, the same as
// [Request.PublicKeySHA256] returns for the request of that key. pub is a *ecdsa.PublicKey or *rsa.PublicKey of a kind
// that AWS IoT takes, as in x509.Certificate.PublicKey or from [PrivateKey.Public].
func PublicKeySHA256(pub any) ([32]byte, error) {
	if pub == nil {
		return [32]byte{}, fmt.Errorf("%w: it is nil", ErrKey)
	}
	if s, ok := pub.(crypto.Signer); ok {
		return [32]byte{}, errors.Join(ErrKey, fmt.Errorf("%T is a private key; give its Public()", s))
	}
	info, err := publicKeyInfo(pub)
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(info), nil
}
