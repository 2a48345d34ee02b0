package provision

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// CheckReport is what [Run.Check] found.
type CheckReport struct {
	Devices  int64    // records of the input
	Refused  int64    // of them, those that would be Failed without being sent
	Refusals []Result // the first 100 of the refused
	Samples  []Sample // what the first good records would create
	// Refers is what the good records refer to and must exist beforehand: names only, groups without their parents and
	// policies without their documents. Add those and give it to a [task.ResourceEnsurer].
	Refers task.ResourcesInput
	// Existing are the first 100 of the devices whose things have ACTIVE certificates that are not this run's, with those;
	// Certified is how many there are, and Things how many have a thing at all. With RefuseExisting and TakeOverExisting
	// those that would not be sent are among the refused. NotLooked is true if the account was not looked at: with
	// UncheckedExisting, and where the backend can't or may not.
	Existing          []Result
	Things, Certified int64
	NotLooked         bool
	// May are the answers to [Options.May]; nil if that is empty.
	May *MayReport
	// Findings are about the template, then about what is odd in records that would be sent and where the template's
	// OverrideSettings make lines of things that exist fail, then about the account. A backend without [task.Preflighter] has
	// none about the account.
	Findings finding.List
}

// OK reports whether every device would be sent, nothing was found that would make the task fail, and no device would be
// refused what Options.May asks for.
func (c *CheckReport) OK() bool {
	return c.Devices > 0 && c.Refused == 0 && c.Findings.Err() == nil && c.May.OK()
}

// Sample is one device and what its line would create. Its credential is not made; "(filled in by the run)" stands in its
// place. With Options.FirstConnection no line is sent, and of what the first connection creates the thing's name is known, and
// the certificate.
type Sample struct {
	Name    string
	Creates *template.Resolution
}

const (
	checkRefusals = 100 // and as many in Existing
	checkSamples  = 3
)

// checker is a dry run: the records go through the intake, and nothing is stored.
type checker struct {
	intake *intake
	given  LineMatcher // finds the keys that come with the devices; nil if they don't
	needs  needs       // what the lines of good records refer to
	rights rights      // what the policies of good records come to
	first  bool        // Options.FirstConnection
	may    *may        // answers Options.May; nil if that is empty

	foreign foreignKeys
	names   map[string]int64
	keys    map[Match]int64

	looker    *looker
	batch     []*DeviceRecord // good records that were not looked for yet
	exist     map[int64]bool  // the records that are refused for what the account has
	conflicts conflicts       // the records that would be sent, and refused by AWS, because their things exist

	namer  NameReader       // reads whose requests and certificates the devices come with; nil if they don't
	called map[string]int64 // every name, also of refused records; nil without namer
	others []nameOfOther    // the records with a name that is not their own
	shared []sharedKey      // the records with a key that one before them has
}

// nameOfOther is a good record, and a name that its request or certificate has.
type nameOfOther struct {
	rec  *DeviceRecord
	name string
}

// sharedKey is a good record, and its key.
type sharedKey struct {
	rec *DeviceRecord
	key Match
}

func newChecker(in *intake, l *looker, step Credential) *checker {
	c := &checker{intake: in, looker: l, names: map[string]int64{}, keys: map[Match]int64{}, exist: map[int64]bool{}}
	if c.foreign.finder, _ = As[KeyFinder](step); c.foreign.finder == nil { // a key that is still to be made can't be looked at
		c.given, _ = As[LineMatcher](step)
	}
	if c.namer, _ = As[NameReader](step); c.namer != nil {
		c.called = map[string]int64{}
	}
	return c
}

// all looks at every record.
func (c *checker) all(ctx context.Context, devices iter.Seq2[Device, error], report *CheckReport) error {
	if err := c.begun(ctx, report); err != nil {
		return err
	}
	devices, err := c.intake.shape.checkHeader(devices)
	if err != nil {
		return err
	}
	for d, err := range devices {
		if err != nil {
			return fmt.Errorf("reading the devices after %d records: %w", report.Devices, err)
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		report.Devices++
		rec, want := c.one(report.Devices, d)
		if rec.Verdict == Failed {
			report.refuse(rec)
			continue
		}
		if c.looker.existing != TakeOverExisting { // then they are wanted, see look
			if err := c.foreign.ask(ctx, rec.Name); err != nil {
				return err
			}
		}
		c.needs.add(want.Resolution)
		c.rights.add(want.Resolution)
		if c.may != nil {
			c.may.add(rec, d, want)
		}
		if len(report.Samples) < checkSamples {
			report.Samples = append(report.Samples, Sample{Name: rec.Name, Creates: want.Resolution})
		}
		if c.batch = append(c.batch, rec); len(c.batch) == prepareBatch {
			if err := c.look(ctx, report); err != nil {
				return err
			}
		}
	}
	if err := c.look(ctx, report); err != nil {
		return err
	}
	c.refuseLate(report)
	report.Findings = append(report.Findings, c.intake.odd.findings()...)
	report.Findings = append(report.Findings, c.conflicts.findings()...)
	report.Findings = append(report.Findings, c.foreign.findings()...)
	report.Refers = c.needs.resources()
	return nil
}

// look asks the account about the records of the batch.
func (c *checker) look(ctx context.Context, report *CheckReport) error {
	if report.NotLooked = report.NotLooked || !c.looker.looks(); report.NotLooked {
		c.batch = nil
		return nil
	}
	found, err := c.looker.look(ctx, c.batch)
	if err == nil && c.looker.existing == TakeOverExisting {
		err = c.looker.refuseKeysOfOthers(ctx, c.batch, c.foreign.run)
	}
	if errors.Is(err, task.ErrAccessDenied) {
		report.NotLooked, c.batch = true, nil
		report.Findings = append(report.Findings, finding.Finding{Severity: finding.Unknown, Rule: "existing-certificates", Message: err.Error()})
		return nil
	}
	if err != nil {
		return err
	}
	for i, rec := range c.batch {
		if rec.Verdict == Waiting && found[i] != nil {
			c.conflicts.add(c.intake.shape.want(rec.Row).thing, found[i])
		}
		if rec.ThingExisted {
			report.Things++
		}
		if len(rec.Existing) > 0 {
			if report.Certified++; len(report.Existing) < checkRefusals {
				report.Existing = append(report.Existing, rec.Result)
			}
		}
		if rec.Verdict == Failed {
			c.exist[rec.Seq] = true
			report.refuse(rec)
		}
	}
	c.batch = c.batch[:0]
	return nil
}

// refuseLate refuses what can be told only when every name is known: records with the request or certificate of another
// device, and those whose key a record before them has that is not refused.
func (c *checker) refuseLate(report *CheckReport) {
	refused := map[int64]bool{}
	for _, o := range c.others {
		if seq, ok := c.called[o.name]; ok && !refused[o.rec.Seq] && !c.exist[o.rec.Seq] {
			refused[o.rec.Seq] = true
			err := otherNameError(o.name, seq)
			o.rec.fail(causeOf(err, CauseInvalidRecord), err.Error())
			report.refuse(o.rec)
		}
	}
	for _, s := range c.shared {
		switch owner := c.keys[s.key]; {
		case refused[s.rec.Seq], c.exist[s.rec.Seq]:
		case refused[owner]:
			c.keys[s.key] = s.rec.Seq
		default:
			s.rec.failSharedKey(owner)
			report.refuse(s.rec)
		}
	}
}

func (c *CheckReport) refuse(rec *DeviceRecord) {
	c.Refused++
	if len(c.Refusals) < checkRefusals {
		c.Refusals = append(c.Refusals, rec.Result)
	}
}

// one looks at a record, and at those before it that have its name.
func (c *checker) one(seq int64, d Device) (*DeviceRecord, *wanted) {
	rec, want := c.intake.newRecord(seq, d)
	if _, ok := c.called[rec.Name]; !ok && c.called != nil {
		c.called[rec.Name] = seq
	}
	if rec.Verdict == Failed {
		return rec, nil
	}
	if first, ok := c.names[rec.Name]; ok {
		rec.failSharedName(first)
		return rec, nil
	}
	c.names[rec.Name] = seq
	if c.intake.unique.claim(rec); rec.Verdict == Failed {
		return rec, nil
	}
	brief := &DeviceRecord{Result: Result{Seq: seq, Name: rec.Name, Source: rec.Source}} // without its row
	if c.given != nil {
		m, err := c.given.MatchLine(rec.Name, rec.Row)
		if e, ok := errors.AsType[CauseError](err); ok { // Prepare would refuse it
			rec.fail(e.Cause(), err.Error())
			return rec, nil
		}
		if err == nil && m.isKey() {
			if _, ok := c.keys[m]; ok {
				c.shared = append(c.shared, sharedKey{brief, m})
			} else {
				c.keys[m] = seq
			}
		}
	}
	if c.namer == nil {
		return rec, want
	}
	for _, name := range c.namer.Names(rec.Row) {
		if name != rec.Name {
			c.others = append(c.others, nameOfOther{brief, name})
		}
	}
	return rec, want
}

// account asks the backend about what a task would need.
func (c *checker) account(ctx context.Context, roleARN string, report *CheckReport) error {
	if who, ok := task.As[task.Identifier](c.intake.backend); ok && len(c.rights.kinds) > 0 {
		if id, err := who.Identity(ctx); err == nil { // a failure is Preflight's to report
			report.Findings = append(report.Findings, c.rights.elsewhere(id)...)
		}
	}
	if c.first {
		found, err := firstConnectionFindings(ctx, c.intake.backend, c.intake.shape.issuer)
		report.Findings = append(report.Findings, found...)
		return err
	}
	pf, ok := task.As[task.Preflighter](c.intake.backend)
	if !ok {
		return nil
	}
	account, err := pf.Preflight(ctx, &task.PreflightInput{
		TemplateBody: c.intake.shape.body, RoleARN: roleARN, CACertificatePEM: c.intake.shape.issuer,
		ThingTypes: c.needs.types.names(), ThingGroups: c.needs.groups.names(),
		BillingGroups: c.needs.billing.names(), Policies: c.needs.policies.names(), Connect: c.rights.missing,
	})
	if err != nil {
		return fmt.Errorf("checking the AWS side: %w", err)
	}
	report.Findings = append(report.Findings, account...)
	return nil
}

// rights are the policy documents of the devices, each kind of device once.
type rights struct {
	kinds   map[string]*template.Resolution // by the documents
	missing bool                            // devices get a certificate and no document that lets them connect
}

// checkRights is how many kinds of devices are looked at. A template whose every row brings a document of its own has as
// many as rows.
const checkRights = 1000

func (r *rights) add(res *template.Resolution) {
	if res.Certificate == nil || len(r.kinds) == checkRights {
		return
	}
	var documents strings.Builder
	for _, p := range res.Policies {
		documents.WriteString(p.PolicyDocument + "\x00")
	}
	if r.kinds[documents.String()] != nil {
		return
	}
	if r.kinds == nil {
		r.kinds = map[string]*template.Resolution{}
	}
	r.kinds[documents.String()] = res
	r.missing = r.missing || !res.AllowsConnect()
}

// elsewhere reports statements that have no effect in the account, each text once.
func (r *rights) elsewhere(id *task.Identity) finding.List {
	var out finding.List
	for _, documents := range slices.Sorted(maps.Keys(r.kinds)) {
		for _, f := range r.kinds[documents].CheckPlace(id.Partition, id.Region, id.Account) {
			if !slices.ContainsFunc(out, func(o finding.Finding) bool { return o.Message == f.Message }) && len(out) < checkRefusals {
				out = append(out, f)
			}
		}
	}
	return out
}

// needs are the resources that must exist before a task starts: AWS makes none of them.
type needs struct{ types, groups, billing, policies nameSet }

func (n *needs) add(res *template.Resolution) {
	for _, t := range res.Things {
		n.types.add(t.ThingTypeName)
		n.groups.add(t.ThingGroups...)
		n.billing.add(t.BillingGroup)
	}
	for _, p := range res.Policies {
		n.policies.add(p.PolicyName)
	}
}

// resources describes them.
func (n *needs) resources() task.ResourcesInput {
	in := task.ResourcesInput{ThingTypes: n.types.names(), BillingGroups: n.billing.names()}
	for _, name := range n.groups.names() {
		in.ThingGroups = append(in.ThingGroups, task.ThingGroup{Name: name})
	}
	for _, name := range n.policies.names() {
		if in.Policies == nil {
			in.Policies = map[string]string{}
		}
		in.Policies[name] = ""
	}
	return in
}

type nameSet map[string]bool

func (s *nameSet) add(names ...string) {
	for _, name := range names {
		if name == "" {
			continue
		}
		if *s == nil {
			*s = nameSet{}
		}
		(*s)[name] = true
	}
}

func (s nameSet) names() []string { return slices.Sorted(maps.Keys(s)) }
