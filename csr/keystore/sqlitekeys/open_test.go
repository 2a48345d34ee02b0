package sqlitekeys

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
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
)

func mustOpen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// plain opens a file as sqlite3 does.
func plain(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func mustExec(t *testing.T, path, query string) {
	t.Helper()
	db := plain(t, path)
	_, err := db.ExecContext(t.Context(), query)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

// stored makes a file with the records of some devices.
func stored(t *testing.T, devices ...string) (path string, records []keystore.Record) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "keys.db")
	s := mustOpen(t, path)
	for _, device := range devices {
		rec := record(t, device)
		require.NoError(t, s.Put(t.Context(), rec))
		records = append(records, rec)
	}
	require.NoError(t, s.Close())
	return path, records
}

func TestTheColumnsAreWhatSqlite3CanRead(t *testing.T) {
	path, records := stored(t, "device-one")
	var device, key, request, digest, created string
	require.NoError(t, plain(t, path).QueryRowContext(t.Context(),
		"SELECT device, private_key_pem, csr_pem, public_key_sha256, created FROM keys").Scan(&device, &key, &request, &digest, &created))
	want, err := records[0].Key.PEM()
	require.NoError(t, err)
	sum := records[0].Request.PublicKeySHA256()
	assert.Equal(t, "device-one", device)
	assert.Equal(t, string(want), key)
	assert.Equal(t, records[0].Request.PEM(), request)
	assert.Equal(t, hex.EncodeToString(sum[:]), digest)
	at, err := time.Parse(time.RFC3339Nano, created)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), at, time.Minute)
}

func TestASecondWriterIsToldWhoTheFirstIsAndReadersAreWelcome(t *testing.T) {
	path, records := stored(t, "one")
	first := mustOpen(t, path)
	_, err := Open(t.Context(), path, nil)
	require.ErrorIs(t, err, ErrInUse)
	e, ok := errors.AsType[*InUseError](err)
	require.True(t, ok)
	assert.Equal(t, os.Getpid(), e.Holder.PID)
	assert.ErrorContains(t, err, fmt.Sprintf("key database %s: the keys are in use: process %d", path, os.Getpid()))

	r, err := OpenReadOnly(t.Context(), path, nil)
	require.NoError(t, err)
	defer func() { assert.NoError(t, r.Close()) }()
	got, err := r.Get(t.Context(), "one")
	require.NoError(t, err)
	requireSame(t, records[0], got)
	two := record(t, "two")
	require.ErrorIs(t, r.Put(t.Context(), two), ErrReadOnly)
	require.ErrorIs(t, r.Sync(t.Context()), ErrReadOnly)
	require.NoError(t, first.Put(t.Context(), two))
	_, err = r.Get(t.Context(), "two")
	require.ErrorIs(t, err, keystore.ErrNotFound, "not synced")
	require.NoError(t, first.Sync(t.Context()))
	got, err = r.Get(t.Context(), "two")
	require.NoError(t, err)
	requireSame(t, two, got)
}

// holderPath names the file that TestHoldKeys shall hold, in the environment of a process of its own.
const holderPath = "SQLITEKEYS_TEST_HOLD"

// TestHoldKeys is the other process of the test below: it syncs one record, puts a second one, and waits to be killed.
func TestHoldKeys(t *testing.T) {
	path := os.Getenv(holderPath)
	if path == "" {
		t.Skip("only as a process of TestTheRightToWriteEndsWithItsProcess")
	}
	s := mustOpen(t, path)
	require.NoError(t, s.Put(t.Context(), record(t, "synced")))
	require.NoError(t, s.Sync(t.Context()))
	require.NoError(t, s.Put(t.Context(), record(t, "not synced")))
	fmt.Println("holding")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

func TestTheRightToWriteEndsWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	holder := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHoldKeys$")
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

	_, err = Open(t.Context(), path, nil)
	e, ok := errors.AsType[*InUseError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, holder.Process.Pid, e.Holder.PID)
	require.NoError(t, holder.Process.Kill())
	require.Error(t, holder.Wait())

	s := mustOpen(t, path)
	_, err = s.Get(t.Context(), "synced")
	require.NoError(t, err)
	_, err = s.Get(t.Context(), "not synced")
	require.ErrorIs(t, err, keystore.ErrNotFound)
}

func TestKeysAreForTheirOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	path := filepath.Join(t.TempDir(), "deep", "run", "keys.db")
	s := mustOpen(t, path)
	require.NoError(t, s.Put(t.Context(), record(t, "one")))
	require.NoError(t, s.Sync(t.Context()))
	for _, folder := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		info, err := os.Stat(folder)
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm(), folder)
	}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(path + suffix)
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o600), info.Mode(), suffix)
	}
	require.NoError(t, s.Close())
	require.NoError(t, os.Chmod(path, 0o640))
	for _, open := range []func(context.Context, string, *Options) (*Store, error){Open, OpenReadOnly} {
		_, err := open(t.Context(), path, nil)
		require.ErrorIs(t, err, keystore.ErrPermissions)
		require.ErrorContains(t, err, "chmod 600")
		require.ErrorContains(t, err, path)
	}
}

func TestWhatIsNoFileOfKeysIsRefusedAndLeftAsItIs(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, path string)
		want  error
	}{
		"a text file": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("ThingName\n", 99)), 0o600))
		}, ErrNotKeys},
		"another program's database": {func(t *testing.T, path string) {
			mustExec(t, path, "PRAGMA application_id = 5")
		}, ErrNotKeys},
		"a newer version": {func(t *testing.T, path string) { mustExec(t, path, "PRAGMA user_version = 9") }, ErrNotKeys},
		"another column":  {func(t *testing.T, path string) { mustExec(t, path, "ALTER TABLE keys ADD COLUMN x TEXT") }, keystore.ErrDamaged},
		"a cut file": {func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, info.Size()/2))
		}, keystore.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := stored(t, "one", "two", "three")
			c.spoil(t, path)
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			_, err = Open(t.Context(), path, nil)
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, path)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, before, after, "the file was changed")
		})
	}
}

func TestADamagedRecordIsNamedCostsNoOtherAndShowsNoKey(t *testing.T) {
	for name, damage := range map[string]string{
		"a byte of the key":    "UPDATE keys SET private_key_pem = replace(private_key_pem, 'A', 'B') WHERE device = 'two'",
		"another device's key": "UPDATE keys SET private_key_pem = (SELECT private_key_pem FROM keys WHERE device = 'one') WHERE device = 'two'",
		"an empty key":         "UPDATE keys SET private_key_pem = '' WHERE device = 'two'",
		"a cut request":        "UPDATE keys SET csr_pem = substr(csr_pem, 1, 200) WHERE device = 'two'",
		"a key in its place":   "UPDATE keys SET csr_pem = private_key_pem WHERE device = 'two'",
		"another digest":       "UPDATE keys SET public_key_sha256 = '00' WHERE device = 'two'",
	} {
		t.Run(name, func(t *testing.T) {
			path, records := stored(t, "one", "two", "three")
			mustExec(t, path, damage)
			s := mustOpen(t, path)
			_, err := s.Get(t.Context(), "two")
			require.ErrorIs(t, err, keystore.ErrDamaged)
			require.NotErrorIs(t, err, keystore.ErrNotFound)
			require.ErrorContains(t, err, `device "two"`)
			require.ErrorContains(t, err, path)
			folder, openErr := keystore.OpenFolder(filepath.Join(t.TempDir(), "devices"), nil)
			require.NoError(t, openErr)
			n, copyErr := keystore.Copy(t.Context(), folder, s)
			require.ErrorIs(t, copyErr, keystore.ErrDamaged, "what is missing is told at the end")
			require.Equal(t, 2, n)
			for _, rec := range []keystore.Record{records[0], records[2]} {
				got, err := folder.Get(t.Context(), rec.Device)
				require.NoError(t, err)
				requireSame(t, rec, got)
			}
			secret, pemErr := records[1].Key.PEM()
			require.NoError(t, pemErr)
			for _, err := range []error{err, copyErr} {
				for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
					assert.NotContains(t, text, "PRIVATE KEY-----")
					assert.NotContains(t, text, strings.Split(string(secret), "\n")[1][20:40])
				}
			}
			require.ErrorIs(t, s.Put(t.Context(), record(t, "two")), keystore.ErrExists, "a damaged key is not replaced")
		})
	}
}

func TestVerifyTellsTheDevicesKeyFromEveryOther(t *testing.T) {
	for name, c := range map[string]struct {
		change string
		want   error
	}{
		"a byte of the key":                 {"private_key_pem = replace(private_key_pem, 'A', 'B')", keystore.ErrDamaged},
		"an empty key":                      {"private_key_pem = ''", keystore.ErrDamaged},
		"another device's key":              {"private_key_pem = (SELECT private_key_pem FROM keys WHERE device = 'one')", keystore.ErrOtherKey},
		"another device's key and checksum": {"(private_key_pem, checksum) = (SELECT private_key_pem, checksum FROM keys WHERE device = 'one')", keystore.ErrOtherKey},
		"another device's record": {"(private_key_pem, public_key_sha256, checksum) = " +
			"(SELECT private_key_pem, public_key_sha256, checksum FROM keys WHERE device = 'one')", keystore.ErrOtherKey},
		"no checksum":    {"checksum = NULL", nil},
		"another digest": {"public_key_sha256 = '00'", nil},
	} {
		t.Run(name, func(t *testing.T) {
			path, records := stored(t, "one", "two")
			mustExec(t, path, "UPDATE keys SET "+c.change+" WHERE device = 'two'")
			s := mustOpen(t, path)
			digest, err := records[1].PublicKeySHA256()
			require.NoError(t, err)
			require.ErrorIs(t, s.Verify(t.Context(), "two", digest), c.want)
			digest[0]++
			require.Error(t, s.Verify(t.Context(), "two", digest))
		})
	}
}

func TestAStoreThatIsPrintedShowsNoKey(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "keys.db"))
	rec := record(t, "one")
	require.NoError(t, s.Put(t.Context(), rec))
	secret, err := rec.Key.PEM()
	require.NoError(t, err)
	scalar, err := csr.ParsePrivateKey(secret)
	require.NoError(t, err)
	for _, text := range []string{fmt.Sprintf("%v", s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s.held)} {
		assert.NotContains(t, text, "PRIVATE KEY-----")
		assert.NotContains(t, text, fmt.Sprint(scalar.Signer())[20:60])
	}
}

func TestANameThatIsNotUTF8IsRefused(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "keys.db"))
	rec := record(t, "d")
	rec.Device = "caf\xe9"
	require.ErrorIs(t, s.Put(t.Context(), rec), keystore.ErrName)
	_, err := s.Get(t.Context(), rec.Device)
	require.ErrorIs(t, err, keystore.ErrNotFound)
}

func TestOfManyPutsOfOneDeviceOneIsKept(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "keys.db"))
	for round := range 20 {
		device := fmt.Sprintf("device-%d", round)
		var wg sync.WaitGroup
		var mu sync.Mutex
		kept := 0
		for range 4 {
			rec := record(t, device)
			wg.Go(func() {
				err := s.Put(t.Context(), rec)
				if syncErr := s.Sync(t.Context()); syncErr != nil {
					t.Error(syncErr)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					kept++
				} else {
					assert.ErrorIs(t, err, keystore.ErrExists)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, kept)
	}
}

func TestADeviceThatIsPutWhileTheFileIsAskedForItIsNotTakenForAbsent(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "keys.db"))
	for device, before := range map[string]func(context.Context) error{
		"put":    func(context.Context) error { return nil },
		"synced": s.Sync,
	} {
		_, err := s.Get(t.Context(), device)
		require.ErrorIs(t, err, keystore.ErrNotFound)
		asked := s.commits
		require.NoError(t, s.Put(t.Context(), record(t, device)))
		require.NoError(t, before(t.Context()))
		s.noteAbsent(device, asked) // the answer comes late
		require.NoError(t, s.Sync(t.Context()))
		_, err = s.Get(t.Context(), device)
		require.NoError(t, err)
		require.ErrorIs(t, s.Put(t.Context(), record(t, device)), keystore.ErrExists)
	}
}

func TestATransactionOfAnotherProgramOnlyDelaysASync(t *testing.T) {
	path, _ := stored(t, "one")
	s := mustOpen(t, path)
	rec := record(t, "two")
	require.NoError(t, s.Put(t.Context(), rec))
	conn, err := plain(t, path).Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE") // somebody typed this into sqlite3
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Sync(ctx), context.DeadlineExceeded)
	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, s.Sync(t.Context()))
	require.NoError(t, s.Close())
	got, err := mustOpen(t, path).Get(t.Context(), "two")
	require.NoError(t, err)
	requireSame(t, rec, got)
}

func TestDevicesAreListedInTheOrderTheyWerePut(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "keys.db"))
	rec := record(t, "d")
	var want []string
	for i := range pageRows + 3 {
		rec.Device = fmt.Sprintf("device-%d", (i*7919)%10007)
		require.NoError(t, s.Put(t.Context(), rec))
		want = append(want, rec.Device)
		if i == 5 {
			require.NoError(t, s.Sync(t.Context()))
		}
	}
	var got []string
	for device, err := range s.Devices(t.Context()) {
		require.NoError(t, err)
		got = append(got, device)
	}
	require.Equal(t, want, got)
}

func TestRecordsThatWaitForASyncAreBoundedAndKeptAllTheSame(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "keys.db"))
	rec := record(t, "d")
	for i := range maxHeld + 10 {
		rec.Device = fmt.Sprintf("device-%d", i)
		require.NoError(t, s.Put(t.Context(), rec))
	}
	assert.Len(t, s.held, 10)
	got, err := s.Get(t.Context(), "device-0")
	require.NoError(t, err)
	assert.True(t, got.Key.Equal(rec.Key))
	require.ErrorIs(t, s.Put(t.Context(), keystore.Record{Device: "device-0", Key: rec.Key, Request: rec.Request}), keystore.ErrExists)
}

func TestClosedKeysReportIt(t *testing.T) {
	path, _ := stored(t, "one")
	s := mustOpen(t, path)
	require.NoError(t, s.Put(t.Context(), record(t, "two")))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	for _, err := range []error{s.Put(t.Context(), record(t, "three")), s.Sync(t.Context())} {
		require.ErrorIs(t, err, fs.ErrClosed)
	}
	_, err := s.Get(t.Context(), "one")
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = mustOpen(t, path).Get(t.Context(), "two")
	require.NoError(t, err, "Close keeps what was put")
}
