package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Devices lists the devices of the archive in the order they were put, those that were not synced yet included, as far
// as they are there when the loop begins. It reads the file once and looks into no key. The error ends it.
func (a *Archive) Devices(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		more := true
		err := a.devices(ctx, func(device string) bool {
			more = yield(device, nil)
			return more
		})
		if more && err != nil {
			yield("", fmt.Errorf("list key archive %s: %w", a.path, err))
		}
	}
}

func (a *Archive) devices(ctx context.Context, yield func(string) bool) error {
	a.mu.Lock()
	err := a.writable()
	if err == nil {
		err = a.flush()
	}
	end := a.size
	a.mu.Unlock()
	if err != nil && !errors.Is(err, ErrReadOnly) && !errors.Is(err, ErrBroken) {
		return err
	}
	return newScanner(a.file, end).scan(archiveHead, func(f frame) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if f.kind == frameMark {
			return true, nil
		}
		device := string(f.name)
		a.mu.Lock()
		entered := a.index.has(a.hash(device), f.offset)
		a.mu.Unlock()
		if !entered {
			return true, nil // a second record of the device, which is damage
		}
		return yield(device), nil
	}, func(stretch) {})
}

// exportGroup is how many records Export makes durable at once.
const exportGroup = 1000

// Export writes every record into a folder for each device, as a [Folder] at dir has them: private-key.pem and
// request.pem, which openssl reads. It can be called again, also after a crash: what is there already is compared and
// left alone. A device whose folder has another key or request is an [ErrExists], and ends it.
//
// It returns how many records are there and durable when it returns. What is damaged does not keep the rest from being
// exported; it is in the error at the end, as [ErrDamaged].
func (a *Archive) Export(ctx context.Context, dir string) (int, error) {
	to, err := OpenFolder(dir, nil)
	if err != nil {
		return 0, err
	}
	return a.CopyTo(ctx, to)
}

// ExportDevice is [Archive.Export] for one device.
func (a *Archive) ExportDevice(ctx context.Context, dir, device string) error {
	rec, err := a.Get(ctx, device)
	if err != nil {
		return err
	}
	to, err := OpenFolder(dir, nil)
	if err == nil {
		err = copyRecord(ctx, to, rec)
	}
	if err == nil {
		err = to.Sync(ctx)
	}
	if err != nil {
		return fmt.Errorf("export from key archive %s: %w", a.path, err)
	}
	return nil
}

// CopyTo does for any store what [Archive.Export] does for a folder: into a new archive, for instance, to leave damage
// behind. It syncs the other store on the way and at the end.
func (a *Archive) CopyTo(ctx context.Context, to Store) (int, error) {
	var (
		synced, copied int
		damaged        []error
	)
	err := func() error {
		for device, err := range a.Devices(ctx) {
			if err != nil {
				return err
			}
			rec, err := a.Get(ctx, device)
			if errors.Is(err, ErrDamaged) {
				if len(damaged) < maxDamage {
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
			if copied++; copied%exportGroup == 0 {
				if err := to.Sync(ctx); err != nil {
					return err
				}
				synced = copied
			}
		}
		return to.Sync(ctx)
	}()
	if err != nil {
		return synced, fmt.Errorf("copy key archive %s: %w", a.path, err)
	}
	for _, e := range a.damage {
		damaged = append(damaged, e)
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
	case !there.Key.Equal(rec.Key) || !bytes.Equal(there.Request.DER(), rec.Request.DER()):
		place := ""
		if f, ok := to.(interface{ Path(device string) string }); ok {
			place = " in " + f.Path(rec.Device)
		}
		return &differentError{fmt.Sprintf("device %s: another key or request%s was left as it is; move it away if it is not wanted any more",
			rule.Quote(rec.Device), place)}
	}
	return nil
}

// differentError is an [ErrExists] for a device that has another record.
type differentError struct{ text string }

func (e *differentError) Error() string { return e.text }

func (e *differentError) Is(target error) bool { return target == ErrExists || target == fs.ErrExist }
