// Package connect lets a device say hello to AWS IoT with what is in its folder, and explains what went wrong as far as the
// wire tells. It is one file, to be copied and changed: it needs the standard library and the MQTT 5 client alone.
//
//	device, err := connect.Load("devices/pump-1")
//	…
//	err = device.Hello(ctx, connect.Options{})
package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// Thing is thing.json, as far as a device needs it.
type Thing struct {
	ThingName      string `json:"thingName"`
	ThingARN       string `json:"thingArn"`
	CertificateARN string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
	Endpoint       string `json:"endpoint"`
	ClientID       string `json:"clientId"`
	Region         string `json:"region"`
	Fake           bool   `json:"fake"`
}

// Device is what a device has to connect with.
type Device struct {
	Thing
	certificate tls.Certificate
	roots       *x509.CertPool
}

// The steps of a device on its way.
const (
	StepFiles     = "files"     // its own files do not do
	StepReach     = "reach"     // DNS, or the port
	StepTrust     = "trust"     // the TLS handshake
	StepConnect   = "connect"   // CONNECT: the certificate, or iot:Connect
	StepSubscribe = "subscribe" // iot:Subscribe
	StepPublish   = "publish"   // iot:Publish
	StepAnswer    = "answer"    // iot:Receive, or nobody answers
)

// Refusal is where a device was stopped, and why.
type Refusal struct {
	Step   string // one of the steps
	Text   string // what happened
	Advice string // what to look at; several lines
	Err    error  // what the network, TLS or MQTT library returned; may be nil
}

// Error returns the step and what happened.
func (r *Refusal) Error() string { return r.Step + ": " + r.Text }

// Unwrap returns the library's error.
func (r *Refusal) Unwrap() error { return r.Err }

// Load reads a device's folder: thing.json, certificate.pem, private-key.pem and root-ca.pem.
func Load(dir string) (*Device, error) {
	var files [4][]byte
	for i, name := range []string{"thing.json", "certificate.pem", "private-key.pem", "root-ca.pem"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, &Refusal{StepFiles, err.Error(), "Give the folder of a device that is provisioned, devices/<thing>." + map[string]string{
				"private-key.pem": " A device that made its own key keeps it: put it there for this trial.",
				"root-ca.pem":     " It holds what the server is known by: Amazon's roots, or those of your own endpoint.",
			}[name], err}
		}
		files[i] = data
	}
	var thing Thing
	if err := json.Unmarshal(files[0], &thing); err != nil {
		return nil, &Refusal{StepFiles, "thing.json cannot be read: " + err.Error(), "Deliver the device again.", err}
	}
	return New(thing, files[1], files[2], files[3])
}

// New makes a device of what its files hold. Certificate, private key and roots are PEM.
func New(thing Thing, certificate, key, roots []byte) (*Device, error) {
	d := &Device{Thing: thing, roots: x509.NewCertPool()}
	if !d.roots.AppendCertsFromPEM(roots) {
		return nil, &Refusal{Step: StepFiles, Text: "root-ca.pem has no certificate", Advice: "Take Amazon's roots, or those of your own endpoint."}
	}
	var err error
	if d.certificate, err = tls.X509KeyPair(certificate, key); err != nil {
		return nil, &Refusal{StepFiles, "certificate and private key do not fit together: " + strings.TrimPrefix(err.Error(), "tls: "),
			"The key must be the one that the certificate was requested with. Another device's file may be in this folder.", err}
	}
	return d, nil
}

// Options say where and what. The zero value is the endpoint of thing.json on port 8883.
type Options struct {
	Endpoint string        // HOST:PORT or HOST in place of thing.json's
	ALPN     bool          // MQTT on port 443, for networks that block 8883
	Topic    string        // {thing} is the thing's name; devices/{thing}/hello if empty, which template.OwnTopics allows
	Message  string        // "hello from" and the client id if empty
	Timeout  time.Duration // for each step; 15 s if zero
	Attempts int           // of connections that are refused: 2 or more with just-in-time registration; 1 if zero

	Progress func(text string)                                                 // what has been reached; nil for none
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // nil for the network
}

// TopicOf returns the topic on which a thing says hello.
func (o Options) TopicOf(thing string) string {
	topic := o.Topic
	if topic == "" {
		topic = "devices/{thing}/hello"
	}
	return strings.ReplaceAll(topic, "{thing}", thing)
}

// alpn is the protocol name that AWS IoT expects for MQTT with a client certificate on port 443.
const alpn = "x-amzn-mqtt-ca"

// Hello connects, subscribes to a topic, publishes a message on it and waits until it comes back. The error is a
// [*Refusal], or the context's.
//
// A connection that is refused is tried Attempts times, a second apart at first and twice as long each time: with
// just-in-time registration or provisioning the first connection is closed while AWS IoT makes the certificate known.
func (d *Device) Hello(ctx context.Context, o Options) error {
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	o.Topic = o.TopicOf(d.ThingName)
	if o.Message == "" {
		o.Message = "hello from " + d.ClientID
	}
	if strings.ContainsAny(o.Topic, "+#") {
		return &Refusal{Step: StepPublish, Text: "the topic " + o.Topic + " has a wildcard", Advice: "A message is published on one topic: give one without + and #."}
	}
	pause := time.Second
	for attempt := 1; ; attempt++ {
		err := d.hello(ctx, o)
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Step != StepConnect || attempt >= o.Attempts {
			return err
		}
		o.Progress(fmt.Sprintf("refused, as the first connection is with just-in-time registration; trying again in %v", pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause *= 2
	}
}

func (d *Device) hello(ctx context.Context, o Options) error {
	conn, err := d.dial(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()

	// paho tells how the server has ended a connection, and its calls wait for an answer all the same.
	open, end := context.WithCancelCause(ctx)
	defer end(nil)
	answers := make(chan string, 1)
	client := paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), PacketTimeout: o.Timeout,
		OnServerDisconnect: func(p *paho.Disconnect) { end(disconnected(p.ReasonCode)) },
		OnClientError:      func(err error) { end(err) },
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			if p.Packet.Topic == o.Topic {
				select {
				case answers <- string(p.Packet.Payload):
				default:
				}
			}
			return true, nil
		}},
	})
	ack, err := client.Connect(ctx, &paho.Connect{ClientID: d.ClientID, CleanStart: true, KeepAlive: 60})
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return d.notConnected(o, ack, err)
	}
	defer func() { _ = client.Disconnect(&paho.Disconnect{}) }()
	o.Progress("connected as client " + d.ClientID)

	inTime, cancel := context.WithTimeout(open, o.Timeout)
	defer cancel()
	subscribed, err := client.Subscribe(inTime, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: o.Topic, QoS: 1}}})
	if err != nil {
		code := byte(0)
		if subscribed != nil && len(subscribed.Reasons) > 0 {
			code = subscribed.Reasons[0]
		}
		return d.refused(ctx, inTime, StepSubscribe, code, err, o.Topic)
	}
	o.Progress("subscribed to " + o.Topic)
	published, err := client.Publish(inTime, &paho.Publish{Topic: o.Topic, QoS: 1, Payload: []byte(o.Message)})
	if err != nil {
		code := byte(0)
		if published != nil {
			code = published.ReasonCode
		}
		return d.refused(ctx, inTime, StepPublish, code, err, o.Topic)
	}
	o.Progress(fmt.Sprintf("published %q", o.Message))
	select {
	case text := <-answers:
		o.Progress(fmt.Sprintf("received %q", text))
		return nil
	case <-inTime.Done():
		return d.refused(ctx, inTime, StepAnswer, 0, inTime.Err(), o.Topic)
	}
}

// disconnected is the reason code of a DISCONNECT by which the server has ended a connection.
type disconnected byte

func (d disconnected) Error() string { return fmt.Sprintf("DISCONNECT %#x%s", byte(d), name(byte(d))) }

// dial opens a TLS connection to the endpoint.
func (d *Device) dial(ctx context.Context, o Options) (net.Conn, error) {
	host, port := d.address(o)
	if host == "" {
		return nil, &Refusal{Step: StepReach, Text: "thing.json has no endpoint", Advice: "Give -endpoint HOST:PORT."}
	}
	address := net.JoinHostPort(host, port)
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	inTime, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	raw, err := dial(inTime, "tcp", address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, d.notReached(address, host, port, err)
	}
	config := &tls.Config{
		ServerName: host, RootCAs: d.roots, MinVersion: tls.VersionTLS12,
		// Whatever authorities the server names: its refusal tells more than a device that shows no certificate.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &d.certificate, nil },
	}
	if o.ALPN {
		config.NextProtos = []string{alpn}
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(inTime); err != nil {
		_ = raw.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, d.notTrusted(address, err)
	}
	state := conn.ConnectionState()
	o.Progress(fmt.Sprintf("reached %s over %s; its certificate is of %s", address, tls.VersionName(state.Version), issuer(state.PeerCertificates[0])))
	return conn, nil
}

// address returns where the device connects to; no host if nothing tells.
func (d *Device) address(o Options) (host, port string) {
	address := o.Endpoint
	if address == "" {
		address = d.Endpoint
	}
	host, port, err := net.SplitHostPort(address)
	switch {
	case err == nil:
		return host, port
	case o.ALPN:
		return address, "443"
	}
	return address, "8883"
}

// notReached explains an error before TLS.
func (d *Device) notReached(address, host, port string, err error) *Refusal {
	r := &Refusal{Step: StepReach, Text: fmt.Sprintf("%s: %v", address, err), Err: err}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		r.Text = "there is no host " + host
		r.Advice = "Is the endpoint in thing.json that of the account and region? Compare it with: aws iot describe-endpoint --endpoint-type iot:Data-ATS"
		if d.Fake && host == d.Endpoint {
			r.Advice = "The device was registered on the fake, where the endpoint is a name only. If it was on examples/fakeaws -mqtt, give the gateway in MQTT_ENDPOINT or -endpoint HOST:PORT. " +
				"The account of bulkprovision -backend fake is in that program alone: try the device with its -connect."
		}
	case errors.As(err, &dns):
		r.Text = fmt.Sprintf("the name %s could not be looked up: %v", host, err)
		r.Advice = "Is this machine on a network, and does its name server answer?"
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Text = "nothing listens on " + address
		r.Advice = fmt.Sprintf("AWS IoT listens on 8883, and on 443 with -alpn. Is %s the port that was meant?", port)
		if ip := net.ParseIP(host); host == "localhost" || ip.IsLoopback() {
			r.Advice = "For examples/fakeaws -mqtt give the endpoint that it prints, in MQTT_ENDPOINT or as -endpoint localhost:PORT."
		}
	case errors.As(err, &timeout) && timeout.Timeout():
		r.Text = "no answer from " + address
		r.Advice = fmt.Sprintf("A firewall may drop port %s. Many networks that block 8883 leave 443 open: try -alpn.", port)
	}
	return r
}

// notTrusted explains an error of the TLS handshake.
func (d *Device) notTrusted(address string, err error) *Refusal {
	r := &Refusal{Step: StepTrust, Text: fmt.Sprintf("the TLS handshake with %s failed: %v", address, err), Err: err}
	now := time.Now().UTC().Format(time.RFC3339)
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		r.Text = fmt.Sprintf("the server's certificate is valid from %s to %s, and this clock is at %s",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339), now)
		r.Advice = "Set this machine's clock. A device without one must get the time before it connects."
	case errors.As(err, &authority):
		r.Text = fmt.Sprintf("root-ca.pem has no root for the server's certificate, which is of %s", issuer(authority.Cert))
		r.Advice = "Either this is not the server that was meant, such as a proxy that opens TLS, or root-ca.pem is of another one. " +
			"For AWS take Amazon's roots, for examples/fakeaws GET /_fake/root.pem."
	case errors.As(err, &name):
		r.Text = fmt.Sprintf("the server at %s is another one: %v", address, err)
		r.Advice = "Connect by the endpoint's own name, and not by an IP address."
	case errors.As(err, &noTLS):
		r.Text = address + " does not speak TLS"
		r.Advice = "Is the port right? A login page or a plain MQTT port (1883) answers so."
	case alert(err) == "protocol version not supported":
		r.Text = "the server refuses this version of TLS"
		r.Advice = "AWS IoT takes TLS 1.2 and 1.3, by the endpoint's security policy: aws iot describe-domain-configuration."
	case alert(err) == "unrecognized name":
		r.Text = "the server knows no such name"
		r.Advice = "Connect by the endpoint's own name, and not by an IP address."
	case alert(err) == "no application protocol":
		r.Text = "the server does not take the protocol name " + alpn
		r.Advice = "With -alpn the endpoint must be that of devices (iot:Data-ATS), on port 443."
	case strings.Contains(alert(err), "certificate"):
		r.Text = "the server refuses the device's certificate: " + alert(err)
		r.Advice = d.certificateAdvice()
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		r.Text = address + " ended the connection in the TLS handshake"
		r.Advice = "A firewall, or a server that does not take TLS 1.2 and 1.3, does so."
	case strings.Contains(err.Error(), "protocol version"), strings.Contains(err.Error(), "no supported versions"):
		r.Advice = "AWS IoT takes TLS 1.2 and 1.3."
	case errors.Is(err, context.DeadlineExceeded):
		r.Text = address + " accepts the connection and does not answer in TLS"
		r.Advice = "Is the port right? A proxy in between may hold the connection."
	}
	return r
}

// alert is the name of the TLS alert by which the server has ended a connection; "" if it did not. crypto/tls has no type for
// it.
func alert(err error) string {
	var remote *net.OpError
	if !errors.As(err, &remote) || remote.Op != "remote error" {
		return ""
	}
	return strings.TrimPrefix(remote.Err.Error(), "tls: ")
}

// notConnected explains why there was no CONNACK, or one that refuses.
func (d *Device) notConnected(o Options, ack *paho.Connack, err error) *Refusal {
	r := &Refusal{Step: StepConnect, Err: err}
	switch {
	case ack != nil && ack.ReasonCode >= 0x80:
		r.Text = fmt.Sprintf("AWS IoT refuses the connection: CONNACK %#x%s", ack.ReasonCode, name(ack.ReasonCode))
		r.Advice = map[byte]string{
			0x85: "A client id has 1 to 128 bytes, and does not begin with $.",
			0x97: "A quota of the account is used up, such as connections a second: try again later.",
		}[ack.ReasonCode]
	case alert(err) != "": // in TLS 1.3 it comes after the handshake
		r.Text = "the server refuses the device's certificate: " + alert(err)
	case errors.Is(err, context.DeadlineExceeded):
		r.Text = "the server does not answer the CONNECT"
		r.Advice = "Is it an MQTT server? Port 443 needs -alpn."
	default:
		r.Text = fmt.Sprintf("AWS IoT closed the connection without an answer to the CONNECT (%v)", err)
	}
	if r.Advice == "" {
		r.Advice = d.connectAdvice()
		if host, _ := d.address(o); net.ParseIP(host) != nil {
			r.Advice += "\nOr the certificate needs the server's name in the TLS handshake, which an IP address does not give: connect by the endpoint's own name, or localhost."
		}
	}
	return r
}

// connectAdvice is what to ask the account, since the wire does not tell a certificate that is unknown or inactive from a
// policy that does not allow the connection.
func (d *Device) connectAdvice() string {
	return d.certificateAdvice() + "\nOr no policy of the certificate, its thing's groups included, allows iot:Connect for client id " + d.ClientID + ":\n  " +
		d.ask("CONNECT", "client/"+d.ClientID) + d.events()
}

// events is where the fake tells what AWS IoT does not.
func (d *Device) events() string {
	if !d.Fake {
		return ""
	}
	return "\nThe fake tells which it is: curl \"$AWS_ENDPOINT_URL/_fake/events\", where that is the address of examples/fakeaws."
}

func (d *Device) certificateAdvice() string {
	text := "The certificate may not be ACTIVE, or not be in this account and region:\n  aws iot describe-certificate --query certificateDescription.status --certificate-id " + d.CertificateID + d.region()
	leaf := d.certificate.Leaf
	if now := time.Now(); leaf != nil && (now.Before(leaf.NotBefore) || now.After(leaf.NotAfter)) {
		text += fmt.Sprintf("\nIt is valid from %s to %s, and this clock is at %s.",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return text
}

// ask is the command that asks the account about one action. resource is what comes after the account's number in an ARN.
func (d *Device) ask(action, resource string) string {
	account, _, _ := strings.Cut(d.ThingARN, ":thing/")
	return fmt.Sprintf("aws iot test-authorization --principal %s --client-id %s --auth-infos actionType=%s,resources=%s:%s%s",
		d.CertificateARN, d.ClientID, action, account, resource, d.region())
}

// region is the flag for the region of the device's certificate, which may be another than that of the command's profile.
func (d *Device) region() string {
	if arn := strings.Split(d.CertificateARN, ":"); len(arn) > 3 {
		return " --region " + arn[3]
	}
	return ""
}

// refused explains what ended a connection that was established: an answer with a code, or else what ends inTime.
func (d *Device) refused(ctx, inTime context.Context, step string, code byte, err error, topic string) error {
	var reason disconnected
	if code == 0 && !errors.Is(err, paho.ErrInvalidArguments) {
		<-inTime.Done()
		err = context.Cause(inTime)
		reason, _ = errors.AsType[disconnected](err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	action, resources := map[string]string{StepSubscribe: "SUBSCRIBE", StepPublish: "PUBLISH", StepAnswer: "RECEIVE"}[step], "topic/"+topic
	if step == StepSubscribe {
		resources = "topicfilter/" + topic
	}
	r := &Refusal{Step: step, Err: err, Advice: fmt.Sprintf("It seems that no policy of the certificate, its thing's groups included, allows iot:%s%s on %s:\n  %s%s",
		action[:1], strings.ToLower(action[1:]), resources, d.ask(action, resources), d.events())}
	switch max(byte(reason), code) {
	case 0x82, 0x8F, 0x90:
		r.Advice = "AWS IoT does not take this topic, whatever the policies are: it has 256 bytes and 7 slashes at most, and those that begin with $ are AWS's own." + d.events()
	}
	switch {
	case reason == 0x8E:
		r.Text = "another client with the client id " + d.ClientID + " has connected and taken over"
		r.Advice = "Two devices must not have the same client id, nor one device two connections. Is this device running elsewhere?"
	case reason >= 0x80:
		r.Text = fmt.Sprintf("AWS IoT ended the connection: %v", reason)
	case code >= 0x80:
		r.Text = fmt.Sprintf("AWS IoT refuses to %s %s: %#x%s", step, topic, code, name(code))
	case errors.Is(err, context.DeadlineExceeded) && step == StepAnswer:
		r.Text = "no message came back on " + topic
	case errors.Is(err, context.DeadlineExceeded):
		r.Text = "no acknowledgement came"
	case errors.Is(err, paho.ErrInvalidArguments): // the server does not offer what is asked for
		r.Text = err.Error()
	default:
		r.Text = fmt.Sprintf("the connection ended: %v", err)
	}
	return r
}

// issuer is who has made a certificate, for people.
func issuer(c *x509.Certificate) string {
	switch {
	case c == nil:
		return "another authority"
	case c.Issuer.CommonName != "":
		return c.Issuer.CommonName
	case len(c.Issuer.OrganizationalUnit) > 0:
		return c.Issuer.OrganizationalUnit[0]
	}
	return c.Issuer.String()
}

// name is MQTT 5's name of a reason code.
func name(code byte) string {
	switch code {
	case 0x81:
		return " (malformed packet)"
	case 0x82:
		return " (protocol error)"
	case 0x85:
		return " (client identifier not valid)"
	case 0x87:
		return " (not authorized)"
	case 0x8D:
		return " (keep alive timeout)"
	case 0x8F:
		return " (topic filter invalid)"
	case 0x90:
		return " (topic name invalid)"
	case 0x95:
		return " (packet too large)"
	case 0x97:
		return " (quota exceeded)"
	}
	return ""
}
