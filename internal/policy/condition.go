package policy

import (
	"net/netip"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Condition is one line of a Condition block: an operator, a context key and the values it is compared with. All
// conditions of a statement must hold.
type Condition struct {
	Operator string // as written: StringEquals, ForAllValues:StringLike, IpAddressIfExists
	Key      string // as written; case does not count
	Values   []string

	compare  compare
	negated  bool // a Not… operator: no value may match
	ifExists bool
	set      set
	values   []pattern
	networks []netip.Prefix
}

// set is how a condition treats a key with several values.
type set byte

const (
	single set = iota
	forAll     // ForAllValues: every value of the request must pass; a request without the key passes
	forAny     // ForAnyValue: one must pass
)

// compare is how a value of the request is compared with one of the document.
type compare byte

const (
	never       compare = iota // numbers, dates and binary values: no key has one
	byPattern                  // text, with what has a meaning in it
	byNetwork                  // an address in a network
	byExistence                // Null
)

// operators are the comparisons of the language without their Not forms and affixes, and what may stand in values.
var operators = map[string]struct {
	compare compare
	mode    mode
}{
	"StringEquals":             {byPattern, withVariables},
	"StringEqualsIgnoreCase":   {byPattern, withVariables | ignoreCase},
	"StringLike":               {byPattern, withVariables | wildcards},
	"ArnEquals":                {byPattern, withVariables | wildcards | partsOfARN},
	"ArnLike":                  {byPattern, withVariables | wildcards | partsOfARN},
	"Bool":                     {byPattern, ignoreCase},
	"IpAddress":                {byNetwork, 0},
	"Null":                     {byExistence, 0},
	"BinaryEquals":             {},
	"NumericEquals":            {},
	"NumericLessThan":          {},
	"NumericLessThanEquals":    {},
	"NumericGreaterThan":       {},
	"NumericGreaterThanEquals": {},
	"DateEquals":               {},
	"DateLessThan":             {},
	"DateLessThanEquals":       {},
	"DateGreaterThan":          {},
	"DateGreaterThanEquals":    {},
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

// conditions reads the Condition of a statement.
func (p *parser) conditions(n *node, variables bool) []Condition {
	block := n.get("Condition")
	if block == nil {
		return nil
	}
	if block.kind != kindObject {
		p.add(WrongType, "Condition", block.offset, "%s: Condition must be an object of operators, here is %s", p.where, block.kind)
		return nil
	}
	var out []Condition
	for _, operator := range block.members {
		if operator.value.kind != kindObject {
			p.add(WrongType, "Condition", operator.value.offset, "%s: the condition %s must be an object of keys, here is %s", p.where,
				rule.Quote(operator.name), operator.value.kind)
			continue
		}
		for _, key := range operator.value.members {
			c := Condition{Operator: operator.name, Key: key.name}
			m, ok := c.parseOperator()
			if !ok {
				p.add(UnknownOperator, operator.name, operator.offset, "%s has a condition with the unknown operator %s", p.where,
					rule.Quote(operator.name))
			}
			p.conditionValues(&c, key)
			if !variables {
				m &^= withVariables
			}
			c.compileValues(m)
			out = append(out, c)
		}
	}
	return out
}

// conditionValues reads a string, a number or a boolean, or a list of them.
func (p *parser) conditionValues(c *Condition, key member) {
	for _, e := range key.value.list() {
		switch e.kind {
		case kindString, kindNumber, kindBool:
			c.Values = append(c.Values, e.text)
		default:
			p.add(WrongType, c.Key, e.offset, "%s: the values of condition %s %s must be strings, here is %s", p.where,
				rule.Quote(c.Operator), rule.Quote(c.Key), e.kind)
		}
	}
	// AWS's own examples have a ForAllValues without values: the request must not have the key.
	if len(key.value.list()) == 0 && c.set != forAll {
		p.add(ConditionNoValue, c.Key, key.offset, "%s: the condition %s %s has no value", p.where, rule.Quote(c.Operator), rule.Quote(c.Key))
	}
}

// parseOperator takes the operator apart. An operator that the language does not have compares like [never].
func (c *Condition) parseOperator() (mode, bool) {
	name := c.Operator
	if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		name, c.set = rest, forAll
	} else if rest, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		name, c.set = rest, forAny
	}
	if rest, ok := strings.CutSuffix(name, "IfExists"); ok && rest != "Null" {
		name, c.ifExists = rest, true
	}
	if positive, ok := negations[name]; ok {
		name, c.negated = positive, true
	}
	op, ok := operators[name]
	c.compare = op.compare
	return op.mode, ok
}

func (c *Condition) compileValues(m mode) {
	switch c.compare {
	case byPattern:
		c.values = compileAll(c.Values, m)
	case byNetwork:
		for _, v := range c.Values {
			if address, err := netip.ParseAddr(v); err == nil {
				c.networks = append(c.networks, netip.PrefixFrom(address, address.BitLen()))
			} else if network, err := netip.ParsePrefix(v); err == nil {
				c.networks = append(c.networks, network)
			}
		}
	}
}

// holds evaluates the condition. A key that the request does not have:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html. A variable
// without a value in a Not… condition would let pass what was to be kept out, so such a condition does not hold.
func (c *Condition) holds(r *Request) truth {
	values := r.values(c.Key)
	if len(values) == 0 && r.unknown(c.Key) {
		return maybe
	}
	switch {
	case c.compare == byExistence:
		for _, want := range c.Values {
			if strings.EqualFold(want, "true") == (len(values) == 0) {
				return yes
			}
		}
		return no
	case len(values) == 0:
		return truthOf(c.set == forAll || c.set == single && (c.negated || c.ifExists))
	}
	if c.negated {
		for i := range c.values {
			if !c.values[i].resolved(r) {
				return no
			}
		}
	}
	all, one := yes, no
	for _, v := range values {
		t := c.matches(v, r)
		if c.negated {
			t = yes - t
		}
		all, one = min(all, t), max(one, t)
	}
	if c.set == forAll || c.set == single && c.negated {
		return all
	}
	return one
}

// matches compares one value of the request with those of the document.
func (c *Condition) matches(value string, r *Request) truth {
	t := no
	switch c.compare {
	case byPattern:
		for i := range c.values {
			t = max(t, c.values[i].match(value, r))
		}
	case byNetwork:
		address, err := netip.ParseAddr(value)
		for _, n := range c.networks {
			t = max(t, truthOf(err == nil && n.Contains(address.Unmap())))
		}
	}
	return t
}
