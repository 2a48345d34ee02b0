// Package awsbackend is the [task.Backend] that speaks to AWS IoT Core and Amazon S3. Whatever runs on the in-memory
// fake runs on AWS by making its backend here.
//
//	cfg, err := config.LoadDefaultConfig(ctx) // profiles, environment, SSO, AWS_ENDPOINT_URL: all as usual
//	if err != nil {
//		return err
//	}
//	backend, err := awsbackend.New(cfg, awsbackend.Options{Bucket: "my-fleet-eu", Prefix: "registration/"})
//	if err != nil {
//		return err
//	}
//	roleARN, err := backend.EnsureRole(ctx, &task.RoleInput{Name: "fleet-registration"})
//
// The package does not import the SDK's config module: a program brings its own [aws.Config]. Credentials, region,
// retries, proxies, FIPS and dual-stack endpoints are set there.
//
// # What is sent how often
//
// StartThingRegistrationTask and RegisterThing have no client token, so the SDK's usual repeats would start a second
// task or make a second certificate. Each is sent once. Only AWS's own throttle, which means that nothing was done, is
// followed by another attempt, at most five in all. A refusal counts as AWS's if it has AWS's request id and an error
// code. Everything else leaves open what was done: a lost connection, a time-out, status 500 and above, an answer that
// cannot be read, and an answer that a proxy put in place of AWS's, whatever its status. The error then wraps
// [task.ErrOutcomeUnknown]. All other operations can be repeated safely and keep the retries of the [aws.Config].
//
// A peer that accepts and then stays silent is given up after [Options].IdleTimeout without a byte in either direction,
// a minute by default; the request then counts as lost. That holds for operations, uploads and report links. What AWS
// never sends, an answer of more than 16 MiB, is not read to its end.
//
// A peer whose TLS certificate nobody trusts, a web page and an answer without an end are not AWS's, and asking again
// brings the same: the error is [task.ErrNotService] at once. Pages with status 408, 429, and 500 and above except 511
// are a proxy's passing trouble, and are asked again.
//
// # Permissions of the caller
//
// The least a run needs, for bucket my-fleet-eu with prefix registration/ and role fleet-registration:
//
//	{
//	  "Version": "2012-10-17",
//	  "Statement": [
//	    {"Effect": "Allow", "Resource": "*", "Action": [
//	      "iot:StartThingRegistrationTask", "iot:DescribeThingRegistrationTask", "iot:ListThingRegistrationTasks",
//	      "iot:ListThingRegistrationTaskReports", "iot:StopThingRegistrationTask", "iot:DescribeEndpoint",
//	      "iot:DescribeThing", "iot:ListThingPrincipals", "iot:ListThingGroupsForThing", "iot:DescribeCertificate",
//	      "iot:ListAttachedPolicies", "iot:ListCertificates", "iot:ListPrincipalThings"]},
//	    {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
//	     "Resource": "arn:aws:s3:::my-fleet-eu"},
//	    {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::my-fleet-eu/registration/*"},
//	    {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "arn:aws:iam::123456789012:role/fleet-registration",
//	     "Condition": {"StringEquals": {"iam:PassedToService": "iot.amazonaws.com"}}}
//	  ]
//	}
//
// With a KMS key the caller also needs kms:GenerateDataKey on it. The optional abilities need more; each method lists
// it. sts:GetCallerIdentity needs no permission.
//
// # The fake
//
// The fake of this project answers with the header X-Iotfleet-Fake on every response. [Backend.Identity] reports Fake
// when the IoT endpoint is such a one, however it was configured. Where only some of the services are the fake, nothing
// is made and nothing uploaded.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html
package awsbackend
