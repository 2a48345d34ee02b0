package provision_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// check holds the end of a seed against what the library promises. It reads the fake and the ledgers past all gates.
func (s *sim) check() {
	s.fake.ClearFaults()
	ctx := context.Background()
	a := accounts{used: map[string]bool{}, named: map[string]bool{}, orphan: map[string]bool{}, retired: map[string]bool{}}
	for _, p := range s.places { // what one has taken out of service, another may still call its own
		s.place = p
		for d, err := range s.records() {
			if err != nil {
				s.violated("reading the ledger: %v", err)
				return
			}
			for _, c := range d.Existing {
				a.named[c.ID] = true
				a.retired[c.ID] = a.retired[c.ID] || !c.Retired.IsZero()
			}
		}
	}
	for _, p := range s.places {
		s.place = p
		s.checkPlace(ctx, a)
	}
	if s.field != nil {
		s.field.checkAccount(s)
	} else {
		s.checkTasks(ctx)
	}
	s.checkOrphans(ctx, a)
}

// accounts are certificates that the runs account for, by how they do.
type accounts struct{ used, named, orphan, retired map[string]bool }

func (a accounts) know(id string) bool { return a.used[id] || a.named[id] || a.orphan[id] }

func (s *sim) checkPlace(ctx context.Context, a accounts) {
	records := map[string]*provision.DeviceRecord{}
	n := 0
	for d, err := range s.records() {
		if err != nil {
			s.violated("reading the ledger: %v", err)
			return
		}
		n++
		accepted, err := s.accepted(ctx, d)
		switch {
		case err != nil:
			s.violated("reading the ledger: %v", err)
		case d.Verdict == provision.Provisioned:
			records[d.Name] = d
			a.used[d.CertificateID] = true
		case d.Verdict == provision.NoKey:
			a.used[d.CertificateID] = true
			if !accepted {
				s.violated("%s has no key, and nobody took it: %s", d.Name, d.Message)
			}
		case d.Verdict == provision.Removed && s.happened && s.mishap == runRemoved:
		case d.Verdict == provision.Issued && s.field != nil:
			s.field.checkIssued(s, d)
		case d.Verdict == provision.Failed:
			if d.Cause == provision.CauseNone || d.Message == "" {
				s.violated("device %d failed and nothing says why", d.Seq)
			}
			if d.Cause == provision.CauseExists {
				s.checkExists(d, accepted)
			}
		default:
			s.violated("device %d (%s) ended as %s: %s", d.Seq, d.Name, d.Verdict, d.Message)
		}
	}
	s.checkCounts(ctx, n)
	for _, d := range records {
		if !a.retired[d.CertificateID] {
			s.checkDevice(ctx, d)
		}
	}
}

// checkExists: a device that was not sent because of its thing's certificates names them.
func (s *sim) checkExists(d *provision.DeviceRecord, accepted bool) {
	if !accepted || len(d.Existing) == 0 {
		s.violated("%s is said to have a certificate, and has none (%v): %s", d.Name, d.Existing, d.Message)
	}
	for i, c := range d.Existing {
		if i < 3 && !strings.Contains(d.Message, c.ID) {
			s.violated("%s has certificate %s, which its message does not name: %s", d.Name, c.ID, d.Message)
		}
	}
}

func (s *sim) checkCounts(ctx context.Context, n int) {
	want := len(s.devices)
	if s.extra {
		want++
	}
	counts, err := s.ledger.Counts(ctx)
	if err != nil || n != want || counts.Total() != int64(want) {
		s.violated("%d devices in, %d in the ledger, counts %v, %v", want, n, counts, err)
	}
}

// checkDevice: a provisioned device has one thing, whose certificate in the ledger is active and carries the key that is
// in the store; the output has the same.
func (s *sim) checkDevice(ctx context.Context, d *provision.DeviceRecord) {
	thing, ok := s.fake.Thing(d.Name)
	if !ok {
		s.violated("%s is provisioned and has no thing", d.Name)
		return
	}
	own := 0
	for _, c := range thing.Certificates {
		if c.ID == d.CertificateID {
			own++
			if len(c.Policies) != 1 {
				s.violated("%s: its certificate has policies %v", d.Name, c.Policies)
			}
			if c.Status != "ACTIVE" || c.PEM != d.CertificatePEM {
				s.violated("%s: its certificate is %s, and as in the ledger: %v", d.Name, c.Status, c.PEM == d.CertificatePEM)
			}
		}
	}
	if own != 1 {
		s.violated("%s: the certificate in the ledger is attached to its thing %d times", d.Name, own)
	}
	rec, err := s.storedKey(ctx, d.Name)
	if err != nil {
		s.violated("%s: its key is gone: %v", d.Name, err)
		return
	}
	digest, err := csr.CertificateKeySHA256([]byte(d.CertificatePEM))
	if err != nil || digest != mustDigest(rec) {
		s.violated("%s: its certificate does not belong to its key (%v)", d.Name, err)
	}
	if s.issuer != nil && rec.CertificatePEM != d.CertificatePEM {
		s.violated("%s: its certificate is not the one that was issued for its key and kept with it", d.Name)
	}
	s.checkOutput(d)
}

func (s *sim) storedKey(ctx context.Context, name string) (keystore.Record, error) {
	if !s.disk {
		rec, ok := s.keys.durable[name]
		if !ok {
			return rec, keystore.ErrNotFound
		}
		return rec, nil
	}
	folder, err := keystore.OpenFolder(s.path("devices"), nil)
	if err != nil {
		return keystore.Record{}, err
	}
	return folder.Get(ctx, name)
}

func (s *sim) checkOutput(d *provision.DeviceRecord) {
	if !s.disk {
		out, ok := s.out.durable[d.Name]
		if !ok || out.CertificatePEM != d.CertificatePEM || out.CertificateID != d.CertificateID || out.ThingARN != d.ThingARN {
			s.violated("%s: what was delivered (%v) is not what the ledger has", d.Name, ok)
		}
		return
	}
	dir := filepath.Join(s.path("devices"), keystore.FileName(d.Name))
	pem, err := os.ReadFile(filepath.Join(dir, "certificate.pem"))
	if err != nil || string(pem) != d.CertificatePEM {
		s.violated("%s: certificate.pem is not what the ledger has (%v)", d.Name, err)
	}
	thing, err := os.ReadFile(filepath.Join(dir, "thing.json"))
	if err != nil || !strings.Contains(string(thing), d.CertificateID) || !strings.Contains(string(thing), d.ThingARN) {
		s.violated("%s: thing.json is not what the ledger has (%v)", d.Name, err)
	}
	root, err := os.ReadFile(filepath.Join(dir, "root-ca.pem"))
	if err != nil || !bytes.Equal(root, s.fake.RootCA()) {
		s.violated("%s: root-ca.pem is not the account's root (%v)", d.Name, err)
	}
}

// checkTasks: no data file was registered twice, and every task on a file of a run is the one in its ledger. Of a ledger
// that is gone nobody asks.
func (s *sim) checkTasks(ctx context.Context) {
	byKey, gone := map[string]*provision.PartRecord{}, map[string]bool{}
	for _, ledger := range s.lost {
		parts, err := ledger.Parts(ctx)
		if err != nil {
			s.violated("reading the parts of a ledger that was lost: %v", err)
		}
		for _, p := range parts {
			gone[p.Key] = true
		}
	}
	most := 0
	for _, p := range s.places {
		parts, err := p.ledger.Parts(ctx)
		if err != nil {
			s.violated("reading the parts: %v", err)
			return
		}
		most = max(most, len(parts))
		for _, p := range parts {
			if p.State != provision.PartCollected {
				s.violated("part %d ended as %s", p.Number, p.State)
			}
			byKey[p.Key] = p
		}
	}
	if most < 3 && s.mishap == noMishap {
		s.violated("only %d parts: the seed proves little", most)
	}
	tasks := map[string]task.ID{}
	for d := range s.fake.Tasks() {
		if strings.HasPrefix(d.InputFileKey, "foreign-") {
			continue
		}
		if other, ok := tasks[d.InputFileKey]; ok {
			s.violated("tasks %s and %s were both started on %s", other, d.ID, d.InputFileKey)
		}
		tasks[d.InputFileKey] = d.ID
		if p := byKey[d.InputFileKey]; (p == nil || p.TaskID != d.ID) && !gone[d.InputFileKey] {
			s.violated("task %s on %s is not in the ledger", d.ID, d.InputFileKey)
		}
	}
	for _, p := range byKey {
		if p.TaskID != "" && tasks[p.Key] != p.TaskID {
			s.violated("part %d names task %s, which was never started", p.Number, p.TaskID)
		}
	}
}

// checkOrphans: every certificate of the account is a device's, is named by one, or is found as an orphan; and after the
// orphans are removed each thing has exactly the one of its device, and others only where that was asked for.
func (s *sim) checkOrphans(ctx context.Context, a accounts) {
	if s.happened && s.mishap == runRemoved {
		s.checkRemoved()
		return
	}
	for _, p := range s.places {
		s.place = p
		s.checkTwins(ctx, a)
	}
	var runs []*provision.Run
	for _, p := range s.places {
		credential, err := s.credential(p.keys)
		if err != nil {
			s.violated("%v", err)
			return
		}
		run, err := provision.New(provision.Options{
			Backend: s.backend, Template: s.template, RoleARN: s.role, Ledger: p.ledger, PartDir: s.dir,
			Credential: credential, FirstConnection: s.field != nil,
		})
		if err != nil {
			s.violated("%v", err)
			return
		}
		orphans, err := run.FindOrphans(ctx)
		if err != nil {
			s.violated("looking for orphans: %v", err)
			return
		}
		s.place = p
		s.checkNamed(time.Now())
		for d, err := range s.records() {
			if err != nil {
				s.violated("reading the ledger: %v", err)
				return
			}
			for _, c := range d.Existing {
				a.named[c.ID] = true
			}
		}
		runs = append(runs, run)
		for _, o := range orphans {
			a.orphan[o.CertificateID] = true
			if a.used[o.CertificateID] {
				s.violated("certificate %s is called an orphan and is that of a device", o.CertificateID)
			}
		}
	}
	for c := range s.fake.Certificates() {
		if !a.know(c.ID) && !s.intruders[c.ID] && !s.beyondReach(ctx, c) {
			s.violated("certificate %s (%s, %v) is no device's and was not reported", c.ID, c.Status, c.Created)
		}
	}
	for _, run := range runs {
		if _, err := run.RemoveOrphans(ctx); err != nil {
			s.violated("removing orphans: %v", err)
		}
	}
	n := 0
	for c := range s.fake.Certificates() {
		if !s.intruders[c.ID] {
			n++
		}
	}
	if s.mishap == noMishap && n != len(a.used) {
		s.violated("%d devices are provisioned and %d certificates exist", len(a.used), n)
	}
	for c := range s.fake.Certificates() {
		if a.orphan[c.ID] {
			s.violated("orphan %s was removed and is still there", c.ID)
		}
	}
}

// checkTwins: no thing has an ACTIVE certificate beside that of its device, unless that was asked for, or it was registered
// after the look at the account: checkNamed is about these.
func (s *sim) checkTwins(ctx context.Context, a accounts) {
	if slices.ContainsFunc(s.places, func(p *place) bool { return p.existing == provision.AddToExisting }) {
		return
	}
	parts, err := s.ledger.Parts(ctx)
	if err != nil {
		s.violated("reading the parts: %v", err)
	}
	looked := map[int]time.Time{}
	for _, p := range parts {
		looked[p.Number] = p.Looked
	}
	for d, err := range s.records() {
		if err != nil {
			s.violated("reading the ledger: %v", err)
			return
		}
		if d.Verdict != provision.Provisioned && d.Verdict != provision.NoKey || a.retired[d.CertificateID] {
			continue
		}
		for _, c := range s.strangers(d) {
			when := looked[d.Part]
			if s.intruders[c.ID] { // made within the millisecond of the look, which is as far as the service counts
				when = when.Truncate(time.Millisecond)
			}
			if when.IsZero() || c.Created.Before(when) {
				s.violated("%s (%s, part %d, sent %d times, looked at %v) has certificate %s and beside it %s of %v; it names %v",
					d.Name, d.Verdict, d.Part, d.Attempts, when, d.CertificateID, c.ID, c.Created, d.Existing)
			}
		}
	}
}

// checkNamed: a device names what others had put on its thing before the certificates were listed that a run looks through
// at its end.
func (s *sim) checkNamed(listed time.Time) {
	ctx := context.Background()
	orphans, err := s.ledger.Orphans(ctx)
	if err != nil {
		s.violated("reading the orphans: %v", err)
	}
	for d, err := range s.records() {
		if err != nil {
			s.violated("reading the ledger: %v", err)
			return
		}
		if d.Verdict != provision.Provisioned && d.Verdict != provision.NoKey {
			continue
		}
		for _, c := range s.strangers(d) {
			named := slices.ContainsFunc(d.Existing, func(e provision.ExistingCertificate) bool { return e.ID == c.ID }) ||
				slices.ContainsFunc(orphans, func(o *provision.Orphan) bool { return o.CertificateID == c.ID })
			if !named && c.Created.Before(listed.Truncate(time.Millisecond)) {
				s.violated("%s (%s) has certificate %s and beside it %s of %v, which it does not name: %v", d.Name, d.Verdict, d.CertificateID, c.ID, c.Created, d.Existing)
			}
		}
	}
}

// beyondReach reports whether nobody can tell any more whose a certificate is: it was made for a run whose ledger is lost,
// or for a key that the store has lost, in place of which its device has got another one. Of the latter it must never have
// been in service.
func (s *sim) beyondReach(ctx context.Context, c *task.Certificate) bool {
	digest, err := csr.CertificateKeySHA256([]byte(c.PEM))
	if err != nil || !s.happened {
		return false
	}
	if s.mishap == keysLost {
		return c.Status != "ACTIVE" && slices.Contains(s.gone, digest)
	}
	if s.mishap != ledgerLost {
		return false
	}
	for _, ledger := range s.lost {
		owner, err := ledger.FindMatches(ctx, []provision.Match{provision.MatchKey(digest)})
		if err == nil && len(owner) > 0 {
			return true
		}
	}
	return false
}

// checkRemoved: nothing of the run is left, and what somebody else has is as it was.
func (s *sim) checkRemoved() {
	for c := range s.fake.Certificates() {
		if !s.isStrangers(c.ID) {
			s.violated("certificate %s (%s) is left of a run that was removed", c.ID, c.Status)
		} else if c.Status != "ACTIVE" || len(c.Policies) != 1 {
			s.violated("the removal has touched a certificate of somebody else: it is %s with policies %v", c.Status, c.Policies)
		}
	}
	for thing := range s.fake.Things() {
		if thing.ThingName != strangersThing {
			s.violated("%s is left of a run that was removed", thing.ThingName)
		}
	}
	want := 0
	if s.stranger {
		want = 1 // of each
	}
	if n := s.fake.Counts(); n.Policies != want || n.Certificates != want || n.Things != want {
		s.violated("the removal has left %+v", n)
	}
}

// verdict is what came of a seed.
func (s *sim) verdict() error {
	if len(s.violations) == 0 {
		return nil
	}
	return fmt.Errorf("%s\n%s", strings.Join(s.violations, "\n"), s)
}
