// Killtest kills runs of examples/bulkprovision again and again, in every step they go through, and then looks whether a
// device was lost or registered twice. Run it from the root of the module:
//
//	go run ./examples/bulkprovision/killtest [-devices 2000] [-part 200] [-rate 400] [-kills 100]
//
// It starts examples/fakeaws, which drops some answers to StartThingRegistrationTask on the way, and provisions the devices
// with kill -9 at chosen moments until the run ends by itself. If it ends before every step was hit, as it can on a busy
// machine where moments are missed, other devices follow in another run. It prints how often each step was hit, and fails
// if one was not in ten runs, if a thing has not exactly one active certificate for the key that is stored for it, if a
// certificate belongs to no thing, or if a part was registered by two tasks.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
)

// steps are where a run can be when it dies, as the ledger and the folder tell afterwards.
var steps = []string{"spool", "keys", "written", "uploaded", "starting", "started", "ended", "record"}

// settle is how long the run waits for the task of a start without an answer to appear.
const settle = 2 * time.Second

type test struct {
	devices, part, kills int
	rate                 float64
	dir, endpoint        string
	env                  []string
	hits                 map[string]int
	killed               int
	runs                 int
	over                 bool            // the latest run has ended by itself once
	used                 map[string]bool // the IDs of the devices' certificates
}

const (
	mostRuns = 10
	// aimed is how often a run is killed at its beginning and at its end, which pass only once.
	aimed = 3
)

func main() {
	t := test{hits: map[string]int{}, used: map[string]bool{}}
	flag.IntVar(&t.devices, "devices", 2000, "devices of a run")
	flag.IntVar(&t.part, "part", 200, "lines in a part")
	flag.IntVar(&t.kills, "kills", 100, "how often to kill a run, at least")
	flag.Float64Var(&t.rate, "rate", 400, "lines a second of the fake")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
	defer cancel()
	if err := t.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "killtest:", err)
		os.Exit(1)
	}
}

func (t *test) run(ctx context.Context) (err error) {
	if t.dir, err = os.MkdirTemp("", "iotfleet-killtest-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.dir)) }()
	for _, program := range []string{"fakeaws", "bulkprovision"} {
		out, err := exec.CommandContext(ctx, "go", "build", "-o", t.path(program), "./examples/"+program).CombinedOutput()
		if err != nil {
			return fmt.Errorf("building %s: %w\n%s", program, err, out)
		}
	}
	stop, err := t.startFake(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err := t.setFaults(ctx); err != nil {
		return err
	}
	backend, err := t.backend()
	if err != nil {
		return err
	}
	began := time.Now()
	for t.runs < mostRuns && !t.enough() {
		err := t.provision(ctx)
		if err == nil {
			err = t.verifyDevices(ctx, backend)
		}
		if err != nil {
			return err
		}
	}
	fmt.Printf("%d devices in runs of %d, parts of %d, %d kills in %s\n\n", t.runs*t.devices, t.devices, t.part, t.killed, time.Since(began).Round(time.Second))
	fmt.Println("step       kills")
	for _, step := range steps {
		fmt.Printf("%-10s %5d\n", step, t.hits[step])
	}
	if err := t.verifyAccount(ctx, backend); err != nil {
		return err
	}
	if !t.enough() {
		return fmt.Errorf("not every step was hit, or there were not enough kills, in %d runs; try other figures", mostRuns)
	}
	return nil
}

// enough reports whether every step was hit, and the runs were killed as often as they were to be.
func (t *test) enough() bool {
	return t.killed >= t.kills && !slices.ContainsFunc(steps, func(step string) bool { return t.hits[step] == 0 })
}

// provision begins a run with devices of its own, and kills it until it ends by itself. What is left then is killed while
// the record is written, once more each time.
func (t *test) provision(ctx context.Context) error {
	t.over = false
	t.runs++
	if err := t.writeDevices(); err != nil {
		return err
	}
	for {
		switch done, err := t.live(ctx); {
		case err != nil:
			return err
		case !done:
		case t.hits["record"] >= aimed:
			return nil
		default:
			t.over = true
			if err := os.Remove(t.inRun("run.json")); err != nil {
				return err
			}
		}
	}
}

func (t *test) path(name string) string { return filepath.Join(t.dir, name) }

// inRun is the path of a file in the folder of the latest run.
func (t *test) inRun(name string) string {
	return filepath.Join(t.dir, fmt.Sprint("run-", t.runs), name)
}

// startFake starts the fake and reads its endpoint from its first line.
func (t *test) startFake(ctx context.Context) (stop func(), err error) {
	fake := exec.CommandContext(ctx, t.path("fakeaws"), "-addr", "127.0.0.1:0", "-rate", fmt.Sprint(t.rate))
	out, err := fake.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := fake.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("fakeaws gave no endpoint: %w", err)
	}
	_, t.endpoint, _ = strings.Cut(strings.TrimSpace(line), "=")
	t.env = append(os.Environ(), "AWS_ENDPOINT_URL="+t.endpoint, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=fake", "AWS_SECRET_ACCESS_KEY=fake")
	return func() { _ = fake.Process.Kill(); _ = fake.Wait() }, nil
}

func (t *test) name(i int) string { return fmt.Sprintf("device-%d-%05d", t.runs, i+1) }

func (t *test) writeDevices() error {
	var b bytes.Buffer
	b.WriteString("ThingName,SerialNumber\n")
	for i := range t.devices {
		fmt.Fprintf(&b, "%s,%05d\n", t.name(i), i+1)
	}
	return os.WriteFile(t.path("devices.csv"), b.Bytes(), 0o600)
}

// setFaults makes some answers to Start get lost, after the effect and before it, and files take their time, so that a part
// that is being uploaded or reported on can be seen as such however fast the machine is.
func (t *test) setFaults(ctx context.Context) error {
	const rules = `[{"operation":"StartThingRegistrationTask","nth":2,"do":"drop-after"},
		{"operation":"StartThingRegistrationTask","nth":4,"do":"drop-before"},
		{"operation":"StartThingRegistrationTask","nth":6,"do":"drop-after"},
		{"operation":"PutObject","times":-1,"do":"delay","delay":"50ms"},
		{"operation":"GetObject","times":-1,"do":"delay","delay":"50ms"}]`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.endpoint+"/_fake/faults", strings.NewReader(rules))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("setting faults: %s", resp.Status)
	}
	return nil
}

// live runs the program once and kills it when it is in the step that was hit least. It reports whether the program ended by
// itself, with every device provisioned.
func (t *test) live(ctx context.Context) (done bool, err error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, t.path("bulkprovision"), "-backend", "aws", "-devices", t.path("devices.csv"), "-run", t.inRun(""),
		"-setup", "-bucket", "killtest", "-part", fmt.Sprint(t.part), "-settle", settle.String())
	cmd.Env, cmd.Stderr = t.env, &stderr
	if err := cmd.Start(); err != nil {
		return false, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return false, fmt.Errorf("the run failed: %w\n%s", err, stderr.Bytes())
			}
			return true, nil
		case <-look.C:
			if now := t.now(ctx); !now[t.target(now)] {
				continue
			}
			if err := cmd.Process.Kill(); err != nil {
				continue // it has just ended
			}
			if err := <-ended; err == nil {
				return true, nil
			}
			t.killed++
			for step := range t.now(ctx) {
				t.hits[step]++
			}
			return false, nil
		}
	}
}

// target is the step to aim at: of those that can still come, the one that was hit least; "" if there were enough kills.
func (t *test) target(now map[string]bool) string {
	switch {
	case t.over && t.hits["record"] >= aimed:
		return ""
	case t.over:
		return "record"
	case t.hits["spool"] < aimed && (len(now) == 0 || now["spool"]):
		return "spool"
	}
	least := "keys"
	for _, step := range steps {
		if step != "spool" && step != "record" && t.hits[step] < t.hits[least] {
			least = step
		}
	}
	if left := t.kills - t.killed - max(aimed-t.hits["record"], 0); left <= 0 && t.hits[least] > 0 {
		return ""
	}
	return least
}

// now tells which steps the run is in: several at once, for the next part is made while one is registered.
func (t *test) now(ctx context.Context) map[string]bool {
	ledger, err := sqliteledger.OpenReadOnly(ctx, t.inRun("fleet.db"), nil)
	if err != nil {
		return nil
	}
	defer func() { _ = ledger.Close() }()
	run, err := ledger.Run(ctx)
	if err != nil {
		return nil
	}
	parts, err := ledger.Parts(ctx)
	if err != nil {
		return nil
	}
	in := map[string]bool{}
	if hidden, err := filepath.Glob(t.inRun("devices/.unfinished-*")); err == nil && len(hidden) > 0 {
		in["keys"] = true
	}
	if _, err := os.Stat(t.inRun("run.json")); err != nil && !run.Finished.IsZero() {
		in["record"] = true
	}
	if !run.Spooled {
		in["spool"] = true
	}
	for _, p := range parts {
		if p.State != provision.PartCollected {
			in[string(p.State)] = true
		}
	}
	return in
}

// backend is the account, as the run sees it.
func (t *test) backend() (*awsbackend.Backend, error) {
	return awsbackend.New(aws.Config{
		Region: "us-east-1", BaseEndpoint: &t.endpoint,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "fake", SecretAccessKey: "fake"}, nil
		}),
	}, awsbackend.Options{Bucket: "killtest"})
}

// verifyDevices compares what the account holds of the latest run's devices with what is stored here.
func (t *test) verifyDevices(ctx context.Context, backend *awsbackend.Backend) error {
	keys, err := keystore.OpenFolder(t.inRun("devices"), &keystore.FolderOptions{Name: func(device string) string { return device }})
	if err != nil {
		return err
	}
	for i := range t.devices {
		id, err := t.verifyDevice(ctx, backend, keys, t.name(i))
		if err != nil {
			return fmt.Errorf("%s: %w", t.name(i), err)
		}
		t.used[id] = true
	}
	return nil
}

// verifyAccount checks that the account holds nothing else.
func (t *test) verifyAccount(ctx context.Context, backend *awsbackend.Backend) error {
	certificates := 0
	for c, err := range backend.ListCertificates(ctx, time.Time{}) {
		if err != nil {
			return err
		}
		if certificates++; !t.used[c.ID] {
			return fmt.Errorf("certificate %s belongs to no device", c.ID)
		}
	}
	files := map[string]task.ID{}
	for id, err := range task.List(ctx, backend, "") {
		if err != nil {
			return err
		}
		d, err := task.Attach(backend, id).Describe(ctx)
		if err != nil {
			return err
		}
		if other, ok := files[d.InputFileKey]; ok {
			return fmt.Errorf("tasks %s and %s registered the same part, %s", other, id, d.InputFileKey)
		}
		files[d.InputFileKey] = id
	}
	fmt.Printf("\n%d things with one active certificate each, for the key stored for it; %d certificates, no orphan; %d tasks for %d parts\n",
		len(t.used), certificates, len(files), t.runs*((t.devices+t.part-1)/t.part))
	return nil
}

func (t *test) verifyDevice(ctx context.Context, b *awsbackend.Backend, keys *keystore.Folder, name string) (id string, err error) {
	d, err := b.ReadDevice(ctx, name)
	if err != nil {
		return "", err
	}
	if len(d.Certificates) != 1 || d.Certificates[0].Status != "ACTIVE" {
		return "", fmt.Errorf("it has %d certificates", len(d.Certificates))
	}
	cert := d.Certificates[0]
	rec, err := keys.Get(ctx, name)
	if err != nil {
		return "", err
	}
	digest, err := csr.CertificateKeySHA256([]byte(cert.PEM))
	if err != nil {
		return "", err
	}
	stored, err := csr.PublicKeySHA256(rec.Key.Public())
	if err != nil {
		return "", err
	}
	file, err := os.ReadFile(filepath.Join(keys.Path(name), "certificate.pem"))
	if err != nil {
		return "", err
	}
	switch {
	case digest != stored:
		return "", errors.New("its certificate is not for the stored key")
	case string(file) != cert.PEM:
		return "", errors.New("certificate.pem is not the certificate of the account")
	}
	return cert.ID, nil
}
