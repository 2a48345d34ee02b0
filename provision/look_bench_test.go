//go:build unix

package provision_test

import (
	"slices"
	"testing"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// BenchmarkLook provisions devices with and without looking at the account before, in turns, with the ledger in SQLite. It
// reports the processor time of the first as a multiple of the second's: the median over the turns. The fake's own work on
// the requests is in it; the pace that AWS's quotas set is not.
func BenchmarkLook(b *testing.B) {
	took := map[provision.Existing][]float64{}
	for b.Loop() {
		for _, existing := range []provision.Existing{provision.UncheckedExisting, provision.RefuseExisting} {
			var opts provision.Options
			withDatabase(b, &opts)
			opts.Existing = existing
			processor, _ := cost(func() { benchRun(b, *benchDevices, opts) })
			took[existing] = append(took[existing], processor.Seconds())
		}
	}
	median := func(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }
	b.ReportMetric(median(took[provision.RefuseExisting])/median(took[provision.UncheckedExisting]), "x-unchecked")
}
