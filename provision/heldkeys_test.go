package provision_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
)

// stray is a private key that has got where it does not belong.
type stray struct {
	text   string // in PEM
	base64 string
	forms  map[string][]byte
}

func newStray(t *testing.T) stray {
	t.Helper()
	key := certtest.Key()
	private := csr.NewPrivateKey(key)
	text, err := private.PEM()
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	return stray{string(text), base64.StdEncoding.EncodeToString(block.Bytes), needles(t, private)}
}

// requireNowhere searches all that a run keeps.
func (s stray) requireNowhere(t *testing.T, run *provision.Run, dir string) {
	t.Helper()
	var kept haystack
	for _, r := range results(t, run) {
		kept.show(r)
	}
	require.NoError(t, run.WriteManifest(t.Context(), dir))
	kept.files(t, dir)
	for form, n := range s.forms {
		assert.False(t, bytes.Contains(kept.text.Bytes(), n), "the key is kept in %s", form)
	}
	assert.NotContains(t, kept.text.String(), "PRIVATE KEY")
	assert.Contains(t, kept.text.String(), "[private key removed]")
}

// sqliteWorld has a ledger in a file, and its part files in the same folder.
func sqliteWorld(t *testing.T) (w *world, dir string) {
	t.Helper()
	w, dir = newWorld(t, fakebackend.Options{}), t.TempDir()
	ledger, err := sqliteledger.Open(t.Context(), filepath.Join(dir, "fleet.db"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ledger.Close() })
	w.opts.Ledger, w.opts.PartDir = ledger, filepath.Join(dir, "parts")
	return w, dir
}

func TestAPrivateKeyInTheListIsRefusedAndNeverKept(t *testing.T) {
	key := newStray(t)
	request := madeElsewhere(t, "one").PEM()
	row := func(more ...string) provision.Device {
		d := provision.Device{Row: map[string]string{"ThingName": "one", "SerialNumber": "1", "CSR": request}, Source: "list.csv:2"}
		for i := 0; i < len(more); i += 2 {
			d.Row[more[i]] = more[i+1]
		}
		return d
	}
	named, sourced, marked := row(), row(), row()
	named.Name, sourced.Source, marked.Err = key.text, "list "+key.text, errors.New("can't read "+key.text)
	for name, c := range map[string]struct {
		device provision.Device
		column string // that must be named; "-" if the device is refused for another reason, "" if it is not refused
	}{
		"beside a request":       {row("CSR", request+key.text), "CSR"},
		"before a request":       {row("CSR", key.text+request), "CSR"},
		"beside a certificate":   {row("CSR", newOwnCA().sign("one")+key.text), "CSR"},
		"in a column of its own": {row("PrivateKey", key.text), "PrivateKey"},
		"in another column":      {row("SerialNumber", key.text), "SerialNumber"},
		"in base64":              {row("SerialNumber", key.base64), "SerialNumber"},
		"with lost line ends":    {row("SerialNumber", strings.ReplaceAll(key.text, "\n", " ")), "SerialNumber"},
		"as the thing's name":    {row("ThingName", key.text), "ThingName"},
		"as a column's name":     {row(key.text, "x"), "[private key removed]"},
		"as the device's name":   {named, "its name"},
		"in its source":          {sourced, ""},
		"in an error":            {marked, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			w, dir := sqliteWorld(t)
			w.opts.Credential = &provision.GivenCSR{}
			devices := provision.Devices(c.device)
			report, err := w.run(t).Check(t.Context(), devices)
			require.NoError(t, err)
			assert.Equal(t, c.column == "", report.OK(), "the dry run refuses what the run refuses")
			run := w.run(t)
			_, err = run.Run(t.Context(), devices)
			assert.Equal(t, c.column == "", err == nil)
			one := results(t, run)[0]
			if c.column != "" {
				assert.Equal(t, provision.CauseInvalidRecord, one.Cause)
				assert.Zero(t, one.Attempts)
			}
			if len(c.column) > 1 {
				assert.Contains(t, one.Message, c.column)
				assert.Contains(t, one.Message, "held a private key")
				assert.Equal(t, report.Refusals[0].Message, one.Message)
			}
			if c.column == "CSR" {
				assert.Contains(t, one.Message, `device "one"`)
			}
			key.requireNowhere(t, run, dir)
			_, err = run.Run(t.Context(), devices)
			assert.NotErrorIs(t, err, provision.ErrInputChanged, "the same list goes on")

			// What was written in its place is not sent in its place.
			if c.column == "SerialNumber" {
				_, err = run.Amend(t.Context(), provision.Devices(provision.Device{Seq: 1, Row: one.Row}))
				require.ErrorIs(t, err, provision.ErrIncomplete)
				assert.Contains(t, results(t, run)[0].Message, "held a private key")
			}
		})
	}
}

func TestAMendedRecordWithAPrivateKeyIsNotKeptEither(t *testing.T) {
	key := newStray(t)
	w, dir := sqliteWorld(t)
	run := w.run(t)
	device := provision.Device{Row: map[string]string{"ThingName": "one"}}
	_, err := run.Run(t.Context(), provision.Devices(device))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	mended := provision.Device{Seq: 1, Row: maps.Clone(device.Row), Source: "mended " + key.text}
	mended.Row["SerialNumber"] = key.text
	_, err = run.Amend(t.Context(), provision.Devices(mended))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.Contains(t, results(t, run)[0].Message, `column "SerialNumber" held a private key`)
	key.requireNowhere(t, run, dir)
	mended.RunID = key.text
	_, err = run.Amend(t.Context(), provision.Devices(mended))
	require.ErrorIs(t, err, provision.ErrInputChanged)
	assert.NotContains(t, err.Error(), "PRIVATE")

	_, err = run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "two", "SerialNumber": key.text}})
	require.ErrorContains(t, err, `device "two": column "SerialNumber" held a private key`)
	key.requireNowhere(t, run, dir)
}

func TestAnAdoptedLineWithAPrivateKeyIsKeptWithoutIt(t *testing.T) {
	key := newStray(t)
	w, dir := sqliteWorld(t)
	w.opts.Credential = &provision.GivenCSR{}
	line, err := json.Marshal(map[string]string{"ThingName": "one", "SerialNumber": key.text, "CSR": madeElsewhere(t, "one").PEM()})
	require.NoError(t, err)
	body, err := w.opts.Template.Body()
	require.NoError(t, err)
	_, err = w.fake.Upload(t.Context(), upload("hand.json", string(line)))
	require.NoError(t, err)
	id, err := w.fake.StartTask(t.Context(), &task.StartInput{TemplateBody: body, InputFileBucket: "iotfleet-fake", InputFileKey: "hand.json", RoleARN: w.opts.RoleARN})
	require.NoError(t, err)
	run := w.run(t)
	require.NoError(t, run.Adopt(t.Context(), id, bytes.NewReader(line)))
	key.requireNowhere(t, run, dir)
}

func TestAPrivateKeyInATextOfTheServiceIsNotKept(t *testing.T) {
	key := newStray(t)
	w, dir := sqliteWorld(t)
	w.fault(t, fakebackend.Fault{Line: 1, Step: fakebackend.StepThing, Do: fakebackend.Fail, Message: "refused: " + key.text})
	run := w.incomplete(t, rows(1))
	assert.Contains(t, results(t, run)[0].Message, "refused")
	key.requireNowhere(t, run, dir)
}

// tattling is a backend whose errors hold what nobody should keep.
type tattling struct {
	*fakebackend.Backend
	text string
}

func (b tattling) RegisterThing(context.Context, *task.RegisterInput) (*task.Registration, error) {
	return nil, fmt.Errorf("%w: %s", task.ErrOutcomeUnknown, b.text)
}

func TestAPrivateKeyInAnErrorOfTheBackendIsNotKept(t *testing.T) {
	key := newStray(t)
	w, dir := sqliteWorld(t)
	w.opts.Backend = tattling{w.fake, "sent " + key.text}
	run := w.complete(t, rows(1))
	res, err := run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "board", "SerialNumber": "2"}})
	require.Error(t, err)
	assert.Equal(t, provision.Unknown, res.Verdict)
	assert.NotContains(t, err.Error()+res.Message, "PRIVATE KEY")
	key.requireNowhere(t, run, dir)
}
