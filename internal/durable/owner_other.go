//go:build !unix

package durable

import "io/fs"

const hasModes = false

func owner(fs.FileInfo) (uid int, ok bool) { return 0, false }
