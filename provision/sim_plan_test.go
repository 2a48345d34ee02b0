package provision_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
)

// The steps at which the simulation can interfere: every call by which a run touches anything outside its own memory,
// and the steps of the service's work on a line.
const (
	stepIdentity    = "identity"
	stepEndpoint    = "endpoint"
	stepRoots       = "roots"
	stepUpload      = "upload"
	stepStart       = "start"
	stepDescribe    = "describe"
	stepListTasks   = "list tasks"
	stepListReports = "list reports"
	stepOpenReport  = "open report"
	stepStop        = "stop"
	stepReadDevice  = "read device"
	stepLook        = "look"
	stepRegister    = "register"

	stepOrphans      = "look for orphans"
	stepRetire       = "retire certificate"
	stepRemoveThing  = "remove thing"
	stepRemovePolicy = "remove policy"

	stepLedgerRead    = "ledger read"
	stepLedgerRun     = "ledger: run"
	stepLedgerAdd     = "ledger: add"
	stepLedgerPart    = "ledger: part " // and its state
	stepLedgerVerdict = "ledger: verdicts"
	stepLedgerOrphan  = "ledger: orphan"
	stepKeyGet        = "key get"
	stepKeyPut        = "key put"
	stepKeySync       = "key sync"
	stepDeliver       = "output deliver"
	stepOutputSync    = "output sync"

	stepLine = "line: " // and the service's own name of the step
)

// The faults. The first ones happen to the process, the others to what it calls.
const (
	crashBefore   = "crash before"
	crashAfter    = "crash after"
	cancelled     = "cancelled"
	stopped       = "stopped"
	errorBefore   = "error before"
	errorAfter    = "error after"
	loggedOut     = "logged out"
	throttled     = "throttled"
	unavailable   = "unavailable"
	lostBefore    = "lost before"
	lostAfter     = "lost after"
	expired       = "expired"
	truncated     = "truncated"
	foreignTask   = "foreign task"
	taskFailed    = "task failed"
	taskCancelled = "task cancelled"
	refused       = "refused"
	replaced      = "replaced" // the answer, by that of somebody between here and AWS
)

var faultColumns = []string{crashBefore, crashAfter, cancelled, stopped, errorBefore, errorAfter, loggedOut, throttled, unavailable, lostBefore, lostAfter,
	expired, truncated, foreignTask, taskFailed, taskCancelled, refused, replaced}

// operations are AWS's names of what a step asks for.
var operations = map[string][]string{
	stepIdentity:    {"GetCallerIdentity"},
	stepEndpoint:    {"DescribeEndpoint"},
	stepUpload:      {"PutObject"},
	stepStart:       {"StartThingRegistrationTask"},
	stepDescribe:    {"DescribeThingRegistrationTask"},
	stepListTasks:   {"ListThingRegistrationTasks"},
	stepListReports: {"ListThingRegistrationTaskReports"},
	stepOpenReport:  {"GetObject"},
	stepStop:        {"StopThingRegistrationTask"},
	stepLook:        {"DescribeThing"},
	stepReadDevice:  {"ListThingGroupsForThing", "ListThingPrincipals", "DescribeCertificate", "ListAttachedPolicies"},
	stepRegister:    {"RegisterThing"},

	stepOrphans:      {"ListCertificates"},
	stepRetire:       {"DetachThingPrincipal", "UpdateCertificate", "DeleteCertificate"},
	stepRemoveThing:  {"DeleteThing"},
	stepRemovePolicy: {"DeletePolicy"},
}

// lineSteps are those that the simulation's template takes.
var lineSteps = []fakebackend.Step{fakebackend.StepParse, fakebackend.StepCertificate, fakebackend.StepThing, fakebackend.StepPolicy,
	fakebackend.StepAttachPolicy, fakebackend.StepAttachCertificate, fakebackend.StepActivate, fakebackend.StepReport}

// possible lists the faults that can happen at each step. What is missing from it can't happen:
//   - a step that only reads has no effect, so "after" is the same as "before";
//   - a step on this machine is neither throttled nor lost, and one at the service has no disk that fails;
//   - a process whose credentials have ended can still read reports, for their links are signed;
//   - links expire and bodies are cut short where reports are read, and nowhere else;
//   - a foreign task matters when one is started, a task fails because of how it was started, and is cancelled by somebody
//     else while it is watched;
//   - what happens to a line at the service is that it is throttled or refused.
var possible = func() map[string][]string {
	anywhere := []string{crashBefore, crashAfter, cancelled, stopped}
	out := map[string][]string{stepRoots: slices.Clone(anywhere)} // no operation of AWS
	for _, s := range []string{stepLedgerRead, stepKeyGet} {
		out[s] = append(slices.Clone(anywhere), errorBefore)
	}
	for _, s := range []string{stepLedgerRun, stepLedgerAdd, stepLedgerVerdict, stepLedgerOrphan, stepKeyPut, stepKeySync, stepDeliver, stepOutputSync} {
		out[s] = append(slices.Clone(anywhere), errorBefore, errorAfter)
	}
	for _, state := range []string{"written", "uploaded", "starting", "started", "ended", "collected"} {
		out[stepLedgerPart+state] = append(slices.Clone(anywhere), errorBefore, errorAfter)
	}
	for _, s := range []string{stepIdentity, stepEndpoint, stepDescribe, stepListTasks, stepListReports, stepOpenReport, stepReadDevice, stepLook, stepOrphans} {
		out[s] = append(slices.Clone(anywhere), throttled, unavailable, lostBefore)
	}
	for _, s := range []string{stepUpload, stepStart, stepStop, stepRegister, stepRetire, stepRemoveThing, stepRemovePolicy} {
		out[s] = append(slices.Clone(anywhere), throttled, unavailable, lostBefore, lostAfter)
	}
	for s := range operations {
		out[s] = append(out[s], replaced)
		if s != stepOpenReport {
			out[s] = append(out[s], loggedOut)
		}
	}
	out[stepOpenReport] = append(out[stepOpenReport], expired, truncated)
	out[stepStart] = append(out[stepStart], foreignTask, taskFailed)
	out[stepDescribe] = append(out[stepDescribe], taskCancelled)
	for _, s := range lineSteps {
		out[stepLine+string(s)] = []string{throttled, refused}
	}
	return out
}()

// neverHappens lists cells that are possible by their kind and yet never come about.
var neverHappens = map[cell]string{}

type cell struct{ step, fault string }

var cells = func() (all []cell) {
	for _, step := range slices.Sorted(maps.Keys(possible)) {
		for _, fault := range possible[step] {
			all = append(all, cell{step, fault})
		}
	}
	return all
}()

// rare reports whether a cell can be reached only in seeds of a kind, for which it is drawn by itself: where answers come
// over the wire, and where a run is undone.
func rare(c cell) bool { return c.fault == replaced || removes(c) }

func removes(c cell) bool {
	return slices.Contains([]string{stepRetire, stepRemoveThing, stepRemovePolicy}, c.step)
}

var common = slices.DeleteFunc(slices.Clone(cells), rare)

// strike is a fault that is to happen the nth time its step is reached.
type strike struct {
	cell
	nth  int
	line int64 // of the data file, for faults of lines
	hit  bool
}

func (s *strike) String() string {
	text := fmt.Sprintf("%s, %s at the %d.", s.fault, s.step, s.nth)
	if s.line > 0 {
		text += fmt.Sprintf(" (line %d)", s.line)
	}
	return text
}

// often is how many times a step is reached in a run without faults, roughly.
var often = map[string]int{stepLedgerRead: 25, stepKeyGet: 24, stepKeyPut: 22, stepDeliver: 20, stepDescribe: 12, stepReadDevice: 4, stepLook: 22, stepListReports: 7,
	stepOpenReport: 6, stepUpload: 3, stepStart: 3, stepLedgerVerdict: 3, stepKeySync: 3, stepOutputSync: 3}

// drawPlan draws what is to go wrong in a seed.
func drawPlan(rng *rand.Rand) []*strike {
	var plan []*strike
	add := func(step, fault string) {
		most := often[step]
		if strings.HasPrefix(step, stepLedgerPart) {
			most = 3
		}
		s := &strike{cell: cell{step, fault}, nth: 1 + rng.IntN(max(1, most))}
		if strings.HasPrefix(step, stepLine) {
			s.line = 1 + rng.Int64N(6)
		}
		plan = append(plan, s)
	}
	for range 2 + rng.IntN(7) {
		c := common[rng.IntN(len(common))]
		add(c.step, c.fault)
		switch c.step { // what makes a run come to the step at all
		case stepListTasks:
			add(stepStart, []string{lostBefore, lostAfter, crashAfter}[rng.IntN(3)])
		case stepStop:
			add(stepDescribe, stopped)
		case stepReadDevice:
			plan = append(plan, &strike{cell: cell{stepDescribe, taskCancelled}, nth: 1 + rng.IntN(6)})
		case stepLedgerOrphan:
			for range 2 {
				add(stepLine+string(fakebackend.StepActivate), refused)
			}
			plan[len(plan)-3].nth = 1
		}
	}
	return plan
}

// drawOf draws a fault at one of the cells that fit.
func drawOf(rng *rand.Rand, fit func(cell) bool) *strike {
	from := slices.DeleteFunc(slices.Clone(cells), func(c cell) bool { return !fit(c) })
	c := from[rng.IntN(len(from))]
	return &strike{cell: c, nth: 1 + rng.IntN(max(1, min(6, often[c.step])))}
}

// hits counts how often each fault has struck.
type hits map[cell]int

func (h hits) add(other hits) {
	for c, n := range other {
		h[c] += n
	}
}

// table prints the counts: a dash where a fault can't happen.
func (h hits) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s", "")
	for _, f := range faultColumns {
		fmt.Fprintf(&b, "%9s", strings.ReplaceAll(f, " ", "\u00b7")[:min(9, len(f))])
	}
	for _, step := range slices.Sorted(maps.Keys(possible)) {
		fmt.Fprintf(&b, "\n%-26s", step)
		for _, f := range faultColumns {
			c := cell{step, f}
			switch {
			case !slices.Contains(possible[step], f):
				fmt.Fprintf(&b, "%9s", "-")
			case neverHappens[c] != "":
				fmt.Fprintf(&b, "%9s", "never")
			default:
				fmt.Fprintf(&b, "%9d", h[c])
			}
		}
	}
	return b.String()
}
