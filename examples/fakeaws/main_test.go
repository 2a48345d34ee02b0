package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// build compiles the program once for the tests that run it.
func build(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the program is stopped with a signal that Windows does not have")
	}
	program := filepath.Join(t.TempDir(), "fakeaws")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

func TestTheFirstLineIsTheEndpointAndASignalEndsTheServer(t *testing.T) {
	program := build(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		command := exec.CommandContext(ctx, program, "-addr", "127.0.0.1:0", "-account", "111122223333", "-region", "eu-central-1", "-seed", "s", "-rate", "15", "-control-host", "fake.ci.example", "-mqtt", "127.0.0.1:0")
		stdout, err := command.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, command.Start())
		lines := bufio.NewReader(stdout)
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		url, ok := strings.CutPrefix(strings.TrimSpace(line), "AWS_ENDPOINT_URL=http://127.0.0.1:")
		require.True(t, ok, line)
		line, err = lines.ReadString('\n')
		require.NoError(t, err)
		endpoint, ok := strings.CutPrefix(strings.TrimSpace(line), "MQTT_ENDPOINT=")
		require.True(t, ok, line)
		handshake(t, endpoint, "http://127.0.0.1:"+url+"/_fake/root.pem")
		answer, err := http.Get("http://127.0.0.1:" + url + "/_fake/ca.pem")
		require.NoError(t, err)
		pem, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		require.NoError(t, err)
		assert.Contains(t, string(pem), "BEGIN CERTIFICATE")
		for host, status := range map[string]int{"fake.ci.example:4566": http.StatusOK, "fake:4566": http.StatusOK, "elsewhere.example:4566": http.StatusForbidden} {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+url+"/_fake/state", nil)
			require.NoError(t, err)
			request.Host = host
			answer, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			answer.Body.Close()
			assert.Equal(t, status, answer.StatusCode, host)
		}
		require.NoError(t, command.Process.Signal(signal))
		rest, err := io.ReadAll(lines)
		require.NoError(t, err)
		assert.Contains(t, string(rest), "fake AWS account 111122223333 in eu-central-1")
		assert.NoError(t, command.Wait(), "it ends with status 0")
	}
}

// handshake makes a TLS connection to where devices connect, trusting the root alone.
func handshake(t *testing.T, endpoint, root string) {
	t.Helper()
	answer, err := http.Get(root)
	require.NoError(t, err)
	defer answer.Body.Close()
	pem, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	conn, err := tls.Dial("tcp", endpoint, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13})
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	assert.ErrorContains(t, err, "certificate required") // which this client has not
}

func TestABadOptionIsAnErrorThatNamesIt(t *testing.T) {
	for want, args := range map[string][]string{
		"Account":          {"-account", "12"},
		"Region":           {"-region", "Not A Region"},
		"id:secret":        {"-key", "nocolon"},
		"127.0.0.1:999999": {"-addr", "127.0.0.1:999999"},
		"127.0.0.1:888888": {"-addr", "127.0.0.1:0", "-mqtt", "127.0.0.1:888888"},
	} {
		assert.ErrorContains(t, run(t.Context(), args), want)
	}
}
