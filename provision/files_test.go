package provision_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

func TestFolderWritesFilesOnceAndNeverOverOthers(t *testing.T) {
	keys, err := keystore.OpenFolder(filepath.Join(t.TempDir(), "keys"), nil)
	require.NoError(t, err)
	out := provision.Folder(keys)
	d := &provision.Delivery{ThingName: "NUL:x", ThingARN: "arn:aws:iot:r:1:thing/NUL:x", ClientID: "NUL:x", CertificateID: "aa",
		CertificatePEM: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", PolicyNames: []string{"p"}, Endpoint: "h.example"}
	require.NoError(t, out.Deliver(t.Context(), d))
	require.NoError(t, out.Sync(t.Context()))
	require.NoError(t, out.Deliver(t.Context(), d), "after a crash the same is delivered again")
	require.NoError(t, out.Sync(t.Context()))
	dir := keys.Path("NUL:x")
	for _, name := range []string{"certificate.pem", "thing.json"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
		}
	}
	var got provision.Delivery
	data, err := os.ReadFile(filepath.Join(dir, "thing.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &got))
	want := *d
	want.CertificatePEM = ""
	assert.Equal(t, want, got)

	other := *d
	other.CertificatePEM = "-----BEGIN CERTIFICATE-----\nBB==\n-----END CERTIFICATE-----\n"
	require.NoError(t, out.Deliver(t.Context(), &other))
	err = out.Sync(t.Context())
	require.ErrorContains(t, err, filepath.Join(dir, "certificate.pem"))
	assert.ErrorContains(t, err, `device "NUL:x"`)
	require.NoError(t, out.Sync(t.Context()), "what could not be written is not tried again by itself")
	now, err := os.ReadFile(filepath.Join(dir, "certificate.pem"))
	require.NoError(t, err)
	assert.Equal(t, d.CertificatePEM, string(now))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, out.Deliver(ctx, &provision.Delivery{ThingName: "late"}), context.Canceled)
	require.NoError(t, out.Deliver(t.Context(), &provision.Delivery{ThingName: "late"}))
	assert.ErrorIs(t, out.Sync(ctx), context.Canceled)
	_, err = os.Stat(keys.Path("late"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestCheckFindsWhatIsWrongAndChangesNothing(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Template = typed(t)
	before := w.fake.Counts()
	report, err := w.run(t).Check(t.Context(), provision.Devices(
		ofType("a", "lamp"), ofType("b b", "lamp"), ofType("a", "lamp"), ofType("d", "lamp"), ofType("e", "lamp"), ofType("f", "lamp"),
		provision.Device{Row: map[string]string{"ThingName": "g"}},
	))
	require.NoError(t, err)
	assert.False(t, report.OK())
	assert.EqualValues(t, 7, report.Devices)
	assert.EqualValues(t, 3, report.Refused)
	var causes []provision.Cause
	for _, p := range report.Refusals {
		causes = append(causes, p.Cause)
	}
	assert.Equal(t, []provision.Cause{provision.CauseInvalidRecord, provision.CauseDuplicate, provision.CauseInvalidRecord}, causes)
	require.Len(t, report.Samples, 3)
	assert.Equal(t, "a", report.Samples[0].Creates.Things[0].ThingName)
	assert.Equal(t, "(filled in by the run)", report.Samples[0].Creates.Certificate.CertificateSigningRequest)
	assert.Equal(t, "lamp", report.Samples[0].Creates.Things[0].ThingTypeName)
	i := slices.IndexFunc(report.Findings, func(f finding.Finding) bool { return f.Resource == "lamp" })
	require.GreaterOrEqual(t, i, 0, "the type that the rows name is looked for: %v", report.Findings)
	assert.Equal(t, finding.Error, report.Findings[i].Severity)

	assert.Equal(t, before, w.fake.Counts())
	_, err = w.opts.Ledger.Run(t.Context())
	assert.ErrorIs(t, err, provision.ErrNoRun)
	for _, device := range []string{"a", "b b", "d", "e", "f", "g"} {
		_, err := w.keys.Get(t.Context(), device)
		assert.ErrorIs(t, err, keystore.ErrNotFound, "a key was made for %s", device)
	}

	_, err = awsIoT(w.fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: new("lamp")})
	require.NoError(t, err)
	report, err = w.run(t).Check(t.Context(), provision.Devices(ofType("a", "lamp")))
	require.NoError(t, err)
	assert.Equal(t, task.ResourcesInput{ThingTypes: []string{"lamp"}}, report.Refers)
	assert.True(t, report.OK(), "%v", report.Findings)
	report, err = w.run(t).Check(t.Context(), provision.Devices())
	require.NoError(t, err)
	assert.False(t, report.OK(), "nothing to do is not success")
}

// anyTemplate takes whatever value for its attributes; rows with it never reach a service here.
var anyTemplate = func() *template.Template {
	t, err := template.Parse([]byte(`{"Parameters":{"ThingName":{"Type":"String"},"Note":{"Type":"String","Default":"x"},"CSR":{"Type":"String"}},
		"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"AttributePayload":{"note":{"Ref":"Note"}}}},
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"}}}}}`))
	if err != nil {
		panic(err)
	}
	return t
}()

// failuresOf writes failures.csv for devices that failed, and reads it back.
func failuresOf(t testing.TB, devices ...*provision.DeviceRecord) (text string, back []provision.Device) {
	t.Helper()
	ledger := provision.NewMemoryLedger()
	require.NoError(t, ledger.Apply(t.Context(), provision.Change{Run: &provision.RunRecord{ID: "r"}, Add: devices}))
	run, err := provision.New(provision.Options{Backend: unreachable{}, Template: anyTemplate, RoleARN: "arn:aws:iam::123456789012:role/registration", Ledger: ledger, PartDir: "unused",
		Credential: &provision.MakeCSR{Store: keystore.None()}})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, run.WriteFailures(t.Context(), &out))
	text = out.String()
	for d, err := range provision.FromCSV(&out, "failures.csv", nil) {
		require.NoError(t, err)
		back = append(back, d)
	}
	return text, back
}

func failedRecord(seq int64, row map[string]string, message string) *provision.DeviceRecord {
	return &provision.DeviceRecord{Result: provision.Result{Seq: seq, Name: row["ThingName"], Row: row, Verdict: provision.Failed,
		Cause: provision.CauseOther, Message: message}}
}

func TestFailuresCanBeReadBackAsTheyWere(t *testing.T) {
	rows := []map[string]string{
		{"ThingName": "a", "Note": "quotes \" and, commas;\nlines"},
		{"ThingName": " lead and trail ", "Note": "ünï"},
		{"ThingName": "c", "Colour": "red"}, // a column that the template does not know
		{"ThingName": "d"},
		{},
	}
	var devices []*provision.DeviceRecord
	for i, row := range rows {
		devices = append(devices, failedRecord(int64(i+1), row, "AWS said: \"no\",\nand more"))
	}
	text, back := failuresOf(t, devices...)
	assert.True(t, strings.HasPrefix(text, "iotfleet:record,iotfleet:run,iotfleet:cause,iotfleet:message,"), text)
	require.Len(t, back, len(rows))
	for i, d := range back {
		require.NoError(t, d.Err)
		assert.EqualValues(t, i+1, d.Seq)
		assert.Equal(t, "r", d.RunID)
		assert.Equal(t, rows[i], d.Row)
	}
	_, back = failuresOf(t)
	assert.Empty(t, back, "no failures, no devices")
}

func TestARecordNumberThatIsNoneIsAnErrorOfThatRowAlone(t *testing.T) {
	var got []provision.Device
	for d, err := range provision.FromCSV(strings.NewReader("iotfleet:record,ThingName\n7,a\nseven,b\n0,c\n,d\n"), "f.csv", nil) {
		require.NoError(t, err)
		got = append(got, d)
	}
	require.Len(t, got, 4)
	assert.NoError(t, got[0].Err)
	assert.EqualValues(t, 7, got[0].Seq)
	assert.Equal(t, "f.csv:2", got[0].Source)
	for _, d := range got[1:3] {
		assert.ErrorContains(t, d.Err, "iotfleet:record")
	}
	assert.NoError(t, got[3].Err)
	assert.Zero(t, got[3].Seq, "without a number it is found by its name")
}

func FuzzFailuresComeBackAsTheyWent(f *testing.F) {
	f.Add("a", "b", "c")
	f.Add("ThingName", "=1+1", "\ufeff")
	f.Add("", "\r\n", "\x00")
	f.Add("'2", "''=", "'\"a\"")
	f.Add("+49", "\uff1dcmd", "@x\t")
	f.Fuzz(func(t *testing.T, name, note, message string) {
		row := map[string]string{"ThingName": name, "Note": note}
		maps.DeleteFunc(row, func(_, v string) bool { return v == "" })
		_, back := failuresOf(t, failedRecord(1, row, message))
		if len(back) != 1 || back[0].Seq != 1 && back[0].Err == nil {
			t.Fatalf("%d devices came back: %+v", len(back), back)
		}
		if back[0].Err != nil {
			return // what is not text is refused, never changed
		}
		for k, v := range row {
			if got := back[0].Row[k]; got != v {
				t.Fatalf("%s: %q went and %q came back", k, v, got)
			}
		}
	})
}

func TestTheLastSizeOfAPartIsNeverMuchOverTheLimit(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.PartBytes, w.opts.PartLines = 3000, 4
	run := w.complete(t, rows(17))
	parts, err := w.opts.Ledger.Parts(t.Context())
	require.NoError(t, err)
	lines := 0
	for _, p := range parts {
		lines += p.Lines
		assert.LessOrEqual(t, p.Lines, 4)
		longest := p.Bytes / int64(p.Lines) * 2
		assert.Less(t, p.Bytes, 3000+longest, "part %d", p.Number)
		info, err := os.Stat(filepath.Join(w.opts.PartDir, p.File))
		require.NoError(t, err)
		assert.Equal(t, p.Bytes, info.Size())
	}
	assert.Equal(t, 17, lines)
	w.requireWorking(t, results(t, run))
}
