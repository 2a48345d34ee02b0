package awsbackend

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// impostor is a server that has no certificate anybody trusts, or does not speak TLS. It counts connections.
func impostor(t *testing.T, speaksTLS bool) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { t.Error("a request was sent") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	if speaksTLS {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, &connections
}

func TestAPeerThatNobodyTrustsIsNotAskedAgain(t *testing.T) {
	for name, speaksTLS := range map[string]bool{"an untrusted authority": true, "no TLS": false} {
		t.Run(name, func(t *testing.T) {
			s, connections := impostor(t, speaksTLS)
			host := s.Listener.Addr().String()
			cfg := testConfig(nil)
			cfg.HTTPClient = &http.Client{Transport: &http.Transport{}}
			cfg.BaseEndpoint = aws.String("https://" + host)
			b, err := New(cfg, Options{Bucket: "fleet-bucket"})
			require.NoError(t, err)
			for what, call := range map[string]func() error{
				"read": func() error { _, err := b.DescribeTask(t.Context(), "t-1"); return err },
				"start": func() error {
					_, err := b.StartTask(t.Context(), startInput)
					assert.True(t, task.Refused(err), "nothing was sent")
					return err
				},
				"report": func() error {
					_, err := b.Open(t.Context(), task.NewLink("https://"+host+"/successful/1?X-Amz-Signature="+signature), 0)
					noSecret(t, err.Error())
					return err
				},
			} {
				connections.Store(0)
				err := call()
				require.ErrorIs(t, err, task.ErrNotService, what)
				assert.NotErrorIs(t, err, task.ErrUnavailable, what)
				assert.ErrorContains(t, err, "what answers at "+host+" is not AWS", what)
				assert.Equal(t, int32(1), connections.Load(), "%s: one attempt", what)
			}
		})
	}
}

func TestAProxysOwnPageIsNotAskedForAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for _, status := range []int{302, 403, 407, 511, 503, 429} {
			passing := status == 503 || status == 429
			page := reply(status, "<html>Please sign in</html>", "Content-Type", "text/html")
			b, w := onWire(t, answers{listOp: page, startOp: page, "GetCallerIdentity": knownCaller})
			_, err := b.ListTasks(t.Context(), nil)
			require.Error(t, err)
			if passing {
				assert.NotErrorIs(t, err, task.ErrNotService, status)
				continue
			}
			require.ErrorIs(t, err, task.ErrNotService, status)
			assert.Equal(t, 1, w.count(listOp), status)
			_, err = b.StartTask(t.Context(), startInput)
			require.ErrorIs(t, err, task.ErrOutcomeUnknown, "the page may stand in place of AWS's answer")
		}
	})
}

func TestAnAnswerWithoutEndIsNotReadWhole(t *testing.T) {
	var read atomic.Int64
	endless := func(*request) *http.Response {
		resp := response(200, "", "Content-Type", "application/json", "X-Amzn-RequestId", "req-1")
		resp.Body, resp.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(`{"message":"`), &counted{n: &read})), -1
		return resp
	}
	b, w := onWire(t, answers{"DescribeThingRegistrationTask": endless, startOp: endless})
	began := time.Now()
	_, err := b.DescribeTask(t.Context(), "t-1")
	require.ErrorIs(t, err, task.ErrNotService)
	assert.ErrorContains(t, err, "longer than 16777216 bytes")
	assert.LessOrEqual(t, read.Load(), int64(maxAnswer+64<<10))
	assert.Equal(t, 1, w.count("DescribeThingRegistrationTask"))
	assert.Less(t, time.Since(began), time.Minute)
	_, err = b.StartTask(t.Context(), startInput)
	require.ErrorIs(t, err, task.ErrOutcomeUnknown)
}

// counted is an endless text.
type counted struct{ n *atomic.Int64 }

func (c *counted) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{'x'}, len(p)))
	c.n.Add(int64(len(p)))
	return len(p), nil
}
