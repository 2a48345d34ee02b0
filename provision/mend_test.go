package provision_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/template"
)

// badWay is one way in which a record is bad, and how somebody mends it.
type badWay struct {
	name  string
	spoil func(row map[string]string, i int)
	mend  func(row map[string]string, i int)
	cause provision.Cause
	text  string // part of the message; AWS's own words for those that were sent
	sent  bool
}

func badWays(t *testing.T) []badWay {
	set := func(key, value string) func(map[string]string, int) {
		return func(row map[string]string, _ int) { row[key] = strings.ReplaceAll(value, "{name}", row["ThingName"]) }
	}
	rename := func(row map[string]string, i int) { row["ThingName"] = fmt.Sprintf("mended-%04d", i) }
	newCSR := func(row map[string]string, i int) { row["CSR"] = madeElsewhere(t, fmt.Sprint("mended ", i)).PEM() }
	first := madeElsewhere(t, "first").PEM()
	return []badWay{
		{"bad request", func(row map[string]string, _ int) { row["CSR"] = spoilt(t, row["CSR"]) }, newCSR, provision.CauseCSRRefused, "CSR", false},
		{"missing type", set("Type", "sensr"), set("Type", "sensor"), provision.CauseTypeMissing, "Thing Type 123456789012:sensr not found", true},
		{"value with a space", set("SerialNumber", "A 1"), set("SerialNumber", "A-1"), provision.CauseInvalidRecord, "attribute value", false},
		{"duplicate name", func(row map[string]string, _ int) { row["ThingName"] = "device-0000" }, rename, provision.CauseDuplicate, "record 1 has the same thing name", false},
		{"existing thing with other attributes", func(row map[string]string, i int) { row["ThingName"] = fmt.Sprintf("old-%d", i) }, rename,
			provision.CauseConflict, "already exists in account with different attributes", true},
		{"missing value", func(row map[string]string, _ int) { delete(row, "SerialNumber") }, set("SerialNumber", "B1"), provision.CauseInvalidRecord, "SerialNumber", false},
		{"key of another device", func(row map[string]string, i int) {
			if i > 6 {
				row["CSR"] = first
			} else {
				row["CSR"] = first // the first of them is good, see below
			}
		}, newCSR, provision.CauseDuplicate, "has the same public key", false},
		{"missing group", set("Group", "lmps"), set("Group", "lamps"), provision.CauseGroupMissing, "Thing group lmps not found", true},
		{"missing policy", set("Policy", "flet"), set("Policy", "fleet"), provision.CausePolicyMissing, "Policy not found (name=flet)", true},
		{"name with a letter AWS does not take", func(row map[string]string, _ int) { row["ThingName"] += "/x" }, rename, provision.CauseInvalidRecord, "thing name", false},
	}
}

// spoilt changes the signature of a request.
func spoilt(t *testing.T, text string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := []byte(lines[len(lines)-2])
	at := len(last) / 3
	last[at] = map[bool]byte{true: 'B', false: 'A'}[last[at] == 'A']
	lines[len(lines)-2] = string(last)
	return strings.Join(lines, "\n") + "\n"
}

func TestOfAThousandDevicesAHundredBadOnesAreNamedMendedAndProvisioned(t *testing.T) {
	tmpl, err := template.Parse([]byte(`{"Parameters":{"ThingName":{"Type":"String"},"SerialNumber":{"Type":"String"},"Type":{"Type":"String"},
		"Group":{"Type":"String"},"Policy":{"Type":"String"},"CSR":{"Type":"String"}},
		"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"AttributePayload":{"serial":{"Ref":"SerialNumber"}},
		"ThingTypeName":{"Ref":"Type"},"ThingGroups":[{"Ref":"Group"}]}},
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"ACTIVE"}},
		"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":{"Ref":"Policy"}}}}}`))
	require.NoError(t, err)
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Template, w.opts.Credential, w.opts.PartLines, w.opts.Output = tmpl, &provision.GivenCSR{}, 300, nil
	ctx := t.Context()
	_, err = awsIoT(w.fake).CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: new("sensor")})
	require.NoError(t, err)
	_, err = awsIoT(w.fake).CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new("lamps")})
	require.NoError(t, err)
	_, err = awsIoT(w.fake).CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new("fleet"),
		PolicyDocument: new(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`)})
	require.NoError(t, err)

	ways := badWays(t)
	var rows []map[string]string
	way := map[int]badWay{}
	for i := range 1000 {
		row := map[string]string{"ThingName": fmt.Sprintf("device-%04d", i), "SerialNumber": fmt.Sprint("S", i), "Type": "sensor", "Group": "lamps",
			"Policy": "fleet", "CSR": madeElsewhere(t, fmt.Sprint("device ", i)).PEM()}
		if i%10 == 5 {
			way[i] = ways[i/10%len(ways)]
			way[i].spoil(row, i)
		}
		if row["ThingName"] == fmt.Sprintf("old-%d", i) {
			_, err := awsIoT(w.fake).CreateThing(ctx, &iot.CreateThingInput{ThingName: new(row["ThingName"]),
				AttributePayload: &types.AttributePayload{Attributes: map[string]string{"serial": "of-old"}}})
			require.NoError(t, err)
		}
		rows = append(rows, row)
	}
	// A good device has the key that ten others have, too.
	for i := range rows {
		if way[i].name == "key of another device" {
			rows[1]["CSR"] = rows[i]["CSR"]
			break
		}
	}
	run := w.run(t)
	summary, err := run.Run(ctx, provision.Rows(rows...))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.EqualValues(t, 900, summary.Provisioned)
	assert.EqualValues(t, 100, summary.Failed)
	for i, r := range results(t, run) {
		bad, isBad := way[i]
		if !isBad {
			require.Equal(t, provision.Provisioned, r.Verdict, "%s: %s", r.Name, r.Message)
			continue
		}
		assert.Equal(t, provision.Failed, r.Verdict, bad.name)
		assert.Equal(t, bad.cause, r.Cause, "%s: %s", bad.name, r.Message)
		assert.Contains(t, r.Message, bad.text, bad.name)
		assert.Equal(t, bad.sent, r.Attempts == 1, "%s: sent or not", bad.name)
	}

	dir := t.TempDir()
	require.NoError(t, run.WriteManifest(ctx, dir))
	text, err := os.ReadFile(filepath.Join(dir, "failures.csv"))
	require.NoError(t, err)
	lines, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 101)
	header := lines[0]
	var mended bytes.Buffer
	out := csv.NewWriter(&mended)
	require.NoError(t, out.Write(header))
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, name := range header {
			row[name] = line[i]
		}
		var i int
		_, err := fmt.Sscan(row[provision.RecordColumn], &i)
		require.NoError(t, err)
		way[i-1].mend(row, i-1)
		for c, name := range header {
			line[c] = row[name]
		}
		require.NoError(t, out.Write(line))
	}
	out.Flush()
	run = w.run(t)
	summary, err = run.Amend(ctx, provision.FromCSV(bytes.NewReader(mended.Bytes()), "failures.csv", nil))
	require.NoError(t, err)
	assert.EqualValues(t, 1000, summary.Provisioned)
	again, err := w.run(t).Amend(ctx, provision.FromCSV(&mended, "failures.csv", nil))
	require.NoError(t, err)
	assert.Equal(t, summary.Tasks, again.Tasks, "feeding the same file twice does nothing more")

	_, err = run.FindOrphans(ctx)
	require.NoError(t, err)
	_, err = run.RemoveOrphans(ctx)
	require.NoError(t, err)
	assert.Equal(t, 1000, w.fake.Counts().Certificates)
	for _, r := range results(t, run) {
		thing, ok := w.fake.Thing(r.Name)
		require.True(t, ok, r.Name)
		require.Len(t, thing.Certificates, 1, r.Name)
		assert.Equal(t, r.CertificateID, thing.Certificates[0].ID)
		assert.Equal(t, "ACTIVE", thing.Certificates[0].Status)
	}
	_, err = w.run(t).Run(ctx, provision.Rows(rows...))
	require.NoError(t, err, "the first input is still the run's")
	assert.True(t, slices.IsSorted(summary.Tasks) || len(summary.Tasks) > 0)
}

func TestAMendedRecordWithoutNumberAndNameMendsNothing(t *testing.T) {
	w := typedWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.incomplete(t, provision.Devices(ofType("a", "known"), ofType("b", "gone")))
	before := results(t, run)
	_, err := run.Amend(t.Context(), provision.Devices(provision.Device{Row: map[string]string{"Type": "known"}}))
	require.ErrorContains(t, err, "neither the number of a record nor a thing name")
	_, err = run.Amend(t.Context(), provision.Devices(provision.Device{Seq: 3, Row: map[string]string{"ThingName": "b", "Type": "known"}}))
	require.ErrorContains(t, err, "no record number 3")
	assert.Equal(t, before, results(t, run))
}

func TestAMendedRecordThatMendsNothingCostsNoOther(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.incomplete(t, fromCSV("ThingName,SerialNumber\na b,1\nc d,2\ne f,3\ng h,4\n"))
	file := "iotfleet:record,ThingName,SerialNumber\n1,a,1\nx,c,2\n99,c,2\n,c,2\n2,c,2\n\"torn,3\n3,e,3\n"
	file += strings.Repeat("77,z,9\n", 10)
	summary, err := run.Amend(t.Context(), fromCSV(file))
	require.ErrorIs(t, err, provision.ErrIncomplete, "of the one that nobody has mended")
	assert.EqualValues(t, 3, summary.Provisioned)
	for _, text := range []string{
		`mended record 2 (devices.csv:3) was left aside: iotfleet:record is "x", not the number of a record`,
		"mended record 3 (devices.csv:4) was left aside: the run has no record number 99",
		`mended record 4 (devices.csv:5) was left aside: the run has no device "c"`,
		"mended record 6 (devices.csv:7) was left aside: row 6 (line 7, column 1)",
		"\n4 more mended records were left aside",
	} {
		assert.ErrorContains(t, err, text)
	}
	assert.Equal(t, 11, strings.Count(err.Error(), "left aside"))

	_, err = run.Amend(t.Context(), fromCSV("iotfleet:record,iotfleet:run,ThingName,SerialNumber\n9,,z,9\n4,another,g,4\n"))
	require.ErrorIs(t, err, provision.ErrInputChanged)
	assert.Equal(t, provision.Failed, results(t, run)[3].Verdict)
	_, err = run.Amend(t.Context(), fromCSV("ThingName,SerialNumber\nx,9\n")) // which mends nothing: what is left is still told
	require.ErrorIs(t, err, provision.ErrIncomplete)
	_, err = run.Amend(t.Context(), fromCSV("iotfleet:record,ThingName,SerialNumber\n4,g,4\n5,h,5\n"))
	require.NotErrorIs(t, err, provision.ErrIncomplete)
	require.ErrorContains(t, err, "no record number 5", "a complete run does not hide it")
}

func TestAnotherRunsFailuresAreRefused(t *testing.T) {
	bad := provision.Rows(map[string]string{"ThingName": "good", "SerialNumber": "1"}, map[string]string{"ThingName": "not good", "SerialNumber": "2"})
	failures := func(w *world) string {
		w.incomplete(t, bad)
		var file strings.Builder
		require.NoError(t, w.run(t).WriteFailures(t.Context(), &file))
		return strings.Replace(file.String(), ",not good\n", ",better\n", 1)
	}
	w, other := newWorld(t, fakebackend.Options{}), newWorld(t, fakebackend.Options{})
	w.durable(t)
	other.durable(t)
	own, foreign := failures(w), failures(other)

	_, err := w.run(t).Amend(t.Context(), provision.FromCSV(strings.NewReader(foreign), "failures.csv", nil))
	require.ErrorIs(t, err, provision.ErrInputChanged)
	assert.ErrorContains(t, err, "failures.csv:2")
	all := results(t, w.run(t))
	assert.Equal(t, []string{"good", "not good"}, []string{all[0].Name, all[1].Name}, "nothing was replaced")

	summary, err := w.run(t).Amend(t.Context(), provision.FromCSV(strings.NewReader(own), "failures.csv", nil))
	require.NoError(t, err)
	assert.EqualValues(t, 2, summary.Provisioned)
}
