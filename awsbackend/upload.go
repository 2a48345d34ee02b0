package awsbackend

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// maxUploadSize is the largest data file Upload takes, in bytes: what S3 takes in one PutObject, 5 GiB. At 1 KB a
// line, as with RSA-2048 keys, that is some five million devices, days of work for one task; cut a larger fleet into
// several files.
const maxUploadSize = 5 << 30

// Upload implements [task.Store]: it puts a data file into the bucket, under the backend's prefix and the given key.
//
// Before the first upload the bucket's region is looked up; [task.ErrWrongRegion] names both regions if AWS IoT could
// not read it there. The body is read once to verify its length and digest, and then sent in one PutObject with its
// SHA-256, which S3 verifies again: [task.ErrChecksum] from either leaves nothing stored under the key. The object is
// encrypted with SSE-S3, or with the key of [Options].KMSKeyID. Uploading the same key again replaces it whole.
//
// Needs s3:PutObject on the key, and s3:ListBucket or s3:GetBucketLocation on the bucket for the look-up.
func (b *Backend) Upload(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
	const op = "PutObject"
	key, err := b.checkUpload(in)
	if err != nil {
		return nil, fmt.Errorf("%s: not sent: %w", op, err)
	}
	where := fmt.Sprintf("upload s3://%s/%s", b.bucket, key)
	body, err := verify(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("%s: not sent: %w", where, err)
	}
	if err := b.checkRegion(ctx); err != nil {
		return nil, fmt.Errorf("%s: not sent: %w", where, err)
	}
	req := &s3.PutObjectInput{
		Bucket:               aws.String(b.bucket),
		Key:                  aws.String(key),
		Body:                 body,
		ContentLength:        aws.Int64(in.Size),
		ContentType:          aws.String("application/x-ndjson"),
		ChecksumAlgorithm:    types.ChecksumAlgorithmSha256,
		ChecksumSHA256:       aws.String(base64.StdEncoding.EncodeToString(in.SHA256[:])),
		ExpectedBucketOwner:  b.owner,
		ServerSideEncryption: types.ServerSideEncryptionAes256,
	}
	if b.kmsKey != "" {
		req.ServerSideEncryption = types.ServerSideEncryptionAwsKms
		req.SSEKMSKeyId = aws.String(b.kmsKey)
	}
	out, err := call(ctx, b, b.s3.PutObject, req, signedDigest(in.SHA256))
	if err != nil {
		if short, ok := errors.AsType[*shortBodyError](err); ok {
			return nil, fmt.Errorf("%s: %w", where, short)
		}
		return nil, fmt.Errorf("%s: %w", where, b.explainRegion(err))
	}
	if got := aws.ToString(out.ChecksumSHA256); got != "" && got != *req.ChecksumSHA256 {
		return nil, fmt.Errorf("%s: %w: S3 has stored bytes of SHA-256 %s, sent were %s",
			where, task.ErrChecksum, got, *req.ChecksumSHA256)
	}
	return &task.Object{Bucket: b.bucket, Key: key, Size: in.Size, SHA256: in.SHA256}, nil
}

// checkUpload returns the object's key, or a *task.InputError for what can be refused unread.
func (b *Backend) checkUpload(in *task.UploadInput) (string, error) {
	switch {
	case in == nil:
		return "", &task.InputError{Member: "input", Problem: "is nil"}
	case b.bucket == "":
		return "", &task.InputError{Member: "Options.Bucket", Problem: "is empty: say which bucket takes data files"}
	case in.Body == nil:
		return "", &task.InputError{Member: "Body", Problem: "is nil"}
	case in.Key == "":
		return "", &task.InputError{Member: "Key", Problem: "is empty"}
	case in.Size < 0 || in.Size > maxUploadSize:
		return "", &task.InputError{Member: "Size", Problem: fmt.Sprintf(
			"is %d bytes; one upload to S3 takes 0 to %d (5 GiB): cut the fleet into several data files", in.Size, int64(maxUploadSize))}
	}
	key := b.prefix + in.Key
	if err := rule.ObjectKey.Check(key); err != nil {
		return "", &task.InputError{Member: "Key", Problem: err.Error(), Err: err}
	}
	return key, nil
}

// signedDigest puts the digest into the request's signature. The SDK would read the whole body once more to compute it
// over HTTP, and leave it out over HTTPS.
func signedDigest(digest [32]byte) func(*s3.Options) {
	return func(o *s3.Options) {
		o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("iotfleet.digest",
				func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
					middleware.InitializeOutput, middleware.Metadata, error,
				) {
					return next.HandleInitialize(v4.SetPayloadHash(ctx, hex.EncodeToString(digest[:])), in)
				}), middleware.Before)
		})
	}
}

// verify reads the body to its end and returns it, rewound, when length and digest are as announced.
func verify(ctx context.Context, in *task.UploadInput) (io.ReadSeeker, error) {
	start, err := in.Body.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, fmt.Errorf("find the data file's position: %w", err)
	}
	digest := sha256.New()
	n, err := io.Copy(digest, contextReader{ctx, in.Body})
	if err != nil {
		return nil, fmt.Errorf("read the data file at byte %d: %w", n, err)
	}
	if n != in.Size {
		return nil, fmt.Errorf("%w: the data file has %d bytes, %d were announced", task.ErrChecksum, n, in.Size)
	}
	if got := [32]byte(digest.Sum(nil)); got != in.SHA256 {
		return nil, fmt.Errorf("%w: the data file has SHA-256 %x, %x was announced", task.ErrChecksum, got, in.SHA256)
	}
	body := &window{r: in.Body, start: start, size: in.Size}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("rewind the data file: %w", err)
	}
	return body, nil
}

// contextReader stops reading when the context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, wait.ContextError(c.ctx)
	}
	return c.r.Read(p)
}

// window shows size bytes of r from start on, and hides that r may be a file that the SDK could close. What is
// appended to r meanwhile stays outside; what is cut off is an error.
type window struct {
	r                io.ReadSeeker
	start, size, pos int64
}

// shortBodyError is the error of a data file that was cut while it was being sent.
type shortBodyError struct{ pos, size int64 }

func (e *shortBodyError) Error() string {
	return fmt.Sprintf("the data file was cut while it was sent: it ends at byte %d of %d", e.pos, e.size)
}

func (e *shortBodyError) Unwrap() error { return task.ErrChecksum }

func (w *window) Read(p []byte) (int, error) {
	if w.pos >= w.size {
		return 0, io.EOF
	}
	n, err := w.r.Read(p[:min(int64(len(p)), w.size-w.pos)])
	w.pos += int64(n)
	if err == io.EOF {
		err = nil
		if w.pos < w.size {
			err = &shortBodyError{w.pos, w.size}
		}
	}
	return n, err
}

func (w *window) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += w.pos
	case io.SeekEnd:
		offset += w.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to byte %d before the data file's start", offset)
	}
	if _, err := w.r.Seek(w.start+offset, io.SeekStart); err != nil {
		return 0, err
	}
	w.pos = offset
	return offset, nil
}
