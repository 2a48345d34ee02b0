package s3

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestALinkOpensItsObjectUntilItExpires(t *testing.T) {
	signer := NewSigner([]byte("seed"), "us-east-1")
	for _, base := range []string{"", "http://127.0.0.1:4566"} {
		link, err := signer.Presign(base, "reports", "12/a b+é/successful/x-1", now, time.Hour)
		require.NoError(t, err)
		bucket, key, err := signer.Open(link, now.Add(time.Hour-time.Second))
		require.NoError(t, err, link)
		assert.Equal(t, "reports", bucket)
		assert.Equal(t, "12/a b+é/successful/x-1", key)

		_, _, err = signer.Open(link, now.Add(time.Hour+time.Second))
		assert.EqualError(t, err, "AccessDenied: Request has expired")
		_, _, err = signer.Open(strings.Replace(link, "x-1", "x-2", 1), now)
		assert.Equal(t, "SignatureDoesNotMatch", codeOf(err))
		_, _, err = NewSigner([]byte("another"), "us-east-1").Open(link, now)
		assert.Equal(t, "InvalidAccessKeyId", codeOf(err))
	}
	_, _, err := signer.Open("https://reports.s3.amazonaws.com/key", now)
	assert.Equal(t, "AuthorizationQueryParametersError", codeOf(err))
	_, _, err = signer.Open("://", now)
	assert.Equal(t, "InvalidURI", codeOf(err))
}

func TestLinksLeadToTheBucketsOwnHostAtAWS(t *testing.T) {
	for region, host := range map[string]string{
		"us-east-1": "https://reports.s3.amazonaws.com/k?", "eu-central-1": "https://reports.s3.eu-central-1.amazonaws.com/k?",
		"cn-north-1": "https://reports.s3.cn-north-1.amazonaws.com.cn/k?", "eusc-de-east-1": "https://reports.s3.eusc-de-east-1.amazonaws.eu/k?",
		"us-gov-west-1": "https://reports.s3.us-gov-west-1.amazonaws.com/k?", "us-iso-east-1": "https://reports.s3.us-iso-east-1.c2s.ic.gov/k?",
		"us-isob-east-1": "https://reports.s3.us-isob-east-1.sc2s.sgov.gov/k?", "eu-isoe-west-1": "https://reports.s3.eu-isoe-west-1.cloud.adc-e.uk/k?",
		"us-isof-south-1": "https://reports.s3.us-isof-south-1.csp.hci.ic.gov/k?",
	} {
		signer := NewSigner([]byte("seed"), region)
		link, err := signer.Presign("", "reports", "k", now, time.Hour)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(link, host), link)
		bucket, key, err := signer.Open(link, now)
		require.NoError(t, err, "the link opens what it was made for")
		assert.Equal(t, "reports k", bucket+" "+key, region)
	}
}

func TestAddress(t *testing.T) {
	for _, c := range []struct{ host, path, bucket, key string }{
		{"127.0.0.1:4566", "/fleet/a/b", "fleet", "a/b"},
		{"[::1]:4566", "/fleet", "fleet", ""},
		{"localhost:4566", "/", "", ""},
		{"fleet.localhost:4566", "/a/b", "fleet", "a/b"},
		{"fleet.s3.localhost:4566", "/a", "fleet", "a"},
		{"s3.localhost:4566", "/fleet/a", "fleet", "a"},
		{"s3.fleet.localhost:4566", "/a", "s3.fleet", "a"},
		{"my.fleet.s3.amazonaws.com", "/a", "my.fleet", "a"},
		{"fleet.s3.eu-central-1.amazonaws.com", "/a", "fleet", "a"},
		{"fleet.s3-eu-west-1.amazonaws.com", "/a", "fleet", "a"},
		{"fleet.s3.cn-north-1.amazonaws.com.cn", "/a", "fleet", "a"},
		{"s3.eu-central-1.amazonaws.com", "/fleet/a", "fleet", "a"},
		{"s3.amazonaws.com", "/fleet/a", "fleet", "a"},
	} {
		bucket, key := Address(c.host, c.path)
		assert.Equal(t, c.bucket, bucket, c.host+c.path)
		assert.Equal(t, c.key, key, c.host+c.path)
	}
}
