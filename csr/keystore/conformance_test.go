package keystore_test

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/csr/keystore/sqlitekeys"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// place is where a kind of store keeps its records; its stores are opened and left one after the other.
type place interface {
	open(t testing.TB) keystore.Store
	// leave is what a process does at its end, or a crash: what was not synced need not be there afterwards.
	leave(t testing.TB, s keystore.Store)
	where(device string) string // what an ErrExists names
}

type folderPlace struct{ dir string }

func (p folderPlace) open(t testing.TB) keystore.Store { return open(t, p.dir) }
func (folderPlace) leave(testing.TB, keystore.Store)   {}
func (p folderPlace) where(device string) string {
	return filepath.Join(p.dir, keystore.FileName(device))
}

// namedPlace has folders by names of people's own: here one for all devices that differ in the case of letters.
type namedPlace struct{ dir string }

func (p namedPlace) open(t testing.TB) keystore.Store {
	t.Helper()
	f, err := keystore.OpenFolder(p.dir, &keystore.FolderOptions{Name: asItIs})
	require.NoError(t, err)
	return f
}
func (namedPlace) leave(testing.TB, keystore.Store) {}
func (p namedPlace) where(device string) string     { return filepath.Join(p.dir, strings.ToLower(device)) }

func asItIs(device string) string { return device }

type sqlitePlace struct{ path string }

func (p sqlitePlace) open(t testing.TB) keystore.Store { return openSQLite(t, p.path) }
func (sqlitePlace) leave(t testing.TB, s keystore.Store) {
	require.NoError(t, s.(*sqlitekeys.Store).Close())
}
func (p sqlitePlace) where(string) string { return p.path }

// memoryPlace has one store, which the next "process" goes on with: what rests in memory can't be opened again.
type memoryPlace struct{ store keystore.Store }

func (p memoryPlace) open(testing.TB) keystore.Store { return p.store }
func (memoryPlace) leave(testing.TB, keystore.Store) {}
func (memoryPlace) where(string) string              { return "in memory" }

func openSQLite(t testing.TB, path string) *sqlitekeys.Store {
	t.Helper()
	s, err := sqlitekeys.Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestEveryStoreThatKeepsKeysKeepsTheSamePromises runs over Folder, Memory and the Store of package
// sqlitekeys.
func TestEveryStoreThatKeepsKeysKeepsTheSamePromises(t *testing.T) {
	promises := map[string]func(*testing.T, place){
		"what is put can be got at once, and after Sync by the next process": func(t *testing.T, p place) {
			s := p.open(t)
			var records []keystore.Record
			for _, name := range []string{"device-one", "Dev", "dev", "NUL", "a:b", "x.", "ü"} {
				rec := record(t, name)
				records = append(records, rec)
				require.NoError(t, s.Put(t.Context(), rec))
				got, err := s.Get(t.Context(), name)
				require.NoError(t, err)
				requireSame(t, rec, got)
			}
			require.NoError(t, s.Sync(t.Context()))
			require.NoError(t, s.Sync(t.Context()), "with nothing to do")
			p.leave(t, s)
			s = p.open(t)
			for _, rec := range records {
				got, err := s.Get(t.Context(), rec.Device)
				require.NoError(t, err)
				requireSame(t, rec, got)
			}
		},
		"a record is never replaced": func(t *testing.T, p place) {
			s := p.open(t)
			first := record(t, "device-one")
			require.NoError(t, s.Put(t.Context(), first))
			refused := func(rec keystore.Record) {
				t.Helper()
				err := s.Put(t.Context(), rec)
				require.ErrorIs(t, err, keystore.ErrExists)
				require.ErrorIs(t, err, fs.ErrExist)
				require.ErrorContains(t, err, `"device-one"`)
				require.ErrorContains(t, err, p.where("device-one"))
			}
			refused(first)
			refused(record(t, "device-one"))
			require.NoError(t, s.Sync(t.Context()))
			refused(record(t, "device-one"))
			p.leave(t, s)
			s = p.open(t)
			refused(first)
			got, err := s.Get(t.Context(), "device-one")
			require.NoError(t, err)
			requireSame(t, first, got)
		},
		"Verify vouches for the very key, and only once it is durable": func(t *testing.T, p place) {
			s := p.open(t)
			one, two := record(t, "one"), record(t, "two")
			for _, rec := range []keystore.Record{one, two} {
				require.ErrorIs(t, s.Verify(t.Context(), rec.Device, rec.Request.PublicKeySHA256()), keystore.ErrNotFound)
				require.NoError(t, s.Put(t.Context(), rec))
				if _, memory := p.(memoryPlace); !memory {
					require.ErrorIs(t, s.Verify(t.Context(), rec.Device, rec.Request.PublicKeySHA256()), keystore.ErrNotFound)
				}
			}
			require.NoError(t, s.Sync(t.Context()))
			for range 2 {
				require.NoError(t, s.Verify(t.Context(), "one", one.Request.PublicKeySHA256()))
				err := s.Verify(t.Context(), "one", two.Request.PublicKeySHA256())
				require.ErrorIs(t, err, keystore.ErrOtherKey)
				require.ErrorContains(t, err, `"one"`)
				require.ErrorIs(t, s.Verify(t.Context(), "three", one.Request.PublicKeySHA256()), keystore.ErrNotFound)
				require.ErrorIs(t, s.Verify(t.Context(), "", one.Request.PublicKeySHA256()), keystore.ErrName)
				require.ErrorIs(t, s.Verify(t.Context(), strings.Repeat("ü", 50), one.Request.PublicKeySHA256()), keystore.ErrNotFound)
				p.leave(t, s)
				s = p.open(t)
			}
		},
		"the run of a key is kept with it": func(t *testing.T, p place) {
			s := p.open(t)
			rec := record(t, "d")
			rec.Run = "20261129-142058-0a1b2c3d"
			none := record(t, "none")
			require.NoError(t, s.Put(t.Context(), rec))
			require.NoError(t, s.Put(t.Context(), none))
			require.NoError(t, s.Sync(t.Context()))
			p.leave(t, s)
			s = p.open(t)
			for _, want := range []keystore.Record{rec, none} {
				got, err := s.Get(t.Context(), want.Device)
				require.NoError(t, err)
				requireSame(t, want, got)
				require.Equal(t, want.Run, got.Run)
			}
			for _, run := range []string{"two\nlines", "\x1b[31m", "\xff", strings.Repeat("x", 201)} {
				bad := record(t, "bad")
				bad.Run = run
				require.ErrorContains(t, s.Put(t.Context(), bad), "printable", "%q", run)
			}
		},
		"a record must be whole": func(t *testing.T, p place) {
			s := p.open(t)
			mixed := record(t, "d")
			mixed.Key = record(t, "d").Key
			require.ErrorIs(t, s.Put(t.Context(), mixed), keystore.ErrMismatch)
			nameless := record(t, "d")
			nameless.Device = ""
			require.ErrorIs(t, s.Put(t.Context(), nameless), keystore.ErrName)
			empty := record(t, "d")
			empty.Request = nil
			require.ErrorContains(t, s.Put(t.Context(), empty), "neither a request nor a certificate")
			_, err := s.Get(t.Context(), "d")
			require.ErrorIs(t, err, keystore.ErrNotFound)
			require.ErrorIs(t, err, fs.ErrNotExist)
			require.ErrorContains(t, err, `"d"`)
			_, err = s.Get(t.Context(), "")
			require.ErrorIs(t, err, keystore.ErrName)
		},
		"a name that no file can have is refused": func(t *testing.T, p place) {
			s := p.open(t)
			require.NoError(t, s.Put(t.Context(), record(t, strings.Repeat("X:", 64))))
			require.ErrorIs(t, s.Put(t.Context(), record(t, strings.Repeat("ü", 50))), keystore.ErrName)
			_, err := s.Get(t.Context(), strings.Repeat("ü", 50))
			require.ErrorIs(t, err, keystore.ErrNotFound)
		},
		"a record without a key is kept as such": func(t *testing.T, p place) {
			s := p.open(t)
			rec := record(t, "d")
			rec.Key = csr.PrivateKey{}
			require.NoError(t, s.Put(t.Context(), rec))
			require.NoError(t, s.Sync(t.Context()))
			p.leave(t, s)
			s = p.open(t)
			got, err := s.Get(t.Context(), "d")
			require.NoError(t, err)
			requireSame(t, rec, got)
			require.True(t, got.Key.IsZero())
			require.NoError(t, s.Verify(t.Context(), "d", rec.Request.PublicKeySHA256()), "its key is elsewhere, as was said when it was put")
			require.ErrorIs(t, s.Verify(t.Context(), "d", record(t, "d").Request.PublicKeySHA256()), keystore.ErrOtherKey)
		},
		"a key in hardware is refused unless told otherwise": func(t *testing.T, p place) {
			if m, ok := p.(memoryPlace); ok { // nothing has to be written, so it is kept like any other
				rec := record(t, "d")
				rec.Key = csr.NewPrivateKey(hardware{rec.Key.Signer()})
				require.NoError(t, m.store.Put(t.Context(), rec))
				return
			}
			rec := record(t, "d")
			rec.Key = csr.NewPrivateKey(hardware{rec.Key.Signer()})
			err := p.open(t).Put(t.Context(), rec)
			require.ErrorIs(t, err, csr.ErrNotExportable)
			require.ErrorContains(t, err, "KeysElsewhere")
		},
		"an ended context stops each method and loses nothing": func(t *testing.T, p place) {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			s := p.open(t)
			rec := record(t, "d")
			require.ErrorIs(t, s.Put(ended, rec), context.Canceled)
			_, err := s.Get(ended, "d")
			require.ErrorIs(t, err, context.Canceled)
			require.NoError(t, s.Put(t.Context(), rec))
			require.ErrorIs(t, s.Sync(ended), context.Canceled)
			require.NoError(t, s.Sync(t.Context()), "the next Sync goes on")
			p.leave(t, s)
			got, err := p.open(t).Get(t.Context(), "d")
			require.NoError(t, err)
			requireSame(t, rec, got)
		},
		"puts, syncs and gets may run at the same time": func(t *testing.T, p place) {
			s := p.open(t)
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					for i := range 10 {
						rec := record(t, fmt.Sprintf("device-%d-%d", w, i))
						if err := s.Put(t.Context(), rec); err != nil {
							t.Error(err)
						}
						if got, err := s.Get(t.Context(), rec.Device); err != nil || !got.Key.Equal(rec.Key) {
							t.Errorf("Get after Put: %v, %v", got, err)
						}
						if i%5 == 4 {
							if err := s.Sync(t.Context()); err != nil {
								t.Error(err)
							}
						}
					}
				})
			}
			wg.Wait()
			p.leave(t, s)
			s = p.open(t)
			for w := range 4 {
				for i := range 10 {
					_, err := s.Get(t.Context(), fmt.Sprintf("device-%d-%d", w, i))
					require.NoError(t, err)
				}
			}
		},
		"it is a store for provision.MakeCSR": func(t *testing.T, p place) {
			prepare := func(s keystore.Store, run string) (requests []string, _ error) {
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
			s := p.open(t)
			first, err := prepare(s, "run-1")
			require.NoError(t, err)
			require.Len(t, first, 2*3)
			p.leave(t, s)
			s = p.open(t)
			again, err := prepare(s, "run-1")
			require.NoError(t, err)
			require.Equal(t, first, again, "a run that goes on has the same keys")
			_, err = prepare(s, "run-2")
			require.ErrorIs(t, err, keystore.ErrExists)
		},
	}
	for name, check := range promises {
		t.Run(name, func(t *testing.T) {
			t.Run("Folder", func(t *testing.T) { check(t, folderPlace{filepath.Join(t.TempDir(), "keys")}) })
			t.Run("named folders", func(t *testing.T) { check(t, namedPlace{filepath.Join(t.TempDir(), "keys")}) })
			t.Run("SQLite", func(t *testing.T) { check(t, sqlitePlace{filepath.Join(t.TempDir(), "keys.db")}) })
			t.Run("Memory", func(t *testing.T) { check(t, memoryPlace{keystore.Memory()}) })
		})
	}
}
