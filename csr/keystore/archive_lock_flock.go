//go:build unix && !aix && !solaris

package keystore

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockArchive takes flock(2) on the archive itself: it belongs to the open file, so a second opening in this process is
// refused too, and it is gone when the process ends, however that happens.
func lockArchive(f *os.File) (unlock func() error, err error) {
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, ErrInUse
	case err != nil:
		return nil, fmt.Errorf("lock the file (keep it on a local disk): %w", err)
	}
	return func() error { return nil }, nil // closing the file gives the lock back
}
