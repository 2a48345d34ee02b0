package provision_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// fakeAccount is the account that the fake plays.
const fakeAccount = "123456789012"

// misread changes what is read back of every device.
type misread struct {
	task.Backend
	change func(*task.Device)
}

func (m misread) Unwrap() task.Backend { return m.Backend }

func (m misread) ReadDevice(ctx context.Context, name string) (*task.Device, error) {
	reader, _ := task.As[task.DeviceReader](m.Backend)
	d, err := reader.ReadDevice(ctx, name)
	if err == nil {
		m.change(d)
	}
	return d, err
}

// responses edits what a report of results has of each line: its certificate and its ARNs.
func responses(edit func(res, arns map[string]any)) func([]string) []string {
	return reportLines(func(m map[string]any) {
		if res, ok := m["response"].(map[string]any); ok {
			edit(res, res["ResourceArns"].(map[string]any))
		}
	})
}

func elsewhere(arns map[string]any, resource string) {
	arns[resource] = strings.Replace(arns[resource].(string), ":"+fakeAccount+":", ":999999999999:", 1)
}

func TestWhatAReportHoldsWrongIsReadBackFromTheAccount(t *testing.T) {
	last := ""
	for name, edit := range map[string]func(res, arns map[string]any){
		"the ARN of another device's certificate": func(_, arns map[string]any) {
			if last == "" {
				last = arns["certificate"].(string)
			}
			arns["certificate"] = last
		},
		"a certificate's ARN of another account": func(_, arns map[string]any) { elsewhere(arns, "certificate") },
		"a thing's ARN of another account":       func(_, arns map[string]any) { elsewhere(arns, "thing") },
		"the ARN of another thing":               func(_, arns map[string]any) { arns["thing"] = arns["thing"].(string) + "-2" },
		"the ARN of another device's thing": func(_, arns map[string]any) {
			arns["thing"] = strings.TrimRight(arns["thing"].(string), "123") + "2"
		},
		"a certificate's ARN of another partition": func(_, arns map[string]any) {
			arns["certificate"] = strings.Replace(arns["certificate"].(string), "arn:aws:", "arn:aws-cn:", 1)
		},
		"text inside the PEM": func(res, _ map[string]any) {
			res["CertificatePem"] = strings.Replace(res["CertificatePem"].(string), "-----\n", "-----\nhello!\n", 1)
		},
		"text around the PEM": func(res, _ map[string]any) {
			res["CertificatePem"] = "bag\n" + res["CertificatePem"].(string) + "\x1b[2J"
		},
	} {
		t.Run(name, func(t *testing.T) {
			last = ""
			w := newWorld(t, fakebackend.Options{})
			w.opts.Backend = shuffled{w.fake, responses(edit)}
			run := w.run(t)
			summary, err := run.Run(t.Context(), rows(3))
			require.NoError(t, err)
			w.requireWorking(t, results(t, run))
			assert.Zero(t, summary.Orphans, "nobody's certificate is taken for one to remove")
		})
	}
}

func TestWhatTheAccountHoldsWrongIsReportedAndNeverHandedOver(t *testing.T) {
	for name, change := range map[string]func(*task.Device){
		"a certificate that is damaged": func(d *task.Device) {
			d.Certificates[0].PEM = strings.Replace(d.Certificates[0].PEM, "-----\n", "-----\nhello!\n", 1)
		},
		"a certificate of another account": func(d *task.Device) {
			d.Certificates[0].ARN = strings.Replace(d.Certificates[0].ARN, fakeAccount, "999999999999", 1)
		},
		"a thing of another account": func(d *task.Device) {
			d.ThingARN = strings.Replace(d.ThingARN, fakeAccount, "999999999999", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.durable(t)
			w.opts.Backend = misread{shuffled{w.fake, responses(func(_, arns map[string]any) { elsewhere(arns, "certificate") })}, change}
			run := w.incomplete(t, rows(1))
			r := results(t, run)[0]
			assert.Equal(t, []any{provision.Failed, provision.CauseCertificate}, []any{r.Verdict, r.Cause})
			assert.Contains(t, r.Message, "read back from the account")
			assert.Empty(t, w.handedOver(t, r.Name))

			res, err := run.Register(t.Context(), provision.Device{Row: r.Row})
			require.Error(t, err, "a second certificate would not mend the first one")
			assert.Equal(t, provision.CauseCertificate, res.Cause)
			dev, err := w.fake.ReadDevice(t.Context(), r.Name)
			require.NoError(t, err)
			assert.Len(t, dev.Certificates, 1)
		})
	}
}

// misanswering changes what RegisterThing answers.
type misanswering struct {
	task.Backend
	change func(*task.Registration)
}

func (m misanswering) Unwrap() task.Backend { return m.Backend }

func (m misanswering) RegisterThing(ctx context.Context, in *task.RegisterInput) (*task.Registration, error) {
	registrar, _ := task.As[task.Registrar](m.Backend)
	reg, err := registrar.RegisterThing(ctx, in)
	if err == nil {
		m.change(reg)
	}
	return reg, err
}

func TestAWrongAnswerToRegisterThingIsReadBackFromTheAccount(t *testing.T) {
	for name, change := range map[string]func(*task.Registration){
		"another account": func(r *task.Registration) {
			for k, arn := range r.ARNs {
				r.ARNs[k] = strings.Replace(arn, fakeAccount, "999999999999", 1)
			}
		},
		"a damaged certificate": func(r *task.Registration) {
			r.CertificatePEM = strings.Replace(r.CertificatePEM, "-----\n", "-----\nhello!\n", 1)
		},
		"no members": func(r *task.Registration) { *r = task.Registration{} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.durable(t)
			w.opts.Backend = misanswering{w.fake, change}
			run := w.complete(t, rows(1))
			device := provision.Device{Row: map[string]string{"ThingName": "late", "SerialNumber": "9"}}
			r, err := run.Register(t.Context(), device)
			require.NoError(t, err)
			w.requireWorking(t, []*provision.Result{r})
		})
	}
}

// damage changes what the ledger has of the first device.
func damage(t *testing.T, l provision.Ledger, change func(*provision.DeviceRecord)) {
	t.Helper()
	for d, err := range l.Devices(t.Context(), provision.DeviceFilter{Limit: 1}) {
		require.NoError(t, err)
		change(d)
		require.NoError(t, l.Apply(t.Context(), provision.Change{Devices: []*provision.DeviceRecord{d}}))
	}
}

func flip(d *provision.DeviceRecord) {
	i := len(d.CertificatePEM) / 2
	c := byte('A')
	if d.CertificatePEM[i] == c {
		c = 'B'
	}
	d.CertificatePEM = d.CertificatePEM[:i] + string(c) + d.CertificatePEM[i+1:]
}

func TestACertificateThatIsDamagedInTheLedgerIsReadBackBeforeItGoesOutAgain(t *testing.T) {
	for name, change := range map[string]func(*provision.DeviceRecord){
		"a bit of the certificate": flip,
		"no certificate":           func(d *provision.DeviceRecord) { d.CertificatePEM = "" },
		"text before it":           func(d *provision.DeviceRecord) { d.CertificatePEM = "x\n" + d.CertificatePEM },
		"its id":                   func(d *provision.DeviceRecord) { d.CertificateID = strings.Repeat("0", 64) },
		"its ARN": func(d *provision.DeviceRecord) {
			d.CertificateARN = strings.Replace(d.CertificateARN, fakeAccount, "999999999999", 1)
		},
		"its thing's ARN": func(d *provision.DeviceRecord) { d.ThingARN += "2" },
	} {
		for call, do := range map[string]func(*testing.T, *world, *provision.Run){
			"Run": func(t *testing.T, w *world, run *provision.Run) {
				_, err := run.Run(t.Context(), nil)
				require.NoError(t, err)
			},
			"Deliver": func(t *testing.T, w *world, run *provision.Run) {
				out := &memoryOutput{}
				n, err := run.Deliver(t.Context(), out)
				require.NoError(t, err)
				assert.EqualValues(t, 2, n)
				assert.Len(t, out.durable, 2)
			},
			"Register": func(t *testing.T, w *world, run *provision.Run) {
				_, err := run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "device-1", "SerialNumber": "001"}})
				require.NoError(t, err)
			},
		} {
			t.Run(name+", "+call, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.durable(t)
				run := w.complete(t, rows(2))
				damage(t, w.opts.Ledger, change)
				seen := results(t, run)[0]
				if name != "text before it" {
					assert.Equal(t, provision.Unknown, seen.Verdict)
					assert.Contains(t, seen.Message, "the ledger's copy")
					assert.Empty(t, seen.CertificatePEM)
				}
				do(t, w, w.run(t))
				w.requireWorking(t, results(t, run))
			})
		}
	}
}

func TestADamagedCopyThatNobodyCanReadBackIsNotHandedOver(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.complete(t, rows(2))
	damage(t, w.opts.Ledger, flip)
	w.opts.Backend = misread{w.fake, func(d *task.Device) { flip2(&d.Certificates[0]) }}
	out := &memoryOutput{}
	n, err := w.run(t).Deliver(t.Context(), out)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.ErrorContains(t, err, "device-1")
	assert.EqualValues(t, 1, n)
	assert.NotContains(t, out.durable, "device-1")
	r := results(t, w.run(t))[0]
	assert.Equal(t, provision.CauseCertificate, r.Cause)
}

func flip2(c *task.Certificate) {
	d := provision.DeviceRecord{}
	d.CertificatePEM = c.PEM
	flip(&d)
	c.PEM = d.CertificatePEM
}

// endpoints names one data endpoint after the other.
type endpoints struct {
	task.Backend
	hosts []string
	asked int
}

func (e *endpoints) Unwrap() task.Backend { return e.Backend }

func (e *endpoints) DataEndpoint(context.Context) (string, error) {
	host := e.hosts[min(e.asked, len(e.hosts)-1)]
	e.asked++
	return host, nil
}

func TestAnEndpointThatIsNoHostNameIsAskedForOnceMoreAndThenRefused(t *testing.T) {
	const bad, good = "a1-ats.iot.example.com\n\x1b[2J3 of 3 devices provisioned", "a1-ats.iot.example.com"
	w := newWorld(t, fakebackend.Options{})
	w.opts.Backend = &endpoints{Backend: w.fake, hosts: []string{bad, good}}
	w.complete(t, rows(1))
	assert.Equal(t, good, w.out.durable["device-1"].Endpoint)

	w = newWorld(t, fakebackend.Options{})
	w.opts.Backend = &endpoints{Backend: w.fake, hosts: []string{bad}}
	_, err := w.run(t).Run(t.Context(), rows(1))
	require.ErrorContains(t, err, "is no host name")
	text, _ := json.Marshal(err.Error())
	assert.NotContains(t, string(text), `\u001b`, "and the text is safe to print")
	assert.Empty(t, w.out.durable)
}
