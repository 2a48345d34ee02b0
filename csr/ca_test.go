package csr_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
)

const years = 365 * 24 * time.Hour

// caCertificate makes the certificate of a CA that is valid for 20 years, as change leaves it.
func caCertificate(key crypto.Signer, changes ...func(*x509.Certificate)) *x509.Certificate {
	return certtest.NewCA(key, append([]func(*x509.Certificate){func(c *x509.Certificate) {
		c.Subject = pkix.Name{Organization: []string{"MyOrg"}, CommonName: "MyOrg Device CA"}
		c.NotBefore, c.NotAfter = time.Now().Add(-24*time.Hour), time.Now().Add(20*years)
	}}, changes...)...).Certificate
}

// freshKey makes a key that is not testKey's, which devices have here.
func freshKey(t testing.TB, alg csr.Algorithm) crypto.Signer {
	t.Helper()
	key, err := csr.Software(alg).Signer(t.Context(), "")
	require.NoError(t, err)
	return key
}

func newCA(t testing.TB, alg csr.Algorithm) *csr.CA {
	t.Helper()
	key := freshKey(t, alg)
	ca, err := csr.NewCA(caCertificate(key), key, csr.Profile{Validity: 10 * years})
	require.NoError(t, err)
	return ca
}

func parsePEM(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	require.NotNil(t, block)
	require.Empty(t, rest)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

func TestACertificateIsWhatCryptoX509MakesOfTheSameProfile(t *testing.T) {
	usages := map[string]csr.Profile{
		"the default":          {Validity: 10 * years},
		"beyond 2050":          {Validity: 30 * years},
		"all key usages":       {Validity: years, KeyUsage: 0x1ff},
		"key agreement":        {Validity: years, KeyUsage: x509.KeyUsageKeyAgreement | x509.KeyUsageDigitalSignature},
		"decipher only":        {Validity: years, KeyUsage: x509.KeyUsageDecipherOnly},
		"server and client":    {Validity: years, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}},
		"no extended usage":    {Validity: years, ExtKeyUsage: []x509.ExtKeyUsage{}},
		"a week, a minute ago": {Validity: 7 * 24 * time.Hour, Backdate: time.Minute},
	}
	subject := csr.Subject{{Type: "C", Value: "US"}, {Type: "O", Value: "Müller & Söhne"}, {Type: "CN", Value: "device-one"}}
	for _, of := range []csr.Algorithm{csr.P256, csr.P384, csr.P521, csr.RSA2048} {
		for name, profile := range usages {
			t.Run(string(of)+" "+name, func(t *testing.T) {
				key := freshKey(t, of)
				root := caCertificate(key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(40 * years) })
				ca, err := csr.NewCA(root, key, profile)
				require.NoError(t, err)
				device := testKey(t, csr.P256)
				text, err := ca.Issue(device.Public(), subject)
				require.NoError(t, err)
				got := parsePEM(t, text)

				want := &x509.Certificate{
					SerialNumber: got.SerialNumber, RawSubject: got.RawSubject, NotBefore: got.NotBefore, NotAfter: got.NotAfter,
					BasicConstraintsValid: true, KeyUsage: profile.KeyUsage, ExtKeyUsage: profile.ExtKeyUsage,
					SubjectKeyId: got.SubjectKeyId, SignatureAlgorithm: got.SignatureAlgorithm,
				}
				if profile.KeyUsage == 0 {
					want.KeyUsage = x509.KeyUsageDigitalSignature
				}
				if profile.ExtKeyUsage == nil {
					want.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
				}
				der, err := x509.CreateCertificate(rand.Reader, want, root, device.Public(), key)
				require.NoError(t, err)
				theirs, err := x509.ParseCertificate(der)
				require.NoError(t, err)
				// The order of the extensions apart, which means nothing.
				assert.ElementsMatch(t, theirs.Extensions, got.Extensions)
				got.Extensions, theirs.Extensions = nil, nil
				for _, c := range []*x509.Certificate{got, theirs} {
					c.Raw, c.RawTBSCertificate, c.Signature = nil, nil, nil
				}
				assert.Equal(t, theirs, got)
			})
		}
	}
}

func TestAnIssuedCertificateIsForItsKeySubjectAndTime(t *testing.T) {
	began := time.Now()
	ca := newCA(t, csr.P256)
	made := time.Now()
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	for _, alg := range csr.Algorithms() {
		key := testKey(t, alg)
		text, err := ca.Issue(key.Public(), csr.Subject{{Type: "O", Value: "MyOrg"}, {Type: "CN", Value: "device-one"}})
		require.NoError(t, err)
		cert := parsePEM(t, text)
		_, err = cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		require.NoError(t, err, alg)
		assert.Equal(t, key.Public(), cert.PublicKey, alg)
		assert.Equal(t, "CN=device-one,O=MyOrg", cert.Subject.String())
		assert.False(t, cert.IsCA)
		assert.WithinRange(t, cert.NotBefore.Add(time.Hour), began.Truncate(time.Second), made)
		assert.WithinRange(t, cert.NotAfter, began.Add(10*years).Truncate(time.Second), made.Add(10*years))
		assert.Equal(t, ca.NotAfter(), cert.NotAfter)
		_, rsaKey := key.Public().(*rsa.PublicKey)
		assert.Equal(t, rsaKey, cert.KeyUsage&x509.KeyUsageKeyEncipherment != 0)
		digest, err := csr.CertificateKeySHA256([]byte(text))
		require.NoError(t, err)
		want, err := csr.PublicKeySHA256(key.Public())
		require.NoError(t, err)
		assert.Equal(t, want, digest)
	}
}

func TestSerialNumbersArePositiveLongAndDiffer(t *testing.T) {
	ca, key := newCA(t, csr.P256), testKey(t, csr.P256)
	seen := map[string]bool{}
	ones := make([]int, 126)
	const n = 2000
	for range n {
		text, err := ca.Issue(key.Public(), csr.CommonName("d"))
		require.NoError(t, err)
		serial := parsePEM(t, text).SerialNumber
		require.Equal(t, 1, serial.Sign())
		require.Equal(t, 127, serial.BitLen(), "16 bytes, the first bit 0")
		require.False(t, seen[serial.String()])
		seen[serial.String()] = true
		for i := range ones {
			ones[i] += int(serial.Bit(i))
		}
	}
	for i, k := range ones { // 126 bits that are drawn: each is 1 about half of the time (seven deviations)
		assert.InDelta(t, n/2, k, 160, "bit %d", i)
	}
}

func TestACAThatCanNotIssueIsRefusedBeforeTheFirstDevice(t *testing.T) {
	key, other := testKey(t, csr.P256), testKey(t, csr.P384)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	profile := csr.Profile{Validity: 10 * years}
	// Names only below O=MyOrg: the subjects of devices may be others, and then the certificates are not valid.
	constraints := []byte{0x30, 0x18, 0xa0, 0x16, 0x30, 0x14, 0xa4, 0x12, 0x30, 0x10, 0x31, 0x0e, 0x30, 0x0c, 6, 3, 0x55, 4, 10, 0x0c, 5, 'M', 'y', 'O', 'r', 'g'}
	broken := signerFunc{key.Public(), func([]byte, crypto.SignerOpts) ([]byte, error) { return nil, errors.New("PIN locked") }}
	liar := signerFunc{key.Public(), func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		return other.Sign(rand.Reader, digest, opts)
	}}

	for name, c := range map[string]struct {
		signer  crypto.Signer // of the certificate, too, if holder is nil
		holder  crypto.Signer
		change  func(*x509.Certificate)
		profile csr.Profile
		is      error
		text    string
	}{
		"another key":      {key, other, nil, profile, csr.ErrCA, "the key is not the certificate's"},
		"a key that lies":  {key, liar, nil, profile, csr.ErrSignature, "does not fit its own public key"},
		"a locked key":     {key, broken, nil, profile, csr.ErrCA, "PIN locked"},
		"expired":          {key, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, profile, csr.ErrCA, "it expired at"},
		"not yet valid":    {key, nil, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, profile, csr.ErrCA, "not valid before"},
		"no CA":            {key, nil, func(c *x509.Certificate) { c.IsCA = false }, profile, csr.ErrCA, "do not have CA:TRUE"},
		"no constraints":   {key, nil, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false }, profile, csr.ErrCA, "do not have CA:TRUE"},
		"no certSign":      {key, nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, profile, csr.ErrCA, "keyCertSign"},
		"for servers only": {key, nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, profile, csr.ErrCA, "clientAuth"},
		"name constraints": {key, nil, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 30}, Critical: true, Value: constraints}}
		}, profile, csr.ErrCA, "2.5.29.30"},
		"no subject":       {key, nil, func(c *x509.Certificate) { c.Subject = pkix.Name{} }, profile, csr.ErrCA, "subject is empty"},
		"ends too early":   {key, nil, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(9 * years) }, profile, csr.ErrCA, "shorten Profile.Validity"},
		"no validity":      {key, nil, nil, csr.Profile{}, csr.ErrCA, "Profile.Validity is 0s"},
		"Ed25519":          {edKey, nil, nil, profile, csr.ErrKey, "Ed25519"},
		"RSA of 1024 bits": {short, nil, nil, profile, csr.ErrKey, "1024 bits"},
		"P-224":            {p224, nil, nil, profile, csr.ErrKey, "P-224"},
	} {
		holder := c.holder
		if holder == nil {
			holder = c.signer
		}
		_, err := csr.NewCA(caCertificate(c.signer, c.change), holder, c.profile)
		require.ErrorIs(t, err, csr.ErrCA, name)
		assert.ErrorIs(t, err, c.is, name)
		assert.ErrorContains(t, err, c.text, name)
		if name != "no subject" {
			assert.ErrorContains(t, err, "MyOrg Device CA", name)
		}
	}
	_, err = csr.NewCA(nil, key, profile)
	require.ErrorIs(t, err, csr.ErrCA)
	_, err = csr.NewCA(caCertificate(key), nil, profile)
	require.ErrorIs(t, err, csr.ErrCA)
	_, err = csr.NewCA(caCertificate(key), key, csr.Profile{Validity: years, ExtKeyUsage: []x509.ExtKeyUsage{99}})
	require.ErrorContains(t, err, "not known here")

	// What lacks the extensions that say nothing is a CA all the same.
	_, err = csr.NewCA(caCertificate(key, func(c *x509.Certificate) { c.KeyUsage = 0 }), key, profile)
	require.NoError(t, err)
}

func TestACertificateNeverBeginsBeforeTheCAs(t *testing.T) {
	key := testKey(t, csr.P256)
	root := caCertificate(key, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(-time.Minute) })
	ca, err := csr.NewCA(root, key, csr.Profile{Validity: years})
	require.NoError(t, err)
	text, err := ca.Issue(testKey(t, csr.P384).Public(), csr.CommonName("d"))
	require.NoError(t, err)
	assert.Equal(t, root.NotBefore, parsePEM(t, text).NotBefore)
}

func TestAllCertificatesOfACAEndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, csr.P256)
		first, err := ca.Issue(testKey(t, csr.P256).Public(), csr.CommonName("a"))
		require.NoError(t, err)
		time.Sleep(48 * time.Hour) // a run that takes long does not come to the CA's own end
		second, err := ca.Issue(testKey(t, csr.P256).Public(), csr.CommonName("b"))
		require.NoError(t, err)
		assert.Equal(t, parsePEM(t, first).NotAfter, parsePEM(t, second).NotAfter)
	})
}

func TestAKeyOfADeviceThatCanNotBeUsedIsRefused(t *testing.T) {
	key := testKey(t, csr.P256)
	ca, err := csr.NewCA(caCertificate(key), key, csr.Profile{Validity: years})
	require.NoError(t, err)
	edPublic, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	_, err = ca.Issue(edPublic, csr.CommonName("d"))
	require.ErrorIs(t, err, csr.ErrKey)
	_, err = ca.Issue(key.Public(), csr.CommonName("d"))
	require.ErrorIs(t, err, csr.ErrKey)
	require.ErrorContains(t, err, "the CA's own")
	_, err = ca.Issue(testKey(t, csr.P384).Public(), csr.Subject{})
	_, ok := errors.AsType[*csr.SubjectError](err)
	require.True(t, ok, err)
}

func TestASignatureOfACAInHardwareIsVerified(t *testing.T) {
	key, other := testKey(t, csr.P256), testKey(t, csr.P521)
	calls := 0
	hsm := signerFunc{key.Public(), func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		if calls++; calls > 2 {
			return other.Sign(rand.Reader, digest, opts)
		}
		return key.Sign(rand.Reader, digest, opts)
	}}
	ca, err := csr.NewCA(caCertificate(key), hsm, csr.Profile{Validity: years})
	require.NoError(t, err)
	text, err := ca.Issue(testKey(t, csr.P384).Public(), csr.CommonName("d"))
	require.NoError(t, err)
	require.NoError(t, parsePEM(t, text).CheckSignatureFrom(ca.Certificate()))
	_, err = ca.Issue(testKey(t, csr.P384).Public(), csr.CommonName("d"))
	require.ErrorIs(t, err, csr.ErrSignature)
}

func TestAGeneratorWithACAIssuesCertificatesInPlaceOfRequests(t *testing.T) {
	ca := newCA(t, csr.P256)
	kept, err := ca.Issue(testKey(t, csr.P384).Public(), csr.CommonName("kept"))
	require.NoError(t, err)
	g := csr.Generator{CA: ca, Workers: 2, Kept: func(_ context.Context, r *csr.Result) error {
		if r.Device.Name == deviceName(3) {
			r.CertificatePEM = kept
		}
		return nil
	}}
	n := 0
	for r, err := range g.All(t.Context(), deviceSeq(20)) {
		require.NoError(t, err)
		require.NoError(t, r.Err)
		assert.Nil(t, r.Request)
		if n++; r.Device.Name == deviceName(3) {
			assert.Equal(t, kept, r.CertificatePEM)
			assert.True(t, r.Key.IsZero())
			continue
		}
		cert := parsePEM(t, r.CertificatePEM)
		require.NoError(t, cert.CheckSignatureFrom(ca.Certificate()))
		assert.Equal(t, r.Device.Name, cert.Subject.CommonName)
		assert.Equal(t, r.Key.Public(), cert.PublicKey)
	}
	assert.Equal(t, 20, n)

	// A key in hardware signs nothing else that would show whether it is there.
	key, other := testKey(t, csr.P256), testKey(t, csr.P384)
	liar := signerFunc{key.Public(), func(d []byte, o crypto.SignerOpts) ([]byte, error) { return other.Sign(rand.Reader, d, o) }}
	g = csr.Generator{CA: ca, Keys: keySourceFunc(func(context.Context, string) (crypto.Signer, error) { return liar, nil })}
	r := g.One(t.Context(), csr.Device{Name: "d"})
	require.ErrorIs(t, r.Err, csr.ErrSignature)
	assert.Empty(t, r.CertificatePEM)
}

func TestOpensslVerifiesIssuedCertificates(t *testing.T) {
	openssl := opensslOrSkip(t)
	for _, of := range []csr.Algorithm{csr.P256, csr.P384, csr.P521, csr.RSA2048} {
		t.Run(string(of), func(t *testing.T) {
			ca := newCA(t, of)
			root := filepath.Join(t.TempDir(), "ca.pem")
			require.NoError(t, os.WriteFile(root, []byte(ca.PEM()), 0o600))
			for _, alg := range csr.Algorithms() {
				key := testKey(t, alg)
				text, err := ca.Issue(key.Public(), csr.Subject{{Type: "O", Value: "Müller"}, {Type: "CN", Value: "device-one"}})
				require.NoError(t, err)
				assert.Contains(t, run(t, openssl, text, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", root), "OK")
				keyPEM, err := csr.NewPrivateKey(key).PEM()
				require.NoError(t, err)
				assert.Equal(t, run(t, openssl, string(keyPEM), "pkey", "-pubout"), run(t, openssl, text, "x509", "-noout", "-pubkey"))
				assert.Contains(t, run(t, openssl, text, "x509", "-noout", "-text"), "TLS Web Client Authentication")
			}
		})
	}
}

// BenchmarkIssue makes a key and a certificate with the PEM of both for each device, beside the same number of
//
//	floor: ecdsa.GenerateKey and one signature of the CA
//	plain: the same result by way of crypto/x509 and encoding/pem
func BenchmarkIssue(b *testing.B) {
	caKey := testKey(b, csr.P256)
	root := caCertificate(caKey)
	ca, err := csr.NewCA(root, caKey, csr.Profile{Validity: 10 * years})
	require.NoError(b, err)
	g := csr.Generator{CA: ca}
	race(b, 50,
		func(i int) {
			r := g.One(b.Context(), csr.Device{Name: deviceName(i)})
			require.NoError(b, r.Err)
			_, err := r.Key.PEM()
			require.NoError(b, err)
		},
		func(int) {
			certtest.Key()
			digest := sha256.Sum256(nil)
			_, err := caKey.Sign(rand.Reader, digest[:], crypto.SHA256)
			require.NoError(b, err)
		},
		func(i int) {
			key := certtest.Key()
			now := time.Now()
			der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
				Subject: pkix.Name{CommonName: deviceName(i)}, NotBefore: now, NotAfter: now.Add(10 * years), BasicConstraintsValid: true,
				KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}, root, key.Public(), caKey)
			require.NoError(b, err)
			pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
			der, err = x509.MarshalPKCS8PrivateKey(key)
			require.NoError(b, err)
			pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		})
}

func ExampleNewCA() {
	key, certificate := ownCA() // from a file, or a signer of an HSM
	ca, err := csr.NewCA(certificate, key, csr.Profile{Validity: 10 * 365 * 24 * time.Hour})
	if err != nil {
		log.Fatal(err) // expired, no CA, another key, …: before the first device
	}
	g := csr.Generator{CA: ca}
	for result, err := range g.All(context.Background(), devices("device-one", "device-two")) {
		if err != nil {
			log.Fatal(err)
		}
		certs, err := csr.ParseCertificates([]byte(result.CertificatePEM))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(certs[0].Subject, "of", certs[0].Issuer)
	}
	// Output:
	// CN=device-one of CN=MyOrg Device CA
	// CN=device-two of CN=MyOrg Device CA
}

func ownCA() (crypto.Signer, *x509.Certificate) {
	key := certtest.Key()
	return key, caCertificate(key, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "MyOrg Device CA"} })
}

// openssl req -x509 makes a CA without key usages unless it is told to.
func TestACAWithoutKeyUsagesOrIdentifierSignsItsRevocationList(t *testing.T) {
	key := freshKey(t, csr.P256)
	for name, change := range map[string]func(*x509.Certificate){
		"no key usages": func(c *x509.Certificate) { c.KeyUsage = 0 },
		"no identifier": func(c *x509.Certificate) { c.IsCA = false }, // crypto/x509 makes one for CAs only
	} {
		root := caCertificate(key, change)
		root.IsCA = true
		ca, err := csr.NewCA(root, key, csr.Profile{Validity: years})
		require.NoError(t, err, name)
		text, err := ca.RevocationList("", []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: time.Now()}}, time.Now().Add(time.Hour))
		require.NoError(t, err, name)
		block, _ := pem.Decode([]byte(text))
		require.NotNil(t, block)
		list, err := x509.ParseRevocationList(block.Bytes)
		require.NoError(t, err)
		assert.NoError(t, list.CheckSignatureFrom(root), name)
		assert.Len(t, list.RevokedCertificateEntries, 1)
	}
	root := caCertificate(key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	ca, err := csr.NewCA(root, key, csr.Profile{Validity: years})
	require.NoError(t, err)
	_, err = ca.RevocationList("", nil, time.Now().Add(time.Hour))
	require.ErrorIs(t, err, csr.ErrCA)
}
