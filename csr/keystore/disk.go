package keystore

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// disk is every way in which this package touches a file system, so that a test can fail, stop or lose each step in
// turn.
type disk interface {
	// create makes a new file with exactly these permissions, whatever the umask; it fails if there is one.
	create(path string, perm fs.FileMode) (diskFile, error)
	// mkdir makes a new folder with exactly these permissions; it fails if there is one.
	mkdir(path string, perm fs.FileMode) error
	// rename moves a file or folder. A folder that is not empty is never replaced.
	rename(from, to string) error
	// link gives a file a second name; it fails if that name is taken.
	link(from, to string) error
	remove(path string) error
	removeAll(path string) error
	lstat(path string) (fs.FileInfo, error)
	// read returns the first bytes of a file, at most limit+1.
	read(path string, limit int64) ([]byte, error)
	// list calls yield for each entry until it returns false.
	list(path string, yield func(name string, folder bool) bool) error
	// syncFile makes the content of a file durable.
	syncFile(path string) error
	// syncFolder makes the entries of a folder durable.
	syncFolder(path string) error
}

type diskFile interface {
	io.Writer
	Sync() error
	Close() error
}

// osDisk is the real one.
type osDisk struct{}

func (osDisk) create(path string, perm fs.FileMode) (diskFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(perm); err != nil && runtime.GOOS != "windows" {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

func (osDisk) mkdir(path string, perm fs.FileMode) error {
	if err := os.Mkdir(path, perm); err != nil {
		return err
	}
	return os.Chmod(path, perm)
}

func (osDisk) rename(from, to string) error           { return os.Rename(from, to) }
func (osDisk) link(from, to string) error             { return os.Link(from, to) }
func (osDisk) remove(path string) error               { return os.Remove(path) }
func (osDisk) removeAll(path string) error            { return os.RemoveAll(path) }
func (osDisk) lstat(path string) (fs.FileInfo, error) { return os.Lstat(path) }

func (osDisk) read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	return data, errors.Join(err, f.Close())
}

func (osDisk) list(path string, yield func(name string, folder bool) bool) error {
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

func (osDisk) syncFile(path string) error {
	// Windows flushes only through a handle that may write.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (osDisk) syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // NTFS journals its directories, and a handle of one cannot be flushed
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// ensureFolder makes a folder with its parents, 0700 each, and every new entry durable. One that exists is left as it
// is, and its entry made durable.
func ensureFolder(d disk, path string) error {
	info, err := d.lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if info, err = os.Stat(path); err != nil {
			return err // a link to nothing, such as a disk that is not mounted: nothing can be made in its place
		}
	}
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "open", Path: path, Err: errors.New("is not a folder")}
		}
		// The process that made it may have died before this. Where it cannot be done, somebody else made the folder.
		err := d.syncFolder(filepath.Dir(path))
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
			return nil
		}
		return err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := ensureFolder(d, parent); err != nil {
			return err
		}
	}
	if err := d.mkdir(path, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.syncFolder(parent)
}
