package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckPlace returns an error if somebody else than this user and root can have put a folder or a file where it is, or
// can change what is in it: by its owner and its mode, and those of the folder that it is in. What does not exist is
// fine. Where modes do not stick it is a *[LackError]. Windows and Plan 9 are not looked at: who may write there
// follows the access rights of the folder.
func CheckPlace(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	places := []string{path}
	if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
		places = append(places, target)
	}
	for _, place := range places {
		if err := checkParent(filepath.Dir(place)); err != nil {
			return err
		}
	}
	return checkOne(path, func(info fs.FileInfo) error {
		if mode := info.Mode().Perm(); mode&0o022 != 0 {
			return WrongMode(OS(), inside(path, info), fmt.Errorf("%s has mode %#o, so others can change what is in it; run chmod go-w on it", path, mode))
		}
		return nil
	})
}

// checkOne checks the owner of what is at a path, and its modes where there are any. What does not exist is fine.
func checkOne(path string, modes func(fs.FileInfo) error) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if err := CheckOwner(path, info); err != nil || !hasModes {
		return err
	}
	return modes(info)
}

// inside is the folder to try modes in: the path itself, or the one that a file is in.
func inside(path string, info fs.FileInfo) string {
	if info.IsDir() {
		return path
	}
	return filepath.Dir(path)
}

// checkParent looks at a folder that something is in. With the sticky bit, as /tmp has it, others can't replace what is
// not theirs.
func checkParent(folder string) error {
	return checkOne(folder, func(info fs.FileInfo) error {
		if mode := info.Mode(); mode.Perm()&0o002 != 0 && mode&fs.ModeSticky == 0 {
			return WrongMode(OS(), folder, fmt.Errorf("%s has mode %#o, so others can replace what is in it; run chmod o-w on it", folder, mode.Perm()))
		}
		return nil
	})
}

// CheckOwner returns an error if a file or a folder belongs to somebody else than this user and root.
func CheckOwner(path string, info fs.FileInfo) error {
	if uid, ok := owner(info); ok && uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, who can change it; find out who made it, or take it over with chown", path, uid)
	}
	return nil
}
