// Quickstartaws is the quickstart on AWS: the same three devices, with another backend.
//
//	go run ./examples/quickstartaws -bucket B -role-arn R [-out DIR]
//	go run ./examples/quickstartaws -bucket B -setup [-out DIR]      makes bucket and role, too
//
// Account, region and credentials come from the environment, as with any AWS tool. With AWS_ENDPOINT_URL it talks to
// examples/fakeaws instead. It creates things, certificates and a policy in the account.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

func main() {
	out := flag.String("out", "fleet-out", "folder for keys and certificates")
	bucket := flag.String("bucket", "", "S3 bucket for the data file, in the region of the run")
	role := flag.String("role-arn", "", "service role that AWS IoT assumes")
	setup := flag.Bool("setup", false, "make the bucket and the role if they do not exist")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *bucket, *role, *setup); err != nil {
		fmt.Fprintln(os.Stderr, "quickstartaws:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, bucket, role string, setup bool) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("there is no argument %q; -help lists the flags", flag.Arg(0))
	}
	if bucket == "" || role == "" && !setup {
		return errors.New("give -bucket, and -role-arn or -setup; -help lists the flags")
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	backend, err := awsbackend.New(cfg, awsbackend.Options{Bucket: bucket, Prefix: "iotfleet"})
	if err != nil {
		return err
	}
	who, err := backend.Identity(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("Account %s, region %s\n", who.Account, who.Region)
	if who.Fake {
		fmt.Println("The endpoint is a FAKE of AWS IoT. No certificate below is accepted by AWS.")
	}
	if setup {
		if err := backend.EnsureBucket(ctx); err != nil {
			return err
		}
		if role, err = backend.EnsureRole(ctx, &task.RoleInput{Name: "iot-bulk-provisioning-role"}); err != nil {
			return err
		}
		fmt.Println("Service role:", role)
	}

	keys, err := keystore.OpenFolder(out, nil)
	if err != nil {
		return err
	}
	job, err := provision.New(provision.Options{
		Backend: backend, Template: template.Walkthrough(), RoleARN: role,
		Credential: &provision.MakeCSR{Store: keys}, // a P-256 key each, CN=<thing name>
		Output:     provision.Folder(keys),
		Observe: func(e provision.Event) {
			if p, ok := e.(provision.EventTaskProgress); ok {
				fmt.Printf("  task %s: %s, %d %%\n", p.Description.ID, p.Description.Status, p.Description.Percent)
			}
		},
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
		fmt.Printf("%s: %s\n  %s\n", d.Name, d.CertificateARN, keys.Path(d.Name))
	}
	fmt.Println(summary)
	return nil
}
