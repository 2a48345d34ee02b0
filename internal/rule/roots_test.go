package rule_test

import (
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

func certificate(isCA bool) string {
	return certtest.PEM(certtest.SelfSigned(certtest.Key(), func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = true, isCA }))
}

func TestRootsAreCertificatesOfAuthoritiesAndNothingElse(t *testing.T) {
	ca := certificate(true)
	assert.NoError(t, rule.CheckRoots([]byte(ca)))
	assert.NoError(t, rule.CheckRoots([]byte(ca+certificate(true))))
	for name, text := range map[string]string{
		"nothing": "", "a web page": "<html>", "text before": "roots\n" + ca, "text behind": ca + "roots", "a device's certificate": ca + certificate(false),
		"a key": ca + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "a cut": ca[:len(ca)-10],
		"no certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
	} {
		assert.Error(t, rule.CheckRoots([]byte(text)), name)
	}
}

func FuzzCheckRoots(f *testing.F) {
	ca := certificate(true)
	f.Add(ca, "")
	f.Add("", "-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, before, after string) {
		if rule.CheckRoots([]byte(before+after)) == nil && !x509.NewCertPool().AppendCertsFromPEM([]byte(before+after)) {
			t.Fatal("roots were taken that nobody can read")
		}
	})
}
