package main

import (
	"crypto/x509"
	"flag"
	"io"
	"os"
	"os/exec"
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

func TestAKeyOfACAIsReadInEveryFormThatPeopleHaveWithTheHelpOfOpenssl(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("the openssl program is not installed")
	}
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, data []byte) {
		t.Helper()
		require.NoError(t, os.WriteFile(path(name), data, 0o600))
	}
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), openssl, args...)
		out, err := cmd.Output()
		require.NoError(t, err, args)
		return out
	}
	ca, key := newCA(t, x509.KeyUsageCertSign)
	secret, err := csr.NewPrivateKey(key).PEM()
	require.NoError(t, err)
	other, _ := newCA(t, x509.KeyUsageCertSign)
	write("ca.pem", []byte(other.PEM()+ca.PEM())) // the key tells which of them
	write("ca.key", secret)
	run("pkcs8", "-topk8", "-in", path("ca.key"), "-passout", "pass:secret", "-out", path("pkcs8.key"))
	run("ec", "-in", path("ca.key"), "-aes256", "-passout", "pass:secret", "-out", path("older.key"))
	run("pkey", "-in", path("ca.key"), "-outform", "DER", "-out", path("der.key"))
	with := func(key string) error { return load(t, "-ca-cert", path("ca.pem"), "-ca-key", key, "-cert-days", "1") }
	for _, name := range []string{"pkcs8.key", "older.key", "der.key"} {
		err := with(path(name))
		require.ErrorIs(t, err, csr.ErrNotKey, name)
		require.ErrorContains(t, err, "openssl pkey -in "+path(name)+" | ", name)

		// The command of the error, and standard input.
		plain := run("pkey", "-in", path(name), "-passin", "pass:secret")
		r, w, err := os.Pipe()
		require.NoError(t, err)
		stdin := os.Stdin
		os.Stdin = r
		go func() {
			_, _ = w.Write(plain)
			_ = w.Close()
		}()
		err = with("-")
		os.Stdin = stdin
		require.NoError(t, err, name)
	}
	require.NoError(t, with(path("ca.key")))
	write("ca.pem", []byte(other.PEM()))
	require.ErrorIs(t, with(path("ca.key")), csr.ErrCA)
}
