package policy

import (
	"fmt"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// CheckPlace looks for statements of an AWS IoT policy whose every resource is of another partition, region or account
// than the one where it is to work: they have no effect there. A statement with one resource of this place is taken as
// meant, since a policy may serve several places. The kind of its problems is [Elsewhere].
func (d *Document) CheckPlace(partition, region, account string) []Problem {
	var problems []Problem
	for i := range d.Statements {
		s := &d.Statements[i]
		first := ""
		for _, r := range s.Resources {
			difference := elsewhere(r, partition, region, account)
			if difference == "" {
				first = ""
				break
			}
			if first == "" {
				first = fmt.Sprintf("the resource %s is of %s", rule.Quote(strings.ReplaceAll(r, Hole, "…")), difference)
			}
		}
		if first != "" {
			problems = append(problems, Problem{
				Kind: Elsewhere, Statement: i, Message: fmt.Sprintf("statement %d of the policy has no effect here: %s", s.Index+1, first),
			})
		}
	}
	return problems
}

// elsewhere tells in what an ARN differs from a place; "" if it can be there, or is no ARN whose place is known.
func elsewhere(resource, partition, region, account string) string {
	parts := splitARN(resource)
	if parts[0] != "arn" || len(parts) < 6 {
		return ""
	}
	for _, p := range []struct {
		what, text, here string
		ok               func(string) bool
	}{
		{"partition", parts[1], partition, isPartition}, {"region", parts[3], region, isRegion}, {"account", parts[4], account, isAccount},
	} {
		if strings.Contains(p.text, Hole) || p.here == "" {
			continue
		}
		if !open(p.text) && !p.ok(p.text) {
			return "" // CheckDevice's
		}
		pattern := compile(p.text, wildcards)
		if pattern.match(p.here, nil) == yes {
			continue
		}
		note := ""
		if sampleAccounts[p.text] && p.what == "account" {
			note = ", which AWS's examples have"
		}
		return fmt.Sprintf("the %s %s%s; this is %s", p.what, p.text, note, p.here)
	}
	return ""
}

// sampleAccounts are the numbers that AWS's documentation uses.
var sampleAccounts = map[string]bool{"123456789012": true, "111122223333": true, "444455556666": true, "000000000000": true}
