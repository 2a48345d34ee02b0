package fakegateway_test

import (
	"bytes"
	"io"
	"slices"
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
	// A will with a delay, an expiry, a content type, a response topic, correlation data and a user property; a session that
	// stays; room for aliases and for one message.
	rich := packet(0x10, text("MQTT"), []byte{5, 0x2c, 0, 60, 20, 17, 0, 0, 0, 9, 33, 0, 1, 34, 0, 9, 39, 0, 0, 4, 0, 23, 0, 25, 1}, text("rich"),
		[]byte{40, 24, 0, 0, 0, 1, 1, 1, 2, 0, 0, 0, 9, 3}, text("t"), []byte{8}, text("r/t"), []byte{9}, text("c"), []byte{38}, text("k"), text("v"), []byte{38}, text("k"), text("v"),
		text("will/rich"), text("gone"))
	user := append([]byte{38}, slices.Concat(text("k"), text("v"))...)
	for _, next := range [][]byte{
		publish5("will/rich", 1, slices.Concat([]byte{1, 1, 2, 0, 0, 0, 1, 35, 0, 8, 8}, text("r"), []byte{9}, text("c"), user), []byte("x")),
		packet(0x31, text("kept"), []byte{5, 2, 0, 0, 0, 1}, []byte("x")), packet(0x3b, text("kept"), []byte{0, 3, 0}),
		subscribe5(user, 1, "kept", "$share/g/#", "$aws/events/#"), subscribe5(nil, 0x2c, "kept", "+/+"), subscribe5([]byte{11, 0x80, 0x80, 0x80, 1}, 1, "a"),
		packet(0xa2, []byte{0, 9, 7}, user, text("kept"), text("$share/g/#"), text("$SHARE"), text("")),
		packet(0x40, []byte{0, 1, 0x10, 0}), packet(0x40, []byte{0, 1, 0, 7}, user), packet(0x50, []byte{0, 1, 0, 0}), packet(0x62, []byte{0, 1}), packet(0x70, []byte{0, 1}),
		packet(0xe0, []byte{4}), packet(0xe0, []byte{0, 5, 17, 0, 0, 0, 0}), packet(0xf0, []byte{0x19, 7}, user),
		publish5("$aws/certificates/create/json", 1, nil, []byte("{}")), publish5("$aws/certificates/create-from-csr/cbor", 0, nil, []byte{0xa1, 0x61, 'x', 0xf6}),
	} {
		f.Add(byte(0), slices.Concat(rich, next, next, packet(0xc0)))
		f.Add(byte(2), slices.Concat(subscribe5(nil, 1, "#"), next, next, packet(0xc0)))
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
