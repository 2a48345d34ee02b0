package iam

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// condition is one line of a Condition block: an operator, a context key and the values it is compared with.
type condition struct {
	operator string // as written, for messages
	test     func(value, want string) bool
	negated  bool // the operator is a Not… one: no value may match, and a missing key matches
	ifExists bool
	forAll   bool // ForAllValues: a missing key matches
	forAny   bool // ForAnyValue: a missing key does not match, whatever else the operator says
	null     bool // the Null operator
	key      string
	want     []string
	patterns bool // want may hold wildcards and variables
}

// operators are the comparisons of IAM without their Not forms.
var operators = map[string]struct {
	test     func(value, want string) bool
	patterns bool
}{
	"StringEquals":             {func(v, w string) bool { return v == literal(w) }, true},
	"StringEqualsIgnoreCase":   {func(v, w string) bool { return strings.EqualFold(v, literal(w)) }, true},
	"StringLike":               {func(v, w string) bool { return glob(w, v, false) }, true},
	"ArnEquals":                {globARN, true},
	"ArnLike":                  {globARN, true},
	"Bool":                     {strings.EqualFold, false},
	"BinaryEquals":             {func(v, w string) bool { return v == w }, false},
	"NumericEquals":            {numeric(func(c int) bool { return c == 0 }), false},
	"NumericLessThan":          {numeric(func(c int) bool { return c < 0 }), false},
	"NumericLessThanEquals":    {numeric(func(c int) bool { return c <= 0 }), false},
	"NumericGreaterThan":       {numeric(func(c int) bool { return c > 0 }), false},
	"NumericGreaterThanEquals": {numeric(func(c int) bool { return c >= 0 }), false},
	"DateEquals":               {date(func(c int) bool { return c == 0 }), false},
	"DateLessThan":             {date(func(c int) bool { return c < 0 }), false},
	"DateLessThanEquals":       {date(func(c int) bool { return c <= 0 }), false},
	"DateGreaterThan":          {date(func(c int) bool { return c > 0 }), false},
	"DateGreaterThanEquals":    {date(func(c int) bool { return c >= 0 }), false},
	"IpAddress":                {inNetwork, false},
}

// negations are the Not forms and what they negate.
var negations = map[string]string{
	"StringNotEquals":           "StringEquals",
	"StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
	"StringNotLike":             "StringLike",
	"ArnNotEquals":              "ArnEquals",
	"ArnNotLike":                "ArnLike",
	"NumericNotEquals":          "NumericEquals",
	"DateNotEquals":             "DateEquals",
	"NotIpAddress":              "IpAddress",
}

// parseConditions reads a Condition block. An operator IAM does not know is an error, as with IAM itself.
func parseConditions(raw json.RawMessage) ([]condition, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var block map[string]map[string]json.RawMessage
	if err := json.Unmarshal(raw, &block); err != nil || block == nil {
		return nil, malformed("Syntax errors in policy: Condition is not an object of operators and keys")
	}
	var out []condition
	for _, operator := range slices.Sorted(maps.Keys(block)) {
		c, err := parseOperator(operator)
		if err != nil {
			return nil, err
		}
		for _, key := range slices.Sorted(maps.Keys(block[operator])) {
			c.key = key
			if c.want, err = scalarsOf(block[operator][key]); err != nil {
				return nil, malformed("Syntax errors in policy: the values of condition %s %s are not strings", operator, key)
			}
			if len(c.want) == 0 {
				return nil, malformed("Syntax errors in policy: condition %s %s has no value", operator, key)
			}
			out = append(out, c)
		}
	}
	return out, nil
}

func parseOperator(operator string) (condition, error) {
	c := condition{operator: operator}
	name := operator
	if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		name, c.forAll = rest, true
	} else {
		name, c.forAny = strings.CutPrefix(name, "ForAnyValue:")
	}
	if name == "Null" {
		c.null = true
		return c, nil
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	if positive, ok := negations[name]; ok {
		name, c.negated = positive, true
	}
	op, ok := operators[name]
	if !ok {
		return c, malformed("Invalid Condition type : %s", operator)
	}
	c.test, c.patterns = op.test, op.patterns
	return c, nil
}

// scalarsOf reads a string, a number or a boolean, or a list of them.
func scalarsOf(raw json.RawMessage) ([]string, error) {
	items, err := oneOrList(raw)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		dec := json.NewDecoder(bytes.NewReader(item))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case bool:
			out = append(out, strconv.FormatBool(v))
		case json.Number:
			out = append(out, v.String())
		default:
			return nil, fmt.Errorf("%T", v)
		}
	}
	return out, nil
}

// holds evaluates the condition. Keys of the context are compared without regard to case.
func (c *condition) holds(context map[string]string, variables bool) bool {
	value, present := lookUp(context, c.key)
	if c.null {
		return slices.ContainsFunc(c.want, func(w string) bool { return strings.EqualFold(w, strconv.FormatBool(!present)) })
	}
	if !present {
		return !c.forAny && (c.negated || c.ifExists || c.forAll)
	}
	matched := slices.ContainsFunc(c.want, func(w string) bool {
		if c.patterns {
			var ok bool
			if w, ok = expand(w, context, variables); !ok {
				return false
			}
		}
		return c.test(value, w)
	})
	return matched != c.negated
}

func lookUp(context map[string]string, key string) (string, bool) {
	if v, ok := context[key]; ok {
		return v, true
	}
	for k, v := range context {
		if strings.EqualFold(k, key) {
			return v, true
		}
	}
	return "", false
}

func numeric(accept func(int) bool) func(v, w string) bool {
	return func(v, w string) bool {
		a, err1 := strconv.ParseFloat(v, 64)
		b, err2 := strconv.ParseFloat(w, 64)
		if err1 != nil || err2 != nil {
			return false
		}
		switch {
		case a < b:
			return accept(-1)
		case a > b:
			return accept(1)
		}
		return accept(0)
	}
}

func date(accept func(int) bool) func(v, w string) bool {
	return func(v, w string) bool {
		a, ok1 := parseDate(v)
		b, ok2 := parseDate(w)
		return ok1 && ok2 && accept(a.Compare(b))
	}
}

// parseDate reads the forms IAM takes: ISO 8601 from the day on, or seconds since 1970.
func parseDate(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), true
	}
	return time.Time{}, false
}

func inNetwork(v, w string) bool {
	address, err := netip.ParseAddr(v)
	if err != nil {
		return false
	}
	if network, err := netip.ParsePrefix(w); err == nil {
		return network.Contains(address)
	}
	one, err := netip.ParseAddr(w)
	return err == nil && one == address
}
