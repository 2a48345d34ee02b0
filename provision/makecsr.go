package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
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
		return errors.New("MakeCSR.Store is missing; a key that is kept nowhere is lost (keystore.None() says so on purpose)")
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
	return func(yield func(Candidate, error) bool) {
		workers := m.Workers
		if workers <= 0 {
			workers = runtime.GOMAXPROCS(0)
		}
		todo := func(yield func(csr.Device, error) bool) {
			for c, err := range devices {
				if !yield(csr.Device{Name: c.Name, Row: together(c.Row, c.Meta), Tag: c}, err) {
					return
				}
			}
		}
		gen := csr.Generator{Keys: m.Keys, Subject: m.Subject, Kept: m.kept, Workers: workers, Window: 32 * workers}
		for res, err := range gen.All(ctx, todo) {
			if err != nil {
				yield(Candidate{}, fmt.Errorf("making keys: %w", err))
				return
			}
			c := res.Device.Tag.(Candidate)
			err = m.keep(ctx, &c, res)
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// Unused returns an error that wraps keystore.ErrExists if the store has a key of the device that was not made for this
// run. A run asks before it makes keys.
func (m *MakeCSR) Unused(ctx context.Context, device, run string) error {
	switch rec, err := m.Store.Get(ctx, device); {
	case errors.Is(err, keystore.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("reading the key of device %q: %w", device, err)
	default:
		return m.own(rec, run)
	}
}

// CheckRow refuses a record that comes with a request of its own, which would be replaced with another, and one that no
// subject can be made for.
func (m *MakeCSR) CheckRow(thing string, row map[string]string) error {
	if name := m.Fills()[0]; strings.TrimSpace(row[name]) != "" {
		return &causeError{CauseInvalidRecord, fmt.Errorf("%s: the record comes with a request of its own, and this run makes another one, "+
			"with another key; have the list's requests sent (GivenCSR, -credential csr), or leave the column out", rule.Quote(name))}
	}
	subject := csr.CommonName(thing)
	if m.Subject != nil {
		var err error
		if subject, err = m.Subject(csr.Device{Name: thing, Row: row}); err != nil {
			return keyError(fmt.Errorf("make the subject: %w", err))
		}
	}
	if err := subject.Check(); err != nil {
		return keyError(fmt.Errorf("make the request: %w", err))
	}
	return nil
}

// VerifyKey asks the store.
func (m *MakeCSR) VerifyKey(ctx context.Context, device string, publicKeySHA256 [32]byte) error {
	return m.Store.Verify(ctx, device, publicKeySHA256)
}

// MatchLine recognises a line by the request that it was sent with.
func (m *MakeCSR) MatchLine(thing string, values map[string]string) (Match, error) {
	return (&GivenCSR{Parameter: m.Parameter}).MatchLine(thing, values)
}

// errStore marks what went wrong with the store: it is no fault of the device.
var errStore = errors.New("reading its key")

// kept looks for a request that the device has already.
func (m *MakeCSR) kept(ctx context.Context, r *csr.Result) error {
	rec, err := m.Store.Get(ctx, r.Device.Name)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = m.own(rec, r.Device.Tag.(Candidate).Run)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	r.Request = rec.Request
	return nil
}

// own returns an error unless a record was made for a run.
func (m *MakeCSR) own(rec keystore.Record, run string) error {
	if run == "" || rec.Run != run {
		return m.taken(rec.Device, rec.Run)
	}
	return nil
}

// keep stores what was made for a device, and completes it. Its error ends the run.
func (m *MakeCSR) keep(ctx context.Context, c *Candidate, res *csr.Result) error {
	switch {
	case errors.Is(res.Err, errStore):
		return res.Err
	case res.Err != nil:
		c.Err = keyError(res.Err)
		return nil
	case !res.Key.IsZero():
		rec := keystore.Record{Device: c.Name, Key: res.Key, Request: res.Request, Run: c.Run, Row: res.Device.Row}
		if err := m.Store.Put(ctx, rec); err != nil {
			return fmt.Errorf("keeping the key of device %q: %w", c.Name, err)
		}
	}
	c.Values = map[string]string{m.Fills()[0]: res.Request.PEM()}
	c.Match = MatchKey(res.Request.PublicKeySHA256())
	return nil
}

// taken is the error for a device whose key is of another run.
func (m *MakeCSR) taken(device, run string) error {
	place, whose := "", "another run"
	switch s := m.Store.(type) {
	case interface{ Path(device string) string }: // a folder for each
		place = " in " + s.Path(device)
	case interface{ Path() string }: // one file
		place = " in " + s.Path()
	}
	if run != "" {
		whose = "run " + run
	}
	return fmt.Errorf("device %q has a key of %s%s, which is left as it is: %w; give this run another place for its keys, or, if that run's ledger was lost, take its devices over (Options.Existing, -existing take-over)",
		device, whose, place, keystore.ErrExists)
}
