package fleet

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// ErrSameAccount is the error of a site whose backend works in the account and region of another site's.
var ErrSameAccount = errors.New("two sites work in one account and region")

// Options describe a fleet. Route and Sites are required.
type Options struct {
	// Route decides which site a device belongs to.
	Route Route
	// Sites are the backends by name, each with all that a run of its own needs. Credentials, keystores and outputs that
	// several sites share must be safe for concurrent use. Ledgers and folders for part files can't be shared.
	Sites map[string]provision.Options
	// Ledger keeps which devices no site took, and how many devices the input had. It is required when the sites have
	// ledgers, and then it has to last as long as theirs. Nil makes a memory ledger.
	Ledger provision.Ledger
	// TakeTurns lets several sites work in one account and region, as for two products with a template each. AWS runs one
	// registration task there at a time, so such sites take turns, and together they are no faster than one. Each must
	// then have the Foreign option WaitForForeign. Without TakeTurns such a site is refused with [ErrSameAccount].
	TakeTurns bool
	// SpoolDir is the folder for temporary files, which hold what a site has not taken yet of the input. Empty is the
	// system's own. They hold rows, no private keys, and are at most as large as the input.
	SpoolDir string
	// Observe receives the events of all sites, one at a time. It must return quickly. A site's own Observe is called
	// before it.
	Observe func(site string, e provision.Event)
}

// Fleet is one run over one list of devices on several backends. It has the methods of [provision.Run], each for all of
// its sites. Results, Manifests, WriteFailures and Stop may be called at any time; of the other methods one at a time.
//
// While a Fleet is in use, its sites' ledgers are its own: a device that another Run registers at a site is not known to
// the others.
type Fleet struct {
	opts   Options
	sites  []*site // in order of name
	ledger provision.Ledger
	record *provision.RunRecord

	reading    *firsts // names of the input that is being read, or was in this call, with their site; see router
	keys       firsts  // public keys that were given with the devices, with their site
	keysKnown  bool    // those in the ledgers are among them
	identities claims

	observing sync.Mutex
	calling   sync.Mutex // guards busy and site.active
	busy      bool       // Run, Retry or Reconcile is in progress
}

// site is one backend with its run.
type site struct {
	name    string
	index   int
	backend task.Backend
	run     *provision.Run
	ledger  provision.Ledger // of its run
	program *template.Program
	fills   []string
	step    *step // nil if its step makes a key for each device
	active  bool  // a call of its run is in progress or about to be
}

// New checks the options, of the fleet and of each site, and makes a Fleet. It talks to nobody yet.
func New(opts Options) (*Fleet, error) {
	if !opts.Route.valid() {
		return nil, errors.New("fleet: Options.Route is missing; ByColumn or ByFunc makes one")
	}
	if len(opts.Sites) == 0 {
		return nil, errors.New("fleet: Options.Sites is empty")
	}
	f := &Fleet{opts: opts, ledger: opts.Ledger}
	names := slices.Sorted(maps.Keys(opts.Sites))
	if err := f.checkTogether(names); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if f.ledger == nil {
		f.ledger = provision.NewMemoryLedger()
	}
	var errs []error
	for i, name := range names {
		s, err := f.newSite(name, i, opts.Sites[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("fleet: site %q: %w", name, err))
		}
		f.sites = append(f.sites, s)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Fleet) newSite(name string, index int, opts provision.Options) (*site, error) {
	if _, err := provision.New(opts); err != nil { // as they were given, so that errors speak of them
		return nil, err
	}
	program, err := opts.Template.Compile(template.CompileOptions{Kind: template.Bulk})
	if err != nil {
		return nil, err
	}
	opts.Credential = provision.ForTemplate(opts.Credential, opts.Template)
	s := &site{name: name, index: index, program: program, fills: opts.Credential.Fills()}
	if !f.opts.TakeTurns {
		opts.Backend = f.identities.watch(name, opts.Backend)
	}
	s.backend, opts.Credential = opts.Backend, f.watch(s, opts.Credential)
	if own := opts.Observe; own != nil || f.opts.Observe != nil {
		opts.Observe = func(e provision.Event) {
			if own != nil {
				own(e)
			}
			f.observe(name, e)
		}
	}
	if s.run, err = provision.New(opts); err != nil {
		return nil, err
	}
	s.ledger = s.run.Ledger()
	return s, nil
}

func (f *Fleet) observe(site string, e provision.Event) {
	if f.opts.Observe == nil {
		return
	}
	f.observing.Lock()
	defer f.observing.Unlock()
	f.opts.Observe(site, e)
}

// checkTogether refuses sites that would get into each other's way.
func (f *Fleet) checkTogether(names []string) error {
	given := 0
	for i, name := range names {
		if name == "" {
			return errors.New("a site has an empty name")
		}
		a := f.opts.Sites[name]
		if a.Ledger != nil {
			given++
		}
		if same(a.Ledger, f.opts.Ledger) {
			return fmt.Errorf("site %q has the fleet's own ledger; each needs one of its own", name)
		}
		if f.opts.TakeTurns && a.Foreign == provision.FailOnForeign {
			return fmt.Errorf("site %q has the option FailOnForeign, and sites that take turns have to wait for each other", name)
		}
		for _, earlier := range names[:i] {
			b := f.opts.Sites[earlier]
			switch {
			case same(a.Ledger, b.Ledger):
				return fmt.Errorf("sites %q and %q have the same ledger; each needs one of its own", earlier, name)
			case sameFolder(a.PartDir, b.PartDir):
				return fmt.Errorf("sites %q and %q have the same PartDir; each needs a folder of its own", earlier, name)
			case same(a.Backend, b.Backend) && !f.opts.TakeTurns:
				return fmt.Errorf("sites %q and %q: %w: they have the same backend; Options.TakeTurns allows it", earlier, name, ErrSameAccount)
			}
		}
	}
	switch {
	case given > 0 && given < len(names):
		return fmt.Errorf("%d of %d sites have a ledger; either all can be resumed or none", given, len(names))
	case given > 0 && f.opts.Ledger == nil:
		return errors.New("Options.Ledger is missing; sites that can be resumed need the fleet's own ledger beside theirs")
	case given == 0 && f.opts.Ledger != nil:
		return errors.New("the fleet has a ledger and its sites have none; either all can be resumed or none")
	}
	return nil
}

// same reports whether two interface values are one and the same thing.
func same(a, b any) bool {
	return a != nil && b != nil && reflect.TypeOf(a) == reflect.TypeOf(b) && reflect.TypeOf(a).Comparable() && a == b
}

func sameFolder(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	return errA == nil && errB == nil && absA == absB
}

// thingName is the name by which the site's run will know a device; empty if its row does not show it.
func (s *site) thingName(given string, row map[string]string) string {
	if given != "" {
		return given
	}
	if len(s.fills) > 0 { // what the credential step will fill is not there yet
		full := make(map[string]string, len(row)+len(s.fills))
		maps.Copy(full, row)
		row = full
		for _, name := range s.fills {
			if row[name] == "" {
				row[name] = "-"
			}
		}
	}
	res, err := s.program.Resolve(row)
	if err != nil || len(res.Things) != 1 {
		return ""
	}
	return res.Things[0].ThingName
}

// Stop asks a Run, Retry or Amend in progress to end at every site, and returns at once; see [provision.Run.Stop]. It may be
// called from any goroutine, more than once. Sites that are done in this call are not touched. Without a call in
// progress it makes the next one end before any site begins a part.
func (f *Fleet) Stop(mode provision.StopMode) {
	f.calling.Lock()
	defer f.calling.Unlock()
	for _, s := range f.sites {
		if s.active || !f.busy {
			s.run.Stop(mode)
		}
	}
}

// begin marks every site as working; each calls ended when it is done.
func (f *Fleet) begin() (end func()) {
	f.calling.Lock()
	defer f.calling.Unlock()
	f.busy = true
	for _, s := range f.sites {
		s.active = true
	}
	return func() {
		f.calling.Lock()
		defer f.calling.Unlock()
		f.busy = false
	}
}

func (f *Fleet) ended(s *site) {
	f.calling.Lock()
	defer f.calling.Unlock()
	s.active = false
}
