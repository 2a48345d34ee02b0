package wire

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"
)

// Devices is the account as a device gateway sees it. It is safe for concurrent use.
type Devices interface {
	Claims

	// Admit decides about a device that wants to connect, or to publish a message over HTTPS: its certificate must be
	// known, ACTIVE and within its dates, and its policies must allow iot:Connect for the client id (over MQTT). A
	// certificate of a CA with automatic registration is registered, and provisioned if the CA has a template; then it is
	// refused this one time.
	//
	// The error is a *[Refused], or the context's cause. Refusals are events already; the gateway records that the
	// device has connected.
	Admit(ctx context.Context, h Hello) (Device, error)
	// Watch has f called whenever something has changed on which decisions about devices depend: a certificate, a policy,
	// a thing, what is attached to what, and after a reset or a restore. f runs on the goroutine that made the change,
	// which waits for it, and several calls may run at once. It may use the account.
	Watch(f func()) (stop func())
	// Epoch counts the resets and restores. It has changed when Watch calls.
	Epoch() uint64
	// Record adds an event of the gateway's own: number and time are filled in.
	Record(e Event)
	// ServerTLS returns a certificate for the names and IP addresses, signed by the root CA (RootCA), that is good from
	// 1999 to 2049. Reset leaves the root as it is; after Restore it may be another one.
	ServerTLS(hosts []string) (tls.Certificate, error)
	// Attach makes DescribeEndpoint return a host (without a port) as the one that devices connect to, until detach.
	// The last one attached counts. A device that names the host or one of the other names in its TLS handshake names the
	// endpoint.
	Attach(host string, names ...string) (detach func())
	// Endpoint returns the host that DescribeEndpoint returns when no gateway is attached.
	Endpoint() string
}

// Hello is what a device showed when it connected.
type Hello struct {
	Chain      [][]byte   // the certificates it sent, its own first, in DER
	ServerName string     // of the TLS handshake (SNI); "" if it sent none
	ClientID   string     // of the MQTT connection; "" for a publish over HTTPS
	Source     netip.Addr // zero if unknown
	Protocol   string     // ProtocolMQTT or ProtocolHTTPS
	Persistent bool       // it asks for a session that is kept (iot:ConnectAttributes PersistentConnect)
	WillTopic  string     // of its will (iot:LastWillTopic); "" without one
}

// The protocols of a Hello.
const (
	ProtocolMQTT  = "mqtt"
	ProtocolHTTPS = "https"
)

// Device is a device that was admitted. It is safe for concurrent use.
type Device interface {
	// Allows reports whether the certificate is ACTIVE and the policies allow an action now: iot:Publish, iot:RetainPublish
	// or iot:Receive on a topic, iot:Subscribe on a topic filter. A refusal is an event. While the account has not changed
	// it takes no lock, and allocates nothing unless it refuses.
	Allows(action, name string) bool
	// Active reports whether the certificate is still registered and ACTIVE. A connection must end once it is not.
	Active() bool
	// CertificateID returns the id of its certificate.
	CertificateID() string
	// ThingName returns the name of the thing that it connects as: the one that the certificate is attached to and that
	// has the client id for its name, or the one that it is attached to exclusively. It is "" if there is none.
	ThingName() string
	// Event returns an event about the device, for Record: who and where are filled in.
	Event(kind, text string) Event
}

// Refused is why a device was not admitted.
type Refused struct {
	// Reason is a word for programs, one of those below.
	Reason string
	// Text is a sentence for people.
	Text string
	// Messages are for the gateway to publish before it closes the connection, in whatever way.
	Messages []Message
	// Cut means that a fault ends the connection without an answer.
	Cut bool
}

// Error returns the text.
func (r *Refused) Error() string { return r.Text }

// Message is a message that the account publishes.
type Message struct {
	Topic   string
	Payload []byte
}

// The reasons of a refusal.
const (
	NoCertificate      = "no-certificate"
	BadCertificate     = "bad-certificate" // it cannot be read
	UnknownCertificate = "unknown-certificate"
	Inactive           = "inactive"
	Revoked            = "revoked"
	PendingActivation  = "pending-activation"
	NotYetValid        = "not-yet-valid"
	Expired            = "expired"
	WrongServerName    = "server-name"         // missing, or not the endpoint's
	NoConnect          = "no-connect"          // the policies do not allow iot:Connect
	JustRegistered     = "registered"          // just-in-time registration: the certificate is now PENDING_ACTIVATION
	JustProvisioned    = "provisioned"         // just-in-time provisioning: the next connection is let in
	ProvisioningFailed = "provisioning-failed" // the template of the CA failed
	Faulty             = "fault"               // a fault that was set
)

// Event has the fields of fakebackend.Event, which documents them.
type Event struct {
	Number          uint64
	Time            time.Time
	Kind            string
	Reason          string
	ClientID        string
	CertificateID   string
	CACertificateID string
	ThingName       string
	Source          string
	Protocol        string
	Action          string
	Resource        string
	PolicyName      string
	Statement       int
	SID             string
	TaskID          string
	Text            string
}

// The kinds of events.
const (
	EventConnected    = "connected"
	EventDisconnected = "disconnected"
	EventRefused      = "refused"
	EventRegistered   = "registered"
	EventIssued       = "issued"
	EventProvisioned  = "provisioned"
	EventFailed       = "provisioning-failed"
	EventTaskStarted  = "task-started"
	EventTaskEnded    = "task-ended"
	EventReset        = "reset"
	EventRestored     = "restored"
	EventMissed       = "missed"
)
