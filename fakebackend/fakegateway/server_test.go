package fakegateway_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

func TestADeviceConnectsPublishesAndSubscribesAsItsPolicyAllows(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	one := l.connect(l.device("own"), "device-one")
	ack := l.subscribe(one, "dt/device-one/#", "dt/device-two/x", "all/news")
	assert.Equal(t, []byte{1, 0x87, 1}, ack.Reasons)
	assert.Zero(t, l.publish(one, "dt/device-one/hello", "hi"))
	m := l.next(one)
	assert.Equal(t, "dt/device-one/hello", m.Topic)
	assert.Equal(t, "hi", string(m.Payload))
	assert.EqualValues(t, 0x87, l.publish(one, "dt/device-two/hello", "hi"))

	// What it may subscribe to and may not receive, it does not get.
	two := l.connect(l.device("anything"), "device-two")
	assert.Zero(t, l.publish(two, "all/news", "secret"))
	assert.Zero(t, l.publish(two, "dt/device-one/news", "open"))
	assert.Equal(t, "dt/device-one/news", l.next(one).Topic)
	e := l.refusal("policy")
	assert.Equal(t, "iot:Subscribe", e.Action)
	assert.Equal(t, "device-one", e.ClientID)
}

func TestADeviceIsRefusedAtItsConnectAndNotInTheHandshake(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	off := l.device("anything")
	l.status(off, "INACTIVE")
	for reason, d := range map[string]*device{
		"unknown-certificate": strangeCertificate(), "inactive": off, "no-connect": l.device(),
	} {
		c, err := l.mqtt5(l.dial(d), "device-one")
		assert.ErrorContains(t, err, "not authorized", reason)
		assert.EqualValues(t, 0x87, c.connack.ReasonCode, reason)
		r := l.raw(d)
		r.send(connect3("device-one")...)
		assert.Empty(t, r.closed(), "3.1.1: %s", reason)
		l.refusal(reason)
	}
}

func TestTheServerListensOnAPortAndHasACertificateForItsName(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	require.NoError(t, l.gateway.Start())
	assert.Regexp(t, `^localhost:\d+$`, l.gateway.Endpoint)
	assert.Error(t, l.gateway.Start())
	d := l.device("anything")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := l.trust(d, "x-amzn-mqtt-ca")
		config.MinVersion, config.MaxVersion = version, version
		conn, err := tls.Dial("tcp", l.gateway.Endpoint, config)
		require.NoError(t, err)
		c, err := l.mqtt5(conn, "device-one")
		require.NoError(t, err)
		assert.Zero(t, l.publish(c, "a", "b"))
		conn.Close()
	}
	config := l.trust(d)
	config.MaxVersion = tls.VersionTLS11
	_, err := tls.Dial("tcp", l.gateway.Endpoint, config)
	assert.Error(t, err)
	l.refusal("handshake")
}

func TestCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		c := l.connect(l.device("anything"), "device-one")
		l.dial(l.device("anything"))          // sends nothing
		_, err := l.gateway.Dial(t.Context()) // nor this one, not even a handshake
		require.NoError(t, err)
		l.gateway.Close()
		l.gateway.Close()
		assert.EqualValues(t, 0x8b, l.left(c))
		_, err = l.gateway.Dial(t.Context())
		assert.ErrorContains(t, err, "closed")
		assert.Error(t, l.gateway.Start())
	})
}

// A goroutine that is left behind fails the test.
func TestCloseEndsWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{Registered: func(ctx context.Context, _ fakegateway.Registration) { <-ctx.Done() }})
		d := l.device("anything")
		jit := l.raw(l.authority("").device("device-jit"))
		jit.send(connect3("device-jit")...)
		jit.closed()
		for operation, send := range map[string]func(raw){
			"Connect":                       func(r raw) {},
			"Publish":                       func(r raw) { r.send(publish3("a", 0, "")...) },
			"Subscribe":                     func(r raw) { r.send(subscribe3(1, "a")...) },
			"ClaimCreateKeysAndCertificate": func(r raw) { r.send(publish3(createTopic+"json", 1, "")...) },
			"ClaimRegisterThing":            func(r raw) { r.send(publish3(provisionTopic+"json", 1, "{}")...) },
		} {
			_, err := l.fake.AddFault(fakebackend.Fault{Operation: operation, Thing: "device-" + operation, Do: fakebackend.Hang})
			require.NoError(t, err)
			r := l.raw(d)
			r.send(connect3("device-" + operation)...)
			send(r)
		}
		synctest.Wait()
		_, err := l.fake.AddFault(fakebackend.Fault{Operation: "Publish", Do: fakebackend.Hang})
		require.NoError(t, err)
		web := l.raw(d)
		web.send([]byte("POST /topics/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")...)
		synctest.Wait()
		for _, f := range l.fake.Faults() {
			assert.Equal(t, 1, f.Hits, "%+v", f)
		}
		began := time.Now()
		l.gateway.Close()
		assert.LessOrEqual(t, time.Since(began), time.Second)
		for _, e := range l.events() {
			if e.Kind == fakebackend.EventDisconnected {
				assert.Equal(t, "SERVER_INITIATED_DISCONNECT", e.Reason, "%+v", e)
			}
		}
	})
}

func TestAfterARestoreTheGatewayShowsACertificateOfTheRootThatIsTrustedNow(t *testing.T) {
	l, other := newLab(t, fakegateway.Options{}), newLab(t, fakegateway.Options{})
	before := l.connect(l.device("anything"), "before")
	d := other.device("anything")
	require.NoError(t, l.fake.Restore(other.fake.Snapshot()))
	assert.EqualValues(t, 0x87, l.left(before), "its certificate is not there any more")
	require.Equal(t, other.fake.RootCA(), l.fake.RootCA())
	after := l.connect(d, "after")
	l.fake.Reset()
	assert.EqualValues(t, 0x87, l.left(after))
}

func TestAnAccountKeepsFiveThousandRetainedMessages(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	c := l.connect(l.device("anything"), "device-one")
	retain := func(topic, payload string) byte {
		ack, err := c.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: 1, Retain: true, Payload: []byte(payload)})
		if ack == nil {
			require.NoError(t, err)
		}
		return ack.ReasonCode
	}
	for i := range 5000 {
		require.Zero(t, retain(fmt.Sprint("t", i), "x"))
	}
	assert.EqualValues(t, 0x97, retain("more", "x"))
	r := l.raw(l.device("anything"))
	r.send(packet(0x10, text("MQTT"), []byte{4, 0x26, 0, 60}, text("device-two"), text("wills"), text("gone"))...)
	r.packet()
	r.NetConn().Close()
	l.await("the will's refusal", func(e fakebackend.Event) bool { return strings.HasPrefix(e.Text, "a will: ") })
	l.subscribe(c, "wills", "t2")
	assert.Equal(t, "t2", l.next(c).Topic, "it is not there")
	assert.Zero(t, retain("t1", "y"))
	assert.Zero(t, retain("t1", ""))
	assert.Zero(t, retain("more", "x"))
}
