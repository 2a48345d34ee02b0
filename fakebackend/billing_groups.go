package fakebackend

import (
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Billing groups: CreateBillingGroup, DescribeBillingGroup, UpdateBillingGroup, DeleteBillingGroup, ListBillingGroups,
// AddThingToBillingGroup, RemoveThingFromBillingGroup, ListThingsInBillingGroup.
//
// Models: a thing is in one billing group at most. Not modelled: bills.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateBillingGroup.html

var billingGroupOperations = []*operation{
	operationOf("CreateBillingGroup", "POST /billing-groups/{billingGroupName}", (*account).createBillingGroup),
	operationOf("DescribeBillingGroup", "GET /billing-groups/{billingGroupName}", (*account).describeBillingGroup),
	operationOf("UpdateBillingGroup", "PATCH /billing-groups/{billingGroupName}", (*account).updateBillingGroup),
	operationOf("DeleteBillingGroup", "DELETE /billing-groups/{billingGroupName}", (*account).deleteBillingGroup),
	listOf("ListBillingGroups", "GET /billing-groups", "billingGroups", (*account).listBillingGroups),
	operationOf("AddThingToBillingGroup", "PUT /billing-groups/addThingToBillingGroup", (*account).addThingToBillingGroup),
	operationOf("RemoveThingFromBillingGroup", "PUT /billing-groups/removeThingFromBillingGroup", (*account).removeThingFromBillingGroup),
	listOf("ListThingsInBillingGroup", "GET /billing-groups/{billingGroupName}/things", "things", (*account).listThingsInBillingGroup),
}

// billingGroupProperties describes a billing group.
type billingGroupProperties struct {
	BillingGroupDescription string `json:"billingGroupDescription,omitempty" is:"BillingGroupDescription"`
}

type createBillingGroupInput struct {
	BillingGroupName       string                  `path:"billingGroupName" is:"BillingGroupName"`
	BillingGroupProperties *billingGroupProperties `json:"billingGroupProperties"`
	Tags                   []tag                   `json:"tags"`
}

type createBillingGroupOutput struct {
	BillingGroupName string `json:"billingGroupName"`
	BillingGroupARN  string `json:"billingGroupArn"`
	BillingGroupID   string `json:"billingGroupId"`
}

// createBillingGroup makes a billing group. The same group again, with the same properties, is no error.
func (b *account) createBillingGroup(now time.Time, in *createBillingGroupInput) (*createBillingGroupOutput, *task.Error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	g := &billingGroup{name: in.BillingGroupName, version: 1, created: stamp(now)}
	if in.BillingGroupProperties != nil {
		g.description = in.BillingGroupProperties.BillingGroupDescription
	}
	if old, ok := b.st.billingGroups.get(g.name); !ok {
		b.st.billingGroups.add(g.name, g)
		b.setTags(b.billingGroupARN(g), in.Tags)
	} else if old.description != g.description {
		err := refuse(codeAlreadyExists, "Billing Group %s already exists in current account with different properties", g.name)
		return nil, withResource(err, b.billingGroupID(old), b.billingGroupARN(old))
	} else {
		g = old
	}
	return &createBillingGroupOutput{g.name, b.billingGroupARN(g), b.billingGroupID(g)}, nil
}

func (b *account) billingGroupID(g *billingGroup) string { return b.uuid("billing group", g.number()) }

type describeBillingGroupInput struct {
	BillingGroupName string `path:"billingGroupName" is:"BillingGroupName"`
}

type describeBillingGroupOutput struct {
	BillingGroupName       string                  `json:"billingGroupName"`
	BillingGroupID         string                  `json:"billingGroupId"`
	BillingGroupARN        string                  `json:"billingGroupArn"`
	Version                int64                   `json:"version"`
	BillingGroupProperties *billingGroupProperties `json:"billingGroupProperties"`
	BillingGroupMetadata   *billingGroupMetadata   `json:"billingGroupMetadata"`
}

// billingGroupMetadata is what AWS notes about a billing group.
type billingGroupMetadata struct {
	CreationDate time.Time `json:"creationDate"`
}

// describeBillingGroup reads a billing group.
func (b *account) describeBillingGroup(_ time.Time, in *describeBillingGroupInput) (*describeBillingGroupOutput, *task.Error) {
	g, err := b.findBillingGroup(in.BillingGroupName)
	if err != nil {
		return nil, err
	}
	return &describeBillingGroupOutput{
		g.name, b.billingGroupID(g), b.billingGroupARN(g), g.version,
		&billingGroupProperties{g.description}, &billingGroupMetadata{g.created},
	}, nil
}

type updateBillingGroupInput struct {
	BillingGroupName       string                  `path:"billingGroupName" is:"BillingGroupName"`
	BillingGroupProperties *billingGroupProperties `json:"billingGroupProperties" required:"true"`
	ExpectedVersion        *int64                  `json:"expectedVersion"`
}

type updateBillingGroupOutput struct {
	Version int64 `json:"version"`
}

// updateBillingGroup changes a billing group's description.
func (b *account) updateBillingGroup(_ time.Time, in *updateBillingGroupInput) (*updateBillingGroupOutput, *task.Error) {
	g, err := b.findBillingGroup(in.BillingGroupName)
	if err != nil {
		return nil, err
	}
	if err := expectVersion("billing group", g.name, g.version, in.ExpectedVersion); err != nil {
		return nil, err
	}
	g.description = in.BillingGroupProperties.BillingGroupDescription
	g.version++
	return &updateBillingGroupOutput{g.version}, nil
}

type deleteBillingGroupInput struct {
	BillingGroupName string `path:"billingGroupName" is:"BillingGroupName"`
	ExpectedVersion  *int64 `query:"expectedVersion"`
}

// deleteBillingGroup removes a billing group; its things leave it. It is no error when there is no such group.
func (b *account) deleteBillingGroup(_ time.Time, in *deleteBillingGroupInput) (*nothing, *task.Error) {
	g, ok := b.st.billingGroups.get(in.BillingGroupName)
	if !ok {
		return nil, nil
	}
	if err := expectVersion("billing group", g.name, g.version, in.ExpectedVersion); err != nil {
		return nil, err
	}
	for t := range b.st.things.all() {
		if t.billing == g {
			t.billing = nil
		}
	}
	b.st.billingGroups.remove(g.name)
	delete(b.st.tags, b.billingGroupARN(g))
	return nil, nil
}

type listBillingGroupsInput struct {
	byToken
	NamePrefixFilter string `query:"namePrefixFilter" is:"BillingGroupName"`
}

// listBillingGroups lists billing groups in the order they were made.
func (b *account) listBillingGroups(in *listBillingGroupsInput, p *page) ([]groupNameAndARN, *task.Error) {
	rows := filter(b.st.billingGroups.after(p.from), func(g *billingGroup) bool {
		return strings.HasPrefix(g.name, in.NamePrefixFilter)
	})
	return rowsOf(p, rows, func(g *billingGroup) groupNameAndARN { return groupNameAndARN{g.name, b.billingGroupARN(g)} }), nil
}

// billingGroupMemberInput names a thing and a billing group, each by its name or its ARN.
type billingGroupMemberInput struct {
	ThingName        string `json:"thingName" is:"ThingName"`
	ThingARN         string `json:"thingArn"`
	BillingGroupName string `json:"billingGroupName" is:"BillingGroupName"`
	BillingGroupARN  string `json:"billingGroupArn"`
}

// addThingToBillingGroup puts a thing in a billing group; twice is no error.
func (b *account) addThingToBillingGroup(_ time.Time, in *billingGroupMemberInput) (*nothing, *task.Error) {
	t, g, err := b.billingGroupMember(in)
	if err != nil {
		return nil, err
	}
	return nil, b.addToBillingGroup(t, g.name)
}

// removeThingFromBillingGroup takes a thing out of its billing group; it is no error when it is not in it.
func (b *account) removeThingFromBillingGroup(_ time.Time, in *billingGroupMemberInput) (*nothing, *task.Error) {
	t, g, err := b.billingGroupMember(in)
	if err == nil && t.billing == g {
		t.billing = nil
	}
	return nil, err
}

func (b *account) billingGroupMember(in *billingGroupMemberInput) (*thing, *billingGroup, *task.Error) {
	thingName := b.nameOrARN(in.ThingName, in.ThingARN, "thing")
	groupName := b.nameOrARN(in.BillingGroupName, in.BillingGroupARN, "billinggroup")
	if thingName == "" || groupName == "" {
		return nil, nil, refuse(codeInvalidRequest, "Either the name or the ARN of both the thing and the billing group must be given")
	}
	t, err := b.findThing(thingName)
	if err != nil {
		return nil, nil, err
	}
	g, err := b.findBillingGroup(groupName)
	return t, g, err
}

type listThingsInBillingGroupInput struct {
	BillingGroupName string `path:"billingGroupName" is:"BillingGroupName"`
	byToken
}

// listThingsInBillingGroup lists the things in a billing group, in the order the things were made.
func (b *account) listThingsInBillingGroup(in *listThingsInBillingGroupInput, p *page) ([]string, *task.Error) {
	g, err := b.findBillingGroup(in.BillingGroupName)
	if err != nil {
		return nil, err
	}
	return b.thingsWhere(p, func(t *thing) bool { return t.billing == g }), nil
}

func (b *account) findBillingGroup(name string) (*billingGroup, *task.Error) {
	g, ok := b.st.billingGroups.get(name)
	if !ok {
		return nil, refuse(codeNotFound, "Billing group %s not found", restjson.Cut(name))
	}
	return g, nil
}

// addToBillingGroup puts a thing in a billing group.
func (b *account) addToBillingGroup(t *thing, name string) *task.Error {
	g, err := b.findBillingGroup(name)
	if err != nil {
		return err
	}
	if t.billing != nil && t.billing != g {
		return refuse(codeInvalidRequest, "Thing %s is in billing group %s already. A thing can be in one billing group", t.name, t.billing.name)
	}
	t.billing = g
	return nil
}

// nameOrARN is the name, or else the name that an ARN of the given kind holds; "" when neither holds one.
func (b *account) nameOrARN(name, arn, kind string) string {
	if name != "" {
		return name
	}
	if rest, ok := strings.CutPrefix(arn, b.arnPrefix+kind+"/"); ok {
		return rest
	}
	return ""
}
