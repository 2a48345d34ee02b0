package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
)

const keysDir = "/fleet/keys"

func testRecord(t testing.TB, device string) Record {
	t.Helper()
	r := new(csr.Generator).One(t.Context(), csr.Device{Name: device})
	require.NoError(t, r.Err)
	return Record{Device: device, Key: r.Key, Request: r.Request}
}

// history is what a run was told about its records.
type history struct {
	put     map[string]bool // Put returned nil
	durable map[string]bool // and so did a later Sync
	tries   int             // Puts and Syncs that failed
}

// play opens a folder, puts three records and syncs twice, as far as the disk lets it.
func play(t testing.TB, d *memDisk, records []Record) history {
	h := history{put: map[string]bool{}, durable: map[string]bool{}}
	f, err := openFolder(d, keysDir, &FolderOptions{SyncWorkers: 1})
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

// requireWholeOrNothing opens what is left of a disk as a new process does.
func requireWholeOrNothing(t *testing.T, d *memDisk, records []Record, h history, what string) {
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
	require.NoError(t, f.Sync(t.Context()), what)
	_, err = f.RemoveLeftovers(t.Context())
	require.NoError(t, err, what)
	again, err := openFolder(d.survive(false, false), keysDir, nil)
	require.NoError(t, err)
	for _, rec := range records {
		_, err := again.Get(t.Context(), rec.Device)
		require.NoError(t, err, what)
	}
}

func TestAPowerCutAtAnyStepLeavesEachRecordWholeOrNotThere(t *testing.T) {
	records := []Record{testRecord(t, "one"), testRecord(t, "two"), testRecord(t, "three")}
	whole := newMemDisk()
	h := play(t, whole, records)
	require.Zero(t, h.tries)
	require.Len(t, h.durable, 3)
	for _, tear := range []bool{false, true} {
		for stop := 1; stop <= whole.steps+1; stop++ {
			d := newMemDisk()
			d.stopAt, d.tear = stop, tear
			h := play(t, d, records)
			require.Equal(t, stop <= whole.steps, d.steps >= stop)
			for _, keepEntries := range []bool{false, true} {
				for _, keepData := range []bool{false, true} {
					what := fmt.Sprintf("stopped at step %d, torn %v, unsynced entries kept %v, unsynced data kept %v", stop, tear, keepEntries, keepData)
					requireWholeOrNothing(t, d.survive(keepEntries, keepData), records, h, what)
				}
			}
		}
	}
}

func TestAFaultAtAnyStepIsReportedAndLeavesEachRecordWholeOrNotThere(t *testing.T) {
	records := []Record{testRecord(t, "one"), testRecord(t, "two"), testRecord(t, "three")}
	whole := newMemDisk()
	play(t, whole, records)
	quiet := 0
	for fail := 1; fail <= whole.steps; fail++ {
		d := newMemDisk()
		d.failAt, d.tear = fail, true
		h := play(t, d, records)
		if h.tries == 0 {
			quiet++ // only the removal of the empty hidden folder, after each Sync
			require.Len(t, h.durable, 3)
		}
		for _, keep := range []bool{false, true} {
			what := fmt.Sprintf("fault at step %d, unsynced kept %v", fail, keep)
			requireWholeOrNothing(t, d.survive(keep, keep), records, h, what)
		}
	}
	require.Equal(t, 2, quiet)
}

func TestARecordThatGetFoundIsDurableAfterTheNextSync(t *testing.T) {
	// A process that died between naming a record and syncing the folder leaves one that could still vanish.
	rec := testRecord(t, "one")
	whole := newMemDisk()
	play(t, whole, []Record{rec, testRecord(t, "two"), testRecord(t, "three")})
	found := 0
	for stop := 1; stop <= whole.steps; stop++ {
		d := newMemDisk()
		d.stopAt = stop
		play(t, d, []Record{rec, testRecord(t, "two"), testRecord(t, "three")})
		d.stopAt = 0 // the process died, the machine did not
		f, err := openFolder(d, keysDir, nil)
		require.NoError(t, err)
		if _, err := f.Get(t.Context(), "one"); err != nil {
			continue
		}
		found++
		require.NoError(t, f.Sync(t.Context()))
		after, err := openFolder(d.survive(false, false), keysDir, nil)
		require.NoError(t, err)
		_, err = after.Get(t.Context(), "one")
		require.NoError(t, err, "died at step %d", stop)
	}
	require.Positive(t, found)
}

// hookDisk calls what a test wants between two steps of its disk.
type hookDisk struct {
	*memDisk
	beforeLstat, beforeList func()
}

func (d *hookDisk) lstat(path string) (fs.FileInfo, error) {
	if hook := d.beforeLstat; hook != nil {
		d.beforeLstat = nil
		hook()
	}
	return d.memDisk.lstat(path)
}

func (d *hookDisk) list(path string, yield func(string, bool) bool) error {
	if hook := d.beforeList; hook != nil {
		d.beforeList = nil
		hook()
	}
	return d.memDisk.list(path, yield)
}

func TestARecordNamedWhileGetLooksForItIsDurableAfterTheNextSync(t *testing.T) {
	d := &hookDisk{memDisk: newMemDisk()}
	f, err := openFolder(d, keysDir, nil)
	require.NoError(t, err)
	other, err := openFolder(d, keysDir, nil)
	require.NoError(t, err)
	rec := testRecord(t, "one")
	require.NoError(t, other.Put(t.Context(), rec))
	d.beforeLstat = func() {
		require.NoError(t, f.Sync(t.Context()), "a Sync of this process, between the start of Get and its look")
		d.stopAt = d.steps + 5 // the other process names the record, and dies before it syncs the folder
		require.ErrorIs(t, other.Sync(t.Context()), errStopped)
		d.stopAt = 0
	}
	_, err = f.Get(t.Context(), "one")
	require.NoError(t, err)
	require.NoError(t, f.Sync(t.Context()))
	after, err := openFolder(d.survive(false, false), keysDir, nil)
	require.NoError(t, err)
	_, err = after.Get(t.Context(), "one")
	require.NoError(t, err)
}

func TestRemoveLeftoversSparesARecordThatIsPutMeanwhile(t *testing.T) {
	d := &hookDisk{memDisk: newMemDisk()}
	f, err := openFolder(d, keysDir, nil)
	require.NoError(t, err)
	rec := testRecord(t, "one")
	d.beforeList = func() { require.NoError(t, f.Put(t.Context(), rec)) }
	n, err := f.RemoveLeftovers(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, f.Sync(t.Context()))
	got, err := f.Get(t.Context(), "one")
	require.NoError(t, err)
	require.True(t, got.Key.Equal(rec.Key))
}

func TestAfterAFailedSyncNothingIsPromisedAnyMore(t *testing.T) {
	d := newMemDisk()
	f, err := openFolder(d, keysDir, nil)
	require.NoError(t, err)
	require.NoError(t, f.Put(t.Context(), testRecord(t, "one")))
	d.failAt = d.steps + 1
	err = f.Sync(t.Context())
	require.ErrorIs(t, err, errFault)
	require.ErrorContains(t, err, `device "one"`)
	for range 2 {
		err = f.Sync(t.Context())
		require.ErrorIs(t, err, ErrBroken)
		require.ErrorIs(t, err, errFault, "the first cause stays")
		require.ErrorIs(t, f.Put(t.Context(), testRecord(t, "two")), ErrBroken)
	}
}

func TestAFailedPutCanBeTriedAgain(t *testing.T) {
	for ahead := 1; ahead <= 8; ahead++ {
		d := newMemDisk()
		f, err := openFolder(d, keysDir, nil)
		require.NoError(t, err)
		rec := testRecord(t, "one")
		d.failAt = d.steps + ahead
		err = f.Put(t.Context(), rec)
		require.ErrorIs(t, err, errFault)
		require.ErrorContains(t, err, `device "one"`)
		_, err = f.Get(t.Context(), "one")
		require.ErrorIs(t, err, ErrNotFound)
		require.NoError(t, f.Put(t.Context(), rec))
		require.NoError(t, f.Sync(t.Context()))
		_, err = f.Get(t.Context(), "one")
		require.NoError(t, err)
	}
}

func TestAFileIsWholeOrNotThereWhateverStepIsTheLast(t *testing.T) {
	oldText, newText := []byte("old content"), []byte("new content, longer")
	for _, replace := range []bool{false, true} {
		start := func() *memDisk {
			d := newMemDisk()
			if replace {
				require.NoError(t, writeFile(d, "/f", oldText, 0o600, false))
			}
			return d
		}
		whole := start()
		before := whole.steps
		require.NoError(t, writeFile(whole, "/f", newText, 0o600, replace))
		for step := before + 1; step <= whole.steps; step++ {
			for _, stop := range []bool{false, true} {
				d := start()
				d.tear = true
				if stop {
					d.stopAt = step
				} else {
					d.failAt = step
				}
				result := writeFile(d, "/f", newText, 0o600, replace)
				for _, keepEntries := range []bool{false, true} {
					for _, keepData := range []bool{false, true} {
						data, err := d.survive(keepEntries, keepData).read("/f", 1000)
						what := fmt.Sprintf("replace %v, step %d, stop %v, kept %v %v", replace, step, stop, keepEntries, keepData)
						switch {
						case err != nil:
							require.False(t, replace, what)
							require.Error(t, result, what)
						case string(data) == string(oldText):
							require.True(t, replace, what)
							require.Error(t, result, what)
						default:
							require.Equal(t, string(newText), string(data), what)
						}
					}
				}
			}
		}
	}
}

// noLinks is a file system without hard links.
type noLinks struct{ *memDisk }

func (noLinks) link(string, string) error { return errors.ErrUnsupported }

func TestWithoutHardLinksAFileIsStillNotReplaced(t *testing.T) {
	d := noLinks{newMemDisk()}
	require.NoError(t, writeFile(d, "/f", []byte("one"), 0o600, false))
	require.ErrorIs(t, writeFile(d, "/f", []byte("two"), 0o600, false), ErrExists)
	data, err := d.read("/f", 10)
	require.NoError(t, err)
	require.Equal(t, "one", string(data))
}
