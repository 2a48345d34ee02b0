package provision_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// issueEvery is how many seeds there are, about, for each whose certificates an own CA issues.
const issueEvery = 5

// fieldEvery is how many of these seeds there are, about, for each whose devices are left to their first connections.
const fieldEvery = 2

// credentials is how the devices of a seed get their certificates: by requests, or from a CA of the user's own.
type credentials struct {
	template  *template.Template
	parameter string // takes the request or the certificate
	role      string
	issuer    *x509.Certificate // nil for requests
	key       crypto.Signer
	under     bool   // certificates are registered under the issuer, which the account has; otherwise without a CA
	field     *field // where the devices are that are left to their first connections; nil if tasks register them
}

// drawCredentials draws them. They have a generator of their own, so that the other draws of a seed do not depend on them.
func (s *sim) drawCredentials(ctx context.Context, seed uint64) (err error) {
	rng := rand.New(rand.NewPCG(seed, 12))
	s.credentials = &credentials{parameter: "CSR"}
	role := task.RoleInput{Name: "registration"}
	if rng.IntN(issueEvery) == 0 {
		s.parameter, s.under = "CertificatePem", rng.IntN(2) == 0
		role.RegisterWithoutCA = !s.under
		if s.key, err = csr.Software(csr.P256).Signer(ctx, ""); err != nil {
			return err
		}
		s.issuer = selfSigned(s.key)
	}
	if s.role, err = s.fake.EnsureRole(ctx, &role); err != nil {
		return err
	}
	left := s.issuer != nil && s.mishap == noMishap && rng.IntN(fieldEvery) == 0
	s.under = s.under && !left
	if s.template, err = s.drawnTemplate(); err != nil {
		return err
	}
	if left {
		return s.drawField(ctx, rng)
	}
	if !s.under {
		return nil
	}
	ca, err := s.ca()
	if err == nil {
		_, err = s.fake.EnsureCA(ctx, &task.CAInput{CertificatePEM: ca.PEM(), Prove: ca.VerificationCertificate})
	}
	return err
}

// drawnTemplate has everything that the simulated lines go through.
func (c *credentials) drawnTemplate() (*template.Template, error) {
	parameters, certificate := `"CSR":{"Type":"String"}`, `"Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"ACTIVE"}`
	if c.issuer != nil {
		parameters, certificate = `"CertificatePem":{"Type":"String"}`, `"CertificatePem":{"Ref":"CertificatePem"},"Status":"ACTIVE"`
		if c.under {
			parameters += `,"CACertificatePem":{"Type":"String"}`
			certificate += `,"CACertificatePem":{"Ref":"CACertificatePem"}`
		}
		certificate = `"Properties":{` + certificate + `},"OverrideSettings":{"Status":"REPLACE"}`
	}
	return template.Parse([]byte(`{"Parameters":{"ThingName":{"Type":"String"},"Type":{"Type":"String"},` + parameters + `},
		"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"ThingTypeName":{"Ref":"Type"}}},
		"certificate":{"Type":"AWS::IoT::Certificate",` + certificate + `},
		"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":"{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:Connect\",\"Resource\":\"*\"}]}"}}}}`))
}

// ca is the issuer as a process makes it: its certificates are valid from then on.
func (c *credentials) ca() (*csr.CA, error) {
	return csr.NewCA(c.issuer, c.key, csr.Profile{Validity: 10 * 365 * 24 * time.Hour})
}

// credential is the step of a process.
func (c *credentials) credential(store keystore.Store) (provision.Credential, error) {
	if c.issuer == nil {
		return &provision.MakeCSR{Store: store, Workers: 2}, nil
	}
	ca, err := c.ca()
	return &provision.IssueCertificate{CA: ca, Store: store, Workers: 2}, err
}

// values are what the template takes for the certificate of a device that no run has.
func (c *credentials) values(ctx context.Context, name string) (map[string]string, error) {
	gen, values := csr.Generator{}, map[string]string{}
	if c.issuer != nil {
		ca, err := c.ca()
		if err != nil {
			return nil, err
		}
		gen.CA = ca
		if c.under {
			values["CACertificatePem"] = ca.PEM()
		}
	}
	made := gen.One(ctx, csr.Device{Name: name})
	if made.Err != nil {
		return nil, made.Err
	}
	rec := keystore.Record{Key: made.Key, Request: made.Request, CertificatePEM: made.CertificatePEM}
	values[c.parameter] = rec.PEM()
	return values, nil
}

// issueAgain is bugKeepAnother.
func (c *credentials) issueAgain(rec *keystore.Record) error {
	ca, err := c.ca()
	if err == nil {
		rec.CertificatePEM, err = ca.Issue(rec.Key.Public(), csr.CommonName(rec.Device))
	}
	return err
}

func (c *credentials) String() string {
	switch {
	case c.issuer == nil:
		return "requests"
	case c.field != nil:
		return fmt.Sprintf("certificates of an own CA, left to first connections (just-in-time registration %v)", c.field.rule)
	case c.under:
		return "certificates of an own CA, under it"
	default:
		return "certificates of an own CA, without it"
	}
}

// mustDigest is the digest of a record's key.
func mustDigest(rec keystore.Record) [32]byte {
	digest, err := rec.PublicKeySHA256()
	if err != nil {
		panic(err)
	}
	return digest
}
