package storetest_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/csr/keystore/sqlitekeys"
	"github.com/seed1ff6f450/iotfleet/csr/keystore/storetest"
)

var bg = context.Background()

func folders(t *testing.T, opts *keystore.FolderOptions) storetest.Harness {
	var dir string
	return storetest.Harness{
		Open: func(context.Context) (keystore.Store, error) {
			dir = filepath.Join(t.TempDir(), "keys")
			return keystore.OpenFolder(dir, opts)
		},
		Reopen: func(context.Context, keystore.Store) (keystore.Store, error) { return keystore.OpenFolder(dir, opts) },
	}
}

func database(t *testing.T) storetest.Harness {
	open := func(ctx context.Context, path string) (keystore.Store, error) {
		s, err := sqlitekeys.Open(ctx, path, nil)
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	}
	return storetest.Harness{
		Open: func(ctx context.Context) (keystore.Store, error) {
			return open(ctx, filepath.Join(t.TempDir(), "keys.db"))
		},
		Reopen: func(ctx context.Context, s keystore.Store) (keystore.Store, error) {
			keys := s.(*sqlitekeys.Store)
			if err := keys.Close(); err != nil {
				return nil, err
			}
			return open(ctx, keys.Path())
		},
	}
}

func memory(*testing.T) storetest.Harness {
	return storetest.Harness{Open: func(context.Context) (keystore.Store, error) { return keystore.Memory(), nil }}
}

func TestEveryStoreHereKeepsEveryPromise(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) storetest.Harness{
		"Folder": func(t *testing.T) storetest.Harness { return folders(t, nil) },
		"named folders": func(t *testing.T) storetest.Harness {
			return folders(t, &keystore.FolderOptions{Name: func(device string) string { return device }})
		},
		"keys elsewhere": func(t *testing.T) storetest.Harness { return folders(t, &keystore.FolderOptions{KeysElsewhere: true}) },
		"SQLite":         database,
		"Memory":         memory,
	} {
		for _, noKeys := range []bool{true, false} {
			if name == "keys elsewhere" && !noKeys {
				continue
			}
			t.Run(fmt.Sprintf("%s/no keys=%t", name, noKeys), func(t *testing.T) {
				storetest.Run(t, func(t *testing.T) storetest.Harness {
					h := open(t)
					h.NoKeys = noKeys
					return h
				})
			})
		}
	}
}

// broken is a memory store with one thing wrong: a function that is not nil stands in for the method.
type broken struct {
	keystore.Store
	put    func(context.Context, keystore.Record) error
	sync   func(context.Context) error
	get    func(context.Context, string) (keystore.Record, error)
	verify func(context.Context, string, [32]byte) error
}

func (b *broken) Put(ctx context.Context, rec keystore.Record) error {
	if b.put != nil {
		return b.put(ctx, rec)
	}
	return b.Store.Put(ctx, rec)
}

func (b *broken) Sync(ctx context.Context) error {
	if b.sync != nil {
		return b.sync(ctx)
	}
	return b.Store.Sync(ctx)
}

func (b *broken) Get(ctx context.Context, device string) (keystore.Record, error) {
	if b.get != nil {
		return b.get(ctx, device)
	}
	return b.Store.Get(ctx, device)
}

func (b *broken) Verify(ctx context.Context, device string, digest [32]byte) error {
	if b.verify != nil {
		return b.verify(ctx, device, digest)
	}
	return b.Store.Verify(ctx, device, digest)
}

// onGet changes what Get returns.
func onGet(change func(*keystore.Record)) func(*broken) {
	return func(b *broken) {
		b.get = func(ctx context.Context, device string) (keystore.Record, error) {
			rec, err := b.Store.Get(ctx, device)
			change(&rec)
			return rec, err
		}
	}
}

// onPut changes what Put is given.
func onPut(change func(*keystore.Record)) func(*broken) {
	return func(b *broken) {
		b.put = func(ctx context.Context, rec keystore.Record) error {
			change(&rec)
			return b.Store.Put(ctx, rec)
		}
	}
}

func verifying(f func(b *broken, ctx context.Context, device string, digest [32]byte) error) func(*broken) {
	return func(b *broken) {
		b.verify = func(ctx context.Context, device string, digest [32]byte) error { return f(b, ctx, device, digest) }
	}
}

// forgetting loses what was put when it is opened again, or what was not told to be durable.
func forgetting(b *broken) { b.put, b.sync = nil, nil }

// breaks holds stores that break the promise of each case.
var breaks = map[string][]func(*broken){
	"record/kept": {
		onGet(func(rec *keystore.Record) { rec.Device = "" }),
		onGet(func(rec *keystore.Record) { rec.Request = nil }),
		onGet(func(rec *keystore.Record) {
			r := (&csr.Generator{}).One(bg, csr.Device{Name: "other"})
			rec.Key = r.Key
		}),
	},
	"record/certificate": {
		onGet(func(rec *keystore.Record) { rec.CertificatePEM = "" }),
		onGet(func(rec *keystore.Record) { rec.CertificatePEM += rec.CertificatePEM }),
	},
	"record/missing": {func(b *broken) {
		b.get = func(ctx context.Context, device string) (keystore.Record, error) {
			rec, err := b.Store.Get(ctx, device)
			if err != nil {
				return rec, context.DeadlineExceeded
			}
			return rec, nil
		}
	}},
	"record/not-replaced": {func(b *broken) {
		kept := keystore.Memory()
		b.put = func(ctx context.Context, rec keystore.Record) error {
			kept = keystore.Memory()
			return kept.Put(ctx, rec)
		}
		b.get = func(ctx context.Context, device string) (keystore.Record, error) { return kept.Get(ctx, device) }
	}},
	"record/whole": {func(b *broken) {
		b.put = func(ctx context.Context, rec keystore.Record) error {
			_ = b.Store.Put(ctx, rec)
			return nil
		}
	}},
	"record/run": {onPut(func(rec *keystore.Record) { rec.Run = "" }), onPut(func(rec *keystore.Record) { rec.Run = "run-1" })},
	"record/concurrent": {func(b *broken) {
		b.put = func(ctx context.Context, rec keystore.Record) error {
			_ = b.Store.Put(ctx, rec)
			return nil
		}
	}},
	"verify/own-key": {
		verifying(func(*broken, context.Context, string, [32]byte) error { return keystore.ErrNotFound }),
	},
	"verify/missing": {
		verifying(func(*broken, context.Context, string, [32]byte) error { return nil }),
		verifying(func(*broken, context.Context, string, [32]byte) error { return keystore.ErrOtherKey }),
	},
	"verify/other-key": {
		verifying(func(b *broken, ctx context.Context, device string, _ [32]byte) error {
			_, err := b.Store.Get(ctx, device)
			return err
		}),
		verifying(func(b *broken, ctx context.Context, device string, digest [32]byte) error {
			rec, err := b.Store.Get(ctx, device)
			if own := rec.Request.PublicKeySHA256(); err == nil && [31]byte(own[:31]) != [31]byte(digest[:31]) {
				return keystore.ErrOtherKey
			}
			return err
		}),
		verifying(func(b *broken, ctx context.Context, device string, digest [32]byte) error {
			if b.Store.Verify(ctx, device, digest) != nil {
				return keystore.ErrNotFound
			}
			return nil
		}),
	},
	"verify/concurrent": {func(b *broken) { // it fails as soon as a second call comes during the first
		var calls atomic.Int32
		second := make(chan struct{})
		b.verify = func(ctx context.Context, device string, digest [32]byte) error {
			switch calls.Add(1) {
			case 1:
				select {
				case <-second:
				case <-ctx.Done():
				}
			case 2:
				close(second)
				return keystore.ErrBroken
			}
			return b.Store.Verify(ctx, device, digest)
		}
	}},
	"durable/synced":   {forgetting, onPut(func(rec *keystore.Record) { rec.Run = "run-9" })},
	"durable/verified": {forgetting},
	"context/ended": {
		func(b *broken) {
			b.put = func(_ context.Context, rec keystore.Record) error { return b.Store.Put(bg, rec) }
		},
		func(b *broken) { b.sync = func(context.Context) error { return nil } },
		func(b *broken) {
			b.get = func(_ context.Context, device string) (keystore.Record, error) { return b.Store.Get(bg, device) }
		},
		verifying(func(b *broken, _ context.Context, device string, digest [32]byte) error {
			return b.Store.Verify(bg, device, digest)
		}),
	},
	"context/errors-name-the-device": {
		func(b *broken) {
			b.put = func(ctx context.Context, rec keystore.Record) error {
				if b.Store.Put(ctx, rec) != nil {
					return keystore.ErrExists
				}
				return nil
			}
		},
		verifying(func(*broken, context.Context, string, [32]byte) error { return keystore.ErrOtherKey }),
	},
}

func TestEveryCaseFailsOnAStoreThatBreaksItsPromise(t *testing.T) {
	for _, c := range storetest.Cases() {
		require.NotEmpty(t, breaks[c.Name], "%s has no store that breaks it", c.Name)
		for i, breakIt := range breaks[c.Name] {
			var last *broken
			h := storetest.Harness{Open: func(context.Context) (keystore.Store, error) {
				last = &broken{Store: keystore.Memory()}
				breakIt(last)
				return last, nil
			}}
			h.Reopen = func(_ context.Context, s keystore.Store) (keystore.Store, error) {
				if last.put != nil { // it remembers, and wrongly
					return s, nil
				}
				return keystore.Memory(), nil
			}
			err := c.Check(t.Context(), h)
			require.Error(t, err, "%s: store %d passed", c.Name, i)
			assert.ErrorContains(t, err, c.Explanation)
		}
	}
}

func TestAHarnessThatIsNotCompleteIsRefused(t *testing.T) {
	for _, c := range storetest.Cases() {
		require.ErrorContains(t, c.Check(t.Context(), storetest.Harness{}), "no Open")
		if c.Durable {
			require.ErrorContains(t, c.Check(t.Context(), memory(t)), "Reopen")
		}
	}
}

func TestACaseThatHangsIsGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := storetest.Harness{Open: func(context.Context) (keystore.Store, error) {
		cancel()
		select {}
	}}
	require.ErrorIs(t, storetest.Cases()[0].Check(ctx, h), context.Canceled)
}
