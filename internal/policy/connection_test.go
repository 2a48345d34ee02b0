package policy_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

const exampleARN = "arn:aws:iot:us-east-1:123456789012:"

// atExample is a device at the place of AWS's examples.
func atExample(d policy.Device) policy.Device {
	d.Partition, d.Region, d.Account = "aws", "us-east-1", "123456789012"
	return d
}

// thing1 is a registered device, client1 one that is not.
var (
	thing1  = policy.Device{ClientID: "thing1", Thing: &policy.Thing{Name: "thing1"}}
	client1 = policy.Device{ClientID: "client1"}
)

const (
	connectAsThing   = `{"Effect":"Allow","Action":["iot:Connect"],"Resource":["` + exampleARN + `client/${iot:Connection.Thing.ThingName}"]}`
	connectAsClient1 = `{"Effect":"Allow","Action":["iot:Connect"],"Resource":["` + exampleARN + `client/client1"]}`
	connectAsThree   = `{"Effect":"Allow","Action":["iot:Connect"],"Resource":["` + exampleARN + `client/client1","` + exampleARN +
		`client/client2","` + exampleARN + `client/client3"]}`
)

// on is a statement about the examples' resources.
func on(effect, actions, resources, more string) string {
	quoted := func(list, prefix string) string {
		var out []string
		for item := range strings.FieldsSeq(list) {
			if item == "*" {
				prefix = ""
			}
			out = append(out, `"`+prefix+item+`"`)
		}
		return "[" + strings.Join(out, ",") + "]"
	}
	if more != "" {
		more = "," + more
	}
	return `{"Effect":"` + effect + `","Action":` + quoted(actions, "iot:") + `,"Resource":` + quoted(resources, exampleARN) + more + `}`
}

// connectAttributes is a statement with a condition on the features of a connection.
func connectAttributes(effect, operator string, values ...string) string {
	list := `[]`
	if len(values) > 0 {
		list = `["` + strings.Join(values, `","`) + `"]`
	}
	return on(effect, "Connect", "*", `"Condition":{"`+operator+`":{"iot:ConnectAttributes":`+list+`}}`)
}

// with is a connection with features; one with LastWill has a topic for it.
func with(attributes ...string) policy.Device {
	d := policy.Device{ClientID: "client1", ConnectAttributes: attributes}
	if slices.Contains(attributes, "LastWill") {
		d.LastWillTopic = "my/lastwill/topicName"
	}
	return d
}

// named is thing1 with a certificate that has these common names.
func named(names ...string) policy.Device {
	subject := pkix.Name{}
	for _, n := range names {
		subject.Names = append(subject.Names, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: n})
	}
	d := thing1
	d.Certificate = &x509.Certificate{Subject: subject}
	return d
}

func ofOrganizations(d policy.Device, names ...string) policy.Device {
	subject := pkix.Name{}
	for _, n := range names {
		subject.Names = append(subject.Names, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: n})
	}
	d.Certificate = &x509.Certificate{Subject: subject}
	return d
}

// The policies are those of AWS's developer guide, each with the page it is on: https://docs.aws.amazon.com/iot/latest/developerguide/
// and the page's name. What is asked follows from the text beside it.
func TestAWSsExamples(t *testing.T) {
	organizations := `"Condition":{"ForAllValues:StringEquals":{"iot:Certificate.Subject.Organization.List":["Example Corp","AnyCompany"]}}`
	administrator := `"Condition":{"StringEquals":{"iot:Certificate.Subject.CommonName.2":"Administrator"}}`
	anAdministrator := `"Condition":{"ForAnyValue:StringEquals":{"iot:Certificate.Subject.CommonName.List":"Administrator"}}`
	lastWill := `"Condition":{"ArnEquals":{"iot:LastWillTopic":"` + exampleARN + `topic/my/lastwill/topicName"}}`
	typed := policy.Device{ClientID: "thing1", Thing: &policy.Thing{Name: "thing1", Type: "Thing_Type_Name",
		Attributes: map[string]string{"attributeName": "attributeValue"}}}
	untyped := policy.Device{ClientID: "thing1", Thing: &policy.Thing{Name: "thing1", Attributes: map[string]string{"attributeName": "attributeValue"}}}
	unlike := policy.Device{ClientID: "thing1", Thing: &policy.Thing{Name: "thing1", Type: "Thing_Type_Name", Attributes: map[string]string{"attributeName": "other"}}}
	at := func(address string) policy.Device {
		return policy.Device{ClientID: "clientid1", SourceIP: netip.MustParseAddr(address)}
	}
	const device1 = "device/sample/configuration"

	type asked struct {
		d            policy.Device
		action, name string
		want         bool
	}
	may := func(d policy.Device, action, name string) asked { return asked{d, action, name, true} }
	not := func(d policy.Device, action, name string) asked { return asked{d, action, name, false} }
	for _, c := range []struct {
		page       string
		statements []string
		asked      []asked
	}{
		// Connecting.
		{"connect-policy", []string{connectAsClient1}, []asked{
			may(client1, "Connect", "client1"), not(client1, "Connect", "client11"), not(thing1, "Connect", "thing1"), not(client1, "Publish", "client1"),
		}},
		{"connect-policy", []string{on("Deny", "Connect", "client/client1 client/client2", ""), connectAsThing}, []asked{
			not(policy.Device{ClientID: "client1", Thing: &policy.Thing{Name: "client1"}}, "Connect", "client1"),
			may(thing1, "Connect", "thing1"), not(client1, "Connect", "client1"), not(policy.Device{ClientID: "thing2"}, "Connect", "thing2"),
		}},
		{"connect-policy: PersistentConnect", []string{connectAttributes("Allow", "ForAllValues:StringEquals", "PersistentConnect")}, []asked{
			may(with("PersistentConnect"), "Connect", "client1"), may(with(), "Connect", "client1"), not(with("LastWill"), "Connect", "client1"),
		}},
		{"connect-policy: no PersistentConnect", []string{connectAttributes("Allow", "ForAllValues:StringNotEquals", "PersistentConnect")}, []asked{
			not(with("PersistentConnect"), "Connect", "client1"), may(with(), "Connect", "client1"), may(with("LastWill"), "Connect", "client1"),
			not(with("LastWill", "PersistentConnect"), "Connect", "client1"),
		}},
		{"connect-policy: the same with StringEquals", []string{on("Allow", "Connect", "*", ""), connectAttributes("Deny", "ForAnyValue:StringEquals", "PersistentConnect")},
			[]asked{
				not(with("PersistentConnect"), "Connect", "client1"), may(with(), "Connect", "client1"), may(with("LastWill", "New"), "Connect", "client1"),
			}},
		{"connect-policy: both", []string{connectAttributes("Allow", "ForAllValues:StringEquals", "PersistentConnect", "LastWill")}, []asked{
			may(with("PersistentConnect", "LastWill"), "Connect", "client1"), not(with("LastWill", "New"), "Connect", "client1"),
		}},
		{"connect-policy: a clean connection with or without LastWill", []string{connectAttributes("Allow", "ForAllValues:StringEquals", "LastWill")}, []asked{
			may(with(), "Connect", "client1"), may(with("LastWill"), "Connect", "client1"), not(with("PersistentConnect"), "Connect", "client1"),
		}},
		{"connect-policy: default features only", []string{connectAttributes("Allow", "ForAllValues:StringEquals")}, []asked{
			may(with(), "Connect", "client1"), not(with("LastWill"), "Connect", "client1"),
		}},
		{"connect-policy: only with PersistentConnect", []string{connectAttributes("Allow", "ForAnyValue:StringEquals", "PersistentConnect")}, []asked{
			may(with("PersistentConnect", "New"), "Connect", "client1"), not(with(), "Connect", "client1"), not(with("LastWill"), "Connect", "client1"),
		}},
		{"connect-policy: must have both", []string{
			connectAttributes("Allow", "ForAllValues:StringEquals", "PersistentConnect", "LastWill"),
			connectAttributes("Deny", "ForAllValues:StringEquals", "PersistentConnect"),
			connectAttributes("Deny", "ForAllValues:StringEquals", "LastWill"), connectAttributes("Deny", "ForAllValues:StringEquals"),
		}, []asked{
			may(with("PersistentConnect", "LastWill"), "Connect", "client1"), not(with("LastWill"), "Connect", "client1"),
			not(with("PersistentConnect"), "Connect", "client1"), not(with(), "Connect", "client1"),
			not(with("PersistentConnect", "LastWill", "New"), "Connect", "client1"),
		}},
		{"connect-policy: never PersistentConnect", []string{
			connectAttributes("Deny", "ForAnyValue:StringEquals", "PersistentConnect"), connectAttributes("Allow", "ForAllValues:StringEquals", "LastWill"),
		}, []asked{
			may(with("LastWill"), "Connect", "client1"), not(with("PersistentConnect", "LastWill"), "Connect", "client1"), not(with("New"), "Connect", "client1"),
		}},
		{"connect-policy: the topic of the will", []string{on("Allow", "Connect", "*", lastWill)}, []asked{
			may(with("LastWill", "New"), "Connect", "client1"), not(with("New"), "Connect", "client1"),
			not(policy.Device{ClientID: "client1", LastWillTopic: "another"}, "Connect", "client1"),
		}},
		{"connect-policy: the topic of the will, clean", []string{
			on("Allow", "Connect", "*", lastWill), connectAttributes("Deny", "ForAnyValue:StringEquals", "PersistentConnect"),
		}, []asked{
			may(with("LastWill", "New"), "Connect", "client1"), not(with("LastWill", "PersistentConnect"), "Connect", "client1"),
		}},
		{"connect-policy: registered", []string{connectAsThing, on("Allow", "Subscribe", "topicfilter/my/topic/filter", "")}, []asked{
			may(thing1, "Connect", "thing1"), may(thing1, "Subscribe", "my/topic/filter"), not(thing1, "Subscribe", "my/topic/other"),
			not(thing1, "Receive", "my/topic/filter"), not(thing1, "Publish", "my/topic/filter"),
		}},
		{"connect-policy: unregistered", []string{connectAsClient1, on("Allow", "Subscribe", "topicfilter/my/topic", "")}, []asked{
			may(client1, "Connect", "client1"), may(client1, "Subscribe", "my/topic"),
		}},
		// Publishing and subscribing.
		{"pub-sub-policy: registered, prefix", []string{connectAsThing, on("Allow", "Publish", "topic/${iot:Connection.Thing.ThingName}/*", "")}, []asked{
			may(thing1, "Publish", "thing1/a/b"), not(thing1, "Publish", "thing2/a"), not(client1, "Publish", "client1/a"), not(thing1, "Publish", "thing1"),
		}},
		{"pub-sub-policy: unregistered, prefix", []string{connectAsThree, on("Allow", "Publish", "topic/${iot:ClientId}/*", "")}, []asked{
			may(client1, "Connect", "client1"), may(client1, "Publish", "client1/a"), not(client1, "Publish", "client2/a"),
		}},
		{"pub-sub-policy: registered, rooms", []string{connectAsThing,
			on("Allow", "Subscribe", "topicfilter/${iot:Connection.Thing.ThingName}/room*", ""), on("Allow", "Receive", "topic/${iot:Connection.Thing.ThingName}/room*", "")},
			[]asked{
				may(thing1, "Subscribe", "thing1/room1"), may(thing1, "Subscribe", "thing1/room+"), may(thing1, "Subscribe", "thing1/room/#"),
				may(thing1, "Receive", "thing1/room2"), not(thing1, "Subscribe", "thing1/#"), not(thing1, "Subscribe", "+/room1"),
			}},
		{"pub-sub-policy: unregistered, rooms", []string{connectAsThree,
			on("Allow", "Subscribe", "topicfilter/${iot:ClientId}/room*", ""), on("Allow", "Receive", "topic/${iot:ClientId}/room*", "")},
			[]asked{
				may(client1, "Subscribe", "client1/room1"), may(client1, "Receive", "client1/room1"), not(client1, "Receive", "client2/room1"),
			}},
		{"pub-sub-policy: a filter goes past a denial", []string{
			on("Allow", "Subscribe", "topicfilter/a/*", ""), on("Deny", "Subscribe", "topicfilter/a/restricted/*", ""),
			`{"Effect":"Allow","Action":"iot:Receive","NotResource":"` + exampleARN + `topic/a/restricted/*"}`,
		}, []asked{
			may(client1, "Subscribe", "a/#"), not(client1, "Subscribe", "a/restricted/x"), may(client1, "Receive", "a/x"), not(client1, "Receive", "a/restricted/x"),
		}},
		{"pub-sub-policy: subscribed, not received", []string{
			on("Allow", "Subscribe", "topicfilter/device/update", ""), on("Deny", "Receive", "topic/device/update", ""),
		}, []asked{may(client1, "Subscribe", "device/update"), not(client1, "Receive", "device/update")}},
		{"pub-sub-policy: registered, + is text", []string{connectAsThing, on("Allow", "Subscribe", "topicfilter/some/+/topic", "")}, []asked{
			may(thing1, "Subscribe", "some/+/topic"), not(thing1, "Subscribe", "some/string1/topic"),
		}},
		{"pub-sub-policy: registered, *", []string{connectAsThing, on("Allow", "Subscribe", "topicfilter/some/*/topic", "")}, []asked{
			may(thing1, "Subscribe", "some/string1/topic"), may(thing1, "Subscribe", "some/+/topic"), may(thing1, "Subscribe", "some/a/b/topic"),
			not(thing1, "Subscribe", "some/topic"),
		}},
		{"pub-sub-policy: the table of wildcards", []string{on("Allow", "Publish Subscribe", "topic/some/?????/topic topicfilter/some/sensor???/topic", "")}, []asked{
			may(client1, "Publish", "some/abcde/topic"), not(client1, "Publish", "some/abcd/topic"), may(client1, "Subscribe", "some/sensor001/topic"),
			not(client1, "Subscribe", "some/sensor01/topic"), not(client1, "Subscribe", "some/abcde/topic"),
		}},
		{"pub-sub-policy: unregistered, + is text", []string{connectAsClient1, on("Allow", "Subscribe", "topicfilter/some/+/topic", "")}, []asked{
			may(client1, "Subscribe", "some/+/topic"), not(client1, "Subscribe", "some/x/topic"),
		}},
		{"pub-sub-policy: unregistered, *", []string{connectAsClient1, on("Allow", "Subscribe", "topicfilter/some/*/topic", "")}, []asked{
			may(client1, "Subscribe", "some/x/topic"),
		}},
		{"pub-sub-policy: two topics", []string{connectAsThing, on("Allow", "Subscribe", "topicfilter/my/topic topicfilter/my/othertopic", "")}, []asked{
			may(thing1, "Subscribe", "my/topic"), may(thing1, "Subscribe", "my/othertopic"), not(thing1, "Subscribe", "my/+"),
		}},
		{"pub-sub-policy: a topic of its own", []string{connectAsThing, on("Allow", "Publish", "topic/my/topic/${iot:Connection.Thing.ThingName}", "")}, []asked{
			may(thing1, "Publish", "my/topic/thing1"), not(thing1, "Publish", "my/topic/thing2"),
		}},
		{"pub-sub-policy: the variable of older pages", []string{connectAsThing, on("Allow", "Publish", "topic/my/topic/${iot:Thing.ThingName}", "")}, []asked{
			not(thing1, "Publish", "my/topic/thing1"), not(thing1, "Publish", "my/topic/${iot:Thing.ThingName}"),
		}},
		{"pub-sub-policy: all but one", []string{connectAsClient1,
			on("Allow", "Publish", "topic/${iot:ClientId}/*", ""), on("Deny", "Publish", "topic/${iot:ClientId}/bar", "")}, []asked{
			may(client1, "Publish", "client1/foo"), not(client1, "Publish", "client1/bar"), may(client1, "Publish", "client1/bar/x"),
		}},
		{"pub-sub-policy: all but one, registered", []string{connectAsThing, on("Allow", "Publish", "topic/${iot:Connection.Thing.ThingName}/*", ""),
			on("Deny", "Publish", "topic/${iot:Connection.Thing.ThingName}/bar", "")}, []asked{
			may(thing1, "Publish", "thing1/foo"), not(thing1, "Publish", "thing1/bar"),
		}},
		{"pub-sub-policy: subscribe, but not publish", []string{connectAsThing, on("Allow", "Subscribe", "topicfilter/my/topic", ""),
			on("Deny", "Publish", "topic/${iot:Connection.Thing.ThingName}/bar", "")}, []asked{
			may(thing1, "Subscribe", "my/topic"), not(thing1, "Publish", "thing1/bar"), not(thing1, "Publish", "thing1/foo"),
		}},
		{"pub-sub-policy: one topic in three actions", []string{connectAsClient1,
			on("Allow", "Publish Receive", "topic/iotmonitor/provisioning/987654321098", ""),
			on("Allow", "Subscribe", "topicfilter/iotmonitor/provisioning/987654321098", "")}, []asked{
			may(client1, "Publish", "iotmonitor/provisioning/987654321098"), may(client1, "Receive", "iotmonitor/provisioning/987654321098"),
			may(client1, "Subscribe", "iotmonitor/provisioning/987654321098"), not(client1, "RetainPublish", "iotmonitor/provisioning/987654321098"),
		}},
		{"pub-sub-policy: receive", []string{connectAsThing, on("Allow", "Subscribe", "topicfilter/my/topic", ""), on("Allow", "Receive", "topic/my/topic", "")}, []asked{
			may(thing1, "Subscribe", "my/topic"), may(thing1, "Receive", "my/topic"), not(thing1, "Publish", "my/topic"),
		}},
		// Retained messages.
		{"retained-message-policy-examples", []string{on("Allow", "Connect", "client/device1", ""), on("Allow", "Publish RetainPublish", "topic/"+device1, "")}, []asked{
			may(policy.Device{ClientID: "device1"}, "RetainPublish", device1), may(policy.Device{ClientID: "device1"}, "Publish", device1),
			not(policy.Device{ClientID: "device1"}, "GetRetainedMessage", device1),
		}},
		{"retained-message-policy-examples: a will", []string{
			on("Allow", "Connect", "client/*", `"Condition":{"ForAllValues:StringEquals":{"iot:ConnectAttributes":["LastWill"]}}`),
			on("Allow", "Publish RetainPublish", "topic/will", "")}, []asked{
			may(with("LastWill"), "Connect", "client1"), may(with(), "Connect", "client1"), not(with("PersistentConnect"), "Connect", "client1"),
			may(with("LastWill"), "RetainPublish", "will"),
		}},
		{"retained-message-policy-examples: over HTTP", []string{on("Allow", "ListRetainedMessages", "*", ""), on("Allow", "GetRetainedMessage", "topic/foo", "")}, []asked{
			may(policy.Device{}, "ListRetainedMessages", ""), may(policy.Device{}, "GetRetainedMessage", "foo"), not(policy.Device{}, "GetRetainedMessage", "bar"),
		}},
		{"iot-policy-actions: the resource of ListRetainedMessages must be *", []string{on("Allow", "ListRetainedMessages", "topic/*", "")}, []asked{
			not(policy.Device{}, "ListRetainedMessages", ""),
		}},
		// The table of resources.
		{"iot-action-resources", []string{
			on("Allow", "GetThingShadow UpdateThingShadow DeleteThingShadow DescribeJobExecution GetPendingJobExecutions", "thing/thingOne", ""),
			on("Allow", "UpdateThingShadow", "thing/thingOne/shadowOne", ""), on("Allow", "ListNamedShadowsForThing", "*", ""),
			on("Allow", "AssumeRoleWithCertificate", "rolealias/CredentialProviderRole_alias", ""),
		}, []asked{
			may(policy.Device{}, "GetThingShadow", "thingOne"), may(policy.Device{}, "UpdateThingShadow", "thingOne/shadowOne"),
			not(policy.Device{}, "GetThingShadow", "thingOne/shadowOne"), may(policy.Device{}, "DescribeJobExecution", "thingOne"),
			may(policy.Device{}, "GetPendingJobExecutions", "thingOne"), may(policy.Device{}, "ListNamedShadowsForThing", "thingOne"),
			may(policy.Device{}, "AssumeRoleWithCertificate", "CredentialProviderRole_alias"), not(policy.Device{}, "Publish", "thingOne"),
		}},
		{"basic-jobs-example", []string{on("Allow", "Connect", "client/uniqueThingName", ""),
			on("Allow", "Publish", "topic/$aws/events/job/* topic/$aws/things/uniqueThingName/jobs/*", ""),
			on("Allow", "Subscribe", "topic/$aws/events/jobExecution/* topicfilter/$aws/things/uniqueThingName/jobs/*", "")}, []asked{
			may(policy.Device{ClientID: "uniqueThingName"}, "Publish", "$aws/things/uniqueThingName/jobs/get"),
			may(policy.Device{ClientID: "uniqueThingName"}, "Subscribe", "$aws/things/uniqueThingName/jobs/notify"),
			not(policy.Device{ClientID: "uniqueThingName"}, "Subscribe", "$aws/events/jobExecution/1"),
		}},
		{"device-shadow-rest-api", []string{on("Allow", "GetThingShadow UpdateThingShadow DeleteThingShadow ListNamedShadowsForThing", "thing/thing", "")}, []asked{
			may(policy.Device{}, "GetThingShadow", "thing"), may(policy.Device{}, "UpdateThingShadow", "thing"), may(policy.Device{}, "DeleteThingShadow", "thing"),
			may(policy.Device{}, "ListNamedShadowsForThing", "thing"), not(policy.Device{}, "ListNamedShadowsForThing", "other"),
		}},
		{"connect-and-pub: registered", []string{on("Allow", "Publish", "topic/${iot:Connection.Thing.ThingName}", ""), connectAsThing}, []asked{
			may(thing1, "Connect", "thing1"), may(thing1, "Publish", "thing1"), not(thing1, "Publish", "thing1/a"), not(client1, "Connect", "client1"),
		}},
		{"connect-and-pub: unregistered", []string{on("Allow", "Publish", "topic/${iot:ClientId}", ""), connectAsClient1}, []asked{
			may(client1, "Publish", "client1"), not(policy.Device{ClientID: "client2"}, "Connect", "client2"),
		}},
		{"iot-moisture-policy", []string{on("Allow", "Connect", "client/RaspberryPi", ""),
			on("Allow", "Publish", "topic/$aws/things/RaspberryPi/shadow/update topic/$aws/things/RaspberryPi/shadow/get", ""),
			on("Allow", "Receive", "topic/$aws/things/RaspberryPi/shadow/update/accepted", ""),
			on("Allow", "Subscribe", "topicfilter/$aws/things/RaspberryPi/shadow/update/accepted", "")}, []asked{
			may(policy.Device{ClientID: "RaspberryPi"}, "Publish", "$aws/things/RaspberryPi/shadow/update"),
			may(policy.Device{ClientID: "RaspberryPi"}, "Receive", "$aws/things/RaspberryPi/shadow/update/accepted"),
			not(policy.Device{ClientID: "RaspberryPi"}, "Subscribe", "$aws/things/RaspberryPi/shadow/#"),
		}},
		{"security-best-practices", []string{connectAsThing}, []asked{may(thing1, "Connect", "thing1"), not(thing1, "Connect", "thing2")}},
		{"audit-chk-iot-policy-permissive: connect", []string{on("Allow", "Connect", "client/${iot:Connection.Thing.ThingName}",
			`"Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}`)}, []asked{
			may(thing1, "Connect", "thing1"), not(client1, "Connect", "client1"),
		}},
		{"audit-chk-iot-policy-permissive: a slash too many in an ARN", []string{on("Allow", "GetThingShadow", "/thing/MyThing1", "")}, []asked{
			not(policy.Device{}, "GetThingShadow", "MyThing1"),
		}},
		{"audit-chk-iot-policy-permissive: shadows and jobs of its own", []string{on("Allow", "Subscribe",
			"topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/shadow/* topicfilter/$aws/things/${iot:Connection.Thing.ThingName}/jobs/*", "")}, []asked{
			may(thing1, "Subscribe", "$aws/things/thing1/shadow/+/accepted"), may(thing1, "Subscribe", "$aws/things/thing1/jobs/notify"),
			not(thing1, "Subscribe", "$aws/things/+/shadow/update"),
		}},
		{"iot-data-plane-jobs: HTTP", []string{`{"Effect":"Allow","Action":["iotjobsdata:DescribeJobExecution","iotjobsdata:GetPendingJobExecutions"],"Resource":"` +
			exampleARN + `thing/thing-name"}`}, []asked{
			not(policy.Device{}, "DescribeJobExecution", "thing-name"), // with the prefix iot:
		}},
		{"iot-data-plane-jobs: MQTT", []string{on("Allow", "Publish Subscribe", "topic/$aws/things/thing-name/jobs/*", "")}, []asked{
			may(policy.Device{ClientID: "thing-name"}, "Publish", "$aws/things/thing-name/jobs/get"),
			not(policy.Device{ClientID: "thing-name"}, "Subscribe", "$aws/things/thing-name/jobs/notify"), // its resource is a topicfilter
		}},
		{"device-shadow-mqtt", []string{on("Allow", "Publish", "topic/$aws/things/thing1/shadow/get", ""),
			on("Allow", "Subscribe", "topicfilter/$aws/things/thing1/shadow/get/accepted", "")}, []asked{
			may(thing1, "Publish", "$aws/things/thing1/shadow/get"), may(thing1, "Subscribe", "$aws/things/thing1/shadow/get/accepted"),
			not(thing1, "Subscribe", "$aws/things/thing1/shadow/get/+"),
		}},
		// Variables.
		{"basic-policy-variables", []string{on("Allow", "Connect", "client/clientid1", ""),
			on("Allow", "Publish", "topic/my/topic/${iot:ClientId}", `"Condition":{"IpAddress":{"aws:SourceIp":"123.45.167.89"}}`)}, []asked{
			may(at("123.45.167.89"), "Connect", "clientid1"), may(at("123.45.167.89"), "Publish", "my/topic/clientid1"),
			may(at("::ffff:123.45.167.89"), "Publish", "my/topic/clientid1"), not(at("123.45.167.90"), "Publish", "my/topic/clientid1"),
		}},
		{"basic-policy-variables: + as a client id", []string{on("Allow", "Subscribe", "topicfilter/my/${iot:ClientId}/topic", "")}, []asked{
			may(policy.Device{ClientID: "+"}, "Subscribe", "my/+/topic"), not(policy.Device{ClientID: "+"}, "Subscribe", "my/x/topic"),
			not(policy.Device{ClientID: "*"}, "Subscribe", "my/x/topic"),
		}},
		{"thing-policy-examples: IsAttached", []string{on("Allow", "Connect", "*", `"Condition":{"Bool":{"iot:Connection.Thing.IsAttached":["true"]}}`)}, []asked{
			may(thing1, "Connect", "thing1"), not(client1, "Connect", "client1"), not(policy.Device{}, "Connect", "thing1"),
		}},
		{"thing-policy-examples: type and attribute", []string{on("Allow", "Publish", "topic/device/stats",
			`"Condition":{"StringEquals":{"iot:Connection.Thing.Attributes[attributeName]":"attributeValue","iot:Connection.Thing.ThingTypeName":"Thing_Type_Name"},`+
				`"Bool":{"iot:Connection.Thing.IsAttached":"true"}}`)}, []asked{
			may(typed, "Publish", "device/stats"), not(untyped, "Publish", "device/stats"), not(unlike, "Publish", "device/stats"), not(client1, "Publish", "device/stats"),
		}},
		{"thing-policy-examples: a topic with an attribute", []string{on("Allow", "Publish", "topic/${iot:Connection.Thing.Attributes[attributeName]}/*", "")}, []asked{
			may(typed, "Publish", "attributeValue/x"), not(typed, "Publish", "other/x"), not(client1, "Publish", "attributeValue/x"),
		}},
		{"certificate-policy-examples: CertificateId", []string{on("Allow", "Publish", "topic/${iot:CertificateId}", ""), connectAsThing}, []asked{
			may(named("a"), "Publish", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), not(named("a"), "Publish", "a"), not(thing1, "Publish", "a"),
		}},
		{"certificate-policy-examples: CommonName", []string{on("Allow", "Publish", "topic/${iot:Certificate.Subject.CommonName}", ""), connectAsThree}, []asked{
			may(named("a", "b"), "Publish", "a"), not(named("a", "b"), "Publish", "b"), not(thing1, "Publish", "a"),
		}},
		{"certificate-policy-examples: CommonName.2", []string{connectAsThing, on("Allow", "Publish", "topic/admin/*", administrator)}, []asked{
			may(named("a", "b", "Administrator"), "Publish", "admin/x"), not(named("a", "Administrator"), "Publish", "admin/x"), not(named("Administrator"), "Publish", "admin/x"),
		}},
		{"certificate-policy-examples: CommonName.List, registered", []string{connectAsThing,
			on("Allow", "Publish", "topic/admin/${iot:Connection.Thing.ThingName}", anAdministrator)}, []asked{
			may(named("a", "Administrator"), "Publish", "admin/thing1"), not(named("a"), "Publish", "admin/thing1"), not(named("Administrator"), "Publish", "admin/thing2"),
		}},
		{"certificate-policy-examples: CommonName.List, unregistered", []string{connectAsThree, on("Allow", "Publish", "topic/admin", anAdministrator)}, []asked{
			may(named("Administrator"), "Publish", "admin"), not(client1, "Publish", "admin"),
		}},
		{"cert-policy-variables: registered", []string{connectAsThing, on("Allow", "Publish", "topic/my/topic/${iot:Connection.Thing.ThingName}", organizations)}, []asked{
			may(ofOrganizations(thing1, "AnyCompany"), "Publish", "my/topic/thing1"), may(ofOrganizations(thing1, "Example Corp", "AnyCompany"), "Publish", "my/topic/thing1"),
			not(ofOrganizations(thing1, "Example Corp", "Another"), "Publish", "my/topic/thing1"), not(ofOrganizations(client1, "AnyCompany"), "Publish", "my/topic/client1"),
		}},
		{"cert-policy-variables: unregistered", []string{connectAsThree, on("Allow", "Publish", "topic/my/topic/${iot:ClientId}", organizations)}, []asked{
			may(ofOrganizations(client1, "AnyCompany"), "Publish", "my/topic/client1"), not(ofOrganizations(client1, "Another"), "Publish", "my/topic/client1"),
		}},
	} {
		d := mustParse(t, document(c.statements...))
		for _, a := range c.asked {
			got := policy.NewConnection(atExample(a.d)).Decide("iot:"+a.action, a.name, d)
			assert.Equal(t, a.want, got.Allowed(), "%s: %s on %q as %q: %s", c.page, a.action, a.name, a.d.ClientID, got)
		}
	}
}

// https://docs.aws.amazon.com/iot/latest/developerguide/cert-policy-variables.html
func TestKeysOfCertificates(t *testing.T) {
	attribute := func(last int, value any) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, last}, Value: value}
	}
	uri, err := url.Parse("urn:a:b")
	require.NoError(t, err)
	made := certtest.SelfSigned(certtest.Key(), func(c *x509.Certificate) {
		*c = x509.Certificate{
			SerialNumber: big.NewInt(255),
			Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
				attribute(3, "first"), attribute(3, "second"), attribute(10, "a, b=c"), attribute(6, "DE"), attribute(12, "50% *"),
				attribute(4, strings.Repeat("x", 1025)), attribute(42, strings.Repeat("y", 1024)),
				attribute(11, "1"), attribute(11, "2"), attribute(11, "3"), attribute(11, "4"), attribute(11, "5"), attribute(11, "6"),
			}},
			DNSNames: []string{"a.example", "b.example"}, EmailAddresses: []string{"a@example.com"}, URIs: []*url.URL{uri},
			IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1), net.ParseIP("2001:db8::1")},
		}
	})
	c := policy.NewConnection(policy.Device{Certificate: made})
	for key, want := range map[string][]string{
		"iot:Certificate.SerialNumber":                                      {"255"},
		"IOT:certificate.subject.commonname":                                {"first"},
		"iot:Certificate.Subject.CommonName.1":                              {"second"},
		"iot:Certificate.Subject.CommonName.2":                              nil,
		"iot:Certificate.Subject.CommonName.List":                           {"first", "second"},
		"iot:Certificate.Subject.Organization":                              {`a\, b\=c`},
		"iot:Certificate.Subject.Country":                                   {"DE"},
		"iot:Certificate.Subject.Title":                                     nil, // has a wildcard
		"iot:Certificate.Subject.Surname":                                   nil, // too long
		"iot:Certificate.Subject.GivenName":                                 {strings.Repeat("y", 1024)},
		"iot:Certificate.Subject.OrganizationalUnit.4":                      {"5"},
		"iot:Certificate.Subject.OrganizationalUnit.5":                      nil, // the limit of arrays
		"iot:Certificate.Subject.OrganizationalUnit.List":                   {"1", "2", "3", "4", "5"},
		"iot:Certificate.Issuer.CommonName":                                 {"first"},
		"iot:Certificate.Subject.AlternativeName.DNSName":                   {"a.example"},
		"iot:Certificate.Subject.AlternativeName.DNSName.1":                 {"b.example"},
		"iot:Certificate.Subject.AlternativeName.RFC822Name":                {"a@example.com"},
		"iot:Certificate.Subject.AlternativeName.UniformResourceIdentifier": {"urn:a:b"},
		"iot:Certificate.Subject.AlternativeName.IPAddress.List":            {"10.0.0.1", "2001:db8::1"},
		"iot:Certificate.Issuer.AlternativeName.DNSName":                    nil,
		"iot:ClientId":                       nil, // over HTTP there is none
		"iot:Connection.Thing.IsAttached":    nil,
		"iot:Certificate.Subject.CommonName": {"first"},
	} {
		assert.Equal(t, want, c.Values(key), key)
	}
	available := c.Values("iot:Certificate.AvailableKeys")
	assert.Contains(t, available, "iot:Certificate.Subject.CommonName")
	assert.NotContains(t, available, "iot:Certificate.Subject.Title")
	assert.NotContains(t, available, "iot:Certificate.Subject.CommonName.List")
}

func TestWithOnlyTheThingKnownTheRestIsUndecided(t *testing.T) {
	d := policy.Device{ClientID: "thing1", OnlyThing: true, Thing: &policy.Thing{Name: "thing1", Attributes: map[string]string{"site": "north"}}}
	for members, want := range map[string]string{
		`"Resource":"` + exampleARN + `topic/${iot:Connection.Thing.ThingName}"`:                                  "allowed",
		`"Resource":"` + exampleARN + `topic/${iot:CertificateId}"`:                                               "undecided",
		`"Resource":"` + exampleARN + `topic/${iot:Connection.Thing.Attributes[other]}"`:                          "nothing",
		`"Resource":"` + exampleARN + `topic/${iot:Connection.Thing.Attributes[other], 'thing1'}"`:                "allowed",
		`"Resource":"` + exampleARN + `topic/${iot:CertificateId, 'thing1'}"`:                                     "undecided",
		`"Resource":"*","Condition":{"StringEquals":{"iot:Connection.Thing.Attributes[site]":"north"}}`:           "allowed",
		`"Resource":"*","Condition":{"StringEquals":{"iot:Connection.Thing.ThingTypeName":"pump"}}`:               "nothing",
		`"Resource":"*","Condition":{"StringNotEquals":{"iot:Connection.Thing.ThingTypeName":"pump"}}`:            "allowed",
		`"Resource":"*","Condition":{"StringNotEquals":{"iot:ClientId":"${iot:Connection.Thing.ThingTypeName}"}}`: "nothing",
		`"Resource":"*","Condition":{"StringNotEquals":{"iot:ClientId":"${iot:CertificateId}"}}`:                  "undecided",
		`"Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`:                                  "undecided",
		`"NotResource":"` + exampleARN + `topic/${iot:CertificateId}"`:                                            "undecided",
		`"NotResource":"` + exampleARN + `topic/${iot:Connection.Thing.ThingTypeName}"`:                           "nothing",
	} {
		got := policy.NewConnection(atExample(d)).Decide("iot:Publish", "thing1", mustParse(t, document(allow(`"Action":"iot:Publish",`+members))))
		text := map[bool]string{true: "allowed", false: "nothing"}[got.Allowed()]
		if got.Undecided {
			text = "undecided"
		}
		assert.Equal(t, want, text, members)
	}
	jobs := mustParse(t, document(allow(`"Action":"iotjobsdata:DescribeJobExecution","Resource":"`+exampleARN+`thing/thing1"`)))
	assert.True(t, policy.NewConnection(atExample(thing1)).Decide("iotjobsdata:DescribeJobExecution", "thing1", jobs).Allowed())

	c := policy.NewConnection(d)
	assert.True(t, c.Absent("iot:connection.Thing.Attributes[other]"))
	for _, key := range []string{"iot:Connection.Thing.ThingName", "iot:Connection.Thing.Attributes[site]", "iot:CertificateId", ""} {
		assert.False(t, c.Absent(key), key)
	}
}

// onBroker is what a broker asks for each message: the policies of a device's certificate and of its groups.
func onBroker(t testing.TB) (*policy.Connection, []*policy.Document) {
	d := named("a", "b")
	d.Thing = &policy.Thing{Name: "thing1", Attributes: map[string]string{"site": "north", "line": "4"}}
	d.SourceIP = netip.MustParseAddr("10.1.2.3")
	return policy.NewConnection(atExample(d)), []*policy.Document{
		mustParse(t, document(connectAsThing, on("Allow", "Publish Receive", "topic/devices/${iot:Connection.Thing.ThingName}/*", ""),
			on("Allow", "Subscribe", "topicfilter/devices/${iot:Connection.Thing.ThingName}/*", ""))),
		mustParse(t, document(on("Deny", "Publish", "topic/*/secret/${iot:Connection.Thing.Attributes[line]}/*",
			`"Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"},"StringNotEquals":{"iot:Certificate.Subject.CommonName":"admin"}}`))),
	}
}

func TestADecisionAboutADeviceAllocatesNothing(t *testing.T) {
	c, documents := onBroker(t)
	topic := "devices/thing1/" + strings.Repeat("x", 200)
	for _, action := range []string{"iot:Publish", "iot:Receive", "iot:RetainPublish", "iot:Connect"} {
		assert.Zero(t, testing.AllocsPerRun(100, func() { c.Decide(action, topic, documents...) }), action)
	}
	assert.True(t, c.Decide("iot:Publish", topic, documents...).Allowed())
}

func BenchmarkDecide(b *testing.B) {
	c, documents := onBroker(b)
	b.ReportAllocs()
	for b.Loop() {
		if !c.Decide("iot:Publish", "devices/thing1/state/temperature", documents...).Allowed() {
			b.Fatal("refused")
		}
	}
}

// FuzzAlternativeNames reads the names in an extension that a vendor's tool may have written in any way.
func FuzzAlternativeNames(f *testing.F) {
	f.Add([]byte{0x30, 0x0b, 0x82, 0x03, 'a', '.', 'b', 0x87, 0x04, 10, 0, 0, 1})
	f.Add([]byte{0x30, 0x12, 0xa4, 0x10, 0x30, 0x0e, 0x31, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x03, 'a', 'b', 'c'})
	f.Fuzz(func(t *testing.T, der []byte) {
		c := policy.NewConnection(policy.Device{Certificate: &x509.Certificate{Extensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}, {Id: asn1.ObjectIdentifier{2, 5, 29, 18}, Value: der},
		}}})
		for _, key := range c.Values("iot:Certificate.AvailableKeys") {
			require.Len(t, c.Values(key), 1, key)
			list := c.Values(key + ".List")
			require.NotEmpty(t, list, key)
			require.LessOrEqual(t, len(list), 5)
		}
	})
}
