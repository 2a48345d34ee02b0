//go:build !windows && (!unix || aix || solaris)

package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// lockArchive makes a lock file beside the archive. Where the standard library has no lock that ends with the process,
// that is what is left: after a crash, it has to be deleted by hand.
func lockArchive(f *os.File) (unlock func() error, err error) {
	path := f.Name() + ".lock"
	lock, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w; if the process in %s has ended, delete that file", ErrInUse, path)
	}
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintln(lock, os.Getpid())
	if err := errors.Join(err, lock.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return func() error { return os.Remove(path) }, nil
}
