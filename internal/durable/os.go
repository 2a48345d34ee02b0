package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
)

// OS is the file system of the operating system.
func OS() Disk { return osDisk{} }

type osDisk struct{}

func (osDisk) Create(path string, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	if err := ignoreDenied(f.Chmod(perm)); err != nil && runtime.GOOS != "windows" {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

func (osDisk) Mkdir(path string, perm fs.FileMode) error {
	if err := os.Mkdir(path, perm); err != nil {
		return err
	}
	return ignoreDenied(os.Chmod(path, perm))
}

func (osDisk) Rename(from, to string) error           { return os.Rename(from, to) }
func (osDisk) Link(from, to string) error             { return os.Link(from, to) }
func (osDisk) Remove(path string) error               { return os.Remove(path) }
func (osDisk) RemoveAll(path string) error            { return os.RemoveAll(path) }
func (osDisk) Lstat(path string) (fs.FileInfo, error) { return os.Lstat(path) }

func (osDisk) Move(from, to string) error {
	err := moveNew(from, to)
	if errors.Is(err, errors.ErrUnsupported) {
		return moveByLink(from, to, os.Link)
	}
	return err
}

// moveByLink moves to a free name where the system has no call for it. Of two that move to one name, one wins, on any
// file system with hard links; on one without (FAT), and for folders that are empty, that holds only where they do not
// run at the same moment.
func moveByLink(from, to string, link func(from, to string) error) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		err := link(from, to)
		if err == nil {
			return ignoreMissing(os.Remove(from))
		}
		if errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// No hard links here, or none allowed.
	if _, err := os.Lstat(to); err == nil {
		return &fs.PathError{Op: "move", Path: to, Err: fs.ErrExist}
	}
	err = os.Rename(from, to)
	if err != nil {
		if _, there := os.Lstat(to); there == nil {
			return &fs.PathError{Op: "move", Path: to, Err: fs.ErrExist}
		}
	}
	return err
}

func (osDisk) Read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	return data, errors.Join(err, f.Close())
}

func (osDisk) List(path string, yield func(name string, folder bool) bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			if !yield(e.Name(), e.IsDir()) {
				return f.Close()
			}
		}
		if err == io.EOF {
			return f.Close()
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
}

func (osDisk) SyncFile(path string) error {
	// Windows flushes only through a handle that may write.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (osDisk) SyncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // NTFS journals its directories, and a handle of one cannot be flushed
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d osDisk) Hold(path string, alone bool) (io.Closer, error) {
	if f, err := d.Create(path, 0o600); err == nil {
		if err := f.Close(); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	switch err := hold(f, alone); {
	case err == nil:
		return f, nil
	case errors.Is(err, ErrHeld), errors.Is(err, errors.ErrUnsupported):
		return nil, errors.Join(err, f.Close())
	default:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
}
