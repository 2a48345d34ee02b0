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

// Adopt takes over a registration task that was started by hand, given its id and its data file, into a run that has no
// devices yet. Afterwards Run(ctx, nil) waits for it, reads its reports and settles every device. The task's template must
// be the run's. Keys stay where they were made; [Output] gets the certificates. Give the run the credential step that the
// file was made with elsewhere, such as [GivenCSR]: with [MakeCSR] a line that is sent again gets a new key.
//
// An Adopt that was interrupted goes on when it is called again with the same task and file; one that is done does nothing.
func (r *Run) Adopt(ctx context.Context, id task.ID, dataFile io.Reader) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	if err := r.open(ctx); err != nil {
		return err
	}
	parts, err := r.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	if len(parts) > 0 && parts[0].Adopted && parts[0].TaskID == id {
		return nil
	}
	if len(parts) > 0 || r.record.Spooled {
		return errors.New("this run has devices of its own already; adopt a task into a run of its own")
	}
	var d *task.Description
	err = retry(ctx, func() (err error) {
		d, err = task.Attach(r.opts.Backend, id).Describe(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.sameTemplate(d.TemplateBody); err != nil {
		return fmt.Errorf("task %s: %w", id, err)
	}
	p := &PartRecord{
		Number: 1, Attempt: 1, State: PartStarted, Adopted: true, TaskID: id, Bucket: d.InputFileBucket, Key: d.InputFileKey,
		Written: d.Created, Started: d.Created,
	}
	n, err := r.adoptLines(ctx, p, dataFile)
	if err != nil {
		return fmt.Errorf("the data file of task %s: %w", id, err)
	}
	if done := d.Succeeded + d.Failed; done > p.Lines {
		return fmt.Errorf("task %s has done %d lines and the data file has %d: it is another file", id, done, p.Lines)
	}
	r.record.Spooled, r.record.Total, r.record.Input = true, n, n
	return r.ledger.Apply(ctx, Change{Run: r.record, Part: p})
}

// adoptLines brings the lines of a data file into the ledger, behind those that an interrupted call left there.
func (r *Run) adoptLines(ctx context.Context, p *PartRecord, dataFile io.Reader) (n int64, err error) {
	matcher, ok := As[LineMatcher](r.opts.Credential)
	if !ok {
		return 0, fmt.Errorf("the credential step %T can't recognise lines that were made elsewhere (LineMatcher); take GivenCSR", r.opts.Credential)
	}
	next, stop := iter.Pull2(r.ledger.Devices(ctx, DeviceFilter{}))
	defer stop()
	var batch []*DeviceRecord
	for row, err := range datafile.Read(dataFile) {
		if err != nil {
			return n, err
		}
		n++
		p.Lines = int(row.Line)
		row.Values, _ = inUTF8(row.Values)
		known, err, ok := next()
		switch {
		case err != nil:
			return n, err
		case ok && !maps.Equal(known.Row, row.Values):
			return n, fmt.Errorf("%w: line %d is not what an interrupted Adopt found there", ErrInputChanged, row.Line)
		case ok:
			continue
		}
		rec := r.newRecord(n, Device{Row: row.Values, Source: fmt.Sprintf("line %d", row.Line), Err: row.Err})
		// Whatever is wrong with a line, AWS has it: its verdict comes from the reports.
		rec.Verdict, rec.Cause, rec.Message = Submitted, CauseNone, ""
		rec.Part, rec.Line, rec.TaskID, rec.Attempts = p.Number, row.Line, string(p.TaskID), 1
		if m, err := matcher.MatchLine(rec.Name, rec.Row); err == nil {
			rec.Match = m
		}
		if batch = append(batch, rec); len(batch) == spoolBatch {
			if err := r.ledger.Apply(ctx, Change{Add: batch}); err != nil {
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
	return n, r.ledger.Apply(ctx, Change{Add: batch})
}

func (r *Run) sameTemplate(body string) error {
	t, err := template.Parse([]byte(body))
	if err != nil {
		return fmt.Errorf("its template can't be read: %w", err)
	}
	if theirs, err := t.Body(); err != nil || theirs != r.body {
		return fmt.Errorf("%w: the task has another template than the run", ErrElsewhere)
	}
	return nil
}
