package issuer

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// Tags of DER.
const (
	tagBoolean           = 0x01
	tagInteger           = 0x02
	tagBitString         = 0x03
	tagOctetString       = 0x04
	tagOID               = 0x06
	tagUTF8String        = 0x0c
	tagUTCTime           = 0x17
	tagGeneralizedTime   = 0x18
	tagSequence          = 0x30
	tagSet               = 0x31
	tagContext0Primitive = 0x80
	tagContext2Primitive = 0x82
	tagContext7Primitive = 0x87
	tagContext3          = 0xa3
)

// Pieces that are the same in every certificate.
var (
	versionThree             = []byte{0xa0, 0x03, tagInteger, 0x01, 0x02}
	derTrue                  = []byte{tagBoolean, 0x01, 0xff}
	keyUsageDigitalSignature = []byte{tagBitString, 0x02, 0x07, 0x80}
	keyUsageCA               = []byte{tagBitString, 0x02, 0x01, 0x86} // digital signature, certificate and CRL signing
	ecdsaWithSHA256          = der(tagSequence, []byte{tagOID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02})
	rsaWithSHA256            = der(tagSequence, []byte{tagOID, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b}, []byte{0x05, 0x00})

	oidUnit             = []byte{tagOID, 3, 0x55, 0x04, 0x0b}
	oidSubjectKeyID     = []byte{tagOID, 3, 0x55, 0x1d, 0x0e}
	oidKeyUsage         = []byte{tagOID, 3, 0x55, 0x1d, 0x0f}
	oidBasicConstraints = []byte{tagOID, 3, 0x55, 0x1d, 0x13}
	oidAuthorityKeyID   = []byte{tagOID, 3, 0x55, 0x1d, 0x23}

	oidSubjectAlternativeName = []byte{tagOID, 3, 0x55, 0x1d, 0x11}
	oidExtendedKeyUsage       = []byte{tagOID, 3, 0x55, 0x1d, 0x25}
	oidServerAuth             = []byte{tagOID, 8, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01}
)

// der puts a tag and a length before the parts.
func der(tag byte, parts ...[]byte) []byte {
	return appendDER(nil, tag, parts...)
}

// appendDER appends what [der] makes of the parts.
func appendDER(out []byte, tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out = slices.Grow(out, n+5)
	out = append(out, tag)
	switch {
	case n < 1<<7:
		out = append(out, byte(n))
	case n < 1<<8:
		out = append(out, 0x81, byte(n))
	case n < 1<<16:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// derTime encodes a time as certificates want it: two digits of the year from 1950 to 2049, four beyond.
func derTime(t time.Time) []byte {
	t = t.UTC()
	if y := t.Year(); y >= 1950 && y < 2050 {
		return der(tagUTCTime, t.AppendFormat(nil, "060102150405Z"))
	}
	return der(tagGeneralizedTime, t.AppendFormat(nil, "20060102150405Z"))
}

func extension(oid []byte, critical bool, value []byte) []byte {
	value = der(tagOctetString, value)
	if critical {
		return der(tagSequence, oid, derTrue, value)
	}
	return der(tagSequence, oid, value)
}

// unitName is a distinguished name of one organisational unit.
func unitName(unit string) []byte {
	return der(tagSequence, der(tagSet, der(tagSequence, oidUnit, der(tagUTF8String, []byte(unit)))))
}

// keyBits returns the bits of the public key inside a SubjectPublicKeyInfo, which key identifiers are made of. It
// returns nil when spki is not one; callers give what crypto/x509 has parsed or written.
func keyBits(spki []byte) []byte {
	body, _, ok := element(spki)
	if !ok {
		return nil
	}
	_, rest, ok := element(body)
	if !ok {
		return nil
	}
	bits, _, ok := element(rest)
	if !ok || len(bits) < 1 {
		return nil
	}
	return bits[1:]
}

// element takes one DER element off in: its content and what follows it.
func element(in []byte) (content, rest []byte, ok bool) {
	if len(in) < 2 {
		return nil, nil, false
	}
	n, at := int(in[1]), 2
	if n >= 0x80 {
		octets := n & 0x7f
		if octets == 0 || octets > 3 || len(in) < 2+octets {
			return nil, nil, false
		}
		n = 0
		for _, b := range in[2 : 2+octets] {
			n = n<<8 | int(b)
		}
		at += octets
	}
	if len(in) < at+n {
		return nil, nil, false
	}
	return in[at : at+n], in[at+n:], true
}

// EncodePEM writes a certificate's DER as PEM, with lines of 64 characters and a newline at the end.
func EncodePEM(raw []byte) string { return encodePEM("CERTIFICATE", raw) }

func encodePEM(label string, raw []byte) string {
	const width = 64
	text := base64.StdEncoding.EncodeToString(raw)
	var b strings.Builder
	b.Grow(len(text) + len(text)/width + 2*len(label) + 36)
	b.WriteString("-----BEGIN " + label + "-----\n")
	for len(text) > 0 {
		n := min(width, len(text))
		b.WriteString(text[:n])
		b.WriteByte('\n')
		text = text[n:]
	}
	b.WriteString("-----END " + label + "-----\n")
	return b.String()
}
