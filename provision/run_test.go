package provision_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

func TestRunTakesDevicesToWorkingCertificates(t *testing.T) {
	w := folderWorld(t, fakebackend.Options{})
	run := w.run(t)
	summary, err := run.Run(t.Context(), rows(3))
	require.NoError(t, err)
	assert.EqualValues(t, 3, summary.Provisioned)
	assert.EqualValues(t, 3, summary.Total)
	assert.Len(t, summary.Tasks, 1)
	assert.True(t, summary.Fake)
	all := results(t, run)
	require.Len(t, all, 3)
	w.requireWorking(t, all)
	for i, r := range all {
		assert.EqualValues(t, i+1, r.Seq)
		var thing provision.Delivery
		data, err := os.ReadFile(filepath.Join(w.folder.Path(r.Name), "thing.json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &thing))
		assert.Equal(t, r.ThingARN, thing.ThingARN)
		assert.Equal(t, r.CertificateARN, thing.CertificateARN)
		assert.Equal(t, r.Name, thing.ClientID)
		assert.NotEmpty(t, thing.Endpoint)
		assert.Len(t, thing.PolicyNames, 1)
		assert.True(t, thing.Fake, "a fake certificate must say so in its file")
		pemFile, err := os.ReadFile(filepath.Join(w.folder.Path(r.Name), "certificate.pem"))
		require.NoError(t, err)
		assert.Equal(t, r.CertificatePEM, string(pemFile))
	}
}

func TestRunCutsPartsAndRegistersThemInTurn(t *testing.T) {
	w := newWorld(t, fakebackend.Options{LinesPerReport: 3})
	w.opts.PartLines = 10
	run := w.run(t)
	summary, err := run.Run(t.Context(), rows(35))
	require.NoError(t, err)
	assert.Len(t, summary.Tasks, 4)
	w.requireWorking(t, results(t, run))
}

func TestPartBytesLimitsTheSizeOfAPart(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.PartBytes = 1 // every part takes one device: at least one must fit
	run := w.run(t)
	summary, err := run.Run(t.Context(), rows(3))
	require.NoError(t, err)
	assert.Len(t, summary.Tasks, 3)
	w.requireWorking(t, results(t, run))
}

func TestABadRecordFailsAloneAndIsNeverSent(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	run := w.run(t)
	good := func(name, serial string) provision.Device {
		return provision.Device{Row: map[string]string{"ThingName": name, "SerialNumber": serial}}
	}
	summary, err := run.Run(t.Context(), provision.Devices(
		good("one", "1"),
		good("has space", "2"),
		good("one", "3"),
		provision.Device{Row: map[string]string{"ThingName": "four"}},
		provision.Device{Err: errors.New("line 5: quotes are not closed")},
		provision.Device{Row: map[string]string{"ThingName": "six", "SerialNumber": "6", "Colour": "red"}},
		good("seven", "a b"),
		good("eight", "8"),
	))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.EqualValues(t, 2, summary.Provisioned)
	assert.EqualValues(t, 6, summary.Failed)
	all := results(t, run)
	require.Len(t, all, 8)
	w.requireWorking(t, []*provision.Result{all[0], all[7]})
	for i, want := range map[int]struct {
		cause provision.Cause
		text  string
	}{
		1: {provision.CauseInvalidRecord, "thing name"},
		2: {provision.CauseDuplicate, "record 1"},
		3: {provision.CauseInvalidRecord, "SerialNumber"},
		4: {provision.CauseInvalidRecord, "quotes are not closed"},
		5: {provision.CauseInvalidRecord, "Colour"},
		6: {provision.CauseInvalidRecord, "attribute value"},
	} {
		assert.Equal(t, provision.Failed, all[i].Verdict, "record %d", i+1)
		assert.Equal(t, want.cause, all[i].Cause, "record %d", i+1)
		assert.Contains(t, all[i].Message, want.text, "record %d", i+1)
		assert.Zero(t, all[i].Attempts, "record %d must not be sent", i+1)
	}
}

func TestNothingProvisionedIsNeverSuccess(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	_, err := w.run(t).Run(t.Context(), rows(0))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.ErrorContains(t, err, "no device")
}

func TestANewRunRefusesKeysOfAnEarlierOne(t *testing.T) {
	w := folderWorld(t, fakebackend.Options{})
	w.complete(t, rows(2))
	before := folderContent(t, w.folder.Path("device-1"))
	_, err := w.run(t).Run(t.Context(), rows(2))
	require.ErrorIs(t, err, keystore.ErrExists)
	assert.ErrorContains(t, err, "device-1")
	assert.Equal(t, before, folderContent(t, w.folder.Path("device-1")))
	assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1, "nothing may be sent for it")
}

func folderContent(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		out[e.Name()] = string(data)
	}
	return out
}

func taskIDs(t *testing.T, b task.Backend) iter.Seq[task.ID] {
	return func(yield func(task.ID) bool) {
		for id, err := range task.List(t.Context(), b, "") {
			require.NoError(t, err)
			if !yield(id) {
				return
			}
		}
	}
}

func TestAFinishedRunIsConfirmedAndNothingIsSentAgain(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.complete(t, rows(4))
	run := w.run(t) // as a new process would
	summary, err := run.Run(t.Context(), rows(4))
	require.NoError(t, err)
	assert.EqualValues(t, 4, summary.Provisioned)
	assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1)
	w.requireWorking(t, results(t, run))

	summary, err = w.run(t).Run(t.Context(), nil)
	require.NoError(t, err, "the input is in the ledger, so it need not be given again")
	assert.EqualValues(t, 4, summary.Provisioned)
}

func TestAChangedInputIsRefusedWithItsFirstDifference(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.complete(t, rows(4))
	for name, c := range map[string]struct {
		devices iter.Seq2[provision.Device, error]
		text    string
	}{
		"a value": {func(yield func(provision.Device, error) bool) {
			for d, err := range rows(4) {
				if d.Row["ThingName"] == "device-3" {
					d.Row["SerialNumber"] = "other"
				}
				if !yield(d, err) {
					return
				}
			}
		}, "record 3 (device \"device-3\") differs first in SerialNumber"},
		"a column": {provision.Devices(provision.Device{Row: map[string]string{
			"ThingName": "device-1", "SerialNumber": "001", "Colour": "red",
		}}), "record 1 (device \"device-1\") had no Colour"},
		"a name": {provision.Devices(provision.Device{Name: "device-7", Row: map[string]string{
			"ThingName": "device-1", "SerialNumber": "001",
		}}), "record 1 was device \"device-1\" and is now another one"},
		"shorter": {rows(3), "ends after 3 records"},
		"longer":  {rows(5), "record 5 is one more"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.run(t).Run(t.Context(), c.devices)
			require.ErrorIs(t, err, provision.ErrInputChanged)
			assert.ErrorContains(t, err, c.text)
		})
	}
}

func TestARunRefusesToGoOnElsewhere(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.complete(t, rows(1))

	other, err := fakebackend.New(fakebackend.Options{Account: "999999999999", Region: "eu-west-1"})
	require.NoError(t, err)
	opts := w.opts
	opts.Backend = other
	run, err := provision.New(opts)
	require.NoError(t, err)
	_, err = run.Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrElsewhere)
	assert.ErrorContains(t, err, "999999999999")

	opts = w.opts
	tmpl, err := template.Parse([]byte(`{"Parameters":{"ThingName":{"Type":"String"},"SerialNumber":{"Type":"String"},"CSR":{"Type":"String"}},"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"AttributePayload":{"s":{"Ref":"SerialNumber"}}}},"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"}}}}}`))
	require.NoError(t, err)
	opts.Template = tmpl
	run, err = provision.New(opts)
	require.NoError(t, err)
	_, err = run.Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrElsewhere)
}

// shuffled is a backend whose reports come in another order, with other line numbers or none.
type shuffled struct {
	task.Backend
	edit func(lines []string) []string
}

func (s shuffled) Unwrap() task.Backend { return s.Backend }

func (s shuffled) Open(ctx context.Context, l task.Link, offset int64) (io.ReadCloser, error) {
	body, err := s.Backend.Open(ctx, l, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	lines := s.edit(strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n"))
	text := strings.Join(lines, "")
	return io.NopCloser(strings.NewReader(text[min(int(offset), len(text)):])), nil
}

func TestResultsAreMatchedByPublicKeyWhateverTheirOrder(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Backend = shuffled{w.fake, func(lines []string) []string {
		for i := range lines {
			lines[i] = strings.TrimSuffix(lines[i], "\n") + "\n"
		}
		slices.Reverse(lines)
		return lines
	}}
	w.requireWorking(t, results(t, w.complete(t, rows(5))))
}

func TestAnErrorLineIsTiedToItsDeviceOnlyWhenTheNumbersAreProved(t *testing.T) {
	// device-2 and device-4 name a thing type that does not exist.
	tmpl, err := template.Parse([]byte(`{"Parameters":{"ThingName":{"Type":"String"},"Type":{"Type":"String"},"CSR":{"Type":"String"}},
		"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"ThingTypeName":{"Ref":"Type"}}},
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"Active"}}}}`))
	require.NoError(t, err)
	devices := func(types ...string) iter.Seq2[provision.Device, error] {
		return func(yield func(provision.Device, error) bool) {
			for i, typ := range types {
				if !yield(provision.Device{Row: map[string]string{"ThingName": fmt.Sprintf("device-%d", i+1), "Type": typ}}, nil) {
					return
				}
			}
		}
	}
	world := func(t *testing.T) *world {
		w := newWorld(t, fakebackend.Options{})
		_, err := awsIoT(w.fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: new("known")})
		require.NoError(t, err)
		w.opts.Template = tmpl
		return w
	}
	t.Run("against matched results", func(t *testing.T) {
		w := world(t)
		run := w.incomplete(t, devices("known", "gone", "known", "lost"))
		all := results(t, run)
		w.requireWorking(t, []*provision.Result{all[0], all[2]})
		assert.Equal(t, provision.CauseTypeMissing, all[1].Cause)
		assert.Contains(t, all[1].Message, "gone")
		assert.Equal(t, provision.CauseTypeMissing, all[3].Cause)
		assert.Contains(t, all[3].Message, "lost")
	})
	t.Run("when every line was refused", func(t *testing.T) {
		w := world(t)
		w.opts.SkipPreflight = true
		run := w.run(t)
		summary, err := run.Run(t.Context(), devices("gone", "lost"))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.EqualValues(t, 2, summary.Failed)
		all := results(t, run)
		assert.Contains(t, all[0].Message, "gone")
		assert.Contains(t, all[1].Message, "lost")
	})
	t.Run("but not when the numbers mean nothing", func(t *testing.T) {
		w := world(t)
		w.opts.Backend = blind{shuffled{w.fake, func(lines []string) []string {
			for i, l := range lines {
				_, rest, _ := strings.Cut(l, ",")
				lines[i] = "{" + strings.TrimSuffix(rest, "\n") + "\n"
			}
			return lines
		}}}
		run := w.run(t)
		summary, err := run.Run(t.Context(), devices("known", "gone", "known", "lost"))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.EqualValues(t, 2, summary.Provisioned)
		assert.EqualValues(t, 2, summary.Unknown, "which text is whose can't be told")
	})
}

// blind hides the abilities of the backend it holds.
type blind struct{ task.Backend }

func TestAStartWhoseAnswerIsLostIsNotRepeated(t *testing.T) {
	for _, effect := range []bool{true, false} {
		t.Run(fmt.Sprintf("effect=%v", effect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{Rate: 10})
				w.opts.PartLines = 5
				lossy := &lossyStart{Backend: w.fake, effect: effect, lose: 2}
				w.opts.Backend = lossy
				run := w.run(t)
				summary, err := run.Run(t.Context(), rows(10))
				require.NoError(t, err)
				assert.EqualValues(t, 10, summary.Provisioned)
				assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 2, "one task for each part")
				w.requireWorking(t, results(t, run))
				assert.Zero(t, lossy.lose, "the fault must have hit")
				lost := slices.DeleteFunc(w.events, func(e provision.Event) bool { _, ok := e.(provision.EventStartLost); return !ok })
				require.Len(t, lost, 2, "who watches is told why nothing moves")
				first, second := lost[0].(provision.EventStartLost), lost[1].(provision.EventStartLost)
				assert.Equal(t, 1, first.Part)
				assert.True(t, second.Until.After(first.Until) && !first.Until.IsZero())
			})
		})
	}
}

type lossyStart struct {
	task.Backend
	effect bool
	lose   int
}

func (l *lossyStart) Unwrap() task.Backend { return l.Backend }

func (l *lossyStart) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	if l.lose == 0 {
		return l.Backend.StartTask(ctx, in)
	}
	l.lose--
	if l.effect {
		if _, err := l.Backend.StartTask(ctx, in); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("connection reset: %w", task.ErrOutcomeUnknown)
}

func TestAForeignTaskIsWaitedForOrRefusedAsAsked(t *testing.T) {
	start := func(t *testing.T, w *world) {
		data := "{}\n"
		_, err := w.fake.Upload(t.Context(), upload("foreign.json", data))
		require.NoError(t, err)
		body, err := w.opts.Template.Body()
		require.NoError(t, err)
		_, err = w.fake.StartTask(t.Context(), &task.StartInput{TemplateBody: body, InputFileBucket: "iotfleet-fake", InputFileKey: "foreign.json", RoleARN: w.opts.RoleARN})
		require.NoError(t, err)
	}
	t.Run("waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{Rate: 0.01})
			start(t, w)
			began := time.Now()
			w.complete(t, rows(1))
			assert.Greater(t, time.Since(began), 100*time.Second)
			assert.True(t, slices.ContainsFunc(w.events, func(e provision.Event) bool { _, ok := e.(provision.EventTaskWaiting); return ok }))
		})
	})
	t.Run("refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{Rate: 0.01})
			w.opts.Foreign = provision.FailOnForeign
			start(t, w)
			_, err := w.run(t).Run(t.Context(), rows(1))
			require.ErrorIs(t, err, task.ErrTaskRunning)
		})
	})
}

func upload(key, content string) *task.UploadInput {
	return &task.UploadInput{Key: key, Body: strings.NewReader(content), Size: int64(len(content)), SHA256: sha256.Sum256([]byte(content))}
}
