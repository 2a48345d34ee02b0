package keystore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// WriteFile writes a new file that is there whole or not at all, also after a crash, and is durable when WriteFile
// returns nil. It never replaces a file: that is an [ErrExists] naming the path. perm is what the file gets, whatever
// the umask; 0600 for anything secret. The folder must exist, as [Folder.Path] does once a device was synced.
//
// Of two calls for one path, one wins and the other gets ErrExists, on any file system with hard links; on one without
// (FAT), that holds only where they do not run at the same moment.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return writeFile(osDisk{}, path, data, perm, false)
}

// ReplaceFile writes like [WriteFile], and replaces the file if there is one: readers see the old content or the new,
// never a mixture. Do not use it for keys.
func ReplaceFile(path string, data []byte, perm fs.FileMode) error {
	return writeFile(osDisk{}, path, data, perm, true)
}

func writeFile(d disk, path string, data []byte, perm fs.FileMode, replace bool) (err error) {
	folder := filepath.Dir(path)
	info, err := d.lstat(path)
	switch {
	case err == nil && !replace:
		return &ExistsError{Path: path}
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("write %s: it is not a regular file and was left as it is", path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("write %s: %w", path, err)
	}
	temp := filepath.Join(folder, tempPrefix+randomName())
	if err := writeSynced(d, temp, data, perm); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), ignoreMissing(d.remove(temp)))
	}
	if err := place(d, temp, path, replace); err != nil {
		return errors.Join(err, ignoreMissing(d.remove(temp)))
	}
	if err := d.syncFolder(folder); err != nil {
		return fmt.Errorf("write %s: the file is there, but may not outlast a power cut: %w", path, err)
	}
	return nil
}

// place gives a finished file its name.
func place(d disk, temp, path string, replace bool) error {
	if !replace {
		err := d.link(temp, path)
		if err == nil {
			return ignoreMissing(d.remove(temp))
		}
		if errors.Is(err, fs.ErrExist) {
			return &ExistsError{Path: path}
		}
		// No hard links here, or none allowed. Look again and rename.
		if _, err := d.lstat(path); err == nil {
			return &ExistsError{Path: path}
		}
	}
	if err := d.rename(temp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeSynced(d disk, path string, data []byte, perm fs.FileMode) error {
	f, err := d.create(path, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
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

// tempPrefix starts the name of everything unfinished. No name made by FileName starts with a dot.
const tempPrefix = ".unfinished-"

func randomName() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
