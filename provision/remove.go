package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// RemoveOptions choose the devices to remove, by exactly one of All, Names and Choose.
type RemoveOptions struct {
	// All removes every device of the run.
	All bool
	// Names are the names of the devices' things. A name that the run does not have is an error before anything is removed.
	Names []string
	// Choose reports which devices to remove. It is asked more than once for each, and must not change its mind.
	Choose func(*Result) bool
	// Rate is how many devices are removed in a second at most. 0 means 8: AWS takes 10 a second by default of most of the
	// requests, and each device needs one of each kind.
	Rate int
	// UncheckedThings also deletes things of which the run has not recorded whether they existed before it: the account was
	// not looked at ahead of their part, or Register made them. Things with other certificates stay all the same.
	UncheckedThings bool
}

// RemoveReport is what [Run.Remove] did.
type RemoveReport struct {
	Removed      int64    // devices that this call removed
	ThingsKept   int64    // of them, those whose thing was kept; Result.Message holds why
	NotSent      int64    // chosen devices that were never sent, so that there is nothing to remove; they stay what they are
	Policies     []string // names of the policies removed: made from the template's documents and used by nothing any more
	PoliciesKept []string // names of such policies that something else uses
}

// Remove undoes the registration of devices, such as those of a trial run: their certificates are detached, deactivated
// and deleted, and then their things are. They are [Removed] afterwards, which is not Provisioned: Run, Retry, Reconcile
// and Deliver leave them alone. [Run.Register] and [Run.Amend], given the record, make such a device again.
//
// Only what this run made is removed. A certificate that another thing has too is only detached. A thing is kept that
// existed before the run, that has other certificates, or of which neither is known (UncheckedThings); the device's Message
// holds why. A certificate that was given to the run stays, and with it the thing. A policy that was made from a document of
// the template is deleted when nothing uses it any more; policies that the template names stay.
//
// The orphans of the devices are removed with them, and looked for first, where the backend can. Unknown devices are settled
// first, as Reconcile does. A device that is in a part on its way is an error before anything is removed: call Run first.
//
// Private keys and what an output holds stay where they are: nothing here deletes a key. A device that is made again uses
// the key that the store has for it, and gets another certificate: an output that still holds the removed one refuses it,
// so take certificate.pem and thing.json of [Folder] away first.
//
// Before a device's first request the ledger has it as [Removing], so a call that was interrupted goes on when it is made
// again. An error of one device (task.ErrConflict, task.ErrInvalidRequest) is kept in its Message and leaves it Removing;
// the others are removed. Any other error ends the call. A device that is Removed already, and whose Message holds what was
// kept, is tried once more. It needs a backend with task.Remover.
func (r *Run) Remove(ctx context.Context, opts RemoveOptions) (*RemoveReport, error) {
	chosen := 0
	for _, is := range []bool{opts.All, len(opts.Names) > 0, opts.Choose != nil} {
		if is {
			chosen++
		}
	}
	switch {
	case chosen != 1:
		return nil, errors.New("provision: set one of RemoveOptions.All, Names and Choose")
	case opts.Rate < 0:
		return nil, errors.New("provision: RemoveOptions.Rate can't be negative")
	}
	c, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer c.end()
	if _, err := r.ledger.Run(ctx); err != nil {
		return nil, err
	}
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	backend, ok := task.As[task.Remover](r.opts.Backend)
	if !ok {
		return nil, errors.New("the backend can't remove devices")
	}
	if opts.Rate == 0 {
		opts.Rate = 8
	}
	rm := &remover{session: c.session, shape: r.shape, first: r.opts.FirstConnection, account: c.account, backend: backend, opts: opts, report: &RemoveReport{}}
	err = rm.run(ctx)
	return rm.report, err
}

// remover removes devices.
type remover struct {
	*session
	shape   *shape
	account *account
	backend task.Remover
	opts    RemoveOptions
	first   bool // Options.FirstConnection

	names   map[string]bool
	looked  map[int]bool        // parts ahead of which the account was looked at
	orphans map[int64][]*Orphan // those that exist, by device
	report  *RemoveReport
}

// removeBatch is how many devices are Removing at a time.
const removeBatch = 100

func (rm *remover) run(ctx context.Context) error {
	if err := rm.account.resolveUnknown(ctx); err != nil {
		return err
	}
	if err := rm.check(ctx); err != nil {
		return err
	}
	if err := rm.findOrphans(ctx); err != nil {
		return err
	}
	var failed unlucky
	var batch []*DeviceRecord
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := rm.remove(ctx, batch, &failed)
		batch = batch[:0]
		return err
	}
	for d, err := range rm.chosen(ctx) {
		if err != nil {
			return err
		}
		if d.Verdict == Removed && !mayHaveLeft(d) {
			continue
		}
		if d.Attempts == 0 && d.CertificateID == "" {
			rm.report.NotSent++
			continue
		}
		if batch = append(batch, d); len(batch) == removeBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if err := rm.removePolicies(ctx); err != nil {
		return err
	}
	return failed.join()
}

// mayHaveLeft reports whether a device that was removed left something that another call may be able to remove.
func mayHaveLeft(d *DeviceRecord) bool { return d.Message != "" && !d.ThingExisted }

// chosen yields the devices to remove.
func (rm *remover) chosen(ctx context.Context) func(func(*DeviceRecord, error) bool) {
	return func(yield func(*DeviceRecord, error) bool) {
		for d, err := range rm.ledger.Devices(ctx, DeviceFilter{}) {
			if err == nil && !(rm.opts.All || rm.names[d.Name] || rm.opts.Choose != nil && rm.opts.Choose(&d.Result)) {
				continue
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// check refuses what can't be removed yet, before anything is.
func (rm *remover) check(ctx context.Context) error {
	found, err := rm.ledger.FindNames(ctx, rm.opts.Names)
	if err != nil {
		return err
	}
	rm.names = map[string]bool{}
	for _, name := range rm.opts.Names {
		if _, ok := found[name]; !ok || name == "" {
			return fmt.Errorf("the run has sent no device %q; nothing was removed", name)
		}
		rm.names[name] = true
	}
	parts, err := rm.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	rm.looked = map[int]bool{}
	for _, p := range parts {
		rm.looked[p.Number] = !p.Looked.IsZero()
	}
	for d, err := range rm.chosen(ctx) {
		switch {
		case err != nil:
			return err
		case d.Verdict == Submitted:
			return fmt.Errorf("device %q is in part %d, which is not collected yet: call Run first; nothing was removed", d.Name, d.Part)
		case d.Verdict == Unknown:
			return fmt.Errorf("device %q is unknown, and the backend can't read devices back; nothing was removed", d.Name)
		}
	}
	return nil
}

// findOrphans looks for the run's orphans, unless somebody has since the last device was sent.
func (rm *remover) findOrphans(ctx context.Context) error {
	lister, ok := task.As[task.CertificateLister](rm.account.backend)
	if ok && rm.record.OrphansLooked.IsZero() {
		if err := rm.account.findOrphans(ctx, lister); err != nil {
			return err
		}
	}
	orphans, err := rm.ledger.Orphans(ctx)
	if err != nil {
		return err
	}
	rm.orphans = map[int64][]*Orphan{}
	for _, o := range orphans {
		if o.Removed.IsZero() {
			rm.orphans[o.Seq] = append(rm.orphans[o.Seq], o)
		}
	}
	return nil
}

// remove removes a batch of devices. The errors of single devices go to failed.
func (rm *remover) remove(ctx context.Context, batch []*DeviceRecord, failed *unlucky) error {
	now := time.Now()
	again := map[int64]bool{} // those that were removed before
	for _, d := range batch {
		again[d.Seq] = d.Verdict == Removed
		d.Verdict, d.Cause, d.Updated = Removing, CauseNone, now
		d.Message = "its removal has begun; call Remove again to end it"
	}
	if err := rm.ledger.Apply(ctx, Change{Devices: batch}); err != nil {
		return err
	}
	var mu sync.Mutex
	var change Change
	g, group := errgroup.WithContext(ctx)
	g.SetLimit(4 * min(rm.opts.Rate, removeBatch)) // a device takes about a second
	for _, d := range batch {
		if wait.Sleep(group, time.Second/time.Duration(rm.opts.Rate)) != nil {
			break
		}
		g.Go(func() error {
			kept, orphans, err := rm.removeOne(group, d)
			mu.Lock()
			defer mu.Unlock()
			change.Orphans = append(change.Orphans, orphans...)
			d.Updated = time.Now()
			switch {
			case err == nil:
				d.Verdict, d.Message = Removed, strings.Join(kept.why, "; ")
				if !again[d.Seq] {
					rm.report.Removed++
				}
				if kept.thing {
					rm.report.ThingsKept++
				}
			case ofOneDevice(err):
				d.Message = fmt.Sprintf("its removal failed: %v; call Remove again", err)
				failed.add(fmt.Errorf("removing device %q: %w", d.Name, err))
			default:
				return fmt.Errorf("removing device %q: %w", d.Name, err)
			}
			change.Devices = append(change.Devices, d)
			return nil
		})
	}
	err := g.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	// What was removed is recorded, also when the rest was not.
	return errors.Join(err, rm.ledger.Apply(context.WithoutCancel(ctx), change))
}

// kept is what stays of a removed device, and why.
type kept struct {
	thing bool
	why   []string
}

// removeOne removes what a device has in the account. orphans are those that are gone.
func (rm *remover) removeOne(ctx context.Context, d *DeviceRecord) (stays kept, orphans []*Orphan, err error) {
	if d.Name == "" {
		return stays, nil, &task.InputError{Member: "thingName", Problem: "is not known"}
	}
	want := rm.shape.want(d.Row)
	d.Policies = fromDocuments(d, want)
	given := d.CertificateID != "" && !want.made
	if d.CertificateID != "" && want.made {
		others, err := rm.retire(ctx, d.Name, d.CertificateID)
		if err != nil {
			return stays, nil, err
		}
		if len(others) > 0 {
			stays.why = append(stays.why, fmt.Sprintf("its certificate %s is kept: it is detached, and on other things, too: %s",
				d.CertificateID, list(others)))
		}
	}
	if rm.first && d.CertificateID != "" {
		stays.why = append(stays.why, "whoever has its certificate and key is registered at the next connection, as long as the CA registers devices")
	}
	for _, o := range rm.orphans[d.Seq] {
		if _, err := rm.retire(ctx, o.Name, o.CertificateID); err != nil {
			return stays, orphans, err
		}
		o.Removed = time.Now()
		orphans = append(orphans, o)
	}
	keepThing := func(why string) (kept, []*Orphan, error) {
		stays.thing, stays.why = true, append(stays.why, why)
		return stays, orphans, nil
	}
	switch {
	case given:
		return keepThing(fmt.Sprintf("certificate %s was given to the run and is kept with its thing", d.CertificateID))
	case d.ThingExisted:
		return keepThing("its thing is kept: it existed before the run")
	case !rm.looked[d.Part] && !rm.opts.UncheckedThings:
		if there, err := rm.hasThing(ctx, d.Name); err != nil || !there {
			return stays, orphans, err
		}
		return keepThing("its thing is kept: whether it existed before the run is not recorded (RemoveOptions.UncheckedThings removes it)")
	}
	var left []string
	err = retry(ctx, func() (err error) {
		left, err = rm.backend.RemoveThing(ctx, d.Name)
		return err
	})
	if err == nil && len(left) > 0 {
		return keepThing("its thing is kept: it has other certificates: " + list(left))
	}
	return stays, orphans, err
}

// hasThing reports whether a thing exists: that of a device which has never connected need not. A backend that can't look is
// taken to have it.
func (rm *remover) hasThing(ctx context.Context, name string) (there bool, err error) {
	finder, ok := task.As[task.ThingFinder](rm.session.backend)
	if !ok {
		return true, nil
	}
	err = retry(ctx, func() (err error) {
		there, err = finder.HasThing(ctx, name)
		return err
	})
	return there, err
}

// list shows the first of many names.
func list(names []string) string {
	const most = 3
	if more := len(names) - most; more > 0 {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("%d more", more))
	}
	return rule.Visible(strings.Join(names, ", "))
}

// retire takes a certificate away from a thing, and returns the other things that have it.
func (rm *remover) retire(ctx context.Context, thing, id string) (others []string, err error) {
	err = retry(ctx, func() (err error) {
		others, err = rm.backend.RetireCertificate(ctx, thing, id)
		return err
	})
	return others, err
}

// fromDocuments are the device's policies that may have been made from a document of the template: those that it does not
// name.
func fromDocuments(d *DeviceRecord, want *wanted) []string {
	documents := documentsOf(want)
	if len(documents) == 0 {
		return nil
	}
	var names []string
	for _, name := range d.Policies {
		named := slices.ContainsFunc(want.Policies, func(p template.PolicySpec) bool { return p.PolicyName == name })
		if !named {
			names = append(names, name)
		}
	}
	return names
}

func documentsOf(want *wanted) []string {
	var documents []string
	for _, p := range want.Policies {
		if p.PolicyName == "" && p.PolicyDocument != "" {
			documents = append(documents, p.PolicyDocument)
		}
	}
	return documents
}

// removePolicies removes the policies that were made for the removed devices, as far as nothing else uses them. A device
// that is Removed names the policies that nobody has asked about yet.
func (rm *remover) removePolicies(ctx context.Context) error {
	documents := map[string]map[string]bool{} // by policy
	for d, err := range rm.chosen(ctx) {
		if err != nil {
			return err
		}
		if d.Verdict != Removed {
			continue
		}
		for _, name := range d.Policies {
			if documents[name] == nil {
				documents[name] = map[string]bool{}
			}
			for _, doc := range documentsOf(rm.shape.want(d.Row)) {
				documents[name][doc] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		gone, err := rm.removePolicy(ctx, name, slices.Sorted(maps.Keys(documents[name])))
		if err != nil {
			return fmt.Errorf("removing policy %s: %w", name, err)
		}
		if gone {
			rm.report.Policies = append(rm.report.Policies, name)
		} else {
			rm.report.PoliciesKept = append(rm.report.PoliciesKept, name)
		}
	}
	var batch []*DeviceRecord
	for d, err := range rm.chosen(ctx) {
		if err != nil {
			return err
		}
		if d.Verdict != Removed || d.Policies == nil {
			continue
		}
		d.Policies, d.Updated = nil, time.Now()
		if batch = append(batch, d); len(batch) == deliverBatch {
			if err := rm.ledger.Apply(ctx, Change{Devices: batch}); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return rm.ledger.Apply(ctx, Change{Devices: batch})
}

// removePolicy removes a policy that has one of the documents. Another one, and one that was edited, stays.
func (rm *remover) removePolicy(ctx context.Context, name string, documents []string) (gone bool, err error) {
	for _, doc := range documents {
		var left []string
		err := retry(ctx, func() (err error) {
			left, err = rm.backend.RemovePolicy(ctx, name, doc)
			return err
		})
		if errors.Is(err, task.ErrConflict) {
			continue
		}
		return err == nil && len(left) == 0, err
	}
	return false, nil
}
