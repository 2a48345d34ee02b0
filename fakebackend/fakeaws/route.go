package fakeaws

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv2"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv4"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
)

// scope is what a request's signature claims, as far as it could be read.
type scope struct {
	signature *sigv4.Signature // nil when it could not be read
	err       error            // why not
	presigned bool
	old       *sigv2.Link // with errOldSignature: the presigned link, nil when it is none that could be read
}

// errOldSignature is the error of a request with a signature of version 2. S3 takes it in presigned links of its older
// regions only; see authenticateOldLink.
var errOldSignature = fmt.Errorf("%w: the signature is one of version 2", sigv4.ErrMalformed)

// signingNames are the services by the names their signatures are scoped to. Older clients sign requests to IoT as
// execute-api.
var signingNames = map[string]string{"iot": "iot", "execute-api": "iot", "s3": "s3", "s3express": "s3", "iam": "iam", "sts": "sts"}

// route returns the service that a request is for: the one its signature is scoped to, else the one that its host or
// path suggests.
func (h *Handler) route(r *http.Request, q url.Values) (service string, s *scope) {
	if header := r.Header.Get("Authorization"); header != "" {
		if s = (&scope{}); strings.HasPrefix(header, "AWS ") {
			s.err = errOldSignature
		} else {
			s.signature, s.err = sigv4.ParseHeader(header)
		}
	} else if q.Has("X-Amz-Algorithm") {
		s = &scope{presigned: true}
		s.signature, s.err = sigv4.ParseQuery(q)
	} else if q.Has("Signature") && q.Has("AWSAccessKeyId") {
		old, _ := sigv2.ParseQuery(q) // what cannot be read is refused like what is not signed with version 4
		return "s3", &scope{presigned: true, err: errOldSignature, old: old}
	}
	if s != nil && s.signature != nil {
		if service, ok := signingNames[s.signature.Service]; ok {
			return service, s
		}
	}
	if s != nil && s.presigned {
		return "s3", s
	}
	return h.guess(r), s
}

// guess returns the service that host and path suggest.
func (h *Handler) guess(r *http.Request) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if first, _, _ := strings.Cut(host, "."); partition.OwnsHost(host) {
		switch {
		case first == "iot" || first == "iot-fips":
			return "iot"
		case first == "iam" || first == "sts":
			return first
		case first == "s3" || strings.HasPrefix(first, "s3-") || strings.Contains(host, ".s3.") || strings.Contains(host, ".s3-"):
			return "s3"
		}
	}
	if r.Method == http.MethodPost && r.URL.Path == "/" && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return "iam"
	}
	if bucket := hostBucket(r.Host); bucket == "" && h.account.Router().Begins(r.URL.EscapedPath()) {
		return "iot"
	}
	return "s3"
}
