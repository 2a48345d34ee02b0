package fakegateway

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// The protocols that a device can ask for in its TLS handshake (ALPN). On AWS they are needed on port 443; here any port
// has all of them, and a device that asks for none is served by the first byte it sends.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/protocols.html
const (
	alpnMQTT  = "x-amzn-mqtt-ca"
	alpnHTTPS = "x-amzn-http-ca"
	alpnHTTP  = "http/1.1"
)

// tlsConfig takes every client certificate, so long as the client has its key: AWS IoT, too, refuses the others only when
// the client sends its CONNECT.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert, GetCertificate: s.certificate,
		NextProtos: []string{alpnMQTT, alpnHTTPS, alpnHTTP},
		// A ticket is one more thing to write before a client has asked for anything, and some never read it.
		SessionTicketsDisabled: true,
	}
}

// serve begins to serve a connection.
func (s *Server) serve(raw net.Conn) {
	c := s.greet(raw)
	if c == nil {
		s.dropped(raw)
		return
	}
	// On a goroutine of its own, since the stack that a handshake needs would stay for as long as the connection.
	s.running.Go(func() {
		defer s.dropped(raw)
		c.run()
		<-c.conn.gone
	})
}

// greet does what comes before the first packet of MQTT. Without a session the connection is over.
func (s *Server) greet(raw net.Conn) *session {
	deadline := time.Now().Add(s.opts.ConnectTimeout)
	_ = raw.SetDeadline(deadline)
	conn := tls.Server(raw, s.tls)
	hello := wire.Hello{Source: source(raw.RemoteAddr()), Protocol: wire.ProtocolMQTT}
	if err := conn.Handshake(); err != nil {
		s.handshakeFailed(hello.Source, err)
		return nil
	}
	state := conn.ConnectionState()
	hello.ServerName = state.ServerName
	for _, c := range state.PeerCertificates {
		hello.Chain = append(hello.Chain, c.Raw)
	}
	first := &peeked{Conn: conn}
	web := state.NegotiatedProtocol == alpnHTTPS || state.NegotiatedProtocol == alpnHTTP
	if state.NegotiatedProtocol == "" {
		b, err := first.peek()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.handshakeFailed(hello.Source, err)
			}
			_ = conn.Close()
			return nil
		}
		web = b >= 'A' && b <= 'Z' // the method of an HTTP request; a CONNECT begins with 0x10
	}
	_ = raw.SetDeadline(time.Time{})
	if web {
		hello.Protocol = wire.ProtocolHTTPS
		s.requests.serve(&webConn{first, hello, make(chan struct{})})
		return nil
	}
	_ = raw.SetReadDeadline(deadline)
	return s.newSession(first, raw, hello)
}

// handshakeFailed records a connection that has not come as far as its first packet.
func (s *Server) handshakeFailed(from netip.Addr, err error) {
	if s.ctx.Err() != nil { // closed by this side
		return
	}
	text := "the TLS handshake failed: " + err.Error()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		text = "the TLS handshake and the first packet did not come within " + s.opts.ConnectTimeout.String()
	case errors.Is(err, io.EOF):
		text = "the device closed the connection during the TLS handshake"
	case fromDevice(err):
		text = "the device ended the TLS handshake (" + err.Error() + "): it may not trust the gateway's certificate; its root must be the account's (RootCA, GET /_fake/root.pem)"
	}
	e := wire.Event{Kind: wire.EventRefused, Reason: handshake, Text: text}
	if from.IsValid() {
		e.Source = from.String()
	}
	s.record(e)
}

// fromDevice reports whether an error of TLS is an alert that the device has sent, about the gateway. OpenSSL sends
// that of TLS 1.3 in plain text, which crypto/tls takes for a damaged record; it has no type for either.
func fromDevice(err error) bool {
	failed, ok := errors.AsType[*net.OpError](err)
	return ok && (failed.Op == "remote error" || failed.Err.Error() == "tls: bad record MAC")
}

// source returns the address of a client; that of this machine for one of the same process.
func source(a net.Addr) netip.Addr {
	if port, err := netip.ParseAddrPort(a.String()); err == nil {
		return port.Addr().Unmap()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// certificateID returns the id of the certificate that a device showed.
func certificateID(chain [][]byte) string {
	if len(chain) == 0 {
		return ""
	}
	sum := sha256.Sum256(chain[0])
	return hex.EncodeToString(sum[:])
}

// peeked is a connection whose first byte was looked at.
type peeked struct {
	*tls.Conn
	first [1]byte
	held  bool
}

func (p *peeked) peek() (byte, error) {
	_, err := io.ReadFull(p.Conn, p.first[:])
	p.held = err == nil
	return p.first[0], err
}

// Read returns the first byte again, and then the others.
func (p *peeked) Read(b []byte) (int, error) {
	if p.held && len(b) > 0 {
		b[0], p.held = p.first[0], false
		return 1, nil
	}
	return p.Conn.Read(b)
}
