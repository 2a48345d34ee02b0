package sqliteledger

import (
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/version-N.sql and .json for the version of today")

// A ledger of each version is kept in testdata as SQL, with what it holds as JSON.
func released(version int) (dump, holds string) {
	base := fmt.Sprintf("testdata/version-%d", version)
	return base + ".sql", base + ".json"
}

func TestALedgerOfEveryVersionOpensAndHoldsWhatItHeld(t *testing.T) {
	if *update {
		writeVersion(t, len(ledgerFile.Steps))
	}
	for v := 1; v <= len(ledgerFile.Steps); v++ {
		dump, holds := released(v)
		script, err := os.ReadFile(dump)
		require.NoError(t, err, "run go test -update once the schema is as it shall stay")
		want, err := os.ReadFile(holds)
		require.NoError(t, err)
		path := filepath.Join(t.TempDir(), "fleet.db")
		mustExec(t, path, string(script))
		l := mustOpen(t, path)
		var held holding // members that came later are zero
		require.NoError(t, json.Unmarshal(want, &held))
		assert.JSONEq(t, held.text(t), fingerprint(t, l))
		require.NoError(t, l.Apply(t.Context(), step(4)), "and the run goes on")
	}
}

// writeVersion keeps a ledger of today.
func writeVersion(t *testing.T, version int) {
	t.Helper()
	path := fleet(t, 4)
	l := mustOpen(t, path)
	holds := fingerprint(t, l)
	require.NoError(t, l.Close())
	dump, file := released(version)
	require.NoError(t, os.WriteFile(dump, []byte(dumpSQL(t, plain(t, path))), 0o644))
	require.NoError(t, os.WriteFile(file, []byte(holds+"\n"), 0o644))
}

// dumpSQL writes a database as sqlite3's .dump does.
func dumpSQL(t *testing.T, db *sql.DB) string {
	t.Helper()
	lines := func(query string) []string {
		rows, err := db.QueryContext(t.Context(), query)
		require.NoError(t, err)
		defer rows.Close()
		var list []string
		for rows.Next() {
			var s string
			require.NoError(t, rows.Scan(&s))
			list = append(list, s)
		}
		require.NoError(t, rows.Err())
		return list
	}
	out := lines(`SELECT 'PRAGMA application_id = ' || application_id || ';' FROM pragma_application_id
		UNION ALL SELECT 'PRAGMA user_version = ' || user_version || ';' FROM pragma_user_version`)
	out = append(out, lines("SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL")...)
	for _, table := range lines("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name") {
		columns := lines("SELECT 'quote(' || name || ')' FROM pragma_table_info('" + table + "')")
		out = append(out, lines("SELECT 'INSERT INTO "+table+" VALUES (' || "+strings.Join(columns, " || ', ' || ")+" || ');' FROM "+table)...)
	}
	return strings.Join(out, "\n") + "\n"
}

func TestAReleasedVersionIsNeverChanged(t *testing.T) {
	for v := 1; v <= len(ledgerFile.Steps); v++ {
		dump, _ := released(v)
		script, err := os.ReadFile(dump)
		require.NoError(t, err)
		old, today := filepath.Join(t.TempDir(), "old.db"), filepath.Join(t.TempDir(), "today.db")
		mustExec(t, old, string(script))
		mustExec(t, today, strings.Join(ledgerFile.Steps[:v], "\n"))
		want, got := objects(t, old), objects(t, today)
		assert.Equal(t, want, got, "version %d as it was released, and as it would be made today", v)
	}
}

// objects are the tables, indexes and views of a database.
func objects(t *testing.T, path string) []string {
	t.Helper()
	rows, err := plain(t, path).QueryContext(t.Context(), "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
	require.NoError(t, err)
	defer rows.Close()
	var list []string
	for rows.Next() {
		var sql string
		require.NoError(t, rows.Scan(&sql))
		list = append(list, sql)
	}
	require.NoError(t, rows.Err())
	return list
}

// next are versions to come, for tests.
var next = []string{
	`ALTER TABLE devices ADD COLUMN colour TEXT; UPDATE devices SET colour = 'grey' WHERE verdict = 'provisioned';
	 CREATE INDEX devices_by_colour ON devices (colour)`,
	`CREATE TABLE paint (colour TEXT PRIMARY KEY); INSERT INTO paint SELECT DISTINCT colour FROM devices WHERE colour IS NOT NULL`,
}

func TestAnOlderLedgerIsBroughtUpToDateAndLosesNothing(t *testing.T) {
	for upTo := range len(next) + 1 {
		path := fleet(t, 6)
		l := mustOpen(t, path)
		before := fingerprint(t, l)
		require.NoError(t, l.Close())

		steps := slices.Concat(ledgerFile.Steps, next[:upTo])
		for range 2 { // the second time there is nothing to do
			l, err := Open(t.Context(), path, &Options{steps: steps})
			require.NoError(t, err)
			assert.Equal(t, before, fingerprint(t, l))
			require.NoError(t, l.Close())
		}
		var v int
		require.NoError(t, plain(t, path).QueryRowContext(t.Context(), "PRAGMA user_version").Scan(&v))
		assert.Equal(t, len(ledgerFile.Steps)+upTo, v)
		if upTo == len(next) {
			var n int
			require.NoError(t, plain(t, path).QueryRowContext(t.Context(), "SELECT count(*) FROM paint").Scan(&n))
			assert.Equal(t, 1, n)
		}
		if upTo > 0 {
			_, err := Open(t.Context(), path, nil)
			require.ErrorIs(t, err, ErrNewer, "the older program")
			_, err = OpenReadOnly(t.Context(), path, nil)
			require.ErrorIs(t, err, ErrNewer, "the older program, reading")
		}
	}
}

func TestAMigrationThatFailsLeavesTheOlderLedger(t *testing.T) {
	path := fleet(t, 6)
	before := contents(t, path)
	_, err := Open(t.Context(), path, &Options{steps: slices.Concat(ledgerFile.Steps, next[:1], []string{"CREATE TABLE runs (x)"})})
	require.ErrorContains(t, err, fmt.Sprintf("bringing its tables up to date: from version %d to %d", len(ledgerFile.Steps)+1, len(ledgerFile.Steps)+2))
	assert.Equal(t, before[0], contents(t, path)[0])
	l := mustOpen(t, path)
	require.NoError(t, l.Apply(t.Context(), step(6)))
}

func TestAnOlderLedgerIsNotReadWithoutBeingBroughtUpToDate(t *testing.T) {
	path := fleet(t, 2)
	_, err := OpenReadOnly(t.Context(), path, &Options{steps: slices.Concat(ledgerFile.Steps, next)})
	require.ErrorIs(t, err, ErrOlder)
	require.ErrorContains(t, err, "open it for writing once")
}
