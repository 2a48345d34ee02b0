//go:build unix

package keystore_test

import "syscall"

// withUmask runs f under a umask. It concerns the whole process, so no test that uses it runs in parallel.
func withUmask(umask int, f func()) {
	defer syscall.Umask(syscall.Umask(umask))
	f()
}
