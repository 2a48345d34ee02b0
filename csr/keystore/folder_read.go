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
	if len(FileName(device)) > maxFileName {
		return Record{}, notFound(device, f.dir)
	}
	f.mu.Lock()
	var path string
	for _, name := range f.names(device) {
		if p := f.pending[name]; p != nil && p.ready && p.device == device {
			path = p.path
			break
		}
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
	path, _, err := f.find(device)
	if err != nil {
		return Record{}, err
	}
	if path == "" {
		return Record{}, notFound(device, f.dir)
	}
	rec, err := f.read(device, path)
	// A record that another process named may not be durable yet. Noted only now: a Sync that ends while it is read
	// need not have covered it.
	f.markDirty(true)
	return rec, err
}

// Verify implements [Store]. It looks at the device's folder as Get does, and reads of it no more than the key.
func (f *Folder) Verify(ctx context.Context, device string, publicKeySHA256 [32]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if device == "" {
		return fmt.Errorf("%w: it is empty", ErrName)
	}
	if len(FileName(device)) > maxFileName {
		return notFound(device, f.dir)
	}
	path, _, err := f.find(device)
	if err != nil {
		return err
	}
	if path == "" {
		return notFound(device, f.dir)
	}
	if err := f.look(device, path); err != nil {
		return err
	}
	key, err := f.readKey(device, path)
	if err != nil {
		return err
	}
	var digest [32]byte
	if key.IsZero() {
		rec := Record{Device: device}
		if err := f.readDocument(&rec, path); err != nil {
			return err
		}
		if digest, err = rec.PublicKeySHA256(); err != nil {
			return damaged(device, "%s: %v", path, err)
		}
	} else if digest, err = csr.PublicKeySHA256(key.Public()); err != nil {
		return damaged(device, "%s: %v", filepath.Join(path, KeyFile), err)
	}
	if digest != publicKeySHA256 {
		return otherKey(device, path)
	}
	return nil
}

func (f *Folder) read(device, path string) (Record, error) {
	if err := f.look(device, path); err != nil {
		return Record{}, err
	}
	key, err := f.readKey(device, path)
	if err != nil {
		return Record{}, err
	}
	rec := Record{Device: device, Key: key}
	if err := f.readDocument(&rec, path); err != nil {
		return Record{}, err
	}
	return rec, nil
}

// damaged is an [ErrDamaged] with the device's name.
func damaged(device, format string, args ...any) error {
	return fmt.Errorf("device %s: %w: %s", rule.Quote(device), ErrDamaged, fmt.Sprintf(format, args...))
}

// look makes sure that a device's folder is there and closed to other users.
func (f *Folder) look(device, path string) error {
	info, err := f.disk.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return notFound(device, f.dir)
	case err != nil:
		return fmt.Errorf("device %s: %w", rule.Quote(device), err)
	case !info.IsDir():
		return damaged(device, "%s is not a folder", path)
	case f.checksModes() && info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("device %s: %w: %w", rule.Quote(device), ErrPermissions,
			f.wrongMode(path, "%s has mode %#o; run chmod 700 on it", path, info.Mode().Perm()))
	}
	if err := durable.CheckOwner(path, info); err != nil {
		return fmt.Errorf("device %s: %w: %w", rule.Quote(device), ErrPermissions, err)
	}
	return nil
}

// readDocument reads the request or certificate in a device's folder, and the run that stands before it.
func (f *Folder) readDocument(rec *Record, path string) error {
	file, text, err := f.document(path)
	if err != nil {
		return fmt.Errorf("device %s: %w", rule.Quote(rec.Device), err)
	}
	if text == nil {
		return damaged(rec.Device, "%s has no %s and no %s; restore it, or move the folder away so that the device gets a new key",
			path, RequestFile, IssuedFile)
	}
	run, owner, text, err := cutHeader(text)
	if err != nil {
		return fmt.Errorf("device %s: %s: %w", rule.Quote(rec.Device), filepath.Join(path, file), err)
	}
	if owner != "" && owner != rec.Device {
		return fmt.Errorf("device %s: %w: %s is the folder of device %s; open the folders with the FolderOptions.Name that they were made with",
			rule.Quote(rec.Device), ErrName, path, rule.Quote(owner))
	}
	switch err := rec.SetPEM(text); {
	case errors.Is(err, ErrMismatch):
		return fmt.Errorf("device %s: %w: %s and %s in %s", rule.Quote(rec.Device), err, KeyFile, file, path)
	case err != nil:
		return fmt.Errorf("device %s: %s: %w", rule.Quote(rec.Device), filepath.Join(path, file), err)
	}
	rec.Run = run
	return nil
}

// document returns the file with the request or certificate in a device's folder; a nil text if there is none.
func (f *Folder) document(path string) (file string, text []byte, err error) {
	for _, file = range []string{RequestFile, IssuedFile} {
		if text, err = f.readFile(path, file); text != nil || err != nil {
			break
		}
	}
	return file, text, err
}

// readKey returns the key in a device's folder, the zero value if the record was put without one.
func (f *Folder) readKey(device, path string) (csr.PrivateKey, error) {
	none := csr.PrivateKey{}
	text, err := f.readFile(path, KeyFile)
	if err != nil {
		return none, fmt.Errorf("device %s: %w", rule.Quote(device), err)
	}
	if text == nil {
		if _, err := f.disk.Lstat(filepath.Join(path, NoKeyFile)); err == nil {
			return none, nil
		}
		return none, damaged(device, "%s has no %s; restore it, or move the folder away so that the device gets a new key", path, KeyFile)
	}
	key, err := csr.ParsePrivateKey(text)
	clear(text)
	if err != nil {
		return none, damaged(device, "%s: %v", filepath.Join(path, KeyFile), err)
	}
	return key, nil
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
	case f.checksModes() && name == KeyFile && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%w: %w", ErrPermissions,
			f.wrongMode(folder, "%s has mode %#o; find out who could have read it, then run chmod 600 on it", path, info.Mode().Perm()))
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
func (f *Folder) checksModes() bool {
	return runtime.GOOS != "windows" && runtime.GOOS != "plan9" && !f.opts.NoModes
}

// wrongMode returns what is wrong with a mode, or that modes do not stick in the folder, so that no chmod helps.
func (f *Folder) wrongMode(folder, format string, args ...any) error {
	return adviseNoModes(durable.WrongMode(f.disk, folder, fmt.Errorf(format, args...)))
}

// Devices lists the devices that have a folder, in no particular order, with what was put but not synced left out. It
// does not look into the folders, unless there is a [FolderOptions.Name]: then it reads the request in each. Entries that
// are no device's are passed over. The error ends it.
func (f *Folder) Devices(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		more := true
		err := f.disk.List(f.dir, func(name string, folder bool) bool {
			if ctx.Err() != nil {
				return false
			}
			if !folder || strings.HasPrefix(name, durable.TempPrefix) {
				return true
			}
			device, err := DeviceName(name)
			if f.opts.Name != nil {
				if owner, broken := f.owner(filepath.Join(f.dir, name)); broken == nil { // else Get reports what is wrong
					device, err = owner, nil
				}
			}
			if err == nil && device != "" {
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
