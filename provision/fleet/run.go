package fleet

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

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
// input itself (it ends in an error, lacks the column of the sites, or has a device that was at another site before) is in
// Error.Input, and no site sends anything in that call.
func (f *Fleet) Run(ctx context.Context, devices iter.Seq2[provision.Device, error]) (*Summary, error) {
	c, err := f.newCall(ctx)
	if err != nil {
		return nil, err
	}
	if devices == nil {
		return f.again(ctx, c, nil, func(ctx context.Context, s *site) (*provision.Summary, error) {
			return s.run.Run(ctx, nil)
		})
	}
	before, err := f.survey(ctx, c.fresh)
	if err != nil {
		return nil, err
	}
	c.twice = before.twice
	feeds := f.newFeeds()
	r := router{fleet: f, before: before}
	f.reading = &r.seen
	defer func() { f.reading = nil }()
	wait := c.start(ctx, before.broken, func(ctx context.Context, s *site) (*provision.Summary, error) {
		defer feeds[s.index].leave()
		return s.run.Run(ctx, feeds[s.index].all(ctx))
	})
	defer wait()
	defer feeds.close(errAborted) // for a sequence or a route that panics; otherwise they are closed by now
	for i, err := range before.broken {
		if err != nil {
			feeds[i].leave()
		}
	}
	if c.input = f.read(ctx, devices, &r, feeds); c.input != nil {
		feeds.close(&inputError{c.input})
	} else {
		feeds.close(nil)
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
func (f *Fleet) read(ctx context.Context, devices iter.Seq2[provision.Device, error], r *router, feeds feeds) error {
	refused := f.newRefusals(ctx)
	defer refused.stop()
	err := r.all(ctx, devices, func(d provision.Device, to routed) error {
		if to.refused != nil {
			return refused.add(ctx, r.n, d, to.name, to.refused)
		}
		if to.taken != nil {
			to.device.Name, to.device.Err = to.name, to.taken // its site keeps it as Failed, for Amend
		}
		feeds[to.site.index].put(to.device)
		return nil
	})
	if err != nil {
		return err
	}
	return refused.end(ctx, r.n)
}

// withoutKeys cuts private keys out of a device, before it is kept anywhere. What stands in their place makes the site's
// run refuse it.
func withoutKeys(d provision.Device) provision.Device {
	d.Row, _ = privatekey.CutRow(d.Row)
	d.Meta, _ = privatekey.CutRow(d.Meta)
	d.Name, d.Source = privatekey.Cut(d.Name), privatekey.Cut(d.Source)
	return d
}

// router gives each record of the input its site, and each name to one site only.
type router struct {
	fleet  *Fleet
	n      int64   // records so far
	seen   firsts  // names of this input, with record number and site as one number
	before *survey // what the ledgers held; nil to look at the input alone
}

// routed is where a record goes: to a site, or nowhere.
type routed struct {
	site    *site
	device  provision.Device // as the site is to see it
	name    string           // the thing's; empty when it can't be told
	refused *refusal         // why no site takes it
	taken   *refusal         // why its site is to refuse it: another one has registered a device of its name by itself
}

// all routes the records of an input, without their private keys, and lets take have each. A list that none of its first
// records can be routed by is refused as a whole.
func (r *router) all(ctx context.Context, devices iter.Seq2[provision.Device, error], take func(provision.Device, routed) error) error {
	one := func(d provision.Device) error {
		to, err := r.route(d)
		if err != nil {
			return err
		}
		return take(d, to)
	}
	head := header{fleet: r.fleet, done: r.fleet.opts.Route.column == ""}
	for d, err := range devices {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("reading the devices after %d records: %w", r.n+int64(len(head.held)), err)
		}
		d = withoutKeys(d)
		if head.done {
			err = one(d)
		} else {
			err = head.add(d, one)
		}
		if err != nil {
			return err
		}
	}
	return head.end(one)
}

func (r *router) route(d provision.Device) (to routed, err error) {
	r.n++
	if to.site, to.refused = r.fleet.choose(d); to.refused != nil {
		to.name = r.fleet.commonName(d)
		return to, nil
	}
	s := to.site
	to.device = r.fleet.opts.Route.strip(s, d)
	if to.name = s.thingName(d.Name, to.device.Row); to.name == "" {
		return to, nil // the site reports what is wrong with it
	}
	if other, n, ok := r.first(to.name, s); ok {
		if other != s { // otherwise the site's run refuses it
			to.refused = &refusal{provision.CauseDuplicate, fmt.Sprintf(
				"record %d, which goes to site %q, has the same thing name; give each device one record", n, other.name)}
		}
		return to, nil
	}
	if r.before == nil {
		return to, nil
	}
	if first, ok := r.before.input.find(to.name); ok && first != int64(s.index) {
		return to, fmt.Errorf("%w: device %q (record %d) went to site %q when the run was started, and is routed to site %q now",
			provision.ErrInputChanged, to.name, r.n, r.fleet.sites[first].name, s.name)
	}
	if first, ok := r.before.alone.find(to.name); ok && first != int64(s.index) {
		to.taken = heldBy(r.fleet.sites[first], to.name)
	}
	return to, nil
}

// first gives a name to the site of its first record. Of a name that was seen before it returns where, and the number of
// that record.
func (r *router) first(name string, s *site) (at *site, n int64, seen bool) {
	sites := int64(len(r.fleet.sites))
	first, seen := r.seen.add(name, r.n*sites+int64(s.index))
	return r.fleet.sites[first%sites], first / sites, seen
}

// routedTo is the site of a name among those that a router has seen; nil if it has not, or if nothing is being read.
func (f *Fleet) routedTo(seen *firsts, name string) *site {
	if seen == nil {
		return nil
	}
	if first, ok := seen.find(name); ok {
		return f.sites[first%int64(len(f.sites))]
	}
	return nil
}

// commonName is what every site would call a device that none of them takes, for people to know it by. It is empty when
// they do not agree.
func (f *Fleet) commonName(d provision.Device) string {
	name := ""
	for i, s := range f.sites {
		n := s.thingName(d.Name, f.opts.Route.strip(s, d).Row)
		if i > 0 && n != name {
			return ""
		}
		name = n
	}
	return name
}

// Retry sends the failed devices of every site again that trying again can help; see [provision.Run.Retry]. One that was
// never sent, and whose name a device of another site has got since, is refused. It returns what Run returns.
func (f *Fleet) Retry(ctx context.Context) (*Summary, error) {
	c, err := f.newCall(ctx)
	if err != nil {
		return nil, err
	}
	return f.again(ctx, c, f.refuseTaken, func(ctx context.Context, s *site) (*provision.Summary, error) { return s.run.Retry(ctx) })
}

// refuseTaken returns what makes sure that no name goes to two sites by a Retry: a device that was never sent held no
// name, and another one may have taken it meanwhile.
func (f *Fleet) refuseTaken(ctx context.Context, s *site, names *firsts) error {
	for d, err := range s.ledger.Devices(ctx, provision.DeviceFilter{Verdicts: []provision.Verdict{provision.Failed}}) {
		if err != nil {
			return err
		}
		if d.Attempts > 0 || d.Name == "" || !d.Cause.Retryable() {
			continue
		}
		other, err := f.elsewhere(ctx, s, d.Name, false)
		if err != nil {
			return err
		}
		if first, ok := names.add(d.Name, int64(s.index)); ok && other == nil && first != int64(s.index) {
			other = f.sites[first]
		}
		if other == nil {
			continue
		}
		why := heldBy(other, d.Name)
		d.Cause, d.Message, d.Updated = why.cause, why.text, time.Now()
		if err := s.ledger.Apply(ctx, provision.Change{Devices: []*provision.DeviceRecord{d}}); err != nil {
			return err
		}
	}
	return nil
}

// Reconcile gives every Unknown device a verdict by reading the sites' accounts back; see [provision.Run.Reconcile]. A
// site whose backend can't read devices back is in the error. It returns what Run returns.
func (f *Fleet) Reconcile(ctx context.Context) (*Summary, error) {
	c, err := f.newCall(ctx)
	if err != nil {
		return nil, err
	}
	return f.again(ctx, c, nil, func(ctx context.Context, s *site) (*provision.Summary, error) { return s.run.Reconcile(ctx) })
}

// again lets every site do something with the devices that it has. first is called for each site before any of them
// begins; it may be nil.
func (f *Fleet) again(
	ctx context.Context, c *call, first func(context.Context, *site, *firsts) error,
	do func(context.Context, *site) (*provision.Summary, error),
) (*Summary, error) {
	if !f.record.Spooled {
		return nil, errNotSpooled
	}
	before, err := f.survey(ctx, c.fresh)
	if err != nil {
		return nil, err
	}
	c.twice = before.twice
	broken := before.broken
	var names firsts
	for i, s := range f.sites {
		if broken[i] == nil && !s.complete(ctx) {
			broken[i] = errNotSpooled
		}
		if broken[i] == nil && first != nil {
			broken[i] = first(ctx, s, &names)
		}
	}
	c.start(ctx, broken, do)()
	return c.conclude(ctx)
}

// call is one Run, Retry, Amend or Reconcile.
type call struct {
	fleet     *Fleet
	fresh     bool // the fleet's ledger had no record
	began     time.Time
	summaries []*provision.Summary
	errs      []error
	twice     []error // see survey
	given     []int64 // how many devices each site was given; nil if the input was not read
	input     error
}

// newCall begins a call and opens the fleet's record.
func (f *Fleet) newCall(ctx context.Context) (*call, error) {
	n := len(f.sites)
	c := &call{fleet: f, began: time.Now(), summaries: make([]*provision.Summary, n), errs: make([]error, n), twice: make([]error, n)}
	var err error
	c.fresh, err = f.open(ctx)
	return c, err
}

// start lets every site work, except the broken ones. wait returns when all are done, and may be called again.
func (c *call) start(ctx context.Context, broken []error, work func(context.Context, *site) (*provision.Summary, error)) (wait func()) {
	all := c.fleet.atSites(ctx, func(ctx context.Context, s *site) (err error) {
		if err = broken[s.index]; err == nil {
			c.summaries[s.index], err = work(ctx, s)
		}
		return err
	})
	return func() { c.errs = all() }
}
