package sqlitekeys

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/durable/memdisk"
)

func TestNoKeysAreKeptWhereTheFileSystemLacksWhatTheyNeed(t *testing.T) {
	for _, without := range []durable.Need{durable.Modes, durable.Locks} {
		dir := t.TempDir()
		poor := memdisk.Poor{Disk: durable.OS(), Without: without}
		_, err := Open(t.Context(), filepath.Join(dir, "keys.db"), &Options{disk: poor})
		require.True(t, durable.Lacks(err, without), "%v", err)
		require.NotErrorIs(t, err, ErrInUse)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, entries)
		s, err := Open(t.Context(), filepath.Join(dir, "keys.db"), &Options{disk: poor, NoModes: true})
		if without == durable.Modes {
			require.NoError(t, err)
			require.NoError(t, s.Close())
		} else {
			require.Error(t, err)
		}
	}
}

// bindfs plays the part of WSL's drvfs: chmod succeeds and does nothing. .ci/run runs it with the program installed.
func TestTheDatabaseOnARealFileSystemWithoutModes(t *testing.T) {
	bindfs, err := exec.LookPath("bindfs")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("bindfs is not installed, or this is not root, so there is no file system without modes to try")
	}
	below, dir := t.TempDir(), t.TempDir()
	if out, err := exec.CommandContext(t.Context(), bindfs, "--chmod-ignore", "--perms=0777", below, dir).CombinedOutput(); err != nil {
		t.Skipf("this machine mounts no file system of a program: %s", out)
	}
	defer func() { assert.NoError(t, exec.Command("fusermount", "-u", dir).Run()) }()
	path := filepath.Join(dir, "keys.db")
	_, err = Open(t.Context(), path, nil)
	require.ErrorIs(t, err, keystore.ErrPermissions)
	require.ErrorContains(t, err, "does not keep the modes of files")
	require.ErrorContains(t, err, "set NoModes")
	assert.NotContains(t, err.Error(), "chmod")
	for range 2 { // the second finds the file
		s, err := Open(t.Context(), path, &Options{NoModes: true})
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
}
