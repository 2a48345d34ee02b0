package issuer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/issuer"
)

func ExampleIssuer_Issue() {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "device-one"}}, key)
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))

	ca, err := issuer.New(issuer.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	issued, err := ca.Issue(csr, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	cert, _ := issuer.ParseCertificate(issued.PEM())
	fmt.Println(cert.Subject, "|", cert.Issuer)
	fmt.Println(cert.NotBefore.Format(time.RFC3339), "to", cert.NotAfter.Format(time.RFC3339))

	_, err = ca.Issue("file://device-one.csr", now)
	if refusal, ok := errors.AsType[*issuer.Refusal](err); ok {
		fmt.Println(refusal)
	}
	// Output:
	// CN=device-one | OU=iotfleet fake AWS IoT CA\, not trusted by any device
	// 2026-01-02T03:02:05Z to 2049-12-31T23:59:59Z
	// CSR violates constraints: there is no PEM block BEGIN CERTIFICATE REQUEST
}
