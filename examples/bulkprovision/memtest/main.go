// Memtest shows that the memory of examples/bulkprovision does not grow with the fleet. Run it from the root of the
// module:
//
//	go run ./examples/bulkprovision/memtest [-devices 100000,1000000] [-limit 256] [-spread 10]
//
// For each number of devices it starts examples/fakeaws anew and provisions them over HTTP, with P-256 keys in a
// database and an SQLite ledger. It prints a line for each: how long it took, the processor time of the client and the
// most memory it had, how large ledger and key database became, and the most memory of the fake. It fails if a peak of
// the client is over the limit, or if the peaks differ by more than the spread.
//
// The fake keeps all it has in memory: some gigabytes for a million devices. The files, as much again, are in the
// system's folder for temporary files (TMPDIR), and are removed at the end.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type test struct {
	devices       []int
	limit, spread int
	dir           string
}

// result is what a run has taken; sizes are in bytes.
type result struct {
	wall, cpu                    time.Duration
	peak, ledger, keys, fakePeak int64
}

func main() {
	var t test
	numbers := flag.String("devices", "100000,1000000", "how many devices to provision, one `number` for each run")
	flag.IntVar(&t.limit, "limit", 256, "most memory the client may have, in `MiB`")
	flag.IntVar(&t.spread, "spread", 10, "by how many `percent` the peaks may differ")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := t.parse(*numbers)
	if err == nil {
		err = t.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "memtest:", err)
		os.Exit(1)
	}
}

func (t *test) parse(numbers string) error {
	for text := range strings.SplitSeq(numbers, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-devices has %q, which is not a number of devices; give for instance 5000,20000", text)
		}
		t.devices = append(t.devices, n)
	}
	return nil
}

func (t *test) run(ctx context.Context) (err error) {
	if t.dir, err = os.MkdirTemp("", "iotfleet-memtest-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(t.dir)) }()
	for _, program := range []string{"fakeaws", "bulkprovision"} {
		out, err := exec.CommandContext(ctx, "go", "build", "-o", t.path(program), "./examples/"+program).CombinedOutput()
		if err != nil {
			return fmt.Errorf("building %s: %w\n%s", program, err, out)
		}
	}
	fmt.Println("   devices       wall        cpu   peak MiB  ledger MB     keys MB  fake's peak MiB")
	var least, most int64
	for i, n := range t.devices {
		r, err := t.measure(ctx, n)
		if err != nil {
			return fmt.Errorf("%d devices: %w", n, err)
		}
		fmt.Printf("%10d %10s %10s %10.1f %10.1f %11.1f %16.1f\n", n, r.wall.Round(time.Second), r.cpu.Round(time.Second),
			mib(r.peak), float64(r.ledger)/1e6, float64(r.keys)/1e6, mib(r.fakePeak))
		if most = max(most, r.peak); i == 0 || r.peak < least {
			least = r.peak
		}
	}
	spread := 100 * float64(most-least) / float64(least)
	fmt.Printf("\nThe client had %.1f MiB at most; the peaks differ by %.1f %%.\n", mib(most), spread)
	if mib(most) > float64(t.limit) || spread > float64(t.spread) {
		return fmt.Errorf("a peak may be %d MiB, and the peaks may differ by %d %%", t.limit, t.spread)
	}
	return nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func (t *test) path(name string) string { return filepath.Join(t.dir, name) }

// measure provisions n devices on a fake of their own.
func (t *test) measure(ctx context.Context, n int) (r result, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(t.path("run"))) }()
	fake, endpoint, err := t.startFake(ctx)
	if err != nil {
		return r, err
	}
	if err = t.provision(ctx, endpoint, n, &r); err == nil {
		r.ledger, err = size(t.path("run/fleet.db"))
	}
	if err == nil {
		r.keys, err = size(t.path("run/keys.db"))
	}
	_ = fake.Process.Kill()
	_ = fake.Wait() // it says that it was killed
	if err == nil {
		r.fakePeak, err = peak(fake.ProcessState)
	}
	return r, err
}

// startFake starts the fake and reads its endpoint from its first line.
func (t *test) startFake(ctx context.Context) (fake *exec.Cmd, endpoint string, err error) {
	fake = exec.CommandContext(ctx, t.path("fakeaws"), "-addr", "127.0.0.1:0")
	out, err := fake.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := fake.Start(); err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("fakeaws gave no endpoint: %w", err), fake.Wait())
	}
	_, endpoint, _ = strings.Cut(strings.TrimSpace(line), "=")
	return fake, endpoint, nil
}

// provision runs the client, which reads the devices as they are written. Its progress goes to standard error.
func (t *test) provision(ctx context.Context, endpoint string, n int, r *result) error {
	client := exec.CommandContext(ctx, t.path("bulkprovision"), "-backend", "aws", "-setup", "-bucket", "memtest",
		"-devices", "-", "-keys", "database", "-run", t.path("run"))
	client.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+endpoint, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=fake", "AWS_SECRET_ACCESS_KEY=fake")
	client.Stderr = os.Stderr
	input, err := client.StdinPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := client.Start(); err != nil {
		return err
	}
	err = writeDevices(input, n)
	if failed := client.Wait(); failed != nil {
		return fmt.Errorf("bulkprovision: %w", failed)
	}
	if err != nil {
		return fmt.Errorf("writing the devices: %w", err)
	}
	r.wall, r.cpu = time.Since(began), client.ProcessState.UserTime()+client.ProcessState.SystemTime()
	r.peak, err = peak(client.ProcessState)
	return err
}

func writeDevices(to io.WriteCloser, n int) error {
	w := bufio.NewWriter(to)
	_, err := w.WriteString("ThingName,SerialNumber\n")
	for i := 1; i <= n && err == nil; i++ {
		_, err = fmt.Fprintf(w, "device-%08d,%08d\n", i, i)
	}
	return errors.Join(err, w.Flush(), to.Close())
}

func size(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
