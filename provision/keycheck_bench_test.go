//go:build unix

package provision_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// unasked is a store that is not asked for its keys.
type unasked struct{ keystore.Store }

func (unasked) Verify(ctx context.Context, _ string, _ [32]byte) error { return ctx.Err() }

// BenchmarkKeyCheck provisions 2,000 devices with and without asking the store for their keys, in turns. It reports what
// the first takes as a multiple of the second: the median over the turns.
func BenchmarkKeyCheck(b *testing.B) {
	for name, with := range map[string]func(*testing.B, *provision.Options){"folders": withFolders, "database": withDatabase} {
		b.Run(name, func(b *testing.B) {
			took := map[bool][]float64{}
			for b.Loop() {
				for _, ask := range []bool{false, true} {
					var opts provision.Options
					with(b, &opts)
					if step := opts.Credential.(*provision.MakeCSR); !ask {
						step.Store = unasked{step.Store}
					}
					start := time.Now()
					benchRun(b, 2000, opts)
					took[ask] = append(took[ask], time.Since(start).Seconds())
				}
			}
			median := func(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }
			b.ReportMetric(median(took[true])/median(took[false]), "x-unasked")
		})
	}
}
