package tasktest

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/task"
)

// newCA makes a CA whose key nobody has after the case: what is left of it in an account can issue nothing.
func newCA() *task.CAInput {
	named := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject, c.NotBefore, c.NotAfter = pkix.Name{CommonName: name}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		}
	}
	ca := certtest.NewCA(certtest.Key(), named("tasktest-"+token()))
	return &task.CAInput{CertificatePEM: certtest.PEM(ca.Certificate), Prove: func(code string) (string, error) {
		return certtest.PEM(ca.Sign(ca.Key.Public(), named(code))), nil
	}}
}

func checkUnknownCA(b *bench) {
	cas := ability[task.CAEnsurer](b, "CAEnsurer")
	in := newCA()
	_, err := cas.ReadCA(b.ctx, in.CertificatePEM)
	b.Is(err, task.ErrNotFound, "ReadCA of a CA that nobody has registered")
}

func checkEnsureCA(b *bench) {
	cas := ability[task.CAEnsurer](b, "CAEnsurer")
	in := newCA()
	_, err := cas.EnsureCA(b.ctx, &task.CAInput{CertificatePEM: in.CertificatePEM})
	b.Is(err, task.ErrInvalidRequest, "EnsureCA without a proof of the CA's key")
	first, err := cas.EnsureCA(b.ctx, in)
	b.OK(err, "EnsureCA")
	if !first.Active {
		b.Failf("EnsureCA returned nil, and the CA %s is not active", first.ID)
	}
	again, err := cas.EnsureCA(b.ctx, in)
	b.OK(err, "EnsureCA of a CA that is registered")
	read, err := cas.ReadCA(b.ctx, in.CertificatePEM)
	b.OK(err, "ReadCA of a CA that is registered")
	if *again != *first || *read != *first {
		b.Failf("EnsureCA returned %+v and, called again, %+v; ReadCA returned %+v", first, again, read)
	}
	auto := *in
	auto.AutoRegister = true
	_, err = cas.EnsureCA(b.ctx, &auto)
	b.Is(err, task.ErrConflict, "EnsureCA with registration at the first connection, of a CA that is registered without")
	read, err = cas.ReadCA(b.ctx, in.CertificatePEM)
	b.OK(err, "ReadCA after a conflict")
	if *read != *first {
		b.Failf("a CA that was registered was changed from %+v to %+v", first, read)
	}
}
