package main

import (
	"context"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// ownCA is what the flags tell about a CA of the user's own, which issues the certificates.
type ownCA struct {
	cert, key, mode string
	first           string       // template file of just-in-time provisioning
	body            string       // what it holds
	found           finding.List // about it
	crl             string       // file
	days            int
	ca              *csr.CA // nil without the flags
}

// flags defines the flags.
func (c *ownCA) flags(flags *flag.FlagSet) {
	flags.StringVar(&c.cert, "ca-cert", "", "PEM `file` of your CA's certificate: it issues the devices' certificates, without requests")
	flags.StringVar(&c.key, "ca-key", "", "PEM `file` of your CA's private key, not encrypted; - for standard input, such as of: openssl pkey -in ca.key")
	flags.StringVar(&c.mode, "cert-mode", "bulk", "how the certificates of -ca-cert are registered: `bulk|without-ca|jit`, under the CA, which -setup registers, without it, or when the devices first connect")
	flags.StringVar(&c.first, "jit-template", "", "with -cert-mode jit and -setup, template `file` by which AWS IoT provisions devices that first connect; without it, a rule of yours has to")
	flags.StringVar(&c.crl, "crl", "", "with -ca-cert, `file` of the CA's revocation list: the certificates of -remove and -existing replace are added to it")
	flags.IntVar(&c.days, "cert-days", 3650, "for how many `days` the certificates of -ca-cert are valid")
}

// maxDays is the most that -cert-days can be: a longer validity is no time.Duration.
const maxDays = int(math.MaxInt64 / (24 * time.Hour))

// load reads the CA, and refuses one that can't issue certificates, before the first device. flags are those of the command
// line: one that is about certificates of an own CA is refused without a CA, since AWS IoT would issue them.
func (c *ownCA) load(flags *flag.FlagSet) (err error) {
	if c.cert == "" && c.key == "" {
		flags.Visit(func(f *flag.Flag) {
			if slices.Contains([]string{"cert-mode", "cert-days", "jit-template", "crl"}, f.Name) {
				err = fmt.Errorf("-%s needs -ca-cert and -ca-key", f.Name)
			}
		})
		return err
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
	if c.days < 1 || c.days > maxDays {
		return fmt.Errorf("-cert-days is %d; it must be from 1 to %d, and end before the CA's certificate does", c.days, maxDays)
	}
	if err := c.loadFirst(); err != nil {
		return err
	}
	data, err := os.ReadFile(c.cert)
	if err != nil {
		return err
	}
	certs, err := csr.ParseCertificates(data)
	if err != nil {
		return fmt.Errorf("-ca-cert %s: %w", c.cert, err)
	}
	key, err := c.readKey()
	if err != nil {
		return err
	}
	// Of several, such as a CA with those above it, the one that the key is of. With none NewCA tells that.
	public, _ := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	own := slices.IndexFunc(certs, func(c *csr.Certificate) bool { return public.Equal(c.PublicKey) })
	c.ca, err = csr.NewCA(certs[max(own, 0)].Certificate, key.Signer(), csr.Profile{Validity: time.Duration(c.days) * 24 * time.Hour})
	if err != nil {
		return fmt.Errorf("-ca-cert, -ca-key, -cert-days: %w", err)
	}
	if c.crl != "" {
		_, err = c.revocationList(func(previous string, next time.Time) (string, error) { return c.ca.RevocationList(previous, nil, next) })
	}
	return err
}

// readKey reads the CA's private key.
func (c *ownCA) readKey() (csr.PrivateKey, error) {
	read := func() ([]byte, error) { return os.ReadFile(c.key) }
	if c.key == "-" {
		read = func() ([]byte, error) { return io.ReadAll(os.Stdin) }
	}
	secret, err := read()
	if err != nil {
		return csr.PrivateKey{}, fmt.Errorf("-ca-key: %w", err)
	}
	key, err := csr.ParsePrivateKey(secret)
	clear(secret)
	if errors.Is(err, csr.ErrNotKey) {
		err = fmt.Errorf("%w\nA key that is encrypted, in DER or in PKCS #12 is read with: openssl pkey -in %[2]s | bulkprovision … -ca-key -\n"+
			"or in bash and zsh: -ca-key <(openssl pkey -in %[2]s)", err, c.key)
	}
	if err != nil {
		return csr.PrivateKey{}, fmt.Errorf("-ca-key %s: %w", c.key, err)
	}
	return key, nil
}

// loadFirst reads and checks the template by which devices are provisioned that first connect.
func (c *ownCA) loadFirst() error {
	if c.first == "" {
		return nil
	}
	body, err := os.ReadFile(c.first)
	if err != nil {
		return err
	}
	t, err := template.Parse(body)
	if err != nil {
		return fmt.Errorf("-jit-template %s: %w", c.first, err)
	}
	c.body, c.found = string(body), t.Check(template.JITP)
	if err := c.found.Err(); err != nil {
		return fmt.Errorf("-jit-template %s: %w", c.first, err)
	}
	return nil
}

// suits refuses a template that registers the certificates in another way than -cert-mode tells.
func (c *ownCA) suits(t *template.Template) error {
	if c.ca == nil || c.mode != "without-ca" {
		return nil
	}
	for name, r := range t.Resources {
		if r, ok := r.(template.Certificate); ok && r.CACertificatePEM != nil {
			return fmt.Errorf("-cert-mode is without-ca, and the template's resource %q has CACertificatePem, which registers under the CA: take it out, or use -cert-mode bulk", name)
		}
	}
	return nil
}

// template is the walkthrough's, with certificates in place of requests: those of the CA, or without one the list's own.
func (c *ownCA) template() *template.Template {
	t := template.Walkthrough()
	delete(t.Parameters, "CSR")
	t.Parameters["CertificatePem"] = template.Parameter{}
	certificate := template.Certificate{
		CertificatePEM: template.Ref("CertificatePem"), Status: template.Active, OverrideSettings: template.CertificateOverrides{Status: template.Replace},
	}
	if c.ca != nil && c.mode == "bulk" {
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
		in.TemplateBody, in.RoleARN = c.body, roleARN
	}
	_, err := cas.EnsureCA(ctx, in)
	return err
}

// writeCRL brings the file of -crl up to date, also after an interruption. It goes on with what is there.
func (c *ownCA) writeCRL(ctx context.Context, job *provision.Run) error {
	if c.crl == "" {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	text, err := c.revocationList(func(previous string, next time.Time) (string, error) { return job.RevocationList(ctx, previous, next) })
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.crl+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(c.crl+".new", c.crl)
}

// revocationList has a list signed that goes on with the one in the file of -crl. A file that is empty, such as after a power
// cut, is refused: what was in it would be forgotten.
func (c *ownCA) revocationList(sign func(previous string, next time.Time) (string, error)) (string, error) {
	previous, err := os.ReadFile(c.crl)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	case len(previous) == 0:
		return "", fmt.Errorf("-crl %s: the file is empty; restore the list, or remove the file to begin one", c.crl)
	}
	text, err := sign(string(previous), time.Now().Add(30*24*time.Hour))
	if err != nil {
		return "", fmt.Errorf("-crl %s: %w", c.crl, err)
	}
	return text, nil
}
