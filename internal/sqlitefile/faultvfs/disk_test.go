package faultvfs_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile/faultvfs"
)

func open(t *testing.T, path string, disk *faultvfs.Disk, pragmas string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?vfs="+disk.Name()+pragmas)
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	return db
}

func TestADiskWithoutFaultsIsLikeAnyOther(t *testing.T) {
	var kinds []faultvfs.Kind
	disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
		assert.Equal(t, len(kinds)+1, op.N)
		kinds = append(kinds, op.Kind)
		return faultvfs.None
	})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path, disk, "")
	for i := range 100 {
		_, err := db.ExecContext(t.Context(), "CREATE TABLE IF NOT EXISTS x (i)")
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), "INSERT INTO x VALUES (?)", i)
		require.NoError(t, err)
	}
	require.ErrorContains(t, disk.Close(), "still open")
	require.NoError(t, db.Close())
	for _, k := range []faultvfs.Kind{faultvfs.Create, faultvfs.Write, faultvfs.Sync, faultvfs.Delete} {
		assert.Contains(t, kinds, k)
	}
	assert.Equal(t, len(kinds), disk.Ops())
	require.ErrorContains(t, disk.CutPower(rand.New(rand.NewPCG(1, 1))), "has not stopped")
	require.NoError(t, disk.Close())
	require.NoError(t, disk.Close())

	plain, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer plain.Close()
	var n int
	require.NoError(t, plain.QueryRowContext(t.Context(), "SELECT count(*) FROM x").Scan(&n))
	assert.Equal(t, 100, n)
}

func TestAFaultIsWhatTheDatabaseIsTold(t *testing.T) {
	for fault, text := range map[faultvfs.Fault]string{
		faultvfs.Fail: "disk I/O error", faultvfs.Full: "full", faultvfs.Stop: "disk I/O error", faultvfs.Tear: "disk I/O error",
	} {
		armed := false
		disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
			if armed && op.Kind == faultvfs.Write {
				armed = false
				return fault
			}
			return faultvfs.None
		})
		require.NoError(t, err)
		db := open(t, filepath.Join(t.TempDir(), "x.db"), disk, "&_pragma=journal_mode(WAL)")
		_, err = db.ExecContext(t.Context(), "CREATE TABLE x (i)")
		require.NoError(t, err)
		armed = true
		_, err = db.ExecContext(t.Context(), "INSERT INTO x VALUES (1)")
		require.ErrorContains(t, err, text)
		_, err = db.ExecContext(t.Context(), "INSERT INTO x VALUES (2)")
		dead := fault == faultvfs.Stop || fault == faultvfs.Tear
		assert.Equal(t, dead, err != nil, "%v", err)
		assert.Equal(t, dead, disk.Stopped())
		require.NoError(t, db.Close())
		require.NoError(t, disk.Close())
	}
}

// A database that does not sync loses what it was told to keep. If it did not here, nothing would be proved by one that
// syncs and keeps it.
func TestAPowerCutTakesWhatWasNotSynced(t *testing.T) {
	rows := func(pragma string, seed uint64) (n int, damaged bool) {
		stop := false
		disk, err := faultvfs.New(func(faultvfs.Op) faultvfs.Fault {
			if stop {
				return faultvfs.Stop
			}
			return faultvfs.None
		})
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), fmt.Sprint(seed, pragma, ".db"))
		db := open(t, path, disk, "&_pragma=journal_mode(WAL)&_pragma=synchronous("+pragma+")")
		_, err = db.ExecContext(t.Context(), "CREATE TABLE x (i)")
		require.NoError(t, err)
		for i := range 20 {
			_, err := db.ExecContext(t.Context(), "INSERT INTO x VALUES (?)", i)
			require.NoError(t, err)
		}
		stop = true
		_, err = db.ExecContext(t.Context(), "INSERT INTO x VALUES (20)")
		require.Error(t, err)
		require.NoError(t, db.Close())
		require.NoError(t, disk.CutPower(rand.New(rand.NewPCG(seed, 0))))
		require.NoError(t, disk.Close())
		plain, err := sql.Open("sqlite", path)
		require.NoError(t, err)
		defer plain.Close()
		return n, plain.QueryRowContext(t.Context(), "SELECT count(*) FROM x").Scan(&n) != nil
	}
	lost := 0
	for seed := range uint64(10) {
		n, damaged := rows("FULL", seed)
		assert.Equal(t, 20, n)
		assert.False(t, damaged)
		if n, damaged := rows("OFF", seed); damaged || n < 20 {
			lost++
		}
	}
	assert.Greater(t, lost, 5, "power cuts without syncs that lost something, of 10")
}

func TestATornWriteLeavesItsFirstHalf(t *testing.T) {
	var torn faultvfs.Op
	disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
		if op.Kind == faultvfs.Write && op.Size > 1000 {
			torn = op
			return faultvfs.Tear
		}
		return faultvfs.None
	})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "x.db")
	db := open(t, path, disk, "")
	_, err = db.ExecContext(t.Context(), "CREATE TABLE x (i)")
	require.Error(t, err)
	require.NoError(t, db.Close())
	require.NoError(t, disk.Close())
	info, err := os.Stat(filepath.Join(filepath.Dir(path), torn.File))
	require.NoError(t, err)
	assert.Equal(t, torn.Offset+torn.Size/2, info.Size(), torn.String())
}
