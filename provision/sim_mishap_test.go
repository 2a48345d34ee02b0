package provision_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// mishap is what happens once, between two processes, to what a run relies on.
type mishap string

const (
	noMishap       mishap = ""
	ledgerLost     mishap = "the ledger is lost"
	ledgerRestored mishap = "the ledger is restored from an older moment"
	ledgerShared   mishap = "another run has the same list, with a ledger of its own"
	keysLost       mishap = "the key store loses keys"
	keysExchanged  mishap = "the key store has keys of other devices"
	runRemoved     mishap = "the run is removed"
)

var mishaps = []mishap{ledgerLost, ledgerRestored, ledgerShared, keysLost, keysExchanged, runRemoved}

var policies = []provision.Existing{provision.RefuseExisting, provision.AddToExisting, provision.ReplaceExisting, provision.TakeOverExisting}

// place is what a run has to itself.
type place struct {
	suffix   string // of its folders
	file     string // of its ledger
	ledger   provision.Ledger
	keys     *volatileStore
	out      *volatileOutput
	existing provision.Existing
	done     bool
	listed   time.Time // when the certificates of the account were last listed
	unlooked bool      // the look at the end of the run has failed, and nobody looks again
}

func newStore() *volatileStore {
	return &volatileStore{durable: map[string]keystore.Record{}, memory: map[string]keystore.Record{}}
}

func (s *sim) newOutput() *volatileOutput {
	return &volatileOutput{durable: map[string]provision.Delivery{}, memory: map[string]provision.Delivery{}, flips: s.coin}
}

// drawMishap draws what is to happen, and when. A seed with a mishap has a crash, too, in the middle of which it may
// happen, and fewer devices.
func (s *sim) drawMishap() {
	s.mishap = mishaps[s.rng.IntN(len(mishaps))]
	s.mishapAt, s.backUpAt = 1+s.rng.IntN(3), 2+s.rng.IntN(20)
	if s.disk && (s.mishap == keysLost || s.mishap == keysExchanged) {
		s.mishap = ledgerLost
	}
}

// happen lets it happen.
func (s *sim) happen() error {
	ctx := context.Background()
	s.happened = true
	switch s.mishap {
	case ledgerLost:
		s.lost = append(s.lost, s.ledger)
		s.place = s.another()
		s.places = []*place{s.place}
	case ledgerShared:
		s.place = s.another()
		s.places = append(s.places, s.place)
	case ledgerRestored:
		if s.backup == nil {
			s.backup = func(context.Context, provision.Ledger) error { return nil } // from before the run
			s.mishap = ledgerLost
		}
		s.lost = append(s.lost, s.ledger)
		p := *s.place
		p.ledger, p.file, p.done = nil, "restored.db", false
		s.place, s.places = &p, []*place{&p}
		if err := s.openLedger(ctx); err != nil {
			return err
		}
		return s.backup(ctx, s.ledger)
	case keysLost:
		s.taken = map[string]keystore.Record{}
		for _, name := range slices.Sorted(maps.Keys(s.keys.durable)) {
			if s.coin() {
				s.taken[name] = s.keys.durable[name]
				s.gone = append(s.gone, mustDigest(s.taken[name]))
				delete(s.keys.durable, name)
			}
		}
	case keysExchanged:
		s.taken = map[string]keystore.Record{}
		s.place.done = false
		return s.exchangeKeys()
	}
	s.place.done = false
	return nil
}

// another returns a place for another run. It has the same key store and output, or others.
func (s *sim) another() *place {
	p := &place{suffix: "-2", file: "second.db", keys: s.keys, out: s.out, existing: policies[s.rng.IntN(len(policies))]}
	if s.disk || s.coin() {
		p.keys, p.out = newStore(), s.newOutput()
	}
	return p
}

// exchangeKeys lets provisioned devices have each other's keys.
func (s *sim) exchangeKeys() error {
	last := ""
	for d, err := range s.records() {
		switch {
		case err != nil:
			return err
		case d.Verdict != provision.Provisioned || s.coin():
			continue
		case last == "":
			last = d.Name
			continue
		}
		a, b := s.keys.durable[last], s.keys.durable[d.Name]
		s.taken[last], s.taken[d.Name] = a, b
		a.Device, b.Device = d.Name, last
		s.keys.durable[last], s.keys.durable[d.Name] = b, a
		last = ""
	}
	return nil
}

// giveBack brings the keys back that the store had lost. Where a device has got another one meanwhile, that stays.
func (s *sim) giveBack() {
	for name, rec := range s.taken {
		if _, ok := s.keys.durable[name]; !ok || s.mishap == keysExchanged {
			s.keys.durable[name] = rec
		}
	}
	s.taken, s.place.done = nil, false
}

// advised does what the error says of a run that is refused, because its devices have keys of another one: certificates
// are taken over, or the keys of the other run are moved away.
func (s *sim) advised(ctx context.Context) error {
	if s.coin() {
		s.existing = provision.TakeOverExisting
		return nil
	}
	id, err := s.runID(ctx)
	if err != nil {
		return err
	}
	keys, out := newStore(), s.newOutput()
	for name, rec := range s.keys.durable {
		if rec.Run == id {
			keys.durable[name], out.durable[name] = rec, s.out.durable[name]
		}
	}
	maps.DeleteFunc(out.durable, func(_ string, d provision.Delivery) bool { return d.ThingName == "" })
	s.keys, s.out = keys, out
	return nil
}

// bringBack brings the newest ledger back in place of an older copy, as the run asks for that must not go on with it.
func (s *sim) bringBack() {
	s.ledger, s.lost = s.lost[0], []provision.Ledger{s.ledger}
	s.file = "fleet.db"
}

func (s *sim) runID(ctx context.Context) (string, error) {
	r, err := s.ledger.Run(ctx)
	if errors.Is(err, provision.ErrNoRun) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return r.ID, nil
}

// backUp takes the copy of the ledger that is to be restored, if it is time for it.
func (s *sim) backUp(ledger provision.Ledger) error {
	if s.mishap != ledgerRestored || s.happened {
		return nil
	}
	s.mu.Lock()
	s.applied++
	due := s.applied == s.backUpAt
	s.mu.Unlock()
	if !due {
		return nil
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	restore, err := copyOf(context.Background(), ledger)
	s.backup = restore
	return err
}

// copyOf returns a function that makes another ledger what this one is now.
func copyOf(ctx context.Context, from provision.Ledger) (restore func(context.Context, provision.Ledger) error, err error) {
	changes, err := contents(ctx, from)
	return func(ctx context.Context, to provision.Ledger) error { return applyAll(ctx, to, changes) }, err
}

// contents are the changes that make a ledger with the same contents.
func contents(ctx context.Context, from provision.Ledger) (changes []provision.Change, err error) {
	var all provision.Change
	if all.Run, err = from.Run(ctx); err != nil {
		return nil, err
	}
	for d, err := range from.Devices(ctx, provision.DeviceFilter{}) {
		if err != nil {
			return nil, err
		}
		all.Add = append(all.Add, d)
	}
	if all.Orphans, err = from.Orphans(ctx); err != nil {
		return nil, err
	}
	changes = append(changes, all)
	parts, err := from.Parts(ctx)
	for _, p := range parts {
		changes = append(changes, provision.Change{Part: p})
	}
	return changes, err
}

func applyAll(ctx context.Context, to provision.Ledger, changes []provision.Change) error {
	for _, c := range changes {
		if err := to.Apply(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// path is a folder of the place.
func (s *sim) path(name string) string { return filepath.Join(s.dir, name+s.suffix) }

// accepted reports whether a device that is not as its record would make it is so because of the mishap.
func (s *sim) accepted(ctx context.Context, d *provision.DeviceRecord) (bool, error) {
	switch {
	case d.Verdict == provision.NoKey:
		_, taken := s.taken[d.Name]
		return taken, nil
	case d.Verdict == provision.Failed && d.Cause == provision.CauseExists:
		return s.field == nil && len(s.strangers(d)) > 0, nil
	case d.Verdict == provision.Failed && d.Cause == provision.CauseKey && s.existing == provision.TakeOverExisting:
		id, err := s.runID(ctx)
		if err != nil {
			return false, err
		}
		rec, err := s.storedKey(ctx, d.Name)
		return err == nil && rec.Run != id && len(s.strangers(d)) == 0, nil
	}
	return false, nil
}

// strangers are the ACTIVE certificates of a device's thing that are not the device's own.
func (s *sim) strangers(d *provision.DeviceRecord) (list []*task.Certificate) {
	thing, ok := s.fake.Thing(d.Name)
	if !ok {
		return nil
	}
	for i := range thing.Certificates {
		if c := &thing.Certificates[i]; c.Status == "ACTIVE" && c.ID != d.CertificateID {
			list = append(list, c)
		}
	}
	return list
}

// remove undoes the run. Whether the thing of a device that was registered by itself existed before is not recorded.
func (s *sim) remove(ctx context.Context, run *provision.Run) (bool, error) {
	_, err := run.Remove(ctx, provision.RemoveOptions{All: true, UncheckedThings: s.extra})
	return err == nil, err
}

// drawIntrusions draws which devices of the list somebody else registers, with keys of their own, just before the run starts
// a task.
func (s *sim) drawIntrusions(seed uint64) {
	s.intrusions, s.intruders = map[int]string{}, map[string]bool{}
	if seed%10 != 7 || s.field != nil || s.mishap == runRemoved {
		return
	}
	rng := rand.New(rand.NewPCG(seed, 5))
	for range 1 + rng.IntN(2) {
		if i := rng.IntN(len(s.devices)); s.want[i] == provision.CauseNone {
			s.intrusions[1+rng.IntN(4)] = s.devices[i].Row["ThingName"]
		}
	}
}

// intrude registers the device whose turn it is.
func (s *sim) intrude() {
	s.mu.Lock()
	s.starts++
	name := s.intrusions[s.starts]
	s.mu.Unlock()
	if name == "" {
		return
	}
	before := map[string]bool{}
	for c := range s.fake.Certificates() {
		before[c.ID] = true
	}
	_ = s.registerElsewhere(context.Background(), name) // as far as the service does that
	for c := range s.fake.Certificates() {
		if !before[c.ID] {
			s.intruders[c.ID] = true
		}
	}
}

// strangersThing is the name of a thing that is not of the list. It has a certificate with the policy that the run's have.
const strangersThing = "somebody-elses"

// addStranger registers it, before the run.
func (s *sim) addStranger(ctx context.Context) error { return s.registerElsewhere(ctx, strangersThing) }

// registerElsewhere registers a thing as somebody else.
func (s *sim) registerElsewhere(ctx context.Context, name string) error {
	body, err := s.template.Body()
	if err != nil {
		return err
	}
	values, err := s.credentials.values(ctx, name)
	if err != nil {
		return err
	}
	values["ThingName"], values["Type"] = name, "sensor"
	_, err = s.fake.RegisterThing(ctx, &task.RegisterInput{TemplateBody: body, Parameters: values})
	return err
}

// isStrangers reports whether a certificate is the one of that thing.
func (s *sim) isStrangers(id string) bool {
	thing, ok := s.fake.Thing(strangersThing)
	return ok && slices.ContainsFunc(thing.Certificates, func(c task.Certificate) bool { return c.ID == id })
}

func (s *sim) describeMishap() string {
	if s.mishap == noMishap {
		return fmt.Sprintf("existing %q", s.existing)
	}
	texts := []string{fmt.Sprintf("%s (after process %d or at the end; copied at write %d)", s.mishap, s.mishapAt, s.backUpAt)}
	for _, p := range s.places {
		texts = append(texts, fmt.Sprintf("place%s: existing %q", p.suffix, p.existing))
	}
	return strings.Join(texts, "; ")
}
