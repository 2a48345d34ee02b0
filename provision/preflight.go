package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// ErrPreflight is the error of a run that sent nothing, because the account lacks what every device needs: the bucket, a
// role that AWS IoT may assume, a thing type, a group, a policy. The error lists what was found; each is a
// [*finding.Finding]. Mend that and call the method again. [Options.SkipPreflight] sends all the same.
var ErrPreflight = errors.New("the account is not ready, and nothing was sent")

const (
	// preflightDevices is how many of the devices that wait are looked at for the names that they refer to. The first tasks
	// are smaller; what later devices name is found by their tasks.
	preflightDevices = 1000
	// preflightNames is how many names of each kind are asked for. AWS takes ten such requests a second.
	preflightNames = 50
	// preflightPatience is how long the account may take to answer. Where IAM can't be reached, the run goes on.
	preflightPatience = time.Minute
)

// preflight looks at the account before the run's first task, and returns an ErrPreflight if it is proved that the task
// would fail. What could not be looked at does not stop a run. It does nothing when the account was in order for this
// template and role before, when nothing is to be sent, and when the backend can't look.
func (c *call) preflight(ctx context.Context) error {
	pf, ok := task.As[task.Preflighter](c.backend)
	sum := sha256.Sum256([]byte(c.run.shape.digest + "\n" + c.run.opts.RoleARN + c.run.shape.issuer))
	digest := hex.EncodeToString(sum[:])
	if !ok || c.run.opts.SkipPreflight || c.preflown || c.record.PreflightSHA256 == digest {
		return nil
	}
	refs, err := c.references(ctx)
	if err != nil || refs == nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, preflightPatience)
	defer cancel()
	findings, err := pf.Preflight(asking, refs.input(c.run.shape, c.run.opts.RoleARN))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.preflown = true // once in a call
	stops := len(refs.fatal(findings)) > 0
	c.observe(EventPreflight{Findings: findings, Stops: stops, Err: err})
	if stops {
		return fmt.Errorf("%w; mend this and call it again, or set SkipPreflight to send all the same: %w", ErrPreflight, findings.Err())
	}
	if err != nil {
		return nil // the next call asks again
	}
	c.record.PreflightSHA256 = digest
	return c.ledger.Apply(ctx, Change{Run: c.record})
}

// references returns what the devices refer to that are to be sent; nil if none is.
func (c *call) references(ctx context.Context) (*references, error) {
	parts, err := c.ledger.Parts(ctx)
	if err != nil {
		return nil, err
	}
	unsent := map[int]bool{0: true}
	for _, p := range parts {
		unsent[p.Number] = p.State == PartWritten || p.State == PartUploaded
	}
	var refs *references
	filter := DeviceFilter{Verdicts: []Verdict{Waiting, Submitted}}
	n := 0
	for d, err := range c.ledger.Devices(ctx, filter) {
		if err != nil {
			return nil, err
		}
		if d.Verdict == Submitted && !unsent[d.Part] {
			continue
		}
		if refs == nil {
			refs = &references{}
		}
		refs.add(c.run.shape.want(d.Row).Resolution)
		if n++; n == preflightDevices {
			break
		}
	}
	return refs, nil
}

// The rules of findings about names that devices refer to. Both backends use them; see task.Preflighter.
var referenceRules = []finding.Rule{"thing-type", "thing-group", "billing-group", "policy"}

// reference is a name that a device refers to, and the rule of a finding about it.
type reference struct {
	rule finding.Rule
	name string
}

// references are what devices refer to and must exist beforehand.
type references struct {
	needs needs
	sets  [][]reference // what each device refers to, of devices that differ in that
	more  bool          // too much for all of it to be kept
}

func (r *references) add(res *template.Resolution) {
	var one needs
	one.add(res)
	var set []reference
	for i, names := range []nameSet{one.types, one.groups, one.billing, one.policies} {
		for _, name := range names.names() {
			set = append(set, reference{referenceRules[i], name})
		}
	}
	if slices.ContainsFunc(r.sets, func(known []reference) bool { return slices.Equal(known, set) }) {
		return
	}
	if len(r.sets) == preflightNames {
		r.more = true
		return
	}
	r.sets = append(r.sets, set)
	r.needs.add(res)
}

func (r *references) input(sh *shape, roleARN string) *task.PreflightInput {
	most := func(s nameSet) []string {
		names := s.names()
		return names[:min(len(names), preflightNames)]
	}
	return &task.PreflightInput{
		TemplateBody: sh.body, RoleARN: roleARN, CACertificatePEM: sh.issuer, ThingTypes: most(r.needs.types), ThingGroups: most(r.needs.groups),
		BillingGroups: most(r.needs.billing), Policies: most(r.needs.policies),
	}
}

// fatal returns the findings for which going on is pointless. One about a name is among them only if every device refers
// to a name that is missing: the others would be registered, and only the devices that name it fail.
func (r *references) fatal(findings finding.List) finding.List {
	missing := map[reference]bool{}
	var fatal, names finding.List
	for _, f := range findings.AtLeast(finding.Error) {
		ref := reference{f.Rule, f.Resource}
		if slices.Contains(referenceRules, f.Rule) {
			missing[ref] = true
			names = append(names, f)
			continue
		}
		fatal = append(fatal, f)
	}
	for _, set := range r.sets {
		if !slices.ContainsFunc(set, func(ref reference) bool { return missing[ref] }) {
			return fatal
		}
	}
	if r.more {
		return fatal
	}
	return append(fatal, names...)
}
