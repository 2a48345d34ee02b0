package sqlitekeys

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile"
)

var _ keystore.Store = (*Store)(nil)

// maxHeld is how many records wait for a Sync before Put commits them.
const maxHeld = 5000

// held is a record between Put and the commit.
type held struct {
	rec     keystore.Record
	created time.Time
}

// Put implements [keystore.Store]. It takes the names that a [keystore.Folder] takes, as far as they are UTF-8.
func (s *Store) Put(ctx context.Context, rec keystore.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := rec.Check(); err != nil {
		return err
	}
	if !utf8.ValidString(rec.Device) {
		return fmt.Errorf("%w: %s is not UTF-8", keystore.ErrName, rule.Quote(rec.Device))
	}
	if s.insert == nil {
		return s.db.Fail(ctx, "putting a key", ErrReadOnly)
	}
	if !rec.Key.Exportable() && !rec.Key.IsZero() {
		if !s.keysElsewhere {
			return fmt.Errorf("device %s: %w; if it rests in hardware, open the keys with KeysElsewhere or leave Record.Key empty",
				rule.Quote(rec.Device), csr.ErrNotExportable)
		}
		rec.Key = csr.PrivateKey{}
	}
	if err := s.reserve(rec.Device); err != nil {
		return err
	}
	there, err := s.has(ctx, rec.Device)
	s.mu.Lock()
	delete(s.reserved, rec.Device)
	delete(s.absent, rec.Device)
	switch {
	case err != nil:
	case there:
		err = &keystore.ExistsError{Device: rec.Device, Path: s.db.Path()}
	default:
		s.held[rec.Device] = held{rec, time.Now()}
		s.order = append(s.order, rec.Device)
	}
	full := len(s.held) >= maxHeld
	s.mu.Unlock()
	if full {
		_ = s.Sync(ctx) // the record is taken in whatever becomes of this; what went wrong, the next Sync reports
	}
	return err
}

// reserve makes sure of a device's name within this process, until it is known whether the file has it.
func (s *Store) reserve(device string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if _, ok := s.held[device]; ok || s.reserved[device] {
		return &keystore.ExistsError{Device: device, Path: s.db.Path()}
	}
	s.reserved[device] = true
	return nil
}

// has reports whether the file has a record of a reserved device.
func (s *Store) has(ctx context.Context, device string) (found bool, err error) {
	s.mu.Lock()
	absent := s.absent[device]
	s.mu.Unlock()
	if _, err = s.db.Reader(); err == nil && !absent {
		// The statement takes microseconds and does not watch the context, which would cost more than it does.
		err = s.exists.QueryRowContext(context.WithoutCancel(ctx), device).Scan(&found)
	}
	return found, s.fail(ctx, device, "looking for its key", err)
}

// Sync implements [keystore.Store]: one transaction, whatever the number of records. When ctx ends first, when the disk
// is full, or when another program holds a transaction on the file, what is not durable yet stays for the next Sync.
// After any other failure the Store is done for: every later Put and Sync is a [keystore.ErrBroken]. Open it again;
// records that were not durable are made anew.
func (s *Store) Sync(ctx context.Context) error {
	if s.insert == nil {
		return s.db.Fail(ctx, "syncing keys", ErrReadOnly)
	}
	select {
	case s.syncing <- struct{}{}:
		defer func() { <-s.syncing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	broken, devices := s.broken, s.order
	batch := make([]held, len(devices))
	for i, device := range devices {
		batch[i] = s.held[device]
	}
	s.mu.Unlock()
	if broken != nil {
		return broken
	}
	if _, err := s.db.Reader(); err != nil || len(batch) == 0 {
		return s.db.Fail(ctx, "syncing keys", err)
	}
	err := s.db.Write(ctx, "syncing keys", func(*sql.Conn) error {
		for i, h := range batch {
			if err := ctx.Err(); i%64 == 0 && err != nil {
				return err
			}
			if err := s.add(context.WithoutCancel(ctx), h); err != nil {
				return err
			}
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.commits++
		for _, device := range devices {
			delete(s.held, device)
		}
		s.order = append([]string(nil), s.order[len(devices):]...)
		return nil
	}
	if !sqlitefile.NotBegun(ctx, err) {
		s.broken = fmt.Errorf("%w: %w; open the keys again", keystore.ErrBroken, err)
	}
	return err
}

func (s *Store) add(ctx context.Context, h held) error {
	var request, certificate any = h.rec.PEM(), nil
	if h.rec.Request == nil {
		request, certificate = nil, request
	}
	sum, err := h.rec.PublicKeySHA256()
	digest := hex.EncodeToString(sum[:])
	var key, checked any
	if err == nil && !h.rec.Key.IsZero() {
		var text []byte
		text, err = h.rec.Key.PEM()
		plain := string(text)
		clear(text)
		key, checked = plain, checksum(plain, digest)
	}
	if err == nil {
		_, err = s.insert.ExecContext(ctx, h.rec.Device, key, request, certificate, digest, checked, h.rec.Run,
			h.created.UTC().Format(sqlitefile.TimeFormat))
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", rule.Quote(h.rec.Device), err)
	}
	return nil
}

// checksum is that of a private key in PEM and the hexadecimal digest of its public key, which Put has checked to belong
// together. Computing the one from the other again takes as long as making a key.
func checksum(key, digest string) string {
	sum := sha256.Sum256([]byte(key + digest))
	return hex.EncodeToString(sum[:])
}

// Get implements [keystore.Store]. It checks that key and request or certificate are whole and belong together.
func (s *Store) Get(ctx context.Context, device string) (keystore.Record, error) {
	if err := ctx.Err(); err != nil {
		return keystore.Record{}, err
	}
	if device == "" {
		return keystore.Record{}, fmt.Errorf("%w: it is empty", keystore.ErrName)
	}
	if _, err := s.db.Reader(); err != nil {
		return keystore.Record{}, s.fail(ctx, device, "reading its key", err)
	}
	// Asked before the file: a record leaves held only once it is in the file.
	s.mu.Lock()
	h, ok := s.held[device]
	absent, commits := s.absent[device], s.commits
	s.mu.Unlock()
	switch {
	case ok:
		return h.rec, nil
	case absent:
		return keystore.Record{}, s.notFound(device)
	}
	var key, request, certificate sql.NullString
	var digest, run string
	err := s.get.QueryRowContext(context.WithoutCancel(ctx), device).Scan(&key, &request, &certificate, &digest, &run)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		s.noteAbsent(device, commits)
		return keystore.Record{}, s.notFound(device)
	case err != nil:
		return keystore.Record{}, s.fail(ctx, device, "reading its key", err)
	}
	rec, err := parse(device, key, request, certificate, digest)
	if err == nil {
		rec.Run = run
	}
	return rec, s.fail(ctx, device, "reading its key", err)
}

func (s *Store) notFound(device string) error {
	return fmt.Errorf("device %s: %w in %s", rule.Quote(device), keystore.ErrNotFound, s.db.Path())
}

// noteAbsent notes that the file has no record of a device, so that those who ask next, before they put one, need not look
// there again: nobody else writes to it. commits is what it was before the file was asked.
func (s *Store) noteAbsent(device string, commits int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, put := s.held[device]
	if s.insert == nil || put || s.commits != commits {
		return
	}
	if len(s.absent) >= maxHeld {
		clear(s.absent)
	}
	s.absent[device] = true
}

// Verify implements [keystore.Store]. It reads the file, not what waits for a Sync.
func (s *Store) Verify(ctx context.Context, device string, publicKeySHA256 [32]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if device == "" {
		return fmt.Errorf("%w: it is empty", keystore.ErrName)
	}
	if _, err := s.db.Reader(); err != nil {
		return s.fail(ctx, device, "reading its key", err)
	}
	var text, checked sql.NullString
	var digest string
	err := s.key.QueryRowContext(context.WithoutCancel(ctx), device).Scan(&text, &digest, &checked)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return s.notFound(device)
	case err != nil:
		return s.fail(ctx, device, "reading its key", err)
	}
	if text.Valid && checked.String != checksum(text.String, digest) { // not what Put wrote, and perhaps the key all the same
		key, err := csr.ParsePrivateKey([]byte(text.String))
		if err != nil {
			return s.fail(ctx, device, "reading its key", fmt.Errorf("%w: private_key_pem: %w", keystore.ErrDamaged, err))
		}
		sum, err := csr.PublicKeySHA256(key.Public())
		if err != nil {
			return s.fail(ctx, device, "reading its key", fmt.Errorf("%w: private_key_pem: %w", keystore.ErrDamaged, err))
		}
		digest = hex.EncodeToString(sum[:])
	}
	if digest != hex.EncodeToString(publicKeySHA256[:]) {
		return fmt.Errorf("device %s: %w is in %s than the one that its certificate was issued for",
			rule.Quote(device), keystore.ErrOtherKey, s.db.Path())
	}
	return nil
}

// parse makes a record of a row. Its errors hold nothing of the row.
func parse(device string, key, request, certificate sql.NullString, digest string) (rec keystore.Record, err error) {
	none := keystore.Record{}
	rec.Device = device
	column, text := "csr_pem", request.String
	if certificate.Valid {
		column, text = "certificate_pem", certificate.String
	}
	if key.Valid {
		if rec.Key, err = csr.ParsePrivateKey([]byte(key.String)); err != nil {
			return none, fmt.Errorf("%w: private_key_pem: %w", keystore.ErrDamaged, err)
		}
	}
	if err := rec.SetPEM([]byte(text)); err != nil {
		return none, fmt.Errorf("%s: %w", column, err)
	}
	sum, err := rec.PublicKeySHA256()
	if err != nil || subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(digest)) != 1 {
		return none, fmt.Errorf("%w: public_key_sha256 is not that of %s", keystore.ErrDamaged, column)
	}
	return rec, nil
}

// fail wraps an error with the device and the file.
func (s *Store) fail(ctx context.Context, device, doing string, err error) error {
	if err == nil {
		return nil
	}
	return s.db.Fail(ctx, doing, fmt.Errorf("device %s: %w", rule.Quote(device), err))
}

// pageRows is how many names Devices reads at once.
const pageRows = 512

// Devices lists the devices in the order they were put. It commits first what was put and not synced. It reads a page
// of names at a time, and holds neither a lock nor a read transaction while the caller works. The error ends it.
func (s *Store) Devices(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if s.insert != nil {
			if err := s.Sync(ctx); err != nil && !errors.Is(err, keystore.ErrBroken) {
				yield("", err)
				return
			}
		}
		for last := int64(0); ; {
			names, err := s.page(ctx, &last)
			for _, name := range names {
				if err := ctx.Err(); err != nil {
					yield("", s.db.Fail(ctx, "listing devices", err))
					return
				}
				if !yield(name, nil) {
					return
				}
			}
			if err != nil {
				yield("", s.db.Fail(ctx, "listing devices", err))
				return
			}
			if len(names) < pageRows {
				return
			}
		}
	}
}

// page reads the names behind a position, and moves it on.
func (s *Store) page(ctx context.Context, last *int64) (names []string, err error) {
	db, err := s.db.Reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT position, device FROM keys WHERE position > ? ORDER BY position LIMIT ?", *last, pageRows)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Err(), rows.Close()) }()
	for rows.Next() {
		var name string
		if err := rows.Scan(last, &name); err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}
