package provision

import (
	"fmt"
	"maps"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// ruleExistingThings is the rule of what [Run.Check] finds about lines that would end with a conflict.
const ruleExistingThings finding.Rule = "existing-things"

// conflicts counts the devices whose lines would be refused because their things exist already, by what in the template
// is in the way. AWS documents that FAIL refuses them. Without a setting it does as CreateThing does: a thing that is the
// same passes, another one does not.
type conflicts struct{ list []*conflict }

// conflict is one cause.
type conflict struct {
	override
	set     template.Override // Fail, or "" for a setting that is missing
	pointer string            // of the setting in the template
	devices int64
	first   string
}

// override is one of a thing's OverrideSettings.
type override struct {
	name, property, choices string
}

var (
	overrideAttributes = override{"AttributePayload", "other attributes", "DO_NOTHING keeps those that are there, MERGE adds to them, REPLACE removes them"}
	overrideType       = override{"ThingTypeName", "another thing type", "DO_NOTHING keeps the one that is there, REPLACE changes it"}
	overrideGroups     = override{"ThingGroups", "other groups", "DO_NOTHING keeps those that are there, MERGE adds to them, REPLACE removes them"}
)

// add compares a thing that exists with what a device's line asks for.
func (c *conflicts) add(want *template.ThingSpec, has *task.Device) {
	if want == nil {
		return
	}
	c.look(want, overrideAttributes, want.OverrideAttributes, !maps.Equal(want.Attributes, has.Attributes))
	c.look(want, overrideType, want.OverrideType, want.ThingTypeName != has.ThingTypeName)
	if len(want.ThingGroups) > 0 {
		c.look(want, overrideGroups, want.OverrideGroups, false) // without a setting, groups are added
	}
}

func (c *conflicts) look(want *template.ThingSpec, o override, set template.Override, different bool) {
	if set != template.Fail && (set != "" || !different) {
		return
	}
	pointer := "/Resources/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(want.LogicalName) + "/OverrideSettings/" + o.name
	for _, known := range c.list {
		if known.pointer == pointer && known.set == set {
			known.devices++
			return
		}
	}
	c.list = append(c.list, &conflict{override: o, set: set, pointer: pointer, devices: 1, first: want.ThingName})
}

// findings are the causes, each with its count.
func (c *conflicts) findings() finding.List {
	var list finding.List
	for _, k := range c.list {
		with := " with " + k.property + " than the template's"
		if k.set == template.Fail {
			with = ", and OverrideSettings for " + k.name + " is FAIL"
		}
		list = append(list, finding.Finding{
			Rule: ruleExistingThings, Severity: finding.Error, Pointer: k.pointer,
			Message: fmt.Sprintf("%s: the thing exists already%s, the first: %q; AWS refuses such a line with a conflict. Set OverrideSettings for %s: %s",
				rule.Count(k.devices, "device"), with, k.first, k.name, k.choices),
		})
	}
	return list
}
