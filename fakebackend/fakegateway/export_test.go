package fakegateway

import (
	"context"
	"net"

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
