package keystore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

// BenchmarkArchive puts 1,000 records of ready-made P-256 keys and syncs once, beside a Folder that does the same and beside
// making 1,000 such keys, in turns within one run. It reports the archive's time as a multiple of theirs, x-folder and
// x-floor, the same without the Sync, put-x-floor, and records/s: medians over the turns. The disk decides about the
// Sync.
func BenchmarkArchive(b *testing.B) {
	const group = 1000
	dir := b.TempDir()
	archive := openArchive(b, filepath.Join(dir, "fleet.keys"))
	folder := open(b, filepath.Join(dir, "devices"))
	records := make([]keystore.Record, group)
	n := 0
	keep := func(s keystore.Store) (put, all time.Duration) {
		start := time.Now()
		for _, rec := range records {
			require.NoError(b, s.Put(b.Context(), rec))
		}
		put = time.Since(start)
		require.NoError(b, s.Sync(b.Context()))
		return put, time.Since(start)
	}
	var xFolder, xFloor, putXFloor, perSecond []float64
	for b.Loop() {
		for i := range records {
			records[i] = record(b, fmt.Sprintf("device-%08d", n))
			n++
		}
		put, own := keep(archive)
		_, other := keep(folder)
		start := time.Now()
		for range group {
			_, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			require.NoError(b, err)
		}
		floor := time.Since(start)
		xFolder = append(xFolder, float64(own)/float64(other))
		xFloor = append(xFloor, float64(own)/float64(floor))
		putXFloor = append(putXFloor, float64(put)/float64(floor))
		perSecond = append(perSecond, group/own.Seconds())
	}
	b.ReportMetric(middle(xFolder), "x-folder")
	b.ReportMetric(middle(xFloor), "x-floor")
	b.ReportMetric(middle(putXFloor), "put-x-floor")
	b.ReportMetric(middle(perSecond), "records/s")
}

// BenchmarkOpenArchive opens an archive of P-256 records, beside reading its file once, and reports the time as a multiple
// of that, x-read, and the memory the open archive holds, B/device.
func BenchmarkOpenArchive(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "fleet.keys")
			a := openArchive(b, path)
			rec := record(b, "d")
			for i := range n {
				rec.Device = fmt.Sprintf("device-%08d", i)
				require.NoError(b, a.Put(b.Context(), rec))
			}
			require.NoError(b, a.Close())
			buf := make([]byte, 1<<20)
			read := func() time.Duration {
				start := time.Now()
				f, err := os.Open(path)
				require.NoError(b, err)
				for err == nil {
					_, err = f.Read(buf)
				}
				require.ErrorIs(b, err, io.EOF)
				require.NoError(b, f.Close())
				return time.Since(start)
			}
			read()
			var xRead, memory []float64
			for b.Loop() {
				reading := read()
				before := heap()
				start := time.Now()
				a, err := keystore.OpenArchive(path, nil)
				require.NoError(b, err)
				xRead = append(xRead, float64(time.Since(start))/float64(reading))
				memory = append(memory, float64(heap()-before)/float64(n))
				require.NoError(b, a.Close())
			}
			b.ReportMetric(middle(xRead), "x-read")
			b.ReportMetric(middle(memory), "B/device")
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// TestAnArchiveHoldsAtMost16BytesADevice weighs what an archive holds while nobody syncs, and once it is opened again.
func TestAnArchiveHoldsAtMost16BytesADevice(t *testing.T) {
	const (
		n     = 100_000
		fixed = 512<<10 + 64<<10 // records that are not written yet, and what an empty archive takes
	)
	path := filepath.Join(t.TempDir(), "fleet.keys")
	rec := record(t, "d")
	before := heap()
	a := openArchive(t, path)
	for i := range n {
		rec.Device = fmt.Sprintf("device-%08d", i)
		require.NoError(t, a.Put(t.Context(), rec))
	}
	require.LessOrEqual(t, heap()-before, int64(fixed+16*n))
	require.NoError(t, a.Close())
	before = heap()
	again := openArchive(t, path)
	held := heap() - before
	t.Logf("%.1f bytes a device", float64(held)/n)
	require.LessOrEqual(t, held, int64(64<<10+16*n))
	require.NoError(t, again.Close())
}
