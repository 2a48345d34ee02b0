package keystore

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/durable/memdisk"
)

func TestWhatAFileSystemLacksIsFoundBeforeAKeyIsWritten(t *testing.T) {
	for _, c := range []struct {
		name    string
		without durable.Need
		opts    FolderOptions
		want    string
	}{
		{"modes", durable.Modes, FolderOptions{}, "does not keep the modes of files"},
		{"modes, accepted", durable.Modes, FolderOptions{NoModes: true}, ""},
		{"sync of folders", durable.FolderSync, FolderOptions{NoModes: true}, "cannot sync a folder"},
		{"both", durable.Modes | durable.FolderSync, FolderOptions{}, "under WSL in your Linux home"},
		{"locks, which folders do not need", durable.Locks, FolderOptions{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir() // which is there, so that making it does not find out
			f, err := openFolder(memdisk.Poor{Disk: durable.OS(), Without: c.without}, dir, &c.opts)
			require.NoError(t, err)
			rec := testRecord(t, "one")
			err = f.Put(t.Context(), rec)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				assert.NotContains(t, err.Error(), "chmod")
				assert.Equal(t, c.without&durable.Modes != 0 && !c.opts.NoModes, durable.Lacks(err, durable.Modes))
				entries, err := os.ReadDir(dir)
				require.NoError(t, err)
				assert.Empty(t, entries, "nothing was left there")
				return
			}
			require.NoError(t, err)
			require.NoError(t, f.Sync(t.Context()))
			got, err := f.Get(t.Context(), "one")
			require.NoError(t, err)
			assert.True(t, rec.Key.Equal(got.Key))
			require.NoError(t, f.Verify(t.Context(), "one", rec.Request.PublicKeySHA256()))
		})
	}
}

// A folder that was written elsewhere and copied to such a disk.
func TestNoChmodIsAdvisedWhereModesDoNotStick(t *testing.T) {
	dir := t.TempDir()
	good, err := OpenFolder(dir, nil)
	require.NoError(t, err)
	require.NoError(t, good.Put(t.Context(), testRecord(t, "one")))
	require.NoError(t, good.Sync(t.Context()))
	f, err := openFolder(memdisk.Poor{Disk: durable.OS(), Without: durable.Modes}, dir, nil)
	require.NoError(t, err)
	_, err = f.Get(t.Context(), "one")
	require.ErrorIs(t, err, ErrPermissions)
	require.ErrorContains(t, err, "if nobody else can get at it there, set NoModes")
	assert.NotContains(t, err.Error(), "chmod")
}

// bindfs plays the part of WSL's drvfs: chmod succeeds and does nothing. .ci/run runs it with the program installed.
func TestKeysOnARealFileSystemWithoutModes(t *testing.T) {
	bindfs, err := exec.LookPath("bindfs")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("bindfs is not installed, or this is not root, so there is no file system without modes to try")
	}
	below, dir := t.TempDir(), t.TempDir()
	if out, err := exec.CommandContext(t.Context(), bindfs, "--chmod-ignore", "--perms=0777", below, dir).CombinedOutput(); err != nil {
		t.Skipf("this machine mounts no file system of a program: %s", out)
	}
	defer func() { assert.NoError(t, exec.Command("fusermount", "-u", dir).Run()) }()
	for _, place := range []string{dir, filepath.Join(dir, "keys")} {
		_, err := OpenFolder(place, nil)
		require.ErrorIs(t, err, ErrPermissions)
		require.ErrorContains(t, err, "does not keep the modes of files")
		require.ErrorContains(t, err, "set NoModes")
		assert.NotContains(t, err.Error(), "chmod")
	}
	f, err := OpenFolder(filepath.Join(dir, "keys"), &FolderOptions{NoModes: true})
	require.NoError(t, err)
	rec := testRecord(t, "one")
	require.NoError(t, f.Put(t.Context(), rec))
	require.NoError(t, f.Sync(t.Context()))
	got, err := f.Get(t.Context(), "one")
	require.NoError(t, err)
	assert.True(t, rec.Key.Equal(got.Key))
}
