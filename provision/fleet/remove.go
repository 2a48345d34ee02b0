package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// Remove undoes the registration of devices at the sites that are named, or at every site if none is, and returns the
// report of each by the site's name; see [provision.Run.Remove]. RemoveOptions.Rate is that of each site. Choose is called
// by one site at a time.
//
// RemoveOptions.Names may be of devices of several sites. A name that no site has sent, and one that two sites have, is an
// error before anything is removed; name the site then. While the ledger of a site can't be read, the devices of the others
// are removed all the same.
//
// A device that was removed no longer holds its name for its site: another site can register it, and its site can make it
// again only while no other has it.
//
// The error joins a [*SiteError] for each site that failed; what the others did is in their reports. An interrupted call
// goes on when it is made again. Sites without a run are passed over, and a fleet without any returns [provision.ErrNoRun].
func (f *Fleet) Remove(ctx context.Context, opts provision.RemoveOptions, sites ...string) (map[string]*provision.RemoveReport, error) {
	for _, name := range sites {
		if _, ok := f.opts.Sites[name]; !ok {
			return nil, fmt.Errorf("there is no site %q; the sites are %s", name, f.siteNames())
		}
	}
	rm := &remover{fleet: f, opts: opts, at: sites, names: make([][]string, len(f.sites)), errs: make([]error, len(f.sites))}
	if err := rm.splitNames(ctx); err != nil {
		return nil, err
	}
	if choose := opts.Choose; choose != nil {
		var turn sync.Mutex
		rm.opts.Choose = func(r *provision.Result) bool {
			turn.Lock()
			defer turn.Unlock()
			return choose(r)
		}
	}
	defer func() { f.keysKnown = false; f.keys.forget() }() // those of removed devices can go to another site
	done, err := gather(ctx, f, rm.site)
	reports := map[string]*provision.RemoveReport{}
	for i, report := range done {
		if report != nil {
			reports[f.sites[i].name] = report
		}
	}
	return reports, err
}

// remover is one call of Remove.
type remover struct {
	fleet *Fleet
	opts  provision.RemoveOptions
	at    []string   // the sites to remove from; none for all
	names [][]string // by site, those of the names that it has
	errs  []error    // by site, why its names can't be looked up
}

// site removes the devices of one site.
func (rm *remover) site(ctx context.Context, s *site) (*provision.RemoveReport, error) {
	opts := rm.opts
	opts.Names = rm.names[s.index]
	switch {
	case rm.errs[s.index] != nil:
		return nil, rm.errs[s.index]
	case !rm.takes(s), len(rm.opts.Names) > 0 && len(opts.Names) == 0:
		return nil, provision.ErrNoRun // it is passed over
	}
	return s.run.Remove(ctx, opts)
}

func (rm *remover) takes(s *site) bool { return len(rm.at) == 0 || slices.Contains(rm.at, s.name) }

// splitNames finds out which site each name is to be removed from.
func (rm *remover) splitNames(ctx context.Context) error {
	if len(rm.opts.Names) == 0 {
		return nil
	}
	unread := false
	holders := map[string][]*site{}
	for _, s := range rm.fleet.sites {
		if !rm.takes(s) {
			continue
		}
		found, err := s.ledger.FindNames(ctx, rm.opts.Names)
		if err != nil {
			rm.errs[s.index], unread = fmt.Errorf("looking for the devices in its ledger: %w", err), true
			continue
		}
		rm.names[s.index] = slices.Sorted(maps.Keys(found))
		for name := range found {
			holders[name] = append(holders[name], s)
		}
	}
	for _, name := range rm.opts.Names {
		has := holders[name]
		if len(has) == 0 && !unread {
			return fmt.Errorf("no site has sent a device %q%s; nothing was removed", name, rm.place())
		}
		if len(has) < 2 {
			continue
		}
		var still []string // a site where it is Removed does not count
		for _, s := range has {
			holds, err := s.has(ctx, name, false)
			if err != nil {
				return &SiteError{Site: s.name, Err: err}
			}
			if holds {
				still = append(still, fmt.Sprintf("%q", s.name))
			}
		}
		if len(still) > 1 {
			return fmt.Errorf("device %q is at sites %s: name the one that it is to be removed from; nothing was removed", name, strings.Join(still, ", "))
		}
	}
	return nil
}

// place names the sites that were asked, if not all were.
func (rm *remover) place() string {
	if len(rm.at) == 0 {
		return ""
	}
	return " at " + strings.Join(rm.at, ", ")
}
