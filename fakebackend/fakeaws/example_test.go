package fakeaws_test

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
)

// A program that uses the AWS SDK works against the fake with nothing but its endpoint changed.
func Example() {
	backend, err := fakebackend.New(fakebackend.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := fakeaws.NewServer(backend, fakeaws.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()

	client := iot.NewFromConfig(aws.Config{
		BaseEndpoint: aws.String(server.URL), Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("any", "key", ""),
	})
	ctx := context.Background()
	made, err := client.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("device-one")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(*made.ThingArn)
	_, err = client.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("device one")})
	fmt.Println(codeOf(err))
	for _, call := range server.Handler.Calls() {
		fmt.Println(call.Service, call.Operation, call.Count)
	}
	// Output:
	// arn:aws:iot:us-east-1:123456789012:thing/device-one
	// InvalidRequestException
	// iot CreateThing 2
}

// Tests set up and read an account with the SDK's own clients, which reach it in process.
func ExampleConfig() {
	ctx := context.Background()
	fake, err := fakebackend.New(fakebackend.Options{Region: "eu-central-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := iot.NewFromConfig(fakeaws.Config(fake))
	made, err := client.CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: aws.String("sensor")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(*made.ThingTypeArn)

	// A fault acts as on a network: the connection breaks after the thing is made.
	if _, err := fake.AddFault(fakebackend.Fault{Operation: "CreateThing", Do: fakebackend.DropAfter}); err != nil {
		fmt.Println(err)
		return
	}
	_, err = client.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("device-one")}, func(o *iot.Options) {
		o.RetryMaxAttempts = 1
	})
	_, exists := fake.Thing("device-one")
	fmt.Println("an error:", err != nil, "and a thing:", exists)
	// Output:
	// arn:aws:iot:eu-central-1:123456789012:thingtype/sensor
	// an error: true and a thing: true
}
