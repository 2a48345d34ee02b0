package task_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// fleetTemplate registers a thing and a certificate for each line.
const fleetTemplate = `{
  "Parameters": {"ThingName": {"Type": "String"}, "CSR": {"Type": "String"}},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}}}
  }
}`

// newRequest makes a key and a certificate signing request for it. Package csr does this for a fleet, and keeps keys.
func newRequest() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		log.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// started is a backend with a task over three lines, the second of which AWS refuses: a thing's name has no spaces.
func started(ctx context.Context) (task.Backend, *task.Task) {
	backend, err := fakebackend.New(fakebackend.Options{})
	if err != nil {
		log.Fatal(err)
	}
	role, err := backend.EnsureRole(ctx, &task.RoleInput{Name: "bulk"})
	if err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer
	for _, name := range []string{"device-one", "device two", "device-three"} {
		row, _ := json.Marshal(map[string]string{"ThingName": name, "CSR": newRequest()})
		fmt.Fprintf(&file, "%s\n", row)
	}
	object, err := backend.Upload(ctx, &task.UploadInput{
		Key: "fleet.json", Body: bytes.NewReader(file.Bytes()), Size: int64(file.Len()), SHA256: sha256.Sum256(file.Bytes()),
	})
	if err != nil {
		log.Fatal(err)
	}
	t, err := task.Start(ctx, backend, &task.StartInput{
		TemplateBody: fleetTemplate, InputFileBucket: object.Bucket, InputFileKey: object.Key, RoleARN: role,
	})
	if err != nil {
		log.Fatal(err)
	}
	return backend, t
}

// A task from its start to what became of each line.
func Example() {
	ctx := context.Background()
	_, t := started(ctx)

	d, err := t.Wait(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %d registered, %d refused\n", d.Status, d.Succeeded, d.Failed)

	for r, err := range t.Results(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(task.ResourceName(r.ARNs.Thing()), strings.HasPrefix(r.CertificatePEM, "-----BEGIN CERTIFICATE-----"))
	}
	for e, err := range t.Errors(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("refused: line", e.Line)
	}
	// Output:
	// Completed: 2 registered, 1 refused
	// device-one true
	// device-three true
	// refused: line 2
}

// After a restart, all that is needed to go on is the task's id.
func ExampleAttach() {
	ctx := context.Background()
	backend, t := started(ctx)
	id := t.ID() // kept somewhere safe

	d, err := task.Attach(backend, id).Wait(ctx, &task.WaitOptions{
		Progress: func(d *task.Description) { fmt.Printf("%d%%\n", d.Percent) },
	})
	switch {
	case errors.Is(err, task.ErrTaskFailed):
		fmt.Println("no success:", d.Message)
	case err == nil:
		fmt.Println(d.Status)
	}
	// Output:
	// 100%
	// Completed
}

// After a failed start, Refused tells whether the task can be started again without a look at what is running.
func ExampleRefused() {
	backend, err := fakebackend.New(fakebackend.Options{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = task.Start(context.Background(), backend, &task.StartInput{
		TemplateBody: "{}", InputFileBucket: "factory", InputFileKey: "my fleet.json", RoleARN: "arn:aws:iam::123456789012:role/bulk",
	})
	fmt.Println(task.Refused(err), errors.Is(err, task.ErrInvalidRequest))
	fmt.Println(err)
	// Output:
	// true true
	// start registration task over s3://factory/my fleet.json: inputFileKey: data file key "my fleet.json" has ' ' at byte 2; AWS allows [a-zA-Z0-9!_.*'()-\/]+
}

// List finds a task whose id was lost by the key of its data file.
func ExampleList() {
	ctx := context.Background()
	backend, t := started(ctx)
	for id, err := range task.List(ctx, backend, "") {
		if err != nil {
			log.Fatal(err)
		}
		d, err := task.Attach(backend, id).Describe(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if strings.HasSuffix(d.InputFileKey, "fleet.json") {
			fmt.Println("found", id == t.ID())
		}
	}
	// Output: found true
}

// A report that was saved to a file is read in the same way. A bad line costs that line only.
func ExampleReadResults() {
	saved := `{"lineNumber":1,"response":{"CertificatePem":"-----BEGIN…","ResourceArns":{"thing":"arn:aws:iot:us-east-1:123456789012:thing/device-one"}}}
{"lineNumber":2,"response":
{"lineNumber":3,"response":{"CertificatePem":"-----BEGIN…","ResourceArns":{"thing":"arn:aws:iot:us-east-1:123456789012:thing/device-three"}}}
`
	for r, err := range task.ReadResults(strings.NewReader(saved)) {
		if err != nil {
			log.Fatal(err)
		}
		if r.Malformed != nil {
			fmt.Println(r.Malformed)
			continue
		}
		fmt.Println(r.Line, task.ResourceName(r.ARNs.Thing()))
	}
	// Output:
	// 1 device-one
	// report line 2 (byte 169): the text ends where a value should be
	// 3 device-three
}

func ExampleReadErrors() {
	saved := `{"lineNumber":2,"errorCode":"ResourceRegistrationFailureException","errorMessage":"Thing type not found"}`
	for e, err := range task.ReadErrors(strings.NewReader(saved)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Line, e.Message)
		fmt.Println(errors.Is(e, task.ErrRegistrationFailed))
	}
	// Output:
	// 2 Thing type not found
	// true
}

func ExampleKindOfCode() {
	fmt.Println(task.KindOfCode("ThrottlingException"))
	fmt.Println(task.KindOfCode("SomethingNew"))
	// Output:
	// throttled
	// <nil>
}

func ExampleAs() {
	ctx := context.Background()
	backend, _ := started(ctx)
	if who, ok := task.As[task.Identifier](backend); ok {
		id, err := who.Identity(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(id.Partition, id.Region, id.Account, "fake:", id.Fake)
	}
	// Output: aws us-east-1 123456789012 fake: true
}

// counting is a decorator: it changes one method and passes the others on. Because it has Unwrap, As finds the
// abilities of the backend inside.
type counting struct {
	task.Backend
	looks *int
}

func (c counting) Unwrap() task.Backend { return c.Backend }

func (c counting) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	*c.looks++
	return c.Backend.DescribeTask(ctx, id)
}

func ExampleUnwrapper() {
	ctx := context.Background()
	backend, t := started(ctx)
	wrapped := counting{backend, new(int)}
	if _, err := task.Attach(wrapped, t.ID()).Wait(ctx, nil); err != nil {
		log.Fatal(err)
	}
	_, reads := task.As[task.DeviceReader](wrapped)
	fmt.Println("looks:", *wrapped.looks, "still reads devices:", reads)
	// Output: looks: 1 still reads devices: true
}

// Logical names are the template author's choice; the ARN itself says what it is.
func ExampleARNs() {
	arns := task.ARNs{
		"pump":     "arn:aws:iot:us-east-1:123456789012:thing/device-one",
		"identity": "arn:aws:iot:us-east-1:123456789012:cert/8f2989f9",
	}
	fmt.Println(task.ResourceName(arns.Thing()), task.ResourceName(arns.Certificate()))
	// Output: device-one 8f2989f9
}

func ExampleLink() {
	link := task.NewLink("https://example-bucket.s3.amazonaws.com/report?X-Amz-Signature=0123")
	fmt.Println(link)
	fmt.Printf("%+v\n", struct{ Link task.Link }{link})
	// Output:
	// [report link]
	// {Link:[report link]}
}
