package provision_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// boastful is a service whose tasks count a thousand million lines when they have ended.
type boastful struct{ task.Backend }

func (b boastful) Unwrap() task.Backend { return b.Backend }

func (b boastful) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	d, err := b.Backend.DescribeTask(ctx, id)
	if err == nil && d.Status.Done() {
		d.Succeeded = 1e9
	}
	return d, err
}

func TestAReportWithMoreLinesThanTheDataFileIsNotReadToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		more := func(lines []string) []string {
			for len(lines) > 0 && len(lines) < 5000 {
				lines = append(lines, lines[0])
			}
			return lines
		}
		w.opts.Backend = boastful{shuffled{w.fake, more}}
		run := w.run(t)
		began := time.Now()
		_, err := run.Run(t.Context(), rows(3))
		require.NoError(t, err)
		w.requireWorking(t, results(t, run))
		assert.Less(t, time.Since(began), 5*time.Minute, "lines that are too many are not waited for")
	})
}
