// Command fakeaws serves a fake AWS account on a port: IoT, S3, IAM and STS, as far as registering things in bulk needs
// them. Its first line of output is what to give the AWS CLI, boto3 or any SDK:
//
//	$ go run ./examples/fakeaws -addr 127.0.0.1:4566
//	AWS_ENDPOINT_URL=http://127.0.0.1:4566
//
// With -mqtt it also listens for devices, over MQTT and HTTPS with client certificates, and a second line has where:
//
//	MQTT_ENDPOINT=localhost:8883
//
// The root that devices are to trust is at /_fake/root.pem. With -hook a program of yours plays the Lambda function of a
// pre-provisioning hook.
//
// Any access key is taken. Certificates made here are real ones, from a CA that no device trusts; its certificate is at
// /_fake/ca.pem. It serves until it is interrupted, and keeps nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fakeaws:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("fakeaws", flag.ExitOnError)
	addr := flags.String("addr", "127.0.0.1:4566", "`address` to listen on; port 0 picks a free one")
	region := flags.String("region", "us-east-1", "the account's region; requests signed for another are refused")
	account := flags.String("account", "123456789012", "the account's `number`, 12 digits")
	rate := flags.Float64("rate", 0, "`lines` a second that a task registers; 0 for all at once")
	delay := flags.Duration("delay", 0, "`time` a task is in progress before its first line")
	seed := flags.String("seed", "", "`text` that ids, keys and certificates follow from; random if empty")
	rsa := flags.Bool("rsa", false, "sign with RSA-2048, as AWS does, instead of P-256")
	key := flags.String("key", "", "check signatures against this one access key, `id:secret`")
	skew := flags.Duration("skew", 0, "how far the `clock` that signatures are checked by, with -key, is ahead of this machine's")
	var hosts []string
	flags.Func("control-host", "`name` with dots under which /_fake may be asked, besides IP addresses, localhost, and names without a dot or below .internal and .test; may be repeated", func(name string) error {
		hosts = append(hosts, name)
		return nil
	})
	mqtt := flags.String("mqtt", "", "`address` to listen on for devices; port 0 picks a free one; none if empty")
	var deviceHosts []string
	flags.Func("mqtt-host", "`name` by which devices reach -mqtt, instead of localhost; may be repeated", func(name string) error {
		deviceHosts = append(deviceHosts, name)
		return nil
	})
	hooks := map[string]fakebackend.ProvisioningHook{}
	flags.Func("hook", "`ARN=URL`: the program at URL plays the Lambda function with that ARN, as the pre-provisioning hook of a template; may be repeated", func(text string) error {
		arn, url, ok := strings.Cut(text, "=")
		if !ok || !strings.HasPrefix(arn, "arn:") || !strings.HasPrefix(url, "http") {
			return errors.New("it must have the form ARN=URL")
		}
		hooks[arn] = fakebackend.HTTPHook(nil, url)
		return nil
	})
	verbose := flags.Bool("v", false, "log every request to standard error")
	_ = flags.Parse(args) // it exits on an error
	if flags.NArg() > 0 {
		return fmt.Errorf("there is no argument %q; -help lists the flags", flags.Arg(0))
	}

	// No bucket that nobody made: a new account of AWS has none.
	options := fakebackend.Options{Region: *region, Account: *account, Rate: *rate, StartDelay: *delay, NoBucket: true, Hooks: hooks}
	if *seed != "" {
		options.Seed = []byte(*seed)
	}
	if *rsa {
		options.IssuerKey = fakebackend.RSA2048
	}
	backend, err := fakebackend.New(options)
	if err != nil {
		return err
	}
	wire, err := wireOptions(*key, *skew, *verbose)
	if err != nil {
		return err
	}
	wire.ControlHosts = hosts
	server := fakeaws.NewUnstartedServer(backend, wire)
	if server.Listener, err = net.Listen("tcp", *addr); err != nil {
		return fmt.Errorf("listen on %s: %w", *addr, err)
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Close()
	lines := "AWS_ENDPOINT_URL=" + server.URL + "\n"
	if *mqtt != "" {
		gateway := fakegateway.NewUnstartedServer(backend, fakegateway.Options{Hosts: deviceHosts})
		defer gateway.Close()
		if gateway.Listener, err = net.Listen("tcp", *mqtt); err != nil {
			return fmt.Errorf("listen for devices on %s: %w", *mqtt, err)
		}
		if err := gateway.Start(); err != nil {
			return err
		}
		lines += "MQTT_ENDPOINT=" + gateway.Endpoint + "\n"
	}
	fmt.Print(lines)
	fmt.Printf("fake AWS account %s in %s; the CA of its certificates: %[3]s/_fake/ca.pem\n", *account, *region, server.URL)
	if *mqtt != "" {
		fmt.Printf("devices trust the root %[1]s/_fake/root.pem; why one was refused: %[1]s/_fake/events\n", server.URL)
	}
	<-ctx.Done()
	return nil
}

func wireOptions(key string, skew time.Duration, verbose bool) (fakeaws.Options, error) {
	options := fakeaws.Options{ClockSkew: skew}
	if key != "" {
		id, secret, ok := strings.Cut(key, ":")
		if !ok || id == "" || secret == "" {
			return options, errors.New("-key must have the form id:secret")
		}
		options.Credentials = map[string]string{id: secret}
	}
	if verbose {
		options.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return options, nil
}
