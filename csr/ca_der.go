package csr

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/bits"
	"time"
)

// The DER of certificates, put together by hand for the reason that der.go states. A test holds it against crypto/x509.

const (
	tagBoolean     = 0x01
	tagUTCTime     = 0x17
	tagGeneralTime = 0x18
	tagExtensions  = 0xa3
)

var (
	version3 = []byte{0xa0, 3, tagInteger, 1, 2}

	oidSubjectKeyID   = []byte{0x55, 0x1d, 14}
	oidKeyUsage       = []byte{0x55, 0x1d, 15}
	oidConstraints    = []byte{0x55, 0x1d, 19}
	oidAuthorityKeyID = []byte{0x55, 0x1d, 35}
	oidExtKeyUsage    = []byte{0x55, 0x1d, 37}

	// endEntity is the extension basicConstraints of what is no CA's: an empty SEQUENCE, CA being FALSE by default.
	endEntity = extension(oidConstraints, true, []byte{tagSequence, 0})
	// subjectKeyID is the extension subjectKeyIdentifier without the 20 bytes at its end.
	subjectKeyID = bytes.TrimSuffix(extension(oidSubjectKeyID, false, wrap(tagOctetString, make([]byte, 20))), make([]byte, 20))
)

// wrap encodes an element with the parts as its content.
func wrap(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := appendHeader(make([]byte, 0, elementLen(n)), tag, n)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func extension(oid []byte, critical bool, value []byte) []byte {
	var mark []byte
	if critical {
		mark = []byte{tagBoolean, 1, 0xff}
	}
	return wrap(tagSequence, wrap(tagOID, oid), mark, wrap(tagOctetString, value))
}

// appendTime encodes a time as RFC 5280 wants it: UTCTime until 2049, GeneralizedTime from then on.
func appendTime(b []byte, t time.Time) []byte {
	tag, layout := byte(tagUTCTime), "060102150405Z"
	if t = t.UTC(); t.Year() >= 2050 {
		tag, layout = tagGeneralTime, "20060102150405Z"
	}
	return append(appendHeader(b, tag, len(layout)), t.Format(layout)...)
}

// keyUsageBits encodes a key usage as a BIT STRING without trailing zeros. Its first bit is digitalSignature, the lowest of
// [x509.KeyUsage].
func keyUsageBits(usage x509.KeyUsage) []byte {
	two := []byte{bits.Reverse8(byte(usage)), bits.Reverse8(byte(usage >> 8))}
	if two[1] == 0 {
		two = two[:1]
	}
	unused := byte(bits.TrailingZeros8(two[len(two)-1]))
	return wrap(tagBitString, []byte{unused}, two)
}

// extKeyUsages are the last arcs of 1.3.6.1.5.5.7.3.
var extKeyUsages = map[x509.ExtKeyUsage]int{
	x509.ExtKeyUsageServerAuth: 1, x509.ExtKeyUsageClientAuth: 2, x509.ExtKeyUsageCodeSigning: 3,
	x509.ExtKeyUsageEmailProtection: 4, x509.ExtKeyUsageTimeStamping: 8, x509.ExtKeyUsageOCSPSigning: 9,
}

// extKeyUsage encodes the extension; nil usages mean clientAuth, and none leave it out.
func extKeyUsage(usages []x509.ExtKeyUsage) ([]byte, error) {
	if usages == nil {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if len(usages) == 0 {
		return nil, nil
	}
	var oids []asn1.ObjectIdentifier
	for _, u := range usages {
		arc, ok := extKeyUsages[u]
		if !ok {
			return nil, errors.New("its ExtKeyUsage holds a usage that is not known here; serverAuth, clientAuth, codeSigning, emailProtection, timeStamping and OCSPSigning are")
		}
		oids = append(oids, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, arc})
	}
	der, err := asn1.Marshal(oids)
	if err != nil {
		return nil, err
	}
	return extension(oidExtKeyUsage, false, der), nil
}
