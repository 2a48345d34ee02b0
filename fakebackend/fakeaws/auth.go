package fakeaws

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv2"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv4"
	"github.com/seed1ff6f450/iotfleet/task"
)

func asRefusal(err error) (*task.Error, bool) {
	if errors.Is(err, task.ErrOutcomeUnknown) {
		return nil, false
	}
	return errors.AsType[*task.Error](err)
}

// authenticate checks the signature of a request to IoT, IAM or STS, in the words of the JSON services or of the query
// services. Without known keys it only demands that there is one.
func (h *Handler) authenticate(r *request, json bool) *task.Error {
	refuse := func(jsonCode, queryCode, message string) *task.Error {
		code := queryCode
		if json {
			code = jsonCode
		}
		return &task.Error{Op: r.op, Code: code, Message: message, Status: http.StatusForbidden}
	}
	s := r.scope
	switch {
	case s == nil && h.opts.AllowUnsigned:
		return nil
	case s == nil:
		return refuse("MissingAuthenticationTokenException", "MissingAuthenticationToken", "Missing Authentication Token")
	case s.err != nil:
		return refuse("IncompleteSignatureException", "IncompleteSignature", s.err.Error())
	case json && s.signature.Region != h.backend.Options().Region:
		// The account's endpoint is that of one region; another region's would not take the signature either.
		return refuse("InvalidSignatureException", "SignatureDoesNotMatch", "Credential should be scoped to a valid region, not '"+s.signature.Region+"'. ")
	case h.opts.Credentials == nil:
		return nil
	}
	secret, ok := h.opts.Credentials[s.signature.AccessKey]
	if !ok {
		return refuse("UnrecognizedClientException", "InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	sum := sha256.Sum256(r.body)
	err := s.signature.Verify(r.Request, hex.EncodeToString(sum[:]), secret, h.now())
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sigv4.ErrMismatch):
		return refuse("InvalidSignatureException", "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you"+
			" provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	case errors.Is(err, sigv4.ErrMalformed):
		return refuse("IncompleteSignatureException", "IncompleteSignature", err.Error())
	}
	return refuse("InvalidSignatureException", "SignatureDoesNotMatch", "Signature expired: the request's time is too far from now, "+
		h.now().UTC().Format("20060102T150405Z"))
}

// authenticateS3 checks the signature of a request to S3. The link of a report is checked against the key it was made
// with, whatever keys the handler knows, and at the time of the fake's own clock; what clients sign is checked at this
// machine's time. It reports whether the request is such a link.
func (h *Handler) authenticateS3(r *request) (report bool, err error) {
	s := r.scope
	switch {
	case s == nil && h.opts.AllowUnsigned:
		return false, nil
	case s == nil:
		return false, &s3.Error{Code: "AccessDenied", Message: "Access Denied", Status: http.StatusForbidden}
	case s.old != nil && !h.opts.RefuseOldLinks && slices.Contains(oldRegions, h.backend.Options().Region):
		return false, h.authenticateOldLink(r, s.old)
	case errors.Is(s.err, errOldSignature):
		return false, &s3.Error{Code: "InvalidRequest", Message: "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.", Status: http.StatusBadRequest}
	case s.err != nil:
		return false, s3.SignatureError(s.err, s.presigned)
	}
	if s.presigned && s.signature.AccessKey == r.wire.Links.AccessKey() {
		return true, r.wire.Links.Verify(r.Request, r.wire.Now)
	}
	if h.opts.Credentials == nil {
		if s.presigned && h.now().After(s.signature.Signed.Add(s.signature.Life)) {
			return false, refuseSignature(sigv4.ErrExpired, r, sigv4.UnsignedPayload, h.now())
		}
		return false, nil
	}
	secret, ok := h.opts.Credentials[s.signature.AccessKey]
	if !ok {
		return false, unknownAccessKey()
	}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	if payload == "" {
		if !s.presigned {
			return false, &s3.Error{Code: "InvalidRequest", Message: "Missing required header for this request: x-amz-content-sha256", Status: http.StatusBadRequest}
		}
		payload = sigv4.UnsignedPayload
	}
	now := h.now()
	return false, refuseSignature(s.signature.Verify(r.Request, payload, secret, now), r, payload, now)
}

// refuseSignature is S3's refusal of a signature of version 4, with what helps to find the fault; nil for nil.
func refuseSignature(err error, r *request, payload string, now time.Time) error {
	s := r.scope
	refusal := s3.SignatureError(err, s.presigned)
	e, ok := errors.AsType[*s3.Error](refusal)
	switch {
	case !ok:
	case errors.Is(err, sigv4.ErrExpired):
		return expired(e, s.signature.Signed.Add(s.signature.Life), now, s.signature.Life)
	case errors.Is(err, sigv4.ErrMismatch):
		text, canonical, err := s.signature.Explain(r.Request, payload)
		if err != nil {
			break
		}
		return e.With("AWSAccessKeyId", s.signature.AccessKey).With("StringToSign", text).With("SignatureProvided", s.signature.Hex).
			With("StringToSignBytes", fmt.Sprintf("% x", text)).With("CanonicalRequest", canonical).With("CanonicalRequestBytes", fmt.Sprintf("% x", canonical))
	}
	return refusal
}

// expired adds the times to the refusal of a link that is over. A link of signature version 2 has no life of its own: 0.
func expired(e *s3.Error, end, now time.Time, life time.Duration) error {
	if life > 0 {
		e = e.With("X-Amz-Expires", strconv.FormatInt(int64(life/time.Second), 10))
	}
	return e.With("Expires", end.UTC().Format(time.RFC3339)).With("ServerTime", now.UTC().Format(time.RFC3339))
}

// oldRegions are S3's regions that take signatures of version 2, as AWS's SDKs list them.
var oldRegions = []string{
	"us-east-1", "us-west-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-1", "ap-southeast-2", "sa-east-1",
}

// authenticateOldLink checks a presigned link of signature version 2, which boto3 and version 1 of the AWS CLI make by
// default in the older regions.
func (h *Handler) authenticateOldLink(r *request, l *sigv2.Link) error {
	now := h.now()
	if h.opts.Credentials == nil {
		if now.After(l.Expires) {
			return expired(s3.Expired(), l.Expires, now, 0)
		}
		return nil
	}
	secret, ok := h.opts.Credentials[l.AccessKey]
	if !ok {
		return unknownAccessKey()
	}
	switch err := l.Verify(r.Request, hostBucket(r.Host), secret, now); {
	case errors.Is(err, sigv2.ErrExpired):
		return expired(s3.Expired(), l.Expires, now, 0)
	case err != nil:
		text, signature := l.Explain(r.Request, hostBucket(r.Host))
		return s3.SignatureMismatch().With("AWSAccessKeyId", l.AccessKey).With("StringToSign", text).With("SignatureProvided", signature).
			With("StringToSignBytes", fmt.Sprintf("% x", text))
	}
	return nil
}

func unknownAccessKey() *s3.Error {
	return &s3.Error{Code: "InvalidAccessKeyId", Message: "The AWS Access Key Id you provided does not exist in our records.", Status: http.StatusForbidden}
}
