package awsbackend

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// registrationPolicy is AWS's own policy for what a registration task does.
const registrationPolicy = "AWSIoTThingsRegistration"

// Documents are the exact documents that EnsureRole puts into a service role, for those who make roles by other means
// or want to read them first.
type Documents struct {
	RoleName         string
	TrustPolicy      string // JSON: who may assume the role
	PolicyName       string // name of the inline policy; empty for a role that needs none
	Policy           string // JSON: the inline policy, which reads data files; empty without a bucket and RegisterWithoutCA
	ManagedPolicyARN string // AWS's policy that registers things

	guard string // the account of aws:SourceAccount, empty without SourceGuard
}

// RoleDocuments returns the documents of a service role without calling AWS: for a bucket, in the partition of a
// region. The account, 12 digits, is only needed for in.SourceGuard, and may else be empty. in.ObjectPrefix is used as
// it stands. Without a bucket, and so without prefix and key, the role reads no data files: it registers things, which is
// all that just-in-time and fleet provisioning need of it.
//
// The error is a [*task.InputError] that names what breaks which rule.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html
func RoleDocuments(region, account, bucket string, in *task.RoleInput) (*Documents, error) {
	if in == nil {
		return nil, &task.InputError{Member: "input", Problem: "is nil"}
	}
	arn := "arn:" + partition.Of(region).Name
	switch {
	case region == "":
		return nil, &task.InputError{Member: "region", Problem: "is empty: it decides the partition of the ARNs"}
	case !roleName.MatchString(in.Name):
		return nil, &task.InputError{Member: "Name", Problem: fmt.Sprintf(
			"%s is not a role name: 1 to 64 characters of A-Z a-z 0-9 + = , . @ _ -", rule.Quote(in.Name))}
	case in.SourceGuard && !partition.IsAccount(account):
		return nil, &task.InputError{Member: "account", Problem: fmt.Sprintf(
			"%s is not an account id (12 digits), which SourceGuard needs", rule.Quote(account))}
	}
	if bucket == "" && (in.ObjectPrefix != "" || in.KMSKeyARN != "") {
		return nil, &task.InputError{Member: "bucket", Problem: "is empty, and ObjectPrefix or KMSKeyARN is of data files in one"}
	}
	if bucket != "" {
		if err := rule.Bucket.Check(bucket); err != nil {
			return nil, &task.InputError{Member: "bucket", Problem: err.Error(), Err: err}
		}
	}
	if in.ObjectPrefix != "" {
		if err := checkPrefix(in.ObjectPrefix); err != nil {
			return nil, &task.InputError{Member: "ObjectPrefix", Problem: err.Error(), Err: err}
		}
	}
	if in.KMSKeyARN != "" && !keyARN.MatchString(in.KMSKeyARN) {
		return nil, &task.InputError{Member: "KMSKeyARN", Problem: fmt.Sprintf(
			"%s is not the ARN of a key (%s:kms:REGION:ACCOUNT:key/ID); a policy cannot name an alias", rule.Quote(in.KMSKeyARN), arn)}
	}

	trust := statement{Effect: "Allow", Principal: &principal{Service: partition.IoT}, Action: words{"sts:AssumeRole"}}
	if in.SourceGuard {
		trust.Condition = map[string]map[string]string{"StringEquals": {"aws:SourceAccount": account}}
	}
	var inline []statement
	if bucket != "" {
		inline = append(inline, statement{
			Effect: "Allow", Action: words{"s3:GetObject"},
			Resource: words{fmt.Sprintf("%s:s3:::%s/%s*", arn, bucket, in.ObjectPrefix)},
		})
	}
	if in.KMSKeyARN != "" {
		inline = append(inline, statement{Effect: "Allow", Action: words{"kms:Decrypt"}, Resource: words{in.KMSKeyARN}})
	}
	if in.RegisterWithoutCA {
		inline = append(inline, statement{Effect: "Allow", Action: words{"iot:RegisterCertificateWithoutCA"}, Resource: words{"*"}})
	}
	d := &Documents{
		RoleName:         in.Name,
		TrustPolicy:      document(trust),
		ManagedPolicyARN: fmt.Sprintf("%s:iam::aws:policy/service-role/%s", arn, registrationPolicy),
	}
	if inline != nil {
		d.PolicyName, d.Policy = policyName(bucket, in), document(inline...)
	}
	if in.SourceGuard {
		d.guard = account
	}
	return d, nil
}

// policyName names the inline policy for what it allows, so that another bucket or prefix gets a policy of its own beside
// it. A prefix has characters that the name of a policy may not have.
func policyName(bucket string, in *task.RoleInput) string {
	name := "iotfleet"
	if bucket != "" {
		name += "-read-" + bucket
	}
	if in.ObjectPrefix != "" {
		digest := sha256.Sum256([]byte(in.ObjectPrefix))
		name += "-" + hex.EncodeToString(digest[:4])
	}
	if in.RegisterWithoutCA {
		name += "-without-ca"
	}
	return name
}

var (
	roleName = regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]{1,64}$`)
	keyARN   = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$`)
)

// String returns the documents with the AWS CLI commands that put them in place.
func (d *Documents) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# trust.json\n%s\n\n", d.TrustPolicy)
	if d.Policy != "" {
		fmt.Fprintf(&b, "# policy.json\n%s\n\n", d.Policy)
	}
	fmt.Fprintf(&b, "aws iam create-role --role-name %s --assume-role-policy-document file://trust.json\n", d.RoleName)
	if d.Policy != "" {
		fmt.Fprintf(&b, "aws iam put-role-policy --role-name %s --policy-name %s --policy-document file://policy.json\n", d.RoleName, d.PolicyName)
	}
	fmt.Fprintf(&b, "aws iam attach-role-policy --role-name %s --policy-arn %s\n", d.RoleName, d.ManagedPolicyARN)
	return b.String()
}

// statement is a policy statement in the order AWS's examples write it.
type statement struct {
	Effect    string                       `json:"Effect"`
	Principal *principal                   `json:"Principal,omitempty"`
	Action    words                        `json:"Action"`
	Resource  words                        `json:"Resource,omitempty"`
	Condition map[string]map[string]string `json:"Condition,omitempty"`
}

type principal struct {
	Service string `json:"Service"`
}

// words is a list that policies write as a plain string when it has one element.
type words []string

// MarshalJSON writes one word as a string.
func (w words) MarshalJSON() ([]byte, error) {
	if len(w) == 1 {
		return json.Marshal(w[0])
	}
	return json.Marshal([]string(w))
}

// document writes a policy. Its parts are checked strings, so it cannot fail.
func document(statements ...statement) string {
	text, err := json.MarshalIndent(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", statements}, "", "  ")
	if err != nil {
		panic("awsbackend: write a policy document: " + err.Error())
	}
	return string(text)
}
