package fakebackend

import (
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// Thing types: CreateThingType, DescribeThingType, UpdateThingType, DeprecateThingType, DeleteThingType,
// ListThingTypes.
//
// Models: deprecation, and the five minutes between deprecation and deletion. Not modelled: what MQTT 5 configurations
// do (they are kept).
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThingType.html

var thingTypeOperations = []*operation{
	operationOf("CreateThingType", "POST /thing-types/{thingTypeName}", (*account).createThingType),
	operationOf("DescribeThingType", "GET /thing-types/{thingTypeName}", (*account).describeThingType),
	operationOf("UpdateThingType", "PATCH /thing-types/{thingTypeName}", (*account).updateThingType),
	operationOf("DeprecateThingType", "POST /thing-types/{thingTypeName}/deprecate", (*account).deprecateThingType),
	operationOf("DeleteThingType", "DELETE /thing-types/{thingTypeName}", (*account).deleteThingType),
	listOf("ListThingTypes", "GET /thing-types", "thingTypes", (*account).listThingTypes),
}

// thingTypeProperties describes a thing type.
type thingTypeProperties struct {
	ThingTypeDescription string              `json:"thingTypeDescription,omitempty" is:"ThingTypeDescription"`
	SearchableAttributes []string            `json:"searchableAttributes,omitempty" is:"AttributeName"`
	Mqtt5Configuration   *mqtt5Configuration `json:"mqtt5Configuration,omitempty"`
}

// mqtt5Configuration names the attributes that are sent along with MQTT 5 messages.
type mqtt5Configuration struct {
	PropagatingAttributes []propagatingAttribute `json:"propagatingAttributes,omitempty"`
}

// propagatingAttribute is one attribute that is sent along.
type propagatingAttribute struct {
	UserPropertyKey     string `json:"userPropertyKey,omitempty" is:"UserPropertyKeyName"`
	ThingAttribute      string `json:"thingAttribute,omitempty" is:"AttributeName"`
	ConnectionAttribute string `json:"connectionAttribute,omitempty" is:"ConnectionAttributeName"`
}

type createThingTypeInput struct {
	ThingTypeName       string               `path:"thingTypeName" is:"ThingTypeName"`
	ThingTypeProperties *thingTypeProperties `json:"thingTypeProperties"`
	Tags                []tag                `json:"tags"`
}

type createThingTypeOutput struct {
	ThingTypeName string `json:"thingTypeName"`
	ThingTypeARN  string `json:"thingTypeArn"`
	ThingTypeID   string `json:"thingTypeId"`
}

// createThingType makes a thing type.
func (b *account) createThingType(now time.Time, in *createThingTypeInput) (*createThingTypeOutput, *task.Error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if old, ok := b.st.thingTypes.get(in.ThingTypeName); ok {
		err := refuse(codeAlreadyExists, "ThingType %s already exists in account %s", in.ThingTypeName, b.opts.Account)
		return nil, withResource(err, old.name, b.thingTypeARN(old))
	}
	t := &thingType{name: in.ThingTypeName, created: stamp(now)}
	if in.ThingTypeProperties != nil {
		t.properties = *in.ThingTypeProperties
	}
	b.st.thingTypes.add(t.name, t)
	b.setTags(b.thingTypeARN(t), in.Tags)
	return &createThingTypeOutput{t.name, b.thingTypeARN(t), b.uuid("thing type", t.number())}, nil
}

type describeThingTypeInput struct {
	ThingTypeName string `path:"thingTypeName" is:"ThingTypeName"`
}

type describeThingTypeOutput struct {
	ThingTypeName       string               `json:"thingTypeName"`
	ThingTypeID         string               `json:"thingTypeId"`
	ThingTypeARN        string               `json:"thingTypeArn"`
	ThingTypeProperties *thingTypeProperties `json:"thingTypeProperties"`
	ThingTypeMetadata   *thingTypeMetadata   `json:"thingTypeMetadata"`
}

// thingTypeMetadata is what AWS notes about a thing type.
type thingTypeMetadata struct {
	Deprecated      bool       `json:"deprecated"`
	DeprecationDate *time.Time `json:"deprecationDate,omitempty"`
	CreationDate    time.Time  `json:"creationDate"`
}

func (t *thingType) metadata() *thingTypeMetadata {
	m := &thingTypeMetadata{Deprecated: !t.deprecated.IsZero(), CreationDate: t.created}
	if m.Deprecated {
		m.DeprecationDate = new(t.deprecated)
	}
	return m
}

// describeThingType reads a thing type.
func (b *account) describeThingType(_ time.Time, in *describeThingTypeInput) (*describeThingTypeOutput, *task.Error) {
	t, err := b.typeNamed(in.ThingTypeName)
	if err != nil {
		return nil, err
	}
	return &describeThingTypeOutput{t.name, b.uuid("thing type", t.number()), b.thingTypeARN(t), new(t.properties), t.metadata()}, nil
}

type updateThingTypeInput struct {
	ThingTypeName       string               `path:"thingTypeName" is:"ThingTypeName"`
	ThingTypeProperties *thingTypeProperties `json:"thingTypeProperties"`
}

// updateThingType changes a thing type's properties. Its description stays as it was made.
func (b *account) updateThingType(_ time.Time, in *updateThingTypeInput) (*nothing, *task.Error) {
	t, err := b.typeNamed(in.ThingTypeName)
	if err != nil {
		return nil, err
	}
	if in.ThingTypeProperties != nil {
		t.properties.SearchableAttributes = in.ThingTypeProperties.SearchableAttributes
		t.properties.Mqtt5Configuration = in.ThingTypeProperties.Mqtt5Configuration
	}
	return nil, nil
}

type deprecateThingTypeInput struct {
	ThingTypeName string `path:"thingTypeName" is:"ThingTypeName"`
	UndoDeprecate bool   `json:"undoDeprecate"`
}

// deprecateThingType closes a thing type to new things, or opens it again.
func (b *account) deprecateThingType(now time.Time, in *deprecateThingTypeInput) (*nothing, *task.Error) {
	t, err := b.typeNamed(in.ThingTypeName)
	if err != nil {
		return nil, err
	}
	t.deprecated = stamp(now)
	if in.UndoDeprecate {
		t.deprecated = time.Time{}
	}
	return nil, nil
}

type deleteThingTypeInput struct {
	ThingTypeName string `path:"thingTypeName" is:"ThingTypeName"`
}

// deprecatedFor is how long a thing type must have been deprecated before it can be deleted.
const deprecatedFor = 5 * time.Minute

// deleteThingType removes a thing type that has no things and was deprecated five minutes ago.
func (b *account) deleteThingType(now time.Time, in *deleteThingTypeInput) (*nothing, *task.Error) {
	t, err := b.typeNamed(in.ThingTypeName)
	if err != nil {
		return nil, err
	}
	if t.deprecated.IsZero() || now.Before(t.deprecated.Add(deprecatedFor)) {
		return nil, refuse(codeInvalidRequest, "Cannot delete thing type : %s. Please wait for 5 minutes after deprecation and then retry", t.name)
	}
	for other := range b.st.things.all() {
		if other.kind == t {
			return nil, refuse(codeInvalidRequest, "Cannot delete thing type : %s. It still has things", t.name)
		}
	}
	b.st.thingTypes.remove(t.name)
	delete(b.st.tags, b.thingTypeARN(t))
	return nil, nil
}

type listThingTypesInput struct {
	byToken
	ThingTypeName string `query:"thingTypeName" is:"ThingTypeName"`
}

// thingTypeDefinition is a thing type in the answer to ListThingTypes.
type thingTypeDefinition struct {
	ThingTypeName       string               `json:"thingTypeName"`
	ThingTypeARN        string               `json:"thingTypeArn"`
	ThingTypeProperties *thingTypeProperties `json:"thingTypeProperties"`
	ThingTypeMetadata   *thingTypeMetadata   `json:"thingTypeMetadata"`
}

// listThingTypes lists thing types in the order they were made.
func (b *account) listThingTypes(in *listThingTypesInput, p *page) ([]thingTypeDefinition, *task.Error) {
	rows := filter(b.st.thingTypes.after(p.from), func(t *thingType) bool {
		return in.ThingTypeName == "" || t.name == in.ThingTypeName
	})
	return rowsOf(p, rows, func(t *thingType) thingTypeDefinition {
		return thingTypeDefinition{t.name, b.thingTypeARN(t), new(t.properties), t.metadata()}
	}), nil
}

// typeNamed finds a thing type; for "" it returns nil and no error.
func (b *account) typeNamed(name string) (*thingType, *task.Error) {
	if name == "" {
		return nil, nil
	}
	t, ok := b.st.thingTypes.get(name)
	if !ok {
		return nil, b.noThingType(name)
	}
	return t, nil
}

func (b *account) noThingType(name string) *task.Error {
	return refuse(codeNotFound, "Thing Type %s:%s not found", b.opts.Account, name)
}
