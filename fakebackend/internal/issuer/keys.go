package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"time"
)

// KeyedCertificate is a certificate together with the key pair that the service itself made for it.
type KeyedCertificate struct {
	Certificate
	PublicKeyPEM string
	privateKey   string
}

// PrivateKeyPEM returns the private key in the form that AWS sends it, PEM of type RSA PRIVATE KEY. Do not log it.
func (k *KeyedCertificate) PrivateKeyPEM() string { return k.privateKey }

// String names the certificate and not the key.
func (k *KeyedCertificate) String() string { return "certificate " + k.ID() + " [private key]" }

// GoString is [KeyedCertificate.String].
func (k *KeyedCertificate) GoString() string { return k.String() }

// Create makes an RSA-2048 key pair and a certificate for it with the subject CN=AWS IoT Certificate, as AWS's
// CreateKeysAndCertificate does.
func (i *Issuer) Create(now time.Time) (*KeyedCertificate, error) {
	return i.CreateUntil(now, lastSecond)
}

// CreateUntil is [Issuer.Create] with an end, in whole seconds.
func (i *Issuer) CreateUntil(now, until time.Time) (*KeyedCertificate, error) {
	n := i.issued.Add(1)
	key, err := seededRSA(i.seed, fmt.Sprintf("device key %d", n), 2048)
	if err != nil {
		return nil, fmt.Errorf("fake issuer: make a device key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("fake issuer: encode a device key: %w", err)
	}
	cert, err := i.certify(n, createdSubject, spki, now, until)
	if err != nil {
		return nil, err
	}
	return &KeyedCertificate{
		Certificate:  *cert,
		PublicKeyPEM: encodePEM("PUBLIC KEY", spki),
		privateKey:   encodePEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)),
	}, nil
}

// createdSubject is CN=AWS IoT Certificate.
var createdSubject = commonName("AWS IoT Certificate")

// commonName is a distinguished name of one common name.
func commonName(name string) []byte {
	return der(tagSequence, der(tagSet, der(tagSequence, []byte{tagOID, 3, 0x55, 0x04, 0x03}, der(tagUTF8String, []byte(name)))))
}

// The functions below derive keys from a seed. The standard library's own generators take no source of randomness any
// more; for a fake's CA the point is that a test can have the same one again.

func seededP256(seed []byte, label string) (*ecdsa.PrivateKey, error) {
	for n := range 100 {
		raw, err := hkdf.Key(sha256.New, seed, nil, fmt.Sprintf("p256 %s %d", label, n), 32)
		if err != nil {
			return nil, err
		}
		// A draw that is zero or not below the group's order is refused: one in 2^32.
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("no draw from the seed is a P-256 key")
}

func seededRSA(seed []byte, label string, bits int) (*rsa.PrivateKey, error) {
	stream, err := newKeyStream(seed, label)
	if err != nil {
		return nil, err
	}
	const e = 65537
	p, q := stream.prime(bits/2, e), stream.prime(bits/2, e)
	for p.Cmp(q) == 0 {
		q = stream.prime(bits/2, e)
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: e},
		D:         new(big.Int).ModInverse(big.NewInt(e), phi),
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	return key, key.Validate()
}

// keyStream is an endless run of octets drawn from a seed: SHA-256 over a key and a counter.
type keyStream struct {
	key [32]byte
	n   uint64
}

func newKeyStream(seed []byte, label string) (*keyStream, error) {
	raw, err := hkdf.Key(sha256.New, seed, nil, "rsa "+label, 32)
	if err != nil {
		return nil, err
	}
	return &keyStream{key: [32]byte(raw)}, nil
}

func (s *keyStream) fill(out []byte) {
	for len(out) > 0 {
		block := sha256.Sum256(binary.BigEndian.AppendUint64(s.key[:], s.n))
		s.n++
		out = out[copy(out, block[:]):]
	}
}

// prime draws numbers with their two highest bits set, so that the product of two has its full length, and steps from
// each in twos until it meets a prime whose predecessor is coprime to e.
func (s *keyStream) prime(bits int, e uint32) *big.Int {
	raw := make([]byte, bits/8)
	p, rest, two := new(big.Int), new(big.Int), big.NewInt(2)
	for {
		s.fill(raw)
		raw[0] |= 0xc0
		raw[len(raw)-1] |= 1
		p.SetBytes(raw)
		for range 1000 {
			if rest.Mod(p, big.NewInt(int64(e))).Cmp(big.NewInt(1)) != 0 && p.ProbablyPrime(10) && p.BitLen() == bits {
				return p
			}
			p.Add(p, two)
		}
	}
}
