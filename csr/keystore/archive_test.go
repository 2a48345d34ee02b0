package keystore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

func openArchive(t testing.TB, path string) *keystore.Archive {
	t.Helper()
	a, err := keystore.OpenArchive(path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func TestAnArchiveIsClosedToOtherUsersWhateverTheUmask(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes; access follows the folder the archive is in")
	}
	for _, umask := range []int{0, 0o022, 0o777} {
		path := filepath.Join(t.TempDir(), "deep", "keys", "fleet.keys")
		withUmask(umask, func() {
			a := openArchive(t, path)
			require.NoError(t, a.Put(t.Context(), record(t, "d")))
			require.NoError(t, a.Close())
		})
		for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700, filepath.Dir(filepath.Dir(path)): 0o700} {
			info, err := os.Stat(p)
			require.NoError(t, err)
			assert.Equal(t, want, info.Mode().Perm(), "%s under umask %#o", p, umask)
		}
		require.NoError(t, os.Chmod(path, 0o640))
		for _, opts := range []*keystore.ArchiveOptions{nil, {ReadOnly: true}} {
			_, err := keystore.OpenArchive(path, opts)
			require.ErrorIs(t, err, keystore.ErrPermissions)
			require.ErrorContains(t, err, "chmod 600")
		}
	}
}

func TestAnArchiveHasOneWriterAtATimeAndReadersBesideIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.keys")
	a := openArchive(t, path)
	first := record(t, "one")
	require.NoError(t, a.Put(t.Context(), first))
	require.NoError(t, a.Sync(t.Context()))
	_, err := keystore.OpenArchive(path, nil)
	require.ErrorIs(t, err, keystore.ErrInUse)
	require.ErrorContains(t, err, path)

	r, err := keystore.OpenArchive(path, &keystore.ArchiveOptions{ReadOnly: true})
	require.NoError(t, err)
	got, err := r.Get(t.Context(), "one")
	require.NoError(t, err)
	requireSame(t, first, got)
	require.ErrorIs(t, r.Put(t.Context(), record(t, "two")), keystore.ErrReadOnly)
	require.ErrorIs(t, r.Sync(t.Context()), keystore.ErrReadOnly)
	require.NoError(t, r.Close())

	require.NoError(t, a.Put(t.Context(), record(t, "two")), "a reader that closes does not disturb the writer")
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	for _, err := range []error{a.Put(t.Context(), record(t, "three")), a.Sync(t.Context())} {
		require.ErrorIs(t, err, fs.ErrClosed)
	}
	_, err = a.Get(t.Context(), "one")
	require.ErrorIs(t, err, fs.ErrClosed)

	a = openArchive(t, path)
	_, err = a.Get(t.Context(), "two")
	require.NoError(t, err, "Close keeps what was put")
}

func TestOpenArchiveLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"short": "x", "text": strings.Repeat("hello ", 100), "binary": strings.Repeat("\x00\xf7key", 100)} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		for _, opts := range []*keystore.ArchiveOptions{nil, {ReadOnly: true}} {
			_, err := keystore.OpenArchive(path, opts)
			require.ErrorIs(t, err, keystore.ErrNotArchive)
			require.ErrorContains(t, err, path)
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(got))
	}
	_, err := keystore.OpenArchive(dir, nil)
	require.ErrorIs(t, err, keystore.ErrNotArchive)
	_, err = keystore.OpenArchive("", nil)
	require.Error(t, err)
	_, err = keystore.OpenArchive(filepath.Join(dir, "none"), &keystore.ArchiveOptions{ReadOnly: true})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = os.Stat(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist, "reading makes nothing")

	newer := filepath.Join(dir, "newer")
	require.NoError(t, openArchive(t, newer).Close())
	data, err := os.ReadFile(newer)
	require.NoError(t, err)
	binary.LittleEndian.PutUint32(data[16:], 2)
	binary.LittleEndian.PutUint32(data[28:], crc32.Checksum(data[:28], crc32.MakeTable(crc32.Castagnoli)))
	require.NoError(t, os.WriteFile(newer, data, 0o600))
	_, err = keystore.OpenArchive(newer, nil)
	require.ErrorIs(t, err, keystore.ErrNotArchive)
	require.ErrorContains(t, err, "use a newer program")
}

func TestDamageInTheMiddleOfAnArchiveIsNamedAndCostsNoOtherRecord(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fleet.keys")
	a := openArchive(t, path)
	var records []keystore.Record
	for i := range 7 {
		records = append(records, record(t, fmt.Sprintf("device-%d", i)))
		require.NoError(t, a.Put(t.Context(), records[i]))
		if i == 3 {
			require.NoError(t, a.Sync(t.Context()))
		}
	}
	require.NoError(t, a.Sync(t.Context())) // and no Close: marks alone tell what was durable
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	at := func(i int) int { // of the frame's name
		return bytes.Index(content, fmt.Appendf(nil, "device-%d", i))
	}
	for name, c := range map[string]struct {
		damage  func(b []byte) []byte
		lost    []int
		offset  int
		device  string
		after   string
		unknown bool // whose record it was
	}{
		"a byte of a key":        {func(b []byte) []byte { b[at(2)+40] ^= 1; return b }, []int{2}, at(2) - 24, "device-2", "", false},
		"a byte of the last key": {func(b []byte) []byte { b[at(6)+40] ^= 1; return b }, []int{6}, at(6) - 24, "device-6", "", false},
		"a byte of a name":       {func(b []byte) []byte { b[at(2)] ^= 1; return b }, []int{2}, at(2) - 24, "", "device-1", true},
		"a length":               {func(b []byte) []byte { b[at(2)-13] ^= 0x40; return b }, []int{2}, at(2) - 24, "", "device-1", true},
		"two records and a mark": {func(b []byte) []byte { clear(b[at(3)+5 : at(4)+5]); return b }, []int{3, 4}, at(3) - 24, "", "device-2", true},
		"a piece cut out": {func(b []byte) []byte { return append(b[:at(5)+50], b[at(5)+59:]...) },
			[]int{5, 6}, at(6) - 24 - 9, "", "device-4", true},
		"a key and behind it a name": {func(b []byte) []byte { b[at(1)+40] ^= 1; b[at(3)] ^= 1; return b },
			[]int{1, 3}, at(1) - 24, "device-1", "", true},
		"the header": {func(b []byte) []byte { b[3] ^= 1; return b }, nil, 0, "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "fleet.keys")
			damaged := c.damage(bytes.Clone(content))
			require.NoError(t, os.WriteFile(path, damaged, 0o600))
			_, err := keystore.OpenArchive(path, nil)
			require.ErrorIs(t, err, keystore.ErrDamaged)
			d, ok := errors.AsType[*keystore.DamageError](err)
			require.True(t, ok)
			assert.Equal(t, path, d.Path)
			assert.EqualValues(t, c.offset, d.Offset)
			assert.Equal(t, c.device, d.Device)
			assert.Equal(t, c.after, d.After)
			assert.ErrorContains(t, err, fmt.Sprintf("at byte %d", c.offset))
			assert.ErrorContains(t, err, c.device+c.after)
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, damaged, got, "nothing is changed in a damaged archive")

			r, err := keystore.OpenArchive(path, &keystore.ArchiveOptions{ReadOnly: true})
			require.NoError(t, err)
			defer func() { require.NoError(t, r.Close()) }()
			require.NotEmpty(t, r.Damage())
			fresh := openArchive(t, path+".new")
			n, err := r.CopyTo(t.Context(), fresh)
			require.ErrorIs(t, err, keystore.ErrDamaged, "what is missing is told at the end")
			require.Equal(t, len(records)-len(c.lost), n)
			lost := map[int]bool{}
			for _, i := range c.lost {
				lost[i] = true
			}
			for i, rec := range records {
				for _, s := range []keystore.Store{r, fresh} {
					got, err := s.Get(t.Context(), rec.Device)
					if !lost[i] {
						require.NoError(t, err)
						requireSame(t, rec, got)
					} else if s == r {
						require.ErrorIs(t, err, keystore.ErrDamaged)
						require.NotErrorIs(t, err, keystore.ErrNotFound)
						require.ErrorContains(t, err, rec.Device)
					}
				}
			}
			_, err = r.Get(t.Context(), "never there")
			require.Equal(t, c.unknown, errors.Is(err, keystore.ErrDamaged), "nobody may take it that there is no key where there may be one")
			require.Equal(t, !c.unknown, errors.Is(err, keystore.ErrNotFound))
			if d, ok := errors.AsType[*keystore.DamageError](err); ok {
				require.Empty(t, d.Device, "damage that is another device's is not what hides it")
			}
		})
	}
}

func TestErrorsAboutAnArchiveShowNoKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.keys")
	a := openArchive(t, path)
	rec := record(t, "d")
	require.NoError(t, a.Put(t.Context(), rec))
	require.NoError(t, a.Close())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	key := bytes.Index(content, []byte{0x30, 0x81, 0x87}) // the PKCS #8 of a P-256 key
	require.Positive(t, key)
	secret := bytes.Clone(content[key+36 : key+36+32])
	content[key+40] ^= 1
	require.NoError(t, os.WriteFile(path, content, 0o600))
	_, err = keystore.OpenArchive(path, nil)
	require.ErrorIs(t, err, keystore.ErrDamaged)
	a, readErr := keystore.OpenArchive(path, &keystore.ArchiveOptions{ReadOnly: true})
	require.NoError(t, readErr)
	defer func() { _ = a.Close() }()
	_, getErr := a.Get(t.Context(), "d")
	_, exportErr := a.Export(t.Context(), t.TempDir())
	for _, err := range []error{err, getErr, exportErr} {
		for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
			assert.NotContains(t, text, string(secret))
			assert.NotContains(t, text, fmt.Sprintf("%x", secret[8:16]))
			assert.NotContains(t, text, "PRIVATE KEY")
		}
	}
}

func TestExportWritesFilesThatFolderReadsAndCanBeRepeated(t *testing.T) {
	base := t.TempDir()
	a := openArchive(t, filepath.Join(base, "fleet.keys"))
	var names []string
	var records []keystore.Record
	for _, name := range []string{"zeta", "Dev", "dev", "a:b", "keyless"} {
		rec := record(t, name)
		if name == "keyless" {
			rec.Key = csr.PrivateKey{}
		}
		records = append(records, rec)
		require.NoError(t, a.Put(t.Context(), rec))
		if name == "Dev" {
			require.NoError(t, a.Sync(t.Context()))
		}
	}
	for device, err := range a.Devices(t.Context()) {
		require.NoError(t, err)
		names = append(names, device)
	}
	require.Equal(t, []string{"zeta", "Dev", "dev", "a:b", "keyless"}, names, "in the order they were put")
	dir := filepath.Join(base, "out")
	require.NoError(t, a.ExportDevice(t.Context(), dir, "Dev"))
	for range 2 {
		n, err := a.Export(t.Context(), dir)
		require.NoError(t, err)
		require.Equal(t, len(records), n)
		require.NoError(t, a.ExportDevice(t.Context(), dir, "Dev"))
	}
	f := open(t, dir)
	for _, rec := range records {
		got, err := f.Get(t.Context(), rec.Device)
		require.NoError(t, err)
		requireSame(t, rec, got)
	}
	text, err := os.ReadFile(filepath.Join(f.Path("zeta"), keystore.KeyFile))
	require.NoError(t, err)
	want, err := records[0].Key.PEM()
	require.NoError(t, err)
	require.Equal(t, string(want), string(text))

	other := open(t, filepath.Join(base, "other"))
	require.NoError(t, other.Put(t.Context(), record(t, "dev")))
	require.NoError(t, other.Sync(t.Context()))
	_, err = a.Export(t.Context(), filepath.Join(base, "other"))
	require.ErrorIs(t, err, keystore.ErrExists)
	require.ErrorContains(t, err, other.Path("dev"))
	require.ErrorIs(t, a.ExportDevice(t.Context(), dir, "nobody"), keystore.ErrNotFound)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.Export(ended, dir)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAnArchiveKeepsKeysOfEveryKind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.keys")
	a, err := keystore.OpenArchive(path, &keystore.ArchiveOptions{KeysElsewhere: true})
	require.NoError(t, err)
	var records []keystore.Record
	for _, alg := range csr.Algorithms() {
		if alg == "rsa3072" || alg == "rsa4096" {
			continue // they take seconds to make, and differ from rsa2048 in length alone
		}
		g := csr.Generator{Keys: csr.Software(alg)}
		r := g.One(t.Context(), csr.Device{Name: string(alg)})
		require.NoError(t, r.Err)
		records = append(records, keystore.Record{Device: string(alg), Key: r.Key, Request: r.Request})
	}
	for _, rec := range records {
		require.NoError(t, a.Put(t.Context(), rec))
	}
	chip := record(t, "chip")
	chip.Key = csr.NewPrivateKey(hardware{chip.Key.Signer()})
	require.NoError(t, a.Put(t.Context(), chip))
	require.NoError(t, a.Close())
	again := openArchive(t, path)
	for _, rec := range records {
		got, err := again.Get(t.Context(), rec.Device)
		require.NoError(t, err)
		requireSame(t, rec, got)
	}
	got, err := again.Get(t.Context(), "chip")
	require.NoError(t, err)
	require.True(t, got.Key.IsZero())
	require.Equal(t, chip.Request.DER(), got.Request.DER())
}
