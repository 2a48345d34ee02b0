//go:build windows

package keystore

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// lockArchive takes LockFileEx on one byte far behind the end of the archive, because Windows keeps others from reading
// what is locked. The lock belongs to the open file and is gone when the process ends, however that happens.
func lockArchive(f *os.File) (unlock func() error, err error) {
	const (
		failImmediately = 1
		exclusive       = 2
		lockViolation   = syscall.Errno(33)
	)
	lockFileEx := syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")
	where := &syscall.Overlapped{Offset: 0, OffsetHigh: 0x7fffffff}
	ok, _, err := lockFileEx.Call(f.Fd(), exclusive|failImmediately, 0, 1, 0, uintptr(unsafe.Pointer(where)))
	switch {
	case ok != 0:
		return func() error { return nil }, nil // closing the file gives the lock back
	case errors.Is(err, lockViolation), errors.Is(err, syscall.ERROR_IO_PENDING):
		return nil, ErrInUse
	}
	return nil, fmt.Errorf("lock the file (keep it on a local disk): %w", err)
}
