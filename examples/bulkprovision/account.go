package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
)

const roleName = "iot-bulk-provisioning-role" // made by -setup

// open makes the backend. The fake's state is kept in the run's folder, so that a run on it goes on, too.
func (o *options) open(ctx context.Context) (task.Backend, func(), error) {
	switch o.backend {
	case "aws":
		boundHeap()
		cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(o.region))
		if err != nil {
			return nil, nil, err
		}
		b, err := awsbackend.New(cfg, awsbackend.Options{Bucket: o.bucket, Prefix: "iotfleet"})
		return b, func() {}, err
	case "fake":
		fake, err := fakebackend.New(fakebackend.Options{Region: o.region, Bucket: o.bucket})
		if err != nil {
			return nil, nil, err
		}
		state := filepath.Join(o.dir, "fake-state")
		if data, err := os.ReadFile(state); err == nil {
			var s fakebackend.Snapshot
			if err := errors.Join(s.UnmarshalBinary(data), fake.Restore(&s)); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", state, err)
			}
		}
		return fake, func() {
			if data, err := fake.Snapshot().MarshalBinary(); err == nil && !o.dryRun {
				if os.WriteFile(state+".new", data, 0o600) == nil {
					_ = os.Rename(state+".new", state)
				}
			}
		}, nil
	}
	return nil, nil, fmt.Errorf("-backend is %q; it must be fake or aws", o.backend)
}

// boundHeap makes the program's memory the same for any number of devices: garbage is collected when the heap is at a
// bound, not whenever it has doubled. Two parts of 10,000 lines take about 40 MB of it, keys that wait for a sync 10.
// If all that is in use came near the bound, as with very long rows, collecting would take up to half of the processor
// time: set GOMEMLIMIT to a higher one.
func boundHeap() {
	if os.Getenv("GOMEMLIMIT") == "" && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(128 << 20)
	}
}

// prepareAccount makes bucket and role when asked to, and on the fake, where there is nothing yet.
func (o *options) prepareAccount(ctx context.Context, b task.Backend) (roleARN string, err error) {
	if o.role != "" && !o.setup {
		return o.role, nil
	}
	switch {
	case o.backend != "aws":
	case o.dryRun && o.setup:
		return "", errors.New("-dry-run changes nothing, so it can't be used with -setup; give -role-arn in place of it")
	case o.dryRun:
		return "", errors.New("give -role-arn: -dry-run looks at the role. If there is none yet, let -setup make it with a first small run, " +
			"or try the list on -backend fake")
	case !o.setup:
		return "", errors.New("give -role-arn, or -setup to make a role")
	}
	account := b.(interface { // both backends can
		task.BucketEnsurer
		task.RoleEnsurer
	})
	if err := account.EnsureBucket(ctx); err != nil {
		return "", err
	}
	roleARN, err = account.EnsureRole(ctx, &task.RoleInput{
		Name: roleName, RegisterWithoutCA: o.credential == "certificate" || o.own.ca != nil && o.own.mode == "without-ca",
	})
	if err != nil {
		return "", err
	}
	return roleARN, o.own.register(ctx, b, roleARN)
}

// ensureResources makes what template and rows refer to. The rows on standard input can't be read twice, so what they
// name must exist.
func (o *options) ensureResources(ctx context.Context, opts provision.Options) error {
	if o.devices == "" || o.devices == "-" {
		return nil
	}
	opts.PartDir, opts.Existing = "", provision.UncheckedExisting // the run looks at the devices
	job, err := provision.New(opts)
	if err != nil {
		return err
	}
	devices, _, err := o.input()
	if err != nil {
		return err
	}
	report, err := job.Check(ctx, devices)
	if err != nil {
		return err
	}
	in := report.Refers
	for name := range in.Policies {
		data, err := os.ReadFile(filepath.Join(o.policies, name+".json"))
		switch {
		case o.policies == "" || errors.Is(err, fs.ErrNotExist): // then it must exist
		case err != nil:
			return err
		default:
			in.Policies[name] = string(data)
		}
	}
	err = opts.Backend.(task.ResourceEnsurer).EnsureResources(ctx, &in) // both backends can
	if errors.Is(err, task.ErrInvalidRequest) {
		return fmt.Errorf("%w in the folder of -policies, as NAME.json", err)
	}
	return err
}

// known gives a dry run the ledger of the run in its folder, if there is one: what that has registered is its own.
func (o *options) known(ctx context.Context, opts *provision.Options) error {
	ledger, err := sqliteledger.OpenReadOnly(ctx, filepath.Join(o.dir, "fleet.db"), nil)
	if errors.Is(err, fs.ErrNotExist) {
		opts.PartDir = ""
		return nil
	}
	if err == nil {
		opts.Ledger = ledger
	}
	return err
}

func closeLedger(l provision.Ledger, err *error) {
	if l != nil {
		*err = errors.Join(*err, l.Close())
	}
}

// saveCA writes the fake's issuing CA, to check certificates with. On AWS there is none to write.
func (o *options) saveCA(ctx context.Context, b task.Backend) error {
	file := filepath.Join(o.dir, "issuer-ca.pem")
	if fake, ok := task.As[*fakebackend.Backend](b); ok {
		return os.WriteFile(file, fake.CA(), 0o644)
	}
	if id, err := b.(task.Identifier).Identity(ctx); err != nil || !id.Fake {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, awsbackend.DefaultIdleTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, os.Getenv("AWS_ENDPOINT_URL")+"/_fake/ca.pem", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("reading the CA that the fake issues with: %w", err)
	}
	defer resp.Body.Close()
	const most = 1 << 20
	data, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return fmt.Errorf("reading the CA that the fake issues with: %w", err)
	}
	if block, _ := pem.Decode(data); block == nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("reading the CA that the fake issues with: what answers at %s is not the fake", req.URL.Host)
	}
	return os.WriteFile(file, data, 0o644)
}
