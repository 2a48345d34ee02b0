package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

// connection is the Context that a broker has of a device: an allocation for none of its keys.
type connection struct {
	client, thing, address, attached []string
	attributes                       map[string][]string
	connect                          []string
}

func (c *connection) Values(key string) []string {
	if attribute, ok := strings.CutPrefix(key, "iot:Connection.Thing.Attributes["); ok {
		return c.attributes[strings.TrimSuffix(attribute, "]")]
	}
	switch {
	case strings.EqualFold(key, "iot:ClientId"):
		return c.client
	case strings.EqualFold(key, "iot:Connection.Thing.ThingName"):
		return c.thing
	case strings.EqualFold(key, "iot:Connection.Thing.IsAttached"):
		return c.attached
	case strings.EqualFold(key, "aws:SourceIp"):
		return c.address
	case strings.EqualFold(key, "iot:ConnectAttributes"):
		return c.connect
	}
	return nil
}

func pump() *connection {
	return &connection{
		client: []string{"pump-1"}, thing: []string{"pump-1"}, attached: []string{"true"}, address: []string{"203.0.113.7"},
		attributes: map[string][]string{"line": {"north"}, "wild": {"#"}},
	}
}

// The policies are those of https://docs.aws.amazon.com/iot/latest/developerguide/connect-policy.html,
// pub-sub-policy.html, basic-policy-variables.html and thing-policy-variables.html, shortened.
func TestDevicePoliciesOfAWSIoT(t *testing.T) {
	const arn = "arn:aws:iot:us-east-1:123456789012:"
	for name, c := range map[string]struct {
		policy  string
		context *connection
		allowed []string // action and the last part of the resource
		refused []string
	}{
		"two clients are kept out, others connect under their thing's name": {
			document(deny(`"Action":["iot:Connect"],"Resource":["`+arn+`client/client1","`+arn+`client/client2"]`),
				allow(`"Action":["iot:Connect"],"Resource":["`+arn+`client/${iot:Connection.Thing.ThingName}"],
					"Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}`)),
			pump(), []string{"iot:Connect client/pump-1"}, []string{"iot:Connect client/client1", "iot:Connect client/pump-2", "iot:Publish client/pump-1"},
		},
		"an unregistered device has no thing's name": {
			document(allow(`"Action":["iot:Connect"],"Resource":["` + arn + `client/${iot:Connection.Thing.ThingName}"]`)),
			&connection{client: []string{"pump-1"}}, nil, []string{"iot:Connect client/pump-1", "iot:Connect client/"},
		},
		"persistent sessions and nothing else": {
			document(allow(`"Action":"iot:Connect","Resource":"*","Condition":{"ForAllValues:StringEquals":{"iot:ConnectAttributes":["PersistentConnect"]}}`)),
			&connection{connect: []string{"PersistentConnect"}}, []string{"iot:Connect client/a"}, nil,
		},
		"no last will": {
			document(allow(`"Action":"iot:Connect","Resource":"*","Condition":{"ForAllValues:StringNotEquals":{"iot:ConnectAttributes":["LastWill"]}}`)),
			&connection{connect: []string{"PersistentConnect", "LastWill"}}, nil, []string{"iot:Connect client/a"},
		},
		"topics and filters are different resources": {
			document(allow(`"Action":["iot:Publish","iot:Receive"],"Resource":"`+arn+`topic/plant/*"`),
				allow(`"Action":"iot:Subscribe","Resource":"`+arn+`topicfilter/plant/*"`)),
			pump(), []string{"iot:Publish topic/plant/a/b", "iot:Receive topic/plant/a", "iot:Subscribe topicfilter/plant/+/b", "iot:Subscribe topicfilter/plant/#"},
			[]string{"iot:Subscribe topic/plant/a", "iot:Publish topicfilter/plant/a", "iot:Publish topic/plant", "iot:Subscribe topicfilter/#"},
		},
		"wildcards of MQTT are plain characters": {
			document(allow(`"Action":"iot:Subscribe","Resource":"`+arn+`topicfilter/plant/+/state"`),
				allow(`"Action":"iot:Publish","Resource":"`+arn+`topic/plant/#"`)),
			pump(), []string{"iot:Subscribe topicfilter/plant/+/state"}, []string{"iot:Subscribe topicfilter/plant/a/state", "iot:Publish topic/plant/a"},
		},
		"an attribute of the thing in the topic": {
			document(allow(`"Action":"iot:Publish","Resource":"` + arn + `topic/${iot:Connection.Thing.Attributes[line]}/${iot:ClientId}"`)),
			pump(), []string{"iot:Publish topic/north/pump-1"}, []string{"iot:Publish topic/south/pump-1", "iot:Publish topic/north/pump-2"},
		},
		"an attribute the thing does not have": {
			document(allow(`"Action":"iot:Publish","Resource":"` + arn + `topic/${iot:Connection.Thing.Attributes[color]}/x"`)),
			pump(), nil, []string{"iot:Publish topic//x", "iot:Publish topic/${iot:Connection.Thing.Attributes[color]}/x"},
		},
		"only from a network": {
			document(allow(`"Action":"iot:Connect","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`),
				allow(`"Action":"iot:Publish","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"123.45.167.89"}}`)),
			pump(), []string{"iot:Connect client/a"}, []string{"iot:Publish topic/a"},
		},
		"an attribute in a condition": {
			document(allow(`"Action":"iot:Publish","Resource":"*","Condition":{"StringLike":{"iot:Connection.Thing.Attributes[line]":"nor*"}}`),
				allow(`"Action":"iot:Connect","Resource":"*","Condition":{"StringEquals":{"iot:Connection.Thing.Attributes[line]":"nor*"}}`)),
			pump(), []string{"iot:Publish topic/a"}, []string{"iot:Connect client/a"},
		},
		"subtopics that are denied": {
			document(allow(`"Action":"iot:*","Resource":"*"`), deny(`"Action":"iot:Publish","Resource":"`+arn+`topic/a/*"`)),
			pump(), []string{"iot:Publish topic/a", "iot:Receive topic/a/b"}, []string{"iot:Publish topic/a/b"},
		},
	} {
		d := mustParse(t, c.policy)
		for _, want := range []bool{true, false} {
			requests := c.refused
			if want {
				requests = c.allowed
			}
			for _, r := range requests {
				action, resource, _ := strings.Cut(r, " ")
				got := policy.Evaluate(policy.Request{Action: action, Resource: arn + resource, Context: c.context}, d)
				assert.Equal(t, want, got.Allowed(), "%s: %s: %v", name, r, got)
			}
		}
	}
}

// typical is a policy as fleets have it, and the request that has to go through all of it.
func typical(t testing.TB) (*policy.Document, policy.Request) {
	const arn = "arn:aws:iot:us-east-1:123456789012:"
	d := mustParse(t, document(
		allow(`"Action":"iot:Connect","Resource":"`+arn+`client/${iot:Connection.Thing.ThingName}","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}`),
		allow(`"Action":["iot:Publish","iot:Receive"],"Resource":["`+arn+`topic/devices/${iot:Connection.Thing.ThingName}/*","`+
			arn+`topic/$aws/things/${iot:Connection.Thing.ThingName}/shadow/*"],"Condition":{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","203.0.113.0/24"]}}`),
		allow(`"Action":"iot:Subscribe","Resource":"`+arn+`topicfilter/devices/${iot:Connection.Thing.ThingName}/*"`),
		deny(`"Action":"iot:*","Resource":"*","Condition":{"StringEquals":{"iot:Connection.Thing.Attributes[line]":"retired"}}`)))
	return d, policy.Request{Action: "iot:Publish", Resource: arn + "topic/$aws/things/pump-1/shadow/update", Context: pump()}
}

func TestADecisionAllocatesNothing(t *testing.T) {
	d, r := typical(t)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if !policy.Evaluate(r, d).Allowed() {
			t.Error("refused")
		}
	}))
}

func BenchmarkEvaluate(b *testing.B) {
	d, r := typical(b)
	b.ReportAllocs()
	for b.Loop() {
		policy.Evaluate(r, d)
	}
}
