package sqliteledger

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile"
	"github.com/seed1ff6f450/iotfleet/provision"
)

var (
	// ErrInUse: another process, or another part of this one, has the ledger open for writing. The [*InUseError] tells
	// which.
	ErrInUse = errors.New("the ledger is in use")
	// ErrNotLedger: the file is something else. Nothing in it was changed.
	ErrNotLedger = errors.New("the file is not a ledger")
	// ErrNewer: the ledger was written by a newer version of this package. Nothing in it was changed.
	ErrNewer = errors.New("the ledger is of a newer version")
	// ErrOlder: the ledger was written by an older version of this package and is open for reading only. [Open] brings
	// it up to date.
	ErrOlder = errors.New("the ledger is of an older version")
	// ErrDamaged: the file, or a row of it, cannot be as this package left it.
	ErrDamaged = errors.New("the ledger is damaged")
	// ErrReadOnly: the ledger was opened with [OpenReadOnly].
	ErrReadOnly = errors.New("the ledger is open for reading only")
	// ErrClosed: the ledger was closed.
	ErrClosed = errors.New("the ledger is closed")
)

type (
	// InUseError reports who has a ledger open for writing, with Path and Holder. errors.Is finds [ErrInUse] in it.
	InUseError = sqlitefile.InUseError
	// Holder is a process that has a ledger open for writing: PID (0 if it could not be found out), Program, Host,
	// Since.
	Holder = sqlitefile.Holder
)

//go:embed schema.sql
var schema string

// ledgerFile is what a ledger is to SQLite. The application id is "IoTf". A version of the schema that was released is
// never changed; the next one is appended to Steps.
var ledgerFile = sqlitefile.Kind{
	Name: "ledger", ApplicationID: 0x496f5466, Steps: []string{schema}, Check: checkNumbers,
	InUse: ErrInUse, Foreign: ErrNotLedger, Newer: ErrNewer, Older: ErrOlder, Damaged: ErrDamaged, ReadOnly: ErrReadOnly, Closed: ErrClosed,
}

// checkNumbers sees that no device is missing.
func checkNumbers(ctx context.Context, q sqlitefile.Querier) error {
	var count, first, last int64
	if err := q.QueryRowContext(ctx, "SELECT count(*), coalesce(min(seq), 1), coalesce(max(seq), 0) FROM devices").
		Scan(&count, &first, &last); err != nil {
		return err
	}
	if first != 1 || last != count {
		return fmt.Errorf("%w: it holds %d devices, numbered from %d to %d", ErrDamaged, count, first, last)
	}
	return nil
}

// Ledger is a [provision.Ledger] in a file. It is safe for concurrent use: changes are made one after the other, and
// reads go on beside them.
type Ledger struct {
	db      *sqlitefile.DB
	add     *sql.Stmt
	change  *sql.Stmt // all of a device
	outcome *sql.Stmt // what has become of it
}

var _ provision.Ledger = (*Ledger)(nil)

// Options are the settings of a ledger. The zero value is right for most.
type Options struct {
	// SkipCheck leaves out reading every page of the file when it is opened. The check takes about half a second for
	// 100,000 devices; without it, damage is found when the damaged row is read.
	SkipCheck bool

	vfs   string   // a file layer that lets the disk fail
	steps []string // versions of the schema to come; nil is those of ledgerFile
}

func (o *Options) resolve() (sqlitefile.Kind, sqlitefile.Options) {
	kind := ledgerFile
	if o == nil {
		return kind, sqlitefile.Options{}
	}
	if o.steps != nil {
		kind.Steps = o.steps
	}
	return kind, sqlitefile.Options{SkipCheck: o.SkipCheck, VFS: o.vfs}
}

// Open opens the ledger at path for writing, and makes it if there is none. The folder must exist. A ledger of an older
// version is brought up to date. opts may be nil.
//
// One process can have a ledger open for writing; a second Open fails with an [*InUseError]. The right to write ends
// with the process, however that ends. The file is refused, and nothing in it changed, with [ErrNotLedger], [ErrNewer]
// or [ErrDamaged].
func Open(ctx context.Context, path string, opts *Options) (*Ledger, error) {
	kind, o := opts.resolve()
	db, err := kind.Open(ctx, path, o)
	if err != nil {
		return nil, err
	}
	l := &Ledger{db: db}
	if err := l.prepare(ctx); err != nil {
		return nil, errors.Join(db.Fail(ctx, "opening it", err), db.Close())
	}
	return l, nil
}

// OpenReadOnly opens the ledger at path for reading, whether or not another process writes to it. Its Apply fails with
// [ErrReadOnly]. It needs the right to write to the folder all the same, because readers and the writer of an SQLite
// database find each other through a file beside it. opts may be nil; the pages are not checked.
func OpenReadOnly(ctx context.Context, path string, opts *Options) (*Ledger, error) {
	kind, o := opts.resolve()
	db, err := kind.OpenReadOnly(ctx, path, o)
	if err != nil {
		return nil, err
	}
	return &Ledger{db: db}, nil
}

// Path is the file's full name.
func (l *Ledger) Path() string { return l.db.Path() }

// Close waits for calls that are under way and returns the right to write. Calls after it fail with [ErrClosed]; a
// second Close does nothing.
func (l *Ledger) Close() error { return l.db.Close() }
