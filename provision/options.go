package provision

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// ForeignTask says what to do when a registration task that is not this run's is in progress: AWS runs one at a time.
type ForeignTask int

// What to do about a foreign task.
const (
	WaitForForeign ForeignTask = iota // ask again until it has ended; the context is the limit
	FailOnForeign                     // return an error that wraps task.ErrTaskRunning
)

// Options describe a run. Backend, Template, RoleARN and Credential are required.
type Options struct {
	// Backend registers the devices.
	Backend task.Backend
	// Template says what to make of each device. It must check without errors for bulk registration.
	Template *template.Template
	// RoleARN is the role the service assumes to read the data file and register things.
	RoleARN string
	// Credential gives each device what its line needs for a certificate.
	Credential Credential
	// Output takes the credentials over. Nil leaves them in the ledger: read them with Results, or hand them over later
	// with Deliver.
	Output Output
	// Ledger holds the state of the run. Nil makes a new memory ledger.
	Ledger Ledger
	// PartLines is the greatest number of devices in one registration task. 0 means 10,000. The first task is small, so
	// that mistakes show soon. Each further one becomes as large as it can be ready in time: what is made while a task is
	// in progress is sent as the next one, so that the service has no pause. Prepare always fills its parts.
	PartLines int
	// PartBytes is the size at which a data file takes no further line; only its last line goes beyond. 0 means 256 MiB.
	PartBytes int64
	// PartDir is where part files are kept, as a record of what was sent. They hold CSRs and the rows' values, no private
	// keys. It is required with a Ledger that is given; empty uses a temporary folder that is removed when Run returns.
	PartDir string
	// Foreign says what to do when another task of the account is in progress. By default the run waits for it.
	Foreign ForeignTask
	// SettleWindow is how long to look for a task when the answer to Start was lost, before it counts as not started; and
	// for a device when the answer to its RegisterThing was lost. 0 means two minutes.
	SettleWindow time.Duration
	// Wait tunes how a task is polled. Its zero value is right for tasks of any length.
	Wait task.WaitOptions
	// Observe receives typed events, one at a time. It must return quickly.
	Observe func(Event)
}

// Run is one run over one list of devices. Results, Record, WriteRecord, WriteFailures, Check and Stop may be called at any
// time; of the other methods one at a time, and a second call meanwhile gives an error.
type Run struct {
	opts       Options
	ledger     Ledger
	program    *template.Program
	body       string
	bodySHA256 string
	fills      map[string]string // placeholders, to look at a row before its credential is made
	endpoint   string
	record     *RunRecord
	observing  sync.Mutex
	stop       atomic.Pointer[stopper]
	busy       atomic.Bool // a method is working
	cut        bool        // Stop kept it from sending failed devices again
	pace       *pace
	dir        string // where part files are
	resumed    bool   // the ledger knew the run already: an earlier call, or an earlier process, has begun it
}

// New checks the options and makes a Run. It talks to nobody yet.
func New(opts Options) (*Run, error) {
	switch {
	case opts.Backend == nil:
		return nil, errors.New("provision: Options.Backend is missing")
	case opts.Template == nil:
		return nil, errors.New("provision: Options.Template is missing")
	case opts.RoleARN == "":
		return nil, errors.New("provision: Options.RoleARN is missing; EnsureRole makes the role and gives its ARN")
	case !roleARN.MatchString(opts.RoleARN):
		return nil, fmt.Errorf("provision: Options.RoleARN is %s; an ARN such as arn:aws:iam::123456789012:role/registration is needed", rule.Quote(opts.RoleARN))
	case opts.Credential == nil:
		return nil, errors.New("provision: Options.Credential is missing; &provision.MakeCSR{Store: …} makes keys and CSRs")
	case opts.Ledger != nil && opts.PartDir == "":
		return nil, errors.New("provision: Options.PartDir is missing; a run that can be resumed needs its part files to last as long as its ledger")
	case opts.PartLines < 0 || opts.PartBytes < 0 || opts.SettleWindow < 0:
		return nil, errors.New("provision: PartLines, PartBytes and SettleWindow can't be negative")
	}
	if step, ok := As[Validator](opts.Credential); ok {
		if err := step.Validate(); err != nil {
			return nil, fmt.Errorf("provision: %w", err)
		}
	}
	if err := opts.Template.Check(template.Bulk).Err(); err != nil {
		return nil, fmt.Errorf("provision: the template can't be used for bulk registration: %w", err)
	}
	body, err := opts.Template.Body()
	if err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	program, err := opts.Template.Compile(template.CompileOptions{Kind: template.Bulk})
	if err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	opts.PartLines = cmp.Or(opts.PartLines, 10_000)
	opts.PartBytes = cmp.Or(opts.PartBytes, 256<<20)
	opts.SettleWindow = cmp.Or(opts.SettleWindow, 2*time.Minute)
	if opts.Ledger == nil {
		opts.Ledger = NewMemoryLedger()
	}
	if err := checkStep(opts.Credential, opts.Template, program.Parameters()); err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(body))
	r := &Run{opts: opts, ledger: opts.Ledger, program: program, body: body, bodySHA256: hex.EncodeToString(digest[:]), pace: newPace()}
	r.stop.Store(newStopper())
	r.fills = map[string]string{}
	for _, name := range opts.Credential.Fills() {
		r.fills[name] = "-"
	}
	return r, nil
}

// roleARN is the form of every role's ARN. AWS would refuse another only at Start, when keys are made and files sent.
var roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$`)

// checkStep refuses a credential step with which every device would fail, because the template asks for another one.
func checkStep(step Credential, t *template.Template, parameters []string) error {
	for _, name := range step.Fills() {
		if !slices.Contains(parameters, name) {
			return fmt.Errorf("provision: the credential step %T gives the parameter %q, which the template does not have, only %s; "+
				"name the template's own in its Parameter, or take another step", step, name, strings.Join(parameters, ", "))
		}
	}
	if _, none := As[NoCertificate](step); !none {
		return nil
	}
	for _, res := range t.Resources {
		if _, ok := res.(template.Certificate); ok {
			return errors.New("provision: the credential step is NoCertificate, and the template makes a certificate; " +
				"take MakeCSR, GivenCSR, GivenCertificate or GivenCertificateID")
		}
	}
	return nil
}

// Run provisions the devices: it starts the run, goes on with one that was interrupted, or confirms one that is
// finished. devices may be nil when every record is in the ledger already; otherwise they must be those the run was
// started with, in the same order, and are compared with the ledger.
//
// Lines that AWS refused for its rates are sent again, up to five times with growing pauses; whatever else failed is left
// to Retry and Amend.
//
// It returns nil only when every device is Provisioned. When the run is over but some are not, the error is an
// [*IncompleteError]; the summary is given with it. After [Run.Stop] it wraps ErrStopped. Any other error stopped the run:
// mend what it names and call Run again.
func (r *Run) Run(ctx context.Context, devices iter.Seq2[Device, error]) (*Summary, error) {
	began := time.Now()
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	defer r.stopObeyed()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if err := r.spool(ctx, devices); err != nil {
		return nil, err
	}
	// Of a run that is over, throttled devices are sent again only when Retry asks for it.
	if err := r.registerAll(ctx, r.record.Finished.IsZero()); err != nil {
		return nil, err
	}
	return r.conclude(ctx, began)
}

// enter keeps two calls from working side by side: each would send what the other sends.
func (r *Run) enter() error {
	if r.busy.Swap(true) {
		return errors.New("this Run is at work for another call, and works for one at a time")
	}
	r.cut = false
	return nil
}

func (r *Run) leave() { r.busy.Store(false) }

// conclude gives the summary, and records that the run is over once every device has a verdict and none is to be sent again.
func (r *Run) conclude(ctx context.Context, began time.Time) (*Summary, error) {
	s, err := r.summary(ctx)
	if err != nil {
		return nil, err
	}
	stopped := r.stopped() && (s.Unsettled > 0 || r.cut && s.Failed > 0)
	if s.Unsettled == 0 && r.record.Spooled && r.record.Finished.IsZero() && !stopped {
		r.record.Finished = time.Now()
		if err := r.ledger.Apply(ctx, Change{Run: r.record}); err != nil {
			return nil, err
		}
	}
	s.Took = time.Since(began)
	if stopped {
		return s, fmt.Errorf("%w: %s", ErrStopped, s)
	}
	if !r.record.Spooled {
		return s, fmt.Errorf("%w: the ledger does not hold the whole input yet; call Run with the devices", ErrIncomplete)
	}
	if s.Provisioned != s.Total || s.Total == 0 {
		return s, &IncompleteError{Summary: s}
	}
	return s, nil
}

// Results yields every device of the run with its verdict, in the order of the input. The error is terminal and last.
func (r *Run) Results(ctx context.Context) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		for d, err := range r.ledger.Devices(ctx, DeviceFilter{}) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&d.Result, nil) {
				return
			}
		}
	}
}

// open makes the run's record or checks the one that is there, and finds out where the backend works: a run belongs to one
// account, region and partition, and never moves.
func (r *Run) open(ctx context.Context) error {
	if err := r.openRecord(ctx); err != nil {
		return err
	}
	var identity task.Identity
	if who, ok := task.As[task.Identifier](r.opts.Backend); ok {
		err := retry(ctx, func() error {
			id, err := who.Identity(ctx)
			if err == nil {
				identity = *id
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("asking which account this is: %w", err)
		}
	}
	if r.record.Identity == (task.Identity{}) && identity != (task.Identity{}) { // new, or prepared without a network
		r.record.Identity = identity
		if err := r.ledger.Apply(ctx, Change{Run: r.record}); err != nil {
			return err
		}
	}
	if r.record.Identity != identity {
		return fmt.Errorf("%w: it was started in %s, the backend is %s", ErrElsewhere, where(r.record.Identity), where(identity))
	}
	if e, ok := task.As[task.Endpointer](r.opts.Backend); ok && r.endpoint == "" {
		err := retry(ctx, func() (err error) {
			r.endpoint, err = e.DataEndpoint(ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("asking for the endpoint devices connect to: %w", err)
		}
	}
	return nil
}

// openRecord makes or checks the run's record without asking the backend.
func (r *Run) openRecord(ctx context.Context) error {
	record, err := r.ledger.Run(ctx)
	r.resumed = err == nil
	if errors.Is(err, ErrNoRun) {
		now := time.Now()
		record = &RunRecord{ID: newRunID(now), Created: now, TemplateSHA256: r.bodySHA256, RoleARN: r.opts.RoleARN}
		err = r.ledger.Apply(ctx, Change{Run: record})
	}
	if err != nil {
		return err
	}
	if record.TemplateSHA256 != r.bodySHA256 {
		return fmt.Errorf("%w: it was started with another template (SHA-256 %.12s…, this one has %.12s…)", ErrElsewhere, record.TemplateSHA256, r.bodySHA256)
	}
	r.record = record
	return nil
}

func where(id task.Identity) string {
	kind := "AWS"
	if id.Fake {
		kind = "the fake"
	}
	return fmt.Sprintf("%s, account %s, region %s, partition %s", kind, id.Account, id.Region, id.Partition)
}

// newRunID gives an id that sorts by time and is safe in file names and S3 keys.
func newRunID(now time.Time) string {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return now.UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}

func (r *Run) observe(e Event) {
	if r.opts.Observe == nil {
		return
	}
	r.observing.Lock() // the stages of a run are goroutines of their own
	defer r.observing.Unlock()
	r.opts.Observe(e)
}

// partDir finds the folder for part files, and gives what to call when they are no longer needed.
func (r *Run) partDir() (done func(), err error) {
	if r.dir = r.opts.PartDir; r.dir != "" {
		if err := makeFolder(r.dir); err != nil {
			return nil, fmt.Errorf("the folder for part files: %w", err)
		}
		return func() {}, r.removeLeftovers()
	}
	if r.dir, err = os.MkdirTemp("", "iotfleet-parts-"); err != nil {
		return nil, err
	}
	return func() { _ = os.RemoveAll(r.dir) }, nil
}
