package failures

import (
	"encoding/json"
	"math/big"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
)

// Text puts an apostrophe before a value of failures.csv that a spreadsheet would not leave as it is: the beginning of
// a formula, in the letters of any width. One with control characters is written as JSON behind it.
func Text(v string) string {
	if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }) {
		quoted, _ := jsonline.AppendString([]byte{'\''}, v)
		return string(quoted)
	}
	if beginsFormula(v) || isMarked(v) {
		return "'" + v
	}
	return v
}

// FromText takes away what Text has put before a value. marked is true if there was an apostrophe, by which people
// mark a text in a spreadsheet, too: '0002.
func FromText(v string) (text string, marked bool) {
	if !isMarked(v) {
		return v, false
	}
	if v[1] == '"' {
		if json.Unmarshal([]byte(v[1:]), &text) == nil {
			return text, true
		}
	}
	return v[1:], true
}

// isMarked reports whether a value begins with an apostrophe that marks a text.
func isMarked(v string) bool {
	return len(v) > 1 && v[0] == '\'' && (beginsFormula(v[1:]) || strings.IndexByte(`'"0123456789`, v[1]) >= 0)
}

func beginsFormula(v string) bool {
	first, _ := utf8.DecodeRuneInString(v)
	return strings.ContainsRune("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20", first)
}

// Changed reports whether a value came back as spreadsheets write it, not as it was: the same number with other
// digits (0002 as 2, 1234567890123456 as 1.23457E+15 or with zeros at its end, 1.50 as 1,5), or true as TRUE.
func Changed(was, is string) bool {
	if was == is {
		return false
	}
	if strings.EqualFold(was, is) && (strings.EqualFold(was, "true") || strings.EqualFold(was, "false")) {
		return true
	}
	a, digits, ok := number(was)
	if !ok {
		return false
	}
	b, kept, ok := number(is)
	if !ok {
		return false
	}
	if a.Cmp(b) == 0 {
		return true
	}
	const most = 15 // digits that a spreadsheet keeps of a number
	if digits <= most && !strings.ContainsAny(is, "eE") || digits <= kept {
		return false
	}
	// The rest is rounded or cut off: both are nearer than one in the last digit kept.
	unit := new(big.Float).Quo(new(big.Float).Abs(a), new(big.Float).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(kept, 1)-1)), nil)))
	gap := new(big.Float).Sub(a, b)
	return gap.Abs(gap).Cmp(unit) <= 0
}

// number reads a decimal number, its point a point or a comma, and counts its digits without zeros at either end.
func number(s string) (n *big.Float, digits int, ok bool) {
	const longest = 64
	s = strings.Replace(strings.TrimSpace(s), ",", ".", 1)
	if s == "" || len(s) > longest || strings.Trim(s, "0123456789.eE+-") != "" {
		return nil, 0, false
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	if len(exponent) > 4 {
		return nil, 0, false
	}
	n, _, err := big.ParseFloat(s, 10, 256, big.ToNearestEven)
	if err != nil {
		return nil, 0, false
	}
	return n, len(strings.Trim(strings.Replace(strings.Trim(mantissa, "+-"), ".", "", 1), "0")), true
}
