package fakegateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// link is a device's connection, with as much of MQTT 3.1.1 or 5 as a firmware needs. It belongs to one goroutine, and
// has none of its own.
type link struct {
	conn   *tls.Conn
	in     *bufio.Reader
	five   bool
	lastID uint16
	inbox  []message // that came while something else was waited for
	// patience is how long an answer may take.
	patience time.Duration
}

// message is one that a device got.
type message struct {
	topic   string
	payload []byte
}

// errNoAnswer is an answer that did not come.
var errNoAnswer = errors.New("no answer")

// openLink connects a device over a network connection, which is closed if that fails. In MQTT 3.1.1 a device that is
// refused learns no more than that the connection was closed.
func openLink(ctx context.Context, raw net.Conn, config *tls.Config, clientID string, five bool, patience time.Duration) (*link, error) {
	l := &link{conn: tls.Client(raw, config), five: five, patience: patience}
	l.wait()
	l.in = bufio.NewReaderSize(l.conn, 512)
	err := l.conn.HandshakeContext(ctx)
	if err == nil {
		version := byte(4) // and a keep-alive of 20 minutes, the longest that AWS has
		if five {
			version = 5
		}
		err = l.send(0x10, text("MQTT"), []byte{version, 2, 4, 176}, l.properties(), text(clientID))
	}
	if err == nil {
		_, err = l.await(0x20, 0)
	}
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return l, nil
}

// properties are none, where MQTT 5 has room for them.
func (l *link) properties() []byte {
	if l.five {
		return []byte{0}
	}
	return nil
}

// wait limits how long the next steps may take.
func (l *link) wait() { _ = l.conn.SetDeadline(time.Now().Add(l.patience)) }

func (l *link) send(head byte, parts ...[]byte) error {
	l.wait()
	_, err := l.conn.Write(packet(head, parts...))
	return err
}

// receive reads one packet.
func (l *link) receive() (head byte, body []byte, err error) {
	if head, err = l.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	length, err := binary.ReadUvarint(l.in)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, length)
	_, err = io.ReadFull(l.in, body)
	return head, body, err
}

// await reads until the acknowledgement of a packet has come, and returns its reason code, which is below 128.
func (l *link) await(kind byte, id uint16) (code byte, err error) {
	for {
		head, body, err := l.receive()
		switch {
		case err != nil:
			return 0, err
		case head&0xf0 == 0x30:
			if err := l.take(head, body); err != nil {
				return 0, err
			}
			continue
		case head == 0xe0:
			return 0, fmt.Errorf("the server disconnects with % x", body)
		case head != kind:
			return 0, fmt.Errorf("a packet % x % x where %x was expected", head, body, kind)
		}
		switch {
		case kind == 0x20:
			code = body[1]
		case binary.BigEndian.Uint16(body) != id:
			return 0, fmt.Errorf("an acknowledgement of %d instead of %d", binary.BigEndian.Uint16(body), id)
		case kind == 0x90:
			code = slices.Max(body[2:])
		case len(body) > 2:
			code = body[2]
		}
		if code >= 0x80 || kind == 0x20 && code > 0 {
			return 0, fmt.Errorf("refused with %#x", code)
		}
		return code, nil
	}
}

// take puts a message into the inbox and acknowledges it.
func (l *link) take(head byte, body []byte) error {
	topic, rest := body[2:2+binary.BigEndian.Uint16(body)], body[2+binary.BigEndian.Uint16(body):]
	if head&6 != 0 {
		if err := l.send(0x40, rest[:2]); err != nil {
			return err
		}
		rest = rest[2:]
	}
	if l.five {
		length, n := binary.Uvarint(rest)
		rest = rest[n+int(length):]
	}
	l.inbox = append(l.inbox, message{string(topic), rest})
	return nil
}

func (l *link) nextID() []byte {
	l.lastID++
	return binary.BigEndian.AppendUint16(nil, l.lastID)
}

// subscribe subscribes to filters with QoS 1. All must be granted.
func (l *link) subscribe(filters ...string) error {
	parts := [][]byte{l.nextID(), l.properties()}
	for _, f := range filters {
		parts = append(parts, text(f), []byte{1})
	}
	err := l.send(0x82, parts...)
	if err == nil {
		_, err = l.await(0x90, l.lastID)
	}
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", filters[0], err)
	}
	return nil
}

// publish publishes with QoS 1, and waits for the PUBACK.
func (l *link) publish(topic string, payload []byte) error {
	err := l.send(0x32, text(topic), l.nextID(), l.properties(), payload)
	if err == nil {
		_, err = l.await(0x40, l.lastID)
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// next returns the next message.
func (l *link) next() (message, error) {
	l.wait()
	for len(l.inbox) == 0 {
		head, body, err := l.receive()
		if err != nil {
			return message{}, fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		if head&0xf0 != 0x30 {
			return message{}, fmt.Errorf("a packet % x % x where a message was expected", head, body)
		}
		if err := l.take(head, body); err != nil {
			return message{}, err
		}
	}
	m := l.inbox[0]
	l.inbox = l.inbox[1:]
	return m, nil
}

// ping waits until the gateway has answered a PINGREQ, by when the inbox has all that was sent before.
func (l *link) ping() error {
	if err := l.send(0xc0); err != nil {
		return err
	}
	for {
		head, body, err := l.receive()
		switch {
		case err != nil:
			return err
		case head&0xf0 == 0x30:
			if err := l.take(head, body); err != nil {
				return err
			}
		case head == 0xd0:
			return nil
		default:
			return fmt.Errorf("a packet % x % x where PINGRESP was expected", head, body)
		}
	}
}

// disconnect says goodbye, and closes the connection.
func (l *link) disconnect() {
	_ = l.send(0xe0)
	_ = l.conn.NetConn().Close()
}

// request asks for something by claim, and returns the answer. An error is one of the connection: what is refused is an
// answer, too.
func (l *link) request(topic string, f codec, payload any) (a answer, err error) {
	raw, err := f.marshal(payload)
	if err != nil {
		return a, err
	}
	topic += f.name
	if err := l.publish(topic, raw); err != nil {
		return a, err
	}
	m, err := l.next()
	if err != nil {
		return a, err
	}
	if m.topic != topic+"/accepted" && m.topic != topic+"/rejected" {
		return a, fmt.Errorf("an answer on %s to a request on %s", m.topic, topic)
	}
	if err := f.unmarshal(m.payload, &a); err != nil {
		return a, fmt.Errorf("the answer on %s: %w", m.topic, err)
	}
	if (m.topic == topic+"/rejected") != (a.ErrorCode != "") {
		return a, fmt.Errorf("%s on %s", m.payload, m.topic)
	}
	return a, nil
}
