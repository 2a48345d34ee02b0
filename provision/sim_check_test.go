package provision_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// check holds the end of a seed against what the library promises. It reads the fake and the ledger past all gates.
func (s *sim) check() {
	s.fake.ClearFaults()
	ctx := context.Background()
	records := map[string]*provision.DeviceRecord{}
	used := map[string]bool{}
	n := 0
	for d, err := range s.records() {
		if err != nil {
			s.violated("reading the ledger: %v", err)
			return
		}
		n++
		switch d.Verdict {
		case provision.Provisioned:
			records[d.Name] = d
			used[d.CertificateID] = true
		case provision.Failed:
			if d.Cause == provision.CauseNone || d.Message == "" {
				s.violated("device %d failed and nothing says why", d.Seq)
			}
		default:
			s.violated("device %d (%s) ended as %s: %s", d.Seq, d.Name, d.Verdict, d.Message)
		}
	}
	s.checkCounts(ctx, n)
	for _, d := range records {
		s.checkDevice(ctx, d)
	}
	s.checkTasks(ctx)
	s.checkOrphans(ctx, used)
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
	if err != nil || digest != rec.Request.PublicKeySHA256() {
		s.violated("%s: its certificate does not belong to its key (%v)", d.Name, err)
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
	folder, err := keystore.OpenFolder(filepath.Join(s.dir, "devices"), nil)
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
	dir := filepath.Join(s.dir, "devices", keystore.FileName(d.Name))
	pem, err := os.ReadFile(filepath.Join(dir, "certificate.pem"))
	if err != nil || string(pem) != d.CertificatePEM {
		s.violated("%s: certificate.pem is not what the ledger has (%v)", d.Name, err)
	}
	thing, err := os.ReadFile(filepath.Join(dir, "thing.json"))
	if err != nil || !strings.Contains(string(thing), d.CertificateID) || !strings.Contains(string(thing), d.ThingARN) {
		s.violated("%s: thing.json is not what the ledger has (%v)", d.Name, err)
	}
}

// checkTasks: no data file was registered twice, and every task on a file of the run is the one in the ledger.
func (s *sim) checkTasks(ctx context.Context) {
	parts, err := s.ledger.Parts(ctx)
	if err != nil {
		s.violated("reading the parts: %v", err)
		return
	}
	if len(parts) < 3 {
		s.violated("only %d parts: the seed proves little", len(parts))
	}
	byKey := map[string]*provision.PartRecord{}
	for _, p := range parts {
		if p.State != provision.PartCollected {
			s.violated("part %d ended as %s", p.Number, p.State)
		}
		byKey[p.Key] = p
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
		if p := byKey[d.InputFileKey]; p == nil || p.TaskID != d.ID {
			s.violated("task %s on %s is not in the ledger", d.ID, d.InputFileKey)
		}
	}
	for _, p := range parts {
		if p.TaskID != "" && tasks[p.Key] != p.TaskID {
			s.violated("part %d names task %s, which was never started", p.Number, p.TaskID)
		}
	}
}

// checkOrphans: every certificate of the account is a device's or is found as an orphan, and after the orphans are
// removed each thing has exactly the one of its device.
func (s *sim) checkOrphans(ctx context.Context, used map[string]bool) {
	run, err := provision.New(provision.Options{
		Backend: s.backend, Template: s.template, RoleARN: s.role, Ledger: s.ledger, PartDir: s.dir,
		Credential: &provision.MakeCSR{Store: s.keys},
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
	known := map[string]bool{}
	for _, o := range orphans {
		known[o.CertificateID] = true
		if used[o.CertificateID] {
			s.violated("certificate %s is called an orphan and is that of a device", o.CertificateID)
		}
	}
	for c := range s.fake.Certificates() {
		if !used[c.ID] && !known[c.ID] {
			s.violated("certificate %s is no device's and was not reported", c.ID)
		}
	}
	if _, err := run.RemoveOrphans(ctx); err != nil {
		s.violated("removing orphans: %v", err)
	}
	if n := s.fake.Counts().Certificates; n != len(used) {
		s.violated("%d devices are provisioned and %d certificates exist", len(used), n)
	}
	for thing := range s.fake.Things() {
		if len(thing.Certificates) > 1 {
			s.violated("%s has %d certificates", thing.ThingName, len(thing.Certificates))
		}
	}
}

// verdict is what came of a seed.
func (s *sim) verdict() error {
	if len(s.violations) == 0 {
		return nil
	}
	return fmt.Errorf("%s\n%s", strings.Join(s.violations, "\n"), s)
}
