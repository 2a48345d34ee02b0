package keystore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

// BenchmarkFolder puts records of ready-made keys and syncs them in groups, and reports how often the time of making a
// P-256 key and its request that is. The disk decides.
func BenchmarkFolder(b *testing.B) {
	const group = 200
	f, err := keystore.OpenFolder(b.TempDir(), nil)
	require.NoError(b, err)
	var making, keeping time.Duration
	n := 0
	for b.Loop() {
		start := time.Now()
		records := make([]keystore.Record, group)
		for i := range records {
			records[i] = record(b, fmt.Sprintf("device-%08d", n))
			n++
		}
		making += time.Since(start)
		start = time.Now()
		for _, rec := range records {
			require.NoError(b, f.Put(b.Context(), rec))
		}
		require.NoError(b, f.Sync(b.Context()))
		keeping += time.Since(start)
	}
	b.ReportMetric(float64(keeping)/float64(making), "x-making")
}
