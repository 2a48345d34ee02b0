package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkIssue reports, as x-floor, what a certificate costs over the least it can: to parse the request, to check its
// signature and to sign once. The goal is 1.25.
func BenchmarkIssue(b *testing.B) {
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384()} {
		b.Run(name, func(b *testing.B) {
			ca := newIssuer(b, Options{Seed: []byte("benchmark")})
			csr := newRequest(b, newKey(b, curve), x509.CertificateRequest{})
			block, _ := pem.Decode([]byte(csr))
			key := ca.key.(*ecdsa.PrivateKey)
			digest := sha256.Sum256(block.Bytes)
			floor := func() {
				request, err := x509.ParseCertificateRequest(block.Bytes)
				require.NoError(b, err)
				require.NoError(b, request.CheckSignature())
				_, err = key.Sign(rand.Reader, digest[:], crypto.SHA256)
				require.NoError(b, err)
			}
			issue := func() {
				issued, err := ca.Issue(csr, now)
				require.NoError(b, err)
				_ = issued.PEM()
			}
			// Both are measured in turn inside the same loop, and the fastest of each is taken: on a busy machine all
			// other figures say more about its other work.
			fastestFloor, fastestIssue := time.Hour, time.Hour
			for b.Loop() {
				start := time.Now()
				floor()
				middle := time.Now()
				issue()
				fastestFloor, fastestIssue = min(fastestFloor, middle.Sub(start)), min(fastestIssue, time.Since(middle))
			}
			b.ReportMetric(float64(fastestIssue)/float64(fastestFloor), "x-floor")
			b.ReportMetric(float64(fastestIssue.Nanoseconds())/1e3, "µs/certificate")
		})
	}
}

func BenchmarkIssueParallel(b *testing.B) {
	ca := newIssuer(b, Options{Seed: []byte("benchmark")})
	csr := newRequest(b, newKey(b, elliptic.P256()), x509.CertificateRequest{})
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := ca.Issue(csr, now); err != nil {
				b.Error(err)
			}
		}
	})
}
