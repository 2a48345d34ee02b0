package provision_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/template"
)

// refusedByBoth runs a dry run and then the run over one list, and returns what the dry run refused. The run must refuse
// the same records, for the same causes, without sending them.
func refusedByBoth(t *testing.T, w *world, rows ...map[string]string) map[string]string {
	t.Helper()
	report, err := w.run(t).Check(t.Context(), provision.Rows(rows...))
	require.NoError(t, err)
	refused := map[string]string{}
	for _, r := range report.Refusals {
		refused[r.Name] = string(r.Cause) + ": " + r.Message
	}
	require.EqualValues(t, len(refused), report.Refused)
	run := w.run(t)
	_, err = run.Run(t.Context(), provision.Rows(rows...))
	assert.Equal(t, len(refused) > 0, err != nil)
	failed := map[string]string{}
	for _, r := range results(t, run) {
		if r.Verdict != provision.Provisioned {
			failed[r.Name] = string(r.Cause) + ": " + r.Message
			assert.Zero(t, r.Attempts, "%s was sent", r.Name)
		}
	}
	assert.Equal(t, refused, failed, "the dry run refuses what the run refuses")
	return refused
}

func named(name string) map[string]string {
	return map[string]string{"ThingName": name, "SerialNumber": "1"}
}

func TestTheDryRunRefusesSubjectsThatDoNotFit(t *testing.T) {
	long := strings.Repeat("n", 65) // AWS takes 128 characters of a thing's name, X.509 64 of a common name
	refused := refusedByBoth(t, newWorld(t, fakebackend.Options{}), named("a"), named(long[:64]), named(long), named(long+long[:63]))
	require.Len(t, refused, 2)
	assert.Contains(t, refused[long], "64")

	w := newWorld(t, fakebackend.Options{})
	pattern, err := csr.ParsePattern("O=Acme,CN={Serial}")
	require.NoError(t, err)
	w.opts.Credential = &provision.MakeCSR{Store: w.keys, Subject: pattern.Subject}
	refused = refusedByBoth(t, w, named("a"), named("b"))
	require.Len(t, refused, 2)
	assert.Contains(t, refused["a"], "Serial")
}

func TestTheDryRunFindsKeysOfAnotherRunThatWouldStopIt(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	_, err := w.run(t).Run(t.Context(), provision.Rows(named("a"), named("b")))
	require.NoError(t, err)
	report, err := w.run(t).Check(t.Context(), provision.Rows(named("c"), named("a"), named("b")))
	require.NoError(t, err)
	assert.False(t, report.OK())
	require.ErrorIs(t, report.Findings.Err(), finding.Rule("foreign-keys"))
	assert.ErrorContains(t, report.Findings.Err(), `2 devices have a key of another run, the first: device "a"`)
	_, err = w.run(t).Run(t.Context(), provision.Rows(named("c"), named("a"), named("b")))
	require.Error(t, err)

	// The run that made them finds nothing wrong with them.
	mine, _ := sqliteWorld(t)
	_, err = mine.run(t).Run(t.Context(), provision.Rows(named("a")))
	require.NoError(t, err)
	report, err = mine.run(t).Check(t.Context(), provision.Rows(named("a")))
	require.NoError(t, err)
	assert.NoError(t, report.Findings.Err())
}

func TestTheDryRunFindsThatTheLedgersRunIsAnother(t *testing.T) {
	w, _ := sqliteWorld(t)
	_, err := w.run(t).Run(t.Context(), provision.Rows(named("a")))
	require.NoError(t, err)
	tm := template.Walkthrough()
	tm.Parameters["SerialNumber"] = template.Parameter{Default: template.Literal("0")}
	w.opts.Template = tm
	report, err := w.run(t).Check(t.Context(), provision.Rows(named("a")))
	require.NoError(t, err)
	require.ErrorIs(t, report.Findings.Err(), provision.ErrElsewhere)
	_, err = w.run(t).Run(t.Context(), provision.Rows(named("a")))
	require.ErrorIs(t, err, provision.ErrElsewhere)

	w.opts.Template = template.Walkthrough()
	w.opts.Backend, err = fakebackend.New(fakebackend.Options{Region: "eu-west-1"})
	require.NoError(t, err)
	report, err = w.run(t).Check(t.Context(), provision.Rows(named("a")))
	require.NoError(t, err)
	assert.ErrorIs(t, report.Findings.Err(), provision.ErrElsewhere)
	assert.ErrorContains(t, report.Findings.Err(), "region eu-west-1")
}
