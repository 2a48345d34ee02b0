package fakegateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
)

// anything lets a device do everything.
const anything = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}}`

// own lets a device use its own topics and read what is for all.
const own = `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:*:*:client/device-*"},
	{"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": "arn:aws:iot:*:*:topic/dt/${iot:ClientId}/*"},
	{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": ["arn:aws:iot:*:*:topicfilter/dt/${iot:ClientId}/*", "arn:aws:iot:*:*:topicfilter/all/*"]}]}`

// lab is an account with a gateway.
type lab struct {
	t       testing.TB
	fake    *fakebackend.Backend
	gateway *fakegateway.Server
	aws     *iot.Client
}

// newLab makes an account with the policies "anything" and "own", and a gateway without a port.
func newLab(t testing.TB, opts fakegateway.Options) *lab {
	t.Helper()
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	l := &lab{t, fake, fakegateway.NewUnstartedServer(fake, opts), iot.NewFromConfig(fakeaws.Config(fake))}
	t.Cleanup(l.gateway.Close)
	l.policy("anything", anything)
	l.policy("own", own)
	return l
}

func (l *lab) policy(name, document string) {
	l.t.Helper()
	_, err := l.aws.CreatePolicy(l.t.Context(), &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document})
	require.NoError(l.t, err)
}

// device is a certificate with its key.
type device struct {
	tls.Certificate
	id, arn string
}

// device makes a certificate with policies.
func (l *lab) device(policies ...string) *device {
	l.t.Helper()
	key := certtest.Key()
	request := certtest.Request(key, pkix.Name{CommonName: "device"})
	out, err := l.aws.CreateCertificateFromCsr(l.t.Context(), &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: &request, SetAsActive: true})
	require.NoError(l.t, err)
	block, _ := pem.Decode([]byte(*out.CertificatePem))
	l.attach(*out.CertificateArn, policies...)
	return &device{tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}, *out.CertificateId, *out.CertificateArn}
}

func (l *lab) attach(arn string, policies ...string) {
	for _, name := range policies {
		_, err := l.aws.AttachPolicy(l.t.Context(), &iot.AttachPolicyInput{PolicyName: &name, Target: &arn})
		require.NoError(l.t, err)
	}
}

func (l *lab) status(d *device, status types.CertificateStatus) {
	l.t.Helper()
	_, err := l.aws.UpdateCertificate(l.t.Context(), &iot.UpdateCertificateInput{CertificateId: &d.id, NewStatus: status})
	require.NoError(l.t, err)
}

// strangeCertificate is one that nobody has registered.
func strangeCertificate(changes ...func(*x509.Certificate)) *device {
	key := certtest.Key()
	return &device{Certificate: tls.Certificate{Certificate: [][]byte{certtest.SelfSigned(key, changes...).Raw}, PrivateKey: key}}
}

// trust is how a device connects with a certificate, and what it trusts.
func (l *lab) trust(d *device, alpn ...string) *tls.Config {
	roots := x509.NewCertPool()
	require.True(l.t, roots.AppendCertsFromPEM(l.fake.RootCA()))
	config := &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: alpn}
	if d != nil {
		config.Certificates = []tls.Certificate{d.Certificate}
	}
	return config
}

// dial opens a TLS connection of a device within the process. It ends with the test.
func (l *lab) dial(d *device, alpn ...string) *tls.Conn {
	l.t.Helper()
	raw, err := l.gateway.Dial(l.t.Context())
	require.NoError(l.t, err)
	l.t.Cleanup(func() { raw.Close() })
	conn := tls.Client(raw, l.trust(d, alpn...))
	require.NoError(l.t, conn.HandshakeContext(l.t.Context()))
	return conn
}

// client is a client of MQTT 5 that is connected, with what it was told.
type client struct {
	*paho.Client
	connack  *paho.Connack
	messages chan *paho.Publish
	gone     chan *paho.Disconnect // of the server
	failed   chan error
}

// mqtt5 connects a client of MQTT 5. The error is that of the CONNECT.
func (l *lab) mqtt5(conn net.Conn, id string, change ...func(*paho.Connect)) (*client, error) {
	l.t.Helper()
	c := &client{messages: make(chan *paho.Publish, 1000), gone: make(chan *paho.Disconnect, 1), failed: make(chan error, 10)}
	c.Client = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), ClientID: id, // the first PINGREQ leaves beside the first SUBSCRIBE
		PacketTimeout: patience,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			c.messages <- p.Packet
			return true, nil
		}},
		OnServerDisconnect: func(d *paho.Disconnect) { c.gone <- d },
		OnClientError:      func(err error) { c.failed <- err },
	})
	connect := &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 60}
	for _, f := range change {
		f(connect)
	}
	var err error
	c.connack, err = c.Connect(l.t.Context(), connect)
	return c, err
}

// connect is mqtt5 for a device that must be let in.
func (l *lab) connect(d *device, id string, change ...func(*paho.Connect)) *client {
	l.t.Helper()
	c, err := l.mqtt5(l.dial(d), id, change...)
	require.NoError(l.t, err)
	return c
}

func (l *lab) subscribe(c *client, filters ...string) *paho.Suback {
	l.t.Helper()
	s := &paho.Subscribe{}
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	ack, err := c.Subscribe(l.t.Context(), s)
	if ack == nil {
		require.NoError(l.t, err)
	}
	return ack
}

// publish publishes with QoS 1, and returns the reason code of the PUBACK.
func (l *lab) publish(c *client, topic, payload string) byte {
	l.t.Helper()
	ack, err := c.Publish(l.t.Context(), &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(payload)})
	if ack == nil {
		require.NoError(l.t, err)
	}
	return ack.ReasonCode
}

// next returns the next message that a client gets.
func (l *lab) next(c *client) *paho.Publish {
	l.t.Helper()
	select {
	case m := <-c.messages:
		return m
	case <-time.After(patience):
		require.FailNow(l.t, "no message came")
		return nil
	}
}

// left returns the reason code with which the server disconnects a client. paho may tell of an error before it tells of a
// DISCONNECT that it has read: each has a goroutine of its own.
func (l *lab) left(c *client) byte {
	l.t.Helper()
	select {
	case d := <-c.gone:
		return d.ReasonCode
	case <-time.After(patience):
		var failed error
		if len(c.failed) > 0 {
			failed = <-c.failed
		}
		require.FailNow(l.t, "the server did not disconnect the client", "%v %+v", failed, l.events())
		return 0
	}
}

// patience is how long a test waits for what must happen. A machine may be busy.
const patience = time.Minute

// events are the events so far.
func (l *lab) events() []fakebackend.Event {
	ctx, cancel := context.WithCancel(l.t.Context())
	cancel()
	return slices.Collect(l.fake.Events(ctx))
}

// await waits for an event that is as told.
func (l *lab) await(what string, is func(fakebackend.Event) bool) fakebackend.Event {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	for e := range l.fake.Events(ctx) {
		if is(e) {
			return e
		}
	}
	require.FailNow(l.t, "no event: "+what, "%+v", l.events())
	return fakebackend.Event{}
}

// refusal waits for a refusal with a reason.
func (l *lab) refusal(reason string) fakebackend.Event {
	l.t.Helper()
	return l.await(reason, func(e fakebackend.Event) bool { return e.Kind == fakebackend.EventRefused && e.Reason == reason })
}

// raw is a client that sends bytes.
type raw struct {
	t testing.TB
	*tls.Conn
}

func (l *lab) raw(d *device) raw { return raw{l.t, l.dial(d)} }

func (r raw) send(b ...byte) {
	r.t.Helper()
	_, err := r.Write(b)
	require.NoError(r.t, err)
}

// packet reads the next packet.
func (r raw) packet() []byte {
	r.t.Helper()
	return packet(r.read())
}

// read reads the next packet, without its length.
func (r raw) read() (head byte, body []byte) {
	r.t.Helper()
	require.NoError(r.t, r.SetReadDeadline(time.Now().Add(patience)))
	next := func() byte {
		b := make([]byte, 1)
		_, err := io.ReadFull(r, b)
		require.NoError(r.t, err)
		return b[0]
	}
	head = next()
	length, shift := 0, 0
	for more := byte(0x80); more >= 0x80; shift += 7 {
		more = next()
		length |= int(more&0x7f) << shift
	}
	body = make([]byte, length)
	_, err := io.ReadFull(r, body)
	require.NoError(r.t, err)
	return head, body
}

// closed reads until the server has closed the connection, and returns what came before.
func (r raw) closed() []byte {
	r.t.Helper()
	require.NoError(r.t, r.SetReadDeadline(time.Now().Add(patience)))
	rest, err := io.ReadAll(r)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		require.FailNow(r.t, "the server did not close the connection")
	}
	return rest
}

// text is a string as MQTT has it.
func text(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

// packet is an MQTT packet.
func packet(head byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	out := []byte{head}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			b |= 0x80
		}
		out = append(out, b)
		if n == 0 {
			break
		}
	}
	return append(out, body...)
}

// connect3 is a CONNECT of MQTT 3.1.1 with a clean session.
func connect3(id string) []byte {
	return packet(0x10, text("MQTT"), []byte{4, 2, 0, 60}, text(id))
}

// publish3 is a PUBLISH of MQTT 3.1.1.
func publish3(topic string, qos byte, payload string) []byte {
	id := []byte{0, 7}
	if qos == 0 {
		id = nil
	}
	return packet(0x30|qos<<1, text(topic), id, []byte(payload))
}

// mqtt3 connects a client of MQTT 3.1.1.
func (l *lab) mqtt3(d *device, id string) raw {
	l.t.Helper()
	r := l.raw(d)
	r.send(connect3(id)...)
	require.Equal(l.t, []byte{0x20, 2, 0, 0}, r.packet())
	return r
}
