package provision_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// refusing refuses the first connections.
type refusing struct {
	inner http.RoundTripper
	left  atomic.Int32
	err   error
}

func (r *refusing) RoundTrip(req *http.Request) (*http.Response, error) {
	if r.left.Add(-1) >= 0 {
		return nil, r.err
	}
	return r.inner.RoundTrip(req)
}

func TestAServiceThatCannotBeReachedIsAnEventAtTheFirstAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		cfg := fakeaws.Config(w.fake)
		between := &refusing{inner: cfg.HTTPClient.(*http.Client).Transport, err: errors.New("connection refused")}
		between.left.Store(4)
		cfg.HTTPClient = &http.Client{Transport: between}
		backend, err := awsbackend.New(cfg, awsbackend.Options{Bucket: w.fake.Options().Bucket})
		require.NoError(t, err)
		w.opts.Backend = backend
		began := time.Now()
		var events []provision.EventUnreachable
		w.opts.Observe = func(e provision.Event) {
			if e, ok := e.(provision.EventUnreachable); ok {
				if events = append(events, e); len(events) == 1 {
					assert.Zero(t, time.Since(began), "the first attempt is reported when it has failed")
				}
			}
		}
		_, err = w.run(t).Run(t.Context(), rows(2))
		require.NoError(t, err, "it is tried again, as long as the service is not there")
		require.Len(t, events, 4)
		require.ErrorIs(t, events[0].Err, between.err)
		assert.NotEmpty(t, events[0].Host)

		_, err = backend.ListTasks(t.Context(), nil)
		require.NoError(t, err)
		between.left.Store(1)
		_, err = backend.ListTasks(t.Context(), nil)
		require.NoError(t, err)
		assert.Len(t, events, 4, "the run is over, and hears of nothing any more")
	})
}
