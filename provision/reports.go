package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// reports reads the reports of tasks that have ended, and gives every device a verdict.
type reports struct {
	*session
	shape    *shape
	handover *handover
}

// collect reads both reports of a part's task and gives every device of the part a verdict.
//
// Results are matched by public key. What is left over is tied to error lines by number, but only after the numbers
// were checked against the results and against what is left over. What remains ambiguous is Unknown.
func (rs *reports) collect(ctx context.Context, p *part) error {
	c := rs.newCollector(p)
	for _, d := range p.devices {
		d.TaskID = string(p.TaskID)
		switch d.Verdict {
		case Submitted, Unknown: // an earlier process may have settled the others
			c.open[d.Line] = d
		case Failed:
			c.refusedBefore[d.Line] = d.Cause != CauseCertificate
		}
	}
	if p.TaskID != "" {
		if err := c.readReports(ctx); err != nil {
			return err
		}
	}
	p.Discrepancy = c.problem()
	for _, line := range slices.Sorted(maps.Keys(c.open)) {
		d := c.open[line]
		d.Verdict, d.Message = Unknown, c.whyUnknown()
		if err := c.save(ctx, d); err != nil {
			return err
		}
	}
	if err := c.flush(ctx); err != nil {
		return err
	}
	p.State, p.Collected = PartCollected, time.Now()
	if err := rs.ledger.Apply(ctx, Change{Part: p.PartRecord}); err != nil {
		return err
	}
	e := EventPartCollected{Part: p.Number, Took: p.Ended.Sub(p.Started)}
	for _, d := range p.devices {
		switch d.Verdict {
		case Provisioned:
			e.Provisioned++
		case NoKey:
			e.NoKey++
		case Failed:
			e.Failed++
		default:
			e.Unknown++
		}
	}
	rs.observe(e)
	return nil
}

// collector is the reading of one part's reports.
type collector struct {
	*reports
	part          *part
	byMatch       map[Match]*DeviceRecord
	byName        map[string]*DeviceRecord
	open          map[int64]*DeviceRecord // devices without a verdict, by line
	refusedBefore map[int64]bool          // lines that were tied to an error by an earlier reading
	batch         []*DeviceRecord

	matched int            // results that belong to a device of the part
	strange int            // results that belong to none
	bases   map[int64]bool // what the numbers of matched results are ahead of ours
	reportFaults
}

func (rs *reports) newCollector(p *part) *collector {
	c := &collector{
		reports: rs, part: p, byMatch: map[Match]*DeviceRecord{}, byName: map[string]*DeviceRecord{}, open: map[int64]*DeviceRecord{},
		refusedBefore: map[int64]bool{}, bases: map[int64]bool{},
	}
	for _, d := range p.devices {
		c.byMatch[d.Match] = d
		c.byName[d.Name] = d
	}
	return c
}

func (c *collector) save(ctx context.Context, d *DeviceRecord) error {
	delete(c.open, d.Line)
	d.Updated = time.Now()
	if c.batch = append(c.batch, d); len(c.batch) < c.handover.batch() {
		return nil
	}
	return c.flush(ctx)
}

// flush makes deliveries durable, then the verdicts that rely on them.
func (c *collector) flush(ctx context.Context) error {
	err := c.handover.commit(ctx, Change{Devices: c.batch, InputStays: true})
	c.batch = c.batch[:0]
	return err
}

// reportPatience is how long after the end of a task its reports may stay behind the task's own counts. They hold AWS's
// texts, which nothing else has, so they are worth some minutes; only then the devices are read back.
const reportPatience = 10 * time.Minute

// readReports reads both reports, again if they are not whole yet. A task that is Completed before it has counted every
// line is watched as long, from the last line that it counted. What is wrong is told at once, and again when the run
// gives up.
func (c *collector) readReports(ctx context.Context) error {
	began := time.Now() // the clock may have been set since the task ended
	var moved time.Time // when the counts moved last, as far as that was seen
	told := ""
	var pause pauser
	for {
		c.matched, c.strange, c.reportFaults = 0, 0, reportFaults{}
		clear(c.bases)
		if err := c.readResults(ctx); err != nil {
			return err
		}
		if err := c.readErrors(ctx); err != nil {
			return err
		}
		c.compareCounts()
		problem := c.problem()
		if problem == "" {
			return nil
		}
		waited := max(time.Since(c.part.Ended), time.Since(began))
		if !moved.IsZero() {
			waited = time.Since(moved)
		}
		e := EventDiscrepancy{Part: c.part.Number, Task: c.part.TaskID, Problem: problem}
		if !c.mayMend() || waited > reportPatience || c.stopped() {
			c.observe(e)
			return nil
		}
		if told != problem {
			told = problem
			e.Until = time.Now().Add(reportPatience - waited)
			c.observe(e)
		}
		if err := pause.waitOr(ctx, c.stop.finishing); err != nil {
			return err
		}
		again, err := c.recount(ctx)
		if err != nil {
			return err
		}
		if again {
			moved = time.Now()
		}
	}
}

// compareCounts notes that the task has not counted every line.
func (c *collector) compareCounts() {
	if p := c.part; p.Status == task.Completed && p.Succeeded+p.Failed < len(p.devices) {
		c.counted = &countFault{p.Succeeded, p.Failed, len(p.devices)}
	}
}

// problem returns what is wrong with the reports or the counts; "" if nothing is that matters: every device has its
// verdict, or the task has not come to every line.
func (c *collector) problem() string {
	if c.part.Status != task.Completed || len(c.open) == 0 {
		return ""
	}
	return c.reportFaults.String()
}

// mayMend reports whether reading the reports again later can help.
func (c *collector) mayMend() bool {
	if _, _, foreign := c.foreign(); foreign {
		return false
	}
	late, ok := errors.AsType[*task.IncompleteReportError](c.short)
	return c.counted != nil || ok && late.Got < late.Want
}

// recount asks for the task's counts again, if they are not those of every line, and reports whether they have moved.
func (c *collector) recount(ctx context.Context) (moved bool, err error) {
	p := c.part
	if c.counted == nil {
		return false, nil
	}
	var d *task.Description
	err = retry(ctx, func() (err error) {
		d, err = task.Attach(c.backend, p.TaskID).Describe(ctx)
		return err
	})
	switch {
	case errors.Is(err, task.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("asking for the counts of the task: %w", err)
	}
	moved = d.Succeeded+d.Failed != p.Succeeded+p.Failed
	p.Succeeded, p.Failed = d.Succeeded, d.Failed
	return moved, nil
}

func (c *collector) readResults(ctx context.Context) error {
	read := 0
	for res, err := range task.Attach(c.backend, c.part.TaskID).Results(ctx) {
		if err != nil {
			if err = c.tolerate(err); err != nil {
				return unread("results", err)
			}
			break
		}
		if read++; c.endless(read, task.ResultsReport) {
			break
		}
		if c.line(task.ResultsReport, res.Raw, res.Malformed); res.Malformed != nil {
			continue
		}
		if err := c.result(ctx, res); err != nil {
			return err
		}
	}
	if c.matched == 0 && c.strange > 0 {
		return fmt.Errorf("none of the task's %d results belongs to a device of this part: the report is of another data file, "+
			"or the ledger is of another run; nothing was changed", c.strange)
	}
	return nil
}

// unread is the error of a report that can't be had, such as one whose links are refused. The run stops at it, for the
// reports have AWS's texts, which nothing else has, and the way to them can be mended.
func unread(report string, err error) error {
	if !errors.Is(err, task.ErrAccessDenied) {
		return fmt.Errorf("reading the %s: %w", report, err)
	}
	return fmt.Errorf("reading the %s: %w; the task has ended and AWS keeps its reports for 30 days: mend the way to them, such as a "+
		"proxy or the policy of a VPC endpoint, and call it again", report, err)
}

// endless reports whether a report has so many more lines than the data file that it need not have an end, whatever the
// service has counted. It then counts as one that holds too many; the devices it misses become Unknown.
func (c *collector) endless(read int, kind task.ReportType) bool {
	const spare = 1000
	lines := c.part.Lines
	if read <= 2*lines+spare {
		return false
	}
	c.short = &task.IncompleteReportError{ID: c.part.TaskID, Report: kind, Got: read, Want: lines}
	return true
}

// tolerate lets a report pass that ended before the service's count was reached, or that the service has deleted: the
// devices it misses become Unknown.
func (c *collector) tolerate(err error) error {
	if _, ok := errors.AsType[*task.IncompleteReportError](err); ok || errors.Is(err, task.ErrNotFound) {
		c.short = err
		return nil
	}
	return err
}

// result takes one result in.
func (c *collector) result(ctx context.Context, res *task.Result) error {
	arn := res.ARNs.Certificate()
	id := task.ResourceName(arn)
	exact, doubt := "", error(nil)
	if res.CertificatePEM != "" {
		exact, doubt = exactCertificate(res.CertificatePEM, id)
	}
	d, problem := c.find(res, exact)
	if d == nil {
		c.strange++
		return nil
	}
	c.matched++
	if res.Line > 0 {
		c.bases[res.Line-d.Line] = true
	}
	_, waits := c.open[d.Line]
	waits = waits || d.Verdict == Unknown
	want := c.shape.want(d.Row)
	thing := d.Name
	if problem != nil {
		thing = "" // which is what is wrong, perhaps
	}
	if doubt == nil {
		doubt = registration{thing: thing, thingARN: res.ARNs.Thing(), certificateARN: arn, others: res.ARNs}.checkARNs(c.record.Identity)
	}
	action := decideResult(
		resultState{waits: waits, spoilt: d.Cause == CauseCertificate, certificate: d.CertificateID, issued: want.issued},
		resultAnswer{problem: problem != nil, doubtful: doubt != nil, thing: res.ARNs.Thing() != "", certificate: id, pem: res.CertificatePEM != ""},
	)
	if action.orphan {
		why := "the reports hold a second certificate for the device"
		if problem != nil {
			why = problem.Error()
			problem = fmt.Errorf("%w (certificate %s)", problem, id)
		}
		if err := c.orphan(ctx, d, id, arn, why); err != nil {
			return err
		}
	}
	switch action.verdict {
	case resultFails:
		d.fail(CauseCertificate, problem.Error())
	case resultProvisions:
		d.ThingARN, d.CertificateARN, d.CertificateID, d.CertificatePEM = res.ARNs.Thing(), arn, id, exact
		d.Policies = want.policyNames(res.ARNs)
		d.provisioned()
	case resultDoubtful:
		d.doubt("what came back", doubt)
	case resultUnreadable:
		c.damaged++ // what is missing is read back
		return nil
	default:
		return nil
	}
	return c.save(ctx, d)
}

func (c *collector) readErrors(ctx context.Context) error {
	var lines []*task.LineError // at most one for each line of the part
	type refusal struct {
		line          int64
		code, message string
	}
	seen := map[refusal]bool{}
	read := 0
	for e, err := range task.Attach(c.backend, c.part.TaskID).Errors(ctx) {
		if err != nil {
			if err = c.tolerate(err); err != nil {
				return unread("errors", err)
			}
			break
		}
		if read++; c.endless(read, task.ErrorsReport) {
			break
		}
		if c.line(task.ErrorsReport, e.Raw, e.Malformed); e.Malformed != nil {
			continue
		}
		same := refusal{e.Line, e.Code, e.Message}
		if e.Line > 0 && seen[same] {
			continue // the report holds it twice
		}
		seen[same] = true
		if lines = append(lines, &task.LineError{Line: e.Line, Code: e.Code, Message: e.Message}); len(lines) > c.part.Lines {
			return fmt.Errorf("the report of errors has more lines than the data file's %d: it is of another file; nothing more was changed", c.part.Lines)
		}
	}
	base, proved := c.base(lines)
	var only *DeviceRecord
	if len(lines) == 1 && len(c.open) == 1 && c.whole() { // one refusal, and one device it can be of
		for _, only = range c.open {
		}
	}
	for _, e := range lines {
		d := only
		if proved {
			d = c.open[e.Line-base]
		}
		if d == nil {
			continue
		}
		d.fail(classifyFailure(e.Code, e.Message), e.Message)
		c.refusedBefore[d.Line] = true
		if err := c.save(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// base finds what the numbers of the error lines are ahead of ours.
func (c *collector) base(lines []*task.LineError) (base int64, ok bool) {
	n := lineNumbers{results: c.bases, free: map[int64]bool{}, left: len(c.open), whole: c.whole()}
	for line := range c.open {
		n.free[line] = true
	}
	for line, refused := range c.refusedBefore {
		if refused {
			n.free[line] = true
			n.left++
		}
	}
	for _, e := range lines {
		n.errors = append(n.errors, e.Line)
	}
	return n.base()
}

func (c *collector) whyUnknown() string {
	p := c.part
	switch {
	case p.Status == "":
		return p.Message
	case p.Status != task.Completed && p.Message != "":
		return fmt.Sprintf("the task ended as %s before the reports had a line for it: %s", p.Status, p.Message)
	case p.Status != task.Completed:
		return fmt.Sprintf("the task ended as %s before the reports had a line for it", p.Status)
	case c.reportFaults.String() != "":
		return fmt.Sprintf("the reports have no line for it: %v", c.reportFaults.String())
	case len(c.bases) > 1:
		return "the line numbers of the reports contradict each other, so its line can't be told"
	}
	return "the reports have no line that is certainly of this device"
}
