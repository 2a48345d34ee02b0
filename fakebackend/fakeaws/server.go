package fakeaws

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
)

// Server is a fake AWS that listens on a port of its own. Its fields may be read once it is started, and changed
// between [NewUnstartedServer] and a start.
type Server struct {
	// URL is the endpoint for clients, without a slash at the end. A start sets it. Of a Listener
	// on all of the machine's addresses it is the one at 127.0.0.1; clients elsewhere put this machine's name in.
	URL string
	// Listener is where the server accepts connections. NewUnstartedServer leaves it nil; Start and StartTLS then open
	// a free port of 127.0.0.1.
	Listener net.Listener
	// TLS, if set before StartTLS, is the configuration to use; without a certificate it gets one made for this server.
	TLS *tls.Config
	// Config is the HTTP server. Its Handler, BaseContext and ConnState are the Server's own.
	Config *http.Server
	// Handler answers the requests.
	Handler *Handler

	certificate *x509.Certificate
	transport   *http.Transport
	client      *http.Client
	stop        context.CancelFunc
	served      sync.WaitGroup // the goroutine that accepts, and every connection
	closed      sync.Once
}

// NewServer starts a server for an account on a free port of 127.0.0.1. The caller closes it.
func NewServer(b *fakebackend.Backend, opts Options) (*Server, error) {
	s := NewUnstartedServer(b, opts)
	if err := s.Start(); err != nil {
		return nil, err
	}
	return s, nil
}

// NewUnstartedServer makes a server that does not listen yet, so that its fields can be changed.
func NewUnstartedServer(b *fakebackend.Backend, opts Options) *Server {
	return &Server{Handler: NewHandler(b, opts), Config: &http.Server{ReadHeaderTimeout: time.Minute}}
}

// Start begins to serve HTTP on Listener, or on a free port of 127.0.0.1.
func (s *Server) Start() error {
	if err := s.listen(); err != nil {
		return err
	}
	s.transport = &http.Transport{}
	s.serve("http://" + reachable(s.Listener.Addr()))
	return nil
}

// StartTLS begins to serve HTTPS. Only [Server.Client] and whoever is given [Server.Certificate] trust it, unless TLS
// holds a certificate of the caller's.
func (s *Server) StartTLS() error {
	config := s.TLS.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if len(config.Certificates) == 0 && config.GetCertificate == nil {
		pair, err := selfSigned()
		if err != nil {
			return fmt.Errorf("fakeaws: make a TLS certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{*pair}
		s.certificate = pair.Leaf
	} else if len(config.Certificates) > 0 {
		leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
		if err != nil {
			return fmt.Errorf("fakeaws: read the TLS certificate: %w", err)
		}
		s.certificate = leaf
	}
	config.NextProtos = []string{"http/1.1"}
	if err := s.listen(); err != nil {
		return err
	}
	s.TLS = config
	address := reachable(s.Listener.Addr())
	s.Listener = tls.NewListener(s.Listener, config)
	s.transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}
	if s.certificate != nil {
		s.transport.TLSClientConfig.RootCAs.AddCert(s.certificate)
	}
	s.serve("https://" + address)
	return nil
}

func (s *Server) listen() error {
	if s.URL != "" {
		return errors.New("fakeaws: the server is started already")
	}
	if s.Listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("fakeaws: listen on a free port of 127.0.0.1: %w", err)
	}
	s.Listener = l
	return nil
}

// reachable is the address for clients of a listener: one that listens everywhere, as at 0.0.0.0 or [::], is reached on
// this machine at 127.0.0.1. The AWS CLI takes no endpoint http://[::]:4566.
func reachable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
}

func (s *Server) serve(url string) {
	s.URL = url
	s.client = &http.Client{Transport: s.transport}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	s.Config.Handler = s.Handler
	// A connection is new before Serve can return, and closed after its last handler has returned.
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.served.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.served.Done()
		}
	}
	s.served.Go(func() { _ = s.Config.Serve(s.Listener) })
}

// Client returns an HTTP client that reaches the server and trusts its certificate. Close ends its idle connections.
func (s *Server) Client() *http.Client { return s.client }

// Certificate returns the certificate of a server started with StartTLS, else nil.
func (s *Server) Certificate() *x509.Certificate { return s.certificate }

// Close stops the server: it accepts no more, ends the requests in progress (also those that a fault holds up) and
// waits until their handlers have returned. Closing twice does nothing.
func (s *Server) Close() {
	s.closed.Do(func() {
		if s.stop == nil {
			if s.Listener != nil {
				s.Listener.Close()
			}
			return
		}
		s.stop()
		_ = s.Config.Close()
		s.served.Wait()
		s.transport.CloseIdleConnections()
	})
}

// selfSigned makes a certificate for this machine's own names.
func selfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "iotfleet fake AWS"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
		DNSNames: []string{"localhost", "*.localhost", "*.s3.localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}, nil
}
