// Package spelling measures how near a name is to one that was probably meant.
package spelling

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// longest is how many bytes a name that is compared may have. Names are short; what is longer is a value in the wrong
// place.
const longest = 64

// Fold removes what people get wrong first: case, and the signs between the words of a name.
func Fold(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ' ', '_', '-', '.', ':', '\u00a0', '\ufeff':
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// Nearest returns the candidate nearest to name, "" when none is near. A name that differs only in case, spaces or
// punctuation is nearest of all: "serial_number" for "SerialNumber".
func Nearest(name string, candidates []string) string {
	best, bestDistance := "", max(1, utf8.RuneCountInString(name)/3)+1
	folded := Fold(name)
	for _, c := range candidates {
		if d := Distance(folded, Fold(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// DidYouMean returns "; did you mean …?" with the [Nearest] candidate, "" when none is near.
func DidYouMean(name string, candidates []string) string {
	if best := Nearest(name, candidates); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return ""
}

// Distance is how many characters have to be put in, left out, changed or swapped with their neighbour to make one name
// of the other. Names of over 64 bytes are as far from each other as can be.
func Distance(a, b string) int {
	if len(a) > longest || len(b) > longest {
		return math.MaxInt
	}
	x, y := []rune(a), []rune(b)
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range y {
			row[j+1] = 1 + min(last[j+1], row[j], last[j])
			if x[i] == y[j] {
				row[j+1] = last[j]
			}
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], 1+before[j-1])
			}
		}
	}
	return row[len(y)]
}
