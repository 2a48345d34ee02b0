package keystore

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
)

// archiveMemDisk is a memDisk with files that are written at an offset and locked. After a failed sync it is as treacherous
// as a real one: what was to be written shows when it is read, counts as written from then on, and is not on the disk.
type archiveMemDisk struct {
	*memDisk
	dirty  map[*node][]bool // which bytes of a file the next sync will write
	locked map[*node]bool

	duringSync func() // called by a sync of an archive before it takes effect
}

func newArchiveMemDisk() *archiveMemDisk { return archiveDiskOf(newMemDisk()) }

func archiveDiskOf(d *memDisk) *archiveMemDisk {
	return &archiveMemDisk{memDisk: d, dirty: map[*node][]bool{}, locked: map[*node]bool{}}
}

// restart is the disk after the process died and the machine did not: all is as it was, only the lock is gone.
func (d *archiveMemDisk) restart() *archiveMemDisk {
	d.stopAt, d.failAt = 0, 0
	clear(d.locked)
	return d
}

// powerCuts is what the disk may hold after a power cut: of the content of the file at path that was not synced, all, nothing,
// the first part, or all but a part, which is zeros or was never written; and of the folders' entries, those that were
// synced, or all.
func (d *archiveMemDisk) powerCuts(path string) map[string]*archiveMemDisk {
	out := map[string]*archiveMemDisk{}
	n, err := d.find(path)
	if err != nil {
		out["without the file"] = archiveDiskOf(d.survive(false, true))
		return out
	}
	saved, data := n.saved, n.data
	same := 0
	for same < len(saved) && same < len(data) && saved[same] == data[same] {
		same++
	}
	variants := map[string][]byte{"nothing unsynced": saved, "all": data}
	if fresh := len(data) - same; fresh > 0 {
		for name, part := range map[string]int{"1/7": fresh / 7, "1/2": fresh / 2, "all but a byte": fresh - 1} {
			variants["first part "+name] = data[:same+part]
			hole := bytes.Clone(data)
			clear(hole[same : same+part])
			variants["zeros for the first part "+name] = hole
		}
		hole := bytes.Clone(data)
		clear(hole[same+fresh/3 : same+fresh/2])
		variants["zeros in the middle"] = hole
	}
	for name, content := range variants {
		for _, keepEntries := range []bool{false, true} {
			if keepEntries {
				name += ", all entries"
			}
			out[name] = d.with(path, content, keepEntries)
		}
	}
	return out
}

// with is the disk after a restart with another content of a file.
func (d *archiveMemDisk) with(path string, content []byte, keepEntries bool) *archiveMemDisk {
	c := d.survive(keepEntries, true)
	if n, err := c.find(path); err == nil {
		n.data, n.saved = bytes.Clone(content), bytes.Clone(content)
	}
	return archiveDiskOf(c)
}

func (d *archiveMemDisk) openArchive(path string, readOnly bool) (archiveFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(path)
	if err != nil {
		return nil, err
	}
	if n.folder {
		return nil, ErrNotArchive
	}
	if !readOnly {
		if d.locked[n] {
			return nil, ErrInUse
		}
		d.locked[n] = true
	}
	return &archiveMemFile{d: d, n: n, locks: !readOnly}, nil
}

type archiveMemFile struct {
	d     *archiveMemDisk
	n     *node
	locks bool
}

func (f *archiveMemFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if off > int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *archiveMemFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.step()
	if err != nil {
		if !f.d.tear {
			return 0, err
		}
		p = p[:len(p)/2]
	}
	end := int(off) + len(p)
	dirty := f.d.dirty[f.n]
	for len(f.n.data) < end {
		f.n.data = append(f.n.data, 0)
	}
	for len(dirty) < len(f.n.data) {
		dirty = append(dirty, false)
	}
	copy(f.n.data[off:], p)
	for i := int(off); i < end; i++ {
		dirty[i] = true
	}
	f.d.dirty[f.n] = dirty
	return len(p), err
}

func (f *archiveMemFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step(); err != nil {
		return err
	}
	if size > int64(len(f.n.data)) {
		return errors.New("the archive only ever cuts off")
	}
	f.n.data = f.n.data[:size]
	f.d.dirty[f.n] = f.d.dirty[f.n][:min(int(size), len(f.d.dirty[f.n]))]
	return nil
}

func (f *archiveMemFile) Sync() error {
	if f.d.duringSync != nil {
		f.d.duringSync()
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.d.step()
	if errors.Is(err, errStopped) {
		return err
	}
	dirty := f.d.dirty[f.n]
	delete(f.d.dirty, f.n)
	if err != nil {
		return err
	}
	saved := make([]byte, len(f.n.data))
	copy(saved, f.n.saved)
	for i := range dirty {
		if dirty[i] {
			saved[i] = f.n.data[i]
		}
	}
	f.n.saved = saved
	return nil
}

func (f *archiveMemFile) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.locks {
		delete(f.d.locked, f.n)
	}
	return f.d.step()
}

func (f *archiveMemFile) Stat() (fs.FileInfo, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return memInfo{&node{perm: f.n.perm, data: slices.Clip(f.n.data)}, "archive"}, nil
}

func (f *archiveMemFile) stillAt(path string) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	n, err := f.d.find(path)
	if err != nil {
		return err
	}
	if n != f.n {
		return errors.New("another file")
	}
	return nil
}
