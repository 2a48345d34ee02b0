package provision_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

// prepared is a run whose parts are written and not sent.
func prepared(t *testing.T) (w *world, files []string) {
	t.Helper()
	w = newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.PartLines = 4
	_, err := w.run(t).Prepare(t.Context(), rows(10))
	require.NoError(t, err)
	files, err = filepath.Glob(filepath.Join(w.opts.PartDir, "part-*.json"))
	require.NoError(t, err)
	require.Len(t, files, 3)
	return w, files
}

// inBubble runs a test in virtual time.
func inBubble(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

func TestADamagedPartFileIsRefusedAndLeftAsItIs(t *testing.T) {
	damage := map[string]func(data []byte) []byte{
		"a byte changed": func(d []byte) []byte { d[20] ^= 1; return d },
		"cut short":      func(d []byte) []byte { return d[:len(d)/2] },
		"a line more":    func(d []byte) []byte { return append(d, "{}\n"...) },
		"empty":          func([]byte) []byte { return nil },
	}
	for name, change := range damage {
		// In virtual time: the first part's start may be lost when the run ends, and is then looked for through the settle
		// window.
		t.Run(name, inBubble(func(t *testing.T) {
			w, files := prepared(t)
			data, err := os.ReadFile(files[1])
			require.NoError(t, err)
			bad := change(slices.Clone(data))
			require.NoError(t, os.WriteFile(files[1], bad, 0o600))
			_, err = w.run(t).Run(t.Context(), nil)
			require.ErrorContains(t, err, files[1])
			assert.ErrorContains(t, err, "part 2")
			assert.ErrorContains(t, err, "not the file that was written")
			now, err := os.ReadFile(files[1])
			require.NoError(t, err)
			assert.True(t, bytes.Equal(bad, now), "the file must be left as it is")

			require.NoError(t, os.WriteFile(files[1], data, 0o600))
			run := w.run(t)
			_, err = run.Run(t.Context(), nil)
			require.NoError(t, err, "brought back, the run goes on")
			w.requireWorking(t, results(t, run))
			assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 3)
		}))
	}
}

func TestAMissingPartFileIsMadeAgainFromTheSameKeys(t *testing.T) {
	w, files := prepared(t)
	before, err := os.ReadFile(files[1])
	require.NoError(t, err)
	require.NoError(t, os.Remove(files[1]))
	run := w.complete(t, nil)
	after, err := os.ReadFile(files[1])
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
	w.requireWorking(t, results(t, run))
}

func TestAMissingPartFileIsNotMadeAgainFromOtherKeys(t *testing.T) {
	w, files := prepared(t)
	require.NoError(t, os.Remove(files[1]))
	keys := keystore.Memory()
	w.opts.Credential = &provision.MakeCSR{Store: keys}
	_, err := w.run(t).Run(t.Context(), nil)
	require.ErrorIs(t, err, keystore.ErrNotFound)
	assert.ErrorContains(t, err, files[1])
	assert.ErrorContains(t, err, "device-5", "the error names a device whose key is missing")
	for _, r := range results(t, w.run(t)) {
		_, err := keys.Get(t.Context(), r.Name)
		assert.ErrorIs(t, err, keystore.ErrNotFound, "a key was made for %s", r.Name)
	}
	_, err = os.Stat(files[1])
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestAPartFileOfAnotherRunIsNotOverwritten(t *testing.T) {
	w, files := prepared(t)
	// The same folder of parts, another run: whatever it writes, the first run's files stay.
	content := map[string]string{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		content[f] = string(data)
	}
	other := newWorld(t, fakebackend.Options{})
	other.durable(t)
	other.opts.PartDir, other.opts.PartLines = w.opts.PartDir, 4
	_, err := other.run(t).Run(t.Context(), rows(10))
	require.NoError(t, err)
	for f, want := range content {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		assert.Equal(t, want, string(data), "%s was changed", f)
	}
	w.complete(t, rows(10))
}

// edited gives a copy of a world's ledger with changes made by hand.
func edited(t *testing.T, w *world, run func(*provision.RunRecord), part func(*provision.PartRecord), device func(*provision.DeviceRecord)) provision.Ledger {
	t.Helper()
	from, to := w.opts.Ledger, provision.NewMemoryLedger()
	rec, err := from.Run(t.Context())
	require.NoError(t, err)
	if run != nil {
		run(rec)
	}
	require.NoError(t, to.Apply(t.Context(), provision.Change{Run: rec}))
	for d, err := range from.Devices(t.Context(), provision.DeviceFilter{}) {
		require.NoError(t, err)
		if device != nil {
			device(d)
		}
		require.NoError(t, to.Apply(t.Context(), provision.Change{Add: []*provision.DeviceRecord{d}}))
	}
	parts, err := from.Parts(t.Context())
	require.NoError(t, err)
	for _, p := range parts {
		if part != nil {
			part(p)
		}
		require.NoError(t, to.Apply(t.Context(), provision.Change{Part: p}))
	}
	return to
}

func TestALedgerThatDoesNotFitIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		run    func(*provision.RunRecord)
		part   func(*provision.PartRecord)
		device func(*provision.DeviceRecord)
		text   string
	}{
		"a line without a device": {device: func(d *provision.DeviceRecord) {
			if d.Seq == 6 {
				d.Part = 99
			}
		}, text: "part 2: no device has line 2"},
		"two devices on one line": {device: func(d *provision.DeviceRecord) {
			if d.Seq == 6 {
				d.Line = 1
			}
		}, text: `devices "device-5" and "device-6" both have line 1`},
		"a line beyond the file": {device: func(d *provision.DeviceRecord) {
			if d.Seq == 6 {
				d.Line = 5
			}
		}, text: `device "device-6" has line 5 of 4`},
		"a digest that is none": {part: func(p *provision.PartRecord) { p.SHA256 = "zz" }, text: "not the file that was written"},
		"a file elsewhere":      {part: func(p *provision.PartRecord) { p.File = "../../etc/passwd" }, text: "not the name of a part file"},
		"another template":      {run: func(r *provision.RunRecord) { r.TemplateSHA256 = "00" }, text: "another template"},
		"another account":       {run: func(r *provision.RunRecord) { r.Identity.Account, r.Identity.Region = "9", "eu-west-1" }, text: "account 9"},
		"another input": {device: func(d *provision.DeviceRecord) {
			if d.Seq == 3 {
				d.Row["SerialNumber"] = "other"
			}
		}, text: `record 3 (device "device-3") differs first in SerialNumber`},
	} {
		t.Run(name, func(t *testing.T) {
			w, files := prepared(t)
			w.opts.Ledger = edited(t, w, c.run, c.part, c.device)
			_, err := w.run(t).Run(t.Context(), rows(10))
			require.ErrorContains(t, err, c.text)
			for _, f := range files {
				_, err := os.Stat(f)
				assert.NoError(t, err)
			}
		})
	}
}

func TestReportsOfAnotherRunAreRefused(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	stranger := newWorld(t, fakebackend.Options{})
	stranger.durable(t)
	stranger.opts.Backend, stranger.opts.RoleARN = w.fake, w.opts.RoleARN
	_, err := stranger.run(t).Run(t.Context(), func(yield func(provision.Device, error) bool) {
		for i := range 3 {
			if !yield(provision.Device{Row: map[string]string{"ThingName": fmt.Sprint("other-", i), "SerialNumber": "1"}}, nil) {
				return
			}
		}
	})
	require.NoError(t, err)
	foreign := slices.Collect(taskIDs(t, w.fake))[0]

	w.complete(t, rows(3))
	// Somebody has put the other run's task into this ledger.
	w.opts.Ledger = edited(t, w, nil, func(p *provision.PartRecord) {
		p.TaskID, p.State = foreign, provision.PartEnded
	}, func(d *provision.DeviceRecord) {
		d.Verdict, d.CertificateID, d.CertificateARN, d.CertificatePEM = provision.Submitted, "", "", ""
	})
	run := w.run(t)
	_, err = run.Run(t.Context(), nil)
	require.ErrorContains(t, err, "none of the task's 3 results belongs to a device of this part")
	for _, r := range results(t, run) {
		assert.Equal(t, provision.Submitted, r.Verdict, "nothing may be made of it")
	}
}

func TestLeftoversOfACrashAreRemovedAndThoseOfOthersAreNot(t *testing.T) {
	w, _ := prepared(t)
	rec, err := w.opts.Ledger.Run(t.Context())
	require.NoError(t, err)
	own := filepath.Join(w.opts.PartDir, ".unfinished-"+rec.ID+"-77.tmp")
	other := filepath.Join(w.opts.PartDir, ".unfinished-20000101-000000-aaaaaaaa-77.tmp")
	for _, f := range []string{own, other} {
		require.NoError(t, os.WriteFile(f, []byte("{}"), 0o600))
	}
	w.complete(t, nil)
	_, err = os.Stat(own)
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = os.Stat(other)
	assert.NoError(t, err)
}

func TestAStartOfLongAgoThatCannotBeToldOfIsSettledByReadingBack(t *testing.T) {
	for _, registered := range []bool{true, false} {
		t.Run(fmt.Sprint("registered=", registered), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.durable(t)
				// The process died right after Start had left it.
				dying := &dyingStart{Backend: w.fake, effect: registered}
				w.opts.Backend = dying
				_, err := w.run(t).Run(t.Context(), rows(4))
				require.ErrorIs(t, err, errProcessDied)
				if registered {
					for id := range taskIDs(t, w.fake) {
						_, err := task.Attach(w.fake, id).Wait(t.Context(), nil)
						require.NoError(t, err)
					}
				}
				time.Sleep(40 * 24 * time.Hour) // AWS has forgotten the task
				w.opts.Backend = w.fake
				run := w.run(t)
				_, err = run.Run(t.Context(), nil)
				if !registered {
					require.ErrorIs(t, err, provision.ErrIncomplete)
					_, err = run.Retry(t.Context())
				}
				require.NoError(t, err)
				w.requireWorking(t, results(t, run))
				orphans, err := run.FindOrphans(t.Context())
				require.NoError(t, err)
				assert.Empty(t, orphans)
			})
		})
	}
}

// dyingStart is a backend whose Start ends the process.
type dyingStart struct {
	*fakebackend.Backend
	effect bool
}

var errProcessDied = errors.New("the process died")

func (d *dyingStart) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	if d.effect {
		if _, err := d.Backend.StartTask(ctx, in); err != nil {
			return "", err
		}
	}
	d.effect = false
	return "", &task.Error{Op: "StartThingRegistrationTask", Code: "Gone", Status: 500, Err: errProcessDied}
}

func (d *dyingStart) ListTasks(context.Context, *task.ListInput) (*task.TaskPage, error) {
	return nil, &task.Error{Op: "ListThingRegistrationTasks", Code: "Gone", Status: 403, Kind: task.ErrAccessDenied, Err: errProcessDied}
}
