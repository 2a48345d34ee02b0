package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/internal/suitetest"
)

// Harness makes the stores that the cases try.
type Harness struct {
	// Open returns an empty store, a new one with each call. It is required.
	Open func(ctx context.Context) (keystore.Store, error)
	// Reopen ends a store that Open or Reopen returned, as a crash would, and opens again what it left. What was not
	// synced may or may not be there then. Nil is for stores that end with the process; the cases of durability are left
	// out.
	Reopen func(ctx context.Context, store keystore.Store) (keystore.Store, error)
	// NoKeys makes the cases put records without a private key, for stores that leave keys where they were made.
	NoKeys bool
}

// Case is one promise, and how it is tried.
type Case struct {
	Name        string // such as "verify/other-key"
	Explanation string // the rule, as the doc comments have it, and what depends on it
	Durable     bool   // the case needs Harness.Reopen

	try func(*trial)
}

// rule is a row of the tables: a case's name, its explanation, and how it is tried.
type rule struct {
	name, explanation string
	try               func(*trial)
}

// Cases lists all cases, in the order in which they are best looked at when several fail.
func Cases() []Case {
	var list []Case
	add := func(durable bool, rules ...rule) {
		for _, r := range rules {
			list = append(list, Case{r.name, r.explanation, durable, r.try})
		}
	}
	add(false, slices.Concat(recordCases, verifyCases)...)
	add(true, durableCases...)
	add(false, contextCases...)
	return list
}

// Check tries a case on new stores. The error says what was seen, and explains the rule. Check gives up when the context
// ends; what hangs then is left hanging.
func (c Case) Check(ctx context.Context, h Harness) error {
	if h.Open == nil {
		return errors.New("storetest: the Harness has no Open")
	}
	if c.Durable && h.Reopen == nil {
		return fmt.Errorf("storetest: case %s needs a Harness with Reopen", c.Name)
	}
	return suitetest.Check(ctx, c.Name, c.Explanation, func() error {
		return suitetest.Try(func() { c.try(&trial{ctx: ctx, harness: h}) })
	})
}

// Run tries every case as a subtest. open is called once for each.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, c := range Cases() {
		suitetest.Run(t, c.Name, func(ctx context.Context, t *testing.T) error {
			h := open(t)
			if c.Durable && h.Reopen == nil {
				t.Skip("this store ends with the process")
			}
			return c.Check(ctx, h)
		})
	}
}

// trial is one run of a case.
type trial struct {
	suitetest.Trial
	ctx     context.Context
	harness Harness
}

func (t *trial) open() keystore.Store {
	s, err := t.harness.Open(t.ctx)
	t.OK(err, "opening a store")
	return s
}

func (t *trial) reopen(s keystore.Store) keystore.Store {
	again, err := t.harness.Reopen(t.ctx, s)
	t.OK(err, "opening the store again")
	return again
}

// record makes a record with a key of its own.
func (t *trial) record(device, run string) keystore.Record {
	g := csr.Generator{Subject: func(csr.Device) (csr.Subject, error) { return csr.CommonName("storetest"), nil }}
	r := g.One(t.ctx, csr.Device{Name: device})
	t.OK(r.Err, "making a key")
	rec := keystore.Record{Device: device, Key: r.Key, Request: r.Request, Run: run}
	if t.harness.NoKeys {
		rec.Key = csr.PrivateKey{}
	}
	return rec
}

// issued makes a record with a certificate for a key of its own.
func (t *trial) issued(device, run string) keystore.Record {
	root := certtest.NewCA(certtest.Key())
	ca, err := csr.NewCA(root.Certificate, root.Key, csr.Profile{Validity: time.Hour})
	t.OK(err, "making a CA")
	g := csr.Generator{CA: ca}
	r := g.One(t.ctx, csr.Device{Name: device})
	t.OK(r.Err, "issuing a certificate")
	rec := keystore.Record{Device: device, Key: r.Key, CertificatePEM: r.CertificatePEM, Run: run}
	if t.harness.NoKeys {
		rec.Key = csr.PrivateKey{}
	}
	return rec
}

// put makes records and puts them, one for each device.
func (t *trial) put(s keystore.Store, run string, devices ...string) []keystore.Record {
	var records []keystore.Record
	for _, device := range devices {
		rec := t.record(device, run)
		t.OK(s.Put(t.ctx, rec), "Put")
		records = append(records, rec)
	}
	return records
}

// holds ends the case unless the store returns the very record.
func (t *trial) holds(s keystore.Store, want keystore.Record, when string) {
	got, err := s.Get(t.ctx, want.Device)
	t.OK(err, fmt.Sprintf("Get of %q %s", want.Device, when))
	switch {
	case got.Device != want.Device:
		t.Failf("Get of %q %s returned a record of %q", want.Device, when, got.Device)
	case (got.Request == nil) != (want.Request == nil) || got.PEM() != want.PEM():
		t.Failf("Get of %q %s returned another request or certificate than was put", want.Device, when)
	case got.Key.IsZero() && !want.Key.IsZero():
		return // a store may keep the key where it can't be read
	case !got.Key.IsZero() && !got.Key.Equal(want.Key):
		t.Failf("Get of %q %s returned another key than was put", want.Device, when)
	}
}

// verified ends the case unless the store vouches for the record's key.
func (t *trial) verified(s keystore.Store, rec keystore.Record, when string) {
	digest, err := rec.PublicKeySHA256()
	t.OK(err, "the public key of the record")
	t.OK(s.Verify(t.ctx, rec.Device, digest), fmt.Sprintf("Verify of %q %s", rec.Device, when))
}
