package sqlitekeys

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile/faultvfs"
)

var every = flag.Bool("every", false, "let each single write and sync fail, not every fifth")

func record(t testing.TB, device string) keystore.Record {
	t.Helper()
	r := new(csr.Generator).One(t.Context(), csr.Device{Name: device})
	require.NoError(t, r.Err)
	return keystore.Record{Device: device, Key: r.Key, Request: r.Request}
}

func requireSame(t testing.TB, want, got keystore.Record) {
	t.Helper()
	require.Equal(t, want.Device, got.Device)
	require.True(t, want.Key.Equal(got.Key))
	require.Equal(t, want.Request.DER(), got.Request.DER())
}

// live puts the records two at a time, a Sync after each two, and opens the file anew after four. It returns which were
// durable when a disk failed.
func live(t *testing.T, path string, disk *faultvfs.Disk, records []keystore.Record) (durable map[string]bool, err error) {
	t.Helper()
	durable = map[string]bool{}
	for len(records) > 0 {
		s, err := Open(t.Context(), path, &Options{vfs: disk.Name()})
		if err != nil {
			return durable, err
		}
		for range 2 {
			for _, rec := range records[:2] {
				if err == nil {
					err = s.Put(t.Context(), rec)
				}
			}
			if err == nil {
				err = s.Sync(t.Context())
			}
			if err != nil {
				break
			}
			durable[records[0].Device], durable[records[1].Device] = true, true
			records = records[2:]
		}
		if closed := s.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return durable, err
		}
	}
	return durable, nil
}

func TestNoKeyThatWasSyncedIsLostWhateverWriteOrSyncFails(t *testing.T) {
	var records []keystore.Record
	for i := range 8 {
		records = append(records, record(t, fmt.Sprintf("device-%d", i)))
	}
	quiet, err := faultvfs.New(nil)
	require.NoError(t, err)
	durable, err := live(t, filepath.Join(t.TempDir(), "keys.db"), quiet, records)
	require.NoError(t, err)
	require.Len(t, durable, len(records))
	ops := quiet.Ops()
	require.NoError(t, quiet.Close())
	require.Greater(t, ops, 30)
	stride := 5
	if *every {
		stride = 1
	}
	for name, c := range map[string]struct {
		first int // with a stride, each begins at another operation
		fault faultvfs.Fault
		power bool
	}{
		"the process stops before it":           {1, faultvfs.Stop, false},
		"the process stops after it":            {2, faultvfs.Done, false},
		"the process stops in the middle of it": {3, faultvfs.Tear, false},
		"it fails":                              {4, faultvfs.Fail, false},
		"the disk is full":                      {5, faultvfs.Full, false},
		"the power goes before it":              {1, faultvfs.Stop, true},
		"the power goes after it":               {2, faultvfs.Done, true},
		"the power goes in the middle of it":    {3, faultvfs.Tear, true},
	} {
		t.Run(name, func(t *testing.T) {
			noticed, found := 0, 0
			for n := c.first; n <= ops; n += stride {
				var hit faultvfs.Op
				disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
					if op.N != n {
						return faultvfs.None
					}
					hit = op
					return c.fault
				})
				require.NoError(t, err)
				path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.db", n))
				durable, err := live(t, path, disk, records)
				if err != nil {
					noticed++
					assert.ErrorContains(t, err, path, "errors name the file")
					assert.NotContains(t, err.Error(), "PRIVATE KEY")
				}
				if c.power {
					require.NoError(t, disk.CutPower(rand.New(rand.NewPCG(uint64(n), 0))))
				}
				require.NoError(t, disk.Close())

				s, err := Open(t.Context(), path, nil) // the next process, on a disk that works
				require.NoError(t, err, "%s", hit)
				for _, rec := range records {
					got, err := s.Get(t.Context(), rec.Device)
					if err != nil {
						require.ErrorIs(t, err, keystore.ErrNotFound, "%s: a record is whole or not there", hit)
						require.False(t, durable[rec.Device], "%s: %s was lost although Sync had returned nil", hit, rec.Device)
						require.NoError(t, s.Put(t.Context(), rec))
						continue
					}
					found++
					requireSame(t, rec, got)
				}
				require.NoError(t, s.Close())
			}
			t.Logf("of %d operations: %d faults noticed, %d records found", ops, noticed, found)
			assert.Positive(t, noticed)
			assert.Positive(t, found)
		})
	}
}

func TestAfterASyncThatFailedNothingIsPromisedAnyMore(t *testing.T) {
	armed := false
	disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
		if armed && op.Kind == faultvfs.Sync {
			armed = false
			return faultvfs.Fail
		}
		return faultvfs.None
	})
	require.NoError(t, err)
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), &Options{vfs: disk.Name()})
	require.NoError(t, err)
	rec := record(t, "device-one")
	require.NoError(t, s.Put(t.Context(), rec))
	armed = true
	first := s.Sync(t.Context())
	require.ErrorContains(t, first, "disk I/O error")
	for range 2 {
		require.ErrorIs(t, s.Sync(t.Context()), keystore.ErrBroken)
		require.ErrorIs(t, s.Put(t.Context(), record(t, "device-two")), keystore.ErrBroken)
	}
	require.ErrorIs(t, s.Close(), keystore.ErrBroken)
	require.NoError(t, disk.Close())
}

func TestAFullDiskCostsNoRecord(t *testing.T) {
	full := false
	disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
		if full && op.Kind == faultvfs.Write {
			return faultvfs.Full
		}
		return faultvfs.None
	})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "keys.db")
	s, err := Open(t.Context(), path, &Options{vfs: disk.Name()})
	require.NoError(t, err)
	rec := record(t, "device-one")
	require.NoError(t, s.Put(t.Context(), rec))
	full = true
	require.ErrorContains(t, s.Sync(t.Context()), "free space on the disk")
	got, err := s.Get(t.Context(), "device-one")
	require.NoError(t, err)
	requireSame(t, rec, got)
	full = false
	require.NoError(t, s.Sync(t.Context()), "the next Sync goes on")
	require.NoError(t, s.Close())
	require.NoError(t, disk.Close())
	s, err = Open(t.Context(), path, nil)
	require.NoError(t, err)
	got, err = s.Get(t.Context(), "device-one")
	require.NoError(t, err)
	requireSame(t, rec, got)
	require.NoError(t, s.Close())
}

// during calls a function once, the second time that its error is asked for: Sync asks before it takes the records that
// wait, and then while it commits them.
type during struct {
	context.Context
	asked int
	then  func()
}

func (d *during) Err() error {
	if d.asked++; d.asked == 2 {
		d.then()
	}
	return d.Context.Err()
}

func TestWhatIsPutWhileASyncRunsIsCoveredByTheNext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	s, err := Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	one, two := record(t, "one"), record(t, "two")
	require.NoError(t, s.Put(t.Context(), one))
	ctx := &during{Context: t.Context()}
	ctx.then = func() { require.NoError(t, s.Put(t.Context(), two)) }
	require.NoError(t, s.Sync(ctx))
	require.GreaterOrEqual(t, ctx.asked, 2)
	onDisk, err := OpenReadOnly(t.Context(), path, nil)
	require.NoError(t, err)
	defer onDisk.Close()
	_, err = onDisk.Get(t.Context(), "two")
	require.ErrorIs(t, err, keystore.ErrNotFound, "it was put behind those that are synced")
	require.NoError(t, s.Sync(t.Context()))
	for _, rec := range []keystore.Record{one, two} {
		got, err := onDisk.Get(t.Context(), rec.Device)
		require.NoError(t, err)
		requireSame(t, rec, got)
	}
}

func TestKeysWhoseFileWasDeletedAreNotReportedDurable(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a file that is open cannot be deleted")
	}
	path := filepath.Join(t.TempDir(), "keys.db")
	s, err := Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Put(t.Context(), record(t, "one")))
	require.NoError(t, os.Remove(path))
	require.ErrorContains(t, s.Sync(t.Context()), "deleted")
	require.ErrorIs(t, s.Sync(t.Context()), keystore.ErrBroken)
	require.ErrorIs(t, s.Put(t.Context(), record(t, "two")), keystore.ErrBroken)
}
