package provision

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// session is what the stages of one call share: the ledger with the run's record, where the backend works, and how
// events and [Run.Stop] get through.
type session struct {
	ledger  Ledger
	backend task.Backend
	observe func(Event)
	stop    *stopper

	record   *RunRecord // as the ledger has it
	replaced bool       // the input is another one than the ledger had before this call
	resumed  bool       // the ledger knew the run already: an earlier call, or an earlier process, has begun it
	endpoint string     // where devices connect to; empty if the backend can't tell
	rootCA   string     // in PEM, what devices trust there; empty if the backend can't tell
}

// openRecord makes the run's record, or checks the one that is there, without asking the backend.
func (s *session) openRecord(ctx context.Context, templateSHA256, roleARN string) error {
	record, err := s.ledger.Run(ctx)
	s.resumed = err == nil
	if errors.Is(err, ErrNoRun) {
		now := time.Now()
		record = &RunRecord{ID: newRunID(now), Created: now, TemplateSHA256: templateSHA256, RoleARN: roleARN}
		err = s.ledger.Apply(ctx, Change{Run: record})
	}
	if err != nil {
		return err
	}
	if record.TemplateSHA256 != templateSHA256 {
		return fmt.Errorf("%w: it was started with another template (SHA-256 %.12s…, this one has %.12s…); give it that one, or begin a new run with a ledger of its own",
			ErrElsewhere, record.TemplateSHA256, templateSHA256)
	}
	s.record = record
	return nil
}

// locate finds out where the backend works: a run belongs to one account, region and partition, and never moves.
func (s *session) locate(ctx context.Context) error {
	var identity task.Identity
	if who, ok := task.As[task.Identifier](s.backend); ok {
		err := retry(ctx, func() error {
			id, err := who.Identity(ctx)
			if err == nil {
				identity = *id
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("asking which account this is: %w", err)
		}
	}
	if s.record.Identity == (task.Identity{}) && identity != (task.Identity{}) { // new, or prepared without a network
		s.record.Identity = identity
		if err := s.ledger.Apply(ctx, Change{Run: s.record}); err != nil {
			return err
		}
	}
	if s.record.Identity != identity {
		return fmt.Errorf("%w: it was started in %s, the backend is %s", ErrElsewhere, where(s.record.Identity), where(identity))
	}
	if e, ok := task.As[task.Endpointer](s.backend); ok {
		ask := func() (err error) {
			s.endpoint, err = e.DataEndpoint(ctx)
			return err
		}
		err := retry(ctx, ask)
		if err == nil && checkHost(s.endpoint) != nil { // it is written beside every key
			if err = retry(ctx, ask); err == nil {
				err = checkHost(s.endpoint)
			}
		}
		if err != nil {
			return fmt.Errorf("asking for the endpoint devices connect to: %w", err)
		}
	}
	if lister, ok := task.As[task.RootLister](s.backend); ok && s.endpoint != "" {
		err := retry(ctx, func() error {
			roots, err := lister.RootCAs(ctx, s.endpoint)
			s.rootCA = string(roots)
			return err
		})
		if err == nil && s.rootCA != "" {
			err = rule.CheckRoots([]byte(s.rootCA))
		}
		if err != nil {
			return fmt.Errorf("asking for the root certificates devices trust: %w", err)
		}
	}
	return nil
}

// identity is where the run works; zero in a dry run, which has no record.
func (s *session) identity() task.Identity {
	if s.record == nil {
		return task.Identity{}
	}
	return s.record.Identity
}

func where(id task.Identity) string {
	kind := "AWS"
	if id.Fake {
		kind = "the fake"
	}
	return fmt.Sprintf("%s, account %s, region %s, partition %s", kind, id.Account, id.Region, id.Partition)
}

// newRunID returns an id that sorts by time and is safe in file names and S3 keys.
func newRunID(now time.Time) string {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return now.UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}

// stopped reports whether Stop was called.
func (s *session) stopped() bool { return s.stop.stopped() }

// reopen adds to a change that the run is not over any more.
func (s *session) reopen(change *Change) {
	if !s.record.Finished.IsZero() {
		s.record.Finished = time.Time{}
		change.Run = s.record
	}
}

// sends adds to a change that something is about to be sent, which may leave certificates that nobody has looked for.
func (s *session) sends(change *Change) {
	if !s.record.OrphansLooked.IsZero() {
		s.record.OrphansLooked = time.Time{}
		change.Run = s.record
	}
}

// device returns one device of the run.
func (s *session) device(ctx context.Context, seq int64) (*DeviceRecord, error) {
	for d, err := range s.ledger.Devices(ctx, DeviceFilter{AfterSeq: seq - 1, Limit: 1}) {
		if err != nil || d.Seq == seq {
			return d, err
		}
	}
	return nil, fmt.Errorf("the ledger has no device number %d", seq)
}

// named yields the devices of a name; none if it is empty, which a filter takes for any name.
func (s *session) named(ctx context.Context, name string) iter.Seq2[*DeviceRecord, error] {
	if name == "" {
		return func(func(*DeviceRecord, error) bool) {}
	}
	return s.ledger.Devices(ctx, DeviceFilter{Name: name})
}

// orphan records a certificate that was made for a device and that the device will not use.
func (s *session) orphan(ctx context.Context, d *DeviceRecord, id, arn, why string) error {
	o := &Orphan{CertificateID: id, CertificateARN: arn, Seq: d.Seq, Name: d.Name, Why: why, Found: time.Now()}
	return s.ledger.Apply(ctx, Change{Orphans: []*Orphan{o}})
}
