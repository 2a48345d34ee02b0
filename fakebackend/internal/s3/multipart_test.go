package s3

import (
	"crypto/md5"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAMultipartUploadBecomesOneObject(t *testing.T) {
	s := newStore(t)
	u, err := s.CreateUpload("fleet", "big", Info{ContentType: "text/plain"}, "", now)
	require.NoError(t, err)
	first, second := strings.Repeat("a", MinPart), "tail"
	p2, err := s.PutPart("fleet", "big", u.ID, 2, strings.NewReader(second), nil, now)
	require.NoError(t, err)
	_, err = s.PutPart("fleet", "big", u.ID, 1, strings.NewReader("replaced below"), nil, now)
	require.NoError(t, err)
	p1, err := s.PutPart("fleet", "big", u.ID, 1, strings.NewReader(first), nil, now)
	require.NoError(t, err)
	_, err = s.Get("fleet", "big")
	assert.Equal(t, "NoSuchKey", codeOf(err), "nothing is there until it is complete")

	_, parts, err := s.Parts("fleet", "big", u.ID)
	require.NoError(t, err)
	require.Len(t, parts, 2)
	assert.Equal(t, 1, parts[0].Number)

	complete := func(parts ...CompletePart) string {
		_, err := s.Complete("fleet", "big", u.ID, parts, "", "", nil, now)
		return codeOf(err)
	}
	assert.Equal(t, "InvalidRequest", complete())
	assert.Equal(t, "InvalidPartOrder", complete(CompletePart{2, p2.ETag}, CompletePart{1, p1.ETag}))
	assert.Equal(t, "InvalidPart", complete(CompletePart{1, "00"}))
	assert.Equal(t, "InvalidPart", complete(CompletePart{1, p1.ETag}, CompletePart{3, p1.ETag}))

	o, err := s.Complete("fleet", "big", u.ID, []CompletePart{{1, `"` + p1.ETag + `"`}, {2, p2.ETag}}, "", "*", nil, now)
	require.NoError(t, err)
	assert.Equal(t, first+second, read(t, o))
	assert.Equal(t, "text/plain", o.ContentType)
	sum1, sum2 := md5.Sum([]byte(first)), md5.Sum([]byte(second))
	assert.Equal(t, fmt.Sprintf("%x-2", md5.Sum(append(sum1[:], sum2[:]...))), o.ETag)
	_, _, err = s.Parts("fleet", "big", u.ID)
	assert.Equal(t, "NoSuchUpload", codeOf(err))
}

func TestOnlyTheLastPartMayBeSmall(t *testing.T) {
	s := newStore(t)
	u, err := s.CreateUpload("fleet", "big", Info{}, "", now)
	require.NoError(t, err)
	p1, err := s.PutPart("fleet", "big", u.ID, 1, strings.NewReader(strings.Repeat("a", 5<<20-1)), nil, now)
	require.NoError(t, err)
	p2, err := s.PutPart("fleet", "big", u.ID, 2, strings.NewReader("small"), nil, now)
	require.NoError(t, err)
	_, err = s.Complete("fleet", "big", u.ID, []CompletePart{{1, p1.ETag}, {2, p2.ETag}}, "", "", nil, now)
	assert.Equal(t, "EntityTooSmall", codeOf(err))
	_, err = s.Complete("fleet", "big", u.ID, []CompletePart{{2, p2.ETag}}, "", "", nil, now)
	assert.NoError(t, err)
}

func TestAnUploadThatIsNotThereIsRefused(t *testing.T) {
	s := newStore(t)
	u, err := s.CreateUpload("fleet", "k", Info{}, "", now)
	require.NoError(t, err)
	_, err = s.PutPart("fleet", "another", u.ID, 1, strings.NewReader(""), nil, now)
	assert.Equal(t, "NoSuchUpload", codeOf(err))
	_, err = s.PutPart("fleet", "k", u.ID, 0, strings.NewReader(""), nil, now)
	assert.Equal(t, "InvalidArgument", codeOf(err))
	require.NoError(t, s.Abort("fleet", "k", u.ID))
	assert.Equal(t, "NoSuchUpload", codeOf(s.Abort("fleet", "k", u.ID)))
}
