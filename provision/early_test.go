package provision_test

import (
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// early is a device that is registered before the list is there.
var early = provision.Device{Row: map[string]string{"ThingName": "early", "SerialNumber": "900"}}

func TestADeviceMayBeRegisteredBeforeTheListComes(t *testing.T) {
	twin := provision.Device{Row: map[string]string{"ThingName": "early", "SerialNumber": "901"}}
	for name, c := range map[string]struct {
		list               []provision.Device
		total, provisioned int64
	}{
		"and is not in it":               {nil, 4, 4},
		"and is in it":                   {[]provision.Device{early}, 4, 4},
		"and is in it twice":             {[]provision.Device{early, early}, 5, 4},
		"and is in it with other values": {[]provision.Device{twin}, 5, 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.durable(t)
			res, err := w.run(t).Register(t.Context(), early)
			require.NoError(t, err)
			assert.EqualValues(t, 1, res.Seq)
			list := func() iter.Seq2[provision.Device, error] {
				return func(yield func(provision.Device, error) bool) {
					for d := range provision.Devices(c.list...) {
						if !yield(d, nil) {
							return
						}
					}
					rows(3)(yield)
				}
			}
			for range 2 { // the second call only compares
				run := w.run(t)
				summary, err := run.Run(t.Context(), list())
				if c.total == c.provisioned {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, provision.ErrIncomplete)
					assert.EqualValues(t, 1, summary.Causes[provision.CauseDuplicate])
				}
				assert.Equal(t, c.total, summary.Total)
				assert.Equal(t, c.provisioned, summary.Provisioned)
				w.requireOneCertificateEach(t, "early")
			}
			run := w.run(t)
			late, err := run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "late", "SerialNumber": "990"}})
			require.NoError(t, err)
			assert.Equal(t, c.total+1, late.Seq)
			summary, _ := run.Run(t.Context(), list())
			assert.Equal(t, c.provisioned+1, summary.Provisioned)

			_, err = run.Run(t.Context(), rows(2))
			require.ErrorIs(t, err, provision.ErrInputChanged, "a list that is shorter")
			_, err = run.Run(t.Context(), func(yield func(provision.Device, error) bool) {
				list()(yield)
				yield(provision.Device{Row: map[string]string{"ThingName": "more", "SerialNumber": "1"}}, nil)
			})
			require.ErrorIs(t, err, provision.ErrInputChanged, "a list that is longer")
		})
	}
}

func TestARunWithDevicesAndNoListIsNotOver(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.run(t)
	_, err := run.Register(t.Context(), early)
	require.NoError(t, err)
	_, err = run.Run(t.Context(), nil)
	require.ErrorContains(t, err, "1 device registered one by one, and no list yet")
	for name, call := range map[string]func() error{
		"Reconcile": func() error { _, err := run.Reconcile(t.Context()); return err },
		"Retry":     func() error { _, err := run.Retry(t.Context()); return err },
		"Collect":   func() error { _, err := run.Collect(t.Context()); return err },
	} {
		require.ErrorIs(t, call(), provision.ErrIncomplete, name)
	}
	require.ErrorContains(t, run.Adopt(t.Context(), "t", strings.NewReader("")), "has devices of its own already")
	summary, err := run.Run(t.Context(), provision.Devices())
	require.NoError(t, err, "there is no list, by the word of the caller")
	assert.EqualValues(t, 1, summary.Total)
	_, err = run.Run(t.Context(), nil)
	require.NoError(t, err)
	summary, err = run.Run(t.Context(), rows(1))
	require.NoError(t, err, "and when there is one after all, nothing of it was sent before")
	assert.EqualValues(t, 2, summary.Provisioned)
}

func TestAnEarlyDeviceWhoseAnswerWasLostIsNotRegisteredTwiceByTheList(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	output := w.opts.Output
	w.opts.Backend, w.opts.Output = &lossyRegister{w.fake, true}, fullDisk{}
	res, err := w.run(t).Register(t.Context(), early)
	require.Error(t, err)
	require.Equal(t, provision.Unknown, res.Verdict)
	w.opts.Backend, w.opts.Output = w.fake, output
	run := w.run(t)
	summary, err := run.Run(t.Context(), provision.Devices(early))
	require.NoError(t, err)
	assert.EqualValues(t, 1, summary.Total)
	w.requireOneCertificateEach(t, "early")
}

func TestNoDeviceIsRegisteredByItselfWhilePartOfTheListIsMissing(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	torn := errors.New("the disk is gone")
	_, err := w.run(t).Run(t.Context(), func(yield func(provision.Device, error) bool) {
		for d, err := range rows(1500) {
			if !yield(d, err) {
				return
			}
		}
		yield(provision.Device{}, torn)
	})
	require.ErrorIs(t, err, torn)
	_, err = w.run(t).Register(t.Context(), early)
	require.ErrorContains(t, err, "part of the input")
	assert.Zero(t, w.fake.Counts().Things)
	summary, err := w.run(t).Run(t.Context(), rows(1500))
	require.NoError(t, err)
	assert.EqualValues(t, 1500, summary.Provisioned)
}
