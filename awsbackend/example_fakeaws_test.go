package awsbackend_test

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
)

// exampleConfig stands for config.LoadDefaultConfig(ctx): its clients reach a fake account in process.
func exampleConfig() (aws.Config, error) {
	fake, err := fakebackend.New(fakebackend.Options{Region: "eu-central-1", NoBucket: true})
	if err != nil {
		return aws.Config{}, err
	}
	return fakeaws.Config(fake), nil
}

// Bucket and role are made once; then data files can be uploaded and tasks started.
func Example() {
	ctx := context.Background()
	cfg, err := exampleConfig() // on AWS: config.LoadDefaultConfig(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	backend, err := awsbackend.New(cfg, awsbackend.Options{Bucket: "my-fleet-eu", Prefix: "registration/"})
	if err != nil {
		fmt.Println(err)
		return
	}
	who, err := backend.Identity(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("account %s in %s, fake: %v\n", who.Account, who.Region, who.Fake)

	if err := backend.EnsureBucket(ctx); err != nil {
		fmt.Println(err)
		return
	}
	roleARN, err := backend.EnsureRole(ctx, &task.RoleInput{Name: "fleet-registration", SourceGuard: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(roleARN)
	// Output:
	// account 123456789012 in eu-central-1, fake: true
	// arn:aws:iam::123456789012:role/fleet-registration
}

// What would make every line fail is found before a task is started.
func ExampleBackend_Preflight() {
	ctx := context.Background()
	cfg, err := exampleConfig()
	if err != nil {
		fmt.Println(err)
		return
	}
	backend, err := awsbackend.New(cfg, awsbackend.Options{Bucket: "my-fleet-eu"})
	if err != nil {
		fmt.Println(err)
		return
	}
	findings, err := backend.Preflight(ctx, &task.PreflightInput{
		TemplateBody: `{"Resources": {}}`,
		RoleARN:      "arn:aws:iam::123456789012:role/fleet-registration",
		ThingTypes:   []string{"sensor"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(findings.AtLeast(finding.Unknown))
	// Output:
	// "aws 123456789012 eu-central-1": warning: this is the fake: no certificate from here works on AWS [endpoint]
	// "my-fleet-eu": error: there is no such bucket: make it with EnsureBucket, or name another [bucket]
	// "arn:aws:iam::123456789012:role/fleet-registration": error: there is no such role: make it with EnsureRole [role]
	// "sensor": error: there is no such thing type: every line that names it would fail, make it first [thing-type]
}
