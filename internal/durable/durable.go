// Package durable writes files and folders that outlast a power cut: whole or not there, under a name that stays.
//
// A file is written under a hidden name, synced, and only then given its own; the folder is synced behind it. [Group]
// does that for many files with two syncs in place of several for each. [Disk] is every way in which the callers touch
// a file system, so that a test can fail, stop or lose each step in turn: see package memdisk.
package durable

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Disk is a file system. [OS] is the real one.
type Disk interface {
	// Create makes a new file with exactly these permissions, whatever the umask, as far as the file system keeps them
	// (see [Probe]); it fails if there is one.
	Create(path string, perm fs.FileMode) (File, error)
	// Mkdir makes a new folder in the same way; it fails if there is one.
	Mkdir(path string, perm fs.FileMode) error
	// Rename moves a file, in place of another one if there is one.
	Rename(from, to string) error
	// Move moves a file or a folder to a name that is free; fs.ErrExist if it is taken.
	Move(from, to string) error
	// Link makes a second name, which must be free, for a file: fs.ErrExist if it is taken. It fails where a file system has
	// no hard links, or none from one of its folders to the other.
	Link(from, to string) error
	Remove(path string) error
	RemoveAll(path string) error
	Lstat(path string) (fs.FileInfo, error)
	// Read returns the first bytes of a file, at most limit+1.
	Read(path string, limit int64) ([]byte, error)
	// List calls yield for each entry until it returns false.
	List(path string, yield func(name string, folder bool) bool) error
	// Lock takes a lock on a file as SQLite does, and drops it.
	Lock(path string) error
	// Hold takes a lock on a file, which it makes if there is none: alone, or beside others that are not alone. It ends
	// with Close, and with the process. [ErrHeld] if another holder, in this process or another, does not allow it, at
	// once; errors.ErrUnsupported if the file system or the operating system has no such lock.
	Hold(path string, alone bool) (io.Closer, error)
	// SyncFile makes the content of a file durable.
	SyncFile(path string) error
	// SyncFolder makes the entries of a folder durable.
	SyncFolder(path string) error
	// Whole returns what syncs all of the file system that a folder is on, and reports every failure to write since
	// Whole was called. It returns nil if that cannot be done, or is not known to be reliable there.
	Whole(folder string) (Whole, error)
}

// File is a file that is being written.
type File interface {
	io.Writer
	Sync() error
	Close() error
}

// Whole syncs a file system, see [Disk].
type Whole interface {
	// Covers reports whether a path is on that file system.
	Covers(path string) bool
	Sync() error
	Close() error
}

// ErrHeld reports that another holder has a lock, see [Disk].
var ErrHeld = errors.New("another holder has the lock")

const folderMode fs.FileMode = 0o700

// TempPrefix starts the name of everything unfinished.
const TempPrefix = ".unfinished-"

const tempBytes = 10

// TempName returns a name for something unfinished that nobody else has.
func TempName() string {
	var b [tempBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	return TempPrefix + hex.EncodeToString(b[:])
}

// IsTempName reports whether a name is one that [TempName] makes.
func IsTempName(name string) bool {
	digits, ok := strings.CutPrefix(name, TempPrefix)
	_, err := hex.DecodeString(digits)
	return ok && err == nil && len(digits) == 2*tempBytes
}

// MakeFolder makes a folder with its parents, 0700 each, and every new entry durable. One that exists is left as it is,
// and its entry made durable.
func MakeFolder(d Disk, path string) error {
	info, err := d.Lstat(path)
	if err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if info, err = os.Stat(path); err != nil {
			return err // a link to nothing, such as a disk that is not mounted: nothing can be made in its place
		}
	}
	if err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "open", Path: path, Err: errors.New("is not a folder")}
		}
		return SyncName(d, path) // the process that made it may have died before this
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := MakeFolder(d, parent); err != nil {
			return err
		}
	}
	if err := d.Mkdir(path, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.SyncFolder(parent); !isUnsupported(err) {
		return err
	}
	return &LackError{parent, FolderSync}
}

// SyncName makes the name of a file or folder that exists durable, as far as the system can: some do not open folders,
// some file systems cannot sync them and make names durable by themselves, and a folder that this user may not read was
// made by somebody else.
func SyncName(d Disk, path string) error {
	err := d.SyncFolder(filepath.Dir(path))
	return ignoreDenied(err)
}

// ReplaceFile writes a file that is there whole or not at all, also after a crash, and is durable when ReplaceFile
// returns nil. It takes the place of an earlier one: readers see the old content or the new, never a mixture. perm is
// what the file has, whatever the umask. The content is never in memory as a whole.
func ReplaceFile(d Disk, path string, perm fs.FileMode, write func(io.Writer) error) error {
	if info, err := d.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("write %s: it is not a regular file and was left as it is", path)
	}
	folder := filepath.Dir(path)
	temp := filepath.Join(folder, TempName())
	err := writeSynced(d, temp, perm, write)
	if err == nil {
		err = d.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), ignoreMissing(d.Remove(temp)))
	}
	if err := d.SyncFolder(folder); err != nil {
		return fmt.Errorf("write %s: the file is there, but may not outlast a power cut: %w", path, err)
	}
	return nil
}

func writeSynced(d Disk, path string, perm fs.FileMode, write func(io.Writer) error) error {
	f, err := d.Create(path, perm)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
