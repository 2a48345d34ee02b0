package fakebackend

import (
	"context"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// Billing groups: CreateBillingGroup, DescribeBillingGroup, UpdateBillingGroup, DeleteBillingGroup, ListBillingGroups,
// AddThingToBillingGroup, RemoveThingFromBillingGroup, ListThingsInBillingGroup.
//
// Models: a thing is in one billing group at most. Not modelled: bills.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateBillingGroup.html

// BillingGroupProperties is what a billing group says of itself.
type BillingGroupProperties struct {
	BillingGroupDescription string `json:"billingGroupDescription,omitempty"`
}

func (c *checker) billingGroupProperties(p *BillingGroupProperties) {
	if p != nil {
		c.may("billingGroupProperties.billingGroupDescription", p.BillingGroupDescription, shapeDescription)
	}
}

// CreateBillingGroupInput is the request of CreateBillingGroup.
type CreateBillingGroupInput struct {
	BillingGroupName       string                  `json:"billingGroupName"`
	BillingGroupProperties *BillingGroupProperties `json:"billingGroupProperties,omitempty"`
	Tags                   []Tag                   `json:"tags,omitempty"`
}

// CreateBillingGroupOutput is the answer to CreateBillingGroup.
type CreateBillingGroupOutput struct {
	BillingGroupName string `json:"billingGroupName"`
	BillingGroupARN  string `json:"billingGroupArn"`
	BillingGroupID   string `json:"billingGroupId"`
}

// CreateBillingGroup makes a billing group. The same group again, with the same properties, is no error.
func (b *IoT) CreateBillingGroup(ctx context.Context, in *CreateBillingGroupInput) (*CreateBillingGroupOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("billingGroupName", in.BillingGroupName, shapeBillingGroupName)
		c.billingGroupProperties(in.BillingGroupProperties)
		c.tags(in.Tags)
	}
	return invoke(ctx, b, "CreateBillingGroup", "", check, func(now time.Time) (*CreateBillingGroupOutput, *task.Error) {
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
		return &CreateBillingGroupOutput{g.name, b.billingGroupARN(g), b.billingGroupID(g)}, nil
	})
}

func (b *IoT) billingGroupID(g *billingGroup) string { return b.uuid("billing group", g.number()) }

// DescribeBillingGroupInput is the request of DescribeBillingGroup.
type DescribeBillingGroupInput struct {
	BillingGroupName string `json:"billingGroupName"`
}

// DescribeBillingGroupOutput is the answer to DescribeBillingGroup.
type DescribeBillingGroupOutput struct {
	BillingGroupName       string                  `json:"billingGroupName"`
	BillingGroupID         string                  `json:"billingGroupId"`
	BillingGroupARN        string                  `json:"billingGroupArn"`
	Version                int64                   `json:"version"`
	BillingGroupProperties *BillingGroupProperties `json:"billingGroupProperties"`
	BillingGroupMetadata   *BillingGroupMetadata   `json:"billingGroupMetadata"`
}

// BillingGroupMetadata is what AWS notes about a billing group.
type BillingGroupMetadata struct {
	CreationDate time.Time `json:"creationDate"`
}

// DescribeBillingGroup reads a billing group.
func (b *IoT) DescribeBillingGroup(ctx context.Context, in *DescribeBillingGroupInput) (*DescribeBillingGroupOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("billingGroupName", in.BillingGroupName, shapeBillingGroupName) }
	return invoke(ctx, b, "DescribeBillingGroup", "", check, func(time.Time) (*DescribeBillingGroupOutput, *task.Error) {
		g, err := b.findBillingGroup(in.BillingGroupName)
		if err != nil {
			return nil, err
		}
		return &DescribeBillingGroupOutput{
			g.name, b.billingGroupID(g), b.billingGroupARN(g), g.version,
			&BillingGroupProperties{g.description}, &BillingGroupMetadata{g.created},
		}, nil
	})
}

// UpdateBillingGroupInput is the request of UpdateBillingGroup.
type UpdateBillingGroupInput struct {
	BillingGroupName       string                  `json:"billingGroupName"`
	BillingGroupProperties *BillingGroupProperties `json:"billingGroupProperties"`
	ExpectedVersion        *int64                  `json:"expectedVersion,omitempty"`
}

// UpdateBillingGroupOutput is the answer to UpdateBillingGroup.
type UpdateBillingGroupOutput struct {
	Version int64 `json:"version"`
}

// UpdateBillingGroup changes a billing group's description.
func (b *IoT) UpdateBillingGroup(ctx context.Context, in *UpdateBillingGroupInput) (*UpdateBillingGroupOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("billingGroupName", in.BillingGroupName, shapeBillingGroupName)
		c.there("billingGroupProperties", in.BillingGroupProperties != nil)
		c.billingGroupProperties(in.BillingGroupProperties)
	}
	return invoke(ctx, b, "UpdateBillingGroup", "", check, func(time.Time) (*UpdateBillingGroupOutput, *task.Error) {
		g, err := b.findBillingGroup(in.BillingGroupName)
		if err != nil {
			return nil, err
		}
		if err := expectVersion("billing group", g.name, g.version, in.ExpectedVersion); err != nil {
			return nil, err
		}
		g.description = in.BillingGroupProperties.BillingGroupDescription
		g.version++
		return &UpdateBillingGroupOutput{g.version}, nil
	})
}

// DeleteBillingGroupInput is the request of DeleteBillingGroup.
type DeleteBillingGroupInput struct {
	BillingGroupName string `json:"billingGroupName"`
	ExpectedVersion  *int64 `json:"expectedVersion,omitempty"`
}

// DeleteBillingGroupOutput is the answer to DeleteBillingGroup.
type DeleteBillingGroupOutput struct{}

// DeleteBillingGroup removes a billing group; its things leave it. It is no error when there is no such group.
func (b *IoT) DeleteBillingGroup(ctx context.Context, in *DeleteBillingGroupInput) (*DeleteBillingGroupOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("billingGroupName", in.BillingGroupName, shapeBillingGroupName) }
	return invoke(ctx, b, "DeleteBillingGroup", "", check, func(time.Time) (*DeleteBillingGroupOutput, *task.Error) {
		g, ok := b.st.billingGroups.get(in.BillingGroupName)
		if !ok {
			return &DeleteBillingGroupOutput{}, nil
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
		return &DeleteBillingGroupOutput{}, nil
	})
}

// ListBillingGroupsInput is the request of ListBillingGroups.
type ListBillingGroupsInput struct {
	NextToken        string `json:"nextToken,omitempty"`
	MaxResults       *int32 `json:"maxResults,omitempty"`
	NamePrefixFilter string `json:"namePrefixFilter,omitempty"`
}

// ListBillingGroupsOutput is the answer to ListBillingGroups.
type ListBillingGroupsOutput struct {
	BillingGroups []GroupNameAndARN `json:"billingGroups"`
	NextToken     string            `json:"nextToken,omitempty"`
}

// ListBillingGroups lists billing groups in the order they were made.
func (b *IoT) ListBillingGroups(ctx context.Context, in *ListBillingGroupsInput) (*ListBillingGroupsOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.page("maxResults", in.MaxResults)
		c.may("namePrefixFilter", in.NamePrefixFilter, shapeBillingGroupName)
	}
	return invoke(ctx, b, "ListBillingGroups", "", check, func(time.Time) (*ListBillingGroupsOutput, *task.Error) {
		from, err := numberOf(in.NextToken, "nextToken")
		if err != nil {
			return nil, err
		}
		page, next := pageOf(filter(b.st.billingGroups.after(from), func(g *billingGroup) bool {
			return strings.HasPrefix(g.name, in.NamePrefixFilter)
		}), b.size(in.MaxResults))
		out := &ListBillingGroupsOutput{BillingGroups: make([]GroupNameAndARN, 0, len(page)), NextToken: next}
		for _, g := range page {
			out.BillingGroups = append(out.BillingGroups, GroupNameAndARN{g.name, b.billingGroupARN(g)})
		}
		return out, nil
	})
}

// BillingGroupMemberInput is the request of AddThingToBillingGroup and RemoveThingFromBillingGroup. Each of the two is
// named by its name or its ARN.
type BillingGroupMemberInput struct {
	BillingGroupName string `json:"billingGroupName,omitempty"`
	BillingGroupARN  string `json:"billingGroupArn,omitempty"`
	ThingName        string `json:"thingName,omitempty"`
	ThingARN         string `json:"thingArn,omitempty"`
}

// BillingGroupMemberOutput is the answer to AddThingToBillingGroup and RemoveThingFromBillingGroup.
type BillingGroupMemberOutput struct{}

// AddThingToBillingGroup puts a thing in a billing group; twice is no error.
func (b *IoT) AddThingToBillingGroup(ctx context.Context, in *BillingGroupMemberInput) (*BillingGroupMemberOutput, error) {
	return b.changeBilling(ctx, "AddThingToBillingGroup", in, func(t *thing, g *billingGroup) *task.Error {
		return b.addToBillingGroup(t, g.name)
	})
}

// RemoveThingFromBillingGroup takes a thing out of its billing group; it is no error when it is not in it.
func (b *IoT) RemoveThingFromBillingGroup(ctx context.Context, in *BillingGroupMemberInput) (*BillingGroupMemberOutput, error) {
	return b.changeBilling(ctx, "RemoveThingFromBillingGroup", in, func(t *thing, g *billingGroup) *task.Error {
		if t.billing == g {
			t.billing = nil
		}
		return nil
	})
}

func (b *IoT) changeBilling(ctx context.Context, op string, in *BillingGroupMemberInput, change func(*thing, *billingGroup) *task.Error) (*BillingGroupMemberOutput, error) {
	in = orZero(in)
	thingName := b.nameOrARN(in.ThingName, in.ThingARN, "thing")
	groupName := b.nameOrARN(in.BillingGroupName, in.BillingGroupARN, "billinggroup")
	check := func(c *checker) {
		c.may("thingName", in.ThingName, shapeThingName)
		c.may("billingGroupName", in.BillingGroupName, shapeBillingGroupName)
	}
	return invoke(ctx, b, op, thingName, check, func(time.Time) (*BillingGroupMemberOutput, *task.Error) {
		if thingName == "" || groupName == "" {
			return nil, refuse(codeInvalidRequest, "Either the name or the ARN of both the thing and the billing group must be given")
		}
		t, err := b.findThing(thingName)
		if err != nil {
			return nil, err
		}
		g, err := b.findBillingGroup(groupName)
		if err != nil {
			return nil, err
		}
		return &BillingGroupMemberOutput{}, change(t, g)
	})
}

// ListThingsInBillingGroupInput is the request of ListThingsInBillingGroup.
type ListThingsInBillingGroupInput struct {
	BillingGroupName string `json:"billingGroupName"`
	NextToken        string `json:"nextToken,omitempty"`
	MaxResults       *int32 `json:"maxResults,omitempty"`
}

// ListThingsInBillingGroup lists the things in a billing group, in the order the things were made.
func (b *IoT) ListThingsInBillingGroup(ctx context.Context, in *ListThingsInBillingGroupInput) (*ListThingsInGroupOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("billingGroupName", in.BillingGroupName, shapeBillingGroupName)
		c.page("maxResults", in.MaxResults)
	}
	return invoke(ctx, b, "ListThingsInBillingGroup", "", check, func(time.Time) (*ListThingsInGroupOutput, *task.Error) {
		g, err := b.findBillingGroup(in.BillingGroupName)
		if err != nil {
			return nil, err
		}
		return b.thingsWhere(in.NextToken, in.MaxResults, func(t *thing) bool { return t.billing == g })
	})
}

func (b *IoT) findBillingGroup(name string) (*billingGroup, *task.Error) {
	g, ok := b.st.billingGroups.get(name)
	if !ok {
		return nil, refuse(codeNotFound, "Billing group %s not found", cutValue(name))
	}
	return g, nil
}

// addToBillingGroup puts a thing in a billing group.
func (b *IoT) addToBillingGroup(t *thing, name string) *task.Error {
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

// nameOrARN is the name, or else the name that an ARN of the given kind holds; "" when neither gives one.
func (b *IoT) nameOrARN(name, arn, kind string) string {
	if name != "" {
		return name
	}
	if rest, ok := strings.CutPrefix(arn, b.arnPrefix+kind+"/"); ok {
		return rest
	}
	return ""
}
