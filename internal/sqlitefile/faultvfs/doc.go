// Package faultvfs is a file layer for SQLite that fails or stops where a test wants it to: at the n-th write, sync,
// truncation or deletion, with a full disk, half a block written, or the power gone and everything lost that was not
// synced.
//
//	disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
//		if op.N == 17 {
//			return faultvfs.Stop // the process is dead from here on, as far as the disk can tell
//		}
//		return faultvfs.None
//	})
//	…
//	defer disk.Close()
//	db, err := kind.Open(ctx, path, sqlitefile.Options{VFS: disk.Name()})
//
// Below it is SQLite's own file layer, so locks and memory maps work as they do without. It is for tests only: it is
// slower, and holds what was not synced in memory.
//
// The promises that SQLite makes about such moments, and a test can hold it to: https://sqlite.org/atomiccommit.html.
// The runs that depend on them register devices as AWS describes here:
// https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html.
package faultvfs
