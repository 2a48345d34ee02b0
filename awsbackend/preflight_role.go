package awsbackend

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/task"
)

// registration is what a task does on behalf of a line with a CSR, at the least.
var registration = []string{
	"iot:AttachPolicy", "iot:AttachThingPrincipal", "iot:CreateCertificateFromCsr", "iot:CreatePolicy", "iot:CreateThing",
	"iot:DescribeCertificate", "iot:DescribeThing", "iot:GetPolicy", "iot:UpdateCertificate",
}

// role checks the service role: that it exists, whom it trusts and what it may do.
func (p *preflight) role(ctx context.Context) error {
	arn := p.in.RoleARN
	name, ok := p.roleName(arn)
	if !ok {
		return nil
	}
	role, err := p.b.role(ctx, name)
	if done, err := p.settled(CheckRole, arn, "there is no such role: make it with EnsureRole", err); done {
		return err
	}
	if got := aws.ToString(role.Arn); got != arn {
		p.add(CheckRole, arn, finding.Error, "the role's ARN is %s: give that one, path included", got)
	} else {
		p.add(CheckRole, arn, finding.OK, "exists")
	}
	p.trust(arn, decoded(role.AssumeRolePolicyDocument))
	return p.permissions(ctx, arn, name)
}

// roleName takes the name out of the role's ARN, and reports an ARN that cannot be right.
func (p *preflight) roleName(arn string) (string, bool) {
	a, ok := partition.ParseARN(arn)
	if !ok || a.Service != "iam" || !strings.HasPrefix(a.Resource, "role/") {
		p.add(CheckRole, arn, finding.Error, "is not the ARN of a role: arn:%s:iam::ACCOUNT:role/NAME", partition.Of(p.b.region).Name)
		return "", false
	}
	if p.who != nil && (a.Partition != p.who.Partition || a.Account != p.who.Account) {
		p.add(CheckRole, arn, finding.Error, "the role is in %s account %s, these credentials are for %s account %s",
			a.Partition, a.Account, p.who.Partition, p.who.Account)
		return "", false
	}
	return a.Resource[strings.LastIndexByte(a.Resource, '/')+1:], true
}

func (p *preflight) trust(arn, document string) {
	account := ""
	if p.who != nil {
		account = p.who.Account
	}
	trust, err := parsePolicy(document)
	if err != nil {
		p.add(CheckRoleTrust, arn, finding.Unknown, "could not check: %v", err)
		return
	}
	switch d := trusts(trust, account); {
	case d.Allowed():
		p.add(CheckRoleTrust, arn, finding.OK, "%s may assume it", partition.IoT)
	case d.Undecided:
		p.add(CheckRoleTrust, arn, finding.Unknown, "could not check: %s may assume it under conditions, see its trust policy", partition.IoT)
	default:
		p.add(CheckRoleTrust, arn, finding.Error, "the trust policy does not let %s assume it: run EnsureRole", partition.IoT)
	}
}

// permissions reads the role's policies and judges what a task needs.
func (p *preflight) permissions(ctx context.Context, arn, name string) error {
	policies, managed, err := p.rolePolicies(ctx, name)
	b := p.b
	if err != nil {
		checks := []finding.Rule{CheckRoleRead}
		if b.kmsKey != "" {
			checks = append(checks, CheckRoleDecrypt)
		}
		for _, check := range append(checks, CheckRoleRegistration) { // nothing is known of any
			if _, err := p.settled(check, arn, "the role vanished while it was read", err); err != nil {
				return err
			}
		}
		return nil
	}
	if b.bucket != "" {
		object := fmt.Sprintf("arn:%s:s3:::%s/%sany-data-file", partition.Of(b.region).Name, b.bucket, b.prefix)
		p.judge(CheckRoleRead, arn, policies, "s3:GetObject", object)
	}
	if key := b.kmsKey; strings.HasPrefix(key, "arn:") {
		p.judge(CheckRoleDecrypt, arn, policies, "kms:Decrypt", key)
	} else if key != "" {
		p.add(CheckRoleDecrypt, arn, finding.Unknown,
			"could not check kms:Decrypt: Options.KMSKeyID %s is not the key's ARN", key)
	}
	p.registers(arn, policies, managed)
	return nil
}

func (p *preflight) judge(check finding.Rule, arn string, policies []*policy.Document, action, resource string) {
	switch d := roleMay(policies, action, resource); {
	case d.Allowed():
		p.add(check, arn, finding.OK, "%s on %s is allowed", action, resource)
	case d.Undecided:
		p.add(check, arn, finding.Unknown, "could not check: %s on %s hangs on conditions, see the role's policies", action, resource)
	case d.Denied():
		p.add(check, arn, finding.Error, "a policy of the role denies %s on %s", action, resource)
	default:
		p.add(check, arn, finding.Error, "no policy of the role allows %s on %s: run EnsureRole", action, resource)
	}
}

// registers judges whether the role may register things, and whether a template that brings its own certificates can.
func (p *preflight) registers(arn string, policies []*policy.Document, managed bool) {
	var missing, unsure []string
	for _, action := range registration {
		switch d := roleMay(policies, action, "*"); {
		case d.Allowed():
		case d.Undecided, d.Effect == "" && allowsSome(policies, action): // for certain resources only
			unsure = append(unsure, action)
		default:
			missing = append(missing, action)
		}
	}
	switch {
	case len(missing) > 0 && managed:
		p.add(CheckRoleRegistration, arn, finding.Error, "%s is attached, yet these are not allowed: %s",
			registrationPolicy, strings.Join(missing, ", "))
	case len(missing) > 0:
		p.add(CheckRoleRegistration, arn, finding.Error, "%s is not attached, and these are not allowed otherwise: %s: run EnsureRole",
			registrationPolicy, strings.Join(missing, ", "))
	case len(unsure) > 0:
		p.add(CheckRoleRegistration, arn, finding.Unknown, "could not check: these are allowed under conditions or for certain resources only: %s", strings.Join(unsure, ", "))
	default:
		p.add(CheckRoleRegistration, arn, finding.OK, "may register things")
	}
	const withoutCA = "iot:RegisterCertificateWithoutCA"
	if bringsCertificates(p.in.TemplateBody) && !p.hasCA && !roleMay(policies, withoutCA, "*").Allowed() {
		severity := finding.Warning
		if p.noCA { // every line would fail
			severity = finding.Error
		}
		p.add(CheckRoleRegistration, arn, severity,
			"the template brings certificates: those of a CA that is not registered need %s, which %s lacks: run EnsureRole with RegisterWithoutCA, or register the CA",
			withoutCA, registrationPolicy)
	}
}

// rolePolicies reads all policies of a role, inline and attached, and whether AWS's own for registration is attached.
func (p *preflight) rolePolicies(ctx context.Context, role string) (policies []*policy.Document, managed bool, err error) {
	b := p.b
	var names []string
	err = pages("ListRolePolicies", maxPages, func(marker *string) (int, *string, error) {
		out, err := call(ctx, b, b.iam.ListRolePolicies, &iam.ListRolePoliciesInput{RoleName: aws.String(role), Marker: marker})
		if err != nil {
			return 0, nil, err
		}
		names = append(names, out.PolicyNames...)
		if !out.IsTruncated {
			return 0, nil, nil
		}
		return len(out.PolicyNames), out.Marker, nil
	})
	if err != nil {
		return nil, false, err
	}
	keep := func(name, document string) error {
		doc, err := parsePolicy(document)
		if err != nil {
			return fmt.Errorf("policy %s of the role: %w", name, err)
		}
		policies = append(policies, doc)
		return nil
	}
	for _, name := range names {
		out, err := call(ctx, b, b.iam.GetRolePolicy, &iam.GetRolePolicyInput{RoleName: aws.String(role), PolicyName: aws.String(name)})
		if err != nil {
			return nil, false, err
		}
		if err := keep(name, decoded(out.PolicyDocument)); err != nil {
			return nil, false, err
		}
	}
	attached, err := b.attachedPolicies(ctx, role)
	if err != nil {
		return nil, false, err
	}
	for _, a := range attached {
		arn := aws.ToString(a.PolicyArn)
		own := strings.HasSuffix(arn, ":policy/service-role/"+registrationPolicy)
		managed = managed || own
		document, err := p.managedPolicy(ctx, arn)
		if own && isDenied(err) {
			document, err = registrationDocument, nil // what it allows is known without reading it
		}
		if err != nil {
			return nil, false, err
		}
		if err := keep(arn, document); err != nil {
			return nil, false, err
		}
	}
	return policies, managed, nil
}

// registrationDocument stands for AWS's policy where reading it is denied: it allows all of registration.
var registrationDocument = document(statement{Effect: "Allow", Action: registration, Resource: words{"*"}})

func (p *preflight) managedPolicy(ctx context.Context, arn string) (string, error) {
	b := p.b
	out, err := call(ctx, b, b.iam.GetPolicy, &iam.GetPolicyInput{PolicyArn: aws.String(arn)})
	if err != nil {
		return "", err
	}
	if out.Policy == nil {
		return "", fmt.Errorf("GetPolicy: %w: the answer has no policy", task.ErrUnavailable)
	}
	version, err := call(ctx, b, b.iam.GetPolicyVersion, &iam.GetPolicyVersionInput{
		PolicyArn: aws.String(arn), VersionId: out.Policy.DefaultVersionId})
	if err != nil {
		return "", err
	}
	if version.PolicyVersion == nil {
		return "", fmt.Errorf("GetPolicyVersion: %w: the answer has no version", task.ErrUnavailable)
	}
	return decoded(version.PolicyVersion.Document), nil
}
