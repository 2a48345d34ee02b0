package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Algorithm is the name of the only algorithm this package knows.
const Algorithm = "AWS4-HMAC-SHA256"

const timeFormat = "20060102T150405Z"

// EmptySHA256 is the hex SHA-256 of nothing.
const EmptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// UnsignedPayload stands for the digest of a body that the signature does not cover.
const UnsignedPayload = "UNSIGNED-PAYLOAD"

// Reasons why a signature is not accepted.
var (
	// ErrMalformed: the header or the query is not a version 4 signature.
	ErrMalformed = errors.New("malformed signature")
	// ErrMismatch: the signature is not that of this request and key.
	ErrMismatch = errors.New("signature does not match")
	// ErrExpired: the presigned link's time is over.
	ErrExpired = errors.New("request has expired")
	// ErrNotYetValid: the presigned link was signed in the future.
	ErrNotYetValid = errors.New("request is not yet valid")
	// ErrSkewed: the request's time is more than 15 minutes from the server's.
	ErrSkewed = errors.New("request time too skewed")
)

// UnsignedError is a request to S3 with headers that the signature must cover and does not.
type UnsignedError struct {
	Headers []string // lower case, sorted
}

// Error names the headers.
func (e *UnsignedError) Error() string {
	return "headers of the request are not signed: " + strings.Join(e.Headers, ", ")
}

// MaxSkew is how far the clock of a client may be from the server's.
const MaxSkew = 15 * time.Minute

// MaxLife is the longest life of a presigned link.
const MaxLife = 7 * 24 * time.Hour

// Credentials are an access key with its secret. They print without the secret.
type Credentials struct {
	AccessKey    string
	SecretKey    string
	SessionToken string // empty for a long-term key
}

// String returns the access key and nothing secret.
func (c Credentials) String() string { return "credentials " + c.AccessKey }

// GoString is [Credentials.String].
func (c Credentials) GoString() string { return c.String() }

// Signature is what a request claims about its own signing.
type Signature struct {
	AccessKey     string
	Date          string // of the scope, 20060102
	Region        string
	Service       string
	SignedHeaders []string // lower case, in the order given
	Hex           string   // the signature itself
	SessionToken  string

	// Of presigned links only.
	Presigned bool
	Signed    time.Time
	Life      time.Duration
}

// Scope is the credential scope: date/region/service/aws4_request.
func (s *Signature) Scope() string {
	return s.Date + "/" + s.Region + "/" + s.Service + "/aws4_request"
}

// ParseHeader reads an Authorization header.
func ParseHeader(authorization string) (*Signature, error) {
	rest, ok := strings.CutPrefix(authorization, Algorithm)
	if !ok {
		return nil, fmt.Errorf("%w: the algorithm is not %s", ErrMalformed, Algorithm)
	}
	s := &Signature{}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			if err := s.credential(value); err != nil {
				return nil, err
			}
		case "SignedHeaders":
			s.SignedHeaders = strings.Split(value, ";")
		case "Signature":
			s.Hex = value
		}
	}
	return s, s.complete()
}

// ParseQuery reads the query of a presigned link.
func ParseQuery(q url.Values) (*Signature, error) {
	if a := q.Get("X-Amz-Algorithm"); a != Algorithm {
		return nil, fmt.Errorf("%w: X-Amz-Algorithm is not %s", ErrMalformed, Algorithm)
	}
	s := &Signature{Presigned: true, Hex: q.Get("X-Amz-Signature"), SessionToken: q.Get("X-Amz-Security-Token")}
	if h := q.Get("X-Amz-SignedHeaders"); h != "" {
		s.SignedHeaders = strings.Split(h, ";")
	}
	if err := s.credential(q.Get("X-Amz-Credential")); err != nil {
		return nil, err
	}
	var err error
	if s.Signed, err = time.Parse(timeFormat, q.Get("X-Amz-Date")); err != nil {
		return nil, fmt.Errorf("%w: X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"", ErrMalformed)
	}
	seconds, err := strconv.ParseInt(q.Get("X-Amz-Expires"), 10, 64)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: X-Amz-Expires should be a number", ErrMalformed)
	case seconds < 0:
		return nil, fmt.Errorf("%w: X-Amz-Expires must be non-negative", ErrMalformed)
	case seconds > int64(MaxLife/time.Second):
		return nil, fmt.Errorf("%w: X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds", ErrMalformed)
	}
	s.Life = time.Duration(seconds) * time.Second
	return s, s.complete()
}

func (s *Signature) credential(value string) error {
	parts := strings.Split(value, "/")
	// An access key may hold slashes in principle; the four parts after it may not.
	n := len(parts)
	if n < 5 || parts[n-1] != "aws4_request" {
		return fmt.Errorf("%w: the credential is not accessKey/date/region/service/aws4_request", ErrMalformed)
	}
	s.AccessKey = strings.Join(parts[:n-4], "/")
	s.Date, s.Region, s.Service = parts[n-4], parts[n-3], parts[n-2]
	return nil
}

func (s *Signature) complete() error {
	switch {
	case s.AccessKey == "" || s.Date == "" || s.Service == "":
		return fmt.Errorf("%w: the credential is missing", ErrMalformed)
	case len(s.SignedHeaders) == 0:
		return fmt.Errorf("%w: the signed headers are missing", ErrMalformed)
	case s.Hex == "":
		return fmt.Errorf("%w: the signature is missing", ErrMalformed)
	}
	return nil
}

// Verify checks a request against the secret key that belongs to the signature's access key. payload is the hex SHA-256
// of the body, or what the request gave in its place; for a presigned link it is [UnsignedPayload] unless the request
// signs another. The error is an [*UnsignedError] or wraps one of this package's Err values.
func (s *Signature) Verify(r *http.Request, payload, secretKey string, now time.Time) error {
	at, err := s.time(r)
	if err != nil {
		return err
	}
	if at.Format("20060102") != s.Date {
		return fmt.Errorf("%w: the date of the scope is not that of the request", ErrMalformed)
	}
	switch {
	case s.Presigned && now.After(at.Add(s.Life)):
		return ErrExpired
	case s.Presigned && now.Before(at.Add(-MaxSkew)):
		return ErrNotYetValid
	case !s.Presigned && (now.Sub(at) > MaxSkew || at.Sub(now) > MaxSkew):
		return ErrSkewed
	case s.Service != "s3" && !slices.Contains(s.SignedHeaders, "host"):
		return fmt.Errorf("%w: the host header must be signed", ErrMalformed)
	}
	if left := s.unsigned(r.Header); s.Service == "s3" && len(left) > 0 {
		return &UnsignedError{left}
	}
	want := s.sign(secretKey, at, canonical(r, s, payload))
	if subtle.ConstantTimeCompare([]byte(want), []byte(s.Hex)) != 1 {
		return ErrMismatch
	}
	return nil
}

// Explain returns what Verify signs: the string to sign, and the canonical request whose digest is in it. S3 puts both
// into its refusal of a signature that does not match.
func (s *Signature) Explain(r *http.Request, payload string) (stringToSign, canonicalRequest string, err error) {
	at, err := s.time(r)
	if err != nil {
		return "", "", err
	}
	canonicalRequest = canonical(r, s, payload)
	return s.stringToSign(at, canonicalRequest), canonicalRequest, nil
}

// unsigned returns the headers that S3 wants signed and that are not: host, content-md5 and all x-amz-… ones. The
// digest of the body is not among them: it is part of what is signed whether its header is or not.
func (s *Signature) unsigned(h http.Header) []string {
	var left []string
	if !slices.Contains(s.SignedHeaders, "host") {
		left = append(left, "host")
	}
	for name := range h {
		name = strings.ToLower(name)
		demanded := name == "content-md5" || strings.HasPrefix(name, "x-amz-") && name != "x-amz-content-sha256"
		if demanded && !slices.Contains(s.SignedHeaders, name) {
			left = append(left, name)
		}
	}
	slices.Sort(left)
	return left
}

func (s *Signature) time(r *http.Request) (time.Time, error) {
	if s.Presigned {
		return s.Signed, nil
	}
	if at, err := time.Parse(timeFormat, r.Header.Get("X-Amz-Date")); err == nil {
		return at, nil
	}
	if at, err := http.ParseTime(r.Header.Get("Date")); err == nil {
		return at.UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%w: the request has no date", ErrMalformed)
}

func (s *Signature) sign(secretKey string, at time.Time, canonicalRequest string) string {
	return hex.EncodeToString(mac(s.key(secretKey), s.stringToSign(at, canonicalRequest)))
}

func (s *Signature) stringToSign(at time.Time, canonicalRequest string) string {
	sum := sha256.Sum256([]byte(canonicalRequest))
	return Algorithm + "\n" + at.Format(timeFormat) + "\n" + s.Scope() + "\n" + hex.EncodeToString(sum[:])
}

// key derives the signing key of the scope.
func (s *Signature) key(secretKey string) []byte {
	k := mac([]byte("AWS4"+secretKey), s.Date)
	k = mac(k, s.Region)
	k = mac(k, s.Service)
	return mac(k, "aws4_request")
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// Presign returns the address of a request signed in its query. Only the host header is signed. The URL's own query is
// kept.
func Presign(method string, u *url.URL, region, service string, c Credentials, now time.Time, life time.Duration) string {
	now = now.UTC()
	s := &Signature{
		AccessKey: c.AccessKey, Date: now.Format("20060102"), Region: region, Service: service, SignedHeaders: []string{"host"},
		Presigned: true, Signed: now, Life: life,
	}
	signed := *u
	q := signed.Query()
	q.Set("X-Amz-Algorithm", Algorithm)
	q.Set("X-Amz-Credential", s.AccessKey+"/"+s.Scope())
	q.Set("X-Amz-Date", now.Format(timeFormat))
	q.Set("X-Amz-Expires", strconv.FormatInt(int64(life/time.Second), 10))
	q.Set("X-Amz-SignedHeaders", "host")
	if c.SessionToken != "" {
		q.Set("X-Amz-Security-Token", c.SessionToken)
	}
	signed.RawQuery = q.Encode()
	r := &http.Request{Method: method, URL: &signed, Host: u.Host, Header: http.Header{}}
	signature := s.sign(c.SecretKey, now, canonical(r, s, UnsignedPayload))
	signed.RawQuery += "&X-Amz-Signature=" + signature
	return signed.String()
}

// canonical writes the request in the form that is signed.
func canonical(r *http.Request, s *Signature, payload string) string {
	var b strings.Builder
	b.WriteString(r.Method)
	b.WriteByte('\n')
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	if s.Service == "s3" {
		// S3 signs the path with every segment encoded once, whatever the client's own choice of escapes was.
		if plain, err := url.PathUnescape(path); err == nil {
			path = escape(plain, true)
		}
	} else {
		path = escape(path, true) // all other services sign the encoded path encoded again
	}
	b.WriteString(path)
	b.WriteByte('\n')
	b.WriteString(canonicalQuery(r.URL.RawQuery))
	b.WriteByte('\n')
	for _, name := range s.SignedHeaders {
		b.WriteString(name)
		b.WriteByte(':')
		b.WriteString(headerValue(r, name))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.WriteString(strings.Join(s.SignedHeaders, ";"))
	b.WriteByte('\n')
	b.WriteString(payload)
	return b.String()
}

func canonicalQuery(raw string) string {
	var pairs []string
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(k)
		if err != nil {
			name = k
		}
		if name == "X-Amz-Signature" {
			continue
		}
		value, err := url.QueryUnescape(v)
		if err != nil {
			value = v
		}
		pairs = append(pairs, escape(name, false)+"="+escape(value, false))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// headerValue returns a header as it is signed: values joined by commas, outer spaces gone, inner runs of spaces made
// one.
func headerValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		if v := r.Header.Get("Content-Length"); v != "" {
			return v
		}
		return strconv.FormatInt(r.ContentLength, 10)
	case "transfer-encoding":
		return strings.Join(r.TransferEncoding, ",")
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

const upperHex = "0123456789ABCDEF"

// escape encodes everything but letters, digits and -._~ (and the slash if asked).
func escape(s string, keepSlash bool) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~', c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// EscapePath encodes a path as S3's clients do: everything but letters, digits, -._~ and the slash.
func EscapePath(path string) string { return escape(path, true) }
