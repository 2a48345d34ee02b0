package policy

import (
	"crypto/x509"
	"net/netip"
	"strings"
)

// Device is a device as AWS IoT knows it when it asks the device's policies.
type Device struct {
	Partition, Region, Account string // of the endpoint that it connects to, such as aws, eu-central-1, 123456789012

	// ClientID is the client identifier of an MQTT connection. It is empty for a request over HTTP, which has no client
	// and, as AWS documents, no variables of a thing.
	ClientID string
	// Thing is the thing that the connection is for: the one that the certificate is attached to and whose name is the
	// client id, or whatever its name, the one that it is attached to exclusively. Nil if there is none.
	Thing       *Thing
	Certificate *x509.Certificate // that the device presents; nil for none
	SourceIP    netip.Addr        // zero if unknown
	DomainName  string            // that the device connects to
	// ConnectAttributes are the features of the CONNECT request: PersistentConnect, LastWill.
	ConnectAttributes []string
	LastWillTopic     string // empty for no will

	// OnlyThing means that only ClientID and Thing are known: the certificate, say, is still to be made. A decision that
	// depends on anything else is undecided.
	OnlyThing bool
}

// Thing is what policies see of a thing.
type Thing struct {
	Name, Type string // Type is empty if it has none
	Attributes map[string]string
}

// Connection decides what a device may do. It has the values of the condition keys and variables that AWS documents for
// devices, and is not changed after it is made, so goroutines may share it. A decision allocates nothing.
//
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-policy-variables.html
type Connection struct {
	keys      []keyValues
	resources [len(deviceTypes)]string // the beginning of an ARN of each type
	onlyThing bool
}

type keyValues struct {
	key    string
	values []string
}

// NewConnection prepares decisions about a device.
func NewConnection(d Device) *Connection {
	c := &Connection{onlyThing: d.OnlyThing}
	arn := "arn:" + d.Partition + ":iot:" + d.Region + ":" + d.Account + ":"
	for i, kind := range deviceTypes {
		c.resources[i] = arn + kind
	}
	if d.ClientID != "" {
		c.set("iot:ClientId", d.ClientID)
		c.thing(d.Thing)
	}
	if d.Certificate != nil {
		c.certificate(d.Certificate)
	}
	if d.SourceIP.IsValid() {
		c.set("aws:SourceIp", d.SourceIP.Unmap().String())
	}
	c.set("iot:DomainName", d.DomainName)
	c.set("iot:ConnectAttributes", d.ConnectAttributes...)
	if d.LastWillTopic != "" {
		c.set("iot:LastWillTopic", arn+typeTopic+d.LastWillTopic)
	}
	return c
}

func (c *Connection) thing(t *Thing) {
	if t == nil {
		c.set(thingPrefix+"IsAttached", "false")
		return
	}
	c.set(thingPrefix+"IsAttached", "true")
	c.set(thingPrefix+"ThingName", t.Name)
	c.set(thingPrefix+"ThingTypeName", t.Type)
	for name, value := range t.Attributes {
		c.set(attributesPrefix+name+"]", value)
	}
}

// set gives a key its values; a single empty one is none.
func (c *Connection) set(key string, values ...string) {
	if len(values) > 0 && (len(values) > 1 || values[0] != "") {
		c.keys = append(c.keys, keyValues{key, values})
	}
}

// Values implements [Context].
func (c *Connection) Values(key string) []string {
	for i := range c.keys {
		if k := &c.keys[i]; len(k.key) == len(key) && strings.EqualFold(k.key, key) {
			return k.values
		}
	}
	return nil
}

// Absent reports whether the device certainly does not have a key; see [Request.Partial].
func (c *Connection) Absent(key string) bool {
	return len(key) > len(thingPrefix) && strings.EqualFold(key[:len(thingPrefix)], thingPrefix) && c.Values(key) == nil
}

// Decide asks whether the device may do something: an action that AWS documents for devices, on the client id, the topic,
// the topic filter, the thing (for a named shadow thing/shadow) or the role alias that it acts on. MQTT's wildcards in a
// topic filter are plain text. Where AWS documents * as the resource, as for iot:ListRetainedMessages, the name has no
// meaning.
//
// What goes with it is asked by itself: whoever publishes a retained message needs iot:Publish and iot:RetainPublish.
func (c *Connection) Decide(action, name string, documents ...*Document) Decision {
	r := Request{Action: action, Resource: "*", Context: c, Partial: c.onlyThing}
	kind := actsOn(action)
	for i, known := range deviceTypes {
		if known == kind {
			r.Resource, r.Name = c.resources[i], name
		}
	}
	return Evaluate(r, documents...)
}
