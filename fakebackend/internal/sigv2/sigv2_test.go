package sigv2_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv2"
)

const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" // AWS's example key

// The first signature is that of AWS's page, for the bucket that it named before it was written anew; the others are of
// boto3 1.43.
var links = map[string]struct{ bucket, link string }{
	"AWS's example": {"johnsmith", "http://johnsmith.s3.us-west-1.amazonaws.com/photos/puppy.jpg" +
		"?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620"},
	"a signed subresource and escapes": {"fleet", "https://fleet.s3.amazonaws.com/a%20b/%C3%A9%2B1.json?response-content-type=text%2Fplain" +
		"&AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=qi809VFRA3TPd7HEs1hV%2BWKA4ro%3D&Expires=1767229200"},
	"a bucket in the path": {"", "http://127.0.0.1:4566/fleet/k?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=MpIWEm0mv4hPit3JZZ3KclA8zIY%3D&Expires=1767229200"},
}

func TestALinkIsGoodForItsRequestAndItsTime(t *testing.T) {
	for name, l := range links {
		r := httptest.NewRequest(http.MethodGet, l.link, nil)
		link, err := sigv2.ParseQuery(r.URL.Query())
		require.NoError(t, err, name)
		assert.Equal(t, "AKIAIOSFODNN7EXAMPLE", link.AccessKey)
		assert.NoError(t, link.Verify(r, l.bucket, secret, link.Expires), name)
		assert.ErrorIs(t, link.Verify(r, l.bucket, secret, link.Expires.Add(time.Second)), sigv2.ErrExpired, name)
		assert.ErrorIs(t, link.Verify(r, l.bucket+"x", secret, link.Expires), sigv2.ErrMismatch, name)
		assert.ErrorIs(t, link.Verify(r, l.bucket, "other", link.Expires), sigv2.ErrMismatch, name)
		r.Method = http.MethodPost
		assert.ErrorIs(t, link.Verify(r, l.bucket, secret, link.Expires), sigv2.ErrMismatch, name)
	}
}

// boto3 puts into the query what the request has as headers.
func TestHeadersMayStandInTheQuery(t *testing.T) {
	r := httptest.NewRequest(http.MethodPut, "http://127.0.0.1:4566/fleet/k?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=Pyf0kicL9Ny%2FbK%2BZiSGlxBth84g%3D"+
		"&content-type=text%2Fcsv&x-amz-meta-a=b&x-amz-security-token=token%2F%2B%3D&Expires=1767229200", nil)
	link, err := sigv2.ParseQuery(r.URL.Query())
	require.NoError(t, err)
	require.NoError(t, link.Verify(r, "", secret, link.Expires))
	r.Header.Set("Content-Type", "text/html")
	require.ErrorIs(t, link.Verify(r, "", secret, link.Expires), sigv2.ErrMismatch)
}

func TestALinkThatLacksAPartIsMalformed(t *testing.T) {
	for _, query := range []string{"", "AWSAccessKeyId=A&Signature=x", "AWSAccessKeyId=A&Expires=1", "Signature=x&Expires=1",
		"AWSAccessKeyId=A&Signature=x&Expires=soon", "AWSAccessKeyId=A&Signature=x&Expires=-1"} {
		q, err := url.ParseQuery(query)
		require.NoError(t, err)
		_, err = sigv2.ParseQuery(q)
		require.ErrorIs(t, err, sigv2.ErrMalformed, query)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("GET", "/k", "AWSAccessKeyId=A&Signature=x&Expires=1")
	f.Add("PUT", "/k%20", "AWSAccessKeyId=A&Signature=x&Expires=99999999999999999999&x-amz-security-token=t&uploads")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}}
		if link, err := sigv2.ParseQuery(r.URL.Query()); err == nil && link.Verify(r, "b", secret, time.Unix(0, 0)) == nil {
			t.Error("a signature by chance")
		}
	})
}
