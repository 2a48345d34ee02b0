package provision

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
)

// unique finds values of [Options.Unique] that two devices have. It holds 24 bytes for each, and the map's own needs. A
// nil *unique finds nothing.
type unique struct {
	columns []string
	seen    map[[16]byte]int64 // the first record with a value, by the digest of column and value
	loaded  bool               // what the ledger has is in it
}

func newUnique(columns []string) *unique {
	if len(columns) == 0 {
		return nil
	}
	return &unique{columns: columns, seen: map[[16]byte]int64{}}
}

// key is that of a value; false if the record has none. Two serial numbers or MAC addresses that differ in case or in
// space around them are most likely one.
func (u *unique) key(rec *DeviceRecord, column string) (key [16]byte, ok bool) {
	v, ok := rec.Row[column]
	if !ok {
		v = rec.Meta[column]
	}
	if v = strings.ToLower(strings.TrimSpace(v)); v == "" {
		return key, false
	}
	digest := sha256.Sum256([]byte(column + "\x00" + v))
	return [16]byte(digest[:]), true
}

// add takes in a record that the run has.
func (u *unique) add(rec *DeviceRecord) {
	if u == nil || !holdsKeys(rec) {
		return
	}
	for _, column := range u.columns {
		if key, ok := u.key(rec, column); ok {
			if _, has := u.seen[key]; !has {
				u.seen[key] = rec.Seq
			}
		}
	}
}

// claim takes in a record that waits, and fails it if another one has one of its values.
func (u *unique) claim(rec *DeviceRecord) {
	if u == nil || rec.Verdict != Waiting {
		return
	}
	for _, column := range u.columns {
		if key, ok := u.key(rec, column); ok {
			if seq, has := u.seen[key]; has && seq != rec.Seq {
				rec.fail(CauseDuplicate, fmt.Sprintf("record %d has the same %s; each device needs one of its own", seq, column))
				return
			}
		}
	}
	u.add(rec)
}

// release takes out what a record that is mended had.
func (u *unique) release(rec *DeviceRecord) {
	if u == nil {
		return
	}
	for _, column := range u.columns {
		if key, ok := u.key(rec, column); ok && u.seen[key] == rec.Seq {
			delete(u.seen, key)
		}
	}
}

// load takes in every record that the ledger has, once.
func (u *unique) load(ctx context.Context, ledger Ledger) error {
	if u == nil || u.loaded {
		return nil
	}
	for d, err := range ledger.Devices(ctx, DeviceFilter{}) {
		if err != nil {
			return err
		}
		u.add(d)
	}
	u.loaded = true
	return nil
}
