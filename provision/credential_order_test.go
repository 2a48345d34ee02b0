package provision_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// careless is a credential step that yields other devices than it was given. It ends a run that asks it for ever.
type careless struct {
	*provision.MakeCSR
	edit  func([]provision.Candidate) []provision.Candidate
	asked int
}

func (c *careless) Prepare(ctx context.Context, devices iter.Seq2[provision.Candidate, error]) iter.Seq2[provision.Candidate, error] {
	return func(yield func(provision.Candidate, error) bool) {
		if c.asked++; c.asked > 50 {
			yield(provision.Candidate{}, errors.New("the step is asked for the same devices again and again"))
			return
		}
		var all []provision.Candidate
		for p, err := range c.MakeCSR.Prepare(ctx, devices) {
			if err != nil {
				yield(p, err)
				return
			}
			all = append(all, p)
		}
		for _, p := range c.edit(all) {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func TestACredentialStepThatYieldsOtherDevicesThanItWasGivenEndsTheRun(t *testing.T) {
	nameless := func(all []provision.Candidate) []provision.Candidate {
		for i := range all {
			all[i].Device = provision.Device{}
		}
		return all
	}
	for name, c := range map[string]struct {
		edit func([]provision.Candidate) []provision.Candidate
		text string
	}{
		"none":     {func([]provision.Candidate) []provision.Candidate { return nil }, "0 devices of 3"},
		"one less": {func(all []provision.Candidate) []provision.Candidate { return all[:max(0, len(all)-1)] }, "2 devices of 3"},
		"one less, without names": {func(all []provision.Candidate) []provision.Candidate {
			return nameless(slices.Delete(all, 0, min(1, len(all))))
		}, "2 devices of 3"},
		"one more":      {func(all []provision.Candidate) []provision.Candidate { return append(all, all[len(all)-1]) }, "more devices than"},
		"another order": {func(all []provision.Candidate) []provision.Candidate { slices.Reverse(all); return all }, `"device-3" where device "device-1" was due`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			step := &careless{MakeCSR: &provision.MakeCSR{Store: keystore.Memory()}, edit: c.edit}
			w.opts.Credential = step
			_, err := w.run(t).Run(t.Context(), rows(3))
			require.ErrorContains(t, err, c.text)
			assert.Equal(t, 1, step.asked)
			assert.Empty(t, slices.Collect(taskIDs(t, w.fake)), "a device could have the key of another")
		})
	}
}
