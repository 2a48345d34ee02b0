package fleet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"time"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// refusedBatch is how many refused devices go into the ledger at once.
const refusedBatch = 1000

// open makes the fleet's record or checks the one that is there. It reports true when there was none.
func (f *Fleet) open(ctx context.Context) (fresh bool, err error) {
	record, err := f.ledger.Run(ctx)
	if errors.Is(err, provision.ErrNoRun) {
		var b [4]byte
		rand.Read(b[:]) // never fails
		now := time.Now()
		record = &provision.RunRecord{
			ID: now.UTC().Format("20060102-150405-") + hex.EncodeToString(b[:]), Created: now, SitesSHA256: f.sitesDigest(),
		}
		fresh, err = true, f.ledger.Apply(ctx, provision.Change{Run: record})
	}
	if err != nil {
		return false, fmt.Errorf("the fleet's ledger: %w", err)
	}
	if err := f.sameSites(record); err != nil {
		return false, err
	}
	f.record = record
	return fresh, nil
}

// sameSites refuses the record of another fleet.
func (f *Fleet) sameSites(record *provision.RunRecord) error {
	if record.SitesSHA256 != f.sitesDigest() {
		return fmt.Errorf("%w: the fleet's ledger was begun with other sites than %s, or is not a fleet's", provision.ErrElsewhere, f.siteNames())
	}
	return nil
}

// sitesDigest stands for the names of the sites: a site that is renamed or left out would take its devices' history
// with it.
func (f *Fleet) sitesDigest() string {
	var names []byte
	for _, s := range f.sites {
		names = fmt.Appendf(names, "site %q\n", s.name)
	}
	digest := sha256.Sum256(names)
	return hex.EncodeToString(digest[:])
}

// refusals brings the devices that no site takes into the fleet's ledger, or compares them with those that are there.
type refusals struct {
	fleet *Fleet
	next  func() (*provision.DeviceRecord, error, bool)
	stop  func()
	seq   int64
	batch []*provision.DeviceRecord
}

func (f *Fleet) newRefusals(ctx context.Context) *refusals {
	r := &refusals{fleet: f}
	r.next, r.stop = iter.Pull2(f.ledger.Devices(ctx, provision.DeviceFilter{}))
	return r
}

// add records that record number n of the input was refused.
func (r *refusals) add(ctx context.Context, n int64, d provision.Device, name string, why *refusal) error {
	r.seq++
	known, err, ok := r.next()
	switch {
	case err != nil:
		return fmt.Errorf("the fleet's ledger: %w", err)
	case ok && (known.Name != name || !maps.Equal(known.Row, d.Row) || !maps.Equal(known.Meta, d.Meta)):
		return fmt.Errorf("%w: the device refused as number %d was %s, and is %s now (record %d)",
			provision.ErrInputChanged, r.seq, called(known.Name, known.Source), called(name, d.Source), n)
	case ok:
		return nil
	case r.fleet.record.Spooled:
		return fmt.Errorf("%w: record %d (%s) was not refused before and is now: %s",
			provision.ErrInputChanged, n, called(name, d.Source), why.text)
	}
	rec := &provision.DeviceRecord{Result: why.result(r.seq, d, name, n), Updated: time.Now()}
	if r.batch = append(r.batch, rec); len(r.batch) < refusedBatch {
		return nil
	}
	return r.flush(ctx)
}

func (r *refusals) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	err := r.fleet.applyOwn(ctx, provision.Change{Add: r.batch})
	r.batch = r.batch[:0]
	return err
}

// end records that the input held n devices and that all it refused are in the ledger.
func (r *refusals) end(ctx context.Context, n int64) error {
	if known, err, ok := r.next(); err != nil {
		return fmt.Errorf("the fleet's ledger: %w", err)
	} else if ok {
		return fmt.Errorf("%w: %s was refused before (%s) and is not now; give the list as it was, and the mended record to Amend",
			provision.ErrInputChanged, called(known.Name, known.Source), known.Message)
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	record := r.fleet.record
	if record.Spooled {
		return nil // its length is for each site to compare
	}
	record.Spooled, record.Input, record.Total = true, n, r.seq
	return r.fleet.applyOwn(ctx, provision.Change{Run: record})
}

// applyOwn changes the fleet's own ledger.
func (f *Fleet) applyOwn(ctx context.Context, change provision.Change) error {
	if err := f.ledger.Apply(ctx, change); err != nil {
		return fmt.Errorf("the fleet's ledger: %w", err)
	}
	return nil
}

// called names a device in a message by what there is.
func called(name, source string) string {
	switch {
	case name != "":
		return fmt.Sprintf("device %q", name)
	case source != "":
		return "the device of " + source
	}
	return "a device without a name"
}
