package fakegateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// The reasons for which a connection ends, as AWS IoT has them in its presence events.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
const (
	byClient    = "CLIENT_INITIATED_DISCONNECT"
	byServer    = "SERVER_INITIATED_DISCONNECT"
	serverError = "SERVER_ERROR"
	clientError = "CLIENT_ERROR"
	authError   = "AUTH_ERROR"
	duplicate   = "DUPLICATE_CLIENTID"
	lost        = "CONNECTION_LOST"
	timedOut    = "MQTT_KEEP_ALIVE_TIMEOUT"
)

// session is one MQTT connection. What has no lock belongs to the goroutine that serves the connection, or does not
// change once the connection is established.
type session struct {
	server *Server
	conn   *transport
	hello  wire.Hello
	device wire.Device
	client *mqtt.Client
	id     string // the client id
	five   bool   // MQTT 5; else 3.1.1

	ctx         context.Context // of what the client asks for; it ends when the connection is ended
	stop        context.CancelFunc
	done        chan struct{} // closed when the connection has ended
	established atomic.Bool
	ended       atomic.Pointer[ending]
	parted      atomic.Bool // the client has sent a DISCONNECT
	waits       *session    // an older one with the client id that had not ended when this one gave up
	sessionID   string
	version     int64                    // of the presence events
	epoch       uint64                   // of the account, when it was admitted
	filters     atomic.Pointer[[]string] // in the broker's names, if one of them ends in /#

	most   int              // messages with QoS 1 that may be on their way to the client
	left   []packets.Packet // of the connection before, until they wait in the window
	window window
	unlock func() // of Server.handover, if the session holds it

	packetID  uint16 // that the client gave to the packet which is being worked on
	asking    *asked // what that packet asks for
	discard   bool   // that packet is not for subscribers
	dropped   atomic.Int64
	cut       bool       // a fault loses the answer to that packet
	decisions []decision // about the filters of a SUBSCRIBE that is being worked on
	change    string     // what has become of the filters below: subscribed, unsubscribed
	changed   []string   // for subscribers to be told of
	leaving   []string   // the filters of an UNSUBSCRIBE that is being worked on
}

// ending is why a connection ended.
type ending struct {
	reason, text string
	code         packets.Code // of the DISCONNECT, if the server ended it
}

// newSession makes the session of a connection with TLS.
func (s *Server) newSession(conn, raw net.Conn, hello wire.Hello) *session {
	c := &session{server: s, hello: hello, done: make(chan struct{})}
	c.ctx, c.stop = context.WithCancel(s.ctx)
	c.conn = &transport{session: c, conn: conn, raw: raw, gone: make(chan struct{}), spawn: s.running.Go}
	return c
}

// run serves the connection until it has ended.
func (c *session) run() {
	defer c.stop()
	defer close(c.done)
	defer func() { _ = c.conn.Close() }()
	defer c.leave()
	defer c.survive()
	err := c.server.broker.EstablishConnection(listenerID, c.conn)
	if c.established.Load() {
		c.endedBy(err)
	} else if c.client == nil && c.ended.Load() == nil { // refused before this package was asked
		c.server.record(c.event(wire.EventRefused, badPacket, fmt.Sprintf("the first packet is no CONNECT that can be accepted: %v", err)))
	}
}

// survive ends the connection, and not the program, if the broker's library panics over what a client has sent. A panic
// of this package goes on.
func (c *session) survive() {
	r := recover()
	if r == nil {
		return
	}
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	panicking := false
	for {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if panicking && !inRuntime {
			if !strings.HasPrefix(frame.Function, "github.com/mochi-mqtt/") {
				panic(r)
			}
			break
		}
		panicking = panicking || frame.Function == "runtime.gopanic"
		if !more {
			panic(r)
		}
	}
	c.end(packets.ErrUnspecifiedError, serverError, fmt.Sprintf("the MQTT library panicked: %v", r))
}

// leave takes the connection off the broker, and tells subscribers. Whoever comes next with the client id waits for the end
// of this, and so for that of older ones, too.
func (c *session) leave() {
	if c.client == nil {
		return
	}
	c.unlockHandover()
	if c.waits != nil {
		<-c.waits.done
	}
	defer c.server.forget(c)
	why := c.ended.Load()
	if c.established.Load() {
		if why == nil {
			why = &ending{reason: serverError, text: "the connection ended"}
		}
		c.publishDisconnected(why)
		e := c.device.Event(wire.EventDisconnected, why.text)
		e.Reason = why.reason
		c.server.account.Record(e)
	}
	// The broker keeps the session of one that was not established, and, if the client asked for it, after a reset.
	if !c.established.Load() || c.epoch != c.server.account.Epoch() {
		c.server.forgetSession(c.client)
	}
}

// lockHandover has the broker hand messages over to clients, and keeps take-overs and resets out meanwhile.
func (c *session) lockHandover() {
	c.server.handover.RLock()
	c.unlock = c.server.handover.RUnlock
}

// unlockHandover undoes lockHandover, or the lock of a take-over, if there is something to undo.
func (c *session) unlockHandover() {
	if c.unlock != nil {
		c.unlock()
		c.unlock = nil
	}
}

// forgetSession makes the broker forget a session without a connection.
func (s *Server) forgetSession(cl *mqtt.Client) {
	if known, ok := s.broker.Clients.Get(cl.ID); ok && known == cl {
		cl.ClearInflights()
		s.broker.UnsubscribeClient(cl)
		s.broker.Clients.Delete(cl.ID)
	}
}

// startAnew forgets retained messages and sessions once the account was reset or restored: none is of this account. Those of
// devices that are connected follow when they leave. Whichever change is seen first does it, and others wait for it.
func (s *Server) startAnew() {
	now := s.account.Epoch()
	if s.epoch.Load() == now {
		return
	}
	s.handover.Lock()
	defer s.handover.Unlock()
	if s.epoch.Load() >= now {
		return
	}
	for topic := range s.broker.Topics.Retained.GetAll() {
		s.broker.Topics.Retained.Delete(topic)
	}
	for _, cl := range s.broker.Clients.GetAll() {
		if cl.Closed() {
			s.forgetSession(cl)
		}
	}
	s.epoch.Store(now)
}

// event is an event about a device that was not admitted.
func (c *session) event(kind, reason, text string) wire.Event {
	e := wire.Event{Kind: kind, Reason: reason, ClientID: c.id, Protocol: c.hello.Protocol, Text: text}
	if c.hello.Source.IsValid() {
		e.Source = c.hello.Source.Unmap().String()
	}
	return e
}

// The reasons of refusals that are the gateway's own.
const (
	badPacket = "bad-packet"   // it breaks MQTT's rules
	badLimit  = "limit"        // it breaks a limit of AWS IoT
	badTopic  = "topic"        // a topic that AWS IoT does not accept
	missing   = "not-modelled" // what AWS IoT has and this gateway has not
	handshake = "handshake"    // of TLS
	late      = "no-answer"    // the gateway took too long
	faulty    = wire.Faulty    // a fault that was set
)

// refuse records that the gateway has refused something to a device that is connected.
func (c *session) refuse(reason, text string) {
	e := c.device.Event(wire.EventRefused, text)
	e.Reason = reason
	c.server.account.Record(e)
}

// end ends the connection from any goroutine. Only the first reason counts.
func (c *session) end(code packets.Code, reason, text string) {
	if c.ended.CompareAndSwap(nil, &ending{reason, text, code}) {
		c.disconnect(code)
	}
	c.stop() // the goroutine that reads may be waiting for the answer to a request
	c.conn.interrupt(net.ErrClosed)
}

// check ends the connection if its certificate is no longer ACTIVE.
func (c *session) check() {
	if !c.device.Active() {
		c.end(packets.ErrNotAuthorized, authError, "the certificate is no longer ACTIVE")
	}
}

// disconnect sends a DISCONNECT, or leaves that to part, since none goes ahead of a CONNACK. transport sends one only. A
// server of MQTT 3.1.1 has none.
func (c *session) disconnect(code packets.Code) {
	if c.five && c.established.Load() && !c.parted.Load() {
		_ = c.client.WritePacket(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ReasonCode: code.Code,
			Properties: packets.Properties{ReasonString: code.Reason},
		})
	}
}

// readFailed is called with the error of a read before the broker gets it.
func (c *session) readFailed(err error) {
	if !c.established.Load() {
		if c.client == nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			text := "the first packet did not come: " + err.Error()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				text = fmt.Sprintf("no CONNECT came within %s", c.server.opts.ConnectTimeout)
			}
			c.ended.CompareAndSwap(nil, &ending{reason: clientError, text: text})
			c.server.record(c.event(wire.EventRefused, badPacket, text))
		}
		return
	}
	switch {
	case errors.Is(err, errTooLarge):
		c.refuse(badLimit, err.Error())
		c.end(packets.ErrPacketTooLarge, clientError, err.Error())
	case errors.Is(err, errMalformed), errors.Is(err, errCutShort):
		c.refuse(badPacket, err.Error())
		c.end(packets.ErrMalformedPacket, clientError, err.Error())
	case errors.Is(err, errSlow):
		c.refuse(badLimit, err.Error())
		c.end(packets.ErrQuotaExceeded, byServer, err.Error())
	default:
		c.end(packets.ErrUnspecifiedError, lost, "the connection was lost: "+err.Error())
	}
}

// fellSilent ends the connection of a client that sends nothing.
func (c *session) fellSilent() {
	c.end(packets.ErrKeepAliveTimeout, timedOut, fmt.Sprintf("no packet came for 1.5 times the keep-alive of %d s", c.client.State.Keepalive))
}

// part sends the DISCONNECT of a connection that is being closed, unless there was one: because another goroutine has ended
// it and has not come to that, or over a packet that the broker could not read. last is the first byte of the packet before.
func (c *session) part(last byte) {
	if why := c.ended.Load(); why != nil {
		c.disconnect(why.code)
	} else if last>>4 != packets.Disconnect {
		c.disconnect(packets.ErrMalformedPacket)
	}
}

// endedBy fills in the reason for which the broker has ended an established connection, if there is none yet.
func (c *session) endedBy(err error) {
	switch {
	case c.ended.Load() != nil:
	case err == nil:
		c.ended.CompareAndSwap(nil, &ending{reason: byClient, text: "the client sent a DISCONNECT"})
	case errors.Is(err, packets.CodeDisconnectWillMessage):
		c.ended.CompareAndSwap(nil, &ending{reason: byClient, text: "the client sent a DISCONNECT that asks for its will"})
	default:
		text := "a packet breaks MQTT's rules: " + err.Error()
		if c.ended.CompareAndSwap(nil, &ending{reason: clientError, text: text}) {
			c.refuse(badPacket, text)
		}
	}
}

// takeOver makes the session the one with its client id, and waits until an older one has ended.
func (c *session) takeOver(ctx context.Context) error {
	old, err := c.server.claim(c)
	if old == nil {
		return err
	}
	old.end(packets.ErrSessionTakenOver, duplicate, "another connection with the same client id has taken over")
	select {
	case <-old.done:
		return nil
	case <-ctx.Done():
		c.waits = old
		return context.Cause(ctx)
	}
}
