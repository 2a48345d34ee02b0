package memdisk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
)

// Poor is a [durable.Disk] on a file system that lacks something.
type Poor struct {
	durable.Disk
	Without durable.Need
}

// Lstat shows mode 0777 without modes.
func (p Poor) Lstat(path string) (fs.FileInfo, error) {
	info, err := p.Disk.Lstat(path)
	if err == nil && p.Without&durable.Modes != 0 {
		info = openToAll{info}
	}
	return info, err
}

type openToAll struct{ fs.FileInfo }

func (o openToAll) Mode() fs.FileMode { return o.FileInfo.Mode() | 0o777 }

// SyncFolder fails as it does on SMB.
func (p Poor) SyncFolder(path string) error {
	if p.Without&durable.FolderSync != 0 {
		return &os.PathError{Op: "sync", Path: path, Err: syscall.EINVAL}
	}
	return p.Disk.SyncFolder(path)
}

// Lock fails as it does on NFS without its lock daemon.
func (p Poor) Lock(path string) error {
	if p.Without&durable.Locks != 0 {
		return &os.PathError{Op: "lock", Path: path, Err: syscall.ENOLCK}
	}
	return p.Disk.Lock(path)
}

// Hold fails in the same way.
func (p Poor) Hold(path string, alone bool) (io.Closer, error) {
	if p.Without&durable.Locks != 0 {
		return nil, errors.ErrUnsupported
	}
	return p.Disk.Hold(path, alone)
}
