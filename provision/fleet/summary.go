package fleet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// Summary is a fleet in numbers.
type Summary struct {
	// Summary has the numbers of all sites together. Total counts every record of the input, and every device that was
	// registered by itself. Failed and Causes count the refused too; Pending those of which nothing is known because a site
	// could not be asked. RunID is that of the fleet. Tasks has one site's after the other's. Fake is true if no real
	// certificate came from at least one site. OrphansLooked is the earliest of the sites that have devices, and zero if
	// that of one is; OrphansError is or joins a [*SiteError] for each site whose look failed.
	provision.Summary
	Refused int64 // of the failed: no site took them
	// Sites holds the summary of every site by its name.
	Sites map[string]*provision.Summary
}

// String returns the counts in one line.
func (s *Summary) String() string { return fmt.Sprintf("%s (%d sites)", &s.Summary, len(s.Sites)) }

// SiteError is what kept one site from provisioning all of its devices. It wraps what the site's run returned, such as
// a [*provision.IncompleteError].
type SiteError struct {
	Site string
	Err  error
}

// Error names the site.
func (e *SiteError) Error() string { return fmt.Sprintf("site %q: %v", e.Site, e.Err) }

// Unwrap returns the error of the site's run.
func (e *SiteError) Unwrap() error { return e.Err }

// Error is the error of a fleet of which not every device is provisioned. errors.Is and errors.As look into all of its
// parts: a [*SiteError] is the first of Sites, and [provision.ErrIncomplete] is found when devices were refused or a
// site ended without all of its devices.
type Error struct {
	Summary *Summary
	// Sites holds the sites that did not provision all of their devices, in order of name.
	Sites []*SiteError
	// Input is what was wrong with the input as a whole; no site has sent anything in this call then.
	Input error

	missing int64 // records of the input that no ledger has
}

// Error returns the counts, and what each site met.
func (e *Error) Error() string {
	parts := []string{e.Summary.String()}
	if e.Summary.Total == 0 && e.Input == nil {
		parts = []string{"the input held no device"}
	}
	if e.Input != nil {
		parts = []string{e.Input.Error(), "of the run so far: " + e.Summary.String()}
	}
	if e.Summary.Refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused by the fleet, before any site", e.Summary.Refused))
	}
	for _, s := range e.Sites {
		parts = append(parts, s.Error())
	}
	if e.missing > 0 {
		parts = append(parts, fmt.Sprintf("%s yet to reach their site; give the devices to Run again", rule.Count(e.missing, "device")))
	}
	return strings.Join(parts, "; ")
}

// Unwrap returns all parts.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Input != nil {
		errs = append(errs, e.Input)
	}
	for _, s := range e.Sites {
		errs = append(errs, s)
	}
	if e.Input == nil && e.missing == 0 && (e.Summary.Refused > 0 || len(e.Sites) == 0) {
		errs = append(errs, provision.ErrIncomplete)
	}
	return errs
}

// conclude makes the summary of a call from those of the sites, and the error.
func (c *call) conclude(ctx context.Context) (*Summary, error) {
	ctx = context.WithoutCancel(ctx) // what was done is told, whatever ended the call
	f := c.fleet
	sum := &Summary{Sites: make(map[string]*provision.Summary, len(f.sites))}
	sum.RunID, sum.Causes = f.record.ID, map[provision.Cause]int64{}
	failed := &Error{Summary: sum, Input: c.input}
	held, complete := int64(0), true // records of the input that the sites have, and whether these are all
	for i, s := range f.sites {
		summary := c.summaries[i]
		if summary == nil {
			summary = s.counts(ctx)
		}
		if c.given != nil && c.given[i] > summary.Total { // it has not taken all that is its
			summary.Pending += c.given[i] - summary.Total
			summary.Total = c.given[i]
		}
		sum.add(s.name, summary)
		n, whole := s.input(ctx, summary)
		held, complete = held+n, complete && whole
		err := c.errs[i]
		if err != nil && (isEmpty(err) || isInput(err)) {
			err = nil
		}
		if c.twice[i] != nil {
			err = errors.Join(err, c.twice[i])
		}
		if err != nil {
			failed.Sites = append(failed.Sites, &SiteError{Site: s.name, Err: err})
		}
	}
	refused, err := f.ledger.Counts(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the fleet's ledger: %w", err), failed)
	}
	sum.Refused = refused.Verdicts[provision.Failed] // the others were mended, and are at a site
	sum.Total += sum.Refused
	sum.Failed += sum.Refused
	for cause, n := range refused.Causes {
		sum.Causes[cause] += n
	}
	if missing := f.record.Input - held - refused.Total(); f.record.Spooled && !complete && missing > 0 { // a site has never taken them
		sum.Total += missing
		sum.Pending += missing
		failed.missing = missing
	}
	sum.Took = time.Since(c.began)
	if c.input == nil && len(failed.Sites) == 0 && sum.Total > 0 && sum.Provisioned == sum.Total {
		return sum, nil
	}
	return sum, failed
}

func (s *Summary) add(site string, of *provision.Summary) {
	s.Sites[site] = of
	if of.Total > 0 && (s.Total == 0 || of.OrphansLooked.Before(s.OrphansLooked)) {
		s.OrphansLooked = of.OrphansLooked
	}
	s.Total += of.Total
	s.Provisioned += of.Provisioned
	s.Issued += of.Issued
	s.NoKey += of.NoKey
	s.Failed += of.Failed
	s.Unknown += of.Unknown
	s.Removed += of.Removed
	s.Removing += of.Removing
	s.Pending += of.Pending
	s.Orphans += of.Orphans
	s.NotLooked += of.NotLooked
	s.Replaced += of.Replaced
	s.NotReplaced += of.NotReplaced
	s.Meanwhile += of.Meanwhile
	s.Tasks = append(s.Tasks, of.Tasks...)
	for _, text := range of.Discrepancies {
		s.Discrepancies = append(s.Discrepancies, fmt.Sprintf("site %q: %s", site, text))
	}
	s.Fake = s.Fake || of.Fake
	if of.OrphansError != nil {
		err := &SiteError{Site: site, Err: of.OrphansError}
		if s.OrphansError == nil {
			s.OrphansError = err
		} else {
			s.OrphansError = fmt.Errorf("%w; %w", s.OrphansError, err)
		}
	}
	for cause, n := range of.Causes {
		s.Causes[cause] += n
	}
}

// isEmpty reports whether a site only had no device, which is nothing wrong with one site of several.
func isEmpty(err error) bool {
	e, ok := errors.AsType[*provision.IncompleteError](err)
	return ok && e.Summary.Total == 0
}

// isInput reports whether a site only met what was wrong with the whole input.
func isInput(err error) bool {
	_, ok := errors.AsType[*inputError](err)
	return ok
}

// counts is the summary of a site whose run returned none, as far as its ledger holds it.
func (s *site) counts(ctx context.Context) *provision.Summary {
	sum, err := s.run.Summary(ctx)
	if err != nil { // it was never begun, or its ledger is what failed
		return &provision.Summary{Causes: map[provision.Cause]int64{}}
	}
	return sum
}

// input is how many records of the fleet's input a site has, and whether it has all of its own. Devices that were added
// to its run one by one are not among them.
func (s *site) input(ctx context.Context, sum *provision.Summary) (n int64, whole bool) {
	record, err := s.record(ctx)
	switch {
	case err != nil:
		return sum.Total, false
	case record.Spooled:
		return record.Input, true
	}
	return sum.Total - record.Ahead, false
}

// Result is one device of a fleet and what became of it.
type Result struct {
	// Site is the name of the device's site; empty when no site took it.
	Site string
	// Result has the device's verdict. Seq is its place among the devices of its site, or among the refused.
	provision.Result
}

// Results yields every device with its verdict: site after site in order of name, each in the order of the input, then
// those that no site took. The error is terminal and last; a site whose ledger can't be read does not keep the others'
// devices back.
func (f *Fleet) Results(ctx context.Context) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		var errs []error
		for _, s := range f.sites {
			for r, err := range s.run.Results(ctx) {
				if err != nil {
					errs = append(errs, &SiteError{Site: s.name, Err: err})
				} else if !yield(&Result{Site: s.name, Result: *r}, nil) {
					return
				}
			}
		}
		for d, err := range f.ledger.Devices(ctx, provision.DeviceFilter{Verdicts: []provision.Verdict{provision.Failed}}) {
			if err != nil {
				errs = append(errs, fmt.Errorf("the fleet's ledger: %w", err))
			} else if !yield(&Result{Result: d.Result}, nil) {
				return
			}
		}
		if err := errors.Join(errs...); err != nil {
			yield(nil, err)
		}
	}
}

// Manifests returns the manifest of every site by its name, as the ledgers have them now. A site whose run was never
// begun is left out.
func (f *Fleet) Manifests(ctx context.Context) (map[string]*provision.Manifest, error) {
	records := make(map[string]*provision.Manifest, len(f.sites))
	var errs []error
	for _, s := range f.sites {
		b, err := s.run.Manifest(ctx)
		switch {
		case err == nil:
			records[s.name] = b
		case !errors.Is(err, provision.ErrNoRun):
			errs = append(errs, &SiteError{Site: s.name, Err: err})
		}
	}
	return records, errors.Join(errs...)
}
