// Package sqlitefile is an SQLite database that one process writes to and others read: opened under a lock that names
// its holder, durable with every transaction, for its owner's eyes only, and refused untouched if it is something else,
// damaged, or of a newer version. provision/sqliteledger and csr/keystore/sqlitekeys keep their tables in one.
//
// The promises rest on SQLite's write-ahead log: https://sqlite.org/wal.html.
package sqlitefile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
)

// Kind describes the files of one package: their tables, and the words of their errors.
type Kind struct {
	Name          string   // what errors call such a file, "ledger" for instance
	ApplicationID uint32   // marks the file at byte 68, where file(1) looks for it
	Steps         []string // step i takes a file from version i to i+1; a step that was released is never changed
	// Check finds what is wrong with rows, beside the check of SQLite's pages. Nil finds nothing.
	Check func(context.Context, Querier) error

	// The errors of the package, which those of this one wrap.
	InUse    error // another process, or another part of this one, has the file open for writing
	Foreign  error // the file is something else
	Newer    error // the file is of a newer version
	Older    error // the file is of an older version, and open for reading only
	Damaged  error // the file, or a row, cannot be as the package left it
	ReadOnly error // the file was opened with OpenReadOnly
	Closed   error // the file was closed
}

// Options are the settings of a file. The zero value is right for most.
type Options struct {
	SkipCheck bool         // do not read every page when the file is opened
	Modes     bool         // the file system must keep the modes of files
	Disk      durable.Disk // what the file system is tried with; nil is the real one
	VFS       string       // name of a file layer registered with SQLite, for tests that let the disk fail
}

// Querier is a database, a connection or a transaction.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// DB is an open file. It is safe for concurrent use: changes are made one after the other, and reads go on beside them.
type DB struct {
	kind   *Kind
	path   string
	files  map[string]os.FileInfo // the file, its log and the index of that, by name, when it was opened for writing
	lock   *writerLock            // nil if it is open for reading only
	write  *sql.DB                // has one connection; nil if it is open for reading only
	conn   *sql.Conn              // that connection
	turn   chan struct{}
	stmts  []*sql.Stmt
	read   *sql.DB
	closed atomic.Bool
}

// Path is the file's full name.
func (d *DB) Path() string { return d.path }

// Reader returns the connections for reading, or the error of a closed file. They see what was committed.
func (d *DB) Reader() (*sql.DB, error) {
	if d.closed.Load() {
		return nil, d.kind.Closed
	}
	return d.read, nil
}

// Conn returns the connection that writes, for use within Write; nil if the file is open for reading only.
func (d *DB) Conn() *sql.Conn { return d.conn }

// Prepare prepares a statement of the connection that writes. Close closes it.
func (d *DB) Prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	return d.prepare(ctx, d.conn, query)
}

// PrepareRead prepares a statement of the connections for reading. Close closes it.
func (d *DB) PrepareRead(ctx context.Context, query string) (*sql.Stmt, error) {
	return d.prepare(ctx, d.read, query)
}

func (d *DB) prepare(ctx context.Context, on interface {
	PrepareContext(context.Context, string) (*sql.Stmt, error)
}, query string) (*sql.Stmt, error) {
	s, err := on.PrepareContext(ctx, query)
	if err == nil {
		d.stmts = append(d.stmts, s)
	}
	return s, err
}

// Write runs change in a transaction of its own: all of it is durable when Write returns nil, and nothing of it is
// there after an error. An error of the disk at the very end can leave open whether the change is there, as a whole,
// when the file is opened again. It is an error, too, if the file, or one of the two that SQLite keeps beside it, was
// deleted or moved away since it was opened.
func (d *DB) Write(ctx context.Context, doing string, change func(*sql.Conn) error) error {
	if d.write == nil {
		return d.Fail(ctx, doing, d.kind.ReadOnly)
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return d.Fail(ctx, doing, context.Cause(ctx))
	}
	if d.closed.Load() {
		return d.Fail(ctx, doing, d.kind.Closed)
	}
	_, err := d.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
	if err == nil {
		err = change(d.conn)
	}
	if err == nil {
		// From here on the context is not asked any more: an interrupted commit would leave open whether it happened.
		if _, err = d.conn.ExecContext(context.WithoutCancel(ctx), "COMMIT"); err == nil {
			err = d.inPlace()
		}
		if err != nil {
			doing = "committing a change"
		}
	}
	if err != nil {
		// SQLite may have ended the transaction by itself; if it cannot be ended at all, the next BEGIN reports it.
		_, _ = d.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return d.Fail(ctx, doing, err)
	}
	return nil
}

// beside are the ends of the names of the files that SQLite keeps beside one that is open: the write-ahead log, which
// alone has the last changes, and its index, by which processes find each other's.
var beside = []string{"", "-wal", "-shm"}

// remember notes which files are in use from now on.
func (d *DB) remember() error {
	d.files = map[string]os.FileInfo{}
	for _, suffix := range beside {
		info, err := os.Stat(d.path + suffix)
		if err != nil {
			return err
		}
		d.files[d.path+suffix] = info
	}
	return nil
}

// inPlace makes sure that what was committed can be found under the names of the files. SQLite goes on writing to a file
// that somebody has deleted, and reports success.
func (d *DB) inPlace() error {
	for _, suffix := range beside {
		name := d.path + suffix
		now, err := os.Stat(name)
		if err == nil && !os.SameFile(now, d.files[name]) {
			err = errors.New("another file has its name now")
		}
		if err != nil {
			return fmt.Errorf("%s was deleted or moved away while it was in use, and perhaps the change with it: %w; "+
				"end this program, and bring the file back if it still is somewhere", filepath.Base(name), err)
		}
	}
	return nil
}

// Close waits for the change under way and returns the right to write. Calls after it fail with the kind's Closed; a
// second Close does nothing.
func (d *DB) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.turn <- struct{}{} // the change under way ends first
	defer func() { <-d.turn }()
	var errs []error
	for _, s := range d.stmts {
		errs = append(errs, s.Close())
	}
	if d.read != nil {
		errs = append(errs, d.read.Close())
	}
	if d.conn != nil {
		errs = append(errs, d.conn.Close())
	}
	if d.write != nil {
		errs = append(errs, d.write.Close())
	}
	if d.lock != nil {
		d.lock.release()
	}
	return d.Fail(context.Background(), "closing it", errors.Join(errs...))
}
