package provision

import (
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/datafile"
)

// FromCSV reads devices from CSV. The header names the template's parameters; name stands for the file in error messages.
// An empty value leaves the parameter out, so that the template's default is used. A row that can't be read becomes a
// device with its Err set, and costs no other.
//
// A failures.csv that [Run.WriteFailures] wrote can be read back for [Run.Amend]: the record's number and the run's id are
// taken over, cause and message are left aside. nil options are the zero options of package datafile, with OmitEmpty.
func FromCSV(r io.Reader, name string, opts *datafile.CSVOptions) iter.Seq2[Device, error] {
	if opts == nil {
		opts = &datafile.CSVOptions{OmitEmpty: true}
	}
	return func(yield func(Device, error) bool) {
		for row, err := range datafile.ReadCSV(r, opts) {
			if err != nil {
				yield(Device{}, fmt.Errorf("%s: %w", name, err))
				return
			}
			if !yield(deviceOf(row, name), nil) {
				return
			}
		}
	}
}

func deviceOf(row datafile.Row, name string) Device {
	d := Device{Row: row.Values, Source: fmt.Sprintf("%s:%d", name, row.Line), Err: row.Err}
	if text, ok := d.Row[RecordColumn]; ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			d.Err = fmt.Errorf("%s is %q, not the number of a record", RecordColumn, text)
		}
		d.Record = n
	}
	d.RunID = d.Row[RunColumn]
	for k := range d.Row {
		if strings.HasPrefix(k, "iotfleet:") {
			delete(d.Row, k)
		}
	}
	return d
}
