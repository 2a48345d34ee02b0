package csr

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// ErrCA: a certificate can't issue certificates of devices, or its key can't. [NewCA] wraps it with what is wrong and what
// to do.
var ErrCA = errors.New("CA not usable")

// Profile is what the certificates of a [CA] have in common. Its zero value is right for devices of AWS IoT, except that
// Validity is required.
type Profile struct {
	// Validity is how long certificates are valid from the call of [NewCA] on. It must end before the CA's certificate does.
	Validity time.Duration
	// Backdate is how long before that call they begin to be valid, for devices whose clocks are slow. 0 means one hour. They
	// never begin before the CA's own certificate.
	Backdate time.Duration
	// KeyUsage is what the keys are for. 0 means digitalSignature, and with RSA keys keyEncipherment, too.
	KeyUsage x509.KeyUsage
	// ExtKeyUsage is clientAuth if it is nil. An empty list that is not nil leaves the extension out.
	ExtKeyUsage []x509.ExtKeyUsage
}

// CA issues the certificates of devices, with a certificate and key of the user's own. It is for one run: all its
// certificates are valid for the same time, which was fixed and checked when it was made. It is safe for concurrent use
// as far as its signer is.
type CA struct {
	certificate *x509.Certificate
	signer      crypto.Signer
	public      crypto.PublicKey
	info        []byte // SubjectPublicKeyInfo of its key
	verify      bool   // the signer is no key of this process: each signature is verified
	notAfter    time.Time

	algorithm  []byte    // AlgorithmIdentifier of its signatures
	fixed      []byte    // of each certificate: algorithm, issuer and validity
	extensions [2][]byte // the first extensions of each, for keys on curves and for RSA keys
	authority  []byte    // the last one: authorityKeyIdentifier
}

// NewCA makes a CA of its certificate and its key: a key in this process, or any signer, of an HSM or a KMS for instance.
// Signatures of the latter are verified before they are used.
//
// It signs once to make sure that the key is the certificate's. Besides, these are an [ErrCA]: a certificate that is no
// CA's (basic constraints, key usage certSign, extended key usage), that has critical extensions which are not
// understood here, that is not valid yet or no longer, or that ends before what it issues would; and a key that AWS IoT
// does not take for a CA, such as Ed25519, which is an [ErrKey], too.
func NewCA(certificate *x509.Certificate, signer crypto.Signer, profile Profile) (*CA, error) {
	if certificate == nil || signer == nil {
		return nil, fmt.Errorf("%w: its certificate and its signer are needed", ErrCA)
	}
	now := time.Now()
	c := &CA{certificate: certificate, signer: signer, public: certificate.PublicKey}
	if err := c.checkCertificate(now); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCA, rule.Quote(certificate.Subject.String()), err)
	}
	validity, err := c.validity(now, profile)
	if err == nil {
		err = c.checkKey()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCA, rule.Quote(certificate.Subject.String()), err)
	}
	c.fixed = slices.Concat(c.algorithm, certificate.RawSubject, validity)
	extended, err := extKeyUsage(profile.ExtKeyUsage)
	if err != nil {
		return nil, fmt.Errorf("the profile: %w", err)
	}
	for i, usage := range []x509.KeyUsage{x509.KeyUsageDigitalSignature, x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment} {
		c.extensions[i] = slices.Concat(endEntity, extension(oidKeyUsage, true, keyUsageBits(cmp.Or(profile.KeyUsage, usage))), extended)
	}
	if c.info, err = publicKeyInfo(c.public); err != nil {
		return nil, err
	}
	authority := certificate.SubjectKeyId
	if len(authority) == 0 {
		id := keyID(c.info)
		authority = id[:]
	}
	c.authority = extension(oidAuthorityKeyID, false, wrap(tagSequence, wrap(0x80, authority)))
	return c, nil
}

// checkCertificate refuses a certificate that can't issue those of devices now.
func (c *CA) checkCertificate(now time.Time) error {
	cert := c.certificate
	clientAuth := len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 ||
		slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) || slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return errors.New("the certificate is no CA's: its basic constraints do not have CA:TRUE; make it with basicConstraints=critical,CA:TRUE")
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("its key usage does not allow to sign certificates; make it with keyUsage=critical,keyCertSign,cRLSign")
	case !clientAuth:
		return errors.New("its extended key usage does not allow certificates for clientAuth; make it without extendedKeyUsage")
	case len(cert.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("it has critical extensions that are not understood here (%v), such as constraints on directory names, and may not "+
			"issue what they forbid; take a CA without them", cert.UnhandledCriticalExtensions)
	case len(cert.Subject.Names) == 0:
		return errors.New("its subject is empty, and would be the issuer of each certificate")
	case now.Before(cert.NotBefore):
		return fmt.Errorf("it is not valid before %s, and it is %s by this machine's clock", stampOf(cert.NotBefore), stampOf(now))
	case now.After(cert.NotAfter):
		return fmt.Errorf("it expired at %s; it is %s by this machine's clock", stampOf(cert.NotAfter), stampOf(now))
	}
	return nil
}

// validity encodes for how long certificates are valid.
func (c *CA) validity(now time.Time, p Profile) ([]byte, error) {
	if p.Validity <= 0 || p.Backdate < 0 {
		return nil, fmt.Errorf("Profile.Validity is %s and Backdate %s; how long certificates are valid is needed", p.Validity, p.Backdate)
	}
	// To the second, as certificates have it.
	begin, end := now.Add(-cmp.Or(p.Backdate, time.Hour)).UTC().Truncate(time.Second), now.Add(p.Validity).UTC().Truncate(time.Second)
	if begin.Before(c.certificate.NotBefore) {
		begin = c.certificate.NotBefore
	}
	if end.After(c.certificate.NotAfter) {
		return nil, fmt.Errorf("it ends at %s, before the certificates that it would issue, at %s; shorten Profile.Validity, or have the CA renewed",
			stampOf(c.certificate.NotAfter), stampOf(end))
	}
	c.notAfter = end
	return wrap(tagSequence, appendTime(nil, begin), appendTime(nil, end)), nil
}

func stampOf(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// checkKey makes sure that the signer has the certificate's key, of a kind that AWS IoT takes for a CA.
func (c *CA) checkKey() error {
	if _, err := keyAlgorithm(c.public); err != nil {
		return err
	}
	if k, ok := c.public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(c.signer.Public()) {
		return errors.New("the key is not the certificate's; give the key that the CA's certificate was made with")
	}
	switch c.signer.(type) {
	case *ecdsa.PrivateKey, *rsa.PrivateKey:
	default:
		c.verify = true
	}
	var err error
	c.algorithm, err = trial(c.signer, c.public)
	return err
}

// holdsKey returns an error unless the signer signs with the key that it names. In a request its signature proves that.
func holdsKey(signer crypto.Signer) error {
	public := signer.Public()
	_, err := keyAlgorithm(public)
	if err == nil {
		_, err = trial(signer, public)
	}
	return err
}

// trial signs something that is neither a request nor a certificate, and returns the AlgorithmIdentifier.
func trial(signer crypto.Signer, public crypto.PublicKey) ([]byte, error) {
	algorithm, _, err := sign(signer, public, []byte("iotfleet: does the signer hold the key that it names?"), false)
	return algorithm, err
}

// Certificate returns the CA's own certificate, which must not be changed.
func (c *CA) Certificate() *x509.Certificate { return c.certificate }

// PEM returns the CA's own certificate in PEM.
func (c *CA) PEM() string { return encodePEM(c.certificate.Raw) }

// NotAfter is when the certificates that it issues end.
func (c *CA) NotAfter() time.Time { return c.notAfter }

// Issue issues a certificate for a device's public key and returns it in PEM. It has a random serial number of 126 bits,
// basic constraints CA:FALSE, the profile's key usages, and the identifiers of its own and the CA's key.
//
// A subject out of bounds, or an empty one, is a [*SubjectError], a key that AWS IoT does not take an [ErrKey].
func (c *CA) Issue(public crypto.PublicKey, subject Subject) (certificatePEM string, err error) {
	name, err := subject.DER()
	if err != nil {
		return "", err
	}
	return c.issue(public, name)
}

// VerificationCertificate returns a certificate in PEM that proves to AWS IoT that the caller has the CA's key: its common
// name is the account's registration code (GetRegistrationCode). Its own key is thrown away.
func (c *CA) VerificationCertificate(registrationCode string) (string, error) {
	key, err := P256.generate()
	if err != nil {
		return "", err
	}
	return c.Issue(key.Public(), CommonName(registrationCode))
}

// Check returns an [ErrCA] unless the CA's key has signed a certificate, given in PEM: unless this CA may have issued it.
func (c *CA) Check(certificatePEM string) error {
	certs, err := ParseCertificates([]byte(certificatePEM))
	if err != nil {
		return err
	}
	if err := certs[0].CheckSignatureFrom(c.certificate); err != nil {
		return fmt.Errorf("%w: it did not issue the certificate of %s (%w); give the CA that did",
			ErrCA, rule.Quote(certs[0].Subject.String()), err)
	}
	return nil
}

// issue issues a certificate for an encoded subject.
func (c *CA) issue(public crypto.PublicKey, name []byte) (string, error) {
	info, err := publicKeyInfo(public)
	if err != nil {
		return "", err
	}
	if bytes.Equal(info, c.info) {
		return "", fmt.Errorf("%w: it is the CA's own; a device needs another", ErrKey)
	}
	extensions := c.extensions[0]
	if _, ok := public.(*rsa.PublicKey); ok {
		extensions = c.extensions[1]
	}
	id := keyID(info)

	list := len(extensions) + len(subjectKeyID) + len(id) + len(c.authority)
	content := len(version3) + serialLen + len(c.fixed) + len(name) + len(info) + elementLen(elementLen(list))
	tbs := appendHeader(make([]byte, 0, elementLen(content)), tagSequence, content)
	tbs = append(tbs, version3...)
	tbs = appendSerial(tbs)
	tbs = append(tbs, c.fixed...)
	tbs = append(tbs, name...)
	tbs = append(tbs, info...)
	tbs = appendHeader(tbs, tagExtensions, elementLen(list))
	tbs = appendHeader(tbs, tagSequence, list)
	tbs = append(tbs, extensions...)
	tbs = append(append(tbs, subjectKeyID...), id[:]...)
	tbs = append(tbs, c.authority...)

	_, signature, err := sign(c.signer, c.public, tbs, !c.verify)
	if err != nil {
		return "", fmt.Errorf("the CA: %w", err)
	}
	return encodePEM(signed(tbs, c.algorithm, signature)), nil
}

const serialLen = 2 + 16

// appendSerial appends a random INTEGER of 16 bytes, positive and without leading zeros.
func appendSerial(b []byte) []byte {
	var serial [serialLen]byte
	rand.Read(serial[2:]) // never fails
	serial[0], serial[1] = tagInteger, serialLen-2
	serial[2] = serial[2]&0x3f | 0x40
	return append(b, serial[:]...)
}

// keyID returns the identifier of a key given by its SubjectPublicKeyInfo: method 1 of RFC 7093, as crypto/x509 has it.
func keyID(info []byte) (id [20]byte) {
	content, _ := element(info, tagSequence)
	_, rest := element(content, tagSequence)
	bits, _ := element(rest, tagBitString)
	sum := sha256.Sum256(bits[1:])
	copy(id[:], sum[:])
	return id
}
