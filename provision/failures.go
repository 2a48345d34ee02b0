package provision

import (
	"context"
	"io"

	"github.com/seed1ff6f450/iotfleet/internal/failures"
)

// RecordColumn is the column of failures.csv that holds the number of the record. By it a mended record takes the place
// of the one it mends, whatever else was changed.
const RecordColumn = failures.RecordColumn

// WriteFailures writes the devices that are NoKey, Failed or Unknown as CSV: their rows, with the numbers of the
// records, the run's id, the causes and AWS's texts, and what is in Meta. Mended, and read with FromCSV, it can be given
// to Amend.
//
// A value that a spreadsheet would take for a formula, and one with control characters, is written behind an apostrophe,
// as spreadsheets themselves mark text; FromCSV takes it away again.
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
			record := &failures.Record{Seq: d.Seq, Run: run.ID, Cause: string(d.Cause), Message: d.Message, Row: d.Row, Meta: d.Meta}
			if !yield(record, nil) {
				return
			}
		}
	})
}
