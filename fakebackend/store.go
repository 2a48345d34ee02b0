package fakebackend

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/task"
)

// The store half of a [task.Backend]: PutObject for Upload, GetObject for Open.
//
// Models: objects that are replaced whole, digests that are checked, links that expire. Not modelled here: the S3 API
// itself, which package fakeaws serves.

const (
	opPutObject    = "PutObject"
	opGetObject    = "GetObject"
	opCreateBucket = "CreateBucket"
)

// Upload stores a data file in the fake's bucket. See [task.Store].
func (b *Backend) Upload(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
	in = orZero(in)
	if ctx.Err() != nil {
		return nil, interrupted(ctx, opPutObject)
	}
	strike, err := b.faults.request(ctx, opPutObject, "")
	if err != nil {
		return nil, err
	}
	var c restjson.Checker
	c.Need("key", in.Key, shapeNamed("RegistryS3KeyName"))
	if err := violation(c.Message()); err != nil {
		err.Op = opPutObject
		return nil, err
	}
	content := in.Body
	if content == nil {
		content = bytes.NewReader(nil)
	}
	digest := sha256.New()
	var size int64
	body := io.TeeReader(&uploadReader{ctx, content}, digest)
	object, err := b.objects.Put(s3.PutInput{
		Bucket: b.opts.Bucket, Key: in.Key, Body: countReader{body, &size},
		// Asked for after the body has ended: nothing is stored when the digest is wrong.
		Checksums: func() (map[string]string, error) {
			if size != in.Size {
				return nil, badDigest("the body of %s has %d bytes and not %d as announced", in.Key, size, in.Size)
			}
			if [32]byte(digest.Sum(nil)) != in.SHA256 {
				return nil, badDigest("the body of %s does not have the SHA-256 that was announced", in.Key)
			}
			return nil, nil
		},
	}, b.Now())
	if err != nil && ctx.Err() != nil {
		return nil, interrupted(ctx, opPutObject)
	}
	if err != nil {
		err = fmt.Errorf("fakebackend: upload %s: %w", in.Key, storeError(opPutObject, err))
	}
	if err := strike.loses(opPutObject, err); err != nil {
		return nil, err
	}
	return &task.Object{Bucket: object.Bucket, Key: object.Key, Size: object.Size, SHA256: object.SHA256}, nil
}

func badDigest(format string, args ...any) *task.Error {
	return &task.Error{Op: opPutObject, Code: "BadDigest", Status: 400, Message: fmt.Sprintf(format, args...), Kind: task.ErrChecksum}
}

// Open reads what a report link leads to. See [task.Store].
func (b *Backend) Open(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
	strike, err := b.faults.request(ctx, opGetObject, "")
	if err != nil {
		return nil, err
	}
	body, err := b.open(ctx, link, offset, strike)
	if err := strike.loses(opGetObject, err); err != nil {
		return nil, err
	}
	return body, nil
}

func (b *Backend) open(ctx context.Context, link task.Link, offset int64, strike struck) (io.ReadCloser, error) {
	if offset < 0 {
		err := refuse("InvalidRange", "The requested range is not satisfiable")
		err.Op = opGetObject
		return nil, err
	}
	// Entering brings the reports up to the clock.
	now, err := b.enter(ctx, opGetObject)
	if err != nil {
		return nil, err
	}
	b.reads()
	bucket, key, err := b.keys.Load().links.Open(link.URL(), now) // an error is S3's refusal of the link
	var report reportFile
	isReport := false
	if err == nil {
		report, isReport = b.findReport(bucket, key)
	}
	b.leave()
	if strike.expire {
		err = &s3.Error{Code: "AccessDenied", Message: "Request has expired", Status: 403}
	}
	if refusal, ok := errors.AsType[*s3.Error](err); ok {
		return nil, &task.Error{Op: opGetObject, Code: refusal.Code, Status: refusal.Status, Message: refusal.Message, Kind: task.ErrLinkExpired}
	}
	if err != nil {
		return nil, err
	}
	var body io.ReadSeeker
	var long bool
	if isReport {
		r := report.reader()
		body, long = r, offset == 0 || r.has(offset-1)
	} else {
		object, err := b.objects.Get(bucket, key)
		if err != nil {
			return nil, storeError(opGetObject, err)
		}
		body, long = object.Reader(), object.Size >= offset
	}
	if !long {
		err := refuse("InvalidRange", "The requested range is not satisfiable")
		err.Op, err.Status = opGetObject, 416
		return nil, err
	}
	if _, err := body.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	var r io.Reader = body
	if strike.truncate >= 0 {
		r = &cutReader{body, strike.truncate - offset}
	}
	return &download{ctx: ctx, r: r}, nil
}

// download is a body that ends with its context.
type download struct {
	ctx    context.Context
	r      io.Reader
	closed bool
}

func (d *download) Read(p []byte) (int, error) {
	if d.closed {
		return 0, errors.New("fakebackend: read of a report that was closed")
	}
	if d.ctx.Err() != nil {
		return 0, interrupted(d.ctx, opGetObject)
	}
	return d.r.Read(p)
}

func (d *download) Close() error {
	d.closed = true
	return nil
}

// uploadReader is a body whose reading ends with the context.
type uploadReader struct {
	ctx context.Context
	r   io.Reader
}

func (u *uploadReader) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}

type countReader struct {
	r io.Reader
	n *int64
}

func (c countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

// storeError returns S3's refusal as an error of package task.
func storeError(op string, err error) error {
	if refusal, ok := errors.AsType[*s3.Error](err); ok {
		return &task.Error{Op: op, Code: refusal.Code, Status: refusal.Status, Message: refusal.Message, Kind: task.KindOfCode(refusal.Code)}
	}
	return err
}

// EnsureBucket makes the fake's bucket if there is none. See [task.BucketEnsurer].
func (b *Backend) EnsureBucket(ctx context.Context) error {
	strike, err := b.faults.request(ctx, opCreateBucket, "")
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return interrupted(ctx, opCreateBucket)
	}
	where, err := b.objects.HeadBucket(b.opts.Bucket)
	if err == nil && where.Region != b.opts.Region {
		return &task.Error{Op: "HeadBucket", Code: "PermanentRedirect", Status: 301, Kind: task.ErrWrongRegion,
			Message: fmt.Sprintf("the bucket %s is in %s and not in %s", b.opts.Bucket, where.Region, b.opts.Region)}
	}
	if err == nil && where.Owner != b.opts.Account {
		return &task.Error{Op: "HeadBucket", Code: "AccessDenied", Status: 403, Kind: task.ErrAccessDenied,
			Message: fmt.Sprintf("the bucket %s belongs to another account; choose another name", b.opts.Bucket)}
	}
	if err != nil {
		if err = b.makeBucket(b.opts.Bucket, b.opts.Region); err != nil {
			err = fmt.Errorf("fakebackend: make the bucket %s: %w", b.opts.Bucket, storeError(opCreateBucket, err))
		}
	}
	return strike.loses(opCreateBucket, err)
}

func (b *account) makeBucket(name, region string) error {
	return b.objects.CreateBucket(name, region, b.opts.Account, b.clock.now())
}
