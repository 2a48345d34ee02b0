//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package durable

import (
	"errors"
	"os"
)

func (osDisk) Lock(string) error { return nil }

func hold(*os.File, bool) error { return errors.ErrUnsupported }
