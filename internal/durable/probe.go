package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
)

// Need is what is asked of a file system; several are joined with |.
type Need uint8

// What a file system can lack.
const (
	Modes      Need = 1 << iota // files that only their owner may read: WSL's /mnt/c, exFAT and some SMB mounts have none
	FolderSync                  // the name of a new file is durable once its folder is synced: some SMB mounts can't
	Locks                       // a lock on a file: NFS without its lock daemon has none
)

// LackError reports what the file system of a folder lacks.
type LackError struct {
	Folder string
	Lacks  Need
}

// Error names what is lacking, and what to do.
func (e *LackError) Error() string {
	var lacks []string
	if e.Lacks&Modes != 0 {
		lacks = append(lacks, "does not keep the modes of files, so who else may read them is not known")
	}
	if e.Lacks&FolderSync != 0 {
		lacks = append(lacks, "cannot sync a folder, so a new file may be gone after a power cut")
	}
	if e.Lacks&Locks != 0 {
		lacks = append(lacks, "has no locks, so two programs could write to one file")
	}
	return fmt.Sprintf("the file system of %s %s; take a folder on a local disk (ext4, xfs, btrfs, APFS, NTFS; under WSL in your Linux home, not under /mnt)",
		e.Folder, strings.Join(lacks, ", and "))
}

// Lacks reports whether an error is about a file system that lacks one of these.
func Lacks(err error, need Need) bool {
	lack, ok := errors.AsType[*LackError](err)
	return ok && lack.Lacks&need != 0
}

// Probe tries with an empty file, which it removes, whether the file system of a folder has what is needed. A *[LackError]
// tells what it lacks.
func Probe(d Disk, folder string, need Need) (err error) {
	path := filepath.Join(folder, TempName())
	f, err := d.Create(path, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreMissing(d.Remove(path))) }()
	if err := f.Close(); err != nil {
		return err
	}
	lack := &LackError{Folder: folder}
	if need&Modes != 0 {
		info, err := d.Lstat(path)
		if err != nil {
			return err
		}
		if hasModes && info.Mode().Perm() != 0o600 {
			lack.Lacks |= Modes
		}
	}
	if need&FolderSync != 0 {
		if err := d.SyncFolder(folder); isUnsupported(err) {
			lack.Lacks |= FolderSync
		} else if err != nil {
			return err
		}
	}
	if need&Locks != 0 {
		if err := d.Lock(path); isUnsupported(err) || errors.Is(err, syscall.ENOLCK) {
			lack.Lacks |= Locks
		} else if err != nil {
			return err
		}
	}
	if lack.Lacks != 0 {
		return lack
	}
	return nil
}

func isUnsupported(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL)
}

// keepsNoModes returns a *[LackError] if the modes of files do not stick in a folder, so that no chmod could change what
// is wrong with one.
func keepsNoModes(d Disk, folder string) error {
	if err := Probe(d, folder, Modes); Lacks(err, Modes) {
		return err
	}
	return nil
}

// WrongMode returns a *[LackError] in place of err, which advises a change of modes in a folder, if they do not stick
// there.
func WrongMode(d Disk, folder string, err error) error {
	if lack := keepsNoModes(d, folder); lack != nil {
		return lack
	}
	return err
}

// ignoreDenied is for a change of mode that the file system refuses: whether modes stick is for [Probe] to find out.
func ignoreDenied(err error) error {
	if errors.Is(err, fs.ErrPermission) || isUnsupported(err) {
		return nil
	}
	return err
}
