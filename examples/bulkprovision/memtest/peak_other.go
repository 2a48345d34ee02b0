//go:build !(linux || darwin)

package main

import (
	"errors"
	"os"
	"runtime"
)

func peak(*os.ProcessState) (int64, error) {
	return 0, errors.New("the peak of a process's memory is not to be had on " + runtime.GOOS + "; run this on Linux or macOS")
}
