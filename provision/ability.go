package provision

import (
	"context"
)

// Unwrapper is implemented by a [Credential] that wraps another one, so that [As] can find the abilities of the inner
// one.
type Unwrapper interface {
	Unwrap() Credential
}

// As finds an optional ability of a credential step: the step itself if it has type T, else the nearest one it wraps.
// The abilities are [KeyFinder], [KeyVerifier], [RowChecker], [RowNoter], [NameReader], [LineMatcher],
// [Issuer] and [Validator].
func As[T any](step Credential) (T, bool) {
	for step != nil {
		if t, ok := step.(T); ok {
			return t, true
		}
		u, ok := step.(Unwrapper)
		if !ok {
			break
		}
		step = u.Unwrap()
	}
	var zero T
	return zero, false
}

// KeyFinder is the ability of a step that makes a key for each device, and keeps it, to look for one. A step that makes
// keys needs it: with it, a run refuses to make a key for a device that has one of another run.
//
// Whose a key is, only what was recorded with it decides. So a step must keep Candidate.Run beside each key, as part of
// the same durable record: a step of your own in a column, hardware in a label or an attribute of the key. Where nothing
// can be kept beside a key, every key that is found is another run's, and such a run can't be resumed.
type KeyFinder interface {
	// Unused returns nil if the device has no key, or one that was made for this run, and an error that wraps
	// keystore.ErrExists if it has one of another run. Any other error means that it could not look.
	Unused(ctx context.Context, device, run string) error
}

// KeyVerifier is the ability of a step that keeps keys to confirm that it has a device's: what keystore.Store.Verify is
// for a store, with the same errors. No device counts as Provisioned without it; see [NoKey]. It is called by several
// goroutines at once. A step that has none, such as [GivenCSR], keeps no keys, and is not asked.
type KeyVerifier interface {
	VerifyKey(ctx context.Context, device string, publicKeySHA256 [32]byte) error
}

// RowChecker is the ability of a step to check at once, before anything is made or sent, what a row holds for it. It
// knows more of that than the template's rules, which are about what is sent. A step that takes the value of one of its
// parameters from the row needs it: without it, such a value is refused, because it would be thrown away.
type RowChecker interface {
	// CheckRow returns why a device with this thing name and row can't be sent. The row has what is in Device.Meta, too. It
	// must not make or change anything:
	// Check calls it, too.
	CheckRow(thing string, row map[string]string) error
}

// RowNoter is the ability of a step to tell what is odd about what it takes from a row, and sends all the same.
type RowNoter interface {
	// RowNotes returns a sentence for each oddity. It is called for rows that CheckRow took.
	RowNotes(row map[string]string) []string
}

// NameReader is the ability of a step whose devices come with a request or a certificate: to read whose it is. A device
// is refused if one of the names is that of another device of the run.
type NameReader interface {
	// Names returns the common names in the request or certificate of a row; none if it can't be read.
	Names(row map[string]string) []string
}

// LineMatcher is the ability of a step to recognise a line that is complete already, without making anything: one of a
// data file that was sent by hand ([Run.Adopt]), or a row that comes with its request or certificate.
type LineMatcher interface {
	// MatchLine returns how the results of a line with these values are recognised. An error means that the values
	// do not show it; one with a cause ([CauseError]) makes a dry run refuse the device, as Prepare would.
	MatchLine(thing string, values map[string]string) (Match, error)
}

// Issuer is the ability of a step whose certificates are all of one CA of the user's own: to show it.
type Issuer interface {
	// IssuerPEM returns the CA's certificate in PEM.
	IssuerPEM() string
}

// Validator is the ability of a step to check its own settings. New calls it and refuses the step if it returns an
// error.
type Validator interface {
	Validate() error
}

// CauseError is an error that knows the cause of a device's failure. [Credential] steps and
// their [RowChecker] return it, wrapped or not.
type CauseError interface {
	error
	Cause() Cause
}
