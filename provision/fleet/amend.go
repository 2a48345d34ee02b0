package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/failures"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// WriteFailures writes the devices of every site that are NoKey, Failed or Unknown, and those that no site took, as CSV
// with their sites; see [provision.Run.WriteFailures]. Mended, and read with [provision.FromCSV], it can be given to
// [Fleet.Amend]. The column that [ByColumn] routes by holds the site again.
func (f *Fleet) WriteFailures(ctx context.Context, w io.Writer) error {
	return failures.Write(w, f.columns(), true, func(yield func(*failures.Record, error) bool) {
		for _, s := range f.sites {
			for r, err := range unfinished(ctx, s.ledger) {
				if err != nil {
					yield(nil, &SiteError{Site: s.name, Err: err})
					return
				}
				if r.Site = s.name; f.opts.Route.column != "" {
					row, meta := map[string]string{f.opts.Route.column: s.name}, maps.Clone(r.Meta)
					maps.Copy(row, r.Row)
					delete(meta, f.opts.Route.column)
					r.Row, r.Meta = row, meta
				}
				if !yield(r, nil) {
					return
				}
			}
		}
		for r, err := range unfinished(ctx, f.ledger) {
			if err != nil {
				err = fmt.Errorf("the fleet's ledger: %w", err)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	})
}

// columns names the parameters that are in a record of some site: those that its credential step does not fill.
func (f *Fleet) columns() (names []string) {
	for _, s := range f.sites {
		for _, p := range s.program.Parameters() {
			if !slices.Contains(names, p) && !slices.Contains(s.fills, p) {
				names = append(names, p)
			}
		}
	}
	return names
}

// unfinished yields the devices of a ledger that still need somebody.
func unfinished(ctx context.Context, ledger provision.Ledger) iter.Seq2[*failures.Record, error] {
	return func(yield func(*failures.Record, error) bool) {
		run, err := ledger.Run(ctx)
		if errors.Is(err, provision.ErrNoRun) {
			return
		}
		if err != nil {
			yield(nil, err)
			return
		}
		filter := provision.DeviceFilter{Verdicts: []provision.Verdict{provision.NoKey, provision.Failed, provision.Unknown}}
		for d, err := range ledger.Devices(ctx, filter) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&failures.Record{Seq: d.Seq, Run: run.ID, Cause: string(d.Cause), Message: d.Message, Row: d.Row, Meta: d.Meta}, nil) {
				return
			}
		}
	}
}

// Amend feeds mended records back: those of the fleet's failures.csv, corrected. Each goes to the site that it is of,
// by the id of the site's run that came with it, or else by its route; see [provision.Run.Amend]. A record that would
// change its site is refused, and so is a name that a device of another site has.
//
// A record that no site took goes to the site that it names now. Since the lists of the sites are closed, such devices
// are registered one by one, as by [Fleet.Register], before the others are sent; the backend must be able to.
//
// What is wrong with a whole file (it ends in an error, or has another run's records) is in Error.Input, and nothing is
// changed or sent then. It returns what Run returns.
func (f *Fleet) Amend(ctx context.Context, mended iter.Seq2[provision.Device, error]) (*Summary, error) {
	if mended == nil {
		return nil, errors.New("the mended devices are missing")
	}
	c, err := f.newCall(ctx)
	if err != nil {
		return nil, err
	}
	if !f.record.Spooled {
		return nil, errNotSpooled
	}
	m := &amender{fleet: f, router: router{fleet: f}, feeds: f.newFeeds(), refused: make([][]*moving, len(f.sites))}
	defer m.feeds.leave()
	if c.input = m.all(ctx, mended); c.input != nil {
		return c.conclude(ctx)
	}
	m.feeds.close(nil)
	return f.again(ctx, c, nil, func(ctx context.Context, s *site) (*provision.Summary, error) {
		for _, d := range m.refused[s.index] {
			if err := m.admit(ctx, s, d); err != nil {
				return nil, err
			}
		}
		return s.run.Amend(ctx, m.feeds[s.index].all(ctx))
	})
}

// amender gives every mended record to its site.
type amender struct {
	fleet   *Fleet
	router  router
	runs    map[string]*site // by the ids of their runs
	feeds   feeds            // records that are at their site already
	refused [][]*moving      // by site, those that no site took
}

// moving is a refused record of the fleet's ledger on its way to a site.
type moving struct {
	*provision.DeviceRecord
	mended provision.Device
}

func (m *amender) all(ctx context.Context, mended iter.Seq2[provision.Device, error]) error {
	m.runs = map[string]*site{}
	for _, s := range m.fleet.sites {
		record, err := s.record(ctx)
		if err != nil {
			continue // its ledger can't be read, which is told as the site's error
		}
		m.runs[record.ID] = s
	}
	delete(m.runs, "")
	for d, err := range mended {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("reading the mended devices after %d records: %w", m.router.n, err)
		}
		m.router.n++
		if err := m.one(ctx, withoutKeys(d)); err != nil {
			return fmt.Errorf("mended record %d, %s: %w", m.router.n, called(d.Name, d.Source), err)
		}
	}
	return nil
}

// one finds out where a record goes.
func (m *amender) one(ctx context.Context, d provision.Device) error {
	f := m.fleet
	to, why := f.choose(d)
	switch s, known := m.runs[d.RunID]; {
	case d.RunID == f.record.ID:
		return m.wasRefused(ctx, d, to, why)
	case known && d.Err != nil: // it stays Failed at its site, for that reason
		to = s
	case known:
		if _, named := d.Row[f.opts.Route.column]; to != s && (why == nil || named) {
			return fmt.Errorf("%w: it is a record of site %q and is routed elsewhere now; a device that its site has refused stays there", provision.ErrInputChanged, s.name)
		}
		to = s
	case d.RunID != "":
		return fmt.Errorf("%w: it is of run %s, which is no site's of this fleet; give it to the run that it is of", provision.ErrInputChanged, rule.Quote(d.RunID))
	case why != nil:
		return why
	}
	d = f.opts.Route.strip(to, d)
	name, why, err := m.taken(ctx, to, d)
	if err != nil {
		return err
	}
	if why != nil {
		d.Name, d.Err = name, why // its site keeps it as Failed
	}
	m.feeds[to.index].put(d)
	return nil
}

// taken reports why a record can't have its name, if another site has it or gets it by these records.
func (m *amender) taken(ctx context.Context, s *site, d provision.Device) (name string, why *refusal, err error) {
	if d.Err != nil {
		return d.Name, nil, nil
	}
	if name = s.thingName(d.Name, d.Row); name == "" {
		return "", nil, nil // the site reports what is wrong with it
	}
	other, _, seen := m.router.first(name, s)
	if !seen || other == s {
		other, err = m.fleet.elsewhere(ctx, s, name, false)
	}
	if err != nil || other == nil {
		return name, nil, err
	}
	return name, heldBy(other, name), nil
}

// wasRefused takes a mended record that no site took.
func (m *amender) wasRefused(ctx context.Context, d provision.Device, to *site, why *refusal) error {
	f := m.fleet
	for rec, err := range f.ledger.Devices(ctx, provision.DeviceFilter{AfterSeq: d.Seq - 1, Limit: 1}) {
		switch {
		case err != nil:
			return fmt.Errorf("the fleet's ledger: %w", err)
		case d.Seq < 1 || rec.Seq != d.Seq:
			continue
		case rec.Verdict != provision.Failed: // a site has it
			return nil
		case why != nil:
			return f.keep(ctx, rec, why)
		}
		m.refused[to.index] = append(m.refused[to.index], &moving{rec, d})
		return nil
	}
	return fmt.Errorf("the fleet has refused no record number %d", d.Seq)
}

// keep records why no site takes a record, still.
func (f *Fleet) keep(ctx context.Context, rec *provision.DeviceRecord, why *refusal) error {
	rec.Cause, rec.Message, rec.Updated = why.cause, privatekey.Cut(why.text), time.Now()
	return f.applyOwn(ctx, provision.Change{Devices: []*provision.DeviceRecord{rec}})
}

// sameName refuses a record whose name another device of the site has. Register would take it for a board that comes in
// that device's place.
func (m *amender) sameName(ctx context.Context, s *site, d provision.Device) (*refusal, error) {
	name := s.thingName(d.Name, d.Row)
	if name == "" {
		return nil, nil // the site reports what is wrong with it
	}
	for known, err := range s.ledger.Devices(ctx, provision.DeviceFilter{Name: name}) {
		if err != nil {
			return nil, err
		}
		if !holdsName(known) && known.Verdict != provision.Removed {
			continue
		}
		for _, p := range s.program.Parameters() { // beside them there may be columns that the site keeps elsewhere
			was, had := known.Row[p]
			if is, has := d.Row[p]; is != was || has != had {
				return &refusal{provision.CauseDuplicate, fmt.Sprintf(
					"record %d of site %q has the same thing name and other values; give each device one record", known.Seq, s.name)}, nil
			}
		}
	}
	return nil, nil
}

// admit registers a record that no site took. Once the site's ledger has the device, its failure, too, is the site's.
func (m *amender) admit(ctx context.Context, s *site, rec *moving) error {
	d := m.fleet.opts.Route.strip(s, rec.mended)
	if why, err := m.sameName(ctx, s, d); err != nil {
		return err
	} else if why != nil {
		return m.fleet.keep(ctx, rec.DeviceRecord, why)
	}
	res, err := m.fleet.register(ctx, s, d)
	if res == nil {
		if at, ok := errors.AsType[*SiteError](err); ok {
			err = at.Err
		}
		return err
	}
	if res.Seq == 0 { // it was not sent
		return m.fleet.keep(ctx, rec.DeviceRecord, &refusal{res.Cause, res.Message})
	}
	rec.Verdict, rec.Cause, rec.Updated = provision.Submitted, provision.CauseNone, time.Now()
	rec.Message = fmt.Sprintf("it was mended and is number %d of site %q", res.Seq, s.name)
	return m.fleet.applyOwn(context.WithoutCancel(ctx), provision.Change{Devices: []*provision.DeviceRecord{rec.DeviceRecord}})
}
