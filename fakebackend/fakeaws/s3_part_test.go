package fakeaws_test

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/url"
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

func TestAPartThatIsNotWhatItsDigestSaysIsRefused(t *testing.T) {
	c := withBucket(t, fakeaws.Options{AllowUnsigned: true})
	bucket, key := aws.String("fleet"), aws.String("k")
	u, err := c.s3.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	require.NoError(t, err)
	digest := md5.Sum([]byte("something else"))
	status, body, _ := send(t, c, http.MethodPut, "/fleet/k?partNumber=1&uploadId="+url.QueryEscape(*u.UploadId), "the part",
		"Content-Md5", base64.StdEncoding.EncodeToString(digest[:]))
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Contains(t, body, "BadDigest")
	whole := md5.Sum([]byte("the part"))
	_, err = c.s3.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: aws.String(hex.EncodeToString(whole[:]))}}}})
	assert.Equal(t, "InvalidPart", codeOf(err))
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
		Bucket: bucket, Key: key, Body: strings.NewReader("content"), Metadata: map[string]string{"run": "7"},
		StorageClass: types.StorageClassStandardIa, ServerSideEncryption: types.ServerSideEncryptionAwsKms,
	})
	require.NoError(t, err)
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
	require.NoError(t, again(func(in *s3.CopyObjectInput) {
		in.MetadataDirective, in.Metadata = types.MetadataDirectiveReplace, map[string]string{"run": "8"}
	}))
	_, out = c.read(t, "k")
	assert.Empty(t, out.StorageClass, "STANDARD, which has no header")
	assert.Equal(t, map[string]string{"run": "8"}, out.Metadata)
	assert.Equal(t, "InvalidArgument", codeOf(again(func(in *s3.CopyObjectInput) { in.MetadataDirective = "MOVE" })))
	assert.Equal(t, "PreconditionFailed", codeOf(again(func(in *s3.CopyObjectInput) {
		in.CopySourceIfNoneMatch, in.StorageClass = out.ETag, types.StorageClassGlacierIr
	})))
}

func TestADeletionUnderAConditionIsOfTheObjectThatIsMeant(t *testing.T) {
	c := withBucket(t, fakeaws.Options{})
	ctx, bucket := t.Context(), aws.String("fleet")
	c.upload(ctx, t, "etag", "etag")
	_, out := c.read(t, "etag")
	_, err := c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("etag"), IfMatch: aws.String(`"00"`)})
	assert.Equal(t, "PreconditionFailed", codeOf(err))
	_, err = c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("etag"), IfMatch: out.ETag})
	assert.NoError(t, err)
	_, err = c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("etag"), IfMatch: aws.String("*")})
	assert.Equal(t, "NoSuchKey", codeOf(err))
}
