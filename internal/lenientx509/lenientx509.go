// Package lenientx509 reads certificates and certificate signing requests that crypto/x509 refuses for the form of their
// encoding alone, where the meaning is plain: generators in secure elements, in Java and in vendors' tools make them, and
// other readers take them.
//
// A copy with the odd places replaced is given to crypto/x509, and the result then gets its original bytes back. So
// CheckSignature, CheckSignatureFrom and Equal are about the bytes as they were handed in. Nothing here verifies a
// signature.
package lenientx509

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"
)

// Oddity is one thing that crypto/x509 would refuse.
type Oddity struct {
	Text string // what it is, such as `its subject has "_" in a PrintableString`
	// Broken marks what most other readers refuse, too: a control character in a name, a UTF8String that is none, a
	// compressed point, extensions that can't be read. A version that does not exist is one, though crypto/x509 takes it.
	Broken bool
}

// CompressedPoint is the text of the oddity of a key whose point is compressed.
const CompressedPoint = "its point is compressed"

// Request reads a certificate signing request in DER. odd is empty if crypto/x509 reads it as it is. An error is that of
// crypto/x509.
func Request(der []byte) (request *x509.CertificateRequest, odd []Oddity, err error) {
	m := mender{}
	if request, err = x509.ParseCertificateRequest(der); err == nil {
		m.version(request)
		return request, m.odd, nil
	}
	var outer, tbs []asn1.RawValue
	if outer = children(der); len(outer) != 3 {
		return nil, nil, err
	}
	if tbs = children(outer[0].FullBytes); len(tbs) < 3 || len(tbs) > 4 {
		return nil, nil, err
	}
	subject, key := m.name("subject", tbs[1]), m.key(tbs[2])
	attributes := noAttributes
	if len(tbs) == 4 {
		attributes = tbs[3].FullBytes
	} else {
		m.note("it has no field of attributes, which must be there even if it is empty")
	}
	build := func(attributes []byte) (*x509.CertificateRequest, error) {
		return x509.ParseCertificateRequest(sequence(sequence(tbs[0].FullBytes, subject, key, attributes), outer[1].FullBytes, outer[2].FullBytes))
	}
	mended, again := build(attributes)
	if again != nil && len(tbs) == 4 && tbs[3].Class == asn1.ClassContextSpecific && tbs[3].Tag == 0 && tbs[3].IsCompound {
		if mended, again = build(noAttributes); again == nil {
			m.note("its attributes are not as they should be (%s); AWS IoT takes none over", strings.TrimPrefix(err.Error(), "x509: "))
		}
	}
	if again != nil || len(m.odd) == 0 {
		return nil, nil, err
	}
	m.version(mended)
	mended.Raw, mended.RawTBSCertificateRequest = bytes.Clone(der), bytes.Clone(outer[0].FullBytes)
	mended.RawSubject, mended.RawSubjectPublicKeyInfo = bytes.Clone(tbs[1].FullBytes), bytes.Clone(tbs[2].FullBytes)
	return mended, m.odd, nil
}

// Certificate reads a certificate in DER. odd is empty if crypto/x509 reads it as it is. An error is that of crypto/x509.
func Certificate(der []byte) (cert *x509.Certificate, odd []Oddity, err error) {
	if cert, err = x509.ParseCertificate(der); err == nil {
		return cert, nil, nil
	}
	outer := children(der)
	if len(outer) != 3 {
		return nil, nil, err
	}
	all := children(outer[0].FullBytes)
	tbs := all
	if len(tbs) > 0 && tbs[0].Class == asn1.ClassContextSpecific && tbs[0].Tag == 0 {
		tbs = tbs[1:]
	}
	if len(tbs) < 6 {
		return nil, nil, err
	}
	m := mender{}
	parts := make([][]byte, 0, len(all))
	for _, v := range all {
		parts = append(parts, v.FullBytes)
	}
	own := parts[len(all)-len(tbs):]
	var serial *big.Int
	own[0], serial = m.serial(tbs[0])
	own[2], own[4], own[5] = m.name("issuer", tbs[2]), m.name("subject", tbs[4]), m.key(tbs[5])
	build := func() (*x509.Certificate, error) {
		return x509.ParseCertificate(sequence(sequence(parts...), outer[1].FullBytes, outer[2].FullBytes))
	}
	mended, again := build()
	if again != nil && len(tbs) > 6 {
		parts = parts[:len(all)-len(tbs)+6]
		if mended, again = build(); again == nil {
			m.broken("its extensions are not as they should be (%s)", strings.TrimPrefix(err.Error(), "x509: "))
		}
	}
	if again != nil || len(m.odd) == 0 {
		return nil, nil, err
	}
	mended.Raw, mended.RawTBSCertificate = bytes.Clone(der), bytes.Clone(outer[0].FullBytes)
	mended.RawIssuer, mended.RawSubject = bytes.Clone(tbs[2].FullBytes), bytes.Clone(tbs[4].FullBytes)
	mended.RawSubjectPublicKeyInfo, mended.SerialNumber = bytes.Clone(tbs[5].FullBytes), serial
	return mended, m.odd, nil
}

var noAttributes = []byte{0xa0, 0}

// children returns the elements of a constructed one that is all of der, nil if it is not well formed.
func children(der []byte) []asn1.RawValue {
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 || !outer.IsCompound {
		return nil
	}
	var list []asn1.RawValue
	for rest := outer.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			return nil
		}
		list = append(list, v)
	}
	return list
}

func sequence(parts ...[]byte) []byte {
	der, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: slices.Concat(parts...)})
	if err != nil {
		return nil // cannot happen; crypto/x509 would refuse it
	}
	return der
}

// mender replaces odd places, and notes them.
type mender struct{ odd []Oddity }

func (m *mender) note(format string, args ...any) {
	m.odd = append(m.odd, Oddity{Text: fmt.Sprintf(format, args...)})
}

func (m *mender) broken(format string, args ...any) {
	m.odd = append(m.odd, Oddity{fmt.Sprintf(format, args...), true})
}

// version notes one that no request has.
func (m *mender) version(r *x509.CertificateRequest) {
	if r.Version != 0 {
		m.broken("its version is %d, there is only version 0", r.Version)
	}
}

// serial replaces a serial number that is negative, or longer than it needs to be.
func (m *mender) serial(v asn1.RawValue) ([]byte, *big.Int) {
	b := v.Bytes
	if v.Tag != asn1.TagInteger || len(b) == 0 {
		return v.FullBytes, nil
	}
	n := new(big.Int).SetBytes(b)
	switch {
	case len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80):
		m.note("its serial number has more bytes than it needs")
	case b[0] < 0x80:
		return v.FullBytes, n
	default:
		m.note("its serial number is negative")
	}
	if b[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	whole := bytes.Clone(v.FullBytes)
	whole[len(whole)-len(b)] = 1
	return whole, n
}

// name gives strings of a Name that hold what their type does not allow a type that allows every byte.
func (m *mender) name(which string, v asn1.RawValue) []byte {
	whole := bytes.Clone(v.FullBytes)
	for _, rdn := range children(whole) {
		for _, attribute := range children(rdn.FullBytes) {
			if pair := children(attribute.FullBytes); len(pair) == 2 {
				m.text(which, pair[1])
			}
		}
	}
	return whole
}

// stringTypes are the types of strings that not every byte belongs in.
var stringTypes = map[int]string{
	asn1.TagPrintableString: "a PrintableString", asn1.TagIA5String: "an IA5String",
	asn1.TagNumericString: "a NumericString", asn1.TagUTF8String: "a UTF8String",
}

func (m *mender) text(which string, v asn1.RawValue) {
	name, ok := stringTypes[v.Tag]
	if !ok || v.Class != asn1.ClassUniversal || v.IsCompound {
		return
	}
	var odd, broken []string
	for s := string(v.Bytes); s != ""; {
		r, n := utf8.DecodeRuneInString(s)
		c := fmt.Sprintf("%q", s[:n])
		if r == utf8.RuneError && n == 1 {
			c = fmt.Sprintf("the byte %#x", s[0])
		}
		list := &odd
		switch {
		case r < ' ' || r == 0x7f:
			list, c = &broken, fmt.Sprintf("the control character %U", r)
		case v.Tag == asn1.TagUTF8String:
			list = &broken
		}
		if !allowed(v.Tag, r, n) && !slices.Contains(*list, c) {
			*list = append(*list, c)
		}
		s = s[n:]
	}
	if len(odd)+len(broken) == 0 {
		return
	}
	if len(odd) > 0 {
		m.note("its %s has %s in %s", which, enumerate(odd), name)
	}
	if len(broken) > 0 {
		m.broken("its %s has %s in %s", which, enumerate(broken), name)
	}
	v.FullBytes[0] = asn1.TagT61String // a part of the copy
}

// allowed reports whether a string of a type may hold a character, as crypto/x509 sees it: it lets * and & pass.
func allowed(tag int, r rune, n int) bool {
	switch tag {
	case asn1.TagPrintableString:
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(" '()+,-./:=?*&", r)
	case asn1.TagIA5String:
		return r < 0x80
	case asn1.TagNumericString:
		return '0' <= r && r <= '9' || r == ' '
	}
	return r != utf8.RuneError || n > 1
}

// enumerate joins the first few.
func enumerate(list []string) string {
	if len(list) > 4 {
		return strings.Join(list[:4], ", ") + " and others"
	}
	return strings.Join(list, ", ")
}

var (
	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEC  = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
)

// curves are by the DER of their object identifiers.
var curves = map[string]elliptic.Curve{
	"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07": elliptic.P256(),
	"\x06\x05\x2b\x81\x04\x00\x22":             elliptic.P384(),
	"\x06\x05\x2b\x81\x04\x00\x23":             elliptic.P521(),
}

// key completes the algorithm of an RSA key, and the point of an elliptic curve key.
func (m *mender) key(v asn1.RawValue) []byte {
	parts := children(v.FullBytes)
	if len(parts) != 2 {
		return v.FullBytes
	}
	algorithm := children(parts[0].FullBytes)
	var oid asn1.ObjectIdentifier
	if len(algorithm) == 0 {
		return v.FullBytes
	}
	if _, err := asn1.Unmarshal(algorithm[0].FullBytes, &oid); err != nil {
		return v.FullBytes
	}
	switch {
	case oid.Equal(oidRSA) && len(algorithm) == 1:
		m.note("the algorithm of its RSA key has no parameters, where NULL belongs")
		return sequence(sequence(algorithm[0].FullBytes, asn1.NullBytes), parts[1].FullBytes)
	case oid.Equal(oidEC) && len(algorithm) == 2 && len(parts[1].Bytes) > 2 && (parts[1].Bytes[1] == 2 || parts[1].Bytes[1] == 3):
		curve := curves[string(algorithm[1].FullBytes)]
		if curve == nil {
			break
		}
		x, y := elliptic.UnmarshalCompressed(curve, parts[1].Bytes[1:])
		if x == nil {
			break
		}
		m.broken(CompressedPoint)
		size := (curve.Params().BitSize + 7) / 8
		point := append(make([]byte, 0, 1+2*size), 4)
		point = append(append(point, x.FillBytes(make([]byte, size))...), y.FillBytes(make([]byte, size))...)
		bits, err := asn1.Marshal(asn1.BitString{Bytes: point, BitLength: 8 * len(point)})
		if err != nil {
			break
		}
		return sequence(parts[0].FullBytes, bits)
	}
	return v.FullBytes
}
