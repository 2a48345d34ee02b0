package awsbackend_test

import (
	"errors"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// The documents of the service role, for an administrator who makes roles by other means.
func ExampleRoleDocuments() {
	docs, err := awsbackend.RoleDocuments("eu-central-1", "123456789012", "my-fleet-eu", &task.RoleInput{
		Name: "fleet-registration", SourceGuard: true, ObjectPrefix: "registration/",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(docs)
	// Output:
	// # trust.json
	// {
	//   "Version": "2012-10-17",
	//   "Statement": [
	//     {
	//       "Effect": "Allow",
	//       "Principal": {
	//         "Service": "iot.amazonaws.com"
	//       },
	//       "Action": "sts:AssumeRole",
	//       "Condition": {
	//         "StringEquals": {
	//           "aws:SourceAccount": "123456789012"
	//         }
	//       }
	//     }
	//   ]
	// }
	//
	// # policy.json
	// {
	//   "Version": "2012-10-17",
	//   "Statement": [
	//     {
	//       "Effect": "Allow",
	//       "Action": "s3:GetObject",
	//       "Resource": "arn:aws:s3:::my-fleet-eu/registration/*"
	//     }
	//   ]
	// }
	//
	// aws iam create-role --role-name fleet-registration --assume-role-policy-document file://trust.json
	// aws iam put-role-policy --role-name fleet-registration --policy-name iotfleet-read-my-fleet-eu-ab942be4 --policy-document file://policy.json
	// aws iam attach-role-policy --role-name fleet-registration --policy-arn arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration
}

// A missing permission comes with its name and with who lacks it.
func ExampleAccessDeniedError() {
	var err error = &awsbackend.AccessDeniedError{ // as StartTask returns it
		Action:    "iam:PassRole",
		Principal: "arn:aws:iam::123456789012:user/line-7",
		Resource:  "arn:aws:iam::123456789012:role/fleet-registration",
		Err:       &task.Error{Op: "StartThingRegistrationTask", Code: "AccessDeniedException", Status: 403, Kind: task.ErrAccessDenied},
	}
	if denied, ok := errors.AsType[*awsbackend.AccessDeniedError](err); ok {
		fmt.Printf("allow %s\n   to %s\n   on %s\n", denied.Action, denied.Principal, denied.Resource)
	}
	fmt.Println(errors.Is(err, task.ErrAccessDenied), task.Refused(err))
	// Output:
	// allow iam:PassRole
	//    to arn:aws:iam::123456789012:user/line-7
	//    on arn:aws:iam::123456789012:role/fleet-registration
	// true true
}
