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
	mu        sync.Mutex
	size      int            // messages that may be on their way; 0 for any number
	sent      map[uint16]int // those on their way, with the lengths of their payloads
	bytes     int            // of all of them
	held      []uint16       // those that wait, in their order
	releasing bool           // one that has waited is being sent
}

// open sets how many messages may be on their way, and which ones wait.
func (w *window) open(size int, held []uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size, w.held = size, held
}

// take reports whether a message is to be sent now. If it is not, it waits.
func (w *window) take(id uint16, length int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	known, called := w.sent[id]
	if !called && (w.releasing || len(w.held) > 0 || w.size > 0 && len(w.sent) >= w.size) {
		w.held = append(w.held, id)
		return false
	}
	w.put(id, length-known)
	return true
}

// put notes a message that is on its way, or that more of it is.
func (w *window) put(id uint16, length int) {
	if w.sent == nil {
		w.sent = map[uint16]int{}
	}
	w.sent[id] += length
	w.bytes += length
}

// next calls the first message that waits, if it may be sent. Others wait until next is called again.
func (w *window) next() (id uint16, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.releasing = ok }()
	if len(w.held) == 0 || len(w.sent) >= w.size || w.bytes >= waitingLimit {
		return 0, false
	}
	id, w.held = w.held[0], w.held[1:]
	w.put(id, 0)
	return id, true
}

// acknowledged notes that a message has arrived.
func (w *window) acknowledged(id uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes -= w.sent[id]
	delete(w.sent, id)
}

// resume lets the messages wait that are left from the connection before.
func (c *session) resume() {
	var held []uint16
	for _, pk := range c.left {
		if id, err := c.client.NextPacketID(); err == nil {
			pk.PacketID, pk.FixedHeader.Dup = uint16(id), true
			c.client.State.Inflight.Set(pk)
			held = append(held, pk.PacketID)
		}
	}
	c.left = nil
	c.window.open(c.most, held)
	c.release()
}

// release sends what waits, as far as it may be on its way. It belongs to the goroutine that serves the connection.
func (c *session) release() {
	for {
		id, ok := c.window.next()
		if !ok {
			return
		}
		pk, ok := c.client.State.Inflight.Get(id)
		if !ok || c.client.WritePacket(pk) != nil { // it has expired, or is too large
			c.window.acknowledged(id)
		}
	}
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
