package csr_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
)

// keySourceFunc gives keys by a function.
type keySourceFunc func(ctx context.Context, device string) (crypto.Signer, error)

func (f keySourceFunc) Signer(ctx context.Context, device string) (crypto.Signer, error) {
	return f(ctx, device)
}

func TestTheZeroGeneratorMakesP256KeysNamedAfterTheirDevices(t *testing.T) {
	var g csr.Generator
	n := 0
	seen := map[[32]byte]bool{}
	for r, err := range g.All(t.Context(), deviceSeq(200)) {
		require.NoError(t, err)
		require.NoError(t, r.Err)
		assert.Equal(t, int64(n), r.Index)
		assert.Equal(t, deviceName(n), r.Device.Name)
		assert.Equal(t, csr.CommonName(deviceName(n)), r.Request.Subject())
		assert.Equal(t, csr.P256, r.Request.Algorithm())
		assert.True(t, r.Request.Matches(r.Key.Public()))
		assert.True(t, r.Key.Exportable())
		// The shortcut for own keys leaves the signature itself as good as any.
		_, err := csr.Parse(r.Request.DER())
		require.NoError(t, err)
		seen[r.Request.PublicKeySHA256()] = true
		n++
	}
	assert.Equal(t, 200, n)
	assert.Len(t, seen, 200, "no key twice")
}

func TestEveryAlgorithmWorksInAGenerator(t *testing.T) {
	for _, alg := range []csr.Algorithm{csr.P384, csr.P521, csr.RSA2048} {
		g := csr.Generator{Keys: csr.Software(alg)}
		r := g.One(t.Context(), csr.Device{Name: "d"})
		require.NoError(t, r.Err)
		assert.Equal(t, alg, r.Request.Algorithm())
		_, err := csr.Parse(r.Request.DER())
		require.NoError(t, err)
	}
}

func TestResultsKeepTheOrderOfTheInputHoweverLongEachTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := testKey(t, csr.P256)
		g := csr.Generator{Workers: 4, Window: 9, Keys: keySourceFunc(func(_ context.Context, device string) (crypto.Signer, error) {
			time.Sleep(time.Duration(len(device)*7919%13) * time.Second)
			return key, nil
		})}
		devices := func(yield func(csr.Device, error) bool) {
			for i := range 60 {
				if !yield(csr.Device{Name: strings.Repeat("x", 1+i)}, nil) {
					return
				}
			}
		}
		n := 0
		start := time.Now()
		for r, err := range g.All(t.Context(), devices) {
			require.NoError(t, err)
			require.NoError(t, r.Err)
			n++
			require.Len(t, r.Device.Name, n)
		}
		require.Equal(t, 60, n)
		assert.Less(t, time.Since(start), 150*time.Second, "one after the other would take 348 s or so")
	})
}

func TestNoMoreDevicesAreHeldThanTheWindow(t *testing.T) {
	for _, window := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			key := testKey(t, csr.P256)
			g := csr.Generator{Workers: 3, Window: window, Keys: keySourceFunc(func(context.Context, string) (crypto.Signer, error) { return key, nil })}
			var read int
			devices := func(yield func(csr.Device, error) bool) {
				for read < 40 {
					read++
					if !yield(csr.Device{Name: "d"}, nil) {
						return
					}
				}
			}
			given := 0
			for _, err := range g.All(t.Context(), devices) {
				require.NoError(t, err)
				given++
				synctest.Wait() // everything runs as far ahead as it can
				held := read - (given - 1)
				require.LessOrEqual(t, held, window)
				if given < 40-window {
					require.Equal(t, window, held, "the window is made use of")
				}
			}
			require.Equal(t, 40, given)
		})
	}
}

func TestTheDefaultWindowLetsTheOthersRunAheadOfASlowDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int64
		key := testKey(t, csr.P256)
		g := csr.Generator{Workers: 2, Keys: keySourceFunc(func(_ context.Context, device string) (crypto.Signer, error) {
			if device == deviceName(0) {
				time.Sleep(time.Hour)
				assert.Equal(t, int64(63), made.Load(), "32 for each worker, the slow one included")
			}
			made.Add(1)
			return key, nil
		})}
		for _, err := range g.All(t.Context(), deviceSeq(500)) {
			require.NoError(t, err)
		}
		require.Equal(t, int64(500), made.Load())
	})
}

func TestADevicesOwnFailureIsInItsResultAndTheOthersGoOn(t *testing.T) {
	broken := errors.New("no session")
	g := csr.Generator{
		Workers: 3,
		Keys: keySourceFunc(func(ctx context.Context, device string) (crypto.Signer, error) {
			switch device {
			case "device-000002":
				return nil, broken
			case "device-000003":
				return nil, nil
			case "device-000004":
				return weakRSA(t), nil
			}
			return csr.Software(csr.P256).Signer(ctx, device)
		}),
		Subject: func(d csr.Device) (csr.Subject, error) {
			if d.Name == "device-000005" {
				return nil, errors.New("no name for it")
			}
			if d.Name == "device-000006" {
				return csr.Subject{}, nil
			}
			return csr.CommonName(d.Name), nil
		},
	}
	failures := map[int64]string{}
	n := 0
	for r, err := range g.All(t.Context(), deviceSeq(8)) {
		require.NoError(t, err)
		n++
		if r.Err == nil {
			assert.NotNil(t, r.Request)
			continue
		}
		assert.Nil(t, r.Request)
		assert.True(t, r.Key.IsZero())
		require.ErrorContains(t, r.Err, fmt.Sprintf("device %q", r.Device.Name))
		failures[r.Index] = r.Err.Error()
		if r.Index == 2 {
			require.ErrorIs(t, r.Err, broken)
		}
		if r.Index == 4 {
			require.ErrorIs(t, r.Err, csr.ErrKey)
		}
	}
	assert.Equal(t, 8, n)
	assert.Len(t, failures, 5)
	assert.Contains(t, failures[2], "get the key: no session")
	assert.Contains(t, failures[3], "neither a signer nor an error")
	assert.Contains(t, failures[5], "make the subject: no name for it")
	assert.Contains(t, failures[6], "subject not valid: is empty")
}

func TestANameTooLongForACommonNameFailsBeforeAKeyIsMade(t *testing.T) {
	asked := false
	g := csr.Generator{Keys: keySourceFunc(func(context.Context, string) (crypto.Signer, error) { asked = true; return nil, nil })}
	r := g.One(t.Context(), csr.Device{Name: strings.Repeat("x", 100)})
	require.ErrorAs(t, r.Err, new(*csr.SubjectError))
	require.ErrorContains(t, r.Err, "X.520 allows 64")
	assert.False(t, asked)
}

func TestAForeignSignersRequestIsVerified(t *testing.T) {
	mine, other := p256(t), p256(t)
	g := csr.Generator{Keys: keySourceFunc(func(context.Context, string) (crypto.Signer, error) {
		mixed := *mine
		mixed.PublicKey = other.PublicKey
		return &mixed, nil
	})}
	r := g.One(t.Context(), csr.Device{Name: "d"})
	require.ErrorIs(t, r.Err, csr.ErrSignature)
}

func TestTheInputsErrorComesLastAndOnce(t *testing.T) {
	broken := errors.New("line 4: not CSV")
	devices := func(yield func(csr.Device, error) bool) {
		for i := range 3 {
			if !yield(csr.Device{Name: deviceName(i)}, nil) {
				return
			}
		}
		assert.False(t, yield(csr.Device{}, broken), "nothing is read after an error")
	}
	var g csr.Generator
	var results, errs int
	for r, err := range g.All(t.Context(), devices) {
		if err != nil {
			errs++
			require.ErrorIs(t, err, broken)
			require.ErrorContains(t, err, "after 3 of them")
			require.Nil(t, r)
			continue
		}
		require.Zero(t, errs, "the error is last")
		results++
	}
	assert.Equal(t, 3, results)
	assert.Equal(t, 1, errs)
}

func TestCancellationIsYieldedLastAndOnceAndJoinsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		why := errors.New("shift is over")
		g := csr.Generator{Workers: 2, Keys: keySourceFunc(func(ctx context.Context, device string) (crypto.Signer, error) {
			if device == deviceName(0) {
				return testKey(t, csr.P256), nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		})}
		var results int
		var last error
		for r, err := range g.All(ctx, deviceSeq(1000)) {
			require.NoError(t, last, "nothing follows the error")
			last = err
			if err != nil {
				require.Nil(t, r)
				continue
			}
			require.NoError(t, r.Err, "a device does not fail because the run was stopped")
			results++
			go cancel(why)
		}
		require.ErrorIs(t, last, context.Canceled)
		require.ErrorIs(t, last, why)
		assert.Equal(t, 1, results)
	})
}

func slowKeys(t *testing.T, d time.Duration) csr.KeySource {
	key := testKey(t, csr.P256)
	return keySourceFunc(func(ctx context.Context, _ string) (crypto.Signer, error) {
		select {
		case <-time.After(d):
			return key, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
}

func TestAContextThatEndedBeforeGivesItsErrorAlone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var g csr.Generator
	n := 0
	for r, err := range g.All(ctx, deviceSeq(3)) {
		n++
		require.Nil(t, r)
		require.ErrorIs(t, err, context.Canceled)
	}
	assert.Equal(t, 1, n)
}

func TestAnInputThatEndsQuietlyWithItsContextIsNotTakenForComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		devices := func(yield func(csr.Device, error) bool) {
			yield(csr.Device{Name: "d"}, nil)
			<-ctx.Done()
		}
		var g csr.Generator
		var last error
		for _, err := range g.All(ctx, devices) {
			last = err
		}
		require.ErrorIs(t, last, context.DeadlineExceeded)
	})
}

// lateContext ends some time before the contexts that were made from it.
type lateContext struct {
	context.Context
	seen chan struct{} // closed when its end can be seen
	told chan struct{} // closed when its children are told
}

func (c lateContext) Done() <-chan struct{} { return c.told }

func (c lateContext) Err() error {
	select {
	case <-c.seen:
		return context.Canceled
	default:
		return nil
	}
}

func TestAnInputThatSeesTheEndOfTheContextFirstIsNotTakenForComplete(t *testing.T) {
	ctx := lateContext{t.Context(), make(chan struct{}), make(chan struct{})}
	defer close(ctx.told)
	devices := func(yield func(csr.Device, error) bool) {
		yield(csr.Device{Name: "d"}, nil)
		close(ctx.seen)
	}
	var g csr.Generator
	var last error
	for _, err := range g.All(ctx, devices) {
		last = err
	}
	require.ErrorIs(t, last, context.Canceled)
}

func TestARequestThatIsKeptIsGivenInItsPlace(t *testing.T) {
	var first csr.Generator
	kept := first.One(t.Context(), csr.Device{Name: deviceName(1)}).Request
	g := csr.Generator{Kept: func(_ context.Context, r *csr.Result) error {
		switch r.Device.Name {
		case deviceName(1):
			r.Request = kept
		case deviceName(2):
			return errors.New("bad sector")
		}
		return nil
	}}
	var got []*csr.Result
	for r, err := range g.All(t.Context(), deviceSeq(4)) {
		require.NoError(t, err)
		got = append(got, r)
	}
	require.Len(t, got, 4)
	assert.Same(t, kept, got[1].Request)
	assert.True(t, got[1].Key.IsZero())
	assert.ErrorContains(t, got[2].Err, "bad sector")
	for _, i := range []int{0, 3} {
		assert.False(t, got[i].Key.IsZero())
		assert.NotEqual(t, kept.PublicKeySHA256(), got[i].Request.PublicKeySHA256())
	}
}

func TestBreakingOutStopsAndJoinsEverything(t *testing.T) {
	for _, after := range []int{1, 5} {
		synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
			g := csr.Generator{Workers: 3, Window: 7, Keys: slowKeys(t, time.Second)}
			running := true
			devices := func(yield func(csr.Device, error) bool) {
				defer func() { running = false }()
				for i := 0; yield(csr.Device{Name: deviceName(i)}, nil); i++ {
				}
			}
			n := 0
			for _, err := range g.All(t.Context(), devices) {
				require.NoError(t, err)
				if n++; n == after {
					break
				}
			}
			require.False(t, running, "devices has returned when the loop is left")
		})
	}
}

func TestAPanicInTheLoopBodyJoinsEverythingToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := csr.Generator{Keys: slowKeys(t, time.Second)}
		require.PanicsWithValue(t, "mine", func() {
			for _, err := range g.All(t.Context(), deviceSeq(100)) {
				require.NoError(t, err)
				panic("mine")
			}
		})
	})
}

func TestTheIteratorIsSingleUse(t *testing.T) {
	var g csr.Generator
	all := g.All(t.Context(), deviceSeq(2))
	for _, err := range all {
		require.NoError(t, err)
	}
	n := 0
	for r, err := range all {
		n++
		require.Nil(t, r)
		require.ErrorContains(t, err, "only once")
	}
	assert.Equal(t, 1, n)
}

func TestAPanicInACallbackIsRaisedInTheCallersGoroutine(t *testing.T) {
	boom := errors.New("boom")
	good := func(csr.Device) (csr.Subject, error) { return csr.CommonName("d"), nil }
	for name, c := range map[string]struct {
		g       csr.Generator
		devices iter.Seq2[csr.Device, error]
	}{
		"KeySource": {csr.Generator{Keys: keySourceFunc(func(context.Context, string) (crypto.Signer, error) { panic(boom) })}, deviceSeq(50)},
		"Subject":   {csr.Generator{Subject: func(csr.Device) (csr.Subject, error) { panic(boom) }}, deviceSeq(50)},
		"devices":   {csr.Generator{Subject: good}, func(func(csr.Device, error) bool) { panic(boom) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer func() {
					p, ok := recover().(error)
					require.True(t, ok)
					require.ErrorIs(t, p, boom)
					require.Contains(t, p.Error(), "boom")
					require.Contains(t, p.Error(), "generator_test.go", "the stack of the callback")
				}()
				for r, err := range c.g.All(t.Context(), c.devices) {
					t.Errorf("yielded %v, %v", r, err)
				}
			})
		})
	}
}

func TestAGoexitInACallbackDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := csr.Generator{Keys: keySourceFunc(func(context.Context, string) (crypto.Signer, error) { runtime.Goexit(); return nil, nil })}
		defer func() {
			p, ok := recover().(error)
			require.True(t, ok)
			require.Contains(t, p.Error(), "Goexit")
		}()
		for r, err := range g.All(t.Context(), deviceSeq(5)) {
			t.Errorf("yielded %v, %v", r, err)
		}
	})
}

func TestOneGeneratorServesSeveralRunsAtOnce(t *testing.T) {
	g := csr.Generator{Workers: 2, Window: 4}
	var wg sync.WaitGroup
	var made atomic.Int64
	for range 4 {
		wg.Go(func() {
			for r, err := range g.All(t.Context(), deviceSeq(50)) {
				if err == nil && r.Err == nil {
					made.Add(1)
				}
			}
		})
	}
	wg.Wait()
	assert.Equal(t, int64(200), made.Load())
}

func TestAGeneratorWithoutDevicesEndsAtOnce(t *testing.T) {
	var g csr.Generator
	for r, err := range g.All(t.Context(), deviceSeq(0)) {
		t.Errorf("yielded %v, %v", r, err)
	}
	for r, err := range g.All(t.Context(), nil) {
		t.Errorf("yielded %v, %v", r, err)
	}
}

func TestATagComesBackWithItsDevice(t *testing.T) {
	g := csr.Generator{Workers: 4, Window: 8, Keys: keySourceFunc(func(ctx context.Context, device string) (crypto.Signer, error) {
		if strings.HasSuffix(device, "3") {
			return nil, errors.New("no key")
		}
		return csr.Software(csr.P256).Signer(ctx, device)
	})}
	tagged := func(yield func(csr.Device, error) bool) {
		for i := range 50 {
			if !yield(csr.Device{Name: deviceName(i), Tag: i}, nil) {
				return
			}
		}
	}
	for r, err := range g.All(t.Context(), tagged) {
		require.NoError(t, err)
		require.Equal(t, r.Device.Name, deviceName(r.Device.Tag.(int)), "also of a device that failed")
	}
}
