package csr_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	mathrand "math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
)

// testKey returns a key of an algorithm, the same one for the whole test binary: RSA keys are slow to make.
func testKey(t testing.TB, alg csr.Algorithm) crypto.Signer {
	t.Helper()
	testKeys.Lock()
	defer testKeys.Unlock()
	if key := testKeys.byAlgorithm[alg]; key != nil {
		return key
	}
	key, err := csr.Software(alg).Signer(t.Context(), "")
	require.NoError(t, err)
	testKeys.byAlgorithm[alg] = key
	return key
}

var testKeys = struct {
	sync.Mutex
	byAlgorithm map[csr.Algorithm]crypto.Signer
}{byAlgorithm: map[csr.Algorithm]crypto.Signer{}}

func p256(t testing.TB) *ecdsa.PrivateKey {
	key := certtest.Key()
	return key
}

// standard makes the request that crypto/x509 makes for the same subject.
func standard(t testing.TB, key crypto.Signer, subject csr.Subject) *x509.CertificateRequest {
	t.Helper()
	raw, err := asn1.Marshal(rdnSequence(t, subject))
	require.NoError(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: raw}, key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificateRequest(der)
	require.NoError(t, err)
	return parsed
}

var oids = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "serialNumber": {2, 5, 4, 5}, "C": {2, 5, 4, 6}, "L": {2, 5, 4, 7}, "ST": {2, 5, 4, 8},
	"O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "title": {2, 5, 4, 12}, "organizationIdentifier": {2, 5, 4, 97}, "1.3.6.1.4.1.99999.7": {1, 3, 6, 1, 4, 1, 99999, 7},
	"UID": {0, 9, 2342, 19200300, 100, 1, 1}, "DC": {0, 9, 2342, 19200300, 100, 1, 25}, "emailAddress": {1, 2, 840, 113549, 1, 9, 1},
}

func rdnSequence(t testing.TB, subject csr.Subject) pkix.RDNSequence {
	var seq pkix.RDNSequence
	for _, a := range subject {
		oid, ok := oids[a.Type]
		require.True(t, ok, "no object identifier for %s in this test", a.Type)
		var value any = a.Value
		if a.Type == "DC" || a.Type == "emailAddress" {
			value = asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(a.Value)}
		}
		seq = append(seq, pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}})
	}
	return seq
}

// randomSubject makes a valid subject of every kind of character, with lengths on both sides of DER's length forms.
func randomSubject(r *mathrand.Rand) csr.Subject {
	text := func(limit int, alphabet string) string {
		letters := []rune(alphabet)
		var b strings.Builder
		for range 1 + r.IntN(limit) {
			b.WriteRune(letters[r.IntN(len(letters))])
		}
		return b.String()
	}
	const plain = "abcXYZ019 '()+,-./:=?"
	const wide = plain + `*&@_"\<>;#~äß€日本😀`
	types := []struct {
		name     string
		limit    int
		alphabet string
	}{
		{"CN", 64, wide}, {"O", 64, plain}, {"OU", 64, wide}, {"L", 128, wide}, {"ST", 128, plain}, {"serialNumber", 64, plain},
		{"title", 64, wide}, {"UID", 256, wide}, {"DC", 63, "abc019-"}, {"emailAddress", 255, "abc019@."}, {"organizationIdentifier", 300, wide}, {"1.3.6.1.4.1.99999.7", 40, wide}, {"C", 0, ""},
	}
	var s csr.Subject
	for range 1 + r.IntN(6) {
		t := types[r.IntN(len(types))]
		value := "US"
		if t.limit > 0 {
			value = text(t.limit, t.alphabet)
		}
		s = append(s, csr.Attribute{Type: t.name, Value: value})
	}
	return s
}

func TestCreateWritesTheBytesCryptoX509Writes(t *testing.T) {
	r := mathrand.New(mathrand.NewPCG(1, 2))
	subjects := []csr.Subject{
		{{Type: "C", Value: "US"}, {Type: "ST", Value: "WA"}, {Type: "L", Value: "Seattle"}, {Type: "O", Value: "MyOrg"}, {Type: "CN", Value: "MyDept"}},
		csr.CommonName("x"),
	}
	for range 2000 {
		subjects = append(subjects, randomSubject(r))
	}
	for i, alg := range csr.Algorithms() {
		t.Run(string(alg), func(t *testing.T) {
			key := testKey(t, alg)
			n := []int{len(subjects), 20, 10, 50, 10, 5}[i] // each costs two signatures and two checks
			for _, subject := range subjects[:n] {
				ours, err := csr.Create(key, subject)
				require.NoError(t, err, "%s", subject)
				parsed, err := x509.ParseCertificateRequest(ours.DER())
				require.NoError(t, err, "%s", subject)
				require.NoError(t, parsed.CheckSignature(), "%s", subject)

				want := standard(t, key, subject)
				require.Equal(t, want.RawTBSCertificateRequest, parsed.RawTBSCertificateRequest, "%s", subject)
				require.Equal(t, want.SignatureAlgorithm, parsed.SignatureAlgorithm)
				require.Equal(t, want.RawSubject, parsed.RawSubject)
				require.Equal(t, want.RawSubjectPublicKeyInfo, parsed.RawSubjectPublicKeyInfo)
				require.Equal(t, subject, ours.Subject(), "the subject reads back as it was given")
				require.Equal(t, alg, ours.Algorithm())
				// What is around the signature is the same too.
				var outer struct{ Content, Algorithm, Bits asn1.RawValue }
				_, err = asn1.Unmarshal(want.Raw, &outer)
				require.NoError(t, err)
				outer.Bits = asn1.RawValue{Tag: asn1.TagBitString, Bytes: append([]byte{0}, parsed.Signature...)}
				whole, err := asn1.Marshal(outer)
				require.NoError(t, err)
				require.Equal(t, whole, ours.DER())
				require.Equal(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: ours.DER()})), ours.PEM())
			}
		})
	}
}

func TestRSARequestsAreByteForByteThoseOfCryptoX509(t *testing.T) {
	key := testKey(t, csr.RSA2048)
	ours, err := csr.Create(key, csr.CommonName("device-one"))
	require.NoError(t, err)
	assert.Equal(t, standard(t, key, csr.CommonName("device-one")).Raw, ours.DER())
}

func TestPrivateKeyPEMIsByteForByteThatOfCryptoX509(t *testing.T) {
	for _, alg := range csr.Algorithms() {
		for range map[bool]int{true: 200, false: 1}[alg == csr.P256] { // short scalars are padded
			key := testKey(t, alg)
			if alg == csr.P256 {
				key = p256(t)
			}
			der, err := x509.MarshalPKCS8PrivateKey(key)
			require.NoError(t, err)
			got, err := csr.NewPrivateKey(key).PEM()
			require.NoError(t, err)
			require.Equal(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), string(got), "%s", alg)

			back, err := csr.ParsePrivateKey(got)
			require.NoError(t, err)
			require.True(t, back.Equal(csr.NewPrivateKey(key)))
		}
	}
}

func TestAPrivateScalarWithLeadingZerosKeepsItsLength(t *testing.T) {
	scalar := make([]byte, 32)
	scalar[31] = 7
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	require.NoError(t, err)
	want, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text, err := csr.NewPrivateKey(key).PEM()
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	assert.Equal(t, want, block.Bytes)
}

func TestOpensslAcceptsRequestsAndKeys(t *testing.T) {
	openssl := opensslOrSkip(t)
	subjects := map[string]string{
		"C=US,ST=WA,L=Seattle,O=MyOrg,CN=MyDept": "C=US,ST=WA,L=Seattle,O=MyOrg,CN=MyDept",
		`O=Müller \+ Söhne,CN=a\,b`:              `O=Müller \+ Söhne,CN=a\,b`,
	}
	for _, alg := range csr.Algorithms() {
		t.Run(string(alg), func(t *testing.T) {
			for text, want := range subjects {
				subject, err := csr.ParseSubject(text)
				require.NoError(t, err)
				key := testKey(t, alg)
				request, err := csr.Create(key, subject)
				require.NoError(t, err)
				out := run(t, openssl, request.PEM(), "req", "-verify", "-noout", "-subject", "-nameopt", "sep_comma_plus,utf8,esc_2253")
				assert.Contains(t, out, "verify OK")
				assert.Contains(t, out, "subject="+want)

				keyPEM, err := csr.NewPrivateKey(key).PEM()
				require.NoError(t, err)
				assert.Contains(t, run(t, openssl, string(keyPEM), "pkey", "-check", "-noout"), "Key is valid")
				assert.Equal(t, run(t, openssl, request.PEM(), "req", "-noout", "-pubkey"), run(t, openssl, string(keyPEM), "pkey", "-pubout"))
			}
		})
	}
}

func TestBothFormsOfASubjectMeanWhatOpensslMakesOfThem(t *testing.T) {
	openssl := opensslOrSkip(t)
	key, err := csr.NewPrivateKey(testKey(t, csr.P256)).PEM()
	require.NoError(t, err)
	file := t.TempDir() + "/key.pem"
	require.NoError(t, writeTestFile(file, key))
	for _, slash := range []string{
		"/C=US/ST=WA/L=Seattle/O=MyOrg/CN=MyDept", "/CN=a\\/b", "/O=Müller & Söhne/CN=x_y", "/CN=a\\+b/emailAddress=a@b.example",
		"/DC=example/DC=com/CN=z", "/serialNumber=001/CN= spaced ", "/UID=u1/OU=one/OU=two/CN=a=b",
	} {
		subject, err := csr.ParseSubject(slash)
		require.NoError(t, err, slash)
		theirs, err := csr.Parse([]byte(run(t, openssl, "", "req", "-new", "-utf8", "-key", file, "-subj", slash)))
		require.NoError(t, err, slash)
		ours, err := csr.Create(testKey(t, csr.P256), subject)
		require.NoError(t, err, slash)
		assert.Equal(t, theirs.Subject(), ours.Subject(), slash)
		if !strings.ContainsAny(slash, "CUODS") {
			assert.Equal(t, rawSubject(t, theirs), rawSubject(t, ours), slash)
		}
	}
}

func opensslOrSkip(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("the openssl program is not installed, so nothing can be compared with it")
	}
	return path
}

func run(t *testing.T, program, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %s: %s", program, strings.Join(args, " "), out)
	return string(out)
}

func TestDigestsOfKeysAgreeBetweenRequestKeyAndCertificate(t *testing.T) {
	for _, alg := range csr.Algorithms() {
		key := testKey(t, alg)
		request, err := csr.Create(key, csr.CommonName("d"))
		require.NoError(t, err)
		byKey, err := csr.PublicKeySHA256(key.Public())
		require.NoError(t, err)
		byCertificate, err := csr.CertificateKeySHA256(certificatePEM(key))
		require.NoError(t, err)
		assert.Equal(t, request.PublicKeySHA256(), byKey, "%s", alg)
		assert.Equal(t, request.PublicKeySHA256(), byCertificate, "%s", alg)
	}
	_, err := csr.PublicKeySHA256(testKey(t, csr.P256))
	require.ErrorContains(t, err, "private key")
	_, err = csr.PublicKeySHA256(nil)
	require.ErrorIs(t, err, csr.ErrKey)
	_, err = csr.CertificateKeySHA256([]byte("nothing"))
	require.ErrorContains(t, err, "no PEM block CERTIFICATE")
}

func certificatePEM(key crypto.Signer) []byte {
	return []byte(certtest.PEM(certtest.SelfSigned(key, func(c *x509.Certificate) { c.Subject.CommonName = "AWS IoT Certificate" })))
}

func TestARequestOfMoreThan4096CharactersIsNotMade(t *testing.T) {
	subject := csr.Subject{}
	for i := range 20 {
		subject = append(subject, csr.Attribute{Type: "2.5.4.97", Value: fmt.Sprintf("%02d%s", i, strings.Repeat("x", 200))})
	}
	_, err := csr.Create(testKey(t, csr.P256), subject)
	require.ErrorIs(t, err, csr.ErrTooLong)
	require.ErrorContains(t, err, "AWS IoT takes 4096")
	_, err = csr.Create(testKey(t, csr.P256), subject[:12])
	assert.NoError(t, err)
}

func weakRSA(t testing.TB) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	return key
}
