package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// ErrOneCause is the error of a run that stopped because every device of a part failed for the same cause, such as a
// thing type that does not exist: the devices that wait would fail alike, and each would leave a certificate. Mend the
// cause and call Run again; [Run.Retry] then sends those that failed. It is found for parts of at least ten lines, while
// devices wait, and not for causes that pass by themselves (CauseThrottled, CauseTask, CauseService).
var ErrOneCause = errors.New("every device of a part failed for one cause")

// fewLines is the size of a part whose lines may all fail by chance.
const fewLines = 10

// refused reports whether the service counted no line of an ended part as registered.
func (p *part) refused() bool {
	return p.Lines >= fewLines && p.Succeeded == 0 && p.Failed == p.Lines && !p.Adopted
}

// pointless returns an error that wraps ErrOneCause if the devices that wait would fare as all of this part did.
func (c *call) pointless(ctx context.Context, p *part) error {
	first := p.devices[0]
	if slices.Contains([]Cause{CauseThrottled, CauseTask, CauseService}, first.Cause) {
		return nil
	}
	for _, d := range p.devices {
		if d.Verdict != Failed || d.Cause != first.Cause {
			return nil
		}
	}
	counts, err := c.ledger.Counts(ctx)
	if err != nil {
		return err
	}
	left := counts.Verdicts[Waiting] + counts.Verdicts[Submitted]
	if left == 0 {
		return nil
	}
	return fmt.Errorf("%w: part %d, all of %s, %s (%q); %s not sent: mend the cause, call Run again for them, and Retry for those that failed",
		ErrOneCause, p.Number, rule.Count(p.Lines, "device"), first.Cause, rule.Visible(first.Message), rule.Count(left, "device"))
}
