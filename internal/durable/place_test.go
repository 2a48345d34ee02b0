package durable

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPlaceThatOthersCanWriteToIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" {
		t.Skip("access follows the folder there")
	}
	parent := filepath.Join(t.TempDir(), "parent")
	dir, link := filepath.Join(parent, "dir"), filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.Symlink(dir, link))
	chmod := func(path string, mode os.FileMode) { require.NoError(t, os.Chmod(path, mode)) }
	for _, path := range []string{dir, link} {
		require.NoError(t, CheckPlace(path))
		for _, mode := range []os.FileMode{0o720, 0o702} {
			chmod(dir, mode)
			require.ErrorContains(t, CheckPlace(path), "chmod go-w")
		}
		chmod(dir, 0o755)
		require.NoError(t, CheckPlace(path))
		chmod(parent, 0o777)
		require.ErrorContains(t, CheckPlace(path), "chmod o-w")
		require.ErrorContains(t, CheckPlace(filepath.Join(parent, "not there yet")), "chmod o-w")
		chmod(parent, 0o777|os.ModeSticky)
		require.NoError(t, CheckPlace(path))
		chmod(parent, 0o700)
	}
}

func TestAPlaceOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	parent := filepath.Join(t.TempDir(), "parent")
	dir := filepath.Join(parent, "dir")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.Chown(dir, 12345, -1))
	require.ErrorContains(t, CheckPlace(dir), "belongs to user 12345")
	require.NoError(t, os.Chown(dir, 0, -1))
	require.NoError(t, os.Chown(parent, 12345, -1))
	require.ErrorContains(t, CheckPlace(dir), "belongs to user 12345")
}
