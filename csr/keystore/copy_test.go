package keystore_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/csr/keystore/sqlitekeys"
)

func TestCopyWritesFilesThatFolderReadsAndCanBeRepeated(t *testing.T) {
	base := t.TempDir()
	a := openSQLite(t, filepath.Join(base, "keys.db"))
	var names []string
	var records []keystore.Record
	for _, name := range []string{"zeta", "Dev", "dev", "a:b", "keyless"} {
		rec := record(t, name)
		if name == "keyless" {
			rec.Key = csr.PrivateKey{}
		}
		records = append(records, rec)
		require.NoError(t, a.Put(t.Context(), rec))
		if name == "Dev" {
			require.NoError(t, a.Sync(t.Context()))
		}
	}
	for device, err := range a.Devices(t.Context()) {
		require.NoError(t, err)
		names = append(names, device)
	}
	require.Equal(t, []string{"zeta", "Dev", "dev", "a:b", "keyless"}, names, "in the order they were put")
	dir := filepath.Join(base, "out")
	f := open(t, dir)
	for range 2 {
		n, err := keystore.Copy(t.Context(), f, a)
		require.NoError(t, err)
		require.Equal(t, len(records), n)
	}
	for _, rec := range records {
		got, err := f.Get(t.Context(), rec.Device)
		require.NoError(t, err)
		requireSame(t, rec, got)
	}
	text, err := os.ReadFile(filepath.Join(f.Path("zeta"), keystore.KeyFile))
	require.NoError(t, err)
	want, err := records[0].Key.PEM()
	require.NoError(t, err)
	require.Equal(t, string(want), string(text))

	other := open(t, filepath.Join(base, "other"))
	require.NoError(t, other.Put(t.Context(), record(t, "dev")))
	require.NoError(t, other.Sync(t.Context()))
	_, err = keystore.Copy(t.Context(), other, a)
	require.ErrorIs(t, err, keystore.ErrExists)
	require.ErrorContains(t, err, other.Path("dev"))
	back := openSQLite(t, filepath.Join(base, "back.db"))
	n, err := keystore.Copy(t.Context(), back, f)
	require.NoError(t, err)
	require.Equal(t, len(records), n, "and from folders into a database")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = keystore.Copy(ended, f, a)
	require.ErrorIs(t, err, context.Canceled)
}
func TestADatabaseKeepsKeysOfEveryKind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	a, err := sqlitekeys.Open(t.Context(), path, &sqlitekeys.Options{KeysElsewhere: true})
	require.NoError(t, err)
	var records []keystore.Record
	for _, alg := range csr.Algorithms() {
		if alg == "rsa3072" || alg == "rsa4096" {
			continue // they take seconds to make, and differ from rsa2048 in length alone
		}
		g := csr.Generator{Keys: csr.Software(alg)}
		r := g.One(t.Context(), csr.Device{Name: string(alg)})
		require.NoError(t, r.Err)
		records = append(records, keystore.Record{Device: string(alg), Key: r.Key, Request: r.Request})
	}
	for _, rec := range records {
		require.NoError(t, a.Put(t.Context(), rec))
	}
	chip := record(t, "chip")
	chip.Key = csr.NewPrivateKey(hardware{chip.Key.Signer()})
	require.NoError(t, a.Put(t.Context(), chip))
	require.NoError(t, a.Close())
	again := openSQLite(t, path)
	for _, rec := range records {
		got, err := again.Get(t.Context(), rec.Device)
		require.NoError(t, err)
		requireSame(t, rec, got)
	}
	got, err := again.Get(t.Context(), "chip")
	require.NoError(t, err)
	require.True(t, got.Key.IsZero())
	require.Equal(t, chip.Request.DER(), got.Request.DER())
}
