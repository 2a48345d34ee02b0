package fakegateway

import (
	"context"
	"net"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// Question adds a topic on which devices ask for something, to a gateway that no device has connected to.
func (s *Server) Question(topic string, answer func(levels []string, payload []byte) (topic string, reply []byte, cut bool)) {
	s.questions = append(s.questions, question{topic, func(_ context.Context, _ wire.Device, levels []string, payload []byte) (reply, bool) {
		to, text, cut := answer(levels, payload)
		return reply{to, text}, cut
	}})
}

// ReadPacket reads a packet as the gateway does.
var ReadPacket = readPacket

// Matches reports whether a topic is one of a filter's.
var Matches = matches

// Limits of a connection.
const (
	PacketLimit = packetLimit
	QueueLimit  = queueLimit
)

// ServePlain serves a connection as if its TLS handshake were over and the device had shown a certificate. It returns when
// the connection has ended, with the reason.
func (s *Server) ServePlain(conn net.Conn, chain ...[]byte) (reason, text string) {
	c := s.newSession(conn, conn, wire.Hello{Chain: chain, Protocol: wire.ProtocolMQTT, ServerName: hostName})
	c.run()
	<-c.conn.gone
	if why := c.ended.Load(); why != nil {
		return why.reason, why.text
	}
	return "", ""
}

// NewPipe makes a connection within the process.
var NewPipe = newPipe

// Open is how many connections there are, with those that are saying goodbye.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Ended returns a channel that is closed once the connection of a client is told to end.
func (s *Server) Ended(clientID string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[clientID].ctx.Done()
}

// TakesOver reports whether a connection is taking the place of another one, so that nothing is handed over to clients.
func (s *Server) TakesOver() bool {
	free := s.handover.TryRLock()
	if free {
		s.handover.RUnlock()
	}
	return !free
}

// Points are where the broker can be held up, each after the gateway's own hook. Nil means no.
type Points struct {
	Encoding     func(clientID string, pk packets.Packet) // a packet is about to be written
	Sent         func(clientID string, pk packets.Packet) // a packet was written
	Unsubscribed func(clientID string)                    // some, or all when a session is forgotten
}

// HoldUp calls functions when the broker comes to a point, on its goroutine.
func (s *Server) HoldUp(at Points) { _ = s.broker.AddHook(&holdUp{at: at}, nil) }

type holdUp struct {
	mqtt.HookBase
	at Points
}

func (h *holdUp) ID() string { return "test" }

func (h *holdUp) Provides(b byte) bool {
	return b == mqtt.OnPacketEncode && h.at.Encoding != nil || b == mqtt.OnPacketSent && h.at.Sent != nil || b == mqtt.OnUnsubscribed && h.at.Unsubscribed != nil
}

func (h *holdUp) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	h.at.Encoding(cl.ID, pk)
	return pk
}

func (h *holdUp) OnPacketSent(cl *mqtt.Client, pk packets.Packet, _ []byte) { h.at.Sent(cl.ID, pk) }
func (h *holdUp) OnUnsubscribed(cl *mqtt.Client, _ packets.Packet)          { h.at.Unsubscribed(cl.ID) }
