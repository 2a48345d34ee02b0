package csr

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
)

// PrivateKey is a device's private key, or a handle of one that rests in hardware. It prints as a placeholder in every
// form of package fmt, in logs, JSON and XML, also as a field of another struct: only [PrivateKey.PEM] and
// [PrivateKey.Signer] return the key itself. The zero value holds no key. It is safe for concurrent use as far as its
// signer is; compare with [PrivateKey.Equal].
type PrivateKey struct {
	// A closure, because fmt and the deep printers of test libraries walk through unexported fields and pointers
	// without asking any method. None of them looks into a function.
	open func() crypto.Signer
}

// NewPrivateKey wraps a key: a *ecdsa.PrivateKey or *rsa.PrivateKey, which can be exported, or any other signer, which
// cannot. Of a nil signer it is the zero PrivateKey.
func NewPrivateKey(signer crypto.Signer) PrivateKey {
	if signer == nil {
		return PrivateKey{}
	}
	return PrivateKey{func() crypto.Signer { return signer }}
}

// ParsePrivateKey reads a private key in PEM: PKCS #8 ("PRIVATE KEY") as [PrivateKey.PEM] writes it, or the older forms
// of openssl ("EC PRIVATE KEY", "RSA PRIVATE KEY"), also with a byte order mark or in UTF-16. The public half is computed
// anew, not taken on trust. Anything else, encrypted keys included, is an [ErrNotKey]; a kind of key that AWS IoT does not
// take has the error that [Parse] returns for it.
func ParsePrivateKey(data []byte) (PrivateKey, error) {
	var block *pem.Block
	for rest := []byte(plainText(data)); ; {
		block, rest = pem.Decode(rest)
		if block == nil {
			return PrivateKey{}, fmt.Errorf("%w: no complete PEM block of a private key in the %d bytes given", ErrNotKey, len(data))
		}
		if block.Type != "EC PARAMETERS" { // openssl ecparam -genkey writes one before the key
			break
		}
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" { // of PKCS #8, and of the older forms
		return PrivateKey{}, fmt.Errorf("%w: it is encrypted; this decrypts it: openssl pkey -in FILE", ErrNotKey)
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return PrivateKey{}, fmt.Errorf("%w: the PEM block is %s", ErrNotKey, quotedLabel(block.Type))
	}
	if err != nil {
		// The cause is left out: it describes bytes of the key.
		return PrivateKey{}, fmt.Errorf("%w: the %s block is damaged or of an unknown kind", ErrNotKey, block.Type)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return PrivateKey{}, fmt.Errorf("%w: a key of type %T cannot sign", ErrNotKey, key)
	}
	if _, err := keyAlgorithm(signer.Public()); err != nil {
		return PrivateKey{}, err
	}
	return NewPrivateKey(signer), nil
}

// IsZero reports whether there is no key.
func (k PrivateKey) IsZero() bool { return k.open == nil }

// Signer returns the key itself, nil if there is none. Do not log it: its own type does not redact itself.
func (k PrivateKey) Signer() crypto.Signer {
	if k.open == nil {
		return nil
	}
	return k.open()
}

// Public returns the public key, nil if there is no key.
func (k PrivateKey) Public() crypto.PublicKey {
	if k.open == nil {
		return nil
	}
	return k.open().Public()
}

// Exportable reports whether [PrivateKey.PEM] can return the key: whether it is a key in this process's memory.
func (k PrivateKey) Exportable() bool {
	switch s := k.Signer().(type) {
	case *ecdsa.PrivateKey:
		return s != nil
	case *rsa.PrivateKey:
		return s != nil
	}
	return false
}

// PEM returns the key as PKCS #8 in PEM, unencrypted ("PRIVATE KEY"). It is an [ErrNotExportable] for a key that rests
// in hardware and for the zero value.
func (k PrivateKey) PEM() ([]byte, error) {
	if k.open == nil {
		return nil, fmt.Errorf("%w: there is none", ErrNotExportable)
	}
	signer := k.open()
	if !k.Exportable() {
		return nil, fmt.Errorf("%w: the signer is a %T", ErrNotExportable, signer)
	}
	var der []byte
	var err error
	if ec, ok := signer.(*ecdsa.PrivateKey); ok && curveOf(ec.Curve) != nil {
		der, err = ecPKCS8(ec)
	} else {
		der, err = x509.MarshalPKCS8PrivateKey(signer)
	}
	if err != nil {
		return nil, fmt.Errorf("encode the private key: %w", err)
	}
	text := appendPEM(make([]byte, 0, pemLen("PRIVATE KEY", len(der))), "PRIVATE KEY", der)
	clear(der)
	return text, nil
}

// Equal reports whether both hold the same key. Keys in hardware are the same when their public keys are.
func (k PrivateKey) Equal(other PrivateKey) bool {
	if k.open == nil || other.open == nil {
		return k.open == nil && other.open == nil
	}
	a, err := publicKeyInfo(k.Public())
	if err != nil {
		return false
	}
	b, err := publicKeyInfo(other.Public())
	return err == nil && bytes.Equal(a, b)
}

const redactedKey = "[private key]"

// String returns a placeholder.
func (k PrivateKey) String() string { return redactedKey }

// GoString returns a placeholder.
func (k PrivateKey) GoString() string { return redactedKey }

// Format writes a placeholder for every verb.
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedKey) }

// LogValue returns a placeholder.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(redactedKey) }

// MarshalText returns a placeholder, so that JSON, XML and YAML hold no key. There is no way back from it: use
// [PrivateKey.PEM] and [ParsePrivateKey] to store a key.
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(redactedKey), nil }

// MarshalJSON returns a placeholder.
func (k PrivateKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedKey + `"`), nil }
