package fleet

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// CheckReport is what [Fleet.Check] found.
type CheckReport struct {
	Devices  int64    // records of the input
	Refused  int64    // of them, those that would be Failed without being sent: by their site, or by the fleet
	Refusals []Result // the first 100 of those that no site would take, without a site, then those of each site
	// Sites holds the report of every site by its name, with what it would create, what must exist there, and the
	// findings about its account, and which devices have certificates there already.
	Sites map[string]*provision.CheckReport
}

// OK reports whether every device would be sent, nothing was found that would make a task fail, and no device would be
// refused what its site's Options.May asks for.
func (c *CheckReport) OK() bool {
	for _, s := range c.Sites {
		if s.Findings.Err() != nil || !s.May.OK() {
			return false
		}
	}
	return c.Devices > 0 && c.Refused == 0
}

const checkRefusals = 100

func (c *CheckReport) refuse(results ...Result) {
	c.Refusals = append(c.Refusals, results[:min(len(results), checkRefusals-len(c.Refusals))]...)
}

// Check looks at every record, each as its site would, and at every account, and changes nothing: no key is made,
// nothing is sent, and no ledger is touched; see [provision.Run.Check]. Beyond that it finds what only the sites
// together can have: records without a site, names and public keys that two sites would get, requests and certificates
// of another site's devices, and two sites in one account and region.
//
// An error means that checking itself failed, at the sites that it joins as [*SiteError]; the report is of the others.
func (f *Fleet) Check(ctx context.Context, devices iter.Seq2[provision.Device, error]) (*CheckReport, error) {
	if devices == nil {
		return nil, errors.New("the devices are missing")
	}
	if record, err := f.ledger.Run(ctx); err == nil {
		if err := f.sameSites(record); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, provision.ErrNoRun) {
		return nil, fmt.Errorf("the fleet's ledger: %w", err)
	}
	report := &CheckReport{Sites: map[string]*provision.CheckReport{}}
	feeds := f.newFeeds()
	defer feeds.leave()
	r := router{fleet: f}
	err := r.all(ctx, devices, func(d provision.Device, to routed) error {
		if to.refused != nil {
			report.Refused++
			report.refuse(Result{Result: to.refused.result(report.Refused, d, to.name, r.n)})
		} else {
			feeds[to.site.index].put(to.device)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	feeds.close(nil)
	report.Devices = r.n
	c := &check{fleet: f, names: &r.seen}
	errs := make([]error, len(f.sites))
	for i, s := range f.sites {
		of, err := c.site(ctx, s, feeds[i].all(ctx))
		if errs[i] = err; err != nil {
			continue
		}
		report.Sites[s.name] = of
		report.Refused += of.Refused
		for _, refused := range of.Refusals {
			report.refuse(Result{Site: s.name, Result: refused})
		}
	}
	return report, f.joined(errs)
}

// check is what a Check knows of all sites. It looks at one after the other, so that it does not depend on chance which
// of two sites is to blame.
type check struct {
	fleet *Fleet
	names *firsts // of all records that have a site
	keys  firsts  // with the site that would have them
}

// site checks the devices of one site.
func (c *check) site(ctx context.Context, s *site, devices iter.Seq2[provision.Device, error]) (*provision.CheckReport, error) {
	if who, ok := task.As[task.Identifier](s.backend); ok {
		if _, err := who.Identity(ctx); err != nil {
			return nil, fmt.Errorf("asking which account this is: %w", err)
		}
	}
	if s.step != nil {
		s.step.check = c
		defer func() { s.step.check = nil }()
	}
	return s.run.Check(ctx, devices)
}

// refuse refuses a record of a site for what another site has. The site itself has found nothing wrong with it.
func (c *check) refuse(st *step, thing string, row map[string]string, m provision.Match) *refusal {
	for _, name := range st.otherNames(thing, row) {
		if other := c.fleet.routedTo(c.names, name); other != nil && other != st.site {
			return nameOfOther(name, other)
		}
	}
	if other := c.fleet.claim(&c.keys, st.site, m); other != nil {
		return sharedKey(other)
	}
	return nil
}
