package sqliteledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrInUse: another process, or another part of this one, has the ledger open for writing. The [*InUseError] says
	// which.
	ErrInUse = errors.New("the ledger is in use")
	// ErrNotLedger: the file is something else. Nothing in it was changed.
	ErrNotLedger = errors.New("the file is not a ledger")
	// ErrNewer: the ledger was written by a newer version of this package. Nothing in it was changed.
	ErrNewer = errors.New("the ledger is of a newer version")
	// ErrOlder: the ledger was written by an older version of this package and is open for reading only. [Open] brings it
	// up to date.
	ErrOlder = errors.New("the ledger is of an older version")
	// ErrDamaged: the file, or a row of it, cannot be as this package left it.
	ErrDamaged = errors.New("the ledger is damaged")
	// ErrReadOnly: the ledger was opened with [OpenReadOnly].
	ErrReadOnly = errors.New("the ledger is open for reading only")
	// ErrClosed: the ledger was closed.
	ErrClosed = errors.New("the ledger is closed")
)

// InUseError says who has a ledger open for writing. errors.Is finds [ErrInUse] in it.
type InUseError struct {
	Path   string
	Holder Holder
}

// Holder is a process that has a ledger open for writing.
type Holder struct {
	PID     int    // 0 if it could not be found out
	Program string // base name of its executable
	Host    string
	Since   time.Time
}

// Error names the process and says what can be done.
func (e *InUseError) Error() string {
	who := "another process"
	if e.Holder.PID != 0 {
		who = fmt.Sprintf("process %d (%s) on host %s, since %s,",
			e.Holder.PID, e.Holder.Program, e.Holder.Host, e.Holder.Since.Format(time.RFC3339))
	}
	return fmt.Sprintf("ledger %s: %v: %s is writing to it; wait until it ends, or open the ledger for reading only meanwhile",
		e.Path, ErrInUse, who)
}

// Is reports whether target is ErrInUse.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// fail wraps an error with the ledger's path and what was being done. A cancelled context is reported by its cause.
func fail(ctx context.Context, path, doing string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) &&
		(code(err) == sqlite3.SQLITE_INTERRUPT || errors.Is(err, ctx.Err())) {
		err = cause
	}
	if hint := hints[code(err)]; hint != "" {
		err = fmt.Errorf("%w; %s", err, hint)
	}
	if c := code(err); (c == sqlite3.SQLITE_CORRUPT || c == sqlite3.SQLITE_NOTADB) && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return fmt.Errorf("ledger %s: %s: %w", path, doing, err)
}

// hints say what to do about errors that people can do something about.
var hints = map[int]string{
	sqlite3.SQLITE_FULL:     "free space on the disk and go on, nothing of this change is in the ledger",
	sqlite3.SQLITE_BUSY:     "another program, such as sqlite3, holds a transaction of its own on the file: end it",
	sqlite3.SQLITE_LOCKED:   "another program, such as sqlite3, holds a transaction of its own on the file: end it",
	sqlite3.SQLITE_READONLY: "give this user the right to write to the file and its folder",
	sqlite3.SQLITE_PERM:     "give this user the right to write to the file and its folder",
	sqlite3.SQLITE_CANTOPEN: "see that the folder exists and that this user may write to it",
	sqlite3.SQLITE_CORRUPT:  "keep the file and its -wal file as they are, and look at a copy with sqlite3's .recover",
}

// code is SQLite's primary result code in an error, or -1.
func code(err error) int {
	if c := extendedCode(err); c >= 0 {
		return c & 0xff
	}
	return -1
}

func extendedCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return -1
}
