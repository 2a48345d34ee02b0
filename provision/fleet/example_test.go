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

// Ten lines for the days after: what failed goes back to its site once it is mended, a device that no site took goes to
// the one that it names now, and a board that came late is registered by itself.
func ExampleFleet_Amend() {
	ctx := context.Background()
	sites := map[string]provision.Options{}
	for name, region := range map[string]string{"eu": "eu-central-1", "us": "us-east-1"} {
		backend, err := fakebackend.New(fakebackend.Options{Region: region})
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
			Backend: backend, Template: template.Walkthrough(), RoleARN: role, Credential: &provision.MakeCSR{Store: keystore.Memory()},
		}
	}
	f, err := fleet.New(fleet.Options{Route: fleet.ByColumn("Region"), Sites: sites})
	if err != nil {
		fmt.Println(err)
		return
	}
	devices := "ThingName,SerialNumber,Region\ndevice-one,001,eu\ndevice two,002,us\ndevice-three,003,mars\n"
	report, err := f.Check(ctx, provision.FromCSV(strings.NewReader(devices), "devices.csv", nil))
	fmt.Println(report.Refused, "would be refused", err)
	summary, _ := f.Run(ctx, provision.FromCSV(strings.NewReader(devices), "devices.csv", nil))
	fmt.Println(summary)

	var failures strings.Builder // failures.csv
	if err := f.WriteFailures(ctx, &failures); err != nil {
		fmt.Println(err)
		return
	}
	mended := strings.NewReplacer("device two,us", "device-two,us", "device-three,mars", "device-three,eu").Replace(failures.String())
	summary, err = f.Amend(ctx, provision.FromCSV(strings.NewReader(mended), "failures.csv", nil))
	fmt.Println(summary, err)

	late := provision.Device{Row: map[string]string{"ThingName": "device-one", "SerialNumber": "009", "Region": "us"}}
	_, err = f.Register(ctx, late)
	fmt.Println(err)
	// Output:
	// 2 would be refused <nil>
	// 1 of 3 devices provisioned, 2 failed; causes: invalid-record 1, no-route 1 (2 sites)
	// 3 of 3 devices provisioned (2 sites) <nil>
	// device "device-one" is failed: site "eu" has a device "device-one"; a name belongs to one site; to move the device, remove it there first (Fleet.Remove)
}
