package awsbackend

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// rolePropagation is how long EnsureRole lets a role propagate that it has made or changed. IAM is eventually
// consistent, and no call shows when a service can assume a role: usually after some seconds, at times after half a
// minute. The wait comes once, before the first task; a task whose role cannot be assumed yet fails as a whole.
//
// AWS: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html
const rolePropagation = 30 * time.Second

// EnsureRole implements [task.RoleEnsurer]: it makes the service role, or brings an existing one to the state that
// [RoleDocuments] describes, and returns its ARN. An empty in.ObjectPrefix means the backend's prefix, an empty
// in.KMSKeyARN its KMS key. A backend without a bucket makes a role that reads no data files, as for just-in-time
// provisioning; inline policies that the role has stay.
//
// It changes only what is missing, so a second call changes nothing. A trust policy that lets AWS IoT in is kept, also
// when somebody has put conditions on it. If it has to be replaced and trusts anyone but AWS IoT, the error is
// [task.ErrConflict]: the role serves something else, which a new trust policy would cut off. The inline policy is
// named for bucket and prefix, so backends with different ones may share a role, and other policies of the role are
// left alone.
//
// It returns when the role can be assumed: once IAM shows it, and 30 seconds after the last change or the role's
// creation. The fake needs no such wait.
//
// Needs iam:GetRole, iam:CreateRole, iam:UpdateAssumeRolePolicy, iam:GetRolePolicy, iam:PutRolePolicy,
// iam:ListAttachedRolePolicies and iam:AttachRolePolicy.
func (b *Backend) EnsureRole(ctx context.Context, in *task.RoleInput) (string, error) {
	docs, err := b.roleDocuments(ctx, in)
	if err != nil {
		return "", fmt.Errorf("ensure role: %w", err)
	}
	arn, err := b.ensureRole(ctx, docs)
	if err != nil {
		return "", fmt.Errorf("ensure role %s: %w", docs.RoleName, err)
	}
	return arn, nil
}

// roleDocuments fills in what the input leaves to the backend.
func (b *Backend) roleDocuments(ctx context.Context, in *task.RoleInput) (*Documents, error) {
	if in == nil {
		return nil, &task.InputError{Member: "input", Problem: "is nil"}
	}
	full := *in
	reads := b.bucket != "" // else prefix and key of the options are of no use either
	if full.ObjectPrefix == "" && reads {
		full.ObjectPrefix = b.prefix
	}
	derived := reads && full.KMSKeyARN == "" && b.kmsKey != "" && !keyARN.MatchString(b.kmsKey)
	if full.KMSKeyARN == "" && reads {
		full.KMSKeyARN = b.kmsKey
	}
	var account string
	if full.SourceGuard || derived {
		who, err := b.Identity(ctx)
		if err != nil {
			return nil, err
		}
		account = who.Account
	}
	if derived {
		if !keyID.MatchString(b.kmsKey) {
			return nil, &task.InputError{Member: "KMSKeyARN", Problem: fmt.Sprintf(
				"is empty, and Options.KMSKeyID %s is an alias, which a policy cannot name: give the key's ARN", rule.Quote(b.kmsKey))}
		}
		full.KMSKeyARN = fmt.Sprintf("arn:%s:kms:%s:%s:key/%s", partition.Of(b.region).Name, b.region, account, b.kmsKey)
	}
	return RoleDocuments(b.region, account, b.bucket, &full)
}

// keyID is a key's id: a UUID, or mrk- and hex for a key of several regions.
var keyID = regexp.MustCompile(`^(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

func (b *Backend) ensureRole(ctx context.Context, docs *Documents) (string, error) {
	role, changed, err := b.ensureTrust(ctx, docs)
	if err != nil {
		return "", err
	}
	for _, step := range []func(context.Context, *Documents) (bool, error){b.ensureInline, b.ensureManaged} {
		did, err := step(ctx, docs)
		if err != nil {
			return "", err
		}
		changed = changed || did
	}
	if b.marks.iam.Load() == fake {
		return aws.ToString(role.Arn), nil
	}
	left := rolePropagation
	if !changed {
		// Made a moment ago, perhaps by a run that did not live to wait.
		left = min(rolePropagation, rolePropagation-time.Since(instant(role.CreateDate)))
	}
	if left > 0 {
		b.log.InfoContext(ctx, "waiting until the role can be assumed", "role", docs.RoleName, "delay", left)
		if err := wait.Sleep(ctx, left); err != nil {
			return "", err
		}
	}
	return aws.ToString(role.Arn), nil
}

// ensureTrust makes the role if it does not exist, else brings its trust policy to the asked state.
func (b *Backend) ensureTrust(ctx context.Context, docs *Documents) (*types.Role, bool, error) {
	role, err := b.role(ctx, docs.RoleName)
	if mixed := b.marks.together(); mixed != nil {
		return nil, false, mixed
	}
	if errors.Is(err, task.ErrNotFound) {
		out, err := call(ctx, b, b.iam.CreateRole, &iam.CreateRoleInput{
			RoleName:                 aws.String(docs.RoleName),
			AssumeRolePolicyDocument: aws.String(docs.TrustPolicy),
			Description:              aws.String("Lets AWS IoT read data files and register things in bulk"),
		})
		if err == nil {
			return b.awaitRole(ctx, docs.RoleName, out.Role)
		}
		if !errors.Is(err, task.ErrConflict) {
			return nil, false, err
		}
		// Somebody else made it between the two calls.
		var gone error
		if role, gone = b.role(ctx, docs.RoleName); gone != nil {
			return nil, false, err
		}
	} else if err != nil {
		return nil, false, err
	}
	trust, err := parsePolicy(decoded(role.AssumeRolePolicyDocument))
	if err != nil {
		return nil, false, fmt.Errorf("%w: its trust policy cannot be read, and is not replaced unread: %w", task.ErrConflict, err)
	}
	if suffices(trust, docs.guard) {
		return role, false, nil
	}
	if others := trustedBeside(trust); len(others) > 0 {
		return nil, false, fmt.Errorf("%w: it also trusts %v, so it serves something else: give the service role a name of its own",
			task.ErrConflict, others)
	}
	_, err = call(ctx, b, b.iam.UpdateAssumeRolePolicy, &iam.UpdateAssumeRolePolicyInput{
		RoleName: aws.String(docs.RoleName), PolicyDocument: aws.String(docs.TrustPolicy)})
	if err != nil {
		return nil, false, err
	}
	return role, true, nil
}

func (b *Backend) role(ctx context.Context, name string) (*types.Role, error) {
	out, err := call(ctx, b, b.iam.GetRole, &iam.GetRoleInput{RoleName: aws.String(name)})
	if err != nil {
		return nil, err
	}
	return out.Role, nil
}

// awaitRole waits until IAM shows a role it has just made.
func (b *Backend) awaitRole(ctx context.Context, name string, made *types.Role) (*types.Role, bool, error) {
	const what = "the new role"
	err := b.await(ctx, what, func() (again bool, err error) {
		seen, err := b.role(ctx, name)
		if errors.Is(err, task.ErrNotFound) {
			return true, notVisible(what, err)
		}
		if err == nil {
			made = seen
		}
		return false, err
	})
	return made, true, err
}

// ensureInline puts the policy that reads data files.
func (b *Backend) ensureInline(ctx context.Context, docs *Documents) (bool, error) {
	if docs.Policy == "" {
		return false, nil
	}
	out, err := call(ctx, b, b.iam.GetRolePolicy, &iam.GetRolePolicyInput{
		RoleName: aws.String(docs.RoleName), PolicyName: aws.String(docs.PolicyName)})
	if err == nil && jsonline.Same(decoded(out.PolicyDocument), docs.Policy) {
		return false, nil
	}
	if err != nil && !errors.Is(err, task.ErrNotFound) {
		return false, err
	}
	_, err = call(ctx, b, b.iam.PutRolePolicy, &iam.PutRolePolicyInput{
		RoleName: aws.String(docs.RoleName), PolicyName: aws.String(docs.PolicyName), PolicyDocument: aws.String(docs.Policy)})
	if err != nil {
		return false, err
	}
	return true, nil
}

// ensureManaged attaches AWS's policy for registration.
func (b *Backend) ensureManaged(ctx context.Context, docs *Documents) (bool, error) {
	attached, err := b.attachedPolicies(ctx, docs.RoleName)
	if err != nil {
		return false, err
	}
	for _, p := range attached {
		if aws.ToString(p.PolicyArn) == docs.ManagedPolicyARN {
			return false, nil
		}
	}
	_, err = call(ctx, b, b.iam.AttachRolePolicy, &iam.AttachRolePolicyInput{
		RoleName: aws.String(docs.RoleName), PolicyArn: aws.String(docs.ManagedPolicyARN)})
	if err != nil {
		return false, err
	}
	return true, nil
}

func (b *Backend) attachedPolicies(ctx context.Context, role string) (all []types.AttachedPolicy, err error) {
	err = pages("ListAttachedRolePolicies", maxPages, func(marker *string) (int, *string, error) {
		out, err := call(ctx, b, b.iam.ListAttachedRolePolicies, &iam.ListAttachedRolePoliciesInput{RoleName: aws.String(role), Marker: marker})
		if err != nil {
			return 0, nil, err
		}
		all = append(all, out.AttachedPolicies...)
		if !out.IsTruncated {
			return 0, nil, nil
		}
		return len(out.AttachedPolicies), out.Marker, nil
	})
	return all, err
}

// decoded returns the plain text of a document of IAM, which is percent-encoded.
func decoded(document *string) string {
	text := aws.ToString(document)
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}
