package fakebackend

import "log/slog"

// KeyPair is a key made by CreateKeysAndCertificate. The private key shows in no print, log or JSON; ask for it.
type KeyPair struct {
	PublicKey string // PEM
	private   *string
}

func newKeyPair(public, private string) *KeyPair { return &KeyPair{public, &private} }

// PrivateKey returns the private key as PEM. Do not log it.
func (k KeyPair) PrivateKey() string {
	if k.private == nil {
		return ""
	}
	return *k.private
}

const redactedKey = "[key pair]"

// String returns a placeholder.
func (k KeyPair) String() string { return redactedKey }

// GoString returns a placeholder.
func (k KeyPair) GoString() string { return redactedKey }

// LogValue returns a placeholder.
func (k KeyPair) LogValue() slog.Value { return slog.StringValue(redactedKey) }

// MarshalText returns a placeholder, so that JSON and XML hold no key.
func (k KeyPair) MarshalText() ([]byte, error) { return []byte(redactedKey), nil }
