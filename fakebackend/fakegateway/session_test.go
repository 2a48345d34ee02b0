package fakegateway_test

import (
	"encoding/binary"
	"encoding/json"
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

func TestASessionIsKeptForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		persistent := packet(0x10, text("MQTT"), []byte{4, 0, 0, 60}, text("device-one"))
		resume := func() (r raw, present byte) {
			r = l.raw(d)
			r.send(persistent...)
			return r, r.packet()[2]
		}
		r, present := resume()
		assert.Zero(t, present)
		r.send(subscribe3(1, "news", "a/#")...)
		r.packet()
		r.send(0xe0, 0)
		r.closed()
		other := l.connect(d, "other")
		for _, topic := range []string{"news", "a", "a/b"} {
			assert.Zero(t, l.publish(other, topic, "for later"))
		}
		time.Sleep(59 * time.Minute)
		r, present = resume()
		assert.EqualValues(t, 1, present)
		kept := string(r.packet()) + string(r.packet()) // in any order, as on AWS
		assert.Contains(t, kept, "news")
		assert.Contains(t, kept, "a/b")
		r.send(0xe0, 0)
		r.closed()
		time.Sleep(61 * time.Minute)
		r, present = resume()
		assert.Zero(t, present)
		other = l.connect(d, "other")
		assert.Zero(t, l.publish(other, "news", "nobody has subscribed"))
		r.send(0xc0, 0)
		assert.Equal(t, []byte{0xd0, 0}, r.packet(), "the subscription is gone with its session")
	})
}

func TestASessionOfMQTT5ExpiresAsItAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		resume := func(expiry uint32) *client {
			return l.connect(d, "device-one", func(c *paho.Connect) {
				c.CleanStart = false
				c.Properties = &paho.ConnectProperties{SessionExpiryInterval: &expiry}
			})
		}
		c := resume(60)
		require.NoError(t, c.Disconnect(&paho.Disconnect{}))
		time.Sleep(50 * time.Second)
		c = resume(60)
		assert.True(t, c.connack.SessionPresent)
		require.NoError(t, c.Disconnect(&paho.Disconnect{}))
		time.Sleep(70 * time.Second)
		c = resume(0)
		assert.False(t, c.connack.SessionPresent)
		require.NoError(t, c.Disconnect(&paho.Disconnect{}))
		synctest.Wait()
		assert.False(t, resume(0).connack.SessionPresent)
	})
}

// message reads a message with QoS 1 and acknowledges it. A client of MQTT 5 gets its properties before the payload.
func (r raw) message() (topic, payload string) {
	r.t.Helper()
	head, body := r.read()
	require.EqualValues(r.t, 0x32, head&^8)
	end := 2 + binary.BigEndian.Uint16(body)
	r.send(packet(0x40, body[end:end+2])...)
	return string(body[2:end]), string(body[end+2:])
}

// Those that wait for a device can be more than what is set aside for one that does not read.
func TestMessagesThatWaitForADeviceAreSentAsItAcknowledgesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		resume := func() (r raw, present byte) {
			r = l.raw(d)
			r.send(packet(0x10, text("MQTT"), []byte{4, 0, 0, 60}, text("device-one"))...)
			return r, r.packet()[2]
		}
		r, _ := resume()
		r.send(subscribe3(1, "news")...)
		r.packet()
		r.send(0xe0, 0)
		r.closed()
		other := l.connect(d, "other")
		var want []string
		for i := range 30 {
			want = append(want, fmt.Sprint(i, strings.Repeat("x", 100<<10)))
			require.Zero(t, l.publish(other, "news", want[i]))
		}
		synctest.Wait() // the last one is acknowledged before it waits
		r, present := resume()
		require.EqualValues(t, 1, present)
		synctest.Wait()
		got := map[string]int{}
		for i := range want {
			if i == 10 { // it is cut off
				r.Close()
				synctest.Wait()
				r, _ = resume()
			}
			_, payload := r.message()
			got[payload]++
			synctest.Wait()
		}
		assert.Len(t, got, len(want))
		r.send(0xc0, 0)
		assert.Equal(t, []byte{0xd0, 0}, r.packet(), "no message comes twice")
	})
}

func TestNoMoreMessagesAreUnderWayThanTheClientTakes(t *testing.T) {
	for most, connect := range map[int][]byte{
		2: packet(0x10, text("MQTT"), []byte{5, 2, 0, 60, 3, 33, 0, 2}, text("device-one")), 100: connect5("device-one"),
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, fakegateway.Options{})
			d := l.device("anything")
			r := l.raw(d)
			r.send(connect...)
			r.packet()
			r.send(subscribe5(nil, 1, "news")...)
			r.packet()
			other := l.connect(d, "other")
			for i := range most + 5 {
				require.Zero(t, l.publish(other, "news", fmt.Sprint(i)))
			}
			_, err := other.Publish(t.Context(), &paho.Publish{Topic: "news", Payload: []byte("QoS 0")})
			require.NoError(t, err)
			for range most {
				assert.EqualValues(t, 0x32, r.packet()[0])
			}
			assert.EqualValues(t, 0x30, r.packet()[0], "this one is not counted")
			synctest.Wait()
			for i := range 5 {
				r.send(0xc0, 0)
				require.Equal(t, []byte{0xd0, 0}, r.packet(), "nothing more comes")
				r.send(packet(0x40, []byte{0, byte(i + 1)})...)
				assert.Contains(t, string(r.packet()), fmt.Sprint(most+i), "the next one")
			}
		})
	}
}

// It counts as sent, and is never acknowledged.
func TestAMessageThatIsLargerThanTheClientTakesIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		r := l.raw(d)
		r.send(packet(0x10, text("MQTT"), []byte{5, 2, 0, 60, 8, 33, 0, 1, 39, 0, 0, 0, 100}, text("device-one"))...)
		r.packet()
		r.send(subscribe5(nil, 1, "news")...)
		r.packet()
		other := l.connect(d, "other")
		for _, payload := range []string{strings.Repeat("x", 100), "short", strings.Repeat("x", 100), "another"} {
			require.Zero(t, l.publish(other, "news", payload))
		}
		for _, want := range []string{"short", "another"} {
			_, payload := r.message()
			assert.Equal(t, "\x00"+want, payload)
		}
	})
}

// A topic alias ends with its connection, and the messages that wait for a device do not.
func TestTheGatewayNamesTheTopicOfEachMessage(t *testing.T) {
	for same, want := range map[bool]int{true: 2, false: 0} {
		synctest.Test(t, func(t *testing.T) {
			l, claim := claimLab(t)
			resume := func(d *device) raw { // a device of MQTT 5 with room for ten aliases
				r := l.raw(d)
				r.send(packet(0x10, text("MQTT"), []byte{5, 0, 0, 60, 8, 17, 0, 0, 0, 60, 34, 0, 10}, text("device-one"))...)
				require.Zero(t, r.packet()[3])
				return r
			}
			r := resume(claim)
			r.send(subscribe5(nil, 1, createTopic+"json/accepted")...)
			r.packet()
			for range 2 {
				r.send(publish5(createTopic+"json", 1, nil, nil)...)
				require.EqualValues(t, 0x40, r.packet()[0])
				assert.Contains(t, string(r.packet()), createTopic+"json/accepted")
			}
			r.Close() // it has acknowledged neither answer
			synctest.Wait()
			if same {
				r = resume(claim)
			} else {
				r = resume(l.device("anything"))
			}
			for range want {
				topic, _ := r.message()
				assert.Equal(t, createTopic+"json/accepted", topic)
			}
			r.send(0xc0, 0)
			assert.Equal(t, []byte{0xd0, 0}, r.packet())
		})
	}
}

func TestNoSessionAndNoWillOutlivesTheHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		resume := func() raw {
			r := l.raw(d)
			r.send(packet(0x10, text("MQTT"), []byte{5, 0, 0, 60, 5, 17, 0, 0, 0, 60}, text("device-one"))...)
			return r
		}
		r := resume()
		require.Zero(t, r.packet()[2])
		r.send(packet(0xe0, []byte{0, 5, 17, 0xff, 0xff, 0xff, 0xff})...)
		r.closed()
		time.Sleep(59 * time.Minute)
		r = resume()
		require.EqualValues(t, 1, r.packet()[2])
		r.send(packet(0xe0, []byte{0, 5, 17, 0xff, 0xff, 0xff, 0xff})...)
		r.closed()
		time.Sleep(61 * time.Minute)
		assert.Zero(t, resume().packet()[2])

		for properties, want := range map[string]float64{"": 0, "\x11\x00\x00\x00\x00": 0, "\x11\x00\x00\x00\x02": 2, "\x11\x00\x00\x00\x3c": 5} { // a delay of 5 s
			watcher := l.connect(d, "watcher")
			l.subscribe(watcher, "wills")
			r := l.raw(d)
			r.send(packet(0x10, text("MQTT"), []byte{5, 6, 0, 60, byte(len(properties))}, []byte(properties), text("device-two"), []byte{5, 24, 0, 0, 0, 5}, text("wills"), text("gone"))...)
			r.packet()
			r.Close()
			began := time.Now()
			assert.Equal(t, "gone", string(l.next(watcher).Payload))
			assert.InDelta(t, want, time.Since(began).Seconds(), 2)
			require.NoError(t, watcher.Disconnect(&paho.Disconnect{}))
		}
	})
}

// The broker keeps the ids of both sides in one list.
func TestAClientMayUseAPacketIDThatTheBrokerUsesToo(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	r := l.mqtt3(d, "device-one")
	r.send(subscribe3(1, "news")...)
	r.packet()
	other := l.connect(d, "other")
	for i := range 9 {
		assert.Zero(t, l.publish(other, "news", fmt.Sprint(i)))
		assert.Contains(t, string(r.packet()), "news") // with the ids 1 to 9, and it acknowledges none
	}
	r.send(publish3("elsewhere", 1, "x")...)
	assert.Equal(t, []byte{0x40, 2, 0, 7}, r.packet())
	r.send(subscribe3(1, "more")...)
	assert.Equal(t, []byte{0x90, 3, 0, 9, 1}, r.packet())
	r.send(packet(0xa2, []byte{0, 9}, text("more"))...)
	assert.Equal(t, []byte{0xb0, 2, 0, 9}, r.packet())
}

func TestAWillIsPublishedUnlessTheClientSaysGoodbye(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	watcher := l.connect(d, "watcher")
	l.subscribe(watcher, "will/#")
	for name, end := range map[string]func(raw){
		"lost":   func(r raw) { r.NetConn().Close() },
		"error":  func(r raw) { r.send(publish3("$x", 0, "")...); r.closed() },
		"policy": func(r raw) { r.send(publish3("elsewhere", 0, "")...); r.closed() },
		"polite": func(r raw) { r.send(0xe0, 0); r.closed() },
		"with":   func(r raw) { r.send(0xe0, 1, 4); r.closed() }, // "Disconnect with Will Message", as short as MQTT 5 lets it be
	} {
		with, five := "anything", []byte(nil)
		if name == "policy" {
			with = "wills"
			l.policy(with, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
				{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/will/*"}]}`)
		}
		version := byte(4)
		if name == "with" {
			version, five = 5, []byte{0}
		}
		r := l.raw(l.device(with))
		r.send(packet(0x10, text("MQTT"), []byte{version, 6, 0, 60}, five, text("device-"+name), five, text("will/"+name), text("gone"))...)
		r.packet()
		end(r)
		l.await(name, func(e fakebackend.Event) bool {
			return e.Kind == fakebackend.EventDisconnected && e.ClientID == "device-"+name
		})
		if name != "polite" {
			assert.Equal(t, "will/"+name, l.next(watcher).Topic)
		}
	}
	assert.Zero(t, l.publish(watcher, "will/end", ""))
	assert.Equal(t, "will/end", l.next(watcher).Topic)
}

func TestAWillThatThePoliciesForbidIsRefusedAtTheConnect(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	watcher := l.connect(l.device("anything"), "watcher")
	l.subscribe(watcher, "$aws/events/presence/connect_failed/#")
	will := func(topic string, qos byte) func(*paho.Connect) {
		return func(c *paho.Connect) { c.WillMessage = &paho.WillMessage{Topic: topic, QoS: qos, Payload: []byte("x")} }
	}
	d := l.device("own")
	_, err := l.mqtt5(l.dial(d), "device-one", will("dt/device-one/will", 1))
	assert.NoError(t, err)
	for topic, code := range map[string]byte{"elsewhere": 0x87, "$aws/events/x": 0x90, "$x": 0x90} {
		c, err := l.mqtt5(l.dial(d), "device-two", will(topic, 0))
		assert.Error(t, err)
		assert.Equal(t, code, c.connack.ReasonCode, topic)
	}
	c, err := l.mqtt5(l.dial(d), "device-two", will("dt/device-two/will", 2))
	assert.Error(t, err)
	assert.EqualValues(t, 0x9b, c.connack.ReasonCode)
	m := l.next(watcher)
	assert.Equal(t, "$aws/events/presence/connect_failed/device-two", m.Topic)
	assert.Contains(t, string(m.Payload), `"connectFailureReason":"AUTHORIZATION_FAILED","sessionIdentifier":"`)
}

func TestPresenceAndSubscriptionsAreToldAsAWSDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		l.fake.SetTime(time.UnixMilli(1573002230757))
		watcher := l.connect(l.device("anything"), "watcher")
		l.subscribe(watcher, "$aws/events/presence/+/186b5", "$aws/events/subscriptions/+/186b5")
		d := l.device("anything")
		told := func(kind string) map[string]any {
			m := l.next(watcher)
			assert.Equal(t, "$aws/events/"+kind+"/186b5", m.Topic)
			assert.EqualValues(t, 1, m.QoS)
			var got map[string]any
			require.NoError(t, json.Unmarshal(m.Payload, &got))
			assert.Equal(t, []any{"186b5", kind[strings.Index(kind, "/")+1:], 1573002230757.0, d.id}, []any{got["clientId"], got["eventType"], got["timestamp"], got["principalIdentifier"]})
			assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, got["sessionIdentifier"])
			return got
		}
		for i := range 2 {
			c := l.connect(d, "186b5")
			connected := told("presence/connected")
			assert.Equal(t, []any{"127.0.0.1", float64(i)}, []any{connected["ipAddress"], connected["versionNumber"]})
			l.subscribe(c, "foo/bar", "foo/#", "$aws/things/x/shadow/get")
			subscribed := told("subscriptions/subscribed")
			assert.Equal(t, []any{"foo/bar", "foo/#"}, subscribed["topics"])
			_, err := c.Unsubscribe(t.Context(), &paho.Unsubscribe{Topics: []string{"foo/#"}})
			require.NoError(t, err)
			assert.Equal(t, []any{"foo/#"}, told("subscriptions/unsubscribed")["topics"])
			require.NoError(t, c.Disconnect(&paho.Disconnect{}))
			gone := told("presence/disconnected")
			assert.Equal(t, []any{true, "CLIENT_INITIATED_DISCONNECT", float64(i)}, []any{gone["clientInitiatedDisconnect"], gone["disconnectReason"], gone["versionNumber"]})
			assert.Equal(t, connected["sessionIdentifier"], gone["sessionIdentifier"])
		}
		for i := range 2 { // the hour counts from the end of a connection
			c := l.connect(d, "186b5")
			assert.EqualValues(t, 2+i, told("presence/connected")["versionNumber"])
			time.Sleep(2 * versionLife)
			require.NoError(t, c.Disconnect(&paho.Disconnect{}))
			told("presence/disconnected")
		}
		time.Sleep(versionLife)
		watcher = l.connect(l.device("anything"), "watcher")
		l.subscribe(watcher, "$aws/events/presence/connected/#")
		l.connect(d, "186b5")
		assert.Zero(t, told("presence/connected")["versionNumber"])
		l.connect(d, "with+plus") // of this one nobody hears
		l.connect(d, "186b5")
		assert.EqualValues(t, 1, told("presence/connected")["versionNumber"])
	})
}

// versionLife is for how long a client's version numbers go on.
const versionLife = time.Hour

func TestSharedSubscriptionsShare(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	one, two := l.connect(d, "one"), l.connect(d, "two")
	l.subscribe(one, "$share/g/a/#")
	l.subscribe(two, "$share/g/a/#")
	for i := range 20 {
		assert.Zero(t, l.publish(one, "a/b", fmt.Sprint(i)))
	}
	for range 20 {
		select {
		case <-one.messages:
		case <-two.messages:
		case <-time.After(patience):
			require.FailNow(t, "a message is missing")
		}
	}
	assert.Zero(t, len(one.messages)+len(two.messages))
}

func TestASharedSubscriptionThatBeginsWithAWildcardGetsNothingThatBeginsWithADollar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, claim := claimLab(t)
		spy := l.connect(l.device("anything"), "spy")
		l.subscribe(spy, "$share/s/+/+/$aws/certificates/create/json/accepted", "$share/s/#", "$share/s/+/#")
		l.claimant(claim, "device-one", codecs[0]).ask(createTopic, map[string]any{}, "accepted")
		require.Zero(t, l.publish(spy, "a/b", "for all"))
		synctest.Wait()
		assert.Equal(t, "a/b", l.next(spy).Topic)
		assert.Empty(t, spy.messages)
	})
}

func TestWhoGoesOnWithASessionGetsOnlyWhatIsForItsCertificate(t *testing.T) {
	for policy, same := range map[string]bool{"own": false, "anything": false, "": true} {
		synctest.Test(t, func(t *testing.T) {
			l, claim := claimLab(t)
			resume := func(d *device) raw {
				r := l.raw(d)
				r.send(packet(0x10, text("MQTT"), []byte{4, 0, 0, 60}, text("device-one"))...)
				require.Zero(t, r.packet()[3])
				return r
			}
			r := resume(claim)
			r.send(subscribe3(1, createTopic+"json/accepted")...)
			r.packet()
			r.send(publish3(createTopic+"json", 1, "{}")...)
			require.EqualValues(t, 0x40, r.packet()[0])
			r.Close() // without a PUBACK for the answer, which has a private key in it
			synctest.Wait()
			if !same {
				r = resume(l.device(policy))
			} else {
				r = resume(claim)
			}
			r.send(0xc0, 0)
			head := make([]byte, 1)
			_, err := r.Read(head)
			require.NoError(t, err)
			assert.Equal(t, same, head[0]>>4 == 3, "an answer comes with the policy %q", policy)
		})
	}
}

func TestAResetTakesRetainedMessagesAndSessionsAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		resume := func(d *device, id string) (r raw, present byte) {
			r = l.raw(d)
			r.send(packet(0x10, text("MQTT"), []byte{4, 0, 0, 60}, text(id))...)
			return r, r.packet()[2]
		}
		before := l.device("anything")
		left, _ := resume(before, "left")
		left.send(subscribe3(1, "news")...)
		left.packet()
		left.send(0xe0, 0)
		left.closed()
		connected, _ := resume(before, "connected")
		connected.send(subscribe3(1, "news")...)
		connected.packet()
		ack, err := l.connect(before, "other").Publish(t.Context(), &paho.Publish{Topic: "kept", QoS: 1, Retain: true, Payload: []byte("of before")})
		require.NoError(t, err)
		require.Zero(t, ack.ReasonCode)

		l.fake.Reset()
		connected.closed()
		l.policy("anything", anything)
		after := l.device("anything")
		for _, id := range []string{"left", "connected"} {
			_, present := resume(after, id)
			assert.Zero(t, present, id)
		}
		c := l.connect(after, "device-one")
		l.subscribe(c, "kept", "news")
		require.Zero(t, l.publish(c, "news", "of now"))
		assert.Equal(t, "of now", string(l.next(c).Payload))
	})
}

func TestATopicAliasStandsForItsTopicInEveryRule(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	r := l.mqtt5raw(l.device("own"), "device-one")
	r.send(publish5("dt/device-one/x", 1, []byte{35, 0, 1}, nil)...)
	assert.Equal(t, []byte{0x40, 2, 0, 7}, r.packet())
	r.send(publish5("", 1, []byte{35, 0, 1}, nil)...)
	assert.Equal(t, []byte{0x40, 2, 0, 7}, r.packet())
	r.send(publish5("elsewhere", 1, []byte{35, 0, 1}, nil)...)
	assert.EqualValues(t, 0x87, r.packet()[4])
	r.send(publish5("", 1, []byte{35, 0, 1}, nil)...)
	assert.EqualValues(t, 0x87, r.packet()[4])
}

func TestAnAnswerGoesToTheClientThatAskedAndToNoOther(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	l.gateway.Question("$aws/certificates/test/json", func(_ []string, payload []byte) (string, []byte, bool) {
		return "$aws/certificates/test/json/accepted", append([]byte("for "), payload...), string(payload) == "cut"
	})
	l.gateway.Question("$aws/provisioning-templates/+/test/+", func(levels []string, _ []byte) (string, []byte, bool) {
		return "$aws/provisioning-templates/" + levels[0] + "/test/" + levels[1] + "/rejected", nil, false
	})
	d := l.device("anything")
	var clients []*client
	for i := range 5 {
		c := l.connect(d, fmt.Sprint("client/", i))
		clients = append(clients, c)
		l.subscribe(c, "$aws/certificates/test/+/accepted", "$aws/provisioning-templates/#", "#")
	}
	for i, c := range clients {
		assert.Zero(t, l.publish(c, "$aws/certificates/test/json", fmt.Sprint(i)))
	}
	for i, c := range clients {
		m := l.next(c)
		assert.Equal(t, "$aws/certificates/test/json/accepted", m.Topic)
		assert.Equal(t, fmt.Sprint("for ", i), string(m.Payload))
		assert.Zero(t, l.publish(c, "$aws/provisioning-templates/fleet/test/cbor", ""))
		assert.Equal(t, "$aws/provisioning-templates/fleet/test/cbor/rejected", l.next(c).Topic)
		assert.Empty(t, c.messages)
	}
	// An answer is neither kept for who has not subscribed, nor sent to who may not receive it.
	deaf := l.connect(l.device("own"), "device-deaf")
	assert.EqualValues(t, 0x87, l.publish(deaf, "$aws/certificates/test/json", "x"))
	unsubscribed := l.connect(d, "quiet")
	assert.Zero(t, l.publish(unsubscribed, "$aws/certificates/test/json", "x"))
	l.subscribe(unsubscribed, "$aws/certificates/test/json/accepted", "end")
	assert.Zero(t, l.publish(unsubscribed, "end", ""))
	assert.Equal(t, "end", l.next(unsubscribed).Topic)
	assert.EqualValues(t, 0x90, l.publish(unsubscribed, "$aws/certificates/test/json/accepted", "forged"))
	assert.Zero(t, l.publish(clients[0], "$aws/certificates/test/json", "cut"))
	l.await("cut", func(e fakebackend.Event) bool {
		return e.Kind == fakebackend.EventDisconnected && e.ClientID == "client/0"
	})
}

func TestFaultsStrikeMessagesAndSubscriptions(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	watcher := l.connect(d, "watcher")
	l.subscribe(watcher, "a")
	for _, c := range []struct {
		fault     fakebackend.Fault
		published bool
		answer    string
	}{
		{fakebackend.Fault{Do: fakebackend.DropBefore}, false, ""},
		{fakebackend.Fault{Do: fakebackend.DropAfter}, true, ""},
		{fakebackend.Fault{Do: fakebackend.Fail, Message: "no"}, false, "\x80"},
		{fakebackend.Fault{Do: fakebackend.Delay, Delay: time.Millisecond}, true, "\x00"},
	} {
		c.fault.Operation, c.fault.Thing = "Publish", "device-one"
		_, err := l.fake.AddFault(c.fault)
		require.NoError(t, err)
		r := l.mqtt5raw(d, "device-one")
		r.send(publish5("a", 1, nil, []byte("x"))...)
		if c.answer == "" {
			assert.Empty(t, r.closed(), "%+v", c.fault)
		} else {
			assert.Equal(t, c.answer, string(append(r.packet(), 0)[4:5]))
		}
		if c.published {
			assert.Equal(t, "a", l.next(watcher).Topic)
		}
		assert.Empty(t, watcher.messages)
	}
	_, err := l.fake.AddFault(fakebackend.Fault{Operation: "Subscribe", Do: fakebackend.DropAfter})
	require.NoError(t, err)
	r := l.raw(d)
	r.send(packet(0x10, text("MQTT"), []byte{4, 0, 0, 60}, text("keeps"))...)
	r.packet()
	r.send(subscribe3(1, "a")...)
	assert.Empty(t, r.closed())
	assert.Zero(t, l.publish(watcher, "a", "kept"))
	assert.Zero(t, l.publish(watcher, "b", ""), "the first one waits by now")
	r = l.raw(d)
	r.send(packet(0x10, text("MQTT"), []byte{4, 0, 0, 60}, text("keeps"))...)
	assert.EqualValues(t, 1, r.packet()[2])
	assert.Contains(t, string(r.packet()), "kept")
}
