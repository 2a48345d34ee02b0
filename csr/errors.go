package csr

import "errors"

// Why a request is refused. [Parse], [Create] and [Generator] wrap one of these with the details and with what to do;
// match them with errors.Is. None of the texts repeats a private key that was handed in by mistake.
var (
	// ErrNotCSR: the text is no certificate signing request, or a damaged one.
	ErrNotCSR = errors.New("not a certificate signing request")
	// ErrCertificate: a certificate was handed in where a request belongs.
	ErrCertificate = errors.New("this is a certificate, not a certificate signing request")
	// ErrPrivateKey: the text holds a private key, which should never have left its place.
	ErrPrivateKey = errors.New("this holds a private key, not only a certificate signing request")
	// ErrTrailing: something follows the request.
	ErrTrailing = errors.New("something follows the certificate signing request")
	// ErrTooLong: the request has more than 4,096 characters as PEM, which is all AWS IoT takes.
	ErrTooLong = errors.New("certificate signing request too long")
	// ErrSignature: the request's own signature does not fit its key and content.
	ErrSignature = errors.New("signature of the certificate signing request is not valid")
	// ErrWeakRSA: an RSA key of fewer than 2,048 bits.
	ErrWeakRSA = errors.New("RSA key too short")
	// ErrSHA1: signed with SHA-1.
	ErrSHA1 = errors.New("certificate signing request is signed with SHA-1")
	// ErrMD5: signed with MD5 or MD2.
	ErrMD5 = errors.New("certificate signing request is signed with MD5")
	// ErrSignatureAlgorithm: signed in another way that AWS IoT does not take.
	ErrSignatureAlgorithm = errors.New("certificate signing request has an unsupported signature algorithm")
	// ErrEd25519: an Ed25519 key.
	ErrEd25519 = errors.New("key is Ed25519, which AWS IoT does not take")
	// ErrCurve: an elliptic curve other than P-256, P-384 and P-521.
	ErrCurve = errors.New("key is on an elliptic curve that AWS IoT does not take")
	// ErrKey: a key of another kind, or one that cannot be read.
	ErrKey = errors.New("public key not usable")
)

// ErrNotExportable: the private key cannot leave its place, a hardware module for instance, so it has no PEM.
var ErrNotExportable = errors.New("private key cannot be exported")

// ErrNoKey: the [PrivateKey] is the zero value and holds no key.
var ErrNoKey = errors.New("no private key")

// ErrNotKey: the text given to [ParsePrivateKey] is no private key that can be used here.
var ErrNotKey = errors.New("not a usable private key")

// ErrReused: a single-use iterator was ranged over a second time.
var ErrReused = errors.New("iterator can be used only once")
