package csr_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
)

// odd is a request, and what Parse and ParseLenient have to report of it.
type odd struct {
	name string
	der  []byte
	note string // of Parse, if err is nil; else of ParseLenient
	err  error  // of Parse
	text string // in err
	all  bool   // ParseLenient refuses it, too
}

func seq(parts ...[]byte) []byte { return tlv(0x30, parts...) }

func tlv(tag byte, parts ...[]byte) []byte {
	content := slices.Concat(parts...)
	switch n := len(content); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
	}
}

var (
	version0        = []byte{2, 1, 0}
	emptyAttributes = []byte{0xa0, 0}
	oidECDSASHA224  = []byte{0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 1}
	oidECDSASHA256  = []byte{0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}
	oidECDSASHA1    = []byte{0x30, 0x09, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1}
	oidRSASHA256    = []byte{0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0}
	oidCN           = []byte{6, 3, 0x55, 4, 3}
)

// cn is a subject of one CN, as a string of a type.
func cn(tag byte, text string) []byte { return seq(tlv(0x31, seq(oidCN, tlv(tag, []byte(text))))) }

// derSignature signs with ECDSA as it should be.
func derSignature(t testing.TB, key *ecdsa.PrivateKey, digest []byte) []byte {
	s, err := ecdsa.SignASN1(rand.Reader, key, digest)
	require.NoError(t, err)
	return s
}

// rawSignature is r and s alone.
func rawSignature(t testing.TB, key *ecdsa.PrivateKey, digest []byte) []byte {
	r, s, err := ecdsa.Sign(rand.Reader, key, digest)
	require.NoError(t, err)
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// negativeSignature has an r or s whose first bit is taken for a sign.
func negativeSignature(t testing.TB, key *ecdsa.PrivateKey, digest []byte) []byte {
	for {
		raw := rawSignature(t, key, digest)
		if raw[0] >= 0x80 && raw[32] >= 0x80 {
			return seq(tlv(2, raw[:32]), tlv(2, raw[32:]))
		}
	}
}

func sum256(tbs []byte) []byte { d := sha256.Sum256(tbs); return d[:] }
func sum224(tbs []byte) []byte { d := sha256.Sum224(tbs); return d[:] }
func sum1(tbs []byte) []byte   { d := sha1.Sum(tbs); return d[:] }

func oddRequests(t testing.TB) []odd {
	key := testKey(t, csr.P256).(*ecdsa.PrivateKey)
	info, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	rsaKey := testKey(t, csr.RSA2048).(*rsa.PrivateKey)
	rsaBits := tlv(3, []byte{0}, x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey))
	rsaInfo := seq(seq([]byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1}), rsaBits)
	point := elliptic.MarshalCompressed(key.Curve, key.X, key.Y)
	compressed := seq(info[2:2+2+0x13], tlv(3, []byte{0}, point))

	type signer = func(t testing.TB, key *ecdsa.PrivateKey, digest []byte) []byte
	request := func(algorithm []byte, hash func([]byte) []byte, sign signer, tbs ...[]byte) []byte {
		content := seq(tbs...)
		return seq(content, algorithm, tlv(3, []byte{0}, sign(t, key, hash(content))))
	}
	plain := func(tbs ...[]byte) []byte { return request(oidECDSASHA256, sum256, derSignature, tbs...) }
	byRSA := func(tbs ...[]byte) []byte {
		content := seq(tbs...)
		s, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum256(content))
		require.NoError(t, err)
		return seq(content, oidRSASHA256, tlv(3, []byte{0}, s))
	}
	good := []byte{}
	good = append(good, cn(0x0c, "d")...)
	// An extension request whose alternative name has an IP address as text.
	san := seq([]byte{6, 3, 0x55, 0x1d, 0x11}, tlv(4, seq(tlv(0x87, []byte("10.0.0.1")))))
	badSAN := tlv(0xa0, seq([]byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14}, tlv(0x31, seq(san))))
	changed := plain(version0, cn(0x13, "AT_ECC"), info, emptyAttributes)
	changed[bytes.Index(changed, []byte("AT_ECC"))] = 'B'

	return []odd{
		{name: "_ in a PrintableString", der: plain(version0, cn(0x13, "AT_ECC"), info, emptyAttributes), note: `its subject has "_" in a PrintableString`},
		{name: "several in a PrintableString", der: plain(version0, cn(0x13, "a@b#c_@"), info, emptyAttributes), note: `its subject has "@", "#", "_" in a PrintableString`},
		{name: "Latin-1 in an IA5String", der: plain(version0, cn(0x16, "M\xfcller"), info, emptyAttributes), note: "its subject has the byte 0xfc in an IA5String"},
		{name: "Latin-1 in a UTF8String", der: plain(version0, cn(0x0c, "M\xfcller"), info, emptyAttributes), err: csr.ErrNotCSR, text: "the byte 0xfc in a UTF8String", note: "0xfc"},
		{name: "UTF-8 in a PrintableString", der: plain(version0, cn(0x13, "Müller"), info, emptyAttributes), note: `its subject has "ü" in a PrintableString`},
		{name: "no attributes", der: plain(version0, good, info), note: "it has no field of attributes"},
		{name: "no attributes and _", der: plain(version0, cn(0x13, "AT_ECC"), info), note: "it has no field of attributes"},
		{name: "an IP address as text", der: plain(version0, good, info, badSAN), note: "its attributes are not as they should be"},
		{name: "RSA without NULL", der: byRSA(version0, good, rsaInfo, emptyAttributes), note: "no parameters, where NULL belongs"},

		{name: "a control character", der: plain(version0, cn(0x13, "d\x00"), info, emptyAttributes), err: csr.ErrNotCSR, text: "the control character U+0000 in a PrintableString", note: "U+0000"},
		{name: "r and s alone", der: request(oidECDSASHA256, sum256, rawSignature, version0, good, info, emptyAttributes), err: csr.ErrSignature, text: "its ECDSA signature is r and s alone, 64 bytes", note: "r and s alone"},
		{name: "negative integers", der: request(oidECDSASHA256, sum256, negativeSignature, version0, good, info, emptyAttributes), err: csr.ErrSignature, text: "written as a negative number", note: "negative number"},
		{name: "SHA-224", der: request(oidECDSASHA224, sum224, derSignature, version0, good, info, emptyAttributes), err: csr.ErrSignatureAlgorithm, text: "it is signed with SHA-224", note: "SHA-224"},
		{name: "SHA-1", der: request(oidECDSASHA1, sum1, derSignature, version0, good, info, emptyAttributes), err: csr.ErrSignatureAlgorithm, text: "it is signed with SHA-1", note: "SHA-1"},
		{name: "version 1", der: plain([]byte{2, 1, 1}, good, info, emptyAttributes), err: csr.ErrNotCSR, text: "its version is 1", note: "its version is 1"},
		{name: "a compressed point", der: plain(version0, good, compressed, emptyAttributes), err: csr.ErrKey, text: "its point is compressed", note: "compressed"},

		// The signature must fit all the same.
		{name: "_, changed after it was signed", der: changed, err: csr.ErrSignature, text: "was changed after it was signed", all: true},
		{name: "no attributes, signed over others", der: func() []byte {
			signed := plain(version0, good, info, emptyAttributes)
			other := plain(version0, good, info)
			var a, b struct{ TBS, Algorithm, Bits asn1.RawValue }
			_, err := asn1.Unmarshal(signed, &a)
			require.NoError(t, err)
			_, err = asn1.Unmarshal(other, &b)
			require.NoError(t, err)
			return seq(b.TBS.FullBytes, a.Algorithm.FullBytes, a.Bits.FullBytes)
		}(), err: csr.ErrSignature, text: "was changed after it was signed", all: true},
		{name: "r and s of something else", der: request(oidECDSASHA256, sum224, rawSignature, version0, good, info, emptyAttributes), err: csr.ErrSignature, text: "was changed", all: true},
		{name: "SHA-224 of something else", der: request(oidECDSASHA224, sum256, derSignature, version0, good, info, emptyAttributes), err: csr.ErrSignatureAlgorithm, text: "SHA-224", all: true},
	}
}

func TestOddRequestsAreReturnedByteForByteWithANote(t *testing.T) {
	for _, c := range oddRequests(t) {
		t.Run(c.name, func(t *testing.T) {
			got, err := csr.Parse(c.der)
			lenient, lenientErr := csr.ParseLenient(c.der)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				require.ErrorContains(t, err, c.text)
				require.Nil(t, got)
				got = lenient
			} else {
				require.NoError(t, err)
				require.Equal(t, got, lenient)
			}
			if c.all {
				require.Error(t, lenientErr)
				require.Nil(t, lenient)
				return
			}
			require.NoError(t, lenientErr)
			assert.Equal(t, c.der, got.DER())
			assert.Contains(t, strings.Join(got.Notes(), "\n"), c.note)
			digest, err := csr.PublicKeySHA256(got.PublicKey())
			require.NoError(t, err)
			assert.Equal(t, digest, got.PublicKeySHA256(), "however the request spells its key")
			again, err := csr.ParseLenient([]byte(got.PEM()))
			require.NoError(t, err)
			assert.Equal(t, got, again)
		})
	}
}

func TestOpensslVerifiesTheOddRequestsThatAreTaken(t *testing.T) {
	openssl := opensslOrSkip(t)
	for _, c := range oddRequests(t) {
		if c.err != nil {
			continue
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: c.der})
		assert.Contains(t, run(t, openssl, string(text), "req", "-verify", "-noout"), "verify OK", c.name)
	}
}

func TestTheSubjectOfAnOddRequestIsShown(t *testing.T) {
	for _, c := range oddRequests(t) {
		if want := map[string]string{"_ in a PrintableString": "AT_ECC", "Latin-1 in an IA5String": "Müller", "UTF-8 in a PrintableString": "Müller"}[c.name]; want != "" {
			got, err := csr.Parse(c.der)
			require.NoError(t, err)
			assert.Equal(t, csr.Subject{{Type: "CN", Value: want}}, got.Subject())
		}
	}
}

// oddCertificate makes a certificate of a vendor: a negative serial number and "_" in a PrintableString.
func oddCertificate(t testing.TB) (der []byte, key *ecdsa.PrivateKey) {
	key = testKey(t, csr.P256).(*ecdsa.PrivateKey)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 << 40), RawSubject: cn(0x13, "sn_0001"), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<31, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{Subject: pkix.Name{CommonName: "Vendor CA"}}, key.Public(), key)
	require.NoError(t, err)
	var outer struct{ TBS, Algorithm, Bits asn1.RawValue }
	_, err = asn1.Unmarshal(der, &outer)
	require.NoError(t, err)
	tbs := bytes.Clone(outer.TBS.FullBytes)
	serial := bytes.Index(tbs, []byte{2, 6, 1, 0})
	require.Positive(t, serial)
	tbs[serial+2] = 0xf1
	return seq(tbs, outer.Algorithm.FullBytes, tlv(3, []byte{0}, derSignature(t, key, sum256(tbs)))), key
}

func TestOddCertificatesAreReturnedByteForByteWithANote(t *testing.T) {
	der, key := oddCertificate(t)
	_, err := x509.ParseCertificate(der)
	require.Error(t, err, "crypto/x509 refuses it")
	certs, err := csr.ParseCertificates(der)
	require.NoError(t, err)
	require.Len(t, certs, 1)
	got := certs[0]
	assert.Equal(t, der, got.Raw)
	assert.Equal(t, []string{"its serial number is negative", `its subject has "_" in a PrintableString`}, got.Notes)
	assert.Equal(t, "sn_0001", got.Subject.CommonName)
	assert.Equal(t, -1, got.SerialNumber.Sign())
	require.NoError(t, got.CheckSignature(x509.ECDSAWithSHA256, got.RawTBSCertificate, got.Signature), "over its own bytes")
	want, err := csr.PublicKeySHA256(key.Public())
	require.NoError(t, err)
	digest, err := got.PublicKeySHA256()
	require.NoError(t, err)
	assert.Equal(t, want, digest)
	digest, err = csr.CertificateKeySHA256([]byte(got.PEM()))
	require.NoError(t, err)
	assert.Equal(t, want, digest)
}

func TestACertificateThatIsRefusedIsReturnedByParseCertificatesLenient(t *testing.T) {
	key := testKey(t, csr.P256)
	for _, c := range []struct {
		name, note string
		template   *x509.Certificate
	}{
		{"a control character", "the control character U+0000", &x509.Certificate{RawSubject: cn(0x13, "d\x00")}},
		{"extensions", "its extensions are not as they should be", &x509.Certificate{ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: seq(tlv(0x87, []byte("10.0.0.1")))},
		}}},
	} {
		der, err := x509.CreateCertificate(rand.Reader, c.template, &x509.Certificate{Subject: pkix.Name{CommonName: "Vendor CA"}}, key.Public(), key)
		if err != nil { // the text of a certificate that crypto/x509 made and could not read again
			require.ErrorContains(t, err, "x509", c.name)
		}
		require.NotNil(t, der, c.name)
		_, err = csr.ParseCertificates(der)
		require.ErrorIs(t, err, csr.ErrNotCertificate, c.name)
		require.ErrorContains(t, err, c.note, c.name)
		certs, err := csr.ParseCertificatesLenient(der)
		require.NoError(t, err, c.name)
		assert.Equal(t, der, certs[0].Raw, c.name)
		assert.Contains(t, strings.Join(certs[0].Notes, "\n"), c.note, c.name)
	}
}

func TestCertificatesAreReadInTheFormsOfRequests(t *testing.T) {
	key := testKey(t, csr.P256)
	text := string(certificatePEM(key))
	block, _ := pem.Decode([]byte(text))
	quoted := mustJSON(t, text)
	body := base64.StdEncoding.EncodeToString(block.Bytes)
	for name, data := range map[string][]byte{
		"PEM":                     []byte(text),
		"PEM with CRLF":           []byte(strings.ReplaceAll(text, "\n", "\r\n")),
		"text before":             []byte("Bag Attributes\n    friendlyName: d\n" + text),
		"text after":              []byte(text + "done\n"),
		"newlines spelled out":    []byte(strings.ReplaceAll(text, "\n", `\n`)),
		"JSON string":             quoted,
		"flat":                    []byte(strings.ReplaceAll(text, "\n", "")),
		"indented":                []byte(strings.ReplaceAll(text, "\n", "\n    ")),
		"a byte order mark":       []byte("\ufeff" + text),
		"the NUL of C":            []byte(text + "\x00"),
		"DER":                     block.Bytes,
		"base64 of DER":           []byte(body),
		"base64 of PEM":           []byte(base64.StdEncoding.EncodeToString([]byte(text))),
		"after its public key":    append(publicKeyPEM(t, key.Public()), text...),
		"before its public key":   append([]byte(text), publicKeyPEM(t, key.Public())...),
		"twice":                   []byte(text + text),
		"base64 as a JSON string": mustJSON(t, body),
	} {
		certs, err := csr.ParseCertificates(data)
		if assert.NoError(t, err, name) && assert.Len(t, certs, 1, name) {
			assert.Equal(t, block.Bytes, certs[0].Raw, name)
			assert.Empty(t, certs[0].Notes, name)
			assert.Equal(t, text, certs[0].PEM(), name)
		}
	}
	request, err := csr.Create(key, csr.CommonName("d"))
	require.NoError(t, err)
	secret, err := csr.NewPrivateKey(key).PEM()
	require.NoError(t, err)
	pkcs8, _ := pem.Decode(secret)
	for name, c := range map[string]struct {
		data []byte
		err  error
		text string
	}{
		"nothing":            {nil, csr.ErrNotCertificate, "empty"},
		"a path":             {[]byte("certs/d.crt"), csr.ErrNotCertificate, "name of a file"},
		"noise":              {[]byte("hunter2"), csr.ErrNotCertificate, "-----BEGIN CERTIFICATE-----"},
		"a request":          {[]byte(request.PEM()), csr.ErrNotCertificate, "certificate signing request"},
		"a request in DER":   {request.DER(), csr.ErrNotCertificate, "certificate signing request"},
		"a public key":       {publicKeyPEM(t, key.Public()), csr.ErrNotCertificate, "public key"},
		"cut short":          {[]byte(text[:len(text)-40]), csr.ErrNotCertificate, "no line -----END"},
		"DER cut short":      {block.Bytes[:100], csr.ErrNotCertificate, "cut short"},
		"another block":      {[]byte("-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n" + text), csr.ErrNotCertificate, `"X509 CRL"`},
		"a key after it":     {append([]byte(text), secret...), csr.ErrPrivateKey, "exposed"},
		"a private key":      {secret, csr.ErrPrivateKey, "hand in the certificate alone"},
		"a key in DER":       {pkcs8.Bytes, csr.ErrPrivateKey, "exposed"},
		"a key as base64":    {[]byte(base64.StdEncoding.EncodeToString(secret)), csr.ErrPrivateKey, "exposed"},
		"longer than can be": {bytes.Repeat([]byte("A"), 100_000), csr.ErrTooLong, "certificate of 4,096"},
	} {
		certs, err := csr.ParseCertificates(c.data)
		require.ErrorIs(t, err, c.err, name)
		require.ErrorContains(t, err, c.text, name)
		assert.NotContains(t, err.Error(), "hunter2")
		assert.Nil(t, certs, name)
	}
}

func FuzzParseCertificates(f *testing.F) {
	der, _ := oddCertificate(f)
	f.Add(der)
	f.Add(certificatePEM(testKey(f, csr.P256)))
	f.Add(certificatePEM(testKey(f, csr.RSA2048)))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := csr.ParseCertificates(data)
		require.Equal(t, err == nil, len(certs) > 0)
		for _, c := range certs {
			if plain, err := x509.ParseCertificate(c.Raw); err == nil {
				require.True(t, plain.Equal(c.Certificate))
				require.Empty(t, c.Notes)
			} else {
				require.NotEmpty(t, c.Notes)
			}
			again, err := csr.ParseCertificates([]byte(c.PEM()))
			require.NoError(t, err)
			require.Equal(t, c.Raw, again[0].Raw)
		}
	})
}
