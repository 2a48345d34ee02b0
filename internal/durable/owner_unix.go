//go:build unix

package durable

import (
	"io/fs"
	"syscall"
)

const hasModes = true

// owner returns the id of the user that a file belongs to.
func owner(info fs.FileInfo) (uid int, ok bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
