package s3

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func entries(p *ListPage) []string {
	var out []string
	for _, o := range p.Objects {
		out = append(out, o.Key)
	}
	return append(out, p.CommonPrefixes...)
}

func TestAListingRollsUpWhatLiesBehindTheDelimiter(t *testing.T) {
	s := newStore(t)
	for _, key := range []string{"readme", "runs/1/a", "runs/1/b", "runs/2/a", "runs/x", "é"} {
		put(t, s, key, "")
	}
	for _, c := range []struct {
		in   ListInput
		want []string
	}{
		{ListInput{}, []string{"readme", "runs/1/a", "runs/1/b", "runs/2/a", "runs/x", "é"}},
		{ListInput{Delimiter: "/"}, []string{"readme", "é", "runs/"}},
		{ListInput{Prefix: "runs/", Delimiter: "/"}, []string{"runs/x", "runs/1/", "runs/2/"}},
		{ListInput{Prefix: "runs/1"}, []string{"runs/1/a", "runs/1/b"}},
		{ListInput{After: "runs/1/b"}, []string{"runs/2/a", "runs/x", "é"}},
		{ListInput{After: "runs/", Delimiter: "/"}, []string{"é"}},
		{ListInput{Prefix: "none"}, nil},
	} {
		c.in.Bucket = "fleet"
		page, err := s.List(c.in)
		require.NoError(t, err)
		assert.Equal(t, c.want, entries(page), "%+v", c.in)
		assert.Empty(t, page.Next)
	}
	_, err := s.List(ListInput{Bucket: "nowhere"})
	assert.Equal(t, "NoSuchBucket", codeOf(err))
}

func TestThePagesTogetherAreTheListing(t *testing.T) {
	s := newStore(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		put(t, s, fmt.Sprintf("%d/%d/%d", random.IntN(6), random.IntN(6), random.IntN(6)), "")
	}
	for _, delimiter := range []string{"", "/", "1"} {
		for _, prefix := range []string{"", "1", "1/", "9"} {
			whole, err := s.List(ListInput{Bucket: "fleet", Prefix: prefix, Delimiter: delimiter})
			require.NoError(t, err)
			for _, size := range []int{1, 2, 7} {
				var got []string
				in := ListInput{Bucket: "fleet", Prefix: prefix, Delimiter: delimiter, Max: size}
				for {
					page, err := s.List(in)
					require.NoError(t, err)
					got = append(got, entries(page)...)
					require.LessOrEqual(t, len(entries(page)), size)
					if page.Next == "" {
						break
					}
					require.Greater(t, page.Next, in.After, "each page gets on")
					in.After = page.Next
				}
				want := entries(whole)
				slices.Sort(want)
				slices.Sort(got)
				assert.Equal(t, want, got, "prefix %q delimiter %q size %d", prefix, delimiter, size)
			}
		}
	}
}

func TestAFullLastPageHasNoNext(t *testing.T) {
	s := newStore(t)
	for i := range 1000 {
		put(t, s, fmt.Sprintf("%04d", i), "")
	}
	page, err := s.List(ListInput{Bucket: "fleet"})
	require.NoError(t, err)
	assert.Len(t, page.Objects, 1000)
	assert.Empty(t, page.Next)
	put(t, s, "z", "")
	page, err = s.List(ListInput{Bucket: "fleet", Max: 5000})
	require.NoError(t, err)
	assert.Len(t, page.Objects, 1000)
	assert.Equal(t, "0999", page.Next)
	assert.True(t, strings.HasPrefix(page.Objects[0].Key, "0000"))
}
