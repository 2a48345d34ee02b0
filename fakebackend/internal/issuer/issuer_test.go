package issuer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.UTC)

func newRequest(t testing.TB, key crypto.Signer, template x509.CertificateRequest) string {
	t.Helper()
	raw, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: raw}))
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

// certificateOf is an issuer's own certificate.
func certificateOf(t testing.TB, ca *Issuer) *x509.Certificate {
	t.Helper()
	c, err := ParseCertificate(string(ca.CertificatePEM()))
	require.NoError(t, err)
	return c
}

func newIssuer(t testing.TB, opts Options) *Issuer {
	t.Helper()
	ca, err := New(opts)
	require.NoError(t, err)
	return ca
}

// A request has version 0. crypto/x509 does not look, csr does.
func TestARequestOfAnotherVersionIsRefused(t *testing.T) {
	key := newKey(t, elliptic.P256())
	block, _ := pem.Decode([]byte(newRequest(t, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: "d"}})))
	var request struct{ Content, Algorithm, Signature asn1.RawValue }
	_, err := asn1.Unmarshal(block.Bytes, &request)
	require.NoError(t, err)
	version := bytes.Index(request.Content.FullBytes, []byte{asn1.TagInteger, 1, 0})
	require.Positive(t, version)
	request.Content.FullBytes[version+2] = 1
	digest := sha256.Sum256(request.Content.FullBytes)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	require.NoError(t, err)
	bits, err := asn1.Marshal(asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)})
	require.NoError(t, err)
	raw, err := asn1.Marshal([]asn1.RawValue{request.Content, request.Algorithm, {FullBytes: bits}})
	require.NoError(t, err)
	_, err = parseRequest(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: raw})))
	refused, ok := errors.AsType[*Refusal](err)
	require.True(t, ok, "%v", err)
	assert.Contains(t, refused.Reason, "its version is 1")
}

func parse(t testing.TB, c *Certificate) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(c.DER)
	require.NoError(t, err)
	return cert
}

func TestACertificateHasTheShapeOfAWSsOwn(t *testing.T) {
	for _, algorithm := range []Algorithm{P256, RSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			ca := newIssuer(t, Options{Algorithm: algorithm, Seed: []byte("shape"), Name: AWSName})
			key := newKey(t, elliptic.P256())
			csr := newRequest(t, key, x509.CertificateRequest{
				Subject:  pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"MyOrg"}, CommonName: "MyDept"},
				DNSNames: []string{"asked.example.com"},
			})
			issued, err := ca.Issue(csr, now)
			require.NoError(t, err)
			cert := parse(t, issued)

			sum := sha256.Sum256(issued.DER)
			assert.Equal(t, hex.EncodeToString(sum[:]), issued.ID(), "the id is the hex SHA-256 of the DER")
			assert.Equal(t, time.Date(2026, 3, 4, 5, 4, 7, 0, time.UTC), cert.NotBefore, "120 s before issue, cut to seconds")
			assert.Equal(t, time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), cert.NotAfter)
			assert.Equal(t, cert.NotBefore, issued.NotBefore)
			assert.Equal(t, cert.NotAfter, issued.NotAfter)
			assert.Contains(t, string(issued.DER), "491231235959Z", "the end is a UTCTime")
			assert.Equal(t, 3, cert.Version)
			assert.Positive(t, cert.SerialNumber.Sign())
			assert.LessOrEqual(t, cert.SerialNumber.BitLen(), 160)

			var issuer pkix.RDNSequence
			_, err = asn1.Unmarshal(cert.RawIssuer, &issuer)
			require.NoError(t, err)
			require.Len(t, issuer, 1)
			require.Len(t, issuer[0], 1)
			assert.Equal(t, "2.5.4.11", issuer[0][0].Type.String(), "an organisational unit")
			assert.Equal(t, "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US", issuer[0][0].Value)
			assert.Contains(t, string(cert.RawIssuer), string([]byte{0x0c, byte(len(AWSName))}), "a UTF8String")

			require.Len(t, cert.Extensions, 4, "and no other extension, whatever the request asks for")
			ids := []string{}
			for _, e := range cert.Extensions {
				ids = append(ids, e.Id.String())
			}
			assert.Equal(t, []string{"2.5.29.35", "2.5.29.14", "2.5.29.19", "2.5.29.15"}, ids)
			assert.False(t, cert.Extensions[0].Critical)
			assert.False(t, cert.Extensions[1].Critical)
			assert.True(t, cert.Extensions[2].Critical)
			assert.True(t, cert.Extensions[3].Critical)
			assert.Equal(t, []byte{0x30, 0x00}, cert.Extensions[2].Value, "basic constraints are empty")
			assert.Equal(t, x509.KeyUsageDigitalSignature, cert.KeyUsage)
			assert.Empty(t, cert.ExtKeyUsage)
			assert.Empty(t, cert.DNSNames)
			point, err := key.PublicKey.ECDH()
			require.NoError(t, err)
			want := sha1.Sum(point.Bytes())
			assert.Equal(t, want[:], cert.SubjectKeyId)
			assert.Equal(t, certificateOf(t, ca).SubjectKeyId, cert.AuthorityKeyId)

			assert.NoError(t, cert.CheckSignatureFrom(certificateOf(t, ca)))
			assert.True(t, key.PublicKey.Equal(cert.PublicKey), "the certificate is for the key of the request")
			wantAlgorithm := map[Algorithm]x509.SignatureAlgorithm{P256: x509.ECDSAWithSHA256, RSA2048: x509.SHA256WithRSA}
			assert.Equal(t, wantAlgorithm[algorithm], cert.SignatureAlgorithm)

			// Encoding the parsed certificate's parts again must give the same bytes: the DER is canonical.
			var outer struct {
				TBS       asn1.RawValue
				Algorithm pkix.AlgorithmIdentifier
				Signature asn1.BitString
			}
			rest, err := asn1.Unmarshal(issued.DER, &outer)
			require.NoError(t, err)
			assert.Empty(t, rest)
			again, err := asn1.Marshal(outer)
			require.NoError(t, err)
			assert.Equal(t, issued.DER, again)
		})
	}
}

func TestTheSubjectAndTheKeyAreCopiedByteForByte(t *testing.T) {
	ca := newIssuer(t, Options{Seed: []byte("subject")})
	key := newKey(t, elliptic.P384())
	// A subject that no encoder of ours would write: a T61String beside a PrintableString, and a set of two.
	subject := der(tagSequence,
		der(tagSet, der(tagSequence, []byte{tagOID, 3, 0x55, 0x04, 0x0a}, der(0x14, []byte("Acme \xe9"))),
			der(tagSequence, oidUnit, der(0x13, []byte("Line 3")))),
		der(tagSet, der(tagSequence, []byte{tagOID, 3, 0x55, 0x04, 0x03}, der(0x13, []byte("SN-1")))))
	csr := newRequest(t, key, x509.CertificateRequest{RawSubject: subject})
	issued, err := ca.Issue(csr, now)
	require.NoError(t, err)
	assert.Contains(t, string(issued.DER), string(subject))
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	assert.Contains(t, string(issued.DER), string(spki))
}

func TestAnEmptySubjectStaysEmpty(t *testing.T) {
	issued, err := newIssuer(t, Options{}).Issue(newRequest(t, newKey(t, elliptic.P256()), x509.CertificateRequest{}), now)
	require.NoError(t, err)
	assert.Equal(t, []byte{0x30, 0x00}, parse(t, issued).RawSubject)
}

func TestEveryKindOfKeyThatAWSTakesIsTaken(t *testing.T) {
	ca := newIssuer(t, Options{})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for name, key := range map[string]crypto.Signer{
		"P-256": newKey(t, elliptic.P256()), "P-384": newKey(t, elliptic.P384()), "P-521": newKey(t, elliptic.P521()), "RSA-2048": rsaKey,
	} {
		t.Run(name, func(t *testing.T) {
			issued, err := ca.Issue(newRequest(t, key, x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}), now)
			require.NoError(t, err)
			cert := parse(t, issued)
			assert.Equal(t, key.Public(), cert.PublicKey)
			roots := x509.NewCertPool()
			roots.AddCert(certificateOf(t, ca))
			_, err = cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			assert.NoError(t, err)
		})
	}
}

func TestARequestWithItsLineBreaksLostIsTaken(t *testing.T) {
	ca := newIssuer(t, Options{})
	csr := newRequest(t, newKey(t, elliptic.P256()), x509.CertificateRequest{})
	for name, form := range map[string]string{
		"as it is":           csr,
		"no newline":         strings.ReplaceAll(csr, "\n", ""),
		"spaces":             strings.ReplaceAll(csr, "\n", " "),
		"CRLF":               strings.ReplaceAll(csr, "\n", "\r\n"),
		"last newline":       strings.TrimSpace(csr),
		"text before":        "Certificate Request:\n    Data:\n" + csr,
		"Microsoft's labels": strings.ReplaceAll(csr, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ca.Issue(form, now)
			assert.NoError(t, err)
		})
	}
}

func TestARequestThatAWSWouldRefuseIsRefusedWithTheReason(t *testing.T) {
	good := newRequest(t, newKey(t, elliptic.P256()), x509.CertificateRequest{Subject: pkix.Name{CommonName: "device"}})
	block, _ := pem.Decode([]byte(good))
	forged := bytes.Replace(block.Bytes, []byte("device"), []byte("DEVICE"), 1)
	weak := weakRSARequest(t)
	_, edKey, err := ed25519Key()
	require.NoError(t, err)
	encode := func(raw []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: raw}))
	}
	for name, c := range map[string]struct{ csr, want string }{
		"a changed subject":   {encode(forged), "CSR violates constraints: it is not signed by its own key: x509: ECDSA verification failure"},
		"RSA of 1024 bits":    {weak, "CSR violates constraints: its RSA key has 1024 bits; 2048 are the least"},
		"P-224":               {newRequest(t, newKey(t, elliptic.P224()), x509.CertificateRequest{}), "CSR violates constraints: its key is on curve P-224; P-256, P-384 and P-521 are taken"},
		"Ed25519":             {newRequest(t, edKey, x509.CertificateRequest{}), "CSR violates constraints: its key is neither RSA nor ECDSA but Ed25519"},
		"a path":              {"file:///device.csr", "CSR violates constraints: there is no PEM block BEGIN CERTIFICATE REQUEST"},
		"a certificate":       {strings.ReplaceAll(good, "CERTIFICATE REQUEST", "CERTIFICATE"), "CSR violates constraints: there is no PEM block BEGIN CERTIFICATE REQUEST"},
		"no end":              {good[:100], "CSR violates constraints: the PEM block has no END CERTIFICATE REQUEST boundary"},
		"literal backslash n": {strings.ReplaceAll(good, "\n", `\n`), "CSR violates constraints: the PEM block is not base64"},
		"not a request":       {encode([]byte("hello")), "CSR violates constraints: it is not a PKCS#10 request: "},
		"trailing data":       {encode(append(bytes.Clone(block.Bytes), 0)), "CSR violates constraints: it is not a PKCS#10 request: "},
		"nothing":             {"", "1 validation error detected: Value '' at 'certificateSigningRequest' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"too long":            {good + strings.Repeat("\n", 4096), "Member must have length less than or equal to 4096"},
	} {
		t.Run(name, func(t *testing.T) {
			ca := newIssuer(t, Options{})
			_, err := ca.Issue(c.csr, now)
			var refusal *Refusal
			require.ErrorAs(t, err, &refusal)
			assert.ErrorContains(t, err, c.want)
			assert.Zero(t, ca.Issued(), "a refused request uses up no serial number")
		})
	}
}

func TestTheLengthLimitCountsCharactersNotBytes(t *testing.T) {
	csr := newRequest(t, newKey(t, elliptic.P256()), x509.CertificateRequest{})
	padded := strings.Repeat("é", 4096-len(csr)) + csr
	require.Greater(t, len(padded), 4096)
	_, err := parseRequest(padded)
	assert.NoError(t, err)
	_, err = parseRequest("é" + padded)
	assert.Error(t, err)
}

func TestTheSameSeedGivesTheSameCertificates(t *testing.T) {
	csr := newRequest(t, newKey(t, elliptic.P256()), x509.CertificateRequest{Subject: pkix.Name{CommonName: "again"}})
	for _, algorithm := range []Algorithm{P256, RSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			one := newIssuer(t, Options{Seed: []byte("seed"), Algorithm: algorithm})
			two := newIssuer(t, Options{Seed: []byte("seed"), Algorithm: algorithm})
			other := newIssuer(t, Options{Seed: []byte("tree"), Algorithm: algorithm})
			assert.Equal(t, one.CertificatePEM(), two.CertificatePEM())
			assert.NotEqual(t, one.CertificatePEM(), other.CertificatePEM())

			a, err := one.Issue(csr, now)
			require.NoError(t, err)
			b, err := two.Issue(csr, now)
			require.NoError(t, err)
			assert.Equal(t, a, b)

			c, err := one.Issue(csr, now)
			require.NoError(t, err)
			assert.NotEqual(t, a.ID(), c.ID(), "the same request gives another certificate each time")

			two.SetIssued(one.Issued() - 1)
			d, err := two.Issue(csr, now)
			require.NoError(t, err)
			assert.Equal(t, c, d, "the number of certificates is all the state there is")
		})
	}
}

func TestWithoutASeedTwoIssuersDiffer(t *testing.T) {
	one, other := newIssuer(t, Options{}), newIssuer(t, Options{})
	assert.NotEqual(t, one.CertificatePEM(), other.CertificatePEM())
}

func TestACreatedKeyFitsItsCertificate(t *testing.T) {
	ca := newIssuer(t, Options{Seed: []byte("keys")})
	made, err := ca.Create(now)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair([]byte(made.PEM()), []byte(made.PrivateKeyPEM()))
	require.NoError(t, err)
	assert.Equal(t, "CN=AWS IoT Certificate", pair.Leaf.Subject.String())
	assert.Equal(t, 2048, pair.Leaf.PublicKey.(*rsa.PublicKey).N.BitLen())
	assert.NoError(t, pair.Leaf.CheckSignatureFrom(certificateOf(t, ca)))
	assert.True(t, strings.HasPrefix(made.PublicKeyPEM, "-----BEGIN PUBLIC KEY-----\n"))

	second, err := ca.Create(now)
	require.NoError(t, err)
	assert.NotEqual(t, made.PublicKeyPEM, second.PublicKeyPEM, "every device gets a key of its own")
	again, err := newIssuer(t, Options{Seed: []byte("keys")}).Create(now)
	require.NoError(t, err)
	assert.Equal(t, made.PrivateKeyPEM(), again.PrivateKeyPEM())
}

func ed25519Key() (ed25519.PublicKey, ed25519.PrivateKey, error) { return ed25519.GenerateKey(nil) }

func TestPEMHasLinesOf64AndANewlineAtTheEnd(t *testing.T) {
	for n := range 200 {
		raw := bytes.Repeat([]byte{7}, n)
		assert.Equal(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), EncodePEM(raw))
	}
}

func TestOpenSSLVerifiesWhatIsIssued(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	for _, algorithm := range []Algorithm{P256, RSA2048} {
		ca := newIssuer(t, Options{Algorithm: algorithm})
		dir := t.TempDir()
		caFile, certFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem")
		require.NoError(t, os.WriteFile(caFile, ca.CertificatePEM(), 0o600))
		request := newRequest(t, newKey(t, elliptic.P256()), x509.CertificateRequest{Subject: pkix.Name{CommonName: "device"}})
		issued, err := ca.Issue(request, now)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(certFile, []byte(issued.PEM()), 0o600))
		out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-attime", "1772600768", "-CAfile", caFile, certFile).CombinedOutput()
		assert.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), ": OK")
	}
}

func TestManyMayIssueAtOnce(t *testing.T) {
	ca := newIssuer(t, Options{})
	csr := newRequest(t, newKey(t, elliptic.P256()), x509.CertificateRequest{})
	ids := make([]string, 64)
	var group sync.WaitGroup
	for i := range ids {
		group.Go(func() {
			if issued, err := ca.Issue(csr, now); assert.NoError(t, err) {
				ids[i] = issued.ID()
			}
		})
	}
	group.Wait()
	unique := map[string]bool{}
	for _, id := range ids {
		unique[id] = true
	}
	assert.Len(t, unique, len(ids))
	assert.EqualValues(t, len(ids), ca.Issued())
}

func TestAnUnknownAlgorithmIsRefused(t *testing.T) {
	_, err := New(Options{Algorithm: "ed25519"})
	assert.ErrorContains(t, err, `"ed25519"`)
}

// weakRSARequest was made by openssl with a key of 1024 bits: the standard library makes no such key any more.
func weakRSARequest(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "rsa1024.csr"))
	require.NoError(t, err)
	return string(raw)
}
