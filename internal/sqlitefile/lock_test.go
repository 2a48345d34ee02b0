package sqlitefile_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile"
)

// usedBefore makes a file whose lock has the signature of somebody who has ended, and changes the lock with query.
func usedBefore(t *testing.T, query string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notes.db")
	db, err := notes.Open(t.Context(), path, sqlitefile.Options{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	lock, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path + ".lock")}).String())
	require.NoError(t, err)
	_, err = lock.ExecContext(t.Context(), query)
	require.NoError(t, err)
	require.NoError(t, lock.Close())
	return path
}

// Whoever signs loses the lock for a moment. Another one may sign in it and lose the lock in turn, so that the first gets
// it back under the other's name.
func TestOnlyWhoIsNamedInTheLockHasIt(t *testing.T) {
	path := usedBefore(t, "CREATE TRIGGER slips_in AFTER INSERT ON writer BEGIN UPDATE writer SET token = 'another', program = 'another'; END")
	_, err := notes.Open(t.Context(), path, sqlitefile.Options{})
	var inUse *sqlitefile.InUseError
	require.ErrorAs(t, err, &inUse)
	assert.Equal(t, "another", inUse.Holder.Program)
}

// As on a slow disk, where signing takes longer than others wait for the lock.
func TestWhileSomebodySignsTheOneBeforeIsNotTakenForTheHolder(t *testing.T) {
	var path string
	var met error
	name := "while_signing_" + rand.Text() // no name can be registered again
	require.NoError(t, sqlite.RegisterScalarFunction(name, 0, func(*sqlite.FunctionContext, []driver.Value) (driver.Value, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, met = notes.Open(ctx, path, sqlitefile.Options{})
		return nil, nil
	}))
	path = usedBefore(t, "CREATE TRIGGER slow AFTER DELETE ON writer BEGIN SELECT "+name+"(); END")
	db, err := notes.Open(t.Context(), path, sqlitefile.Options{})
	require.NoError(t, err)
	require.NoError(t, db.Close())
	assert.ErrorIs(t, met, context.DeadlineExceeded, "nobody has signed yet")
}
