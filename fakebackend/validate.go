package fakebackend

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/given"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// shape is what the API model demands of a string.
type shape struct {
	min, max int    // characters; max 0 is no limit
	pattern  string // as published; "" for any
	ok       func(string) bool
}

func shapeOf(r *rule.Rule) shape {
	// The rule's own lengths are checked apart, so that each failure gets the message AWS gives it.
	return shape{r.Min, r.Max, r.Pattern, func(s string) bool {
		v, ok := errors.AsType[*rule.Violation](r.Check(s))
		return !ok || v.Offset < 0
	}}
}

func regexpShape(minLen, maxLen int, pattern string) shape {
	re := regexp.MustCompile(`^(?:` + pattern + `)$`)
	return shape{minLen, maxLen, pattern, re.MatchString}
}

// The shapes of the members that the fake's operations have.
var (
	shapeThingName        = shapeOf(rule.ThingName)
	shapeThingTypeName    = shapeOf(rule.ThingTypeName)
	shapeThingGroupName   = shapeOf(rule.ThingGroupName)
	shapeBillingGroupName = shapeOf(rule.BillingGroupName)
	shapeAttributeName    = shapeOf(rule.AttributeName).withoutMin()
	shapeAttributeValue   = shapeOf(rule.AttributeValue)
	shapePolicyName       = shapeOf(rule.PolicyName)
	shapeCertificateID    = shapeOf(rule.CertificateID)
	shapeBucket           = shapeOf(rule.Bucket)
	shapeObjectKey        = shapeOf(rule.ObjectKey)

	shapeTemplateBody   = shape{max: rule.TemplateBody}
	shapeRoleARN        = shape{min: 20, max: 2048}
	shapeTaskID         = shape{max: 40}
	shapeCSR            = shape{min: 1, max: rule.CSR}
	shapePEM            = shape{min: 1, max: 65536}
	shapeParameterName  = shape{max: rule.ParameterName, pattern: `[\s\S]*`}
	shapeParameterValue = shape{max: rule.ParameterValue, pattern: `[\s\S]*`}
	shapePolicyDocument = shape{max: 404600}
	shapeAny            = shape{}
	shapeDescription    = regexpShape(0, 2028, `[\p{L}\p{M}\p{N}\p{P}\p{S}\x20]*`).publishedAs(`[\p{Graph}\x20]*`)
	shapeVersionID      = regexpShape(0, 0, `[0-9]+`)
	shapeMarker         = regexpShape(0, 1024, `[A-Za-z0-9+/]+={0,2}`)
	shapeEndpointType   = shape{max: 128}
	shapeTagKey         = regexpShape(1, 128, `[\p{L}\p{Z}\p{N}_.:/=+\-@]*`).publishedAs(`^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`)
	shapeTagValue       = shape{max: 256}
	shapeTemplateName   = regexpShape(1, 36, `[0-9A-Za-z_-]+`).publishedAs(`^[0-9A-Za-z_-]+$`)
)

func (s shape) publishedAs(pattern string) shape {
	s.pattern = pattern
	return s
}

// withoutMin is the shape for a string whose length the model bounds only above, so that an empty one fails the pattern.
func (s shape) withoutMin() shape {
	ok := s.ok
	s.min, s.ok = 0, func(value string) bool { return value != "" && ok(value) }
	return s
}

// checker gathers the constraints of the API model that a request breaks.
type checker struct {
	failures []string
	empty    given.Empty // members that are there and empty; an empty string that is not in it was left out
}

func (c *checker) fail(value, member, constraint string) {
	c.failures = append(c.failures, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", value, member, constraint))
}

// need demands that a string is there and has the given shape.
func (c *checker) need(member, value string, s shape) {
	if c.given(member, value) {
		c.may(member, value, s)
	}
}

// given demands that a string is there, and says whether it is.
func (c *checker) given(member, value string) bool {
	ok := value != "" || c.empty[member]
	c.there(member, ok)
	return ok
}

// may demands the shape of a string that can be left out.
func (c *checker) may(member, value string, s shape) {
	if value == "" && !c.empty[member] {
		return
	}
	for _, constraint := range s.broken(value) {
		c.fail("'"+cutValue(value)+"'", member, constraint)
	}
}

// broken says which constraints of its shape a value breaks, in AWS's words and order.
func (s shape) broken(value string) []string {
	var out []string
	if s.ok != nil && !s.ok(value) {
		out = append(out, "Member must satisfy regular expression pattern: "+s.pattern)
	}
	n := len(value)
	if s.max > 0 && n > s.max || n < s.min {
		n = utf8.RuneCountInString(value)
	}
	if n < s.min {
		out = append(out, "Member must have length greater than or equal to "+strconv.Itoa(s.min))
	}
	if s.max > 0 && n > s.max {
		out = append(out, "Member must have length less than or equal to "+strconv.Itoa(s.max))
	}
	return out
}

// all lists every constraint of a shape, kept or not, as AWS does for the parts of a map or a list.
func (s shape) all() string {
	var out []string
	if s.max > 0 {
		out = append(out, "Member must have length less than or equal to "+strconv.Itoa(s.max),
			"Member must have length greater than or equal to "+strconv.Itoa(s.min))
	}
	if s.pattern != "" {
		out = append(out, "Member must satisfy regular expression pattern: "+s.pattern)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// items demands the shape of each string of a list, which AWS words as one failure of the list.
func (c *checker) items(member string, list []string, s shape) {
	if slices.ContainsFunc(list, func(item string) bool { return len(s.broken(item)) > 0 }) {
		c.fail("'"+cutValue("["+strings.Join(list, ", ")+"]")+"'", member, "Member must satisfy constraint: "+s.all())
	}
}

// keysAndValues demands the shapes of a map's keys and values. AWS words the two differently from other members.
func (c *checker) keysAndValues(member string, m map[string]string, key, value shape) {
	keys := slices.Sorted(maps.Keys(m))
	for _, k := range keys {
		if len(key.broken(k)) > 0 {
			c.fail("'"+cutValue(formatMap(m))+"'", member, "Map keys must satisfy constraint: "+key.all())
			break
		}
	}
	for _, k := range keys {
		if len(value.broken(m[k])) > 0 {
			c.fail("'"+cutValue(formatMap(m))+"'", member, "Map value must satisfy constraint: "+value.all())
			break
		}
	}
}

// between demands a number's range; nil is left out.
func (c *checker) between(member string, value *int32, least, most int32) {
	if value == nil {
		return
	}
	if *value < least {
		c.fail(fmt.Sprintf("'%d'", *value), member, fmt.Sprintf("Member must have value greater than or equal to %d", least))
	}
	if *value > most {
		c.fail(fmt.Sprintf("'%d'", *value), member, fmt.Sprintf("Member must have value less than or equal to %d", most))
	}
}

// oneOf demands one of an enumeration's values for a member that can be left out.
func (c *checker) oneOf(member, value string, values ...string) {
	if (value != "" || c.empty[member]) && !slices.Contains(values, value) {
		c.fail("'"+cutValue(value)+"'", member, "Member must satisfy enum value set: ["+strings.Join(values, ", ")+"]")
	}
}

// there demands a member that is not a string.
func (c *checker) there(member string, ok bool) {
	if !ok {
		c.fail("null", member, "Member must not be null")
	}
}

// page demands the limits of a list operation's maxResults or pageSize.
func (c *checker) page(member string, size *int32) { c.between(member, size, 1, maxPage) }

// err is the InvalidRequestException of everything that was wrong; nil if nothing was.
func (c *checker) err() *task.Error {
	switch n := len(c.failures); n {
	case 0:
		return nil
	case 1:
		return refuse(codeInvalidRequest, "1 validation error detected: %s", c.failures[0])
	default:
		return refuse(codeInvalidRequest, "%d validation errors detected: %s", n, strings.Join(c.failures, "; "))
	}
}

// formatMap writes a map as AWS's messages do.
func formatMap(m map[string]string) string {
	pairs := make([]string, 0, len(m))
	for _, k := range slices.SortedFunc(maps.Keys(m), cmp.Compare) {
		pairs = append(pairs, k+"="+m[k])
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// cutValue keeps an error message short when the value is not.
func cutValue(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
