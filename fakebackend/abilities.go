package fakebackend

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
)

// The abilities of package task. Those that read and remove are made of the operations that a client of AWS would call
// for them, so that faults set for those operations act here too; Preflight looks at the state in one go.

// ReadDevice reads one thing back with its certificates. See [task.DeviceReader].
func (b *Backend) ReadDevice(ctx context.Context, thingName string) (*task.Device, error) {
	t, err := b.DescribeThing(ctx, &DescribeThingInput{thingName})
	if err != nil {
		return nil, err
	}
	device := &task.Device{
		ThingName: t.ThingName, ThingARN: t.ThingARN, ThingTypeName: t.ThingTypeName, Attributes: t.Attributes, BillingGroup: t.BillingGroupName,
	}
	for tok := ""; ; {
		groups, err := b.ListThingGroupsForThing(ctx, &ListThingGroupsForThingInput{ThingName: thingName, NextToken: tok})
		if err != nil {
			return nil, err
		}
		for _, g := range groups.ThingGroups {
			device.ThingGroups = append(device.ThingGroups, g.GroupName)
		}
		if tok = groups.NextToken; tok == "" {
			break
		}
	}
	arns, err := b.principalsOf(ctx, thingName)
	if err != nil {
		return nil, err
	}
	for _, arn := range arns {
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

func (b *Backend) principalsOf(ctx context.Context, thingName string) (arns []string, err error) {
	for tok := ""; ; {
		page, err := b.ListThingPrincipals(ctx, &ListThingPrincipalsInput{ThingName: thingName, NextToken: tok})
		if err != nil {
			return nil, err
		}
		arns = append(arns, page.Principals...)
		if tok = page.NextToken; tok == "" {
			return arns, nil
		}
	}
}

// ListCertificates yields the account's certificates, newest first. See [task.CertificateLister]. AWS's operation of
// this name is IoT.ListCertificates.
func (b *Backend) ListCertificates(ctx context.Context, since time.Time) iter.Seq2[*task.Certificate, error] {
	return func(yield func(*task.Certificate, error) bool) {
		for marker := ""; ; {
			page, err := b.IoT.ListCertificates(ctx, &ListCertificatesInput{Marker: marker})
			if err != nil {
				yield(nil, err)
				return
			}
			for _, c := range page.Certificates {
				if c.CreationDate.Before(since.Truncate(time.Millisecond)) {
					return
				}
				if !yield(&task.Certificate{ID: c.CertificateID, ARN: c.CertificateARN, Status: c.Status, Created: c.CreationDate}, nil) {
					return
				}
			}
			if marker = page.NextMarker; marker == "" {
				return
			}
		}
	}
}

// ReadCertificate returns one certificate with its PEM and policies. See [task.CertificateLister].
func (b *Backend) ReadCertificate(ctx context.Context, certificateID string) (*task.Certificate, error) {
	out, err := b.DescribeCertificate(ctx, &DescribeCertificateInput{certificateID})
	if err != nil {
		return nil, err
	}
	d := out.CertificateDescription
	c := &task.Certificate{ID: d.CertificateID, ARN: d.CertificateARN, PEM: d.CertificatePem, Status: d.Status, Created: d.CreationDate}
	for marker := ""; ; {
		page, err := b.ListAttachedPolicies(ctx, &ListAttachedPoliciesInput{Target: c.ARN, Marker: marker})
		if err != nil {
			return nil, err
		}
		for _, p := range page.Policies {
			c.Policies = append(c.Policies, p.PolicyName)
		}
		if marker = page.NextMarker; marker == "" {
			return c, nil
		}
	}
}

// RemoveCertificate takes a certificate out of service for good. See [task.CertificateRemover].
func (b *Backend) RemoveCertificate(ctx context.Context, certificateID string) error {
	c, err := b.ReadCertificate(ctx, certificateID)
	if errors.Is(err, task.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := b.UpdateCertificate(ctx, &UpdateCertificateInput{c.ID, statusInactive.String()}); err != nil && !errors.Is(err, task.ErrNotFound) {
		return err
	}
	for {
		things, err := b.ListPrincipalThings(ctx, &ListPrincipalThingsInput{Principal: c.ARN})
		if errors.Is(err, task.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range things.Things {
			_, err := b.DetachThingPrincipal(ctx, &DetachThingPrincipalInput{name, c.ARN})
			if err != nil && !errors.Is(err, task.ErrNotFound) {
				return err
			}
		}
		if things.NextToken == "" {
			break
		}
	}
	for _, name := range c.Policies {
		if _, err := b.DetachPolicy(ctx, &AttachPolicyInput{name, c.ARN}); err != nil && !errors.Is(err, task.ErrNotFound) {
			return err
		}
	}
	_, err = b.DeleteCertificate(ctx, &DeleteCertificateInput{CertificateID: c.ID})
	if errors.Is(err, task.ErrNotFound) {
		return nil
	}
	return err
}

// RemoveDevice deletes one thing with its certificates. See [task.DeviceRemover]. A certificate that other things use
// too is only detached.
func (b *Backend) RemoveDevice(ctx context.Context, thingName string) error {
	arns, err := b.principalsOf(ctx, thingName)
	if errors.Is(err, task.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, arn := range arns {
		if _, err := b.DetachThingPrincipal(ctx, &DetachThingPrincipalInput{thingName, arn}); err != nil && !errors.Is(err, task.ErrNotFound) {
			return err
		}
		others, err := b.ListPrincipalThings(ctx, &ListPrincipalThingsInput{Principal: arn})
		if errors.Is(err, task.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if len(others.Things) > 0 {
			continue
		}
		if err := b.RemoveCertificate(ctx, task.ResourceName(arn)); err != nil {
			return err
		}
	}
	_, err = b.DeleteThing(ctx, &DeleteThingInput{ThingName: thingName})
	return err
}

// preflight gathers findings.
type preflight struct{ findings finding.List }

func (p *preflight) add(check finding.Rule, resource string, severity finding.Severity, format string, args ...any) {
	p.findings = append(p.findings, finding.Finding{Rule: check, Resource: resource, Severity: severity, Message: fmt.Sprintf(format, args...)})
}

// exists adds a finding for something that has to be there.
func (p *preflight) exists(check finding.Rule, name string, ok bool, what string) {
	if ok {
		p.add(check, name, finding.OK, "the %s exists", what)
		return
	}
	p.add(check, name, finding.Error, "there is no %s %s; create it first, since a task does not", what, name)
}

// Preflight checks that a task can run. See [task.Preflighter]. Its checks have the names that package awsbackend gives them.
func (b *Backend) Preflight(ctx context.Context, in *task.PreflightInput) (finding.List, error) {
	in = orZero(in)
	return invokeList(ctx, b.IoT, "Preflight", func() []finding.Finding {
		p := new(preflight)
		b.checkBucket(p)
		b.checkRole(p, in.RoleARN)
		if in.TemplateBody != "" {
			if n := len([]rune(in.TemplateBody)); n > shapeTemplateBody.max {
				p.add("template", "", finding.Error, "the template has %d characters; AWS takes %d", n, shapeTemplateBody.max)
			} else if _, err := b.compile(in.TemplateBody); err != nil {
				p.add("template", "", finding.Error, "%s", err)
			} else {
				p.add("template", "", finding.OK, "the template can be used")
			}
		}
		for _, name := range in.ThingTypes {
			t, ok := b.st.thingTypes.get(name)
			if ok && !t.deprecated.IsZero() {
				p.add("thing-type", name, finding.Error, "the thing type %s is deprecated and takes no new things", name)
				continue
			}
			p.exists("thing-type", name, ok, "thing type")
		}
		for _, name := range in.ThingGroups {
			_, ok := b.st.thingGroups.get(name)
			p.exists("thing-group", name, ok, "thing group")
		}
		for _, name := range in.BillingGroups {
			_, ok := b.st.billingGroups.get(name)
			p.exists("billing-group", name, ok, "billing group")
		}
		for _, name := range in.Policies {
			_, ok := b.st.policies.get(name)
			p.exists("policy", name, ok, "policy")
		}
		if r := b.st.running; r != nil {
			p.add("task-running", r.id, finding.Warning, "task %s is in progress; a new task has to wait for it", r.id)
		} else {
			p.add("task-running", "", finding.OK, "no task is in progress")
		}
		return p.findings
	})
}

func invokeList[T any](ctx context.Context, b *IoT, op string, act func() []T) ([]T, error) {
	return invoke(ctx, b, op, "", nil, func(time.Time) ([]T, *task.Error) { return act(), nil })
}

func (b *IoT) checkBucket(p *preflight) {
	where, err := b.objects.HeadBucket(b.opts.Bucket)
	switch {
	case err != nil:
		p.add("bucket", b.opts.Bucket, finding.Error, "there is no bucket %s; create it in %s", b.opts.Bucket, b.opts.Region)
	case where.Region != b.opts.Region:
		p.add("bucket", b.opts.Bucket, finding.OK, "the bucket exists")
		p.add("bucket-region", b.opts.Bucket, finding.Error, "the bucket %s is in %s; a task in %s needs one in its own region",
			b.opts.Bucket, where.Region, b.opts.Region)
	default:
		p.add("bucket", b.opts.Bucket, finding.OK, "the bucket exists")
		p.add("bucket-region", b.opts.Bucket, finding.OK, "the bucket is in %s", where.Region)
	}
}

// lineActions are the permissions that lines need, apart from those that only some templates ask for.
var lineActions = []string{
	"iot:CreateCertificateFromCsr", "iot:RegisterCertificate", "iot:DescribeCertificate", "iot:UpdateCertificate", "iot:CreateThing",
	"iot:DescribeThing", "iot:UpdateThing", "iot:DescribeThingType", "iot:AddThingToThingGroup", "iot:AddThingToBillingGroup",
	"iot:CreatePolicy", "iot:GetPolicy", "iot:AttachPolicy", "iot:AttachThingPrincipal",
}

func (b *IoT) checkRole(p *preflight, arn string) {
	if arn == "" {
		return
	}
	session, err := b.session(arn)
	if err != nil {
		p.add("role-trust", arn, finding.Error, "%s; make the role and let iot.amazonaws.com assume it", err)
		return
	}
	p.add("role-trust", arn, finding.OK, "AWS IoT can assume the role")
	object := fmt.Sprintf("arn:%s:s3:::%s/", b.partition().Name, b.opts.Bucket)
	if session.Allows("s3:GetObject", object+"any") || session.Allows("s3:GetObject", object+"*") {
		p.add("role-read", arn, finding.OK, "the role can read the bucket")
	} else {
		p.add("role-read", arn, finding.Warning, "the role cannot read every object of the bucket %s; make sure that its s3:GetObject covers the data files", b.opts.Bucket)
	}
	var missing []string
	for _, action := range lineActions {
		if !session.Allows(action, b.arnPrefix+"any/any") && !session.Allows(action, "*") {
			missing = append(missing, action)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		p.add("role-registration", arn, finding.Warning, "the role does not allow %s on every resource; attach AWSIoTThingsRegistration unless the template needs none of it",
			strings.Join(missing, ", "))
		return
	}
	p.add("role-registration", arn, finding.OK, "the role allows what lines need")
}
