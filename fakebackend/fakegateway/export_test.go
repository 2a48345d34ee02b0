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

// AfterConnack calls f each time a client has been sent its CONNACK, before its session is established. ended is closed
// once the connection is told to end.
func (s *Server) AfterConnack(f func(clientID string, ended <-chan struct{})) {
	_ = s.broker.AddHook(&sentHook{sent: f}, nil)
}

type sentHook struct {
	mqtt.HookBase
	sent func(clientID string, ended <-chan struct{})
}

func (h *sentHook) ID() string           { return "test" }
func (h *sentHook) Provides(b byte) bool { return b == mqtt.OnPacketSent }
func (h *sentHook) OnPacketSent(cl *mqtt.Client, pk packets.Packet, _ []byte) {
	if pk.FixedHeader.Type == packets.Connack {
		h.sent(cl.ID, sessionOf(cl).ctx.Done())
	}
}
