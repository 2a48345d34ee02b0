package provision_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// everyWrite is a fault at the nth of all writes and syncs of a run, whichever it is, or at the nth time of one step.
type everyWrite struct {
	at    int
	fault string
	step  string // the only step that counts; empty for writes and syncs
	seen  int
}

// next counts a step and tells what happens at it. The simulation's lock is held.
func (w *everyWrite) next(step string) string {
	counts := strings.HasPrefix(step, "ledger: ") || strings.HasPrefix(step, "key ") && step != stepKeyGet || strings.HasPrefix(step, "output ")
	if w.step != "" {
		counts = step == w.step
	}
	if !counts {
		return ""
	}
	if w.seen++; w.seen == w.at {
		return w.fault
	}
	return ""
}

// survive lets fourteen devices be provisioned although w goes wrong, and holds the end against the promises of the package.
func survive(t *testing.T, base string, w *everyWrite, onDisk bool) {
	t.Helper()
	dir := filepath.Join(base, fmt.Sprintf("%s%s %d %v", w.fault, w.step, w.at, onDisk))
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
		if w.step != "" { // let there be requests of every kind
			for _, f := range []fakebackend.Fault{
				{Operation: "StartThingRegistrationTask", Do: fakebackend.DropAfter},
				{Operation: "StartThingRegistrationTask", Nth: 2, Do: fakebackend.DropBefore},
				{Line: 2, Step: fakebackend.StepReport, Do: fakebackend.Throttle},
			} {
				_, err := s.fake.AddFault(f)
				require.NoError(t, err)
			}
		}
		require.NoError(t, s.operate())
		s.check()
		require.NoError(t, s.verdict(), "%s at %d, onDisk files: %v", w.fault, w.at, onDisk)
	})
}

// TestARunSurvivesAFailureAtEveryWrite lets every write and every sync of the ledger, the keys and the output fail in turn,
// before and after it had its effect, and lets the process die there. Each time the run goes on to its right end.
func TestARunSurvivesAFailureAtEveryWrite(t *testing.T) {
	base, remove, err := tempDirs()
	require.NoError(t, err)
	t.Cleanup(remove)
	for _, onDisk := range []bool{false, true} {
		count := &everyWrite{}
		survive(t, base, count, onDisk)
		require.Greater(t, count.seen, 50)
		hit := 0
		for at := 1; at <= count.seen; at++ {
			for i, fault := range []string{crashBefore, crashAfter, errorBefore, errorAfter} {
				if onDisk && (at+i)%4 != 0 && *simSeeds <= 2000 {
					continue // with many seeds asked for there is time for all
				}
				w := &everyWrite{at: at, fault: fault}
				survive(t, base, w, onDisk)
				if w.seen >= at {
					hit++
				}
			}
		}
		t.Logf("onDisk files: %v; %d writes and syncs, %d faults", onDisk, count.seen, hit)
	}
}

// TestARunSurvivesTheEndOfItsCredentialsAtEveryRequest lets the credentials of a process end at each of its requests in
// turn. With new ones the run goes on to its right end, and no device is blamed.
func TestARunSurvivesTheEndOfItsCredentialsAtEveryRequest(t *testing.T) {
	base, remove, err := tempDirs()
	require.NoError(t, err)
	t.Cleanup(remove)
	for step := range operations {
		if step == stepOpenReport || step == stepStop || removes(cell{step: step}) { // links are signed, and nobody stops or undoes the run
			continue
		}
		for at, more := 1, true; more; at++ {
			w := &everyWrite{at: at, fault: loggedOut, step: step}
			survive(t, base, w, false)
			more = w.seen >= at
			require.True(t, more || at > 1, "there was no request to %s", step)
		}
	}
}
