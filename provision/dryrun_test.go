package provision_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
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
	w.complete(t, provision.Rows(named("a"), named("b")))
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
	w.complete(t, provision.Rows(named("a")))
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

func TestCheckReportsWhatExists(t *testing.T) {
	w, old := firstRun(t, 2)
	for mode, refused := range map[provision.Existing]int64{
		provision.RefuseExisting: 2, provision.AddToExisting: 0, provision.ReplaceExisting: 0, provision.TakeOverExisting: 2, provision.UncheckedExisting: 0,
	} {
		report, err := w.again(t, mode).run(t).Check(t.Context(), rows(3))
		require.NoError(t, err)
		assert.Equal(t, refused, report.Refused, mode)
		assert.Equal(t, refused == 0, report.OK(), mode)
		assert.Equal(t, mode == provision.UncheckedExisting, report.NotLooked)
		if report.NotLooked {
			assert.Zero(t, report.Things)
			continue
		}
		assert.Equal(t, [2]int64{2, 2}, [2]int64{report.Things, report.Certified}, mode)
		require.Len(t, report.Existing, 2)
		assert.Equal(t, old[0].CertificateID, report.Existing[0].Existing[0].ID)
	}
	own, err := w.run(t).Check(t.Context(), rows(3)) // with the ledger that has them
	require.NoError(t, err)
	assert.Zero(t, own.Refused)
	assert.Zero(t, own.Certified)
	assert.Equal(t, int64(2), own.Things)

	w.fault(t, fakebackend.Fault{Operation: "DescribeThing", Do: fakebackend.Fail, Code: "AccessDeniedException", Status: 403, Times: -1})
	report, err := w.again(t, provision.RefuseExisting).run(t).Check(t.Context(), rows(3))
	require.NoError(t, err, "reading was denied: a finding")
	assert.True(t, report.NotLooked)
	assert.True(t, slices.ContainsFunc(report.Findings, func(f finding.Finding) bool {
		return f.Rule == "existing-certificates" && f.Severity == finding.Unknown
	}))
}

func TestTheDryRunTakesCertificatesOfATaskThatIsNotCollectedForItsOwn(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.run(t)
	_, err := run.Prepare(t.Context(), rows(2))
	require.NoError(t, err)
	require.NoError(t, run.Submit(t.Context()))
	report, err := run.Check(t.Context(), rows(2))
	require.NoError(t, err)
	assert.Empty(t, report.Refusals)
	assert.Zero(t, report.Certified)
	assert.EqualValues(t, 2, report.Things)
	orphans, err := w.opts.Ledger.Orphans(t.Context())
	require.NoError(t, err)
	assert.Empty(t, orphans)
}

// thingsOfAnother makes things that differ from those of the walkthrough's template, without certificates.
func (w *world) thingsOfAnother(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := awsIoT(w.fake).CreateThing(t.Context(), &iot.CreateThingInput{
			ThingName: &name, AttributePayload: &types.AttributePayload{Attributes: map[string]string{"owner": "somebody"}},
		})
		require.NoError(t, err)
	}
}

// What the dry run finds in the way of things that exist, a run meets as a failed line, and nothing else.
func TestTheDryRunFindsTheConflictsOfThingsThatExist(t *testing.T) {
	sensors := func(th *template.Thing) { th.ThingTypeName = template.Literal("sensor") }
	for name, c := range map[string]struct {
		change func(*template.Thing)
		finds  []string
	}{
		"no setting": {func(*template.Thing) {}, []string{
			"/Resources/thing/OverrideSettings/AttributePayload: error: 2 devices: the thing exists already with other attributes than the template's, the first: \"a\"",
		}},
		"FAIL": {func(th *template.Thing) { th.OverrideSettings.AttributePayload = template.Fail }, []string{
			"2 devices: the thing exists already, and OverrideSettings for AttributePayload is FAIL",
		}},
		"MERGE":      {func(th *template.Thing) { th.OverrideSettings.AttributePayload = template.Merge }, nil},
		"DO_NOTHING": {func(th *template.Thing) { th.OverrideSettings.AttributePayload = template.DoNothing }, nil},
		"another type": {func(th *template.Thing) {
			sensors(th)
			th.OverrideSettings.AttributePayload = template.Replace
		}, []string{"/Resources/thing/OverrideSettings/ThingTypeName: error: 2 devices: the thing exists already with another thing type"}},
		"type replaced": {func(th *template.Thing) {
			sensors(th)
			th.OverrideSettings.AttributePayload, th.OverrideSettings.ThingTypeName = template.Replace, template.Replace
		}, nil},
		"both": {sensors, []string{"OverrideSettings/AttributePayload", "OverrideSettings/ThingTypeName"}},
		"groups": {func(th *template.Thing) {
			th.OverrideSettings.AttributePayload, th.OverrideSettings.ThingGroups = template.Replace, template.Fail
			th.ThingGroups = template.List{template.Literal("hall")}
		}, []string{"OverrideSettings for ThingGroups is FAIL"}},
		"no groups": {func(th *template.Thing) {
			th.OverrideSettings.AttributePayload, th.OverrideSettings.ThingGroups = template.Replace, template.Fail
		}, nil},
		"groups, no setting": {func(th *template.Thing) {
			th.OverrideSettings.AttributePayload = template.Replace
			th.ThingGroups = template.List{template.Literal("hall")}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			require.NoError(t, w.fake.EnsureResources(t.Context(), &task.ResourcesInput{ThingTypes: []string{"sensor"}, ThingGroups: []task.ThingGroup{{Name: "hall"}}}))
			w.thingsOfAnother(t, "a", "b")
			tm := template.Walkthrough()
			thing := tm.Resources["thing"].(template.Thing)
			c.change(&thing)
			tm.Resources["thing"] = thing
			w.opts.Template = tm
			report, err := w.run(t).Check(t.Context(), provision.Rows(named("a"), named("new"), named("b")))
			require.NoError(t, err)
			assert.EqualValues(t, 2, report.Things)
			assert.Equal(t, c.finds == nil, report.OK())
			var found []string
			for _, f := range report.Findings.AtLeast(finding.Error) {
				assert.Equal(t, finding.Rule("existing-things"), f.Rule)
				found = append(found, f.String())
			}
			require.Len(t, found, len(c.finds))
			for i, text := range c.finds {
				assert.Contains(t, found[i], text)
			}

			run := w.run(t)
			_, _ = run.Run(t.Context(), provision.Rows(named("a"), named("new"), named("b")))
			for _, r := range results(t, run) {
				assert.Equal(t, c.finds == nil || r.Name == "new", r.Verdict == provision.Provisioned, "%s: %s", r.Name, r.Message)
			}
		})
	}
}

// Devices that are not sent meet no conflict: those that are refused, and those that the run has registered.
func TestTheDryRunFindsNoConflictsOfDevicesThatAreNotSent(t *testing.T) {
	w, _ := firstRun(t, 2)
	tm := template.Walkthrough()
	thing := tm.Resources["thing"].(template.Thing)
	thing.OverrideSettings.AttributePayload = template.Fail
	tm.Resources["thing"] = thing
	for mode, want := range map[provision.Existing]bool{provision.RefuseExisting: false, provision.ReplaceExisting: true} {
		next := w.again(t, mode)
		next.opts.Template = tm
		report, err := next.run(t).Check(t.Context(), rows(3))
		require.NoError(t, err)
		assert.Equal(t, want, errors.Is(report.Findings.Err(), finding.Rule("existing-things")), "%q", mode)
	}

	own := newWorld(t, fakebackend.Options{})
	own.durable(t)
	own.opts.Template = tm
	_, err := own.run(t).Run(t.Context(), rows(2))
	require.NoError(t, err)
	report, err := own.run(t).Check(t.Context(), rows(2))
	require.NoError(t, err)
	assert.NoError(t, report.Findings.Err())
}
