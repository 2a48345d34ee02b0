package faultvfs

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// The shim is a copy of SQLite's own table of functions with a few of them replaced. What SQLite holds pointers to
// lives in C memory, and the functions are top-level ones, so that the garbage collector has nothing to do with either.
// Which disk and which file is meant is looked up by address.

var (
	mu      sync.Mutex
	disks   = map[uintptr]*Disk{}   // by the address of their sqlite3_vfs
	files   = map[uintptr]*file{}   // by the address of their sqlite3_file
	methods = map[uintptr]uintptr{} // copies of sqlite3_io_methods, by the address of the original
)

// file is an open file.
type file struct {
	disk *Disk
	path string // empty for a temporary file
	own  *sqlite3.Tsqlite3_io_methods
}

const (
	vfsSize     = unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})
	methodsSize = unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})
)

type (
	openFunc     = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	deleteFunc   = func(tls *libc.TLS, vfs, name uintptr, syncDir int32) int32
	closeFunc    = func(tls *libc.TLS, file uintptr) int32
	writeFunc    = func(tls *libc.TLS, file, buf uintptr, n int32, offset int64) int32
	truncateFunc = func(tls *libc.TLS, file uintptr, size int64) int32
	syncFunc     = func(tls *libc.TLS, file uintptr, flags int32) int32
)

// call returns the Go function that a field of SQLite's tables holds.
func call[F any](field uintptr) F { return *(*F)(unsafe.Pointer(&struct{ uintptr }{field})) }

// pointer is the value of a field that holds a Go function.
func pointer[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// at is what an address of C memory points to.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

// below is SQLite's own file layer.
func below(tls *libc.TLS) uintptr { return sqlite3.Xsqlite3_vfs_find(tls, 0) }

func (d *Disk) register() error {
	tls := libc.NewTLS()
	defer tls.Close()
	if rc := sqlite3.Xsqlite3_initialize(tls); rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("faultvfs: SQLite does not start: code %d", rc)
	}
	name, err := libc.CString(d.name)
	if err != nil {
		return fmt.Errorf("faultvfs: %w", err)
	}
	p := libc.Xmalloc(tls, libc.Tsize_t(vfsSize))
	if p == 0 {
		return errors.New("faultvfs: out of memory")
	}
	v := at[sqlite3.Tsqlite3_vfs](p)
	*v = *at[sqlite3.Tsqlite3_vfs](below(tls))
	v.FpNext, v.FzName = 0, name
	v.FxOpen, v.FxDelete = pointer[openFunc](open), pointer[deleteFunc](remove)
	mu.Lock()
	disks[p] = d
	mu.Unlock()
	d.vfs = p
	if rc := sqlite3.Xsqlite3_vfs_register(tls, p, 0); rc != sqlite3.SQLITE_OK {
		return fmt.Errorf("faultvfs: SQLite does not take the file layer: code %d", rc)
	}
	return nil
}

// Close takes the file layer away from SQLite. It fails while a file is open through it.
func (d *Disk) Close() error {
	mu.Lock()
	defer mu.Unlock()
	for _, f := range files {
		if f.disk == d {
			return fmt.Errorf("faultvfs: %s is still open; close the database first", f.path)
		}
	}
	if disks[d.vfs] != d {
		return nil
	}
	tls := libc.NewTLS()
	defer tls.Close()
	sqlite3.Xsqlite3_vfs_unregister(tls, d.vfs)
	delete(disks, d.vfs)
	libc.Xfree(tls, at[sqlite3.Tsqlite3_vfs](d.vfs).FzName)
	libc.Xfree(tls, d.vfs)
	return nil
}

func diskOf(vfs uintptr) *Disk {
	mu.Lock()
	defer mu.Unlock()
	return disks[vfs]
}

func fileOf(p uintptr) *file {
	mu.Lock()
	defer mu.Unlock()
	return files[p]
}

func open(tls *libc.TLS, vfs, name, p uintptr, flags int32, outFlags uintptr) int32 {
	d, path := diskOf(vfs), ""
	if name != 0 {
		path = libc.GoString(name)
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) && flags&sqlite3.SQLITE_OPEN_CREATE != 0 {
			if f := d.ask(Op{Kind: Create, File: path}); f != None && f != Done {
				return sqlite3.SQLITE_CANTOPEN
			}
		}
	}
	under := below(tls)
	rc := call[openFunc](at[sqlite3.Tsqlite3_vfs](under).FxOpen)(tls, under, name, p, flags, outFlags)
	sf := at[sqlite3.Tsqlite3_file](p)
	if rc != sqlite3.SQLITE_OK || sf.FpMethods == 0 {
		return rc
	}
	mu.Lock()
	defer mu.Unlock()
	files[p] = &file{disk: d, path: path, own: at[sqlite3.Tsqlite3_io_methods](sf.FpMethods)}
	m, ok := methods[sf.FpMethods]
	if !ok {
		m = libc.Xmalloc(tls, libc.Tsize_t(methodsSize)) // never freed; there are a handful of originals
		c := at[sqlite3.Tsqlite3_io_methods](m)
		*c = *at[sqlite3.Tsqlite3_io_methods](sf.FpMethods)
		c.FxClose, c.FxWrite = pointer[closeFunc](closeFile), pointer[writeFunc](write)
		c.FxTruncate, c.FxSync = pointer[truncateFunc](truncate), pointer[syncFunc](syncFile)
		methods[sf.FpMethods] = m
	}
	sf.FpMethods = m
	return rc
}

func remove(tls *libc.TLS, vfs, name uintptr, syncDir int32) int32 {
	d, path := diskOf(vfs), libc.GoString(name)
	if _, err := os.Lstat(path); err == nil {
		if f := d.ask(Op{Kind: Delete, File: path}); f != None && f != Done {
			return sqlite3.SQLITE_IOERR_DELETE
		}
	}
	under := below(tls)
	rc := call[deleteFunc](at[sqlite3.Tsqlite3_vfs](under).FxDelete)(tls, under, name, syncDir)
	if rc == sqlite3.SQLITE_OK {
		d.synced(path) // nothing of it can come back
	}
	return rc
}

func closeFile(tls *libc.TLS, p uintptr) int32 {
	mu.Lock()
	f := files[p]
	delete(files, p)
	mu.Unlock()
	return call[closeFunc](f.own.FxClose)(tls, p)
}

func write(tls *libc.TLS, p, buf uintptr, n int32, offset int64) int32 {
	f := fileOf(p)
	if f.path == "" {
		return call[writeFunc](f.own.FxWrite)(tls, p, buf, n, offset)
	}
	fault := f.disk.ask(Op{Kind: Write, File: f.path, Offset: offset, Size: int64(n)})
	switch fault {
	case None, Done:
	case Tear:
		n /= 2
	default:
		return result(fault, sqlite3.SQLITE_IOERR_WRITE)
	}
	c, err := f.before(tls, p, int64(n), offset)
	if err != nil {
		return sqlite3.SQLITE_IOERR_WRITE
	}
	rc := call[writeFunc](f.own.FxWrite)(tls, p, buf, n, offset)
	f.disk.did(c)
	if fault == Tear {
		return sqlite3.SQLITE_IOERR_WRITE
	}
	return rc
}

// before reads what a change is going to overwrite. It goes through SQLite's own descriptor, because opening and
// closing the file here would drop the process's locks on it.
func (f *file) before(tls *libc.TLS, p uintptr, n, offset int64) (change, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return change{}, err
	}
	c := change{path: f.path, offset: offset, size: info.Size()}
	if n = min(n, c.size-offset); n > 0 {
		buf := libc.Xmalloc(tls, libc.Tsize_t(n))
		if buf == 0 {
			return change{}, errors.New("faultvfs: out of memory")
		}
		defer libc.Xfree(tls, buf)
		rc := call[writeFunc](f.own.FxRead)(tls, p, buf, int32(n), offset) // xRead has the shape of xWrite
		if rc != sqlite3.SQLITE_OK {
			return change{}, fmt.Errorf("faultvfs: reading: code %d", rc)
		}
		c.before = append(c.before, unsafe.Slice(at[byte](buf), n)...)
	}
	return c, nil
}

func truncate(tls *libc.TLS, p uintptr, size int64) int32 {
	f := fileOf(p)
	if f.path == "" {
		return call[truncateFunc](f.own.FxTruncate)(tls, p, size)
	}
	if fault := f.disk.ask(Op{Kind: Truncate, File: f.path, Size: size}); fault != None && fault != Done {
		return result(fault, sqlite3.SQLITE_IOERR_TRUNCATE)
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return sqlite3.SQLITE_IOERR_TRUNCATE
	}
	c, err := f.before(tls, p, max(0, info.Size()-size), size)
	if err != nil {
		return sqlite3.SQLITE_IOERR_TRUNCATE
	}
	rc := call[truncateFunc](f.own.FxTruncate)(tls, p, size)
	f.disk.did(c)
	return rc
}

func syncFile(tls *libc.TLS, p uintptr, flags int32) int32 {
	f := fileOf(p)
	if f.path == "" {
		return call[syncFunc](f.own.FxSync)(tls, p, flags)
	}
	if fault := f.disk.ask(Op{Kind: Sync, File: f.path}); fault != None && fault != Done {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	rc := call[syncFunc](f.own.FxSync)(tls, p, flags)
	if rc == sqlite3.SQLITE_OK {
		f.disk.synced(f.path)
	}
	return rc
}
