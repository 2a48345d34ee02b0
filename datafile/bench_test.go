package datafile_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/datafile"
)

// walkthroughRow is a row of AWS's walkthrough: the request is for an RSA-2048 key.
func walkthroughRow(tb testing.TB) map[string]string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(tb, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{
		Country: []string{"US"}, Province: []string{"WA"}, Locality: []string{"Seattle"}, Organization: []string{"MyOrg"}, CommonName: "MyDept",
	}}, key)
	require.NoError(tb, err)
	request := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return map[string]string{"ThingName": "device-one", "SerialNumber": "001", "CSR": string(request)}
}

// Each round of these benchmarks runs this many rows our way, then as many the plain way, so that both see the same
// machine. ns/op is the sum; x-plain is our time divided by the plain way's, each the median of the rounds, so that a
// round in which the system ran something else does not count. Less is better.
const rowsPerRound = 200

type ratio struct{ ours, plain []time.Duration }

func (r *ratio) round(ours, plain func()) {
	t0 := time.Now()
	ours()
	t1 := time.Now()
	plain()
	r.ours = append(r.ours, t1.Sub(t0))
	r.plain = append(r.plain, time.Since(t1))
}

func (r *ratio) report(b *testing.B) {
	slices.Sort(r.ours)
	slices.Sort(r.plain)
	ours, plain := float64(r.ours[len(r.ours)/2]), float64(r.plain[len(r.plain)/2])
	b.ReportMetric(ours/plain, "x-plain")
	b.ReportMetric(ours/rowsPerRound, "ns/row")
	b.ReportMetric(plain/rowsPerRound, "plain-ns/row")
}

// BenchmarkWriter writes the walkthrough's line against json.Encoder on a map.
func BenchmarkWriter(b *testing.B) {
	row := walkthroughRow(b)
	for _, sum := range []bool{false, true} {
		b.Run(map[bool]string{false: "plain", true: "sha256"}[sum], func(b *testing.B) {
			var r ratio
			w := datafile.NewWriter(io.Discard, "ThingName", "SerialNumber", "CSR")
			w.NoSHA256 = !sum
			var digest hash.Hash
			sink := io.Discard
			if sum {
				digest = sha256.New()
				sink = digest
			}
			enc := json.NewEncoder(sink)
			for b.Loop() {
				r.round(func() {
					for range rowsPerRound {
						if err := w.Write(row["ThingName"], row["SerialNumber"], row["CSR"]); err != nil {
							b.Fatal(err)
						}
					}
				}, func() {
					for range rowsPerRound {
						if err := enc.Encode(row); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			r.report(b)
			b.ReportMetric(testing.AllocsPerRun(100, func() { _ = w.WriteRow(row) }), "allocs/row")
		})
	}
}

// BenchmarkRead reads the walkthrough's line against json.Unmarshal into a map, line by line.
func BenchmarkRead(b *testing.B) {
	row := walkthroughRow(b)
	var file bytes.Buffer
	w := datafile.NewWriter(&file, "ThingName", "SerialNumber", "CSR")
	for i := range rowsPerRound {
		require.NoError(b, w.Write(fmt.Sprintf("device-%06d", i), row["SerialNumber"], row["CSR"]))
	}
	require.NoError(b, w.Close())
	for _, sum := range []bool{false, true} {
		b.Run(map[bool]string{false: "plain", true: "sha256"}[sum], func(b *testing.B) {
			var r ratio
			input := func() io.Reader {
				if sum {
					return io.TeeReader(bytes.NewReader(file.Bytes()), sha256.New())
				}
				return bytes.NewReader(file.Bytes())
			}
			for b.Loop() {
				r.round(func() {
					n := 0
					for line, err := range datafile.Read(input()) {
						if err != nil || line.Err != nil || len(line.Values) != 3 {
							b.Fatal(err, line.Err)
						}
						n++
					}
					if n != rowsPerRound {
						b.Fatal(n)
					}
				}, func() {
					data, err := io.ReadAll(input())
					if err != nil {
						b.Fatal(err)
					}
					for line := range bytes.Lines(data) {
						var row map[string]string
						if err := json.Unmarshal(line, &row); err != nil || len(row) != 3 {
							b.Fatal(err)
						}
					}
				})
			}
			r.report(b)
		})
	}
}

// BenchmarkReadCSV reads the same rows from CSV, where the request is a quoted value of many lines.
func BenchmarkReadCSV(b *testing.B) {
	row := walkthroughRow(b)
	var file bytes.Buffer
	file.WriteString("ThingName,SerialNumber,CSR\n")
	for i := range rowsPerRound {
		fmt.Fprintf(&file, "device-%06d,%s,\"%s\"\n", i, row["SerialNumber"], row["CSR"])
	}
	for b.Loop() {
		for rec, err := range datafile.ReadCSV(bytes.NewReader(file.Bytes()), nil) {
			if err != nil || rec.Err != nil {
				b.Fatal(err, rec.Err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/rowsPerRound, "ns/row")
}
