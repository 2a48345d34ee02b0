package fakegateway

import (
	"bytes"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

// waitingLimit is how many bytes of messages that have waited for a client are on their way at once, well below what may
// be queued for it.
const waitingLimit = queueLimit / 2

// window holds messages with QoS 1 back until the client has acknowledged enough of those before: the broker sends what
// there is. It has the ids of the messages; the messages are the broker's.
type window struct {
	mu    sync.Mutex
	size  int            // messages that may be on their way; 0 for any number
	sent  map[uint16]int // those on their way, with the lengths of their payloads
	bytes int            // of all of them
	held  []uint16       // those that wait, in their order
}

// take reports whether a message is to be sent now. If it is not, it waits.
func (w *window) take(id uint16, length int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case len(w.held) > 0 && w.held[0] == id:
		w.held = w.held[1:]
	case len(w.held) > 0, w.size > 0 && len(w.sent) >= w.size:
		w.held = append(w.held, id)
		return false
	}
	if w.sent == nil {
		w.sent = map[uint16]int{}
	}
	w.bytes += length - w.sent[id]
	w.sent[id] = length
	return true
}

// open sets how many messages may be on their way.
func (w *window) open(size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size = size
}

// hold lets a message wait.
func (w *window) hold(id uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = append(w.held, id)
}

// next returns the first message that waits if it may be sent.
func (w *window) next() (id uint16, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == 0 || len(w.sent) >= w.size || w.bytes >= waitingLimit {
		return 0, false
	}
	return w.held[0], true
}

// skip forgets a message if it is the first that waits.
func (w *window) skip(id uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) > 0 && w.held[0] == id {
		w.held = w.held[1:]
	}
}

// acknowledged notes that a message has arrived.
func (w *window) acknowledged(id uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes -= w.sent[id]
	delete(w.sent, id)
}

// release sends what waits, as far as it may be on its way. It belongs to the goroutine that serves the connection.
func (c *session) release() {
	for {
		id, ok := c.window.next()
		if !ok {
			return
		}
		if pk, ok := c.client.State.Inflight.Get(id); ok { // else it has expired
			_ = c.client.WritePacket(pk)
		}
		c.window.skip(id) // one that could not be sent
	}
}

// resume lets the messages wait that are left from the connection before.
func (c *session) resume() {
	for _, pk := range c.left {
		id, err := c.client.NextPacketID()
		if err != nil {
			return
		}
		pk.PacketID, pk.FixedHeader.Dup = uint16(id), true
		c.client.State.Inflight.Set(pk)
		c.window.hold(pk.PacketID)
	}
	c.left = nil
}

// oversize reports whether a message is larger than the client takes. It counts as sent then (MQTT 5, 3.1.2.11.4), and the
// broker would keep it until the client acknowledges it.
func oversize(pk packets.Packet) bool {
	if pk.Mods.MaxSize == 0 {
		return false
	}
	var b bytes.Buffer
	return pk.PublishEncode(&b) == nil && uint32(b.Len()) > pk.Mods.MaxSize
}
