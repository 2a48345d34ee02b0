//go:build unix

package provision_test

import (
	"flag"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/csr/keystore/sqlitekeys"
	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

var benchDevices = flag.Int("bench-devices", 10_000, "devices that BenchmarkRun provisions")

// BenchmarkRun provisions devices with P-256 keys through the whole job on the in-process fake. x-floor is its
// processor time over that of what can't be spared: making the key, the request and the PEM of both, and the fake's
// work on a line. Processor time counts both cores, and what others do on the machine does not.
func BenchmarkRun(b *testing.B) {
	for _, c := range []struct {
		name  string
		setUp func(*testing.B, *provision.Options)
	}{
		{"memory", func(_ *testing.B, opts *provision.Options) {
			opts.Credential = &provision.MakeCSR{Store: discardKeys{}}
		}},
		{"memory,unchecked", func(_ *testing.B, opts *provision.Options) {
			opts.Credential = &provision.MakeCSR{Store: discardKeys{}}
			opts.Existing, opts.SkipPreflight = provision.UncheckedExisting, true
		}},
		{"sqlite+keys.db", withDatabase},
		{"sqlite+folder", withFolders},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := *benchDevices
			for b.Loop() {
				floor := runFloor(b, n)
				var opts provision.Options
				c.setUp(b, &opts)
				took, wall := cost(func() { benchRun(b, n, opts) })
				b.ReportMetric(took.Seconds()/floor.Seconds(), "x-floor")
				b.ReportMetric(wall.Seconds()/floor.Seconds(), "x-floor-wall")
				b.ReportMetric(took.Seconds()*1e6/float64(n), "cpu-µs/device")
			}
		})
	}
}

// BenchmarkFolders provisions devices with a folder for each and with the keys in a database, in turns, and reports how
// many times the time, and the processor time, of a run with the database one with folders takes. The disk has a say:
// run it on the one that matters (TMPDIR).
func BenchmarkFolders(b *testing.B) {
	n := *benchDevices
	var wall, cpu []float64
	for b.Loop() {
		turn := func(setUp func(*testing.B, *provision.Options)) (took, wall time.Duration) {
			var opts provision.Options
			setUp(b, &opts)
			return cost(func() { benchRun(b, n, opts) })
		}
		fileTook, fileWall := turn(withDatabase)
		took, all := turn(withFolders)
		wall = append(wall, all.Seconds()/fileWall.Seconds())
		cpu = append(cpu, took.Seconds()/fileTook.Seconds())
	}
	slices.Sort(wall)
	slices.Sort(cpu)
	b.ReportMetric(wall[len(wall)/2], "x-database")
	b.ReportMetric(cpu[len(cpu)/2], "x-database-cpu")
}

func withLedger(b *testing.B, opts *provision.Options, keys keystore.Store, output provision.Output) {
	ledger, err := sqliteledger.Open(b.Context(), filepath.Join(b.TempDir(), "fleet.db"), nil)
	require.NoError(b, err)
	b.Cleanup(func() { _ = ledger.Close() })
	opts.Ledger, opts.PartDir = ledger, b.TempDir()
	opts.Credential, opts.Output = &provision.MakeCSR{Store: keys}, output
}

func withDatabase(b *testing.B, opts *provision.Options) {
	keys, err := sqlitekeys.Open(b.Context(), filepath.Join(b.TempDir(), "keys.db"), nil)
	require.NoError(b, err)
	b.Cleanup(func() { _ = keys.Close() })
	withLedger(b, opts, keys, nil)
}

func withFolders(b *testing.B, opts *provision.Options) {
	keys, err := keystore.OpenFolder(b.TempDir(), nil)
	require.NoError(b, err)
	withLedger(b, opts, keys, provision.Folder(keys))
}

func benchFake(b *testing.B) (*fakebackend.Backend, string) {
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(b, err)
	role, err := fake.EnsureRole(b.Context(), &task.RoleInput{Name: "registration"})
	require.NoError(b, err)
	return fake, role
}

func benchRun(b *testing.B, n int, opts provision.Options) {
	opts.Backend, opts.RoleARN = benchFake(b)
	opts.Template = template.Walkthrough()
	run, err := provision.New(opts)
	require.NoError(b, err)
	_, err = run.Run(b.Context(), rows(n))
	require.NoError(b, err)
}

// runFloor is what n devices cost apart from this package: their keys and requests, and their lines in the fake.
func runFloor(b *testing.B, n int) time.Duration {
	var devices iter.Seq2[csr.Device, error] = func(yield func(csr.Device, error) bool) {
		for d, err := range rows(n) {
			d.Row["CSR"] = ""
			if !yield(csr.Device{Name: d.Row["ThingName"], Row: d.Row}, err) {
				return
			}
		}
	}
	made := make([]map[string]string, 0, n)
	keys, _ := cost(func() {
		var g csr.Generator
		for r, err := range g.All(b.Context(), devices) {
			require.NoError(b, err)
			_, err = r.Key.PEM()
			require.NoError(b, err)
			r.Device.Row["CSR"] = r.Request.PEM()
			made = append(made, r.Device.Row)
		}
	})
	fake, role := benchFake(b)
	path := filepath.Join(b.TempDir(), "devices.json")
	f, err := os.Create(path)
	require.NoError(b, err)
	w := datafile.NewWriter(f, "ThingName", "SerialNumber", "CSR")
	for _, row := range made {
		require.NoError(b, w.WriteRow(row))
	}
	require.NoError(b, w.Close())
	_, err = f.Seek(0, 0)
	require.NoError(b, err)
	in := &task.UploadInput{Key: "devices.json", Body: f, Size: w.Bytes(), SHA256: w.SHA256()}
	obj, err := fake.Upload(b.Context(), in)
	require.NoError(b, err)
	body, err := template.Walkthrough().Body()
	require.NoError(b, err)
	lines, _ := cost(func() {
		t, err := task.Start(b.Context(), fake, &task.StartInput{
			TemplateBody: body, InputFileBucket: obj.Bucket, InputFileKey: obj.Key, RoleARN: role,
		})
		require.NoError(b, err)
		d, err := t.Wait(b.Context(), nil)
		require.NoError(b, err)
		require.Equal(b, n, d.Succeeded)
	})
	return keys + lines
}

// cost runs f and gives the processor time and the time it took.
func cost(f func()) (processor, wall time.Duration) {
	runtime.GC()
	before, began := processorTime(), time.Now()
	f()
	wall = time.Since(began)
	return processorTime() - before, wall
}

// processorTime is what this process has used of all processors.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprintf("getrusage: %v", err))
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
