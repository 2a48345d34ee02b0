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

// A server without a network serves clients in the same process, also inside a synctest bubble.
func ExampleServer_StartPipe() {
	backend, err := fakebackend.New(fakebackend.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	server := fakeaws.NewUnstartedServer(backend, fakeaws.Options{})
	server.StartPipe()
	defer server.Close()
	answer, err := server.Client().Get(server.URL + "/_fake/calls")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	fmt.Println(answer.Status)
	// Output: 200 OK
}
