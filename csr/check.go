package csr

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/lenientx509"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
)

// outline is a request taken apart just far enough to report why it is refused, where crypto/x509 would only report
// that it does not know something.
type outline struct {
	Content struct {
		Raw     asn1.RawContent
		Version int
		Subject asn1.RawValue
		Key     struct {
			Raw       asn1.RawContent
			Algorithm algorithmOutline
			Bits      asn1.BitString
		}
		Attributes asn1.RawValue `asn1:"optional,tag:0"`
	}
	Signature algorithmOutline
	Bits      asn1.BitString
}

type algorithmOutline struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

// checker checks a request in DER. With lenient it notes what it would refuse, as long as the key can be read and the
// signature be verified.
type checker struct {
	lenient bool
	notes   []string
}

// refuse returns the error, or notes it.
func (c *checker) refuse(err error) error {
	if err == nil || !c.lenient {
		return err
	}
	c.notes = append(c.notes, err.Error())
	return nil
}

func (c *checker) check(der []byte) (*Request, error) {
	var o outline
	rest, err := asn1.Unmarshal(der, &o)
	if err != nil {
		return nil, whatElse(der)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after its last; cut them off", ErrTrailing, len(rest))
	}
	if err := checkLength(len(der)); err != nil {
		return nil, err
	}
	if err := checkKeyKind(o.Content.Key.Algorithm); err != nil {
		return nil, err
	}
	if err := c.refuse(checkSignatureKind(o.Signature)); err != nil {
		return nil, err
	}
	parsed, odd, err := lenientx509.Request(der)
	if err != nil {
		detail := "" // encoding/asn1 speaks of Go's types, which helps nobody
		if text, ok := strings.CutPrefix(err.Error(), "x509: "); ok {
			detail = " (" + text + ")"
		}
		return nil, notCSR("its subject, key or attributes are damaged%s", detail)
	}
	algorithm, err := keyAlgorithm(parsed.PublicKey)
	if err != nil {
		return nil, err
	}
	for _, oddity := range odd {
		switch {
		case !oddity.Broken || c.lenient:
			c.notes = append(c.notes, oddity.Text)
		case oddity.Text == lenientx509.CompressedPoint:
			return nil, fmt.Errorf("%w: %s; make the request with the whole point (openssl ec -conv_form uncompressed)", ErrKey, oddity.Text)
		default:
			return nil, notCSR("%s", oddity.Text)
		}
	}
	if err := c.verify(parsed, o.Signature); err != nil {
		return nil, err
	}
	info, err := publicKeyInfo(parsed.PublicKey)
	if err != nil {
		return nil, err
	}
	if len(odd) == 0 && !bytes.Equal(info, parsed.RawSubjectPublicKeyInfo) {
		return nil, fmt.Errorf("%w: it is not encoded in DER as it should be", ErrKey)
	}
	return &Request{der: der, info: info, subject: parsed.RawSubject, public: parsed.PublicKey, algorithm: algorithm, notes: c.notes}, nil
}

// checkKeyKind refuses keys by their object identifier and form, before anything tries to read them.
func checkKeyKind(a algorithmOutline) error {
	switch a.Algorithm.String() {
	case "1.2.840.113549.1.1.1": // rsaEncryption
		return nil
	case "1.3.101.112":
		return fmt.Errorf("%w: it is Ed25519; %s", ErrKey, keyAdvice)
	case "1.2.840.10045.2.1": // id-ecPublicKey
	default:
		return fmt.Errorf("%w: a key of kind %s; %s", ErrKey, objectName(a.Algorithm), keyAdvice)
	}
	var curve asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(a.Parameters.FullBytes, &curve); err != nil || len(rest) > 0 {
		return fmt.Errorf("%w: its curve is spelled out in place of being named; %s", ErrKey, curveAdvice)
	}
	switch curve.String() {
	case "1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35":
		return nil
	}
	return fmt.Errorf("%w: it is on %s; %s", ErrKey, objectName(curve), curveAdvice)
}

// objectName names what people make keys with, and returns the number of the rest.
func objectName(oid asn1.ObjectIdentifier) string {
	switch dotted := oid.String(); dotted {
	case "1.3.132.0.10":
		return "secp256k1"
	case "1.3.132.0.33":
		return "P-224"
	case "1.2.840.10045.3.1.1":
		return "P-192"
	case "1.3.36.3.3.2.8.1.1.7":
		return "brainpoolP256r1"
	case "1.3.36.3.3.2.8.1.1.11":
		return "brainpoolP384r1"
	case "1.3.36.3.3.2.8.1.1.13":
		return "brainpoolP512r1"
	case "1.2.156.10197.1.301":
		return "SM2"
	case "1.3.101.110":
		return "X25519"
	case "1.3.101.111":
		return "X448"
	case "1.3.101.113":
		return "Ed448"
	case "1.2.840.10040.4.1":
		return "DSA"
	case oidPSS:
		return "RSASSA-PSS"
	default:
		return dotted
	}
}

func notCSR(format string, args ...any) error { return requestForm.not(format, args...) }

// whatElse reports what DER that is no request is. The bytes themselves are never part of it.
func whatElse(der []byte) error {
	if _, err := x509.ParseCertificate(der); err == nil {
		return fmt.Errorf("%w; hand in the request that was made for the device's key", ErrCertificate)
	}
	if privatekey.IsDER(der) {
		return fmt.Errorf("%w; hand in the request alone, and treat that key as exposed", ErrPrivateKey)
	}
	if _, err := x509.ParsePKIXPublicKey(der); err == nil {
		return notCSR(publicKeyText)
	}
	if want, ok := announcedLen(der); ok && want > len(der) {
		return notCSR("it was cut short: %d bytes of %d are there", len(der), want)
	}
	return notCSR("the bytes are no PKCS #10 request; it was damaged, or is something else")
}

// announcedLen returns the whole length of a DER element according to its header.
func announcedLen(der []byte) (int, bool) {
	if len(der) < 2 {
		return 0, false
	}
	n := int(der[1])
	if n < 0x80 {
		return 2 + n, true
	}
	size := n & 0x7f
	if size == 0 || size > 3 || len(der) < 2+size {
		return 0, false
	}
	n = 0
	for _, b := range der[2 : 2+size] {
		n = n<<8 | int(b)
	}
	return 2 + size + n, true
}
