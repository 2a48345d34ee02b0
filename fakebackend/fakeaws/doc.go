// Package fakeaws puts a fake account of package fakebackend on a port, where it speaks AWS's own wire protocols: IoT
// (REST with JSON), S3 (REST with XML), IAM and STS (query). The AWS CLI, boto3 and any SDK work against it with nothing
// but the endpoint changed, and any access key.
//
//	backend, err := fakebackend.New(fakebackend.Options{})
//	server, err := fakeaws.NewServer(backend, fakeaws.Options{})
//	defer server.Close()
//	cfg := aws.Config{
//		BaseEndpoint: aws.String(server.URL), Region: "us-east-1",
//		Credentials: credentials.NewStaticCredentialsProvider("any", "key", ""),
//	}
//	client := iot.NewFromConfig(cfg)
//
// One port serves all four: a request goes to the service its signature is scoped to (iot and execute-api both mean
// IoT), else by its host and path. Signatures are not checked unless [Options] names the access keys there are; then
// they are checked as AWS checks them.
//
// Inside a synctest bubble use [NewUnstartedServer] and [Server.StartPipe], which needs no network.
//
// Besides AWS's protocols the server has a small control interface below /_fake/, described at [Handler]. Faults set on
// the backend, or there, act on the wire: answers that fail, come late or never, connections that break before or after
// the effect, report files that end too soon. The page docs/coverage.md lists every operation.
//
// AWS: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
package fakeaws
