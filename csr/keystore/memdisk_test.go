package keystore

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// memDisk is a disk that knows what would outlast a power cut: the content of a file as of its last sync, and the
// entries of a folder as of theirs. One step, counted over all operations that change or sync something, can be made to
// fail, or to be the last before the machine stops.
type memDisk struct {
	mu     sync.Mutex
	root   *node
	steps  int
	failAt int  // this step fails and does nothing; 0 for none
	stopAt int  // from this step on everything fails; 0 for never
	tear   bool // the step that fails has done a part of its work: half of a write
}

type node struct {
	folder  bool
	perm    fs.FileMode
	data    []byte
	saved   []byte // what is durable of data
	entries map[string]*node
	stable  map[string]*node // what is durable of entries
}

var (
	errFault   = errors.New("disk fault")
	errStopped = errors.New("machine stopped")
)

func newFolderNode(perm fs.FileMode) *node {
	return &node{folder: true, perm: perm, entries: map[string]*node{}, stable: map[string]*node{}}
}

func newMemDisk() *memDisk { return &memDisk{root: newFolderNode(0o755)} }

// survive is the disk after a power cut and a restart. Of what was not synced, entries and content may each be kept or
// lost: file systems differ.
func (d *memDisk) survive(keepEntries, keepData bool) *memDisk {
	seen := map[*node]*node{}
	var copyNode func(n *node) *node
	copyNode = func(n *node) *node {
		if c := seen[n]; c != nil {
			return c
		}
		c := &node{folder: n.folder, perm: n.perm}
		seen[n] = c
		if !n.folder {
			c.data = bytes.Clone(n.saved)
			if keepData {
				c.data = bytes.Clone(n.data)
			}
			c.saved = bytes.Clone(c.data)
			return c
		}
		c.entries, c.stable = map[string]*node{}, map[string]*node{}
		from := n.stable
		if keepEntries {
			from = n.entries
		}
		for name, child := range from {
			c.entries[name] = copyNode(child)
			c.stable[name] = c.entries[name]
		}
		return c
	}
	return &memDisk{root: copyNode(d.root)}
}

// step counts and decides. The caller holds the lock.
func (d *memDisk) step() error {
	d.steps++
	switch {
	case d.stopAt > 0 && d.steps >= d.stopAt:
		return errStopped
	case d.steps == d.failAt:
		return errFault
	}
	return nil
}

func (d *memDisk) find(path string) (*node, error) {
	n := d.root
	for part := range strings.SplitSeq(strings.Trim(filepath.ToSlash(path), "/"), "/") {
		if part == "" {
			continue
		}
		if !n.folder {
			return nil, fs.ErrInvalid
		}
		if n = n.entries[part]; n == nil {
			return nil, &fs.PathError{Op: "find", Path: path, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

func (d *memDisk) parent(path string) (*node, string, error) {
	n, err := d.find(filepath.Dir(path))
	return n, filepath.Base(path), err
}

// add makes an entry that must be new.
func (d *memDisk) add(path string, n *node) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	parent, name, err := d.parent(path)
	if err != nil {
		return err
	}
	if parent.entries[name] != nil {
		return &fs.PathError{Op: "make", Path: path, Err: fs.ErrExist}
	}
	parent.entries[name] = n
	return nil
}

func (d *memDisk) mkdir(path string, perm fs.FileMode) error { return d.add(path, newFolderNode(perm)) }

func (d *memDisk) create(path string, perm fs.FileMode) (diskFile, error) {
	n := &node{perm: perm}
	return &memFile{d, n}, d.add(path, n)
}

func (d *memDisk) link(from, to string) error {
	d.mu.Lock()
	n, err := d.find(from)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.add(to, n)
}

func (d *memDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	a, oldName, err := d.parent(from)
	if err != nil {
		return err
	}
	b, newName, err := d.parent(to)
	if err != nil {
		return err
	}
	n := a.entries[oldName]
	if n == nil {
		return fs.ErrNotExist
	}
	if there := b.entries[newName]; there != nil && (there.folder != n.folder || len(there.entries) > 0) {
		return fs.ErrExist
	}
	delete(a.entries, oldName)
	b.entries[newName] = n
	return nil
}

func (d *memDisk) remove(path string) error { return d.drop(path, false) }

func (d *memDisk) removeAll(path string) error { return ignoreMissing(d.drop(path, true)) }

func (d *memDisk) drop(path string, all bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	parent, name, err := d.parent(path)
	if err != nil {
		return err
	}
	n := parent.entries[name]
	switch {
	case n == nil:
		return fs.ErrNotExist
	case !all && len(n.entries) > 0:
		return errors.New("folder not empty")
	}
	delete(parent.entries, name)
	return nil
}

func (d *memDisk) lstat(path string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(path)
	if err != nil {
		return nil, err
	}
	return memInfo{n, filepath.Base(path)}, nil
}

func (d *memDisk) read(path string, limit int64) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(path)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(n.data[:min(int64(len(n.data)), limit+1)]), nil
}

func (d *memDisk) list(path string, yield func(string, bool) bool) error {
	d.mu.Lock()
	n, err := d.find(path)
	if err != nil {
		d.mu.Unlock()
		return err
	}
	var names []string
	for name := range n.entries {
		names = append(names, name)
	}
	d.mu.Unlock()
	slices.Sort(names)
	for _, name := range names {
		if !yield(name, n.entries[name].folder) {
			return nil
		}
	}
	return nil
}

func (d *memDisk) syncFile(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	n, err := d.find(path)
	if err != nil {
		return err
	}
	n.saved = bytes.Clone(n.data)
	return nil
}

func (d *memDisk) syncFolder(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	n, err := d.find(path)
	if err != nil {
		return err
	}
	n.stable = map[string]*node{}
	maps.Copy(n.stable, n.entries)
	return nil
}

type memFile struct {
	d *memDisk
	n *node
}

func (f *memFile) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		if f.d.tear {
			f.n.data = append(f.n.data, p[:len(p)/2]...)
			return len(p) / 2, err
		}
		return 0, err
	}
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *memFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		return err
	}
	f.n.saved = bytes.Clone(f.n.data)
	return nil
}

func (f *memFile) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.d.step()
}

type memInfo struct {
	n    *node
	name string
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return int64(len(i.n.data)) }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.n.folder }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.n.folder {
		return i.n.perm | fs.ModeDir
	}
	return i.n.perm
}
