package sqlitefile_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile"
	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile/faultvfs"
)

var notes = sqlitefile.Kind{
	Name: "notebook", ApplicationID: 7, Steps: []string{"CREATE TABLE notes (text TEXT)"},
	InUse: errors.New("in use"), Foreign: errors.New("no notebook"), Newer: errors.New("newer"), Older: errors.New("older"),
	Damaged: errors.New("damaged"), ReadOnly: errors.New("read only"), Closed: errors.New("closed"),
}

func write(ctx context.Context, db *sqlitefile.DB, text string) error {
	return db.Write(ctx, "taking a note", func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "INSERT INTO notes VALUES (?)", text)
		return err
	})
}

// A process that is killed between writing a change and syncing it leaves a change that the next one reads. It must not
// be taken away by a power cut after that.
func TestWhatAKilledProcessLeftUnsyncedIsSyncedWhenTheFileIsOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.db")
	armed := false
	dying, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
		if armed && op.Kind == faultvfs.Sync {
			return faultvfs.Stop
		}
		return faultvfs.None
	})
	require.NoError(t, err)
	db, err := notes.Open(t.Context(), path, sqlitefile.Options{VFS: dying.Name()})
	require.NoError(t, err)
	armed = true
	require.Error(t, write(t.Context(), db, "written, not synced"))
	_ = db.Close()
	require.True(t, dying.Stopped())
	require.NoError(t, dying.Close())

	var synced []string
	disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
		if op.Kind == faultvfs.Sync {
			synced = append(synced, op.File)
		}
		return faultvfs.None
	})
	require.NoError(t, err)
	db, err = notes.Open(t.Context(), path, sqlitefile.Options{VFS: disk.Name()})
	require.NoError(t, err)
	assert.Contains(t, synced, "notes.db-wal", "before anybody reads what is in it")
	read, err := db.Reader()
	require.NoError(t, err)
	var text string
	require.NoError(t, read.QueryRowContext(t.Context(), "SELECT text FROM notes").Scan(&text))
	assert.Equal(t, "written, not synced", text)
	require.NoError(t, db.Close())
	require.NoError(t, disk.Close())
}

// SQLite itself goes on in a file without a name, and what it commits there is gone with the process. The log alone has
// the last changes, and whoever makes a new index writes over what this process has.
func TestAFileThatWasDeletedOrMovedAwayIsNoticedByTheNextChange(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a file that is open cannot be deleted or moved")
	}
	for name, lose := range map[string]func(path string) error{
		"deleted": os.Remove,
		"moved":   func(path string) error { return os.Rename(path, path+".bak") },
		"replaced": func(path string) error {
			return errors.Join(os.Rename(path, path+".bak"), os.WriteFile(path, []byte("another"), 0o600))
		},
	} {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			t.Run("notes.db"+suffix+" "+name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "notes.db")
				db, err := notes.Open(t.Context(), path, sqlitefile.Options{})
				require.NoError(t, err)
				require.NoError(t, write(t.Context(), db, "kept"))
				require.NoError(t, lose(path+suffix))
				require.ErrorContains(t, write(t.Context(), db, "lost"), "notes.db"+suffix+" was deleted or moved away")
				require.Error(t, write(t.Context(), db, "lost"), "nor is it forgotten")
				require.NoError(t, db.Close())
			})
		}
	}
}

func TestAFileIsInPlaceAfterItsLogWasWrittenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.db")
	db, err := notes.Open(t.Context(), path, sqlitefile.Options{})
	require.NoError(t, err)
	require.NoError(t, write(t.Context(), db, "one"))
	_, err = db.Conn().ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)")
	require.NoError(t, err)
	require.NoError(t, write(t.Context(), db, "two"))
	require.NoError(t, db.Close())
}
