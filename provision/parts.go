package provision

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
)

// part is a data file on its way, with its devices in the order of its lines.
type part struct {
	*PartRecord
	devices []*DeviceRecord // devices[i] is line i+1
	loaded  bool            // an earlier process made it
	fresh   bool            // the account was looked at for it in this call, at Looked
	// collected is closed when every device has a verdict; nil if nobody waits for that.
	collected chan struct{}
}

// parts makes the data files of a run: it takes devices that wait, has their credentials made, writes the file and
// uploads it.
type parts struct {
	*session
	shape       *shape
	credentials *credentials
	keys        *keys
	looker      *looker
	offline     bool            // the backend must not be asked
	admitted    []*DeviceRecord // the next ones that wait: they were asked for, and the part before took no more
	looked      time.Time       // when they were asked for
	pace        *pace
	maxLines    int
	maxBytes    int64
	dir         string // where part files are
}

// prepareBatch is how many devices are read from the ledger and looked at in the account at once, before keys are made.
const prepareBatch = 1000

// next makes the next part of the devices that wait: credentials, part file, ledger. It takes devices until enough
// reports true, and at most Options.PartLines. It returns nil if none waits any more, or if no line was made and stop
// reports true.
func (ps *parts) next(
	ctx context.Context, number int, enough func(devices int, began time.Time) bool, stop func() bool,
) (*part, error) {
	for {
		b := newBatch()
		for len(b.lines) < ps.maxLines && !b.full {
			devices := ps.admitted
			ps.admitted = nil
			if len(devices) == 0 {
				if len(b.lines) > 0 && enough(len(b.lines), b.began) { // a look takes a while
					break
				}
				waiting, err := ps.waiting(ctx, b.last(), min(ps.pace.batch(), ps.maxLines-len(b.lines)))
				if err != nil {
					return nil, err
				}
				if len(waiting) == 0 {
					break
				}
				ps.looked = time.Now()
				if devices, err = ps.admit(ctx, waiting); err != nil {
					return nil, err
				}
				if len(devices) == 0 { // all of them have verdicts, which are in the ledger
					if stop() {
						break
					}
					continue
				}
			}
			if b.looked.IsZero() {
				b.looked = ps.looked
			}
			made := len(b.lines)
			if err := ps.credentials.prepare(ctx, b, devices, enough); err != nil {
				return nil, err
			}
			ps.admitted = devices[len(b.lines)-made:]
		}
		if len(b.lines) == 0 {
			return nil, nil
		}
		p, err := ps.writePart(ctx, number, b)
		if err != nil || p != nil || stop() {
			return p, err
		}
		// Every one of them was refused here; their verdicts are in the ledger.
	}
}

// waiting reads the next devices that wait.
func (ps *parts) waiting(ctx context.Context, after int64, limit int) ([]*DeviceRecord, error) {
	var waiting []*DeviceRecord
	for d, err := range ps.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Waiting}, AfterSeq: after, Limit: limit}) {
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, d)
	}
	return waiting, nil
}

// admit returns those of the devices that are to be sent, see [looker].
func (ps *parts) admit(ctx context.Context, devices []*DeviceRecord) ([]*DeviceRecord, error) {
	if ps.offline {
		return devices, ps.unusedOffline(ctx, devices)
	}
	return ps.looker.admit(ctx, devices)
}

// unusedOffline stops a run whose devices have keys of another one. Which of them can be taken over, only the account shows.
func (ps *parts) unusedOffline(ctx context.Context, devices []*DeviceRecord) error {
	for _, d := range devices {
		err := ps.credentials.unusedByOthers(ctx, d)
		if errors.Is(err, keystore.ErrExists) && ps.looker.existing == TakeOverExisting {
			return fmt.Errorf("device %q has a key of another run, and Prepare does not ask the account whether to take it over: %w; call Run instead, which does",
				d.Name, keystore.ErrExists)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writePart writes the part file and records it. It returns nil when no device was left to write.
func (ps *parts) writePart(ctx context.Context, number int, b *batch) (*part, error) {
	// The keys are durable before a line that carries their requests is anywhere but in memory.
	if err := ps.credentials.step.Sync(ctx); err != nil {
		return nil, fmt.Errorf("making the keys durable: %w", err)
	}
	p := &part{PartRecord: &PartRecord{Number: number, State: PartWritten, CredentialsTook: time.Since(b.began)}}
	f, err := ps.createPartFile()
	if err != nil {
		return nil, err
	}
	defer f.discard()
	if p.Looked, err = ps.lookedBefore(ctx, b.lines); err != nil {
		return nil, err
	}
	touched, err := ps.writeLines(f, p, b.lines)
	if err != nil {
		return nil, fmt.Errorf("writing part %d: %w", number, err)
	}
	if p.Lines == 0 {
		return nil, ps.ledger.Apply(ctx, Change{Devices: touched, InputStays: true})
	}
	p.File = fmt.Sprintf("part-%05d-%d-%.12s.json", number, p.Attempt, p.SHA256)
	if err := f.place(ps.dir, p.PartRecord); err != nil {
		return nil, fmt.Errorf("writing part %d: %w", number, err)
	}
	p.Written = time.Now()
	if !ps.offline && ps.looker.looks() {
		p.Looked, p.fresh = b.looked, true
	}
	return p, ps.ledger.Apply(ctx, Change{Part: p.PartRecord, Devices: touched, InputStays: true})
}

// lookedBefore returns when the account was looked at for devices that are all sent again where nobody can look, zero if it
// was not for one of them. What is known of their things stays known: those that their own lines have made since are theirs.
func (ps *parts) lookedBefore(ctx context.Context, lines []line) (at time.Time, err error) {
	if !ps.offline || !ps.looker.looks() || slices.ContainsFunc(lines, func(l line) bool { return l.Attempts == 0 || l.Part == 0 }) {
		return at, nil
	}
	parts, err := ps.ledger.Parts(ctx)
	if err != nil {
		return at, err
	}
	looked := map[int]time.Time{}
	for _, p := range parts {
		looked[p.Number] = p.Looked
	}
	first := slices.MinFunc(lines, func(a, b line) int { return looked[a.Part].Compare(looked[b.Part]) })
	return looked[first.Part], nil
}

// newWriter writes lines with the template's parameters.
func (ps *parts) newWriter(f io.Writer) *datafile.Writer {
	w := datafile.NewWriter(f, ps.shape.program.Parameters()...)
	w.Optional(ps.shape.optional()...)
	return w
}

// writeLines writes the devices that have a row, up to the size of a part, and returns all whose record changed.
func (ps *parts) writeLines(f io.Writer, p *part, lines []line) ([]*DeviceRecord, error) {
	w := ps.newWriter(f)
	now := time.Now()
	touched := make([]*DeviceRecord, 0, len(lines))
	for _, l := range lines {
		d := l.DeviceRecord
		d.Updated = now
		touched = append(touched, d)
		if l.row != nil && w.Lines() > 0 && w.Bytes() >= ps.maxBytes {
			ps.admitted = nil // this one comes before them
			continue
		}
		if l.row == nil { // refused
			continue
		}
		if err := w.WriteRow(l.row); err != nil {
			if _, ok := errors.AsType[*finding.Finding](err); !ok {
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

// load brings back a part that an earlier process began.
func (ps *parts) load(ctx context.Context, rec *PartRecord) (*part, error) {
	const advice = "the ledger is damaged or was changed by hand; restore a copy that was made since the last task was started"
	p := &part{PartRecord: rec, loaded: true}
	lines := make(map[int64]*DeviceRecord, rec.Lines)
	for d, err := range ps.ledger.Devices(ctx, DeviceFilter{Part: rec.Number}) {
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
func (ps *parts) upload(ctx context.Context, p *part) error {
	f, err := ps.openPartFile(ctx, p)
	if err != nil {
		return fmt.Errorf("part %d: %w", p.Number, err)
	}
	defer func() { _ = f.Close() }()
	in := &task.UploadInput{
		Key:  fmt.Sprintf("%s/part-%05d-%d-%s.json", ps.record.ID, p.Number, p.Attempt, p.SHA256),
		Body: f, Size: p.Bytes,
	}
	if _, err := hex.Decode(in.SHA256[:], []byte(p.SHA256)); err != nil {
		return fmt.Errorf("part %d: the ledger's digest of the file is damaged: %w", p.Number, err)
	}
	var obj *task.Object
	err = retry(ctx, func() (err error) {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			obj, err = ps.backend.Upload(ctx, in)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("uploading part %d: %w", p.Number, err)
	}
	p.Bucket, p.Key, p.State, p.Uploaded = obj.Bucket, obj.Key, PartUploaded, time.Now()
	if err := ps.ledger.Apply(ctx, Change{Part: p.PartRecord}); err != nil {
		return err
	}
	ps.observe(EventPartReady{Part: p.Number, Lines: p.Lines, Bytes: p.Bytes, SHA256: p.SHA256, Bucket: p.Bucket, Key: p.Key})
	return nil
}

// all yields the parts in order, uploaded: first those an earlier process left, then new ones. It works ahead of its
// reader by one part.
func (ps *parts) all(ctx context.Context) iter.Seq2[*part, error] {
	return func(yield func(*part, error) bool) {
		records, err := ps.ledger.Parts(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		last := lastPart(records)
		ps.admitted = nil
		for _, rec := range records {
			if rec.State == PartCollected || ps.stopped() && (rec.State == PartWritten || rec.State == PartUploaded) {
				continue
			}
			p, err := ps.load(ctx, rec)
			if err == nil && p.State == PartWritten {
				err = ps.upload(ctx, p)
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
		for !ps.stopped() {
			last++
			var asked time.Time
			p, err := ps.next(ctx, last, func(devices int, began time.Time) bool {
				asked = time.Now()
				return ps.pace.enough(devices, began) || ps.stopped()
			}, ps.stopped)
			if err == nil && p == nil {
				return
			}
			if err == nil {
				err = ps.upload(ctx, p)
				if !asked.IsZero() {
					ps.pace.uploaded(time.Since(asked))
				}
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}
