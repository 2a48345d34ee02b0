package fakebackend

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// Thing types: CreateThingType, DescribeThingType, UpdateThingType, DeprecateThingType, DeleteThingType, ListThingTypes.
//
// Models: deprecation, and the five minutes between deprecation and deletion. Not modelled: what MQTT 5 configurations
// do (they are kept).
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThingType.html

// ThingTypeProperties is what a thing type says about its things.
type ThingTypeProperties struct {
	ThingTypeDescription string              `json:"thingTypeDescription,omitempty"`
	SearchableAttributes []string            `json:"searchableAttributes,omitempty"`
	Mqtt5Configuration   *Mqtt5Configuration `json:"mqtt5Configuration,omitempty"`
}

// Mqtt5Configuration names the attributes that are sent along with MQTT 5 messages.
type Mqtt5Configuration struct {
	PropagatingAttributes []PropagatingAttribute `json:"propagatingAttributes,omitempty"`
}

// PropagatingAttribute is one attribute that is sent along.
type PropagatingAttribute struct {
	UserPropertyKey     string `json:"userPropertyKey,omitempty"`
	ThingAttribute      string `json:"thingAttribute,omitempty"`
	ConnectionAttribute string `json:"connectionAttribute,omitempty"`
}

// clone is a copy that shares nothing with p. What the fake keeps is its own, and so is what a caller gets.
func (p ThingTypeProperties) clone() ThingTypeProperties {
	p.SearchableAttributes = slices.Clone(p.SearchableAttributes)
	if m := p.Mqtt5Configuration; m != nil {
		p.Mqtt5Configuration = &Mqtt5Configuration{slices.Clone(m.PropagatingAttributes)}
	}
	return p
}

var (
	shapeUserProperty        = regexpShape(0, 128, `[a-zA-Z0-9:$.]+`)
	shapeConnectionAttribute = regexpShape(0, 128, `[a-zA-Z0-9:.]+`)
)

func (c *checker) thingTypeProperties(p *ThingTypeProperties) {
	if p == nil {
		return
	}
	c.may("thingTypeProperties.thingTypeDescription", p.ThingTypeDescription, shapeDescription)
	c.items("thingTypeProperties.searchableAttributes", p.SearchableAttributes, shapeAttributeName)
	if p.Mqtt5Configuration == nil {
		return
	}
	for i, a := range p.Mqtt5Configuration.PropagatingAttributes {
		at := fmt.Sprintf("thingTypeProperties.mqtt5Configuration.propagatingAttributes.%d.member.", i+1)
		c.may(at+"userPropertyKey", a.UserPropertyKey, shapeUserProperty)
		c.may(at+"thingAttribute", a.ThingAttribute, shapeAttributeName)
		c.may(at+"connectionAttribute", a.ConnectionAttribute, shapeConnectionAttribute)
	}
}

// CreateThingTypeInput is the request of CreateThingType.
type CreateThingTypeInput struct {
	ThingTypeName       string               `json:"thingTypeName"`
	ThingTypeProperties *ThingTypeProperties `json:"thingTypeProperties,omitempty"`
	Tags                []Tag                `json:"tags,omitempty"`
}

// CreateThingTypeOutput is the answer to CreateThingType.
type CreateThingTypeOutput struct {
	ThingTypeName string `json:"thingTypeName"`
	ThingTypeARN  string `json:"thingTypeArn"`
	ThingTypeID   string `json:"thingTypeId"`
}

// CreateThingType makes a thing type.
func (b *IoT) CreateThingType(ctx context.Context, in *CreateThingTypeInput) (*CreateThingTypeOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingTypeName", in.ThingTypeName, shapeThingTypeName)
		c.thingTypeProperties(in.ThingTypeProperties)
		c.tags(in.Tags)
	}
	return invoke(ctx, b, "CreateThingType", "", check, func(now time.Time) (*CreateThingTypeOutput, *task.Error) {
		if old, ok := b.st.thingTypes.get(in.ThingTypeName); ok {
			err := refuse(codeAlreadyExists, "ThingType %s already exists in account %s", in.ThingTypeName, b.opts.Account)
			return nil, withResource(err, old.name, b.thingTypeARN(old))
		}
		t := &thingType{name: in.ThingTypeName, created: stamp(now)}
		if in.ThingTypeProperties != nil {
			t.properties = in.ThingTypeProperties.clone()
		}
		b.st.thingTypes.add(t.name, t)
		b.setTags(b.thingTypeARN(t), in.Tags)
		return &CreateThingTypeOutput{t.name, b.thingTypeARN(t), b.uuid("thing type", t.number())}, nil
	})
}

// DescribeThingTypeInput is the request of DescribeThingType.
type DescribeThingTypeInput struct {
	ThingTypeName string `json:"thingTypeName"`
}

// DescribeThingTypeOutput is the answer to DescribeThingType.
type DescribeThingTypeOutput struct {
	ThingTypeName       string               `json:"thingTypeName"`
	ThingTypeID         string               `json:"thingTypeId"`
	ThingTypeARN        string               `json:"thingTypeArn"`
	ThingTypeProperties *ThingTypeProperties `json:"thingTypeProperties"`
	ThingTypeMetadata   *ThingTypeMetadata   `json:"thingTypeMetadata"`
}

// ThingTypeMetadata is what AWS notes about a thing type.
type ThingTypeMetadata struct {
	Deprecated      bool       `json:"deprecated"`
	DeprecationDate *time.Time `json:"deprecationDate,omitempty"`
	CreationDate    time.Time  `json:"creationDate"`
}

func (t *thingType) metadata() *ThingTypeMetadata {
	m := &ThingTypeMetadata{Deprecated: !t.deprecated.IsZero(), CreationDate: t.created}
	if m.Deprecated {
		m.DeprecationDate = new(t.deprecated)
	}
	return m
}

// DescribeThingType reads a thing type.
func (b *IoT) DescribeThingType(ctx context.Context, in *DescribeThingTypeInput) (*DescribeThingTypeOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("thingTypeName", in.ThingTypeName, shapeThingTypeName) }
	return invoke(ctx, b, "DescribeThingType", "", check, func(time.Time) (*DescribeThingTypeOutput, *task.Error) {
		t, err := b.typeNamed(in.ThingTypeName)
		if err != nil {
			return nil, err
		}
		return &DescribeThingTypeOutput{t.name, b.uuid("thing type", t.number()), b.thingTypeARN(t), new(t.properties.clone()), t.metadata()}, nil
	})
}

// UpdateThingTypeInput is the request of UpdateThingType.
type UpdateThingTypeInput struct {
	ThingTypeName       string               `json:"thingTypeName"`
	ThingTypeProperties *ThingTypeProperties `json:"thingTypeProperties,omitempty"`
}

// UpdateThingTypeOutput is the answer to UpdateThingType.
type UpdateThingTypeOutput struct{}

// UpdateThingType changes a thing type's properties. Its description stays as it was made.
func (b *IoT) UpdateThingType(ctx context.Context, in *UpdateThingTypeInput) (*UpdateThingTypeOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingTypeName", in.ThingTypeName, shapeThingTypeName)
		c.thingTypeProperties(in.ThingTypeProperties)
	}
	return invoke(ctx, b, "UpdateThingType", "", check, func(time.Time) (*UpdateThingTypeOutput, *task.Error) {
		t, err := b.typeNamed(in.ThingTypeName)
		if err != nil {
			return nil, err
		}
		if in.ThingTypeProperties != nil {
			p := in.ThingTypeProperties.clone()
			t.properties.SearchableAttributes, t.properties.Mqtt5Configuration = p.SearchableAttributes, p.Mqtt5Configuration
		}
		return &UpdateThingTypeOutput{}, nil
	})
}

// DeprecateThingTypeInput is the request of DeprecateThingType.
type DeprecateThingTypeInput struct {
	ThingTypeName string `json:"thingTypeName"`
	UndoDeprecate bool   `json:"undoDeprecate,omitempty"`
}

// DeprecateThingTypeOutput is the answer to DeprecateThingType.
type DeprecateThingTypeOutput struct{}

// DeprecateThingType closes a thing type to new things, or opens it again.
func (b *IoT) DeprecateThingType(ctx context.Context, in *DeprecateThingTypeInput) (*DeprecateThingTypeOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("thingTypeName", in.ThingTypeName, shapeThingTypeName) }
	return invoke(ctx, b, "DeprecateThingType", "", check, func(now time.Time) (*DeprecateThingTypeOutput, *task.Error) {
		t, err := b.typeNamed(in.ThingTypeName)
		if err != nil {
			return nil, err
		}
		t.deprecated = stamp(now)
		if in.UndoDeprecate {
			t.deprecated = time.Time{}
		}
		return &DeprecateThingTypeOutput{}, nil
	})
}

// DeleteThingTypeInput is the request of DeleteThingType.
type DeleteThingTypeInput struct {
	ThingTypeName string `json:"thingTypeName"`
}

// DeleteThingTypeOutput is the answer to DeleteThingType.
type DeleteThingTypeOutput struct{}

// deprecatedFor is how long a thing type must have been deprecated before it can be deleted.
const deprecatedFor = 5 * time.Minute

// DeleteThingType removes a thing type that has no things and was deprecated five minutes ago.
func (b *IoT) DeleteThingType(ctx context.Context, in *DeleteThingTypeInput) (*DeleteThingTypeOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("thingTypeName", in.ThingTypeName, shapeThingTypeName) }
	return invoke(ctx, b, "DeleteThingType", "", check, func(now time.Time) (*DeleteThingTypeOutput, *task.Error) {
		t, err := b.typeNamed(in.ThingTypeName)
		if err != nil {
			return nil, err
		}
		if t.deprecated.IsZero() || now.Before(t.deprecated.Add(deprecatedFor)) {
			return nil, refuse(codeInvalidRequest, "Can not delete thing type %s: it must have been deprecated for 5 minutes", t.name)
		}
		for other := range b.st.things.all() {
			if other.kind == t {
				return nil, refuse(codeInvalidRequest, "Can not delete thing type %s: it still has things", t.name)
			}
		}
		b.st.thingTypes.remove(t.name)
		delete(b.st.tags, b.thingTypeARN(t))
		return &DeleteThingTypeOutput{}, nil
	})
}

// ListThingTypesInput is the request of ListThingTypes.
type ListThingTypesInput struct {
	NextToken     string `json:"nextToken,omitempty"`
	MaxResults    *int32 `json:"maxResults,omitempty"`
	ThingTypeName string `json:"thingTypeName,omitempty"`
}

// ListThingTypesOutput is the answer to ListThingTypes.
type ListThingTypesOutput struct {
	ThingTypes []ThingTypeDefinition `json:"thingTypes"`
	NextToken  string                `json:"nextToken,omitempty"`
}

// ThingTypeDefinition is a thing type in the answer to ListThingTypes.
type ThingTypeDefinition struct {
	ThingTypeName       string               `json:"thingTypeName"`
	ThingTypeARN        string               `json:"thingTypeArn"`
	ThingTypeProperties *ThingTypeProperties `json:"thingTypeProperties"`
	ThingTypeMetadata   *ThingTypeMetadata   `json:"thingTypeMetadata"`
}

// ListThingTypes lists thing types in the order they were made.
func (b *IoT) ListThingTypes(ctx context.Context, in *ListThingTypesInput) (*ListThingTypesOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.page("maxResults", in.MaxResults)
		c.may("thingTypeName", in.ThingTypeName, shapeThingTypeName)
	}
	return invoke(ctx, b, "ListThingTypes", "", check, func(time.Time) (*ListThingTypesOutput, *task.Error) {
		from, err := numberOf(in.NextToken, "nextToken")
		if err != nil {
			return nil, err
		}
		page, next := pageOf(filter(b.st.thingTypes.after(from), func(t *thingType) bool {
			return in.ThingTypeName == "" || t.name == in.ThingTypeName
		}), b.size(in.MaxResults))
		out := &ListThingTypesOutput{ThingTypes: make([]ThingTypeDefinition, 0, len(page)), NextToken: next}
		for _, t := range page {
			out.ThingTypes = append(out.ThingTypes, ThingTypeDefinition{t.name, b.thingTypeARN(t), new(t.properties.clone()), t.metadata()})
		}
		return out, nil
	})
}

// typeNamed finds a thing type; "" gives none and no error.
func (b *IoT) typeNamed(name string) (*thingType, *task.Error) {
	if name == "" {
		return nil, nil
	}
	t, ok := b.st.thingTypes.get(name)
	if !ok {
		return nil, b.noThingType(name)
	}
	return t, nil
}

func (b *IoT) noThingType(name string) *task.Error {
	return refuse(codeNotFound, "Thing Type %s:%s not found", b.opts.Account, name)
}
