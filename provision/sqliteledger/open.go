package sqliteledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	_ "modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// lockSuffix makes the name of the file whose lock is the right to write.
const lockSuffix = ".lock"

// readers is how many reads go on at once; more wait their turn.
const readers = 4

// Ledger is a [provision.Ledger] in a file. It is safe for concurrent use: changes are made one after the other, and
// reads go on beside them.
type Ledger struct {
	path   string
	lock   *writerLock // nil if it is open for reading only
	write  *sql.DB     // has one connection; nil if it is open for reading only
	conn   *sql.Conn   // that connection
	turn   chan struct{}
	add    *sql.Stmt
	change *sql.Stmt
	read   *sql.DB
	closed atomic.Bool
}

var _ provision.Ledger = (*Ledger)(nil)

// Options are the settings of a ledger. The zero value is right for most.
type Options struct {
	// SkipCheck leaves out reading every page of the file when it is opened. The check takes about half a second for
	// 100,000 devices; without it, damage is found when the damaged row is read.
	SkipCheck bool
	// VFS is the name of a file layer registered with SQLite, for tests that let the disk fail. Empty is SQLite's own.
	VFS string

	steps []string // nil is migrations
}

// Open opens the ledger at path for writing, and makes it if there is none. The folder must exist. A ledger of an older
// version is brought up to date. opts may be nil.
//
// One process can have a ledger open for writing; a second Open fails with an [*InUseError]. The right to write ends with
// the process, however that ends. The file is refused, and nothing in it changed, with [ErrNotLedger], [ErrNewer] or
// [ErrDamaged].
func Open(ctx context.Context, path string, opts *Options) (*Ledger, error) {
	o := options(opts)
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if err := look(ctx, path, o); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l := &Ledger{path: path, turn: make(chan struct{}, 1)}
	if l.lock, err = lock(ctx, path); err != nil {
		return nil, err
	}
	if err := l.openForWriting(ctx, o); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// OpenReadOnly opens the ledger at path for reading, whether or not another process writes to it. Its Apply fails with
// [ErrReadOnly]. It needs the right to write to the folder all the same, because readers and the writer of an SQLite
// database find each other through a file beside it. opts may be nil; the pages are not checked.
func OpenReadOnly(ctx context.Context, path string, opts *Options) (*Ledger, error) {
	o := options(opts)
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	l := &Ledger{path: path, turn: make(chan struct{}, 1)}
	if err := look(ctx, path, o); err != nil {
		return nil, err
	}
	l.read, err = open(path, o, "mode=ro")
	if err != nil {
		return nil, fail(ctx, path, "opening it", err)
	}
	v, err := version(ctx, l.read)
	switch {
	case err == nil && v < len(o.steps):
		err = fmt.Errorf("%w: %d instead of %d; open it for writing once", ErrOlder, v, len(o.steps))
	case err == nil:
		err = checkSchema(ctx, l.read, o.steps)
	}
	if err != nil {
		return nil, errors.Join(fail(ctx, path, "opening it", err), l.Close())
	}
	return l, nil
}

func options(opts *Options) Options {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	if o.steps == nil {
		o.steps = migrations
	}
	return o
}

// resolve follows links, so that a ledger has one lock however it is called.
func resolve(path string) (string, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("ledger %s: %w", path, err)
	}
	if resolved, err := filepath.EvalSymlinks(full); err == nil {
		return resolved, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(full))
	if err != nil {
		return "", fmt.Errorf("ledger %s: its folder must exist: %w", path, err)
	}
	return filepath.Join(dir, filepath.Base(full)), nil
}

// look decides, without changing anything, whether the file can be a ledger. The error is fs.ErrNotExist if there is no
// file.
func look(ctx context.Context, path string, o Options) error {
	wal, walErr := os.Stat(path + "-wal")
	hasWAL := walErr == nil && wal.Size() > 0
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && hasWAL:
		return fmt.Errorf("ledger %s: %w: the file is gone, and %s-wal with the last changes to it is still there; "+
			"bring the file back, or move the other one away", path, ErrDamaged, path)
	case err != nil:
		return fmt.Errorf("ledger %s: %w", path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("ledger %s: %w: it is no regular file", path, ErrNotLedger)
	case info.Size() == 0 && hasWAL:
		return fmt.Errorf("ledger %s: %w: the file is empty, and %s-wal with the last changes to it is not", path, ErrDamaged, path)
	case info.Size() == 0:
		return nil
	}
	db, err := open(path, o, "mode=ro")
	if err != nil {
		return fail(ctx, path, "opening it", err)
	}
	defer func() { _ = db.Close() }()
	v, err := version(ctx, db)
	switch {
	case code(err) == sqlite3.SQLITE_NOTADB:
		err = fmt.Errorf("%w: it is not an SQLite database", ErrNotLedger)
	case extendedCode(err) == sqlite3.SQLITE_READONLY_ROLLBACK:
		err = fmt.Errorf("%w: beside it is %s-journal, of an interrupted change, which a ledger never has", ErrNotLedger, path)
	case err == nil && v > len(o.steps):
		err = fmt.Errorf("%w: %d, this program knows versions up to %d; use a newer program", ErrNewer, v, len(o.steps))
	}
	return fail(ctx, path, "looking what it is", err)
}

func (l *Ledger) openForWriting(ctx context.Context, o Options) (err error) {
	doing := "making the file"
	defer func() { err = fail(ctx, l.path, doing, err) }()
	// Somebody else may have been here before we had the lock.
	if info, err := os.Stat(l.path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		if err := create(ctx, l.path, o); err != nil {
			return err
		}
	}
	doing = "opening it"
	if err := l.connect(ctx, l.path, o); err != nil {
		return err
	}
	v, err := version(ctx, l.conn)
	if err != nil {
		return err
	}
	if !o.SkipCheck {
		doing = "checking it"
		if err := checkPages(ctx, l.conn); err != nil {
			return err
		}
	}
	if err := checkSchema(ctx, l.conn, o.steps[:min(v, len(o.steps))]); err != nil {
		return err
	}
	doing = "opening it"
	if err := wal(ctx, l.conn); err != nil {
		return err
	}
	if v < len(o.steps) {
		doing = "bringing its tables up to date"
		if err := migrate(ctx, l.conn, v, o.steps); err != nil {
			return err
		}
	}
	if err := l.prepare(ctx); err != nil {
		return err
	}
	l.read, err = open(l.path, o, "mode=rw", "_pragma=query_only(1)")
	return err
}

// connect opens the one connection that writes.
func (l *Ledger) connect(ctx context.Context, path string, o Options) (err error) {
	l.write, err = open(path, o, "mode=rw", "_txlock=immediate",
		// What has been committed survives a power cut; on macOS that takes a stronger sync.
		"_pragma=synchronous(FULL)", "_pragma=fullfsync(1)", "_pragma=checkpoint_fullfsync(1)",
		// 8 MiB of pages: with more, rewriting a part of 10,000 devices takes as long and several times the memory.
		"_pragma=foreign_keys(1)", "_pragma=page_size(8192)", "_pragma=cache_size(-8192)",
		"_pragma=wal_autocheckpoint(4000)", "_pragma=journal_size_limit(67108864)")
	if err != nil {
		return err
	}
	l.write.SetMaxOpenConns(1)
	l.conn, err = l.write.Conn(ctx)
	return err
}

// wal sees that the write-ahead log is on. The file remembers it.
func wal(ctx context.Context, conn *sql.Conn) error {
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("SQLite cannot keep a write-ahead log here, only %q; use a local disk", mode)
	}
	return nil
}

// create makes an empty ledger under another name and gives it its own once it is whole and on the disk. What a crash
// leaves of an earlier attempt is deleted; the caller holds the lock.
func create(ctx context.Context, path string, o Options) (err error) {
	temp := path + ".new"
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if err := os.Remove(temp + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := createFile(temp); err != nil {
		return err
	}
	l := &Ledger{path: temp, turn: make(chan struct{}, 1)}
	defer func() { err = errors.Join(err, l.Close()) }()
	if err := l.connect(ctx, temp, o); err != nil {
		return err
	}
	if err := migrate(ctx, l.conn, 0, o.steps); err != nil {
		return err
	}
	// The log is turned on last, when all is in the file itself: there is nothing in a log that could be left behind.
	if err := wal(ctx, l.conn); err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	syncFolder(path)
	return nil
}

// open makes a pool of connections. None is opened before it is used.
func open(path string, o Options, params ...string) (*sql.DB, error) {
	params = append([]string{"_pragma=busy_timeout(10000)"}, params...)
	db, err := sql.Open("sqlite", dsn(path, o.VFS, params...))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	return db, nil
}

// dsn names a file to the driver.
func dsn(path, vfs string, params ...string) string {
	slash := filepath.ToSlash(path)
	if !strings.HasPrefix(slash, "/") {
		slash = "/" + slash // C:/fleet.db
	}
	if vfs != "" {
		params = append(params, "vfs="+url.QueryEscape(vfs))
	}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: slash}).String() + "?" + strings.Join(params, "&")
}

// Path is the file's full name.
func (l *Ledger) Path() string { return l.path }

// Close waits for calls that are under way and gives back the right to write. Calls after it fail with [ErrClosed]; a
// second Close does nothing.
func (l *Ledger) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	l.turn <- struct{}{} // the change under way ends first
	defer func() { <-l.turn }()
	var errs []error
	if l.read != nil {
		errs = append(errs, l.read.Close())
	}
	for _, s := range []*sql.Stmt{l.add, l.change} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	if l.conn != nil {
		errs = append(errs, l.conn.Close())
	}
	if l.write != nil {
		errs = append(errs, l.write.Close())
	}
	if l.lock != nil {
		l.lock.release()
	}
	return fail(context.Background(), l.path, "closing it", errors.Join(errs...))
}
