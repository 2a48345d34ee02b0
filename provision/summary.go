package provision

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Summary is a run in numbers. Total is the sum of the other counts.
type Summary struct {
	RunID       string
	Total       int64
	Provisioned int64
	Issued      int64 // they have their keys and certificates, and are registered when they first connect
	NoKey       int64 // registered, and their private keys are not in the key store
	Failed      int64
	Unknown     int64
	Removed     int64           // undone by Remove
	Removing    int64           // their removal was interrupted; call Remove again
	Pending     int64           // waiting or submitted: the run is not over
	Causes      map[Cause]int64 // of the failed
	Tasks       []task.ID       // in the order of the parts
	// Discrepancies are what was wrong with the counts or the reports of tasks, a text for each such task. Devices that had
	// no verdict for that reason were read back, if the backend can do that.
	Discrepancies []string
	// Orphans are the certificates known to be of this run that no device uses and that were not removed. The account was
	// looked through for them at OrphansLooked; zero means that nobody has looked since something was sent, so that there
	// may be more. A run with devices that were sent and failed looks by itself at its end. OrphansError is why that look, or
	// that for Meanwhile, failed, which changes nothing else of the result. See FindOrphans, which looks once more.
	Orphans       int
	OrphansLooked time.Time
	OrphansError  error
	NotLooked     int64 // devices that were sent in parts for which the account was not looked at; see Existing
	// Replaced are the older certificates of provisioned devices that were taken out of service, see ReplaceExisting.
	Replaced int64
	// NotReplaced are provisioned devices that were sent with ReplaceExisting and whose older certificates are still in
	// service, because the call was interrupted, or the service refused to give one up. Call it again with ReplaceExisting;
	// AddToExisting leaves them for good. With any other Existing the run is not complete (IncompleteError).
	NotReplaced int64
	// Meanwhile are devices whose thing has, beside the device's own, an ACTIVE certificate that somebody else has put on it
	// while the run was under way: after the account was looked at for them, so that no Existing could decide. A run that has
	// started tasks looks for such certificates at its end, among those that were made since it began, and [Result].Existing
	// names them. The run does not remove them: it can't tell which of the two the device carries, and of two runs that
	// replaced each other's none would be left. With AddToExisting, or UncheckedExisting, which does not look, they are
	// accepted; otherwise the run is not complete (IncompleteError) until one of the two is taken off the thing, and it is
	// called again. Devices that are registered one by one are looked at by [Run.FindOrphans].
	Meanwhile int64
	Fake      bool          // no real certificate came from this run
	Took      time.Duration // of this call of Run
}

// String returns the counts in one line.
func (s *Summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %s provisioned", s.Provisioned, rule.Count(s.Total, "device"))
	for _, c := range []struct {
		n    int64
		what string
	}{{s.Issued, "issued: each registers at its first connection"}, {s.NoKey, "without their private key"}, {s.Failed, "failed"}, {s.Unknown, "unknown"}, {s.Removed, "removed"}, {s.Removing, "being removed"}, {s.Pending, "pending"}} {
		if c.n > 0 {
			fmt.Fprintf(&b, ", %d %s", c.n, c.what)
		}
	}
	for i, cause := range slices.Sorted(maps.Keys(s.Causes)) {
		sep := ", "
		if i == 0 {
			sep = "; causes: "
		}
		fmt.Fprintf(&b, "%s%s %d", sep, cause, s.Causes[cause])
	}
	if s.NotLooked > 0 {
		fmt.Fprintf(&b, "; %s sent without looking for an older certificate", rule.Count(s.NotLooked, "device"))
	}
	if s.Replaced > 0 {
		fmt.Fprintf(&b, "; %s replaced", rule.Count(s.Replaced, "older certificate"))
	}
	if s.NotReplaced > 0 {
		fmt.Fprintf(&b, "; %s with the certificate, too, that was to be replaced", rule.Count(s.NotReplaced, "device"))
	}
	if s.Meanwhile > 0 {
		fmt.Fprintf(&b, "; %s with another ACTIVE certificate, which somebody else has registered meanwhile", rule.Count(s.Meanwhile, "device"))
	}
	if n := len(s.Discrepancies); n > 0 {
		fmt.Fprintf(&b, "; %s whose reports or counts were wrong, the first: %s", rule.Count(n, "task"), s.Discrepancies[0])
	}
	if s.Orphans > 0 {
		fmt.Fprintf(&b, "; %s that no device uses", rule.Count(s.Orphans, "certificate"))
	}
	if s.OrphansError != nil {
		fmt.Fprintf(&b, "; looking through the certificates that were made since it began failed: %v", s.OrphansError)
	}
	return b.String()
}

// IncompleteError is the error of a run that is over without every device being provisioned, each with the one certificate
// that it should have. It wraps [ErrIncomplete].
type IncompleteError struct {
	Summary *Summary
}

// Error returns the counts and the causes.
func (e *IncompleteError) Error() string {
	if e.Summary.Total == 0 {
		return "the input held no device"
	}
	return e.Summary.String()
}

// Unwrap returns ErrIncomplete.
func (e *IncompleteError) Unwrap() error { return ErrIncomplete }

// Summary returns the run in numbers as the ledger has it now, without Took. It asks nobody and looks for nothing. A ledger
// without a run returns ErrNoRun.
func (r *Run) Summary(ctx context.Context) (*Summary, error) {
	record, err := r.ledger.Run(ctx)
	if err != nil {
		return nil, err
	}
	of := &session{ledger: r.ledger, record: record}
	s, err := of.summary(ctx)
	if err != nil {
		return nil, err
	}
	sum, _, err := (&replacer{session: of}).all(ctx) // which only counts, with no Existing
	s.Replaced, s.NotReplaced, s.Meanwhile = sum.certificates, sum.still, sum.meanwhile
	return s, err
}

// summary counts the devices of the run.
func (s *session) summary(ctx context.Context) (*Summary, error) {
	counts, err := s.ledger.Counts(ctx)
	if err != nil {
		return nil, err
	}
	parts, err := s.ledger.Parts(ctx)
	if err != nil {
		return nil, err
	}
	sum := &Summary{
		RunID: s.record.ID, Total: counts.Total(), Causes: counts.Causes, Fake: s.record.Identity.Fake,
		Provisioned: counts.Verdicts[Provisioned], NoKey: counts.Verdicts[NoKey], Failed: counts.Verdicts[Failed], Unknown: counts.Verdicts[Unknown],
		Issued: counts.Verdicts[Issued], Removed: counts.Verdicts[Removed], Removing: counts.Verdicts[Removing],
	}
	sum.Pending = sum.Total - sum.Provisioned - sum.Issued - sum.NoKey - sum.Failed - sum.Unknown - sum.Removed - sum.Removing
	if err := sum.countOrphans(ctx, s); err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.TaskID != "" {
			sum.Tasks = append(sum.Tasks, p.TaskID)
		}
		sum.NotLooked += p.unlooked()
		if p.Discrepancy != "" {
			sum.Discrepancies = append(sum.Discrepancies, fmt.Sprintf("part %d, task %s: %s", p.Number, p.TaskID, p.Discrepancy))
		}
	}
	return sum, nil
}

// countOrphans takes what is known of the run's orphans.
func (s *Summary) countOrphans(ctx context.Context, of *session) (err error) {
	s.OrphansLooked = of.record.OrphansLooked
	s.Orphans, err = countOrphans(ctx, of.ledger)
	return err
}
