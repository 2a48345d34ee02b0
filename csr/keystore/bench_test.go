package keystore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

// BenchmarkKeep puts 1,000 records of ready-made P-256 keys into a database and syncs once, then the same into folders,
// then makes 1,000 such keys: in turns within one run. It reports the database's time and the folders' as multiples of
// making the keys, the folders' as a multiple of the database's, and records/s: medians over the turns. The disk
// decides.
func BenchmarkKeep(b *testing.B) {
	const group = 1000
	dir := b.TempDir()
	database := openSQLite(b, filepath.Join(dir, "keys.db"))
	folder := open(b, filepath.Join(dir, "devices"))
	records := make([]keystore.Record, group)
	n := 0
	keep := func(s keystore.Store) time.Duration {
		start := time.Now()
		for _, rec := range records {
			require.NoError(b, s.Put(b.Context(), rec))
		}
		require.NoError(b, s.Sync(b.Context()))
		return time.Since(start)
	}
	values := map[string][]float64{}
	for b.Loop() {
		for i := range records {
			records[i] = record(b, fmt.Sprintf("device-%08d", n))
			n++
		}
		inFile, inFolders := keep(database).Seconds(), keep(folder).Seconds()
		start := time.Now()
		for range group {
			_, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			require.NoError(b, err)
		}
		floor := time.Since(start).Seconds()
		for name, v := range map[string]float64{
			"database-x-floor": inFile / floor, "folders-x-floor": inFolders / floor, "folders-x-database": inFolders / inFile,
			"database-records/s": group / inFile, "folders-records/s": group / inFolders,
		} {
			values[name] = append(values[name], v)
		}
	}
	for name, v := range values {
		slices.Sort(v)
		b.ReportMetric(v[len(v)/2], name)
	}
}
