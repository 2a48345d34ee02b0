package keystore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// The files in a device's folder.
const (
	// KeyFile is the private key: PKCS #8 in PEM, unencrypted, mode 0600.
	KeyFile = "private-key.pem"
	// RequestFile is the certificate signing request in PEM, mode 0600. Before it stand a line "Run: " with the run's id, if
	// the record has one, and a line "Device: " with the device's name, if the folder's is not that of [FileName]. Whoever
	// reads PEM passes over both.
	RequestFile = "request.pem"
	// IssuedFile stands in place of RequestFile, with the same lines, when the record has a certificate that a CA of the
	// user's own issued. Whether it was registered, it does not tell: an output of a run writes certificate.pem beside it.
	IssuedFile = "issued.pem"
	// NoKeyFile stands in place of KeyFile when the record was put without a key, so that a key that went missing is
	// never taken for one that is kept elsewhere.
	NoKeyFile = "key-is-elsewhere.txt"
)

const (
	fileMode   fs.FileMode = 0o600
	folderMode fs.FileMode = 0o700
	maxFile                = 64 << 10 // bytes of a key or a request; an RSA-16384 key has 13 KB

	runPrefix = "Run: " // of the first line of RequestFile
	noKeyText = "The private key of this device is not kept here: it rests in hardware, or was made elsewhere.\n"
)

// FolderOptions are the settings of a [Folder]. The zero value is right for keys made in software.
type FolderOptions struct {
	// KeysElsewhere tells that keys rest in hardware: of a record whose key cannot be exported, only the request is
	// kept. Without it, Put refuses such a record.
	KeysElsewhere bool
	// NoModes accepts a file system that does not keep the modes of files, as WSL's /mnt/c, exFAT and some network mounts
	// don't: you know that nobody else can get at it. Without it, a Folder writes no key there.
	NoModes bool
	// Name returns a name that people know a device by, for its folder: its name as it is, or its serial number. Nil names
	// folders by [FileName], which is exact and not always easy to read: acme-x1-sn00000@g3 is ACME-X1-SN00000. How a
	// folder's name is made of it is described at [Folder]. It may be called at any time, by several goroutines at once,
	// and must always return the same for a device.
	Name func(device string) string
}

// Folder is a [Store] that keeps a folder for each device, named by [FileName], with [KeyFile] and [RequestFile] in it:
// readable by openssl and by people. Folders have mode 0700 and files 0600, whatever the umask.
//
// With [FolderOptions.Name] a folder has the name that this returns, spelled so that it is safe on Linux, macOS and
// Windows: A to Z become small letters, a colon becomes +, and what [FileName] writes as = and two hex digits is written
// so here (bytes beyond ASCII, spaces, a dot at an end, the first letter of nul or com1). ACME-X1-SN00000 is in
// acme-x1-sn00000. Where another device has that folder already, where the name is empty or longer than 255 bytes, and
// for devices whose keys are not kept here, it is the name that FileName makes, with an @ behind it if another device
// has that, too. So folders of a run that began without Name are found, every device has one of its own, and no two
// differ only in the case of letters.
//
// Before the first key is written, it is tried whether the file system keeps modes and can sync a folder; the error tells
// what it lacks.
//
// Put writes into a hidden folder beside the devices'. Sync makes that durable, and only then each device's folder is
// given its name, in one step: what has a name is whole. What a crash leaves behind is hidden and never read. The first
// Put that finds nobody else with unfinished records there removes it; those who have some hold a lock on a file .lock in
// the directory. On a file system without locks it stays: delete the folders whose names begin with .unfinished- while
// nobody makes keys there.
//
// Sync syncs the whole file system once, whatever the number of devices, where that is known to be reliable: ext4, xfs
// and btrfs on Linux 5.8 and later. Elsewhere it syncs three times for each device. So put many devices before each
// Sync, and do not keep keys on a file system that somebody else writes to heavily.
//
// A Folder holds about 200 bytes for each record put since the last Sync. Several processes may use one directory; the
// first to sync a device wins, the others get an [ErrExists].
type Folder struct {
	disk    durable.Disk
	dir     string
	opts    FolderOptions
	workers int // how many devices are worked on at once

	syncing chan struct{} // holds one token while a Sync runs; a channel, so that waiting for it ends with the context

	mu      sync.Mutex
	probed  bool                // the file system has what is needed
	group   string              // the hidden folder new records go to; empty before the first
	sync    *durable.Group      // makes it durable; begun before the first write into it
	pending map[string]*pending // by file name
	held    io.Closer           // the share of the directory's lock; nil without unfinished records
	swept   bool                // what others left unfinished was removed
	dirty   bool                // entries of dir may not be durable
	broken  error               // set when durability can no longer be promised
}

// pending is a record between Put and Sync.
type pending struct {
	device string
	path   string // in the group's folder
	keyed  bool   // with KeyFile, else NoKeyFile
	file   string // RequestFile or IssuedFile
	ready  bool   // completely written
}

// OpenFolder opens a directory of device folders and makes it if there is none (mode 0700, its parents too). opts may
// be nil. It does not read what is in it, and a Folder needs no closing. A directory that belongs to another user than
// this one and root, or that others can write to, is an [ErrPermissions]: they could have planted keys, or take some.
// So is one in a folder of that kind, unless that has the sticky bit, as /tmp has. On Windows access follows the folder
// that the directory is in.
func OpenFolder(dir string, opts *FolderOptions) (*Folder, error) {
	if dir != "" {
		if err := durable.CheckPlace(dir); err != nil && !(opts != nil && opts.NoModes && durable.Lacks(err, durable.Modes)) {
			return nil, fmt.Errorf("open key folder %s: %w: %w", dir, ErrPermissions, adviseNoModes(err))
		}
	}
	return openFolder(durable.OS(), dir, opts)
}

func openFolder(d durable.Disk, dir string, opts *FolderOptions) (*Folder, error) {
	if dir == "" {
		return nil, errors.New("open key folder: its path is empty")
	}
	// From here on a change of the working directory changes nothing.
	abs, err := filepath.Abs(dir)
	if err == nil {
		err = durable.MakeFolder(d, abs)
	}
	if err != nil {
		return nil, fmt.Errorf("open key folder %s: %w", dir, err)
	}
	f := &Folder{disk: d, dir: abs, workers: durable.Workers, syncing: make(chan struct{}, 1), pending: map[string]*pending{}}
	if opts != nil {
		f.opts = *opts
	}
	return f, nil
}

// Path returns the device's folder, for what belongs beside its key. It exists once the device's record was synced. With
// [FolderOptions.Name] it is looked for.
func (f *Folder) Path(device string) string {
	exact := filepath.Join(f.dir, FileName(device))
	path, free, err := f.find(device)
	switch {
	case err != nil:
		return exact
	case path != "":
		return path
	case free == exact:
		return free
	}
	if _, err := f.disk.Lstat(exact); err == nil { // it is another device's
		return exact + "@"
	}
	return exact
}

// Put implements [Store]. The device's folder appears under its name with the next Sync.
func (f *Folder) Put(ctx context.Context, rec Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := rec.Check(); err != nil {
		return err
	}
	files, err := f.filesOf(rec)
	if err != nil {
		return err
	}
	p, name, err := f.reserve(ctx, rec)
	if err != nil {
		return err
	}
	for i := range files {
		if files[i].name == documentFile(rec) {
			files[i].data = append([]byte(header(rec, name)), files[i].data...)
		}
	}
	if err := f.write(p.path, files); err != nil {
		err = errors.Join(fmt.Errorf("device %s: write its record to %s: %w", rule.Quote(rec.Device), p.path, err), f.disk.RemoveAll(p.path))
		f.mu.Lock()
		delete(f.pending, name)
		f.mu.Unlock()
		return err
	}
	f.mu.Lock()
	p.ready = true
	f.mu.Unlock()
	return nil
}

type newFile struct {
	name string
	data []byte
}

func (f *Folder) filesOf(rec Record) ([]newFile, error) {
	document := newFile{documentFile(rec), []byte(rec.PEM())}
	if rec.Key.IsZero() || f.opts.KeysElsewhere && !rec.Key.Exportable() {
		return []newFile{document, {NoKeyFile, []byte(noKeyText)}}, nil
	}
	key, err := rec.Key.PEM()
	if err != nil {
		return nil, fmt.Errorf("device %s: %w; if it rests in hardware, open the folder with KeysElsewhere or leave Record.Key empty",
			rule.Quote(rec.Device), err)
	}
	return []newFile{{KeyFile, key}, document}, nil
}

// documentFile is the file that holds what [Record.PEM] returns.
func documentFile(rec Record) string {
	if rec.Request == nil {
		return IssuedFile
	}
	return RequestFile
}

// reserve makes sure of the name of the device's folder within this process and finds a place to write to.
func (f *Folder) reserve(ctx context.Context, rec Record) (p *pending, name string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return nil, "", f.broken
	}
	if name, err = f.freeName(rec.Device); err != nil {
		return nil, "", err
	}
	if f.group == "" {
		group := filepath.Join(f.dir, durable.TempName())
		err := f.probe()
		if err == nil {
			err = f.hold(ctx)
		}
		var sync *durable.Group
		if err == nil {
			sync, err = durable.Begin(f.disk, f.dir, f.workers)
		}
		if err == nil {
			if err = f.disk.Mkdir(group, folderMode); err != nil {
				err = errors.Join(err, sync.Close())
			}
		}
		if err != nil {
			f.release()
			return nil, "", fmt.Errorf("device %s: make a folder for new records: %w", rule.Quote(rec.Device), err)
		}
		f.group, f.sync = group, sync
	}
	p = &pending{device: rec.Device, path: filepath.Join(f.group, name), keyed: !rec.Key.IsZero() && rec.Key.Exportable(), file: documentFile(rec)}
	f.pending[name] = p
	return p, name, nil
}

// probe tries once whether keys can rest on the file system.
func (f *Folder) probe() error {
	need := durable.Modes | durable.FolderSync
	if f.opts.NoModes {
		need = durable.FolderSync
	}
	if f.probed {
		return nil
	}
	err := durable.Probe(f.disk, f.dir, need)
	f.probed = err == nil
	return adviseNoModes(err)
}

// adviseNoModes names the setting that accepts a file system without modes.
func adviseNoModes(err error) error {
	if durable.Lacks(err, durable.Modes) {
		return fmt.Errorf("%w; if nobody else can get at it there, set NoModes", err)
	}
	return err
}

// freeName returns the name that a new record's folder is given, or an [ExistsError].
func (f *Folder) freeName(device string) (string, error) {
	free := ""
	for _, name := range f.names(device) {
		path := filepath.Join(f.dir, name)
		owner := device
		if p := f.pending[name]; p != nil {
			owner = p.device
		} else if _, err := f.disk.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			if free == "" {
				free = name
			}
			continue
		} else if err != nil {
			return "", fmt.Errorf("device %s: look for its record: %w", rule.Quote(device), err)
		} else if f.opts.Name != nil {
			if owner, err = f.owner(path); err != nil {
				return "", fmt.Errorf("device %s: %w", rule.Quote(device), err)
			}
		}
		if owner == device {
			return "", &ExistsError{device, path}
		}
	}
	if free == "" {
		return "", fmt.Errorf("device %s: %w: other devices have every name that its folder could have", rule.Quote(device), ErrName)
	}
	return free, nil
}

func (f *Folder) write(path string, files []newFile) error {
	if err := f.disk.Mkdir(path, folderMode); err != nil {
		return err
	}
	for _, file := range files {
		w, err := f.disk.Create(filepath.Join(path, file.name), fileMode)
		if err != nil {
			return err
		}
		_, err = w.Write(file.data)
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Sync implements [Store]. When ctx ends first, what is not durable yet stays for the next Sync. After any other
// failure the Folder is done for, since a disk that failed to sync once may report success the next time without having
// written: every later Put and Sync is an [ErrBroken]. Open the folder again; records that were not durable are made
// anew.
func (f *Folder) Sync(ctx context.Context) error {
	select {
	case f.syncing <- struct{}{}:
		defer func() { <-f.syncing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	f.mu.Lock()
	err := f.broken
	batch := make(map[string]*pending, len(f.pending))
	for name, p := range f.pending {
		if p.ready {
			batch[name] = p
		}
	}
	group, sync, dirty := f.group, f.sync, f.dirty
	f.dirty = false
	f.mu.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		f.markDirty(dirty)
		return err
	}
	if len(batch) == 0 && !dirty {
		return nil
	}
	stopped, err := f.settle(ctx, sync, batch)
	if err == nil {
		err = f.disk.SyncFolder(f.dir)
	}
	switch {
	case err != nil:
		return f.fail(fmt.Errorf("sync key folder %s: %w", f.dir, err))
	case stopped:
		return ctx.Err()
	}
	f.dropGroup(group)
	return nil
}

// settle makes the records of a batch durable, and then each is given its name. stopped means that ctx ended before all
// were done; f.dir has to be synced all the same.
func (f *Folder) settle(ctx context.Context, sync *durable.Group, batch map[string]*pending) (stopped bool, err error) {
	if len(batch) == 0 {
		return false, nil
	}
	names := slices.Sorted(maps.Keys(batch))
	entries := make([]durable.Entry, len(names))
	for i, name := range names {
		p, second := batch[name], KeyFile
		if !p.keyed {
			second = NoKeyFile
		}
		entries[i] = durable.Entry{
			Name:  "device " + rule.Quote(p.device),
			Files: []string{filepath.Join(p.path, p.file), filepath.Join(p.path, second)}, Folder: p.path,
		}
	}
	err = sync.Sync(ctx, entries)
	if err == nil {
		err = durable.Each(ctx, f.workers, names, func(name string) error { return f.place(name, batch[name]) })
	}
	if err != nil && err == ctx.Err() { // as Sync and Each return it, not wrapped
		return true, nil
	}
	return false, err
}

// place moves a record that is durable to its name.
func (f *Folder) place(name string, p *pending) error {
	final := filepath.Join(f.dir, name)
	switch err := f.disk.Move(p.path, final); {
	case errors.Is(err, fs.ErrExist):
		return &ExistsError{p.device, final}
	case err != nil:
		return fmt.Errorf("device %s: %w", rule.Quote(p.device), err)
	}
	f.mu.Lock()
	delete(f.pending, name)
	f.mu.Unlock()
	return nil
}

// fail notes that nothing can be promised any more. What is unfinished is for the next Folder to remove.
func (f *Folder) fail(err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.release()
	f.broken = fmt.Errorf("%w; open the folder again: %w", ErrBroken, err)
	return err
}

func (f *Folder) markDirty(dirty bool) {
	f.mu.Lock()
	f.dirty = f.dirty || dirty
	f.mu.Unlock()
}

// dropGroup removes the hidden folder once nothing is in it. It is not an error if that fails: the folder is empty and
// hidden.
func (f *Folder) dropGroup(group string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if group == "" || f.group != group || len(f.pending) > 0 {
		return
	}
	_ = f.disk.Remove(group)
	_ = f.sync.Close()
	f.group, f.sync = "", nil
	f.release()
}
