package sqlitefile

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
)

// writerLock is the right to write to a file. It is SQLite's own lock on a small database beside the file, so it
// works wherever SQLite does and is gone with the process that held it, however that ended. The lock is the one of a
// write transaction that is never finished (RESERVED): one connection can have it, and everybody can still read who.
type writerLock struct {
	db   *sql.DB
	conn *sql.Conn
}

// lockTries times lockPause is how long two that come at the same moment may take to see who was first.
const (
	lockTries = 100
	lockPause = 10 * time.Millisecond
)

// lockSuffix makes the name of the file whose lock is the right to write.
const lockSuffix = ".lock"

// lock takes the right to write to the file at path, or reports at once who has it.
func (k *Kind) lock(ctx context.Context, path string) (*writerLock, error) {
	file := path + lockSuffix
	doing := "taking the lock " + file
	if err := createFile(file); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, k.fail(ctx, path, doing, err)
	}
	// No pragma that reads the file: connecting would fail where take waits.
	db, err := sql.Open("sqlite", dsn(file, "", "mode=rw", "_pragma=busy_timeout(100)"))
	if err != nil {
		return nil, k.fail(ctx, path, doing, err)
	}
	l := &writerLock{db: db}
	if l.conn, err = db.Conn(ctx); err == nil {
		err = l.take(ctx, k, path)
	}
	if err == nil {
		return l, nil
	}
	l.release()
	if _, ok := errors.AsType[*InUseError](err); ok {
		return nil, err
	}
	if c := code(err); c == sqlite3.SQLITE_NOTADB || c == sqlite3.SQLITE_CORRUPT {
		return nil, fmt.Errorf("%s %s: the lock %s is damaged: %w; it holds nothing else than the name of its holder: "+
			"when no process uses the %[1]s, delete it", k.Name, path, file, err)
	}
	return nil, k.fail(ctx, path, doing, err)
}

func (l *writerLock) take(ctx context.Context, k *Kind, path string) error {
	token, since := rand.Text(), time.Now()
	host, _ := os.Hostname() // only for people to read
	holder := Holder{}
	for range lockTries {
		// Exclusive, so that nobody reads meanwhile who held it before.
		_, err := l.conn.ExecContext(ctx, "BEGIN EXCLUSIVE")
		if err == nil {
			err = l.sign(ctx, token, since, host)
		}
		if err == nil {
			// The commit dropped the lock for a moment. Whoever slipped in has it now, or has signed and lost it in turn.
			_, err = l.conn.ExecContext(ctx, "BEGIN IMMEDIATE")
		}
		if err != nil && code(err) != sqlite3.SQLITE_BUSY {
			return err
		}
		signed, h, readErr := l.holder(ctx)
		if err == nil && readErr == nil && signed == token {
			return nil
		}
		_, _ = l.conn.ExecContext(ctx, "ROLLBACK") // there may be nothing to roll back
		if holder = h; readErr == nil && signed != token && h.PID != 0 {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lockPause):
		}
	}
	return &InUseError{Path: path, Holder: holder, kind: k}
}

func (l *writerLock) sign(ctx context.Context, token string, since time.Time, host string) error {
	for _, q := range []string{
		"CREATE TABLE IF NOT EXISTS writer (token TEXT, pid INTEGER, program TEXT, host TEXT, since TEXT)",
		"DELETE FROM writer",
	} {
		if _, err := l.conn.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	if _, err := l.conn.ExecContext(ctx, "INSERT INTO writer VALUES (?, ?, ?, ?, ?)",
		token, os.Getpid(), filepath.Base(os.Args[0]), host, since.UTC().Format(TimeFormat)); err != nil {
		return err
	}
	_, err := l.conn.ExecContext(ctx, "COMMIT")
	return err
}

func (l *writerLock) holder(ctx context.Context) (token string, h Holder, err error) {
	var since string
	err = l.conn.QueryRowContext(ctx, "SELECT token, pid, program, host, since FROM writer").
		Scan(&token, &h.PID, &h.Program, &h.Host, &since)
	if err != nil {
		return "", Holder{}, err
	}
	h.Since, err = time.Parse(TimeFormat, since)
	return token, h, err
}

// release returns the lock. The file stays: deleting it could part two processes that are just about to lock it.
func (l *writerLock) release() {
	// The connection is closed for good, which ends its transaction; an error here leaves nothing that is locked.
	if l.conn != nil {
		_ = l.conn.Close()
	}
	_ = l.db.Close()
}

// TimeFormat is how times are kept as text, in UTC: of a fixed width, so that text compares as time does.
const TimeFormat = "2006-01-02T15:04:05.000000000Z"

// createFile makes an empty file that only its owner may read, and its name durable. An error that is fs.ErrExist
// leaves the file that is there unopened: closing it would drop the locks that SQLite has on it in this process.
func createFile(path string) error {
	f, err := durable.OS().Create(path, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return durable.SyncName(durable.OS(), path)
}
