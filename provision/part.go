package provision

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/task"
)

// part is a data file on its way, with its devices in the order of its lines.
type part struct {
	*PartRecord
	devices []*DeviceRecord // devices[i] is line i+1
}

// prepareBatch is how many devices are read from the ledger at once for their credentials.
const prepareBatch = 1000

// nextPart makes the next part of the devices that wait: credentials, part file, ledger. It takes devices until enough
// says that as many will do, and at most Options.PartLines. It returns nil when none waits any more, or when stop says so
// and no line was made.
func (r *Run) nextPart(ctx context.Context, number int, enough func(devices int, began time.Time) bool, stop func() bool) (*part, error) {
	for {
		b := batch{began: time.Now(), owners: map[Match]int64{}}
		for len(b.devices) < r.opts.PartLines && !b.full {
			var waiting []*DeviceRecord
			for d, err := range r.ledger.Devices(ctx, DeviceFilter{
				Verdicts: []Verdict{Waiting}, AfterSeq: b.last(), Limit: min(prepareBatch, r.opts.PartLines-len(b.devices)),
			}) {
				if err != nil {
					return nil, err
				}
				waiting = append(waiting, d)
			}
			if len(waiting) == 0 {
				break
			}
			if err := r.claim(ctx, waiting); err != nil {
				return nil, err
			}
			if err := r.prepare(ctx, &b, waiting, enough); err != nil {
				return nil, err
			}
		}
		if len(b.devices) == 0 {
			return nil, nil
		}
		p, err := r.writePart(ctx, number, &b)
		if err != nil || p != nil || stop() {
			return p, err
		}
		// Every one of them was refused here; their verdicts are in the ledger.
	}
}

// claim makes sure, before the first key of these devices is made, that none of them has one that is not this run's, and
// records that whatever is found for them from now on is. They are in order of Seq.
func (r *Run) claim(ctx context.Context, devices []*DeviceRecord) error {
	last := r.record.Prepared
	for _, d := range devices {
		if r.claimed(d) {
			continue
		}
		if err := r.unusedByOthers(ctx, d.Name); err != nil {
			return err
		}
		last = d.Seq
	}
	if last == r.record.Prepared {
		return nil
	}
	r.record.Prepared = last
	return r.ledger.Apply(ctx, Change{Run: r.record})
}

// claimed reports whether the run has looked for a key of the device before, so that one that is found now is its own. That
// is so for every device up to RunRecord.Prepared, and for each that has a match: it was prepared, or registered by itself.
func (r *Run) claimed(d *DeviceRecord) bool { return d.Match != "" || d.Seq <= r.record.Prepared }

// unused asks the credential step, if it can tell, that a device has no key of somebody else's.
func (r *Run) unused(ctx context.Context, device string) error {
	if c, ok := As[KeyFinder](r.opts.Credential); ok {
		return c.Unused(ctx, device)
	}
	return nil
}

// batch is devices with what was prepared for them.
type batch struct {
	devices []*DeviceRecord
	rows    []map[string]string // the full row of each device, nil for those that failed
	owners  map[Match]int64     // which device of the batch has a key
	full    bool                // enough was said
	began   time.Time
}

func (b *batch) last() int64 {
	if len(b.devices) == 0 {
		return 0
	}
	return b.devices[len(b.devices)-1].Seq
}

// never has enough: every part becomes as large as it may.
func never(int, time.Time) bool { return false }

// unstoppable is for a call that Stop does not end.
func unstoppable() bool { return false }

// prepare runs the credential step for devices and adds those that it was run for to the batch.
func (r *Run) prepare(ctx context.Context, b *batch, devices []*DeviceRecord, enough func(devices int, began time.Time) bool) error {
	var given atomic.Int64 // the step may read its input in a goroutine of its own
	var full atomic.Bool
	before := len(b.devices)
	input := func(yield func(Candidate, error) bool) {
		for i, d := range devices {
			if n := before + i; n > 0 && enough(n, b.began) {
				full.Store(true)
				return
			}
			given.Add(1)
			c := Candidate{Device: Device{Name: d.Name, Row: d.Row, Source: d.Source}, Claimed: r.claimed(d)}
			if !yield(c, nil) {
				return
			}
		}
	}
	rows := make([]map[string]string, 0, len(devices))
	for p, err := range r.opts.Credential.Prepare(ctx, input) {
		if err != nil {
			return err
		}
		if len(rows) == len(devices) {
			return errors.New("the credential step gave more devices than it was given")
		}
		d := devices[len(rows)]
		if p.Device.Name != d.Name && p.Device.Name != "" { // the key of one would go to the other
			return fmt.Errorf("the credential step gave device %q where device %q was due; it must keep their order", p.Device.Name, d.Name)
		}
		if p.Err != nil {
			d.fail(causeOf(p.Err, CauseKey), p.Err.Error())
			rows = append(rows, nil)
			continue
		}
		d.Match = p.Match
		row := make(map[string]string, len(d.Row)+len(p.Values))
		maps.Copy(row, d.Row)
		maps.Copy(row, p.Values)
		rows = append(rows, row)
	}
	if want := int(given.Load()); len(rows) != want || want < len(devices) && !full.Load() {
		return fmt.Errorf("the credential step gave %d devices of %d", len(rows), max(want, len(devices)))
	}
	devices = devices[:len(rows)]
	if err := r.refuseSharedKeys(ctx, b.owners, devices, rows); err != nil {
		return err
	}
	b.devices, b.rows = append(b.devices, devices...), append(b.rows, rows...)
	b.full = full.Load()
	return nil
}

// refuseSharedKeys fails devices whose key another device of the run has: results could not be told apart, and two
// devices with one key are one device to AWS.
func (r *Run) refuseSharedKeys(ctx context.Context, owners map[Match]int64, devices []*DeviceRecord, rows []map[string]string) error {
	var keys []Match
	for i, d := range devices {
		if rows[i] != nil && d.Match.isKey() {
			keys = append(keys, d.Match)
		}
	}
	first, err := r.ledger.FindMatches(ctx, keys)
	if err != nil {
		return err
	}
	for i, d := range devices {
		if rows[i] == nil || !d.Match.isKey() {
			continue
		}
		seq, ok := first[d.Match]
		if !ok {
			seq, ok = owners[d.Match]
		}
		if ok && seq != d.Seq {
			d.failSharedKey(seq)
			d.Match, rows[i] = "", nil
			continue
		}
		owners[d.Match] = d.Seq
	}
	return nil
}

// writePart writes the part file and records it. It returns nil when no device was left to write.
func (r *Run) writePart(ctx context.Context, number int, b *batch) (*part, error) {
	// The keys are durable before a line that carries their requests is anywhere but in memory.
	if err := r.opts.Credential.Sync(ctx); err != nil {
		return nil, fmt.Errorf("making the keys durable: %w", err)
	}
	p := &part{PartRecord: &PartRecord{Number: number, State: PartWritten, CredentialsTook: time.Since(b.began)}}
	f, err := r.createPartFile()
	if err != nil {
		return nil, err
	}
	defer f.discard()
	touched, err := r.writeLines(f, p, b.devices, b.rows)
	if err != nil {
		return nil, fmt.Errorf("writing part %d: %w", number, err)
	}
	if p.Lines == 0 {
		return nil, r.ledger.Apply(ctx, Change{Devices: touched})
	}
	p.File = fmt.Sprintf("part-%05d-%d-%.12s.json", number, p.Attempt, p.SHA256)
	if err := f.place(r.dir, p.PartRecord); err != nil {
		return nil, fmt.Errorf("writing part %d: %w", number, err)
	}
	p.Written = time.Now()
	return p, r.ledger.Apply(ctx, Change{Part: p.PartRecord, Devices: touched})
}

// newWriter writes lines with the template's parameters.
func (r *Run) newWriter(f io.Writer) *datafile.Writer {
	w := datafile.NewWriter(f, r.program.Parameters()...)
	w.Optional(r.optional()...)
	return w
}

// writeLines writes the devices that have a row, up to the size of a part, and returns all whose record changed.
func (r *Run) writeLines(f io.Writer, p *part, devices []*DeviceRecord, rows []map[string]string) ([]*DeviceRecord, error) {
	w := r.newWriter(f)
	now := time.Now()
	touched := make([]*DeviceRecord, 0, len(devices))
	for i, d := range devices {
		d.Updated = now
		touched = append(touched, d)
		if rows[i] == nil || w.Lines() > 0 && w.Bytes() >= r.opts.PartBytes {
			continue // refused, or left for the next part
		}
		if err := w.WriteRow(rows[i]); err != nil {
			if _, ok := errors.AsType[*datafile.Problem](err); !ok {
				return nil, err
			}
			d.fail(CauseInvalidRecord, err.Error())
			continue
		}
		d.Verdict, d.Cause, d.Message, d.TaskID = Submitted, CauseNone, "", ""
		d.Part, d.Line = p.Number, w.Lines()
		d.Attempts++
		p.Attempt = max(p.Attempt, d.Attempts)
		p.devices = append(p.devices, d)
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	digest := w.SHA256()
	p.Lines, p.Bytes, p.SHA256 = int(w.Lines()), w.Bytes(), hex.EncodeToString(digest[:])
	return touched, nil
}

// loadPart brings back a part that an earlier process began.
func (r *Run) loadPart(ctx context.Context, rec *PartRecord) (*part, error) {
	const advice = "the ledger is damaged or was changed by hand; restore a copy that was made since the last task was started"
	p := &part{PartRecord: rec}
	lines := make(map[int64]*DeviceRecord, rec.Lines)
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{Part: rec.Number}) {
		if err != nil {
			return nil, err
		}
		if other := lines[d.Line]; other != nil {
			return nil, fmt.Errorf("part %d: devices %q and %q both have line %d: %s", rec.Number, other.Name, d.Name, d.Line, advice)
		}
		if d.Line < 1 || d.Line > int64(rec.Lines) {
			return nil, fmt.Errorf("part %d: device %q has line %d of %d: %s", rec.Number, d.Name, d.Line, rec.Lines, advice)
		}
		lines[d.Line] = d
	}
	for i := range rec.Lines {
		d, ok := lines[int64(i+1)]
		if !ok && rec.Adopted { // a blank line
			continue
		}
		if !ok {
			return nil, fmt.Errorf("part %d: no device has line %d of %d: %s", rec.Number, i+1, rec.Lines, advice)
		}
		p.devices = append(p.devices, d)
	}
	return p, nil
}

// upload brings a part file into the bucket. The file is checked against what was recorded when it was written.
func (r *Run) upload(ctx context.Context, p *part) error {
	f, err := r.openPartFile(ctx, p)
	if err != nil {
		return fmt.Errorf("part %d: %w", p.Number, err)
	}
	defer func() { _ = f.Close() }()
	in := &task.UploadInput{
		Key:  fmt.Sprintf("%s/part-%05d-%d-%s.json", r.record.ID, p.Number, p.Attempt, p.SHA256),
		Body: f, Size: p.Bytes,
	}
	if _, err := hex.Decode(in.SHA256[:], []byte(p.SHA256)); err != nil {
		return fmt.Errorf("part %d: the ledger's digest of the file is damaged: %w", p.Number, err)
	}
	var obj *task.Object
	err = retry(ctx, func() (err error) {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			obj, err = r.opts.Backend.Upload(ctx, in)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("uploading part %d: %w", p.Number, err)
	}
	p.Bucket, p.Key, p.State, p.Uploaded = obj.Bucket, obj.Key, PartUploaded, time.Now()
	if err := r.ledger.Apply(ctx, Change{Part: p.PartRecord}); err != nil {
		return err
	}
	r.observe(EventPartReady{Part: p.Number, Lines: p.Lines, Bytes: p.Bytes, SHA256: p.SHA256, Bucket: p.Bucket, Key: p.Key})
	return nil
}

// parts yields the parts in order, uploaded: first those an earlier process left, then new ones. It works ahead of its
// reader by one part.
func (r *Run) parts(ctx context.Context) iter.Seq2[*part, error] {
	return func(yield func(*part, error) bool) {
		records, err := r.ledger.Parts(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		last := lastPart(records)
		for _, rec := range records {
			if rec.State == PartCollected || r.stopped() && (rec.State == PartWritten || rec.State == PartUploaded) {
				continue
			}
			p, err := r.loadPart(ctx, rec)
			if err == nil && p.State == PartWritten {
				err = r.upload(ctx, p)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
		for !r.stopped() {
			last++
			var asked time.Time
			p, err := r.nextPart(ctx, last, func(devices int, began time.Time) bool {
				asked = time.Now()
				return r.pace.enough(devices, began) || r.stopped()
			}, r.stopped)
			if err == nil && p == nil {
				return
			}
			if err == nil {
				err = r.upload(ctx, p)
				if !asked.IsZero() {
					r.pace.uploaded(time.Since(asked))
				}
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// optional names the parameters that have a default: a row without them leaves them to the service.
func (r *Run) optional() []string {
	required := r.program.Required()
	return slices.DeleteFunc(slices.Clone(r.program.Parameters()), func(name string) bool {
		return slices.Contains(required, name)
	})
}
