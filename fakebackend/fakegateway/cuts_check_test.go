package fakegateway_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

func (e expected) clone() expected {
	out := expected{map[string]map[string]bool{}, maps.Clone(e.issued), maps.Clone(e.disabled), maps.Clone(e.activated)}
	for thing, ids := range e.provisioned {
		out.provisioned[thing] = maps.Clone(ids)
	}
	return out
}

// expectation returns a copy of what is expected now, and puts another in its place if there is one.
func (w *world) expectation(other *expected) expected {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.expected.clone()
	if other != nil {
		w.expected = *other
	}
	return now
}

// watch keeps the account's events, and what they make one expect.
func (w *world) watch(ctx context.Context) {
	for e := range w.fake.Events(ctx) {
		w.mu.Lock()
		w.events = append(w.events, e)
		switch e.Kind {
		case fakebackend.EventProvisioned:
			if w.expected.provisioned[e.ThingName] == nil {
				w.expected.provisioned[e.ThingName] = map[string]bool{}
			}
			w.expected.provisioned[e.ThingName][e.CertificateID] = true
		case fakebackend.EventIssued:
			w.expected.issued[e.CertificateID] = true
		}
		w.mu.Unlock()
		w.logf("    %s %s %s %.8s %s", e.Kind, e.Reason, e.ClientID, e.CertificateID, e.Text)
	}
}

// count counts the faults that have struck since the last call.
func (w *world) count() {
	list := w.fake.Faults()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range list {
		name := f.Fault.Operation + " " + string(f.Fault.Do)
		if f.Fault.Step != "" {
			name = "step " + string(f.Fault.Step)
		}
		w.hits[name] += max(0, f.Hits-w.counted[f.ID])
		w.counted[f.ID] = max(w.counted[f.ID], f.Hits)
	}
}

// certificates are those of the account, by id.
func (w *world) certificates() map[string]*task.Certificate {
	out := map[string]*task.Certificate{}
	for c := range w.fake.Certificates() {
		out[c.ID] = c
	}
	return out
}

// used reports whether a template has run for the certificate of a device.
func (w *world) used(u *unit) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.expected.provisioned[u.name][u.own.id]
}

// admitted checks that a device that was let in should be.
func (w *world) admitted(u *unit) {
	c := w.certificates()[u.own.id]
	if c == nil || c.Status != "ACTIVE" || !slices.Contains(c.Policies, "own") {
		w.violated("%s is let in with the certificate %.8s: %+v", u.name, u.own.id, c)
	}
	w.mu.Lock()
	may := w.expected.provisioned[u.name][u.own.id]
	if u.way == byJITR {
		may = w.expected.activated[u.own.id]
	}
	disabled := w.expected.disabled[u.own.id]
	w.mu.Unlock()
	if disabled {
		w.violated("%s is let in with the certificate %.8s, which the operator has made INACTIVE", u.name, u.own.id)
	}
	if !may && !w.failsAtLastStep() {
		w.violated("%s is let in, and nothing has activated its certificate %.8s", u.name, u.own.id)
	}
}

// failsAtLastStep reports whether a template may fail after all is made, which stays: the certificate is ACTIVE, and no
// event says so.
func (w *world) failsAtLastStep() bool {
	return slices.ContainsFunc(w.faults, func(f fakebackend.Fault) bool { return f.Step == fakebackend.StepReport })
}

// connections are the certificates of the connections that are open by the events, by client id.
func (w *world) connections() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	open := map[string]string{}
	for _, e := range w.events {
		switch e.Kind {
		case fakebackend.EventConnected:
			if open[e.ClientID] != "" {
				w.violations = append(w.violations, fmt.Sprintf("event %d: %s connects while it is connected", e.Number, e.ClientID))
			}
			open[e.ClientID] = e.CertificateID
		case fakebackend.EventDisconnected:
			if open[e.ClientID] != e.CertificateID {
				w.violations = append(w.violations, fmt.Sprintf("event %d: %s disconnects, which was not connected", e.Number, e.ClientID))
			}
			delete(open, e.ClientID)
		}
	}
	return open
}

// intruders checks that the certificates of all connections are ACTIVE.
func (w *world) intruders() {
	known := w.certificates()
	for client, id := range w.connections() {
		if c := known[id]; c == nil || c.Status != "ACTIVE" {
			w.violated("%s is connected with the certificate %.8s: %+v", client, id, c)
		}
	}
}

// check holds the end against what is promised.
func (w *world) check() {
	w.intruders()
	open := w.connections()
	for _, u := range w.units {
		if u.home == nil {
			continue // which is a violation already
		}
		if open[u.name] != u.own.id {
			w.violated("%s is connected with the certificate %.8s, and the events tell of %.8s", u.name, u.own.id, open[u.name])
		}
		if err := u.home.publish("dt/"+u.name+"/hello", nil); err != nil {
			w.violated("%s: %v", u.name, err)
		}
		if len(u.home.inbox) > 0 {
			w.violated("%s got %+v", u.name, u.home.inbox)
		}
		w.checkEvents(u)
	}
	w.checkCertificates()
	// Certificates by claim that no template has run for end with their tokens.
	w.fake.Advance(61 * time.Minute)
	attached := 1 // the claim
	for thing := range w.fake.Things() {
		attached += len(thing.Certificates)
		w.checkThing(thing)
	}
	if n := w.fake.Counts().Certificates; n != attached {
		w.violated("there are %d certificates, and %d of them belong to a thing or are the claim", n, attached)
	}
	if n := w.fake.Counts().Things; n != len(w.units) {
		w.violated("there are %d things for %d devices", n, len(w.units))
	}
}

// checkCertificates checks that each certificate belongs to a device, or waits for a template.
func (w *world) checkCertificates() {
	ours := map[string]bool{w.claimCert.id: true}
	for _, u := range w.units {
		if u.way != byClaim {
			ours[u.own.id] = true
		}
	}
	for id, c := range w.certificates() {
		if !ours[id] && !w.expected.issued[id] {
			w.violated("the account has the certificate %.8s, %s, which no event tells of", id, c.Status)
		}
	}
}

// checkThing checks that a thing has the certificates that it has got, all ACTIVE: AWS lets one be provisioned again, for
// another certificate, and leaves the old one.
func (w *world) checkThing(thing *task.Device) {
	i := slices.IndexFunc(w.units, func(u *unit) bool { return u.name == thing.ThingName })
	if i < 0 {
		w.violated("the thing %s belongs to no device", thing.ThingName)
		return
	}
	u := w.units[i]
	want := maps.Clone(w.expected.provisioned[u.name])
	if u.way == byJITR {
		want = map[string]bool{u.own.id: true}
	}
	for _, c := range thing.Certificates {
		if !want[c.ID] && !w.failsAtLastStep() || c.Status != "ACTIVE" {
			w.violated("%s has the certificate %.8s, which is %s, and was provisioned with %v", u.name, c.ID, c.Status, want)
		}
		delete(want, c.ID)
	}
	if len(want) > 0 {
		w.violated("%s has lost the certificates %v", u.name, want)
	}
	if n := len(thing.Certificates); n != 1 && u.anew == 0 {
		w.violated("%s has given up no certificate, and has %d", u.name, n)
	}
}

// checkEvents checks that the events agree with what a device has seen.
func (w *world) checkEvents(u *unit) {
	var connected, registered, provisioned, told int
	for _, e := range w.events {
		switch {
		case e.Kind == fakebackend.EventConnected && e.ClientID == u.name:
			connected++
		case u.way == byClaim || e.CertificateID != u.own.id:
		case e.Kind == fakebackend.EventRegistered:
			told++
			if e.Reason == "registered" {
				registered++
			}
		case e.Kind == fakebackend.EventProvisioned:
			provisioned++
		}
	}
	if connected < u.accepted {
		w.violated("%s was let in %d times, and the events tell of %d", u.name, u.accepted, connected)
	}
	if w.hits[setBack] > 0 {
		return
	}
	switch {
	case u.way == byJITR && registered != 1, u.way == byJITP && provisioned != 1 && !w.failsAtLastStep():
		w.violated("%s: events of %d registrations and %d provisionings", u.name, registered, provisioned)
	case u.way == byJITR && told != w.calls[u.own.id]:
		w.violated("%s: %d events of a registration, and %d calls of the Lambda function", u.name, told, w.calls[u.own.id])
	}
}
