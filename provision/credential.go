package provision

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

// Credential is the step that gives each device what its line needs for a certificate. The forms here are [MakeCSR],
// [GivenCSR], [GivenCertificate], [GivenCertificateID] and [NoCertificate]; what is cut, sent, awaited and matched does
// not care which.
type Credential interface {
	// Fills names the template parameters that the step gives a value, over any value of the device's own row.
	Fills() []string
	// Prepare yields one Prepared for each device, in order. A device's own failure is in the value; the error is
	// terminal and last.
	Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Prepared, error]
	// Sync returns nil once everything that was prepared is durable. Nothing leaves the process before.
	Sync(ctx context.Context) error
}

// Candidate is a device whose credential is to be made.
type Candidate struct {
	Device
	// Claimed means that this run has looked for a key of the device before ([KeyFinder]) and found none. A key that is
	// found now was made by this run, and must be used. Without a claim, a key that is found belongs to another run, and
	// finding one is an error.
	Claimed bool
}

// Prepared is a device that is ready to be sent.
type Prepared struct {
	Device Device
	Values map[string]string // a value for each of Fills
	Match  Match
	// Err is why the device can't be sent; nothing of the rest is set then. If it is or wraps a [CauseError], that is its
	// cause; otherwise the cause is CauseKey, which can be tried again.
	Err error
}

// Match is how a device's line is recognised in a report: by its public key, its certificate or its thing.
// Make one with [MatchKey], [MatchCertificate] or [MatchThing].
type Match string

// MatchKey recognises a line by its public key: the SHA-256 of the key's SubjectPublicKeyInfo in DER, as
// csr.PublicKeySHA256 returns it.
func MatchKey(digest [32]byte) Match { return Match("key:" + hex.EncodeToString(digest[:])) }

// MatchCertificate recognises a line by a certificate that is in the account already: its id of 64 hexadecimal digits.
func MatchCertificate(id string) Match { return Match("certificate:" + strings.ToLower(id)) }

// MatchThing recognises a line by the name of its thing, where no certificate is involved.
func MatchThing(name string) Match { return Match("thing:" + name) }

// Key returns the digest of the public key of a match made by MatchKey; false for any other match.
func (m Match) Key() (digest [32]byte, ok bool) {
	text, ok := strings.CutPrefix(string(m), "key:")
	if !ok || len(text) != hex.EncodedLen(len(digest)) {
		return digest, false
	}
	_, err := hex.Decode(digest[:], []byte(text))
	return digest, err == nil
}

func (m Match) isKey() bool { return strings.HasPrefix(string(m), "key:") }

func csrError(err error) error { return &causeError{CauseCSRRefused, err} }
func keyError(err error) error { return &causeError{CauseKey, err} }

// causeError carries the cause of a device's failure from where it is known.
type causeError struct {
	cause Cause
	err   error
}

func (e *causeError) Error() string { return e.err.Error() }
func (e *causeError) Unwrap() error { return e.err }
func (e *causeError) Cause() Cause  { return e.cause }

// MakeCSR makes a key and a certificate signing request for each device, and keeps both as one record before the
// request leaves the process. When a run goes on after an interruption, a device that has a key already keeps it and its
// request; a new run refuses keys that it finds, and makes none in their place.
type MakeCSR struct {
	// Store keeps the keys. It is required; keystore.None() says outright that keys rest elsewhere.
	Store keystore.Store
	// Keys makes the keys. Nil makes P-256 keys in software.
	Keys csr.KeySource
	// Subject gives the request's subject. Nil gives CN=<device name>.
	Subject func(csr.Device) (csr.Subject, error)
	// Parameter is the template parameter that takes the request. Empty means "CSR".
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

// Prepare makes keys and requests, concurrently, and yields them in order. It reads devices ahead of what it has yielded,
// by no more than 32 for each worker.
func (m *MakeCSR) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Prepared, error] {
	return func(yield func(Prepared, error) bool) {
		workers := m.Workers
		if workers <= 0 {
			workers = runtime.GOMAXPROCS(0)
		}
		window := 32 * workers
		// What the generator has read and not yielded yet waits in here. That is never more than its window.
		ahead := make(chan Candidate, window+1)
		todo := func(yield func(csr.Device, error) bool) {
			for c, err := range devices {
				if err == nil {
					ahead <- c
				}
				if !yield(csr.Device{Name: c.Name, Row: c.Row}, err) {
					return
				}
			}
		}
		gen := csr.Generator{Keys: m.Keys, Subject: m.Subject, Kept: m.kept, Workers: workers, Window: window}
		for res, err := range gen.All(ctx, todo) {
			if err != nil {
				yield(Prepared{}, fmt.Errorf("making keys: %w", err))
				return
			}
			p, err := m.keep(ctx, <-ahead, res)
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

// Unused returns an error that wraps keystore.ErrExists if the store has a key of the device. A run asks before it makes
// keys for the first time: what is there then belongs to somebody else.
func (m *MakeCSR) Unused(ctx context.Context, device string) error {
	switch _, err := m.Store.Get(ctx, device); {
	case err == nil:
		return m.taken(device)
	case errors.Is(err, keystore.ErrNotFound):
		return nil
	default:
		return fmt.Errorf("reading the key of device %q: %w", device, err)
	}
}

// MatchLine recognises a line by the request that it was sent with.
func (m *MakeCSR) MatchLine(thing string, values map[string]string) (Match, error) {
	return (&GivenCSR{Parameter: m.Parameter}).MatchLine(thing, values)
}

// errStore marks what went wrong with the store: it is no fault of the device.
var errStore = errors.New("reading its key")

// kept looks for a request that the device has already.
func (m *MakeCSR) kept(ctx context.Context, d csr.Device) (*csr.Request, error) {
	rec, err := m.Store.Get(ctx, d.Name)
	switch {
	case errors.Is(err, keystore.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errStore, err)
	}
	return rec.Request, nil
}

// keep stores what was made for a device. An error of its own ends the run.
func (m *MakeCSR) keep(ctx context.Context, c Candidate, res *csr.Result) (Prepared, error) {
	switch {
	case errors.Is(res.Err, errStore):
		return Prepared{}, res.Err
	case res.Err != nil:
		return Prepared{Device: c.Device, Err: keyError(res.Err)}, nil
	case res.Key.IsZero() && !c.Claimed:
		return Prepared{}, m.taken(c.Name)
	case !res.Key.IsZero():
		rec := keystore.Record{Device: c.Name, Key: res.Key, Request: res.Request}
		if err := m.Store.Put(ctx, rec); err != nil {
			return Prepared{}, fmt.Errorf("keeping the key of device %q: %w", c.Name, err)
		}
	}
	req := res.Request
	return Prepared{Device: c.Device, Values: map[string]string{m.Fills()[0]: req.PEM()}, Match: MatchKey(req.PublicKeySHA256())}, nil
}

// taken says that a device's key is somebody else's.
func (m *MakeCSR) taken(device string) error {
	place := ""
	switch s := m.Store.(type) {
	case interface{ Path(device string) string }: // a folder for each
		place = " in " + s.Path(device)
	case interface{ Path() string }: // one file
		place = " in " + s.Path()
	}
	return fmt.Errorf("device %q has a key of an earlier run%s, which is left as it is: %w; give this run another place for its keys",
		device, place, keystore.ErrExists)
}

// GivenCSR takes certificate signing requests that were made elsewhere: by the device, its vendor or an HSM. The row
// holds the request in any of the forms that csr.Parse reads, DER in base64; it is checked, and sent as plain PEM.
type GivenCSR struct {
	// Parameter is both the row's field and the template's parameter. Empty means "CSR".
	Parameter string
}

// Fills names the parameter of the request.
func (g *GivenCSR) Fills() []string { return []string{cmp.Or(g.Parameter, "CSR")} }

// Sync does nothing: no key is held here.
func (g *GivenCSR) Sync(ctx context.Context) error { return context.Cause(ctx) }

// Prepare checks the requests.
func (g *GivenCSR) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Prepared, error] {
	return prepareEach(ctx, devices, func(d Device) (map[string]string, Match, error) {
		req, err := g.parse(d.Row)
		if err != nil {
			return nil, "", err
		}
		return map[string]string{g.Fills()[0]: req.PEM()}, MatchKey(req.PublicKeySHA256()), nil
	})
}

// MatchLine recognises a line by its request.
func (g *GivenCSR) MatchLine(_ string, values map[string]string) (Match, error) {
	req, err := g.parse(values)
	if err != nil {
		return "", err
	}
	return MatchKey(req.PublicKeySHA256()), nil
}

// CheckRow checks the request in a row. A run asks for each record when it takes it in.
func (g *GivenCSR) CheckRow(row map[string]string) error {
	_, err := g.parse(row)
	return err
}

func (g *GivenCSR) parse(row map[string]string) (*csr.Request, error) {
	name := g.Fills()[0]
	if !utf8.ValidString(row[name]) { // a ledger would not give it back as it was
		return nil, csrError(fmt.Errorf("%s: it is not text; give a request in DER as base64, or as PEM", name))
	}
	req, err := csr.Parse([]byte(row[name]))
	if err != nil {
		return nil, csrError(fmt.Errorf("%s: %w", name, err))
	}
	return req, nil
}

// GivenCertificate registers certificates that the user's own CA, known to AWS, has signed (CertificatePem in the
// template).
type GivenCertificate struct {
	// Parameter is both the row's field and the template's parameter. Empty means "CertificatePem".
	Parameter string
}

// Fills names the parameter of the certificate.
func (g *GivenCertificate) Fills() []string {
	return []string{cmp.Or(g.Parameter, "CertificatePem")}
}

// Sync does nothing: no key is held here.
func (g *GivenCertificate) Sync(ctx context.Context) error { return context.Cause(ctx) }

// Prepare checks that each certificate parses.
func (g *GivenCertificate) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Prepared, error] {
	return prepareEach(ctx, devices, func(d Device) (map[string]string, Match, error) {
		text, digest, err := g.parse(d.Row)
		if err != nil {
			return nil, "", err
		}
		return map[string]string{g.Fills()[0]: text}, MatchKey(digest), nil
	})
}

// MatchLine recognises a line by its certificate.
func (g *GivenCertificate) MatchLine(_ string, values map[string]string) (Match, error) {
	_, digest, err := g.parse(values)
	if err != nil {
		return "", err
	}
	return MatchKey(digest), nil
}

// CheckRow checks the certificate in a row. A run asks for each record when it takes it in.
func (g *GivenCertificate) CheckRow(row map[string]string) error {
	_, _, err := g.parse(row)
	return err
}

func (g *GivenCertificate) parse(row map[string]string) (text string, digest [32]byte, err error) {
	name := g.Fills()[0]
	cert, text, err := parseCertificate(row[name])
	if err == nil {
		digest, err = csr.PublicKeySHA256(cert.PublicKey)
	}
	if err != nil {
		return "", digest, &causeError{CauseInvalidRecord, fmt.Errorf("%s: %w", name, err)}
	}
	return text, digest, nil
}

func parseCertificate(text string) (*x509.Certificate, string, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, "", errors.New("it is not a PEM block; a certificate begins with -----BEGIN CERTIFICATE-----")
	}
	if block.Type != "CERTIFICATE" {
		return nil, "", fmt.Errorf("it is a PEM block of type %q; give the certificate", block.Type)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, "", err
	}
	return cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})), nil
}

// GivenCertificateID attaches certificates that are in the account already (CertificateId in the template).
type GivenCertificateID struct {
	// Parameter is both the row's field and the template's parameter. Empty means "CertificateId".
	Parameter string
}

// Fills names no parameter: the row's own value is sent.
func (g *GivenCertificateID) Fills() []string { return nil }

// Sync does nothing: no key is held here.
func (g *GivenCertificateID) Sync(ctx context.Context) error { return context.Cause(ctx) }

// Prepare checks that each id is 64 hexadecimal digits.
func (g *GivenCertificateID) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Prepared, error] {
	return prepareEach(ctx, devices, func(d Device) (map[string]string, Match, error) {
		m, err := g.MatchLine(d.Name, d.Row)
		return nil, m, err
	})
}

// MatchLine recognises a line by the id of its certificate.
func (g *GivenCertificateID) MatchLine(_ string, values map[string]string) (Match, error) {
	name := cmp.Or(g.Parameter, "CertificateId")
	id := values[name]
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 32 {
		return "", &causeError{CauseInvalidRecord, fmt.Errorf("%s is not a certificate id of 64 hexadecimal digits", name)}
	}
	return MatchCertificate(id), nil
}

// NoCertificate registers things without certificates.
type NoCertificate struct{}

// Fills names no parameter.
func (NoCertificate) Fills() []string { return nil }

// Sync does nothing.
func (NoCertificate) Sync(ctx context.Context) error { return context.Cause(ctx) }

// Prepare lets every device pass.
func (NoCertificate) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Prepared, error] {
	return prepareEach(ctx, devices, func(d Device) (map[string]string, Match, error) {
		return nil, MatchThing(d.Name), nil
	})
}

// MatchLine recognises a line by its thing.
func (NoCertificate) MatchLine(thing string, _ map[string]string) (Match, error) {
	return MatchThing(thing), nil
}

func prepareEach(ctx context.Context, devices iter.Seq2[Candidate, error], one func(Device) (map[string]string, Match, error)) iter.Seq2[Prepared, error] {
	return func(yield func(Prepared, error) bool) {
		for d, err := range devices {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(Prepared{}, err)
				return
			}
			p := Prepared{Device: d.Device}
			p.Values, p.Match, p.Err = one(d.Device)
			if !yield(p, nil) {
				return
			}
		}
	}
}
