package task

import "log/slog"

// Link is a presigned address of a report file. Whoever holds it can read the certificates behind it, so it prints as a
// placeholder everywhere: in %v, logs and JSON. [Link.URL] returns the address itself.
//
// Links are not comparable by ==: compare what URL returns.
type Link struct {
	// A pointer, because fmt prints unexported fields of a struct that holds a Link without asking its methods.
	url *string
}

// NewLink makes a Link of an address.
func NewLink(url string) Link { return Link{&url} }

// URL returns the address, secret signature included. Do not log it.
func (l Link) URL() string {
	if l.url == nil {
		return ""
	}
	return *l.url
}

// IsZero reports whether the link is empty.
func (l Link) IsZero() bool { return l.URL() == "" }

const redactedLink = "[report link]"

// String returns a placeholder.
func (l Link) String() string { return redactedLink }

// GoString returns a placeholder.
func (l Link) GoString() string { return redactedLink }

// LogValue returns a placeholder.
func (l Link) LogValue() slog.Value { return slog.StringValue(redactedLink) }

// MarshalText returns a placeholder, so that JSON and XML hold no address.
func (l Link) MarshalText() ([]byte, error) { return []byte(redactedLink), nil }
