package provision

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

// RevocationList returns a CRL of the run's own CA in PEM, with the certificates that the run has taken out of service behind
// those of a previous CRL; see [csr.CA.RevocationList]. They are those of the devices that are Removed, also of one that never
// became Provisioned, and those of the CA that [ReplaceExisting] has retired. It asks the ledger, the key store and the CA's
// key, and needs [IssueCertificate].
//
// Call it after each call that takes certificates out of service: of a device that is made again, the ledger forgets what it
// had. Move the key of a device that was Removed away before it is made again, or it gets the certificate that the list
// revokes, which AWS IoT takes and whoever reads the list does not.
func (r *Run) RevocationList(ctx context.Context, previous string, nextUpdate time.Time) (string, error) {
	step, ok := As[*IssueCertificate](r.opts.Credential)
	if !ok {
		return "", errors.New("the run has no CA of its own; IssueCertificate has one")
	}
	var revoked []x509.RevocationListEntry
	add := func(serial *big.Int, at time.Time) {
		if serial != nil {
			revoked = append(revoked, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: at.UTC()})
		}
	}
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Removing, Removed}}) {
		if err != nil {
			return "", err
		}
		serial := step.serialNumber(d.CertificatePEM)
		if serial == nil { // its line was refused, and the certificate is the one that was sent; or it is of another CA
			rec, err := step.Store.Get(ctx, d.Name)
			if err != nil && !errors.Is(err, keystore.ErrNotFound) {
				return "", fmt.Errorf("reading the certificate of device %q: %w", d.Name, err)
			}
			if rec.CertificatePEM != "" {
				if err := step.CA.Check(rec.CertificatePEM); err != nil {
					return "", fmt.Errorf("the certificate of device %q would be left out: %w", d.Name, err)
				}
			}
			serial = step.serialNumber(rec.CertificatePEM)
		}
		add(serial, d.Updated)
	}
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{Existing: true}) {
		if err != nil {
			return "", err
		}
		for _, c := range d.Existing {
			if serial, ok := new(big.Int).SetString(c.SerialNumber, 16); ok && !c.Retired.IsZero() {
				add(serial, c.Retired)
			}
		}
	}
	return step.CA.RevocationList(previous, revoked, nextUpdate)
}

// serialNumber returns that of a certificate of the CA; nil of any other text.
func (s *IssueCertificate) serialNumber(certificatePEM string) *big.Int {
	if s.CA.Check(certificatePEM) != nil {
		return nil
	}
	certs, err := csr.ParseCertificates([]byte(certificatePEM))
	if err != nil {
		return nil
	}
	return certs[0].SerialNumber
}
