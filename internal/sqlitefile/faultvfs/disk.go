package faultvfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	sqlite3 "modernc.org/sqlite/lib"
)

// Kind is what SQLite asks of the disk.
type Kind string

// The kinds of operations that change what is on the disk. Reading always works.
const (
	Create   Kind = "create" // opening a file that is not there
	Write    Kind = "write"
	Truncate Kind = "truncate"
	Sync     Kind = "sync"
	Delete   Kind = "delete"
)

// Op is one operation.
type Op struct {
	N      int // from 1, in the order they are asked for
	Kind   Kind
	File   string // base name, such as fleet.db-wal
	Offset int64  // of a Write
	Size   int64  // number of bytes of a Write; new length of a Truncate
}

// String shows an operation as in "17: write 4096 bytes at 32 of fleet.db-wal".
func (o Op) String() string {
	switch o.Kind {
	case Write:
		return fmt.Sprintf("%d: write %d bytes at %d of %s", o.N, o.Size, o.Offset, o.File)
	case Truncate:
		return fmt.Sprintf("%d: truncate %s to %d bytes", o.N, o.File, o.Size)
	default:
		return fmt.Sprintf("%d: %s %s", o.N, o.Kind, o.File)
	}
}

// Fault is what becomes of an operation.
type Fault int

// The faults.
const (
	None Fault = iota // it is done
	Fail              // it is not done and fails; later ones work again
	Full              // the same, because the disk is full; of a sync and a deletion it is Fail
	Tear              // of a write the first half is done, then as Stop; of anything else it is Stop
	Stop              // it is not done, and nothing later is either: the process has died
	Done              // it is done, and nothing later is: the process has died right after
)

// Disk is a file layer. It is safe for concurrent use.
type Disk struct {
	name   string
	decide func(Op) Fault
	n      atomic.Int64

	mu       sync.Mutex
	stopped  bool
	unsynced []change
	vfs      uintptr
}

// change is something that was done and not synced, with what it takes to undo it.
type change struct {
	path   string
	offset int64
	before []byte // what was there; shorter than what was written where the file ended
	size   int64  // of the file before
}

// New makes a file layer. decide is called with each operation, one at a time, and must not use the database. Nil means
// that nothing fails. Close it when every database that uses it is closed.
func New(decide func(Op) Fault) (*Disk, error) {
	if decide == nil {
		decide = func(Op) Fault { return None }
	}
	d := &Disk{name: fmt.Sprintf("faultvfs-%d", serial.Add(1)), decide: decide}
	if err := d.register(); err != nil {
		return nil, err
	}
	return d, nil
}

var serial atomic.Int64

// Name is what SQLite knows the file layer by: the value of Options.VFS.
func (d *Disk) Name() string { return d.name }

// Ops is the number of operations so far.
func (d *Disk) Ops() int { return int(d.n.Load()) }

// Stopped reports whether the process has died, as far as the disk can tell.
func (d *Disk) Stopped() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopped
}

// CutPower takes from the disk what was not synced, as a power cut does: each write since the last sync of its file is
// undone or stays, as the dice fall, and one may be half done. Close every database first, after a Stop. Creations and
// deletions stay.
func (d *Disk) CutPower(dice *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.stopped {
		return errors.New("faultvfs: the disk has not stopped")
	}
	for i := len(d.unsynced) - 1; i >= 0; i-- {
		c := d.unsynced[i]
		keep := 0
		switch dice.IntN(4) {
		case 0:
			continue
		case 1:
			keep = dice.IntN(len(c.before) + 1)
		}
		if err := c.undo(keep); err != nil {
			return err
		}
	}
	d.unsynced = nil
	return nil
}

// undo puts back what was there, except for the first bytes.
func (c change) undo(keep int) error {
	f, err := os.OpenFile(c.path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(c.before[keep:], c.offset+int64(keep))
	if info, e := f.Stat(); err == nil && e == nil && info.Size() > c.size {
		err = f.Truncate(max(c.size, c.offset+int64(keep)))
	}
	return errors.Join(err, f.Close())
}

// ask numbers an operation and decides on it.
func (d *Disk) ask(op Op) Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return Stop
	}
	op.N, op.File = int(d.n.Add(1)), filepath.Base(op.File)
	f := d.decide(op)
	if f == Tear || f == Stop || f == Done {
		d.stopped = true
	}
	return f
}

func (d *Disk) did(c change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unsynced = append(d.unsynced, c)
}

func (d *Disk) synced(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := d.unsynced[:0]
	for _, c := range d.unsynced {
		if c.path != path {
			kept = append(kept, c)
		}
	}
	d.unsynced = kept
}

// result is what SQLite is told about an operation that was not done.
func result(f Fault, failed int32) int32 {
	if f == Full {
		return sqlite3.SQLITE_FULL
	}
	return failed
}
