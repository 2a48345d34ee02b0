// Bulkprovision turns a list of devices in CSV or JSON into registered things with working certificates, on AWS or on
// the in-memory fake. It is a program to start from: the work is done by the library.
//
//	go run ./examples/bulkprovision -backend fake|aws -devices devices.csv -run DIR
//
// DIR holds the whole run: fleet.db, devices/<thing>/ with private-key.pem, certificate.pem, root-ca.pem and thing.json,
// the part files, run.json and failures.csv. Run again with the same DIR, it goes on where it was interrupted. A mended
// failures.csv given as -devices takes the place of the records that failed. After a kill -9 or a power cut it looks
// for a task whose start was not answered for as long as -settle, two minutes by default.
//
// The fake's account is kept in DIR when the program ends, also after Ctrl-C. If the program was killed, the account of
// that time is lost: devices whose task it had end as failed, and -retry-failed registers them.
//
// -credential csr sends the requests that the list holds, which the devices made, and -credential certificate registers the
// list's certificates, of a CA of yours; no key is made then.
//
// -ca-cert and -ca-key have the certificates issued by your own CA, with no request in between. -cert-mode is how the
// account learns of them: bulk, with the CA registered, which -setup does; without-ca; or jit, when the devices first
// connect. Run again, it looks which of them have.
//
// For a large fleet there is -keys database: private keys are kept in the one file keys.db, certificates in fleet.db,
// and devices/ is written by -export, at the end or later.
//
// -remove all, or -remove NAME,NAME, undoes a trial run: it removes what the run made. With -existing unchecked, that is
// also things of which the run has not recorded whether they existed before. -orphans lists the certificates of the run
// that no device uses, and -remove-orphans removes them. It also looks once more for certificates that others have put on the
// run's things meanwhile, as each run does at its end unless -existing is unchecked.
//
// -connect 3 lets three devices connect at the end, say hello on a topic and wait for the answer, as examples/device does:
// on AWS, on the gateway of examples/fakeaws -mqtt (MQTT_ENDPOINT), and with -backend fake in the program itself.
//
// The exit code is 0 when every device is provisioned, 3 when some failed, are unknown, do not connect or have a certificate
// of somebody else, too, 4 when those that are not provisioned are all issued and have to connect (-cert-mode jit), 2 for a
// flag that does not exist or an argument that belongs to none, 1 for anything else. (go run exits with 1 for each of them;
// build the program to see its own.)
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

type options struct {
	backend, devices, dir, template, bucket, role, region, key, subject, foreign, existing, keys, policies string
	credential                                                                                             string
	part                                                                                                   int
	settle                                                                                                 time.Duration
	setup, dryRun, skipPreflight, retry, export, json, noModes, orphans, removeOrphans, lenient            bool
	remove                                                                                                 string
	may                                                                                                    []string
	connect                                                                                                int
	mqtt, topic, roleARN                                                                                   string
	list                                                                                                   list
	own                                                                                                    ownCA
}

func main() {
	var o options
	flag.StringVar(&o.backend, "backend", "", "where to register: `fake|aws`; must be given")
	flag.StringVar(&o.devices, "devices", "", "`file` of the devices, - for standard input: CSV whose header names the template's parameters, or an object on each line (.json, .jsonl, .ndjson)")
	flag.StringVar(&o.dir, "run", "", "`folder` of the run; must be given")
	flag.StringVar(&o.template, "template", "", "provisioning template `file`; without it, that of AWS's walkthrough, with which devices can't connect")
	flag.StringVar(&o.bucket, "bucket", "", "S3 `bucket` for data files, in the region of the run")
	flag.StringVar(&o.role, "role-arn", "", "service `role` that AWS IoT assumes")
	flag.BoolVar(&o.setup, "setup", false, "make what does not exist: the bucket, the role, and the types, groups and policies that template and rows name")
	flag.StringVar(&o.policies, "policies", "", "with -setup, `folder` of the policies' documents, NAME.json each")
	flag.StringVar(&o.region, "region", "", "AWS `region`; without it, that of the environment or profile")
	flag.StringVar(&o.credential, "credential", "make", "where certificates come from: `make|csr|certificate`, for keys and requests made here, or the list's own requests or certificates")
	flag.BoolVar(&o.lenient, "lenient", false, "with -credential csr or certificate, send what most readers would refuse, and let AWS decide")
	flag.StringVar(&o.key, "key", "p256", "key `algorithm`: p256, p384, p521, rsa2048, rsa3072 or rsa4096")
	o.own.flags(flag.CommandLine)
	flag.BoolVar(&o.noModes, "no-modes", false, "keep keys on a disk that has no file modes (exFAT, WSL's /mnt/c), which nobody else can get at")
	flag.StringVar(&o.keys, "keys", "folders", "where keys are kept: `folders|database`, a folder for each device or one file for all")
	flag.BoolVar(&o.export, "export", false, "with -keys database, write the devices' folders at the end, however many they are")
	flag.StringVar(&o.subject, "subject", "CN={ThingName}", "subject `pattern` of the requests, or of the certificates of -ca-cert, with fields of the row in braces")
	flag.IntVar(&o.part, "part", 0, "greatest number of `lines` in one task; 0 for the library's default")
	flag.BoolVar(&o.dryRun, "dry-run", false, "show what the first lines would create, check everything, change nothing")
	flag.Func("may", "with -dry-run, `question` what the devices may do: connect, publish:TOPIC, subscribe:FILTER, …, with fields of the row in braces; repeat it for more", func(question string) error {
		o.may = append(o.may, question)
		return nil
	})
	flag.BoolVar(&o.skipPreflight, "skip-preflight", false, "send without looking at the account before the first task")
	flag.BoolVar(&o.retry, "retry-failed", false, "send failed devices again where that can help")
	flag.StringVar(&o.foreign, "foreign", "wait", "when another task is running in the account: `wait|fail`")
	flag.StringVar(&o.existing, "existing", "refuse", "a thing that has a certificate already: `refuse|add|replace|take-over|unchecked`")
	flag.DurationVar(&o.settle, "settle", 0, "how long to look for a task whose start was not answered; 0 for the library's default")
	flag.StringVar(&o.remove, "remove", "", "undo: remove the devices with these thing `names`, separated by commas; all for every device of the run")
	flag.BoolVar(&o.orphans, "orphans", false, "look for certificates of the run that no device uses, and list them")
	flag.BoolVar(&o.removeOrphans, "remove-orphans", false, "remove the certificates that -orphans lists")
	flag.BoolVar(&o.json, "json", false, "print a summary as one JSON object on standard output")
	flag.IntVar(&o.connect, "connect", 0, "let `n` devices connect at the end, say hello and wait for the answer; 0 for none")
	flag.StringVar(&o.mqtt, "mqtt", "", "with -connect, `host:port` to connect to, in place of MQTT_ENDPOINT or the account's endpoint")
	flag.StringVar(&o.topic, "topic", "", "with -connect, `topic` to say hello on; {thing} is the thing's name; devices/{thing}/hello if empty")
	o.list.flags()
	parseFlags(os.Args[1:])

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := o.run(ctx)
	switch {
	case err == nil:
	case errors.Is(err, provision.ErrIncomplete), errors.Is(err, errNotConnected):
		text, code := visible(hint(err)), 3
		if e, ok := errors.AsType[*provision.IncompleteError](err); ok && e.Summary.Total > 0 {
			counts, others, _ := strings.Cut(text, "\n")
			if e.Summary.Issued > 0 && e.Summary.Provisioned+e.Summary.Issued == e.Summary.Total && e.Summary.Meanwhile == 0 && others == "" {
				counts += ". When they have connected, run the same command again: it looks which of them are registered"
				code = 4
			}
			if e.Summary.Failed+e.Summary.Unknown+e.Summary.NoKey > 0 { // those that are in it
				counts += "; see " + filepath.Join(o.dir, "failures.csv")
			}
			if e.Summary.Meanwhile > 0 {
				counts += "; find out which of its certificates each such device has, take the other one off the thing in the account, and give the " +
					"same command again, or -existing add if both are to stay"
			}
			if e.Summary.Removing > 0 {
				counts += "; give -remove again to end the removal"
			}
			text = strings.TrimSpace(counts + "\n" + others)
		}
		fmt.Fprintln(os.Stderr, "bulkprovision:", text)
		os.Exit(code)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "bulkprovision: interrupted; the same command goes on from here")
		os.Exit(1)
	default:
		fmt.Fprintln(os.Stderr, "bulkprovision:", visible(hint(err)))
		os.Exit(1)
	}
}

func (o *options) run(ctx context.Context) (err error) {
	if o.backend == "" || o.dir == "" {
		return errors.New("give -backend fake or -backend aws, -run DIR, and -devices FILE the first time; -help lists the rest")
	}
	if _, err := os.Stat(filepath.Join(o.dir, "fleet.db")); err != nil && o.devices == "" {
		return fmt.Errorf("there is no run in %s yet; give -devices FILE", o.dir)
	}
	if len(o.may) > 0 && !o.dryRun {
		return errors.New("-may asks what the devices would be allowed to do; give -dry-run with it")
	}
	if o.connect < 0 || o.connect > 0 && (o.dryRun || o.remove != "" || o.orphans || o.removeOrphans) {
		return errors.New("-connect takes a number of devices that are registered; -dry-run, -remove and -orphans have none")
	}
	if o.connect == 0 && o.mqtt+o.topic != "" {
		return errors.New("-mqtt and -topic are for -connect; give it, too")
	}
	if o.backend == "fake" && o.mqtt != "" {
		return errors.New("with -backend fake the devices connect within this program; -mqtt is for -backend aws, on AWS or on examples/fakeaws")
	}
	if o.own.key == "-" && o.devices == "-" {
		return errors.New("-devices and -ca-key are both -; standard input holds one of them")
	}
	if o.backend == "aws" && o.bucket == "" {
		return errors.New("give -bucket, an S3 bucket in the region of the run")
	}
	opts := provision.Options{PartLines: o.part, PartDir: filepath.Join(o.dir, "parts"), SettleWindow: o.settle, SkipPreflight: o.skipPreflight, May: o.may}
	if err := o.own.load(flag.CommandLine); err != nil {
		return err
	}
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
	switch opts.Existing = provision.Existing(o.existing); opts.Existing {
	case "refuse":
		opts.Existing = provision.RefuseExisting
	case provision.AddToExisting, provision.ReplaceExisting, provision.TakeOverExisting, provision.UncheckedExisting:
	default:
		return fmt.Errorf("-existing is %q; it must be refuse, add, replace, take-over or unchecked", o.existing)
	}
	setStore, err := o.setCredential(&opts)
	if err != nil {
		return err
	}
	backend, done, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer done()
	progress := newProgress()
	if n, ok := task.As[task.Notifier](backend); ok {
		defer n.Notify(progress.noAnswer)()
	}
	opts.Backend, opts.FirstConnection = backend, o.own.ca != nil && o.own.mode == "jit"
	if opts.RoleARN, err = o.prepareAccount(ctx, backend); err != nil {
		return err
	}
	o.roleARN = opts.RoleARN
	o.list.options(&opts)
	if o.setup {
		if err := o.ensureResources(ctx, opts); err != nil {
			return err
		}
	}
	if o.dryRun {
		if err := o.known(ctx, &opts); err != nil {
			return err
		}
		defer closeLedger(opts.Ledger, &err)
		return o.check(ctx, opts)
	}
	found := opts.Template.Check(template.Bulk)
	if opts.FirstConnection { // no more than the thing's name is taken from it
		found = o.own.found
	}
	for _, found := range found.AtLeast(finding.Warning) {
		fmt.Fprintln(os.Stderr, "template:", flags.Replace(found.String()))
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
	setStore(keys)
	opts.Output, opts.Ledger, opts.Observe = keys.output, ledger, progress.observe
	job, err := provision.New(opts)
	if err != nil {
		return err
	}
	if o.remove != "" || o.orphans || o.removeOrphans {
		return errors.Join(o.cleanUp(ctx, job), o.own.writeCRL(ctx, job), job.WriteManifest(context.WithoutCancel(ctx), o.dir))
	}
	summary, err := o.provision(ctx, job)
	if summary != nil { // whatever came of it, leave a record of it; a failures.csv that was mended stays until it was read
		var tried *trials
		if o.connect > 0 && ctx.Err() == nil {
			var failed error
			tried, failed = o.tryDevices(ctx, backend, keys, job)
			if opts.FirstConnection && tried != nil && tried.Connected > 0 { // which has registered them
				if again, left := job.Reconcile(ctx); again != nil {
					summary, err = again, left
				} else {
					err = errors.Join(err, left)
				}
			}
			err = errors.Join(err, failed)
		}
		err = errors.Join(err, o.own.writeCRL(ctx, job), job.WriteManifest(context.WithoutCancel(ctx), o.dir), o.saveCA(ctx, backend))
		o.print(summary, tried)
		err = errors.Join(err, o.printMeanwhile(context.WithoutCancel(ctx), summary, job))
		if o.export {
			err = errors.Join(err, o.exportDevices(ctx, keys, job))
		}
	}
	return err
}

// parseFlags reads the command line. For a mistake in it the program ends with that alone: the list of all flags would
// hide it.
func parseFlags(args []string) {
	flag.CommandLine.Init(os.Args[0], flag.ContinueOnError)
	flag.Usage = func() {}
	err := flag.CommandLine.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(os.Stderr, "Usage of %s:\n", os.Args[0])
		flag.PrintDefaults()
		os.Exit(0)
	case err == nil && flag.NArg() > 0:
		fmt.Fprintf(os.Stderr, "%q belongs to no flag, and what comes after it would not be read\n", flag.Arg(0))
	case err == nil:
		return
	}
	fmt.Fprintln(os.Stderr, "-help lists the flags")
	os.Exit(2)
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

// setCredential sets the step that the flags ask for, which keeps nothing until the function that it returns has set the
// store of its keys.
func (o *options) setCredential(opts *provision.Options) (setStore func(keystore.Store), err error) {
	setStore = func(keystore.Store) {}
	if o.own.ca != nil && o.credential != "make" {
		return nil, fmt.Errorf("-ca-cert issues certificates for keys made here; leave out -credential %s", o.credential)
	}
	switch o.credential {
	case "csr":
		opts.Credential = &provision.GivenCSR{Lenient: o.lenient}
		return setStore, nil
	case "certificate":
		opts.Credential = &provision.GivenCertificate{Lenient: o.lenient}
		return setStore, nil
	case "make":
	default:
		return nil, fmt.Errorf("-credential is %q; it must be make, csr or certificate", o.credential)
	}
	algorithm, err := csr.ParseAlgorithm(o.key)
	if err != nil {
		return nil, fmt.Errorf("-key: %w", err)
	}
	subject, err := csr.ParsePattern(o.subject)
	if err != nil {
		return nil, fmt.Errorf("-subject: %w", err)
	}
	if o.own.ca != nil {
		issue := &provision.IssueCertificate{CA: o.own.ca, Keys: csr.Software(algorithm), Subject: subject.Subject, Store: keystore.None()}
		opts.Credential = issue
		return func(s keystore.Store) { issue.Store = s }, nil
	}
	made := &provision.MakeCSR{Keys: csr.Software(algorithm), Subject: subject.Subject, Store: keystore.None()}
	opts.Credential = made
	return func(s keystore.Store) { made.Store = s }, nil
}

func (o *options) loadTemplate() (*template.Template, error) {
	switch {
	case o.template == "" && (o.own.ca != nil || o.credential == "certificate"):
		return o.own.template(), nil
	case o.template == "":
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
	return t, o.own.suits(t)
}
