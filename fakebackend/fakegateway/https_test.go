package fakegateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

// web is an HTTP client of a device.
func (l *lab) web(d *device, alpn ...string) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: l.trust(d, alpn...), ForceAttemptHTTP2: false,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.gateway.Dial(ctx) },
	}
	l.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// post publishes over HTTPS, and returns the status and the message of the answer.
func (l *lab) post(c *http.Client, path, body string) (int, string) {
	l.t.Helper()
	answer, err := c.Post("https://localhost"+path, "application/octet-stream", strings.NewReader(body))
	require.NoError(l.t, err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	require.NoError(l.t, err)
	var got struct{ Message, TraceID string }
	require.NoError(l.t, json.Unmarshal(raw, &got), "%s", raw)
	assert.NotEmpty(l.t, got.TraceID)
	return answer.StatusCode, got.Message
}

func TestAMessageIsPublishedOverHTTPS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, fakegateway.Options{})
		watcher := l.connect(l.device("anything"), "watcher")
		l.subscribe(watcher, "dt/#", "kept")
		d := l.device("anything")
		for _, alpn := range [][]string{nil, {"x-amzn-http-ca"}, {"http/1.1"}} {
			c := l.web(d, alpn...)
			for range 2 {
				status, message := l.post(c, "/topics/dt%2Fone/hello?qos=1", "hi")
				assert.Equal(t, []any{200, "OK"}, []any{status, message})
				m := l.next(watcher)
				assert.Equal(t, []any{"dt/one/hello", "hi", byte(1)}, []any{m.Topic, string(m.Payload), m.QoS})
			}
		}
		c := l.web(d)
		status, _ := l.post(c, "/topics/kept?retain=true", "for later")
		assert.Equal(t, 200, status)
		assert.EqualValues(t, 0, l.next(watcher).QoS)
		later := l.connect(d, "later")
		l.subscribe(later, "kept")
		assert.Equal(t, "for later", string(l.next(later).Payload))
	})
}

func TestARequestThatIsNotAllowedOrNotModelledIsRefusedWithAReason(t *testing.T) {
	l := newLab(t, fakegateway.Options{})
	off := l.device("anything")
	l.status(off, "INACTIVE")
	all := l.device("anything")
	for _, c := range []struct {
		device *device
		path   string
		status int
	}{
		{strangeCertificate(), "/topics/a", 403}, {off, "/topics/a", 403}, {l.device(), "/topics/a", 403},
		{all, "/topics/a?qos=2", 400}, {all, "/topics/", 400}, {all, "/topics/1/2/3/4/5/6/7/8/9", 400}, {all, "/topics/$aws/certificates/create/json", 400},
		{all, "/topics/$aws/things/x/shadow/update", 501}, {all, "/things/x/shadow", 404}, {all, "/topics/$aws/rules/r/x", 200},
	} {
		status, _ := l.post(l.web(c.device), c.path, "x")
		assert.Equal(t, c.status, status, c.path)
	}
	status, _ := l.post(l.web(all), "/topics/a", strings.Repeat("x", 128<<10+1))
	assert.Equal(t, 413, status)
	answer, err := l.web(all).Get("https://localhost/mqtt")
	require.NoError(t, err)
	answer.Body.Close()
	assert.Equal(t, 404, answer.StatusCode)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://localhost/mqtt", nil)
	require.NoError(t, err)
	request.Header.Set("Upgrade", "websocket")
	request.Header.Set("Connection", "Upgrade")
	answer, err = l.web(all).Do(request)
	require.NoError(t, err)
	answer.Body.Close()
	assert.Equal(t, 501, answer.StatusCode)
	for _, reason := range []string{"unknown-certificate", "inactive", "policy", "topic", "limit", "not-modelled", "bad-packet"} {
		e := l.refusal(reason)
		assert.Equal(t, "https", e.Protocol, "%+v", e)
	}
	_, err = l.fake.AddFault(fakebackend.Fault{Operation: "Publish", Do: fakebackend.DropBefore, Times: 2}) // net/http tries twice
	require.NoError(t, err)
	_, err = l.web(all).Post("https://localhost/topics/a", "", strings.NewReader("x"))
	assert.Error(t, err)
}
