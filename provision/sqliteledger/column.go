package sqliteledger

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// column is one column of a table and the field of a record that it keeps.
type column[R any] struct {
	name string
	get  func(*R) (any, error) // what to bind
	set  func(*R, any) error   // takes what was read
}

// names lists columns for a SELECT or INSERT.
func names[R any](columns []column[R]) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = c.name
	}
	return strings.Join(list, ", ")
}

// bind appends the values of a record to args, in the order of the columns.
func bind[R any](columns []column[R], r *R, args []any) ([]any, error) {
	for _, c := range columns {
		v, err := c.get(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		args = append(args, v)
	}
	return args, nil
}

// scanner reads rows into records.
type scanner[R any] struct {
	columns []column[R]
	values  []any
	into    []any
}

func newScanner[R any](columns []column[R]) *scanner[R] {
	s := &scanner[R]{columns: columns, values: make([]any, len(columns)), into: make([]any, len(columns))}
	for i := range s.values {
		s.into[i] = &s.values[i]
	}
	return s
}

// scan reads the current row. size is about how many bytes of text it has.
func (s *scanner[R]) scan(rows *sql.Rows) (r *R, size int, err error) {
	if err := rows.Scan(s.into...); err != nil {
		return nil, 0, err
	}
	r = new(R)
	for i, c := range s.columns {
		if err := c.set(r, s.values[i]); err != nil {
			return nil, 0, fmt.Errorf("%w: column %s: %w", ErrDamaged, c.name, err)
		}
		switch v := s.values[i].(type) {
		case string:
			size += len(v)
		case []byte:
			size += len(v)
		}
	}
	return r, size, nil
}

// text keeps a string. The empty one is NULL.
func text[R any, S ~string](name string, at func(*R) *S) column[R] {
	return column[R]{name,
		func(r *R) (any, error) {
			if s := *at(r); s != "" {
				return string(s), nil
			}
			return nil, nil
		},
		func(r *R, v any) error {
			switch v := v.(type) {
			case nil:
			case string:
				*at(r) = S(v)
			default:
				return fmt.Errorf("it holds %v, not a text", v)
			}
			return nil
		},
	}
}

// number keeps an integer.
func number[R any, N ~int | ~int64](name string, at func(*R) *N) column[R] {
	return column[R]{name,
		func(r *R) (any, error) { return int64(*at(r)), nil },
		func(r *R, v any) error {
			n, ok := v.(int64)
			if *at(r) = N(n); !ok || int64(N(n)) != n {
				return fmt.Errorf("it holds %v, not a whole number", v)
			}
			return nil
		},
	}
}

// numberOrNone keeps an integer of which 0 means none, as NULL.
func numberOrNone[R any, N ~int | ~int64](name string, at func(*R) *N) column[R] {
	c := number(name, at)
	return column[R]{name,
		func(r *R) (any, error) {
			if *at(r) == 0 {
				return nil, nil
			}
			return c.get(r)
		},
		func(r *R, v any) error {
			if v == nil {
				return nil
			}
			return c.set(r, v)
		},
	}
}

// yesNo keeps a bool as 0 or 1.
func yesNo[R any](name string, at func(*R) *bool) column[R] {
	return column[R]{name,
		func(r *R) (any, error) {
			if *at(r) {
				return int64(1), nil
			}
			return int64(0), nil
		},
		func(r *R, v any) error {
			if v != int64(0) && v != int64(1) {
				return fmt.Errorf("it holds %v, not 0 or 1", v)
			}
			*at(r) = v == int64(1)
			return nil
		},
	}
}

// moment keeps a time, in UTC and to the nanosecond. The zero time is NULL.
func moment[R any](name string, at func(*R) *time.Time) column[R] {
	return column[R]{name,
		func(r *R) (any, error) {
			t := at(r).UTC()
			if t.IsZero() {
				return nil, nil
			}
			if y := t.Year(); y < 0 || y > 9999 {
				return nil, fmt.Errorf("the year %d is not one of 0 to 9999", y)
			}
			return t.Format(sqlitefile.TimeFormat), nil
		},
		func(r *R, v any) error {
			switch v := v.(type) {
			case nil:
				return nil
			case string:
				t, err := time.Parse(sqlitefile.TimeFormat, v)
				if err != nil {
					return fmt.Errorf("it holds %q, not a time such as %s", v, sqlitefile.TimeFormat)
				}
				*at(r) = t
				return nil
			}
			return fmt.Errorf("it holds %v, not a time such as %s", v, sqlitefile.TimeFormat)
		},
	}
}

// asJSON keeps a map or slice as JSON. Nil is NULL. A text that is not UTF-8 is an error: JSON would change
// it.
func asJSON[R any, V map[string]string | []string | []provision.ExistingCertificate](name string, at func(*R) *V) column[R] {
	return column[R]{name,
		func(r *R) (any, error) {
			v := *at(r)
			if v == nil {
				return nil, nil
			}
			if err := checkUTF8(v); err != nil {
				return nil, err
			}
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(v); err != nil {
				return nil, err
			}
			return strings.TrimSuffix(b.String(), "\n"), nil
		},
		func(r *R, v any) error {
			switch v := v.(type) {
			case nil:
				return nil
			case string:
				if err := json.Unmarshal([]byte(v), at(r)); err != nil {
					return fmt.Errorf("it holds other JSON than it should: %w", err)
				}
				return nil
			}
			return fmt.Errorf("it holds %v, not JSON", v)
		},
	}
}

// checkUTF8 names the first text that is not UTF-8.
func checkUTF8(v any) error {
	switch v := v.(type) {
	case []string:
		for _, s := range v {
			if !utf8.ValidString(s) {
				return fmt.Errorf("%s is not UTF-8", rule.Quote(s))
			}
		}
	case []provision.ExistingCertificate:
		for _, c := range v {
			if !utf8.ValidString(c.ID) || !utf8.ValidString(c.ARN) {
				return fmt.Errorf("certificate %s is not UTF-8", rule.Quote(c.ID))
			}
		}
	case map[string]string:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if !utf8.ValidString(k) || !utf8.ValidString(v[k]) {
				return fmt.Errorf("column %s is not UTF-8", rule.Quote(k))
			}
		}
	}
	return nil
}
