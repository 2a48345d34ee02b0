package keystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Lister is a [Store] that lists what it holds: a [Folder], or the Store of package sqlitekeys.
type Lister interface {
	Store
	// Devices lists the devices that have a record. The error ends it.
	Devices(ctx context.Context) iter.Seq2[string, error]
}

const (
	copyGroup   = 1000 // how many records Copy makes durable at once
	copyDamaged = 1000 // how many damaged records its error names
)

// Copy puts every record of one store into another: the keys of a large fleet from a database into a folder for each
// device, for instance. It can be called again, also after a crash: what is there already is compared and left alone. A
// device with another key, request or certificate there is an [ErrExists], and ends it.
//
// It returns how many records are there and durable when it returns. A damaged record does not keep the others from
// being copied; the error at the end names it, as [ErrDamaged].
func Copy(ctx context.Context, to Store, from Lister) (int, error) {
	var (
		synced, copied int
		damaged        []error
	)
	err := func() error {
		for device, err := range from.Devices(ctx) {
			if err != nil {
				return err
			}
			rec, err := from.Get(ctx, device)
			if errors.Is(err, ErrDamaged) {
				if len(damaged) < copyDamaged {
					damaged = append(damaged, err)
				}
				continue
			}
			if err == nil {
				err = copyRecord(ctx, to, rec)
			}
			if err != nil {
				return err
			}
			if copied++; copied%copyGroup == 0 {
				if err := to.Sync(ctx); err != nil {
					return err
				}
				synced = copied
			}
		}
		return to.Sync(ctx)
	}()
	if err != nil {
		return synced, fmt.Errorf("copy keys: %w", err)
	}
	return copied, errors.Join(damaged...)
}

// copyRecord puts a record unless it is there.
func copyRecord(ctx context.Context, to Store, rec Record) error {
	there, err := to.Get(ctx, rec.Device)
	switch {
	case errors.Is(err, ErrNotFound):
		return to.Put(ctx, rec)
	case err != nil:
		return err
	case !there.Key.Equal(rec.Key) || there.PEM() != rec.PEM():
		place := ""
		if f, ok := to.(interface{ Path(device string) string }); ok {
			place = " in " + f.Path(rec.Device)
		}
		return &differentError{fmt.Sprintf("device %s: another key, request or certificate%s was left as it is; move it away if it is not wanted any more",
			rule.Quote(rec.Device), place)}
	}
	return nil
}

// differentError is an [ErrExists] for a device that has another record.
type differentError struct{ text string }

func (e *differentError) Error() string { return e.text }

func (e *differentError) Is(target error) bool { return target == ErrExists || target == fs.ErrExist }
