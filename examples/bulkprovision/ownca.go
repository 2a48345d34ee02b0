package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// ownCA is what the flags tell about a CA of the user's own, which issues the certificates.
type ownCA struct {
	cert, key, mode string
	first           string // template file of just-in-time provisioning
	crl             string // file
	days            int
	ca              *csr.CA // nil without the flags
}

// load reads the CA, and refuses one that can't issue certificates, before the first device.
func (c *ownCA) load() error {
	if c.cert == "" && c.key == "" {
		if c.crl != "" {
			return errors.New("-crl needs -ca-cert and -ca-key")
		}
		return nil
	}
	if c.cert == "" || c.key == "" {
		return errors.New("give both -ca-cert and -ca-key, or neither")
	}
	switch c.mode {
	case "bulk", "without-ca", "jit":
	default:
		return fmt.Errorf("-cert-mode is %q; it must be bulk, without-ca or jit", c.mode)
	}
	if c.first != "" && c.mode != "jit" {
		return errors.New("-jit-template is for -cert-mode jit")
	}
	data, err := os.ReadFile(c.cert)
	if err != nil {
		return err
	}
	certs, err := csr.ParseCertificates(data)
	if err != nil {
		return fmt.Errorf("-ca-cert %s: %w", c.cert, err)
	}
	secret, err := os.ReadFile(c.key)
	if err != nil {
		return err
	}
	key, err := csr.ParsePrivateKey(secret)
	clear(secret)
	if err != nil {
		return fmt.Errorf("-ca-key %s: %w", c.key, err)
	}
	// The first of several: the CA that signs, with those above it behind.
	c.ca, err = csr.NewCA(certs[0].Certificate, key.Signer(), csr.Profile{Validity: time.Duration(c.days) * 24 * time.Hour})
	if err != nil {
		return fmt.Errorf("-ca-cert, -ca-key, -cert-days: %w", err)
	}
	return nil
}

// template is the walkthrough's, with certificates of the CA in place of requests.
func (c *ownCA) template() *template.Template {
	t := template.Walkthrough()
	delete(t.Parameters, "CSR")
	t.Parameters["CertificatePem"] = template.Parameter{}
	certificate := template.Certificate{
		CertificatePEM: template.Ref("CertificatePem"), Status: template.Active, OverrideSettings: template.CertificateOverrides{Status: template.Replace},
	}
	if c.mode == "bulk" {
		t.Parameters["CACertificatePem"] = template.Parameter{}
		certificate.CACertificatePEM = template.Ref("CACertificatePem")
	}
	t.Resources["certificate"] = certificate
	return t
}

// register registers the CA in the account, unless it is to be unknown there.
func (c *ownCA) register(ctx context.Context, b task.Backend, roleARN string) error {
	if c.ca == nil || c.mode == "without-ca" {
		return nil
	}
	cas, ok := task.As[task.CAEnsurer](b)
	if !ok {
		return errors.New("the backend can't register CAs")
	}
	in := &task.CAInput{CertificatePEM: c.ca.PEM(), Prove: c.ca.VerificationCertificate, AutoRegister: c.mode == "jit"}
	if c.first != "" {
		body, err := os.ReadFile(c.first)
		if err != nil {
			return err
		}
		in.TemplateBody, in.RoleARN = string(body), roleARN
	}
	_, err := cas.EnsureCA(ctx, in)
	return err
}

// writeCRL brings the file of -crl up to date. It goes on with what is there.
func (c *ownCA) writeCRL(ctx context.Context, job *provision.Run) error {
	if c.crl == "" {
		return nil
	}
	previous, err := os.ReadFile(c.crl)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text, err := job.RevocationList(ctx, string(previous), time.Now().Add(30*24*time.Hour))
	if err != nil {
		return fmt.Errorf("-crl %s: %w", c.crl, err)
	}
	if err := os.WriteFile(c.crl+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(c.crl+".new", c.crl)
}
