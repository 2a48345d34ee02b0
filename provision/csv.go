package provision

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// RecordColumn is the column of failures.csv that holds the number of the record. By it a mended record takes the place
// of the one it mends, whatever else was changed.
const RecordColumn = "iotfleet:record"

// The other columns of failures.csv beside the row's own.
const (
	// runColumn holds the run's id, since other runs have records of the same number.
	runColumn = "iotfleet:run"
	// causeColumn and messageColumn hold why it failed. They are for people and are not read back.
	causeColumn   = "iotfleet:cause"
	messageColumn = "iotfleet:message"
)

// WriteFailures writes the devices that are NoKey, Failed or Unknown as CSV: their rows, with the numbers of the records, the
// run's id, the causes and AWS's texts. Mended, and read with FromCSV, it can be given to Amend.
func (r *Run) WriteFailures(ctx context.Context, w io.Writer) error {
	given := r.shape.columns()
	extra := map[string]bool{} // columns that the template does not know, which may be why a record failed
	unfinished := DeviceFilter{Verdicts: []Verdict{NoKey, Failed, Unknown}}
	for d, err := range r.ledger.Devices(ctx, unfinished) {
		if err != nil {
			return err
		}
		for k := range d.Row {
			if !slices.Contains(given, k) {
				extra[k] = true
			}
		}
	}
	run, err := r.ledger.Run(ctx)
	if err != nil {
		return err
	}
	columns := append(given, slices.Sorted(maps.Keys(extra))...)
	out := csv.NewWriter(w)
	if err := out.Write(append([]string{RecordColumn, runColumn, causeColumn, messageColumn}, columns...)); err != nil {
		return err
	}
	for d, err := range r.ledger.Devices(ctx, unfinished) {
		if err != nil {
			return err
		}
		line := []string{strconv.FormatInt(d.Seq, 10), run.ID, string(d.Cause), d.Message}
		for _, c := range columns {
			line = append(line, d.Row[c])
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// FromCSV reads devices from CSV. The header names the template's parameters; name stands for the file in error
// messages. An empty value leaves the parameter out, so that the template's default is used. A row that can't be read
// becomes a device with its Err set, and costs no other.
//
// A failures.csv that [Run.WriteFailures] wrote can be read back for [Run.Amend]: the record's number and the run's id
// are taken over, cause and message are left aside. nil options are the zero options of package datafile, with
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
	d.RunID = d.Row[runColumn]
	for k := range d.Row {
		if strings.HasPrefix(k, "iotfleet:") {
			delete(d.Row, k)
		}
	}
	return d
}
