package s3

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"
)

// MinPart is the least size of a part that is not the last.
const MinPart = 5 << 20

// MaxParts is the greatest part number.
const MaxParts = 10000

type upload struct {
	Upload
	info  Info
	parts map[int]*Part
	done  *Object // what was made of it; nil until it is complete
	of    string  // with done: the parts that were named, as one text
}

// Upload is a multipart upload in progress.
type Upload struct {
	ID, Bucket, Key string
	Started         time.Time
	ChecksumKind    string // the checksum algorithm asked for; empty for none
	ChecksumType    string // FULL_OBJECT or COMPOSITE, as asked for; may be empty
	Encryption      string // as the object will have it
	KMSKey          string
}

// Part is one part of a multipart upload.
type Part struct {
	Number    int
	ETag      string // hex MD5
	Size      int64
	Modified  time.Time
	Checksums map[string]string
	body      []byte
}

// CreateUpload begins a multipart upload.
func (s *Store) CreateUpload(bucketName, key string, info Info, checksumKind string, now time.Time) (*Upload, error) {
	if err := checkKey(bucketName, key); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(bucketName)
	if err != nil {
		return nil, err
	}
	u := &upload{
		Upload: Upload{ID: s.id(), Bucket: bucketName, Key: key, Started: now.UTC().Truncate(time.Second), ChecksumKind: checksumKind, ChecksumType: info.ChecksumType,
			Encryption: cmp.Or(info.Encryption, defaultEncryption), KMSKey: info.KMSKey},
		info: info.clone(), parts: map[int]*Part{},
	}
	b.uploads[u.ID] = u
	out := u.Upload
	return &out, nil
}

// upload finds an upload; the caller holds the lock.
func (s *Store) upload(bucketName, key, id string) (*bucket, *upload, error) {
	b, err := s.bucket(bucketName)
	if err != nil {
		return nil, nil, err
	}
	u, ok := b.uploads[id]
	if !ok || u.Key != key || u.done != nil {
		return nil, nil, noSuchUpload(bucketName, key, id)
	}
	return b, u, nil
}

// Completed returns the object that an upload was completed to, when it was completed with the same parts: a client
// that lost the answer asks again, and S3 answers as before. It returns nil when there is no such completion.
func (s *Store) Completed(bucketName, key, id string, parts []CompletePart) *Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.buckets[bucketName]
	if !ok {
		return nil
	}
	u, ok := b.uploads[id]
	if !ok || u.Key != key || u.done == nil || u.of != fmt.Sprint(parts) {
		return nil
	}
	return u.done.clone()
}

// PutPart stores one part, replacing an earlier one of the same number. Checksums is as in [PutInput].
func (s *Store) PutPart(bucketName, key, id string, number int, body io.Reader, checksums func() (map[string]string, error), now time.Time) (*Part, error) {
	if number < 1 || number > MaxParts {
		return nil, InvalidArgument("Part number must be an integer between 1 and 10000, inclusive", "partNumber", strconv.Itoa(number))
	}
	s.mu.Lock()
	_, _, err := s.upload(bucketName, key, id)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	p := &Part{Number: number, Modified: now.UTC().Truncate(time.Second)}
	if p.body, err = io.ReadAll(body); err != nil {
		return nil, err
	}
	if checksums != nil {
		sums, err := checksums()
		if err != nil {
			return nil, err
		}
		p.Checksums = maps.Clone(sums)
	}
	sum := md5.Sum(p.body)
	p.ETag, p.Size = hex.EncodeToString(sum[:]), int64(len(p.body))
	s.mu.Lock()
	defer s.mu.Unlock()
	_, u, err := s.upload(bucketName, key, id)
	if err != nil {
		return nil, err
	}
	u.parts[number] = p
	return p.clone(), nil
}

func (p *Part) clone() *Part {
	out := *p
	out.Checksums = maps.Clone(p.Checksums)
	return &out
}

// CompletePart names one part of the finished object.
type CompletePart struct {
	Number int
	ETag   string
}

// Complete makes the object of the parts named, in that order. Checksum, if set, is asked for the object's checksums
// and their type, given the parts.
func (s *Store) Complete(bucketName, key, id string, parts []CompletePart, ifMatch, ifNoneMatch string,
	checksum func(parts []*Part) (sums map[string]string, kind string, err error), now time.Time,
) (*Object, error) {
	s.mu.Lock()
	_, u, err := s.upload(bucketName, key, id)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	held := maps.Clone(u.parts)
	info := u.info.clone()
	s.mu.Unlock()

	if len(parts) == 0 {
		return nil, &Error{Code: "InvalidRequest", Message: "You must specify at least one part", Status: 400, Bucket: bucketName, Key: key}
	}
	o := &Object{Bucket: bucketName, Key: key, Info: info}
	var digests []byte
	var chosen []*Part
	for i, want := range parts {
		p, ok := held[want.Number]
		switch {
		case i > 0 && want.Number <= parts[i-1].Number:
			return nil, (&Error{Code: "InvalidPartOrder", Message: "The list of parts was not in ascending order. Parts must be ordered by part number.",
				Status: 400, Bucket: bucketName, Key: key}).With("UploadId", id)
		case !ok || strings.Trim(want.ETag, `"`) != p.ETag:
			return nil, InvalidPart(id, want)
		}
		chosen = append(chosen, p.clone())
	}
	for i, p := range chosen {
		if i < len(chosen)-1 && p.Size < MinPart {
			return nil, (&Error{Code: "EntityTooSmall", Message: "Your proposed upload is smaller than the minimum allowed size", Status: 400, Bucket: bucketName, Key: key}).
				With("ProposedSize", strconv.FormatInt(p.Size, 10)).With("MinSizeAllowed", strconv.Itoa(MinPart)).
				With("PartNumber", strconv.Itoa(p.Number)).With("ETag", p.ETag)
		}
		raw, _ := hex.DecodeString(p.ETag) // our own hex
		digests = append(digests, raw...)
		o.body = append(o.body, p.body...)
	}
	if checksum != nil {
		if o.Info.Checksums, o.ChecksumType, err = checksum(chosen); err != nil {
			return nil, err
		}
	}
	sum := md5.Sum(digests)
	o.ETag = fmt.Sprintf("%x-%d", sum, len(parts))
	stored, err := s.store(o, ifMatch, ifNoneMatch, now)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.buckets[bucketName]; ok {
		made := stored.clone()
		made.body = nil // the answer has no bytes
		b.uploads[id] = &upload{Upload: u.Upload, done: made, of: fmt.Sprint(parts)}
	}
	return stored, nil
}

// InvalidPart is the refusal of a part that is named in a completion and is not there, or not so.
func InvalidPart(uploadID string, p CompletePart) *Error {
	return (&Error{Code: "InvalidPart", Message: "One or more of the specified parts could not be found.  The part may not have been uploaded, or the" +
		" specified entity tag may not match the part's entity tag.", Status: 400}).
		With("UploadId", uploadID).With("PartNumber", strconv.Itoa(p.Number)).With("ETag", strings.Trim(p.ETag, `"`))
}

// Body returns a reader over the part.
func (p *Part) Body() *bytes.Reader { return bytes.NewReader(p.body) }

// Abort ends a multipart upload and drops its parts.
func (s *Store) Abort(bucketName, key, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, _, err := s.upload(bucketName, key, id)
	if err != nil {
		return err
	}
	delete(b.uploads, id)
	return nil
}

// FindUpload returns an upload in progress.
func (s *Store) FindUpload(bucketName, key, id string) (*Upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, u, err := s.upload(bucketName, key, id)
	if err != nil {
		return nil, err
	}
	return new(u.Upload), nil
}

// Parts returns an upload and its parts by number.
func (s *Store) Parts(bucketName, key, id string) (*Upload, []*Part, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, u, err := s.upload(bucketName, key, id)
	if err != nil {
		return nil, nil, err
	}
	var out []*Part
	for _, n := range sorted(u.parts) {
		out = append(out, u.parts[n].clone())
	}
	head := u.Upload
	return &head, out, nil
}
