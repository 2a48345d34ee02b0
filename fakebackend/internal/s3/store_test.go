package s3

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.UTC)

func newStore(t testing.TB) *Store {
	t.Helper()
	s := New()
	require.NoError(t, s.CreateBucket("fleet", "eu-central-1", "123456789012", now))
	return s
}

func put(t testing.TB, s *Store, key, body string) *Object {
	t.Helper()
	o, err := s.Put(PutInput{Bucket: "fleet", Key: key, Body: strings.NewReader(body)}, now)
	require.NoError(t, err)
	return o
}

func read(t testing.TB, o *Object) string {
	t.Helper()
	raw, err := io.ReadAll(o.Reader())
	require.NoError(t, err)
	return string(raw)
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestAnObjectComesBackWithItsDigestsAndInformation(t *testing.T) {
	s := newStore(t)
	info := Info{ContentType: "application/json", Metadata: map[string]string{"run": "7"}, Encryption: "aws:kms", KMSKey: "key"}
	_, err := s.Put(PutInput{Bucket: "fleet", Key: "a/b c.json", Body: strings.NewReader("hello"), Info: info}, now)
	require.NoError(t, err)
	info.Metadata["run"] = "changed by the caller"

	o, err := s.Get("fleet", "a/b c.json")
	require.NoError(t, err)
	assert.Equal(t, "hello", read(t, o))
	assert.EqualValues(t, 5, o.Size)
	assert.Equal(t, sha256.Sum256([]byte("hello")), o.SHA256)
	assert.Equal(t, fmt.Sprintf("%x", md5.Sum([]byte("hello"))), o.ETag)
	assert.Equal(t, now.Truncate(time.Second), o.Modified)
	assert.Equal(t, "application/json", o.ContentType)
	assert.Equal(t, map[string]string{"run": "7"}, o.Metadata)
	assert.Equal(t, "aws:kms", o.Encryption)

	o.Metadata["run"] = "changed by a reader"
	again, err := s.Get("fleet", "a/b c.json")
	require.NoError(t, err)
	assert.Equal(t, "7", again.Metadata["run"])
	assert.Equal(t, "AES256", put(t, s, "plain", "").Encryption, "S3 encrypts everything")
}

func TestAReaderReadsOneVersionWhole(t *testing.T) {
	s := newStore(t)
	source := []byte("first version")
	_, err := s.Put(PutInput{Bucket: "fleet", Key: "k", Body: bytes.NewReader(source)}, now)
	require.NoError(t, err)
	copy(source, "-------------")
	held, err := s.Get("fleet", "k")
	require.NoError(t, err)
	r := held.Reader()
	head := make([]byte, 5)
	_, err = io.ReadFull(r, head)
	require.NoError(t, err)
	put(t, s, "k", "second")
	require.NoError(t, s.Delete("fleet", "k", ""))
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, "first version", string(head)+string(rest))
}

func TestAFailedBodyStoresNothing(t *testing.T) {
	s := newStore(t)
	put(t, s, "k", "old")
	_, err := s.Put(PutInput{Bucket: "fleet", Key: "k", Body: io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))}, now)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = s.Put(PutInput{Bucket: "fleet", Key: "k", Body: strings.NewReader("new"), Checksums: func() (map[string]string, error) {
		return nil, &Error{Code: "BadDigest"}
	}}, now)
	assert.Equal(t, "BadDigest", codeOf(err))
	o, err := s.Get("fleet", "k")
	require.NoError(t, err)
	assert.Equal(t, "old", read(t, o))
}

func TestConditionalPuts(t *testing.T) {
	s := newStore(t)
	attempt := func(key, match, noneMatch string) string {
		_, err := s.Put(PutInput{Bucket: "fleet", Key: key, Body: strings.NewReader("x"), IfMatch: match, IfNoneMatch: noneMatch}, now)
		if err == nil {
			return "stored"
		}
		return codeOf(err)
	}
	assert.Equal(t, "stored", attempt("once", "", "*"))
	assert.Equal(t, "PreconditionFailed", attempt("once", "", "*"))
	etag := put(t, s, "cas", "v1").ETag
	assert.Equal(t, "PreconditionFailed", attempt("cas", `"00"`, ""))
	assert.Equal(t, "stored", attempt("cas", `"`+etag+`"`, ""))
	assert.Equal(t, "PreconditionFailed", attempt("cas", `"`+etag+`"`, ""), "the ETag has changed")
	assert.Equal(t, "NoSuchKey", attempt("none", `"00"`, ""))
	assert.Equal(t, "NotImplemented", attempt("cas", "", `"00"`))
}

func TestOnlyOneOfManyCreatesWins(t *testing.T) {
	s := newStore(t)
	var group sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 32 {
		group.Go(func() {
			if _, err := s.Put(PutInput{Bucket: "fleet", Key: "lock", Body: strings.NewReader("x"), IfNoneMatch: "*"}, now); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	assert.Equal(t, 1, won)
}

func TestBuckets(t *testing.T) {
	s := newStore(t)
	assert.Equal(t, "BucketAlreadyOwnedByYou", codeOf(s.CreateBucket("fleet", "eu-central-1", "123456789012", now)))
	assert.Equal(t, "BucketAlreadyExists", codeOf(s.CreateBucket("fleet", "eu-central-1", "999999999999", now)))
	require.NoError(t, s.CreateBucket("home", "us-east-1", "123456789012", now))
	assert.NoError(t, s.CreateBucket("home", "us-east-1", "123456789012", now), "us-east-1 takes it again")
	require.NoError(t, s.CreateBucket("other", "us-east-1", "999999999999", now))
	var names []string
	for _, b := range s.Buckets("123456789012") {
		names = append(names, b.Name+" "+b.Region)
	}
	assert.Equal(t, []string{"fleet eu-central-1", "home us-east-1"}, names)

	put(t, s, "k", "")
	assert.Equal(t, "BucketNotEmpty", codeOf(s.DeleteBucket("fleet")))
	require.NoError(t, s.Delete("fleet", "k", ""))
	require.NoError(t, s.Delete("fleet", "k", ""), "deleting twice does no harm")
	require.NoError(t, s.DeleteBucket("fleet"))
	_, err := s.HeadBucket("fleet")
	assert.Equal(t, "NoSuchBucket", codeOf(err))

	for _, bad := range []string{"", "ab", "Fleet", "a_b", "-ab", "ab-", "a..b", "192.168.0.1", strings.Repeat("a", 64), "xn--a", "fleet-s3alias"} {
		assert.Equal(t, "InvalidBucketName", codeOf(s.CreateBucket(bad, "us-east-1", "1", now)), bad)
	}
}

func TestWhatIsNotThereIsNamed(t *testing.T) {
	s := newStore(t)
	_, err := s.Get("nowhere", "k")
	assert.EqualError(t, err, "NoSuchBucket: The specified bucket does not exist (s3://nowhere)")
	_, err = s.Get("fleet", "a/k")
	assert.EqualError(t, err, "NoSuchKey: The specified key does not exist. (s3://fleet/a/k)")
	_, err = s.Put(PutInput{Bucket: "nowhere", Key: "k", Body: iotest.ErrReader(errors.New("must not be read"))}, now)
	assert.Equal(t, "NoSuchBucket", codeOf(err))
	_, err = s.Put(PutInput{Bucket: "fleet", Key: strings.Repeat("k", 1025)}, now)
	assert.Equal(t, "KeyTooLongError", codeOf(err))
}

func TestPublicAccessIsBlockedFromTheStart(t *testing.T) {
	s := newStore(t)
	block, err := s.PublicAccess("fleet")
	require.NoError(t, err)
	assert.Equal(t, &PublicAccessBlock{true, true, true, true}, block)
	require.NoError(t, s.SetPublicAccess("fleet", &PublicAccessBlock{BlockACLs: true}))
	block, err = s.PublicAccess("fleet")
	require.NoError(t, err)
	assert.Equal(t, &PublicAccessBlock{BlockACLs: true}, block)
	require.NoError(t, s.SetPublicAccess("fleet", nil))
	block, err = s.PublicAccess("fleet")
	require.NoError(t, err)
	assert.Nil(t, block)
}

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		header string
		size   int64
		want   *Range
		code   string
	}{
		{"bytes=0-", 10, &Range{0, 10}, ""}, {"bytes=3-", 10, &Range{3, 7}, ""}, {"bytes=3-4", 10, &Range{3, 2}, ""},
		{"bytes=3-99", 10, &Range{3, 7}, ""}, {"bytes=-4", 10, &Range{6, 4}, ""}, {"bytes=-99", 10, &Range{0, 10}, ""},
		{"bytes=10-", 10, nil, "InvalidRange"}, {"bytes=0-", 0, nil, "InvalidRange"}, {"bytes=-0", 10, nil, "InvalidRange"},
		{"", 10, nil, ""}, {"bytes=5-3", 10, nil, ""}, {"bytes=0-1,3-4", 10, nil, ""}, {"bytes=a-b", 10, nil, ""}, {"items=0-1", 10, nil, ""},
		{"bytes=-", 10, nil, ""}, {"bytes=99999999999999999999-", 10, nil, ""},
	} {
		got, err := ParseRange(c.header, c.size)
		assert.Equal(t, c.want, got, c.header)
		if c.code != "" {
			assert.Equal(t, c.code, codeOf(err), c.header)
		} else {
			assert.NoError(t, err, c.header)
		}
	}
}

func TestASnapshotComesBackWhateverHappenedSince(t *testing.T) {
	s := newStore(t)
	put(t, s, "kept", "v1")
	u, err := s.CreateUpload("fleet", "big", Info{}, "", now)
	require.NoError(t, err)
	before := s.Snapshot()
	put(t, s, "kept", "v2")
	put(t, s, "new", "")
	require.NoError(t, s.SetPublicAccess("fleet", nil))
	require.NoError(t, s.Abort("fleet", "big", u.ID))
	require.NoError(t, s.CreateBucket("second", "us-east-1", "1", now))

	for range 2 {
		s.Restore(before)
		page, err := s.List(ListInput{Bucket: "fleet"})
		require.NoError(t, err)
		require.Len(t, page.Objects, 1)
		assert.Equal(t, "v1", read(t, page.Objects[0]))
		_, _, err = s.Parts("fleet", "big", u.ID)
		assert.NoError(t, err)
		_, err = s.HeadBucket("second")
		assert.Equal(t, "NoSuchBucket", codeOf(err))
		block, err := s.PublicAccess("fleet")
		require.NoError(t, err)
		assert.NotNil(t, block)
		put(t, s, "kept", "v3")
	}
	s.Restore(State{})
	assert.Empty(t, s.Buckets("123456789012"))
	require.NoError(t, s.CreateBucket("fleet", "us-east-1", "1", now))
}

func TestASnapshotAsJSONIsTheSameSnapshot(t *testing.T) {
	s := newStore(t)
	_, err := s.Put(PutInput{Bucket: "fleet", Key: "k", Body: strings.NewReader("\x00\xff body"), Info: Info{Metadata: map[string]string{"a": "b"}}}, now)
	require.NoError(t, err)
	u, err := s.CreateUpload("fleet", "big", Info{ContentType: "text/plain"}, "CRC32", now)
	require.NoError(t, err)
	p, err := s.PutPart("fleet", "big", u.ID, 7, strings.NewReader("part"), nil, now)
	require.NoError(t, err)
	raw, err := json.Marshal(s.Snapshot())
	require.NoError(t, err)

	var restored State
	require.NoError(t, json.Unmarshal(raw, &restored))
	other := New()
	other.Restore(restored)
	want, err := s.Get("fleet", "k")
	require.NoError(t, err)
	got, err := other.Get("fleet", "k")
	require.NoError(t, err)
	assert.Equal(t, want, got)
	o, err := other.Complete("fleet", "big", u.ID, []CompletePart{{7, p.ETag}}, "", "", nil, now)
	require.NoError(t, err)
	assert.Equal(t, "part", read(t, o))
	assert.Equal(t, "text/plain", o.ContentType)

	again, err := json.Marshal(s.Snapshot())
	require.NoError(t, err)
	assert.Equal(t, raw, again, "the same state is the same JSON")
	damaged := strings.Replace(string(raw), base64.StdEncoding.EncodeToString([]byte("\x00\xff body")), base64.StdEncoding.EncodeToString([]byte("\x00\xff bodx")), 1)
	assert.ErrorContains(t, json.Unmarshal([]byte(damaged), &restored), "s3://fleet/k is not as it was written")
}
