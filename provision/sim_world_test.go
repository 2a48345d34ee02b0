package provision_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
)

// bug is a fault planted in the process under test, to see that the simulation finds it.
type bug string

const (
	noBug                  bug = ""
	bugStartWithoutLooking bug = "starts again without looking"
	bugSubmitBeforeSync    bug = "submits before keys are durable"
	bugMatchByPosition     bug = "matches results by position"
	bugVerdictBeforeOutput bug = "gives a verdict before the output is durable"
	bugSkipTheLook         bug = "does not look at the account"
	bugBelieveTheLedger    bug = "does not ask the key store"
	bugTakePageForRefusal  bug = "takes a proxy's page for a refusal"
	bugKeepAnother         bug = "keeps another certificate than it sends"
	bugSkipTheLookAtTheEnd bug = "does not look at the end"
	bugTakePendingForUsed  bug = "takes a certificate that waits for activation for an active one"
)

// mishapEvery is how many seeds there are for each with a mishap.
const mishapEvery = 4

// sim is the world of one seed: what outlives a process, and the plan of what goes wrong.
type sim struct {
	bug   bug
	wire  bool // the run reaches the fake through the AWS SDK
	sql   bool // the ledger is SQLite
	disk  bool // keys and output are in a real folder
	steps bool // Prepare, Submit and Collect instead of Run
	extra bool // one more device by Register
	*credentials

	dir     string
	fake    *fakebackend.Backend
	backend task.Backend
	*place           // where the process at hand works
	places  []*place // every one
	devices []provision.Device
	want    []provision.Cause // of each device; CauseNone for provisioned

	changing   sync.RWMutex // read-held while a ledger changes, held while it is copied
	mu         sync.Mutex
	rng        *rand.Rand
	plan       []*strike
	counts     map[string]int
	remote     map[int]*strike // by the fake's number of the fault
	everyWrite *everyWrite     // instead of a plan
	violations []string
	lives      int
	foreign    int

	mishap             mishap
	happened           bool
	stranger           bool // somebody else has a thing in the account, before a run that is removed
	mishapAt, backUpAt int  // after which process it happens, and which write of the ledger is the last in the copy
	applied            int
	backup             func(context.Context, provision.Ledger) error
	lost               []provision.Ledger         // those that no run has any more
	taken              map[string]keystore.Record // keys that the store has lost
	gone               [][32]byte                 // the digests of these and of those that came back
	intrusions         map[int]string             // by the number of the start before which somebody else registers a device of the list
	intruders          map[string]bool            // the certificates that they made
	starts             int                        // of tasks, by any process
}

// newSim makes the world of a seed in a folder of its own.
func newSim(seed uint64, dir string, b bug) (*sim, error) {
	rng := rand.New(rand.NewPCG(seed, 4))
	s := &sim{
		bug: b, dir: dir, rng: rng, counts: map[string]int{}, remote: map[int]*strike{},
		wire: seed%16 == 3, sql: seed%32 == 9, disk: seed%64 == 20, steps: rng.IntN(6) == 0, extra: rng.IntN(6) == 0,
	}
	s.place = &place{file: "fleet.db", keys: newStore(), out: s.newOutput(), existing: policies[rng.IntN(len(policies))]}
	s.places = []*place{s.place}
	if seed%mishapEvery == 2 {
		s.drawMishap()
	}
	fake, err := fakebackend.New(fakebackend.Options{
		Rate: 1 + rng.Float64()*9, StartDelay: time.Duration(rng.IntN(3)) * time.Second, StopDelay: time.Duration(rng.IntN(5)) * time.Second,
		LinesPerReport: 2 + rng.IntN(6), PageSize: 1 + rng.IntN(5), OldestFirst: rng.IntN(2) == 0, PlainErrors: rng.IntN(2) == 0, ErrorCodes: rng.IntN(2) == 0,
		NoReportsWhenCancelled: rng.IntN(4) == 0, ReportDelay: []time.Duration{0, 0, 0, 10 * time.Second, 90 * time.Second}[rng.IntN(5)],
	})
	if err != nil {
		return nil, err
	}
	s.fake, s.backend = fake, fake
	ctx := context.Background()
	if err := s.drawCredentials(ctx, seed); err != nil {
		return nil, err
	}
	if _, err := awsIoT(fake).CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("sensor")}); err != nil {
		return nil, err
	}
	s.drawDevices()
	if s.field != nil {
		s.field.drawStays(s)
	}
	s.drawIntrusions(seed)
	s.plan = drawPlan(rng)
	for _, st := range s.plan { // in process the fake knows its account without a request
		s.wire = s.wire || st.step == stepIdentity && slices.Contains([]string{throttled, unavailable, lostBefore}, st.fault)
	}
	if err := s.drawRare(ctx); err != nil {
		return nil, err
	}
	if s.wire {
		if err := s.connect(); err != nil {
			return nil, err
		}
	}
	s.extra = s.extra || s.field == nil && slices.ContainsFunc(s.plan, func(st *strike) bool { return st.step == stepRegister })
	return s, s.setRemoteFaults()
}

// drawRare draws what only some kinds of seeds come to.
func (s *sim) drawRare(ctx context.Context) error {
	if s.mishap != noMishap {
		s.plan = append(s.plan, drawOf(s.rng, func(c cell) bool { return !rare(c) && strings.HasPrefix(c.fault, "crash") }))
	}
	if s.mishap == runRemoved {
		s.wire = s.wire || s.rng.IntN(3) == 0
		if s.stranger = s.rng.IntN(4) == 0; s.stranger {
			if err := s.addStranger(ctx); err != nil {
				return err
			}
		}
	}
	draws, fit := 3, func(c cell) bool { return c.fault == replaced && !removes(c) }
	if s.mishap == runRemoved {
		draws, fit = 7, func(c cell) bool { return removes(c) && (c.fault == replaced) == s.wire }
	}
	for range draws {
		if s.wire || s.mishap == runRemoved {
			s.plan = append(s.plan, drawOf(s.rng, fit))
		}
	}
	return nil
}

// connect puts the AWS SDK and HTTP between the run and the fake.
func (s *sim) connect() error {
	cfg := fakeaws.Config(s.fake)
	cfg.HTTPClient = proxy{cfg.HTTPClient}
	backend, err := awsbackend.New(cfg, awsbackend.Options{Bucket: s.fake.Options().Bucket})
	s.backend = backend
	return err
}

func (s *sim) close() {
	if s.field != nil {
		s.field.gateway.Close()
	}
	for _, p := range s.places {
		s.lost = append(s.lost, p.ledger)
	}
	for _, ledger := range s.lost {
		if ledger != nil {
			ledger.Close()
		}
	}
}

func (s *sim) drawDevices() {
	bad := 0
	most := 20
	if s.mishap != noMishap { // such a seed is run more than once
		most = 10
	}
	for i := range most + s.rng.IntN(6) {
		name, typ, want := fmt.Sprintf("device-%02d", i+1), "sensor", provision.CauseNone
		switch r := s.rng.IntN(20); {
		case bad == most/4: // enough: three parts must be left
		case r == 0:
			typ, want = "gone", provision.CauseTypeMissing
		case r == 1:
			name, want = name+" x", provision.CauseInvalidRecord
		case r == 2 && i > 0:
			name, want = "device-01", provision.CauseDuplicate
		}
		if i == 0 { // the one that others are duplicates of
			name, typ, want = "device-01", "sensor", provision.CauseNone
		}
		if want != provision.CauseNone {
			bad++
		}
		s.devices = append(s.devices, ofType(name, typ))
		s.want = append(s.want, want)
	}
}

// setRemoteFaults gives the fake those faults of the plan that are its own.
func (s *sim) setRemoteFaults() error {
	effects := map[string]fakebackend.Effect{throttled: fakebackend.Throttle, unavailable: fakebackend.Fail, lostBefore: fakebackend.DropBefore,
		lostAfter: fakebackend.DropAfter, expired: fakebackend.Expire, truncated: fakebackend.Truncate, refused: fakebackend.Fail}
	for _, st := range s.plan {
		effect, ok := effects[st.fault]
		if !ok {
			continue
		}
		f := fakebackend.Fault{Nth: st.nth, Do: effect, Line: st.line}
		if ops := operations[st.step]; ops != nil {
			f.Operation = ops[s.rng.IntN(len(ops))]
		} else {
			f.Step = fakebackend.Step(strings.TrimPrefix(st.step, stepLine))
		}
		switch st.fault {
		case unavailable:
			f.Code, f.Status = "ServiceUnavailableException", 503
		case refused:
			f.Message = "Internal Failure"
		case truncated:
			f.Bytes = 1 + s.rng.Int64N(2500)
		}
		id, err := s.fake.AddFault(f)
		if err != nil {
			return err
		}
		s.remote[id] = st
	}
	return nil
}

func (s *sim) coin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(2) == 0
}

func (s *sim) violated(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
}

// strike counts that a step is reached, and tells what is to go wrong with the process there.
func (s *sim) strike(step string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[step]++
	if s.everyWrite != nil {
		return s.everyWrite.next(step)
	}
	for _, st := range s.plan {
		local := slices.Contains([]string{crashBefore, crashAfter, cancelled, stopped, errorBefore, errorAfter, loggedOut}, st.fault)
		if local && st.step == step && !st.hit && s.counts[step] >= st.nth {
			st.hit = true
			return st.fault
		}
	}
	return ""
}

// due does what a fault of the world around the process does, if it is time for it. It has struck if act says so.
func (s *sim) due(step, fault string, act func() bool) bool {
	s.mu.Lock()
	var due *strike
	for _, st := range s.plan {
		if st.cell == (cell{step, fault}) && !st.hit && s.counts[step] >= st.nth {
			due = st
			break
		}
	}
	s.mu.Unlock()
	if due == nil || !act() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	due.hit = true
	return true
}

// startForeign starts a task of somebody else, whose lines are refused.
func (s *sim) startForeign() bool {
	ctx := context.Background()
	s.mu.Lock()
	s.foreign++
	key := fmt.Sprintf("foreign-%d.json", s.foreign)
	s.mu.Unlock()
	if _, err := s.fake.Upload(ctx, upload(key, "{}\n{}\n{}\n")); err != nil {
		return false
	}
	body, err := s.template.Body()
	if err != nil {
		return false
	}
	_, err = s.fake.StartTask(ctx, &task.StartInput{TemplateBody: body, InputFileBucket: s.fake.Options().Bucket, InputFileKey: key, RoleARN: s.role})
	return err == nil
}

func (s *sim) cancelTask(id task.ID) bool {
	d, err := s.fake.DescribeTask(context.Background(), id)
	return err == nil && d.Status == task.InProgress && s.fake.StopTask(context.Background(), id) == nil
}

func (s *sim) keyIsDurable(name, sent string) bool {
	if s.disk {
		return true // the folder shows no key that is not
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	rec, ok := s.keys.durable[name]
	return ok && rec.PEM() == sent
}

// openLedger gives a new process the ledger.
func (s *sim) openLedger(ctx context.Context) (err error) {
	switch {
	case s.sql:
		if s.ledger != nil {
			if err := s.ledger.Close(); err != nil {
				return err
			}
		}
		s.ledger, err = sqliteledger.Open(ctx, filepath.Join(s.dir, s.file), nil)
	case s.ledger == nil:
		s.ledger = provision.NewMemoryLedger()
	}
	return err
}

// operate runs processes until every device is where it should be, as somebody at the line would.
func (s *sim) operate() error {
	const patience = 60
	var last error
	for s.lives = 1; s.lives <= patience; s.lives++ {
		var err error
		if s.done, err = s.live(); err != nil {
			last = err
		}
		if errors.Is(err, keystore.ErrExists) && s.happened {
			err = s.advised(context.Background())
		} else if errors.Is(err, provision.ErrOldLedger) && s.happened && s.mishap == ledgerRestored {
			s.bringBack()
			err = nil
		} else if !s.happened && s.mishap != noMishap && (s.done || s.lives >= s.mishapAt && s.mishap != runRemoved) {
			err = s.happen()
		} else if s.done && len(s.taken) > 0 && s.coin() {
			s.giveBack()
		} else if !slices.ContainsFunc(s.places, func(p *place) bool { return !p.done }) {
			return nil
		} else {
			err = nil
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		pause := time.Duration(s.rng.IntN(90)) * time.Second
		open := slices.DeleteFunc(slices.Clone(s.places), func(p *place) bool { return p.done })
		s.place = open[s.rng.IntN(len(open))]
		s.mu.Unlock()
		time.Sleep(pause)
		s.field.move(s)
	}
	return fmt.Errorf("gave up after %d processes: %w; %s", patience, last, s.unsettled())
}

// unsettled names the devices that are not where they should be.
func (s *sim) unsettled() string {
	var b strings.Builder
	for d, err := range s.records() {
		if err != nil {
			return err.Error()
		}
		if int(d.Seq) <= len(s.want) && d.Cause != s.want[d.Seq-1] {
			fmt.Fprintf(&b, "\n  %d %s should be %q and is %s %q after %d attempts: %s", d.Seq, d.Name, s.want[d.Seq-1], d.Verdict, d.Cause, d.Attempts, d.Message)
		}
	}
	return b.String()
}

// live is the life of one process.
func (s *sim) live() (done bool, err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	g := &generation{sim: s, cancel: cancel}
	if err := s.openLedger(ctx); err != nil {
		return false, err
	}
	s.keys.crash() // the new process knows nothing of what the last one did not make durable
	var keys keystore.Store = s.keys
	var out provision.Output = s.out
	if s.disk {
		folder, err := keystore.OpenFolder(s.path("devices"), nil)
		if err != nil {
			return false, err
		}
		keys, out = folder, provision.Folder(folder)
	}
	credential, err := s.credential(gatedStore{g, keys})
	if err != nil {
		return false, err
	}
	run, err := provision.New(provision.Options{
		Backend: gatedBackend{g, s.backend}, Template: s.template, RoleARN: s.role, PartLines: 6, Existing: s.existing, PartDir: s.path("parts"), FirstConnection: s.field != nil,
		Credential: credential, Output: gatedOutput{g, out}, Ledger: gatedLedger{g, s.ledger},
		Wait: task.WaitOptions{MinDelay: time.Second, MaxDelay: 2 * time.Second},
	})
	if err != nil {
		return false, err
	}
	g.run.Store(run)
	if s.happened && s.mishap == runRemoved {
		done, err = s.remove(ctx, run)
	} else {
		done, err = s.work(ctx, g, run)
	}
	if g.dead.Load() {
		s.out.crash()
		return false, errDead
	}
	return done, err
}

// work is what the program does.
func (s *sim) work(ctx context.Context, g *generation, run *provision.Run) (bool, error) {
	again := false
	for range 8 {
		var err error
		var summary *provision.Summary
		if again && s.field == nil {
			summary, err = run.Retry(ctx)
		} else {
			summary, err = s.whole(ctx, run)
		}
		s.noteLook(summary)
		if g.dead.Load() {
			return false, errDead
		}
		switch {
		case err == nil || errors.Is(err, provision.ErrIncomplete):
			settled, serr := s.settled()
			if serr != nil {
				return false, serr
			}
			if settled {
				if err := s.checkLook(); err != nil {
					return false, err
				}
				return s.one(ctx, run)
			}
			again = true // some failed for a passing reason
			if s.field != nil && s.coin() {
				s.field.moveAll(s)
			}
		case ctx.Err() != nil || errors.Is(err, keystore.ErrExists) || s.coin():
			return false, err // the program ends
		default: // or its user tries again
		}
	}
	return false, errors.New("tried eight times")
}

func (s *sim) whole(ctx context.Context, run *provision.Run) (*provision.Summary, error) {
	devices := provision.Devices(s.devices...)
	if !s.steps {
		return run.Run(ctx, devices)
	}
	_, err := run.Prepare(ctx, devices)
	if errors.Is(err, keystore.ErrExists) && s.existing == provision.TakeOverExisting { // its error names the call to make
		return run.Run(ctx, devices)
	}
	if err != nil {
		return nil, err
	}
	if err := run.Submit(ctx); err != nil {
		return nil, err
	}
	return run.Collect(ctx)
}

var extraDevice = ofType("board", "sensor")

// one registers one more device by itself.
func (s *sim) one(ctx context.Context, run *provision.Run) (bool, error) {
	if !s.extra {
		return true, nil
	}
	res, err := run.Register(ctx, extraDevice)
	if err == nil || res == nil {
		return err == nil && res.Verdict == provision.Provisioned, err
	}
	for d, lerr := range s.ledger.Devices(context.Background(), provision.DeviceFilter{Name: res.Name}) {
		if lerr != nil {
			return false, lerr
		}
		if ok, aerr := s.accepted(ctx, d); ok || aerr != nil {
			return ok, aerr
		}
	}
	return false, err
}

// noteLook notes whether the look at the end of a run, which a call may have ended with, has failed.
func (s *sim) noteLook(summary *provision.Summary) {
	failed := summary != nil && summary.OrphansError != nil
	if summary == nil {
		r, err := s.ledger.Run(context.Background())
		failed = err == nil && !r.Finished.IsZero()
	}
	s.unlooked = s.unlooked || failed
}

// checkLook is the promise that a run which has ended its tasks has looked through the account at its end.
func (s *sim) checkLook() error {
	parts, err := s.ledger.Parts(context.Background())
	if err != nil || s.unlooked || s.field != nil || !slices.ContainsFunc(parts, func(p *provision.PartRecord) bool { return p.TaskID != "" }) {
		return err
	}
	if s.listed.IsZero() {
		s.listed = time.Now()
	}
	s.checkNamed(s.listed)
	return nil
}

// settled reports whether every device of the input has the verdict it should have.
func (s *sim) settled() (bool, error) {
	for d, err := range s.records() {
		if err != nil {
			return false, err
		}
		if int(d.Seq) > len(s.want) {
			continue
		}
		if want := s.want[d.Seq-1]; d.Cause == want && d.Verdict == verdictOf(want) {
			continue
		}
		if d.Verdict == provision.Issued && s.field.stays[d.Name] {
			continue
		}
		if ok, err := s.accepted(context.Background(), d); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func verdictOf(c provision.Cause) provision.Verdict {
	if c == provision.CauseNone {
		return provision.Provisioned
	}
	return provision.Failed
}

func (s *sim) records() iter.Seq2[*provision.DeviceRecord, error] {
	return s.ledger.Devices(context.Background(), provision.DeviceFilter{})
}

// hits tells which faults of the plan have struck.
func (s *sim) hits() hits {
	for _, f := range s.fake.Faults() {
		if st := s.remote[f.ID]; st != nil && f.Hits > 0 {
			st.hit = true
		}
	}
	h := hits{}
	for _, st := range s.plan {
		if st.hit {
			h[st.cell]++
		}
	}
	return h
}

func (s *sim) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; %s; wire %v, SQLite %v, disk %v, three steps %v, one by itself %v; plan:", s.describeMishap(), s.credentials, s.wire, s.sql, s.disk, s.steps, s.extra)
	for _, st := range s.plan {
		fmt.Fprintf(&b, "\n  %s (struck: %v)", st, st.hit)
	}
	fmt.Fprintf(&b, "\nsteps reached: %v; processes: %d", slices.Sorted(maps.Keys(s.counts)), s.lives)
	return b.String()
}

// tempDirs gives each seed a folder in memory where the system has one: what a power cut does to files is tested
// elsewhere.
func tempDirs() (base string, remove func(), err error) {
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		parent = "/dev/shm"
	}
	base, err = os.MkdirTemp(parent, "iotfleet-simulation-")
	return base, func() { os.RemoveAll(base) }, err
}
