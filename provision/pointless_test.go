package provision_test

import (
	"fmt"
	"iter"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// ofTypes makes n devices; those that are picked are of the type "gone", the others of "known".
func ofTypes(n int, gone func(i int) bool) iter.Seq2[provision.Device, error] {
	return func(yield func(provision.Device, error) bool) {
		for i := range n {
			kind := "known"
			if gone(i) {
				kind = "gone"
			}
			if !yield(ofType(fmt.Sprintf("device-%02d", i), kind), nil) {
				return
			}
		}
	}
}

func TestAPartThatFailsAsAWholeStopsTheRunBeforeTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := typedWorld(t, fakebackend.Options{Rate: 10})
		w.durable(t)
		w.opts.PartLines = 10
		w.opts.SkipPreflight = true // which would have stopped it earlier
		devices := ofTypes(30, func(int) bool { return true })
		run := w.run(t)
		_, err := run.Run(t.Context(), devices)
		require.ErrorIs(t, err, provision.ErrOneCause)
		assert.ErrorContains(t, err, "part 1, all of 10 devices, type-missing")
		assert.ErrorContains(t, err, "20 devices not sent")
		tasks := 0
		for range taskIDs(t, w.fake) {
			tasks++
		}
		assert.Equal(t, 1, tasks)

		_, err = awsIoT(w.fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: new("gone")})
		require.NoError(t, err)
		run = w.run(t)
		summary, err := run.Run(t.Context(), devices)
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.EqualValues(t, 20, summary.Provisioned)
		_, err = run.Retry(t.Context())
		require.NoError(t, err)
	})
}

func TestARunGoesOnWhereThatCanHelp(t *testing.T) {
	for name, c := range map[string]struct {
		gone  func(i int) bool
		fault *fakebackend.Fault
		lines int
	}{
		"one device of the part was registered": {func(i int) bool { return i != 3 && i < 10 }, nil, 10},
		"none waits":                            {func(i int) bool { return i >= 20 }, nil, 10},
		"a part of few lines":                   {func(i int) bool { return i < 9 }, nil, 9},
		"the cause passes by itself": {
			func(int) bool { return false },
			&fakebackend.Fault{Step: fakebackend.StepThing, Do: fakebackend.Fail, Message: "Internal failure", Times: 10}, 10,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := typedWorld(t, fakebackend.Options{Rate: 10})
				w.durable(t)
				w.opts.PartLines = c.lines
				if c.fault != nil {
					w.fault(t, *c.fault)
				}
				summary, err := w.run(t).Run(t.Context(), ofTypes(30, c.gone))
				require.ErrorIs(t, err, provision.ErrIncomplete)
				assert.Zero(t, summary.Pending)
			})
		})
	}
}
