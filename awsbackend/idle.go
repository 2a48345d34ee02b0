package awsbackend

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/seed1ff6f450/iotfleet/task"
)

// DefaultIdleTimeout is the limit of [Options].IdleTimeout where none is set.
const DefaultIdleTimeout = time.Minute

// maxAnswer is the longest answer of an operation that is read, in bytes; report files are no such answers. The longest
// that AWS documents are pages of 250 entries of a few hundred bytes, and pages of report links of some 2 KB each. A
// body without an end would fill the memory.
const maxAnswer = 16 << 20

// idleError is the error of a request that nothing moved on for too long. The SDK may send it again, as after any
// connection that broke: [once] sees to it that this is not done where it could do harm.
type idleError struct{ limit time.Duration }

func (e *idleError) Error() string {
	return fmt.Sprintf("no byte has moved for %v, so the connection was given up", e.limit)
}

// Timeout, Temporary and ConnectionError are what the SDK and net/http ask of an error.
func (e *idleError) Timeout() bool         { return true }
func (e *idleError) Temporary() bool       { return true }
func (e *idleError) ConnectionError() bool { return true }

// idleClient ends requests on which nothing moves: no byte of the request is taken, and none of the answer comes. However
// long a request takes while bytes move, it is not ended.
type idleClient struct {
	inner   aws.HTTPClient
	limit   time.Duration
	maxBody int64 // bytes of an answer's body; 0 for no limit
	lost    func(host string, err error)
}

// Do sends the request. The limit holds from here until the answer's header has come, and for each Read of the body;
// what the caller does between two Reads takes none of it.
func (c *idleClient) Do(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &idleWatch{caller: req.Context(), ctx: ctx, cancel: cancel, limit: c.limit, err: &idleError{c.limit}}
	w.timer = time.AfterFunc(c.limit, func() { cancel(w.err) })
	req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { w.moved() },
		GotFirstResponseByte: w.moved,
		Got100Continue:       w.moved,
	}))
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &sentBody{req.Body, w}
		if again := req.GetBody; again != nil {
			req.GetBody = func() (io.ReadCloser, error) {
				body, err := again()
				if err != nil {
					return nil, err
				}
				return &sentBody{body, w}, nil
			}
		}
	}
	resp, err := c.inner.Do(req)
	w.answered()
	if err != nil {
		err = distrusted(req.URL.Host, w.explain(err))
		w.end()
		if w.caller.Err() == nil {
			c.lost(req.URL.Host, err)
		}
		return resp, err
	}
	if resp.Body == nil {
		w.end()
		return resp, nil
	}
	left := c.maxBody
	if left == 0 {
		left = -1
	}
	resp.Body = &idleBody{body: resp.Body, watch: w, left: left, max: c.maxBody, lost: func(err error) { c.lost(req.URL.Host, err) }}
	return resp, nil
}

// idleWatch measures how long nothing has moved on a request.
type idleWatch struct {
	caller context.Context
	ctx    context.Context // of the request: ends with the caller's, or with err
	cancel context.CancelCauseFunc
	limit  time.Duration
	timer  *time.Timer
	err    *idleError

	mu   sync.Mutex
	done bool // the answer's header has come; what is sent after it does not count
}

// moved notes that a byte was sent or received before the answer's header was whole.
func (w *idleWatch) moved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.timer.Reset(w.limit)
	}
}

func (w *idleWatch) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	w.timer.Stop()
}

// explain returns the watch's own error in place of the one that ending the request led to.
func (w *idleWatch) explain(err error) error {
	if context.Cause(w.ctx) == error(w.err) {
		return w.err
	}
	return err
}

func (w *idleWatch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// sentBody is a request's body. It is read when what was read before has been sent.
type sentBody struct {
	io.ReadCloser
	watch *idleWatch
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.watch.moved()
	return n, err
}

// idleBody is an answer's body.
type idleBody struct {
	body  io.ReadCloser
	watch *idleWatch
	left  int64 // bytes that may still come, -1 for any number
	max   int64
	lost  func(error)
}

func (b *idleBody) Read(p []byte) (int, error) {
	if b.left >= 0 {
		p = p[:min(int64(len(p)), b.left+1)] // one more shows that it is too long
	}
	b.watch.timer.Reset(b.watch.limit)
	n, err := b.body.Read(p)
	b.watch.timer.Stop()
	if b.left >= 0 {
		if int64(n) > b.left {
			return int(b.left), &tooLongError{b.max}
		}
		b.left -= int64(n)
	}
	if err != nil && err != io.EOF {
		if err = b.watch.explain(err); b.watch.caller.Err() == nil {
			b.lost(err)
		}
	}
	return n, err
}

func (b *idleBody) Close() error {
	err := b.body.Close()
	b.watch.end()
	return err
}

// tooLongError is the error of an answer that is longer than any of AWS's. To ask again would bring the same.
type tooLongError struct{ max int64 }

func (e *tooLongError) Error() string {
	return fmt.Sprintf("the answer is longer than %d bytes: AWS sends none so long", e.max)
}

func (e *tooLongError) Unwrap() error { return task.ErrNotService }

// RetryableError keeps the SDK from sending the request again.
func (e *tooLongError) RetryableError() bool { return false }
