package fakebackend

import (
	"slices"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// What a worker does with a thing: its type, attributes, billing group and thing groups, new or there already.

// thing makes or updates one thing.
func (w *worker) thing(spec *template.ThingSpec) (*thing, *task.Error) {
	if err := w.strike(StepThing); err != nil {
		return nil, err
	}
	var c restjson.Checker
	c.Need("thingName", spec.ThingName, shapeNamed("ThingName"))
	c.May("thingTypeName", spec.ThingTypeName, shapeNamed("ThingTypeName"))
	c.Map("attributePayload.attributes", spec.Attributes, shapeNamed("AttributeName"), shapeNamed("AttributeValue"))
	c.May("billingGroupName", spec.BillingGroup, shapeNamed("BillingGroupName"))
	for _, g := range spec.ThingGroups {
		c.Need("thingGroups", g, shapeNamed("ThingGroupName"))
	}
	if err := violation(c.Message()); err != nil {
		return nil, err
	}
	kind, err := w.thingType(spec.ThingTypeName)
	if err != nil {
		return nil, err
	}
	t, exists := w.b.st.things.get(spec.ThingName)
	if exists {
		err = w.updateThing(t, spec, kind)
	} else {
		t, err = w.createThing(spec, kind)
	}
	if err != nil {
		return nil, err
	}
	if err := w.strike(StepBillingGroup); err != nil {
		return nil, err
	}
	if err := w.billing(t, spec); err != nil {
		return nil, err
	}
	if err := w.strike(StepThingGroups); err != nil {
		return nil, err
	}
	return t, w.groups(t, spec, exists)
}

func (w *worker) thingType(name string) (*thingType, *task.Error) {
	if name == "" {
		return nil, nil
	}
	if err := w.allowed("iot:DescribeThingType", "thingtype", name); err != nil {
		return nil, err
	}
	kind, ok := w.b.st.thingTypes.get(name)
	if !ok {
		return nil, refuse(w.b.opts.UnknownTypeCode, "%s", w.b.noThingType(name).Message)
	}
	return kind, nil
}

func (w *worker) createThing(spec *template.ThingSpec, kind *thingType) (*thing, *task.Error) {
	if err := w.allowed("iot:CreateThing", "thing", spec.ThingName); err != nil {
		return nil, err
	}
	t, err := w.b.newThing(spec.ThingName, kind, w.b.attributesOf(spec.Attributes), nil)
	if err == nil {
		w.onUndo(func() { w.b.st.things.remove(t.name) })
	}
	return t, err
}

// updateThing brings an existing thing in line with the template, as far as its OverrideSettings let it.
func (w *worker) updateThing(t *thing, spec *template.ThingSpec, kind *thingType) *task.Error {
	if err := w.allowed("iot:DescribeThing", "thing", t.name); err != nil {
		return err
	}
	attributes, newKind := t.attributes, t.kind
	wanted := w.b.attributesOf(spec.Attributes)
	different := !equalAttributes(t.attributes, wanted)

	switch w.override(spec.OverrideAttributes) {
	case template.DoNothing:
	case template.Replace:
		attributes = wanted
	case template.Merge:
		attributes = mergeAttributes(t.attributes, wanted)
	case template.Fail:
		if different || !w.b.opts.FailOnlyIfDifferent {
			return conflict("AttributePayload", "thing", t.name)
		}
	default:
		if different {
			return differentThing(t.name)
		}
	}
	switch w.override(spec.OverrideType) {
	case template.DoNothing:
	case template.Replace:
		newKind = kind
	case template.Fail:
		if t.kind != kind || !w.b.opts.FailOnlyIfDifferent {
			return conflict("ThingTypeName", "thing", t.name)
		}
	default:
		if t.kind != kind {
			return differentThing(t.name)
		}
	}
	if newKind == t.kind && equalAttributes(attributes, t.attributes) {
		return nil
	}
	if err := w.allowed("iot:UpdateThing", "thing", t.name); err != nil {
		return err
	}
	if newKind != t.kind && newKind != nil && !newKind.deprecated.IsZero() {
		return deprecatedType(newKind.name)
	}
	if err := checkAttributeCount(len(attributes), newKind != nil); err != nil {
		return err
	}
	oldKind, oldAttributes, oldVersion := t.kind, t.attributes, t.version
	w.onUndo(func() { t.kind, t.attributes, t.version = oldKind, oldAttributes, oldVersion })
	t.kind, t.attributes = newKind, attributes
	t.version++
	return nil
}

// override is the setting that holds: the template's, or else what the fake does without one.
func (w *worker) override(o template.Override) template.Override {
	if o == "" {
		return w.b.opts.ExistingThing
	}
	return o
}

// conflict is what the override FAIL ends with. AWS's documentation names an exception that its API does not have.
func conflict(property, kind, name string) *task.Error {
	return refuse(codeResourceConflicts, "%s: the %s %s exists already and OverrideSettings for %s is FAIL", codeResourceConflicts, kind, name, property)
}

func (w *worker) billing(t *thing, spec *template.ThingSpec) *task.Error {
	if spec.BillingGroup == "" {
		return nil
	}
	if err := w.allowed("iot:AddThingToBillingGroup", "billinggroup", spec.BillingGroup); err != nil {
		return err
	}
	old := t.billing
	if err := w.b.addToBillingGroup(t, spec.BillingGroup); err != nil {
		return err
	}
	w.onUndo(func() { t.billing = old })
	return nil
}

func (w *worker) groups(t *thing, spec *template.ThingSpec, exists bool) *task.Error {
	old := t.groups
	if exists && len(spec.ThingGroups) > 0 {
		switch spec.OverrideGroups {
		case template.DoNothing:
			return nil
		case template.Fail:
			if !w.b.opts.FailOnlyIfDifferent || !sameGroups(old, spec.ThingGroups) {
				return conflict("ThingGroups", "thing", t.name)
			}
		}
	}
	if exists && spec.OverrideGroups == template.Replace {
		// First out of the groups that are not wanted, since two groups of one hierarchy do not go together.
		keep := t.groups[:0:0]
		for _, g := range t.groups {
			if slices.Contains(spec.ThingGroups, g.name) {
				keep = append(keep, g)
			} else if err := w.allowed("iot:RemoveThingFromThingGroup", "thinggroup", g.name); err != nil {
				return err
			}
		}
		t.groups = keep
	}
	w.onUndo(func() { t.groups = old })
	for _, name := range spec.ThingGroups {
		if err := w.allowed("iot:AddThingToThingGroup", "thinggroup", name); err != nil {
			return err
		}
		if err := w.b.addToThingGroup(t, name); err != nil {
			return err
		}
	}
	return nil
}
