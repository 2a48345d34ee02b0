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
		out, err := call(ctx, p.b, p.b.iot.GetPolicy, &iot.GetPolicyInput{PolicyName: aws.String(name)})
		done, err := p.settled(CheckPolicy, name,
			"there is no such AWS IoT policy (an IAM policy does not count): every line that names it would fail, make it first", err)
		if err != nil {
			return err
		}
		if done {
			continue
		}
		document := aws.ToString(out.PolicyDocument)
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
	group, err := call(ctx, p.b, p.b.iot.DescribeThingGroup, &iot.DescribeThingGroupInput{ThingGroupName: aws.String(name)})
	if done, err := p.settled(CheckConnect, name, "there is no such thing group: make it first", err); done {
		return err
	}
	var seen []string
	pages := iot.NewListAttachedPoliciesPaginator(p.b.iot, &iot.ListAttachedPoliciesInput{Target: group.ThingGroupArn, Recursive: true})
	for pages.HasMorePages() {
		page, err := call(ctx, p.b, func(ctx context.Context, _ *iot.ListAttachedPoliciesInput, _ ...func(*iot.Options)) (*iot.ListAttachedPoliciesOutput, error) {
			return pages.NextPage(ctx)
		}, nil)
		if done, err := p.settled(CheckConnect, name, "there is no such thing group: make it first", err); done {
			return err
		}
		for _, attached := range page.Policies {
			policyName := aws.ToString(attached.PolicyName)
			out, err := call(ctx, p.b, p.b.iot.GetPolicy, &iot.GetPolicyInput{PolicyName: attached.PolicyName})
			if done, err := p.settled(CheckConnect, name, "its policy "+policyName+" is gone: attach one that exists", err); done {
				return err
			}
			if policy.LetsConnect(aws.ToString(out.PolicyDocument)) {
				p.add(CheckConnect, name, finding.OK, "its policy %s lets devices connect", policyName)
				return nil
			}
			seen = append(seen, policyName)
		}
	}
	has := "neither the group nor a parent of it has a policy"
	if len(seen) > 0 {
		has = "none of its policies (" + strings.Join(seen, ", ") + ") allows iot:Connect for a client"
	}
	p.add(CheckConnect, name, finding.Warning, "%s, so a device that is in no other group can't connect: attach a policy that allows it", has)
	return nil
}
