package keystore_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

func TestWriteFileNeverReplacesAndReplaceFileDoes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "certificate.pem")
	require.NoError(t, keystore.WriteFile(path, []byte("one"), 0o644))
	err := keystore.WriteFile(path, []byte("two"), 0o644)
	require.ErrorIs(t, err, keystore.ErrExists)
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, path)
	requireFile(t, path, "one")
	require.NoError(t, keystore.ReplaceFile(path, []byte("two"), 0o600))
	requireFile(t, path, "two")
	require.NoError(t, keystore.ReplaceFile(filepath.Join(dir, "new"), nil, 0o600))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 2, "nothing temporary is left")
}

func requireFile(t *testing.T, path, want string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, string(data))
}

func TestWriteFileFailsWithThePathAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "no", "such", "file")
	require.ErrorContains(t, keystore.WriteFile(missing, nil, 0o600), missing)
	require.ErrorIs(t, keystore.WriteFile(missing, nil, 0o600), fs.ErrNotExist)
	require.ErrorContains(t, keystore.ReplaceFile(dir, nil, 0o600), "not a regular file")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestOfManyWritersOfOneFileExactlyOneWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	var wg sync.WaitGroup
	var won atomic.Int64
	for i := range 16 {
		wg.Go(func() {
			err := keystore.WriteFile(path, bytes.Repeat([]byte{byte(i)}, 1000), 0o600)
			if err == nil {
				won.Add(1)
			} else {
				assert.ErrorIs(t, err, keystore.ErrExists)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, int64(1), won.Load())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, bytes.Repeat(data[:1], 1000), data)
}
