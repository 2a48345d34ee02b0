package csr

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Algorithm names a kind of key that AWS IoT takes. The zero value means [P256].
type Algorithm string

// The algorithms keys are made with. P-256 is the default: making a key and signing a request takes tens of
// microseconds, where an RSA-2048 key takes tens of milliseconds and an RSA-4096 key the better part of a second, and
// every later TLS handshake of the device costs accordingly.
const (
	P256    Algorithm = "p256"    // elliptic curve NIST P-256, signed with SHA-256
	P384    Algorithm = "p384"    // elliptic curve NIST P-384, signed with SHA-384
	P521    Algorithm = "p521"    // elliptic curve NIST P-521, signed with SHA-512
	RSA2048 Algorithm = "rsa2048" // RSA with 2,048 bits, signed with SHA-256
	RSA3072 Algorithm = "rsa3072" // RSA with 3,072 bits, signed with SHA-256
	RSA4096 Algorithm = "rsa4096" // RSA with 4,096 bits, signed with SHA-256
)

// ErrAlgorithm: the name of an algorithm is not one of [Algorithms].
var ErrAlgorithm = errors.New("unknown key algorithm")

var algorithms = []Algorithm{P256, P384, P521, RSA2048, RSA3072, RSA4096}

// Algorithms lists the algorithms [Software] makes keys with, the default first.
func Algorithms() []Algorithm { return slices.Clone(algorithms) }

// ParseAlgorithm finds an algorithm by name: "p256", and also the spellings of other tools such as "P-256",
// "prime256v1", "EC_prime256v1", "RSA_2048" or "rsa:2048", in any case. The empty string means [P256]. An unknown name
// is an [ErrAlgorithm].
func ParseAlgorithm(name string) (Algorithm, error) {
	plain := strings.NewReplacer("-", "", "_", "", ":", "", " ", "").Replace(strings.ToLower(name))
	switch plain {
	case "", "p256", "prime256v1", "ecprime256v1", "secp256r1", "ecsecp256r1", "ecp256", "ecdsap256", "ec256", "nistp256":
		return P256, nil
	case "p384", "secp384r1", "ecsecp384r1", "ecp384", "ecdsap384", "ec384", "nistp384":
		return P384, nil
	case "p521", "secp521r1", "ecsecp521r1", "ecp521", "ecdsap521", "ec521", "nistp521":
		return P521, nil
	}
	if alg := Algorithm(plain); slices.Contains(algorithms, alg) {
		return alg, nil
	}
	return "", unknownAlgorithm(name)
}

// Check returns an [ErrAlgorithm] unless the algorithm is one of [Algorithms] or empty.
func (a Algorithm) Check() error {
	if a == "" || slices.Contains(algorithms, a) {
		return nil
	}
	return unknownAlgorithm(string(a))
}

func unknownAlgorithm(name string) error {
	return fmt.Errorf("%w %s; use one of p256, p384, p521, rsa2048, rsa3072, rsa4096", ErrAlgorithm, strconv.QuoteToASCII(cut(name, 40)))
}

// generate makes a new key.
func (a Algorithm) generate() (crypto.Signer, error) {
	switch a {
	case P256, "":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, unknownAlgorithm(string(a))
}

// keyAlgorithm names the algorithm of a public key, or returns why AWS IoT does not take it.
func keyAlgorithm(pub crypto.PublicKey) (Algorithm, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k == nil || k.Curve == nil {
			return "", fmt.Errorf("%w: it is empty", ErrKey)
		}
		switch k.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P384():
			return P384, nil
		case elliptic.P521():
			return P521, nil
		}
		return "", fmt.Errorf("%w: it is on %s; %s", ErrKey, curveName(k.Curve), curveAdvice)
	case *rsa.PublicKey:
		if k == nil || k.N == nil {
			return "", fmt.Errorf("%w: it is empty", ErrKey)
		}
		if bits := k.N.BitLen(); bits < minRSABits {
			return "", fmt.Errorf("%w: it is RSA of %d bits, AWS IoT takes %d at least; make a new key", ErrKey, bits, minRSABits)
		}
		return Algorithm("rsa" + strconv.Itoa(k.N.BitLen())), nil
	case ed25519.PublicKey:
		return "", fmt.Errorf("%w: it is Ed25519; %s", ErrKey, keyAdvice)
	}
	return "", fmt.Errorf("%w: a key of type %T; %s", ErrKey, pub, keyAdvice)
}

const (
	minRSABits  = 2048
	curveAdvice = "make the key on P-256 (prime256v1), P-384 or P-521"
	keyAdvice   = "AWS IoT takes P-256, P-384, P-521, and RSA of at least 2,048 bits"
)

func curveName(c elliptic.Curve) string {
	if p := c.Params(); p != nil && p.Name != "" {
		return p.Name
	}
	return "an unnamed curve"
}

// cut shortens a text for an error message to at most n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
