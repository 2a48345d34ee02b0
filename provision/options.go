package provision

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// ForeignTask is what to do when a registration task that is not this run's is in progress: AWS runs one at a time.
type ForeignTask string

// What to do about a foreign task.
const (
	WaitForForeign ForeignTask = ""     // ask again until it has ended; the context is the limit
	FailOnForeign  ForeignTask = "fail" // return an error that wraps task.ErrTaskRunning
)

// Options describe a run. Backend, Template, RoleARN (except with FirstConnection) and Credential are required.
type Options struct {
	// Backend registers the devices.
	Backend task.Backend
	// Template is what to make of each device. It must check without errors for bulk registration.
	Template *template.Template
	// RoleARN is the role the service assumes to read the data file and register things.
	RoleARN string
	// Credential makes what each device's line needs for a certificate.
	Credential Credential
	// FirstConnection leaves the registration to the devices: no task is started, and nothing is made in the account. The CA of
	// the certificates registers each when it first connects, by a template ([just-in-time provisioning]) or by a rule on its
	// event (just-in-time registration); see [task.CAEnsurer]. A device whose key and certificate are durable and handed over
	// is [Issued]. It is Provisioned once its thing, by the name that the template makes of its row, has the certificate,
	// ACTIVE: Run and Reconcile look for that. It needs a Credential that is an [Issuer], such as [IssueCertificate]; RoleARN is
	// not needed.
	//
	// [just-in-time provisioning]: https://docs.aws.amazon.com/iot/latest/developerguide/jit-provisioning.html
	FirstConnection bool
	// Output takes the credentials over. Nil leaves them in the ledger: read them with Results, or hand them over later
	// with Deliver.
	Output Output
	// Ledger holds the state of the run. Nil makes a new memory ledger.
	Ledger Ledger
	// Meta chooses the columns of the rows that are kept beside each device ([Device.Meta]) and not sent. Its zero value
	// keeps none.
	Meta Meta
	// Unique names columns, sent or kept, in which no two devices may have the same value, letters' case and space around
	// it left aside, such as serial numbers: the later record is Failed with CauseDuplicate. It costs some 60 bytes of
	// memory for each device and column while the input is read, and reading the whole ledger in Amend and Register.
	Unique []string
	// PartLines is the greatest number of devices in one registration task. 0 means 10,000. The first task is small, so
	// that mistakes show soon. Each further one becomes as large as it can be ready in time: what is made while a task is
	// in progress is sent as the next one, so that the service has no pause. Prepare always fills its parts.
	PartLines int
	// PartBytes is the size at which a data file takes no further line; only its last line goes beyond. 0 means 256 MiB.
	PartBytes int64
	// PartDir is where part files are kept, as a record of what was sent. They hold CSRs and the rows' values, no private
	// keys. It is required with a Ledger that is given; empty uses a temporary folder that is removed when Run returns.
	PartDir string
	// Existing is what to do with a device whose thing has an ACTIVE certificate that is not this run's. By default it is
	// not sent. Look is how fast the account is asked.
	Existing Existing
	Look     LookRates
	// Foreign is what to do when another task of the account is in progress. By default the run waits for it.
	Foreign ForeignTask
	// SettleWindow is how long to look for a task when the answer to Start was lost, before it counts as not started; and
	// for a device when the answer to its RegisterThing was lost. 0 means two minutes.
	SettleWindow time.Duration
	// SkipPreflight leaves out the look at the account before the first task (task.Preflighter). By default Run, Retry,
	// Amend and Submit make it, with the names that the first 1,000 devices refer to, at most 50 of each kind, and send
	// nothing if it proves that every device would fail: they return ErrPreflight. What can't be looked at, for want of a
	// permission or of an answer within a minute, stops nothing and is in EventPreflight. It is not repeated once it has
	// found nothing that is wrong for the template and the role. Register makes none: it sends one device and returns
	// its error.
	SkipPreflight bool
	// May are questions that [Run.Check] answers about the devices: "connect", "publish:dt/{ThingName}/state",
	// "subscribe:cmd/{ThingName}/#"; see [template.ParseQuestion]. {ThingName} is the thing's name, any other field a
	// column of the record. "connect" is asked first if no question about connecting is: without it, the others are of no
	// use. See [CheckReport.May]. With FirstConnection there are none: devices get other policies than the template's.
	May []string
	// Wait tunes how a task is polled. Its zero value is right for tasks of any length.
	Wait task.WaitOptions
	// Observe receives typed events, one at a time. It must return quickly, and not ask the backend: a request that fails
	// is an event too, which would wait for it.
	Observe func(Event)
}

// New checks the options and makes a Run. It talks to nobody yet.
func New(opts Options) (*Run, error) {
	switch {
	case opts.Backend == nil:
		return nil, errors.New("provision: Options.Backend is missing")
	case opts.Template == nil:
		return nil, errors.New("provision: Options.Template is missing")
	case opts.RoleARN == "" && !opts.FirstConnection:
		return nil, errors.New("provision: Options.RoleARN is missing; EnsureRole makes the role and returns its ARN")
	case opts.RoleARN != "" && !roleARN.MatchString(opts.RoleARN):
		return nil, fmt.Errorf("provision: Options.RoleARN is %s; an ARN such as arn:aws:iam::123456789012:role/registration is needed", rule.Quote(opts.RoleARN))
	case opts.Credential == nil:
		return nil, errors.New("provision: Options.Credential is missing; &provision.MakeCSR{Store: …} makes keys and CSRs")
	case opts.Ledger != nil && opts.PartDir == "":
		return nil, errors.New("provision: Options.PartDir is missing; a run that can be resumed needs its part files to last as long as its ledger")
	case opts.Foreign != WaitForForeign && opts.Foreign != FailOnForeign:
		return nil, fmt.Errorf("provision: Options.Foreign is %q; WaitForForeign or FailOnForeign is needed", opts.Foreign)
	case !opts.Existing.valid():
		return nil, fmt.Errorf("provision: Options.Existing is %q; RefuseExisting, AddToExisting, ReplaceExisting, TakeOverExisting or UncheckedExisting is needed", opts.Existing)
	case opts.Look.Things < 0 || opts.Look.Certificates < 0:
		return nil, errors.New("provision: the rates of Options.Look can't be negative")
	case opts.PartLines < 0 || opts.PartBytes < 0 || opts.SettleWindow < 0:
		return nil, errors.New("provision: PartLines, PartBytes and SettleWindow can't be negative")
	}
	if _, ok := task.As[task.Remover](opts.Backend); !ok && opts.Existing == ReplaceExisting {
		return nil, errors.New("provision: Options.Existing is ReplaceExisting, and the backend can't take certificates out of service (task.Remover)")
	}
	_, finds := task.As[task.ThingFinder](opts.Backend)
	_, reads := task.As[task.DeviceReader](opts.Backend)
	if !(finds && reads) && (opts.Existing == ReplaceExisting || opts.Existing == TakeOverExisting) {
		return nil, fmt.Errorf("provision: Options.Existing is %q, and the backend can't look for devices (task.ThingFinder, task.DeviceReader)", opts.Existing)
	}
	if step, ok := As[Validator](opts.Credential); ok {
		if err := step.Validate(); err != nil {
			return nil, fmt.Errorf("provision: %w", err)
		}
	}
	if err := opts.Template.Check(template.Bulk).Err(); err != nil {
		return nil, fmt.Errorf("provision: the template can't be used for bulk registration: %w", err)
	}
	opts.Credential = ForTemplate(opts.Credential, opts.Template)
	shape, err := newShape(opts.Template, opts.Credential)
	if err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	if opts.FirstConnection && shape.issuer == "" {
		return nil, fmt.Errorf("provision: with Options.FirstConnection the certificates are of a CA that registers them; "+
			"the credential step %T has none (Issuer); take IssueCertificate", opts.Credential)
	}
	shape.first = opts.FirstConnection
	if opts.FirstConnection && len(opts.May) > 0 {
		return nil, errors.New("provision: Options.May (-may) asks about the policies of the run's template, which devices that are registered at their first connection do not get")
	}
	if err := shape.choose(opts.Meta, opts.Unique); err != nil {
		return nil, fmt.Errorf("provision: %w", err)
	}
	opts.PartLines = cmp.Or(opts.PartLines, 10_000)
	opts.PartBytes = cmp.Or(opts.PartBytes, 256<<20)
	opts.SettleWindow = cmp.Or(opts.SettleWindow, 2*time.Minute)
	if opts.Ledger == nil {
		opts.Ledger = NewMemoryLedger()
	}
	if err := checkStep(opts.Credential, opts.Template, shape.program.Parameters()); err != nil {
		return nil, err
	}
	questions, err := questionsOf(opts.May)
	if err != nil {
		return nil, fmt.Errorf("provision: Options.May: %w", err)
	}
	r := &Run{questions: questions, opts: opts, ledger: keyless{opts.Ledger}, shape: shape, pace: newPace()}
	r.stop.Store(newStopper())
	return r, nil
}

// roleARN is the form of every role's ARN. AWS would refuse another only at Start, when keys are made and files sent.
var roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$`)
