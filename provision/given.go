package provision

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// GivenCSR takes certificate signing requests that were made elsewhere: by the device, its vendor or an HSM. The row
// holds the request in any of the forms that csr.Parse reads, DER in base64; it is checked, and sent as plain PEM. What is
// odd about requests that are sent is in [EventSpooled] and [CheckReport].
type GivenCSR struct {
	// Parameter is both the row's field and the template's parameter. Empty means the one that the template's certificate
	// takes its request from.
	Parameter string
	// Subject returns the subject that the request of a device must have; [csr.Pattern.Subject] fits here. Nil takes any
	// that does not have the name of another device of the run as its CN.
	Subject func(csr.Device) (csr.Subject, error)
	// Lenient lets the service decide about requests that csr.Parse refuses and csr.ParseLenient does not.
	Lenient bool
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
	if err == nil {
		return req, nil
	}
	switch lenient, lenientErr := csr.ParseLenient([]byte(row[name])); {
	case lenientErr != nil:
	case g.Lenient:
		return lenient, nil
	default:
		err = fmt.Errorf("%w; to send it all the same, set GivenCSR.Lenient (-lenient)", err)
	}
	return nil, csrError(fmt.Errorf("%s: %w", name, err))
}

// RowNotes returns what is odd about the request in a row.
func (g *GivenCSR) RowNotes(row map[string]string) []string {
	req, err := g.parse(row)
	if err != nil {
		return nil
	}
	return named(g.Fills()[0], req.Notes())
}

func named(parameter string, notes []string) []string {
	for i, note := range notes {
		notes[i] = parameter + ": " + note
	}
	return notes
}

// GivenCertificate registers certificates that were made elsewhere (CertificatePem in the template). Where their CA is
// not registered in the account, the role needs iot:RegisterCertificateWithoutCA (RegisterWithoutCA of task.RoleInput).
// The row holds the device's certificate in any of the forms that csr.ParseCertificates reads, alone or with those of
// its CAs, in any order; the device's is sent as plain PEM. A row without a certificate that can be a device's, or with
// several, is refused. What is odd about certificates that are sent is in [EventSpooled] and [CheckReport].
type GivenCertificate struct {
	// Parameter is both the row's field and the template's parameter. Empty means the one that the template's certificate
	// is taken from.
	Parameter string
	// Lenient lets the service decide about certificates that csr.ParseCertificates refuses and
	// csr.ParseCertificatesLenient does not.
	Lenient bool
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
	cert, err := g.device(row)
	if err != nil || cert.Subject.CommonName == "" {
		return nil
	}
	return []string{cert.Subject.CommonName}
}

// RowNotes returns what is odd about the certificate in a row.
func (g *GivenCertificate) RowNotes(row map[string]string) []string {
	cert, err := g.device(row)
	if err != nil {
		return nil
	}
	notes := cert.Notes
	if time.Now().After(cert.NotAfter) {
		notes = append(slices.Clone(notes), "it has expired: AWS IoT may register it, and the device can't connect with it")
	}
	return named(g.Fills()[0], notes)
}

func (g *GivenCertificate) parse(row map[string]string) (text string, digest [32]byte, err error) {
	cert, err := g.device(row)
	if err == nil {
		digest, err = csr.PublicKeySHA256(cert.PublicKey)
	}
	if err != nil {
		return "", digest, &causeError{CauseInvalidRecord, fmt.Errorf("%s: %w", g.Fills()[0], err)}
	}
	return cert.PEM(), digest, nil
}

// device finds the certificate of a device, alone or among those of the CAs above it, in any order.
func (g *GivenCertificate) device(row map[string]string) (*csr.Certificate, error) {
	text := []byte(row[g.Fills()[0]])
	certs, err := csr.ParseCertificates(text)
	if err != nil {
		lenient, lenientErr := csr.ParseCertificatesLenient(text)
		switch {
		case lenientErr != nil:
			return nil, err
		case !g.Lenient:
			return nil, fmt.Errorf("%w; to send it all the same, set GivenCertificate.Lenient (-lenient)", err)
		}
		certs = lenient
	}
	devices := slices.DeleteFunc(slices.Clone(certs), func(c *csr.Certificate) bool { return c.IsCA || issuesAny(c, certs) })
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
func issuesAny(ca *csr.Certificate, certs []*csr.Certificate) bool {
	return slices.ContainsFunc(certs, func(c *csr.Certificate) bool {
		return c != ca && bytes.Equal(c.RawIssuer, ca.RawSubject) &&
			ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	})
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
