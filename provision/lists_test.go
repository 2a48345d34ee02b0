package provision_test

import (
	"encoding/csv"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/template"
)

func fromCSV(text string) iter.Seq2[provision.Device, error] {
	return provision.FromCSV(strings.NewReader(text), "devices.csv", nil)
}

func fromNDJSON(text string) iter.Seq2[provision.Device, error] {
	return provision.FromNDJSON(strings.NewReader(text), "devices.json", nil)
}

func TestAListWithAWrongHeaderIsRefusedAsAWholeAndTheRightOneIsTakenAfterIt(t *testing.T) {
	const right = "ThingName,SerialNumber\na,1\nb,2\n"
	for name, c := range map[string]struct {
		list string
		says []string
	}{
		"other names":     {"Thing Name,Serial Number\na,1\nb,2\n", []string{`devices.csv:2`, `no column is called "SerialNumber"`, `"Thing Name" is no parameter of the template (did you mean "ThingName"?)`, "a column can be SerialNumber, ThingName;", "Rename of CSVOptions"}},
		"an extra column": {"ThingName,SerialNumber,Colour\na,1,red\nb,2,red\n", []string{`"Colour" is no parameter`, "Options.Meta"}},
		"a missing one":   {"ThingName\na\n", []string{`no column is called "SerialNumber"`}},
		"requests":        {"ThingName,SerialNumber,CSR\na,1,\nb,2,x\n", []string{`"CSR" is what this run makes itself (leave it out, or have the list's requests sent: GivenCSR, -credential csr)`}},
		"a comment":       {"# our devices\nThingName,SerialNumber\n", []string{`"# our devices" is no parameter`}},
		"a web page":      {"<html>\n<body>\n", []string{`"<html>" is no parameter`}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.durable(t)
			_, err := w.run(t).Check(t.Context(), fromCSV(c.list))
			require.ErrorIs(t, err, datafile.ErrHeader, "the dry run refuses what the run refuses")
			_, err = w.run(t).Run(t.Context(), fromCSV(c.list))
			require.ErrorIs(t, err, datafile.ErrHeader)
			for _, text := range c.says {
				assert.ErrorContains(t, err, text)
			}
			assert.Empty(t, results(t, w.run(t)), "nothing of it was kept")
			_, err = w.run(t).Run(t.Context(), fromCSV(strings.NewReplacer("Number\n", "Number,CSR\n", "1\n", "1,\n", "2\n", "2, \n").Replace(right)))
			require.NoError(t, err, "an empty column does no harm")
			assert.Len(t, results(t, w.run(t)), 2)
		})
	}
}

func TestAListOfRequestsOrCertificatesNeedsTheirColumn(t *testing.T) {
	for form, step := range map[string]provision.Credential{
		"CertificatePem": &provision.GivenCertificate{}, "CertificateSigningRequest": &provision.GivenCSR{Parameter: "CertificateSigningRequest"},
	} {
		w := newWorld(t, fakebackend.Options{})
		w.opts.Template, w.opts.Credential, w.opts.Output = formTemplate(t, form), step, nil
		list := "ThingName,Pem\na,x\n"
		_, err := w.run(t).Run(t.Context(), fromCSV(list))
		require.ErrorIs(t, err, datafile.ErrHeader)
		assert.ErrorContains(t, err, `no column is called "`+form+`"; "Pem" is no parameter`)
		run := w.incomplete(t, fromCSV(strings.Replace(list, "Pem", form, 1)))
		assert.Contains(t, results(t, run)[0].Message, form+": ")
	}
}

func TestAnInputOfWhichNothingWasSentCanBeReplaced(t *testing.T) {
	const right = "ThingName,SerialNumber\na,1\nb,2\nc,3\n"
	for name, first := range map[string]string{
		"an empty list":       "ThingName,SerialNumber\n",
		"an empty file":       "",
		"values AWS refuses":  "ThingName,SerialNumber\na,1 1\nb,2 2\nc,3 3\n",
		"rows that are lost":  "ThingName,SerialNumber\na,1 1\nb,2 2\n",
		"rows too many":       "ThingName,SerialNumber\na b,1\nb,2 2\nc,3 3\nd,4 4\n",
		"names of all others": "ThingName,SerialNumber\n?,1\n?,2\n?,3\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.durable(t)
			w.incomplete(t, fromCSV(first))
			record, err := w.opts.Ledger.Run(t.Context())
			require.NoError(t, err)
			assert.Equal(t, first == "" || strings.Count(first, "\n") == 1, record.Finished.IsZero(), "an empty list is no run that is over")
			summary, err := w.run(t).Run(t.Context(), fromCSV(right))
			require.NoError(t, err)
			assert.EqualValues(t, 3, summary.Provisioned)
			i := slices.IndexFunc(w.events, func(e provision.Event) bool { s, ok := e.(provision.EventSpooled); return ok && s.Replaced })
			require.GreaterOrEqual(t, i, 0)
			assert.EqualValues(t, 3, w.events[i].(provision.EventSpooled).Devices)
			w.requireWorking(t, results(t, w.run(t)))

			for _, other := range []string{right + "d,4\n", "ThingName,SerialNumber\na,1\n", "ThingName,SerialNumber\nx,1\nb,2\nc,3\n"} {
				_, err = w.run(t).Run(t.Context(), fromCSV(other))
				require.ErrorIs(t, err, provision.ErrInputChanged, "once something was sent")
			}
			assert.Len(t, results(t, w.run(t)), 3)
		})
	}
}

// A semicolon list as a German spreadsheet saves it, with a column of its own.
func TestAGermanListIsProvisionedAndItsOwnColumnsAreKept(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	pattern, err := csr.ParsePattern("O={Kunde},CN={ThingName}")
	require.NoError(t, err)
	seen := map[string]string{}
	w.opts.Credential = &provision.MakeCSR{Store: w.keys, Workers: 1, Subject: func(d csr.Device) (csr.Subject, error) {
		seen[d.Name] = d.Row["Kunde"]
		return pattern.Subject(d)
	}}
	w.opts.Meta.Columns = []string{"Kunde", "Gewicht"}
	list := "\ufeffSeriennummer;ThingName;Kunde;Gewicht\r\n0001;pumpe-1;Müller & Söhne;2,5\r\n0002;pumpe-2;\"Groß; Klein\";3,25\r\n"
	options := &datafile.CSVOptions{Rename: map[string]string{"Seriennummer": "SerialNumber"}, Comma: ';'}
	devices := func() iter.Seq2[provision.Device, error] {
		return provision.FromCSV(strings.NewReader(list), "Geräte.csv", options)
	}
	w.complete(t, devices())
	_, err = w.run(t).Run(t.Context(), devices())
	require.NoError(t, err, "the same list is compared with what was kept of it")
	got := results(t, w.run(t))
	assert.Equal(t, map[string]string{"ThingName": "pumpe-2", "SerialNumber": "0002"}, got[1].Row)
	assert.Equal(t, map[string]string{"Kunde": "Groß; Klein", "Gewicht": "3,25"}, got[1].Meta)
	assert.Equal(t, map[string]string{"pumpe-1": "Müller & Söhne", "pumpe-2": "Groß; Klein"}, seen, "the subject sees it")
	for _, d := range w.out.durable {
		assert.Equal(t, seen[d.ThingName], d.Meta["Kunde"], "the output sees it")
	}
	files, err := filepath.Glob(filepath.Join(w.opts.PartDir, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		assert.NotContains(t, string(data), "Kunde", "it is never sent")
	}
	list = strings.Replace(list, "3,25", "9", 1)
	_, err = w.run(t).Run(t.Context(), devices())
	require.ErrorIs(t, err, provision.ErrInputChanged)
	assert.ErrorContains(t, err, "Gewicht")
}

// AWS's own data files: numbers, booleans, members that the template does not know, an empty string on purpose.
func TestAListAsAWSWritesDataFilesIsProvisioned(t *testing.T) {
	const list = `{"ThingName": "a", "SerialNumber": 17, "Colour": "red", "lat": 48.10, "indoor": true}
{"ThingName": "b", "SerialNumber": "", "Colour": "", "lat": -1.5e3, "indoor": false}

{"ThingName": "c", "SerialNumber": 12345678901234567890, "Colour": "blue"}
`
	tmpl := template.FromCSR(template.Policy{PolicyDocument: template.Walkthrough().Resources["policy"].(template.Policy).PolicyDocument}, "SerialNumber", "Colour")
	tmpl.Parameters["Colour"] = template.Parameter{Type: "String", Default: template.Literal("none")}
	tmpl.Parameters["SerialNumber"] = template.Parameter{Type: "String", Default: template.Literal("0")}
	w := newWorld(t, fakebackend.Options{})
	w.opts.Template, w.opts.Ledger, w.opts.PartDir = tmpl, provision.NewMemoryLedger(), t.TempDir()
	_, err := w.run(t).Run(t.Context(), fromNDJSON(strings.Split(list, "\n")[0]))
	require.ErrorIs(t, err, datafile.ErrHeader)
	assert.ErrorContains(t, err, `devices.json:1: the list does not have the columns that are needed: "lat" is no parameter`)
	w.opts.Meta.Unknown = true
	w.complete(t, fromNDJSON(list))
	got := results(t, w.run(t))
	w.requireWorking(t, got)
	assert.Equal(t, []map[string]string{
		{"ThingName": "a", "SerialNumber": "17", "Colour": "red"}, {"ThingName": "b"},
		{"ThingName": "c", "SerialNumber": "12345678901234567890", "Colour": "blue"},
	}, []map[string]string{got[0].Row, got[1].Row, got[2].Row})
	assert.Equal(t, map[string]string{"lat": "-1.5e3", "indoor": "false"}, got[1].Meta)
	assert.Equal(t, "devices.json:4", got[2].Source)
	thing, err := w.fake.ReadDevice(t.Context(), "b")
	require.NoError(t, err)
	assert.Equal(t, "none", thing.Attributes["Colour"], "what is empty leaves the template's default")
}

func TestALineThatIsWrongIsNamedAndCostsNoOther(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	run := w.run(t)
	_, err := run.Run(t.Context(), fromNDJSON(`{"ThingName":"a","SerialNumber":"1"}
{"ThingName":"b","SerialNumber":{"n":1}}
{"ThingName":"c","SerialNumber":1`+strings.Repeat(" ", datafile.MaxLine)+`}
{"ThingName":"d","SerialNumber":"`+strings.Repeat("1", datafile.MaxLine)+`"}
{"ThingName":"e","SerialNumber":"5","Colour":"red"}
{"ThingName":"f","SerialNumber":"6"}`))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	got := results(t, run)
	for i, text := range []string{"", `line 2, column 33: parameter "SerialNumber"`, "line 3", `line 4, column 33: parameter "SerialNumber": the line is longer`, `has no parameter "Colour", only SerialNumber, ThingName: rename it`, ""} {
		assert.Equal(t, text == "", got[i].Verdict == provision.Provisioned)
		assert.Contains(t, got[i].Message, text)
	}
}

func TestTheUnknownIsKeptOnlyIfAskedFor(t *testing.T) {
	row := map[string]string{"ThingName": "a", "SerialNumber": "1", "Customer": "x"}
	for _, c := range []struct {
		keep provision.Meta
		meta map[string]string
		text string
	}{
		{provision.Meta{}, nil, `no parameter "Customer"`},
		{provision.Meta{Columns: []string{"Pallet"}}, nil, `no parameter "Customer"`},
		{provision.Meta{Columns: []string{"Customer"}}, map[string]string{"Customer": "x"}, ""},
		{provision.Meta{Unknown: true}, map[string]string{"Customer": "x"}, ""},
	} {
		w := newWorld(t, fakebackend.Options{})
		w.opts.Meta = c.keep
		run := w.run(t)
		_, err := run.Run(t.Context(), provision.Rows(row))
		assert.Equal(t, c.text == "", err == nil)
		got := results(t, run)[0]
		assert.Contains(t, got.Message, c.text)
		assert.Equal(t, c.meta, got.Meta)
		assert.Len(t, row, 3, "the caller's own map is left as it is")
	}
	w := newWorld(t, fakebackend.Options{})
	w.opts.Meta.Columns = []string{"SerialNumber"}
	_, err := provision.New(w.opts)
	require.ErrorContains(t, err, `Options.Meta names "SerialNumber"`)
	w.opts.Meta.Columns = nil
	run := w.run(t)
	_, err = run.Run(t.Context(), provision.Devices(
		provision.Device{Row: map[string]string{"ThingName": "a", "SerialNumber": "1"}, Meta: map[string]string{"Customer": "x"}},
		provision.Device{Row: map[string]string{"ThingName": "b", "SerialNumber": "1"}, Meta: map[string]string{"SerialNumber": "2"}},
		provision.Device{Row: map[string]string{"ThingName": "c", "SerialNumber": "1"}, Meta: map[string]string{"Key": "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----"}},
		provision.Device{Row: map[string]string{"ThingName": "d", "SerialNumber": "1"}, Meta: map[string]string{"K\xff": "x"}},
	))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	got := results(t, run)
	assert.Equal(t, provision.Provisioned, got[0].Verdict, "what the caller puts there needs no option")
	assert.Contains(t, got[1].Message, "is both a parameter")
	assert.Contains(t, got[2].Message, "held a private key")
	assert.NotContains(t, fmt.Sprint(got[2].Meta), "MIGH")
	assert.Contains(t, got[3].Message, "not UTF-8")
}

func TestValuesThatMustBeUniqueAreComparedInTheWholeRun(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Unique = []string{"SerialNumber", "MAC"}
	w.opts.Meta.Columns = []string{"MAC"}
	list := "ThingName,SerialNumber,MAC\na,1,aa:bb\nb,2,AA:BB\nc,1,cc\nd,,dd\ne,3,ee\nf,3 3,ff\ng,3,ff\n"
	run := w.run(t)
	report, err := run.Check(t.Context(), fromCSV(list))
	require.NoError(t, err)
	assert.EqualValues(t, 5, report.Refused)
	_, err = run.Run(t.Context(), fromCSV(list))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	got := results(t, run)
	for i, text := range []string{"", "record 1 has the same MAC; each device needs one of its own", "record 1 has the same SerialNumber", "no value", "", "attribute value", "record 5 has the same SerialNumber"} {
		assert.Contains(t, got[i].Message, text)
		assert.Equal(t, text == "", got[i].Verdict == provision.Provisioned, got[i].Name)
		assert.Equal(t, strings.HasPrefix(text, "record"), got[i].Cause == provision.CauseDuplicate, got[i].Name)
	}
	mend := func(seq int64, serial, mac string) provision.Device {
		return provision.Device{Seq: seq, Row: map[string]string{"ThingName": got[seq-1].Name, "SerialNumber": serial}, Meta: map[string]string{"MAC": mac}}
	}
	_, err = run.Amend(t.Context(), provision.Devices(mend(2, "2", "aa:bb"), mend(3, "7", "cc"), mend(6, "7", "ff"), mend(7, "8", "ff")))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	got = results(t, run)
	assert.Contains(t, got[1].Message, "record 1 has the same MAC")
	assert.Equal(t, provision.Provisioned, got[2].Verdict)
	assert.Contains(t, got[5].Message, "record 3 has the same SerialNumber")
	assert.Equal(t, provision.Provisioned, got[6].Verdict)
	for _, c := range [][2]string{{"8", "record 7 has the same SerialNumber"}, {"9", ""}} {
		serial, text := c[0], c[1]
		res, err := run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "late", "SerialNumber": serial}})
		assert.Equal(t, text == "", err == nil, "%v", err)
		assert.Contains(t, res.Message, text)
	}
}

func TestAValueRefusedForBeingEmptySaysWhatToDo(t *testing.T) {
	tmpl := template.Walkthrough()
	thing := tmpl.Resources["thing"].(template.Thing)
	thing.ThingTypeName = template.Ref("Type")
	tmpl.Resources["thing"] = thing
	tmpl.Parameters["Type"] = template.Parameter{Type: "String", Default: template.Literal("sensor")}
	w := newWorld(t, fakebackend.Options{})
	w.opts.Template = tmpl
	run := w.run(t)
	const list = "ThingName,SerialNumber,Type\na,1,\n"
	_, err := run.Run(t.Context(), provision.FromCSV(strings.NewReader(list), "d.csv", &datafile.CSVOptions{KeepEmpty: true}))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.Contains(t, results(t, run)[0].Message, "it is empty: leave it out to have the template's Default")
	for _, opts := range []*datafile.CSVOptions{nil, {}, {Comma: ','}} {
		for d, err := range provision.FromCSV(strings.NewReader(list), "d.csv", opts) {
			require.NoError(t, err)
			assert.Equal(t, map[string]string{"ThingName": "a", "SerialNumber": "1"}, d.Row, "with and without options")
		}
	}
}

// TestAFailureFileMayGoThroughASpreadsheet: what a spreadsheet would change or run is kept from it, and what it changed
// all the same is reported.
func TestAFailureFileMayGoThroughASpreadsheet(t *testing.T) {
	original := []map[string]string{
		{"ThingName": "a b", "SerialNumber": "0002"}, {"ThingName": "c d", "SerialNumber": "=cmd|' /C calc'!A0"},
		{"ThingName": "e f", "SerialNumber": "@SUM(1)"}, {"ThingName": "g h", "SerialNumber": "+1"}, {"ThingName": "i j", "SerialNumber": "-1\r\n\tx"},
		{"ThingName": "k l", "SerialNumber": "'quoted"}, {"ThingName": "m n", "SerialNumber": "'=1"}, {"ThingName": "o p", "SerialNumber": "1234567890123456"},
	}
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Meta.Unknown = true
	for _, row := range original {
		row["=Note"] = "\tn"
	}
	run := w.incomplete(t, provision.Rows(original...))
	var file strings.Builder
	require.NoError(t, run.WriteFailures(t.Context(), &file))
	cells, err := csv.NewReader(strings.NewReader(file.String())).ReadAll()
	require.NoError(t, err)
	for _, cell := range slices.Concat(cells...) {
		assert.False(t, strings.ContainsAny(cell[:min(1, len(cell))], "=+-@\t\r"), cell)
	}
	assert.Contains(t, file.String(), "iotfleet:meta:=Note")
	i := 0
	for d, err := range fromCSV(file.String()) {
		require.NoError(t, err)
		require.NoError(t, d.Err)
		all := maps.Clone(d.Row)
		maps.Copy(all, d.Meta)
		assert.Equal(t, original[i], all, "byte for byte")
		i++
	}
	require.Len(t, original, i)

	mended := strings.NewReplacer("a b", "a-b", "o p", "o-p", "0002", "2", "1234567890123456", "1.23457E+15").Replace(file.String())
	_, err = run.Amend(t.Context(), fromCSV(mended))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	got := results(t, run)
	assert.Contains(t, got[0].Message, `SerialNumber was "0002" and came back as "2"`)
	assert.Contains(t, got[7].Message, `came back as "1.23457E+15"`)
	assert.Equal(t, original[0]["SerialNumber"], got[0].Row["SerialNumber"])
	_, err = run.Amend(t.Context(), fromCSV(strings.NewReplacer("a b", "a-b", "0002", "'2", "o p", "o-p").Replace(file.String())))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	got = results(t, run)
	assert.Equal(t, map[string]string{"ThingName": "a-b", "SerialNumber": "2"}, got[0].Row, "with an apostrophe it is meant")
	assert.Equal(t, provision.Provisioned, got[0].Verdict)
	assert.Equal(t, "1234567890123456", got[7].Row["SerialNumber"])
	assert.Equal(t, "\tn", got[7].Meta["=Note"])
	assert.Equal(t, provision.Provisioned, got[7].Verdict)
}

func TestMendedRecordsMayComeAsNDJSON(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	run := w.incomplete(t, fromCSV("ThingName,SerialNumber\na b,1\nc,2\n"))
	_, err := run.Amend(t.Context(), fromNDJSON(`{"iotfleet:record":1,"iotfleet:run":"another","ThingName":"a","SerialNumber":"1"}`))
	require.ErrorIs(t, err, provision.ErrInputChanged)
	summary, err := run.Amend(t.Context(), fromNDJSON(`{"iotfleet:record":1,"ThingName":"a","SerialNumber":"1","iotfleet:meta:Customer":"x"}`))
	require.NoError(t, err, "%v", summary)
	assert.Equal(t, map[string]string{"Customer": "x"}, results(t, run)[0].Meta)
}

// FuzzFromNDJSON checks that whatever a line holds is a device or that line's own error.
func FuzzFromNDJSON(f *testing.F) {
	f.Add(`{"ThingName":"a","n":1,"t":true}`+"\n\n"+`{"iotfleet:record":"x","iotfleet:meta:":"'=1"}`, true)
	f.Add("\ufeff[1]\n{\"a\":{}}\n{\"iotfleet:run\":\"'\\\"\"}", false)
	f.Fuzz(func(t *testing.T, text string, selected bool) {
		opts := &datafile.JSONOptions{KeepEmpty: true}
		if selected {
			opts.Columns = []string{"ThingName", "a"}
		}
		for d, err := range provision.FromNDJSON(strings.NewReader(text), "f", opts) {
			if err != nil {
				return
			}
			if d.Err == nil && len(d.Columns) < len(d.Row) && d.Columns != nil {
				t.Fatalf("%d columns for %v", len(d.Columns), d.Row)
			}
			if d.Err != nil && !strings.Contains(d.Err.Error(), "line ") && !strings.Contains(d.Err.Error(), provision.RecordColumn) {
				t.Fatalf("the line is not named: %v", d.Err)
			}
			if !strings.HasPrefix(d.Source, "f:") {
				t.Fatal(d.Source)
			}
		}
	})
}
