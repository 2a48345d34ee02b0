package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/task"
)

// looker asks the account about devices just before they are sent: whether their things have certificates already.
type looker struct {
	*session
	shape       *shape
	credentials *credentials
	keys        *keys
	given       LineMatcher // recognises the certificate of a device that came with its request; nil if it makes keys
	account     *account
	existing    Existing
	rates       LookRates
	finder      task.ThingFinder // nil if the backend can't look
	former      *DeviceRecord    // the board in whose place a device is looked for; its certificate is a stranger's

	preparing            sync.Mutex
	things, certificates *throttle // nil before the first look
}

func newLooker(s *session, c *credentials, k *keys, ac *account, opts *Options) *looker {
	l := &looker{session: s, shape: c.shape, credentials: c, keys: k, account: ac, existing: opts.Existing, rates: opts.Look}
	l.finder, _ = task.As[task.ThingFinder](s.backend)
	if c.finder == nil {
		l.given, _ = As[LineMatcher](c.step)
	}
	return l
}

// looks reports whether the account is looked at.
func (l *looker) looks() bool {
	return l.existing != UncheckedExisting && l.finder != nil && l.account.reader != nil
}

// inFlight is how many requests of a look are on their way at once.
const inFlight = 32

// admit asks the witnesses that know more of devices than the ledger, before anything is made for them: the key store,
// whether one has a key of another run, the account, whether its thing has a certificate, and the output, whether it holds
// one. It returns those that are to be sent; the others have their verdicts, which are recorded.
func (l *looker) admit(ctx context.Context, devices []*DeviceRecord) ([]*DeviceRecord, error) {
	if err := l.ask(ctx, devices); err != nil {
		return nil, err
	}
	var left, settled []*DeviceRecord
	for _, d := range devices {
		if d.Verdict == Waiting {
			left = append(left, d)
			continue
		}
		d.Updated = time.Now()
		settled = append(settled, d)
	}
	if err := l.account.handover.commit(ctx, Change{Devices: settled}); err != nil {
		return nil, err
	}
	return left, nil
}

// ask does what admit does, and records nothing.
func (l *looker) ask(ctx context.Context, devices []*DeviceRecord) error {
	if err := l.unused(ctx, devices); err != nil {
		return err
	}
	if _, err := l.look(ctx, devices); err != nil {
		return err
	}
	if l.existing == TakeOverExisting {
		if err := l.refuseKeysOfOthers(ctx, devices, l.record.ID); err != nil {
			return err
		}
	}
	if err := l.refuseDelivered(ctx, devices); err != nil {
		return err
	}
	l.report(devices)
	return nil
}

// refuseDelivered fails those of the devices that are to be sent for a new certificate which the output would refuse,
// because it holds an earlier one.
func (l *looker) refuseDelivered(ctx context.Context, devices []*DeviceRecord) error {
	out, ok := l.account.handover.output.(DeliveryFinder)
	if !ok {
		return nil
	}
	for _, d := range devices {
		if d.Verdict != Waiting && d.Verdict != Submitted || !l.shape.want(d.Row).made {
			continue
		}
		err := out.Undelivered(ctx, d.Name)
		if l.account.handover.issuer != "" && errors.Is(err, fs.ErrExist) {
			// What is left to its first connection is handed over before the ledger knows, so this may be its own.
			own, looked := l.credentials.hasOwnKey(ctx, d)
			if looked != nil {
				return looked
			}
			if own {
				continue
			}
		}
		switch {
		case errors.Is(err, fs.ErrExist):
			text := fmt.Sprintf("the output holds an earlier certificate of it, which is not replaced: %v; it was not sent. "+
				"Move the earlier one away and try again", err)
			if len(d.Existing) > 0 {
				text += "; its thing has in the account: " + d.existingText()
			}
			d.fail(CauseExists, text)
		case err != nil:
			return fmt.Errorf("looking whether a credential of device %q was delivered already: %w", d.Name, err)
		}
	}
	return nil
}

// unused stops a run whose devices have keys of another one, before it makes anything. When certificates are taken over,
// that is looked at device by device, after the account.
func (l *looker) unused(ctx context.Context, devices []*DeviceRecord) error {
	if l.existing == TakeOverExisting {
		return nil
	}
	return l.credentials.unusedByOthers(ctx, devices...)
}

// sendsCertified reports whether devices are sent that have a certificate already.
func (l *looker) sendsCertified() bool {
	return l.existing == AddToExisting || l.existing == ReplaceExisting
}

// report tells the observer what a look has found, if that was anything.
func (l *looker) report(devices []*DeviceRecord) {
	e := EventExisting{Looked: len(devices)}
	for _, d := range devices {
		if d.ThingExisted {
			e.Things++
		}
		if len(d.Existing) > 0 {
			e.Certified++
		}
		switch d.Verdict {
		case Failed:
			e.Failed++
		case Provisioned:
			e.Provisioned++
		case NoKey:
			e.NoKey++
		}
	}
	if e.Things > 0 || e.Failed > 0 {
		l.observe(e)
	}
}

// look asks the account about devices and notes in their records what it found. Those that need not or must not be sent
// get a verdict. Nothing is recorded. It returns the things that exist and have no certificate of this run's, each at its
// device's place; the others are nil.
func (l *looker) look(ctx context.Context, devices []*DeviceRecord) (found []*task.Device, err error) {
	looks := l.looks()
	made, err := l.madeThings(ctx, devices)
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		d.Existing = nil                          // what an earlier look had found
		d.ThingExisted = d.ThingExisted && !looks // which stays true where nobody looks again
	}
	if !looks {
		return make([]*task.Device, len(devices)), nil
	}
	if err := l.prepare(ctx); err != nil {
		return nil, err
	}
	found = make([]*task.Device, len(devices))
	err = l.each(ctx, devices, func(ctx context.Context, i int) (err error) {
		switch d := devices[i]; {
		case d.Name == "":
		case l.shape.want(d.Row).Certificate != nil:
			found[i], err = l.read(ctx, d.Name)
		default: // its thing is all that the line makes
			d.ThingExisted, err = l.has(ctx, d.Name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	ours, err := l.ours(ctx, found)
	if err == nil && l.record == nil {
		err = l.sent(ctx, devices, found, ours)
	}
	if err != nil {
		return nil, err
	}
	for i, d := range devices {
		if found[i] == nil {
			continue
		}
		if err := l.decide(ctx, d, found[i], ours); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(found[i].Certificates, func(c task.Certificate) bool { return ours[c.ID] }) {
			found[i] = nil
		}
	}
	for _, d := range devices {
		d.ThingExisted = d.ThingExisted && (!made[d.Seq] || len(d.Existing) > 0)
	}
	return found, nil
}

// madeThings returns those of the devices whose things, if they exist now, their own lines have made: there were none when
// the account was looked at before they were sent.
func (l *looker) madeThings(ctx context.Context, devices []*DeviceRecord) (map[int64]bool, error) {
	if !slices.ContainsFunc(devices, func(d *DeviceRecord) bool { return d.Attempts > 0 && d.Part > 0 }) {
		return nil, nil
	}
	parts, err := l.ledger.Parts(ctx)
	if err != nil {
		return nil, err
	}
	looked := map[int]bool{}
	for _, p := range parts {
		looked[p.Number] = !p.Looked.IsZero()
	}
	made := map[int64]bool{}
	for _, d := range devices {
		sent := d.Attempts > 1 || d.Attempts == 1 && d.Verdict != Submitted // a part that is looked at has not started
		made[d.Seq] = sent && looked[d.Part] && !d.ThingExisted
	}
	return made, nil
}

// prepare sets the rates, which depend on whose account it is.
func (l *looker) prepare(ctx context.Context) error {
	l.preparing.Lock()
	defer l.preparing.Unlock()
	if l.things != nil {
		return nil
	}
	fake := false
	if l.record != nil {
		fake = l.record.Identity.Fake
	} else if who, ok := task.As[task.Identifier](l.backend); ok {
		id, err := who.Identity(ctx)
		if err != nil {
			return fmt.Errorf("asking which account this is: %w", err)
		}
		fake = id.Fake
	}
	r := l.rates.resolve(fake)
	l.things, l.certificates = newThrottle(r.Things), newThrottle(r.Certificates)
	return nil
}

// each calls f for the devices, some at a time.
func (l *looker) each(ctx context.Context, devices []*DeviceRecord, f func(ctx context.Context, i int) error) error {
	g, group := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for i := range devices {
		g.Go(func() error {
			if err := context.Cause(group); err != nil {
				return err
			}
			return f(group, i)
		})
	}
	err := g.Wait()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// appeared reports whether one of the devices has a thing that it had not when it was looked for.
func (l *looker) appeared(ctx context.Context, devices []*DeviceRecord) (bool, error) {
	var some atomic.Bool
	err := l.each(ctx, devices, func(ctx context.Context, i int) error {
		d := devices[i]
		if d.ThingExisted || d.Name == "" || some.Load() {
			return nil
		}
		has, err := l.has(ctx, d.Name)
		if has {
			some.Store(true)
		}
		return err
	})
	return some.Load(), err
}

// has reports whether there is a thing of this name.
func (l *looker) has(ctx context.Context, name string) (has bool, err error) {
	err = retry(ctx, func() (err error) {
		if err := l.things.take(ctx, 1); err != nil {
			return err
		}
		has, err = l.finder.HasThing(ctx, name)
		return err
	})
	return has, unseen(name, err)
}

// read returns a thing with its certificates, or nil if there is none.
func (l *looker) read(ctx context.Context, name string) (*task.Device, error) {
	if has, err := l.has(ctx, name); err != nil || !has {
		return nil, err
	}
	if err := l.certificates.take(ctx, 1); err != nil {
		return nil, err
	}
	dev, err := l.account.read(ctx, name)
	if err != nil || dev == nil {
		return nil, unseen(name, err)
	}
	if more := len(dev.Certificates) - 1; more > 0 {
		err = l.certificates.take(ctx, more)
	}
	return dev, err
}

// unseen is the error for a device that could not be looked for.
func unseen(name string, err error) error {
	if err == nil {
		return nil
	}
	advice := "call it again to go on"
	if errors.Is(err, task.ErrAccessDenied) {
		advice = "allow iot:DescribeThing, iot:ListThingPrincipals, iot:ListThingGroupsForThing, iot:DescribeCertificate and " +
			"iot:ListAttachedPolicies, or set Options.Existing to unchecked, which goes on without looking"
	}
	return fmt.Errorf("looking whether device %q has a certificate already: %w; %s", name, err, advice)
}

// ours returns which of the things' certificates the ledger records as this run's: those of its devices, and orphans.
func (l *looker) ours(ctx context.Context, found []*task.Device) (map[string]bool, error) {
	var ids []string
	for _, dev := range found {
		if dev != nil {
			for _, c := range dev.Certificates {
				ids = append(ids, c.ID)
			}
		}
	}
	ours := map[string]bool{}
	if len(ids) == 0 {
		return ours, nil
	}
	used, err := l.ledger.FindCertificates(ctx, ids)
	if err != nil {
		return nil, err
	}
	for id := range used {
		ours[id] = true
	}
	orphans, err := l.ledger.Orphans(ctx)
	for _, o := range orphans {
		ours[o.CertificateID] = true
	}
	return ours, err
}

// sent adds the certificates for keys that the ledger's run has sent: those of a task whose reports were not read yet. Only
// Check needs it, which sees the records of a list and not the ledger's.
func (l *looker) sent(ctx context.Context, devices []*DeviceRecord, found []*task.Device, ours map[string]bool) error {
	for i, dev := range found {
		if dev == nil {
			continue
		}
		for _, c := range dev.Certificates {
			digest, err := certificateKey(c.PEM, c.ID)
			if err != nil {
				continue // a key that no step of ours makes
			}
			owners, err := l.ledger.FindMatches(ctx, []Match{MatchKey(digest)})
			if err != nil {
				return err
			}
			seq, ok := owners[MatchKey(digest)]
			if !ok {
				continue
			}
			d, err := l.account.device(ctx, seq)
			if err != nil {
				return err
			}
			ours[c.ID] = ours[c.ID] || d.Attempts > 0 && d.Name == devices[i].Name
		}
	}
	return nil
}

// decide notes what the account has under the name of a device, and gives the device a verdict if it is not to be sent.
func (l *looker) decide(ctx context.Context, d *DeviceRecord, dev *task.Device, ours map[string]bool) error {
	d.ThingExisted = true
	want := l.shape.want(d.Row)
	var strangers []*task.Certificate
	for i := range dev.Certificates {
		c := &dev.Certificates[i]
		if strings.EqualFold(c.Status, statusActive) && (!ours[c.ID] || l.former != nil && c.ID == l.former.CertificateID) {
			strangers = append(strangers, c)
		}
	}
	strangers, err := l.recognise(ctx, d, want, dev, strangers)
	list := l.existingOf(strangers)
	switch {
	case err != nil || len(strangers) == 0 || d.Verdict == Provisioned:
		d.Existing = list
		return err
	case l.existing == RefuseExisting:
		d.failExisting(list, "is not this run's")
	case l.existing == TakeOverExisting:
		d.failExisting(list, "does not carry the key of this device, is not the one given for it, or lacks what the template has for it")
	default:
		d.Existing = list
	}
	return nil
}

// recognise looks among the certificates of a device's thing for its own. If the device is registered with one of them,
// and nothing must be sent then, it is Provisioned. The certificates returned are the others, but not one that the account
// has had and that is attached once more (GivenCertificateID), and not those that this run caused, which are orphans.
func (l *looker) recognise(
	ctx context.Context, d *DeviceRecord, want *wanted, dev *task.Device, certs []*task.Certificate,
) (others []*task.Certificate, err error) {
	ownKey, made, err := l.ownMatch(ctx, d, certs) // made: it is surely this run that made the key
	if err != nil || ownKey == "" {
		return certs, err
	}
	probe := copyDevice(d)
	probe.Match = ownKey
	own := judge(probe, want, dev, l.identity())
	if l.former != nil && own.own != nil && own.own.ID == l.former.CertificateID && l.existing != TakeOverExisting {
		return certs, nil // it is in the board that was there before, and so is its key
	}
	if made {
		if err := l.account.orphans(ctx, d, own.leftovers, "seen before the device was sent: it is for its key, and incomplete or one too many"); err != nil {
			return nil, err
		}
		certs = without(certs, own.leftovers...)
	}
	// A certificate that was given to the device is not issued again: AWS refuses to register it twice. Another one for the
	// same key is none that the device has.
	given := !want.issued && own.own != nil && l.isGiven(own.own, d)
	takes := l.existing == TakeOverExisting && (want.issued || given)
	if own.registered && own.own != nil && (made || takes || given && l.sendsCertified()) {
		d.Match = probe.Match
		d.registered(dev, own.own)
		return without(certs, own.own), nil
	}
	certs = slices.DeleteFunc(certs, func(c *task.Certificate) bool { return MatchCertificate(c.ID) == probe.Match })
	return certs, nil
}

// without returns the certificates that are not among those that are gone.
func without(certs []*task.Certificate, gone ...*task.Certificate) []*task.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(c *task.Certificate) bool {
		return slices.ContainsFunc(gone, func(g *task.Certificate) bool { return g.ID == c.ID })
	})
}

// isGiven reports whether a certificate for a device's key is the very one that came with it, and no earlier one for the
// same key.
func (l *looker) isGiven(c *task.Certificate, d *DeviceRecord) bool {
	g, ok := As[*GivenCertificate](l.credentials.step)
	if !ok {
		return true
	}
	cert, err := g.device(d.Row)
	if err != nil {
		return false
	}
	digest := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(digest[:]) == c.ID
}

// refuseKeysOfOthers fails those of the devices that wait and have a key of another run than this.
func (l *looker) refuseKeysOfOthers(ctx context.Context, devices []*DeviceRecord, run string) error {
	if l.credentials.finder == nil {
		return nil
	}
	for _, d := range devices {
		if d.Verdict != Waiting {
			continue
		}
		err := l.credentials.finder.Unused(ctx, d.Name, run)
		switch {
		case errors.Is(err, keystore.ErrExists):
			d.fail(CauseKey, err.Error())
		case err != nil:
			return err
		}
	}
	return nil
}

// ownMatch returns the match by which one of the certificates is that of a device; empty if none is. made is true if it
// is sure that only this run can have caused a certificate for that key.
func (l *looker) ownMatch(ctx context.Context, d *DeviceRecord, certs []*task.Certificate) (m Match, made bool, err error) {
	sent := d.Attempts > 0
	if d.Verdict == Submitted { // its part is written, which counts as an attempt
		sent = d.Attempts > 1
	}
	if d.Match != "" && (l.credentials.finder != nil || sent) {
		if slices.ContainsFunc(certs, func(c *task.Certificate) bool { return isFor(c, d.Match) }) {
			return d.Match, true, nil
		}
	}
	if l.given != nil {
		m, err := l.given.MatchLine(d.Name, d.Row)
		if err == nil && slices.ContainsFunc(certs, func(c *task.Certificate) bool { return isFor(c, m) }) {
			return m, false, nil
		}
		return "", false, nil
	}
	if l.keys.verifier == nil {
		return "", false, nil
	}
	for _, c := range certs {
		digest, err := certificateKey(c.PEM, c.ID)
		if err != nil {
			continue // a key that no step of ours makes
		}
		has, err := l.keys.has(ctx, d.Name, digest)
		if err != nil {
			return "", false, err
		}
		if !has {
			continue
		}
		owner, err := l.ledger.FindMatches(ctx, []Match{MatchKey(digest)})
		if err != nil {
			return "", false, err
		}
		if seq, taken := owner[MatchKey(digest)]; taken && seq != d.Seq {
			continue
		}
		made := l.credentials.finder != nil && l.record != nil && l.credentials.finder.Unused(ctx, d.Name, l.record.ID) == nil
		return MatchKey(digest), made, nil
	}
	return "", false, nil
}
