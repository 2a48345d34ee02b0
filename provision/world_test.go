package provision_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// awsIoT is a fake account as the AWS SDK sees it.
func awsIoT(fake *fakebackend.Backend) *iot.Client { return iot.NewFromConfig(fakeaws.Config(fake)) }

// world is a fake account with a role, a store of keys, a place for credentials, and what a run needs.
type world struct {
	fake   *fakebackend.Backend
	keys   keystore.Store
	out    *memoryOutput
	folder *keystore.Folder // nil unless it is a folderWorld: then keys and credentials are in there, and not in memory
	opts   provision.Options

	mu     sync.Mutex
	events []provision.Event
}

// newWorld keeps keys and credentials in memory. Tests about files use folderWorld, which waits for the disk.
func newWorld(t *testing.T, opts fakebackend.Options) *world {
	t.Helper()
	fake, err := fakebackend.New(opts)
	require.NoError(t, err)
	role, err := fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration"})
	require.NoError(t, err)
	w := &world{fake: fake, keys: keystore.Memory(), out: &memoryOutput{}}
	w.opts = provision.Options{
		Backend: fake, Template: template.Walkthrough(), RoleARN: role,
		Credential: &provision.MakeCSR{Store: w.keys}, Output: w.out,
		Observe: func(e provision.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
	}
	return w
}

// removeDevice removes a thing with its certificates behind the run's back.
func (w *world) removeDevice(t *testing.T, thing string) {
	t.Helper()
	device, ok := w.fake.Thing(thing)
	require.True(t, ok, "there is no thing %s", thing)
	for _, c := range device.Certificates {
		_, err := w.fake.RetireCertificate(t.Context(), thing, c.ID)
		require.NoError(t, err)
	}
	_, err := w.fake.RemoveThing(t.Context(), thing)
	require.NoError(t, err)
}

// folderWorld keeps keys and credentials in a folder for each device.
func folderWorld(t *testing.T, opts fakebackend.Options) *world {
	t.Helper()
	w := newWorld(t, opts)
	folder, err := keystore.OpenFolder(filepath.Join(t.TempDir(), "keys"), nil)
	require.NoError(t, err)
	w.keys, w.folder, w.out = folder, folder, nil
	w.opts.Credential, w.opts.Output = &provision.MakeCSR{Store: folder}, provision.Folder(folder)
	return w
}

// memoryOutput holds what was handed over, as an Output must: durable only after Sync, and never replaced by anything
// else.
type memoryOutput struct {
	mu             sync.Mutex
	taken, durable map[string]provision.Delivery // by thing name
}

func (o *memoryOutput) Deliver(ctx context.Context, d *provision.Delivery) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if old, ok := o.durable[d.ThingName]; ok && !reflect.DeepEqual(old, *d) {
		return fmt.Errorf("device %q: another credential was handed over before", d.ThingName)
	}
	if o.taken == nil {
		o.taken, o.durable = map[string]provision.Delivery{}, map[string]provision.Delivery{}
	}
	o.taken[d.ThingName] = *d
	return context.Cause(ctx)
}

func (o *memoryOutput) Sync(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.Copy(o.durable, o.taken)
	clear(o.taken)
	return context.Cause(ctx)
}

// handedOver returns the certificate that was handed over for a device and is durable, "" if none was.
func (w *world) handedOver(t *testing.T, device string) string {
	t.Helper()
	if w.folder == nil {
		w.out.mu.Lock()
		defer w.out.mu.Unlock()
		return w.out.durable[device].CertificatePEM
	}
	data, err := os.ReadFile(filepath.Join(w.folder.Path(device), "certificate.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	require.NoError(t, err)
	return string(data)
}

func (w *world) run(t *testing.T) *provision.Run {
	t.Helper()
	run, err := provision.New(w.opts)
	require.NoError(t, err)
	return run
}

// complete makes a run of devices, which must all be provisioned.
func (w *world) complete(t *testing.T, devices iter.Seq2[provision.Device, error]) *provision.Run {
	t.Helper()
	run := w.run(t)
	_, err := run.Run(t.Context(), devices)
	require.NoError(t, err)
	return run
}

// incomplete makes a run of devices, of which some must not be provisioned.
func (w *world) incomplete(t *testing.T, devices iter.Seq2[provision.Device, error]) *provision.Run {
	t.Helper()
	run := w.run(t)
	_, err := run.Run(t.Context(), devices)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	return run
}

// fault makes the account go wrong in a way, and returns the fault's id.
func (w *world) fault(t *testing.T, f fakebackend.Fault) int {
	t.Helper()
	id, err := w.fake.AddFault(f)
	require.NoError(t, err)
	return id
}

// durable gives the world a ledger and a folder for parts that outlive a Run.
func (w *world) durable(t *testing.T) {
	w.opts.Ledger, w.opts.PartDir = provision.NewMemoryLedger(), t.TempDir()
}

func rows(n int) iter.Seq2[provision.Device, error] {
	return func(yield func(provision.Device, error) bool) {
		for i := range n {
			d := provision.Device{Row: map[string]string{"ThingName": fmt.Sprintf("device-%d", i+1), "SerialNumber": fmt.Sprintf("%03d", i+1)}}
			if !yield(d, nil) {
				return
			}
		}
	}
}

func results(t *testing.T, run *provision.Run) []*provision.Result {
	t.Helper()
	var out []*provision.Result
	for r, err := range run.Results(t.Context()) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

func certificate(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	require.NotNil(t, block, "not a PEM block: %q", text)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

// requireWorking checks the promise of the package: every device has one thing with one active certificate, which
// carries the public key of the private key in the store and was handed over.
func (w *world) requireWorking(t *testing.T, results []*provision.Result) {
	t.Helper()
	for _, r := range results {
		require.Equal(t, provision.Provisioned, r.Verdict, "%s: %s", r.Name, r.Message)
		rec, err := w.keys.Get(t.Context(), r.Name)
		require.NoError(t, err)
		digest, err := csr.PublicKeySHA256(certificate(t, r.CertificatePEM).PublicKey)
		require.NoError(t, err)
		own, err := rec.PublicKeySHA256()
		require.NoError(t, err)
		assert.Equal(t, own, digest, "the certificate of %s is for another key", r.Name)
		dev, err := w.fake.ReadDevice(t.Context(), r.Name)
		require.NoError(t, err)
		require.Len(t, dev.Certificates, 1, "%s must have exactly one certificate", r.Name)
		assert.Equal(t, "ACTIVE", dev.Certificates[0].Status)
		assert.Equal(t, r.CertificateID, dev.Certificates[0].ID)
		assert.Equal(t, r.CertificatePEM, dev.Certificates[0].PEM)
		if w.opts.Output != nil {
			assert.Equal(t, r.CertificatePEM, w.handedOver(t, r.Name), "%s is provisioned, so its credential must be handed over", r.Name)
		}
	}
}
