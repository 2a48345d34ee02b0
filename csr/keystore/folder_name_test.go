package keystore_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

func named(t testing.TB, dir string, name func(string) string) *keystore.Folder {
	t.Helper()
	f, err := keystore.OpenFolder(dir, &keystore.FolderOptions{Name: name})
	require.NoError(t, err)
	return f
}

func putAll(t testing.TB, f *keystore.Folder, devices ...string) (records []keystore.Record) {
	t.Helper()
	for _, device := range devices {
		rec := record(t, device)
		rec.Run = "run-1"
		require.NoError(t, f.Put(t.Context(), rec))
		records = append(records, rec)
	}
	require.NoError(t, f.Sync(t.Context()))
	return records
}

func list(t testing.TB, f *keystore.Folder) (devices []string) {
	t.Helper()
	for device, err := range f.Devices(t.Context()) {
		require.NoError(t, err)
		devices = append(devices, device)
	}
	slices.Sort(devices)
	return devices
}

// requireSafe makes sure that no two folders are one where the case of letters does not count, and that no name is
// another on Windows.
func requireSafe(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if !e.IsDir() { // the lock
			continue
		}
		names = append(names, e.Name())
		assert.Equal(t, strings.ToLower(e.Name()), e.Name())
		assert.NotContains(t, []string{"nul", "con", "com1", "aux"}, strings.SplitN(e.Name(), ".", 2)[0])
		assert.False(t, strings.HasSuffix(e.Name(), ".") || strings.HasSuffix(e.Name(), " "), "%q", e.Name())
		assert.False(t, strings.ContainsAny(e.Name(), `<>:"/\|?*`), "%q", e.Name())
		for _, c := range []byte(e.Name()) {
			assert.Less(t, c, byte(0x7f), "%q is spelled in one way only", e.Name())
		}
	}
	return names
}

func TestFoldersHaveNamesThatPeopleRead(t *testing.T) {
	dir := t.TempDir()
	f := named(t, dir, asItIs)
	devices := []string{
		"ACME-X1-SN00000", "Dev", "dev", "DEV", "NUL", "Com1", "a:b", "x.", "caf\u00e9", "cafe\u0301", "with space", "dev@1", ".hidden",
		strings.Repeat("L", 128),
	}
	devices = slices.Compact(devices)
	records := putAll(t, f, devices...)
	names := requireSafe(t, dir)
	assert.Len(t, names, len(devices))
	assert.Contains(t, names, "acme-x1-sn00000")
	assert.Equal(t, filepath.Join(dir, "acme-x1-sn00000"), f.Path("ACME-X1-SN00000"))
	assert.Equal(t, []string{filepath.Join(dir, "dev"), filepath.Join(dir, "dev@"), filepath.Join(dir, "dev@7")},
		[]string{f.Path("Dev"), f.Path("dev"), f.Path("DEV")}, "who comes first has the name")

	f = named(t, dir, asItIs) // another process
	for _, rec := range records {
		got, err := f.Get(t.Context(), rec.Device)
		require.NoError(t, err, rec.Device)
		requireSame(t, rec, got)
		assert.Equal(t, "run-1", got.Run)
		require.NoError(t, f.Verify(t.Context(), rec.Device, rec.Request.PublicKeySHA256()))
		require.ErrorIs(t, f.Put(t.Context(), record(t, rec.Device)), keystore.ErrExists, rec.Device)
	}
	slices.Sort(devices)
	assert.Equal(t, devices, list(t, f))
	_, err := f.Get(t.Context(), "dEv")
	require.ErrorIs(t, err, keystore.ErrNotFound, "its folder is another device's")
	require.ErrorIs(t, f.Verify(t.Context(), "dEv", [32]byte{}), keystore.ErrNotFound)
}

// A run may have begun with a program that named folders by FileName.
func TestFoldersWithoutNamesAreFoundByOnesWithNames(t *testing.T) {
	dir := t.TempDir()
	old := putAll(t, open(t, dir), "ACME-1", "Dev", "dev")
	f := named(t, dir, asItIs)
	for _, rec := range old {
		got, err := f.Get(t.Context(), rec.Device)
		require.NoError(t, err)
		requireSame(t, rec, got)
		assert.Equal(t, filepath.Join(dir, keystore.FileName(rec.Device)), f.Path(rec.Device))
		require.ErrorIs(t, f.Put(t.Context(), record(t, rec.Device)), keystore.ErrExists)
	}
	putAll(t, f, "ACME-2")
	assert.Equal(t, filepath.Join(dir, "acme-2"), f.Path("ACME-2"))
	assert.Equal(t, []string{"ACME-1", "ACME-2", "Dev", "dev"}, list(t, f))

	plain := open(t, dir) // and the other way round nothing is mixed up
	_, err := plain.Get(t.Context(), "ACME-2")
	require.ErrorIs(t, err, keystore.ErrNotFound)
	_, err = plain.Get(t.Context(), "acme-2")
	require.ErrorIs(t, err, keystore.ErrName)
	require.ErrorContains(t, err, `is the folder of device "ACME-2"; open the folders with the FolderOptions.Name`)
}

func TestANameThatSeveralDevicesHaveIsUsedOnce(t *testing.T) {
	dir := t.TempDir()
	f := named(t, dir, func(string) string { return "one" })
	records := putAll(t, f, "a", "B", "one")
	assert.Len(t, requireSafe(t, dir), 3)
	for _, rec := range records {
		got, err := f.Get(t.Context(), rec.Device)
		require.NoError(t, err)
		requireSame(t, rec, got)
	}
	dir = t.TempDir()
	f = named(t, dir, func(device string) string { return strings.Repeat(device, 300) })
	putAll(t, f, "Long")
	assert.Equal(t, filepath.Join(dir, keystore.FileName("Long")), f.Path("Long"), "too long for a folder")
	f = named(t, dir, func(string) string { return "" })
	putAll(t, f, "Empty")
	assert.Equal(t, filepath.Join(dir, keystore.FileName("Empty")), f.Path("Empty"))
}

func TestAFolderThatLostItsRequestBlocksItsNameUntilItIsMended(t *testing.T) {
	dir := t.TempDir()
	f := named(t, dir, asItIs)
	putAll(t, f, "ACME-1", "ACME-2")
	require.NoError(t, os.Remove(filepath.Join(dir, "acme-1", keystore.RequestFile)))
	_, err := f.Get(t.Context(), "ACME-1")
	require.ErrorIs(t, err, keystore.ErrDamaged)
	require.ErrorIs(t, f.Put(t.Context(), record(t, "ACME-1")), keystore.ErrDamaged, "no second key beside the one that is there")
	// Copy reports it, and copies the others.
	n, err := keystore.Copy(t.Context(), keystore.Memory(), f)
	require.ErrorIs(t, err, keystore.ErrDamaged)
	assert.Equal(t, 1, n)
}

func TestTheFolderOfADeviceWithoutARecordIsItsOwn(t *testing.T) {
	dir := t.TempDir()
	f := named(t, dir, asItIs)
	seen := map[string]bool{}
	putAll(t, f, "Key")
	for _, device := range []string{"Dev", "dev", "DEV", "key", "KEY"} {
		path := f.Path(device)
		assert.False(t, seen[strings.ToLower(path)] || path == f.Path("Key"), path)
		seen[strings.ToLower(path)] = true
		require.NoError(t, os.Mkdir(path, 0o700))
		assert.Equal(t, path, f.Path(device))
	}
}

func FuzzFolderNames(f *testing.F) {
	f.Add("Dev", "dev")
	f.Add("a:b", "A:B")
	f.Add("nul", "NUL.")
	f.Add("\xff", "dev@")
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == b {
			return
		}
		dir := t.TempDir()
		folder := named(t, dir, asItIs)
		one, two := record(t, "x"), record(t, "y")
		one.Device, two.Device = a, b
		for _, rec := range []keystore.Record{one, two} {
			if rec.Check() != nil {
				return
			}
			require.NoError(t, folder.Put(t.Context(), rec))
		}
		require.NoError(t, folder.Sync(t.Context()))
		names := requireSafe(t, dir)
		require.Len(t, names, 2)
		for _, rec := range []keystore.Record{one, two} {
			got, err := folder.Get(t.Context(), rec.Device)
			require.NoError(t, err)
			requireSame(t, rec, got)
		}
	})
}
