// Package memdisk is a [durable.Disk] in memory that knows what would outlast a power cut. It is for tests.
package memdisk

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
)

// Disk knows what would outlast a power cut: the content of a file as of its last sync, and the entries of a folder as
// of theirs. One step, counted over all operations that change or sync something, can be made to fail, or to be the
// last before the machine stops.
type Disk struct {
	// WholeSync is whether the file system can be synced as a whole.
	WholeSync bool
	Steps     int
	FailAt    int  // this step fails and does nothing; 0 for none
	StopAt    int  // from this step on everything fails; 0 for never
	Tear      bool // the step that fails has done a part of its work: half of a write, half of a sync of the whole
	// Elsewhere is a folder that is a file system of its own; empty for none.
	Elsewhere string

	mu   sync.Mutex
	root *node
	held map[string][]*holder // by the path of the file
	lost int                  // how often a write in the background failed
}

var _ durable.Disk = (*Disk)(nil)

type node struct {
	folder  bool
	perm    fs.FileMode
	data    []byte
	saved   []byte // what is durable of data
	lost    bool   // the system gave up on writing data
	entries map[string]*node
	stable  map[string]*node // what is durable of entries
}

// Lock locks nothing: one process has the disk.
func (d *Disk) Lock(string) error { return nil }

// holder has a lock.
type holder struct {
	disk  *Disk
	path  string
	alone bool
}

// Hold takes a lock, and makes no file for it. It is no step.
func (d *Disk) Hold(path string, alone bool) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if others := d.held[path]; len(others) > 0 && (alone || others[0].alone) {
		return nil, durable.ErrHeld
	}
	if d.held == nil {
		d.held = map[string][]*holder{}
	}
	h := &holder{d, path, alone}
	d.held[path] = append(d.held[path], h)
	return h, nil
}

// Close drops the lock.
func (h *holder) Close() error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	h.disk.held[h.path] = slices.DeleteFunc(h.disk.held[h.path], func(o *holder) bool { return o == h })
	return nil
}

// Die drops every lock, as when the process that has them dies.
func (d *Disk) Die() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = nil
}

// The errors of a step.
var (
	ErrFault   = errors.New("disk fault")
	ErrStopped = errors.New("machine stopped")
)

func newFolderNode(perm fs.FileMode) *node {
	return &node{folder: true, perm: perm, entries: map[string]*node{}, stable: map[string]*node{}}
}

// New makes an empty disk.
func New() *Disk { return &Disk{root: newFolderNode(0o755)} }

// Survive is the disk after a power cut and a restart. Of what was not synced, entries and content may each be kept or
// lost: file systems differ.
func (d *Disk) Survive(keepEntries, keepData bool) *Disk {
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
	return &Disk{root: copyNode(d.root), WholeSync: d.WholeSync, Elsewhere: d.Elsewhere}
}

// step counts and decides. The caller holds the lock.
func (d *Disk) step() error {
	d.Steps++
	switch {
	case d.StopAt > 0 && d.Steps >= d.StopAt:
		return ErrStopped
	case d.Steps == d.FailAt:
		return ErrFault
	}
	return nil
}

// do is one step.
func (d *Disk) do(change func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(); err != nil {
		return err
	}
	return change()
}

func (d *Disk) find(path string) (*node, error) {
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

func (d *Disk) parent(path string) (*node, string, error) {
	n, err := d.find(filepath.Dir(path))
	return n, filepath.Base(path), err
}

// add makes an entry that must be new.
func (d *Disk) add(path string, n *node) error {
	return d.do(func() error {
		parent, name, err := d.parent(path)
		if err != nil {
			return err
		}
		if parent.entries[name] != nil {
			return &fs.PathError{Op: "make", Path: path, Err: fs.ErrExist}
		}
		parent.entries[name] = n
		return nil
	})
}

// Mkdir makes a folder.
func (d *Disk) Mkdir(path string, perm fs.FileMode) error { return d.add(path, newFolderNode(perm)) }

// Create makes a file.
func (d *Disk) Create(path string, perm fs.FileMode) (durable.File, error) {
	n := &node{perm: perm}
	return &memFile{d, n}, d.add(path, n)
}

// Rename moves a file.
func (d *Disk) Rename(from, to string) error { return d.move(from, to, true) }

// Move moves a file or a folder to a name that is free.
func (d *Disk) Move(from, to string) error { return d.move(from, to, false) }

func (d *Disk) move(from, to string, replace bool) error {
	return d.do(func() error {
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
		if there := b.entries[newName]; there != nil && (!replace || there.folder != n.folder || len(there.entries) > 0) {
			return &fs.PathError{Op: "move", Path: to, Err: fs.ErrExist}
		}
		delete(a.entries, oldName)
		b.entries[newName] = n
		return nil
	})
}

// Link makes a second name for a file, unless it is on another file system.
func (d *Disk) Link(from, to string) error {
	w := &whole{d: d}
	if w.Covers(from) != w.Covers(to) {
		return errors.New("no link to another file system")
	}
	d.mu.Lock()
	n, err := d.find(from)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.add(to, n)
}

// Remove removes a file or an empty folder.
func (d *Disk) Remove(path string) error { return d.drop(path, false) }

// RemoveAll removes a file or a folder with all in it.
func (d *Disk) RemoveAll(path string) error {
	if err := d.drop(path, true); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *Disk) drop(path string, all bool) error {
	return d.do(func() error {
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
	})
}

// Lstat describes a file or folder.
func (d *Disk) Lstat(path string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(path)
	if err != nil {
		return nil, err
	}
	return memInfo{n, filepath.Base(path)}, nil
}

// Read returns the first bytes of a file.
func (d *Disk) Read(path string, limit int64) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(path)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(n.data[:min(int64(len(n.data)), limit+1)]), nil
}

// List lists a folder by name.
func (d *Disk) List(path string, yield func(string, bool) bool) error {
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

// SyncFile makes the content of a file durable.
func (d *Disk) SyncFile(path string) error { return d.sync(path) }

// SyncFolder makes the entries of a folder durable.
func (d *Disk) SyncFolder(path string) error { return d.sync(path) }

func (d *Disk) sync(path string) error {
	return d.do(func() error {
		n, err := d.find(path)
		if err != nil {
			return err
		}
		if n.lost {
			return ErrFault
		}
		n.save()
		return nil
	})
}

// Whole syncs the whole file system as one step.
func (d *Disk) Whole(string) (durable.Whole, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.WholeSync {
		return nil, nil
	}
	return &whole{d, d.lost}, nil
}

// LoseWrites lets the background write of every file below a folder that is not synced fail, as a disk does: the system
// takes the files for written, and what was not synced does not outlast a power cut. Only a sync of the whole that was
// begun before reports it.
func (d *Disk) LoseWrites(folder string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(folder)
	if err != nil {
		return
	}
	d.each("", n, func(_ string, n *node) {
		if !n.folder && !bytes.Equal(n.data, n.saved) {
			n.lost = true
		}
	})
	d.lost++
}

// each visits nodes in order of their paths.
func (d *Disk) each(path string, n *node, visit func(string, *node)) {
	visit(path, n)
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		d.each(path+"/"+name, n.entries[name], visit)
	}
}

type whole struct {
	d    *Disk
	lost int
}

func (w *whole) Covers(path string) bool {
	return w.d.Elsewhere == "" || !strings.HasPrefix(filepath.ToSlash(path)+"/", w.d.Elsewhere+"/")
}

func (w *whole) Sync() error {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	err := w.d.step()
	if err != nil && !w.d.Tear {
		return err
	}
	var nodes []*node
	w.d.each("", w.d.root, func(path string, n *node) {
		if w.Covers(path) {
			nodes = append(nodes, n)
		}
	})
	if err != nil {
		nodes = nodes[:len(nodes)/2]
	}
	for _, n := range nodes {
		n.save()
	}
	if err == nil && w.d.lost > w.lost {
		w.lost = w.d.lost
		return ErrFault
	}
	return err
}

func (w *whole) Close() error { return nil }

// save makes a node durable, unless it was lost.
func (n *node) save() {
	if n.folder {
		n.stable = maps.Clone(n.entries)
	} else if !n.lost {
		n.saved = bytes.Clone(n.data)
	}
}

type memFile struct {
	d *Disk
	n *node
}

func (f *memFile) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		if f.d.Tear {
			f.n.data = append(f.n.data, p[:len(p)/2]...)
			return len(p) / 2, err
		}
		return 0, err
	}
	f.n.data = append(f.n.data, p...)
	return len(p), nil
}

func (f *memFile) Sync() error {
	return f.d.do(func() error { f.n.save(); return nil })
}

func (f *memFile) Close() error { return f.d.do(func() error { return nil }) }

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
