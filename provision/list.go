package provision

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/internal/failures"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// FromCSV reads devices from CSV. The header names the template's parameters, and what [Options.Meta] keeps; name stands
// for the file in error messages. An empty value leaves the parameter out, so that the template's default is used, unless
// the options say otherwise. A row that can't be read becomes a device with its Err set, and costs no other.
//
// A failures.csv that [Run.WriteFailures] wrote can be read back for [Run.Amend]: the record's number, the run's id and
// Meta are taken over, cause and message are left aside. So can that of a fleet. nil options are the zero options of
// package datafile.
func FromCSV(r io.Reader, name string, opts *datafile.CSVOptions) iter.Seq2[Device, error] {
	return fromList(datafile.ReadCSV(r, opts), name)
}

// FromNDJSON reads devices from newline-delimited JSON, the form of AWS's own data files: an object on each line, whose
// members are the template's parameters and what [Options.Meta] keeps. Numbers and booleans are taken as they are
// written. An empty string leaves the parameter out as with FromCSV. A line that can't be read becomes a device with its
// Err set, and costs no other.
//
// A line with the members iotfleet:record and iotfleet:run, as in failures.csv, mends that record with [Run.Amend].
func FromNDJSON(r io.Reader, name string, opts *datafile.JSONOptions) iter.Seq2[Device, error] {
	return fromList(datafile.ReadJSON(r, opts), name)
}

func fromList(rows iter.Seq2[datafile.Row, error], name string) iter.Seq2[Device, error] {
	return func(yield func(Device, error) bool) {
		var columns []string // mostly those of the row before
		for row, err := range rows {
			if err != nil {
				yield(Device{}, fmt.Errorf("%s: %w", name, err))
				return
			}
			if now := row.Columns(); !slices.Equal(now, columns) {
				columns = now
			}
			if !yield(deviceOf(row, columns, name), nil) {
				return
			}
		}
	}
}

func deviceOf(row datafile.Row, columns []string, name string) Device {
	d := Device{Row: row.Values, Columns: columns, Source: fmt.Sprintf("%s:%d", name, row.Line), Err: row.Err}
	if !slices.ContainsFunc(columns, func(c string) bool { return strings.HasPrefix(c, failures.Prefix) }) {
		return d
	}
	if text, ok := d.Row[RecordColumn]; ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			d.Err = fmt.Errorf("%s is %s, not the number of a record", RecordColumn, rule.Quote(text))
		}
		d.Seq = n
	}
	d.RunID = d.Row[failures.RunColumn]
	d.Row, d.Columns = make(map[string]string, len(row.Values)), nil
	for column, v := range row.Values {
		column, _ = failures.FromText(column)
		v, marked := failures.FromText(v)
		into := &d.Row
		if meta, ok := strings.CutPrefix(column, failures.MetaPrefix); ok {
			column, into = meta, &d.Meta
		} else if strings.HasPrefix(column, failures.Prefix) {
			continue
		}
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)[column] = v
		if !marked {
			d.Columns = append(d.Columns, column)
		}
	}
	return d
}
