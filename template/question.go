package template

import (
	"fmt"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

// Question asks whether a device may do something. [ParseQuestion] makes it.
type Question struct {
	// Action is as in a policy: iot:Connect, iot:Publish, iot:Subscribe, …
	Action string
	// On is what the action is about: a client id, a topic, a topic filter, a thing. A field in braces, such as
	// {ThingName}, is to be filled by [Question.Fill].
	On string
}

// ParseQuestion reads a question: "connect", "connect:gateway-{ThingName}", "publish:dt/{ThingName}/state",
// "subscribe:cmd/{ThingName}/#", "receive:…", "retain:…" (iot:RetainPublish with iot:Publish), or the name of another
// action that AWS documents for devices, "GetThingShadow:{ThingName}". Connecting without a client id is connecting
// with the thing's name.
func ParseQuestion(text string) (Question, error) {
	refuse := func(format string, args ...any) (Question, error) {
		return Question{}, fmt.Errorf("template: the question %s %s", rule.Quote(text), fmt.Sprintf(format, args...))
	}
	word, on, found := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(text), "iotjobsdata:"), "iot:"), ":")
	if strings.EqualFold(word, "retain") {
		word = "RetainPublish"
	}
	action, ok := policy.DeviceAction(word)
	switch {
	case !ok:
		return refuse("has no action that AWS documents for devices (connect, publish:TOPIC, subscribe:FILTER, receive:TOPIC, retain:TOPIC, or AWS's name)%s",
			spelling.DidYouMean(word, append(policy.DeviceActionNames(), "retain")))
	case action == policy.ActionConnect && !found:
		on = "{" + thingNameField + "}"
	case on == "" && policy.ActsOn(action, "") != "*":
		return refuse("does not say on what: write %s:%s…", word, policy.ActsOn(action, ""))
	case strings.ContainsAny(on, "+#") && strings.HasPrefix(policy.ActsOn(action, ""), "topic/"):
		return refuse("has + or #, which no topic's name has: ask about one topic, or subscribe")
	}
	if _, err := (Question{action, on}).Fill(func(string) (string, bool) { return "", true }); err != nil {
		return refuse("has a { without }")
	}
	return Question{action, on}, nil
}

// thingNameField is the field for the thing's name, whatever the template's parameter for it is called.
const thingNameField = "ThingName"

// Fill puts values in place of the fields in braces. An error names a field that has none.
func (q Question) Fill(value func(field string) (string, bool)) (Question, error) {
	var b strings.Builder
	for rest := q.On; ; {
		before, after, found := strings.Cut(rest, "{")
		b.WriteString(before)
		if !found {
			return Question{q.Action, b.String()}, nil
		}
		field, end, closed := strings.Cut(after, "}")
		if !closed {
			return q, fmt.Errorf("template: %s has a { without }", rule.Quote(q.On))
		}
		text, ok := value(field)
		if !ok {
			return q, fmt.Errorf("template: there is no value for {%s}", field)
		}
		b.WriteString(text)
		rest = end
	}
}

// String writes the question as ParseQuestion reads it.
func (q Question) String() string {
	_, name, _ := strings.Cut(q.Action, ":")
	switch {
	case name == "RetainPublish":
		name = "retain"
	case policy.OverMQTT(q.Action):
		name = strings.ToLower(name)
	}
	if q.On == "" || q == (Question{policy.ActionConnect, "{" + thingNameField + "}"}) {
		return name
	}
	return name + ":" + q.On
}
