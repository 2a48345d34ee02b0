package datafile

import (
	"fmt"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

// quote quotes a name or value for a message, cut when it is long.
func quote(s string) string { return rule.Quote(s) }

// didYouMean returns "; did you mean …?" with the candidate nearest to name, or "" when none is near. A name that
// differs only in case, spaces or punctuation is nearest of all: "serial_number" for "SerialNumber".
func didYouMean(name string, candidates []string) string {
	best, bestDistance := "", max(1, utf8.RuneCountInString(name)/3)+1
	folded := spelling.Fold(name)
	for _, c := range candidates {
		if d := spelling.Distance(folded, spelling.Fold(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}
