package csr

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Device is one device to make a key for, and a request or a certificate.
type Device struct {
	Name string            // the thing's name; the default subject is CN=<Name>
	Row  map[string]string // its parameters by name, for [Pattern]; may be nil
	Tag  any               // the caller's own: it comes back in [Result.Device], and nothing here looks at it
}

// Result is what became of one device.
type Result struct {
	Index   int64      // position in the input, from 0
	Device  Device     // as it came in
	Key     PrivateKey // the key, or a handle of it if it rests in hardware; zero when the request was [Generator.Kept]
	Request *Request   // the signed request; nil when Err is set, and with [Generator.CA]
	// CertificatePEM is the certificate, with Generator.CA; empty when Err is set.
	CertificatePEM string
	Err            error // why this device has none; it names the device
}

// Generator makes keys for many devices, and requests or certificates. The zero value makes P-256 keys in software and
// requests with the subject CN=<device name>. Do not change a Generator while it is in use; then it is safe for
// concurrent use.
type Generator struct {
	// Keys is where keys come from. Nil means Software(P256).
	Keys KeySource
	// Subject names a device. Nil means CommonName(device.Name). It is called from several goroutines at once.
	// [Pattern.Subject] fits here.
	Subject func(Device) (Subject, error)
	// CA issues a certificate for each key in place of a request. Nil makes requests.
	CA *CA
	// Kept sets the Request, or the CertificatePEM, that the result's device has from earlier, with a key that is kept
	// somewhere; then none is made. If it sets neither, the device has none yet. Nil asks nobody. It is called from several
	// goroutines at once.
	Kept func(context.Context, *Result) error
	// Workers is how many keys are made at once. 0 or less means GOMAXPROCS.
	Workers int
	// Window is the greatest number of devices held at once: read from the input and not yet given out, the one being
	// looked at by the caller included. It also bounds how far the others may run ahead of a slow one, since results
	// keep the input's order. 0 or less means 32 for each worker. There are never more workers than the window.
	Window int
}

// All makes a key for each device, and a request or a certificate, and yields the results in the order of the input.
//
// What fails for one device is in its Result.Err and the others go on. The iterator's error ends it: it comes at most
// once, last and alone, and is either the error that devices gave (after the results of all devices before it) or the
// end of ctx. Breaking out of the loop stops everything and joins every goroutine before the loop is left, so devices
// and KeySource should not block without end.
//
// devices is ranged over on a goroutine of its own; it is not read further ahead than the window. A panic in devices,
// in a KeySource, in Subject or in Kept stops everything and is raised again in the goroutine that ranges, as an error
// with the value and the stack: what is broken there could leave two devices with one key, so the run does not go on
// with it.
//
// The iterator is single-use: ranging over it again makes no further keys and returns an error.
func (g *Generator) All(ctx context.Context, devices iter.Seq2[Device, error]) iter.Seq2[*Result, error] {
	var used atomic.Bool
	return func(yield func(*Result, error) bool) {
		if used.Swap(true) {
			yield(nil, errors.New("csr.Generator.All: an iterator can be used only once; call All again with a new input"))
			return
		}
		run := g.newRun(ctx, devices)
		more := run.deliver(yield)
		if run.panicked != nil {
			panic(run.panicked)
		}
		if err := run.err; more && err != nil {
			yield(nil, err)
		}
	}
}

// One does for one device what All does, in the calling goroutine. It never returns nil; a failure is in
// Result.Err.
func (g *Generator) One(ctx context.Context, d Device) *Result {
	r := &Result{Device: d}
	g.fill(ctx, r)
	return r
}

// panicError carries a panic from a goroutine of [Generator.All] to the caller's.
type panicError struct {
	value any    // what was panicked with; nil when the goroutine was ended by runtime.Goexit
	stack []byte // where
}

// Error returns the panic's value and its stack.
func (e *panicError) Error() string {
	if e.value == nil {
		return "csr.Generator: a callback called runtime.Goexit"
	}
	return fmt.Sprintf("csr.Generator: a callback panicked: %v\n\n%s", e.value, e.stack)
}

// Unwrap returns the panic's value if it is an error.
func (e *panicError) Unwrap() error {
	err, _ := e.value.(error)
	return err
}

// fill makes what r.Device is to have.
func (g *Generator) fill(ctx context.Context, r *Result) {
	fail := func(doing string, err error) {
		r.Err = fmt.Errorf("device %s: %s: %w", rule.Quote(r.Device.Name), doing, err)
	}
	if g.Kept != nil {
		if err := g.Kept(ctx, r); err != nil {
			fail("look for an earlier key", err)
			return
		}
		if r.Request != nil || r.CertificatePEM != "" {
			return
		}
	}
	var subject Subject
	if g.Subject == nil {
		subject = CommonName(r.Device.Name)
	} else {
		var err error
		if subject, err = g.Subject(r.Device); err != nil {
			fail("make the subject", err)
			return
		}
	}
	// Before a key is made for nothing: hardware may have no way to take it back.
	name, err := subject.DER()
	if err != nil {
		fail(g.making(), err)
		return
	}
	keys := g.Keys
	if keys == nil {
		keys = software{P256}
	}
	var signer crypto.Signer
	if seer, ok := keys.(DeviceKeySource); ok {
		signer, err = seer.DeviceSigner(ctx, r.Device)
	} else {
		signer, err = keys.Signer(ctx, r.Device.Name)
	}
	if err == nil && signer == nil {
		err = errors.New("the KeySource returned neither a signer nor an error")
	}
	if err != nil {
		fail("get the key", err)
		return
	}
	_, own := keys.(software)
	switch {
	case g.CA == nil:
		r.Request, err = create(signer, name, own)
	case own:
		r.CertificatePEM, err = g.CA.issue(signer.Public(), name)
	default:
		if err = holdsKey(signer); err == nil {
			r.CertificatePEM, err = g.CA.issue(signer.Public(), name)
		}
	}
	if err != nil {
		fail(g.making(), err)
		return
	}
	r.Key = NewPrivateKey(signer)
}

func (g *Generator) making() string {
	if g.CA != nil {
		return "issue the certificate"
	}
	return "make the request"
}

// slot holds a device from being read until its result was looked at. There are as many as the window is wide.
type slot struct {
	result *Result
	done   chan struct{}
}

// run is one pass of All. Slots go round: free → (read) → todo and order → (made, done) → delivered → free. Each
// channel has room for all slots, so only taking from one ever waits.
type run struct {
	g       *Generator
	parent  context.Context
	ctx     context.Context
	cancel  context.CancelFunc
	devices iter.Seq2[Device, error]
	free    chan *slot
	order   chan *slot
	todo    chan *slot
	workers int
	wg      sync.WaitGroup
	first   sync.Once // guards panicked

	panicked *panicError // valid once the goroutines are joined
	readErr  error       // valid once order is closed
	err      error       // what ends the iterator
}

func (g *Generator) newRun(ctx context.Context, devices iter.Seq2[Device, error]) *run {
	workers := g.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	window := g.Window
	if window <= 0 {
		window = 32 * workers
	}
	r := &run{
		g: g, parent: ctx, devices: devices,
		free: make(chan *slot, window), order: make(chan *slot, window), todo: make(chan *slot, window),
		workers: min(workers, window),
	}
	r.ctx, r.cancel = context.WithCancel(ctx)
	for range window {
		r.free <- &slot{done: make(chan struct{}, 1)}
	}
	return r
}

// deliver starts the goroutines, yields the results and joins. It reports whether the caller wants more.
func (r *run) deliver(yield func(*Result, error) bool) bool {
	defer r.wg.Wait()
	defer r.cancel()
	r.guard(r.read)
	for range r.workers {
		r.guard(r.work)
	}
	for {
		var s *slot
		select {
		case s = <-r.order:
		case <-r.ctx.Done():
		}
		if s != nil {
			select {
			case <-s.done:
			case <-r.ctx.Done():
			}
		}
		// A result that is ready when the context ends may be a failure for that very reason, and is not one of the
		// device. The parent is asked, too: devices may see its end, and be over, a moment before ours ends in turn.
		if r.parent.Err() != nil || r.ctx.Err() != nil {
			r.err = stopped(r.parent)
			return true
		}
		if s == nil { // order is closed: everything was delivered
			r.err = r.readErr
			return true
		}
		result := s.result
		s.result = nil
		if !yield(result, nil) {
			return false
		}
		r.free <- s
	}
}

// guard runs f in a goroutine and catches its panic.
func (r *run) guard(f func()) {
	r.wg.Go(func() {
		normal := false
		defer func() {
			if normal {
				return
			}
			p := &panicError{value: recover(), stack: debug.Stack()}
			r.first.Do(func() { r.panicked = p })
			r.cancel()
		}()
		f()
		normal = true
	})
}

// read takes devices in, each when there is a slot for it.
func (r *run) read() {
	defer close(r.order)
	defer close(r.todo)
	s := r.slot()
	if s == nil {
		return
	}
	if r.devices == nil {
		return
	}
	var index int64
	for d, err := range r.devices {
		if err != nil {
			r.readErr = fmt.Errorf("read the devices, after %d of them: %w", index, err)
			return
		}
		s.result = &Result{Index: index, Device: d}
		index++
		r.todo <- s
		r.order <- s
		if s = r.slot(); s == nil {
			return
		}
	}
}

// slot waits for a free slot; nil when the run is over.
func (r *run) slot() *slot {
	select {
	case s := <-r.free:
		return s
	case <-r.ctx.Done():
		return nil
	}
}

// work makes keys and requests until there is nothing left to make.
func (r *run) work() {
	for s := range r.todo {
		if r.ctx.Err() != nil {
			return
		}
		r.g.fill(r.ctx, s.result)
		s.done <- struct{}{}
	}
}

// stopped wraps the end of a context so that both its error and its cause can be found.
func stopped(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, err) {
		return fmt.Errorf("making keys was stopped: %w: %w", err, cause)
	}
	return fmt.Errorf("making keys was stopped: %w", err)
}
