package provision_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// slowUpload is a backend on a thin line.
type slowUpload struct {
	task.Backend
	takes time.Duration
}

func (s slowUpload) Unwrap() task.Backend { return s.Backend }

func (s slowUpload) Upload(ctx context.Context, in *task.UploadInput) (*task.Object, error) {
	time.Sleep(s.takes)
	return s.Backend.Upload(ctx, in)
}

// TestThePartThatComesNextIsInTheBucketWhenATaskEnds has uploads that take far longer than the lead a run begins with:
// the run must learn from the first how early to close a part.
func TestThePartThatComesNextIsInTheBucketWhenATaskEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 15, StartDelay: 5 * time.Second})
		w.opts.Backend = slowUpload{w.fake, 8 * time.Second}
		w.opts.Credential = &provision.MakeCSR{Store: keystore.Memory(), Keys: slowSource(100 * time.Millisecond), Workers: 2}
		w.opts.Output = nil
		w.durable(t)
		w.complete(t, rows(1000))
		parts, err := w.opts.Ledger.Parts(t.Context())
		require.NoError(t, err)
		require.Greater(t, len(parts), 2)
		for i, p := range parts[1:] {
			assert.Less(t, p.Started.Sub(parts[i].Ended), 3*time.Second, "the service had nothing to do before part %d", p.Number)
		}
	})
}
