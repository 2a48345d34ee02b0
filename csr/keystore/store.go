package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Record is what is kept of one device.
type Record struct {
	Device  string         // the device's name, 1 character at least
	Key     csr.PrivateKey // its private key; the zero value when that is kept elsewhere, in hardware for instance
	Request *csr.Request   // the request for that key; nil with CertificatePEM
	// CertificatePEM is the certificate for that key, one PEM block, in place of a request: a CA of the user's own issued it.
	CertificatePEM string
	// Run is the id of the run that the key was made for, as opaque text: one line of printable UTF-8, at most 200 bytes.
	// By it, and by nothing else, a run knows its own keys from another's. Empty when no run made the key.
	Run string
	// Row is, for Put, what the caller knows of the device: in a run its row and what is kept beside it. It is for stores
	// that encrypt or file keys by it, for a customer or a pallet, and is no part of the record: nothing here keeps it, Get
	// need not return it, and a record must be found by its device alone. It may be nil, and must not be changed.
	Row map[string]string
}

// Store keeps records. Its methods are safe for concurrent use and honour their context.
type Store interface {
	// Put takes a record in. It refuses to replace one, even by the same, with an [ErrExists] that names device and
	// place: ask Get first when a run is resumed. It refuses a key that does not belong to the request or certificate
	// ([ErrMismatch]). What Put took is durable only after Sync.
	Put(ctx context.Context, rec Record) error

	// Sync makes everything durable that Put took, and that Get returned, before Sync was called. Until it has
	// returned nil, no request and no certificate may leave the process.
	Sync(ctx context.Context) error

	// Get returns the record of a device, also one that was not synced yet. It is an [ErrNotFound] when there is none,
	// and an [ErrDamaged] when there is something that is no longer a whole record.
	Get(ctx context.Context, device string) (Record, error)

	// Verify returns nil only if the store durably holds the private key of a device for this public key, given by the
	// SHA-256 of its SubjectPublicKeyInfo in DER. It is an [ErrNotFound] when there is no record of the device, or none
	// that is durable, an [ErrOtherKey] when there is one of another key, and an [ErrDamaged] or [ErrPermissions] when
	// the key that is there could not be used. Any other error means that the store could not be asked, and that
	// nothing is known about the key.
	//
	// A store does by what it can, and never needs to show the key: one that holds plain keys reads and compares them, one
	// that seals them compares the sealed bytes with the digest that it recorded beside the public key when it sealed
	// them, one in hardware asks the hardware for its public key. A record that was put without its key, because that
	// rests elsewhere, is compared by its request or certificate. Verify is called for every device, before it counts as
	// provisioned and whenever a run is confirmed, by several goroutines at once.
	Verify(ctx context.Context, device string, publicKeySHA256 [32]byte) error
}

// The errors of a store. Each comes wrapped with device, place and what to do; match with errors.Is.
var (
	// ErrExists: there is a record of that device already. It was left as it is. Such an error is also a fs.ErrExist.
	ErrExists error = &alsoError{"exists already", fs.ErrExist}
	// ErrNotFound: there is no record of that device. Such an error is also a fs.ErrNotExist.
	ErrNotFound error = &alsoError{"no record", fs.ErrNotExist}
	// ErrOtherKey: the record of that device is of another key than the one asked for.
	ErrOtherKey = errors.New("another key")
	// ErrDamaged: the record is not whole, or not what Put wrote.
	ErrDamaged = errors.New("record damaged")
	// ErrMismatch: the private key does not belong to the request or certificate.
	ErrMismatch = errors.New("private key and request or certificate do not belong together")
	// ErrPermissions: other users of the machine can read the key or replace it.
	ErrPermissions = errors.New("private key is open to other users")
	// ErrName: the device's name cannot be used.
	ErrName = errors.New("device name not usable")
	// ErrKeyLost: keeping the record as asked would lose its private key for good.
	ErrKeyLost = errors.New("private key would be lost")
	// ErrBroken: a write or sync failed before, so nothing can be promised any more. Open the store again.
	ErrBroken = errors.New("store failed before")
)

// alsoError is an error that is another one, too.
type alsoError struct {
	text string
	also error
}

func (e *alsoError) Error() string        { return e.text }
func (e *alsoError) Is(target error) bool { return target == e.also }

// ExistsError reports what is in the way. It is an [ErrExists].
type ExistsError struct {
	Device string
	Path   string
}

// Error names device and path.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("device %s: %s exists already and was left as it is; Get returns what is there, "+
		"or move it away if the device shall have a new key", rule.Quote(e.Device), e.Path)
}

// Is makes an ExistsError an [ErrExists] and a fs.ErrExist.
func (e *ExistsError) Is(target error) bool { return target == ErrExists || target == fs.ErrExist }

// notFound is an [ErrNotFound] with the device's name.
func notFound(device, where string) error {
	return fmt.Errorf("device %s: %w in %s", rule.Quote(device), ErrNotFound, where)
}

// otherKey is an [ErrOtherKey] with the device's name.
func otherKey(device, where string) error {
	return fmt.Errorf("device %s: %w is in %s than the one that its certificate was issued for", rule.Quote(device), ErrOtherKey, where)
}

// maxRun is the greatest length of [Record.Run] in bytes.
const maxRun = 200

// isRun reports whether a text can be a [Record.Run].
func isRun(s string) bool {
	return len(s) <= maxRun && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Check reports what no store keeps: a record without a name or with one that no [Folder] could have ([ErrName]),
// without a request and a certificate or with both, with a key that does not belong to it ([ErrMismatch]), or of a run
// whose id is not one printable line.
func (rec Record) Check() error {
	if rec.Device == "" {
		return fmt.Errorf("%w: it is empty", ErrName)
	}
	if n := len(FileName(rec.Device)); n > maxFileName {
		return fmt.Errorf("%w: %s needs a file name of %d bytes, file systems take %d; shorten it (a thing's name has at most 128 characters)",
			ErrName, rule.Quote(rec.Device), n, maxFileName)
	}
	requested := rec.Request != nil && len(rec.Request.DER()) > 0
	switch {
	case requested && rec.CertificatePEM != "":
		return fmt.Errorf("device %s: the record has both a request and a certificate", rule.Quote(rec.Device))
	case !requested && rec.CertificatePEM == "":
		return fmt.Errorf("device %s: the record has neither a request nor a certificate", rule.Quote(rec.Device))
	}
	digest, err := rec.PublicKeySHA256()
	if err != nil {
		return fmt.Errorf("device %s: %w", rule.Quote(rec.Device), err)
	}
	if !rec.holds(digest) {
		return fmt.Errorf("device %s: %w", rule.Quote(rec.Device), ErrMismatch)
	}
	if !isRun(rec.Run) {
		return fmt.Errorf("device %s: the id of its run has to be one printable line of at most %d bytes", rule.Quote(rec.Device), maxRun)
	}
	return nil
}

// holds reports whether the record's private key is the one of a public key. One without it holds any.
func (rec Record) holds(publicKeySHA256 [32]byte) bool {
	if rec.Key.IsZero() {
		return true
	}
	digest, err := csr.PublicKeySHA256(rec.Key.Public())
	return err == nil && digest == publicKeySHA256
}

// PublicKeySHA256 returns the SHA-256 of the public key in the record's request or certificate, as
// [csr.Request.PublicKeySHA256] returns it.
func (rec Record) PublicKeySHA256() ([32]byte, error) {
	if rec.Request != nil {
		return rec.Request.PublicKeySHA256(), nil
	}
	return csr.CertificateKeySHA256([]byte(rec.CertificatePEM))
}

// PEM returns the record's request, or its certificate: what a store keeps beside the key.
func (rec Record) PEM() string {
	if rec.Request != nil {
		return rec.Request.PEM()
	}
	return rec.CertificatePEM
}

// SetPEM sets Request or CertificatePEM from what PEM returned. Text that is damaged, or is of another key than the record's
// Key, is an [ErrDamaged].
func (rec *Record) SetPEM(text []byte) error {
	if bytes.Contains(text, []byte("-----BEGIN CERTIFICATE-----")) {
		certs, err := csr.ParseCertificates(text)
		if err == nil && len(certs) > 1 {
			err = fmt.Errorf("%d certificates stand in place of one", len(certs))
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		rec.Request, rec.CertificatePEM = nil, certs[0].PEM()
	} else {
		request, err := csr.Parse(text)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		rec.Request, rec.CertificatePEM = request, ""
	}
	digest, err := rec.PublicKeySHA256()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !rec.holds(digest) {
		return fmt.Errorf("%w: %w", ErrDamaged, ErrMismatch)
	}
	return nil
}

// None keeps nothing: for keys that rest in hardware, or that the devices made themselves. Put refuses a record whose
// private key is in this process's memory with an [ErrKeyLost], since nothing would ever hold it again. Get finds
// nothing, and Verify returns nil: whether such a key is there, only those who keep it know.
func None() Store { return none{} }

type none struct{}

func (none) Put(ctx context.Context, rec Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := rec.Check(); err != nil {
		return err
	}
	if rec.Key.Exportable() {
		return fmt.Errorf("device %s: %w: its key was made in this process and this store keeps nothing; use a Folder, or package sqlitekeys",
			rule.Quote(rec.Device), ErrKeyLost)
	}
	return nil
}

func (none) Sync(ctx context.Context) error { return ctx.Err() }

func (none) Get(ctx context.Context, device string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	return Record{}, notFound(device, "a store that keeps nothing")
}

func (none) Verify(ctx context.Context, _ string, _ [32]byte) error { return ctx.Err() }
