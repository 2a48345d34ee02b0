package fakegateway_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

// FuzzConnection sends a connection whatever there is, before its CONNECT or after.
func FuzzConnection(f *testing.F) {
	l := newLab(f, fakegateway.Options{})
	d := l.device("anything")
	for _, seed := range [][]byte{
		connect3("x"), connect5("x"), publish3("a", 1, "x"), publish5("a", 0, []byte{35, 0, 1}, []byte("x")), subscribe3(1, "a/#", "$share/g/a"),
		subscribe5([]byte{11, 1}, 0, "+"), packet(0x82, []byte{0, 1, 0}, text("a")), packet(0xa2, []byte{0, 9}, text("a")), packet(0xc0), packet(0xe0), packet(0xe0, []byte{4, 0}), packet(0x40, []byte{0, 1}),
		packet(0x10, text("MQTT"), []byte{5, 0xc6, 0, 60, 5, 17, 0, 0, 0, 9, 0}, text("x"), []byte{0}, text("will"), text("x"), text("u"), text("p")),
		{0x30, 0xff, 0xff, 0xff, 0xff, 1}, {0x00, 0x00}, packet(0xf0, []byte{0x18, 0}),
	} {
		for how := range byte(3) {
			f.Add(how, seed)
			f.Add(how, append(bytes.Clone(seed), seed...))
		}
	}
	f.Fuzz(func(t *testing.T, how byte, data []byte) {
		near, far := fakegateway.NewPipe()
		go io.Copy(io.Discard, near)
		first := [][]byte{nil, connect3("fuzz"), connect5("fuzz")}[how%3]
		go func() {
			_, _ = near.Write(append(first, data...))
			near.Close()
		}()
		done := make(chan struct{})
		var reason, text string
		go func() {
			defer close(done)
			reason, text = l.gateway.ServePlain(far, d.Certificate.Certificate...)
		}()
		select {
		case <-done:
			assert.NotEqual(t, "SERVER_ERROR", reason, text)
		case <-time.After(patience):
			require.FailNow(t, "the connection does not end")
		}
	})
}

// FuzzReadPacket reads packets that are as long as they claim, and sets no memory aside for a claim.
func FuzzReadPacket(f *testing.F) {
	for _, seed := range [][]byte{{0xc0, 0}, {0x30, 0x80, 0x80, 0x80, 0x80, 1}, {0x30, 0xff, 0xff, 0x7f}, publish3("a", 1, "x"), {}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := fakegateway.ReadPacket(bytes.NewReader(data), nil, fakegateway.PacketLimit)
		if err != nil {
			return
		}
		assert.True(t, bytes.HasPrefix(data, p))
		assert.LessOrEqual(t, len(p), fakegateway.PacketLimit)
		assert.LessOrEqual(t, cap(p), 4*len(data)+32<<10)
		again, err := fakegateway.ReadPacket(bytes.NewReader(p), nil, fakegateway.PacketLimit)
		assert.NoError(t, err)
		assert.Equal(t, p, again)
	})
}
