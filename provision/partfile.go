package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// partFile is a part file while it is written: it has no name that anybody reads yet.
type partFile struct{ *os.File }

// createPartFile opens a new file. Its name carries the run's id, so that what a crash leaves behind is not taken for
// a file of another run.
func (ps *parts) createPartFile() (partFile, error) {
	f, err := os.CreateTemp(ps.dir, ps.leftoverPrefix()+"*.tmp") // mode 0600
	return partFile{f}, err
}

func (ps *parts) leftoverPrefix() string { return ".unfinished-" + ps.record.ID + "-" }

// discard removes the file, unless place gave it its name.
func (f partFile) discard() {
	_ = f.Close()
	_ = os.Remove(f.Name())
}

// place makes the file durable under the name that is in the record. A file that has this name already is never
// replaced: if it is the very same one nothing needs to be done, and otherwise it belongs to somebody else.
func (f partFile) place(dir string, rec *PartRecord) error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	path := filepath.Join(dir, rec.File)
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		old, err := openChecked(path, rec)
		if err != nil {
			return fmt.Errorf("there is a file of its name already, which is left as it is: %w", err)
		}
		if err := old.Close(); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	default:
		if err := os.Rename(f.Name(), path); err != nil {
			return err
		}
	}
	return durable.OS().SyncFolder(dir)
}

// removeLeftovers deletes what a crash of this very run left unfinished. No part was ever sent from there.
func (ps *parts) removeLeftovers() error {
	entries, err := os.ReadDir(ps.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ps.leftoverPrefix()) {
			if err := os.Remove(filepath.Join(ps.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// openPartFile opens a part's file for sending, and makes it once more if it is gone.
func (ps *parts) openPartFile(ctx context.Context, p *part) (*os.File, error) {
	if !filepath.IsLocal(p.File) || filepath.Base(p.File) != p.File {
		return nil, fmt.Errorf("the ledger calls its file %q, which is not the name of a part file: the ledger is damaged", p.File)
	}
	path := filepath.Join(ps.dir, p.File)
	f, err := openChecked(path, p.PartRecord)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := ps.remake(ctx, p); err != nil {
		return nil, fmt.Errorf("its file %s is gone and can't be made again: %w; bring it back to go on", path, err)
	}
	return openChecked(path, p.PartRecord)
}

// openChecked opens a file that is the one that the record was made of.
func openChecked(path string, rec *PartRecord) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	size, digest, err := fileDigest(f)
	if err == nil && (size != rec.Bytes || digest != rec.SHA256) {
		err = fmt.Errorf("%s is not the file that was written for this part: it has %d bytes and SHA-256 %.12s…, the ledger has %d and %.12s…; "+
			"bring the right one back, or move this one away so that it is made again", path, size, digest, rec.Bytes, rec.SHA256)
	}
	if err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// remake writes a part's file again, from the same keys and rows. It must come out byte for byte as the ledger has it:
// the part counts as written, and whatever leaves must be what was written.
func (ps *parts) remake(ctx context.Context, p *part) error {
	again := make([]*DeviceRecord, len(p.devices))
	for i, d := range p.devices {
		again[i] = copyDevice(d)
	}
	// The credential step would make new keys in place of lost ones.
	if err := ps.keys.require(ctx, again); err != nil {
		return err
	}
	b := newBatch()
	b.again = true
	if err := ps.credentials.prepare(ctx, b, again, never); err != nil {
		return err
	}
	f, err := ps.createPartFile()
	if err != nil {
		return err
	}
	defer f.discard()
	w := ps.newWriter(f)
	for i, l := range b.lines {
		if l.row == nil {
			return fmt.Errorf("device %q: %s", l.Name, rule.Visible(l.Message))
		}
		if l.Match != p.devices[i].Match {
			return fmt.Errorf("device %q has another key than when the part was written", l.Name)
		}
		if err := w.WriteRow(l.row); err != nil {
			return fmt.Errorf("device %q: %w", l.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	digest := w.SHA256()
	if got := hex.EncodeToString(digest[:]); got != p.SHA256 {
		return fmt.Errorf("it comes out with SHA-256 %.12s… and was %.12s…, so its keys, requests or rows are not the same", got, p.SHA256)
	}
	return f.place(ps.dir, p.PartRecord)
}

// open finds the folder for part files, or makes a temporary one. It returns what to call when the files are no longer
// needed.
func (ps *parts) open(dir string) (done func(), err error) {
	if ps.dir = dir; dir != "" {
		if err := durable.MakeFolder(durable.OS(), dir); err != nil {
			return nil, fmt.Errorf("the folder for part files: %w", err)
		}
		return func() {}, ps.removeLeftovers()
	}
	if ps.dir, err = os.MkdirTemp("", "iotfleet-parts-"); err != nil {
		return nil, err
	}
	return func() { _ = os.RemoveAll(ps.dir) }, nil
}

// fileDigest returns the length and the hex SHA-256 of what is left to read.
func fileDigest(f io.Reader) (size int64, digest string, err error) {
	h := sha256.New()
	size, err = io.Copy(h, f)
	return size, hex.EncodeToString(h.Sum(nil)), err
}
