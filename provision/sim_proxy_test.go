package provision_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/seed1ff6f450/iotfleet/task"
)

// proxy stands between the AWS SDK and the fake. Sometimes it answers in the fake's place.
type proxy struct{ inner aws.HTTPClient }

// interception is what is to become of one request of a step: the service may carry it out, and its answer is replaced.
type interception struct {
	skip    atomic.Int32 // requests of the step that come through before
	carried bool
	answer  fakedAnswer
}

type interceptionKey struct{}

// fakedAnswer is an answer that AWS never gives: none has a request id of AWS's.
type fakedAnswer struct {
	status            int
	contentType, body string
}

var fakedAnswers = []fakedAnswer{
	{http.StatusOK, "text/html", "<html>Please log in</html>"},
	{http.StatusOK, "application/json", "{}"},
	{http.StatusFound, "text/html", "<html>Moved</html>"},
	{http.StatusTemporaryRedirect, "", ""},
	{http.StatusBadRequest, "application/json", "{}"},
	{http.StatusForbidden, "text/html", "<html>Forbidden by policy</html>"},
	{http.StatusForbidden, "application/json", `{"message":"Forbidden"}`},
	{http.StatusNotFound, "text/plain", "404 page not found"},
	{http.StatusProxyAuthRequired, "text/html", "<html>Who are you?</html>"},
	{http.StatusTooManyRequests, "text/plain", "slow down"},
	{http.StatusTooManyRequests, "application/json", "{}"},
}

// intercept lets the answer to one of a step's requests be replaced, if it is time for it.
func (s *sim) intercept(ctx context.Context, step string) context.Context {
	if !s.wire {
		return ctx
	}
	var i *interception
	s.due(step, replaced, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		i = &interception{carried: s.rng.IntN(2) == 0, answer: fakedAnswers[s.rng.IntN(len(fakedAnswers))]}
		i.skip.Store(s.rng.Int32N(int32(len(operations[step]))))
		return true
	})
	if i == nil {
		return ctx
	}
	return context.WithValue(ctx, interceptionKey{}, i)
}

// Do sends a request, or answers it.
func (p proxy) Do(r *http.Request) (*http.Response, error) {
	i, _ := r.Context().Value(interceptionKey{}).(*interception)
	if i == nil || i.skip.Add(-1) != -1 {
		return p.inner.Do(r)
	}
	if i.carried {
		resp, err := p.inner.Do(r)
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return nil, err
		}
		resp.Body.Close()
	}
	header := http.Header{}
	if i.answer.contentType != "" {
		header.Set("Content-Type", i.answer.contentType)
	}
	if i.answer.status/100 == 3 {
		header.Set("Location", "https://portal.example/login")
	}
	return &http.Response{
		Status: http.StatusText(i.answer.status), StatusCode: i.answer.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(strings.NewReader(i.answer.body)), ContentLength: int64(len(i.answer.body)), Request: r,
	}, nil
}

// takePageForRefusal is the bug of that name: what a proxy answers counts as AWS's own refusal.
func (s *sim) takePageForRefusal(err error) error {
	if s.bug != bugTakePageForRefusal || err == nil || task.Refused(err) {
		return err
	}
	return &task.Error{Code: "ThrottlingException", Status: http.StatusTooManyRequests, Kind: task.ErrThrottled, Message: "slow down", RequestID: "none"}
}
