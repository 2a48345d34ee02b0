package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// adopt makes a part of a task that was started by hand.
func (in *intake) adopt(ctx context.Context, id task.ID, step LineMatcher, dataFile io.Reader) error {
	var d *task.Description
	err := retry(ctx, func() (err error) {
		d, err = task.Attach(in.backend, id).Describe(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := in.shape.sameTemplate(d.TemplateBody); err != nil {
		return fmt.Errorf("task %s: %w", id, err)
	}
	p := &PartRecord{
		Number: 1, Attempt: 1, State: PartStarted, Adopted: true, TaskID: id, Bucket: d.InputFileBucket, Key: d.InputFileKey,
		Written: d.Created, Started: d.Created, TaskCreated: d.Created,
	}
	n, err := in.adoptLines(ctx, p, step, dataFile)
	if err != nil {
		return fmt.Errorf("the data file of task %s: %w", id, err)
	}
	if done := d.Succeeded + d.Failed; done > p.Lines {
		return fmt.Errorf("task %s has done %d lines and the data file has %d: it is another file", id, done, p.Lines)
	}
	in.record.Spooled, in.record.Total, in.record.Input = true, n, n
	return in.ledger.Apply(ctx, Change{Run: in.record, Part: p})
}

// adoptLines brings the lines of a data file into the ledger, behind those that an interrupted call left there.
func (in *intake) adoptLines(ctx context.Context, p *PartRecord, step LineMatcher, dataFile io.Reader) (n int64, err error) {
	next, stop := iter.Pull2(in.ledger.Devices(ctx, DeviceFilter{}))
	defer stop()
	var batch []*DeviceRecord
	for row, err := range datafile.Read(dataFile) {
		if err != nil {
			return n, err
		}
		n++
		p.Lines = int(row.Line)
		row.Values, _ = keepable(row.Values)
		known, err, ok := next()
		switch {
		case err != nil:
			return n, err
		case ok && !maps.Equal(known.Row, row.Values):
			return n, fmt.Errorf("%w: line %d is not what an interrupted Adopt found there", ErrInputChanged, row.Line)
		case ok:
			continue
		}
		rec, _ := in.newRecord(n, Device{Row: row.Values, Source: fmt.Sprintf("line %d", row.Line), Err: row.Err})
		// Whatever is wrong with a line, AWS has it: its verdict comes from the reports.
		rec.Verdict, rec.Cause, rec.Message = Submitted, CauseNone, ""
		rec.Part, rec.Line, rec.TaskID, rec.Attempts = p.Number, row.Line, string(p.TaskID), 1
		if m, err := step.MatchLine(rec.Name, rec.Row); err == nil {
			rec.Match = m
		}
		if batch = append(batch, rec); len(batch) == spoolBatch {
			if err := in.ledger.Apply(ctx, Change{Add: batch}); err != nil {
				return n, err
			}
			batch = batch[:0]
		}
	}
	if n == 0 {
		return n, errors.New("it holds no device")
	}
	if known, err, ok := next(); err != nil {
		return n, err
	} else if ok {
		return n, fmt.Errorf("%w: it ends after %d lines, an interrupted Adopt found device %q behind them", ErrInputChanged, n, known.Name)
	}
	if len(batch) == 0 {
		return n, nil
	}
	return n, in.ledger.Apply(ctx, Change{Add: batch})
}

// sameTemplate refuses a task whose template is not the run's.
func (s *shape) sameTemplate(body string) error {
	t, err := template.Parse([]byte(body))
	if err != nil {
		return fmt.Errorf("its template can't be read: %w", err)
	}
	if theirs, err := t.Body(); err != nil || theirs != s.body {
		return fmt.Errorf("%w: the task has another template than the run", ErrElsewhere)
	}
	return nil
}
