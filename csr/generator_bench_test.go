package csr_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
)

// BenchmarkGenerate makes a key, a request and the PEM of both for each device, beside the same number of
//
//	floor: ecdsa.GenerateKey and one signature (RSA: one signature, the key is given)
//	plain: the same result by way of crypto/x509 and encoding/pem
//
// in turns within one run, and reports our time as a multiple of theirs: the median over the turns. Absolute times say
// nothing on a shared machine.
func BenchmarkGenerate(b *testing.B) {
	b.Run("p256", func(b *testing.B) {
		g := csr.Generator{}
		race(b, 50,
			func(i int) {
				r := g.One(b.Context(), csr.Device{Name: deviceName(i)})
				require.NoError(b, r.Err)
				pems(b, r.Key, r.Request)
			},
			func(int) {
				key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				require.NoError(b, err)
				digest := sha256.Sum256(nil)
				_, err = ecdsa.SignASN1(rand.Reader, key, digest[:])
				require.NoError(b, err)
			},
			func(i int) {
				key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
				require.NoError(b, err)
				plain(b, key, deviceName(i))
			})
	})
	b.Run("rsa2048-keys-given", func(b *testing.B) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(b, err)
		race(b, 20,
			func(i int) {
				r, err := csr.Create(key, csr.CommonName(deviceName(i)))
				require.NoError(b, err)
				pems(b, csr.NewPrivateKey(key), r)
			},
			func(int) {
				digest := sha256.Sum256(nil)
				_, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
				require.NoError(b, err)
			},
			func(i int) { plain(b, key, deviceName(i)) })
	})
	// The same work through All, by one worker and by two: x-one is the time of two as a part of the time of one.
	// It says something only where two cores are free.
	b.Run("p256-all", func(b *testing.B) {
		all := func(workers, n int) {
			g := csr.Generator{Workers: workers}
			for r, err := range g.All(b.Context(), deviceSeq(n)) {
				require.NoError(b, err)
				require.NoError(b, r.Err)
			}
		}
		const n = 500
		var ratios []float64
		for b.Loop() {
			one := timed(func() { all(1, n) })
			two := timed(func() { all(2, n) })
			ratios = append(ratios, float64(two)/float64(one))
		}
		b.ReportMetric(median(ratios), "x-one")
	})
}

// race runs the three in turns of n devices and reports the ratios.
func race(b *testing.B, n int, ours, floor, plain func(i int)) {
	b.ReportAllocs()
	var xFloor, xPlain []float64
	for b.Loop() {
		turn := func(f func(int)) time.Duration {
			return timed(func() {
				for i := range n {
					f(i)
				}
			})
		}
		us, fl, pl := turn(ours), turn(floor), turn(plain)
		xFloor = append(xFloor, float64(us)/float64(fl))
		xPlain = append(xPlain, float64(us)/float64(pl))
	}
	b.ReportMetric(median(xFloor), "x-floor")
	b.ReportMetric(median(xPlain), "x-plain")
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func pems(b *testing.B, key csr.PrivateKey, request *csr.Request) {
	_, err := key.PEM()
	require.NoError(b, err)
	if request.PEM() == "" {
		b.Fatal("no PEM")
	}
}

// plain is the way of a Go user without this package.
func plain(b *testing.B, key crypto.Signer, name string) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	require.NoError(b, err)
	pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	der, err = x509.MarshalPKCS8PrivateKey(key)
	require.NoError(b, err)
	pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func deviceName(i int) string { return fmt.Sprintf("device-%06d", i) }

func deviceSeq(n int) iter.Seq2[csr.Device, error] {
	return func(yield func(csr.Device, error) bool) {
		for i := range n {
			if !yield(csr.Device{Name: deviceName(i)}, nil) {
				return
			}
		}
	}
}
