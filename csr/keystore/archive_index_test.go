package keystore

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheIndexFindsEveryRecordAndTakes13BytesForEachAtMost compares the index with a map. It is weighed on the way, for what
// it takes depends on how full it is.
func TestTheIndexFindsEveryRecordAndTakes13BytesForEachAtMost(t *testing.T) {
	const n = 1_000_000
	r := rand.New(rand.NewPCG(1, 2))
	hashes := make([]uint64, n)
	var p places
	for i := range hashes {
		hashes[i] = r.Uint64()
		p.add(hashes[i], int64(archiveHead+i))
		if count := i + 1; count%50_000 == 0 {
			slots, fullest := 0, 0.0
			for _, s := range p.shards {
				slots += len(s.slots)
				fullest = max(fullest, float64(s.used)/float64(len(s.slots)))
			}
			require.LessOrEqual(t, float64(8*slots)/float64(count), 13.0, "bytes for each of %d", count)
			require.LessOrEqual(t, fullest, 0.85)
		}
	}
	var near [4]int64
	others := 0
	for i, hash := range hashes {
		offset := int64(archiveHead + i)
		found := p.find(hash, near[:0])
		if !slices.Contains(found, offset) || !p.has(hash, offset) || p.has(hash, offset+n) {
			t.Fatalf("record %d is at %d, not at %d", i, found, offset)
		}
		others += len(found) - 1
	}
	require.InDelta(t, n*(n-1)/(1<<30), others, 200, "records that share the bits with another")
}
