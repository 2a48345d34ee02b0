package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

// names are devices that a careless store takes for one another.
var names = []string{"device-one", "Dev", "dev", "NUL", "a:b", "x.", "ü", "a/../b", "1", "01"}

var recordCases = []Case{
	{
		Name:        "record/kept",
		Explanation: "Get returns the record that Put took, also one that was not synced yet, each device's own.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			records := t.put(ctx, s, "run-1", names...)
			for _, rec := range records {
				t.holds(ctx, s, rec, "after Put")
			}
			t.ok(s.Sync(ctx), "Sync")
			for _, rec := range records {
				t.holds(ctx, s, rec, "after Sync")
			}
		},
	},
	{
		Name:        "record/certificate",
		Explanation: "A record may have a certificate in place of a request. It is kept exactly: a resumed run sends it once more, and another one would be the device's second.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			requested := t.put(ctx, s, "run-1", "device-one")[0]
			issued := t.issued(ctx, "device-two", "run-1")
			t.ok(s.Put(ctx, issued), "Put of a record with a certificate")
			t.holds(ctx, s, issued, "after Put")
			t.ok(s.Sync(ctx), "Sync")
			t.holds(ctx, s, issued, "after Sync")
			t.holds(ctx, s, requested, "after Sync")
			t.verified(ctx, s, issued, "after Sync")
			t.is(s.Put(ctx, t.issued(ctx, "device-two", "run-1")), keystore.ErrExists, "Put of another certificate")
			if t.harness.Reopen == nil {
				return
			}
			s = t.reopen(ctx, s)
			t.holds(ctx, s, issued, "after the store was opened again")
			t.verified(ctx, s, issued, "after the store was opened again")
		},
	},
	{
		Name:        "record/missing",
		Explanation: "Get of a device without a record is an ErrNotFound, on which a run makes a new key.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			_, err := s.Get(ctx, "device-one")
			t.is(err, keystore.ErrNotFound, "Get from an empty store")
			t.put(ctx, s, "run-1", "device-one")
			_, err = s.Get(ctx, "device-on")
			t.is(err, keystore.ErrNotFound, "Get of a device whose name is part of another's")
		},
	},
	{
		Name:        "record/not-replaced",
		Explanation: "Put refuses to replace a record, even by the same, with an ErrExists: a key that is replaced is lost.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			first := t.put(ctx, s, "run-1", "device-one")[0]
			t.is(s.Put(ctx, first), keystore.ErrExists, "Put of the same record again")
			t.is(s.Put(ctx, t.record(ctx, "device-one", "run-1")), keystore.ErrExists, "Put of another record")
			t.ok(s.Sync(ctx), "Sync")
			t.is(s.Put(ctx, t.record(ctx, "device-one", "run-1")), keystore.ErrExists, "Put of another record after Sync")
			t.holds(ctx, s, first, "after others were refused")
		},
	},
	{
		Name:        "record/whole",
		Explanation: "Put refuses what Record.Check reports, such as a key that does not belong to the request, and keeps nothing of it.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			mixed := t.record(ctx, "device-one", "run-1")
			mixed.Request = t.record(ctx, "device-one", "run-1").Request
			empty := t.record(ctx, "device-one", "run-1")
			empty.Request = nil
			both := t.record(ctx, "device-one", "run-1")
			both.CertificatePEM = t.issued(ctx, "device-one", "run-1").CertificatePEM
			otherCertificate := t.record(ctx, "device-one", "run-1")
			otherCertificate.Request, otherCertificate.CertificatePEM = nil, both.CertificatePEM
			lines := t.record(ctx, "device-one", "run-1\nrun-2")
			for what, rec := range map[string]keystore.Record{
				"another key's request": mixed, "no request": empty, "a run's id of two lines": lines,
				"a request and a certificate": both, "another key's certificate": otherCertificate,
			} {
				if rec.Check() != nil && s.Put(ctx, rec) == nil {
					t.failf("Put took a record with %s", what)
				}
			}
			_, err := s.Get(ctx, "device-one")
			t.is(err, keystore.ErrNotFound, "Get after the record was refused")
		},
	},
	{
		Name: "record/run",
		Explanation: "Record.Run is kept with the key, empty or not. By it a run knows its own keys from another's: " +
			"without it, two runs on one store would give one key to two certificates.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			want := map[string]string{"one": "run-1", "two": "run-2", "three": ""}
			for device, run := range want {
				t.put(ctx, s, run, device)
			}
			for range 2 {
				for device, run := range want {
					rec, err := s.Get(ctx, device)
					t.ok(err, "Get")
					if rec.Run != run {
						t.failf("Get returned the run %q, Put was given %q", rec.Run, run)
					}
				}
				t.ok(s.Sync(ctx), "Sync")
			}
		},
	},
	{
		Name:        "record/concurrent",
		Explanation: "The methods are safe for concurrent use, and of two Puts for one device exactly one succeeds.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			const writers, devices = 4, 8
			var (
				wg   sync.WaitGroup
				mu   sync.Mutex
				took = map[string]int{}
				errs []error
			)
			for range writers {
				var records []keystore.Record
				for i := range devices {
					records = append(records, t.record(ctx, fmt.Sprintf("device-%d", i), "run-1"))
				}
				wg.Go(func() {
					for _, rec := range records {
						err := s.Put(ctx, rec)
						own := err == nil
						if own {
							_, err = s.Get(ctx, rec.Device)
						}
						mu.Lock()
						if own {
							took[rec.Device]++
						}
						if err != nil && !errors.Is(err, keystore.ErrExists) {
							errs = append(errs, err)
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			t.ok(errors.Join(errs...), "Put and Get side by side")
			for i := range devices {
				if n := took[fmt.Sprintf("device-%d", i)]; n != 1 {
					t.failf("%d of %d Puts for one device succeeded", n, writers)
				}
			}
		},
	},
}

var verifyCases = []Case{
	{
		Name:        "verify/own-key",
		Explanation: "Verify returns nil for the key that the store durably holds: else a device that works counts as lost.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			records := t.put(ctx, s, "run-1", names...)
			t.ok(s.Sync(ctx), "Sync")
			for _, rec := range records {
				t.verified(ctx, s, rec, "after Sync")
			}
		},
	},
	{
		Name:        "verify/missing",
		Explanation: "Verify is an ErrNotFound where there is no record: no device counts as provisioned whose key is gone.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			rec := t.record(ctx, "device-one", "run-1")
			t.is(s.Verify(ctx, "device-one", rec.Request.PublicKeySHA256()), keystore.ErrNotFound, "Verify in an empty store")
			t.ok(s.Put(ctx, rec), "Put")
			t.ok(s.Sync(ctx), "Sync")
			t.is(s.Verify(ctx, "device-two", rec.Request.PublicKeySHA256()), keystore.ErrNotFound, "Verify of a device without a record")
		},
	},
	{
		Name: "verify/other-key",
		Explanation: "Verify is an ErrOtherKey where the device has a record of another key, also one that the store holds for " +
			"another device: the certificate would never work with it.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			records := t.put(ctx, s, "run-1", "one", "two")
			t.ok(s.Sync(ctx), "Sync")
			t.is(s.Verify(ctx, "one", records[1].Request.PublicKeySHA256()), keystore.ErrOtherKey, "Verify of another device's key")
			t.is(s.Verify(ctx, "two", [32]byte{}), keystore.ErrOtherKey, "Verify of a key that nobody has")
			changed := records[0].Request.PublicKeySHA256()
			changed[31] ^= 1
			t.is(s.Verify(ctx, "one", changed), keystore.ErrOtherKey, "Verify of a digest that differs in its last bit")
		},
	},
	{
		Name:        "verify/concurrent",
		Explanation: "Verify is called by several goroutines at once, while records are put.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			records := t.put(ctx, s, "run-1", "one", "two", "three", "four")
			t.ok(s.Sync(ctx), "Sync")
			late := t.record(ctx, "late", "run-1")
			errs := make([]error, len(records)+1)
			var wg sync.WaitGroup
			for i, rec := range records {
				wg.Go(func() {
					for range 10 {
						errs[i] = errors.Join(errs[i], s.Verify(ctx, rec.Device, rec.Request.PublicKeySHA256()))
					}
				})
			}
			wg.Go(func() { errs[len(records)] = s.Put(ctx, late) })
			wg.Wait()
			t.ok(errors.Join(errs...), "Verify side by side")
		},
	},
}

var durableCases = []Case{
	{
		Name:        "durable/synced",
		Durable:     true,
		Explanation: "What was put before a Sync that returned nil is there after a crash: key, request and run.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			records := t.put(ctx, s, "run-1", names...)
			t.ok(s.Sync(ctx), "Sync")
			s = t.reopen(ctx, s)
			for _, rec := range records {
				t.holds(ctx, s, rec, "after a crash")
				t.verified(ctx, s, rec, "after a crash")
				if got, err := s.Get(ctx, rec.Device); err != nil || got.Run != rec.Run {
					t.failf("after a crash, the record is of run %q and not of %q (%v)", got.Run, rec.Run, err)
				}
			}
			t.is(s.Put(ctx, t.record(ctx, names[0], "run-2")), keystore.ErrExists, "Put of another record after a crash")
		},
	},
	{
		Name:        "durable/verified",
		Durable:     true,
		Explanation: "Verify returns nil only for a key that is durable: one that it vouched for before a Sync is there after a crash, too.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			rec := t.put(ctx, s, "run-1", "device-one")[0]
			err := s.Verify(ctx, rec.Device, rec.Request.PublicKeySHA256())
			if err != nil {
				t.is(err, keystore.ErrNotFound, "Verify before Sync")
				return
			}
			t.verified(ctx, t.reopen(ctx, s), rec, "after a crash, which it was vouched for before")
		},
	},
}

var contextCases = []Case{
	{
		Name:        "context/ended",
		Explanation: "An ended context stops each method with its error, and what was not durable stays for the next Sync.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			ended, cancel := context.WithCancel(ctx)
			cancel()
			rec := t.record(ctx, "device-one", "run-1")
			t.is(s.Put(ended, rec), context.Canceled, "Put")
			t.ok(s.Put(ctx, rec), "Put after one that was stopped")
			t.is(s.Sync(ended), context.Canceled, "Sync")
			_, err := s.Get(ended, rec.Device)
			t.is(err, context.Canceled, "Get")
			t.ok(s.Sync(ctx), "Sync after one that was stopped")
			t.is(s.Verify(ended, rec.Device, rec.Request.PublicKeySHA256()), context.Canceled, "Verify")
			t.verified(ctx, s, rec, "after calls that were stopped")
		},
	},
	{
		Name:        "context/errors-name-the-device",
		Explanation: "Errors name the device and never hold a private key.",
		try: func(ctx context.Context, t *trial) {
			s := t.open(ctx)
			records := t.put(ctx, s, "run-1", "device-one", "device-two")
			t.ok(s.Sync(ctx), "Sync")
			_, missing := s.Get(ctx, "device-three")
			for device, err := range map[string]error{
				"device-one":   s.Put(ctx, records[0]),
				"device-two":   s.Verify(ctx, "device-two", records[0].Request.PublicKeySHA256()),
				"device-three": missing,
			} {
				if err == nil || !strings.Contains(err.Error(), device) {
					t.failf("the error does not name %s: %v", device, err)
				}
				if text, e := records[0].Key.PEM(); e == nil && (strings.Contains(err.Error(), string(text)) || strings.Contains(err.Error(), "PRIVATE KEY")) {
					t.failf("the error of %s holds a private key", device)
				}
			}
		},
	},
}
