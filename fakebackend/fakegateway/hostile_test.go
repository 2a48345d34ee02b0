package fakegateway_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

func TestAConnectionThatDoesNotComeToItsConnectIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		begin := time.Now()
		dial := func() net.Conn {
			conn, err := l.gateway.Dial(t.Context())
			require.NoError(t, err)
			return conn
		}
		silent, half := dial(), dial()
		_, err := half.Write([]byte{0x16, 3, 1, 2, 0, 1}) // the beginning of a ClientHello
		require.NoError(t, err)
		idle, slow := l.dial(d), l.dial(d)
		_, err = slow.Write(connect3("slow")[:5])
		require.NoError(t, err)
		web := l.dial(d, "x-amzn-http-ca")
		for _, conn := range []net.Conn{silent, half, idle, slow, web} {
			_, err := conn.Read(make([]byte, 1))
			assert.Error(t, err)
			assert.InDelta(t, 30, time.Since(begin).Seconds(), 6)
			conn.Close()
		}
		var all strings.Builder
		for _, e := range l.events() {
			all.WriteString(e.Reason + ": " + e.Text + "\n")
		}
		texts := all.String()
		assert.Equal(t, 3, strings.Count(texts, "did not come within 30s"), texts)
		assert.Equal(t, 1, strings.Count(texts, "no CONNECT came within 30s"), texts)
	})
}

func TestBytesThatAreNoTLSAreRefusedWithAReason(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	for _, junk := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", string(connect3("x")), "\x16\x03\x01\xff\xff\xff\xff", strings.Repeat("\x00", 100)} {
		conn, err := l.gateway.Dial(t.Context())
		require.NoError(t, err)
		_, _ = conn.Write([]byte(junk))
		_, _ = conn.Read(make([]byte, 1000))
		conn.Close()
	}
	assert.Contains(t, l.refusal("handshake").Text, "the TLS handshake failed: ")
	assert.Zero(t, l.publish(l.connect(l.device("anything"), "device-one"), "a", "b"))
}

// A device with the wrong root ends the handshake with an alert, whose name alone reads as if its own certificate were bad.
func TestADeviceThatDoesNotTrustTheGatewayIsRecorded(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	config := l.trust(l.device("anything"))
	config.RootCAs = x509.NewCertPool()
	conn, err := l.gateway.Dial(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.Error(t, tls.Client(conn, config).HandshakeContext(t.Context()))
	assert.Contains(t, l.refusal("handshake").Text, "may not trust the gateway's certificate")
}

// docs/fidelity.md names these.
func TestCertificatesThatGoCannotReadFailTheHandshakeWithAReason(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	odd := strangeCertificate(func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) })
	der := odd.Certificate.Certificate[0]
	serial := bytes.Index(der, []byte{0x02, 0x01, 0x01}) // INTEGER 1
	require.Positive(t, serial)
	negative := bytes.Clone(der)
	negative[serial+2] = 0xff
	name := bytes.Index(der, []byte("device"))
	control := bytes.Clone(der)
	control[name] = 0x00
	for text, bad := range map[string][]byte{"negative serial number": negative, "": []byte("no certificate"), "PrintableString": control} {
		d := &device{Certificate: tls.Certificate{Certificate: [][]byte{bad}, PrivateKey: odd.PrivateKey}}
		raw, err := l.gateway.Dial(t.Context())
		require.NoError(t, err)
		config := l.trust(nil)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &d.Certificate, nil }
		conn := tls.Client(raw, config)
		if err = conn.HandshakeContext(t.Context()); err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		assert.Error(t, err, text)
		conn.Close()
		l.await(text, func(e fakebackend.Event) bool { return e.Reason == "handshake" && strings.Contains(e.Text, text) })
	}
	conn, err := l.gateway.Dial(t.Context())
	require.NoError(t, err)
	assert.Error(t, func() error {
		c := tls.Client(conn, l.trust(nil, "mqtt"))
		defer c.Close()
		return c.HandshakeContext(t.Context())
	}(), "an ALPN name that is none of AWS IoT's with certificates")
	large := strangeCertificate(func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 159) })
	c, err := l.mqtt5(l.dial(large), "device-one")
	assert.Error(t, err)
	assert.EqualValues(t, 0x87, c.connack.ReasonCode, "this one it can read")
}

func TestAClientThatDoesNotReadHoldsNobodyUpAndIsDisconnected(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	deaf := l.mqtt3(d, "deaf")
	deaf.send(subscribe3(1, "news")...)
	deaf.packet()
	hears := l.connect(d, "hears")
	l.subscribe(hears, "news")
	publisher := l.connect(d, "publisher")
	payload := strings.Repeat("x", 64<<10)
	for i := range 60 {
		assert.Zero(t, l.publish(publisher, "news", payload), "%d", i)
		assert.Len(t, l.next(hears).Payload, len(payload))
	}
	e := l.await("the end of deaf", func(e fakebackend.Event) bool { return e.Kind == fakebackend.EventDisconnected && e.ClientID == "deaf" })
	assert.Equal(t, "SERVER_INITIATED_DISCONNECT", e.Reason)
	assert.Contains(t, e.Text, "does not read")
}

func TestAClientThatReadsNothingForHalfAMinuteIsDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		d := l.device("anything")
		deaf := l.mqtt3(d, "deaf")
		deaf.send(subscribe3(0, "news")...)
		deaf.packet()
		publisher := l.connect(d, "publisher")
		assert.Zero(t, l.publish(publisher, "news", strings.Repeat("x", 100<<10)))
		begin := time.Now()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		e := l.await("the end of deaf", func(e fakebackend.Event) bool { return e.Kind == fakebackend.EventDisconnected && e.ClientID == "deaf" })
		assert.Equal(t, 30*time.Second, e.Time.Sub(begin))
		assert.Contains(t, e.Text, "does not read")
	})
}

// What a header claims is no reason to set memory aside: 300 connections that claim 140 KB each would be 42 MB.
func TestALengthAloneCostsNoMemory(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	var conns []raw
	for i := range 300 {
		conns = append(conns, l.mqtt3(d, fmt.Sprint("c", i)))
	}
	before := inUse()
	for _, c := range conns {
		c.send(0x30, 0xf0, 0xc5, 0x08) // a PUBLISH of 140,016 bytes
		c.send(0, 1)
	}
	assert.Zero(t, l.publish(l.connect(d, "other"), "a", "b"))
	assert.Less(t, inUse()-before, 300*24<<10)
	runtime.KeepAlive(conns)
}

// inUse is how many bytes of memory are in use.
func inUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}

// An event names the client id of whoever was refused, and 4,096 events are kept.
func TestWhatARefusedClientHasSentIsNotKept(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	d := strangeCertificate()
	filler := text(strings.Repeat("x", 60000)) // user name and password
	before := inUse()
	for i := range 200 {
		r := l.raw(d)
		r.send(packet(0x10, text("MQTT"), []byte{4, 0xc2, 0, 60}, text(fmt.Sprint("client-", i)), filler, filler)...)
		r.closed()
	}
	l.refusal("unknown-certificate")
	assert.Less(t, inUse()-before, 200*30000)
}

func TestManyIdleConnectionsTakeLittleMemoryAndHoldNobodyUp(t *testing.T) {
	n := 10000
	if testing.Short() {
		n = 300
	}
	l := newLab(t, fakegateway.Options{})
	d := l.device("anything")
	config := l.trust(d)
	// One end in this process and one in the gateway: both are counted.
	before := inUse()
	conns := make([]net.Conn, n)
	for i := range conns {
		rawConn, err := l.gateway.Dial(t.Context())
		require.NoError(t, err)
		conn := tls.Client(rawConn, config)
		_, err = conn.Write(connect3(fmt.Sprint("idle-", i)))
		require.NoError(t, err)
		ack := make([]byte, 4)
		_, err = conn.Read(ack)
		require.NoError(t, err)
		conns[i] = conn
	}
	each := (inUse() - before) / n
	t.Logf("%d connections, %d bytes each, both ends of TLS counted", n, each)
	assert.Less(t, each, 120<<10)
	c := l.connect(d, "other")
	l.subscribe(c, "a")
	assert.Zero(t, l.publish(c, "a", "b"))
	l.next(c)
	for _, conn := range conns {
		conn.Close()
	}
	l.gateway.Close()
	assert.Less(t, inUse()-before, 20<<20+n*1024, "what remains is what the events hold")
}

func TestLongNamesOfClientsAreShortInEvents(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	long := strings.Repeat("x", 60000)
	r := l.raw(strangeCertificate()) // no certificate of the account is needed for these two
	r.send(connect3(long)...)
	r.closed()
	r = l.raw(strangeCertificate())
	r.send(packet(0x10, text("MQTT"), []byte{4, 6, 0, 60}, text("a"), text("$aws/things/"+long), text("will"))...)
	r.closed()
	r = l.mqtt3(l.device("anything"), "device-one")
	r.send(subscribe3(1, "$aws/things/"+long)...)
	r.packet()
	r.send(publish3("$aws/things/"+long, 1, "")...)
	r.closed()
	l.await("disconnected", func(e fakebackend.Event) bool { return e.Kind == fakebackend.EventDisconnected })
	refused := 0
	for _, e := range l.events() {
		line, err := json.Marshal(e)
		require.NoError(t, err)
		assert.Less(t, len(line), 5000, "%s %s", e.Kind, e.Reason)
		if e.Kind == fakebackend.EventRefused {
			refused++
		}
	}
	assert.Equal(t, 4, refused)
}
