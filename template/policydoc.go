package template

import "fmt"

// Statement is one statement of an AWS IoT policy.
type Statement struct {
	Effect   string   // Allow or Deny
	Action   []string // such as iot:Connect
	Resource []string // ARNs, or *
}

// Allow begins a statement: Allow("iot:Connect").On("arn:…:client/…").
func Allow(actions ...string) Statement { return Statement{Effect: "Allow", Action: actions} }

// Deny begins a statement that forbids; it wins over any that allows.
func Deny(actions ...string) Statement { return Statement{Effect: "Deny", Action: actions} }

// On returns the statement for these resources.
func (s Statement) On(resources ...string) Statement {
	s.Resource = resources
	return s
}

// Document writes an AWS IoT policy document as the string of JSON that PolicyDocument takes.
func Document(statements ...Statement) Literal {
	if statements == nil {
		statements = []Statement{}
	}
	w := &writer{}
	w.open('{')
	w.key("Version")
	w.string("2012-10-17")
	w.key("Statement")
	w.open('[')
	for _, s := range statements {
		w.open('{')
		w.key("Effect")
		w.string(s.Effect)
		w.key("Action")
		w.strings(s.Action)
		w.key("Resource")
		w.strings(s.Resource)
		w.close('}')
	}
	w.close(']')
	w.close('}')
	return Literal(w.b.String())
}

func (w *writer) strings(list []string) {
	w.open('[')
	for _, s := range list {
		w.string(s)
	}
	w.close(']')
}

// OwnTopics is a policy document that lets a device connect under its own thing name, and publish, subscribe and
// receive on topics below devices/<thing name>/, and nothing else. The certificate must be attached to the thing, as
// AWS does when the template has both. partition is "aws", "aws-cn" or "aws-us-gov".
//
// See https://docs.aws.amazon.com/iot/latest/developerguide/thing-policy-variables.html.
func OwnTopics(partition, region, account string) Literal {
	arn := fmt.Sprintf("arn:%s:iot:%s:%s:", partition, region, account)
	const own = "devices/${iot:Connection.Thing.ThingName}/*"
	return Document(
		Allow("iot:Connect").On(arn+"client/${iot:Connection.Thing.ThingName}"),
		Allow("iot:Publish", "iot:Receive").On(arn+"topic/"+own),
		Allow("iot:Subscribe").On(arn+"topicfilter/"+own),
	)
}
