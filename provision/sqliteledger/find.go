package sqliteledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// findBatch is how many keys are looked up with one query.
const findBatch = 500

// FindNames returns, for those of the names that the run has, the first Seq that has it.
func (l *Ledger) FindNames(ctx context.Context, names []string) (map[string]int64, error) {
	m, err := find(ctx, l, "name", holds, names)
	return m, l.db.Fail(ctx, "finding names", err)
}

// FindMatches returns, for those of the matches that the run has, the first Seq that has it.
func (l *Ledger) FindMatches(ctx context.Context, matches []provision.Match) (map[provision.Match]int64, error) {
	m, err := find(ctx, l, "match", holds, matches)
	return m, l.db.Fail(ctx, "finding matches", err)
}

// FindCertificates returns, for those of the certificate ids that a device of the run has, the first such device's Seq.
func (l *Ledger) FindCertificates(ctx context.Context, ids []string) (map[string]int64, error) {
	m, err := find(ctx, l, "certificate_id", "", ids)
	return m, l.db.Fail(ctx, "finding certificates", err)
}

// holds: devices that were refused before they were sent hold no name and no match.
const holds = " AND NOT (coalesce(verdict, '') = 'failed' AND attempts = 0)"

func find[K ~string](ctx context.Context, l *Ledger, column, and string, keys []K) (map[K]int64, error) {
	found := map[K]int64{}
	db, err := l.db.Reader()
	if err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for batch := range slices.Chunk(keys, findBatch) {
		args := anys(batch)
		query := fmt.Sprintf("SELECT %s, min(seq) FROM devices WHERE %[1]s IN (?%s)%s GROUP BY %[1]s",
			column, strings.Repeat(", ?", len(args)-1), and)
		if err := collect(ctx, db, query, args, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// collect adds what a query of keys and numbers returns.
func collect[K ~string](ctx context.Context, db *sql.DB, query string, args []any, found map[K]int64) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var (
			key string
			seq int64
		)
		if err := rows.Scan(&key, &seq); err != nil {
			return err
		}
		found[K(key)] = seq
	}
	return rows.Err()
}

// Run returns the run's record, or [provision.ErrNoRun].
func (l *Ledger) Run(ctx context.Context) (*provision.RunRecord, error) {
	list, err := all(ctx, l, runColumns, "runs LIMIT 1")
	if err == nil && len(list) == 0 {
		err = provision.ErrNoRun
	}
	if err != nil {
		return nil, l.db.Fail(ctx, "reading the run", err)
	}
	return list[0], nil
}

// Parts returns all parts in order of Number.
func (l *Ledger) Parts(ctx context.Context) ([]*provision.PartRecord, error) {
	list, err := all(ctx, l, partColumns, "parts ORDER BY number")
	return list, l.db.Fail(ctx, "reading the parts", err)
}

// Orphans returns all orphans in the order they were first applied.
func (l *Ledger) Orphans(ctx context.Context) ([]*provision.Orphan, error) {
	list, err := all(ctx, l, orphanColumns, "orphans ORDER BY position")
	return list, l.db.Fail(ctx, "reading the orphans", err)
}

func all[R any](ctx context.Context, l *Ledger, columns []column[R], from string) (list []*R, err error) {
	db, err := l.db.Reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT "+names(columns)+" FROM "+from)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
			list = nil
		}
	}()
	s := newScanner(columns)
	for rows.Next() {
		r, _, err := s.scan(rows)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", len(list)+1, err)
		}
		list = append(list, r)
	}
	return list, nil
}

// Counts returns the number of devices by verdict, and of those that are Failed by cause, all as of one moment.
func (l *Ledger) Counts(ctx context.Context) (*provision.Counts, error) {
	c, err := l.counts(ctx)
	return c, l.db.Fail(ctx, "counting devices", err)
}

func (l *Ledger) counts(ctx context.Context) (c *provision.Counts, err error) {
	db, err := l.db.Reader()
	if err != nil {
		return nil, err
	}
	// One statement sees one state of the file.
	rows, err := db.QueryContext(ctx, `SELECT 0, verdict, count(*) FROM devices GROUP BY verdict
		UNION ALL SELECT 1, cause, count(*) FROM devices WHERE verdict = ? GROUP BY cause`, string(provision.Failed))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
			c = nil
		}
	}()
	c = &provision.Counts{Verdicts: map[provision.Verdict]int64{}, Causes: map[provision.Cause]int64{}}
	for rows.Next() {
		var (
			ofFailed bool
			value    sql.NullString
			n        int64
		)
		if err := rows.Scan(&ofFailed, &value, &n); err != nil {
			return nil, err
		}
		if ofFailed {
			c.Causes[provision.Cause(value.String)] += n
		} else {
			c.Verdicts[provision.Verdict(value.String)] += n
		}
	}
	return c, nil
}
