package keystore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// archiveDisk is what an Archive needs of a file system.
type archiveDisk interface {
	disk
	// openArchive opens a file that exists; without readOnly it takes the lock too, or says ErrInUse.
	openArchive(path string, readOnly bool) (archiveFile, error)
}

// archiveFile is an open archive. Closing it gives the lock back.
type archiveFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
	Stat() (fs.FileInfo, error)
	// stillAt says whether path still leads to this file.
	stillAt(path string) error
}

type osArchiveFile struct {
	*os.File
	unlock func() error
}

func (osDisk) openArchive(path string, readOnly bool) (archiveFile, error) {
	// What is no regular file may hang or act when it is opened.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is not a regular file", ErrNotArchive)
	}
	flag := os.O_RDWR
	if readOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	if readOnly {
		return osArchiveFile{f, func() error { return nil }}, nil
	}
	unlock, err := lockArchive(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return osArchiveFile{f, unlock}, nil
}

func (f osArchiveFile) Close() error { return errors.Join(f.File.Close(), f.unlock()) }

func (f osArchiveFile) stillAt(path string) error {
	there, err := os.Stat(path)
	if err != nil {
		return err
	}
	own, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(there, own) {
		return fmt.Errorf("another file is at %s now", path)
	}
	return nil
}
