// Device is one device that connects to AWS IoT with what a run has put into its folder, says hello, waits for the answer,
// and explains what went wrong:
//
//	go run ./examples/device devices/pump-1
//
// It connects to the endpoint of thing.json on port 8883, or to -endpoint HOST:PORT or MQTT_ENDPOINT, such as that of
// examples/fakeaws -mqtt. The answer is its own message, to which it has subscribed. What a device does is in
// connect/connect.go, one file to start from.
//
// The exit code is 0 when the answer came, 1 when its files do not do, 2 for a flag that does not exist, 3 when the endpoint
// was not reached or is not the one that root-ca.pem is for, 4 when AWS IoT refused the connection, 5 when it refused to
// subscribe or publish, or nothing came back. (go run exits with 1 for each of them; build the program to see its own.)
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/seed1ff6f450/iotfleet/examples/device/connect"
)

func main() {
	var o connect.Options
	flag.StringVar(&o.Endpoint, "endpoint", os.Getenv("MQTT_ENDPOINT"), "`host:port` to connect to, in place of thing.json's endpoint on port 8883")
	flag.BoolVar(&o.ALPN, "alpn", false, "MQTT on port 443, for networks that block 8883")
	flag.StringVar(&o.Topic, "topic", "devices/{thing}/hello", "`topic` to say hello on; {thing} is the thing's name")
	flag.StringVar(&o.Message, "message", "", "`text` to say; \"hello from\" and the client id if empty")
	flag.DurationVar(&o.Timeout, "timeout", 15*time.Second, "how long each step may take")
	flag.IntVar(&o.Attempts, "attempts", 1, "`connections` to try while they are refused; with just-in-time registration the first one is")
	client := flag.String("client-id", "", "`client id` to connect as, in place of thing.json's")
	flag.Parse()
	o.Progress = func(text string) { fmt.Println(text) }

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, *client, o)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "device:", err)
	refusal, ok := errors.AsType[*connect.Refusal](err)
	if !ok {
		os.Exit(1)
	}
	if refusal.Advice != "" {
		fmt.Fprintln(os.Stderr, "  "+strings.ReplaceAll(refusal.Advice, "\n", "\n  "))
	}
	code, ok := map[string]int{connect.StepFiles: 1, connect.StepReach: 3, connect.StepTrust: 3, connect.StepConnect: 4}[refusal.Step]
	if !ok {
		code = 5
	}
	os.Exit(code)
}

func run(ctx context.Context, client string, o connect.Options) error {
	switch {
	case flag.NArg() > 1 && strings.HasPrefix(flag.Arg(1), "-"):
		return fmt.Errorf("%s comes after the folder: flags go before it", flag.Arg(1))
	case flag.NArg() != 1:
		return errors.New("give the folder of one device, devices/<thing>; -help lists the flags")
	}
	device, err := connect.Load(flag.Arg(0))
	if err != nil {
		return err
	}
	if client != "" {
		device.ClientID = client
	}
	return device.Hello(ctx, o)
}
