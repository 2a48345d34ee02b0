package s3

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv4"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
)

// Signer makes presigned links for reading and checks them. It signs as AWS's own services do, with a temporary key.
// It is safe for concurrent use.
type Signer struct {
	region      string
	credentials sigv4.Credentials
}

// NewSigner makes a signer whose key follows from the seed.
func NewSigner(seed []byte, region string) *Signer {
	draw := func(label string, n int) []byte {
		raw, err := hkdf.Key(sha256.New, seed, nil, "s3 links "+label, n)
		if err != nil {
			panic(err) // only for more than 8,160 bytes
		}
		return raw
	}
	return &Signer{region, sigv4.Credentials{
		AccessKey:    "ASIA" + base32.StdEncoding.EncodeToString(draw("key", 10)),
		SecretKey:    base64.StdEncoding.EncodeToString(draw("secret", 30)),
		SessionToken: base64.StdEncoding.EncodeToString(draw("token", 96)),
	}}
}

// AccessKey is the key id that the signer's links name.
func (s *Signer) AccessKey() string { return s.credentials.AccessKey }

// Presign makes a link that lets its holder read an object for a while, at most seven days. The link leads to the
// bucket's own host at AWS when base is empty, else to base/bucket/key, such as http://127.0.0.1:4566.
func (s *Signer) Presign(base, bucket, key string, now time.Time, life time.Duration) (string, error) {
	u := &url.URL{Scheme: "https", Host: bucket + ".s3." + s.region + "." + partition.Of(s.region).DNSSuffix, Path: "/" + key}
	if s.region == "us-east-1" {
		u.Host = bucket + ".s3.amazonaws.com" // the first region has no name here
	}
	if base != "" {
		var err error
		if u, err = url.Parse(base); err != nil {
			return "", err
		}
		u.Path = strings.TrimSuffix(u.Path, "/") + "/" + bucket + "/" + key
	}
	u.RawPath = sigv4.EscapePath(u.Path)
	return sigv4.Presign(http.MethodGet, u, s.region, "s3", s.credentials, now, life), nil
}

// Open checks a link and returns what it leads to. The error is an [*Error] with status 403 when the link has expired
// or was not made by this signer.
func (s *Signer) Open(link string, now time.Time) (bucket, key string, err error) {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" {
		return "", "", &Error{Code: "InvalidURI", Message: "Couldn't parse the specified URI.", Status: 400}
	}
	bucket, key = Address(u.Host, u.Path)
	r := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}
	return bucket, key, s.Verify(r, now)
}

// Verify checks the query signature of a request for a link of this signer.
func (s *Signer) Verify(r *http.Request, now time.Time) error {
	signature, err := sigv4.ParseQuery(r.URL.Query())
	if err == nil && signature.AccessKey != s.credentials.AccessKey {
		return &Error{Code: "InvalidAccessKeyId", Message: "The AWS Access Key Id you provided does not exist in our records.", Status: 403}
	}
	if err == nil {
		err = signature.Verify(r, sigv4.UnsignedPayload, s.credentials.SecretKey, now)
	}
	return SignatureError(err, true)
}

// SignatureError returns S3's [*Error] for a signature that package sigv4 does not accept; nil for nil. Its chain also
// has the [*sigv4.UnsignedError], if it is one.
func SignatureError(err error, presigned bool) error {
	code := "AuthorizationHeaderMalformed"
	if presigned {
		code = "AuthorizationQueryParametersError"
	}
	unsigned, ok := errors.AsType[*sigv4.UnsignedError](err)
	switch {
	case err == nil:
		return nil
	case ok: // S3 puts the names beside its message, not in it
		return fmt.Errorf("%w: %w", &Error{Code: "AccessDenied", Message: "There were headers present in the request which were not signed", Status: 403}, unsigned)
	case errors.Is(err, sigv4.ErrExpired):
		return Expired()
	case errors.Is(err, sigv4.ErrNotYetValid):
		return &Error{Code: "AccessDenied", Message: "Request is not yet valid", Status: 403}
	case errors.Is(err, sigv4.ErrSkewed):
		return &Error{Code: "RequestTimeTooSkewed", Message: "The difference between the request time and the current time is too large.", Status: 403}
	case errors.Is(err, sigv4.ErrMismatch):
		return SignatureMismatch()
	}
	return &Error{Code: code, Message: strings.TrimPrefix(err.Error(), sigv4.ErrMalformed.Error()+": "), Status: 400}
}

// Expired is the refusal of a presigned link whose time is over.
func Expired() *Error {
	return &Error{Code: "AccessDenied", Message: "Request has expired", Status: 403}
}

// SignatureMismatch is the refusal of a signature that is not that of the request and the key.
func SignatureMismatch() *Error {
	return &Error{Code: "SignatureDoesNotMatch", Message: "The request signature we calculated does not match the signature you provided." +
		" Check your key and signing method.", Status: 403}
}

// Address returns bucket and key of a request by its host and its decoded path: the bucket is in the host
// (bucket.s3.region.amazonaws.com and the like in each partition, bucket.s3.amazonaws.com, bucket.localhost) or is the
// first part of the path. Either may be empty. The host s3.localhost is S3 itself: a bucket cannot have so short a
// name.
func Address(host, path string) (bucket, key string) {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	path = strings.TrimPrefix(path, "/")
	for _, mark := range []string{".s3.", ".s3-", ".localhost"} {
		i := strings.LastIndex(host, mark)
		if i <= 0 || host == "s3.localhost" {
			continue
		}
		rest := host[i:]
		if mark == ".localhost" && rest != mark || mark != ".localhost" && !partition.OwnsHost(host) && !strings.Contains(rest, ".localhost") {
			continue
		}
		return strings.TrimSuffix(host[:i], ".s3"), path
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}
