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
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/csr"
)

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
func (g *GivenCSR) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Candidate, error] {
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
func (g *GivenCertificate) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Candidate, error] {
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
func (g *GivenCertificateID) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Candidate, error] {
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
func (NoCertificate) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Candidate, error] {
	return prepareEach(ctx, devices, func(d Device) (map[string]string, Match, error) {
		return nil, MatchThing(d.Name), nil
	})
}

// MatchLine recognises a line by its thing.
func (NoCertificate) MatchLine(thing string, _ map[string]string) (Match, error) {
	return MatchThing(thing), nil
}

// prepareEach completes candidates one by one.
func prepareEach(
	ctx context.Context, devices iter.Seq2[Candidate, error], one func(Device) (map[string]string, Match, error),
) iter.Seq2[Candidate, error] {
	return func(yield func(Candidate, error) bool) {
		for c, err := range devices {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(Candidate{}, err)
				return
			}
			c.Values, c.Match, c.Err = one(c.Device)
			if !yield(c, nil) {
				return
			}
		}
	}
}
