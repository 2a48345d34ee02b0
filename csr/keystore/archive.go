package keystore

import (
	"cmp"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"sync"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// The errors of an [Archive] beside those of every store.
var (
	// ErrInUse: another process, or another part of this one, has the archive open for writing.
	ErrInUse = errors.New("archive is in use elsewhere")
	// ErrNotArchive: the file is something else, or of a version that this program does not know.
	ErrNotArchive = errors.New("not a key archive this program can read")
	// ErrReadOnly: the archive was opened for reading only.
	ErrReadOnly = errors.New("archive is open for reading only")
)

// ArchiveOptions are the settings of an [Archive]. The zero value is right for keys made in software.
type ArchiveOptions struct {
	// KeysElsewhere says that keys rest in hardware: of a record whose key cannot be exported, only the request is
	// kept. Without it, Put refuses such a record.
	KeysElsewhere bool
	// ReadOnly opens an archive that exists, without a lock and without changing a byte of it; another process may be
	// writing to it. It shows what was there at that moment. Damage does not keep it from being opened: see
	// [Archive.Damage]. Put and Sync are an [ErrReadOnly].
	ReadOnly bool
}

// Archive is a [Store] that keeps all records in one file, for fleets too big for a folder each: a Sync is one sync of
// one file, however many records it covers. [Archive.Export] writes the files of a [Folder], for openssl and people.
//
// The file has mode 0600, whatever the umask. It only grows: a record is never rewritten, replaced or moved. One process
// writes at a time; the lock is the system's own, on the file itself, and ends with the process (flock on Unix,
// LockFileEx on Windows; elsewhere a file PATH.lock, which has to be deleted by hand after a crash). Keep the archive on a
// local disk. Close it when done.
//
// An Archive holds up to 256 KB of records that are not written yet, and 10 to 13 bytes for each device of the file: a part
// of the hash of its name and a place, where the name itself is compared before anything is returned. A file takes records
// up to 16 TiB.
//
// # Crashes and damage
//
// After a crash, [OpenArchive] keeps every whole record, and cuts off what is unfinished behind the last one. Where a
// power cut left a gap among the records of the last unfinished Sync, the records around it are kept as well and the gap
// is noted in the file. Neither can hold a record that a Sync returned nil for. Anything else that cannot be read is damage,
// a [*DamageError]: the archive then opens with [ArchiveOptions.ReadOnly] alone, which finds every whole record before
// and behind the damage.
//
// # Format, version 1
//
// The file is a header and frames, one after the other, numbers little-endian, CRC being CRC-32C (Castagnoli).
//
//	header   0  16  "\x89iotfleet keys\r\n"
//	        16   4  version: 1
//	        20   8  zero
//	        28   4  CRC of the 28 bytes before
//
//	frame    0   4  "\xf7key"
//	         4   1  type
//	         5   1  length of the name, N
//	         6   2  zero
//	         8   4  length of the key, K, 65,536 at most
//	        12   4  length of the request, R, 65,536 at most
//	        16   4  CRC of key and request
//	        20   4  CRC of: the frame's offset in the file (8 bytes), the 20 bytes before, the name
//	        24   N  the device's name
//	       24+N  K  its private key: PKCS #8 in DER
//	     24+N+K  R  its certificate signing request: PKCS #10 in DER
//
// Type 1 is a record, type 2 a record whose key is kept elsewhere (K is 0). Type 3 is a mark (N and K are 0): in place of
// the request it has the offset before which everything was on the disk when the mark was written (8 bytes), and perhaps
// offset and length of a stretch before it that a crash left unfinished (8 bytes each). Behind each Sync stands a mark.
// So what cannot be read before such an offset was once whole, and what cannot be read behind the last is a crash's.
type Archive struct {
	path string
	opts ArchiveOptions
	file archiveFile
	seed maphash.Seed // nobody who chooses names can make their hashes collide
	mask uint64       // the bits of the hash that count: all, but in tests

	syncing chan struct{} // holds one token while a Sync runs; a channel, so that waiting for it ends with the context

	mu     sync.Mutex
	index  places // where the frames of the devices are
	size   int64  // the file's length as far as it was written
	buf    []byte // frames to be written at size
	kept   int64  // what is before this is durable, or was there when the file was opened
	dirty  bool   // something that Get may have returned may not be durable
	broken error  // set when durability can no longer be promised
	closed bool

	damage []*DamageError
	more   int // pieces of damage beyond those
}

// flushSize is how many bytes of frames are written at once.
const flushSize = 256 << 10

// Path returns the file's absolute path.
func (a *Archive) Path() string { return a.path }

// Put implements [Store]. It takes the names that a [Folder] takes.
func (a *Archive) Put(ctx context.Context, rec Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkRecord(rec); err != nil {
		return err
	}
	if n := len(FileName(rec.Device)); n > maxFileName {
		return fmt.Errorf("%w: %s needs a file name of %d bytes on export, file systems take %d; shorten it (a thing's name has at most 128 characters)",
			ErrName, rule.Quote(rec.Device), n, maxFileName)
	}
	kind, key, err := a.keyOf(rec)
	if err != nil {
		return err
	}
	request := rec.Request.DER()
	err = a.add(rec.Device, kind, key, request)
	clear(key)
	return err
}

// keyOf returns the DER to keep of a record's key.
func (a *Archive) keyOf(rec Record) (kind byte, der []byte, err error) {
	if rec.Key.IsZero() || a.opts.KeysElsewhere && !rec.Key.Exportable() {
		return frameKeyless, nil, nil
	}
	text, err := rec.Key.PEM()
	if err != nil {
		return 0, nil, fmt.Errorf("device %s: %w; if it rests in hardware, open the archive with KeysElsewhere or leave Record.Key empty",
			rule.Quote(rec.Device), err)
	}
	block, _ := pem.Decode(text)
	clear(text)
	if block == nil || len(block.Bytes) > maxFile {
		return 0, nil, fmt.Errorf("device %s: its private key has more than %d bytes", rule.Quote(rec.Device), maxFile)
	}
	return frameKeyed, block.Bytes, nil
}

func (a *Archive) add(device string, kind byte, key, request []byte) error {
	if len(request) > maxFile {
		return fmt.Errorf("device %s: its request has more than %d bytes", rule.Quote(device), maxFile)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.writable(); err != nil {
		return err
	}
	var near [4]int64
	hash := a.hash(device)
	there, at, err := pick(device, a.index.find(hash, near[:0]), a.frameAt)
	clear(there.key)
	switch {
	case err != nil:
		return a.unreadable(device, at, err)
	case there.name != nil:
		return &ExistsError{device, a.path}
	}
	offset := a.size + int64(len(a.buf))
	if offset > maxOffset {
		return fmt.Errorf("device %s: key archive %s is full: it has 16 TiB; go on with another one", rule.Quote(device), a.path)
	}
	a.buf = appendFrame(a.buf, offset, kind, device, key, request)
	a.index.add(hash, offset)
	a.dirty = true
	if len(a.buf) < flushSize {
		return nil
	}
	if err := a.flush(); err != nil {
		return fmt.Errorf("device %s: write its record to %s: %w", rule.Quote(device), a.path, err)
	}
	return nil
}

func (a *Archive) hash(device string) uint64 { return maphash.String(a.seed, device) & a.mask }

// pick returns the device's frame of those at some offsets, without a name if none is. An error is about the frame at the
// offset, of which it can't be told whose it is, or which is the device's and damaged.
func pick(device string, offsets []int64, read func(int64) (frame, error)) (f frame, offset int64, err error) {
	for _, at := range offsets {
		found, foundErr := read(at)
		switch {
		case found.name != nil && string(found.name) != device: // the names have some bits of their hashes in common
			clear(found.key)
		case foundErr == nil:
			return found, at, nil
		case err == nil:
			offset, err = at, foundErr
		}
	}
	return frame{}, offset, err
}

// frameAt reads a frame into memory of its own. For one that may not be written yet the caller holds the lock.
func (a *Archive) frameAt(offset int64) (frame, error) {
	if offset >= a.size {
		b := a.buf[offset-a.size:]
		h, _ := parseHead(b, offset)
		return parseCopy(h, append([]byte(nil), b[:h.size()]...))
	}
	return readFrame(a.file, offset, a.size)
}

// readFrame reads the frame at offset of a file that ends at end. When only key or request cannot be read, the frame has
// its name all the same.
func readFrame(r archiveFile, offset, end int64) (frame, error) {
	const most = 1 << 10 // a record of a P-256 key fits
	b := make([]byte, min(most, end-offset))
	if err := readFull(r, b, offset); err != nil {
		return frame{}, err
	}
	h, ok := parseHead(b, offset)
	if !ok || h.size() > end-offset {
		return frame{}, errors.New("no record can be recognised there any more")
	}
	if n := int64(len(b)); h.size() > n {
		whole := make([]byte, h.size())
		copy(whole, b)
		clear(b)
		if err := readFull(r, whole[n:], offset+n); err != nil {
			return frame{}, err
		}
		b = whole
	}
	return parseCopy(h, b)
}

func parseCopy(h head, b []byte) (frame, error) {
	h.name = b[frameHead:h.bodyAt()]
	f, ok := parseBody(h, b)
	if !ok {
		return frame{head: h}, errors.New("its checksum does not fit")
	}
	return f, nil
}

func (a *Archive) unreadable(device string, offset int64, err error) error {
	return &DamageError{Path: a.path, Offset: offset, Device: device, Reason: err.Error(), cause: err}
}

// writable says why nothing can be put. The caller holds the lock.
func (a *Archive) writable() error {
	switch {
	case a.closed:
		return fmt.Errorf("key archive %s: %w", a.path, fs.ErrClosed)
	case a.opts.ReadOnly:
		return fmt.Errorf("key archive %s: %w", a.path, ErrReadOnly)
	}
	return a.broken
}

// flush writes the frames that are in memory. The caller holds the lock.
func (a *Archive) flush() error {
	if len(a.buf) == 0 {
		return nil
	}
	if _, err := a.file.WriteAt(a.buf, a.size); err != nil {
		return a.fail(err)
	}
	a.size += int64(len(a.buf))
	clear(a.buf)
	a.buf = a.buf[:0]
	return nil
}

// fail notes that nothing can be promised any more. It cuts off what was not durable, for another reason than tidiness:
// after a failed sync, the system may show content that is not on the disk, and call the next sync a success. The caller
// holds the lock.
func (a *Archive) fail(err error) error {
	a.broken = fmt.Errorf("%w; open the archive %s again: %w", ErrBroken, a.path, err)
	clear(a.buf)
	a.buf, a.size = nil, a.kept
	if cutErr := a.file.Truncate(a.kept); cutErr == nil {
		_ = a.file.Sync() // if this fails too, opening the archive deals with what is left
	}
	return err
}

// Sync implements [Store]: one write and one sync of the file, whatever the number of records. When ctx ends first, what is
// not durable yet stays for the next Sync. After a failed write or sync the Archive is done for: every later Put and Sync
// is an [ErrBroken], and so is Get of a record that was not durable. Open the archive again; records that were not
// durable are made anew.
//
// Sync also fails when the file was deleted or another one is at its path.
func (a *Archive) Sync(ctx context.Context) error {
	select {
	case a.syncing <- struct{}{}:
		defer func() { <-a.syncing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	a.mu.Lock()
	err := a.writable()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && a.dirty {
		if err = a.flush(); err != nil {
			err = a.syncError(err)
		}
	}
	end, dirty := a.size, a.dirty
	a.mu.Unlock()
	if err != nil || !dirty {
		return err
	}

	// Records may be put, and written, meanwhile.
	if err = a.file.Sync(); err == nil {
		err = a.file.stillAt(a.path)
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.broken != nil: // by a Put
		return a.broken
	case err != nil:
		return a.syncError(a.fail(err))
	}
	a.kept = end
	a.dirty = a.size+int64(len(a.buf)) > end
	a.buf = mark{durable: end}.append(a.buf, a.size+int64(len(a.buf)))
	if err := a.flush(); err != nil {
		return a.syncError(err)
	}
	return nil
}

func (a *Archive) syncError(err error) error {
	return fmt.Errorf("sync key archive %s: %w", a.path, err)
}

// Get implements [Store]. It checks that key and request are whole and belong together, and that the name in the file is
// the device's.
func (a *Archive) Get(ctx context.Context, device string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	if device == "" {
		return Record{}, fmt.Errorf("%w: it is empty", ErrName)
	}
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return Record{}, fmt.Errorf("key archive %s: %w", a.path, fs.ErrClosed)
	}
	var near [4]int64
	offsets := a.index.find(a.hash(device), near[:0])
	a.mu.Unlock()
	f, offset, err := pick(device, offsets, a.readFrame)
	defer clear(f.key)
	switch {
	case errors.Is(err, ErrBroken), errors.Is(err, fs.ErrClosed):
		return Record{}, fmt.Errorf("device %s: %w", rule.Quote(device), err)
	case err != nil:
		return Record{}, a.unreadable(device, offset, err)
	case f.name == nil:
		return Record{}, a.missing(device)
	}
	return a.record(f)
}

// readFrame is frameAt for those who do not hold the lock. Nobody waits while it reads the file.
func (a *Archive) readFrame(offset int64) (frame, error) {
	a.mu.Lock()
	end := a.size
	switch {
	case a.broken != nil && offset >= a.kept:
		defer a.mu.Unlock()
		return frame{}, a.broken
	case offset >= end:
		defer a.mu.Unlock()
		return a.frameAt(offset)
	}
	a.mu.Unlock()
	f, err := readFrame(a.file, offset, end)
	if err != nil {
		err = cmp.Or(a.gone(offset), err)
	}
	return f, err
}

// gone says why a record that was there a moment ago is not: a failure has cut it off.
func (a *Archive) gone(offset int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != nil && offset >= a.kept {
		return a.broken
	}
	return nil
}

// missing is the error for a device without a record. Where something cannot be read, that may have been its record: then
// nobody may take it that the device has no key.
func (a *Archive) missing(device string) error {
	var unknown *DamageError
	for _, d := range a.damage {
		if d.Device == device {
			return d
		}
		if d.Device == "" && unknown == nil {
			unknown = d
		}
	}
	if unknown != nil || a.more > 0 {
		return fmt.Errorf("device %s: no record that can be read, and one may be among what is damaged: %w", rule.Quote(device),
			cmp.Or(unknown, a.damage[0]))
	}
	return &notFoundError{device, a.path}
}

// record takes a record out of its frame.
func (a *Archive) record(f frame) (Record, error) {
	rec := Record{Device: string(f.name)}
	fail := func(err error, reason string) (Record, error) {
		return Record{}, &DamageError{Path: a.path, Offset: f.offset, Size: f.size(), Device: rec.Device, Reason: reason, cause: err}
	}
	var err error
	if rec.Request, err = csr.Parse(f.request); err != nil {
		return fail(err, "its request: "+err.Error())
	}
	if f.kind == frameKeyless {
		return rec, nil
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: f.key})
	rec.Key, err = csr.ParsePrivateKey(text)
	clear(text)
	if err != nil {
		return fail(err, "its private key: "+err.Error())
	}
	if !rec.Request.Matches(rec.Key.Public()) {
		return fail(ErrMismatch, ErrMismatch.Error())
	}
	return rec, nil
}

// Close makes durable what is not yet, as Sync does, and gives the file back. What was put is kept even if nobody
// called Sync; after a failure, Close is an [ErrBroken]. Further calls do nothing.
func (a *Archive) Close() error {
	var err error
	a.mu.Lock()
	open := !a.closed && !a.opts.ReadOnly
	a.mu.Unlock()
	if open {
		err = a.Sync(context.Background())
	}
	a.syncing <- struct{}{}
	defer func() { <-a.syncing }()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	clear(a.buf)
	a.buf, a.index = nil, places{}
	return errors.Join(err, a.file.Close())
}
