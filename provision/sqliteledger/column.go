package sqliteledger

import (
	"bytes"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

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

// timeFormat has a fixed width, so that text compares as time does.
const timeFormat = "2006-01-02T15:04:05.000000000Z"

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
			return t.Format(timeFormat), nil
		},
		func(r *R, v any) error {
			switch v := v.(type) {
			case nil:
				return nil
			case string:
				t, err := time.Parse(timeFormat, v)
				if err != nil {
					return fmt.Errorf("it holds %q, not a time such as %s", v, timeFormat)
				}
				*at(r) = t
				return nil
			}
			return fmt.Errorf("it holds %v, not a time such as %s", v, timeFormat)
		},
	}
}

// asJSON keeps a map or slice of strings as JSON. Nil is NULL. What is not valid UTF-8 is made so, for the reader; exact
// keeps the bytes.
func asJSON[R any, V map[string]string | []string](name string, at func(*R) *V) column[R] {
	return column[R]{name,
		func(r *R) (any, error) {
			v := *at(r)
			if v == nil {
				return nil, nil
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

// exactFields are the fields of a device that are kept as JSON, byte for byte.
type exactFields struct {
	Policies []exactText    `json:"policies"`
	Row      [][2]exactText `json:"row"` // keys and values
	Original [][2]exactText `json:"original"`
}

// exactText is a text in hexadecimal.
type exactText string

func (e exactText) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, []byte(e)), nil }

func (e *exactText) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	*e = exactText(raw)
	return err
}

// exact keeps Policies, Row and Original when JSON cannot, because they are not valid UTF-8. It comes after their own
// columns.
func exact() column[provision.DeviceRecord] {
	return column[provision.DeviceRecord]{"exact",
		func(d *provision.DeviceRecord) (any, error) {
			if validUTF8(d) {
				return nil, nil
			}
			e := exactFields{Row: pairs(d.Row), Original: pairs(d.Original)}
			for _, p := range d.Policies {
				e.Policies = append(e.Policies, exactText(p))
			}
			return json.Marshal(e)
		},
		func(d *provision.DeviceRecord, v any) error {
			switch v := v.(type) {
			case nil:
				return nil
			case []byte:
				var e exactFields
				if err := json.Unmarshal(v, &e); err != nil {
					return err
				}
				d.Row, d.Original = unpair(e.Row), unpair(e.Original)
				d.Policies = d.Policies[:0]
				for _, p := range e.Policies {
					d.Policies = append(d.Policies, string(p))
				}
				return nil
			}
			return fmt.Errorf("it holds %v, not bytes", v)
		},
	}
}

func pairs(m map[string]string) [][2]exactText {
	if m == nil {
		return nil
	}
	list := make([][2]exactText, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, [2]exactText{exactText(k), exactText(m[k])})
	}
	return list
}

func unpair(list [][2]exactText) map[string]string {
	if list == nil {
		return nil
	}
	m := make(map[string]string, len(list))
	for _, p := range list {
		m[string(p[0])] = string(p[1])
	}
	return m
}

func validUTF8(d *provision.DeviceRecord) bool {
	for _, m := range []map[string]string{d.Row, d.Original} {
		for k, v := range m {
			if !utf8.ValidString(k) || !utf8.ValidString(v) {
				return false
			}
		}
	}
	for _, p := range d.Policies {
		if !utf8.ValidString(p) {
			return false
		}
	}
	return true
}
