package fakegateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

// authority registers a CA with automatic registration, and returns its id and a function that makes a device.
func (l *lab) authority() (id string, make func(name string) *device) {
	l.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(l.t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	require.NoError(l.t, err)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	out, err := l.aws.RegisterCACertificate(l.t.Context(), &iot.RegisterCACertificateInput{
		CaCertificate: &text, CertificateMode: types.CertificateModeSniOnly, SetAsActive: true, AllowAutoRegistration: true,
	})
	require.NoError(l.t, err)
	return *out.CertificateId, func(name string) *device {
		template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter}
		der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), key)
		require.NoError(l.t, err)
		return &device{Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
	}
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
		ca, make := l.authority()
		watcher := l.connect(l.device("anything"), "watcher")
		l.subscribe(watcher, "$aws/events/certificates/registered/#")
		d := make("device-one")
		c, err := l.mqtt5(l.dial(d), "device-one")
		assert.Error(t, err)
		assert.EqualValues(t, 0x87, c.connack.ReasonCode)
		m := l.next(watcher)
		assert.Equal(t, "$aws/events/certificates/registered/"+ca, m.Topic)
		var told, called fakegateway.Registration
		require.NoError(t, json.Unmarshal(m.Payload, &told))
		called = <-calls
		assert.Equal(t, told, called)
		assert.Equal(t, []string{ca, "PENDING_ACTIVATION", "123456789012"}, []string{called.CACertificateID, called.CertificateStatus, called.AWSAccountID})
		l.connect(d, "device-one")
		assert.Empty(t, calls)
	})
}
