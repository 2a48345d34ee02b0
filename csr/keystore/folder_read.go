package keystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Get implements [Store]. It checks that key and request are whole, belong together, and are closed to other users
// ([ErrPermissions], not on Windows).
func (f *Folder) Get(ctx context.Context, device string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	if device == "" {
		return Record{}, fmt.Errorf("%w: it is empty", ErrName)
	}
	name := FileName(device)
	if len(name) > maxFileName {
		return Record{}, notFound(device, f.dir)
	}
	f.mu.Lock()
	var path string
	if p := f.pending[name]; p != nil && p.ready {
		path = p.path
	}
	f.mu.Unlock()
	if path != "" {
		rec, err := f.read(device, path)
		if err == nil {
			return rec, nil
		}
		if _, gone := f.disk.Lstat(path); !errors.Is(gone, fs.ErrNotExist) {
			return rec, err
		}
		// A Sync has given it its name in the meantime, perhaps between the reading of its two files.
	}
	rec, err := f.read(device, filepath.Join(f.dir, name))
	// A record that another process named may not be durable yet. Noted only now: a Sync that ends while it is read
	// need not have covered it.
	f.markDirty(true)
	return rec, err
}

func (f *Folder) read(device, path string) (Record, error) {
	fail := func(kind error, format string, args ...any) (Record, error) {
		return Record{}, fmt.Errorf("device %s: %w: %s", rule.Quote(device), kind, fmt.Sprintf(format, args...))
	}
	info, err := f.disk.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Record{}, notFound(device, f.dir)
	case err != nil:
		return Record{}, fmt.Errorf("device %s: %w", rule.Quote(device), err)
	case !info.IsDir():
		return fail(ErrDamaged, "%s is not a folder", path)
	case checksModes && info.Mode().Perm()&0o022 != 0:
		return fail(ErrPermissions, "%s has mode %#o; run chmod 700 on it", path, info.Mode().Perm())
	}
	requestText, err := f.readFile(path, RequestFile)
	if err != nil {
		return Record{}, fmt.Errorf("device %s: %w", rule.Quote(device), err)
	}
	if requestText == nil {
		return fail(ErrDamaged, "%s has no %s; restore it, or move the folder away so that the device gets a new key", path, RequestFile)
	}
	rec := Record{Device: device}
	if rec.Request, err = csr.Parse(requestText); err != nil {
		return fail(ErrDamaged, "%s: %v", filepath.Join(path, RequestFile), err)
	}
	keyText, err := f.readFile(path, KeyFile)
	if err != nil {
		return Record{}, fmt.Errorf("device %s: %w", rule.Quote(device), err)
	}
	if keyText == nil {
		if _, err := f.disk.Lstat(filepath.Join(path, NoKeyFile)); err == nil {
			return rec, nil
		}
		return fail(ErrDamaged, "%s has no %s; restore it, or move the folder away so that the device gets a new key", path, KeyFile)
	}
	rec.Key, err = csr.ParsePrivateKey(keyText)
	clear(keyText)
	if err != nil {
		return fail(ErrDamaged, "%s: %v", filepath.Join(path, KeyFile), err)
	}
	if !rec.Request.Matches(rec.Key.Public()) {
		return Record{}, fmt.Errorf("device %s: %w: %w: %s and %s in %s", rule.Quote(device), ErrDamaged, ErrMismatch, KeyFile, RequestFile, path)
	}
	return rec, nil
}

// readFile returns nil without an error when there is no such file.
func (f *Folder) readFile(folder, name string) ([]byte, error) {
	path := filepath.Join(folder, name)
	info, err := f.disk.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrDamaged, path)
	case checksModes && name == KeyFile && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%w: %s has mode %#o; find out who could have read it, then run chmod 600 on it", ErrPermissions, path, info.Mode().Perm())
	}
	data, err := f.disk.Read(path, maxFile)
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrDamaged, path, maxFile)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// checksModes is off where modes do not decide who may read.
const checksModes = runtime.GOOS != "windows" && runtime.GOOS != "plan9"

// Devices lists the devices that have a folder, in no particular order, with what was put but not synced left out. It
// does not look into the folders. Entries that are no device's are passed over. The error ends it.
func (f *Folder) Devices(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		more := true
		err := f.disk.List(f.dir, func(name string, folder bool) bool {
			if ctx.Err() != nil {
				return false
			}
			device, err := DeviceName(name)
			if err == nil && folder && device != "" {
				more = yield(device, nil)
			}
			return more
		})
		if more && err == nil {
			err = ctx.Err()
		}
		if more && err != nil {
			yield("", fmt.Errorf("list key folder %s: %w", f.dir, err))
		}
	}
}

// RemoveLeftovers deletes what crashed processes left unfinished, and returns how many pieces that were: keys whose
// requests never left the process, and so are of no use. Call it only while no other process writes to the directory.
func (f *Folder) RemoveLeftovers(ctx context.Context) (int, error) {
	var found []string
	err := f.disk.List(f.dir, func(name string, _ bool) bool {
		if strings.HasPrefix(name, durable.TempPrefix) {
			found = append(found, filepath.Join(f.dir, name))
		}
		return ctx.Err() == nil
	})
	n := 0
	for _, path := range found {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			break
		}
		// Asked now and not before the listing: a Put may have begun this folder meanwhile.
		f.mu.Lock()
		own := f.group
		f.mu.Unlock()
		if path == own {
			continue
		}
		if err = f.disk.RemoveAll(path); err == nil {
			n++
		}
	}
	if err != nil {
		return n, fmt.Errorf("remove what is unfinished in %s: %w", f.dir, err)
	}
	return n, nil
}
