// Quickstart provisions three devices on the in-memory fake: AWS's bulk provisioning walkthrough as one program.
//
//	go run ./examples/quickstart [-out DIR]
//
// It needs no AWS account. The keys it makes are real; the certificates come from a fake and open no door at AWS.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

func main() {
	out := flag.String("out", "fleet-out", "folder for keys and certificates")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("there is no argument %q; name the folder with -out DIR", flag.Arg(0))
	}
	fmt.Println("Backend: the in-memory FAKE of AWS IoT. No certificate below is accepted by AWS.")
	fake, err := fakebackend.New(fakebackend.Options{Rate: 2}) // two devices a second, so that there is something to see
	if err != nil {
		return err
	}

	// The role that lets AWS IoT read the data file and register things: the walkthrough's trust and its two policies.
	role, err := fake.EnsureRole(ctx, &task.RoleInput{Name: "iot-bulk-provisioning-role"})
	if err != nil {
		return err
	}
	fmt.Println("Service role:", role)

	// A folder for each device, which refuses to overwrite what is in it.
	keys, err := keystore.OpenFolder(out, nil)
	if err != nil {
		return err
	}
	subject, err := csr.ParseSubject("C=US,ST=WA,L=Seattle,O=MyOrg,CN=MyDept")
	if err != nil {
		return err
	}
	job, err := provision.New(provision.Options{
		Backend:  fake,
		Template: template.Walkthrough(),
		RoleARN:  role,
		Credential: &provision.MakeCSR{
			Store:   keys,
			Keys:    csr.Software(csr.RSA2048),
			Subject: func(csr.Device) (csr.Subject, error) { return subject, nil },
		},
		Output:  provision.Folder(keys),
		Observe: func(e provision.Event) { show(ctx, fake, e) },
	})
	if err != nil {
		return err
	}
	summary, err := job.Run(ctx, provision.Rows(
		map[string]string{"ThingName": "device-one", "SerialNumber": "001"},
		map[string]string{"ThingName": "device-two", "SerialNumber": "002"},
		map[string]string{"ThingName": "device-three", "SerialNumber": "003"},
	))
	if errors.Is(err, keystore.ErrExists) {
		return fmt.Errorf("%s has keys of an earlier run, which are left as they are; name another folder with -out", out)
	}
	if err != nil {
		return err
	}

	for d, err := range job.Results(ctx) {
		if err != nil {
			return err
		}
		fmt.Printf("\n%s\n  thing        %s\n  certificate  %s\n  policies     %v\n  files        %s%c\n",
			d.Name, d.ThingARN, d.CertificateARN, d.Policies, filepath.Join(out, keystore.FileName(d.Name)), filepath.Separator)
	}
	ca := filepath.Join(out, "issuer-ca.pem")
	if err := os.WriteFile(ca, fake.CA(), 0o644); err != nil {
		return err
	}
	fmt.Printf("\n%s, by the FAKE in task %s.\n", summary, summary.Tasks[0])
	fmt.Printf("Check one: openssl verify -CAfile %q %q\n", ca, filepath.Join(out, keystore.FileName("device-one"), "certificate.pem"))
	return nil
}

// show prints what the walkthrough looks at by hand.
func show(ctx context.Context, b task.Backend, e provision.Event) {
	switch e := e.(type) {
	case provision.EventPartReady:
		fmt.Printf("Data file: s3://%s/%s (%d lines, %d bytes)\n", e.Bucket, e.Key, e.Lines, e.Bytes)
	case provision.EventTaskStarted:
		fmt.Println("Task started:", e.Task)
	case provision.EventTaskProgress:
		d := e.Description
		fmt.Printf("  %-10s  %3d %%  successCount %d  failureCount %d\n", d.Status, d.Percent, d.Succeeded, d.Failed)
		if d.Status.Done() {
			for _, kind := range []task.ReportType{task.ResultsReport, task.ErrorsReport} {
				if page, err := b.ListReports(ctx, d.ID, kind, ""); err == nil {
					fmt.Printf("  %s report, links: %d\n", kind, len(page.Links))
				}
			}
		}
	}
}
