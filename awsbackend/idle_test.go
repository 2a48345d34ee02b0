package awsbackend

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mute never answers a request. It ends with it.
func mute(r *request) *http.Response {
	<-r.Context().Done()
	return nil
}

// drip is a body that sends a byte after each pause, and nothing more once the pauses are used up: it hangs if it has
// no end, as on a connection that stays open.
type drip struct {
	ctx    context.Context
	text   string
	pause  time.Duration
	noEnd  bool
	placed int
}

func (d *drip) Read(p []byte) (int, error) {
	if d.placed == len(d.text) {
		if d.noEnd {
			<-d.ctx.Done()
			return 0, d.ctx.Err()
		}
		return 0, io.EOF
	}
	select {
	case <-time.After(d.pause):
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
	p[0] = d.text[d.placed]
	d.placed++
	return 1, nil
}

func (d *drip) Close() error { return nil }

// dripping answers with a body that comes byte by byte.
func dripping(text string, pause time.Duration, noEnd bool) func(*request) *http.Response {
	return func(r *request) *http.Response {
		resp := response(200, "", "Content-Type", "application/json", "X-Amzn-RequestId", "req-1")
		resp.Body, resp.ContentLength = &drip{ctx: r.Context(), text: text, pause: pause, noEnd: noEnd}, -1
		return resp
	}
}

func TestAServiceThatNeverAnswersIsAskedAgainAndThenReported(t *testing.T) {
	const op = "DescribeThingRegistrationTask"
	for name, silent := range map[string]func(*request) *http.Response{
		"no answer":                 mute,
		"an answer without its end": dripping(`{"taskId":`, 0, true),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				b, w := onWire(t, answers{op: silent})
				began := time.Now()
				_, err := b.DescribeTask(t.Context(), "t-1")
				require.ErrorIs(t, err, task.ErrUnavailable)
				assert.ErrorContains(t, err, "no byte has moved for 1m0s")
				assert.NotErrorIs(t, err, context.Canceled, "nobody has cancelled it")
				assert.Equal(t, 3, w.count(op), "the SDK's usual attempts")
				assert.Less(t, time.Since(began), 3*DefaultIdleTimeout+time.Minute)
			})
		})
	}
}

func TestAnAnswerThatComesSlowlyIsRead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const op = "DescribeThingRegistrationTask"
		b, w := onWire(t, answers{op: dripping(`{"taskId":"t-1","status":"InProgress"}`, DefaultIdleTimeout-time.Second, false)})
		began := time.Now()
		d, err := b.DescribeTask(t.Context(), "t-1")
		require.NoError(t, err)
		assert.Equal(t, task.InProgress, d.Status)
		assert.Equal(t, 1, w.count(op))
		assert.Greater(t, time.Since(began), 30*DefaultIdleTimeout)
	})
}

func TestTheOutcomeOfAStartThatIsNeverAnsweredIsUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, w := onWireWith(t, Options{IdleTimeout: 5 * time.Second}, answers{startOp: mute, "RegisterThing": mute})
		began := time.Now()
		_, err := b.StartTask(t.Context(), startInput)
		require.ErrorIs(t, err, task.ErrOutcomeUnknown)
		assert.Equal(t, 5*time.Second, time.Since(began))
		_, err = b.RegisterThing(t.Context(), registerInput)
		require.ErrorIs(t, err, task.ErrOutcomeUnknown)
		assert.Equal(t, 1, w.count(startOp), "sent once")
		assert.Equal(t, 1, w.count("RegisterThing"), "sent once")
	})
}

func TestTheEndOfTheContextIsNotTakenForSilence(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, _ := onWire(t, answers{startOp: mute, "GET": mute})
		cause := errors.New("the operator pressed Ctrl-C")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		_, err := b.StartTask(ctx, startInput)
		require.ErrorIs(t, err, cause)
		_, err = b.Open(ctx, task.NewLink(secretLink), 0)
		require.ErrorIs(t, err, cause)
	})
}

func TestAReportThatStandsStillBreaksOffWhereItStands(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, _ := onWire(t, answers{"GET": dripping("{}\n", 0, true)})
		body, err := b.Open(t.Context(), task.NewLink(secretLink), 0)
		require.NoError(t, err)
		defer body.Close()
		got, err := io.ReadAll(body)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.ErrorContains(t, err, "no byte has moved")
		assert.Equal(t, "{}\n", string(got))

		b, w := onWire(t, answers{"GET": mute})
		_, err = b.Open(t.Context(), task.NewLink(secretLink), 0)
		require.ErrorIs(t, err, task.ErrUnavailable)
		assert.Equal(t, 4, w.count("GET"))
	})
}

func TestAReportIsNotBrokenOffByTheSlownessOfItsReader(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, _ := onWire(t, answers{"GET": dripping("{}\n{}\n", 30*time.Second, false)})
		body, err := b.Open(t.Context(), task.NewLink(secretLink), 0)
		require.NoError(t, err)
		defer body.Close()
		var got strings.Builder
		for p := make([]byte, 1); ; {
			n, err := body.Read(p)
			got.Write(p[:n])
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			time.Sleep(time.Hour)
		}
		assert.Equal(t, "{}\n{}\n", got.String())
	})
}

// slowTaker takes an upload in pieces, with a pause before each.
type slowTaker struct {
	pieces int // how many it takes before it stops; -1 for all
	pause  time.Duration
	taken  int64
}

func (s *slowTaker) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPut {
		return response(200, "", "X-Amz-Bucket-Region", "eu-central-1"), nil
	}
	for p := make([]byte, 10); s.pieces != 0; s.pieces-- {
		time.Sleep(s.pause)
		if r.Context().Err() != nil {
			return nil, r.Context().Err()
		}
		n, err := r.Body.Read(p)
		s.taken += int64(n)
		if err == io.EOF {
			return response(200, "", "X-Amz-Request-Id", "req-2"), nil
		}
		if err != nil {
			return nil, err
		}
	}
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestAnUploadGoesOnWhileBytesAreTaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		data := strings.Repeat("x", 100)
		taker := &slowTaker{pieces: -1, pause: DefaultIdleTimeout - time.Second}
		b, err := New(testConfig(taker), Options{Bucket: "fleet-bucket"})
		require.NoError(t, err)
		_, err = b.Upload(t.Context(), uploadOf("part-1.json", data))
		require.NoError(t, err)
		assert.Equal(t, int64(100), taker.taken)

		taker = &slowTaker{pieces: 3, pause: time.Second}
		b, err = New(testConfig(taker), Options{Bucket: "fleet-bucket"})
		require.NoError(t, err)
		_, err = b.Upload(t.Context(), uploadOf("part-1.json", data))
		require.ErrorIs(t, err, task.ErrUnavailable)
		assert.ErrorContains(t, err, "no byte has moved")
	})
}

func TestASilentServiceIsNoticedOverAConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		fake, err := fakebackend.New(fakebackend.Options{})
		require.NoError(t, err)
		_, err = fake.AddFault(fakebackend.Fault{Operation: "ListThingRegistrationTasks", Do: fakebackend.Hang})
		require.NoError(t, err)
		b, err := New(fakeaws.Config(fake), Options{})
		require.NoError(t, err)
		began := time.Now()
		_, err = b.ListTasks(t.Context(), nil)
		require.NoError(t, err, "the fault was for one request")
		assert.GreaterOrEqual(t, time.Since(began), DefaultIdleTimeout)
	})
}

func TestTheIdleTimeoutIsChecked(t *testing.T) {
	for _, limit := range []time.Duration{-time.Second, time.Millisecond} {
		_, err := New(testConfig(nil), Options{IdleTimeout: limit})
		require.ErrorIs(t, err, task.ErrInvalidRequest)
		assert.ErrorContains(t, err, "Options.IdleTimeout")
	}
}

func TestEachAttemptWithoutAnAnswerIsReportedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		refused := errors.New("connection refused")
		b, err := New(testConfig(roundTrip(func(*http.Request) (*http.Response, error) { return nil, refused })), Options{})
		require.NoError(t, err)
		began := time.Now()
		var hosts []string
		var first time.Duration
		stop := b.Notify(func(host string, err error) {
			require.ErrorIs(t, err, refused)
			noSecret(t, err.Error())
			if hosts = append(hosts, host); len(hosts) == 1 {
				first = time.Since(began)
			}
		})
		_, err = b.ListTasks(t.Context(), nil)
		require.ErrorIs(t, err, task.ErrUnavailable)
		assert.Equal(t, slices.Repeat([]string{"iot.eu-central-1.amazonaws.com"}, 3), hosts)
		assert.Zero(t, first)
		_, err = b.Open(t.Context(), task.NewLink(secretLink), 0)
		require.Error(t, err)
		assert.Len(t, hosts, 7, "report links, too")
		stop()
		_, err = b.ListTasks(t.Context(), nil)
		require.Error(t, err)
		assert.Len(t, hosts, 7)
	})
}
