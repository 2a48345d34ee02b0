package iam

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

// Policy is a customer managed policy.
type Policy struct {
	Name        string
	Path        string
	ARN         string
	ID          string // ANPA and 17 characters
	Description string
	Created     time.Time
	Updated     time.Time
	Tags        []Tag
	Versions    []PolicyVersion // oldest first
	Default     string          // id of the version in force, such as v1
	Next        int             // number of the next version
}

// PolicyVersion is one version of a managed policy.
type PolicyVersion struct {
	ID       string // v1, v2, …
	Document string
	Created  time.Time
}

func (p *Policy) clone() *Policy {
	out := *p
	out.Tags, out.Versions = slices.Clone(p.Tags), slices.Clone(p.Versions)
	return &out
}

// Document returns the document in force.
func (p *Policy) Document() string {
	for _, v := range p.Versions {
		if v.ID == p.Default {
			return v.Document
		}
	}
	return ""
}

// NewPolicy is the managed policy to create.
type NewPolicy struct {
	Name, Path, Document, Description string // Path: empty for /
	Tags                              []Tag
}

// CreatePolicy makes a customer managed policy.
func (s *Store) CreatePolicy(in NewPolicy, now time.Time) (*Policy, error) {
	if in.Path == "" {
		in.Path = "/"
	}
	if err := name(in.Name, "policyName", maxPolicyName); err != nil {
		return nil, err
	}
	if err := path(in.Path); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags, "TagsPerPolicy"); err != nil {
		return nil, err
	}
	if err := checkManaged(in.Document); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.state.Policies {
		if strings.EqualFold(p.Name, in.Name) {
			return nil, alreadyExists("A policy called %s already exists. Duplicate names are not allowed.", in.Name)
		}
	}
	at := cut(now)
	p := &Policy{
		Name: in.Name, Path: in.Path, ARN: fmt.Sprintf("arn:%s:iam::%s:policy%s%s", s.partition, s.account, in.Path, in.Name),
		ID: s.id("ANPA", in.Name), Description: in.Description, Created: at, Updated: at, Tags: slices.Clone(in.Tags),
		Versions: []PolicyVersion{{"v1", in.Document, at}}, Default: "v1", Next: 2,
	}
	s.state.Policies[p.ARN] = p
	return p.clone(), nil
}

func checkManaged(document string) error {
	if d, problems := policy.Parse(document); len(problems) == 0 && d.Version != policy.Version2012 {
		return malformed("Policy document must be version 2012-10-17 or greater.")
	}
	if err := checkIdentity(document); err != nil {
		return err
	}
	if policy.Size(document) > maxManaged {
		return limitExceeded("Cannot exceed quota for PolicySize: %d", maxManaged)
	}
	return nil
}

// GetPolicy returns a managed policy, AWS's or the account's own, and to how many roles it is attached.
func (s *Store) GetPolicy(arn string) (*Policy, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	attached := 0
	for _, r := range s.state.Roles {
		if slices.Contains(r.Attached, arn) {
			attached++
		}
	}
	if p, ok := s.state.Policies[arn]; ok {
		return p.clone(), attached, nil
	}
	if p, ok := s.ofAWS(arn); ok {
		return p, attached, nil
	}
	return nil, 0, noSuchEntity("Policy %s was not found.", arn)
}

// GetPolicyVersion returns one version of a managed policy and whether it is the one in force.
func (s *Store) GetPolicyVersion(arn, version string) (*PolicyVersion, bool, error) {
	p, _, err := s.GetPolicy(arn)
	if err != nil {
		return nil, false, err
	}
	for _, v := range p.Versions {
		if v.ID == version {
			return &v, v.ID == p.Default, nil
		}
	}
	return nil, false, noSuchEntity("Policy %s version %s does not exist or is not attachable.", arn, version)
}

// CreatePolicyVersion adds a version, of five at most, and puts it in force if asked.
func (s *Store) CreatePolicyVersion(arn, document string, setDefault bool, now time.Time) (*PolicyVersion, bool, error) {
	if err := checkManaged(document); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.state.Policies[arn]
	if !ok {
		return nil, false, noSuchEntity("Policy %s does not exist or is not attachable.", arn)
	}
	if len(p.Versions) >= maxPolicyVersions {
		return nil, false, limitExceeded("A managed policy can have up to %d versions. Before you create a new version, you must delete an"+
			" existing version.", maxPolicyVersions)
	}
	v := PolicyVersion{fmt.Sprintf("v%d", p.Next), document, cut(now)}
	p.Next++
	p.Versions = append(p.Versions, v)
	p.Updated = v.Created
	if setDefault {
		p.Default = v.ID
	}
	return &v, setDefault, nil
}

// DeletePolicy removes a customer managed policy that is attached to nothing and has one version left.
func (s *Store) DeletePolicy(arn string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.state.Policies[arn]
	if !ok {
		return noSuchEntity("Policy %s was not found.", arn)
	}
	for _, r := range s.state.Roles {
		if slices.Contains(r.Attached, arn) {
			return deleteConflict("Cannot delete a policy attached to entities.")
		}
	}
	if len(p.Versions) > 1 {
		return deleteConflict("This policy has more than one version. Before you delete a policy, you must delete the policy's versions." +
			" The default version is deleted with the policy.")
	}
	delete(s.state.Policies, arn)
	return nil
}

// managed returns the document in force of a managed policy.
func (s *Store) managed(arn string) (string, bool) {
	if p, ok := s.state.Policies[arn]; ok {
		return p.Document(), true
	}
	if p, ok := s.ofAWS(arn); ok {
		return p.Document(), true
	}
	return "", false
}

// ofAWS finds one of AWS's own managed policies that the fake knows, in the store's partition.
func (s *Store) ofAWS(arn string) (*Policy, bool) {
	resource, ok := strings.CutPrefix(arn, "arn:"+s.partition+":iam::aws:policy")
	if !ok {
		return nil, false
	}
	document, ok := awsPolicies[resource]
	if !ok {
		return nil, false
	}
	slash := strings.LastIndexByte(resource, '/')
	at := time.Date(2017, 12, 1, 20, 21, 52, 0, time.UTC)
	return &Policy{
		Name: resource[slash+1:], Path: resource[:slash+1], ARN: arn, ID: "ANPA" + strings.ToUpper(resource[slash+1:] + "AAAAAAAAAAAAAAAAA")[:17],
		Created: at, Updated: at, Versions: []PolicyVersion{{"v1", document, at}}, Default: "v1", Next: 2,
	}, true
}

// awsPolicies are AWS's managed policies that have to do with registration, and those that AWS's samples for it attach to
// their roles, by path and name.
var awsPolicies = map[string]string{
	"/service-role/AWSIoTLogging": allowAll("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:PutMetricFilter",
		"logs:PutRetentionPolicy", "logs:GetLogEvents", "logs:DeleteLogStream"),
	"/service-role/AWSIoTRuleActions": allowAll("dynamodb:PutItem", "kinesis:PutRecord", "iot:Publish", "s3:PutObject", "sns:Publish",
		"sqs:SendMessage*", "cloudwatch:SetAlarmState", "cloudwatch:PutMetricData", "es:ESHttpPut", "firehose:PutRecord"),
	"/service-role/AWSLambdaBasicExecutionRole": allowAll("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"),
	"/service-role/AWSIoTThingsRegistration":    allowAll(ThingsRegistrationActions...),
	"/AmazonS3ReadOnlyAccess":                   allowAll("s3:Get*", "s3:List*", "s3:Describe*", "s3-object-lambda:Get*", "s3-object-lambda:List*"),
	"/AmazonS3FullAccess":                       allowAll("s3:*", "s3-object-lambda:*"),
	"/AWSIoTFullAccess":                         allowAll("iot:*", "iotjobsdata:*"),
	"/AdministratorAccess":                      allowAll("*"),
}

// ThingsRegistrationActions are what the managed policy AWSIoTThingsRegistration allows on every resource. It lacks
// RegisterCertificateWithoutCA, so a certificate whose CA is not registered cannot be registered under it.
//
// AWS: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSIoTThingsRegistration.html
var ThingsRegistrationActions = []string{
	"iot:AddThingToThingGroup", "iot:AttachPolicy", "iot:AttachPrincipalPolicy", "iot:AttachThingPrincipal",
	"iot:CreateCertificateFromCsr", "iot:CreatePolicy", "iot:CreateThing", "iot:DescribeCertificate", "iot:DescribeThing",
	"iot:DescribeThingGroup", "iot:DescribeThingType", "iot:DetachPolicy", "iot:DetachThingPrincipal", "iot:GetPolicy",
	"iot:ListAttachedPolicies", "iot:ListPolicyPrincipals", "iot:ListPrincipalPolicies", "iot:ListPrincipalThings",
	"iot:ListTargetsForPolicy", "iot:ListThingGroupsForThing", "iot:ListThingPrincipals", "iot:RegisterCertificate",
	"iot:RegisterThing", "iot:RemoveThingFromThingGroup", "iot:UpdateCertificate", "iot:UpdateThing",
	"iot:UpdateThingGroupsForThing", "iot:AddThingToBillingGroup", "iot:DescribeBillingGroup", "iot:RemoveThingFromBillingGroup",
}

func allowAll(actions ...string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["` + strings.Join(actions, `","`) + `"],"Resource":["*"]}]}`
}
