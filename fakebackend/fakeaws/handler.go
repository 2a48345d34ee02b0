package fakeaws

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Options set how a [Handler] treats requests. The zero value accepts every signed request without checking the
// signature.
type Options struct {
	// Credentials are the secret keys by access key id. If set, signatures, also those of presigned links and of
	// chunked uploads, are checked as AWS checks them, and other access keys are refused.
	Credentials map[string]string
	// AllowUnsigned accepts requests that are not signed at all, for trying things with curl. AWS refuses them.
	AllowUnsigned bool
	// RefuseOldLinks refuses presigned links of signature version 2, as AWS announced for buckets made after June 2020. By
	// default they can be followed in S3's older regions, us-east-1 among them: boto3 and version 1 of the AWS CLI make
	// such links there unless they are told otherwise.
	RefuseOldLinks bool
	// ControlHosts are names, without a port, under which the control interface below /_fake/ may be reached beside IP
	// addresses, names without a dot, and those that end in .localhost, .internal or .test. Every other name is refused
	// there, since a stranger's web page can point one at this machine.
	ControlHosts []string
	// ClockSkew is how far the clock that dates of requests are checked by, and that answers are dated with, is ahead of
	// this machine's, or behind it if negative: what a client with a wrong clock meets. With Credentials, signatures
	// that are off by more than 15 minutes are refused, as on AWS. The account's own clock is another one.
	ClockSkew time.Duration
	// Logger gets one record for each request: service, operation, status, error code, time taken. Never a header, a
	// query or a body. Nil logs nothing.
	Logger *slog.Logger
}

// Handler is a fake AWS as an [http.Handler]. It is safe for concurrent use.
//
// Below /_fake/ it has an interface of its own, which needs no signature. It refuses what a browser sends for a page of
// another site, and names that are not this machine's own (see [Options.ControlHosts]):
//
//	GET    /_fake/ca.pem     the certificate of the CA that device certificates verify against
//	GET    /_fake/root.pem   the certificate of the root CA that devices trust
//	GET    /_fake/events     what happens, a JSON object a line, until the client goes (see fakebackend.Event); with
//	                         ?follow=false only what has happened so far
//	GET    /_fake/state      the account's state as JSON (see fakebackend.Backend.StateJSON)
//	POST   /_fake/reset      empties the account and removes the faults; the clock, the CA and the count of calls stay
//	                         as they are (see fakebackend.Backend.Reset)
//	GET    /_fake/snapshot   everything the account holds, the CA's secret included: a file to keep
//	PUT    /_fake/snapshot   puts the account back to a snapshot, its clock and faults too
//	GET    /_fake/faults     the faults that are set, with how often each has struck
//	POST   /_fake/faults     sets a fault, or a list of them, given as JSON (see fakebackend.Fault)
//	                         one that could never strike is refused
//	DELETE /_fake/faults     removes all faults, or the one of ?id=
//	GET    /_fake/calls      how often each operation was called, and which the fake does not know
//	POST   /_fake/advance    moves the account's clock by ?by=, such as 24h
//
// Every answer carries the header X-Iotfleet-Fake: 1.
type Handler struct {
	backend *fakebackend.Backend
	account wire.Account
	opts    Options

	mu    sync.Mutex
	calls map[callKey]int
}

type callKey struct {
	service, operation string
	known              bool
}

// NewHandler makes a handler for an account.
func NewHandler(b *fakebackend.Backend, opts Options) *Handler {
	return &Handler{backend: b, account: wire.Of(b), opts: opts, calls: map[callKey]int{}}
}

// Backend returns the account behind the handler.
func (h *Handler) Backend() *fakebackend.Backend { return h.backend }

// Call is how often an operation was requested.
type Call struct {
	Service   string `json:"service"`   // iot, s3, iam or sts
	Operation string `json:"operation"` // AWS's name of it; of an unknown one, the request's own word for it
	Count     int    `json:"count"`
	Known     bool   `json:"known"` // the fake has this operation
}

// Calls returns how often each operation was requested, refused requests included, sorted by service and operation.
func (h *Handler) Calls() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Call
	for k, n := range h.calls {
		out = append(out, Call{k.service, k.operation, n, k.known})
	}
	slices.SortFunc(out, func(a, b Call) int {
		if c := strings.Compare(a.Service, b.Service); c != 0 {
			return c
		}
		return strings.Compare(a.Operation, b.Operation)
	})
	return out
}

// maxUnknown bounds the operations that are counted by name: anybody can make up new ones.
const maxUnknown = 1000

func (h *Handler) count(service, operation string, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(operation) > 100 {
		operation = operation[:100]
	}
	key := callKey{service, strings.ToValidUTF8(operation, "?"), known}
	if _, ok := h.calls[key]; !ok && !known && len(h.calls) >= maxUnknown {
		key.operation = "(others)"
	}
	h.calls[key]++
}

// now is the time by AWS's clock.
func (h *Handler) now() time.Time { return time.Now().Add(h.opts.ClockSkew) }

// request is a request on its way through the handler.
type request struct {
	*http.Request
	id      string // request id, in the form of the service
	service string
	scope   *scope // what the signature claims; nil if there is none
	query   url.Values
	body    []byte // of IoT, IAM and STS, read whole, or to one byte more than maxBody; S3 streams
	wire    wire.Services
	op      string // the operation, for faults and the log
	failure string // error code of the answer, for the log
}

// maxBody is the most that a request other than an S3 upload may hold.
const maxBody = 4 << 20

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	answer := &statusWriter{ResponseWriter: w}
	w = answer
	if h.opts.ClockSkew != 0 {
		w.Header().Set("Date", h.now().UTC().Format(http.TimeFormat))
	}
	w.Header().Set("X-Iotfleet-Fake", "1")
	if strings.HasPrefix(r.URL.Path, "/_fake/") {
		h.serveControl(w, r)
		return
	}
	q, _ := url.ParseQuery(r.URL.RawQuery) // what does not parse is left out, as AWS does
	req := &request{Request: r, id: newRequestID(), query: q, wire: h.account.Services()}
	if h.opts.Logger != nil {
		defer func() {
			// The path may hold a presigned link's key, and the query its signature: neither is logged.
			h.opts.Logger.LogAttrs(r.Context(), slog.LevelInfo, "request", slog.String("service", req.service), slog.String("operation", req.op),
				slog.Int("status", answer.status), slog.String("error", req.failure), slog.Duration("took", time.Since(start)))
		}()
	}
	req.service, req.scope = h.route(r, q)
	if req.service == "s3" {
		h.serveS3(w, req)
		return
	}
	w.Header().Set("X-Amzn-Requestid", req.id)
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		req.drop() // the client went away, or lied about its length
	}
	req.body = body
	req.Request.Body = io.NopCloser(bytes.NewReader(body))
	switch req.service {
	case "iam":
		h.serveQuery(w, req, iamService)
	case "sts":
		h.serveQuery(w, req, stsService)
	default:
		h.serveIoT(w, req)
	}
}

// checkSize refuses a request that is larger than any that the fake takes.
func (r *request) checkSize() *task.Error {
	if len(r.body) <= maxBody {
		return nil
	}
	return &task.Error{
		Op: r.op, Code: "RequestEntityTooLargeException", Status: http.StatusRequestEntityTooLarge,
		Message: fmt.Sprintf("The request is larger than %d bytes, the most that the fake takes.", maxBody),
	}
}

// drop breaks the connection without an answer. It does not return.
func (r *request) drop() { panic(http.ErrAbortHandler) }

// strike applies the faults to a request that the handler answers by itself. The error is one to answer with; a fault
// that loses the request breaks the connection here.
func (h *Handler) strike(r *request) (wire.Strike, *task.Error) {
	s, err := h.account.Request(r.Context(), r.op, "")
	if err == nil {
		return s, nil
	}
	refusal, ok := asRefusal(err)
	if !ok {
		r.drop()
	}
	return s, refusal
}

// newRequestID makes an id in the form AWS uses.
func newRequestID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
