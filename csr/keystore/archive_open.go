package keystore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// DamageError says where an [Archive] is damaged. It is an [ErrDamaged].
type DamageError struct {
	Path   string // the archive
	Offset int64  // where the damage begins, in bytes from the start of the file
	Size   int64  // how many bytes cannot be used; 0 if that is not known
	Device string // the device whose record it was; empty if that cannot be told
	After  string // the device of the last whole record before; empty if there is none, or Device is known
	Reason string // what is wrong
	More   int    // how many other places are damaged

	cause error
}

// Error names archive, offset and device, and says what to do.
func (e *DamageError) Error() string {
	var b strings.Builder
	switch {
	case e.Device != "":
		fmt.Fprintf(&b, "device %s: ", rule.Quote(e.Device))
	case e.After != "":
		fmt.Fprintf(&b, "behind the record of device %s: ", rule.Quote(e.After))
	}
	fmt.Fprintf(&b, "%v: key archive %s at byte %d", ErrDamaged, e.Path, e.Offset)
	if e.Size > 0 {
		fmt.Fprintf(&b, " (%d bytes)", e.Size)
	}
	fmt.Fprintf(&b, ": %s", e.Reason)
	if e.More > 0 {
		fmt.Fprintf(&b, "; %d more places are damaged", e.More)
	}
	b.WriteString("; restore the file from a copy, or open it with ReadOnly, which finds every whole record, and export those")
	return b.String()
}

// Is makes a DamageError an [ErrDamaged].
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns the cause, if there is one: [ErrMismatch], for instance.
func (e *DamageError) Unwrap() error { return e.cause }

// OpenArchive opens a key archive and makes it if there is none (mode 0600; folders that are missing get 0700). opts may
// be nil. It reads the whole file once, 1 MB at a time, checks every checksum, and deals with what a crash left, see
// [Archive]. A million P-256 records, 400 MB, take about 20 times as long as reading them from the system's cache.
//
// It is an [ErrInUse] while somebody else has it open for writing, an [ErrNotArchive] if the file is something else, an
// [ErrPermissions] if other users can read or write it (not on Windows), and a [*DamageError] if something that was durable
// cannot be read: then nothing in the file is changed.
func OpenArchive(path string, opts *ArchiveOptions) (*Archive, error) {
	return openArchive(osDisk{}, path, opts)
}

func openArchive(d archiveDisk, path string, opts *ArchiveOptions) (*Archive, error) {
	if path == "" {
		return nil, errors.New("open key archive: its path is empty")
	}
	return openMasked(d, path, opts, math.MaxUint64)
}

func openMasked(d archiveDisk, path string, opts *ArchiveOptions, mask uint64) (*Archive, error) {
	a := &Archive{syncing: make(chan struct{}, 1), seed: maphash.MakeSeed(), mask: mask}
	if opts != nil {
		a.opts = *opts
	}
	if err := a.open(d, path); err != nil {
		if _, ok := errors.AsType[*DamageError](err); ok {
			return nil, err // it names the file
		}
		return nil, fmt.Errorf("open key archive %s: %w", path, err)
	}
	return a, nil
}

func (a *Archive) open(d archiveDisk, path string) (err error) {
	// From here on a change of the working directory changes nothing.
	if a.path, err = filepath.Abs(path); err != nil {
		return err
	}
	parent := filepath.Dir(a.path)
	if !a.opts.ReadOnly {
		if err := ensureFolder(d, parent); err != nil {
			return err
		}
		if err := createArchive(d, a.path); err != nil {
			return err
		}
	}
	if a.file, err = d.openArchive(a.path, a.opts.ReadOnly); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.file.Close())
			if damage, ok := errors.AsType[*DamageError](err); ok {
				err = damage
			}
		}
	}()
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); checksModes && mode&0o077 != 0 {
		return fmt.Errorf("%w: it has mode %#o; find out who could have read it, then run chmod 600 on it", ErrPermissions, mode)
	}
	if err := a.begin(info.Size()); err != nil {
		return err
	}
	if !a.opts.ReadOnly {
		// A process that died may have left the name of the file not durable.
		if err := d.syncFolder(parent); err != nil {
			return err
		}
	}
	return a.recover()
}

func createArchive(d disk, path string) error {
	_, err := d.lstat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.create(path, fileMode)
	if errors.Is(err, fs.ErrExist) {
		return nil // somebody else was faster; the lock decides
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// begin checks the header, and writes it to a file that has none yet.
func (a *Archive) begin(size int64) error {
	want := archiveHeader()
	got := make([]byte, min(size, archiveHead))
	if err := readFull(a.file, got, 0); err != nil {
		return err
	}
	a.size = size
	if size <= archiveHead && !a.opts.ReadOnly && isUnfinished(got, want) {
		a.size = archiveHead
		_, err := a.file.WriteAt(want, 0)
		if err == nil {
			err = a.file.Sync()
		}
		if err != nil {
			_ = a.file.Truncate(0) // or the system may show a header that is not on the disk, see fail
		}
		return err
	}
	switch {
	case bytes.Equal(got, want):
		return nil
	case size <= archiveHead && isUnfinished(got, want):
		return fmt.Errorf("%w: it is empty", ErrNotArchive)
	case len(got) == archiveHead && string(got[:16]) == archiveMagic && !bytes.Equal(got[16:20], want[16:20]) && headerWhole(got):
		return fmt.Errorf("%w: its version is %d, this program knows version %d; use a newer program", ErrNotArchive, got[16], archiveVersion)
	}
	// A header that is damaged, or another kind of file: frames at their places tell.
	first, err := newScanner(a.file, size).find(archiveHead)
	if err != nil {
		return err
	}
	if first >= size {
		return fmt.Errorf("%w: it does not begin as one, and has no records; it was left as it is", ErrNotArchive)
	}
	a.addDamage(&DamageError{Path: a.path, Offset: 0, Size: archiveHead, Reason: "the header of the file"})
	return nil
}

// isUnfinished reports whether a crash can have left this of a header: any part of it, the rest missing or zero.
func isUnfinished(got, want []byte) bool {
	for i, c := range got {
		if c != want[i] && c != 0 {
			return false
		}
	}
	return !bytes.Equal(got, want)
}

// maxDamage is how many pieces of damage are told one by one.
const maxDamage = 1000

func (a *Archive) addDamage(e *DamageError) {
	if len(a.damage) < maxDamage {
		a.damage = append(a.damage, e)
	} else {
		a.more++
	}
}

// recovery is what a reading of all frames finds.
type recovery struct {
	durable int64          // everything before this was durable, by the marks
	good    int64          // the end of the last whole frame
	after   []byte         // the device of the last whole record
	voids   []mark         // what an earlier opening has noted as left by a crash
	gaps    []*DamageError // what is no frame, with whole frames behind
	tail    []*DamageError // what is no frame, behind the last whole frame so far
	dropped int            // gaps beyond maxDamage
}

// recover reads all frames and decides what to do about what is none.
func (a *Archive) recover() error {
	end := a.size
	r := recovery{durable: archiveHead, good: archiveHead}
	scanner := newScanner(a.file, end)
	err := scanner.scan(archiveHead,
		func(f frame) (bool, error) { return true, a.take(&r, f) },
		func(s stretch) { a.skip(&r, s) })
	if err != nil {
		return err
	}
	at, moved, err := scanner.moved(r.good)
	if err != nil {
		return err
	}
	if moved {
		a.addDamage(&DamageError{Path: a.path, Offset: at, Size: end - at, After: string(r.after),
			Reason: "a record is there that is not at its place, or whose name was changed"})
	}
	var unfinished []*DamageError
	for _, e := range r.gaps {
		switch {
		case isVoid(e, r.voids):
		case e.Offset >= r.durable && r.dropped == 0:
			unfinished = append(unfinished, e)
		default:
			a.addDamage(e)
		}
	}
	a.more += r.dropped
	slices.SortStableFunc(a.damage, func(x, y *DamageError) int { return cmp.Compare(x.Offset, y.Offset) })
	if len(a.damage) == 0 && a.more > 0 {
		a.damage, a.more = r.gaps[:1], a.more-1 // all that are told were a crash's; the rest are too many
	}
	a.size, a.kept, a.dirty = r.good, r.good, !a.opts.ReadOnly
	if a.opts.ReadOnly {
		return nil
	}
	if len(a.damage) > 0 {
		a.damage[0].More = len(a.damage) - 1 + a.more
		return a.damage[0]
	}
	if r.good < end {
		if err := a.file.Truncate(r.good); err != nil {
			return err
		}
	}
	for _, e := range unfinished {
		m := mark{durable: r.durable, voidFrom: e.Offset, voidSize: e.Size}
		a.buf = m.append(a.buf, a.size+int64(len(a.buf)))
	}
	return nil
}

// take enters a whole frame.
func (a *Archive) take(r *recovery, f frame) error {
	r.good = f.offset + f.size()
	r.gaps, r.tail = append(r.gaps, r.tail...), r.tail[:0]
	if extra := len(r.gaps) - maxDamage; extra > 0 {
		r.gaps, r.dropped = r.gaps[:maxDamage], r.dropped+extra
	}
	if f.kind == frameMark {
		m, ok := parseMark(f)
		if !ok {
			a.addDamage(&DamageError{Path: a.path, Offset: f.offset, Size: f.size(), Reason: "a mark that cannot be"})
			return nil
		}
		r.durable = max(r.durable, m.durable)
		if m.voidSize > 0 && len(r.voids) < maxDamage {
			r.voids = append(r.voids, m)
		}
		return nil
	}
	r.after = append(r.after[:0], f.name...)
	device := string(f.name)
	hash := a.hash(device)
	var near [4]int64
	first, at, err := pick(device, a.index.find(hash, near[:0]), a.frameAt)
	clear(first.key)
	switch {
	case err != nil:
		return err
	case first.name != nil:
		// No crash does that, so it is damage wherever it is.
		a.addDamage(&DamageError{Path: a.path, Offset: f.offset, Size: f.size(), Device: device,
			Reason: fmt.Sprintf("a second record of the device, whose first is at byte %d", at)})
	case f.offset > maxOffset:
		return errors.New("it has more than 16 TiB of records")
	default:
		a.index.add(hash, f.offset)
	}
	return nil
}

// skip notes a stretch that is no frame.
func (a *Archive) skip(r *recovery, s stretch) {
	if len(r.tail) > maxDamage {
		return // one more than is told, so that take finds too many
	}
	e := &DamageError{Path: a.path, Offset: s.offset, Size: s.size, Device: s.device, Reason: s.reason}
	if e.Device == "" {
		e.After = string(r.after)
	}
	r.tail = append(r.tail, e)
}

func isVoid(e *DamageError, voids []mark) bool {
	for _, m := range voids {
		if m.voidFrom <= e.Offset && e.Offset+e.Size <= m.voidFrom+m.voidSize {
			return true
		}
	}
	return false
}

// Damage lists what cannot be read in the archive, in the order of the file, at most 1,000 places. It is empty unless the
// archive was opened with [ArchiveOptions.ReadOnly].
func (a *Archive) Damage() []*DamageError {
	out := make([]*DamageError, len(a.damage))
	for i, e := range a.damage {
		c := *e
		out[i] = &c
	}
	return out
}

// headerWhole reports whether a header's own checksum fits.
func headerWhole(b []byte) bool { return bytes.Equal(b[28:32], headerSum(b)) }
