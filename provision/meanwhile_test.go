package provision_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// beforeStart is a backend that does something when a task is about to be started, behind every look of its run.
type beforeStart struct {
	task.Backend
	first *sync.Once
	do    func()
}

func (b beforeStart) Unwrap() task.Backend { return b.Backend }

func (b beforeStart) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	b.first.Do(b.do)
	return b.Backend.StartTask(ctx, in)
}

// meanwhile lets others do something between the look of a run and its first task.
func (w *world) meanwhile(do func()) {
	w.opts.Backend = beforeStart{w.opts.Backend, &sync.Once{}, do}
}

// registerElsewhere registers one of rows with a key of somebody else, and returns its certificate's id.
func (w *world) registerElsewhere(t *testing.T, name, serial string) string {
	t.Helper()
	body, err := w.opts.Template.Body()
	require.NoError(t, err)
	made := new(csr.Generator).One(t.Context(), csr.Device{Name: name})
	require.NoError(t, made.Err)
	reg, err := w.fake.RegisterThing(t.Context(), &task.RegisterInput{TemplateBody: body,
		Parameters: map[string]string{"ThingName": name, "SerialNumber": serial, "CSR": made.Request.PEM()}})
	require.NoError(t, err)
	return task.ResourceName(reg.ARNs.Certificate())
}

// requireMeanwhile checks that a device is provisioned and names one certificate of somebody else.
func requireMeanwhile(t *testing.T, r *provision.Result, id string) {
	t.Helper()
	require.Equal(t, provision.Provisioned, r.Verdict, r.Message)
	require.Len(t, r.Existing, 1, r.Name)
	assert.Equal(t, id, r.Existing[0].ID)
	assert.Equal(t, id, task.ResourceName(r.Existing[0].ARN))
	assert.False(t, r.Existing[0].Created.IsZero())
	assert.True(t, r.Existing[0].Meanwhile)
}

// gatedRun is a backend that calls a function before it starts a task, when one is over, before the account is looked through
// at the end, and before it is asked about one certificate.
type gatedRun struct {
	*fakebackend.Backend
	starts, over, looks, asks func()
}

func (g gatedRun) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	g.starts()
	return g.Backend.StartTask(ctx, in)
}

func (g gatedRun) ListReports(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
	g.over()
	return g.Backend.ListReports(ctx, id, kind, token)
}

func (g gatedRun) ListCertificates(ctx context.Context, since time.Time) iter.Seq2[*task.Certificate, error] {
	g.looks()
	return g.Backend.ListCertificates(ctx, since)
}

func (g gatedRun) CertificateThings(ctx context.Context, arn string) ([]string, error) {
	g.asks()
	return g.Backend.CertificateThings(ctx, arn)
}

func nothing() {}

// TestTwoRunsThatBothLookedBeforeEitherRegisteredNameTheSecondCertificates has two runs of one list with different keys. The
// second one starts its task when that of the first has ended, without another look, and both have ended before either looks
// through the account.
func TestTwoRunsThatBothLookedBeforeEitherRegisteredNameTheSecondCertificates(t *testing.T) {
	for _, mode := range []provision.Existing{provision.RefuseExisting, provision.ReplaceExisting, provision.TakeOverExisting} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{Rate: 10})
				w.durable(t)
				w.opts.Existing = mode
				w2 := w.again(t, mode)
				signal := func() (send, wait func()) {
					c := make(chan struct{})
					return sync.OnceFunc(func() { close(c) }), func() { <-c }
				}
				secondAtStart, untilSecondAtStart := signal()
				firstOver, untilFirstOver := signal()
				secondOver, untilSecondOver := signal()
				w.opts.Backend = gatedRun{w.fake, untilSecondAtStart, firstOver, untilSecondOver, nothing}
				w2.opts.Backend = gatedRun{w.fake, func() { secondAtStart(); untilFirstOver() }, secondOver, nothing, nothing}
				runs := []*provision.Run{w.run(t), w2.run(t)}
				var both sync.WaitGroup
				for _, run := range runs {
					both.Go(func() {
						summary, err := run.Run(t.Context(), rows(3))
						assert.ErrorIs(t, err, provision.ErrIncomplete)
						assert.ErrorContains(t, err, "3 of 3 devices provisioned; 3 devices with another ACTIVE certificate, which somebody else has registered meanwhile")
						assert.EqualValues(t, 3, summary.Meanwhile)
						assert.NoError(t, summary.OrphansError)
					})
				}
				both.Wait()
				first, second := results(t, runs[0]), results(t, runs[1])
				for i := range first {
					requireMeanwhile(t, first[i], second[i].CertificateID)
					requireMeanwhile(t, second[i], first[i].CertificateID)
					assert.Equal(t, 2, activeCertificates(t, w.fake, first[i].Name), "neither run takes the other's away")
				}
				record, err := runs[0].Manifest(t.Context())
				require.NoError(t, err)
				assert.EqualValues(t, 3, record.Meanwhile)
				summary, err := runs[0].Summary(t.Context())
				require.NoError(t, err)
				assert.EqualValues(t, 3, summary.Meanwhile)

				for _, r := range second[:2] { // somebody decides
					_, err := w.fake.RetireCertificate(t.Context(), r.Name, r.CertificateID)
					require.NoError(t, err)
				}
				summary, err = runs[0].Run(t.Context(), nil)
				require.ErrorIs(t, err, provision.ErrIncomplete)
				assert.EqualValues(t, 1, summary.Meanwhile)
				_, err = awsIoT(w.fake).UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{
					CertificateId: &second[2].CertificateID, NewStatus: types.CertificateStatusInactive})
				require.NoError(t, err)
				summary, err = runs[0].Run(t.Context(), nil)
				require.NoError(t, err)
				assert.Zero(t, summary.Meanwhile)
				for _, r := range results(t, runs[0]) {
					assert.Empty(t, r.Existing)
				}
			})
		})
	}
}

func TestACertificateThatIsPutOnAThingAfterTheLookIsNamed(t *testing.T) {
	for name, existed := range map[string]bool{"a new thing": false, "a thing that existed": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.durable(t)
			if existed {
				_, err := awsIoT(w.fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("device-2"),
					AttributePayload: &types.AttributePayload{Attributes: map[string]string{"version": "v1", "serialNumber": "002"}}})
				require.NoError(t, err)
			}
			var id string
			w.meanwhile(func() {
				id = w.registerElsewhere(t, "device-2", "002")
				w.registerElsewhere(t, "of-another-list", "9")
				unused := w.registerElsewhere(t, "device-3", "003")
				_, err := awsIoT(w.fake).UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{
					CertificateId: &unused, NewStatus: types.CertificateStatusInactive})
				require.NoError(t, err)
			})
			run := w.run(t)
			summary, err := run.Run(t.Context(), rows(3))
			require.ErrorIs(t, err, provision.ErrIncomplete)
			assert.EqualValues(t, 1, summary.Meanwhile)
			assert.Zero(t, summary.Orphans)
			got := results(t, run)
			assert.Equal(t, existed, got[1].ThingExisted)
			requireMeanwhile(t, got[1], id)
			assert.Empty(t, got[0].Existing)
			assert.Empty(t, got[2].Existing)

			w.opts.Existing = provision.AddToExisting
			_, err = w.run(t).Run(t.Context(), nil)
			require.NoError(t, err, "somebody wants both")
			requireMeanwhile(t, results(t, run)[1], id)
		})
	}
}

// TestWhatCannotBeAskedAtTheEndIsNotTakenForNone: a look that is throttled goes on, and one that is denied is told.
func TestWhatCannotBeAskedAtTheEndIsNotTakenForNone(t *testing.T) {
	for _, op := range []string{"ListCertificates", "ListPrincipalThings", "DescribeCertificate"} {
		throttle := fakebackend.Fault{Operation: op, Do: fakebackend.Throttle, Times: 3}
		deny := fakebackend.Fault{Operation: op, Do: fakebackend.Fail, Code: "UnauthorizedException", Status: 401, Times: -1}
		for _, fault := range []fakebackend.Fault{throttle, deny} {
			t.Run(fmt.Sprint(op, fault.Do), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, fakebackend.Options{PageSize: 2})
					w.durable(t)
					var id string
					w.meanwhile(func() {
						id = w.registerElsewhere(t, "device-2", "002")
						w.fault(t, fault)
					})
					run := w.run(t)
					summary, err := run.Run(t.Context(), rows(3))
					if fault.Do == fakebackend.Fail {
						require.NoError(t, err, "all are provisioned")
						require.ErrorIs(t, summary.OrphansError, task.ErrAccessDenied)
						assert.Contains(t, summary.String(), "looking through the certificates that were made since it began failed")
						w.fake.ClearFaults()
						_, err = run.FindOrphans(t.Context())
						require.NoError(t, err)
						_, err = run.Run(t.Context(), nil)
					}
					require.ErrorIs(t, err, provision.ErrIncomplete)
					requireMeanwhile(t, results(t, run)[1], id)
				})
			})
		}
	}
}

// TestARunThatIsInterruptedWhileItLooksAtTheEndLooksAgain ends the call when it asks for the first certificate.
func TestARunThatIsInterruptedWhileItLooksAtTheEndLooksAgain(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	var id string
	w.meanwhile(func() { id = w.registerElsewhere(t, "device-2", "002") })
	ctx, cancel := context.WithCancel(t.Context())
	w.opts.Backend = beforeStart{gatedRun{w.fake, nothing, nothing, nothing, cancel}, &sync.Once{}, w.opts.Backend.(beforeStart).do}
	_, err := w.run(t).Run(ctx, rows(3))
	require.ErrorIs(t, err, context.Canceled)
	w.opts.Backend = w.fake
	run := w.run(t)
	_, err = run.Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireMeanwhile(t, results(t, run)[1], id)
}

func TestADeviceThatIsRegisteredByItselfIsLookedAtByFindOrphans(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.run(t)
	_, err := run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "board", "SerialNumber": "9"}})
	require.NoError(t, err)
	id := w.registerElsewhere(t, "board", "9")
	orphans, err := run.FindOrphans(t.Context())
	require.NoError(t, err)
	assert.Empty(t, orphans)
	requireMeanwhile(t, results(t, run)[0], id)
}

func TestADeviceThatHasConnectedNamesWhatOthersHavePutOnItsThing(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	jitWorld(t, w)
	run := w.run(t)
	_, err := run.Run(t.Context(), rows(1))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	w.connects(t, "device-1", results(t, run)[0].CertificatePEM, types.CertificateStatusActive)
	id, arn := w.activeCertificate(t)
	_, err = awsIoT(w.fake).AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: new("device-1"), Principal: &arn})
	require.NoError(t, err)
	summary, err := run.Reconcile(t.Context())
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.EqualValues(t, 1, summary.Meanwhile)
	requireMeanwhile(t, results(t, run)[0], id)
	_, err = w.fake.RetireCertificate(t.Context(), "device-1", id)
	require.NoError(t, err)
	_, err = run.Reconcile(t.Context())
	require.NoError(t, err)
}

// seen counts the requests of an operation from now on.
func (w *world) seen(t *testing.T, operation string) func() int {
	id := w.fault(t, fakebackend.Fault{Operation: operation, Nth: 1 << 30, Do: fakebackend.Throttle})
	return func() int {
		for _, f := range w.fake.Faults() {
			if f.ID == id {
				return f.Seen
			}
		}
		return 0
	}
}

// TestWhatTheLookAtTheEndCosts: a request for 250 certificates, and one for each of somebody else, at the pace of
// Options.Look. UncheckedExisting makes none.
func TestWhatTheLookAtTheEndCosts(t *testing.T) {
	const devices, strangers = 1000, 300
	for name, c := range map[string]struct {
		existing                     provision.Existing
		strangers, lists, asks, took int
	}{
		"alone":       {provision.RefuseExisting, 0, 4, 0, 1},
		"with others": {provision.RefuseExisting, strangers, 6, strangers, 31},
		"unchecked":   {provision.UncheckedExisting, strangers, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.durable(t)
				backend, err := awsbackend.New(fakeaws.Config(w.fake), awsbackend.Options{Bucket: w.fake.Options().Bucket})
				require.NoError(t, err)
				lists, asks, reads := w.seen(t, "ListCertificates"), w.seen(t, "ListPrincipalThings"), w.seen(t, "DescribeCertificate")
				w.opts.Backend, w.opts.Existing, w.opts.Look = backend, c.existing, provision.LookRates{Certificates: 10}
				var collected time.Time
				var others []int
				w.opts.Observe = func(e provision.Event) {
					switch e := e.(type) {
					case provision.EventPartCollected:
						collected = time.Now()
					case provision.EventLookedThrough:
						others = append(others, e.Others)
					}
				}
				w.meanwhile(func() {
					for i := range c.strangers {
						w.registerElsewhere(t, fmt.Sprint("stranger-", i), "9")
					}
				})
				_, err = w.run(t).Run(t.Context(), rows(devices))
				require.NoError(t, err)
				assert.Equal(t, c.lists, lists())
				assert.Equal(t, c.asks, asks())
				assert.Zero(t, reads())
				if c.asks > 0 {
					assert.Equal(t, []int{100, 200, 300}, others, "no long silence")
				}
				assert.LessOrEqual(t, time.Since(collected), time.Duration(c.took)*time.Second)
				assert.GreaterOrEqual(t, time.Since(collected), time.Duration(c.took-1)*time.Second, "faster than AWS's quota")
				t.Logf("%d requests in %v", lists()+asks()+reads(), time.Since(collected))
			})
		})
	}
}
