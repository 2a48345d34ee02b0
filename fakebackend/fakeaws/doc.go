// Package fakeaws lets clients of AWS reach a fake account of package fakebackend by AWS's own wire protocols: IoT
// (REST with JSON), S3 (REST with XML), IAM and STS (query).
//
// A Go program's tests use [Config], a configuration of the AWS SDK whose requests end in the account, in process:
//
//	fake, err := fakebackend.New(fakebackend.Options{})
//	client := iot.NewFromConfig(fakeaws.Config(fake))
//
// It needs no socket and works in a synctest bubble. The AWS CLI, boto3 and every other client reach a [Server] on a
// port, with nothing but their endpoint changed:
//
//	server, err := fakeaws.NewServer(fake, fakeaws.Options{})
//	defer server.Close()
//	os.Setenv("AWS_ENDPOINT_URL", server.URL) // of the other program
//
// One endpoint serves all four services: a request goes to the service its signature is scoped to (iot and execute-api
// both mean IoT), else to the one that its host and path suggest. Signatures are checked, as AWS checks them, if
// [Options] has access keys.
//
// Besides AWS's protocols there is a small control interface below /_fake/, described at [Handler]. Faults act on the
// wire, whether they are set on the backend or there: answers that fail, come late or never, connections that break
// before or after the effect, report files that end too soon. The page docs/coverage.md lists every operation.
//
// AWS: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
package fakeaws
