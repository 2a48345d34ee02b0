package keystore_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

// holderPath names the archive that TestHoldAnArchive shall hold, in the environment of a process of its own.
const holderPath = "KEYSTORE_TEST_HOLD"

// TestHoldAnArchive is the other process of the test below: it syncs one record, puts a second one, and waits to be killed.
func TestHoldAnArchive(t *testing.T) {
	path := os.Getenv(holderPath)
	if path == "" {
		t.Skip("only as a process of TestTheLockOfAnArchiveEndsWithItsProcess")
	}
	a, err := keystore.OpenArchive(path, nil)
	require.NoError(t, err)
	require.NoError(t, a.Put(t.Context(), record(t, "synced")))
	require.NoError(t, a.Sync(t.Context()))
	require.NoError(t, a.Put(t.Context(), record(t, "not synced")))
	fmt.Println("holding")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

func TestTheLockOfAnArchiveEndsWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.keys")
	holder := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHoldAnArchive$")
	holder.Env = append(os.Environ(), holderPath+"="+path)
	in, err := holder.StdinPipe()
	require.NoError(t, err)
	defer func() { _ = in.Close() }()
	out, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "holding\n", line)

	_, err = keystore.OpenArchive(path, nil)
	require.ErrorIs(t, err, keystore.ErrInUse)
	require.NoError(t, holder.Process.Kill())
	require.Error(t, holder.Wait())

	a := openArchive(t, path)
	_, err = a.Get(t.Context(), "synced")
	require.NoError(t, err)
	_, err = a.Get(t.Context(), "not synced")
	require.ErrorIs(t, err, keystore.ErrNotFound)
}
