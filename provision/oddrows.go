package provision

import (
	"fmt"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// RuleOddCredential is the rule of the notes in [EventSpooled] and [CheckReport] about requests and certificates that are
// sent as they are.
const RuleOddCredential finding.Rule = "odd-credential"

// maxOddities bounds what oddRows holds: requests of one generator have one oddity, not a different one each.
const maxOddities = 20

// oddRows counts what is odd about the rows that were taken in.
type oddRows struct{ list []oddity }

type oddity struct {
	text  string
	first int64 // the first record
	more  int64 // records after it
}

func (o *oddRows) add(seq int64, notes []string) {
next:
	for _, text := range notes {
		for i := range o.list {
			if o.list[i].text == text {
				o.list[i].more++
				continue next
			}
		}
		if len(o.list) < maxOddities {
			o.list = append(o.list, oddity{text: text, first: seq})
		}
	}
}

func (o *oddRows) findings() finding.List {
	var list finding.List
	for _, odd := range o.list {
		text := odd.text
		if odd.more > 0 {
			text = fmt.Sprintf("%s (and %s)", text, rule.Count(odd.more, "more record"))
		}
		list = append(list, finding.Finding{
			Rule: RuleOddCredential, Severity: finding.Note, Row: odd.first,
			Message: text + "; it is sent as it is, and other programs may refuse it",
		})
	}
	return list
}
