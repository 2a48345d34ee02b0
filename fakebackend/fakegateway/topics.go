package fakegateway

import (
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of AWS IoT: https://docs.aws.amazon.com/general/latest/gr/iot-core.html#message-broker-limits
const (
	topicLimit     = 256       // bytes of a topic, or of a topic filter
	slashLimit     = 7         // in a topic or a topic filter
	clientIDLimit  = 128       // bytes
	payloadLimit   = 128 << 10 // bytes
	filterLimit    = 8         // topic filters in a SUBSCRIBE or UNSUBSCRIBE
	subscribeLimit = 50        // subscriptions of a connection
	shareLimit     = 128       // bytes of the name of a shared subscription
	retainedLimit  = 5000      // retained messages of an account
	aliasLimit     = 8         // topic aliases
	unackedLimit   = 100       // messages on their way without a PUBACK
)

// What the topics that begin with $aws/ are for. One that stands nowhere here is refused.
const (
	eventTopics = "$aws/events/"
	ruleTopics  = "$aws/rules/"
	sharePrefix = "$share/"
)

// requestTopics begin the topics on which a device asks for something, and is answered alone.
var requestTopics = []string{"$aws/certificates/", "$aws/provisioning-templates/"}

// unmodelled begin the topics that AWS has and this gateway has not.
var unmodelled = []string{"$aws/things/", "$aws/commands/", "$aws/sitewise/", "$aws/iotwireless/", "$aws/device_location/"}

// problem is why a topic or a topic filter is not accepted. The zero value is none.
type problem string

const (
	notModelled problem = "device shadows, jobs and the like are not modelled"
	reserved    problem = "topics that begin with $ are reserved, and this is none of those that AWS IoT has for devices"
)

// kind is what a topic is for.
type kind int

const (
	ordinary kind = iota
	event         // the broker's own messages
	request       // asks for something, or answers
	rule          // Basic Ingest: for the rules engine alone
)

// classify tells what a topic or a topic filter is for.
func classify(name string) (kind, problem) {
	switch {
	case !strings.HasPrefix(name, "$"):
		return ordinary, ""
	case strings.HasPrefix(name, eventTopics):
		return event, ""
	case strings.HasPrefix(name, ruleTopics):
		return rule, ""
	case hasAnyPrefix(name, requestTopics):
		return request, ""
	case hasAnyPrefix(name, unmodelled):
		return 0, notModelled
	}
	return 0, reserved
}

func hasAnyPrefix(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// checkTopic returns what is wrong with a topic to publish to.
func checkTopic(topic string) (kind, problem) {
	k, wrong := classify(topic)
	if wrong != "" {
		return 0, wrong
	}
	if k == event {
		return 0, "only AWS IoT publishes to it"
	}
	own := topic
	if k == rule { // $aws/rules/NAME/ does not count
		name, rest, ok := strings.Cut(strings.TrimPrefix(topic, ruleTopics), "/")
		if !ok || name == "" {
			return 0, "it names no rule and topic"
		}
		own = rest
	}
	if strings.ContainsAny(own, "+#") {
		return 0, "it contains a wildcard"
	}
	return k, checkName(own, k)
}

// checkFilter returns what is wrong with a topic filter to subscribe to.
func checkFilter(filter string) (kind, problem) {
	own := filter
	if rest, ok := strings.CutPrefix(filter, sharePrefix); ok {
		share, inner, ok := strings.Cut(rest, "/")
		switch {
		case !ok || share == "" || strings.ContainsAny(share, "+#"):
			return 0, "it has no valid name of a share"
		case len(share) > shareLimit:
			return 0, problem(fmt.Sprintf("the name of its share has more than %d bytes", shareLimit))
		case strings.HasPrefix(inner, "$"):
			return 0, reserved
		}
		own = inner
	}
	k, wrong := classify(own)
	if wrong != "" {
		return 0, wrong
	}
	if k == rule {
		return 0, "the topics of rules can only be published to"
	}
	levels := strings.Split(own, "/")
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && len(level) > 1 || level == "#" && i < len(levels)-1 {
			return 0, "its wildcards do not stand for whole levels, or # is not the last one"
		}
	}
	return k, checkName(own, k)
}

// checkName applies what topics and topic filters have in common.
func checkName(name string, k kind) problem {
	switch {
	case name == "":
		return "it is empty"
	case len(name) > topicLimit:
		return problem(fmt.Sprintf("it has %d bytes, and AWS IoT takes %d", len(name), topicLimit))
	case k != request && k != event && strings.Count(name, "/") > slashLimit:
		return problem(fmt.Sprintf("it has %d slashes, and AWS IoT takes %d", strings.Count(name, "/"), slashLimit))
	case !utf8.ValidString(name) || strings.Contains(name, "\x00"):
		return "it is no UTF-8 text"
	}
	return ""
}

// Some topics of AWS IoT exist once for each client: who asks for a certificate is answered on a topic that has the same
// name for everybody, and nobody else may see the answer. In the broker such a topic has the client's id in front.
const privatePrefix = "$one/"

// private is the name in the broker of a topic, or a topic filter, of one client.
func private(clientID, name string) string {
	return privatePrefix + hex.EncodeToString([]byte(clientID)) + "/" + name
}

// public is the name of a topic for clients.
func public(name string) string {
	if rest, ok := strings.CutPrefix(name, privatePrefix); ok {
		_, name, _ = strings.Cut(rest, "/")
	}
	return name
}

// brokerFilter is the name in the broker of a topic filter that was accepted: the answers to one client are its own.
func brokerFilter(clientID, filter string, k kind) string {
	if k == request {
		return private(clientID, filter)
	}
	return filter
}

// matches reports whether a topic is one of a filter's, as AWS IoT has it: a/# is what is below a, and not a itself.
func matches(filter, topic string) bool {
	if rest, ok := strings.CutPrefix(filter, sharePrefix); ok {
		_, filter, _ = strings.Cut(rest, "/")
	}
	for {
		level, moreFilter, more := strings.Cut(filter, "/")
		if level == "#" {
			return true
		}
		name, moreTopic, deeper := strings.Cut(topic, "/")
		if level != "+" && level != name {
			return false
		}
		if !more || !deeper {
			return more == deeper
		}
		filter, topic = moreFilter, moreTopic
	}
}

func hasWildcard(filter string) bool { return strings.ContainsAny(filter, "+#") }
