package keystore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
)

// lockFile is where those who have unfinished records in a directory know of each other.
const lockFile = ".lock"

// lockPause is how long to wait for somebody who removes leftovers before looking once more.
const lockPause = 10 * time.Millisecond

// hold takes this Folder's share of the directory's lock, which it has for as long as it has unfinished records. Once it
// finds that nobody else has any, it removes those that are there. Without locks nobody knows that, and all stay. The
// caller holds f.mu.
func (f *Folder) hold(ctx context.Context) error {
	path := filepath.Join(f.dir, lockFile)
	if !f.swept {
		alone, err := f.disk.Hold(path, true)
		switch {
		case errors.Is(err, durable.ErrHeld), errors.Is(err, errors.ErrUnsupported):
		case err != nil:
			return err
		default:
			if err := errors.Join(f.sweep(ctx), alone.Close()); err != nil {
				return err
			}
			f.swept = true
		}
	}
	for {
		held, err := f.disk.Hold(path, false)
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return nil
		case err == nil:
			f.held = held
			return nil
		case !errors.Is(err, durable.ErrHeld):
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPause):
		}
	}
}

// release drops this Folder's share. The caller holds f.mu.
func (f *Folder) release() {
	if f.held != nil {
		_ = f.held.Close()
		f.held = nil
	}
}

// sweep deletes what is unfinished: keys whose requests never left a process, and so are of no use.
func (f *Folder) sweep(ctx context.Context) error {
	var found []string
	err := f.disk.List(f.dir, func(name string, folder bool) bool {
		if folder && durable.IsTempName(name) {
			found = append(found, filepath.Join(f.dir, name))
		}
		return ctx.Err() == nil
	})
	for _, path := range found {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = f.disk.RemoveAll(path)
		}
	}
	if err != nil {
		return fmt.Errorf("remove what a crash left unfinished in %s: %w", f.dir, err)
	}
	return nil
}
