package awsbackend

import (
	"errors"
	"net/url"
	"sync"

	"github.com/seed1ff6f450/iotfleet/task"
)

// listeners are who is told of requests that got no answer.
type listeners struct {
	mu   sync.Mutex
	all  map[int]func(host string, err error)
	next int
}

// Notify implements [task.Notifier]. f is called after each single attempt, also those of the SDK's own retries, and not
// when the context has ended the request or something other than AWS has answered it, which is not tried again.
func (b *Backend) Notify(f func(host string, err error)) (stop func()) {
	l := &b.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[int]func(string, error){}
	}
	id := l.next
	l.next++
	l.all[id] = f
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.all, id)
	}
}

// lost tells all listeners.
func (l *listeners) lost(host string, err error) {
	if errors.Is(err, task.ErrNotService) {
		return
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the address, which may be a presigned link
	}
	l.mu.Lock()
	all := make([]func(string, error), 0, len(l.all))
	for _, f := range l.all {
		all = append(all, f)
	}
	l.mu.Unlock()
	for _, f := range all {
		f(host, err)
	}
}
