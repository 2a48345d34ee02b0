package provision_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// Two devices of a CSV become things with certificates; the third has a name that AWS does not take, and costs the others
// nothing.
func ExampleRun_Run() {
	ctx := context.Background()
	fake, err := fakebackend.New(fakebackend.Options{})
	if err != nil {
		log.Fatal(err)
	}
	role, err := fake.EnsureRole(ctx, &task.RoleInput{Name: "registration"})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "devices-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	keys, err := keystore.OpenFolder(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	run, err := provision.New(provision.Options{
		Backend:    fake,
		Template:   template.Walkthrough(),
		RoleARN:    role,
		Credential: &provision.MakeCSR{Store: keys},
		Output:     provision.Folder(keys),
	})
	if err != nil {
		log.Fatal(err)
	}
	list := "ThingName,SerialNumber\npump-1,001\npump-2,002\npump 3,003\n"
	summary, err := run.Run(ctx, provision.FromCSV(strings.NewReader(list), "pumps.csv", nil))
	fmt.Println(summary)
	fmt.Println("all of them:", !errors.Is(err, provision.ErrIncomplete))
	for d, err := range run.Results(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s (%s): %s\n", d.Name, d.Source, d.Verdict)
	}
	// Output:
	// 2 of 3 devices provisioned, 1 failed; causes: invalid-record 1
	// all of them: false
	// pump-1 (pumps.csv:2): provisioned
	// pump-2 (pumps.csv:3): provisioned
	// pump 3 (pumps.csv:4): failed
}
