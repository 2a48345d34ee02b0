package fakebackend_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// BenchmarkTaskLines measures one line of a task with a P-256 CSR: reading it, filling the template, and making thing,
// certificate and attachments. x-floor is its time over that of the cryptography that cannot be avoided: parsing the
// CSR, verifying its signature and signing one certificate. Both are measured turn about, and the median of the rounds
// is taken, since other work of the machine comes and goes. The goal is 1.25. bytes/device is what the registry and the
// task's results keep, the data file apart.
func BenchmarkTaskLines(b *testing.B) {
	const n = 200
	csrs := make([]string, n)
	lines := make([]string, n)
	for i := range n {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(b, err)
		csrs[i] = csrOf(k, fmt.Sprintf("device-%06d", i))
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(b, err)
	digest := sha256.Sum256([]byte("a certificate"))
	floor := func() {
		for _, csr := range csrs {
			block, _ := pem.Decode([]byte(csr))
			request, err := x509.ParseCertificateRequest(block.Bytes)
			if err == nil {
				err = request.CheckSignature()
			}
			if err == nil {
				_, err = signer.Sign(nil, digest[:], crypto.SHA256)
			}
			require.NoError(b, err)
		}
	}
	body := walkthrough(b)
	fake, role := newFake(b, fakebackend.Options{})
	round := 0
	var lineAllocs uint64
	run := func() time.Duration {
		round++
		for i := range n {
			lines[i] = line(b, map[string]string{
				"ThingName": fmt.Sprintf("device-%06d-%06d", round, i), "SerialNumber": fmt.Sprintf("%08d", i), "CSR": csrs[i],
			})
		}
		id := start(b, fake, role, body, lines...)
		before := allocs()
		began := time.Now()
		d := describe(b, fake, id)
		took := time.Since(began)
		lineAllocs = (allocs() - before) / n
		require.Equal(b, n, d.Succeeded)
		require.Equal(b, task.Completed, d.Status)
		return took
	}
	run() // warm up
	floor()
	before := heap()
	devices := fake.Counts().Things
	var ours time.Duration
	var ratios []float64
	for b.Loop() {
		took := run()
		began := time.Now()
		floor()
		ours += took
		ratios = append(ratios, float64(took)/float64(time.Since(began)))
	}
	devices = fake.Counts().Things - devices
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "x-floor")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(devices), "ns/line")
	b.ReportMetric(float64(lineAllocs), "allocs/line")
	b.ReportMetric(float64(int64(heap())-int64(before))/float64(devices), "bytes/device")
	runtime.KeepAlive(fake)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// allocs is how many allocations there have been.
func allocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// TestADeviceCostsAtMostOneAndAHalfKilobytes measures what a device with a certificate, two attributes and its place in
// the task's results keeps in memory.
func TestADeviceCostsAtMostOneAndAHalfKilobytes(t *testing.T) {
	const n = 4000
	fake, role := newFake(t, fakebackend.Options{})
	csr := csrOf(key, "device")
	var file strings.Builder
	for i := range n {
		fmt.Fprintln(&file, line(t, map[string]string{"ThingName": fmt.Sprintf("device-%06d", i), "SerialNumber": fmt.Sprintf("%08d", i), "CSR": csr}))
	}
	id := startFile(t, fake, role, walkthrough(t), file.String())
	before := heap()
	require.Equal(t, n, describe(t, fake, id).Succeeded)
	perDevice := (float64(heap()) - float64(before)) / n
	t.Logf("%.0f bytes a device", perDevice)
	require.Less(t, perDevice, 1536.0)
	require.Greater(t, perDevice, 300.0, "a certificate alone is bigger: the measure is wrong")
	runtime.KeepAlive(fake)
	runtime.KeepAlive(csr)
}
