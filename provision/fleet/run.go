package fleet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/panics"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// errNotSpooled is the error of a call that has to wait for the rest of the input.
var errNotSpooled = errors.New("the ledger does not hold the whole input yet; give the devices to Run again")

// Run provisions the devices, each at its site and all sites side by side: it starts the run, goes on with one that was
// interrupted, or confirms one that is finished. devices may be nil when the whole input is in the ledgers already;
// otherwise they must be those the run was started with, in the same order, and are compared. They are read once, in
// the goroutine that calls Run, and never wait for a site. No site sends anything before the input has ended.
//
// It returns nil only when every device of every site is Provisioned and none was refused. Otherwise the error is an
// [*Error] and the summary is returned with it. A site's failure costs the other sites nothing. What is wrong with the
// input itself (it ends in an error, or a device is at another site than before) is in Error.Input, and no site sends
// anything in that call.
func (f *Fleet) Run(ctx context.Context, devices iter.Seq2[provision.Device, error]) (*Summary, error) {
	began := time.Now()
	fresh, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	if devices == nil {
		return f.again(ctx, began, fresh, func(ctx context.Context, r *provision.Run) (*provision.Summary, error) {
			return r.Run(ctx, nil)
		})
	}
	names, broken := f.survey(ctx, fresh)
	feeds := make([]*feed, len(f.sites))
	for i := range feeds {
		feeds[i] = newFeed(f.opts.SpoolDir)
	}
	closeAll := func(err error) {
		for _, feed := range feeds {
			feed.close(err)
		}
	}
	c := &call{fleet: f, began: began}
	wait := c.start(ctx, broken, func(ctx context.Context, s *site) (*provision.Summary, error) {
		defer feeds[s.index].leave()
		return s.run.Run(ctx, feeds[s.index].all(ctx))
	})
	defer wait()
	defer closeAll(errAborted) // for a sequence or a route that panics; otherwise they are closed by now
	for i, err := range broken {
		if err != nil {
			feeds[i].leave()
		}
	}
	if c.input = f.read(ctx, devices, names, feeds); c.input != nil {
		closeAll(&inputError{c.input})
	} else {
		closeAll(nil)
	}
	wait()
	c.given = make([]int64, len(feeds))
	for i, feed := range feeds {
		c.given[i] = feed.count()
	}
	return c.conclude(ctx)
}

var errAborted = errors.New("the program ended while the devices were read")

// inputError is what ends every site's sequence when the input can't be used.
type inputError struct{ err error }

func (e *inputError) Error() string { return e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }

// read routes the input. An error means that no site may send any of it.
func (f *Fleet) read(ctx context.Context, devices iter.Seq2[provision.Device, error], before *firsts, feeds []*feed) error {
	refused := f.newRefusals(ctx)
	defer refused.stop()
	r := router{fleet: f}
	if !before.empty() {
		r.before = before
	}
	for d, err := range devices {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("reading the devices after %d records: %w", r.n, err)
		}
		d = withoutKeys(d)
		to, err := r.route(d)
		if err == nil && to.refused != nil {
			err = refused.add(ctx, r.n, d, to.name, to.refused)
		}
		if err != nil {
			return err
		}
		if to.refused == nil {
			d.Row = to.row
			feeds[to.site.index].put(d)
		}
	}
	return refused.end(ctx, r.n)
}

// withoutKeys cuts private keys out of a device, before it is kept anywhere. What stands in their place makes the site's
// run refuse it.
func withoutKeys(d provision.Device) provision.Device {
	d.Row, _ = privatekey.CutRow(d.Row)
	d.Name, d.Source = privatekey.Cut(d.Name), privatekey.Cut(d.Source)
	return d
}

// router gives each record of the input its site, and each name to one site only.
type router struct {
	fleet  *Fleet
	n      int64   // records so far
	seen   firsts  // names of this input, with record number and site as one number
	before *firsts // names that were in the ledgers, with their site; nil when there were none
}

// routed is where a record goes: to a site with a row, or nowhere.
type routed struct {
	site    *site
	row     map[string]string
	name    string // the thing's; empty when it can't be told
	refused *refusal
}

func (r *router) route(d provision.Device) (to routed, err error) {
	r.n++
	if to.site, to.refused = r.fleet.choose(d); to.refused != nil {
		to.name = r.fleet.commonName(d)
		return to, nil
	}
	s := to.site
	to.row = r.fleet.opts.Route.strip(s, d.Row)
	if to.name = s.thingName(d.Name, to.row); to.name == "" {
		return to, nil // the site says what is wrong with it
	}
	sites := int64(len(r.fleet.sites))
	if first, ok := r.seen.add(to.name, r.n*sites+int64(s.index)); ok {
		if other := r.fleet.sites[first%sites]; other != s { // otherwise the site's run refuses it
			to.refused = &refusal{provision.CauseDuplicate, fmt.Sprintf(
				"record %d, which goes to site %q, has the same thing name; give each device one record", first/sites, other.name)}
		}
		return to, nil
	}
	if r.before == nil {
		return to, nil
	}
	if first, ok := r.before.add(to.name, int64(s.index)); ok && first != int64(s.index) {
		return to, fmt.Errorf("%w: device %q (record %d) went to site %q when the run was started, and is routed to site %q now",
			provision.ErrInputChanged, to.name, r.n, r.fleet.sites[first].name, s.name)
	}
	return to, nil
}

// commonName is what every site would call a device that none of them takes, for people to know it by. It is empty when
// they do not agree.
func (f *Fleet) commonName(d provision.Device) string {
	name := ""
	for i, s := range f.sites {
		n := s.thingName(d.Name, f.opts.Route.strip(s, d.Row))
		if i > 0 && n != name {
			return ""
		}
		name = n
	}
	return name
}

// Retry sends the failed devices of every site again that trying again can help; see [provision.Run.Retry]. Refused
// devices are not among them. It returns what Run returns.
func (f *Fleet) Retry(ctx context.Context) (*Summary, error) {
	began := time.Now()
	fresh, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	return f.again(ctx, began, fresh, func(ctx context.Context, r *provision.Run) (*provision.Summary, error) { return r.Retry(ctx) })
}

// Reconcile gives every Unknown device a verdict by reading the sites' accounts back; see [provision.Run.Reconcile]. A site
// whose backend can't read devices back is in the error. It returns what Run returns.
func (f *Fleet) Reconcile(ctx context.Context) (*Summary, error) {
	began := time.Now()
	fresh, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	return f.again(ctx, began, fresh, func(ctx context.Context, r *provision.Run) (*provision.Summary, error) { return r.Reconcile(ctx) })
}

// again lets every site do something with the devices that it has.
func (f *Fleet) again(ctx context.Context, began time.Time, fresh bool, do func(context.Context, *provision.Run) (*provision.Summary, error)) (*Summary, error) {
	if !f.record.Spooled {
		return nil, errNotSpooled
	}
	broken := make([]error, len(f.sites))
	if !f.keysKnown {
		_, broken = f.survey(ctx, fresh)
	}
	for i, s := range f.sites {
		if broken[i] == nil && s.ledger != nil && !s.complete(ctx) {
			broken[i] = errNotSpooled
		}
	}
	c := &call{fleet: f, began: began}
	c.start(ctx, broken, func(ctx context.Context, s *site) (*provision.Summary, error) { return do(ctx, s.run) })()
	return c.conclude(ctx)
}

// call is one Run, Retry or Reconcile.
type call struct {
	fleet     *Fleet
	began     time.Time
	summaries []*provision.Summary
	errs      []error
	given     []int64 // how many devices each site was given; nil if the input was not read
	input     error
}

// start lets every site work, except the broken ones. wait returns when all are done, and may be called again. When one
// of them panics, the others are ended, and wait panics with it.
func (c *call) start(ctx context.Context, broken []error, work func(context.Context, *site) (*provision.Summary, error)) (wait func()) {
	f := c.fleet
	c.summaries, c.errs = make([]*provision.Summary, len(f.sites)), make([]error, len(f.sites))
	end := f.begin()
	ctx, cancel := context.WithCancel(ctx)
	guard := panics.NewGuard(cancel)
	var wg sync.WaitGroup
	for i, s := range f.sites {
		wg.Go(func() {
			defer f.ended(s)
			if c.errs[i] = broken[i]; broken[i] == nil {
				c.errs[i] = guard.Do(func() (err error) {
					c.summaries[i], err = work(ctx, s)
					return err
				})
			}
		})
	}
	return sync.OnceFunc(func() {
		wg.Wait()
		cancel()
		end()
		guard.Raise()
	})
}
