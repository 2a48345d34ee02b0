package template_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/template"
)

// BenchmarkResolve resolves the walkthrough's template, compiled once. x-floor is its time over the cryptography that a
// line of a task can't do without, one P-256 signature checked and one made, turn by turn, and the median of the turns.
func BenchmarkResolve(b *testing.B) {
	program, err := template.Walkthrough().Compile(template.CompileOptions{})
	require.NoError(b, err)
	row := map[string]string{"ThingName": "device-one", "SerialNumber": "001", "CSR": "-----BEGIN CERTIFICATE REQUEST-----"}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(b, err)
	digest := sha256.Sum256([]byte("a line"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	require.NoError(b, err)
	const resolves, signatures = 500, 10
	var ratios []float64
	var ours time.Duration
	for b.Loop() {
		began := time.Now()
		for range resolves {
			if _, err := program.Resolve(row); err != nil {
				b.Fatal(err)
			}
		}
		took := time.Since(began)
		began = time.Now()
		for range signatures {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
				b.Fatal("the signature does not verify")
			}
			if _, err := ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
				b.Fatal(err)
			}
		}
		ours += took
		ratios = append(ratios, took.Seconds()/resolves/(time.Since(began).Seconds()/signatures))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x-floor")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(len(ratios)*resolves), "ns/row")
	b.ReportMetric(testing.AllocsPerRun(100, func() { _, _ = program.Resolve(row) }), "allocs/row")
}

func BenchmarkParse(b *testing.B) {
	body, err := template.Walkthrough().Body()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := template.Parse([]byte(body)); err != nil {
			b.Fatal(err)
		}
	}
}
