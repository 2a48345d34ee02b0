package provision_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

var benchDevices = flag.Int("bench-devices", 20_000, "devices that BenchmarkRun provisions")

// BenchmarkRun provisions devices with P-256 keys through the whole job on the in-process fake. x-floor is its time over
// that of the cryptography alone, on one core: a key and a signature for the device, and what the fake must do for a line,
// which is to check one signature and make another.
func BenchmarkRun(b *testing.B) {
	for b.Loop() {
		floor := cryptoFloor(b)
		took := runOnce(b, provision.Options{Credential: &provision.MakeCSR{Store: memoryKeys{}}})
		b.ReportMetric(took.Seconds()/(floor.Seconds()*float64(*benchDevices)), "x-floor")
		b.ReportMetric(took.Seconds()*1e6/float64(*benchDevices), "µs/device")
	}
}

func runOnce(b *testing.B, opts provision.Options) time.Duration {
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(b, err)
	role, err := fake.EnsureRole(b.Context(), &task.RoleInput{Name: "registration"})
	require.NoError(b, err)
	opts.Backend, opts.Template, opts.RoleARN = fake, template.Walkthrough(), role
	opts.Wait = task.WaitOptions{MinDelay: time.Millisecond, MaxDelay: time.Millisecond}
	run, err := provision.New(opts)
	require.NoError(b, err)
	began := time.Now()
	_, err = run.Run(b.Context(), rows(*benchDevices))
	require.NoError(b, err)
	return time.Since(began)
}

// cryptoFloor is the time of one device's cryptography on one core.
func cryptoFloor(b *testing.B) time.Duration {
	const n = 2000
	digest := sha256.Sum256([]byte("floor"))
	began := time.Now()
	for range n {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(b, err)
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:]) // the request
		require.NoError(b, err)
		require.True(b, ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig)) // the fake checks it
		_, err = ecdsa.SignASN1(rand.Reader, key, digest[:])              // the fake signs the certificate
		require.NoError(b, err)
	}
	return time.Since(began) / n
}
