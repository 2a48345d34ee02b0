package fakebackend

import (
	"context"
	"crypto/tls"
	"io"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// hook lets fakeaws and fakegateway reach the account; see package wire.
type hook = wire.Hook

// served is the account as the packages see it that serve it over a protocol.
type served struct{ b *account }

var _ wire.Account = served{}

// Operations are the operations of the table.
func (s served) Operations() []*restjson.Operation { return iotOperations }

// Router finds an operation.
func (s served) Router() *restjson.Router { return iotRouter }

// Do does an operation.
func (s served) Do(ctx context.Context, o *restjson.Operation, in any, empty restjson.Empty) (any, error) {
	return operationNamed(o.Name).do(ctx, s.b, in, empty)
}

// The table as fakeaws needs it.
var (
	iotOperations = func() (out []*restjson.Operation) {
		for _, o := range operations {
			out = append(out, o.Operation)
		}
		return out
	}()
	iotRouter = restjson.NewRouter(iotOperations)
)

// Services returns the account's other services.
func (s served) Services() wire.Services {
	return wire.Services{IAM: s.b.roles, S3: s.b.objects, Links: s.b.keys.Load().links, Now: s.b.clock.now()}
}

// Request applies the faults to a request that the server answers itself.
func (s served) Request(ctx context.Context, operation, thing string) (wire.Strike, error) {
	left, err := s.b.faults.request(ctx, operation, thing)
	return wire.Strike{DropAfter: left.dropAfter, Expire: left.expire, Truncate: left.truncate}, err
}

// OpenReport returns a report file.
func (s served) OpenReport(ctx context.Context, bucket, key string) (r io.ReadSeeker, ok bool, err error) {
	b := s.b
	if bucket != b.reportBucket() {
		return nil, false, nil
	}
	if _, err := b.enter(ctx, opGetObject); err != nil {
		return nil, false, err
	}
	b.reads()
	file, ok := b.findReport(bucket, key)
	b.leave()
	if !ok {
		return nil, false, nil
	}
	return file.reader(), true, nil
}

// Pass moves a clock that is stopped.
func (s served) Pass(d time.Duration) bool { return s.b.clock.pass(d) }

// Watch has f called when the account has changed.
func (s served) Watch(f func()) (stop func()) { return s.b.watchers.add(f) }

// Epoch counts the resets and restores.
func (s served) Epoch() uint64 { return s.b.epoch.Load() }

// Record adds an event.
func (s served) Record(e wire.Event) { s.b.record(Event(e)) }

// ServerTLS returns a server certificate of the root CA.
func (s served) ServerTLS(hosts []string) (tls.Certificate, error) {
	return s.b.keys.Load().root.Server(hosts)
}

// Attach makes a host the one that devices connect to.
func (s served) Attach(host string, names ...string) (detach func()) {
	hosts := new(append([]string{host}, names...))
	s.b.turn <- struct{}{}
	defer s.b.leave()
	s.b.reads()
	s.b.hosts = append(s.b.hosts, hosts)
	return sync.OnceFunc(func() {
		s.b.turn <- struct{}{}
		defer s.b.leave()
		s.b.reads()
		s.b.hosts = without(s.b.hosts, hosts)
	})
}

// Endpoint returns the account's host on AWS.
func (s served) Endpoint() string { return s.b.dataEndpoint() }
