package provision_test

import (
	"context"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// farAway is a backend whose every call takes a while.
type farAway struct {
	task.Backend
	delay time.Duration
}

func (b farAway) Unwrap() task.Backend { return b.Backend }

func (b farAway) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	time.Sleep(b.delay)
	return b.Backend.StartTask(ctx, in)
}

func (b farAway) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	time.Sleep(b.delay)
	return b.Backend.DescribeTask(ctx, id)
}

func (b farAway) ListTasks(ctx context.Context, in *task.ListInput) (*task.TaskPage, error) {
	time.Sleep(b.delay)
	return b.Backend.ListTasks(ctx, in)
}

func (b farAway) ListReports(ctx context.Context, id task.ID, kind task.ReportType, token string) (*task.ReportPage, error) {
	time.Sleep(b.delay)
	return b.Backend.ListReports(ctx, id, kind, token)
}

func (b farAway) Open(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
	time.Sleep(b.delay)
	return b.Backend.Open(ctx, link, offset)
}

func (b farAway) HasThing(ctx context.Context, name string) (bool, error) {
	time.Sleep(b.delay)
	return b.Backend.(task.ThingFinder).HasThing(ctx, name)
}

func (b farAway) Upload(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
	time.Sleep(b.delay)
	return b.Backend.Upload(ctx, in)
}

// slowSource makes keys, each in a time that the clock of the test measures.
func slowSource(each time.Duration) csr.KeySource {
	keys := csr.Software(csr.P256)
	return keySource(func(ctx context.Context, device string) (crypto.Signer, error) {
		time.Sleep(each)
		return keys.Signer(ctx, device)
	})
}

type keySource func(ctx context.Context, device string) (crypto.Signer, error)

func (f keySource) Signer(ctx context.Context, device string) (crypto.Signer, error) {
	return f(ctx, device)
}

var idleDevices = flag.Int("idle-devices", 5000, "devices of TestTheServiceNeverIdles; from 50,000 on, the bound is 3 % over the service's own time")

// slowService is a fake as slow as AWS, some way off.
func slowService(t *testing.T, each time.Duration) *world {
	w := newWorld(t, fakebackend.Options{Rate: 15, StartDelay: 5 * time.Second})
	w.opts.Backend = farAway{w.fake, 60 * time.Millisecond}
	w.opts.Look = provision.LookRates{Things: 350, Certificates: 10} // as AWS allows by default
	w.opts.Credential = &provision.MakeCSR{Store: w.keys, Keys: slowSource(each), Workers: 2}
	return w
}

// TestTheServiceNeverIdles measures, in virtual time, how much longer a run takes than the service's lines alone, or
// than the keys alone where they are what takes longest.
func TestTheServiceNeverIdles(t *testing.T) {
	const (
		rate    = 15.0
		startUp = 5 * time.Second
		pause   = 3 * time.Second // the most that may pass from a task's end to the next one's start
	)
	devices := *idleDevices
	for _, keys := range []struct {
		name string
		each time.Duration // a key's time on one of two cores
	}{
		{"P-256", 30 * time.Microsecond},
		{"RSA-2048", 50 * time.Millisecond},
		{"hardware", 400 * time.Millisecond},
	} {
		t.Run(keys.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := slowService(t, keys.each)
				w.opts.Credential.(*provision.MakeCSR).Store = discardKeys{}
				w.opts.Output = nil
				began := time.Now()
				var first, took time.Duration // to the first verdicts and to the last
				tasks, lines := 0, ""
				w.opts.Observe = func(e provision.Event) {
					switch e := e.(type) {
					case provision.EventPartReady:
						if tasks++; tasks <= 10 {
							lines += fmt.Sprintf(" %d", e.Lines)
						}
					case provision.EventPartCollected:
						if took = time.Since(began); first == 0 {
							first = took
						}
					}
				}
				summary, err := w.run(t).Run(t.Context(), rows(devices))
				require.NoError(t, err)
				look := time.Duration(devices/250+2) * time.Second / 10 // through the certificates, 250 a request
				assert.LessOrEqual(t, time.Since(began), took+look, "nothing but the look at the end comes after the last verdicts")
				assert.EqualValues(t, devices, summary.Provisioned)

				service := time.Duration(float64(devices) / rate * float64(time.Second))
				making := time.Duration(devices) * keys.each / 2
				least, name := service, "lines ÷ rate"
				if making > service {
					least, name = making, "the time of the keys"
				}
				t.Logf("%d devices in %v and %v, %.4f of %s; the first verdict after %v; %d tasks, the first of%s lines",
					devices, took.Round(time.Second), (time.Since(began) - took).Round(time.Second/10), time.Since(began).Seconds()/least.Seconds(), name, first.Round(time.Second/10), tasks, lines)
				assert.LessOrEqual(t, first, time.Minute)
				if making > service {
					// Not idle, but waiting for keys; what counts is that it takes few tasks, and that the last is soon over.
					assert.LessOrEqual(t, tasks, 2+devices/200)
					looks := time.Duration(devices) * time.Second / 350 // before a key is made
					assert.LessOrEqual(t, took, least+looks+startUp+pause+time.Minute/2)
					return
				}
				firstPart := 256 * keys.each / 2 // nothing can be registered before
				assert.LessOrEqual(t, took, least+firstPart+time.Duration(tasks)*(startUp+pause))
				if devices >= 50_000 {
					assert.LessOrEqual(t, time.Since(began), least*103/100+startUp, "with the look at the end")
				}
			})
		})
	}
}

func TestTheFirstTaskWaitsForNoLookAtOtherDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := slowService(t, 0)
		began := time.Now()
		var first time.Duration
		w.opts.Observe = func(e provision.Event) {
			if _, ok := e.(provision.EventTaskStarted); ok && first == 0 {
				first = time.Since(began)
			}
		}
		w.complete(t, rows(1000))
		assert.LessOrEqual(t, first, time.Second) // 250 looks, and three requests one after the other
	})
}

func TestStopDoesNotWaitForALargePart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := slowService(t, 4*time.Second)
		w.durable(t)
		run := w.run(t)
		began := time.Now()
		go func() {
			time.Sleep(5 * time.Second)
			run.Stop(provision.FinishPart)
		}()
		_, err := run.Run(t.Context(), rows(300)) // whose keys take ten minutes
		require.ErrorIs(t, err, provision.ErrStopped)
		// The keys that were asked for are still made: 32 for each worker.
		assert.Less(t, time.Since(began), 5*time.Second+33*4*time.Second)

		w.opts.Credential = &provision.MakeCSR{Store: w.keys}
		w.requireWorking(t, results(t, w.complete(t, rows(300))))
	})
}

func TestStopIsObeyedWhileEveryKeyFails(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	var run *provision.Run
	var asked atomic.Int64
	w.opts.Credential = &provision.MakeCSR{Store: w.keys, Workers: 1, Keys: keySource(func(context.Context, string) (crypto.Signer, error) {
		if asked.Add(1) == 100 {
			run.Stop(provision.FinishPart)
		}
		return nil, errors.New("the token was pulled out")
	})}
	run = w.run(t)
	summary, err := run.Run(t.Context(), rows(2000))
	require.ErrorIs(t, err, provision.ErrStopped)
	assert.Less(t, asked.Load(), int64(200))
	assert.Positive(t, summary.Pending)
}
