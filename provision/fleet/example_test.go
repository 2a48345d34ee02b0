package fleet_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// Two regions work side by side; the column Region says which device belongs where. A device that names no site fails
// alone.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "fleet-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	keys, err := keystore.OpenFolder(dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	sites := map[string]provision.Options{}
	for name, region := range map[string]string{"eu": "eu-central-1", "us": "us-east-1"} {
		backend, err := fakebackend.New(fakebackend.Options{Region: region}) // awsbackend.New(…) for AWS
		if err != nil {
			fmt.Println(err)
			return
		}
		role, err := backend.EnsureRole(ctx, &task.RoleInput{Name: "registration"})
		if err != nil {
			fmt.Println(err)
			return
		}
		sites[name] = provision.Options{
			Backend: backend, Template: template.Walkthrough(), RoleARN: role,
			Credential: &provision.MakeCSR{Store: keys}, Output: provision.Folder(keys),
		}
	}
	f, err := fleet.New(fleet.Options{Route: fleet.ByColumn("Region"), Sites: sites})
	if err != nil {
		fmt.Println(err)
		return
	}

	devices := `ThingName,SerialNumber,Region
device-one,001,eu
device-two,002,us
device-three,003,eu
device-four,004,mars
`
	summary, err := f.Run(ctx, provision.FromCSV(strings.NewReader(devices), "devices.csv", nil))
	fmt.Println(summary)
	fmt.Println("not every device:", errors.Is(err, provision.ErrIncomplete))
	for r, err := range f.Results(ctx) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(r.Verdict, r.Name, cmp.Or(r.Site, r.Message))
	}
	// Output:
	// 3 of 4 devices provisioned, 1 failed; causes: no-route 1 (2 sites)
	// not every device: true
	// provisioned device-one eu
	// provisioned device-three eu
	// provisioned device-two us
	// failed device-four record 4 of the input: there is no site "mars"; the sites are "eu", "us"
}
