// Package sigv2 checks presigned links of S3's signature version 2, which boto3 and version 1 of the AWS CLI still make
// by default in S3's older regions:
//
//	link, err := sigv2.ParseQuery(r.URL.Query())
//	if err == nil {
//		err = link.Verify(r, "bucket", secret, now) // "" for a bucket in the path
//	}
//
// AWS: https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html
package sigv2

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reasons why a link is not accepted.
var (
	// ErrMalformed: one of AWSAccessKeyId, Expires and Signature is missing, or Expires is no number.
	ErrMalformed = errors.New("malformed signature of version 2")
	// ErrExpired: the link's time is over.
	ErrExpired = errors.New("request has expired")
	// ErrMismatch: the signature is not that of this request and key.
	ErrMismatch = errors.New("signature does not match")
)

// Link is what a presigned link claims about its own signing.
type Link struct {
	AccessKey string
	Expires   time.Time
	signature string
	expires   string // as written
}

// ParseQuery reads the query of a link.
func ParseQuery(q url.Values) (*Link, error) {
	l := &Link{AccessKey: q.Get("AWSAccessKeyId"), signature: q.Get("Signature"), expires: q.Get("Expires")}
	seconds, err := strconv.ParseInt(l.expires, 10, 64)
	if l.AccessKey == "" || l.signature == "" || err != nil || seconds < 0 || seconds > maxSeconds {
		return nil, ErrMalformed
	}
	l.Expires = time.Unix(seconds, 0).UTC()
	return l, nil
}

// maxSeconds is the last second of the year 9999, the greatest time that can be written.
const maxSeconds = 253402300799

// Verify checks a request against the secret key that belongs to the link's access key. The bucket is the one in the
// request's host, "" when it is in the path.
func (l *Link) Verify(r *http.Request, bucket, secretKey string, now time.Time) error {
	if now.After(l.Expires) {
		return ErrExpired
	}
	want := sign(secretKey, l.stringToSign(r, bucket))
	if subtle.ConstantTimeCompare([]byte(want), []byte(l.signature)) != 1 {
		return ErrMismatch
	}
	return nil
}

// Explain returns the string that Verify signs, and the signature that the link has.
func (l *Link) Explain(r *http.Request, bucket string) (stringToSign, signature string) {
	return l.stringToSign(r, bucket), l.signature
}

func sign(secretKey, text string) string {
	h := hmac.New(sha1.New, []byte(secretKey))
	h.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// subresources are the query members that are signed.
var subresources = []string{
	"accelerate", "acl", "cors", "defaultObjectAcl", "delete", "lifecycle", "location", "logging", "notification", "partNumber", "policy",
	"replication", "requestPayment", "response-cache-control", "response-content-disposition", "response-content-encoding",
	"response-content-language", "response-content-type", "response-expires", "restore", "storageClass", "tagging", "torrent", "uploadId",
	"uploads", "versionId", "versioning", "versions", "website",
}

// stringToSign writes the request in the form that is signed. What a header would hold may stand in the query.
func (l *Link) stringToSign(r *http.Request, bucket string) string {
	q := r.URL.Query()
	value := func(name string) string {
		if v := r.Header.Get(name); v != "" {
			return v
		}
		return q.Get(strings.ToLower(name))
	}
	var b strings.Builder
	for _, line := range []string{r.Method, value("Content-Md5"), value("Content-Type"), l.expires} {
		b.WriteString(line + "\n")
	}
	amazon := map[string]string{}
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			amazon[name] = strings.Join(values, ",")
		}
	}
	for name, values := range q {
		if strings.HasPrefix(name, "x-amz-") {
			amazon[name] = strings.Join(values, ",")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(amazon)) {
		b.WriteString(name + ":" + strings.TrimSpace(amazon[name]) + "\n")
	}
	if bucket != "" {
		b.WriteString("/" + bucket)
	}
	b.WriteString(r.URL.EscapedPath())
	separator := "?"
	for _, name := range subresources {
		if !q.Has(name) {
			continue
		}
		b.WriteString(separator + name)
		if v := q.Get(name); v != "" {
			b.WriteString("=" + v)
		}
		separator = "&"
	}
	return b.String()
}
