//go:build unix

package fakegateway_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

// crowd is many devices at once. What they cost is logged.
type crowd struct {
	t       testing.TB
	devices int
	online  sync.WaitGroup // the devices that have not come online yet
	counted chan struct{}
}

// eachOf runs a function for each of 1,000 devices at once, or of 50 with -short. The function is to call online when its
// device is connected; the call returns when all are.
func (l *lab) eachOf(run func(i int, online func())) (devices int) {
	t := l.t
	c := &crowd{t: t, devices: 1000, counted: make(chan struct{})}
	if testing.Short() {
		c.devices = 50
	}
	open, heap, goroutines, used, began := l.gateway.Open(), live(), runtime.NumGoroutine(), processorTime(), time.Now()
	c.online.Add(c.devices)
	var running sync.WaitGroup
	for i := range c.devices {
		running.Go(func() {
			arrived := sync.OnceFunc(c.online.Done)
			defer arrived() // if it fails before
			run(i, func() {
				arrived()
				<-c.counted
			})
		})
	}
	c.online.Wait()
	each := func(total int64) float64 { return float64(total) / float64(c.devices) }
	require.Eventually(t, func() bool { return l.gateway.Open()-open <= c.devices }, patience, time.Millisecond,
		"a connection that has ended takes some time to say goodbye")
	// Each device of the test has a goroutine and one end of the connection.
	perDevice := each(int64(runtime.NumGoroutine()-goroutines)) - 1
	t.Logf("%d devices at once: %v of processor time and %v of wall time until all are online, %.2f ms for each; %.1f KiB of memory for each, both ends, and %.2f goroutines of the gateway",
		c.devices, (processorTime() - used).Round(time.Millisecond), time.Since(began).Round(time.Millisecond),
		each(int64(processorTime()-used))/1e6, each(live()-heap)/1024, perDevice)
	assert.LessOrEqual(t, perDevice, 2.5)
	close(c.counted)
	running.Wait()
	return c.devices
}

// live is how many bytes of memory are in use, with stacks.
func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// processorTime is what this process has used of all processors.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ownCertificates checks that each of n devices has a thing with the one certificate that it has, that this is active,
// and that the account has no other, beside so many more.
func (l *lab) ownCertificates(n int, ids *sync.Map, others int) {
	l.t.Helper()
	assert.Equal(l.t, n, l.fake.Counts().Things)
	assert.Equal(l.t, n+others, l.fake.Counts().Certificates)
	for thing := range l.fake.Things() {
		id, _ := ids.Load(thing.ThingName)
		if assert.Len(l.t, thing.Certificates, 1, thing.ThingName) {
			assert.Equal(l.t, []any{id, "ACTIVE"}, []any{thing.Certificates[0].ID, thing.Certificates[0].Status})
		}
	}
}

// firmware is what the devices of a lab share: how they reach the gateway, and what they trust.
type firmware struct {
	*lab
	dial  func(context.Context) (net.Conn, error)
	trust *tls.Config
}

// firmware makes devices that connect within the process.
func (l *lab) firmware() *firmware {
	config := l.trust(nil)
	config.CurvePreferences = []tls.CurveID{tls.X25519} // as small devices do
	return &firmware{l, l.gateway.Dial, config}
}

// link connects a device.
func (f *firmware) link(d *device, clientID string, five bool) (*link, error) {
	raw, err := f.dial(f.t.Context())
	if err != nil {
		return nil, err
	}
	config := f.trust.Clone()
	config.Certificates = []tls.Certificate{d.Certificate}
	return openLink(f.t.Context(), raw, config, clientID, five, 5*time.Minute)
}

// A device with a key of AWS's costs a hundred times one with its own, since that key is RSA.
const oneInWithKeys = 200

func TestAThousandDevicesInParallelByClaim(t *testing.T) {
	l, claim := claimLab(t)
	devices := l.firmware()
	var ids sync.Map
	n := l.eachOf(func(i int, online func()) {
		number, format, five := fmt.Sprint(i), codecs[i%2], i/2%2 == 0
		c, err := devices.link(claim, "claim-"+number, five)
		if !assert.NoError(t, err) {
			return
		}
		for _, topic := range []string{createTopic, csrTopic, provisionTopic} { // all devices to all answers
			if !assert.NoError(t, c.subscribe(topic+"json/accepted", topic+"json/rejected", topic+"cbor/accepted", topic+"cbor/rejected")) {
				return
			}
		}
		var own *device
		var issued answer
		if i%oneInWithKeys < 2 {
			issued, err = c.request(createTopic, format, object{})
			if !assert.NoError(t, err) {
				return
			}
			pair, err := tls.X509KeyPair([]byte(issued.CertificatePEM), []byte(issued.PrivateKey))
			if !assert.NoError(t, err) {
				return
			}
			own = &device{Certificate: pair, id: issued.CertificateID}
		} else {
			key, request := csr()
			issued, err = c.request(csrTopic, format, object{"certificateSigningRequest": request})
			if !assert.NoError(t, err) {
				return
			}
			own = keyed(t, issued, key)
		}
		made, err := c.request(provisionTopic, format, object{
			"certificateOwnershipToken": issued.CertificateOwnershipToken, "parameters": object{"SerialNumber": number}})
		if !assert.NoError(t, err) || !assert.Equal(t, "device-"+number, made.ThingName) {
			return
		}
		ids.Store(made.ThingName, own.id)
		online()
		assert.NoError(t, c.ping())
		assert.Empty(t, c.inbox, "the answer to another device")
		c.disconnect()
		home, err := devices.link(own, made.ThingName, five)
		if assert.NoError(t, err) {
			assert.NoError(t, home.publish("dt/"+made.ThingName+"/hello", nil))
			home.disconnect()
		}
	})
	l.ownCertificates(n, &ids, 1)
}

func TestAThousandFirstConnectionsByJITP(t *testing.T) {
	l := newLab(t, fakegateway.Options{ConnectTimeout: 5 * time.Minute})
	require.NoError(t, l.gateway.Start())
	devices := l.firmware()
	devices.dial = func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.gateway.Endpoint)
	}
	ca := l.authority(jitpTemplate)
	var ids sync.Map
	n := l.eachOf(func(i int, online func()) {
		name := fmt.Sprint("device-", i)
		d := ca.device(name)
		ids.Store(name, d.id)
		for try := 1; ; try++ {
			c, err := devices.link(d, name, i%2 == 0)
			if try == 1 {
				assert.Error(t, err, "the first connection is refused")
				continue
			}
			if assert.NoError(t, err) {
				assert.NoError(t, c.publish("dt/"+name+"/hello", nil))
				online()
				c.disconnect()
			}
			return
		}
	})
	l.ownCertificates(n, &ids, 0)
}

func TestAThousandFirstConnectionsByJITR(t *testing.T) {
	var activated sync.Map // by certificate, a channel that is closed
	var l *lab
	l = newLab(t, fakegateway.Options{ConnectTimeout: 5 * time.Minute, Registered: func(_ context.Context, r fakegateway.Registration) {
		known, _ := activated.Load(r.CertificateID)
		d := known.(*waiting)
		assert.Equal(t, "PENDING_ACTIVATION", r.CertificateStatus)
		assert.NoError(t, l.activate(d.name, r.CertificateID, 0))
		close(d.done)
	}})
	devices := l.firmware()
	ca := l.authority("")
	var ids sync.Map
	n := l.eachOf(func(i int, online func()) {
		name := fmt.Sprint("device-", i)
		d := ca.device(name)
		ids.Store(name, d.id)
		w := &waiting{name, make(chan struct{})}
		activated.Store(d.id, w)
		_, err := devices.link(d, name, i%2 == 0)
		assert.Error(t, err, "the first connection is refused")
		<-w.done
		c, err := devices.link(d, name, i%2 == 0)
		if assert.NoError(t, err) {
			assert.NoError(t, c.publish("dt/"+name+"/hello", nil))
			online()
			c.disconnect()
		}
	})
	l.ownCertificates(n, &ids, 0)
}

// waiting is a device whose certificate is to be activated.
type waiting struct {
	name string
	done chan struct{}
}
