package fakebackend

import (
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
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

var thingGroupOperations = []*operation{
	operationOf("CreateThingGroup", "POST /thing-groups/{thingGroupName}", (*account).createThingGroup),
	operationOf("DescribeThingGroup", "GET /thing-groups/{thingGroupName}", (*account).describeThingGroup),
	operationOf("UpdateThingGroup", "PATCH /thing-groups/{thingGroupName}", (*account).updateThingGroup),
	operationOf("DeleteThingGroup", "DELETE /thing-groups/{thingGroupName}", (*account).deleteThingGroup),
	listOf("ListThingGroups", "GET /thing-groups", "thingGroups", (*account).listThingGroups),
	operationOf("AddThingToThingGroup", "PUT /thing-groups/addThingToThingGroup", (*account).addThingToThingGroup),
	operationOf("RemoveThingFromThingGroup", "PUT /thing-groups/removeThingFromThingGroup", (*account).removeThingFromThingGroup),
	operationOf("UpdateThingGroupsForThing", "PUT /thing-groups/updateThingGroupsForThing", (*account).updateThingGroupsForThing),
	listOf("ListThingGroupsForThing", "GET /things/{thingName}/thing-groups", "thingGroups", (*account).listThingGroupsForThing),
	listOf("ListThingsInThingGroup", "GET /thing-groups/{thingGroupName}/things", "things", (*account).listThingsInThingGroup),
}

// The limits of a hierarchy of thing groups.
const (
	groupDepth    = 7
	groupChildren = 100
)

// thingGroupProperties describes a group.
type thingGroupProperties struct {
	ThingGroupDescription string            `json:"thingGroupDescription,omitempty" is:"ThingGroupDescription"`
	AttributePayload      *attributePayload `json:"attributePayload,omitempty"`
}

type createThingGroupInput struct {
	ThingGroupName       string                `path:"thingGroupName" is:"ThingGroupName"`
	ParentGroupName      string                `json:"parentGroupName" is:"ThingGroupName"`
	ThingGroupProperties *thingGroupProperties `json:"thingGroupProperties"`
	Tags                 []tag                 `json:"tags"`
}

type createThingGroupOutput struct {
	ThingGroupName string `json:"thingGroupName"`
	ThingGroupARN  string `json:"thingGroupArn"`
	ThingGroupID   string `json:"thingGroupId"`
}

// createThingGroup makes a group. The same group again, with the same properties, is no error.
func (b *account) createThingGroup(now time.Time, in *createThingGroupInput) (*createThingGroupOutput, *task.Error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
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
		return &createThingGroupOutput{old.name, b.thingGroupARN(old), b.groupID(old)}, nil
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
	return &createThingGroupOutput{g.name, b.thingGroupARN(g), b.groupID(g)}, nil
}

func (b *account) setGroupProperties(g *thingGroup, p *thingGroupProperties) {
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

func (b *account) groupID(g *thingGroup) string { return b.uuid("thing group", g.number()) }

// path is the groups from the root down to g.
func (g *thingGroup) path() []*thingGroup {
	var up []*thingGroup
	for ; g != nil; g = g.parent {
		up = append(up, g)
	}
	slices.Reverse(up)
	return up
}

type describeThingGroupInput struct {
	ThingGroupName string `path:"thingGroupName" is:"ThingGroupName"`
}

type describeThingGroupOutput struct {
	ThingGroupName       string                `json:"thingGroupName"`
	ThingGroupID         string                `json:"thingGroupId"`
	ThingGroupARN        string                `json:"thingGroupArn"`
	Version              int64                 `json:"version"`
	ThingGroupProperties *thingGroupProperties `json:"thingGroupProperties"`
	ThingGroupMetadata   *thingGroupMetadata   `json:"thingGroupMetadata"`
}

// thingGroupMetadata is what AWS notes about a group.
type thingGroupMetadata struct {
	ParentGroupName         string            `json:"parentGroupName,omitempty"`
	RootToParentThingGroups []groupNameAndARN `json:"rootToParentThingGroups,omitempty"`
	CreationDate            time.Time         `json:"creationDate"`
}

// groupNameAndARN names a thing group or a billing group.
type groupNameAndARN struct {
	GroupName string `json:"groupName"`
	GroupARN  string `json:"groupArn"`
}

// describeThingGroup reads a group.
func (b *account) describeThingGroup(_ time.Time, in *describeThingGroupInput) (*describeThingGroupOutput, *task.Error) {
	g, err := b.findThingGroup(in.ThingGroupName)
	if err != nil {
		return nil, err
	}
	meta := &thingGroupMetadata{CreationDate: g.created}
	if g.parent != nil {
		meta.ParentGroupName = g.parent.name
		for _, above := range g.parent.path() {
			meta.RootToParentThingGroups = append(meta.RootToParentThingGroups, b.groupName(above))
		}
	}
	props := &thingGroupProperties{ThingGroupDescription: g.description}
	if len(g.attributes) > 0 {
		props.AttributePayload = &attributePayload{Attributes: attributeMap(g.attributes)}
	}
	return &describeThingGroupOutput{g.name, b.groupID(g), b.thingGroupARN(g), g.version, props, meta}, nil
}

func (b *account) groupName(g *thingGroup) groupNameAndARN {
	return groupNameAndARN{g.name, b.thingGroupARN(g)}
}

type updateThingGroupInput struct {
	ThingGroupName       string                `path:"thingGroupName" is:"ThingGroupName"`
	ThingGroupProperties *thingGroupProperties `json:"thingGroupProperties" required:"true"`
	ExpectedVersion      *int64                `json:"expectedVersion"`
}

type updateThingGroupOutput struct {
	Version int64 `json:"version"`
}

// updateThingGroup changes a group's properties.
func (b *account) updateThingGroup(_ time.Time, in *updateThingGroupInput) (*updateThingGroupOutput, *task.Error) {
	g, err := b.findThingGroup(in.ThingGroupName)
	if err != nil {
		return nil, err
	}
	if err := expectVersion("thing group", g.name, g.version, in.ExpectedVersion); err != nil {
		return nil, err
	}
	b.setGroupProperties(g, in.ThingGroupProperties)
	g.version++
	return &updateThingGroupOutput{g.version}, nil
}

type deleteThingGroupInput struct {
	ThingGroupName  string `path:"thingGroupName" is:"ThingGroupName"`
	ExpectedVersion *int64 `query:"expectedVersion"`
}

// deleteThingGroup removes a group without children; its things leave it. It is no error when there is no such group.
func (b *account) deleteThingGroup(_ time.Time, in *deleteThingGroupInput) (*nothing, *task.Error) {
	g, ok := b.st.thingGroups.get(in.ThingGroupName)
	if !ok {
		return nil, nil
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
	return nil, nil
}

type listThingGroupsInput struct {
	byToken
	ParentGroup      string `query:"parentGroup" is:"ThingGroupName"`
	NamePrefixFilter string `query:"namePrefixFilter" is:"ThingGroupName"`
	Recursive        *bool  `query:"recursive"` // nil is true
}

// listThingGroups lists groups in the order they were made.
func (b *account) listThingGroups(in *listThingGroupsInput, p *page) ([]groupNameAndARN, *task.Error) {
	var parent *thingGroup
	if in.ParentGroup != "" {
		var err *task.Error
		if parent, err = b.findThingGroup(in.ParentGroup); err != nil {
			return nil, err
		}
	}
	deep := in.Recursive == nil || *in.Recursive
	return rowsOf(p, filter(b.st.thingGroups.after(p.from), func(g *thingGroup) bool {
		return strings.HasPrefix(g.name, in.NamePrefixFilter) && (g.parent == parent || deep && g.below(parent))
	}), b.groupName), nil
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

// thingGroupMember names a thing and a thing group, each by its name or its ARN.
type thingGroupMember struct {
	ThingName      string `json:"thingName" is:"ThingName"`
	ThingARN       string `json:"thingArn"`
	ThingGroupName string `json:"thingGroupName" is:"ThingGroupName"`
	ThingGroupARN  string `json:"thingGroupArn"`
}

type addThingToThingGroupInput struct {
	thingGroupMember
	OverrideDynamicGroups bool `json:"overrideDynamicGroups"` // has no effect: there are no dynamic groups
}

// addThingToThingGroup puts a thing in a group; twice is no error.
func (b *account) addThingToThingGroup(_ time.Time, in *addThingToThingGroupInput) (*nothing, *task.Error) {
	t, g, err := b.findThingGroupMember(&in.thingGroupMember)
	if err != nil {
		return nil, err
	}
	return nil, b.addToThingGroup(t, g.name)
}

// removeThingFromThingGroup takes a thing out of a group; it is no error when it is not in it.
func (b *account) removeThingFromThingGroup(_ time.Time, in *thingGroupMember) (*nothing, *task.Error) {
	t, g, err := b.findThingGroupMember(in)
	if err == nil {
		t.groups = without(t.groups, g)
	}
	return nil, err
}

func (b *account) findThingGroupMember(in *thingGroupMember) (*thing, *thingGroup, *task.Error) {
	thingName := b.nameOrARN(in.ThingName, in.ThingARN, "thing")
	groupName := b.nameOrARN(in.ThingGroupName, in.ThingGroupARN, "thinggroup")
	if thingName == "" || groupName == "" {
		return nil, nil, refuse(codeInvalidRequest, "Either the name or the ARN of both the thing and the thing group must be given")
	}
	t, err := b.findThing(thingName)
	if err != nil {
		return nil, nil, err
	}
	g, err := b.findThingGroup(groupName)
	return t, g, err
}

type updateThingGroupsForThingInput struct {
	ThingName             string   `json:"thingName" is:"ThingName"`
	ThingGroupsToAdd      []string `json:"thingGroupsToAdd" is:"ThingGroupName"`
	ThingGroupsToRemove   []string `json:"thingGroupsToRemove" is:"ThingGroupName"`
	OverrideDynamicGroups bool     `json:"overrideDynamicGroups"` // has no effect: there are no dynamic groups
}

// updateThingGroupsForThing takes a thing out of some groups and puts it in others: all of it, or nothing.
func (b *account) updateThingGroupsForThing(_ time.Time, in *updateThingGroupsForThingInput) (*nothing, *task.Error) {
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
	return nil, nil
}

type listThingGroupsForThingInput struct {
	ThingName string `path:"thingName" is:"ThingName"`
	byToken
}

// listThingGroupsForThing lists the groups a thing is in.
func (b *account) listThingGroupsForThing(in *listThingGroupsForThingInput, p *page) ([]groupNameAndARN, *task.Error) {
	t, err := b.findThing(in.ThingName)
	if err != nil {
		return nil, err
	}
	return itemsOf(p, t.groups, b.groupName), nil
}

type listThingsInThingGroupInput struct {
	ThingGroupName string `path:"thingGroupName" is:"ThingGroupName"`
	Recursive      bool   `query:"recursive"`
	byToken
}

// listThingsInThingGroup lists the things in a group, recursively also those in the groups below it, in the order the
// things were made.
func (b *account) listThingsInThingGroup(in *listThingsInThingGroupInput, p *page) ([]string, *task.Error) {
	g, err := b.findThingGroup(in.ThingGroupName)
	if err != nil {
		return nil, err
	}
	return b.thingsWhere(p, func(t *thing) bool {
		return slices.ContainsFunc(t.groups, func(h *thingGroup) bool { return h == g || in.Recursive && h.below(g) })
	}), nil
}

// thingsWhere fills a page with the names of things.
func (b *account) thingsWhere(p *page, keep func(*thing) bool) []string {
	return rowsOf(p, filter(b.st.things.after(p.from), keep), func(t *thing) string { return t.name })
}

func (b *account) findThingGroup(name string) (*thingGroup, *task.Error) {
	g, ok := b.st.thingGroups.get(name)
	if !ok {
		return nil, refuse(codeNotFound, "Thing group %s not found", restjson.Cut(name))
	}
	return g, nil
}

// addToThingGroup puts a thing in a group, within the limits.
func (b *account) addToThingGroup(t *thing, name string) *task.Error {
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

// sameGroups reports whether groups have these names and no others.
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
