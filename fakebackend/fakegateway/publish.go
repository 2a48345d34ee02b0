package fakegateway

import (
	"fmt"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/operation"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// The actions of policies that a connected device is judged by.
const (
	actionPublish   = "iot:Publish"
	actionRetain    = "iot:RetainPublish"
	actionReceive   = "iot:Receive"
	actionSubscribe = "iot:Subscribe"
)

// expiryLimit is the longest time, in seconds, that AWS IoT keeps a message whose publisher lets it expire.
const expiryLimit = 604800

// readPublish judges a PUBLISH.
func (c *session) readPublish(pk packets.Packet) packets.Packet {
	c.asking, c.discard = nil, false
	if pk.FixedHeader.Qos == 2 {
		return c.fatal(packets.ErrQosNotSupported, badPacket, "a message with QoS 2, which AWS IoT does not have")
	}
	if code := pk.PublishValidate(aliasLimit); code != packets.CodeSuccess {
		return c.fatal(code, badPacket, "PUBLISH: "+code.Reason)
	}
	pk.TopicName = strings.Clone(pk.TopicName) // an alias or a retained message keeps it, and is not to keep the packet
	if p := pk.Properties; p.TopicAliasFlag {
		pk.TopicName = c.client.State.TopicAliases.Inbound.Set(p.TopicAlias, pk.TopicName)
		if pk.TopicName == "" {
			return c.fatal(packets.ErrProtocolViolationNoTopic, badPacket, fmt.Sprintf("the topic alias %d stands for nothing", p.TopicAlias))
		}
	}
	id := pk.PacketID
	if pk.FixedHeader.Qos > 0 {
		pk.PacketID = c.own(id)
	}
	topic := pk.TopicName
	use, wrong := checkTopic(topic)
	if wrong == "" && use != ordinary && pk.FixedHeader.Retain {
		wrong = "a message on a reserved topic cannot be retained"
	}
	switch {
	case wrong == notModelled:
		return c.reject(pk, packets.ErrTopicNameInvalid, clientError, missing, fmt.Sprintf("a message on %s: %s", topic, wrong))
	case wrong != "":
		return c.reject(pk, packets.ErrTopicNameInvalid, clientError, badTopic, fmt.Sprintf("a message on %q: %s", cut(topic), wrong))
	case len(pk.Payload) > payloadLimit:
		return c.fatal(packets.ErrQuotaExceeded, badLimit, fmt.Sprintf("a message of %d bytes on %s, and AWS IoT takes %d", len(pk.Payload), topic, payloadLimit))
	case !c.device.Allows(actionPublish, topic), pk.FixedHeader.Retain && !c.device.Allows(actionRetain, topic):
		return c.reject(pk, packets.ErrNotAuthorized, authError, "", "the client may not publish to "+topic)
	case pk.FixedHeader.Retain && len(pk.Payload) > 0 && !c.server.mayRetain(topic):
		return c.reject(pk, packets.ErrQuotaExceeded, clientError, badLimit, fmt.Sprintf("the account has %d retained messages already", retainedLimit))
	}
	pk, ok := c.fault(operation.Publish, pk)
	if !ok {
		return pk
	}
	switch use {
	case rule:
		c.discard = true
	case request:
		if c.asking, ok = c.server.asked(topic); !ok {
			return c.reject(pk, packets.ErrTopicNameInvalid, clientError, badTopic, "a message on "+topic+", which AWS IoT does not have, or only publishes to")
		}
	}
	if pk.Properties.MessageExpiryInterval > expiryLimit {
		pk.Properties.MessageExpiryInterval = expiryLimit
	}
	return pk
}

// reject refuses a message: in MQTT 5 a PUBACK tells so, if the message asks for one, else the connection ends. The event
// is there already if reason is "".
func (c *session) reject(pk packets.Packet, code packets.Code, ending, reason, text string) packets.Packet {
	if reason != "" {
		c.refuse(reason, text)
	}
	if !c.five || pk.FixedHeader.Qos == 0 {
		return c.over(code, ending, text)
	}
	_ = c.client.WritePacket(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: pk.PacketID, ReasonCode: code.Code,
		Properties: packets.Properties{ReasonString: code.Reason},
	})
	return nothing()
}

// cut shortens a topic for a text.
func cut(topic string) string {
	if len(topic) > topicLimit {
		return topic[:topicLimit] + "…"
	}
	return topic
}

// OnPublish keeps from subscribers what is for AWS IoT alone, and what was allowed before a reset.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := sessionOf(cl)
	if c == nil {
		return pk, nil
	}
	if c.discard || c.asking != nil {
		return pk, packets.CodeSuccessIgnore
	}
	c.lockHandover() // until OnPacketProcessed
	if !c.device.Active() {
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}

// OnPublished answers a request, after its PUBACK.
func (h *hook) OnPublished(cl *mqtt.Client, pk packets.Packet) {
	if c := sessionOf(cl); c != nil && c.asking != nil {
		c.serve(pk.Payload)
	}
}

// mayRetain reports whether there is room for a retained message on a topic.
func (s *Server) mayRetain(topic string) bool {
	if s.broker.Topics.Retained.Len() < retainedLimit {
		return true
	}
	_, ok := s.broker.Topics.Retained.Get(topic)
	return ok
}

// publish publishes a message of AWS IoT's own.
func (s *Server) publish(topic string, payload []byte) {
	s.inject(nil, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 1, TopicName: topic, Payload: payload,
	})
}

// inject publishes a message of no connection: AWS IoT's own, or that of a device.
func (s *Server) inject(from wire.Device, pk packets.Packet) {
	s.handover.RLock()
	defer s.handover.RUnlock()
	if from == nil || from.Active() {
		_ = s.broker.InjectPacket(s.inline, pk)
	}
}
