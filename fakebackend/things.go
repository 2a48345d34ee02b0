package fakebackend

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Things: CreateThing, DescribeThing, UpdateThing, DeleteThing, ListThings.
//
// Models: the same CreateThing twice passes and a different one is refused; attributes with and without a type; merging
// and removing attributes; expected versions; deletion refused while certificates are attached. Not modelled: the fleet
// index, shadows, connectivity.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThing.html

var thingOperations = []*operation{
	operationOf("CreateThing", "POST /things/{thingName}", (*account).createThing),
	operationOf("DescribeThing", "GET /things/{thingName}", (*account).describeThing),
	operationOf("UpdateThing", "PATCH /things/{thingName}", (*account).updateThing),
	operationOf("DeleteThing", "DELETE /things/{thingName}", (*account).deleteThing),
	listOf("ListThings", "GET /things", "things", (*account).listThings),
}

// attributePayload is a set of attributes, and how to put them in place of those there are.
type attributePayload struct {
	Attributes map[string]string `json:"attributes,omitempty" is:"AttributeName,AttributeValue"`
	Merge      bool              `json:"merge,omitempty"`
}

type createThingInput struct {
	ThingName        string            `path:"thingName" is:"ThingName"`
	ThingTypeName    string            `json:"thingTypeName" is:"ThingTypeName"`
	AttributePayload *attributePayload `json:"attributePayload"`
	BillingGroupName string            `json:"billingGroupName" is:"BillingGroupName"`
}

type createThingOutput struct {
	ThingName string `json:"thingName"`
	ThingARN  string `json:"thingArn"`
	ThingID   string `json:"thingId"`
}

// createThing makes a thing. The same thing again, with the same configuration, is no error and changes nothing.
func (b *account) createThing(_ time.Time, in *createThingInput) (*createThingOutput, *task.Error) {
	kind, err := b.typeNamed(in.ThingTypeName)
	if err != nil {
		return nil, err
	}
	var billing *billingGroup
	if in.BillingGroupName != "" {
		if billing, err = b.findBillingGroup(in.BillingGroupName); err != nil {
			return nil, err
		}
	}
	var attributes []attribute
	if in.AttributePayload != nil {
		attributes = b.attributesOf(in.AttributePayload.Attributes)
	}
	t, exists := b.st.things.get(in.ThingName)
	if !exists {
		if t, err = b.newThing(in.ThingName, kind, attributes, billing); err != nil {
			return nil, err
		}
	} else if t.kind != kind || t.billing != billing || !equalAttributes(t.attributes, attributes) {
		return nil, differentThing(t.name)
	}
	return &createThingOutput{t.name, b.thingARN(t), b.thingID(t)}, nil
}

type describeThingInput struct {
	ThingName string `path:"thingName" is:"ThingName"`
}

type describeThingOutput struct {
	DefaultClientID  string            `json:"defaultClientId"`
	ThingName        string            `json:"thingName"`
	ThingID          string            `json:"thingId"`
	ThingARN         string            `json:"thingArn"`
	ThingTypeName    string            `json:"thingTypeName,omitempty"`
	Attributes       map[string]string `json:"attributes"`
	Version          int64             `json:"version"`
	BillingGroupName string            `json:"billingGroupName,omitempty"`
}

// describeThing reads a thing.
func (b *account) describeThing(_ time.Time, in *describeThingInput) (*describeThingOutput, *task.Error) {
	t, err := b.findThing(in.ThingName)
	if err != nil {
		return nil, err
	}
	return &describeThingOutput{
		DefaultClientID: t.name, ThingName: t.name, ThingID: b.thingID(t), ThingARN: b.thingARN(t),
		ThingTypeName: t.typeName(), Attributes: t.attributeMap(), Version: t.version, BillingGroupName: t.billingName(),
	}, nil
}

type updateThingInput struct {
	ThingName        string            `path:"thingName" is:"ThingName"`
	ThingTypeName    string            `json:"thingTypeName" is:"ThingTypeName"`
	AttributePayload *attributePayload `json:"attributePayload"`
	ExpectedVersion  *int64            `json:"expectedVersion"`
	RemoveThingType  bool              `json:"removeThingType"`
}

// updateThing changes a thing's attributes or type. An attribute whose value is the empty string is removed.
func (b *account) updateThing(_ time.Time, in *updateThingInput) (*nothing, *task.Error) {
	t, err := b.findThing(in.ThingName)
	if err != nil {
		return nil, err
	}
	if err := expectVersion("thing", t.name, t.version, in.ExpectedVersion); err != nil {
		return nil, err
	}
	kind := t.kind
	switch {
	case in.RemoveThingType && in.ThingTypeName != "":
		return nil, refuse(codeInvalidRequest, "thingTypeName must not be given when removeThingType is true")
	case in.RemoveThingType:
		kind = nil
	case in.ThingTypeName != "":
		if kind, err = b.typeNamed(in.ThingTypeName); err != nil {
			return nil, err
		}
		if kind != t.kind && !kind.deprecated.IsZero() {
			return nil, deprecatedType(kind.name)
		}
	}
	attributes := t.attributes
	if in.AttributePayload != nil {
		wanted := b.attributesOf(in.AttributePayload.Attributes)
		if in.AttributePayload.Merge {
			wanted = mergeAttributes(attributes, wanted)
		}
		attributes = slices.DeleteFunc(slices.Clone(wanted), func(a attribute) bool { return a.value == "" })
	}
	if err := checkAttributeCount(len(attributes), kind != nil); err != nil {
		return nil, err
	}
	t.kind, t.attributes = kind, attributes
	t.version++
	return nil, nil
}

type deleteThingInput struct {
	ThingName       string `path:"thingName" is:"ThingName"`
	ExpectedVersion *int64 `query:"expectedVersion"`
}

// deleteThing removes a thing without certificates. It is no error when there is no such thing.
func (b *account) deleteThing(_ time.Time, in *deleteThingInput) (*nothing, *task.Error) {
	t, ok := b.st.things.get(in.ThingName)
	if !ok {
		return nil, nil
	}
	if err := expectVersion("thing", t.name, t.version, in.ExpectedVersion); err != nil {
		return nil, err
	}
	if len(t.certificates) > 0 {
		return nil, refuse(codeInvalidRequest, "Cannot delete. Thing %s is still attached to one or more principals", t.name)
	}
	b.st.things.remove(t.name)
	return nil, nil
}

type listThingsInput struct {
	byToken
	AttributeName           string `query:"attributeName" is:"AttributeName"`
	AttributeValue          string `query:"attributeValue" is:"AttributeValue"`
	ThingTypeName           string `query:"thingTypeName" is:"ThingTypeName"`
	UsePrefixAttributeValue bool   `query:"usePrefixAttributeValue"`
}

// thingAttribute is a thing in the answer to ListThings.
type thingAttribute struct {
	ThingName     string            `json:"thingName"`
	ThingTypeName string            `json:"thingTypeName,omitempty"`
	ThingARN      string            `json:"thingArn"`
	Attributes    map[string]string `json:"attributes"`
	Version       int64             `json:"version"`
}

// listThings lists things in the order they were made.
func (b *account) listThings(in *listThingsInput, p *page) ([]thingAttribute, *task.Error) {
	rows := filter(b.st.things.after(p.from), func(t *thing) bool {
		if in.ThingTypeName != "" && t.typeName() != in.ThingTypeName {
			return false
		}
		return in.AttributeName == "" || slices.ContainsFunc(t.attributes, func(a attribute) bool {
			return a.name == in.AttributeName &&
				(a.value == in.AttributeValue || in.UsePrefixAttributeValue && strings.HasPrefix(a.value, in.AttributeValue))
		})
	})
	return rowsOf(p, rows, func(t *thing) thingAttribute {
		return thingAttribute{t.name, t.typeName(), b.thingARN(t), t.attributeMap(), t.version}
	}), nil
}

func (b *account) findThing(name string) (*thing, *task.Error) {
	t, ok := b.st.things.get(name)
	if !ok {
		return nil, refuse(codeNotFound, "Thing %s not found", name)
	}
	return t, nil
}

// newThing makes a thing whose name is free.
func (b *account) newThing(name string, kind *thingType, attributes []attribute, billing *billingGroup) (*thing, *task.Error) {
	if kind != nil && !kind.deprecated.IsZero() {
		return nil, deprecatedType(kind.name)
	}
	if err := checkAttributeCount(len(attributes), kind != nil); err != nil {
		return nil, err
	}
	// The name is copied: it may be a piece of something long.
	t := &thing{name: strings.Clone(name), version: 1, kind: kind, attributes: attributes, billing: billing}
	b.st.things.add(t.name, t)
	return t, nil
}

func (b *account) thingID(t *thing) string { return b.uuid("thing", t.number()) }

func (t *thing) typeName() string {
	if t.kind == nil {
		return ""
	}
	return t.kind.name
}

func (t *thing) billingName() string {
	if t.billing == nil {
		return ""
	}
	return t.billing.name
}

func (t *thing) attributeMap() map[string]string { return attributeMap(t.attributes) }

func attributeMap(attributes []attribute) map[string]string {
	m := make(map[string]string, len(attributes))
	for _, a := range attributes {
		m[a.name] = a.value
	}
	return m
}

// attributesOf makes the short form of attributes. Names are kept once for all things.
func (b *account) attributesOf(m map[string]string) []attribute {
	if len(m) == 0 {
		return nil
	}
	if b.st.names == nil {
		b.st.names = make(map[string]string)
	}
	out := make([]attribute, 0, len(m))
	for name, value := range m {
		kept, ok := b.st.names[name]
		if !ok {
			kept = strings.Clone(name)
			b.st.names[kept] = kept
		}
		out = append(out, attribute{kept, strings.Clone(value)})
	}
	slices.SortFunc(out, func(a, b attribute) int { return cmp.Compare(a.name, b.name) })
	return out
}

func equalAttributes(a, b []attribute) bool { return slices.Equal(a, b) }

// mergeAttributes puts new attributes over old ones. Both are sorted, and so is what comes out.
func mergeAttributes(old, changes []attribute) []attribute {
	out := slices.Clone(old)
	for _, a := range changes {
		i, found := slices.BinarySearchFunc(out, a.name, func(x attribute, name string) int { return cmp.Compare(x.name, name) })
		if found {
			out[i] = a
		} else {
			out = slices.Insert(out, i, a)
		}
	}
	return out
}

func checkAttributeCount(n int, typed bool) *task.Error {
	most := rule.AttributesWithout
	if typed {
		most = rule.AttributesWith
	}
	if n > most {
		return refuse(codeInvalidRequest, "The number of attributes is %d. A thing %s a thing type can have at most %d",
			n, map[bool]string{true: "with", false: "without"}[typed], most)
	}
	return nil
}

func differentThing(name string) *task.Error {
	return refuse(codeAlreadyExists, "Thing %s already exists in account with different attributes", name)
}

// deprecatedType has AWS's own spelling.
func deprecatedType(name string) *task.Error {
	return refuse(codeInvalidRequest, "Can not create new thing with depreated thing type:%s", name)
}

func expectVersion(what, name string, is int64, want *int64) *task.Error {
	if want != nil && *want != is {
		return refuse(codeVersionConflict, "The version for %s %s does not match the expected version: it is %d, not %d", what, name, is, *want)
	}
	return nil
}
