package fakegateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// Options are how a gateway differs from the usual one. The zero value is the usual one.
type Options struct {
	// Registered, if set, is called for each certificate that just-in-time registration has registered, as the Lambda
	// function of AWS's examples is called by a rule on $aws/events/certificates/registered/+. It runs on a goroutine of
	// its own, which Close waits for, while the device's connection is being refused. Up to 1,000 run at once, which is
	// Lambda's default, too; more devices wait for one to end, up to ConnectTimeout. It may use the fake. ctx ends when the
	// gateway is closed. A panic in it ends the program, like in any goroutine.
	Registered func(ctx context.Context, r Registration)
	// Hosts are names and IP addresses by which others reach the gateway over a network. The server's certificate is good
	// for them, beside localhost, 127.0.0.1, ::1 and the account's AWS-shaped name, and a device that sends one of these names
	// in the TLS handshake (SNI) has named its endpoint. The first one takes the place of
	// localhost in Endpoint, and in what DescribeEndpoint returns.
	Hosts []string
	// ConnectTimeout is how long a client may take from the first byte of its TLS handshake to the end of its CONNECT, and
	// how long the account may take to decide about it. Default 30 s; AWS documents no time.
	ConnectTimeout time.Duration
}

// Registration is the payload of $aws/events/certificates/registered/<caCertificateId>.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/auto-register-device-cert.html
type Registration struct {
	CertificateID     string `json:"certificateId"`
	CACertificateID   string `json:"caCertificateId"`
	Timestamp         int64  `json:"timestamp"`         // milliseconds since 1970
	CertificateStatus string `json:"certificateStatus"` // PENDING_ACTIVATION
	AWSAccountID      string `json:"awsAccountId"`
	// RegistrationTimestamp is when the certificate was registered, in milliseconds since 1970, and null at the connection
	// that registers it.
	RegistrationTimestamp *string `json:"certificateRegistrationTimestamp"`
}

// Server is the device gateway of one fake account. Its methods are safe for concurrent use.
type Server struct {
	// Endpoint is where devices connect to: the first of Options.Hosts, or localhost, or the address of a listener that is
	// neither on this machine's own nor on all addresses, with the port. A start sets it.
	Endpoint string
	// Listener is where the server accepts connections. NewUnstartedServer leaves it nil; Start then opens a free port of
	// 127.0.0.1.
	Listener net.Listener

	fake      *fakebackend.Backend
	account   wire.Account
	opts      Options
	questions []question
	broker    *mqtt.Server
	inline    *mqtt.Client // who publishes AWS IoT's own messages
	web       *http.Server
	requests  *handedOver   // connections that speak HTTP
	calls     chan struct{} // one for each call of Options.Registered that is running

	tls      *tls.Config
	identity atomic.Pointer[identity]
	ctx      context.Context
	stop     context.CancelFunc
	changed  chan struct{} // the account has changed
	undo     []func()
	running  sync.WaitGroup // all goroutines

	mu       sync.Mutex
	closed   bool
	open     map[net.Conn]struct{}
	sessions map[string]*session // by client id
	versions map[string]version  // likewise
	pruneAt  int

	// handover is held for reading while the broker hands a message over to clients, and for writing while one connection
	// takes the place of another there, and while everything is forgotten.
	handover sync.RWMutex
	epoch    atomic.Uint64 // of the account, that retained messages and sessions are of
}

const (
	listenerID    = "gateway"
	hostName      = "localhost"
	defaultWait   = 30 * time.Second
	writesPending = 1024             // messages that the broker keeps for a client before this package queues them
	inflightLimit = 1024             // messages with QoS 1 that the broker keeps for a client until it acknowledges them
	never         = 1 << 30          // seconds
	sessionLimit  = 3600             // seconds for which a session without a connection is kept: AWS IoT's default quota
	closeGrace    = 2 * closeTimeout // for connections to end by themselves when the server is closed
	acceptPause   = time.Second / 20 // after an error of Accept, such as too many open files
	callLimit     = 1000             // calls of Options.Registered at once
)

// NewServer starts a gateway for an account on a free port of 127.0.0.1. The caller closes it.
func NewServer(fake *fakebackend.Backend, opts Options) (*Server, error) {
	s := NewUnstartedServer(fake, opts)
	if err := s.Start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// NewUnstartedServer makes a gateway that listens nowhere, and that devices of the same process reach with [Server.Dial].
// The caller closes it. Its Listener can be set before Start.
func NewUnstartedServer(fake *fakebackend.Backend, opts Options) *Server {
	if opts.ConnectTimeout <= 0 {
		opts.ConnectTimeout = defaultWait
	}
	s := &Server{
		fake: fake, account: wire.Of(fake), opts: opts, changed: make(chan struct{}, 1), pruneAt: versionsKept, calls: make(chan struct{}, callLimit),
		questions: claimQuestions(wire.Of(fake)), open: map[net.Conn]struct{}{}, sessions: map[string]*session{}, versions: map[string]version{},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumMessageExpiryInterval = 0 // none but the message's own
	capabilities.MaximumClientWritesPending = writesPending
	capabilities.MaximumSessionExpiryInterval = sessionLimit
	capabilities.ReceiveMaximum = unackedLimit
	capabilities.MaximumInflight = inflightLimit
	capabilities.TopicAliasMaximum = aliasLimit
	capabilities.MinimumProtocolVersion = 4
	capabilities.MaximumQos = 1
	s.broker = mqtt.New(&mqtt.Options{
		Capabilities: capabilities, Logger: slog.New(slog.DiscardHandler), SysTopicResendInterval: never,
		ClientNetReadBufferSize: 16, ClientNetWriteBufferSize: 1, // transport has buffers of its own
	})
	_ = s.broker.AddHook(&hook{server: s}, nil) // neither this nor Serve can fail without storage
	_ = s.broker.Serve()
	for topic := range s.broker.Topics.Retained.GetAll() { // the broker's $SYS topics, which AWS IoT does not have
		s.broker.Topics.Retained.Delete(topic)
	}
	s.inline = s.broker.NewClient(nil, listenerID, "", true)
	s.tls = s.tlsConfig()
	s.requests = newHandedOver()
	s.web = s.newWeb()
	s.epoch.Store(s.account.Epoch())
	s.undo = []func(){s.account.Attach(s.host(), append([]string{hostName}, opts.Hosts...)...), s.account.Watch(func() {
		s.startAnew()
		select {
		case s.changed <- struct{}{}:
		default: // it will be looked at anyway
		}
	})}
	s.running.Go(s.watch)
	s.running.Go(func() { _ = s.web.Serve(s.requests) })
	return s
}

// Start begins to accept connections on Listener, or on a free port of 127.0.0.1.
func (s *Server) Start() error {
	if s.Endpoint != "" {
		return errors.New("fakegateway: the server is started already")
	}
	if s.Listener == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("fakegateway: listen on a free port of 127.0.0.1: %w", err)
		}
		s.Listener = l
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = s.Listener.Close()
		return errClosed
	}
	s.Endpoint = s.reachable(s.Listener.Addr())
	s.running.Go(s.accept)
	return nil
}

var errClosed = errors.New("fakegateway: the server is closed")

// reachable is the address for clients of a listener. On this machine it has the name localhost, since a client sends no
// IP address as the server's name.
func (s *Server) reachable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return a.String()
	}
	host := s.host()
	if len(s.opts.Hosts) == 0 && !tcp.IP.IsUnspecified() && !tcp.IP.IsLoopback() {
		host = tcp.IP.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}

// host is the name of the gateway for devices.
func (s *Server) host() string {
	if len(s.opts.Hosts) > 0 {
		return s.opts.Hosts[0]
	}
	return hostName
}

func (s *Server) accept() {
	for {
		conn, err := s.Listener.Accept()
		if err == nil {
			_ = s.take(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		pause := time.NewTimer(acceptPause)
		select {
		case <-pause.C:
		case <-s.ctx.Done():
			pause.Stop()
			return
		}
	}
}

// Dial connects a device to the gateway within the process, as a TCP connection to Endpoint would. What is returned is
// the network below TLS: the client makes its handshake on it, with localhost as the server's name. It fails once the server
// is closed.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	near, far := newPipe()
	if err := s.take(far); err != nil {
		_ = near.Close()
		return nil, err
	}
	return near, nil
}

// take serves a connection.
func (s *Server) take(raw net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = raw.Close()
		return errClosed
	}
	s.open[raw] = struct{}{}
	s.running.Go(func() { s.serve(raw) })
	return nil
}

// dropped forgets a connection that has ended.
func (s *Server) dropped(raw net.Conn) {
	_ = raw.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, raw)
}

// Close ends all connections: those of MQTT 5 get a DISCONNECT. It waits until everything the server runs has ended,
// which the functions in Options may hold up. Closing twice does nothing.
func (s *Server) Close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if !first {
		return
	}
	sessions := s.connected() // no other one claims a client id from here on
	for _, c := range sessions {
		c.end(packets.ErrServerShuttingDown, byServer, "the gateway is closed")
	}
	s.stop() // later, or a request that is cut off by it would be the reason
	if s.Listener != nil {
		s.Listener.Close()
	}
	for _, undo := range s.undo {
		undo()
	}
	_ = s.web.Close()
	s.cutWhen(sessions)
	s.running.Wait()
	_ = s.broker.Close()
}

// cutWhen closes what is below TLS of all connections, once the sessions have ended or closeGrace has passed.
func (s *Server) cutWhen(sessions []*session) {
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	for _, c := range sessions {
		select {
		case <-c.conn.gone:
			continue
		case <-grace.C:
		}
		break
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for raw := range s.open {
		_ = raw.Close()
	}
}

// watch ends the connections whose certificates are no longer ACTIVE, each time the account has changed.
func (s *Server) watch() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.changed:
		}
		begin := time.Now()
		for _, c := range s.connected() {
			if c.established.Load() {
				c.check()
			}
		}
		// With many devices, an account that changes all the time is not to be kept busy by this.
		pause := time.NewTimer(min(4*time.Since(begin), time.Second))
		select {
		case <-s.ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// connected returns the sessions.
func (s *Server) connected() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.sessions))
}

// claim makes c the session with its client id, and returns the one that was. It fails once the server is closed.
func (s *Server) claim(c *session) (old *session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	old = s.sessions[c.id]
	s.sessions[c.id] = c
	return old, nil
}

// forget takes a session out, unless another one has its client id by now.
func (s *Server) forget(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[c.id] == c {
		delete(s.sessions, c.id)
	}
}

// record adds an event.
func (s *Server) record(e wire.Event) { s.account.Record(e) }

// registered calls Options.Registered for the message of a just-in-time registration. It fails if ctx ends before there is
// room for one more call.
func (s *Server) registered(ctx context.Context, m wire.Message) error {
	var r Registration
	if s.opts.Registered == nil || !strings.HasPrefix(m.Topic, eventTopics+"certificates/registered/") || json.Unmarshal(m.Payload, &r) != nil {
		return nil
	}
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%d calls of Options.Registered have not ended: %w", callLimit, context.Cause(ctx))
	}
	s.running.Go(func() {
		defer func() { <-s.calls }()
		s.opts.Registered(s.ctx, r)
	})
	return nil
}

// identity is the server's certificate, made under a root.
type identity struct {
	root        []byte
	certificate tls.Certificate
}

// certificate returns the server's certificate for devices that trust the fake's root.
func (s *Server) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	root := s.fake.RootCA()
	if id := s.identity.Load(); id != nil && bytes.Equal(id.root, root) {
		return &id.certificate, nil
	}
	id := &identity{root: root}
	hosts := append([]string{hostName, "127.0.0.1", "::1", s.account.Endpoint()}, s.opts.Hosts...)
	var err error
	if id.certificate, err = s.account.ServerTLS(hosts); err != nil {
		return nil, err
	}
	s.identity.Store(id)
	return &id.certificate, nil
}

// newUUID returns a random UUID.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
