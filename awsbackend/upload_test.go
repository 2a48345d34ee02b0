package awsbackend

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const inRegion = "eu-central-1"

var bucketHere = reply(200, "", "X-Amz-Bucket-Region", inRegion)

func uploadOf(key, content string) *task.UploadInput {
	return &task.UploadInput{Key: key, Body: bodyOf(content), Size: int64(len(content)), SHA256: sha256.Sum256([]byte(content))}
}

func TestUploadSendsTheBytesWithDigestLengthOwnerAndEncryption(t *testing.T) {
	const content = "{\"ThingName\":\"d1\"}\n"
	digest := sha256.Sum256([]byte(content))
	b, w := onWireWith(t, Options{Bucket: "fleet-bucket", Prefix: "in", ExpectedBucketOwner: "123456789012"},
		answers{"HeadBucket": bucketHere, "PutObject": reply(200, "", "ETag", `"x"`)})
	obj, err := b.Upload(t.Context(), uploadOf("run/part-1.json", content))
	require.NoError(t, err)
	assert.Equal(t, &task.Object{Bucket: "fleet-bucket", Key: "in/run/part-1.json", Size: int64(len(content)), SHA256: digest}, obj)

	put := w.last("PutObject")
	assert.Equal(t, content, put.body)
	assert.Equal(t, int64(len(content)), put.ContentLength)
	assert.Equal(t, "/in/run/part-1.json", put.URL.Path)
	assert.Equal(t, "fleet-bucket.s3.eu-central-1.amazonaws.com", put.URL.Host)
	for name, want := range map[string]string{
		"X-Amz-Checksum-Sha256":        base64.StdEncoding.EncodeToString(digest[:]),
		"X-Amz-Content-Sha256":         hex.EncodeToString(digest[:]),
		"X-Amz-Expected-Bucket-Owner":  "123456789012",
		"X-Amz-Server-Side-Encryption": "AES256",
		"X-Amz-Checksum-Crc32":         "",
		"Content-Encoding":             "",
	} {
		assert.Equal(t, want, put.Header.Get(name), name)
	}
	assert.Equal(t, "123456789012", w.last("HeadBucket").Header.Get("X-Amz-Expected-Bucket-Owner"))
}

func TestAnEmptyFileCanBeUploaded(t *testing.T) {
	b, w := onWire(t, answers{"HeadBucket": bucketHere, "PutObject": reply(200, "")})
	_, err := b.Upload(t.Context(), uploadOf("empty", ""))
	require.NoError(t, err)
	digest := sha256.Sum256(nil)
	assert.Equal(t, base64.StdEncoding.EncodeToString(digest[:]), w.last("PutObject").Header.Get("X-Amz-Checksum-Sha256"))
	assert.Zero(t, w.last("PutObject").ContentLength)
}

func TestUploadEncryptsWithTheKMSKeyWhenOneIsNamed(t *testing.T) {
	b, w := onWireWith(t, Options{Bucket: "fleet-bucket", KMSKeyID: "alias/fleet"}, answers{"HeadBucket": bucketHere, "PutObject": reply(200, "")})
	_, err := b.Upload(t.Context(), uploadOf("k", "x"))
	require.NoError(t, err)
	put := w.last("PutObject")
	assert.Equal(t, "aws:kms", put.Header.Get("X-Amz-Server-Side-Encryption"))
	assert.Equal(t, "alias/fleet", put.Header.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"))
}

func TestUploadReadsFromTheBodysPositionAndLeavesTheFileOpen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "data.json")
		require.NoError(t, os.WriteFile(path, []byte("header|payload"), 0o600))
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.Seek(7, io.SeekStart)
		require.NoError(t, err)
		b, w := onWire(t, answers{"HeadBucket": bucketHere,
			"PutObject": inTurn(exception(500, "InternalError", "oops"), reply(200, ""))}) // so it is read once more
		_, err = b.Upload(t.Context(), &task.UploadInput{Key: "k", Body: f, Size: 7, SHA256: sha256.Sum256([]byte("payload"))})
		require.NoError(t, err)
		assert.Equal(t, 2, w.count("PutObject"), "an upload may be repeated")
		assert.Equal(t, "payload", w.last("PutObject").body)
		_, err = f.Seek(0, io.SeekStart)
		assert.NoError(t, err, "the file is not closed")
	})
}

func TestABodyThatDiffersFromItsAnnouncementIsRefusedUnsent(t *testing.T) {
	for name, change := range map[string]func(*task.UploadInput){
		"longer":         func(in *task.UploadInput) { in.Size-- },
		"shorter":        func(in *task.UploadInput) { in.Size++ },
		"another digest": func(in *task.UploadInput) { in.SHA256[0] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			b, w := onWire(t, nil)
			in := uploadOf("k", "content")
			change(in)
			_, err := b.Upload(t.Context(), in)
			require.ErrorIs(t, err, task.ErrChecksum)
			assert.ErrorContains(t, err, "s3://fleet-bucket/in/k")
			assert.Empty(t, w.ops())
		})
	}
}

func TestS3RefusingTheDigestIsAChecksumError(t *testing.T) {
	for _, code := range []string{"BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest"} {
		b, _ := onWire(t, answers{"HeadBucket": bucketHere, "PutObject": xmlError(400, code, "no match")})
		_, err := b.Upload(t.Context(), uploadOf("k", "x"))
		require.ErrorIs(t, err, task.ErrChecksum, code)
	}
	b, _ := onWire(t, answers{"HeadBucket": bucketHere, "PutObject": reply(200, "", "X-Amz-Checksum-Sha256", "b3RoZXI=")})
	_, err := b.Upload(t.Context(), uploadOf("k", "x"))
	require.ErrorIs(t, err, task.ErrChecksum, "S3 stored something else")
}

// shrinking is a file that loses its end once it was read through.
type shrinking struct {
	*strings.Reader
	full    string
	rewinds int
}

func (s *shrinking) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		if s.rewinds++; s.rewinds == 1 {
			s.Reset(s.full[:3])
		}
	}
	return s.Reader.Seek(offset, whence)
}

func TestAFileCutWhileItIsSentIsAChecksumError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const content = "0123456789"
		b, _ := onWire(t, answers{"HeadBucket": bucketHere, "PutObject": reply(200, "")})
		in := uploadOf("k", content)
		in.Body = &shrinking{Reader: strings.NewReader(content), full: content}
		_, err := b.Upload(t.Context(), in)
		require.ErrorIs(t, err, task.ErrChecksum)
		assert.ErrorContains(t, err, "byte 3 of 10")
	})
}

func TestUploadsThatS3CannotTakeAreRefusedUnread(t *testing.T) {
	b, w := onWire(t, nil)
	for name, in := range map[string]*task.UploadInput{
		"nil input":          nil,
		"nil body":           {Key: "k"},
		"no key":             {Body: bodyOf("")},
		"space in key":       {Key: "a b", Body: bodyOf("")},
		"key too long":       {Key: strings.Repeat("k", 1022), Body: bodyOf("")}, // with in/ before it
		"more than 5 GiB":    {Key: "k", Body: bodyOf(""), Size: maxUploadSize + 1},
		"less than nothing":  {Key: "k", Body: bodyOf(""), Size: -1},
		"key out of a range": {Key: "ключ", Body: bodyOf("")},
	} {
		_, err := b.Upload(t.Context(), in)
		require.ErrorIs(t, err, task.ErrInvalidRequest, name)
		assert.True(t, task.Refused(err), name)
	}
	assert.Empty(t, w.ops())

	none, err := New(testConfig(nil), Options{})
	require.NoError(t, err)
	_, err = none.Upload(t.Context(), uploadOf("k", "x"))
	require.ErrorContains(t, err, "Options.Bucket")
}

func TestTheBucketsRegionIsCheckedOnceAndBeforeAnyUpload(t *testing.T) {
	b, w := onWire(t, answers{"HeadBucket": bucketHere, "PutObject": reply(200, "")})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := b.Upload(t.Context(), uploadOf("k", "x"))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.Equal(t, 1, w.count("HeadBucket"))
	assert.Equal(t, "HeadBucket", w.ops()[0])
}

func TestABucketInAnotherRegionIsRefusedWithBothRegions(t *testing.T) {
	for name, answer := range map[string]func(*request) *http.Response{
		"redirected": reply(301, "", "X-Amz-Bucket-Region", "us-west-2"),
		"refused":    head(403, "X-Amz-Bucket-Region", "us-west-2"),
		"answered":   reply(200, "", "X-Amz-Bucket-Region", "us-west-2"),
	} {
		t.Run(name, func(t *testing.T) {
			b, w := onWire(t, answers{"HeadBucket": answer, "GetCallerIdentity": knownCaller})
			_, err := b.Upload(t.Context(), uploadOf("k", "x"))
			require.ErrorIs(t, err, task.ErrWrongRegion)
			assert.ErrorContains(t, err, "us-west-2")
			assert.ErrorContains(t, err, inRegion)
			assert.Zero(t, w.count("PutObject"))
			_, err = b.Upload(t.Context(), uploadOf("k", "x"))
			require.ErrorIs(t, err, task.ErrWrongRegion, "a failure is not remembered as a success")
		})
	}
}

func TestTheRegionIsAskedOtherwiseWhenHeadBucketDoesNotTell(t *testing.T) {
	location := func(constraint string) func(*request) *http.Response {
		return reply(200, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+constraint+`</LocationConstraint>`)
	}
	b, _ := onWire(t, answers{"HeadBucket": head(403), "GetBucketLocation": location(inRegion), "PutObject": reply(200, ""),
		"GetCallerIdentity": knownCaller})
	_, err := b.Upload(t.Context(), uploadOf("k", "x"))
	require.NoError(t, err)

	for constraint, region := range map[string]string{"": "us-east-1", "EU": "eu-west-1"} {
		b, _ = onWire(t, answers{"HeadBucket": reply(200, ""), "GetBucketLocation": location(constraint)})
		_, err = b.Upload(t.Context(), uploadOf("k", "x"))
		require.ErrorIs(t, err, task.ErrWrongRegion)
		assert.ErrorContains(t, err, region)
	}

	b, _ = onWire(t, answers{"HeadBucket": head(403), "GetBucketLocation": xmlError(403, "AccessDenied", "Access Denied"),
		"PutObject": reply(200, ""), "GetCallerIdentity": knownCaller})
	_, err = b.Upload(t.Context(), uploadOf("k", "x"))
	require.NoError(t, err, "who may only put objects can still upload")
}

func TestAMissingBucketSaysHowToMakeIt(t *testing.T) {
	b, _ := onWire(t, answers{"HeadBucket": head(404)})
	_, err := b.Upload(t.Context(), uploadOf("k", "x"))
	require.ErrorIs(t, err, task.ErrNotFound)
	assert.ErrorContains(t, err, "EnsureBucket")
}

func TestAnUploadRedirectedToAnotherRegionNamesBoth(t *testing.T) {
	b, _ := onWire(t, answers{"HeadBucket": head(403), "GetBucketLocation": xmlError(403, "AccessDenied", "no"),
		"GetCallerIdentity": knownCaller, "PutObject": xmlError(301, "PermanentRedirect", "elsewhere", "X-Amz-Bucket-Region", "ap-south-1")})
	_, err := b.Upload(t.Context(), uploadOf("k", "x"))
	require.ErrorIs(t, err, task.ErrWrongRegion)
	assert.ErrorContains(t, err, "ap-south-1")
	assert.ErrorContains(t, err, inRegion)
}

func TestUploadHonoursItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("stop the line")
		ctx, cancel := context.WithCancelCause(t.Context())
		transport := roundTrip(func(r *http.Request) (*http.Response, error) {
			cancel(cause)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		b, err := New(testConfig(transport), Options{Bucket: "fleet-bucket"})
		require.NoError(t, err)
		_, err = b.Upload(ctx, uploadOf("k", "x"))
		require.ErrorIs(t, err, cause)
		require.ErrorIs(t, err, context.Canceled)
		_, err = b.Upload(ctx, uploadOf("k", "x"))
		require.ErrorIs(t, err, cause, "a body is not even read")
	})
}

func TestOtherEndpointsAreAddressedByPath(t *testing.T) {
	for endpoint, byPath := range map[string]bool{
		"http://fake.test:4566":                                   true,
		"https://bucket.vpce-1-2.s3.us-east-1.vpce.amazonaws.com": false,
	} {
		cfg := testConfig(nil)
		cfg.BaseEndpoint = &endpoint
		b, err := New(cfg, Options{Bucket: "fleet-bucket"})
		require.NoError(t, err)
		assert.Equal(t, byPath, b.s3.Options().UsePathStyle, endpoint)
	}
}
