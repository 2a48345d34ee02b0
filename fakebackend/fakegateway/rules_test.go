package fakegateway_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

// subscribe3 is a SUBSCRIBE of MQTT 3.1.1.
func subscribe3(qos byte, filters ...string) []byte {
	parts := [][]byte{{0, 9}}
	for _, f := range filters {
		parts = append(parts, text(f), []byte{qos})
	}
	return packet(0x82, parts...)
}

// In MQTT 5 a packet has a byte for its properties, which have none here.
func connect5(id string) []byte {
	return packet(0x10, text("MQTT"), []byte{5, 2, 0, 60, 0}, text(id))
}

func publish5(topic string, qos byte, properties []byte, payload []byte) []byte {
	id := []byte{0, 7}
	if qos == 0 {
		id = nil
	}
	return packet(0x30|qos<<1, text(topic), id, []byte{byte(len(properties))}, properties, payload)
}

// subscribe5 is a SUBSCRIBE of MQTT 5.
func subscribe5(properties []byte, qos byte, filters ...string) []byte {
	parts := [][]byte{{0, 9}, {byte(len(properties))}, properties}
	for _, f := range filters {
		parts = append(parts, text(f), []byte{qos})
	}
	return packet(0x82, parts...)
}

// mqtt5raw connects a client of MQTT 5 that sends bytes.
func (l *lab) mqtt5raw(d *device, id string) raw {
	l.t.Helper()
	r := l.raw(d)
	r.send(connect5(id)...)
	require.Equal(l.t, []byte{0, 0}, r.packet()[2:4])
	return r
}

var nine = slices.Repeat([]string{"a"}, 9)

// What ends a connection in MQTT 5 with a code ends it in 3.1.1 without one.
func TestWhatBreaksARuleEndsTheConnectionWithTheReasonThatAWSDocuments(t *testing.T) {
	long, deep := strings.Repeat("x", 257), "1/2/3/4/5/6/7/8/9"
	big := bytes.Repeat([]byte("x"), 128<<10)
	for name, c := range map[string]struct {
		old, five []byte // the packet
		code      byte   // of the DISCONNECT
		reason    string // of the event
	}{
		"QoS 2":                       {publish3("a", 2, ""), publish5("a", 2, nil, nil), 0x9b, "bad-packet"},
		"PUBREL":                      {packet(0x62, []byte{0, 1}), packet(0x62, []byte{0, 1}), 0x82, "bad-packet"},
		"AUTH":                        {nil, packet(0xf0, []byte{0x18, 0}), 0x82, "bad-packet"},
		"a second CONNECT":            {connect3("x"), connect5("x"), 0x82, "bad-packet"},
		"a wildcard in a topic":       {publish3("a/+", 1, ""), publish5("a/#", 1, nil, nil), 0x82, "bad-packet"},
		"no topic":                    {publish3("", 0, ""), publish5("", 0, nil, nil), 0x82, "bad-packet"},
		"a long topic":                {publish3(long, 0, ""), publish5(long, 0, nil, nil), 0x90, "topic"},
		"a deep topic":                {publish3(deep, 0, ""), publish5(deep, 0, nil, nil), 0x90, "topic"},
		"a reserved topic":            {publish3("$other/a", 0, ""), publish5("$other/a", 0, nil, nil), 0x90, "topic"},
		"AWS's own events":            {publish3("$aws/events/presence/connected/x", 0, ""), publish5("$aws/events/x", 0, nil, nil), 0x90, "topic"},
		"the private topics":          {publish3("$one/64/a", 0, ""), publish5("$one/64/a", 0, nil, nil), 0x90, "topic"},
		"a shadow":                    {publish3("$aws/things/x/shadow/update", 0, ""), publish5("$aws/things/x/shadow/update", 0, nil, nil), 0x90, "not-modelled"},
		"a retained reserved message": {packet(0x31, text("$aws/rules/r/a")), packet(0x31, text("$aws/rules/r/a"), []byte{0}), 0x90, "topic"},
		"a payload of 128 KiB + 1":    {publish3("a", 1, string(big)+"x"), publish5("a", 1, nil, append(big, 'x')), 0x97, "limit"},
		"a packet of 200 KB":          {publish3("a", 1, strings.Repeat("x", 200000)), publish5("a", 1, nil, bytes.Repeat(big, 2)), 0x95, "limit"},
		"a length of five bytes":      {[]byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, []byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, 0x81, "bad-packet"},
		"a truncated topic":           {packet(0x30, []byte{0, 9, 'a'}), packet(0x30, []byte{0, 9, 'a'}), 0x81, "bad-packet"},
		"a topic alias of 9":          {nil, publish5("a", 1, []byte{35, 0, 9}, nil), 0x94, "bad-packet"},
		"an alias of nothing":         {nil, publish5("", 1, []byte{35, 0, 1}, nil), 0x82, "bad-packet"},
		"nine filters":                {subscribe3(1, nine...), subscribe5(nil, 1, nine...), 0x97, "limit"},
		"a subscription with QoS 2":   {subscribe3(2, "a"), subscribe5(nil, 2, "a"), 0x9b, "bad-packet"},
		"a subscription identifier":   {nil, subscribe5([]byte{11, 1}, 1, "a"), 0xa1, "bad-packet"},
		"no filter":                   {packet(0x82, []byte{0, 9}), packet(0x82, []byte{0, 9, 0}), 0x82, "bad-packet"},
		"a filter without options":    {packet(0x82, []byte{0, 9}, text("a")), packet(0x82, []byte{0, 9, 0}, text("a")), 0x81, "bad-packet"},
		"a packet for clients":        {packet(0x20, []byte{0, 0}), packet(0x20, []byte{0, 0, 0}), 0x81, "bad-packet"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, fakegateway.Options{})
			d := l.device("anything")
			five := l.mqtt5raw(d, "five")
			_, _ = five.Write(c.five)
			got := five.closed()
			require.GreaterOrEqual(t, len(got), 3)
			assert.Equal(t, []byte{0xe0, c.code}, []byte{got[0], got[2]}, "% x", got)
			l.refusal(c.reason)
			if c.old == nil {
				return
			}
			old := l.mqtt3(d, "old")
			_, _ = old.Write(c.old)
			assert.Empty(t, old.closed())
			e := l.await("old", func(e fakebackend.Event) bool { return e.Kind == fakebackend.EventDisconnected && e.ClientID == "old" })
			assert.Equal(t, "CLIENT_ERROR", e.Reason)
		})
	}
}

func TestWhatIsAtALimitPasses(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	c := l.mqtt3(d, "device-one")
	for _, topic := range []string{strings.Repeat("x", 256), "1/2/3/4/5/6/7/8", "$aws/rules/r/1/2/3/4/5/6/7/8"} {
		c.send(publish3(topic, 1, strings.Repeat("x", 128<<10))...)
		assert.Equal(t, []byte{0x40, 2, 0, 7}, c.packet(), topic)
	}
	c.send(subscribe3(1, "a", "b", "+/+", "#", "$share/"+strings.Repeat("x", 128)+"/1/2/3/4/5/6/7/8", "$aws/events/#", "a/#", "+")...)
	assert.Equal(t, []byte{0x90, 10, 0, 9, 1, 1, 1, 1, 1, 1, 1, 1}, c.packet())
}

func TestAFilterThatIsNotAcceptedIsRefusedAlone(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	filters := []string{"a#", "a/#/b", "a/b+", "$share/x", "$share//a", "$aws/things/x/shadow/get/accepted", "$other", "good"}
	c := l.mqtt3(d, "old")
	c.send(subscribe3(0, filters...)...)
	assert.Equal(t, []byte{0x90, 10, 0, 9, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0}, c.packet())
	ack := l.subscribe(l.connect(d, "five"), filters...)
	assert.Equal(t, []byte{0x8f, 0x8f, 0x8f, 0x8f, 0x8f, 0x8f, 0x8f, 1}, ack.Reasons)
	assert.Contains(t, l.refusal("not-modelled").Text, "shadow")
	for i := range 7 {
		more := make([]string, 8)
		for j := range more {
			more[j] = fmt.Sprint(i, j)
		}
		ack = l.subscribe(l.connect(l.device("anything"), fmt.Sprint("x", i)), more...)
		assert.Len(t, ack.Reasons, 8)
	}
}

func TestAConnectionHasFiftySubscriptions(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	c := l.connect(l.device("anything"), "device-one")
	for i := range 50 {
		assert.Equal(t, []byte{1}, l.subscribe(c, fmt.Sprint("t", i)).Reasons)
	}
	assert.Equal(t, []byte{0x97, 1}, l.subscribe(c, "t50", "t49").Reasons)
	_, err := c.Unsubscribe(t.Context(), &paho.Unsubscribe{Topics: []string{"t0"}})
	require.NoError(t, err)
	assert.Equal(t, []byte{1}, l.subscribe(c, "t50").Reasons)
}

// The broker drops a message with QoS 0 in silence, and AWS closes the connection.
func TestAPublishThatThePolicyRefusesEndsTheConnectionOrIsAnsweredWithItsCode(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("own")
	for _, qos := range []byte{0, 1} {
		c := l.mqtt3(d, "device-old")
		c.send(publish3("elsewhere", qos, "x")...)
		assert.Empty(t, c.closed(), "3.1.1, QoS %d", qos)
	}
	five := l.mqtt5raw(d, "device-five")
	five.send(publish5("elsewhere", 1, nil, nil)...)
	assert.Equal(t, []byte{0, 7, 0x87}, five.packet()[2:5])
	five.send(publish5("elsewhere", 0, nil, nil)...)
	got := five.closed()
	assert.Equal(t, []byte{0xe0, 0x87}, []byte{got[0], got[2]})
	e := l.await("the end", func(e fakebackend.Event) bool {
		return e.Kind == fakebackend.EventDisconnected && e.ClientID == "device-five"
	})
	assert.Equal(t, "AUTH_ERROR", e.Reason)
	assert.Equal(t, "topic/elsewhere", strings.SplitAfterN(l.refusal("policy").Resource, ":", 6)[0])
}

func TestAMessageIsRetainedOnlyWithThePermissionForIt(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	l.policy("publish", `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["iot:Connect", "iot:Publish"], "Resource": "*"}}`)
	c := l.connect(l.device("publish"), "device-one")
	ack, err := c.Publish(t.Context(), &paho.Publish{Topic: "a/b", QoS: 1, Retain: true, Payload: []byte("x")})
	assert.Error(t, err)
	assert.EqualValues(t, 0x87, ack.ReasonCode)
	assert.Equal(t, "iot:RetainPublish", l.refusal("policy").Action)
	refused, err := l.mqtt5(l.dial(l.device("publish")), "device-three", func(c *paho.Connect) {
		c.WillMessage = &paho.WillMessage{Topic: "a/b", Retain: true, Payload: []byte("x")}
	})
	assert.Error(t, err)
	assert.EqualValues(t, 0x87, refused.connack.ReasonCode, "a will, too")

	may := l.connect(l.device("anything"), "device-two")
	_, err = may.Publish(t.Context(), &paho.Publish{Topic: "a/b", QoS: 1, Retain: true, Payload: []byte("kept")})
	require.NoError(t, err)
	// A wildcard gets what is published from now on, and not what was kept.
	l.subscribe(may, "a/+")
	assert.Zero(t, l.publish(may, "a/c", "now"))
	m := l.next(may)
	assert.Equal(t, "a/c", m.Topic)
	l.subscribe(may, "a/b")
	m = l.next(may)
	assert.Equal(t, "kept", string(m.Payload))
	assert.True(t, m.Retain)
}

func TestAMessageExpiresAfterSevenDaysAtMost(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	c := l.connect(l.device("anything"), "device-one")
	l.subscribe(c, "a")
	for asked, want := range map[uint32]uint32{60: 60, 604800: 604800, 1 << 31: 604800} {
		_, err := c.Publish(t.Context(), &paho.Publish{Topic: "a", QoS: 1, Properties: &paho.PublishProperties{MessageExpiry: &asked}})
		require.NoError(t, err)
		assert.InDelta(t, want, *l.next(c).Properties.MessageExpiry, 30)
	}
}

func TestAClientIDThatIsConnectedAlreadyIsTakenOver(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	watcher := l.connect(d, "watcher")
	l.subscribe(watcher, "$aws/events/presence/#", "wills/#")
	five := l.connect(d, "device-one", func(c *paho.Connect) { c.WillMessage = &paho.WillMessage{Topic: "wills/one", Payload: []byte("gone")} })
	old := l.mqtt3(d, "device-one")
	assert.EqualValues(t, 0x8e, l.left(five))
	l.connect(d, "device-one")
	assert.Empty(t, old.closed())
	var got []string
	for range 6 {
		m := l.next(watcher)
		got = append(got, strings.TrimPrefix(m.Topic, "$aws/events/presence/"))
		if strings.HasPrefix(got[len(got)-1], "disconnected") {
			assert.Contains(t, string(m.Payload), `"disconnectReason":"DUPLICATE_CLIENTID"`)
		}
	}
	assert.Equal(t, []string{"connected/device-one", "wills/one", "disconnected/device-one", "connected/device-one", "disconnected/device-one", "connected/device-one"}, got)
}

func TestManyConnectionsWithOneClientIDLeaveOne(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	conns := make(chan *client, 20)
	for range cap(conns) {
		conn := l.dial(d)
		go func() {
			c, _ := l.mqtt5(conn, "device-one")
			conns <- c
		}()
	}
	for range cap(conns) {
		<-conns
	}
	watcher := l.connect(d, "watcher")
	last := l.connect(d, "device-one")
	l.subscribe(last, "news")
	for i := range 10 {
		assert.Zero(t, l.publish(watcher, "news", fmt.Sprint(i)))
		assert.Equal(t, fmt.Sprint(i), string(l.next(last).Payload))
	}
}

func TestClientIDs(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	_, err := l.mqtt5(l.dial(d), strings.Repeat("x", 128))
	assert.NoError(t, err)
	for _, id := range []string{strings.Repeat("x", 129), "$GEN/x"} {
		c, err := l.mqtt5(l.dial(d), id)
		assert.Error(t, err)
		assert.EqualValues(t, 0x85, c.connack.ReasonCode, id)
		r := l.raw(d)
		r.send(connect3(id)...)
		assert.Empty(t, r.closed())
	}
	c, err := l.mqtt5(l.dial(d), "")
	require.NoError(t, err)
	assert.Regexp(t, `^\$GEN/[0-9a-f-]{36}$`, c.connack.Properties.AssignedClientID)
	l.mqtt3(d, "")
	persistent := l.raw(d) // an empty client id with a session that is kept
	persistent.send(packet(0x10, text("MQTT"), []byte{4, 0, 0, 60}, text(""))...)
	assert.Empty(t, persistent.closed())
	old := l.raw(d) // MQTT 3.1
	old.send(packet(0x10, text("MQIsdp"), []byte{3, 2, 0, 60}, text("x"))...)
	assert.Equal(t, []byte{0x20, 2, 0, 1}, old.closed())
	l.refusal("limit")
	l.refusal("bad-packet")
}

func TestTheConnackTellsTheLimits(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	for asked, want := range map[uint16]uint16{0: 1200, 5: 30, 60: 60, 2000: 1200} {
		p := l.connect(l.device("anything"), "device-one", func(c *paho.Connect) {
			c.KeepAlive = asked
			c.Properties = &paho.ConnectProperties{SessionExpiryInterval: new(uint32(7200))}
		}).connack.Properties
		assert.Equal(t, want, *p.ServerKeepAlive)
		assert.EqualValues(t, 1, *p.MaximumQoS)
		assert.EqualValues(t, 100, *p.ReceiveMaximum)
		assert.EqualValues(t, 8, *p.TopicAliasMaximum)
		assert.EqualValues(t, fakegateway.PacketLimit, *p.MaximumPacketSize)
		assert.EqualValues(t, 3600, *p.SessionExpiryInterval)
		assert.False(t, p.SubIDAvailable)
		assert.True(t, p.SharedSubAvailable)
		assert.True(t, p.RetainAvailable)
	}
}

func TestAConnectionThatSendsNothingEndsAfterOneAndAHalfTimesTheKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		for keepAlive, want := range map[byte]time.Duration{0: 1800 * time.Second, 60: 90 * time.Second, 1: 45 * time.Second} {
			r := l.raw(d)
			begin := time.Now()
			r.send(packet(0x10, text("MQTT"), []byte{5, 2, 0, keepAlive, 0}, text("device-one"))...)
			r.packet()
			require.NoError(t, r.SetReadDeadline(time.Time{}))
			head := make([]byte, 3)
			_, err := r.Read(head[:1])
			require.NoError(t, err)
			_, err = r.Read(head[1:])
			require.NoError(t, err)
			assert.Equal(t, []byte{0xe0, 0x8d}, []byte{head[0], head[2]})
			assert.Equal(t, want, time.Since(begin))
			r.Close()
		}
		e := l.await("the end", func(e fakebackend.Event) bool { return e.Kind == fakebackend.EventDisconnected })
		assert.Equal(t, "MQTT_KEEP_ALIVE_TIMEOUT", e.Reason)
	})
}

func TestACertificateThatIsNoLongerActiveEndsItsConnections(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	for _, status := range []string{"INACTIVE", "REVOKED"} {
		d := l.device("anything")
		five, old := l.connect(d, "five"), l.mqtt3(d, "old")
		other := l.connect(l.device("anything"), "other")
		l.status(d, types.CertificateStatus(status))
		assert.EqualValues(t, 0x87, l.left(five))
		assert.Empty(t, old.closed())
		assert.Zero(t, l.publish(other, "a", "b"))
		e := l.await("the end", func(e fakebackend.Event) bool { return e.Kind == fakebackend.EventDisconnected })
		assert.Equal(t, "AUTH_ERROR", e.Reason)
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a/b", false}, {"a/b", "a", false}, {"+", "a", true}, {"+", "a/b", false},
		{"#", "a/b", true}, {"a/#", "a/b", true}, {"a/#", "a/b/c", true}, {"a/#", "a/", true}, {"a/#", "a", false},
		{"a/+/#", "a/b", false}, {"a/+/#", "a/b/c", true}, {"+/b", "a/b", true}, {"a/+", "a/", true}, {"$share/g/a/#", "a", false},
		{"$share/g/a/#", "a/b", true}, {"", "", true},
	} {
		assert.Equal(t, c.want, fakegateway.Matches(c.filter, c.topic), "%s %s", c.filter, c.topic)
	}
}

func TestAFilterThatEndsInAHashDoesNotMatchTheLevelAbove(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	c := l.connect(l.device("anything"), "device-one")
	l.subscribe(c, "a/#")
	assert.Zero(t, l.publish(c, "a", "above"))
	assert.Zero(t, l.publish(c, "a/b", "below"))
	assert.Equal(t, "below", string(l.next(c).Payload))
	l.subscribe(c, "+")
	assert.Zero(t, l.publish(c, "a", "above"))
	assert.Equal(t, "above", string(l.next(c).Payload))
}
