package awsbackend

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
	"github.com/seed1ff6f450/iotfleet/task"
)

// checkMembers refuses an answer without the members that AWS always sends. A server that imitates AWS may answer {} with
// status 200 to whatever it does not know; taken for AWS's, that would be a type that exists, a device without
// certificates, a registration of nothing.
//
// An answer of AWS IoT that need not have any member, because it is a list, which may be empty and left out, or tells
// nothing but that something was done, must have AWS's request id if it has none: {} of a proxy would be a thing without
// certificates, a task that was never started, a certificate that was deleted.
func checkMembers(out any) error {
	required := requiredMembers(out)
	if len(required) == 0 && isAnonymous(out) {
		return fmt.Errorf("%s: %w: the answer is empty and has no request id, which AWS always sends", operationOf(out), task.ErrNotService)
	}
	for _, m := range required {
		if m.value == "" {
			return fmt.Errorf("%s: %w: the answer has no %s, which AWS always sends", operationOf(out), task.ErrNotService, m.name)
		}
	}
	return nil
}

func operationOf(out any) string {
	_, name, _ := strings.Cut(fmt.Sprintf("%T", out), ".")
	return strings.TrimSuffix(name, "Output")
}

// isAnonymous reports whether an answer of AWS IoT has neither a member nor a request id.
func isAnonymous(out any) bool {
	v := reflect.Indirect(reflect.ValueOf(out))
	if v.Kind() != reflect.Struct || v.Type().PkgPath() != reflect.TypeFor[iot.ListThingPrincipalsOutput]().PkgPath() {
		return false
	}
	for field, value := range v.Fields() {
		if !field.IsExported() {
			continue
		}
		if m, ok := value.Interface().(middleware.Metadata); ok {
			if _, has := awsmiddleware.GetRequestIDMetadata(m); has {
				return false
			}
		} else if !value.IsZero() {
			return false
		}
	}
	return true
}

type member struct{ name, value string }

// requiredMembers returns the members that AWS sends in every answer of an operation, and that this package relies on.
func requiredMembers(out any) []member {
	text := aws.ToString
	switch o := out.(type) {
	case *iot.DescribeBillingGroupOutput:
		return []member{{"billingGroupName", text(o.BillingGroupName)}}
	case *iot.DescribeCACertificateOutput:
		var d types.CACertificateDescription
		if o.CertificateDescription != nil {
			d = *o.CertificateDescription
		}
		return []member{{"certificateId", text(d.CertificateId)}, {"certificateArn", text(d.CertificateArn)}, {"status", string(d.Status)}}
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
	case *iot.GetRegistrationCodeOutput:
		return []member{{"registrationCode", text(o.RegistrationCode)}}
	case *iot.RegisterCACertificateOutput:
		return []member{{"certificateId", text(o.CertificateId)}}
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
