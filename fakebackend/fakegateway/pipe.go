package fakegateway

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// pipeLimit is how many bytes each way of a connection within the process holds, as a network does. With net.Pipe, which
// holds none, two ends that say goodbye at once would wait for each other.
const pipeLimit = 64 << 10

// newPipe makes a connection within the process.
func newPipe() (near, far net.Conn) {
	there, back := newWay(), newWay()
	return &pipeEnd{in: back, out: there}, &pipeEnd{in: there, out: back}
}

// pipeEnd is one end of a connection.
type pipeEnd struct{ in, out *way }

func (p *pipeEnd) Read(b []byte) (int, error)  { return p.in.read(b) }
func (p *pipeEnd) Write(b []byte) (int, error) { return p.out.write(b) }

// Close ends both ways: the other end reads what is there, and then EOF. What it writes is lost without an error, as the
// first bytes on a network are, so that it comes to read why.
func (p *pipeEnd) Close() error {
	_ = p.SetDeadline(time.Time{})
	p.out.end(&p.out.written)
	p.in.end(&p.in.unread)
	return nil
}

func (p *pipeEnd) LocalAddr() net.Addr  { return pipeAddress{} }
func (p *pipeEnd) RemoteAddr() net.Addr { return pipeAddress{} }

func (p *pipeEnd) SetDeadline(t time.Time) error {
	p.in.readBy.set(p.in, t)
	p.out.writeBy.set(p.out, t)
	return nil
}

func (p *pipeEnd) SetReadDeadline(t time.Time) error {
	p.in.readBy.set(p.in, t)
	return nil
}

func (p *pipeEnd) SetWriteDeadline(t time.Time) error {
	p.out.writeBy.set(p.out, t)
	return nil
}

type pipeAddress struct{}

func (pipeAddress) Network() string { return "pipe" }
func (pipeAddress) String() string  { return "pipe" }

// way is one direction of a connection.
type way struct {
	mu              sync.Mutex
	changed         sync.Cond
	data            []byte
	written, unread bool // closed by the end that writes, and by the one that reads
	readBy, writeBy deadline
}

func newWay() *way {
	w := &way{}
	w.changed.L = &w.mu
	return w
}

func (w *way) read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.readBy.over:
			return 0, os.ErrDeadlineExceeded
		case w.unread:
			return 0, io.ErrClosedPipe
		case len(w.data) > 0:
			n := copy(b, w.data)
			if w.data = w.data[n:]; len(w.data) == 0 {
				w.data = nil
			}
			w.changed.Broadcast()
			return n, nil
		case w.written:
			return 0, io.EOF
		}
		w.changed.Wait()
	}
}

func (w *way) write(b []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.writeBy.over:
			return n, os.ErrDeadlineExceeded
		case w.written:
			return n, io.ErrClosedPipe
		case w.unread:
			return n + len(b), nil
		case len(b) == 0:
			return n, nil
		}
		if room := min(len(b), pipeLimit-len(w.data)); room > 0 {
			w.data = append(w.data, b[:room]...)
			n, b = n+room, b[room:]
			w.changed.Broadcast()
			continue
		}
		w.changed.Wait()
	}
}

// end ends the way on one of its sides.
func (w *way) end(side *bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*side = true
	if w.unread {
		w.data = nil
	}
	w.changed.Broadcast()
}

// deadline is a time by which something is to be done. The lock of its way guards it.
type deadline struct {
	over  bool
	timer *time.Timer
}

func (d *deadline) set(w *way, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer = nil
	wait := time.Until(at)
	d.over = !at.IsZero() && wait <= 0
	if d.over || at.IsZero() {
		w.changed.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if d.timer == timer {
			d.over = true
			w.changed.Broadcast()
		}
	})
	d.timer = timer
}
