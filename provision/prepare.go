package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// credentials runs the credential step. It keeps the step from using keys of another run.
type credentials struct {
	*session
	shape  *shape
	step   Credential
	finder KeyFinder  // nil if the step makes no keys
	namer  NameReader // nil if the devices come without requests and certificates
}

func newCredentials(s *session, sh *shape, step Credential) *credentials {
	c := &credentials{session: s, shape: sh, step: step}
	c.finder, _ = As[KeyFinder](step)
	c.namer, _ = As[NameReader](step)
	return c
}

// unusedByOthers makes sure, before keys are made for these devices, that none of them has one of another run.
func (c *credentials) unusedByOthers(ctx context.Context, devices ...*DeviceRecord) error {
	if c.finder == nil {
		return nil
	}
	for _, d := range devices {
		if err := c.finder.Unused(ctx, d.Name, c.record.ID); err != nil {
			return err
		}
	}
	return nil
}

// hasOwnKey reports whether a device has a key that was made for this run.
func (c *credentials) hasOwnKey(ctx context.Context, d *DeviceRecord) (bool, error) {
	if c.finder == nil {
		return false, nil
	}
	switch err := c.finder.Unused(ctx, d.Name, ""); { // to no run, every key is another's
	case errors.Is(err, keystore.ErrExists):
		return c.finder.Unused(ctx, d.Name, c.record.ID) == nil, nil
	default:
		return false, err
	}
}

// line is a device with the full row that is sent for it; the row is nil if the device was refused.
type line struct {
	*DeviceRecord
	row map[string]string
}

// batch is the lines that were prepared for a part.
type batch struct {
	lines  []line
	owners map[Match]int64 // which device of the batch has a key
	full   bool            // the part takes no more
	began  time.Time
	looked time.Time // when the account was asked for the first of its devices
	again  bool      // the lines were written before, and come out as they were
}

func newBatch() *batch { return &batch{owners: map[Match]int64{}, began: time.Now()} }

// last is the Seq of its last device.
func (b *batch) last() int64 {
	if len(b.lines) == 0 {
		return 0
	}
	return b.lines[len(b.lines)-1].Seq
}

// never has enough: every part becomes as large as it may.
func never(int, time.Time) bool { return false }

// unstoppable is for a call that Stop does not end.
func unstoppable() bool { return false }

// prepare runs the credential step for devices and adds those that it was run for to the batch.
func (c *credentials) prepare(
	ctx context.Context, b *batch, devices []*DeviceRecord, enough func(devices int, began time.Time) bool,
) error {
	var given atomic.Int64 // the step may read its input in a goroutine of its own
	var full atomic.Bool
	before := len(b.lines)
	input := func(yield func(Candidate, error) bool) {
		for i, d := range devices {
			if n := before + i; n > 0 && enough(n, b.began) {
				full.Store(true)
				return
			}
			given.Add(1)
			candidate := Candidate{Device: Device{Name: d.Name, Row: d.Row, Meta: d.Meta, Source: d.Source}, Run: c.record.ID, written: b.again}
			if !yield(candidate, nil) {
				return
			}
		}
	}
	lines := make([]line, 0, len(devices))
	for p, err := range c.step.Prepare(ctx, input) {
		if err != nil {
			return err
		}
		if len(lines) == len(devices) {
			return errors.New("the credential step gave more devices than it was given")
		}
		d := devices[len(lines)]
		if p.Name != d.Name && p.Name != "" { // the key of one would go to the other
			return fmt.Errorf("the credential step gave device %q where device %q was due; it must keep their order", p.Name, d.Name)
		}
		if err := c.refuseNameOfAnother(ctx, d, &p); err != nil {
			return err
		}
		lines = append(lines, newLine(d, p))
	}
	if want := int(given.Load()); len(lines) != want || want < len(devices) && !full.Load() {
		return fmt.Errorf("the credential step gave %d devices of %d", len(lines), max(want, len(devices)))
	}
	if err := c.refuseSharedKeys(ctx, b.owners, lines); err != nil {
		return err
	}
	b.lines, b.full = append(b.lines, lines...), full.Load()
	return nil
}

// newLine takes over what the step made for a device.
func newLine(d *DeviceRecord, p Candidate) line {
	if p.Err != nil {
		d.fail(causeOf(p.Err, CauseKey), p.Err.Error())
		return line{DeviceRecord: d}
	}
	d.Match = p.Match
	row := make(map[string]string, len(d.Row)+len(p.Values))
	maps.Copy(row, d.Row)
	maps.Copy(row, p.Values)
	return line{DeviceRecord: d, row: row}
}

// refuseNameOfAnother refuses a device that came with the request or certificate of another device of the run. One that
// was refused itself counts, too: two devices whose requests were exchanged are both refused.
func (c *credentials) refuseNameOfAnother(ctx context.Context, d *DeviceRecord, p *Candidate) error {
	if c.namer == nil || p.Err != nil {
		return nil
	}
	for _, name := range c.namer.Names(d.Row) {
		if name == d.Name {
			continue
		}
		for other, err := range c.named(ctx, name) {
			if err != nil {
				return err
			}
			if other.Seq != d.Seq {
				p.Err = otherNameError(name, other.Seq)
				return nil
			}
		}
	}
	return nil
}

func otherNameError(name string, seq int64) error {
	return &causeError{CauseInvalidRecord, fmt.Errorf("it comes with the request or certificate of %s, which is record %d; give each device its own", rule.Quote(name), seq)}
}

// refuseSharedKeys fails devices whose key another device of the run has: their results could not be matched, and to
// AWS they are one device.
func (c *credentials) refuseSharedKeys(ctx context.Context, owners map[Match]int64, lines []line) error {
	var keys []Match
	for _, l := range lines {
		if l.row != nil && l.Match.isKey() {
			keys = append(keys, l.Match)
		}
	}
	first, err := c.ledger.FindMatches(ctx, keys)
	if err != nil {
		return err
	}
	for i, l := range lines {
		if l.row == nil || !l.Match.isKey() {
			continue
		}
		seq, ok := first[l.Match]
		if !ok {
			seq, ok = owners[l.Match]
		}
		if ok && seq != l.Seq {
			l.failSharedKey(seq)
			l.Match, lines[i].row = "", nil
			continue
		}
		owners[l.Match] = l.Seq
	}
	return nil
}
