package durable

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// moveNew is errors.ErrUnsupported where the kernel or the file system has no such rename.
func moveNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return errors.ErrUnsupported
	}
	return &os.LinkError{Op: "move", Old: from, New: to, Err: err}
}

// wholeMagic are the file systems whose syncfs writes everything and reports every failure. A network file system, FUSE
// or an overlay may not.
var wholeMagic = map[uint32]bool{unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true}

func (osDisk) Whole(folder string) (Whole, error) {
	if !syncfsReports() {
		return nil, nil
	}
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	var system unix.Statfs_t
	var stat unix.Stat_t
	if err := unix.Fstatfs(int(f.Fd()), &system); err != nil || !wholeMagic[uint32(system.Type)] {
		return nil, f.Close()
	}
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return nil, f.Close()
	}
	return &syncfs{f, stat}, nil
}

// syncfsReports reports whether the kernel's syncfs returns errors of writing: Linux 5.8 and later.
func syncfsReports() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	return atLeast(unix.ByteSliceToString(u.Release[:]), 5, 8)
}

// syncfs is a file system by a descriptor of a folder on it. The kernel notes on a descriptor when it was opened, and
// syncfs returns what failed to be written since.
type syncfs struct {
	folder *os.File
	stat   unix.Stat_t // of the folder
}

func (s *syncfs) Covers(path string) bool {
	var stat unix.Stat_t
	return unix.Stat(path, &stat) == nil && stat.Dev == s.stat.Dev
}

func (s *syncfs) Sync() error {
	for {
		err := unix.Syncfs(int(s.folder.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: "syncfs", Path: s.folder.Name(), Err: err}
		}
	}
}

func (s *syncfs) Close() error { return s.folder.Close() }
