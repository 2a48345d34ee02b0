package sqliteledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// fleet makes a ledger with a number of changes in it, and returns its path.
func fleet(t *testing.T, changes int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fleet.db")
	l := mustOpen(t, path)
	for i := range changes {
		require.NoError(t, l.Apply(t.Context(), step(i)))
	}
	require.NoError(t, l.Close())
	return path
}

func mustOpen(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	return l
}

// plain opens a file as sqlite3 does.
func plain(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path)}).String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func mustExec(t *testing.T, path string, queries ...string) {
	t.Helper()
	db := plain(t, path)
	for _, q := range queries {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err, q)
	}
	require.NoError(t, db.Close())
}

func TestASecondWriterIsToldAtOnceWhoTheFirstIs(t *testing.T) {
	path := fleet(t, 3)
	before := time.Now()
	first := mustOpen(t, path)
	asked := time.Now()
	_, err := Open(t.Context(), path, nil)
	require.ErrorIs(t, err, ErrInUse)
	assert.Less(t, time.Since(asked), 5*time.Second)
	e, ok := errors.AsType[*InUseError](err)
	require.True(t, ok)
	assert.Equal(t, path, e.Path)
	assert.Equal(t, os.Getpid(), e.Holder.PID)
	assert.Equal(t, filepath.Base(os.Args[0]), e.Holder.Program)
	host, _ := os.Hostname()
	assert.Equal(t, host, e.Holder.Host)
	assert.WithinRange(t, e.Holder.Since, before, time.Now())
	assert.Contains(t, err.Error(), fmt.Sprintf("process %d (%s) on host %s", os.Getpid(), e.Holder.Program, host))

	require.NoError(t, first.Apply(t.Context(), step(3)), "the first goes on")
	require.NoError(t, first.Close())
	require.NoError(t, mustOpen(t, path).Close(), "the right to write is free again")
}

func TestOfManyThatOpenAtTheSameMomentOneWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db") // the file is made meanwhile, too
	for range 5 {
		var (
			wg     sync.WaitGroup
			mu     sync.Mutex
			opened []*Ledger
		)
		for range 8 {
			wg.Go(func() {
				l, err := Open(t.Context(), path, nil)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					opened = append(opened, l)
				} else {
					assert.ErrorIs(t, err, ErrInUse)
				}
			})
		}
		wg.Wait()
		require.Len(t, opened, 1)
		require.NoError(t, opened[0].Close())
	}
}

// As when a slow disk takes its time over the line in which somebody else signs.
func TestALockThatIsBeingWrittenIsWaitedFor(t *testing.T) {
	path := fleet(t, 1)
	writer, err := plain(t, path+".lock").Conn(t.Context())
	require.NoError(t, err)
	_, err = writer.ExecContext(t.Context(), "BEGIN EXCLUSIVE")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = Open(ctx, path, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	_, err = writer.ExecContext(t.Context(), "COMMIT")
	require.NoError(t, err)
	mustOpen(t, path)
}

func TestALinkToALedgerHasTheSameLock(t *testing.T) {
	path := fleet(t, 1)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Skip("this system makes no links: ", err)
	}
	mustOpen(t, link)
	_, err := Open(t.Context(), path, nil)
	require.ErrorIs(t, err, ErrInUse)
}

func TestOthersReadWhileOneWrites(t *testing.T) {
	path := fleet(t, 2)
	w := mustOpen(t, path)
	r, err := OpenReadOnly(t.Context(), path, nil)
	require.NoError(t, err)
	assert.Equal(t, fingerprint(t, w), fingerprint(t, r))
	for i := 2; i < 6; i++ {
		require.NoError(t, w.Apply(t.Context(), step(i)))
		assert.Equal(t, fingerprint(t, w), fingerprint(t, r))
	}
	require.ErrorIs(t, r.Apply(t.Context(), step(6)), ErrReadOnly)

	// A reader in the middle of a transaction does not stop the writer, and keeps seeing what it saw.
	db := plain(t, path)
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	require.NoError(t, err)
	var before, after int
	require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT count(*) FROM devices").Scan(&before))
	require.NoError(t, w.Apply(t.Context(), step(6)))
	require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT count(*) FROM devices").Scan(&after))
	assert.Equal(t, before, after)
	require.NoError(t, tx.Rollback())

	require.NoError(t, r.Close())
	require.NoError(t, w.Close())
	r, err = OpenReadOnly(t.Context(), path, nil)
	require.NoError(t, err, "also when nobody writes")
	assert.NotEmpty(t, fingerprint(t, r))
	require.NoError(t, r.Close())
}

func TestOpenReadOnlyMakesNothing(t *testing.T) {
	dir := t.TempDir()
	_, err := OpenReadOnly(t.Context(), filepath.Join(dir, "fleet.db"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty.db"), nil, 0o600))
	_, err = OpenReadOnly(t.Context(), filepath.Join(dir, "empty.db"), nil)
	require.ErrorIs(t, err, ErrNotLedger)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	path := filepath.Join(t.TempDir(), "fleet.db")
	l := mustOpen(t, path)
	require.NoError(t, l.Apply(t.Context(), step(0)))
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(path + suffix)
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o600), info.Mode(), suffix)
	}
}

func TestAPathMayHoldAnything(t *testing.T) {
	for _, name := range []string{"with space.db", "a?b=c&d.db", "100%25.db", "#1.db", "größe.db", "file:x.db", "-wal"} {
		if runtime.GOOS == "windows" && strings.ContainsAny(name, "?:") {
			continue // no name of a file there
		}
		path := filepath.Join(t.TempDir(), name)
		l, err := Open(t.Context(), path, nil)
		require.NoError(t, err, name)
		require.NoError(t, l.Apply(t.Context(), step(0)))
		assert.FileExists(t, path)
		require.NoError(t, l.Close())
	}
}

func TestWhatIsNoLedgerIsRefusedAndLeftAsItIs(t *testing.T) {
	page := func(path string, at int64, change func([]byte)) {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		change(b[at:])
		require.NoError(t, os.WriteFile(path, b, 0o600))
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, path string)
		want  error
		text  string
	}{
		"a text file": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("ThingName,SerialNumber\n", 99)), 0o600))
		}, ErrNotLedger, "not an SQLite database"},
		"a short file": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("SQLite format 3\x00"), 0o600))
		}, ErrNotLedger, ""},
		"another program's database": {func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			mustExec(t, path, "CREATE TABLE songs (name TEXT)", "INSERT INTO songs VALUES ('x')")
		}, ErrNotLedger, "another program"},
		"an empty database": {func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			mustExec(t, path, "CREATE TABLE x (i)", "DROP TABLE x")
		}, ErrNotLedger, "nothing in it"},
		"an interrupted change of another kind": {func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			mustExec(t, path, "CREATE TABLE songs (name TEXT)")
			db := plain(t, path)
			db.SetMaxOpenConns(1)
			_, err := db.ExecContext(t.Context(), "PRAGMA cache_size = 1; BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n LIMIT 9999) INSERT INTO songs SELECT i FROM n")
			require.NoError(t, err)
			var held [2][]byte
			for i, suffix := range []string{"", "-journal"} {
				held[i], err = os.ReadFile(path + suffix)
				require.NoError(t, err)
			}
			require.NoError(t, db.Close())
			for i, suffix := range []string{"", "-journal"} {
				require.NoError(t, os.WriteFile(path+suffix, held[i], 0o600))
			}
		}, ErrNotLedger, "-journal"},
		"a folder": {func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o700))
		}, ErrNotLedger, "no regular file"},
		"a newer version": {func(t *testing.T, path string) {
			mustExec(t, path, "PRAGMA user_version = 99")
		}, ErrNewer, "99, this program knows versions up to 1"},
		"an impossible version": {func(t *testing.T, path string) {
			mustExec(t, path, "PRAGMA user_version = -1")
		}, ErrDamaged, "-1"},
		"a cut file": {func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, info.Size()/2))
		}, ErrDamaged, ""},
		"an overwritten page": {func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			page(path, info.Size()/2/8192*8192, func(b []byte) { copy(b, bytes.Repeat([]byte("damage"), 100)) })
		}, ErrDamaged, ""},
		"a lost table": {func(t *testing.T, path string) {
			mustExec(t, path, "DROP TABLE orphans")
		}, ErrDamaged, "it has no table orphans"},
		"a lost index": {func(t *testing.T, path string) {
			mustExec(t, path, "DROP INDEX devices_by_name")
		}, ErrDamaged, "it has no index devices_by_name"},
		"another column": {func(t *testing.T, path string) {
			mustExec(t, path, "ALTER TABLE devices ADD COLUMN colour TEXT")
		}, ErrDamaged, "its table devices was changed"},
		"a lost device": {func(t *testing.T, path string) {
			mustExec(t, path, "DELETE FROM devices WHERE seq = 2")
		}, ErrDamaged, "numbered from 1 to"},
		"a lost file beside its log": {func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.WriteFile(path+"-wal", []byte("changes"), 0o600))
		}, ErrDamaged, "-wal"},
		"an empty file beside its log": {func(t *testing.T, path string) {
			require.NoError(t, os.Truncate(path, 0))
			require.NoError(t, os.WriteFile(path+"-wal", []byte("changes"), 0o600))
		}, ErrDamaged, "-wal"},
	} {
		t.Run(name, func(t *testing.T) {
			path := fleet(t, 20)
			c.spoil(t, path)
			before := contents(t, path)
			l, err := Open(t.Context(), path, nil)
			if err == nil {
				_ = l.Close()
			}
			require.ErrorIs(t, err, c.want)
			assert.Contains(t, err.Error(), path)
			assert.Contains(t, err.Error(), c.text)
			assert.Equal(t, before, contents(t, path), "the file was changed")
		})
	}
}

// contents are the bytes of a ledger and its log.
func contents(t *testing.T, path string) [2]string {
	t.Helper()
	var out [2]string
	for i, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err == nil {
			out[i] = string(b)
		}
	}
	return out
}

func TestADamagedRowIsNamed(t *testing.T) {
	for set, text := range map[string]string{
		"updated = 'yesterday'": `after number 1: the ledger is damaged: column updated: it holds "yesterday"`,
		"row = '[1]'":           "column row",
		"attempts = 'many'":     "column attempts: it holds many, not a whole number",
		"name = 7.5":            "column name: it holds 7.5, not a text", // TEXT affinity makes text of numbers: see below
	} {
		if set == "name = 7.5" {
			set = "name = x'41'" // a blob keeps its type
			text = "column name: it holds [65], not a text"
		}
		path := fleet(t, 3)
		mustExec(t, path, "UPDATE devices SET "+set+" WHERE seq = 2")
		l := mustOpen(t, path)
		n := 0
		var failed error
		for _, err := range l.Devices(t.Context(), provision.DeviceFilter{}) {
			if failed = err; err == nil {
				n++
			}
		}
		require.ErrorIs(t, failed, ErrDamaged, set)
		assert.Contains(t, failed.Error(), text)
		assert.Contains(t, failed.Error(), path)
	}
}

func TestLargeDevicesAreReadAFewAtATime(t *testing.T) {
	l := mustOpen(t, filepath.Join(t.TempDir(), "fleet.db"))
	var c provision.Change
	for seq := range int64(20) {
		d := new(provision.DeviceRecord)
		d.Seq, d.Verdict, d.Message = seq+1, provision.Failed, strings.Repeat("x", 1<<20)
		c.Add = append(c.Add, d)
	}
	require.NoError(t, l.Apply(t.Context(), c))
	page, more, err := l.page(t.Context(), provision.DeviceFilter{}, pageRows)
	require.NoError(t, err)
	assert.Len(t, page, 4, "of a megabyte each")
	assert.True(t, more)
	n := int64(0)
	for d, err := range l.Devices(t.Context(), provision.DeviceFilter{Verdicts: []provision.Verdict{provision.Failed}}) {
		require.NoError(t, err)
		n++
		assert.Equal(t, n, d.Seq)
	}
	assert.Equal(t, int64(20), n)
}

func TestAnAttemptToMakeALedgerThatFailedIsMadeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	for _, suffix := range []string{".new", ".new-wal", ".new-journal"} { // what a crash left
		require.NoError(t, os.WriteFile(path+suffix, []byte("half a ledger"), 0o600))
	}
	l := mustOpen(t, path)
	require.NoError(t, l.Apply(t.Context(), step(0)))
	left, err := filepath.Glob(path + ".new*")
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestPeopleMayAddIndexesAndViewsOfTheirOwn(t *testing.T) {
	path := fleet(t, 3)
	mustExec(t, path, "CREATE INDEX mine ON devices (source)", "CREATE VIEW my_view AS SELECT name FROM devices")
	l := mustOpen(t, path)
	require.NoError(t, l.Apply(t.Context(), step(3)))
	require.NoError(t, l.Close())
	var names, made int
	db := plain(t, path)
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM my_view").Scan(&names))
	assert.Equal(t, 4*perStep, names, "a view shows what was written since")
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_schema WHERE name IN ('mine', 'my_view')").Scan(&made))
	assert.Equal(t, 2, made, "they are left as they are")
}

func TestAClosedLedgerSaysSo(t *testing.T) {
	l := mustOpen(t, fleet(t, 2))
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.Apply(t.Context(), step(2)), ErrClosed)
	_, err := l.Run(t.Context())
	require.ErrorIs(t, err, ErrClosed)
	_, err = l.Counts(t.Context())
	require.ErrorIs(t, err, ErrClosed)
	_, err = l.FindNames(t.Context(), []string{"x"})
	require.ErrorIs(t, err, ErrClosed)
	var last error
	for _, err := range l.Devices(t.Context(), provision.DeviceFilter{}) {
		last = err
	}
	require.ErrorIs(t, last, ErrClosed)
}

func TestWaitingForAnotherProgramEndsWithTheContext(t *testing.T) {
	path := fleet(t, 2)
	l := mustOpen(t, path)
	before := fingerprint(t, l)
	db := plain(t, path)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE") // somebody typed this into sqlite3, and went to lunch
	require.NoError(t, err)

	reason := errors.New("the operator went home")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, reason)
	defer cancel()
	start := time.Now()
	require.ErrorIs(t, l.Apply(ctx, step(2)), reason)
	assert.Less(t, time.Since(start), 8*time.Second)
	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	assert.Equal(t, before, fingerprint(t, l))
	require.NoError(t, l.Apply(t.Context(), step(2)))
}

func TestOpeningHonoursTheContext(t *testing.T) {
	path := fleet(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, path, nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = OpenReadOnly(ctx, path, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, mustOpen(t, path).Close(), "nothing stays locked")
}

func TestADamagedLockFileIsExplained(t *testing.T) {
	path := fleet(t, 2)
	require.NoError(t, os.WriteFile(path+".lock", bytes.Repeat([]byte("damage"), 1000), 0o600))
	_, err := Open(t.Context(), path, nil)
	require.ErrorContains(t, err, path+".lock is damaged")
	require.ErrorContains(t, err, "delete it")
	require.NoError(t, os.Remove(path+".lock"))
	require.NoError(t, mustOpen(t, path).Close())
}

func TestATimeThatTextCannotHoldIsRefused(t *testing.T) {
	l := mustOpen(t, fleet(t, 2))
	before := fingerprint(t, l)
	for _, year := range []int{-5, 10000} {
		c := step(2)
		c.Run.Created = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		require.ErrorContains(t, l.Apply(t.Context(), c), fmt.Sprintf("created: the year %d is not one of 0 to 9999", year))
	}
	assert.Equal(t, before, fingerprint(t, l))
}
