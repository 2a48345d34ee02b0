package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// movers are the ways in which a system moves to a free name.
var movers = map[string]func(from, to string) error{
	"as this system does": osDisk{}.Move,
	"by a hard link":      func(from, to string) error { return moveByLink(from, to, os.Link) },
	"without hard links": func(from, to string) error {
		return moveByLink(from, to, func(string, string) error { return errors.ErrUnsupported })
	},
}

func TestNothingIsMovedOntoSomethingElse(t *testing.T) {
	for name, move := range movers {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			at := func(name string) string { return filepath.Join(dir, name) }
			for _, name := range []string{"one", "two", "taken"} {
				require.NoError(t, os.WriteFile(at(name), []byte(name), 0o600))
			}
			require.NoError(t, os.Mkdir(at("folder"), 0o700))
			require.NoError(t, os.Mkdir(at("empty"), 0o700))
			require.NoError(t, move(at("one"), at("moved")))
			require.ErrorIs(t, move(at("two"), at("taken")), fs.ErrExist)
			require.ErrorIs(t, move(at("two"), at("empty")), fs.ErrExist)
			require.ErrorIs(t, move(at("folder"), at("empty")), fs.ErrExist, "not even an empty folder")
			require.ErrorIs(t, move(at("missing"), at("new")), fs.ErrNotExist)
			require.NoError(t, move(at("folder"), at("moved-folder")))
			for name, want := range map[string]string{"moved": "one", "two": "two", "taken": "taken"} {
				data, err := os.ReadFile(at(name))
				require.NoError(t, err)
				assert.Equal(t, want, string(data))
			}
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Len(t, entries, 5, "moved, two, taken, empty, moved-folder")
		})
	}
}

func TestOfManyThatMoveToOneNameOneWins(t *testing.T) {
	for _, name := range []string{"as this system does", "by a hard link"} {
		dir := t.TempDir()
		var wg sync.WaitGroup
		var won atomic.Int64
		for i := range 16 {
			from := filepath.Join(dir, string(rune('a'+i)))
			require.NoError(t, os.WriteFile(from, nil, 0o600))
			wg.Go(func() {
				err := movers[name](from, filepath.Join(dir, "to"))
				if err == nil {
					won.Add(1)
				} else {
					assert.ErrorIs(t, err, fs.ErrExist)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 1, won.Load(), name)
	}
}

func TestTheFileSystemOfAFolderIsSyncedAsAWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	whole, err := OS().Whole(dir)
	require.NoError(t, err)
	if whole == nil {
		t.Skip("this file system, or this system, is not one where it is known to be reliable")
	}
	assert.True(t, whole.Covers(dir))
	assert.False(t, whole.Covers("/proc"))
	assert.False(t, whole.Covers(filepath.Join(dir, "missing")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600))
	require.NoError(t, whole.Sync())
	require.NoError(t, whole.Close())
	require.Error(t, whole.Sync(), "closed")
}

func TestAFolderIsMadeWithItsParents(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	for range 2 {
		require.NoError(t, MakeFolder(OS(), deep))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	require.ErrorContains(t, MakeFolder(OS(), filepath.Join(dir, "file")), "not a folder")
	require.Error(t, MakeFolder(OS(), filepath.Join(dir, "file", "below")))
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "gone"), link); err == nil {
		require.ErrorIs(t, MakeFolder(OS(), link), fs.ErrNotExist, "a disk that is not mounted")
		require.NoError(t, os.Mkdir(filepath.Join(dir, "gone"), 0o700))
		require.NoError(t, MakeFolder(OS(), link))
	}
	require.ErrorContains(t, ReplaceFile(OS(), dir, 0o600, nil), "not a regular file")
}

func TestALockIsHeldAloneOrBesideOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	alone, err := OS().Hold(path, true)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no such lock here")
	}
	require.NoError(t, err)
	for _, second := range []bool{false, true} { // in one process, too
		_, err = OS().Hold(path, second)
		require.ErrorIs(t, err, ErrHeld)
	}
	require.NoError(t, alone.Close())
	one, err := OS().Hold(path, false)
	require.NoError(t, err)
	two, err := OS().Hold(path, false)
	require.NoError(t, err)
	require.NoError(t, one.Close())
	_, err = OS().Hold(path, true)
	require.ErrorIs(t, err, ErrHeld, "the other one is still there")
	require.NoError(t, two.Close())
	alone, err = OS().Hold(path, true)
	require.NoError(t, err)
	require.NoError(t, alone.Close())
	_, err = OS().Hold(filepath.Join(path, "below"), true)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrHeld)
}

func TestNamesOfWhatIsUnfinishedAreKnown(t *testing.T) {
	assert.True(t, IsTempName(TempName()))
	for _, name := range []string{"", TempPrefix, TempName() + "0", TempName()[1:], TempPrefix + "20000101-000000-aaaa", "device"} {
		assert.False(t, IsTempName(name), name)
	}
}
