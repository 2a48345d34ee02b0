package sqliteledger

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"strings"
)

// applicationID marks a file as a ledger: "IoTf", at byte 68 of the file, where file(1) looks for it.
const applicationID = 0x496f5466

//go:embed schema_1.sql
var schema1 string

//go:embed schema_2.sql
var schema2 string

// migrations take a ledger from version i to version i+1. A version that was released is never changed; the next one is
// appended.
var migrations = []string{schema1, schema2}

// queryer is a database, a connection or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// version finds out which version of a ledger a database is.
func version(ctx context.Context, q queryer) (int, error) {
	var application, version, objects int
	err := q.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`).
		Scan(&application, &version, &objects)
	switch {
	case err != nil:
		return 0, err
	case application == 0 && version == 0 && objects == 0:
		return 0, fmt.Errorf("%w: it is an SQLite database with nothing in it", ErrNotLedger)
	case application != applicationID:
		return 0, fmt.Errorf("%w: it is an SQLite database of another program (application_id %#x instead of %#x)",
			ErrNotLedger, uint32(application), applicationID)
	case version < 1:
		return 0, fmt.Errorf("%w: its version is %d", ErrDamaged, version)
	}
	return version, nil
}

// migrate takes a database to the newest version, all the way or not at all.
func migrate(ctx context.Context, conn *sql.Conn, from int, steps []string) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for i := from; i < len(steps); i++ {
		if _, err := tx.ExecContext(ctx, steps[i]); err != nil {
			return fmt.Errorf("from version %d to %d: %w", i, i+1, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, len(steps))); err != nil {
		return err
	}
	return tx.Commit()
}

// checkSchema compares the tables, indexes and views with those of a new ledger. What people added is left alone.
func checkSchema(ctx context.Context, q queryer, steps []string) error {
	fresh, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer func() { _ = fresh.Close() }()
	conn, err := fresh.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := migrate(ctx, conn, 0, steps); err != nil {
		return err
	}
	want, err := objects(ctx, conn)
	if err != nil {
		return err
	}
	got, err := objects(ctx, q)
	if err != nil {
		return err
	}
	for name, sql := range want {
		switch have, ok := got[name]; {
		case !ok:
			return fmt.Errorf("%w: it has no %s", ErrDamaged, name)
		case have != sql:
			return fmt.Errorf("%w: its %s was changed to %s", ErrDamaged, name, strings.Join(strings.Fields(have), " "))
		}
	}
	return nil
}

// objects gives the SQL of each table, index and view.
func objects(ctx context.Context, q queryer) (map[string]string, error) {
	rows, err := q.QueryContext(ctx, "SELECT type || ' ' || name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := map[string]string{}
	for rows.Next() {
		var name, sql string
		if err := rows.Scan(&name, &sql); err != nil {
			return nil, err
		}
		list[name] = sql
	}
	return list, rows.Err()
}

// checkPages lets SQLite look at every page of the file, and sees that no device is missing.
func checkPages(ctx context.Context, q queryer) error {
	rows, err := q.QueryContext(ctx, "PRAGMA quick_check(3)")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var finding string
		if err := rows.Scan(&finding); err != nil {
			return err
		}
		if finding != "ok" {
			return fmt.Errorf("%w: %s", ErrDamaged, finding)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
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
