package fakebackend

import (
	"cmp"
	"context"
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

// AttributePayload is a set of attributes, and how to put them in place of those there are.
type AttributePayload struct {
	Attributes map[string]string `json:"attributes,omitempty"`
	Merge      bool              `json:"merge,omitempty"`
}

// CreateThingInput is the request of CreateThing.
type CreateThingInput struct {
	ThingName        string            `json:"thingName"`
	ThingTypeName    string            `json:"thingTypeName,omitempty"`
	AttributePayload *AttributePayload `json:"attributePayload,omitempty"`
	BillingGroupName string            `json:"billingGroupName,omitempty"`
}

// CreateThingOutput is the answer to CreateThing.
type CreateThingOutput struct {
	ThingName string `json:"thingName"`
	ThingARN  string `json:"thingArn"`
	ThingID   string `json:"thingId"`
}

// CreateThing makes a thing. The same thing again, with the same configuration, is no error and changes nothing.
func (b *IoT) CreateThing(ctx context.Context, in *CreateThingInput) (*CreateThingOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingName", in.ThingName, shapeThingName)
		c.may("thingTypeName", in.ThingTypeName, shapeThingTypeName)
		c.attributes("attributePayload.attributes", in.AttributePayload)
		c.may("billingGroupName", in.BillingGroupName, shapeBillingGroupName)
	}
	return invoke(ctx, b, "CreateThing", in.ThingName, check, func(time.Time) (*CreateThingOutput, *task.Error) {
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
		return &CreateThingOutput{t.name, b.thingARN(t), b.thingID(t)}, nil
	})
}

// DescribeThingInput is the request of DescribeThing.
type DescribeThingInput struct {
	ThingName string `json:"thingName"`
}

// DescribeThingOutput is the answer to DescribeThing.
type DescribeThingOutput struct {
	DefaultClientID  string            `json:"defaultClientId"`
	ThingName        string            `json:"thingName"`
	ThingID          string            `json:"thingId"`
	ThingARN         string            `json:"thingArn"`
	ThingTypeName    string            `json:"thingTypeName,omitempty"`
	Attributes       map[string]string `json:"attributes"`
	Version          int64             `json:"version"`
	BillingGroupName string            `json:"billingGroupName,omitempty"`
}

// DescribeThing reads a thing.
func (b *IoT) DescribeThing(ctx context.Context, in *DescribeThingInput) (*DescribeThingOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("thingName", in.ThingName, shapeThingName) }
	return invoke(ctx, b, "DescribeThing", in.ThingName, check, func(time.Time) (*DescribeThingOutput, *task.Error) {
		t, err := b.findThing(in.ThingName)
		if err != nil {
			return nil, err
		}
		return &DescribeThingOutput{
			DefaultClientID: t.name, ThingName: t.name, ThingID: b.thingID(t), ThingARN: b.thingARN(t),
			ThingTypeName: t.typeName(), Attributes: t.attributeMap(), Version: t.version, BillingGroupName: t.billingName(),
		}, nil
	})
}

// UpdateThingInput is the request of UpdateThing.
type UpdateThingInput struct {
	ThingName        string            `json:"thingName"`
	ThingTypeName    string            `json:"thingTypeName,omitempty"`
	AttributePayload *AttributePayload `json:"attributePayload,omitempty"`
	ExpectedVersion  *int64            `json:"expectedVersion,omitempty"`
	RemoveThingType  bool              `json:"removeThingType,omitempty"`
}

// UpdateThingOutput is the answer to UpdateThing.
type UpdateThingOutput struct{}

// UpdateThing changes a thing's attributes or type. An attribute given the empty string is removed.
func (b *IoT) UpdateThing(ctx context.Context, in *UpdateThingInput) (*UpdateThingOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingName", in.ThingName, shapeThingName)
		c.may("thingTypeName", in.ThingTypeName, shapeThingTypeName)
		c.attributes("attributePayload.attributes", in.AttributePayload)
	}
	return invoke(ctx, b, "UpdateThing", in.ThingName, check, func(time.Time) (*UpdateThingOutput, *task.Error) {
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
		return &UpdateThingOutput{}, nil
	})
}

// DeleteThingInput is the request of DeleteThing.
type DeleteThingInput struct {
	ThingName       string `json:"thingName"`
	ExpectedVersion *int64 `json:"expectedVersion,omitempty"`
}

// DeleteThingOutput is the answer to DeleteThing.
type DeleteThingOutput struct{}

// DeleteThing removes a thing without certificates. It is no error when there is no such thing.
func (b *IoT) DeleteThing(ctx context.Context, in *DeleteThingInput) (*DeleteThingOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("thingName", in.ThingName, shapeThingName) }
	return invoke(ctx, b, "DeleteThing", in.ThingName, check, func(time.Time) (*DeleteThingOutput, *task.Error) {
		t, ok := b.st.things.get(in.ThingName)
		if !ok {
			return &DeleteThingOutput{}, nil
		}
		if err := expectVersion("thing", t.name, t.version, in.ExpectedVersion); err != nil {
			return nil, err
		}
		if len(t.certificates) > 0 {
			return nil, refuse(codeInvalidRequest, "Cannot delete. Thing %s is still attached to one or more principals", t.name)
		}
		b.st.things.remove(t.name)
		return &DeleteThingOutput{}, nil
	})
}

// ListThingsInput is the request of ListThings.
type ListThingsInput struct {
	NextToken               string `json:"nextToken,omitempty"`
	MaxResults              *int32 `json:"maxResults,omitempty"`
	AttributeName           string `json:"attributeName,omitempty"`
	AttributeValue          string `json:"attributeValue,omitempty"`
	ThingTypeName           string `json:"thingTypeName,omitempty"`
	UsePrefixAttributeValue bool   `json:"usePrefixAttributeValue,omitempty"`
}

// ListThingsOutput is the answer to ListThings.
type ListThingsOutput struct {
	Things    []ThingAttribute `json:"things"`
	NextToken string           `json:"nextToken,omitempty"`
}

// ThingAttribute is a thing in the answer to ListThings.
type ThingAttribute struct {
	ThingName     string            `json:"thingName"`
	ThingTypeName string            `json:"thingTypeName,omitempty"`
	ThingARN      string            `json:"thingArn"`
	Attributes    map[string]string `json:"attributes"`
	Version       int64             `json:"version"`
}

// ListThings lists things in the order they were made.
func (b *IoT) ListThings(ctx context.Context, in *ListThingsInput) (*ListThingsOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.page("maxResults", in.MaxResults)
		c.may("attributeName", in.AttributeName, shapeAttributeName)
		c.may("attributeValue", in.AttributeValue, shapeAttributeValue)
		c.may("thingTypeName", in.ThingTypeName, shapeThingTypeName)
	}
	return invoke(ctx, b, "ListThings", "", check, func(time.Time) (*ListThingsOutput, *task.Error) {
		from, err := numberOf(in.NextToken, "nextToken")
		if err != nil {
			return nil, err
		}
		page, next := pageOf(filter(b.st.things.after(from), func(t *thing) bool {
			if in.ThingTypeName != "" && t.typeName() != in.ThingTypeName {
				return false
			}
			return in.AttributeName == "" || slices.ContainsFunc(t.attributes, func(a attribute) bool {
				return a.name == in.AttributeName &&
					(a.value == in.AttributeValue || in.UsePrefixAttributeValue && strings.HasPrefix(a.value, in.AttributeValue))
			})
		}), b.size(in.MaxResults))
		out := &ListThingsOutput{Things: make([]ThingAttribute, 0, len(page)), NextToken: next}
		for _, t := range page {
			out.Things = append(out.Things, ThingAttribute{t.name, t.typeName(), b.thingARN(t), t.attributeMap(), t.version})
		}
		return out, nil
	})
}

func (b *IoT) findThing(name string) (*thing, *task.Error) {
	t, ok := b.st.things.get(name)
	if !ok {
		return nil, refuse(codeNotFound, "Thing %s not found", name)
	}
	return t, nil
}

// newThing makes a thing whose name is free.
func (b *IoT) newThing(name string, kind *thingType, attributes []attribute, billing *billingGroup) (*thing, *task.Error) {
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

func (b *IoT) thingID(t *thing) string { return b.uuid("thing", t.number()) }

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
func (b *IoT) attributesOf(m map[string]string) []attribute {
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

// attributes demands the shapes of an attribute payload.
func (c *checker) attributes(member string, p *AttributePayload) {
	if p != nil {
		c.keysAndValues(member, p.Attributes, shapeAttributeName, shapeAttributeValue)
	}
}
