package fakeaws_test

import (
	"context"
	"encoding/xml"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
)

// What recordings of S3's own answers have, and the fake had not.

func TestACopyUnderAConditionOverwritesNothingItShouldNot(t *testing.T) {
	c := withBucket(t, fakeaws.Options{AllowUnsigned: true})
	c.upload(t.Context(), t, "from", "new")
	c.upload(t.Context(), t, "to", "old")
	head, err := c.s3.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: new("fleet"), Key: new("from")})
	require.NoError(t, err)
	etag, modified := *head.ETag, head.LastModified.UTC()
	before, after := modified.AddDate(0, 0, -1).Format(http.TimeFormat), modified.AddDate(0, 0, 1).Format(http.TimeFormat)
	const source = "X-Amz-Copy-Source-"
	for _, r := range []struct {
		header, value, condition string
	}{
		{"If-None-Match", "*", "If-None-Match"}, {"If-Match", `"00"`, "If-Match"},
		{source + "If-Match", `"00"`, "x-amz-copy-source-If-Match"}, {source + "If-None-Match", etag, "x-amz-copy-source-If-None-Match"},
		{source + "If-Modified-Since", after, "x-amz-copy-source-If-Modified-Since"},
		{source + "If-Unmodified-Since", before, "x-amz-copy-source-If-Unmodified-Since"},
	} {
		status, body, _ := send(t, c, http.MethodPut, "/fleet/to", "", "X-Amz-Copy-Source", "/fleet/from", r.header, r.value)
		assert.Equal(t, http.StatusPreconditionFailed, status, r.header)
		assert.Contains(t, body, "<Condition>"+r.condition+"</Condition>", r.header)
	}
	_, body, _ := send(t, c, http.MethodGet, "/fleet/to", "")
	assert.Equal(t, "old", body)
	status, _, _ := send(t, c, http.MethodPut, "/fleet/to", "", "X-Amz-Copy-Source", "/fleet/from", source+"If-Match", etag, source+"If-Unmodified-Since", before)
	assert.Equal(t, http.StatusOK, status, "a condition on the ETag goes before one on the time")
}

func TestAPlusInACopySourceIsASpace(t *testing.T) {
	c := withBucket(t, fakeaws.Options{AllowUnsigned: true})
	c.upload(t.Context(), t, "a b", "space")
	c.upload(t.Context(), t, "a+b", "plus")
	for source, want := range map[string]string{"fleet/a+b": "space", "fleet/a%20b": "space", "fleet/a%2Bb": "plus"} {
		status, _, _ := send(t, c, http.MethodPut, "/fleet/to", "", "X-Amz-Copy-Source", source)
		require.Equal(t, http.StatusOK, status)
		_, body, _ := send(t, c, http.MethodGet, "/fleet/to", "")
		assert.Equal(t, want, body, source)
	}
}

func TestACompletionWhoseAnswerWasLostIsAnsweredAgain(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	ctx, bucket, key := t.Context(), new("fleet"), new("big")
	u, err := c.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	assert.Equal(t, s3types.ServerSideEncryptionAes256, u.ServerSideEncryption)
	p, err := c.s3.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: u.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("content")})
	require.NoError(t, err)
	assert.Equal(t, s3types.ServerSideEncryptionAes256, p.ServerSideEncryption)
	complete := func(parts ...s3types.CompletedPart) (*s3.CompleteMultipartUploadOutput, error) {
		return c.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId,
			MultipartUpload: &s3types.CompletedMultipartUpload{Parts: parts}})
	}
	_, err = complete()
	assert.Equal(t, "InvalidRequest", codeOf(err), "no parts")
	part := s3types.CompletedPart{ETag: p.ETag, PartNumber: aws.Int32(1), ChecksumCRC32: p.ChecksumCRC32}
	first, err := complete(part)
	require.NoError(t, err)
	require.NoError(t, c.handler.Backend().Restore(c.handler.Backend().Snapshot()))
	second, err := complete(part)
	require.NoError(t, err)
	assert.Equal(t, *first.ETag, *second.ETag)
	_, err = complete(s3types.CompletedPart{ETag: new("00"), PartNumber: aws.Int32(1)})
	assert.Equal(t, "NoSuchUpload", codeOf(err), "other parts are another request")
	_, err = c.s3.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: u.UploadId, PartNumber: aws.Int32(2), Body: strings.NewReader("x")})
	assert.Equal(t, "NoSuchUpload", codeOf(err))
}

func TestErrorsHaveTheMembersThatS3Sends(t *testing.T) {
	c := withBucket(t, fakeaws.Options{AllowUnsigned: true})
	c.upload(t.Context(), t, "k", "content")
	for name, r := range map[string]struct {
		method, path string
		headers      []string
		want         []string
	}{
		"a range outside":     {"GET", "/fleet/k", []string{"Range", "bytes=100-200"}, []string{"<RangeRequested>bytes=100-200</RangeRequested><ActualObjectSize>7</ActualObjectSize>"}},
		"a key":               {"GET", "/fleet/none", nil, []string{"<Code>NoSuchKey</Code>", "<Key>none</Key><RequestId>"}},
		"a bucket":            {"GET", "/nothing/none", nil, []string{"<BucketName>nothing</BucketName><RequestId>"}},
		"a condition on read": {"GET", "/fleet/k", []string{"If-Match", `"00"`}, []string{"<Condition>If-Match</Condition>"}},
		"two conditions":      {"PUT", "/fleet/k", []string{"If-Match", `"00"`, "If-None-Match", "*"}, []string{"<Code>NotImplemented</Code>", "<additionalMessage>"}},
		"If-Match *":          {"PUT", "/fleet/k", []string{"If-Match", "*"}, []string{"<Code>NotImplemented</Code>", "<Header>If-Match</Header>"}},
		"an argument":         {"PUT", "/fleet/k?partNumber=0&uploadId=x", nil, []string{"<ArgumentName>partNumber</ArgumentName><ArgumentValue>0</ArgumentValue>"}},
		"an upload":           {"PUT", "/fleet/k?partNumber=1&uploadId=x", nil, []string{"<Code>NoSuchUpload</Code>", "<UploadId>x</UploadId>"}},
		"a storage class":     {"PUT", "/fleet/k", []string{"X-Amz-Storage-Class", "COLD"}, []string{"<StorageClassRequested>COLD</StorageClassRequested>"}},
		"an owner's form":     {"GET", "/fleet/k", []string{"X-Amz-Expected-Bucket-Owner", "me"}, []string{"<Code>InvalidBucketOwnerAWSAccountID</Code>"}},
		"another owner":       {"GET", "/fleet/k", []string{"X-Amz-Expected-Bucket-Owner", "111122223333"}, []string{"<Code>AccessDenied</Code>"}},
		"another source":      {"PUT", "/fleet/to", []string{"X-Amz-Copy-Source", "fleet/k", "X-Amz-Source-Expected-Bucket-Owner", "111122223333"}, []string{"<Code>AccessDenied</Code>"}},
		"a digest":            {"PUT", "/fleet/k", []string{"Content-Md5", "AAAAAAAAAAAAAAAAAAAAAA=="}, []string{"<ExpectedDigest>AAAAAAAAAAAAAAAAAAAAAA==</ExpectedDigest><CalculatedDigest>"}},
		"an access list":      {"PUT", "/fleet/k", []string{"X-Amz-Acl", "public-read"}, []string{"<Code>AccessControlListNotSupported</Code><Message>The bucket does not allow ACLs</Message>"}},
		"a grant":             {"PUT", "/fleet/k", []string{"X-Amz-Grant-Read", `id="1"`}, []string{"<Code>AccessControlListNotSupported</Code>"}},
		"a copy's list":       {"PUT", "/fleet/to", []string{"X-Amz-Copy-Source", "fleet/k", "X-Amz-Acl", "authenticated-read"}, []string{"<Code>AccessControlListNotSupported</Code>"}},
		"an upload's list":    {"POST", "/fleet/k?uploads", []string{"X-Amz-Acl", "public-read"}, []string{"<Code>AccessControlListNotSupported</Code>"}},
		"a bucket's list":     {"PUT", "/another", []string{"X-Amz-Acl", "public-read"}, []string{"<Code>InvalidBucketAclWithObjectOwnership</Code>"}},
		"a bucket's grant":    {"PUT", "/another", []string{"X-Amz-Grant-Write", `id="1"`}, []string{"<Code>InvalidBucketAclWithObjectOwnership</Code>"}},
		"a bucket's lock":     {"PUT", "/another", []string{"X-Amz-Bucket-Object-Lock-Enabled", "true"}, []string{"<Code>NotImplemented</Code>", "<Header>x-amz-bucket-object-lock-enabled</Header>"}},
		"a bucket's owner":    {"PUT", "/another", []string{"X-Amz-Object-Ownership", "ObjectWriter"}, []string{"<Code>NotImplemented</Code>"}},
		"a key to read with":  {"GET", "/fleet/k", []string{"X-Amz-Server-Side-Encryption-Customer-Algorithm", "AES256"}, []string{"<Code>InvalidRequest</Code><Message>The encryption parameters are not applicable to this object.</Message>"}},
		"a part's key":        {"PUT", "/fleet/k?partNumber=1&uploadId=x", []string{"X-Amz-Server-Side-Encryption-Customer-Key-Md5", "eA=="}, []string{"<Code>NotImplemented</Code>"}},
		"a copied part's key": {"PUT", "/fleet/k?partNumber=1&uploadId=x", []string{"X-Amz-Copy-Source", "fleet/k", "X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm", "AES256"}, []string{"<Code>NotImplemented</Code>"}},
		"a lock":              {"PUT", "/fleet/k", []string{"X-Amz-Object-Lock-Mode", "COMPLIANCE"}, []string{"<Code>NotImplemented</Code>", "<Header>x-amz-object-lock-mode</Header>"}},
	} {
		_, body, _ := send(t, c, r.method, r.path, "", r.headers...)
		for _, want := range r.want {
			assert.Contains(t, body, want, name)
		}
		assert.NoError(t, xml.Unmarshal([]byte(body), new(struct{ XMLName xml.Name })), name)
		assert.False(t, name != "a bucket" && strings.Contains(body, "<BucketName>"), name)
	}
	_, body, _ := send(t, c, http.MethodGet, "/fleet/k", "")
	assert.Equal(t, "content", body, "nothing of it changed the object")
	for _, acl := range []string{"private", "bucket-owner-full-control"} {
		status, body, _ := send(t, c, http.MethodPut, "/fleet/owned", "x", "X-Amz-Acl", acl)
		assert.Equal(t, http.StatusOK, status, body)
	}
	status, _, _ := send(t, c, http.MethodHead, "/fleet/k", "", "X-Amz-Server-Side-Encryption-Customer-Key", "a2V5")
	assert.Equal(t, http.StatusBadRequest, status)
	status, body, _ = send(t, c, http.MethodPut, "/another", "", "X-Amz-Acl", "private", "X-Amz-Object-Ownership", "BucketOwnerEnforced", "X-Amz-Bucket-Object-Lock-Enabled", "false")
	assert.Equal(t, http.StatusOK, status, body)
}

func TestARefusedSignatureShowsWhatWasSigned(t *testing.T) {
	c := serve(t, fakebackend.Options{Bucket: "fleet"}, fakeaws.Options{Credentials: map[string]string{"AKIATEST": "right"}})
	_, body, _ := send(t, c, http.MethodGet, "/fleet/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIATEST%2F21000101%2Fus-east-1%2Fs3%2Faws4_request"+
		"&X-Amz-Date=21000101T000000Z&X-Amz-Expires=10&X-Amz-SignedHeaders=host&X-Amz-Signature=00", "")
	assert.Contains(t, body, "Request is not yet valid")
	for link, wants := range map[string][]string{
		"?AWSAccessKeyId=AKIATEST&Signature=x&Expires=4102444800": {"<Code>SignatureDoesNotMatch</Code>", "<AWSAccessKeyId>AKIATEST</AWSAccessKeyId>",
			"<StringToSign>GET&#xA;&#xA;&#xA;4102444800&#xA;/fleet/k</StringToSign><SignatureProvided>x</SignatureProvided>", "<StringToSignBytes>47 45 54 0a"},
		"?AWSAccessKeyId=AKIATEST&Signature=x&Expires=1767229200": {"Request has expired", "<Expires>2026-01-01T01:00:00Z</Expires><ServerTime>"},
		"?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIATEST%2F20200101%2Fus-east-1%2Fs3%2Faws4_request" +
			"&X-Amz-Date=20200101T000000Z&X-Amz-Expires=10&X-Amz-SignedHeaders=host&X-Amz-Signature=00": {
			"Request has expired", "<X-Amz-Expires>10</X-Amz-Expires><Expires>2020-01-01T00:00:10Z</Expires><ServerTime>"},
	} {
		_, body, _ := send(t, c, http.MethodGet, "/fleet/k"+link, "")
		for _, want := range wants {
			assert.Contains(t, body, want, link)
		}
	}
	wrong := c.s3.Options().Copy()
	wrong.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "wrong"}, nil
	})
	_, err := s3.New(wrong).ListBuckets(t.Context(), nil)
	assert.Equal(t, "SignatureDoesNotMatch", codeOf(err))
}

func TestListingsHaveChecksumsAndBucketsTheirRegions(t *testing.T) {
	c := serve(t, fakebackend.Options{NoBucket: true}, fakeaws.Options{AllowUnsigned: true})
	ctx := t.Context()
	none, err := c.s3.ListBuckets(ctx, nil)
	require.NoError(t, err)
	assert.Empty(t, none.Buckets, "a new account has none")
	for _, name := range []string{"fleet", "fleet-two", "other"} {
		_, err := c.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name})
		require.NoError(t, err)
	}
	all, err := c.s3.ListBuckets(ctx, nil)
	require.NoError(t, err)
	require.Len(t, all.Buckets, 3)
	assert.Nil(t, all.Buckets[0].BucketRegion, "only a request with a parameter gets it")
	assert.Equal(t, "arn:aws:s3:::fleet", *all.Buckets[0].BucketArn)
	page, err := c.s3.ListBuckets(ctx, &s3.ListBucketsInput{Prefix: new("fleet"), MaxBuckets: aws.Int32(1)})
	require.NoError(t, err)
	require.Len(t, page.Buckets, 1)
	assert.Equal(t, []string{"fleet", "us-east-1", "fleet"}, []string{*page.Buckets[0].Name, *page.Buckets[0].BucketRegion, *page.Prefix})
	page, err = c.s3.ListBuckets(ctx, &s3.ListBucketsInput{Prefix: new("fleet"), MaxBuckets: aws.Int32(1), ContinuationToken: page.ContinuationToken})
	require.NoError(t, err)
	assert.Equal(t, "fleet-two", *page.Buckets[0].Name)
	assert.Nil(t, page.ContinuationToken)
	elsewhere, err := c.s3.ListBuckets(ctx, &s3.ListBucketsInput{BucketRegion: new("eu-west-1")})
	require.NoError(t, err)
	assert.Empty(t, elsewhere.Buckets)
	for _, query := range []string{"?max-buckets=0", "?max-buckets=x", "?continuation-token=%21"} {
		status, body, _ := send(t, c, http.MethodGet, "/"+query, "", "Authorization", "AWS4-HMAC-SHA256 Credential=A/20260304/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00")
		assert.Equal(t, http.StatusBadRequest, status, query)
		assert.Contains(t, body, "<ArgumentName>", query)
	}

	c.upload(ctx, t, "k", "content")
	list, err := c.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: new("fleet"), StartAfter: new("a"), MaxKeys: aws.Int32(1)})
	require.NoError(t, err)
	assert.Len(t, list.Contents[0].ChecksumAlgorithm, 1)
	assert.Equal(t, s3types.ChecksumTypeFullObject, list.Contents[0].ChecksumType)
	assert.Equal(t, "a", *list.StartAfter)
}

func TestALinkCanAskForHeadersOfTheAnswer(t *testing.T) {
	c := withBucket(t, fakeaws.Options{AllowUnsigned: true})
	c.upload(t.Context(), t, "k", "content")
	out, err := c.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: new("fleet"), Key: new("k"), ResponseContentType: new("text/plain"),
		ResponseContentDisposition: new("attachment")})
	require.NoError(t, err)
	defer out.Body.Close()
	assert.Equal(t, []string{"text/plain", "attachment"}, []string{*out.ContentType, *out.ContentDisposition})
}
