package issuer

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"
)

// FuzzIssue checks that a request which is taken gives a certificate that the standard library parses, with the
// request's subject and key, signed by the issuer; and that whatever encoding/pem and crypto/x509 take is judged on
// what it is, not on its form.
func FuzzIssue(f *testing.F) {
	good := newRequest(f, newKey(f, elliptic.P256()), x509.CertificateRequest{Subject: pkix.Name{CommonName: "seed", Country: []string{"US"}}})
	f.Add(good)
	f.Add("")
	f.Add("-----BEGIN CERTIFICATE REQUEST----------END CERTIFICATE REQUEST-----")
	ca := newIssuer(f, Options{Seed: []byte("fuzz")})
	f.Fuzz(func(t *testing.T, csr string) {
		issued, err := ca.Issue(csr, now)
		if err != nil {
			if _, ok := err.(*Refusal); !ok {
				t.Fatalf("a request was neither taken nor refused: %v", err)
			}
			return
		}
		cert, err := ParseCertificate(issued.PEM())
		if err != nil {
			t.Fatalf("the certificate does not parse: %v", err)
		}
		if err := cert.CheckSignatureFrom(certificateOf(t, ca)); err != nil {
			t.Fatal(err)
		}
		raw, err := decodePEM(csr, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
		if err != nil {
			t.Fatal(err)
		}
		request, err := x509.ParseCertificateRequest(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(cert.RawSubject, request.RawSubject) || !bytes.Equal(cert.RawSubjectPublicKeyInfo, request.RawSubjectPublicKeyInfo) {
			t.Fatal("subject or key were not copied byte for byte")
		}
	})
}

// FuzzDecodePEM checks that everything encoding/pem decodes is decoded to the same bytes.
func FuzzDecodePEM(f *testing.F) {
	f.Add([]byte{1, 2, 3}, "text before\n")
	f.Fuzz(func(t *testing.T, raw []byte, before string) {
		if bytes.Contains([]byte(before), []byte("-----")) {
			return
		}
		text := before + "\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
		got, err := decodePEM(text, "CERTIFICATE")
		if err != nil || !bytes.Equal(got, raw) {
			t.Fatalf("%x came back as %x, %v", raw, got, err)
		}
	})
}
