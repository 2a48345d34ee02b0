// Bulkprovision takes a list of devices in CSV to registered things with working certificates, on AWS or on the
// in-memory fake. It is a program to start from: the work is done by the library.
//
//	go run ./examples/bulkprovision -backend fake|aws -devices devices.csv -run DIR
//
// DIR holds the whole run: fleet.db, devices/<thing>/ with private-key.pem, certificate.pem and thing.json, the part
// files, run.json and failures.csv. Run again with the same DIR, it goes on where it was interrupted. A mended
// failures.csv given as -devices takes the place of the records that failed. After a kill -9 or a power cut it looks
// for a task whose start was not answered for as long as -settle, two minutes by default.
//
// The fake's account is kept in DIR when the program ends, also after Ctrl-C. If the program was killed, the account of
// that time is lost: devices whose task it had end as failed, and -retry-failed registers them.
//
// For a large fleet there is -keys database: private keys are kept in the one file keys.db, certificates in fleet.db,
// and devices/ is written by -export, at the end or later.
//
// -remove all, or -remove NAME,NAME, undoes a trial run: it removes what the run made. -orphans lists the certificates of
// the run that no device uses, and -remove-orphans removes them.
//
// The exit code is 0 when every device is provisioned, 3 when some failed or are unknown, 2 for a flag that does not
// exist, 1 for anything else. (go run exits with 1 for each of them; build the program to see its own.)
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

type options struct {
	backend, devices, dir, template, bucket, role, region, key, subject, foreign, existing, keys, policies string
	part                                                                                                   int
	settle                                                                                                 time.Duration
	setup, dryRun, skipPreflight, retry, export, json, noModes, orphans, removeOrphans                     bool
	remove                                                                                                 string
}

const roleName = "iot-bulk-provisioning-role" // made by -setup

func main() {
	var o options
	flag.StringVar(&o.backend, "backend", "", "where to register: `fake|aws`; must be given")
	flag.StringVar(&o.devices, "devices", "", "CSV `file` of the devices, - for standard input; its header names the template's parameters")
	flag.StringVar(&o.dir, "run", "", "`folder` of the run; must be given")
	flag.StringVar(&o.template, "template", "", "provisioning template `file`; without it, that of AWS's walkthrough")
	flag.StringVar(&o.bucket, "bucket", "", "S3 `bucket` for data files, in the region of the run")
	flag.StringVar(&o.role, "role-arn", "", "service `role` that AWS IoT assumes")
	flag.BoolVar(&o.setup, "setup", false, "make what does not exist: the bucket, the role, and the types, groups and policies that template and rows name")
	flag.StringVar(&o.policies, "policies", "", "with -setup, `folder` of the policies' documents, NAME.json each")
	flag.StringVar(&o.region, "region", "", "AWS `region`; without it, that of the environment or profile")
	flag.StringVar(&o.key, "key", "p256", "key `algorithm`: p256, p384, p521, rsa2048, rsa3072 or rsa4096")
	flag.BoolVar(&o.noModes, "no-modes", false, "keep keys on a disk that has no file modes (exFAT, WSL's /mnt/c), which nobody else can get at")
	flag.StringVar(&o.keys, "keys", "folders", "where keys are kept: `folders|database`, a folder for each device or one file for all")
	flag.BoolVar(&o.export, "export", false, "with -keys database, write the devices' folders at the end, however many they are")
	flag.StringVar(&o.subject, "subject", "CN={ThingName}", "subject `pattern` of the requests, with fields of the row in braces")
	flag.IntVar(&o.part, "part", 0, "greatest number of `lines` in one task; 0 for the library's default")
	flag.BoolVar(&o.dryRun, "dry-run", false, "show what the first lines would create, check everything, change nothing")
	flag.BoolVar(&o.skipPreflight, "skip-preflight", false, "send without looking at the account before the first task")
	flag.BoolVar(&o.retry, "retry-failed", false, "send failed devices again where that can help")
	flag.StringVar(&o.foreign, "foreign", "wait", "when another task is running in the account: `wait|fail`")
	flag.StringVar(&o.existing, "existing", "refuse", "a thing that has a certificate already: `refuse|add|replace|take-over|unchecked`")
	flag.DurationVar(&o.settle, "settle", 0, "how long to look for a task whose start was not answered; 0 for the library's default")
	flag.StringVar(&o.remove, "remove", "", "undo: remove the devices with these thing `names`, separated by commas; all for every device of the run")
	flag.BoolVar(&o.orphans, "orphans", false, "look for certificates of the run that no device uses, and list them")
	flag.BoolVar(&o.removeOrphans, "remove-orphans", false, "remove the certificates that -orphans lists")
	flag.BoolVar(&o.json, "json", false, "print a summary as one JSON object on standard output")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := o.run(ctx)
	switch {
	case err == nil:
	case errors.Is(err, provision.ErrIncomplete):
		fmt.Fprintf(os.Stderr, "bulkprovision: %v; see %s\n", err, filepath.Join(o.dir, "failures.csv"))
		os.Exit(3)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "bulkprovision: interrupted; the same command goes on from here")
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "bulkprovision:", err)
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context) (err error) {
	if o.backend == "" || o.dir == "" || flag.NArg() > 0 {
		return errors.New("give -backend fake or -backend aws, -run DIR, and -devices FILE the first time; -help lists the rest")
	}
	if _, err := os.Stat(filepath.Join(o.dir, "fleet.db")); err != nil && o.devices == "" {
		return fmt.Errorf("there is no run in %s yet; give -devices FILE", o.dir)
	}
	if o.backend == "aws" && o.bucket == "" {
		return errors.New("give -bucket, an S3 bucket in the region of the run")
	}
	opts := provision.Options{PartLines: o.part, PartDir: filepath.Join(o.dir, "parts"), SettleWindow: o.settle, SkipPreflight: o.skipPreflight}
	if opts.Template, err = o.loadTemplate(); err != nil {
		return err
	}
	switch o.foreign {
	case "wait":
	case "fail":
		opts.Foreign = provision.FailOnForeign
	default:
		return fmt.Errorf("-foreign is %q; it must be wait or fail", o.foreign)
	}
	if opts.Existing = provision.Existing(o.existing); o.existing == "refuse" {
		opts.Existing = provision.RefuseExisting
	}
	algorithm, err := csr.ParseAlgorithm(o.key)
	if err != nil {
		return fmt.Errorf("-key: %w", err)
	}
	subject, err := csr.ParsePattern(o.subject)
	if err != nil {
		return fmt.Errorf("-subject: %w", err)
	}
	backend, done, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	opts.Backend = backend
	if opts.RoleARN, err = o.prepareAccount(ctx, backend); err != nil {
		return err
	}
	credential := &provision.MakeCSR{
		Keys:    csr.Software(algorithm),
		Subject: subject.Subject,
	}
	opts.Credential = credential
	if o.setup {
		if err := o.ensureResources(ctx, opts, *credential); err != nil {
			return err
		}
	}
	if o.dryRun {
		if err := o.known(ctx, &opts); err != nil {
			return err
		}
		defer closeLedger(opts.Ledger, &err)
		credential.Store = keystore.None()
		return o.check(ctx, opts)
	}
	for _, found := range opts.Template.Check(template.Bulk).AtLeast(finding.Warning) {
		fmt.Fprintln(os.Stderr, "template:", found)
	}

	keys, err := o.openKeys(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.close()) }()
	ledger, err := sqliteledger.Open(ctx, filepath.Join(o.dir, "fleet.db"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	if err := keys.removeLeftovers(ctx); err != nil {
		return err
	}
	credential.Store, opts.Output, opts.Ledger, opts.Observe = keys, keys.output, ledger, newProgress().observe
	job, err := provision.New(opts)
	if err != nil {
		return err
	}
	if o.remove != "" || o.orphans || o.removeOrphans {
		return errors.Join(o.cleanUp(ctx, job), job.WriteManifest(context.WithoutCancel(ctx), o.dir))
	}
	summary, err := o.provision(ctx, job)
	if summary != nil { // whatever came of it, leave a record of it
		err = errors.Join(err, job.WriteManifest(context.WithoutCancel(ctx), o.dir), o.saveCA(ctx, backend))
		o.print(summary)
		if o.export {
			err = errors.Join(err, o.exportDevices(ctx, keys, job))
		}
	}
	return err
}

// provision runs, mends or retries, by the flags and the input.
func (o *options) provision(ctx context.Context, job *provision.Run) (*provision.Summary, error) {
	devices, mended, err := o.input()
	if err != nil {
		return nil, err
	}
	if mended {
		return job.Amend(ctx, devices)
	}
	summary, err := job.Run(ctx, devices)
	if o.retry && errors.Is(err, provision.ErrIncomplete) {
		return job.Retry(ctx)
	}
	return summary, err
}

func (o *options) loadTemplate() (*template.Template, error) {
	if o.template == "" {
		return template.Walkthrough(), nil
	}
	data, err := os.ReadFile(o.template)
	if err != nil {
		return nil, err
	}
	t, err := template.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.template, err)
	}
	return t, nil
}

// input opens the devices, which stay open until the program ends. It returns nil when the run's ledger has them all,
// and reports whether they are mended records.
func (o *options) input() (devices iter.Seq2[provision.Device, error], mended bool, err error) {
	in := os.Stdin
	switch o.devices {
	case "":
		return nil, false, nil
	case "-":
	default:
		if in, err = os.Open(o.devices); err != nil {
			return nil, false, err
		}
	}
	buffered := bufio.NewReader(in)
	header, err := buffered.ReadString('\n')
	if err != nil && header == "" && o.devices == "-" {
		return nil, false, nil // nothing on standard input: go on with what the ledger has
	}
	mended = strings.Contains(header, provision.RecordColumn) // a spreadsheet may have put marks and quotes before it
	return provision.FromCSV(io.MultiReader(strings.NewReader(header), buffered), filepath.Base(o.devices), nil), mended, nil
}

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
	if !o.setup && o.backend == "aws" {
		return "", errors.New("give -role-arn, or -setup to make a role")
	}
	if o.dryRun && o.backend == "aws" {
		return "", errors.New("-dry-run changes nothing, so it can't be used with -setup")
	}
	account := b.(interface { // both backends can
		task.BucketEnsurer
		task.RoleEnsurer
	})
	if err := account.EnsureBucket(ctx); err != nil {
		return "", err
	}
	return account.EnsureRole(ctx, &task.RoleInput{Name: roleName})
}

// ensureResources makes what template and rows refer to. The rows on standard input can't be read twice, so what they
// name must exist.
func (o *options) ensureResources(ctx context.Context, opts provision.Options, credential provision.MakeCSR) error {
	if o.devices == "" || o.devices == "-" {
		return nil
	}
	credential.Store, opts.Credential, opts.PartDir = keystore.None(), &credential, ""
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
		return fmt.Errorf("%w (-policies gives documents)", err)
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

// check is the dry run.
func (o *options) check(ctx context.Context, opts provision.Options) error {
	job, err := provision.New(opts)
	if err != nil {
		return err
	}
	devices, _, err := o.input()
	if err != nil {
		return err
	}
	if devices == nil {
		return errors.New("give -devices")
	}
	report, err := job.Check(ctx, devices)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	for _, s := range report.Samples {
		fmt.Printf("%s would create:\n", s.Name)
		if err := enc.Encode(s.Creates); err != nil {
			return err
		}
	}
	for _, f := range report.Findings {
		fmt.Println(f)
	}
	for _, p := range report.Refusals {
		fmt.Printf("record %d %s %s: %s\n", p.Seq, p.Name, p.Source, p.Message)
	}
	for _, p := range report.Existing {
		if p.Verdict != provision.Failed { // those are among the refused
			fmt.Printf("record %d %s %s: its thing has %d ACTIVE certificates of others, such as %s of %s\n", p.Seq, p.Name, p.Source,
				len(p.Existing), p.Existing[0].ID, p.Existing[0].Created.UTC().Format(time.RFC3339))
		}
	}
	if report.NotLooked {
		fmt.Println("whether devices have certificates already was not looked at")
	} else {
		fmt.Printf("%d things exist already, %d of them with ACTIVE certificates that are not this run's\n", report.Things, report.Certified)
	}
	fmt.Printf("%d devices, %d of them would be refused here. Nothing was changed.\n", report.Devices, report.Refused)
	if !report.OK() {
		return errors.New("the dry run found problems")
	}
	return nil
}

// saveCA writes the fake's issuing CA, to check certificates with. On AWS there is none to write.
func (o *options) saveCA(ctx context.Context, b task.Backend) error {
	file := filepath.Join(o.dir, "foundr-ca.pem")
	if fake, ok := task.As[*fakebackend.Backend](b); ok {
		return os.WriteFile(file, fake.CA(), 0o644)
	}
	if id, err := b.(task.Identifier).Identity(ctx); err != nil || !id.Fake {
		return err
	}
	resp, err := http.Get(os.Getenv("AWS_ENDPOINT_URL") + "/_fake/ca.pem")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

func (o *options) print(s *provision.Summary) {
	if !o.json {
		fmt.Printf("run %s: %s%s\n", s.RunID, s, map[bool]string{true: ". On the FAKE: no certificate is accepted by AWS"}[s.Fake])
		return
	}
	_ = json.NewEncoder(os.Stdout).Encode(struct {
		RunID       string                    `json:"runId"`
		Total       int64                     `json:"total"`
		Provisioned int64                     `json:"provisioned"`
		NoKey       int64                     `json:"noKey"`
		Failed      int64                     `json:"failed"`
		Unknown     int64                     `json:"unknown"`
		Causes      map[provision.Cause]int64 `json:"causes"`
		Tasks       []task.ID                 `json:"tasks"`
		Seconds     float64                   `json:"seconds"`
	}{s.RunID, s.Total, s.Provisioned, s.NoKey, s.Failed, s.Unknown, s.Causes, append([]task.ID{}, s.Tasks...), s.Took.Seconds()})
}
