package provision

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// call is one call of an exported method of Run, with the stages it goes through. Each stage is given what it needs and
// knows none of those after it:
//
//	intake → credentials → parts → tasks → reports → handover
//	                                account (read-back) → handover
//
// With Options.FirstConnection, first is in place of parts, tasks and reports.
//
// Before parts makes a part, looker asks the account about its devices. At the end, replacer takes the certificates out of
// service that new ones replace.
type call struct {
	*session
	run       *Run
	began     time.Time
	stoppable bool   // Stop can end it
	unsent    bool   // Stop kept it from sending failed devices again
	preflown  bool   // the account was looked at
	deafen    func() // ends the backend's notices

	intake      *intake
	credentials *credentials
	parts       *parts
	tasks       *tasks
	reports     *reports
	account     *account
	looker      *looker
	first       *firstConnections
	handover    *handover
	replacer    *replacer
}

// enter begins a call, which end must end. Two of them side by side would each send what the other sends, so a second
// one is refused.
func (r *Run) enter() (*call, error) {
	if r.busy.Swap(true) {
		return nil, errors.New("this Run is at work for another call, and works for one at a time")
	}
	o := &r.opts
	s := r.newSession()
	c := &call{session: s, run: r, began: time.Now(), deafen: func() {}}
	if n, ok := task.As[task.Notifier](o.Backend); ok {
		c.deafen = n.Notify(func(host string, err error) { s.observe(EventUnreachable{Host: host, Err: err}) })
	}
	c.intake = &intake{session: s, shape: r.shape, unique: newUnique(r.shape.unique)}
	c.credentials = newCredentials(s, r.shape, o.Credential)
	keys := newKeys(s, o.Credential)
	c.parts = &parts{
		session: s, shape: r.shape, credentials: c.credentials, keys: keys, pace: r.pace,
		maxLines: o.PartLines, maxBytes: o.PartBytes,
	}
	c.tasks = &tasks{
		session: s, body: r.shape.body, roleARN: o.RoleARN, pace: r.pace,
		foreign: o.Foreign, settleWindow: o.SettleWindow, wait: o.Wait,
	}
	c.handover = &handover{session: s, keys: keys, output: o.Output, turn: make(chan struct{}, 1)}
	if o.FirstConnection {
		c.handover.issuer = r.shape.issuer
	}
	c.reports = &reports{session: s, shape: r.shape, handover: c.handover}
	c.account = newAccount(s, r.shape, c.handover, o.SettleWindow)
	c.looker = newLooker(s, c.credentials, keys, c.account, o)
	c.parts.looker = c.looker
	c.tasks.lookAgain, c.tasks.looks = c.parts.lookAgain, c.looker.looks()
	c.account.looks, c.account.rates = c.looker.looks(), o.Look
	c.first = &firstConnections{session: s, shape: r.shape, parts: c.parts, handover: c.handover}
	c.replacer = &replacer{session: s, existing: o.Existing, rates: o.Look}
	c.replacer.remover, _ = task.As[task.Remover](o.Backend)
	return c, nil
}

func (r *Run) newSession() *session {
	s := &session{ledger: r.ledger, backend: r.opts.Backend, observe: func(Event) {}, stop: r.stop.Load()}
	if observe := r.opts.Observe; observe != nil {
		var observing sync.Mutex // the stages of a run are goroutines of their own
		s.observe = func(e Event) {
			observing.Lock()
			defer observing.Unlock()
			observe(e)
		}
	}
	return s
}

// begin begins a call and opens the run.
func (r *Run) begin(ctx context.Context) (*call, error) { return r.beginAs(ctx, false) }

// beginStoppable begins a call that Stop can end.
func (r *Run) beginStoppable(ctx context.Context) (*call, error) { return r.beginAs(ctx, true) }

func (r *Run) beginAs(ctx context.Context, stoppable bool) (*call, error) {
	c, err := r.enter()
	if err != nil {
		return nil, err
	}
	c.stoppable = stoppable
	opened := false
	defer func() {
		if !opened { // also after a panic of the backend
			c.end()
		}
	}()
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	opened = true
	return c, nil
}

// end ends a call. If Stop ended it, the next call does not know of that.
func (c *call) end() {
	if c.stoppable && c.stopped() {
		c.run.stop.Store(newStopper())
	}
	c.deafen()
	c.run.busy.Store(false)
}

// open opens the run's record and finds out where the backend works.
func (c *call) open(ctx context.Context) error {
	if err := c.openOffline(ctx); err != nil {
		return err
	}
	return c.locate(ctx)
}

// openOffline opens the run's record without asking the backend.
func (c *call) openOffline(ctx context.Context) error {
	if err := c.openRecord(ctx, c.run.shape.digest, c.run.opts.RoleARN); err != nil {
		return err
	}
	return c.sameWay(ctx)
}

// amender takes mended records in.
func (c *call) amender() *amender {
	return &amender{
		session: c.session, shape: c.run.shape, intake: c.intake, credentials: c.credentials, account: c.account,
		handover: c.handover,
	}
}

// single registers devices one by one.
func (c *call) single(registrar task.Registrar) *single {
	return &single{
		session: c.session, intake: c.intake, credentials: c.credentials, keys: c.looker.keys, account: c.account,
		looker: c.looker, replacer: c.replacer, reports: c.reports, handover: c.handover, registrar: registrar, body: c.run.shape.body,
	}
}

// requeue puts failed devices whose cause is wanted back among those that wait, and tells the counts as they are then.
func (c *call) requeue(ctx context.Context, wanted func(Cause) bool) error {
	rs := resender{session: c.session, intake: c.intake, account: c.account, handover: c.handover}
	if err := rs.requeue(ctx, wanted); err != nil {
		return err
	}
	return c.intake.spooled(ctx)
}

// conclude returns the summary, and records that the run is over once every device has a verdict and none is to be sent
// again.
func (c *call) conclude(ctx context.Context) (*Summary, error) {
	sum, unreplaced, err := c.replacer.all(ctx)
	if err != nil {
		return nil, err
	}
	s, err := c.summary(ctx)
	if err != nil {
		return nil, err
	}
	s.Replaced, s.NotReplaced, s.Meanwhile = sum.certificates, sum.still, sum.meanwhile
	stopped := c.stopped() && (s.Pending > 0 || c.unsent && s.Failed > 0 || s.NotReplaced > 0)
	finished := s.Pending == 0 && s.Total > 0 && c.record.Spooled && c.record.Finished.IsZero() && !stopped
	if !stopped {
		if err := c.lookAtEnd(ctx, s, finished); err != nil {
			return nil, err
		}
	}
	if finished { // only now: a call that is interrupted while it looks is followed by one that looks
		c.record.Finished = time.Now()
		if err := c.ledger.Apply(ctx, Change{Run: c.record}); err != nil {
			return nil, err
		}
	}
	s.Took = time.Since(c.began)
	if stopped {
		return s, fmt.Errorf("%w: %s", ErrStopped, s)
	}
	if !c.record.Spooled {
		return s, fmt.Errorf("%w: the ledger does not hold the whole input yet; call Run with the devices", ErrIncomplete)
	}
	if unreplaced != nil {
		return s, fmt.Errorf("%w: %w", &IncompleteError{Summary: s}, unreplaced)
	}
	kept := c.looker.existing == AddToExisting || c.looker.existing == UncheckedExisting
	if s.Provisioned != s.Total || s.Total == 0 || s.NotReplaced > 0 && c.replacer.existing != AddToExisting || s.Meanwhile > 0 && !kept {
		return s, &IncompleteError{Summary: s}
	}
	return s, nil
}
