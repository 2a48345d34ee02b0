package csr

import (
	"fmt"
	"strings"
)

// Parse reads a certificate signing request that was made elsewhere and checks what AWS IoT would refuse: its own
// signature, the kind and strength of its key (RSA of at least 2,048 bits, P-256, P-384, P-521), the hash it is signed
// with (SHA-256, -384, -512), and its length (4,096 characters).
//
// It reads the forms people hand over: PEM with any line ends, or with its line ends lost, after a readable text
// (openssl req -text) or a public key, headed NEW CERTIFICATE REQUEST, with \n spelled out, quoted as in JSON, in UTF-16
// as Windows shells write it, with a byte order mark or the NUL of a C string; plain DER; base64 of DER or of PEM.
//
// Not every oddity is a reason to refuse. "_" or "@" in a PrintableString, no field of attributes, an RSA key without
// the NULL of its algorithm: embedded generators make such requests, other readers take them, and AWS does not document
// that it refuses them. They are returned byte for byte as they are, and [Request.Notes] tells what is odd.
//
// Each reason to refuse has its own error, from [ErrNotCSR] on; [ParseLenient] refuses less. Parse is safe for
// concurrent use and keeps no reference to data.
func Parse(data []byte) (*Request, error) { return parse(data, false) }

// ParseLenient reads what [Parse] reads, and lets the service decide about what Parse refuses although the key can be
// read and the signature be verified: a signature that is r and s alone or has negative numbers, a hash of SHA-1 or
// SHA-224, RSA-PSS with another salt, a control character in the subject, a compressed point, a version other than 0.
// [Request.Notes] names each. A kind of key that AWS documents it does not take stays an [ErrKey].
func ParseLenient(data []byte) (*Request, error) { return parse(data, true) }

func parse(data []byte, lenient bool) (*Request, error) {
	list, err := requestForm.blocks(data)
	if err != nil {
		return nil, err
	}
	b, err := requestBlock(list)
	if err != nil {
		return nil, err
	}
	c := checker{lenient: lenient}
	return c.check(b.der)
}

// requestBlock finds the request among PEM blocks. Public keys before it are passed over.
func requestBlock(list []block) (block, error) {
	for i, b := range list {
		switch b.label {
		case "", requestLabel, "NEW CERTIFICATE REQUEST":
			if b.after != "" {
				return b, fmt.Errorf("%w: %d bytes after its END line; cut them off", ErrTrailing, len(b.after))
			}
			if i+1 < len(list) {
				return b, fmt.Errorf("%w: another PEM block; hand in one request at a time", ErrTrailing)
			}
			return b, nil
		case "PUBLIC KEY", "RSA PUBLIC KEY", "EC PARAMETERS":
			if i+1 < len(list) {
				continue
			}
		}
		return b, notRequest(b.label)
	}
	return block{}, requestForm.not("there is no PEM block in it")
}

// notRequest reports what a PEM block is instead of a request.
func notRequest(label string) error {
	switch label {
	case certificateLabel, "X509 CERTIFICATE", "TRUSTED CERTIFICATE", "PKCS7":
		return fmt.Errorf("%w; hand in the request that was made for the device's key", ErrCertificate)
	case "PUBLIC KEY", "RSA PUBLIC KEY":
		return requestForm.not(publicKeyText)
	}
	return requestForm.not("the PEM block is %s", quotedLabel(label))
}

const publicKeyText = "this is a public key; a request is signed with the private key, for instance by openssl req -new"

// quotedLabel quotes the label of a PEM block, unless it looks like something that should not be repeated.
func quotedLabel(label string) string {
	if pemLabel(label, "") == "" {
		return "of an unknown kind"
	}
	return fmt.Sprintf("%q", strings.TrimSpace(label))
}
