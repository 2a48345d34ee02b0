package awsbackend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// The rules of what [Backend.Preflight] finds.
const (
	CheckTemplate         finding.Rule = "template"          // its length and form
	CheckEndpoint         finding.Rule = "endpoint"          // AWS or the fake
	CheckTaskRunning      finding.Rule = "task-running"      // whether another task is in progress
	CheckBucket           finding.Rule = "bucket"            // exists, and the caller may use it
	CheckBucketRegion     finding.Rule = "bucket-region"     // is where AWS IoT reads it
	CheckBucketPublic     finding.Rule = "bucket-public"     // blocks public access
	CheckRole             finding.Rule = "role"              // exists in this account
	CheckRoleTrust        finding.Rule = "role-trust"        // AWS IoT may assume it
	CheckRoleRead         finding.Rule = "role-read"         // may read data files
	CheckRoleDecrypt      finding.Rule = "role-decrypt"      // may decrypt them
	CheckRoleRegistration finding.Rule = "role-registration" // may register things
	CheckThingType        finding.Rule = "thing-type"
	CheckThingGroup       finding.Rule = "thing-group"
	CheckBillingGroup     finding.Rule = "billing-group"
	CheckPolicy           finding.Rule = "policy"  // exists, and works in this account and region
	CheckCA               finding.Rule = "ca"      // the CA that issues the certificates is registered
	CheckConnect          finding.Rule = "connect" // a policy of the template's or of a group's lets devices connect
)

// Preflight implements [task.Preflighter]. It changes nothing and needs read permissions only; what may not be read is
// reported as [finding.Unknown] with the permission that is missing. The findings come in the order of the Check
// constants, one for each thing type, group, billing group and policy named.
//
// Role policies are read and evaluated here. Conditions, permissions boundaries and service control policies are not,
// so a condition is reported as [finding.Unknown].
//
// If AWS does not accept the credentials, that is the last finding.
//
// The error is not nil when the context ended or AWS could not be reached; the findings until then are returned.
func (b *Backend) Preflight(ctx context.Context, in *task.PreflightInput) (finding.List, error) {
	if in == nil {
		return nil, fmt.Errorf("preflight: %w", &task.InputError{Member: "input", Problem: "is nil"})
	}
	p := &preflight{b: b, in: in}
	for _, step := range []func(context.Context) error{
		p.template, p.endpoint, p.running, p.bucket, p.ca, p.role, p.thingTypes, p.thingGroups, p.billingGroups, p.policies,
		p.connect,
	} {
		if err := step(ctx); err != nil {
			return p.findings, fmt.Errorf("preflight: %w", err)
		}
		if p.stranger {
			break // every other answer would be about the credentials, too
		}
	}
	return p.findings, nil
}

// preflight collects findings.
type preflight struct {
	b        *Backend
	in       *task.PreflightInput
	who      *task.Identity
	connects bool // a policy that the template names lets devices connect
	noCA     bool // the account does not have the CA of the lines' certificates
	hasCA    bool // it does
	stranger bool // AWS does not accept the credentials
	findings finding.List
}

func (p *preflight) add(check finding.Rule, resource string, severity finding.Severity, format string, args ...any) {
	p.findings = append(p.findings, finding.Finding{Rule: check, Resource: resource, Severity: severity, Message: fmt.Sprintf(format, args...)})
}

// ca looks for the CA that the certificates of the lines are of.
func (p *preflight) ca(ctx context.Context) error {
	if p.in.CACertificatePEM == "" {
		return nil
	}
	ca, err := p.b.ReadCA(ctx, p.in.CACertificatePEM)
	if errors.Is(err, task.ErrNotFound) && bringsCertificates(p.in.TemplateBody) { // then they are registered without it
		p.noCA = true
		p.add(CheckCA, "", finding.OK, "the CA is not registered, and the template registers certificates without it")
		return nil
	}
	done, err := p.settled(CheckCA, "", "the CA whose certificates the lines bring is not registered: run EnsureCA, or take CACertificatePem out of the template to register them without it", err)
	if done || err != nil {
		return err
	}
	if !ca.Active {
		p.add(CheckCA, ca.ID, finding.Error, "the CA is INACTIVE, so that none of its certificates is taken: find out why, then activate it")
		return nil
	}
	p.hasCA = true
	p.add(CheckCA, ca.ID, finding.OK, "the CA is registered and ACTIVE")
	return nil
}

// settled turns an error into findings where it is an answer: missing is a problem, denied is unknown. Other errors are
// returned. done is false if there was no error and the caller has to judge the answer.
func (p *preflight) settled(check finding.Rule, resource, missing string, err error) (done bool, _ error) {
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, task.ErrNotFound):
		p.add(check, resource, finding.Error, "%s", missing)
	case isDenied(err):
		p.add(check, resource, finding.Unknown, "could not check: %v", err)
	case errors.Is(err, task.ErrInvalidRequest):
		p.add(check, resource, finding.Error, "AWS refuses the name: %v", err)
	default:
		return true, err
	}
	return true, nil
}

func (p *preflight) template(context.Context) error {
	body := p.in.TemplateBody
	if err := checkTemplate(body); err != nil {
		p.add(CheckTemplate, "", finding.Error, "%v", err)
		return nil
	}
	p.add(CheckTemplate, "", finding.OK, "%d of at most %d characters", utf8.RuneCountInString(body), rule.TemplateBody)
	return nil
}

func (p *preflight) endpoint(ctx context.Context) error {
	who, err := p.b.Identity(ctx)
	if errors.Is(err, task.ErrAccessDenied) {
		p.add(CheckEndpoint, "", finding.Error, "nothing else was checked: %v", err)
		p.stranger = true
		return nil
	}
	if err != nil {
		return err
	}
	p.who = who
	subject := fmt.Sprintf("%s %s %s", who.Partition, who.Account, who.Region)
	if who.Fake {
		p.add(CheckEndpoint, subject, finding.Warning, "this is the fake: no certificate from here works on AWS")
		return nil
	}
	p.add(CheckEndpoint, subject, finding.OK, "AWS account %s in %s", who.Account, who.Region)
	return nil
}

func (p *preflight) running(ctx context.Context) error {
	id, status, err := p.b.runningTask(ctx)
	if done, err := p.settled(CheckTaskRunning, "", "", err); done {
		return err
	}
	if id != "" {
		p.add(CheckTaskRunning, string(id), finding.Warning,
			"task %s is %s, and AWS runs one at a time: wait for it or stop it", id, status)
		return nil
	}
	p.add(CheckTaskRunning, "", finding.OK, "no task is in progress")
	return nil
}

func (p *preflight) bucket(ctx context.Context) error {
	b := p.b
	if b.bucket == "" {
		p.add(CheckBucket, "", finding.Error, "no bucket is set: Options.Bucket is empty")
		return nil
	}
	region, err := b.headBucket(ctx)
	found := "exists and may be listed"
	if err != nil && region != "" && region != b.region {
		found, err = "exists", nil // the next check reports where
	}
	done, err := p.settled(CheckBucket, b.bucket, "there is no such bucket: make it with EnsureBucket, or name another", err)
	if err != nil {
		return err
	}
	if !done {
		p.add(CheckBucket, b.bucket, finding.OK, "%s", found)
	} else if p.findings[len(p.findings)-1].Severity == finding.Error {
		return nil
	}
	if err := p.bucketRegion(ctx); err != nil {
		return err
	}
	return p.bucketPublic(ctx)
}

func (p *preflight) bucketRegion(ctx context.Context) error {
	b := p.b
	region, err := b.bucketRegion(ctx)
	if done, err := p.settled(CheckBucketRegion, b.bucket, "there is no such bucket", err); done {
		return err
	}
	if region != b.region {
		p.add(CheckBucketRegion, b.bucket, finding.Error,
			"the bucket is in %s, AWS IoT is used in %s and reads data files only there: use a bucket in %[2]s", region, b.region)
		return nil
	}
	p.add(CheckBucketRegion, b.bucket, finding.OK, "in %s", region)
	return nil
}

func (p *preflight) bucketPublic(ctx context.Context) error {
	b := p.b
	const remedy = "data files name every device: block it with PutPublicAccessBlock, unless the account as a whole does"
	out, err := call(ctx, b, b.s3.GetPublicAccessBlock, &s3.GetPublicAccessBlockInput{Bucket: aws.String(b.bucket), ExpectedBucketOwner: b.owner})
	if err != nil {
		if codeOf(err) == "NoSuchPublicAccessBlockConfiguration" {
			p.add(CheckBucketPublic, b.bucket, finding.Warning, "the bucket does not block public access; %s", remedy)
			return nil
		}
		if errors.Is(err, task.ErrWrongRegion) {
			return nil // said already
		}
		_, err = p.settled(CheckBucketPublic, b.bucket, "there is no such bucket", err)
		return err
	}
	c := out.PublicAccessBlockConfiguration
	if c == nil || !aws.ToBool(c.BlockPublicAcls) || !aws.ToBool(c.BlockPublicPolicy) ||
		!aws.ToBool(c.IgnorePublicAcls) || !aws.ToBool(c.RestrictPublicBuckets) {
		p.add(CheckBucketPublic, b.bucket, finding.Warning, "the bucket does not block all public access; %s", remedy)
		return nil
	}
	p.add(CheckBucketPublic, b.bucket, finding.OK, "all public access is blocked")
	return nil
}

func (p *preflight) thingTypes(ctx context.Context) error {
	for _, name := range named(p.in.ThingTypes) {
		out, err := call(ctx, p.b, p.b.iot.DescribeThingType, &iot.DescribeThingTypeInput{ThingTypeName: aws.String(name)})
		done, err := p.settled(CheckThingType, name, "there is no such thing type: every line that names it would fail, make it first", err)
		switch {
		case err != nil:
			return err
		case done:
		case out.ThingTypeMetadata != nil && out.ThingTypeMetadata.Deprecated:
			p.add(CheckThingType, name, finding.Error, "the thing type is deprecated: AWS makes no new things of it")
		default:
			p.add(CheckThingType, name, finding.OK, "exists")
		}
	}
	return nil
}

func (p *preflight) thingGroups(ctx context.Context) error {
	for _, name := range named(p.in.ThingGroups) {
		out, err := call(ctx, p.b, p.b.iot.DescribeThingGroup, &iot.DescribeThingGroupInput{ThingGroupName: aws.String(name)})
		done, err := p.settled(CheckThingGroup, name, "there is no such thing group: every line that names it would fail, make it first", err)
		switch {
		case err != nil:
			return err
		case done:
		case aws.ToString(out.QueryString) != "":
			p.add(CheckThingGroup, name, finding.Error, "the group is dynamic, its query decides who is in it: name a static group")
		default:
			p.add(CheckThingGroup, name, finding.OK, "exists")
		}
	}
	return nil
}

func (p *preflight) billingGroups(ctx context.Context) error {
	for _, name := range named(p.in.BillingGroups) {
		_, err := call(ctx, p.b, p.b.iot.DescribeBillingGroup, &iot.DescribeBillingGroupInput{BillingGroupName: aws.String(name)})
		done, err := p.settled(CheckBillingGroup, name, "there is no such billing group: every line that names it would fail, make it first", err)
		if err != nil {
			return err
		}
		if !done {
			p.add(CheckBillingGroup, name, finding.OK, "exists")
		}
	}
	return nil
}

// named sorts names and drops repeats and the empty one.
func named(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return n == "" })
}

// bringsCertificates reports whether the template holds certificates by PEM without their CA: then AWS registers them
// without a CA if it does not know it, which takes a permission that its own policy lacks.
func bringsCertificates(template string) bool {
	var t struct {
		Resources map[string]struct {
			Type       string
			Properties map[string]json.RawMessage
		}
	}
	if json.Unmarshal([]byte(template), &t) != nil {
		return false
	}
	for r := range maps.Values(t.Resources) {
		_, pem := r.Properties["CertificatePem"]
		_, ca := r.Properties["CACertificatePem"]
		if strings.EqualFold(r.Type, "AWS::IoT::Certificate") && pem && !ca {
			return true
		}
	}
	return false
}
