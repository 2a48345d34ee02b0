package keystore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/durable/memdisk"
)

// unfinished lists what was begun in the directory and has no name of its own.
func unfinished(t *testing.T, d durable.Disk) (names []string) {
	t.Helper()
	require.NoError(t, d.List(keysDir, func(name string, folder bool) bool {
		if folder && durable.IsTempName(name) {
			names = append(names, name)
		}
		return true
	}))
	return names
}

func put(t *testing.T, d durable.Disk, device string) *Folder {
	t.Helper()
	f, err := openFolder(d, keysDir, nil)
	require.NoError(t, err)
	require.NoError(t, f.Put(t.Context(), testRecord(t, device)))
	return f
}

func TestWhatAKilledProcessLeftUnfinishedIsRemovedByTheNext(t *testing.T) {
	d := memdisk.New()
	put(t, d, "one")
	left := unfinished(t, d)
	require.Len(t, left, 1)
	d.Die()
	next := put(t, d, "two")
	assert.NotContains(t, unfinished(t, d), left[0])
	require.NoError(t, next.Sync(t.Context()))
	assert.Empty(t, unfinished(t, d))
	_, err := next.Get(t.Context(), "two")
	require.NoError(t, err)
}

func TestWhatALivingProcessHasUnfinishedIsNeverRemoved(t *testing.T) {
	d := memdisk.New()
	put(t, d, "dead")
	d.Die()
	dead := unfinished(t, d)[0]
	// The one that lives was there before the other died, so that it has not removed what that left.
	living, err := openFolder(d, keysDir, nil)
	require.NoError(t, err)
	living.swept = true
	require.NoError(t, living.Put(t.Context(), testRecord(t, "one")))

	other := put(t, d, "two")
	assert.Len(t, unfinished(t, d), 3, "nobody was alone")
	require.NoError(t, living.Sync(t.Context()))
	_, err = other.Get(t.Context(), "one")
	require.NoError(t, err)
	require.NoError(t, other.Sync(t.Context()))

	require.Equal(t, []string{dead}, unfinished(t, d))
	require.NoError(t, other.Put(t.Context(), testRecord(t, "three")))
	assert.NotContains(t, unfinished(t, d), dead, "it is alone now")
	require.NoError(t, other.Sync(t.Context()))
}

func TestWhatAFullDiskLeftUnfinishedIsRemovedByTheNextFolderOfTheSameProcess(t *testing.T) {
	d := memdisk.New()
	full := put(t, d, "one")
	d.FailAt = d.Steps + 1
	require.Error(t, full.Sync(t.Context()))
	left := unfinished(t, d)
	require.Len(t, left, 1)
	next := put(t, d, "one")
	assert.NotContains(t, unfinished(t, d), left[0])
	require.NoError(t, next.Sync(t.Context()))
}

func TestOnlyWhatIsCertainlyUnfinishedIsRemoved(t *testing.T) {
	d := memdisk.New()
	require.NoError(t, durable.MakeFolder(d, keysDir))
	keep := []string{".unfinished-20260101-120000-abcdef12-7.tmp", ".unfinished-mine", durable.TempName()}
	for _, name := range keep[:2] {
		require.NoError(t, d.Mkdir(keysDir+"/"+name, folderMode))
	}
	_, err := d.Create(keysDir+"/"+keep[2], fileMode) // a file that somebody writes at this moment, such as run.json
	require.NoError(t, err)
	require.NoError(t, put(t, d, "one").Sync(t.Context()))
	for _, name := range keep {
		_, err := d.Lstat(keysDir + "/" + name)
		assert.NoError(t, err, name)
	}
}

func TestWithoutLocksNothingIsRemoved(t *testing.T) {
	d := memdisk.Poor{Disk: memdisk.New(), Without: durable.Locks}
	put(t, d, "one")
	next := put(t, d, "two")
	assert.Len(t, unfinished(t, d), 2, "the other process may live")
	require.NoError(t, next.Sync(t.Context()))
}

func TestAPutWaitsForWhoeverRemovesLeftovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := memdisk.New()
		f, err := openFolder(d, keysDir, nil)
		require.NoError(t, err)
		sweeping, err := d.Hold(keysDir+"/"+lockFile, true)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, f.Put(ctx, testRecord(t, "one")), context.DeadlineExceeded)
		time.AfterFunc(time.Second, func() { _ = sweeping.Close() })
		require.NoError(t, f.Put(t.Context(), testRecord(t, "one")))
	})
}

// countedLists counts how often the directory is listed, which takes a second for a million devices.
type countedLists struct {
	*memdisk.Disk
	n int
}

func (c *countedLists) List(path string, yield func(string, bool) bool) error {
	c.n++
	return c.Disk.List(path, yield)
}

func TestTheDirectoryIsListedOnceHoweverOftenKeysAreSynced(t *testing.T) {
	d := &countedLists{Disk: memdisk.New()}
	f := put(t, d, "one")
	for _, device := range []string{"two", "three"} {
		require.NoError(t, f.Sync(t.Context()))
		require.NoError(t, f.Put(t.Context(), testRecord(t, device)))
	}
	assert.Equal(t, 1, d.n)
}
