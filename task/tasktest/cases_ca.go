package tasktest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// newCA makes a CA whose key nobody has after the case: what is left of it in an account can issue nothing.
func newCA(b *bench) *task.CAInput {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	b.OK(err, "making the key of a CA")
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tasktest-" + token()}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true,
	}
	sign := func(of *x509.Certificate) (string, error) {
		der, err := x509.CreateCertificate(rand.Reader, of, root, key.Public(), key)
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), err
	}
	text, err := sign(root)
	b.OK(err, "making a CA")
	return &task.CAInput{CertificatePEM: text, Prove: func(code string) (string, error) {
		return sign(&x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: code}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		})
	}}
}

func checkUnknownCA(b *bench) {
	cas := ability[task.CAEnsurer](b, "CAEnsurer")
	in := newCA(b)
	_, err := cas.ReadCA(b.ctx, in.CertificatePEM)
	b.Is(err, task.ErrNotFound, "ReadCA of a CA that nobody has registered")
}

func checkEnsureCA(b *bench) {
	cas := ability[task.CAEnsurer](b, "CAEnsurer")
	in := newCA(b)
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
