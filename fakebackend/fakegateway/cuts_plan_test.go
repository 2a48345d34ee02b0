package fakegateway_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
)

// What can go wrong beside the faults of the account.
const (
	pulled    = "pulled"    // the device's connection is cut between two steps
	silent    = "silent"    // … without the gateway learning of it
	broken    = "broken"    // … after so many bytes
	restarted = "restarted" // the gateway
	moved     = "moved"     // the account, by snapshot and restore
	setBack   = "set back"  // the account, to an earlier snapshot
	disabled  = "disabled"  // the certificates of a device, for a while
	crashed   = "crashed"   // who plays the Lambda function, before one of its steps
)

// deviceOperations are the operations of the account that faults strike, with the ways that come by them.
var deviceOperations = []string{"Connect", "JustInTimeRegistration", "JustInTimeProvisioning", "Publish", "Subscribe",
	"ClaimCreateKeysAndCertificate", "ClaimCreateCertificateFromCsr", "ClaimRegisterThing"}

var deviceEffects = []fakebackend.Effect{fakebackend.Fail, fakebackend.Throttle, fakebackend.DropBefore, fakebackend.DropAfter,
	fakebackend.Delay, fakebackend.Hang}

// mishap is one thing that goes wrong outside the account.
type mishap struct {
	kind string
	unit int           // whose
	nth  int           // step, connection or call
	left int           // bytes; the step of the Lambda function
	at   time.Duration // since the begin
	hit  bool
}

func (m *mishap) String() string {
	switch m.kind {
	case restarted, moved, setBack, disabled:
		return fmt.Sprintf("%s at %v (unit %d)", m.kind, m.at, m.unit)
	}
	return fmt.Sprintf("%s: unit %d, the %d. time, %d", m.kind, m.unit, m.nth, m.left)
}

// plan is what goes wrong in a seed.
type plan struct {
	units      []*unit
	faults     []fakebackend.Fault
	mishaps    []*mishap
	tokensOnce bool
}

// drawPlan draws a plan.
func drawPlan(rng *rand.Rand) *plan {
	p := &plan{tokensOnce: rng.IntN(4) == 0}
	for i := range 1 + rng.IntN(3) {
		way := []way{byClaim, byClaim, byJITP, byJITR}[rng.IntN(4)]
		p.units = append(p.units, &unit{
			name: fmt.Sprint("device-", i), serial: fmt.Sprint(i), way: way, five: rng.IntN(2) == 0, format: codecs[rng.IntN(2)],
			forgetful: rng.IntN(4) == 0, withKeys: rng.IntN(60) == 0, rng: rand.New(rand.NewPCG(rng.Uint64(), uint64(i))),
		})
	}
	for range 1 + rng.IntN(6) {
		u := rng.IntN(len(p.units))
		m := &mishap{unit: u, nth: 1 + rng.IntN(12), at: time.Duration(rng.Int64N(int64(90 * time.Second)))}
		switch n := rng.IntN(21); {
		case n < 8:
			p.faults = append(p.faults, p.units[u].fault(rng))
			continue
		case n < 10:
			m.kind = pulled
		case n < 12:
			m.kind = silent
		case n < 16:
			m.kind, m.nth, m.left = broken, 1+rng.IntN(4), rng.IntN(8000)
		case n < 17:
			m.kind = restarted
		case n < 18:
			m.kind = moved
		case n < 19:
			m.kind = setBack
		case n < 20:
			m.kind = disabled
		default:
			m.kind, m.nth, m.left = crashed, 1, 1+rng.IntN(4)
		}
		p.mishaps = append(p.mishaps, m)
	}
	return p
}

// fault draws a fault of the account that can strike a device.
func (u *unit) fault(rng *rand.Rand) fakebackend.Fault {
	f := fakebackend.Fault{Nth: 1 + rng.IntN(3), Times: 1 + rng.IntN(3)}
	steps := fakebackend.Steps()
	if u.way != byJITR && rng.IntN(4) == 0 {
		f.Step, f.Do = steps[rng.IntN(len(steps))], fakebackend.Fail
		return f
	}
	names := []string{"Connect", "Publish"}
	switch u.way {
	case byClaim:
		create := "ClaimCreateCertificateFromCsr"
		if u.withKeys {
			create = "ClaimCreateKeysAndCertificate"
		}
		names = append(names, "Subscribe", create, create, "ClaimRegisterThing", "ClaimRegisterThing")
	case byJITP:
		names = append(names, "JustInTimeProvisioning", "JustInTimeProvisioning")
	case byJITR:
		names = append(names, "JustInTimeRegistration", "JustInTimeRegistration")
	}
	f.Operation, f.Do = names[rng.IntN(len(names))], deviceEffects[rng.IntN(len(deviceEffects))]
	if strings.HasPrefix(f.Operation, "JustInTime") || f.Operation == "Subscribe" { // of which a device does few
		f.Nth = 1
	}
	if f.Do == fakebackend.Delay {
		f.Delay = time.Duration(rng.Int64N(int64(50 * time.Second)))
	}
	return f
}

// hits counts what has gone wrong, by its name.
type hits map[string]int

func (h hits) add(other hits) {
	for name, n := range other {
		h[name] += n
	}
}

// String is a table of the account's faults, and a list of the rest.
func (h hits) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-30s", "")
	for _, e := range deviceEffects {
		fmt.Fprintf(&b, "%12s", e)
	}
	rest := maps.Clone(h)
	for _, op := range deviceOperations {
		fmt.Fprintf(&b, "\n%-30s", op)
		for _, e := range deviceEffects {
			name := op + " " + string(e)
			fmt.Fprintf(&b, "%12d", h[name])
			delete(rest, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		fmt.Fprintf(&b, "\n%-30s%12d", name, rest[name])
	}
	return b.String()
}
