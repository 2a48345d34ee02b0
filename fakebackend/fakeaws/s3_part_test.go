package fakeaws_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
)

func sha256Text(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// multipart makes an object of parts, with checksums of the parts if an algorithm is given.
func (c *clients) multipart(t testing.TB, key string, algorithm types.ChecksumAlgorithm, bodies ...string) {
	t.Helper()
	ctx, bucket := t.Context(), aws.String("fleet")
	u, err := c.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: &key, ChecksumAlgorithm: algorithm})
	require.NoError(t, err)
	var parts []types.CompletedPart
	for i, body := range bodies {
		n := aws.Int32(int32(i + 1))
		p, err := c.s3.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: &key, UploadId: u.UploadId, PartNumber: n, Body: strings.NewReader(body), ChecksumAlgorithm: algorithm})
		require.NoError(t, err)
		parts = append(parts, types.CompletedPart{PartNumber: n, ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32, ChecksumCRC64NVME: p.ChecksumCRC64NVME, ChecksumSHA256: p.ChecksumSHA256})
	}
	_, err = c.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: &key, UploadId: u.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	require.NoError(t, err)
}

func TestAPartOfAnObjectIsReadByItsNumber(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	ctx, bucket := t.Context(), aws.String("fleet")
	first, second := strings.Repeat("a", 5<<20), "tail"
	c.multipart(t, "sha256", types.ChecksumAlgorithmSha256, first, second)
	c.multipart(t, "crc64nvme", types.ChecksumAlgorithmCrc64nvme, first, second)
	c.upload(ctx, t, "whole", second)
	require.NoError(t, c.handler.Backend().Restore(c.handler.Backend().Snapshot()))
	for _, read := range []struct {
		key    string
		number int32
		body   string
		span   string
		count  *int32
		sha256 *string
	}{
		{"sha256", 1, first, "bytes 0-5242879/5242884", aws.Int32(2), aws.String(sha256Text(first))},
		{"sha256", 2, second, "bytes 5242880-5242883/5242884", aws.Int32(2), aws.String(sha256Text(second))},
		{"crc64nvme", 2, second, "bytes 5242880-5242883/5242884", aws.Int32(2), nil}, // the checksum of the whole does not fit a part
		{"whole", 1, second, "bytes 0-3/4", nil, nil},
	} {
		name := fmt.Sprint(read.key, " ", read.number)
		out, err := c.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &read.key, PartNumber: &read.number, ChecksumMode: types.ChecksumModeEnabled})
		require.NoError(t, err, name)
		raw, err := io.ReadAll(out.Body)
		require.NoError(t, err, name)
		assert.Equal(t, read.body, string(raw), name)
		assert.Equal(t, read.span, *out.ContentRange, name)
		assert.Equal(t, read.count, out.PartsCount, name)
		assert.Equal(t, read.sha256, out.ChecksumSHA256, name)
		head, err := c.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: &read.key, PartNumber: &read.number, IfMatch: out.ETag})
		require.NoError(t, err, name)
		assert.EqualValues(t, len(read.body), *head.ContentLength, name)
		assert.Equal(t, read.count, head.PartsCount, name)
		head, err = c.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: &read.key})
		require.NoError(t, err, name)
		assert.Nil(t, head.PartsCount, "%s: the count is given to who asks for a part", name)
		assert.Nil(t, head.ContentRange, name)
	}
	_, err := c.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("sha256"), PartNumber: aws.Int32(3)})
	assert.Equal(t, "InvalidPartNumber", codeOf(err))
	assert.ErrorContains(t, err, "StatusCode: 416")
}

func TestAPartThatCannotBeIsRefusedAsS3Does(t *testing.T) {
	c := withBucket(t, fakeaws.Options{AllowUnsigned: true})
	c.upload(t.Context(), t, "k", "content")
	c.upload(t.Context(), t, "empty", "")
	for _, read := range []struct {
		target, span string
		status       int
		code         string
	}{
		{"/fleet/k?partNumber=2", "", 416, "InvalidPartNumber</Code><Message>The requested partnumber is not satisfiable"},
		{"/fleet/k?partNumber=1", "bytes=0-1", 400, "InvalidRequest</Code><Message>Cannot specify both Range header and partNumber query parameter"},
		{"/fleet/k?partNumber=0", "", 400, "InvalidArgument</Code><Message>Part number must be an integer between 1 and 10000, inclusive"},
		{"/fleet/k?partNumber=10001", "", 400, "InvalidArgument"},
		{"/fleet/k?partNumber=", "", 400, "InvalidArgument"},
		{"/fleet/none?partNumber=1", "", 404, "NoSuchKey"},
		{"/fleet/empty?partNumber=1", "", 200, ""},
	} {
		status, body, header := send(t, c, http.MethodGet, read.target, "", "Range", read.span)
		assert.Equal(t, read.status, status, read.target)
		assert.Contains(t, body, read.code, read.target)
		assert.Empty(t, header.Get("Content-Range"), read.target)
		status, _, _ = send(t, c, http.MethodHead, read.target, "", "Range", read.span)
		assert.Equal(t, read.status, status, "a HEAD is answered as the GET would be: %s", read.target)
	}
}

func TestPartsWithChecksumsAreNumberedFromOneAndNamedInTheEnd(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	ctx, bucket, key := t.Context(), aws.String("fleet"), aws.String("k")
	u, err := c.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
	require.NoError(t, err)
	var done [3]types.CompletedPart
	for _, n := range []int32{1, 2} {
		p, err := c.s3.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: u.UploadId, PartNumber: &n, Body: strings.NewReader("x"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
		require.NoError(t, err)
		done[n] = types.CompletedPart{PartNumber: &n, ETag: p.ETag, ChecksumSHA256: p.ChecksumSHA256}
	}
	listed, err := c.s3.ListParts(ctx, &s3.ListPartsInput{Bucket: bucket, Key: key, UploadId: u.UploadId})
	require.NoError(t, err)
	assert.Equal(t, sha256Text("x"), *listed.Parts[0].ChecksumSHA256)
	complete := func(part types.CompletedPart) error {
		_, err := c.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{part}}})
		return err
	}
	assert.Equal(t, "InvalidPartOrder", codeOf(complete(done[2])))
	bare := done[1]
	bare.ChecksumSHA256 = nil
	assert.ErrorContains(t, complete(bare), "The complete request must include the checksum for each part. It was missing for part 1 in the request.")
	assert.NoError(t, complete(done[1]))
}

func TestAnUploadOfPartsKeepsToItsChecksum(t *testing.T) {
	c := withBucket(t, fakeaws.Options{AllowUnsigned: true})
	for _, made := range []struct{ algorithm, kind, refusal string }{
		{"SHA256", "FULL_OBJECT", "The FULL_OBJECT checksum type cannot be used with the sha256 checksum algorithm."},
		{"CRC64NVME", "COMPOSITE", "The COMPOSITE checksum type cannot be used with the crc64nvme checksum algorithm."},
		{"CRC32", "SOMEHOW", "Value for x-amz-checksum-type header is invalid."},
		{"", "COMPOSITE", "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."},
		{"SHA256", "COMPOSITE", ""}, {"CRC32", "COMPOSITE", ""}, {"CRC32", "FULL_OBJECT", ""}, {"CRC64NVME", "FULL_OBJECT", ""}, {"CRC64NVME", "", ""},
	} {
		status, body, _ := send(t, c, http.MethodPost, "/fleet/k?uploads", "", "X-Amz-Checksum-Algorithm", made.algorithm, "X-Amz-Checksum-Type", made.kind)
		assert.Equal(t, made.refusal == "", status == http.StatusOK, "%v: %s", made, body)
		assert.Contains(t, body, made.refusal)
	}
	u, err := c.s3.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String("fleet"), Key: aws.String("k"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
	require.NoError(t, err)
	part := "/fleet/k?partNumber=1&uploadId=" + *u.UploadId
	status, body, _ := send(t, c, http.MethodPut, part, "x")
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, body, "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: null")
	status, body, _ = send(t, c, http.MethodPut, part, "x", "X-Amz-Checksum-Crc32", "jNwPgw==")
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, body, "actual checksum Type: crc32")
	status, body, _ = send(t, c, http.MethodPut, part, "x", "X-Amz-Checksum-Sha256", sha256Text("x"))
	assert.Equal(t, http.StatusOK, status, body)

	u, err = c.s3.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket: aws.String("fleet"), Key: aws.String("k"), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32, ChecksumType: types.ChecksumTypeFullObject,
	})
	require.NoError(t, err)
	status, body, _ = send(t, c, http.MethodPut, "/fleet/k?partNumber=1&uploadId="+*u.UploadId, "x")
	assert.Equal(t, http.StatusOK, status, "a checksum of the whole needs none of the parts: %s", body)
}

func TestACopyIsWholeAndHasAChecksumOfItsOwn(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	ctx, bucket := t.Context(), aws.String("fleet")
	first, second := strings.Repeat("a", 5<<20), "tail"
	c.multipart(t, "parts", types.ChecksumAlgorithmSha256, first, second)
	copied, err := c.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String("fleet/parts?versionId=null")})
	require.NoError(t, err)
	assert.Equal(t, sha256Text(first+second), *copied.CopyObjectResult.ChecksumSHA256)
	assert.Equal(t, types.ChecksumTypeFullObject, copied.CopyObjectResult.ChecksumType)
	got, out := c.read(t, "copy")
	assert.Equal(t, first+second, got)
	assert.NotContains(t, *out.ETag, "-")
	head, err := c.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("copy"), PartNumber: aws.Int32(1)})
	require.NoError(t, err)
	assert.EqualValues(t, len(got), *head.ContentLength)
	assert.Nil(t, head.PartsCount)
	copied, err = c.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String("fleet/parts"), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
	require.NoError(t, err)
	assert.Nil(t, copied.CopyObjectResult.ChecksumSHA256)
	assert.NotNil(t, copied.CopyObjectResult.ChecksumCRC32)
	_, err = c.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String("fleet/parts?versionId=other")})
	assert.Equal(t, "NoSuchVersion", codeOf(err))

	// A part that S3 copies gets the upload's checksum, without which the upload could not be completed.
	u, err := c.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("assembled"), ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
	require.NoError(t, err)
	part, err := c.s3.UploadPartCopy(ctx, &s3.UploadPartCopyInput{
		Bucket: bucket, Key: aws.String("assembled"), UploadId: u.UploadId, PartNumber: aws.Int32(1), CopySource: aws.String("fleet/parts"), CopySourceRange: aws.String("bytes=5242880-5242883"),
	})
	require.NoError(t, err)
	require.Equal(t, sha256Text(second), aws.ToString(part.CopyPartResult.ChecksumSHA256))
	_, err = c.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: aws.String("assembled"), UploadId: u.UploadId, MultipartUpload: &types.CompletedMultipartUpload{
		Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.CopyPartResult.ETag, ChecksumSHA256: part.CopyPartResult.ChecksumSHA256}},
	}})
	require.NoError(t, err)
	got, _ = c.read(t, "assembled")
	assert.Equal(t, second, got)
}

func TestACopyTakesStorageClassAndEncryptionFromTheRequestAndTheRestFromTheSource(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	ctx, bucket, key := t.Context(), aws.String("fleet"), aws.String("k")
	_, err := c.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: bucket, Key: key, Body: strings.NewReader("content"), Metadata: map[string]string{"run": "7"}, Tagging: aws.String("a=b"),
		StorageClass: types.StorageClassStandardIa, ServerSideEncryption: types.ServerSideEncryptionAwsKms,
	})
	require.NoError(t, err)
	tags := func() []types.Tag {
		out, err := c.s3.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: bucket, Key: key})
		require.NoError(t, err)
		return out.TagSet
	}
	again := func(change func(*s3.CopyObjectInput)) error {
		in := &s3.CopyObjectInput{Bucket: bucket, Key: key, CopySource: aws.String("fleet/k")}
		change(in)
		_, err := c.s3.CopyObject(ctx, in)
		return err
	}
	assert.Equal(t, "InvalidRequest", codeOf(again(func(*s3.CopyObjectInput) {})), "a copy onto itself must change something")
	require.NoError(t, again(func(in *s3.CopyObjectInput) { in.StorageClass = types.StorageClassGlacierIr }))
	_, out := c.read(t, "k")
	assert.Equal(t, types.StorageClassGlacierIr, out.StorageClass)
	assert.Equal(t, types.ServerSideEncryptionAes256, out.ServerSideEncryption)
	assert.Equal(t, map[string]string{"run": "7"}, out.Metadata)
	assert.Equal(t, []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}, tags())
	require.NoError(t, again(func(in *s3.CopyObjectInput) {
		in.MetadataDirective, in.Metadata, in.Tagging = types.MetadataDirectiveReplace, map[string]string{"run": "8"}, aws.String("c=d")
	}))
	_, out = c.read(t, "k")
	assert.Empty(t, out.StorageClass, "STANDARD, which has no header")
	assert.Equal(t, map[string]string{"run": "8"}, out.Metadata)
	assert.Equal(t, []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}, tags(), "the other directive is about the tags")
	require.NoError(t, again(func(in *s3.CopyObjectInput) {
		in.ServerSideEncryption, in.TaggingDirective, in.Tagging = types.ServerSideEncryptionAes256, types.TaggingDirectiveReplace, aws.String("c=d")
	}))
	assert.Equal(t, []types.Tag{{Key: aws.String("c"), Value: aws.String("d")}}, tags())
}

func TestAnObjectOfSeveralToDeleteMustBeTheOneThatIsMeant(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	ctx, bucket := t.Context(), aws.String("fleet")
	for _, key := range []string{"plain", "null", "version", "etag"} {
		c.upload(ctx, t, key, key)
	}
	out, err := c.s3.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{Objects: []types.ObjectIdentifier{
		{Key: aws.String("plain")}, {Key: aws.String("null"), VersionId: aws.String("null")}, {Key: aws.String("version"), VersionId: aws.String("3HL4kqtJlcpXroDTDmJ")},
		{Key: aws.String("etag"), ETag: aws.String(`"00"`)}, {Key: aws.String("none")},
	}}})
	require.NoError(t, err)
	assert.Equal(t, []types.DeletedObject{{Key: aws.String("plain")}, {Key: aws.String("null"), VersionId: aws.String("null")}, {Key: aws.String("none")}}, out.Deleted)
	require.Len(t, out.Errors, 2)
	assert.Equal(t, types.Error{
		Key: aws.String("version"), VersionId: aws.String("3HL4kqtJlcpXroDTDmJ"), Code: aws.String("NoSuchVersion"), Message: aws.String("The specified version does not exist."),
	}, out.Errors[0])
	assert.Equal(t, "PreconditionFailed", *out.Errors[1].Code)
	page, err := c.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket})
	require.NoError(t, err)
	require.Len(t, page.Contents, 2)
	assert.Equal(t, "etag", *page.Contents[0].Key)

	_, err = c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("etag"), IfMatch: aws.String(`"00"`)})
	assert.Equal(t, "PreconditionFailed", codeOf(err))
	_, err = c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("etag"), IfMatch: page.Contents[0].ETag})
	assert.NoError(t, err)
	_, err = c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("etag"), IfMatch: aws.String("*")})
	assert.Equal(t, "NoSuchKey", codeOf(err))
}
