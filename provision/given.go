package provision

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"slices"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// GivenCSR takes certificate signing requests that were made elsewhere: by the device, its vendor or an HSM. The row
// holds the request in any of the forms that csr.Parse reads, DER in base64; it is checked, and sent as plain PEM.
type GivenCSR struct {
	// Parameter is both the row's field and the template's parameter. Empty means the one that the template's certificate
	// takes its request from.
	Parameter string
	// Subject returns the subject that the request of a device must have; [csr.Pattern.Subject] fits here. Nil takes any
	// that does not have the name of another device of the run as its CN.
	Subject func(csr.Device) (csr.Subject, error)
}

// Fills names the parameter of the request.
func (g *GivenCSR) Fills() []string { return []string{cmp.Or(g.Parameter, "CSR")} }

// Sync does nothing: no key is held here.
func (g *GivenCSR) Sync(ctx context.Context) error { return context.Cause(ctx) }

// Prepare checks the requests.
func (g *GivenCSR) Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Candidate, error] {
	return prepareEach(ctx, devices, func(d Device) (map[string]string, Match, error) {
		req, err := g.request(d.Name, d.Row)
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

// CheckRow checks the request in a row, and its subject. A run asks for each record when it takes it in.
func (g *GivenCSR) CheckRow(thing string, row map[string]string) error {
	_, err := g.request(thing, row)
	return err
}

// Names returns the common names of the request in a row.
func (g *GivenCSR) Names(row map[string]string) []string {
	req, err := g.parse(row)
	if err != nil {
		return nil
	}
	var names []string
	for _, a := range req.Subject() {
		if a.Type == "CN" {
			names = append(names, a.Value)
		}
	}
	return names
}

// request reads the request of a device and compares its subject with the one that it must have.
func (g *GivenCSR) request(thing string, row map[string]string) (*csr.Request, error) {
	req, err := g.parse(row)
	if err != nil || g.Subject == nil {
		return req, err
	}
	want, err := g.Subject(csr.Device{Name: thing, Row: row})
	if err != nil {
		return nil, csrError(fmt.Errorf("the subject that the request must have: %w", err))
	}
	// Both in the encoding of this library: another one of the same text is no difference.
	due, err := want.DER()
	if err != nil {
		return nil, csrError(fmt.Errorf("the subject that the request must have: %w", err))
	}
	if has, err := req.Subject().DER(); err != nil || !bytes.Equal(has, due) {
		return nil, csrError(fmt.Errorf("%s: its subject is %s and must be %s; it is the request of another device, or was made with another subject",
			g.Fills()[0], rule.Quote(req.Subject().String()), rule.Quote(want.String())))
	}
	return req, nil
}

func (g *GivenCSR) parse(row map[string]string) (*csr.Request, error) {
	name := g.Fills()[0]
	if !utf8.ValidString(row[name]) { // a ledger would not return it as it was
		return nil, csrError(fmt.Errorf("%s: it is not text; give a request in DER as base64, or as PEM", name))
	}
	req, err := csr.Parse([]byte(row[name]))
	if err != nil {
		return nil, csrError(fmt.Errorf("%s: %w", name, err))
	}
	return req, nil
}

// GivenCertificate registers certificates that the user's own CA, known to AWS, has signed (CertificatePem in the
// template). The row holds the device's certificate in PEM, alone or with those of its CAs, in any order; the device's
// is sent. A row without a certificate that can be a device's, or with several, is refused.
type GivenCertificate struct {
	// Parameter is both the row's field and the template's parameter. Empty means the one that the template's certificate
	// is taken from.
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
func (g *GivenCertificate) CheckRow(_ string, row map[string]string) error {
	_, _, err := g.parse(row)
	return err
}

// Names returns the common name of the device's certificate in a row.
func (g *GivenCertificate) Names(row map[string]string) []string {
	cert, err := deviceCertificate(row[g.Fills()[0]])
	if err != nil || cert.Subject.CommonName == "" {
		return nil
	}
	return []string{cert.Subject.CommonName}
}

func (g *GivenCertificate) parse(row map[string]string) (text string, digest [32]byte, err error) {
	name := g.Fills()[0]
	cert, err := deviceCertificate(row[name])
	if err == nil {
		digest, err = csr.PublicKeySHA256(cert.PublicKey)
	}
	if err != nil {
		return "", digest, &causeError{CauseInvalidRecord, fmt.Errorf("%s: %w", name, err)}
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})), digest, nil
}

// deviceCertificate finds the certificate of a device in PEM, alone or among those of the CAs above it, in any order.
func deviceCertificate(text string) (*x509.Certificate, error) {
	if privatekey.In(text) {
		return nil, errors.New("it holds a private key; give the certificate alone, and treat that key as exposed")
	}
	certs, err := parseCertificates(text)
	if err != nil {
		return nil, err
	}
	devices := slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return c.IsCA || issuesAny(c, certs) })
	switch len(devices) {
	case 0:
		return nil, fmt.Errorf("it is the certificate of a CA (%s); give the device's own", rule.Quote(certs[0].Subject.String()))
	case 1:
		return devices[0], nil
	}
	return nil, fmt.Errorf("it holds the certificates of %d devices; give one record its own", len(devices))
}

// issuesAny reports whether one of the other certificates was issued by ca. Those of the first versions of X.509 do not
// tell whether they are a CA's.
func issuesAny(ca *x509.Certificate, certs []*x509.Certificate) bool {
	return slices.ContainsFunc(certs, func(c *x509.Certificate) bool {
		return c != ca && bytes.Equal(c.RawIssuer, ca.RawSubject) &&
			ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	})
}

// parseCertificates reads the certificates of a PEM, each once.
func parseCertificates(text string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a PEM block of type %s; give the certificate", rule.Quote(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(certs, cert.Equal) {
			certs = append(certs, cert)
		}
	}
	switch {
	case bytes.Contains(rest, []byte("-----BEGIN ")):
		return nil, errors.New("it holds a PEM block that is damaged or was cut short")
	case len(certs) == 0:
		return nil, errors.New("it is not a PEM block; a certificate begins with -----BEGIN CERTIFICATE-----")
	}
	return certs, nil
}

// GivenCertificateID attaches certificates that are in the account already (CertificateId in the template).
type GivenCertificateID struct {
	// Parameter is both the row's field and the template's parameter. Empty means the one that the template's certificate
	// has its id from.
	Parameter string
}

func (g *GivenCertificateID) parameter() string { return cmp.Or(g.Parameter, "CertificateId") }

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

// CheckRow checks the id in a row. A run asks for each record when it takes it in.
func (g *GivenCertificateID) CheckRow(thing string, row map[string]string) error {
	_, err := g.MatchLine(thing, row)
	return err
}

// MatchLine recognises a line by the id of its certificate.
func (g *GivenCertificateID) MatchLine(_ string, values map[string]string) (Match, error) {
	name := g.parameter()
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
