package fakegateway_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

// What goroutines of the gateway do while another one is between two steps. Most of it took hours of runs on a busy machine to
// be seen.

// once calls f at the first packet for a client that is of a type and has a payload. Others do not wait for it.
func once(clientID string, kind byte, payload string, f func()) func(string, packets.Packet) {
	var done atomic.Bool
	return func(id string, pk packets.Packet) {
		if id == clientID && pk.FixedHeader.Type == kind && string(pk.Payload) == payload && done.CompareAndSwap(false, true) {
			f()
		}
	}
}

// resume connects a client of MQTT 3.1.1 that goes on with its session.
func (l *lab) resume(d *device, id string) raw {
	l.t.Helper()
	r := l.raw(d)
	r.send(packet(0x10, text("MQTT"), []byte{4, 0, 0, 60}, text(id))...)
	return r
}

// leave leaves a session with subscriptions behind.
func (l *lab) leave(d *device, id string, filters ...string) {
	l.t.Helper()
	r := l.resume(d, id)
	r.packet()
	r.send(subscribe3(1, filters...)...)
	r.packet()
	r.send(0xe0, 0)
	r.closed()
}

func TestAClientIsToldWhyItIsDisconnectedRightAfterItsConnack(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(l *lab, d *device)
		ends    bool // it ends the connection at once
		code    byte
		reason  string
	}{
		"taken over": {func(l *lab, d *device) { l.mqtt3(d, "device-one") }, true, 0x8e, "DUPLICATE_CLIENTID"},
		"closed":     {func(l *lab, _ *device) { l.gateway.Close() }, true, 0x8b, "SERVER_INITIATED_DISCONNECT"},
		"inactive":   {func(l *lab, d *device) { l.status(d, types.CertificateStatusInactive) }, false, 0x87, "AUTH_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, fakegateway.Options{})
			d := l.device("anything")
			var running sync.WaitGroup
			defer running.Wait()
			l.gateway.HoldUp(fakegateway.Points{Sent: once("device-one", packets.Connack, "", func() {
				ended := l.gateway.Ended("device-one")
				if !tt.ends {
					tt.happens(l, d)
					return
				}
				running.Go(func() { tt.happens(l, d) })
				<-ended
			})})
			c := l.connect(d, "device-one")
			assert.Equal(t, tt.code, l.left(c))
			e := l.await("the end", func(e fakebackend.Event) bool { return e.Kind == fakebackend.EventDisconnected })
			assert.Equal(t, tt.reason, e.Reason)
		})
	}
}

// Who ends a connection is not quick enough to say so before the connection ends by itself.
func TestADisconnectIsSentByWhoeverComesToItFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		r := l.mqtt5raw(d, "device-one")
		l.gateway.HoldUp(fakegateway.Points{Encoding: once("device-one", packets.Disconnect, "", func() {
			r.send(publish5("a", 2, nil, nil)...)
			synctest.Wait()
		})})
		l.mqtt3(d, "device-one")
		got := r.closed()
		require.GreaterOrEqual(t, len(got), 3)
		assert.Equal(t, []byte{0xe0, 0x8e}, []byte{got[0], got[2]}, "% x", got)
		assert.Len(t, got, int(got[1])+2, "there is one of them")
	})
}

func TestNothingFollowsADisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		answer := make(chan struct{})
		l.gateway.Question("$aws/certificates/test/json", func([]string, []byte) (string, []byte, bool) {
			<-answer
			return "$aws/certificates/test/json/accepted", nil, false
		})
		d := l.device("anything")
		other := l.connect(d, "other")
		r := l.mqtt5raw(d, "device-one")
		r.send(subscribe5(nil, 1, "news", "$aws/certificates/test/json/accepted")...)
		r.packet()
		r.send(publish5("$aws/certificates/test/json", 1, nil, nil)...)
		r.packet()
		l.raw(d).send(connect3("device-one")...)
		synctest.Wait()
		require.Zero(t, l.publish(other, "news", "for nobody"))
		synctest.Wait()
		close(answer)
		got := r.closed()
		require.GreaterOrEqual(t, len(got), 3)
		assert.Equal(t, []byte{0xe0, 0x8e}, []byte{got[0], got[2]}, "% x", got)
		assert.Len(t, got, int(got[1])+2, "nothing else")
	})
}

// A client that goes on with its session is known to the broker before it gets its CONNACK.
func TestNothingGoesAheadOfAConnackAndNewMessagesWaitForThoseThatAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		other := l.connect(d, "other")
		l.leave(d, "device-one", "news", "a/#")
		require.Zero(t, l.publish(other, "news", "left"))
		synctest.Wait()
		var publishing sync.WaitGroup
		publish := func() {
			assert.True(t, l.gateway.TakesOver())
			publishing.Go(func() {
				assert.Zero(t, l.publish(other, "a", "above"))
				assert.Zero(t, l.publish(other, "news", "new"))
			})
		}
		l.gateway.HoldUp(fakegateway.Points{
			Encoding: once("device-one", packets.Connack, "", publish), Sent: once("device-one", packets.Publish, "left", publish),
		})
		r := l.resume(d, "device-one")
		require.Equal(t, []byte{0x20, 2, 1, 0}, r.packet())
		for _, want := range []string{"left", "new", "new"} {
			topic, payload := r.message()
			assert.Equal(t, []string{"news", want}, []string{topic, payload})
		}
		publishing.Wait()
		r.send(0xc0, 0)
		assert.Equal(t, []byte{0xd0, 0}, r.packet())
	})
}

func TestANewMessageDoesNotPassTheLastOneThatHasWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		l.leave(d, "device-one", "news")
		other := l.connect(d, "other")
		var want []string
		for i := range 7 { // six of them are more than what is sent at once
			want = append(want, fmt.Sprint(i, strings.Repeat("x", 100<<10)))
			require.Zero(t, l.publish(other, "news", want[i]))
			time.Sleep(time.Second)
		}
		l.gateway.HoldUp(fakegateway.Points{Encoding: once("device-one", packets.Publish, want[6], func() {
			assert.Zero(t, l.publish(other, "news", "new"))
			synctest.Wait()
		})})
		r := l.resume(d, "device-one")
		r.packet()
		for _, w := range append(want, "new") {
			_, payload := r.message()
			assert.Equal(t, w[:1], payload[:1])
		}
	})
}

// A will with a delay comes from the broker's clock.
func TestADelayedWillDoesNotGoAheadOfAConnack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		l.leave(d, "device-one", "wills")
		r := l.raw(d)
		r.send(packet(0x10, text("MQTT"), []byte{5, 0x0e, 0, 60, 5, 17, 0, 0, 0, 60}, text("device-two"), []byte{5, 24, 0, 0, 0, 5}, text("wills"), text("gone"))...)
		r.packet()
		r.Close()
		synctest.Wait() // nobody waits for a lock, or no time passes
		l.gateway.HoldUp(fakegateway.Points{Encoding: once("device-one", packets.Connack, "", func() { time.Sleep(10 * time.Second) })})
		r = l.resume(d, "device-one")
		require.Equal(t, []byte{0x20, 2, 1, 0}, r.packet())
		topic, payload := r.message()
		assert.Equal(t, []string{"wills", "gone"}, []string{topic, payload})
		r.send(0xc0, 0)
		assert.Equal(t, []byte{0xd0, 0}, r.packet())
	})
}

// The second one gives up at once, since a third one has come, or later, since it was not answered.
func TestATakeOverWaitsForAllOlderConnections(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, fakegateway.Options{})
			answer := make(chan struct{})
			l.gateway.Question("$aws/certificates/test/json", func([]string, []byte) (string, []byte, bool) {
				<-answer
				return "", nil, false
			})
			d := l.device("anything")
			l.mqtt3(d, "device-one").send(publish3("$aws/certificates/test/json", 1, "")...)
			var last raw
			for range 3 {
				synctest.Wait()
				time.Sleep(pause)
				last = l.raw(d)
				last.send(connect3("device-one")...)
			}
			synctest.Wait()
			close(answer)
			require.Equal(t, []byte{0x20, 2, 0, 0}, last.packet())
			synctest.Wait()
			var got []string
			for _, e := range l.events() {
				if e.Kind == fakebackend.EventConnected || e.Kind == fakebackend.EventDisconnected {
					got = append(got, e.Kind)
				}
			}
			assert.Equal(t, []string{fakebackend.EventConnected, fakebackend.EventDisconnected, fakebackend.EventConnected}, got)
		})
	}
}

func TestWhoConnectsWhileASessionOfBeforeAResetIsForgottenHasOneOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		r := l.resume(l.device("anything"), "device-one")
		r.packet()
		r.send(subscribe3(1, "news")...)
		r.packet()
		after := make(chan raw, 1)
		var first sync.Once
		l.gateway.HoldUp(fakegateway.Points{Unsubscribed: func(string) {
			first.Do(func() {
				l.policy("anything", anything)
				after <- l.resume(l.device("anything"), "device-one")
				synctest.Wait()
			})
		}})
		l.fake.Reset()
		r = <-after
		require.Equal(t, []byte{0x20, 2, 0, 0}, r.packet(), "no session is present")
		r.send(subscribe3(1, "other")...)
		r.packet()
		other := l.connect(l.device("anything"), "other")
		require.Zero(t, l.publish(other, "news", "for nobody"))
		require.Zero(t, l.publish(other, "other", "hello"))
		_, payload := r.message()
		assert.Equal(t, "hello", payload)
	})
}

func TestNoMessageWithQoS1IsLostWhenAConnectionIsTakenOver(t *testing.T) {
	const messages = 500
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	r := l.resume(d, "device-one")
	r.packet()
	r.send(subscribe3(1, "news")...)
	r.packet()
	other := l.connect(d, "other")
	var publishing sync.WaitGroup
	defer publishing.Wait()
	publishing.Go(func() {
		for i := range messages {
			assert.Zero(t, l.publish(other, "news", fmt.Sprint(i)))
		}
	})
	got := map[string]bool{}
	for n := 1; len(got) < messages; n++ {
		_, payload := r.message()
		got[payload] = true
		if n%10 == 0 {
			r = l.resume(d, "device-one")
			require.Equal(t, []byte{0x20, 2, 1, 0}, r.packet())
		}
	}
}

// Whoever was let in is told that the gateway closes.
func TestCloseLeavesNobodyWithoutADisconnect(t *testing.T) {
	for range 10 {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		var clients []raw
		for i := range 10 {
			clients = append(clients, l.raw(d))
			clients[i].send(connect5(fmt.Sprint("device-", i))...)
		}
		l.await("a connection", func(e fakebackend.Event) bool { return e.Kind == fakebackend.EventConnected })
		l.gateway.Close()
		for _, r := range clients {
			if got := string(r.closed()); got != "" {
				assert.True(t, strings.HasPrefix(got[2+got[1]:], "\xe0"), "%q", got)
			}
		}
	}
}
