package fakegateway

import (
	"fmt"
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/operation"
)

// decision is what becomes of one filter of a SUBSCRIBE.
type decision struct {
	asked packets.Subscription // as the client sent it
	sub   packets.Subscription // as the broker gets it
	code  packets.Code         // of the SUBACK
}

// readSubscribe judges a SUBSCRIBE as a whole.
func (c *session) readSubscribe(pk packets.Packet) packets.Packet {
	if code := pk.SubscribeValidate(); code != packets.CodeSuccess {
		return c.fatal(code, badPacket, "SUBSCRIBE: "+code.Reason)
	}
	if len(pk.Filters) > filterLimit {
		return c.fatal(packets.ErrQuotaExceeded, badLimit, fmt.Sprintf("a SUBSCRIBE with %d topic filters, and AWS IoT takes %d", len(pk.Filters), filterLimit))
	}
	if len(pk.Properties.SubscriptionIdentifier) > 0 {
		return c.fatal(packets.ErrSubscriptionIdentifiersNotSupported, badPacket, "a SUBSCRIBE with a subscription identifier, which AWS IoT does not take")
	}
	for i, sub := range pk.Filters {
		if sub.Qos > 1 {
			return c.fatal(packets.ErrQosNotSupported, badPacket, "a SUBSCRIBE with QoS 2, which AWS IoT does not have")
		}
		pk.Filters[i].Filter = strings.Clone(sub.Filter) // it stays, and the packet is not to
		if sub.NoLocal && mqtt.IsSharedFilter(sub.Filter) {
			return c.fatal(packets.ErrProtocolViolationInvalidSharedNoLocal, badPacket, "a shared subscription with No Local")
		}
	}
	pk.PacketID = c.own(pk.PacketID)
	pk, _ = c.fault(operation.Subscribe, pk)
	return pk
}

// readUnsubscribe judges an UNSUBSCRIBE.
func (c *session) readUnsubscribe(pk packets.Packet) packets.Packet {
	if code := pk.UnsubscribeValidate(); code != packets.CodeSuccess {
		return c.fatal(code, badPacket, "UNSUBSCRIBE: "+code.Reason)
	}
	if len(pk.Filters) > filterLimit {
		return c.fatal(packets.ErrQuotaExceeded, badLimit, fmt.Sprintf("an UNSUBSCRIBE with %d topic filters, and AWS IoT takes %d", len(pk.Filters), filterLimit))
	}
	pk.PacketID = c.own(pk.PacketID)
	return pk
}

// OnSubscribe decides about each filter. The broker would ask the same question about a subscription as about a message
// that it delivers, so it gets filters here that it refuses without asking, and OnSubscribed decides.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := sessionOf(cl)
	c.decisions = c.decisions[:0]
	for i, sub := range pk.Filters {
		c.decisions = append(c.decisions, c.decide(sub))
		pk.Filters[i] = packets.Subscription{}
	}
	return pk
}

// decide decides about one filter.
func (c *session) decide(asked packets.Subscription) decision {
	d := decision{asked: asked, sub: asked, code: packets.QosCodes[asked.Qos]}
	use, wrong := checkFilter(asked.Filter)
	switch {
	case wrong == notModelled:
		c.refuse(missing, fmt.Sprintf("a subscription to %s: %s", asked.Filter, wrong))
		d.code = packets.ErrTopicFilterInvalid
	case wrong != "":
		c.refuse(badTopic, fmt.Sprintf("a subscription to %q: %s", cut(asked.Filter), wrong))
		d.code = packets.ErrTopicFilterInvalid
	case !c.device.Allows(actionSubscribe, asked.Filter):
		d.code = packets.ErrNotAuthorized
	default:
		d.sub.Filter = brokerFilter(c.id, asked.Filter, use)
		if hasWildcard(asked.Filter) {
			d.sub.RetainHandling = 2 // AWS IoT sends retained messages only to those who name their topic
		}
	}
	return d
}

// OnSubscribed makes the subscriptions that were decided on, and puts them back into the packet, by which the broker then
// sends retained messages.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	c := sessionOf(cl)
	var topics []string
	for i, d := range c.decisions {
		known := cl.State.Subscriptions.GetAll()
		if _, again := known[d.sub.Filter]; d.code.Code < packets.ErrUnspecifiedError.Code && !again && len(known) >= subscribeLimit {
			c.refuse(badLimit, fmt.Sprintf("a subscription to %s: the connection has %d already", d.asked.Filter, subscribeLimit))
			d.code = packets.ErrQuotaExceeded
		}
		if codes[i] = d.code.Code; codes[i] >= packets.ErrUnspecifiedError.Code {
			if !c.five {
				codes[i] = packets.ErrUnspecifiedError.Code
			}
			continue
		}
		cl.State.Subscriptions.Add(d.sub.Filter, d.sub)
		c.noteFilters()
		existed := !h.server.broker.Topics.Subscribe(cl.ID, d.sub)
		topics = append(topics, d.asked.Filter)
		pk.Filters[i] = d.sub
		if existed && d.sub.RetainHandling == 1 {
			pk.Filters[i].RetainHandling = 2
		}
	}
	c.change, c.changed = "subscribed", topics
}

// OnSelectSubscribers keeps topics that begin with $ from shared subscriptions, whose filters begin with none: the broker
// withholds them from a filter that begins with a wildcard, as MQTT has it, only if that is not shared. An answer to one
// client would reach another one.
func (h *hook) OnSelectSubscribers(subs *mqtt.Subscribers, pk packets.Packet) *mqtt.Subscribers {
	if strings.HasPrefix(pk.TopicName, "$") {
		clear(subs.Shared)
	}
	return subs
}

// OnUnsubscribe puts the broker's names for the filters.
func (h *hook) OnUnsubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	c := sessionOf(cl)
	c.leaving = nil
	for i, sub := range pk.Filters {
		c.leaving = append(c.leaving, sub.Filter)
		use, _ := classify(sub.Filter)
		pk.Filters[i].Filter = brokerFilter(c.id, sub.Filter, use)
	}
	return pk
}

// OnUnsubscribed notes what subscribers are to be told of a client's UNSUBSCRIBE. The broker calls it also when a
// session ends.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	if c := sessionOf(cl); c != nil && pk.PacketID != 0 {
		c.noteFilters()
		c.change, c.changed = "unsubscribed", c.leaving
	}
}
