package fakebackend_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

func TestTheWalkthroughEndsWithThreeWorkingCertificates(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	id := start(t, fake, role, walkthrough(t), row(t, "device-one", "001"), row(t, "device-two", "002"), row(t, "device-three", "003"))

	d := describe(t, fake, id)
	assert.Equal(t, task.Completed, d.Status)
	assert.Equal(t, 3, d.Succeeded)
	assert.Equal(t, 0, d.Failed)
	assert.Equal(t, 100, d.Percent)
	assert.Empty(t, d.Message)

	lines := results(t, fake, id)
	require.Len(t, lines, 3)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(fake.CA()))
	for i, name := range []string{"device-one", "device-two", "device-three"} {
		l := lines[i]
		assert.EqualValues(t, i+1, l.LineNumber)
		assert.Equal(t, "arn:aws:iot:us-east-1:123456789012:thing/"+name, l.Response.ResourceARNs["thing"])
		assert.Len(t, l.Response.ResourceARNs, 3, "thing, certificate and policy by their logical names")

		block, rest := pem.Decode([]byte(l.Response.CertificatePem))
		require.NotNil(t, block)
		assert.Empty(t, rest)
		cert, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		_, err = cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: monday, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		require.NoError(t, err)
		assert.True(t, key.PublicKey.Equal(cert.PublicKey))
		assert.Equal(t, time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), cert.NotAfter)
		request, _ := pem.Decode([]byte(csrOf(key, name)))
		csr, err := x509.ParseCertificateRequest(request.Bytes)
		require.NoError(t, err)
		assert.Equal(t, csr.RawSubject, cert.RawSubject)
		sum := sha256.Sum256(block.Bytes)
		assert.Equal(t, hex.EncodeToString(sum[:]), task.ResourceName(l.Response.ResourceARNs["certificate"]))

		device, err := fake.ReadDevice(t.Context(), name)
		require.NoError(t, err)
		require.Len(t, device.Certificates, 1)
		assert.Equal(t, l.Response.CertificatePem, device.Certificates[0].PEM)
		assert.Equal(t, "ACTIVE", device.Certificates[0].Status)
		assert.Equal(t, []string{task.ResourceName(l.Response.ResourceARNs["policy"])}, device.Certificates[0].Policies)
		assert.Equal(t, map[string]string{"version": "v1", "serialNumber": "00" + string(rune('1'+i))}, device.Attributes)
	}
	assert.Regexp(t, `^[0-9A-F]{40}$`, task.ResourceName(lines[0].Response.ResourceARNs["policy"]))
	assert.Equal(t, lines[0].Response.ResourceARNs["policy"], lines[2].Response.ResourceARNs["policy"], "lines share the policy of one document")
}
