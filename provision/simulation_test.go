package provision_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	simSeeds = flag.Int("seeds", 2000, "how many seeds TestNoDeviceIsLostWhateverGoesWrong runs")
	simSeed  = flag.Int64("seed", -1, "the only seed it runs, to replay a failure")
)

// simulate runs one seed in a bubble of its own.
func simulate(t *testing.T, seed uint64, base string, b bug) (h hits, err error) {
	dir := filepath.Join(base, fmt.Sprint(seed))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		s, serr := newSim(seed, dir, b)
		if serr != nil {
			err = serr
			return
		}
		defer s.close()
		if serr := s.operate(); serr != nil {
			s.violated("%v", serr)
		}
		h = s.hits()
		s.check()
		err = s.verdict()
	})
	return h, err
}

// TestNoDeviceIsLostWhateverGoesWrong runs whole fleets against the fake under faults drawn from a seed, and holds the end
// of each against the promises of the package. A failing seed is replayed alone with
//
//	go test ./provision -run TestNoDeviceIsLostWhateverGoesWrong -seed 17
func TestNoDeviceIsLostWhateverGoesWrong(t *testing.T) {
	base, remove, err := tempDirs()
	require.NoError(t, err)
	t.Cleanup(remove)
	if *simSeed >= 0 {
		_, err := simulate(t, uint64(*simSeed), base, noBug)
		require.NoError(t, err)
		return
	}
	seeds := int64(*simSeeds)
	if testing.Short() { // as under the race detector, where a seed takes ten times as long
		seeds = min(seeds, 200)
	}
	began := time.Now()
	var (
		next  atomic.Int64
		total = hits{}
		mu    sync.Mutex
	)
	t.Run("seeds", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker ", i), func(t *testing.T) {
				t.Parallel()
				for failures := 0; failures < 3; {
					seed := next.Add(1) - 1
					if seed >= seeds {
						return
					}
					h, err := simulate(t, uint64(seed), base, noBug)
					if err != nil {
						failures++
						t.Errorf("seed %d: %v", seed, err)
					}
					mu.Lock()
					total.add(h)
					mu.Unlock()
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	t.Logf("%d seeds in %v; how often each fault struck at each step:\n%s", seeds, time.Since(began).Round(time.Millisecond), total.table())
	if seeds < 2000 {
		return // too few for every cell
	}
	for _, c := range cells {
		switch neverHappens[c] {
		case "":
			assert.Positive(t, total[c], "%s at %s never struck", c.fault, c.step)
		default:
			assert.Zero(t, total[c], "%s at %s struck, though it is said never to: %s", c.fault, c.step, neverHappens[c])
		}
	}
}

func TestTheSimulationFindsPlantedBugs(t *testing.T) {
	base, remove, err := tempDirs()
	require.NoError(t, err)
	t.Cleanup(remove)
	for _, b := range []bug{bugStartWithoutLooking, bugSubmitBeforeSync, bugMatchByPosition, bugVerdictBeforeOutput,
		bugSkipTheLook, bugSkipTheLookAtTheEnd, bugBelieveTheLedger, bugTakePageForRefusal, bugKeepAnother, bugTakePendingForUsed} {
		t.Run(string(b), func(t *testing.T) {
			for seed := range uint64(400) {
				if _, err := simulate(t, seed, base, b); err != nil {
					t.Logf("found by seed %d: %.300v", seed, err)
					return
				}
			}
			t.Error("400 seeds have not found it")
		})
	}
}
