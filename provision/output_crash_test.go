package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/durable/memdisk"
)

func outputOn(t *testing.T, d durable.Disk) *folderOutput {
	t.Helper()
	return &folderOutput{disk: d, path: func(thing string) string { return "/devices/" + thing }, taken: map[string]Delivery{}}
}

func delivery(i int) *Delivery {
	name := fmt.Sprintf("device-%d", i)
	return &Delivery{ThingName: name, CertificateID: fmt.Sprint(i), CertificatePEM: "certificate of " + name, RootCA: "root"}
}

const deliveries = 3

// deliverAll delivers and syncs; two of the folders are there already, as beside keys.
func deliverAll(t *testing.T, d durable.Disk) error {
	t.Helper()
	o := outputOn(t, d)
	for i := range deliveries {
		require.NoError(t, o.Deliver(t.Context(), delivery(i)))
	}
	return o.Sync(t.Context())
}

func diskWithFolders(t *testing.T, wholeSync bool) *memdisk.Disk {
	t.Helper()
	d := memdisk.New()
	d.WholeSync = wholeSync
	for i := range deliveries - 1 {
		require.NoError(t, durable.MakeFolder(d, fmt.Sprintf("/devices/device-%d", i)))
	}
	return d
}

// forgiving notes that a step failed that need not succeed: a link, in place of which there can be a copy, and the removal
// of what is left when all is done.
type forgiving struct {
	*memdisk.Disk
	forgiven atomic.Bool
}

func (f *forgiving) Link(from, to string) error { return f.forgive(f.Disk.Link(from, to)) }
func (f *forgiving) Remove(path string) error   { return f.forgive(f.Disk.Remove(path)) }

func (f *forgiving) forgive(err error) error {
	if errors.Is(err, memdisk.ErrFault) || errors.Is(err, memdisk.ErrStopped) {
		f.forgiven.Store(true)
	}
	return err
}

func TestWhatAnOutputSyncedOutlastsAPowerCutAtAnyLaterStepAndNoFileIsEverHalf(t *testing.T) {
	for _, c := range []struct {
		wholeSync bool
		elsewhere string // which links do not reach
	}{{}, {wholeSync: true}, {wholeSync: true, elsewhere: "/devices/device-1"}} {
		wholeSync := c.wholeSync
		diskWithFolders := func(t *testing.T, wholeSync bool) *memdisk.Disk {
			d := diskWithFolders(t, wholeSync)
			d.Elsewhere = c.elsewhere
			return d
		}
		whole := diskWithFolders(t, wholeSync)
		before := whole.Steps
		require.NoError(t, deliverAll(t, whole))
		for step := before + 1; step <= whole.Steps+1; step++ {
			for _, stop := range []bool{false, true} {
				d := diskWithFolders(t, wholeSync)
				d.Tear = true
				if stop {
					d.StopAt = step
				} else {
					d.FailAt = step
				}
				forgiving := &forgiving{Disk: d}
				synced := deliverAll(t, forgiving) == nil
				if good := step > whole.Steps || forgiving.forgiven.Load(); !good || !stop {
					require.Equal(t, good, synced, "a step that failed is an error")
				}
				for _, keepEntries := range []bool{false, true} {
					for _, keepData := range []bool{false, true} {
						what := fmt.Sprintf("whole %v, step %d, stop %v, kept %v %v", wholeSync, step, stop, keepEntries, keepData)
						after := d.Survive(keepEntries, keepData)
						for i := range deliveries {
							root, err := after.Read(fmt.Sprintf("/devices/device-%d/root-ca.pem", i), 1000)
							require.True(t, err == nil && string(root) == "root" || !synced && errors.Is(err, fs.ErrNotExist), "%s: %q, %v", what, root, err)
							data, err := after.Read(fmt.Sprintf("/devices/device-%d/certificate.pem", i), 1000)
							if errors.Is(err, fs.ErrNotExist) {
								require.False(t, synced, what)
								continue
							}
							require.NoError(t, err, what)
							require.Equal(t, delivery(i).CertificatePEM, string(data), what)
						}
						// The same delivery succeeds after the crash, and then it is all there.
						require.NoError(t, deliverAll(t, after), what)
						again := after.Survive(false, false)
						for i := range deliveries {
							for _, name := range []string{"root-ca.pem", "certificate.pem", "thing.json"} {
								_, err := again.Read(fmt.Sprintf("/devices/device-%d/%s", i, name), 1000)
								require.NoError(t, err, what)
							}
						}
					}
				}
			}
		}
	}
}

func TestAnOutputReportsAWriteThatFailedInTheBackground(t *testing.T) {
	d := diskWithFolders(t, true)
	o := outputOn(t, &losing{d})
	require.NoError(t, o.Deliver(t.Context(), delivery(0)))
	assert.ErrorIs(t, o.Sync(t.Context()), memdisk.ErrFault)
}

// losing is a disk that takes everything and loses it in the background.
type losing struct{ *memdisk.Disk }

func (l *losing) Create(path string, perm fs.FileMode) (durable.File, error) {
	f, err := l.Disk.Create(path, perm)
	return &losingFile{f, l.Disk}, err
}

type losingFile struct {
	durable.File
	d *memdisk.Disk
}

func (f *losingFile) Close() error {
	f.d.LoseWrites("/devices")
	return f.File.Close()
}
