package durable_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/durable/memdisk"
)

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func TestAReplacedFileIsTheOldOneOrTheNewOneWhateverStepIsTheLast(t *testing.T) {
	const oldText, newText = "old content", "new content, longer"
	for _, there := range []bool{false, true} {
		start := func() *memdisk.Disk {
			d := memdisk.New()
			if there {
				require.NoError(t, durable.ReplaceFile(d, "/f", 0o600, text(oldText)))
			}
			return d
		}
		whole := start()
		before := whole.Steps
		require.NoError(t, durable.ReplaceFile(whole, "/f", 0o600, text(newText)))
		for step := before + 1; step <= whole.Steps; step++ {
			for _, stop := range []bool{false, true} {
				d := start()
				d.Tear = true
				if stop {
					d.StopAt = step
				} else {
					d.FailAt = step
				}
				result := durable.ReplaceFile(d, "/f", 0o600, text(newText))
				for _, keepEntries := range []bool{false, true} {
					for _, keepData := range []bool{false, true} {
						data, err := d.Survive(keepEntries, keepData).Read("/f", 1000)
						what := fmt.Sprintf("there %v, step %d, stop %v, kept %v %v", there, step, stop, keepEntries, keepData)
						switch {
						case err != nil:
							require.False(t, there, what)
							require.Error(t, result, what)
						case string(data) == oldText:
							require.True(t, there, what)
							require.Error(t, result, what)
						default:
							require.Equal(t, newText, string(data), what)
						}
					}
				}
			}
		}
	}
}

// folders makes folders with a file each on a disk, in a group that is synced, and returns the disk after a power cut.
func folders(t *testing.T, d *memdisk.Disk, names ...string) *memdisk.Disk {
	t.Helper()
	g, err := durable.Begin(d, "/", 1)
	require.NoError(t, err)
	var entries []durable.Entry
	for _, name := range names {
		require.NoError(t, d.Mkdir(name, 0o700))
		temp, err := durable.Write(d, name, []byte("content of "+name), 0o600)
		require.NoError(t, err)
		entries = append(entries, durable.Entry{Name: name, Files: []string{temp}, Folder: name})
	}
	require.NoError(t, g.Sync(t.Context(), entries))
	for i, name := range names {
		require.NoError(t, d.Move(entries[i].Files[0], name+"/file"))
		entries[i].Files = nil
	}
	require.NoError(t, g.Sync(t.Context(), append(entries, durable.Entry{Folder: "/"})))
	require.NoError(t, g.Close())
	return d.Survive(false, false)
}

func TestAGroupIsDurableOnceItIsSynced(t *testing.T) {
	for name, d := range map[string]*memdisk.Disk{
		"each by itself":                {},
		"as a whole":                    {WholeSync: true},
		"as a whole, one on other disk": {WholeSync: true, Elsewhere: "/b"},
	} {
		t.Run(name, func(t *testing.T) {
			disk := memdisk.New()
			disk.WholeSync, disk.Elsewhere = d.WholeSync, d.Elsewhere
			after := folders(t, disk, "/a", "/b")
			for _, folder := range []string{"/a", "/b"} {
				data, err := after.Read(folder+"/file", 100)
				require.NoError(t, err)
				assert.Equal(t, "content of "+folder, string(data))
			}
		})
	}
}

func TestAGroupReportsWhatItCouldNotSync(t *testing.T) {
	d := memdisk.New()
	require.NoError(t, d.Mkdir("/a", 0o700))
	g, err := durable.Begin(d, "/", 4)
	require.NoError(t, err)
	err = g.Sync(t.Context(), []durable.Entry{{Name: `device "a"`, Files: []string{"/a/missing"}}})
	require.ErrorContains(t, err, `device "a"`)

	d.WholeSync = true
	g, err = durable.Begin(d, "/", 4)
	require.NoError(t, err)
	temp, err := durable.Write(d, "/a", []byte("x"), 0o600)
	require.NoError(t, err)
	d.LoseWrites("/a")
	late, err := durable.Begin(d, "/", 4)
	require.NoError(t, err)
	entries := []durable.Entry{{Name: "a", Files: []string{temp}, Folder: "/a"}}
	require.ErrorIs(t, g.Sync(t.Context(), entries), memdisk.ErrFault)
	require.NoError(t, late.Sync(t.Context(), entries), "begun after the write, it cannot know: so a group is begun before")
}

func TestEachStopsAtTheFirstErrorAndWithTheContext(t *testing.T) {
	const workers, at = 4, 10
	broken := errors.New("broken")
	items := make([]int, 1000)
	ended, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		stop func() error
		want error
	}{
		"an error":    {t.Context(), func() error { return broken }, broken},
		"the context": {ended, func() error { cancel(); return nil }, context.Canceled},
	} {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int64
			err := durable.Each(c.ctx, workers, items, func(int) error {
				switch begun := n.Add(1); {
				case begun == at:
					return c.stop()
				case begun > at:
					time.Sleep(time.Second) // until Each knows of it
				}
				return nil
			})
			require.ErrorIs(t, err, c.want, name)
			assert.Less(t, n.Load(), int64(at+workers), "%s: the others finish what they had begun", name)
		})
	}
	var n atomic.Int64
	require.NoError(t, durable.Each(t.Context(), workers, items, func(int) error { n.Add(1); return nil }))
	assert.EqualValues(t, len(items), n.Load())
	require.NoError(t, durable.Each(ended, workers, []int{}, func(int) error { return broken }), "nothing was left to begin")
}
