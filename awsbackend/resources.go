package awsbackend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	"github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// EnsureResources implements [task.ResourceEnsurer]. Each resource is described first and made only if it is not there,
// parents of groups before their children; after each that was made it is described again until AWS shows it, for about
// 30 s. A thing type that is deprecated and a group that is dynamic are [task.ErrConflict]: no line can use them.
//
// Needs iot:DescribeThingType, iot:CreateThingType, iot:DescribeThingGroup, iot:CreateThingGroup,
// iot:DescribeBillingGroup, iot:CreateBillingGroup, iot:GetPolicy and iot:CreatePolicy, of what in names.
func (b *Backend) EnsureResources(ctx context.Context, in *task.ResourcesInput) error {
	if err := b.ensureResources(ctx, in); err != nil {
		return fmt.Errorf("ensure resources: %w", err)
	}
	return nil
}

func (b *Backend) ensureResources(ctx context.Context, in *task.ResourcesInput) error {
	if in == nil {
		return &task.InputError{Member: "input", Problem: "is nil"}
	}
	groups, err := in.Ordered()
	if err != nil {
		return err
	}
	policies := slices.Sorted(maps.Keys(in.Policies))
	for _, name := range policies { // before anything is made
		if in.Policies[name] != "" {
			continue
		}
		err := b.seePolicy(ctx, name, "")
		if errors.Is(err, task.ErrNotFound) {
			return &task.InputError{Member: "Policies", Problem: fmt.Sprintf("there is no policy %s: give its document", rule.Quote(name)), Err: err}
		}
		if err != nil {
			return err
		}
	}
	if err := b.policiesWorkHere(ctx, in); err != nil {
		return err
	}
	for _, name := range policies {
		if doc := in.Policies[name]; doc != "" {
			if err := b.ensure(ctx, "policy", name, func() error { return b.seePolicy(ctx, name, doc) }, func() error {
				_, err := call(ctx, b, b.iot.CreatePolicy, &iot.CreatePolicyInput{PolicyName: aws.String(name), PolicyDocument: aws.String(doc)})
				return err
			}); err != nil {
				return err
			}
		}
	}
	for _, name := range named(in.ThingTypes) {
		if err := b.ensure(ctx, "thing type", name, func() error { return b.seeThingType(ctx, name) }, func() error {
			_, err := call(ctx, b, b.iot.CreateThingType, &iot.CreateThingTypeInput{ThingTypeName: aws.String(name)})
			return err
		}); err != nil {
			return err
		}
	}
	for _, g := range groups {
		if err := b.ensure(ctx, "thing group", g.Name, func() error { return b.seeThingGroup(ctx, g) }, func() error {
			return b.makeThingGroup(ctx, g)
		}); err != nil {
			return err
		}
	}
	for _, name := range named(in.BillingGroups) {
		if err := b.ensure(ctx, "billing group", name, func() error {
			_, err := call(ctx, b, b.iot.DescribeBillingGroup, &iot.DescribeBillingGroupInput{BillingGroupName: aws.String(name)})
			return err
		}, func() error {
			_, err := call(ctx, b, b.iot.CreateBillingGroup, &iot.CreateBillingGroupInput{BillingGroupName: aws.String(name)})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// policiesWorkHere refuses policies that would be made for another account or region and have no effect in this one.
func (b *Backend) policiesWorkHere(ctx context.Context, in *task.ResourcesInput) error {
	for _, name := range slices.Sorted(maps.Keys(in.Policies)) {
		if in.Policies[name] == "" {
			continue
		}
		who, err := b.Identity(ctx)
		if err != nil {
			return err
		}
		if why := policy.Useless(in.Policies[name], who.Partition, who.Region, who.Account); why != "" {
			return &task.InputError{Member: "Policies", Problem: fmt.Sprintf("policy %s: %s", rule.Quote(name), why)}
		}
	}
	return nil
}

// ensure makes a resource unless it can be seen, and returns when it can.
func (b *Backend) ensure(ctx context.Context, kind, name string, see, create func() error) error {
	what := kind + " " + rule.Quote(name)
	err := see()
	if errors.Is(err, task.ErrNotFound) {
		// Somebody else may make it at the same time; what is seen then decides.
		if err = create(); err == nil || errors.Is(err, task.ErrConflict) {
			err = b.await(ctx, "the new "+what, func() (again bool, _ error) {
				err := see()
				if errors.Is(err, task.ErrNotFound) {
					return true, notVisible(what, err)
				}
				return false, err
			})
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// seePolicy returns task.ErrConflict for a policy with another document than doc; an empty doc is any.
func (b *Backend) seePolicy(ctx context.Context, name, doc string) error {
	out, err := call(ctx, b, b.iot.GetPolicy, &iot.GetPolicyInput{PolicyName: aws.String(name)})
	if err != nil {
		return err
	}
	if doc != "" && !jsonline.Same(aws.ToString(out.PolicyDocument), doc) {
		return fmt.Errorf("%w: it exists with another document, which is left as it is: give the policy another name, or that document",
			task.ErrConflict)
	}
	return nil
}

func (b *Backend) seeThingType(ctx context.Context, name string) error {
	out, err := call(ctx, b, b.iot.DescribeThingType, &iot.DescribeThingTypeInput{ThingTypeName: aws.String(name)})
	if err == nil && out.ThingTypeMetadata != nil && out.ThingTypeMetadata.Deprecated {
		return fmt.Errorf("%w: it is deprecated, and AWS makes no new things of it", task.ErrConflict)
	}
	return err
}

func (b *Backend) seeThingGroup(ctx context.Context, g task.ThingGroup) error {
	out, err := call(ctx, b, b.iot.DescribeThingGroup, &iot.DescribeThingGroupInput{ThingGroupName: aws.String(g.Name)})
	if err != nil {
		return err
	}
	parent := ""
	if out.ThingGroupMetadata != nil {
		parent = aws.ToString(out.ThingGroupMetadata.ParentGroupName)
	}
	switch {
	case aws.ToString(out.QueryString) != "":
		return fmt.Errorf("%w: it is dynamic, its query decides who is in it", task.ErrConflict)
	case g.Parent != "" && parent != g.Parent:
		return fmt.Errorf("%w: it exists under another parent, %q", task.ErrConflict, parent)
	}
	return nil
}

// makeThingGroup makes a group. Its parent may have been made a moment ago, and not be known everywhere yet.
func (b *Backend) makeThingGroup(ctx context.Context, g task.ThingGroup) error {
	in := &iot.CreateThingGroupInput{ThingGroupName: aws.String(g.Name), ThingGroupProperties: &types.ThingGroupProperties{}}
	if g.Parent == "" {
		_, err := call(ctx, b, b.iot.CreateThingGroup, in)
		return err
	}
	in.ParentGroupName = aws.String(g.Parent)
	err := b.seeThingGroup(ctx, task.ThingGroup{Name: g.Parent})
	if err != nil {
		return fmt.Errorf("its parent %s: %w", rule.Quote(g.Parent), err)
	}
	return b.await(ctx, "the new parent group", func() (again bool, err error) {
		_, err = call(ctx, b, b.iot.CreateThingGroup, in)
		return errors.Is(err, task.ErrNotFound), err
	})
}
