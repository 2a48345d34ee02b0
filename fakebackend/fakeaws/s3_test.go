package fakeaws_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/task"
)

func codeOf(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

func withBucket(t testing.TB, opts fakeaws.Options) *clients {
	t.Helper()
	c := serve(t, fakebackend.Options{}, opts)
	_, err := c.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("fleet")})
	require.NoError(t, err)
	return c
}

func (c *clients) read(t testing.TB, key string) (string, *s3.GetObjectOutput) {
	t.Helper()
	out, err := c.s3.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("fleet"), Key: aws.String(key), ChecksumMode: types.ChecksumModeEnabled})
	require.NoError(t, err)
	defer out.Body.Close()
	raw, err := io.ReadAll(out.Body)
	require.NoError(t, err, "the SDK checks the checksum while it reads")
	return string(raw), out
}

// unseekable hides that a reader could be read twice.
type unseekable struct{ io.Reader }

func TestEveryFormOfUploadStoresTheBytesThatWereSent(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 20_000) // several chunks
	options := fakeaws.Options{Credentials: map[string]string{"AKIATEST": "secret"}}
	for name, world := range map[string]func(*testing.T) *clients{
		"HTTP": func(t *testing.T) *clients { return withBucket(t, options) },
		"HTTPS": func(t *testing.T) *clients {
			c := clientsOf(fakeaws.NewHandler(newBackend(t, fakebackend.Options{}), options))
			_, err := c.s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("fleet")})
			require.NoError(t, err)
			return c
		},
	} {
		c := world(t)
		for _, algorithm := range append(types.ChecksumAlgorithm("").Values(), "") {
			switch algorithm {
			case types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256, types.ChecksumAlgorithmCrc64nvme, "":
			default:
				continue // newer than what the fake knows
			}
			t.Run(name+" "+string(algorithm), func(t *testing.T) {
				_, err := c.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("fleet"), Key: aws.String("k"), Body: strings.NewReader(body), ChecksumAlgorithm: algorithm})
				require.NoError(t, err)
				got, _ := c.read(t, "k")
				assert.Equal(t, body, got)
				if name == "HTTPS" { // the length is not known either
					_, err = c.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("fleet"), Key: aws.String("u"), Body: unseekable{strings.NewReader(body)}, ChecksumAlgorithm: algorithm})
					require.NoError(t, err)
					got, _ = c.read(t, "u")
					assert.Equal(t, body, got)
				}
			})
		}
	}
}

func TestAClientThatSendsNoChecksumGetsOneFromS3(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	plain := s3.NewFromConfig(c.config, func(o *s3.Options) { o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired })
	out, err := plain.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("fleet"), Key: aws.String("k"), Body: strings.NewReader("123456789")})
	require.NoError(t, err)
	raw, err := hex.DecodeString("ae8b14860a799888") // the check value of CRC-64/NVME for these nine digits
	require.NoError(t, err)
	assert.Equal(t, base64.StdEncoding.EncodeToString(raw), aws.ToString(out.ChecksumCRC64NVME))
	assert.Equal(t, fmt.Sprintf(`"%x"`, md5.Sum([]byte("123456789"))), *out.ETag)
	_, read := c.read(t, "k")
	assert.Equal(t, out.ChecksumCRC64NVME, read.ChecksumCRC64NVME)
}

// send makes a raw request. Headers are name, value, name, value.
func send(t testing.TB, c *clients, method, path, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := c.http.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	assert.Equal(t, "1", answer.Header.Get("X-Iotfleet-Fake"), "every answer says that it is a fake's")
	return answer.StatusCode, string(raw), answer.Header
}

func TestABodyThatIsNotWhatItWasAnnouncedToBeStoresNothing(t *testing.T) {
	c := withBucket(t, fakeaws.Options{AllowUnsigned: true})
	sum := sha256.Sum256([]byte("right"))
	right64, rightHex := base64.StdEncoding.EncodeToString(sum[:]), hex.EncodeToString(sum[:])
	streaming := []string{"X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "Content-Encoding", "aws-chunked", "X-Amz-Decoded-Content-Length", "5"}
	trailer := append([]string{"X-Amz-Trailer", "x-amz-checksum-sha256"}, streaming...)
	for name, r := range map[string]struct {
		body    string
		headers []string
		status  int
		code    string
	}{
		"SHA-256 in base64":         {"wrong", []string{"X-Amz-Checksum-Sha256", right64}, 400, "BadDigest"},
		"SHA-256 in hex":            {"wrong", []string{"X-Amz-Content-Sha256", rightHex}, 400, "XAmzContentSHA256Mismatch"},
		"MD5":                       {"wrong", []string{"Content-Md5", base64.StdEncoding.EncodeToString(make([]byte, 16))}, 400, "BadDigest"},
		"an MD5 that is none":       {"right", []string{"Content-Md5", "abc"}, 400, "InvalidDigest"},
		"a checksum that is none":   {"right", []string{"X-Amz-Checksum-Crc32", "abc"}, 400, "InvalidRequest"},
		"a hash of another kind":    {"right", []string{"X-Amz-Content-Sha256", "abc"}, 400, "InvalidArgument"},
		"a trailer that is wrong":   {"5\r\nwrong\r\n0\r\nx-amz-checksum-sha256:" + right64 + "\r\n\r\n", trailer, 400, "BadDigest"},
		"a trailer that is none":    {"5\r\nright\r\n0\r\n\r\n", trailer, 400, "MalformedTrailerError"},
		"a trailer without colon":   {"5\r\nright\r\n0\r\nx-amz-checksum-sha256\r\n\r\n", trailer, 400, "MalformedTrailerError"},
		"a chunk too short":         {"5\r\nrig\r\n0\r\n\r\n", streaming, 400, "InvalidRequest"},
		"a chunk too long":          {"5\r\nright and more\r\n0\r\n\r\n", streaming, 400, "InvalidRequest"},
		"a chunk without its end":   {"5\r\nrightXX0\r\n\r\n", streaming, 400, "InvalidRequest"},
		"a size that is none":       {"x\r\nright\r\n0\r\n\r\n", streaming, 400, "InvalidRequest"},
		"no last chunk":             {"5\r\nright\r\n", streaming, 400, "IncompleteBody"},
		"more than announced":       {"6\r\nright!\r\n0\r\n\r\n", streaming, 400, "IncompleteBody"},
		"less than announced":       {"4\r\nrigh\r\n0\r\n\r\n", streaming, 400, "IncompleteBody"},
		"no decoded length":         {"5\r\nright\r\n0\r\n\r\n", streaming[:4], 411, "MissingContentLength"},
		"a trailer of no kind":      {"5\r\nright\r\n0\r\n\r\n", append([]string{"X-Amz-Trailer", "x-other"}, streaming...), 400, "InvalidRequest"},
		"more than S3 takes":        {"", []string{"X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Decoded-Content-Length", "5368709121"}, 400, "EntityTooLarge"},
		"two checksums":             {"right", []string{"X-Amz-Checksum-Sha256", right64, "X-Amz-Checksum-Crc32", "AAAAAA=="}, 400, "InvalidRequest"},
		"an algorithm of no kind":   {"right", []string{"X-Amz-Checksum-Sha3", right64}, 400, "InvalidRequest"},
		"a name without checksum":   {"right", []string{"X-Amz-Sdk-Checksum-Algorithm", "SHA256"}, 400, "InvalidRequest"},
		"a name of no kind":         {"right", []string{"X-Amz-Sdk-Checksum-Algorithm", "SHA3"}, 400, "InvalidRequest"},
		"a name of another kind":    {"right", []string{"X-Amz-Sdk-Checksum-Algorithm", "CRC32", "X-Amz-Checksum-Sha256", right64}, 400, "InvalidRequest"},
		"a stream of no kind":       {"5\r\nright\r\n0\r\n\r\n", []string{"X-Amz-Content-Sha256", "STREAMING-SOMEHOW", "X-Amz-Decoded-Content-Length", "5"}, 400, "InvalidArgument"},
		"a stream of version 4A":    {"5\r\nright\r\n0\r\n\r\n", []string{"X-Amz-Content-Sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "X-Amz-Decoded-Content-Length", "5"}, 400, "InvalidArgument"},
		"signed without signatures": {"5\r\nright\r\n0\r\n\r\n", []string{"X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "X-Amz-Decoded-Content-Length", "5"}, 400, "InvalidRequest"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, _ := send(t, c, http.MethodPut, "/fleet/k", r.body, r.headers...)
			assert.Equal(t, r.status, status, body)
			assert.Contains(t, body, "<Code>"+r.code+"</Code>")
			status, _, _ = send(t, c, http.MethodHead, "/fleet/k", "")
			assert.Equal(t, http.StatusNotFound, status)
		})
	}
	for name, r := range map[string]struct {
		body    string
		headers []string
	}{
		"a trailer":                       {"5\r\nright\r\n0\r\nx-amz-checksum-sha256:" + right64 + "\r\n\r\n", trailer},
		"a trailer without an empty line": {"5\r\nright\r\n0\r\nx-amz-checksum-sha256:" + right64 + "\r\n", trailer},
		"two chunks":                      {"2\r\nri\r\n3\r\nght\r\n0\r\n\r\n", streaming},
		"a checksum with its name":        {"right", []string{"X-Amz-Sdk-Checksum-Algorithm", "sha256", "X-Amz-Checksum-Sha256", right64}},
		"a digest in hex":                 {"right", []string{"X-Amz-Content-Sha256", rightHex}},
		"an unsigned body":                {"right", []string{"X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"}},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, _ := send(t, c, http.MethodPut, "/fleet/good", r.body, r.headers...)
			require.Equal(t, http.StatusOK, status, body)
			_, got, header := send(t, c, http.MethodGet, "/fleet/good", "")
			assert.Equal(t, "right", got)
			assert.Empty(t, header.Get("Content-Encoding"), "aws-chunked is about the upload only")
			require.NoError(t, func() error {
				_, err := c.s3.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("fleet"), Key: aws.String("good")})
				return err
			}())
		})
	}
}

// The chunked upload of AWS's documentation, with the key, the requests and the signatures printed there, sent to the
// handler at the time it was signed.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
func TestTheSignedChunksOfTheDocumentationAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2013, 5, 24, 0, 0, 30, 0, time.UTC)))
		backend := newBackend(t, fakebackend.Options{Bucket: "examplebucket"})
		handler := fakeaws.NewHandler(backend, fakeaws.Options{Credentials: map[string]string{"AKIAIOSFODNN7EXAMPLE": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}})
		put := func(data string) (int, string) {
			var b bytes.Buffer
			for _, c := range []struct{ data, signature string }{
				{data[:65536], "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"},
				{data[65536:], "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"},
				{"", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"},
			} {
				fmt.Fprintf(&b, "%x;chunk-signature=%s\r\n%s\r\n", len(c.data), c.signature, c.data)
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://s3.amazonaws.com/examplebucket/chunkObject.txt", &b)
			require.NoError(t, err)
			assert.EqualValues(t, 66824, r.ContentLength)
			for name, value := range map[string]string{
				"X-Amz-Date": "20130524T000000Z", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY", "Content-Encoding": "aws-chunked",
				"X-Amz-Content-Sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "X-Amz-Decoded-Content-Length": "66560",
				"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=content-encoding;" +
					"content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class," +
					"Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
			} {
				r.Header.Set(name, value)
			}
			return record(handler, r)
		}
		status, body := put(strings.Repeat("a", 66560))
		assert.Equal(t, http.StatusOK, status, body)
		status, body = put(strings.Repeat("a", 66559) + "b")
		assert.Equal(t, http.StatusForbidden, status)
		assert.Contains(t, body, "<Code>SignatureDoesNotMatch</Code>")
	})
}

// The same of AWS's page on trailing headers.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
func TestTheSignedTrailerOfTheDocumentationIsTakenAndDemanded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2013, 5, 24, 0, 0, 30, 0, time.UTC)))
		backend := newBackend(t, fakebackend.Options{Bucket: "examplebucket"})
		handler := fakeaws.NewHandler(backend, fakeaws.Options{Credentials: map[string]string{"AKIAIOSFODNN7EXAMPLE": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}})
		put := func(trailer string) (int, string) {
			var b strings.Builder
			fmt.Fprintf(&b, "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n%s\r\n", strings.Repeat("a", 65536))
			fmt.Fprintf(&b, "400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n%s\r\n", strings.Repeat("a", 1024))
			b.WriteString("0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n" + trailer + "\r\n")
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://s3.amazonaws.com/examplebucket/chunkObject.txt", strings.NewReader(b.String()))
			require.NoError(t, err)
			for name, value := range map[string]string{
				"X-Amz-Date": "20130524T000000Z", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY", "Content-Encoding": "aws-chunked", "X-Amz-Trailer": "x-amz-checksum-crc32c",
				"X-Amz-Content-Sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "X-Amz-Decoded-Content-Length": "66560",
				"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=content-encoding;host;" +
					"x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer," +
					"Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
			} {
				r.Header.Set(name, value)
			}
			return record(handler, r)
		}
		const checksum, signature = "x-amz-checksum-crc32c:sOO8/Q==\r\n", "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"
		status, body := put(checksum + signature)
		assert.Equal(t, http.StatusOK, status, body)
		for _, bad := range []string{checksum, checksum + strings.Replace(signature, "d81", "d82", 1), strings.Replace(checksum, "sOO8", "sOO9", 1) + signature} {
			status, body = put(bad)
			assert.Equal(t, http.StatusForbidden, status, bad)
			assert.Contains(t, body, "<Code>SignatureDoesNotMatch</Code>")
		}
	})
}

func TestObjectsThroughTheSDK(t *testing.T) {
	c := withBucket(t, fakeaws.Options{Credentials: map[string]string{"AKIATEST": "secret"}})
	ctx := t.Context()
	bucket := aws.String("fleet")
	keys := []string{"plain", "with space", "a+b", "ümläut/日本", "a//b", "dots/../kept", "percent%20", "quote'\"&<>", "semi;colon=x?y#z"}
	for _, key := range keys {
		_, err := c.s3.PutObject(ctx, &s3.PutObjectInput{
			Bucket: bucket, Key: aws.String(key), Body: strings.NewReader(key), ContentType: aws.String("text/plain"), Metadata: map[string]string{"run": "7"},
			IfNoneMatch: aws.String("*"), ExpectedBucketOwner: aws.String("123456789012"), ServerSideEncryption: types.ServerSideEncryptionAwsKms, SSEKMSKeyId: aws.String("arn:aws:kms:us-east-1:123456789012:key/1"),
		})
		require.NoError(t, err, key)
		got, out := c.read(t, key)
		assert.Equal(t, key, got)
		assert.Equal(t, "text/plain", *out.ContentType)
		assert.Equal(t, map[string]string{"run": "7"}, out.Metadata)
		assert.Equal(t, types.ServerSideEncryptionAwsKms, out.ServerSideEncryption)
	}
	_, err := c.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("plain"), Body: strings.NewReader("x"), IfNoneMatch: aws.String("*")})
	assert.Equal(t, "PreconditionFailed", codeOf(err))
	_, err = c.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("plain"), Body: strings.NewReader("x"), ExpectedBucketOwner: aws.String("999999999999")})
	assert.Equal(t, "AccessDenied", codeOf(err))

	var listed []string
	pages := s3.NewListObjectsV2Paginator(c.s3, &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		require.NoError(t, err)
		for _, o := range page.Contents {
			listed = append(listed, *o.Key)
		}
	}
	assert.ElementsMatch(t, keys, listed)
	one, err := c.s3.ListObjects(ctx, &s3.ListObjectsInput{Bucket: bucket, Delimiter: aws.String("/"), EncodingType: types.EncodingTypeUrl})
	require.NoError(t, err)
	assert.Len(t, one.CommonPrefixes, 3)

	part, err := c.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("plain"), Range: aws.String("bytes=1-3")})
	require.NoError(t, err)
	raw, err := io.ReadAll(part.Body)
	require.NoError(t, err)
	assert.Equal(t, "lai", string(raw))
	assert.Equal(t, "bytes 1-3/5", *part.ContentRange)
	_, err = c.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("plain"), Range: aws.String("bytes=9-")})
	assert.Equal(t, "InvalidRange", codeOf(err))
	_, err = c.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("plain"), IfNoneMatch: part.ETag})
	assert.ErrorContains(t, err, "304")
	_, err = c.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("plain"), IfMatch: aws.String(`"00"`)})
	assert.ErrorContains(t, err, "412")

	_, err = c.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String("fleet/with%20space")})
	require.NoError(t, err)
	got, _ := c.read(t, "copy")
	assert.Equal(t, "with space", got)
	_, err = c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("copy")})
	require.NoError(t, err)
	_, err = c.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("copy")})
	assert.ErrorAs(t, err, new(*types.NoSuchKey))

	_, err = c.s3.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
	assert.Equal(t, "BucketNotEmpty", codeOf(err))
	_, err = c.s3.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: bucket, PublicAccessBlockConfiguration: &types.PublicAccessBlockConfiguration{BlockPublicAcls: aws.Bool(true)}})
	require.NoError(t, err)
	block, err := c.s3.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: bucket})
	require.NoError(t, err)
	assert.True(t, *block.PublicAccessBlockConfiguration.BlockPublicAcls)
	assert.False(t, *block.PublicAccessBlockConfiguration.BlockPublicPolicy)
	buckets, err := c.s3.ListBuckets(ctx, &s3.ListBucketsInput{})
	require.NoError(t, err)
	assert.Len(t, buckets.Buckets, 2, "the account's own and the test's")
	_, err = c.s3.GetBucketAcl(ctx, &s3.GetBucketAclInput{Bucket: bucket})
	assert.Equal(t, "NotImplemented", codeOf(err))
	for _, call := range c.handler.Calls() {
		assert.Equal(t, call.Operation != "GET ?acl", call.Known, call.Operation)
	}
}

func TestAMultipartUploadThroughTheSDK(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	ctx := t.Context()
	bucket, key := aws.String("fleet"), aws.String("big")
	first, second := strings.Repeat("a", 5<<20), "tail"
	for _, algorithm := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmSha256, types.ChecksumAlgorithmCrc64nvme} {
		u, err := c.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: algorithm})
		require.NoError(t, err)
		var parts []types.CompletedPart
		for i, body := range []string{first, second} {
			p, err := c.s3.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: u.UploadId, PartNumber: aws.Int32(int32(i + 1)), Body: strings.NewReader(body), ChecksumAlgorithm: algorithm})
			require.NoError(t, err)
			parts = append(parts, types.CompletedPart{PartNumber: aws.Int32(int32(i + 1)), ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32, ChecksumSHA256: p.ChecksumSHA256, ChecksumCRC64NVME: p.ChecksumCRC64NVME})
		}
		done, err := c.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
		require.NoError(t, err)
		assert.True(t, strings.HasSuffix(*done.ETag, `-2"`))
		got, _ := c.read(t, "big")
		assert.Equal(t, first+second, got)
	}
	u, err := c.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	_, err = c.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId})
	require.NoError(t, err)
	_, err = c.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId})
	assert.Equal(t, "NoSuchUpload", codeOf(err))
}

func TestABucketOfAnotherRegionIsPointedTo(t *testing.T) {
	c := serve(t, fakebackend.Options{}, fakeaws.Options{})
	ctx := t.Context()
	elsewhere := s3.NewFromConfig(c.config, func(o *s3.Options) { o.Region = "eu-central-1" })
	_, err := elsewhere.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("far")})
	assert.Equal(t, "IllegalLocationConstraintException", codeOf(err))
	_, err = c.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("far"), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "nowhere"}})
	assert.Equal(t, "InvalidLocationConstraint", codeOf(err))
	_, err = elsewhere.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("far"), CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-central-1"}})
	require.NoError(t, err)
	location, err := elsewhere.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: aws.String("far")})
	require.NoError(t, err)
	assert.EqualValues(t, "eu-central-1", location.LocationConstraint)

	_, err = c.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("far")})
	assert.Equal(t, "PermanentRedirect", codeOf(err))
	head, err := elsewhere.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("far")})
	require.NoError(t, err)
	assert.Equal(t, "eu-central-1", *head.BucketRegion)
	status, _, header := send(t, c, http.MethodHead, "/far", "", "Authorization", "AWS4-HMAC-SHA256 Credential=A/20260304/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=00")
	assert.Equal(t, http.StatusMovedPermanently, status)
	assert.Equal(t, "eu-central-1", header.Get("X-Amz-Bucket-Region"))
	own, err := c.s3.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: aws.String("iotfleet-fake")})
	require.NoError(t, err)
	assert.Empty(t, own.LocationConstraint)
}

func TestLinksThatAClientSignsAreOpened(t *testing.T) {
	c := withBucket(t, fakeaws.Options{Credentials: map[string]string{"AKIATEST": "secret"}})
	c.upload(t.Context(), t, "a b+c", "content")
	signer := s3.NewPresignClient(c.s3)
	link, err := signer.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("fleet"), Key: aws.String("a b+c")})
	require.NoError(t, err)
	assert.Equal(t, "content", string(get(t, c, link.URL)))
	status, body, _ := send(t, c, http.MethodGet, strings.TrimPrefix(strings.Replace(link.URL, "X-Amz-Expires=900", "X-Amz-Expires=901", 1), c.url), "")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "SignatureDoesNotMatch")
	put, err := signer.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("fleet"), Key: aws.String("put")})
	require.NoError(t, err)
	status, body, _ = send(t, c, http.MethodPut, strings.TrimPrefix(put.URL, c.url), "by link")
	assert.Equal(t, http.StatusOK, status, body)
	got, _ := c.read(t, "put")
	assert.Equal(t, "by link", got)
	// Whoever has the link may upload what it says and no more.
	for _, header := range []string{"X-Amz-Copy-Source", "X-Amz-Tagging"} {
		status, body, _ = send(t, c, http.MethodPut, strings.TrimPrefix(put.URL, c.url), "", header, "fleet/a b+c")
		assert.Equal(t, http.StatusForbidden, status, header)
		assert.Contains(t, body, "<Code>AccessDenied</Code><Message>There were headers present in the request which were not signed</Message>")
		assert.Contains(t, body, "<HeadersNotSigned>"+strings.ToLower(header)+"</HeadersNotSigned>")
	}
	got, _ = c.read(t, "put")
	assert.Equal(t, "by link", got)
}

func TestAStorageClassThatS3DoesNotHaveAndTagsAreRefused(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	bucket, key := aws.String("fleet"), aws.String("k")
	c.upload(t.Context(), t, "k", "content")
	_, err := c.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("x"), StorageClass: "COLD"})
	assert.ErrorContains(t, err, "InvalidStorageClass: The storage class you specified is not valid")
	_, err = c.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("x"), Tagging: aws.String("a=b")})
	assert.Equal(t, "NotImplemented", codeOf(err), "a tag is not lost without a word")
	got, _ := c.read(t, "k")
	assert.Equal(t, "content", got)
	tags, err := c.s3.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	assert.Empty(t, tags.TagSet)
	_, err = c.s3.GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: bucket, Key: aws.String("none")})
	assert.Equal(t, "NoSuchKey", codeOf(err))
}

// boto3 and version 1 of the AWS CLI presign with version 2 in the older regions unless they are told otherwise.
func TestALinkOfVersion2CanBeFollowedInTheOlderRegions(t *testing.T) {
	const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	// As boto3 makes it for an endpoint of ours, good until 2100.
	const link = "/fleet/k?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=MTI0sRVn14ye9qmU5EWuPtT1LrA%3D&Expires=4102444800"
	for name, want := range map[string]struct {
		opts   fakeaws.Options
		region string
		link   string
		status int
		text   string
	}{
		"a good link":       {fakeaws.Options{Credentials: map[string]string{"AKIAIOSFODNN7EXAMPLE": secret}}, "us-east-1", link, 200, "content"},
		"another secret":    {fakeaws.Options{Credentials: map[string]string{"AKIAIOSFODNN7EXAMPLE": "other"}}, "us-east-1", link, 403, "<Code>SignatureDoesNotMatch</Code>"},
		"another key":       {fakeaws.Options{Credentials: map[string]string{"OTHER": secret}}, "us-east-1", link, 403, "<Code>InvalidAccessKeyId</Code>"},
		"no keys known":     {fakeaws.Options{}, "eu-west-1", link, 200, "content"},
		"over":              {fakeaws.Options{}, "us-east-1", strings.Replace(link, "4102444800", "1767229200", 1), 403, "Request has expired"},
		"refused by option": {fakeaws.Options{RefuseOldLinks: true}, "us-east-1", link, 400, "Please use AWS4-HMAC-SHA256"},
		"a newer region":    {fakeaws.Options{}, "eu-central-1", link, 400, "Please use AWS4-HMAC-SHA256"},
		"no expiry":         {fakeaws.Options{}, "us-east-1", "/fleet/k?AWSAccessKeyId=A&Signature=x", 400, "Please use AWS4-HMAC-SHA256"},
	} {
		c := serve(t, fakebackend.Options{Region: want.region, Bucket: "fleet"}, want.opts)
		upload(t, c.handler.Backend(), "k", "content")
		status, body, _ := send(t, c, http.MethodGet, want.link, "")
		assert.Equal(t, want.status, status, name)
		assert.Contains(t, body, want.text, name)
	}
}

// upload stores an object without the protocol.
func upload(t *testing.T, fake *fakebackend.Backend, key, body string) {
	t.Helper()
	_, err := fake.Upload(t.Context(), &task.UploadInput{Key: key, Body: strings.NewReader(body), Size: int64(len(body)), SHA256: sha256.Sum256([]byte(body))})
	require.NoError(t, err)
}

func TestASignatureOfVersion2InAHeaderIsRefusedByName(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	c.upload(t.Context(), t, "k", "content")
	const refusal = "<Code>InvalidRequest</Code><Message>The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.</Message>"
	status, body, _ := send(t, c, http.MethodGet, "/fleet/k", "", "Authorization", "AWS AKIATEST:c2lnbmF0dXJl")
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, body, refusal)
}

func TestARequestThatIsNoOperationOfS3IsRefusedAsS3Does(t *testing.T) {
	c := withBucket(t, fakeaws.Options{AllowUnsigned: true})
	for request, want := range map[string]struct {
		status int
		code   string
	}{
		"GET /fleet?acl":                             {501, "NotImplemented"}, // an operation of S3's that the fake does not know
		"GET /fleet/k?versionId=a":                   {501, "NotImplemented"},
		"PUT /fleet/k?tagging&versionId=a":           {501, "NotImplemented"},
		"DELETE /fleet/k?partNumber=1":               {501, "NotImplemented"},
		"GET /fleet/k?partNumber=1":                  {501, "NotImplemented"}, // not the whole object in place of a part
		"POST /fleet?delete":                         {501, "NotImplemented"},
		"GET /fleet/k?versionId=null":                {404, "NoSuchKey"},
		"PATCH /fleet/k":                             {405, "MethodNotAllowed"},
		"DELETE /":                                   {405, "MethodNotAllowed"},
		"GET /fleet?list-type=3":                     {400, "InvalidArgument"},
		"GET /fleet?encoding-type=x":                 {400, "InvalidArgument"},
		"GET /fleet?list-type=2&max-keys=x":          {400, "InvalidArgument"},
		"GET /fleet?list-type=2&encoding-type=x":     {400, "InvalidArgument"},
		"GET /fleet?list-type=2&continuation-token=": {400, "InvalidArgument"},
	} {
		method, target, _ := strings.Cut(request, " ")
		status, body, _ := send(t, c, method, target, "")
		assert.Equal(t, want.status, status, request)
		assert.Contains(t, body, "<Code>"+want.code+"</Code>", request)
	}
	assert.Contains(t, c.handler.Calls(), fakeaws.Call{Service: "s3", Operation: "PATCH /fleet/k", Count: 1})
}

func TestAPresignedLinkEndsAlsoWhenNoKeyIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clientsOf(fakeaws.NewHandler(newBackend(t, fakebackend.Options{}), fakeaws.Options{}))
		_, err := c.s3.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("iotfleet-fake"), Key: aws.String("k"), Body: strings.NewReader("content")})
		require.NoError(t, err)
		link, err := s3.NewPresignClient(c.s3).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("iotfleet-fake"), Key: aws.String("k")}, s3.WithPresignExpires(time.Minute))
		require.NoError(t, err)
		path := strings.TrimPrefix(link.URL, c.url)
		time.Sleep(time.Minute)
		_, body, _ := send(t, c, http.MethodGet, path, "")
		assert.Equal(t, "content", body)
		time.Sleep(time.Second)
		status, body, _ := send(t, c, http.MethodGet, path, "")
		assert.Equal(t, http.StatusForbidden, status)
		assert.Contains(t, body, "<Code>AccessDenied</Code><Message>Request has expired</Message>")
	})
}

func TestConditionsAndRangesOfAReadAreThoseOfS3(t *testing.T) {
	c := withBucket(t, fakeaws.Options{AllowUnsigned: true})
	_, _, stored := send(t, c, http.MethodPut, "/fleet/k", "0123456789")
	etag := stored.Get("Etag")
	const before, after = "Mon, 01 Jan 2001 00:00:00 GMT", "Tue, 01 Jan 2199 00:00:00 GMT"
	for _, read := range []struct {
		header, value string
		status        int
		body          string
	}{
		{"If-Match", etag, 200, "0123456789"},
		{"If-Match", `"00"`, 412, "<Code>PreconditionFailed</Code>"},
		{"If-None-Match", etag, 304, ""},
		{"If-None-Match", `"00"`, 200, "0123456789"},
		{"If-Modified-Since", before, 200, "0123456789"},
		{"If-Modified-Since", after, 304, ""},
		{"If-Unmodified-Since", before, 412, "<Code>PreconditionFailed</Code>"},
		{"If-Unmodified-Since", after, 200, "0123456789"},
		{"Range", "bytes=2-4", 206, "234"},
		{"Range", "bytes=7-99", 206, "789"},
		{"Range", "bytes=7-", 206, "789"},
		{"Range", "bytes=-3", 206, "789"},
		{"Range", "bytes=-99", 206, "0123456789"},
		{"Range", "bytes=0-1,3-4", 200, "0123456789"}, // S3 gives one range or everything
		{"Range", "bytes=4-2", 200, "0123456789"},
		{"Range", "bytes=10-", 416, "<Code>InvalidRange</Code>"},
		{"Range", "bytes=-0", 416, "<Code>InvalidRange</Code>"},
	} {
		status, body, header := send(t, c, http.MethodGet, "/fleet/k", "", read.header, read.value)
		assert.Equal(t, read.status, status, "%s: %s", read.header, read.value)
		if status < 400 {
			assert.Equal(t, read.body, body, "%s: %s", read.header, read.value)
		} else {
			assert.Contains(t, body, read.body, "%s: %s", read.header, read.value)
		}
		if status == 416 {
			assert.Equal(t, "bytes */10", header.Get("Content-Range"))
		}
		headStatus, headBody, _ := send(t, c, http.MethodHead, "/fleet/k", "", read.header, read.value)
		assert.Equal(t, status, headStatus, "a HEAD is answered as the GET would be")
		assert.Empty(t, headBody)
	}
	status, body, _ := send(t, c, http.MethodPut, "/fleet/m", "", "X-Amz-Meta-A", strings.Repeat("x", 2048))
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, body, "<Code>MetadataTooLarge</Code>")
}

func TestAPartIsCopiedByRangeAndUnderACondition(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	ctx := t.Context()
	bucket, key := aws.String("fleet"), aws.String("assembled")
	c.upload(ctx, t, "source", "0123456789")
	_, source := c.read(t, "source")
	u, err := c.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	part := &s3.UploadPartCopyInput{Bucket: bucket, Key: key, UploadId: u.UploadId, PartNumber: aws.Int32(3), CopySource: aws.String("fleet/source"),
		CopySourceRange: aws.String("bytes=2-4"), CopySourceIfMatch: aws.String(`"00"`)}
	_, err = c.s3.UploadPartCopy(ctx, part)
	assert.Equal(t, "PreconditionFailed", codeOf(err))
	part.CopySourceIfMatch = source.ETag
	copied, err := c.s3.UploadPartCopy(ctx, part)
	require.NoError(t, err)
	_, err = c.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId, MultipartUpload: &types.CompletedMultipartUpload{
		Parts: []types.CompletedPart{{PartNumber: aws.Int32(3), ETag: copied.CopyPartResult.ETag}},
	}})
	require.NoError(t, err)
	got, _ := c.read(t, "assembled")
	assert.Equal(t, "234", got)
}

func TestAListingOfVersion1NamesItsNextMarkerOnlyWithADelimiter(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	ctx := t.Context()
	for _, key := range []string{"a/1", "a/2", "b"} {
		c.upload(ctx, t, key, key)
	}
	page, err := c.s3.ListObjects(ctx, &s3.ListObjectsInput{Bucket: aws.String("fleet"), MaxKeys: aws.Int32(1)})
	require.NoError(t, err)
	assert.True(t, *page.IsTruncated)
	assert.Nil(t, page.NextMarker)
	page, err = c.s3.ListObjects(ctx, &s3.ListObjectsInput{Bucket: aws.String("fleet"), MaxKeys: aws.Int32(1), Delimiter: aws.String("/")})
	require.NoError(t, err)
	assert.Equal(t, "a/", *page.NextMarker)
	page, err = c.s3.ListObjects(ctx, &s3.ListObjectsInput{Bucket: aws.String("fleet"), Marker: page.NextMarker, Delimiter: aws.String("/")})
	require.NoError(t, err)
	require.Len(t, page.Contents, 1)
	assert.Equal(t, "b", *page.Contents[0].Key)
	assert.Empty(t, page.CommonPrefixes)
}

func TestABucketCanBeInTheHost(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	c.upload(t.Context(), t, "k", "content")
	config := c.handler.Config() // its client reaches the handler under every name
	for _, endpoint := range []string{"https://localhost", "https://s3.us-east-1.amazonaws.com"} {
		virtual := s3.NewFromConfig(config, func(o *s3.Options) { o.BaseEndpoint = aws.String(endpoint) })
		out, err := virtual.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("fleet"), Key: aws.String("k")})
		require.NoError(t, err)
		raw, err := io.ReadAll(out.Body)
		require.NoError(t, err)
		assert.Equal(t, "content", string(raw))
	}
}
