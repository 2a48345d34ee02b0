package provision

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
)

// RevocationList returns a CRL of the run's own CA in PEM, with the certificates of the devices that the run has Removed
// behind those of a previous CRL; see [csr.CA.RevocationList]. It asks nobody but the ledger and the CA's key, and needs
// [IssueCertificate].
func (r *Run) RevocationList(ctx context.Context, previous string, nextUpdate time.Time) (string, error) {
	step, ok := As[*IssueCertificate](r.opts.Credential)
	if !ok {
		return "", errors.New("the run has no CA of its own; IssueCertificate has one")
	}
	var revoked []x509.RevocationListEntry
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Removing, Removed}}) {
		if err != nil {
			return "", err
		}
		if d.CertificatePEM == "" || step.CA.Check(d.CertificatePEM) != nil { // none, or of another CA
			continue
		}
		certs, err := csr.ParseCertificates([]byte(d.CertificatePEM))
		if err != nil {
			return "", fmt.Errorf("the certificate of device %q: %w", d.Name, err)
		}
		revoked = append(revoked, x509.RevocationListEntry{SerialNumber: certs[0].SerialNumber, RevocationTime: d.Updated.UTC()})
	}
	return step.CA.RevocationList(previous, revoked, nextUpdate)
}
