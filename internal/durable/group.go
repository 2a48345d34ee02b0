package durable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
)

// Workers is how many files are worked on at once: where each is synced by itself, waiting for the disk is most of it.
const Workers = 16

// Group makes many files and folders durable at once: with one sync of the file system where that is reliable (ext4,
// xfs and btrfs on Linux 5.8 and later), else with one for each file and folder, several at a time. Begin it before the
// first write, so that a write that fails in the background is noticed. It is safe for concurrent use.
type Group struct {
	disk    Disk
	whole   Whole // nil where each is synced by itself
	workers int
}

// Entry is a folder, and files, that a [Group] makes durable.
type Entry struct {
	Name   string   // what errors call it, `device "x"` for instance
	Files  []string // their content
	Folder string   // its entries; empty for none
}

// Begin begins a group of changes on the file system that a folder is on; workers is how many files are synced at once
// where it is one by one. Close it when done.
func Begin(d Disk, folder string, workers int) (*Group, error) {
	whole, err := d.Whole(folder)
	if err != nil {
		return nil, err
	}
	return &Group{d, whole, workers}, nil
}

// Sync makes the entries durable, all or an error. When ctx ends first, it is the context's error, and they can be
// synced again.
func (g *Group) Sync(ctx context.Context, entries []Entry) error {
	each := entries
	if g.whole != nil {
		each = nil
		for _, e := range entries { // a folder may be a link to another disk
			if !g.covers(e) {
				each = append(each, e)
			}
		}
		if len(each) < len(entries) {
			if err := g.whole.Sync(); err != nil {
				return err
			}
		}
	}
	return Each(ctx, g.workers, each, func(e Entry) error {
		for _, file := range e.Files {
			if err := g.disk.SyncFile(file); err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
		}
		if e.Folder == "" {
			return nil
		}
		if err := g.disk.SyncFolder(e.Folder); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		return nil
	})
}

func (g *Group) covers(e Entry) bool {
	if e.Folder != "" {
		return g.whole.Covers(e.Folder)
	}
	return len(e.Files) == 0 || g.whole.Covers(e.Files[0])
}

// Close ends the group.
func (g *Group) Close() error {
	if g == nil || g.whole == nil {
		return nil
	}
	return g.whole.Close()
}

// Write writes a file under a hidden name beside its own, not synced. [Group.Sync] makes it durable, and [Disk.Move]
// moves it to its name.
func Write(d Disk, folder string, data []byte, perm fs.FileMode) (temp string, err error) {
	temp = filepath.Join(folder, TempName())
	f, err := d.Create(temp, perm)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, ignoreMissing(d.Remove(temp)))
	}
	return temp, nil
}

// Each calls do for each item, for so many at a time. It returns the first error, or the context's if that ended before
// all were begun; those that were begun are finished.
func Each[T any](ctx context.Context, workers int, items []T, do func(T) error) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
		next  int
	)
	take := func() (item T, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if first == nil && next < len(items) {
			first = ctx.Err()
		}
		if first != nil || next == len(items) {
			return item, false
		}
		next++
		return items[next-1], true
	}
	for range min(workers, len(items)) {
		wg.Go(func() {
			for {
				item, ok := take()
				if !ok {
					return
				}
				if err := do(item); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}
