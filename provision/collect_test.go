package provision_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// reportLines edits the lines of a report as JSON; which report it is can be told from their members.
func reportLines(edit func(line map[string]any)) func([]string) []string {
	return func(lines []string) []string {
		for i, l := range lines {
			var m map[string]any
			if json.Unmarshal([]byte(l), &m) != nil {
				continue
			}
			edit(m)
			text, err := json.Marshal(m)
			if err != nil {
				panic(err)
			}
			lines[i] = string(text) + "\n"
		}
		return lines
	}
}

// typedWorld knows the type "known"; devices of other types fail.
func typedWorld(t *testing.T, opts fakebackend.Options) *world {
	t.Helper()
	return newWorld(t, opts).withType(t)
}

func (w *world) withType(t *testing.T) *world {
	t.Helper()
	_, err := awsIoT(w.fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: new("known")})
	require.NoError(t, err)
	w.opts.Template = typed(t)
	return w
}

func TestErrorLinesFindTheirDevicesHoweverTheServiceCounts(t *testing.T) {
	devices := provision.Devices(ofType("a", "gone-a"), ofType("b", "known"), ofType("c", "gone-c"), ofType("d", "known"), ofType("e", "gone-e"))
	number := func(by float64, results bool) func(map[string]any) {
		return func(m map[string]any) {
			_, isResult := m["response"]
			switch {
			case isResult && !results:
				delete(m, "lineNumber")
			default:
				m["lineNumber"] = m["lineNumber"].(float64) + by
			}
		}
	}
	for name, c := range map[string]struct {
		edit   func(map[string]any)
		proved bool
	}{
		"from 1":                                   {number(0, true), true},
		"from 0":                                   {number(-1, true), true},
		"from 1, results without numbers":          {number(0, false), true},
		"from 0, results without numbers":          {number(-1, false), true},
		"from 7, which no service would":           {number(6, true), false},
		"the numbers of the report's own lines":    {ordinal(), false},
		"errors from 0, results from 1":            {func(m map[string]any) { number(offBy(m), true)(m) }, false},
		"every line is called line 2, results too": {func(m map[string]any) { m["lineNumber"] = 2 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := typedWorld(t, fakebackend.Options{})
			w.opts.Backend = blind{shuffled{w.fake, reportLines(c.edit)}}
			run := w.run(t)
			summary, err := run.Run(t.Context(), devices)
			require.ErrorIs(t, err, provision.ErrIncomplete)
			assert.EqualValues(t, 2, summary.Provisioned)
			for _, r := range results(t, run) {
				switch {
				case r.Name == "b" || r.Name == "d":
					assert.Equal(t, provision.Provisioned, r.Verdict)
				case c.proved:
					assert.Equal(t, provision.CauseTypeMissing, r.Cause, r.Message)
					assert.Contains(t, r.Message, "gone-"+r.Name, "each gets the text of its own line")
				default:
					assert.Equal(t, provision.Unknown, r.Verdict, "nobody can tell whose text is whose")
				}
			}
		})
	}
}

// ordinal numbers the lines of each report by themselves.
func ordinal() func(map[string]any) {
	n, inErrors := 0, false
	return func(m map[string]any) {
		if _, isResult := m["response"]; isResult == inErrors {
			n, inErrors = 0, !isResult
		}
		n++
		m["lineNumber"] = n
	}
}

func offBy(m map[string]any) float64 {
	if _, isResult := m["response"]; isResult {
		return 0
	}
	return -1
}

func TestACertificateForAnotherKeyIsNeverDelivered(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	foreign, err := awsIoT(w.fake).CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	w.opts.Backend = shuffled{w.fake, reportLines(func(m map[string]any) {
		res, ok := m["response"].(map[string]any)
		if ok && strings.HasSuffix(res["ResourceArns"].(map[string]any)["thing"].(string), "/device-2") {
			res["CertificatePem"] = *foreign.CertificatePem
			res["ResourceArns"].(map[string]any)["certificate"] = *foreign.CertificateArn
		}
	})}
	run := w.incomplete(t, rows(3))
	all := results(t, run)
	w.requireWorking(t, []*provision.Result{all[0], all[2]})
	assert.Equal(t, provision.CauseCertificate, all[1].Cause)
	assert.Contains(t, all[1].Message, "another public key")
	assert.Contains(t, all[1].Message, *foreign.CertificateId)
	assert.Empty(t, all[1].CertificatePEM)
	assert.Empty(t, w.handedOver(t, "device-2"))
	orphans, err := w.opts.Ledger.Orphans(t.Context())
	require.NoError(t, err)
	require.Len(t, orphans, 2, "the one in the report, and the one that was issued for the device's key")
	assert.Equal(t, *foreign.CertificateId, orphans[0].CertificateID)
	for _, o := range orphans {
		assert.Equal(t, "device-2", o.Name)
	}
}

func TestASecondCertificateOfADeviceIsReportedAsAnOrphan(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	// The service has registered device-1 twice, and says so.
	w.opts.Backend = &doubled{Backend: w.fake, t: t}
	run := w.run(t)
	summary, err := run.Run(t.Context(), rows(3))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Orphans)
	assert.Contains(t, summary.String(), "1 certificate that no device uses")
	all := results(t, run)
	orphans, err := w.opts.Ledger.Orphans(t.Context())
	require.NoError(t, err)
	require.Len(t, orphans, 1)
	assert.Equal(t, "device-1", orphans[0].Name)
	assert.NotEqual(t, all[0].CertificateID, orphans[0].CertificateID)
	w.opts.Backend = w.fake
	n, err := w.run(t).RemoveOrphans(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	w.requireWorking(t, all)
}

func TestAReportOfErrorsThatRepeatsItsLinesDoesNotStopTheRun(t *testing.T) {
	w := typedWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Backend = shuffled{w.fake, func(lines []string) []string {
		if strings.Contains(lines[0], "response") {
			return lines
		}
		lines[len(lines)-1] = strings.TrimSuffix(lines[len(lines)-1], "\n") + "\n"
		return append(lines, lines...)
	}}
	run := w.incomplete(t, provision.Devices(ofType("a", "gone-a"), ofType("b", "known"), ofType("c", "gone-c")))
	all := results(t, run)
	assert.Contains(t, all[0].Message, "gone-a")
	w.requireWorking(t, all[1:2])
	assert.Contains(t, all[2].Message, "gone-c")
}

// doubled registers the first device of a task once more, and adds the line to the report.
type doubled struct {
	task.Backend
	t     *testing.T
	row   map[string]string
	body  string
	extra string
}

func (d *doubled) Unwrap() task.Backend { return d.Backend }

func (d *doubled) Upload(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
	d.row = map[string]string{}
	if err := json.NewDecoder(in.Body).Decode(&d.row); err != nil {
		return nil, err
	}
	if _, err := in.Body.Seek(0, 0); err != nil {
		return nil, err
	}
	return d.Backend.Upload(ctx, in)
}

func (d *doubled) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	d.body = in.TemplateBody
	return d.Backend.StartTask(ctx, in)
}

func (d *doubled) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	desc, err := d.Backend.DescribeTask(ctx, id)
	if err != nil || !desc.Status.Done() {
		return desc, err
	}
	if d.extra == "" {
		registrar, _ := task.As[task.Registrar](d.Backend)
		reg, err := registrar.RegisterThing(ctx, &task.RegisterInput{TemplateBody: d.body, Parameters: d.row})
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(map[string]any{"lineNumber": 1, "response": map[string]any{"CertificatePem": reg.CertificatePEM, "ResourceArns": reg.ARNs}})
		if err != nil {
			return nil, err
		}
		d.extra = string(text) + "\n"
	}
	desc.Succeeded++
	return desc, nil
}

func (d *doubled) Open(ctx context.Context, l task.Link, offset int64) (io.ReadCloser, error) {
	return shuffled{d.Backend, func(lines []string) []string {
		if len(lines) > 0 && strings.Contains(lines[0], "response") {
			return append(lines[:len(lines)-1], strings.TrimSuffix(lines[len(lines)-1], "\n")+"\n", d.extra)
		}
		return lines
	}}.Open(ctx, l, offset)
}

func TestThrottledLinesAreSentAgainByThemselvesWithLongerAndLongerPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		for line := int64(1); line <= 2; line++ {
			w.fault(t, fakebackend.Fault{Line: line, Step: fakebackend.StepCertificate, Do: fakebackend.Throttle, Times: 3})
		}
		began := time.Now()
		run := w.run(t)
		summary, err := run.Run(t.Context(), rows(4))
		require.NoError(t, err, "nobody has to ask for it")
		assert.Len(t, summary.Tasks, 4, "the first, and three rounds")
		assert.Greater(t, time.Since(began), 3*time.Second, "1, 2 and 4 seconds, less half of each at most")
		w.requireWorking(t, results(t, run))
		for i, r := range results(t, run) {
			assert.Equal(t, map[bool]int{true: 4, false: 1}[i < 2], r.Attempts)
		}
	})
}

func TestAnAccountThatStaysThrottledEndsTheRunAndIsNotAskedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		id := w.fault(t, fakebackend.Fault{Step: fakebackend.StepCertificate, Do: fakebackend.Throttle, Times: -1})
		run := w.run(t)
		summary, err := run.Run(t.Context(), rows(2))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.EqualValues(t, 2, summary.Causes[provision.CauseThrottled])
		tasks := len(summary.Tasks)
		assert.Equal(t, 6, tasks)
		assert.Contains(t, results(t, run)[0].Message, "Rate exceeded")

		summary, err = w.run(t).Run(t.Context(), rows(2))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.Len(t, summary.Tasks, tasks, "a run that is over is confirmed; Retry sends again")
		w.fake.RemoveFault(id)
		run = w.run(t)
		_, err = run.Retry(t.Context())
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
	})
}

func TestReportsThatComeLateAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := typedWorld(t, fakebackend.Options{ReportDelay: 4 * time.Minute})
		w.durable(t)
		run := w.incomplete(t, provision.Devices(ofType("a", "known"), ofType("b", "gone")))
		all := results(t, run)
		assert.Equal(t, provision.Provisioned, all[0].Verdict)
		assert.Equal(t, provision.CauseTypeMissing, all[1].Cause, "AWS's text is only in the report: %s", all[1].Message)
	})
}

func TestReportsThatNeverComeAreGivenUpAndTheDevicesReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := typedWorld(t, fakebackend.Options{ReportDelay: 24 * time.Hour})
		w.durable(t)
		run := w.run(t)
		began := time.Now()
		_, err := run.Run(t.Context(), provision.Devices(ofType("a", "known"), ofType("b", "gone")))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.Less(t, time.Since(began), 20*time.Minute)
		all := results(t, run)
		assert.Equal(t, provision.Provisioned, all[0].Verdict)
		assert.Equal(t, provision.CauseTask, all[1].Cause)
		assert.Contains(t, all[1].Message, "the task counted 1")
	})
}

func TestReportsAreNotWaitedForUntilAClockThatWasSetBackCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		w.complete(t, rows(3))
		w.opts.Ledger = edited(t, w, nil, func(p *provision.PartRecord) {
			p.State, p.Ended = provision.PartEnded, time.Now().AddDate(1, 0, 0)
		}, func(d *provision.DeviceRecord) {
			d.Verdict, d.CertificateID, d.CertificateARN, d.CertificatePEM = provision.Submitted, "", "", ""
		})
		w.opts.Backend = shuffled{w.fake, func([]string) []string { return nil }} // reports that stay empty
		began := time.Now()
		run := w.complete(t, rows(3))
		assert.Less(t, time.Since(began), time.Hour)
		w.requireWorking(t, results(t, run))
	})
}

func TestADeliveryThatFailsStopsTheRunAndNothingIsLost(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	full := errors.New("no space left on device")
	failing := &failingOutput{Output: w.opts.Output, device: "device-2", err: full}
	w.opts.Output = failing
	_, err := w.run(t).Run(t.Context(), rows(3))
	require.ErrorIs(t, err, full)
	assert.ErrorContains(t, err, `device "device-2"`)
	failing.err = nil
	w.requireWorking(t, results(t, w.complete(t, rows(3))))
}

type failingOutput struct {
	provision.Output
	device string
	err    error
}

func (o *failingOutput) Deliver(ctx context.Context, d *provision.Delivery) error {
	if d.ThingName == o.device && o.err != nil {
		return fmt.Errorf("%s: %w", d.ThingName, o.err)
	}
	return o.Output.Deliver(ctx, d)
}
