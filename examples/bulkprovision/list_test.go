package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// read returns what the program makes of a list: its rows, whether they are mended, and the text of the error.
func read(t *testing.T, name, text string, l list) (rows []map[string]string, mended bool, problem string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	o := options{devices: path, list: l}
	devices, mended, err := o.input()
	if err != nil {
		return nil, false, err.Error()
	}
	for d, err := range devices {
		if err != nil {
			return rows, mended, hint(err)
		}
		require.NoError(t, d.Err)
		rows = append(rows, d.Row)
	}
	return rows, mended, ""
}

func TestListsAreReadByTheirFlags(t *testing.T) {
	want := []map[string]string{{"ThingName": "a", "SerialNumber": "1"}}
	for name, c := range map[string]struct {
		file, text string
		list       list
		mended     bool
	}{
		"commas":     {"d.csv", "ThingName,SerialNumber\na,1\n", list{}, false},
		"semicolons": {"d.csv", "Name;Nr.;x\na;1;2\n", list{comma: ";", columns: []string{"ThingName", "SerialNumber"}, rename: map[string]string{"Name": "ThingName", "Nr.": "SerialNumber"}}, false},
		"tabs":       {"d.txt", "ThingName\tSerialNumber\na\t1\n", list{comma: "tab"}, false},
		"sep":        {"d.csv", "sep=;\nThingName;SerialNumber\na;1\n", list{}, false},
		"JSON":       {"d.NDJSON", `{"n":"a","SerialNumber":1}`, list{rename: map[string]string{"n": "ThingName"}}, false},
		"mended":     {"f.csv", "\ufeffsep=;\r\n\"iotfleet:record\";ThingName;SerialNumber\r\n1;a;1\r\n", list{columns: []string{"x"}, rename: map[string]string{"y": "z"}}, true},
		"mended too": {"f.json", `{"iotfleet:record":1,"ThingName":"a","SerialNumber":"1"}`, list{}, true},
	} {
		rows, mended, problem := read(t, c.file, c.text, c.list)
		assert.Empty(t, problem, name)
		assert.Equal(t, c.mended, mended, name)
		assert.Equal(t, want, rows, name)
	}
}

func TestHintsNameFlags(t *testing.T) {
	assert.Equal(t, "-bucket: it is empty; choose with -existing", hint(errors.New("Options.Bucket: it is empty; choose with Options.Existing")))
	assert.Equal(t, "not registered: give -setup; or give -skip-preflight", hint(errors.New("not registered: run EnsureCA with AutoRegister; or set SkipPreflight")))
	assert.Equal(t, "not attached: give -setup", hint(errors.New("not attached: run EnsureRole")))
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	found, err := fake.Preflight(t.Context(), &task.PreflightInput{ThingTypes: []string{"sensor"}})
	require.NoError(t, err)
	assert.ErrorContains(t, errors.New(hint(found.Err())), "there is no thing type sensor; create it first, or let -setup do it")
	_, err = provision.New(provision.Options{
		Backend: new(fakebackend.Backend), RoleARN: "arn:aws:iam::123456789012:role/registration", Template: template.Walkthrough(), Credential: &provision.GivenCertificate{},
	})
	assert.ErrorContains(t, errors.New(hint(err)), `-credential certificate fills the parameter "CertificatePem", which the template does not have`)
	_, err = provision.New(provision.Options{
		Backend: new(fakebackend.Backend), RoleARN: "arn:aws:iam::123456789012:role/registration", Template: template.Walkthrough(), Credential: &provision.GivenCSR{},
		May: []string{"shout:x"},
	})
	assert.ErrorContains(t, errors.New(hint(err)), `-may: the question "shout:x"`)
	_, err = awsbackend.New(aws.Config{}, awsbackend.Options{Bucket: "my-fleet"})
	assert.ErrorContains(t, errors.New(hint(err)), "give -region")
	_, _, problem := read(t, "d.csv", "Name;Nr.\na;1\n", list{})
	assert.Contains(t, problem, "give -comma ';' if")
	_, _, problem = read(t, "d.csv", "Name\tNr.\na\t1\n", list{})
	assert.Contains(t, problem, "give -comma tab if")
	_, _, problem = read(t, "d.csv", "", list{comma: "::"})
	assert.Contains(t, problem, "-comma is")
	problem = hint(&provision.HeaderError{Missing: []string{"ThingName"}, Made: []string{"CSR"}, Known: []string{"ThingName"}})
	assert.Contains(t, problem, `no column is called "ThingName"`)
	assert.Contains(t, problem, "-rename")
	assert.NotContains(t, problem, "Options")
	assert.Contains(t, problem, "requests sent: -credential csr)")
}

func TestTheTextOfAnErrorCannotPassForALineOfTheProgram(t *testing.T) {
	assert.Equal(t, "refused\n    3 of 3 devices provisioned\\x1b[2K", visible("refused\n3 of 3 devices provisioned\x1b[2K"))
}
