package fakebackend

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	"github.com/seed1ff6f450/iotfleet/task"
)

// The five operations and the abilities of package task. Each calls the operations of the table that a client of AWS
// would call for it, so that faults set for those operations act here too.

// Identity returns which account and region the fake plays, and that it is a fake.
func (b *Backend) Identity(ctx context.Context) (*task.Identity, error) {
	if ctx.Err() != nil {
		return nil, interrupted(ctx, "GetCallerIdentity")
	}
	return &task.Identity{Partition: b.partition().Name, Account: b.opts.Account, Region: b.opts.Region, Fake: true}, nil
}

// StartTask starts a registration task. See [task.Service].
func (b *Backend) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	in = orZero(in)
	out, err := call[startThingRegistrationTaskOutput](ctx, b.account, "StartThingRegistrationTask", &startThingRegistrationTaskInput{
		TemplateBody: in.TemplateBody, InputFileBucket: in.InputFileBucket, InputFileKey: in.InputFileKey, RoleARN: in.RoleARN,
	})
	if err != nil {
		return "", err
	}
	return task.ID(out.TaskID), nil
}

// DescribeTask returns a task as it is now. See [task.Service].
func (b *Backend) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	out, err := call[describeThingRegistrationTaskOutput](ctx, b.account, "DescribeThingRegistrationTask", &thingRegistrationTaskInput{string(id)})
	if err != nil {
		return nil, err
	}
	return taskDescription(out), nil
}

func taskDescription(out *describeThingRegistrationTaskOutput) *task.Description {
	return &task.Description{
		ID: task.ID(out.TaskID), Status: task.Status(out.Status), Message: out.Message,
		Succeeded: int(out.SuccessCount), Failed: int(out.FailureCount), Percent: int(out.PercentageProgress),
		Created: out.CreationDate, LastModified: out.LastModifiedDate, TemplateBody: out.TemplateBody,
		InputFileBucket: out.InputFileBucket, InputFileKey: out.InputFileKey, RoleARN: out.RoleARN,
	}
}

// ListTasks returns one page of task ids. See [task.Service].
func (b *Backend) ListTasks(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
	in = orZero(in)
	list := &listThingRegistrationTasksInput{Status: string(in.Status)}
	list.goOn(in.Token)
	if in.MaxResults != 0 {
		list.MaxResults = new(int32(in.MaxResults))
	}
	out, err := call[listOutput[string]](ctx, b.account, "ListThingRegistrationTasks", list)
	if err != nil {
		return nil, err
	}
	page := &task.TaskPage{NextToken: out.Next}
	for _, id := range out.Items {
		page.IDs = append(page.IDs, task.ID(id))
	}
	return page, nil
}

// ListReports returns one page of links to a task's report files. See [task.Service].
func (b *Backend) ListReports(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
	list := &listThingRegistrationTaskReportsInput{TaskID: string(id), ReportType: string(kind)}
	list.goOn(token)
	out, err := call[listOutput[task.Link]](ctx, b.account, "ListThingRegistrationTaskReports", list)
	if err != nil {
		return nil, err
	}
	return &task.ReportPage{Links: out.Items, NextToken: out.Next}, nil
}

// StopTask asks a task to stop. See [task.Service].
func (b *Backend) StopTask(ctx context.Context, id task.ID) error {
	_, err := call[nothing](ctx, b.account, "StopThingRegistrationTask", &thingRegistrationTaskInput{string(id)})
	return err
}

// RegisterThing registers one device without a task. See [task.Registrar].
func (b *Backend) RegisterThing(ctx context.Context, in *task.RegisterInput) (*task.Registration, error) {
	in = orZero(in)
	out, err := call[registerThingOutput](ctx, b.account, "RegisterThing", &registerThingInput{in.TemplateBody, in.Parameters})
	if err != nil {
		return nil, err
	}
	return &task.Registration{CertificatePEM: out.CertificatePem, ARNs: out.ResourceARNs}, nil
}

// DataEndpoint returns the host that devices connect to. See [task.Endpointer].
func (b *Backend) DataEndpoint(ctx context.Context) (string, error) {
	out, err := call[describeEndpointOutput](ctx, b.account, "DescribeEndpoint", &describeEndpointInput{EndpointType: "iot:Data-ATS"})
	if err != nil {
		return "", err
	}
	return out.EndpointAddress, nil
}

// RootCAs returns the account's root, whatever the endpoint. See [task.RootLister].
func (b *Backend) RootCAs(context.Context, string) ([]byte, error) { return b.RootCA(), nil }

// ReadDevice reads one thing back with its certificates. See [task.DeviceReader].
func (b *Backend) ReadDevice(ctx context.Context, thingName string) (*task.Device, error) {
	t, err := call[describeThingOutput](ctx, b.account, "DescribeThing", &describeThingInput{thingName})
	if err != nil {
		return nil, err
	}
	device := &task.Device{
		ThingName: t.ThingName, ThingARN: t.ThingARN, ThingTypeName: t.ThingTypeName, Attributes: t.Attributes, BillingGroup: t.BillingGroupName,
	}
	for g, err := range each[groupNameAndARN](ctx, b.account, "ListThingGroupsForThing", &listThingGroupsForThingInput{ThingName: thingName}) {
		if err != nil {
			return nil, err
		}
		device.ThingGroups = append(device.ThingGroups, g.GroupName)
	}
	for arn, err := range each[string](ctx, b.account, "ListThingPrincipals", &listThingPrincipalsInput{ThingName: thingName}) {
		if err != nil {
			return nil, err
		}
		c, err := b.ReadCertificate(ctx, task.ResourceName(arn))
		if errors.Is(err, task.ErrNotFound) {
			continue // deleted in between
		}
		if err != nil {
			return nil, err
		}
		device.Certificates = append(device.Certificates, *c)
	}
	return device, nil
}

// HasThing reports whether there is a thing of this name. See [task.ThingFinder].
func (b *Backend) HasThing(ctx context.Context, thingName string) (bool, error) {
	_, err := call[describeThingOutput](ctx, b.account, "DescribeThing", &describeThingInput{thingName})
	if errors.Is(err, task.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// ListCertificates yields the account's certificates, newest first. See [task.CertificateLister].
func (b *Backend) ListCertificates(ctx context.Context, since time.Time) iter.Seq2[*task.Certificate, error] {
	return func(yield func(*task.Certificate, error) bool) {
		for c, err := range each[certificateSummary](ctx, b.account, "ListCertificates", &listCertificatesInput{}) {
			if err != nil {
				yield(nil, err)
				return
			}
			if c.CreationDate.Before(since.Truncate(time.Millisecond)) {
				return
			}
			if !yield(&task.Certificate{ID: c.CertificateID, ARN: c.CertificateARN, Status: c.Status, Created: c.CreationDate}, nil) {
				return
			}
		}
	}
}

// ReadCertificate returns one certificate with its PEM and policies. See [task.CertificateLister].
func (b *Backend) ReadCertificate(ctx context.Context, certificateID string) (*task.Certificate, error) {
	out, err := call[describeCertificateOutput](ctx, b.account, "DescribeCertificate", &describeCertificateInput{certificateID})
	if err != nil {
		return nil, err
	}
	d := out.CertificateDescription
	c := &task.Certificate{ID: d.CertificateID, ARN: d.CertificateARN, PEM: d.CertificatePem, Status: d.Status, Created: d.CreationDate}
	for p, err := range each[policySummary](ctx, b.account, "ListAttachedPolicies", &listAttachedPoliciesInput{Target: c.ARN}) {
		if err != nil {
			return nil, err
		}
		c.Policies = append(c.Policies, p.PolicyName)
	}
	return c, nil
}

// CertificateThings returns the names of the things that a certificate is attached to. See [task.CertificateLister].
func (b *Backend) CertificateThings(ctx context.Context, certificateARN string) ([]string, error) {
	names, err := all[string](ctx, b.account, "ListPrincipalThings", &listPrincipalThingsInput{Principal: certificateARN})
	return names, unlessGone(err)
}

// RetireCertificate takes a certificate away from a thing, and deletes it when no other thing has it. See
// [task.Remover].
func (b *Backend) RetireCertificate(ctx context.Context, thingName, certificateID string) (others []string, err error) {
	c, err := b.ReadCertificate(ctx, certificateID)
	if err != nil {
		return nil, unlessGone(err)
	}
	if err := b.change(ctx, "DetachThingPrincipal", &detachThingPrincipalInput{thingName, c.ARN}); err != nil {
		return nil, err
	}
	others, err = all[string](ctx, b.account, "ListPrincipalThings", &listPrincipalThingsInput{Principal: c.ARN})
	if err != nil || len(others) > 0 {
		return others, unlessGone(err)
	}
	if err := b.change(ctx, "UpdateCertificate", &updateCertificateInput{c.ID, statusInactive.String()}); err != nil {
		return nil, err
	}
	for _, name := range c.Policies {
		if err := b.change(ctx, "DetachPolicy", &policyTarget{name, c.ARN}); err != nil {
			return nil, err
		}
	}
	return nil, b.change(ctx, "DeleteCertificate", &deleteCertificateInput{CertificateID: c.ID})
}

// RemoveThing deletes a thing to which nothing is attached. See [task.Remover].
func (b *Backend) RemoveThing(ctx context.Context, thingName string) (principals []string, err error) {
	principals, err = all[string](ctx, b.account, "ListThingPrincipals", &listThingPrincipalsInput{ThingName: thingName})
	if err != nil || len(principals) > 0 {
		return principals, unlessGone(err)
	}
	return nil, b.change(ctx, "DeleteThing", &deleteThingInput{ThingName: thingName})
}

// ReadPolicy returns the document of a policy's default version. See [task.PolicyReader].
func (b *Backend) ReadPolicy(ctx context.Context, policyName string) (string, error) {
	out, err := call[getPolicyOutput](ctx, b.account, "GetPolicy", &policyInput{policyName})
	if err != nil {
		return "", err
	}
	return out.PolicyDocument, nil
}

// GroupPolicies returns the names of the policies of a thing group and of the groups above it. See [task.PolicyReader].
func (b *Backend) GroupPolicies(ctx context.Context, groupName string) ([]string, error) {
	var names []string
	in := &listAttachedPoliciesInput{Target: b.arn("thinggroup", groupName), Recursive: true}
	for p, err := range each[policySummary](ctx, b.account, "ListAttachedPolicies", in) {
		if err != nil {
			return nil, err
		}
		names = append(names, p.PolicyName)
	}
	return names, nil
}

// RemovePolicy deletes a policy that is attached to nothing. See [task.Remover].
func (b *Backend) RemovePolicy(ctx context.Context, policyName, document string) (targets []string, err error) {
	p, err := call[getPolicyOutput](ctx, b.account, "GetPolicy", &policyInput{policyName})
	if err != nil {
		return nil, unlessGone(err)
	}
	if !jsonline.Same(p.PolicyDocument, document) {
		return nil, fmt.Errorf("policy %q: %w: it has another document", policyName, task.ErrConflict)
	}
	targets, err = all[string](ctx, b.account, "ListTargetsForPolicy", &listTargetsForPolicyInput{PolicyName: policyName})
	if err != nil || len(targets) > 0 {
		return targets, unlessGone(err)
	}
	return nil, b.change(ctx, "DeletePolicy", &policyInput{policyName})
}

// change calls an operation without an output, for which what is gone already is as good as removed.
func (b *Backend) change(ctx context.Context, operation string, in any) error {
	_, err := call[nothing](ctx, b.account, operation, in)
	return unlessGone(err)
}

// unlessGone is nil for an error that reports something as not found.
func unlessGone(err error) error {
	if errors.Is(err, task.ErrNotFound) {
		return nil
	}
	return err
}
