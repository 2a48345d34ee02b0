package provision_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// everyWrite is a fault at the nth of all writes and syncs of a run, whichever it is.
type everyWrite struct {
	at    int
	fault string
	seen  int
}

// next counts a step and tells what happens at it. The simulation's lock is held.
func (w *everyWrite) next(step string) string {
	local := strings.HasPrefix(step, "ledger: ") || strings.HasPrefix(step, "key ") && step != stepKeyGet || strings.HasPrefix(step, "output ")
	if !local {
		return ""
	}
	if w.seen++; w.seen == w.at {
		return w.fault
	}
	return ""
}

// TestARunSurvivesAFailureAtEveryWrite lets every write and every sync of the ledger, the keys and the output fail in turn,
// before and after it had its effect, and lets the process die there. Each time the run goes on to its right end.
func TestARunSurvivesAFailureAtEveryWrite(t *testing.T) {
	base, remove, err := tempDirs()
	require.NoError(t, err)
	t.Cleanup(remove)
	runs := 0
	one := func(w *everyWrite, onDisk bool) {
		runs++
		dir := filepath.Join(base, fmt.Sprint(runs))
		require.NoError(t, os.Mkdir(dir, 0o700))
		defer os.RemoveAll(dir)
		synctest.Test(t, func(t *testing.T) {
			s, err := newSim(1, dir, noBug)
			require.NoError(t, err)
			defer s.close()
			s.fake.ClearFaults()
			s.plan, s.everyWrite, s.steps, s.extra = nil, w, false, true
			s.sql, s.disk = onDisk, onDisk
			s.devices, s.want = nil, nil
			for i := range 14 {
				s.devices = append(s.devices, ofType(fmt.Sprintf("device-%02d", i+1), "sensor"))
				s.want = append(s.want, provision.CauseNone)
			}
			s.devices[3], s.want[3] = ofType("device-04", "gone"), provision.CauseTypeMissing
			require.NoError(t, s.operate())
			s.check()
			require.NoError(t, s.verdict(), "%s at write %d, onDisk files: %v", w.fault, w.at, onDisk)
		})
	}
	for _, onDisk := range []bool{false, true} {
		count := &everyWrite{}
		one(count, onDisk)
		require.Greater(t, count.seen, 50)
		hit := 0
		for at := 1; at <= count.seen; at++ {
			for i, fault := range []string{crashBefore, crashAfter, errorBefore, errorAfter} {
				if onDisk && (at+i)%4 != 0 && *simSeeds <= 2000 {
					continue // with many seeds asked for there is time for all
				}
				w := &everyWrite{at: at, fault: fault}
				one(w, onDisk)
				if w.seen >= at {
					hit++
				}
			}
		}
		t.Logf("onDisk files: %v; %d writes and syncs, %d faults", onDisk, count.seen, hit)
	}
}
