package provision

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/internal/failures"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// RecordColumn is the column of failures.csv that holds the number of the record. By it a mended record takes the place
// of the one it mends, whatever else was changed.
const RecordColumn = failures.RecordColumn

// WriteFailures writes the devices that are NoKey, Failed or Unknown as CSV: their rows, with the numbers of the
// records, the run's id, the causes and AWS's texts. Mended, and read with FromCSV, it can be given to Amend.
func (r *Run) WriteFailures(ctx context.Context, w io.Writer) error {
	run, err := r.ledger.Run(ctx)
	if err != nil {
		return err
	}
	return failures.Write(w, r.shape.columns(), false, func(yield func(*failures.Record, error) bool) {
		for d, err := range r.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{NoKey, Failed, Unknown}}) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&failures.Record{Seq: d.Seq, Run: run.ID, Cause: string(d.Cause), Message: d.Message, Row: d.Row}, nil) {
				return
			}
		}
	})
}

// FromCSV reads devices from CSV. The header names the template's parameters; name stands for the file in error
// messages. An empty value leaves the parameter out, so that the template's default is used. A row that can't be read
// becomes a device with its Err set, and costs no other.
//
// A failures.csv that [Run.WriteFailures] wrote can be read back for [Run.Amend]: the record's number and the run's id
// are taken over, cause and message are left aside. So can that of a fleet. nil options are the zero options of package datafile, with
// OmitEmpty.
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
			d.Err = fmt.Errorf("%s is %s, not the number of a record", RecordColumn, rule.Quote(text))
		}
		d.Seq = n
	}
	d.RunID = d.Row[failures.RunColumn]
	for k := range d.Row {
		if strings.HasPrefix(k, failures.Prefix) {
			delete(d.Row, k)
		}
	}
	return d
}
