package rule_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

func certificate(t testing.TB, isCA bool) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: isCA}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestRootsAreCertificatesOfAuthoritiesAndNothingElse(t *testing.T) {
	ca := certificate(t, true)
	assert.NoError(t, rule.CheckRoots([]byte(ca)))
	assert.NoError(t, rule.CheckRoots([]byte(ca+certificate(t, true))))
	for name, text := range map[string]string{
		"nothing": "", "a web page": "<html>", "text before": "roots\n" + ca, "text behind": ca + "roots", "a device's certificate": ca + certificate(t, false),
		"a key": ca + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "a cut": ca[:len(ca)-10],
		"no certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		assert.Error(t, rule.CheckRoots([]byte(text)), name)
	}
}

func FuzzCheckRoots(f *testing.F) {
	ca := certificate(f, true)
	f.Add(ca, "")
	f.Add("", "-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, before, after string) {
		if rule.CheckRoots([]byte(before+after)) == nil && !x509.NewCertPool().AppendCertsFromPEM([]byte(before+after)) {
			t.Fatal("roots were taken that nobody can read")
		}
	})
}
