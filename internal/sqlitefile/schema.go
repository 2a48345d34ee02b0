package sqlitefile

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// version finds out which version of the kind a database is.
func (k *Kind) version(ctx context.Context, q Querier) (int, error) {
	var application, version, objects int
	err := q.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`).
		Scan(&application, &version, &objects)
	switch {
	case err != nil:
		return 0, err
	case application == 0 && version == 0 && objects == 0:
		return 0, fmt.Errorf("%w: it is an SQLite database with nothing in it", k.Foreign)
	case uint32(application) != k.ApplicationID:
		return 0, fmt.Errorf("%w: it is an SQLite database of another program (application_id %#x instead of %#x)",
			k.Foreign, uint32(application), k.ApplicationID)
	case version < 1:
		return 0, fmt.Errorf("%w: its version is %d", k.Damaged, version)
	}
	return version, nil
}

// migrate takes a database from one version to another, all the way or not at all.
func (k *Kind) migrate(ctx context.Context, conn *sql.Conn, from, to int) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for i := from; i < to; i++ {
		if _, err := tx.ExecContext(ctx, k.Steps[i]); err != nil {
			return fmt.Errorf("from version %d to %d: %w", i, i+1, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", k.ApplicationID, to)); err != nil {
		return err
	}
	return tx.Commit()
}

// checkSchema compares the tables, indexes and views with those of a new file of the version. What people added is left
// alone.
func (k *Kind) checkSchema(ctx context.Context, q Querier, version int) error {
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
	if err := k.migrate(ctx, conn, 0, version); err != nil {
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
			return fmt.Errorf("%w: it has no %s", k.Damaged, name)
		case have != sql:
			return fmt.Errorf("%w: its %s was changed to %s", k.Damaged, name, strings.Join(strings.Fields(have), " "))
		}
	}
	return nil
}

// objects returns the SQL of each table, index and view.
func objects(ctx context.Context, q Querier) (map[string]string, error) {
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

// checkPages lets SQLite look at every page of the file, and the kind at its rows.
func (k *Kind) checkPages(ctx context.Context, q Querier) error {
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
			return fmt.Errorf("%w: %s", k.Damaged, finding)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if k.Check == nil {
		return nil
	}
	return k.Check(ctx, q)
}
