package fleet_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/csv"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
)

// failuresOf writes failures.csv and returns it by columns.
func failuresOf(t *testing.T, f *fleet.Fleet) (header []string, lines [][]string) {
	t.Helper()
	var file bytes.Buffer
	require.NoError(t, f.WriteFailures(t.Context(), &file))
	all, err := csv.NewReader(&file).ReadAll()
	require.NoError(t, err)
	return all[0], all[1:]
}

// mended returns failures.csv with some values set: by a device's name, then by column.
func mended(t *testing.T, f *fleet.Fleet, edits map[string]map[string]string) iter.Seq2[provision.Device, error] {
	t.Helper()
	header, lines := failuresOf(t, f)
	for _, line := range lines {
		for column, value := range edits[line[slices.Index(header, "ThingName")]] {
			line[slices.Index(header, column)] = value
		}
	}
	var file bytes.Buffer
	w := csv.NewWriter(&file)
	require.NoError(t, w.WriteAll(append([][]string{header}, lines...)))
	return provision.FromCSV(&file, "failures.csv", nil)
}

// broken is a list with a bad record for each site, and one for none.
func broken() iter.Seq2[provision.Device, error] {
	return provision.Devices(device("a", regions[0]), device("b 1", regions[0]), device("c", regions[1]), device("d 1", regions[1]),
		device("e", "mars"), device("a", regions[1]))
}

func TestTheFailuresOfAFleetGoBackToTheirSitesWhenTheyAreMended(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	f := w.incomplete(t, broken())
	header, lines := failuresOf(t, f)
	assert.Equal(t, []string{"iotfleet:record", "iotfleet:run", "iotfleet:site", "iotfleet:cause", "iotfleet:message", "SerialNumber", "ThingName", "Region"}, header)
	require.Len(t, lines, 4)
	for i, want := range [][]string{
		{"2", "eu-west-1", "invalid-record", "b 1", "eu-west-1"},
		{"2", "us-east-1", "invalid-record", "d 1", "us-east-1"},
		{"1", "", "no-route", "e", "mars"},
		{"2", "", "duplicate", "a", "us-east-1"},
	} {
		assert.Equal(t, want, []string{lines[i][0], lines[i][2], lines[i][3], lines[i][6], lines[i][7]})
	}

	mend := func(f *fleet.Fleet) iter.Seq2[provision.Device, error] {
		return mended(t, f, map[string]map[string]string{
			"b 1": {"ThingName": "b1", "SerialNumber": "1"}, "d 1": {"ThingName": "a", "SerialNumber": "1"}, "e": {"Region": regions[1]}, "a": {"ThingName": "f"},
		})
	}
	f = w.fleet(t)
	twice := slices.Collect(func(yield func(provision.Device) bool) { // what is in the file twice changes nothing
		for range 2 {
			for d, err := range mend(f) {
				require.NoError(t, err)
				if !yield(d) {
					return
				}
			}
		}
	})
	summary, err := f.Amend(t.Context(), provision.Devices(twice...))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 6)
	assert.EqualValues(t, 5, summary.Provisioned, "%v", err)
	assert.Zero(t, summary.Refused)
	all := results(t, f)
	require.Len(t, all, 6)
	w.requireOnce(t, all)
	assert.Equal(t, []string{"a", "b1"}, things(t, w.fakes[regions[0]]))
	assert.Equal(t, []string{"c", "e", "f"}, things(t, w.fakes[regions[1]]))
	_, lines = failuresOf(t, f)
	require.Len(t, lines, 1)
	assert.Contains(t, lines[0][4], `site "eu-west-1" has a device "a"`, "a name belongs to one site")
	assert.Equal(t, "us-east-1", lines[0][2])

	f = w.fleet(t)
	summary, err = f.Amend(t.Context(), mended(t, f, map[string]map[string]string{"a": {"ThingName": "d1"}}))
	require.NoError(t, err)
	requireAddsUp(t, summary, 6)
	summary, err = f.Run(t.Context(), broken())
	require.NoError(t, err, "the first list is still the fleet's")
	requireAddsUp(t, summary, 6)
	w.requireOnce(t, results(t, f))
}

func TestMendedRecordsThatCannotGoAnywhereAreToldAndNothingIsSent(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	f := w.fleet(t)
	_, err := f.Amend(t.Context(), broken())
	require.ErrorContains(t, err, "give the devices to Run again")
	_, err = f.Amend(t.Context(), nil)
	require.ErrorContains(t, err, "missing")
	_, err = f.Run(t.Context(), broken())
	require.ErrorIs(t, err, provision.ErrIncomplete)
	torn := errors.New("the disk is gone")
	for name, c := range map[string]struct {
		last provision.Device
		err  error
		text string
	}{
		"a file that ends":               {err: torn, text: "reading the mended devices after 4 records: the disk is gone"},
		"another run's":                  {last: provision.Device{RunID: "20260101-000000-00000000", Seq: 1, Row: device("b1", regions[0]).Row}, text: "no site's of this fleet"},
		"one to another site":            {last: moved(t, f), text: `it is a record of site "eu-west-1" and is routed elsewhere now`},
		"no site, no run":                {last: device("b1", "mars"), text: `there is no site "mars"`},
		"an unreadable one":              {last: provision.Device{Err: errors.New("quotes are not closed")}, text: "quotes are not closed"},
		"a refused one without a number": {last: numbered(t, f, 0), text: "has refused no record number 0"},
		"a refused one too many":         {last: numbered(t, f, 9), text: "has refused no record number 9"},
	} {
		t.Run(name, func(t *testing.T) {
			good := mended(t, f, map[string]map[string]string{"b 1": {"ThingName": "b1", "SerialNumber": "1"}})
			_, err := f.Amend(t.Context(), func(yield func(provision.Device, error) bool) {
				for d, err := range good {
					if !yield(d, err) {
						return
					}
				}
				yield(c.last, c.err)
			})
			require.ErrorContains(t, err, c.text)
			var failed *fleet.Error
			require.ErrorAs(t, err, &failed)
			require.Error(t, failed.Input)
			assert.Equal(t, []string{"a"}, things(t, w.fakes[regions[0]]))
		})
	}
}

// moved is a record of the first site that names the second one now.
func moved(t *testing.T, f *fleet.Fleet) provision.Device {
	for d := range mended(t, f, map[string]map[string]string{"b 1": {"Region": regions[1]}}) {
		return d
	}
	return provision.Device{}
}

// numbered is a record that the fleet has refused, with another number.
func numbered(t *testing.T, f *fleet.Fleet, n int64) (last provision.Device) {
	for last = range mended(t, f, nil) {
	}
	last.Seq = n
	return last
}

func TestARecordWithoutARouteThatIsNotMendedStaysRefused(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	f := w.incomplete(t, provision.Devices(device("a", regions[0]), device("e", "mars"), device("g", "mars"), device("h", "mars")))
	summary, err := f.Amend(t.Context(), mended(t, f, map[string]map[string]string{"e": {"Region": "venus"}, "g": {"Region": regions[1], "ThingName": "a"},
		"h": {"Region": regions[0], "ThingName": "a"}})) // with another serial number
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 4)
	assert.EqualValues(t, 3, summary.Refused)
	_, lines := failuresOf(t, f)
	require.Len(t, lines, 3)
	assert.Contains(t, lines[2][4], `record 1 of site "eu-west-1" has the same thing name and other values`)
	assert.Contains(t, lines[0][4], `there is no site "venus"`)
	assert.Contains(t, lines[1][4], `site "eu-west-1" has a device "a"`)
	assert.Equal(t, "duplicate", lines[1][3])
	assert.Empty(t, things(t, w.fakes[regions[1]]))
}

// Register would take such a record for a board that comes in the other one's place.
func TestAMendedRecordReplacesNoOtherDevice(t *testing.T) {
	w := newWorld(t, 1, fakebackend.Options{})
	w.durable(t)
	w.change(regions[0], func(o *provision.Options) { o.Existing = provision.ReplaceExisting })
	f := w.incomplete(t, provision.Devices(device("a", regions[0]), device("h", "mars")))
	before := results(t, f)
	summary, err := f.Amend(t.Context(), mended(t, f, map[string]map[string]string{"h": {"Region": regions[0], "ThingName": "a"}}))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 2)
	after := results(t, f)
	assert.Equal(t, before[0], after[0])
	assert.Equal(t, provision.CauseDuplicate, after[1].Cause)
	w.requireOnce(t, after)
}

func TestAMendedRecordThatCannotBeReadStaysAtItsSite(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	f := w.incomplete(t, broken())
	for d := range mended(t, f, nil) {
		d.Row, d.Err = nil, errors.New("quotes are not closed")
		_, err := f.Amend(t.Context(), provision.Devices(d))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		break
	}
	_, lines := failuresOf(t, f)
	require.Len(t, lines, 4)
	assert.Equal(t, []string{"eu-west-1", "invalid-record", "quotes are not closed"}, lines[0][2:5])
	assert.Equal(t, "eu-west-1", lines[0][7])
}

// The process dies between the site's ledger, which has the device, and the fleet's own, which does not know it yet.
func TestAMendedRecordIsRegisteredOnceThoughTheProcessDies(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	w.incomplete(t, provision.Devices(device("a", regions[0]), device("e", "mars")))
	sound := w.opts.Ledger
	w.opts.Ledger = &brokenLedger{Ledger: sound}
	f := w.fleet(t)
	edits := map[string]map[string]string{"e": {"Region": regions[1]}}
	_, err := f.Amend(t.Context(), mended(t, f, edits))
	require.ErrorContains(t, err, "the disk is full")
	assert.Equal(t, []string{"e"}, things(t, w.fakes[regions[1]]))
	w.opts.Ledger = sound
	f = w.fleet(t)
	summary, err := f.Amend(t.Context(), mended(t, f, edits))
	require.NoError(t, err)
	requireAddsUp(t, summary, 2)
	w.requireOnce(t, results(t, f))
}

func TestAPrivateKeyInAMendedRecordIsNotKept(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	f := w.incomplete(t, provision.Devices(device("a", regions[0]), device("b 1", regions[0]), device("e", "mars")))
	key := "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n-----END PRIVATE KEY-----\n"
	_, err := f.Amend(t.Context(), mended(t, f, map[string]map[string]string{
		"b 1": {"SerialNumber": key}, "e": {"SerialNumber": key, "Region": key},
	}))
	require.Error(t, err)
	var file strings.Builder
	require.NoError(t, f.WriteFailures(t.Context(), &file))
	assert.NotContains(t, file.String()+err.Error(), "MIGHAg")
}

// noSigner makes no keys.
type noSigner struct{}

func (noSigner) Signer(context.Context, string) (crypto.Signer, error) {
	return nil, errors.New("no key today")
}

// A device that was never sent held no name. Another site got a device of that name, and failed to make its key as well.
func TestRetryBringsANameToOneSiteOnly(t *testing.T) {
	w := newWorld(t, 3, fakebackend.Options{})
	w.durable(t)
	keyless := func(on bool) {
		for name := range w.opts.Sites {
			w.change(name, func(o *provision.Options) {
				o.Credential = &provision.MakeCSR{Store: w.keys}
				if on {
					o.Credential = &provision.MakeCSR{Store: w.keys, Keys: noSigner{}}
				}
			})
		}
	}
	keyless(true)
	f := w.incomplete(t, provision.Devices(device("a", regions[0]), device("b", regions[0])))
	_, err := f.Register(t.Context(), device("a", regions[1]))
	require.ErrorContains(t, err, "no key today")
	keyless(false)
	f = w.fleet(t)
	_, err = f.Register(t.Context(), device("b", regions[2]))
	require.NoError(t, err, "b was never sent at the first site")
	summary, err := f.Retry(t.Context())
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 4)
	assert.EqualValues(t, 2, summary.Provisioned)
	assert.EqualValues(t, 2, summary.Causes[provision.CauseDuplicate])
	w.requireOnce(t, results(t, f))
	assert.Equal(t, []string{"b"}, things(t, w.fakes[regions[2]]))
}
