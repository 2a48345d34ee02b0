package fakebackend

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Static thing groups: CreateThingGroup, DescribeThingGroup, UpdateThingGroup, DeleteThingGroup, ListThingGroups,
// AddThingToThingGroup, RemoveThingFromThingGroup, UpdateThingGroupsForThing, ListThingGroupsForThing,
// ListThingsInThingGroup.
//
// Models: hierarchies with their limits of depth and children, and the rule that a thing is in one group of a hierarchy
// only. Not modelled: dynamic groups.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThingGroup.html

// The limits of a hierarchy of thing groups.
const (
	groupDepth    = 7
	groupChildren = 100
)

// ThingGroupProperties is what a group says of itself.
type ThingGroupProperties struct {
	ThingGroupDescription string            `json:"thingGroupDescription,omitempty"`
	AttributePayload      *AttributePayload `json:"attributePayload,omitempty"`
}

func (c *checker) thingGroupProperties(p *ThingGroupProperties) {
	if p != nil {
		c.may("thingGroupProperties.thingGroupDescription", p.ThingGroupDescription, shapeDescription)
		c.attributes("thingGroupProperties.attributePayload.attributes", p.AttributePayload)
	}
}

// CreateThingGroupInput is the request of CreateThingGroup.
type CreateThingGroupInput struct {
	ThingGroupName       string                `json:"thingGroupName"`
	ParentGroupName      string                `json:"parentGroupName,omitempty"`
	ThingGroupProperties *ThingGroupProperties `json:"thingGroupProperties,omitempty"`
	Tags                 []Tag                 `json:"tags,omitempty"`
}

// CreateThingGroupOutput is the answer to CreateThingGroup.
type CreateThingGroupOutput struct {
	ThingGroupName string `json:"thingGroupName"`
	ThingGroupARN  string `json:"thingGroupArn"`
	ThingGroupID   string `json:"thingGroupId"`
}

// CreateThingGroup makes a group. The same group again, with the same properties, is no error.
func (b *IoT) CreateThingGroup(ctx context.Context, in *CreateThingGroupInput) (*CreateThingGroupOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingGroupName", in.ThingGroupName, shapeThingGroupName)
		c.may("parentGroupName", in.ParentGroupName, shapeThingGroupName)
		c.thingGroupProperties(in.ThingGroupProperties)
		c.tags(in.Tags)
	}
	return invoke(ctx, b, "CreateThingGroup", "", check, func(now time.Time) (*CreateThingGroupOutput, *task.Error) {
		g := &thingGroup{name: in.ThingGroupName, version: 1, created: stamp(now)}
		b.setGroupProperties(g, in.ThingGroupProperties)
		if in.ParentGroupName != "" {
			parent, err := b.findThingGroup(in.ParentGroupName)
			if err != nil {
				return nil, err
			}
			g.parent = parent
		}
		if old, ok := b.st.thingGroups.get(g.name); ok {
			if old.parent != g.parent || old.description != g.description || !equalAttributes(old.attributes, g.attributes) {
				err := refuse(codeAlreadyExists, "Thing Group %s already exists in current account with different properties", g.name)
				return nil, withResource(err, b.groupID(old), b.thingGroupARN(old))
			}
			return &CreateThingGroupOutput{old.name, b.thingGroupARN(old), b.groupID(old)}, nil
		}
		if p := g.parent; p != nil {
			if depth := len(p.path()) + 1; depth > groupDepth {
				return nil, refuse(codeInvalidRequest, "The hierarchy would be %d groups deep. The maximum is %d", depth, groupDepth)
			}
			if p.children >= groupChildren {
				return nil, refuse(codeInvalidRequest, "The thing group %s already has the maximum number of children (%d)", p.name, groupChildren)
			}
			p.children++
		}
		b.st.thingGroups.add(g.name, g)
		b.setTags(b.thingGroupARN(g), in.Tags)
		return &CreateThingGroupOutput{g.name, b.thingGroupARN(g), b.groupID(g)}, nil
	})
}

func (b *IoT) setGroupProperties(g *thingGroup, p *ThingGroupProperties) {
	if p == nil {
		return
	}
	g.description = p.ThingGroupDescription
	if p.AttributePayload != nil {
		attributes := b.attributesOf(p.AttributePayload.Attributes)
		if p.AttributePayload.Merge {
			attributes = mergeAttributes(g.attributes, attributes)
		}
		g.attributes = attributes
	}
}

func (b *IoT) groupID(g *thingGroup) string { return b.uuid("thing group", g.number()) }

// path is the groups from the root down to g.
func (g *thingGroup) path() []*thingGroup {
	var up []*thingGroup
	for ; g != nil; g = g.parent {
		up = append(up, g)
	}
	slices.Reverse(up)
	return up
}

// DescribeThingGroupInput is the request of DescribeThingGroup.
type DescribeThingGroupInput struct {
	ThingGroupName string `json:"thingGroupName"`
}

// DescribeThingGroupOutput is the answer to DescribeThingGroup.
type DescribeThingGroupOutput struct {
	ThingGroupName       string                `json:"thingGroupName"`
	ThingGroupID         string                `json:"thingGroupId"`
	ThingGroupARN        string                `json:"thingGroupArn"`
	Version              int64                 `json:"version"`
	ThingGroupProperties *ThingGroupProperties `json:"thingGroupProperties"`
	ThingGroupMetadata   *ThingGroupMetadata   `json:"thingGroupMetadata"`
}

// ThingGroupMetadata is what AWS notes about a group.
type ThingGroupMetadata struct {
	ParentGroupName         string            `json:"parentGroupName,omitempty"`
	RootToParentThingGroups []GroupNameAndARN `json:"rootToParentThingGroups,omitempty"`
	CreationDate            time.Time         `json:"creationDate"`
}

// GroupNameAndARN names a thing group or a billing group.
type GroupNameAndARN struct {
	GroupName string `json:"groupName"`
	GroupARN  string `json:"groupArn"`
}

// DescribeThingGroup reads a group.
func (b *IoT) DescribeThingGroup(ctx context.Context, in *DescribeThingGroupInput) (*DescribeThingGroupOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("thingGroupName", in.ThingGroupName, shapeThingGroupName) }
	return invoke(ctx, b, "DescribeThingGroup", "", check, func(time.Time) (*DescribeThingGroupOutput, *task.Error) {
		g, err := b.findThingGroup(in.ThingGroupName)
		if err != nil {
			return nil, err
		}
		meta := &ThingGroupMetadata{CreationDate: g.created}
		if g.parent != nil {
			meta.ParentGroupName = g.parent.name
			meta.RootToParentThingGroups = b.groupNames(g.parent.path())
		}
		props := &ThingGroupProperties{ThingGroupDescription: g.description}
		if len(g.attributes) > 0 {
			props.AttributePayload = &AttributePayload{Attributes: attributeMap(g.attributes)}
		}
		return &DescribeThingGroupOutput{g.name, b.groupID(g), b.thingGroupARN(g), g.version, props, meta}, nil
	})
}

func (b *IoT) groupNames(groups []*thingGroup) []GroupNameAndARN {
	out := make([]GroupNameAndARN, 0, len(groups))
	for _, g := range groups {
		out = append(out, GroupNameAndARN{g.name, b.thingGroupARN(g)})
	}
	return out
}

// UpdateThingGroupInput is the request of UpdateThingGroup.
type UpdateThingGroupInput struct {
	ThingGroupName       string                `json:"thingGroupName"`
	ThingGroupProperties *ThingGroupProperties `json:"thingGroupProperties"`
	ExpectedVersion      *int64                `json:"expectedVersion,omitempty"`
}

// UpdateThingGroupOutput is the answer to UpdateThingGroup.
type UpdateThingGroupOutput struct {
	Version int64 `json:"version"`
}

// UpdateThingGroup changes a group's properties.
func (b *IoT) UpdateThingGroup(ctx context.Context, in *UpdateThingGroupInput) (*UpdateThingGroupOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingGroupName", in.ThingGroupName, shapeThingGroupName)
		c.there("thingGroupProperties", in.ThingGroupProperties != nil)
		c.thingGroupProperties(in.ThingGroupProperties)
	}
	return invoke(ctx, b, "UpdateThingGroup", "", check, func(time.Time) (*UpdateThingGroupOutput, *task.Error) {
		g, err := b.findThingGroup(in.ThingGroupName)
		if err != nil {
			return nil, err
		}
		if err := expectVersion("thing group", g.name, g.version, in.ExpectedVersion); err != nil {
			return nil, err
		}
		b.setGroupProperties(g, in.ThingGroupProperties)
		g.version++
		return &UpdateThingGroupOutput{g.version}, nil
	})
}

// DeleteThingGroupInput is the request of DeleteThingGroup.
type DeleteThingGroupInput struct {
	ThingGroupName  string `json:"thingGroupName"`
	ExpectedVersion *int64 `json:"expectedVersion,omitempty"`
}

// DeleteThingGroupOutput is the answer to DeleteThingGroup.
type DeleteThingGroupOutput struct{}

// DeleteThingGroup removes a group without children; its things leave it. It is no error when there is no such group.
func (b *IoT) DeleteThingGroup(ctx context.Context, in *DeleteThingGroupInput) (*DeleteThingGroupOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("thingGroupName", in.ThingGroupName, shapeThingGroupName) }
	return invoke(ctx, b, "DeleteThingGroup", "", check, func(time.Time) (*DeleteThingGroupOutput, *task.Error) {
		g, ok := b.st.thingGroups.get(in.ThingGroupName)
		if !ok {
			return &DeleteThingGroupOutput{}, nil
		}
		if err := expectVersion("thing group", g.name, g.version, in.ExpectedVersion); err != nil {
			return nil, err
		}
		if g.children > 0 {
			return nil, refuse(codeInvalidRequest, "Cannot delete thing group : %s when there are still child groups attached to it", g.name)
		}
		for t := range b.st.things.all() {
			t.groups = without(t.groups, g)
		}
		for _, p := range g.policies {
			p.attached--
		}
		if g.parent != nil {
			g.parent.children--
		}
		b.st.thingGroups.remove(g.name)
		delete(b.st.tags, b.thingGroupARN(g))
		return &DeleteThingGroupOutput{}, nil
	})
}

// ListThingGroupsInput is the request of ListThingGroups.
type ListThingGroupsInput struct {
	NextToken        string `json:"nextToken,omitempty"`
	MaxResults       *int32 `json:"maxResults,omitempty"`
	ParentGroup      string `json:"parentGroup,omitempty"`
	NamePrefixFilter string `json:"namePrefixFilter,omitempty"`
	Recursive        *bool  `json:"recursive,omitempty"` // nil is true
}

// ListThingGroupsOutput is the answer to ListThingGroups and ListThingGroupsForThing.
type ListThingGroupsOutput struct {
	ThingGroups []GroupNameAndARN `json:"thingGroups"`
	NextToken   string            `json:"nextToken,omitempty"`
}

// ListThingGroups lists groups in the order they were made.
func (b *IoT) ListThingGroups(ctx context.Context, in *ListThingGroupsInput) (*ListThingGroupsOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.page("maxResults", in.MaxResults)
		c.may("parentGroup", in.ParentGroup, shapeThingGroupName)
		c.may("namePrefixFilter", in.NamePrefixFilter, shapeThingGroupName)
	}
	return invoke(ctx, b, "ListThingGroups", "", check, func(time.Time) (*ListThingGroupsOutput, *task.Error) {
		from, err := numberOf(in.NextToken, "nextToken")
		if err != nil {
			return nil, err
		}
		var parent *thingGroup
		if in.ParentGroup != "" {
			if parent, err = b.findThingGroup(in.ParentGroup); err != nil {
				return nil, err
			}
		}
		deep := in.Recursive == nil || *in.Recursive
		page, next := pageOf(filter(b.st.thingGroups.after(from), func(g *thingGroup) bool {
			return strings.HasPrefix(g.name, in.NamePrefixFilter) && (g.parent == parent || deep && g.below(parent))
		}), b.size(in.MaxResults))
		return &ListThingGroupsOutput{b.groupNames(page), next}, nil
	})
}

// below reports whether top is above g; nil is above every group.
func (g *thingGroup) below(top *thingGroup) bool {
	for p := g.parent; p != nil; p = p.parent {
		if p == top {
			return true
		}
	}
	return top == nil
}

// ThingGroupMemberInput is the request of AddThingToThingGroup and RemoveThingFromThingGroup. Each of the two is named by
// its name or its ARN.
type ThingGroupMemberInput struct {
	ThingGroupName        string `json:"thingGroupName,omitempty"`
	ThingGroupARN         string `json:"thingGroupArn,omitempty"`
	ThingName             string `json:"thingName,omitempty"`
	ThingARN              string `json:"thingArn,omitempty"`
	OverrideDynamicGroups bool   `json:"overrideDynamicGroups,omitempty"` // has no effect: there are no dynamic groups
}

// ThingGroupMemberOutput is the answer to AddThingToThingGroup and RemoveThingFromThingGroup.
type ThingGroupMemberOutput struct{}

// AddThingToThingGroup puts a thing in a group; twice is no error.
func (b *IoT) AddThingToThingGroup(ctx context.Context, in *ThingGroupMemberInput) (*ThingGroupMemberOutput, error) {
	return b.changeMember(ctx, "AddThingToThingGroup", in, func(t *thing, g *thingGroup) *task.Error {
		return b.addToThingGroup(t, g.name)
	})
}

// RemoveThingFromThingGroup takes a thing out of a group; it is no error when it is not in it.
func (b *IoT) RemoveThingFromThingGroup(ctx context.Context, in *ThingGroupMemberInput) (*ThingGroupMemberOutput, error) {
	return b.changeMember(ctx, "RemoveThingFromThingGroup", in, func(t *thing, g *thingGroup) *task.Error {
		t.groups = without(t.groups, g)
		return nil
	})
}

func (b *IoT) changeMember(ctx context.Context, op string, in *ThingGroupMemberInput, change func(*thing, *thingGroup) *task.Error) (*ThingGroupMemberOutput, error) {
	in = orZero(in)
	thingName := b.nameOrARN(in.ThingName, in.ThingARN, "thing")
	groupName := b.nameOrARN(in.ThingGroupName, in.ThingGroupARN, "thinggroup")
	check := func(c *checker) {
		c.may("thingName", in.ThingName, shapeThingName)
		c.may("thingGroupName", in.ThingGroupName, shapeThingGroupName)
	}
	return invoke(ctx, b, op, thingName, check, func(time.Time) (*ThingGroupMemberOutput, *task.Error) {
		if thingName == "" || groupName == "" {
			return nil, refuse(codeInvalidRequest, "Either the name or the ARN of both the thing and the thing group must be given")
		}
		t, err := b.findThing(thingName)
		if err != nil {
			return nil, err
		}
		g, err := b.findThingGroup(groupName)
		if err != nil {
			return nil, err
		}
		return &ThingGroupMemberOutput{}, change(t, g)
	})
}

// UpdateThingGroupsForThingInput is the request of UpdateThingGroupsForThing.
type UpdateThingGroupsForThingInput struct {
	ThingName             string   `json:"thingName,omitempty"`
	ThingGroupsToAdd      []string `json:"thingGroupsToAdd,omitempty"`
	ThingGroupsToRemove   []string `json:"thingGroupsToRemove,omitempty"`
	OverrideDynamicGroups bool     `json:"overrideDynamicGroups,omitempty"` // has no effect: there are no dynamic groups
}

// UpdateThingGroupsForThingOutput is the answer to UpdateThingGroupsForThing.
type UpdateThingGroupsForThingOutput struct{}

// UpdateThingGroupsForThing takes a thing out of some groups and puts it in others: all of it, or nothing.
func (b *IoT) UpdateThingGroupsForThing(ctx context.Context, in *UpdateThingGroupsForThingInput) (*UpdateThingGroupsForThingOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.may("thingName", in.ThingName, shapeThingName)
		c.items("thingGroupsToAdd", in.ThingGroupsToAdd, shapeThingGroupName)
		c.items("thingGroupsToRemove", in.ThingGroupsToRemove, shapeThingGroupName)
	}
	return invoke(ctx, b, "UpdateThingGroupsForThing", in.ThingName, check, func(time.Time) (*UpdateThingGroupsForThingOutput, *task.Error) {
		if in.ThingName == "" {
			return nil, refuse(codeInvalidRequest, "The name of the thing must be given")
		}
		t, err := b.findThing(in.ThingName)
		if err != nil {
			return nil, err
		}
		old := t.groups
		for _, name := range in.ThingGroupsToRemove {
			g, err := b.findThingGroup(name)
			if err != nil {
				t.groups = old
				return nil, err
			}
			t.groups = without(t.groups, g)
		}
		for _, name := range in.ThingGroupsToAdd {
			if err := b.addToThingGroup(t, name); err != nil {
				t.groups = old
				return nil, err
			}
		}
		return &UpdateThingGroupsForThingOutput{}, nil
	})
}

// ListThingGroupsForThingInput is the request of ListThingGroupsForThing.
type ListThingGroupsForThingInput struct {
	ThingName  string `json:"thingName"`
	NextToken  string `json:"nextToken,omitempty"`
	MaxResults *int32 `json:"maxResults,omitempty"`
}

// ListThingGroupsForThing lists the groups a thing is in.
func (b *IoT) ListThingGroupsForThing(ctx context.Context, in *ListThingGroupsForThingInput) (*ListThingGroupsOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingName", in.ThingName, shapeThingName)
		c.page("maxResults", in.MaxResults)
	}
	return invoke(ctx, b, "ListThingGroupsForThing", in.ThingName, check, func(time.Time) (*ListThingGroupsOutput, *task.Error) {
		t, err := b.findThing(in.ThingName)
		if err != nil {
			return nil, err
		}
		page, next, err := slicePage(t.groups, in.NextToken, "nextToken", b.size(in.MaxResults))
		return &ListThingGroupsOutput{b.groupNames(page), next}, err
	})
}

// ListThingsInThingGroupInput is the request of ListThingsInThingGroup.
type ListThingsInThingGroupInput struct {
	ThingGroupName string `json:"thingGroupName"`
	Recursive      bool   `json:"recursive,omitempty"`
	NextToken      string `json:"nextToken,omitempty"`
	MaxResults     *int32 `json:"maxResults,omitempty"`
}

// ListThingsInGroupOutput is the answer to ListThingsInThingGroup and ListThingsInBillingGroup.
type ListThingsInGroupOutput struct {
	Things    []string `json:"things"`
	NextToken string   `json:"nextToken,omitempty"`
}

// ListThingsInThingGroup lists the things in a group, recursively also those in the groups below it, in the order the
// things were made.
func (b *IoT) ListThingsInThingGroup(ctx context.Context, in *ListThingsInThingGroupInput) (*ListThingsInGroupOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("thingGroupName", in.ThingGroupName, shapeThingGroupName)
		c.page("maxResults", in.MaxResults)
	}
	return invoke(ctx, b, "ListThingsInThingGroup", "", check, func(time.Time) (*ListThingsInGroupOutput, *task.Error) {
		g, err := b.findThingGroup(in.ThingGroupName)
		if err != nil {
			return nil, err
		}
		return b.thingsWhere(in.NextToken, in.MaxResults, func(t *thing) bool {
			return slices.ContainsFunc(t.groups, func(h *thingGroup) bool { return h == g || in.Recursive && h.below(g) })
		})
	})
}

func (b *IoT) thingsWhere(tok string, maxResults *int32, keep func(*thing) bool) (*ListThingsInGroupOutput, *task.Error) {
	from, err := numberOf(tok, "nextToken")
	if err != nil {
		return nil, err
	}
	page, next := pageOf(filter(b.st.things.after(from), keep), b.size(maxResults))
	out := &ListThingsInGroupOutput{Things: make([]string, 0, len(page)), NextToken: next}
	for _, t := range page {
		out.Things = append(out.Things, t.name)
	}
	return out, nil
}

func (b *IoT) findThingGroup(name string) (*thingGroup, *task.Error) {
	g, ok := b.st.thingGroups.get(name)
	if !ok {
		return nil, refuse(codeNotFound, "Thing group %s not found", cutValue(name))
	}
	return g, nil
}

// addToThingGroup puts a thing in a group, within the limits.
func (b *IoT) addToThingGroup(t *thing, name string) *task.Error {
	g, err := b.findThingGroup(name)
	if err != nil {
		return err
	}
	if slices.Contains(t.groups, g) {
		return nil
	}
	for _, other := range t.groups {
		if other.root() == g.root() {
			return refuse(codeInvalidRequest, "Thing %s is in thing group %s already, which is in the same hierarchy as %s", t.name, other.name, g.name)
		}
	}
	if len(t.groups) >= rule.GroupsPerThing {
		return refuse(codeLimitExceeded, "Thing %s is in the maximum number of thing groups (%d) already", t.name, rule.GroupsPerThing)
	}
	t.groups = append(slices.Clip(t.groups), g)
	return nil
}

// sameGroups reports whether groups have just the given names.
func sameGroups(groups []*thingGroup, names []string) bool {
	for _, g := range groups {
		if !slices.Contains(names, g.name) {
			return false
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(groups, func(g *thingGroup) bool { return g.name == n }) {
			return false
		}
	}
	return true
}
