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

// IssueCertificate makes a key for each device and has the user's own CA issue its certificate, without a request. Both are
// kept as one record before the certificate leaves the process: when a run goes on after an interruption, or sends a device
// again, it sends the very same certificate. One that has expired meanwhile is not sent: its device is Failed with CauseKey,
// until its key is moved away and both are made once more. Keys of another run are refused, as by [MakeCSR].
//
// The template takes the certificate with CertificatePem. With CACertificatePem beside it, the CA must be registered in the
// account ([task.CAEnsurer]); without it, the service registers the certificate without a CA, and its role needs
// iot:RegisterCertificateWithoutCA ([task.RoleInput]). Give the template's certificate the OverrideSettings {"Status":
// "REPLACE"}: of a line that fails, the service may keep the certificate, and without them refuses it when the device is sent
// again.
type IssueCertificate struct {
	// CA issues the certificates. It is required. A run that goes on needs a CA with the same key.
	CA *csr.CA
	// Store keeps the keys, each with its certificate. It is required, and otherwise as in [MakeCSR].
	Store keystore.Store
	// Keys makes the keys. Nil makes P-256 keys in software. A [csr.DeviceKeySource] sees the device's row and Meta.
	Keys csr.KeySource
	// Subject returns the certificate's subject. Nil means CN=<device name>.
	Subject func(csr.Device) (csr.Subject, error)
	// Parameter is the template parameter that takes the certificate. Empty means the one that the template's certificate has
	// its CertificatePem from.
	Parameter string
	// CAParameter is the template parameter that takes the CA's certificate. Empty means the one that the template's
	// certificate has its CACertificatePem from, if any.
	CAParameter string
	// Workers is how many keys are made at once. 0 means one for each processor.
	Workers int
}

// Validate refuses a step without a CA or a Store.
func (s *IssueCertificate) Validate() error {
	switch {
	case s == nil || s.Store == nil:
		return errors.New("IssueCertificate.Store is missing; a key that is kept nowhere is lost (keystore.None() is for keys that are kept elsewhere)")
	case s.CA == nil:
		return errors.New("IssueCertificate.CA is missing; csr.NewCA makes it of a CA's certificate and key")
	}
	return nil
}

// Fills names the parameter of the certificate, and that of the CA's if there is one.
func (s *IssueCertificate) Fills() []string {
	fills := []string{cmp.Or(s.Parameter, "CertificatePem")}
	if s.CAParameter != "" {
		fills = append(fills, s.CAParameter)
	}
	return fills
}

// Sync makes the keys and certificates durable.
func (s *IssueCertificate) Sync(ctx context.Context) error { return s.Store.Sync(ctx) }

// Prepare makes keys and certificates, concurrently, and yields them in order. It reads devices ahead of what it has
// yielded, by no more than 32 for each worker.
func (s *IssueCertificate) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Candidate, error] {
	return s.maker().prepare(ctx, devices)
}

func (s *IssueCertificate) maker() *keyMaker {
	return &keyMaker{
		store: s.Store, keys: s.Keys, subject: s.Subject, workers: s.Workers, ca: s.CA,
		complete: func(c *Candidate, res *csr.Result) error {
			digest, err := csr.CertificateKeySHA256([]byte(res.CertificatePEM))
			if err != nil {
				return fmt.Errorf("the certificate of device %q: %w", c.Name, err)
			}
			c.Match = MatchKey(digest)
			c.Values = map[string]string{s.Fills()[0]: res.CertificatePEM}
			if s.CAParameter != "" {
				c.Values[s.CAParameter] = s.CA.PEM()
			}
			return nil
		},
	}
}

// Unused returns an error that wraps keystore.ErrExists if the store has a key of the device that was not made for this
// run. A run asks before it makes keys.
func (s *IssueCertificate) Unused(ctx context.Context, device, run string) error {
	return s.maker().unused(ctx, device, run)
}

// CheckRow refuses a record that comes with a certificate of its own, or its CA's, which would be replaced with another, and
// one that no subject can be made for.
func (s *IssueCertificate) CheckRow(thing string, row map[string]string) error {
	for _, name := range s.Fills() {
		if strings.TrimSpace(row[name]) != "" {
			return &causeError{CauseInvalidRecord, fmt.Errorf("%s: the record comes with a certificate, and this run issues another one, "+
				"with another key; have the list's certificates sent (GivenCertificate, -credential certificate), or leave the column out", rule.Quote(name))}
		}
	}
	return s.maker().checkSubject(thing, row)
}

// VerifyKey asks the store.
func (s *IssueCertificate) VerifyKey(ctx context.Context, device string, publicKeySHA256 [32]byte) error {
	return s.Store.Verify(ctx, device, publicKeySHA256)
}

// IssuerPEM returns the CA's certificate.
func (s *IssueCertificate) IssuerPEM() string { return s.CA.PEM() }

// MatchLine recognises a line by the certificate that it was sent with.
func (s *IssueCertificate) MatchLine(thing string, values map[string]string) (Match, error) {
	return (&GivenCertificate{Parameter: s.Parameter}).MatchLine(thing, values)
}
