package provision

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

// keyMaker makes a key for each device and keeps it: what [MakeCSR] and [IssueCertificate] have in common.
type keyMaker struct {
	store   keystore.Store
	keys    csr.KeySource
	subject func(csr.Device) (csr.Subject, error)
	workers int
	ca      *csr.CA // issues certificates; nil makes requests
	// complete sets Values and Match of a candidate whose key is kept.
	complete func(*Candidate, *csr.Result) error
}

// prepare makes what the devices need, concurrently, and yields them in order.
func (m *keyMaker) prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Candidate, error] {
	return func(yield func(Candidate, error) bool) {
		workers := m.workers
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
		gen := csr.Generator{Keys: m.keys, CA: m.ca, Subject: m.subject, Kept: m.kept, Workers: workers, Window: 32 * workers}
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

// unused returns an error that wraps keystore.ErrExists if the store has a key of the device that was not made for a run.
func (m *keyMaker) unused(ctx context.Context, device, run string) error {
	switch rec, err := m.store.Get(ctx, device); {
	case errors.Is(err, keystore.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("reading the key of device %q: %w", device, err)
	default:
		return m.own(rec, run)
	}
}

// checkSubject returns why no subject can be made for a record.
func (m *keyMaker) checkSubject(thing string, row map[string]string) error {
	subject := csr.CommonName(thing)
	if m.subject != nil {
		var err error
		if subject, err = m.subject(csr.Device{Name: thing, Row: row}); err != nil {
			return keyError(fmt.Errorf("make the subject: %w", err))
		}
	}
	if err := subject.Check(); err != nil {
		return keyError(fmt.Errorf("make the subject: %w", err))
	}
	return nil
}

// errStore marks what went wrong with the store: it is no fault of the device.
var errStore = errors.New("reading its key")

// kept looks for a request or certificate that the device has already.
func (m *keyMaker) kept(ctx context.Context, r *csr.Result) error {
	rec, err := m.store.Get(ctx, r.Device.Name)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = m.own(rec, r.Device.Tag.(Candidate).Run)
	}
	if err == nil {
		err = m.useful(rec)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errStore, err)
	}
	r.Request, r.CertificatePEM = rec.Request, rec.CertificatePEM
	if m.ca == nil || r.Device.Tag.(Candidate).written { // a part is looked at as a whole before it is sent
		return nil
	}
	return unexpired(rec.CertificatePEM)
}

// unexpired returns an error for a certificate of the own CA that has expired while the run was interrupted. It is the
// device's own: with the certificate it could not connect.
func unexpired(certificatePEM string) error {
	certs, err := csr.ParseCertificates([]byte(certificatePEM))
	if err != nil || time.Now().Before(certs[0].NotAfter) {
		return err
	}
	return fmt.Errorf("the certificate that the CA has issued for its key expired at %s, before it was registered; move the key away, and have both made once more",
		certs[0].NotAfter.UTC().Format(time.RFC3339))
}

// useful returns an error for a record of another kind than this step makes.
func (m *keyMaker) useful(rec keystore.Record) error {
	switch {
	case m.ca == nil && rec.Request == nil:
		return errors.New("the run made its key with a certificate of an own CA, and not with a request; give the run the step that it was begun with (IssueCertificate, -ca-cert)")
	case m.ca != nil && rec.CertificatePEM == "":
		return errors.New("the run made its key with a request, and not with a certificate of an own CA; give the run the step that it was begun with (MakeCSR)")
	case m.ca != nil:
		return m.ca.Check(rec.CertificatePEM)
	}
	return nil
}

// own returns an error unless a record was made for a run.
func (m *keyMaker) own(rec keystore.Record, run string) error {
	if run == "" || rec.Run != run {
		return m.taken(rec.Device, rec.Run)
	}
	return nil
}

// keep stores what was made for a device, and completes it. Its error ends the run.
func (m *keyMaker) keep(ctx context.Context, c *Candidate, res *csr.Result) error {
	switch {
	case errors.Is(res.Err, errStore):
		return res.Err
	case res.Err != nil:
		c.Err = keyError(res.Err)
		return nil
	case !res.Key.IsZero():
		rec := keystore.Record{
			Device: c.Name, Key: res.Key, Request: res.Request, CertificatePEM: res.CertificatePEM, Run: c.Run, Row: res.Device.Row,
		}
		if err := m.store.Put(ctx, rec); err != nil {
			return fmt.Errorf("keeping the key of device %q: %w", c.Name, err)
		}
	}
	return m.complete(c, res)
}

// taken is the error for a device whose key is of another run.
func (m *keyMaker) taken(device, run string) error {
	place, whose := "", "another run"
	switch s := m.store.(type) {
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
