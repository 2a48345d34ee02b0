package storetest

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
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

	try func(ctx context.Context, t *trial)
}

// Cases lists all cases, in the order in which they are best looked at when several fail.
func Cases() []Case { return slices.Concat(recordCases, verifyCases, durableCases, contextCases) }

// Check tries a case on new stores. The error says what was seen, and explains the rule. Check gives up when the context
// ends; what hangs then is left hanging.
func (c Case) Check(ctx context.Context, h Harness) error {
	if h.Open == nil {
		return errors.New("storetest: the Harness has no Open")
	}
	if c.Durable && h.Reopen == nil {
		return fmt.Errorf("storetest: case %s needs a Harness with Reopen", c.Name)
	}
	done := make(chan error, 1)
	go func() { done <- c.run(ctx, h) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("the case did not end: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("%s: %w\nThe rule: %s", c.Name, err, c.Explanation)
	}
	return nil
}

func (c Case) run(ctx context.Context, h Harness) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.err
		default:
			panic(r)
		}
	}()
	c.try(ctx, &trial{harness: h})
	return nil
}

// limit is how long a case may take within Run: far longer than any needs, shorter than the patience of go test.
const limit = time.Minute

// Run tries every case as a subtest. open is called once for each.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			h := open(t)
			if c.Durable && h.Reopen == nil {
				t.Skip("this store ends with the process")
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if err := c.Check(ctx, h); err != nil {
				t.Error(err)
			}
		})
	}
}

// trial is one run of a case. Its methods end the case when something is not as it should be: they panic with a failure,
// which Case.run recovers.
type trial struct{ harness Harness }

type failure struct{ err error }

func (t *trial) failf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func (t *trial) ok(err error, doing string) {
	if err != nil {
		t.failf("%s: %w", doing, err)
	}
}

// is ends the case unless err wraps what it should be.
func (t *trial) is(err, want error, doing string) {
	if !errors.Is(err, want) {
		t.failf("%s: want an error that wraps %q, got %v", doing, want, err)
	}
}

func (t *trial) open(ctx context.Context) keystore.Store {
	s, err := t.harness.Open(ctx)
	t.ok(err, "opening a store")
	return s
}

func (t *trial) reopen(ctx context.Context, s keystore.Store) keystore.Store {
	again, err := t.harness.Reopen(ctx, s)
	t.ok(err, "opening the store again")
	return again
}

// record makes a record with a key of its own.
func (t *trial) record(ctx context.Context, device, run string) keystore.Record {
	g := csr.Generator{Subject: func(csr.Device) (csr.Subject, error) { return csr.CommonName("storetest"), nil }}
	r := g.One(ctx, csr.Device{Name: device})
	t.ok(r.Err, "making a key")
	rec := keystore.Record{Device: device, Key: r.Key, Request: r.Request, Run: run}
	if t.harness.NoKeys {
		rec.Key = csr.PrivateKey{}
	}
	return rec
}

// issued makes a record with a certificate for a key of its own.
func (t *trial) issued(ctx context.Context, device, run string) keystore.Record {
	caKey, err := csr.Software(csr.P256).Signer(ctx, "")
	t.ok(err, "making the key of a CA")
	now := time.Now()
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "storetest CA"}, NotBefore: now, NotAfter: now.Add(2 * time.Hour),
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, caKey.Public(), caKey)
	t.ok(err, "making a CA")
	root, err := x509.ParseCertificate(der)
	t.ok(err, "making a CA")
	ca, err := csr.NewCA(root, caKey, csr.Profile{Validity: time.Hour})
	t.ok(err, "making a CA")
	g := csr.Generator{CA: ca}
	r := g.One(ctx, csr.Device{Name: device})
	t.ok(r.Err, "issuing a certificate")
	rec := keystore.Record{Device: device, Key: r.Key, CertificatePEM: r.CertificatePEM, Run: run}
	if t.harness.NoKeys {
		rec.Key = csr.PrivateKey{}
	}
	return rec
}

// put makes records and puts them, one for each device.
func (t *trial) put(ctx context.Context, s keystore.Store, run string, devices ...string) []keystore.Record {
	var records []keystore.Record
	for _, device := range devices {
		rec := t.record(ctx, device, run)
		t.ok(s.Put(ctx, rec), "Put")
		records = append(records, rec)
	}
	return records
}

// holds ends the case unless the store returns the very record.
func (t *trial) holds(ctx context.Context, s keystore.Store, want keystore.Record, when string) {
	got, err := s.Get(ctx, want.Device)
	t.ok(err, fmt.Sprintf("Get of %q %s", want.Device, when))
	switch {
	case got.Device != want.Device:
		t.failf("Get of %q %s returned a record of %q", want.Device, when, got.Device)
	case (got.Request == nil) != (want.Request == nil) || got.PEM() != want.PEM():
		t.failf("Get of %q %s returned another request or certificate than was put", want.Device, when)
	case got.Key.IsZero() && !want.Key.IsZero():
		return // a store may keep the key where it can't be read
	case !got.Key.IsZero() && !got.Key.Equal(want.Key):
		t.failf("Get of %q %s returned another key than was put", want.Device, when)
	}
}

// verified ends the case unless the store vouches for the record's key.
func (t *trial) verified(ctx context.Context, s keystore.Store, rec keystore.Record, when string) {
	digest, err := rec.PublicKeySHA256()
	t.ok(err, "the public key of the record")
	t.ok(s.Verify(ctx, rec.Device, digest), fmt.Sprintf("Verify of %q %s", rec.Device, when))
}
