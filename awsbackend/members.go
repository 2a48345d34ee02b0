package awsbackend

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/seed1ff6f450/iotfleet/task"
)

// checkMembers refuses an answer without the members that AWS always sends. A server that imitates AWS may answer {} with
// status 200 to whatever it does not know; taken for AWS's, that would be a type that exists, a device without
// certificates, a registration of nothing.
//
// Lists are not looked at: an empty one may be left out.
func checkMembers(out any) error {
	for _, m := range requiredMembers(out) {
		if m.value == "" {
			_, name, _ := strings.Cut(fmt.Sprintf("%T", out), ".")
			op := strings.TrimSuffix(name, "Output")
			return fmt.Errorf("%s: %w: the answer has no %s, which AWS always sends", op, task.ErrNotService, m.name)
		}
	}
	return nil
}

type member struct{ name, value string }

// requiredMembers returns the members that AWS sends in every answer of an operation, and that this package relies on.
func requiredMembers(out any) []member {
	text := aws.ToString
	switch o := out.(type) {
	case *iot.DescribeBillingGroupOutput:
		return []member{{"billingGroupName", text(o.BillingGroupName)}}
	case *iot.DescribeCertificateOutput:
		var d types.CertificateDescription
		if o.CertificateDescription != nil {
			d = *o.CertificateDescription
		}
		return []member{
			{"certificateId", text(d.CertificateId)}, {"certificateArn", text(d.CertificateArn)},
			{"certificatePem", text(d.CertificatePem)}, {"status", string(d.Status)},
		}
	case *iot.DescribeEndpointOutput:
		return []member{{"endpointAddress", text(o.EndpointAddress)}}
	case *iot.DescribeThingGroupOutput:
		return []member{{"thingGroupName", text(o.ThingGroupName)}}
	case *iot.DescribeThingOutput:
		return []member{{"thingName", text(o.ThingName)}, {"thingArn", text(o.ThingArn)}}
	case *iot.DescribeThingRegistrationTaskOutput:
		return []member{{"taskId", text(o.TaskId)}, {"status", string(o.Status)}}
	case *iot.DescribeThingTypeOutput:
		return []member{{"thingTypeName", text(o.ThingTypeName)}}
	case *iot.GetPolicyOutput:
		return []member{{"policyName", text(o.PolicyName)}}
	case *iot.RegisterThingOutput:
		first := ""
		for _, arn := range o.ResourceArns {
			first = max(first, arn)
		}
		return []member{{"resourceArns", first}}
	case *iot.StartThingRegistrationTaskOutput:
		return []member{{"taskId", text(o.TaskId)}}
	case *sts.GetCallerIdentityOutput:
		return []member{{"Account", text(o.Account)}, {"Arn", text(o.Arn)}}
	case *iam.GetRoleOutput:
		if o.Role == nil {
			return []member{{"Role", ""}}
		}
		return []member{{"Arn", text(o.Role.Arn)}, {"AssumeRolePolicyDocument", text(o.Role.AssumeRolePolicyDocument)}}
	case *iam.CreateRoleOutput:
		if o.Role == nil {
			return []member{{"Role", ""}}
		}
		return []member{{"Arn", text(o.Role.Arn)}}
	}
	return nil
}
