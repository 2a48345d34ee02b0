package fakegateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/operation"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Publishing over HTTPS: POST /topics/TOPIC?qos=1.
//
// Models: the client certificate, qos, retain, and the policies. Not modelled: requests signed with an access key, other
// requests of the data plane, WebSocket.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/http.html,
// https://docs.aws.amazon.com/iot/latest/apireference/API_iotdata_Publish.html

// newWeb makes the server of the connections that speak HTTP.
func (s *Server) newWeb() *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(s.serveHTTP), ReadHeaderTimeout: s.opts.ConnectTimeout, ReadTimeout: time.Minute,
		WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog:    slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, helloKey{}, c.(*webConn).hello)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				close(c.(*webConn).done)
			}
		},
	}
}

type helloKey struct{}

// serveHTTP answers a request.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c := &session{server: s, hello: r.Context().Value(helloKey{}).(wire.Hello)}
	status, code, message := s.publishHTTP(c, r)
	if status == 0 { // a fault
		panic(http.ErrAbortHandler)
	}
	answer := struct {
		Message string `json:"message"`
		TraceID string `json:"traceId"`
	}{message, newUUID()}
	body, _ := json.Marshal(answer) // it has strings only
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-RequestId", answer.TraceID)
	if code != "" {
		w.Header().Set("X-Amzn-ErrorType", code)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// publishHTTP publishes the message of a request. It returns what to answer; no status asks to cut the connection.
func (s *Server) publishHTTP(c *session, r *http.Request) (status int, code, message string) {
	refuse := func(status int, code, reason, text string) (int, string, string) {
		s.record(c.event(wire.EventRefused, reason, fmt.Sprintf("%s %s: %s", r.Method, cut(r.URL.Path), text)))
		return status, code, text
	}
	topic, ok := strings.CutPrefix(r.URL.Path, "/topics/")
	switch {
	case r.Header.Get("Upgrade") != "":
		return refuse(http.StatusNotImplemented, "NotImplemented", missing, "MQTT over WebSocket is not modelled")
	case !ok:
		return refuse(http.StatusNotFound, "ResourceNotFoundException", missing, "of the data plane, only publishing to /topics/TOPIC is modelled")
	case r.Method != http.MethodPost:
		return refuse(http.StatusMethodNotAllowed, "MethodNotAllowedException", badPacket, "messages are published with POST")
	}
	query := r.URL.Query()
	qos, retain := query.Get("qos"), query.Get("retain") == "true"
	if qos != "" && qos != "0" && qos != "1" {
		return refuse(http.StatusBadRequest, "InvalidRequestException", badPacket, "qos must be 0 or 1")
	}
	payload, err := io.ReadAll(io.LimitReader(r.Body, payloadLimit+1))
	if err != nil {
		return refuse(http.StatusBadRequest, "InvalidRequestException", badPacket, "the body did not come: "+err.Error())
	}
	if len(payload) > payloadLimit {
		return refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", badLimit, fmt.Sprintf("a message has at most %d bytes", payloadLimit))
	}
	use, wrong := checkTopic(topic)
	switch {
	case wrong == "" && use != ordinary && (retain || use == request):
		wrong = reserved
	case wrong == notModelled:
		return refuse(http.StatusNotImplemented, "NotImplemented", missing, string(wrong))
	}
	if wrong != "" {
		return refuse(http.StatusBadRequest, "InvalidRequestException", badTopic, "the topic: "+string(wrong))
	}
	device, err := s.account.Admit(r.Context(), c.hello)
	if refused, ok := errors.AsType[*wire.Refused](err); ok && refused.Cut || err != nil && !ok {
		return 0, "", ""
	}
	if err != nil || !device.Allows(actionPublish, topic) || retain && !device.Allows(actionRetain, topic) {
		return http.StatusForbidden, "ForbiddenException", "Forbidden" // and an event, which tells more
	}
	if retain && len(payload) > 0 && !s.mayRetain(topic) {
		return refuse(http.StatusTooManyRequests, "ThrottlingException", badLimit, fmt.Sprintf("the account has %d retained messages already", retainedLimit))
	}
	strike, err := s.account.Request(r.Context(), operation.Publish, "")
	if refusal, ok := errors.AsType[*task.Error](err); ok {
		return refuse(max(refusal.Status, 400), refusal.Code, faulty, refusal.Message)
	} else if err != nil {
		return 0, "", ""
	}
	if use == ordinary {
		pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: retain}, TopicName: topic, Payload: payload}
		if qos == "1" {
			pk.FixedHeader.Qos, pk.PacketID = 1, 1
		}
		s.inject(device, pk)
	}
	if strike.DropAfter {
		return 0, "", ""
	}
	return http.StatusOK, "", "OK"
}

// webConn is a connection that speaks HTTP.
type webConn struct {
	*peeked
	hello wire.Hello
	done  chan struct{} // closed when the connection has ended
}

// handedOver is a listener for connections that were accepted elsewhere.
type handedOver struct {
	conns  chan *webConn
	closed chan struct{}
	once   sync.Once
}

func newHandedOver() *handedOver {
	return &handedOver{conns: make(chan *webConn), closed: make(chan struct{})}
}

// serve has a connection served, and waits until it has ended.
func (l *handedOver) serve(c *webConn) {
	select {
	case l.conns <- c:
		<-c.done
	case <-l.closed:
	}
}

// Accept waits for the next connection.
func (l *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *handedOver) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr returns an address to which nobody can connect.
func (l *handedOver) Addr() net.Addr { return &net.TCPAddr{} }
