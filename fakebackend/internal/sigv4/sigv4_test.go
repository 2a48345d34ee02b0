package sigv4

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The examples of AWS's documentation of S3, with the keys, requests and signatures printed there.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
const exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

var (
	exampleKey  = Credentials{AccessKey: "AKIAIOSFODNN7EXAMPLE", SecretKey: exampleSecret}
	exampleTime = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
)

func exampleHeader(signed, signature string) string {
	return "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + signed + ",Signature=" + signature
}

func TestTheSignedRequestOfTheDocumentationVerifies(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "http://examplebucket.s3.amazonaws.com/test.txt", nil)
	r.Header.Set("Range", "bytes=0-9")
	r.Header.Set("X-Amz-Content-Sha256", EmptySHA256)
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	s, err := ParseHeader(exampleHeader("host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"))
	require.NoError(t, err)
	assert.Equal(t, "AKIAIOSFODNN7EXAMPLE", s.AccessKey)
	assert.Equal(t, "20130524/us-east-1/s3/aws4_request", s.Scope())
	assert.NoError(t, s.Verify(r, EmptySHA256, exampleSecret, exampleTime.Add(10*time.Minute)))
	assert.ErrorIs(t, s.Verify(r, EmptySHA256, exampleSecret, exampleTime.Add(16*time.Minute)), ErrSkewed)
	assert.ErrorIs(t, s.Verify(r, EmptySHA256, exampleSecret, exampleTime.Add(-16*time.Minute)), ErrSkewed)
	assert.ErrorIs(t, s.Verify(r, EmptySHA256, "another", exampleTime), ErrMismatch)
	assert.ErrorIs(t, s.Verify(r, UnsignedPayload, exampleSecret, exampleTime), ErrMismatch)
	r.Header.Set("Range", "bytes=0-10")
	assert.ErrorIs(t, s.Verify(r, EmptySHA256, exampleSecret, exampleTime), ErrMismatch)
}

func TestTheListingWithAQueryOfTheDocumentationVerifies(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "http://examplebucket.s3.amazonaws.com/?prefix=J&max-keys=2", nil)
	r.Header.Set("X-Amz-Content-Sha256", EmptySHA256)
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	s, err := ParseHeader(exampleHeader("host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"))
	require.NoError(t, err)
	assert.NoError(t, s.Verify(r, EmptySHA256, exampleSecret, exampleTime))
}

func TestTheUploadOfTheDocumentationVerifies(t *testing.T) {
	body := "Welcome to Amazon S3."
	r := httptest.NewRequest(http.MethodPut, "http://examplebucket.s3.amazonaws.com/test$file.text", nil)
	payload := fmt.Sprintf("%x", sha256.Sum256([]byte(body)))
	r.Header.Set("Date", "Fri, 24 May 2013 00:00:00 GMT")
	r.Header.Set("X-Amz-Content-Sha256", payload)
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	r.Header.Set("X-Amz-Storage-Class", "REDUCED_REDUNDANCY")
	s, err := ParseHeader(exampleHeader("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"))
	require.NoError(t, err)
	assert.NoError(t, s.Verify(r, payload, exampleSecret, exampleTime))
}

func TestThePresignedLinkOfTheDocumentationIsMadeAndVerifies(t *testing.T) {
	u, err := url.Parse("https://examplebucket.s3.amazonaws.com/test.txt")
	require.NoError(t, err)
	link := Presign(http.MethodGet, u, "us-east-1", "s3", exampleKey, exampleTime, 24*time.Hour)
	assert.True(t, strings.HasSuffix(link, "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"), link)

	r := httptest.NewRequest(http.MethodGet, link, nil)
	s, err := ParseQuery(r.URL.Query())
	require.NoError(t, err)
	assert.NoError(t, s.Verify(r, UnsignedPayload, exampleSecret, exampleTime))
	assert.NoError(t, s.Verify(r, UnsignedPayload, exampleSecret, exampleTime.Add(24*time.Hour)))
	assert.ErrorIs(t, s.Verify(r, UnsignedPayload, exampleSecret, exampleTime.Add(24*time.Hour+time.Second)), ErrExpired)
	assert.ErrorIs(t, s.Verify(r, UnsignedPayload, exampleSecret, exampleTime.Add(-time.Hour)), ErrNotYetValid)
	r.Host = "other.s3.amazonaws.com"
	assert.ErrorIs(t, s.Verify(r, UnsignedPayload, exampleSecret, exampleTime), ErrMismatch)
}

func TestTheChunkedUploadOfTheDocumentationVerifies(t *testing.T) {
	r := httptest.NewRequest(http.MethodPut, "http://s3.amazonaws.com/examplebucket/chunkObject.txt", nil)
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	r.Header.Set("X-Amz-Storage-Class", "REDUCED_REDUNDANCY")
	r.Header.Set("X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
	r.Header.Set("Content-Encoding", "aws-chunked")
	r.Header.Set("X-Amz-Decoded-Content-Length", "66560")
	r.ContentLength = 66824
	s, err := ParseHeader(exampleHeader("content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
		"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"))
	require.NoError(t, err)
	require.NoError(t, s.Verify(r, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", exampleSecret, exampleTime))
	chunks, err := s.Chunks(r, exampleSecret)
	require.NoError(t, err)
	for _, c := range []struct {
		size      int
		signature string
	}{
		{65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"},
		{1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"},
		{0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"},
	} {
		assert.NoError(t, chunks.Chunk(sha256.Sum256([]byte(strings.Repeat("a", c.size))), c.signature))
	}
	assert.ErrorIs(t, chunks.Chunk(sha256.Sum256(nil), "00"), ErrMismatch)
}

func TestALinkKeepsItsOwnQueryAndItsEscapes(t *testing.T) {
	u := &url.URL{Scheme: "http", Host: "127.0.0.1:4566", Path: "/bucket/a b+c/é", RawQuery: "versionId=null"}
	u.RawPath = EscapePath(u.Path)
	link := Presign(http.MethodGet, u, "eu-central-1", "s3", Credentials{AccessKey: "ASIA", SecretKey: "s", SessionToken: "to/ken+="}, exampleTime, time.Minute)
	assert.Contains(t, link, "/bucket/a%20b%2Bc/%C3%A9?")
	assert.Contains(t, link, "versionId=null")
	r := httptest.NewRequest(http.MethodGet, link, nil)
	s, err := ParseQuery(r.URL.Query())
	require.NoError(t, err)
	assert.Equal(t, "to/ken+=", s.SessionToken)
	assert.NoError(t, s.Verify(r, UnsignedPayload, "s", exampleTime))
}

func TestMalformedSignaturesAreRefused(t *testing.T) {
	for _, header := range []string{
		"", "Basic dXNlcjpwYXNz", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b/c",
		"AWS4-HMAC-SHA256 Credential=A/20130524/us-east-1/s3/aws4_request,Signature=00",
		"AWS4-HMAC-SHA256 Credential=A/20130524/us-east-1/s3/aws4_request,SignedHeaders=host",
		"AWS4-HMAC-SHA256 Credential=A/20130524/us-east-1/s3/aws5_request,SignedHeaders=host,Signature=00",
		"AWS4-ECDSA-P256-SHA256 Credential=A/20130524/s3/aws4_request,SignedHeaders=host,Signature=00",
	} {
		_, err := ParseHeader(header)
		assert.ErrorIs(t, err, ErrMalformed, header)
	}
	good := url.Values{
		"X-Amz-Algorithm": {Algorithm}, "X-Amz-Credential": {"A/20130524/us-east-1/s3/aws4_request"}, "X-Amz-Date": {"20130524T000000Z"},
		"X-Amz-Expires": {"60"}, "X-Amz-SignedHeaders": {"host"}, "X-Amz-Signature": {"00"},
	}
	_, err := ParseQuery(good)
	require.NoError(t, err)
	for name, values := range map[string][]string{
		"X-Amz-Algorithm": {"", "AWS4"}, "X-Amz-Credential": {"", "A"}, "X-Amz-Date": {"", "yesterday"},
		"X-Amz-Expires": {"", "soon", "-1", "604801"}, "X-Amz-SignedHeaders": {""}, "X-Amz-Signature": {""},
	} {
		for _, value := range values {
			q := url.Values{}
			maps.Copy(q, good)
			q.Set(name, value)
			_, err := ParseQuery(q)
			assert.ErrorIs(t, err, ErrMalformed, "%s=%s", name, value)
		}
	}
	for _, value := range []string{"0", "604800"} {
		good.Set("X-Amz-Expires", value)
		_, err := ParseQuery(good)
		assert.NoError(t, err, value)
	}
}

func TestTheHostMustBeSigned(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "http://s3.amazonaws.com/", nil)
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	s, err := ParseHeader(exampleHeader("x-amz-date", "00"))
	require.NoError(t, err)
	assert.EqualError(t, s.Verify(r, EmptySHA256, exampleSecret, exampleTime), "headers of the request are not signed: host")
	s.Service = "iot"
	assert.ErrorIs(t, s.Verify(r, EmptySHA256, exampleSecret, exampleTime), ErrMalformed)
}

func TestS3WantsItsHeadersSigned(t *testing.T) {
	u := &url.URL{Scheme: "http", Host: "127.0.0.1:4566", Path: "/fleet/k"}
	link := Presign(http.MethodPut, u, "us-east-1", "s3", exampleKey, exampleTime, time.Hour)
	verify := func(service string, headers ...string) error {
		r := httptest.NewRequest(http.MethodPut, link, nil)
		for _, name := range headers {
			r.Header.Set(name, "v")
		}
		s, err := ParseQuery(r.URL.Query())
		require.NoError(t, err)
		s.Service = service
		return s.Verify(r, UnsignedPayload, exampleSecret, exampleTime)
	}
	assert.NoError(t, verify("s3", "Content-Type", "Range", "X-Amzn-Trace-Id", "X-Amz-Content-Sha256"))
	assert.EqualError(t, verify("s3", "X-Amz-Tagging", "Content-Md5", "X-Amz-Copy-Source"),
		"headers of the request are not signed: content-md5, x-amz-copy-source, x-amz-tagging")
	assert.ErrorIs(t, verify("iot", "X-Amz-Target"), ErrMismatch, "only S3 minds")
}

func TestCredentialsPrintWithoutTheirSecret(t *testing.T) {
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		assert.NotContains(t, fmt.Sprintf(format, exampleKey), "wJalr")
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("/test.txt?a=b", exampleHeader("host;range", "00"), "X-Amz-Date", "20130524T000000Z")
	f.Add("/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A/20130524/r/s3/aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00", "", "", "")
	f.Fuzz(func(t *testing.T, target, header, name, value string) {
		u, err := url.Parse(target)
		if err != nil {
			return
		}
		r := &http.Request{Method: http.MethodGet, URL: u, Host: "h", Header: http.Header{}}
		r.Header.Set(name, value)
		for _, parse := range []func() (*Signature, error){
			func() (*Signature, error) { return ParseHeader(header) },
			func() (*Signature, error) { return ParseQuery(u.Query()) },
		} {
			s, err := parse()
			if err != nil {
				continue
			}
			if s.Verify(r, UnsignedPayload, "a secret nobody knows", exampleTime) == nil {
				t.Fatal("a signature made up was accepted")
			}
		}
		// A link made for any address verifies, and stops doing so when its path changes.
		u.Scheme, u.Host, u.User, u.RawQuery, u.Fragment = "http", "h", nil, "", ""
		if !strings.HasPrefix(u.Path, "/") {
			return
		}
		u.RawPath = EscapePath(u.Path)
		signed, err := url.Parse(Presign(http.MethodGet, u, "r", "s3", exampleKey, exampleTime, time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseQuery(signed.Query())
		if err != nil {
			t.Fatal(err)
		}
		r = &http.Request{Method: http.MethodGet, URL: signed, Host: "h", Header: http.Header{}}
		if err := s.Verify(r, UnsignedPayload, exampleSecret, exampleTime); err != nil {
			t.Fatalf("%s: %v", signed, err)
		}
		signed.Path += "x"
		signed.RawPath = ""
		if s.Verify(r, UnsignedPayload, exampleSecret, exampleTime) == nil {
			t.Fatal("the link opens another path")
		}
	})
}
