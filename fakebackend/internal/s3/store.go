package s3

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Store is S3. It is safe for concurrent use.
type Store struct {
	mu      sync.Mutex
	seed    []byte // what upload ids follow from, beside their number
	buckets map[string]*bucket
	made    uint64 // upload ids given out
}

// Bucket is a bucket's description.
type Bucket struct {
	Name    string
	Region  string
	Owner   string // account number
	Created time.Time
}

type bucket struct {
	Bucket
	objects map[string]*Object
	uploads map[string]*upload
	// publicAccess are the four switches of the public access block; all true for a new bucket, as S3 sets them.
	publicAccess *PublicAccessBlock
}

// defaultEncryption is how S3 encrypts when nothing is asked for.
const defaultEncryption = "AES256"

// PublicAccessBlock are the four switches that keep a bucket private.
type PublicAccessBlock struct{ BlockACLs, IgnoreACLs, BlockPolicy, RestrictBuckets bool }

// New makes a store without buckets.
func New() *Store { return &Store{buckets: map[string]*bucket{}} }

// Object is one version of an object. Its bytes never change.
type Object struct {
	Bucket   string
	Key      string
	Size     int64
	SHA256   [32]byte
	ETag     string // hex MD5, without the quotes it has on the wire; of a multipart object hex-N
	Modified time.Time
	Info
	body []byte
}

// Info is what is kept with an object and given back with it.
type Info struct {
	ContentType        string
	ContentEncoding    string
	ContentDisposition string
	ContentLanguage    string
	CacheControl       string
	Expires            string
	StorageClass       string            // empty for STANDARD
	Encryption         string            // AES256 or aws:kms; S3 uses AES256 when nothing is asked for
	KMSKey             string            // ARN or id, with aws:kms
	Metadata           map[string]string // x-amz-meta- headers, names in lower case without the prefix
	Checksums          map[string]string // base64 by algorithm: CRC32, CRC32C, CRC64NVME, SHA1, SHA256
	ChecksumType       string            // FULL_OBJECT or COMPOSITE; empty for FULL_OBJECT
}

func (i Info) clone() Info {
	i.Metadata, i.Checksums = maps.Clone(i.Metadata), maps.Clone(i.Checksums)
	return i
}

// Reader returns a new reader over the whole object.
func (o *Object) Reader() *bytes.Reader { return bytes.NewReader(o.body) }

func (o *Object) clone() *Object {
	out := *o // the body is shared: nothing writes to it
	out.Info = o.Info.clone()
	return &out
}

// CreateBucket makes a bucket. Making one's own bucket again is an error except in us-east-1, as with S3.
func (s *Store) CreateBucket(name, region, owner string, now time.Time) error {
	if err := checkBucketName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.buckets[name]; ok {
		switch {
		case old.Owner != owner:
			return &Error{Code: "BucketAlreadyExists", Message: "The requested bucket name is not available. The bucket namespace is shared by all users of the system." +
				" Please select a different name and try again.", Status: 409, Bucket: name}
		case old.Region == "us-east-1" && region == "us-east-1":
			return nil
		}
		return (&Error{Code: "BucketAlreadyOwnedByYou", Message: "Your previous request to create the named bucket succeeded and you already own it.",
			Status: 409, Bucket: name}).With("BucketName", name)
	}
	s.buckets[name] = &bucket{
		Bucket:  Bucket{name, region, owner, now.UTC().Truncate(time.Second)},
		objects: map[string]*Object{}, uploads: map[string]*upload{},
		publicAccess: &PublicAccessBlock{true, true, true, true},
	}
	return nil
}

// checkBucketName applies the naming rules of general purpose buckets.
func checkBucketName(name string) error {
	bad := (&Error{Code: "InvalidBucketName", Message: "The specified bucket is not valid.", Status: 400, Bucket: name}).With("BucketName", name)
	if len(name) < 3 || len(name) > 63 || strings.Contains(name, "..") {
		return bad
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && (c != '-' && c != '.' || i == 0 || i == len(name)-1) {
			return bad
		}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return bad
	}
	for _, prefix := range []string{"xn--", "sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(name, prefix) {
			return bad
		}
	}
	for _, suffix := range []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(name, suffix) {
			return bad
		}
	}
	return nil
}

// bucket finds a bucket; the caller holds the lock.
func (s *Store) bucket(name string) (*bucket, error) {
	b, ok := s.buckets[name]
	if !ok {
		return nil, noSuchBucket(name)
	}
	return b, nil
}

// HeadBucket returns a bucket's description.
func (s *Store) HeadBucket(name string) (Bucket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(name)
	if err != nil {
		return Bucket{}, err
	}
	return b.Bucket, nil
}

// Buckets returns an account's buckets, sorted by name.
func (s *Store) Buckets(owner string) []Bucket {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Bucket
	for _, name := range sorted(s.buckets) {
		if b := s.buckets[name]; b.Owner == owner {
			out = append(out, b.Bucket)
		}
	}
	return out
}

// DeleteBucket removes an empty bucket.
func (s *Store) DeleteBucket(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(name)
	if err != nil {
		return err
	}
	if len(b.objects) > 0 {
		return (&Error{Code: "BucketNotEmpty", Message: "The bucket you tried to delete is not empty", Status: 409, Bucket: name}).With("BucketName", name)
	}
	delete(s.buckets, name)
	return nil
}

// PublicAccess returns a bucket's public access block, nil if it has none.
func (s *Store) PublicAccess(name string) (*PublicAccessBlock, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(name)
	if err != nil || b.publicAccess == nil {
		return nil, err
	}
	out := *b.publicAccess
	return &out, nil
}

// SetPublicAccess replaces a bucket's public access block; nil removes it.
func (s *Store) SetPublicAccess(name string, block *PublicAccessBlock) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(name)
	if err != nil {
		return err
	}
	b.publicAccess = nil
	if block != nil {
		b.publicAccess = new(*block)
	}
	return nil
}

// PutInput is an object on its way in.
type PutInput struct {
	Bucket, Key string
	Body        io.Reader // read to its end; when it fails nothing is stored and Put returns its error
	Info        Info
	// Checksums, if set, is asked for the object's checksums after Body has ended: with trailing checksums they are
	// known only then. An error stores nothing.
	Checksums   func() (map[string]string, error)
	IfNoneMatch string // "*": only if there is no such key
	IfMatch     string // only if the key's object has this ETag
}

// Put stores an object, replacing the one under its key whole.
func (s *Store) Put(in PutInput, now time.Time) (*Object, error) {
	if err := checkKey(in.Bucket, in.Key); err != nil {
		return nil, err
	}
	// The bucket is looked up first so that a caller need not send a body to learn that there is none.
	if _, err := s.HeadBucket(in.Bucket); err != nil {
		return nil, err
	}
	o := &Object{Bucket: in.Bucket, Key: in.Key, Info: in.Info.clone()}
	if in.Body != nil {
		var err error
		if o.body, err = io.ReadAll(in.Body); err != nil {
			return nil, err
		}
	}
	if in.Checksums != nil {
		sums, err := in.Checksums()
		if err != nil {
			return nil, err
		}
		o.Info.Checksums = maps.Clone(sums)
	}
	sum := md5.Sum(o.body)
	o.ETag = hex.EncodeToString(sum[:])
	return s.store(o, in.IfMatch, in.IfNoneMatch, now)
}

// store puts a finished object in its place.
func (s *Store) store(o *Object, ifMatch, ifNoneMatch string, now time.Time) (*Object, error) {
	o.Size, o.SHA256, o.Modified = int64(len(o.body)), sha256.Sum256(o.body), now.UTC().Truncate(time.Second)
	o.Encryption = cmp.Or(o.Encryption, defaultEncryption)
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(o.Bucket)
	if err != nil {
		return nil, err
	}
	old := b.objects[o.Key]
	switch {
	case ifNoneMatch != "" && ifMatch != "": // a write has one of the two conditions
		return nil, notImplemented("If-Match,If-None-Match", "Multiple conditional request headers present in the request")
	case ifNoneMatch != "" && ifNoneMatch != "*":
		return nil, notImplemented("If-None-Match", "We don't accept the provided value of If-None-Match header for this API")
	case ifMatch == "*":
		return nil, notImplemented("If-Match", "We don't accept the provided value of If-Match header for this API")
	case ifNoneMatch == "*" && old != nil:
		return nil, PreconditionFailed("If-None-Match", o.Bucket, o.Key)
	case ifMatch != "" && old == nil:
		return nil, noSuchKey(o.Bucket, o.Key)
	case ifMatch != "" && !MatchETag(ifMatch, old.ETag):
		return nil, PreconditionFailed("If-Match", o.Bucket, o.Key)
	}
	b.objects[o.Key] = o
	return o.clone(), nil
}

// MatchETag reports whether a condition such as "abc", abc, W/"abc", * or a list of them names the ETag.
func MatchETag(condition, etag string) bool {
	for one := range strings.SplitSeq(condition, ",") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		if one == "*" || strings.Trim(one, `"`) == etag {
			return true
		}
	}
	return false
}

func checkKey(bucket, key string) error {
	switch {
	case key == "":
		return &Error{Code: "InvalidArgument", Message: "The object key must not be empty", Status: 400, Bucket: bucket}
	case len(key) > 1024:
		return (&Error{Code: "KeyTooLongError", Message: "Your key is too long", Status: 400, Bucket: bucket}).
			With("Size", strconv.Itoa(len(key))).With("MaxSizeAllowed", "1024")
	case !utf8.ValidString(key):
		return &Error{Code: "InvalidURI", Message: "Couldn't parse the specified URI.", Status: 400, Bucket: bucket}
	}
	return nil
}

// Get returns the object under a key as it is now.
func (s *Store) Get(bucket, key string) (*Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(bucket)
	if err != nil {
		return nil, err
	}
	o, ok := b.objects[key]
	if !ok {
		return nil, noSuchKey(bucket, key)
	}
	return o.clone(), nil
}

// Delete removes an object; with a condition, only if the object has that ETag. Without one, a key that is not there
// does no harm.
func (s *Store) Delete(bucket, key, ifMatch string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(bucket)
	if err != nil {
		return err
	}
	switch old := b.objects[key]; {
	case ifMatch != "" && old == nil:
		return noSuchKey(bucket, key)
	case ifMatch != "" && !MatchETag(ifMatch, old.ETag):
		return PreconditionFailed("If-Match", bucket, key)
	}
	delete(b.objects, key)
	return nil
}

// Range is a part of an object.
type Range struct{ Offset, Length int64 }

// ParseRange reads a Range header against a size. It returns nil for a header that is absent or not understood, which
// means the whole object, and an error when the range lies outside.
func ParseRange(header string, size int64) (*Range, error) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return nil, nil
	}
	from, to, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return nil, nil
	}
	outside := (&Error{Code: "InvalidRange", Message: "The requested range is not satisfiable", Status: 416}).
		With("RangeRequested", header).With("ActualObjectSize", strconv.FormatInt(size, 10))
	first, hasFirst := parseDigits(from)
	last, hasLast := parseDigits(to)
	switch {
	case from != "" && !hasFirst, to != "" && !hasLast, from == "" && to == "":
		return nil, nil
	case from == "": // the last bytes
		if last == 0 || size == 0 {
			return nil, outside
		}
		last = min(last, size)
		return &Range{size - last, last}, nil
	case to != "" && last < first:
		return nil, nil
	case first >= size:
		return nil, outside
	case to == "" || last >= size:
		last = size - 1
	}
	return &Range{first, last - first + 1}, nil
}

func parseDigits(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}

// SetSeed sets what upload ids follow from, beside the number of those made so far.
func (s *Store) SetSeed(seed []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seed = slices.Clone(seed)
}

// id returns a new upload id; the caller holds the lock.
func (s *Store) id() string {
	s.made++
	sum := sha256.Sum256(fmt.Appendf(nil, "%x upload %d", s.seed, s.made))
	return hex.EncodeToString(sum[:])
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
