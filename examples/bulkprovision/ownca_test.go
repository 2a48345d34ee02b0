package main

import (
	"crypto/x509"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
)

func TestFlagsOfAnOwnCANeedTheCA(t *testing.T) {
	require.NoError(t, load(t))
	for _, args := range [][]string{
		{"-cert-mode", "without-ca"}, {"-cert-mode", "bulk"}, {"-cert-days", "5"}, {"-jit-template", "first.json"}, {"-crl", "ca.crl"},
	} {
		assert.EqualError(t, load(t, args...), args[0]+" needs -ca-cert and -ca-key")
	}
	for _, days := range []string{"0", "-3", "110000"} { // the last one has more nanoseconds than an int64
		assert.ErrorContains(t, load(t, "-ca-cert", "ca.pem", "-ca-key", "ca.key", "-cert-days", days), "-cert-days is "+days)
	}
	assert.ErrorContains(t, load(t, "-ca-cert", "ca.pem"), "give both")
}

func load(t *testing.T, args ...string) error {
	var c ownCA
	flags := flag.NewFlagSet("bulkprovision", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	c.flags(flags)
	require.NoError(t, flags.Parse(args))
	return c.load(flags)
}

func TestARevocationListThatCanNotBeWrittenIsRefusedBeforeADeviceIsRemoved(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	with := func(usage x509.KeyUsage, crl string) error {
		ca, key := newCA(t, usage)
		secret, err := csr.NewPrivateKey(key).PEM()
		require.NoError(t, err)
		return load(t, "-ca-cert", write("ca.pem", []byte(ca.PEM())), "-ca-key", write("ca.key", secret), "-cert-days", "1", "-crl", crl)
	}
	none := filepath.Join(dir, "none.crl")
	require.NoError(t, with(x509.KeyUsageCertSign|x509.KeyUsageCRLSign, none))
	assert.NoFileExists(t, none)
	require.ErrorIs(t, with(x509.KeyUsageCertSign, none), csr.ErrCA)
	require.ErrorContains(t, with(x509.KeyUsageCertSign|x509.KeyUsageCRLSign, write("empty.crl", nil)), "the file is empty")
	require.ErrorIs(t, with(x509.KeyUsageCertSign|x509.KeyUsageCRLSign, write("other.crl", []byte("no list"))), csr.ErrCA)
}
