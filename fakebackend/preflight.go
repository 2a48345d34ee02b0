package fakebackend

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
	policydoc "github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

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

// Preflight checks that a task can run. See [task.Preflighter]. Its checks have the names of package awsbackend's.
func (b *Backend) Preflight(ctx context.Context, in *task.PreflightInput) (finding.List, error) {
	in = orZero(in)
	found, err := b.answer(ctx, "Preflight", "", func() string { return "" }, func(time.Time) (any, *task.Error) {
		b.reads()
		p := new(preflight)
		b.checkBucket(p)
		b.checkCA(p, in)
		b.checkRole(p, in)
		if in.TemplateBody != "" {
			if n, most := len([]rune(in.TemplateBody)), rule.TemplateBody; n > most {
				p.add("template", "", finding.Error, "the template has %d characters; AWS takes %d", n, most)
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
		b.checkPolicies(p, in)
		if r := b.st.running; r != nil {
			p.add("task-running", r.id, finding.Warning, "task %s is in progress; a new task has to wait for it", r.id)
		} else {
			p.add("task-running", "", finding.OK, "no task is in progress")
		}
		return p.findings, nil
	})
	if err != nil {
		return nil, err
	}
	return found.(finding.List), nil
}

// checkPolicies looks at the policies that devices get, from the template or from their groups.
func (b *account) checkPolicies(p *preflight, in *task.PreflightInput) {
	connects := false
	for _, name := range in.Policies {
		found, ok := b.st.policies.get(name)
		if p.exists("policy", name, ok, "policy"); !ok {
			continue
		}
		connects = connects || policydoc.LetsConnect(found.document())
		for _, problem := range policydoc.CheckAttached(found.document(), b.partition().Name, b.opts.Region, b.opts.Account) {
			p.add("policy", name, finding.Warning, "%s; mend the policy", problem.Message)
		}
	}
	switch {
	case !in.Connect:
		return
	case connects:
		p.add("connect", "", finding.OK, "a policy that the template names lets devices connect")
		return
	case len(in.ThingGroups) == 0:
		p.add("connect", "", finding.Warning, "no policy lets devices connect; let one that the template names allow iot:Connect for a client")
	}
	for _, name := range in.ThingGroups {
		with := ""
		for g, _ := b.st.thingGroups.get(name); g != nil; g = g.parent {
			for _, attached := range g.policies {
				if policydoc.LetsConnect(attached.document()) {
					with = attached.name
				}
			}
		}
		if with == "" {
			p.add("connect", name, finding.Warning, "no policy of the group %s or of a parent lets devices connect; attach one that allows iot:Connect for a client", name)
			continue
		}
		p.add("connect", name, finding.OK, "its policy %s lets devices connect", with)
	}
}

func (b *account) checkBucket(p *preflight) {
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

func (b *account) checkRole(p *preflight, in *task.PreflightInput) {
	arn := in.RoleARN
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
	known, has := b.lineCA(in)
	if bringsCertificates(in.TemplateBody) && !has && !session.Allows(registerWithoutCA, "*") {
		severity := finding.Warning
		if known { // every line would fail
			severity = finding.Error
		}
		p.add("role-registration", arn, severity,
			"the template brings certificates: those of a CA that is not registered need %s, which the role lacks: run EnsureRole with RegisterWithoutCA, or register the CA", registerWithoutCA)
	}
}

// lineCA reports whether the CA that the lines' certificates are of is known, and whether the account has it.
func (b *account) lineCA(in *task.PreflightInput) (known, has bool) {
	id, err := task.CertificateID(in.CACertificatePEM)
	if err != nil {
		return false, false
	}
	_, err2 := b.findCA(id)
	return true, err2 == nil
}

// checkCA looks for the CA that the lines' certificates are of.
func (b *account) checkCA(p *preflight, in *task.PreflightInput) {
	id, err := task.CertificateID(in.CACertificatePEM)
	if err != nil {
		return
	}
	switch ca, missing := b.findCA(id); {
	case missing != nil && bringsCertificates(in.TemplateBody):
		p.add("ca", "", finding.OK, "the CA is not registered, and the template registers certificates without it")
	case missing != nil:
		p.add("ca", "", finding.Error, "the CA whose certificates the lines bring is not registered: run EnsureCA, or take CACertificatePem out of the template to register them without it")
	case !ca.active:
		p.add("ca", id, finding.Error, "the CA is INACTIVE, so that none of its certificates is taken: find out why, then activate it")
	default:
		p.add("ca", id, finding.OK, "the CA is registered and ACTIVE")
	}
}

// bringsCertificates reports whether a template registers certificates without their CA's.
func bringsCertificates(body string) bool {
	t, err := template.Parse([]byte(body))
	if err != nil {
		return false
	}
	for _, r := range t.Resources {
		if c, ok := r.(template.Certificate); ok && c.CertificatePEM != nil && c.CACertificatePEM == nil {
			return true
		}
	}
	return false
}
