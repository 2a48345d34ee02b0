package fakegateway_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

func TestEachNameOfTheGatewayNamesTheEndpoint(t *testing.T) {
	l := newLab(t, fakegateway.Options{Hosts: []string{"one.test", "two.test"}})
	ca := l.authority("")
	for name, want := range map[string]string{
		"one.test": "registered", "two.test": "registered", "TWO.test": "registered", "localhost": "registered", "three.test": "server-name",
	} {
		d := ca.device("device-" + name)
		config := l.trust(d)
		config.ServerName, config.InsecureSkipVerify = name, true
		raw, err := l.gateway.Dial(t.Context())
		require.NoError(t, err)
		conn := tls.Client(raw, config)
		require.NoError(t, conn.HandshakeContext(t.Context()))
		_, err = conn.Write(connect3("device-" + name))
		require.NoError(t, err)
		_, _ = io.ReadAll(conn)
		raw.Close()
		e := l.await(name, func(e fakebackend.Event) bool {
			return e.ClientID == "device-"+name && e.Kind != fakebackend.EventConnected
		})
		assert.Equal(t, want, e.Reason, name)
	}
}

func TestRegistrationsWaitForThoseWhoPlayTheLambda(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		proceed := make(chan struct{})
		l := newLab(t, fakegateway.Options{ConnectTimeout: 10 * time.Second, Registered: func(ctx context.Context, _ fakegateway.Registration) {
			calls.Add(1)
			select {
			case <-proceed:
			case <-ctx.Done():
			}
		}})
		d := l.authority("").device("device-one") // it stays PENDING_ACTIVATION, and is registered again each time
		for range 1001 {
			r := l.raw(d)
			r.send(connect3("device-one")...)
			r.closed()
		}
		assert.EqualValues(t, 1000, calls.Load())
		assert.Contains(t, l.refusal("no-answer").Text, "1000 calls of Options.Registered have not ended")
		close(proceed)
		synctest.Wait()
		r := l.raw(d)
		r.send(connect3("device-one")...)
		r.closed()
		synctest.Wait()
		assert.EqualValues(t, 1001, calls.Load())
	})
}

func TestAFirstConnectionRegistersTheCertificateAndCallsWhoPlaysTheLambda(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l *lab
		calls := make(chan fakegateway.Registration, 10)
		l = newLab(t, fakegateway.Options{Registered: func(ctx context.Context, r fakegateway.Registration) {
			_, err := l.aws.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &r.CertificateID, NewStatus: "ACTIVE"})
			assert.NoError(t, err)
			arn := "arn:aws:iot:us-east-1:123456789012:cert/" + r.CertificateID
			l.attach(arn, "anything")
			calls <- r
		}})
		ca := l.authority("")
		watcher := l.connect(l.device("anything"), "watcher")
		l.subscribe(watcher, "$aws/events/certificates/registered/#")
		d := ca.device("device-one")
		c, err := l.mqtt5(l.dial(d), "device-one")
		assert.Error(t, err)
		assert.EqualValues(t, 0x87, c.connack.ReasonCode)
		m := l.next(watcher)
		assert.Equal(t, "$aws/events/certificates/registered/"+ca.id(), m.Topic)
		var told, called fakegateway.Registration
		require.NoError(t, json.Unmarshal(m.Payload, &told))
		called = <-calls
		assert.Equal(t, told, called)
		assert.Equal(t, []string{ca.id(), "PENDING_ACTIVATION", "123456789012"}, []string{called.CACertificateID, called.CertificateStatus, called.AWSAccountID})
		l.connect(d, "device-one")
		assert.Empty(t, calls)
	})
}
