// Package issuer is the certificate authority of the fake: it checks certificate signing requests as AWS IoT does and
// signs device certificates of AWS's shape.
//
//	ca, err := issuer.New(issuer.Options{Seed: []byte("fleet")})
//	cert, err := ca.Issue(csrPEM, now)
//	if refusal, ok := errors.AsType[*issuer.Refusal](err); ok {
//		// AWS would have answered InvalidRequestException with refusal.Error()
//	}
//	os.Stdout.WriteString(cert.PEM())
//
// A certificate carries the request's subject and public key byte for byte, one organisational unit as its issuer, a
// validity from 120 seconds before its issue to the end of 2049, the two key identifiers, empty basic constraints and
// digital signature as its only key usage. What the request asks for in extensions is left behind, as AWS does.
//
// Everything an [Issuer] makes follows from its seed and from the number of certificates it has issued before, so a
// test that starts from the same seed gets the same certificates.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html
package issuer
