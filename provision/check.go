package provision

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// CheckReport is what [Run.Check] found.
type CheckReport struct {
	Devices  int64           // records of the input
	Refused  int64           // of them, those that would be Failed without being sent
	Problems []Result        // the first 100 of the refused
	Samples  []Sample        // what the first good records would create
	Issues   template.Issues // what is doubtful about the template
	Findings []task.Finding  // the state of the AWS side; nil when the backend can't tell
}

// OK reports whether every device would be sent and nothing was found that would make the task fail.
func (c *CheckReport) OK() bool {
	return c.Devices > 0 && c.Refused == 0 && !slices.ContainsFunc(c.Findings, func(f task.Finding) bool {
		return f.Result == task.FindingProblem
	})
}

// Sample is one device and what its line would create. Its credential is not made; a dash stands in its place.
type Sample struct {
	Name    string
	Creates *template.Resolution
}

const (
	checkProblems = 100
	checkSamples  = 3
)

// Check looks at every record and at the AWS side, and changes nothing: no key is made, nothing is sent, and the ledger
// is not touched. It holds the name of every device in memory while it looks for duplicates, and with [GivenCSR] and
// [GivenCertificate] a digest of its public key.
//
// An error means that checking itself failed.
func (r *Run) Check(ctx context.Context, devices iter.Seq2[Device, error]) (*CheckReport, error) {
	if devices == nil {
		return nil, errors.New("the devices are missing")
	}
	report := &CheckReport{Issues: r.opts.Template.Check(template.Bulk)}
	names, keys := map[string]int64{}, map[Match]int64{}
	// A key that comes with its device can be looked at; one that is still to be made can't.
	matcher, keysGiven := As[LineMatcher](r.opts.Credential)
	if _, makes := As[KeyFinder](r.opts.Credential); makes {
		keysGiven = false
	}
	var needs needs
	for d, err := range devices {
		if err != nil {
			return nil, fmt.Errorf("reading the devices after %d records: %w", report.Devices, err)
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		report.Devices++
		rec := r.newRecord(report.Devices, d)
		if first, ok := names[rec.Name]; ok && rec.Verdict == Waiting {
			rec.fail(CauseDuplicate, fmt.Sprintf("record %d has the same thing name; give each device one record", first))
		}
		if rec.Verdict == Waiting && keysGiven {
			if m, err := matcher.MatchLine(rec.Name, rec.Row); err == nil && m.isKey() {
				if first, ok := keys[m]; ok {
					rec.failSharedKey(first)
				} else {
					keys[m] = rec.Seq
				}
			}
		}
		if rec.Verdict == Failed {
			report.Refused++
			if len(report.Problems) < checkProblems {
				report.Problems = append(report.Problems, rec.Result)
			}
			continue
		}
		names[rec.Name] = rec.Seq
		res, err := r.program.Resolve(r.withFills(d.Row))
		if err != nil {
			return nil, err // it resolved a moment ago
		}
		needs.add(res)
		if len(report.Samples) < checkSamples {
			report.Samples = append(report.Samples, Sample{Name: rec.Name, Creates: res})
		}
	}
	if pf, ok := task.As[task.Preflighter](r.opts.Backend); ok {
		var err error
		report.Findings, err = pf.Preflight(ctx, &task.PreflightInput{
			TemplateBody: r.body, RoleARN: r.opts.RoleARN,
			ThingTypes: needs.types.names(), ThingGroups: needs.groups.names(),
			BillingGroups: needs.billing.names(), Policies: needs.policies.names(),
		})
		if err != nil {
			return nil, fmt.Errorf("checking the AWS side: %w", err)
		}
	}
	return report, nil
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
