package fakegateway_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

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
		d := ca.device(t, "device-one")
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
