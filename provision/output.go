package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/internal/durable"
)

// Delivery is what a device's firmware needs to connect, its private key apart.
type Delivery struct {
	ThingName      string   `json:"thingName"`
	ThingARN       string   `json:"thingArn"`
	CertificateARN string   `json:"certificateArn,omitempty"`
	CertificateID  string   `json:"certificateId,omitempty"`
	PolicyNames    []string `json:"policyNames,omitempty"`
	Endpoint       string   `json:"endpoint,omitempty"` // host to connect to, port 8883 for MQTT
	ClientID       string   `json:"clientId"`           // the MQTT client id AWS expects by default: the thing's name
	Account        string   `json:"account,omitempty"`
	Region         string   `json:"region,omitempty"`
	// Meta is what the run keeps beside the device ([Device.Meta]).
	Meta map[string]string `json:"meta,omitempty"`
	// Fake is true when the certificate comes from a fake backend: no AWS endpoint accepts it.
	Fake           bool   `json:"fake,omitempty"`
	CertificatePEM string `json:"-"`
	// IssuerPEM is the certificate of the CA that a device left to its first connection ([Options].FirstConnection) sends behind
	// its own; empty for others.
	IssuerPEM string `json:"-"`
	// RootCA is the certificates in PEM that the device verifies Endpoint's server by, the one to try first at the beginning.
	// Empty if the backend can't tell ([task.RootLister]).
	RootCA string `json:"-"`
}

// Output takes over each device's credential once it is registered. A device is Provisioned only after Deliver and the
// next Sync have returned nil. A run calls its methods one at a time, and delivers nothing else before that Sync.
type Output interface {
	// Deliver hands over one device. It may be called again with the same delivery after a crash, and must then
	// succeed; an earlier, different delivery must not be overwritten silently.
	Deliver(ctx context.Context, d *Delivery) error
	// Sync returns nil once everything delivered is durable.
	Sync(ctx context.Context) error
}

// DeliveryFinder is the ability of an [Output] to look for an earlier delivery. An output that refuses a second credential
// for a device needs it: with it, a device is Failed with [CauseExists] before it is sent; without it, a certificate is
// made that the output then refuses, and calls end with that error until the earlier delivery is moved away.
type DeliveryFinder interface {
	// Undelivered returns nil if nothing was delivered for the thing, and an error that wraps fs.ErrExist if something was
	// and would not be replaced. Any other error means that it could not look.
	Undelivered(ctx context.Context, thing string) error
}

// Folder writes root-ca.pem, certificate.pem and thing.json beside each device's private-key.pem in a key folder. Deliver
// only takes a device in; Sync writes all that were and makes them durable together, as [keystore.Folder] does with keys.
//
// A certificate.pem or thing.json that is there already is never replaced: the very same content is taken as delivered,
// anything else is an error that names the file. A root-ca.pem with other content is replaced: it is the same for every
// device of an account, and what the account has now is what devices need.
func Folder(keys *keystore.Folder) Output {
	return &folderOutput{disk: durable.OS(), path: keys.Path, taken: map[string]Delivery{}}
}

// The files of a delivery.
const (
	rootFile        = "root-ca.pem"
	certificateFile = "certificate.pem"
	thingFile       = "thing.json"
)

type folderOutput struct {
	disk  durable.Disk
	path  func(thing string) string // its folder; all are in one
	mu    sync.Mutex
	taken map[string]Delivery // by thing name, since the last Sync
}

// Deliver takes a device in.
func (o *folderOutput) Deliver(ctx context.Context, d *Delivery) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.taken[d.ThingName] = *d
	return nil
}

// Undelivered looks for the files of an earlier delivery.
func (o *folderOutput) Undelivered(ctx context.Context, thing string) error {
	for _, name := range []string{certificateFile, thingFile} {
		path := filepath.Join(o.path(thing), name)
		switch _, err := o.disk.Lstat(path); {
		case err == nil:
			return &fs.PathError{Op: "deliver", Path: path, Err: fs.ErrExist}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return context.Cause(ctx)
}

// Sync writes what was taken in, each file whole or not at all. What could not be written is forgotten: it has to be
// delivered again.
func (o *folderOutput) Sync(ctx context.Context) error {
	o.mu.Lock()
	taken := o.taken
	o.taken = map[string]Delivery{}
	o.mu.Unlock()
	if len(taken) == 0 {
		return context.Cause(ctx)
	}
	err := o.write(ctx, taken)
	if err != nil && err == ctx.Err() {
		return context.Cause(ctx)
	}
	return err
}

// deviceFiles is what one device is delivered as.
type deviceFiles struct {
	delivery *Delivery
	folder   string
	root     string // the file with its root, durable, to be linked to; empty without one
	files    []deviceFile
}

// deviceFile is a file under a hidden name, until it is durable and is given its own.
type deviceFile struct{ temp, path string }

// write writes all files under hidden names, makes them durable, gives them their names, and makes those durable.
func (o *folderOutput) write(ctx context.Context, taken map[string]Delivery) error {
	names := slices.Sorted(maps.Keys(taken))
	root := filepath.Dir(o.path(names[0]))
	group, err := durable.Begin(o.disk, root, durable.Workers)
	if err != nil {
		return err
	}
	defer func() { _ = group.Close() }() // everything is synced by then, or an error on its way
	devices, roots := make([]*deviceFiles, len(names)), map[string]string{}
	defer func() {
		for _, path := range roots {
			_ = o.disk.Remove(path)
		}
	}()
	for i, name := range names {
		d := taken[name]
		devices[i] = &deviceFiles{delivery: &d, folder: o.path(name)}
		if d.RootCA == "" {
			continue
		}
		if roots[d.RootCA] == "" {
			if roots[d.RootCA], err = o.writeRoot(root, d.RootCA); err != nil {
				return fmt.Errorf("device %q: %s: %w", name, rootFile, err)
			}
		}
		devices[i].root = roots[d.RootCA]
	}
	step := func(do func(*deviceFiles) error) {
		if err == nil {
			err = durable.Each(ctx, durable.Workers, devices, func(d *deviceFiles) error {
				if err := do(d); err != nil {
					return fmt.Errorf("device %q: %w", d.delivery.ThingName, err)
				}
				return nil
			})
		}
	}
	sync := func(entry func(*deviceFiles) durable.Entry) {
		if err != nil {
			return
		}
		entries := make([]durable.Entry, len(devices), len(devices)+1)
		for i, d := range devices {
			entries[i] = entry(d)
			entries[i].Name = fmt.Sprintf("device %q", d.delivery.ThingName)
		}
		err = group.Sync(ctx, append(entries, durable.Entry{Name: root, Folder: root})) // which a new folder may be in
	}
	step(o.stage)
	sync(func(d *deviceFiles) (e durable.Entry) {
		for _, f := range d.files {
			e.Files = append(e.Files, f.temp)
		}
		return e
	})
	step(o.place)
	sync(func(d *deviceFiles) durable.Entry { return durable.Entry{Folder: d.folder} })
	if err == nil {
		return nil
	}
	for _, d := range devices {
		for _, f := range d.files { // those that were not given their names
			_ = o.disk.Remove(f.temp)
		}
	}
	return err
}

// stage writes a device's files under hidden names. The device's folder is there already if the key was made here.
func (o *folderOutput) stage(d *deviceFiles) error {
	if _, err := o.disk.Lstat(d.folder); errors.Is(err, fs.ErrNotExist) {
		if err := o.disk.Mkdir(d.folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	} else if err != nil {
		return err
	}
	thing, err := json.MarshalIndent(d.delivery, "", "  ")
	if err != nil {
		return err
	}
	if text := d.delivery.CertificatePEM + d.delivery.IssuerPEM; text != "" {
		if err := o.stageFile(d, certificateFile, []byte(text)); err != nil {
			return err
		}
	}
	return o.stageFile(d, thingFile, append(thing, '\n'))
}

// stageFile writes a file under a hidden name, or finds that the very same one is there already.
func (o *folderOutput) stageFile(d *deviceFiles, name string, data []byte) error {
	path := filepath.Join(d.folder, name)
	switch old, err := o.disk.Read(path, int64(len(data))); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !bytes.Equal(old, data):
		return otherFileError(path)
	default:
		return nil
	}
	temp, err := durable.Write(o.disk, d.folder, data, 0o600)
	if err == nil {
		d.files = append(d.files, deviceFile{temp, path})
	}
	return err
}

// place gives the files their names, thing.json last.
func (o *folderOutput) place(d *deviceFiles) error {
	if d.root != "" {
		if err := o.placeRoot(d); err != nil {
			return err
		}
	}
	for _, f := range d.files {
		if err := o.disk.Move(f.temp, f.path); errors.Is(err, fs.ErrExist) {
			return otherFileError(f.path) // since stage looked
		} else if err != nil {
			return err
		}
	}
	return nil
}

// writeRoot writes a root under a hidden name beside the devices' folders, durable. Nobody may write to it: it is about
// to be in many folders.
func (o *folderOutput) writeRoot(folder, text string) (path string, err error) {
	path = filepath.Join(folder, durable.TempName())
	f, err := o.disk.Create(path, 0o400)
	if err != nil {
		return "", err
	}
	if _, err = f.Write([]byte(text)); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = o.disk.Remove(path)
		return "", err
	}
	return path, nil
}

// placeRoot makes root-ca.pem a link to the file that has the root, in place of one with other content. A copy for each
// device would take as long as all its other files, and a million of them 8 GB. Where there are no links it is a copy.
func (o *folderOutput) placeRoot(d *deviceFiles) error {
	path, text := filepath.Join(d.folder, rootFile), d.delivery.RootCA
	switch old, err := o.disk.Read(path, int64(len(text))); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case string(old) == text:
		return nil
	default:
		if err := o.disk.Remove(path); err != nil {
			return err
		}
	}
	if o.disk.Link(d.root, path) == nil {
		return nil
	}
	temp, err := o.writeRoot(d.folder, text)
	if err != nil {
		return err
	}
	d.files = append([]deviceFile{{temp, path}}, d.files...)
	return nil
}

func otherFileError(path string) error {
	return fmt.Errorf("%s holds something else already; move it away to go on", path)
}
