package provision

import (
	"context"
	"encoding/hex"
	"iter"
	"strings"
)

// Credential is the step that gives each device what its line needs for a certificate. The forms here are [MakeCSR],
// [IssueCertificate], [GivenCSR], [GivenCertificate], [GivenCertificateID] and [NoCertificate]; what is cut, sent,
// awaited and matched does not care which.
type Credential interface {
	// Fills names the template parameters that the step gives a value. A record with a value of its own for one of them is
	// refused, unless the step is a [RowChecker] and takes it.
	Fills() []string
	// Prepare yields every candidate again, in order, with what its line needs. A device's own failure is in
	// Candidate.Err; the error of the sequence is terminal and last.
	Prepare(ctx context.Context, devices iter.Seq2[Candidate, error]) iter.Seq2[Candidate, error]
	// Sync returns nil once everything that was prepared is durable. Nothing leaves the process before.
	Sync(ctx context.Context) error
}

// Candidate is a device on its way through the credential step, which is given Device and Run and sets the rest.
type Candidate struct {
	// Device is the device. Its Err is nil; the step sets it if the device can't be sent, and need not set Values and
	// Match then. If the error is or wraps a [CauseError], that is its cause; otherwise the cause is CauseKey, which can
	// be tried again.
	Device
	// Run is the id of the run that the device is of. A key that is made for it is recorded with this id, and a key that
	// is found is used only if it was recorded with it; one of another run is an error (keystore.ErrExists).
	Run string

	Values map[string]string // a value for each of Fills
	Match  Match             // how the results of the line are recognised

	written bool // its line was written before, and is wanted as it was
}

// Match is how a device's line is recognised in a report: by its public key, its certificate or its thing.
// Make one with [MatchKey], [MatchCertificate] or [MatchThing].
type Match string

// MatchKey recognises a line by its public key: the SHA-256 of the key's SubjectPublicKeyInfo in DER, as
// csr.PublicKeySHA256 returns it.
func MatchKey(digest [32]byte) Match { return Match("key:" + hex.EncodeToString(digest[:])) }

// MatchCertificate recognises a line by a certificate that is in the account already: its id of 64 hexadecimal digits.
func MatchCertificate(id string) Match { return Match("certificate:" + strings.ToLower(id)) }

// MatchThing recognises a line by the name of its thing, where no certificate is involved.
func MatchThing(name string) Match { return Match("thing:" + name) }

// Key returns the digest of the public key of a match made by MatchKey; false for any other match.
func (m Match) Key() (digest [32]byte, ok bool) {
	text, ok := strings.CutPrefix(string(m), "key:")
	if !ok || len(text) != hex.EncodedLen(len(digest)) {
		return digest, false
	}
	_, err := hex.Decode(digest[:], []byte(text))
	return digest, err == nil
}

func (m Match) isKey() bool { return strings.HasPrefix(string(m), "key:") }

func csrError(err error) error { return &causeError{CauseCSRRefused, err} }
func keyError(err error) error { return &causeError{CauseKey, err} }

// causeError carries the cause of a device's failure from where it is known.
type causeError struct {
	cause Cause
	err   error
}

func (e *causeError) Error() string { return e.err.Error() }
func (e *causeError) Unwrap() error { return e.err }
func (e *causeError) Cause() Cause  { return e.cause }
