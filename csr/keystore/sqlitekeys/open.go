package sqlitekeys

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile"
)

// The errors beside those of every [keystore.Store]. A file that is damaged is a [keystore.ErrDamaged].
var (
	// ErrInUse: another process, or another part of this one, has the file open for writing. The [*InUseError] tells
	// which.
	ErrInUse = errors.New("the keys are in use")
	// ErrNotKeys: the file is something else, or of a version that this program does not know. Nothing in it was
	// changed.
	ErrNotKeys = errors.New("not a key database that this program can read")
	// ErrReadOnly: the file was opened with [OpenReadOnly].
	ErrReadOnly = errors.New("the keys are open for reading only")
)

type (
	// InUseError reports who has a file open for writing, with Path and Holder. errors.Is finds [ErrInUse] in it.
	InUseError = sqlitefile.InUseError
	// Holder is a process that has a file open for writing: PID (0 if it could not be found out), Program, Host, Since.
	Holder = sqlitefile.Holder
)

//go:embed schema.sql
var schema string

// keyFile is what a file of keys is to SQLite. The application id is "IoTk". A version of the schema that was released
// is never changed; the next one is appended to Steps.
var keyFile = sqlitefile.Kind{
	Name: "key database", ApplicationID: 0x496f546b, Steps: []string{schema},
	InUse: ErrInUse, Foreign: ErrNotKeys, Newer: ErrNotKeys, Older: ErrNotKeys, Damaged: keystore.ErrDamaged,
	ReadOnly: ErrReadOnly, Closed: fs.ErrClosed,
}

// Options are the settings of a [Store]. The zero value is right for keys made in software.
type Options struct {
	// KeysElsewhere tells that keys rest in hardware: of a record whose key cannot be exported, only the request is
	// kept. Without it, Put refuses such a record.
	KeysElsewhere bool
	// SkipCheck leaves out reading every page of the file when it is opened; without the check, damage is found when
	// the damaged row is read.
	SkipCheck bool
	// NoModes accepts a file system that does not keep the modes of files, as WSL's /mnt/c, exFAT and some network mounts
	// don't: you know that nobody else can get at it. Without it, no file is made there.
	NoModes bool

	vfs  string       // a file layer that lets the disk fail
	disk durable.Disk // what the file system is tried with; nil is the real one
}

// Store is a [keystore.Store] in a file. It is safe for concurrent use. It holds up to 5,000 records that are not
// synced yet, about 2 KB each; with more, Put commits them.
type Store struct {
	db            *sqlitefile.DB
	keysElsewhere bool
	insert        *sql.Stmt // nil if it is open for reading only
	exists, get   *sql.Stmt
	key           *sql.Stmt // what Verify needs

	syncing chan struct{} // holds one token while records are committed; a channel, so that waiting ends with the context

	mu       sync.Mutex
	reserved map[string]bool // devices that are being put
	held     map[string]held // by device: put and not committed
	order    []string        // the devices of held, in the order they were put
	absent   map[string]bool // devices that the file is known to have no record of, and that were not put since
	commits  int             // how often records have left held
	broken   error           // set when durability can no longer be promised
}

// Open opens the keys at path for writing, and makes the file if there is none (mode 0600; folders that are missing get
// 0700). opts may be nil.
//
// One process can have a file open for writing; a second Open fails with an [*InUseError]. The right to write ends with
// the process, however that ends. The file is refused, and nothing in it changed, with [ErrNotKeys],
// [keystore.ErrDamaged], or, if other users can read or write it, can replace it or have put it there,
// [keystore.ErrPermissions] (not on Windows).
func Open(ctx context.Context, path string, opts *Options) (*Store, error) {
	o := orZero(opts)
	path, err := filepath.Abs(path)
	if err == nil {
		err = durable.MakeFolder(durable.OS(), filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("key database %s: make its folder: %w", path, err)
	}
	if err := o.checkMode(path); err != nil {
		return nil, err
	}
	db, err := keyFile.Open(ctx, path, sqlitefile.Options{SkipCheck: o.SkipCheck, VFS: o.vfs, Modes: !o.NoModes, Disk: o.disk})
	if err != nil {
		return nil, adviseNoModes(err)
	}
	insert, err := db.Prepare(ctx, "INSERT INTO keys (device, private_key_pem, csr_pem, certificate_pem, public_key_sha256, checksum, run, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
	if err != nil {
		return nil, errors.Join(db.Fail(ctx, "opening it", err), db.Close())
	}
	return newStore(ctx, db, insert, o)
}

// OpenReadOnly opens the keys at path for reading, whether or not another process writes to them. Put and Sync fail
// with [ErrReadOnly]. It needs the right to write to the folder all the same, because readers and the writer of an
// SQLite database find each other through a file beside it. opts may be nil; the pages are not checked.
func OpenReadOnly(ctx context.Context, path string, opts *Options) (*Store, error) {
	o := orZero(opts)
	if err := o.checkMode(path); err != nil {
		return nil, err
	}
	db, err := keyFile.OpenReadOnly(ctx, path, sqlitefile.Options{VFS: o.vfs})
	if err != nil {
		return nil, err
	}
	return newStore(ctx, db, nil, o)
}

func orZero(opts *Options) Options {
	if opts == nil {
		return Options{}
	}
	return *opts
}

func newStore(ctx context.Context, db *sqlitefile.DB, insert *sql.Stmt, o Options) (*Store, error) {
	s := &Store{
		db: db, insert: insert, keysElsewhere: o.KeysElsewhere,
		syncing: make(chan struct{}, 1), reserved: map[string]bool{}, held: map[string]held{}, absent: map[string]bool{},
	}
	var err error
	if s.exists, err = db.PrepareRead(ctx, "SELECT EXISTS (SELECT 1 FROM keys WHERE device = ?)"); err == nil {
		s.get, err = db.PrepareRead(ctx, "SELECT private_key_pem, csr_pem, certificate_pem, public_key_sha256, run FROM keys WHERE device = ?")
	}
	if err == nil {
		s.key, err = db.PrepareRead(ctx, "SELECT private_key_pem, public_key_sha256, checksum FROM keys WHERE device = ?")
	}
	if err != nil {
		return nil, errors.Join(db.Fail(ctx, "opening it", err), db.Close())
	}
	return s, nil
}

// checkMode refuses keys that other users can read or write, or have put there. Windows and Plan 9 have no such modes.
func (o *Options) checkMode(path string) error {
	if err := durable.CheckPlace(path); err != nil && !(o.NoModes && durable.Lacks(err, durable.Modes)) {
		return fmt.Errorf("key database %s: %w: %w", path, keystore.ErrPermissions, adviseNoModes(err))
	}
	info, err := os.Stat(path)
	if err != nil || o.NoModes || runtime.GOOS == "windows" || runtime.GOOS == "plan9" || info.Mode().Perm()&0o077 == 0 {
		return nil // what is wrong with a file that cannot be looked at, opening it tells
	}
	return fmt.Errorf("key database %s: %w: %w", path, keystore.ErrPermissions, adviseNoModes(durable.WrongMode(durable.OS(), filepath.Dir(path),
		fmt.Errorf("it has mode %#o; find out who could have read it, then run chmod 600 on it", info.Mode().Perm()))))
}

// adviseNoModes names the setting that accepts a file system without modes.
func adviseNoModes(err error) error {
	if durable.Lacks(err, durable.Modes) {
		return fmt.Errorf("%w; if nobody else can get at it there, set NoModes", err)
	}
	return err
}

// Path is the file's full name.
func (s *Store) Path() string { return s.db.Path() }

// Close makes durable what is not yet, as Sync does, and returns the right to write. What was put is kept even if
// nobody called Sync. Calls after it fail with fs.ErrClosed; a second Close does nothing.
func (s *Store) Close() error {
	var err error
	if s.insert != nil {
		if err = s.Sync(context.Background()); errors.Is(err, fs.ErrClosed) {
			err = nil
		}
	}
	return errors.Join(err, s.db.Close())
}
