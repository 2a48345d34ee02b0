package csr_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
)

func TestACertificateThatWasCutIsRefused(t *testing.T) {
	block, _ := pem.Decode(certificatePEM(testKey(t, csr.P256)))
	for n := range block.Bytes {
		_, err := csr.CertificateKeySHA256(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes[:n]}))
		require.Error(t, err, "the first %d of %d bytes", n, len(block.Bytes))
	}
	_, err := csr.CertificateKeySHA256(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: append(block.Bytes, 0)}))
	assert.Error(t, err)
}

// TestTheKeyOfACertificateIsFoundWithoutReadingAllOfIt counts allocations, since a test can't rely on time: reading a
// whole certificate makes some fifty. A run reads one for each device.
func TestTheKeyOfACertificateIsFoundWithoutReadingAllOfIt(t *testing.T) {
	text := certificatePEM(testKey(t, csr.P256))
	assert.Less(t, testing.AllocsPerRun(20, func() {
		_, err := csr.CertificateKeySHA256(text)
		require.NoError(t, err)
	}), 15.0)
}

func FuzzCertificateKey(f *testing.F) {
	for _, alg := range csr.Algorithms() {
		block, _ := pem.Decode(certificatePEM(testKey(f, alg)))
		f.Add(block.Bytes)
	}
	block, _ := pem.Decode(certificatePEM(weakRSA(f))) // a certificate can be older than AWS's rule
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, der []byte) {
		digest, err := csr.CertificateKeySHA256(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		cert, parseErr := x509.ParseCertificate(der)
		if err != nil || parseErr != nil {
			return // what is unreadable elsewhere in it need not be noticed
		}
		info, err := x509.MarshalPKIXPublicKey(cert.PublicKey)
		require.NoError(t, err)
		if digest != sha256.Sum256(info) {
			t.Errorf("%x is not the digest of the certificate's key", digest)
		}
	})
}
