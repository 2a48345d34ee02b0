package keystore_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
)

// TestMain keeps others out of the folders of t.TempDir: a folder that they could write to takes no keys.
func TestMain(m *testing.M) { withUmask(0o022, func() { m.Run() }) }

func record(t testing.TB, device string) keystore.Record {
	t.Helper()
	g := csr.Generator{Subject: func(csr.Device) (csr.Subject, error) { return csr.CommonName("d"), nil }}
	r := g.One(t.Context(), csr.Device{Name: device})
	require.NoError(t, r.Err)
	return keystore.Record{Device: device, Key: r.Key, Request: r.Request}
}

func open(t testing.TB, dir string) *keystore.Folder {
	t.Helper()
	f, err := keystore.OpenFolder(dir, nil)
	require.NoError(t, err)
	return f
}

func requireSame(t testing.TB, want, got keystore.Record) {
	t.Helper()
	require.Equal(t, want.Device, got.Device)
	require.True(t, want.Key.Equal(got.Key))
	require.Equal(t, want.Request.DER(), got.Request.DER())
}

func TestWhatIsPutAndSyncedIsThereInFilesOfItsOwn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "keys")
	f := open(t, dir)
	names := []string{"device-one", "Dev", "dev", "NUL", "a:b", "con.txt", "x."}
	var records []keystore.Record
	for _, name := range names {
		rec := record(t, name)
		require.NoError(t, f.Put(t.Context(), rec))
		records = append(records, rec)
		got, err := f.Get(t.Context(), name)
		require.NoError(t, err, "also before Sync")
		requireSame(t, rec, got)
		_, err = os.Lstat(f.Path(name))
		require.ErrorIs(t, err, fs.ErrNotExist, "nothing has a name before it is durable")
	}
	require.NoError(t, f.Sync(t.Context()))
	again := open(t, dir)
	for i, name := range names {
		got, err := again.Get(t.Context(), name)
		require.NoError(t, err)
		requireSame(t, records[i], got)
		text, err := os.ReadFile(filepath.Join(f.Path(name), "private-key.pem"))
		require.NoError(t, err)
		want, err := records[i].Key.PEM()
		require.NoError(t, err)
		assert.Equal(t, string(want), string(text))
		text, err = os.ReadFile(filepath.Join(f.Path(name), "request.pem"))
		require.NoError(t, err)
		assert.Equal(t, records[i].Request.PEM(), string(text))
	}
	listed := map[string]bool{}
	for device, err := range again.Devices(t.Context()) {
		require.NoError(t, err)
		listed[device] = true
	}
	assert.Len(t, listed, len(names))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, len(names)+1, "nothing is left beside the devices and the lock")
}

func TestModesAreTightWhateverTheUmask(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes; access follows the folder the store is in")
	}
	for _, umask := range []int{0, 0o022, 0o777} {
		dir := filepath.Join(t.TempDir(), "keys")
		withUmask(umask, func() {
			f := open(t, dir)
			require.NoError(t, f.Put(t.Context(), record(t, "d")))
			require.NoError(t, f.Sync(t.Context()))
		})
		for path, want := range map[string]fs.FileMode{"": 0o700, "d": 0o700, "d/private-key.pem": 0o600, "d/request.pem": 0o600} {
			info, err := os.Stat(filepath.Join(dir, path))
			require.NoError(t, err)
			assert.Equal(t, want, info.Mode().Perm(), "%s under umask %#o", path, umask)
		}
	}
}

func TestAFolderThatPeopleMadeIsARecordWithNothingInIt(t *testing.T) {
	f := open(t, t.TempDir())
	require.NoError(t, os.Mkdir(f.Path("empty"), 0o700))
	require.ErrorIs(t, f.Put(t.Context(), record(t, "empty")), keystore.ErrExists)
}

func TestOfTwoProcessesTheFirstToSyncWinsAndTheOtherIsTold(t *testing.T) {
	dir := t.TempDir()
	one, two := open(t, dir), open(t, dir)
	first, second := record(t, "d"), record(t, "d")
	require.NoError(t, one.Put(t.Context(), first))
	require.NoError(t, two.Put(t.Context(), second))
	require.NoError(t, one.Sync(t.Context()))
	err := two.Sync(t.Context())
	require.ErrorIs(t, err, keystore.ErrExists)
	require.ErrorContains(t, err, `"d"`)
	require.ErrorIs(t, two.Put(t.Context(), record(t, "e")), keystore.ErrBroken)
	require.ErrorIs(t, two.Sync(t.Context()), keystore.ErrBroken)
	got, err := open(t, dir).Get(t.Context(), "d")
	require.NoError(t, err)
	requireSame(t, first, got)
}

func TestAnIssuedCertificateStandsInPlaceOfTheRequest(t *testing.T) {
	root := certtest.NewCA(certtest.Key())
	ca, err := csr.NewCA(root.Certificate, root.Key, csr.Profile{Validity: time.Hour})
	require.NoError(t, err)
	g := csr.Generator{CA: ca}
	r := g.One(t.Context(), csr.Device{Name: "d"})
	require.NoError(t, r.Err)
	for _, named := range []bool{false, true} {
		dir := t.TempDir()
		opts := &keystore.FolderOptions{}
		if named {
			opts.Name = func(device string) string { return "serial-" + device }
		}
		f, err := keystore.OpenFolder(dir, opts)
		require.NoError(t, err)
		require.NoError(t, f.Put(t.Context(), keystore.Record{Device: "d", Key: r.Key, CertificatePEM: r.CertificatePEM, Run: "run-1"}))
		require.NoError(t, f.Sync(t.Context()))
		got, err := f.Get(t.Context(), "d")
		require.NoError(t, err)
		assert.Equal(t, r.CertificatePEM, got.CertificatePEM)
		assert.Equal(t, "run-1", got.Run)
		path := filepath.Join(f.Path("d"), keystore.IssuedFile)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.NoFileExists(t, filepath.Join(f.Path("d"), keystore.RequestFile))
		assert.NoFileExists(t, filepath.Join(f.Path("d"), "certificate.pem"), "only an output writes that")

		head, _, found := strings.Cut(string(text), "-----BEGIN")
		require.True(t, found)
		for name, damage := range map[string]string{
			"cut": r.CertificatePEM[:len(r.CertificatePEM)-40], "twice": r.CertificatePEM + certtest.PEM(root.Certificate), "empty": "",
			"another key's": certtest.PEM(root.Certificate),
		} {
			require.NoError(t, os.WriteFile(path, []byte(head+damage), 0o600))
			_, err = f.Get(t.Context(), "d")
			require.ErrorIs(t, err, keystore.ErrDamaged, name)
		}
	}
}

type hardware struct{ crypto.Signer }

func TestAKeyInHardwareIsLeftOutWhenToldTo(t *testing.T) {
	rec := record(t, "d")
	rec.Key = csr.NewPrivateKey(hardware{rec.Key.Signer()})
	f, err := keystore.OpenFolder(t.TempDir(), &keystore.FolderOptions{KeysElsewhere: true})
	require.NoError(t, err)
	require.NoError(t, f.Put(t.Context(), rec))
	soft := record(t, "soft")
	require.NoError(t, f.Put(t.Context(), soft))
	require.NoError(t, f.Sync(t.Context()))
	got, err := f.Get(t.Context(), "d")
	require.NoError(t, err)
	assert.True(t, got.Key.IsZero())
	assert.Equal(t, rec.Request.DER(), got.Request.DER())
	got, err = f.Get(t.Context(), "soft")
	require.NoError(t, err)
	requireSame(t, soft, got)
}

func TestNoneRefusesToLoseAKey(t *testing.T) {
	rec := record(t, "d")
	err := keystore.None().Put(t.Context(), rec)
	require.ErrorIs(t, err, keystore.ErrKeyLost)
	require.ErrorContains(t, err, `"d"`)
	rec.Key = csr.NewPrivateKey(hardware{rec.Key.Signer()})
	require.NoError(t, keystore.None().Put(t.Context(), rec))
	rec.Key = csr.PrivateKey{}
	require.NoError(t, keystore.None().Put(t.Context(), rec))
	require.NoError(t, keystore.None().Sync(t.Context()))
}

func TestDamageIsFoundAndNamed(t *testing.T) {
	other := record(t, "other")
	otherKey, err := other.Key.PEM()
	require.NoError(t, err)
	write := func(file string, data []byte) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, file), data, 0o600) }
	}
	for name, c := range map[string]struct {
		damage func(dir string) error
		want   error
		text   string
	}{
		"no key":                              {func(dir string) error { return os.Remove(filepath.Join(dir, "private-key.pem")) }, keystore.ErrDamaged, "has no private-key.pem"},
		"neither a request nor a certificate": {func(dir string) error { return os.Remove(filepath.Join(dir, "request.pem")) }, keystore.ErrDamaged, "has no request.pem"},
		"an empty key":                        {write("private-key.pem", nil), keystore.ErrDamaged, "private-key.pem"},
		"an empty request":                    {write("request.pem", nil), keystore.ErrDamaged, "request.pem"},
		"half a key":                          {write("private-key.pem", otherKey[:80]), keystore.ErrDamaged, "private-key.pem"},
		"noise for a request":                 {write("request.pem", []byte("hunter2")), keystore.ErrDamaged, "request.pem"},
		"somebody else's key":                 {write("private-key.pem", otherKey), keystore.ErrMismatch, "private-key.pem and request.pem"},
		"a huge key":                          {write("private-key.pem", make([]byte, 1<<20)), keystore.ErrDamaged, "more than"},
		"a key that is a folder": {func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "private-key.pem")), os.Mkdir(filepath.Join(dir, "private-key.pem"), 0o700))
		}, keystore.ErrDamaged, "not a regular file"},
		"a file for a folder": {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }, keystore.ErrDamaged, "not a folder"},
		"a key others may read": {func(dir string) error { return os.Chmod(filepath.Join(dir, "private-key.pem"), 0o640) },
			keystore.ErrPermissions, "chmod 600"},
		"a folder others may write": {func(dir string) error { return os.Chmod(dir, 0o720) }, keystore.ErrPermissions, "chmod 700"},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" && errors.Is(c.want, keystore.ErrPermissions) {
				t.Skip("Windows has no modes; access follows the folder the store is in")
			}
			f := open(t, t.TempDir())
			require.NoError(t, f.Put(t.Context(), record(t, "device-one")))
			require.NoError(t, f.Sync(t.Context()))
			require.NoError(t, c.damage(f.Path("device-one")))
			got, err := f.Get(t.Context(), "device-one")
			require.ErrorIs(t, err, c.want)
			require.NotErrorIs(t, err, keystore.ErrNotFound)
			require.ErrorContains(t, err, c.text)
			require.ErrorContains(t, err, `"device-one"`)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.True(t, got.Key.IsZero())
			assert.ErrorIs(t, f.Put(t.Context(), record(t, "device-one")), keystore.ErrExists, "a damaged record is not replaced either")
		})
	}
}

func TestCancellationStopsASyncBeforeOthersSeeItAndTheListOfDevices(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, keystore.None().Put(ended, record(t, "d")), context.Canceled)
	require.ErrorIs(t, keystore.None().Sync(ended), context.Canceled)
	_, err := keystore.None().Get(ended, "d")
	require.ErrorIs(t, err, context.Canceled)
	dir := t.TempDir()
	f := open(t, dir)
	require.NoError(t, f.Put(t.Context(), record(t, "d")))
	require.ErrorIs(t, f.Sync(ended), context.Canceled)
	_, err = open(t, dir).Get(t.Context(), "d")
	require.ErrorIs(t, err, keystore.ErrNotFound, "another process sees nothing of a Sync that was stopped")
	var last error
	for _, last = range f.Devices(ended) {
	}
	require.ErrorIs(t, last, context.Canceled)
}

func TestPutsSyncsAndGetsMayRunAtTheSameTime(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir)
	var wg sync.WaitGroup
	const writers, each = 4, 25
	for w := range writers {
		records := make([]keystore.Record, each)
		for i := range records {
			records[i] = record(t, fmt.Sprintf("device-%d-%d", w, i))
		}
		wg.Go(func() {
			for i, rec := range records {
				if err := f.Put(t.Context(), rec); err != nil {
					t.Error(err)
				}
				got, err := f.Get(t.Context(), rec.Device)
				if err != nil || !got.Key.Equal(rec.Key) {
					t.Errorf("Get after Put: %v, %v", got, err)
				}
				if i%5 == 4 {
					if err := f.Sync(t.Context()); err != nil {
						t.Error(err)
					}
					if _, err := os.Stat(f.Path(rec.Device)); err != nil {
						t.Errorf("what was put before Sync has its name after it: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for _, err := range open(t, dir).Devices(t.Context()) {
		require.NoError(t, err)
		n++
	}
	assert.Equal(t, writers*each, n)
}

func TestLeftoversOfACrashAreNotSeenAndRemoved(t *testing.T) {
	dir := t.TempDir()
	leftover := filepath.Join(dir, ".unfinished-0123456789abcdef0123", keystore.FileName("d"))
	require.NoError(t, os.MkdirAll(leftover, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(leftover, keystore.KeyFile), []byte("key"), 0o600))

	f := open(t, dir)
	_, err := f.Get(t.Context(), "d")
	require.ErrorIs(t, err, keystore.ErrNotFound)
	for device, err := range f.Devices(t.Context()) {
		t.Errorf("an unfinished record was listed: %q, %v", device, err)
	}
	rec := record(t, "d")
	require.NoError(t, f.Put(t.Context(), rec))
	assert.NoDirExists(t, filepath.Dir(leftover))
	other := open(t, dir)
	require.NoError(t, other.Put(t.Context(), record(t, "e")))
	require.NoError(t, f.Sync(t.Context()), "what somebody is at work on is left alone")
	require.NoError(t, other.Sync(t.Context()))
	got, err := f.Get(t.Context(), "d")
	require.NoError(t, err)
	requireSame(t, rec, got)
	info, err := os.Stat(filepath.Join(dir, ".lock"))
	require.NoError(t, err)
	assert.Zero(t, info.Size())
}

func TestOpenFolderRefusesWhatIsNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, path := range []string{file, filepath.Join(file, "below"), ""} {
		_, err := keystore.OpenFolder(path, nil)
		require.Error(t, err, path)
		require.ErrorContains(t, err, "open key folder")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err == nil {
		_, err = keystore.OpenFolder(link, nil)
		require.NoError(t, err, "a link to a folder is a folder")
	}
	dangling := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(t.TempDir(), "not mounted"), dangling); err == nil {
		for _, path := range []string{dangling, filepath.Join(dangling, "below")} {
			_, err = keystore.OpenFolder(path, nil)
			require.ErrorIs(t, err, fs.ErrNotExist, "a link to nothing is no folder")
			require.ErrorContains(t, err, dangling)
		}
	}
}

func TestAFolderThatOthersCanWriteToTakesNoKeys(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes; access follows the folder the store is in")
	}
	parent := filepath.Join(t.TempDir(), "parent")
	dir := filepath.Join(parent, "devices")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for path, mode := range map[string]fs.FileMode{dir: 0o770, parent: 0o777} {
		require.NoError(t, os.Chmod(path, mode))
		_, err := keystore.OpenFolder(dir, nil)
		require.ErrorIs(t, err, keystore.ErrPermissions)
		require.ErrorContains(t, err, path)
		require.NoError(t, os.Chmod(path, 0o700))
	}
	_, err := keystore.OpenFolder(dir, nil)
	require.NoError(t, err)
}

func TestAPlantedDeviceFolderIsNotRead(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder away")
	}
	f := open(t, t.TempDir())
	rec := record(t, "d")
	require.NoError(t, f.Put(t.Context(), rec))
	require.NoError(t, f.Sync(t.Context()))
	require.NoError(t, os.Chown(f.Path("d"), 12345, -1))
	_, err := f.Get(t.Context(), "d")
	require.ErrorIs(t, err, keystore.ErrPermissions)
	require.ErrorIs(t, f.Verify(t.Context(), "d", rec.Request.PublicKeySHA256()), keystore.ErrPermissions)
}
