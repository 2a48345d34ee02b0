package keystore_test

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/csr/keystore/sqlitekeys"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// kind is a kind of store. Package storetest has the promises that every store keeps; here is what those of this module
// have in common beyond them.
type kind struct {
	open  func() keystore.Store // opens the same place again, after the store before it was left
	place string                // what errors name
}

func asItIs(device string) string { return device }

func kinds(t *testing.T) map[string]kind {
	dir := t.TempDir()
	named := filepath.Join(dir, "named")
	memory := keystore.Memory()
	database := filepath.Join(dir, "keys.db")
	var before *sqlitekeys.Store
	return map[string]kind{
		"Folder": {func() keystore.Store { return open(t, filepath.Join(dir, "keys")) }, filepath.Join(dir, "keys", "device-one")},
		"named folders": {func() keystore.Store {
			f, err := keystore.OpenFolder(named, &keystore.FolderOptions{Name: asItIs})
			require.NoError(t, err)
			return f
		}, filepath.Join(named, "device-one")},
		"SQLite": {func() keystore.Store {
			if before != nil {
				require.NoError(t, before.Close())
			}
			before = openSQLite(t, database)
			return before
		}, database},
		"Memory": {func() keystore.Store { return memory }, "in memory"},
	}
}

func openSQLite(t testing.TB, path string) *sqlitekeys.Store {
	t.Helper()
	s, err := sqlitekeys.Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestARecordThatIsNotWholeIsRefused(t *testing.T) {
	stores := kinds(t)
	stores["None"] = kind{open: keystore.None}
	for name, k := range stores {
		t.Run(name, func(t *testing.T) {
			s := k.open()
			mixed := record(t, "d")
			mixed.Key = record(t, "d").Key
			err := s.Put(t.Context(), mixed)
			require.ErrorIs(t, err, keystore.ErrMismatch)
			require.ErrorContains(t, err, `"d"`)
			nameless := record(t, "d")
			nameless.Device = ""
			require.ErrorIs(t, s.Put(t.Context(), nameless), keystore.ErrName)
			for _, request := range []*csr.Request{nil, new(csr.Request)} {
				empty := record(t, "d")
				empty.Request = request
				require.ErrorContains(t, s.Put(t.Context(), empty), "neither a request nor a certificate")
			}
			for _, run := range []string{"two\nlines", "\x1b[31m", "\xff", strings.Repeat("x", 201)} {
				bad := record(t, "d")
				bad.Run = run
				require.ErrorContains(t, s.Put(t.Context(), bad), "printable", "%q", run)
			}
			_, err = s.Get(t.Context(), "d")
			require.ErrorIs(t, err, keystore.ErrNotFound)
			require.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
}

func TestANameThatNoFileCanHaveIsRefusedByEveryStore(t *testing.T) {
	long := strings.Repeat("ü", 50)
	for name, k := range kinds(t) {
		t.Run(name, func(t *testing.T) {
			s := k.open()
			rec := record(t, strings.Repeat("X:", 64))
			require.NoError(t, s.Put(t.Context(), rec))
			require.ErrorIs(t, s.Put(t.Context(), record(t, long)), keystore.ErrName)
			_, err := s.Get(t.Context(), long)
			require.ErrorIs(t, err, keystore.ErrNotFound)
			require.ErrorIs(t, s.Verify(t.Context(), long, rec.Request.PublicKeySHA256()), keystore.ErrNotFound)
			_, err = s.Get(t.Context(), "")
			require.ErrorIs(t, err, keystore.ErrName)
			require.ErrorIs(t, s.Verify(t.Context(), "", rec.Request.PublicKeySHA256()), keystore.ErrName)
			require.NoError(t, s.Sync(t.Context()))
		})
	}
}

func TestWhoPutsARecordAgainIsToldWhereTheFirstIs(t *testing.T) {
	for name, k := range kinds(t) {
		t.Run(name, func(t *testing.T) {
			s := k.open()
			first := record(t, "device-one")
			require.NoError(t, s.Put(t.Context(), first))
			refused := func(rec keystore.Record) {
				t.Helper()
				err := s.Put(t.Context(), rec)
				require.ErrorIs(t, err, fs.ErrExist)
				require.ErrorContains(t, err, `"device-one"`)
				require.ErrorContains(t, err, k.place)
			}
			refused(first)
			require.NoError(t, s.Sync(t.Context()))
			s = k.open()
			refused(record(t, "device-one"))
		})
	}
}

func TestAKeyIsNotVouchedForBeforeItIsSynced(t *testing.T) {
	for name, k := range kinds(t) {
		if name == "Memory" {
			continue // which has nothing to sync
		}
		t.Run(name, func(t *testing.T) {
			s := k.open()
			rec := record(t, "device-one")
			require.NoError(t, s.Put(t.Context(), rec))
			require.ErrorIs(t, s.Verify(t.Context(), "device-one", rec.Request.PublicKeySHA256()), keystore.ErrNotFound)
			require.NoError(t, s.Sync(t.Context()))
			require.NoError(t, s.Verify(t.Context(), "device-one", rec.Request.PublicKeySHA256()))
		})
	}
}

func TestAKeyInHardwareIsRefusedUnlessToldOtherwise(t *testing.T) {
	rec := record(t, "d")
	rec.Key = csr.NewPrivateKey(hardware{rec.Key.Signer()})
	for name, k := range kinds(t) {
		t.Run(name, func(t *testing.T) {
			err := k.open().Put(t.Context(), rec)
			if name == "Memory" { // nothing has to be written, so it is kept like any other
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, csr.ErrNotExportable)
			require.ErrorContains(t, err, "KeysElsewhere")
		})
	}
}

func TestARunThatGoesOnHasTheSameKeysAndAnotherRunHasNone(t *testing.T) {
	prepare := func(t *testing.T, s keystore.Store, run string) (requests []string, _ error) {
		form := &provision.MakeCSR{Store: s}
		for d, err := range form.Prepare(t.Context(), func(yield func(provision.Candidate, error) bool) {
			for _, name := range []string{"one", "two"} {
				if !yield(provision.Candidate{Device: provision.Device{Name: name}, Run: run}, nil) {
					return
				}
			}
		}) {
			if err != nil {
				return nil, err
			}
			require.NoError(t, d.Err)
			requests = append(requests, d.Name, d.Values["CSR"], string(d.Match))
		}
		return requests, form.Sync(t.Context())
	}
	for name, k := range kinds(t) {
		t.Run(name, func(t *testing.T) {
			first, err := prepare(t, k.open(), "run-1")
			require.NoError(t, err)
			require.Len(t, first, 2*3)
			s := k.open()
			again, err := prepare(t, s, "run-1")
			require.NoError(t, err)
			require.Equal(t, first, again)
			_, err = prepare(t, s, "run-2")
			require.ErrorIs(t, err, keystore.ErrExists)
		})
	}
}
