package keystore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const archivePath = "/fleet/keys/fleet.keys"

func archiveRecords(t testing.TB, n int) []Record {
	records := make([]Record, n)
	for i := range records {
		records[i] = testRecord(t, fmt.Sprintf("device-%d", i))
	}
	return records
}

// playArchive opens an archive, puts five records and syncs three times, as far as the disk lets it. What was found when
// it was opened counts as put.
func playArchive(t testing.TB, d *archiveMemDisk, records []Record) history {
	h := history{put: map[string]bool{}, durable: map[string]bool{}}
	a, err := openArchive(d, archivePath, nil)
	if err != nil {
		require.NotErrorIs(t, err, ErrDamaged, "a crash is no damage")
		h.tries++
		return h
	}
	sync := func(err error) {
		if err != nil {
			h.tries++
			return
		}
		for device := range h.put {
			h.durable[device] = true
		}
	}
	for i, rec := range records {
		_, err := a.Get(t.Context(), rec.Device)
		if err != nil {
			err = a.Put(t.Context(), rec)
		}
		if err == nil {
			h.put[rec.Device] = true
		} else {
			h.tries++
			require.NotErrorIs(t, err, ErrExists)
		}
		if i == 1 || i == 2 {
			sync(a.Sync(t.Context()))
		}
	}
	sync(a.Close())
	return h
}

// requireArchiveGoesOn opens what is left of a disk as a new process does.
func requireArchiveGoesOn(t *testing.T, d *archiveMemDisk, records []Record, h history, what string) {
	t.Helper()
	a, err := openArchive(d, archivePath, nil)
	require.NoError(t, err, what)
	require.Empty(t, a.Damage(), what)
	for _, rec := range records {
		got, err := a.Get(t.Context(), rec.Device)
		if err == nil {
			require.True(t, got.Key.Equal(rec.Key), what)
			require.Equal(t, rec.Request.DER(), got.Request.DER(), what)
			continue
		}
		require.ErrorIs(t, err, ErrNotFound, "%s: a record is whole or not there", what)
		require.False(t, h.durable[rec.Device], "%s: %s was lost although Sync had returned nil", what, rec.Device)
		require.NoError(t, a.Put(t.Context(), rec), what)
	}
	require.NoError(t, a.Sync(t.Context()), what)
	// All records are there, and no trace of the crash is taken for damage, whether what was not synced by now is kept or lost.
	for _, keep := range []bool{false, true} {
		again, err := openArchive(archiveDiskOf(d.survive(keep, keep)), archivePath, nil)
		require.NoError(t, err, what)
		for _, rec := range records {
			require.Contains(t, keyOf(t, again, rec.Device), string(rec.Request.DER()), what)
		}
	}
}

// keyOf returns a device's frame as it is, without checking signatures, which takes most of the time of Get.
func keyOf(t *testing.T, a *Archive, device string) string {
	t.Helper()
	f, _, err := pick(device, a.index.find(a.hash(device), nil), a.frameAt)
	require.NoError(t, err)
	require.Equal(t, device, string(f.name))
	return string(f.key) + string(f.request)
}

func TestAnArchiveLosesNothingThatWasSyncedWhereverThePowerIsCut(t *testing.T) {
	records := archiveRecords(t, 5)
	whole := newArchiveMemDisk()
	h := playArchive(t, whole, records)
	require.Zero(t, h.tries)
	require.Len(t, h.durable, 5)
	for _, tear := range []bool{false, true} {
		for stop := 1; stop <= whole.steps+1; stop++ {
			d := newArchiveMemDisk()
			d.stopAt, d.tear = stop, tear
			h := playArchive(t, d, records)
			for cut, left := range d.powerCuts(archivePath) {
				requireArchiveGoesOn(t, left, records, h, fmt.Sprintf("stopped at step %d, torn %v, %s left", stop, tear, cut))
			}
		}
	}
}

func TestAnArchiveLosesNothingThatWasSyncedWhateverStepFails(t *testing.T) {
	records := archiveRecords(t, 5)
	whole := newArchiveMemDisk()
	playArchive(t, whole, records)
	for fail := 1; fail <= whole.steps; fail++ {
		d := newArchiveMemDisk()
		d.failAt, d.tear = fail, true
		h := playArchive(t, d, records)
		require.Positive(t, h.tries, "a fault is always told: step %d", fail)
		for cut, left := range d.powerCuts(archivePath) {
			requireArchiveGoesOn(t, left, records, h, fmt.Sprintf("fault at step %d, %s left", fail, cut))
		}
	}
}

func TestARunThatGoesOnAfterAFaultOrCrashIsNotDeceivedByWhatTheSystemShows(t *testing.T) {
	// The process dies or gives up, another one goes on with what it finds, and then the power is cut.
	records := archiveRecords(t, 5)
	whole := newArchiveMemDisk()
	playArchive(t, whole, records)
	for step := 1; step <= whole.steps; step++ {
		for _, stop := range []bool{false, true} {
			d := newArchiveMemDisk()
			d.tear = true
			if stop {
				d.stopAt = step
			} else {
				d.failAt = step
			}
			playArchive(t, d, records)
			h := playArchive(t, d.restart(), records)
			require.Zero(t, h.tries)
			for cut, left := range d.powerCuts(archivePath) {
				requireArchiveGoesOn(t, left, records, h, fmt.Sprintf("step %d, stop %v, gone on, %s left", step, stop, cut))
			}
		}
	}
}

func TestAfterAFailedWriteOrSyncAnArchiveRefusesFurtherUse(t *testing.T) {
	records := archiveRecords(t, 3)
	for ahead := 1; ahead <= 3; ahead++ { // the write of the records, the sync, the write of the mark
		d := newArchiveMemDisk()
		a, err := openArchive(d, archivePath, nil)
		require.NoError(t, err)
		require.NoError(t, a.Put(t.Context(), records[0]))
		require.NoError(t, a.Sync(t.Context()))
		require.NoError(t, a.Put(t.Context(), records[1]))
		d.failAt = d.steps + ahead
		err = a.Sync(t.Context())
		require.ErrorIs(t, err, errFault)
		require.ErrorContains(t, err, archivePath)
		for range 2 {
			err = a.Sync(t.Context())
			require.ErrorIs(t, err, ErrBroken)
			require.ErrorIs(t, err, errFault, "the first cause stays")
			require.ErrorIs(t, a.Put(t.Context(), records[2]), ErrBroken)
		}
		_, err = a.Get(t.Context(), records[0].Device)
		require.NoError(t, err, "what is durable can still be read")
		if _, err = a.Get(t.Context(), records[1].Device); ahead < 3 {
			require.ErrorIs(t, err, ErrBroken)
		}
		require.ErrorIs(t, a.Close(), ErrBroken)
		require.NoError(t, a.Close())

		again, err := openArchive(d, archivePath, nil)
		require.NoError(t, err)
		if _, err = again.Get(t.Context(), records[1].Device); ahead < 3 {
			require.ErrorIs(t, err, ErrNotFound)
		} else {
			require.NoError(t, err)
		}
	}
}

func TestWhatIsPutWhileASyncRunsIsCoveredByTheNext(t *testing.T) {
	records := archiveRecords(t, 2)
	d := newArchiveMemDisk()
	a, err := openArchive(d, archivePath, nil)
	require.NoError(t, err)
	require.NoError(t, a.Put(t.Context(), records[0]))
	d.duringSync = func() {
		d.duringSync = nil
		require.NoError(t, a.Put(t.Context(), records[1]))
	}
	require.NoError(t, a.Sync(t.Context()))
	require.Nil(t, d.duringSync)
	require.NoError(t, a.Sync(t.Context()))
	again, err := openArchive(archiveDiskOf(d.survive(false, false)), archivePath, nil)
	require.NoError(t, err)
	for _, rec := range records {
		_, err := again.Get(t.Context(), rec.Device)
		require.NoError(t, err)
	}
}

func TestSyncReachesTheDiskOnceHoweverManyRecordsThereAre(t *testing.T) {
	d := newArchiveMemDisk()
	a, err := openArchive(d, archivePath, nil)
	require.NoError(t, err)
	for _, rec := range archiveRecords(t, 20) {
		require.NoError(t, a.Put(t.Context(), rec))
	}
	syncs := 0
	d.duringSync = func() { syncs++ }
	before := d.steps
	require.NoError(t, a.Sync(t.Context()))
	require.Equal(t, 1, syncs)
	require.Equal(t, 3, d.steps-before, "the records in one write, the sync, the mark")
	require.NoError(t, a.Sync(t.Context()))
	require.NoError(t, a.Close())
	require.Equal(t, 1, syncs, "nothing to do")
}

func TestAPutThatCannotBeWrittenNamesTheDevice(t *testing.T) {
	d := newArchiveMemDisk()
	a, err := openArchive(d, archivePath, nil)
	require.NoError(t, err)
	rec := testRecord(t, "one")
	d.failAt = d.steps + 1
	a.buf = append(make([]byte, 0, flushSize), make([]byte, flushSize-10)...) // all but full
	err = a.Put(t.Context(), rec)
	require.ErrorIs(t, err, errFault)
	require.ErrorContains(t, err, `device "one"`)
	require.ErrorIs(t, a.Put(t.Context(), testRecord(t, "two")), ErrBroken)
}

func TestAnArchiveFileThatVanishesIsNoticedBySync(t *testing.T) {
	d := newArchiveMemDisk()
	a, err := openArchive(d, archivePath, nil)
	require.NoError(t, err)
	require.NoError(t, a.Put(t.Context(), testRecord(t, "one")))
	require.NoError(t, d.remove(archivePath))
	require.Error(t, a.Sync(t.Context()))
	require.ErrorIs(t, a.Sync(t.Context()), ErrBroken)
}

func TestAnyTruncationOfAnArchiveLeavesAPrefixOfItsRecords(t *testing.T) {
	records := archiveRecords(t, 4)
	d := newArchiveMemDisk()
	playArchive(t, d, records)
	n, err := d.find(archivePath)
	require.NoError(t, err)
	content := bytes.Clone(n.data)
	seen := map[int]bool{}
	for size := range len(content) + 1 {
		d := d.with(archivePath, content[:size], true)
		n, err := d.find(archivePath)
		require.NoError(t, err)
		a, err := openArchive(d, archivePath, nil)
		require.NoError(t, err, "cut to %d bytes", size)
		count := 0
		for device, err := range a.Devices(t.Context()) {
			require.NoError(t, err)
			require.Equal(t, records[count].Device, device)
			count++
		}
		if !seen[count] { // reading keys takes long
			for _, rec := range records[:count] {
				got, err := a.Get(t.Context(), rec.Device)
				require.NoError(t, err)
				require.True(t, got.Key.Equal(rec.Key))
			}
		}
		seen[count] = true
		require.True(t, bytes.HasPrefix(content, n.data[:a.size]) || size < archiveHead, "only the tail is cut off")
		require.NoError(t, a.Close())
	}
	require.Len(t, seen, 5)
}

func TestDevicesOfOneHashNeverGetEachOthersKey(t *testing.T) {
	for name, mask := range map[string]uint64{
		"one hash for all":      0,
		"four shards, two tags": 3<<62 | 1<<(63-shardBits),
	} {
		t.Run(name, func(t *testing.T) {
			d := newArchiveMemDisk()
			a, err := openMasked(d, archivePath, nil, mask)
			require.NoError(t, err)
			records := archiveRecords(t, 30) // more than a first shard holds
			for i, rec := range records {
				require.NoError(t, a.Put(t.Context(), rec))
				require.ErrorIs(t, a.Put(t.Context(), rec), ErrExists)
				if i == 15 {
					require.NoError(t, a.Sync(t.Context())) // some in the file, the others in memory
				}
			}
			check := func(a *Archive) {
				i := 0
				for device, err := range a.Devices(t.Context()) {
					require.NoError(t, err)
					require.Equal(t, records[i].Device, device)
					got, err := a.Get(t.Context(), device)
					require.NoError(t, err)
					require.Equal(t, device, got.Device)
					require.True(t, got.Key.Equal(records[i].Key))
					i++
				}
				require.Len(t, records, i)
				_, err = a.Get(t.Context(), "another")
				require.ErrorIs(t, err, ErrNotFound)
			}
			check(a)
			require.NoError(t, a.Close())

			// And when the file is read.
			again, err := openMasked(d, archivePath, nil, mask)
			require.NoError(t, err)
			check(again)
			for _, rec := range records {
				require.ErrorIs(t, again.Put(t.Context(), rec), ErrExists)
			}
			require.NoError(t, again.Close())
		})
	}
}

func TestADamagedRecordHidesNoOtherOfItsHashAndNobodyTakesItForNone(t *testing.T) {
	d := newArchiveMemDisk()
	a, err := openMasked(d, archivePath, nil, 0)
	require.NoError(t, err)
	records := archiveRecords(t, 2)
	for _, rec := range records {
		require.NoError(t, a.Put(t.Context(), rec))
	}
	require.NoError(t, a.Sync(t.Context()))
	n, err := d.find(archivePath)
	require.NoError(t, err)

	n.data[archiveHead+frameHead+20] ^= 1 // in the first one's key: its name can still be read
	_, err = a.Get(t.Context(), records[0].Device)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorIs(t, a.Put(t.Context(), records[0]), ErrDamaged)
	_, err = a.Get(t.Context(), records[1].Device)
	require.NoError(t, err)
	_, err = a.Get(t.Context(), "another")
	require.ErrorIs(t, err, ErrNotFound)

	n.data[archiveHead+frameHead] ^= 1 // in its name: it may be anybody's
	_, err = a.Get(t.Context(), records[1].Device)
	require.NoError(t, err)
	require.ErrorIs(t, a.Put(t.Context(), records[1]), ErrExists)
	_, err = a.Get(t.Context(), "another")
	require.ErrorIs(t, err, ErrDamaged)
	require.NotErrorIs(t, err, ErrNotFound)
	require.ErrorIs(t, a.Put(t.Context(), testRecord(t, "another")), ErrDamaged)
}

func TestAnArchiveThatIsFullTakesNoMore(t *testing.T) {
	a, err := openArchive(newArchiveMemDisk(), archivePath, nil)
	require.NoError(t, err)
	size := a.size
	a.size = maxOffset + 1
	require.ErrorContains(t, a.Put(t.Context(), testRecord(t, "one")), "is full")
	a.size = maxOffset
	require.NoError(t, a.Put(t.Context(), testRecord(t, "two")), "the last one can be found")
	_, err = a.Get(t.Context(), "two")
	require.NoError(t, err)
	clear(a.buf)
	a.buf, a.size = nil, size
}

func TestAnArchiveWithMoreGapsThanAreToldIsDamagedForReadersToo(t *testing.T) {
	junk := bytes.Repeat([]byte{'x'}, 40)
	content := archiveHeader()
	for range maxDamage + 1 { // each noted as a crash's by a mark behind it
		from := int64(len(content))
		content = append(content, junk...)
		content = mark{durable: archiveHead, voidFrom: from, voidSize: int64(len(junk))}.append(content, int64(len(content)))
	}
	path := filepath.Join(t.TempDir(), "fleet.keys")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	_, err := OpenArchive(path, nil)
	require.ErrorIs(t, err, ErrDamaged)
	a, err := OpenArchive(path, &ArchiveOptions{ReadOnly: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Close()) }()
	require.Len(t, a.Damage(), 1)
	_, err = a.Get(t.Context(), "never there")
	require.ErrorIs(t, err, ErrDamaged, "its record may be in one of the gaps")
}
