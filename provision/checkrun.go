package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
)

// The rules of what [Run.Check] finds about the run itself.
const (
	ruleOtherRun    finding.Rule = "other-run"    // the ledger has a run with another template, or in another account
	ruleForeignKeys finding.Rule = "foreign-keys" // the key store has keys that were not made for this run
)

// foreignKeys are the devices whose keys were made for another run: a run would stop at the first.
type foreignKeys struct {
	finder  KeyFinder // nil if the step makes no keys
	run     string    // the id of the run in the ledger; "" for none, so that every key is of another run
	devices int64
	first   error
}

// ask looks for a device's key.
func (f *foreignKeys) ask(ctx context.Context, device string) error {
	if f.finder == nil {
		return nil
	}
	err := f.finder.Unused(ctx, device, f.run)
	if errors.Is(err, keystore.ErrExists) {
		if f.devices++; f.first == nil {
			f.first = err
		}
		return nil
	}
	return err
}

func (f *foreignKeys) findings() finding.List {
	if f.first == nil {
		return nil
	}
	message := f.first.Error()
	if f.devices > 1 {
		message = fmt.Sprintf("%d devices have a key of another run, the first: %s", f.devices, message)
	}
	return finding.List{{Rule: ruleForeignKeys, Severity: finding.Error, Message: message, Err: f.first}}
}

// begun compares what is to be run with the run that the ledger has, if any.
func (c *checker) begun(ctx context.Context, report *CheckReport) error {
	record, err := c.intake.ledger.Run(ctx)
	if errors.Is(err, ErrNoRun) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the ledger: %w", err)
	}
	c.foreign.run = record.ID
	other := func(format string, args ...any) {
		report.Findings = append(report.Findings, finding.Finding{
			Rule: ruleOtherRun, Severity: finding.Error, Err: ErrElsewhere,
			Message: fmt.Sprintf("the ledger has a run that was started "+format+"; give that back, or begin a new run with another ledger and key store", args...),
		})
	}
	if record.TemplateSHA256 != c.intake.shape.digest {
		other("with another template (SHA-256 %.12s…, this one has %.12s…)", record.TemplateSHA256, c.intake.shape.digest)
	}
	who, ok := task.As[task.Identifier](c.intake.backend)
	if !ok || record.Identity == (task.Identity{}) {
		return nil
	}
	if id, err := who.Identity(ctx); err == nil && *id != record.Identity { // a failure is Preflight's to report
		other("in %s, the backend is %s", where(record.Identity), where(*id))
	}
	return nil
}
