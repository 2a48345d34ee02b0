package fleet_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

func TestEqualBackendsDivideTheTime(t *testing.T) {
	// Making keys takes no time of the bubble's clock, so things without certificates show the same with less work.
	tmpl, err := template.Parse([]byte(`{"Parameters":{"ThingName":{"Type":"String"},"SerialNumber":{"Type":"String"}},
		"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"AttributePayload":{"s":{"Ref":"SerialNumber"}}}}}}`))
	require.NoError(t, err)
	const devices, rate = 8000, 15
	took := map[int]time.Duration{}
	for _, n := range []int{1, 2, 4} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, n, fakebackend.Options{Rate: rate})
			for name := range w.opts.Sites {
				w.change(name, func(o *provision.Options) { o.Template, o.Credential = tmpl, provision.NoCertificate{} })
			}
			summary, err := w.fleet(t).Run(t.Context(), spread(devices, n))
			require.NoError(t, err)
			require.EqualValues(t, devices, summary.Provisioned)
			took[n] = summary.Took
		})
		ratio := float64(took[n]) * float64(n) / float64(took[1])
		t.Logf("%d backends: %v, %.3f of 1/%d of the time of one; %.3f of lines / rate",
			n, took[n], ratio, n, took[n].Seconds()*float64(n)*rate/devices)
		assert.LessOrEqual(t, ratio, 1.05)
	}
}

// counted is a backend that tells how many registration tasks it has in progress at most.
type counted struct {
	task.Backend
	starts chan<- string
	name   string
}

func (c *counted) Unwrap() task.Backend { return c.Backend }

func (c *counted) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	id, err := c.Backend.StartTask(ctx, in)
	if err == nil {
		c.starts <- c.name
	}
	return id, err
}

func TestAllSitesWorkSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, fakebackend.Options{Rate: 1})
		starts := make(chan string, 10)
		for name := range w.opts.Sites {
			w.change(name, func(o *provision.Options) { o.Backend = &counted{o.Backend, starts, name} })
		}
		f := w.fleet(t)
		done := make(chan error)
		go func() {
			_, err := f.Run(t.Context(), spread(60, 3))
			done <- err
		}()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		assert.Len(t, starts, 3, "every site has its task in progress")
		require.NoError(t, <-done)
	})
}

// alone is the time in which n sites of 60 devices each are done when nothing is wrong.
func alone(t *testing.T) (took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, fakebackend.Options{Rate: 1})
		summary, err := w.fleet(t).Run(t.Context(), spread(120, 2))
		require.NoError(t, err)
		took = summary.Took
	})
	return took
}

func TestOneSiteInTroubleDoesNotHoldTheOthers(t *testing.T) {
	undisturbed := alone(t)
	for name, c := range map[string]struct {
		fault     fakebackend.Fault
		recovers  time.Duration // when the fault goes away; 0 for never
		deadline  time.Duration // of the call; 0 for none
		completes bool          // whether the site in trouble gets there in the end
		text      string
	}{
		"every operation fails":   {fault: fakebackend.Fault{Do: fakebackend.Fail, Times: -1}, text: "asking"},
		"every operation refused": {fault: fakebackend.Fault{Do: fakebackend.Fail, Code: "UnauthorizedException", Times: -1}, text: "Unauthorized"},
		"its starts are refused": {fault: fakebackend.Fault{
			Operation: "StartThingRegistrationTask", Do: fakebackend.Fail, Code: "UnauthorizedException", Times: -1}, text: "starting the task"},
		"throttled for half an hour": {fault: fakebackend.Fault{
			Operation: "StartThingRegistrationTask", Do: fakebackend.Throttle, Times: -1}, recovers: 30 * time.Minute, completes: true},
		"slow":          {fault: fakebackend.Fault{Do: fakebackend.Delay, Delay: time.Minute, Times: -1}, completes: true},
		"never answers": {fault: fakebackend.Fault{Do: fakebackend.Hang, Times: -1}, deadline: time.Hour, text: "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 2, fakebackend.Options{Rate: 1})
				bad, good := regions[0], regions[1]
				w.change(bad, func(o *provision.Options) { o.Backend = faceless{o.Backend, w.fakes[bad]} })
				id, err := w.fakes[bad].AddFault(c.fault)
				require.NoError(t, err)
				ctx := t.Context()
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				if c.recovers > 0 {
					stop := time.AfterFunc(c.recovers, func() { w.fakes[bad].RemoveFault(id) })
					defer stop.Stop()
				}
				f := w.fleet(t)
				summary, err := f.Run(ctx, spread(120, 2))
				requireAddsUp(t, summary, 120)
				require.EqualValues(t, 60, summary.Sites[good].Provisioned)
				assert.InDelta(t, undisturbed.Seconds(), w.ended[good].Seconds(), 4, "the other site must be done as if it were alone")
				t.Logf("undisturbed %v, beside it %v, the whole %v", undisturbed, w.ended[good], summary.Took)
				w.fakes[bad].ClearFaults()
				w.requireOnce(t, results(t, f))
				if c.completes {
					require.NoError(t, err)
					assert.EqualValues(t, 120, summary.Provisioned)
					return
				}
				var failed *fleet.Error
				require.ErrorAs(t, err, &failed)
				require.Len(t, failed.Sites, 1)
				assert.Equal(t, bad, failed.Sites[0].Site)
				assert.ErrorContains(t, failed.Sites[0], c.text)
				assert.EqualValues(t, 60, summary.Pending)
				summary, err = f.Run(t.Context(), spread(120, 2))
				require.NoError(t, err, "a later call goes on where the site was held")
				assert.EqualValues(t, 120, summary.Provisioned)
				w.requireOnce(t, results(t, f))
			})
		})
	}
}

// faceless makes a fake ask for its identity and endpoint over the wire, where faults strike.
type faceless struct {
	task.Backend
	fake *fakebackend.Backend
}

func (b faceless) Unwrap() task.Backend { return b.Backend }

func (b faceless) Identity(ctx context.Context) (*task.Identity, error) {
	if _, err := iot.NewFromConfig(fakeaws.Config(b.fake)).ListThingTypes(ctx, &iot.ListThingTypesInput{}); err != nil {
		return nil, fmt.Errorf("asking who I am: %w", err)
	}
	return b.fake.Identity(ctx)
}

func TestTheInputNeverWaitsForASite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, fakebackend.Options{})
		bad := regions[0]
		w.change(bad, func(o *provision.Options) { o.Backend = faceless{o.Backend, w.fakes[bad]} })
		w.fault(t, bad, fakebackend.Fault{Operation: "ListThingTypes", Do: fakebackend.Delay, Delay: time.Hour})
		var read time.Duration
		began := time.Now()
		devices := func(yield func(provision.Device, error) bool) {
			for d, err := range spread(4500, 2) {
				if !yield(d, err) {
					return
				}
			}
			read = time.Since(began)
		}
		summary, err := w.fleet(t).Run(t.Context(), iter.Seq2[provision.Device, error](devices))
		require.NoError(t, err)
		assert.Less(t, read, time.Second, "2,250 devices of a site that takes none for an hour must not hold the reading")
		assert.Less(t, w.ended[regions[1]], time.Minute)
		assert.GreaterOrEqual(t, w.ended[bad], time.Hour)
		assert.EqualValues(t, 4500, summary.Provisioned)
		left, err := os.ReadDir(w.opts.SpoolDir)
		require.NoError(t, err)
		assert.Empty(t, left, "no temporary file is left")
	})
}
