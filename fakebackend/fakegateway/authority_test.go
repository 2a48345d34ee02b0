package fakegateway_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/task"
)

// authority is a CA of the user's own, registered with automatic registration.
type authority struct {
	*certtest.CA
	at time.Time
}

// authority makes a CA and registers it in SNI_ONLY mode, with a template of just-in-time provisioning unless that is "".
func (l *lab) authority(template string) *authority {
	l.t.Helper()
	at := l.fake.Now()
	ca := &authority{certtest.NewCA(certtest.Key(), func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = at.AddDate(0, -6, 0), at.AddDate(9, 0, 0)
	}), at}
	in := &iot.RegisterCACertificateInput{
		CaCertificate:   new(certtest.PEM(ca.Certificate)),
		CertificateMode: types.CertificateModeSniOnly, SetAsActive: true, AllowAutoRegistration: true,
	}
	if template != "" {
		role, err := l.fake.EnsureRole(l.t.Context(), &task.RoleInput{Name: "jitp"})
		require.NoError(l.t, err)
		in.RegistrationConfig = &types.RegistrationConfig{TemplateBody: &template, RoleArn: &role}
	}
	_, err := l.aws.RegisterCACertificate(l.t.Context(), in)
	require.NoError(l.t, err)
	return ca
}

// id is the CA certificate's id.
func (ca *authority) id() string { return idOf(ca.Raw) }

// idOf is the id of a certificate.
func idOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// device makes a key, and a certificate for it with a common name.
func (ca *authority) device(name string) *device {
	key := certtest.Key()
	der := ca.Sign(key.Public(), func(c *x509.Certificate) {
		c.Subject, c.NotBefore, c.NotAfter = pkix.Name{CommonName: name}, ca.at.AddDate(0, -1, 0), ca.at.AddDate(1, 0, 0)
	}).Raw
	return &device{Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, id: idOf(der)}
}

// jitpTemplate makes a thing that has the certificate's common name.
const jitpTemplate = `{
	"Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
	"Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "own"}}}}`

// activate does what AWS's example of a Lambda function does with the message about a certificate: it makes the thing,
// attaches what belongs to it, and activates the certificate. Each step may be done already. It stops before the step
// with number stop, from 1; 0 is none.
func (l *lab) activate(thing, certificateID string, stop int) error {
	ctx := l.t.Context()
	arn := "arn:aws:iot:us-east-1:123456789012:cert/" + certificateID
	for i, step := range []func() error{
		func() error {
			_, err := l.aws.CreateThing(ctx, &iot.CreateThingInput{ThingName: &thing})
			return err
		},
		func() error {
			_, err := l.aws.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: &arn})
			return err
		},
		func() error {
			_, err := l.aws.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: new("own"), Target: &arn})
			return err
		},
		func() error {
			_, err := l.aws.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &certificateID, NewStatus: types.CertificateStatusActive})
			return err
		},
	} {
		if i+1 == stop {
			return nil
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
