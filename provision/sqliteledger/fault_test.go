package sqliteledger

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile/faultvfs"
)

var every = flag.Bool("every", false, "let each single write and sync fail, not every ninth")

// faultSteps is how many changes a life of a ledger has in these tests. It is opened anew after half of them, so that
// the log is carried over into the file in between.
const faultSteps = 6

// live makes changes until one fails, and says how many went through.
func live(t *testing.T, path string, disk *faultvfs.Disk) (done int, err error) {
	t.Helper()
	for range 2 {
		l, err := Open(t.Context(), path, &Options{vfs: disk.Name()})
		if err != nil {
			return done, err
		}
		for range faultSteps / 2 {
			if err = l.Apply(t.Context(), step(done)); err != nil {
				break
			}
			done++
		}
		closed := l.Close()
		if err != nil {
			return done, err
		}
		if closed != nil {
			return done, closed
		}
	}
	return done, nil
}

// statesOf are the states after 0, 1, 2… steps.
func statesOf(t *testing.T, steps int) []string {
	t.Helper()
	return record(t, steps, func(int) bool { return false }).states
}

func TestTheLedgerSurvivesAFaultAtEveryWriteAndSync(t *testing.T) {
	states := statesOf(t, faultSteps)
	quiet, err := faultvfs.New(nil)
	require.NoError(t, err)
	done, err := live(t, filepath.Join(t.TempDir(), "fleet.db"), quiet)
	require.NoError(t, err)
	require.Equal(t, faultSteps, done)
	ops := quiet.Ops()
	require.NoError(t, quiet.Close())
	require.Greater(t, ops, 50)
	stride := 9
	if *every {
		stride = 1
	}

	for name, c := range map[string]struct {
		first int // with a stride, each begins at another operation
		fault faultvfs.Fault
		power bool
	}{
		"the process stops before it":           {1, faultvfs.Stop, false},
		"the process stops after it":            {2, faultvfs.Done, false},
		"the process stops in the middle of it": {3, faultvfs.Tear, false},
		"it fails":                              {4, faultvfs.Fail, false},
		"the disk is full":                      {5, faultvfs.Full, false},
		"the power goes before it":              {6, faultvfs.Stop, true},
		"the power goes in the middle of it":    {7, faultvfs.Tear, true},
	} {
		t.Run(name, func(t *testing.T) {
			kinds, noticed := map[faultvfs.Kind]int{}, 0
			for n := c.first; n <= ops; n += stride {
				var hit faultvfs.Op
				disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
					if op.N != n {
						return faultvfs.None
					}
					hit = op
					return c.fault
				})
				require.NoError(t, err)
				path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.db", n))
				done, err := live(t, path, disk)
				require.NotEmpty(t, hit.Kind)
				kinds[hit.Kind]++
				if err != nil {
					noticed++
					assert.ErrorContains(t, err, path, "errors name the file")
				}
				if c.power {
					require.NoError(t, disk.CutPower(rand.New(rand.NewPCG(uint64(n), 0))))
				}
				require.NoError(t, disk.Close())

				// The next process goes on, on a disk that works.
				l := mustOpen(t, path)
				got := slices.Index(states, fingerprint(t, l))
				require.GreaterOrEqual(t, got, done, "%s: a change that Apply returned nil for is lost, or half of one is there", hit)
				require.LessOrEqual(t, got, done+1, "%s: a change came true that was never made", hit)
				for i := got; i < faultSteps; i++ {
					require.NoError(t, l.Apply(t.Context(), step(i)))
				}
				require.Equal(t, states[faultSteps], fingerprint(t, l), "%s", hit)
				require.NoError(t, l.Close())
			}
			t.Logf("of %d operations: faults in %v, %d of them noticed", ops, kinds, noticed)
			assert.Positive(t, kinds[faultvfs.Write])
			assert.Positive(t, noticed)
			if *every {
				for _, k := range []faultvfs.Kind{faultvfs.Create, faultvfs.Sync, faultvfs.Delete} {
					assert.Positive(t, kinds[k], "no fault hit a %s", k)
				}
			}
		})
	}
}

func TestALedgerGoesOnAfterTheDiskRecovers(t *testing.T) {
	states := statesOf(t, 4)
	for _, fault := range []faultvfs.Fault{faultvfs.Fail, faultvfs.Full} {
		for nth := 1; nth <= 12; nth++ {
			at := 0
			disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
				if at > 0 && op.N == at {
					return fault
				}
				return faultvfs.None
			})
			require.NoError(t, err)
			l, err := Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"), &Options{vfs: disk.Name()})
			require.NoError(t, err)
			require.NoError(t, l.Apply(t.Context(), step(0)))
			require.NoError(t, l.Apply(t.Context(), step(1)))
			at = disk.Ops() + nth
			if err := l.Apply(t.Context(), step(2)); err != nil {
				assert.Equal(t, states[2], fingerprint(t, l), "nothing of the change that failed is there")
				require.NoError(t, l.Apply(t.Context(), step(2)), "the same change, once the disk works again")
			}
			require.NoError(t, l.Apply(t.Context(), step(3)))
			assert.Equal(t, states[4], fingerprint(t, l))
			require.NoError(t, l.Close())
			require.NoError(t, disk.Close())
		}
	}
}
