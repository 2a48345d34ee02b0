package fakeaws

import (
	"encoding/xml"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv4"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/task"
)

const s3Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// s3Request is a request to S3 with the bucket and the key of its address.
type s3Request struct {
	*request
	bucket, key string
	strike      wire.Strike
	report      bool // it came by a report link
}

func hostBucket(host string) string {
	bucket, _ := s3.Address(host, "")
	return bucket
}

// serveS3 answers a request to S3 (REST with XML).
func (h *Handler) serveS3(w http.ResponseWriter, req *request) {
	r := &s3Request{request: req}
	r.id = strings.ToUpper(strings.ReplaceAll(r.id, "-", ""))[:16]
	w.Header().Set("X-Amz-Request-Id", r.id)
	w.Header().Set("X-Amz-Id-2", r.id+"/fake")
	w.Header().Set("Server", "AmazonS3")
	r.bucket, r.key = s3.Address(r.Host, r.URL.Path)
	operation := findS3(r)
	if operation == nil {
		r.op = "unknown operation"
		h.count("s3", r.Method+" "+subresourceOf(r), false)
		refusal := &s3.Error{
			Code: "NotImplemented", Message: "A header or query you provided implies functionality that is not implemented by the fake",
			Status: http.StatusNotImplemented, Bucket: r.bucket, Key: r.key,
		}
		if !slices.Contains(s3Methods, r.Method) || r.bucket == "" && r.Method != http.MethodGet {
			refusal.Code, refusal.Message, refusal.Status = "MethodNotAllowed", "The specified method is not allowed against this resource.", http.StatusMethodNotAllowed
		}
		h.failS3(w, r, refusal)
		return
	}
	r.op = operation.name
	h.count("s3", operation.name, true)
	var err error
	if r.report, err = h.authenticateS3(req); err != nil {
		h.failS3(w, r, err)
		return
	}
	strike, refusal := h.strike(req)
	if refusal != nil {
		h.failS3(w, r, refusal)
		return
	}
	if r.strike = strike; strike.Expire {
		h.failS3(w, r, &s3.Error{Code: "AccessDenied", Message: "Request has expired", Status: http.StatusForbidden})
		return
	}
	held := &heldWriter{ResponseWriter: w, drop: strike.DropAfter}
	if err = h.checkBucket(held, r); err == nil {
		err = operation.handle(h, held, r)
	}
	if strike.DropAfter {
		r.drop()
	}
	if err != nil {
		h.failS3(w, r, err)
		return
	}
	if !held.wrote {
		w.WriteHeader(http.StatusOK)
	}
}

// heldWriter keeps an answer back that a fault will lose.
type heldWriter struct {
	http.ResponseWriter
	drop, wrote bool
}

func (w *heldWriter) WriteHeader(status int) {
	w.wrote = true
	if !w.drop {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *heldWriter) Write(p []byte) (int, error) {
	w.wrote = true
	if w.drop {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *heldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func subresourceOf(r *s3Request) string {
	for _, sub := range s3Subresources {
		if r.query.Has(sub) {
			return "?" + sub
		}
	}
	return r.URL.Path
}

// checkBucket refuses what S3 refuses before it looks at the operation: a bucket of another region than the request is
// signed for, or of another owner than the caller expects.
func (h *Handler) checkBucket(w http.ResponseWriter, r *s3Request) error {
	if r.bucket == "" || r.report || r.op == "CreateBucket" {
		return nil
	}
	bucket, err := r.wire.S3.HeadBucket(r.bucket)
	if err != nil {
		return nil // the operation itself words it
	}
	w.Header().Set("X-Amz-Bucket-Region", bucket.Region)
	if s := r.scope; s != nil && s.signature != nil && s.signature.Region != bucket.Region && s.signature.Service == "s3" {
		return (&s3.Error{
			Code: "PermanentRedirect", Status: http.StatusMovedPermanently, Bucket: r.bucket,
			Message: "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to" +
				" this endpoint.",
		}).With("Endpoint", r.Host).With("Bucket", r.bucket)
	}
	if err := expectedOwner(r, "X-Amz-Expected-Bucket-Owner", bucket.Owner); err != nil {
		return err
	}
	if bucket.Owner != h.backend.Options().Account {
		return accessDenied()
	}
	return nil
}

// expectedOwner holds a bucket's owner against the one that a header names, if it does.
func expectedOwner(r *s3Request, header, owner string) error {
	switch expected := r.Header.Get(header); {
	case expected == "" || expected == owner:
		return nil
	case !partition.IsAccount(expected):
		return (&s3.Error{Code: "InvalidBucketOwnerAWSAccountID", Status: http.StatusBadRequest,
			Message: "The value of the expected bucket owner parameter must be an AWS account ID"}).With("BucketOwner", expected)
	}
	return accessDenied()
}

func accessDenied() *s3.Error {
	return &s3.Error{Code: "AccessDenied", Message: "Access Denied", Status: http.StatusForbidden}
}

// failS3 answers with S3's error, which has no body when the request was for a head.
func (h *Handler) failS3(w http.ResponseWriter, r *s3Request, err error) {
	e, ok := errors.AsType[*s3.Error](err)
	if !ok {
		if refusal, isTask := errors.AsType[*task.Error](err); isTask {
			e = &s3.Error{Code: refusal.Code, Message: refusal.Message, Status: refusal.Status}
			if e.Code == "ThrottlingException" {
				e.Code, e.Message, e.Status = "SlowDown", "Please reduce your request rate.", http.StatusServiceUnavailable
			}
		} else if r.Context().Err() != nil {
			r.drop()
		} else {
			e = &s3.Error{Code: "InternalError", Message: err.Error(), Status: http.StatusInternalServerError}
		}
	}
	r.failure = e.Code
	w.Header().Set("Content-Type", "application/xml")
	if e.Status == 0 {
		e.Status = http.StatusBadRequest
	}
	w.WriteHeader(e.Status)
	if r.Method == http.MethodHead || e.Status == http.StatusNotModified {
		return
	}
	type member struct {
		XMLName xml.Name
		Value   string `xml:",chardata"`
	}
	body := struct {
		XMLName   xml.Name `xml:"Error"`
		Code      string
		Message   string
		More      []member
		RequestID string `xml:"RequestId"`
		HostID    string `xml:"HostId"`
	}{Code: e.Code, Message: e.Message, RequestID: r.id, HostID: r.id + "/fake"}
	for _, m := range e.More {
		body.More = append(body.More, member{xml.Name{Local: m.Name}, m.Value})
	}
	if unsigned, ok := errors.AsType[*sigv4.UnsignedError](err); ok {
		body.More = append(body.More, member{xml.Name{Local: "HeadersNotSigned"}, strings.Join(unsigned.Headers, ", ")})
	}
	writeXMLBody(w, body)
}

func writeXML(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusOK)
	writeXMLBody(w, v)
	return nil
}

func writeXMLBody(w http.ResponseWriter, v any) {
	raw, err := xml.Marshal(v)
	if err != nil {
		return // the connection's length is unknown, so the client sees an answer without a body
	}
	w.Write([]byte(xml.Header))
	w.Write(raw)
}

// readXML reads the small XML body of a request.
func (h *Handler) readXML(r *s3Request, into any) error {
	malformed := &s3.Error{
		Code: "MalformedXML", Message: "The XML you provided was not well-formed or did not validate against our published schema",
		Status: http.StatusBadRequest, Bucket: r.bucket, Key: r.key,
	}
	raw, err := h.readBody(r)
	if err != nil {
		return err
	}
	if len(raw) == 0 {
		return malformed
	}
	if err := xml.Unmarshal(raw, into); err != nil {
		return malformed
	}
	return nil
}
