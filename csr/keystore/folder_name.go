package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// devicePrefix begins the line of RequestFile with the device's name, quoted as in Go, in a folder that is not called as
// FileName calls it.
const devicePrefix = "Device: "

// names are the folders that a device's record can be in, in the order in which they are taken. The last two are the
// device's own; the first may be another device's, too.
func (f *Folder) names(device string) []string {
	exact := FileName(device)
	if f.opts.Name == nil {
		return []string{exact}
	}
	own := exact
	if !strings.Contains(own, "@") { // no short name has one, so this is nobody else's
		own += "@"
	}
	list := []string{exact, own}
	if short := FileName(lower(f.opts.Name(device))); short != "=" {
		list = []string{short, exact, own}
	}
	return slices.DeleteFunc(slices.Compact(list), func(name string) bool { return len(name) > maxFileName })
}

// lower makes A to Z small; other letters have no case in a file name, since FileName spells them as bytes.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// find returns the folder of a device's record, and the first free one. path is empty if there is no record: of a
// [Folder] without names of its own it is not empty, and the folder need not exist.
func (f *Folder) find(device string) (path, free string, err error) {
	for _, name := range f.names(device) {
		path := filepath.Join(f.dir, name)
		if f.opts.Name == nil {
			return path, path, nil
		}
		switch _, err := f.disk.Lstat(path); {
		case errors.Is(err, fs.ErrNotExist):
			if free == "" {
				free = path
			}
			continue
		case err != nil:
			return "", "", fmt.Errorf("device %s: look for its record: %w", rule.Quote(device), err)
		}
		owner, err := f.owner(path)
		if err != nil {
			return "", "", fmt.Errorf("device %s: %w", rule.Quote(device), err)
		}
		if owner == device {
			return path, "", nil
		}
	}
	return "", free, nil
}

// owner returns the device whose record is in a folder; empty for a folder that is no device's.
func (f *Folder) owner(path string) (string, error) {
	_, text, err := f.document(path)
	if err != nil {
		return "", err
	}
	if text != nil {
		_, device, _, err := cutHeader(text)
		if err != nil || device != "" {
			return device, err
		}
	}
	for _, name := range []string{KeyFile, NoKeyFile} {
		if _, err := f.disk.Lstat(filepath.Join(path, name)); text == nil && err == nil {
			return "", fmt.Errorf("%w: %s has no %s, which tells whose it is; restore it, or move the folder away", ErrDamaged, path, RequestFile)
		}
	}
	device, err := DeviceName(filepath.Base(path))
	if err != nil {
		return "", nil
	}
	return device, nil
}

// header are the lines before the request in RequestFile.
func header(rec Record, folder string) string {
	var b strings.Builder
	if rec.Run != "" {
		b.WriteString(runPrefix + rec.Run + "\n")
	}
	if folder != FileName(rec.Device) {
		b.WriteString(devicePrefix + strconv.QuoteToASCII(rec.Device) + "\n")
	}
	return b.String()
}

// cutHeader takes them off. run and device are empty where there is no such line.
func cutHeader(text []byte) (run, device string, rest []byte, err error) {
	line := func(prefix string) (string, bool) {
		after, ok := bytes.CutPrefix(text, []byte(prefix))
		if !ok {
			return "", false
		}
		value, rest, _ := bytes.Cut(after, []byte("\n"))
		text = rest
		return strings.TrimSuffix(string(value), "\r"), true
	}
	if value, ok := line(runPrefix); ok {
		if run = value; !isRun(run) {
			return "", "", nil, fmt.Errorf("%w: the id of the run in its first line is not one printable line", ErrDamaged)
		}
	}
	if value, ok := line(devicePrefix); ok {
		if device, err = strconv.Unquote(value); err != nil || device == "" {
			return "", "", nil, fmt.Errorf("%w: the line with the device's name can't be read", ErrDamaged)
		}
	}
	return run, device, text, nil
}
