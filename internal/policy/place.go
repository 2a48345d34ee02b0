package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
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
func elsewhere(resource, partitionName, region, account string) string {
	parts := splitARN(resource)
	if parts[0] != "arn" || len(parts) < 6 {
		return ""
	}
	for _, p := range []struct {
		what, text, here string
		ok               func(string) bool
	}{
		{"partition", parts[1], partitionName, isPartition}, {"region", parts[3], region, isRegion}, {"account", parts[4], account, partition.IsAccount},
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

// Useless returns why a policy, given as text, has no effect in a place: every statement is for another one. It
// returns "" if one may have an effect.
func Useless(document, partition, region, account string) string {
	d, _ := Parse(document)
	problems := d.CheckPlace(partition, region, account)
	if len(problems) == 0 || len(problems) < len(d.Statements) {
		return ""
	}
	return problems[0].Message
}

// LetsConnect reports whether a policy, given as text, may let a device connect.
func LetsConnect(document string) bool {
	d, _ := Parse(document)
	allowed, denied := d.Connects()
	return allowed && !denied
}

// CheckAttached looks at a document that is in an account, as [Document.CheckDevice] and [Document.CheckPlace] do
// together. Of what works all the same ([UnusedResource], [UnknownAction] without a name near) it reports nothing.
func CheckAttached(document, partition, region, account string) []Problem {
	d, _ := Parse(document)
	return slices.DeleteFunc(append(d.CheckDevice(), d.CheckPlace(partition, region, account)...), func(p Problem) bool {
		return p.Kind == UnusedResource || p.Kind == UnknownAction && p.Meant == ""
	})
}
