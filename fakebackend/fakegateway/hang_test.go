package fakegateway_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

// A device that waits for an answer in vain connects anew, and must be let in.
func TestAConnectionWhoseRequestHangsIsTakenOver(t *testing.T) {
	for operation, topic := range map[string]string{"Publish": "a", "ClaimCreateKeysAndCertificate": createTopic + "json"} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, fakegateway.Options{})
			d := l.device("anything")
			_, err := l.fake.AddFault(fakebackend.Fault{Operation: operation, Do: fakebackend.Hang})
			require.NoError(t, err)
			old := l.mqtt3(d, "device-one")
			old.send(publish3(topic, 1, "")...)
			synctest.Wait()
			began := time.Now()
			l.mqtt3(d, "device-one")
			assert.Zero(t, time.Since(began))
			old.closed()
			e := l.await("the end", func(e fakebackend.Event) bool { return e.Kind == fakebackend.EventDisconnected })
			assert.Equal(t, "DUPLICATE_CLIENTID", e.Reason)
		})
	}
}

func TestAConnectionWhoseRequestHangsIsToldWhyItEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(l *lab, d *device)
		code byte
	}{
		"taken over": {func(l *lab, d *device) { l.mqtt3(d, "device-one") }, 0x8e},
		"closed":     {func(l *lab, _ *device) { l.gateway.Close() }, 0x8b},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, fakegateway.Options{})
			d := l.device("anything")
			r := l.mqtt5raw(d, "device-one")
			_, err := l.fake.AddFault(fakebackend.Fault{Operation: "Publish", Do: fakebackend.Hang})
			require.NoError(t, err)
			r.send(publish5("a", 1, nil, nil)...)
			synctest.Wait()
			tt.end(l, d)
			got := append(r.closed(), 0, 0, 0)
			assert.Equal(t, []byte{0xe0, tt.code}, []byte{got[0], got[2]}, name)
			for _, e := range l.events() {
				assert.NotEqual(t, fakebackend.EventRefused, e.Kind, "%s: %+v", name, e)
			}
		})
	}
}

// Nobody reads from the connection meanwhile, so that the client is gone is not seen.
func TestAConnectionWhoseRequestHangsEndsWithItsKeepAlive(t *testing.T) {
	for operation, topic := range map[string]string{"Publish": "a", "ClaimCreateKeysAndCertificate": createTopic + "json"} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, fakegateway.Options{})
			d := l.device("anything")
			watcher := l.connect(d, "watcher")
			l.subscribe(watcher, "wills")
			_, err := l.fake.AddFault(fakebackend.Fault{Operation: operation, Thing: "device-one", Do: fakebackend.Hang})
			require.NoError(t, err)
			r := l.raw(d)
			r.send(packet(0x10, text("MQTT"), []byte{4, 6, 0, 60}, text("device-one"), text("wills"), text("gone"))...)
			r.packet()
			began := time.Now()
			r.send(publish3(topic, 1, "")...)
			r.Close()
			time.Sleep(91 * time.Second)
			e := l.await("the end", func(e fakebackend.Event) bool {
				return e.Kind == fakebackend.EventDisconnected && e.ClientID == "device-one"
			})
			assert.Equal(t, "MQTT_KEEP_ALIVE_TIMEOUT", e.Reason)
			assert.Equal(t, 90*time.Second, e.Time.Sub(began))
			assert.Equal(t, "gone", string(l.next(watcher).Payload))
		})
	}
}

func TestAConnectThatHangsEndsWithAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{ConnectTimeout: 10 * time.Second})
		_, err := l.fake.AddFault(fakebackend.Fault{Operation: "Connect", Do: fakebackend.Hang})
		require.NoError(t, err)
		r := l.raw(l.device("anything"))
		r.send(connect3("device-one")...)
		began := time.Now()
		assert.Empty(t, r.closed())
		assert.Equal(t, 10*time.Second, time.Since(began))
		e := l.refusal("no-answer")
		assert.Equal(t, "device-one", e.ClientID)
		assert.Contains(t, e.Text, "10s")
	})
}
