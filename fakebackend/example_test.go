package fakebackend_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// gateways is a template of things alone, which keeps the examples short.
const gateways = `{
	"Parameters": {"ThingName": {"Type": "String"}},
	"Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}}}
}`

// begin makes a fake in which a task on the given lines was started at noon.
func begin(opts fakebackend.Options, lines ...string) (*fakebackend.Backend, task.ID) {
	ctx := context.Background()
	fake, err := fakebackend.New(opts)
	if err != nil {
		log.Fatal(err)
	}
	fake.SetTime(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	role, err := fake.EnsureRole(ctx, &task.RoleInput{Name: "registration"})
	if err != nil {
		log.Fatal(err)
	}
	file := strings.Join(lines, "\n")
	object, err := fake.Upload(ctx, &task.UploadInput{
		Key: "gateways.json", Body: strings.NewReader(file), Size: int64(len(file)), SHA256: sha256.Sum256([]byte(file)),
	})
	if err != nil {
		log.Fatal(err)
	}
	id, err := fake.StartTask(ctx, &task.StartInput{
		TemplateBody: gateways, InputFileBucket: object.Bucket, InputFileKey: object.Key, RoleARN: role,
	})
	if err != nil {
		log.Fatal(err)
	}
	return fake, id
}

func Example() {
	fake, id := begin(fakebackend.Options{}, `{"ThingName": "gateway-1"}`, `{"ThingName": "gateway 2"}`, `{"ThingName": "gateway-3"}`)
	d, err := fake.DescribeTask(context.Background(), id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Status, d.Succeeded, "registered,", d.Failed, "refused")
	for thing := range fake.Things() {
		fmt.Println(thing.ThingARN)
	}
	// Output:
	// Completed 2 registered, 1 refused
	// arn:aws:iot:us-east-1:123456789012:thing/gateway-1
	// arn:aws:iot:us-east-1:123456789012:thing/gateway-3
}

func ExampleBackend_Advance() {
	lines := make([]string, 60)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"ThingName": "gateway-%d"}`, i+1)
	}
	fake, id := begin(fakebackend.Options{Rate: 2, StartDelay: 5 * time.Second}, lines...)
	for range 4 {
		d, err := fake.DescribeTask(context.Background(), id)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s %d%%\n", fake.Now().Format(time.TimeOnly), d.Status, d.Percent)
		fake.Advance(15 * time.Second)
	}
	// Output:
	// 12:00:00 InProgress 0%
	// 12:00:15 InProgress 33%
	// 12:00:30 InProgress 83%
	// 12:00:45 Completed 100%
}

func ExampleBackend_AddFault() {
	ctx := context.Background()
	fake, id := begin(fakebackend.Options{Rate: 1}, `{"ThingName": "gateway-1"}`)
	fault, err := fake.AddFault(fakebackend.Fault{Operation: "DescribeThingRegistrationTask", Times: 2, Do: fakebackend.Throttle})
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		_, err := fake.DescribeTask(ctx, id)
		fmt.Println(err, errors.Is(err, task.ErrThrottled))
	}
	fmt.Println("struck", fake.FaultHits(fault), "times")
	// Output:
	// DescribeThingRegistrationTask: ThrottlingException: Rate exceeded true
	// DescribeThingRegistrationTask: ThrottlingException: Rate exceeded true
	// <nil> false
	// struck 2 times
}

func ExampleBackend_AddFault_line() {
	// The certificate and the thing of line 2 are made, and then AWS fails.
	ctx := context.Background()
	fake, id := begin(fakebackend.Options{Rate: 1}, `{"ThingName": "gateway-1"}`, `{"ThingName": "gateway-2"}`)
	_, err := fake.AddFault(fakebackend.Fault{Line: 2, Step: fakebackend.StepPolicy, Do: fakebackend.Fail, Code: "InternalFailureException"})
	if err != nil {
		log.Fatal(err)
	}
	fake.Advance(time.Minute)
	d, err := fake.DescribeTask(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	_, exists := fake.Thing("gateway-2")
	fmt.Println(d.Succeeded, "registered,", d.Failed, "refused; the thing of line 2 exists:", exists)
	// Output:
	// 1 registered, 1 refused; the thing of line 2 exists: true
}

func ExampleBackend_Snapshot() {
	ctx := context.Background()
	fake, id := begin(fakebackend.Options{Rate: 1}, `{"ThingName": "gateway-1"}`, `{"ThingName": "gateway-2"}`)
	fake.Advance(time.Second)
	snapshot := fake.Snapshot()
	for range 2 {
		fake.Advance(time.Second)
		d, err := fake.DescribeTask(ctx, id)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Status, fake.Counts().Things)
		if err := fake.Restore(snapshot); err != nil {
			log.Fatal(err)
		}
		fmt.Println("back to", fake.Counts().Things)
	}
	// Output:
	// Completed 2
	// back to 1
	// Completed 2
	// back to 1
}

func ExampleOptions() {
	// A client meets the other answer to a question that AWS's documentation leaves open.
	fake, err := fakebackend.New(fakebackend.Options{
		RunningTaskCode: "LimitExceededException",
		BadInput:        fakebackend.RefuseStart,
		ErrorCodes:      true,
	})
	if err != nil {
		log.Fatal(err)
	}
	o := fake.Options()
	fmt.Println(o.Region, o.Account, o.LinkLife, o.LinesPerReport)
	// Output:
	// us-east-1 123456789012 24h0m0s 1000
}

// What happens in the account is a stream of events: here a task with a line that fails.
func ExampleBackend_Events() {
	fake, _ := begin(fakebackend.Options{}, `{"ThingName": "lamp-1"}`, `{"ThingName": "lamp 2"}`)
	fake.Counts() // a task goes on when somebody looks
	for e := range fake.Events(context.Background()) {
		text, _, _ := strings.Cut(e.Text, ";")
		fmt.Printf("%s: %s\n", e.Kind, text)
		if e.Kind == fakebackend.EventTaskEnded {
			break
		}
	}
	// Output:
	// task-started: 2 lines of s3://iotfleet-fake/gateways.json
	// task-ended: Completed: 1 of 2 lines registered, 1 failed
}
