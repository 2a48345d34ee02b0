package fakebackend

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	other "github.com/seed1ff6f450/iotfleet/fakebackend/internal/operation"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/internal/lenientx509"
	policydoc "github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/task"
)

// What a device may do that connects to a gateway.
//
// Models: certificates that are unknown, not ACTIVE, or outside their dates; SNI_ONLY certificates, whose device must
// name the endpoint; iot:Connect and what follows by the policies of the certificate and of the groups of the thing.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/x509-client-certs.html

// Admit decides about a device that wants to connect.
func (s served) Admit(ctx context.Context, h wire.Hello) (wire.Device, error) {
	c := &connection{b: s.b, hello: h}
	refused, err := c.admit(ctx)
	if err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, refused
	}
	return c, nil
}

// connection is a device that was admitted.
type connection struct {
	b     *account
	hello wire.Hello
	id    certificateID
	cert  *x509.Certificate // of the device
	let   string            // the operation of just-in-time registration that no fault has kept the connection from
	now   atomic.Pointer[standing]
}

// standing is how the account stands towards a connection, as of one generation.
type standing struct {
	generation uint64
	active     bool
	thing      string
	seen       thingVersion // that rights is about
	rights     *policydoc.Connection
	names      []string // of the policies
	documents  []*policydoc.Document
}

// thingVersion is a thing as it was; the zero value is none.
type thingVersion struct {
	thing   *thing
	version int64
}

// admit lets the device in, or returns why not. An error is the context's.
func (c *connection) admit(ctx context.Context) (*wire.Refused, error) {
	strike, refused, err := c.strike(ctx, other.Connect)
	if refused != nil || err != nil {
		return refused, err
	}
	for {
		refused, ask, err := c.turn(ctx)
		if err != nil {
			return nil, err
		}
		if ask == "" {
			if strike.dropAfter {
				refused = c.cut(refused)
			}
			return refused, nil
		}
		more, refused, err := c.strike(ctx, ask)
		if refused != nil || err != nil {
			return refused, err
		}
		c.let, strike.dropAfter = ask, strike.dropAfter || more.dropAfter
	}
}

// strike applies the faults that are set for an operation. No turn is held meanwhile.
func (c *connection) strike(ctx context.Context, operation string) (struck, *wire.Refused, error) {
	left, err := c.b.faults.request(ctx, operation, c.hello.ClientID)
	if refusal, ok := errors.AsType[*task.Error](err); ok {
		return left, c.refused(wire.Faulty, "%s", refusal.Message), nil
	}
	if errors.Is(err, task.ErrOutcomeUnknown) {
		return left, c.cut(nil), nil
	}
	return left, nil, err
}

// turn decides about the device in one turn.
func (c *connection) turn(ctx context.Context) (refused *wire.Refused, ask string, err error) {
	now, err := c.b.enter(ctx, other.Connect)
	if err != nil {
		return nil, "", err
	}
	defer c.b.leave()
	c.b.reads() // unless it is the first connection of a certificate
	refused, ask = c.decide(now)
	return refused, ask, nil
}

// cut refuses the device without an answer, whatever was decided about it. What was to be published stays to be.
func (c *connection) cut(decided *wire.Refused) *wire.Refused {
	refused := c.refused(wire.Faulty, "the connection was cut by a fault that the test has set")
	refused.Cut = true
	if decided != nil {
		refused.Messages = decided.Messages
	}
	return refused
}

// refused makes a refusal, and the event of it.
func (c *connection) refused(reason, format string, args ...any) *wire.Refused {
	e := c.Event(EventRefused, fmt.Sprintf(format, args...))
	e.Reason = reason
	c.b.record(Event(e))
	return &wire.Refused{Reason: reason, Text: e.Text}
}

// decide refuses the device, or lets it in: then refused is nil. It may ask to be let do an operation first. The caller
// holds the turn.
func (c *connection) decide(now time.Time) (refused *wire.Refused, ask string) {
	if len(c.hello.Chain) == 0 {
		return c.refused(wire.NoCertificate, "the device sent no certificate"), ""
	}
	var err error
	if c.cert, _, err = lenientx509.Certificate(c.hello.Chain[0]); err != nil {
		return c.refused(wire.BadCertificate, "the device's certificate cannot be read: %v", err), ""
	}
	c.id = sha256.Sum256(c.cert.Raw)
	cert, ok := c.b.deviceCertificate(c.id)
	if !ok || cert.status == statusPendingActivation {
		return c.introduce(cert, now)
	}
	if refused := c.unfit(cert, now); refused != nil {
		return refused, ""
	}
	c.refresh()
	if c.hello.Protocol == wire.ProtocolHTTPS {
		return nil, ""
	}
	if e, ok := c.judge(c.now.Load(), policydoc.ActionConnect, c.hello.ClientID); !ok {
		e.Reason = wire.NoConnect
		c.b.record(Event(e))
		return &wire.Refused{Reason: e.Reason, Text: e.Text}, ""
	}
	return nil, ""
}

// statusReasons are the reasons for which a certificate that is not ACTIVE is refused.
var statusReasons = map[certStatus]string{
	statusInactive: wire.Inactive, statusRevoked: wire.Revoked, statusPendingTransfer: wire.Inactive,
	statusRegisterInactive: wire.Inactive,
}

// unfit refuses a registered certificate for what it is, whatever its policies are.
func (c *connection) unfit(cert *certificate, now time.Time) *wire.Refused {
	switch {
	case cert.status != statusActive:
		return c.refused(statusReasons[cert.status], "the certificate %s is %s", c.id, cert.status)
	case now.Before(c.cert.NotBefore), now.After(c.cert.NotAfter):
		return c.outdated(now)
	case cert.sniOnly && !c.namesEndpoint():
		return c.refused(wire.WrongServerName, "the certificate %s is in SNI_ONLY mode, and the device %s in the TLS handshake instead of %s",
			c.id, c.named(), c.b.host())
	}
	return nil
}

// outdated refuses a certificate outside its dates.
func (c *connection) outdated(now time.Time) *wire.Refused {
	clock := now.UTC().Format(time.RFC3339)
	if now.Before(c.cert.NotBefore) {
		return c.refused(wire.NotYetValid, "the certificate %s is valid from %s on, and the account's clock shows %s",
			c.id, c.cert.NotBefore.UTC().Format(time.RFC3339), clock)
	}
	return c.refused(wire.Expired, "the certificate %s expired at %s, and the account's clock shows %s",
		c.id, c.cert.NotAfter.UTC().Format(time.RFC3339), clock)
}

// named is what the device did about the server's name, for people.
func (c *connection) named() string {
	if c.hello.ServerName == "" {
		return "named no server, as one that connects to an IP address,"
	}
	return fmt.Sprintf("named the server %q", c.hello.ServerName)
}

// namesEndpoint reports whether the device named a host of the account in its TLS handshake.
func (c *connection) namesEndpoint() bool {
	name := c.hello.ServerName
	return strings.EqualFold(name, c.b.dataEndpoint()) ||
		slices.ContainsFunc(c.b.hosts, func(gateway *[]string) bool {
			return slices.ContainsFunc(*gateway, func(host string) bool { return strings.EqualFold(name, host) })
		})
}

// host is where devices connect to.
func (b *account) host() string {
	if len(b.hosts) > 0 {
		return (*b.hosts[len(b.hosts)-1])[0]
	}
	return b.dataEndpoint()
}

// standing returns how the account stands towards the device now.
func (c *connection) standing() *standing {
	if s := c.now.Load(); s.generation == c.b.generation.Load() {
		return s
	}
	c.b.turn <- struct{}{}
	defer c.b.leave()
	c.b.reads()
	return c.refresh()
}

// refresh reads the account. What policies see of the device is made anew only if its thing is another one or has changed,
// since it costs far more than the rest and every change of the account comes here. The caller holds the turn.
func (c *connection) refresh() *standing {
	s := &standing{generation: c.b.generation.Load()}
	before := c.now.Load()
	if cert, ok := c.b.deviceCertificate(c.id); ok {
		t := cert.thingOf(c.hello.ClientID)
		s.active = cert.status == statusActive
		if t != nil {
			s.thing, s.seen = t.name, thingVersion{t, t.version}
		}
		for _, p := range cert.effective(t) {
			s.names, s.documents = append(s.names, p.name), append(s.documents, p.compiled())
		}
		if before != nil && before.rights != nil && before.seen == s.seen {
			s.rights = before.rights
		} else {
			s.rights = c.rights(t)
		}
	}
	c.now.Store(s)
	return s
}

// rights are what policies see of the device, as the thing.
func (c *connection) rights(t *thing) *policydoc.Connection {
	d := c.b.device(nil, t, c.hello.ClientID)
	d.Certificate, d.SourceIP, d.DomainName, d.LastWillTopic = c.cert, c.hello.Source, c.hello.ServerName, c.hello.WillTopic
	if c.hello.Persistent {
		d.ConnectAttributes = append(d.ConnectAttributes, "PersistentConnect")
	}
	if c.hello.WillTopic != "" {
		d.ConnectAttributes = append(d.ConnectAttributes, "LastWill")
	}
	return policydoc.NewConnection(d)
}

// Allows decides about an action.
func (c *connection) Allows(action, name string) bool {
	e, ok := c.judge(c.standing(), action, name)
	if !ok {
		c.b.record(Event(e))
	}
	return ok
}

// judge asks the policies. If they do not allow the action, or the certificate is no longer ACTIVE, it returns the event
// that names what decided.
func (c *connection) judge(s *standing, action, name string) (wire.Event, bool) {
	var decision policydoc.Decision
	if s.active {
		decision = s.rights.Decide(action, name, s.documents...)
	}
	if decision.Allowed() {
		return wire.Event{}, true
	}
	e := c.Event(EventRefused, "")
	e.Reason, e.Action, e.Resource, e.ThingName = "policy", action, policydoc.ActsOn(action, name), s.thing
	if !s.active {
		e.Reason, e.Text = wire.Inactive, fmt.Sprintf("%s on %s: the certificate %s is no longer active", action, e.Resource, c.id)
		return e, false
	}
	if decision.Statement != nil {
		e.PolicyName = s.names[decision.Policy]
		e.Statement, e.SID = decision.Statement.Index+1, decision.Statement.SID
	}
	names := make([]string, len(s.names))
	for i, name := range s.names {
		names[i] = "the policy " + name
	}
	e.Text = action + " on " + e.Resource + ": " + decision.Why(names)
	return e, false
}

// Active reports whether the certificate is still ACTIVE.
func (c *connection) Active() bool { return c.standing().active }

// CertificateID returns the id of the certificate.
func (c *connection) CertificateID() string { return c.id.String() }

// ThingName returns the name of the thing that the device connects as.
func (c *connection) ThingName() string { return c.standing().thing }

// Event makes an event about the device.
func (c *connection) Event(kind, text string) wire.Event {
	e := wire.Event{Kind: kind, ClientID: c.hello.ClientID, Protocol: c.hello.Protocol, Text: text}
	if c.id != (certificateID{}) {
		e.CertificateID = c.id.String()
	}
	if s := c.now.Load(); s != nil {
		e.ThingName = s.thing
	}
	if c.hello.Source.IsValid() {
		e.Source = c.hello.Source.Unmap().String()
	}
	return e
}
