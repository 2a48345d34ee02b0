package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
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
	// Fake is true when the certificate comes from a fake backend: no AWS endpoint accepts it.
	Fake           bool   `json:"fake,omitempty"`
	CertificatePEM string `json:"-"`
}

// Output takes over each device's credential once it is registered. A device is Provisioned only after Deliver and the
// next Sync have returned nil.
type Output interface {
	// Deliver hands over one device. It may be called again with the same delivery after a crash, and must then
	// succeed; an earlier, different delivery must not be overwritten silently.
	Deliver(ctx context.Context, d *Delivery) error
	// Sync returns nil once everything delivered is durable.
	Sync(ctx context.Context) error
}

// Folder writes certificate.pem and thing.json beside each device's private-key.pem in a key folder. Deliver only takes
// a device in; Sync writes all that were, sixteen at once, since waiting for the disk is nearly all of the work.
//
// A file that is there already is never replaced: the very same content is taken as delivered, anything else is an
// error that names the file.
func Folder(keys *keystore.Folder) Output {
	return &folderOutput{keys: keys, taken: map[string]Delivery{}}
}

type folderOutput struct {
	keys  *keystore.Folder
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

// Sync writes what was taken in, each file synced and whole or not at all, certificate.pem first. What could not be
// written is forgotten: it has to be delivered again.
func (o *folderOutput) Sync(ctx context.Context) error {
	o.mu.Lock()
	taken := o.taken
	o.taken = map[string]Delivery{}
	o.mu.Unlock()
	const workers = 16
	g, writing := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, d := range taken {
		g.Go(func() error {
			if err := context.Cause(writing); err != nil {
				return err
			}
			if err := o.write(&d); err != nil {
				return fmt.Errorf("device %q: %w", d.ThingName, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

func (o *folderOutput) write(d *Delivery) error {
	dir := o.keys.Path(d.ThingName)
	if err := makeFolder(dir); err != nil { // it is there already if the key was made here
		return err
	}
	thing, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	if d.CertificatePEM != "" {
		if err := writeOnce(filepath.Join(dir, "certificate.pem"), []byte(d.CertificatePEM)); err != nil {
			return err
		}
	}
	return writeOnce(filepath.Join(dir, "thing.json"), append(thing, '\n'))
}

// writeOnce writes a file, or finds that the very same one is there already.
func writeOnce(path string, data []byte) error {
	err := keystore.WriteFile(path, data, 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(old, data) {
		return fmt.Errorf("%s holds something else already; move it away to go on", path)
	}
	return nil
}
