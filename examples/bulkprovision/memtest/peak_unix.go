//go:build linux || darwin

package main

import (
	"os"
	"runtime"
	"syscall"
)

// peak returns the most memory that a process had while it ran, in bytes: what was resident, the parts of files that it had
// mapped included. On Linux it is never less than this program had when it started the process, some MiB.
func peak(p *os.ProcessState) (int64, error) {
	most := int64(p.SysUsage().(*syscall.Rusage).Maxrss) //nolint:unconvert // on 32-bit systems it is an int32
	if runtime.GOOS != "darwin" {
		most <<= 10 // it is in KiB, but on macOS
	}
	return most, nil
}
