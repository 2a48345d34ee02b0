package sqlitefile

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

	_ "modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
)

// readers is how many reads go on at once; more wait their turn.
const readers = 4

// Open opens the file at path for writing, and makes it if there is none. The folder must exist. A file of an older
// version is brought up to date. What a process that died left in the file and not yet on the disk is made durable.
//
// One process can have a file open for writing; a second Open fails with an [*InUseError]. The right to write ends with
// the process, however that ends. A file that is refused is left as it is.
func (k *Kind) Open(ctx context.Context, path string, o Options) (*DB, error) {
	path, err := k.resolve(path)
	if err != nil {
		return nil, err
	}
	switch err := k.look(ctx, path, o); {
	case errors.Is(err, fs.ErrNotExist):
		if err := o.probe(path); err != nil {
			return nil, k.fail(ctx, path, "making the file", err)
		}
	case err != nil:
		return nil, err
	}
	d := &DB{kind: k, path: path, turn: make(chan struct{}, 1)}
	if d.lock, err = k.lock(ctx, path); err != nil {
		// SQLite cannot tell a lock that somebody else has from a file system that has none.
		if inUse, ok := errors.AsType[*InUseError](err); ok && inUse.Holder.PID == 0 {
			if lack := o.probe(path); durable.Lacks(lack, durable.Locks) {
				err = k.fail(ctx, path, "taking its lock", lack)
			}
		}
		return nil, err
	}
	if err := d.openForWriting(ctx, o); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// probe tries whether the file system has what the file needs.
func (o *Options) probe(path string) error {
	disk, need := o.Disk, durable.Locks
	if disk == nil {
		disk = durable.OS()
	}
	if o.Modes {
		need |= durable.Modes
	}
	return durable.Probe(disk, filepath.Dir(path), need)
}

// OpenReadOnly opens the file at path for reading, whether or not another process writes to it. Write fails with the
// kind's ReadOnly. It needs the right to write to the folder all the same, because readers and the writer of an SQLite
// database find each other through a file beside it. The pages are not checked.
func (k *Kind) OpenReadOnly(ctx context.Context, path string, o Options) (*DB, error) {
	path, err := k.resolve(path)
	if err != nil {
		return nil, err
	}
	d := &DB{kind: k, path: path, turn: make(chan struct{}, 1)}
	if err := k.look(ctx, path, o); err != nil {
		return nil, err
	}
	d.read, err = open(path, o, "mode=ro")
	if err != nil {
		return nil, d.Fail(ctx, "opening it", err)
	}
	v, err := k.version(ctx, d.read)
	switch {
	case err == nil && v < len(k.Steps):
		err = fmt.Errorf("%w: %d instead of %d; open it for writing once", k.Older, v, len(k.Steps))
	case err == nil:
		err = k.checkSchema(ctx, d.read, v)
	}
	if err != nil {
		return nil, errors.Join(d.Fail(ctx, "opening it", err), d.Close())
	}
	return d, nil
}

// resolve follows links, so that a file has one lock however it is called.
func (k *Kind) resolve(path string) (string, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", k.Name, path, err)
	}
	if resolved, err := filepath.EvalSymlinks(full); err == nil {
		return resolved, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(full))
	if err != nil {
		return "", fmt.Errorf("%s %s: its folder must exist: %w", k.Name, path, err)
	}
	return filepath.Join(dir, filepath.Base(full)), nil
}

// look decides, without changing anything, whether the file can be of the kind. The error is fs.ErrNotExist if there is
// no file.
func (k *Kind) look(ctx context.Context, path string, o Options) error {
	wal, walErr := os.Stat(path + "-wal")
	hasWAL := walErr == nil && wal.Size() > 0
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && hasWAL:
		return fmt.Errorf("%s %s: %w: the file is gone, and %[2]s-wal with the last changes to it is still there; "+
			"bring the file back, or move the other one away", k.Name, path, k.Damaged)
	case err != nil:
		return fmt.Errorf("%s %s: %w", k.Name, path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s %s: %w: it is no regular file", k.Name, path, k.Foreign)
	case info.Size() == 0 && hasWAL:
		return fmt.Errorf("%s %s: %w: the file is empty, and %[2]s-wal with the last changes to it is not", k.Name, path, k.Damaged)
	case info.Size() == 0:
		return nil
	}
	db, err := open(path, o, "mode=ro")
	if err != nil {
		return k.fail(ctx, path, "opening it", err)
	}
	defer func() { _ = db.Close() }()
	v, err := k.version(ctx, db)
	switch {
	case code(err) == sqlite3.SQLITE_NOTADB:
		err = fmt.Errorf("%w: it is not an SQLite database", k.Foreign)
	case extendedCode(err) == sqlite3.SQLITE_READONLY_ROLLBACK:
		err = fmt.Errorf("%w: beside it is %s-journal, of an interrupted change, which a %s never has", k.Foreign, path, k.Name)
	case err == nil && v > len(k.Steps):
		err = fmt.Errorf("%w: %d, this program knows versions up to %d; use a newer program", k.Newer, v, len(k.Steps))
	}
	return k.fail(ctx, path, "looking what it is", err)
}

func (d *DB) openForWriting(ctx context.Context, o Options) (err error) {
	k := d.kind
	doing := "making the file"
	defer func() { err = d.Fail(ctx, doing, err) }()
	// Somebody else may have been here before we had the lock.
	if info, err := os.Stat(d.path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		if err := k.create(ctx, d.path, o); err != nil {
			return err
		}
	}
	doing = "opening it"
	if err := d.connect(ctx, d.path, o); err != nil {
		return err
	}
	v, err := k.version(ctx, d.conn)
	if err != nil {
		return err
	}
	if !o.SkipCheck {
		doing = "checking it"
		if err := k.checkPages(ctx, d.conn); err != nil {
			return err
		}
	}
	if err := k.checkSchema(ctx, d.conn, min(v, len(k.Steps))); err != nil {
		return err
	}
	doing = "opening it"
	if err := wal(ctx, d.conn); err != nil {
		return err
	}
	if v < len(k.Steps) {
		doing = "bringing its tables up to date"
		err = k.migrate(ctx, d.conn, v, len(k.Steps))
	} else {
		err = d.settle(ctx, v)
	}
	if err != nil {
		return err
	}
	if err := d.remember(); err != nil {
		return err
	}
	d.read, err = open(d.path, o, "mode=rw", "_pragma=query_only(1)")
	return err
}

// settle makes durable what is in the file and its log. A process that was killed may have written a change and not
// synced it: readers see it from then on, and a power cut would take it from them. A commit of anything syncs the log.
func (d *DB) settle(ctx context.Context, version int) error {
	if err := durable.SyncName(durable.OS(), d.path); err != nil {
		return err
	}
	_, err := d.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
	return err
}

// connect opens the one connection that writes.
func (d *DB) connect(ctx context.Context, path string, o Options) (err error) {
	d.write, err = open(path, o, "mode=rw", "_txlock=immediate",
		// What has been committed survives a power cut; on macOS that takes a stronger sync.
		"_pragma=synchronous(FULL)", "_pragma=fullfsync(1)", "_pragma=checkpoint_fullfsync(1)",
		// 8 MiB of pages: with more, rewriting a part of 10,000 devices takes as long and several times the memory.
		"_pragma=foreign_keys(1)", "_pragma=page_size(8192)", "_pragma=cache_size(-8192)",
		"_pragma=wal_autocheckpoint(4000)", "_pragma=journal_size_limit(67108864)")
	if err != nil {
		return err
	}
	d.write.SetMaxOpenConns(1)
	d.conn, err = d.write.Conn(ctx)
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

// create makes an empty file under another name, which becomes its own once it is whole and on the disk. What a crash
// leaves of an earlier attempt is deleted; the caller holds the lock.
func (k *Kind) create(ctx context.Context, path string, o Options) (err error) {
	temp := path + ".new"
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if err := os.Remove(temp + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := createFile(temp); err != nil {
		return err
	}
	d := &DB{kind: k, path: temp, turn: make(chan struct{}, 1)}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.connect(ctx, temp, o); err != nil {
		return err
	}
	if err := k.migrate(ctx, d.conn, 0, len(k.Steps)); err != nil {
		return err
	}
	// The log is turned on last, when all is in the file itself: there is nothing in a log that could be left behind.
	if err := wal(ctx, d.conn); err != nil {
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return durable.SyncName(durable.OS(), path)
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
