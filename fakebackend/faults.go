package fakebackend

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	other "github.com/seed1ff6f450/iotfleet/fakebackend/internal/operation"
	"github.com/seed1ff6f450/iotfleet/internal/spelling"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Effect is what a [Fault] does to what it matches.
type Effect string

// The effects of a fault.
const (
	// Fail answers a request with Code, Status and Message without doing it; it fails a line with Code and Message.
	Fail Effect = "fail"
	// Throttle is Fail with ThrottlingException and the text "Rate exceeded" (SlowDown for uploads and downloads).
	Throttle Effect = "throttle"
	// Delay holds a request for Delay before it is done, on the machine's (or the synctest bubble's) timer and not on
	// the fake's clock. It makes a line, and all that come after it, ready so much later on the fake's clock.
	Delay Effect = "delay"
	// Hang never answers: a request ends with its context, one of a connected device when another connection takes its
	// client id over or the gateway is closed. A line that hangs is not worked on, nor any after it, until the fault is
	// removed or the task is stopped or overdue.
	Hang Effect = "hang"
	// EndTask ends a task as Failed, with Message, when the line is due: the line is not worked on, nor any after it.
	// What was done stays, and stands in the reports.
	EndTask Effect = "end-task"
	// DropBefore loses a request: it has no effect, and the caller gets [task.ErrOutcomeUnknown].
	DropBefore Effect = "drop-before"
	// DropAfter loses the answer: the request has its effect, or is refused, and the caller gets
	// [task.ErrOutcomeUnknown] in either case.
	DropAfter Effect = "drop-after"
	// Truncate ends the body of a download (GetObject) after Bytes bytes of it, without a clean end.
	Truncate Effect = "truncate"
	// Expire refuses a report link (GetObject) as expired.
	Expire Effect = "expire"
)

// Step is a step of the work on one line, in the order in which they happen.
type Step string

// The steps of a line.
const (
	StepParse             Step = "parse"              // the line is read and the template filled in
	StepCertificate       Step = "certificate"        // the certificate is made, registered or looked up
	StepThing             Step = "thing"              // the thing is made or updated
	StepBillingGroup      Step = "billing-group"      // the thing is put in its billing group
	StepThingGroups       Step = "thing-groups"       // the thing is put in its thing groups
	StepPolicy            Step = "policy"             // the policies are made or looked up
	StepAttachPolicy      Step = "attach-policy"      // the policies are attached to the certificate
	StepAttachCertificate Step = "attach-certificate" // the certificate is attached to the thing
	StepActivate          Step = "activate"           // the certificate gets its status
	StepReport            Step = "report"             // all is made; the line is about to be reported as registered
)

// Steps lists the steps of a line in their order.
func Steps() []Step {
	return []Step{StepParse, StepCertificate, StepThing, StepBillingGroup, StepThingGroups, StepPolicy,
		StepAttachPolicy, StepAttachCertificate, StepActivate, StepReport}
}

// Fault is which requests or lines go wrong, and how. It is plain data: as JSON it has the member names below, with
// Delay as a string such as "1.5s".
//
// A fault with Line or Step, or that ends a task, is about lines: those of tasks, and with Line 0 also the one of a
// RegisterThing, of just-in-time provisioning and of a claim. Any other is about requests. What is left at its zero value
// matches everything.
type Fault struct {
	// Operation is AWS's name of the operation, such as StartThingRegistrationTask. Upload is PutObject, Open is
	// GetObject, EnsureBucket is CreateBucket and EnsureRole is CreateRole; the other operations of S3, IAM and STS are
	// requested through package fakeaws only. What devices do has names too, such as Connect. A name that is none of
	// the fake's operations (docs/coverage.md lists them) is an error: the fault could never strike. For lines it is
	// ignored.
	Operation string `json:"operation,omitempty"`
	// Thing is the name of the thing that the request or the line is about; the client id of a device's connection.
	Thing string `json:"thing,omitempty"`
	// Line is the line's number in its data file, from 1.
	Line int64 `json:"line,omitempty"`
	// Step is where in a line to strike: just before that step. Default for lines: [StepParse].
	Step Step `json:"step,omitempty"`
	// Nth passes over all matching requests or lines but the nth, counting from 1, and those after it as far as Times
	// reaches. 0 is 1.
	Nth int `json:"nth,omitempty"`
	// Times is how often to strike. 0 is once; a negative number has no end.
	Times int `json:"times,omitempty"`

	// Do is the effect.
	Do Effect `json:"do"`
	// Code is the error code of Fail. Default InternalFailureException.
	Code string `json:"code,omitempty"`
	// Status is the HTTP status of Fail. Default: what the code has.
	Status int `json:"status,omitempty"`
	// Message is the text of Fail and Throttle, and the message of the task that EndTask ends.
	Message string `json:"message,omitempty"`
	// Delay is how long Delay holds.
	Delay time.Duration `json:"-"`
	// Bytes is where Truncate cuts, counted from the start of the file.
	Bytes int64 `json:"bytes,omitempty"`
}

// faultJSON is Fault with a delay that people can write.
type faultJSON struct {
	*faultPlain
	Delay string `json:"delay,omitempty"`
}

type faultPlain Fault

// MarshalJSON writes the fault with its delay as a string.
func (f Fault) MarshalJSON() ([]byte, error) {
	j := faultJSON{faultPlain: (*faultPlain)(&f)}
	if f.Delay != 0 {
		j.Delay = f.Delay.String()
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes. A member that no fault has is an error: a slip in a name would otherwise
// make a fault that strikes everything.
func (f *Fault) UnmarshalJSON(data []byte) error {
	var read Fault
	j := faultJSON{faultPlain: (*faultPlain)(&read)}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return err
	}
	if j.Delay != "" {
		d, err := time.ParseDuration(j.Delay)
		if err != nil {
			return fmt.Errorf("delay: %w", err)
		}
		read.Delay = d
	}
	*f = read
	return nil
}

func (f *Fault) aboutLines() bool { return f.Line != 0 || f.Step != "" || f.Do == EndTask }

// check returns what is wrong with a fault.
func (f *Fault) check() error {
	effects := []Effect{Fail, Throttle, Delay, Hang, EndTask, DropBefore, DropAfter, Truncate, Expire}
	lineEffects := []Effect{Fail, Throttle, Delay, Hang, EndTask}
	beforeLine := f.aboutLines() && (f.Do == Delay || f.Do == Hang || f.Do == EndTask)
	switch {
	case f.Operation != "" && !slices.Contains(operationNames(), f.Operation):
		return fmt.Errorf("fakebackend: fault: the fake has no operation %q, so the fault could never strike; the names nearest to it are %s",
			f.Operation, strings.Join(nearestOperations(f.Operation), ", "))
	case !slices.Contains(effects, f.Do):
		return fmt.Errorf("fakebackend: fault: Do is %q; it must be one of %q", f.Do, effects)
	case f.aboutLines() && !slices.Contains(lineEffects, f.Do):
		return fmt.Errorf("fakebackend: fault: %q cannot happen to a line; it must be one of %q", f.Do, lineEffects)
	case f.Step != "" && !slices.Contains(Steps(), f.Step):
		return fmt.Errorf("fakebackend: fault: Step is %q; it must be one of %q", f.Step, Steps())
	case beforeLine && f.Step != "" && f.Step != StepParse:
		return fmt.Errorf("fakebackend: fault: %q strikes before a line is begun, not at step %q", f.Do, f.Step)
	case beforeLine && f.Thing != "":
		return fmt.Errorf("fakebackend: fault: %q strikes before the line is read, so it cannot match the thing %q", f.Do, f.Thing)
	case (f.Do == Truncate || f.Do == Expire) && f.Operation != opGetObject:
		return fmt.Errorf("fakebackend: fault: %q happens to %s only, not to %q", f.Do, opGetObject, f.Operation)
	case f.Line < 0 || f.Nth < 0 || f.Bytes < 0 || f.Delay < 0:
		return fmt.Errorf("fakebackend: fault: Line, Nth, Bytes and Delay must not be negative")
	}
	return nil
}

// operationNames are the names of all operations that a fault can be set for, sorted.
func operationNames() []string {
	names := slices.Concat(other.S3, other.IAM, other.STS)
	for _, o := range operations {
		names = append(names, o.Name)
	}
	for _, o := range other.Devices {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	return slices.Compact(names) // IoT and IAM both have a CreatePolicy
}

// nearestOperations returns the three names that are most like one that no operation has, the nearest first.
func nearestOperations(name string) []string {
	names := operationNames()
	far := func(known string) int { return spelling.Distance(spelling.Fold(name), spelling.Fold(known)) }
	slices.SortStableFunc(names, func(a, b string) int { return far(a) - far(b) })
	return names[:3]
}

// FaultStatus is a fault that was set, with what became of it.
type FaultStatus struct {
	ID    int   `json:"id"`
	Fault Fault `json:"fault"`
	Seen  int   `json:"seen"` // how many requests or lines it matched
	Hits  int   `json:"hits"` // how often it struck
}

// Spent reports whether the fault has struck as often as it was to.
func (s *FaultStatus) Spent() bool {
	return s.Fault.Times >= 0 && s.Hits >= max(1, s.Fault.Times)
}

// faults is the list of faults that are set.
type faults struct {
	mu     sync.Mutex
	list   []*FaultStatus
	lastID int
	lines  bool // some fault is about lines; spares each line the look
}

// AddFault sets a fault and returns its id; a fault that makes no sense is an error. Faults are tried in the order they
// were set, and the first that strikes decides.
func (b *Backend) AddFault(f Fault) (id int, err error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	fs := &b.faults
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.lastID++
	fs.list = append(fs.list, &FaultStatus{ID: fs.lastID, Fault: f})
	fs.lines = fs.lines || f.aboutLines()
	return fs.lastID, nil
}

// Faults returns the faults that are set, with how often each has struck.
func (b *Backend) Faults() []FaultStatus {
	fs := &b.faults
	fs.mu.Lock()
	defer fs.mu.Unlock()
	out := make([]FaultStatus, len(fs.list))
	for i, s := range fs.list {
		out[i] = *s
	}
	return out
}

// FaultHits returns how often a fault has struck; 0 if there is no such fault.
func (b *Backend) FaultHits(id int) int {
	for _, s := range b.Faults() {
		if s.ID == id {
			return s.Hits
		}
	}
	return 0
}

// RemoveFault takes a fault away. A line that hangs because of it goes on; a request that hangs does not.
func (b *Backend) RemoveFault(id int) {
	fs := &b.faults
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = slices.DeleteFunc(fs.list, func(s *FaultStatus) bool { return s.ID == id })
	fs.lines = slices.ContainsFunc(fs.list, func(s *FaultStatus) bool { return s.Fault.aboutLines() })
}

// ClearFaults takes all faults away.
func (b *Backend) ClearFaults() { b.faults.clear() }

func (fs *faults) clear() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list, fs.lines = nil, false
}

// strike counts a match, and reports whether the fault strikes.
func (s *FaultStatus) strike() bool {
	s.Seen++
	if s.Seen < max(1, s.Fault.Nth) || s.Spent() {
		return false
	}
	s.Hits++
	return true
}

// struck is what is left to do about a request after it was let through.
type struck struct {
	dropAfter bool
	expire    bool
	truncate  int64 // -1 for not at all
}

// loses is the error that a caller gets for a request which ended with err. A fault that loses the answer loses a
// refusal too; what came of the caller's own context or body it does not hide.
func (s struck) loses(op string, err error) error {
	if _, refused := errors.AsType[*task.Error](err); s.dropAfter && (err == nil || refused) {
		return lost(op, "the connection was lost before the answer came")
	}
	return err
}

// request applies the faults to a request before it is done.
func (fs *faults) request(ctx context.Context, op, thing string) (struck, error) {
	after := struck{truncate: -1}
	f, ok := fs.matchRequest(op, thing)
	if !ok {
		return after, nil
	}
	switch f.Do {
	case Fail, Throttle:
		err := f.refusal(op)
		err.Op = op
		return after, err
	case Delay:
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return after, interrupted(ctx, op)
		}
	case Hang:
		<-ctx.Done()
		return after, interrupted(ctx, op)
	case DropBefore:
		return after, lost(op, "the connection was lost before the request took effect")
	case DropAfter:
		after.dropAfter = true
	case Truncate:
		after.truncate = f.Bytes
	case Expire:
		after.expire = true
	}
	return after, nil
}

func (fs *faults) matchRequest(op, thing string) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, s := range fs.list {
		f := &s.Fault
		if f.aboutLines() || f.Operation != "" && f.Operation != op || f.Thing != "" && f.Thing != thing {
			continue
		}
		if s.strike() {
			return *f, true
		}
	}
	return Fault{}, false
}

// line applies the faults that fail a line at one of its steps.
func (fs *faults) line(step Step, line int64, thing string) *task.Error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !fs.lines {
		return nil
	}
	for _, s := range fs.list {
		f := &s.Fault
		if !f.aboutLines() || f.Do != Fail && f.Do != Throttle || f.Line != 0 && f.Line != line || f.Thing != "" && f.Thing != thing {
			continue
		}
		at := f.Step
		if at == "" {
			at = StepParse
			if f.Thing != "" {
				at = StepCertificate // the name is known once the line was read
			}
		}
		if at == step && s.strike() {
			return f.refusal("")
		}
	}
	return nil
}

// hold is what keeps a line from being worked on when it is due.
type hold struct {
	wait time.Duration // for so much longer
	hang bool          // until the fault is gone
	end  string        // for good: the task fails with this message
}

// hold returns what the faults do to a line of a task that has become due. A fault strikes a line once, so the caller
// asks with the faults that the line has met already.
func (fs *faults) hold(line int64, met map[int]bool) (h hold) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !fs.lines {
		return h
	}
	for _, s := range fs.list {
		f := &s.Fault
		if !f.aboutLines() || f.Do != Delay && f.Do != Hang && f.Do != EndTask || f.Line != 0 && f.Line != line {
			continue
		}
		struckBefore, asked := met[s.ID]
		if !asked {
			struckBefore = s.strike()
			met[s.ID] = struckBefore
			if struckBefore && f.Do == Delay {
				h.wait += f.Delay
			}
		}
		if struckBefore && f.Do == Hang {
			h.hang = true
		}
		if struckBefore && f.Do == EndTask {
			h.end = cmp.Or(f.Message, "The task was ended by a fault that the test has set.")
		}
	}
	return h
}

// refusal is the error of a Fail or Throttle.
func (f *Fault) refusal(op string) *task.Error {
	code, message := f.Code, f.Message
	if f.Do == Throttle {
		code, message = codeThrottling, "Rate exceeded"
		if op == opGetObject || op == opPutObject {
			code, message = "SlowDown", "Please reduce your request rate."
		}
		if f.Message != "" {
			message = f.Message
		}
	}
	if code == "" {
		code = codeInternalFailure
	}
	if message == "" {
		message = "a fault that the test has set"
	}
	err := refuse(code, "%s", message)
	if f.Status != 0 {
		err.Status = f.Status
	}
	return err
}

func (fs *faults) last() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.lastID
}

// restore puts the list back to what a snapshot has.
func (fs *faults) restore(list []FaultStatus, last int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list, fs.lines, fs.lastID = nil, false, last
	for _, s := range list {
		fs.list = append(fs.list, &s)
		fs.lines = fs.lines || s.Fault.aboutLines()
	}
}
