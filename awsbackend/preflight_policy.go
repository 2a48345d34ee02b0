package awsbackend

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/task"
)

// This file checks the AWS IoT policies that devices get: those that the template names, and those of thing groups.

func (p *preflight) policies(ctx context.Context) error {
	who := p.who
	if who == nil {
		who = new(task.Identity) // nothing is compared
	}
	for _, name := range named(p.in.Policies) {
		document, err := p.b.ReadPolicy(ctx, name)
		done, err := p.settled(CheckPolicy, name,
			"there is no such AWS IoT policy (an IAM policy does not count): every line that names it would fail, make it first", err)
		if err != nil {
			return err
		}
		if done {
			continue
		}
		p.connects = p.connects || policy.LetsConnect(document)
		p.add(CheckPolicy, name, finding.OK, "exists")
		for _, problem := range policy.CheckAttached(document, who.Partition, who.Region, who.Account) {
			p.add(CheckPolicy, name, finding.Warning, "%s; mend the policy", problem.Message)
		}
	}
	return nil
}

// connect looks for a policy that lets devices connect, if the template has none. One that could not be read may be it.
func (p *preflight) connect(ctx context.Context) error {
	switch groups := named(p.in.ThingGroups); {
	case !p.in.Connect:
	case p.connects:
		p.add(CheckConnect, "", finding.OK, "a policy that the template names lets devices connect")
	case len(groups) == 0:
		p.add(CheckConnect, "", finding.Warning, "no policy lets devices connect: let one that the template names allow iot:Connect for a client")
	default:
		for _, name := range groups {
			if err := p.group(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// group looks at the policies of one thing group and of its parents.
func (p *preflight) group(ctx context.Context, name string) error {
	names, err := p.b.GroupPolicies(ctx, name)
	if done, err := p.settled(CheckConnect, name, "there is no such thing group: make it first", err); done {
		return err
	}
	for _, policyName := range names {
		document, err := p.b.ReadPolicy(ctx, policyName)
		if done, err := p.settled(CheckConnect, name, "its policy "+policyName+" is gone: attach one that exists", err); done {
			return err
		}
		if policy.LetsConnect(document) {
			p.add(CheckConnect, name, finding.OK, "its policy %s lets devices connect", policyName)
			return nil
		}
	}
	has := "neither the group nor a parent of it has a policy"
	if len(names) > 0 {
		has = "none of its policies (" + strings.Join(names, ", ") + ") allows iot:Connect for a client"
	}
	p.add(CheckConnect, name, finding.Warning, "%s, so a device that is in no other group can't connect: attach a policy that allows it", has)
	return nil
}

// ReadPolicy implements [task.PolicyReader]. Needs iot:GetPolicy.
func (b *Backend) ReadPolicy(ctx context.Context, policyName string) (string, error) {
	out, err := call(ctx, b, b.iot.GetPolicy, &iot.GetPolicyInput{PolicyName: aws.String(policyName)})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.PolicyDocument), nil
}

// GroupPolicies implements [task.PolicyReader]. Needs iot:DescribeThingGroup and iot:ListAttachedPolicies.
func (b *Backend) GroupPolicies(ctx context.Context, groupName string) ([]string, error) {
	group, err := call(ctx, b, b.iot.DescribeThingGroup, &iot.DescribeThingGroupInput{ThingGroupName: aws.String(groupName)})
	if err != nil {
		return nil, err
	}
	var names []string
	pages := iot.NewListAttachedPoliciesPaginator(b.iot, &iot.ListAttachedPoliciesInput{Target: group.ThingGroupArn, Recursive: true})
	for pages.HasMorePages() {
		page, err := call(ctx, b, func(ctx context.Context, _ *iot.ListAttachedPoliciesInput, _ ...func(*iot.Options)) (*iot.ListAttachedPoliciesOutput, error) {
			return pages.NextPage(ctx)
		}, nil)
		if err != nil {
			return nil, err
		}
		for _, attached := range page.Policies {
			names = append(names, aws.ToString(attached.PolicyName))
		}
	}
	return names, nil
}
