package provision_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

var (
	errDead        = errors.New("the process is dead")
	errDisk        = errors.New("input/output error")
	errInterrupted = errors.New("somebody pressed Ctrl-C")
)

// generation is the life of one process. Everything that the process does to the world goes through it, and once it is
// dead nothing does: what still runs of it reaches nothing any more.
type generation struct {
	sim       *sim
	dead      atomic.Bool
	loggedOut atomic.Bool // its credentials have ended, and whoever starts the next process renews them
	cancel    context.CancelCauseFunc
	run       atomic.Pointer[provision.Run]
}

// errLoggedOut is what every service says to credentials that have ended.
var errLoggedOut = &task.Error{Code: "ExpiredTokenException", Message: "The security token included in the request is expired",
	Status: 403, Kind: task.ErrAccessDenied}

// do lets one step of the process happen, or not.
func (g *generation) do(step string, act func() error) error {
	if g.dead.Load() {
		return errDead
	}
	fault := g.sim.strike(step)
	switch fault {
	case crashBefore:
		g.crash()
		return errDead
	case cancelled:
		g.cancel(errInterrupted)
	case stopped:
		mode := provision.FinishPart
		if g.sim.coin() || step == stepDescribe {
			mode = provision.CancelTask
		}
		if run := g.run.Load(); run != nil {
			run.Stop(mode)
		}
	case errorBefore:
		return errDisk
	case loggedOut:
		g.loggedOut.Store(true)
	}
	if g.loggedOut.Load() && slices.Contains(possible[step], loggedOut) {
		return errLoggedOut
	}
	err := act()
	g.sim.field.move(g.sim)
	if fault == crashAfter {
		g.crash()
	}
	if g.dead.Load() {
		return errDead
	}
	if fault == errorAfter && err == nil {
		return errDisk
	}
	return err
}

func (g *generation) crash() {
	g.dead.Store(true)
	g.cancel(errDead)
}

// gatedBackend is the backend as a process reaches it.
type gatedBackend struct {
	g     *generation
	inner task.Backend
}

// ask lets one request of the process happen, or not. On the wire somebody may answer in the service's place.
func (b gatedBackend) ask(ctx context.Context, step string, act func(context.Context) error) error {
	return b.g.do(step, func() error { return act(b.g.sim.intercept(ctx, step)) })
}

func (b gatedBackend) Identity(ctx context.Context) (id *task.Identity, err error) {
	err = b.ask(ctx, stepIdentity, func(ctx context.Context) (err error) { id, err = ability[task.Identifier](b).Identity(ctx); return })
	return
}

func (b gatedBackend) DataEndpoint(ctx context.Context) (host string, err error) {
	err = b.ask(ctx, stepEndpoint, func(ctx context.Context) (err error) {
		host, err = ability[task.Endpointer](b).DataEndpoint(ctx)
		return
	})
	return
}

func (b gatedBackend) RootCAs(ctx context.Context, endpoint string) (pem []byte, err error) {
	err = b.ask(ctx, stepRoots, func(ctx context.Context) (err error) {
		pem, err = ability[task.RootLister](b).RootCAs(ctx, endpoint)
		return
	})
	return
}

func (b gatedBackend) Upload(ctx context.Context, in *task.UploadInput) (obj *task.Object, err error) {
	err = b.ask(ctx, stepUpload, func(ctx context.Context) (err error) {
		if err := b.g.sim.checkUpload(in); err != nil {
			return err
		}
		obj, err = b.inner.Upload(ctx, in)
		return err
	})
	return
}

func (b gatedBackend) StartTask(ctx context.Context, in *task.StartInput) (id task.ID, err error) {
	err = b.ask(ctx, stepStart, func(ctx context.Context) (err error) {
		defer func() { err = b.g.sim.takePageForRefusal(err) }()
		b.g.sim.intrude()
		b.g.sim.checkStart(in)
		b.g.sim.due(stepStart, foreignTask, b.g.sim.startForeign)
		failing := b.g.sim.due(stepStart, taskFailed, func() bool {
			in.RoleARN = "arn:aws:iam::123456789012:role/nobody" // whom the service can't assume
			id, err = b.inner.StartTask(ctx, in)
			return err == nil
		})
		if failing || err != nil {
			return err
		}
		id, err = b.inner.StartTask(ctx, in)
		return err
	})
	return
}

func (b gatedBackend) DescribeTask(ctx context.Context, id task.ID) (d *task.Description, err error) {
	err = b.ask(ctx, stepDescribe, func(ctx context.Context) (err error) {
		b.g.sim.due(stepDescribe, taskCancelled, func() bool { return b.g.sim.cancelTask(id) })
		d, err = b.inner.DescribeTask(ctx, id)
		return err
	})
	return
}

func (b gatedBackend) ListTasks(ctx context.Context, in *task.ListInput) (page *task.TaskPage, err error) {
	err = b.ask(ctx, stepListTasks, func(ctx context.Context) (err error) {
		page, err = b.inner.ListTasks(ctx, in)
		if err == nil && b.g.sim.bug == bugStartWithoutLooking {
			page = &task.TaskPage{}
		}
		return err
	})
	return
}

func (b gatedBackend) ListReports(ctx context.Context, id task.ID, kind task.ReportType, token string) (page *task.ReportPage, err error) {
	err = b.ask(ctx, stepListReports, func(ctx context.Context) (err error) { page, err = b.inner.ListReports(ctx, id, kind, token); return })
	return
}

func (b gatedBackend) StopTask(ctx context.Context, id task.ID) error {
	return b.ask(ctx, stepStop, func(ctx context.Context) error { return b.inner.StopTask(ctx, id) })
}

func (b gatedBackend) Open(ctx context.Context, link task.Link, offset int64) (body io.ReadCloser, err error) {
	err = b.ask(ctx, stepOpenReport, func(ctx context.Context) (err error) { body, err = b.inner.Open(ctx, link, offset); return })
	return
}

func (b gatedBackend) ReadDevice(ctx context.Context, name string) (d *task.Device, err error) {
	err = b.ask(ctx, stepReadDevice, func(ctx context.Context) (err error) {
		d, err = ability[task.DeviceReader](b).ReadDevice(ctx, name)
		if err == nil && b.g.sim.bug == bugTakePendingForUsed {
			for i, c := range d.Certificates {
				d.Certificates[i].Status = strings.Replace(c.Status, "PENDING_ACTIVATION", "ACTIVE", 1)
			}
		}
		return
	})
	return
}

func (b gatedBackend) HasThing(ctx context.Context, name string) (has bool, err error) {
	if b.g.sim.bug == bugSkipTheLook {
		return false, nil
	}
	err = b.ask(ctx, stepLook, func(ctx context.Context) (err error) {
		has, err = ability[task.ThingFinder](b).HasThing(ctx, name)
		return
	})
	return
}

func (b gatedBackend) RegisterThing(ctx context.Context, in *task.RegisterInput) (reg *task.Registration, err error) {
	err = b.ask(ctx, stepRegister, func(ctx context.Context) (err error) {
		reg, err = ability[task.Registrar](b).RegisterThing(ctx, in)
		return
	})
	return
}

func (b gatedBackend) RetireCertificate(ctx context.Context, thing, id string) (others []string, err error) {
	err = b.ask(ctx, stepRetire, func(ctx context.Context) (err error) {
		others, err = ability[task.Remover](b).RetireCertificate(ctx, thing, id)
		return
	})
	return
}

func (b gatedBackend) RemoveThing(ctx context.Context, name string) (left []string, err error) {
	err = b.ask(ctx, stepRemoveThing, func(ctx context.Context) (err error) {
		left, err = ability[task.Remover](b).RemoveThing(ctx, name)
		return
	})
	return
}

func (b gatedBackend) RemovePolicy(ctx context.Context, name, document string) (left []string, err error) {
	err = b.ask(ctx, stepRemovePolicy, func(ctx context.Context) (err error) {
		left, err = ability[task.Remover](b).RemovePolicy(ctx, name, document)
		return
	})
	return
}

func (b gatedBackend) ListCertificates(ctx context.Context, since time.Time) iter.Seq2[*task.Certificate, error] {
	return func(yield func(*task.Certificate, error) bool) {
		b.g.sim.listed = time.Now()
		err := b.ask(ctx, stepOrphans, func(asked context.Context) error { ctx = asked; return nil })
		if err != nil {
			yield(nil, err)
			return
		}
		for c, err := range ability[task.CertificateLister](b).ListCertificates(ctx, since) {
			if !yield(c, err) {
				return
			}
		}
	}
}

func (b gatedBackend) ReadCertificate(ctx context.Context, id string) (c *task.Certificate, err error) {
	err = b.ask(ctx, stepOrphans, func(ctx context.Context) (err error) {
		c, err = ability[task.CertificateLister](b).ReadCertificate(ctx, id)
		return
	})
	return
}

func (b gatedBackend) CertificateThings(ctx context.Context, arn string) (names []string, err error) {
	err = b.ask(ctx, stepOrphans, func(ctx context.Context) (err error) {
		names, err = ability[task.CertificateLister](b).CertificateThings(ctx, arn)
		if b.g.sim.bug == bugSkipTheLookAtTheEnd {
			names = nil
		}
		return
	})
	return
}

func ability[T any](b gatedBackend) T {
	a, ok := task.As[T](b.inner)
	if !ok {
		panic(fmt.Sprintf("%T lacks an ability", b.inner))
	}
	return a
}

// gatedLedger is the ledger as a process reaches it.
type gatedLedger struct {
	g     *generation
	inner provision.Ledger
}

func (l gatedLedger) Apply(ctx context.Context, c provision.Change) error {
	step := stepLedgerVerdict
	switch {
	case c.Part != nil:
		step = stepLedgerPart + string(c.Part.State)
	case len(c.Add) > 0:
		step = stepLedgerAdd
	case len(c.Orphans) > 0:
		step = stepLedgerOrphan
	case len(c.Devices) == 0:
		step = stepLedgerRun
	}
	if l.g.sim.bug == bugMatchByPosition {
		matchByPosition(c.Devices)
	}
	for _, d := range c.Devices {
		if strings.Contains(d.Message, errLoggedOut.Message) {
			l.g.sim.violated("device %d is %s because of the caller's credentials", d.Seq, d.Verdict)
		}
	}
	return l.g.do(step, func() error {
		l.g.sim.field.checkVerdicts(l.g.sim, c.Devices)
		l.g.sim.changing.RLock()
		err := l.inner.Apply(ctx, c)
		l.g.sim.changing.RUnlock()
		if err != nil {
			return err
		}
		return l.g.sim.backUp(l.inner)
	})
}

func (l gatedLedger) Run(ctx context.Context) (r *provision.RunRecord, err error) {
	err = l.g.do(stepLedgerRead, func() (err error) { r, err = l.inner.Run(ctx); return })
	return
}

func (l gatedLedger) Devices(ctx context.Context, f provision.DeviceFilter) iter.Seq2[*provision.DeviceRecord, error] {
	return func(yield func(*provision.DeviceRecord, error) bool) {
		if err := l.g.do(stepLedgerRead, func() error { return nil }); err != nil {
			yield(nil, err)
			return
		}
		for d, err := range l.inner.Devices(ctx, f) {
			if err == nil && l.g.dead.Load() {
				d, err = nil, errDead
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

func (l gatedLedger) FindNames(ctx context.Context, names []string) (m map[string]int64, err error) {
	err = l.g.do(stepLedgerRead, func() (err error) { m, err = l.inner.FindNames(ctx, names); return })
	return
}

func (l gatedLedger) FindMatches(ctx context.Context, matches []provision.Match) (m map[provision.Match]int64, err error) {
	err = l.g.do(stepLedgerRead, func() (err error) { m, err = l.inner.FindMatches(ctx, matches); return })
	return
}

func (l gatedLedger) FindCertificates(ctx context.Context, ids []string) (m map[string]int64, err error) {
	err = l.g.do(stepLedgerRead, func() (err error) { m, err = l.inner.FindCertificates(ctx, ids); return })
	return
}

func (l gatedLedger) Counts(ctx context.Context) (c *provision.Counts, err error) {
	err = l.g.do(stepLedgerRead, func() (err error) { c, err = l.inner.Counts(ctx); return })
	return
}

func (l gatedLedger) Parts(ctx context.Context) (p []*provision.PartRecord, err error) {
	err = l.g.do(stepLedgerRead, func() (err error) { p, err = l.inner.Parts(ctx); return })
	return
}

func (l gatedLedger) Orphans(ctx context.Context) (o []*provision.Orphan, err error) {
	err = l.g.do(stepLedgerRead, func() (err error) { o, err = l.inner.Orphans(ctx); return })
	return
}

func (l gatedLedger) Close() error { return nil }

// gatedStore is the key store as a process reaches it.
type gatedStore struct {
	g     *generation
	inner keystore.Store
}

func (s gatedStore) Put(ctx context.Context, rec keystore.Record) error {
	if s.g.sim.bug == bugKeepAnother && rec.CertificatePEM != "" {
		if err := s.g.sim.issueAgain(&rec); err != nil {
			return err
		}
	}
	return s.g.do(stepKeyPut, func() error { return s.inner.Put(ctx, rec) })
}

func (s gatedStore) Sync(ctx context.Context) error {
	if s.g.sim.bug == bugSubmitBeforeSync {
		return nil
	}
	return s.g.do(stepKeySync, func() error { return s.inner.Sync(ctx) })
}

func (s gatedStore) Get(ctx context.Context, device string) (rec keystore.Record, err error) {
	err = s.g.do(stepKeyGet, func() (err error) { rec, err = s.inner.Get(ctx, device); return })
	return
}

func (s gatedStore) Verify(ctx context.Context, device string, digest [32]byte) error {
	if s.g.sim.bug == bugBelieveTheLedger && digest != [32]byte{} {
		return nil
	}
	return s.g.do(stepKeyGet, func() error { return s.inner.Verify(ctx, device, digest) })
}

// gatedOutput is the output as a process reaches it.
type gatedOutput struct {
	g     *generation
	inner provision.Output
}

func (o gatedOutput) Deliver(ctx context.Context, d *provision.Delivery) error {
	return o.g.do(stepDeliver, func() error { return o.inner.Deliver(ctx, d) })
}

func (o gatedOutput) Undelivered(ctx context.Context, thing string) error {
	return o.inner.(provision.DeliveryFinder).Undelivered(ctx, thing)
}

func (o gatedOutput) Sync(ctx context.Context) error {
	if o.g.sim.bug == bugVerdictBeforeOutput {
		return nil
	}
	return o.g.do(stepOutputSync, func() error { return o.inner.Sync(ctx) })
}

// volatileStore keeps keys as a disk does: what was not synced is gone after a crash.
type volatileStore struct {
	mu              sync.Mutex
	durable, memory map[string]keystore.Record
}

func (s *volatileStore) Put(ctx context.Context, rec keystore.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.get(rec.Device); ok {
		return &keystore.ExistsError{Device: rec.Device, Path: "the simulation"}
	}
	s.memory[rec.Device] = rec
	return context.Cause(ctx)
}

func (s *volatileStore) get(device string) (keystore.Record, bool) {
	if rec, ok := s.durable[device]; ok {
		return rec, true
	}
	rec, ok := s.memory[device]
	return rec, ok
}

func (s *volatileStore) Sync(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.durable, s.memory)
	clear(s.memory)
	return nil
}

func (s *volatileStore) Get(ctx context.Context, device string) (keystore.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec, ok := s.get(device); ok {
		return rec, context.Cause(ctx)
	}
	return keystore.Record{}, fmt.Errorf("%s: %w", device, keystore.ErrNotFound)
}

func (s *volatileStore) Verify(ctx context.Context, device string, digest [32]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch rec, ok := s.durable[device]; {
	case !ok:
		return fmt.Errorf("%s: %w", device, keystore.ErrNotFound)
	case mustDigest(rec) != digest:
		return fmt.Errorf("%s: %w", device, keystore.ErrOtherKey)
	}
	return context.Cause(ctx)
}

func (s *volatileStore) crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.memory)
}

// volatileOutput keeps deliveries the same way, only that some of those not synced may have come through.
type volatileOutput struct {
	mu              sync.Mutex
	durable, memory map[string]provision.Delivery
	flips           func() bool
}

func (o *volatileOutput) Deliver(ctx context.Context, d *provision.Delivery) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range []map[string]provision.Delivery{o.durable, o.memory} {
		if old, ok := m[d.ThingName]; ok && (old.CertificatePEM != d.CertificatePEM || old.ThingARN != d.ThingARN) {
			return fmt.Errorf("%s was delivered with another certificate", d.ThingName)
		}
	}
	o.memory[d.ThingName] = *d
	return context.Cause(ctx)
}

func (o *volatileOutput) Undelivered(ctx context.Context, thing string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range []map[string]provision.Delivery{o.durable, o.memory} {
		if _, ok := m[thing]; ok {
			return fmt.Errorf("%s: %w", thing, fs.ErrExist)
		}
	}
	return context.Cause(ctx)
}

func (o *volatileOutput) Sync(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.Copy(o.durable, o.memory)
	clear(o.memory)
	return nil
}

func (o *volatileOutput) crash() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, d := range o.memory {
		if o.flips() {
			o.durable[name] = d
		}
	}
	clear(o.memory)
}

// checkUpload is the promise that a key is durable, with what is sent of it, before its request or certificate leaves the process.
func (s *sim) checkUpload(in *task.UploadInput) error {
	data, err := io.ReadAll(in.Body)
	if err != nil {
		return err
	}
	if _, err := in.Body.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for row, err := range datafile.Read(bytes.NewReader(data)) {
		if err != nil {
			return err
		}
		name := row.Values["ThingName"]
		if _, taken := s.taken[name]; !taken && !s.keyIsDurable(name, row.Values[s.parameter]) {
			s.violated("the %s of %s left the process before its key was durable", s.parameter, name)
		}
	}
	return nil
}

// checkStart is the promise that no task is asked for on a file that has one, even where the service would refuse it.
func (s *sim) checkStart(in *task.StartInput) {
	if s.happened && s.mishap == ledgerRestored {
		return // an older ledger does not know, and the service may not tell
	}
	for d := range s.fake.Tasks() {
		if d.InputFileKey == in.InputFileKey {
			s.violated("a start on %s was asked for, on which there is task %s", in.InputFileKey, d.ID)
		}
	}
}

// matchByPosition is the bug of that name: each device gets the certificate of the one before it in the report.
func matchByPosition(devices []*provision.DeviceRecord) {
	var last *provision.DeviceRecord
	for _, d := range devices {
		if d.Verdict != provision.Provisioned {
			continue
		}
		if last != nil {
			d.CertificateID, last.CertificateID = last.CertificateID, d.CertificateID
			d.CertificatePEM, last.CertificatePEM = last.CertificatePEM, d.CertificatePEM
		}
		last = d
	}
}
