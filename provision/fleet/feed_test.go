package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/provision"
)

func numbered(n int) provision.Device {
	d := provision.Device{
		Name: fmt.Sprintf("device-%d", n), Source: fmt.Sprintf("list:%d", n), Seq: int64(n), RunID: "run",
		Row: map[string]string{"n": fmt.Sprint(n), "bytes": "\xff\x00\"\n"},
	}
	if n%5 == 0 {
		d.Err = &refusal{provision.CauseDuplicate, "it has been there before"}
	}
	return d
}

func TestAFeedGivesEveryDeviceInOrderWhateverTheSiteTakesWhen(t *testing.T) {
	// Each step puts so many devices, then lets the site take so many.
	for name, steps := range map[string][][2]int{
		"hand to mouth":           {{1, 1}, {1, 1}, {3, 2}, {0, 1}},
		"all of it late":          {{5*feedRows + 7, 5*feedRows + 7}},
		"exactly the file":        {{2 * feedRows, 2 * feedRows}},
		"in turns":                {{3 * feedRows, feedRows / 2}, {feedRows, 3 * feedRows}, {feedRows / 3, 10}, {2 * feedRows, 0}},
		"the file is begun again": {{2 * feedRows, 2 * feedRows}, {3 * feedRows, 3 * feedRows}, {10, 10}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				f := newFeed(dir)
				taken := make(chan provision.Device)
				end := make(chan error, 1)
				go func() {
					defer close(taken)
					for d, err := range f.all(t.Context()) {
						if err != nil {
							end <- err
							return
						}
						taken <- d
					}
				}()
				put, got := 0, 0
				take := func() {
					got++
					require.Equal(t, numbered(got), <-taken)
				}
				for _, s := range steps {
					for range s[0] {
						put++
						f.put(numbered(put))
						f.mu.Lock()
						require.Less(t, len(f.tail), feedRows)
						f.mu.Unlock()
					}
					synctest.Wait()
					for range s[1] {
						take()
					}
				}
				f.close(nil)
				for got < put {
					take()
				}
				_, more := <-taken
				assert.False(t, more)
				assert.Empty(t, end)
				assert.EqualValues(t, put, f.count())
				f.leave()
				left, err := os.ReadDir(dir)
				require.NoError(t, err)
				assert.Empty(t, left)
			})
		})
	}
}

func TestAFeedEndsWithTheErrorOfTheInputAtOnce(t *testing.T) {
	f := newFeed(t.TempDir())
	f.put(numbered(1))
	torn := errors.New("torn")
	f.close(torn)
	f.close(nil) // too late
	for _, err := range f.all(t.Context()) {
		require.ErrorIs(t, err, torn)
	}
}

func TestAFeedHonoursItsContext(t *testing.T) {
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	n := 0
	for _, err := range newFeed(t.TempDir()).all(ctx) {
		require.ErrorIs(t, err, stop)
		n++
	}
	assert.Equal(t, 1, n)
}

func TestASiteThatLeftIsCountedForAndKeepsNothing(t *testing.T) {
	f := newFeed(t.TempDir())
	for n := range 3 * feedRows {
		f.put(numbered(n))
		if n == 2*feedRows {
			f.leave()
		}
	}
	assert.EqualValues(t, 3*feedRows, f.count())
	assert.Empty(t, f.tail)
	assert.Nil(t, f.file)
}

func TestAFeedWithoutRoomOnDiskFailsItsSiteAlone(t *testing.T) {
	f := newFeed(filepath.Join(t.TempDir(), "not there"))
	for n := range feedRows {
		f.put(numbered(n))
	}
	n := 0
	for _, err := range f.all(t.Context()) {
		require.ErrorIs(t, err, os.ErrNotExist)
		assert.ErrorContains(t, err, "keeping devices until the site takes them")
		n++
	}
	assert.Equal(t, 1, n)
}

func TestADamagedTemporaryFileIsNoticed(t *testing.T) {
	f := newFeed(t.TempDir())
	for n := range feedRows {
		f.put(numbered(n))
	}
	_, err := f.file.WriteAt(make([]byte, 200), 0)
	require.NoError(t, err)
	for _, err := range f.all(t.Context()) {
		require.ErrorContains(t, err, "is damaged")
	}
	f.leave()
}
