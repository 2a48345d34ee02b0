package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync/atomic"
	"time"
)

// Names of the issuer. A name is one organisational unit: AWS's own only looks as if it had several fields.
const (
	// DefaultName tells what it is, so that nobody takes a fake certificate for a real one.
	DefaultName = "iotfleet fake AWS IoT CA, not trusted by any device"
	// AWSName is the issuer in certificates that AWS IoT makes.
	AWSName = "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US"
)

// Algorithm is the kind of key the issuer signs with.
type Algorithm string

// The issuer's keys. AWS signs with RSA-2048, for requests of every kind of key; P-256 is some twelve times faster.
const (
	P256    Algorithm = "p256"
	RSA2048 Algorithm = "rsa2048"
)

// Options are how an issuer is made. The zero value makes a P-256 issuer with a random key, named [DefaultName].
type Options struct {
	Name      string    // text of the issuer's single organisational unit; empty for DefaultName
	Algorithm Algorithm // P256 or RSA2048; empty for P256
	Seed      []byte    // the key and all serial numbers follow from it; empty for a random seed
	// Now starts the validity of the CA certificate. The zero value starts it at 1999-01-01, before the first moment
	// of a synctest bubble, so that certificates verify at any time a fake's clock is likely to show.
	Now time.Time
}

// Issuer signs device certificates. It is safe for concurrent use.
type Issuer struct {
	seed    []byte
	key     crypto.Signer
	issued  atomic.Uint64
	caPEM   []byte
	sigAlg  []byte // AlgorithmIdentifier of the signature
	name    []byte // the issuer's Name
	tail    []byte // basic constraints and key usage, the same in every certificate
	authKey []byte // the authority key identifier extension
}

// The end of every certificate AWS IoT issues.
var lastSecond = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)

// New makes an issuer with its self-signed certificate. It fails on an unknown algorithm.
func New(opts Options) (*Issuer, error) {
	if opts.Name == "" {
		opts.Name = DefaultName
	}
	if opts.Now.IsZero() {
		opts.Now = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	seed := append([]byte(nil), opts.Seed...)
	if len(seed) == 0 {
		seed = make([]byte, 32)
		rand.Read(seed)
	}
	i := &Issuer{seed: seed, name: unitName(opts.Name)}
	var err error
	switch opts.Algorithm {
	case P256, "":
		i.key, err = seededP256(seed, "issuer key")
		i.sigAlg = ecdsaWithSHA256
	case RSA2048:
		i.key, err = seededRSA(seed, "issuer key", 2048)
		i.sigAlg = rsaWithSHA256
	default:
		return nil, fmt.Errorf("fake issuer: algorithm %q is neither %q nor %q", opts.Algorithm, P256, RSA2048)
	}
	if err != nil {
		return nil, fmt.Errorf("fake issuer: make the %s key: %w", opts.Algorithm, err)
	}
	spki, err := x509.MarshalPKIXPublicKey(i.key.Public())
	if err != nil {
		return nil, fmt.Errorf("fake issuer: encode the public key: %w", err)
	}
	id := sha1.Sum(keyBits(spki))
	i.authKey = extension(oidAuthorityKeyID, false, der(tagSequence, der(tagContext0Primitive, id[:])))
	i.tail = append(extension(oidBasicConstraints, true, der(tagSequence, nil)), extension(oidKeyUsage, true, keyUsageDigitalSignature)...)

	extensions := extension(oidSubjectKeyID, false, der(tagOctetString, id[:]))
	extensions = append(extensions, extension(oidBasicConstraints, true, der(tagSequence, derTrue))...)
	extensions = append(extensions, extension(oidKeyUsage, true, keyUsageCA)...)
	raw, err := i.sign(i.serial("ca", 0), i.name, spki, opts.Now, lastSecond, extensions)
	if err != nil {
		return nil, err
	}
	if _, err := x509.ParseCertificate(raw); err != nil {
		return nil, fmt.Errorf("fake issuer: its own certificate does not parse: %w", err)
	}
	i.caPEM = []byte(EncodePEM(raw))
	return i, nil
}

// CertificatePEM returns the CA certificate as PEM. The caller may change the slice.
func (i *Issuer) CertificatePEM() []byte { return append([]byte(nil), i.caPEM...) }

// Issued is the number of certificates issued so far. With the seed it is all the state an issuer has.
func (i *Issuer) Issued() uint64 { return i.issued.Load() }

// SetIssued puts the issuer back, or forward, to the state after n certificates: for a fake that is reset or restored
// from a snapshot.
func (i *Issuer) SetIssued(n uint64) { i.issued.Store(n) }

// Certificate is a device certificate.
type Certificate struct {
	DER       []byte
	NotBefore time.Time
	NotAfter  time.Time
}

// ID returns what AWS calls certificateId: the lower-case hex SHA-256 of the DER.
func (c *Certificate) ID() string {
	sum := sha256.Sum256(c.DER)
	return hex.EncodeToString(sum[:])
}

// PEM returns the certificate as AWS writes it: lines of 64 characters and a newline at the end.
func (c *Certificate) PEM() string { return EncodePEM(c.DER) }

// Issue checks a certificate signing request and signs a certificate for its key and subject. The same request gets
// another certificate every time, as with AWS.
//
// An error is a *[Refusal] when AWS would refuse the request.
func (i *Issuer) Issue(csr string, now time.Time) (*Certificate, error) {
	request, err := parseRequest(csr)
	if err != nil {
		return nil, err
	}
	return i.certify(i.issued.Add(1), request.RawSubject, request.RawSubjectPublicKeyInfo, now, lastSecond)
}

// certify signs the nth certificate.
func (i *Issuer) certify(n uint64, subject, spki []byte, now, until time.Time) (*Certificate, error) {
	id := sha1.Sum(keyBits(spki))
	extensions := make([]byte, 0, 128)
	extensions = append(extensions, i.authKey...)
	extensions = append(extensions, extension(oidSubjectKeyID, false, der(tagOctetString, id[:]))...)
	extensions = append(extensions, i.tail...)
	from := now.UTC().Add(-120 * time.Second).Truncate(time.Second)
	raw, err := i.sign(i.serial("device", n), subject, spki, from, until, extensions)
	if err != nil {
		return nil, err
	}
	return &Certificate{DER: raw, NotBefore: from, NotAfter: until}, nil
}

// sign builds a certificate and signs it. It writes the DER itself: x509.CreateCertificate would check its own
// signature, which costs as much as making it.
func (i *Issuer) sign(serial, subject, spki []byte, from, until time.Time, extensions []byte) ([]byte, error) {
	tbs := make([]byte, 0, 256+len(i.name)+len(subject)+len(spki)+len(extensions))
	tbs = append(tbs, versionThree...)
	tbs = appendDER(tbs, tagInteger, serial)
	tbs = append(tbs, i.sigAlg...)
	tbs = append(tbs, i.name...)
	tbs = appendDER(tbs, tagSequence, derTime(from), derTime(until))
	tbs = append(tbs, subject...)
	tbs = append(tbs, spki...)
	tbs = appendDER(tbs, tagContext3, der(tagSequence, extensions))
	tbs = der(tagSequence, tbs)

	digest := sha256.Sum256(tbs)
	var signature []byte
	var err error
	switch key := i.key.(type) {
	case *ecdsa.PrivateKey:
		// Without a random source ECDSA draws its nonce from key and digest: the same seed makes the same bytes.
		signature, err = key.Sign(nil, digest[:], crypto.SHA256)
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	}
	if err != nil {
		return nil, fmt.Errorf("fake issuer: sign a certificate: %w", err)
	}
	return der(tagSequence, tbs, i.sigAlg, der(tagBitString, []byte{0}, signature)), nil
}

// serial returns a positive number of at most 159 bits, different for every certificate of one issuer. A serial number
// of 20 octets is as long as the standards allow.
func (i *Issuer) serial(kind string, n uint64) []byte {
	data := append(make([]byte, 0, 64), i.seed...)
	data = append(data, 0)
	data = append(data, kind...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(data, n))
	s := sum[:20]
	s[0] = s[0]&0x7f | 0x10 // positive, not zero, and no leading zero octets
	return s
}
