package fakebackend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Roles: EnsureRole as a user of the library calls it. Package fakeaws serves the IAM API.

const opCreateRole = "CreateRole"

// registrationPolicy is the ARN of the managed policy that lets a role do the work of lines.
func (b *account) registrationPolicy() string {
	return "arn:" + b.partition().Name + ":iam::aws:policy/service-role/AWSIoTThingsRegistration"
}

// document is a policy document on its way to JSON.
type document struct {
	Version   string
	Statement []statement
}

type statement struct {
	Effect    string
	Principal map[string]string `json:",omitempty"`
	Action    []string
	Resource  []string       `json:",omitempty"`
	Condition map[string]any `json:",omitempty"`
}

func (d document) String() string {
	d.Version = "2012-10-17"
	raw, _ := json.Marshal(d) // strings always encode
	return string(raw)
}

// The names of the inline policies that EnsureRole keeps.
const (
	readPolicyName      = "read-data-files"
	withoutCAPolicyName = "register-without-ca"
)

// registerWithoutCA is what a certificate of a CA that is not registered needs, and AWS's policy for registration lacks.
const registerWithoutCA = "iot:RegisterCertificateWithoutCA"

// EnsureRole makes the service role a task needs, or brings an existing one to that state. See [task.RoleEnsurer].
func (b *Backend) EnsureRole(ctx context.Context, in *task.RoleInput) (string, error) {
	in = orZero(in)
	if ctx.Err() != nil {
		return "", interrupted(ctx, opCreateRole)
	}
	strike, err := b.faults.request(ctx, opCreateRole, "")
	if err != nil {
		return "", err
	}
	trust := statement{Effect: "Allow", Principal: map[string]string{"Service": partition.IoT}, Action: []string{"sts:AssumeRole"}}
	if in.SourceGuard {
		trust.Condition = map[string]any{"StringEquals": map[string]string{"aws:SourceAccount": b.opts.Account}}
	}
	read := document{Statement: []statement{{
		Effect: "Allow", Action: []string{"s3:GetObject"},
		Resource: []string{fmt.Sprintf("arn:%s:s3:::%s/%s*", b.partition().Name, b.opts.Bucket, in.ObjectPrefix)},
	}}}
	if in.KMSKeyARN != "" {
		read.Statement = append(read.Statement, statement{Effect: "Allow", Action: []string{"kms:Decrypt"}, Resource: []string{in.KMSKeyARN}})
	}
	inline := map[string]string{readPolicyName: read.String()}
	if in.RegisterWithoutCA {
		inline[withoutCAPolicyName] = document{Statement: []statement{{Effect: "Allow", Action: []string{registerWithoutCA}, Resource: []string{"*"}}}}.String()
	}
	arn, err := b.putRole(in.Name, document{Statement: []statement{trust}}.String(), inline)
	if err := strike.loses(opCreateRole, err); err != nil {
		return "", err
	}
	return arn, nil
}

// putRole makes a role, or sets an existing one's trust policy and adds the policies. Policies that the role has beside
// those stay.
func (b *account) putRole(name, trust string, inline map[string]string) (arn string, err error) {
	fail := func(op string, err error) (string, error) {
		return "", fmt.Errorf("fakebackend: role %q: %w", name, iamError(op, err))
	}
	made, err := b.roles.GetRole(name)
	if err != nil {
		if made, err = b.roles.CreateRole(iam.NewRole{Name: name, Trust: trust}, b.clock.now()); err != nil {
			return fail(opCreateRole, err)
		}
	} else if err := b.roles.UpdateAssumeRolePolicy(name, trust); err != nil {
		return fail("UpdateAssumeRolePolicy", err)
	}
	for policy, document := range inline {
		if err := b.roles.PutRolePolicy(name, policy, document); err != nil {
			return fail("PutRolePolicy", err)
		}
	}
	if err := b.roles.AttachRolePolicy(name, b.registrationPolicy()); err != nil { // twice does no harm
		return fail("AttachRolePolicy", err)
	}
	return made.ARN, nil
}

// iamError returns IAM's refusal as an error of package task.
func iamError(op string, err error) error {
	if refusal, ok := errors.AsType[*iam.Error](err); ok {
		return &task.Error{Op: op, Code: refusal.Code, Status: refusal.Status, Message: refusal.Message, Kind: task.KindOfCode(refusal.Code)}
	}
	return err
}
