package sqliteledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// A page of devices ends after so many rows, or so many bytes of text.
const (
	pageRows  = 512
	pageBytes = 4 << 20
)

// Devices yields the devices that the filter lets through, in order of Seq. It reads them by the page, at most 512
// devices or about 4 MB at once, and holds neither a lock nor a read transaction while the caller works: changes made
// meanwhile show from the next page on. The sequence can be read again.
func (l *Ledger) Devices(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
	return func(yield func(*provision.DeviceRecord, error) bool) {
		doing := "reading devices"
		f, left := f, f.Limit
		for {
			want := pageRows
			if f.Limit > 0 {
				want = min(want, left)
			}
			page, more, err := l.page(ctx, f, want)
			if err != nil {
				yield(nil, l.db.Fail(ctx, doing, err))
				return
			}
			for _, d := range page {
				if err := context.Cause(ctx); err != nil {
					yield(nil, l.db.Fail(ctx, doing, err))
					return
				}
				if !yield(d, nil) {
					return
				}
			}
			left -= len(page)
			if !more || f.Limit > 0 && left == 0 {
				return
			}
			f.AfterSeq = page[len(page)-1].Seq
		}
	}
}

// page reads up to limit devices. more means that there may be others after them.
func (l *Ledger) page(ctx context.Context, f provision.DeviceFilter, limit int) (page []*provision.DeviceRecord, more bool, err error) {
	db, err := l.db.Reader()
	if err != nil {
		return nil, false, err
	}
	query, args := pageQuery(f, limit)
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	s, bytes := newScanner(deviceColumns), 0
	for rows.Next() {
		d, size, err := s.scan(rows)
		if err != nil {
			at := f.AfterSeq
			if len(page) > 0 {
				at = page[len(page)-1].Seq
			}
			return nil, false, fmt.Errorf("the device after number %d: %w", at, err)
		}
		page = append(page, d)
		if bytes += size; bytes >= pageBytes {
			return page, true, rows.Close()
		}
	}
	return page, len(page) == limit, errors.Join(rows.Err(), rows.Close())
}

// pageQuery finds the next devices by the index that narrows most: the name's, else the part's, else the one of devices
// with existing certificates, else the verdict's, else the order of the table itself. Each index has the devices of one
// value in order of seq, so several verdicts are merged from one query each, and no query sorts more than a few pages.
func pageQuery(f provision.DeviceFilter, limit int) (string, []any) {
	var (
		where []string
		fixed []any
	)
	in := func(column string, values []any) {
		where = append(where, fmt.Sprintf("coalesce(%s, '') IN (?%s)", column, strings.Repeat(", ?", len(values)-1)))
		fixed = append(fixed, values...)
	}
	// A plus keeps SQLite from choosing that column's index.
	if f.Name != "" {
		where, fixed = append(where, "name = ?"), append(fixed, f.Name)
	}
	if f.Part != 0 {
		column := "part"
		if f.Name != "" {
			column = "+part"
		}
		where, fixed = append(where, column+" = ?"), append(fixed, f.Part)
	}
	table := "devices"
	if f.Existing {
		where = append(where, "existing IS NOT NULL AND existing <> '[]'")
		if f.Name == "" && f.Part == 0 {
			table += " INDEXED BY devices_with_existing" // SQLite does not know how few they are
		}
	}
	single := f.Name != "" || f.Part != 0 || f.Existing || len(f.Verdicts) == 0 // one index, or none, has all of it in order
	if single && len(f.Verdicts) > 0 {
		in("verdict", anys(f.Verdicts))
	}
	if len(f.Causes) > 0 {
		in("cause", anys(f.Causes))
	}
	where, fixed = append(where, "seq > ?"), append(fixed, max(f.AfterSeq, 0))
	one := func(condition string) string {
		return "SELECT seq FROM devices WHERE " + strings.Join(append([]string{condition}, where...), " AND ") +
			" ORDER BY seq LIMIT ?"
	}
	if single {
		return "SELECT " + names(deviceColumns) + " FROM " + table + " WHERE " + strings.Join(where, " AND ") + " ORDER BY seq LIMIT ?",
			append(fixed, limit)
	}
	var (
		queries []string
		args    []any
	)
	for _, v := range slices.Compact(slices.Sorted(slices.Values(f.Verdicts))) {
		condition := "verdict = ?"
		if v == "" {
			condition = "verdict IS NULL"
		} else {
			args = append(args, string(v))
		}
		queries = append(queries, "SELECT seq FROM ("+one(condition)+")")
		args = append(append(args, fixed...), limit)
	}
	return "SELECT " + names(deviceColumns) + " FROM devices WHERE seq IN (" +
		"SELECT seq FROM (" + strings.Join(queries, " UNION ALL ") + ") ORDER BY seq LIMIT ?) ORDER BY seq", append(args, limit)
}

func anys[S ~string](list []S) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}
