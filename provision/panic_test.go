package provision_test

import (
	"context"
	"crypto"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// faultyOutput panics in one of its methods.
type faultyOutput struct {
	provision.Output
	deliver, sync func()
}

func (o *faultyOutput) Deliver(ctx context.Context, d *provision.Delivery) error {
	o.deliver()
	return o.Output.Deliver(ctx, d)
}

func (o *faultyOutput) Sync(ctx context.Context) error {
	o.sync()
	return o.Output.Sync(ctx)
}

func TestAPanicOfACallbackIsRaisedOnTheCallerAndTheRunGoesOnAfterIt(t *testing.T) {
	on := func(want func(provision.Event) bool, fault func()) func(*world) {
		return func(w *world) {
			w.opts.Observe = func(e provision.Event) {
				if want(e) {
					fault()
				}
			}
		}
	}
	is := func(e provision.Event, want any) bool {
		switch want.(type) {
		case provision.EventSpooled:
			_, ok := e.(provision.EventSpooled)
			return ok
		case provision.EventPartReady:
			_, ok := e.(provision.EventPartReady)
			return ok
		case provision.EventTaskStarted:
			_, ok := e.(provision.EventTaskStarted)
			return ok
		}
		_, ok := e.(provision.EventPartCollected)
		return ok
	}
	for name, set := range map[string]func(fault func()) func(*world){
		"Observe, the input is taken": func(f func()) func(*world) {
			return on(func(e provision.Event) bool { return is(e, provision.EventSpooled{}) }, f)
		},
		"Observe, a part is ready": func(f func()) func(*world) {
			return on(func(e provision.Event) bool { return is(e, provision.EventPartReady{}) }, f)
		},
		"Observe, a task is started": func(f func()) func(*world) {
			return on(func(e provision.Event) bool { return is(e, provision.EventTaskStarted{}) }, f)
		},
		"Observe, a part is collected": func(f func()) func(*world) {
			return on(func(e provision.Event) bool { return is(e, nil) }, f)
		},
		"Output.Deliver": func(f func()) func(*world) {
			return func(w *world) { w.opts.Output = &faultyOutput{w.out, f, func() {}} }
		},
		"Output.Sync": func(f func()) func(*world) {
			return func(w *world) { w.opts.Output = &faultyOutput{w.out, func() {}, f} }
		},
		"Progress": func(f func()) func(*world) {
			return func(w *world) { w.opts.Wait.Progress = func(*task.Description) { f() } }
		},
		"KeySource": func(f func()) func(*world) {
			return func(w *world) {
				inner := csr.Software(csr.P256)
				w.opts.Credential = &provision.MakeCSR{Store: w.keys, Keys: keySource(func(ctx context.Context, device string) (crypto.Signer, error) {
					f()
					return inner.Signer(ctx, device)
				})}
			}
		},
		"Subject": func(f func()) func(*world) {
			return func(w *world) {
				w.opts.Credential = &provision.MakeCSR{Store: w.keys, Subject: func(d csr.Device) (csr.Subject, error) {
					f()
					return csr.CommonName(d.Name), nil
				}}
			}
		},
	} {
		for _, nth := range []int32{1, 2} { // Subject is asked twice for each device, once by the caller
			for how, end := range map[string]func(){"panic": func() { panic(errTokenGone) }, "Goexit": runtime.Goexit} {
				t.Run(name+" "+how, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, fakebackend.Options{Rate: 10})
						w.durable(t)
						w.opts.PartLines = 2
						var calls atomic.Int32
						faulty := true
						set(func() {
							if faulty && calls.Add(1) == nth {
								end()
							}
						})(w)
						run := w.run(t)
						raised := make(chan any, 1)
						go func() {
							defer func() { raised <- recover() }()
							_, _ = run.Run(t.Context(), rows(5))
						}()
						value := <-raised
						if calls.Load() >= nth && how == "panic" {
							require.NotNil(t, value)
							assert.ErrorIs(t, value.(error), errTokenGone)
						}
						faulty = false
						_, err := run.Run(t.Context(), rows(5))
						require.NoError(t, err)
						w.requireWorking(t, results(t, run))
					})
				})
			}
		}
	}
}
