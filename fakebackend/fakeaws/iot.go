package fakeaws

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/task"
)

// serveIoT answers a request to AWS IoT (REST with JSON).
func (h *Handler) serveIoT(w http.ResponseWriter, r *request) {
	operation, labels := h.account.Router().Find(r.Method, r.URL.EscapedPath())
	if operation == nil {
		h.count("iot", r.Method+" "+r.URL.Path, false)
		r.op = "unknown operation"
		writeIoTError(w, r, &task.Error{
			Code: "UnknownOperationException", Status: http.StatusNotFound,
			Message: "The fake does not know " + r.Method + " " + r.URL.Path + " of AWS IoT.",
		})
		return
	}
	r.op = operation.Name
	h.count("iot", r.op, true)
	if err := r.checkSize(); err != nil {
		writeIoTError(w, r, err)
		return
	}
	if err := h.authenticate(r, true); err != nil {
		writeIoTError(w, r, err)
		return
	}
	in, empty, err := operation.Decode(restjson.Request{Labels: labels, Query: r.query, Header: r.Header, Body: r.body})
	if wrong, ok := errors.AsType[*restjson.DecodeError](err); ok {
		writeIoTError(w, r, &task.Error{Op: r.op, Code: "SerializationException", Message: wrong.Message, Status: http.StatusBadRequest})
		return
	}
	out, err := h.account.Do(r.Context(), operation, in, empty)
	if err != nil {
		h.failIoT(w, r, err)
		return
	}
	body, err := restjson.Encode(out, func(v any) (string, bool, error) {
		link, ok := v.(task.Link)
		if !ok {
			return "", false, nil
		}
		own, err := h.ownLink(r, link)
		return own, true, err
	})
	if err != nil {
		h.failIoT(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.Write(body)
}

// failIoT answers with an operation's error, or breaks the connection when the error is that there is no answer.
func (h *Handler) failIoT(w http.ResponseWriter, r *request, err error) {
	refusal, ok := errors.AsType[*task.Error](err)
	switch {
	case errors.Is(err, task.ErrOutcomeUnknown), !ok && r.Context().Err() != nil:
		r.drop()
	case !ok:
		refusal = &task.Error{Op: r.op, Code: "InternalFailureException", Message: err.Error(), Status: http.StatusInternalServerError}
	}
	writeIoTError(w, r, refusal)
}

func writeIoTError(w http.ResponseWriter, r *request, refusal *task.Error) {
	r.failure = refusal.Code
	status := refusal.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	body := map[string]string{"message": refusal.Message, "traceId": r.id}
	if existing, ok := errors.AsType[*wire.ExistingResource](refusal); ok {
		body["resourceId"], body["resourceArn"] = existing.ID, existing.ARN
	}
	raw, err := json.Marshal(body)
	if err != nil { // a map of strings always encodes
		raw = []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", refusal.Code+":")
	w.WriteHeader(status)
	w.Write(raw)
}

// ownLink makes a report link lead to this server, under the host that the client used, with the time left to it as it
// was.
func (h *Handler) ownLink(r *request, l task.Link) (string, error) {
	u, err := url.Parse(l.URL())
	if err != nil {
		return "", errors.New("the backend's report link is not an address")
	}
	bucket, key := s3.Address(u.Host, u.Path)
	signed, err := time.Parse("20060102T150405Z", u.Query().Get("X-Amz-Date"))
	if err != nil {
		return "", errors.New("the backend's report link has no date")
	}
	life, err := time.ParseDuration(u.Query().Get("X-Amz-Expires") + "s")
	if err != nil {
		return "", errors.New("the backend's report link has no expiry")
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return r.wire.Links.Presign(scheme+"://"+r.Host, bucket, key, signed, life)
}
