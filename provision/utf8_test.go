package provision_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

func TestARecordThatIsNotUTF8IsRefusedWhenItIsTakenInAndTheRunIsResumed(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	input := func(last string) []map[string]string {
		return []map[string]string{
			{"ThingName": "device-1", "SerialNumber": "001"},
			{"ThingName": "device-2", "SerialNumber": "caf\xe9"},
			{"ThingName": "device-3", "SerialNumber": last},
		}
	}
	for range 2 { // the second call compares the input with the ledger
		run := w.incomplete(t, provision.Rows(input("003")...))
		all := results(t, run)
		require.Len(t, all, 3)
		assert.Equal(t, []provision.Verdict{provision.Provisioned, provision.Failed, provision.Provisioned},
			slices.Collect(func(yield func(provision.Verdict) bool) {
				for _, r := range all {
					if !yield(r.Verdict) {
						return
					}
				}
			}))
		assert.Equal(t, provision.CauseInvalidRecord, all[1].Cause)
		assert.Contains(t, all[1].Message, `column "SerialNumber" is not UTF-8`)
		assert.Equal(t, "caf\ufffd", all[1].Row["SerialNumber"])
	}
	_, err := w.run(t).Run(t.Context(), provision.Rows(input("004")...))
	require.ErrorIs(t, err, provision.ErrInputChanged)
}

func TestColumnsThatDifferOnlyInWhatIsNotUTF8DoNotKeepARunFromBeingResumed(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	row := map[string]string{"ThingName": "device-1", "SerialNumber": "001", "note \xfe": "a", "note \xff": "b"}
	for range 20 { // the order of a map is another each time
		_, err := w.run(t).Run(t.Context(), provision.Rows(row))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		require.NotErrorIs(t, err, provision.ErrInputChanged)
	}
}
