package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// Run is one run over one list of devices. Results, Record, WriteManifest, WriteFailures, Check and Stop may be called
// at any time; of the other methods one at a time, and a second call meanwhile returns an error.
type Run struct {
	opts      Options
	questions []template.Question // of Options.May
	ledger    Ledger
	shape     *shape
	pace      *pace
	stop      atomic.Pointer[stopper]
	busy      atomic.Bool // a method is working
}

// Check looks at every record and at the AWS side, and changes nothing: no key is made, nothing is sent, and the ledger
// is not changed. The account is asked for the name of each device, as fast as [Options].Look allows, unless
// Options.Existing is UncheckedExisting. It holds the name of every device in memory while it looks for duplicates, and
// with [GivenCSR] and [GivenCertificate] a digest of its public key.
//
// With [Options].May it also answers what each device may do once it is registered.
//
// An error means that checking itself failed.
func (r *Run) Check(ctx context.Context, devices iter.Seq2[Device, error]) (*CheckReport, error) {
	if devices == nil {
		return nil, errors.New("the devices are missing")
	}
	report := &CheckReport{Findings: r.opts.Template.Check(template.Bulk)}
	if r.opts.FirstConnection { // no more than the thing's name is taken from it
		report.Findings = report.Findings.AtLeast(finding.Error)
	}
	s := r.newSession()
	keys, credentials := newKeys(s, r.opts.Credential), newCredentials(s, r.shape, r.opts.Credential)
	look := newLooker(s, credentials, keys, newAccount(s, r.shape, nil, r.opts.SettleWindow), &r.opts)
	c := newChecker(&intake{session: s, shape: r.shape, unique: newUnique(r.shape.unique)}, look, r.opts.Credential)
	c.first = r.opts.FirstConnection
	if len(r.questions) > 0 {
		c.may = newMay(ctx, r.opts.Backend, r.questions)
		report.May = &c.may.report
	}
	if err := c.all(ctx, devices, report); err != nil {
		return nil, err
	}
	if err := c.account(ctx, r.opts.RoleARN, report); err != nil {
		return nil, err
	}
	return report, nil
}

// Run provisions the devices: it starts the run, goes on with one that was interrupted, or confirms one that is
// finished. devices may be nil when every record is in the ledger already; otherwise they must be those the run was
// started with, in the same order, and are compared with the ledger.
//
// Lines that AWS refused for its rates are sent again, up to five times with growing pauses; whatever else failed is
// left to Retry and Amend.
//
// The key store is asked for the private key of every device that is registered, also of those that an earlier call has
// settled: a device whose key is missing or another one is [NoKey], until a call finds its key again.
//
// At its end it looks for certificates that others have put on the things of the run meanwhile ([Summary].Meanwhile), unless
// Options.Existing is UncheckedExisting.
//
// It returns nil only when every device is Provisioned, and none has such a certificate unless Options.Existing is
// AddToExisting. When the run is over and that is not so, the error is an [*IncompleteError], and the summary is returned
// with it. After [Run.Stop] it wraps ErrStopped. When every device of a part failed for one cause and others wait, it wraps
// [ErrOneCause] and sends no further part. When the account lacks what every device needs, it wraps [ErrPreflight] and
// nothing is sent. Any other error stopped the run: mend what it names and call Run again.
//
// A panic of a callback (Observe, the output, the credential step and its key source) is raised again in the goroutine
// that called Run, as an error with the value and the stack, after the stages of the run have ended: a program that
// recovers can call Run again.
func (r *Run) Run(ctx context.Context, devices iter.Seq2[Device, error]) (*Summary, error) {
	c, err := r.beginStoppable(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	if err := c.intake.take(ctx, devices); err != nil {
		return nil, err
	}
	if err := c.handover.confirmAll(ctx); err != nil {
		return nil, err
	}
	// Of a run that is over, throttled devices are sent again only when Retry asks for it.
	if err := c.finish(ctx, c.record.Finished.IsZero()); err != nil {
		return nil, err
	}
	return c.conclude(ctx)
}

// Prepare does what needs no network: it takes the devices into the ledger, makes their keys and requests, and writes
// every part file. [Run.Submit] sends them later, perhaps from another machine that has the ledger and the part files
// but not the keys, and [Run.Collect] reads what came of it. Each of the three can be called again; Run does all that
// is left.
//
// It takes no device over ([TakeOverExisting]): keys of another run end it with an error that wraps keystore.ErrExists, and
// Run is the call to make. Options.PartDir must be set, for the files have to outlive the call.
func (r *Run) Prepare(ctx context.Context, devices iter.Seq2[Device, error]) (*Summary, error) {
	if r.opts.FirstConnection {
		return nil, errFirstConnection
	}
	if r.opts.PartDir == "" {
		return nil, errors.New("provision: Prepare needs Options.PartDir, a folder for the part files")
	}
	c, err := r.enter()
	if err != nil {
		return nil, err
	}
	defer c.end()
	if err := c.openOffline(ctx); err != nil {
		return nil, err
	}
	if err := c.intake.take(ctx, devices); err != nil {
		return nil, err
	}
	if err := c.prepareParts(ctx); err != nil {
		return nil, err
	}
	return c.summary(ctx)
}

// Submit uploads every part that is written and takes its registration task to its end, one after the other, as AWS
// runs them. It reads no report. After [Run.Stop] it ends with ErrStopped if parts are left.
func (r *Run) Submit(ctx context.Context) error {
	if r.opts.FirstConnection {
		return errFirstConnection
	}
	c, err := r.beginStoppable(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	return c.submitParts(ctx)
}

// Collect reads the reports of every task that has ended, gives its devices their verdicts and hands over their
// credentials. Like Run it returns nil only when every device of the run is Provisioned.
func (r *Run) Collect(ctx context.Context) (*Summary, error) {
	c, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	if err := c.handover.confirmAll(ctx); err != nil {
		return nil, err
	}
	if err := c.collectParts(ctx); err != nil {
		return nil, err
	}
	if err := c.account.resolveUnknown(ctx); err != nil {
		return nil, err
	}
	return c.conclude(ctx)
}

// Retry sends the failed devices again that trying again can help ([Cause.Retryable]), with the same key and the same
// request. Parts that are still on their way are taken to their end first. What a failed attempt left is read back,
// where the backend can: a device that turns out to be registered is Provisioned, not registered twice.
//
// Like Run it returns nil only when every device is Provisioned.
func (r *Run) Retry(ctx context.Context) (*Summary, error) {
	c, err := r.beginStoppable(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	if err := c.handover.confirmAll(ctx); err != nil {
		return nil, err
	}
	if err := c.intake.spooled(ctx); err != nil {
		return nil, err
	}
	if err := c.finishParts(ctx); err != nil {
		return nil, err
	}
	if c.stopped() {
		c.unsent = true
		return c.conclude(ctx)
	}
	if err := c.requeue(ctx, Cause.Retryable); err != nil {
		return nil, err
	}
	if err := c.finish(ctx, true); err != nil {
		return nil, err
	}
	return c.conclude(ctx)
}

// Amend feeds mended records back into a run: those of failures.csv, corrected. Each takes the place of the record it
// mends, found by Device.Seq or else by the thing's name, and is then sent. So is the record of a device that was Removed,
// mended or not. Records that are neither Failed nor Removed are left as they are, so feeding the same file twice does
// nothing more. Another run's record ends the call with [ErrInputChanged]; those before it are mended and not sent yet.
// Lines that can't be read and records that mend none of the run are left aside: the others are mended and sent, and the
// error names the first ten.
//
// A device keeps its key and its request, whether its row was changed or not, unless the request was the fault or its
// name is another now. It returns what Run returns.
func (r *Run) Amend(ctx context.Context, mended iter.Seq2[Device, error]) (*Summary, error) {
	if mended == nil {
		return nil, errors.New("the mended devices are missing")
	}
	c, err := r.beginStoppable(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	if !c.record.Spooled {
		return nil, errors.New("the run does not hold its whole input yet; give it all devices (Run) before mended ones")
	}
	if err := c.intake.spooled(ctx); err != nil {
		return nil, err
	}
	// A device that is mended while its part is on its way would be missed there.
	if err := c.handover.confirmAll(ctx); err != nil {
		return nil, err
	}
	if err := c.finishParts(ctx); err != nil {
		return nil, err
	}
	var left error
	if c.unsent, left, err = c.amender().all(ctx, mended); err != nil {
		return nil, err
	}
	if err := c.intake.spooled(ctx); err != nil {
		return nil, errors.Join(err, left)
	}
	if err := c.finish(ctx, true); err != nil {
		return nil, errors.Join(err, left)
	}
	summary, err := c.conclude(ctx)
	return summary, errors.Join(err, left)
}

// Reconcile gives every Unknown device a verdict by reading the account back, and makes those that are [Issued] Provisioned
// that have connected since: a device whose thing has a certificate
// for its key is Provisioned, one without is Failed and can be tried again. A device that has a certificate of the
// user's, or none, is Provisioned if its thing, with that certificate, is as the template makes it. It needs a backend
// that can read devices (task.DeviceReader), asks for the keys of registered devices as Run does, and returns the run's
// summary, with an [*IncompleteError] if some are not provisioned.
//
// It helps after a cancelled task, after reports were lost, and after AWS has deleted a task's data, which it does 30
// days after the task.
func (r *Run) Reconcile(ctx context.Context) (*Summary, error) {
	c, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	if c.account.reader == nil {
		return nil, errors.New("the backend can't read devices back, so what is unknown stays so")
	}
	if err := c.handover.confirmAll(ctx); err != nil {
		return nil, err
	}
	if err := c.account.resolveUnknown(ctx); err != nil {
		return nil, err
	}
	if err := c.account.resolveIssued(ctx); err != nil {
		return nil, err
	}
	return c.conclude(ctx)
}

// Register provisions one device now, without a registration task, into the same ledger: a board that was swapped at
// the line. The device is added to the run, or is one of the run's that is not provisioned yet. It needs a backend with
// task.Registrar, which AWS allows ten times a second.
//
// It may be called before the run has its list. A record of the list with the same row is that device then, and one
// with its name and other values is a duplicate. A run that never gets a list is concluded with Run(ctx, Devices()).
// While the list is only in part in the ledger, as after a crash, Register is refused.
//
// The request is sent once. When its answer is lost the account is read back; a device that is not found there stays
// Unknown, since the request may still take effect, and the next Register, Run or Reconcile resolves it: they look for
// it until [Options.SettleWindow] has passed since, and only then may it be sent again. A device that is Provisioned
// already, with the same values, is returned as it is and not registered again; with other values (another request) it
// is another board, and [Options.Existing] decides: it is refused with CauseExists and the certificate of the board
// before, or takes its place in the run. So it is with one that is NoKey and the same values. When it is the caller
// that the service refuses (task.ErrAccessDenied), the device stays what it was.
func (r *Run) Register(ctx context.Context, d Device) (*Result, error) {
	if r.opts.FirstConnection {
		return nil, errFirstConnection
	}
	c, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	registrar, ok := task.As[task.Registrar](r.opts.Backend)
	if !ok {
		return nil, errors.New("the backend can't register single devices")
	}
	if err := c.intake.noneOrAll(ctx); err != nil {
		return nil, err
	}
	rec, err := c.single(registrar).register(ctx, d)
	if rec == nil {
		return nil, err
	}
	return &rec.Result, err
}

// Adopt takes over a registration task that was started by hand, given its id and its data file, into a run that has no
// devices yet. Afterwards Run(ctx, nil) waits for it, reads its reports and gives every device a verdict. The task's
// template must be the run's. Keys stay where they were made; [Output] gets the certificates. Give the run the
// credential step that the file was made with elsewhere, such as [GivenCSR]: with [MakeCSR] a line that is sent again
// gets a new key. A step of your own must be a [LineMatcher].
//
// An Adopt that was interrupted goes on when it is called again with the same task and file; one that is done does
// nothing.
func (r *Run) Adopt(ctx context.Context, id task.ID, dataFile io.Reader) error {
	if r.opts.FirstConnection {
		return errFirstConnection
	}
	step, ok := As[LineMatcher](r.opts.Credential)
	if !ok {
		return fmt.Errorf("the credential step %T can't recognise lines that were made elsewhere (LineMatcher); take GivenCSR", r.opts.Credential)
	}
	c, err := r.begin(ctx)
	if err != nil {
		return err
	}
	defer c.end()
	parts, err := c.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	if len(parts) > 0 && parts[0].Adopted && parts[0].TaskID == id {
		return nil
	}
	if len(parts) > 0 || c.record.Spooled || c.record.Ahead > 0 {
		return errors.New("this run has devices of its own already; adopt a task into a run of its own")
	}
	return c.intake.adopt(ctx, id, step, dataFile)
}

// FindOrphans looks for certificates that this run caused and that no device of it uses: issued for a line that failed
// later, or for a line that was registered twice. It reads the certificates created since the run began, keeps what it
// finds in the ledger, and returns all orphans of the run, those found earlier included. One that a device has come to
// use since is none any more. A run with devices that were sent and failed does this by itself at its end.
//
// It also looks which of these certificates others have put on things of the run, unless Options.Existing is
// UncheckedExisting, and notes them in [Result].Existing; see [Summary].Meanwhile.
//
// When the run began is taken from the service's clock, as far as it has stated the time of a task: a machine whose clock
// is wrong finds the same. A run that only registered single devices knows no such time, and goes back a day more.
//
// It needs a backend with task.CertificateLister. AWS lists 250 certificates a page; only those that the ledger does
// not know are read one by one. Certificates of devices that have no verdict yet are passed over, for they may turn out
// to be the right ones: finish the run first.
func (r *Run) FindOrphans(ctx context.Context) ([]*Orphan, error) {
	c, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.end()
	lister, ok := task.As[task.CertificateLister](r.opts.Backend)
	if !ok {
		return nil, errors.New("the backend can't list certificates, so orphans can't be looked for")
	}
	l := c.account.lookThrough(lister)
	l.orphans, l.others = true, c.account.looks
	if err := l.all(ctx); err != nil {
		return nil, err
	}
	return c.ledger.Orphans(ctx)
}

// RemoveOrphans deactivates and deletes the run's orphans and returns how many it removed. Each is checked against the
// ledger once more, and against its thing in the account, for the ledger may be an older copy: a certificate that a device
// uses, or may use because it has no other one, or that was made for a device without a verdict, is not removed; it is
// named in the error, and the others are removed all the same. It needs a backend with task.Remover.
func (r *Run) RemoveOrphans(ctx context.Context) (int, error) {
	c, err := r.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer c.end()
	remover, ok := task.As[task.Remover](r.opts.Backend)
	if !ok {
		return 0, errors.New("the backend can't remove certificates")
	}
	return c.account.removeOrphans(ctx, remover)
}

// Deliver hands every device of the run that is Provisioned, or [Issued], over to out, as Run does to Options.Output:
// to a second place, to folders beside keys that were copied from a database, or once more after an output was lost. It
// returns how many were handed over and made durable; after an error it can be called again.
//
// It asks for the private key of each as Run does. A device that is [NoKey] is not handed over; the others are, and the
// error, an [ErrIncomplete], names the first of them.
//
// It takes the credentials from the ledger and changes only these verdicts there. A copy in the ledger that is damaged is
// not handed over: the device is read back from the account, and is Failed with [CauseCertificate] if what the account
// has is not right either. Otherwise the backend is only asked which account it works in, which must be the run's, and
// for the endpoint that devices connect to. A ledger without a run returns ErrNoRun.
func (r *Run) Deliver(ctx context.Context, out Output) (durable int64, err error) {
	if out == nil {
		return 0, errors.New("the output is missing")
	}
	c, err := r.enter()
	if err != nil {
		return 0, err
	}
	defer c.end()
	if _, err := r.ledger.Run(ctx); err != nil {
		return 0, err
	}
	if err := c.open(ctx); err != nil {
		return 0, err
	}
	durable, err = c.handover.deliverAll(ctx, out)
	damaged := c.handover.damaged
	if damaged == 0 || c.account.reader == nil {
		return durable, err
	}
	if err := c.account.resolveUnknown(ctx); err != nil {
		return durable, err
	}
	all, again := c.handover.deliverAll(ctx, out)
	if again == nil && all < durable+int64(damaged) {
		again = err // some could not be mended
	}
	return all, again
}

// Results yields every device of the run with its verdict, in the order of the input: those that were registered before
// it come first, those that were registered one by one afterwards last. The error is terminal and last.
//
// A certificate that was damaged in the ledger is not yielded: the device is Unknown here, and its Message has what is
// wrong. Run, Reconcile and Deliver read it back from the account.
func (r *Run) Results(ctx context.Context) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		record, err := r.ledger.Run(ctx)
		if errors.Is(err, ErrNoRun) {
			record, err = new(RunRecord), nil
		}
		if err != nil {
			yield(nil, err)
			return
		}
		for d, err := range r.ledger.Devices(ctx, DeviceFilter{}) {
			if err != nil {
				yield(nil, err)
				return
			}
			if d.Verdict == Provisioned || d.Verdict == NoKey {
				if err := d.verify(record.Identity); err != nil {
					d.doubt(damagedCopy, err)
					d.CertificatePEM = ""
				}
			}
			if !yield(&d.Result, nil) {
				return
			}
		}
	}
}

// Ledger returns the ledger of the run: Options.Ledger, or the memory ledger that New made.
func (r *Run) Ledger() Ledger { return r.ledger }

// Stop asks a Run, Retry, Amend or Submit in progress to end, and returns at once. It may be called from any goroutine,
// more than once; a later CancelTask overrides FinishPart. Without any of them in progress it makes the next one end
// before it begins a part.
//
// Cancelling the context of Run also leaves a run that resumes, but a task that goes on at AWS meanwhile.
func (r *Run) Stop(mode StopMode) { r.stop.Load().ask(mode) }
