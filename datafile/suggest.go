package datafile

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// quote quotes a name or value for a message, cut when it is long.
func quote(s string) string { return rule.Quote(s) }

// didYouMean returns "; did you mean …?" with the candidate nearest to name, or "" when none is near. A name that
// differs only in case, spaces or punctuation is nearest of all: "serial_number" for "SerialNumber".
func didYouMean(name string, candidates []string) string {
	if len(name) > 64 {
		return ""
	}
	best, bestDistance := "", max(1, utf8.RuneCountInString(name)/3)+1
	folded := fold(name)
	for _, c := range candidates {
		if len(c) > 64 {
			continue
		}
		d := distance(folded, fold(c))
		if d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// fold removes what people get wrong first: case, spaces, dashes and underscores.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '_', '-', '.', '\u00a0', '\ufeff':
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// distance is the Levenshtein distance of two short strings, in runes.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i, r := range x {
		diagonal := row[0]
		row[0] = i + 1
		for j, s := range y {
			cost := diagonal
			if r != s {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(y)]
}
