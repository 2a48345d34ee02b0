package fakebackend

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Event is something that has happened in the account: what AWS writes to CloudWatch Logs, and the refusals that AWS
// does not explain to the device. It is plain data, and as JSON it has the member names below; what does not apply is
// left out. A text of more than 2 KiB is cut.
type Event struct {
	Number uint64    `json:"number"` // counts from 1 for each fake, also past a reset
	Time   time.Time `json:"time"`   // the fake's clock
	Kind   string    `json:"kind"`   // one of the kinds below
	// Reason is a word for why. Of connections that the account refuses: no-certificate, bad-certificate,
	// unknown-certificate, inactive, revoked, pending-activation, not-yet-valid, expired, server-name, no-connect,
	// registered, provisioned, provisioning-failed, fault. Of an action that the policies refuse: policy. A gateway has
	// words of its own for what breaks the rules of the protocol, and for the end of a connection.
	Reason   string `json:"reason,omitempty"`
	ClientID string `json:"clientId,omitempty"` // of the device's MQTT connection
	// CertificateID is that of the device; of a "registered", "issued" or "provisioned" event, of the certificate that was
	// registered, issued or provisioned.
	CertificateID string `json:"certificateId,omitempty"`
	// CACertificateID is that of the CA whose certificate was registered or provisioned at its first connection.
	CACertificateID string `json:"caCertificateId,omitempty"`
	ThingName       string `json:"thingName,omitempty"`  // that the device connects as, or that was provisioned
	Source          string `json:"source,omitempty"`     // the device's address
	Protocol        string `json:"protocol,omitempty"`   // mqtt or https
	Action          string `json:"action,omitempty"`     // that was refused, such as iot:Publish
	Resource        string `json:"resource,omitempty"`   // that it was refused on, such as topic/dt/device-one
	PolicyName      string `json:"policyName,omitempty"` // the policy that decided; none if no statement allows it
	Statement       int    `json:"statement,omitempty"`  // its statement, from 1
	SID             string `json:"sid,omitempty"`        // the statement's Sid
	TaskID          string `json:"taskId,omitempty"`
	Text            string `json:"text,omitempty"` // a sentence for people
}

// The kinds of events.
const (
	// EventConnected is a device that a gateway has let in.
	EventConnected = wire.EventConnected
	// EventDisconnected is the end of a connection, with the reason.
	EventDisconnected = wire.EventDisconnected
	// EventRefused is a connection that was refused, with the reason, or an action, with the statement that decided.
	EventRefused = wire.EventRefused
	// EventRegistered is a certificate of a CA that waits to be activated: just-in-time registration has registered it as
	// PENDING_ACTIVATION (the reason is "registered"), or a device has shown it again ("pending-activation"). Each time a
	// message is published, as AWS does, so who plays the Lambda function of AWS's examples does its work now: attach
	// policies, and set the certificate ACTIVE.
	EventRegistered = wire.EventRegistered
	// EventIssued is a certificate that a device got by a claim; it is PENDING_ACTIVATION.
	EventIssued = wire.EventIssued
	// EventProvisioned is a device that just-in-time provisioning or a claim has provisioned.
	EventProvisioned = wire.EventProvisioned
	// EventFailed is a device that could not be provisioned; the text tells why.
	EventFailed = wire.EventFailed
	// EventTaskStarted is a registration task that was started.
	EventTaskStarted = wire.EventTaskStarted
	// EventTaskEnded is a registration task that has ended, with its counts. The devices of a task are no events: they
	// are in its reports.
	EventTaskEnded = wire.EventTaskEnded
	// EventReset is a call of Reset. Events before it are forgotten.
	EventReset = wire.EventReset
	// EventRestored is a call of Restore. Events before it are forgotten.
	EventRestored = wire.EventRestored
	// EventMissed stands for events that came faster than they were read, or that a reset has taken away. Its text
	// tells how many; it has no number.
	EventMissed = wire.EventMissed
)

// eventsKept is how many events are kept for whoever asks later.
const eventsKept = 4096

// Events yields the events that are still kept, up to the last 4,096, and then those to come, until ctx ends. With a
// context that has ended it yields those kept. A reader that is slow holds nobody up: what it misses is one event of
// kind [EventMissed]. Any number may read at once, and the loop's body may call the fake.
func (b *Backend) Events(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		next, kept := b.events.span()
		for {
			list, missed, more := b.events.from(next)
			if missed > 0 {
				e := Event{Time: b.clock.now(), Kind: EventMissed, Text: fmt.Sprintf("%d events were not read in time", missed)}
				if !yield(e) {
					return
				}
			}
			for _, e := range list {
				if e.Number > kept && ctx.Err() != nil || !yield(e) {
					return
				}
			}
			next += missed + uint64(len(list))
			if len(list) > 0 {
				continue
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

// events are the last events of an account. Its lock is a leaf.
type events struct {
	mu   sync.Mutex
	ring []Event // the one with number n is at (n-1) % eventsKept
	last uint64  // number of the last one
	kept int     // how many of the last are kept

	more chan struct{} // closed when one is added; nil while nobody waits
}

// eventText is the greatest length of a text in an event, in bytes: what a device has sent can be much longer, and the
// events are kept.
const eventText = 2 << 10

// record adds an event, with its number and the fake's time.
func (b *account) record(e Event) {
	e.Time = b.clock.now()
	for _, text := range []*string{&e.Text, &e.ClientID, &e.Resource, &e.Action, &e.ThingName} {
		start, rest := rule.Cut(*text, eventText)
		*text = start + rest
	}
	b.events.add(e)
}

func (es *events) add(e Event) {
	es.mu.Lock()
	defer es.mu.Unlock()
	e.Number = es.last + 1
	if i := int(es.last % eventsKept); i < len(es.ring) {
		es.ring[i] = e
	} else {
		es.ring = append(es.ring, e)
	}
	es.last++
	es.kept = min(es.kept+1, eventsKept)
	if es.more != nil {
		close(es.more)
		es.more = nil
	}
}

// forget drops the events so far. The numbers go on.
func (es *events) forget() {
	es.mu.Lock()
	defer es.mu.Unlock()
	es.kept = 0
}

// span returns the numbers of the oldest event that is kept and of the last one; the first is above the second if none
// is kept.
func (es *events) span() (oldest, last uint64) {
	es.mu.Lock()
	defer es.mu.Unlock()
	return es.last + 1 - uint64(es.kept), es.last
}

// from returns some of the events from the nth on, and how many of those before them are no longer kept. If there is
// none, more is closed when one comes.
func (es *events) from(n uint64) (list []Event, missed uint64, more <-chan struct{}) {
	const few = 256
	es.mu.Lock()
	defer es.mu.Unlock()
	oldest := es.last + 1 - uint64(es.kept)
	if n < oldest {
		missed, n = oldest-n, oldest
	}
	for ; n <= es.last && len(list) < few; n++ {
		list = append(list, es.ring[(n-1)%eventsKept])
	}
	if len(list) == 0 {
		if es.more == nil {
			es.more = make(chan struct{})
		}
		more = es.more
	}
	return list, missed, more
}
