package keystore

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// span is where a frame is.
type span struct {
	start, end int64
	durable    int64 // of a mark
}

// fuzzArchive returns an archive of six records, with the places of the records and of the marks.
func fuzzArchive(f *testing.F) (content []byte, records []Record, places, marks []span) {
	d := newArchiveMemDisk()
	records = archiveRecords(f, 6)
	a, err := openArchive(d, archivePath, nil)
	require.NoError(f, err)
	for i, rec := range records {
		require.NoError(f, a.Put(f.Context(), rec))
		if i == 1 || i == 4 {
			require.NoError(f, a.Sync(f.Context()))
		}
	}
	require.NoError(f, a.Close())
	n, err := d.find(archivePath)
	require.NoError(f, err)
	err = newScanner(&archiveMemFile{d: d, n: n}, int64(len(n.data))).scan(archiveHead, func(f frame) (bool, error) {
		at := span{start: f.offset, end: f.offset + f.size()}
		if f.kind == frameMark {
			m, _ := parseMark(f)
			at.durable = m.durable
			marks = append(marks, at)
		} else {
			places = append(places, at)
		}
		return true, nil
	}, func(s stretch) { f.Fatal(s) })
	require.NoError(f, err)
	return n.data, records, places, marks
}

func diskWithArchive(t *testing.T, content []byte) (*archiveMemDisk, *node) {
	t.Helper()
	d := newArchiveMemDisk()
	require.NoError(t, d.mkdir("/fleet", 0o700))
	require.NoError(t, d.mkdir("/fleet/keys", 0o700))
	f, err := d.create(archivePath, 0o600)
	require.NoError(t, err)
	_, err = f.Write(content)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	n, err := d.find(archivePath)
	require.NoError(t, err)
	return d, n
}

// FuzzOpenArchive opens any bytes as an archive. Whatever they are, what comes out are whole records, found again by their
// names; opening for reading changes nothing; a refused file is left as it is; and what was accepted takes a new record,
// is accepted again, and has the same records as before in the same order.
func FuzzOpenArchive(f *testing.F) {
	content, _, _, _ := fuzzArchive(f)
	f.Add(content)
	f.Add(content[:len(content)/2])
	f.Add(content[:archiveHead])
	f.Add([]byte{})
	f.Add(append(bytes.Clone(content), content[archiveHead:]...))
	f.Add(append(bytes.Clone(content[:archiveHead]), bytes.Repeat([]byte("\xf7key\x01\x03\x00\x00"), 300)...))
	f.Add(mark{durable: 32, voidFrom: 32, voidSize: 0}.append(bytes.Clone(content[:archiveHead]), archiveHead))
	f.Add(appendFrame(bytes.Clone(content[:archiveHead]), archiveHead, frameKeyed, "d", []byte{1}, []byte{2}))

	extra := testRecord(f, "one more")
	f.Fuzz(func(t *testing.T, data []byte) {
		d, n := diskWithArchive(t, data)
		list := func(a *Archive) (devices []string) {
			for device, err := range a.Devices(t.Context()) {
				require.NoError(t, err)
				require.NotEmpty(t, device)
				rec, err := a.Get(t.Context(), device)
				if err == nil {
					require.Equal(t, device, rec.Device)
					require.NotNil(t, rec.Request)
					require.True(t, rec.Key.IsZero() || rec.Request.Matches(rec.Key.Public()))
				} else {
					require.ErrorIs(t, err, ErrDamaged)
				}
				devices = append(devices, device)
			}
			return devices
		}
		var readable []string
		r, err := openArchive(d, archivePath, &ArchiveOptions{ReadOnly: true})
		if err == nil {
			readable = list(r)
			require.NoError(t, r.Close())
		} else {
			require.ErrorIs(t, err, ErrNotArchive)
		}
		require.True(t, bytes.Equal(data, n.data))

		a, err := openArchive(d, archivePath, nil)
		if err != nil {
			require.True(t, errors.Is(err, ErrNotArchive) || errors.Is(err, ErrDamaged), "%v", err)
			require.True(t, bytes.Equal(data, n.data))
			return
		}
		before := list(a)
		require.Equal(t, readable, before)
		err = a.Put(t.Context(), extra)
		require.Equal(t, slices.Contains(before, extra.Device), errors.Is(err, ErrExists), "%v", err)
		require.NoError(t, a.Close())
		a, err = openArchive(d, archivePath, nil)
		require.NoError(t, err)
		if !slices.Contains(before, extra.Device) {
			before = append(before, extra.Device)
			got, err := a.Get(t.Context(), extra.Device)
			require.NoError(t, err)
			require.True(t, got.Key.Equal(extra.Key))
		}
		require.Equal(t, before, list(a))
		require.NoError(t, a.Close())
	})
}

// FuzzArchiveDamage changes a stretch of an archive, or cuts it off there. Every record outside can still be read, with its
// own key, whether the archive opens or has to be opened for reading.
func FuzzArchiveDamage(f *testing.F) {
	content, records, places, marks := fuzzArchive(f)
	f.Add(uint16(0), uint16(1), byte(1), false)
	f.Add(uint16(700), uint16(900), byte(0), false)
	f.Add(uint16(1500), uint16(1), byte(0xff), false)
	f.Add(uint16(1500), uint16(0), byte(0), true)
	f.Fuzz(func(t *testing.T, from, size uint16, change byte, cut bool) {
		data := bytes.Clone(content)
		start := min(int(from), len(data))
		end := min(start+int(size), len(data))
		for i := start; i < end; i++ {
			if change == 0 {
				data[i] = 0
			} else {
				data[i] ^= change
			}
		}
		if cut {
			data, end = data[:start], len(content)
		}
		d, _ := diskWithArchive(t, data)
		touched := func(s span) bool { return s.end > int64(start) && s.start < int64(end) }
		durable := int64(0) // by what is left of the marks
		for _, m := range marks {
			if !touched(m) {
				durable = m.durable
			}
		}
		a, err := openArchive(d, archivePath, nil)
		if errors.Is(err, ErrDamaged) {
			require.False(t, cut, "a part of an archive is no damage")
			a, err = openArchive(d, archivePath, &ArchiveOptions{ReadOnly: true})
		}
		require.NoError(t, err)
		for i, rec := range records {
			f, offset, err := pick(rec.Device, a.index.find(a.hash(rec.Device), nil), a.frameAt)
			require.NoError(t, err)
			if f.name != nil {
				require.Equal(t, rec.Request.DER(), f.request)
				require.Equal(t, places[i].start, offset)
				continue
			}
			require.True(t, touched(places[i]), "%s was lost", rec.Device)
			_, err = a.Get(t.Context(), rec.Device)
			if cut {
				require.ErrorIs(t, err, ErrNotFound)
			} else if places[i].end <= durable {
				require.ErrorIs(t, err, ErrDamaged, "what was synced once is never taken for never there")
			}
		}
	})
}
