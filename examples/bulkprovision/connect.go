package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/examples/device/connect"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// trials are the devices that -connect tried.
type trials struct {
	Tried     int            `json:"tried"`
	Connected int            `json:"connected"`
	Refused   []refusedTrial `json:"refused"`
}

// refusedTrial is a device that did not say hello, or got no answer.
type refusedTrial struct {
	Name    string `json:"name"`
	Step    string `json:"step"`              // how far it came: files, reach, trust, connect, subscribe, publish, answer
	Text    string `json:"text"`              // what happened
	Account string `json:"account,omitempty"` // why, by the account
	Advice  string `json:"advice,omitempty"`  // what to look at
	result  *provision.Result
}

// errNotConnected is that a device of -connect was refused.
var errNotConnected = errors.New("devices do not connect")

const (
	triedAtOnce = 8
	askedAbout  = 3 // refused devices about which the account is asked: the others are mostly refused for the same
	jitAttempts = 4 // the first connection is refused by design, and the account takes a moment
)

// tryDevices lets some devices of the run connect and say hello, evenly from its first to its last. The error is
// errNotConnected if one of them does not.
func (o *options) tryDevices(ctx context.Context, b task.Backend, k *keys, job *provision.Run) (*trials, error) {
	devices, err := pick(job.Results(ctx), o.connect)
	if err != nil {
		return nil, err
	}
	opts := connect.Options{Endpoint: cmp.Or(o.mqtt, os.Getenv("MQTT_ENDPOINT")), Topic: o.topic, Attempts: 1}
	if o.own.mode == "jit" {
		opts.Attempts = jitAttempts
	}
	fake, inProcess := task.As[*fakebackend.Backend](b)
	if inProcess {
		gateway := fakegateway.NewUnstartedServer(fake, fakegateway.Options{})
		defer gateway.Close()
		opts.Endpoint = "localhost:8883" // a name for the handshake; no port is opened
		opts.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return gateway.Dial(ctx) }
	}
	out := &trials{Tried: len(devices), Refused: []refusedTrial{}}
	failures := make([]error, len(devices))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(triedAtOnce)
	for i, d := range devices {
		group.Go(func() error {
			failures[i] = o.try(groupCtx, b, k, d, opts)
			return context.Cause(groupCtx)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, err := range failures {
		if err == nil {
			out.Connected++
			continue
		}
		t := refusedTrial{Name: devices[i].Name, Step: connect.StepFiles, Text: err.Error(), result: devices[i]}
		if r, ok := errors.AsType[*connect.Refusal](err); ok {
			t.Step, t.Text, t.Advice = r.Step, r.Text, r.Advice
		}
		switch {
		case slices.Contains([]string{connect.StepFiles, connect.StepReach, connect.StepTrust}, t.Step): // the account has not seen it
		case inProcess:
			t.Account = lastRefusal(fake, t.Name)
		case len(out.Refused) < askedAbout:
			t.Account = o.mayNot(ctx, b, &t)
		}
		out.Refused = append(out.Refused, t)
	}
	switch {
	case out.Tried == 0:
		return out, fmt.Errorf("%w: none has a certificate to connect with", errNotConnected)
	case out.Connected < out.Tried:
		return out, fmt.Errorf("%w: %d of %d did", errNotConnected, out.Connected, out.Tried)
	}
	return out, nil
}

// pick returns n devices that can connect, evenly from the first to the last.
func pick(results iter.Seq2[*provision.Result, error], n int) ([]*provision.Result, error) {
	var kept []*provision.Result // every stride-th that is provisioned, fewer than 2n
	seen, stride := 0, 1
	for r, err := range results {
		if err != nil {
			return nil, err
		}
		if r.Verdict != provision.Provisioned && r.Verdict != provision.Issued {
			continue
		}
		if seen%stride == 0 {
			kept = append(kept, r)
		}
		seen++
		if len(kept) == 2*n {
			for i := range n {
				kept[i] = kept[2*i]
			}
			kept, stride = kept[:n], 2*stride
		}
	}
	if len(kept) <= n {
		return kept, nil
	}
	out := make([]*provision.Result, n)
	for i := range out {
		out[i] = kept[i*len(kept)/n]
	}
	return out, nil
}

// try lets one device say hello, with what is in its folder, or in ledger and key database.
func (o *options) try(ctx context.Context, b task.Backend, k *keys, r *provision.Result, opts connect.Options) error {
	if folder, ok := k.Store.(*keystore.Folder); ok {
		device, err := connect.Load(folder.Path(r.Name))
		if err != nil {
			return err
		}
		return device.Hello(ctx, opts)
	}
	rec, err := k.Get(ctx, r.Name)
	if err != nil {
		return err
	}
	key, err := rec.Key.PEM()
	if err != nil {
		return err
	}
	thing := connect.Thing{ThingName: r.Name, ClientID: r.Name, ThingARN: r.ThingARN, CertificateARN: r.CertificateARN, CertificateID: r.CertificateID}
	var roots []byte
	if e, ok := task.As[task.Endpointer](b); ok {
		if thing.Endpoint, err = e.DataEndpoint(ctx); err != nil {
			return err
		}
	}
	if l, ok := task.As[task.RootLister](b); ok {
		if roots, err = l.RootCAs(ctx, thing.Endpoint); err != nil {
			return err
		}
	}
	certificate := r.CertificatePEM
	if o.own.ca != nil { // a first connection shows the CA, too
		certificate += o.own.ca.PEM()
	}
	device, err := connect.New(thing, []byte(certificate), key, roots)
	if err != nil {
		return err
	}
	return device.Hello(ctx, opts)
}

// lastRefusal returns why the fake has last refused something to a client, or not provisioned it at its first connection; ""
// if it has not.
func lastRefusal(fake *fakebackend.Backend, clientID string) (why string) {
	kept, cancel := context.WithCancel(context.Background())
	cancel() // only those kept
	for e := range fake.Events(kept) {
		switch e.Kind {
		case fakebackend.EventRefused, fakebackend.EventRegistered, fakebackend.EventFailed:
			if e.ClientID == clientID {
				why = e.Text
			}
		}
	}
	return why
}

// mayNot returns why the account refuses a device, by its certificate, or by template and policies; "" if they do not tell.
func (o *options) mayNot(ctx context.Context, b task.Backend, t *refusedTrial) string {
	if lister, ok := task.As[task.CertificateLister](b); ok && t.Step == connect.StepConnect {
		c, err := lister.ReadCertificate(ctx, t.result.CertificateID)
		if err == nil && c.Status != "ACTIVE" {
			why := "its certificate is " + c.Status
			if c.Status == "PENDING_ACTIVATION" {
				why += "; a rule of yours, or somebody, has to activate it"
			}
			return why
		}
	}
	if o.own.mode == "jit" { // no policy of the run's template is on it
		return ""
	}
	action := map[string]string{
		connect.StepConnect: "Connect", connect.StepSubscribe: "Subscribe", connect.StepPublish: "Publish", connect.StepAnswer: "Receive",
	}[t.Step]
	question := strings.ToLower(action)
	switch action {
	case "":
		return ""
	case "Connect":
	default:
		question += ":" + o.topicOf(t.Name)
	}
	opts := provision.Options{Backend: b, RoleARN: o.roleARN, Existing: provision.UncheckedExisting, SkipPreflight: true, May: []string{question}}
	var err error
	if opts.Template, err = o.loadTemplate(); err != nil {
		return ""
	}
	if _, err := o.setCredential(&opts); err != nil {
		return ""
	}
	o.list.options(&opts)
	job, err := provision.New(opts)
	if err != nil {
		return ""
	}
	report, err := job.Check(ctx, provision.Devices(provision.Device{Row: t.result.Row, Meta: t.result.Meta}))
	if err != nil || report.May == nil {
		return ""
	}
	for _, d := range report.May.Devices {
		for i, a := range d.Answers {
			if a.Decision != template.Allowed && (report.May.Questions[i].Question == question || len(d.Answers) == 1) {
				return "iot:" + action + ": " + a.Why
			}
		}
	}
	return ""
}

// topicOf is the topic that a device says hello on.
func (o *options) topicOf(thing string) string { return connect.Options{Topic: o.topic}.TopicOf(thing) }

// print writes the outcome for people.
func (t *trials) print() {
	if t.Tried == 0 {
		fmt.Println("no device has a certificate to connect with")
		return
	}
	fmt.Printf("%d of %d connected and said hello\n", t.Connected, t.Tried)
	for i, r := range t.Refused {
		why := ""
		if r.Account != "" {
			why = "; the account: " + r.Account
		}
		fmt.Printf("  %s\n", finding.Visible(fmt.Sprintf("%s: %s: %s%s", r.Name, r.Step, r.Text, why)))
		if i == 0 && r.Account == "" && r.Advice != "" {
			fmt.Printf("    %s\n", visible(r.Advice))
		}
	}
}
