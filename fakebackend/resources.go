package fakebackend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	policydoc "github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/task"
)

// EnsureResources makes what a template and its rows refer to. See [task.ResourceEnsurer].
func (b *Backend) EnsureResources(ctx context.Context, in *task.ResourcesInput) error {
	in = orZero(in)
	groups, err := in.Ordered()
	if err != nil {
		return err
	}
	policies := slices.Sorted(maps.Keys(in.Policies))
	for _, name := range policies { // before anything is made
		if in.Policies[name] != "" {
			continue
		}
		if _, err := call[getPolicyOutput](ctx, b.account, "GetPolicy", &policyInput{name}); errors.Is(err, task.ErrNotFound) {
			return &task.InputError{Member: "Policies", Problem: fmt.Sprintf("there is no policy %q: give its document", name), Err: err}
		} else if err != nil {
			return err
		}
	}
	for _, name := range policies {
		if why := policydoc.Useless(in.Policies[name], b.partition().Name, b.opts.Region, b.opts.Account); why != "" {
			return &task.InputError{Member: "Policies", Problem: fmt.Sprintf("policy %q: %s", name, why)}
		}
	}
	for _, name := range policies {
		doc := in.Policies[name]
		if doc == "" {
			continue
		}
		p, err := call[getPolicyOutput](ctx, b.account, "GetPolicy", &policyInput{name})
		if err == nil && !jsonline.Same(p.PolicyDocument, doc) {
			return fmt.Errorf("policy %q: %w: it exists with another document, which is left as it is", name, task.ErrConflict)
		}
		if err := ensure[createPolicyOutput](ctx, b, "CreatePolicy", &createPolicyInput{PolicyName: name, PolicyDocument: doc}, err); err != nil {
			return fmt.Errorf("policy %q: %w", name, err)
		}
	}
	for _, name := range in.ThingTypes {
		t, err := call[describeThingTypeOutput](ctx, b.account, "DescribeThingType", &describeThingTypeInput{name})
		if err == nil && t.ThingTypeMetadata.Deprecated {
			return fmt.Errorf("thing type %q: %w: it is deprecated, and takes no new things", name, task.ErrConflict)
		}
		if err := ensure[createThingTypeOutput](ctx, b, "CreateThingType", &createThingTypeInput{ThingTypeName: name}, err); err != nil {
			return fmt.Errorf("thing type %q: %w", name, err)
		}
	}
	for _, g := range groups {
		old, err := call[describeThingGroupOutput](ctx, b.account, "DescribeThingGroup", &describeThingGroupInput{g.Name})
		if err == nil && g.Parent != "" && old.ThingGroupMetadata.ParentGroupName != g.Parent {
			return fmt.Errorf("thing group %q: %w: it exists under another parent, %q", g.Name, task.ErrConflict, old.ThingGroupMetadata.ParentGroupName)
		}
		create := &createThingGroupInput{ThingGroupName: g.Name, ParentGroupName: g.Parent}
		if err := ensure[createThingGroupOutput](ctx, b, "CreateThingGroup", create, err); err != nil {
			return fmt.Errorf("thing group %q: %w", g.Name, err)
		}
	}
	for _, name := range in.BillingGroups {
		_, err := call[describeBillingGroupOutput](ctx, b.account, "DescribeBillingGroup", &describeBillingGroupInput{name})
		if err := ensure[createBillingGroupOutput](ctx, b, "CreateBillingGroup", &createBillingGroupInput{BillingGroupName: name}, err); err != nil {
			return fmt.Errorf("billing group %q: %w", name, err)
		}
	}
	return nil
}

// ensure calls an operation that makes something, if the look for it has not found it.
func ensure[Out any](ctx context.Context, b *Backend, operation string, in any, seen error) error {
	if !errors.Is(seen, task.ErrNotFound) {
		return seen
	}
	_, err := call[Out](ctx, b.account, operation, in)
	return err
}
