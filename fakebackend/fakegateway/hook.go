package fakegateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/task"
)

// hook is what the broker asks. It finds the session of a client by its connection.
type hook struct {
	mqtt.HookBase
	server *Server
}

// ID names the hook.
func (h *hook) ID() string { return "fakegateway" }

// Provides lists what the broker is to ask.
func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished, mqtt.OnACLCheck,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribe, mqtt.OnUnsubscribed,
		mqtt.OnPublish, mqtt.OnPublished, mqtt.OnPublishDropped, mqtt.OnPacketProcessed, mqtt.OnWill, mqtt.OnClientExpired,
		mqtt.OnSelectSubscribers:
		return true
	}
	return false
}

// sessionOf returns the session of a client, or the last one of a client that is not connected; nil for the server's
// own.
func sessionOf(cl *mqtt.Client) *session {
	if t, ok := cl.Net.Conn.(*transport); ok {
		return t.session
	}
	return nil
}

// errRefused makes the broker close a connection.
var errRefused = errors.New("refused")

// OnConnect decides about a CONNECT.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := sessionOf(cl)
	c.client, c.id = cl, cl.ID
	return c.connect(pk)
}

// keepAlive is what AWS IoT makes of the seconds that a client asks for.
func keepAlive(asked uint16) uint16 {
	if asked == 0 {
		return 1200
	}
	return min(max(asked, 30), 1200)
}

// connect admits the device, or refuses it: with a CONNACK in MQTT 5, without an answer in 3.1.1, as AWS IoT does.
func (c *session) connect(pk packets.Packet) error {
	cl := c.client
	if cl.Properties.Props.AssignedClientID != "" {
		c.id = "$GEN/" + newUUID()
		cl.ID, cl.Properties.Props.AssignedClientID = c.id, c.id
	} else if code, text := checkClientID(c.id); text != "" {
		return c.refuseConnect(code, badLimit, text)
	}
	c.hello.ClientID = c.id
	c.hello.Persistent = !pk.Connect.Clean
	if c.five {
		c.hello.Persistent = pk.Properties.SessionExpiryInterval > 0
	}
	var will kind
	if pk.Connect.WillFlag {
		c.hello.WillTopic = pk.Connect.WillTopic
		var wrong problem
		if will, wrong = checkTopic(pk.Connect.WillTopic); wrong == "" && will != ordinary {
			wrong = reserved
		}
		if wrong != "" {
			return c.refuseConnect(packets.ErrTopicNameInvalid, badTopic, fmt.Sprintf("the topic of the will, %q: %s", pk.Connect.WillTopic, wrong))
		}
		if len(pk.Connect.WillPayload) > payloadLimit {
			return c.refuseConnect(packets.ErrQuotaExceeded, badLimit, "the will has more than 128 KiB")
		}
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.server.opts.ConnectTimeout)
	defer cancel()
	c.epoch = c.server.account.Epoch()
	device, err := c.server.account.Admit(ctx, c.hello)
	if refused, ok := errors.AsType[*wire.Refused](err); ok {
		return c.refused(ctx, refused)
	}
	if err != nil {
		return c.unanswered(err)
	}
	c.device = device
	if w := pk.Connect; w.WillFlag && (!device.Allows(actionPublish, w.WillTopic) || w.WillRetain && !device.Allows(actionRetain, w.WillTopic)) {
		c.publishConnectFailed()
		c.connack(packets.ErrNotAuthorized)
		return errRefused
	}
	cl.State.Keepalive, cl.State.ServerKeepalive = keepAlive(pk.Connect.Keepalive), true
	if err := c.takeOver(ctx); err != nil {
		return c.unanswered(err)
	}
	return nil
}

// unanswered closes a connection whose CONNECT took too long, such as by a fault that hangs.
func (c *session) unanswered(err error) error {
	if c.ctx.Err() == nil && !errors.Is(err, errClosed) {
		c.server.record(c.event(wire.EventRefused, late, fmt.Sprintf("the CONNECT was not answered within %s: %v", c.server.opts.ConnectTimeout, err)))
	}
	return errRefused
}

// checkClientID returns what is wrong with a client id.
func checkClientID(id string) (code packets.Code, text string) {
	switch {
	case len(id) > clientIDLimit:
		return packets.ErrClientIdentifierNotValid, fmt.Sprintf("the client id has %d bytes, and AWS IoT takes %d", len(id), clientIDLimit)
	case strings.HasPrefix(id, "$"):
		return packets.ErrClientIdentifierNotValid, "the client id begins with $, which AWS IoT keeps for itself"
	}
	return packets.Code{}, ""
}

// refuseConnect refuses a CONNECT by the gateway's own rules.
func (c *session) refuseConnect(code packets.Code, reason, text string) error {
	c.server.record(c.event(wire.EventRefused, reason, text))
	c.connack(code)
	return errRefused
}

// refused tells device and subscribers that the account has refused the device, which is an event already.
func (c *session) refused(ctx context.Context, why *wire.Refused) error {
	for _, m := range why.Messages {
		c.server.publish(m.Topic, m.Payload)
		if err := c.server.registered(ctx, m); err != nil {
			return c.unanswered(err)
		}
	}
	if why.Reason == wire.NoConnect {
		c.publishConnectFailed()
	}
	if !why.Cut {
		c.connack(packets.ErrNotAuthorized)
	}
	return errRefused
}

// connack refuses a CONNECT of MQTT 5.
func (c *session) connack(code packets.Code) {
	if c.five {
		_ = c.server.broker.SendConnack(c.client, code, false, nil)
	}
}

// OnConnectAuthenticate lets in whom OnConnect has not refused.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnSessionEstablish takes the messages of an older connection over, which the broker would send all at once, and drops
// those that the client may not receive. Whoever has a client id goes on with its session, also with another certificate;
// the answer to a request is for the one that asked. Nobody's message is handed over from here until those that are left are
// sent: the broker would lose it, send it ahead of the CONNACK, or send it twice.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, connect packets.Packet) {
	c := sessionOf(cl)
	h.server.handover.Lock()
	c.unlock = h.server.handover.Unlock
	old, ok := h.server.broker.Clients.Get(cl.ID)
	if !ok || connect.Connect.Clean || old.Properties.Clean && old.Properties.ProtocolVersion < 5 { // the broker forgets it
		return
	}
	before := sessionOf(old)
	c.filters.Store(before.filters.Load())
	for _, pk := range old.State.Inflight.GetAll(false) {
		old.State.Inflight.Delete(pk.PacketID)
		foreign := strings.HasPrefix(pk.TopicName, privatePrefix) && before.device.CertificateID() != c.device.CertificateID()
		if pk.FixedHeader.Type == packets.Publish && !foreign && c.device.Allows(actionReceive, public(pk.TopicName)) {
			c.left = append(c.left, pk)
		}
	}
}

// OnSessionEstablished tells subscribers that a client is there.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	c := sessionOf(cl)
	c.established.Store(true)
	c.resume()
	c.unlockHandover()
	c.publishConnected()
	protocol := "MQTT 3.1.1"
	if c.five {
		protocol = "MQTT 5"
	}
	c.server.account.Record(c.device.Event(wire.EventConnected, protocol))
	c.check()
}

// OnPacketRead judges each packet before the broker does.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := sessionOf(cl)
	if c == nil {
		return pk, nil
	}
	switch pk.FixedHeader.Type {
	case packets.Connect:
		if c.established.Load() {
			return c.fatal(packets.ErrProtocolViolationSecondConnect, badPacket, "a second CONNECT"), nil
		}
		pk = c.readConnect(pk)
	case packets.Publish:
		pk = c.readPublish(pk)
	case packets.Subscribe:
		pk = c.readSubscribe(pk)
	case packets.Unsubscribe:
		pk = c.readUnsubscribe(pk)
	case packets.Pubrec, packets.Pubrel, packets.Pubcomp, packets.Auth:
		pk = c.fatal(packets.ErrProtocolViolation, badPacket, "AWS IoT has no packets of QoS 2 and no AUTH")
	case packets.Puback:
		c.window.acknowledged(pk.PacketID)
		c.release()
	case packets.Disconnect:
		c.parted.Store(true)
		pk.Properties.SessionExpiryInterval = min(pk.Properties.SessionExpiryInterval, sessionLimit)
	}
	return pk, nil
}

// readConnect keeps of a CONNECT what the broker uses. The rest could be large, and stay for as long as the session or the
// events that name the client. Without a Receive Maximum the broker counts no messages, since its count can come to a
// standstill; window does. Without a Topic Alias Maximum it makes no aliases, which it would go on to use on the
// client's next connection.
func (c *session) readConnect(pk packets.Packet) packets.Packet {
	asked := pk.Properties
	if c.most = unackedLimit; asked.ReceiveMaximum > 0 {
		c.most = min(c.most, int(asked.ReceiveMaximum))
	}
	pk.Properties = packets.Properties{
		SessionExpiryInterval: asked.SessionExpiryInterval, SessionExpiryIntervalFlag: asked.SessionExpiryIntervalFlag,
		MaximumPacketSize: asked.MaximumPacketSize, RequestResponseInfo: asked.RequestResponseInfo,
		RequestProblemInfo: asked.RequestProblemInfo, RequestProblemInfoFlag: asked.RequestProblemInfoFlag,
	}
	pk.Connect.ClientIdentifier, pk.Connect.Username = strings.Clone(pk.Connect.ClientIdentifier), nil
	w := &pk.Connect.WillProperties // a will waits for no longer than its session
	w.WillDelayInterval = min(w.WillDelayInterval, asked.SessionExpiryInterval, sessionLimit)
	c.id, c.five = pk.Connect.ClientIdentifier, pk.ProtocolVersion == 5
	return pk
}

// fatal ends the connection over a packet, and returns one that makes the broker do so, too.
func (c *session) fatal(code packets.Code, reason, text string) packets.Packet {
	c.refuse(reason, text)
	return c.over(code, clientError, text)
}

// over ends the connection as the packet that was read demands.
func (c *session) over(code packets.Code, reason, text string) packets.Packet {
	if c.ended.CompareAndSwap(nil, &ending{reason, text, code}) {
		c.disconnect(code)
	}
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Reserved}} // none that the broker knows
}

// nothing is a packet that the broker takes without any effect.
func nothing() packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}}
}

// fault applies the faults that are set for what a packet does. If it returns false the packet is over, with what the
// broker gets instead.
func (c *session) fault(operation string, pk packets.Packet) (packets.Packet, bool) {
	strike, err := c.server.account.Request(c.ctx, operation, c.id)
	const text = "a fault that the test has set"
	switch refusal, ok := errors.AsType[*task.Error](err); {
	case err == nil:
		if c.cut = strike.DropAfter; c.cut {
			c.conn.mute()
		}
		return pk, true
	case ok && pk.FixedHeader.Type == packets.Publish:
		return c.reject(pk, packets.ErrUnspecifiedError, serverError, faulty, refusal.Message), false
	case ok:
		c.refuse(faulty, refusal.Message)
	case c.ctx.Err() != nil: // the connection was ended while the fault held it up, and the client is told why
	default:
		c.conn.mute()
		c.refuse(faulty, "the connection was cut by "+text)
	}
	return c.over(packets.ErrUnspecifiedError, serverError, text), false
}

// OnPacketProcessed does what is to be done once a packet is answered: it tells subscribers of subscriptions, and ends a
// connection whose answer a fault has lost.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, _ packets.Packet, _ error) {
	c := sessionOf(cl)
	if c == nil {
		return
	}
	c.unlockHandover()
	if len(c.changed) > 0 {
		c.publishSubscriptions(c.change, c.changed)
		c.changed = nil
	}
	if c.cut {
		c.cut = false
		c.end(packets.ErrUnspecifiedError, serverError, "the connection was cut by a fault that the test has set")
	}
}

// own gives a packet an id in the broker that none of its own messages has. The broker keeps both in one list, where a
// message from a client would push out one that waits for the client's PUBACK.
func (c *session) own(id uint16) uint16 {
	c.packetID = id
	mine := uint16(0xffff)
	for taken := true; taken && mine > 1; {
		if _, taken = c.client.State.Inflight.Get(mine); taken {
			mine--
		}
	}
	return mine
}

// OnPacketEncode makes what the broker sends into what AWS IoT sends.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := sessionOf(cl)
	if c == nil {
		return pk
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		if !c.five && pk.ReasonCode > packets.Err3NotAuthorized.Code {
			return unsent(pk) // a code that 3.1.1 does not have
		}
		if pk.ReasonCode == 0 {
			p := &pk.Properties
			p.TopicAliasMaximum, p.MaximumPacketSize = aliasLimit, packetLimit
			p.SubIDAvailable, p.SubIDAvailableFlag = 0, true
		}
	case packets.Disconnect:
		if !c.five {
			return unsent(pk)
		}
	case packets.Puback, packets.Suback, packets.Unsuback:
		pk.PacketID = c.packetID
	case packets.Publish:
		pk.TopicName = public(pk.TopicName)
		if pk.FixedHeader.Qos == 0 {
			return pk
		}
		if oversize(pk) {
			cl.State.Inflight.Delete(pk.PacketID)
		} else if !c.window.take(pk.PacketID, len(pk.Payload)) {
			return unsent(pk)
		}
	}
	return pk
}

// unsent is a packet that the broker does not send.
func unsent(pk packets.Packet) packets.Packet {
	pk.Mods.MaxSize = 1
	return pk
}

// OnACLCheck decides whether a message may be delivered. What a client publishes and subscribes to was judged before.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	c := sessionOf(cl)
	return c != nil && (write || c.subscribes(topic) && c.device.Allows(actionReceive, public(topic)))
}

// subscribes reports whether the client has subscribed to what the broker would deliver: it takes a/# for a, too.
func (c *session) subscribes(topic string) bool {
	filters := c.filters.Load()
	return filters == nil || slices.ContainsFunc(*filters, func(f string) bool { return matches(f, topic) })
}

// noteFilters is to be called when the client's subscriptions have changed.
func (c *session) noteFilters() {
	var filters []string
	below := false
	for f := range c.client.State.Subscriptions.GetAll() {
		filters = append(filters, f)
		below = below || strings.HasSuffix(f, "/#")
	}
	if !below {
		c.filters.Store(nil)
		return
	}
	c.filters.Store(&filters)
}

// OnPublishDropped records that a client lost a message: the first one, the 100th, the 10,000th and so on.
func (h *hook) OnPublishDropped(cl *mqtt.Client, pk packets.Packet) {
	c := sessionOf(cl)
	if c == nil {
		return
	}
	n := c.dropped.Add(1)
	for n%100 == 0 {
		n /= 100
	}
	if n == 1 {
		c.refuse(badLimit, fmt.Sprintf("a message on %s was lost, with %d so far: they come faster than they can be sent to the client",
			public(pk.TopicName), c.dropped.Load()))
	}
}

// OnWill withholds a will that the policies have come to forbid, and one that there is no room to retain.
func (h *hook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	c := sessionOf(cl)
	if will.WillDelayInterval == 0 {
		c.lockHandover() // until the session leaves
	}
	switch {
	case !c.device.Allows(actionPublish, will.TopicName), will.Retain && !c.device.Allows(actionRetain, will.TopicName):
	case will.Retain && !h.server.mayRetain(will.TopicName):
		c.refuse(badLimit, fmt.Sprintf("a will: the account has %d retained messages already", retainedLimit))
	default:
		return will, nil
	}
	return mqtt.Will{}, nil // on no topic, where nobody has subscribed
}

// OnClientExpired removes the subscriptions of a session that has expired, which the broker leaves behind.
func (h *hook) OnClientExpired(cl *mqtt.Client) { h.server.broker.UnsubscribeClient(cl) }
