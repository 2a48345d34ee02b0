package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// MakeCSR makes a key and a certificate signing request for each device, and keeps both as one record before the
// request leaves the process. When a run goes on after an interruption, a device that has a key of that run
// ([keystore.Record].Run) keeps it and its request. Keys of another run are refused, and none are made in their place.
type MakeCSR struct {
	// Store keeps the keys. It is required; keystore.None() is for keys that rest elsewhere. What it is given to Put has the
	// device's row and Meta ([keystore.Record].Row).
	Store keystore.Store
	// Keys makes the keys. Nil makes P-256 keys in software. A [csr.DeviceKeySource] sees the device's row and Meta.
	Keys csr.KeySource
	// Subject returns the request's subject. Nil means CN=<device name>.
	Subject func(csr.Device) (csr.Subject, error)
	// Parameter is the template parameter that takes the request. Empty means the one that the template's certificate
	// takes its request from.
	Parameter string
	// Workers is how many keys are made at once. 0 means one for each processor.
	Workers int
}

// Validate refuses a step without a Store.
func (m *MakeCSR) Validate() error {
	if m == nil || m.Store == nil {
		return errors.New("MakeCSR.Store is missing; a key that is kept nowhere is lost (keystore.None() is for keys that are kept elsewhere)")
	}
	return nil
}

// Fills names the parameter of the request.
func (m *MakeCSR) Fills() []string { return []string{cmp.Or(m.Parameter, "CSR")} }

// Sync makes the keys durable.
func (m *MakeCSR) Sync(ctx context.Context) error { return m.Store.Sync(ctx) }

// Prepare makes keys and requests, concurrently, and yields them in order. It reads devices ahead of what it has
// yielded, by no more than 32 for each worker.
func (m *MakeCSR) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Candidate, error] {
	return m.maker().prepare(ctx, devices)
}

func (m *MakeCSR) maker() *keyMaker {
	return &keyMaker{
		store: m.Store, keys: m.Keys, subject: m.Subject, workers: m.Workers,
		complete: func(c *Candidate, res *csr.Result) error {
			c.Values = map[string]string{m.Fills()[0]: res.Request.PEM()}
			c.Match = MatchKey(res.Request.PublicKeySHA256())
			return nil
		},
	}
}

// Unused returns an error that wraps keystore.ErrExists if the store has a key of the device that was not made for this
// run. A run asks before it makes keys.
func (m *MakeCSR) Unused(ctx context.Context, device, run string) error {
	return m.maker().unused(ctx, device, run)
}

// CheckRow refuses a record that comes with a request of its own, which would be replaced with another, and one that no
// subject can be made for.
func (m *MakeCSR) CheckRow(thing string, row map[string]string) error {
	if name := m.Fills()[0]; strings.TrimSpace(row[name]) != "" {
		return &causeError{CauseInvalidRecord, fmt.Errorf("%s: the record comes with a request of its own, and this run makes another one, "+
			"with another key; have the list's requests sent (GivenCSR, -credential csr), or leave the column out", rule.Quote(name))}
	}
	return m.maker().checkSubject(thing, row)
}

// VerifyKey asks the store.
func (m *MakeCSR) VerifyKey(ctx context.Context, device string, publicKeySHA256 [32]byte) error {
	return m.Store.Verify(ctx, device, publicKeySHA256)
}

// MatchLine recognises a line by the request that it was sent with.
func (m *MakeCSR) MatchLine(thing string, values map[string]string) (Match, error) {
	return (&GivenCSR{Parameter: m.Parameter}).MatchLine(thing, values)
}
