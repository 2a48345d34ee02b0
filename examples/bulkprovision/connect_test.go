package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/examples/device/connect"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestDevicesToTryAreSpreadOverTheRun(t *testing.T) {
	results := func(n int) func(func(*provision.Result, error) bool) {
		return func(yield func(*provision.Result, error) bool) {
			for i := range 2 * n { // every other one has failed
				verdict := provision.Provisioned
				if i%2 == 1 {
					verdict = provision.Failed
				}
				if !yield(&provision.Result{Name: fmt.Sprint(i / 2), Verdict: verdict}, nil) {
					return
				}
			}
		}
	}
	for _, c := range []struct {
		devices, n int
		want       []string
	}{
		{0, 3, nil}, {2, 3, []string{"0", "1"}}, {3, 3, []string{"0", "1", "2"}}, {4, 3, []string{"0", "1", "2"}}, {5, 3, []string{"0", "1", "3"}},
		{6, 3, []string{"0", "2", "4"}}, {1000, 1, []string{"0"}},
	} {
		picked, err := pick(results(c.devices), c.n)
		require.NoError(t, err)
		var names []string
		for _, r := range picked {
			names = append(names, r.Name)
		}
		assert.Equal(t, c.want, names, "%d of %d", c.n, c.devices)
	}
	for _, devices := range []int{100, 1001, 12345} {
		picked, err := pick(results(devices), 7)
		require.NoError(t, err)
		require.Len(t, picked, 7)
		last := 0
		_, err = fmt.Sscan(picked[6].Name, &last)
		require.NoError(t, err)
		assert.Greater(t, last, devices*2/3, "of %d", devices)
	}
	_, err := pick(func(yield func(*provision.Result, error) bool) { yield(nil, errors.New("disk")) }, 3)
	require.EqualError(t, err, "disk")
}

func TestAnEndpointThatWouldNotBeConnectedToIsRefused(t *testing.T) {
	o := options{backend: "fake", dir: t.TempDir(), devices: "devices.csv", connect: 1, mqtt: "127.0.0.1:8883"}
	require.ErrorContains(t, o.run(t.Context()), "within this program")
	for _, o := range []options{{mqtt: "127.0.0.1:8883"}, {topic: "a/b"}} {
		o.backend, o.bucket, o.dir, o.devices = "aws", "bucket", t.TempDir(), "devices.csv"
		require.ErrorContains(t, o.run(t.Context()), "-mqtt and -topic are for -connect")
	}
}

func TestWhyADeviceWasNotProvisionedAtItsFirstConnectionIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for template, want := range map[string]string{"": "PENDING_ACTIVATION", missingPolicy: "not-there"} {
			fake, err := fakebackend.New(fakebackend.Options{})
			require.NoError(t, err)
			gateway := fakegateway.NewUnstartedServer(fake, fakegateway.Options{})
			t.Cleanup(gateway.Close)
			ca, _ := newCA(t, x509.KeyUsageCertSign)
			in := &task.CAInput{CertificatePEM: ca.PEM(), Prove: ca.VerificationCertificate, AutoRegister: true, TemplateBody: template}
			if template != "" {
				in.RoleARN, err = fake.EnsureRole(t.Context(), &task.RoleInput{Name: "role"})
				require.NoError(t, err)
			}
			_, err = fake.EnsureCA(t.Context(), in)
			require.NoError(t, err)

			key := certtest.Key()
			certificate, err := ca.Issue(key.Public(), csr.CommonName("pump-1"))
			require.NoError(t, err)
			keyPEM, err := csr.NewPrivateKey(key).PEM()
			require.NoError(t, err)
			device, err := connect.New(connect.Thing{ThingName: "pump-1", ClientID: "pump-1"}, []byte(certificate), keyPEM, fake.RootCA())
			require.NoError(t, err)
			err = device.Hello(t.Context(), connect.Options{
				Endpoint: "localhost:8883",
				Dial:     func(ctx context.Context, _, _ string) (net.Conn, error) { return gateway.Dial(ctx) },
			})
			require.Error(t, err)
			assert.Contains(t, lastRefusal(fake, "pump-1"), want)
			assert.Empty(t, lastRefusal(fake, "pump-2"))
		}
	})
}

// missingPolicy is a template of just-in-time provisioning that fails.
const missingPolicy = `{
	"Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
	"Resources": {
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "not-there"}}}}`

func newCA(t *testing.T, usage x509.KeyUsage) (*csr.CA, *ecdsa.PrivateKey) {
	key := certtest.Key()
	root := certtest.NewCA(key, func(c *x509.Certificate) { c.Subject, c.KeyUsage = pkix.Name{CommonName: "My CA"}, usage })
	ca, err := csr.NewCA(root.Certificate, key, csr.Profile{Validity: time.Hour})
	require.NoError(t, err)
	return ca, key
}
