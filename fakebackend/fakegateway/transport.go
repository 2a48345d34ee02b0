package fakegateway

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Limits of a connection, so that no client makes the program grow.
const (
	packetLimit  = 149504           // bytes of a packet: the Maximum Packet Size, room for a payload of 128 KiB, topic and properties
	firstLimit   = 8 << 10          // bytes that are set aside for a packet before they have arrived
	queueLimit   = 1 << 20          // bytes that wait for a client to read them
	writeTimeout = 30 * time.Second // for a client to read anything
	closeTimeout = 2 * time.Second  // for a client to read what there is to read when its connection ends
)

var (
	errTooLarge  = errors.New("the packet is larger than 149,504 bytes")
	errMalformed = errors.New("the length of the packet is malformed")
	errCutShort  = errors.New("the packet is malformed: a SUBSCRIBE ends before the options of its last topic filter")
	errSlow      = errors.New("the client does not read: 1 MiB waits for it")
)

// transport is a connection as the broker sees it. What is read comes in whole packets, so that the broker sets memory
// aside for bytes that have arrived only. What is written is queued and sent by a goroutine of its own, so that Write
// never waits.
type transport struct {
	session *session
	conn    net.Conn      // with TLS
	raw     net.Conn      // below it
	gone    chan struct{} // closed when the connection is
	spawn   func(func())  // runs a function on a goroutine that the Server waits for

	unread []byte // of the packet that is being read
	buffer []byte
	last   byte // the first byte of that packet

	mu       sync.Mutex
	cause    error // reads fail with it once it is set
	queue    []byte
	spare    []byte
	sending  bool
	closing  bool
	muted    bool        // what is written is lost
	greeted  bool        // a CONNACK was written; nothing goes ahead of it
	parted   bool        // a DISCONNECT was written; nothing follows it
	finished bool        // nothing more can be sent
	silent   *time.Timer // ends the connection once its keep-alive is over
}

// Read returns bytes of one packet. It waits for all of them.
func (t *transport) Read(p []byte) (int, error) {
	if len(t.unread) == 0 {
		if err := t.next(); err != nil {
			t.mu.Lock()
			if t.cause != nil {
				err = t.cause
			}
			t.mu.Unlock()
			t.session.readFailed(err)
			return 0, err
		}
	}
	n := copy(p, t.unread)
	t.unread = t.unread[n:]
	if len(t.unread) == 0 && cap(t.buffer) > firstLimit {
		t.buffer = nil
	}
	return n, nil
}

// next reads a packet.
func (t *transport) next() error {
	packet, err := readPacket(t.conn, t.buffer[:0], packetLimit)
	if err != nil {
		return err
	}
	if t.session.five && packet[0]>>4 == packets.Subscribe && cutShort(packet) {
		return errCutShort
	}
	if t.session.five && packet[0]>>4 == packets.Disconnect && packet[1] == 1 {
		packet[1], packet = 2, append(packet, 0) // the broker's library ignores a reason code without properties
	}
	t.buffer, t.unread, t.last = packet, packet, packet[0]
	return nil
}

// cutShort reports whether a SUBSCRIBE of MQTT 5 ends with a topic filter that has no options. The broker's library panics
// over it (mochi-mqtt 2.7.9), and would then leave out the client's will.
func cutShort(packet []byte) (cut bool) {
	defer func() { cut = recover() != nil }()
	body := packet[1:]
	for body[0]&0x80 != 0 {
		body = body[1:]
	}
	pk := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Subscribe}}
	_ = pk.SubscribeDecode(body[1:])
	return false
}

// readPacket appends the next packet to buf.
func readPacket(r io.Reader, buf []byte, limit int) ([]byte, error) {
	buf = append(buf, 0, 0)
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, err
	}
	length, shift := int(buf[1]&0x7f), 7
	for buf[len(buf)-1]&0x80 != 0 {
		if shift > 21 {
			return nil, errMalformed
		}
		buf = append(buf, 0)
		if _, err := io.ReadFull(r, buf[len(buf)-1:]); err != nil {
			return nil, err
		}
		length |= int(buf[len(buf)-1]&0x7f) << shift
		shift += 7
	}
	if length > limit-len(buf) {
		return nil, errTooLarge
	}
	for length > 0 { // twice as much each time, so that a length alone costs nothing
		n := min(length, max(firstLimit, len(buf)))
		at := len(buf)
		buf = append(buf, make([]byte, n)...)
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			return nil, err
		}
		length -= n
	}
	return buf, nil
}

// interrupt makes every further read fail.
func (t *transport) interrupt(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause == nil {
		t.cause = cause
		_ = t.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// Write queues a packet. Several goroutines write: that of the connection, the broker's for messages, and whichever ends the
// connection. What would go ahead of the CONNACK or follow a DISCONNECT, which MQTT forbids, is lost.
func (t *transport) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing || t.finished {
		return 0, net.ErrClosed
	}
	kind := p[0] >> 4
	if t.greeted = t.greeted || kind == packets.Connack; t.muted || t.parted || !t.greeted {
		return len(p), nil
	}
	if len(t.queue)+len(p) > queueLimit {
		if t.cause == nil {
			t.cause = errSlow
			_ = t.conn.SetReadDeadline(time.Unix(1, 0))
		}
		return 0, errSlow
	}
	t.parted = kind == packets.Disconnect
	t.enqueue(p)
	return len(p), nil
}

// mute loses what is still queued, and what is written from now on.
func (t *transport) mute() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.muted, t.queue = true, nil
}

// enqueue is Write with the lock held.
func (t *transport) enqueue(p []byte) {
	t.queue = append(t.queue, p...)
	if !t.sending {
		t.sending = true
		t.spawn(t.send)
	}
}

// send sends what is queued, and closes the connection if that was asked for.
func (t *transport) send() {
	for {
		t.mu.Lock()
		if len(t.queue) == 0 {
			t.sending = false
			t.finished = t.finished || t.closing
			done := t.finished
			t.mu.Unlock()
			if done {
				t.shut()
			}
			return
		}
		out, timeout := t.queue, writeTimeout
		if t.closing {
			timeout = closeTimeout
		}
		t.queue = t.spare[:0]
		_ = t.raw.SetWriteDeadline(time.Now().Add(timeout)) // with the lock, or it could undo that of Close
		t.mu.Unlock()
		_, err := t.conn.Write(out)
		t.mu.Lock()
		t.spare = nil
		if cap(out) <= firstLimit {
			t.spare = out
		}
		if err != nil {
			t.queue, t.finished = nil, true
			if t.cause == nil && errors.Is(err, os.ErrDeadlineExceeded) {
				t.cause = errSlow
			}
		}
		t.mu.Unlock()
		if err != nil {
			_ = t.raw.Close()
		}
	}
}

// Close ends the connection once the client has got what is queued for it, or 2 seconds have passed. It does not wait.
func (t *transport) Close() error {
	t.session.part(t.last)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing {
		return nil
	}
	t.closing = true
	if t.cause == nil {
		t.cause = net.ErrClosed
	}
	if t.silent != nil {
		t.silent.Stop()
	}
	if t.finished {
		return nil
	}
	_ = t.conn.SetReadDeadline(time.Unix(1, 0))
	_ = t.raw.SetWriteDeadline(time.Now().Add(closeTimeout))
	t.enqueue(nil)
	return nil
}

// shut closes both layers. TLS says goodbye within the time that is left.
func (t *transport) shut() {
	_ = t.conn.Close()
	_ = t.raw.Close()
	close(t.gone)
}

// SetDeadline sets when the connection ends if no packet has come by then, be it that a request hangs and nobody reads.
// Writes have limits of their own.
func (t *transport) SetDeadline(at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.cause != nil:
	case t.silent != nil:
		t.silent.Reset(time.Until(at))
	default:
		t.silent = time.AfterFunc(time.Until(at), t.session.fellSilent)
		return t.conn.SetReadDeadline(time.Time{}) // that of the first packet
	}
	return nil
}

// SetReadDeadline limits reads.
func (t *transport) SetReadDeadline(at time.Time) error { return t.SetDeadline(at) }

// SetWriteDeadline does nothing.
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr returns the server's address.
func (t *transport) LocalAddr() net.Addr { return t.raw.LocalAddr() }

// RemoteAddr returns the client's address.
func (t *transport) RemoteAddr() net.Addr { return t.raw.RemoteAddr() }
