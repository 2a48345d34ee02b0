package storetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

// names are devices that a careless store takes for one another.
var names = []string{"device-one", "Dev", "dev", "NUL", "a:b", "x.", "ü", "a/../b", "1", "01"}

var recordCases = []rule{
	{"record/kept", "Get returns the record that Put took, also one that was not synced yet, each device's " +
		"own.", func(t *trial) {
		s := t.open()
		records := t.put(s, "run-1", names...)
		for _, rec := range records {
			t.holds(s, rec, "after Put")
		}
		t.OK(s.Sync(t.ctx), "Sync")
		for _, rec := range records {
			t.holds(s, rec, "after Sync")
		}
	}},
	{"record/certificate", "A record may have a certificate in place of a request. It is kept exactly: a resumed " +
		"run sends it once more, and another one would be the device's second.", func(t *trial) {
		s := t.open()
		requested := t.put(s, "run-1", "device-one")[0]
		issued := t.issued("device-two", "run-1")
		t.OK(s.Put(t.ctx, issued), "Put of a record with a certificate")
		t.holds(s, issued, "after Put")
		t.OK(s.Sync(t.ctx), "Sync")
		t.holds(s, issued, "after Sync")
		t.holds(s, requested, "after Sync")
		t.verified(s, issued, "after Sync")
		t.Is(s.Put(t.ctx, t.issued("device-two", "run-1")), keystore.ErrExists, "Put of another certificate")
		if t.harness.Reopen == nil {
			return
		}
		s = t.reopen(s)
		t.holds(s, issued, "after the store was opened again")
		t.verified(s, issued, "after the store was opened again")
	}},
	{"record/missing", "Get of a device without a record is an ErrNotFound, on which a run makes a new " +
		"key.", func(t *trial) {
		s := t.open()
		_, err := s.Get(t.ctx, "device-one")
		t.Is(err, keystore.ErrNotFound, "Get from an empty store")
		t.Is(err, fs.ErrNotExist, "Get from an empty store")
		t.put(s, "run-1", "device-one")
		_, err = s.Get(t.ctx, "device-on")
		t.Is(err, keystore.ErrNotFound, "Get of a device whose name is part of another's")
	}},
	{"record/not-replaced", "Put refuses to replace a record, even by the same, with an ErrExists: a key that is " +
		"replaced is lost.", func(t *trial) {
		s := t.open()
		first := t.put(s, "run-1", "device-one")[0]
		t.Is(s.Put(t.ctx, first), keystore.ErrExists, "Put of the same record again")
		t.Is(s.Put(t.ctx, first), fs.ErrExist, "Put of the same record again")
		t.Is(s.Put(t.ctx, t.record("device-one", "run-1")), keystore.ErrExists, "Put of another record")
		t.OK(s.Sync(t.ctx), "Sync")
		t.Is(s.Put(t.ctx, t.record("device-one", "run-1")), keystore.ErrExists, "Put of another record after Sync")
		t.holds(s, first, "after others were refused")
	}},
	{"record/whole", "Put refuses what Record.Check reports, such as a key that does not belong to the request, " +
		"and keeps nothing of it.", func(t *trial) {
		s := t.open()
		mixed := t.record("device-one", "run-1")
		mixed.Request = t.record("device-one", "run-1").Request
		empty := t.record("device-one", "run-1")
		empty.Request = nil
		both := t.record("device-one", "run-1")
		both.CertificatePEM = t.issued("device-one", "run-1").CertificatePEM
		otherCertificate := t.record("device-one", "run-1")
		otherCertificate.Request, otherCertificate.CertificatePEM = nil, both.CertificatePEM
		lines := t.record("device-one", "run-1\nrun-2")
		for what, rec := range map[string]keystore.Record{
			"another key's request": mixed, "no request": empty, "a run's id of two lines": lines,
			"a request and a certificate": both, "another key's certificate": otherCertificate,
		} {
			if rec.Check() != nil && s.Put(t.ctx, rec) == nil {
				t.Failf("Put took a record with %s", what)
			}
		}
		_, err := s.Get(t.ctx, "device-one")
		t.Is(err, keystore.ErrNotFound, "Get after the record was refused")
	}},
	{"record/run", "Record.Run is kept with the key, empty or not. By it a run knows its own keys from another's: " +
		"without it, two runs on one store would give one key to two certificates.", func(t *trial) {
		s := t.open()
		want := map[string]string{"one": "run-1", "two": "run-2", "three": ""}
		for device, run := range want {
			t.put(s, run, device)
		}
		for range 2 {
			for device, run := range want {
				rec, err := s.Get(t.ctx, device)
				t.OK(err, "Get")
				if rec.Run != run {
					t.Failf("Get returned the run %q, Put was given %q", rec.Run, run)
				}
			}
			t.OK(s.Sync(t.ctx), "Sync")
		}
	}},
	{"record/concurrent", "The methods are safe for concurrent use, and of two Puts for one device exactly one " +
		"succeeds.", func(t *trial) {
		s := t.open()
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
				records = append(records, t.record(fmt.Sprintf("device-%d", i), "run-1"))
			}
			wg.Go(func() {
				for _, rec := range records {
					err := s.Put(t.ctx, rec)
					own := err == nil
					if own {
						_, err = s.Get(t.ctx, rec.Device)
						err = errors.Join(err, s.Sync(t.ctx))
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
		t.OK(errors.Join(errs...), "Put, Get and Sync side by side")
		for i := range devices {
			if n := took[fmt.Sprintf("device-%d", i)]; n != 1 {
				t.Failf("%d of %d Puts for one device succeeded", n, writers)
			}
		}
	}},
}

var verifyCases = []rule{
	{"verify/own-key", "Verify returns nil for the key that the store durably holds: else a device that works " +
		"counts as lost.", func(t *trial) {
		s := t.open()
		records := t.put(s, "run-1", names...)
		t.OK(s.Sync(t.ctx), "Sync")
		for _, rec := range records {
			t.verified(s, rec, "after Sync")
		}
	}},
	{"verify/missing", "Verify is an ErrNotFound where there is no record: no device counts as provisioned whose " +
		"key is gone.", func(t *trial) {
		s := t.open()
		rec := t.record("device-one", "run-1")
		t.Is(s.Verify(t.ctx, "device-one", rec.Request.PublicKeySHA256()), keystore.ErrNotFound, "Verify in an empty store")
		t.OK(s.Put(t.ctx, rec), "Put")
		t.OK(s.Sync(t.ctx), "Sync")
		t.Is(s.Verify(t.ctx, "device-two", rec.Request.PublicKeySHA256()), keystore.ErrNotFound, "Verify of a device without a record")
	}},
	{"verify/other-key", "Verify is an ErrOtherKey where the device has a record of another key, also one that the store holds for " +
		"another device: the certificate would never work with it.", func(t *trial) {
		s := t.open()
		records := t.put(s, "run-1", "one", "two")
		t.OK(s.Sync(t.ctx), "Sync")
		t.Is(s.Verify(t.ctx, "one", records[1].Request.PublicKeySHA256()), keystore.ErrOtherKey, "Verify of another device's key")
		t.Is(s.Verify(t.ctx, "two", [32]byte{}), keystore.ErrOtherKey, "Verify of a key that nobody has")
		changed := records[0].Request.PublicKeySHA256()
		changed[31] ^= 1
		t.Is(s.Verify(t.ctx, "one", changed), keystore.ErrOtherKey, "Verify of a digest that differs in its last bit")
	}},
	{"verify/concurrent", "Verify is called by several goroutines at once, while records are put.", func(t *trial) {
		s := t.open()
		records := t.put(s, "run-1", "one", "two", "three", "four")
		t.OK(s.Sync(t.ctx), "Sync")
		late := t.record("late", "run-1")
		errs := make([]error, len(records)+1)
		var wg sync.WaitGroup
		for i, rec := range records {
			wg.Go(func() {
				for range 10 {
					errs[i] = errors.Join(errs[i], s.Verify(t.ctx, rec.Device, rec.Request.PublicKeySHA256()))
				}
			})
		}
		wg.Go(func() { errs[len(records)] = s.Put(t.ctx, late) })
		wg.Wait()
		t.OK(errors.Join(errs...), "Verify side by side")
	}},
}

var durableCases = []rule{
	{"durable/synced", "What was put before a Sync that returned nil is there after a crash: key, request and " +
		"run.", func(t *trial) {
		s := t.open()
		records := t.put(s, "run-1", names...)
		t.OK(s.Sync(t.ctx), "Sync")
		s = t.reopen(s)
		for _, rec := range records {
			t.holds(s, rec, "after a crash")
			t.verified(s, rec, "after a crash")
			if got, err := s.Get(t.ctx, rec.Device); err != nil || got.Run != rec.Run {
				t.Failf("after a crash, the record is of run %q and not of %q (%v)", got.Run, rec.Run, err)
			}
		}
		t.Is(s.Put(t.ctx, t.record(names[0], "run-2")), keystore.ErrExists, "Put of another record after a crash")
	}},
	{"durable/verified", "Verify returns nil only for a key that is durable: one that it vouched for before a Sync " +
		"is there after a crash, too.", func(t *trial) {
		s := t.open()
		rec := t.put(s, "run-1", "device-one")[0]
		err := s.Verify(t.ctx, rec.Device, rec.Request.PublicKeySHA256())
		if err != nil {
			t.Is(err, keystore.ErrNotFound, "Verify before Sync")
			return
		}
		t.verified(t.reopen(s), rec, "after a crash, which it was vouched for before")
	}},
}

var contextCases = []rule{
	{"context/ended", "An ended context stops each method with its error, and what was not durable stays for the " +
		"next Sync.", func(t *trial) {
		s := t.open()
		ended, cancel := context.WithCancel(t.ctx)
		cancel()
		rec := t.record("device-one", "run-1")
		t.Is(s.Put(ended, rec), context.Canceled, "Put")
		t.OK(s.Put(t.ctx, rec), "Put after one that was stopped")
		t.Is(s.Sync(ended), context.Canceled, "Sync")
		_, err := s.Get(ended, rec.Device)
		t.Is(err, context.Canceled, "Get")
		t.OK(s.Sync(t.ctx), "Sync after one that was stopped")
		t.Is(s.Verify(ended, rec.Device, rec.Request.PublicKeySHA256()), context.Canceled, "Verify")
		t.verified(s, rec, "after calls that were stopped")
	}},
	{"context/errors-name-the-device", "Errors name the device and never hold a private key.", func(t *trial) {
		s := t.open()
		records := t.put(s, "run-1", "device-one", "device-two")
		t.OK(s.Sync(t.ctx), "Sync")
		_, missing := s.Get(t.ctx, "device-three")
		for device, err := range map[string]error{
			"device-one":   s.Put(t.ctx, records[0]),
			"device-two":   s.Verify(t.ctx, "device-two", records[0].Request.PublicKeySHA256()),
			"device-three": missing,
		} {
			if err == nil || !strings.Contains(err.Error(), device) {
				t.Failf("the error does not name %s: %v", device, err)
			}
			if text, e := records[0].Key.PEM(); e == nil && (strings.Contains(err.Error(), string(text)) || strings.Contains(err.Error(), "PRIVATE KEY")) {
				t.Failf("the error of %s holds a private key", device)
			}
		}
	}},
}
