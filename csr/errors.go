package csr

import "errors"

// Why a request or a certificate is refused. [Parse], [ParseCertificates], [Create] and [Generator] wrap one of these
// with the details and with what to do; match them with errors.Is. None of the texts repeats a private key that was
// handed in by mistake.
var (
	// ErrNotCSR: the text is no certificate signing request, or a damaged one.
	ErrNotCSR = errors.New("not a certificate signing request")
	// ErrCertificate: a certificate was handed in where a request belongs.
	ErrCertificate = errors.New("this is a certificate, not a certificate signing request")
	// ErrNotCertificate: the text given to [ParseCertificates] is no certificate, or a damaged one.
	ErrNotCertificate = errors.New("not a certificate")
	// ErrPrivateKey: the text holds a private key, which should never have left its place.
	ErrPrivateKey = errors.New("this holds a private key")
	// ErrTrailing: something follows the request.
	ErrTrailing = errors.New("something follows the certificate signing request")
	// ErrTooLong: the request has more than 4,096 characters as PEM, which is all AWS IoT takes.
	ErrTooLong = errors.New("certificate signing request too long")
	// ErrSignature: the request's own signature does not fit its key and content.
	ErrSignature = errors.New("signature of the certificate signing request is not valid")
	// ErrSignatureAlgorithm: it is signed in a way that AWS IoT does not take, with SHA-1 or MD5 for instance.
	ErrSignatureAlgorithm = errors.New("signature algorithm not usable")
	// ErrKey: the public key is of a kind that AWS IoT does not take (another curve than P-256, P-384 and P-521, RSA of
	// fewer than 2,048 bits, Ed25519, …), or it cannot be read.
	ErrKey = errors.New("public key not usable")
)

// ErrNotExportable: there is no PEM of the private key, because it rests in a hardware module, for instance, or because
// the [PrivateKey] is the zero value.
var ErrNotExportable = errors.New("private key cannot be exported")

// ErrNotKey: the text given to [ParsePrivateKey] is no private key that can be used here.
var ErrNotKey = errors.New("not a usable private key")
