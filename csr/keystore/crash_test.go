package keystore

import (
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/durable/memdisk"
)

const keysDir = "/fleet/keys"

func newDisk(wholeSync bool) *memdisk.Disk {
	d := memdisk.New()
	d.WholeSync = wholeSync
	return d
}

// onEveryKindOfDisk runs a test where each file is synced by itself, and where all are synced at once.
func onEveryKindOfDisk(t *testing.T, test func(t *testing.T, wholeSync bool)) {
	for _, wholeSync := range []bool{false, true} {
		t.Run(fmt.Sprintf("synced as a whole %v", wholeSync), func(t *testing.T) { test(t, wholeSync) })
	}
}

func testRecord(t testing.TB, device string) Record {
	t.Helper()
	r := new(csr.Generator).One(t.Context(), csr.Device{Name: device})
	require.NoError(t, r.Err)
	return Record{Device: device, Key: r.Key, Request: r.Request}
}

// openOne opens a folder that works on one device at a time, so that the steps of the disk have one order.
func openOne(d durable.Disk) (*Folder, error) {
	f, err := openFolder(d, keysDir, nil)
	if err == nil {
		f.workers = 1
	}
	return f, err
}

// history is what a run was told about its records.
type history struct {
	put     map[string]bool // Put returned nil
	durable map[string]bool // and so did a later Sync
	tries   int             // Puts and Syncs that failed
}

// play opens a folder, puts three records and syncs twice, as far as the disk lets it.
func play(t testing.TB, d *memdisk.Disk, records []Record) history {
	h := history{put: map[string]bool{}, durable: map[string]bool{}}
	f, err := openOne(d)
	if err != nil {
		h.tries++
		return h
	}
	put := func(rec Record) {
		if err := f.Put(t.Context(), rec); err != nil {
			h.tries++
			require.NotErrorIs(t, err, ErrExists)
			return
		}
		h.put[rec.Device] = true
	}
	sync := func() {
		if err := f.Sync(t.Context()); err != nil {
			h.tries++
			return
		}
		for device := range h.put {
			h.durable[device] = true
		}
	}
	put(records[0])
	put(records[1])
	sync()
	put(records[2])
	sync()
	return h
}

// requireWholeOrNothing opens what is left of a disk as a new process does, which puts what was lost, and a record more.
func requireWholeOrNothing(t *testing.T, d *memdisk.Disk, records []Record, next Record, h history, what string) {
	t.Helper()
	f, err := openFolder(d, keysDir, nil)
	require.NoError(t, err, what)
	for _, rec := range records {
		got, err := f.Get(t.Context(), rec.Device)
		if err == nil {
			require.True(t, got.Key.Equal(rec.Key), what)
			require.Equal(t, rec.Request.DER(), got.Request.DER(), what)
			continue
		}
		require.ErrorIs(t, err, ErrNotFound, "%s: a record is whole or not there", what)
		require.False(t, h.durable[rec.Device], "%s: %s was lost although Sync had returned nil", what, rec.Device)
		// The device can be given a new key: nothing that was left behind is in the way.
		require.NoError(t, f.Put(t.Context(), rec), what)
	}
	require.NoError(t, f.Put(t.Context(), next), what)
	require.NoError(t, f.Sync(t.Context()), what)
	require.Empty(t, unfinished(t, d), what)
	again, err := openFolder(d.Survive(false, false), keysDir, nil)
	require.NoError(t, err)
	for _, rec := range records {
		_, err := again.Get(t.Context(), rec.Device)
		require.NoError(t, err, what)
	}
}

func TestAPowerCutAtAnyStepLeavesEachRecordWholeOrNotThere(t *testing.T) {
	onEveryKindOfDisk(t, func(t *testing.T, wholeSync bool) {
		records, next := []Record{testRecord(t, "one"), testRecord(t, "two"), testRecord(t, "three")}, testRecord(t, "next")
		whole := newDisk(wholeSync)
		h := play(t, whole, records)
		require.Zero(t, h.tries)
		require.Len(t, h.durable, 3)
		for _, tear := range []bool{false, true} {
			for stop := 1; stop <= whole.Steps+1; stop++ {
				d := newDisk(wholeSync)
				d.StopAt, d.Tear = stop, tear
				h := play(t, d, records)
				require.Equal(t, stop <= whole.Steps, d.Steps >= stop)
				for _, keepEntries := range []bool{false, true} {
					for _, keepData := range []bool{false, true} {
						what := fmt.Sprintf("stopped at step %d, torn %v, unsynced entries kept %v, unsynced data kept %v", stop, tear, keepEntries, keepData)
						requireWholeOrNothing(t, d.Survive(keepEntries, keepData), records, next, h, what)
					}
				}
			}
		}
	})
}

func TestAFaultAtAnyStepIsReportedAndLeavesEachRecordWholeOrNotThere(t *testing.T) {
	onEveryKindOfDisk(t, func(t *testing.T, wholeSync bool) {
		records, next := []Record{testRecord(t, "one"), testRecord(t, "two"), testRecord(t, "three")}, testRecord(t, "next")
		whole := newDisk(wholeSync)
		play(t, whole, records)
		quiet := 0
		for fail := 1; fail <= whole.Steps; fail++ {
			d := newDisk(wholeSync)
			d.FailAt, d.Tear = fail, true
			h := play(t, d, records)
			if h.tries == 0 {
				quiet++ // only the removal of the empty hidden folder, after each Sync
				require.Len(t, h.durable, 3)
			}
			for _, keep := range []bool{false, true} {
				what := fmt.Sprintf("fault at step %d, unsynced kept %v", fail, keep)
				requireWholeOrNothing(t, d.Survive(keep, keep), records, next, h, what)
			}
		}
		require.Equal(t, 2, quiet)
	})
}

func TestARecordThatGetFoundIsDurableAfterTheNextSync(t *testing.T) {
	onEveryKindOfDisk(t, func(t *testing.T, wholeSync bool) {
		// A process that died between naming a record and syncing the folder leaves one that could still vanish.
		rec := testRecord(t, "one")
		whole := newDisk(wholeSync)
		play(t, whole, []Record{rec, testRecord(t, "two"), testRecord(t, "three")})
		found := 0
		for stop := 1; stop <= whole.Steps; stop++ {
			d := newDisk(wholeSync)
			d.StopAt = stop
			play(t, d, []Record{rec, testRecord(t, "two"), testRecord(t, "three")})
			d.StopAt = 0 // the process died, the machine did not
			f, err := openFolder(d, keysDir, nil)
			require.NoError(t, err)
			if _, err := f.Get(t.Context(), "one"); err != nil {
				continue
			}
			found++
			require.NoError(t, f.Sync(t.Context()))
			after, err := openFolder(d.Survive(false, false), keysDir, nil)
			require.NoError(t, err)
			_, err = after.Get(t.Context(), "one")
			require.NoError(t, err, "died at step %d", stop)
		}
		require.Positive(t, found)
	})
}

// hookDisk calls what a test wants between two steps of its disk.
type hookDisk struct {
	*memdisk.Disk
	beforeLstat func()
}

func (d *hookDisk) Lstat(path string) (fs.FileInfo, error) {
	if hook := d.beforeLstat; hook != nil {
		d.beforeLstat = nil
		hook()
	}
	return d.Disk.Lstat(path)
}

func TestARecordNamedWhileGetLooksForItIsDurableAfterTheNextSync(t *testing.T) {
	d := &hookDisk{Disk: memdisk.New()}
	f, err := openFolder(d, keysDir, nil)
	require.NoError(t, err)
	other, err := openFolder(d, keysDir, nil)
	require.NoError(t, err)
	rec := testRecord(t, "one")
	require.NoError(t, other.Put(t.Context(), rec))
	d.beforeLstat = func() {
		require.NoError(t, f.Sync(t.Context()), "a Sync of this process, between the start of Get and its look")
		d.StopAt = d.Steps + 5 // the other process names the record, and dies before it syncs the folder
		require.ErrorIs(t, other.Sync(t.Context()), memdisk.ErrStopped)
		d.StopAt = 0
	}
	_, err = f.Get(t.Context(), "one")
	require.NoError(t, err)
	require.NoError(t, f.Sync(t.Context()))
	after, err := openFolder(d.Survive(false, false), keysDir, nil)
	require.NoError(t, err)
	_, err = after.Get(t.Context(), "one")
	require.NoError(t, err)
}

func TestAfterAFailedSyncNothingIsPromisedAnyMore(t *testing.T) {
	d := memdisk.New()
	f, err := openFolder(d, keysDir, nil)
	require.NoError(t, err)
	require.NoError(t, f.Put(t.Context(), testRecord(t, "one")))
	d.FailAt = d.Steps + 1
	err = f.Sync(t.Context())
	require.ErrorIs(t, err, memdisk.ErrFault)
	require.ErrorContains(t, err, `device "one"`)
	for range 2 {
		err = f.Sync(t.Context())
		require.ErrorIs(t, err, ErrBroken)
		require.ErrorIs(t, err, memdisk.ErrFault, "the first cause stays")
		require.ErrorIs(t, f.Put(t.Context(), testRecord(t, "two")), ErrBroken)
	}
}

func TestAWriteThatFailsInTheBackgroundIsReportedBySync(t *testing.T) {
	onEveryKindOfDisk(t, func(t *testing.T, wholeSync bool) {
		d := newDisk(wholeSync)
		f, err := openFolder(d, keysDir, nil)
		require.NoError(t, err)
		for _, device := range []string{"one", "two"} { // the second group has a sync of its own
			require.NoError(t, f.Put(t.Context(), testRecord(t, device)))
			require.NoError(t, f.Sync(t.Context()))
		}
		require.NoError(t, f.Put(t.Context(), testRecord(t, "three")))
		d.LoseWrites(keysDir)
		require.ErrorIs(t, f.Sync(t.Context()), memdisk.ErrFault)
		require.ErrorIs(t, f.Sync(t.Context()), ErrBroken)
		_, err = f.Get(t.Context(), "one")
		require.NoError(t, err)
	})
}

func TestWhereItCanBeSyncedAsAWholeManyDevicesCostOneSync(t *testing.T) {
	d := newDisk(true)
	f, err := openFolder(d, keysDir, nil)
	require.NoError(t, err)
	const devices = 20
	for i := range devices {
		require.NoError(t, f.Put(t.Context(), testRecord(t, fmt.Sprint(i))))
	}
	before := d.Steps
	require.NoError(t, f.Sync(t.Context()))
	require.Equal(t, 1+devices+1+1, d.Steps-before, "the sync, a name for each, the names' sync, and the hidden folder's end")
}

func TestAFailedPutCanBeTriedAgain(t *testing.T) {
	for ahead := 1; ahead <= 8; ahead++ {
		d := memdisk.New()
		f, err := openFolder(d, keysDir, nil)
		require.NoError(t, err)
		rec := testRecord(t, "one")
		d.FailAt = d.Steps + ahead
		err = f.Put(t.Context(), rec)
		require.ErrorIs(t, err, memdisk.ErrFault)
		require.ErrorContains(t, err, `device "one"`)
		_, err = f.Get(t.Context(), "one")
		require.ErrorIs(t, err, ErrNotFound)
		require.NoError(t, f.Put(t.Context(), rec))
		require.NoError(t, f.Sync(t.Context()))
		_, err = f.Get(t.Context(), "one")
		require.NoError(t, err)
	}
}
