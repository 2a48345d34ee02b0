package csr

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
)

// The DER of requests is put together by hand, because x509.CreateCertificateRequest verifies the signature that it has
// just made: with it a P-256 device takes 2.9 times what its key and signature take, instead of 1.1 times
// (docs/performance.md). Tests hold every byte against crypto/x509. PEM and private keys on a curve are written by hand
// for the same reason: crypto/x509 would add 0.1 to that for a key.

const (
	tagInteger     = 0x02
	tagBitString   = 0x03
	tagOctetString = 0x04
	tagOID         = 0x06
	tagUTF8        = 0x0c
	tagPrintable   = 0x13
	tagIA5         = 0x16
	tagSequence    = 0x30
	tagSet         = 0x31
)

// headerLen is the number of bytes of tag and length before n bytes of content.
func headerLen(n int) int {
	switch {
	case n < 0x80:
		return 2
	case n <= 0xff:
		return 3
	case n <= 0xffff:
		return 4
	}
	return 5
}

func appendHeader(b []byte, tag byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(b, tag, byte(n))
	case n <= 0xff:
		return append(b, tag, 0x81, byte(n))
	case n <= 0xffff:
		return append(b, tag, 0x82, byte(n>>8), byte(n))
	}
	return append(b, tag, 0x83, byte(n>>16), byte(n>>8), byte(n))
}

// elementLen is the length of an element with n bytes of content.
func elementLen(n int) int { return headerLen(n) + n }

// curveDER holds what DER needs to know of a curve.
type curveDER struct {
	algorithm []byte // AlgorithmIdentifier of a public key: id-ecPublicKey and the curve's OID
	signature []byte // AlgorithmIdentifier of its signatures
	hash      crypto.Hash
	size      int // bytes of a scalar
}

var (
	p256DER = &curveDER{
		algorithm: []byte{tagSequence, 0x13, tagOID, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, tagOID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7},
		signature: []byte{tagSequence, 0x0a, tagOID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2},
		hash:      crypto.SHA256,
		size:      32,
	}
	p384DER = &curveDER{
		algorithm: []byte{tagSequence, 0x10, tagOID, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, tagOID, 5, 0x2b, 0x81, 0x04, 0, 0x22},
		signature: []byte{tagSequence, 0x0a, tagOID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3},
		hash:      crypto.SHA384,
		size:      48,
	}
	p521DER = &curveDER{
		algorithm: []byte{tagSequence, 0x10, tagOID, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, tagOID, 5, 0x2b, 0x81, 0x04, 0, 0x23},
		signature: []byte{tagSequence, 0x0a, tagOID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4},
		hash:      crypto.SHA512,
		size:      66,
	}
	rsaAlgorithm    = []byte{tagSequence, 0x0d, tagOID, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0}
	sha256RSASigned = []byte{tagSequence, 0x0d, tagOID, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0}
)

// curveOf returns nil for a curve AWS IoT does not take.
func curveOf(c elliptic.Curve) *curveDER {
	switch c {
	case elliptic.P256():
		return p256DER
	case elliptic.P384():
		return p384DER
	case elliptic.P521():
		return p521DER
	}
	return nil
}

// publicKeyInfo encodes a public key of one of the supported kinds as SubjectPublicKeyInfo.
func publicKeyInfo(pub crypto.PublicKey) ([]byte, error) {
	if _, err := keyAlgorithm(pub); err != nil {
		return nil, err
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil, fmt.Errorf("%w: the point is not on its curve", ErrKey)
		}
		return wrapPublicKey(curveOf(k.Curve).algorithm, point), nil
	case *rsa.PublicKey:
		if k.N.Sign() <= 0 || k.E <= 0 {
			return nil, fmt.Errorf("%w: the RSA modulus or exponent is not positive", ErrKey)
		}
		return rsaKeyInfo(k), nil
	}
	return nil, ErrKey
}

// ecPKCS8 encodes a private key on a curve as PKCS #8, with its public key, as crypto/x509 does.
func ecPKCS8(k *ecdsa.PrivateKey) ([]byte, error) {
	scalar, err := k.Bytes()
	if err != nil {
		return nil, err
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	bits := elementLen(1 + len(point))
	inner := 3 + elementLen(len(scalar)) + elementLen(bits)
	algorithm := curveOf(k.Curve).algorithm
	content := 3 + len(algorithm) + elementLen(elementLen(inner))

	b := appendHeader(make([]byte, 0, elementLen(content)), tagSequence, content)
	b = append(b, tagInteger, 1, 0)
	b = append(b, algorithm...)
	b = appendHeader(b, tagOctetString, elementLen(inner))
	b = appendHeader(b, tagSequence, inner) // ECPrivateKey
	b = append(b, tagInteger, 1, 1)
	b = append(appendHeader(b, tagOctetString, len(scalar)), scalar...)
	clear(scalar)
	b = appendHeader(b, 0xa1, bits)
	b = append(appendHeader(b, tagBitString, 1+len(point)), 0)
	return append(b, point...), nil
}

func rsaKeyInfo(k *rsa.PublicKey) []byte {
	return wrapPublicKey(rsaAlgorithm, x509.MarshalPKCS1PublicKey(k))
}

func wrapPublicKey(algorithm, key []byte) []byte {
	content := len(algorithm) + elementLen(1+len(key))
	b := make([]byte, 0, elementLen(content))
	b = appendHeader(b, tagSequence, content)
	b = append(b, algorithm...)
	b = appendHeader(b, tagBitString, 1+len(key))
	b = append(b, 0) // no unused bits
	return append(b, key...)
}

const pemLine = 64 // characters of base64 in a line

// pemLen is the number of bytes appendPEM writes for n bytes of DER.
func pemLen(label string, n int) int {
	body := base64.StdEncoding.EncodedLen(n)
	return 2*len(label) + len("-----BEGIN -----\n-----END -----\n") + body + (body+pemLine-1)/pemLine
}

// appendPEM writes a PEM block with lines of 64 characters and a newline at its end.
func appendPEM(b []byte, label string, der []byte) []byte {
	b = append(b, "-----BEGIN "...)
	b = append(b, label...)
	b = append(b, "-----\n"...)
	const chunk = pemLine / 4 * 3
	for len(der) > 0 {
		n := min(chunk, len(der))
		b = base64.StdEncoding.AppendEncode(b, der[:n])
		b = append(b, '\n')
		der = der[n:]
	}
	b = append(b, "-----END "...)
	b = append(b, label...)
	return append(b, "-----\n"...)
}
