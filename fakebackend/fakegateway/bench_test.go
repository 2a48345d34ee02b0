package fakegateway_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

// A connection: TLS handshake, CONNECT, and its end.
func BenchmarkConnect(b *testing.B) {
	l := newLab(b, fakegateway.Options{})
	d := l.device("own")
	for b.Loop() {
		r := l.mqtt3(d, "device-one")
		r.send(0xe0, 0)
		r.NetConn().Close()
	}
}

// A message from a client through the policies to another one, and back its PUBACK.
func BenchmarkPublish(b *testing.B) {
	l := newLab(b, fakegateway.Options{})
	d := l.device("own")
	from, to := l.mqtt3(d, "device-from"), l.mqtt3(d, "device-to")
	l.policy("read", `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["iot:Subscribe", "iot:Receive"], "Resource": "*"}}`)
	l.attach(d.arn, "read")
	to.send(subscribe3(0, "dt/#")...)
	to.packet()
	message := publish3("dt/device-from/x", 1, "hello")
	for b.Loop() {
		from.send(message...)
		from.packet()
		to.packet()
	}
}

// Messages of one client that waits for nothing.
func BenchmarkPublishWithoutWaiting(b *testing.B) {
	l := newLab(b, fakegateway.Options{})
	r := l.mqtt3(l.device("own"), "device-one")
	message := publish3("dt/device-one/x", 0, "hello")
	for b.Loop() {
		_, err := r.Write(message)
		require.NoError(b, err)
	}
	r.send(0xc0, 0)
	require.Equal(b, []byte{0xd0, 0}, r.packet())
}
