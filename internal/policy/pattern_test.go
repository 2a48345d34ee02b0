package policy

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestMatchingTakesNoTimeThatGrowsWithTheNumberOfStars(t *testing.T) {
	p := compile(strings.Repeat("a*", 200)+"b", wildcards)
	assert.Equal(t, no, p.match(strings.Repeat("a", 2000), nil)) // an hour and more if every star were tried
}

// FuzzMatch compares the matcher with one that is too simple to be wrong.
func FuzzMatch(f *testing.F) {
	f.Add("a*b?c", "axxbyc", "")
	f.Add("**", "", "")
	f.Add(`*\*\${v}?`, "**", "*")
	f.Add("?*ä${v}${*}", "äxäv*", "v")
	f.Add("*:?:*:::*", "a:b:c:::d:e", "")
	f.Add("${v}:*:${v", "1:2:1:2:${v", "1:2")
	f.Add("*${*", "a${v", "")
	f.Add("a:b:c:d:e:${?:${v", "a:b:c:d:e:${x:${v", "")
	f.Fuzz(func(t *testing.T, text, s, value string) {
		if len(text) > 14 || len(s) > 14 || len(value) > 4 || !utf8.ValidString(text+s+value) {
			return
		}
		r := &Request{Context: Values{"v": {value}}}
		for name, m := range map[string]mode{
			"plain": 0, "like": wildcards, "resource": wildcards | withVariables, "equals": withVariables, "action": fold,
			"arn": wildcards | withVariables | partsOfARN,
		} {
			p := compile(text, m)
			want := naive(text, s, m, value, 0)
			if m&partsOfARN != 0 && strings.Count(s, ":") < 5 {
				want = false
			}
			for i := range p.pieces {
				if piece := &p.pieces[i]; piece.kind == variable && !strings.EqualFold(piece.text, "v") {
					want = piece.hasDefault && want // naive does not know other variables
					if piece.hasDefault {
						return
					}
				}
			}
			if got := p.match(s, r) == yes; got != want {
				t.Fatalf("%s: %q matches %q: %v", name, text, s, got)
			}
		}
	})
}

// naive tries everything. colons are those of the pattern before text.
func naive(text, s string, m mode, value string, colons int) bool {
	arn := m&partsOfARN != 0 && colons < 5
	switch {
	case text == "":
		return s == ""
	case m&wildcards != 0 && strings.HasPrefix(text, "**"): // the same as one, and each more would take as many times longer
		return naive(text[1:], s, m, value, colons)
	case m&wildcards != 0 && text[0] == '*':
		if naive(text[1:], s, m, value, colons) {
			return true
		}
		return s != "" && (!arn || s[0] != ':') && naive(text, s[size(s):], m, value, colons)
	case m&wildcards != 0 && text[0] == '?':
		return s != "" && (!arn || s[0] != ':') && naive(text[1:], s[size(s):], m, value, colons)
	case m&withVariables != 0 && strings.HasPrefix(text, "${") && strings.Contains(text, "}"):
		name, rest, _ := strings.Cut(text[2:], "}")
		if name == "*" || name == "?" || name == "$" {
			value = name
		}
		after, ok := strings.CutPrefix(s, value)
		return ok && naive(rest, after, m, value, colons)
	}
	if s == "" {
		return false
	}
	a, b := text[:size(text)], s[:size(s)]
	if a == ":" {
		colons++
	}
	return (a == b || m&ignoreCase != 0 && strings.EqualFold(a, b)) && naive(text[size(text):], s[size(s):], m, value, colons)
}

func size(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}
