//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package durable

func (osDisk) Lock(string) error { return nil }
