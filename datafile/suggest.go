package datafile

import (
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

// quote quotes a name or value for a message, cut when it is long.
func quote(s string) string { return rule.Quote(s) }

// didYouMean returns "; did you mean …?" with the candidate nearest to name, or "" when none is near.
func didYouMean(name string, candidates []string) string {
	return spelling.DidYouMean(name, candidates)
}
