package restjson

import "log/slog"

// Secret is a string, such as a private key, that shows in no print, log or JSON. Only [Encode] writes it.
type Secret struct{ text *string }

// NewSecret hides a string.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the string. Do not log it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

const redacted = "[secret]"

// String returns a placeholder.
func (s Secret) String() string { return redacted }

// GoString returns a placeholder.
func (s Secret) GoString() string { return redacted }

// LogValue returns a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a placeholder, so that JSON and XML hold no secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
