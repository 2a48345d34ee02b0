package sqlitefile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// InUseError reports who has a file open for writing. errors.Is finds the kind's InUse in it.
type InUseError struct {
	Path   string
	Holder Holder
	kind   *Kind
}

// Holder is a process that has a file open for writing.
type Holder struct {
	PID     int    // 0 if it could not be found out
	Program string // base name of its executable
	Host    string
	Since   time.Time
}

// Error names the process and what can be done.
func (e *InUseError) Error() string {
	who := "another process"
	if e.Holder.PID != 0 {
		who = fmt.Sprintf("process %d (%s) on host %s, since %s,",
			e.Holder.PID, e.Holder.Program, e.Holder.Host, e.Holder.Since.Format(time.RFC3339))
	}
	if e.kind == nil {
		return e.Path + ": " + who + " is writing to it"
	}
	return fmt.Sprintf("%s %s: %v: %s is writing to it; wait until it ends, or open the %[1]s for reading only meanwhile",
		e.kind.Name, e.Path, e.kind.InUse, who)
}

// Is reports whether target is the kind's InUse.
func (e *InUseError) Is(target error) bool { return e.kind != nil && target == e.kind.InUse }

// Fail wraps an error with the file's path and what was being done, and with what to do about it. A cancelled context
// is reported by its cause.
func (d *DB) Fail(ctx context.Context, doing string, err error) error {
	return d.kind.fail(ctx, d.path, doing, err)
}

func (k *Kind) fail(ctx context.Context, path, doing string, err error) error {
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
	if c := code(err); (c == sqlite3.SQLITE_CORRUPT || c == sqlite3.SQLITE_NOTADB) && !errors.Is(err, k.Damaged) {
		err = fmt.Errorf("%w: %w", k.Damaged, err)
	}
	return fmt.Errorf("%s %s: %s: %w", k.Name, path, doing, err)
}

// hints tell what to do about errors that people can do something about.
var hints = map[int]string{
	sqlite3.SQLITE_FULL:     "free space on the disk and go on, nothing of this change is in the file",
	sqlite3.SQLITE_BUSY:     "another program, such as sqlite3, holds a transaction of its own on the file: end it",
	sqlite3.SQLITE_LOCKED:   "another program, such as sqlite3, holds a transaction of its own on the file: end it",
	sqlite3.SQLITE_READONLY: "give this user the right to write to the file and its folder",
	sqlite3.SQLITE_PERM:     "give this user the right to write to the file and its folder",
	sqlite3.SQLITE_CANTOPEN: "see that the folder exists and that this user may write to it",
	sqlite3.SQLITE_CORRUPT:  "keep the file and its -wal file as they are, and look at a copy with sqlite3's .recover",
}

// NotBegun reports whether an error left the file as it was and the disk in good order, so that the same change can be
// tried again: the disk was full, another program held a transaction, or the context ended.
func NotBegun(ctx context.Context, err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return true
	}
	return context.Cause(ctx) != nil && errors.Is(err, context.Cause(ctx))
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
