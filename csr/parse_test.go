package csr_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
)

func isSubjectError(err error) bool {
	_, ok := errors.AsType[*csr.SubjectError](err)
	return ok
}

// rawSubject is the subject's DER in a request.
func rawSubject(t testing.TB, r *csr.Request) []byte {
	t.Helper()
	parsed, err := x509.ParseCertificateRequest(r.DER())
	require.NoError(t, err)
	return parsed.RawSubject
}

// forms writes a request in the ways people hand it over.
func forms(t testing.TB, r *csr.Request) map[string][]byte {
	t.Helper()
	text := r.PEM()
	quoted, err := json.Marshal(text)
	require.NoError(t, err)
	body := strings.Join(strings.Split(strings.TrimSpace(text), "\n")[1:], "")
	body = body[:strings.Index(body, "-")]
	crlf := strings.ReplaceAll(text, "\n", "\r\n")
	utf16le := []byte{0xff, 0xfe}
	utf16be := []byte{0xfe, 0xff}
	for _, u := range utf16.Encode([]rune(crlf)) {
		utf16le = binary.LittleEndian.AppendUint16(utf16le, u)
		utf16be = binary.BigEndian.AppendUint16(utf16be, u)
	}
	return map[string][]byte{
		"PEM":                           []byte(text),
		"PEM without a last newline":    []byte(strings.TrimSpace(text)),
		"PEM with CRLF":                 []byte(crlf),
		"PEM with old Mac line ends":    []byte(strings.ReplaceAll(text, "\n", "\r")),
		"PEM after a byte order mark":   []byte("\ufeff" + text),
		"PEM after readable text":       []byte("Certificate Request:\n    Data:\n        Version: 1 (0x0)\n        Subject: CN = a\n" + text),
		"PEM with blank lines around":   []byte("\n\n  " + text + " \n\n"),
		"PEM indented":                  []byte(strings.ReplaceAll(text, "\n", "\n    ")),
		"PEM in one line":               []byte(strings.ReplaceAll(text, "\n", "")),
		"PEM with spaces for newlines":  []byte(strings.ReplaceAll(text, "\n", " ")),
		"NEW CERTIFICATE REQUEST":       []byte(strings.ReplaceAll(text, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")),
		"newlines spelled out":          []byte(strings.ReplaceAll(text, "\n", `\n`)),
		"CRLF spelled out":              []byte(strings.ReplaceAll(text, "\n", `\r\n`)),
		"newlines spelled out twice":    []byte(strings.ReplaceAll(text, "\n", `\\n`)),
		"JSON string":                   quoted,
		"JSON string, slashes escaped":  []byte(strings.ReplaceAll(string(quoted), "/", `\/`)),
		"JSON string in a JSON string":  mustJSON(t, string(quoted)),
		"quoted with real newlines":     []byte(`"` + text + `"`),
		"in single quotation marks":     []byte("'" + text + "'"),
		"PEM with the NUL of C":         []byte(text + "\x00"),
		"PEM as base64":                 []byte(base64.StdEncoding.EncodeToString([]byte(text))),
		"PEM with CRLF as base64":       []byte(base64.StdEncoding.EncodeToString([]byte("\ufeff" + crlf))),
		"PEM after its public key":      append(publicKeyPEM(t, r.PublicKey()), text...),
		"flat, after its public key":    []byte(strings.ReplaceAll(string(append(publicKeyPEM(t, r.PublicKey()), text...)), "\n", "")),
		"PEM after the curve":           []byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + text),
		"base64 of URLs":                []byte(base64.RawURLEncoding.EncodeToString(r.DER())),
		"base64 with a byte order mark": []byte("\ufeff" + body),
		"base64 with the NUL of C":      []byte(body + "\x00"),
		"UTF-16, little end first":      utf16le,
		"UTF-16, big end first":         utf16be,
		"DER":                           r.DER(),
		"base64 without headers":        []byte(body),
		"base64 in lines":               []byte(strings.Join(strings.SplitAfter(body, "M"), "\r\n")),
		"base64 without padding":        []byte(strings.TrimRight(body, "=")),
		"base64 as a JSON string":       mustJSON(t, body),
		"base64, newlines spelled out ": []byte(body[:64] + `\n` + body[64:] + `\n`),
	}
}

func publicKeyPEM(t testing.TB, public any) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func mustJSON(t testing.TB, v any) []byte {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

func TestParseReadsTheFormsPeopleHandOver(t *testing.T) {
	for _, alg := range []csr.Algorithm{csr.P256, csr.RSA2048} {
		want, err := csr.Create(testKey(t, alg), csr.CommonName("device/one"))
		require.NoError(t, err)
		for name, data := range forms(t, want) {
			before := bytes.Clone(data)
			got, err := csr.Parse(data)
			if assert.NoError(t, err, "%s: %s", alg, name) {
				assert.Equal(t, want.DER(), got.DER(), "%s: %s", alg, name)
				assert.Equal(t, want.PublicKeySHA256(), got.PublicKeySHA256())
				assert.Equal(t, alg, got.Algorithm())
			}
			assert.Equal(t, before, data, "the input is left alone")
			clear(data)
			if got != nil {
				assert.Equal(t, want.DER(), got.DER(), "nothing of the input is kept")
			}
		}
	}
}

// build makes a request by parts, to break each.
type build struct {
	subject, key, attributes []byte
	version                  int
	signature                asn1.ObjectIdentifier
	bits                     []byte
}

func (b build) der(t testing.TB) []byte {
	t.Helper()
	type tbs struct {
		Version    int
		Subject    asn1.RawValue
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}
	attributes := b.attributes
	if attributes == nil {
		attributes = []byte{0xa0, 0}
	}
	der, err := asn1.Marshal(struct {
		TBS       tbs
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}{
		tbs{b.version, asn1.RawValue{FullBytes: b.subject}, asn1.RawValue{FullBytes: b.key}, asn1.RawValue{FullBytes: attributes}},
		pkix.AlgorithmIdentifier{Algorithm: b.signature},
		asn1.BitString{Bytes: b.bits, BitLength: len(b.bits) * 8},
	})
	require.NoError(t, err)
	return der
}

// withPSS replaces the algorithm of a request's signature by RSASSA-PSS with these parameters. The signature no longer
// fits.
func withPSS(t testing.TB, der []byte, parameters any) []byte {
	t.Helper()
	var request struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}
	_, err := asn1.Unmarshal(der, &request)
	require.NoError(t, err)
	full, err := asn1.Marshal(parameters)
	require.NoError(t, err)
	request.Algorithm = pkix.AlgorithmIdentifier{
		Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, Parameters: asn1.RawValue{FullBytes: full},
	}
	der, err = asn1.Marshal(request)
	require.NoError(t, err)
	return der
}

func keyInfo(t testing.TB, algorithm asn1.ObjectIdentifier, parameters any, key []byte) []byte {
	t.Helper()
	var p asn1.RawValue
	if parameters != nil {
		full, err := asn1.Marshal(parameters)
		require.NoError(t, err)
		p.FullBytes = full
	}
	der, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Bits      asn1.BitString
	}{pkix.AlgorithmIdentifier{Algorithm: algorithm, Parameters: p}, asn1.BitString{Bytes: key, BitLength: len(key) * 8}})
	require.NoError(t, err)
	return der
}

func TestParseRefusesEachFaultWithItsOwnErrorAndNeverQuotesTheInput(t *testing.T) {
	key := p256(t)
	good, err := csr.Create(key, csr.CommonName("device-one"))
	require.NoError(t, err)
	text := good.PEM()
	subject := rawSubject(t, good)
	pki, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	ecKey, sha256ECDSA := asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}

	by := func(signer any, alg x509.SignatureAlgorithm) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{SignatureAlgorithm: alg}, signer)
		require.NoError(t, err)
		return der
	}
	_, edKey, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	rsaKey := testKey(t, csr.RSA2048).(*rsa.PrivateKey)
	// As openssl writes them with rsa_padding_mode:pss and the longest salt.
	type saltOnly struct {
		Salt int `asn1:"explicit,tag:2"`
	}
	type hashAndSalt struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		Salt int                      `asn1:"explicit,tag:2"`
	}
	hash := func(oid ...int) pkix.AlgorithmIdentifier { return pkix.AlgorithmIdentifier{Algorithm: oid} }

	tampered := good.DER()
	tampered[bytes.Index(tampered, []byte("device-one"))] = 'D'
	badSignature := good.DER()
	badSignature[len(badSignature)-1] ^= 1
	secret, err := csr.NewPrivateKey(key).PEM()
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	sec1, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	certificate := certificatePEM(key)
	certificateBlock, _ := pem.Decode(certificate)
	big, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{strings.Repeat("x", 3000)}}, key)
	require.NoError(t, err)
	compressed := elliptic.MarshalCompressed(key.Curve, key.X, key.Y)

	for name, c := range map[string]struct {
		data []byte
		want error
		text string
	}{
		"nothing":                    {nil, csr.ErrNotCSR, "empty"},
		"white space":                {[]byte(" \r\n"), csr.ErrNotCSR, "empty"},
		"an empty JSON string":       {[]byte(`""`), csr.ErrNotCSR, "neither PEM"},
		"noise":                      {[]byte("hunter2"), csr.ErrNotCSR, "neither PEM"},
		"binary noise":               {[]byte{1, 2, 3, 0xff}, csr.ErrNotCSR, "neither PEM"},
		"the name of a file":         {[]byte("out/device_one.csr"), csr.ErrNotCSR, "name of a file"},
		"the address of a file":      {[]byte("file://device_one"), csr.ErrNotCSR, "name of a file"},
		"PEM cut short":              {[]byte(text[:len(text)-40]), csr.ErrNotCSR, "no line -----END"},
		"PEM with a line lost":       {[]byte(strings.Replace(text, strings.Split(text, "\n")[2]+"\n", "", 1)), csr.ErrNotCSR, "cut short"},
		"PEM with a bad character":   {[]byte(strings.Replace(text, "MI", "M!", 1)), csr.ErrNotCSR, "damaged"},
		"PEM of the wrong END":       {[]byte(strings.Replace(text, "END CERT", "END  CERT", 1)), csr.ErrNotCSR, "no line"},
		"BEGIN alone":                {[]byte("-----BEGIN CERTIFICATE REQUEST"), csr.ErrNotCSR, "BEGIN line"},
		"an empty PEM block":         {[]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----"), csr.ErrNotCSR, "no PKCS #10"},
		"another PEM block":          {[]byte("-----BEGIN DH PARAMETERS-----\nAA==\n-----END DH PARAMETERS-----"), csr.ErrNotCSR, `"DH PARAMETERS"`},
		"an odd PEM block":           {[]byte("-----BEGIN hunter2-----\nAA==\n-----END hunter2-----"), csr.ErrNotCSR, "unknown kind"},
		"DER cut short":              {good.DER()[:100], csr.ErrNotCSR, "cut short: 100 bytes of"},
		"DER of something else":      {bytes.Repeat([]byte{0x30, 0x80}, 70), csr.ErrNotCSR, "no PKCS #10"},
		"a public key":               {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pki}), csr.ErrNotCSR, "public key"},
		"a public key in base64":     {[]byte(base64.StdEncoding.EncodeToString(pki)), csr.ErrNotCSR, "public key"},
		"a public key of PKCS #1":    {pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)}), csr.ErrNotCSR, "this is a public key"},
		"version 1":                  {build{subject: subject, key: pki, version: 1, signature: sha256ECDSA}.der(t), csr.ErrNotCSR, "version is 1"},
		"a subject that is none":     {build{subject: []byte{4, 1, 1}, key: pki, signature: sha256ECDSA}.der(t), csr.ErrNotCSR, "subject"},
		"a certificate":              {certificate, csr.ErrCertificate, "hand in the request"},
		"a certificate in DER":       {certificateBlock.Bytes, csr.ErrCertificate, "hand in the request"},
		"a private key":              {secret, csr.ErrPrivateKey, "exposed"},
		"a private key spelled out":  {[]byte(strings.ReplaceAll(string(secret), "\n", `\n`)), csr.ErrPrivateKey, "exposed"},
		"a private key in DER":       {pkcs8, csr.ErrPrivateKey, "exposed"},
		"a private key in base64":    {[]byte(base64.StdEncoding.EncodeToString(pkcs8)), csr.ErrPrivateKey, "exposed"},
		"an older key in base64":     {[]byte(base64.StdEncoding.EncodeToString(sec1)), csr.ErrPrivateKey, "exposed"},
		"an RSA key in DER":          {x509.MarshalPKCS1PrivateKey(rsaKey), csr.ErrPrivateKey, "exposed"},
		"a key as base64 of PEM":     {[]byte(base64.StdEncoding.EncodeToString(secret)), csr.ErrPrivateKey, "exposed"},
		"a public key after it":      {append([]byte(text), publicKeyPEM(t, key.Public())...), csr.ErrTrailing, "another PEM block"},
		"a key before the request":   {append(bytes.Clone(secret), text...), csr.ErrPrivateKey, "exposed"},
		"a key after the request":    {append([]byte(text), secret...), csr.ErrPrivateKey, "exposed"},
		"text after the request":     {[]byte(text + "hunter2"), csr.ErrTrailing, "7 bytes after"},
		"another request after it":   {[]byte(text + text), csr.ErrTrailing, "one request at a time"},
		"bytes after DER":            {append(good.DER(), 0), csr.ErrTrailing, "1 bytes after"},
		"bytes after DER in PEM":     {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: append(good.DER(), 1, 2)}), csr.ErrTrailing, "2 bytes after"},
		"more than 4,096 characters": {big, csr.ErrTooLong, "4096"},
		"a huge text":                {bytes.Repeat([]byte("A"), 100_000), csr.ErrTooLong, "100000 bytes"},
		"a changed subject":          {tampered, csr.ErrSignature, "make it again"},
		"a changed signature":        {badSignature, csr.ErrSignature, "make it again"},
		"RSA of 1,024 bits":          {by(weakRSA(t), 0), csr.ErrKey, "1024 bits"},
		"Ed25519":                    {by(edKey, 0), csr.ErrKey, "it is Ed25519; AWS IoT takes P-256"},
		"P-224":                      {by(p224, 0), csr.ErrKey, "P-224"},
		"secp256k1":                  {build{subject: subject, key: keyInfo(t, ecKey, asn1.ObjectIdentifier{1, 3, 132, 0, 10}, compressed), signature: sha256ECDSA}.der(t), csr.ErrKey, "secp256k1"},
		"a curve nobody knows":       {build{subject: subject, key: keyInfo(t, ecKey, asn1.ObjectIdentifier{1, 2, 3}, compressed), signature: sha256ECDSA}.der(t), csr.ErrKey, "1.2.3"},
		"a curve spelled out":        {build{subject: subject, key: keyInfo(t, ecKey, struct{ V int }{1}, compressed), signature: sha256ECDSA}.der(t), csr.ErrKey, "spelled out"},
		"a compressed point":         {build{subject: subject, key: keyInfo(t, ecKey, asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, compressed), signature: sha256ECDSA}.der(t), csr.ErrKey, "its point is compressed"},
		"DSA":                        {build{subject: subject, key: keyInfo(t, asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}, nil, nil), signature: sha256ECDSA}.der(t), csr.ErrKey, "DSA"},
		"Ed448":                      {build{subject: subject, key: keyInfo(t, asn1.ObjectIdentifier{1, 3, 101, 113}, nil, nil), signature: sha256ECDSA}.der(t), csr.ErrKey, "Ed448"},
		"SHA-1 with ECDSA":           {by(key, x509.ECDSAWithSHA1), csr.ErrSignatureAlgorithm, "with SHA-1; sign it with SHA-256"},
		"SHA-1 with RSA":             {by(rsaKey, x509.SHA1WithRSA), csr.ErrSignatureAlgorithm, "with SHA-1; sign it with SHA-256"},
		"SHA-1 with PSS, unsaid":     {withPSS(t, by(rsaKey, 0), saltOnly{234}), csr.ErrSignatureAlgorithm, "with SHA-1; sign it with SHA-256"},
		"SHA-1 with PSS, said":       {withPSS(t, by(rsaKey, 0), hashAndSalt{hash(1, 3, 14, 3, 2, 26), 20}), csr.ErrSignatureAlgorithm, "with SHA-1; sign it with SHA-256"},
		"RSA-PSS with a long salt":   {withPSS(t, by(rsaKey, 0), hashAndSalt{hash(2, 16, 840, 1, 101, 3, 4, 2, 1), 222}), csr.ErrSignatureAlgorithm, "without PSS"},
		"MD5":                        {build{subject: subject, key: pki, signature: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}}.der(t), csr.ErrSignatureAlgorithm, "with MD5 or MD2; sign it with SHA-256"},
		"SHA-224":                    {build{subject: subject, key: pki, signature: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 1}}.der(t), csr.ErrSignatureAlgorithm, "signed with SHA-224; sign it with SHA-256"},
		"RSA-PSS without a hash":     {build{subject: subject, key: pki, signature: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}}.der(t), csr.ErrSignatureAlgorithm, "RSASSA-PSS"},
		"an unsigned request":        {build{subject: subject, key: pki, signature: sha256ECDSA}.der(t), csr.ErrSignature, "make it again"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := csr.Parse(c.data)
			require.ErrorIs(t, err, c.want)
			require.Nil(t, r)
			require.ErrorContains(t, err, c.text)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.Less(t, len(err.Error()), 300)
			for _, line := range strings.Split(string(secret), "\n")[1:4] {
				if len(line) > 20 {
					assert.NotContains(t, err.Error(), line[:20])
				}
			}
		})
	}
}

func TestParseTakesWhatAWSTakes(t *testing.T) {
	rsaKey := testKey(t, csr.RSA2048)
	odd, err := rsa.GenerateKey(rand.Reader, 2056)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		signer any
		alg    x509.SignatureAlgorithm
		want   csr.Algorithm
	}{
		"P-256 with SHA-384": {testKey(t, csr.P256), x509.ECDSAWithSHA384, csr.P256},
		"RSA with SHA-512":   {rsaKey, x509.SHA512WithRSA, csr.RSA2048},
		"RSA-PSS":            {rsaKey, x509.SHA256WithRSAPSS, csr.RSA2048},
		"RSA of 2,056 bits":  {odd, 0, "rsa2056"},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "d", Organization: []string{"O"}}, DNSNames: []string{"d.example"}, SignatureAlgorithm: c.alg,
		}, c.signer)
		require.NoError(t, err)
		got, err := csr.Parse(der)
		require.NoError(t, err, name)
		assert.Equal(t, c.want, got.Algorithm(), name)
		assert.Equal(t, "O=O,CN=d", got.Subject().String())
	}
}

func TestTheSubjectOfAForeignRequestIsShownWhateverItHolds(t *testing.T) {
	raw, err := asn1.Marshal(pkix.RDNSequence{
		{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "a"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 5}, Value: "1"}},
		{{Type: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: 7}},
		{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: asn1.RawValue{Tag: asn1.TagBMPString, Bytes: []byte{0, 'O', 0x65, 0xe5}}}},
	})
	require.NoError(t, err)
	for raw, want := range map[string]csr.Subject{
		string(raw):             {{Type: "CN", Value: "a"}, {Type: "serialNumber", Value: "1"}, {Type: "1.2.3.4", Value: "#020107"}, {Type: "O", Value: "O日"}},
		string([]byte{0x30, 0}): nil,
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: []byte(raw)}, testKey(t, csr.P256))
		require.NoError(t, err)
		got, err := csr.Parse(der)
		require.NoError(t, err)
		assert.Equal(t, want, got.Subject())
		assert.Equal(t, []byte(raw), rawSubject(t, got))
	}
}

func TestARequestGoesThroughJSONAsPEM(t *testing.T) {
	r, err := csr.Create(testKey(t, csr.P256), csr.CommonName("d"))
	require.NoError(t, err)
	j, err := json.Marshal(map[string]*csr.Request{"CSR": r})
	require.NoError(t, err)
	var back struct{ CSR csr.Request }
	require.NoError(t, json.Unmarshal(j, &back))
	assert.Equal(t, r.DER(), back.CSR.DER())
	assert.True(t, back.CSR.Matches(testKey(t, csr.P256).Public()))
	assert.False(t, back.CSR.Matches(p256(t).Public()))
	assert.Contains(t, r.String(), "CSR CN=d (p256, key sha256 ")
	require.Error(t, json.Unmarshal([]byte(`{"CSR":"x"}`), &back))
	_, err = json.Marshal(new(csr.Request))
	require.ErrorIs(t, err, csr.ErrNotCSR)
}

func TestOpensslsOwnRequestsAreRead(t *testing.T) {
	openssl := opensslOrSkip(t)
	file := filepath.Join(t.TempDir(), "k.pem")
	text, err := csr.NewPrivateKey(testKey(t, csr.RSA2048)).PEM()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
	out := run(t, openssl, "", "req", "-new", "-key", file, "-subj", "/C=US/ST=WA/L=Seattle/O=MyOrg/CN=MyDept", "-text")
	require.Contains(t, out, "Certificate Request:")
	r, err := csr.Parse([]byte(out))
	require.NoError(t, err)
	assert.Equal(t, "C=US,ST=WA,L=Seattle,O=MyOrg,CN=MyDept", r.Subject().String())
	_, err = csr.Parse([]byte(run(t, openssl, "", "req", "-new", "-key", file, "-subj", "/CN=x", "-md5")))
	require.ErrorIs(t, err, csr.ErrSignatureAlgorithm)
	require.ErrorContains(t, err, "MD5")
	k1 := run(t, openssl, "", "ecparam", "-name", "secp256k1", "-genkey")
	require.NoError(t, os.WriteFile(file, []byte(k1), 0o600))
	_, err = csr.Parse([]byte(run(t, openssl, "", "req", "-new", "-key", file, "-subj", "/CN=x")))
	require.ErrorIs(t, err, csr.ErrKey)
	assert.ErrorContains(t, err, "secp256k1")
}

func FuzzParse(f *testing.F) {
	r, err := csr.Create(testKey(f, csr.P256), csr.CommonName("d"))
	require.NoError(f, err)
	for _, data := range forms(f, r) {
		f.Add(data)
	}
	r, err = csr.Create(testKey(f, csr.RSA2048), csr.CommonName("d"))
	require.NoError(f, err)
	f.Add(r.DER())
	f.Add(certificatePEM(testKey(f, csr.P256)))
	for _, odd := range oddRequests(f) {
		f.Add(odd.der)
	}
	known := []error{
		csr.ErrNotCSR, csr.ErrCertificate, csr.ErrPrivateKey, csr.ErrTrailing, csr.ErrTooLong, csr.ErrSignature,
		csr.ErrSignatureAlgorithm, csr.ErrKey,
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := csr.Parse(data)
		if lenient, err := csr.ParseLenient(data); r != nil {
			require.NoError(t, err)
			require.Equal(t, r, lenient)
		} else if err == nil {
			require.NotEmpty(t, lenient.Notes())
			_ = lenient.Subject().String()
		}
		if err != nil {
			n := 0
			for _, k := range known {
				if errors.Is(err, k) {
					n++
				}
			}
			require.Equal(t, 1, n, "exactly one reason: %v", err)
			return
		}
		if parsed, err := x509.ParseCertificateRequest(r.DER()); err == nil {
			require.NoError(t, parsed.CheckSignature())
			require.Equal(t, parsed.PublicKey, r.PublicKey())
			info, err := x509.MarshalPKIXPublicKey(parsed.PublicKey)
			require.NoError(t, err)
			require.Equal(t, parsed.RawSubjectPublicKeyInfo, info)
			require.Empty(t, r.Notes())
		} else {
			require.NotEmpty(t, r.Notes(), "crypto/x509: %v", err)
		}
		require.LessOrEqual(t, len(r.PEM()), 4096)
		again, err := csr.Parse([]byte(r.PEM()))
		require.NoError(t, err)
		require.Equal(t, r.DER(), again.DER())
		_ = r.Subject().String()
	})
}
